"""The run of one bundle without Ray: train, evaluate at the right epochs, remember the rows, be interrupted anywhere.

    BundleRun.advance()  ->  rows of finished segments, a checkpoint at any time, outcomes at the end

Metrics are handed out in segments: fixed groups of evaluation epochs that depend on the specification alone, so that a
run that starts again from a checkpoint writes the same files with the same rows. Trials that keep images for validation
are to be chosen from, perhaps before their end: their run halts after every evaluation, and each is a segment.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from vaegen_ray.bundle.cost import CPU_CORE, H200
from vaegen_ray.bundle.evaluation_cost import bundle_seconds, done_seconds
from vaegen_ray.data.images import Split
from vaegen_ray.errors import DataFormatError
from vaegen_ray.evaluation.elbo import ON_VALIDATION, evaluate_elbo, rate_and_distortion
from vaegen_ray.evaluation.evaluate import Data, measure
from vaegen_ray.evaluation.result import EvaluationResult
from vaegen_ray.serialization import pack, unpack
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import TrialSpec, bundle_id
from vaegen_ray.training.early_stopping import EarlyStopping
from vaegen_ray.training.sources import OpenStream
from vaegen_ray.training.trainer import Trainer

SEGMENTS = 4
"""Metrics files of a bundle without validation, at most."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Metric rows of all members for the evaluations from ``first_epoch`` to ``last_epoch``."""

    first_epoch: int
    last_epoch: int
    rows: list[dict[str, Any]]
    details: list[dict[str, Any]]
    again: bool = False
    """It was handed out before, by this run or by the one that wrote the checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the training of one trial ended."""

    spec: TrialSpec
    status: str
    """``completed`` or ``failed``."""
    error: str | None
    failed_epoch: int | None


