"""`make test` runs every part, also after one that fails, and says at the end what failed in which."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("run", Path(__file__).with_name("run.py"))
assert spec is not None and spec.loader is not None
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)

PARTS = {
    "fails": "import pytest\ndef test_wrong(): assert 1 == 2\ndef test_right(): pass\n",
    "breaks": "import nothing_of_this_name\n",
    "skips": "import pytest\ndef test_absent(): pytest.skip('no browser here')\ndef test_well(): pass\n",
    "is_empty": "",
}


def result(names: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit code and summary of parts that are a file each."""
    for name in names:
        (folder / f"test_{name}.py").write_text(PARTS[name])
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -q -p no:cacheprovider\n")
    code = run.main([[f"test_{name}.py"] for name in names], folder)
    return code, capfd.readouterr().out.strip().splitlines()


def test_all_parts_run_and_one_summary_names_what_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = result(["fails", "breaks", "skips"], tmp_path, capfd)
    assert code == 1
    assert said[-1].startswith("all parts: 1 failed, 1 errors, 2 passed, 1 skipped in ")
    summary = "\n".join(said[-4:-1])
    assert "FAILED test_fails::test_wrong: assert 1 == 2" in summary
    assert "SKIPPED test_skips::test_absent: no browser here" in summary
    assert "ERRORS " in summary and "test_breaks" in summary


@pytest.mark.parametrize(("names", "code"), [(["skips"], 0), (["skips", "is_empty"], 1)])
def test_the_exit_code_is_0_where_every_part_had_tests_and_none_failed(
    names: list[str], code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert result(names, tmp_path, capfd)[0] == code
