"""How fast this machine is now, next to the one that the costs of ``CPU_CORE`` were measured on; without torch.

Three short loops of numpy on one thread, a quarter of a second together: products of matrices, small operations, and
additions in memory. Time is that of the clock, so that other work on the machine counts, as it will in the run.
"""

import time
from collections.abc import Callable
from functools import cache

import numpy as np

from vaegen_ray.bundle.cost import CPU_CORE, Device

PRODUCTS_PER_SECOND = 1.5e11
"""FLOP/s in the product below on the machine of ``CPU_CORE``, undisturbed."""
SMALL_SECONDS = 2.7e-7
"""An addition of 8 numbers there."""
BYTES_PER_SECOND = 3.8e10
"""An addition in memory there: two arrays read, one written."""
PROBE_SECONDS = 0.08
"""Time of each loop."""


@cache
def cpu_core() -> Device:
    """``CPU_CORE`` with the costs that it has on this machine; measured once in a process."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    batch, weights = np.ones((50, 256), np.float32), np.ones((256, 256), np.float32)
    small, large, sums = np.ones(8, np.float32), np.ones(2**20, np.float32), np.empty(2**20, np.float32)
    with threadpool_limits(1):
        product = _seconds(lambda: batch @ weights, 20)
        addition = _seconds(lambda: np.add(small, small), 500)
        memory = _seconds(lambda: np.add(large, large, out=sums), 2)
    return CPU_CORE.faster(
        linear=2 * 50 * 256 * 256 / product / PRODUCTS_PER_SECOND,
        small=SMALL_SECONDS / addition,
        memory=3 * large.nbytes / memory / BYTES_PER_SECOND,
    )


def _seconds(work: Callable[[], object], times: int) -> float:
    """Mean seconds of a piece of work, done in groups of ``times`` for ``PROBE_SECONDS``."""
    work()
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < PROBE_SECONDS:
        for _ in range(times):
            work()
        count += times
    return elapsed / count
