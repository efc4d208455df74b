"""The registry of figures, the statistics over seeds, and pictures as bytes."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import is_color_like, to_rgb
from matplotlib.figure import Figure

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import FIGURES, Tables, draw, register_figure, registry, style
from vaegen_ray.spec.method import IMAGES, METHOD_NAMES, MODIFIERS, recipe


def test_every_registered_figure_can_be_loaded_and_says_what_it_needs():
    assert "double_descent" in FIGURES
    bare = pd.DataFrame({"status": ["completed"]})
    for name in FIGURES:
        with pytest.raises(SpecError, match="must have the columns"):
            draw(name, Tables(bare, bare, bare))


def test_a_figure_in_a_new_file_is_registered_and_gets_its_tables_in_order(tmp_path, monkeypatch):
    (tmp_path / "my_figure.py").write_text(
        "from vaegen_ray.figures import register_figure, style\n"
        "def draw(details, last):\n"
        "    figure, (axes,) = style.new_figure(height=2.0)\n"
        "    axes.plot(details['x'], last['y'])\n"
        "    return {'picture': figure}\n"
        "register_figure('my_figure', draw, reads=('details', 'last'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "FIGURES", dict(FIGURES))
    import_module("my_figure")
    last, details = pd.DataFrame({"y": [3.0, 5.0]}), pd.DataFrame({"x": [1.0, 2.0]})
    figure = draw("my_figure", Tables(last, pd.DataFrame(), details))["picture"]
    (line,) = figure.axes[0].lines
    assert line.get_xydata().tolist() == [[1.0, 3.0], [2.0, 5.0]]
    assert style.to_bytes(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "function", "reads", "rule"),
    [
        ("double_descent", print, ("last",), "name of a figure must be new; got 'double_descent'"),
        ("a/b", print, ("last",), "letters, digits and underscores; got 'a/b'"),
        ("mine", "no_colon", ("last",), "must be callable or 'module:function'; got 'no_colon'"),
        ("mine", print, (), "must read at least one table"),
        ("mine", print, ("images",), "table of a figure must be one of last, curves, details, pruned; got 'images'"),
    ],
)
def test_a_figure_that_cannot_be_registered_is_refused(name, function, reads, rule):
    before = dict(FIGURES)
    with pytest.raises(SpecError, match=rule):
        register_figure(name, function, reads=reads)
    assert before == FIGURES


def test_an_unknown_figure_lists_what_exists():
    with pytest.raises(SpecError, match="figure must be one of .*double_descent.*; got 'triple_descent'"):
        draw("triple_descent", Tables(pd.DataFrame(), pd.DataFrame(), pd.DataFrame()))


def test_the_registry_loads_no_plotting_and_the_figures_no_ray_torch_or_pyplot():
    code = (
        "import sys, vaegen_ray.figures as f;"
        "assert not {'matplotlib', 'pandas', 'numpy'} & set(sys.modules);"
        "[figure.load() for figure in f.FIGURES.values()];"
        "assert not {'ray', 'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mean_and_spread_over_the_seeds():
    frame = pd.DataFrame({"nc": [2, 1, 2, 2], "seed": [0, 0, 1, 2], "elbo": [-3.0, -7.0, -1.0, -5.0]})
    spread = style.mean_and_spread(frame, "nc", "elbo")
    assert spread.columns.tolist() == ["nc", "mean", "min", "max", "std", "count"]
    one, three = spread.to_dict("records")
    assert three == {"nc": 2, "mean": -3.0, "min": -5.0, "max": -1.0, "std": 2.0, "count": 3}
    assert (one["mean"], one["min"], one["max"], one["count"]) == (-7.0, -7.0, -7.0, 1)
    assert np.isnan(one["std"])


def test_mean_and_spread_by_several_columns():
    frame = pd.DataFrame({"nc": [1, 1, 1], "mz": [1, 2, 2], "elbo": [1.0, 2.0, 4.0]})
    assert style.mean_and_spread(frame, ["nc", "mz"], "elbo")["mean"].tolist() == [1.0, 3.0]


def test_pictures_are_files_without_dates():
    figure, _ = style.new_figure(height=1.0)
    assert isinstance(figure, Figure)
    assert style.to_bytes(figure, "png").startswith(b"\x89PNG")
    pdf = style.to_bytes(figure, "pdf")
    assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf


def test_an_unknown_kind_of_picture_is_refused():
    figure, _ = style.new_figure(height=1.0)
    with pytest.raises(SpecError, match="kind of picture must be one of png, pdf; got 'jpg'"):
        style.to_bytes(figure, "jpg")


def test_methods_have_the_names_of_the_papers():
    papers = {
        "normal": "normal training",
        "dmaapx": "DMaaPx",
        "aug_naive": "Aug.Naive",
        "aug_tuned": "Aug.Tuned",
        "mollify": "Aug.Mollify",
        "rha": "normal training + RHA",
        "dmaapx+rha": "DMaaPx + RHA",
        "dmaapx+mollify": "DMaaPx + Aug.Mollify",
        "mix+aug_tuned": "mixture + Aug.Tuned",
        "another": "another",
    }
    assert {method: style.method_name(method) for method in papers} == papers
    assert set(METHOD_NAMES) == {*IMAGES, *MODIFIERS}


def test_every_method_has_a_colour_and_no_two_named_ones_look_alike():
    assert all(recipe(method).name == method for method in style.METHOD_COLOURS)
    colours = np.array([to_rgb(colour) for colour in style.METHOD_COLOURS.values()])
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1)[np.triu_indices(len(colours), 1)]
    assert apart.min() > 0.15
    unnamed = [style.method_colour(method) for method in ("aug_naive+rha", "more_real+rha")]
    assert all(map(is_color_like, unnamed)) and unnamed[0] != unnamed[1]
    assert style.method_colour("dmaapx") == style.OKABE_ITO["green"]


@pytest.mark.parametrize(
    ("values", "decimals", "text"),
    [
        ([-1.0, -3.0], 2, "-2.00 ± 1.41"),
        ([-12000.0, -12001.0, np.nan], 1, "-12,000.5 ± 0.7"),
        ([0.25], 2, "0.25"),
        ([-0.0004], 2, "0.00"),
        ([np.nan, np.inf], 2, "–"),
        ([], 2, "–"),
    ],
)
def test_mean_and_standard_deviation_in_words(values, decimals, text):
    assert style.plus_minus(pd.Series(values, dtype=float), decimals) == text


def test_a_markdown_table():
    assert style.markdown(("", "x"), [("a", "1"), ("b", "2")]) == "|  | x |\n| :-- | --: |\n| a | 1 |\n| b | 2 |\n"


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_legend_below_the_heading_covers_neither_it_nor_the_panel(count):
    figure, (axes,) = style.new_figure(height=4.0)
    style.head(figure, "Title", "facts")
    style.legend_below_head(figure, [style.handle(f"a rather long name {i}", style.INK) for i in range(count)])
    style.settle(figure)
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends) == 1 and len(figure.legends[0].get_texts()) == count
    heads = [text.get_window_extent() for text in axes.texts]
    assert axes.get_tightbbox(for_layout_only=True).y1 < box.y0 and box.y1 < min(head.y0 for head in heads)
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
