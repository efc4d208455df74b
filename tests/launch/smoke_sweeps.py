"""Runs sweep scripts with the smallest preset in one process on one Ray: ``python smoke_sweeps.py STORAGE NAME ...``.

Before a sweep it prints ``>>> NAME``, after it ``<<< NAME EXIT_CODE``.
"""

import importlib.util
import sys
from pathlib import Path

from vaegen_ray.launch.main import main
from vaegen_ray.service.cluster import connect
from vaegen_ray.service.driver import workers

SWEEPS = Path(__file__).parents[2] / "sweeps"


def run(name: str, *argv: str) -> int:
    """Runs one script as its own process would; returns the exit code."""
    spec = importlib.util.spec_from_file_location(name, SWEEPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    add_options = module.add_options if hasattr(module, "add_options") else module.add_shared
    return main(module.declare, "a sweep", add_options, list(argv))


if __name__ == "__main__":
    storage, *names = sys.argv[1:]
    connect.connect(None)
    workers.connect.connect = lambda address, bundle_bytes=0: None
    leave, workers.connect.disconnect = workers.connect.disconnect, lambda: None
    try:
        for name in names:
            print(f">>> {name}", flush=True)
            code = run(name, "--preset", "smoke", "--storage", storage)
            print(f"<<< {name} {code}", flush=True)
    finally:
        leave()
