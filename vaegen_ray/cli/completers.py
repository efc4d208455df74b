"""``vaegen completion``, and what shells may complete.

The printed script makes a shell ask ``vaegen`` itself at every Tab (argcomplete), so that sweeps are those of the
``--storage`` that stands in the line, and nothing has to be printed again when a command gets an option.
"""

import argparse
from dataclasses import fields
from typing import Any

from vaegen_ray.cli.parts import Commands, command
from vaegen_ray.errors import VaegenError

SHELLS = ("bash", "zsh", "fish")


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "completion", run, "print what a shell needs to complete the commands of vaegen")
    made.add_argument("shell", choices=SHELLS, help='in bash and zsh: eval "$(vaegen completion SHELL)"')


def run(options: argparse.Namespace) -> int:
    """Prints the script of a shell."""
    import argcomplete

    print(argcomplete.shellcode(["vaegen"], True, options.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks what could stand where its cursor is, and ends the process."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def sweep_names(parsed_args: argparse.Namespace, **about: Any) -> list[str]:
    """The sweeps in ``--storage``."""
    return _sweeps_in(parsed_args.storage)


def other_sweep_names(parsed_args: argparse.Namespace, **about: Any) -> list[str]:
    """The sweeps in ``--storage-b``, or in ``--storage``."""
    return _sweeps_in(parsed_args.storage_b or parsed_args.storage)


def dataset_names(**about: Any) -> list[str]:
    """The data sets."""
    from vaegen_ray.data.catalog import CATALOG

    return sorted(CATALOG)


def figure_names(**about: Any) -> list[str]:
    """The figures."""
    from vaegen_ray.figures import FIGURES

    return sorted(FIGURES)


def field_names(prefix: str, **about: Any) -> list[str]:
    """Comma-separated fields of a trial."""
    from vaegen_ray.trial import TrialSpec

    return _listed(prefix, [field.name for field in fields(TrialSpec)])


def metric_names(prefix: str, **about: Any) -> list[str]:
    """Comma-separated metrics."""
    from vaegen_ray.results.schema import MEASURED

    return _listed(prefix, list(MEASURED))


def _sweeps_in(location: str) -> list[str]:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import sweep_names

    try:
        return sweep_names(Storage.open(location, create=False))
    except VaegenError:  # said by the command itself, not at a Tab
        return []


def _listed(prefix: str, names: list[str]) -> list[str]:
    """``names`` behind those that already stand in ``prefix``, as in ``nc,m``."""
    before = prefix.rpartition(",")[0]
    taken = before.split(",")
    return [f"{before},{name}" if before else name for name in names if name not in taken]
