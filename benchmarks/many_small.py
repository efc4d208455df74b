"""Any number of small VAEs on the digits, as a sweep: what ``benchmarks/bundles.py`` measures our side with.

    python benchmarks/many_small.py --nc 4,8,16,32 --seeds 50 --epochs 50 --n-train 500 --storage DIR

It takes the options of all sweeps. The last line tells the peak memory of this process, the driver, without workers.
"""

import argparse
import resource
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import collect_trial_fields, whole_numbers
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, rising_epochs
from vaegen_ray.sweep.sweep import Sweep


def declare(options: argparse.Namespace) -> Sweep:
    """``--seeds`` VAEs for each width, evaluated along the way as those of the double descent are."""
    base = base_spec(options.dataset or "digits", **{"n_train": 500, "epochs": 50, **collect_trial_fields(options)})
    evaluate_at = rising_epochs(base["epochs"])
    trials = [
        TrialSpec(**base, nc=nc, seed=seed, evaluate_at=evaluate_at)
        for nc in options.nc
        for seed in range(options.seeds or 3)
    ]
    return Sweep(name="many_small", trials=tuple(trials))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument("--nc", type=whole_numbers, default=(4, 8, 16, 32), metavar="LIST", help="[default: 4,8,16,32]")


if __name__ == "__main__":
    code = main(declare, __doc__.splitlines()[0], add_options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(f"peak memory of the driver {peak / 1024:.0f} MiB")
    sys.exit(code)
