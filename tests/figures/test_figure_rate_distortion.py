"""Curves of rate and distortion: means and bars, stars, lines of equal ELBO, what is compared with what, images."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import over_beta, style
from vaegen_ray.figures.rate_distortion import VALUES, draw
from vaegen_ray.spec import architecture, trial

BETAS = (0.001, 0.005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0, 3.0, 5.0)
DENSE, SPARSE = ("tetrominoes", "random", 8192), ("tetrominoes", "random", 1024)
ONE, THREE = ("fully_connected", 1), ("fully_connected", 3)
NONE = pd.DataFrame(columns=["trial_id", "quantity", "item", "values"])


def rows_for(
    places=(DENSE, SPARSE), networks=(ONE, THREE), seeds=5, betas=BETAS, methods=("normal",), weighed=("rate",)
):
    """Fake trials: the rate falls and the distortion rises with beta; a test set is worse than the training set."""
    rows = []
    spread = np.random.default_rng(0)
    keys = [(*p, *n, m, w) for p in places for n in networks for m in methods for w in weighed]
    for key in keys:
        for beta in betas:
            for seed in range(seeds):
                rate, train = 60 / (1 + 12 * beta) ** 0.75, 20 + 380 * (1 - np.exp(-0.8 * beta)) + 5 * key[4]
                test = train + 3e4 / key[2] / (1 + beta) * (0.5 if key[5] != "normal" else 1)
                rates, both = rate * spread.normal(1, 0.02, 2), np.array([train, test]) * spread.normal(1, 0.02, 2)
                trial_id = "-".join(map(str, (*key, beta, seed)))
                rows.append((trial_id, *key, beta, seed, *rates, *both, *(-rates - both)))
    columns = ["trial_id", *over_beta.CURVE, "beta", "seed", *VALUES]
    same = {"likelihood": "bernoulli", "nc": 512, "mz": 5, "epochs": 300, "image_shape": "[3, 4, 3]"}
    return pd.DataFrame(rows, columns=columns).assign(**same, status="completed")


def details_for(rows):
    """The hard images of every trial: dark ones whose second pixel says the trial's beta and seed, and distances."""
    made = []
    for row in rows.to_dict("records"):
        image = np.zeros(36)
        reconstruction = image.copy()
        reconstruction[:2] = row["beta"] / 10, row["seed"] / 10
        made.append((row["trial_id"], "hard_original", "test", image + 1.0))
        made.append((row["trial_id"], "hard_neighbour", "train", image + 0.5))
        made.append((row["trial_id"], "hard_reconstruction", "test", reconstruction))
        made.append(
            (row["trial_id"], "neighbour_distance", "percentiles", np.linspace(1, 9, 101) * 1000 / row["n_train"])
        )
    return pd.DataFrame(made, columns=NONE.columns)


def lines_in(axes):
    return {line.get_gid(): line for line in axes.lines}


def equal_elbo(axes):
    return [line for line in axes.lines if line.get_gid() == "equal ELBO"]


def titled(figure):
    """The panels of a figure by their titles."""
    return {axes.get_title(): axes for axes in figure.axes}


