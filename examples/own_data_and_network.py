"""A data set and a network of your own, swept: does a gated network generalise better than a plain one?

Everything is in this file; the package is not edited. The data are 8x8 patches of the two photographs that scikit-learn
brings along, other ones to train on than to test on. The network is fully connected with gates,
h' = tanh(a) * sigmoid(b). Copy the file, and replace the two parts by yours.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

import numpy as np

from vaegen_ray.data.registry import register_dataset
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import collect_trial_fields
from vaegen_ray.models.layer import Layer
from vaegen_ray.models.layout import likelihood_channels
from vaegen_ray.models.networks import NetworkPart
from vaegen_ray.models.registry import register_network
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, rising_epochs
from vaegen_ray.sweep.sweep import Sweep, preset

# -- the data set: a function that gives uint8 [N, C, H, W] ------------------------------------------------------------

SIDE, TRAIN, TEST = 8, 2000, 500


def patches() -> tuple[np.ndarray, np.ndarray]:
    """Grey tiles of both photographs, which do not overlap: [2000, 1, 8, 8] to train on and [500, 1, 8, 8] to test."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for photograph in load_sample_images().images:  # uint8 [427, 640, 3]
        grey = photograph.mean(axis=2).astype(np.uint8)
        down, across = grey.shape[0] // SIDE, grey.shape[1] // SIDE
        cut = grey[: down * SIDE, : across * SIDE].reshape(down, SIDE, across, SIDE)
        tiles.append(cut.swapaxes(1, 2).reshape(-1, 1, SIDE, SIDE))
    chosen = np.random.Generator(np.random.PCG64(0)).permutation(np.concatenate(tiles))
    return chosen[:TRAIN], chosen[TRAIN : TRAIN + TEST]


register_dataset("patches", patches, title="patches of two photographs, 8x8")

# -- the network: layers as data, and the way through them, for all members of a bundle at once ------------------------


def gated(name: str, n_in: int, n_out: int, in_theta_z: bool = False) -> tuple[Layer, ...]:
    """Two affine maps: what is said, and how much of it passes."""
    return tuple(
        Layer(name=f"{name}_{part}", kind="linear", n_in=n_in, n_out=n_out, in_theta_z=in_theta_z)
        for part in ("value", "gate")
    )


class GatedNetwork(NetworkPart):
    """What both halves share."""

    def gate(self, name: str, h):
        """[M, B, in] -> [M, B, out]; a product by member, so members know nothing of each other."""
        return self.layers[f"{name}_value"](h).tanh() * self.layers[f"{name}_gate"](h).sigmoid()


class GatedEncoder(GatedNetwork):
    """pixels - nc - nc - 2Z."""

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        return (
            *gated("first", spec.pixels, spec.nc),
            *gated("second", spec.nc, spec.nc),
            Layer(name="posterior", kind="linear", n_in=spec.nc, n_out=2 * spec.latent_dim, in_theta_z=True),
        )

    def forward(self, x):
        """[M, B, C, H, W] -> [M, B, 2Z]: means, then the numbers that standard deviations are made of."""
        return self.layers["posterior"](self.gate("second", self.gate("first", x.flatten(2))))


class GatedDecoder(GatedNetwork):
    """Z - nc - nc - the parameters of every pixel."""

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        _, height, width = spec.image_shape
        return (
            *gated("first", spec.latent_dim, spec.nc, in_theta_z=True),
            *gated("second", spec.nc, spec.nc),
            Layer(name="out", kind="linear", n_in=spec.nc, n_out=likelihood_channels(spec) * height * width),
        )

    def forward(self, z):
        """[M, B, Z] -> [M, B, K, H, W]."""
        h = self.gate("second", self.gate("first", z))
        return self.layers["out"](h).unflatten(2, (-1, *self.spec.image_shape[1:]))


register_network("gated", GatedEncoder, GatedDecoder, version=1)

# -- the sweep ---------------------------------------------------------------------------------------------------------

PRESETS = {
    "smoke": {"betas": (0.3, 1.0), "seeds": 2, "nc": 16, "training": {"n_train": 100, "epochs": 4}},
    "laptop": {"betas": (0.1, 0.3, 1.0, 3.0), "seeds": 3, "nc": 128, "training": {"n_train": 500, "epochs": 300}},
    "paper": {"betas": (0.01, 0.1, 0.3, 1.0, 3.0, 10.0), "seeds": 5, "nc": 512, "training": {"epochs": 1000}},
}


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options: both networks, every beta, every seed."""
    chosen = preset(options.preset, PRESETS)
    trials = []
    for architecture in (options.architecture,) if options.architecture else ("fully_connected", "gated"):
        given = {
            "latent_per_mz": 8,
            "learning_rate": 3e-4,
            **chosen["training"],
            **collect_trial_fields(options),
            "architecture": architecture,
        }
        base = base_spec(options.dataset or "patches", **given)
        trials += [
            TrialSpec(**base, nc=chosen["nc"], beta=beta, seed=seed, evaluate_at=rising_epochs(base["epochs"], 6))
            for beta in chosen["betas"]
            for seed in range(options.seeds or chosen["seeds"])
        ]
    return Sweep(name="own_data_and_network", trials=tuple(trials), figures=("rate_distortion",))


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0]))
