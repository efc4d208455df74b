"""The bundled networks against the same networks written with plain ``torch.nn``, one member at a time."""

import math

import pytest
import torch
from torch import nn

from vaegen_ray.models.networks import build_networks
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

COMMON = {"levels": 256, "likelihood": "logistic_mixture", "mixture_components": 2, "mz": 3}
DENSE = TrialSpec(nc=16, latent_per_mz=2, image_shape=(3, 4, 6), **COMMON)
RESIDUAL = TrialSpec(architecture="residual", nc=4, latent_per_mz=8, image_shape=(3, 8, 16), **COMMON)
RESIDUAL_1X1 = TrialSpec(
    architecture="residual", nc=4, latent_per_mz=8, image_shape=(3, 8, 16), residual_kernel=1, **COMMON
)
SPECS = [pytest.param(s, id=n) for n, s in (("dense", DENSE), ("residual", RESIDUAL), ("residual 1x1", RESIDUAL_1X1))]
RESIDUALS = SPECS[1:]
DEEP, SHALLOW, AFFINE = (TrialSpec.from_dict({**DENSE.as_dict(), "hidden_layers": n}) for n in (3, 1, 0))
STRIDED, STRIDED_DEEP = (
    TrialSpec(architecture="convolutional", nc=4, image_shape=(3, 8, 16), hidden_layers=n, **COMMON) for n in (1, 3)
)
STRIDEDS = [pytest.param(STRIDED, id="strided"), pytest.param(STRIDED_DEEP, id="strided, 3 layers")]
DENSES = [pytest.param(s, id=f"dense, {n}") for n, s in ((3, DEEP), (1, SHALLOW), (0, AFFINE))]
EVERY = [*SPECS, *DENSES, *STRIDEDS]


def members_of(spec: TrialSpec, seeds: range | tuple[int, ...]) -> list[TrialSpec]:
    return [TrialSpec.from_dict({**spec.as_dict(), "seed": seed}) for seed in seeds]


