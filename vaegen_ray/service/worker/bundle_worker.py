"""What a worker does with a bundle: go on from its checkpoint, train, write rows, commit. No Ray in this file.

    start(bundle) -> [restore] -> advance -> segments to metrics/ -> checkpoint when due -> ... -> commit

Everything is written under names that follow from the bundle, so doing it twice changes nothing. The order at the end:
details, metrics, weights, the trials' rows (the commit mark), then the checkpoint is deleted. Out of memory halves the
bundle; where an evaluation ran out of it, the halves go on from where the training was. A bundle whose workers were
killed again and again is halved too, from its checkpoint, and so is what waits beside it (``attempts``).
"""

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import torch

from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.bundle.run import BundleRun, Outcome
from vaegen_ray.data.images import Split
from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.models.layout import params_total, params_z
from vaegen_ray.results.manifest import vanished
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.worker.attempts import Starts
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import TrialSpec, bundle_id
from vaegen_ray.training.sources import Samples

STARTS = 2
"""A bundle that was started so often and came to no checkpoint is halved at its next start."""


class Reader(Samples, Protocol):
    """Samples that are fetched from elsewhere (``service.sampling.reader``)."""

    digest: str
    waited_seconds: float
    notes: list[str]

    def close(self) -> None:
        """Ends the reader."""


