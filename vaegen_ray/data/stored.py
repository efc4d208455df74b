"""Data sets of your own from a file: ``vaegen datasets --add NAME FILE`` copies the images into the data directory.

    <data directory>/own/NAME.npz     train, test and, where there are any, test_labels
                         NAME.json    what the catalog says of it, and the digest of the images; the commit mark

From then on every sweep takes ``--dataset NAME``. What can be added: an ``.npz`` with ``train`` and ``test`` or
``val``, or with ``images`` alone, and ``test_labels``, ``val_labels`` or ``labels``; an ``.npy`` of images; or a folder
of pictures, which may have the folders ``train``, ``val`` and ``test``, and a folder a class in each
(``picture_folders``). Images alone are shuffled in one fixed order, and the last of them are the test set. No pickle is
opened.
"""

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaegen_ray.data import catalog, registry
from vaegen_ray.data.catalog import CATALOG, DatasetInfo
from vaegen_ray.data.image_files import as_bytes, black_and_white, divided, read_source
from vaegen_ray.data.loaders import Arrays
from vaegen_ray.errors import DataFormatError, SpecError
from vaegen_ray.paths import expanded
from vaegen_ray.spec.architecture import check_name
from vaegen_ray.spec.diffusion import check_data_digest

FOLDER = "own"
"""Folder of the data directory."""
TEST_PERCENT = 20
"""Part of images that come without a test set."""
_FACTS: dict[str, type] = {
    "title": str,
    "n_train": int,
    "n_test": int,
    "shape": list,
    "native_levels": int,
    "levels": list,
    "default_levels": int,
    "image_size": int,
    "likelihood": str,
}
"""What a description says of the entry, and what it is in JSON."""
_discovered: set[str] = set()
"""Entries of the catalog that come from the data directory that was looked into last."""


def add(
    name: str,
    source: str | Path,
    data_dir: str | Path | None = None,
    *,
    levels: int | None = None,
    binarised: bool = False,
    likelihood: str | None = None,
    title: str = "",
    test_percent: int = TEST_PERCENT,
    say: Callable[[str], object] = print,
) -> DatasetInfo:
    """Copies images into the data directory and makes them known.

    Args:
        name: small letters, digits and _; of no other data set.
        source: a file or a folder, as above.
        data_dir: the data directory; ``catalog.data_dir()`` when None.
        levels: grey levels; None for 2 where no pixel is above 1, and otherwise 256.
        binarised: networks usually see the images with 2 levels.
        likelihood, title: as for ``registry.register_dataset``.
        test_percent: part of the images that become the test set where the source has none, 1 to 99.
        say: takes a line for each thing that was left out, decided or changed on the way.

    Raises:
        SpecError: the name is taken, or an option cannot be.
        DataMissingError: there is no such file.
        DataFormatError: it does not hold images, or what it holds can be understood in two ways.
        VaegenError: its images do not fit into the memory.
    """
    check_name("a data set", name)
    discover(data_dir)
    if name in CATALOG:
        hint = f" (to replace it: vaegen datasets --remove {name})" if name in _discovered else ""
        raise SpecError(f"the name of a data set must be new; got {name!r}, which is {CATALOG[name].title}{hint}")
    source = expanded(source)
    if not 1 <= test_percent <= 99:
        raise SpecError(f"the test set must be 1 to 99 percent of the images; got {test_percent!r}")
    arrays, notes = divided(source, read_source(source), test_percent)
    arrays, scaled = as_bytes(arrays, 256 if levels is None else levels)
    if levels is None:
        levels = 2 if max(_largest(arrays.train), _largest(arrays.test)) <= 1 else 256
    arrays = registry.checked(f"{name} in {source}", tuple(arrays), levels)
    entry = registry.build_entry(
        name, arrays, levels, title or f"your own, from {source.name}", 2 if binarised else None, likelihood, None
    )
    folder = _folder(data_dir)
    try:
        _write(folder, entry, arrays)
    except OSError as error:
        raise SpecError(
            f"the data directory must be a folder that can be written, with room; got {folder}: {error}"
        ) from None
    discover(data_dir)
    if levels == 256 and not binarised and black_and_white(arrays):
        again = f"vaegen datasets --remove {name}"
        notes.append(f"all pixels are 0 or 255: for binary images, add them with --binarise (first: {again})")
    for note in (*notes, *scaled):
        say(note)
    return CATALOG[name]


