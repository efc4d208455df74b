"""Three gaps of VAEs by what they are trained on (xiao2024, Figures 2 and 10 to 13, Table 7).

Normal training, augmentation (Aug.Naive and Aug.Tuned) and DMaaPx, and early stopping beside them: generalization,
amortization and robustness gap over the effective epochs. ``--dataset`` and ``--likelihood`` give the other figures.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.presets import add_methods, presets, resolve
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(
    measures=("amortization", "robustness"),
    smoke={"gaps": 2},
    laptop={"seeds": 5, "gaps": 3},
    paper={"gaps": 8},
)


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    trials = setting.trials(*options.methods)
    return Sweep(name="generalization_gaps", trials=tuple(trials), figures=("generalization_gaps",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    add_methods(parser, "normal,dmaapx,aug_naive,aug_tuned,early_stopping")
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
