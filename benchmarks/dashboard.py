"""Seconds that the views of the dashboard take over a large sweep: 10,000 trials x 100 evaluations.

    python benchmarks/dashboard.py                                  # writes the sweep into a temporary folder
    python benchmarks/dashboard.py --storage DIR                    # keeps it there, and uses it the next time

The files are written by the store that sweeps use, from made-up numbers: 400 bundles of 25 trials, 10 files of metrics
a bundle. Timed are the first look at the files, then the callbacks as the server answers them over HTTP, then, where
there is a Chromium, what a reader waits for: from the call of the page to what is seen in it.
"""

import argparse
import json
import math
import shutil
import tempfile
import threading
import time
import urllib.request
from itertools import product
from statistics import median

from machine import describe

from vaegen_ray.dashboard.server import Server
from vaegen_ray.dashboard.sweeps import Sweeps
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec, bundle_id

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


class Client:
    """Asks a server for what the page would ask it for."""

    def __init__(self, address: str) -> None:
        self.address = address
        with urllib.request.urlopen(f"{address}/_dash-dependencies") as answer:
            self._callbacks = {each["output"]: each for each in json.load(answer)}

    def seconds(self, output: str, **values: object) -> float:
        """Asks for the answer of the callback that has ``output``; ``values`` are those of its inputs, by their ids."""
        name = next(each for each in self._callbacks if output in each.strip(".").split("..."))
        made = self._callbacks[name]
        known = {"version": "0", "url": f"/sweep/{SWEEP}", "sort": ["", False], "chosen": [], "page": 0} | values

        def filled(each: dict[str, str]) -> dict[str, object]:
            return {**each, "value": known.get(each["id"])}

        parts = [
            dict(zip(("id", "property"), part.rsplit(".", 1), strict=True)) for part in name.strip(".").split("...")
        ]
        asked = {
            "output": name,
            "outputs": parts if name.startswith("..") else parts[0],
            "inputs": [filled(each) for each in made["inputs"]],
            "state": [filled(each) for each in made["state"]],
            "changedPropIds": [],
        }
        request = urllib.request.Request(f"{self.address}/_dash-update-component", json.dumps(asked).encode())
        request.add_header("Content-Type", "application/json")
        started = time.perf_counter()
        with urllib.request.urlopen(request) as answer:
            answer.read()
        return time.perf_counter() - started


CALLBACKS: dict[str, tuple[str, dict[str, object]]] = {
    "all sweeps": ("sweeps.children", {}),
    "a sweep: what is done, what runs": ("state.children", {}),
    "page of the figure": ("main.children", {}),
    "page of the curves": ("main.children", {"url": f"/sweep/{SWEEP}/curves"}),
    "page of the table": ("main.children", {"url": f"/sweep/{SWEEP}/table"}),
    "page of what failed": ("main.children", {"url": f"/sweep/{SWEEP}/failed"}),
    "figure": ("figure.figure", {"x": "nc", "y": "neg_elbo_test", "colour": "mz"}),
    "learning curves of six": ("curves.figure", {"quantity": "elbo"}),
    "table": ("table.children", {}),
    "table, filtered and sorted": (
        "table.children",
        {"table-filter": "nc>=64 seed=0", "sort": ["elbo_test", True]},
    ),
    "download of all rows": ("file.data", {"download": 1}),
    "failed trials": ("failed.children", {}),
}
SEEN = {"": "#figure .point", "/curves": "#curves .point", "/table": "#table tbody tr", "/failed": "#failed h2"}
"""A view, and what is seen when it is there."""


def browse(address: str) -> None:
    """Prints what a reader waits for, where there is a Chromium."""
    found, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not found or not driver:
        print("no chromium and chromedriver here: pages were not timed")
        return
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found
    for switch in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{switch}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.get(address)  # the scripts are kept from here on
    for view, css in SEEN.items():
        times = []
        for _ in range(5):
            started = time.perf_counter()
            browser.get(f"{address}/sweep/{SWEEP}{view}")
            while not browser.execute_script("return document.querySelector(arguments[0])", css):
                time.sleep(0.01)
            times.append(time.perf_counter() - started)
        print(f"page {view or 'figure':28s} {median(times):6.2f} s (from {min(times):.2f} to {max(times):.2f})")
    browser.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="where the sweep is or goes [default: a temporary folder]")
    parser.add_argument("--trials", type=int, default=10_000, help="[default: 10000]")
    parser.add_argument("--evaluations", type=int, default=100, help="[default: 100]")
    options = parser.parse_args()
    print(describe("dash", "plotly", "pandas", "pyarrow"))
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.open(options.storage or folder)
        if SWEEP not in storage.folders():
            write(storage, options.trials, options.evaluations)
        started = time.perf_counter()
        Sweeps(storage)[SWEEP].seen()
        print(f"first look, which the server takes at its start {time.perf_counter() - started:6.2f} s")
        server = Server(storage, port=0)
        threading.Thread(target=server.run, daemon=True).start()
        client = Client(server.address)
        client.seconds("main.children")  # waits for the first look
        print("callback                           median of 5, from, to (s)")
        for name, (output, values) in CALLBACKS.items():
            times = [client.seconds(output, **values) for _ in range(5)]
            print(f"{name:34s} {median(times):6.3f} {min(times):6.3f} {max(times):6.3f}")
        browse(server.address)


if __name__ == "__main__":
    main()
