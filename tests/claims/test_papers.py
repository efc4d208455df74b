"""The claims of all papers together, and a storage that has the sweeps of one alone."""

import pytest

from vaegen_ray.claims import report as reports
from vaegen_ray.claims.papers import CLAIMS, PAPERS, SWEEPS, find_claims, find_paper
from vaegen_ray.reports import claims as verdicts
from vaegen_ray.spec.trial import TrialSpec


def test_ids_are_unique_and_begin_with_their_sweep():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert all(claim.id.split("/")[0] in SWEEPS for claim in CLAIMS)


def test_a_sweep_belongs_to_one_paper():
    for paper, claims in PAPERS.items():
        assert {find_paper(claim.sweep) for claim in claims} == {paper}
    assert set(SWEEPS) == {claim.sweep for claim in CLAIMS}


def test_axes_and_what_experiments_share_are_fields_of_a_trial():
    fields = set(TrialSpec.__dataclass_fields__) - {"seed"}
    assert set(reports.EXPERIMENT) - {"numerics_version"} <= fields
    assert fields - set(reports.EXPERIMENT) == set(reports.COMPARED) - {"stream_version"}
    assert all(set(claim.axes) <= set(reports.EXPERIMENT) for claim in CLAIMS)


@pytest.mark.parametrize(
    ("sweeps", "papers"),
    [
        (["rate_distortion"], ["bozkurt2021"]),
        (["inference_gap"], ["zhang2021"]),
        (["inference_gap", "double_descent"], ["xiao2024", "zhang2021"]),
        ([], []),
    ],
)
def test_papers_that_have_no_sweep_are_not_asked_about(sweeps, papers):
    assert find_claims(sweeps) == tuple(claim for paper in papers for claim in PAPERS[paper])


@pytest.mark.parametrize("paper", PAPERS)
def test_a_storage_with_the_sweeps_of_one_paper_is_judged_by_its_claims(paper, sweeps, tmp_path):
    """With a sweep that has no trials yet, and reasons for claims of all papers."""
    empty = next(iter(sweeps("true").values()))
    empty = empty._replace(last=empty.last.iloc[:0])
    found = {PAPERS[paper][0].sweep: empty}
    assert {row.claim for row in verdicts.rows(found)} == set(PAPERS[paper])
    assert f"{len(PAPERS[paper])} statements: holds 0" in verdicts.text(found, 100)
    reasons = tmp_path / "reasons.toml"
    reasons.write_text("\n".join(f'"{claim.id}" = "Because."' for claim in CLAIMS), encoding="utf-8")
    page = verdicts.markdown(found, str(reasons))
    assert page.count("**not enough runs**: no ") == len(PAPERS[paper])
    others = [claims[0].sweep for name, claims in PAPERS.items() if name != paper]
    assert not any(f"## {sweep}:" in page for sweep in others)
