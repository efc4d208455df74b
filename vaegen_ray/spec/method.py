"""The names of methods: what a VAE is trained on, and what is done beside.

A name is one set of images and any of the modifiers, with plus signs between, in the order of the lists below:

    normal   dmaapx   aug_tuned   mix+aug_tuned   dmaapx+rha   early_stopping   more_real ...

``normal`` alone stands for real images without a modifier; before a modifier, real images go without saying.
"""

from dataclasses import dataclass
from functools import cache

from vaegen_ray.errors import SpecError, nearest

IMAGES = {
    "normal": "repetitions of the training set (xiao2024, Algorithm 1)",
    "dmaapx": "samples of a diffusion model (xiao2024, Algorithm 2)",
    "mix": "a mixture of the training set and of diffusion samples (xiao2024, Appendix B.7)",
    "more_real": "the training set and more real images beside it; a control",
}
"""Where the images come from."""
MODIFIERS = {
    "aug_naive": "augmentation that suits images in general (xiao2024, Table 8)",
    "aug_tuned": "augmentation that suits this kind of images (xiao2024, Tables 9 and 10)",
    "mollify": "Gaussian noise that fades in the first half of the training (xiao2024, Appendix B.6)",
    "rha": "Reverse Half Asleep: the decoder is frozen half-way, and the encoder goes on with its samples (xiao2024, "
    "Figure 5)",
    "early_stopping": "a part of the training set is kept for validation, and the best weights on it are taken; a "
    "control",
}
"""What else is done."""

METHOD_NAMES = {
    "normal": "normal training",
    "dmaapx": "DMaaPx",
    "mix": "mixture",
    "more_real": "more real data",
    "aug_naive": "Aug.Naive",
    "aug_tuned": "Aug.Tuned",
    "mollify": "Aug.Mollify",
    "rha": "RHA",
    "early_stopping": "early stopping",
}
"""Names in the papers of what methods are made of; ``method_name`` puts them together."""

OF_METHOD = {
    "real_percent": "mix",
    "augment_probability": "augmentation",
    "augment_strength": "augmentation",
    "mollify_std": "mollify",
    "asleep_percent": "rha",
    "asleep_samples": "rha",
    "validation_percent": "early_stopping",
}
"""Fields that say something about one kind of method, and have their neutral values with all others."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method, taken apart."""

    images: str
    """One of ``IMAGES``."""
    modifiers: tuple[str, ...]
    """Out of ``MODIFIERS``, in their order."""

    @property
    def synthetic(self) -> bool:
        """Reads diffusion samples."""
        return self.images in ("dmaapx", "mix")

    @property
    def limited(self) -> bool:
        """Can be given a budget of distinct images."""
        return self.images != "normal"

    @property
    def augmentation(self) -> str | None:
        """``naive``, ``tuned`` or None."""
        return next((name.removeprefix("aug_") for name in self.modifiers if name.startswith("aug_")), None)

    @property
    def mollify(self) -> bool:
        return "mollify" in self.modifiers

    @property
    def reverse_half_asleep(self) -> bool:
        return "rha" in self.modifiers

    @property
    def early_stopping(self) -> bool:
        return "early_stopping" in self.modifiers

    @property
    def name(self) -> str:
        """What it is called."""
        images = () if self.images == "normal" and self.modifiers else (self.images,)
        return "+".join((*images, *self.modifiers))


def recipe(method: str) -> Recipe:
    """The method of this name, taken apart.

    Raises:
        SpecError: there is no such method.
    """
    made = _parsed(method) if isinstance(method, str) else None
    if made is None:
        parts = method.split("+") if isinstance(method, str) else []
        unknown = [part for part in parts if part not in (*IMAGES, *MODIFIERS)]
        raise SpecError(
            f"method must be one of {', '.join(IMAGES)}, then any of {', '.join(MODIFIERS)} in this order with plus "
            f"signs between ('normal' is left out before them, and one augmentation is enough); got {method!r}"
            f"{nearest(unknown[0], (*IMAGES, *MODIFIERS)) if unknown else ''}"
        )
    if made.early_stopping and (made.images != "normal" or made.reverse_half_asleep):
        raise SpecError(f"early_stopping goes with the training set itself and without rha; got {method!r}")
    return made


@cache
def _parsed(method: str) -> Recipe | None:
    parts = method.split("+")
    images = parts.pop(0) if parts[0] in IMAGES else "normal"
    made = Recipe(images=images, modifiers=tuple(name for name in MODIFIERS if name in parts))
    both = {"aug_naive", "aug_tuned"} <= set(parts)
    return None if both or made.name != method else made


def method_name(method: str) -> str:
    """What the papers call ``method``: ``DMaaPx + RHA`` for ``dmaapx+rha``; an unknown part goes by its own name."""
    parts = method.split("+")
    if parts[0] == "rha":  # it is nothing alone, other than an augmentation
        parts = ["normal", *parts]
    return " + ".join(METHOD_NAMES.get(part, part) for part in parts)


def real_before(position: int, percent: int) -> int:
    """Real images before a position of a mixture with ``percent`` of them, spread as evenly as can be."""
    return position * percent // 100