def split_epochs(epochs: tuple[int, ...], *, each: bool = False) -> list[tuple[int, ...]]:
    """Groups evaluation epochs into at most ``SEGMENTS`` runs of nearly equal length, or each by itself."""
    parts = len(epochs) if each else min(SEGMENTS, len(epochs))
    ends = [len(epochs) * i // parts for i in range(parts + 1)]
    return [epochs[a:b] for a, b in pairwise(ends)]


def _of(values: Any, place: dict[str, str]) -> dict[str, Any]:
    """Values by member, of the members that have a new place, under it."""
    return {place[member]: value for member, value in values.items() if member in place}


class BundleRun:
    """Trains and evaluates the members of one bundle.

    Args:
        specs: the members.
        split: training and test images.
        device: where to train.
        checkpoint: the bytes of ``checkpoint()`` of an earlier run of the same bundle, to go on from.
        open_stream: opens the stream of members that train on samples.
        save_every: keep the weights at evaluations whose epoch is a multiple of this; None: at the end alone.

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
        open_stream: OpenStream | None = None,
        save_every: int | None = None,
    ) -> None:
        self.specs = list(specs)
        self.spec = specs[0]
        self.bundle_id = bundle_id(specs)
        real, test = (torch.from_numpy(part.images).to(device) for part in (split.train, split.test))
        self.trainer = Trainer(self.specs, real, device=device, open_stream=open_stream)
        self._data = Data(
            train=real[: self.spec.n_train],
            test=test,
            labels=split.test_labels,
            corrupted=split.corrupted,
        )
        self._early_stopping = EarlyStopping(self.specs, device)
        self._held_out: list[torch.Tensor | None] | None = None
        self.wall_seconds = 0.0
        self.evaluation_seconds = 0.0
        self.evaluating = False
        """An evaluation is under way, or failed: the training is as it was before it."""
        self.notes: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._details: list[dict[str, Any]] = []
        self._evaluated_until = 0
        self._segments_taken = 0
        """Segments that were handed out since the run was made."""
        self._segments_before = 0
        """Segments that were handed out at any time."""
        self.saved_epochs: list[int] = []
        """Evaluations whose weights are kept (``save_every``)."""
        self._seconds: float | None = None
        """Expected seconds of all of it, on the device that costs are known of."""
        self._save_every = save_every
        self._models: dict[int, bytes] = {}
        if checkpoint is not None:
            self._restore(checkpoint)

    def _restore(self, checkpoint: bytes) -> None:
        where = f"checkpoint of bundle {self.bundle_id}"
        tensors, values = unpack(checkpoint, where)
        try:
            self.trainer.load_state(tensors, values["trainer"])
            self._early_stopping.load_state(tensors, values["early_stopping"])
            self._rows, self._details = values["rows"], values["details"]
            self._evaluated_until = values["evaluated_until"]
            self._segments_before = values["segments_taken"]
            self.saved_epochs = values.get("saved_epochs", [])
            self.wall_seconds, self.evaluation_seconds = values["wall_seconds"], values["evaluation_seconds"]
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataFormatError(f"{where} was written by another version of vaegen_ray: {reason}") from None

    @property
    def finished(self) -> bool:
        """All steps are done and all evaluations made."""
        return self.trainer.step >= self.spec.steps and not self._due()

    @property
    def fraction(self) -> float:
        """Part of the work that is done, 0 to 1, evaluations included, by their expected times."""
        bundle = tuple(self.specs)
        device = H200 if self.trainer.device.type == "cuda" else CPU_CORE
        if self._seconds is None:
            self._seconds = bundle_seconds(bundle, device)
        done = done_seconds(bundle, device, self.trainer.step, self._evaluated_until)
        return 1.0 if self.finished else min(done / self._seconds, 1.0)

    def advance(self, seconds: float) -> None:
        """Trains and evaluates for about ``seconds``, at least one step; with validation, to the next evaluation."""
        started = time.monotonic()
        pace = max(1, self.spec.steps_until(1) // 4)
        while not self.finished:
            before, at = time.monotonic(), self.trainer.step
            due, check = self._due()[:1], self._early_stopping.next_check
            stops = [self.spec.steps_until(epoch) for epoch in (*due, *([check] if check else []))]
            goal = min(stops, default=self.spec.steps)
            if at < goal:
                self.trainer.train(min(goal, at + pace))
                self._synchronise()
            if check and self.trainer.step >= self.spec.steps_until(check):
                self._check_validation(check)
            if due and self.trainer.step >= self.spec.steps_until(due[0]):
                self._evaluate(due[0])
                if self.spec.validation:
                    break
            now = time.monotonic()
            if now - started >= seconds:
                break
            if now - before < seconds / 8:
                pace *= 2
        self.wall_seconds += time.monotonic() - started

    def take_segments(self) -> Iterator[Segment]:
        """The segments that are complete and that this run has not handed out; after a checkpoint they come once more,
        in case that a file of theirs was lost meanwhile.

        A segment counts as handed out when the next one is asked for: one whose writing failed is handed out again.
        """
        groups = split_epochs(self.spec.evaluate_at, each=self.spec.validation > 0)
        while self._segments_taken < len(groups):
            epochs = groups[self._segments_taken]
            if epochs[-1] in self._due():
                break
            rows, details = (
                [row for row in kind if row["effective_epoch"] in epochs] for kind in (self._rows, self._details)
            )
            again = self._segments_taken < self._segments_before
            yield Segment(first_epoch=epochs[0], last_epoch=epochs[-1], rows=rows, details=details, again=again)
            self._segments_taken += 1
            self._segments_before = max(self._segments_before, self._segments_taken)

    def hand_out_again(self) -> None:
        """Lets ``take_segments`` begin with the first segment again."""
        self._segments_taken = 0

    def take_models(self) -> Iterator[tuple[int, bytes]]:
        """The weights at evaluations that are to be kept, by epoch; each once. Like segments, they are handed out again
        where writing failed, and are to be written before a checkpoint that is later than they."""
        for epoch in sorted(self._models):
            yield epoch, self._models[epoch]
            del self._models[epoch]

    @property
    def validation(self) -> list[tuple[str, int, float]]:
        """What was measured on images kept for validation (``TrialSpec.validation``): trial, effective epoch, ELBO."""
        if not self.spec.validation:
            return []
        return [(row["trial_id"], row["effective_epoch"], row["elbo_validation"]) for row in self._rows]

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
        return self._packed(range(len(self.specs)), self._segments_before, self.saved_epochs)

    def part(self, members: Sequence[int]) -> bytes:
        """The checkpoint of a bundle of some of the members, as if they had been trained by themselves."""
        return self._packed(members, segments_taken=0, saved_epochs=[])

    def _packed(self, members: Sequence[int], segments_taken: int, saved_epochs: list[int]) -> bytes:
        tensors, values = self.trainer.state()
        best, looks = self._early_stopping.state()
        specs = [self.specs[member] for member in members]
        ids = {spec.trial_id for spec in specs}
        place = {str(member): str(i) for i, member in enumerate(members)}
        rows, details = (
            [{**row, "bundle_id": bundle_id(specs)} for row in kind if row["trial_id"] in ids]
            for kind in (self._rows, self._details)
        )
        chosen = {name: tensor[list(members)] if tensor.dim() else tensor for name, tensor in (tensors | best).items()}
        return pack(
            chosen,
            {
                "trainer": {**values, "failed": _of(values["failed"], place)},
                "early_stopping": {**looks, "looks": _of(looks["looks"], place)},
                "rows": rows,
                "details": details,
                "evaluated_until": self._evaluated_until,
                "segments_taken": segments_taken,
                "saved_epochs": saved_epochs,
                "wall_seconds": self.wall_seconds * len(specs) / len(self.specs),
                "evaluation_seconds": self.evaluation_seconds * len(specs) / len(self.specs),
                "specs": [spec.as_dict() for spec in specs],
            },
        )

    def model(self) -> bytes:
        """The weights of all members, by name with a leading member dimension, and the specifications."""
        with self._early_stopping.best(self.trainer.vae, self.trainer.alive):
            return pack(dict(self.trainer.vae.state_dict()), {"specs": [spec.as_dict() for spec in self.specs]})

    def _due(self) -> list[int]:
        """Evaluation epochs that have not been evaluated."""
        return [epoch for epoch in self.spec.evaluate_at if epoch > self._evaluated_until]

    def _evaluate(self, epoch: int) -> None:
        started = time.monotonic()
        self.evaluating = True
        if self.trainer.alive:
            with self._early_stopping.best(self.trainer.vae, self.trainer.alive):
                elbos, further = self._measured(epoch)
            for member in self.trainer.alive:
                if not all(math.isfinite(value) for value in elbos[member].values()):
                    self.trainer.fail_member(member, "the ELBO is not finite")
            for member in self.trainer.alive:
                self._keep(member, epoch, elbos[member], further[member])
        if self._save_every and epoch % self._save_every == 0 and self.trainer.alive:
            self._models[epoch] = self.model()
            self.saved_epochs = [*self.saved_epochs, epoch]
        self._evaluated_until = epoch
        self._synchronise()
        self.evaluating = False
        self.evaluation_seconds += time.monotonic() - started

    def _measured(self, epoch: int) -> tuple[list[dict[str, float]], list[EvaluationResult]]:
        """The ELBOs of each member, and what else is measured."""
        vae, data = self.trainer.vae, self._data
        elbos = evaluate_elbo(vae, self.specs, data.train, data.test, self._fresh_images())
        if self.spec.validation:
            rate, distortion = self._on_validation()
            for row, elbo in zip(elbos, (-rate - distortion).tolist(), strict=True):
                row["elbo_validation"] = elbo
        return elbos, measure(vae, self.specs, data, epoch, self.trainer.sources, self.notes.append)

    def _keep(self, member: int, epoch: int, elbos: dict[str, float], further: EvaluationResult) -> None:
        keys = {"trial_id": self.specs[member].trial_id, "bundle_id": self.bundle_id, "effective_epoch": epoch}
        early = self._early_stopping.row(member)
        finite = {name: value for name, value in further.row.items() if math.isfinite(value)}
        self._rows.append({**keys, "step": self.trainer.step, **elbos, **early, **finite})
        self._details += [{**keys, **detail._asdict()} for detail in further.details]

    def _check_validation(self, epoch: int) -> None:
        started = time.monotonic()
        self.evaluating = True
        rate, distortion = self._on_validation()
        beta = torch.tensor([spec.beta for spec in self.specs], dtype=rate.dtype, device=rate.device)
        self._early_stopping.check(self.trainer.vae, (-beta * rate - distortion).tolist(), epoch)
        self.evaluating = False
        self.evaluation_seconds += time.monotonic() - started

    def _on_validation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean rate and distortion of every member on the images that are kept for validation: two float64 [M]."""
        kept = max(spec.validation_images for spec in self.specs)
        return rate_and_distortion(self.trainer.vae, self.specs, self._data.train[-kept:], stream=ON_VALIDATION)

    def _fresh_images(self) -> list[torch.Tensor | None]:
        """For each member as many images of the distribution that it is trained on as there are test images; None
        where that is D_train. Members that read a stream as it is share them."""
        if self._held_out is None:
            of_stream: dict[StreamSpec, torch.Tensor | None] = {}
            self._held_out = []
            for spec, source in zip(self.specs, self.trainer.sources, strict=True):
                if spec.stream is None or spec.recipe.images == "mix" or spec.recipe.augmentation:
                    self._held_out.append(source.held_out(len(self._data.test)))
                    continue
                if spec.stream not in of_stream:
                    of_stream[spec.stream] = source.held_out(len(self._data.test))
                self._held_out.append(of_stream[spec.stream])
        return self._held_out

    def _synchronise(self) -> None:
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize(self.trainer.device)
