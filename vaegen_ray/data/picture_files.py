"""Pictures in files as arrays: what Pillow reads, as it is shown, and 16 bits a colour as they are in the file.

What would be lost without a word is refused: transparent pixels, further pictures of one file, and more than 8 bits a
colour in formats of which Pillow keeps 8. It keeps the 16 bits of grey pictures; of PNG and TIFF files in colour or
with an alpha channel it cuts the lower 8 off, so imagecodecs reads those. (torchvision reads them too, but not TIFF,
and its decoders are deprecated; pypng is slow pure Python; OpenCV is twice as large.)
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaegen_ray.data.memory import check_memory
from vaegen_ray.errors import DataFormatError, DataMissingError, VaegenError, in_one_line

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP")
"""Formats of Pillow that are read. It reads JPEG 2000 and AVIF too, but does not tell how many bits it cuts off."""
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of pictures whose pixels are 8 bits a colour."""
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of grey pictures with more than 8 bits, none of which Pillow cuts off."""
_DECODERS = {"PNG": "png_decode", "TIFF": "tiff_decode"}
"""Functions of imagecodecs for the formats of which Pillow cuts bits off."""
_ORIENTATION = 0x0112
"""The tag of EXIF that says how a picture is turned."""
_WITH_PREVIEWS = "MPO"
"""JPEG files of cameras whose first picture is the photograph, and whose others are previews of it."""


class _Header(NamedTuple):
    """What a file says of its picture before it is unpacked."""

    pixels: int
    colour: bool
    deep: bool
    """More than 8 bits a colour."""


@cache
def suffixes() -> frozenset[str]:
    """The ends of the names of pictures, in small letters, such as ``.png``."""
    from PIL import Image

    kinds = {*FORMATS, _WITH_PREVIEWS}
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds)


def read_pictures(folder: Path, paths: Sequence[Path]) -> np.ndarray:
    """Pictures of one size: uint8 or, of 16 bits a colour, uint16 [N, C, H, W]; grey where all of them are.

    Args:
        folder: what the paths are relative to.
        paths: the files, at least one.

    Raises:
        DataFormatError: one is no picture, has what would be lost, or is of another size or depth.
        DataMissingError: torchvision is needed, and not installed.
        VaegenError: they do not fit into the memory.
    """
    headers = [_header(folder / path) for path in paths]
    deep = headers[0].deep
    if (other := next((i for i, header in enumerate(headers) if header.deep != deep), None)) is not None:
        bits = [f"{path} of {16 if is_deep else 8}" for path, is_deep in ((paths[0], deep), (paths[other], not deep))]
        raise DataFormatError(f"pictures of a folder must all have as many bits a colour; got {' and '.join(bits)}")
    channels = 3 if any(header.colour for header in headers) else 1
    largest = max(header.pixels for header in headers)
    check_memory(folder, len(paths) * channels * largest * (2 if deep else 1))
    images = np.empty(0)
    for i, path in enumerate(paths):
        pixels = _pixels(folder / path, deep)
        if i == 0:
            size = pixels.shape[1:]
            images = np.empty((len(paths), channels, *size), dtype=np.uint16 if deep else np.uint8)
        if pixels.shape[1:] != size:
            both = [f"{one} of {h}x{w}" for one, (h, w) in ((paths[0], size), (path, pixels.shape[1:]))]
            raise DataFormatError(f"pictures of a folder must have one size; got {' and '.join(both)}")
        images[i] = pixels  # grey ones become colour where others are
    return images


def _header(path: Path) -> _Header:
    with _opened(path) as picture:
        # `tile` has the mode in the file, such as RGB;16B, where `mode` is that in memory
        stored = [argument for tile in picture.tile for argument in _as_tuple(tile[3])]
        names = [argument for argument in stored if isinstance(argument, str)]
        deep = picture.mode in _DEEP_MODES or any(";16" in name for name in names)
        if picture.format == "PPM":
            deep = deep or any(isinstance(argument, int) and argument > 255 for argument in stored)
        inverted = False
        if picture.format == "TIFF":
            deep = max(picture.tag_v2.get(258, (1,))) > 8
            inverted = picture.tag_v2.get(262) == 0
        kept = picture.mode in _DEEP_MODES and not inverted
        decoded = picture.format in _DECODERS and picture.mode in ("LA", "RGB", "RGBA")
        if deep and not kept and not decoded:
            raise DataFormatError(
                f"{path} must have 8 bits a colour, or be a PNG or TIFF in grey or RGB; got {picture.format} with more "
                f"bits in mode {'inverted ' if inverted else ''}{picture.mode} (save it as PNG)"
            )
        if not deep and picture.mode not in _MODES:
            raise DataFormatError(
                f"{path} must have 8 or 16 bits a colour; got a picture of mode {picture.mode} (scale it to 0 .. 255)"
            )
        if getattr(picture, "n_frames", 1) > 1 and picture.format != _WITH_PREVIEWS:
            raise DataFormatError(
                f"{path} must hold one picture; got {picture.n_frames} (save each of them as a file of its own)"
            )
        grey = picture.mode in (*_DEEP_MODES, "1", "L", "LA") or (deep and names[0].startswith("LA"))
        return _Header(picture.width * picture.height, not grey, deep)


def _pixels(path: Path, deep: bool) -> np.ndarray:
    """A picture as it is shown: [1, H, W] where it is grey, otherwise [3, H, W]; uint16 where it is ``deep``.

    Raises:
        DataFormatError: it is none, or has transparent pixels.
    """
    from PIL import ImageOps

    with _opened(path) as picture:
        marked = "transparency" in picture.info  # a colour that stands for transparency
        if deep and picture.mode not in _DEEP_MODES:
            decoded = _decoded(path, picture.format)
            pixels = _turned(decoded, picture.getexif().get(_ORIENTATION, 1)).transpose(2, 0, 1)
            opaque = not marked
            if len(pixels) in (2, 4):  # the last channel is alpha
                pixels, opaque = pixels[:-1], opaque and int(pixels[-1].min()) == 65535
        else:
            ImageOps.exif_transpose(picture, in_place=True)
            opaque = not (deep and marked)
            if not deep and ("A" in picture.getbands() or marked):
                opaque = int(np.asarray(picture.convert("RGBA"))[..., 3].min()) == 255
            if not deep:
                picture = picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
            pixels = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
    if not opaque:
        raise DataFormatError(f"{path} must have no transparent pixels; got some (put it on a background)")
    if deep and (pixels.min() < 0 or pixels.max() > 65535):
        raise DataFormatError(
            f"{path} must have pixels of 8 or 16 bits; got values from {pixels.min()} to {pixels.max()}"
        )
    return pixels


def _decoded(path: Path, kind: str) -> np.ndarray:
    """A file with all its bits, as it is stored: uint16 [H, W, C].

    Raises:
        DataMissingError: imagecodecs is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise DataMissingError(
            f"{path} has 16 bits a colour, for which imagecodecs is needed ({in_one_line(error)}); run "
            "`pip install 'vaegen-ray[pictures]'`"
        ) from None
    return np.atleast_3d(getattr(imagecodecs, _DECODERS[kind])(path.read_bytes()))


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A picture [H, W, C] as it is shown, by its EXIF: what ``ImageOps.exif_transpose`` does for 8 bits."""
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture of which the header has been read.

    Raises:
        DataFormatError: it is none, or so large that Pillow suspects an attack; anything else that Pillow raises.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # of a path, Pillow maps uncompressed TIFF files, and takes width for height where EXIF says they are turned
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
                yield picture
    except VaegenError:
        raise
    except UnidentifiedImageError:
        raise DataFormatError(f"{path} must be a picture ({', '.join(FORMATS)}); got none, or a damaged one") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataFormatError(
            f"{path} must have at most {Image.MAX_IMAGE_PIXELS:,} pixels, as Pillow reads them; got: {error}"
        ) from None
    except Exception as error:  # of a damaged file Pillow raises almost anything
        raise DataFormatError(f"{path} must be a picture; got: {in_one_line(error)}") from None


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)
