"""The tutorial and the README, typed by a new user: every command, in order, in a fresh copy with nothing but the copy.

Nothing is downloaded: pip finds what the package needs among the packages of these tests, and checks the versions.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vaegen_ray.results import query

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
README = ROOT / "README.md"
COPIED = ("vaegen_ray", "sweeps", "examples", "Makefile", "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
ON_A_CLUSTER = (".venv/bin/ray ", ".venv/bin/pip install -c constraints.txt -e '.[cluster]'")
"""What commands of the README begin with that need a cluster; `tests/cluster/` types them."""
NOT_LINKED = ("pip", "vaegen", "__editable__")
"""Packages that the user's own environment has; what they are called begins so."""
SECONDS = 600
PYTHON = ".venv/bin/python"
VAEGEN = ".venv/bin/vaegen"


def commands(page: str) -> list[str]:
    """The commands of all blocks of a shell, one by one, as a shell would take them line by line."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        held = ""
        for line in block.splitlines(keepends=True):
            held += line
            if not held.endswith("\\\n") and subprocess.run(["bash", "-nc", held], capture_output=True).returncode == 0:
                found.append(held.strip())
                held = ""
        assert not held.strip(), f"a command that does not end: {held}"
    return found


def test_commands_are_taken_as_a_shell_takes_them() -> None:
    page = '```sh\na b\nc -c "\nd\n"\ne \\\n  f\n```\ntext\n```python\nno\n```\n```sh\ng\n```\n'
    assert commands(page) == ["a b", 'c -c "\nd\n"', "e \\\n  f", "g"]


def test_no_command_of_the_page_stands_where_this_would_miss_it() -> None:
    """Fences of another language, or indented code, would not be typed."""
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^``` *(\S.*)$", text, re.MULTILINE)) == {"sh", "{ .python }"}
    assert not re.findall(r"^ {4}", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    assert len(commands(text)) >= 15


@dataclass
class User:
    """Somebody with a fresh copy, a home of their own, and none of our settings."""

    folder: Path
    environment: dict[str, str]

    def type(self, command: str) -> str:
        """What a command says; it must end well."""
        typed = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(
            typed, capture_output=True, text=True, timeout=SECONDS, cwd=self.folder, env=self.environment
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr and "was not drawn" not in done.stdout, command
        return done.stdout


@pytest.fixture
def user(tmp_path: Path) -> User:
    folder, packages, home = tmp_path / "copy", tmp_path / "packages", tmp_path / "home"
    for made in (folder, packages, home):
        made.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for where in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for package in Path(where).iterdir():
            if not package.name.lower().startswith(NOT_LINKED) and package.suffix != ".pth":
                (packages / package.name).symlink_to(package)
    ours = ("VAEGEN_", "RAY_", "PIP_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # 0: no isolation
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return User(folder, {**kept, **pip, "PATH": path, "PYTHONPATH": str(packages), "HOME": str(home)})


@pytest.mark.slow
def test_the_whole_tutorial_works_as_it_is_typed(user: User) -> None:
    """The exit code of every command, and what the text around it promises."""
    results = user.folder / "results"
    said: dict[str, str] = {}
    for command in commands(PAGE.read_text(encoding="utf-8")):
        assert command not in said, "every command stands there once"
        said[command] = user.type(command)
        if "--dry-run" in command:
            assert not (results / "large").exists(), "it starts nothing"
    first = f"{PYTHON} sweeps/double_descent.py --preset smoke"
    example = f"{PYTHON} examples/own_data_and_network.py --preset smoke"

    # Install: the package of the copy, in the environment of the copy
    where = user.type(f"{PYTHON} -c 'import vaegen_ray; print(vaegen_ray.__file__)'")
    assert Path(where.strip()) == user.folder / "vaegen_ray" / "__init__.py"

    # A first sweep: "12 VAEs for 4 epochs on 100 handwritten digits"; rows and figures; the same again trains nothing
    assert "12/12 VAEs of double_descent" in said[first]
    last = query.load(results, "double_descent").last()
    assert len(last) == 12 and set(last["status"]) == {"completed"}
    assert [set(last[name]) for name in ("epochs", "n_train", "dataset")] == [{4}, {100}, {"digits"}]
    assert (results / "double_descent" / "figures" / "double_descent.png").is_file()
    assert said[f"{VAEGEN} results double_descent"].count("\n") >= 6
    assert "nothing to train: all 12 VAEs" in user.type(first)
    assert "45 declared, 45 to train" in user.type(f"{PYTHON} sweeps/double_descent.py --dry-run --storage elsewhere")

    # Your own images: a fifth becomes the test set; listed; swept and shown
    (added,) = (text for command, text in said.items() if "datasets --add" in command)
    assert "large_digits: 1,438 training and 359 test images, 1x16x16" in added
    assert re.search(r"^large_digits +yes ", said[f"{VAEGEN} datasets"], re.MULTILINE)
    (planned,) = (text for command, text in said.items() if "--dry-run" in command)
    assert "12 declared, 12 to train" in planned and "large_digits (1x16x16, 2 levels, 200 training images)" in planned
    large = query.load(results / "large", "double_descent").last()
    assert len(large) == 12 and set(large["dataset"]) == {"large_digits"} and set(large["n_train"]) == {200}

    # Your own network, your own sweep: both networks compared, and both parts in a sweep of the package
    assert "8/8 VAEs of own_data_and_network" in said[example]
    assert all(name in said[f"{VAEGEN} results own_data_and_network"] for name in ("gated", "fully_connected"))
    (drawn,) = (text for command, text in said.items() if command.startswith(f"{VAEGEN} figure rate_distortion"))
    assert "rate_distortion.png" in drawn
    gated = query.load(results / "gated", "double_descent").last()
    assert set(gated["architecture"]) == {"gated"} and set(gated["dataset"]) == {"patches"} and len(gated) == 12
    assert (results / "gated" / "double_descent" / "figures" / "double_descent.png").is_file()

    # Clean up: the copies of the images are gone, "results stay"
    assert not (user.folder / "my_images.npz").exists() and "large_digits" not in user.type(f"{VAEGEN} datasets")
    assert list((Path(user.environment["HOME"]) / ".cache" / "vaegen_ray" / "data" / "own").iterdir()) == []
    assert len(query.load(results / "large", "double_descent").last()) == 12


@pytest.mark.slow
def test_the_commands_of_the_readme_work_as_they_are_typed(user: User) -> None:
    np.savez(user.folder / "my_images.npz", images=np.kron(load_digits().images, np.ones((2, 2))).astype(np.uint8))
    said: dict[str, str] = {}
    for command in commands(README.read_text(encoding="utf-8")):
        if not command.startswith(ON_A_CLUSTER):
            said[command] = user.type(command)
    assert "45/45 VAEs of double_descent" in said["make sweep"]
    assert said[f"{VAEGEN} results double_descent"].count("\n") >= 15
    assert "nothing to train: all 45 VAEs" in said[f"{PYTHON} sweeps/double_descent.py"]
    results = query.load(user.folder / "results", "double_descent")
    assert len(results.last()) == 90  # the digits, and the images that were added
