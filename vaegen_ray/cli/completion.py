"""``vaegen completion``.

The printed script makes a shell ask ``vaegen`` itself at every Tab (argcomplete), so that sweeps are those of the
``--storage`` that stands in the line, and nothing has to be printed again when a command gets an option.
"""

import argparse

from vaegen_ray.cli.parts import Commands, command

SHELLS = ("bash", "zsh", "fish")


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "completion", run, "print what a shell needs to complete the commands of vaegen")
    made.add_argument(
        "shell",
        choices=SHELLS,
        help='in bash and zsh: eval "$(vaegen completion SHELL)"; in fish: vaegen completion fish | source',
    )


def run(options: argparse.Namespace) -> int:
    """Prints the script of a shell."""
    import argcomplete

    print(argcomplete.shellcode(["vaegen"], True, options.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks what could stand where its cursor is, and ends the process."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)
