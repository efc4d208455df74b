"""``elbo_source`` and the run of a bundle whose members train on samples: 8x8 binary images, a made-up stream."""

from typing import Any

import numpy as np
import pytest
import torch

from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.evaluation.elbo import ON_SAMPLES, ON_TEST, ON_TRAIN, evaluate_elbo, rate_and_distortion
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.sources import permutation

N, TESTED, EPOCHS = 60, 40, 8
STREAM = StreamSpec(diffusion=DiffusionSpec(levels=17), shard_size=100, batch_size=50)
OTHER = StreamSpec(diffusion=DiffusionSpec(levels=17, seed=1), shard_size=100, batch_size=50)


class Made:
    """A stream of noisy prototypes in 17 levels; sample i follows from i and the seed of the stream's model."""

    def __init__(self, stream: StreamSpec = STREAM) -> None:
        self.seed = stream.diffusion.seed
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> np.ndarray:
        self.reads.append((start, stop))
        return self.take(np.arange(start, stop))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        return np.stack([self._image(int(number)) for number in numbers])

    def _image(self, number: int) -> np.ndarray:
        prototypes = np.random.default_rng(self.seed).random((4, 1, 8, 8))
        noise = np.random.default_rng((self.seed, number)).random((1, 8, 8))
        return (16 * (0.6 * prototypes[number % 4] + 0.4 * noise)).round().astype(np.uint8)

    @property
    def trained_on(self) -> list[tuple[int, int]]:
        return [(start, stop) for start, stop in self.reads if start < STREAM.training_samples]

    @property
    def evaluated_on(self) -> list[tuple[int, int]]:
        return [(start, stop) for start, stop in self.reads if stop > STREAM.training_samples]


def trial(**changes: Any) -> TrialSpec:
    common = {"nc": 8, "n_train": N, "batch_size": 20, "epochs": EPOCHS, "evaluate_at": (1, 2, 5, EPOCHS)}
    return TrialSpec(**{**common, **changes})


NORMAL = trial(seed=3)
ONCE = trial(method="dmaapx", stream=STREAM, budget=1, seed=3)
THRICE = trial(method="dmaapx", stream=STREAM, budget=3, seed=5, beta=0.5)
ENDLESS = trial(method="dmaapx", stream=STREAM, seed=3)
MIXED = (NORMAL, ONCE, THRICE, ENDLESS)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def split() -> Split:
    draw = np.random.default_rng(0)
    sets = [ImageSet(images=draw.integers(0, 2, (n, 1, 8, 8), dtype=np.uint8), levels=2) for n in (N, TESTED)]
    return Split(train=sets[0], test=sets[1])


def finished(run: BundleRun) -> list[dict[str, Any]]:
    """Rows of the whole run."""
    rows = []
    while not run.finished:
        run.advance(60.0)
        rows += [row for segment in run.take_segments() for row in segment.rows]
    return rows


def build_rows(specs: tuple[TrialSpec, ...], split: Split) -> list[dict[str, Any]]:
    return finished(BundleRun(specs, split, open_stream=Made))


def last(rows: list[dict[str, Any]], spec: TrialSpec) -> dict[str, Any]:
    (row,) = [row for row in rows if row["trial_id"] == spec.trial_id and row["effective_epoch"] == EPOCHS]
    return row


def fresh(stream: StreamSpec = STREAM) -> torch.Tensor:
    """The samples after those for training, rounded at half of the full intensity."""
    first = 900_000 * 100
    return torch.from_numpy((Made(stream).read(first, first + TESTED) >= 8).astype(np.uint8))


@pytest.fixture(scope="module")
def alone(split: Split) -> dict[str, list[dict[str, Any]]]:
    """Rows of every member of ``MIXED`` trained on its own."""
    return {spec.trial_id: build_rows((spec,), split) for spec in MIXED}


