"""A sweep is started from a cell of a notebook, in a real kernel: its stdout cannot be pickled, and its loop runs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SWEEPS = Path(__file__).parents[2] / "sweeps"
CELL = """
import sys
sys.path.insert(0, {sweeps!r})
import {name}
from vaegen_ray.launch.main import main
options = [*{options!r}, "--preset", "smoke", "--storage", {storage!r}]
code = main({name}.declare, "from a notebook", {name}.add_options, options)
print("exit code", code, type(sys.stdout).__module__)
"""


def outputs(storage: Path, name: str, *options: str) -> str:
    """What a cell that runs a sweep prints."""
    source = CELL.format(sweeps=str(SWEEPS), name=name, options=options, storage=str(storage))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(notebook, timeout=600, allow_errors=True, kernel_name="python3")
    client.execute()
    cell = notebook.cells[0]
    return "".join(each.get("text") or "\n".join(each.get("traceback", [])) for each in cell.outputs)


def test_a_sweep_runs_in_a_cell(tmp_path: Path) -> None:
    said = outputs(tmp_path, "double_descent", "--nc", "2", "--mz", "1", "--seeds", "1")
    assert "2/2 VAEs of double_descent" in said, said
    assert said.splitlines()[-1] == "exit code 0 ipykernel.iostream"


@pytest.mark.slow
def test_a_search_runs_in_a_cell(tmp_path: Path) -> None:
    said = outputs(tmp_path, "search", "--points", "2", "--seeds", "1")
    assert "search: 2 points" in said, said
    assert said.splitlines()[-1] == "exit code 0 ipykernel.iostream"
