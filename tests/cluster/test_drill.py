"""The drill: `ray up` of ``cluster-onprem.yaml`` from a laptop on a head and two workers, sweeps by `ray job submit`, a
host that loses its power, one that loses its network, the end. Each host is one of ``hosts.py`` on this machine.

The tests are the steps of one drill, in this order. What is done, and what came of it, is written to a log, whose path
is printed. The hosts see the files of this machine and need no installation: of the cluster's file, the two commands
that install are left out, and the addresses, user, folder and environment are put in.
"""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import hosts

pytestmark = pytest.mark.drill
ROOT = Path(__file__).resolve().parents[2]
WORKERS = ("worker1", "worker2")
NODES = 1 + len(WORKERS)
SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_UP_enable_autoscaler_v2": "0"}
PRETTY = "--log-style=pretty --log-color=false"
HTTP = "http://127.0.0.1:8265"
SOON, LONG = 120.0, 600.0
"""Longest waits, in seconds, for what takes seconds or a minute on a machine with nothing else to do."""
TRIES = 4
"""Times that `ray up` may be typed: Ray gives the agents of a node 15 seconds to start, whatever else goes on."""


class Cluster:
    """The hosts with Ray on them, and what one types at the laptop."""

    def __init__(self, world: hosts.World) -> None:
        self.world, self.hosts, self.shared = world, world.hosts, world.shared
        self.laptop, self.head = world.hosts["laptop"], world.hosts["head"]
        self.laptop.environment = SETTINGS
        self.file = self.shared / "cluster.yaml"
        self.results = self.shared / "results"

    def up(self) -> None:
        """Starts it as the file says."""
        config = self._config()
        self.file.write_text(yaml.safe_dump(config, width=1000, sort_keys=False))
        self.type("ray get-auth-token --generate > /dev/null 2>&1 && chmod 600 ~/.ray/auth_token")
        for _ in range(TRIES):
            out = self.type(f"ray up {PRETTY} -y {self.file}", seconds=LONG, code=hosts.ANY)
            if "New status: up-to-date" in out:
                break
        by_hand = "; ".join([f". ~/.bashrc; RAY_HEAD_IP={self.head.address}", *config["worker_start_ray_commands"]])
        for name in WORKERS:
            for _ in range(TRIES):  # Ray itself does not try a second time
                if self._ray_starts(name):
                    break
                self.hosts[name].run(by_hand, seconds=LONG, code=hosts.ANY)
        assert self.nodes_come()
        assert f" {NODES} local.cluster.node" in self.type(f"ray exec {PRETTY} {self.file} 'ray status'")
        self.laptop.start(f"ray dashboard {self.file}", self.shared / "dashboard.log")
        hosts.until(lambda: self.laptop.listens(8265), "the dashboard is forwarded", SOON)

    def type(self, command: str, *, seconds: float = SOON, code: int | str = 0) -> str:
        """Types a command at the laptop, in the folder of the repository."""
        return self.laptop.run(f"cd {ROOT}; {command}", seconds=seconds, code=code)

    def submit(self, folder: Path, command: str) -> str:
        """Runs a command of a folder on the cluster; what it printed."""
        return self.type(f"ray job submit --address {HTTP} --working-dir {folder} -- {command}", seconds=LONG)

    def nodes_come(self) -> bool:
        """Whether the head and all workers are there soon."""
        look = f"ssh root@{self.head.address} '. ~/.vaegen_ray.sh; ray status'"
        there = f" {NODES} local.cluster.node"
        if not all(self._ray_starts(name) for name in WORKERS):  # `ray status` takes seconds of a core
            return False
        hosts.until(lambda: there in self.type(look, code=hosts.ANY), f"{NODES} nodes are there", SOON, every=5.0)
        return True

    def _ray_starts(self, name: str) -> bool:
        """Whether Ray is soon started on a host, agents and all."""

        def started() -> bool:
            running = self.hosts[name].processes()
            return any("/raylet " in each for each in running) and not any("ray start" in each for each in running)

        try:
            hosts.until(started, f"Ray is started on {name}", SOON, every=1.0)
        except TimeoutError as late:
            self.world.log.say(str(late))
            return False
        return True

    def _config(self) -> dict:
        config = yaml.safe_load((ROOT / "cluster-onprem.yaml").read_text())
        workers = [self.hosts[name].address for name in WORKERS]
        config["provider"] |= {"head_ip": self.head.address, "worker_ips": workers}
        config["auth"]["ssh_user"] = "root"
        setup = [each for each in config["setup_commands"] if "pip" not in each]
        assert len(setup) == len(config["setup_commands"]) - 2, "the two commands that install"
        config["setup_commands"] = setup
        texts = {
            "/nfs/vaegen_ray/results": str(self.results),
            "$HOME/venv/bin": str(Path(sys.executable).parent),
            'VAEGEN_SAMPLER_IPS="10.0.0.13"': 'VAEGEN_SAMPLER_IPS=""',
            "$(getconf _NPROCESSORS_ONLN)": "1",  # the hosts share the cores of this machine
        }
        for key in ("setup_commands", "head_setup_commands", "worker_start_ray_commands"):
            for old, new in texts.items():
                config[key] = [each.replace(old, new) for each in config[key]]
        assert not [old for old in texts if old in str(config)], "other places to change"
        return config


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if reason := hosts.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("drill")
    log = hosts.Log(folder / "drill.log")
    request.config.pluginmanager.getplugin("terminalreporter").write_line(f"log: {log.path}")
    with hosts.world(folder, ("laptop", "head", *WORKERS), log, keep=[ROOT]) as world:
        cluster = Cluster(world)
        cluster.up()
        yield cluster


