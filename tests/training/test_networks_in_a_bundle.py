"""The contract of bundles, for the networks and objectives of bozkurt2021: a member's numbers are its own."""

import pytest
import torch

from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.trainer import Trainer

KINDS = {
    "affine": {"hidden_layers": 0},
    "shallow": {"hidden_layers": 1},
    "deep": {"hidden_layers": 3},
    "strided": {"architecture": "convolutional", "hidden_layers": 1, "nc": 4},
    "strided, deep": {"architecture": "convolutional", "hidden_layers": 3, "nc": 4},
    "mutual information": {"regulariser": "mutual_information"},
    "marginal KL": {"regulariser": "marginal_kl"},
}
MEMBERS = [(0, 1.0), (1, 0.001), (2, 5.0)]
"""Seed and beta."""


def trained(specs: list[TrialSpec], images: torch.Tensor) -> list[dict[str, float]]:
    trainer = Trainer(specs, images)
    trainer.train(50)
    return evaluate_elbo(trainer.vae, specs, images, images[:20])


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_of_a_bundle_equals_the_member_alone(kind, train_images):
    common = {"nc": 16, "mz": 5, "n_train": 90, "batch_size": 20, "epochs": 12, "evaluate_at": (12,), **KINDS[kind]}
    specs = [TrialSpec(**common, seed=seed, beta=beta) for seed, beta in MEMBERS]
    together = trained(specs, train_images)
    for spec, row in zip(specs, together, strict=True):
        (alone,) = trained([spec], train_images)
        size = abs(alone["elbo_test"])
        for name, value in alone.items():
            assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-4 * size), name
    assert len({row["elbo_test"] for row in together}) == len(MEMBERS)


def test_objectives_train_different_vaes(train_images):
    common = {"nc": 16, "mz": 5, "n_train": 90, "batch_size": 20, "epochs": 12, "evaluate_at": (12,)}
    elbos = {
        kind: trained([TrialSpec(**common, regulariser=kind)], train_images)[0]["elbo_test"]
        for kind in ("rate", "mutual_information", "marginal_kl")
    }
    assert len(set(elbos.values())) == 3
