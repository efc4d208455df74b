"""How many synthetic samples a VAE needs (xiao2024, Figure 4 right): test and train ELBO against k.

DMaaPx trains on k x |D_train| distinct samples of a diffusion model that was trained on D_train, in place of D_train;
k without end means that no sample comes twice. Normal training stands beside it. The diffusion model is trained first
where the storage does not have it.
"""

import argparse
import sys

from vaegen_ray.errors import SpecError
from vaegen_ray.service.main import main
from vaegen_ray.service.options import add_stream_options, of_every_trial, of_the_stream, whole_numbers
from vaegen_ray.sweep.base import base_spec, base_stream
from vaegen_ray.sweep.spec import Sweep, preset
from vaegen_ray.trial import TrialSpec, rising_epochs

PRESETS = {
    "smoke": {
        "dataset": "digits",
        "model": {"nc": 16, "mz": 2},
        "budgets": (1, 2),
        "seeds": 2,
        "training": {"n_train": 100, "epochs": 4},
    },
    "laptop": {
        "dataset": "digits",
        "model": {"nc": 256, "mz": 4},
        "budgets": (1, 2, 5, 10, 20, 50),
        "seeds": 3,
        "training": {"n_train": 1000, "epochs": 300},
    },
    "paper": {
        "dataset": "cifar10",
        "model": {"nc": 256, "mz": 1},
        "budgets": (1, 2, 5, 10, 20, 50, 100, 250, 1000),
        "seeds": 3,
        "training": {"epochs": 1000},
    },
}
ENDLESS = 0
"""The budget that stands for samples without end."""


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    chosen = preset(options.preset, PRESETS)
    own = options.dataset in (None, chosen["dataset"])
    training = chosen["training"] if own else {"epochs": chosen["training"]["epochs"]}
    base = base_spec(options.dataset or chosen["dataset"], **{**training, **of_every_trial(options)})
    model = {"nc": options.nc or chosen["model"]["nc"], "mz": options.mz or chosen["model"]["mz"]}
    stream = base_stream(base["dataset"], options.preset, **of_the_stream(options, base["n_train"]))
    budgets = options.k or chosen["budgets"]
    if len(set(budgets)) < len(budgets):
        raise SpecError(f"--k must hold each number once; got {','.join(map(str, budgets))}")
    common = {**base, **model, "evaluate_at": rising_epochs(base["epochs"])}
    sources = [{}, *({"method": "dmaapx", "budget": k, "stream": stream} for k in (*sorted(budgets), ENDLESS))]
    trials = [
        TrialSpec(**common, **source, seed=seed)
        for source in sources
        for seed in range(options.seeds or chosen["seeds"])
    ]
    return Sweep(name="synthetic_budget", trials=tuple(trials), figures=("synthetic_budget",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--k",
        type=whole_numbers,
        metavar="LIST",
        help="sizes of the synthetic set in units of |D_train|, beside endless",
    )
    parser.add_argument("--nc", type=int, metavar="N", help="width of the VAEs [default: by preset]")
    parser.add_argument("--mz", type=int, metavar="N", help="latent multiplier of the VAEs [default: by preset]")
    add_stream_options(parser)


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
