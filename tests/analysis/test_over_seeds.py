"""What is put together over seeds, and what is not."""

import json
from dataclasses import fields

import pandas as pd
import pytest

from vaegen_ray.analysis.over_seeds import unbalanced
from vaegen_ray.results.groups import VERSIONS, mixed, with_versions
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_stream


def rows(*cells: tuple[str, int, int]) -> pd.DataFrame:
    """Trials of one group by method, seed and width."""
    frame = pd.DataFrame(cells, columns=["method", "seed", "nc"])
    return frame.assign(trial_id=[f"{i:04}" for i in range(len(frame))])


GRID = [("normal", seed, nc) for seed in range(3) for nc in (8, 16)]


@pytest.mark.parametrize(
    ("cells", "differ", "uneven"),
    [
        (GRID, ["nc"], 0),
        (GRID[:-1], ["nc"], 1),
        ([("normal", 0, 8), ("normal", 1, 16)], ["nc"], 1),
        ([("normal", 0, 8), ("normal", 1, 8)], [], 0),
        ([*GRID, ("rha", 0, 8)], ["nc"], 0),
        ([*GRID, ("rha", 0, 8), ("rha", 1, 16)], ["nc"], 1),
        ([*GRID, ("normal", 0, 8)], ["nc"], 0),
    ],
)
def test_seeds_of_a_group_are_alike_where_all_have_the_same_trials(
    cells: list[tuple[str, int, int]], differ: list[str], uneven: int
) -> None:
    assert mixed(rows(*cells), ["method"]) == differ
    assert unbalanced(rows(*cells), ["method"], differ) == uneven


def test_versions_are_all_that_a_specification_holds_beside_its_fields() -> None:
    spec = TrialSpec(method="dmaapx", stream=base_stream("digits", "smoke", n_train=100))
    assert set(json.loads(spec.spec_json)) - {field.name for field in fields(TrialSpec)} == set(VERSIONS)


def test_versions_are_columns_where_they_differ() -> None:
    texts = [TrialSpec().spec_json, TrialSpec(seed=1).spec_json, "no JSON", "[1]"]
    assert not set(VERSIONS) & set(with_versions(pd.DataFrame({"spec_json": texts})))
    later = json.dumps({**json.loads(texts[0]), "numerics_version": 99})
    found = with_versions(pd.DataFrame({"spec_json": [*texts, later, later]}))
    assert found["numerics_version"].nunique() == 2 and "stream_version" not in found
