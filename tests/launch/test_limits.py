"""Every option that takes whole numbers has an upper limit, and lists name each value once."""

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaegen_ray.cli.parser import parser as parser_of_vaegen
from vaegen_ray.errors import SpecError
from vaegen_ray.launch import options as shared
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.spec.trial import TrialSpec

SWEEPS = sorted(path.stem for path in (Path(__file__).parents[2] / "sweeps").glob("*.py"))
HUGE = "99999999999999999999"


def _parser_of_sweep(name: str) -> argparse.ArgumentParser:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "sweeps" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = shared.parser("a sweep")
    getattr(module, "add_options", None or getattr(module, "add_shared", None))(made)
    return made


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """The options of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
        elif action.type is not None:
            yield f"{parser.prog} {'/'.join(action.option_strings) or action.dest}", action


def _takes(action: argparse.Action, text: str) -> object:
    """What an option makes of a text; None where it refuses it."""
    try:
        return action.type(text)  # type: ignore[operator, misc]
    except (argparse.ArgumentTypeError, TypeError, ValueError):
        return None


def _is_whole(value: object) -> bool:
    return type(value) is int or (isinstance(value, tuple) and all(type(each) is int for each in value))


@pytest.mark.parametrize("name", ["vaegen", *SWEEPS])
def test_every_whole_number_has_a_limit(name: str) -> None:
    parser = parser_of_vaegen() if name == "vaegen" else _parser_of_sweep(name)
    tried = 0
    for what, action in _actions(parser):
        for usual, huge in (("7", HUGE), ("1:4", f"1:{HUGE}")):
            value = _takes(action, usual)
            if value is not None and _is_whole(value):
                tried += 1
                assert _takes(action, huge) is None, what
                assert not isinstance(value, tuple) or ":" in usual or _takes(action, "7,7") is None, what
    assert tried >= 8


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--seeds", HUGE], "argument --seeds: must be a whole number <= 10,000; got '99999999999999999999'"),
        (["--levels", "257"], "argument --levels: must be a whole number <= 256; got '257'"),
        (["--checkpoint-seconds", "1" * 5000], "argument --checkpoint-seconds: must be a whole number"),
    ],
)
def test_a_number_beyond_the_limit_is_one_line(argv: list[str], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        shared.parser("a sweep").parse_args(argv)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("field", ["nc", "mz", "epochs", "n_train", "latent_per_mz", "budget", "elbo_samples"])
def test_a_trial_has_limits_of_its_own(field: str) -> None:
    """Python callers do not come by the options."""
    with pytest.raises(SpecError, match=f"^{field} must be a whole number >= [01] and <= [0-9]+; got {HUGE}$"):
        TrialSpec(**{field: int(HUGE)})  # type: ignore[arg-type]


def test_a_diffusion_model_has_limits_of_its_own() -> None:
    with pytest.raises(SpecError, match="^images of the diffusion model must be a whole number >= 1 and <= "):
        DiffusionSpec(images=int(HUGE))
