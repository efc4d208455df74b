"""Rows that are filtered by what somebody types, and sorted.

nc>=64 method=dmaapx seed=0        all conditions must hold; = != > < >= <=
dmaapx out-of-memory               words, each in some text of the row
"""

import operator
import re

import pandas as pd

from vaegen_ray.dashboard.columns import is_number
from vaegen_ray.errors import SpecError, not_one_of

CONDITION = re.compile(r"(\w+)(>=|<=|!=|=|>|<)(.*)")
COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
TEXTS = ("trial_id", "bundle_id", "status", "error", "dataset", "architecture", "method", "split", "device", "node")
"""Columns that words are looked for in."""


def filtered(rows: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows for which all that ``text`` says holds.

    Raises:
        SpecError: no such column, or a number is needed.
    """
    keep = pd.Series(True, index=rows.index)
    for word in text.split():
        if match := CONDITION.fullmatch(word):
            keep &= _holds(rows, *match.groups())
        else:
            found = pd.Series(False, index=rows.index)
            for name in TEXTS:
                if name in rows:
                    found |= rows[name].astype(str).str.contains(word, case=False, regex=False)
            keep &= found
    return rows[keep]


def _holds(rows: pd.DataFrame, name: str, sign: str, wanted: str) -> pd.Series:
    if name not in rows:
        likely = [column for column in rows if name in column] or ["nc", "mz", "method", "seed", "status", "elbo_test"]
        raise SpecError(not_one_of("a column of the filter", name, likely[:8]))
    if not is_number(rows[name]):
        if sign not in ("=", "!="):
            raise SpecError(f"{name} is a text, which has = and != alone; got {name}{sign}{wanted}")
        if name == "status":  # "under way" is typed as one word
            wanted = wanted.replace("_", " ")
        same = rows[name].astype(str).str.casefold() == wanted.casefold()
        return same if sign == "=" else ~same
    try:
        number = float(wanted)
    except ValueError:
        raise SpecError(f"{name} is compared with a number, as in {name}{sign}64; got {wanted!r}") from None
    held: pd.Series = COMPARE[sign](rows[name].astype(float), number)
    return held


def ordered(rows: pd.DataFrame, column: str | None, descending: bool) -> pd.DataFrame:
    """The rows by a column, equal ones by trial; rows without a value last."""
    if column not in rows:
        return rows.sort_values("trial_id", kind="stable")
    return rows.sort_values([column, "trial_id"], ascending=[not descending, True], kind="stable", na_position="last")
