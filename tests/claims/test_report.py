"""The report: one row a claim and experiment, and how rows look as text and as Markdown."""

from dataclasses import replace

import pandas as pd
import pytest

from vaegen_ray.analysis.statistics import FAILS, HOLDS, TOO_FEW, VERDICTS
from vaegen_ray.claims import papers
from vaegen_ray.claims.claim import Results
from vaegen_ray.claims.report import as_markdown, as_text, describe_settings, experiments, report
from vaegen_ray.claims.xiao2024 import CLAIMS
from vaegen_ray.errors import SpecError

SWEEP = "reverse_half_asleep"
RHA = [claim for claim in CLAIMS if claim.sweep == SWEEP]
BETTER, IMPROVES, ON_TOP = RHA
ELBOS = {"normal": -20.0, "rha": -20.5, "dmaapx": -19.0, "dmaapx+rha": -19.02}


def last(elbos=ELBOS, seeds=3, **settings):
    """Trials of the sweep; RHA is made worse than normal training, so that one claim does not hold."""
    rows = [
        {
            "method": method,
            "seed": seed,
            "elbo_test": elbo + 0.1 * seed + 0.01 * (len(method) * seed % 3),
            "nc": 256,
            "mz": 4,
        }
        for method, elbo in elbos.items()
        for seed in range(seeds)
    ]
    fixed = {"dataset": "digits", "n_train": 1000, "epochs": 300, "likelihood": "bernoulli", "status": "completed"}
    frame = pd.DataFrame(rows).assign(**{**fixed, "generalization_gap": 4.0, **settings})
    return frame.assign(
        trial_id=[f"{settings.get('dataset', '')}{settings.get('nc', '')}{i}" for i in range(len(frame))]
    )


def results(*frames):
    return {SWEEP: Results(pd.concat(frames, ignore_index=True), pd.DataFrame(), pd.DataFrame())}


def test_every_claim_has_a_row_in_the_order_of_the_claims():
    rows = report({})
    assert [row.claim for row in rows] == list(papers.CLAIMS)
    assert {row.verdict for row in rows} == {TOO_FEW}


def test_rows_say_data_seeds_and_settings():
    row, *_ = report(results(last()), RHA)
    assert row.settings == "digits, 1,000 training images, 300 epochs, bernoulli likelihood, nc 256, mz 4"
    assert row.statistic.seeds == "3 seeds"
    assert row.measured.startswith("test ELBO, DMaaPx minus normal training + RHA: +1.50")
    assert "3 seeds)" in row.measured and row.reason == "the whole interval is > 0"


def test_verdicts_follow_the_numbers():
    assert [row.verdict for row in report(results(last()), RHA)] == [HOLDS, FAILS, HOLDS]
    worse = {**ELBOS, "dmaapx": -25.0}
    assert [row.verdict for row in report(results(last(worse)), RHA)] == [FAILS, FAILS, FAILS]


def test_failed_trials_do_not_count():
    frame = last()
    frame.loc[(frame["method"] == "dmaapx") & (frame["seed"] > 0), "status"] = "failed"
    assert report(results(frame), (BETTER,))[0].verdict == TOO_FEW


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dataset": "mnist"}, "mnist,"),
        ({"nc": 64}, "nc 64"),
        ({"epochs": 7}, " 7 epochs"),
        ({"batch_size": 9}, "batch_size 9"),
        ({"split": "checkerboard"}, "split checkerboard"),
        ({"data_digest": "ab12"}, "data_digest ab12"),
        ({"network_version": 2}, "network_version 2"),
        ({"validation": 100}, "validation 100"),
    ],
)
def test_experiments_are_judged_apart(settings, said):
    """Together they would be two trials of one seed, or a mean over two experiments."""
    usual = {"batch_size": 50, "split": "random", "data_digest": "", "network_version": 0, "validation": 0}
    opposite = last({"normal": 0.0, "rha": 1.0, "dmaapx": -9.0, "dmaapx+rha": 0.0}, **{**usual, **settings})
    rows = report(results(last(**usual), opposite), (BETTER,))
    assert sorted(row.verdict for row in rows) == sorted([HOLDS, FAILS])
    assert [row.verdict for row in rows if said in row.settings] == [FAILS]


def test_claims_about_axes_keep_all_sizes_together():
    frames = results(last(), last(nc=64))[SWEEP]
    assert len(experiments(frames, axes=())) == 2
    (settings,) = experiments(frames, axes=("nc", "mz"))
    assert settings.endswith("nc 64 to 256, mz 4")


def test_seeds_of_other_images_are_not_put_together():
    """Images of one's own that were replaced under their name: other seeds would hide it."""
    first, second = last(data_digest="ab12"), last(data_digest="cd34")
    rows = report(results(first, second.assign(seed=second["seed"] + 3)), (BETTER,))
    assert [row.statistic.seeds for row in rows] == ["3 seeds"] * 2


def test_an_experiment_has_the_curves_and_details_of_its_own_trials():
    frames = results(last(), last(dataset="mnist"))[SWEEP]
    others = pd.DataFrame({"trial_id": [*frames.last["trial_id"], "else"]}).assign(values=0)
    for part in experiments(frames._replace(curves=others, details=others), axes=("nc", "mz")).values():
        assert set(part.curves["trial_id"]) == set(part.details["trial_id"]) == set(part.last["trial_id"])
    bare = frames._replace(last=frames.last.drop(columns="trial_id"), curves=others)
    assert all(part.curves.empty for part in experiments(bare, axes=("nc", "mz")).values())


