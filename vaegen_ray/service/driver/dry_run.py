"""``--dry-run``: what a run would do, from the storage as it is; nothing is started or written."""

from dataclasses import replace

from vaegen_ray.bundle.cost import H200, Device, bundle_bytes, check_memory, largest
from vaegen_ray.bundle.packing import pack, remaining, smaller_bundles
from vaegen_ray.bundle.plan import describe
from vaegen_ray.bundle.speed import cpu_core
from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.integrity import SCHEMAS, find_faults
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.cluster import resources
from vaegen_ray.service.config import RunConfig
from vaegen_ray.service.inputs import check_networks
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.sweep.sweep import Sweep


def plan(sweep: Sweep, config: RunConfig) -> str:
    """What a run of the sweep would do, and which damaged files it would find, in several lines."""
    check_networks(sweep)
    storage = Storage.open(config.storage, create=False)
    store = SweepStore(storage, sweep.name)
    todo = {spec.trial_id for spec in sweep.trials}
    faults = [] if config.fresh else find_faults(storage, sweep.name, digests_of=tuple(SCHEMAS))
    if not config.fresh:
        lost = {fault.bundle for fault in faults if fault.committed}
        todo -= store.committed(config.retry_failed, without=lost)
    device, count = planned_devices(config, bundle_bytes(largest(sweep.trials), 1))
    check_memory(sweep.trials, device)
    bundles = remaining(pack(sweep.trials, device, count, config.bundle_size), todo)
    lines = []
    for fault in faults:
        lines.append(f"{storage.where(f'{sweep.name}/{fault.path}')} is damaged or missing: {fault.reason}")
    if note := smaller_bundles(sweep.trials, device, config.bundle_size):
        lines.append(note)
    trained = {model.diffusion_id for model in {s.diffusion for s in sweep.streams} if _is_trained(storage, model)}
    lines.append(describe(sweep, bundles, as_fast_as_here(device), count, trained=trained))
    return "\n".join(lines)


def planned_devices(config: RunConfig, needed: int) -> tuple[Device, int]:
    """What a dry run plans for: GPUs, or the cores of this job.

    Args:
        needed: memory that every worker must have for its bundle.
    """
    return (H200, config.gpus) if config.gpus else resources.find_local_devices(needed)


def as_fast_as_here(device: Device) -> Device:
    """A CPU core with the speed that cores of this machine have now; a GPU as it is. Packing does not use it, so that a
    sweep is packed in the same way whatever else a machine does."""
    return replace(cpu_core(), memory_bytes=device.memory_bytes) if device.kind == "cpu" else device


def _is_trained(storage: Storage, model: DiffusionSpec) -> bool:
    try:
        return DiffusionStore(storage, model.diffusion_id).committed() is not None
    except DataFormatError:
        return False  # a run sets it aside
