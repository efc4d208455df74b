"""The files of diffusion models.

    <storage>/diffusion/<id>/
        spec.json               what is trained
        training.safetensors    checkpoint of an unfinished training
        weights.safetensors     averaged weights
        weights.json            the commit mark: digests of the weights and of their file, the losses
        samples.png             a look at the samples
        set-aside/              damaged files, kept for a look, read by nothing

The id names the specification. Weights are committed once and then stay, since shards are named after them.
"""

import hashlib
import json
from typing import Any

from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.parquet import SAFE_NAME
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import safe_name
from vaegen_ray.spec.diffusion import DiffusionSpec

FOLDER = "diffusion"
WEIGHTS, MARK, TRAINING = "weights.safetensors", "weights.json", "training.safetensors"


def models(storage: Storage) -> list[str]:
    """The ids of all diffusion models in a storage, sorted."""
    return [name for name in storage.folders(FOLDER) if SAFE_NAME.fullmatch(name)]


class DiffusionStore:
    """Reads and writes the files of one diffusion model. Methods raise ``StorageError`` where the storage refuses."""

    def __init__(self, storage: Storage, diffusion_id: str) -> None:
        self.storage = storage
        self.diffusion_id = safe_name("the id of a diffusion model", diffusion_id)

    def write_spec(self, spec: DiffusionSpec) -> None:
        """Keeps what is trained."""
        self.storage.write_json(self._path("spec.json"), spec.as_dict())

    def read_spec(self) -> dict[str, Any] | None:
        """What ``write_spec`` kept, or None."""
        return self._read_json("spec.json")

    def commit(self, weights: bytes, digest: str, **facts: Any) -> None:
        """Keeps the averaged weights; the model is trained when this returns.

        Args:
            weights: the file.
            digest: SHA-256 of the tensors in it, whatever file they lie in.
            facts: what else is worth knowing, such as the losses.
        """
        self.storage.write(self._path(WEIGHTS), weights)
        mark = {"digest": digest, "file_sha256": hashlib.sha256(weights).hexdigest(), **facts}
        self.storage.write_json(self._path(MARK), mark)

    def committed(self) -> dict[str, Any] | None:
        """The commit mark: ``digest``, ``file_sha256`` and further facts; None where the model is not trained.

        Raises:
            DataFormatError: it is damaged.
        """
        data = self.storage.read_optional(self._path(MARK))
        if data is None:
            return None
        try:
            mark: dict[str, Any] = json.loads(data)
            return {**mark, "digest": mark["digest"], "file_sha256": mark["file_sha256"]}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataFormatError(f"{self.where(MARK)} is damaged: {error}") from None

    def read_weights(self) -> bytes:
        """The file of the averaged weights.

        Raises:
            StorageError: the model is not trained.
            DataFormatError: the file is not the one that was committed.
        """
        mark, data = self.committed(), self.storage.read_optional(self._path(WEIGHTS))
        if mark is None:
            raise StorageError(f"no trained weights in {self.where()}")
        if data is None or hashlib.sha256(data).hexdigest() != mark["file_sha256"]:
            what = "is missing" if data is None else "is damaged: its SHA-256 is not the one that it was written with"
            raise DataFormatError(f"{self.where(WEIGHTS)} {what}")
        return data

    def write_training(self, data: bytes) -> None:
        """Keeps the state of an unfinished training, in place of the last."""
        self.storage.write(self._path(TRAINING), data)

    def read_training(self) -> bytes | None:
        """The state of an unfinished training, or None."""
        return self.storage.read_optional(self._path(TRAINING))

    def is_started(self) -> bool:
        """Whether there is the state of an unfinished training."""
        return self.storage.exists(self._path(TRAINING))

    def delete_training(self) -> None:
        """Removes the state of the training, if there is one."""
        self.storage.delete(self._path(TRAINING))

    def set_aside(self, name: str, reason: str) -> str:
        """Moves a damaged file out of the way; returns a line for the user.

        Args:
            name: ``TRAINING``, or ``WEIGHTS``, whose commit mark goes with it.
            reason: why.
        """
        for each in (MARK, WEIGHTS) if name == WEIGHTS else (name,):
            if self.storage.exists(self._path(each)):
                self.storage.move(self._path(each), self._path("set-aside", each))
        return f"{self.where(name)} was set aside: {reason}"

    def has_picture(self) -> bool:
        """Whether the picture of samples is there."""
        return self.storage.exists(self._path("samples.png"))

    def write_picture(self, png: bytes) -> str:
        """Keeps the picture of samples; returns its full path."""
        self.storage.write(self._path("samples.png"), png)
        return self.where("samples.png")

    def where(self, name: str = "") -> str:
        """The full path or URI of a file or of the folder, for messages."""
        return self.storage.where(self._path(name) if name else f"{FOLDER}/{self.diffusion_id}")

    def _path(self, *parts: str) -> str:
        return "/".join([FOLDER, self.diffusion_id, *parts])

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self._path(name)
        return self.storage.read_json(path) if self.storage.exists(path) else None
