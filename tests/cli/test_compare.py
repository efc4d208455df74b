"""``vaegen compare``: equal to the bit, where it differs, and whether B is better."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy import stats

from vaegen_ray.results.schema import VERSION_KEY
from vaegen_ray.spec import trial
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_stream

Run = Callable[..., tuple[int, str, str]]


def specs(seeds: range = range(3), **fields: Any) -> list[TrialSpec]:
    return [TrialSpec(nc=nc, seed=seed, evaluate_at=(100, 300), **fields) for nc in (8, 16) for seed in seeds]


def elbo(spec: TrialSpec, epoch: int) -> float:
    return -20.0 - spec.nc / 10 - spec.seed / 7 + epoch / 1000


def words(out: str, first: str) -> list[str]:
    """The words of the line that starts with ``first``."""
    (line,) = (line for line in out.splitlines() if line.split()[:1] == [first])
    return line.split()


def test_the_same_trials_in_other_bundles_and_another_storage_are_equal(
    write: Callable, vaegen: Run, tmp_path: Path
) -> None:
    write("s", specs(), elbo, size=2, details=True)
    write("s", specs()[::-1], elbo, size=3, details=True, folder=tmp_path / "other")
    code, out, err = vaegen("compare", "s", "s", "--storage-b", str(tmp_path / "other"))
    assert (code, err) == (0, "")
    assert "6 in both, 0 in A alone, 0 in B alone" in out and "equal, to the bit (12 evaluations)" in out


def test_one_number_that_differs_is_found(write: Callable, vaegen: Run) -> None:
    odd = specs()[4]
    write("a", specs(), elbo)
    write("b", specs(), lambda spec, epoch: elbo(spec, epoch) * (1 + 1e-6 * (spec == odd and epoch == 100)))
    code, out, _ = vaegen("compare", "a", "b")
    column, rows, trials, largest, relative, trial, epoch = words(out, "elbo_test")
    assert code == 1 and (column, rows, trials) == ("elbo_test", "1", "1")
    assert float(largest) == pytest.approx(-1e-6 * elbo(odd, 100), rel=0.01) and float(relative) == pytest.approx(1e-6)
    assert (trial, epoch) == (odd.trial_id, "100")
    assert "2 that both have, with equal means of the same seeds" in out, "at the last epoch all are equal"
    assert vaegen("compare", "a", "b", "--tolerance", "1e-5")[0] == 0
    assert vaegen("compare", "a", "b", "--tolerance", "1e-7")[0] == 1


def test_what_one_side_lacks_is_a_difference(write: Callable, vaegen: Run) -> None:
    write("a", specs(), elbo, details=True)
    write("b", specs(), elbo, epochs=(300,), details=True)
    code, out, _ = vaegen("compare", "a", "b")
    assert code == 1
    assert words(out, "evaluation")[:6] == ["evaluation", "in", "A", "alone", "6", "6"]
    assert words(out, "series")[:6] == ["series", "in", "A", "alone", "6", "6"]
    write("c", specs(), elbo, details=True, more={"fid": 3.0})
    code, out, _ = vaegen("compare", "a", "c", "--tolerance", "0.5")
    assert code == 1 and words(out, "fid")[:3] == ["fid", "12", "6"]
    write("d", specs()[:5], elbo, details=True)
    code, out, _ = vaegen("compare", "a", "d")
    assert code == 1 and "5 in both, 1 in A alone, 0 in B alone" in out


def test_series_and_the_end_of_trials_are_compared(write: Callable, vaegen: Run) -> None:
    write("a", specs(), elbo, details=True)
    write("b", specs(), lambda spec, epoch: elbo(spec, epoch) + (spec == specs()[0]), details=True, failed=specs()[1:2])
    code, out, _ = vaegen("compare", "a", "b")
    assert code == 1
    assert words(out, "log_q")[1:4] == ["2", "1", "1"] and words(out, "elbo_test")[1:4] == ["2", "1", "1"]
    assert words(out, "status")[1:3] == ["1", "1"] and words(out, "failed_epoch")[1:3] == ["1", "1"]


def test_is_b_better_where_seeds_pair(write: Callable, vaegen: Run) -> None:
    gains = {0: 1.0, 1: 1.2, 2: 0.8}
    write("a", specs(epochs=300), elbo)
    write("b", specs(learning_rate=2e-3), lambda spec, epoch: elbo(spec, epoch) + gains[spec.seed] * (spec.nc == 8))
    code, out, _ = vaegen("compare", "a", "b", "--metrics", "elbo_test")
    assert code == 1 and "none that both have; A and B have nothing in common in learning_rate" in out
    code, out, _ = vaegen("compare", "a", "b", "--metrics", "elbo_test", "--ignore", "learning_rate")
    half = stats.sem(list(gains.values())) * stats.t.ppf(0.975, 2)
    assert code == 1 and words(out, "8") == ["8", "3", "-20.643", "1.00", "±", f"{half:.2f}", "*"]
    assert "1 with means that differ" in out, "nc 16 has equal ones"
    assert "elbo_test: B is higher at 1, lower at 0, undecided at 0" in out


def test_is_b_better_where_seeds_do_not_pair(write: Callable, vaegen: Run) -> None:
    write("a", specs(range(3)), elbo)
    write("b", specs(range(3, 7)), elbo)
    _, out, _ = vaegen("compare", "a", "b", "--metrics", "elbo_test")
    a, b = ([elbo(spec, 300) for spec in specs(seeds) if spec.nc == 16] for seeds in (range(3), range(3, 7)))
    low, high = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    said = words(out, "16")
    assert said[1:6] == ["3", "and", "4,", "not", "paired"]
    assert float(said[7]) == pytest.approx((low + high) / 2, abs=0.005)
    assert float(said[9]) == pytest.approx((high - low) / 2, abs=0.005)
    assert said[-1] == "*" and "lower at 2" in out


def test_one_seed_has_no_interval(write: Callable, vaegen: Run) -> None:
    write("a", specs(range(1)), elbo)
    write("b", specs(range(1, 2)), elbo)
    _, out, _ = vaegen("compare", "a", "b", "--metrics", "elbo_test")
    assert "±" not in words(out, "16") and "undecided at 2" in out


def test_of_seeds_that_both_have_the_means_are_equal(write: Callable, vaegen: Run) -> None:
    write("a", specs(range(3)), elbo)
    write("b", specs(range(5)), elbo)
    code, out, _ = vaegen("compare", "a", "b")
    assert code == 1 and "6 in both, 0 in A alone, 4 in B alone" in out
    assert "2 that both have, with equal means of the same seeds" in out


def test_what_separates_the_sides_is_what_no_trial_shares(write: Callable, vaegen: Run) -> None:
    """Streams are absent on both sides, and there on one."""
    write("a", specs(), elbo)
    stream = base_stream("digits", "smoke", n_train=500)
    write("b", specs(learning_rate=2e-3) + specs(learning_rate=2e-3, method="dmaapx", stream=stream), elbo)
    _, out, _ = vaegen("compare", "a", "b")
    assert "have nothing in common in learning_rate (see --ignore)" in out


def test_a_side_without_completed_trials_has_no_points(write: Callable, vaegen: Run) -> None:
    write("a", specs(), elbo, failed=specs())
    write("b", specs(range(3, 6)), elbo)
    code, out, _ = vaegen("compare", "a", "b")
    assert code == 1 and "points  none; no trial of A is completed" in out


def test_what_one_side_did_not_measure_is_no_difference_of_means(write: Callable, vaegen: Run) -> None:
    write("a", specs(), elbo)
    write("b", specs(), elbo, more={"fid": 3.0})
    _, out, _ = vaegen("compare", "a", "b", "--metrics", "fid,elbo_test")
    assert "2 that both have, with equal means of the same seeds" in out and "fid: not measured by both" in out
    _, out, _ = vaegen("compare", "a", "b", "--metrics", "fid")
    assert "with means that differ" not in out and "equal means" not in out and "fid: not measured by both" in out


def test_seeds_are_those_of_each_metric(write: Callable, vaegen: Run) -> None:
    write("a", specs(), elbo)
    gains = {0: 1.0, 1: 1.2, 2: float("nan")}
    write("b", specs(learning_rate=2e-3), lambda spec, epoch: elbo(spec, epoch) + gains[spec.seed], more={"fid": 1.0})
    write("c", specs(), elbo, more={"fid": 3.0})
    _, out, _ = vaegen("compare", "c", "b", "--metrics", "elbo_test,fid", "--ignore", "learning_rate")
    (head,) = (line for line in out.splitlines() if line.strip().startswith("nc"))
    assert "elbo_test seeds" in head and "fid seeds" in head
    nc, of_elbo, *_, of_fid, _, fid = (word for word in words(out, "16") if word not in ("±", "*"))
    assert (nc, of_elbo, of_fid, float(fid)) == ("16", "2", "3", -2.0)


def test_trials_of_two_numerics_are_not_taken_for_each_other(
    write: Callable, vaegen: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", specs(), elbo)
    monkeypatch.setattr(trial, "NUMERICS_VERSION", trial.NUMERICS_VERSION + 1)
    write("b", specs(), lambda spec, epoch: elbo(spec, epoch) + 1)
    code, out, _ = vaegen("compare", "a", "b", "--metrics", "elbo_test")
    assert code == 1 and "0 in both, 6 in A alone, 6 in B alone" in out and words(out, "8")[3] == "1"
    write("a", specs(), elbo)
    code, out, err = vaegen("compare", "a", "b")
    assert (code, out) == (2, "") and "trials of one point that also differ in numerics_version (1, 2)" in err


def test_every_place_of_a_series_counts(write: Callable, vaegen: Run) -> None:
    """The fixture's series are the ELBO and 1; a large number that is equal excuses no small one."""
    write("a", specs(), elbo, details=True, series=(1e-3, 1e6))
    write("b", specs(), elbo, details=True, series=(2e-3, 1e6 + 1))
    write("c", specs(), elbo, details=True, series=(float("inf"), 1e6))
    code, out, _ = vaegen("compare", "a", "b", "--tolerance", "1e-3")
    assert code == 1 and words(out, "log_q")[1:5] == ["12", "6", "0.001", "0.5"]
    code, out, err = vaegen("compare", "a", "c", "--tolerance", "0.5")
    assert (code, err) == (1, "") and words(out, "log_q")[1:5] == ["12", "6", "inf", "-"]
    assert vaegen("compare", "c", "c")[::2] == (0, "")


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_a_row_without_a_specification_is_one_line(write: Callable, vaegen: Run, storage: Path, text: str) -> None:
    write("a", specs(), elbo)
    write("b", specs(range(3, 4)), elbo)
    (path,) = (storage / "b" / "trials").iterdir()
    table = pq.read_table(path)
    place = table.schema.get_field_index("spec_json")
    broken = table.set_column(place, table.schema.field(place), [[text] * len(table)]).drop_columns("files")
    pq.write_table(broken.replace_schema_metadata({VERSION_KEY: "1"}), path)
    code, out, err = vaegen("compare", "a", "b")
    assert (code, out) == (2, "") and "has the spec_json of trial" in err


