"""Representations, reconstructions, Table 11: what is paired, where marks stand, what happens with partial rows."""

import json
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.data.corruptions import CIFAR10_C, OWN
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.by_method import Measure, first_seeds, table
from vaegen_ray.figures.downstream import CLASSIFIERS, MEASURES, draw

METHODS = ("normal", "dmaapx", "aug_naive")
GAINS = {"normal": 0.0, "dmaapx": 0.03, "aug_naive": -0.02}
NAMES = ["representation", "corruptions", "reconstructions", "downstream"]


def trials(methods=METHODS, seeds=(0, 1, 2), shape=(1, 8, 8), **columns):
    rows = []
    for place, method in enumerate(methods):
        for seed in seeds:
            measured = dict.fromkeys(MEASURES, np.nan) | {"psnr_test": 16.0 + place + 0.25 * seed}
            rows.append({"trial_id": f"{method}-{seed}", "method": method, "seed": seed, **measured})
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli", "n_train": 500}
    same |= {"epochs": 300, "nc": 256, "mz": 1, "image_shape": json.dumps(shape), "status": "completed"}
    return pd.DataFrame(rows).assign(**same, elbo_test=-20.0).assign(**columns)


def accuracy(method, seed, corruption, place):
    """Differs in everything; a method gains the same everywhere, but on one corruption with one seed."""
    odd = 0.1 if (method, seed, corruption) == ("dmaapx", 1, 2) else 0.0
    return 0.3 + GAINS.get(method, 0.01) + 0.05 * seed + 0.01 * corruption + 0.07 * place + odd


def details_of(rows, corruptions=(*OWN, "overall"), images=9):
    shape = json.loads(rows["image_shape"].iloc[0])
    made = []
    for row in rows.itertuples():
        for i, corruption in enumerate(corruptions):
            for place, classifier in enumerate(CLASSIFIERS):
                value = accuracy(row.method, row.seed, i, place)
                made.append((row.trial_id, "accuracy", f"{corruption}/{classifier}", [value]))
        for i in range(images):
            level = i / 20 + 0.01 * np.arange(np.prod(shape)) / np.prod(shape)
            mine = level + 0.1 * (1 + row.seed) + 0.02 * len(row.method)
            made += [(row.trial_id, "original", f"image-{i}", list(level))]
            made += [(row.trial_id, "reconstruction", f"image-{i}", list(mine))]
        made.append((row.trial_id, "log_q", "pair-0", [0.0, 1.0]))
    return pd.DataFrame(made, columns=["trial_id", "quantity", "item", "values"])


def drawn(rows, **how):
    return draw(rows, details_of(rows, **how))


