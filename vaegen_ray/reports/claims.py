"""The claims of the papers, judged from what a storage holds."""

import os
import platform
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vaegen_ray.claims.claim import Results
from vaegen_ray.claims.papers import SWEEPS, find_claims
from vaegen_ray.claims.report import Row, as_markdown, as_text, report
from vaegen_ray.code_version import code_version
from vaegen_ray.errors import SpecError, StorageError
from vaegen_ray.figures import Tables
from vaegen_ray.reports.figures import load_tables
from vaegen_ray.results.groups import Conditions, none_selected
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore

RECORDED = ("torch", "ray", "numpy", "scikit-learn")
"""Packages whose versions stand beside the verdicts."""


def load_results(storage: Storage, where: Conditions = ()) -> tuple[dict[str, Results], list[str]]:
    """The results that claims are judged by, by sweep, and a line for each file that could not be read.

    Args:
        where: only trials that fulfil these conditions (``groups.selected``) count.

    Raises:
        StorageError: none of the sweeps is there.
        SpecError: no completed trial fulfils the conditions.
    """
    found: dict[str, Results] = {}
    notes: list[str] = []
    for name in SWEEPS:
        if name in storage.folders(""):
            tables, skipped = load_tables(SweepStore(storage, name), Tables._fields, where=where)
            found[name] = Results(tables.last, tables.curves, tables.details)
            notes += skipped
    if not found:
        raise StorageError(f"claims are judged by the sweeps {', '.join(SWEEPS)}; none is in {storage.where()}")
    if where and all(results.last.empty for results in found.values()):
        raise none_selected(where, ", ".join(found))
    return found, notes


def rows(results: dict[str, Results]) -> list[Row]:
    """The verdicts on all claims of the papers that have at least one sweep in the results."""
    return report(results, find_claims(results))


def text(results: dict[str, Results], width: int) -> str:
    """The verdicts for a terminal."""
    return as_text(rows(results), width)


def markdown(results: dict[str, Results], reasons: str | None) -> str:
    """The verdicts as a page.

    Args:
        reasons: a TOML file with the likely reason why a claim does not hold here, by its id.

    Raises:
        SpecError: the file is not there, is not TOML, or gives a reason for no claim.
    """
    facts = {
        "Date": datetime.now(UTC).date().isoformat(),
        "Machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "Code": code_version(),
        "Versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in RECORDED)]
        ),
    }
    return as_markdown(rows(results), facts, _read_reasons(reasons) if reasons else {})


def _read_reasons(path: str) -> dict[str, str]:
    try:
        read = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(
            f'--reasons must be a TOML file with lines of the form id = "reason"; got {path}: {error}'
        ) from None
    wrong = [name for name, reason in read.items() if not isinstance(reason, str)]
    if wrong:
        raise SpecError(f"--reasons must give each claim a string; got {read[wrong[0]]!r} for {wrong[0]}")
    return read
