"""Tetrominoes: what each factor does to the picture, that every combination of bins is there once, and the files."""

import colorsys
import os

import numpy as np
import pytest

from vaegen_ray.data import tetrominoes
from vaegen_ray.data.tetrominoes import Bins, cached, factors, generate, render
from vaegen_ray.errors import SpecError

SMALL = Bins(angle=8, hue=2, scale=3, x=3, y=3)
ANGLE, HUE, SCALE, X, Y = range(5)
FOUR_PIXELS = 2 / 3
"""The scale factor of squares of 4 pixels."""


def one(angle=0.0, hue=0.0, scale=FOUR_PIXELS, x=0.5, y=0.5, size=32):
    """One picture, uint8 [3, S, S]."""
    return render(np.array([[angle, hue, scale, x, y]]), size)[0]


def varied(n=400, seed=0):
    return np.random.default_rng(seed).random((n, 5))


def covered(images):
    """The part of each pixel that the piece covers: the strongest channel of a hue of full value, [N, S, S]."""
    return images.max(axis=1) / 255


def test_every_combination_of_bins_is_there_once():
    values, numbers = factors(SMALL), SMALL.numbers()
    assert values.shape == numbers.shape == (SMALL.images, 5) == (8 * 2 * 3 * 3 * 3, 5)
    assert len({tuple(row) for row in numbers.tolist()}) == SMALL.images
    assert (numbers.max(axis=0) + 1).tolist() == list(SMALL.counts) == [8, 2, 3, 3, 3]
    np.testing.assert_array_equal(np.floor(values * SMALL.counts), numbers)
    assert values.min() >= 0
    assert values.max() < 1


def test_the_usual_bins_are_those_of_the_paper():
    assert Bins().counts == (16, 8, 5, 16, 16)
    assert Bins().images == 163_840 == len(np.unique(factors(Bins())[:, ANGLE]))


def test_factors_are_uniform_inside_their_bins_and_independent():
    bins = Bins(angle=8, hue=4, scale=5, x=8, y=8)
    inside = factors(bins) * bins.counts - bins.numbers()
    np.testing.assert_allclose(inside.mean(axis=0), 1 / 2, atol=0.015)
    np.testing.assert_allclose(inside.var(axis=0), 1 / 12, atol=0.004)
    np.testing.assert_allclose(np.corrcoef(inside.T), np.eye(5), atol=0.05)


def test_factors_are_a_function_of_the_seed():
    np.testing.assert_array_equal(factors(SMALL, 3), factors(SMALL, 3))
    assert not np.isin(factors(SMALL, 3), factors(SMALL, 4)).any()


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "4"])
def test_bins_are_whole_numbers(count):
    with pytest.raises(SpecError, match=f"bins of hue must be a whole number >= 1; got {count!r}"):
        Bins(hue=count)


def test_an_upright_piece_is_a_j_of_whole_pixels():
    drawn = np.zeros((32, 32))
    drawn[:12, :8] = np.kron([[0, 1], [0, 1], [1, 1]], np.ones((4, 4)))
    red, green, blue = one(x=0.0, y=0.0)
    np.testing.assert_array_equal(red, 255 * drawn)
    assert not green.any()
    assert not blue.any()


def test_the_angle_turns_the_piece_to_the_right():
    upright = one(x=0.0, y=0.0)[0]
    for quarter, turned in ((0.25, np.rot90(upright, -1)), (0.5, np.rot90(upright, 2)), (0.75, np.rot90(upright))):
        x, y = (0.0 if turned[edge].any() else 1.0 for edge in ((slice(None), 0), (0, slice(None))))
        np.testing.assert_allclose(one(angle=quarter, x=x, y=y)[0], turned, atol=1)


def test_no_turn_gives_the_same_picture():
    values = varied(60)
    straight = render(values).astype(int)
    for turn in (0.25, 0.5, 0.75):
        values_turned = values.copy()
        values_turned[:, ANGLE] = (values[:, ANGLE] + turn) % 1
        difference = np.abs(render(values_turned) - straight).sum(axis=(1, 2, 3))
        assert (difference > 0.2 * straight.sum(axis=(1, 2, 3))).all()


