from itertools import combinations

import pytest

from vaegen_ray.errors import SpecError
from vaegen_ray.spec.method import IMAGES, MODIFIERS, recipe


def test_every_name_is_taken_apart_and_put_together_again():
    names = set()
    for images in IMAGES:
        for count in range(len(MODIFIERS) + 1):
            for modifiers in combinations(MODIFIERS, count):
                early = "early_stopping" in modifiers and (images != "normal" or "rha" in modifiers)
                if {"aug_naive", "aug_tuned"} <= set(modifiers) or early:
                    continue
                name = "+".join(([] if images == "normal" and modifiers else [images]) + list(modifiers))
                made = recipe(name)
                assert (made.images, made.modifiers, made.name) == (images, modifiers, name)
                assert made.reverse_half_asleep == ("rha" in modifiers) and made.mollify == ("mollify" in modifiers)
                assert made.early_stopping == ("early_stopping" in modifiers)
                assert made.augmentation == (
                    "naive" if "aug_naive" in name else "tuned" if "aug_tuned" in name else None
                )
                names.add(name)
    assert {"normal", "dmaapx", "mix+aug_tuned", "dmaapx+rha", "rha", "more_real"} <= names


@pytest.mark.parametrize(
    "name",
    [
        "",
        "other",
        "normal+rha",
        "rha+mollify",
        "rha+rha",
        "dmaapx+mix",
        "rha+dmaapx",
        "aug_naive+aug_tuned",
        "+rha",
        None,
        3,
    ],
)
def test_other_names_are_refused_with_what_is_allowed(name):
    with pytest.raises(SpecError, match=r"^method must be one of normal, dmaapx, .*early_stopping.*; got ") as error:
        recipe(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dmaapx+early_stopping", "more_real+early_stopping", "rha+early_stopping"])
def test_early_stopping_goes_with_the_training_set_itself(name):
    with pytest.raises(SpecError, match="early_stopping goes with the training set itself and without rha; got "):
        recipe(name)


def test_which_methods_read_samples_and_have_a_budget():
    assert [name for name in IMAGES if recipe(name).synthetic] == ["dmaapx", "mix"]
    assert [name for name in IMAGES if recipe(name).limited] == ["dmaapx", "mix", "more_real"]
