"""The command ``vaegen``: what sweeps found and how far they are, their figures, data sets, diffusion models, doctor.

A module here is a group of commands; ``parser.GROUPS`` lists them. Heavy packages are imported by the command that
needs them, so ``vaegen --help`` answers at once. Ray starts only where something is trained or generated.
"""

import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. A wrong input is one line and exit code 2.

    Args:
        argv: the arguments; those of the process when None.
    """
    from vaegen_ray.cli.parser import parser
    from vaegen_ray.errors import VaegenError

    try:
        made = parser()
        if "_ARGCOMPLETE" in os.environ:  # a shell asks what could stand where its cursor is
            from vaegen_ray.cli.completion import answer

            answer(made)
        options = made.parse_args(argv)
        code: int = options.command(options)
        sys.stdout.flush()
        return code
    except VaegenError as error:
        from vaegen_ray.service.runner import fail

        return fail(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has seen enough, as in `vaegen claims | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
