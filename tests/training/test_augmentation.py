"""Truths of the augmentation: known effects on known images, and where its random numbers come from."""

import math
from dataclasses import astuple, fields, replace

import pytest
import torch

from vaegen_ray.errors import SpecError
from vaegen_ray.training.augmentation import (
    BLOCK,
    NAIVE,
    TUNED_COLOUR,
    TUNED_GREY,
    Augmentation,
    Augmented,
    Transforms,
    build_augmentation,
    draw,
    stronger,
    transformed,
)
from vaegen_ray.training.numerics import arithmetic

NOTHING = {"flip_x": 1, "flip_y": 1, "scale": 1, "stretch": 1, "contrast": 1, "saturation": 1}
SEED = 7


class Cycle:
    """Position p is image p modulo N, as a view where it can be."""

    def __init__(self, images):
        self.all = images

    def held_out(self, count):
        return None

    def images(self, start, stop):
        if 0 <= start < stop <= len(self.all):
            return self.all[start:stop]
        return self.all[torch.arange(start, stop) % len(self.all)]


def noise(n, shape, levels=256):
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(0, levels, (n, *shape), dtype=torch.uint8, generator=generator)


def augmented(images, augmentation, probability=0.1, levels=256, seed=SEED):
    return Augmented(Cycle(images), augmentation, probability=probability, levels=levels, seed=seed)


def under(images, levels=256, **done):
    """The images, all under the same transforms."""
    n, channels, height, width = images.shape
    values = {f.name: done.get(f.name, NOTHING.get(f.name, 0)) for f in fields(Transforms)}
    transforms = Transforms(**{k: torch.full((n,), float(v), dtype=torch.float64) for k, v in values.items()})
    return transformed(
        images, transforms.maps(height, width).float(), transforms.colours(channels, levels).float(), levels
    )


def box(height, width, rows, columns):
    """A black binary image with a bright box from rows[0] to rows[1] - 1, alike the columns."""
    image = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    image[..., slice(*rows), slice(*columns)] = 1
    return image


def equal_images(a, b):
    return (a == b).flatten(1).all(1)


# The source


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
@pytest.mark.parametrize("size", [1, 7, BLOCK - 1, BLOCK, 2 * BLOCK + 50])
def test_it_does_not_matter_how_the_range_is_cut(shape, size):
    images = noise(60, shape)
    start, stop = (BLOCK - 30, BLOCK + 30) if size < 10 else (0, 2 * BLOCK + 300)
    whole = augmented(images, build_augmentation("naive", shape), 0.5).images(start, stop)
    source = augmented(images, build_augmentation("naive", shape), 0.5)
    parts = [source.images(low, min(low + size, stop)) for low in range(start, stop, size)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(source.images(start + 40, start + 45), whole[40:45])  # and not where it was before


def test_every_position_and_every_seed_has_transforms_of_its_own():
    one = noise(1, (1, 16, 16))
    source, other = (augmented(one, replace(NAIVE, translation=1), 1.0, seed=seed) for seed in (1, 2))
    first = source.images(0, 2 * BLOCK)
    assert len(first.unique(dim=0)) == 2 * BLOCK
    assert not equal_images(first, other.images(0, 2 * BLOCK)).any()


def test_fresh_images_are_not_those_of_training():
    images = noise(BLOCK + 20, (1, 8, 8))
    source = augmented(images, NAIVE, 1.0)
    fresh = source.held_out(BLOCK + 20)
    assert fresh.shape == images.shape and fresh.dtype == torch.uint8
    assert torch.equal(source.held_out(BLOCK + 20), fresh) and torch.equal(source.held_out(5), fresh[:5])
    assert not equal_images(fresh, source.images(0, BLOCK + 20)).any()
    assert len(augmented(images[:1], NAIVE, 1.0).held_out(2 * BLOCK).unique(dim=0)) == 2 * BLOCK


def test_fresh_images_are_made_of_those_that_no_training_sees():
    class Endless(Cycle):
        def held_out(self, count):
            return torch.full((count, 1, 8, 8), 200, dtype=torch.uint8)

    source = Augmented(Endless(noise(30, (1, 8, 8))), NAIVE, probability=1e-9, levels=256, seed=SEED)
    assert torch.equal(source.held_out(7), torch.full((7, 1, 8, 8), 200, dtype=torch.uint8))


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 12, 9), (3, 8, 8)])
@pytest.mark.parametrize("kind", ["naive", "tuned"])
def test_images_keep_shape_type_and_levels(kind, shape, levels):
    images = noise(300, shape, levels)
    before = images.clone()
    result = augmented(images, build_augmentation(kind, shape), 1.0, levels).images(0, 300)
    assert result.shape == images.shape and result.dtype == torch.uint8
    assert result.max() <= levels - 1
    assert torch.equal(images, before)
    assert not torch.equal(result, images)


