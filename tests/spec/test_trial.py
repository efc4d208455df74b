import json
import re
from dataclasses import FrozenInstanceError, fields, replace
from itertools import pairwise

import pytest

from vaegen_ray.errors import SpecError
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.evaluation import Amortization, EvaluationSettings, Information, TwoSample
from vaegen_ray.spec.method import real_before
from vaegen_ray.spec.trial import ADDED, MEMBER_FIELDS, TrialSpec, bundle_id
from vaegen_ray.sweep.defaults import rising_epochs

RESIDUAL = {"architecture": "residual", "latent_per_mz": 4}
BASE = {"levels": 256, "n_train": 400, **RESIDUAL}
"""A trial in which every field below can be changed alone."""
CHANGES = {
    "dataset": "mnist",
    "levels": 17,
    "n_train": 401,
    "n_test": 100,
    "image_shape": (3, 8, 8),
    "architecture": "fully_connected",
    "nc": 257,
    "mz": 2,
    "latent_per_mz": 3,
    "residual_kernel": 1,
    "posterior_scale": "log_std",
    "likelihood": "gaussian",
    "sigma": 0.04,
    "mixture_components": 5,
    "beta": 0.5,
    "method": None,  # together with stream, below
    "budget": None,
    "stream": None,
    "seed": 1,
    "epochs": None,  # together with evaluate_at, below
    "batch_size": 49,
    "learning_rate": 2e-3,
    "precision": "bf16",
    "evaluate_at": (150, 300),
    "elbo_samples": 2,
    "real_percent": None,  # each together with a method that it is for, below
    "augment_probability": None,
    "mollify_std": None,
    "asleep_percent": None,
    "asleep_samples": None,
    "validation_percent": None,
    "measures": EvaluationSettings(amortization=Amortization()),
    "split": "checkerboard",
    "hidden_layers": None,  # the residual network has no choice
    "regulariser": "marginal_kl",
    "data_digest": "0123456789abcdef0123",
    "network_version": None,  # those of the package have none
    "augment_strength": None,  # together with a method that augments, below
    "validation": 40,
}
STREAM = StreamSpec(diffusion=DiffusionSpec(levels=256))
OTHER_STREAM = StreamSpec(diffusion=DiffusionSpec(levels=256, seed=1))
PAIRS = {
    "method": {"method": "dmaapx", "stream": STREAM},
    "budget": {"method": "dmaapx", "stream": STREAM, "budget": 10},
    "stream": {"method": "dmaapx", "stream": OTHER_STREAM},
    "real_percent": {"method": "mix", "stream": STREAM, "real_percent": 20},
    "augment_probability": {"method": "aug_naive", "augment_probability": 0.12},
    "augment_strength": {"method": "aug_tuned", "augment_strength": 1.5},
    "mollify_std": {"method": "mollify", "mollify_std": 1},
    "asleep_percent": {"method": "rha", "asleep_percent": 40},
    "asleep_samples": {"method": "rha", "asleep_samples": "reconstruction"},
    "validation_percent": {"method": "early_stopping", "validation_percent": 20},
    "hidden_layers": {"architecture": "fully_connected", "hidden_layers": 3},
    "network_version": {"architecture": "my_own", "network_version": 1},
    "epochs": {"epochs": 301, "evaluate_at": (301,)},
    "latent_per_mz": {"latent_per_mz": 8, "image_shape": (1, 8, 16)},
}


def changed(name: str) -> TrialSpec:
    return TrialSpec(**{**BASE, **PAIRS.get(name, {name: CHANGES[name]})})


NAMES = [name for name in CHANGES if name in PAIRS or CHANGES[name] is not None]


def test_every_field_is_tried():
    assert set(CHANGES) == {field.name for field in fields(TrialSpec)}
    assert set(NAMES) == set(CHANGES)


@pytest.mark.parametrize("name", NAMES)
def test_the_trial_id_changes_with_every_field(name):
    assert changed(name).trial_id != TrialSpec(**BASE).trial_id