def words_in(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def is_whole(figure):
    """Whether every text lies inside the figure."""
    box = figure.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    return all(figure.bbox.contains(*corner) for corner in (box.min, box.max))


def of(rows, place=DENSE, network=ONE, method="normal", weighed="rate"):
    """The trials of one curve, by beta."""
    keys = zip(over_beta.CURVE, (*place, *network, method, weighed), strict=True)
    return rows[np.logical_and.reduce([rows[name] == value for name, value in keys])].groupby("beta")


def assert_is_mean_of(line, trials, part):
    np.testing.assert_allclose(line.get_xdata(), trials[f"rate_{part}"].mean())
    np.testing.assert_allclose(line.get_ydata(), trials[f"distortion_{part}"].mean())


def assert_equal_elbo(axes):
    """Whether there are a few grey lines, on each of which -D - R is the same and as the words beside it say."""
    elbos = []
    for line in equal_elbo(axes):
        elbo = -line.get_ydata() - line.get_xdata()
        np.testing.assert_allclose(elbo, elbo[0], atol=1e-9)
        elbos.append(elbo[0])
    said = [text for text in axes.texts if text.get_gid() == "equal ELBO"]
    np.testing.assert_allclose([float(t.get_text().replace("−", "-").replace(",", "")) for t in said], elbos, atol=1e-9)
    assert 3 <= len(elbos) <= 10 and len(set(np.round(elbos, 9))) == len(elbos)
    for text, line in zip(said, equal_elbo(axes), strict=True):
        assert text.get_position() == pytest.approx((line.get_xdata()[0], line.get_ydata()[0]))


@pytest.fixture(scope="module")
def rows():
    return rows_for()


@pytest.fixture(scope="module")
def made(rows):
    return draw(rows, details_for(rows))


def test_what_can_be_compared_is_drawn_and_nothing_else(made):
    both = {"rate_distortion", "rate_distortion_table", "neighbour_distances"}
    assert set(made) == both | {"rate_distortion_by_size", "rate_distortion_by_network"}
    assert set(draw(rows_for((DENSE,), (ONE,), 1), NONE)) == {"rate_distortion", "rate_distortion_table"}
    checkerboard = ("tetrominoes", "checkerboard", 8192)
    split = draw(rows_for((DENSE, checkerboard), (ONE,), 1), NONE)
    assert set(split) - {"rate_distortion", "rate_distortion_table"} == {"rate_distortion_by_split"}
    datasets = draw(rows_for((DENSE, ("mnist", "random", 8192)), (ONE,), 1), NONE)
    assert set(datasets) - {"rate_distortion", "rate_distortion_table"} == {"rate_distortion_by_dataset"}


def test_a_panel_has_the_means_of_both_image_sets_with_bars_of_a_standard_deviation(rows, made):
    panels = titled(made["rate_distortion"])
    assert list(panels) == [
        "CV, 1,024 images · MLP, 1 layer",
        "CV, 1,024 images · MLP, 3 layers",
        "CV, 8,192 images · MLP, 1 layer",
        "CV, 8,192 images · MLP, 3 layers",
    ]
    axes, trials = panels["CV, 8,192 images · MLP, 3 layers"], of(rows, DENSE, THREE)
    lines = lines_in(axes)
    for part, look, colour in (("test", "-", "blue"), ("train", "--", "orange")):
        line = lines[f"normal {part}"]
        assert_is_mean_of(line, trials, part)
        assert (to_hex(line.get_color()).upper(), line.get_linestyle()) == (style.OKABE_ITO[colour], look)
    bars = [bar for container in axes.containers for bar in container[2]]
    lengths = [np.abs(np.diff(np.array(bar.get_segments()), axis=1)).max(axis=(1, 2)) for bar in bars]
    expected = [2 * trials[f"{value}_{part}"].std() for part in ("train", "test") for value in ("rate", "distortion")]
    np.testing.assert_allclose(lengths, expected)


def test_a_white_star_marks_beta_one_on_each_curve_and_is_left_out_without_it(rows, made):
    axes = titled(made["rate_distortion"])["CV, 1,024 images · MLP, 1 layer"]
    trials = of(rows, SPARSE, ONE)
    for part in ("test", "train"):
        star = lines_in(axes)[f"normal {part} star"]
        assert star.get_marker() == "*" and star.get_markerfacecolor() == "white"
        assert star.get_xdata() == pytest.approx([trials[f"rate_{part}"].mean()[1.0]])
        assert star.get_ydata() == pytest.approx([trials[f"distortion_{part}"].mean()[1.0]])
    without = draw(rows_for(seeds=1, betas=(0.1, 2.0)), NONE)["rate_distortion"].axes[0]
    assert len(lines_in(without)["normal test star"].get_xdata()) == 0


def test_the_elbo_is_the_same_along_each_grey_line_and_stands_beside_it(made):
    figures = [part for stem, part in made.items() if stem.startswith("rate_") and not isinstance(part, str)]
    for axes in (axes for figure in figures for axes in figure.axes):
        assert_equal_elbo(axes)


@pytest.mark.parametrize("added", [-700.0, -200.0])
def test_distortions_below_zero_as_those_of_densities_have_lines_of_equal_elbo_too(added):
    rows = rows_for((DENSE,), (ONE,), 2)
    rows = rows.assign(**{name: rows[name] + added for name in VALUES if name.startswith("distortion")})
    (axes,) = draw(rows, NONE)["rate_distortion"].axes
    assert_equal_elbo(axes)
    assert_is_mean_of(lines_in(axes)["normal test"], of(rows), "test")


def test_lines_of_equal_elbo_are_straight_diagonals_on_linear_axes():
    rows = rows_for((DENSE,), (ONE,), 2)
    rows = rows.assign(**{name: rows[name] + 1000 for name in VALUES if name.startswith("distortion")})
    rows = rows.assign(**{name: rows[name] + 100 for name in VALUES if name.startswith("rate")})
    axes = draw(rows, NONE)["rate_distortion"].axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "linear" and len(equal_elbo(axes)) >= 3
    for line in equal_elbo(axes):
        seen = axes.transData.transform(line.get_xydata())
        slopes = np.diff(seen[:, 1]) / np.diff(seen[:, 0])
        np.testing.assert_allclose(slopes, slopes[0], rtol=1e-4)


def test_no_words_of_lines_of_equal_elbo_cover_others():
    rows = rows_for(seeds=2)
    rows = rows.assign(**{name: 20 * rows[name] for name in VALUES if name.startswith("rate")})
    rows = rows.assign(**{name: 30 + rows[name] / 4 for name in VALUES if name.startswith("distortion")})
    for axes in draw(rows, NONE)["rate_distortion"].axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_gid() == "equal ELBO"]
        assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_axes_are_logarithmic_where_numbers_span_decades_and_shared_within_a_data_set(made):
    panels = made["rate_distortion"].axes
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels}) == 1
    pixels = panels[0].transData.transform(
        [(10, 20), (10, 200), (10, 40), (10, 400), (4, 50), (40, 50), (5, 50), (50, 50)]
    )
    assert pixels[1, 1] - pixels[0, 1] == pytest.approx(pixels[3, 1] - pixels[2, 1])
    assert pixels[5, 0] - pixels[4, 0] == pytest.approx(pixels[7, 0] - pixels[6, 0])
    assert {10, 20, 50} <= set(panels[0].get_xticks()) and {50, 100, 200} <= set(panels[0].get_yticks())


