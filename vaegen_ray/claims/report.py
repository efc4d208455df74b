"""Every claim with its verdict: judged from the results, and written as text for a terminal or as Markdown.

    for row in report({"generalization_gaps": Results(last, curves, details)}):
        print(row.verdict, row.claim.statement)

Trials of one sweep that differ in data set, size or training are experiments of their own, unless the claim is about
just that, and a claim is judged in each: numbers of different experiments are never averaged. The verdict says what the
numbers say; why they do so is for the reader, who may hand ``as_markdown`` what is likely.
"""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import pandas as pd

from vaegen_ray.analysis.statistics import FAILS, TOO_FEW, VERDICTS, Interval, NotEnoughRuns, Statistic, judge
from vaegen_ray.claims.claim import Claim, Results
from vaegen_ray.claims.papers import CLAIMS, find_paper
from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.results import groups
from vaegen_ray.spec.method import OF_METHOD

COMPARED = ("method", *OF_METHOD, "budget", "stream", "stream_version", "evaluate_at", "measures")
"""Fields in which the trials of one experiment may differ: what claims compare, and what is measured beside the ELBO.
Each side of a comparison must have one value of them (``statistics.by_seed``)."""
EXPERIMENT = tuple(name for name in groups.SETTINGS if name not in COMPARED)
"""Fields that all trials of one experiment share, but for the axes of a claim."""
SETTINGS = {
    "dataset": "{}",
    "n_train": "{} training images",
    "epochs": "{} epochs",
    "likelihood": "{} likelihood",
    "nc": "nc {}",
    "mz": "mz {}",
}
"""Fields that are always said, and how."""

WIDTH = 100
LEAST_ROOM = 20
"""Words are not wrapped to fewer characters than this, however narrow the terminal."""
DIGITS = 2
"""Significant digits of half an interval's width; the mean is written to the same place."""
HEAD = """A statement holds when the whole 95 % interval (Student's t, over seeds) of its statistic lies where it is \
claimed; differences are paired by seed unless said. Seeds are those of the VAEs, which share their data and their \
diffusion model. Every statement is judged by itself: nothing is corrected for their number."""
TABLE_HEAD = ("| Claim | Where | Measured | Paper | Verdict |", "| --- | --- | --- | --- | --- |")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A claim in one experiment."""

    claim: Claim
    verdict: str
    """One of ``statistics.VERDICTS``."""
    reason: str
    """Why this verdict, in a line."""
    settings: str
    """Data set, size and training of the experiment; empty without any trial."""
    statistic: Statistic | None = None
    interval: Interval | None = None

    @property
    def measured(self) -> str:
        """The statistic with its interval, seeds and note; empty where there are not enough runs."""
        if self.statistic is None or self.interval is None:
            return ""
        mean, low, high = _numbers(self.interval)
        unit = f" {self.statistic.unit}" if self.statistic.unit else ""
        words = f"{self.statistic.name}: {mean}{unit} (95%: {low} to {high}; {self.statistic.seeds})"
        return f"{words}; {self.statistic.note}" if self.statistic.note else words


def report(results: Mapping[str, Results], claims: Sequence[Claim] = CLAIMS) -> list[Row]:
    """Judge every claim in every experiment of its sweep, in the order of the claims.

    Args:
        results: name of a sweep -> its frames; sweeps that are missing or empty make claims lack runs.
    """
    wanted = {(claim.sweep, claim.axes) for claim in claims if claim.sweep in results}
    parts = {(sweep, axes): experiments(results[sweep], axes) for sweep, axes in wanted}
    return [row for claim in claims for row in _judged(claim, parts.get((claim.sweep, claim.axes)))]


def _judged(claim: Claim, parts: Mapping[str, Results] | None) -> Iterator[Row]:
    """A row for each of the experiments; one row where there is none, or where the sweep is missing (None)."""
    if not parts:
        missing = "results" if parts is None else "completed trials"
        yield Row(claim=claim, verdict=TOO_FEW, reason=f"no {missing} of the sweep {claim.sweep}", settings="")
        return
    for settings, part in parts.items():
        try:
            statistic = claim.measure(part)
            verdict, reason, interval = judge(statistic)
        except NotEnoughRuns as error:
            yield Row(claim=claim, verdict=TOO_FEW, reason=str(error), settings=settings)
        else:
            yield Row(
                claim=claim, verdict=verdict, reason=reason, settings=settings, statistic=statistic, interval=interval
            )


def experiments(results: Results, axes: tuple[str, ...] = ()) -> dict[str, Results]:
    """Settings in words -> the completed trials of one experiment, which may differ in ``axes``."""
    last = results.last
    if "status" in last:
        last = last[(last["status"] == "completed").to_numpy(dtype=bool, na_value=False)]
    if last.empty:
        return {}
    last = groups.with_versions(last)
    differ = [name for name in groups.differing(last) if name in EXPERIMENT and name not in axes]
    parts = [part for _, part in last.groupby(differ, dropna=False)] if differ else [last]
    return {
        describe_settings(part, differ): Results(
            part, _select_trials(results.curves, part), _select_trials(results.details, part)
        )
        for part in parts
    }


def _select_trials(rows: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    if "trial_id" not in rows or "trial_id" not in trials:
        return rows.iloc[:0]
    return rows[rows["trial_id"].isin(trials["trial_id"])]


def describe_settings(rows: pd.DataFrame, differ: Sequence[str] = ()) -> str:
    """What the trials of an experiment have in common, in words.

    Args:
        differ: fields that tell it from other experiments, said beside ``SETTINGS``.
    """
    said = [words.format(_span(rows[name])) for name, words in SETTINGS.items() if name in rows]
    said += [f"{name} {_span(rows[name])}" for name in differ if name not in SETTINGS]
    return ", ".join(said)


def _span(values: pd.Series) -> str:
    """The one value, or the least and the largest."""
    ends = [values.iloc[0]] if values.nunique() < 2 else [values.min(), values.max()]
    return " to ".join(f"{end:,.10g}" if isinstance(end, Real) else str(end) for end in ends)


def _numbers(interval: Interval) -> list[str]:
    """Mean and ends with a sign, to ``DIGITS`` digits of half the interval's width."""
    half = (interval.high - interval.low) / 2 or abs(interval.mean) / 100 or 1.0
    decimals = min(6, max(0, DIGITS - 1 - math.floor(math.log10(half))))
    return [f"{round(number, decimals) + 0.0:+,.{decimals}f}" for number in interval]


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of one experiment under a line that names it, in the order in which the experiments come first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        title = f"{row.claim.sweep}: {row.settings or 'no results'} ({find_paper(row.claim.sweep)})"
        groups.setdefault(title, []).append(row)
    return groups


