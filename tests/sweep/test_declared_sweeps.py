"""What the sweeps of xiao2024 declare: their methods, points and evaluations, by preset; and what they refuse."""

import argparse
import importlib.util
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vaegen_ray.bundle.cost import CPU_CORE
from vaegen_ray.bundle.diffusion_cost import network_cost
from vaegen_ray.bundle.packing import pack
from vaegen_ray.bundle.plan import describe
from vaegen_ray.errors import SpecError, VaegenWarning
from vaegen_ray.launch import options as shared
from vaegen_ray.launch.presets import parse_methods, presets, spread
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import PRESETS, Sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
OURS = (
    *("complexity_axes", "diffusion_subsets", "generalization_gaps", "latent_smoothness", "mollification"),
    *("more_real_data", "real_synthetic_mix", "representation", "reverse_half_asleep", "synthetic_budget"),
)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SWEEPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def declared(name: str, *argv: str) -> Sweep:
    module = script(name)
    parser: argparse.ArgumentParser = shared.parser("a sweep")
    getattr(module, "add_options", None or getattr(module, "add_shared", None))(parser)
    return module.declare(parser.parse_args(list(argv)))


def once(sweep: Sweep) -> list[TrialSpec]:
    """The trials of seed 0."""
    return [spec for spec in sweep.trials if spec.seed == 0]


def test_every_script_is_tried() -> None:
    others = {"double_descent", "rate_distortion", "inference_gap", "search"}
    assert {path.stem for path in SWEEPS.glob("*.py")} == {*OURS, *others}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_sweep_is_named_as_its_script_and_every_point_has_the_same_seeds(name: str, preset: str) -> None:
    sweep = declared(name, "--preset", preset)
    assert sweep.name == name and sweep.figures
    counts = Counter(spec.seed for spec in sweep.trials)
    assert len(set(counts.values())) == 1 and sorted(counts) == list(range(len(counts)))
    assert len(counts) >= 3 or preset == "smoke"


@pytest.mark.parametrize("name", OURS)
def test_the_paper_preset_is_the_papers_setting(name: str) -> None:
    trials = declared(name, "--preset", "paper").trials
    assert {(s.dataset, s.architecture, s.likelihood, s.epochs) for s in trials} == {
        ("cifar10", "residual", "logistic_mixture", 1000)
    }
    assert {s.n_train for s in trials} == {5000 if name == "more_real_data" else 50_000}
    assert (256, 1) in {(s.nc, s.mz) for s in trials}


@pytest.mark.parametrize("name", OURS)
def test_more_seeds_and_a_data_set_of_ones_own(name: str) -> None:
    few, more = (set(declared(name, "--preset", "laptop", "--seeds", n).trials) for n in ("1", "2"))
    assert few < more and {spec.seed for spec in more - few} == {1}
    other = declared(name, "--preset", "paper", "--dataset", "fashion_mnist", "--epochs", "30", "--n-train", "1000")
    assert {(s.dataset, s.likelihood, s.epochs) for s in other.trials} == {("fashion_mnist", "gaussian", 30)}
    if name not in ("complexity_axes",):
        assert {(s.nc, s.mz) for s in other.trials} == {(512, 1)}  # Appendix B.1


EVERY = (*OURS, "double_descent", "inference_gap", "rate_distortion", "search")
EARLY = ("generalization_gaps", "more_real_data", "rate_distortion")


def batches(sweep: Any) -> set[int]:
    return {spec.batch_size for spec in sweep.trials} if isinstance(sweep, Sweep) else {sweep.fields["batch_size"]}


