"""The benchmarks compare equal work, and their arithmetic is right. No times are asserted."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vaegen_ray.bundle import run as bundle_run
from vaegen_ray.bundle.cost import CPU_CORE, LayerCost
from vaegen_ray.bundle.packing import pack
from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data import catalog
from vaegen_ray.diffusion.shards import ShardMaker
from vaegen_ray.errors import SpecError
from vaegen_ray.launch.options import parser
from vaegen_ray.models.layout import flops_per_image, params_total
from vaegen_ray.results.query import load
from vaegen_ray.results.store import Storage, SweepStore
from vaegen_ray.service.worker.bundle_worker import Worker
from vaegen_ray.spec.evaluation import Amortization
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, base_stream

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import amortization
import bundle_step
import many_small
import ordinary
import sampler
import scale

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digits_spec(**fields) -> TrialSpec:
    return TrialSpec(**{**base_spec("digits", n_train=500, epochs=20), "evaluate_at": (5, 20), **fields})


def test_a_tiny_run_prints_a_line_for_each_case_and_measures_finite_numbers(capsys):
    sizes = {"mlp-8": ((2, 4, 8), (1, 2), (1, 3)), "residual-8": ((2,), (1,), (1, 2))}
    cases = list(bundle_step.cases(sizes, sizes, ("float32",), memory=1e9))
    timings = bundle_step.run(cases, CPU, seconds=0.001, repeats=2)
    # 3 widths and one larger mz, each at two M; the residual network alone, grouped and in a loop
    assert len(timings) == len(cases) == 4 * 2 + 3
    for timing in timings:
        assert len(timing.seconds) == 2 and all(math.isfinite(s) and s > 0 for s in timing.seconds)
        flops = 3 * flops_per_image(timing.case.spec) * timing.case.spec.batch_size * timing.case.members
        assert timing.flops_per_second == pytest.approx(flops / min(timing.seconds))
    printed = capsys.readouterr().out
    assert printed.count("grouped") == 1
    assert printed.count("best M =") == 5
    assert "flops_per_second=" in printed


def test_bundles_that_do_not_fit_are_left_out_but_never_a_single_member():
    sizes = {"mlp-8": ((8,), (1,), (1, 12))}
    assert [case.members for case in bundle_step.cases(sizes, sizes, ("float32",), memory=1.0)] == [1]


def test_the_fit_finds_the_cost_model_that_made_the_timings():
    linear = LayerCost(launch_seconds=4e-5, member_seconds=3e-6, flops_per_second=2e11)
    truth = replace(CPU_CORE, linear=linear, bytes_per_second=1e10)
    cases = bundle_step.cases(bundle_step.CPU_SIZES, ("mlp-8", "mlp-32"), ("float32",), memory=1e12)
    timings = [bundle_step.Timing(case=case, seconds=(truth.step_seconds(case.spec, case.members),)) for case in cases]
    found = bundle_step.fit(timings, truth.number_seconds)
    assert found.error < 1e-6
    for name in ("launch_seconds", "member_seconds", "flops_per_second"):
        assert getattr(found, name) == pytest.approx(getattr(linear, name), rel=1e-4), name
    assert found.bytes_per_second == pytest.approx(truth.bytes_per_second, rel=1e-4)


@pytest.mark.parametrize(("nc", "mz"), [(1, 1), (16, 1), (256, 32)])
def test_the_ordinary_vae_has_our_number_of_parameters(nc, mz):
    spec = digits_spec(nc=nc, mz=mz)
    vae = ordinary.OrdinaryVAE(spec.pixels, spec.nc, spec.latent_dim)
    assert sum(parameter.numel() for parameter in vae.parameters()) == params_total(spec)


def test_both_sides_train_to_the_same_elbo():
    split = catalog.load("digits", levels=2, n_train=500)
    specs = tuple(digits_spec(nc=16, seed=seed) for seed in range(2))
    run = BundleRun(specs, split)
    run.advance(math.inf)
    rows = [row for segment in run.take_segments() for row in segment.rows]
    images = [torch.tensor(part.images.reshape(len(part), -1)).float() for part in (split.train, split.test)]
    reports: list[dict[str, float]] = []
    for spec in specs:
        ordinary.train(ordinary.config_of(spec.as_dict()), *images, report=reports.append)

    def mean(epoch: int, name: str) -> tuple[float, float]:
        ours = [row[name] for row in rows if row["effective_epoch"] == epoch]
        theirs = [report[name] for report in reports if report["epoch"] == epoch]
        assert len(ours) == len(theirs) == 2
        return sum(ours) / 2, sum(theirs) / 2

    for name in ("elbo_train", "elbo_test"):
        early, late = mean(5, name), mean(20, name)
        assert late[0] > early[0] + 3 and late[1] > early[1] + 3  # both have learnt since; 3 nats is a real distance
        assert late[0] == pytest.approx(late[1], abs=3)


def test_a_part_of_the_baseline_is_spread_evenly_over_the_sweep():
    assert ordinary.spread(list(range(45)), 3) == [0, 15, 30]
    assert ordinary.spread([1, 2], None) == ordinary.spread([1, 2], 9) == [1, 2]


def test_many_small_declares_every_width_with_every_seed():
    options = parser("")
    many_small.add_options(options)
    sweep = many_small.declare(options.parse_args(["--nc", "1,4", "--seeds", "5", "--epochs", "1", "--n-train", "50"]))
    assert {(spec.nc, spec.seed) for spec in sweep.trials} == {(nc, seed) for nc in (1, 4) for seed in range(5)}
    assert {spec.steps for spec in sweep.trials} == {1}


def test_the_plain_loop_and_the_pool_run_the_same_network_on_nothing_trivial():
    stream = base_stream("digits", "smoke")
    given = sampler.random_weights(stream)
    assert all(weight.any() for weight in given.values())
    shard = ShardMaker(stream, given).shard(3)
    assert shard.shape == stream.shard_shape and len(np.unique(shard)) > 2


def test_normal_and_synthetic_training_of_the_benchmark_do_the_same_work():
    seconds, waited = sampler.training_seconds(None, epochs=1)
    assert seconds > 0 and waited == 0


def test_all_sides_of_the_amortization_benchmark_find_the_same_gaps():
    settings = Amortization(steps=60, check_every=30, learning_rate=0.03)
    timing = amortization.measure(4, amortization.digits(60, CPU), settings, members=3, epochs=2, repeats=2)
    alone, ordinary_gaps, bundled = timing.gaps
    assert alone == pytest.approx(bundled, rel=1e-3, abs=1e-4) and min(alone) > 0
    assert ordinary_gaps == pytest.approx(bundled, rel=0.35)  # one sample a step, no mean over the last steps
    assert len(timing.ratios(timing.alone)) == 2 and len(timing.steps) == 3
    assert "bundle of 3" in str(timing) and "gaps" in str(timing)


def test_an_idle_worker_commits_every_row_of_every_trial_without_a_step(tmp_path, monkeypatch):
    def no_step(*_):
        raise AssertionError("a step was trained")

    monkeypatch.setattr(bundle_run.Trainer, "_update", no_step)
    monkeypatch.setattr(bundle_run, "Trainer", scale.IdleTrainer)
    monkeypatch.setattr(bundle_run, "evaluate_elbo", scale.idle_elbo)
    trials = scale.declare(60).trials
    split = catalog.load("digits", levels=2, n_train=trials[0].n_train)
    store = SweepStore(Storage.open(tmp_path), "scale")
    worker = Worker(store, lambda _: split, device=CPU, code_version="test")
    bundles = pack(trials, CPU_CORE, 4)
    for bundle in bundles:
        worker.start(bundle)
        while not worker.finished:
            worker.advance(60.0)
    results = load(tmp_path, "scale")
    assert set(results.trials["trial_id"]) == {spec.trial_id for spec in trials}
    assert len(results.metrics) == len(trials) * len(scale.EVALUATIONS)
    assert (results.trials["status"] == "completed").all()
    assert len(list(tmp_path.glob("scale/metrics/*.parquet"))) == len(bundles) * len(scale.EVALUATIONS)


def test_the_trials_of_the_scale_benchmark_are_of_a_hundred_shapes_in_turn():
    trials = scale.declare(250).trials
    assert len({spec.shape_key for spec in trials}) == len(scale.SHAPES) == 100
    assert [sum(spec.seed == seed for spec in trials) for seed in range(3)] == [100, 100, 50]


def test_the_stopwatch_counts_every_call_of_a_function():
    class Owner:
        calls = 0

        def work(self):
            self.calls += 1
            return self.calls

    watch, owner = scale.Stopwatch(), Owner()
    watch.watch(owner, "work", "step")
    assert (owner.work(), owner.work()) == (1, 2)
    assert set(watch.seconds) == {"step"} and watch.seconds["step"] >= 0


@pytest.fixture(scope="module")
def search_benchmark():
    path = Path(scale.__file__).with_name("search.py")  # by its path: a sweep has the same name
    spec = importlib.util.spec_from_file_location("search_benchmark", path)
    module = sys.modules["search_benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def describe_problem(search_benchmark, *words):
    options = parser("a benchmark")
    search_benchmark.sweep.add_options(options)
    return search_benchmark.describe_problem(options.parse_args(["--preset", "smoke", *words]))


def test_both_sides_of_the_search_benchmark_try_as_many_points_and_choose_by_validation(search_benchmark, monkeypatch):
    """Where the test ELBO is the best the validation ELBO is the worst, and every fifth width fails."""
    search = describe_problem(search_benchmark, "--points", "12", "--space", "nc=4:64,augmentation=none")
    last = search.fields["epochs"]

    def train(self, point):
        curve = {} if point["nc"] % 5 == 0 else {last: -abs(point["nc"] - 30.0)}
        return search_benchmark.Trained(curve, abs(point["nc"] - 30.0))

    monkeypatch.setattr(search_benchmark.Problem, "train", train)
    for seed in range(3):
        sides = [
            search_benchmark.searched(
                search_benchmark.Problem(search, None), replace(search, sampler=side, search_seed=seed)
            )
            for side in search_benchmark.SIDES
        ]
        points = [[tuple(tried.point.items()) for tried, _ in done] for done in sides]
        assert [len(set(each)) for each in points] == [12, 12]
        assert points[0][:4] == points[1][:4] and points[0] != points[1]  # TPE begins at random, with a third
        for done in sides:
            best, trained = search_benchmark.find_best(done)
            assert best.value == max(tried.value for tried, _ in done if tried.value is not None) == -trained.elbo_test
    assert search_benchmark.find_best([]) is None


@pytest.mark.parametrize(
    "words", [("--scheduler", "asha"), ("--objectives", "elbo,parameters"), ("--sampler", "nsga2")]
)
def test_the_search_benchmark_ignores_no_option(words, search_benchmark):
    with pytest.raises(SpecError, match=words[1]):
        describe_problem(search_benchmark, *words)
