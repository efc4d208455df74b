"""Networks of your own on their way to the workers: their classes travel with the plan, as Ray ships functions.

    driver: pack(networks) -> bytes -> the object store -> worker: unpack(bytes) -> registered there

What workers run is therefore what the driver has, in local mode, in a job and on a cluster that has never seen the
file. Modules beside the file of a network travel too; installed packages must be installed on every node. Nothing of
this is ever read from the storage, which may be written by others.
"""

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from vaegen_ray.errors import VaegenError
from vaegen_ray.models import own
from vaegen_ray.models.own import OwnNetwork

CHECK_SECONDS = 300.0
"""Longest wait for a worker of the cluster that tries the networks."""


def pack(networks: tuple[OwnNetwork, ...]) -> bytes:
    """The networks as bytes, with the modules that they come from.

    Raises:
        VaegenError: one holds something that cannot leave its process.
    """
    from ray import cloudpickle

    modules = _modules_of(networks)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(networks))
    except Exception as error:  # whatever the objects in a user's module raise
        names = ", ".join(network.name for network in networks)
        raise VaegenError(
            f"{names} must consist of what can be sent to other processes; got: {_line(error)}"
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def unpack(packed: bytes) -> None:
    """Registers networks in a worker.

    Raises:
        VaegenError: a package that they import is not there.
    """
    from ray import cloudpickle

    try:
        own.install(cloudpickle.loads(packed))
    except ImportError as error:
        raise VaegenError(
            f"a worker cannot import what a network of your own needs: {_line(error)}; install it on every node, or "
            f"put the module beside the file of the network"
        ) from error


def check_on_cluster(packed: bytes, address: str | None) -> None:
    """Tries the networks in a worker of a cluster, before anything is trained; on this machine there is no need.

    Raises:
        VaegenError: the worker cannot have them.
    """
    if address in (None, "local"):
        return
    import ray
    from ray.exceptions import GetTimeoutError, RayTaskError

    task = ray.remote(num_cpus=0, max_retries=0)(unpack)
    try:
        ray.get(task.remote(packed), timeout=CHECK_SECONDS)
    except RayTaskError as error:
        raise VaegenError(_line(error.cause)) from None
    except GetTimeoutError:
        pass  # no node is up yet; those that come say it themselves


def _modules_of(networks: Iterable[OwnNetwork]) -> list[ModuleType]:
    """The modules of networks, and those beside their files, as far as they are not installed."""
    kinds = [kind for network in networks for kind in (network.encoder, network.decoder)]
    files = [getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in kinds]
    folders = {Path(file).resolve().parent for file in files if file}
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")}
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name == "__main__" or name.partition(".")[0] == "vaegen_ray":
            continue
        parents = set(Path(file).resolve().parents)
        if parents & folders and not parents & installed and module.__name__ == name:
            found.append(module)
    return found


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
