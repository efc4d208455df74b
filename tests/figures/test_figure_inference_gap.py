"""Bits a dimension by inference: unit, lines, the named gap, what was not measured, and the table beside."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.inference_gap import INFERENCES, draw
from vaegen_ray.spec.evaluation import ALPHAS

BINARY, GREY = ("mnist", "bernoulli", 2), ("mnist", "logistic", 256)
BITS = 784 * np.log(2)
OTHERS = [name for name in INFERENCES if name != "elbo_test"]
EPOCHS = (1, 50, *range(100, 1001, 100))


def tables(kinds=(BINARY, GREY), seeds=3):
    """Fake trials that are far worse before epoch 100; another inference is measured at every hundredth epoch."""
    rows = []
    for dataset, likelihood, levels in kinds:
        nats = 80.0 if levels == 2 else 800.0
        for seed in range(seeds):
            for epoch in EPOCHS:
                poor, grown = 3 * nats * (epoch < 100), nats * epoch / 10_000
                train, test, optimal = nats - grown + poor, nats + grown + poor, nats - 0.3 * grown + poor
                mixed = [(1 - share) * test + share * optimal for share in (0.1, 0.6, 0.4)]
                others = [optimal, *mixed] if epoch % 100 == 0 else [np.nan] * 4
                elbos = [-(value + 0.1 * seed) for value in (train, test, *others)]
                rows.append((f"{dataset}-{likelihood}-{seed}", dataset, likelihood, levels, seed, float(epoch), *elbos))
    columns = ["trial_id", "dataset", "likelihood", "levels", "seed", "effective_epoch", "elbo_train", *INFERENCES]
    same = {"method": "normal", "split": "random", "n_train": 10_000, "architecture": "fully_connected", "nc": 500}
    same |= {"hidden_layers": 2, "mz": 5, "beta": 1.0, "regulariser": "rate", "epochs": 1000, "status": "completed"}
    curves = pd.DataFrame(rows, columns=columns).assign(**same, image_shape="[1, 28, 28]")
    return both(curves)


def both(curves):
    """The last row of every trial, and all rows."""
    return curves.drop_duplicates("trial_id", keep="last").reset_index(drop=True), curves


def lines_in(axes):
    return {line.get_gid(): line for line in axes.lines}


def gaps_in(axes):
    return [text for text in axes.texts if text.get_gid() == "gap"]


def words_in(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def is_whole(figure):
    """Whether every text lies inside the figure."""
    box = figure.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    return all(figure.bbox.contains(*corner) for corner in (box.min, box.max))


def assert_bits(line, curves, elbo):
    """Whether ``line`` is the mean of -ELBO / (D ln 2) over the seeds, where it was measured."""
    mean = curves.dropna(subset=[elbo]).groupby("effective_epoch")[elbo].mean()
    np.testing.assert_allclose(line.get_xdata(), mean.index)
    np.testing.assert_allclose(line.get_ydata(), -mean / BITS)


@pytest.fixture(scope="module")
def made():
    return draw(*tables())


def test_overfitting_is_both_image_sets_beside_amortized_and_optimal_inference_in_bits(made):
    curves = tables()[1]
    axes = made["overfitting"].axes
    assert [panel.get_title() for panel in axes] == [
        f"{kind}: {what}"
        for kind in ("mnist, binary, bernoulli", "mnist, 256 grey levels, logistic")
        for what in ("overfitting", "optimal inference")
    ]
    for kind, left, right in ((BINARY, axes[0], axes[1]), (GREY, axes[2], axes[3])):
        mine = curves[curves["likelihood"] == kind[1]]
        assert set(lines_in(left)) == {"elbo_train", "elbo_test"}
        assert set(lines_in(right)) == {"elbo_test", "elbo_optimal_inference"}
        for panel in (left, right):
            for name, line in lines_in(panel).items():
                assert_bits(line, mine, name)


def test_the_gap_at_the_end_is_drawn_and_named(made):
    last, _ = tables()
    for panel, kind in zip(made["overfitting"].axes[1::2], (BINARY, GREY), strict=True):
        (gap,) = gaps_in(panel)
        mine = last[last["likelihood"] == kind[1]]
        ends = [-mine[name].mean() / BITS for name in ("elbo_optimal_inference", "elbo_test")]
        assert sorted((gap.xy[1], gap.xyann[1])) == pytest.approx(sorted(ends))
        assert gap.xy[0] == gap.xyann[0] == 1000
        assert "inference\ngeneralization\ngap" in [text.get_text() for text in panel.texts]
    assert not any(gaps_in(panel) for panel in made["overfitting"].axes[::2])


def test_a_gap_that_was_last_measured_earlier_is_drawn_there():
    curves = tables()[1]
    curves.loc[curves["effective_epoch"] > 500, OTHERS] = np.nan
    panel = draw(both(curves)[0], curves)["overfitting"].axes[1]
    (gap,) = gaps_in(panel)
    assert gap.xy[0] == 500
    at = curves[(curves["effective_epoch"] == 500) & (curves["likelihood"] == "bernoulli")]
    assert max(gap.xy[1], gap.xyann[1]) == pytest.approx(-at["elbo_test"].mean() / BITS)


def test_a_panel_a_kind_of_images_has_all_inferences(made):
    curves = tables()[1]
    axes = made["inference_gap"].axes
    assert [panel.get_title() for panel in axes] == ["mnist, binary, bernoulli", "mnist, 256 grey levels, logistic"]
    for kind, panel in zip((BINARY, GREY), axes, strict=True):
        lines = lines_in(panel)
        assert set(lines) == set(INFERENCES)
        for name, line in lines.items():
            assert_bits(line, curves[curves["likelihood"] == kind[1]], name)
    legend = [text.get_text() for text in made["inference_gap"].legends[0].get_texts()]
    assert legend == [look.name for look in INFERENCES.values()] and "self-consistent, α = 0.5" in legend


def test_every_alpha_has_a_line():
    assert [name for name in INFERENCES if "consistent" in name] == [
        f"elbo_self_consistent_{alpha}" for alpha in ALPHAS
    ]


def test_the_first_epochs_do_not_decide_about_the_range_and_the_picture_says_so(made):
    low, high = made["inference_gap"].axes[0].get_ylim()
    assert 70 / BITS < low < high < 100 / BITS
    for stem in ("overfitting", "inference_gap"):
        assert "what was measured from epoch 200 on; earlier values lie partly outside" in words_in(made[stem])


@pytest.mark.parametrize("missing", [["elbo_self_consistent_0"], OTHERS[1:], ["elbo_optimal_inference"]])
def test_an_inference_that_was_not_measured_has_no_line(missing):
    for last, curves in (
        [table.assign(**dict.fromkeys(missing, np.nan)) for table in tables((BINARY,))],
        [table.drop(columns=missing) for table in tables((BINARY,))],
    ):
        made = draw(last, curves)
        (panel,) = made["inference_gap"].axes
        assert set(lines_in(panel)) == set(INFERENCES) - set(missing)
        right = made["overfitting"].axes[1]
        assert bool(gaps_in(right)) == ("elbo_optimal_inference" not in missing)
        names = {INFERENCES[name].name for name in missing}
        assert not any(f"| {name} |" in made["inference_gap_table"] for name in names)
        assert not names & {text.get_text() for text in made["inference_gap"].legends[0].get_texts()}


def test_a_kind_without_another_inference_is_left_out_and_nothing_at_all_is_one_clear_line():
    last, curves = tables()
    grey = curves["likelihood"] == "logistic"
    some = curves.copy()
    some.loc[grey, OTHERS] = np.nan
    made = draw(both(some)[0], some)
    assert len(made["inference_gap"].axes) == 1 and "logistic" not in made["inference_gap_table"]
    with pytest.raises(VaegenError, match="another inference measured; got 6 trials without it"):
        draw(last.assign(**dict.fromkeys(OTHERS, np.nan)), curves.assign(**dict.fromkeys(OTHERS, np.nan)))


def test_the_table_has_bits_nats_and_distance_to_optimal_inference(made):
    rows = [line for line in made["inference_gap_table"].splitlines() if line.startswith("|")]
    assert rows[0] == "| Images | Inference | Bits a dimension | ELBO | Below optimal inference | Seeds |"
    assert len(rows) == 2 + 2 * 6
    kind = "mnist, binary, bernoulli"
    assert rows[2] == f"| {kind} | training set | 0.1327 ± 0.0002 | -72.10 ± 0.10 |  | 3 |"
    assert rows[3] == f"| {kind} | amortized inference | 0.1621 ± 0.0002 | -88.10 ± 0.10 | 10.40 ± 0.00 | 3 |"
    assert rows[4] == f"| {kind} | optimal inference | 0.1430 ± 0.0002 | -77.70 ± 0.10 |  | 3 |"
    assert rows[6] == f"| {kind} | self-consistent, α = 0.5 | 0.1506 ± 0.0002 | -81.86 ± 0.10 | 4.16 ± 0.00 | 3 |"


def test_nulls_of_old_files_are_filled_in(made):
    last, curves = tables()
    old = last.assign(split=None, hidden_layers=np.nan, regulariser=None)
    again = draw(old, curves)
    assert again["inference_gap_table"] == made["inference_gap_table"]
    assert style.to_bytes(again["inference_gap"], "png") == style.to_bytes(made["inference_gap"], "png")


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("kinds", [(BINARY,), (BINARY, GREY), (BINARY, GREY, ("digits", "bernoulli", 2))])
def test_any_number_of_kinds_and_seeds_is_drawn_whole(kinds, seeds):
    last, curves = tables(kinds, seeds)
    last = pd.concat([last, last.iloc[:1].assign(trial_id="failed", status="failed")])
    made = draw(last, curves)
    assert len(made["overfitting"].axes) == 2 * len(kinds) and len(made["inference_gap"].axes) == len(kinds)
    for stem in ("overfitting", "inference_gap"):
        assert is_whole(made[stem]) and f"Left out of {len(last)} trials: 1 failed" in words_in(made[stem])
        assert ("1 seed" if seeds == 1 else "mean of 3 seeds, shades and bars") in words_in(made[stem])
    assert "1 failed" in made["inference_gap_table"]


def test_equal_rows_in_any_order_give_equal_bytes(made):
    last, curves = tables()
    again = draw(last.sample(frac=1, random_state=1), curves.sample(frac=1, random_state=2))
    for stem in ("overfitting", "inference_gap"):
        assert style.to_bytes(again[stem], "png") == style.to_bytes(made[stem], "png")


def test_a_missing_column_missing_rows_and_mixed_experiments_are_refused():
    last, curves = tables()
    with pytest.raises(SpecError, match="rows of this figure must have the columns .*levels"):
        draw(last.drop(columns="levels"), curves)
    with pytest.raises(SpecError, match="curves of this figure must have the columns .*effective_epoch"):
        draw(last, curves.drop(columns="effective_epoch"))
    with pytest.raises(VaegenError, match="at least one completed trial"):
        draw(last.iloc[:0], curves.iloc[:0])
    for column in ("n_train", "hidden_layers", "epochs", "method", "beta"):
        last, curves = tables()
        last.loc[0, column] = {"method": "rha"}.get(column, 7)
        with pytest.raises(SpecError, match=f"must share one {column}; got"):
            draw(last, curves)
