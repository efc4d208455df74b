"""Spaces: finite rows of values from short texts, the same values wherever two spaces overlap."""

import random
from itertools import pairwise, product

import pytest

from vaegen_ray.errors import SpecError
from vaegen_ray.search.space import NAMES, parse_space, point_text

AUGMENTED = "augmentation=none|tuned,augment_probability=0.1:1:0.1,augment_strength=0.5:1.5:0.5"


def test_the_rows_of_values():
    space = parse_space(
        "nc=4:64:log,mz=1:4,learning_rate=3e-4:1e-2:log,beta=0.5|1|2,augment_probability=0.5:1:0.25,"
        "augmentation=none|naive"
    )
    assert space["nc"].values == (4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 26, 32, 38, 46, 56, 64)
    assert space["mz"].values == (1, 2, 3, 4) and space["beta"].values == (0.5, 1.0, 2.0)
    assert space["augment_probability"].values == (0.5, 0.75, 1.0)
    rates = space["learning_rate"].values
    assert (rates[0], rates[-1]) == (3e-4, 1e-2) and all(1.09 < b / a < 1.35 for a, b in pairwise(rates))
    assert [each.name for each in space.dimensions] == [
        name for name in NAMES if name not in ("batch_size", "hidden_layers", "augment_strength")
    ]


def test_spaces_that_overlap_share_the_points_of_the_overlap():
    wide, narrow = (
        parse_space(f"learning_rate={ends}:log")["learning_rate"].values for ends in ("1e-4:1e-1", "3e-4:2e-2")
    )
    assert set(narrow[1:-1]) <= set(wide)


def test_a_change_replaces_one_dimension():
    space = parse_space("nc=4:64:log,mz=1:4", "mz=2")
    assert space["mz"].values == (2,) and [each.name for each in space.searched] == ["nc"]


def test_the_size_is_the_number_of_points_and_each_is_held():
    space = parse_space(f"nc=2|4,mz=1:3,{AUGMENTED}")
    points = [{"nc": nc, "mz": mz, "augmentation": "none"} for nc, mz in product((2, 4), (1, 2, 3))]
    points += [
        {"nc": nc, "mz": mz, "augment_probability": b, "augment_strength": s, "augmentation": "tuned"}
        for nc, mz, b, s in product(
            *(space[name].values for name in ("nc", "mz", "augment_probability", "augment_strength"))
        )
    ]
    assert space.size == len(points) == 6 + 6 * 30
    assert all(space.holds(point) for point in points)
    drawn = [space.at_random(random.Random(seed)) for seed in range(300)]
    assert all(point in points for point in drawn) and {point["augmentation"] for point in drawn} == {"none", "tuned"}


def test_corners_are_points_with_every_augmentation():
    space = parse_space(f"nc=2:4,{AUGMENTED}")
    assert all(space.holds(point) for point in space.corners) and len(space.corners) == 4
    assert space.corners[-1] == {"nc": 4, "augment_probability": 1.0, "augment_strength": 1.5, "augmentation": "tuned"}
    assert parse_space("nc=2:4,mz=3").corners == [{"nc": 2, "mz": 3}, {"nc": 4, "mz": 3}]


def test_what_is_not_a_point_of_the_space():
    space = parse_space(f"nc=2|4,{AUGMENTED}")
    assert not space.holds({"nc": 3, "augmentation": "none"}) and not space.holds({"nc": 2})
    assert not space.holds({"nc": 2, "augmentation": "tuned"})
    assert not space.holds({"nc": 2, "augmentation": "none", "augment_probability": 0.1})


def test_a_point_in_words():
    assert point_text({"nc": 8, "beta": 0.5, "augmentation": "none"}) == "nc 8, beta 0.5, augmentation none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc", "a dimension of a space is NAME=LOW:HIGH, .*; got 'nc'"),
        ("depth=1:2", "a dimension of a space must be one of nc, mz, .*; got 'depth'"),
        ("nc=4:8,nc=1:2", "a space must name each dimension once; got nc twice"),
        ("nc=8:4", "nc of a space must be LOW:HIGH and LOW < HIGH; got '8:4'"),
        ("beta=0.1:4", "beta of a space must be LOW:HIGH with the step, or log, and LOW < HIGH; got '0.1:4'"),
        ("beta=0:4:log", "beta of a space must begin above 0 to be logarithmic; got '0:4:log'"),
        ("beta=0:4:0", "beta of a space must have from 2 to 1000 values; got '0:4:0'"),
        ("nc=1:100000", "nc of a space must have from 2 to 1000 values; got '1:100000'"),
        ("nc=a:8", "nc of a space must be of whole numbers; got 'a'"),
        ("nc=1.5", "nc of a space must be of whole numbers; got '1.5'"),
        ("nc=1|1" + 400 * "0", "nc of a space must be of whole numbers; got '10"),
        ("beta=inf|1", "beta of a space must be of numbers; got 'inf'"),
        ("beta=1|1", "beta of a space must have each value once; got '1|1'"),
        ("augmentation=strong", "augmentation of a space must be one of none, naive, tuned; got 'strong'"),
        ("nc=4:8,augment_strength=1:2:0.5", "augment_strength needs an augmentation, such as .*"),
        ("nc=4", "a space must have at least 2 points; got 1 with 'nc=4'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(text, message):
    with pytest.raises(SpecError, match=f"^{message}".replace("|", r"\|")) as error:
        parse_space(text)
    assert "\n" not in str(error.value)