def test_what_is_ignored_must_leave_one_trial_a_seed(write: Callable, vaegen: Run) -> None:
    write("a", specs(), elbo)
    write("b", specs(range(3, 6)), elbo)
    code, out, err = vaegen("compare", "a", "b", "--ignore", "nc")
    assert (code, out) == (2, "") and "trials of one point that also differ in nc (8, 16): ignore less than nc" in err
    assert len(err.splitlines()) == 1


def test_seeds_with_other_values_of_what_is_ignored_are_no_further_seeds(write: Callable, vaegen: Run) -> None:
    apart = [TrialSpec(nc=8, seed=seed, batch_size=50 if seed < 2 else 100) for seed in range(4)]
    write("a", apart, elbo)
    write("b", [TrialSpec(nc=8, seed=seed, batch_size=25) for seed in range(4)], elbo)
    code, out, err = vaegen("compare", "a", "b", "--ignore", "batch_size")
    assert (code, out) == (2, "") and "a mean of A must be over trials that differ in the seed alone" in err
    assert "batch_size (50, 100): ignore less than batch_size" in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a", "absent"], "absent"),
        (["a", "../x"], "'../x'"),
        (["a", "empty"], "is committed yet"),
        (["a"], "required: B"),
        (["a", "a", "--tolerance", "1"], "'1'"),
        (["a", "a", "--metrics", "ncc"], "got 'ncc'"),
        (["a", "a", "--ignore", "elbo_test"], "got 'elbo_test'"),
        (["a", "a", "--storage-b", "ftp://host/x"], "ftp"),
    ],
)
def test_a_wrong_input_is_one_line(write: Callable, vaegen: Run, given: list[str], said: str) -> None:
    write("a", specs(), elbo)
    write("empty", [], elbo)
    code, out, err = vaegen("compare", *given)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and said in err
