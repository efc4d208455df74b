"""Sweeps, their bases, their plans in words, and the declaration of the double descent sweep."""

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from vaegen_ray.bundle.cost import CPU_CORE
from vaegen_ray.bundle.diffusion_cost import diffusion_seconds
from vaegen_ray.bundle.packing import pack
from vaegen_ray.bundle.plan import describe, hours
from vaegen_ray.data.catalog import CATALOG
from vaegen_ray.errors import SpecError
from vaegen_ray.models.layout import params_total
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_measures, base_spec, base_stream
from vaegen_ray.sweep.sweep import PRESETS, Sweep, data_key

SWEEPS = Path(__file__).parents[2] / "sweeps"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SWEEPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(**given: object) -> argparse.Namespace:
    nothing = dict.fromkeys(("dataset", "seeds", "nc", "mz", "turn", "k", "diffusion_fraction", "diffusion_images"))
    return argparse.Namespace(**{**nothing, "methods": ("normal",), "diffusion_weights": "", **given})


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("architecture", ["fully_connected", "residual", None])
def test_every_data_set_has_a_base_that_makes_trials(name: str, architecture: str | None) -> None:
    spec = TrialSpec(**base_spec(name, architecture=architecture, epochs=7), evaluate_at=(7,))
    assert spec.image_shape == CATALOG[name].image_shape
    assert spec.architecture == (architecture or ("residual" if name == "cifar10" else "fully_connected"))


def test_grey_digits_get_a_likelihood_of_grey_levels() -> None:
    assert base_spec("digits", levels=17)["likelihood"] == "logistic"
    assert base_spec("digits")["likelihood"] == "bernoulli"
    with pytest.raises(SpecError, match="5"):
        base_spec("digits", levels=5)


def test_the_laptop_path_is_figure_8s() -> None:
    module = script("double_descent")
    sweep = module.declare(options(preset="laptop"))
    path = list(dict.fromkeys((spec.nc, spec.mz) for spec in sweep.trials))
    first = [(2**i, 1) for i in range(9)]
    assert path == [*first, *((256, 2**i) for i in range(1, 6)), (512, 32)]
    assert len(sweep.trials) == 45
    assert {spec.seed for spec in sweep.trials} == {0, 1, 2}


def test_the_paper_preset_is_the_papers_setting() -> None:
    trials = script("double_descent").declare(options(preset="paper")).trials
    assert {(s.dataset, s.architecture, s.likelihood, s.epochs, s.n_train) for s in trials} == {
        ("cifar10", "residual", "logistic_mixture", 1000, 50000)
    }
    assert {spec.mz for spec in trials} == {1, 2, 4, 8, 16, 32, 64}
    assert (min(spec.nc for spec in trials), max(spec.nc for spec in trials)) == (1, 512)
    assert {spec.latent_dim for spec in trials if spec.mz == 1} == {64}


@pytest.mark.parametrize("preset", PRESETS)
def test_more_seeds_extend_a_sweep(preset: str) -> None:
    declare = script("double_descent").declare
    few, more = (set(declare(options(preset=preset, seeds=n)).trials) for n in (2, 3))
    assert few < more
    assert {spec.seed for spec in more - few} == {2}


def test_widths_can_be_chosen() -> None:
    trials = script("double_descent").declare(options(preset="smoke", nc=(2, 6), mz=(1, 3), seeds=1)).trials
    assert {(spec.nc, spec.mz) for spec in trials} >= {(2, 1), (6, 1), (6, 3)}


def test_a_sweep_needs_trials_and_each_once() -> None:
    with pytest.raises(SpecError, match="at least one"):
        Sweep(name="x", trials=())
    with pytest.raises(SpecError, match="twice"):
        Sweep(name="x", trials=(TrialSpec(), TrialSpec(nc=3), TrialSpec()))


@pytest.mark.parametrize(
    "fields, streamed, message",
    [
        ({"method": "more_real", "budget": 2}, None, "no more real ones; got method 'more_real'"),
        ({"method": "dmaapx"}, 200, "at most the 160 training images of its VAE; got the split 'random' and 200"),
        (
            {"method": "dmaapx", "split": "constant_density"},
            160,
            "needs a random split .*got the split 'constant_density'",
        ),
        ({"measures": base_measures("digits", "smoke", ("representation",))}, None, "data set with classes; got tetro"),
    ],
)
def test_trials_of_a_generated_data_set_cannot_learn_from_its_test_images(
    fields: dict, streamed: int | None, message: str
) -> None:
    stream = base_stream("tetrominoes1k", "smoke", n_train=streamed) if streamed else None
    base = base_spec("tetrominoes1k", n_train=160)
    Sweep(name="x", trials=(TrialSpec(**base),))
    with pytest.raises(SpecError, match=message):
        Sweep(name="x", trials=(TrialSpec(**base | fields, stream=stream),))
    allowed = base_stream("tetrominoes1k", "smoke", n_train=160)
    Sweep(name="x", trials=(TrialSpec(**base, method="dmaapx", stream=allowed),))


