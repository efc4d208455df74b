"""Messages of the package on the console."""

import logging

import pytest

from vaegen_ray.launch.output import console

logger = logging.getLogger("vaegen_ray.some.module")


def test_messages_are_lines_by_level_once_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with console(), console():
        logger.info("%d VAEs in s3://key:secret@bucket", 3)
        logger.warning("beware")
        logger.debug("nobody reads this")
    out, err = capsys.readouterr()
    assert out.startswith("3 VAEs in s3://") and out.count("\n") == 1 and "secret" not in out
    assert err == "beware\n"


def test_a_pipe_that_is_closed_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdout", Closed())
    with console(), pytest.raises(BrokenPipeError):
        logger.info("a line")