@pytest.mark.parametrize("name", EVERY)
def test_fewer_images_than_a_batch_make_a_smaller_batch_that_is_said(name: str) -> None:
    """Also where a part of them is kept for validation: all VAEs of a sweep then have that batch size."""
    left = 18 if name in EARLY else 16 if name == "search" else 20
    with pytest.warns(VaegenWarning, match=f"^the batch size is {left}, because there are {left} images to train on"):
        assert min(batches(declared(name, "--preset", "smoke", "--n-train", "20"))) == left


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_size_that_is_given_is_that_of_every_vae(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", VaegenWarning)
        assert batches(declared(name, "--preset", "smoke", "--n-train", "60", "--batch-size", "7")) == {7}
        with pytest.raises(SpecError, match=r"batch_size must be <= n_train \(60\); got 61"):
            declared(name, "--preset", "smoke", "--n-train", "60", "--batch-size", "61")


def test_a_search_has_one_place_for_the_batch_size() -> None:
    with pytest.raises(SpecError, match="must be given by --batch-size or --space; got both, 8 in one"):
        declared("search", "--batch-size", "8", "--space", "batch_size=8:16")


def test_the_three_gaps_by_method() -> None:
    paper = once(declared("generalization_gaps", "--preset", "paper"))
    assert [s.method for s in paper] == ["normal", "dmaapx", "aug_naive", "aug_tuned", "early_stopping"]
    (measures,) = {s.measures for s in paper}
    assert (measures.robustness.images, measures.robustness.steps, measures.robustness.radius) == (20, 100, 0.05)
    assert (measures.robustness.restarts, measures.robustness.step_size) == (10, 1.0)
    assert measures.gaps_at[-1] < 1000 and len(measures.gaps_at) >= 5
    mnist = once(declared("generalization_gaps", "--preset", "paper", "--dataset", "binary_mnist"))[0]
    attack = mnist.measures.robustness
    assert (attack.images, attack.restarts, attack.steps, attack.radius) == (50, 10, 50, 0.1)  # Table 2
    mixture = declared(
        "generalization_gaps", "--preset", "paper", "--dataset", "fashion_mnist", "--likelihood", "logistic_mixture"
    )
    assert {s.likelihood for s in mixture.trials} == {"logistic_mixture"}  # Figure 12


def test_both_axes_of_complexity() -> None:
    paper = once(declared("complexity_axes", "--preset", "paper"))
    points = {(s.nc, s.mz) for s in paper if s.method == "normal"}
    assert points == {(s.nc, s.mz) for s in paper if s.method == "dmaapx"}
    assert {mz for nc, mz in points if nc == 256} >= {1, 2, 4, 8, 16, 32, 64}
    for mz in (1, 2, 8, 64):
        assert {nc for nc, at in points if at == mz} >= {1, 256, 512}
    assert {(s.nc, s.mz, s.method) for s in paper if s.measures} == {(256, 1, "normal"), (256, 10, "normal")}


def test_lists_of_sizes_stay_in_the_options() -> None:
    """They are written into sweep.json as the user gave them."""
    module = script("complexity_axes")
    parser = shared.parser("a sweep")
    module.add_options(parser)
    options = parser.parse_args(["--preset", "smoke", "--nc", "2,4", "--mz", "1,3"])
    sweep = module.declare(options)
    assert {(s.nc, s.mz) for s in sweep.trials} == {(4, 1), (4, 3), (2, 1)}
    assert (options.nc, options.mz) == ((2, 4), (1, 3))


def test_reverse_half_asleep_is_measured_where_the_decoder_is_frozen() -> None:
    sweep = once(declared("reverse_half_asleep", "--asleep-percent", "30", "--asleep-samples", "reconstruction"))
    assert [s.method for s in sweep] == ["normal", "rha", "dmaapx", "dmaapx+rha"]
    assert all(150 in s.evaluate_at for s in sweep)
    asleep = {(s.asleep_percent, s.asleep_samples) for s in sweep if "rha" in s.method}
    assert asleep == {(30, "reconstruction")}


def test_mollification() -> None:
    sweep = once(declared("mollification", "--mollify-std", "0.25"))
    assert [(s.method, s.mollify_std) for s in sweep] == [
        *(("normal", 0.5), ("mollify", 0.25), ("dmaapx", 0.5), ("dmaapx+mollify", 0.25))
    ]


def test_mixtures_from_dmaapx_to_normal_training() -> None:
    sweep = once(declared("real_synthetic_mix", "--preset", "paper"))
    plain = [(s.method, s.real_percent) for s in sweep if "aug" not in s.method]
    assert plain == [("dmaapx", 50), *(("mix", x) for x in (20, 40, 60, 80)), ("normal", 50)]
    assert [s.method for s in sweep if "aug" in s.method] == ["dmaapx+aug_tuned", *["mix+aug_tuned"] * 4, "aug_tuned"]


def test_parts_of_the_training_set_for_the_diffusion_model() -> None:
    sweep = once(declared("diffusion_subsets", "--preset", "paper"))
    assert [s.method for s in sweep] == ["normal"] + ["dmaapx"] * 6
    images = [s.stream.diffusion.n_train for s in sweep[1:]]
    assert images == [5000, 15_000, 25_000, 35_000, 45_000, 50_000]
    assert all(s.measures.two_sample for s in sweep[1:]) and sweep[0].measures is None
    assert {s.n_train for s in sweep} == {50_000}
    two = sweep[1].measures.two_sample  # Appendix D.3
    assert (two.epochs, two.batch_size, two.learning_rate, two.momentum, two.weight_decay) == (14, 256, 1e-3, 0.9, 5e-4)


def test_what_representations_are_asked_for() -> None:
    paper, laptop = (
        declared("representation", "--preset", preset).trials[0].measures for preset in ("paper", "laptop")
    )
    assert paper.representation.corruptions and laptop.representation.corruptions
    assert paper.representation.severity == 5 and paper.sample_quality and laptop.sample_quality is None


def test_more_real_data_and_as_many_samples() -> None:
    sweep = once(declared("more_real_data"))
    assert [(s.method, s.budget) for s in sweep] == [
        *(("normal", 0), ("early_stopping", 0)),
        *(("more_real", k) for k in (2, 3, 5)),
        *(("dmaapx", k) for k in (1, 2, 3, 5, 0)),
    ]
    (stream,) = {s.stream for s in sweep} - {None}
    assert stream.diffusion.n_train == 200  # the samples know no more than D_train


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10"])
def test_smoke_is_small_on_every_data_set(name: str, dataset: str) -> None:
    """Few images everywhere; so few FLOPs that a core that does 1e11 of them a second is done in half a minute."""
    sweep = declared(name, "--preset", "smoke", "--dataset", dataset)
    assert {spec.dataset for spec in sweep.trials} == {dataset}
    assert max(spec.real_images for spec in sweep.trials) <= 400
    assert {spec.n_test for spec in sweep.trials} == {200}
    for stream in sweep.streams:
        model = stream.diffusion
        samples = max(spec.samples for spec in sweep.trials if spec.stream == stream) + 400
        evaluations = 3 * model.images + stream.sampler.evaluations * samples
        assert evaluations * network_cost(model).flops < 3e12


def test_smoke_on_its_own_data_set_is_as_before() -> None:
    specs = declared("latent_smoothness", "--preset", "smoke").trials
    assert {spec.n_test for spec in specs} == {0} and {spec.n_train for spec in specs} == {100}


def test_what_the_user_says_of_images_counts_more_than_smoke() -> None:
    argv = ("--preset", "smoke", "--dataset", "mnist", "--n-train", "300", "--n-test", "50")
    assert {(spec.n_train, spec.n_test) for spec in declared("latent_smoothness", *argv).trials} == {(300, 50)}


WRONG = [
    ("more_real_data", ("--k", "2,9"), "--k must hold numbers from 2 to 5, .*; got 2,9"),
    ("more_real_data", ("--k", "1,2"), "--k must hold numbers from 2 to 5, .*; got 1,2"),
    ("more_real_data", ("--k", "2,2"), "argument --k: must be whole numbers .*, each once and .*; got '2,2'"),
    ("synthetic_budget", ("--k", "2,1,2"), "argument --k: must be whole numbers .*, each once and .*; got '2,1,2'"),
    ("latent_smoothness", ("--nc", "0"), "argument --nc: must be a whole number >= 1; got '0'"),
    ("reverse_half_asleep", ("--epochs", "1"), "Reverse Half Asleep needs --epochs of at least 2, .*; got 1"),
    ("reverse_half_asleep", ("--asleep-percent", "0"), "argument --asleep-percent: .* >= 1; got '0'"),
    ("reverse_half_asleep", ("--asleep-percent", "100"), "argument --asleep-percent: .* <= 99; got '100'"),
    ("mollification", ("--mollify-std", "0"), "mollify_std must be a finite number > 0; got 0.0"),
    ("generalization_gaps", ("--methods", "normal,naive"), "argument --methods: method must be one of .*; got 'naive'"),
    ("generalization_gaps", ("--methods", "rha,rha"), "argument --methods: must hold each method once; got 'rha,rha'"),
    ("generalization_gaps", ("--likelihood", "poisson"), "argument --likelihood: invalid choice: 'poisson'"),
    ("complexity_axes", ("--turn", "7"), "--turn must be one of 4, 16, 64, 256, 512; got 7"),
    ("representation", ("--dataset", "imagenet"), "dataset must be one of .*; got 'imagenet'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argv", "message"), WRONG)
def test_a_wrong_option_is_one_clear_line(name: str, argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError, match=f"^{message}") as error:
        declared(name, *argv)
    assert "\n" not in str(error.value)


def test_the_plan_says_what_is_measured_beside_the_elbo() -> None:
    sweep = declared("complexity_axes", "--preset", "smoke")
    words = describe(sweep, pack(sweep.trials, CPU_CORE, 2), CPU_CORE, 2)
    assert "measured       amortization of 4 VAEs, robustness of 4 VAEs" in words


def test_epochs_are_spread_evenly_and_end_with_the_last() -> None:
    epochs = (1, 2, 4, 8, 12, 16, 24, 32)
    assert spread(epochs, 1) == (32,) and spread(epochs, 2) == (16, 32) and spread(epochs, 4) == (8, 16, 24, 32)
    assert spread((1, 30, 32), 3) == (1, 30, 32) and spread((31, 32), 3) == (31, 32)
    assert spread((1, 106, 178, 300), 3) == (106, 178, 300)


def test_presets_say_what_is_usual_then_what_holds_for_all_then_their_own() -> None:
    made = presets(seeds=7, budgets=(1,), laptop={"seeds": 9})
    assert [made[name]["seeds"] for name in PRESETS] == [7, 9, 7]
    assert made["paper"]["dataset"] == "cifar10" and made["smoke"]["budgets"] == (1,)
    assert presets()["laptop"]["seeds"] == 3


def test_names_of_methods_are_split_at_commas() -> None:
    assert parse_methods("normal,mix+aug_tuned") == ("normal", "mix+aug_tuned")
