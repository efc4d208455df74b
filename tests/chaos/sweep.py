"""The small sweep that the chaos harness disturbs: four bundles of two VAEs that last some seconds each.

    python sweep.py [--samples] [options of a sweep]

It has evaluations on the way, series of numbers, and weights. With ``--samples`` two of its bundles are trained on the
samples of a small diffusion model, so that samplers, their coordinator and the worker of a diffusion model exist too.
"""

import argparse
import sys

from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import add_samplers
from vaegen_ray.spec.evaluation import EvaluationSettings, Reconstruction
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, base_stream
from vaegen_ray.sweep.sweep import Sweep

EPOCHS, IMAGES = 1200, 100


def declare(options: argparse.Namespace) -> Sweep:
    """The sweep, from the options."""
    epochs = options.epochs or EPOCHS
    base = base_spec("digits", n_train=IMAGES, epochs=epochs)
    stream = base_stream("digits", "smoke", n_train=IMAGES)
    sources = [{}, {"method": "dmaapx", "stream": stream, "budget": 3}] if options.samples else [{}]
    trials = tuple(
        TrialSpec(
            **base,
            **source,
            nc=nc,
            seed=seed,
            evaluate_at=tuple(sorted({1, *(epochs * part // 4 for part in (1, 2, 3, 4))})),
            measures=EvaluationSettings(reconstruction=Reconstruction(shown=1)),
        )
        for nc in ((4, 8) if options.samples else (4, 6, 8, 10))
        for source in sources
        for seed in range(options.seeds or 2)
    )
    return Sweep(name="chaos", trials=trials)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument("--samples", action="store_true", help="train on diffusion samples too [default: off]")
    add_samplers(parser)


if __name__ == "__main__":
    sys.exit(main(declare, "A sweep to be disturbed.", add_options))
