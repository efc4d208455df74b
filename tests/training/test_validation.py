"""Images kept for validation: nothing is trained on them, and the ELBO on them stands in every row."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.evaluation.elbo import ON_VALIDATION, rate_and_distortion
from vaegen_ray.spec.trial import TrialSpec

KEPT = 15


def find_split(change: str = "") -> Split:
    """Sixty training images; the last 15, or the one before them, or all test images, differ by ``change``."""
    train, test = (np.random.default_rng(n).integers(0, 2, (n, 1, 8, 8), dtype=np.uint8) for n in (60, 50))
    where = {"validation": train[-KEPT:], "training": train[-KEPT - 1 : -KEPT], "test": test, "": train[:0]}[change]
    where[:] = 1 - where
    return Split(ImageSet(train, 2), ImageSet(test, 2))


def trial(**fields) -> TrialSpec:
    made = {"n_train": 60, "batch_size": 10, "nc": 8, "epochs": 6, "evaluate_at": (1, 2, 4, 5, 6), "beta": 0.5}
    return TrialSpec(**{**made, "validation": KEPT, **fields})


def build_rows(split: Split, *specs: TrialSpec) -> tuple[BundleRun, list[dict]]:
    run, rows = BundleRun(specs, split), []
    while not run.finished:
        run.advance(math.inf)
        rows += [row for segment in run.take_segments() for row in segment.rows]
    return run, rows


@pytest.mark.parametrize("method", ["normal", "aug_tuned", "rha", "mollify"])
def test_no_weight_depends_on_the_images_that_are_kept(method: str) -> None:
    usual, kept, trained = (
        build_rows(find_split(change), trial(method=method)) for change in ("", "validation", "training")
    )
    assert [row["elbo_test"] for row in kept[1]] == [row["elbo_test"] for row in usual[1]]
    assert all(a["elbo_validation"] != b["elbo_validation"] for a, b in zip(kept[1], usual[1], strict=True))
    assert all(a["elbo_test"] != b["elbo_test"] for a, b in zip(trained[1], usual[1], strict=True))


def test_nothing_but_test_columns_depends_on_the_test_images() -> None:
    (_, usual), (_, other) = build_rows(find_split(), trial()), build_rows(find_split("test"), trial())
    assert [row["elbo_validation"] for row in usual] == [row["elbo_validation"] for row in other]
    assert [row["elbo_test"] for row in usual] != [row["elbo_test"] for row in other]


def test_it_is_the_elbo_at_beta_one_of_every_member_at_every_evaluation() -> None:
    split, specs = find_split(), [trial(), trial(seed=1, beta=2.0)]
    run, rows = build_rows(split, *specs)
    images = torch.from_numpy(split.train.images[-KEPT:])
    rate, distortion = rate_and_distortion(run.trainer.vae, specs, images, stream=ON_VALIDATION)
    for member, spec in enumerate(specs):
        mine = [row for row in rows if row["trial_id"] == spec.trial_id]
        assert [row["effective_epoch"] for row in mine] == [1, 2, 4, 5, 6]
        assert mine[-1]["elbo_validation"] == pytest.approx(float(-rate[member] - distortion[member]), rel=1e-9)
        assert "best_epoch" not in mine[-1]
    assert run.validation == [(row["trial_id"], row["effective_epoch"], row["elbo_validation"]) for row in rows]


def test_the_run_halts_after_every_evaluation_and_each_is_a_segment() -> None:
    run, seen = BundleRun((trial(),), find_split()), []
    while not run.finished:
        run.advance(math.inf)
        seen.append([(segment.first_epoch, segment.last_epoch) for segment in run.take_segments()])
    assert seen == [[(epoch, epoch)] for epoch in (1, 2, 4, 5, 6)]
    plain = BundleRun((replace(trial(), validation=0),), find_split())
    plain.advance(math.inf)
    assert plain.finished and plain.validation == [] and len(list(plain.take_segments())) == 4
