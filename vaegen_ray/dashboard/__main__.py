"""``python -m vaegen_ray.dashboard``: the same as ``vaegen dashboard``, for those who start it beside a sweep."""

import sys

from vaegen_ray.dashboard import command
from vaegen_ray.errors import VaegenError
from vaegen_ray.service.options import OneLineParser


def main() -> int:
    """Runs the command; a wrong input is one line and exit code 2."""
    parser = OneLineParser(prog="python -m vaegen_ray.dashboard", description=command.SUMMARY, allow_abbrev=False)
    command.add_options(parser)
    try:
        return command.run(parser.parse_args())
    except VaegenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