def test_the_elbo_of_a_member_on_samples_is_that_on_samples_nobody_trains_on(split: Split) -> None:
    run = BundleRun(MIXED, split, open_stream=Made)
    rows = finished(run)
    rates, distortions = rate_and_distortion(run.trainer.vae, list(MIXED), fresh(), stream=ON_SAMPLES)
    for member, spec in enumerate(MIXED[1:], start=1):
        assert last(rows, spec)["elbo_source"] == pytest.approx(-float(rates[member] + distortions[member]), rel=1e-12)
    for row in rows:
        if row["trial_id"] == NORMAL.trial_id:
            assert row["elbo_source"] == row["elbo_train"]
        else:
            assert row["elbo_source"] not in (row["elbo_train"], row["elbo_test"])


def test_a_vae_trained_on_samples_models_them_better_than_other_images(split: Split) -> None:
    """The training set here is coin tosses; the samples have something to learn."""
    spec = trial(method="dmaapx", stream=STREAM, epochs=40, evaluate_at=(1, EPOCHS, 40), learning_rate=3e-3)
    first, _, end = build_rows((spec,), split)
    assert end["elbo_source"] > first["elbo_source"] + 5
    assert end["elbo_source"] > end["elbo_train"] + 5 and end["elbo_source"] > end["elbo_test"] + 5


def test_streams_have_an_elbo_of_their_own() -> None:
    """Two members of equal weights, each measured on its own stream."""
    specs = [trial(method="dmaapx", stream=stream) for stream in (STREAM, OTHER)]
    vae, train = VAE(specs), torch.zeros(N, 1, 8, 8, dtype=torch.uint8)
    both = [fresh(stream) for stream in (STREAM, OTHER)]
    rows = evaluate_elbo(vae, specs, train, train, both)
    for spec, images, row in zip(specs, both, rows, strict=True):
        (single,) = evaluate_elbo(VAE([spec]), [spec], train, train, [images])
        assert row["elbo_source"] == pytest.approx(single["elbo_source"], rel=1e-6)
    assert rows[0]["elbo_train"] == pytest.approx(rows[1]["elbo_train"], rel=1e-6)
    assert abs(rows[0]["elbo_source"] - rows[1]["elbo_source"]) > 1e-3


def test_samples_have_noise_of_their_own() -> None:
    """Where test images and samples are the same, the ELBOs differ by the noise of the evaluation alone."""
    spec, images = trial(method="dmaapx", stream=STREAM, elbo_samples=400), fresh()
    (row,) = evaluate_elbo(VAE([spec]), [spec], images, images, [images])
    assert row["elbo_source"] == pytest.approx(row["elbo_test"], rel=1e-3)
    assert len({row["elbo_source"], row["elbo_train"], row["elbo_test"]}) == 3
    most_blocks = 2**19  # of 500 images, more than a data set has
    assert 2 * (most_blocks - 1) + max(ON_TRAIN, ON_TEST) < ON_SAMPLES


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3), (2, 0), (3, 1)], ids=["all", "two", "budgets"])
def test_members_of_a_mixed_bundle_equal_the_members_alone(split: Split, alone, chosen: tuple[int, ...]) -> None:
    specs = tuple(MIXED[i] for i in chosen)
    rows = build_rows(specs, split)
    for spec in specs:
        mine = [row for row in rows if row["trial_id"] == spec.trial_id]
        assert [row["effective_epoch"] for row in mine] == list(spec.evaluate_at)
        for row, expected in zip(mine, alone[spec.trial_id], strict=True):
            size = abs(expected["elbo_test"])
            for name, value in expected.items():
                if name != "bundle_id":
                    assert row[name] == (
                        pytest.approx(value, rel=1e-4, abs=1e-4 * size) if name != "trial_id" else value
                    )
    assert len({last(rows, spec)["elbo_test"] for spec in specs}) == len(specs)


def test_a_budget_of_all_that_is_seen_is_no_budget(split: Split, alone) -> None:
    """k * N samples with k = epochs are never repeated; equal to the bit, though the trials have names of their own."""
    whole = trial(method="dmaapx", stream=STREAM, budget=EPOCHS, seed=3)
    names = ("trial_id", "bundle_id")
    got, expected = (
        [{k: v for k, v in row.items() if k not in names} for row in rows]
        for rows in (build_rows((whole,), split), alone[ENDLESS.trial_id])
    )
    assert got == expected
    assert whole.trial_id != ENDLESS.trial_id


