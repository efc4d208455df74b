"""What is measured of a trained VAE beside its ELBO: named settings, checked on creation, part of a trial's identity.

Every class below is one evaluation; ``EvaluationSettings`` holds those that a trial gets. Estimators: ``evaluation``.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from vaegen_ray.checks import check_floats, check_int
from vaegen_ray.errors import SpecError, not_one_of

CLASSIFIERS = ("logistic_regression", "svm_linear", "svm_rbf", "knn")
"""Classifiers of representations; the columns of their accuracies begin with ``accuracy_``."""
MS_SSIM_MODES = ("kuzina", "standard")
ALPHAS = (0, 50, 100)
"""Percent of the VAE's own samples in self-consistent training; the columns of its ELBOs end with them."""


@dataclass(frozen=True, kw_only=True)
class Amortization:
    """The amortization gap G_a (xiao2024, Eq. 4): how much the ELBO of a test image gains when the parameters of
    q(z|x) are optimised for it alone, from the encoder's answer on."""

    images: int = 1000
    """Test images, the first of them; all where there are fewer."""
    steps: int = 1000
    """Adam steps at most."""
    learning_rate: float = 0.02
    """Adam's first step size, for the mean and for the number that the standard deviation is made of. Every look halves
    it."""
    last_learning_rate: float = 0.001
    """Least step size, at which it stays."""
    check_every: int = 100
    """Steps between two looks at the ELBO: at each the better parameters of a member are kept. Multiples of 20 use the
    noise best."""
    check_samples: int = 16
    """Samples of z an image at a look, the same at each; the gap itself is measured on as many others."""
    tolerance: float = 0.01
    """A member is done when its mean ELBO has risen since the last look by less than this part of what it is above the
    encoder's."""

    def __post_init__(self) -> None:
        for name in ("images", "steps", "check_every", "check_samples"):
            check_int(f"{name} of the amortization gap", getattr(self, name), 1)
        check_floats(self, "amortization gap", ("learning_rate", "last_learning_rate"), 0)
        if self.last_learning_rate > self.learning_rate:
            raise SpecError(
                f"last_learning_rate of the amortization gap must be <= learning_rate; got {self.last_learning_rate!r} "
                f"with {self.learning_rate!r}"
            )
        check_floats(self, "amortization gap", ("tolerance",), 0, 1, low_included=True)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The robustness gap G_r (xiao2024, Eqs. 5 and 10, Table 2): what an attack on the encoder does to
    reconstructions."""

    images: int = 50
    """n_r: test images that are attacked, the first of them; all where there are fewer."""
    restarts: int = 10
    """n_a: attacks on each image, from different random starts."""
    steps: int = 50
    """n_eps: steps of gradient ascent."""
    step_size: float = 1.0
    """eta: the first step size, in units of the intensity range; halved on a plateau."""
    radius: float = 0.1
    """delta: largest change of a pixel, in units of the intensity range."""
    ms_ssim: str = "kuzina"
    """How similarity is measured, one of ``MS_SSIM_MODES``."""

    def __post_init__(self) -> None:
        for name in ("images", "restarts", "steps"):
            check_int(f"{name} of the attack", getattr(self, name), 1)
        check_floats(self, "attack", ("step_size",), 0)
        check_floats(self, "attack", ("radius",), 0, 1)
        if self.ms_ssim not in MS_SSIM_MODES:
            raise SpecError(not_one_of("ms_ssim of the attack", self.ms_ssim, MS_SSIM_MODES))


@dataclass(frozen=True, kw_only=True)
class Representation:
    """Classification of the mean of q(z|x) (xiao2024, Appendices F and G; Figures 4 left and 19, Table 11)."""

    corruptions: bool = False
    """Also on corrupted test sets."""
    severity: int = 5
    """Strength of the corruptions, 1 to 5."""
    neighbours: int = 5
    """k of the k-nearest-neighbour classifier."""
    images: int = 10_000
    """Test images, the first of them; all where there are fewer. Half of them trains the classifiers."""

    def __post_init__(self) -> None:
        check_int("severity of corruptions", self.severity, 1, 5)
        check_int("neighbours of the representation", self.neighbours, 1)
        check_int("images of the representation", self.images, 40)


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Peak signal-to-noise ratio of reconstructed test images, and a few of them to look at (xiao2024, Table 11 and
    Figure 9)."""

    shown: int = 9
    """Images whose reconstructions are kept."""

    def __post_init__(self) -> None:
        check_int("shown reconstructions", self.shown, 0)