def test_data_is_named_once_for_all_trials_that_share_it() -> None:
    sweep = Sweep(name="x", trials=(TrialSpec(), TrialSpec(seed=1), TrialSpec(n_train=100)))
    assert [data_key(spec) for spec in sweep.datasets] == ["digits-2-500-1x8x8", "digits-2-100-1x8x8"]


def test_a_plan_counts_right() -> None:
    specs = tuple(TrialSpec(nc=nc, seed=s, n_train=100, epochs=3, evaluate_at=(3,)) for nc in (4, 8) for s in (0, 1))
    text = describe(Sweep(name="tiny", trials=specs), pack(specs, CPU_CORE, 2, 2), CPU_CORE, 2)
    assert "4 declared, 4 to train" in text
    assert "2 of 2 to 2 VAEs" in text
    assert f"{params_total(specs[0]):,} to {params_total(specs[-1]):,} a VAE" in text
    assert "24 optimiser steps" in text  # 4 VAEs, 3 epochs of 100 / 50 steps
    multiplications = sum(2 * 50 * 6 * (2 * (64 * nc + nc * nc) + 6 * nc) for nc in (4, 8))  # 2 VAEs, 6 steps of 50
    assert f"{3 * 2 * multiplications:.3g} in training" in text
    assert "nothing to train" in describe(Sweep(name="tiny", trials=specs), [], CPU_CORE, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_dmaapx_is_a_second_curve_over_the_same_points(preset: str) -> None:
    declare = script("double_descent").declare
    normal = declare(options(preset=preset)).trials
    both = declare(options(preset=preset, methods=("normal", "dmaapx"))).trials
    assert both[: len(normal)] == normal
    others = both[len(normal) :]
    assert [(spec.nc, spec.mz, spec.seed) for spec in others] == [(spec.nc, spec.mz, spec.seed) for spec in normal]
    (stream,) = {spec.stream for spec in others}
    assert stream is not None and stream.diffusion.n_train == normal[0].n_train
    assert {(spec.method, spec.budget) for spec in others} == {("dmaapx", 0)}


def test_the_budgets_of_the_paper_and_of_the_laptop() -> None:
    declare = script("synthetic_budget").declare
    laptop = declare(options(preset="laptop")).trials
    assert [(spec.method, spec.budget) for spec in laptop if spec.seed == 0] == [
        ("normal", 0),
        *(("dmaapx", k) for k in (1, 2, 5, 10, 20, 50, 0)),
    ]
    assert {(spec.nc, spec.latent_dim, spec.n_train, spec.epochs) for spec in laptop} == {(256, 8, 1000, 300)}
    assert len(laptop) == 8 * 3
    paper = declare(options(preset="paper")).trials
    assert {spec.budget for spec in paper} == {0, 1, 2, 5, 10, 20, 50, 100, 250, 1000}
    (stream,) = {spec.stream for spec in paper} - {None}
    assert stream.sampler.evaluations == 35
    assert stream.diffusion.images == 200_000_000


def test_the_diffusion_model_may_see_a_part_of_the_training_set() -> None:
    declare = script("synthetic_budget").declare
    (stream,) = declare(options(preset="laptop", diffusion_fraction=0.3, diffusion_images=5000)).streams
    assert (stream.diffusion.n_train, stream.diffusion.images) == (300, 5000)


def test_the_plan_says_what_is_to_be_sampled() -> None:
    sweep = script("synthetic_budget").declare(options(preset="laptop"))
    words = describe(sweep, pack(sweep.trials, CPU_CORE, 2), CPU_CORE, 2)
    assert "300,000, 19 evaluations of the network each, in 150 shards of 2,000: " in words and "18.3 MiB" in words
    (stream,) = sweep.streams
    before = hours(diffusion_seconds(stream.diffusion, CPU_CORE, 2))
    assert f"images to see, 1,000 of digits: {before} before the first VAE" in words
    trained = {stream.diffusion.diffusion_id}
    words = describe(sweep, pack(sweep.trials, CPU_CORE, 2), CPU_CORE, 2, trained=trained)
    assert "1,000 of digits: is trained (model" in words
