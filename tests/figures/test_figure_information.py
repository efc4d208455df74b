"""The parts of the rate and log p(x) over beta: means, bars, ln N, what was not measured, what is not drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.information import INFORMATION, draw
from vaegen_ray.figures.over_beta import CURVE, Scale

BETAS = (0.001, 0.01, 0.1, 1.0, 5.0)


def rows_for(sizes=(1024, 8192), layers=(1, 3), seeds=3, betas=BETAS, method="normal", regulariser="rate"):
    """Fake trials: the mutual information ends at ln N, in a minibatch at ln 512; the marginal KL is the rest."""
    rows, spread = [], np.random.default_rng(0)
    for key in [
        ("tetrominoes", "random", n, "fully_connected", depth, method, regulariser) for n in sizes for depth in layers
    ]:
        for beta in betas:
            for seed in range(seeds):
                rate, most = 60 / (1 + 12 * beta) * spread.normal(1, 0.05), np.log(key[2])
                exact, batch = min(0.6 * rate, most), min(0.6 * rate, np.log(512))
                elbo = -100 - 2 * rate
                measured = (exact, rate - exact, batch, rate - batch, key[2], elbo + 5, elbo)
                rows.append(("-".join(map(str, (*key, beta, seed))), *key, beta, seed, *measured))
    columns = [
        "trial_id",
        *CURVE,
        "beta",
        "seed",
        *INFORMATION,
        "information_images",
        "log_likelihood_test",
        "elbo_test",
    ]
    same = {"likelihood": "bernoulli", "nc": 512, "mz": 5, "epochs": 300, "image_shape": "[3, 4, 2]"}
    return pd.DataFrame(rows, columns=columns).assign(**same, status="completed")


def lines_in(axes):
    return {line.get_gid(): line for line in axes.lines}


def titled(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def words_in(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def is_whole(figure):
    """Whether every text lies inside the figure."""
    box = figure.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    return all(figure.bbox.contains(*corner) for corner in (box.min, box.max))


@pytest.fixture(scope="module")
def rows():
    return rows_for()


@pytest.fixture(scope="module")
def made(rows):
    return draw(rows)


def test_both_parts_of_the_rate_are_drawn_over_beta_the_minibatch_estimates_dashed(rows, made):
    panels = titled(made["information"])
    assert list(panels) == [
        f"CV, {n} images · MLP, {depth}" for n in ("1,024", "8,192") for depth in ("1 layer", "3 layers")
    ]
    axes = panels["CV, 8,192 images · MLP, 3 layers"]
    trials = rows[(rows["n_train"] == 8192) & (rows["hidden_layers"] == 3)].groupby("beta")
    lines = lines_in(axes)
    assert axes.get_xscale() == "log" and set(INFORMATION) <= set(lines)
    for name in INFORMATION:
        np.testing.assert_allclose(lines[name].get_xdata(), BETAS)
        np.testing.assert_allclose(lines[name].get_ydata(), trials[name].mean())
        assert lines[name].is_dashed() == name.endswith("minibatch")
    colours = [to_hex(lines[name].get_color()) for name in INFORMATION]
    assert colours[:2] == colours[2:] and colours[0] != colours[1]
    bars = [bar for container in axes.containers for bar in container[2]]
    lengths = [np.diff(np.array(bar.get_segments())[..., 1], axis=1).ravel() for bar in bars]
    np.testing.assert_allclose(lengths, [2 * trials[name].std() for name in INFORMATION], atol=1e-12)


def test_a_line_stands_at_the_logarithm_of_the_images_in_each_panel_and_inside_of_it(made):
    for title, axes in titled(made["information"]).items():
        images = 1024 if "1,024" in title else 8192
        line = lines_in(axes)["ln N"]
        assert set(line.get_ydata()) == {np.log(images)} and axes.get_ylim()[1] > np.log(images)
        assert [text.get_text() for text in axes.texts if "ln" in text.get_text()] == [
            f"ln {images:,} = {np.log(images):.2f}"
        ]


def test_the_line_is_inside_where_all_estimates_are_below_it():
    axes = draw(rows_for(seeds=1, betas=(1.0, 5.0)))["information"].axes[0]
    assert axes.get_ylim()[1] > np.log(8192) > 5


def test_log_likelihood_and_elbo_are_a_figure_of_their_own(rows, made):
    axes = titled(made["log_likelihood"])["CV, 1,024 images · MLP, 1 layer"]
    trials = rows[(rows["n_train"] == 1024) & (rows["hidden_layers"] == 1)].groupby("beta")
    for name, dashed in (("log_likelihood_test", False), ("elbo_test", True)):
        line = lines_in(axes)[name]
        np.testing.assert_allclose(line.get_ydata(), trials[name].mean())
        assert line.is_dashed() == dashed
    assert "log p(x): importance sampling" in words_in(made["log_likelihood"])


def test_what_nobody_measured_is_left_out(rows):
    exact = draw(rows.drop(columns=[name for name in INFORMATION if name.endswith("minibatch")]))
    assert {"mutual_information", "marginal_kl"} <= set(lines_in(exact["information"].axes[0]))
    assert "minibatch" not in words_in(exact["information"])
    assert "mutual_information_minibatch" not in lines_in(exact["information"].axes[0])
    assert set(draw(rows.assign(log_likelihood_test=np.nan))) == {"information"}
    assert set(draw(rows.assign(**dict.fromkeys(INFORMATION, np.nan)))) == {"log_likelihood"}
    nothing = rows.assign(log_likelihood_test=np.nan, **dict.fromkeys(INFORMATION, np.nan))
    with pytest.raises(VaegenError, match="information measured; got 60 without it"):
        draw(nothing)
    with pytest.raises(VaegenError, match="information measured; got 0 without it"):
        draw(rows.assign(regulariser="marginal_kl"))


def test_places_and_seeds_without_a_measurement_are_left_out_of_their_panels(rows):
    some = rows.copy()
    some.loc[some["n_train"] == 1024, list(INFORMATION)] = np.nan
    some.loc[(some["seed"] == 0) & (some["beta"] == 1), list(INFORMATION)] = np.nan
    figure = draw(some)["information"]
    assert list(titled(figure)) == ["CV, 8,192 images · MLP, 1 layer", "CV, 8,192 images · MLP, 3 layers"]
    known = some[(some["n_train"] == 8192) & (some["hidden_layers"] == 1) & (some["seed"] > 0) & (some["beta"] == 1)]
    line = lines_in(figure.axes[0])["marginal_kl"]
    assert line.get_ydata()[3] == pytest.approx(known["marginal_kl"].mean())


def test_other_methods_and_regularisers_are_not_mixed_in(rows, made):
    others = [rows_for(method="early_stopping"), rows_for(regulariser="marginal_kl")]
    others = [other.assign(**{name: other[name] + 100 for name in INFORMATION}) for other in others]
    again = draw(pd.concat([rows, *others]))
    for first, second in zip(made["information"].axes, again["information"].axes, strict=True):
        np.testing.assert_allclose(
            lines_in(first)["marginal_kl"].get_ydata(), lines_in(second)["marginal_kl"].get_ydata()
        )


def test_a_beta_of_zero_has_a_place_beside_the_logarithmic_ones():
    axes = draw(rows_for(betas=(0.0, *BETAS)))["information"].axes[0]
    assert axes.get_xscale() == "symlog"
    pixels = axes.transData.transform([(beta, 0) for beta in (0.0, *BETAS)])[:, 0]
    assert (np.diff(pixels) > 5).all() and axes.get_window_extent().x0 <= pixels[0]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("layers", [(1,), (1, 2, 3)])
def test_figures_are_whole_and_say_what_they_show(layers, seeds):
    rows = rows_for(layers=layers, seeds=seeds)
    rows.loc[0, "status"] = "failed"
    for figure in draw(rows).values():
        assert is_whole(figure) and f"Left out of {len(rows)} trials: 1 failed" in words_in(figure)
        assert ("1 seed" if seeds == 1 else "mean of 2 to 3 seeds, bars ± standard deviation") in words_in(figure)
        assert "tetrominoes; 300 epochs" in words_in(figure)


def test_equal_rows_in_any_order_give_equal_bytes(rows, made):
    again = draw(rows.sample(frac=1, random_state=1))
    assert all(style.to_bytes(again[stem], "png") == style.to_bytes(figure, "png") for stem, figure in made.items())


def test_a_missing_column_missing_rows_and_mixed_trials_are_refused(rows):
    for column in ("beta", "regulariser", "elbo_test", "nc"):
        with pytest.raises(SpecError, match=f"must have the columns .*{column}"):
            draw(rows.drop(columns=column))
    with pytest.raises(VaegenError, match="at least one completed trial"):
        draw(rows.iloc[:0])
    with pytest.raises(SpecError, match="must share one mz; got 1, 5"):
        draw(rows.assign(mz=rows["mz"].where(rows["seed"] > 0, 1)))


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [
        ([3.0, 300.0], True, [5, 10, 20, 50, 100, 200]),
        ([-300.0, -3.0], True, [-200, -100, -50, -20, -10, -5]),
        ([30.0, 60.0], False, [30, 40, 50, 60]),
        ([-1.0, 50.0], False, [0, 10, 20, 30, 40, 50]),
        ([1e-9, 50.0], False, [0, 10, 20, 30, 40, 50]),
        ([7.0, np.nan], False, None),
    ],
)
def test_a_scale_holds_its_values_with_round_ticks_and_is_logarithmic_over_decades(values, log, ticks):
    scale = Scale.of(np.array(values))
    assert scale.log == log and scale.low < np.nanmin(values) and np.nanmax(values) < scale.high
    assert ticks is None or scale.ticks() == pytest.approx(ticks)
    seen = scale.grid(50)
    assert (seen[0], seen[-1]) == pytest.approx((scale.low, scale.high)) and (np.diff(seen) > 0).all()


@pytest.mark.parametrize(("lowest", "scale"), [(0.001, "symlog"), (5.0, "linear")])
def test_information_that_spans_decades_has_an_axis_that_shows_all_of_it(lowest, scale):
    betas = [beta for beta in BETAS if beta >= lowest]
    for axes in draw(rows_for(betas=betas))["information"].axes:
        assert axes.get_yscale() == scale
        low, high = axes.get_ylim()
        drawn = np.concatenate([line.get_ydata() for line in axes.lines if line.get_gid() in INFORMATION])
        assert low < drawn.min() and drawn.max() < high
