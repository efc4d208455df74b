"""The heartbeat of a driver: what was written is read, damage is left out, and who is alive."""

import pytest

from vaegen_ray.results.heartbeat import PREPARING_SECONDS, SILENT_SECONDS, Heartbeat, HeartbeatMonitor


def test_a_heartbeat_is_read_as_it_was_written() -> None:
    beat = Heartbeat(time=1e6, vaes_done=3, fraction=0.5, pools={"d": {"shards": 2}}, ended=True, ray_address="h:1")
    assert Heartbeat.decode(beat.encode()) == beat
    preparing = Heartbeat(time=1e6, preparing="images are loaded")
    assert preparing.encode() == {"time": 1e6, "preparing": "images are loaded"}
    assert Heartbeat.decode(preparing.encode()) == preparing


@pytest.mark.parametrize("value", [None, 7, [], "x", {}, {"time": "now"}, {"time": 1e300, "pools": 7, "preparing": []}])
def test_damage_is_left_out(value: object) -> None:
    assert Heartbeat.decode(value) == Heartbeat()


def test_a_driver_is_alive_by_both_clocks_or_while_its_heartbeat_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: 1e6)
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def is_alive(time: float | None, monitor: HeartbeatMonitor | None = None, preparing: str | None = None) -> bool:
        return (monitor or HeartbeatMonitor()).is_alive(Heartbeat(time=time, preparing=preparing))

    assert not is_alive(None)
    assert is_alive(1e6 - SILENT_SECONDS + 1) and is_alive(1e6 - PREPARING_SECONDS + 1, preparing="images are loaded")
    assert not is_alive(1e6 - SILENT_SECONDS - 1) and not is_alive(1e6 + SILENT_SECONDS + 1)
    monitor = HeartbeatMonitor()  # of a driver whose clock is wrong
    assert not is_alive(5.0, monitor)
    assert is_alive(10.0, monitor)
    now[0] += SILENT_SECONDS - 1
    assert is_alive(10.0, monitor)
    now[0] += 2
    assert not is_alive(10.0, monitor)
