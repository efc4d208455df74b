"""``cluster.yaml`` and ``cluster-onprem.yaml``: what Ray and AWS would make of them, without a network.

Ray's own code reads, completes and checks the files, asks a model of AWS (moto) for nodes, and decides which nodes our
bundles and samplers would start. The commands of a node run in the shell that Ray would use, in a home of their own
whose ``ray``, ``nvidia-smi`` and ``hostname`` only say how they were called.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start

from vaegen_ray.launch.options import parser
from vaegen_ray.service.cluster import resources

ROOT = Path(__file__).resolve().parents[2]
CLOUD, ONPREM = "cluster.yaml", "cluster-onprem.yaml"
ROLES = {resources.TRAINER: resources.TRAINERS_AT_MOST, resources.SAMPLER: resources.SAMPLERS_AT_MOST}
FAKE = f"""#!{sys.executable}
import json, os, sys
names = ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "VAEGEN_STORAGE")
call = {{"args": sys.argv[1:], "env": {{name: os.environ.get(name) for name in names}}}}
open(os.environ["HOME"] + "/calls", "a").write(json.dumps(call) + "\\n")
"""


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def check(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as `ray up` completes it; an error where Ray or our code could not work with it."""
    given = copy.deepcopy(config)
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert len([command for command in prepared[commands] if "ray start" in command]) == 1, commands
    types = given.get("available_node_types")
    if types is None:
        return prepared
    assert sum(each["max_workers"] for each in types.values()) <= prepared["max_workers"], "a bound of all together"
    for name, each in types.items():
        assert each.get("min_workers", 0) <= each["max_workers"], name
        known = {"CPU", "GPU", "memory", *ROLES, *ROLES.values()}
        assert set(each["resources"]) <= known, name
    head = types[given["head_node_type"]]["resources"]
    assert head["CPU"] == 0
    for role, at_most in ROLES.items():
        assert head[at_most] == sum(each["max_workers"] * each["resources"].get(role, 0) for each in types.values())
    return prepared


@pytest.mark.parametrize("name", [CLOUD, ONPREM])
def test_ray_accepts_the_file(name: str) -> None:
    check(read(name))


def put(*path: str, value: Any) -> Callable[[dict], None]:
    def change(config: dict) -> None:
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (put("max_worker", value=12), jsonschema.ValidationError),
        (put("available_node_types", "trainer", "max_nodes", value=8), jsonschema.ValidationError),
        (put("available_node_types", "trainer", "resources", "trainer", value="one"), jsonschema.ValidationError),
        (put("auth", "ssh_key", value="~/.ssh/id"), jsonschema.ValidationError),
        (put("head_node_type", value="boss"), ValueError),
        (put("available_node_types", "trainer", "min_workers", value=2000), ValueError),
        (put("available_node_types", "sampler", "min_workers", value=5), AssertionError),
        (put("available_node_types", "trainer", "max_workers", value=9), AssertionError),
        (put("available_node_types", "sampler", "resources", value={"samplers": 1}), AssertionError),
        (put("available_node_types", "head", "resources", "CPU", value=8), AssertionError),
        (lambda config: config.pop("max_workers"), AssertionError),  # Ray's default is two nodes
        (lambda config: config["available_node_types"]["head"]["resources"].pop("trainers_at_most"), KeyError),
    ],
)
def test_a_faulty_file_is_found(change: Callable[[dict], None], error: type[Exception]) -> None:
    config = read(CLOUD)
    change(config)
    with pytest.raises(error):
        check(config)


