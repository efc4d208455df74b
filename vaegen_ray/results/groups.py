"""Which trials differ in the seed alone: the one grouping of all figures, tables and claims.

A mean over seeds is a mean over trials whose specifications are equal but for the seed. What else differs is either
shown (an axis, a colour, a panel, a column of a table), or the trials belong to different groups.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vaegen_ray.errors import SpecError
from vaegen_ray.spec.trial import TrialSpec

if TYPE_CHECKING:
    import pandas as pd

Conditions = Sequence[tuple[str, str]]
"""Pairs of a field and a value."""
VERSIONS = ("numerics_version", "stream_version")
"""What ``spec_json`` holds beside the specification: trials of two versions are no repetitions of each other."""
SETTINGS = (*(field.name for field in fields(TrialSpec) if field.name != "seed"), *VERSIONS)
"""What a group of trials shares. Columns that are measured or computed, such as ``params_total`` or ``node``, are no
settings."""
FIELDS = (*SETTINGS, "seed")
"""What trials can be selected by."""
MOST_VALUES, LONGEST = 6, 40
"""Values of a field that a message lists, and characters of each."""


def with_versions(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Rows with columns for those ``VERSIONS`` in which they differ."""
    if "spec_json" not in rows:
        return rows
    specs = {text: _object(text) for text in rows["spec_json"].unique()}
    versions = {name: {text: spec.get(name) for text, spec in specs.items()} for name in VERSIONS}
    differ = [name for name, of_text in versions.items() if len(set(of_text.values()) - {None}) > 1]
    return rows.assign(**{name: rows["spec_json"].map(versions[name]) for name in differ})


def _with_all_versions(rows: "pd.DataFrame") -> "pd.DataFrame":
    specs = [_object(text) for text in rows["spec_json"]]
    return rows.assign(**{name: [spec.get(name) for spec in specs] for name in VERSIONS})


def differing(rows: "pd.DataFrame") -> list[str]:
    """The settings in which rows differ, in the order of ``SETTINGS``; a null is a value."""
    return [name for name in SETTINGS if name in rows and not _is_constant(rows[name])]


def mixed(rows: "pd.DataFrame", keys: Sequence[str]) -> list[str]:
    """The settings in which rows differ that are equal in ``keys``: a mean over such rows is not one over seeds.

    Args:
        rows: a row a trial, or a row a trial and evaluation with ``trial_id``. Columns for versions count where they
            are (``with_versions``).
        keys: columns that tell groups apart; none: all rows are one group.
    """
    others = differing(rows.drop_duplicates("trial_id") if "trial_id" in rows else rows)  # of many evaluations each
    others = [name for name in others if name not in keys]
    if not others or not keys:
        return others
    differs = rows.groupby(list(keys), dropna=False, observed=True)[others].nunique(dropna=False).max() > 1
    return [name for name in others if differs[name]]


def find_values(rows: "pd.DataFrame", name: str) -> str:
    """The distinct values of a column for a message, in order: ``0.001, 0.003``."""
    known = sorted(rows[name].dropna().unique().tolist(), key=lambda value: (isinstance(value, str), value))
    words = [_short(value) for value in known] + ["none"] * bool(rows[name].isna().any())
    more = f" and {len(words) - MOST_VALUES} more" if len(words) > MOST_VALUES else ""
    return ", ".join(words[:MOST_VALUES]) + more


def selected(trials: "pd.DataFrame", conditions: Conditions) -> "pd.DataFrame":
    """The rows of trials that fulfil all conditions; of conditions on one field, one must hold.

    Args:
        trials: rows with settings, such as ``results.query.Results.trials``.
        conditions: fields and values as a user writes them; ``none`` stands for null.

    Raises:
        SpecError: a field is no setting.
    """
    wanted: dict[str, list[str]] = {}
    for name, value in conditions:
        if name not in FIELDS:
            near = ", ".join(get_close_matches(name, FIELDS)) or ", ".join(FIELDS)
            raise SpecError(f"--where must name a field of a trial, such as {near}; got {name!r}")
        wanted.setdefault(name, []).append(value)
    rows = _with_all_versions(trials) if set(wanted) & set(VERSIONS) else trials
    for name, values in wanted.items():
        found = rows[name].astype(object).where(rows[name].notna(), None)
        rows = rows[[any(_is(each, value) for value in values) for each in found]]
    return trials.loc[rows.index]


def none_selected(conditions: Conditions, where: str) -> SpecError:
    """The error where no completed trial fulfils the conditions."""
    got = ", ".join(f"{name}={value}" for name, value in conditions)
    return SpecError(f"--where must leave completed trials of {where}; got {got}, which none has")


def _is(found: Any, text: str) -> bool:
    """Whether a value of a column is what a user wrote; numbers are compared as numbers."""
    if found is None:
        return text == "none"
    if isinstance(found, str):
        return found == text
    try:
        return float(found) == float(text)
    except ValueError:
        return False


def _is_constant(values: "pd.Series") -> bool:
    return values.nunique(dropna=False) <= 1


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _object(text: str) -> dict[str, Any]:
    """An object of JSON; empty where the text is none."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
