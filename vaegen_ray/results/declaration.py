"""What ``sweep.json`` says: which trials a sweep declares. Written at every start of a driver, under a SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vaegen_ray.errors import DataFormatError, mask_secrets
from vaegen_ray.spec.trial import TrialSpec

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


def declared_ids(value: Any, where: str) -> list[str]:
    """The ids of the trials that a ``sweep.json`` declares, as they were when it was written: under other numerics the
    same specifications have other ids, and the rows beside it have these.

    Raises:
        DataFormatError: ``value`` is not what we write; ``where`` names the file.
    """
    try:
        trials, ids = value["trials"], value.get("trial_ids")
        if ids is None:  # written before there were any
            return [TrialSpec.from_dict(each).trial_id for each in trials]
        if len(ids) != len(trials) or not all(isinstance(trial, str) for trial in ids):
            raise TypeError("its trial_ids are no list of a word for each of its trials")
        return list(ids)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DataFormatError(f"{where} does not say which trials a sweep declares: {error}") from None