def remove(name: str, data_dir: str | Path | None = None) -> None:
    """Deletes a data set that was added; results on it stay.

    Raises:
        SpecError: none of this name was added.
    """
    folder = _folder(data_dir)
    discover(data_dir)
    if name not in _discovered:
        listed = ", ".join(sorted(_discovered)) or "none"
        raise SpecError(f"a data set to remove must have been added to {folder}, which has {listed}; got {name!r}")
    for path in (folder / f"{name}.json", folder / f"{name}.npz"):
        path.unlink(missing_ok=True)
    del CATALOG[name]
    _discovered.remove(name)


def discover(data_dir: str | Path | None = None) -> list[str]:
    """Makes known what was added to a data directory, in place of what was found in another one.

    Returns:
        A line for each file that is not what ``add`` writes, or whose name is taken.
    """
    for name in _discovered:
        CATALOG.pop(name, None)
    _discovered.clear()
    notes = []
    for path in sorted(_folder(data_dir).glob("*.json")):
        try:
            entry = _entry(path)
        except (ValueError, TypeError, KeyError, OSError) as error:
            notes.append(f"{path} was skipped: it does not describe a data set ({error})")
            continue
        if entry.name in CATALOG:
            notes.append(f"{path} was skipped: there is another data set of this name")
            continue
        CATALOG[entry.name] = entry
        _discovered.add(entry.name)
    return notes


def _folder(data_dir: str | Path | None) -> Path:
    return (catalog.data_dir() if data_dir is None else expanded(data_dir)) / FOLDER


def _write(folder: Path, entry: DatasetInfo, arrays: Arrays) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    named = {name: array for name, array in arrays._asdict().items() if array is not None}
    described = {name: getattr(entry, name) for name in (*_FACTS, "digest")}
    for suffix, write in (
        (".npz", lambda file: np.savez(file, **named)),
        (".json", lambda file: file.write(json.dumps(described, indent=1).encode())),
    ):
        temporary = folder / f".{entry.name}{suffix}.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, folder / f"{entry.name}{suffix}")
        finally:
            temporary.unlink(missing_ok=True)


def _entry(path: Path) -> DatasetInfo:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, kind in _FACTS.items():
        if type(values[name]) is not kind:
            raise ValueError(f"{name} must be of type {kind.__name__}; got {values[name]!r}")
    facts: dict[str, Any] = {
        name: tuple(values[name]) if kind is list else values[name] for name, kind in _FACTS.items()
    }
    check_data_digest(values["digest"])
    check_name("a data set", path.stem)
    file = path.with_suffix(".npz")
    return DatasetInfo(
        name=path.stem,
        needs=f"the file {file}",
        how_to_get=f"vaegen datasets --add {path.stem} FILE",
        files=(str(file),),
        digest=values["digest"],
        where=str(path.parent),
        read=partial(_same, path.stem, file, values["native_levels"], values["digest"]),
        **facts,
    )


def _same(name: str, file: Path, levels: int, before: str) -> Arrays:
    """The images of a file, if they are still those that were added.

    Raises:
        DataMissingError: there is no such file.
        DataFormatError: they are others.
    """
    arrays, _ = divided(file, read_source(file), TEST_PERCENT)
    arrays = registry.checked(f"{name} in {file}", tuple(arrays), levels)
    if (now := registry.digest(arrays, levels)) != before:
        raise DataFormatError(
            f"{file} must hold the images that were added as {name}, digest {before}; got {now} (remove and add it "
            f"again: vaegen datasets --remove {name})"
        )
    return registry.in_order(arrays)


def _largest(images: np.ndarray) -> int:
    return int(images.max()) if images.size and images.dtype == np.uint8 else 255


def shared_images(entry: DatasetInfo) -> int:
    """Test images of a data set that are also among its training images."""
    assert entry.read is not None
    arrays = entry.read()
    seen = {_digest(image) for image in arrays.train}
    return sum(_digest(image) in seen for image in arrays.test)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