def test_settings_say_what_is_there():
    sizes = pd.DataFrame({"n_train": [1000.0, 200.0], "epochs": [20, 100], "precision": [None, None]})
    assert describe_settings(sizes, differ=["precision"]) == (
        "200 to 1,000 training images, 20 to 100 epochs, precision None"
    )
    assert describe_settings(pd.DataFrame({"mz": [1, 8], "seed": [0, 1]})) == "mz 1 to 8"
    assert (
        describe_settings(pd.DataFrame({"dataset": ["a"], "sigma": [0.1]}), differ=["sigma", "dataset"])
        == "a, sigma 0.1"
    )


def test_several_trials_of_one_seed_are_named_and_not_averaged():
    frame = last().assign(budget=0)
    more = frame[frame["method"] == "dmaapx"].assign(budget=5)
    more = more.assign(trial_id=more["trial_id"] + "-5")
    row = report(results(frame, more), (BETTER,))[0]
    assert row.verdict == TOO_FEW and "differ in budget" in row.reason


@pytest.mark.parametrize(
    ("spread", "number"),
    [(1e-3, "+1.0"), (0.1, "+1.0"), (30.0, "+1 "), (0.0, "+1.0")],
)
def test_numbers_are_as_exact_as_the_interval_is_narrow(spread, number):
    frame = last({"rha": 0.0, "dmaapx": 0.0}, seeds=2).assign(elbo_test=[0.0, 0.0, 1 - spread, 1 + spread])
    measured = report(results(frame), (BETTER,))[0].measured
    assert number in measured
    decimals = len(measured.split(": +")[1].split(" ")[0].partition(".")[2])
    assert decimals == {1e-3: 3, 0.1: 1, 30.0: 0, 0.0: 3}[spread]


def test_no_minus_stands_before_zero():
    frame = last({"rha": 0.0, "dmaapx": 0.0}, seeds=2).assign(elbo_test=[0.0, 0.0, -1.0, 0.999])
    assert ": +0 nats" in report(results(frame), (BETTER,))[0].measured


def test_text_is_wrapped_and_aligned():
    rows = report(results(last()), RHA)
    for width in (60, 100):
        lines = as_text(rows, width).splitlines()
        title = next(line for line in lines if line.startswith(SWEEP))
        assert all(len(line) <= width for line in lines if line not in (title, lines[-1]))
        starts = [line for line in lines if line.startswith(VERDICTS) and "5.2" in line]
        assert [line[:15].strip() for line in starts] == [row.verdict for row in rows]
        column = max(map(len, VERDICTS)) + 2
        body = lines[lines.index(title) + 1 : -2]
        assert all(line[column - 2 : column] == "  " and line[column] != " " for line in body)
    said = " ".join(as_text(rows).split())
    assert rows[0].measured in said and all(row.reason in said for row in rows)
    assert said.endswith("3 statements: holds 2, does not hold 1, not enough runs 0")


def test_text_has_the_numbers_of_the_paper():
    claim = next(claim for claim in CLAIMS if claim.id == "generalization_gaps/generalization_gap/dmaapx-normal")
    assert "paper: CIFAR-10 841.54 -> 5.44" in as_text(report({}, (claim,)))


def test_text_of_nothing_says_so():
    assert as_text([]).endswith("0 statements: holds 0, does not hold 0, not enough runs 0")


def test_each_experiment_has_one_heading():
    rows = report(results(last(), last(dataset="mnist")), RHA)
    text = as_text(rows).splitlines()
    assert sum(line.startswith(f"{SWEEP}: digits") for line in text) == 1
    assert sum(line.startswith(f"{SWEEP}: mnist") for line in text) == 1


def test_markdown_has_a_table_the_facts_and_reasons_for_what_does_not_hold():
    rows = report(results(last()), RHA)
    reasons = {IMPROVES.id: "Its decoder stops too early.", BETTER.id: "Never said."}
    text = as_markdown(rows, {"machine": "2 CPU cores", "date": "2026-11-21"}, reasons)
    lines = text.splitlines()
    assert "- machine: 2 CPU cores" in lines and "- date: 2026-11-21" in lines
    assert f"- {IMPROVES.statement} Its decoder stops too early." in lines
    assert "Never said." not in text
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert {line.count(" | ") for line in table} == {4}
    assert "**holds**: the whole interval is > 0 |" in table[2] and "**does not hold**: opposite" in table[3]
    assert text.endswith("\n")


def test_headings_name_the_paper():
    (own,) = report({}, (replace(BETTER, sweep="my_own"),))
    assert f"## {SWEEP}: no results (xiao2024)" in as_markdown(report({}, RHA), {}).splitlines()
    assert "my_own: no results (ours)" in as_text([own]).splitlines()


def test_a_reason_may_be_for_a_claim_of_another_paper():
    assert "Never said." not in as_markdown(report({}, RHA), {}, {"inference_gap/optimal/end": "Never said."})


def test_markdown_without_reasons_gives_none():
    assert "Likely reasons" not in as_markdown(report(results(last()), RHA), {})


def test_a_reason_for_an_unknown_claim_is_refused():
    with pytest.raises(SpecError, match="id of a claim with a reason must be one of .*; got 'typo'"):
        as_markdown(report({}), {}, {"typo": "x"})


def test_bars_in_words_do_not_end_a_cell():
    (row,) = report(results(last()), (replace(BETTER, statement="p(x|z) | q"),))
    (line,) = [line for line in as_markdown([row], {}).splitlines() if line.startswith("| p(x")]
    assert line.startswith(r"| p(x\|z) \| q | 5.2") and line.replace(r"\|", "").count("|") == 6
