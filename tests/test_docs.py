"""The pages of docs/: they build without a broken link, load nothing from elsewhere, and their commands work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?((?:https?:)?//[^"'> ]+)""")
IMPORTED = re.compile(r"""(?:@import|url\()\s*["']?((?:https?:)?//[^"') ]+)""")


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html", "results.html", "models.html"} <= {page.name for page in pages}
    found = {address for page in pages for address in LOADED.findall(page.read_text(encoding="utf-8"))}
    found |= {address for sheet in tmp_path.rglob("*.css") for address in IMPORTED.findall(sheet.read_text())}
    assert found == set()
    reference = (tmp_path / "reference" / "models.html").read_text(encoding="utf-8")
    assert "register_network" in reference and "may be registered again" in reference
    assert "name: small letters" not in reference  # sections of docstrings are understood, not printed as they are


@pytest.mark.parametrize(
    ("markup", "addresses"),
    [
        ('<link rel="stylesheet" href="https://fonts.x/css?a">', ["https://fonts.x/css?a"]),
        ("<script src=//cdn.x/a.js></script>", ["//cdn.x/a.js"]),
        ('<a href="https://x.org">read</a> <img src="a.png"> <script src="assets/a.js">', []),
    ],
)
def test_the_check_finds_what_is_loaded(markup: str, addresses: list[str]) -> None:
    assert LOADED.findall(markup) == addresses


def commands(page: Path) -> list[str]:
    """The commands of a page, block by block, without those that install."""
    _, *sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    used = [section for section in sections if not section.startswith("Install")]
    return [block for section in used for block in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_typed(tmp_path: Path) -> None:
    for name in ("vaegen_ray", "sweeps", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "VAEGEN_DATA": str(tmp_path / "data")}
    blocks = commands(ROOT / "docs" / "tutorial.md")
    assert len(blocks) >= 6
    said = ""
    for block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, env=environment)
        assert done.returncode == 0, block + done.stdout + done.stderr
        assert "Traceback" not in done.stderr and "was not drawn" not in done.stdout
        said += done.stdout
    assert "large_digits: 1,438 training and 359 test images" in said
    assert (tmp_path / "results" / "gated" / "double_descent" / "figures" / "double_descent.png").is_file()
    assert not (tmp_path / "my_images.npz").exists() and list((tmp_path / "data" / "own").iterdir()) == []
