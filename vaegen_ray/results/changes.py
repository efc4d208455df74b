"""What is of your own may change between two starts of a sweep; that is said, and nothing is mixed.

Other images have another digest, and a raised version is another network: both make other trials, which are trained
beside those of before. Figures show the declared ones. An edited network with the version of before is what the user
must decide on, so it is a warning.
"""

from typing import Any

from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.store import SweepStore
from vaegen_ray.sweep.sweep import Sweep


def changes(sweep: Sweep, store: SweepStore) -> list[str]:
    """Lines for the user about what changed since the sweep was started last."""
    try:
        before = store.read_sweep_json()
    except (DataFormatError, StorageError):  # damaged; it is written anew
        return []
    if not isinstance(before, dict):
        return []
    return [*_find_data_changes(sweep, before), *_find_network_changes(sweep, before)]


def _find_data_changes(sweep: Sweep, before: dict[str, Any]) -> list[str]:
    old: dict[str, set[str]] = {}
    for trial in before.get("trials", ()):
        if trial.get("data_digest"):
            old.setdefault(trial["dataset"], set()).add(trial["data_digest"])
    now = {spec.dataset: spec.data_digest for spec in sweep.trials}
    return [
        f"the images of {name} changed since {sweep.name} was started last: its VAEs are trained anew, those on the "
        f"images of before stay in the results with their data_digest"
        for name, digests in old.items()
        if now.get(name) and now[name] not in digests
    ]


def _find_network_changes(sweep: Sweep, before: dict[str, Any]) -> list[str]:
    lines = []
    for network in sweep.networks:
        version, source = before.get("networks", {}).get(network.name, (None, ""))
        if version == network.version and source and network.source and source != network.source:
            lines.append(
                f"the network {network.name} was edited since {sweep.name} was started last, and is still version "
                f"{version}: VAEs that are done keep their numbers (raise its version if yours differ)"
            )
    return lines
