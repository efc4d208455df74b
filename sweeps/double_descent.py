"""Double descent in VAEs (xiao2024, Figures 7 and 8): the negative test ELBO along two complexity axes.

The path grows nc (the width, Theta_not_z), then mz (the latent dimension, Theta_z), then nc again. Along each axis the
curve is U- or L-shaped; plotted against all parameters it goes down, up, and down again. With ``--methods
normal,dmaapx`` every VAE is also trained on samples of a diffusion model, none of which comes twice (Figure 7).
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import add_stream_options, at_least, collect_stream_fields, parse_names, whole_numbers
from vaegen_ray.launch.presets import build_base_fields
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_stream, rising_epochs
from vaegen_ray.sweep.sweep import Sweep, preset

PRESETS = {
    "smoke": {
        "dataset": "digits",
        "nc": (1, 8, 16),
        "turn": 8,
        "mz": (1, 4),
        "across": (1, 4),
        "seeds": 2,
        "training": {"n_train": 100, "epochs": 4},
    },
    "laptop": {
        "dataset": "digits",
        "nc": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        "turn": 256,
        "mz": (1, 2, 4, 8, 16, 32),
        "across": (),
        "seeds": 3,
        "training": {"n_train": 500, "epochs": 300},
    },
    "paper": {
        "dataset": "cifar10",
        "nc": (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512),
        "turn": 256,
        "mz": (1, 2, 4, 8, 16, 32, 64),
        "across": (1, 2, 8, 64),
        "seeds": 3,
        "training": {"epochs": 1000},
    },
}


def points(nc: tuple[int, ...], turn: int, mz: tuple[int, ...], across: tuple[int, ...]) -> list[tuple[int, int]]:
    """The pairs (nc, mz): Figure 8's path, nc up to ``turn`` at the smallest mz, all mz at ``turn``, then the larger nc
    at the largest mz; and for Figure 7 every nc at each mz of ``across``."""
    path = [(n, min(mz)) for n in nc if n < turn] + [(turn, m) for m in mz] + [(n, max(mz)) for n in nc if n > turn]
    return list(dict.fromkeys(path + [(n, m) for m in across for n in nc]))


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    chosen = preset(options.preset, PRESETS)
    nc, mz = options.nc or chosen["nc"], options.mz or chosen["mz"]
    turn = options.turn or (chosen["turn"] if chosen["turn"] in nc else max(nc))
    if turn not in nc:
        raise SpecError(not_one_of("--turn", turn, nc))
    base = build_base_fields(options, chosen)
    evaluate_at = rising_epochs(base["epochs"])
    sources = {
        "normal": {},
        "dmaapx": {
            "stream": base_stream(base["dataset"], options.preset, **collect_stream_fields(options, base["n_train"]))
        },
    }
    trials = [
        TrialSpec(**base, nc=n, mz=m, seed=seed, evaluate_at=evaluate_at, method=method, **sources[method])
        for method in options.methods
        for n, m in points(nc, turn, mz, chosen["across"])
        for seed in range(options.seeds or chosen["seeds"])
    ]
    return Sweep(name="double_descent", trials=tuple(trials), figures=("double_descent",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument("--nc", type=whole_numbers, metavar="LIST", help="widths, such as 1,8,64 [default: by preset]")
    parser.add_argument("--mz", type=whole_numbers, metavar="LIST", help="latent multipliers [default: by preset]")
    parser.add_argument(
        "--turn",
        type=at_least(1),
        metavar="NC",
        help="the width at which mz grows [default: 256, or the largest of --nc]",
    )
    parser.add_argument(
        "--methods",
        type=parse_names("methods", ("normal", "dmaapx")),
        default=("normal",),
        metavar="LIST",
        help="what VAEs are trained on: normal, dmaapx [default: normal]",
    )
    add_stream_options(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
