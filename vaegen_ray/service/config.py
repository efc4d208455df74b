"""How a sweep is run, as a value; ``launch`` makes it from the options of a command line."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything about a run that does not change its numbers."""

    storage: str = "results"
    """A directory or URI for all results."""
    address: str | None = None
    """A running Ray cluster; None or ``local``: Ray starts on this machine."""
    data_dir: str | None = None
    """Folder of the data sets; None: the usual one."""
    bundle_size: int | None = None
    """Trials in a bundle; None: chosen from sizes and devices."""
    samplers: tuple[int, int] | None = None
    """Least and most sampler processes; None: from 1 to the number of devices."""
    concurrent: int | None = None
    """Points that a search evaluates at a time; None: as many as there are devices."""
    checkpoint_seconds: float = 10.0
    """Seconds between two checkpoints of a bundle."""
    save_every: int | None = None
    """Keep the weights at evaluations whose effective epoch is a multiple of this; None: those of the end alone."""
    fresh: bool = False
    """Archive earlier results of the sweep first."""
    retry_failed: bool = False
    """Train failed trials again."""
    gpus: int | None = None
    """GPUs that a plan assumes; None: the cores of this job."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the command line, which ``sweep.json`` records."""

    def describe(self) -> dict[str, Any]:
        """What ``sweep.json`` records, but for the storage, whose URI may hold keys."""
        options = self.options or {name: value for name, value in asdict(self).items() if name != "options"}
        return {name: value for name, value in options.items() if not name.startswith("_") and name != "storage"}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "RunConfig":
        """From parsed options by name; those that a command does not have keep their defaults."""
        names = {each.name for each in fields(cls)} - {"options"}
        return cls(**{name: value for name, value in options.items() if name in names}, options=options)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """The end of a run.

    Attributes:
        sweep: its name.
        where: the folder of its results, for messages.
        total: trials that the sweep declares, or points of the budget of a search.
        committed: those of them that are in the storage.
        seconds: duration of the run.
    """

    sweep: str
    where: str
    total: int
    committed: int
    seconds: float
    abandoned: bool = False
    """A bundle was given up after repeated errors."""

    @property
    def left(self) -> int:
        """Trials or points that are still to do."""
        return self.total - self.committed

    @property
    def complete(self) -> bool:
        """Whether everything is done."""
        return not self.left and not self.abandoned
