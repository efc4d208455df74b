"""A sweep: which trials it declares and which figures are drawn from them."""

from dataclasses import dataclass

from vaegen_ray.data.catalog import CATALOG, DatasetInfo
from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.models.registry import CustomNetwork, find_network
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import TrialSpec

PRESETS = ("smoke", "laptop", "paper")
"""smoke: seconds, a test. laptop: minutes on 2 CPU cores, embedded data. paper: the paper's data and sizes, on GPUs."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep script declares.

    Raises:
        SpecError: no trials, the same trial twice, one that would learn from its data set's test images, or one on a
            data set or network of your own that is not the registered one.
    """

    name: str
    """Folder of the results in the storage."""
    trials: tuple[TrialSpec, ...]
    """All trials, finished or not; the runner trains those that are not committed."""
    figures: tuple[str, ...] = ()
    """Names of the figures to draw, as ``vaegen figure`` knows them."""

    def __post_init__(self) -> None:
        if not self.trials:
            raise SpecError(f"sweep {self.name!r} must declare at least one trial; got none")
        ids = [spec.trial_id for spec in self.trials]
        if len(set(ids)) < len(ids):
            twice = next(spec for spec in self.trials if ids.count(spec.trial_id) > 1)
            raise SpecError(f"sweep {self.name!r} declares a trial twice: {twice.spec_json}")
        for spec in self.trials:
            check_images(spec)
            if spec.network_version:
                find_network(spec)

    @property
    def datasets(self) -> tuple[TrialSpec, ...]:
        """One trial for each set of images that has to be loaded (``data_key``)."""
        return tuple({data_key(spec): spec for spec in self.trials}.values())

    @property
    def networks(self) -> tuple[CustomNetwork, ...]:
        """The networks of your own that trials name."""
        return tuple({spec.architecture: find_network(spec) for spec in self.trials if spec.network_version}.values())

    @property
    def streams(self) -> tuple[StreamSpec, ...]:
        """The streams of diffusion samples that trials read."""
        return tuple(dict.fromkeys(spec.stream for spec in self.trials if spec.stream is not None))


def check_images(spec: TrialSpec) -> None:
    """Whether the data set is the one that the trial means, and has what it needs beside a training set.

    Of a set of Tetrominoes all images are test images that are not trained on, and an image has no class.

    Raises:
        SpecError: the images are others; the trial would learn from test images, directly or through samples; or it
            needs labels.
    """
    entry, stream = CATALOG.get(spec.dataset), spec.stream
    if entry is not None and entry.digest != spec.data_digest:
        raise SpecError(
            f"a trial on {spec.dataset} must have its data_digest, {entry.digest!r}; got {spec.data_digest!r} "
            f"(sweep.base.base_spec gives the fields that go with a data set)"
        )
    if entry is not None and spec.n_test > (most := test_images(entry, spec)):
        raise SpecError(f"n_test must be at most {most:,}, the test images of {spec.dataset}; got {spec.n_test:,}")
    if entry is None or entry.bins is None:
        return
    everything = f"all images of {spec.dataset} that are not trained on are test images"
    if spec.recipe.images == "more_real":
        raise SpecError(f"{everything}, so there are no more real ones; got method {spec.method!r}")
    if stream and (spec.split != "random" or stream.diffusion.n_train > spec.n_train):
        raise SpecError(
            f"{everything}, so a diffusion model needs a random split and at most the {spec.n_train} training images "
            f"of its VAE; got the split {spec.split!r} and {stream.diffusion.n_train}"
        )
    if spec.measures and spec.measures.representation:
        raise SpecError(f"representations need a data set with classes; got {spec.dataset}, which has none")


def test_images(entry: DatasetInfo, spec: TrialSpec) -> int:
    """Test images that there are for a trial on a data set."""
    if entry.bins is None:
        return entry.n_test
    return spec.n_train if spec.split == "constant_density" else entry.bins.images - spec.n_train


def data_key(spec: TrialSpec) -> str:
    """Names the images that a trial is trained and evaluated on."""
    shape = "x".join(map(str, spec.image_shape))
    severity = corruption_severity(spec)
    corrupted = f"-c{severity}" if severity else ""
    split = "" if spec.split == "random" else f"-{spec.split}"
    tested = f"-t{spec.n_test}" if spec.n_test else ""
    return f"{spec.dataset}-{spec.levels}-{spec.real_images}-{shape}{split}{tested}{corrupted}"


def corruption_severity(spec: TrialSpec) -> int | None:
    """How strong the corrupted test images are that a trial is evaluated on; None without."""
    wanted = spec.measures.representation if spec.measures else None
    return wanted.severity if wanted and wanted.corruptions else None


def preset(name: str, choices: dict[str, dict]) -> dict:
    """The settings of preset ``name``.

    Raises:
        SpecError: there is no such preset.
    """
    if name not in choices:
        raise SpecError(not_one_of("preset", name, choices))
    return choices[name]
