"""Seconds that the views of the dashboard take over a large sweep: 10,000 trials x 100 evaluations.

    python benchmarks/dashboard.py                                  # writes the sweep into a temporary folder
    python benchmarks/dashboard.py --storage DIR                    # keeps it there, and uses it the next time

The files are written by the store that sweeps use, from made-up numbers: 400 bundles of 25 trials, 10 files of metrics
a bundle. First the callbacks are timed as the server answers them over HTTP, cold (nothing was read yet) and again;
then, where there is a Chromium, what a reader waits for: from the call of the page to what is seen in it.
"""

import math
import sys
from itertools import product

from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.trial import TrialSpec, bundle_id

SWEEP, SEGMENTS = "large", 10


def specs(trials: int, evaluations: int) -> list[TrialSpec]:
    """Trials over nc, mz and seed."""
    seeds = -(-trials // 400)
    grid = product(range(8, 168, 8), range(1, 21), range(seeds))
    at = tuple(range(1, evaluations + 1))
    return [TrialSpec(nc=nc, mz=mz, seed=seed, epochs=evaluations, evaluate_at=at) for nc, mz, seed in grid][:trials]


def numbers(spec: TrialSpec, epoch: int) -> dict[str, float]:
    """Made-up metrics that look like those of a VAE."""
    size, wobble = math.log(spec.nc * spec.mz), math.sin(17 * spec.seed + spec.nc)
    test = -30 + 2 * size - 0.1 * size**2 + 0.2 * wobble - 20 / epoch
    gap = 0.3 * size * epoch / spec.epochs
    return {
        "elbo_train": test + gap,
        "elbo_test": test,
        "generalization_gap": gap,
        "rate_train": size,
        "rate_test": size,
        "distortion_train": -test - gap - size,
        "distortion_test": -test - size,
        "bits_per_dim_test": -test / 64 / math.log(2),
    }


def write(storage: Storage, trials: int, evaluations: int) -> None:
    """Writes the sweep, as finished."""
    store, declared = SweepStore(storage, SWEEP), specs(trials, evaluations)
    length = -(-evaluations // SEGMENTS)
    for start in range(0, trials, 25):
        bundle = declared[start : start + 25]
        name = bundle_id(bundle)
        for first in range(1, evaluations + 1, length):
            epochs = range(first, min(first + length, evaluations + 1))
            rows = [
                {"trial_id": spec.trial_id, "effective_epoch": epoch, "step": 10 * epoch, **numbers(spec, epoch)}
                for epoch, spec in product(epochs, bundle)
            ]
            store.write_metrics(name, epochs[0], epochs[-1], rows)
        done = {"params_z": 1, "params_rest": 1, "wall_seconds": 1.0, "code_version": "made up"}
        rows = [trial_row(spec, sweep=SWEEP, bundle_id=name, status="completed", **done) for spec in bundle]
        store.commit_trials(name, rows)
    declaration = {"trials": [spec.as_dict() for spec in declared], "trial_ids": [spec.trial_id for spec in declared]}
    store.write_sweep_json({"sweep": SWEEP, "figures": [], **declaration})


if __name__ == "__main__":
    write(Storage.open(sys.argv[1]), 10_000, 100)