def test_the_precision_of_training_does_not_matter():
    images = noise(300, (3, 8, 8))
    plain = augmented(images, NAIVE, 1.0).images(0, 300)
    with arithmetic("bf16", torch.device("cpu")):
        assert torch.equal(augmented(images, NAIVE, 1.0).images(0, 300), plain)


def test_a_tiny_probability_does_nothing():
    for shape in ((1, 8, 8), (3, 8, 8)):
        images = noise(500, shape)
        assert torch.equal(augmented(images, NAIVE, 1e-9).images(0, 500), images)


def test_probability_one_changes_every_image():
    images = noise(500, (1, 28, 28))
    for table in (NAIVE, TUNED_GREY):
        assert not equal_images(augmented(images, table, 1.0).images(0, 500), images).any()


@pytest.mark.parametrize("probability", [0.1, 0.3])
@pytest.mark.parametrize("table, shape", [(NAIVE, (3, 16, 16)), (NAIVE, (1, 16, 16)), (TUNED_GREY, (1, 16, 16))])
def test_transforms_are_applied_independently(table, shape, probability):
    n, b = 6000, probability
    images = noise(n, shape)
    untouched = equal_images(augmented(images, table, b).images(0, n), images).double().mean()
    expected = (1 - b) ** 3 * (1 - b * 48 / 49)  # scaling, rotation, anisotropic scaling; a shift by (0, 0) is none
    if table is NAIVE:
        expected *= (1 - b / 2) * (1 - b) ** (4 if shape[0] == 3 else 2)  # half of the flips flip
    assert untouched == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


def test_half_of_the_colour_images_are_flipped_whatever_the_probability():
    images = noise(2000, (3, 8, 8))
    result = augmented(images, TUNED_COLOUR, 1e-9).images(0, 2000)
    flipped = equal_images(result, images.flip(3))
    assert torch.equal(equal_images(result, images), ~flipped)
    assert flipped.double().mean() == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize("probability", [0, -0.1, 1.01, float("nan")])
def test_a_probability_that_is_none_is_an_error(probability):
    with pytest.raises(SpecError, match=r"must be > 0 and <= 1; got"):
        augmented(noise(1, (1, 8, 8)), NAIVE, probability)


# What each transform does


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 9), (3, 9, 6)])
def test_flips(shape):
    images = noise(5, shape)
    assert torch.equal(under(images, flip_x=-1), images.flip(3))
    assert torch.equal(under(images, flip_y=-1), images.flip(2))
    assert torch.equal(under(images), images)


@pytest.mark.parametrize("x, y", [(1, 0), (-3, 0), (0, 2), (3, -1)])
def test_translations_move_whole_pixels_and_fill_with_black(x, y):
    images = noise(5, (1, 7, 9))
    expected = torch.zeros_like(images)
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(9), indexing="ij")
    there = (rows - y >= 0) & (rows - y < 7) & (columns - x >= 0) & (columns - x < 9)
    expected[:, :, there] = images[:, :, (rows - y)[there], (columns - x)[there]]
    assert torch.equal(under(images, shift_x=x, shift_y=y), expected)


