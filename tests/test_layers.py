"""Imports point downwards only and close no circle, and heavy packages are imported in their own part alone."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vaegen_ray

ROOT = Path(vaegen_ray.__file__).parent
FLOORS = (
    {"errors"},
    {"allotment", "checks", "code_version", "paths", "scratch", "seeds", "serialization", "signals", "text"},
    {"exit"},
    {"spec"},
    {"models"},
    {"data"},
    {"training"},
    {"diffusion", "evaluation"},
    {"sweep"},
    {"bundle"},
    {"search"},
    {"results"},
    {"analysis"},
    {"claims", "figures"},
    {"reports"},
    {"service"},
    {"launch"},
    {"doctor"},
    {"dashboard"},
    {"cli"},
)
"""From the ground up. A module imports from its own part and from the floors below."""
SERVICE_FLOORS = ("cluster", "sampling", "worker", "driver")
"""The same inside of ``service``."""
FORBIDDEN = (
    ("dashboard", "service"),
    ("service.worker", "figures"),
    ("service.sampling", "figures"),
    ("doctor.cluster", "doctor.run"),
)
"""Arrows that the floors alone would allow."""
HOMES = {"argparse": {"cli", "launch"}, "ray": {"service", "doctor"}, "pyarrow": {"results"}, "matplotlib": {"figures"}}
TORCH_AT_IMPORT = (
    "serialization",
    "models",
    "training",
    "evaluation",
    "diffusion",
    "bundle.run",
    "service.worker.bundle_worker",
    "service.worker.trainable",
    "service.sampling.diffusion_worker",
)

Imports = list[tuple[str, bool]]
"""Dotted names that a module imports, and whether at its top level (outside of functions and TYPE_CHECKING)."""


def imports(source: str) -> Imports:
    found: Imports = []

    def walk(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner = top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                inner = False
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = "." * child.level + (child.module or "")
                found.extend((f"{base}.{alias.name}", top) for alias in child.names)
            walk(child, inner)

    walk(ast.parse(source), True)
    return found


def is_within(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def floor_of(name: str) -> int | None:
    return next((i for i, floor in enumerate(FLOORS) if name.split(".")[0] in floor), None)


def room_of(name: str) -> str | None:
    part, _, rest = name.partition(".")
    return rest.partition(".")[0] if part == "service" else None


def faults(module: str, source: str) -> list[str]:
    """The imports of a module that it must not have; ``module`` is its name within the package."""
    found = []
    for name, top in imports(source):
        root, _, rest = name.partition(".")
        if name.startswith("."):
            found.append(f"{module} imports {name} by a relative name; write it in full")
        if root == "vaegen_ray" and rest:
            mine, other = floor_of(module), floor_of(rest)
            same_part = module.split(".")[0] == rest.split(".")[0]
            rooms = [SERVICE_FLOORS.index(room) for room in map(room_of, (module, rest)) if room in SERVICE_FLOORS]
            if mine is not None and other is not None and not same_part and other >= mine:
                found.append(f"{module} imports {rest}, which is not below it")
            elif len(rooms) == 2 and rooms[1] > rooms[0]:
                found.append(f"{module} imports {rest}, which is above it in service")
            elif any(is_within(module, a) and is_within(rest, b) for a, b in FORBIDDEN):
                found.append(f"{module} must not import {rest}")
        if root in HOMES and module.split(".")[0] not in HOMES[root]:
            found.append(f"{module} imports {root} outside of {sorted(HOMES[root])}")
        if root == "torch" and top and not any(is_within(module, home) for home in TORCH_AT_IMPORT):
            found.append(f"{module} imports torch at its top level")
    return found


def sources() -> dict[str, str]:
    """The text of every module, by its name within the package."""
    texts = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if name.endswith("__init__") and name.count(".") < 1 and name == "__init__":
            continue
        texts[name.removesuffix(".__init__")] = path.read_text()
    return texts


def circle(texts: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, also within functions; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for module, text in texts.items():
        names = [name.removeprefix("vaegen_ray.") for name, _ in imports(text) if name.startswith("vaegen_ray.")]
        known = {each if each in texts else each.rpartition(".")[0] for each in names}
        graph[module] = (known & set(texts)) - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_point_downwards_and_close_no_circle() -> None:
    texts = sources()
    unplaced = [module for module in texts if floor_of(module) is None]
    assert not unplaced, "these modules have no place in FLOORS"
    found = [fault for module, text in texts.items() for fault in faults(module, text)]
    assert not found, "\n".join(found)
    assert not circle(texts), " -> ".join(circle(texts))


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        ("models.vae", "from vaegen_ray.training.trainer import Trainer", "training.trainer"),
        ("data.x", "def f():\n    from vaegen_ray import service", "service"),
        ("results.live", "from vaegen_ray.service import inputs", "service.inputs"),
        ("evaluation.elbo", "from vaegen_ray.diffusion import edm", "diffusion.edm"),
        ("dashboard.app", "from vaegen_ray.service.driver import progress", "service.driver.progress"),
        ("service.worker.x", "from vaegen_ray.figures.style import save", "figures.style"),
        ("service.worker.x", "from vaegen_ray.service.driver.tune import fit", "service.driver.tune"),
        ("doctor.cluster", "from vaegen_ray.doctor.run import run", "doctor.run"),
        ("sweep.x", "import ray.tune", "ray"),
        ("training.x", "from pyarrow import fs", "pyarrow"),
        ("data.x", "import torch", "torch"),
        ("data.x", "if True:\n    import torch.nn", "torch"),
        ("data.x", "from ..service import runner", "..service.runner"),
    ],
)
def test_the_check_names_what_is_wrong(module: str, source: str, named: str) -> None:
    (fault,) = faults(module, source)
    assert module in fault and named in fault


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sweep.x", "from vaegen_ray.spec.trial import TrialSpec"),
        ("bundle.plan", "from vaegen_ray.bundle import cost"),
        ("service.worker.x", "from vaegen_ray.service.cluster.connect import connect"),
        ("service.x", "import ray"),
        ("data.x", "def f():\n    import torch"),
        ("data.x", "if TYPE_CHECKING:\n    import torch"),
    ],
)
def test_the_check_lets_pass_what_is_right(module: str, source: str) -> None:
    assert faults(module, source) == []


def test_a_circle_is_named() -> None:
    texts = {
        "a": "from vaegen_ray.b import x",
        "b": "def f():\n    from vaegen_ray import c",
        "c": "import vaegen_ray.a",
    }
    assert set(circle(texts)) == {"a", "b", "c"}
    assert circle({**texts, "c": ""}) == []


def modules_of(*parts: str) -> str:
    """All modules of these parts, as an import statement names them."""
    return ", ".join(f"vaegen_ray.{name}" for name in sources() if name.split(".")[0] in parts)


def loaded_after(statement: str, *blocked: str) -> set[str]:
    """Packages loaded after a statement in a process of its own, where ``blocked`` ones cannot be imported."""
    block = "".join(f"sys.modules[{name!r}] = None;" for name in blocked)
    code = f"import sys; {block} {statement}; print(' '.join(n for n, m in sys.modules.items() if m and '.' not in n))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_planning_and_the_command_line_start_light() -> None:
    parts = ("cli.parser", "bundle.packing", "bundle.plan", "data.catalog", "launch.main")
    statement = "import " + ", ".join(f"vaegen_ray.{part}" for part in parts)
    heavy = {"torch", "ray", "pandas", "matplotlib", "sklearn", "torchvision"}
    assert not loaded_after(statement) & heavy
    parse = "from vaegen_ray.cli.parser import parser; parser().parse_args(['status'])"
    assert not loaded_after(parse) & {*heavy, "pyarrow", "scipy", "duckdb", "argcomplete"}


def test_packages_alone_load_nothing() -> None:
    packages = ", ".join(f"vaegen_ray.{path.parent.name}" for path in ROOT.glob("*/__init__.py"))
    assert not loaded_after(f"import {packages}") & {"torch", "ray", "pandas", "matplotlib", "numpy", "pyarrow"}


def test_science_needs_no_service() -> None:
    modules = modules_of("data", "models", "training", "evaluation", "diffusion", "sweep", "bundle")
    assert "torch" in loaded_after(f"import {modules}", "ray", "pyarrow", "matplotlib", "pandas")


def test_results_and_figures_need_neither_ray_nor_torch() -> None:
    loaded = loaded_after(f"import {modules_of('results', 'figures', 'reports')}", "ray", "torch")
    assert {"pyarrow", "matplotlib"} <= loaded
