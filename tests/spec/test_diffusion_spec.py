"""The declaration of a stream: identities, limits, noise levels; and what a trial makes of a stream."""

import json
import re
from dataclasses import asdict, fields, replace
from itertools import pairwise
from typing import Any

import pytest

from vaegen_ray.bundle.cost import CPU_CORE
from vaegen_ray.bundle.packing import pack
from vaegen_ray.errors import SpecError
from vaegen_ray.spec import diffusion as stream_module
from vaegen_ray.spec import trial as trial_module
from vaegen_ray.spec.diffusion import EVALUATION_SHARD, MOST_SHARDS, DiffusionSpec, Sampler, StreamSpec
from vaegen_ray.spec.trial import TrialSpec

SHA = "0123456789abcdef" * 4
MODEL = DiffusionSpec(network="unet", image_shape=(3, 8, 8), channels=8, multipliers=(1, 2), attention=(4,))
"""A model in which every field below can be changed alone."""
MODEL_CHANGES: dict[str, Any] = {
    "dataset": "mnist",
    "levels": 256,
    "n_train": 999,
    "image_shape": (1, 8, 8),
    "network": "mlp",
    "channels": 12,
    "multipliers": (1, 3),
    "blocks": 3,
    "attention": (8, 4),
    "dropout": 0.0,
    "data_std": 0.6,
    "log_mean": -1.1,
    "log_std": 1.0,
    "images": 600_001,
    "batch_size": 255,
    "learning_rate": 1e-3,
    "warmup_images": 1,
    "decay": "constant",
    "ema_images": 1,
    "precision": "bf16",
    "seed": 1,
    "weights": SHA,
    "data_digest": "0123456789abcdef0123",
}
SAMPLER_CHANGES: dict[str, Any] = {
    "steps": 19,
    "sigma_min": 0.003,
    "sigma_max": 79.0,
    "rho": 6.0,
    "churn": 1.0,
    "churn_min": 0.1,
    "churn_max": 50.0,
    "churn_noise": 1.003,
}
STREAM = StreamSpec(diffusion=MODEL)
CUT_CHANGES: dict[str, Any] = {"shard_size": 4000, "batch_size": 250, "precision": "tf32"}
"""Changes of the stream itself."""

STREAMS = {
    **{f"diffusion.{k}": replace(STREAM, diffusion=replace(MODEL, **{k: v})) for k, v in MODEL_CHANGES.items()},
    **{f"sampler.{k}": replace(STREAM, sampler=Sampler(**{k: v})) for k, v in SAMPLER_CHANGES.items()},
    **{k: replace(STREAM, **{k: v}) for k, v in CUT_CHANGES.items()},
}
"""Streams that differ from ``STREAM`` in one field."""

MOVES_SAMPLES = ("levels", "image_shape", "data_std")
"""Fields of a diffusion model that change the samples of given weights; the others say how the weights came about, or
show in the names and shapes of the weights."""


def test_every_field_is_tried() -> None:
    assert set(MODEL_CHANGES) == {field.name for field in fields(DiffusionSpec)}
    assert set(SAMPLER_CHANGES) == {field.name for field in fields(Sampler)}
    assert set(CUT_CHANGES) | {"diffusion", "sampler"} == {field.name for field in fields(StreamSpec)}


def test_no_two_streams_share_an_id() -> None:
    assert len({STREAM.stream_id, *(each.stream_id for each in STREAMS.values())}) == len(STREAMS) + 1
    assert all(re.fullmatch("[0-9a-f]{20}", each.stream_id) for each in STREAMS.values())


@pytest.mark.parametrize("name", STREAMS)
def test_the_id_of_a_model_changes_with_its_fields_and_no_others(name: str) -> None:
    changed = STREAMS[name].diffusion.diffusion_id != MODEL.diffusion_id
    assert changed == name.startswith("diffusion.")


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_survives_json(name: str) -> None:
    stream = STREAMS[name]
    again = StreamSpec.from_dict(json.loads(json.dumps(stream.as_dict())))
    assert again == stream and hash(again) == hash(stream)
    assert again.stream_id == stream.stream_id
    assert again.diffusion.diffusion_id == stream.diffusion.diffusion_id


