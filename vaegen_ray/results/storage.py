"""Storage: a folder on a disk or in an object store, in which a file is either whole or not there.

Promises, the same on every file system:

- After ``write`` returns, the file is on the disk (or in the object store) with exactly the bytes given. When it
  raises, or the machine stops in the middle, there is the old file or the new one, whole.
- ``list`` and ``folders`` never show a file that is being written.
- Paths are relative to the root, with ``/`` between parts, and cannot leave it.
- What the file system refuses becomes a ``StorageError`` of one line that names the full path and the reason.

On a local disk or NFS a file is written under a temporary name in the same folder, flushed, synced, renamed, and the
folder is synced. An object store shows an object only when its upload is complete.
"""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from vaegen_ray.errors import SpecError, StorageError, allowed

SCHEMES = ("file", "s3", "gs")

PYARROW = int(pa.__version__.split(".")[0])

Names = list[str]
"""The name ``list`` means a method inside the class."""


@dataclass(frozen=True)
class Storage:
    """A folder of a ``pyarrow`` file system. Make one with ``Storage.open``."""

    filesystem: pafs.FileSystem
    root: str
    """Path of the folder inside ``filesystem``."""
    name: str
    """The folder as messages show it; never holds the credentials of a URI."""

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
        if is_uri and scheme not in SCHEMES:
            raise SpecError(f"{allowed('the scheme of a storage', scheme, SCHEMES)} (or use a path)")
        if is_uri:
            shown = f"{scheme}://{text.removeprefix(f'{scheme}://').rpartition('@')[2]}"
            if scheme == "s3" and PYARROW >= 21:  # a small file then goes up as one PUT instead of three requests
                text += f"{'&' if '?' in text else '?'}allow_delayed_open=true"
            with _explained("open storage", shown):
                filesystem, root = pafs.FileSystem.from_uri(text)
            if not root:
                raise SpecError(f"a storage in an object store needs a bucket, {scheme}://bucket/folder; got {shown}")
        else:
            filesystem, root = pafs.LocalFileSystem(), str(Path(text).expanduser().absolute())
        root = root.rstrip("/") or "/"
        storage = cls(filesystem, root, f"{scheme}://{root}" if is_uri and scheme != "file" else root)
        if storage.is_local and os.path.exists(root) and not os.path.isdir(root):
            raise StorageError(f"cannot open storage {root}: it is a file, not a directory")
        if storage.is_local and create:
            with _explained("create storage", root):
                _make_folder(root)
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
        with _explained("write", self.where(path)):
            if self.is_local:
                _write_local(full, data)
            else:
                self._make_parent(full)
                with self.filesystem.open_output_stream(full, compression=None) as stream:
                    stream.write(data)

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
        with _explained("read", self.where(path)):
            try:
                with self.filesystem.open_input_stream(full, compression=None) as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

    def exists(self, path: str) -> bool:
        """Whether ``path`` is a file or a folder."""
        full = self._full(path)
        with _explained("look at", self.where(path)):
            return self.filesystem.get_file_info(full).type != pafs.FileType.NotFound

    def delete(self, path: str) -> None:
        """Removes a file; nothing happens where there is none."""
        full = self._full(path)
        with _explained("delete", self.where(path)), suppress(FileNotFoundError):
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

    def folders(self, folder: str = "") -> Names:
        """Sorted names of the folders in ``folder``; a missing folder is empty."""
        return sorted(i.base_name for i in self._children(folder) if i.type == pafs.FileType.Directory)

    def write_json(self, path: str, value: Any) -> None:
        """Writes ``value`` as strict, indented JSON; a NaN or an infinity in it is a ValueError."""
        self.write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, path: str) -> Any:
        """The value in a JSON file.

        Raises:
            StorageError: there is no such file, or it is not JSON.
        """
        data = self.read(path)
        try:
            return json.loads(data)
        except ValueError as error:
            raise StorageError(f"cannot read {self.where(path)}: it is not JSON ({error})") from error

    def move(self, source: str, target: str) -> None:
        """Renames a file; a file already at ``target`` is replaced."""
        full_source, full_target = self._full(source), self._full(target)
        with _explained("move", f"{self.where(source)} to {self.where(target)}"):
            if self.is_local:
                _make_folder(os.path.dirname(full_target))
                os.replace(full_source, full_target)
                _sync_folder(os.path.dirname(full_target))
                _sync_folder(os.path.dirname(full_source))
            else:
                self._make_parent(full_target)
                self.filesystem.move(full_source, full_target)

    def move_folder(self, source: str, target: str, *, first: str = "") -> None:
        """Renames a folder to a name that is free: in one step on a disk, file by file in an object store.

        Args:
            first: a folder inside ``source`` whose files go before all others, for a move that is cut short.
        """
        full_source, full_target = self._full(source), self._full(target)
        with _explained("move", f"{self.where(source)} to {self.where(target)}"):
            if self.is_local:
                os.rename(full_source, full_target)
                _sync_folder(os.path.dirname(full_target))
                return
            infos = self.filesystem.get_file_info(pafs.FileSelector(full_source, recursive=True))
            files = sorted(i.path.removeprefix(f"{full_source}/") for i in infos if i.type == pafs.FileType.File)
            for file in sorted(files, key=lambda name: not name.startswith(f"{first}/")):
                self._make_parent(f"{full_target}/{file}")
                self.filesystem.move(f"{full_source}/{file}", f"{full_target}/{file}")
            with suppress(FileNotFoundError):  # an object store's folder goes with its last file
                self.filesystem.delete_dir(full_source)

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
        return f"{self.root.rstrip('/')}/{path}"

    def _children(self, folder: str) -> Iterator[pafs.FileInfo]:
        full = self._full(folder) if folder else self.root
        with _explained("list", self.where(folder)):
            infos = self.filesystem.get_file_info(pafs.FileSelector(full, allow_not_found=True))
        return (info for info in infos if not info.base_name.startswith("."))

    def _make_parent(self, full: str) -> None:
        """Object stores have no folders; making one would only leave an empty object."""
        if self.filesystem.type_name not in ("s3", "gcs"):
            self.filesystem.create_dir(os.path.dirname(full), recursive=True)


@contextmanager
def _explained(verb: str, where: str) -> Iterator[None]:
    """Turns what the file system raises into a ``StorageError``."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise StorageError(f"cannot {verb} {where}: {' '.join(reason.split())}") from error


def _write_local(full: str, data: bytes) -> None:
    folder, name = os.path.split(full)
    _make_folder(folder)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, full)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _make_folder(folder: str) -> None:
    """Like ``os.makedirs``, and syncs the parents, so that a folder that holds a synced file is there after a crash."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    if os.path.exists(folder) and not os.path.isdir(folder):  # another process may just have made it
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, not a directory")
    os.makedirs(folder, exist_ok=True)
    _sync_folder(parent)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot sync a folder
            raise
    finally:
        os.close(descriptor)
