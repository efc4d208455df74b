"""log q along lines: which pairs, seeds and scale are drawn, and the table beside."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.lines import draw

METHODS = ("normal", "dmaapx")


def trials(methods=METHODS, seeds=(0, 1, 2), **columns):
    rows = [
        {
            **{"trial_id": f"{method}-{seed}", "method": method, "seed": seed},
            **{"latent_log_q": 4.0 * place - seed, "latent_variation": 60.0 - 20 * place + seed},
        }
        for place, method in enumerate(methods)
        for seed in seeds
    ]
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli", "n_train": 500}
    same |= {"epochs": 300, "nc": 256, "mz": 1, "image_shape": json.dumps((1, 8, 8)), "status": "completed"}
    return pd.DataFrame(rows).assign(**same, elbo_test=-20.0).assign(**columns)


def log_q(method, seed, pair, points=21):
    """Another curve for every trial and pair."""
    return len(method) - 3 * seed + pair - 8 * np.sin(np.pi * np.linspace(0, 1, points)) * (1 + pair / 9)


def details_of(rows, pairs=20, scale=1.0, points=21):
    lines = [
        (row.trial_id, "log_q", f"pair-{pair}", list(scale * log_q(row.method, row.seed, pair, points)))
        for row in rows.itertuples()
        for pair in range(pairs)
    ]
    lines.append((rows["trial_id"].iloc[0], "accuracy", "fog/knn", [0.5]))
    return pd.DataFrame(lines, columns=["trial_id", "quantity", "item", "values"])


def picture(rows, **how):
    return draw(rows, details_of(rows, **how))["latent_smoothness"]


def line(axes, method, pair):
    (found,) = [line for line in axes.lines if line.get_gid() == f"{method} pair-{pair}"]
    return found


def words_in(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_a_panel_a_pair_and_a_line_a_method_of_the_lowest_seed():
    rows = trials()
    figure = draw(rows, details_of(rows).sample(frac=1, random_state=1))["latent_smoothness"]
    assert len(figure.axes) == 6  # the first six pairs: pair-10 comes after pair-9
    for pair, axes in enumerate(figure.axes):
        assert len(axes.lines) == len(METHODS)
        for method in METHODS:
            curve = line(axes, method, pair)
            np.testing.assert_allclose(curve.get_ydata(), log_q(method, 0, pair))
            np.testing.assert_allclose(curve.get_xdata(), np.linspace(0, 1, 21))
            assert to_hex(curve.get_color()).upper() == style.method_colour(method).upper()
        assert axes.get_title() == f"test images {2 * pair + 1} to {2 * pair}"
        assert axes.get_yscale() == "linear"
    said = words_in(figure)
    assert "digits, 500 training images, 300 epochs; seed 0" in said
    assert "normal training" in said and "DMaaPx" in said


def test_methods_share_a_seed_where_they_can():
    rows = trials()
    figure = picture(rows[rows["trial_id"] != "normal-0"])
    assert "seed 1" in words_in(figure)
    for method in METHODS:
        np.testing.assert_allclose(line(figure.axes[0], method, 0).get_ydata(), log_q(method, 1, 0))
    rows = rows[(rows["method"] == "normal") == (rows["seed"] == 2)]
    figure = picture(rows)
    assert "the lowest seed of each method" in words_in(figure)
    np.testing.assert_allclose(line(figure.axes[0], "normal", 0).get_ydata(), log_q("normal", 2, 0))
    np.testing.assert_allclose(line(figure.axes[0], "dmaapx", 0).get_ydata(), log_q("dmaapx", 0, 0))


@pytest.mark.parametrize(("pairs", "columns"), [(1, 1), (2, 2), (4, 3), (5, 3)])
def test_few_pairs_have_few_panels(pairs, columns):
    figure = picture(trials(seeds=(0,)), pairs=pairs)
    assert len(figure.axes) == pairs
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns
    labelled = [axes.get_xlabel() != "" for axes in figure.axes]
    assert labelled == [place + columns >= pairs for place in range(pairs)]


def test_values_far_away_are_drawn_on_a_logarithmic_scale_that_shows_them_all():
    rows = trials()
    details = details_of(rows)
    far = (details["trial_id"] == "normal-0") & (details["item"] == "pair-1")
    details.loc[far, "values"] = pd.Series([[-1e5] * 21] * len(details))
    figure = draw(rows, details)["latent_smoothness"]
    for axes in figure.axes:
        assert axes.get_yscale() == "symlog"
        low, high = axes.get_ylim()
        drawn = np.concatenate([curve.get_ydata() for curve in axes.lines])
        assert low < drawn.min() and drawn.max() < high
    ticks = [tick for tick in figure.axes[1].get_yticks() if figure.axes[1].get_ylim()[0] <= tick <= 0]
    assert ticks == [-100000, -10000, -1000, -100, -10, 0]


def test_gaps_are_left_where_log_q_is_not_finite():
    rows = trials(seeds=(0,))
    details = details_of(rows, pairs=1)
    details.loc[0, "values"][3] = np.nan
    curve = line(draw(rows, details)["latent_smoothness"].axes[0], "normal", 0)
    assert np.isnan(curve.get_ydata()).nonzero()[0].tolist() == [3]


def test_the_table_has_both_measures_by_method_and_the_better_one_bold():
    rows = trials()
    log_q_line, variation = draw(rows, details_of(rows))["smoothness"].splitlines()[2:4]
    assert log_q_line == "| mean log q along a line (nats) (↑) | -1.00 ± 1.00 | **3.00 ± 1.00** |"
    assert variation == "| total variation of log q along a line (nats) (↓) | 61.00 ± 1.00 | **41.00 ± 1.00** |"
    assert "over 3 seeds" in draw(rows, details_of(rows))["smoothness"]


def test_parts_without_data_are_left_out():
    rows = trials()
    unmeasured = rows.assign(latent_log_q=np.nan, latent_variation=np.nan)
    assert list(draw(rows, details_of(rows))) == ["latent_smoothness", "smoothness"]
    assert list(draw(rows, pd.DataFrame())) == list(draw(rows, details_of(rows, pairs=0))) == ["smoothness"]
    assert list(draw(unmeasured, details_of(rows))) == ["latent_smoothness"]
    with pytest.raises(VaegenError, match="needs trials with smoothness measured; got 6 trials without$"):
        draw(unmeasured.drop(columns="latent_variation"), details_of(rows, pairs=0))


@pytest.mark.parametrize(
    ("methods", "scale"),
    [(("normal",), 1), (METHODS, 1e4), (("normal", "dmaapx", "aug_naive", "dmaapx+rha", "dmaapx+mollify"), 50)],
)
def test_no_text_covers_another_or_is_clipped(methods, scale):
    rows = trials(methods)
    lost = rows.iloc[:1].assign(trial_id="lost", status="failed")
    details = details_of(rows, scale=scale)
    figure = draw(pd.concat([rows, lost]), details)["latent_smoothness"]
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [figure._supxlabel]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, axes.title]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    assert len(figure.legends) == 1
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert f"Left out of {len(rows) + 1} trials: 1 failed" in words_in(figure)


def test_equal_rows_in_any_order_give_equal_bytes():
    rows = trials()
    again = draw(rows.sample(frac=1, random_state=2), details_of(rows).sample(frac=1, random_state=3))
    assert style.to_bytes(again["latent_smoothness"], "png") == style.to_bytes(picture(rows), "png")


def test_rows_of_two_experiments_and_two_trials_of_a_seed_are_refused():
    with pytest.raises(SpecError, match="must share one mz; got 1, 2"):
        picture(trials(mz=[1, 1, 1, 1, 1, 2]))
    with pytest.raises(SpecError, match="one trial a seed; got several with method normal, seed 0"):
        picture(pd.concat([trials(), trials(("normal",), (0,)).assign(trial_id="other")]))
    with pytest.raises(VaegenError, match="^a figure needs at least one completed trial"):
        draw(pd.DataFrame(), pd.DataFrame())
