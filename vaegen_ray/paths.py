"""Paths as users write them."""

import os
from pathlib import Path

NO_HOME = "/nonexistent"
"""Stands for the home folder of a user who has none: neither ``HOME`` nor an entry in passwd, as in containers."""


def expanded(path: str | Path) -> Path:
    """``path`` with the home folder in place of ``~``, or ``NO_HOME``, which messages about the file then name."""
    text = os.path.expanduser(path)
    return Path(f"{NO_HOME}{text[1:]}" if text == "~" or text.startswith("~/") else text)