def test_a_rate_that_collapses_does_not_take_the_room_of_all_others():
    rows = rows_for((DENSE,), (ONE,), 2)
    rows.loc[rows["beta"] == 5, ["rate_train", "rate_test"]] = 1e-7
    axes = draw(rows, NONE)["rate_distortion"].axes[0]
    assert axes.get_xscale() == "linear"
    assert_equal_elbo(axes)


def test_a_few_values_of_beta_are_written_beside_the_curve_of_the_test_set(rows, made):
    axes = titled(made["rate_distortion"])["CV, 8,192 images · MLP, 1 layer"]
    trials = of(rows)
    notes = {text.get_text(): text.xy for text in axes.texts if text.get_text().startswith("β = ")}
    assert list(notes) == ["β = 0.001", "β = 0.01", "β = 0.1", "β = 1", "β = 5"]
    for text, (rate, distortion) in notes.items():
        beta = float(text.removeprefix("β = "))
        assert rate == pytest.approx(trials["rate_test"].mean()[beta])
        assert distortion == pytest.approx(trials["distortion_test"].mean()[beta])


def test_above_a_panel_are_the_hard_images_and_reconstructions_of_the_lowest_seed_by_beta(rows, made):
    for axes in made["rate_distortion"].axes:
        (strip,) = axes.child_axes
        assert [label.get_text() for label in strip.get_xticklabels()] == [
            "test",
            "train",
            "0.001",
            "0.01",
            "0.1",
            "1",
            "5",
        ]
        original, neighbour, *again = [np.asarray(image.get_array()) for image in strip.images]
        assert original.shape == (4, 3, 3) and (original == 1).all() and (neighbour == 0.5).all()
        for image, beta in zip(again, (0.001, 0.01, 0.1, 1, 5), strict=True):
            assert image[0, 0, 0] == beta / 10 and image[0, 1, 0] == 0  # of seed 0


