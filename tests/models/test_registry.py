"""Networks of your own: one that holds the contract of bundles, and each way to break it, found at the start."""

from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from vaegen_ray.bundle.cost import CPU_CORE
from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.models import registry
from vaegen_ray.models.conformance import check_network
from vaegen_ray.models.layer import Layer
from vaegen_ray.models.layout import flops_per_image, likelihood_channels, params_total, params_z
from vaegen_ray.models.networks import ConvolutionalNetwork, NetworkPart
from vaegen_ray.models.registry import register_network
from vaegen_ray.service.inputs import check_networks
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep
from vaegen_ray.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _networks_as_before() -> Iterator[None]:
    with patch.dict(registry._REGISTERED):
        yield


class Encoder(NetworkPart):
    """pixels - nc - 2Z with a hyperbolic tangent."""

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        return (
            Layer(name="in", kind="linear", n_in=spec.pixels, n_out=spec.nc),
            Layer(name="posterior", kind="linear", n_in=spec.nc, n_out=2 * spec.latent_dim, in_theta_z=True),
        )

    def hidden(self, x: Tensor) -> Tensor:
        return self.layers["in"](x.flatten(2)).tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](self.hidden(x))


class Decoder(NetworkPart):
    """Z - nc - K*H*W."""

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        _, height, width = spec.image_shape
        return (
            Layer(name="latent", kind="linear", n_in=spec.latent_dim, n_out=spec.nc, in_theta_z=True),
            Layer(name="out", kind="linear", n_in=spec.nc, n_out=likelihood_channels(spec) * height * width),
        )

    def forward(self, z: Tensor) -> Tensor:
        h = self.layers["latent"](z).tanh()
        return self.layers["out"](h).unflatten(2, (-1, *self.spec.image_shape[1:]))


