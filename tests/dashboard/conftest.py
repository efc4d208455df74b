"""A small sweep that was really trained, its page on a server, and a browser to look at it."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

pytest.importorskip("dash", reason="the page is made with the extra [dashboard]")

SWEEP = "small"
SPECS = tuple(
    TrialSpec(nc=nc, n_train=60, batch_size=20, epochs=6, evaluate_at=(1, 3, 6), seed=seed)
    for nc in (1, 2, 8)
    for seed in (0, 1)
)
BUNDLES = [SPECS[i : i + 2] for i in range(0, len(SPECS), 2)]


def status(**more: Any) -> dict[str, Any]:
    """A heartbeat of now."""
    beat = {"time": time.time(), "vaes_per_minute": 2.0, "seconds_left": 90.0, "bundles_running": 1, "vaes_running": 2}
    return {**beat, "pools": {}, "ended": False, **more}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with the whole sweep ``small``: three bundles of two VAEs, trained by the worker that sweeps have."""
    import torch

    from vaegen_ray.service.worker.bundle_worker import Worker

    draw = np.random.default_rng(0)
    sets = [ImageSet(images=draw.integers(0, 2, (n, 1, 8, 8), dtype=np.uint8), levels=2) for n in (60, 40)]
    split = Split(train=sets[0], test=sets[1])
    store = SweepStore(Storage.open(tmp_path_factory.mktemp("trained")), SWEEP)
    ids = [spec.trial_id for spec in SPECS]
    declared = {"trials": [spec.as_dict() for spec in SPECS], "trial_ids": ids, "options": {"preset": "smoke"}}
    store.write_sweep_json({"sweep": SWEEP, "figures": [], **declared})
    worker = Worker(store, lambda spec: split, device=torch.device("cpu"), code_version="test", checkpoint_seconds=1e9)
    for bundle in BUNDLES:
        worker.start(bundle)
        while not worker.finished:
            worker.advance(0.01)
    return Path(store.storage.root)


@pytest.fixture
def growing(trained: Path, tmp_path: Path) -> tuple[SweepStore, Callable[[int], None]]:
    """The sweep as it was declared, without results, and what adds those of a bundle: metrics first, then its rows."""
    shutil.copytree(trained / SWEEP, tmp_path / SWEEP, ignore=shutil.ignore_patterns("*.parquet"))
    store = SweepStore(Storage.open(tmp_path), SWEEP)

    def add(number: int, folders: tuple[str, ...] = ("metrics", "trials")) -> None:
        from vaegen_ray.spec.trial import bundle_id

        for folder in folders:
            for file in sorted((trained / SWEEP / folder).glob(f"{bundle_id(BUNDLES[number])}*")):
                store.storage.write(f"{SWEEP}/{folder}/{file.name}", file.read_bytes())

    return store, add


@pytest.fixture(scope="session")
def serve() -> Callable[..., str]:
    """Starts a server over a folder, which ends with the tests; returns its address."""
    from vaegen_ray.dashboard.server import Server

    def start(folder: Path | str, **options: Any) -> str:
        server = Server(Storage.open(folder, create=False), **{"port": 0, **options})
        threading.Thread(target=server.run, daemon=True).start()
        return server.address

    return start


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium without a window; skipped where there is none (``tests/install.sh`` gets one)."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not found or not driver:
        pytest.skip("no chromium and chromedriver here; on Debian tests/install.sh installs them")
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for switch in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1280,900"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    made.downloads = downloads
    yield made
    made.quit()
