"""Generates pages: notebooks of docs/notebooks with their outputs, and the options of all commands."""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for every notebook, and the page of the commands."""
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content=as_markdown(json.loads(path.read_text(encoding="utf-8")))))
    files.append(File.generated(config, "reference/commands.md", content=list_commands()))
    return files


def list_commands() -> str:
    """The help of every sweep script's shared options and of every command of ``vaegen``."""
    from vaegen_ray.cli.parser import parser
    from vaegen_ray.launch import options

    with patch.dict(os.environ, {"COLUMNS": "110"}):
        shared = options.parser("Options that all scripts of sweeps/ share.")
        shared.prog = "sweeps/NAME.py"
        parts = ["# Command line", "Exit codes: [How a run ends](../ends.md)."]
        for each in (shared, *find_commands(parser())):
            parts.append(f"## {each.prog}\n\n```text\n{each.format_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def find_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that have no commands of their own."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for command in group.choices.values():
            yield from find_commands(command)


def as_markdown(notebook: dict[str, Any]) -> str:
    """The cells of a notebook, one after another; of an output its picture, or its text."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).replace(chr(10), '')})")
            elif shown := "".join(data.get("text/plain", output.get("text", ""))):
                parts.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