def test_images_without_reconstructions_at_some_betas_or_of_any_are_no_error(rows):
    details = details_for(rows)
    rest = details[~details["trial_id"].str.contains("-0.1-|-0$")]
    figure = draw(rows, rest)["rate_distortion"]
    (strip,) = figure.axes[0].child_axes
    assert [label.get_text() for label in strip.get_xticklabels()] == ["test", "train", "0.001", "0.01", "1", "5"]
    assert {np.asarray(image.get_array())[0, 1, 0] for image in strip.images[2:]} == {0.1}  # of seed 1
    without = draw(rows, details[details["quantity"] == "neighbour_distance"])["rate_distortion"]
    assert not any(axes.child_axes for axes in without.axes) and "Images" not in words_in(without)


def test_other_methods_are_dotted_test_curves_beside_normal_training_and_nowhere_else():
    rows = rows_for(methods=("normal", "early_stopping"), seeds=2)
    made = draw(rows, NONE)
    line = lines_in(titled(made["rate_distortion"])["CV, 8,192 images · MLP, 1 layer"])["early_stopping test"]
    assert_is_mean_of(line, of(rows, method="early_stopping"), "test")
    assert line.get_linestyle() == ":" or line.is_dashed()
    assert "test set, early stopping" in words_in(made["rate_distortion"])
    compared = lines_in(titled(made["rate_distortion_by_network"])["CV, 8,192 images"])["MLP, 1 layer test"]
    assert_is_mean_of(compared, of(rows), "test")
    alone = draw(rows[rows["method"] == "early_stopping"], NONE)
    assert set(alone) == {"rate_distortion", "rate_distortion_table"}
    assert "normal test" not in lines_in(alone["rate_distortion"].axes[0])


