"""A cluster on this machine that loses or gains a node while a sweep runs on it. Run by ``test_cluster_faults.py`` in
network and process namespaces of its own.

    python faulty_cluster.py FAULT HEALTH STORAGE

FAULT is what happens to the cluster, which begins as a head without devices and two trainers:

    node-lost         the raylet of a trainer gets SIGKILL after the first checkpoint of a bundle
    node-frozen       the same raylet is frozen; its worker goes on unasked when the other copy of its bundle has begun
    node-added        one trainer alone at first; it waits in the middle of a bundle until a second one has done another
    head-lost         the head's GCS gets SIGKILL after the first checkpoint; a new cluster, the command again
    head-restarted    the same with a GCS that keeps its state in RocksDB and starts again; nobody types anything

HEALTH is ``short`` or ``usual``: the health checks of Ray. What was seen is printed as a line of JSON; the output
of drivers goes to STORAGE/output-*.txt.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions
from ray.cluster_utils import Cluster

SWEEP = Path(__file__).parents[1] / "service" / "driver" / "faulty_sweep.py"
SHORT = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
    "gcs_rpc_server_reconnect_timeout_s": 15,
}
SECONDS = 600.0
"""Longest wait for anything."""
AWAY_SECONDS = 5.0
"""How long a head is away that comes back."""


class Nodes:
    """The head and its trainers.

    Args:
        short_health_checks: a node is dead after 1.5 to 5 s in place of a minute.
    """

    def __init__(self, short_health_checks: bool, trainers: int) -> None:
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                **_node(2, num_cpus=0, resources={"trainers_at_most": 2}),
                "include_dashboard": False,
                "_system_config": SHORT if short_health_checks else {},
            },
        )
        self._next = 3
        self.trainers = [self.add_trainer() for _ in range(trainers)]
        self.address = self._cluster.address
        self._state = GlobalState()
        self._state._initialize_global_state(
            GcsClientOptions.create(self.address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
        )

    def add_trainer(self) -> Any:
        self._next += 1
        return self._cluster.add_node(**_node(self._next - 1, num_cpus=1, resources={"trainer": 1}))

    def alive(self) -> int:
        """Nodes that the head takes for alive."""
        return sum(node["Alive"] for node in self._state.node_table())

    def kill_gcs(self) -> None:
        """Ends what makes the head a head, at once; its raylet stays."""
        self._cluster.head_node.kill_gcs_server()

    def start_gcs(self) -> None:
        self._cluster.head_node.start_gcs_server()

    def head_answers(self) -> bool:
        host, port = self.address.split(":")
        with socket.socket() as knock:
            return knock.connect_ex((host, int(port))) == 0

    def end(self) -> None:
        """Ends all processes, whatever state they are in."""
        for node in (*self._cluster.worker_nodes, self._cluster.head_node):
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def _node(last_byte: int, **more: Any) -> dict[str, Any]:
    return {"node_ip_address": f"127.0.0.{last_byte}", "memory": 10**9, "object_store_memory": 10**8, **more}


class Driver:
    """The command of a sweep, with what it says and when."""

    def __init__(
        self, storage: Path, address: str, point: str = "none", count: int = 1, victim: str = "nobody"
    ) -> None:
        (storage / "markers").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(SWEEP), point, str(count), victim, str(storage / "markers")]
        command += ["--storage", str(storage), "--address", address, "--bundle-size", "2"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._log = storage / f"output-{point}-{count}.txt"
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.time(), line))
            with self._log.open("a") as log:
                log.write(line)

    def when(self, words: str) -> float | None:
        """When it first printed a line with these words; None where it has not."""
        return next((at for at, line in self.lines if words in line), None)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def code(self) -> int:
        """Waits for the end."""
        code = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code


def wait(what: str, until: Callable[[], Any], driver: Driver | None = None) -> float:
    """Waits for a condition; returns the time.

    Raises:
        TimeoutError: it did not come, or the driver ended before it came.
    """
    end = time.monotonic() + SECONDS
    while not until():
        if time.monotonic() > end or (driver is not None and driver.ended() and not until()):
            output = "".join(line for _, line in driver.lines) if driver else ""
            raise TimeoutError(f"waited for: {what}\n{output}")
        time.sleep(0.05)
    return time.time()


def node_lost(storage: Path, short: bool) -> dict[str, Any]:
    nodes = Nodes(short, trainers=2)
    driver = Driver(storage, nodes.address, "saved", 1, "raylet")
    marker = storage / "markers" / "saved-1"
    wait("the strike", marker.exists, driver)
    struck = marker.stat().st_mtime
    dead = wait("the head to see the loss", lambda: nodes.alive() == 2)
    code = driver.code()
    seen = driver.when("was lost")
    nodes.end()
    return {"codes": [code], "head_saw_seconds": dead - struck, "driver_saw_seconds": seen and seen - struck} | told(
        driver
    )


def node_frozen(storage: Path, short: bool) -> dict[str, Any]:
    nodes = Nodes(short, trainers=2)
    driver = Driver(storage, nodes.address, "saved", 1, "frozen")
    markers = storage / "markers"
    wait("the strike", (markers / "struck").exists, driver)
    struck = (markers / "saved-1").stat().st_mtime
    dead = wait("the head to see the loss", lambda: nodes.alive() == 2)
    seen = wait("the driver to see the loss", lambda: driver.when("was lost"), driver)
    (markers / "go").touch()
    wait("the copy on the frozen node", (markers / "unasked").exists)
    code = driver.code()
    nodes.end()
    return {"codes": [code], "head_saw_seconds": dead - struck, "driver_saw_seconds": seen - struck} | told(driver)


def node_added(storage: Path, short: bool) -> dict[str, Any]:
    nodes = Nodes(short, trainers=1)
    driver = Driver(storage, nodes.address, "saved", 1, "cluster")
    markers = storage / "markers"
    wait("the first node to wait", (markers / "struck").exists, driver)
    new = nodes.add_trainer()
    wait("a bundle of the new node", lambda: list(markers.glob(f"on-{new.node_id}-*")), driver)
    (markers / "go").touch()
    code = driver.code()
    nodes.end()
    by_node = {node.node_id: len(list(markers.glob(f"on-{node.node_id}-*"))) for node in (*nodes.trainers, new)}
    return {"codes": [code], "bundles_of_nodes": list(by_node.values())} | told(driver)


def strike_gcs(storage: Path, nodes: Nodes) -> tuple[Driver, float]:
    """A sweep whose head was struck in the middle, and when."""
    driver = Driver(storage, nodes.address, "saved", 1, "cluster")
    wait("the sweep to be in the middle", (storage / "markers" / "struck").exists, driver)
    nodes.kill_gcs()
    return driver, time.time()


def head_lost(storage: Path, short: bool) -> dict[str, Any]:
    nodes = Nodes(short, trainers=2)
    driver, struck = strike_gcs(storage, nodes)
    (storage / "markers" / "go").touch()
    first, ended = driver.code(), time.time()
    nodes.end()
    nodes = Nodes(short, trainers=2)
    again = Driver(storage, nodes.address)
    second = again.code()
    nodes.end()
    return {"codes": [first, second], "driver_ended_seconds": ended - struck} | told(driver, again)


def head_restarted(storage: Path, short: bool) -> dict[str, Any]:
    os.environ |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(storage / "gcs")}
    nodes = Nodes(short, trainers=2)
    driver, struck = strike_gcs(storage, nodes)
    time.sleep(AWAY_SECONDS)
    nodes.start_gcs()
    back = wait("the head to answer", nodes.head_answers)
    (storage / "markers" / "go").touch()
    code = driver.code()
    nodes.end()
    return {"codes": [code], "head_away_seconds": back - struck} | told(driver)


def told(*drivers: Driver) -> dict[str, Any]:
    return {"output": ["".join(line for _, line in driver.lines) for driver in drivers]}


FAULTS = {
    "node-lost": node_lost,
    "node-frozen": node_frozen,
    "node-added": node_added,
    "head-lost": head_lost,
    "head-restarted": head_restarted,
}

if __name__ == "__main__":
    fault, health, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    print(json.dumps(FAULTS[fault](folder, health == "short")), flush=True)
