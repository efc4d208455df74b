"""Disturbs sweeps and searches at random, and checks that their rows are those of undisturbed ones. As root on Linux.

    python chaos.py [--minutes 20] [--seed 1] [--round N] [--keep DIR]

Rounds follow one another until the minutes are over. In each, commands are started several times, and meanwhile

- drivers, workers, samplers, the raylet, the GCS and agents get SIGKILL, SIGTERM, or SIGSTOP and later SIGCONT;
- the storage is read-only or full for a moment;
- between two runs random files of the storage are damaged or deleted.

Some rounds have two drivers in one storage, with the same or with other trials or bundles. Then each command runs to
its end undisturbed: it must exit with 0, trials, metrics and details must be those of an undisturbed run, and no
checkpoint, process or temporary folder may be left. ``--seed`` decides what is planned, and ``--seed`` with ``--round``
plays one round again; when exactly a signal arrives is up to the machine.

All of it happens in namespaces of its own (processes, mounts, network), with a ``/tmp`` of its own, so that no other
process and no other file can be hit.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rounds import ROOT, Round

INSIDE = "VAEGEN_CHAOS_INSIDE"
UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]


def main() -> int:
    """Returns 0 when no round had a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=20.0, help="no round begins later [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="decides what happens [default: %(default)s]")
    parser.add_argument("--round", type=int, help="play this round alone [default: all from 0 on]")
    parser.add_argument("--keep", type=Path, help="folder for logs and storages of rounds with faults [default: none]")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        # bash stays the first process and collects the orphans of killed drivers.
        command = [*UNSHARE, "bash", "-c", 'ip link set lo up && "$@"; exit $?', "bash"]
        with tempfile.TemporaryDirectory(prefix="vaegen-chaos-", dir="/tmp") as folder:
            return subprocess.call([*command, sys.executable, *sys.argv], env={**os.environ, INSIDE: folder})
    keep = options.keep and options.keep.absolute()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    _private_tmp(os.environ[INSIDE], [ROOT, Path(sys.prefix), *([keep] if keep else [])])
    return play(options.seed, options.minutes, options.round, keep)


def play(seed: int, minutes: float, only: int | None, keep: Path | None) -> int:
    """Plays rounds and says what came of them."""
    end = time.monotonic() + 60 * minutes
    references: dict = {}
    counts: Counter[str] = Counter()
    failed = []
    number = only or 0
    while time.monotonic() < end:
        started = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix="chaos-"))
        played = Round(seed=seed, number=number, work=work, references=references)
        played.go()
        counts += played.counts
        took = time.monotonic() - started
        print(
            f"round {number} ({played.scenario}): {played.counts.total()} disturbances in {took:.0f} s, "
            f"{'as undisturbed' if not played.faults else 'FAULTS'}",
            flush=True,
        )
        for fault in played.faults:
            print(f"    {fault}", flush=True)
        if played.faults:
            failed.append(number)
            if keep:
                shutil.copytree(work, keep / f"seed-{seed}-round-{number}", dirs_exist_ok=True)
                (keep / f"seed-{seed}-round-{number}" / "log.txt").write_text("\n".join(played.log))
        shutil.rmtree(work)
        number += 1
        if only is not None:
            break
    rounds = number - (only or 0)
    print(f"seed {seed}: {counts.total()} disturbances in {rounds} rounds, {len(failed)} with faults {failed or ''}")
    for name, count in sorted(counts.items()):
        print(f"{count:6d}  {name}")
    return 1 if failed else 0


def _private_tmp(new: str, seen: list[Path]) -> None:
    """An empty ``/tmp`` for this namespace, in which only those of these paths that lie in it are seen.

    Args:
        new: an empty folder in ``/tmp``.
        seen: paths of any place.
    """
    subprocess.run(["mount", "-t", "tmpfs", "chaos", new], check=True)
    for path in (path.resolve() for path in seen):
        if path.is_relative_to("/tmp"):
            inside = Path(new) / path.relative_to("/tmp")
            inside.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", path, inside], check=True)
    subprocess.run(["mount", "--rbind", new, "/tmp"], check=True)
    Path("/tmp").chmod(0o1777)


if __name__ == "__main__":
    sys.exit(main())
