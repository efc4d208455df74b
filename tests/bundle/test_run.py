"""The run of a bundle: the same rows however it is cut, stopped and resumed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vaegen_ray.bundle.run import BundleRun, split_epochs
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.errors import DataFormatError
from vaegen_ray.serialization import pack, unpack
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import rising_epochs

SPECS = tuple(
    TrialSpec(nc=4, n_train=60, batch_size=20, epochs=8, evaluate_at=(1, 2, 3, 5, 8), seed=s, beta=b)
    for s, b in ((0, 1.0), (1, 0.5))
)


@pytest.fixture(scope="module")
def split() -> Split:
    draw = np.random.default_rng(0)
    sets = [ImageSet(images=draw.integers(0, 2, (n, 1, 8, 8), dtype=np.uint8), levels=2) for n in (60, 40)]
    return Split(train=sets[0], test=sets[1])


def build_rows(run: BundleRun, seconds: float = 60.0) -> list[dict[str, Any]]:
    rows = []
    while not run.finished:
        run.advance(seconds)
        rows += [row for segment in run.take_segments() for row in segment.rows]
    return rows + [row for segment in run.take_segments() for row in segment.rows]


def test_small_slices_of_time_change_nothing(split: Split) -> None:
    whole, cut = build_rows(BundleRun(SPECS, split)), build_rows(BundleRun(SPECS, split), seconds=0.0)
    assert whole == cut
    assert [(row["trial_id"], row["effective_epoch"]) for row in whole] == [
        (spec.trial_id, epoch) for epoch in (1, 2, 3, 5, 8) for spec in SPECS
    ]


@pytest.mark.parametrize("stop", [1, 2, 4, 7, 11])
def test_a_resumed_run_gives_the_same_rows_and_weights(split: Split, stop: int) -> None:
    reference = BundleRun(SPECS, split)
    expected = build_rows(reference)
    first = BundleRun(SPECS, split)
    got = []
    for _ in range(stop):
        first.advance(0.0)
        got += [row for segment in first.take_segments() for row in segment.rows]
    second = BundleRun(SPECS, split, checkpoint=first.checkpoint())
    assert build_rows(second) == expected and expected[: len(got)] == got
    for name, tensor in second.trainer.vae.state_dict().items():
        assert torch.equal(tensor, reference.trainer.vae.state_dict()[name]), name


@pytest.mark.parametrize("last", [1, 2, 5, 300])
def test_segments_hold_every_evaluation_once(last: int) -> None:
    epochs = rising_epochs(last)
    assert sum(split_epochs(epochs), ()) == epochs
    assert 1 <= len(split_epochs(epochs)) <= 4


def test_a_segment_whose_writing_failed_is_handed_out_again(split: Split) -> None:
    run = BundleRun(SPECS, split)
    while not run.finished:
        run.advance(60.0)
    lost = next(run.take_segments())
    kept = BundleRun(SPECS, split, checkpoint=run.checkpoint())
    assert next(kept.take_segments()) == lost
    list(kept.take_segments())
    assert list(kept.take_segments()) == []
    resumed = BundleRun(SPECS, split, checkpoint=kept.checkpoint())
    assert next(resumed.take_segments()) == replace(lost, again=True)


def test_a_member_that_becomes_non_finite_fails_with_its_epoch(split: Split) -> None:
    run = BundleRun(SPECS, split)
    while run.trainer.epoch < 3:
        run.advance(0.0)
    with torch.no_grad():
        next(run.trainer.vae.parameters())[0] = float("nan")
    rows = build_rows(run)
    failed, completed = run.outcomes()
    assert (failed.status, completed.status) == ("failed", "completed")
    assert failed.failed_epoch is not None and failed.failed_epoch >= 4 and "finite" in str(failed.error)
    assert max(row["effective_epoch"] for row in rows if row["trial_id"] == SPECS[0].trial_id) == 3
    clean = build_rows(BundleRun(SPECS, split))
    other = SPECS[1].trial_id
    assert [row for row in rows if row["trial_id"] == other] == [row for row in clean if row["trial_id"] == other]


def test_a_checkpoint_of_another_version_is_refused_in_one_line(split: Split) -> None:
    run = BundleRun(SPECS, split)
    run.advance(0.0)
    tensors, values = unpack(run.checkpoint(), "here")
    del values["evaluated_until"]
    with pytest.raises(DataFormatError, match="another version.*evaluated_until"):
        BundleRun(SPECS, split, checkpoint=pack(tensors, values))
    values["trainer"].pop("step")
    with pytest.raises(DataFormatError, match="another version"):
        BundleRun(SPECS, split, checkpoint=pack(tensors, values))
