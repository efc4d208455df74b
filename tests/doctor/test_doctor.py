"""`vaegen doctor`: each check where all is well and where it is not, made real where a machine can be made so."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vaegen_ray
from vaegen_ray.cli import main
from vaegen_ray.doctor import checks, cluster, facts, probe, run
from vaegen_ray.doctor.checks import GIB, Check, NodeFacts
from vaegen_ray.results.storage import Storage

VAEGEN = "import sys; from vaegen_ray.cli import main; sys.exit(main())"

MACHINE: dict[str, Any] = {
    "host": "h1",
    "python": "3.11.7",
    "cores": 8,
    "usable_cores": 8.0,
    "omp": None,
    "memory": 32 * GIB,
    "memory_free": 30 * GIB,
    "shm": 16 * GIB,
    "open_files": [65536, 65536],
}
TORCH: dict[str, Any] = {"version": "2.14.1", "cuda": None, "available": False, "reason": "", "gpus": []}
H200 = {"name": "H200", "memory": 140 * GIB}
SOUND: dict[str, Any] = {
    "machine": MACHINE,
    "auth": {"mode": "token", "path": "/home/u/.ray/auth_token", "there": True, "permissions": 0o600},
    "packages": dict.fromkeys((*checks.WORKER_PACKAGES, "mlxtend", "h5py"), "1.2.3"),
    "code": {"version": "0.1.0", "digest": "aaaaaaaa"},
    "driver": {},
    "storage": {"shared": True},
    "pyarrow": {},
    "ray": {},
    "torch": TORCH,
    "torchvision": {},
}


def node(*, slots: int = 8, gpus: int | None = None, is_node: bool = True, **parts: dict[str, Any]) -> NodeFacts:
    """A sound machine, except for these parts."""
    every = {part: {**found, **parts.get(part, {})} for part, found in SOUND.items()}
    return NodeFacts(facts=every, slots=slots, gpus=gpus, store=GIB, is_node=is_node)


def verdict(check: Check | None, expected: str, *words: str) -> None:
    assert check is not None and check.verdict == expected, check
    line = check.line()
    assert "\n" not in line and all(word in line for word in words), line
    assert bool(check.advice) == (expected != "ok"), "advice is for what is not ok"


@pytest.fixture
def sound_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's machine is sound, told at once."""
    monkeypatch.setattr(facts, "collect", lambda source, questions, seconds: DRIVER_NODE.facts)


# -- the command ---------------------------------------------------------------------------------------------------


