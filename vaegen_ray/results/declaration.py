"""The declaration of a sweep (``sweep.json``): one encoder, one tolerant decoder.

A driver writes it at every start, with a SHA-256.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vaegen_ray.errors import DataFormatError, mask_secrets
from vaegen_ray.results.heartbeat import read_number, read_object, read_text
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import Sweep

DIGEST = "sha256"
"""Key of the digest in the file itself."""


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its digest, and with the secrets of URIs masked, as it is written."""
    plain = json.loads(mask_secrets(json.dumps(value, allow_nan=False)))
    return {**plain, DIGEST: _digest(plain)}


def unsealed(value: Any, where: str) -> Any:
    """The object that ``sealed`` was given. What has no digest, from an earlier version, is returned as it is.

    Args:
        where: the file, for messages.

    Raises:
        DataFormatError: the digest is another one.
    """
    if not isinstance(value, dict) or DIGEST not in value:
        return value
    rest = {name: part for name, part in value.items() if name != DIGEST}
    if value[DIGEST] != _digest(rest):
        raise DataFormatError(f"{where} is damaged: its SHA-256 is not the one that it was written with")
    return rest


def _digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of an object of JSON, whatever the order and the layout of its text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What ``sweep.json`` records: the declared trials, and facts about the last start of the driver."""

    sweep: str = ""
    trials: tuple[dict[str, Any], ...] = ()
    """The specifications as JSON objects."""
    trial_ids: tuple[str, ...] = ()
    """Their ids when they were written: under other numerics the same specifications have other ids, and the rows have
    these."""
    planned: int = 0
    """Trials of the whole budget of a search; 0 for a sweep."""
    figures: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    code_version: str | None = None
    networks: dict[str, Any] = field(default_factory=dict)
    """Version and source digest of the registered networks, by name."""
    versions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    """Why the trials cannot be read, or nothing."""

    def with_trials(self, trials: Iterable[TrialSpec], *, planned: int = 0) -> "Declaration":
        """The same declaration of other trials."""
        specs = tuple(trials)
        return replace(
            self,
            trials=tuple(spec.as_dict() for spec in specs),
            trial_ids=tuple(spec.trial_id for spec in specs),
            planned=planned,
        )

    def check(self) -> "Declaration":
        """This declaration, with readable trials.

        Raises:
            DataFormatError: ``fault``.
        """
        if self.fault:
            raise DataFormatError(self.fault)
        return self

    def encode(self) -> dict[str, Any]:
        """The object of ``sweep.json``."""
        value = {name: part for name, part in asdict(self).items() if name != "fault"}
        return value if self.planned else {name: part for name, part in value.items() if name != "planned"}

    @classmethod
    def decode(cls, value: Any, where: str) -> "Declaration":
        """The declaration in what ``sweep.json`` holds. Damaged facts are left out, damaged trials become a ``fault``.

        Args:
            where: the file, for messages.

        Raises:
            DataFormatError: it holds no object.
        """
        if not isinstance(value, dict):
            raise DataFormatError(f"{where} must hold an object; got {type(value).__name__}")
        trials, ids, fault = _decode_trials(value, where)
        names = value.get("figures")
        objects = ("options", "networks", "versions", "machine", "devices")
        return cls(
            sweep=read_text(value, "sweep") or "",
            trials=trials,
            trial_ids=ids,
            planned=int(read_number(value, "planned") or 0),
            figures=tuple(str(name) for name in names) if isinstance(names, list) else (),
            code_version=read_text(value, "code_version"),
            fault=fault,
            **{name: read_object(value, name) for name in objects},
        )


def _decode_trials(value: dict[str, Any], where: str) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...], str]:
    try:
        trials, ids = value["trials"], value.get("trial_ids")
        if ids is None:  # written by an earlier version
            ids = [TrialSpec.from_dict(each).trial_id for each in trials]
        if len(ids) != len(trials) or not all(isinstance(trial, str) for trial in ids):
            raise TypeError("its trial_ids are not a list of a word for each of its trials")
        if not all(isinstance(trial, dict) for trial in trials):
            raise TypeError("its trials are not a list of objects")
        return tuple(trials), tuple(ids), ""
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        return (), (), f"{where} does not say which trials a sweep declares: {error}"


def find_changes(before: Declaration, sweep: Sweep) -> list[str]:
    """Messages about images and networks that changed since a sweep was started last.

    Other images have another digest, and a raised version is another network: both make other trials, which are trained
    beside the earlier ones. Only a network that was edited without a new version keeps its trials.
    """
    return [*_find_data_changes(before, sweep), *_find_network_changes(before, sweep)]


def _find_data_changes(before: Declaration, sweep: Sweep) -> list[str]:
    old: dict[str, set[str]] = {}
    for trial in before.trials:
        if trial.get("data_digest"):
            old.setdefault(trial["dataset"], set()).add(trial["data_digest"])
    now = {spec.dataset: spec.data_digest for spec in sweep.trials}
    return [
        f"the images of {name} changed since {sweep.name} was started last: its VAEs are trained anew, those on the "
        f"images of before stay in the results with their data_digest"
        for name, digests in old.items()
        if now.get(name) and now[name] not in digests
    ]


def _find_network_changes(before: Declaration, sweep: Sweep) -> list[str]:
    lines = []
    for network in sweep.networks:
        version, source = before.networks.get(network.name, (None, ""))
        if version == network.version and source and network.source and source != network.source:
            lines.append(
                f"the network {network.name} was edited since {sweep.name} was started last, and is still version "
                f"{version}: VAEs that are done keep their numbers (raise its version if yours differ)"
            )
    return lines
