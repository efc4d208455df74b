"""Every method in bundles: members alone and together, stopped and resumed, with everything that is measured."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.evaluation import (
    Amortization,
    Attack,
    EvaluationSettings,
    Reconstruction,
    Representation,
    Smoothness,
    TwoSample,
)
from vaegen_ray.spec.trial import TrialSpec

N, TESTED, EPOCHS = 60, 40, 8
STREAM = StreamSpec(diffusion=DiffusionSpec(levels=17), shard_size=100, batch_size=50)
MEASURES = EvaluationSettings(
    gaps_at=(2, 8),
    amortization=Amortization(images=20, steps=20, check_every=10, check_samples=4),
    robustness=Attack(images=3, restarts=2, steps=4),
    representation=Representation(images=40, corruptions=True),
    reconstruction=Reconstruction(shown=2),
    smoothness=Smoothness(pairs=2, points=5),
)


class Made:
    """Samples in 17 levels; sample i follows from i."""

    def __init__(self, stream: StreamSpec = STREAM) -> None:
        self.prototypes = np.random.default_rng(0).random((4, 1, 8, 8))

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.take(np.arange(start, stop))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        noise = np.stack([np.random.default_rng(int(number)).random((1, 8, 8)) for number in numbers])
        return (16 * (0.6 * self.prototypes[numbers % 4] + 0.4 * noise)).round().astype(np.uint8)


def trial(method: str, seed: int = 3, **more: Any) -> TrialSpec:
    stream = {"stream": STREAM} if method.startswith(("dmaapx", "mix")) else {}
    common = {"nc": 8, "n_train": N, "batch_size": 20, "epochs": EPOCHS, "evaluate_at": (1, 2, 5, EPOCHS)}
    return TrialSpec(**{**common, "method": method, "seed": seed, "measures": MEASURES, **stream, **more})


BUNDLES = {
    "plain": tuple(
        trial(method)
        for method in (
            *("normal", "aug_naive", "aug_tuned", "mollify", "early_stopping", "aug_naive+mollify"),
            *("dmaapx", "mix", "mix+aug_tuned", "dmaapx+mollify", "dmaapx+aug_tuned"),
        )
    ),
    "rha": (trial("rha"), trial("rha", 4), trial("dmaapx+rha"), trial("aug_tuned+rha")),
    "rha of reconstructions": tuple(trial("rha", seed, asleep_samples="reconstruction") for seed in (3, 4)),
    "more real": tuple(trial("more_real", seed, budget=2) for seed in (3, 4)),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def find_split(spec: TrialSpec) -> Split:
    """Noisy prototypes of four classes, and the test images turned upside down as their only corruption."""
    prototypes = np.random.default_rng(1).random((4, 1, 8, 8))
    kinds = [np.arange(n) % 4 for n in (spec.real_images, TESTED)]
    draw = np.random.default_rng(2)
    train, test = (
        ImageSet((prototypes[kind] > draw.random((len(kind), 1, 8, 8))).astype(np.uint8), 2) for kind in kinds
    )
    turned = np.ascontiguousarray(test.images[:, :, ::-1])
    return Split(train=train, test=test, test_labels=kinds[1], corrupted={"turned": turned})


Rows = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def finished(run: BundleRun) -> Rows:
    made: Rows = ([], [])
    while not run.finished:
        run.advance(0.0)
        for segment in run.take_segments():
            made[0].extend(segment.rows)
            made[1].extend(segment.details)
    return made


def started(specs: tuple[TrialSpec, ...], **more: Any) -> BundleRun:
    return BundleRun(specs, find_split(specs[0]), open_stream=Made, **more)


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> tuple[tuple[TrialSpec, ...], Rows]:
    specs = BUNDLES[request.param]
    assert len({spec.shape_key for spec in specs}) == 1
    return specs, finished(started(specs))


def test_everything_that_was_asked_for_is_measured(bundle) -> None:
    specs, (rows, details) = bundle
    assert [(row["trial_id"], row["effective_epoch"]) for row in rows] == [
        (spec.trial_id, epoch) for epoch in specs[0].evaluate_at for spec in specs
    ]
    for row in rows:
        last = row["effective_epoch"] == EPOCHS
        assert ("amortization_gap" in row) == ("robustness_gap" in row) == (row["effective_epoch"] in (2, 8))
        for name in ("psnr_test", "accuracy_knn", "latent_log_q"):
            assert (name in row) == last
        assert ("best_epoch" in row) == any(s.trial_id == row["trial_id"] and "early" in s.method for s in specs)
    for spec in specs:
        mine = {(each["quantity"], each["item"]) for each in details if each["trial_id"] == spec.trial_id}
        assert {("accuracy", "turned/knn"), ("accuracy", "overall/svm_rbf"), ("log_q", "pair-0")} <= mine
        assert {("original", "image-1"), ("reconstruction", "image-1")} <= mine
    assert len({row["elbo_test"] for row in rows if row["effective_epoch"] == EPOCHS}) == len(specs)


def test_the_source_is_what_is_trained_on(bundle) -> None:
    specs, (rows, _) = bundle
    for row in rows:
        (spec,) = [spec for spec in specs if spec.trial_id == row["trial_id"]]
        is_train = not spec.recipe.synthetic and not spec.recipe.augmentation
        assert (row["elbo_source"] == row["elbo_train"]) == is_train


def test_members_alone_are_as_in_the_bundle(bundle) -> None:
    """ELBOs to 1e-4 of their size. Gaps are small differences, and a pixel of a model's sample may flip (rha)."""
    specs, (rows, _) = bundle
    for spec in specs:
        alone, _ = finished(started((spec,)))
        together = [row for row in rows if row["trial_id"] == spec.trial_id]
        for row, expected in zip(together, alone, strict=True):
            size = abs(expected["elbo_test"])
            for name in (
                "elbo_train",
                "elbo_test",
                "elbo_source",
                "amortization_gap",
                "elbo_optimal",
                "elbo_validation",
            ):
                if name in expected:
                    assert row[name] == pytest.approx(expected[name], abs=1e-4 * size), (spec.method, name)


