"""The registry of figures, the statistics over seeds, and pictures as bytes."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import FIGURES, draw, style


def test_every_registered_figure_can_be_loaded_and_says_what_it_needs():
    assert "double_descent" in FIGURES
    for name in FIGURES:
        with pytest.raises(SpecError, match="must have the columns"):
            draw(name, pd.DataFrame({"status": ["completed"]}))


def test_an_unknown_figure_lists_what_exists():
    with pytest.raises(SpecError, match="figure must be one of .*double_descent.*; got 'triple_descent'"):
        draw("triple_descent", pd.DataFrame())


def test_the_registry_loads_no_plotting_and_the_figures_no_ray_torch_or_pyplot():
    code = (
        "import sys, vaegen_ray.figures as f;"
        "assert not {'matplotlib', 'pandas', 'numpy'} & set(sys.modules);"
        "from importlib import import_module;"
        "[import_module(where.split(':')[0]) for where in f.FIGURES.values()];"
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
