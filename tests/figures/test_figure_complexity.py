"""The complexity axes as a figure of their own; ``test_figure_double_descent`` looks at the same picture closely."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import Tables, complexity, double_descent, draw, style


def rows_for(points, method="normal", seeds=2):
    """Fake finished trials: a test ELBO and a gap that differ for every trial."""
    rows = [
        (f"{method}-{nc}-{mz}-{seed}", method, seed, nc, mz, 10 * nc * mz, -20 + mz / nc + 0.1 * seed, nc / mz + seed)
        for nc, mz in points
        for seed in range(seeds)
    ]
    varied = ["trial_id", "method", "seed", "nc", "mz", "params_total", "elbo_test", "generalization_gap"]
    same = {"dataset": "digits", "architecture": "fully_connected", "likelihood": "bernoulli"}
    return pd.DataFrame(rows, columns=varied).assign(**same, status="completed", epochs=300, n_train=500)


GRID = list(product((4, 8, 16), (1, 2, 4)))


def test_it_is_drawn_alone_without_the_number_of_parameters():
    rows = rows_for(GRID).drop(columns="params_total")
    made = draw("complexity_axes", Tables(rows, pd.DataFrame(), pd.DataFrame()))
    assert list(made) == ["complexity_axes"]
    assert [axes.get_xlabel()[:5] for axes in made["complexity_axes"].axes] == ["$m_z$", "$m_z$", "$n_c$", "$n_c$"]


def test_double_descent_shows_the_same_picture_beside_it():
    rows = rows_for(GRID)
    alone, beside = complexity.draw(rows)["complexity_axes"], double_descent.draw(rows)["complexity_axes"]
    assert style.to_bytes(alone, "png") == style.to_bytes(beside, "png")


def test_a_line_is_the_mean_over_the_seeds():
    figure = complexity.draw(rows_for(GRID))["complexity_axes"]
    lines = {line.get_gid(): line for line in figure.axes[3].lines}
    assert list(lines["normal mz=2"].get_xdata()) == [4, 8, 16]
    np.testing.assert_allclose(lines["normal mz=2"].get_ydata(), [4 / 2 + 0.5, 8 / 2 + 0.5, 16 / 2 + 0.5])


def test_mixed_experiments_and_streams_are_refused():
    with pytest.raises(SpecError, match="must share one epochs; got 300, 400"):
        complexity.draw(pd.concat([rows_for(GRID), rows_for(GRID).assign(epochs=400)]))
    streams = [rows_for(GRID, "dmaapx").assign(samples_digest=digest) for digest in ("a", "b")]
    with pytest.raises(SpecError, match="must share one samples_digest; got a, b"):
        complexity.draw(pd.concat(streams))


def test_nothing_completed_is_one_clear_line():
    with pytest.raises(VaegenError, match="needs at least one completed trial"):
        complexity.draw(rows_for(GRID).assign(status="failed"))
