"""The program ``vaegen``, and ``python -m vaegen_ray.cli``."""

import sys

import vaegen_ray.launch.script  # noqa: F401
from vaegen_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
