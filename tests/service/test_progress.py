"""The display counts work by its expected seconds, and writes plain lines into a log."""

import io

import pytest

from vaegen_ray.service.progress import Progress, clock


def test_work_is_weighed_by_its_expected_time() -> None:
    progress = Progress(5, [30.0, 10.0], [3, 2], stream=io.StringIO())
    assert (progress.fraction, progress.done, progress.seconds_left) == (0.0, 0, None)
    progress.update(0, 0.5, 0)
    assert progress.fraction == pytest.approx(15 / 40)
    progress.update(1, 1.0, 2)
    assert progress.fraction == pytest.approx(25 / 40)
    assert progress.done == 2
    assert progress.seconds_left is not None and progress.seconds_left > 0


def test_a_log_gets_whole_lines_and_few() -> None:
    stream = io.StringIO()
    progress = Progress(5, [30.0, 10.0], [3, 2], stream=stream, every=1000.0)
    for _ in range(100):
        progress.show()
    assert stream.getvalue() == ""
    progress.update(0, 1.0, 3)
    progress.show(now=True)
    progress.say("a worker was lost")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("3/5 VAEs · 75 %")
    assert lines[1] == "a worker was lost"
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
