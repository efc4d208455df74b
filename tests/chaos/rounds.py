"""One round of chaos: commands that are started, disturbed and damaged again and again, and then run to the end."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import checks
from disturbances import DAMAGES, Disturbance, Disturber, damage, processes

ROOT = Path(__file__).parents[2]
SWEEP, SEARCH = ROOT / "tests/chaos/sweep.py", ROOT / "sweeps/search.py"
PLAIN = (str(SWEEP), "--bundle-size", "2")
SAMPLES = (*PLAIN, "--samples", "--samplers", "1:2")
FIND = (str(SEARCH), "--preset", "smoke", "--concurrent", "1", "--points", "3", "--epochs", "600")
FIND = (*FIND, "--space", "augmentation=none,nc=4:16:log,beta=1")
SCENARIOS: dict[str, tuple[tuple[str, ...], ...]] = {
    "sweep": (PLAIN,),
    "samples": (SAMPLES,),
    "search": (FIND,),
    "asha": ((*FIND, "--scheduler", "asha"),),
    "the same twice": (PLAIN, PLAIN),
    "other seeds": (PLAIN, (*PLAIN, "--seeds", "3")),
    "other bundles": (PLAIN, (str(SWEEP), "--bundle-size", "3")),
    "other epochs": (PLAIN, (*PLAIN, "--epochs", "1000")),
    "samples and none": (PLAIN, SAMPLES),
    "other space": (FIND, (*FIND[:-1], "augmentation=none,nc=4:16:log,beta=0.5")),
}
"""Commands that share a storage, at the same time where there are two."""
OPTIONS = ("--checkpoint-seconds", "1", "--storage")
RUNS = 4
"""Times that the commands of a round are started and disturbed."""
DISTURBANCES = 3, 14
"""Fewest and most disturbances of a run before it is ended. With few of them the end comes before all is trained."""
END_SECONDS = 240.0
"""A driver that does not end within this time, though what it needs is gone or it was told to, hangs. So does a process
that outlives its driver."""
FINISH_SECONDS = 900.0
"""The same for a command that nothing disturbs."""


@dataclass(kw_only=True)
class Round:
    """A round, with what it found.

    Args:
        seed, number: decide what happens.
        work: an empty folder of its own.
        references: the rows of undisturbed runs by command; a command that is not there yet is run.
    """

    seed: int
    number: int
    work: Path
    references: dict[tuple[str, ...], checks.Rows]
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """What happened, in order, and what drivers said."""

    def __post_init__(self) -> None:
        self._draw = random.Random(f"{self.seed}-{self.number}")
        order = sorted(SCENARIOS)
        random.Random(self.seed).shuffle(order)
        self.scenario = order[self.number % len(order)]
        self.commands = SCENARIOS[self.scenario]

    def go(self) -> None:
        """Plays the round."""
        for command in self.commands:
            if command not in self.references:
                self.references[command] = self._reference(command)
        before = {path.name for path in Path("/tmp").iterdir()}
        with file_system(self.work / "storage") as storage:
            for number in range(RUNS):
                self._disturbed(storage, number)
                self._damage(storage)
            name = "search" if str(SEARCH) in self.commands[0] else "chaos"
            self._delete_damaged_weights(storage, name)
            for command in self.commands:
                self._undisturbed(storage, command)
            self._check(storage, name)
            expected = [self.references[command] for command in self.commands]
            self.faults += checks.differences(checks.read(storage / name), expected)
            self.faults += checks.left_in_storage(storage)
            if self.faults:
                shutil.copytree(storage, self.work / "left")
        self._wait_for_processes()
        self.faults += checks.left_in_temporary(Path("/tmp"), before | {"vaegen-ray-0"})

    def _reference(self, command: tuple[str, ...]) -> checks.Rows:
        with file_system(self.work / "storage") as storage:
            self._undisturbed(storage, command)
            rows = checks.read(storage / ("search" if str(SEARCH) in command else "chaos"))
        self._wait_for_processes()
        assert len(rows["trials"]) >= 6, self.log
        return rows

    def _disturbed(self, storage: Path, number: int) -> None:
        """Starts the commands of the round and disturbs them until they end."""
        planned = self._plan()
        delay = self._draw.choice((0.0, self._draw.uniform(0, 8)))
        end = self._draw.choice(("kill", "terminate", "terminate", "kill", "raylet", "gcs", "agent", "wait"))
        with self._started(storage, self.commands[0], f"{number}a") as first:
            drivers = [first]
            self._disturber(drivers, storage).go(planned[: len(planned) // 2])
            for command in self.commands[1:]:
                time.sleep(delay)
                with self._started(storage, command, f"{number}b") as second:
                    drivers.append(second)
                    self._disturber(drivers, storage).go([*planned[len(planned) // 2 :], *self._last(end)])
                    self._ended(drivers, end)
                return
            self._disturber(drivers, storage).go([*planned[len(planned) // 2 :], *self._last(end)])
            self._ended(drivers, end)

    def _plan(self) -> list[Disturbance]:
        draw = self._draw
        kinds = ["worker"] * 6 + ["driver", "raylet", "gcs", "agent", "log monitor", "idle worker"]
        if "samples" in self.scenario:
            kinds += ["sampler"] * 4 + ["coordinator"] * 2 + ["diffusion worker"] * 2
        planned = []
        for _ in range(draw.randint(*DISTURBANCES)):
            target = draw.choice(kinds)
            action = draw.choice(("stop", "kill")) if target not in ("driver", "raylet", "gcs", "agent") else "stop"
            if draw.random() < 0.03:  # it ends a run, as a full disk does
                action, target = draw.choice(("read-only", "full")), "storage"
            seconds = draw.uniform(8, 15) if draw.random() < 0.1 else draw.uniform(0.1, 2)
            planned.append(
                Disturbance(
                    action=action, target=target, after=draw.uniform(0, 1), seconds=seconds, choice=draw.random()
                )
            )
        return planned

    def _last(self, end: str) -> Iterator[Disturbance]:
        """What ends a run: each driver is struck, or something that it needs."""
        if end == "wait":
            return
        targets = ["driver"] * len(self.commands) if end in ("kill", "terminate") else [end]
        for target in targets:
            action = end if target == "driver" else "kill"
            yield Disturbance(
                action=action, target=target, after=self._draw.uniform(0, 3), seconds=0.0, choice=self._draw.random()
            )

    def _disturber(self, drivers: list[subprocess.Popen], storage: Path) -> Disturber:
        return Disturber(drivers=drivers, storage=storage, counts=self.counts, log=self.log)

    @contextmanager
    def _started(self, storage: Path, command: tuple[str, ...], name: str) -> Iterator[subprocess.Popen]:
        """A driver; what it said goes into the log when it has ended."""
        said = self.work / f"said-{name}.txt"
        with said.open("w") as output:
            driver = subprocess.Popen(
                [sys.executable, *command, *OPTIONS, str(storage)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=self.work,
                start_new_session=True,
            )
        self.log.append(f"driver {name} is started: {' '.join(command[1:])}")
        yield driver
        text = said.read_text(errors="replace")
        self.log.append(f"driver {name} ended with {driver.returncode} and said:\n{text}")
        self.faults += [f"driver {name} {each}" for each in checks.unexplained(driver.returncode, text)]
        if driver.returncode == 0:
            rows = checks.read(storage / ("search" if str(SEARCH) in command else "chaos"))
            lost = checks.missing(rows, self.references[command]) if command in self.references else []
            self.faults += [f"driver {name} ended with 0, but {each}" for each in lost]

    def _ended(self, drivers: list[subprocess.Popen], end: str) -> None:
        """Waits for drivers that have to end, and ends them where they hang."""
        for driver in drivers:
            try:
                driver.wait(FINISH_SECONDS if end == "wait" else END_SECONDS)
            except subprocess.TimeoutExpired:
                self.faults.append(f"a driver hangs; its run was to end by: {end}")
                driver.kill()
                driver.wait()
        self._wait_for_processes()

    def _wait_for_processes(self) -> None:
        """Waits until no process is left; those that stay are a fault."""
        end = time.monotonic() + END_SECONDS
        while left := processes(set()):
            if time.monotonic() > end:
                self.faults.append(f"processes are left: {', '.join(sorted(set(left.values())))}")
                for pid in left:
                    os.kill(pid, 9)
                return
            time.sleep(0.05)

    def _damage(self, storage: Path) -> None:
        for _ in range(self._draw.randrange(4)):
            how = self._draw.choice(DAMAGES)
            if done := damage(storage, how, self._draw):
                self.counts[f"{how} a file"] += 1
                self.log.append(done)

    def _checked(self, storage: Path, name: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "vaegen_ray.cli", "check", name, "--deep", "--storage", str(storage)]
        return subprocess.run(command, env=environment(), capture_output=True, text=True)

    def _delete_damaged_weights(self, storage: Path, name: str) -> None:
        """Does what `vaegen check --deep` says about weights whose size is right, which a start does not read."""
        if not (storage / name).exists():
            return
        for line in self._checked(storage, name).stdout.splitlines():
            if "delete the file and rerun" in line:
                Path(line.partition(": ")[0]).unlink()
                self.log.append(line)

    def _check(self, storage: Path, name: str) -> None:
        """Every file of the sweep is what its commit rows say, by its digest."""
        done = self._checked(storage, name)
        if done.returncode:
            said = done.stdout + done.stderr
            self.log.append(said)
            self.faults.append(f"vaegen check --deep: {said.splitlines()[0]}")

    def _undisturbed(self, storage: Path, command: tuple[str, ...]) -> None:
        with self._started(storage, command, "end") as driver:
            try:
                code = driver.wait(FINISH_SECONDS)
            except subprocess.TimeoutExpired:
                driver.kill()
                code = driver.wait()
        if code:
            self.faults.append(f"the undisturbed command ended with {code}: {' '.join(command[1:])}")


def environment() -> dict[str, str]:
    """Of drivers: nothing of the user's home, and this working tree first."""
    home = Path("/tmp/home")
    home.mkdir(exist_ok=True)
    changed = {"HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **changed}


@contextmanager
def file_system(folder: Path) -> Iterator[Path]:
    """A small file system of its own, which can be full or read-only without harm to others."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "chaos", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
