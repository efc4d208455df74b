"""The display counts work by its expected seconds, and writes plain lines into a log."""

import io

import pytest

from vaegen_ray.service.driver.progress import Progress, clock


def test_work_is_weighed_by_its_expected_time() -> None:
    progress = Progress(5, [30.0, 10.0], [3, 2], stream=io.StringIO())
    assert (progress.fraction, progress.done, progress.seconds_left) == (0.0, 0, None)
    progress.update(0, 0.5, 0)
    assert progress.fraction == pytest.approx(15 / 40)
    progress.update(1, 1.0, 2)
    assert progress.fraction == pytest.approx(25 / 40)
    assert progress.done == 2
    assert progress.seconds_left is not None and progress.seconds_left > 0


def test_what_an_earlier_run_did_is_done_but_is_no_speed_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(4, [10.0, 10.0], [2, 2], stream=io.StringIO())
    now[0] = 60.0
    progress.update(0, 0.9, 0, 0.8)  # a tenth of two VAEs in a minute
    assert progress.fraction == pytest.approx(0.45)
    assert progress.vaes_per_minute == pytest.approx(0.2)
    assert progress.seconds_left == pytest.approx(60 * 0.55 / 0.05)
    progress.update(0, 0.8, 0, 0.8)  # its worker was lost, and goes on from where this run began
    assert progress.vaes_per_minute == pytest.approx(0.0) and progress.seconds_left is None


def test_a_log_gets_whole_lines_and_few() -> None:
    stream = io.StringIO()
    progress = Progress(5, [30.0, 10.0], [3, 2], stream=stream, every=1000.0)
    for _ in range(100):
        progress.show()
    assert stream.getvalue() == ""
    progress.update(0, 1.0, 3)
    progress.show(now=True)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("3/5 VAEs · 75 %")
    assert len(lines) == 1
    assert "\x1b" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_changes() -> None:
    stream = Terminal()
    progress = Progress(5, [30.0], [5], stream=stream)
    progress.show()
    progress.show()
    progress.close()
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r") == 3


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (18720, "5 h 12 min"), (273600, "3 days 4 h")],
)
def test_durations_as_people_say_them(seconds: float, said: str) -> None:
    assert clock(seconds) == said