@pytest.mark.parametrize(("size", "tolerance"), [(16, 0.13), (32, 0.06), (48, 0.04)])
def test_the_whole_piece_is_inside_wherever_it_is(size, tolerance):
    values = varied()
    values[:, [X, Y]] = np.round(values[:, [X, Y]] * 2) / 2  # at borders, in corners and in the middle
    area = 4 * ((2 + 3 * values[:, SCALE]) * size / 32) ** 2
    np.testing.assert_allclose(covered(render(values, size)).sum(axis=(1, 2)) / area, 1, atol=tolerance)


def test_nothing_is_cut_off_at_any_angle():
    angles = (np.arange(72) + 0.3) / 72
    middle = np.stack([angles, *(np.full(72, value) for value in (0.0, 0.0, 0.5, 0.5))], axis=1)
    whole = covered(render(middle, 128)).sum(axis=(1, 2))
    for axis, place in ((X, 0.0), (X, 1.0), (Y, 0.0), (Y, 1.0)):
        there = middle.copy()
        there[:, axis] = place
        np.testing.assert_allclose(covered(render(there, 128)).sum(axis=(1, 2)), whole, rtol=0.004)


def test_the_place_goes_from_border_to_border():
    values = varied(100)
    for axis, sums in ((X, (1, 2)), (Y, (1, 3))):
        ends = []
        for place in (0.0, 1.0):
            values[:, axis] = place
            ends.append(render(values).sum(axis=sums) > 0)  # rows or columns that hold something, [N, S]
        assert ends[0][:, :2].any(axis=1).all()
        assert ends[1][:, -2:].any(axis=1).all()
        assert not ends[0][:, -8:].any()
        assert not ends[1][:, :8].any()


@pytest.mark.parametrize("hue", [0.0, 0.2, 1 / 3, 0.5, 0.75, 0.999])
def test_the_hue_is_the_colour_at_full_saturation_and_value(hue):
    image = one(hue=hue)
    full = image[:, image.max(axis=0) == 255]
    wanted = 255 * np.array(colorsys.hsv_to_rgb(0.875 * hue, 1, 1))
    assert full.shape[1] > 40
    np.testing.assert_allclose(full, np.tile(wanted[:, None], full.shape[1]), atol=0.51)


def test_edges_are_a_darker_shade_of_the_same_hue():
    image = one(angle=0.1, hue=0.9).astype(float)
    edge = (image.max(axis=0) > 60) & (image.max(axis=0) < 250)
    assert edge.sum() > 10
    shade = image[:, edge] / image[:, edge].max(axis=0)
    np.testing.assert_allclose(shade, np.tile([[shade[0].mean()], [0], [shade[2].mean()]], edge.sum()), atol=0.02)


def test_a_larger_scale_is_a_larger_piece():
    small, large = (covered(one(angle=0.1, scale=scale)[None]).sum() for scale in (0.0, 1.0))
    assert small == pytest.approx(4 * 2**2, rel=0.05)
    assert large == pytest.approx(4 * 5**2, rel=0.03)


def test_another_size_is_the_same_picture_at_another_resolution():
    values = varied(50)
    coarse, fine = covered(render(values, 16)), covered(render(values, 64))
    means = fine.reshape(50, 16, 4, 16, 4).mean(axis=(2, 4))
    assert np.abs(coarse - means).mean() < 0.01
    assert np.abs(coarse - means).max() < 0.3


@pytest.mark.parametrize("size", [15, 0, -3, 32.0, None])
def test_sizes_without_room_for_a_piece_are_refused(size, tmp_path):
    for draw in (lambda: generate(SMALL, size), lambda: cached(SMALL, size, tmp_path)):
        with pytest.raises(SpecError, match=f"image_size must be a whole number >= 16; got {size!r}"):
            draw()


@pytest.mark.parametrize("pixels", [1, 7 * 32**2, 10**9])
def test_pictures_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch, pixels):
    usual = generate(SMALL)
    monkeypatch.setattr(tetrominoes, "CHUNK_PIXELS", pixels)
    np.testing.assert_array_equal(generate(SMALL), usual)


