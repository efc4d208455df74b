"""What is slow to read is answered from what is known; one reading at a time; failures are told and do not last."""

import threading

import pytest

from vaegen_ray.dashboard import watch
from vaegen_ray.dashboard.watch import CachedRead


class Slow:
    """Numbers its readings; each waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go, self.count = threading.Semaphore(0), threading.Semaphore(0), 0

    def __call__(self) -> int:
        self.count += 1
        number = self.count
        self.begun.release()
        assert self.go.acquire(timeout=600)
        if number == 3:
            raise ValueError("the third")
        return number


def test_a_slow_reading_holds_up_the_first_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.0)
    slow = Slow()
    kept = CachedRead(slow)
    assert kept.known(kept.begin()) is None
    slow.go.release()
    assert kept.get() == 1
    assert [kept.get() for _ in range(5)] == [1] * 5 == [kept.known(kept.begin()) for _ in range(5)]
    assert slow.begun.acquire(timeout=600) and slow.begun.acquire(timeout=600) and slow.count == 2, (
        "one reading at a time"
    )
    second = kept.begin()
    slow.go.release()
    assert second.result(600) == 2
    third = kept.begin()
    slow.go.release()
    with pytest.raises(ValueError, match="the third"):
        third.result(600)
    assert kept.get() == 2, "the next reading is under way, and what is known is shown meanwhile"
    slow.go.release()
    assert kept.begin().result(600) == 4


def test_what_was_just_read_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_SECONDS", 1e9)
    numbers = iter(range(9))
    kept = CachedRead(lambda: next(numbers))
    assert [kept.get() for _ in range(3)] == [0, 0, 0]