@pytest.mark.parametrize("stop", [2, 9, 13])
def test_a_resumed_bundle_ends_with_the_same_rows(bundle, stop: int) -> None:
    specs, expected = bundle
    first = started(specs)
    for _ in range(stop):
        first.advance(0.0)
        list(first.take_segments())
    assert 0 < first.trainer.step < first.spec.steps
    assert finished(started(specs, checkpoint=first.checkpoint())) == expected


def test_a_two_sample_test_reads_samples_that_nobody_trains_on() -> None:
    measures = EvaluationSettings(two_sample=TwoSample(epochs=1, batch_size=32))
    specs = tuple(replace(trial("dmaapx", seed), measures=measures) for seed in (3, 4))
    rows, _ = finished(started(specs))
    accuracies = [row["two_sample_accuracy"] for row in rows if row["effective_epoch"] == EPOCHS]
    assert len(accuracies) == 2 and all(0 <= accuracy <= 1 for accuracy in accuracies)


@pytest.mark.parametrize("members", [(0, 2), (1,)])
def test_a_part_of_a_bundle_goes_on_as_if_it_had_been_alone(bundle, members: tuple[int, ...]) -> None:
    """What a worker does when an evaluation runs out of memory: rows so far, weights and best weights come along."""
    specs, (rows, _) = bundle
    members = tuple(member for member in members if member < len(specs))
    whole = started(specs)
    while whole.trainer.epoch < 3:
        whole.advance(0.0)
    chosen = tuple(specs[member] for member in members)
    part = started(chosen, checkpoint=whole.part(members))
    assert part.trainer.step == whole.trainer.step
    got, got_details = finished(part)
    assert {row["bundle_id"] for row in got} == {part.bundle_id} == {each["bundle_id"] for each in got_details}
    for spec in chosen:
        mine, expected = ([row for row in kind if row["trial_id"] == spec.trial_id] for kind in (got, rows))
        assert [row["effective_epoch"] for row in mine] == [row["effective_epoch"] for row in expected]
        for row, wanted in zip(mine, expected, strict=True):
            assert row["elbo_test"] == pytest.approx(wanted["elbo_test"], rel=1e-4)
