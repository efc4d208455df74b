"""Which pictures a folder holds: their division into train, val and test, and their classes.

    PATH/*.png                    images without classes
    PATH/cat/*.png, PATH/dog/...  images with a class a folder
    PATH/train/..., PATH/test/... a division, each part as above

Links are followed. Hidden and system files, and files that are no pictures, are left out and said; a layout that can
be understood in two ways is refused.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaegen_ray.data.picture_files import read_pictures, suffixes
from vaegen_ray.errors import DataFormatError

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders that are parts of a division, in small letters."""
_SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "$recycle.bin", "system volume information"}
"""What operating systems leave in folders, in small letters; names that begin with a dot are hidden anyway."""
_HIDDEN = "hidden or system files and folders"
_NO_PICTURES = "files that are not pictures"
_BROKEN = "links that lead nowhere"
_AGAIN = "folders that were read already through another name"
MOST_NAMES = 10
"""Names of classes that are said."""


class Found(NamedTuple):
    """The pictures of a folder."""

    paths: dict[str, list[Path]]
    """Relative paths of the pictures by part: ``train``, ``val`` and ``test``, or ``images`` alone."""
    labels: dict[str, np.ndarray]
    """Classes of the pictures, int64 [N], of the parts whose pictures all lie in folders of classes."""
    notes: list[str]
    """What was left out and why, and which folder is which class."""


def read_folder(folder: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The pictures of a folder by part, and their classes as ``labels`` or ``PART_labels``; and what is to be said.

    Raises:
        DataFormatError: the folder holds no pictures, or what was found can be understood in two ways.
    """
    found = find_pictures(folder)
    images = read_pictures(folder, [path for paths in found.paths.values() for path in paths])
    arrays, start = {}, 0
    for part, paths in found.paths.items():
        arrays[part] = images[start : start + len(paths)]
        start += len(paths)
    for part, labels in found.labels.items():
        arrays["labels" if part == "images" else f"{part}_labels"] = labels
    return arrays, found.notes


def find_pictures(folder: Path) -> Found:
    """The pictures below a folder, in the order of their paths. None is opened.

    Raises:
        DataFormatError: as ``read_folder``.
    """
    left_out: dict[str, list[Path]] = defaultdict(list)
    paths = sorted(_walk(folder, Path(), set(), left_out))
    notes = _said(left_out)
    if not paths:
        raise DataFormatError(f"{folder} must hold pictures ({', '.join(sorted(suffixes()))}); got none{_after(notes)}")
    parts = _divided(folder, paths, notes)
    labels, said = _classes(parts)
    return Found(parts, labels, notes + said)


def _walk(folder: Path, below: Path, seen: set[tuple[int, int]], left_out: dict[str, list[Path]]) -> Iterator[Path]:
    """Relative paths of pictures; everything else goes to ``left_out``, by the reason."""
    status = (folder / below).stat()
    if (status.st_dev, status.st_ino) in seen:
        left_out[_AGAIN].append(below)
        return
    seen.add((status.st_dev, status.st_ino))
    try:
        names = sorted(os.listdir(folder / below))
    except OSError as error:
        raise DataFormatError(f"{folder / below} must be a folder that can be read; got: {error.strerror}") from None
    for name in names:
        path = below / name
        if name.startswith(".") or name.lower() in _SYSTEM:
            left_out[_HIDDEN].append(path)
        elif (folder / path).is_dir():
            yield from _walk(folder, path, seen, left_out)
        elif not (folder / path).exists():
            left_out[_BROKEN].append(path)
        elif path.suffix.lower() in suffixes() and (folder / path).is_file():
            yield path
        else:
            left_out[_NO_PICTURES].append(path)


def _said(left_out: dict[str, list[Path]]) -> list[str]:
    """One line that says how many of each kind were left out, with an example; none where nothing was."""
    kinds = [f"{len(paths):,} {why} (such as {paths[0]})" for why, paths in left_out.items()]
    return [f"left out: {', '.join(kinds)}"] if kinds else []


def _after(notes: list[str]) -> str:
    return "".join(f"; {note}" for note in notes)


def _divided(folder: Path, paths: list[Path], notes: list[str]) -> dict[str, list[Path]]:
    """The pictures by part."""
    parts: dict[str, list[Path]] = defaultdict(list)
    names: dict[str, str] = {}
    for path in paths:
        *folders, _ = path.parts
        inner = next((i for i, name in enumerate(folders) if i and name.lower() in PARTS), None)
        if inner is not None:
            raise DataFormatError(
                f"the folders train, val and test must lie in {folder} itself; got {Path(*folders[: inner + 1])} "
                f"(give the path of the folder that holds them, or rename it)"
            )
        part = PARTS.get(folders[0].lower(), "") if folders else ""
        parts[part].append(path)
        if part and names.setdefault(part, folders[0]) != folders[0]:
            raise DataFormatError(f"{folder} must have one folder a part; got {names[part]} and {folders[0]}")
    if not names:
        return {"images": paths}
    got = ", ".join(names.values())
    if "" in parts:
        raise DataFormatError(
            f"{folder} must have all pictures in folders train, val and test, or none; got {got}, and "
            f"{len(parts['']):,} pictures beside them (such as {parts[''][0]})"
        )
    if set(parts) not in ({"train", "test"}, {"train", "val"}, {"train", "val", "test"}):
        raise DataFormatError(
            f"{folder} must have pictures in train and in test or val; got them in {got} (for a test set that is "
            f"taken from one of them, give its path){_after(notes)}"
        )
    return {part: parts[part] for part in ("train", "val", "test") if part in parts}


def _classes(parts: dict[str, list[Path]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The classes of pictures that lie in a folder each, the first one below that of their part."""
    folders = {
        part: [path.parts[depth] if len(path.parts) > depth + 1 else None for path in paths]
        for part, paths in parts.items()
        for depth in [0 if part == "images" else 1]
    }
    names = {name for found in folders.values() for name in found if name is not None}
    if len(names) < 2:
        return {}, []
    ordered = sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)
    number = {name: i for i, name in enumerate(ordered)}
    said = [f"{number[name]} {name}" for name in ordered[:MOST_NAMES]]
    more = f", and {len(ordered) - MOST_NAMES:,} more" if len(ordered) > MOST_NAMES else ""
    notes = [f"classes by folder: {', '.join(said)}{more}"]
    labels = {}
    for part, found in folders.items():
        without = found.count(None)
        if without:
            notes.append(
                f"left out: the classes of {part}, because {without:,} of {len(found):,} pictures lie in no folder of "
                f"a class"
            )
        else:
            labels[part] = np.array([number[str(name)] for name in found], dtype=np.int64)
    return labels, notes
