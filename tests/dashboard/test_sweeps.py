"""What the page says of a sweep: its state, counts, trials under way, bundles that were given up."""

import colorsys
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from plotly.utils import PlotlyJSONEncoder

from vaegen_ray.dashboard import views, watch
from vaegen_ray.dashboard.columns import axes, column_words, curved, label, measured, plain, with_derived
from vaegen_ray.dashboard.plots import MOST_POINTS, curves, over_axis
from vaegen_ray.dashboard.pools import Pools
from vaegen_ray.dashboard.seen import Seen
from vaegen_ray.dashboard.sweeps import UNDER_WAY, Sweeps
from vaegen_ray.dashboard.table import filtered, ordered
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures.style import method_colour, method_name
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.status import SweepState
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec, bundle_id

from .conftest import BUNDLES, SPECS, SWEEP, status


@pytest.fixture(autouse=True)
def look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look reads, to its end."""
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", None)


def look(store: SweepStore) -> Seen:
    return Sweeps(store.storage)[store.name].seen()


@pytest.mark.parametrize(
    ("age", "beat", "state"),
    [
        (0, status(), SweepState.RUNNING),
        (0, status(ended=True), SweepState.STOPPED),
        (3600, status(), SweepState.STOPPED),
        (0, {"preparing": "images are loaded"}, SweepState.PREPARING),
        (3600, {"preparing": "images are loaded"}, SweepState.STOPPED),
        (None, {}, SweepState.STOPPED),
        (None, {"time": "yesterday"}, SweepState.STOPPED),
    ],
)
def test_a_sweep_runs_while_its_driver_is_heard(
    growing: Any, age: float | None, beat: dict[str, Any], state: str
) -> None:
    store, add = growing
    store.write_status(beat if age is None else {**beat, "time": time.time() - age})
    add(0)
    seen = look(store).status
    assert (seen.state, seen.done, seen.failed, seen.declared, seen.left) == (state, 2, 0, 6, 4)
    assert (seen.vaes_running, seen.seconds_left) == ((2, 90.0) if state == SweepState.RUNNING else (0, None))


def test_clocks_may_differ(growing: Any) -> None:
    store, _ = growing
    sweep = Sweeps(store.storage)[store.name]
    store.write_status(status(time=1000.0))
    assert sweep.seen().status.state == SweepState.STOPPED
    store.write_status(status(time=1005.0))
    assert sweep.seen().status.state == SweepState.RUNNING


def test_a_sweep_is_finished_when_all_is_committed(growing: Any) -> None:
    store, add = growing
    for number in range(len(BUNDLES)):
        add(number)
    seen = look(store).status
    assert (seen.state, seen.done, seen.left) == (SweepState.FINISHED, 6, 0)


def test_rows_hold_the_declared_trials_that_have_begun(growing: Any) -> None:
    store, add = growing
    add(0)
    add(1, ("metrics",))
    seen = look(store)
    rows = seen.rows
    assert seen.varied == ["nc"]
    assert rows["status"].value_counts().to_dict() == {"completed": 2, UNDER_WAY: 2}
    known = rows.set_index("trial_id")
    for spec in (*BUNDLES[0], *BUNDLES[1]):
        assert known.loc[spec.trial_id, "nc"] == spec.nc and known.loc[spec.trial_id, "seed"] == spec.seed
        assert known.loc[spec.trial_id, "neg_elbo_test"] == -known.loc[spec.trial_id, "elbo_test"] > 0
        assert known.loc[spec.trial_id, "params_total"] > 0
    other = TrialSpec(nc=3)
    row = trial_row(other, sweep=SWEEP, bundle_id="b", status="failed", error="an earlier declaration")
    store.commit_trials("b", [row])
    seen = look(store)
    assert len(seen.rows) == 4 and (seen.status.failed, seen.status.others) == (0, 1)


def test_rows_of_files_from_before_a_field_are_in_the_groups_of_the_others(growing: Any) -> None:
    store, add = growing
    add(0)
    for file in (Path(store.storage.root) / SWEEP / "trials").iterdir():
        pq.write_table(pq.read_table(file).drop_columns(["split", "hidden_layers", "augment_strength"]), file)
    add(1)
    rows = look(store).rows
    assert set(rows["split"]) == {"random"} and set(rows["hidden_layers"]) == {2}
    figure, _ = over_axis(rows, ["nc"], "nc", "elbo_test", "hidden_layers")
    assert {trace["name"] for trace in figure["data"]} == {"hidden_layers 2"}


def test_what_was_given_up_stands_until_it_is_trained(growing: Any) -> None:
    store, add = growing
    name, ids = bundle_id(BUNDLES[1]), [spec.trial_id for spec in BUNDLES[1]]
    for reason in ("the worker died", "the disk is full"):
        store.write_given_up(name, ids, reason, 4)
    store.storage.write(f"{SWEEP}/given-up/damaged.json", b"{")
    (note,) = look(store).given_up
    assert (note["bundle_id"], note["reason"], note["tries"], note["left"]) == (name, "the disk is full", 4, 2)
    add(1)
    assert look(store).given_up == []


def test_names_that_are_no_sweeps(growing: Any) -> None:
    store, _ = growing
    sweeps = Sweeps(store.storage)
    store.storage.write("other/file.txt", b"")
    assert sweeps.names() == [SWEEP]
    for name in ("other", "absent", "..", "samples", "a/b"):
        with pytest.raises(VaegenError):
            sweeps[name]


def test_a_declaration_of_somebody_else_declares_nothing(growing: Any) -> None:
    store, add = growing
    add(0)
    store.write_sweep_json({"trials": "many"})
    seen = look(store)
    assert seen.declared.trials is None and seen.status.declared is None
    assert len(seen.rows) == 2 and "sweep.json does not say" in seen.status.notes[0]


@pytest.fixture(scope="module")
def finished(trained: Any) -> Seen:
    return Sweeps(Storage.open(trained, create=False))[SWEEP].seen()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 6),
        ("nc=8", 2),
        ("nc!=8", 4),
        ("nc>=2 seed=0", 2),
        ("nc<2", 2),
        ("completed", 6),
        ("status=completed", 6),
        ("status!=completed", 0),
        ("method=NORMAL seed=1", 3),
        (SPECS[0].trial_id[:8], 1),
        ("elbo_test>0", 0),
    ],
)
def test_filters(finished: Seen, text: str, count: int) -> None:
    assert len(filtered(finished.rows, text)) == count


@pytest.mark.parametrize("text", ["width=3", "nc=many", "method>3"])
def test_a_filter_that_cannot_be_is_one_line(finished: Seen, text: str) -> None:
    with pytest.raises(SpecError, match=text.split("=")[0].split(">")[0]):
        filtered(finished.rows, text)


def test_under_way_is_a_status_to_filter_by(growing: Any) -> None:
    store, add = growing
    add(0, ("metrics",))
    assert len(filtered(look(store).rows, "status=under_way")) == 2


def test_order(finished: Seen) -> None:
    rows = finished.rows
    up, down = (ordered(rows, "elbo_test", descending)["elbo_test"].tolist() for descending in (False, True))
    assert up == sorted(up) and down == up[::-1]


def test_a_figure_shows_every_trial_and_the_means(finished: Seen) -> None:
    rows, varied = finished.rows, finished.varied
    figure, said = over_axis(rows, varied, "nc", "neg_elbo_test", "method")
    means, points = figure["data"]
    assert sorted(points["customdata"]) == sorted(spec.trial_id for spec in SPECS)
    wanted = rows.groupby("nc")["neg_elbo_test"].agg(["mean", "min", "max"])
    assert means["x"][:-1] == wanted.index.tolist() and means["y"][:-1] == pytest.approx(wanted["mean"].tolist())
    assert means["error_y"]["array"][:-1] == pytest.approx((wanted["max"] - wanted["mean"]).tolist())
    assert means["error_y"]["arrayminus"][:-1] == pytest.approx((wanted["mean"] - wanted["min"]).tolist())
    assert said.startswith("negative test ELBO (nats/image) against nc") and "6 VAEs" in said
    by_nc, _ = over_axis(rows, varied, "params_total", "elbo_test", "nc")
    marks = [trace["marker"]["symbol"] for trace in by_nc["data"] if "customdata" in trace]
    colours = [trace["marker"]["color"] for trace in by_nc["data"] if "customdata" in trace]
    assert len(set(marks)) == len(set(colours)) == 3


def test_of_many_points_those_behind_others_are_left_out(finished: Seen) -> None:
    rows, varied = finished.rows, finished.varied
    many = rows.loc[rows.index.repeat(2000)].reset_index(drop=True)
    many["neg_elbo_test"] += many.index / 1e6
    figure, said = over_axis(many, varied, "nc", "neg_elbo_test", "method")
    drawn = sum(len(trace["x"]) for trace in figure["data"] if "customdata" in trace)
    assert 6 <= drawn <= MOST_POINTS and f"{len(many) - drawn:,} of them behind others" in said


@pytest.mark.parametrize(
    ("values", "kind"), [((1, 2, 3), "linear"), ((0, 1, 500), "linear"), ((1, 64, 512), "log"), ((1, 10, 50), "log")]
)
def test_an_axis_is_logarithmic_where_its_values_span_much(finished: Seen, values: tuple[int, ...], kind: str) -> None:
    rows, varied = finished.rows, finished.varied
    figure, _ = over_axis(rows.assign(nc=[*values, *values]), varied, "nc", "elbo_test", "method")
    assert figure["layout"]["xaxis"]["type"] == kind


def test_a_budget_of_0_stands_last_as_what_it_means(finished: Seen) -> None:
    rows, varied = finished.rows, finished.varied
    rows = rows.assign(budget=[0, 50, 2, 0, 50, 2])
    figure, _ = over_axis(rows, [*varied, "budget"], "budget", "elbo_test", "method")
    assert figure["layout"]["xaxis"]["categoryarray"] == ["2", "50", "none twice"]
    assert set(figure["data"][1]["x"]) == {"2", "50", "none twice"}


def test_lines_are_told_apart_where_more_differs_than_the_colour(finished: Seen) -> None:
    rows = finished.rows
    rows = rows.assign(split=rows["seed"].map({0: "random", 1: "checkerboard"}), levels=rows["seed"])
    figure, _ = over_axis(rows, ["nc", "split"], "nc", "elbo_test", "method")
    names = [trace["name"] for trace in figure["data"] if "customdata" in trace]
    assert names == ["normal training · split checkerboard", "normal training · split random"]
    assert len({trace["line"]["dash"] for trace in figure["data"] if "line" in trace}) == 2
    figure, _ = over_axis(rows, ["nc", "split", "levels"], "nc", "elbo_test", "split")  # the split says the levels
    assert {trace["name"] for trace in figure["data"]} == {"split checkerboard", "split random"}


def test_a_figure_of_nothing_says_so(growing: Any) -> None:
    seen = look(growing[0])
    rows, varied = seen.rows, seen.varied
    figure, _ = over_axis(rows, varied, "nc", "neg_elbo_test", "method")
    assert figure["data"] == [] and "no VAE" in figure["layout"]["annotations"][0]["text"]


def test_names_from_files_are_text_in_a_figure(finished: Seen) -> None:
    rows, varied = finished.rows, finished.varied
    figure, _ = over_axis(rows.assign(method="<a href='http://x'>x</a>"), varied, "nc", "neg_elbo_test", "method")
    assert "<a" not in figure["data"][0]["name"]


def test_curves_have_both_sets(trained: Any) -> None:
    trial = SPECS[0].trial_id
    metrics = Sweeps(Storage.open(trained, create=False))[SWEEP].curves([trial])
    figure, said = curves(metrics, {trial: "nc 1"}, "elbo", {trial: "normal"})
    assert [(trace["x"], trace["line"]["dash"]) for trace in figure["data"]] == [
        ([1, 3, 6], "solid"),
        ([1, 3, 6], "dash"),
    ]
    assert said.startswith("ELBO (nats/image) of 1 VAE")


def test_axes_that_are_usual(finished: Seen) -> None:
    rows, varied = finished.rows, finished.varied
    x, colours, usual = axes("unknown", varied, rows)
    assert usual == ("nc", "neg_elbo_test", "method") and {"nc", "params_total"} <= set(x) and "nc" in colours
    assert axes("double_descent.old-1", varied, rows)[2][0] == "params_total"
    assert {"elbo_test", "rate_test", "generalization_gap"} <= set(measured(rows))
    assert "step" not in measured(rows) and "fid" not in measured(rows)


def test_words_for_people(finished: Seen) -> None:
    assert label("rate_test") == "test rate (nats/image)" and label("nc") == "nc"
    assert [plain(v) for v in (1234, -0.5, 2.0, None, float("nan"), "a")] == ["1,234", "−0.5", "2", "–", "–", "a"]
    words = column_words(finished.rows["elbo_test"])
    assert len({len(word.partition(".")[2]) for word in words}) == 1


def test_without_a_value_of_the_colour_a_trial_is_drawn_all_the_same(finished: Seen) -> None:
    rows = finished.rows.assign(levels=[2.0, 2.0, 2.0, None, None, None])
    figure, said = over_axis(rows, finished.varied, "nc", "elbo_test", "levels")
    assert sum(len(trace["x"]) for trace in figure["data"] if "customdata" in trace) == 6 and "6 VAEs" in said
    assert {trace["name"] for trace in figure["data"]} == {"levels 2", "levels –"}
    figure, said = over_axis(rows, finished.varied, "levels", "elbo_test", "method")
    assert sum(len(trace["x"]) for trace in figure["data"] if "customdata" in trace) == 3
    assert "3 VAEs" in said and "3 more have no levels" in said


def test_means_are_over_seeds_alone(finished: Seen) -> None:
    rows = finished.rows
    figure, said = over_axis(rows, finished.varied, "method", "elbo_test", "method")
    bars = [y for y in figure["data"][0]["y"] if y is not None]
    assert sorted(bars) == pytest.approx(sorted(rows.groupby("nc")["elbo_test"].mean()))
    assert said.endswith("bars are means over seeds, one for each nc.")
    apart = rows.assign(epochs=range(300, 300 + len(rows)))  # no axis of the page
    figure, _ = over_axis(apart, finished.varied, "nc", "elbo_test", "method")
    means = [y for trace in figure["data"] if "customdata" not in trace for y in trace["y"] if y is not None]
    assert sorted(means) == pytest.approx(sorted(rows["elbo_test"])), "no two of these trials are alike"
    rates = rows.assign(learning_rate=rows["seed"].map({0: 0.1, 1: 0.2}))  # no two trials differ in the seed alone
    figure, said = over_axis(rates, ["nc", "learning_rate"], "params_total", "elbo_test", "method")
    means = [y for trace in figure["data"] if "customdata" not in trace for y in trace["y"] if y is not None]
    assert sorted(means) == pytest.approx(sorted(rows["elbo_test"]))
    assert said.endswith("lines join sizes where nc or mz alone grows.")
    _, said = over_axis(rows, finished.varied, "nc", "elbo_test", "method")
    assert said.endswith("lines join settings that differ in nc alone.")


def test_over_the_size_a_line_follows_the_path_of_the_paper(finished: Seen) -> None:
    """The path grows nc at mz 1, mz at nc 8, nc at mz 4; the points (1, 4) and (16, 1) are off it."""
    places = [(1, 1), (8, 1), (8, 4), (16, 4), (1, 4), (16, 1)]
    sizes = {(1, 1): 210, (1, 4): 240, (8, 1): 1300, (8, 4): 1400, (16, 1): 2800, (16, 4): 3000}
    rows = finished.rows.assign(
        nc=[nc for nc, _ in places], mz=[mz for _, mz in places], params_total=[sizes[place] for place in places]
    )
    means = over_axis(rows, ["nc", "mz"], "params_total", "neg_elbo_test", "method")[0]["data"][0]
    pieces: list[list[int]] = [[]]
    for x in means["x"]:
        pieces[-1].append(x) if x is not None else pieces.append([])
    assert pieces == [[210, 1300], [1300, 1400], [1400, 3000], [240], [2800], []]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((1, 2, 8), [1, 2, 8]), ((1, 64, 512), [1, 64, 512]), ((3, 3, 4), [3, 4])],
)
def test_an_axis_of_whole_numbers_has_whole_ticks(finished: Seen, values: tuple[int, ...], ticks: list[int]) -> None:
    rows = finished.rows.assign(nc=[*values, *values])
    axis = over_axis(rows, ["nc"], "nc", "elbo_test", "method")[0]["layout"]["xaxis"]
    assert axis["tickvals"] == ticks and axis["ticktext"] == [str(tick) for tick in ticks]
    halves = over_axis(rows.assign(nc=rows["nc"] / 2), ["nc"], "nc", "elbo_test", "method")[0]["layout"]["xaxis"]
    assert "tickvals" not in halves


@pytest.mark.parametrize("last", [12, 19, 250, 4000])
def test_an_axis_of_many_whole_numbers_has_whole_steps(finished: Seen, last: int) -> None:
    epochs = np.linspace(last - 11 if last < 20 else last / 2, last, 12).round()
    many = pd.concat([finished.look.last.iloc[:1]] * 12).assign(effective_epoch=epochs)
    trial = str(many["trial_id"].iloc[0])
    axis = curves(many, {trial: "nc 1"}, "elbo", {trial: "normal"})[0]["layout"]["xaxis"]
    assert axis["dtick"] % 1 == 0 and axis["tick0"] % 1 == 0 and 2 <= (epochs[-1] - epochs[0]) / axis["dtick"] <= 12


def test_a_method_has_one_colour_in_all_views(finished: Seen) -> None:
    methods = ["normal", "dmaapx", "rha+dmaapx"]
    trials = finished.look.last["trial_id"].astype(str).tolist()
    rows = finished.rows.assign(method=[*methods, *methods])
    drawn = over_axis(rows, ["nc", "method"], "nc", "elbo_test", "method")[0]["data"]
    of_figure = {trace["customdata"][0]: trace["marker"]["color"] for trace in drawn if "customdata" in trace}
    assert set(of_figure.values()) == {method_colour(method) for method in methods}
    bars, axis = (
        over_axis(rows, ["nc", "method"], "method", "elbo_test", "method")[0][part] for part in ("data", "layout")
    )
    of_bars = {trace["x"][0]: trace["marker"]["color"] for trace in bars if "customdata" in trace}
    assert of_bars == {method: method_colour(method) for method in methods}
    names = dict(zip(axis["xaxis"]["tickvals"], axis["xaxis"]["ticktext"], strict=True))
    assert names == {method: method_name(method) for method in methods}
    for chosen in (methods, methods[1:], ["dmaapx"]):  # whatever else is drawn, in any order
        of = dict(zip(trials, chosen, strict=False))
        lines = curves(finished.look.last, {trial: trial for trial in of}, "elbo", of)[0]["data"]
        assert {line["legendgroup"]: line["line"]["color"] for line in lines} == {
            trial: method_colour(method).lower() for trial, method in of.items()
        }
    lines = curves(finished.look.last, dict.fromkeys(trials, "x"), "elbo_test", dict.fromkeys(trials, "normal"))[0]
    hues = [
        colorsys.rgb_to_hls(*(int(line["line"]["color"][at : at + 2], 16) / 255 for at in (1, 3, 5)))
        for line in lines["data"]
    ]
    wanted = colorsys.rgb_to_hls(*(int(method_colour("normal")[at : at + 2], 16) / 255 for at in (1, 3, 5)))[0]
    assert [hue for hue, _, _ in hues] == pytest.approx([wanted] * 6, abs=0.01)
    assert [light for _, light, _ in hues] == sorted({light for _, light, _ in hues})


def test_settings_and_dates_of_a_sweep(finished: Seen) -> None:
    said = json.dumps(views.settings(finished), cls=PlotlyJSONEncoder, ensure_ascii=False)
    dates = finished.look.trials["finished_at"]
    day = dates.max().tz_convert(None).strftime("%Y-%m")
    assert "digits · 60 training images · 6 epochs · preset smoke · first result " in said and day in said
    assert all(words in said for words in ('"3 values: 1, 2, 8"', '"2 values: 0, 1"', '"batch size"', '"20"'))


def test_curves_are_offered_of_every_metric_that_was_measured(finished: Seen) -> None:
    rows = finished.rows.assign(elbo_validation=-1.0, elbo_source=-2.0)
    names = curved(rows)
    assert {"elbo", "elbo_validation", "elbo_source", "generalization_gap"} <= set(names)
    assert not {"elbo_test", "elbo_train", "neg_elbo_test"} & set(names)
    of = finished.look.last.assign(elbo_validation=-1.0)
    figure, _ = curves(of, {SPECS[0].trial_id: "nc 1"}, "elbo_validation", {SPECS[0].trial_id: "normal"})
    assert [trace["y"] for trace in figure["data"]] == [[-1.0]]


def test_small_numbers_are_not_written_as_nothing() -> None:
    assert column_words(pd.Series([1e-5, 0.25])) == ["1e−05", "0.25"]
    assert column_words(pd.Series([0.0, 0.25, None])) == ["0.0000", "0.2500", "–"]


def test_what_a_search_stopped_is_told_from_what_failed(growing: Any) -> None:
    store, add = growing
    add(0)
    rows = [trial_row(spec, sweep=SWEEP, bundle_id="b", status="pruned") for spec in BUNDLES[1]]
    store.commit_trials("b", rows)
    seen = look(store)
    assert (seen.status.done, seen.status.pruned, seen.status.failed, seen.status.left) == (2, 2, 0, 2)
    assert len(filtered(seen.rows, "status=pruned")) == 2
    words = json.dumps(views.head(seen, Pools(store.storage)), cls=PlotlyJSONEncoder)
    assert "2 VAEs pruned by the search" in words


def test_the_usual_figure_of_a_search_is_on_validation(finished: Seen) -> None:
    assert axes("search", finished.varied, finished.rows)[2] == ("params_total", "elbo_validation", "method")


def test_a_stream_that_cannot_be_read_is_no_fault_of_the_page(finished: Seen) -> None:
    for stream in ("{", "[]", '{"diffusion": 7}', '{"diffusion": {"n_train": "many"}}'):
        assert with_derived(finished.rows.assign(stream=stream))["diffusion_n_train"].isna().all()
    good = with_derived(finished.rows.assign(stream='{"diffusion": {"n_train": 60}}'))
    assert set(good["diffusion_n_train"]) == {60.0}
