"""Noise that fades over the first half of the training, alone and with DMaaPx (xiao2024, Figure 14)."""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.launch.presets import presets, resolve
from vaegen_ray.sweep.sweep import Sweep

METHODS = ("normal", "mollify", "dmaapx", "dmaapx+mollify")
PRESETS = presets(laptop={"seeds": 5, "evaluations": 20})


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    noise = {"mollify_std": options.mollify_std}
    trials = [spec for method in METHODS for spec in setting.trials(method, **(noise if "mollify" in method else {}))]
    return Sweep(name="mollification", trials=tuple(trials), figures=("training_curves",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--mollify-std",
        type=float,
        default=0.5,
        metavar="S",
        help="standard deviation of the noise at the start, black to white is 1 [default: %(default)s]",
    )
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
