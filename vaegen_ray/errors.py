"""What can go wrong for a user. Every message is one line: the rule, the value that was got, what to do.

The command line prints the message alone and exits with code 2; a traceback therefore always means a fault of ours.
"""

import os
import re
import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages."""
_OTHERS = (f"{Path(__file__).parent}{os.sep}", f"{sysconfig.get_path('stdlib')}{os.sep}", "<")
"""Where the names of files begin that are not code of a user; nor are those of installed packages."""


class VaegenError(Exception):
    """An error that the user can mend."""


class SpecError(VaegenError, ValueError):
    """A trial, a sweep or an option that cannot be: names the field, the value got and what is allowed."""


class DataMissingError(VaegenError, FileNotFoundError):
    """A data set that is not on this machine: names where it was looked for and the command that gets it."""


class DataFormatError(VaegenError, ValueError):
    """A data file whose content is not what its format promises: names the file and what was found."""


class StorageError(VaegenError, OSError):
    """A storage that cannot be read or written: names the path and what the file system said.

    Attributes:
        final: the error stays until somebody acts (a full disk, a missing right), so a run ends at the first one.
            Other errors may pass: what met one is started again, as often as after the loss of a worker.
    """

    final = False


class VaegenWarning(UserWarning):
    """Something that was decided for the user and that the results depend on. Scripts print it as one line."""


MASK = "***"
_LOGIN = re.compile(
    r"""([a-z][a-z0-9+.-]+:/+)            # s3://, and s3:/ as a path makes of it
    (?:[^\s/'"@]*@                        # key@ and key:secret@
    |[^\s'"@]*:[^'"@\n]*@                 # a secret with / or a space in it
    |([^\s/'"@:\[]+:)(?!\d+\b)[^\s'"/]+)   # no @ at all: what stands where a port would
    """,
    re.IGNORECASE | re.VERBOSE,
)
_OPTION = re.compile(
    r"""([?&;][^=&\s'"]*(?:key|secret|token|password|passwd|signature|credential)[^=&\s'"]*=)[^&\s'"]*""", re.IGNORECASE
)


def mask_secrets(text: str) -> str:
    """``text`` with ``***`` in place of the keys, secrets and tokens of URIs: before the ``@``, and in options such as
    ``?access_key=...&secret_key=...``. All that is printed goes through it (``launch.output``), and all JSON that is
    written to a storage."""
    if ":/" not in text:
        return text
    return _OPTION.sub(rf"\1{MASK}", _LOGIN.sub(lambda m: f"{m[1]}{m[2] or ''}{MASK}{'' if m[2] else '@'}", text))


def printable(text: str) -> str:
    """``text`` without characters that could steer a terminal; for what came from a file of others."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def nearest(got: object, choices: Iterable[object]) -> str:
    """`` (did you mean 'x'?)`` where one of the choices is like the name that was got; otherwise nothing."""
    known = {str(choice).lower(): str(choice) for choice in choices}
    like = get_close_matches(got.lower(), known, 1) if isinstance(got, str) else []
    return f" (did you mean {known[like[0]]!r}?)" if like else ""


def not_one_of(what: str, got: object, choices: object) -> str:
    """The usual message: ``what must be one of a, b, c; got x``, and which of them is like x."""
    if not isinstance(choices, (list, tuple, dict, set, frozenset)):
        return f"{what} must be one of {choices}; got {got!r}"
    return f"{what} must be one of {', '.join(str(c) for c in choices)}; got {got!r}{nearest(got, choices)}"


def in_one_line(error: BaseException) -> str:
    """What a user's files or code raised: kind, reason, and the line of the user's own code, if there is one."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    said = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    yours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_OTHERS) and not INSTALLED & set(Path(frame.filename).parts)
    ]
    return f"{said} ({Path(yours[-1].filename).name}, line {yours[-1].lineno})" if yours else said
