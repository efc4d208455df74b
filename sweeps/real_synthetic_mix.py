"""Real images and diffusion samples in one training set, by their shares (xiao2024, Figure 15).

x % of the images are real: 0 is DMaaPx, 100 normal training; all of it without and with Aug.Tuned.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.launch.presets import presets, resolve
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(percents=(0, 20, 40, 60, 80, 100), smoke={"percents": (0, 40, 100)})


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    trials: list[TrialSpec] = []
    for percent in setting.chosen["percents"]:
        images = {0: ("dmaapx",), 100: ()}.get(percent, ("mix",))
        share = {"real_percent": percent} if 0 < percent < 100 else {}
        trials += setting.trials("+".join(images) or "normal", "+".join((*images, "aug_tuned")), **share)
    return Sweep(name="real_synthetic_mix", trials=tuple(trials), figures=("real_synthetic_mix",))


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_shared))
