"""Links of all Markdown files, without a network: what is outside is https, what is inside is there.

`make docs` checks the pages of docs/ among each other; this checks the files that are read in the repository as well.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
BARE = re.compile(r"\b(?:https?|ftp)://[^\s)>\]\"'`|]+")
HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
MADE = {"notebooks/results.md", "reference/commands.md"}
"""Pages that are made from other files when the site is built."""


def text_of(page: Path) -> str:
    """A page without its code."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """What can stand behind # in a link: headings as GitHub and mkdocs name them."""
    titles = re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


def faults(text: str, folder: Path) -> list[str]:
    """What is wrong with the links of a page that lies in a folder."""
    found = []
    targets = {*LINK.findall(text), *(address.rstrip(".,;:") for address in BARE.findall(text))}
    for target in sorted(targets):
        parts = urlsplit(target)
        if parts.scheme:
            if parts.scheme != "https" or not HOST.fullmatch(parts.netloc):
                found.append(f"{target} must be an https:// address of a host")
            continue
        file = folder / parts.path if parts.path else None
        if parts.netloc or (file is not None and not file.exists() and parts.path not in MADE):
            found.append(f"{target} is not there")
        elif parts.fragment and parts.fragment not in anchors(text if file is None else text_of(file)):
            found.append(f"{target} has no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert faults(text_of(page), page.parent) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](https://arxiv.org/abs/1), https://x.org/a_(b). `http://no.org`\n\n    [no](absent.md)\n", 0),
        ("[a](page.md#two-words) [b](#here-and-there)\n# Here, and there\n", 0),
        ("[a](http://x.org)", 1),
        ("see http://x.org/y for it", 1),
        ("[a](https://localhost/a) [b](https:/x.org) [c](ftp://x.org/y)", 3),
        ("[a](absent.md)", 1),
        ("![a](absent.png)", 1),
        ("[a](page.md#three-words)", 1),
        ("[a](#nowhere)", 1),
        ("[a](//x.org/y)", 1),
    ],
)
def test_the_check_finds_what_is_wrong(text: str, found: int, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# One\n\n## Two words\n")
    (tmp_path / "links.md").write_text(text)
    assert len(faults(text_of(tmp_path / "links.md"), tmp_path)) == found
