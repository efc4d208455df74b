"""What VAEs are used for: representations, reconstructions, samples (xiao2024, Table 11, Figures 4 left, 9 and 19).

Representations are classified on the test set and on corrupted versions of it.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.presets import add_methods, presets, resolve
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.sweep.sweep import Sweep

MEASURES = ("representation", "corruptions", "reconstruction")
PRESETS = presets(measures=MEASURES, laptop={"seeds": 5}, paper={"measures": (*MEASURES, "sample_quality")})


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    trials = setting.trials(*options.methods)
    return Sweep(name="representation", trials=tuple(trials), figures=("representation",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    add_methods(parser, "normal,dmaapx,aug_naive,aug_tuned")
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