def test_sizes_have_a_colour_each_in_panels_of_splits_and_networks():
    places = [("tetrominoes", split, size) for split in ("random", "constant_density") for size in (4096, 1024, 2048)]
    rows = rows_for((*places, ("tetrominoes", "checkerboard", 8192)), seeds=2)
    figure = draw(rows, NONE)["rate_distortion_by_size"]
    panels = titled(figure)
    assert list(panels) == ["CV · MLP, 1 layer", "CV · MLP, 3 layers", "CD · MLP, 1 layer", "CD · MLP, 3 layers"]
    lines = lines_in(panels["CD · MLP, 3 layers"])
    names = [f"{size} images" for size in ("1,024", "2,048", "4,096")]
    for name, size in zip(names, (1024, 2048, 4096), strict=True):
        assert_is_mean_of(lines[f"{name} test"], of(rows, ("tetrominoes", "constant_density", size), THREE), "test")
    assert len({to_hex(lines[f"{name} test"].get_color()) for name in names}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == names


def test_splits_are_compared_by_their_smallest_and_largest_size():
    places = [("tetrominoes", split, size) for split in ("random", "constant_density") for size in (1024, 2048, 4096)]
    rows = rows_for((*places, ("tetrominoes", "checkerboard", 8192)), seeds=2)
    figure = draw(rows, NONE)["rate_distortion_by_split"]
    panels = titled(figure)
    assert list(panels) == ["MLP, 1 layer", "MLP, 3 layers"]
    names = [
        "CV, 1,024 images",
        "CV, 4,096 images",
        "CD, 1,024 images",
        "CD, 4,096 images",
        "Checkerboard, 8,192 images",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()][:5] == names
    lines = lines_in(panels["MLP, 1 layer"])
    assert {f"{name} test" for name in names} == {gid for gid in lines if str(gid).endswith("test")}
    assert_is_mean_of(lines["CV, 4,096 images test"], of(rows, places[2]), "test")
    assert_is_mean_of(lines["Checkerboard, 8,192 images test"], of(rows, ("tetrominoes", "checkerboard", 8192)), "test")
    assert "CV (constant volume)" in words_in(figure) and "CD (constant density)" in words_in(figure)


def test_networks_have_a_colour_each_with_the_test_set_solid_and_the_training_set_dashed():
    networks = (ONE, THREE, ("convolutional", 3))
    rows = rows_for((SPARSE,), networks, 2)
    rows["nc"] = rows["architecture"].map({"fully_connected": 512, "convolutional": 64})
    figure = draw(rows, NONE)["rate_distortion_by_network"]
    (axes,) = figure.axes
    lines, colours = lines_in(axes), set()
    for network, name in zip(networks, ("MLP, 1 layer", "MLP, 3 layers", "CNN, 3 layers"), strict=True):
        for part, look in (("test", "-"), ("train", "--")):
            line = lines[f"{name} {part}"]
            assert_is_mean_of(line, of(rows, SPARSE, network), part)
            assert line.get_linestyle() == look
            colours.add(to_hex(line.get_color()))
    assert len(colours) == 3


def test_data_sets_have_a_panel_each_at_their_smallest_size_with_their_own_ranges():
    places = (DENSE, SPARSE, ("tetrominoes", "checkerboard", 512), ("mnist", "random", 2000))
    rows = rows_for(places, seeds=2)
    rows.loc[rows["dataset"] == "mnist", ["distortion_test", "distortion_train"]] *= 10
    figure = draw(rows, NONE)["rate_distortion_by_dataset"]
    panels = titled(figure)
    assert list(panels) == ["mnist · CV, 2,000 images", "tetrominoes · CV, 1,024 images"]
    for place, axes in zip((("mnist", "random", 2000), SPARSE), panels.values(), strict=True):
        assert_is_mean_of(lines_in(axes)["MLP, 3 layers test"], of(rows, place, THREE), "test")
    assert panels["mnist · CV, 2,000 images"].get_ylim()[0] > 5 * panels["tetrominoes · CV, 1,024 images"].get_ylim()[0]


def test_other_regularisers_are_a_figure_of_their_own():
    rows = rows_for((SPARSE,), (ONE,), 3, weighed=("rate", "marginal_kl", "mutual_information"))
    made = draw(rows, NONE)
    assert set(made) == {"rate_distortion", "objective_variants", "rate_distortion_table"}
    distortion, elbo = made["objective_variants"].axes
    colours = set()
    for regulariser in trial.REGULARISERS:
        for axes, value in ((distortion, "distortion_test"), (elbo, "elbo_test")):
            line, trials = lines_in(axes)[f"{regulariser} {value}"], of(rows, SPARSE, weighed=regulariser)
            np.testing.assert_allclose(line.get_xdata(), BETAS)
            np.testing.assert_allclose(line.get_ydata(), trials[value].mean())
            colours.add(to_hex(line.get_color()))
    assert len(colours) == 3 and distortion.get_xscale() == elbo.get_xscale() == "log"
    assert_is_mean_of(lines_in(made["rate_distortion"].axes[0])["normal test"], of(rows, SPARSE), "test")
    alone = draw(rows[rows["regulariser"] == "marginal_kl"], NONE)
    assert set(alone) == {"objective_variants", "rate_distortion_table"}


def test_distances_are_a_cumulative_line_a_place():
    places = (DENSE, SPARSE, ("tetrominoes", "checkerboard", 8192), ("mnist", "random", 2000))
    rows = rows_for(places, seeds=2)
    figure = draw(rows, details_for(rows))["neighbour_distances"]
    panels = titled(figure)
    assert list(panels) == ["mnist", "tetrominoes"]
    lines = lines_in(panels["tetrominoes"])
    assert set(lines) == {"random 1024", "random 8192", "checkerboard 8192"}
    for name, line in lines.items():
        np.testing.assert_allclose(line.get_xdata(), np.linspace(1, 9, 101) * 1000 / int(name.split()[1]))
        np.testing.assert_allclose(line.get_ydata(), np.linspace(0, 1, 101))
    same = lines["random 8192"], lines["checkerboard 8192"]
    assert to_hex(same[0].get_color()) == to_hex(same[1].get_color()) and same[0].is_dashed() != same[1].is_dashed()
    assert is_whole(figure)


def test_the_table_has_mean_and_standard_deviation_of_every_curve_and_beta(rows, made):
    lines = made["rate_distortion_table"].splitlines()
    header, _, *body = [line for line in lines if line.startswith("|")]
    assert header == (
        "| Data set | Split | Training images | Network | Trained | β | Train rate | Test rate | Train distortion "
        "| Test distortion | Train ELBO | Test ELBO | Seeds |"
    )
    assert len(body) == 2 * 2 * len(BETAS)
    first = of(rows, SPARSE, ONE).get_group(0.001)
    cells = [f"{first[value].mean():.2f} ± {first[value].std():.2f}" for value in VALUES]
    place = "tetrominoes | CV | 1,024 | MLP, 1 layer | normal training | 0.001"
    assert body[0] == f"| {place} | {' | '.join(cells)} | 5 |"


def test_the_table_says_what_beta_weighs_where_it_is_not_the_rate():
    table = draw(rows_for((SPARSE,), (ONE,), 1, (1.0,), weighed=("rate", "marginal_kl")), NONE)["rate_distortion_table"]
    assert "| normal training | 1 |" in table and "| normal training, β weighs KL(q(z) ‖ p(z)) alone | 1 |" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_nulls_of_old_files_are_random_splits_two_layers_and_the_rate():
    rows = rows_for((SPARSE,), (("fully_connected", 2),), 2)
    old = rows.assign(split=None, hidden_layers=np.nan, regulariser=None)
    new, again = draw(rows, NONE), draw(old, NONE)
    assert new["rate_distortion_table"] == again["rate_distortion_table"]
    assert style.to_bytes(new["rate_distortion"], "png") == style.to_bytes(again["rate_distortion"], "png")


def test_of_many_places_the_first_figure_shows_the_ends_and_says_so_and_many_networks_go_into_rows():
    places = [("tetrominoes", split, 2**k) for split in ("random", "constant_density") for k in range(9, 14)]
    networks = (ONE, ("fully_connected", 2), THREE, ("convolutional", 3))
    figure = draw(rows_for(places, networks, 1, (0.1, 1.0, 3.0)), NONE)["rate_distortion"]
    panels = titled(figure)
    shown = {title.rpartition(" · ")[0] for title in panels}
    assert shown == {f"{split}, {size} images" for split in ("CV", "CD") for size in ("512", "8,192")}
    assert len(panels) == 16 and len({round(axes.get_position().x0, 2) for axes in figure.axes}) == 2
    assert "Of each split, the smallest and the largest training set" in words_in(figure)
    assert "the smallest and the largest" not in words_in(draw(rows_for(places[:3], seeds=1), NONE)["rate_distortion"])


def test_a_network_without_trials_at_a_place_leaves_its_panel_out():
    rows = rows_for(seeds=1)
    rows = rows[~((rows["n_train"] == 1024) & (rows["hidden_layers"] == 3))]
    assert list(titled(draw(rows, NONE)["rate_distortion"])) == [
        "CV, 1,024 images · MLP, 1 layer",
        "CV, 8,192 images · MLP, 1 layer",
        "CV, 8,192 images · MLP, 3 layers",
    ]


@pytest.mark.parametrize("networks", [(ONE,), (ONE, THREE), (ONE, ("fully_connected", 2), THREE)])
@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("seeds", [1, 3])
def test_every_figure_is_whole_and_no_title_covers_the_legend(networks, images, seeds):
    rows = rows_for(
        (DENSE, ("tetrominoes", "checkerboard", 8192)), networks, seeds, methods=("normal", "early_stopping")
    )
    rows.loc[0, "status"] = "failed"
    made = draw(rows, details_for(rows) if images else NONE)
    for figure in (part for part in made.values() if not isinstance(part, str)):
        assert is_whole(figure) and "Left out of" in words_in(figure)
        legend = figure.legends[0].get_window_extent()
        titles = [axes.title.get_window_extent() for axes in figure.axes]
        assert not any(title.overlaps(legend) for title in titles)
        for axes, title in zip(figure.axes, titles, strict=True):
            for strip in axes.child_axes:
                box, panel = strip.get_tightbbox(), axes.get_window_extent()
                assert panel.y1 <= box.y0 and box.y1 <= title.y0 and box.x1 <= panel.x1 + 0.05 * panel.width
        assert ("1 seed" if seeds == 1 else "seeds, bars ± standard deviation") in words_in(figure) or images


def test_failed_trials_are_left_out_and_counted(rows):
    some = rows.copy()
    some.loc[0, "status"] = "failed"
    some.loc[1, "rate_test"] = np.nan
    made = draw(some, NONE)
    said = f"Left out of {len(rows)} trials: 1 failed, 1 completed without a finite ELBO"
    assert said in words_in(made["rate_distortion"]) and said in made["rate_distortion_table"]
    line = lines_in(titled(made["rate_distortion"])["CV, 8,192 images · MLP, 1 layer"])["normal test"]
    assert line.get_xdata()[0] == pytest.approx(rows.loc[2:4, "rate_test"].mean())


def test_a_missing_column_missing_rows_and_mixed_trials_are_refused(rows):
    for column in ("split", "beta", "rate_train", "epochs", "seed"):
        with pytest.raises(SpecError, match=f"must have the columns .*{column}"):
            draw(rows.drop(columns=column), NONE)
    with pytest.raises(VaegenError, match="at least one completed trial"):
        draw(rows.iloc[:0], NONE)
    with pytest.raises(VaegenError, match="at least one completed trial"):
        draw(rows.assign(status="failed"), NONE)
    for column, other in (("nc", 64), ("epochs", 10), ("likelihood", "gaussian"), ("mz", 1)):
        mixed = rows.assign(**{column: rows[column].where(rows["seed"] > 0, other)})
        with pytest.raises(SpecError, match=f"must share one {column}; got"):
            draw(mixed, NONE)
    with pytest.raises(SpecError, match="one trial a seed; got several with .*beta 0.001, seed 0$"):
        draw(pd.concat([rows, rows.iloc[:1].assign(trial_id="again")]), NONE)


def test_equal_rows_in_any_order_give_equal_bytes():
    rows = rows_for((SPARSE,), seeds=2)
    details = details_for(rows)
    first, again = (
        draw(rows, details),
        draw(rows.sample(frac=1, random_state=1), details.sample(frac=1, random_state=2)),
    )
    assert list(first) == list(again)
    for stem, part in first.items():
        same = (
            part == again[stem]
            if isinstance(part, str)
            else style.to_bytes(part, "png") == style.to_bytes(again[stem], "png")
        )
        assert same, stem


def test_every_split_network_and_regulariser_of_a_trial_has_a_name():
    assert set(over_beta.SPLITS) == set(trial.SPLITS)
    assert set(over_beta.NETWORKS) == set(architecture.ARCHITECTURES)
    assert set(over_beta.REGULARISERS) == set(trial.REGULARISERS)
