"""What went wrong with a storage, in plain words, and what to do about it.

pyarrow's messages of an object store name the operation and a code of the server; most of these have few causes. An
operating system's error has its number. What is not known here is told as it came.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from vaegen_ray.errors import StorageError

AGAIN = "then start the same command again"
RIGHTS = "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"

NUMBERS = {
    errno.ENOSPC: f"make room, {AGAIN}",
    errno.EDQUOT: f"delete files or ask for a larger quota, {AGAIN}",
    errno.EROFS: "mount it for writing, or choose another --storage",
    errno.EACCES: "give this user the right to write there, or choose another --storage",
    errno.EPERM: "give this user the right to write there, or choose another --storage",
    errno.ESTALE: f"the file server has lost sight of this folder: mount it again on this machine, {AGAIN}",
    errno.ENOTCONN: f"mount it again on this machine, {AGAIN}",
    errno.EISDIR: f"move this directory away, {AGAIN}; a sweep does so itself at its start",
    errno.EIO: f"look after the disk or the file server, {AGAIN}",
}
"""What to do about an error of the operating system."""

FINAL = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
}
"""Errors of the operating system that stay until somebody acts (``StorageError.final``)."""
FINAL_CODES = (
    "no_such_bucket|invalid_access_key_id|signature_does_not_match|(expired|invalid)_?token|permanent_?redirect|"
    "authorization_?header_?malformed|time_too_skewed|quota|storage_?full|access_denied|http status (403|507)"
)
"""Those of an object store, as a pattern."""

CODES = {
    "no_such_bucket": ("there is no such bucket", "make it first, or correct its name"),
    "invalid_access_key_id": (
        "the server does not know this access key",
        "correct AWS_ACCESS_KEY_ID, or the key in the URI",
    ),
    "signature_does_not_match": (
        "the secret key is not that of the access key",
        "correct AWS_SECRET_ACCESS_KEY, or the secret in the URI, where / and + are written %2F and %2B",
    ),
    "expired_?token": ("the session token has expired", f"get new credentials, {AGAIN}"),
    "invalid_?token": ("the session token is not valid", "correct AWS_SESSION_TOKEN, or unset it"),
    "permanent_?redirect|temporary_?redirect|authorization_?header_?malformed|http status 30[17]": (
        "the bucket is in another region",
        "name that region in the URI, as ?region=eu-west-1",
    ),
    "time_too_skewed": ("the clock of this machine is wrong", "set it"),
    "quota": ("the quota of the bucket is used up", f"delete objects or ask for a larger quota, {AGAIN}"),
    "storage_?full|http status 507": ("the store is full", f"make room, {AGAIN}"),
    "access_denied|http status 403": (
        "access is denied",
        f"the credentials must be right, and need {RIGHTS} on the bucket",
    ),
    "http status 400": (
        "the server refuses the request and does not say why",
        "look whether the session token has expired, and whether the region is that of the bucket",
    ),
    "no_such_key": ("there is no such file", "look whether another process has moved it"),
    "resource_not_found": ("what answers there knows no buckets", "correct endpoint_override in the URI"),
    "slow_down|throttling|service_unavailable|internal_failure|http status 50\\d": (
        "the server is overloaded or broken, at every attempt",
        "start the same command again later",
    ),
    "curlcode: 6,": (
        "there is no host of this name",
        "correct endpoint_override or the region in the URI, or look after the network",
    ),
    "curlcode: 7,": ("nothing answers there", "start the server, or correct endpoint_override in the URI"),
    "curlcode: (18|52|55|56),": (
        "the connection was lost, at every attempt",
        f"look after the server and the network, {AGAIN}",
    ),
    "curlcode: 28,": ("the server does not answer in time", "look after the server and the network"),
    "curlcode: (35|51|58|59|60|77|80|83),": (
        "no secure connection (TLS)",
        "a server without TLS needs ?scheme=http in the URI, one with a certificate of your own ?tls_ca_file_path=FILE",
    ),
}
"""What an object store says, as a pattern, the likely cause, and what to do; the first that fits counts."""


class LinkError(StorageError):
    """A path is behind a symbolic link that leads out of its storage, whose links are not followed."""


def refuse_link_out(path: str, root: str, where: str) -> None:
    """Raises a ``LinkError`` about ``where`` unless ``path`` is below the folder ``root`` with all links followed."""
    real = os.path.realpath(root)
    if os.path.commonpath([real, os.path.realpath(path)]) != real:
        raise LinkError(
            f"{where} is behind a symbolic link that leads out of the storage, and is not read; replace the link by "
            "what it leads to, or open that as a storage of its own"
        )


@contextmanager
def explained(verb: str, where: str) -> Iterator[None]:
    """Turns what a file system raises into a ``StorageError``: what could not be done, why, and what to do."""
    try:
        yield
    except StorageError:
        raise  # it explains itself
    except (OSError, pa.ArrowException) as error:
        refused = StorageError(f"cannot {verb} {where}: {explain(error)}")
        refused.final = is_final(error)
        raise refused from error


def is_final(error: Exception) -> bool:
    """Whether an error stays until somebody acts, so that trying again cannot help."""
    if isinstance(error, OSError) and error.errno in FINAL:
        return True
    code = re.search(r"AWS Error .*", " ".join(str(error).split()))
    return code is not None and re.search(FINAL_CODES, code[0], re.IGNORECASE) is not None


def explain(error: Exception) -> str:
    """The reason of an error and what to do about it, in one line without credentials."""
    number = error.errno if isinstance(error, OSError) else None
    text = " ".join(((isinstance(error, OSError) and error.strerror) or str(error)).split())
    if number in NUMBERS:
        return f"{text}; {NUMBERS[number]}"
    code = re.search(r"AWS Error (\w+)(?: \(HTTP status \d+\))? during (\w+)", text)
    if code is None:
        return text
    said = text[code.start() :]  # without the name of the file
    for pattern, (reason, remedy) in CODES.items():
        if re.search(pattern, said, re.IGNORECASE):
            return f"{reason}{_detail(said)}; {remedy} ({code[1]} during {code[2]})"
    return text


def _detail(said: str) -> str:
    """What the message says beyond its code: the region of the bucket, or which host or address was tried."""
    region = re.search(r"(?:located in|expecting) '([a-z0-9-]+)'", said)
    if region:
        return f", {region[1]}"
    tried = re.search(r"Details: (.*)", said)
    return f" ({tried[1].split(' after ')[0]})" if tried else ""
