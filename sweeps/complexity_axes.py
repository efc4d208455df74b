"""Growing the latent dimension or the width alone: test ELBO and gaps (xiao2024, Figures 6 and 7).

mz grows Theta_z, nc grows Theta_not_z; every VAE is trained on the training set and on diffusion samples (DMaaPx). The
three gaps are compared between the smallest mz and a larger one (Figure 6).
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import add_stream_options, at_least, whole_numbers
from vaegen_ray.launch.presets import add_methods, presets, resolve
from vaegen_ray.sweep.sweep import Sweep

PRESETS = presets(
    measures=("amortization", "robustness"),
    smoke={"model": {"nc": 8, "mz": 1}, "nc": (4, 8), "mz": (1, 4), "across": (1,), "compared": (1, 4)},
    laptop={
        "model": {"nc": 256, "mz": 1},
        "training": {"n_train": 1000, "epochs": 200},
        "nc": (4, 16, 64, 256, 512),
        "mz": (1, 2, 4, 8, 16, 32),
        "across": (1, 32),
        "compared": (1, 8),
    },
    paper={
        "gaps": 8,
        "nc": (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512),
        "mz": (1, 2, 4, 8, 10, 16, 32, 64),
        "across": (1, 2, 8, 64),
        "compared": (1, 10),
    },
)


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    setting = resolve(argparse.Namespace(**{**vars(options), "nc": None, "mz": None}), PRESETS)
    chosen = setting.chosen
    ncs, mzs = options.nc or chosen["nc"], options.mz or chosen["mz"]
    turn = options.turn or (setting.fields["nc"] if setting.fields["nc"] in ncs else max(ncs))
    if turn not in ncs:
        raise SpecError(not_one_of("--turn", turn, ncs))
    plain, trials = setting.without_measures(), []
    across = [mz for mz in chosen["across"] if mz in mzs] or [min(mzs)]
    for nc, mz in dict.fromkeys([(turn, mz) for mz in mzs] + [(nc, mz) for mz in across for nc in ncs]):
        for method in options.methods:
            compared = method == "normal" and nc == turn and mz in chosen["compared"]
            trials += (setting if compared else plain).trials(method, nc=nc, mz=mz)
    return Sweep(name="complexity_axes", trials=tuple(trials), figures=("complexity_axes", "gaps_by_mz"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    add_methods(parser, "normal,dmaapx")
    parser.add_argument("--nc", type=whole_numbers, metavar="LIST", help="widths, such as 1,8,64 [default: by preset]")
    parser.add_argument("--mz", type=whole_numbers, metavar="LIST", help="latent multipliers [default: by preset]")
    parser.add_argument(
        "--turn", type=at_least(1), metavar="NC", help="the width at which mz grows [default: by preset]"
    )
    add_stream_options(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
