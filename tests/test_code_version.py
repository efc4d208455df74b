"""The name of the code that made a row."""

from pathlib import Path

from vaegen_ray import __version__
from vaegen_ray.code_version import code_version, installed_version


def test_a_row_names_its_code() -> None:
    assert code_version().startswith(f"{__version__}+")


def test_without_a_checkout_it_follows_from_the_modules_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "a.py").write_text("one = 1\n")
    (tmp_path / "part" / "b.py").write_text("two = 2\n")
    first = installed_version(tmp_path)
    (tmp_path / "notes.txt").write_text("of no matter")
    assert installed_version(tmp_path) == first
    (tmp_path / "part" / "b.py").write_text("two = 3\n")
    changed = installed_version(tmp_path)
    (tmp_path / "part" / "b.py").rename(tmp_path / "part" / "c.py")
    assert len({first, changed, installed_version(tmp_path)}) == 3
