"""Collects what ``vaegen doctor`` looks at on a machine: facts, no verdicts.

    driver: source of this file, questions  ->  a Python process, here or on a node  ->  facts, a line of JSON a part

It runs where packages may be broken, absent or of another version, so it needs the standard library alone, and nodes
get its text and that of ``allotment`` instead of importing them. A part that fails says why; a crash of the process (a
torch that was built for another processor) loses only the parts after it.
"""

import ctypes
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # nodes get the text of that file before the text of this one
    from vaegen_ray.allotment import allotted

PACKAGES = (
    *("ray", "torch", "numpy", "pyarrow", "safetensors"),
    *("torchvision", "torch-fidelity", "torchmetrics", "mlxtend", "h5py"),
)


def collect(source: str, questions: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Runs this file's text in a new Python process.

    Args:
        source: the text of ``allotment`` and of this file (``probe.read_source``).
        questions: arguments of ``main``.
        seconds: how long it may take.

    Returns:
        The facts of each part; ``{"error": why}`` for a part that failed. ``ended`` is there when the process did not
        reach its end, and says how it ended; parts after it are missing.
    """
    command = [sys.executable, "-P", "-", json.dumps(questions)]
    try:
        process = subprocess.run(command, input=source.encode(), capture_output=True, timeout=seconds)
        lines, code = process.stdout, process.returncode
        ended = f"by signal {-code}" if code < 0 else f"with exit code {code}" if code else ""
    except subprocess.TimeoutExpired as error:
        lines, ended = error.stdout or b"", f"after {seconds:.0f} s, unfinished"
    parts = [json.loads(line) for line in lines.splitlines() if line.startswith(b'{"part": ') and line.endswith(b"}")]
    return {part["part"]: part["facts"] for part in parts} | ({"ended": ended} if ended else {})


def main(questions: dict[str, Any]) -> None:
    """Prints the facts of this machine, a line a part.

    Args:
        questions: ``storage``: a storage to probe, ``question``: the name of a file there that the driver wrote,
            ``answer``: the name of a file to write; ``all_gpus``: count GPUs that are hidden from this process too.
    """
    if questions.get("all_gpus"):  # Ray hides all of them from a task that asked for none
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    parts: dict[str, Callable[[], Any]] = {
        "machine": find_machine,
        "auth": find_auth,
        "packages": find_packages,
        "code": find_code,
        "driver": find_driver,
        "storage": lambda: probe_storage(**{name: questions[name] for name in ("storage", "question", "answer")}),
        "pyarrow": lambda: __import__("pyarrow.fs") and {},
        "ray": lambda: __import__("ray") and {},
        "torch": find_torch,
        "torchvision": lambda: __import__("torchvision") and {},
    }
    for part, find in parts.items():
        if part == "storage" and not questions.get("question"):
            continue
        try:
            facts = find()
        except Exception as error:
            facts = {"error": " ".join(str(error).split()) or type(error).__name__}
        print(json.dumps({"part": part, "facts": facts}), flush=True)


def find_machine() -> dict[str, Any]:
    """Processor, and the cores and the memory of this job; sizes in bytes."""
    job = allotted()
    shm = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    soft, hard = (2**63 if limit < 0 else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "usable_cores": job.cores,
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "memory": job.memory,
        "memory_free": job.free,
        "shm": shm.f_frsize * shm.f_blocks if shm else 0,
        "open_files": [soft, hard],
    }


def find_auth() -> dict[str, Any]:
    """How this process authenticates with Ray: never the token, only where it is and who may read it."""
    path = Path(os.path.expanduser(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"))
    in_environment = bool(os.environ.get("RAY_AUTH_TOKEN", "").strip())
    in_file = path.is_file() and path.stat().st_size > 0
    return {
        "mode": os.environ.get("RAY_AUTH_MODE"),
        "path": "" if in_environment else str(path),
        "there": in_environment or in_file,
        "permissions": path.stat().st_mode & 0o777 if in_file and not in_environment else 0o600,
    }


def find_packages() -> dict[str, str]:
    """Versions of the packages that are installed, without importing them."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def find_code() -> dict[str, str]:
    """The version of vaegen_ray, and a digest of its source files, which differs where any line does."""
    import vaegen_ray
    from vaegen_ray.code_version import code_version, installed_version

    digest = installed_version(Path(vaegen_ray.__file__).parent).rpartition(".")[2]
    return {"version": code_version(), "digest": digest}


def find_driver() -> dict[str, Any]:
    """NVIDIA's driver: the newest CUDA that it can run, and the GPUs that it shows; empty where there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {}
    number, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    return {"cuda": f"{number.value // 1000}.{number.value % 1000 // 10}", "gpus": count.value, "status": status}


def find_torch() -> dict[str, Any]:
    """torch's version, its CUDA, and the GPUs that it sees."""
    import torch

    reason = ""
    if torch.version.cuda and not torch.cuda.is_available():
        try:
            torch.cuda.init()
        except Exception as error:
            reason = " ".join(str(error).split())
    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count() * (not reason))]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "available": torch.cuda.is_available(),
        "reason": reason,
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
    }


def probe_storage(storage: str, question: str, answer: str) -> dict[str, bool]:
    """Whether the file ``question``, which the driver wrote, is in the storage; then writes the file ``answer``."""
    from vaegen_ray.results.storage import Storage

    opened = Storage.open(storage, create=False)
    if opened.read_optional(question) is None:
        return {"shared": False}
    opened.write(answer, b"written by a node")
    return {"shared": True}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
