"""The evaluations of a sweep as they arrive in the storage, each file read once.

arriving = Arriving(storage, "double_descent")
arriving.take()     # what was written since the last call
"""

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from vaegen_ray.results.parquet import SAFE_NAME, SUFFIX, read_files
from vaegen_ray.results.schema import MEASURED, METRICS
from vaegen_ray.results.storage import Storage

SCALARS = tuple(name for name in MEASURED if pa.types.is_floating(METRICS.field(name).type))
"""The columns that say what was found; whole numbers say how it was measured."""


@dataclass(frozen=True)
class Arrived:
    """What came with one call."""

    evaluations: list[tuple[float, pd.DataFrame]]
    """For each file the seconds since 1970 at which it was written, and its rows (``schema.METRICS``)."""
    anew: bool
    """A file of before has gone or was written again, so these are all evaluations once more, not the new ones."""
    notes: tuple[str, ...]
    """One line a file that could not be read."""


class Arriving:
    """Reads the evaluations of the sweep ``sweep``; there may be none yet."""

    def __init__(self, storage: Storage, sweep: str) -> None:
        self._storage, self._folder = storage, f"{sweep}/metrics"
        self._stamps: dict[str, tuple[int, int]] = {}

    def take(self) -> Arrived:
        """The evaluations that no earlier call gave, or all where what was given holds no longer.

        Raises:
            StorageError: the storage cannot be read.
            DataFormatError: a file was written by a later version of vaegen_ray.
        """
        there = {n: stamp for n, stamp in self._storage.stamps(self._folder, SUFFIX).items() if SAFE_NAME.fullmatch(n)}
        anew = any(there.get(name) != stamp for name, stamp in self._stamps.items())
        names = [name for name in there if anew or name not in self._stamps]
        tables, corrupt = read_files(self._storage, self._folder, names, METRICS)
        self._stamps = {name: there[name] for name in there if name not in names or name in tables or name in corrupt}
        where = self._storage.where(self._folder)
        return Arrived(
            [(there[name][1] / 1e9, table.to_pandas()) for name, table in tables.items()],
            anew,
            tuple(f"{where}/{name} was skipped: {reason}" for name, reason in corrupt.items()),
        )
