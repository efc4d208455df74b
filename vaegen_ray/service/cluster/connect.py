"""Ray started here, or a running cluster joined; and what devices there are.

Local Ray is closed to others (``authentication``), and reports nothing to the outside.
"""

import hashlib
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaegen_ray import exit
from vaegen_ray.allotment import WORKER_BYTES, allotted, has_gpus
from vaegen_ray.bundle.cost import CPU_CORE, H200, Device
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.paths import NO_HOME, expanded
from vaegen_ray.service.cluster import authentication, local_ray

if TYPE_CHECKING:
    from vaegen_ray.results.storage import Storage

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""No usage reports; no files for each Tune trial and no snapshots, since results are ours and resume needs neither.
glibc keeps freed tensors instead of giving them back to the system at every step, which halves the time of a
convolutional step on a CPU (benchmarks/bundle_step.py)."""


NAMESPACE = "vaegen_ray"
"""Where actors have names that several drivers on one cluster share."""

SAMPLER_GPU, TRIAL_GPU = 0.4, 0.6
"""Parts of a GPU that a sampler and, beside samplers, a bundle reserve: one of each fits on a GPU, two bundles do not.
On a CPU samplers reserve nothing: they work while trials wait for them, and rest when they are ahead."""

TRAINER, SAMPLER = "trainer", "sampler"
"""Custom resources of nodes that have one task, one a device: nodes with ``trainer`` get bundles, nodes with
``sampler`` diffusion models and their samplers. In a cluster without them every device gets both."""
TRAINERS_AT_MOST, SAMPLERS_AT_MOST = "trainers_at_most", "samplers_at_most"
"""Resources of a head whose cluster grows when there is work: how many devices of each kind there can be. Bundles are
made for so many, though not one trainer may run when a sweep starts."""

CONNECT_SECONDS = 10.0
"""How long to wait for the head of a cluster to accept a connection."""
JOIN_SECONDS = 120.0
"""How long to wait until Ray has joined a cluster whose head answers."""


def connect(address: str | None, bundle_bytes: int = 0) -> None:
    """Joins the cluster at ``address``, or starts Ray on this machine when it is None, with what the job has of it.

    Args:
        address: of the head of a cluster.
        bundle_bytes: memory that every worker must have for its bundle; where the job has less, Ray starts with fewer
            cores.

    Raises:
        VaegenError: no cluster answers there, or it does not let us in.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if expanded("~") == Path(NO_HOME):  # Ray cannot do without
        os.environ["HOME"] = str(authentication.private_folder())
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address in (None, "local"):
        _say(authentication.close_to_others())
        job = allotted()
        cores = job.slots if has_gpus() else job.workers(bundle_bytes)
        size: dict[str, Any] = {"num_cpus": cores, "_memory": max(job.for_workers, 1)}
        local_ray.start(**size, object_store_memory=job.store_bytes, **quiet)
        return
    head = authentication.head_of(address)
    if head != address:
        print(f"--address {address} is the Ray cluster at {head}", flush=True)
    _check_that_somebody_listens(head)
    _say(authentication.check_cluster(head, address))
    try:
        with _given_up_after(JOIN_SECONDS, head), exit.held_back():
            ray.init(address=head, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())  # two versions that differ stand in several lines
        raise VaegenError(f"no Ray cluster answers at --address {head!r}: {reason}") from None


@contextmanager
def _given_up_after(seconds: float, head: str) -> Iterator[None]:
    """Ends this process when Ray does not return from joining a cluster; it cannot be interrupted, and nothing has
    been started."""

    def give_up() -> None:
        exit.say(f"error: the Ray cluster at {head} did not let this process join within {seconds:.0f} s")
        exit.leave(exit.Exit.WRONG)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(warning: str | None) -> None:
    if warning:
        print(warning, file=sys.stderr)


def actor_name(kind: str, storage: "Storage", name: str) -> str:
    """The name of an actor that works on files of a storage; drivers with the same storage share it."""
    place = hashlib.blake2b(storage.where().encode(), digest_size=4).hexdigest()
    return f"{kind}-{name}-{place}"


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line: the error that a worker raised, or what Ray says of the loss of one."""
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def disconnect() -> None:
    """Leaves the cluster, or ends Ray where ``connect`` started it."""
    import ray

    local_ray.end()
    ray.shutdown()


def _check_that_somebody_listens(address: str) -> None:
    """Ray itself tries for ten minutes and more to reach a host where nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except ValueError:
        raise VaegenError(f"no Ray cluster answers at --address {address!r}: its port must be a number") from None
    except (OSError, OverflowError) as error:
        raise VaegenError(f"no Ray cluster answers at --address {address!r}: {error}") from None