@pytest.mark.parametrize("part", [("diffusion", "images", 5000), ("sampler", "rho", 6.5), (None, "shard_size", 500)])
def test_a_dictionary_of_an_older_stream_takes_the_defaults(part: tuple[str | None, str, Any]) -> None:
    """Only what differs is given, so a field can be added without breaking what was written before."""
    kind, name, value = part
    values: dict[str, Any] = {"diffusion": {}, "sampler": {}}
    (values[kind] if kind else values)[name] = value
    found = StreamSpec.from_dict(values)
    assert getattr(getattr(found, kind) if kind else found, name) == value
    assert found.batch_size == 500 and found.sampler.steps == 18 and found.diffusion.channels == 192


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**STREAM.as_dict(), "colour": 1}, "unknown fields of a StreamSpec: colour; got .*'colour': 1"),
        (
            {**STREAM.as_dict(), "diffusion": {**MODEL.as_dict(), "depth": 3, "age": 2}},
            "unknown fields of a DiffusionSpec: age, depth; got .*'depth': 3",
        ),
        ({**STREAM.as_dict(), "sampler": {"order": 2}}, "unknown fields of a Sampler: order; got {'order': 2}"),
    ],
)
def test_unknown_fields_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=f"^{message}"):
        StreamSpec.from_dict(values)


@pytest.mark.parametrize(
    ("kind", "name", "number"),
    [
        *((DiffusionSpec, name, 1) for name in ("data_std", "log_std", "learning_rate")),
        *((DiffusionSpec, name, 0) for name in ("log_mean", "dropout")),
        (Sampler, "sigma_min", 1),
        (Sampler, "sigma_max", 80),
        (Sampler, "rho", 7),
        (Sampler, "churn", 0),
        (Sampler, "churn", -0.0),
        (Sampler, "churn_min", 0),
        (Sampler, "churn_max", 50),
        (Sampler, "churn_noise", 1),
    ],
)
def test_equal_streams_have_equal_ids_however_a_number_was_written(kind: type, name: str, number: float) -> None:
    part = "diffusion" if kind is DiffusionSpec else "sampler"
    base = StreamSpec(diffusion=DiffusionSpec())
    written, meant = (replace(base, **{part: kind(**{name: value})}) for value in (number, abs(float(number))))
    assert written == meant
    assert written.stream_id == meant.stream_id
    assert written.digest(SHA) == meant.digest(SHA)


def test_ids_change_with_the_version_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def ids() -> set[str]:
        stream = replace(STREAM, diffusion=replace(MODEL))  # ids are kept once computed
        return {stream.stream_id, stream.diffusion.diffusion_id, stream.digest(SHA)}

    before = ids()
    monkeypatch.setattr(stream_module, "STREAM_VERSION", stream_module.STREAM_VERSION + 1)
    assert len(before | ids()) == 6


# -- the digest of the samples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"sampler.{name}" for name in SAMPLER_CHANGES] + list(CUT_CHANGES))
def test_the_digest_names_weights_sampler_and_cut(name: str) -> None:
    assert STREAMS[name].digest(SHA) != STREAM.digest(SHA)
    assert STREAMS[name].digest(SHA) != STREAMS[name].digest(SHA[::-1])
    assert re.fullmatch("[0-9a-f]{20}", STREAMS[name].digest(SHA))


@pytest.mark.parametrize("name", [name for name in MODEL_CHANGES if name not in MOVES_SAMPLES])
def test_the_digest_does_not_ask_how_weights_came_about(name: str) -> None:
    assert STREAMS[f"diffusion.{name}"].digest(SHA) == STREAM.digest(SHA)


@pytest.mark.parametrize("name", MOVES_SAMPLES)
def test_the_digest_changes_with_what_makes_other_samples_of_the_same_weights(name: str) -> None:
    """Imported weights can be declared twice, say with 17 and with 256 levels; the shards need a folder each."""
    assert STREAMS[f"diffusion.{name}"].digest(SHA) != STREAM.digest(SHA)


# -- values out of range ----------------------------------------------------------------------------------------------


def short(value: object) -> str:
    """Name of a value in the name of a test."""
    return repr(value)[:12]