def _count(rows: Sequence[Row]) -> str:
    """How many claims have which verdict."""
    counts = Counter(row.verdict for row in rows)
    return f"{len(rows)} statements: " + ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS)


def as_text(rows: Sequence[Row], width: int = WIDTH) -> str:
    """Rows for a terminal: the verdict, and beside it, wrapped, what was said, measured and concluded."""
    column = max(map(len, VERDICTS)) + 2
    lines = textwrap.wrap(HEAD, width)
    for title, members in _groups(rows).items():
        lines += ["", title]
        for row in members:
            words = [f"{row.claim.section}: {row.claim.statement}", row.measured, row.reason]
            words += [f"paper: {row.claim.paper}"] if row.claim.paper else []
            room = max(LEAST_ROOM, width - column)
            first, *more = [line for word in words for line in textwrap.wrap(word, room)]
            lines += [row.verdict.ljust(column) + first, *(" " * column + line for line in more)]
    return "\n".join([*lines, "", _count(rows)])


def no_tags(text: str) -> str:
    """Text whose names, which come from files, cannot be HTML; "a < b" stays as it is."""
    return re.sub("<(?=[A-Za-z/!?])", "&lt;", text)


def as_markdown(rows: Sequence[Row], facts: Mapping[str, str], reasons: Mapping[str, str] | None = None) -> str:
    """Rows as a page of Markdown: a table an experiment, and below it why statements may not hold.

    Args:
        facts: name -> value of what the numbers were made with, such as machine, versions, date; said at the top.
        reasons: id of a claim -> why it may not hold here, in a sentence. Said for rows that do not hold.

    Raises:
        SpecError: a reason is for no claim, of the rows or of any paper.
    """
    reasons = reasons or {}
    ids = sorted({claim.id for claim in (*CLAIMS, *(row.claim for row in rows))})
    for unknown in sorted(set(reasons) - set(ids)):
        raise SpecError(not_one_of("id of a claim with a reason", unknown, ids))
    lines = ["# Claims", "", HEAD, "", *(f"- {name}: {value}" for name, value in facts.items()), "", _count(rows) + "."]
    for title, members in _groups(rows).items():
        lines += ["", f"## {no_tags(title)}", "", *TABLE_HEAD]
        for row in members:
            cells = (row.claim.statement, row.claim.section, row.measured, row.claim.paper)
            verdict = f"**{row.verdict}**: {row.reason}"
            lines.append("| " + " | ".join(no_tags(cell).replace("|", r"\|") for cell in (*cells, verdict)) + " |")
        why = [row for row in members if row.verdict == FAILS and row.claim.id in reasons]
        lines += ["", "Likely reasons:", ""] if why else []
        lines += [f"- {row.claim.statement} {reasons[row.claim.id]}" for row in why]
    return "\n".join([*lines, ""])
