"""Images in files of users: what NumPy wrote, or a folder of pictures. No pickle is opened.

What would be lost without a word is refused: more than 8 bits a colour, and transparent pixels.
"""

from pathlib import Path

import numpy as np

from vaegen_ray.errors import DataFormatError, DataMissingError, in_one_line

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pictures whose pixels are 8 bits a colour; Pillow cuts those of more off at 255."""


def read_arrays(source: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by name, or the pictures of a folder.

    Raises:
        DataMissingError: there is no such file, or it cannot be read.
        DataFormatError: it is not what NumPy writes, or has an array of Python objects.
    """
    if not source.exists():
        raise DataMissingError(f"there is no file or folder {source}; give an .npz, an .npy, or a folder of pictures")
    if source.is_dir():
        inner = [source / part for part in ("train", "test")]
        if all(folder.is_dir() for folder in inner):
            return {folder.name: _pictures(folder) for folder in inner}
        return {"images": _pictures(source)}
    try:
        opened = np.load(source, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return {"images": opened}
        with opened:
            return {name: opened[name] for name in opened.files}
    except PermissionError as error:
        raise DataMissingError(f"{source} must be a file that can be read; got: {in_one_line(error)}") from None
    except Exception as error:  # of a damaged file NumPy, zipfile and zlib raise almost anything
        raise DataFormatError(
            f"{source} must be an .npz or .npy that NumPy wrote, or a folder; got something else, a damaged file, or "
            f"an array of Python objects, which is a pickle and is not opened ({in_one_line(error)})"
        ) from None


def _pictures(folder: Path) -> np.ndarray:
    """The pictures below a folder, by name: uint8 [N, C, H, W], grey where all are."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    if not paths:
        raise DataFormatError(f"{folder} must hold pictures ({', '.join(PICTURES)}); got none")
    opened = []
    for path in paths:
        opened.append(_picture(path))
        if opened[-1].shape[:2] != opened[0].shape[:2]:
            both = ((paths[0], opened[0]), (path, opened[-1]))
            sizes = [f"{one.relative_to(folder)} of {'x'.join(map(str, image.shape[:2]))}" for one, image in both]
            raise DataFormatError(f"pictures of a folder must have one size; got {' and '.join(sizes)}")
    colour = any(image.ndim == 3 for image in opened)
    as_one = [np.repeat(image[..., None], 3, axis=2) if colour and image.ndim == 2 else image for image in opened]
    return channels_first(np.stack(as_one))


def _picture(path: Path) -> np.ndarray:
    """A picture: uint8 [H, W] where it is grey, otherwise [H, W, 3].

    Raises:
        DataFormatError: it is none, or has what would be lost: more than 8 bits a colour, or transparent pixels.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mode, alpha = picture.mode, 255
            if "A" in picture.getbands() or "transparency" in picture.info:
                alpha = int(np.asarray(picture.convert("RGBA"))[..., 3].min())
            pixels = np.asarray(picture.convert("L" if mode in ("1", "L", "LA") else "RGB"))
    except Exception as error:  # of a damaged file Pillow raises almost anything
        raise DataFormatError(f"{path} must be a picture; got: {in_one_line(error)}") from None
    if mode not in _MODES:
        raise DataFormatError(f"{path} must have 8 bits a colour; got a picture of mode {mode} (scale it to 0 .. 255)")
    if alpha < 255:
        raise DataFormatError(f"{path} must have no transparent pixels; got some (put it on a background)")
    return pixels


def channels_first(images: np.ndarray) -> np.ndarray:
    """[N, H, W] and [N, H, W, C] as [N, C, H, W]; truth values as 0 and 1."""
    if images.dtype == np.bool_:
        images = images.astype(np.uint8)
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images
