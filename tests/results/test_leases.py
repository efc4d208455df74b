"""A live driver is known by its process, or by the change of its beat; never by a clock."""

import os
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from vaegen_ray.errors import StorageError
from vaegen_ray.results import leases
from vaegen_ray.results.leases import LeaseHolder, live_leases
from vaegen_ray.results.storage import Storage

DRIVER = """
import sys, threading
from vaegen_ray.results.leases import LeaseHolder
from vaegen_ray.results.storage import Storage
LeaseHolder(Storage.open(sys.argv[1]), "s", "sweep").hold(["b", "a"])
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path)


def test_a_lease_lasts_until_it_is_released(storage: Storage) -> None:
    assert live_leases(storage, "s") == []
    holder = LeaseHolder(storage, "s", "sweep")
    holder.hold({"t2", "t1"})
    (lease,) = live_leases(storage, "s")
    assert lease.trial_ids == ("t1", "t2") and lease.kind == "sweep" and lease.pid == os.getpid()
    assert str(os.getpid()) in lease.who
    holder.release()
    assert live_leases(storage, "s") == [] and storage.list("s/leases") == []


def test_the_lease_of_a_killed_driver_is_dead_at_once_and_deleted(storage: Storage, tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE)
    assert driver.stdout is not None and driver.stdout.readline() == b"ready\n"
    (lease,) = live_leases(storage, "s")
    assert lease.trial_ids == ("a", "b") and lease.pid == driver.pid
    driver.kill()
    driver.communicate()
    assert live_leases(storage, "s") == [] and storage.list("s/leases") == []


def elsewhere(storage: Storage, run: str) -> str:
    """Writes the lease of a driver on another machine; returns the path of its beat."""
    holder = LeaseHolder(storage, "s", "sweep")
    lease = replace(holder.lease, run=run, node="other", namespace="another machine")
    holder.release()
    storage.write_json(f"s/leases/{run}.json", asdict(lease))
    storage.write(f"s/leases/{run}.beat", b"0")
    return f"s/leases/{run}.beat"


def test_a_driver_elsewhere_lives_when_its_beat_changes(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wrong its clock is: the beat is a number, and that it changes is what counts."""
    monkeypatch.setattr(leases, "WATCH_SECONDS", 600.0)
    beat = elsewhere(storage, "far")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        threading.Timer(0.1, lambda: storage.write(beat, b"1")).start()

    (lease,) = live_leases(storage, "s", say=say)
    assert lease.run == "far" and "on other" in said[0]


def test_a_driver_elsewhere_whose_beat_stands_still_is_dead(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.3)
    elsewhere(storage, "far")
    assert live_leases(storage, "s", clean=False) == [] and storage.list("s/leases") != []
    assert live_leases(storage, "s") == [] and storage.list("s/leases") == []


def test_the_beat_changes_by_itself(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    holder = LeaseHolder(storage, "s", "sweep")
    path = f"s/leases/{holder.lease.run}.beat"
    first = storage.read(path)
    for _ in range(6000):
        if storage.read(path) != first:
            break
        threading.Event().wait(0.01)
    assert storage.read(path) != first
    holder.release()


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"run": 3}', b"null", b"\xff"])
def test_a_damaged_lease_without_a_heartbeat_is_deleted(
    storage: Storage, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.3)
    storage.write("s/leases/x.json", text)
    storage.write("s/leases/x.beat", b"3")
    storage.write("s/leases/y.beat", b"3")  # its driver was killed while it deleted the lease
    assert live_leases(storage, "s") == [] and storage.list("s/leases") == []


def test_a_damaged_lease_of_a_live_driver_is_an_error(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trials are not known, so nothing of the sweep may be trained or deleted."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    holder = LeaseHolder(storage, "s", "sweep")
    storage.write(f"s/leases/{holder.lease.run}.json", b"{")
    with pytest.raises(StorageError, match="is damaged, and its driver runs; stop that driver first"):
        live_leases(storage, "s")
    holder.release()