def words_in(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def strip(axes, method, classifier):
    (found,) = [line for line in axes.lines if line.get_gid() == f"{method} {classifier}"]
    return found


def bars(axes):
    return {patch.get_gid(): patch for patch in axes.patches if patch.get_gid()}


def cells(markdown):
    """The table as {(row, column): cell}."""
    head, _, *lines = [line for line in markdown.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    parts = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(line[0], column): cell for line in parts for column, cell in zip(columns[1:], line[1:], strict=True)}


@pytest.fixture(scope="module")
def full():
    return drawn(trials())


def test_everything_that_was_measured_is_drawn(full):
    assert list(full) == NAMES


def test_a_point_is_the_gain_over_normal_training_with_the_same_seed_and_corruption(full):
    (axes,) = full["representation"].axes
    for classifier in CLASSIFIERS:
        gains = strip(axes, "dmaapx", classifier).get_ydata()
        assert len(gains) == len(OWN) * 3  # overall is no corruption
        np.testing.assert_allclose(sorted(gains), [0.03] * 17 + [0.13])
        np.testing.assert_allclose(strip(axes, "aug_naive", classifier).get_ydata(), [-0.02] * 18)
    assert not [line for line in axes.lines if str(line.get_gid()).startswith("normal")]
    assert to_hex(strip(axes, "dmaapx", "knn").get_color()).upper() == style.method_colour("dmaapx").upper()
    assert "a point a corruption (6) and seed (3), paired" in words_in(full["representation"])


def test_the_mean_of_a_strip_is_marked_across_it(full):
    (axes,) = full["representation"].axes
    (mean,) = [c for c in axes.collections if c.get_gid() == "dmaapx svm_rbf mean"]
    ((left, height), (right, _)) = mean.get_segments()[0]
    assert height == pytest.approx(0.03 + 0.1 / 18)
    aside = strip(axes, "dmaapx", "svm_rbf").get_xdata()
    assert left < aside.min() and aside.max() < right and 1.5 < left < right < 2.5


def test_strips_of_neighbours_do_not_overlap(full):
    (axes,) = full["representation"].axes
    strips = [strip(axes, method, name).get_xdata() for name in CLASSIFIERS for method in ("aug_naive", "dmaapx")]
    assert all(before.max() < after.min() for before, after in pairwise(strips))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["LR", "SVM-L", "SVM-RBF", "kNN"]


def test_seeds_without_normal_training_are_not_paired():
    rows = trials()
    figure = drawn(rows[rows["trial_id"] != "normal-1"])["representation"]
    np.testing.assert_allclose(strip(figure.axes[0], "dmaapx", "knn").get_ydata(), [0.03] * 12)
    assert "representation" not in drawn(rows[rows["method"] != "normal"])
    assert "corruptions" in drawn(rows[rows["method"] != "normal"])


@pytest.mark.parametrize(
    ("corruptions", "columns"), [((*OWN, "overall"), 4), ((*CIFAR10_C, "overall"), 4), (("fog",), 1)]
)
def test_a_panel_a_corruption_and_overall_last(corruptions, columns):
    figure = drawn(trials(), corruptions=corruptions)["corruptions"]
    titles = [axes.get_title() for axes in figure.axes]
    plain = sorted(name for name in corruptions if name != "overall")
    assert titles == [name.replace("_", " ") for name in [*plain, *(["overall"] if "overall" in corruptions else [])]]
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_bars_are_means_over_the_seeds_with_a_line_from_lowest_to_highest(full):
    for axes in full["corruptions"].axes:
        found = bars(axes)
        assert len(found) == len(METHODS) * len(CLASSIFIERS)
        i = ["overall", *OWN].index(axes.get_title().replace(" ", "_")) - 1
        i = len(OWN) if i < 0 else i
        spread = np.array([line for c in axes.collections if c.get_gid() == "spread" for line in c.get_segments()])
        for method in METHODS:
            for place, classifier in enumerate(CLASSIFIERS):
                seeds = [accuracy(method, seed, i, place) for seed in range(3)]
                bar = found[f"{method} {classifier}"]
                assert bar.get_height() == pytest.approx(np.mean(seeds)) and bar.get_y() == 0
                middle = bar.get_x() + bar.get_width() / 2
                (line,) = spread[np.isclose(spread[:, 0, 0], middle)]
                assert (line[0, 1], line[1, 1]) == pytest.approx((min(seeds), max(seeds)))
                assert abs(middle - place) < 0.5


def test_accuracies_that_are_not_finite_are_left_out():
    rows = trials()
    details = details_of(rows)
    mine = (details["trial_id"] == "dmaapx-0") & (details["quantity"] == "accuracy")
    details.loc[mine, "values"] = pd.Series([[np.nan]] * len(details))[mine]
    made = draw(rows, details)
    assert len(strip(made["representation"].axes[0], "dmaapx", "knn").get_ydata()) == 12
    details.loc[details["quantity"] == "accuracy", "values"] = pd.Series([[np.nan]] * len(details))
    assert list(draw(rows, details)) == ["reconstructions", "downstream"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_reconstructions_are_a_row_a_method_below_the_originals_and_a_column_an_image(shape):
    rows = trials(shape=shape)
    details = details_of(rows)
    figure = draw(rows, details.sample(frac=1, random_state=1))["reconstructions"]
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "original",
        "normal training",
        "Aug.Naive",
        "DMaaPx",
    ]
    grid, side = np.asarray(axes.images[0].get_array()), shape[1]
    assert grid.shape == (4 * (side + 1) - 1, 9 * (side + 1) - 1, 3)
    lines = [("normal-0", "original"), *((f"{m}-0", "reconstruction") for m in ("normal", "aug_naive", "dmaapx"))]
    for i, (trial, quantity) in enumerate(lines):
        for j in range(9):
            found = grid[i * (side + 1) :, j * (side + 1) :][:side, :side]
            mine = (
                (details["trial_id"] == trial) & (details["quantity"] == quantity) & (details["item"] == f"image-{j}")
            )
            expected = np.moveaxis(np.reshape(details[mine]["values"].item(), shape), 0, 2).clip(0, 1)
            np.testing.assert_allclose(found, np.broadcast_to(expected, (side, side, 3)))
    heights = [axes.transData.transform((0, place))[1] for place in axes.get_yticks()]
    box = axes.get_window_extent()
    np.testing.assert_allclose(heights, box.y1 - box.height * (np.arange(4) + 0.5) / 4, atol=0.02 * box.height)
    assert "seed 0" in words_in(figure)


def test_reconstructions_are_of_the_lowest_seed_that_all_methods_have():
    rows = trials()
    shared = drawn(rows[rows["trial_id"] != "dmaapx-0"])["reconstructions"]
    assert "seed 1" in words_in(shared)
    none = rows[(rows["method"] == "dmaapx") == (rows["seed"] == 2)]
    said = words_in(drawn(none)["reconstructions"])
    assert "the lowest seed of each method" in said and "DMaaPx\n(seed 2)" in said and "Aug.Naive\n(seed 0)" in said


def test_first_seeds():
    frame = pd.DataFrame({"method": ["a", "a", "b", "b"], "seed": [0, 3, 3, 4]})
    assert first_seeds(frame).to_dict() == {"a": 3, "b": 3}
    assert first_seeds(frame.assign(seed=[0, 1, 5, 4])).to_dict() == {"a": 0, "b": 4}


def test_a_missing_reconstruction_leaves_its_place_empty():
    rows = trials(methods=("normal", "dmaapx"))
    details = details_of(rows, images=3)
    lost = (
        (details["trial_id"] == "dmaapx-0") & (details["item"] == "image-1") & (details["quantity"] == "reconstruction")
    )
    grid = np.asarray(draw(rows, details[~lost])["reconstructions"].axes[0].images[0].get_array())
    assert to_hex(grid[20, 12]).upper() == style.GRID


def test_images_are_sorted_by_number_and_twelve_are_shown():
    rows = trials(methods=("normal",), seeds=(0,))
    grid = np.asarray(drawn(rows, images=14)["reconstructions"].axes[0].images[0].get_array())
    assert grid.shape[1] == 12 * 9 - 1
    assert np.all(np.diff(grid[0, ::9, 0]) > 0)  # original i has intensity i / 20 and more


def test_the_table_has_mean_and_deviation_bold_where_best_and_dashes(full):
    made = cells(full["downstream"])
    assert made["PSNR (dB) (↑)", "normal training"] == "16.25 ± 0.25"
    assert made["PSNR (dB) (↑)", "Aug.Naive"] == "**18.25 ± 0.25**"
    assert {made["FID (↓)", name] for name in ("normal training", "DMaaPx", "Aug.Naive")} == {"–"}
    rows = [row for row, column in made if column == "DMaaPx"]
    assert [row.split(" (")[0] for row in rows] == ["log. reg.", "SVM-RBF", "SVM-L", "kNN", "PSNR", "FID", "IS"]
    assert (
        "nc = 256, mz = 1; digits, 500 training images, 300 epochs; mean ± standard deviation over 3 seeds."
        in full["downstream"]
    )


def test_the_least_fid_is_best_and_equal_ones_are_all_bold():
    rows = trials(seeds=(0,))
    rows["fid"], rows["inception_score"] = [220.0, 219.0, 240.0], [1.5, 1.5001, 1.2]
    made = cells(table(rows, MEASURES))
    assert [made["FID (↓)", name] for name in ("normal training", "DMaaPx")] == ["220.00", "**219.00**"]
    scores = [made["IS (↑)", name] for name in ("normal training", "DMaaPx", "Aug.Naive")]
    assert scores == ["**1.500**", "**1.500**", "1.200"]
    assert "; 1 seed." in table(rows, MEASURES)


def test_one_method_alone_is_not_best_and_missing_columns_are_dashes():
    rows = trials(methods=("normal",), seeds=(0, 1))
    made = cells(table(rows.drop(columns="fid"), MEASURES))
    assert made["PSNR (dB) (↑)", "normal training"] == "16.12 ± 0.18"
    assert made["FID (↓)", "normal training"] == "–"


def test_numbers_of_fewer_seeds_are_counted_in_brackets():
    rows = trials()
    rows.loc[rows["trial_id"] == "dmaapx-2", "psnr_test"] = np.nan
    text = table(rows, {"psnr_test": Measure("PSNR", 2)}, "Left out of 9 trials: 1 failed")
    assert cells(text)["PSNR (↑)", "DMaaPx"] == "17.12 ± 0.18 (2)"
    assert "In brackets: how many seeds" in text and text.endswith("Left out of 9 trials: 1 failed.\n")
    assert "In brackets" not in table(trials(), {"psnr_test": Measure("PSNR", 2)})


def test_parts_without_data_are_left_out():
    rows = trials()
    nothing = details_of(rows).iloc[:0]
    assert list(draw(rows, nothing)) == list(draw(rows, pd.DataFrame())) == ["downstream"]
    assert list(drawn(rows.drop(columns=list(MEASURES)), images=0)) == ["representation", "corruptions"]
    assert list(drawn(rows, corruptions=())) == ["reconstructions", "downstream"]
    with pytest.raises(VaegenError, match="needs trials with representation, .* measured; got 9 trials without"):
        draw(rows.assign(psnr_test=np.nan), nothing)


def test_details_of_other_trials_are_not_drawn(full):
    rows = trials()
    others = trials(methods=("rha",))
    made = draw(rows, details_of(pd.concat([rows, others])))
    assert "RHA" not in words_in(made["corruptions"]) + words_in(made["reconstructions"])
    assert style.to_bytes(made["corruptions"], "png") == style.to_bytes(full["corruptions"], "png")


@pytest.mark.parametrize(
    ("methods", "seeds", "shape", "corruptions"),
    [
        (("normal", "dmaapx"), (0,), (1, 8, 8), (*OWN, "overall")),
        (("normal", "dmaapx", "aug_naive", "aug_tuned", "dmaapx+rha"), range(5), (3, 32, 32), (*CIFAR10_C, "overall")),
    ],
)
def test_no_text_covers_another_or_is_clipped(methods, seeds, shape, corruptions):
    rows = trials(methods, seeds, shape)
    lost = rows.iloc[:1].assign(trial_id="lost", status="failed")
    made = draw(pd.concat([rows, lost]), details_of(rows, corruptions))
    for part in NAMES[:3]:
        check_texts(made[part])


def check_texts(figure):
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    texts = [*([figure._supxlabel] if figure._supxlabel else [])]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, axes.title]
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            shown = [tick for tick in axis.get_major_ticks() if min(ends) <= tick.get_loc() <= max(ends)]
            texts += [tick.label1 for tick in shown if tick.label1.get_visible()]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    assert len(boxes) >= 3
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_failed_trials_are_counted():
    rows = trials()
    rows.loc[0, "status"] = "failed"
    made = drawn(rows)
    said = "Left out of 9 trials: 1 failed"
    assert all(said in words_in(made[part]) for part in NAMES[:2]) and said in made["downstream"]
    assert "mean of 2 to 3 seeds" in words_in(made["corruptions"])