def test_all_machines_of_the_onprem_file_are_nodes() -> None:
    (node,) = check(read(ONPREM))["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == len(read(ONPREM)["provider"]["worker_ips"])


@pytest.mark.parametrize(
    "change", [put("available_node_types", value={"gpu": {}}), lambda c: c["provider"].pop("head_ip")]
)
def test_a_faulty_onprem_file_is_found(change: Callable[[dict], None]) -> None:
    config = read(ONPREM)
    change(config)
    with pytest.raises(Exception, match=r"not supported|head_ip"):
        check(config)


# ---- AWS ----


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The cloud file as `ray up` would launch it, in an account where what the file asks for once is there."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    from moto.ec2.models.instance_types import INSTANCE_TYPES
    from ray.autoscaler._private.aws import node_provider

    home = tmp_path_factory.mktemp("laptop")
    config = read(CLOUD)
    region = config["provider"]["region"]
    with pytest.MonkeyPatch.context() as patch, moto.mock_aws():
        patch.setenv("HOME", str(home))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # a thousand images, seconds
        patch.setattr(node_provider, "list_ec2_instances", lambda *_: list(INSTANCE_TYPES.values()))
        ec2 = boto3.client("ec2", region_name=region)
        (network,) = ec2.describe_vpcs()["Vpcs"]
        firewall = ec2.create_security_group(GroupName="vaegen", Description="nodes", VpcId=network["VpcId"])["GroupId"]
        image = ec2.register_image(Name="ubuntu")["ImageId"]
        for name in ("vaegen-head", "vaegen-worker"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        for each in config["available_node_types"].values():
            each["node_config"] |= {"ImageId": image, "SecurityGroupIds": [firewall]}
        groups = ec2.describe_security_groups()["SecurityGroups"]
        full = node_provider.AWSNodeProvider.fillout_available_node_types_resources(prepare_config(config))
        validate_config(full)
        launched = node_provider.AWSNodeProvider.bootstrap_config(full)
        yield SimpleNamespace(
            ec2=ec2,
            config=launched,
            firewall=firewall,
            groups=groups,
            home=home,
            provider=node_provider.AWSNodeProvider(launched["provider"], launched["cluster_name"]),
        )


def test_a_node_offers_as_many_trainers_or_samplers_as_it_has_gpus(aws: SimpleNamespace) -> None:
    for name, each in aws.config["available_node_types"].items():
        offered = sum(each["resources"].get(role, 0) for role in ROLES)
        assert offered == each["resources"].get("GPU", 0), name
        assert (offered == 0) == (name == aws.config["head_node_type"])


def test_aws_takes_the_nodes_as_they_are_declared(aws: SimpleNamespace) -> None:
    for name, each in aws.config["available_node_types"].items():
        tags = {"ray-node-type": "worker", "ray-launch-config": name, "ray-user-node-type": name}
        (node,) = aws.provider.create_node(each["node_config"], tags, 1)
        (found,) = aws.ec2.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"]
        assert found["InstanceType"] == each["node_config"]["InstanceType"]
        assert (found.get("InstanceLifecycle") == "spot") == (name != "head"), "the head must stay, others may go"
        assert [group["GroupId"] for group in found["SecurityGroups"]] == [aws.firewall]
        assert each["node_config"]["IamInstanceProfile"]["Name"] == (
            "vaegen-head" if name == "head" else "vaegen-worker"
        )


def test_ray_opens_no_port_of_the_account(aws: SimpleNamespace) -> None:
    assert aws.ec2.describe_security_groups()["SecurityGroups"] == aws.groups
    assert "0.0.0.0" not in (ROOT / CLOUD).read_text() + (ROOT / ONPREM).read_text()


def test_ray_makes_the_key_for_its_owner_alone(aws: SimpleNamespace) -> None:
    key = Path(aws.config["auth"]["ssh_private_key"])
    assert key == aws.home / ".ssh" / f"{read(CLOUD)['provider']['key_pair']['key_name']}.pem"
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def launches(aws: SimpleNamespace) -> Callable[[list[dict[str, float]]], dict[str, int]]:
    """Which nodes Ray's autoscaler starts when this is asked for and only the head is there."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    settings = AutoscalingConfig(copy.deepcopy(aws.config), skip_content_hash=True)

    def launches(demands: list[dict[str, float]]) -> dict[str, int]:
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=settings.get_node_type_configs(),
            max_num_nodes=settings.get_max_num_nodes(),
            resource_requests=[ResourceRequestByCount(request=ResourceRequestUtil.make(d), count=1) for d in demands],
        )
        reply = ResourceDemandScheduler(None).schedule(request)
        return {each.instance_type: each.count for each in reply.to_launch}

    return launches


def demand(options: dict[str, Any]) -> dict[str, float]:
    """What an actor with these options asks the cluster for."""
    return {"CPU": options.get("num_cpus", 1), "GPU": options["num_gpus"], **options["resources"]}


def test_work_starts_the_nodes_that_are_kept_for_it(
    launches: Callable[[list[dict[str, float]]], dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "has_nodes_for", lambda role: True)
    bundle = resources.build_bundle_resources(use_gpu=True, beside_samplers=True)
    sampler = demand(resources.build_sampler_options(use_gpu=True))
    training = demand(resources.build_diffusion_options(use_gpu=True, one_core=False))
    head = read(CLOUD)["available_node_types"]["head"]["resources"]
    assert launches([]) == {}
    assert launches([bundle] * 3) == {"trainer": 3}
    assert launches([training]) == {"sampler": 1}
    assert launches([sampler] * 2 + [bundle]) == {"sampler": 2, "trainer": 1}
    assert launches([bundle] * 100 + [sampler] * 100) == {
        "trainer": head[resources.TRAINERS_AT_MOST],
        "sampler": head[resources.SAMPLERS_AT_MOST],
    }


# ---- Nodes ----


class Node:
    """A home with the mounted files, and a shell as Ray uses it."""

    def __init__(self, home: Path, config: dict[str, Any]) -> None:
        self.home = home
        self.tool("ray", FAKE)
        self.tool("python3", "#!/bin/sh\n")  # has ensurepip
        self.tool("sudo", "#!/bin/sh\necho no sudo in a test >&2; exit 1\n")
        for remote, local in config["file_mounts"].items():
            target = home / remote.removeprefix("~/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if local.startswith("~"):
                target.write_text("secret")
            elif (ROOT / local).is_dir():
                shutil.copytree(ROOT / local, target, ignore=shutil.ignore_patterns(*config["rsync_exclude"]))
            else:
                shutil.copy(ROOT / local, target)

    def tool(self, name: str, script: str) -> None:
        path = self.home / "venv" / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def run(self, command: str) -> str:
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.10"}
        done = subprocess.run(
            ["bash", "-c", " ".join(_with_interactive(f"export RAY_USAGE_STATS_ENABLED=1; {command}"))],
            env=environment, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def calls(self, commands: list[str]) -> list[dict[str, Any]]:
        """How the tools were called by these commands."""
        written = self.home / "calls"
        written.unlink(missing_ok=True)
        for command in commands:
            self.run(command)
        return [json.loads(line) for line in written.read_text().splitlines()]

    def start(self, commands: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """The options and the environment of `ray start`, as Ray's command line understands them."""
        stop, call = self.calls(commands)
        assert stop["args"] == ["stop"] and call["args"][0] == "start"
        return ray_start.make_context("start", call["args"][1:]).params, call["env"]


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Node, dict[str, Any]]:
    config = check(read(request.param))
    made = Node(tmp_path_factory.mktemp("home"), config)
    made.tool("pip", FAKE)
    (call,) = made.calls(config["head_setup_commands"])
    assert call["args"][0] == "install"
    return made, config


both = pytest.mark.parametrize("node", [CLOUD, ONPREM], indirect=True)
onprem = pytest.mark.parametrize("node", [ONPREM], indirect=True)


@both
def test_head(node: tuple[Node, dict[str, Any]]) -> None:
    made, config = node
    options, environment = made.start(config["head_start_ray_commands"])
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0", "whatever the laptop's setting, which Ray exports before"
    assert environment["VAEGEN_STORAGE"] in (made.home / ".vaegen_ray.sh").read_text()
    assert options["head"] and options["port"] == 6379 and options["dashboard_host"] == "127.0.0.1"
    assert options["autoscaling_config"].endswith("/ray_bootstrap_config.yaml")
    if config["provider"]["type"] == "local":
        assert options["num_cpus"] == options["num_gpus"] == 0


@both
def test_worker(node: tuple[Node, dict[str, Any]]) -> None:
    made, config = node
    made.tool("hostname", "#!/bin/sh\necho 10.0.0.11\n")
    made.tool("nvidia-smi", "#!/bin/sh\necho GPU 0: one; echo GPU 1: another\n")
    options, environment = made.start(config["worker_start_ray_commands"])
    assert environment["RAY_AUTH_MODE"] == "token" and environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert options["address"] == "10.0.0.10:6379" and not options["head"]
    if config["provider"]["type"] == "local":
        assert json.loads(options["resources"]) == {resources.TRAINER: 2}
    else:
        assert options["resources"] == "{}", "Ray passes the resources of the node type by itself"


@onprem
@pytest.mark.parametrize(("address", "role"), [("10.0.0.13", resources.SAMPLER), ("10.0.0.130", resources.TRAINER)])
def test_onprem_machines_have_the_role_of_their_address(
    node: tuple[Node, dict[str, Any]], address: str, role: str
) -> None:
    made, config = node
    made.tool("hostname", f"#!/bin/sh\necho 172.17.0.1 {address} ''\n")
    made.tool("nvidia-smi", "#!/bin/sh\nexit 9\n")
    options, _ = made.start(config["worker_start_ray_commands"])
    assert json.loads(options["resources"]) == {role: os.cpu_count()}


@both
def test_ports_are_fixed_and_each_has_one_use(node: tuple[Node, dict[str, Any]]) -> None:
    made, config = node
    options, _ = made.start(config["head_start_ray_commands"])
    worker, _ = made.start(config["worker_start_ray_commands"])
    names = [name for name in worker if name.endswith("port") and not name.startswith(("ray_client", "redis"))]
    nodes = [name for name in names if name not in ("port", "dashboard_port")]
    assert all(options[name] and options[name] == worker[name] for name in nodes)
    ports = [options[name] for name in names]
    assert len(set(ports)) == len(ports)
    taken = range(options["min_worker_port"], options["max_worker_port"] + 1)
    assert [port for port in ports if port in taken] == [taken[0], taken[-1]]
    text = (ROOT / (CLOUD if config["provider"]["type"] == "aws" else ONPREM)).read_text()
    comment = set(re.findall(r"\d{4,5}", " ".join(line for line in text.splitlines() if line.startswith("# "))))
    assert {str(port) for port in ports} <= comment, "the comment names all of them"


@both
def test_the_token_is_for_its_owner_alone(node: tuple[Node, dict[str, Any]]) -> None:
    assert (node[0].home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@both
def test_setting_up_twice_changes_nothing(node: tuple[Node, dict[str, Any]]) -> None:
    made, config = node
    files = [made.home / name for name in (".bashrc", ".vaegen_ray.sh")]
    before = [file.read_text() for file in files]
    for command in config["head_setup_commands"]:
        made.run(command)
    assert [file.read_text() for file in files] == before


def test_the_mounted_files_are_enough_to_install(tmp_path: Path) -> None:
    config = check(read(CLOUD))
    (install,) = [command for command in config["setup_commands"] if "pip install" in command]
    assert install in read(ONPREM)["setup_commands"] and config["file_mounts"] == read(ONPREM)["file_mounts"]
    made = Node(tmp_path, config)
    options = "--dry-run --no-deps --no-index --no-build-isolation --disable-pip-version-check"
    made.tool("pip", f'#!/bin/sh\nshift\nexec {sys.executable} -m pip install {options} "$@"\n')
    assert "Would install vaegen-ray" in made.run(install.replace(" -q", ""))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"\.\[([a-z,]+)\]", install)
    assert set(wanted.split(",")) <= set(extras)
    needed = " ".join(extras["cluster"])
    assert "boto3" in needed and "ray[default" in needed, "what `ray up`, jobs and the head's autoscaler import"


def test_the_storage_of_the_cluster_is_where_sweeps_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEGEN_STORAGE", "s3://bucket/results")
    assert parser("").parse_args([]).storage == "s3://bucket/results"
    monkeypatch.delenv("VAEGEN_STORAGE")
    assert parser("").parse_args([]).storage == "results"