def batch_of(spec: TrialSpec, members: int, images: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [-1, 1], [M, B, C, H, W], and noise [M, B, Z]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(members, images, *spec.image_shape, generator=generator) * 2 - 1
    return x, torch.randn(members, images, spec.latent_dim, generator=generator)


class PlainBlock(nn.Module):
    def __init__(self, nc: int, kernel: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(nc, nc, 3, padding=1, bias=False),
            nn.BatchNorm2d(nc),
            nn.ReLU(),
            nn.Conv2d(nc, nc, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(nc),
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.inner(h)


def plain_residual(spec: TrialSpec, channels: int) -> tuple[nn.Module, nn.Module]:
    """xiao2024, Tables 4-6, as one writes them for a single VAE."""
    nc, kernel = spec.nc, spec.residual_kernel
    encoder = nn.Sequential(
        nn.Conv2d(spec.image_shape[0], nc, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(nc),
        nn.ReLU(),
        nn.Conv2d(nc, nc, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(nc),
        PlainBlock(nc, kernel),
        PlainBlock(nc, kernel),
        nn.Conv2d(nc, 2 * spec.mz, 1),
    )
    decoder = nn.Sequential(
        nn.Conv2d(spec.mz, nc, 1, bias=False),
        nn.BatchNorm2d(nc),
        PlainBlock(nc, kernel),
        PlainBlock(nc, kernel),
        nn.ConvTranspose2d(nc, nc, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(nc),
        nn.ReLU(),
        nn.ConvTranspose2d(nc, nc, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(nc),
        nn.ReLU(),
        nn.Conv2d(nc, channels, 1),
    )
    return encoder, decoder


def copy_member(network: nn.Module, member: int, plain: nn.Module) -> None:
    """Both list convolutions (each with its BatchNorm) in order of use."""
    affine = [m for m in plain.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    norms = iter([m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)])
    layers = list(network.layers.values())
    assert len(layers) == len(affine)
    with torch.no_grad():
        for layer, module in zip(layers, affine, strict=True):
            module.weight.copy_(layer.weight[member])
            if module.bias is not None:
                module.bias.copy_(layer.bias[member])
            if layer.layer.norm:
                norm = next(norms)
                norm.weight.copy_(layer.scale[member])
                norm.bias.copy_(layer.shift[member])


def randomise_norms(network: nn.Module) -> None:
    """Scales and shifts that are not 1 and 0, and differ between members and channels."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("scale", "shift")):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("spec", RESIDUALS)
def test_residual_equals_plain_modules_with_batchnorm_statistics(spec, loop, members):
    vae = VAE(members_of(spec, range(members)), loop_over_members=loop)
    randomise_norms(vae)
    plain = [plain_residual(spec, 20) for _ in range(members)]
    for member, (encoder, decoder) in enumerate(plain):
        copy_member(vae.encoder, member, encoder)
        copy_member(vae.decoder, member, decoder)
    for step in range(3):
        x, z = batch_of(spec, members, seed=step)
        h, y = vae.encoder(x), vae.decoder(z)
        for member, (encoder, decoder) in enumerate(plain):
            torch.testing.assert_close(h[member], encoder(x[member]).flatten(1), rtol=1e-4, atol=1e-4)
            expected = decoder(z[member].view(-1, spec.mz, 2, 4))
            torch.testing.assert_close(y[member], expected, rtol=1e-4, atol=1e-4)
    for member, pair in enumerate(plain):
        for network, module in zip((vae.encoder, vae.decoder), pair, strict=True):
            norms = iter([m for m in module.modules() if isinstance(m, nn.BatchNorm2d)])
            for layer in network.layers.values():
                if layer.layer.norm:
                    norm = next(norms)
                    torch.testing.assert_close(layer.running_mean[member], norm.running_mean, rtol=1e-4, atol=1e-5)
                    torch.testing.assert_close(layer.running_var[member], norm.running_var, rtol=1e-4, atol=1e-5)
                    assert (layer.running_var[member] != 1).all()
    vae.eval()
    x, z = batch_of(spec, members, seed=7)
    with torch.no_grad():
        h, y = vae.encoder(x), vae.decoder(z)
        for member, (encoder, decoder) in enumerate(plain):
            encoder.eval(), decoder.eval()
            torch.testing.assert_close(h[member], encoder(x[member]).flatten(1), rtol=1e-4, atol=1e-4)
            expected = decoder(z[member].view(-1, spec.mz, 2, 4))
            torch.testing.assert_close(y[member], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", [SPECS[0], *DENSES])
def test_dense_equals_plain_modules(spec):
    vae = VAE(members_of(spec, range(3)))
    x, z = batch_of(spec, 3)
    h, y = vae.encoder(x), vae.decoder(z)
    for network, inputs, outputs in ((vae.encoder, x.flatten(2), h), (vae.decoder, z, y.flatten(2))):
        for member in range(3):
            plain = nn.Sequential()
            for layer in network.layers.values():
                linear = nn.Linear(layer.layer.n_in, layer.layer.n_out)
                linear.weight.data = layer.weight[member].detach().T
                linear.bias.data = layer.bias[member, 0].detach()
                plain.extend([linear, nn.ReLU()])
            torch.testing.assert_close(outputs[member], plain[:-1](inputs[member]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", STRIDEDS)
def test_strided_equals_plain_modules(spec):
    """k4 s2 p1 convolutions and an affine map, then the other way round, ReLU between all layers."""
    vae = VAE(members_of(spec, range(3)))
    x, z = batch_of(spec, 3)
    h, y = vae.encoder(x), vae.decoder(z)
    for member in range(3):
        encoder, decoder = nn.Sequential(), nn.Sequential()
        for plain, network in ((encoder, vae.encoder), (decoder, vae.decoder)):
            for name, layer in network.layers.items():
                n_in, n_out = layer.layer.n_in, layer.layer.n_out
                if name == "posterior":
                    plain.append(nn.Flatten())
                made = {
                    "linear": lambda a=n_in, b=n_out: nn.Linear(a, b),
                    "conv": lambda a=n_in, b=n_out: nn.Conv2d(a, b, 4, stride=2, padding=1),
                    "transposed": lambda a=n_in, b=n_out: nn.ConvTranspose2d(a, b, 4, stride=2, padding=1),
                }[layer.layer.kind]()
                weight = layer.weight[member].detach()
                made.weight.data = weight.T if layer.layer.kind == "linear" else weight
                made.bias.data = layer.bias[member].detach().flatten()
                plain.append(made)
                if name == "latent":
                    grid = (8 >> spec.hidden_layers, 16 >> spec.hidden_layers)
                    plain.append(nn.Unflatten(1, (spec.nc, *grid)))
                plain.append(nn.ReLU())
        torch.testing.assert_close(h[member], encoder[:-1](x[member]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(y[member], decoder[:-1](z[member]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("members", [1, 2, 8])
@pytest.mark.parametrize("spec", EVERY)
def test_shapes(spec, members):
    vae = VAE(members_of(spec, range(members)))
    x, noise = batch_of(spec, members)
    _, height, width = spec.image_shape
    posterior = vae.encode(x)
    assert posterior.mean.shape == posterior.std.shape == (members, 5, spec.latent_dim)
    assert vae.decode(posterior.sample(noise)).shape == (members, 5, 20, height, width)
    rate, distortion = vae.rate_and_distortion(x, noise)
    assert rate.shape == distortion.shape == (members, 5)


@pytest.mark.parametrize("spec", [*RESIDUALS, *STRIDEDS])
def test_grouped_equals_looping_over_members(spec):
    specs = members_of(spec, range(3))
    x, noise = batch_of(spec, 3)
    results = []
    for loop in (False, True):
        vae = VAE(specs, loop_over_members=loop)
        rate, distortion = vae.rate_and_distortion(x, noise)
        (rate.sum() + distortion.sum()).backward()
        numbers = {"rate": rate, "distortion": distortion}
        numbers |= {f"gradient of {name}": p.grad for name, p in vae.named_parameters()}
        numbers |= dict(vae.named_buffers())
        results.append({name: tensor.detach() for name, tensor in numbers.items()})
    grouped, looped = results
    assert grouped.keys() == looped.keys()
    for name in grouped:
        size = looped[name].abs().max().item()
        torch.testing.assert_close(grouped[name], looped[name], rtol=1e-4, atol=1e-5 * size, msg=name)


@pytest.mark.parametrize("spec", EVERY)
def test_a_loss_of_one_member_has_gradients_in_that_member_alone(spec):
    vae = VAE(members_of(spec, range(3)))
    rate, distortion = vae.rate_and_distortion(*batch_of(spec, 3))
    (rate[1].sum() + distortion[1].sum()).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad[1].any(), name
        assert not parameter.grad[[0, 2]].any(), name


@pytest.mark.parametrize("spec", EVERY)
def test_init_depends_on_the_seed_alone(spec):
    alone = {seed: build_networks(members_of(spec, (seed,))) for seed in (3, 1, 4)}
    bundle = build_networks(members_of(spec, (1, 4, 3, 1)))
    for half in (0, 1):
        for member, seed in enumerate((1, 4, 3, 1)):
            for name, parameter in bundle[half].named_parameters():
                assert torch.equal(parameter[member], alone[seed][half].get_parameter(name)[0]), name
        for name, parameter in bundle[half].named_parameters():
            if name.endswith("weight"):
                assert not torch.equal(parameter[0], parameter[1]), name


@pytest.mark.parametrize("spec", EVERY)
def test_init_is_uniform_within_the_bound_of_pytorch(spec):
    wide = TrialSpec.from_dict({**spec.as_dict(), "nc": 24})
    for network in build_networks(members_of(wide, range(4))):
        for layer in network.layers.values():
            n_in, n_out, kernel = layer.layer.n_in, layer.layer.n_out, layer.layer.kernel
            plain: nn.Module
            if layer.layer.kind == "linear":
                plain = nn.Linear(n_in, n_out)
            elif layer.layer.kind == "conv":
                plain = nn.Conv2d(n_in, n_out, kernel)
            else:
                plain = nn.ConvTranspose2d(n_in, n_out, kernel)
            fan_in, _ = nn.init._calculate_fan_in_and_fan_out(plain.weight)
            bound = 1 / math.sqrt(fan_in)
            assert layer.weight.abs().max().item() <= bound
            assert layer.weight.abs().max().item() > 0.9 * bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
            if layer.bias is not None:
                assert 0 < layer.bias.abs().max().item() <= bound
