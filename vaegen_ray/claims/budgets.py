"""How many images are enough: k times more synthetic ones (Section 5.4), and as many more real ones (our control).

A budget of k means k times as many distinct images as the training set has.
"""

from collections.abc import Callable
from functools import partial

from vaegen_ray.analysis.statistics import POSITIVE, NotEnoughRuns, by_seed
from vaegen_ray.claims.claim import NATS, Claim, Results, Sides, point_key

ENDLESS = 0
"""The budget of samples that never come twice."""


def budget_one(results: Results) -> Sides:
    """Test ELBO of DMaaPx with as many samples as real images, and of normal training."""
    rows = results.last
    return Sides(by_seed(rows, "elbo_test", method="dmaapx", budget=1), by_seed(rows, "elbo_test", method="normal"))


def largest_budget(k: int) -> Callable[[Results], Sides]:
    """Test ELBO of DMaaPx with the largest budget, and with budget k."""

    def values(results: Results) -> Sides:
        rows = results.last
        budgets = by_seed(rows, "elbo_test", "budget", method="dmaapx").index.get_level_values("budget")
        largest = ENDLESS if ENDLESS in budgets else max(budgets)
        if largest != ENDLESS and largest <= k:
            raise NotEnoughRuns(f"no budget above k = {k}")
        ours, theirs = (by_seed(rows, "elbo_test", method="dmaapx", budget=budget) for budget in (largest, k))
        return Sides(ours, theirs, f"largest: {'endless' if largest == ENDLESS else f'k = {largest:g}'}")

    return values


def real_minus_synthetic(results: Results) -> Sides:
    """Test ELBO of k times more real images minus that of k times more synthetic ones, averaged over common k > 1."""
    real, synthetic = (by_seed(results.last, "elbo_test", "budget", method=of) for of in ("more_real", "dmaapx"))
    both = (real - synthetic).dropna().unstack()
    both = both[[k for k in both if k > 1]].dropna()
    if both.empty:
        raise NotEnoughRuns("more real and more synthetic data share no seed and budget k > 1")
    return Sides(both.mean(axis=1), note=", ".join(f"k = {k:g}: {both[k].mean():+.3g}" for k in both))


_claim = partial(Claim, section="5.4, Figure 4 right", sweep="synthetic_budget", unit=NATS)
SYNTHETIC_BUDGET = (
    _claim(
        id="synthetic_budget/one", values=budget_one, claimed=point_key,
        statement="As many synthetic as real images (k = 1) match normal training in test ELBO.",
        statistic="test ELBO, DMaaPx with k = 1 minus normal training",
    ),
    _claim(
        id="synthetic_budget/more", values=largest_budget(1), claimed=POSITIVE,
        statement="More synthetic images than real ones help: the test ELBO rises from k = 1 to the largest k.",
        statistic="test ELBO of DMaaPx, largest k minus k = 1",
    ),
    _claim(
        id="synthetic_budget/plateau", values=largest_budget(10), claimed=point_key, paper="k of about 10 suffices",
        statement="Ten times as many synthetic as real images suffice: from k = 10 on the test ELBO is on a plateau.",
        statistic="test ELBO of DMaaPx, largest k minus k = 10",
    ),
)  # fmt: skip
"""Section 5.4."""

MORE_REAL_DATA = (
    Claim(
        id="more_real_data/elbo_test", section="ours", sweep="more_real_data",
        statement="k times more real data helps more than k times more synthetic data.",
        statistic="test ELBO, k times more real data minus k times more synthetic data, mean over k > 1", unit=NATS,
        values=real_minus_synthetic, claimed=POSITIVE,
    ),
)  # fmt: skip
"""Our own control."""
