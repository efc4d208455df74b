"""Adaptive search (Optuna through Ray Tune): hyperparameters and augmentation that maximise the ELBO on validation.

Where the other sweeps declare all trials, this one finds them: width nc, latent multiplier mz, beta, learning rate, and
an Aug.Tuned (xiao2024, Appendix E) of its own, which transforms, how often and how far. A point's seeds are one bundle.
The last images of the training set are kept for validation; the ELBO on them (beta = 1, whatever is trained with) is
what is maximised, alone or against the number of parameters. The test ELBO is measured and chooses nothing.
"""

if __name__ == "__main__":
    import vaegen_ray.launch.script  # noqa: F401

import argparse
import sys

from vaegen_ray.errors import SpecError
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import MOST_DEVICES, at_least
from vaegen_ray.launch.presets import build_base_fields
from vaegen_ray.search.search import OBJECTIVES, SAMPLERS, SCHEDULERS, Search
from vaegen_ray.search.space import parse_space
from vaegen_ray.spec.diffusion import MOST_SEED
from vaegen_ray.sweep.sweep import preset

AUGMENTED = "augmentation=none|naive|tuned,augment_probability=0.1:1:0.1,augment_strength=0.25:2:0.25"
PRESETS = {
    "smoke": {
        "dataset": "digits",
        "space": f"nc=4:32:log,mz=1:4,beta=0.3:3:log,learning_rate=1e-3:1e-2:log,{AUGMENTED}",
        "points": 6,
        "seeds": 2,
        "training": {"n_train": 150, "epochs": 9},
    },
    "laptop": {
        "dataset": "digits",
        "space": f"nc=8:256:log,mz=1:16:log,beta=0.2:4:log,learning_rate=3e-4:1e-2:log,{AUGMENTED}",
        "points": 60,
        "seeds": 2,
        "training": {"n_train": 1000, "epochs": 100},
    },
    "paper": {
        "dataset": "cifar10",
        "space": f"nc=64:512:log,mz=1:64:log,beta=0.2:4:log,learning_rate=3e-5:1e-3:log,{AUGMENTED}",
        "points": 200,
        "seeds": 3,
        "training": {"epochs": 1000},
    },
}
RUNGS = 4
"""Evaluations of a trial; each comes after three times the epochs of the one before."""
VALIDATION_PART = 5
"""One training image in so many is kept for validation."""


def declare(options: argparse.Namespace) -> Search:
    """The search, from the options."""
    chosen = preset(options.preset, PRESETS)

    def held_out(n_train: int) -> int:
        return options.validation or n_train // VALIDATION_PART

    base = build_base_fields(options, chosen, held_out)
    space = parse_space(chosen["space"], options.space or "")
    if options.batch_size and "batch_size" in {dimension.name for dimension in space.dimensions}:
        raise SpecError(
            f"the batch size must be given by --batch-size or --space; got both, {options.batch_size} in one"
        )
    epochs = base["epochs"]
    evaluate_at = tuple(sorted({-(-epochs // 3**rung) for rung in range(RUNGS)}))
    return Search(
        name="search",
        fields={**base, "validation": held_out(base["n_train"]), "evaluate_at": evaluate_at},
        space=space,
        points=options.points or min(chosen["points"], space.size),
        seeds=options.seeds or chosen["seeds"],
        sampler=options.sampler,
        scheduler=options.scheduler,
        objectives=options.objectives,
        search_seed=options.search_seed,
        figures=("search",),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this sweep has beyond the shared options."""
    parser.add_argument("--points", type=at_least(1), metavar="N", help="points in all [default: by preset]")
    parser.add_argument(
        "--space",
        metavar="LIST",
        help="dimensions in place of the preset's, such as nc=4:64:log,beta=1,augmentation=none|tuned [default: none]",
    )
    parser.add_argument(
        "--sampler", choices=SAMPLERS, default=Search.sampler, help="what suggests points [default: %(default)s]"
    )
    parser.add_argument(
        "--scheduler",
        choices=SCHEDULERS,
        default=Search.scheduler,
        help="what stops points early [default: %(default)s]",
    )
    parser.add_argument(
        "--objectives",
        choices=OBJECTIVES,
        default=Search.objectives,
        help="the ELBO on validation, or it against the number of parameters [default: %(default)s]",
    )
    parser.add_argument(
        "--validation",
        type=at_least(1),
        metavar="N",
        help="images at the end of the training set that are not trained on [default: a fifth]",
    )
    parser.add_argument(
        "--concurrent",
        type=at_least(1, MOST_DEVICES),
        metavar="N",
        help="points at a time; fewer know more of each other [default: as many as devices]",
    )
    parser.add_argument(
        "--search-seed",
        type=at_least(0, MOST_SEED),
        default=Search.search_seed,
        metavar="N",
        help="seed of the sampler [default: %(default)s]",
    )


if __name__ == "__main__":
    sys.exit(main(declare, __doc__.splitlines()[0], add_options))
