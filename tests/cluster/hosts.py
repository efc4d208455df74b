"""Hosts on one machine, for drills of whole clusters: Linux namespaces with a switch between them.

    World: namespaces of its own for network, mounts and processes; a bridge is the switch
        Host: its own network, mounts, processes, name; sshd is process 1; own home, /tmp, /run, /dev/shm, /etc/hosts

Nothing of this machine's network is touched, and names and addresses cannot meet those of another run. All files of
the machine are seen by all hosts, so that any folder can play NFS. Process 1 of the world reads a pipe from its maker:
when that ends, in whatever way, the kernel ends every process of the world. Needs root, and what ``MISSING`` looks for.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

SUBNET = "10.77.0"
TOOLS = ("unshare", "nsenter", "ip", "ssh", "ssh-keygen", "sshd", "rsync")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WORLD_SPACES = ("--net", "--mount", "--pid")
HOST_SPACES = (*WORLD_SPACES, "--uts")
FORK = ("--fork", "--kill-child", "--mount-proc")
INIT = Path(__file__).with_name("host_init.sh")
START_SECONDS = 300.0
FAILS, ANY = "fails", "any"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def missing() -> str:
    """Why hosts cannot be made here, or nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if absent:
        return f"needs {', '.join(absent)}: tests/install.sh installs them"
    probe = ["unshare", *HOST_SPACES, *FORK, "ip", "link", "add", "br0", "type", "bridge"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True, timeout=START_SECONDS).returncode:
        return "needs the right to make namespaces and bridges (root on Linux)"
    return ""


def until(condition: Callable[[], object], what: str, seconds: float, *, every: float = 0.1) -> None:
    """Waits until ``condition()`` is true, and looks again after ``every`` seconds.

    Raises:
        TimeoutError: it is not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(every)


class Log:
    """What was done when, and what came of it, as text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = time.monotonic()
        path.write_text(f"# {datetime.now():%Y-%m-%d %H:%M:%S}, seconds from here\n")

    def say(self, line: str, output: str = "") -> None:
        """Adds a line with its time, and the output that belongs to it."""
        with self.path.open("a") as file:
            print(f"{time.monotonic() - self._started:7.1f}  {line}", file=file)
            for each in COLOUR.sub("", output).splitlines():
                print(f"         | {each}".rstrip(), file=file)