def test_colour_images_are_mirrored_at_their_edges():
    images = noise(5, (3, 8, 8))
    shifted = under(images, shift_x=2)
    assert torch.equal(shifted[..., 2:], images[..., :-2])
    assert torch.equal(shifted[..., :2], images[..., :2].flip(3))


def test_a_rotation_by_a_right_angle_is_exact_and_clockwise():
    images = noise(5, (1, 8, 8))
    assert torch.equal(under(images, angle=math.pi / 2), images.rot90(-1, (2, 3)))
    assert torch.equal(under(images, angle=-math.pi / 2), images.rot90(1, (2, 3)))


def test_rotations_keep_the_shape_of_a_pixel_where_sides_differ():
    lying, standing = box(8, 16, (3, 5), (5, 11)), box(8, 16, (1, 7), (7, 9))
    assert torch.equal(under(lying, 2, angle=math.pi / 2), standing)
    images = noise(5, (1, 5, 8))
    assert torch.equal(under(images, angle=math.pi), images.flip(2, 3))


def test_scaling_grows_around_the_centre():
    small, large = box(8, 8, (3, 5), (3, 5)), box(8, 8, (2, 6), (2, 6))
    assert torch.equal(under(small, 2, scale=2), large)
    assert torch.equal(under(large, 2, scale=0.5), small)


def test_anisotropic_scaling_stretches_its_axis_and_squeezes_the_other():
    square = box(16, 16, (6, 10), (6, 10))
    lying, standing = box(16, 16, (7, 9), (4, 12)), box(16, 16, (4, 12), (7, 9))
    assert torch.equal(under(square, 2, stretch=2), lying)
    assert torch.equal(under(square, 2, stretch=0.5), standing)
    assert torch.equal(under(square, 2, stretch=2, stretch_axis=math.pi / 2), standing)
    falling = under(square, 2, stretch=2, stretch_axis=math.pi / 4)[0, 0]  # x and y grow together
    assert falling[4, 4] == falling[11, 11] == 1 and falling[4, 11] == falling[11, 4] == 0
    assert torch.equal(falling, falling.T)


def test_the_order_is_flip_translation_scaling_rotation_stretching():
    square = box(16, 16, (7, 9), (7, 9))
    assert torch.equal(under(square, 2, shift_x=2, scale=2), box(16, 16, (6, 10), (10, 14)))
    assert torch.equal(under(square, 2, shift_x=4, angle=math.pi / 2), box(16, 16, (11, 13), (7, 9)))
    aside = box(16, 16, (7, 9), (2, 4))
    assert torch.equal(under(aside, 2, flip_x=-1, shift_x=1), box(16, 16, (7, 9), (13, 15)))
    assert torch.equal(under(aside, 2, flip_x=-1, angle=math.pi / 2), box(16, 16, (12, 14), (7, 9)))
    lying = box(16, 16, (7, 9), (4, 12))
    assert torch.equal(under(lying, 2, angle=math.pi / 2, stretch=2), box(16, 16, (6, 10), (6, 10)))


def test_binary_images_are_rounded_at_one_half():
    image = box(4, 8, (0, 4), (2, 4))
    assert torch.equal(under(image, 2, shift_x=0.25), image)
    assert torch.equal(under(image, 2, shift_x=0.75), box(4, 8, (0, 4), (3, 5)))
    assert torch.equal(under(image, 2, shift_x=0.5), box(4, 8, (0, 4), (2, 5)))  # halves go up


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_adds_and_contrast_spreads_around_the_middle(channels):
    images = noise(20, (channels, 8, 8))
    x = images.double()
    close = {"atol": 0.5 + 1e-3, "rtol": 0}  # of rounding
    brighter = under(images, brightness=0.2).double()
    torch.testing.assert_close(brighter, (x + 0.1 * 255).clamp(0, 255), **close)
    torch.testing.assert_close(under(images, contrast=0.5).double(), (x + 127.5) / 2, **close)
    torch.testing.assert_close(under(images, contrast=2).double(), (2 * x - 127.5).clamp(0, 255), **close)
    both = under(images, brightness=0.2, contrast=0.5).double()
    torch.testing.assert_close(both, (x + 25.5 + 127.5) / 2, **close)
    nibbles = noise(20, (channels, 8, 8), 16)
    torch.testing.assert_close(under(nibbles, 16, contrast=0.5).double(), (nibbles.double() + 7.5) / 2, **close)


