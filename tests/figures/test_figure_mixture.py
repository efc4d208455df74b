"""Figures of real and synthetic images together: where curves, lines and bars stand, and which rows are refused."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.mixture import draw_mix, draw_more_real, draw_subsets, real_worth

SEEDS = 3
SAME = {
    **{"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli", "n_train": 500},
    **{"epochs": 300, "nc": 256, "mz": 1, "status": "completed", "budget": 0, "real_percent": 50},
    **{"augment_probability": 0.1, "stream": None, "samples_digest": None, "two_sample_accuracy": np.nan},
}


def frame(points, seeds=SEEDS, scale=1.0):
    """Fake finished trials of ``points``: (test ELBO, gap, columns); every seed has other numbers."""
    rows = []
    for test, gap, columns in points:
        for seed in range(seeds):
            at, gap_at = scale * (test + 0.1 * seed**2), scale * (gap + 0.02 * seed)
            elbos = {"elbo_test": at, "elbo_train": at + gap_at, "generalization_gap": gap_at}
            rows.append({**SAME, "seed": seed, **elbos, **columns})
    return pd.DataFrame(rows)


def mixtures(percents=(20, 50), **how):
    points = []
    for tail, better in (("", 0.0), ("+aug_tuned", 0.3)):
        for percent in percents:
            mix = {"method": "mix" + tail, "real_percent": percent}
            points.append((-19 - percent / 50 + better, percent / 40, mix))
        points.append((-18.5 + better, 0.1, {"method": "dmaapx" + tail}))
        points.append((-21.2 + better, 2.4, {"method": "aug_tuned" if tail else "normal"}))
    return frame(points, **how)


def subsets(parts=(50, 250, 500), accuracy=True, **how):
    points = [(-21.0, 2.0, {"method": "normal"})]
    for part in parts:
        stream = json.dumps({"diffusion": {"n_train": part, "dataset": "digits"}, "shard_size": 2000})
        points.append((-22 + part / 200, 0.2, {"method": "dmaapx", "stream": stream, "samples_digest": f"of-{part}"}))
    rows = frame(points, **how)
    if accuracy:
        fake = rows["method"] == "dmaapx"
        seen = [json.loads(stream)["diffusion"]["n_train"] for stream in rows.loc[fake, "stream"]]
        rows.loc[fake, "two_sample_accuracy"] = 0.95 - np.array(seen) / 2000 + 0.01 * rows.loc[fake, "seed"]
    return rows


def more(reals=(2, 4), budgets=(1, 10, 0), stopped=True, **how):
    points = [(-21.0, 2.0, {"method": "normal"})]
    points += [(-21 + k / 2, 2 / k, {"method": "more_real", "budget": k}) for k in reals]
    points += [(-21.5 if k == 1 else -19.5, 0.3, {"method": "dmaapx", "budget": k}) for k in budgets]
    points += [(-20.6, 0.9, {"method": "early_stopping"})] if stopped else []
    return frame(points, **how)


DRAWN = {
    "real_synthetic_mix": (draw_mix, mixtures),
    "diffusion_subsets": (draw_subsets, subsets),
    "more_real_data": (draw_more_real, more),
}
EVERY = pytest.mark.parametrize("stem", DRAWN)


def picture(stem, rows):
    pictures = DRAWN[stem][0](rows)
    assert list(pictures) == [stem]
    return pictures[stem]


def line(axes, gid):
    (found,) = [line for line in axes.lines if line.get_gid() == gid]
    return found


def spreads(axes):
    """All vertical bars of a panel as sorted rows of x, low, high."""
    bars = [bar for c in axes.collections if c.get_gid() == "spread" for bar in c.get_segments()]
    return sorted([bar[0, 0], bar[:, 1].min(), bar[:, 1].max()] for bar in bars)


def words_in(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_a_mixture_runs_from_dmaapx_at_0_to_real_images_at_100_per_cent():
    rows = mixtures()
    elbos, gaps = picture("real_synthetic_mix", rows).axes
    for curve, methods in {
        "mix": ("dmaapx", "mix", "mix", "normal"),
        "mix+aug_tuned": ("dmaapx+aug_tuned", "mix+aug_tuned", "mix+aug_tuned", "aug_tuned"),
    }.items():
        for axes, value in ((elbos, "elbo_test"), (elbos, "elbo_train"), (gaps, "generalization_gap")):
            drawn = line(axes, f"{curve} {value}")
            assert list(drawn.get_xdata()) == [0, 20, 50, 100]
            percents = zip(methods, (50, 20, 50, 50), strict=True)
            of_points = [rows[(rows["method"] == m) & (rows["real_percent"] == x)][value].mean() for m, x in percents]
            np.testing.assert_allclose(drawn.get_ydata(), of_points)
            assert to_hex(drawn.get_color()).upper() == style.method_colour(curve).upper()
    assert line(elbos, "mix elbo_test").get_linestyle() == "-"
    assert line(elbos, "mix elbo_train").get_linestyle() == "--"
    assert style.method_colour("mix") != style.method_colour("mix+aug_tuned")


def test_bars_of_a_mixture_reach_from_the_lowest_to_the_highest_seed():
    rows = mixtures()
    _, gaps = picture("real_synthetic_mix", rows).axes
    places = {"dmaapx": 0, "dmaapx+aug_tuned": 0, "normal": 100, "aug_tuned": 100}
    expected = [
        [places.get(method, percent), of_point.min(), of_point.max()]
        for (method, percent), of_point in rows.groupby(["method", "real_percent"])["generalization_gap"]
    ]
    np.testing.assert_allclose(spreads(gaps), sorted(expected))


def test_the_test_elbo_of_dmaapx_is_a_dotted_line_through_the_mixtures():
    rows = mixtures()
    reference = line(picture("real_synthetic_mix", rows).axes[0], "dmaapx")
    assert set(reference.get_ydata()) == {rows[rows["method"] == "dmaapx"]["elbo_test"].mean()}
    figure = picture("real_synthetic_mix", rows[rows["method"] != "dmaapx"])
    assert not [drawn for drawn in figure.axes[0].lines if drawn.get_gid() == "dmaapx"]
    assert "of DMaaPx" not in words_in(figure)


def test_a_mixture_without_augmented_trials_is_drawn_without_their_curve():
    figure = picture("real_synthetic_mix", mixtures().query("not method.str.contains('aug')"))
    assert "with Aug.Tuned" not in words_in(figure) and "without augmentation" in words_in(figure)


def test_subsets_stand_at_the_per_cent_of_the_training_set_that_the_diffusion_model_saw():
    rows = subsets()
    elbos, _ = picture("diffusion_subsets", rows).axes
    for value in ("elbo_test", "elbo_train"):
        curve, level = line(elbos, f"dmaapx {value}"), line(elbos, f"normal {value}")
        assert list(curve.get_xdata()) == [10, 50, 100]
        of_parts = [rows[rows["samples_digest"] == f"of-{part}"][value].mean() for part in (50, 250, 500)]
        np.testing.assert_allclose(curve.get_ydata(), of_parts)
        normal = rows[rows["method"] == "normal"][value]
        assert set(level.get_ydata()) == {normal.mean()}
        (band,) = [patch for patch in elbos.patches if patch.get_gid() == f"normal {value}"]
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((normal.min(), normal.max()))
        assert to_hex(level.get_color()) != to_hex(curve.get_color())


def test_a_model_that_saw_more_than_the_training_set_stands_beyond_100_per_cent():
    elbos, accuracies = picture("diffusion_subsets", subsets((500, 1000))).axes
    assert list(line(elbos, "dmaapx elbo_test").get_xdata()) == [100, 200]
    assert elbos.get_xlim() == accuracies.get_xlim() and elbos.get_xlim()[1] > 200


def test_two_sample_accuracies_have_bars_of_1_96_standard_deviations_and_a_line_at_chance():
    rows = subsets()
    figure = picture("diffusion_subsets", rows)
    _, accuracies = figure.axes
    by_part = rows.dropna(subset=["two_sample_accuracy"]).groupby("samples_digest")["two_sample_accuracy"]
    mean, reach = by_part.mean()[["of-50", "of-250", "of-500"]], 1.96 * by_part.std()
    np.testing.assert_allclose(line(accuracies, "accuracy").get_ydata(), mean)
    expected = [[x, mean[d] - reach[d], mean[d] + reach[d]] for x, d in zip((10, 50, 100), mean.index, strict=True)]
    np.testing.assert_allclose(spreads(accuracies), expected)
    assert set(line(accuracies, "chance").get_ydata()) == {0.5}
    low, high = accuracies.get_ylim()
    assert low < 0.5 < high and "±1.96 standard deviations" in words_in(figure)


def test_a_single_seed_has_no_standard_deviation():
    figure = picture("diffusion_subsets", subsets(seeds=1))
    assert "1.96" not in words_in(figure) and "chance" in words_in(figure)


@pytest.mark.parametrize("rows", [subsets(accuracy=False), subsets(()), subsets().drop(columns="samples_digest")])
def test_partial_subsets_are_drawn_as_far_as_they_are(rows):
    figure = picture("diffusion_subsets", rows)
    assert ("No two-sample tests yet" in words_in(figure)) == bool(rows["two_sample_accuracy"].isna().all())
    assert ("No DMaaPx trials yet" in words_in(figure)) == bool((rows["method"] == "normal").all())


def test_samples_of_two_models_with_equally_many_images_are_not_averaged():
    rows = subsets()
    rows.loc[rows["samples_digest"] == "of-250", "samples_digest"] = ["a", "a", "b"]
    with pytest.raises(SpecError, match="must share one samples_digest; got a, b"):
        draw_subsets(rows)


def test_normal_training_is_the_first_point_of_real_images_and_endless_stands_apart():
    rows = more()
    figure = picture("more_real_data", rows)
    for axes, value in zip(figure.axes, ("elbo_test", "generalization_gap"), strict=True):
        real, fake = line(axes, f"normal {value}"), line(axes, f"dmaapx {value}")
        assert list(real.get_xdata()) == [1, 2, 4] and list(fake.get_xdata()) == [1, 10]
        of_k = [
            rows[(rows["method"] == method) & (rows["budget"] == k)][value].mean()
            for method, k in (("normal", 0), ("more_real", 2), ("more_real", 4), ("dmaapx", 1), ("dmaapx", 10))
        ]
        np.testing.assert_allclose([*real.get_ydata(), *fake.get_ydata()], of_k)
        (at, low, high) = spreads(axes)[-1]
        endless = rows[(rows["method"] == "dmaapx") & (rows["budget"] == 0)][value]
        assert at > 15 and (low, high) == pytest.approx((endless.min(), endless.max()))
        assert 10 < line(axes, "separator").get_xdata()[0] < at < axes.get_xlim()[1]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "10", "∞"]
        stopped = rows[rows["method"] == "early_stopping"][value].mean()
        assert set(line(axes, f"early_stopping {value}").get_ydata()) == {stopped}


def test_early_stopping_is_named_only_where_it_is():
    assert "early stopping" in words_in(picture("more_real_data", more()))
    assert "early stopping" not in words_in(picture("more_real_data", more(stopped=False)))


@pytest.mark.parametrize(
    ("elbo", "k"),
    [(-21.0, 1.0), (-20.0, 2.0), (-19.5, np.sqrt(2 * 4)), (-19.0, 4.0), (-18.9, np.inf), (-21.1, 0.0)],
)
def test_what_synthetic_data_are_worth_is_read_off_the_curve_of_real_images(elbo, k):
    assert real_worth([1, 2, 4], [-21.0, -20.0, -19.0], elbo) == pytest.approx(k)


def test_a_curve_that_falls_again_gives_the_smallest_k():
    assert real_worth([1, 2, 4, 8], [-21.0, -20.0, -20.5, -19.0], -20.0) == pytest.approx(2)
    assert real_worth([1, 2, 4, 8], [-21.0, -20.0, -20.5, -19.0], -19.5) == pytest.approx(4 * 2 ** (2 / 3))


@pytest.mark.parametrize(
    ("budgets", "reals", "said"),
    [
        ((1, 10, 0), (2, 4), r"endless samples are worth 2.8 $|D_{train}|$ of real images"),
        ((1, 10), (2, 4), r"10 $|D_{train}|$ samples are worth 2.8 $|D_{train}|$ of real images"),
        ((1,), (2, 4), "are worth less than 1 $|D"),
        ((0,), (2,), "are worth more than 2 $|D"),
    ],
)
def test_the_footnote_says_what_the_largest_budget_is_worth(budgets, reals, said):
    # k = 2 and 4 have -20 and -19, so -19.5 lies half-way between their logarithms.
    assert said in words_in(picture("more_real_data", more(reals, budgets)))


@pytest.mark.parametrize("how", [{"reals": ()}, {"budgets": ()}, {"reals": (), "budgets": ()}])
def test_partial_rows_of_real_images_say_nothing_of_worth(how):
    assert "worth $" not in words_in(picture("more_real_data", more(**how)))
    assert " are worth " not in words_in(picture("more_real_data", more(**how)))


@EVERY
@pytest.mark.parametrize(("scale", "seeds"), [(1, 1), (550, 5)])
def test_no_text_covers_another_or_is_clipped(stem, scale, seeds):
    rows = DRAWN[stem][1](scale=scale, seeds=seeds)
    rows.loc[0, "status"] = "failed"
    figure = picture(stem, pd.concat([rows, rows.iloc[1:2].assign(elbo_test=np.nan)]))
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [figure._supxlabel]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    legends = figure.legends
    assert len(legends) == 1
    boxes += [legend.get_window_extent(renderer) for legend in legends]
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert not any(legend.get_window_extent(renderer).overlaps(axes.bbox) for legend in legends for axes in figure.axes)
    assert f"Left out of {len(rows) + 1} trials: 1 failed, 1 completed without a finite ELBO" in words_in(figure)


@EVERY
def test_the_line_below_the_title_states_network_data_epochs_and_seeds(stem):
    said = words_in(picture(stem, DRAWN[stem][1]()))
    assert "$n_c$ = 256, $m_z$ = 1; digits, 500 training images, 300 epochs; mean of 3 seeds" in said


@EVERY
def test_missing_seeds_are_said(stem):
    assert "mean of 2 to 3 seeds" in words_in(picture(stem, DRAWN[stem][1]().drop(index=1)))


@EVERY
def test_equal_rows_in_any_order_give_equal_bytes(stem):
    rows = DRAWN[stem][1]()
    again = picture(stem, rows.sample(frac=1, random_state=2))
    assert style.to_bytes(again, "png") == style.to_bytes(picture(stem, rows), "png")


@EVERY
@pytest.mark.parametrize("column", ["dataset", "nc", "epochs"])
def test_rows_of_two_experiments_are_refused(stem, column):
    rows = DRAWN[stem][1]()
    other = rows.assign(**{column: "mnist" if column == "dataset" else 512})
    with pytest.raises(SpecError, match=f"must share one {column}"):
        DRAWN[stem][0](pd.concat([rows, other]))


@pytest.mark.parametrize(
    ("stem", "other", "listed"),
    [
        ("real_synthetic_mix", "rha", "normal, mix, dmaapx, aug_tuned"),
        ("diffusion_subsets", "mix", "normal, dmaapx"),
        ("more_real_data", "aug_naive", "normal, more_real, dmaapx, early_stopping"),
    ],
)
def test_another_method_is_refused(stem, other, listed):
    rows = DRAWN[stem][1]()
    rows.loc[rows.index[-1], "method"] = other
    with pytest.raises(SpecError, match=f"must have method {listed}.*; got {other}$"):
        DRAWN[stem][0](rows)


@pytest.mark.parametrize("stem", ["real_synthetic_mix", "diffusion_subsets"])
def test_two_budgets_of_samples_are_not_averaged(stem):
    rows = DRAWN[stem][1]()
    rows.loc[rows["method"] == "dmaapx", "budget"] = [5, *[0] * (sum(rows["method"] == "dmaapx") - 1)]
    with pytest.raises(SpecError, match="must share one budget; got 0, 5"):
        DRAWN[stem][0](rows)


def test_two_strengths_of_augmentation_are_not_averaged():
    rows = mixtures()
    rows.loc[rows["method"] == "mix", "augment_probability"] = 0.7  # says nothing without augmentation
    draw_mix(rows)
    rows.loc[rows["method"] == "aug_tuned", "augment_probability"] = 0.12
    with pytest.raises(SpecError, match=r"must share one augment_probability; got 0.1, 0.12"):
        draw_mix(rows)


@pytest.mark.parametrize("stem", ["real_synthetic_mix", "more_real_data"])
def test_samples_of_two_diffusion_models_are_not_averaged(stem):
    rows = DRAWN[stem][1]()
    fake = rows["method"].str.startswith("dmaapx")
    rows["samples_digest"] = np.where(fake, np.where(rows["seed"] == 0, "a1", "b2"), None)
    with pytest.raises(SpecError, match="must share one samples_digest; got a1, b2"):
        DRAWN[stem][0](rows)


@EVERY
def test_no_completed_trial_is_one_clear_line(stem):
    with pytest.raises(VaegenError, match="^a figure needs at least one completed trial.*; got no rows"):
        DRAWN[stem][0](pd.DataFrame())


@pytest.mark.parametrize(
    ("stem", "column"),
    [
        ("real_synthetic_mix", "real_percent"),
        ("diffusion_subsets", "stream"),
        ("diffusion_subsets", "two_sample_accuracy"),
        ("more_real_data", "budget"),
        ("more_real_data", "generalization_gap"),
    ],
)
def test_a_missing_column_is_named(stem, column):
    with pytest.raises(SpecError, match=f"must have the columns .*{column}"):
        DRAWN[stem][0](DRAWN[stem][1]().drop(columns=column))
