"""The figure of synthetic budgets: where points, bars and lines stand, and what it does with partial or wrong rows."""

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.synthetic_budget import CURVES, ENDLESS, REAL, budget_places, draw

BUDGETS = (1, 2, 5, 10, 50, 0)
SEEDS = 3


def rows_for(budgets=BUDGETS, methods=("normal", "dmaapx"), seeds=SEEDS, source=True, scale=1.0):
    """Fake finished trials whose numbers differ from trial to trial; DMaaPx gains with its budget."""
    rows = []
    for method in methods:
        for budget in (0,) if method == "normal" else budgets:
            lack = 1 / budget if budget else 0.0
            for seed in range(seeds):
                test, train = (-22.0, -17.0) if method == "normal" else (-19.6 - 2.8 * lack, -19.0 + 1.3 * lack)
                test, train = scale * (test + 0.1 * seed**2), scale * (train - 0.05 * seed)
                fresh = train if method == "normal" else scale * (-18.8 - 3 * lack + 0.02 * seed)
                rows.append((method, budget, seed, test, train, fresh if source else np.nan, train - test))
    varied = ["method", "budget", "seed", *CURVES, "generalization_gap"]
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli", "nc": 256, "mz": 1}
    return pd.DataFrame(rows, columns=varied).assign(
        **same, params_total=1000, status="completed", epochs=300, n_train=500
    )


def picture(rows):
    pictures = draw(rows)
    assert list(pictures) == ["synthetic_budget"]
    return pictures["synthetic_budget"]


