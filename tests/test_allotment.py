"""What a job may use: affinity, control groups of both versions, SLURM. The trees are those that kernels show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaegen_ray.allotment import DRIVER_BYTES, WORKER_BYTES, Allotment, allotted

MEMINFO = "MemTotal:       65536 kB\nMemFree:         1024 kB\nMemAvailable:    32768 kB\n"
TOTAL, AVAILABLE = 2**26, 2**25
CORES = float(len(os.sched_getaffinity(0)))
TENTH, HALF = "1000 10000", "50000 100000"


def tree(root: Path, files: dict[str, str], *, cgroup: str, mounts: str) -> Path:
    """A root folder with ``proc`` and the files of control groups."""
    made = {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, **files}
    for name, text in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("" if not text else text if text.endswith("\n") else f"{text}\n")
    return root


def second(root: Path, files: dict[str, str], *, path: str = "/", mounted: str = "/") -> Path:
    """A tree of version 2, as systemd mounts it."""
    mounts = (
        f"24 22 0:22 / /proc rw - proc proc rw\n29 22 0:26 {mounted} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
    )
    return tree(root, files, cgroup=f"0::{path}\n", mounts=mounts)


def first(root: Path, files: dict[str, str], *, path: str, mounted: str = "/") -> Path:
    """A tree of version 1, with a mount for cpu and cpuacct and one for memory."""
    at = f"{mounted} /sys/fs/cgroup"
    mounts = f"33 32 0:29 {at}/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
    mounts += f"35 32 0:31 {at}/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n"
    mounts += "41 32 0:37 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,name=systemd\n"
    cgroup = f"12:memory:{path}\n5:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/init.scope\n"
    return tree(root, files, cgroup=cgroup, mounts=mounts)


def found(root: Path, **environment: str) -> tuple[float, int, int]:
    job = allotted(root, environment)
    return job.cores, job.memory, job.free


def test_without_limits_a_job_has_the_machine(tmp_path: Path) -> None:
    at = "sys/fs/cgroup"
    unlimited = {f"{at}/cpu.max": "max 100000", f"{at}/memory.max": "max", f"{at}/memory.current": "9999"}
    assert found(second(tmp_path / "2", unlimited)) == (CORES, TOTAL, AVAILABLE)
    at = "sys/fs/cgroup/memory/memory"
    unlimited = {f"{at}.limit_in_bytes": "9223372036854771712", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1"}
    assert found(first(tmp_path / "1", unlimited, path="/")) == (CORES, TOTAL, AVAILABLE)
    assert found(tree(tmp_path / "0", {}, cgroup="", mounts="")) == (CORES, TOTAL, AVAILABLE)


def test_limits_of_a_container_of_version_2(tmp_path: Path) -> None:
    at = "sys/fs/cgroup"
    files = {f"{at}/cpu.max": HALF, f"{at}/memory.max": "2000000", f"{at}/memory.current": "1500000"}
    files[f"{at}/memory.stat"] = "anon 900000\nfile 600000\ninactive_file 500000"
    assert found(second(tmp_path, files)) == (0.5, 2_000_000, 1_000_000)  # cached files are free


def test_limits_of_groups_around_count_too(tmp_path: Path) -> None:
    """SLURM limits a job, systemd a slice; the process is in a group inside of it."""
    at = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
    files = {f"{at}/cpu.max": TENTH, f"{at}/memory.max": "max", f"{at}/memory.high": "3000000"}
    files |= {f"{at}/step_0/memory.max": "4000000", f"{at}/step_0/cpu.max": HALF, f"{at}/memory.current": "1000000"}
    root = second(tmp_path, files, path="/system.slice/slurmstepd.scope/job_7/step_0/user/task_0")
    assert found(root) == (0.1, 3_000_000, 2_000_000)


@pytest.mark.parametrize(
    ("path", "mounted", "folder"),
    [
        pytest.param("/slurm/uid_1/job_7", "/", "/slurm/uid_1", id="a-job-sees-the-hierarchy"),
        pytest.param("/docker/abc", "/docker/abc", "", id="a-container-sees-its-part"),
        pytest.param("/docker/abc", "/docker/other", "", id="a-container-that-is-elsewhere"),
        pytest.param("/", "/", "", id="a-namespace"),
    ],
)
def test_limits_of_version_1(path: str, mounted: str, folder: str, tmp_path: Path) -> None:
    cpu, memory = (f"sys/fs/cgroup/{name}{folder}" for name in ("cpu,cpuacct", "memory"))
    files = {f"{cpu}/cpu.cfs_quota_us": "25000", f"{cpu}/cpu.cfs_period_us": "100000"}
    files |= {f"{memory}/memory.limit_in_bytes": "5000000", f"{memory}/memory.usage_in_bytes": "2000000"}
    files[f"{memory}/memory.stat"] = "inactive_file 1\ntotal_inactive_file 400000"
    assert found(first(tmp_path, files, path=path, mounted=mounted)) == (0.25, 5_000_000, 3_400_000)


@pytest.mark.parametrize(
    ("environment", "cores", "memory"),
    [
        ({"SLURM_CPUS_PER_TASK": "1"}, 1, 64),
        ({"SLURM_CPUS_ON_NODE": "1"}, 1, 64),
        ({"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "64", "SLURM_MEM_PER_CPU": "3"}, 1, 3),
        ({"SLURM_MEM_PER_NODE": "7"}, CORES, 7),
        ({"SLURM_MEM_PER_CPU": "5"}, CORES, 5 * int(CORES)),
        ({"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_PER_TASK": "many"}, CORES, 64),
        ({"SLURM_MEM_PER_NODE": "999999", "SLURM_CPUS_PER_TASK": "999"}, CORES, 64),
    ],
)
def test_what_slurm_gave_counts(environment: dict[str, str], cores: float, memory: int, tmp_path: Path) -> None:
    root = tree(tmp_path, {}, cgroup="", mounts="")
    assert found(root, **environment) == (cores, memory * 2**20, min(AVAILABLE, memory * 2**20))


def test_affinity_counts() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
    code += "from vaegen_ray.service.cluster import resources; from vaegen_ray.allotment import allotted;"
    code += "print(allotted().cores, resources.find_local_devices()[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1.0 1\n"


GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "memory", "bundle", "workers"),
    [
        (64.0, 512 * GIB, 0, 64),
        (1.5, 512 * GIB, 0, 1),
        (0.5, 512 * GIB, 0, 1),
        (64.0, DRIVER_BYTES + 2**28 + 4 * (WORKER_BYTES + 100), 100, 4),
        (64.0, DRIVER_BYTES + 2**28 + 4 * (WORKER_BYTES + 100) - 1, 100, 3),
        (4.0, 8 * GIB, 100 * GIB, 1),
    ],
)
def test_as_many_workers_as_cores_and_memory_hold(cores: float, memory: int, bundle: int, workers: int) -> None:
    assert Allotment(cores=cores, memory=memory, free=0).workers(bundle) == workers


@pytest.mark.parametrize(("memory", "store"), [(64 * GIB, 2**28), (GIB, 2**27), (2**20, 80 * 2**20)])
def test_the_object_store_is_a_part_of_the_memory(memory: int, store: int) -> None:
    assert Allotment(cores=1.0, memory=memory, free=memory).store_bytes == store


def test_ray_starts_with_what_the_job_has() -> None:
    """A job of one core and 3,000 MiB, which are those of the workers, the driver and the object store."""
    code = "import os, json; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import ray;"
    code += "from vaegen_ray.service.cluster import connect, resources; connect.connect(None);"
    code += "device, count = resources.find_devices();"
    code += "print(json.dumps([count, device.memory_bytes, resources.find_local_devices()[0].memory_bytes,"
    code += "ray.cluster_resources()['object_store_memory']])); connect.disconnect()"
    environment = {**os.environ, "SLURM_MEM_PER_NODE": "3000"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    count, memory, planned, store = json.loads(done.stdout.splitlines()[-1])
    assert (count, store) == (1, 2**28)
    assert memory == planned == 3000 * 2**20 - DRIVER_BYTES - 2**28 - WORKER_BYTES