@dataclass(frozen=True, kw_only=True)
class SampleQuality:
    """FID and Inception Score of samples of the VAE (xiao2024, Table 11)."""

    images: int = 10_000
    """Samples; compared with as many test images, or with all of them where there are fewer."""

    def __post_init__(self) -> None:
        check_int("images of the sample quality", self.images, 2)


@dataclass(frozen=True, kw_only=True)
class Smoothness:
    """log q along straight lines between the codes of two test images (xiao2024, Section 5.3 and Figure 3)."""

    pairs: int = 20
    """Lines; line i joins test images 2 i and 2 i + 1."""
    points: int = 51
    """Points on a line, both ends included."""

    def __post_init__(self) -> None:
        check_int("pairs of the smoothness", self.pairs, 1)
        check_int("points of the smoothness", self.points, 3)


@dataclass(frozen=True, kw_only=True)
class TwoSample:
    """A classifier that tells samples of the trial's diffusion model from real images (xiao2024, Appendix D.3, Figure
    18). The defaults are the paper's."""

    epochs: int = 14
    batch_size: int = 256
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        check_int("epochs of the two-sample test", self.epochs, 1)
        check_int("batch_size of the two-sample test", self.batch_size, 2)  # for BatchNorm
        check_floats(self, "two-sample test", ("learning_rate",), 0)
        check_floats(self, "two-sample test", ("momentum", "weight_decay"), 0, 1, low_included=True)


