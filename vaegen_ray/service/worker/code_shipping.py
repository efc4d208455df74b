"""Networks of your own on their way to the workers: their classes travel with the plan, as Ray ships functions.

    driver: pack(networks) -> bytes -> the object store -> worker: unpack(bytes) -> registered there

What workers run is therefore what the driver has, in local mode, in a job and on a cluster that has never seen the
file. Modules beside the files of a network and of its bases travel too, and so does the package that it is in;
installed packages must be installed on every node. Nothing of this is ever read from the storage, which may be written
by others.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from vaegen_ray.errors import VaegenError, in_one_line
from vaegen_ray.models import registry
from vaegen_ray.models.registry import CustomNetwork
from vaegen_ray.service.cluster.connect import describe_error

CHECK_SECONDS = 300.0
"""Longest wait for a worker of the cluster that tries the networks."""


def pack(networks: tuple[CustomNetwork, ...]) -> bytes:
    """The networks as bytes, with the modules that they come from; no bytes where there are none.

    Raises:
        VaegenError: one holds something that cannot leave its process.
    """
    from ray import cloudpickle

    if not networks:
        return b""
    modules = _find_modules(networks)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(networks))
    except Exception as error:  # whatever the objects in a user's module raise
        names = ", ".join(network.name for network in networks)
        raise VaegenError(
            f"{names} must consist of what can be sent to other processes; got: {in_one_line(error)}"
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def unpack(packed: bytes) -> None:
    """Registers networks in a worker.

    Raises:
        VaegenError: a package that they import is not there, or another version of it.
    """
    from ray import cloudpickle

    if not packed:
        return
    try:
        networks = cloudpickle.loads(packed)
    except Exception as error:  # an ImportError, or whatever another version of a package raises
        raise VaegenError(
            f"a worker cannot import what a network of your own needs: {in_one_line(error)}; install it on every node, "
            f"in the version that is here, or put the module beside the file of the network"
        ) from error
    registry.install(networks)


def check_on_cluster(packed: bytes, address: str | None) -> None:
    """Tries networks in a worker of a cluster, before anything is trained; on this machine there is no need.

    Raises:
        VaegenError: the worker cannot have them.
    """
    if not packed or address in (None, "local"):
        return
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    task = ray.remote(num_cpus=0, max_retries=0)(unpack)
    try:
        ray.get(task.remote(packed), timeout=CHECK_SECONDS)
    except GetTimeoutError:
        pass  # no node is up yet; those that come say it themselves
    except RayError as error:
        raise VaegenError(describe_error(error)) from None


def _find_modules(networks: Iterable[CustomNetwork]) -> list[ModuleType]:
    """The modules of networks and of their bases, and those beside their files, as far as they are not installed."""
    kinds = [kind for network in networks for part in (network.encoder, network.decoder) for kind in part.__mro__]
    names = {kind.__module__ for kind in kinds if registry.is_yours(kind.__module__)}
    files = [_find_file(sys.modules.get(name)) for each in names for name in (each, each.partition(".")[0])]
    folders = {file.parent for file in files if file}
    found = []
    for name, module in list(sys.modules.items()):
        file = None if name == "__main__" or not registry.is_yours(name) else _find_file(module)
        if file and folders & set(file.parents) and module.__name__ == name:
            found.append(module)
    return found


def _find_file(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None
