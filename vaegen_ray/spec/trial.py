"""A trial: one VAE trained under one specification.

``TrialSpec`` holds everything that can change a number; ``trial_id`` is a hash of all of it, so a result row can be
traced to its cause and a finished trial is never trained twice. ``shape_key`` says which trials may share a bundle.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from vaegen_ray.checks import MOST, check_int
from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.spec.architecture import check_architecture
from vaegen_ray.spec.combinations import check_evaluations, check_method
from vaegen_ray.spec.diffusion import MOST_LEVELS, MOST_SEED, PRECISIONS, STREAM_VERSION, StreamSpec, check_data_digest
from vaegen_ray.spec.evaluation import EvaluationSettings
from vaegen_ray.spec.method import Recipe, real_before, recipe

NUMERICS_VERSION = 1
"""Raised whenever a change of the code moves the numbers of a trial, so that old rows are never taken for new ones."""

LIKELIHOODS = ("bernoulli", "gaussian", "logistic", "logistic_mixture")
ASLEEP_SAMPLES = ("prior", "reconstruction")
POSTERIOR_SCALES = ("softplus", "log_std")
SPLITS = ("random", "checkerboard", "constant_density")
REGULARISERS = ("rate", "mutual_information", "marginal_kl")
MAX_LAYERS = 8
MOST_UNITS = 2**20
"""The largest ``nc`` and ``mz``, far beyond every memory; the counts of parameters fit 64 bits."""
MOST_EPOCHS = 1_000_000

MAX_BETA = 1e6
"""Beyond it Adam's second moment leaves float32."""

MEMBER_FIELDS = (
    *("seed", "beta", "method", "budget", "stream"),
    *("real_percent", "augment_probability", "augment_strength", "mollify_std"),
)
"""What members of one bundle may differ in; every other field is part of the shape key."""

