"""Packing: which trials train together as one bundle, and in which order bundles start.

Packing looks at the declared trials, finished or not, and at nothing that changes during a run. The same sweep on the
same devices is therefore packed the same way after a crash, and what a bundle computes does not change either.
"""

import heapq
from collections.abc import Sequence

from vaegen_ray.errors import SpecError
from vaegen_ray.sweep.cost import Device
from vaegen_ray.trial import TrialSpec

Bundle = tuple[TrialSpec, ...]
"""Trials of one shape, trained as one program; the order of the members is that of the sweep."""


def pack(trials: tuple[TrialSpec, ...], device: Device, devices: int, bundle_size: int | None = None) -> list[Bundle]:
    """Splits trials into bundles, the longest first.

    Trials of one shape go together up to the size at which the device has no more to gain; then the longest bundle is
    halved as long as that lets the whole sweep end earlier on ``devices`` devices.

    Args:
        trials: any number of trials, of any shapes.
        device: what one device can do.
        devices: how many there are.
        bundle_size: exactly this many members where the shape has them; None to decide from ``device``.

    Raises:
        SpecError: ``bundle_size`` or ``devices`` is below 1.
    """
    if bundle_size is not None and bundle_size < 1:
        raise SpecError(f"bundle_size must be a whole number >= 1; got {bundle_size}")
    if devices < 1:
        raise SpecError(f"a sweep needs at least 1 device; got {devices}")
    groups: dict[str, list[TrialSpec]] = {}
    for spec in trials:
        groups.setdefault(spec.shape_key, []).append(spec)
    bundles: list[Bundle] = []
    for group in groups.values():
        size = bundle_size or device.most_members(group[0])
        bundles += _even_parts(tuple(group), -(-len(group) // size))
    if bundle_size is None:
        bundles = _halve_while_it_pays(bundles, device, devices)
    return sorted(bundles, key=lambda bundle: _order(bundle, device))


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


def makespan(bundles: list[Bundle], device: Device, devices: int) -> float:
    """Expected seconds until the last of ``devices`` devices is done when the longest bundles start first."""
    ends = [0.0] * devices
    for seconds in sorted((seconds_of(bundle, device) for bundle in bundles), reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + seconds)
    return max(ends)


def seconds_of(bundle: Bundle, device: Device) -> float:
    """Expected seconds of a bundle's training."""
    return device.training_seconds(bundle[0], len(bundle))


def _even_parts(members: Bundle, parts: int) -> list[Bundle]:
    """Splits into ``parts`` bundles whose sizes differ by at most one."""
    ends = [len(members) * i // parts for i in range(parts + 1)]
    return [members[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def _halve_while_it_pays(bundles: list[Bundle], device: Device, devices: int) -> list[Bundle]:
    bundles = sorted(bundles, key=lambda bundle: _order(bundle, device))
    best = makespan(bundles, device, devices)
    while True:
        longest = next((i for i, bundle in enumerate(bundles) if len(bundle) > 1), None)
        if longest is None:
            return bundles
        tried = bundles[:longest] + _even_parts(bundles[longest], 2) + bundles[longest + 1 :]
        seconds = makespan(tried, device, devices)
        if seconds >= best * 0.99:
            return bundles
        bundles, best = sorted(tried, key=lambda bundle: _order(bundle, device)), seconds


def _order(bundle: Bundle, device: Device) -> tuple[float, str]:
    return -seconds_of(bundle, device), bundle[0].trial_id