def lines_named(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def bars_named(axes, gid):
    """All vertical bars of a panel as rows of x, low, high."""
    bars = [bar for c in axes.collections if c.get_gid() == gid for bar in c.get_segments()]
    return np.array([[bar[0, 0], bar[:, 1].min(), bar[:, 1].max()] for bar in bars])


def top_of(axes):
    (top,) = axes.child_axes
    return top


def parse_names(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def words_in(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture(scope="module")
def full():
    return picture(rows_for())


def test_finite_budgets_stand_at_k_on_a_log_axis_and_endless_after_a_gap(full):
    (axes,) = full.axes
    places = axes.get_xticks()
    assert axes.get_xscale() == "log"
    assert places[:-1].tolist() == [1, 2, 5, 10, 50]
    assert parse_names(axes) == ["1", "2", "5", "10", "50", "∞"]
    (separator,) = lines_named(axes, "separator")
    assert places[-2] * 1.3 < separator.get_xdata()[0] < places[-1] / 1.3


@pytest.mark.parametrize(
    ("budgets", "order"),
    [([5, 0, 1, 5], [1, 5, 0]), ([0], [0]), ([7], [7]), ([0, 1000, 1], [1, 1000, 0]), ([2, 0], [2, 0])],
)
def test_places_rise_with_the_budget_and_endless_is_last(budgets, order):
    places = budget_places(budgets)
    assert list(places) == order
    assert all(places[k] == k for k in order if k != ENDLESS)
    values = list(places.values())
    assert all(before < after for before, after in pairwise(values))
    if ENDLESS in places and len(order) > 1:
        assert values[-1] >= 2 * values[-2]


def test_curves_join_the_means_of_the_finite_budgets_only(full):
    (axes,) = full.axes
    dmaapx = rows_for(methods=("dmaapx",))
    for value in CURVES:
        (curve,) = lines_named(axes, f"dmaapx {value}")
        assert list(curve.get_xdata()) == [1, 2, 5, 10, 50]
        expected = [dmaapx.loc[dmaapx["budget"] == k, value].mean() for k in (1, 2, 5, 10, 50)]
        np.testing.assert_allclose(curve.get_ydata(), expected)
        assert to_hex(curve.get_color()).upper() == CURVES[value].colour
    widths = [lines_named(axes, f"dmaapx {value}")[0].get_linewidth() for value in CURVES]
    assert widths[0] == widths[1] > widths[2]


def test_every_budget_endless_too_has_a_marker_at_its_mean_and_a_bar_over_its_seeds(full):
    (axes,) = full.axes
    places = budget_places(list(BUDGETS))
    dmaapx = rows_for(methods=("dmaapx",))
    seeds = [dmaapx.loc[dmaapx["budget"] == k, value] for value in CURVES for k in places]
    where = [place for _ in CURVES for place in places.values()]
    expected = [(place, seed.min(), seed.max()) for place, seed in zip(where, seeds, strict=True)]
    np.testing.assert_allclose(bars_named(axes, "spread"), expected)
    marked = [line for line in axes.lines if line.get_marker() in [look.marker for look in CURVES.values()]]
    points = np.concatenate([line.get_xydata() for line in marked])
    means = [(place, seed.mean()) for place, seed in zip(where, seeds, strict=True)]
    np.testing.assert_allclose(sorted(points.tolist()), sorted(means))


def test_grey_bars_reach_from_test_to_train_and_their_lengths_stand_above(full):
    (axes,) = full.axes
    places, dmaapx = budget_places(list(BUDGETS)), rows_for(methods=("dmaapx",))
    bars = bars_named(axes, "gap")
    means = dmaapx.groupby("budget")[[*REAL, "generalization_gap"]].mean().loc[list(places)]
    np.testing.assert_allclose(bars, np.column_stack([list(places.values()), means[list(REAL)]]))
    top = top_of(axes)
    assert top.get_xticks().tolist() == axes.get_xticks().tolist()
    assert parse_names(top) == [f"{gap:.2f}" for gap in means["generalization_gap"]]


def test_normal_training_is_a_dashed_line_at_its_mean_in_a_band_over_its_seeds(full):
    (axes,) = full.axes
    normal = rows_for(methods=("normal",))
    for value in REAL:
        (line,) = lines_named(axes, f"normal {value}")
        assert set(line.get_ydata()) == {normal[value].mean()} and list(line.get_xdata()) == [0, 1]
        assert line.get_linestyle() == "--" and lines_named(axes, f"dmaapx {value}")[0].get_linestyle() == "-"
        assert to_hex(line.get_color()).upper() == CURVES[value].colour
        (band,) = [patch for patch in axes.patches if patch.get_gid() == f"normal {value}"]
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(
            (normal[value].min(), normal[value].max())
        )
    assert not lines_named(axes, "normal elbo_source")
    assert f"normal training (gap {normal['generalization_gap'].mean():.2f})" in words_in(full)


def test_the_source_curve_is_drawn_where_it_is_finite():
    name = CURVES["elbo_source"].name
    none = picture(rows_for(source=False))
    assert not lines_named(none.axes[0], "dmaapx elbo_source") and name not in words_in(none)
    some = rows_for()
    some.loc[some["budget"] == 2, "elbo_source"] = np.nan
    figure = picture(some)
    (curve,) = lines_named(figure.axes[0], "dmaapx elbo_source")
    assert list(curve.get_xdata()) == [1, 5, 10, 50] and name in words_in(figure)


def test_normal_training_alone_says_that_dmaapx_is_missing():
    figure = picture(rows_for(methods=("normal",)))
    (axes,) = figure.axes
    assert "No DMaaPx trials yet" in words_in(figure)
    assert len(lines_named(axes, "normal elbo_test")) == len(lines_named(axes, "normal elbo_train")) == 1
    assert len(axes.get_yticks()) > 2 and len(axes.get_xticks()) == 0


def test_dmaapx_alone_is_drawn_without_lines_of_normal_training():
    figure = picture(rows_for(methods=("dmaapx",)))
    assert not lines_named(figure.axes[0], "normal elbo_test")
    assert "normal training" not in words_in(figure) and "No DMaaPx" not in words_in(figure)


@pytest.mark.parametrize("budgets", [(0,), (10,), (10, 0), (3, 1)])
def test_an_unfinished_sweep_is_drawn_as_far_as_it_is(budgets):
    figure = picture(rows_for(budgets, seeds=1))
    (axes,) = figure.axes
    assert len(bars_named(axes, "gap")) == len(budgets)
    assert bool(lines_named(axes, "separator")) == (budgets == (10, 0))
    low, high = axes.get_xlim()
    assert all(low < place < high for place in axes.get_xticks())
    assert "1 seed" in words_in(figure)
    assert style.to_bytes(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("budgets", "scale"), [(BUDGETS, 1), ((1, 2, 5, 10, 20, 50, 100, 250, 1000, 0), 500), (tuple(range(1, 40)), 1)]
)
def test_no_text_covers_another_or_is_clipped(budgets, scale):
    rows = rows_for(budgets, scale=scale)
    rows.loc[0, "status"] = "failed"
    figure = picture(rows)
    (axes,) = figure.axes
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    top = top_of(axes)
    texts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, top.xaxis.label, figure._supxlabel]
    texts += [label for panel in (axes, top) for label in panel.get_xticklabels()] + axes.get_yticklabels()
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    boxes.append(axes.get_legend().get_window_extent(renderer))
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert not axes.get_legend().get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))