WHOLE = ("n_train", "channels", "blocks", "images", "batch_size", "warmup_images", "ema_images")
NOT_POSITIVE = (0, -1.0, 10**400, float("inf"), float("nan"), "x", None, True)
BAD: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(WHOLE, (0, -1, 2.0, True, "3", None)),
    "levels": (1, 257, 17.0),
    "seed": (-1, 2**31, 0.0),
    **dict.fromkeys(("data_std", "log_std", "learning_rate"), NOT_POSITIVE),
    "log_mean": (float("-inf"), float("nan"), "x", None, True),
    "dropout": (-0.1, 1.0, float("nan"), "x", None, False),
    **dict.fromkeys(("network", "decay", "precision"), ("other", None)),
    "data_digest": ("0123", "X" * 20, None, 0),
    "image_shape": ((8, 8), (2, 8, 8), (1, 0, 8), (1, 8, 8, 1), (), 8, (1, 8.0, 8), "abc", None),
    "multipliers": (2, (0,), (1.0,), "12", None),
    "attention": (4, (0,), ("4",), None),
}


@pytest.mark.parametrize(("name", "got"), [(name, got) for name, values in BAD.items() for got in values], ids=short)
def test_a_model_out_of_range_says_its_field_and_what_it_got(name: str, got: Any) -> None:
    with pytest.raises(
        SpecError,
        match=f"^{name}( of the diffusion model)? must be .*; got {re.escape(repr(got))}( \\(did you mean .*)?$",
    ):
        DiffusionSpec(**{name: got})


BAD_SAMPLER: dict[str, tuple[Any, ...]] = {
    "steps": (1, 0, 18.0, True, None),
    "rho": NOT_POSITIVE,
    "churn_noise": NOT_POSITIVE,
    "churn": (-0.1, float("inf"), float("nan"), "x", None, True),
    "churn_min": (-0.1, float("inf"), float("nan"), "x", None, True),
    "churn_max": (-0.1, float("inf"), float("nan"), "x", False),
}


@pytest.mark.parametrize(
    ("name", "got"), [(name, got) for name, values in BAD_SAMPLER.items() for got in values], ids=short
)
def test_a_sampler_out_of_range_says_its_field_and_what_it_got(name: str, got: Any) -> None:
    with pytest.raises(SpecError, match=f"^{name} of the sampler must be .*; got {re.escape(repr(got))}$"):
        Sampler(**{name: got})


@pytest.mark.parametrize("name", ["sigma_min", "sigma_max"])
@pytest.mark.parametrize("got", NOT_POSITIVE, ids=short)
def test_noise_levels_are_positive_numbers(name: str, got: Any) -> None:
    with pytest.raises(SpecError, match=f"{name}.* must be .*; got .*{re.escape(str(got))}") as error:
        Sampler(**{name: got})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("smallest", "largest"), [(80.0, 80.0), (81.0, 80.0), (0.002, 0.001)])
def test_noise_levels_must_rise(smallest: float, largest: float) -> None:
    with pytest.raises(SpecError, match=f"sigma_min.* < sigma_max; got {smallest}, {largest}$"):
        Sampler(sigma_min=smallest, sigma_max=largest)


def test_churn_ends_above_where_it_begins() -> None:
    with pytest.raises(SpecError, match="^churn_max of the sampler must be a number >= 3 .*; got 2$"):
        Sampler(churn_min=3, churn_max=2)
    assert Sampler(churn_min=3, churn_max=3).churn_max == 3


@pytest.mark.parametrize("name", ["shard_size", "batch_size"])
@pytest.mark.parametrize("got", [0, -1, 500.0, True, None])
def test_a_stream_is_cut_into_whole_numbers(name: str, got: Any) -> None:
    with pytest.raises(SpecError, match=f"^{name} of a stream must be a whole number >= 1; got {got!r}$"):
        replace(STREAM, **{name: got})


def test_batches_fill_a_shard() -> None:
    with pytest.raises(SpecError, match="^batch_size of a stream must divide shard_size 2000; got 300$"):
        replace(STREAM, batch_size=300)
    with pytest.raises(SpecError, match="^precision of a stream must be one of float32, tf32, bf16; got 'half'$"):
        replace(STREAM, precision="half")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_shape": (3, 8, 9)}, "a U-Net of 2 resolutions needs .* divisible by 2; got 8x9"),
        ({"image_shape": (3, 7, 8)}, "a U-Net of 2 resolutions needs .* divisible by 2; got 7x8"),
        ({"attention": (5,)}, r"attention of the diffusion model must be one of 8, 4; got \(5,\)"),
        ({"channels": 6}, "channels of a U-Net must be divisible by 4; got 6"),
        ({"multipliers": ()}, "multipliers of a U-Net must hold one number for each resolution; got none"),
    ],
)
def test_fields_of_a_unet_that_cannot_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=f"^{message}") as error:
        replace(MODEL, **values)
    assert "\n" not in str(error.value)
    assert replace(MODEL, network="mlp", **values).image_shape == values.get("image_shape", MODEL.image_shape)


