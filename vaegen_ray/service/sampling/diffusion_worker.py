"""A worker that trains a diffusion model: resumes from its checkpoint, trains, commits the weights. No Ray here.

start -> [restore] -> advance -> checkpoint when due -> ... -> weights, commit mark, preview
"""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker, load_weights
from vaegen_ray.diffusion.training import DiffusionTrainer
from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.diffusions import TRAINING, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.serialization import digest, pack, unpack
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec

PREVIEW_SAMPLES = 100


class DiffusionWorker:
    """Trains one diffusion model to its end.

    Args:
        storage: where checkpoints and weights go.
        spec: the model.
        images: the training set, uint8 [N, C, H, W].
        device: where to train.
        checkpoint_seconds: time between two checkpoints.
    """

    def __init__(
        self,
        storage: Storage,
        spec: DiffusionSpec,
        images: np.ndarray,
        *,
        device: torch.device | str,
        checkpoint_seconds: float = 10.0,
    ) -> None:
        if spec.network == "mlp":
            torch.set_num_threads(1)  # more do not pay, and sums then do not depend on the machine
        self._store = DiffusionStore(storage, spec.diffusion_id)
        self._spec = spec
        self._checkpoint_seconds = checkpoint_seconds
        self._last_checkpoint = time.monotonic()
        self._device = torch.device(device)
        self._trainer = DiffusionTrainer(spec, torch.from_numpy(np.array(images)).to(device), device=device)
        self._notes: list[str] = []
        self._mark = self._store.committed()
        if self._mark is None:
            self._restore()

    def _restore(self) -> None:
        data = self._store.read_training()
        if data is None:
            self._store.write_spec(self._spec)
            return
        try:
            self._trainer.load_state(*unpack(data, self._store.where(TRAINING)))
        except (DataFormatError, KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            self._notes.append(f"{self._store.set_aside(TRAINING, reason)}; the training starts anew")

    def advance(self, seconds: float) -> dict[str, Any]:
        """Trains for about ``seconds``, and commits the weights at the end.

        Returns:
            ``state()``; ``finished``; ``notes``, lines for the user; ``preview``, the first samples of a finished model
            that has no picture yet, uint8 [100, C, H, W], otherwise None.
        """
        if self._mark is None:
            self._trainer.advance(seconds)
            if self._trainer.finished:
                commit(self._store, self._spec, self._trainer.averaged(), losses=self._trainer.losses)
                self._mark = self._store.committed()
            elif time.monotonic() - self._last_checkpoint >= self._checkpoint_seconds:
                self.save_checkpoint()
        preview = self._finish() if self._mark is not None else None
        notes, self._notes = self._notes, []
        return {**self.state(), "finished": self._mark is not None, "notes": notes, "preview": preview}

    def state(self) -> dict[str, Any]:
        """The progress of the training, at any time and from any thread, also while ``advance`` runs.

        Returns:
            ``fraction`` 0 to 1, in optimiser steps; ``loss``, the last mean or None.
        """
        mark = self._mark
        losses = self._trainer.losses if mark is None else mark["losses"]
        return {
            "fraction": self._trainer.fraction if mark is None else 1.0,
            "loss": losses[-1][1] if losses else None,
        }

    def _finish(self) -> np.ndarray | None:
        """What follows the commit, also where an earlier worker died right after it."""
        preview = None
        if not self._store.has_picture():
            preview = make_preview(self._spec, read_weights(self._store), self._device)
        self._store.delete_training()
        return preview

    def save_checkpoint(self) -> None:
        """Writes the state of the training."""
        self._store.write_training(pack(*self._trainer.state()))
        self._last_checkpoint = time.monotonic()


def commit(store: DiffusionStore, spec: DiffusionSpec, weights: dict[str, Tensor], **facts: Any) -> str:
    """Commits weights as those of a model; returns their digest."""
    name = digest(weights)
    store.write_spec(spec)
    store.commit(pack(weights, {"diffusion": spec.as_dict()}), name, **facts)
    return name


def read_weights(store: DiffusionStore) -> dict[str, Tensor]:
    """The committed weights of a model.

    Raises:
        StorageError, DataFormatError: the model is not trained, or its weights are damaged.
    """
    return unpack(store.read_weights(), store.where())[0]


def import_weights(spec: DiffusionSpec, data: bytes, where: str) -> dict[str, Tensor]:
    """Weights for the network of ``spec`` from the bytes of a safetensors file; never from a pickle.

    Args:
        spec: the model.
        data: the bytes.
        where: name of the file, for messages.

    Raises:
        DataFormatError: it is no safetensors file, or holds the weights of another network.
    """
    import safetensors.torch

    try:
        tensors = {name: tensor.float() for name, tensor in safetensors.torch.load(data).items()}
    except (safetensors.SafetensorError, ValueError) as error:
        raise DataFormatError(f"{where} is not a safetensors file: {error}") from None
    load_weights(build_denoiser(spec), tensors, where)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DataFormatError(f"{where} holds weights that are not finite: {name}")
    return tensors


def make_preview(spec: DiffusionSpec, weights: dict[str, Tensor], device: torch.device | str) -> np.ndarray:
    """The first samples of a model, made with the default sampler: uint8 [100, C, H, W]."""
    return ShardMaker(StreamSpec(diffusion=spec), weights, device=device, graph=False).images(range(PREVIEW_SAMPLES))
