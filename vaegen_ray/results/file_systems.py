"""The file systems of storages: what a URI stands for, and whole files on a disk."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from vaegen_ray import scratch
from vaegen_ray.errors import SpecError, StorageError, mask_secrets
from vaegen_ray.results.storage_errors import explain

PYARROW = int(pa.__version__.split(".")[0])

S3_ATTEMPTS = 4
"""Times that a request is sent: a server that refuses is given up after some 4 s, one that never answers after 40 s.
pyarrow's own choice for a URI takes 5 minutes."""
READ_ATTEMPTS = 10
"""Reads of a file that is replaced meanwhile."""


class S3(pafs.S3FileSystem):
    """S3 with bounded retries, here and in every process that it is sent to; pyarrow's own leaves them behind."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(**options, retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS))
        self._options = options

    def __reduce__(self) -> tuple[Any, ...]:
        return S3, (self._options,)


def open_uri(scheme: str, uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a URI and the path in it; messages hide the credentials, also of a URI that cannot be read."""
    shown = mask_secrets(uri)
    for option in ("tls_verify_certificates", "tls_ca_dir_path"):
        if f"{option}=" in uri:  # pyarrow does not take these along to another process
            raise SpecError(f"{option} cannot be in the URI of a storage; use tls_ca_file_path; got {shown}")
    try:
        filesystem, root = pafs.FileSystem.from_uri(uri)
        if scheme == "s3":
            _, (options,) = filesystem.__reduce__()
            if PYARROW >= 21:  # a small file then goes up as one PUT instead of three requests
                options["allow_delayed_open"] = True
            filesystem = S3(options)
    except (OSError, pa.ArrowException) as error:
        reason = mask_secrets(explain(error).replace(uri, shown))
        raise StorageError(f"cannot open storage {shown}: {reason}") from None  # the cause may show the credentials
    return filesystem, root


def read_local(full: str) -> bytes:
    """Reads a file. On NFS one that another machine replaces at that moment may be stale; then the new one is read."""
    for _ in range(READ_ATTEMPTS - 1):
        try:
            return Path(full).read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return Path(full).read_bytes()


def write_local(full: str, fill: Callable[[BinaryIO], Any]) -> None:
    """Writes what ``fill`` writes to a temporary file in the same folder, syncs and renames it."""
    folder, name = os.path.split(full)
    make_folder(folder)
    temporary = os.path.join(folder, scratch.file_name(name))
    try:
        with open(temporary, "xb") as file:
            scratch.hold(file.fileno())
            fill(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, full)  # while the lock is held
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def make_folder(folder: str) -> None:
    """Like ``os.makedirs``, and syncs the parents, so that a folder that holds a synced file is there after a crash."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    make_folder(parent)
    if os.path.exists(folder) and not os.path.isdir(folder):  # another process may just have made it
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, not a directory")
    os.makedirs(folder, exist_ok=True)
    sync_folder(parent)


def sync_folder(folder: str) -> None:
    """Syncs the entries of a folder, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot sync a folder
            raise
    finally:
        os.close(descriptor)