# -- sizes and noise levels -------------------------------------------------------------------------------------------


def test_sizes() -> None:
    stream = StreamSpec(diffusion=MODEL, shard_size=30, batch_size=10)
    assert stream.shard_shape == (30, 3, 8, 8)
    assert stream.image_bytes == 192
    assert [stream.shards(n) for n in (0, 1, 30, 31, 60)] == [0, 1, 1, 2, 2]
    assert stream.shards(stream.training_samples) == EVALUATION_SHARD  # the next one is for evaluation
    assert EVALUATION_SHARD < MOST_SHARDS
    assert [replace(MODEL, images=n, batch_size=256).steps for n in (1, 256, 257)] == [1, 1, 2]


def test_noise_levels_in_closed_form() -> None:
    """With rho = 2 square roots are evenly spaced; with rho = 1 the levels themselves."""
    assert Sampler(steps=3, sigma_min=1.0, sigma_max=9.0, rho=2.0).levels() == [9.0, 4.0, 1.0, 0.0]
    assert Sampler(steps=5, sigma_min=1.0, sigma_max=9.0, rho=1.0).levels() == [9.0, 7.0, 5.0, 3.0, 1.0, 0.0]
    assert Sampler(steps=2).levels() == pytest.approx([80.0, 0.002, 0.0])


def test_noise_levels_of_the_paper() -> None:
    """(80^(1/7) + i/17 (0.002^(1/7) - 80^(1/7)))^7 for i = 1, 9 and 16, with a pocket calculator."""
    levels = Sampler().levels()
    assert [levels[i] for i in (1, 9, 16)] == pytest.approx([57.586, 1.92334, 0.00752802], rel=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 18, 256])
@pytest.mark.parametrize("rho", [1.0, 7.0, 100.0])
def test_noise_levels_fall_from_the_largest_to_the_smallest_to_zero(steps: int, rho: float) -> None:
    settings = Sampler(steps=steps, rho=rho)
    levels = settings.levels()
    assert len(levels) == steps + 1
    assert levels[0] == pytest.approx(80.0) and levels[-2] == pytest.approx(0.002) and levels[-1] == 0.0
    assert all(a > b for a, b in pairwise(levels))
    assert settings.evaluations == 2 * steps - 1


@pytest.mark.parametrize("rho", [0.001, 0.1])
def test_a_rho_whose_noise_levels_are_no_numbers_is_refused(rho: float) -> None:
    """0.002^(1 / 0.1) vanishes beside 80^(1 / 0.1), so the last level above zero would be zero: a division by it."""
    with pytest.raises(SpecError, match=f"rho.*got {rho}"):
        Sampler(rho=rho)


def test_a_larger_rho_spends_more_levels_near_zero() -> None:
    middles = [Sampler(steps=19, rho=rho).levels()[9] for rho in (1.0, 3.0, 7.0, 20.0)]
    assert middles == sorted(middles, reverse=True)


def test_churn_goes_on_between_its_two_levels() -> None:
    settings = Sampler(churn=1.0, churn_min=0.5, churn_max=2.0)
    assert [settings.churns_at(t) for t in (0.4, 0.5, 1.0, 2.0, 2.1)] == [False, True, True, True, False]
    assert Sampler(churn=1.0).churns_at(80.0) and not Sampler().churns_at(1.0)


# -- trials -----------------------------------------------------------------------------------------------------------

DIGITS = StreamSpec(diffusion=DiffusionSpec())
OTHERS = StreamSpec(diffusion=DiffusionSpec(seed=1))


def trial(**changes: Any) -> TrialSpec:
    return TrialSpec(**{"method": "dmaapx", "stream": DIGITS, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": None}, "method 'dmaapx' needs a stream of samples; got None"),
        ({"stream": DIGITS.as_dict()}, "method 'dmaapx' needs a stream of samples; got {"),
        ({"method": "normal"}, "a stream is for methods dmaapx and mix; got one with 'normal'"),
        (
            {"method": "normal", "stream": None, "budget": 1},
            "budget is for methods dmaapx, mix and more_real; got 1 with 'normal'",
        ),
        ({"image_shape": (1, 8, 4)}, r"samples must have .* \(1, 8, 4\); got \(1, 8, 8\)"),
        ({"levels": 16}, "samples of 17 levels give levels 17 or 2; got 16"),
        ({"budget": -1}, "budget must be a whole number >= 0; got -1"),
        ({"budget": 1.0}, "budget must be a whole number >= 0; got 1.0"),
    ],
)
def test_trials_and_streams_that_cannot_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=f"^{message}"):
        trial(**changes)


