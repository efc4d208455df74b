"""The command ``vaegen``: what sweeps found and how far they are, their figures, data sets, diffusion models, doctor.

A module here is a group of commands; ``parser.GROUPS`` lists them. Heavy packages are imported by the command that
needs them, so ``vaegen --help`` answers at once. Ray starts only where something is trained or generated.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` would be one import more before a Ctrl-C is handled
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: "Sequence[str] | None" = None) -> int:
    """Runs one command; returns the exit code (``exit``).

    Args:
        argv: the arguments; those of the process when None.
    """
    from vaegen_ray import exit
    from vaegen_ray.launch.output import console

    def parse_and_run() -> int:
        from vaegen_ray.cli.parser import parser

        made = parser()
        if "_ARGCOMPLETE" in os.environ:  # a shell asks what could stand where its cursor is
            from vaegen_ray.cli.completion import answer

            answer(made)
        options = made.parse_args(argv)
        if hasattr(options, "data_dir"):
            _know_your_own(options, argv)
        code: int = options.command(options)
        return code

    with console():
        return exit.run(parse_and_run)


def _know_your_own(options: "argparse.Namespace", argv: "Sequence[str] | None") -> None:
    """Data sets that a file registers, or that were added to the data directory."""
    from vaegen_ray.data import stored
    from vaegen_ray.launch import plugins

    plugins.import_files(argv)
    for note in stored.discover(options.data_dir):
        print(note, file=sys.stderr)
