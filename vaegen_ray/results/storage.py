"""Storage: a folder on a disk or in an object store, in which a file is either whole or not there.

Promises, the same on every file system:

- After ``write`` returns, the file is on the disk (or in the object store) with exactly the bytes given. When it
  raises, or the machine stops in the middle, there is the old file or the new one, whole.
- ``list`` and ``folders`` never show a file that is being written.
- Paths are relative to the root, with ``/`` between parts, and cannot leave it.
- What the file system refuses becomes a ``StorageError`` of one line that names the full path and the reason.

On a local disk or NFS a file is written under a temporary name in the same folder, flushed, synced, renamed, and the
folder is synced. An object store shows an object only when its upload is complete; of an upload that was cut short
parts may stay behind, unseen and paid for, until a rule of the bucket removes them (AbortIncompleteMultipartUpload).
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.fs as pafs

from vaegen_ray.errors import SpecError, StorageError, mask_secrets, not_one_of
from vaegen_ray.paths import expanded
from vaegen_ray.results.file_systems import (
    READ_ATTEMPTS,
    make_folder,
    open_uri,
    read_local,
    sync_folder,
    write_local,
)
from vaegen_ray.results.storage_errors import explained, refuse_link_out

SCHEMES = ("file", "s3", "gs")

COPY_BYTES = 2**23
"""Bytes of a file that are on their way to an object store at once."""
COPIES = 16
"""Objects copied at once, to hide the delay of an object store."""
MD5 = re.compile("[0-9a-f]{32}")
_ENCRYPTED: set[str] = set()
"""Storages, by name, in which an ETag that looks like an MD5 was seen to be none."""

Names = list[str]
"""The name ``list`` means a method inside the class."""
Sizes = list[int | None]


@dataclass(frozen=True)
class Storage:
    """A folder of a ``pyarrow`` file system. Make one with ``Storage.open``."""

    filesystem: pafs.FileSystem
    root: str
    """Path of the folder inside ``filesystem``."""
    name: str
    """The folder as messages show it; never holds the credentials of a URI."""
    confined: bool = False
    """Whether symbolic links that lead out of a folder on a disk are refused with a ``LinkError``."""

    @classmethod
    def open(cls, location: str | Path, *, create: bool = True) -> "Storage":
        """The storage at a local directory, ``file://``, ``s3://`` or ``gs://``.

        Args:
            location: a path or URI; options of an object store (``?region=...``) go into the URI, as in pyarrow.
            create: make the local directory when it is absent.

        Raises:
            SpecError: another scheme.
            StorageError: the place cannot be opened or made.
        """
        text = str(location)
        scheme, is_uri, _ = text.partition("://")
        if not text.strip() or (not is_uri and re.match("[a-z][a-z0-9+.-]+:/", text, re.IGNORECASE)):
            raise SpecError(f"a storage must be a directory or a URI, such as s3://bucket/folder; got {text!r}")
        if is_uri and scheme not in SCHEMES:
            raise SpecError(f"{not_one_of('the scheme of a storage', scheme, SCHEMES)} (or use a path)")
        if is_uri:
            filesystem, root = open_uri(scheme, text)
            if not root:
                raise SpecError(
                    f"a storage in an object store needs a bucket, {scheme}://bucket/folder; got {mask_secrets(text)}"
                )
        else:
            filesystem, root = pafs.LocalFileSystem(), str(expanded(text).absolute())
        root = root.rstrip("/") or "/"
        storage = cls(filesystem, root, f"{scheme}://{root}" if is_uri and scheme != "file" else root)
        if storage.is_local and os.path.exists(root) and not os.path.isdir(root):
            raise StorageError(f"cannot open storage {root}: it is a file, not a directory")
        if storage.is_local and create:
            with explained("create storage", root):
                make_folder(root)
        return storage

    @property
    def is_local(self) -> bool:
        """Whether the files lie in a directory of this machine (a disk or a mounted NFS)."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def where(self, path: str = "") -> str:
        """The full path or URI of ``path``, for messages."""
        return f"{self.name.rstrip('/')}/{path}" if path else self.name

    def write(self, path: str, data: bytes) -> None:
        """Makes ``path`` hold ``data``, whole or not at all; missing folders are made."""
        full = self._full(path)
        with explained("write", self.where(path)):
            if self.is_local:
                write_local(full, lambda file: file.write(data))
            else:
                self._make_parent(full)
                with self.filesystem.open_output_stream(full, compression=None) as stream:
                    stream.write(data)

    def write_by(self, path: str, fill: Callable[[BinaryIO], None]) -> None:
        """Makes ``path`` hold what ``fill`` writes into a file, whole or not at all; it is never held in memory."""
        full = self._full(path)
        with explained("write", self.where(path)):
            if self.is_local:
                write_local(full, fill)
                return
            with tempfile.TemporaryFile() as file:  # an upload that is begun cannot be taken back
                fill(file)
                file.seek(0)
                self._make_parent(full)
                with self.filesystem.open_output_stream(full, compression=None) as stream:
                    shutil.copyfileobj(file, stream, COPY_BYTES)

    def read(self, path: str) -> bytes:
        """The bytes of ``path``.

        Raises:
            StorageError: there is no such file, or it cannot be read.
        """
        data = self.read_optional(path)
        if data is None:
            raise StorageError(f"cannot read {self.where(path)}: there is no such file")
        return data

    def read_optional(self, path: str) -> bytes | None:
        """The bytes of ``path``, or None where there is no such file."""
        full = self._full(path)
        with explained("read", self.where(path)), suppress(FileNotFoundError):
            if self.is_local:
                return read_local(full)
            return self._read_object(full)
        return None

    def exists(self, path: str) -> bool:
        """Whether ``path`` is a file or a folder."""
        full = self._full(path)
        with explained("look at", self.where(path)):
            return self.filesystem.get_file_info(full).type != pafs.FileType.NotFound

    def delete(self, path: str) -> None:
        """Removes a file; nothing happens where there is none."""
        full = self._full(path)
        with explained("delete", self.where(path)), suppress(FileNotFoundError):
            self.filesystem.delete_file(full)

    def list(self, folder: str = "", suffix: str = "") -> Names:
        """Sorted names of the files in ``folder`` that end with ``suffix``; a missing folder is empty."""
        infos = self._children(folder)
        return sorted(i.base_name for i in infos if i.type == pafs.FileType.File and i.base_name.endswith(suffix))

    def sizes(self, folder: str = "", suffix: str = "") -> dict[str, int]:
        """Bytes of the files that ``list`` names, by name, from one listing."""
        infos = self._children(folder)
        files = [i for i in infos if i.type == pafs.FileType.File and i.base_name.endswith(suffix)]
        return {i.base_name: i.size for i in sorted(files, key=lambda i: i.base_name)}

    def list_sizes(self, paths: Names) -> Sizes:
        """Bytes of each of these files, None where there is no such file."""
        with explained("look at", self.name):
            infos = self.filesystem.get_file_info([self._full(path) for path in paths])
        return [info.size if info.type == pafs.FileType.File else None for info in infos]

    def stamps(self, folder: str = "", suffix: str = "") -> dict[str, tuple[int, int]]:
        """Bytes and time of the last change (ns) of the files that ``list`` names, by name, from one listing: a file
        whose stamp is the same was not written again."""
        infos = self._children(folder)
        files = [i for i in infos if i.type == pafs.FileType.File and i.base_name.endswith(suffix)]
        return {i.base_name: (i.size, i.mtime_ns) for i in sorted(files, key=lambda i: i.base_name)}

    def folders(self, folder: str = "") -> Names:
        """Sorted names of the folders in ``folder``; a missing folder is empty."""
        return sorted(i.base_name for i in self._children(folder) if i.type == pafs.FileType.Directory)

    def write_json(self, path: str, value: Any) -> None:
        """Writes ``value`` as strict, indented JSON, with the secrets of URIs masked; a NaN or an infinity in it is a
        ValueError."""
        self.write(path, (mask_secrets(json.dumps(value, indent=2, allow_nan=False)) + "\n").encode())

    def read_json(self, path: str) -> Any:
        """The value in a JSON file.

        Raises:
            StorageError: there is no such file, or it is not JSON.
        """
        return self._json(path, self.read(path))

    def read_json_optional(self, path: str) -> Any | None:
        """The value in a JSON file, or None where there is no such file.

        Raises:
            StorageError: it is not JSON.
        """
        data = self.read_optional(path)
        return None if data is None else self._json(path, data)

    def _json(self, path: str, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise StorageError(f"cannot read {self.where(path)}: it is not JSON ({error})") from error

    def move(self, source: str, target: str) -> None:
        """Renames a file; a file already at ``target`` is replaced."""
        full_source, full_target = self._full(source), self._full(target)
        with explained("move", f"{self.where(source)} to {self.where(target)}"):
            if self.is_local:
                make_folder(os.path.dirname(full_target))
                os.replace(full_source, full_target)
                sync_folder(os.path.dirname(full_target))
                sync_folder(os.path.dirname(full_source))
            else:
                self._make_parent(full_target)
                self.filesystem.move(full_source, full_target)

    def move_folder(self, source: str, target: str, *, first: str = "") -> None:
        """Renames a folder to a name that is free: in one step on a disk.

        In an object store all files are copied, then deleted: a move that is cut short loses none, and what is put into
        ``source`` meanwhile may go.

        Args:
            first: a folder inside ``source`` whose files are deleted before all others.
        """
        full_source, full_target = self._full(source), self._full(target)
        with explained("move", f"{self.where(source)} to {self.where(target)}"):
            if self.is_local:
                make_folder(os.path.dirname(full_target))
                os.rename(full_source, full_target)
                sync_folder(os.path.dirname(full_target))
                return
            infos = self.filesystem.get_file_info(pafs.FileSelector(full_source, recursive=True))
            files = [i.path.removeprefix(f"{full_source}/") for i in infos if i.type == pafs.FileType.File]

            def copy(file: str) -> None:
                self._make_parent(f"{full_target}/{file}")
                self.filesystem.copy_file(f"{full_source}/{file}", f"{full_target}/{file}")

            with ThreadPoolExecutor(COPIES) as pool:
                list(pool.map(copy, files))
            for folder in (f"{full_source}/{first}" if first else full_source, full_source):
                with suppress(FileNotFoundError):  # a folder of an object store goes with its last file
                    self.filesystem.delete_dir(folder)

    def probe(self) -> None:
        """Writes a small file, reads it back and deletes it.

        Raises:
            StorageError: names the path and why it cannot be used (read-only, full, not permitted).
        """
        path, data = f".probe-{uuid.uuid4().hex}", b"vaegen_ray can write here"
        self.write(path, data)
        if self.read(path) != data:
            raise StorageError(f"cannot use storage {self.name}: a file read back differs from what was written")
        self.delete(path)

    def _full(self, path: str) -> str:
        bad = [part for part in path.split("/") if part in ("", ".", "..") or "\\" in part or "\0" in part]
        if bad:
            raise SpecError(f"a path in a storage must be relative, of plain names with / between them; got {path!r}")
        full = f"{self.root.rstrip('/')}/{path}"
        if self.confined and self.is_local:
            refuse_link_out(full, self.root, self.where(path))
        return full

    def _children(self, folder: str) -> Iterator[pafs.FileInfo]:
        full = self._full(folder) if folder else self.root
        with explained("list", self.where(folder)):
            infos = self.filesystem.get_file_info(pafs.FileSelector(full, allow_not_found=True))
            if not infos:
                self._check_bucket()
        return (info for info in infos if not info.base_name.startswith("."))

    def _check_bucket(self) -> None:
        """pyarrow takes a folder of a bucket that is not there for an empty one."""
        if self.filesystem.type_name != "s3":
            return
        bucket = self.root.partition("/")[0]
        try:
            absent = self.filesystem.get_file_info(bucket).type == pafs.FileType.NotFound
        except OSError:  # who may use a folder of a bucket may perhaps not ask about the bucket
            return
        if absent:
            raise StorageError(f"cannot use storage {self.name}: there is no bucket {bucket!r}; make it first")

    def _read_object(self, full: str) -> bytes:
        """What ``full`` held at one moment.

        pyarrow asks an object store for the size of an object, then for so many bytes: a longer one that takes its
        place in between comes cut short. The ETag of a plain upload is the MD5 of its bytes, unless a key of the store
        encrypts it. Where it never is, and where an ETag is no MD5 at all, readings that agree are believed.
        """
        agreed, before = 0, None
        for _ in range(READ_ATTEMPTS):
            with self.filesystem.open_input_file(full) as file:
                data, facts = file.read(), file.metadata()
            tag = facts.get("ETag", b"").decode().strip('"')
            if tag == hashlib.md5(data, usedforsecurity=False).hexdigest():
                return bytes(data)
            agreed = agreed + 1 if (data, facts) == before else 1
            if agreed == (READ_ATTEMPTS if MD5.fullmatch(tag) and self.name not in _ENCRYPTED else 2):
                if MD5.fullmatch(tag):
                    _ENCRYPTED.add(self.name)
                return bytes(data)
            before = data, facts
        raise OSError(errno.EBUSY, f"it was replaced {READ_ATTEMPTS} times while it was read")

    def _make_parent(self, full: str) -> None:
        """Object stores have no folders; making one would only leave an empty object."""
        if self.filesystem.type_name not in ("s3", "gcs"):
            self.filesystem.create_dir(os.path.dirname(full), recursive=True)