@pytest.mark.parametrize("part", NAMES[:3])
def test_equal_rows_in_any_order_give_equal_bytes(part, full):
    rows = trials()
    again = draw(rows.sample(frac=1, random_state=2), details_of(rows).sample(frac=1, random_state=3))
    assert style.to_bytes(again[part], "png") == style.to_bytes(full[part], "png")


def test_two_trials_of_a_method_and_seed_are_refused():
    rows = pd.concat([trials(), trials(methods=("dmaapx",), seeds=(1,)).assign(trial_id="other")])
    with pytest.raises(SpecError, match="one trial a seed; got several with method dmaapx, seed 1$"):
        drawn(rows)


@pytest.mark.parametrize(("column", "other"), [("dataset", "mnist"), ("nc", 8), ("image_shape", "[1, 32, 32]")])
def test_rows_of_two_experiments_are_refused(column, other):
    rows = trials()
    rows.loc[0, column] = other
    with pytest.raises(SpecError, match=f"must share one {column}"):
        drawn(rows)


def test_samples_of_two_diffusion_models_are_not_compared():
    digests = [
        "a1" if name == "dmaapx-0" else "b2" if name.startswith("dmaapx") else None for name in trials()["trial_id"]
    ]
    with pytest.raises(SpecError, match="must share one samples_digest; got a1, b2"):
        drawn(trials(samples_digest=digests))


def test_no_rows_and_missing_columns_are_one_clear_line():
    with pytest.raises(VaegenError, match="^a figure needs at least one completed trial"):
        draw(pd.DataFrame(), pd.DataFrame())
    with pytest.raises(SpecError, match="must have the columns .*seed"):
        draw(trials().drop(columns="seed"), pd.DataFrame())
