"""The declaration of a sweep: what was written is read, facts may be damaged, trials may not."""

from pathlib import Path

import pytest

from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

TRIALS = [TrialSpec(seed=seed) for seed in range(3)]
IDS = tuple(spec.trial_id for spec in TRIALS)


def test_a_declaration_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    assert store.read_declaration() is None
    declaration = Declaration(
        sweep="s", figures=("double_descent",), options={"preset": "smoke"}, code_version="1", machine={"node": "n"}
    ).with_trials(TRIALS, planned=9)
    store.write_declaration(declaration)
    assert store.read_declaration() == declaration and declaration.trial_ids == IDS


def test_ids_are_those_of_the_file_and_follow_from_the_trials_where_an_earlier_version_wrote_none() -> None:
    trials = [spec.as_dict() for spec in TRIALS]
    assert Declaration.decode({"trials": trials, "trial_ids": ["a", "b", "c"]}, "x").trial_ids == ("a", "b", "c")
    assert Declaration.decode({"trials": trials}, "x").trial_ids == IDS


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"trials": "many"},
        {"trials": [7]},
        {"trials": [TRIALS[0].as_dict()], "trial_ids": []},
        {"trials": [TRIALS[0].as_dict()], "trial_ids": [7]},
        {"trials": [{"nc": -1}]},
    ],
)
def test_trials_that_cannot_be_read_are_a_fault_and_facts_remain(value: dict) -> None:
    declaration = Declaration.decode({**value, "machine": {"node": "here"}, "figures": 3, "planned": "x"}, "sweep.json")
    assert declaration.fault.startswith("sweep.json does not say which trials a sweep declares: ")
    assert declaration.machine == {"node": "here"} and declaration.figures == () and declaration.planned == 0
    with pytest.raises(DataFormatError, match="does not say which trials"):
        declaration.check()


@pytest.mark.parametrize("value", [None, 7, [], "x"])
def test_no_object_is_an_error(value: object) -> None:
    with pytest.raises(DataFormatError, match="sweep.json must hold an object; got"):
        Declaration.decode(value, "sweep.json")
