"""A plan in words: what a sweep would train, how large, how long."""

from collections import Counter

from vaegen_ray.models.layout import member_bytes, params_total, state_bytes, training_flops
from vaegen_ray.sweep.cost import Device
from vaegen_ray.sweep.packing import Bundle, makespan, seconds_of
from vaegen_ray.sweep.spec import Sweep


def describe(sweep: Sweep, bundles: list[Bundle], device: Device, devices: int) -> str:
    """Trials, bundles, parameters, FLOPs, bytes and the expected time of training ``bundles``; several lines.

    Args:
        sweep: everything that is declared.
        bundles: what is left to train.
        device: the assumed device, for the expected time.
        devices: how many there are.
    """
    todo = [spec for bundle in bundles for spec in bundle]
    first = sweep.trials[0]
    lines = [
        f"sweep          {sweep.name}: {first.dataset} ({'x'.join(map(str, first.image_shape))}, "
        f"{first.levels} levels, {first.n_train:,} training images), {first.architecture}, {first.likelihood}",
        f"trials         {len(sweep.trials):,} declared, {len(todo):,} to train",
    ]
    if not todo:
        return "\n".join([*lines, "nothing to train"])
    sizes = [len(bundle) for bundle in bundles]
    params = [params_total(spec) for spec in todo]
    steps = sum(spec.steps for spec in todo)
    flops = sum(training_flops(spec) for spec in todo)
    memory = max(sum(member_bytes(spec) for spec in bundle) for bundle in bundles)
    stored = sum(state_bytes(spec) // 4 for spec in todo)
    work = sum(seconds_of(bundle, device) for bundle in bundles)
    span = makespan(bundles, device, devices)
    unit = "GPU" if device.kind == "cuda" else "CPU core"
    where = f"{devices} {unit}" if devices == 1 else f"{devices} {unit}s"
    cost = device.layer_cost(first)
    source = "measured" if device.measured else "assumed"
    lines += [
        f"bundles        {len(bundles):,} of {min(sizes)} to {max(sizes)} VAEs",
        f"parameters     {min(params):,} to {max(params):,} a VAE",
        f"steps          {steps:,} optimiser steps of one VAE",
        f"FLOPs          {flops:.3g} in training",
        f"memory         {_size(memory)} for the largest bundle",
        f"storage        {_size(stored)} of weights",
        f"expected       {hours(span)} on {where}, {hours(work)} of one of them "
        f"({source}: {cost.flops_per_second / 1e12:.3g} TFLOP/s, {cost.launch_seconds * 1e6:.0f} us a layer); "
        f"evaluations and Ray's start not counted",
    ]
    measured = Counter(name for spec in todo if spec.measures for name in spec.measures.names)
    if measured:
        lines.append("measured       " + ", ".join(f"{name} of {count:,} VAEs" for name, count in measured.items()))
    for stream in dict.fromkeys(spec.stream for spec in todo if spec.stream is not None):
        samples = max(spec.samples for spec in todo if spec.stream == stream)
        model = stream.diffusion
        shards = stream.shards(samples)
        lines += [
            f"diffusion      {model.network}, {model.images:,} images to see, {model.n_train:,} of {model.dataset} "
            f"(model {model.diffusion_id})",
            f"samples        {samples:,}, {stream.sampler.evaluations} evaluations of the network each, in {shards:,} "
            f"shards of {stream.shard_size:,}: {_size(shards * stream.shard_size * stream.image_bytes)} "
            f"(stream {stream.stream_id})",
        ]
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def hours(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
