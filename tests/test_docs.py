"""The pages of docs/: they build without a broken link or anchor, and load nothing from elsewhere."""

import html
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
    texts = [html.unescape(re.sub("<[^>]+>", "", page.read_text(encoding="utf-8"))) for page in pages]
    assert not [text for text in texts if "--8" in text], "what a page includes is there, and no mark of it"
    tutorial = (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    assert "GatedEncoder" in tutorial, "the whole file of the example"
    reference = (tmp_path / "reference" / "models.html").read_text(encoding="utf-8")
    assert "register_network" in reference and "may be registered again" in reference
    listed = (tmp_path / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f"vaegen {name}" in listed for name in ("status", "results", "diffusion train", "samples", "doctor"))
    assert "--checkpoint-seconds" in listed
    assert "name: small letters" not in reference  # sections of docstrings are understood, not printed as they are


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 11_000, "everything else has a page in docs/"


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
