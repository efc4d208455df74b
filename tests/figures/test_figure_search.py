import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures.search import draw
from vaegen_ray.figures.style import to_bytes


@pytest.fixture
def rows() -> pd.DataFrame:
    """Twelve points of two seeds: the larger, the better, but for one of 30 nats below."""
    generator = np.random.default_rng(0)
    made = []
    for number in range(12):
        nc, beta = 4 * (1 + (5 * number) % 12), float(generator.choice([0.5, 1, 2]))
        made += [
            {
                "status": "completed", "dataset": "digits", "n_train": 100, "validation": 20, "epochs": 9,
                "architecture": "fully_connected", "levels": 2, "likelihood": "bernoulli", "precision": "float32",
                "nc": nc, "mz": 1, "batch_size": 50, "hidden_layers": 2,
                "beta": beta, "learning_rate": 1e-3, "method": "normal",
                "augment_probability": 0.1, "augment_strength": 1.0, "seed": seed, "params_total": 10 * nc + number,
                "elbo_validation": -30.0 + np.log(nc) + 0.1 * seed - 30 * (number == 3), "elbo_test": -29.0,
                "finished_at": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(minutes=number),
            }
            for seed in (0, 1)
        ]  # fmt: skip
    return pd.DataFrame(made)


def test_the_best_so_far_never_falls_and_the_front_is_drawn_by_size(rows: pd.DataFrame) -> None:
    figure = draw(rows)["search"]
    lines = {line.get_gid(): line.get_xydata() for axes in figure.axes for line in axes.lines}
    assert len(lines["best"]) == 12 and (np.diff(lines["best"][:, 1]) >= 0).all() and len(lines["pruned"]) == 0
    means = rows.groupby("params_total")["elbo_validation"].mean()
    assert lines["best"][-1, 1] == pytest.approx(means.max())
    assert (np.diff(lines["front"], axis=0) > 0).all()
    assert lines["front"][-1, 1] == pytest.approx(means.max()) and lines["front"][0, 0] == rows["params_total"].min()
    assert to_bytes(figure, "png") == to_bytes(draw(rows)["search"], "png")


def test_stopped_points_stand_in_the_order_and_count_for_nothing(rows: pd.DataFrame) -> None:
    stopped = rows[rows["nc"] == rows["nc"].max()].assign(status="pruned")
    kept = rows.drop(stopped.index)
    figure = draw(kept, stopped)["search"]
    lines = {line.get_gid(): line.get_xydata() for axes in figure.axes for line in axes.lines}
    assert len(lines["pruned"]) == len(stopped) / 2 and len(lines["best"]) == 12
    assert lines["best"][-1, 1] == pytest.approx(kept.groupby("params_total")["elbo_validation"].mean().max())


def test_a_point_without_all_its_seeds_is_left_out_and_counted(rows: pd.DataFrame) -> None:
    """Its second seed failed; the first alone would be the best point of all."""
    best = rows["nc"] == 20
    rows.loc[best, "elbo_validation"] = 0.0
    made = draw(rows[~(best & (rows["seed"] == 1))])
    figures = made["search"], draw(rows)["search"]
    lines = {line.get_gid(): line.get_xydata() for axes in made["search"].axes for line in axes.lines}
    assert len(lines["best"]) == 11 and lines["best"][-1, 1] < -20 and "| 0.00 |" not in made["search_table"]
    words, all_words = (" ".join(each.get_text() for each in figure.findobj(Text)) for figure in figures)
    assert "Left out: points without 2 completed seeds, 1" in words and "mean of 2 seeds" in words
    assert "Left out" not in all_words


def test_the_table_ranks_by_validation(rows: pd.DataFrame) -> None:
    table = draw(rows)["search_table"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0][:4] == ["validation ELBO", "test ELBO", "parameters", "front"] and cells[0][4:] == ["nc", "beta"]
    values = [float(row[0]) for row in cells[2:]]
    assert values == sorted(values, reverse=True) and cells[2][3] == "yes"


def test_rows_of_two_searches_or_of_none_are_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(SpecError, match="share one epochs"):
        draw(rows.assign(epochs=[9, 8] * 12))
    with pytest.raises(SpecError, match="share one architecture"):
        draw(rows.assign(architecture=["fully_connected", "mine"] * 12))
    with pytest.raises(VaegenError, match="at least one completed trial"):
        draw(rows[:0])
