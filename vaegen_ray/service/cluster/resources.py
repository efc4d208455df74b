"""The devices of a cluster, and what bundles, samplers and diffusion trainings reserve of its nodes."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vaegen_ray.allotment import WORKER_BYTES, allotted
from vaegen_ray.bundle.cost import CPU_CORE, H200, Device
from vaegen_ray.errors import SpecError

SAMPLER_GPU, TRIAL_GPU = 0.4, 0.6
"""Fractions of a GPU that a sampler and, where samplers share GPUs, a bundle reserve: one of each fits on a GPU, two
bundles do not. On a CPU samplers reserve nothing: they work while trials wait for them, and are idle otherwise."""

TRAINER, SAMPLER = "trainer", "sampler"
"""Custom resources of nodes that have one role, one a device: nodes with ``trainer`` get bundles, nodes with
``sampler`` diffusion models and their samplers. In a cluster without them every device gets both."""
TRAINERS_AT_MOST, SAMPLERS_AT_MOST = "trainers_at_most", "samplers_at_most"
"""Custom resources of the head of a cluster with an autoscaler: how many devices of each role there can be. Bundles are
packed for so many, although no trainer may run yet when a sweep starts."""
_AT_MOST = {TRAINER: TRAINERS_AT_MOST, SAMPLER: SAMPLERS_AT_MOST}


def find_devices(role: str = TRAINER) -> tuple[Device, int]:
    """Finds what computes in this cluster, and how many there are or can be: GPUs, or CPU cores where there are none.

    Args:
        role: ``TRAINER`` or ``SAMPLER``; all devices count where no node has that role.
    """
    total, nodes = _sum_resources(), _list_nodes()
    if has_nodes_for(role):
        with_role = [node for node in nodes if node.get(role)]
        count = int(max(total.get(_AT_MOST[role], 0), total.get(role, 0)))
        if with_role and not any(node.get("GPU") for node in with_role):
            return _build_core(with_role), count
        return H200, count  # nodes that the autoscaler starts have GPUs
    if total.get("GPU", 0) >= 1:
        return H200, int(total["GPU"])
    return _build_core(nodes), max(1, int(total.get("CPU", 1)))


def find_local_devices(bundle_bytes: int = 0) -> tuple[Device, int]:
    """Finds the same for the Ray that ``connect`` would start on this machine, without starting it."""
    job = allotted()
    count = job.workers(bundle_bytes)
    return replace(CPU_CORE, memory_bytes=max(0, job.for_workers // count - WORKER_BYTES)), count


def check_precision(precisions: Iterable[str], device: Device) -> None:
    """Checks that a device has these precisions.

    Raises:
        SpecError: tf32 or bf16 on a CPU.
    """
    if device.kind != "cuda" and (others := sorted(set(precisions) - {"float32"})):
        raise SpecError(f"precision must be float32 where there is no GPU; got {', '.join(others)}")


def has_nodes_for(role: str) -> bool:
    """Whether the cluster has nodes of the role ``TRAINER`` or ``SAMPLER``, or can start some."""
    total = _sum_resources()
    return bool(total.get(role) or total.get(_AT_MOST[role]))


def build_bundle_resources(use_gpu: bool, beside_samplers: bool) -> dict[str, float]:
    """What a bundle reserves of a node: a device, or the fraction of a GPU that samplers leave to it."""
    is_shared = beside_samplers and not has_nodes_for(SAMPLER)
    gpu = (TRIAL_GPU if is_shared else 1) if use_gpu else 0
    return {"CPU": 1, "GPU": gpu} | ({TRAINER: gpu or 1} if has_nodes_for(TRAINER) else {})


def build_sampler_options(use_gpu: bool) -> dict[str, Any]:
    """What a sampler reserves of a node, as options of a Ray actor."""
    if has_nodes_for(SAMPLER):
        return {"num_cpus": 0, "num_gpus": int(use_gpu), "resources": {SAMPLER: 1}}
    return {"num_cpus": 0, "num_gpus": SAMPLER_GPU if use_gpu else 0, "scheduling_strategy": "SPREAD"}


def build_diffusion_options(use_gpu: bool, one_core: bool) -> dict[str, Any]:
    """What the training of a diffusion model reserves of a node, as options of a Ray actor: a GPU, or one core or all
    cores of the largest node that may be used."""
    role = {"resources": {SAMPLER: 1}} if has_nodes_for(SAMPLER) else {}
    if use_gpu:
        return {"num_gpus": 1, **role}
    cores = [int(node.get("CPU", 0)) for node in _list_nodes() if not role or node.get(SAMPLER)]
    return {"num_cpus": 1 if one_core else max([1, *cores]), **role}


def _sum_resources() -> dict[str, float]:
    """The resources of all nodes together."""
    import ray  # a dry run does without

    return dict(ray.cluster_resources())


def _list_nodes() -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _build_core(nodes: Iterable[dict[str, float]]) -> Device:
    """A CPU core of these nodes, with the memory that a worker has on the node with the least memory for each core."""
    shares = [int(node["memory"] / node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1 and node.get("memory")]
    return replace(CPU_CORE, memory_bytes=max(0, min(shares) - WORKER_BYTES)) if shares else CPU_CORE
