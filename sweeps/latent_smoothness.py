"""How smooth the encoder is along straight lines between the codes of two test images (xiao2024, Figure 3)."""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.presets import add_methods, presets, resolve
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(measures=("smoothness",), laptop={"seeds": 5})


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    trials = setting.trials(*options.methods)
    return Sweep(name="latent_smoothness", trials=tuple(trials), figures=("latent_smoothness",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    add_methods(parser, "normal,dmaapx")
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
