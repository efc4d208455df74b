"""How rows of results are shown to people: as a table of a terminal or of Markdown."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vaegen_ray.analysis.over_seeds import unbalanced
from vaegen_ray.claims.report import no_tags
from vaegen_ray.cli.tables import fitted
from vaegen_ray.errors import SpecError, printable
from vaegen_ray.results.groups import mixed

MOST_ROWS = 20_000
"""Rows of a query that a table shows: its columns are as wide as their widest cell, so all must be known at once."""
CELL = 60
"""Characters of a text that a table shows."""
DIGITS = 6
"""Digits after the point at most."""


@dataclass(frozen=True)
class Shown:
    """Words of a table, the head first, and what is the same in all its rows."""

    rows: list[list[str]]
    same: tuple[str, ...] = ()

    def text(self) -> str:
        """For a terminal."""
        above = f"{', '.join(self.same)}\n" if self.same else ""
        return f"{above}{fitted(self.rows)}\n"

    def markdown(self) -> str:
        """For a page."""
        head, *rows = ([_cell(text) for text in row] for row in self.rows)
        lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
        above = f"{_cell(', '.join(self.same))}\n\n" if self.same else ""
        return above + "\n".join(lines) + "\n"


def show_extremes(groups: pd.DataFrame, keys: Sequence[str]) -> Shown:
    """Groups with means and ranges (``over_seeds.extremes``)."""
    columns = find_columns(groups, keys)
    for name in groups.columns.drop(list(keys)):
        form = {"seeds": "{}", "params_total": "{:,.0f}"}.get(name, "{:.2f}")
        columns[name] = ["-" if pd.isna(value) else form.format(value) for value in groups[name]]
    return Shown(build_rows(columns))


def show_intervals(groups: pd.DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> Shown:
    """Groups with intervals (``over_seeds.intervals``), as mean ± half of the interval. A metric that not all seeds of
    a group have says how many: (2)."""
    columns = find_columns(groups, keys)
    same = [name for name, words in columns.items() if len(groups) > 1 and len(set(words)) == 1]
    above = tuple(f"{name} {columns.pop(name)[0]}" for name in same)
    if "epochs" in columns and not groups[[name for name in keys if name != "evaluate_at"]].duplicated().any():
        columns.pop("evaluate_at", None)  # a long list that tells nothing apart
    if (groups["trials"] != groups["seeds"]).any():
        columns["trials"] = groups["trials"].astype(str).tolist()
    columns["seeds"] = groups["seeds"].astype(str).tolist()
    for name in metrics:
        halves = groups[f"{name}_high"] - groups[name]
        cells = plus_minus(groups[name].tolist(), halves.tolist())
        counts = zip(groups[f"{name}_seeds"], groups["seeds"], strict=True)
        said = [f" ({n})" if 0 < n < of else "" for n, of in counts]
        columns[name] = [cell + count for cell, count in zip(cells, said, strict=True)]
    return Shown(build_rows(columns), above)


def build_notes(groups: pd.DataFrame, rows: pd.DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """What must be known to read groups with intervals."""
    seeds = groups[[f"{name}_seeds" for name in metrics]].set_axis(list(metrics), axis=1)
    notes = ["mean ± half of its 95 % interval over seeds (Student's t)"] if (seeds > 1).any(axis=None) else []
    if lone := int((seeds == 1).any(axis=1).sum()):
        notes.append(f"{lone} of {len(groups)} groups have one seed, and no interval")
    if empty := [name for name in metrics if not seeds[name].any()]:
        notes.append(f"no trial has {', '.join(empty)} here")
    if others := mixed(rows, keys):
        first = "; those of one seed are averaged first" if (groups["trials"] > groups["seeds"]).any() else ""
        notes.append(f"trials of one group differ in {', '.join(others)}{first}")
    if others and "seed" not in keys and (uneven := unbalanced(rows, keys, others)):
        notes.append(f"in {uneven} of {len(groups)} groups seeds differ in them too: not all have the same trials")
    return notes


def show_query(rows: Any) -> Shown:
    """The rows of a query (``results.export.Rows``).

    Raises:
        SpecError: there are too many for a table.
    """
    body: list[list[str]] = []
    for batch in rows.batches:
        body += ([word(value) for value in row.values()] for row in batch.to_pylist())
        if len(body) > MOST_ROWS:
            raise SpecError(
                f"a table must have at most {MOST_ROWS:,} rows; the query gives more (see LIMIT, and --format csv, "
                f"json and parquet, which hold any number)"
            )
    return Shown([list(rows.schema.names), *body])


def plus_minus(means: Sequence[float], halves: Sequence[float]) -> list[str]:
    """``mean ± half``, all with as many digits as give the median half two of them; without a half, the mean alone."""
    known = sorted(half for half in halves if math.isfinite(half) and half > 0)
    if not known:
        return [word(mean) for mean in means]
    places = min(DIGITS, max(0, 1 - math.floor(math.log10(known[len(known) // 2]))))
    width = max(len(f"{half:.{places}f}") for half in known)
    cells = []
    for mean, half in zip(means, halves, strict=True):
        spread = f" ± {half:{width}.{places}f}" if math.isfinite(half) else " " * (width + 3)
        cells.append(f"{mean:.{places}f}{spread}" if math.isfinite(mean) else "-")
    return cells


def build_rows(columns: dict[str, list[str]]) -> list[list[str]]:
    return [list(columns), *map(list, zip(*columns.values(), strict=True))]


def find_columns(groups: pd.DataFrame, keys: Sequence[str]) -> dict[str, list[str]]:
    """Words of the columns that tell groups apart. Of a specification in JSON the parts that differ."""
    columns: dict[str, list[str]] = {}
    for name in keys:
        values = groups[name].tolist()
        parts = [_parts(value) for value in values]
        if not any(parts):
            columns[name] = [word(value) for value in values]
            continue
        paths = dict.fromkeys(path for each in parts for path in each)
        apart = [path for path in paths if len({word(each.get(path)) for each in parts if each}) > 1]
        leaves = [path.rpartition(".")[2] for path in apart]
        for path, leaf in zip(apart, leaves, strict=True):
            short = leaf if leaves.count(leaf) == 1 else path
            columns[f"{name}.{short}"] = [word(each.get(path)) for each in parts]
        if not apart and name != "stream":  # the method says whether there is one
            columns[name] = ["yes" if each else "-" for each in parts]
    return columns


def _parts(value: object) -> dict[str, object]:
    """The innermost values of an object of JSON, by their paths; empty for what is none."""
    if not (isinstance(value, str) and value.startswith("{")):
        return {}
    found: dict[str, object] = {}

    def walk(path: str, part: object) -> None:
        if isinstance(part, dict):
            for name, inner in part.items():
                walk(f"{path}.{name}" if path else name, inner)
        else:
            found[path] = part

    with suppress(ValueError, RecursionError):  # a text that only looks like it
        walk("", json.loads(value))
    return found


def _cell(text: str) -> str:
    """Text in a table of Markdown, whatever file it came from."""
    return no_tags(" ".join(printable(text).split())).replace("|", "\\|")


def word(value: object) -> str:
    """A value in a table; long ones are cut."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"