ADDED: dict[str, Any] = {
    "budget": 0,
    "stream": None,
    "real_percent": 50,
    "augment_probability": 0.1,
    "mollify_std": 0.5,
    "asleep_percent": 50,
    "asleep_samples": "prior",
    "validation_percent": 10,
    "measures": None,
    "split": "random",
    "hidden_layers": 2,
    "regulariser": "rate",
    "data_digest": "",
    "network_version": 0,
    "augment_strength": 1.0,
    "validation": 0,
    "n_test": 0,
}
"""Fields that came after the first results, with their neutral values: left out of a trial's identity where they have
them, so that trials without them keep their ids."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """The specification of one VAE, checked on creation.

    Raises:
        SpecError: a field is out of range, or two fields cannot go together.
    """

    dataset: str = "digits"
    """Name in the catalog of data sets."""
    data_digest: str = ""
    """Digest of the images of a registered data set (``data.registry``), 20 hexadecimal digits; empty for others."""
    levels: int = 2
    """Grey levels of a pixel: 2 for binarised images, 256 for bytes; pixel values are 0 .. levels - 1."""
    n_train: int = 500
    """Images of the training set that are used, the first of one fixed shuffled order."""
    n_test: int = 0
    """Test images that are used, the first of one fixed shuffled order; 0: all."""
    split: str = "random"
    """Which images of a generated data set are D_train, one of ``SPLITS`` (bozkurt2021, Section 4.2): ``random``,
    which with fewer images is the paper's constant volume; ``checkerboard`` cells of the factors; or
    ``constant_density``, random images of a smaller hypercube of factors. The images beside them are D_test. Data sets
    that come with a test set have random splits alone."""
    image_shape: tuple[int, int, int] = (1, 8, 8)
    """Channels, height, width of an image as the network sees it (after zero padding)."""

    architecture: str = "fully_connected"
    """Which network: one of ``ARCHITECTURES`` (xiao2024, Tables 3-6; bozkurt2021, Section 4.3), or one of your own."""
    network_version: int = 0
    """Version of a network of your own (``models.registry``); 0 for those of the package."""
    hidden_layers: int = 2
    """Hidden layers of the fully-connected encoder, and of its decoder (0: both are affine maps); strided convolutions
    of the convolutional encoder, and transposed ones of its decoder."""
    nc: int = 256
    """Width of the hidden layers (units or channels); grows Theta_not_z."""
    mz: int = 1
    """Multiplier of the latent dimension; grows Theta_z."""
    latent_per_mz: int = 2
    """Latent dimensions for each unit of mz. The residual network has one channel for each on its latent grid, so there
    it must be (height / 4) * (width / 4), which is the paper's 64 on 32x32 images."""
    residual_kernel: int = 3
    """Kernel of the second convolution of a residual block: 3 as printed in Table 6, 1 as in related code."""
    posterior_scale: str = "softplus"
    """How the encoder's second half becomes the standard deviation: softplus(h), or exp(h) for ``log_std``."""

    likelihood: str = "bernoulli"
    """p(x|z): one of ``LIKELIHOODS``."""
    sigma: float = 0.03
    """Standard deviation of the Gaussian likelihood, in units of the intensity range [0, 1]."""
    mixture_components: int = 10
    """Components of the discretised mixture of logistics."""
    beta: float = 1.0
    """Weight of the rate in the objective D + beta R (bozkurt2021, Eq. 6). ELBOs are always reported at beta = 1."""
    regulariser: str = "rate"
    """What beta weighs: the ``rate``, or one of its two parts, the ``mutual_information`` I_q[x; z] or the
    ``marginal_kl`` KL(q(z) || p(z)), each estimated from the batch (bozkurt2021, Eq. 5 and Section 4.5)."""

    method: str = "normal"
    """What is trained on, and what is done beside: see ``spec.method``."""
    budget: int = 0
    """dmaapx, mix: distinct samples, in units of ``n_train`` (k in xiao2024, Figure 4); 0: no sample comes twice.
    more_real: distinct real images, in the same unit; at least 2."""
    stream: StreamSpec | None = None
    """dmaapx, mix: where the samples come from."""
    real_percent: int = 50
    """mix: the part of real images (x in xiao2024, Appendix B.7)."""
    augment_probability: float = 0.1
    """aug_naive, aug_tuned: probability b of each transform (xiao2024, Appendix E)."""
    augment_strength: float = 1.0
    """aug_naive, aug_tuned: how far the transforms go, in units of the paper's tables."""
    mollify_std: float = 0.5
    """mollify: standard deviation of the noise at the start, in units of the intensity range [0, 1]."""
    asleep_percent: int = 50
    """rha: the part of samples of the VAE itself in the batches of the second half (alpha)."""
    asleep_samples: str = "prior"
    """rha: the decoder's samples for z from the ``prior``, or for z from q(z|x), a ``reconstruction``."""
    validation_percent: int = 10
    """early_stopping: the last part of the training set, which is not trained on."""
    validation: int = 0
    """Images at the end of D_train that are not trained on, so that the ELBO on them (``elbo_validation``, at beta = 1)
    can choose between trials. ``elbo_train`` and the generalization gap are of all of D_train, these included."""
    seed: int = 0
    """Root of all random streams of this trial."""
    epochs: int = 300
    """Effective epochs: training images seen / size of the training set."""
    batch_size: int = 50
    """Images in a training step."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    precision: str = "float32"
    """Arithmetic of training: float32, or on GPUs tf32 or bf16. Evaluation is always float32."""
    evaluate_at: tuple[int, ...] = (300,)
    """Effective epochs at which the ELBO is measured on all of D_train and D_test; ends with ``epochs``."""
    elbo_samples: int = 1
    """Reparameterised samples an image in the evaluation of the ELBO."""
    measures: EvaluationSettings | None = None
    """What is measured beside the ELBO."""

    def __post_init__(self) -> None:
        for name in ("image_shape", "evaluate_at"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(type(number) is int for number in value):
                raise SpecError(f"{name} must be a tuple of whole numbers; got {value!r}")
            object.__setattr__(self, name, tuple(value))
        for name, choices in (
            ("likelihood", LIKELIHOODS),
            ("asleep_samples", ASLEEP_SAMPLES),
            ("posterior_scale", POSTERIOR_SCALES),
            ("split", SPLITS),
            ("regulariser", REGULARISERS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                raise SpecError(not_one_of(name, getattr(self, name), choices))
        recipe(self.method)
        for name in ("n_train", "mixture_components", "batch_size", "elbo_samples"):
            self._whole(name, at_least=1)
        for name in ("nc", "mz", "latent_per_mz"):
            self._whole(name, at_least=1, at_most=MOST_UNITS)
        self._whole("epochs", at_least=1, at_most=MOST_EPOCHS)
        self._whole("levels", at_least=2, at_most=MOST_LEVELS)
        self._whole("hidden_layers", at_least=0, at_most=MAX_LAYERS)
        self._whole("seed", at_least=0, at_most=MOST_SEED)
        for name in ("n_test", "budget", "validation", "network_version"):
            self._whole(name, at_least=0)
        check_data_digest(self.data_digest)
        for name in ("real_percent", "asleep_percent", "validation_percent"):
            self._whole(name, at_least=1, at_most=99)
        for name in ("sigma", "learning_rate", "augment_probability", "augment_strength", "mollify_std"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise SpecError(f"{name} must be a finite number > 0; got {value!r}")
            object.__setattr__(self, name, float(value))
        if not (isinstance(self.beta, (int, float)) and 0 <= self.beta <= MAX_BETA):
            raise SpecError(f"beta must be a number from 0 to {MAX_BETA:g}; got {self.beta!r}")
        object.__setattr__(self, "beta", abs(float(self.beta)))  # -0.0 is 0.0
        for name, most in (("augment_probability", 1), ("augment_strength", 100), ("mollify_std", 100)):
            if getattr(self, name) > most:
                raise SpecError(f"{name} must be <= {most}; got {getattr(self, name)!r}")
        if type(self.residual_kernel) is not int or self.residual_kernel not in (1, 3):
            raise SpecError(not_one_of("residual_kernel", self.residual_kernel, (1, 3)))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1 or self.image_shape[0] not in (1, 3):
            raise SpecError(
                f"image_shape must be (channels, height, width) with 1 or 3 channels; got {self.image_shape}"
            )
        self._check_combinations()

    def _whole(self, name: str, at_least: int, at_most: int = MOST) -> None:
        check_int(name, getattr(self, name), at_least, at_most)

    def _check_combinations(self) -> None:
        channels = self.image_shape[0]
        if self.batch_size > self.n_train:
            raise SpecError(f"batch_size must be <= n_train ({self.n_train}); got {self.batch_size}")
        epochs = self.evaluate_at
        if not epochs or epochs[0] < 1 or list(epochs) != sorted(set(epochs)) or epochs[-1] != self.epochs:
            raise SpecError(
                f"evaluate_at must be rising whole epochs from 1 on that end with epochs ({self.epochs}); got {epochs}"
            )
        check_architecture(self)
        if self.regulariser != "rate" and self.batch_size < 2:
            raise SpecError(f"regulariser {self.regulariser!r} needs batch_size >= 2; got {self.batch_size}")
        if self.likelihood == "logistic" and channels != 1:
            raise SpecError(f"likelihood 'logistic' is for grey images; got {channels} channels (use logistic_mixture)")
        if self.likelihood in ("logistic", "logistic_mixture") and self.levels < 3:
            raise SpecError(f"likelihood {self.likelihood!r} needs levels >= 3; got {self.levels} (use bernoulli)")
        check_method(self)
        check_evaluations(self)

    @property
    def recipe(self) -> Recipe:
        """The method, taken apart."""
        return recipe(self.method)

    @property
    def latent_dim(self) -> int:
        """Dimension of z."""
        return self.mz * self.latent_per_mz

    @property
    def pixels(self) -> int:
        """Dimensions of an image, channels included; the D of bits per dimension."""
        return math.prod(self.image_shape)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.steps_until(self.epochs)

    def steps_until(self, epoch: int) -> int:
        """Steps after which ``epoch`` effective epochs are complete (rounded up where a batch straddles the end)."""
        return -(-epoch * self.n_train // self.batch_size)

    @property
    def samples(self) -> int:
        """Distinct diffusion samples that the training reads; 0 without. With rha, a part of them is read and then
        replaced by the VAE's own."""
        if self.stream is None:
            return 0
        seen = self.steps * self.batch_size
        if self.recipe.images == "mix":
            seen -= real_before(seen, self.real_percent)
        return min(self.budget * self.n_train, seen) if self.budget else seen

    @property
    def real_images(self) -> int:
        """Real training images that the trial needs: D_train, and what else it is trained on."""
        return self.n_train * (self.budget if self.recipe.images == "more_real" else 1)

    @property
    def validation_images(self) -> int:
        """Images at the end of D_train that are kept for validation."""
        if self.recipe.early_stopping:
            return max(1, self.n_train * self.validation_percent // 100)
        return self.validation

    @property
    def decoder_samples(self) -> int:
        """Samples of the VAE itself in a batch of the second half (rha); halves are rounded up."""
        return (self.batch_size * self.asleep_percent + 50) // 100

    @property
    def freeze_step(self) -> int | None:
        """The optimiser step from which on the decoder is frozen (rha): after half of the epochs."""
        return self.steps_until(self.epochs // 2) if self.recipe.reverse_half_asleep else None

    def as_dict(self) -> dict[str, Any]:
        """All fields, tuples as lists, stream and measures as dictionaries, as they go into JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return plain | {name: values[name].as_dict() for name in NESTED if values[name] is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialSpec":
        """The inverse of ``as_dict``.

        Raises:
            SpecError: a field that this version does not know.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise SpecError(f"unknown fields of a trial: {', '.join(unknown)}; got {values!r}")
        nested = {name: kind.from_dict(values[name]) for name, kind in NESTED.items() if values.get(name)}
        return cls(**{**values, **nested})

    @cached_property
    def spec_json(self) -> str:
        """Canonical JSON: keys sorted, the versions of the numerics included."""
        values = {k: v for k, v in self.as_dict().items() if k not in ADDED or v != ADDED[k]}
        versions = {"numerics_version": NUMERICS_VERSION}
        if self.stream is not None:
            versions["stream_version"] = STREAM_VERSION
        return json.dumps({**values, **versions}, sort_keys=True, separators=(",", ":"))

    @cached_property
    def trial_id(self) -> str:
        """20 hexadecimal digits that name this specification under this version of the numerics."""
        return compute_trial_id(self.spec_json)

    @cached_property
    def shape_key(self) -> str:
        """Trials with equal keys run the same program on the same data and may share a bundle."""
        shared = {k: v for k, v in self.as_dict().items() if k not in MEMBER_FIELDS}
        shared |= {"rha": self.recipe.reverse_half_asleep, "real_images": self.real_images}
        return hashlib.blake2b(json.dumps(shared, sort_keys=True).encode(), digest_size=10).hexdigest()


NESTED: dict[str, Any] = {"stream": StreamSpec, "measures": EvaluationSettings}
"""Fields of a trial that are specifications themselves."""


def compute_trial_id(spec_json: str) -> str:
    """The id of the trial with this canonical JSON (``TrialSpec.spec_json``), under any version of the numerics."""
    return hashlib.blake2b(spec_json.encode(), digest_size=10).hexdigest()


def bundle_id(specs: "list[TrialSpec] | tuple[TrialSpec, ...]") -> str:
    """16 hexadecimal digits that name a bundle: a hash of its members' ids, in order."""
    joined = ",".join(spec.trial_id for spec in specs)
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()
