"""What k times more synthetic data is worth in real data: a control that xiao2024 lacks.

The training set is a part of what there is, so that more real images exist. VAEs are trained on k times as many real
images, or on k times as many samples of a diffusion model that saw the part alone; early stopping stands beside them.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.data.catalog import info
from vaegen_ray.errors import SpecError
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import whole_numbers
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.launch.presets import presets, resolve
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(
    smoke={"budgets": (2,)},
    laptop={"training": {"n_train": 200, "epochs": 600}, "budgets": (2, 3, 5), "seeds": 5},
    paper={"training": {"n_train": 5000, "epochs": 1000}, "budgets": (2, 5, 10)},
)
ENDLESS = 0
"""The budget that stands for samples without end."""


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS, ("early_stopping",))
    budgets = tuple(sorted(options.k or setting.chosen["budgets"]))
    most = info(setting.fields["dataset"]).n_train // setting.n_train
    if budgets[0] < 2 or budgets[-1] > most:
        raise SpecError(
            f"--k must hold numbers from 2 to {most}, since {setting.fields['dataset']} has {most} times "
            f"the {setting.n_train} training images; got {','.join(map(str, options.k or budgets))}"
        )
    trials = setting.trials("normal", "early_stopping")
    for k in budgets:
        trials += setting.trials("more_real", budget=k)
    for k in (1, *budgets, ENDLESS):
        trials += setting.trials("dmaapx", budget=k)
    return Sweep(name="more_real_data", trials=tuple(trials), figures=("more_real_data",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--k", type=whole_numbers, metavar="LIST", help="sizes of the larger sets in units of |D_train|, beside endless"
    )
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
