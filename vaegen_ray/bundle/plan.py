"""A plan in words: what a sweep would train, evaluate and sample, how large, how long."""

from collections import Counter
from collections.abc import Collection

from vaegen_ray.bundle.cost import Device, bundle_bytes, size_text
from vaegen_ray.bundle.diffusion_cost import diffusion_seconds, network_cost, sampling_seconds
from vaegen_ray.bundle.evaluation_cost import all_evaluations, bundle_seconds
from vaegen_ray.bundle.packing import Bundle, last_end
from vaegen_ray.models.layout import params_total, state_bytes, training_flops
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import Sweep


def describe(
    sweep: Sweep, bundles: list[Bundle], device: Device, devices: int, *, trained: Collection[str] = ()
) -> str:
    """Trials, bundles, parameters, FLOPs, bytes and the expected time of ``bundles``; several lines.

    Args:
        sweep: everything that is declared.
        bundles: what is left to train.
        device: what one device can do now (``speed.cpu_core`` on a CPU), for the expected time.
        devices: how many there are.
        trained: ids of the diffusion models that are trained already.
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
    memory = max(bundle_bytes(bundle[0], len(bundle)) for bundle in bundles)
    stored = sum(state_bytes(spec) // 4 for spec in todo)
    times = [bundle_seconds(bundle, device) for bundle in bundles]
    streams = {stream: _samples(stream, todo) for stream in dict.fromkeys(spec.stream for spec in todo) if stream}
    models = dict.fromkeys(stream.diffusion for stream in streams)
    absent = [model for model in models if model.diffusion_id not in trained and not model.weights]
    sampling = sum(sampling_seconds(stream, samples, device) for stream, samples in streams.items())
    before = sum(diffusion_seconds(model, device, devices) for model in absent)
    span = before + max(last_end(times, devices), (sum(times) + sampling) / devices)
    parts = Counter({"training": sum(device.training_seconds(bundle[0], len(bundle)) for bundle in bundles)})
    for bundle in bundles:
        parts.update(all_evaluations(bundle, device))
    parts.update({"samples": sampling} if streams else {})
    work = sum(parts.values())
    unit = "GPU" if device.kind == "cuda" else "CPU core"
    where = f"{devices} {unit}" if devices == 1 else f"{devices} {unit}s"
    cost, source = device.layer_cost(first), "measured" if device.measured else "assumed"
    lines += [
        f"bundles        {len(bundles):,} of {min(sizes)} to {max(sizes)} VAEs",
        f"parameters     {min(params):,} to {max(params):,} a VAE",
        f"steps          {steps:,} optimiser steps of one VAE",
        f"FLOPs          {flops:.3g} in training",
        f"memory         {size_text(memory)} for the largest bundle, of {size_text(device.memory_bytes)} a {unit}",
        f"storage        {size_text(stored)} of weights",
        f"expected       {hours(span)} on {where}, {hours(work)} of one of them ({source}: "
        f"{cost.flops_per_second / 1e12:.3g} TFLOP/s, {cost.launch_seconds * 1e6:.0f} us a layer); "
        f"Ray's start not counted",
    ]
    if shown := [f"{name} {hours(seconds)}" for name, seconds in parts.items() if seconds >= 0.5]:
        lines.append(f"of which       {', '.join(shown)}")
    if measured := Counter(name for spec in todo if spec.measures for name in spec.measures.names):
        lines.append("measured       " + ", ".join(f"{name} of {count:,} VAEs" for name, count in measured.items()))
    for stream, samples in streams.items():
        lines += _describe_stream(stream, samples, absent, device, devices)
    return "\n".join(lines)


def _describe_stream(
    stream: StreamSpec, samples: int, absent: Collection[DiffusionSpec], device: Device, devices: int
) -> list[str]:
    """Lines about a diffusion model and its samples; ``absent`` are the models that are not trained yet."""
    unit = "GPU" if device.kind == "cuda" else "CPU core"
    model, shards = stream.diffusion, stream.shards(samples)
    if model in absent:
        flops = 3 * network_cost(model).flops * model.images
        state = f"{hours(diffusion_seconds(model, device, devices))} before the first VAE, {flops:.3g} FLOPs"
    else:
        state = "is trained"
    return [
        f"diffusion      {model.network}, {model.images:,} images to see, {model.n_train:,} of {model.dataset}: "
        f"{state} (model {model.diffusion_id})",
        f"samples        {samples:,}, {stream.sampler.evaluations} evaluations of the network each, in {shards:,} "
        f"shards of {stream.shard_size:,}: {hours(sampling_seconds(stream, samples, device))} of one {unit}, "
        f"{size_text(shards * stream.shard_size * stream.image_bytes)} (stream {stream.stream_id})",
    ]


def _samples(stream: StreamSpec, trials: list[TrialSpec]) -> int:
    """Samples of a stream that trials train on."""
    return max(spec.samples for spec in trials if spec.stream == stream)


def hours(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