def test_a_sound_machine_has_a_line_a_check_and_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--storage", str(tmp_path / "a" / "b"), "--dataset", "digits"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    assert {line[:6] for line in lines[:-1]} <= {"ok    ", "warn  "}
    names = [line[6:].split(":")[0] for line in lines[:-1]]
    assert len(set(names)) == len(names) == 15
    assert {"torch", "imports", "storage", "free space", "data set digits", "token"} <= set(names)
    assert lines[-1].startswith("15 checks: ") and lines[-1].endswith(" 0 FAIL")
    assert "1000 training and 797 test images" in "".join(lines)
    assert list(tmp_path.iterdir()) == [], "the doctor leaves no trace"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "imagenet"], "dataset must be one of digits"),
        (["--address", "somewhere"], "--address must be HOST:PORT or auto; got 'somewhere'"),
        (["--address", "host:port"], "'host:port'"),
        (["--storage", "ftp://host/x"], "ftp"),
        (["--depth", "3"], "--depth"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err


@pytest.mark.usefixtures("sound_facts")
def test_an_address_where_nothing_listens_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--storage", str(tmp_path), "--address", "127.0.0.1:1"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1 and "'127.0.0.1:1'" in failed[0] and "refused" in failed[0]


# -- one machine ---------------------------------------------------------------------------------------------------


DRIVER_NODE = node(is_node=False)
GPUS = {"cuda": "13.0", "available": True, "gpus": [H200, H200]}
NVIDIA = {"cuda": "13.1", "gpus": 2, "status": 0}
LIMITED = {"usable_cores": 0.5, "memory": 2**28, "memory_free": 2**27}


@pytest.mark.parametrize(
    ("check", "machine", "expected", "words"),
    [
        (checks.check_python, node(), "ok", ("3.11.7",)),
        (checks.check_python, node(machine={"python": "3.12.1"}), "FAIL", ("3.12.1", "3.11.7")),
        (checks.check_python, node(machine={"python": "3.11.9"}), "warn", ("3.11.9", "3.11.7")),
        (checks.check_code, node(), "ok", ("0.1.0",)),
        (checks.check_code, node(code={"digest": "bbbbbbbb"}), "FAIL", ("bbbbbbbb", "aaaaaaaa")),
        (checks.check_code, node(code={"error": "No module named 'vaegen_ray'"}), "FAIL", ("No module",)),
        (checks.check_packages, node(), "ok", ("ray 1.2.3",)),
        (checks.check_packages, node(packages={"torch": "1.2.3+cpu"}), "ok", ("torch 1.2.3+cpu",)),
        (checks.check_packages, node(packages={"h5py": None}), "ok", ()),  # only the driver reads data
        (
            checks.check_packages,
            node(packages={"numpy": "1.9.0", "torchvision": None}),
            "FAIL",
            ("numpy 1.9.0", "pip install torchvision==1.2.3 numpy==1.2.3"),
        ),
        (checks.check_imports, node(), "ok", ("torchvision",)),
        (checks.check_torch, node(gpus=0), "ok", ("without CUDA, no GPU",)),
        (
            checks.check_torch,
            node(gpus=2, torch=GPUS, driver=NVIDIA),
            "ok",
            ("CUDA 13.0", "to 13.1", "2 x H200 with 140 GiB"),
        ),
        (checks.check_torch, node(torch=GPUS, driver=NVIDIA), "ok", ("2 x H200",)),
        (checks.check_torch, node(gpus=2, driver=NVIDIA), "FAIL", ("without CUDA", "GPUs: 2", "builds have CUDA")),
        (checks.check_torch, node(driver=NVIDIA), "FAIL", ("without CUDA", "GPUs: 2")),
        (
            checks.check_torch,
            node(gpus=2, torch={"cuda": "13.0", "reason": "too old (found 12040)"}, driver=NVIDIA),
            "FAIL",
            ("too old", "newer NVIDIA driver"),
        ),
        (
            checks.check_torch,
            node(gpus=4, torch=GPUS, driver=NVIDIA),
            "FAIL",
            ("GPUs: 4, torch sees 2", "--num-gpus=2"),
        ),
        (checks.check_torch, node(gpus=0, driver={**NVIDIA, "status": 803}), "warn", ("error 803", "nvidia-smi")),
        (checks.check_torch, node(gpus=0, driver={**NVIDIA, "status": 100}), "ok", ("no GPU",)),
        (checks.check_optional, DRIVER_NODE, "ok", ()),
        (checks.check_memory, node(slots=2, machine=LIMITED), "warn", ("0.1 of 0.2 GiB", "2 workers")),
        (
            checks.check_cores,
            node(slots=2, machine=LIMITED),
            "warn",
            ("0.5 of 8, bundles", "may use 0.5", "--num-cpus=1"),
        ),
        (
            checks.check_cores,
            node(slots=1, machine={"usable_cores": 4.0}, is_node=False),
            "ok",
            ("4 of 8, bundles at a time: 1",),
        ),
        (checks.check_cores, node(), "ok", ("OMP_NUM_THREADS unset",)),
        (checks.check_cores, node(machine={"omp": "1"}), "ok", ("OMP_NUM_THREADS 1",)),
        (checks.check_cores, node(slots=1, machine={"omp": "8"}), "ok", ("OMP_NUM_THREADS 8",)),
        (checks.check_cores, node(machine={"omp": "8"}), "warn", ("unset OMP_NUM_THREADS",)),
        (checks.check_cores, node(slots=1, machine={"omp": "many"}), "warn", ("OMP_NUM_THREADS many",)),
        (checks.check_shared_memory, node(), "ok", ("16.00 GiB",)),
        (checks.check_open_files, node(), "ok", ("65,536",)),
    ],
)
def test_the_verdict_on_a_machine(check: Any, machine: NodeFacts, expected: str, words: tuple[str, ...]) -> None:
    verdict(check(machine, DRIVER_NODE), expected, *words)


def test_absent_optional_packages_name_the_results_that_need_them() -> None:
    packages = {name: version for name, version in SOUND["packages"].items() if name not in ("h5py", "torch-fidelity")}
    machine = NodeFacts(facts={"packages": packages}, slots=1)
    words = ("FID", "shapes3d", "pip install 'vaegen-ray[fid,shapes]'")
    verdict(checks.check_optional(machine, machine), "warn", *words)
    assert checks.check_optional(node(), machine) is None, "nodes are compared with the driver"


def test_the_digest_of_the_code_changes_with_any_line(tmp_path: Path) -> None:
    shutil.copytree(Path(vaegen_ray.__file__).parent, tmp_path / "vaegen_ray")
    command = [sys.executable, "-c", "from vaegen_ray.doctor import facts as d; print(d.find_code()['digest'])"]

    def digest() -> str:  # `-c` imports from the working directory first
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    before = digest()
    with (tmp_path / "vaegen_ray" / "seeds.py").open("a") as file:
        file.write("# another line\n")
    assert digest() != before


@pytest.mark.parametrize(
    ("torch", "torchvision", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "", ("torch", "by signal 4", "reinstall torch")),
        (
            "__version__ = '2.14.1+cpu'\nclass version: cuda = None\n"
            "class cuda:\n    is_available = staticmethod(bool)\n    device_count = staticmethod(int)",
            "raise RuntimeError('operator torchvision::nms does not exist')",
            ("torchvision cannot be imported: operator torchvision::nms does not exist", "both from one index"),
        ),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(
    torch: str, torchvision: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(torch)
    (tmp_path / "torchvision.py").write_text(torchvision)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    broken = NodeFacts(facts=facts.collect(probe.read_source(), {}, 60), slots=1)
    verdict(checks.check_imports(broken, broken), "FAIL", *words)
    assert "memory" in [check.name for check in checks.check_machine(broken, broken)], "the others are made"


def test_a_python_that_hangs_is_left_after_its_time() -> None:
    hung = NodeFacts(facts=facts.collect("import signal; signal.pause()", {}, 0.2), slots=1)
    (check,) = checks.check_machine(hung, DRIVER_NODE)
    verdict(check, "FAIL", "unfinished")


def test_the_doctor_counts_the_cores_and_the_memory_of_its_job() -> None:
    """A process that may use one core, as by ``taskset`` or SLURM; on nodes the text of the doctor says the same."""
    one = next(iter(os.sched_getaffinity(0)))
    code = "import os; os.sched_setaffinity(0, [int(os.environ['CORE'])]);"
    code += "import json; from vaegen_ray.doctor import facts as d, probe; from vaegen_ray.cli import main;"
    code += "print(json.dumps([d.find_machine(), d.collect(probe.read_source(), {}, 60)['machine']])); main(['doctor'])"
    limits = {"CORE": str(one), "SLURM_MEM_PER_NODE": "1500", "VAEGEN_STORAGE": os.devnull}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **limits})
    first, *lines = done.stdout.splitlines()
    for machine in json.loads(first):
        assert (machine["usable_cores"], machine["memory"]) == (1.0, 1500 * 2**20)
        assert machine["memory_free"] <= 1500 * 2**20
    (cores,) = (line for line in lines if " cores:" in line)
    part = f"1 of {os.cpu_count()}" if (os.cpu_count() or 1) > 1 else "1"
    assert f"cores: {part}, bundles at a time: 1" in cores
    (memory,) = (line for line in lines if "  memory:" in line)
    assert "of 1.5 GiB free" in memory


def test_an_object_store_larger_than_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    small = os.statvfs_result((4096, 4096, 2**14, 2**14, 2**14, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    machine = NodeFacts(facts={"machine": facts.find_machine()}, slots=1, store=256 * 2**20)
    verdict(checks.check_shared_memory(machine, machine), "warn", "0.06 GiB", "--shm-size=0.2g")


def test_the_limit_of_open_files() -> None:
    code = "import json, resource; from vaegen_ray.doctor import facts as d;"
    code += "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024)); print(json.dumps(d.find_machine()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {"machine": json.loads(done.stdout)}
    there, here = (NodeFacts(facts=found, slots=1, is_node=is_node) for is_node in (True, False))
    verdict(checks.check_open_files(there, here), "warn", "512 at most", "before `ray start`: ulimit -n 65536")
    verdict(checks.check_open_files(here, here), "warn", "1,024 at most")  # a driver raises it as far as it may


def test_the_token_is_there_and_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "auth_token"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)

    def check(*, is_node: bool = False) -> Check:
        found = facts.find_auth()
        assert "secret" not in str(found)
        machine = NodeFacts(facts={"auth": found}, slots=1, is_node=is_node)
        return checks.check_token(machine, machine)

    verdict(check(), "FAIL", str(path), "ray get-auth-token --generate")
    path.write_text("secret")
    path.chmod(0o644)
    verdict(check(), "warn", "0644", f"chmod 600 {path}")
    path.chmod(0o600)
    verdict(check(), "ok", str(path))
    monkeypatch.setenv("RAY_AUTH_MODE", "tokens")
    verdict(check(), "FAIL", "RAY_AUTH_MODE=tokens", "export RAY_AUTH_MODE=token")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    verdict(check(), "warn", "runs code", "export RAY_AUTH_MODE=token")
    monkeypatch.delenv("RAY_AUTH_MODE")
    verdict(check(), "ok")  # Ray makes or takes one when it starts here
    verdict(check(is_node=True), "warn", "before `ray start`")  # a node that runs without
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    verdict(check(), "ok", "RAY_AUTH_TOKEN")


# -- storage and data ----------------------------------------------------------------------------------------------


def test_a_storage_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = run.check_storage("/proc/nowhere")
    verdict(check, "FAIL", "/proc/nowhere", "--storage")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Namespace(free=2**20))
    written, space = run.check_storage(str(tmp_path))
    verdict(written, "ok", str(tmp_path))
    verdict(space, "warn", "0.0 GiB", f"du -sh {tmp_path}/*")


def test_a_full_storage_fails(tmp_path: Path, namespaces: list[str]) -> None:
    command = f"mount -t tmpfs -o size=4k tmpfs {tmp_path} && head -c 4096 /dev/zero > {tmp_path}/all; exec $0 -c '"
    command += f'from vaegen_ray.doctor import run; print(*run.check_storage("{tmp_path}"))' + "'"
    done = subprocess.run([*namespaces, "bash", "-c", command, sys.executable], capture_output=True, text=True)
    assert "FAIL" in done.stdout and "No space left" in done.stdout, done.stdout + done.stderr


def test_a_storage_that_hangs_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(Storage, "probe", lambda self: released.wait(60))
    monkeypatch.setattr(run, "STORAGE_SECONDS", 0.1)
    (check,) = run.check_storage(str(tmp_path))
    released.set()
    verdict(check, "FAIL", "does not answer", str(tmp_path))


def test_a_folder_that_is_not_shared_is_found(tmp_path: Path) -> None:
    driver, other = (Storage.open(tmp_path / name) for name in ("driver", "other"))
    driver.write("question", b"")

    def check(found: dict[str, Any]) -> Check:
        there = NodeFacts(facts={"storage": found}, slots=1, is_node=True)
        return cluster.check_sharing(there, "answer", driver.root)

    verdict(check(facts.probe_storage(other.root, "question", "answer")), "FAIL", "is not there", "NFS")
    assert other.list() == [], "nothing is written to a place that is not the driver's"
    verdict(check({"shared": True}), "FAIL", "the driver does not see")
    verdict(check(facts.probe_storage(driver.root, "question", "answer")), "ok")
    verdict(check({"error": "cannot write: Permission denied"}), "FAIL", "Permission denied", "NFS")


def test_only_the_data_set_that_is_asked_for_can_fail(tmp_path: Path) -> None:
    (check,) = run.check_data(None, str(tmp_path))
    verdict(check, "ok", "digits", "not ", "cifar10", "vaegen datasets")
    verdict(list(run.check_data("cifar10", str(tmp_path)))[1], "FAIL", "vaegen datasets --get cifar10")
    verdict(list(run.check_data("tetrominoes", str(tmp_path)))[1], "ok", "generated")
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        (folder / name).write_bytes(b"cut short")
    verdict(list(run.check_data("cifar10", str(tmp_path)))[1], "FAIL", "batch", "remove it")


# -- a cluster -----------------------------------------------------------------------------------------------------


def test_clocks_are_told_apart_only_where_they_are_known_to_differ() -> None:
    verdict(checks.check_clocks({"h1": (0.01, 0.01), "h2": (-3.0, 4.0)}), "ok")
    found = checks.check_clocks({"h1": (0.01, 0.01), "h2": (-3.0, 0.1), "h3": (60.0, 0.5)})
    verdict(found, "warn", "h2 3.0 s behind", "h3 60.0 s ahead", "timedatectl")
    assert "h1" not in found.value


HEAD = {"node:__internal_head__": 1.0, "object_store_memory": 1e8}
GPU_NODE = {"CPU": 8.0, "GPU": 4.0, "trainer": 4.0}


@pytest.mark.parametrize(
    ("nodes", "expected", "value"),
    [
        ({"h0": {**HEAD, "CPU": 2.0}, "h1": {"CPU": 2.0}}, ["ok"], "none is declared"),
        ({"h0": HEAD, "h1": GPU_NODE, "h2": {"CPU": 4.0, "GPU": 1.0, "sampler": 1.0}}, ["ok"], "trainer 4, sampler 1"),
        ({"h0": {**HEAD, "trainers_at_most": 64.0}}, ["ok"], "trainer 0 of at most 64"),
        ({"h0": HEAD}, ["FAIL", "ok"], "no node has a CPU or a GPU"),
        ({"h0": HEAD, "h1": GPU_NODE, "h2": {"CPU": 4.0}}, ["ok", "warn"], "h2 has no role"),
        ({"h0": HEAD, "h1": {**GPU_NODE, "GPU": 2.0}}, ["ok", "warn"], "h1 has trainer 4, GPU 2"),
        ({"h0": HEAD, "h1": {**GPU_NODE, "CPU": 1.0}}, ["ok", "warn"], "h1 has trainer 4, CPU 1"),
        ({"h0": HEAD, "h1": GPU_NODE, "h2": {"CPU": 4.0, "trainer": 4.0}}, ["ok", "warn"], "h2 has trainer 4, GPU 0"),
        ({"h0": HEAD, "h1": {"CPU": 2.0, "sampler": 1.0}}, ["ok", "warn"], "trainers have not"),
    ],
)
def test_roles_that_can_never_be_used_are_found(nodes: dict, expected: list[str], value: str) -> None:
    found = list(checks.check_roles(nodes))
    assert [check.verdict for check in found] == expected
    assert any(value in check.value for check in found), found


def test_nodes_of_one_address_are_told_apart_and_lost_ones_left_out() -> None:
    addresses = [("a", True), ("a", True), ("b", True), ("c", False)]
    nodes = [
        {"NodeManagerAddress": address, "NodeID": f"{n}" * 12, "Alive": alive}
        for n, (address, alive) in enumerate(addresses)
    ]
    assert list(cluster.name_nodes(nodes)) == ["a (000000)", "a (111111)", "b"]


def test_what_a_node_runs_needs_no_vaegen_ray_there() -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(facts)
    try:
        sent = cloudpickle.dumps(facts.collect)
    finally:
        cloudpickle.unregister_pickle_by_value(facts)
    code = "import pickle, sys; sys.modules['vaegen_ray'] = None; ask = pickle.load(sys.stdin.buffer);"
    code += """print(ask('print(\\'{"part": "x", "facts": 1}\\')', {}, 60))"""
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True)
    assert done.stdout.decode().strip() == "{'x': 1}", done.stderr.decode()


