"""What is of your own on its way: files that are imported, networks that travel to workers, and what changed since."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from vaegen_ray.data import catalog
from vaegen_ray.data.registry import register_dataset
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.launch.main import main
from vaegen_ray.launch.plugins import import_files
from vaegen_ray.models import registry
from vaegen_ray.models.networks import NetworkPart
from vaegen_ray.models.registry import register_network
from vaegen_ray.results.declaration import Declaration, find_changes
from vaegen_ray.service.worker import code_shipping
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep

NETWORK = """
from vaegen_ray.models.networks import NetworkPart
from vaegen_ray.models.registry import register_network
{imports}

class Part(NetworkPart):
    @staticmethod
    def build_layers(spec):
        return ({value},)

register_network("{name}", Part, Part)
"""
UNPACK = "import sys; from vaegen_ray.service.worker.code_shipping import unpack; unpack(sys.stdin.buffer.read())"
LAYERS = "; from vaegen_ray.models import registry; print(registry._REGISTERED['mine'].encoder.build_layers(None))"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with (
        patch.dict(registry._REGISTERED),
        patch.dict(catalog.CATALOG),
        patch.dict(sys.modules),
        patch("sys.path", sys.path[:]),
    ):
        yield


def write(path: Path, *, imports: str = "", value: str = "7", name: str = "mine") -> list[str]:
    """A file that registers a network; the options that import it."""
    path.write_text(NETWORK.format(imports=imports, value=value, name=name))
    return ["--import", str(path)]


def in_a_worker(packed: bytes, code: str = UNPACK + LAYERS) -> subprocess.CompletedProcess[bytes]:
    """A process in another folder that knows none of the files."""
    return subprocess.run(
        [sys.executable, "-c", code], input=packed, capture_output=True, cwd=Path(__file__).parents[2]
    )


def test_a_network_travels_with_the_modules_beside_it(tmp_path):
    (tmp_path / "numbers_beside.py").write_text("def seven():\n    return 7\n")
    import_files(write(tmp_path / "my_network.py", imports="import numbers_beside", value="numbers_beside.seven()"))
    done = in_a_worker(code_shipping.pack((registry._REGISTERED["mine"],)))
    assert done.stdout.decode().strip() == "(7,)", done.stderr.decode()


def test_without_networks_nothing_travels_and_no_worker_is_asked():
    assert code_shipping.pack(()) == b"" and in_a_worker(b"", UNPACK).returncode == 0
    with patch.dict(sys.modules, {"ray": None}):  # an import of it would fail
        code_shipping.check_on_cluster(b"", "auto")


def test_a_network_travels_with_its_package_and_the_files_of_its_bases(tmp_path):
    package = tmp_path / "lib" / "shapes_of_mine"
    (package / "nets").mkdir(parents=True)
    for made in (package, package / "nets"):
        (made / "__init__.py").write_text("")
    (package / "numbers.py").write_text("def seven():\n    return 7\n")
    text = NETWORK.format(imports="from shapes_of_mine.numbers import seven", value="seven()", name="unused")
    (package / "nets" / "base.py").write_text(text.partition("register_network(")[0])
    (tmp_path / "files").mkdir()
    mine = tmp_path / "files" / "my_network.py"
    mine.write_text(
        "from shapes_of_mine.nets.base import Part, register_network\n\nclass Mine(Part):\n    pass\n\n"
        "register_network('mine', Mine, Mine)\n"
    )
    sys.path.append(str(tmp_path / "lib"))
    import_files(["--import", str(mine)])
    done = in_a_worker(code_shipping.pack((registry._REGISTERED["mine"],)))
    assert done.stdout.decode().strip() == "(7,)", done.stderr.decode()


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_installed_packages_below_the_folder_of_a_network_stay_where_they_are(packages, tmp_path):
    """As with a network in a home folder, in which `pip install --user` or another environment puts packages."""
    folder = tmp_path / ".local" / "lib" / packages
    folder.mkdir(parents=True)
    (folder / "far_away.py").write_text("import threading\n\nlock = threading.Lock()\n\ndef seven():\n    return 7\n")
    sys.path.append(str(folder))
    import_files(write(tmp_path / "my_network.py", imports="import far_away", value="far_away.seven()"))
    packed = code_shipping.pack((registry._REGISTERED["mine"],))
    at_home = f"import sys; sys.path.append({str(folder)!r}); "
    assert in_a_worker(packed, at_home + UNPACK + LAYERS).stdout.decode().strip() == "(7,)"
    assert in_a_worker(packed).returncode == 1


def test_another_version_of_a_module_in_a_worker_is_one_line(tmp_path):
    for version, name in (("here", "seven"), ("there", "eight")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "far_away.py").write_text(f"def {name}():\n    return 7\n")
    sys.path.append(str(tmp_path / "here"))
    (tmp_path / "files").mkdir()
    import_files(write(tmp_path / "files" / "my_network.py", imports="from far_away import seven", value="seven()"))
    there = f"import sys; sys.path.insert(0, {str(tmp_path / 'there')!r}); "
    done = in_a_worker(code_shipping.pack((registry._REGISTERED["mine"],)), there + UNPACK)
    said = done.stderr.decode().strip().splitlines()[-1]
    assert said.startswith(
        "vaegen_ray.errors.VaegenError: a worker cannot import what a network of your own needs: Attr"
    )


def test_a_package_that_a_worker_lacks_is_named(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "far_away.py").write_text("def seven():\n    return 7\n")
    sys.path.append(str(tmp_path / "lib"))
    (tmp_path / "files").mkdir()
    import_files(write(tmp_path / "files" / "my_network.py", imports="from far_away import seven", value="seven()"))
    done = in_a_worker(code_shipping.pack((registry._REGISTERED["mine"],)))
    said = done.stderr.decode().strip().splitlines()[-1]
    assert (
        "what a network of your own needs: ModuleNotFoundError: No module named 'far_away'; install it on every" in said
    )


def test_what_cannot_leave_its_process_is_said():
    lock = threading.Lock()

    class Part(NetworkPart):
        held = lock

    register_network("mine", Part, Part)
    with pytest.raises(
        VaegenError, match="mine must consist of what can be sent to other processes; got: TypeError: cannot pickle"
    ):
        code_shipping.pack((registry._REGISTERED["mine"],))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.py", "--import must be a Python file; got '.*absent.py'"),
        ("text.txt", "--import must be a Python file; got"),
        ("json.py", "--import must be a file whose name no other module has; got .* \\(rename it\\)"),
        ("antigravity.py", "--import must be a file whose name no other module has; got .* \\(rename it\\)"),
        (
            "wrong.py",
            r"must be a file that runs to its end; got '.*wrong.py', which raises NameError: .*\(wrong.py, line 3",
        ),
        ("syntax.py", "which raises SyntaxError: .*syntax.py, line 1"),
        ("exits.py", "which ends the program \\(put what it runs as a script behind if __name__"),
        ("refused.py", "^the name of a data set must be a small letter, .*; got 'My data'$"),
    ],
)
def test_a_file_that_cannot_be_imported(name, said, tmp_path):
    for made, text in (
        *(
            ("text.txt", ""),
            ("json.py", ""),
            ("antigravity.py", ""),
            ("syntax.py", "def"),
            ("wrong.py", "\n\nnothing\n"),
        ),
        ("exits.py", "import sys\nsys.exit(0)\n"),
        ("refused.py", "from vaegen_ray.data.registry import register_dataset\nregister_dataset('My data', list)\n"),
    ):
        (tmp_path / made).write_text(text)
    for _ in range(2):  # one that failed is not taken for imported when it is given again
        with pytest.raises(SpecError, match=said) as error:
            import_files(["--import", str(tmp_path / name)])
        assert "\n" not in str(error.value)


def test_a_sweep_that_an_imported_file_would_start_is_not_started(tmp_path, monkeypatch, capsys):
    """As of a script without ``if __name__``: it sees the same arguments, and would run in place of the one typed."""
    script = tmp_path / "unguarded.py"
    started = tmp_path / "started"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom vaegen_ray.launch.main import main\n"
        f"sys.exit(main(lambda options: Path({str(started)!r}).touch(), 'a sweep'))\n"
    )
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--import", str(script), "--storage", str(tmp_path), "--dry-run"])
    assert main(lambda options: started.touch(), "a sweep") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "which ends the program (put what it runs as a script behind if __name__" in line
    assert not started.exists()


def test_a_relative_path_is_meant_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "files").mkdir()
    write(tmp_path / "files" / "net_c.py")
    monkeypatch.chdir(tmp_path)
    import_files(["--import", "files/net_c.py"])
    assert registry.find_version("mine") == 1
    monkeypatch.chdir(tmp_path / "files")
    import_files(["--import=net_c.py"])  # the same file, by another name
    with pytest.raises(
        SpecError, match=f"got 'files/net_c.py', which is looked for as {tmp_path}/files/files/net_c.py"
    ):
        import_files(["--import", "files/net_c.py"])


def test_a_wrong_import_or_network_of_a_script_is_one_line(tmp_path, capsys):
    def declare(options):
        return Sweep(name="s", trials=(TrialSpec(**base_spec("digits", architecture=options.architecture)),))

    given = ["--dry-run", "--storage", str(tmp_path)]
    assert main(declare, "a sweep", argv=[*given, "--import", "nothing.py"]) == 2
    assert main(declare, "a sweep", argv=[*given, "--architecture", "mine"]) == 2
    assert main(declare, "a sweep", argv=[*given, "--architecture", "mine", *write(tmp_path / "net_a.py")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "invalid choice: 'mine'" in lines[1]
    assert "build_layers of mine must return a tuple of Layers with different names; got (7,)" in lines[2]


def declared(images: np.ndarray) -> Sweep:
    """A sweep of the registered network on these images, as a new process would declare it."""
    catalog.CATALOG.pop("mine", None)
    register_dataset("mine", lambda: (images[:60], images[60:]))
    return Sweep(name="s", trials=(TrialSpec(**base_spec("mine", architecture="mine", n_train=50)),))


def test_what_changed_since_the_last_start_is_said(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (80, 1, 8, 8), dtype=np.uint8)
    import_files(write(tmp_path / "net_b.py"))
    sweep = declared(images)
    (network,) = sweep.networks
    before = Declaration(networks={"mine": [1, network.source]}).with_trials(sweep.trials)
    assert find_changes(Declaration(), sweep) == find_changes(before, declared(images)) == []
    (line,) = find_changes(before, declared(255 - images))
    assert line.startswith("the images of mine changed since s was started last: its VAEs are trained anew")
    before = Declaration(networks={"mine": [1, "0123abcd"]}).with_trials(sweep.trials)
    (line,) = find_changes(before, declared(images))
    assert line.startswith("the network mine was edited since s was started last, and is still version 1")
    registry._REGISTERED["mine"] = replace(network, version=2)
    assert find_changes(before, declared(images)) == []


ON_A_CLUSTER = """
import sys
from vaegen_ray.errors import VaegenError
from vaegen_ray.models import registry
from vaegen_ray.service.cluster import connect
from vaegen_ray.service.worker import code_shipping
from vaegen_ray.launch.plugins import import_files

connect.connect(None)
for file in sys.argv[1:]:
    registry._REGISTERED.clear()
    import_files(["--import", file])
    try:
        code_shipping.check_on_cluster(code_shipping.pack(tuple(registry._REGISTERED.values())), "auto")
        print("fine")
    except VaegenError as error:
        print(error)
connect.disconnect()
"""


@pytest.mark.slow
def test_a_worker_of_a_cluster_is_asked_first(tmp_path):
    for folder in ("lib", "files"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lib" / "far_away.py").write_text("def seven():\n    return 7\n")
    write(tmp_path / "files" / "net_good.py")
    adds = f"import sys\nsys.path.append({str(tmp_path / 'lib')!r})\nfrom far_away import seven"
    write(tmp_path / "files" / "net_bad.py", imports=adds, value="seven()")
    files = [str(tmp_path / "files" / f"net_{which}.py") for which in ("good", "bad")]
    done = subprocess.run([sys.executable, "-c", ON_A_CLUSTER, *files], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    good, bad = done.stdout.splitlines()
    assert good == "fine" and bad.startswith("a worker cannot import what a network of your own needs: ModuleNotFound")
