"""Ids of trials: a change that moves one makes every stored result of it worthless, so they are written down here.

They change with ``NUMERICS_VERSION`` and ``STREAM_VERSION``, on purpose, and with nothing else.
"""

from typing import Any

import pytest

from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.evaluation import Amortization, EvaluationSettings, Information
from vaegen_ray.spec.trial import TrialSpec

STREAM = StreamSpec(diffusion=DiffusionSpec(levels=256))
RESIDUAL = {"levels": 256, "n_train": 400, "architecture": "residual", "latent_per_mz": 4}


@pytest.mark.parametrize(
    ("fields", "trial_id"),
    [
        ({}, "28b78d1ab1f367595095"),
        ({**RESIDUAL, "seed": 3, "beta": 0.1}, "2a2d20f1d4c6fe7e5ef3"),
        ({**RESIDUAL, "method": "dmaapx+rha", "stream": STREAM, "budget": 10}, "1e3baa56d312cd8c3586"),
        (
            {**RESIDUAL, "method": "mix+aug_tuned", "stream": STREAM, "real_percent": 20, "augment_strength": 1.5},
            "e7cbb1ba5a4ccfd5956f",
        ),
        ({"method": "mollify", "mollify_std": 1}, "3b0cf8a18ce8db4bc63c"),
        ({"method": "early_stopping", "validation_percent": 20}, "f1b49124e7b57e00b195"),
        ({"method": "more_real", "budget": 2, "n_train": 200}, "14b5e57154ee4fcba8a7"),
        (
            {"architecture": "convolutional", "hidden_layers": 2, "nc": 16, "image_shape": (1, 32, 32)},
            "e1505c7ed23994bc3b9c",
        ),
        ({**RESIDUAL, "likelihood": "logistic_mixture", "image_shape": (3, 8, 8)}, "a6e771ab451d37f52bbf"),
        (
            {**RESIDUAL, "measures": EvaluationSettings(amortization=Amortization(), information=Information())},
            "1712b37133be11f2cb65",
        ),
        ({"regulariser": "marginal_kl", "validation": 40}, "37466ded3081acbcad5d"),
        (
            {"architecture": "my_own", "network_version": 2, "data_digest": "0123456789abcdef0123", "n_test": 100},
            "0153a70a4aee8565f8c3",
        ),
        ({"hidden_layers": 0, "posterior_scale": "log_std", "precision": "bf16"}, "530cd71ad25da7fe4dc8"),
    ],
)
def test_ids_of_trials_do_not_move(fields: dict[str, Any], trial_id: str) -> None:
    assert TrialSpec(**fields).trial_id == trial_id


def test_ids_of_streams_and_diffusion_models_do_not_move() -> None:
    assert STREAM.stream_id == "0948d2ae99281ce1699e"
    assert STREAM.diffusion.diffusion_id == "4db951365913ceca85b6"
