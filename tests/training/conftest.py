"""Small bundles to train: binary 8x8 images with something to learn, both architectures, 90 images in batches of 20."""

from collections.abc import Callable

import pytest
import torch

from vaegen_ray.models.networks import Network
from vaegen_ray.spec.trial import TrialSpec

OPTIONS = {
    "dense": {"nc": 16, "mz": 2, "learning_rate": 3e-3},
    "residual": {"architecture": "residual", "nc": 4, "mz": 2, "latent_per_mz": 4, "residual_kernel": 3},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(OPTIONS))
def architecture(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def spec_of(architecture) -> Callable[..., TrialSpec]:
    """Makes trials of the architecture; batches straddle the ends of epochs (4.5 steps each)."""
    common = {"n_train": 90, "batch_size": 20, "epochs": 12, "evaluate_at": (12,)}
    return lambda **changes: TrialSpec(**{**common, **OPTIONS[architecture], **changes})


def noisy_prototypes(n: int, seed: int) -> torch.Tensor:
    prototypes = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (prototypes[torch.arange(n) % 4] > uniform).to(torch.uint8)


@pytest.fixture(scope="module")
def train_images() -> torch.Tensor:
    return noisy_prototypes(90, seed=1)


@pytest.fixture(scope="module")
def test_images() -> torch.Tensor:
    return noisy_prototypes(40, seed=2)


@pytest.fixture
def poison() -> Callable[..., None]:
    """Overwrites the weights of one member's first layer with NaN."""

    def overwrite(encoder: Network, member: int) -> None:
        first = next(iter(encoder.layers.values()))
        first.weight.data[member] = float("nan")

    return overwrite
