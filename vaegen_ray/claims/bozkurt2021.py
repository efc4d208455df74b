"""The claims of bozkurt2021 (Bozkurt, Esmaeili et al., AISTATS 2021), each as a number that results can bear out or
not.

All are judged by the sweep ``rate_distortion``, in each of its data sets. "Hardly", "similar" and "not lower" mean a
tenth of the gap that memorisation makes (``rate_distortion.memorisation``). Where a claim says "only falls" or "at
every beta", every seed counts with its WORST case; the best beta of a seed is chosen by the other seeds
(``statistics.best_places``). Both lean against the claim.
"""

from vaegen_ray.claims import capacity, density, information
from vaegen_ray.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *capacity.DENSE,  # Section 4.4
    *capacity.SPARSE,
    *density.DENSITY,
    *density.CHECKERBOARD,
    *capacity.NETWORKS,
    *information.INFORMATION,  # Section 4.5
    *information.VARIANTS,
)
"""The claims in the paper's order."""