@pytest.mark.parametrize("levels", [2, 17])
def test_samples_are_used_as_they_are_or_rounded_to_two_levels(levels: int) -> None:
    assert trial(levels=levels).levels == levels


def test_a_trial_trains_on_no_sample_that_is_kept_for_evaluation() -> None:
    small = replace(DIGITS, shard_size=1, batch_size=1)
    most = {"n_train": 1000, "batch_size": 100, "epochs": 900, "evaluate_at": (900,), "stream": small}
    assert trial(**most).samples == small.training_samples == 900_000
    longer = {**most, "epochs": 901, "evaluate_at": (901,)}
    with pytest.raises(SpecError, match="^a stream has 900,000 samples to train on; got a trial of 901,000$"):
        trial(**longer)
    assert trial(**longer, budget=1).samples == 1000


@pytest.mark.parametrize(
    ("epochs", "budget", "samples"),
    [(1, 0, 100), (1, 1, 90), (1, 2, 100), (2, 0, 180), (2, 1, 90), (2, 2, 180), (2, 9, 180)],
)
def test_samples_that_a_training_reads(epochs: int, budget: int, samples: int) -> None:
    """An epoch of 90 images in batches of 20 ends with the fifth step, at 100 images; two end with the ninth."""
    spec = trial(n_train=90, batch_size=20, epochs=epochs, evaluate_at=(epochs,), budget=budget)
    assert spec.samples == samples
    assert TrialSpec(n_train=90, batch_size=20).samples == 0


@pytest.mark.parametrize("name", STREAMS)
def test_a_trial_takes_its_whole_stream_through_json(name: str) -> None:
    model = STREAMS[name].diffusion
    data = {field: getattr(model, field) for field in ("image_shape", "dataset", "data_digest")}
    spec = trial(**data, stream=STREAMS[name], budget=3)
    again = TrialSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert again == spec and again.trial_id == spec.trial_id
    assert TrialSpec.from_dict(spec.as_dict()) == spec
    usual = {field: getattr(MODEL, field) for field in data}
    assert spec.trial_id != replace(spec, stream=STREAM, **usual).trial_id


def test_the_id_of_a_trial_changes_with_the_version_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row on samples of older code must not be taken for one on today's; normal training does not care."""
    spec, normal = trial(), TrialSpec()
    before = spec.trial_id, normal.trial_id
    for module in (stream_module, trial_module):
        monkeypatch.setattr(module, "STREAM_VERSION", stream_module.STREAM_VERSION + 1, raising=False)
    after = replace(spec, stream=replace(DIGITS)).trial_id, replace(normal).trial_id
    assert after[1] == before[1]
    assert after[0] != before[0]


def test_trials_of_different_streams_share_no_bundle() -> None:
    """Though the program is the same; budgets of one stream do go together."""
    kinds = (TrialSpec(), trial(), trial(budget=10), trial(stream=OTHERS))
    trials = tuple(replace(spec, seed=seed) for seed in range(3) for spec in kinds)
    assert len({spec.shape_key for spec in trials}) == 1
    bundles = pack(trials, CPU_CORE, 1)
    assert all(len({spec.stream for spec in bundle}) == 1 for bundle in bundles)
    assert sorted(len(bundle) for bundle in bundles) == [3, 3, 6]
    assert {spec.trial_id for bundle in bundles for spec in bundle} == {spec.trial_id for spec in trials}


def test_defaults_are_written_out() -> None:
    """A file in the storage says everything, not only what differs; the data digest alone came later, and is left out
    where it is empty, so that older models keep their ids."""
    values = DIGITS.as_dict()
    assert values["sampler"] == asdict(Sampler())
    assert values["diffusion"]["image_shape"] == [1, 8, 8]
    assert {field.name for field in fields(DiffusionSpec)} - set(values["diffusion"]) == {"data_digest"}
