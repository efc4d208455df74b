"""Pictures in files: all their bits, turned as they are shown, or refused."""

import struct
import sys
import zlib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from vaegen_ray.data.picture_files import read_pictures
from vaegen_ray.errors import DataFormatError, DataMissingError

CHANNELS = {0: 1, 4: 2, 2: 3, 6: 4}
"""Of the PNG colour types with 16 bits: grey, grey with alpha, colour, colour with alpha."""


def write_png(path: Path, pixels: np.ndarray, colour: int, *extra: tuple[bytes, bytes]) -> None:
    """A PNG of 16 bits a colour, [H, W, C], which Pillow does not write in colour."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(part(*each) for each in parts))


def deep(colour: int, top: int = 65535, seed: int = 0) -> np.ndarray:
    """uint16 [H, W, C] with an opaque alpha where there is one."""
    pixels = np.random.default_rng(seed).integers(0, top + 1, (6, 8, CHANNELS[colour])).astype(np.uint16)
    if CHANNELS[colour] in (2, 4):
        pixels[..., -1] = 65535
    return pixels


def read(folder: Path, *names: str) -> np.ndarray:
    return read_pictures(folder, [Path(name) for name in names])


@pytest.mark.parametrize("top", [200, 65535], ids=["dark", "full"])
@pytest.mark.parametrize("colour", CHANNELS)
def test_all_16_bits_of_the_four_colour_types_are_read(colour, top, tmp_path):
    pixels = deep(colour, top)
    write_png(tmp_path / "a.png", pixels, colour)
    images = read(tmp_path, "a.png")
    assert images.dtype == np.uint16
    wanted = pixels[..., :-1] if CHANNELS[colour] in (2, 4) else pixels
    np.testing.assert_array_equal(images[0].transpose(1, 2, 0), wanted)


def test_grey_and_colour_of_16_bits_become_colour(tmp_path):
    for name, colour in (("a.png", 0), ("b.png", 2), ("c.png", 4)):
        write_png(tmp_path / name, deep(colour), colour)
    images = read(tmp_path, "a.png", "b.png", "c.png")
    assert images.shape == (3, 3, 6, 8)
    for i, colour in ((0, 0), (2, 4)):
        assert all((images[i, channel] == deep(colour)[..., 0]).all() for channel in range(3))


@pytest.mark.parametrize("colour", [4, 6])
def test_transparent_pixels_of_16_bits_are_refused(colour, tmp_path):
    pixels = deep(colour)
    pixels[2, 3, -1] = 65534
    write_png(tmp_path / "a.png", pixels, colour)
    with pytest.raises(DataFormatError, match="a.png must have no transparent pixels; got some"):
        read(tmp_path, "a.png")


@pytest.mark.parametrize("colour", [0, 2])
def test_a_colour_that_stands_for_transparency_is_refused_in_16_bits(colour, tmp_path):
    write_png(tmp_path / "a.png", deep(colour), colour, (b"tRNS", bytes(2 * CHANNELS[colour])))
    with pytest.raises(DataFormatError, match="a.png must have no transparent pixels; got some"):
        read(tmp_path, "a.png")


def test_8_and_16_bits_together_are_refused(tmp_path):
    write_png(tmp_path / "a.png", deep(2), 2)
    Image.new("RGB", (8, 6)).save(tmp_path / "b.png")
    with pytest.raises(DataFormatError, match="as many bits a colour; got a.png of 16 and b.png of 8"):
        read(tmp_path, "a.png", "b.png")


def test_16_bits_in_colour_need_imagecodecs(tmp_path):
    write_png(tmp_path / "a.png", deep(2), 2)
    with (
        patch.dict(sys.modules, {"imagecodecs": None}),
        pytest.raises(DataMissingError, match=r"a.png has 16 bits a colour.*pip install 'vaegen-ray\[pictures\]'") as e,
    ):
        read(tmp_path, "a.png")
    assert "\n" not in str(e.value)


def write_tiff(path: Path, pixels: np.ndarray, *, photometric: int = 2, orientation: int = 1) -> None:
    """An uncompressed TIFF of 16 bits a colour, [H, W, C], which Pillow does not write in colour."""
    height, width, channels = pixels.shape
    data, bits = pixels.astype("<u2").tobytes(), struct.pack("<H", 16) * channels
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: channels}
    tags |= {278: height, 279: len(data), **({338: 2} if channels == 4 and photometric == 2 else {})}
    entries = b""
    for tag, value in tags.items():
        several = tag == 258 and channels > 2  # more than fits into four bytes lies elsewhere
        count, value = (channels, 8 + len(data)) if several else (1, value)
        entries += struct.pack("<HHII", tag, 3 if tag == 258 else 4, count, value)
    head = b"II*\0" + struct.pack("<I", 8 + len(data) + len(bits))
    path.write_bytes(head + data + bits + struct.pack("<H", len(tags)) + entries + bytes(4))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("colour", [0, 2, 6])
def test_tiffs_keep_16_bits(colour, orientation, tmp_path):
    stored = _stored(deep(colour), orientation)
    write_tiff(tmp_path / "a.tif", stored, photometric=2 if colour else 1, orientation=orientation)
    wanted = deep(colour)[..., : 3 if colour else 1].transpose(2, 0, 1)
    np.testing.assert_array_equal(read(tmp_path, "a.tif")[0], wanted)


@pytest.mark.parametrize(("photometric", "colour"), [(0, 0), (5, 6)], ids=["inverted", "cmyk"])
def test_tiffs_of_which_pillow_would_make_something_else_are_refused(photometric, colour, tmp_path):
    write_tiff(tmp_path / "a.tif", deep(colour)[..., : 4 if colour else 1], photometric=photometric)
    with pytest.raises(
        DataFormatError, match=r"a.tif must have 8 bits a colour, or be .*; got TIFF .*(inverted I;16|CMYK) "
    ):
        read(tmp_path, "a.tif")


def test_a_ppm_of_16_bits_in_colour_is_refused_and_a_grey_one_is_read(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 8 6 65535\n" + deep(2).astype(">u2").tobytes())
    with pytest.raises(DataFormatError, match="a.ppm must have 8 bits a colour, or be a PNG or TIFF .*; got PPM"):
        read(tmp_path, "a.ppm")
    (tmp_path / "b.pgm").write_bytes(b"P5 8 6 65535\n" + deep(0).astype(">u2").tobytes())
    np.testing.assert_array_equal(read(tmp_path, "b.pgm")[0, 0], deep(0)[..., 0])


def test_pictures_of_several_frames_are_refused(tmp_path):
    frames = [Image.new("L", (8, 6), value) for value in (0, 255)]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(DataFormatError, match=rf"{name} must hold one picture; got 2 .save each of them"):
            read(tmp_path, name)


ORIENTATIONS = range(1, 9)
SUFFIXES = ("jpg", "png", "tif", "webp")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pictures_are_turned_as_their_exif_says(orientation, suffix, tmp_path):
    """Of all eight ways to store it, a picture is the same when it is shown."""
    shown = np.zeros((6, 8), np.uint8)
    shown[:, 4:], shown[:3] = 100, shown[:3] + 80
    stored = _stored(shown, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    picture = Image.fromarray(stored)
    picture.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    got = read(tmp_path, f"a.{suffix}")[0, 0].astype(int)
    assert got.shape == shown.shape and abs(got - shown).max() <= 3


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("colour", CHANNELS)
def test_pictures_of_16_bits_are_turned_too(colour, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = _stored(deep(colour), orientation)
    write_png(tmp_path / "a.png", stored, colour, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    wanted = deep(colour)[..., : 3 if CHANNELS[colour] > 2 else 1].transpose(2, 0, 1)
    np.testing.assert_array_equal(read(tmp_path, "a.png")[0], wanted)


def _stored(shown: np.ndarray, orientation: int) -> np.ndarray:
    """A picture [H, W, ...] as it is stored under an orientation of EXIF, by its definition: where its first row and
    its first column are when it is shown."""
    if orientation >= 5:  # the first row is a side when shown
        shown = shown.swapaxes(0, 1)
    down, right = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}[
        orientation
    ]
    return np.ascontiguousarray(shown[::down, ::right])