@dataclass(frozen=True, kw_only=True)
class Information:
    """What codes hold, and how likely images are: I_q[x; z], KL(q(z) || p(z)) and log p(x) (bozkurt2021, Eqs. 2 and 5,
    Section 4.5 and Figure 8)."""

    images: int = 16_384
    """Training images whose mixture q(z) is, the first of them; all where there are fewer."""
    minibatch: int = 512
    """Images in a batch of the minibatch estimator."""
    likelihood_images: int = 1000
    """Images of D_train, and of D_test, whose log p(x) is estimated, the first of them."""
    importance_samples: int = 100
    """Samples of z an image in that estimate; 0: it is left out."""

    def __post_init__(self) -> None:
        for name, least in (("images", 2), ("minibatch", 2), ("likelihood_images", 1), ("importance_samples", 0)):
            check_int(f"{name} of the information", getattr(self, name), least)


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Encoders that are trained on with the decoder as it is (zhang2021, Sections 2.2 and 3): on the test set, which
    is optimal inference, and on mixtures of the VAE's samples and the training set, which is self-consistent
    training."""

    optimal_epochs: int = 300
    """Passes over the test set. Fewer leave an encoder behind that overfitting has brought far from the optimum: on
    1,000 binary digits its bits a dimension rose by .005 from epoch 180 to 300 of the training after 50 passes, and by
    .002 after 300 (step sizes that fall from the start), where those of amortized inference rose by .014."""
    epochs: int = 100
    """Passes over as many images as the training set has, of the mixtures."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    self_consistent: tuple[int, ...] = (0, 50, 100)
    """Percent of samples in the mixture (alpha), out of ``ALPHAS``: 0 is the training set alone, 100 samples alone."""

    def __post_init__(self) -> None:
        check_int("epochs of the inference", self.epochs, 1)
        check_int("optimal_epochs of the inference", self.optimal_epochs, 1)
        check_floats(self, "inference", ("learning_rate",), 0)
        alphas = self.self_consistent
        if not isinstance(alphas, (list, tuple)) or list(alphas) != [alpha for alpha in ALPHAS if alpha in alphas]:
            raise SpecError(
                f"self_consistent of the inference must be rising numbers out of {', '.join(map(str, ALPHAS))}; "
                f"got {alphas!r}"
            )
        object.__setattr__(self, "self_consistent", tuple(alphas))


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """How far test images are from their nearest training images, and what becomes of one that is far (bozkurt2021,
    Figure 3 and Section 4.4)."""

    percentile: int = 90
    """The test image that is shown has this percentile of the distance."""
    images: int = 20_000
    """Test images, the first of them; all where there are fewer."""

    def __post_init__(self) -> None:
        check_int("percentile of the neighbours", self.percentile, 0, 100)
        check_int("images of the neighbours", self.images, 1)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The evaluations that a trial gets beside its ELBO; None where it does not.

    Raises:
        SpecError: a setting out of range, or ``gaps_at`` is not rising.
    """

    gaps_at: tuple[int, ...] = ()
    """Effective epochs at which the amortization, the robustness and the inference gap are measured, out of the trial's
    ``evaluate_at``; always at the last one. Everything else is measured at the last one alone."""
    amortization: Amortization | None = None
    robustness: Attack | None = None
    representation: Representation | None = None
    reconstruction: Reconstruction | None = None
    sample_quality: SampleQuality | None = None
    smoothness: Smoothness | None = None
    two_sample: TwoSample | None = None
    information: Information | None = None
    inference: Inference | None = None
    neighbours: Neighbours | None = None

    def __post_init__(self) -> None:
        at = self.gaps_at
        if not isinstance(at, (list, tuple)) or not all(type(epoch) is int for epoch in at):
            raise SpecError(f"gaps_at must be a tuple of whole numbers; got {at!r}")
        if list(at) != sorted(set(at)):
            raise SpecError(f"gaps_at must be rising; got {tuple(at)}")
        object.__setattr__(self, "gaps_at", tuple(at))
        for name, kind in KINDS.items():
            if not isinstance(getattr(self, name), (kind, type(None))):
                raise SpecError(f"{name} of the measures must be {kind.__name__} or None; got {getattr(self, name)!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured, as ``KINDS`` calls it."""
        return tuple(name for name in KINDS if getattr(self, name) is not None)

    def as_dict(self) -> dict[str, Any]:
        """What is measured, nested, as it goes into JSON; what is not measured is left out, and so are ``ADDED``."""
        values: dict[str, Any] = {"gaps_at": list(self.gaps_at)}
        for name in self.names:
            added = ADDED.get(name, {})
            values[name] = {k: v for k, v in asdict(getattr(self, name)).items() if k not in added or v != added[k]}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "EvaluationSettings":
        """The inverse of ``as_dict``.

        Raises:
            SpecError: a field that this version does not know.
        """
        made = {}
        for name, value in values.items():
            kind: Any = KINDS.get(name)
            if kind and not isinstance(value, dict):
                raise SpecError(f"{name} of the measures must be a dictionary; got {value!r}")
            unknown = set(value) - {field.name for field in fields(kind)} if kind else {name} - {"gaps_at"}
            if unknown:
                raise SpecError(f"unknown fields of the measures: {', '.join(sorted(unknown))}; got {values!r}")
            made[name] = kind(**value) if kind else value
        return cls(**made)


ADDED: dict[str, dict[str, Any]] = {}
"""Settings that came after the first results, by evaluation, with the values that change nothing: left out where they
have them, so that trials without them keep their ids."""

KINDS: dict[str, type] = {
    "amortization": Amortization,
    "robustness": Attack,
    "representation": Representation,
    "reconstruction": Reconstruction,
    "sample_quality": SampleQuality,
    "smoothness": Smoothness,
    "two_sample": TwoSample,
    "information": Information,
    "inference": Inference,
    "neighbours": Neighbours,
}
"""The evaluations by their names in ``EvaluationSettings``."""