def test_a_sweep_on_the_workers_has_the_rows_of_one_machine(cluster: Cluster, assert_same_rows: Any) -> None:
    # With a bundle size, bundles do not depend on how many devices there are.
    command = "python double_descent.py --preset smoke --epochs 100 --bundle-size 1"
    out = cluster.submit(ROOT / "sweeps", command)  # a job knows its cluster; the storage is that of the cluster's file
    assert "12/12 VAEs of double_descent" in out
    alone = cluster.shared / "alone"
    cluster.type(f"cd sweeps && {command} --storage {alone}", seconds=LONG)
    assert_same_rows(cluster.results / "double_descent", alone / "double_descent")
    trials = [pd.read_parquet(path) for path in (cluster.results / "double_descent/trials").glob("*.parquet")]
    assert set(pd.concat(trials)["node"]) == set(WORKERS)


def test_the_doctor_finds_every_node_sound(cluster: Cluster) -> None:
    out = cluster.type(f"ray exec {PRETTY} {cluster.file} 'vaegen doctor --address auto'", seconds=LONG)
    assert all(f"{host.address}" in out for name, host in cluster.hosts.items() if name != "laptop"), out
    assert f"all {NODES} nodes" in out and " 0 FAIL" in out, out


@pytest.mark.parametrize(
    "token", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}]
)
def test_without_the_token_everything_is_refused(token: dict[str, str], cluster: Cluster) -> None:
    gcs = f"{cluster.head.address}:6379"
    join = f"python -c {shlex.quote(f'import ray; ray.init({gcs!r}); print(len(ray.nodes()))')}"
    worker = cluster.hosts[WORKERS[0]]  # ray.init wants a node of the cluster on the same host
    assert str(NODES) in worker.run(join, seconds=SOON, **SETTINGS).split(), "with the token it can"
    worker.run(join, seconds=SOON, code=hosts.FAILS, **token)
    output = cluster.laptop.run(f"ray status --address {gcs}", seconds=SOON, code=hosts.FAILS, **token)
    assert "nauthenticated" in output or "InvalidAuthToken" in output
    output = cluster.laptop.run(f"ray job submit --address {HTTP} -- hostname", seconds=SOON, code=hosts.FAILS, **token)
    assert "uthentication" in output
    assert "401" in cluster.laptop.run(f"curl -si {HTTP}/api/jobs/ | head -1", seconds=SOON, **token)
    sweep = f"python {ROOT}/sweeps/double_descent.py --preset smoke --address {gcs} --storage {cluster.shared}/none"
    output = worker.run(sweep, seconds=SOON, code=2, **token)
    assert output.startswith("error: ") and "token" in output and output.count("\n") == 1, output


