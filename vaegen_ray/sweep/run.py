"""The run of one bundle without Ray: train, evaluate at the right epochs, remember the rows, be interrupted anywhere.

    BundleRun.advance()  ->  rows of finished segments, a checkpoint at any time, outcomes at the end

Metrics are handed out in segments: fixed groups of evaluation epochs that depend on the specification alone, so that a
run that starts again from a checkpoint writes the same files with the same rows.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from vaegen_ray.data.images import Split
from vaegen_ray.errors import DataFormatError
from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.stream import StreamSpec
from vaegen_ray.training.checkpoint import pack, unpack
from vaegen_ray.training.sources import StreamOf, Synthetic
from vaegen_ray.training.trainer import Trainer
from vaegen_ray.trial import TrialSpec, bundle_id

SEGMENTS = 4
"""Metrics files of a bundle, at most."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Metric rows of all members for the evaluations from ``first_epoch`` to ``last_epoch``."""

    first_epoch: int
    last_epoch: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the training of one trial ended."""

    spec: TrialSpec
    status: str
    """``completed`` or ``failed``."""
    error: str | None
    failed_epoch: int | None


def segments_of(epochs: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Groups evaluation epochs into at most ``SEGMENTS`` runs of nearly equal length."""
    parts = min(SEGMENTS, len(epochs))
    ends = [len(epochs) * i // parts for i in range(parts + 1)]
    return [epochs[a:b] for a, b in pairwise(ends)]


class BundleRun:
    """Trains and evaluates the members of one bundle.

    Args:
        specs: the members.
        split: training and test images.
        device: where to train.
        checkpoint: the bytes of ``checkpoint()`` of an earlier run of the same bundle, to go on from.
        stream_of: opens the stream of members that train on samples.

    Raises:
        DataFormatError: the checkpoint is damaged, or of another version.
    """

    def __init__(
        self,
        specs: tuple[TrialSpec, ...],
        split: Split,
        *,
        device: torch.device | str = "cpu",
        checkpoint: bytes | None = None,
        stream_of: StreamOf | None = None,
    ) -> None:
        self.specs = list(specs)
        self.spec = specs[0]
        self.bundle_id = bundle_id(specs)
        self._train, self._test = (torch.from_numpy(part.images).to(device) for part in (split.train, split.test))
        self.trainer = Trainer(self.specs, self._train, device=device, stream_of=stream_of)
        self._fresh: dict[StreamSpec, torch.Tensor] = {}
        self.wall_seconds = 0.0
        self._rows: list[dict[str, Any]] = []
        self._evaluated_until = 0
        self._segments_taken = 0
        if checkpoint is not None:
            self._restore(checkpoint)

    def _restore(self, checkpoint: bytes) -> None:
        where = f"checkpoint of bundle {self.bundle_id}"
        tensors, values = unpack(checkpoint, where)
        try:
            self.trainer.load_state(tensors, values["trainer"])
            self._rows = values["rows"]
            self._evaluated_until = values["evaluated_until"]
            self._segments_taken = values["segments_taken"]
            self.wall_seconds = values["wall_seconds"]
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataFormatError(f"{where} was written by another version of vaegen_ray: {reason}") from None

    @property
    def finished(self) -> bool:
        """All steps are done and all evaluations made."""
        return self.trainer.step >= self.spec.steps and not self._due()

    @property
    def fraction(self) -> float:
        """Part of the training that is done, 0 to 1."""
        return self.trainer.step / self.spec.steps

    def advance(self, seconds: float) -> None:
        """Trains and evaluates for about ``seconds``, at least one step."""
        started = time.monotonic()
        pace = max(1, self.spec.steps_until(1) // 4)
        while not self.finished:
            before, at = time.monotonic(), self.trainer.step
            due = self._due()
            goal = self.spec.steps_until(due[0]) if due else self.spec.steps
            if at < goal:
                self.trainer.train(min(goal, at + pace))
                self._synchronise()
            if due and self.trainer.step >= goal:
                self._evaluate(due[0])
            now = time.monotonic()
            if now - started >= seconds:
                break
            if now - before < seconds / 8:
                pace *= 2
        self.wall_seconds += time.monotonic() - started

    def take_segments(self) -> Iterator[Segment]:
        """The segments that are complete and were not handed out before.

        A segment counts as handed out when the next one is asked for: one whose writing failed is handed out again.
        """
        groups = segments_of(self.spec.evaluate_at)
        while self._segments_taken < len(groups):
            epochs = groups[self._segments_taken]
            if epochs[-1] in self._due():
                break
            rows = [row for row in self._rows if row["effective_epoch"] in epochs]
            yield Segment(first_epoch=epochs[0], last_epoch=epochs[-1], rows=rows)
            self._segments_taken += 1

    def outcomes(self) -> list[Outcome]:
        """How each member ended; to be asked when the run is finished."""
        assert self.finished
        ends = []
        for member, spec in enumerate(self.specs):
            reason, epoch = self.trainer.failed.get(member, (None, None))
            status = "completed" if reason is None else "failed"
            ends.append(Outcome(spec=spec, status=status, error=reason, failed_epoch=epoch))
        return ends

    def checkpoint(self) -> bytes:
        """Everything that the rest of the run depends on."""
        tensors, values = self.trainer.state()
        return pack(
            tensors,
            {
                "trainer": values,
                "rows": self._rows,
                "evaluated_until": self._evaluated_until,
                "segments_taken": self._segments_taken,
                "wall_seconds": self.wall_seconds,
                "specs": [spec.as_dict() for spec in self.specs],
            },
        )

    def model(self) -> bytes:
        """The weights of all members, by name with a leading member dimension, and the specifications."""
        return pack(dict(self.trainer.vae.state_dict()), {"specs": [spec.as_dict() for spec in self.specs]})

    def _due(self) -> list[int]:
        """Evaluation epochs that have not been evaluated."""
        return [epoch for epoch in self.spec.evaluate_at if epoch > self._evaluated_until]

    def _evaluate(self, epoch: int) -> None:
        measured = []
        if self.trainer.alive:
            fresh = self._fresh_samples()
            measured = evaluate_elbo(self.trainer.vae, self.specs, self._train, self._test, fresh)
        for member in self.trainer.alive:
            if not all(math.isfinite(value) for value in measured[member].values()):
                self.trainer.freeze(member, "the ELBO is not finite")
        for member in self.trainer.alive:
            keys = {"trial_id": self.specs[member].trial_id, "bundle_id": self.bundle_id}
            self._rows.append({**keys, "effective_epoch": epoch, "step": self.trainer.step, **measured[member]})
        self._evaluated_until = epoch

    def _fresh_samples(self) -> dict[StreamSpec, torch.Tensor]:
        """As many samples as there are test images, of every stream, that no trial trains on."""
        for spec, source in zip(self.specs, self.trainer.sources, strict=True):
            if isinstance(source, Synthetic) and spec.stream is not None and spec.stream not in self._fresh:
                self._fresh[spec.stream] = source.fresh(len(self._test), spec.stream.training_samples)
        return self._fresh

    def _synchronise(self) -> None:
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize(self.trainer.device)
