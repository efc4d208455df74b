"""Why test ELBOs fall late in training: the encoder or the decoder (zhang2021, Figures 1 and 2)?

At every evaluation the encoder is trained on, with the decoder as it is: on the test set, which is optimal inference,
and on mixtures of the VAE's own samples and the training set, which is self-consistent training. On binary and on grey
images. ``--save-every 100`` keeps the weights as the paper does.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys
from dataclasses import replace
from typing import Any

from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import at_least, collect_trial_fields
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_measures, base_spec, smoke_training
from vaegen_ray.sweep.sweep import Sweep, preset

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "images": ({"dataset": "digits", "levels": 2}, {"dataset": "digits", "levels": 17}),
        "model": {"nc": 16, "mz": 5},
        "seeds": 2,
        "training": {"n_train": 100, "epochs": 4},
        "evaluations": 2,
    },
    "laptop": {
        "images": ({"dataset": "digits", "levels": 2}, {"dataset": "digits", "levels": 17, "nc": 64}),
        "model": {"nc": 128, "mz": 5},
        "seeds": 4,
        "training": {"n_train": 1000, "epochs": 450},
        "evaluations": 10,
    },
    "paper": {
        "images": ({"dataset": "binary_mnist"}, {"dataset": "mnist"}),
        "model": {"nc": 500, "mz": 1},
        "seeds": 3,
        "training": {"epochs": 1000, "latent_per_mz": 10},
        "evaluations": 10,
    },
}


def declare(options: argparse.Namespace) -> Sweep:
    """All trials of the sweep, from the options."""
    chosen = preset(options.preset, PRESETS)
    images = chosen["images"] if options.dataset is None else ({"dataset": options.dataset},)
    trials = []
    for each in images:
        smoke = options.dataset and options.preset == "smoke"
        limits = smoke_training(each["dataset"]) if smoke else {}
        base = base_spec(**{**chosen["model"], **each, **chosen["training"], **limits, **collect_trial_fields(options)})
        count, epochs = options.evaluations or chosen["evaluations"], base["epochs"]
        evaluate_at = tuple(sorted({max(1, epochs * (i + 1) // count) for i in range(count)}))
        measures = base_measures(base["dataset"], options.preset, ("inference",))
        assert measures is not None
        base["measures"] = replace(measures, gaps_at=evaluate_at)
        seeds = range(options.seeds or chosen["seeds"])
        trials += [TrialSpec(**base, evaluate_at=evaluate_at, seed=seed) for seed in seeds]
    return Sweep(name="inference_gap", trials=tuple(trials), figures=("inference_gap",))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument(
        "--evaluations",
        type=at_least(1, 1000),
        metavar="N",
        help="how often all is measured, in even steps [default: 10; smoke 2]",
    )


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
