"""The options that all sweep scripts share. A wrong one is one line and exit code 2."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from vaegen_ray.checks import MOST
from vaegen_ray.errors import SpecError, nearest
from vaegen_ray.models import registry
from vaegen_ray.spec.diffusion import MOST_IMAGES, MOST_LEVELS, PRECISIONS
from vaegen_ray.spec.trial import LIKELIHOODS, MOST_EPOCHS
from vaegen_ray.sweep.sweep import PRESETS

IMPORT = "--import"
"""The option that names Python files which register data sets and networks of your own."""
MOST_SEEDS = 10_000
MOST_DEVICES = 100_000
"""GPUs of a plan, samplers of a pool, points at a time."""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are ``SpecError``s of one line, which suggest the nearest name, and whose options take no
    empty text."""

    def error(self, message: str) -> NoReturn:
        raise SpecError(f"{message} (see --help)")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As usual; an unknown option is compared with those of the command that it is given to."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = self._list_options(sys.argv[1:] if args is None else args)
            near = nearest(unknown[0].partition("=")[0], known) if unknown[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return options

    def _list_options(self, args: Sequence[str]) -> list[str]:
        """The options of the command that the arguments name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for i, name in enumerate(args):
                    if name in action.choices:
                        inner: OneLineParser = action.choices[name]
                        return inner._list_options(args[i + 1 :])
        return list(self._option_string_actions)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if not arg_string and action.default != "" and action.nargs != argparse.PARSER:
            raise argparse.ArgumentError(action, "must not be empty; got ''")
        return super()._get_value(action, arg_string)  # type: ignore[misc]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = nearest(value, action.choices or ())
            raise argparse.ArgumentError(action, f"{error.message}{near}") from None


def at_least(least: int, most: int = MOST) -> Callable[[str], int]:
    """A type for whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            limit = f"<= {most:,}" if value > most else f">= {least}"
            raise argparse.ArgumentTypeError(f"must be a whole number {limit}; got {text!r}")
        return value

    return parse


def whole_port(text: str) -> int:
    """A type for ports, 1 to 65535; 0 is any that is free."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be a port from 1 to 65535, or 0 for any that is free; got {text!r}")
    return value


def whole_numbers(text: str) -> tuple[int, ...]:
    """A type for comma-separated whole numbers from 1 to ``MOST``, such as ``1,8,64``, each once."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = (0,)
    if not all(1 <= value <= MOST for value in values) or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(
            f"must be whole numbers >= 1 with commas between, such as 1,8,64, each once and <= {MOST:,}; got {text!r}"
        )
    return values


def numbers(text: str) -> tuple[float, ...]:
    """A type for comma-separated numbers >= 0, such as ``0.01,0.1,1``, each once."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (-1.0,)
    if not all(math.isfinite(value) and value >= 0 for value in values) or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(
            f"must be numbers >= 0 with commas between, such as 0.01,0.1,1, each once; got {text!r}"
        )
    return values


def parse_names(what: str, choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A type for comma-separated names out of ``choices``, each at most once."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if not set(names) <= set(choices) or len(set(names)) < len(names):
            unknown = [name for name in names if name not in choices]
            raise argparse.ArgumentTypeError(
                f"must be {what} out of {', '.join(choices)} with commas between, each once; got {text!r}"
                f"{nearest(unknown[0], choices) if unknown else ''}"
            )
        return names

    return parse


def fraction(text: str) -> float:
    """A type for numbers from 0.1 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0.1 to 1; got {text!r}")
    return value


def local_folder(text: str) -> str:
    """A type for folders of this machine."""
    if re.match("[a-z][a-z0-9+.-]+:/", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"must be a folder of this machine; got {text!r}")
    return text


def bounds(text: str) -> tuple[int, int]:
    """A type for ``MIN:MAX`` with 0 <= MIN <= MAX, MAX >= 1 and MAX <= ``MOST_DEVICES``, such as ``1:4``."""
    try:
        low, high = (int(part) for part in text.split(":"))
    except ValueError:
        low, high = 1, 0
    if not 0 <= low <= high or not 1 <= high <= MOST_DEVICES:
        limit = f"MAX <= {MOST_DEVICES:,}" if high > MOST_DEVICES else "MAX >= 1"
        raise argparse.ArgumentTypeError(f"must be MIN:MAX with 0 <= MIN <= MAX and {limit}, such as 1:4; got {text!r}")
    return low, high


def add_storage(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds ``--storage``.

    Args:
        what: what the place is for, in words.
    """
    parser.add_argument(
        "--storage",
        metavar="DIR_OR_URI",
        default=os.environ.get("VAEGEN_STORAGE") or "results",
        help=f"{what}: a directory, s3://... or gs://... [default: $VAEGEN_STORAGE or results/]",
    )


def add_address(parser: argparse.ArgumentParser) -> None:
    """Adds ``--address``. Ray tells its jobs in $RAY_ADDRESS where their cluster is; for those who submit jobs a web
    address may stand there, which is none of a cluster."""
    around = os.environ.get("RAY_ADDRESS") or None
    parser.add_argument(
        "--address",
        metavar="ADDR",
        default=None if around and around.startswith(("http://", "https://")) else around,
        help="a running Ray cluster: auto or HOST:6379 [default: $RAY_ADDRESS, as in jobs, else Ray starts here]",
    )


def add_import(parser: Any) -> None:
    """Adds ``--import``."""
    parser.add_argument(
        IMPORT,
        action="append",
        dest="imports",
        metavar="FILE.py",
        help="run this file first, which registers data sets or networks; may be given again [default: none]",
    )


def parser(description: str) -> OneLineParser:
    """The parser of a sweep script; a script may add options of its own."""
    made = OneLineParser(description=description, allow_abbrev=False)
    made.add_argument(
        "--preset",
        choices=PRESETS,
        default="laptop",
        help="smoke (seconds), laptop (minutes, embedded data) or paper (GPUs) [default: %(default)s]",
    )
    made.add_argument("--dataset", metavar="NAME", help="data set, see `vaegen datasets` [default: that of the preset]")
    add_storage(made, "where results go")
    add_address(made)
    _add_run_options(made)
    made.add_argument(
        "--data-dir",
        type=local_folder,
        metavar="DIR",
        help="folder of the data sets [default: $VAEGEN_DATA or ~/.cache/vaegen_ray/data]",
    )
    add_import(made)
    made.add_argument(
        "--dashboard", action="store_true", help="show the run on a live web page of this machine [default: off]"
    )
    made.add_argument(
        "--tensorboard",
        type=local_folder,
        metavar="DIR",
        help="also write event files for `tensorboard --logdir DIR` there [default: none]",
    )
    _add_trial_options(made)
    made.add_argument(
        "--save-every",
        type=at_least(1),
        metavar="N",
        help="also keep the weights at evaluations whose epoch is a multiple of N [default: those of the end alone]",
    )
    made.add_argument(
        "--checkpoint-seconds",
        type=at_least(1),
        default=10,
        metavar="S",
        help="seconds between two checkpoints of a bundle [default: %(default)s]",
    )
    return made


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle-size",
        type=at_least(1),
        metavar="N",
        help="VAEs trained together as one program [default: decided from sizes and devices]",
    )
    parser.add_argument(
        "--seeds", type=at_least(1, MOST_SEEDS), metavar="N", help="VAEs a setting, seeds 0 .. N-1 [default: by preset]"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, and start nothing [default: off]"
    )
    parser.add_argument(
        "--gpus",
        type=at_least(1, MOST_DEVICES),
        metavar="N",
        help="with --dry-run: plan for N GPUs [default: 1 for the paper preset, otherwise the cores of this machine]",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="put earlier results of this sweep aside and begin anew [default: go on from them]",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="train trials again that are recorded as failed [default: off]"
    )


def _add_trial_options(parser: argparse.ArgumentParser) -> None:
    trial = parser.add_argument_group("every trial", "in place of what the preset says")
    trial.add_argument("--architecture", choices=registry.names(), help="network [default: by data set]")
    trial.add_argument(
        "--levels",
        type=at_least(2, MOST_LEVELS),
        metavar="N",
        help="grey levels, 2 is binarised [default: by data set]",
    )
    trial.add_argument("--likelihood", choices=LIKELIHOODS, help="p(x|z) [default: by data set]")
    trial.add_argument("--n-train", type=at_least(1), metavar="N", help="training images [default: by preset]")
    trial.add_argument(
        "--n-test", type=at_least(1), metavar="N", help="test images [default: all; with smoke at most 200]"
    )
    trial.add_argument(
        "--batch-size",
        type=at_least(1),
        metavar="N",
        help="images a training step [default: by data set, at most the training images]",
    )
    trial.add_argument(
        "--epochs", type=at_least(1, MOST_EPOCHS), metavar="N", help="effective epochs [default: by preset]"
    )
    trial.add_argument(
        "--precision", choices=PRECISIONS, help="arithmetic of training; tf32 and bf16 are for GPUs [default: float32]"
    )


def collect_trial_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a trial that the user gave, by name."""
    names = ("architecture", "levels", "likelihood", "n_train", "n_test", "batch_size", "epochs", "precision")
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Options of a sweep that trains on diffusion samples."""
    group = parser.add_argument_group("diffusion samples")
    group.add_argument(
        "--diffusion-fraction",
        type=fraction,
        metavar="F",
        help="part of the training set that the diffusion model is trained on, 0.1 to 1 [default: 1]",
    )
    group.add_argument(
        "--diffusion-images",
        type=at_least(1, MOST_IMAGES),
        metavar="N",
        help="images that the diffusion model sees in its training [default: by data set]",
    )
    group.add_argument(
        "--diffusion-weights",
        metavar="SHA256",
        default="",
        help="weights that `vaegen diffusion import` took, in place of a training",
    )
    add_samplers(group)


def add_samplers(parser: Any) -> None:
    """The size of a sampler pool."""
    parser.add_argument(
        "--samplers",
        type=bounds,
        metavar="MIN:MAX",
        help="processes that make samples, more while trials wait [default: from 1 to the GPUs or cores there are]",
    )


def collect_stream_fields(options: argparse.Namespace, n_train: int) -> dict[str, Any]:
    """What the user said about the diffusion model, for ``base_stream``."""
    used = max(1, round((options.diffusion_fraction or 1.0) * n_train))
    images = {} if options.diffusion_images is None else {"images": options.diffusion_images}
    return {"n_train": used, "weights": options.diffusion_weights, **images}