def test_hue_turns_around_the_grey_axis():
    images = 64 + noise(20, (3, 8, 8)) // 2  # no turned colour is clipped
    assert torch.equal(under(images, hue=2 * math.pi / 3), images.roll(1, 1))  # red becomes green
    for angle in (0.3, -1.0):
        turned = under(images, hue=angle).double()
        assert not torch.equal(turned, images.double())
        torch.testing.assert_close(turned.mean(1), images.double().mean(1), atol=0.5, rtol=0)
        squares = ((each - each.mean(1, keepdim=True)).square().sum(1).sqrt() for each in (turned, images.double()))
        torch.testing.assert_close(*squares, atol=1.0, rtol=0)
    grey = noise(5, (1, 8, 8)).expand(-1, 3, -1, -1)
    assert torch.equal(under(grey, hue=0.7), grey)


def test_saturation_multiplies_the_distance_from_grey():
    images = 96 + noise(20, (3, 8, 8)) // 4
    mean = images.double().mean(1, keepdim=True)
    for factor in (0, 0.5, 2):
        expected = mean + factor * (images.double() - mean)
        torch.testing.assert_close(under(images, saturation=factor).double(), expected, atol=0.5 + 1e-3, rtol=0)
    # not before the hue or after it: they commute, and do both
    both = under(images, hue=2 * math.pi / 3, saturation=0.5)
    assert torch.equal(both, under(images, saturation=0.5).roll(1, 1))


def test_grey_images_have_neither_hue_nor_saturation():
    table = Augmentation(hue=math.pi, saturation=2.0)
    grey, colour = noise(300, (1, 8, 8)), noise(300, (3, 8, 8))
    assert torch.equal(augmented(grey, table, 1.0).images(0, 300), grey)
    assert not equal_images(augmented(colour, table, 1.0).images(0, 300), colour).any()


# How they are drawn

N = 20_000


def drawn(table, probability=1.0):
    return draw(table, probability, N, torch.Generator().manual_seed(SEED))


@pytest.mark.parametrize("table, deviation", [(NAIVE, 0.2), (TUNED_GREY, 0.15), (TUNED_COLOUR, 0.2)])
def test_scales_are_log_normal(table, deviation):
    transforms = drawn(table)
    check_normal(transforms.scale.log2(), deviation)
    check_normal(transforms.stretch.log2(), deviation)


def test_colour_changes_are_normal_or_log_normal():
    transforms = drawn(NAIVE)
    check_normal(transforms.brightness, 0.2)
    check_normal(transforms.contrast.log2(), 0.25)
    check_normal(transforms.saturation.log2(), 0.5)


def check_normal(values, deviation):
    assert values.mean().item() == pytest.approx(0, abs=4 * deviation / math.sqrt(N))
    assert values.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * N))
    assert (values.abs() < deviation).double().mean().item() == pytest.approx(0.6827, abs=0.014)


@pytest.mark.parametrize(
    "table, field, reach",
    [
        (NAIVE, "angle", math.radians(10)),
        (TUNED_GREY, "angle", math.radians(10)),
        (TUNED_COLOUR, "angle", math.radians(360)),
        (NAIVE, "hue", math.pi / 4),
        (replace(NAIVE, anisotropic_rotation=1), "stretch_axis", math.pi),
    ],
)
def test_angles_are_uniform_in_both_directions(table, field, reach):
    values = getattr(drawn(table), field) / reach
    assert values.abs().max() <= 1
    counts = torch.histc(values, bins=10, min=-1, max=1)
    assert ((counts - N / 10).abs() < 4.5 * math.sqrt(N / 10)).all()


def test_translations_are_uniform_whole_pixels():
    transforms = drawn(NAIVE)
    cells = 7 * (transforms.shift_x + 3) + transforms.shift_y + 3
    values, counts = cells.unique(return_counts=True)
    assert values.tolist() == list(range(49))
    assert ((counts - N / 49).abs() < 4.5 * math.sqrt(N / 49)).all()


