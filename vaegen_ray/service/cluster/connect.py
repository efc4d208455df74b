"""Starts Ray on this machine, or joins a running cluster; names and errors that all actors share.

A local Ray is closed to other users (``authentication``), and reports nothing to the outside.
"""

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaegen_ray import exit
from vaegen_ray.allotment import allotted, has_gpus
from vaegen_ray.errors import VaegenError
from vaegen_ray.paths import NO_HOME, expanded
from vaegen_ray.service.cluster import authentication, local_ray, watch

logger = logging.getLogger(__name__)

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
glibc keeps freed tensors instead of returning them to the system at every step, which halves the time of a
convolutional step on a CPU (benchmarks/bundle_step.py)."""

NAMESPACE = "vaegen_ray"
"""Of named actors, which several drivers of one cluster share."""

CONNECT_SECONDS = 10.0
"""How long to wait for the head of a cluster to accept a connection."""
JOIN_SECONDS = 120.0
"""How long to wait until Ray has joined a cluster whose head answers."""

_connection = ExitStack()
"""What ``disconnect`` closes."""


def connect(address: str | None, bundle_bytes: int = 0) -> None:
    """Joins the cluster at ``address``, or starts Ray on this machine when it is None, as large as the job.

    Args:
        address: of the head of a cluster.
        bundle_bytes: memory that every worker must have for its bundle; where the job has less, Ray starts with fewer
            cores.

    Raises:
        VaegenError: no cluster answers there, or it refuses this process.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if expanded("~") == Path(NO_HOME):  # Ray needs one
        os.environ["HOME"] = str(authentication.find_private_folder())
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address in (None, "local"):
        _warn(authentication.close_to_others())
        job = allotted()
        cores = job.slots if has_gpus() else job.workers(bundle_bytes)
        _connection.push(local_ray.start(job.for_workers, num_cpus=cores, object_store_memory=job.store_bytes, **quiet))
        return
    head = authentication.find_head(address)
    if head != address:
        logger.info(f"--address {address} is the Ray cluster at {head}")
    _check_port(head)
    _warn(authentication.check_cluster(head, address))
    try:
        with _exit_after(JOIN_SECONDS, head), exit.held_back():
            ray.init(address=head, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())  # two versions that differ stand in several lines
        raise VaegenError(f"no Ray cluster answers at --address {head!r}: {reason}") from None
    _connection.callback(watch.watch_joined())


def disconnect() -> None:
    """Leaves the cluster, or ends the Ray that ``connect`` started."""
    import ray

    _connection.close()
    ray.shutdown()


def build_actor_name(kind: str, storage: "Storage", name: str) -> str:
    """The name of an actor that works on files of a storage; drivers with the same storage share it."""
    digest = hashlib.blake2b(storage.where().encode(), digest_size=4).hexdigest()
    return f"{kind}-{name}-{digest}"


def describe_error(error: BaseException) -> str:
    """An error in one line: what a worker raised, or what Ray says of the loss of one."""
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _check_port(address: str) -> None:
    """Ray itself tries for ten minutes and more to reach a host where nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except ValueError:
        raise VaegenError(f"no Ray cluster answers at --address {address!r}: its port must be a number") from None
    except (OSError, OverflowError) as error:
        raise VaegenError(f"no Ray cluster answers at --address {address!r}: {error}") from None


@contextmanager
def _exit_after(seconds: float, head: str) -> Iterator[None]:
    """Ends this process when Ray does not return from joining a cluster; it cannot be interrupted, and nothing has
    been started."""

    def leave() -> None:
        exit.say(f"error: the Ray cluster at {head} did not let this process join within {seconds:.0f} s")
        exit.leave(exit.Exit.WRONG)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _warn(warning: str | None) -> None:
    if warning:
        logger.warning(warning)
