"""What a sweep tells Ray's own metrics: they show in Ray's dashboard, and in Prometheus, which reads every node's port.

Ray puts ``ray_`` before each name. Where ``ray[default]`` is not installed, nobody reads them and nothing else changes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge

from vaegen_ray.service.driver.progress import Progress

OF_SWEEP = {
    "vaegen_vaes_left": "VAEs of this run that are not committed yet",
    "vaegen_bundles_running": "bundles that are trained now",
    "vaegen_vaes_per_second": "finished VAEs, those under way counted in part, a second of this run",
    "vaegen_samples_per_second": "diffusion samples a second that are being made",
    "vaegen_shards_waited_for": "shards of samples that readers wait for",
}
COUNTED = {
    "vaegen_vaes_done": "VAEs that were committed in this run",
    "vaegen_samples_made": "diffusion samples that were made during this run",
    "vaegen_sample_wait_seconds": "seconds that readers waited for samples during this run, summed over readers",
}
"""What only grows."""


class Metrics:
    """The metrics of one driver, with the sweep's name as a tag.

    Args:
        sweep: its name.
    """

    def __init__(self, sweep: str) -> None:
        tags = {"sweep": sweep}
        self._gauges = {name: Gauge(name, text, tag_keys=("sweep",)) for name, text in OF_SWEEP.items()}
        self._counters = {name: Counter(name, text, tag_keys=("sweep",)) for name, text in COUNTED.items()}
        for each in (*self._gauges.values(), *self._counters.values()):
            each.set_default_tags(tags)
        self._counted: dict[str, float] = {}
        self._first: dict[str, float] = {}

    def update(self, progress: Progress, pools: Iterable[Mapping[str, Any]]) -> None:
        """Passes on how far the sweep is.

        Args:
            progress: of the bundles.
            pools: the states of the sampler pools (``PoolClient.state``), empty ones of those that did not answer yet.
        """
        answered = [state for state in pools if state]
        for name, value in {
            "vaegen_vaes_left": progress.total - progress.done,
            "vaegen_bundles_running": progress.running,
            "vaegen_vaes_per_second": progress.vaes_per_minute / 60,
            "vaegen_samples_per_second": progress.samples_per_second,
            "vaegen_shards_waited_for": sum(len(state["shards_waited_for"]) for state in answered),
        }.items():
            self._gauges[name].set(value)
        self._count("vaegen_vaes_done", progress.done)
        if answered:  # their counts are over the life of a stream, of which this run is a part
            self._count_since("vaegen_samples_made", sum(state["images_made"] for state in answered))
            self._count_since("vaegen_sample_wait_seconds", sum(state["waited_seconds"] for state in answered))

    def _count_since(self, name: str, total: float) -> None:
        self._count(name, total - self._first.setdefault(name, total))

    def _count(self, name: str, total: float) -> None:
        if (more := total - self._counted.get(name, 0.0)) > 0:  # a counter takes no zeros
            self._counters[name].inc(more)
            self._counted[name] = total
