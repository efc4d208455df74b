"""Imports point upwards only, and heavy packages are imported in their own layer alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vaegen_ray

ROOT = Path(vaegen_ray.__file__).parent
ORDER = [
    *(
        "errors",
        "allotment",
        "paths",
        "scratch",
        "seeds",
        "stream",
        "measures",
        "methods",
        "architectures",
        "trial",
        "data",
        "models",
        "training",
        "evaluation",
        "diffusion",
    ),
    *("sweep", "results", "claims", "figures", "service", "dashboard", "cli"),
]
"""A part may import from the parts before it."""
HOMES = {"ray": {"service"}, "pyarrow": {"results"}, "matplotlib": {"figures"}}
TORCH_AT_IMPORT = {
    "models",
    "training",
    "evaluation",
    "diffusion",
    "sweep/run.py",
    "service/worker.py",
    "service/diffusion_worker.py",
    "service/trainable.py",
}
MODULES = sorted(path for path in ROOT.rglob("*.py"))


def imports(source: str) -> list[tuple[str, bool]]:
    """Dotted names that a module imports, and whether at its top level (outside of functions and TYPE_CHECKING)."""
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner = top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                inner = False
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = "." * child.level + (child.module or "")
                found.append((base, top))
                if base == "vaegen_ray":
                    found.extend((f"vaegen_ray.{alias.name}", top) for alias in child.names)
            walk(child, inner)

    walk(ast.parse(source), True)
    return found


def faults(part: str, where: str, source: str) -> list[str]:
    """What a module of ``part`` imports that it must not."""
    said = []
    for name, top in imports(source):
        if name.startswith("."):
            said.append(f"{where} imports {name} by a relative name; write it in full")
        root, *rest = name.split(".")
        if root == "vaegen_ray" and rest and rest[0] in ORDER and ORDER.index(rest[0]) > ORDER.index(part):
            said.append(f"{where} ({part}) imports {name}, which comes after it")
        if root in HOMES and part not in HOMES[root]:
            said.append(f"{where} imports {root} outside of {sorted(HOMES[root])}")
        if root == "torch" and top and not any(where.startswith(home) for home in TORCH_AT_IMPORT):
            said.append(f"{where} imports torch at its top level")
    return said


def test_imports_point_upwards() -> None:
    found = []
    for path in MODULES:
        where = path.relative_to(ROOT).as_posix()
        part = where.split("/")[0].removesuffix(".py")
        if part == "__init__":
            assert imports(path.read_text()) == []
            continue
        assert part in ORDER, f"{part} has no place in the order"
        found += faults(part, where, path.read_text())
    assert found == []


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("models", "from vaegen_ray.training.trainer import Trainer"),
        ("data", "def f():\n    from vaegen_ray import service"),
        ("sweep", "import ray.tune"),
        ("training", "from pyarrow import fs"),
        ("data", "import torch"),
        ("data", "if True:\n    import torch.nn"),
        ("data", "from ..service import runner"),
    ],
)
def test_the_check_finds_what_is_wrong(part: str, source: str) -> None:
    assert len(faults(part, f"{part}/x.py", source)) == 1


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("sweep", "from vaegen_ray.trial import TrialSpec"),
        ("sweep", "from vaegen_ray.sweep import cost"),
        ("service", "import ray"),
        ("data", "def f():\n    import torch"),
        ("data", "if TYPE_CHECKING:\n    import torch"),
    ],
)
def test_the_check_lets_pass_what_is_right(part: str, source: str) -> None:
    assert faults(part, f"{part}/x.py", source) == []


def modules_of(*parts: str) -> str:
    """All modules of these parts, as an import statement names them."""
    paths = [path.relative_to(ROOT.parent) for part in parts for path in (ROOT / part).rglob("*.py")]
    return ", ".join(sorted(path.with_suffix("").as_posix().replace("/", ".") for path in paths))


def loaded_after(statement: str, *blocked: str) -> set[str]:
    """Packages loaded after a statement in a process of its own, where ``blocked`` ones cannot be imported."""
    block = "".join(f"sys.modules[{name!r}] = None;" for name in blocked)
    code = f"import sys; {block} {statement}; print(' '.join(n for n, m in sys.modules.items() if m and '.' not in n))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_planning_and_the_command_line_start_light() -> None:
    parts = ("cli.parser", "sweep.packing", "sweep.plan", "data.catalog", "service.main")
    statement = "import " + ", ".join(f"vaegen_ray.{part}" for part in parts)
    heavy = {"torch", "ray", "pandas", "matplotlib", "sklearn", "torchvision"}
    assert not loaded_after(statement) & heavy
    parse = "from vaegen_ray.cli.parser import parser; parser().parse_args(['status'])"
    assert not loaded_after(parse) & {*heavy, "pyarrow", "scipy", "duckdb", "argcomplete"}


def test_packages_alone_load_nothing() -> None:
    packages = ", ".join(f"vaegen_ray.{path.parent.name}" for path in ROOT.glob("*/__init__.py"))
    assert not loaded_after(f"import {packages}") & {"torch", "ray", "pandas", "matplotlib", "numpy", "pyarrow"}


def test_science_needs_no_service() -> None:
    modules = modules_of("data", "models", "training", "evaluation", "diffusion", "sweep")
    assert "torch" in loaded_after(f"import {modules}", "ray", "pyarrow", "matplotlib", "pandas")


def test_results_and_figures_need_neither_ray_nor_torch() -> None:
    loaded = loaded_after(f"import vaegen_ray.service.pictures, {modules_of('results', 'figures')}", "ray", "torch")
    assert {"pyarrow", "matplotlib"} <= loaded
