"""What the sweeps of bozkurt2021 and zhang2021 declare."""

import argparse
import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from vaegen_ray.bundle.cost import H200
from vaegen_ray.bundle.packing import pack
from vaegen_ray.errors import SpecError
from vaegen_ray.launch import options as shared
from vaegen_ray.sweep.sweep import Sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
BETAS = {0.001, 0.005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0, 3.0, 5.0}


def declared(name: str, *argv: str) -> Sweep:
    spec = importlib.util.spec_from_file_location(name, SWEEPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parser: argparse.ArgumentParser = shared.parser("a sweep")
    module.add_options(parser)
    return module.declare(parser.parse_args(list(argv)))


@pytest.fixture(scope="module")
def study() -> Sweep:
    return declared("rate_distortion", "--preset", "paper")


def test_the_whole_study_has_more_than_6000_vaes(study: Sweep) -> None:
    assert len(study.trials) > 6000
    assert {spec.beta for spec in study.trials} == BETAS and {spec.seed for spec in study.trials} == set(range(5))
    assert {(s.batch_size, s.latent_dim, s.likelihood) for s in study.trials} == {(128, 10, "bernoulli")}
    for spec in study.trials:
        assert abs(spec.steps - 257_000) <= spec.n_train / spec.batch_size
    widths = {(spec.architecture, spec.nc) for spec in study.trials}
    assert widths == {("fully_connected", 512), ("convolutional", 64)}


def test_a_setting_of_the_study_is_one_bundle_on_a_gpu(study: Sweep) -> None:
    bundles = pack(study.trials, H200, devices=1)
    settings = Counter((spec.shape_key, spec.method) for spec in study.trials)
    assert set(settings.values()) == {60}
    shapes = {shape for shape, _ in settings}
    assert len(bundles) == len(shapes) and {bundle[0].shape_key for bundle in bundles} == shapes


def test_the_study_has_the_papers_splits_sizes_and_data(study: Sweep) -> None:
    tetrominoes = [spec for spec in study.trials if spec.dataset == "tetrominoes"]
    sizes = {8192 * i for i in range(1, 9)}
    by_split = {split: {s.n_train for s in tetrominoes if s.split == split} for split in {s.split for s in tetrominoes}}
    assert by_split == {"random": sizes | {81_920}, "checkerboard": {81_920}, "constant_density": sizes}
    others = {"mnist", "fashion_mnist", "smallnorb", "shapes3d"}
    assert {spec.dataset for spec in study.trials} == {"tetrominoes", *others}
    assert {s.regulariser for s in tetrominoes} == {"rate", "mutual_information", "marginal_kl"}
    assert {s.method for s in tetrominoes} == {"normal", "early_stopping"}
    layers = {(s.architecture, s.hidden_layers) for s in tetrominoes}
    assert layers == {("fully_connected", n) for n in (1, 2, 3)} | {("convolutional", n) for n in (1, 3)}


def test_a_laptop_has_two_depths_two_densities_and_six_betas() -> None:
    trials = declared("rate_distortion").trials
    points = {(s.split, s.n_train, s.hidden_layers) for s in trials}
    assert {("random", 5120, 1), ("random", 5120, 3), ("random", 1024, 1), ("random", 1024, 3)} <= points
    assert len({s.beta for s in trials}) >= 6 and {s.seed for s in trials} == {0, 1, 2}


def test_parts_and_betas_can_be_chosen() -> None:
    trials = declared("rate_distortion", "--parts", "size", "--betas", "0,0.5", "--seeds", "1", "--nc", "8").trials
    assert {(s.split, s.beta, s.nc) for s in trials} == {
        (split, beta, 8) for split in ("random", "constant_density") for beta in (0.0, 0.5)
    }
    for wrong, message in (
        (("--parts", "sizes"), "must be parts out of depth, split, .*; got 'sizes'"),
        (("--betas", "0.1,x"), "must be numbers >= 0 with commas between.*; got '0.1,x'"),
        (("--betas", "1,1"), "each once; got '1,1'"),
        (("--dataset", "digits", "--parts", "split"), "digits comes with a test set, so its split is random; got"),
    ):
        with pytest.raises(SpecError, match=message):
            declared("rate_distortion", *wrong)


def test_another_data_set_has_sizes_of_its_own() -> None:
    trials = declared("rate_distortion", "--dataset", "mnist5k", "--parts", "depth").trials
    assert {(s.dataset, s.n_train, s.levels) for s in trials} == {("mnist5k", 4000, 256), ("mnist5k", 800, 256)}


def test_inference_is_measured_at_every_evaluation() -> None:
    for name, levels, seeds in (("laptop", {2, 17}, 4), ("paper", {2, 256}, 3)):
        trials = declared("inference_gap", "--preset", name).trials
        assert {spec.levels for spec in trials} == levels and len({spec.seed for spec in trials}) == seeds
        for spec in trials:
            assert spec.latent_dim == 10 and spec.measures is not None and spec.measures.inference is not None
            assert spec.measures.gaps_at == spec.evaluate_at and len(spec.evaluate_at) == 10
    assert {(s.nc, s.epochs, s.likelihood) for s in trials} == {(500, 1000, "bernoulli"), (500, 1000, "logistic")}
    assert {spec.evaluate_at for spec in trials} == {tuple(range(100, 1001, 100))}  # saved every 100 epochs