@pytest.mark.parametrize("table, probability", [(NAIVE, 0.5), (TUNED_GREY, 0.4), (TUNED_COLOUR, 0.5)])
def test_some_of_the_stretched_have_turned_axes(table, probability):
    transforms = drawn(table, 0.3)
    stretched = transforms.stretch != 1
    assert stretched.double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert (transforms.stretch_axis[~stretched] == 0).all()
    axes = transforms.stretch_axis[stretched]
    assert (axes != 0).double().mean().item() == pytest.approx(probability, abs=0.03)
    assert axes[axes != 0].mean().item() == pytest.approx(0, abs=0.2)
    assert axes.min() < -3.1 and axes.max() > 3.1


def test_no_transform_tells_about_another():
    everything = replace(NAIVE, vertical_flip=True, anisotropic_rotation=1)
    assert off_diagonal(torch.stack(astuple(drawn(everything)))) < 0.035
    sizes = [value.log() if (value > 0).all() else value for value in astuple(drawn(everything))]
    assert off_diagonal(torch.stack(sizes).abs()[2:]) < 0.035
    together = {"shift_y", "stretch_axis"}  # with shift_x and with stretch
    applied = [
        getattr(drawn(everything, 0.5), f.name) != NOTHING.get(f.name, 0)
        for f in fields(Transforms)
        if f.name not in together
    ]
    assert off_diagonal(torch.stack(applied).double()) < 0.035


def off_diagonal(rows):
    return (torch.corrcoef(rows) - torch.eye(len(rows))).abs().max()


# The tables


def test_the_tables_by_kind_and_channels():
    assert build_augmentation("naive", (1, 28, 28)) == build_augmentation("naive", (3, 32, 32)) == NAIVE
    assert build_augmentation("tuned", (1, 28, 28)) == build_augmentation("tuned", (1, 32, 32)) == TUNED_GREY
    assert build_augmentation("tuned", (3, 32, 32)) == TUNED_COLOUR
    grey = build_augmentation("tuned", (1, 28, 28))
    assert not (grey.horizontal_flip or grey.vertical_flip or grey.brightness or grey.contrast)
    colour = build_augmentation("tuned", (3, 32, 32))
    assert colour.translation == 0 and colour.horizontal_flip and colour.vertical_flip
    with pytest.raises(SpecError, match="augmentation must be one of naive, tuned; got 'mollify'"):
        build_augmentation("mollify", (1, 28, 28))


@pytest.mark.parametrize("side, pixels", [(4, 0), (8, 1), (16, 2), (28, 3), (32, 3), (64, 6)])
def test_translations_shrink_with_the_side(side, pixels):
    assert build_augmentation("tuned", (1, side, side)).translation == pixels
    assert build_augmentation("naive", (3, side, side + 40)).translation == pixels
    assert build_augmentation("naive", (3, side + 40, side)).translation == pixels


def test_strength_scales_ranges_and_leaves_flips_and_probabilities():
    assert stronger(NAIVE, 1) is NAIVE
    twice = stronger(NAIVE, 2)
    assert twice.translation == 6 and twice.rotation == 20 and twice.hue == pytest.approx(0.5 * math.pi)
    assert (twice.scaling, twice.anisotropic_scaling, twice.contrast) == (0.4, 0.4, 0.5)
    assert (twice.anisotropic_rotation, twice.horizontal_flip) == (NAIVE.anisotropic_rotation, True)
    assert stronger(NAIVE, 100).rotation == 180 and stronger(NAIVE, 100).hue == math.pi
    assert stronger(TUNED_COLOUR, 2).rotation == 360  # as in the table


def test_a_strength_close_to_nothing_leaves_images_as_they_are():
    images = noise(60, (3, 16, 16))
    tiny = replace(stronger(NAIVE, 1e-6), horizontal_flip=False)
    assert torch.equal(augmented(images, tiny, 1.0).images(0, 60), images)
