"""Rate, distortion and information over beta: does the rate help to generalise (bozkurt2021, Figures 3 to 8)?

One setting is a data set, a split of it with a size, a network and an objective; every setting gets all betas with all
seeds, which is one bundle. ``--parts`` chooses out of what the paper compares: depth (Figures 3 and 8), split (5), size
(4), network (6), dataset (7), objective (the rate, or one of its two parts) and early_stopping.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vaegen_ray.data.catalog import info
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import at_least, collect_trial_fields, numbers, parse_names
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import (
    base_measures,
    base_spec,
    fitting_batch,
    held_out_by,
    rising_epochs,
    smoke_training,
)
from vaegen_ray.sweep.sweep import Sweep, preset

PARTS = ("depth", "split", "size", "network", "dataset", "objective", "early_stopping")
BETAS = (0.001, 0.005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0, 3.0, 5.0)
COMMON: dict[str, Any] = {"batch_size": 128, "learning_rate": 1e-3, "latent_per_mz": 10, "mz": 1}
"""The paper's batch size and latent dimension; it does not give the step size, this is that of related code."""
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "dataset": "tetrominoes1k",
        "dense": 512,
        "sparse": 160,
        "sizes": (160,),
        "layers": (1, 3),
        "convolutional_layers": (1,),
        "convolutional_sizes": (),
        "widths": {"fully_connected": 16, "convolutional": 4},
        "others": {"digits": (200,)},
        "parts": PARTS,
        "betas": (0.1, 1.0),
        "seeds": 2,
        "iterations": 16,
        "evaluations": 2,
    },
    "laptop": {
        "dataset": "tetrominoes10k",
        "dense": 5120,
        "sparse": 1024,
        "sizes": (1024,),
        "layers": (1, 3),
        "convolutional_layers": (1, 3),
        "convolutional_sizes": (),
        "widths": {"fully_connected": 128, "convolutional": 16},
        "others": {"digits": (500,)},
        "parts": ("depth", "split"),
        "betas": (0.001, 0.01, 0.1, 0.3, 1.0, 3.0),
        "seeds": 3,
        "iterations": 3000,
        "evaluations": 6,
    },
    "paper": {
        "dataset": "tetrominoes",
        "dense": 81_920,
        "sparse": 16_384,
        "sizes": tuple(8192 * i for i in range(1, 9)),
        "layers": (1, 2, 3),
        "convolutional_layers": (1, 3),
        "convolutional_sizes": tuple(8192 * i for i in range(1, 9)),
        "widths": {"fully_connected": 512, "convolutional": 64},
        "others": {
            "mnist": (3000, 6000, 30_000),
            "fashion_mnist": (3000, 6000, 30_000),
            "smallnorb": (2430, 4860, 12_150),
            "shapes3d": (8192, 16_384, 65_536),
        },
        "parts": PARTS,
        "betas": BETAS,
        "seeds": 5,
        "iterations": 257_000,
        "evaluations": 12,
    },
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the trials of one bundle share."""

    dataset: str
    n_train: int
    hidden_layers: int
    split: str = "random"
    architecture: str = "fully_connected"
    regulariser: str = "rate"
    method: str = "normal"


def settings(chosen: dict[str, Any], parts: tuple[str, ...]) -> list[Setting]:
    """All settings of some parts of the study, each once."""
    made = {
        "depth": _depth,
        "split": _split,
        "size": _size,
        "network": _network,
        "dataset": _dataset,
        "objective": _objective,
        "early_stopping": _early_stopping,
    }
    return list(dict.fromkeys(setting for part in parts for setting in made[part](chosen)))


def _depth(chosen: dict[str, Any]) -> Iterator[Setting]:
    for n_train in (chosen["dense"], chosen["sparse"]):
        for layers in chosen["layers"]:
            yield Setting(dataset=chosen["dataset"], n_train=n_train, hidden_layers=layers)


def _split(chosen: dict[str, Any]) -> Iterator[Setting]:
    yield from _depth(chosen)
    for layers in chosen["layers"]:
        yield Setting(dataset=chosen["dataset"], n_train=chosen["dense"], hidden_layers=layers, split="checkerboard")


def _size(chosen: dict[str, Any]) -> Iterator[Setting]:
    for split in ("random", "constant_density"):
        for n_train in chosen["sizes"]:
            for layers in chosen["layers"]:
                yield Setting(dataset=chosen["dataset"], n_train=n_train, hidden_layers=layers, split=split)


def _network(chosen: dict[str, Any]) -> Iterator[Setting]:
    sizes = dict.fromkeys((chosen["dense"], chosen["sparse"], *chosen["convolutional_sizes"]))
    every = [(n_train, "random") for n_train in sizes] + [(chosen["dense"], "checkerboard")]
    for n_train, split in every if chosen["convolutional_sizes"] else [(chosen["sparse"], "random")]:
        for layers in chosen["convolutional_layers"]:
            yield Setting(
                dataset=chosen["dataset"],
                n_train=n_train,
                hidden_layers=layers,
                split=split,
                architecture="convolutional",
            )
    for layers in chosen["layers"]:
        yield Setting(dataset=chosen["dataset"], n_train=chosen["sparse"], hidden_layers=layers)


def _dataset(chosen: dict[str, Any]) -> Iterator[Setting]:
    for dataset, sizes in chosen["others"].items():
        for n_train in sizes:
            for layers in (1, 3):
                yield Setting(dataset=dataset, n_train=n_train, hidden_layers=layers)


def _objective(chosen: dict[str, Any]) -> Iterator[Setting]:
    for regulariser in ("rate", "mutual_information", "marginal_kl"):
        for layers in (1, 3):
            yield Setting(
                dataset=chosen["dataset"], n_train=chosen["sparse"], hidden_layers=layers, regulariser=regulariser
            )


def _early_stopping(chosen: dict[str, Any]) -> Iterator[Setting]:
    for method in ("normal", "early_stopping"):
        for layers in (1, 3):
            yield Setting(dataset=chosen["dataset"], n_train=chosen["sparse"], hidden_layers=layers, method=method)


def trials(setting: Setting, chosen: dict[str, Any], options: argparse.Namespace) -> Iterator[TrialSpec]:
    """A trial for every beta and seed."""
    iterations = options.iterations or chosen["iterations"]
    methods = {"early_stopping"}.intersection(options.parts or chosen["parts"])
    left = setting.n_train - held_out_by(methods)(setting.n_train)
    batch_size = options.batch_size or fitting_batch(COMMON["batch_size"], left)
    epochs = options.epochs or max(1, round(iterations * batch_size / setting.n_train))
    levels = max(info(setting.dataset).levels)
    smoke = options.preset == "smoke" and info(setting.dataset).bins is None
    limits = {"n_test": smoke_training(setting.dataset).get("n_test", 0)} if smoke else {}
    of_sweep = {"epochs": epochs, "n_train": setting.n_train, "batch_size": batch_size}
    given = {**vars(setting), **limits, **collect_trial_fields(options), **of_sweep}
    base = base_spec(**{"levels": levels, "likelihood": "bernoulli", **COMMON, **given})
    nc = options.nc or chosen["widths"][base["architecture"]]
    names = ("information", "neighbours") if setting.regulariser == "rate" else ("information",)
    measures = base_measures(setting.dataset, options.preset, names)
    evaluate_at = rising_epochs(epochs, chosen["evaluations"])
    for beta in options.betas or chosen["betas"]:
        for seed in range(options.seeds or chosen["seeds"]):
            yield TrialSpec(**base, nc=nc, beta=beta, seed=seed, evaluate_at=evaluate_at, measures=measures)


def _sizes(dataset: str, preset: str) -> dict[str, Any]:
    """Dense and sparse training sets of another data set: all that there is for training, and a fifth of it; with
    ``smoke`` no more than the preset's own."""
    dense = info(dataset).n_train
    if preset == "smoke":
        dense = min(dense, 5 * PRESETS[preset]["sparse"])
    return {"dataset": dataset, "dense": dense, "sparse": dense // 5, "sizes": (dense // 5,), "convolutional_sizes": ()}


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    chosen = preset(options.preset, PRESETS)
    if options.dataset not in (None, chosen["dataset"]):
        chosen = {**chosen, **_sizes(options.dataset, options.preset)}
    if options.n_train:
        chosen = {**chosen, "sparse": options.n_train}
    every = [
        spec
        for setting in settings(chosen, options.parts or chosen["parts"])
        for spec in trials(setting, chosen, options)
    ]
    return Sweep(name="rate_distortion", trials=tuple(every), figures=("rate_distortion", "information"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--parts",
        type=parse_names("parts", PARTS),
        metavar="LIST",
        help=f"what is compared: {', '.join(PARTS)} [default: by preset]",
    )
    parser.add_argument(
        "--betas", type=numbers, metavar="LIST", help="weights of the rate, such as 0.01,0.1,1 [default: by preset]"
    )
    parser.add_argument("--nc", type=at_least(1), metavar="N", help="width of the VAEs [default: by preset, network]")
    parser.add_argument(
        "--iterations", type=at_least(1), metavar="N", help="optimiser steps, in place of --epochs [default: by preset]"
    )


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
