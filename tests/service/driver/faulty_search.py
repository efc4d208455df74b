"""A small search in which a process is struck at a chosen point, once; as ``faulty_sweep.py``, with two points more:

mark, marked            the driver, before and after it commits the trials of a point that it stops
"""

import importlib.util
import sys
from pathlib import Path

import faulty_sweep
from faulty_sweep import FaultyStore, FaultyTrainable, between
from ray import cloudpickle

from vaegen_ray.launch.main import main
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.driver import session, tune

OF_DRIVER = {**faulty_sweep.OF_DRIVER, "commit_trials": ("mark", "marked")}

if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("sweep", Path(__file__).parents[3] / "sweeps" / "search.py")
    assert spec is not None and spec.loader is not None
    sweep = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sweep)
    cloudpickle.register_pickle_by_value(faulty_sweep)  # workers do not find it by its name
    tune.BundleTrainable = FaultyTrainable  # type: ignore[misc]
    for name, points in OF_DRIVER.items():
        setattr(FaultyStore, name, between(getattr(SweepStore, name), *points))
    session.SweepStore = FaultyStore  # type: ignore[misc]
    sys.exit(main(sweep.declare, "A search with a fault.", sweep.add_options, sys.argv[5:]))
