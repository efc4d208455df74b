"""The claims of xiao2024 (Xiao, Zenn, Bamler, TMLR 2024), each as a number that results can bear out or not.

Where a claim says "always" or "highest", every seed counts with its WORST case; the best width or epoch of a seed is
chosen by the other seeds (``statistics.best_minus``). Both lean against the claim.
"""

from vaegen_ray.claims import budgets, methods, mixtures, parameters, representation, subsets
from vaegen_ray.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *methods.GENERALIZATION_GAPS,  # Sections 1 and 5.2
    *representation.CORRUPTED,
    *methods.REVERSE_HALF_ASLEEP,
    *methods.LATENT_SMOOTHNESS,  # Section 5.3
    *budgets.SYNTHETIC_BUDGET,  # Section 5.4
    *parameters.COMPLEXITY_AXES,  # Sections 5.5 and 5.6
    *parameters.DOUBLE_DESCENT,  # Section 5.7
    *methods.MOLLIFICATION,  # Appendix B.6
    *mixtures.MIXTURES,  # Appendix B.7
    *subsets.DIFFUSION_SUBSETS,  # Appendices B.8 and D.3
    *representation.DOWNSTREAM,  # Appendices F and G
    *methods.EARLY_STOPPING,  # ours
    *budgets.MORE_REAL_DATA,
)
"""The claims in the paper's order, then two statements of our own."""
