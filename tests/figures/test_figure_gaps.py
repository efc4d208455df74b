"""The three gaps: lines, brackets and numbers of a panel, what was not measured, Figure 13 and the table beside."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import style
from vaegen_ray.figures.gaps import draw, draw_by_mz

GAPS = {"normal": (4.0, 1.5, 0.4), "dmaapx": (0.5, 0.2, 0.3), "aug_tuned": (1.0, 0.6, 0.2)}
"""Generalization, amortization and robustness gap at the end."""
SEVEN = (*GAPS, "aug_naive", "rha", "dmaapx+rha", "dmaapx+mollify")


def tables(methods=tuple(GAPS), seeds=3, epochs=300, scale=1.0, sizes=(1,)):
    """Fake trials whose gaps grow with the epochs; a seed changes all numbers a little, a larger mz halves the gaps."""
    rows = []
    for method, mz, seed in ((method, mz, seed) for method in methods for mz in sizes for seed in range(seeds)):
        for epoch in np.unique(np.linspace(1, epochs, 8).astype(int)):
            grown = epoch / epochs / (1 + (mz > 1))
            general, amortized, robust = (gap * grown + 0.01 * seed for gap in GAPS.get(method, (2.0, 1.0, 0.3)))
            test, similar = -20 + mz / 10 + 0.1 * seed, 0.9 - 0.01 * seed
            elbos = [scale * x for x in (test, test + general, general, amortized, test + 0.3 + amortized, test - 1)]
            row = (f"{method}-{mz}-{seed}", method, mz, seed, float(epoch), *elbos)
            rows.append((*row, robust, similar, similar - robust))
    varied = ["trial_id", "method", "mz", "seed", "effective_epoch"]
    varied += ["elbo_test", "elbo_train", "generalization_gap", "amortization_gap", "elbo_optimal", "elbo_source"]
    varied += ["robustness_gap", "ms_ssim_input", "ms_ssim_reconstruction"]
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli", "nc": 256}
    same |= {"budget": 0, "real_percent": 50, "augment_probability": 0.1, "samples_digest": None}
    return both(pd.DataFrame(rows, columns=varied).assign(**same, status="completed", epochs=epochs, n_train=1000))


def both(curves):
    """The last row of every trial, and all rows."""
    return curves.drop_duplicates("trial_id", keep="last").reset_index(drop=True), curves


def without(curves, gap, where):
    """``curves`` with a gap and what it is made of not measured in some rows."""
    made_of = {
        "amortization_gap": ["amortization_gap", "elbo_optimal"],
        "robustness_gap": ["robustness_gap", "ms_ssim_input", "ms_ssim_reconstruction"],
    }
    curves = curves.copy()
    curves.loc[where, made_of[gap]] = np.nan
    return curves


def lines_in(axes):
    return {line.get_gid(): line for line in axes.lines}


def numbers_of(figure):
    """Numbers below the panels: a column a panel that has any, of (text, bold), from above."""
    texts = sorted((t for t in figure.texts if t.get_ha() == "right"), key=lambda t: -t.get_position()[1])
    columns = sorted({t.get_position()[0] for t in texts})
    return [[(t.get_text(), t.get_weight() == "bold") for t in texts if t.get_position()[0] == x] for x in columns]


def words_in(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def is_whole(figure):
    """Whether every text lies inside the figure."""
    texts = [text.get_window_extent() for each in (figure, *figure.axes) for text in each.texts]
    box = figure.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    return all(figure.bbox.contains(*corner) for each in (box, *texts) for corner in (each.min, each.max))


@pytest.fixture(scope="module")
def made():
    return draw(*tables())


PANELS = [
    ("elbo_test", "elbo_train", "generalization_gap"),
    ("elbo_encoder", "elbo_optimal", "amortization_gap"),
    ("ms_ssim_reconstruction", "ms_ssim_input", "robustness_gap"),
]


def test_each_panel_has_a_solid_and_a_dashed_mean_a_method_and_their_distance_as_a_bracket(made):
    last, curves = tables()
    curves = curves.assign(elbo_encoder=curves["elbo_optimal"] - curves["amortization_gap"])
    for axes, (solid, dashed, gap) in zip(made["generalization_gaps"].axes, PANELS, strict=True):
        lines = lines_in(axes)
        for method in GAPS:
            mine = curves[curves["method"] == method].groupby("effective_epoch")
            for value, look in ((solid, "-"), (dashed, "--")):
                line = lines[f"{method} {value}"]
                np.testing.assert_allclose(line.get_ydata(), mine[value].mean())
                assert (to_hex(line.get_color()), line.get_linestyle()) == (style.method_colour(method).lower(), look)
            bracket = lines[f"{method} gap"]
            expected = last.loc[last["method"] == method, gap].mean()
            np.testing.assert_allclose(np.diff(bracket.get_ydata()), expected)
            assert to_hex(bracket.get_color()) == style.method_colour(method).lower()
            assert 300 < bracket.get_xdata()[0] == bracket.get_xdata()[1] < axes.get_xlim()[1]
        assert len({lines[f"{method} gap"].get_xdata()[0] for method in GAPS}) == len(GAPS)


def test_the_amortization_panel_shows_the_elbo_of_the_encoder_on_the_same_images(made):
    lines = lines_in(made["generalization_gaps"].axes[1])
    np.testing.assert_allclose(lines["normal elbo_encoder"].get_ydata(), -20 + 0.1 + 0.1 + 0.3)


def test_numbers_below_the_panels_are_the_gaps_with_the_smallest_in_bold(made):
    figure = made["generalization_gaps"]
    assert numbers_of(figure) == [
        [("4.01 ± 0.01", False), ("1.01 ± 0.01", False), ("0.51 ± 0.01", True)],
        [("1.51 ± 0.01", False), ("0.61 ± 0.01", False), ("0.21 ± 0.01", True)],
        [("0.41 ± 0.01", False), ("0.21 ± 0.01", True), ("0.31 ± 0.01", False)],
    ]
    names = [t.get_text() for t in figure.texts if t.get_ha() == "left"]
    assert names == ["Gap at the last measurement", "normal training", "Aug.Tuned", "DMaaPx"]


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize(("epochs", "scale"), [(1, 1.0), (4, 600.0), (1000, 600.0)])
@pytest.mark.parametrize("methods", [("normal",), SEVEN])
def test_no_text_below_the_panels_covers_another_or_is_cut(methods, epochs, scale, seeds):
    last, curves = tables(methods, seeds, epochs, scale)
    failed = last.assign(status="failed", trial_id="failed")  # for a footnote
    figure = draw(pd.concat([last, failed]), curves)["generalization_gaps"]
    assert is_whole(figure) and len(numbers_of(figure)) == 3 and "Left out" in words_in(figure)
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [axes.xaxis.label.get_window_extent() for axes in figure.axes]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_a_gap_that_nobody_measured_leaves_an_empty_panel_that_says_so():
    last, curves = both(without(tables()[1], "robustness_gap", slice(None)))
    made = draw(last, curves)
    axes = made["generalization_gaps"].axes
    notes = [[text.get_text() for text in panel.texts if "was measured" in text.get_text()] for panel in axes]
    assert notes == [[], [], ["No robustness gap\nwas measured"]] and not axes[2].lines
    assert len(numbers_of(made["generalization_gaps"])) == 2 and is_whole(made["generalization_gaps"])
    assert "| normal training | 4.01 ± 0.01 | 1.51 ± 0.01 | – |" in made["gaps"]


def test_a_gap_measured_at_one_epoch_is_a_bracket_a_method_between_its_two_ends():
    curves = tables()[1]
    last, curves = both(without(curves, "amortization_gap", curves["effective_epoch"] < 300))
    figure = draw(last, curves)["generalization_gaps"]
    axes = figure.axes[1]
    lines = lines_in(axes)
    assert axes.get_xlabel() == "At epoch 300" and len({lines[f"{m} gap"].get_xdata()[0] for m in GAPS}) == 3
    for method in GAPS:
        mine = last[last["method"] == method]
        ends = [(mine["elbo_optimal"] - mine["amortization_gap"]).mean(), mine["elbo_optimal"].mean()]
        np.testing.assert_allclose(lines[f"{method} gap"].get_ydata(), ends)
        np.testing.assert_allclose(lines[f"{method} elbo_encoder"].get_ydata(), ends[:1])
        assert to_hex(lines[f"{method} elbo_optimal"].get_markerfacecolor()) == "#ffffff"
    assert numbers_of(figure)[1][0] == ("1.51 ± 0.01", False) and is_whole(figure)


def test_a_gap_measured_for_a_while_ends_where_it_was_measured_last():
    curves = tables()[1]
    late = (curves["method"] == "dmaapx") & (curves["effective_epoch"] > 200)
    last, curves = both(without(curves, "amortization_gap", late))
    made = draw(last, curves)
    known = curves[(curves["method"] == "dmaapx") & curves["amortization_gap"].notna()]
    expected = known[known["effective_epoch"] == known["effective_epoch"].max()]["amortization_gap"].mean()
    bracket = lines_in(made["generalization_gaps"].axes[1])["dmaapx gap"]
    np.testing.assert_allclose(np.diff(bracket.get_ydata()), expected)
    assert numbers_of(made["generalization_gaps"])[1][2] == (f"{expected:.2f} ± 0.01", True)
    assert "| DMaaPx | **0.51 ± 0.01** | – |" in made["gaps"]


def test_a_gap_that_some_methods_or_seeds_lack_is_a_dash_and_a_count():
    curves = tables()[1]
    some = (curves["method"] == "dmaapx") | (curves["trial_id"] == "normal-1-0")
    made = draw(*both(without(curves, "amortization_gap", some)))
    assert [text for text, _ in numbers_of(made["generalization_gaps"])[1]] == ["1.52 ± 0.01", "0.61 ± 0.01", "–"]
    assert "| normal training | 4.01 ± 0.01 | 1.52 ± 0.01 (2) |" in made["gaps"]
    assert "In brackets: how many seeds have the number, where not all do" in made["gaps"]
    assert "In brackets" not in draw(*tables())["gaps"]


def test_a_gap_far_below_zero_is_not_the_smallest():
    curves = tables()[1]
    curves.loc[curves["method"] == "normal", "generalization_gap"] *= -1
    column = numbers_of(draw(*both(curves))["generalization_gaps"])[0]
    assert column == [("-4.01 ± 0.01", False), ("1.01 ± 0.01", False), ("0.51 ± 0.01", True)]


def test_the_table_bolds_the_gap_nearest_to_zero_and_the_highest_elbo():
    last, curves = tables()
    last.loc[last["method"] == "dmaapx", "generalization_gap"] *= -1
    last.loc[last["method"] == "aug_tuned", "elbo_test"] += 0.5
    assert draw(last, curves)["gaps"].splitlines()[2:5] == [
        "| normal training | 4.01 ± 0.01 | 1.51 ± 0.01 | 0.41 ± 0.01 | -19.80 ± 0.10 | 3 |",
        "| Aug.Tuned | 1.01 ± 0.01 | 0.61 ± 0.01 | **0.21 ± 0.01** | **-19.30 ± 0.10** | 3 |",
        "| DMaaPx | **-0.51 ± 0.01** | **0.21 ± 0.01** | 0.31 ± 0.01 | -19.80 ± 0.10 | 3 |",
    ]


def test_the_elbo_on_what_is_trained_on_is_dotted_and_said_to_make_no_gap(made):
    figure, (_, curves) = made["elbo_source"], tables()
    lines = lines_in(figure.axes[0])
    for method in GAPS:
        mine = curves[curves["method"] == method].groupby("effective_epoch")
        for value in ("elbo_test", "elbo_source"):
            np.testing.assert_allclose(lines[f"{method} {value}"].get_ydata(), mine[value].mean())
        assert lines[f"{method} elbo_test"].get_linestyle() == "-"
        assert lines[f"{method} elbo_source"].get_linestyle() not in ("-", lines["normal elbo_test"].get_linestyle())
    assert "images of different distributions" in words_in(figure)
    assert "their distance is no generalization gap" in words_in(figure) and is_whole(figure)


def test_by_mz_the_panels_have_a_line_and_a_colour_for_each_mz():
    last, curves = tables(("normal",), sizes=(1, 2, 4, 8, 16, 32, 64))
    made = draw_by_mz(last, curves)
    assert list(made) == ["gaps_by_mz"]
    figure = made["gaps_by_mz"]
    lines = lines_in(figure.axes[0])
    at_four = curves[curves["mz"] == 4].groupby("effective_epoch")["elbo_train"].mean()
    np.testing.assert_allclose(lines["4 elbo_train"].get_ydata(), at_four)
    assert len({lines[f"{mz} elbo_test"].get_color() for mz in (1, 2, 4, 8, 16, 32, 64)}) == 7
    names = [t.get_text() for t in figure.texts if t.get_ha() == "left"]
    assert names[1:4] == ["$m_z$ = 1", "$m_z$ = 2", "$m_z$ = 4"]
    assert numbers_of(figure)[0][:2] == [("4.01 ± 0.01", False), ("2.01 ± 0.01", True)]
    assert "normal training" in words_in(figure) and "$m_z$ = 1;" not in words_in(figure) and is_whole(figure)


def test_by_mz_trials_without_the_further_gaps_are_of_other_figures():
    """A sweep over both axes measures them for some of its VAEs alone."""
    last, curves = tables(("normal",), sizes=(1, 8))
    others, other_curves = (frame.assign(nc=512, mz=8, trial_id="other") for frame in (last[:1], curves[:2]))
    for frame in (others, other_curves):
        frame[["amortization_gap", "robustness_gap"]] = np.nan
    made = draw_by_mz(pd.concat([last, others]), pd.concat([curves, other_curves]))
    alone = draw_by_mz(last, curves)
    assert words_in(made["gaps_by_mz"]) == words_in(alone["gaps_by_mz"])


def test_by_mz_is_of_one_method_and_by_method_of_one_mz():
    with pytest.raises(SpecError, match="must share one method; got dmaapx, normal"):
        draw_by_mz(*tables(("normal", "dmaapx")))
    with pytest.raises(SpecError, match="must share one mz; got 1, 2"):
        draw(*tables(sizes=(1, 2)))


def test_failed_trials_are_left_out_and_counted_everywhere():
    last, curves = tables()
    last.loc[0, "status"] = "failed"
    made = draw(last, curves)
    said = "Left out of 9 trials: 1 failed"
    assert said in made["gaps"] and all(said in words_in(made[stem]) for stem in ("generalization_gaps", "elbo_source"))
    assert "| normal training | 4.01 ± 0.01 |" in made["gaps"] and "| 2 |" in made["gaps"]


def test_a_missing_column_is_named():
    last, curves = tables()
    with pytest.raises(SpecError, match="must have the columns .*ms_ssim_input"):
        draw(last.drop(columns="ms_ssim_input"), curves)


@pytest.mark.parametrize("stem", ["generalization_gaps", "elbo_source"])
def test_equal_rows_in_any_order_give_equal_bytes(stem, made):
    last, curves = (frame.sample(frac=1, random_state=1) for frame in tables())
    assert style.to_bytes(draw(last, curves)[stem], "png") == style.to_bytes(made[stem], "png")
