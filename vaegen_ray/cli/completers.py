"""What shells may complete: functions that argcomplete calls with the line so far, and that complain of nothing."""

import argparse
from dataclasses import fields
from typing import Any

from vaegen_ray.errors import VaegenError


def sweep_names(parsed_args: argparse.Namespace, **about: Any) -> list[str]:
    """The sweeps in ``--storage``."""
    return _sweeps_in(parsed_args.storage)


def other_sweep_names(parsed_args: argparse.Namespace, **about: Any) -> list[str]:
    """The sweeps in ``--storage-b``, or in ``--storage``."""
    return _sweeps_in(parsed_args.storage_b or parsed_args.storage)


def dataset_names(parsed_args: argparse.Namespace, **about: Any) -> list[str]:
    """The data sets, those that were added to ``--data-dir`` too."""
    from vaegen_ray.data import catalog, stored

    stored.discover(getattr(parsed_args, "data_dir", None))
    return sorted(catalog.CATALOG)


def figure_names(**about: Any) -> list[str]:
    """The figures."""
    from vaegen_ray.figures import FIGURES

    return sorted(FIGURES)


def field_names(prefix: str, **about: Any) -> list[str]:
    """Comma-separated fields of a trial."""
    from vaegen_ray.spec.trial import TrialSpec

    return _listed(prefix, [field.name for field in fields(TrialSpec)])


def metric_names(prefix: str, **about: Any) -> list[str]:
    """Comma-separated metrics."""
    from vaegen_ray.results.schema import MEASURED

    return _listed(prefix, list(MEASURED))


def _sweeps_in(location: str) -> list[str]:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import sweep_names

    try:
        return sweep_names(Storage.open(location, create=False))
    except VaegenError:  # said by the command itself, not at a Tab
        return []


def _listed(prefix: str, names: list[str]) -> list[str]:
    """``names`` behind those that already stand in ``prefix``, as in ``nc,m``."""
    before = prefix.rpartition(",")[0]
    taken = before.split(",")
    return [f"{before},{name}" if before else name for name in names if name not in taken]
