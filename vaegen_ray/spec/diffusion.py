"""A stream: the endless, numbered sequence of samples of one diffusion model.

``DiffusionSpec`` says which model is trained on what, ``Sampler`` how it is sampled, and ``StreamSpec`` both of it and
how the sequence is cut into shards. All are declared before anything is trained, so a trial can name its stream.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

from vaegen_ray.checks import check_floats, check_int, check_ints
from vaegen_ray.errors import SpecError, not_one_of

STREAM_VERSION = 1
"""Raised whenever a change of the code moves the weights of a diffusion model, or its samples."""

NETWORKS = ("mlp", "unet")
NETWORK_FIELDS = (
    "levels",
    "image_shape",
    "network",
    "channels",
    "multipliers",
    "blocks",
    "attention",
    "data_std",
    "weights",
)
"""What says which function of the weights a diffusion model is."""
READS_WEIGHTS = ("levels", "image_shape", "data_std")
"""What the weights themselves do not say, and samples depend on."""
DECAYS = ("constant", "cosine")
PRECISIONS = ("float32", "tf32", "bf16")

MOST_IMAGES = 10**12
"""Images that a diffusion model sees in its training."""
MOST_LEVELS = 256
MOST_SEED = 2**31 - 1
MOST_SHARDS = 1_000_000
"""Shards of a stream; their numbers have six digits."""
EVALUATION_SHARD = 900_000
"""First of the shards that no trial trains on: ``elbo_source`` is measured there."""


def check_data_digest(value: Any) -> None:
    """Checks what says which images a data set of your own has.

    Raises:
        SpecError: it is neither empty nor a digest.
    """
    if not isinstance(value, str) or not re.fullmatch("([0-9a-f]{20})?", value):
        raise SpecError(f"data_digest must be 20 hexadecimal digits, or empty; got {value!r}")


def _identity(values: dict[str, Any]) -> str:
    """20 hexadecimal digits that name these values under this version of the code."""
    text = json.dumps({**values, "stream_version": STREAM_VERSION}, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True, kw_only=True)
class DiffusionSpec:
    """An EDM (Karras et al. 2022) and its training: everything that its weights depend on, checked on creation.

    Raises:
        SpecError: a field is out of range, or two fields cannot go together.
    """

    dataset: str = "digits"
    """Name in the catalog of data sets; the model sees training images only."""
    data_digest: str = ""
    """Digest of the images of a registered data set (``data.registry``), 20 hexadecimal digits; empty for others."""
    levels: int = 17
    """Grey levels of the images it is trained on and of the samples."""
    n_train: int = 1000
    """Training images that are used, the first of one fixed shuffled order."""
    image_shape: tuple[int, int, int] = (1, 8, 8)
    """Channels, height, width, after zero padding."""

    network: str = "mlp"
    """``mlp``: residual, fully connected, for images of a few pixels; ``unet``: DDPM++ (Song et al. 2021)."""
    channels: int = 192
    """Units of a layer, or channels at full resolution."""
    multipliers: tuple[int, ...] = (1,)
    """U-Net: channels at full, half, quarter ... resolution, in units of ``channels``."""
    blocks: int = 4
    """Residual blocks: of the whole MLP, or of each resolution on the way down."""
    attention: tuple[int, ...] = ()
    """U-Net: heights at which blocks have self-attention."""
    dropout: float = 0.3
    """Probability of a zero in each residual block while training."""

    data_std: float = 0.5
    """sigma_data of the preconditioning, for images in [-1, 1]."""
    log_mean: float = -1.2
    """Mean of ln sigma in training."""
    log_std: float = 1.2
    """Standard deviation of ln sigma in training."""

    images: int = 600_000
    """Training images seen in all."""
    batch_size: int = 256
    """Images in a training step."""
    learning_rate: float = 2e-3
    """Step size of Adam, after the warm-up."""
    warmup_images: int = 50_000
    """Images over which the step size rises from zero."""
    decay: str = "cosine"
    """``constant``, or ``cosine`` to zero at the end."""
    ema_images: int = 500_000
    """Half-life of the averaged weights, in images; at most a twentieth of the images seen so far."""
    precision: str = "float32"
    """Arithmetic of training."""
    seed: int = 0
    """Root of the random streams of the training."""
    weights: str = ""
    """SHA-256 of imported weights; empty where they are trained here."""

    def __post_init__(self) -> None:
        for name in ("image_shape", "multipliers", "attention"):
            object.__setattr__(self, name, check_ints(f"{name} of the diffusion model", getattr(self, name)))
        for name, choices in (("network", NETWORKS), ("decay", DECAYS), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise SpecError(not_one_of(f"{name} of the diffusion model", getattr(self, name), choices))
        for name in ("n_train", "channels", "blocks", "images", "batch_size", "warmup_images", "ema_images"):
            check_int(f"{name} of the diffusion model", getattr(self, name), 1, MOST_IMAGES)
        check_int("levels of the diffusion model", self.levels, 2, MOST_LEVELS)
        check_int("seed of the diffusion model", self.seed, 0, MOST_SEED)
        check_floats(self, "diffusion model", ("data_std", "log_std", "learning_rate"), 0)
        check_floats(self, "diffusion model", ("log_mean",), -100, 100)
        check_floats(self, "diffusion model", ("dropout",), 0, 1, low_included=True)
        if len(self.image_shape) != 3 or self.image_shape[0] not in (1, 3):
            raise SpecError(
                f"image_shape must be (channels, height, width) with 1 or 3 channels; got {self.image_shape}"
            )
        if not re.fullmatch("([0-9a-f]{64})?", self.weights if isinstance(self.weights, str) else "?"):
            raise SpecError(
                f"weights must be the SHA-256 of imported weights, 64 hexadecimal digits; got {self.weights!r}"
            )
        check_data_digest(self.data_digest)
        if self.network == "unet":
            self._check_unet()

    def _check_unet(self) -> None:
        _, height, width = self.image_shape
        if not self.multipliers:
            raise SpecError("multipliers of a U-Net must hold one number for each resolution; got none")
        halvings = 2 ** (len(self.multipliers) - 1)
        if height % halvings or width % halvings:
            raise SpecError(
                f"a U-Net of {len(self.multipliers)} resolutions needs height and width divisible by {halvings}; "
                f"got {height}x{width}"
            )
        heights = [height // 2**i for i in range(len(self.multipliers))]
        if not set(self.attention) <= set(heights):
            raise SpecError(not_one_of("attention of the diffusion model", self.attention, heights))
        if self.channels % 4:
            raise SpecError(f"channels of a U-Net must be divisible by 4; got {self.channels}")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return -(-self.images // self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """All fields, tuples as lists, as they go into JSON; without an empty ``data_digest``, which came later."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if v or k != "data_digest"}

    @cached_property
    def diffusion_id(self) -> str:
        """20 hexadecimal digits that name this model; its folder in the storage. How imported weights were trained is
        not known, so there only the network counts."""
        values = self.as_dict()
        return _identity({name: values[name] for name in NETWORK_FIELDS} if self.weights else values)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Settings of the sampler; what a sample is depends on them, on the weights and on its seed alone.

    The defaults are the paper's for CIFAR-10: deterministic, 18 steps, so 35 evaluations of the network an image.

    Raises:
        SpecError: a setting out of range.
    """

    steps: int = 18
    """N, at least 2."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    """How much shorter steps are at low noise."""
    churn: float = 0.0
    """S_churn: noise put back along the way; 0 is deterministic."""
    churn_min: float = 0.0
    """S_tmin: no churn below this noise level."""
    churn_max: float | None = None
    """S_tmax: no churn above this noise level; None is no limit."""
    churn_noise: float = 1.0
    """S_noise: standard deviation of the noise put back."""

    def __post_init__(self) -> None:
        check_int("steps of the sampler", self.steps, 2)
        check_floats(self, "sampler", ("sigma_min", "sigma_max", "rho", "churn_noise"), 0)
        check_floats(self, "sampler", ("churn", "churn_min"), 0, low_included=True)
        if self.churn_max is not None:
            check_floats(self, "sampler", ("churn_max",), self.churn_min, low_included=True)
        if not self.sigma_min < self.sigma_max:
            raise SpecError(f"sigma_min must be < sigma_max; got {self.sigma_min}, {self.sigma_max}")
        try:
            levels = self.levels()
        except OverflowError:
            levels = [math.nan] * 3
        if not all(0 < b < a < math.inf for a, b in pairwise(levels[:-1])):
            raise SpecError(f"rho of the sampler must give falling noise levels above 0; got {self.rho}")

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for an image: two a step, one in the last."""
        return 2 * self.steps - 1

    def levels(self) -> list[float]:
        """t_0 = sigma_max > ... > t_{N-1} = sigma_min > t_N = 0 (Eq. 5); N + 1 numbers."""
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return [(high + i / (self.steps - 1) * (low - high)) ** self.rho for i in range(self.steps)] + [0.0]

    def churns_at(self, t: float) -> bool:
        """Whether noise is put back at noise level ``t``."""
        return self.churn > 0 and self.churn_min <= t and (self.churn_max is None or t <= self.churn_max)


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """A diffusion model, how it is sampled, and how its samples are cut into shards.

    Sample i depends on the weights, on the sampler and on seed i. Batches are part of the declaration, since products
    of matrices round by their size: shard j is always made in the same batches, whoever makes it.

    Raises:
        SpecError: a field is out of range.
    """

    diffusion: DiffusionSpec
    sampler: Sampler = Sampler()
    shard_size: int = 2000
    """Samples in a shard; shard j holds samples j * shard_size .. (j + 1) * shard_size - 1."""
    batch_size: int = 500
    """Samples that are made together; divides ``shard_size``."""
    precision: str = "float32"
    """Arithmetic of the network while sampling; the sampler itself computes in float64."""

    def __post_init__(self) -> None:
        check_int("shard_size of a stream", self.shard_size, 1)
        check_int("batch_size of a stream", self.batch_size, 1)
        if self.shard_size % self.batch_size:
            raise SpecError(f"batch_size of a stream must divide shard_size {self.shard_size}; got {self.batch_size}")
        if self.precision not in PRECISIONS:
            raise SpecError(not_one_of("precision of a stream", self.precision, PRECISIONS))

    @property
    def training_samples(self) -> int:
        """Samples that trials may train on; those after them are for evaluation."""
        return EVALUATION_SHARD * self.shard_size

    @property
    def shard_shape(self) -> tuple[int, int, int, int]:
        """Samples, channels, height, width."""
        return (self.shard_size, *self.diffusion.image_shape)

    @property
    def image_bytes(self) -> int:
        """Bytes of a sample."""
        return math.prod(self.diffusion.image_shape)

    def shards(self, samples: int) -> int:
        """Shards that hold the first ``samples`` samples."""
        return -(-samples // self.shard_size)

    def as_dict(self) -> dict[str, Any]:
        """All fields, nested, as they go into JSON."""
        return {**asdict(self), "diffusion": self.diffusion.as_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StreamSpec":
        """The inverse of ``as_dict``.

        Raises:
            SpecError: a field that this version does not know.
        """
        parts = {"diffusion": DiffusionSpec, "sampler": Sampler}
        made = {name: _known(parts[name], value) if name in parts else value for name, value in values.items()}
        return _known(cls, made)

    @cached_property
    def stream_id(self) -> str:
        """20 hexadecimal digits that name this declaration, whatever the weights turn out to be."""
        return _identity(self.as_dict())

    def digest(self, weights: str) -> str:
        """20 hexadecimal digits that name the samples themselves; their folder in the storage.

        Args:
            weights: SHA-256 of the weights.
        """
        values = self.as_dict()
        model = values.pop("diffusion")
        return _identity({"weights": weights, **{name: model[name] for name in READS_WEIGHTS}, **values})


def _known(kind: type, values: dict[str, Any]) -> Any:
    unknown = sorted(set(values) - {field.name for field in fields(kind)})
    if unknown:
        raise SpecError(f"unknown fields of a {kind.__name__}: {', '.join(unknown)}; got {values!r}")
    return kind(**values)
