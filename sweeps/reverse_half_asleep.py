"""DMaaPx against Reverse Half Asleep, which freezes the decoder half-way (xiao2024, Figure 5)."""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.errors import SpecError
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import at_least
from vaegen_ray.launch.presets import add_options as add_shared
from vaegen_ray.launch.presets import presets, resolve
from vaegen_ray.spec.trial import ASLEEP_SAMPLES
from vaegen_ray.sweep.sweep import Sweep

METHODS = ("normal", "rha", "dmaapx", "dmaapx+rha")
PRESETS = presets(laptop={"seeds": 5, "evaluations": 20})


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(options, PRESETS)
    epochs = setting.fields["epochs"]
    if epochs < 2:
        raise SpecError(
            f"Reverse Half Asleep needs --epochs of at least 2, to freeze the decoder half-way; got {epochs}"
        )
    evaluate_at = tuple(sorted({*setting.fields["evaluate_at"], epochs // 2, *(epochs * i // 8 for i in (5, 6, 7))}))
    asleep = {"asleep_samples": options.asleep_samples, "asleep_percent": options.asleep_percent}
    trials = [
        spec
        for method in METHODS
        for spec in setting.trials(method, evaluate_at=evaluate_at, **(asleep if "rha" in method else {}))
    ]
    return Sweep(name="reverse_half_asleep", trials=tuple(trials), figures=("training_curves",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--asleep-samples",
        choices=ASLEEP_SAMPLES,
        default="prior",
        help="the decoder's samples for z from the prior, or from q(z|x) of real images [default: %(default)s]",
    )
    parser.add_argument(
        "--asleep-percent",
        type=at_least(1, 99),
        default=50,
        metavar="P",
        help="part of the decoder's samples in a batch, 1 to 99 [default: %(default)s]",
    )
    add_shared(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
