"""DMaaPx with a diffusion model that saw a part of the training set (xiao2024, Figures 16 and 18).

Normal training has the whole training set. A classifier is trained to tell the samples of each model from real images.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.launch.presets import presets, resolve
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(
    measures=("two_sample",),
    percents=(10, 30, 50, 70, 90, 100),
    smoke={"percents": (50, 100), "budget": 2},
    laptop={"budget": 20},
    paper={"budget": 0, "seeds": 5},
)


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    trials = setting.without_measures().trials("normal")
    for percent in setting.chosen["percents"]:
        stream = setting.stream(max(1, setting.n_train * percent // 100))
        trials += setting.trials("dmaapx", stream=stream, budget=setting.chosen["budget"])
    return Sweep(name="diffusion_subsets", trials=tuple(trials), figures=("diffusion_subsets",))


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_shared))
