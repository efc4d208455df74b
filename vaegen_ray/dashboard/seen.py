"""A sweep as the page shows it at one moment."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vaegen_ray.results.live import Look
from vaegen_ray.results.status import SweepStatus


@dataclass(frozen=True)
class Declared:
    """What ``sweep.json`` says."""

    trials: pd.DataFrame | None = None
    """A row a declared trial: ``trial_id`` and its specification, nested parts as JSON; None where it does not say."""
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The specifications as they are written, by trial."""
    facts: dict[str, str] = field(default_factory=dict)
    """Preset, versions, machine: what else is worth showing."""
    figures: tuple[str, ...] = ()
    """Names of the figures of the sweep (``figures.FIGURES``)."""


@dataclass(frozen=True)
class Seen:
    """A sweep at one moment."""

    status: SweepStatus
    declared: Declared
    look: Look
    rows: pd.DataFrame
    """A row a declared trial that has begun, with its last metrics; ``status`` is ``completed``, ``failed``,
    ``pruned`` or ``under way``."""
    varied: list[str]
    """The fields in which the trials of the sweep differ."""
    given_up: list[dict[str, Any]]
    """The bundles that were given up and have trials without a result, the last first: ``bundle_id, trial_ids, reason,
    tries, time`` and how many are ``left``."""
    pictures: dict[str, str]
    """The figures that the driver has drawn: file name -> a word that changes with the file."""
    version: str
    """Changes when anything but the heartbeat does."""