class ConvolutionalEncoder(NetworkPart, ConvolutionalNetwork):
    """One strided convolution with BatchNorm, and an affine map."""

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        colours, height, width = spec.image_shape
        cells = height * width // 4
        return (
            Layer(name="down", kind="conv", n_in=colours, n_out=spec.nc, kernel=4, stride=2, cells=cells, norm=True),
            Layer(name="posterior", kind="linear", n_in=spec.nc * cells, n_out=2 * spec.latent_dim, in_theta_z=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](super().forward(x).flatten(2))

    def apply_layers(self, h: Tensor, member: int | None) -> Tensor:
        return self.layers["down"](h, member).relu_()


def spec_of(name: str, **fields: object) -> TrialSpec:
    return TrialSpec(
        **{**base_spec("digits", architecture=name, n_train=90, batch_size=20), "nc": 12, "mz": 2, **fields}
    )


@pytest.mark.parametrize("encoder", [Encoder, ConvolutionalEncoder])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "logistic"])
def test_a_member_of_a_bundle_equals_the_member_alone(encoder, likelihood):
    register_network("mine", encoder, Decoder)
    levels = 2 if likelihood == "bernoulli" else 17
    spec = spec_of("mine", likelihood=likelihood, levels=levels, epochs=12, evaluate_at=(12,))
    check_network(spec)
    images = torch.randint(0, levels, (90, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    specs = [replace(spec, seed=seed, beta=beta) for seed, beta in ((0, 1.0), (1, 0.01), (2, 5.0))]
    together = Trainer(specs, images)
    together.train(50)
    rows = evaluate_elbo(together.vae, specs, images, images[:20])
    for each, row in zip(specs, rows, strict=True):
        single = Trainer([each], images)
        single.train(50)
        (alone,) = evaluate_elbo(single.vae, [each], images, images[:20])
        for name, value in alone.items():
            assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-4 * abs(alone["elbo_test"])), name
    assert len({row["elbo_test"] for row in rows}) == 3


def test_parameters_and_flops_are_counted_from_its_layers():
    register_network("mine", Encoder, Decoder)
    spec = spec_of("mine")
    z = spec.latent_dim
    assert params_total(spec) == 64 * 12 + 12 + 12 * 2 * z + 2 * z + z * 12 + 12 + 12 * 64 + 64
    assert params_z(spec) == 12 * 2 * z + 2 * z + z * 12 + 12
    assert flops_per_image(spec) == 2 * (64 * 12 + 12 * 2 * z + z * 12 + 12 * 64)
    assert CPU_CORE.layer_cost(spec) is CPU_CORE.linear
    register_network("other", ConvolutionalEncoder, Decoder)
    assert CPU_CORE.layer_cost(spec_of("other")) is CPU_CORE.conv


# -- each way to break the contract -----------------------------------------------------------------------------------


class Coupled(Encoder):
    """Normalises over the members."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.layers["posterior"](h - h.mean(dim=0))


class CoupledBackwards(Encoder):
    """Members do not see each other's numbers, but their gradients do: the scale of one comes from all."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        leak = h.mean(dim=0, keepdim=True)
        return self.layers["posterior"](h + leak - leak.detach())


class Dropout(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](nn.functional.dropout(self.hidden(x), 0.5, self.training))


class BatchInEvaluation(Encoder):
    """The images of a batch see each other, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.layers["posterior"](h - h.mean(dim=1, keepdim=True))


class Wide(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., 1:]


class Broken(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](x.flatten(2))


class Misspelt(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](self.hiden(x))


class Pair(Encoder):
    """Means and standard deviations apart."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward(x).chunk(2, dim=-1)


class NoGradient(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class NotAlone(Encoder):
    """Loses the dimension of the members where there is one member alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](self.hidden(x).squeeze(0))


class NotBackwards(Encoder):
    """Changes what the gradient of tanh needs."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers["posterior"](self.hidden(x).mul_(2))


class OtherConstructor(Encoder):
    def __init__(self) -> None:
        raise AssertionError("it is never called")


class NotFinite(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class ExtraWeights(Encoder):
    def __init__(self, spec: TrialSpec, members: int) -> None:
        super().__init__(spec, members)
        self.extra = nn.Parameter(torch.ones(members, spec.nc))


class SharedWeights(Encoder):
    """One scale for all members."""

    def __init__(self, spec: TrialSpec, members: int) -> None:
        super().__init__(spec, members)
        self.scale = nn.Parameter(torch.ones(()))


class GlobalSeed(Encoder):
    """Draws its weights from the process's random numbers."""

    def initialise(self, member: int, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            nn.init.normal_(parameter.data[member])


class TouchesNothing(Encoder):
    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        return tuple(replace(layer, in_theta_z=False) for layer in Encoder.build_layers(spec))


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Coupled, "members of a bundle of mine must not influence each other; got a member whose encoder gives other"),
        (
            CoupledBackwards,
            "must not influence each other; got a gradient of .* of the encoder that is another beside 2",
        ),
        (Dropout, "must give the same output for the same input in training; got two that differ"),
        (BatchInEvaluation, "in evaluation an image's output of mine must not depend on the images beside it"),
        (Wide, r"the encoder of mine must give \[M, B, 2Z\], here \(3, 4, 8\); got \(3, 4, 7\)"),
        (Broken, r"the encoder of mine must take \(3, 4, 1, 8, 8\); got an error: "),
        (
            Misspelt,
            r"must take \(3, 4, 1, 8, 8\); got an error: AttributeError: .*'hiden'.*\(test_registry.py, line \d+",
        ),
        (Pair, r"the encoder of mine must give \[M, B, 2Z\], here \(3, 4, 8\); got tuple"),
        (NoGradient, "the encoder of mine must let gradients reach its weights; got an output without any"),
        (NotAlone, "mine must work alone and in a bundle, .*; got an error: RuntimeError: .*test_registry.py, line"),
        (
            NotBackwards,
            "mine must work .*, forwards and backwards; got an error: RuntimeError: one of the variables",
        ),
        (
            OtherConstructor,
            "mine must be built by NetworkPart's constructor from build_layers; got an error: TypeError: .*init",
        ),
        (NotFinite, "the encoder of mine must give finite numbers at the start"),
        (
            ExtraWeights,
            "all weights of mine must belong to the layers .* 1,776 parameters a member; got modules with 1,788",
        ),
        (
            SharedWeights,
            "every parameter of mine must have the members as its first dimension, here 3; got .*encoder.scale",
        ),
        (
            GlobalSeed,
            "weights of a member of mine must be drawn from its own seed alone; got others in a bundle, layers",
        ),
        (TouchesNothing, "the last encoder layer of mine and the first of its decoder must have in_theta_z=True"),
    ],
)
def test_what_breaks_the_contract_is_said_in_one_line(encoder, said):
    register_network("mine", encoder, Decoder)
    with pytest.raises(SpecError, match=said) as error:
        check_network(spec_of("mine"))
    assert "\n" not in str(error.value)


def test_a_wrong_decoder_is_named(monkeypatch):
    monkeypatch.setattr(Decoder, "forward", lambda self, z: self.layers["out"](self.layers["latent"](z)))
    register_network("mine", Encoder, Decoder)
    with pytest.raises(
        SpecError, match=r"the decoder of mine must give \[M, B, K, H, W\], here \(3, 4, 1, 8, 8\); got \(3, 4, 64\)"
    ):
        check_network(spec_of("mine"))


def test_its_own_check_is_asked():
    def only_small(spec: TrialSpec) -> None:
        if spec.nc > 10:
            raise SpecError(f"nc of mine must be <= 10; got {spec.nc}")

    register_network("mine", Encoder, Decoder, check=only_small)
    check_network(spec_of("mine", nc=10))
    with pytest.raises(SpecError, match="nc of mine must be <= 10; got 12"):
        check_network(spec_of("mine"))


def test_its_own_check_is_asked_about_every_size():
    """Not only about the smallest, in which it is tried."""

    def only_small(spec: TrialSpec) -> None:
        if spec.nc > 12:
            raise SpecError(f"nc of mine must be <= 12; got {spec.nc}")

    register_network("mine", Encoder, Decoder, check=only_small)
    check_networks(Sweep(name="s", trials=(spec_of("mine"),)))
    with pytest.raises(SpecError, match="nc of mine must be <= 12; got 16"):
        check_networks(Sweep(name="s", trials=(spec_of("mine"), spec_of("mine", nc=16))))


def test_code_that_fails_for_one_size_is_named(monkeypatch):
    build_layers = Encoder.build_layers
    monkeypatch.setattr(
        Encoder, "build_layers", staticmethod(lambda spec: build_layers(spec) if spec.nc < 16 else 1 / 0)
    )
    register_network("mine", Encoder, Decoder)
    with pytest.raises(
        SpecError, match="build_layers of mine must return .*; got an error: ZeroDivisionError: .*test_registry"
    ):
        check_networks(Sweep(name="s", trials=(spec_of("mine"), spec_of("mine", nc=16))))


# -- names and versions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("residual", Encoder, Decoder), {}, "must be new; got 'residual', which is a network of the package"),
        (("My Net", Encoder, Decoder), {}, "the name of a network must be a small letter, then"),
        (
            ("mine", Encoder, lambda spec: None),
            {},
            "the decoder of mine must be a subclass of .*NetworkPart; got <function",
        ),
        (("mine", nn.Linear, Decoder), {}, "the encoder of mine must be a subclass of .*NetworkPart; got <class"),
        (("mine", Encoder, Decoder), {"version": 0}, "version of the network mine must be a whole number >= 1; got 0"),
    ],
)
def test_what_cannot_be_registered(arguments, options, said):
    with pytest.raises(SpecError, match=said):
        register_network(*arguments, **options)


