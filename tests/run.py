"""Runs the quick tests in parts, all of them whatever fails, and ends with one summary and one exit code (`make test`).

What starts Ray has the cores for itself; the rest shares them, a process a core.
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

RAY = ("tests/service", "tests/cluster", "tests/launch", "tests/doctor")
PARTS = (
    ("-n", "auto", "--dist", "loadfile", *(f"--ignore={folder}" for folder in RAY)),
    RAY,
)
"""The arguments of pytest for each part."""
KINDS = {"failure": "failed", "error": "errors", "skipped": "skipped"}
"""What a case of a JUnit report can hold, and the word for it."""


def main(parts: Sequence[Sequence[str]] = PARTS, folder: str | Path | None = None) -> int:
    """Runs all parts, in ``folder``; returns 0 when no test of any failed."""
    counts: Counter[str] = Counter()
    lines: list[str] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vaegen-tests-") as reports:
        for number, part in enumerate(parts):
            report = Path(reports) / f"{number}.xml"
            command = [sys.executable, "-m", "pytest", *part, "-rN", f"--junitxml={report}"]
            code = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder).returncode
            found = read(report) if report.exists() else []
            counts += Counter(kind for kind, _ in found)
            lines += [f"{kind.upper()} {text}" for kind, text in found if kind != "passed"]
            if code and not {"failed", "errors"} & {kind for kind, _ in found}:  # no test says what was wrong
                counts["errors"] += 1
                lines.append(f"ERRORS pytest {' '.join(part)}: exit code {code}")
    print("\n" + "\n".join(sorted(set(lines), reverse=True)))
    summary = ", ".join(f"{counts[kind]} {kind}" for kind in ("failed", "errors", "passed", "skipped") if counts[kind])
    print(f"all parts: {summary or 'no tests'} in {time.monotonic() - started:.0f} s")
    return 1 if counts["failed"] or counts["errors"] or not counts["passed"] else 0


def read(report: Path) -> list[tuple[str, str]]:
    """The cases of a JUnit report: what became of each, and its name with the first line of the reason."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        results = [(KINDS[child.tag], child.get("message") or "") for child in case if child.tag in KINDS]
        for kind, message in results or [("passed", "")]:
            first = (message.splitlines() or [""])[0]
            found.append((kind, f"{name}: {first}"))
    return found


if __name__ == "__main__":
    sys.exit(main())
