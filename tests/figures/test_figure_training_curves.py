"""Curves of ELBOs over the epochs: means and spread, what the vertical range shows, turns, and the table beside."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.training_curves import draw

METHODS = ("normal", "dmaapx", "rha", "mollify")
GAPS = {"normal": 4.0, "dmaapx": -0.5}


def tables(methods=("normal", "dmaapx"), seeds=3, epochs=300, evaluations=30, nats=-20.0):
    """Fake trials that are far worse before a tenth of the epochs, and up to the half with fading noise."""
    rows = []
    for method in methods:
        for seed in range(seeds):
            for epoch in np.unique(np.linspace(1, epochs, evaluations).astype(int)):
                poor = epoch < epochs / (2 if "mollify" in method else 10)
                test = nats * (1 + 0.01 * seed + 5 * poor) - epoch / epochs
                gap = GAPS.get(method, 2.0) * epoch / epochs + 0.01 * seed
                rows.append((f"{method}-{seed}", method, seed, float(epoch), test, test + gap, gap))
    varied = ["trial_id", "method", "seed", "effective_epoch", "elbo_test", "elbo_train", "generalization_gap"]
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli", "nc": 256, "mz": 1}
    same |= {"budget": 0, "real_percent": 50, "augment_probability": 0.1, "samples_digest": None}
    curves = pd.DataFrame(rows, columns=varied).assign(**same, status="completed", epochs=epochs, n_train=1000)
    return curves.drop_duplicates("trial_id", keep="last").reset_index(drop=True), curves


def lines_in(axes):
    return {line.get_gid(): line for line in axes.lines}


def turns_in(axes):
    return [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "turn"]


def words_in(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def is_whole(figure):
    """Whether every text lies inside the figure."""
    box = figure.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    return all(figure.bbox.contains(*corner) for corner in (box.min, box.max))


def test_a_line_is_the_mean_over_the_seeds_in_the_colour_of_the_method_within_their_spread():
    last, curves = tables()
    axes = draw(last, curves)["training_curves"].axes[0]
    lines = lines_in(axes)
    assert set(lines) == {f"{method} {value}" for method in GAPS for value in ("elbo_test", "elbo_train")}
    for method in GAPS:
        for value, dashes in (("elbo_test", "-"), ("elbo_train", "--")):
            line = lines[f"{method} {value}"]
            mine = curves[curves["method"] == method].groupby("effective_epoch")[value]
            np.testing.assert_allclose(line.get_xdata(), mine.mean().index)
            np.testing.assert_allclose(line.get_ydata(), mine.mean())
            assert (to_hex(line.get_color()), line.get_linestyle()) == (style.method_colour(method).lower(), dashes)
    shades = [c.get_paths()[0].vertices[:, 1] for c in axes.collections if c.get_gid() == "spread"]
    normal = curves[curves["method"] == "normal"]["elbo_test"]
    assert len(shades) == 4 and any((s.min(), s.max()) == (normal.min(), normal.max()) for s in shades)


@pytest.mark.parametrize("nats", [-20.0, -12000.0])
def test_the_first_epochs_do_not_decide_about_the_range_and_the_picture_says_so(nats):
    last, curves = tables(nats=nats)
    figure = draw(last, curves)["training_curves"]
    low, high = figure.axes[0].get_ylim()
    late = curves[curves["effective_epoch"] >= 60]
    assert 6 * nats < low < late["elbo_test"].min() and late["elbo_train"].max() < high < nats / 2
    assert "what was measured from epoch 60 on; earlier values lie partly outside" in words_in(figure)


def test_with_fading_noise_the_second_half_decides_about_the_range():
    figure = draw(*tables(("normal", "mollify")))["training_curves"]
    assert figure.axes[0].get_ylim()[0] > -30
    assert "from epoch 60 on (with fading noise from 150 on)" in words_in(figure)


def test_a_picture_in_which_nothing_lies_outside_does_not_say_so():
    last, curves = tables()
    figure = draw(last, curves[curves["effective_epoch"] > 60])["training_curves"]
    assert "outside" not in words_in(figure)


@pytest.mark.parametrize(
    ("methods", "epochs", "turns", "named"),
    [
        (("normal", "dmaapx"), 300, [], []),
        (("normal", "dmaapx+rha"), 300, [150], ["RHA: decoder frozen"]),
        (("normal", "mollify"), 300, [150], ["Aug.Mollify: noise has faded"]),
        (METHODS, 300, [150], ["RHA: decoder frozen; Aug.Mollify: noise has faded"]),
        (METHODS, 5, [2, 2.5], ["RHA: decoder frozen", "Aug.Mollify: noise has faded"]),
    ],
)
def test_a_dotted_line_marks_where_methods_turn(methods, epochs, turns, named):
    figure = draw(*tables(methods, epochs=epochs))["training_curves"]
    axes = figure.axes[0]
    assert turns_in(axes) == turns
    assert [text.get_text() for text in axes.texts if text.get_text().startswith(("RHA", "Aug"))] == named
    assert is_whole(figure)


def test_the_table_has_mean_and_spread_over_the_seeds_and_the_best_in_bold():
    last, curves = tables()
    last.loc[last["method"] == "dmaapx", ["elbo_test", "elbo_train"]] += 1
    table = draw(last, curves)["final_elbos"]
    assert table.splitlines()[:4] == [
        "|  | Test ELBO | Train ELBO | Generalization gap | Seeds |",
        "| :-- | --: | --: | --: | --: |",
        "| normal training | -21.20 ± 0.20 | -17.19 ± 0.19 | 4.01 ± 0.01 | 3 |",
        "| DMaaPx | **-20.20 ± 0.20** | -20.69 ± 0.19 | **-0.49 ± 0.01** | 3 |",
    ]
    assert "digits, 1,000 training images, 300 epochs, nc = 256, mz = 1. ELBOs and their gaps in nats" in table


def test_a_single_method_is_not_the_best_of_all():
    assert "**" not in draw(*tables(("normal",)))["final_elbos"]


@pytest.mark.parametrize("epochs", [1, 4, 1000])
@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("methods", [("normal",), (*METHODS, "aug_naive", "dmaapx+rha", "dmaapx+mollify")])
def test_any_number_of_methods_seeds_and_epochs_is_drawn_whole(methods, seeds, epochs):
    figure = draw(*tables(methods, seeds, epochs))["training_curves"]
    assert is_whole(figure)
    low, high = figure.axes[0].get_ylim()
    assert low < high and figure.axes[0].get_xlim()[1] >= epochs
    assert all(float(at).is_integer() for at in figure.axes[0].get_xticks())
    assert ("1 seed" if seeds == 1 else "mean of 5 seeds, shades and bars") in words_in(figure)


def test_missing_seeds_are_drawn_and_failed_trials_left_out_and_counted():
    last, curves = tables()
    last.loc[0, "status"] = "failed"
    last.loc[5, "elbo_test"] = np.nan
    made = draw(last, curves)
    said = "Left out of 6 trials: 1 failed, 1 completed without a finite ELBO"
    assert said in words_in(made["training_curves"]) and said in made["final_elbos"]
    line = lines_in(made["training_curves"].axes[0])["normal elbo_test"]
    kept = curves[curves["trial_id"].isin(["normal-1", "normal-2"])]
    np.testing.assert_allclose(line.get_ydata(), kept.groupby("effective_epoch")["elbo_test"].mean())


@pytest.mark.parametrize("column", ["dataset", "epochs", "nc", "mz", "samples_digest"])
def test_mixed_experiments_are_refused(column):
    last, curves = tables()
    last = last.assign(**{column: "a"})
    last.loc[0, column] = "b"
    with pytest.raises(SpecError, match=f"must share one {column}; got a, b"):
        draw(last, curves)


@pytest.mark.parametrize("column", ["budget", "real_percent", "augment_probability"])
def test_methods_may_differ_in_what_they_train_on_but_the_seeds_of_one_may_not(column):
    last, curves = tables()
    draw(last.assign(**{column: last["method"].eq("normal") * 10}), curves)
    with pytest.raises(SpecError, match=f"seed alone; got trials that also differ in {column} \\(0, 1, 2\\)"):
        draw(last.assign(**{column: last["seed"]}), curves)


def test_a_missing_column_and_missing_rows_are_named():
    last, curves = tables()
    with pytest.raises(SpecError, match="rows of this figure must have the columns .*n_train"):
        draw(last.drop(columns="n_train"), curves)
    with pytest.raises(SpecError, match="curves of this figure must have the columns .*effective_epoch"):
        draw(last, curves.drop(columns="effective_epoch"))
    with pytest.raises(VaegenError, match="at least one completed trial"):
        draw(last.iloc[:0], curves.iloc[:0])