def start_pausing(cluster: Cluster, name: str, count: int) -> tuple[Path, Path, str]:
    """A folder for results, one for markers, and the command of a sweep that pauses at the ``count``-th commit."""
    storage, markers = cluster.shared / name, cluster.shared / f"{name}-markers"
    markers.mkdir()
    return storage, markers, f"python pausing_sweep.py {count} {markers} --bundle-size 2 --storage {storage}"


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Path:
    """Results of the pausing sweep on one machine, where nobody pauses."""
    storage, _, command = start_pausing(cluster, "undisturbed", 0)
    cluster.type(f"cd tests/cluster && {command}", seconds=LONG)
    return storage


class Job:
    """A pausing sweep on the cluster, which has come to its pause."""

    def __init__(self, cluster: Cluster, name: str, count: int) -> None:
        self._cluster, self._name = cluster, name
        self.storage, self.markers, command = start_pausing(cluster, name, count)
        self.id = f"drill-{name}"
        submit = f"ray job submit --address {HTTP} --no-wait --submission-id {self.id} --working-dir tests/cluster"
        cluster.type(f"{submit} -- {command} --address auto")
        paused = self.markers / "paused"
        hosts.until(paused.exists, f"a worker of {self.id} pauses", LONG)
        self.paused = cluster.hosts[paused.read_text()]
        cluster.world.log.say(f"a worker of {self.id} pauses on {self.paused.name}, at commit {count}")

    def on(self, what: str) -> dict[str, set[str]]:
        """The hosts on which each bundle ``began`` or was ``committed``."""
        found: dict[str, set[str]] = {}
        for path in self.markers.glob(f"*-{what}-on-*"):
            bundle, _, host = path.name.partition(f"-{what}-on-")
            found.setdefault(bundle, set()).add(host)
        return found

    def finish(self) -> str:
        """What the driver printed; it succeeds."""
        end = f"ray job logs --address {HTTP} --follow {self.id}"
        out = self._cluster.type(end, seconds=LONG)
        status = self._cluster.type(f"ray job status --address {HTTP} {self.id}")
        assert "SUCCEEDED" in status or "succeeded" in status, out + status
        return out


def test_a_host_that_loses_its_power_changes_no_row(cluster: Cluster, undisturbed: Path, assert_same_rows: Any) -> None:
    job = Job(cluster, "power", 2)
    lost = job.paused
    assert job.on("committed"), "the first rows are there"
    lost.power_off()
    out = job.finish()
    assert "a worker with 2 VAEs was lost; the bundle goes on from its last checkpoint" in out
    assert_same_rows(job.storage / "pausing", undisturbed / "pausing")
    lost.power_on()
    assert cluster.nodes_come(), "the head starts Ray there again"


def test_a_host_that_loses_its_network_changes_no_row_though_it_writes_too(
    cluster: Cluster, undisturbed: Path, assert_same_rows: Any
) -> None:
    job = Job(cluster, "network", 1)
    lost = job.paused
    (other,) = set(WORKERS) - {lost.name}
    bundles = {bundle for bundle, where in job.on("began").items() if where == {lost.name}}
    lost.unplug()
    hosts.until(lambda: any(other in job.on("began")[each] for each in bundles), "a bundle began again", LONG)
    hosts.until(lambda: any(other in job.on("committed").get(each, ()) for each in bundles), "it is committed", LONG)
    (job.markers / "go").touch()
    hosts.until(lambda: {lost.name, other} in job.on("committed").values(), "both have committed a bundle", SOON)
    cluster.world.log.say(f"committed on: {job.on('committed')}")
    out = job.finish()
    assert "a worker with 2 VAEs was lost" in out
    assert_same_rows(job.storage / "pausing", undisturbed / "pausing")
    lost.plug_in()
    assert cluster.nodes_come(), "the head starts Ray there again"


def test_the_end_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.laptop.run("pkill -f 8265:localhost:826[5]", seconds=SOON)  # the dashboard's ssh; sees this host alone
    cluster.type(f"ray down {PRETTY} -y {cluster.file}")
    for name in WORKERS:
        cluster.type(f"ssh root@{cluster.hosts[name].address} '. ~/.vaegen_ray.sh; ray stop'")
    for host in cluster.hosts.values():
        hosts.until(lambda host=host: not host.processes(), f"nothing runs on {host.name}", SOON)
        cluster.world.log.say(f"nothing runs on {host.name}")
    pids = cluster.world.pids()
    assert len(pids) >= len(cluster.hosts), "their sshds"
    cluster.world.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    cluster.world.log.say("no process of the hosts is left")