@pytest.fixture
def ray_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray" / "auth_token"
    token.write_text("0123456789abcdef0123456789abcdef")
    token.chmod(0o600)
    unset = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "OMP_NUM_THREADS")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        more = {"HOME": str(home), "RAY_TMPDIR": short, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        yield {**inherited, **more}


def test_a_real_node_is_looked_at(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    code = """
import subprocess, sys, ray
ray.init("local", num_cpus=1, resources={"trainer": 1}, include_dashboard=False, object_store_memory=10**8)
address = ray.get_runtime_context().gcs_address
done = subprocess.run([sys.executable, "-c", sys.argv[1], "doctor", "--storage", sys.argv[2], "--address", address])
ray.shutdown()
sys.exit(done.returncode)
"""
    command = [sys.executable, "-c", code, VAEGEN, str(tmp_path / "shared")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=ray_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for start in ("cluster: ", "roles: trainer 1, ", "token on the node: RAY_AUTH_MODE token", "clocks: "):
        assert any(line.startswith(f"ok    {start}") for line in lines), done.stdout
    for same in ("python", "vaegen_ray", "packages", "imports"):
        there, here = (next(x for x in lines if x.startswith(f"ok    {same}{on}: ")) for on in (" on the node", ""))
        assert there.split(": ", 1)[1] == here.split(": ", 1)[1]
    assert any(line.startswith("ok    shared storage on the node: ") for line in lines), done.stdout
    assert not (tmp_path / "shared").exists(), "the doctor leaves no trace"


@pytest.mark.drill
def test_two_nodes_one_of_which_has_another_disk(
    tmp_path: Path, ray_environment: dict[str, str], namespaces: list[str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    common = "--object-store-memory=100000000 --memory=1000000000 --disable-usage-stats"
    world = f"""
set -e; cd {tmp_path}
ray start --head --node-ip-address=127.0.0.2 --port=6380 --num-cpus=1 --include-dashboard=false {common} >&2
unshare --mount bash -c "mount -t tmpfs tmpfs {store}; ulimit -n 1024; export OMP_NUM_THREADS=64
    ray start --address=127.0.0.2:6380 --node-ip-address=127.0.0.3 --num-cpus=1 {common}" >&2
set +e
doctor() {{ {sys.executable} -c '{VAEGEN}' doctor --storage {store} --address 127.0.0.2:6380; echo exit code $?; }}
doctor
RAY_AUTH_TOKEN=another doctor
"""
    environment = {**ray_environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [*namespaces, "bash", "-c", world]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    right, _, wrong = done.stdout.partition("exit code 1\n")
    marks = {line for line in right.splitlines() if line.startswith(("FAIL", "warn"))}
    for words in ("shared storage on 127.0.0.3: ", "cores on 127.0.0.3: ", "open files on 127.0.0.3: 1,024"):
        assert any(words in mark for mark in marks), done.stdout + done.stderr
    assert [mark for mark in marks if mark.startswith("FAIL")] == [m for m in marks if "shared storage" in m]
    assert "ok    token on all 2 nodes: RAY_AUTH_MODE token" in right, done.stdout
    failed = [line for line in wrong.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1 and "does not take the token in RAY_AUTH_TOKEN" in failed[0], done.stdout
    assert wrong.endswith("exit code 1\n")