def test_a_budget_matters_from_its_end_on(split: Split, alone) -> None:
    """One N of samples, or samples without end: the same first effective epoch, other ones after it."""
    once, endless = alone[ONCE.trial_id], alone[ENDLESS.trial_id]
    assert once[0]["elbo_test"] == endless[0]["elbo_test"]
    assert all(a["elbo_test"] != b["elbo_test"] for a, b in zip(once[1:], endless[1:], strict=True))


def test_training_and_evaluation_read_the_samples_that_are_theirs(split: Split) -> None:
    """All members read one stream, evaluation reads once however often it comes, and never what is trained on."""
    made = Made()
    finished(BundleRun(MIXED, split, open_stream=lambda stream: made))
    first = STREAM.training_samples
    assert made.evaluated_on == [(first, first + TESTED)]
    assert max(stop for _, stop in made.trained_on) == max(spec.samples for spec in MIXED) == EPOCHS * N


def test_a_stream_is_not_opened_for_normal_training(split: Split) -> None:
    finished(BundleRun((NORMAL,), split))
    with pytest.raises(AssertionError, match=f"trial {ONCE.trial_id} needs a stream"):
        BundleRun((NORMAL, ONCE), split)


def test_the_trainer_sees_the_samples_in_the_order_of_the_source(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch by batch, against the definition: first pass in order, later ones permuted by (seed, pass)."""
    run = BundleRun((ONCE,), split, open_stream=Made)
    seen: list[torch.Tensor] = []
    update = run.trainer._update

    def remember(pixels: torch.Tensor, noise: torch.Tensor) -> None:
        seen.append(pixels[0].clone())
        update(pixels, noise)

    monkeypatch.setattr(run.trainer, "_update", remember)
    run.trainer.train(ONCE.steps)
    samples = torch.from_numpy((Made().read(0, N) >= 8).astype(np.uint8))
    for number in range(EPOCHS):
        order = torch.arange(N) if number == 0 else permutation(N, 3, number)
        assert torch.equal(torch.cat(seen[3 * number : 3 * number + 3]), samples[order])


@pytest.mark.parametrize("stop", [1, 4, 7, 13])
def test_a_resumed_run_gives_the_same_rows_and_weights(split: Split, stop: int) -> None:
    """Stopped in the first pass, after it, and among later ones; the second run opens the stream anew."""
    reference = BundleRun(MIXED, split, open_stream=Made)
    expected = finished(reference)
    first = BundleRun(MIXED, split, open_stream=Made)
    got = []
    for _ in range(stop):
        first.advance(0.0)
        got += [row for segment in first.take_segments() for row in segment.rows]
    assert 0 < first.trainer.step < first.spec.steps
    made = Made()
    second = BundleRun(MIXED, split, checkpoint=first.checkpoint(), open_stream=lambda stream: made)
    assert finished(second) == expected and expected[: len(got)] == got
    assert len(made.evaluated_on) == 1
    for name, tensor in second.trainer.vae.state_dict().items():
        assert torch.equal(tensor, reference.trainer.vae.state_dict()[name]), name


def test_a_member_that_fails_leaves_the_others_as_they_are(split: Split, alone) -> None:
    run = BundleRun((ONCE, THRICE), split, open_stream=Made)
    while run.trainer.epoch < 2:
        run.advance(0.0)
    with torch.no_grad():
        next(run.trainer.vae.parameters())[0] = float("nan")
    rows = finished(run)
    failed, completed = run.outcomes()
    assert (failed.status, completed.status) == ("failed", "completed")
    assert last(rows, THRICE)["elbo_source"] == pytest.approx(
        last(alone[THRICE.trial_id], THRICE)["elbo_source"], rel=1e-4
    )
