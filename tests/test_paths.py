"""Users without a home folder: neither HOME nor an entry in passwd."""

import pwd
from pathlib import Path

import pytest

from vaegen_ray.cli import main
from vaegen_ray.data import catalog
from vaegen_ray.paths import expanded


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def getpwuid(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for name in ("HOME", "VAEGEN_DATA", "VAEGEN_STORAGE"):
        monkeypatch.delenv(name, raising=False)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert [str(expanded(path)) for path in ("~", "~/x", "a/~", Path("~/y"))] == [
        "/home/me",
        "/home/me/x",
        "a/~",
        "/home/me/y",
    ]


@pytest.mark.usefixtures("homeless")
def test_without_a_home_the_path_says_so() -> None:
    assert [str(expanded(path)) for path in ("~", "~/x", "x")] == ["/nonexistent", "/nonexistent/x", "x"]
    assert str(catalog.data_dir()) == "/nonexistent/.cache/vaegen_ray/data"


@pytest.mark.usefixtures("homeless")
def test_commands_need_no_home(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["datasets"]) == 0
    assert main(["status", "--storage", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["status", "absent", "--storage", "~/results"]) == 2
    assert "/nonexistent/results" in capsys.readouterr().err
