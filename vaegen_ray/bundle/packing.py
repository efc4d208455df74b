"""Packing: which trials train together as one bundle, and in which order bundles start.

Packing looks at the declared trials, finished or not, and at nothing that changes during a run. The same sweep on the
same devices is therefore packed the same way after a crash, and what a bundle computes does not change either.
"""

import heapq
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

from vaegen_ray.bundle.cost import Device, bundle_bytes, largest, size_text
from vaegen_ray.errors import SpecError
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import TrialSpec

Bundle = tuple[TrialSpec, ...]
"""Trials of one shape, trained as one program; the order of the members is that of the sweep."""


def pack(trials: tuple[TrialSpec, ...], device: Device, devices: int, bundle_size: int | None = None) -> list[Bundle]:
    """Splits trials into bundles, the longest first.

    Trials of one shape go together up to the size at which the device has no more to gain; then the shape of the
    longest bundle is split further as long as that lets the whole sweep end earlier on ``devices`` devices. Trials that
    read different samples, or none, do not share a bundle, so that none waits for what it does not need.

    Args:
        trials: any number of trials, of any shapes.
        device: what one device can do.
        devices: how many there are.
        bundle_size: at most this many members, and no more than memory holds, in parts of nearly equal size; None to
            decide from ``device``.

    Raises:
        SpecError: ``bundle_size`` or ``devices`` is below 1.
    """
    if bundle_size is not None and bundle_size < 1:
        raise SpecError(f"bundle_size must be a whole number >= 1; got {bundle_size}")
    if devices < 1:
        raise SpecError(f"a sweep needs at least 1 device; got {devices}")
    devices = min(devices, len(trials))
    shapes: dict[tuple[str, StreamSpec | None], list[TrialSpec]] = {}
    for spec in trials:
        shapes.setdefault((spec.shape_key, spec.stream), []).append(spec)
    groups = [tuple(group) for group in shapes.values()]
    parts = [-(-len(group) // _most(group[0], device, bundle_size)) for group in groups]
    if bundle_size is None:
        parts = _split_while_it_pays(groups, parts, device, devices)
    return sorted(_split(groups, parts), key=lambda bundle: _order(bundle, device))


def _most(spec: TrialSpec, device: Device, bundle_size: int | None) -> int:
    if bundle_size is None:
        return device.most_members(spec)
    return max(1, min(bundle_size, device.fitting_members(spec)))


def smaller_bundles(trials: Iterable[TrialSpec], device: Device, bundle_size: int | None) -> str:
    """A line for the user where memory does not hold bundles of the size that is asked for; empty where it does."""
    spec = largest(trials)
    if bundle_size is None or (fit := max(1, device.fitting_members(spec))) >= bundle_size:
        return ""
    return (
        f"bundles hold at most {fit:,} VAEs of the largest size, not {bundle_size:,}: a worker may take "
        f"{size_text(device.memory_bytes)}, {bundle_size:,} VAEs need {size_text(bundle_bytes(spec, bundle_size))}"
    )


def remaining(bundles: list[Bundle], todo: set[str], started: Sequence[Bundle] = ()) -> list[Bundle]:
    """The bundles that are left to train: unfinished ones with a checkpoint first, as they were; then the others.

    Args:
        bundles: all bundles of the sweep, in starting order.
        todo: ids of the trials that are declared and not committed.
        started: bundles with a checkpoint. One whose members are all to do goes on as it is, whatever the packing
            says today; any other is ignored.
    """
    left = set(todo)
    first: list[Bundle] = []
    for bundle in started:
        ids = {spec.trial_id for spec in bundle}
        if ids <= left:
            first.append(bundle)
            left -= ids
    rest = [tuple(spec for spec in bundle if spec.trial_id in left) for bundle in bundles]
    return first + [bundle for bundle in rest if bundle]


def compute_seconds(bundle: Bundle, device: Device) -> float:
    """Expected seconds of a bundle's training."""
    return device.training_seconds(bundle[0], len(bundle))


def last_end(durations: list[float], devices: int) -> float:
    """When the last of ``devices`` devices is done, the longest first."""
    ends = [0.0] * max(1, min(devices, len(durations)))
    for seconds in sorted(durations, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def _split_while_it_pays(groups: list[Bundle], parts: list[int], device: Device, devices: int) -> list[int]:
    """Gives the shape with the longest bundle one part more, again and again, from ``parts`` of each group on.

    Returns:
        The last parts that let the sweep end at least 1 % earlier. A further part need not bring a gain by itself, as
        where two shapes take equally long, so up to ``devices`` in a row may bring none.
    """

    @cache
    def seconds(i: int, members: int) -> float:
        return device.training_seconds(groups[i][0], members)

    def sizes(i: int) -> list[tuple[int, float]]:
        """How many of the parts of a group take how long; the longest first."""
        members, larger = divmod(len(groups[i]), parts[i])
        both = [(larger, members + 1), (parts[i] - larger, members)]
        return [(count, seconds(i, size)) for count, size in both if count]

    def end() -> float:
        return last_end([took for group in each for count, took in group for _ in range(count)], devices)

    parts = list(parts)
    each = [sizes(i) for i in range(len(groups))]
    divisible = [(-each[i][0][1], i) for i, n in enumerate(parts) if n < len(groups[i])]
    heapq.heapify(divisible)
    best, best_end = list(parts), end()
    in_vain = 0
    while divisible and in_vain < devices:
        _, i = heapq.heappop(divisible)
        parts[i] += 1
        each[i] = sizes(i)
        if parts[i] < len(groups[i]):
            heapq.heappush(divisible, (-each[i][0][1], i))
        in_vain += 1
        # Nothing ends before its longest bundle, or before all devices have shared the work; then why try.
        longest = max(group[0][1] for group in each)
        shared = sum(count * took for group in each for count, took in group) / devices
        if max(longest, shared) < 0.99 * best_end and (ends := end()) < 0.99 * best_end:
            best, best_end, in_vain = list(parts), ends, 0
    return best


def _split(groups: list[Bundle], parts: list[int]) -> list[Bundle]:
    """Splits each group into its number of bundles, whose sizes differ by at most one."""
    bundles = []
    for group, n in zip(groups, parts, strict=True):
        ends = [len(group) * i // n for i in range(n + 1)]
        bundles += [group[a:b] for a, b in pairwise(ends)]
    return bundles


def _order(bundle: Bundle, device: Device) -> tuple[float, str]:
    return -compute_seconds(bundle, device), bundle[0].trial_id
