"""What sweep scripts share: from the options and a preset to trials.

PRESETS = presets(measures=("smoothness",), laptop={"seeds": 5})
setting = resolve(options, PRESETS)
trials = setting.trials("normal", "dmaapx", nc=64)     # every method with every seed
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from vaegen_ray.errors import SpecError
from vaegen_ray.launch.options import add_stream_options, at_least, collect_stream_fields, collect_trial_fields
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.method import recipe
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import (
    PAPER_MODELS,
    base_measures,
    base_spec,
    base_stream,
    held_out_by,
    rising_epochs,
    smoke_training,
)
from vaegen_ray.sweep.sweep import preset

USUAL: dict[str, dict[str, Any]] = {
    "smoke": {
        "dataset": "digits",
        "model": {"nc": 16, "mz": 2},
        "seeds": 2,
        "training": {"n_train": 100, "epochs": 4},
    },
    "laptop": {
        "dataset": "digits",
        "model": {"nc": 256, "mz": 4},
        "seeds": 3,
        "training": {"n_train": 1000, "epochs": 300},
    },
    "paper": {"dataset": "cifar10", "seeds": 3, "training": {"epochs": 1000}, "evaluations": 24},
}
"""What presets say unless a script says otherwise. ``model``: the sizes nc and mz; without, those of the paper.
``training``: fields of a trial that go with this data set. Scripts may add ``measures``, ``evaluations`` (about how
many, 12 otherwise), and ``gaps`` (at how many of them the amortization and the robustness gap are measured, 1
otherwise)."""


def presets(
    *,
    smoke: Mapping[str, Any] | None = None,
    laptop: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any] | None = None,
    **every: Any,
) -> dict[str, dict[str, Any]]:
    """The presets of a script: what is usual, what it says of every preset, and of each."""
    own = {"smoke": smoke, "laptop": laptop, "paper": paper}
    return {name: {**usual, **every, **(own[name] or {})} for name, usual in USUAL.items()}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the options of a sweep script come to."""

    chosen: Mapping[str, Any]
    """The preset."""
    fields: Mapping[str, Any]
    """Fields of every trial."""
    stream: Callable[[int], StreamSpec]
    """The samples of a diffusion model that is trained on the first so many images."""
    diffusion_n_train: int
    """How many images the diffusion model is trained on where the sweep does not say."""
    seeds: range

    @property
    def n_train(self) -> int:
        """Images of D_train."""
        return int(self.fields["n_train"])

    def trials(self, *methods: str, stream: StreamSpec | None = None, **fields: Any) -> list[TrialSpec]:
        """A trial for every method and seed.

        Args:
            methods: names of methods.
            stream: for methods that read samples; that of all training images when None.
            fields: further fields of the trials, which override.
        """
        made = []
        for method, seed in product(methods, self.seeds):
            source: dict[str, Any] = {"method": method}
            if recipe(method).synthetic:
                source["stream"] = stream or self.stream(self.diffusion_n_train)
            made.append(TrialSpec(**{**self.fields, **source, **fields, "seed": seed}))
        return made

    def without_measures(self) -> "Setting":
        """The same, with nothing measured beside the ELBO."""
        return replace(self, fields={**self.fields, "measures": None})


def resolve(options: argparse.Namespace, choices: dict[str, dict[str, Any]], methods: Iterable[str] = ()) -> Setting:
    """The setting that the options and one of the presets ``choices`` stand for.

    Args:
        options, choices: as said.
        methods: those of the sweep beside ``--methods``; early stopping leaves fewer images for a batch.

    Raises:
        SpecError: an option cannot be.
    """
    chosen = preset(options.preset, choices)
    base = build_base_fields(options, chosen, held_out_by((*methods, *getattr(options, "methods", ()))))
    dataset = base["dataset"]
    model = chosen.get("model") or PAPER_MODELS.get(base["architecture"], PAPER_MODELS["fully_connected"])
    sizes = {name: value if getattr(options, name) is None else getattr(options, name) for name, value in model.items()}
    evaluate_at = rising_epochs(base["epochs"], chosen.get("evaluations", 12))
    measures = base_measures(dataset, options.preset, chosen.get("measures", ()))
    if measures is not None and (measures.amortization or measures.robustness):
        measures = replace(measures, gaps_at=spread(evaluate_at, chosen.get("gaps", 1))[:-1])  # and at the last epoch
    said = collect_stream_fields(options, base["n_train"])
    return Setting(
        chosen=chosen,
        fields={**base, **sizes, "evaluate_at": evaluate_at, "measures": measures},
        stream=lambda images: base_stream(dataset, options.preset, **{**said, "n_train": images}),
        diffusion_n_train=said["n_train"],
        seeds=range(options.seeds or chosen["seeds"]),
    )


def build_base_fields(
    options: argparse.Namespace, chosen: Mapping[str, Any], held_out: Callable[[int], int] | None = None
) -> dict[str, Any]:
    """The fields of every trial (``base_spec``): what the user gave, then what the preset ``chosen`` says; of another
    data set than the preset's, that is the epochs alone, and with ``smoke`` how many images are enough. ``held_out`` is
    that of ``base_spec``.

    Raises:
        SpecError: an option cannot be.
    """
    dataset = options.dataset or chosen["dataset"]
    training = chosen["training"]
    if dataset != chosen["dataset"]:
        limits = smoke_training(dataset) if options.preset == "smoke" else {}
        training = {"epochs": training["epochs"], **limits}
    return base_spec(dataset, held_out=held_out, **{**training, **collect_trial_fields(options)})


def spread(epochs: tuple[int, ...], count: int) -> tuple[int, ...]:
    """At most ``count`` of the epochs, those nearest to even spaces from the first to the last, which is among them."""
    nearest = set()
    for i in range(count):
        goal = epochs[-1] * (i + 1) / count
        nearest.add(min(epochs, key=lambda epoch: abs(epoch - goal)))
    return tuple(sorted(nearest))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of all sweeps that train VAEs of one size in several ways."""
    parser.add_argument("--nc", type=at_least(1), metavar="N", help="width of the VAEs [default: by preset]")
    parser.add_argument(
        "--mz", type=at_least(1), metavar="N", help="latent multiplier of the VAEs [default: by preset]"
    )
    add_stream_options(parser)


def add_methods(parser: argparse.ArgumentParser, usual: str) -> None:
    """The option ``--methods``."""
    parser.add_argument(
        "--methods",
        type=parse_methods,
        default=parse_methods(usual),
        metavar="LIST",
        help=f"how VAEs are trained [default: {usual}]",
    )


def parse_methods(text: str) -> tuple[str, ...]:
    """A type for comma-separated names of methods, each at most once."""
    names = tuple(text.split(","))
    try:
        for name in names:
            recipe(name)
    except SpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"must hold each method once; got {text!r}")
    return names
