"""Our Adam against PyTorch's, and against the algorithm as it is printed."""

import pytest
import torch
from torch import nn

from vaegen_ray.training.adam import Adam

SHAPES = {"weight": (3, 5, 4), "bias": (3, 1, 4), "scale": (3, 1)}


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(shape, generator=generator) * 10 ** (step % 5 - 2) for name, shape in SHAPES.items()}


def run(adam: Adam, weights: dict[str, nn.Parameter], steps: range) -> None:
    for step in steps:
        adam.zero_grad()
        assert all(weight.grad is None for weight in weights.values())
        for name, gradient in gradients(step).items():
            weights[name].grad = gradient
        adam.step()


def test_equals_the_fused_adam_of_pytorch_bit_for_bit():
    ours, theirs = parameters(), parameters()
    optimizer = torch.optim.Adam(theirs.values(), lr=3e-3, fused=True)
    adam = Adam(ours.items(), 3e-3)
    for step in range(50):
        run(adam, ours, range(step, step + 1))
        for name, gradient in gradients(step).items():
            theirs[name].grad = gradient
        optimizer.step()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name
        state = optimizer.state[theirs[name]]
        assert torch.equal(adam.moments[name][0], state["exp_avg"])
        assert torch.equal(adam.moments[name][1], state["exp_avg_sq"])


def test_equals_the_algorithm_as_printed():
    """Kingma & Ba (2015), Algorithm 1, in float64."""
    ours, rate = parameters(), 3e-3
    printed = {name: weight.detach().double().clone() for name, weight in ours.items()}
    m, v = ({name: torch.zeros_like(weight) for name, weight in printed.items()} for _ in range(2))
    for t in range(1, 31):
        for name, g in gradients(t - 1).items():
            m[name] = 0.9 * m[name] + 0.1 * g.double()
            v[name] = 0.999 * v[name] + 0.001 * g.double().square()
            printed[name] -= rate * (m[name] / (1 - 0.9**t)) / ((v[name] / (1 - 0.999**t)).sqrt() + 1e-8)
    run(Adam(ours.items(), rate), ours, range(30))
    for name, weight in ours.items():
        torch.testing.assert_close(weight.double(), printed[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_goes_on_from_its_state(stop):
    whole, first = parameters(), parameters()
    run(Adam(whole.items(), 1e-2), whole, range(20))
    adam = Adam(first.items(), 1e-2)
    run(adam, first, range(stop))
    state = {name: tensor.clone() for name, tensor in adam.state().items()}
    second = {name: nn.Parameter(weight.detach().clone()) for name, weight in first.items()}
    fresh = Adam(second.items(), 1e-2)
    fresh.load_state(state)
    run(fresh, second, range(stop, 20))
    assert all(torch.equal(whole[name], second[name]) for name in whole)