class Host:
    """One host. Made by ``World``.

    Attributes:
        pid: its process 1, as this machine numbers it.
        environment: variables that everybody has who types commands there.
    """

    def __init__(self, world: "World", name: str, number: int) -> None:
        self.name, self.address = name, f"{SUBNET}.{10 + number}"
        self.home = world.folder / "home"
        self._world, self._port, self._number = world, f"port{number}", number
        self._folder = world.folder / name
        self._outer: subprocess.Popen | None = None
        self.pid = 0
        self.environment: dict[str, str] = {}

    def power_on(self) -> None:
        """Starts the host, and waits until it accepts ssh."""
        world = self._world
        keep = [str(world.folder), str(world.shared), sys.prefix, sys.base_prefix, *map(str, world.keep)]
        command = [
            "unshare",
            *HOST_SPACES,
            *FORK,
            "bash",
            str(INIT),
            self.name,
            str(self._folder),
            str(self.home),
            *keep,
        ]
        with (self._folder / "init.log").open("a") as log:
            self._outer = subprocess.Popen(
                world.inside(WORLD_SPACES, command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.pid = _child(_child(self._outer.pid))  # nsenter -> unshare -> process 1 of the host
        world.ip(f"link add {self._port} type veth peer name eth0 netns {self.pid}")
        world.ip(f"link set {self._port} master switch up")
        for line in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            self._enter(("--net",), ["ip", *line.split()])
        until(lambda: self.listens(22), f"{self.name} accepts ssh (see {self._folder}/init.log)", START_SECONDS)
        world.log.say(f"{self.name} is on, {self.address}")

    def power_off(self) -> None:
        """Ends the host as a power cut does: every process at once."""
        assert self._outer is not None
        with suppress(ProcessLookupError):
            os.kill(self.pid, 9)
        self._outer.wait(timeout=START_SECONDS)
        self._world.log.say(f"{self.name} is off")

    def unplug(self) -> None:
        """Takes the network cable out; the host goes on."""
        self._world.ip(f"link set {self._port} down")
        self._world.log.say(f"{self.name} is unplugged")

    def plug_in(self) -> None:
        """Puts the network cable back."""
        self._world.ip(f"link set {self._port} up")
        self._world.log.say(f"{self.name} is plugged in")

    def run(self, command: str, *, seconds: float, code: int | str = 0, **environment: str) -> str:
        """What a command typed at this host prints, error output last; it must end with ``code`` (a number, ``FAILS``
        for any but 0, or ``ANY``) within ``seconds``."""
        log, started = self._world.log.say, time.monotonic()
        shown = " ".join([f"{self.name}$", *(f"{name}={value}" for name, value in environment.items()), command])
        call = self.command(command, **environment)
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired as late:
            output = b"".join(part for part in (late.stdout, late.stderr) if part)
            log(f"{shown}  [not done after {seconds:.0f} s]", output.decode(errors="replace"))
            raise
        output = done.stdout + done.stderr
        log(f"{shown}  [{time.monotonic() - started:.1f} s, exit {done.returncode}]", output)
        expected = {FAILS: done.returncode != 0, ANY: True}.get(code, done.returncode == code)
        assert expected, f"{shown}\nexit code {done.returncode}, wanted {code}\n{output}"
        return output

    def start(self, command: str, output: Path, **environment: str) -> subprocess.Popen:
        """Starts a command typed at this host; what it prints goes into a file."""
        self._world.log.say(f"{self.name}$ {command} &")
        with output.open("w") as file:
            return subprocess.Popen(self.command(command, **environment), stdout=file, stderr=subprocess.STDOUT)

    def command(self, command: str, **environment: str) -> list[str]:
        """How to run a command at this host, in a fresh environment, from the home folder."""
        fresh = {"HOME": self.home, "USER": "root", "TERM": "dumb", "PATH": f"{Path(sys.executable).parent}:{PATH}"}
        settings = [f"{name}={value}" for name, value in (fresh | self.environment | environment).items()]
        shell = ["env", "-i", *settings, "bash", "-c", f"cd && {command}"]
        return ["nsenter", f"--target={self.pid}", *HOST_SPACES, "--", *shell]

    def processes(self) -> list[str]:
        """The command lines of what runs on the host, sshd and its sessions left out."""
        lines = subprocess.run(
            self.command("ps -eo args="), capture_output=True, text=True, timeout=START_SECONDS, check=True
        ).stdout.splitlines()
        return [line for line in lines if line != "ps -eo args=" and not line.startswith(("sshd:", "/usr/sbin/sshd"))]

    def listens(self, port: int) -> bool:
        """Whether somebody waits for connections to a port of the host (state 0A)."""
        lines = Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)

    def _enter(self, spaces: Sequence[str], command: Sequence[str]) -> None:
        entered = ["nsenter", f"--target={self.pid}", *spaces, "--", *command]
        subprocess.run(entered, check=True, timeout=START_SECONDS, capture_output=True)


class World:
    """A switch with hosts. Made with ``world``.

    Attributes:
        hosts: by name.
        shared: a folder that all hosts see under this path.
    """

    def __init__(self, folder: Path, names: Sequence[str], log: Log, keep: Sequence[Path]) -> None:
        self.folder, self.shared, self.log, self.keep = folder, folder / "shared", log, keep
        self.hosts = {name: Host(self, name, number) for number, name in enumerate(names)}
        self._init: subprocess.Popen | None = None
        self._pid = 0

    def open(self) -> None:
        """Starts the world and powers every host on. Every host lets the key of every host in."""
        self.shared.mkdir()
        (self.folder / "home").mkdir()
        key = self.folder / "key"
        _make_key(key)
        table = "".join(f"{host.address} {host.name}\n" for host in self.hosts.values())
        for host in self.hosts.values():
            folder = self.folder / host.name
            ssh = folder / "home" / ".ssh"
            ssh.mkdir(parents=True)
            (folder / "tmp").mkdir()
            _make_key(folder / "hostkey")
            shutil.copy(key, ssh / "id_ed25519")
            shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
            (ssh / "config").write_text("StrictHostKeyChecking accept-new\nLogLevel ERROR\n")
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{table}")
            (folder / "resolv.conf").touch()
            (folder / "home" / ".bashrc").touch()
        script = "ip link set lo up && ip link add switch type bridge && ip link set switch up && exec cat"
        command = ["unshare", *WORLD_SPACES, *FORK, "bash", "-c", script]
        self._init = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._pid = _child(self._init.pid)
        until(lambda: Path(f"/proc/{self._pid}/comm").read_text() == "cat\n", "the world is there", START_SECONDS)
        for host in self.hosts.values():
            host.power_on()

    def close(self) -> None:
        """Ends every process of the world."""
        if self._init is not None:
            self._init.stdin.close()
            self._init.wait(timeout=START_SECONDS)

    def pids(self) -> set[int]:
        """Every process of the hosts, as this machine numbers them."""
        worlds = {os.readlink(f"/proc/{host.pid}/ns/pid") for host in self.hosts.values()}
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(folder / "ns" / "pid") in worlds:
                    found.add(int(folder.name))
        return found

    def inside(self, spaces: Sequence[str], command: Sequence[str]) -> list[str]:
        """How to run a command in some of the world's namespaces."""
        return ["nsenter", f"--target={self._pid}", *spaces, "--", *command]

    def ip(self, arguments: str) -> None:
        """Runs ``ip`` where the switch is."""
        command = self.inside(("--net",), ["ip", *arguments.split()])
        subprocess.run(command, check=True, timeout=START_SECONDS, capture_output=True)


@contextmanager
def world(folder: Path, names: Sequence[str], log: Log, keep: Sequence[Path] = ()) -> Iterator[World]:
    """Hosts with these names, as long as the context lasts.

    Args:
        folder: an empty folder for their files.
        names: of the hosts.
        log: what is done.
        keep: files outside of ``folder`` that hosts are to see though they lie in /tmp.
    """
    made = World(folder, names, log, keep)
    try:
        made.open()
        yield made
    finally:
        made.close()


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=START_SECONDS, capture_output=True)


def _child(pid: int) -> int:
    """The one child of a process, as soon as it has one."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    until(lambda: file.read_text().split(), f"process {pid} has a child", START_SECONDS)
    return int(file.read_text().split()[0])
