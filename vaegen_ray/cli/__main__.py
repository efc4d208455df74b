"""``python -m vaegen_ray.cli``, the same as ``vaegen``."""

import sys

from vaegen_ray.cli import main

sys.exit(main())