class Worker:
    """Works through bundles, one at a time.

    Args:
        store: where the sweep's results go.
        find_split: gives the images that a trial needs.
        device: where to train.
        code_version: recorded in every row.
        checkpoint_seconds: time between two checkpoints of a bundle.
        open_reader: opens a stream for a bundle, to be read up to a number of samples.
        save_every: keep weights at evaluations whose effective epoch is a multiple of this, beside those of the end.
        run: names the run of the driver, within which starts of a bundle are counted.
    """

    def __init__(
        self,
        store: SweepStore,
        find_split: Callable[[TrialSpec], Split],
        *,
        device: torch.device,
        code_version: str,
        checkpoint_seconds: float = 10.0,
        open_reader: Callable[[StreamSpec, int], Reader] | None = None,
        save_every: int | None = None,
        run: str = "",
    ) -> None:
        self._store = store
        self._starts = Starts(store, run)
        self._find_split = find_split
        self._device = device
        self._code_version = code_version
        self._checkpoint_seconds = checkpoint_seconds
        self._open_reader = open_reader
        self._save_every = save_every
        self._readers: dict[StreamSpec, Reader] = {}
        self._waiting: list[Bundle] = []
        self._run: BundleRun | None = None
        self._members = 1
        self._finished_members = 0
        self._resumed = 0.0
        """Members that were done when they were taken on, those under way counted in part."""
        self._validation: list[tuple[str, int, float]] = []
        self.notes: list[str] = []

    def start(self, bundle: Bundle) -> None:
        """Takes on a bundle; what an earlier one left is dropped (its checkpoint stays in the storage)."""
        self._waiting = [bundle]
        self._drop_run()
        self._members, self._finished_members, self._resumed = len(bundle), 0, 0.0
        self._validation = []
        self.notes = []

    def advance(self, seconds: float) -> None:
        """Trains for about ``seconds``; writes what is complete; commits the bundle when it is finished."""
        if self._run is None:
            self._choose()
            if self.finished:
                return
        bundle = self._waiting[0]
        try:
            out_of_memory = self._train(bundle, seconds)
        except Exception:
            with suppress(StorageError):
                self._starts.reset(bundle)
            raise
        if out_of_memory:  # outside of the handler, which would keep the bundle's memory alive
            self._run_out_of_memory(bundle, out_of_memory)

    def _choose(self) -> None:
        """Makes the first of what waits one that is to be started: leaves out what earlier workers have committed,
        takes the halves of what they halved, and halves what killed them."""
        while self._waiting:
            bundle = self._waiting[0]
            starts, halved = self._starts.read(bundle)
            if (starts or len(bundle) < self._members) and self._is_committed(bundle):
                self._finish(bundle)
                self._resumed += len(bundle)
            elif halved:
                self._take_halves(bundle)
            elif starts >= STARTS and len(bundle) > 1:
                self.notes.append(f"{starts} workers with {len(bundle)} members were lost, which are halved now")
                for other in [other for other in self._waiting if len(other) >= len(bundle)]:
                    self._halve(other, self._states_of_checkpoint(other))
            else:
                self._starts.count(bundle, starts + 1)
                return

    def _is_committed(self, bundle: Bundle) -> bool:
        return {spec.trial_id for spec in bundle} <= self._store.committed()

    def _train(self, bundle: Bundle, seconds: float) -> str:
        """Trains; the reason when memory has run out, or nothing."""
        begins = self._run is None
        try:
            if self._run is None:
                self._run = self._begin(bundle)
            if not (begins and self._run.validation):  # what a checkpoint holds is told first: a search may stop there
                self._run.advance(seconds)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return (str(error) or type(error).__name__).splitlines()[0]
        self._after_training(self._run)
        return ""

    def _after_training(self, run: BundleRun) -> None:
        for reader in self._readers.values():
            told, reader.notes = reader.notes, []
            self.notes += told
        told, run.notes = run.notes, []
        self.notes += told
        self._write_segments(run)
        for epoch, model in run.take_models():
            self._store.write_model(run.bundle_id, model, epoch)
        if run.finished:
            outcomes = run.outcomes()
            if any(outcome.status == "completed" for outcome in outcomes):
                self._store.write_model(run.bundle_id, run.model())
            if vanished(self._store.storage, self._store.name, self._store.written(run.bundle_id)):
                run.hand_out_again()
                self._write_segments(run)
            self._commit(outcomes, run.wall_seconds, run.evaluation_seconds)
        elif time.monotonic() - self._last_checkpoint >= self._checkpoint_seconds:
            self.save_checkpoint()

    def _write_segments(self, run: BundleRun) -> None:
        """Writes the metrics and details that are complete, and again those of before that are not there any more."""
        lost = 0
        for segment in run.take_segments():
            about = (run.bundle_id, segment.first_epoch, segment.last_epoch)
            written = self._store.write_metrics(*about, segment.rows, again=segment.again)
            if segment.details:
                written |= self._store.write_details(*about, segment.details, again=segment.again)
            lost += segment.again and written
        if lost:
            self.notes.append(
                f"metrics of bundle {run.bundle_id} were not there or damaged and are written again ({lost} files)"
            )

    @property
    def finished(self) -> bool:
        """Everything that was taken on is committed."""
        return not self._waiting

    @property
    def progress(self) -> dict[str, Any]:
        """Finished members; the part of the bundle that is done, 0 to 1, and what of it was done when it was taken on;
        whether it runs undivided; what was measured on images for validation (``BundleRun.validation``)."""
        running = 0.0 if self._run is None else self._run.fraction * len(self._run.specs)
        return {
            "finished_members": self._finished_members,
            "fraction": (self._finished_members + running) / self._members,
            "resumed": self._resumed / self._members,
            "whole": self._run is not None and len(self._run.specs) == self._members,
            "validation": self._validation + (self._run.validation if self._run is not None else []),
        }

    def save_checkpoint(self) -> None:
        """Writes the state of the running bundle, if one is running and has begun."""
        if self._run is not None and self._run.trainer.step > 0:
            self._store.write_checkpoint(self._run.bundle_id, self._run.checkpoint())
            self._starts.reset(self._waiting[0])
        self._last_checkpoint = time.monotonic()

    def close(self) -> None:
        """Saves what runs, and ends the readers. What a search has stopped is committed, and needs no checkpoint."""
        if self._run is not None and not (self._run.spec.validation and self._is_committed(self._waiting[0])):
            self.save_checkpoint()
        self._drop_run()

    def _begin(self, bundle: Bundle) -> BundleRun:
        name = bundle_id(bundle)
        split = self._find_split(bundle[0])
        data = self._store.read_checkpoint(name)
        self._last_checkpoint = time.monotonic()
        run = partial(BundleRun, bundle, split, device=self._device, open_stream=partial(self._open, bundle))
        run = partial(run, save_every=self._save_every)
        if data is None:
            self._store.write_checkpoint_members(name, [spec.trial_id for spec in bundle])
            return run()
        try:
            resumed = run(checkpoint=data)
        except DataFormatError as error:
            self._store.set_aside_checkpoint(name, str(error))
            self.notes.append(f"{error}; set aside, the bundle starts anew")
            return run()
        if not self._store.has_models(name, resumed.saved_epochs):
            self.notes.append(f"weights of bundle {name} that were kept are missing; the bundle starts anew")
            return run()
        self._resumed += resumed.fraction * len(bundle)
        return resumed

    def _open(self, bundle: Bundle, stream: StreamSpec) -> Samples:
        """The members of a bundle read a stream together."""
        assert self._open_reader is not None, "a bundle that trains on samples needs a reader"
        if stream not in self._readers:
            samples = max(spec.samples for spec in bundle if spec.stream == stream)
            self._readers[stream] = self._open_reader(stream, samples)
        return self._readers[stream]

    def _drop_run(self) -> None:
        self._run = None
        for reader in self._readers.values():
            reader.close()
        self._readers = {}

    def _run_out_of_memory(self, bundle: Bundle, reason: str) -> None:
        """Trains the two halves one after another; a single trial that does not fit has failed."""
        run = self._run
        at_evaluation = run is not None and run.evaluating and len(bundle) > 1
        states = [run.part(members) for members in _halves(len(bundle))] if run is not None and at_evaluation else []
        del run
        self._drop_run()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if len(bundle) == 1:
            error = f"out of memory on {self._device} even alone: {reason}"
            self._commit([Outcome(spec=bundle[0], status="failed", error=error, failed_epoch=0)], 0.0, 0.0)
            return
        self._halve(bundle, states)
        self.notes.append(f"out of memory with {len(bundle)} members, halved: {reason}")

    def _halve(self, bundle: Bundle, states: list[bytes]) -> None:
        """Puts the halves of a bundle in its place, with their checkpoints if there are ``states``."""
        for members, state in zip(_halves(len(bundle)), states, strict=False):
            part = [bundle[member] for member in members]
            self._store.write_checkpoint_members(bundle_id(part), [spec.trial_id for spec in part])
            self._store.write_checkpoint(bundle_id(part), state)
        self._starts.halve(bundle)
        self._take_halves(bundle)

    def _take_halves(self, bundle: Bundle) -> None:
        """The halves have files of their own; those of the whole go, the list of its members last (``prune``)."""
        self._store.delete_metrics(bundle_id(bundle))
        self._store.delete_checkpoint(bundle_id(bundle))
        at = self._waiting.index(bundle)
        halves = [tuple(bundle[member] for member in members) for members in _halves(len(bundle))]
        self._waiting[at : at + 1] = halves

    def _states_of_checkpoint(self, bundle: Bundle) -> list[bytes]:
        """The checkpoints of the halves of a bundle that has one."""
        if self._store.read_checkpoint(bundle_id(bundle)) is None:
            return []
        run = self._begin(bundle)
        states = [run.part(members) for members in _halves(len(bundle))]
        del run
        self._drop_run()
        return states

    def _commit(self, outcomes: list[Outcome], wall_seconds: float, evaluation_seconds: float) -> None:
        name = bundle_id([outcome.spec for outcome in outcomes])
        waited = sum(reader.waited_seconds for reader in self._readers.values())
        digests = {stream: reader.digest for stream, reader in self._readers.items()}
        rows = [
            trial_row(
                outcome.spec,
                sweep=self._store.name,
                bundle_id=name,
                status=outcome.status,
                error=outcome.error,
                failed_epoch=outcome.failed_epoch,
                params_z=params_z(outcome.spec),
                params_rest=params_total(outcome.spec) - params_z(outcome.spec),
                wall_seconds=wall_seconds / len(outcomes),
                device=_device_name(self._device),
                node=platform.node(),
                code_version=self._code_version,
                bundle_members=len(outcomes),
                samples_digest=digests.get(outcome.spec.stream) if outcome.spec.stream else None,
                samples_wait_seconds=waited / len(outcomes) if digests else None,
                evaluation_seconds=evaluation_seconds / len(outcomes),
            )
            for outcome in outcomes
        ]
        saved = self._run.saved_epochs if self._run is not None else []
        files = self._store.model_facts(name, saved) | self._store.written(name)
        self._store.commit_trials(name, rows, files)
        self._validation += self._run.validation if self._run is not None else []
        self._finish(self._waiting[0])
        self._drop_run()

    def _finish(self, bundle: Bundle) -> None:
        """A bundle is committed: what was kept for its workers goes."""
        self._store.delete_checkpoint(bundle_id(bundle))
        self._starts.forget(bundle)
        self._finished_members += len(bundle)
        self._waiting.remove(bundle)


def _halves(members: int) -> tuple[range, range]:
    return range(members // 2), range(members // 2, members)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
