"""What a trial costs beside its training: thousands of trials with an empty training step, on several simulated nodes.

    python benchmarks/scale.py [--trials LIST] [--nodes N] [--bundle-size N]

All is as in a real sweep but two things: the optimiser's steps are skipped, and an ELBO is a made-up number. Networks
are initialised; weights, rows and commit marks are written by the workers; figures are drawn from them. Each size runs
in a fresh process, in network and process namespaces of its own with as many trainer nodes as asked for (root on
Linux); with ``--nodes 0``, or where namespaces are not permitted, on a Ray that the sweep itself starts. Then the same
command runs once more, with nothing left to do, and the results are loaded.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe

from vaegen_ray.bundle import run as bundle_run
from vaegen_ray.launch.options import at_least, whole_numbers
from vaegen_ray.results.query import load
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.service.config import RunConfig
from vaegen_ray.service.driver import session, tune
from vaegen_ray.service.driver import sweep as runner
from vaegen_ray.service.driver.progress import Progress
from vaegen_ray.service.worker.trainable import BundleTrainable
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep
from vaegen_ray.training.trainer import Trainer

UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
SHAPES = tuple((nc, mz) for nc in range(1, 51) for mz in (1, 2))
"""Widths and latent multipliers: a hundred shapes, as many as a study of some thousand VAEs has."""
EVALUATIONS = (1, 2, 3, 4)
"""Effective epochs; each becomes a metrics file of its bundle."""
LOOKS = 5
"""How often the driver's memory is looked at, after the start."""


class IdleTrainer(Trainer):
    """Initialises the VAEs, and does not train them."""

    def train(self, until: int) -> None:
        self.step = until


def idle_elbo(vae: Any, specs: list[TrialSpec], *images: Any) -> list[dict[str, float]]:
    """A number for every column of an evaluation, without a look at an image."""
    rows = []
    for spec in specs:
        test = -20.0 - 1 / spec.nc + 0.01 * (spec.seed % 10)
        train = test + 1 / spec.mz
        row = {"elbo_train": train, "elbo_test": test, "elbo_source": train, "generalization_gap": train - test}
        for on, elbo in (("train", train), ("test", test)):
            row |= {f"rate_{on}": -elbo / 4, f"distortion_{on}": -3 * elbo / 4}
        row |= {"bits_per_dim_test": -test / (spec.pixels * math.log(2)), "elbo_samples": spec.elbo_samples}
        rows.append(row)
    return rows


class IdleTrainable(BundleTrainable):
    """The real trainable around an idle training; notes how long a worker is busy with each bundle."""

    times: str
    """A folder; every worker appends a line a call to a file of its own: VAEs, seconds."""

    def setup(self, *args: Any, **kwargs: Any) -> None:
        bundle_run.Trainer, bundle_run.evaluate_elbo = IdleTrainer, idle_elbo  # type: ignore[misc, assignment]
        super().setup(*args, **kwargs)

    def step(self) -> dict[str, Any]:
        started = time.monotonic()
        told = super().step()
        with open(f"{self.times}/{os.getpid()}", "a") as file:
            file.write(f"{told['finished_members']} {time.monotonic() - started}\n")
        return told


def memory() -> tuple[float, float]:
    """Resident memory of this process, and the part that no other process shares, MiB (RSS, USS)."""
    import psutil
    import ray  # noqa: F401  (psutil comes with it)

    told = psutil.Process().memory_full_info()
    return told.rss / 2**20, told.uss / 2**20