def test_no_two_changes_share_an_id():
    assert len({changed(name).trial_id for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_key_changes_with_what_changes_the_program(name):
    assert (changed(name).shape_key == TrialSpec(**BASE).shape_key) == (name in MEMBER_FIELDS)


def test_members_differ_in_seed_beta_and_what_they_are_trained_on():
    images = {"method", "budget", "stream", "real_percent"}
    images |= {"augment_probability", "augment_strength", "mollify_std"}
    assert set(MEMBER_FIELDS) == {"seed", "beta"} | images
    assert changed("stream").shape_key == changed("budget").shape_key == TrialSpec(**BASE).shape_key


@pytest.mark.parametrize(
    "method", ["dmaapx", "mix", "aug_naive", "aug_tuned", "mollify", "early_stopping", "rha", "more_real"]
)
def test_methods_share_a_bundle_unless_they_run_another_program_or_need_more_images(method):
    values = {"stream": STREAM} if method in ("dmaapx", "mix") else {"budget": 2} if method == "more_real" else {}
    spec = TrialSpec(**BASE, method=method, **values)
    assert (spec.shape_key == TrialSpec(**BASE).shape_key) == (method not in ("rha", "more_real"))
    assert spec.real_images == (800 if method == "more_real" else 400)


def test_pinned_trial_id():
    """When this fails, no storage finds its finished trials: raise NUMERICS_VERSION on purpose or mend."""
    assert TrialSpec().trial_id == "28b78d1ab1f367595095"
    assert TrialSpec(**BASE, seed=3, beta=0.1).trial_id == "2a2d20f1d4c6fe7e5ef3"


def test_a_list_is_a_tuple_and_a_whole_number_a_float():
    written = TrialSpec(image_shape=[1, 8, 8], evaluate_at=[10, 300], beta=2, sigma=1, learning_rate=1)
    meant = TrialSpec(image_shape=(1, 8, 8), evaluate_at=(10, 300), beta=2.0, sigma=1.0, learning_rate=1.0)
    assert written == meant and hash(written) == hash(meant)
    assert written.trial_id == meant.trial_id and written.shape_key == meant.shape_key


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_through_json(name):
    spec = changed(name)
    again = TrialSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert again == spec and again.trial_id == spec.trial_id


def test_the_json_of_a_trial_holds_all_fields_and_the_version_of_the_numerics():
    spec = TrialSpec()
    values = json.loads(spec.spec_json)
    assert values.pop("numerics_version") >= 1
    assert {**values, **ADDED} == spec.as_dict()
    assert not set(values) & set(ADDED)


@pytest.mark.parametrize("name", [name for name in ADDED if name not in ("stream", "budget")])
def test_a_field_that_was_added_is_written_where_it_says_something(name):
    assert name in json.loads(changed(name).spec_json)


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        TrialSpec().nc = 3  # type: ignore[misc]


def test_replacing_a_field_makes_a_new_id():
    spec = TrialSpec()
    assert spec.trial_id == TrialSpec().trial_id  # computed and kept
    other = replace(spec, seed=1)
    assert other.trial_id == TrialSpec(seed=1).trial_id != spec.trial_id


def test_unknown_fields_are_named():
    with pytest.raises(SpecError, match="unknown fields of a trial: colour, depth; got .*'depth': 3"):
        TrialSpec.from_dict({"nc": 4, "depth": 3, "colour": 1})


WHOLE = ("n_train", "nc", "mz", "latent_per_mz", "mixture_components", "epochs", "batch_size", "elbo_samples")
BAD = {
    **dict.fromkeys(WHOLE, (0, -1, 2.0, True, "3", None)),
    "levels": (1, 257, 2.0),
    "seed": (-1, 2**31, 0.0),
    "sigma": (0, -1.0, float("inf"), "x", None),
    "learning_rate": (0, -1.0, float("nan"), "x", None),
    "validation": (-1, 2.0, True, "3", None),
    "augment_strength": (0, -1.0, 100.5, float("inf"), "x", None),
    "augment_probability": (0, 1.01, float("nan"), "x", None),
    "mollify_std": (0, -1.0, float("inf"), "x", None),
    **dict.fromkeys(("real_percent", "asleep_percent", "validation_percent"), (0, 100, 1.0, True, None)),
    "asleep_samples": ("posterior", None),
    "beta": (-0.1, 1e7, 10**400, float("nan"), float("inf"), "x", None),
    **dict.fromkeys(("architecture", "likelihood", "method", "posterior_scale", "precision"), ("other", None)),
    **dict.fromkeys(("split", "regulariser"), ("other", None)),
    "hidden_layers": (-1, 9, 1.0, True, None),
    "data_digest": ("0123", "X" * 20, None, 0),
    "network_version": (-1, 1.0, True, None, 1),
    "residual_kernel": (0, 2, 5, 3.0, True),
    "image_shape": ((8, 8), (2, 8, 8), (1, 0, 8), (1, 8, 8, 1), (), 8, (1, 8.0, 8), "abc"),
    "evaluate_at": ((), (10,), (300, 10), (10, 10, 300), (0, 300), (1.5, 300), (True, 300), (10, 301), 300),
}


@pytest.mark.parametrize(("name", "got"), [(name, got) for name, values in BAD.items() for got in values])
def test_a_field_out_of_range_says_its_name_and_what_it_got(name, got):
    with pytest.raises(SpecError, match=f"^{name} must be .*; got {re.escape(repr(got))}( \\(did you mean .*)?$"):
        TrialSpec(**{name: got})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 501}, r"batch_size must be <= n_train \(500\); got 501"),
        ({**RESIDUAL, "image_shape": (1, 10, 8)}, "the residual network needs .* divisible by 4; got 10x8"),
        ({**RESIDUAL, "image_shape": (1, 8, 6)}, "the residual network needs .* divisible by 4; got 8x6"),
        ({**RESIDUAL, "latent_per_mz": 2}, "latent_per_mz of the residual network must be .* 2x2; got 2"),
        (
            {"likelihood": "logistic", "levels": 256, "image_shape": (3, 8, 8)},
            "likelihood 'logistic' .*; got 3 channels",
        ),
        ({"likelihood": "logistic", "levels": 2}, "likelihood 'logistic' needs levels >= 3; got 2"),
        ({"likelihood": "logistic_mixture", "levels": 2}, "likelihood 'logistic_mixture' needs levels >= 3; got 2"),
        (
            {"architecture": "convolutional", "hidden_layers": 0},
            "hidden_layers of the convolutional network must be from 1 to as many times as 8x8 can be halved; got 0",
        ),
        (
            {"architecture": "convolutional", "hidden_layers": 4},
            "hidden_layers of the convolutional network must be .* 8x8 can be halved; got 4",
        ),
        ({**RESIDUAL, "hidden_layers": 1}, "hidden_layers of the residual network must be 2; got 1"),
        ({"regulariser": "marginal_kl", "batch_size": 1}, "regulariser 'marginal_kl' needs batch_size >= 2; got 1"),
        (
            {"measures": EvaluationSettings(information=Information()), "n_train": 1, "batch_size": 1},
            "information needs n_train >= 2; got 1",
        ),
        ({"real_percent": 20}, "real_percent is for methods with mix; got 20 with 'normal'"),
        ({"method": "mix", "real_percent": 20}, "method 'mix' needs a stream of samples; got None"),
        (
            {"method": "aug_naive", "mollify_std": 1},
            "mollify_std is for methods with mollify; got 1.0 with 'aug_naive'",
        ),
        ({"method": "mollify", "augment_probability": 0.2}, "augment_probability is for methods with augmentation"),
        ({"asleep_percent": 20}, "asleep_percent is for methods with rha; got 20 with 'normal'"),
        ({"method": "rha", "epochs": 1, "evaluate_at": (1,)}, "rha needs epochs >= 2, to freeze the decoder.*; got 1"),
        ({"method": "rha", "asleep_percent": 99}, "asleep_percent must give .* in a batch of 50; got 99"),
        ({"method": "rha", "batch_size": 20, "asleep_percent": 2}, "asleep_percent must give .* batch of 20; got 2"),
        ({"stream": STREAM}, "a stream is for methods dmaapx and mix; got one with 'normal'"),
        ({"budget": 2, "method": "rha"}, "budget is for methods dmaapx, mix and more_real; got 2 with 'rha'"),
        ({"method": "more_real"}, "method 'more_real' needs a budget of at least 2 x n_train images; got 0"),
        (
            {"method": "more_real", "budget": 1},
            "method 'more_real' needs a budget of at least 2 x n_train images; got 1",
        ),
        (
            {"method": "early_stopping", "batch_size": 451},
            "early_stopping must leave at least a batch of 451 of 500 images.*; got validation_percent 10",
        ),
        ({"validation": 451}, "validation must leave at least a batch of 50 of 500 images; got 451"),
        (
            {"validation": 10, "method": "early_stopping"},
            "validation is for methods that train on the training set itself, to its end; got 10 with 'early_stopping'",
        ),
        ({"validation": 10, "method": "dmaapx", "stream": STREAM}, "validation is for .*; got 10 with 'dmaapx'"),
        ({"augment_strength": 2}, "augment_strength is for methods with augmentation; got 2.0 with 'normal'"),
        ({"measures": "all"}, "measures of a trial must be EvaluationSettings or None; got 'all'"),
        ({"measures": EvaluationSettings(gaps_at=(7,))}, r"gaps_at must be out of evaluate_at \(300,\); got \(7,\)"),
        (
            {"measures": EvaluationSettings(two_sample=TwoSample())},
            "a two-sample test needs dmaapx without augmentation; got 'normal'",
        ),
    ],
)
def test_fields_that_cannot_go_together(values, message):
    with pytest.raises(SpecError, match="^" + message) as error:
        TrialSpec(**values)
    assert "\n" not in str(error.value)


