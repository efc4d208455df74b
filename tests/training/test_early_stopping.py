"""Early stopping: the best weights on the validation part stand for a member at every evaluation."""

import numpy as np
import pytest
import torch

from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.evaluation.elbo import ON_TEST, ON_VALIDATION, rate_and_distortion
from vaegen_ray.serialization import unpack
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.early_stopping import EarlyStopping, find_validation_checks

EPOCHS = (1, 4, 10, 20, 40, 80, 120)


def spec_of(method: str, seed: int = 0) -> TrialSpec:
    """Sixty images and a wide network that learns them by heart."""
    return TrialSpec(
        n_train=60, batch_size=10, nc=64, mz=4, learning_rate=3e-3, epochs=120, evaluate_at=EPOCHS, method=method,
        seed=seed, **({"validation_percent": 25} if method == "early_stopping" else {"validation_percent": 10}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def split() -> Split:
    prototypes = np.random.default_rng(0).random((4, 1, 8, 8))
    train, test = ((prototypes[np.arange(n) % 4] > np.random.default_rng(n).random((n, 1, 8, 8))) for n in (60, 50))
    return Split(*(ImageSet(np.ascontiguousarray(part, dtype=np.uint8), 2) for part in (train, test)))


def finished(run: BundleRun) -> list[dict]:
    rows = []
    while not run.finished:
        run.advance(0.0)
        rows += [row for segment in run.take_segments() for row in segment.rows]
    return rows


@pytest.fixture(scope="module")
def stopped(split: Split) -> tuple[BundleRun, list[dict]]:
    run = BundleRun((spec_of("early_stopping"), spec_of("early_stopping", 1)), split)
    return run, finished(run)


def of(rows: list[dict], spec: TrialSpec) -> list[dict]:
    return [row for row in rows if row["trial_id"] == spec.trial_id]


def test_the_validation_elbo_never_falls_and_says_its_epoch(stopped) -> None:
    run, rows = stopped
    for spec in run.specs:
        mine = of(rows, spec)
        elbos = [row["elbo_validation"] for row in mine]
        assert elbos == sorted(elbos) and [row["effective_epoch"] for row in mine] == list(EPOCHS)
        assert all(row["best_epoch"] <= row["effective_epoch"] for row in mine)
        assert 1 < mine[-1]["best_epoch"] < 120  # this network overfits


def test_the_best_epoch_is_looked_for_between_the_evaluations(stopped) -> None:
    """Fifty looks, whenever the trial is evaluated: a sweep with few evaluations stops no later than one with many."""
    run, rows = stopped
    assert (
        find_validation_checks(120)[:3] == (3, 5, 8)
        and find_validation_checks(120)[-1] == 120
        and len(find_validation_checks(120)) == 50
    )
    assert find_validation_checks(7) == (1, 2, 3, 4, 5, 6, 7)
    best = [of(rows, spec)[-1]["best_epoch"] for spec in run.specs]
    assert set(best) <= set(find_validation_checks(120)) and not set(best) <= set(EPOCHS)


def test_rows_after_the_best_epoch_are_all_the_same(stopped) -> None:
    run, rows = stopped
    for spec in run.specs:
        mine = of(rows, spec)
        after = {row["elbo_test"] for row in mine if row["effective_epoch"] >= mine[-1]["best_epoch"]}
        assert len(after) == 1 and after != {mine[0]["elbo_test"]}


def test_it_helps_a_network_that_overfits(stopped, split: Split) -> None:
    """Against the weights at the end of the same training."""
    run, rows = stopped
    test = torch.from_numpy(split.test.images)
    rate, distortion = rate_and_distortion(run.trainer.vae, run.specs, test, stream=ON_TEST)
    for member, spec in enumerate(run.specs):
        assert of(rows, spec)[-1]["elbo_test"] > float(-rate[member] - distortion[member]) + 1


def test_the_model_that_is_kept_is_the_best_one(stopped, split: Split) -> None:
    run, rows = stopped
    kept = torch.from_numpy(split.train.images[-15:])
    with run._early_stopping.best(run.trainer.vae, run.trainer.alive):
        rate, distortion = rate_and_distortion(run.trainer.vae, run.specs, kept, stream=ON_VALIDATION)
    for member, spec in enumerate(run.specs):
        assert float(-rate[member] - distortion[member]) == pytest.approx(
            of(rows, spec)[-1]["elbo_validation"], rel=1e-6
        )


def test_training_goes_on_from_its_own_weights(stopped, split: Split) -> None:
    """Looking does not touch the training: the weights at the end are those without any evaluation."""
    run, _ = stopped
    end = {name: tensor.clone() for name, tensor in run.trainer.vae.state_dict().items()}
    again = BundleRun(tuple(run.specs), split)
    again.trainer.train(again.spec.steps)
    for name, tensor in again.trainer.vae.state_dict().items():
        assert torch.equal(tensor, end[name])


@pytest.mark.parametrize("stop", [3, 12, 30])
def test_a_resumed_run_gives_the_same_rows(stopped, split: Split, stop: int) -> None:
    run, expected = stopped
    first, got = BundleRun(tuple(run.specs), split), []
    for _ in range(stop):
        first.advance(0.0)
        got += [row for segment in first.take_segments() for row in segment.rows]
    assert 0 < first.trainer.step < first.spec.steps
    second = BundleRun(tuple(run.specs), split, checkpoint=first.checkpoint())
    assert finished(second) == expected and expected[: len(got)] == got
    assert torch.equal(next(iter(second.trainer.vae.parameters())), next(iter(run.trainer.vae.parameters())))
    (kept, _), (expected_kept, _) = (unpack(each.model(), "model") for each in (second, run))
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected_kept.items())


def test_members_that_do_not_stop_early_are_left_alone() -> None:
    specs = [spec_of("normal")]
    early = EarlyStopping(specs)
    assert early.members == [] and early.row(0) == {} and early.next_check is None
    assert early.state() == ({}, {"looks": {}, "looked_until": 0})


def test_a_failed_member_stays_failed(split: Split) -> None:
    """Its best weights do not come back, neither as weights nor as rows."""
    run = BundleRun((spec_of("early_stopping"), spec_of("early_stopping", 1)), split)
    while run.trainer.epoch < 12:
        run.advance(0.0)
    for parameter in run.trainer.vae.parameters():
        parameter.data[0] = float("nan")
    rows = finished(run)
    assert [outcome.status for outcome in run.outcomes()] == ["failed", "completed"]
    assert all(row["effective_epoch"] <= 10 for row in of(rows, run.specs[0]))
    assert all(not tensor[0].any() for tensor in run.trainer.vae.parameters())
