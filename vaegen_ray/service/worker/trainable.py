"""A bundle as Ray Tune sees it: a thin shell around ``Worker``.

A Tune trial is one bundle, named by its number in the plan, or made of the specifications that a search asks for;
actors are reused from bundle to bundle. The plan and the images come through the object store once. Tune's results
carry the progress, and of a search the ELBOs that it chooses by: rows go to the storage.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from ray import tune

from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.data.images import Split
from vaegen_ray.errors import StorageError
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.sampling.actors import Connection
from vaegen_ray.service.sampling.reader import SampleReader
from vaegen_ray.service.worker import code_shipping
from vaegen_ray.service.worker.bundle_worker import Worker
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import data_key


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the driver tells every worker."""

    storage: Storage
    sweep: str
    bundles: list[Bundle]
    code_version: str
    checkpoint_seconds: float
    save_every: int | None
    use_gpu: bool
    run: str
    """Names this run of the driver."""
    streams: dict[StreamSpec, Connection]
    """The pools of the streams that trials read."""
    networks: bytes
    """The networks of your own that trials name (``service.worker.code_shipping``)."""


def find_bundle(config: dict[str, Any], bundles: list[Bundle]) -> Bundle:
    """The bundle that a configuration of Tune means: one of a plan's, or that of a search, which it holds itself."""
    specs = config.get("specs")
    return tuple(TrialSpec.from_dict(spec) for spec in specs) if specs else bundles[config["bundle"]]


class BundleTrainable(tune.Trainable):
    """Trains one bundle to its end, with a report to the driver now and then."""

    report_seconds = 1.0
    """Training time between two reports."""

    def setup(self, config: dict[str, Any], plan: Plan, images: dict[str, Split]) -> None:  # type: ignore[override]
        torch.set_num_threads(1)
        code_shipping.unpack(plan.networks)
        self._plan = plan
        self._images = images
        self._worker = Worker(
            SweepStore(plan.storage, plan.sweep),
            self._find_split,
            device=torch.device("cuda" if plan.use_gpu else "cpu"),
            code_version=plan.code_version,
            checkpoint_seconds=plan.checkpoint_seconds,
            save_every=plan.save_every,
            run=plan.run,
            open_reader=self._open_reader,
        )
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains on. ``refused`` of the result says why the storage refuses for good, which ends the run; any other
        error is raised, and Tune starts the bundle again."""
        refused = ""
        try:
            self._worker.advance(self.report_seconds)
        except StorageError as error:
            if not error.final:
                raise
            refused = str(error)
        notes, self._worker.notes = self._worker.notes, []
        return {**self._worker.progress, "notes": notes, "refused": refused, "done": self._worker.finished}

    def cleanup(self) -> None:
        """Ctrl-C reaches the worker here: what is running is saved, unless the storage refuses it."""
        with suppress(StorageError):  # the last checkpoint counts
            self._worker.close()

    def _start(self, config: dict[str, Any]) -> None:
        self._worker.start(find_bundle(config, self._plan.bundles))

    def _open_reader(self, stream: StreamSpec, samples: int) -> SampleReader:
        return SampleReader(self._plan.streams[stream], f"{self.trial_id} of {self._plan.sweep}", samples)

    def _find_split(self, spec: TrialSpec) -> Split:
        split = self._images[data_key(spec)]
        # The object store gives read-only arrays; torch wants to own what it reads.
        return replace(split, train=split.train.owned(), test=split.test.owned())