def test_the_line_below_the_title_states_network_data_epochs_and_seeds(full):
    assert "$n_c$ = 256, $m_z$ = 1; digits, 500 training images, 300 epochs; mean of 3 seeds" in words_in(full)


def test_a_budget_that_never_repeats_is_said_to_be_like_endless(full):
    assert "no sample comes twice either" not in words_in(full)
    assert "From k = 300 (the epochs) on no sample comes twice either" in words_in(picture(rows_for((1, 300, 0))))


def test_failed_trials_and_those_without_a_finite_elbo_are_left_out_and_counted():
    rows = rows_for()
    rows.loc[[0, 4], ["status", "elbo_test"]] = ["failed", -1000.0]
    rows.loc[5, "elbo_train"] = -np.inf
    figure = picture(rows)
    assert f"Left out of {len(rows)} trials: 2 failed, 1 completed without a finite ELBO" in words_in(figure)
    assert "mean of 1 to 3 seeds" in words_in(figure)
    expected = rows.loc[[1, 2], "elbo_test"].mean()
    assert lines_named(figure.axes[0], "normal elbo_test")[0].get_ydata()[0] == expected
    assert bars_named(figure.axes[0], "spread")[:, 1].min() > -100


@pytest.mark.parametrize("rows", [pd.DataFrame(), rows_for().assign(status="failed")])
def test_no_completed_trial_is_one_clear_line(rows):
    with pytest.raises(
        VaegenError, match="^a figure needs at least one completed trial.*; got (no rows|21: 21 failed)"
    ):
        draw(rows)


@pytest.mark.parametrize(("column", "other"), [("dataset", "mnist"), ("nc", 512), ("mz", 2), ("epochs", 100)])
def test_rows_of_two_experiments_are_refused(column, other):
    rows = pd.concat([rows_for(), rows_for().assign(**{column: other})])
    with pytest.raises(SpecError, match=f"must share one {column}; got .*{other}"):
        draw(rows)


@pytest.mark.parametrize("column", ["budget", "elbo_train", "elbo_source", "generalization_gap"])
def test_a_missing_column_is_named(column):
    with pytest.raises(SpecError, match=f"must have the columns .*{column}"):
        draw(rows_for().drop(columns=column))


def test_another_method_is_refused():
    rows = pd.concat([rows_for(), rows_for(methods=("normal",)).assign(method="mollified")])
    with pytest.raises(SpecError, match="must have method normal or dmaapx; got mollified"):
        draw(rows)


@pytest.mark.parametrize(("budget", "shown"), [(-1.0, "-1"), (1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_an_impossible_budget_is_refused_for_dmaapx_and_ignored_for_normal_training(budget, shown):
    rows = rows_for().astype({"budget": float})
    rows.loc[rows["method"] == "normal", "budget"] = budget
    assert "normal training" in words_in(picture(rows))
    rows.loc[rows.index[-1], "budget"] = budget
    with pytest.raises(SpecError, match=f"budget of dmaapx must be a whole number >= 1, or 0 for endless; got {shown}"):
        draw(rows)


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_equal_rows_in_any_order_give_equal_bytes(kind, full):
    again = picture(rows_for().sample(frac=1, random_state=2))
    assert style.to_bytes(again, kind) == style.to_bytes(full, kind)


def test_samples_of_two_diffusion_models_are_not_averaged():
    rows = rows_for()
    rows["samples_digest"] = np.where(rows["method"] == "dmaapx", "a1", None)
    picture(rows)
    rows.loc[rows["budget"] == 5, "samples_digest"] = "b2"
    with pytest.raises(SpecError, match="must share one samples_digest; got a1, b2"):
        draw(rows)
