"""Whole jobs: bundles against one ordinary Ray Tune trial a VAE, and the fixed cost of a trial.

    python benchmarks/bundles.py [--scenario laptop|small|fixed|all] [--baseline-trials N] [--repeats N]

laptop  the double descent of the laptop preset: 45 VAEs of nc 1 to 512, 300 epochs
small   200 VAEs: nc 4, 8, 16, 32 with 50 seeds each, 50 epochs of 500 digits
fixed   up to 2,000 VAEs with one step and one evaluation (50 + 797 images): what a trial costs besides its training

Both sides are whole programs, run one after another in fresh processes and fresh folders: imports, Ray's start and end
are counted. Both train the same VAEs for the same steps and evaluate them at the same epochs; their mean ELBOs show
that they did the same work. ``benchmarks/ordinary.py`` says what the other side is.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from machine import describe

HERE = Path(__file__).resolve().parent
MANY_SMALL = [str(HERE / "many_small.py")]
SCENARIOS = {
    "laptop": [str(HERE.parent / "sweeps" / "double_descent.py"), "--preset", "laptop"],
    "small": [*MANY_SMALL, "--nc", "4,8,16,32", "--seeds", "50", "--epochs", "50", "--n-train", "500"],
}
FIXED = [*MANY_SMALL, "--nc", "1", "--epochs", "1", "--n-train", "50"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that ran to its end."""

    seconds: float
    output: str

    def number(self, pattern: str) -> float:
        """The number behind ``pattern`` in the output."""
        found = re.search(pattern + r"\s*([\d.]+)", self.output)
        assert found is not None, (pattern, self.output)
        return float(found[1])


def run(arguments: Sequence[str]) -> Ended:
    """Runs a Python script to its end; what it said is shown when it failed, and the benchmark ends."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with code {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return Ended(seconds=seconds, output=done.stdout)


def mean_elbo_test(folder: Path) -> float:
    """Mean over all VAEs of the last ELBO on D_test in the results in ``folder``, nats an image."""
    script = f"from vaegen_ray.results.query import load; print(load({str(folder)!r}).last()['elbo_test'].mean())"
    return float(run(["-c", script]).output)


def compare(name: str, command: list[str], baseline: list[str], repeats: int) -> None:
    """Times a scenario on both sides, in turns, and prints seconds and ratio; ``baseline``: options of ordinary.py."""
    ours: list[float] = []
    theirs: list[float] = []
    note = ""
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="vaegen-bench-") as folder:
            ours.append(run([*command, "--storage", folder]).seconds)
            (sweep,) = Path(folder).glob("*/sweep.json")
            total = len(json.loads(sweep.read_text())["trials"])
            elbo = mean_elbo_test(sweep.parent)
            ended = run([str(HERE / "ordinary.py"), str(sweep), *baseline])
        told = json.loads(ended.output.splitlines()[-1])
        trained = told["completed"]
        # Imports and Ray's start are paid once, whatever the number of trials.
        theirs.append(ended.seconds + told["tune_seconds"] * (total / trained - 1))
        if trained < total:
            note = f"   SCALED UP from {trained} trials, evenly spread: {ended.seconds:.1f} s as measured"
    print(f"\n{name}: {total} VAEs, best of {repeats} (median)")
    print(f"  bundles          {min(ours):8.1f} s ({median(ours):.1f})   mean ELBO on D_test {elbo:.2f} nats")
    print(f"  ordinary trials  {min(theirs):8.1f} s ({median(theirs):.1f})   {told['elbo_test']:.2f} nats{note}")
    print(f"  ratio            {min(theirs) / min(ours):8.2f}", flush=True)


def fixed_cost(counts: Sequence[int], repeats: int) -> None:
    """Prints seconds a trial and the driver's peak memory for sweeps with next to no training."""
    print(f"\nfixed cost of a trial: 1 step, 1 evaluation, Ray's start and end included; best of {repeats} (median)")
    print(f"  {'trials':>7} {'bundles':>8} {'seconds':>9} {'(median)':>9} {'ms/trial':>9} {'driver MiB':>11}")
    for count, size in [(count, None) for count in counts] + [(min(counts), 1)]:
        ends = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(prefix="vaegen-bench-") as folder:
                bundle_size = [] if size is None else ["--bundle-size", str(size)]
                ends.append(run([*FIXED, "--seeds", str(count), *bundle_size, "--storage", folder]))
        seconds = [end.seconds for end in ends]
        memory = max(end.number("peak memory of the driver") for end in ends)
        bundles = int(ends[0].number(r"VAEs to train in"))
        print(
            f"  {count:>7} {bundles:>8} {min(seconds):>9.1f} {median(seconds):>9.1f} "
            f"{1000 * min(seconds) / count:>9.2f} {memory:>11.0f}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--scenario", choices=(*SCENARIOS, "fixed", "all"), default="all", help="[default: %(default)s]"
    )
    parser.add_argument(
        "--baseline-trials", type=int, metavar="N", help="ordinary trials to run, scaled up to all [default: all]"
    )
    parser.add_argument("--keep-denormals", action="store_true", help="leave denormals to the CPU in ordinary trials")
    parser.add_argument("--reuse-actors", action="store_true", help="one process for many ordinary trials")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="runs of everything [default: %(default)s]")
    parser.add_argument(
        "--fixed-trials", default="500,1000,2000", metavar="LIST", help="sizes of `fixed` [default: %(default)s]"
    )
    options = parser.parse_args()
    print(describe("torch", "ray", "pyarrow"))
    print(
        f"ordinary trials use 1 thread each, {'keep' if options.keep_denormals else 'flush'} denormals, and "
        f"{'share processes' if options.reuse_actors else 'have a process each'}"
    )
    baseline = [] if options.baseline_trials is None else ["--limit", str(options.baseline_trials)]
    baseline += ["--keep-denormals"] * options.keep_denormals + ["--reuse-actors"] * options.reuse_actors
    for name, command in SCENARIOS.items():
        if options.scenario in (name, "all"):
            compare(name, command, baseline, options.repeats)
    if options.scenario in ("fixed", "all"):
        fixed_cost([int(count) for count in options.fixed_trials.split(",")], options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
