"""How many synthetic samples a VAE needs (xiao2024, Figure 4 right): test and train ELBO against k.

DMaaPx trains on k x |D_train| distinct samples of a diffusion model that was trained on D_train, in place of D_train;
k without end means that no sample comes twice. Normal training stands beside it. The diffusion model is trained first
where the storage does not have it.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import whole_numbers
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.launch.presets import presets, resolve
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(
    smoke={"budgets": (1, 2)},
    laptop={"budgets": (1, 2, 5, 10, 20, 50)},
    paper={"budgets": (1, 2, 5, 10, 20, 50, 100, 250, 1000), "evaluations": 12},
)
ENDLESS = 0
"""The budget that stands for samples without end."""


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    budgets = options.k or setting.chosen["budgets"]
    trials = setting.trials("normal")
    for k in (*sorted(budgets), ENDLESS):
        trials += setting.trials("dmaapx", budget=k)
    return Sweep(name="synthetic_budget", trials=tuple(trials), figures=("synthetic_budget",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--k",
        type=whole_numbers,
        metavar="LIST",
        help="sizes of the synthetic set in units of |D_train|, beside endless",
    )
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
