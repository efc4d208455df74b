"""What Ray's own metrics show of a sweep, read as Prometheus reads it."""

import re
import time
import urllib.request
from collections.abc import Iterator

import pytest
import ray

from vaegen_ray.service.cluster import connect
from vaegen_ray.service.driver.metrics import Metrics
from vaegen_ray.service.driver.progress import Progress

pytest.importorskip("opencensus", reason="Ray serves metrics with ray[default] alone")
SECONDS = 600.0
POOL = {"images_made": 1000, "waited_seconds": 5.0, "shards_waited_for": [3, 4]}


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    connect.connect(None)
    yield
    connect.disconnect()


def shown(sweep: str) -> dict[str, float]:
    """Values by name, of one sweep, at the port of this node."""
    (node,) = ray.nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    found = (re.fullmatch(r"ray_(vaegen_\w+)\{(.*)\} (\S+)", line) for line in lines)
    return {each[1]: float(each[3]) for each in found if each and f'sweep="{sweep}"' in each[2]}


def until(sweep: str, name: str, value: float) -> dict[str, float]:
    end = time.monotonic() + SECONDS
    while (seen := shown(sweep)).get(name) != value:
        assert time.monotonic() < end, seen
        time.sleep(0.2)
    return seen


def test_a_sweep_is_seen_in_rays_metrics() -> None:
    metrics, progress = Metrics("seen"), Progress(10, [1.0, 1.0], [5, 5])
    progress.update(0, 1.0, 5)
    progress.running, progress.samples_per_second = 2, 250.0
    metrics.update(progress, [{}, POOL])
    progress.update(1, 0.5, 2)
    metrics.update(progress, [{}, {**POOL, "images_made": 1400, "waited_seconds": 6.5}])
    metrics.update(progress, [{}, {}])
    seen = until("seen", "vaegen_vaes_done_total", 7)
    assert seen["vaegen_vaes_left"] == 3 and seen["vaegen_bundles_running"] == 2
    assert seen["vaegen_samples_made_total"] == 400, "of this run, not of the stream's whole life"
    assert seen["vaegen_sample_wait_seconds_total"] == 1.5
    assert seen["vaegen_samples_per_second"] == 250 and seen["vaegen_shards_waited_for"] == 0
    assert seen["vaegen_vaes_per_second"] > 0


def test_two_sweeps_do_not_mix() -> None:
    for name, done in (("first", 1), ("second", 4)):
        progress = Progress(5, [1.0], [5])
        progress.update(0, done / 5, done)
        Metrics(name).update(progress, [])
    assert until("first", "vaegen_vaes_done_total", 1)["vaegen_vaes_left"] == 4
    seen = until("second", "vaegen_vaes_done_total", 4)
    assert seen["vaegen_vaes_left"] == 1 and "vaegen_samples_made_total" not in seen
