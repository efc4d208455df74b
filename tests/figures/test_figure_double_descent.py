"""The double descent figures: path, colours, spread, axes, and what they do with rows that cannot be drawn."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.double_descent import AXIS_COLOURS, draw, path_order, path_runs

PATH = [(2**i, 1) for i in range(9)] + [(256, 2**i) for i in range(1, 6)] + [(512, 32)]
SEEDS = 3


def rows_for(points, methods=("normal",), seeds=SEEDS):
    """Fake finished trials: a test ELBO that differs for every trial, parameters as a fully connected VAE has them."""
    rows = []
    for method in methods:
        for nc, mz in points:
            for seed in range(seeds):
                elbo = -20 - 5 / nc - nc / 512 + mz / 32 + (method != "normal") * 0.3 + 0.1 * seed**2
                gap = nc / 256 / mz - (method != "normal") * 0.2 + 0.01 * seed
                total = 2 * nc * nc + 131 * nc + 64 + 6 * nc * mz + 4 * mz
                rows.append((f"{method}-{nc}-{mz}-{seed}", method, seed, nc, mz, total, elbo, gap))
    varied = ["trial_id", "method", "seed", "nc", "mz", "params_total", "elbo_test", "generalization_gap"]
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli"}
    return pd.DataFrame(rows, columns=varied).assign(**same, status="completed", epochs=300, n_train=500)


def find_points(frame):
    return list(zip(frame["nc"].tolist(), frame["mz"].tolist(), strict=True))


def lines_named(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def spread_of(axes):
    """All bars of a panel as rows of x, low, high."""
    bars = [bar for c in axes.collections if c.get_gid() == "spread" for bar in c.get_segments()]
    return np.array([[bar[0, 0], bar[:, 1].min(), bar[:, 1].max()] for bar in bars])


def curves_in(axes):
    """The curves of a panel by their names, which say method and fixed axis."""
    return {line.get_gid(): line for line in axes.lines if "=" in (line.get_gid() or "")}


def is_whole(figure):
    """Whether every text lies inside the figure."""
    renderer = figure.canvas.get_renderer()
    boxes = [figure.get_tightbbox(renderer).transformed(figure.dpi_scale_trans)]
    boxes += [text.get_window_extent(renderer) for axes in figure.axes for text in axes.texts]
    return all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def words_in(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture(scope="module")
def pictures():
    return draw(rows_for(PATH))


def test_path_order_of_shuffled_points():
    shuffled = pd.DataFrame(PATH, columns=["nc", "mz"]).sample(frac=1, random_state=1)
    assert find_points(path_order(shuffled)) == PATH


def test_path_through_a_full_grid_turns_where_the_path_of_the_paper_turns():
    full = list(product((64, 128, 256, 512), (1, 8, 64)))
    expected = [(64, 1), (128, 1), (256, 1), (256, 8), (256, 64), (512, 64)]
    assert find_points(path_order(pd.DataFrame(full, columns=["nc", "mz"]))) == expected
    finer_at_128 = pd.DataFrame([*full, (128, 2)], columns=["nc", "mz"])
    expected = [(64, 1), (128, 1), (128, 2), (128, 8), (128, 64), (256, 64), (512, 64)]
    assert find_points(path_order(finer_at_128)) == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (PATH[:4], PATH[:4]),
        (PATH[:11], PATH[:11]),
        ([*PATH[:5], *PATH[9:12]], [*PATH[:5], *PATH[9:12]]),  # the point where the path turns is missing
        ([*PATH[:5], PATH[-1]], [*PATH[:5], PATH[-1]]),
        ([(256, 4)], [(256, 4)]),
    ],
)
def test_path_order_of_an_unfinished_sweep(there, expected):
    assert find_points(path_order(pd.DataFrame(there[::-1], columns=["nc", "mz"]))) == expected


def test_runs_share_the_turning_points_and_leave_gaps_unlinked():
    frame = pd.DataFrame(PATH, columns=["nc", "mz"])
    runs = [(axis, find_points(run)) for axis, run in path_runs(frame)]
    assert runs == [("nc", PATH[:9]), ("mz", PATH[8:14]), ("nc", PATH[13:])]
    broken = [(axis, find_points(run)) for axis, run in path_runs(frame.drop(index=8))]
    assert broken == [("nc", PATH[:8]), ("mz", PATH[9:14]), ("nc", PATH[13:])]


def test_segment_colours_follow_the_axis_grown(pictures):
    axes = pictures["double_descent"].axes[0]
    params = {(nc, mz): total for nc, mz, total in rows_for(PATH)[["nc", "mz", "params_total"]].itertuples(index=False)}
    for axis, stretches in {"nc": (PATH[:9], PATH[13:]), "mz": (PATH[8:14],)}.items():
        lines = lines_named(axes, f"normal {axis} grows")
        assert [list(line.get_xdata()) for line in lines] == [[params[p] for p in points] for points in stretches]
        assert {to_hex(line.get_color()).upper() for line in lines} == {AXIS_COLOURS[axis]}
    assert AXIS_COLOURS["nc"] != AXIS_COLOURS["mz"]


def test_bars_span_the_lowest_and_highest_seed_around_the_mean(pictures):
    rows = rows_for(PATH)
    axes = pictures["double_descent"].axes[0]
    bars = spread_of(axes)
    assert len(bars) == len(PATH)
    for total, low, high in bars:
        losses = -rows.loc[rows["params_total"] == total, "elbo_test"]
        assert (low, high) == (losses.min(), losses.max())
        assert low < high
    drawn = np.concatenate([line.get_ydata() for line in lines_named(axes, "normal nc grows")])
    means = [-rows[(rows["nc"] == nc) & (rows["mz"] == mz)]["elbo_test"].mean() for nc, mz in [*PATH[:9], *PATH[13:]]]
    np.testing.assert_allclose(drawn, means)


def test_a_wide_range_of_parameters_gets_a_log_axis_and_a_narrow_one_a_linear_axis(pictures):
    assert pictures["double_descent"].axes[0].get_xscale() == "log"
    narrow = draw(rows_for([(128, 1), (256, 1), (256, 8)]))
    assert narrow["double_descent"].axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("methods", [("normal",), ("normal", "dmaapx")])
def test_every_point_has_one_label_and_no_text_covers_another_or_is_clipped(methods):
    figure = draw(rows_for(PATH, methods))["double_descent"]
    axes = figure.axes[0]
    labels = [text for text in axes.texts if text.get_text().startswith("(")]
    assert sorted(text.get_text() for text in labels) == sorted(f"({nc}, {mz})" for nc, mz in PATH)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    legend = axes.get_legend().get_window_extent(renderer)
    covering = [pair for pair in combinations([*boxes, legend], 2) if pair[0].overlaps(pair[1])]
    assert covering == []
    panel = axes.get_window_extent(renderer)
    assert all(panel.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert is_whole(figure)


def test_failed_trials_and_those_without_a_finite_elbo_are_left_out_and_counted():
    rows = rows_for(PATH)
    rows.loc[[0, 1], ["status", "elbo_test"]] = ["failed", -1000.0]
    rows.loc[5, "elbo_test"] = np.nan
    rows.loc[9, "elbo_test"] = -np.inf
    pictures = draw(rows)
    for picture in pictures.values():
        assert f"Left out of {len(rows)} trials: 2 failed, 2 completed without a finite ELBO" in words_in(picture)
        assert "mean of 1 to 3 seeds" in words_in(picture)
    bars = spread_of(pictures["double_descent"].axes[0])
    assert np.isfinite(bars).all() and bars[:, 2].max() < 100
    assert "Left out" not in words_in(draw(rows_for(PATH))["double_descent"])


def test_title_states_data_images_epochs_and_seeds(pictures):
    for picture in pictures.values():
        assert "digits, 500 training images, 300 epochs; mean of 3 seeds" in words_in(picture)


def test_a_method_has_its_own_line_style_and_is_named_once_there_are_two(pictures):
    both = draw(rows_for(PATH, ("normal", "dmaapx")))["double_descent"]
    styles = {m: lines_named(both.axes[0], f"{m} nc grows")[0].get_linestyle() for m in ("normal", "dmaapx")}
    assert styles == {"normal": "-", "dmaapx": "--"}
    assert "DMaaPx" in words_in(both) and "normal training" in words_in(both)
    assert "normal training" not in words_in(pictures["double_descent"])


def test_complexity_axes_have_mz_in_the_upper_row_and_nc_in_the_lower_and_the_gap_at_the_right(pictures):
    figure = pictures["complexity_axes"]
    left, right, below_left, below_right = [axes.get_position() for axes in figure.axes]
    assert left.x1 < right.x0 and left.y0 == right.y0
    assert below_left.y1 < left.y0 and (below_left.x0, below_right.x0) == (left.x0, right.x0)
    assert [axes.get_xlabel()[:5] for axes in figure.axes] == ["$m_z$", "$m_z$", "$n_c$", "$n_c$"]
    columns = ["Test ELBO (nats an image)", "Generalization gap (nats an image)"]
    assert [axes.get_ylabel() for axes in figure.axes] == columns * 2
    assert is_whole(figure)


def test_complexity_axes_draw_a_line_for_each_mz_with_two_nc():
    figure = draw(rows_for(PATH, ("normal", "dmaapx")))["complexity_axes"]
    for axes, column in zip(figure.axes[2:], ("elbo_test", "generalization_gap"), strict=True):
        rows = rows_for(PATH)
        drawn = curves_in(axes)
        assert set(drawn) == {f"{method} mz={mz}" for method in ("normal", "dmaapx") for mz in (1, 32)}
        assert list(drawn["normal mz=32"].get_xdata()) == [256, 512]
        expected = [rows[(rows["nc"] == nc) & (rows["mz"] == 32)][column].mean() for nc in (256, 512)]
        np.testing.assert_allclose(drawn["normal mz=32"].get_ydata(), expected)
        assert drawn["dmaapx mz=1"].get_linestyle() == "--"
        assert axes.get_xscale() == "log"


def test_complexity_axes_draw_both_methods_against_mz_where_the_path_turns():
    rows = rows_for(PATH, ("normal", "dmaapx"))
    figure = draw(rows)["complexity_axes"]
    for axes, column in zip(figure.axes[:2], ("elbo_test", "generalization_gap"), strict=True):
        drawn = curves_in(axes)
        assert {gid: line.get_linestyle() for gid, line in drawn.items()} == {
            "normal nc=256": "-",
            "dmaapx nc=256": "--",
        }
        for method in ("normal", "dmaapx"):
            turn = rows[(rows["method"] == method) & (rows["nc"] == 256)]
            line = drawn[f"{method} nc=256"]
            assert list(line.get_xdata()) == [1, 2, 4, 8, 16, 32]
            expected = [turn.loc[turn["mz"] == mz, column].mean() for mz in (1, 2, 4, 8, 16, 32)]
            np.testing.assert_allclose(line.get_ydata(), expected)
        at_turn = rows[rows["nc"] == 256].groupby(["method", "mz"])[column]
        expected = at_turn.agg(["min", "max"]).reset_index()[["mz", "min", "max"]].to_numpy()
        assert sorted(map(tuple, spread_of(axes))) == sorted(map(tuple, expected))
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert named == ["normal training", "DMaaPx"]


def test_only_the_nc_where_the_path_turns_is_drawn_against_mz_with_a_tick_at_each_value():
    rows = rows_for(product((64, 128, 256, 512), (1, 8, 10)))
    for axes in draw(rows)["complexity_axes"].axes[:2]:
        assert set(curves_in(axes)) == {"normal nc=256"}
        assert axes.get_xlabel() == "$m_z$  ($n_c$ = 256)"
        assert sorted(spread_of(axes)[:, 0]) == [1, 8, 10]
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "8", "10"]
        assert (axes.get_xscale(), axes.xaxis.get_transform().base) == ("log", 2)
    finer_at_128 = pd.concat([rows, rows_for([(128, 2)])])
    assert set(curves_in(draw(finer_at_128)["complexity_axes"].axes[0])) == {"normal nc=128"}


@pytest.mark.parametrize(
    ("points", "empty", "note"),
    [
        (PATH[:9], slice(0, 2), "No $n_c$ on the path has two values of $m_z$ yet"),
        ([*PATH[:5], PATH[-1]], slice(0, 2), "No $n_c$ on the path has two values of $m_z$ yet"),
        (PATH[8:14], slice(2, 4), "No $m_z$ has two values of $n_c$ yet"),
    ],
)
def test_a_row_of_panels_whose_axis_does_not_grow_yet_says_so(points, empty, note):
    figure = draw(rows_for(points, ("normal", "dmaapx")))["complexity_axes"]
    for axes in figure.axes:
        says_so = note in [text.get_text() for text in axes.texts]
        assert says_so == (axes in figure.axes[empty]) == (not curves_in(axes))
        assert not (says_so and axes.get_legend())
    assert is_whole(figure)


@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_an_unfinished_sweep_is_drawn_as_far_as_it_is(count):
    pictures = draw(rows_for(PATH[:count], seeds=1))
    assert len(spread_of(pictures["double_descent"].axes[0])) == count
    assert "1 seed" in words_in(pictures["complexity_axes"])
    for picture in pictures.values():
        assert style.to_bytes(picture, "png").startswith(b"\x89PNG")
    assert ("No $m_z$ has two values" in words_in(pictures["complexity_axes"])) == (count == 1)
    assert ("No $n_c$ on the path has two values" in words_in(pictures["complexity_axes"])) == (count < 10)


@pytest.mark.parametrize("rows", [pd.DataFrame(), rows_for(PATH).assign(status="failed")])
def test_no_completed_trial_is_one_clear_line(rows):
    with pytest.raises(
        VaegenError, match="^a figure needs at least one completed trial.*; got (no rows|45: 45 failed)"
    ) as e:
        draw(rows)
    assert "\n" not in str(e.value)


def test_rows_of_two_experiments_are_refused():
    rows = pd.concat([rows_for(PATH[:3]), rows_for(PATH[:3]).assign(dataset="mnist")])
    with pytest.raises(SpecError, match="must share one dataset; got digits, mnist"):
        draw(rows)


def test_a_missing_column_is_named():
    with pytest.raises(SpecError, match="must have the columns .*params_total"):
        draw(rows_for(PATH[:3]).drop(columns="params_total"))


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_equal_rows_in_any_order_give_equal_bytes(kind, pictures):
    again = draw(rows_for(PATH).sample(frac=1, random_state=2))
    for stem, picture in pictures.items():
        assert style.to_bytes(picture, kind) == style.to_bytes(again[stem], kind)
    other = rows_for(PATH)
    other.loc[0, "elbo_test"] -= 1
    assert style.to_bytes(draw(other)["double_descent"], kind) != style.to_bytes(pictures["double_descent"], kind)


def with_settings(rows, **settings):
    """The rows once for every combination of values of some settings."""
    frames = [rows.assign(**dict(zip(settings, values, strict=True))) for values in product(*settings.values())]
    made = pd.concat(frames, ignore_index=True)
    return made.assign(trial_id=[f"{i:04}" for i in range(len(made))])


def test_other_settings_are_no_seeds():
    rows = with_settings(rows_for(PATH[:3], seeds=2), learning_rate=(0.001, 0.003, 0.01), batch_size=(50, 100))
    with pytest.raises(SpecError) as caught:
        draw(rows)
    said = str(caught.value)
    assert "batch_size (50, 100) and learning_rate (0.001, 0.003, 0.01)" in said and "\n" not in said
    assert "vaegen figure NAME --where batch_size=50" in said
    chosen = rows[(rows["learning_rate"] == 0.003) & (rows["batch_size"] == 50)]
    assert "mean of 2 seeds" in words_in(draw(chosen)["double_descent"])


def test_seeds_with_other_settings_are_no_further_seeds():
    rows = rows_for(PATH[:3], seeds=4)
    with pytest.raises(SpecError, match=r"differ in learning_rate \(0.001, 0.003\)"):
        draw(rows.assign(learning_rate=np.where(rows["seed"] < 2, 0.001, 0.003)))
    specs = [f'{{"numerics_version": {1 + seed // 2}}}' for seed in rows["seed"]]
    with pytest.raises(SpecError, match=r"differ in numerics_version \(1, 2\)"):
        draw(rows.assign(spec_json=specs))


def test_what_is_measured_or_computed_is_no_setting():
    rows = rows_for(PATH[:3])
    same = style.to_bytes(draw(rows)["double_descent"], "png")
    other = rows.assign(wall_seconds=range(len(rows)), node=rows["trial_id"], code_version=rows["trial_id"])
    assert style.to_bytes(draw(other)["double_descent"], "png") == same


def test_a_setting_that_changes_along_a_line_is_said():
    rows = rows_for(PATH[:3])
    figure = draw(rows.assign(learning_rate=0.1 / rows["nc"]))["double_descent"]
    assert "The points of a line also differ in learning_rate (0.025, 0.05, 0.1)" in words_in(figure)
    assert "also differ" not in words_in(draw(rows.assign(learning_rate=0.1))["double_descent"])