class Stopwatch:
    """Sums the seconds of functions of the driver, by name of the step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def watch(self, owner: Any, function: str, name: str) -> None:
        """Every call of ``owner.function`` counts as a part of the step ``name``."""
        real = getattr(owner, function)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.step(name):
                return real(*args, **kwargs)

        setattr(owner, function, timed)


def declare(trials: int) -> Sweep:
    """The first so many of: a VAE of every shape with seed 0, one of every shape with seed 1, ..."""
    base = base_spec("digits", n_train=100, epochs=EVALUATIONS[-1], evaluate_at=EVALUATIONS)
    specs = []
    for number in range(trials):
        seed, shape = divmod(number, len(SHAPES))
        nc, mz = SHAPES[shape]
        specs.append(TrialSpec(**base, nc=nc, mz=mz, seed=seed))
    return Sweep(name="scale", trials=tuple(specs), figures=("complexity_axes",))


@contextmanager
def trainer_nodes(count: int) -> Iterator[str | None]:
    """The address of a cluster of ``count`` nodes with a trainer each on this machine; None without."""
    if not count:
        yield None
        return
    from ray.cluster_utils import Cluster

    small = {"memory": 2 * 10**9, "object_store_memory": 10**8}
    head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False, **small}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    for number in range(count):
        nodes.add_node(num_cpus=1, node_ip_address=f"127.0.0.{3 + number}", resources={resources.TRAINER: 1}, **small)
    nodes.wait_for_nodes()
    yield nodes.address
    nodes.shutdown()


def watched_progress(trials: int, looks: list[tuple[int, float, float]]) -> type[Progress]:
    """The real display, which also looks at the memory: at first, and after every fifth of the trials."""

    class WatchedProgress(Progress):
        def update(self, *args: Any) -> None:
            if not looks:
                looks.append((0, *memory()))
            super().update(*args)
            if self.done >= len(looks) * trials / LOOKS:
                looks.append((self.done, *memory()))

    return WatchedProgress


def measure(trials: int, nodes: int, bundle_size: int | None, folder: str) -> dict[str, Any]:
    """Runs a sweep in this process, and once more when it is finished; says what it took."""
    watch, looks = Stopwatch(), []  # type: ignore[var-annotated]
    tune.BundleTrainable = IdleTrainable  # type: ignore[misc]
    IdleTrainable.times = tempfile.mkdtemp(dir=folder)
    tune.Progress = watched_progress(trials, looks)  # type: ignore[misc]
    for owner, function, name in (
        (connect, "connect", "Ray: start or join"),
        (connect, "disconnect", "Ray: leave"),
        (runner, "_find_todo", "to-do"),
        (session, "quarantine", "to-do"),
        (runner, "_pack", "packing"),
        (session, "prune", "packing"),
        (SweepStore, "write_sweep_json", "sweep.json"),
        (tune, "fit", "Tune"),
        (runner, "draw_figures", "figures"),
    ):
        watch.watch(owner, function, name)
    with watch.step("declare"):
        sweep = declare(trials)
    with trainer_nodes(nodes) as address:
        config = RunConfig(storage=f"{folder}/results", address=address, bundle_size=bundle_size)
        started = time.monotonic()
        assert runner.run(sweep, config).complete
        seconds = time.monotonic() - started
    steps, watch.seconds = watch.seconds, {}
    with watch.step("the same command again"):
        assert runner.run(sweep, config).complete
    with watch.step("load"):
        results = load(f"{folder}/results", sweep.name)
    assert len(results.trials) == trials and len(results.metrics) == trials * len(EVALUATIONS)
    calls = [line.split() for file in Path(IdleTrainable.times).iterdir() for line in file.read_text().splitlines()]
    ended = [(int(count), float(took)) for count, took in calls if int(count)]
    return {
        "trials": trials,
        "bundles": len(ended),
        "seconds": seconds,
        "steps": steps | {f"afterwards: {name}": took for name, took in watch.seconds.items()},
        "rows": len(results.trials) + len(results.metrics),
        "memory": looks,
        "worker_seconds": sum(took for _, took in ended),
        "bundle_seconds": median(took for _, took in ended),
        "files": sum(len(files) for _, _, files in os.walk(f"{folder}/results")),
        "bytes": sum(path.stat().st_size for path in Path(folder, "results").rglob("*") if path.is_file()),
    }


def in_a_world_of_its_own(trials: int, nodes: int, bundle_size: int | None) -> dict[str, Any]:
    """``measure`` in a fresh process, whose Ray nobody else sees; it ends with it."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # short, for sockets
        for name in ("home", "ray"):
            os.mkdir(f"{folder}/{name}")
        environment = {**os.environ, "HOME": f"{folder}/home", "RAY_TMPDIR": f"{folder}/ray", "OMP_NUM_THREADS": "1"}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled" if nodes else "token"}
        inside = [sys.executable, __file__, "--inside", folder, "--trials", str(trials), "--nodes", str(nodes)]
        inside += ["--bundle-size", str(bundle_size)] if bundle_size else []
        command = [*UNSHARE, "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *inside] if nodes else inside
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        told: dict[str, Any] = json.loads(Path(folder, "told.json").read_text())
        return told


def may_unshare() -> bool:
    """Whether this process may make namespaces."""
    return (
        shutil.which("unshare") is not None and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode
    )


def table(runs: list[dict[str, Any]]) -> None:
    """Prints what the runs took side by side, and which step grew most."""
    first, last = runs[0], runs[-1]
    print(f"\n{'trials':28}" + "".join(f"{told['trials']:>12,}" for told in runs))
    for name, value in (
        ("bundles", "{bundles:,}"),
        ("seconds", "{seconds:.1f}"),
        ("ms a trial", "{each:.2f}"),
        ("rows a second in Tune", "{rate:,.0f}"),
        ("a bundle at its worker, ms", "{bundle:.1f}"),
        ("all bundles at workers, s", "{worker_seconds:.1f}"),
        ("files", "{files:,}"),
        ("MiB", "{size:.1f}"),
    ):
        shown = [
            value.format(
                **told,
                each=1000 * told["seconds"] / told["trials"],
                rate=told["rows"] / told["steps"]["Tune"],
                bundle=1000 * told["bundle_seconds"],
                size=told["bytes"] / 2**20,
            )
            for told in runs
        ]
        print(f"{name:28}" + "".join(f"{text:>12}" for text in shown))
    print("seconds of")
    for name in last["steps"]:
        print(f"  {name:26}" + "".join(f"{told['steps'].get(name, 0):>12.2f}" for told in runs))
    print(f"\ndriver's memory, of {last['trials']:,} trials in {last['bundles']:,} bundles:")
    print(f"  {'committed':>12} {'RSS MiB':>10} {'USS MiB':>10}")
    for done, rss, uss in last["memory"]:
        print(f"  {done:>12,} {rss:>10.1f} {uss:>10.1f}")
    (_, *before), (_, *after) = last["memory"][1], last["memory"][-1]
    print(
        "  growth from the second look on: "
        + ", ".join(f"{a / b - 1:+.1%}" for a, b in zip(after, before, strict=True))
    )
    if len(runs) > 1:
        ratio = last["trials"] / first["trials"]
        grown = {name: last["steps"][name] - first["steps"].get(name, 0) for name in last["steps"]}
        name = max(grown, key=grown.__getitem__)
        power = math.log(last["steps"][name] / first["steps"][name]) / math.log(ratio)
        print(
            f"largest step that grows: {name}, {first['steps'][name]:.2f} s to {last['steps'][name]:.2f} s for "
            f"{ratio:g} times as many trials: trials to the power of {power:.2f}"
        )


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument(
        "--trials", type=whole_numbers, default=(2000, 10000), metavar="LIST", help="[default: 2000,10000]"
    )
    given.add_argument(
        "--nodes",
        type=int,
        default=4,
        metavar="N",
        help="simulated nodes, 0: Ray of this machine [default: %(default)s]",
    )
    given.add_argument(
        "--bundle-size", type=at_least(1), metavar="N", help="VAEs a bundle [default: decided by packing]"
    )
    given.add_argument("--inside", metavar="DIR", help=argparse.SUPPRESS)
    chosen = given.parse_args(argv)
    if chosen.inside:
        told = measure(chosen.trials[0], chosen.nodes, chosen.bundle_size, chosen.inside)
        Path(chosen.inside, "told.json").write_text(json.dumps(told))
        return 0
    nodes = chosen.nodes if may_unshare() else 0
    print(describe("torch", "ray", "pyarrow"))
    print(f"{nodes} simulated nodes with a trainer each" if nodes else "Ray on this machine")
    table([in_a_world_of_its_own(trials, nodes, chosen.bundle_size) for trials in chosen.trials])
    return 0


if __name__ == "__main__":
    sys.exit(main())