def test_generated_images_are_a_function_of_bins_size_and_seed():
    images = generate(SMALL, 16, 1)
    assert images.shape == (SMALL.images, 3, 16, 16)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images, generate(SMALL, 16, 1))
    np.testing.assert_array_equal(images, render(factors(SMALL, 1), 16))
    assert (images != generate(SMALL, 16, 2)).any(axis=(1, 2, 3)).all()


@pytest.fixture
def drawn(monkeypatch):
    """The sizes of the sets that were drawn, in order."""
    calls = []

    def counting(bins, size, seed):
        calls.append(size)
        return generate(bins, size, seed)

    monkeypatch.setattr(tetrominoes, "generate", counting)
    return calls


def test_images_are_drawn_once_and_then_read(drawn, tmp_path):
    first, again = (cached(SMALL, 16, tmp_path / "new" / "folder") for _ in range(2))
    assert drawn == [16]
    np.testing.assert_array_equal(first, generate(SMALL, 16))
    np.testing.assert_array_equal(again, first)
    assert [file.suffix for file in (tmp_path / "new" / "folder").iterdir()] == [".npz"]
    for images in (first, again):
        with pytest.raises(ValueError, match="read-only"):
            images[0] = 0


def test_every_set_has_a_file_of_its_own(drawn, monkeypatch, tmp_path):
    other = Bins(angle=2, hue=8, scale=3, x=3, y=3)
    wanted = [(SMALL, 16, 0), (SMALL, 17, 0), (SMALL, 16, 1), (other, 16, 0)]
    for _ in range(2):
        for bins, size, seed in wanted:
            np.testing.assert_array_equal(cached(bins, size, tmp_path, seed), generate(bins, size, seed))
    assert len(drawn) == len(list(tmp_path.iterdir())) == len(wanted)
    monkeypatch.setattr(tetrominoes, "RENDERING_VERSION", tetrominoes.RENDERING_VERSION + 1)
    cached(SMALL, 16, tmp_path)
    assert len(drawn) == len(wanted) + 1


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: b"",
        lambda c: c[: len(c) // 2],
        lambda c: c[:-1],
        lambda c: b"not an archive",
        lambda c: b"\x80\x04\x95" + c[3:],
        *(lambda c, part=part: flipped(c, len(c) * part // 16) for part in range(1, 16)),
    ],
)
def test_a_damaged_file_is_made_again(drawn, tmp_path, damage):
    images = cached(SMALL, 16, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    with pytest.warns(UserWarning, match="is damaged or cannot be read") as said:
        np.testing.assert_array_equal(cached(SMALL, 16, tmp_path), images)
    assert str(path) in str(said[0].message)
    assert drawn == [16, 16]
    np.testing.assert_array_equal(cached(SMALL, 16, tmp_path), images)
    assert drawn == [16, 16]
    assert list(tmp_path.iterdir()) == [path]


def write(path, images, digest):
    with open(path, "wb") as file:
        np.savez(file, images=images, digest=np.array(digest))


def test_whole_archives_of_other_images_are_not_taken(drawn, tmp_path):
    images = cached(SMALL, 16, tmp_path)
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        digest = str(file["digest"])
    changed = images.copy()
    changed[5, 0, 3, 3] ^= 1
    cached(SMALL, 16, tmp_path, seed=1)
    (renamed,) = set(tmp_path.iterdir()) - {path}
    for wrong in (
        lambda: write(path, changed, digest),
        lambda: write(path, images[:-1], tetrominoes._digest(path.name, images[:-1])),
        lambda: os.replace(renamed, path),
    ):
        wrong()
        with pytest.warns(UserWarning, match="is damaged"):
            np.testing.assert_array_equal(cached(SMALL, 16, tmp_path), images)


def test_a_folder_that_cannot_be_written_only_costs_time(drawn, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        np.testing.assert_array_equal(cached(SMALL, 16, tmp_path / "file" / "folder"), generate(SMALL, 16))
    assert drawn == [16, 16]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_while_writing_leaves_nothing(monkeypatch, tmp_path, failing):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    np.testing.assert_array_equal(cached(SMALL, 16, tmp_path), generate(SMALL, 16))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_writing_leaves_nothing(monkeypatch, tmp_path):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(SMALL, 16, tmp_path)
    assert list(tmp_path.iterdir()) == []