def test_a_name_belongs_to_one_network_of_a_version():
    register_network("mine", Encoder, Decoder)
    register_network("mine", Encoder, Decoder)
    with pytest.raises(SpecError, match="must be new; got 'mine', which is another one of your own .* now 1"):
        register_network("mine", Coupled, Decoder)
    first = spec_of("mine")
    register_network("mine", Coupled, Decoder, version=2)
    second = spec_of("mine")
    assert first.trial_id != second.trial_id and first.shape_key != second.shape_key
    with pytest.raises(SpecError, match="'mine', version 1, must be registered .*; it is registered here as version 2"):
        Sweep(name="s", trials=(first,))
    assert Sweep(name="s", trials=(second,)).networks == (registry.find_network(second),)


def test_a_trial_can_be_read_where_its_network_is_unknown():
    register_network("mine", Encoder, Decoder)
    spec = spec_of("mine")
    registry._REGISTERED.clear()
    again = TrialSpec.from_dict(spec.as_dict())
    assert again.trial_id == spec.trial_id
    with pytest.raises(SpecError, match="'mine', version 1, must be registered .*; it is not registered here"):
        Sweep(name="s", trials=(again,))
    with pytest.raises(SpecError, match="architecture must be one of .*, or one of your own, .*; got 'mine'"):
        spec_of("mine")


def test_the_source_names_the_text_of_both_classes():
    sources = {
        register_network(f"net{i}", encoder, Decoder).source
        for i, encoder in enumerate((Encoder, Coupled, Dropout, Wide))
    }
    assert len(sources) == 4 and all(len(source) == 8 for source in sources)