def test_choices_are_listed():
    with pytest.raises(
        SpecError, match="^likelihood must be one of bernoulli, gaussian, logistic, logistic_mixture; got 'x'$"
    ):
        TrialSpec(likelihood="x")


@pytest.mark.parametrize(("n_train", "batch"), [(500, 50), (90, 20), (7, 7), (7, 3), (100, 99), (1, 1)])
def test_steps_until_is_the_first_step_at_which_the_epochs_are_complete(n_train, batch):
    spec = TrialSpec(n_train=n_train, batch_size=batch, epochs=30, evaluate_at=(30,))
    for epoch in range(31):
        steps = spec.steps_until(epoch)
        assert steps * batch >= epoch * n_train
        assert epoch == 0 or (steps - 1) * batch < epoch * n_train
    assert spec.steps == spec.steps_until(30)
    assert TrialSpec(n_train=90, batch_size=20).steps_until(1) == 5
    assert TrialSpec(n_train=90, batch_size=20).steps_until(2) == 9


def test_sizes():
    spec = TrialSpec(mz=3, latent_per_mz=5, image_shape=(3, 4, 7))
    assert spec.latent_dim == 15
    assert spec.pixels == 84


def test_a_bundle_is_named_by_its_members_in_order():
    a, b = TrialSpec(seed=1), TrialSpec(seed=2)
    names = [bundle_id([a]), bundle_id([a, b]), bundle_id([b, a]), bundle_id([b])]
    assert len(set(names)) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert bundle_id((a, b)) == names[1]


