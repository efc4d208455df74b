"""The papers, and the claims of each."""

from collections.abc import Collection

from vaegen_ray.claims import bozkurt2021, xiao2024, zhang2021
from vaegen_ray.claims.claim import Claim

PAPERS: dict[str, tuple[Claim, ...]] = {
    "xiao2024": xiao2024.CLAIMS,
    "bozkurt2021": bozkurt2021.CLAIMS,
    "zhang2021": zhang2021.CLAIMS,
}
CLAIMS: tuple[Claim, ...] = tuple(claim for claims in PAPERS.values() for claim in claims)
"""All claims, paper by paper."""

_PAPER_BY_SWEEP = {claim.sweep: paper for paper, claims in PAPERS.items() for claim in claims}
SWEEPS: tuple[str, ...] = tuple(_PAPER_BY_SWEEP)
"""The sweeps that claims are judged by."""


def find_paper(sweep: str) -> str:
    """The paper whose claims are judged by a sweep; ``ours`` for one that no paper has."""
    return _PAPER_BY_SWEEP.get(sweep, "ours")


def find_claims(sweeps: Collection[str]) -> tuple[Claim, ...]:
    """All claims of the papers that have at least one of these sweeps: the others were not asked about."""
    papers = {find_paper(sweep) for sweep in sweeps}
    return tuple(claim for paper in PAPERS if paper in papers for claim in PAPERS[paper])