def devices(role: str = TRAINER) -> tuple[Device, int]:
    """What works in this cluster, and how many there are or can be: GPUs, or CPU cores when there are none.

    Args:
        role: ``TRAINER`` or ``SAMPLER``; all devices where no node is kept for it.
    """
    import ray

    resources = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if has_nodes_for(role):
        there = [each for each in nodes if each.get(role)]
        count = int(max(resources.get(_at_most(role), 0), resources.get(role, 0)))
        if there and not any(each.get("GPU") for each in there):
            return _core(there), count
        return H200, count  # nodes that come when there is work have GPUs
    if resources.get("GPU", 0) >= 1:
        return H200, int(resources["GPU"])
    return _core(nodes), max(1, int(resources.get("CPU", 1)))


def _core(nodes: Iterable[dict[str, float]]) -> Device:
    """A CPU core of these nodes, with the memory that a worker has on the one with the least for each core."""
    shares = [int(each["memory"] / each["CPU"]) for each in nodes if each.get("CPU", 0) >= 1 and each.get("memory")]
    return replace(CPU_CORE, memory_bytes=max(0, min(shares) - WORKER_BYTES)) if shares else CPU_CORE


def check_precision(asked: Iterable[str], device: Device) -> None:
    """Whether a device has the arithmetic that is asked for.

    Raises:
        SpecError: tf32 or bf16 on a CPU.
    """
    if device.kind != "cuda" and (others := sorted(set(asked) - {"float32"})):
        raise SpecError(f"precision must be float32 where there is no GPU; got {', '.join(others)}")


def has_nodes_for(role: str) -> bool:
    """Whether the cluster keeps nodes for ``TRAINER`` or ``SAMPLER``, or can start some."""
    import ray

    resources = ray.cluster_resources()
    return bool(resources.get(role) or resources.get(_at_most(role)))


def _at_most(role: str) -> str:
    return {TRAINER: TRAINERS_AT_MOST, SAMPLER: SAMPLERS_AT_MOST}[role]


def bundle_resources(use_gpu: bool, beside_samplers: bool) -> dict[str, float]:
    """What a bundle reserves of a node: a device, or the part of a GPU that samplers on the same one leave to it."""
    shared = beside_samplers and not has_nodes_for(SAMPLER)
    gpu = (TRIAL_GPU if shared else 1) if use_gpu else 0
    return {"CPU": 1, "GPU": gpu} | ({TRAINER: gpu or 1} if has_nodes_for(TRAINER) else {})


def sampler_options(use_gpu: bool) -> dict[str, Any]:
    """What a sampler reserves of a node, as Ray's options."""
    if has_nodes_for(SAMPLER):
        return {"num_cpus": 0, "num_gpus": int(use_gpu), "resources": {SAMPLER: 1}}
    return {"num_cpus": 0, "num_gpus": SAMPLER_GPU if use_gpu else 0, "scheduling_strategy": "SPREAD"}


def diffusion_options(use_gpu: bool, one_core: bool) -> dict[str, Any]:
    """What the training of a diffusion model reserves of a node, as Ray's options: a GPU, one core or all of them."""
    kept = {"resources": {SAMPLER: 1}} if has_nodes_for(SAMPLER) else {}
    if use_gpu:
        return {"num_gpus": 1, **kept}
    return {"num_cpus": 1 if one_core else cpus_of_a_node(SAMPLER if kept else None), **kept}


def cpus_of_a_node(role: str | None = None) -> int:
    """CPU cores of the largest node; of those that are kept for ``role``."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max([1, *(int(each.get("CPU", 0)) for each in nodes if role is None or each.get(role))])


def local_devices(bundle_bytes: int = 0) -> tuple[Device, int]:
    """The same for the Ray that ``connect`` would start on this machine, without starting it."""
    job = allotted()
    count = job.workers(bundle_bytes)
    return replace(CPU_CORE, memory_bytes=max(0, job.for_workers // count - WORKER_BYTES)), count
