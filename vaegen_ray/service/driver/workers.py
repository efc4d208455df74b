"""What trains: Ray, its devices, the images and networks that are sent to them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from vaegen_ray import exit
from vaegen_ray.allotment import has_gpus
from vaegen_ray.bundle.cost import Device, bundle_bytes, check_memory, largest
from vaegen_ray.data.images import Split
from vaegen_ray.service import inputs
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.service.driver.session import Session
from vaegen_ray.service.worker import code_shipping
from vaegen_ray.spec.trial import TrialSpec


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What trains: the devices of the cluster, and what is sent to them."""

    device: Device
    count: int
    images: Callable[[], dict[str, Split]]
    """Waits for the images; by ``data_key``."""
    networks: bytes
    """Registered networks, as ``code_shipping.pack`` makes them."""

    def __str__(self) -> str:
        return f"{self.count} {'GPUs' if self.device.kind == 'cuda' else 'CPU cores'}"


@contextmanager
def start_workers(session: Session, trials: Sequence[TrialSpec], members: int = 1) -> Iterator[Workers]:
    """Runs Ray as long as the context lasts, and loads the images meanwhile.

    Args:
        trials: what is trained; the memory of a worker must hold ``members`` of the largest.

    Raises:
        SpecError: the memory is too small, or a device does not support a precision.
        VaegenError: Ray does not start, or a worker cannot import a network.
    """
    address, needed = session.config.address, bundle_bytes(largest(trials), members)
    if address in (None, "local") and not has_gpus():  # on a cluster and with GPUs, Ray knows the devices
        check_memory(trials, resources.find_local_devices(needed)[0], members)
    images = exit.in_background(partial(inputs.load_images, session.sweep, session.config.data_dir))
    if session.needs_download:
        images.result()
    connect.connect(address, needed)
    try:
        networks = code_shipping.pack(session.sweep.networks)
        code_shipping.check_on_cluster(networks, address)
        device, count = resources.find_devices()
        check_memory(trials, device, members)
        resources.check_precision((spec.precision for spec in session.sweep.trials), device)
        yield Workers(device=device, count=count, images=images.result, networks=networks)
    finally:
        connect.disconnect()