@pytest.mark.parametrize("last", [1, 2, 3, 12, 300, 1000])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_rising_epochs_can_be_evaluated_at(last, count):
    epochs = rising_epochs(last, count)
    assert TrialSpec(epochs=last, evaluate_at=epochs).evaluate_at == epochs
    assert len(epochs) <= count and (count == 1 or epochs[0] == 1)


def test_rising_epochs_are_even_in_the_logarithm():
    assert rising_epochs(1000, 4) == (1, 10, 100, 1000)
    with pytest.raises(SpecError, match="got 0"):
        rising_epochs(0)


def test_what_a_mixture_reads():
    """300 epochs of 500 images: 150,000 positions, of which 20 % are real."""
    spec = TrialSpec(method="mix", stream=StreamSpec(diffusion=DiffusionSpec()), real_percent=20)
    assert spec.samples == 120_000 and replace(spec, budget=3).samples == 1500
    for percent in (1, 33, 99):
        places = [real_before(position, percent) for position in range(1001)]
        steps = {b - a for a, b in pairwise(places)}
        assert steps == {0, 1} and places[0] == 0 and places[-1] == 10 * percent


def test_where_the_decoder_is_frozen():
    spec = TrialSpec(method="rha", n_train=90, batch_size=20, epochs=7, evaluate_at=(7,))
    assert spec.freeze_step == spec.steps_until(3) and TrialSpec().freeze_step is None
