"""Expected times of evaluations: which are counted when, what they grow with, and that progress counts them."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from vaegen_ray.bundle.cost import CPU_CORE, H200
from vaegen_ray.bundle.evaluation_cost import (
    ESTIMATORS,
    all_evaluations,
    bundle_seconds,
    done_seconds,
    evaluation_seconds,
)
from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.bundle.speed import cpu_core
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.spec.evaluation import KINDS, Amortization, EvaluationSettings
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_measures, base_spec

AT = (2, 4, 8)


def trial(measures: EvaluationSettings | None = None, **fields: Any) -> TrialSpec:
    return TrialSpec(**{"nc": 8, "n_train": 100, "epochs": 8, "evaluate_at": AT, "measures": measures, **fields})


def test_every_evaluation_has_a_cost() -> None:
    assert set(ESTIMATORS) == set(KINDS)
    everything = base_measures("digits", "laptop", set(KINDS) - {"two_sample"})
    for device in (CPU_CORE, H200):
        found = evaluation_seconds((trial(everything),), device, 8)
        assert set(found) == {"elbo", *KINDS} - {"two_sample"}
        assert all(seconds > 0 for seconds in found.values())


def test_gaps_are_counted_at_their_epochs_and_all_else_at_the_last() -> None:
    measures = base_measures("digits", "laptop", ("amortization", "representation"))
    bundle = (trial(replace(measures, gaps_at=(4,))),)
    counted = [set(evaluation_seconds(bundle, CPU_CORE, epoch)) for epoch in AT]
    assert counted == [{"elbo"}, {"elbo", "amortization"}, {"elbo", "amortization", "representation"}]
    total = sum(sum(evaluation_seconds(bundle, CPU_CORE, epoch).values()) for epoch in AT)
    assert sum(all_evaluations(bundle, CPU_CORE).values()) == pytest.approx(total)
    assert bundle_seconds(bundle, CPU_CORE) == pytest.approx(total + CPU_CORE.training_seconds(bundle[0], 1))
    assert done_seconds(bundle, CPU_CORE, 0, 0) == 0
    assert done_seconds(bundle, CPU_CORE, bundle[0].steps, 8) == pytest.approx(bundle_seconds(bundle, CPU_CORE))


def test_evaluations_grow_with_images_members_and_width() -> None:
    def elbo(members: int = 1, **fields: Any) -> float:
        bundle = tuple(trial(seed=seed, **fields) for seed in range(members))
        return evaluation_seconds(bundle, CPU_CORE, 8)["elbo"]

    assert elbo(3) == pytest.approx(3 * elbo())
    assert elbo(elbo_samples=5) == pytest.approx(5 * elbo())
    assert elbo(n_test=100) == pytest.approx(elbo() * 200 / 897)  # 100 training and 797 test images
    assert elbo(nc=512) > 10 * elbo()
    assert elbo(levels=17, likelihood="logistic") > elbo()


def test_a_mixture_of_logistics_costs_more_than_its_network() -> None:
    """10 components of 3 colours at 1,024 pixels are 102,400 numbers an image, more than a small network has."""
    spec = TrialSpec(**base_spec("cifar10", epochs=2, n_train=100), nc=8, evaluate_at=(2,))
    without = replace(CPU_CORE, number_seconds=0.0)
    assert CPU_CORE.pass_seconds(spec) > 3 * without.pass_seconds(spec)
    assert CPU_CORE.step_seconds(spec, 1) > 3 * without.step_seconds(spec, 1)


def test_a_slower_machine_takes_longer() -> None:
    bundle = (trial(base_measures("digits", "laptop", ("amortization", "inference"))),)
    assert bundle_seconds(bundle, CPU_CORE.faster(0.5, 0.5, 0.5)) == pytest.approx(2 * bundle_seconds(bundle, CPU_CORE))
    here = cpu_core()
    assert here is cpu_core(), "it is measured once"
    assert 0 < here.linear.flops_per_second < 1e15 and 0 < here.linear.launch_seconds < 1


def test_the_progress_of_a_bundle_counts_evaluations() -> None:
    measures = EvaluationSettings(amortization=Amortization(images=50, steps=60, check_every=20))
    specs = (trial(measures),)
    pixels = torch.randint(0, 2, (150, 1, 8, 8), dtype=torch.uint8).numpy()
    run = BundleRun(specs, Split(train=ImageSet(pixels[:100], 2), test=ImageSet(pixels[100:], 2)))
    fractions = [run.fraction]
    while not run.finished:
        run.advance(0.0)
        fractions.append(run.fraction)
    assert fractions[0] == 0 and fractions[-1] == 1 and fractions == sorted(fractions)
    before_the_last = CPU_CORE.training_seconds(specs[0], 1) / bundle_seconds(specs, CPU_CORE)
    assert before_the_last < 0.9, "the gap is a part of the work"
    assert fractions[-2] < 1 - 0.5 * (1 - before_the_last)
