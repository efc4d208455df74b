"""Who deletes what: nothing that a checkpoint or a live driver stands for; and no deletion is unlisted."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import vaegen_ray
from vaegen_ray.results.cleanup import REMOVALS, prune
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

ROOT = Path(vaegen_ray.__file__).parent
REMOVING = {"delete", "move", "move_folder"}
"""Methods of ``Storage`` that take a file away."""


def ids(*seeds: int) -> list[str]:
    return [TrialSpec(seed=seed).trial_id for seed in seeds]


@pytest.fixture
def store(storage: Storage) -> SweepStore:
    return SweepStore(storage, "s")


def begin(store: SweepStore, metric: Callable, bundle: str, seeds: tuple[int, ...], *, checkpoint: bool) -> None:
    store.write_checkpoint_members(bundle, ids(*seeds))
    store.write_metrics(bundle, 1, 5, [metric(seed, 5) for seed in seeds])
    if checkpoint:
        store.write_checkpoint(bundle, b"state")


def bundles_in(store: SweepStore, folder: str) -> list[str]:
    return sorted({name.partition("-")[0].partition(".")[0] for name in store.storage.list(f"s/{folder}")})


def test_nobody_deletes_what_a_checkpoint_or_a_live_driver_stands_for(
    store: SweepStore, trial: Callable, metric: Callable
) -> None:
    begin(store, metric, "stopped", (0, 1), checkpoint=True)  # of another declaration
    begin(store, metric, "running", (2,), checkpoint=False)  # a live driver has not come to a checkpoint
    begin(store, metric, "mine", (3,), checkpoint=False)
    begin(store, metric, "abandoned", (4,), checkpoint=False)
    begin(store, metric, "repacked", (5, 6), checkpoint=True)  # its trials were committed in another bundle
    begin(store, metric, "done", (7,), checkpoint=True)  # its worker was killed right after the commit
    store.write_metrics("other", 1, 5, [metric(seed, 5) for seed in (5, 6)])
    store.commit_trials("other", [trial(seed, "other") for seed in (5, 6)])
    store.commit_trials("done", [trial(7, "done")])
    prune(store, mine={"mine"}, held=set(ids(2)))
    assert bundles_in(store, "metrics") == ["done", "mine", "other", "running", "stopped"]
    assert store.begun_bundles() == {"mine": ids(3), "running": ids(2), "stopped": ids(0, 1)}
    assert store.checkpoints() == ["stopped"]
    prune(store, mine=set(), held=set())
    assert bundles_in(store, "metrics") == ["done", "other", "stopped"]


def test_notes_on_starts_go_when_their_trials_are_committed(store: SweepStore, trial: Callable) -> None:
    store.commit_trials("b0", [trial(0)])
    for name, seeds in (("halved", (0,)), ("begun", (0, 1))):
        store.storage.write_json(f"s/starts/{name}.json", {"trial_ids": ids(*seeds)})
    store.storage.write("s/starts/damaged.json", b"{")
    prune(store, mine=set(), held=set())
    assert store.storage.list("s/starts") == ["begun.json"]


def test_a_list_of_members_that_is_damaged_is_written_again_from_the_checkpoint(store: SweepStore) -> None:
    torch = pytest.importorskip("torch")
    from vaegen_ray.serialization import pack

    specs = [TrialSpec(seed=seed) for seed in (0, 1)]
    store.write_checkpoint("b0", pack({"w": torch.zeros(2)}, {"specs": [spec.as_dict() for spec in specs]}))
    store.storage.write("s/checkpoints/b0.json", b"{")
    assert store.started_bundles() == {"b0": ids(0, 1)}
    assert "b0.json was set aside" in store.set_aside_notes[0]
    assert store.storage.list("s/checkpoints") == ["b0.json", "b0.safetensors"]


def removals(path: Path) -> set[str]:
    """Qualified names of the functions in a module that call what takes a file of a storage away."""
    found = set()

    def walk(node: ast.AST, scope: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = (*scope, child.name)
            call = child.func if isinstance(child, ast.Call) else None
            if isinstance(call, ast.Attribute) and call.attr in REMOVING and "storage" in ast.unparse(call.value):
                found.add(".".join([*path.relative_to(ROOT).with_suffix("").parts, *scope]))
            walk(child, inner)

    walk(ast.parse(path.read_text()), ())
    return found


def test_every_removal_in_the_code_is_listed() -> None:
    found = set().union(*(removals(path) for path in ROOT.rglob("*.py")))
    listed = set(REMOVALS)
    assert {name for name in found if not any(name == each or name.startswith(f"{each}.") for each in listed)} == set()
