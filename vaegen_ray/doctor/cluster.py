"""The nodes of a cluster, for ``vaegen doctor``: each looks at itself, and what only several machines can have wrong.

A task is bound to its node, takes no CPU (so that it runs beside a sweep) and carries what it does with it: the node
need not have vaegen_ray, nor the driver's version of it.
"""

import json
import logging
import time
import urllib.request
import uuid
from contextlib import suppress
from typing import Any

from vaegen_ray.doctor import facts as node_facts
from vaegen_ray.doctor.checks import Check, Place, clocks, machine_checks, roles
from vaegen_ray.doctor.probe import IMPORT_SECONDS, STORAGE_SECONDS, Report, source, untouched, within
from vaegen_ray.errors import StorageError, VaegenError

NODE_SECONDS = IMPORT_SECONDS + 60.0
"""How long nodes may take to start a worker and to look at themselves."""
CLOCK_SECONDS = 20.0
"""How long a node may take to tell the time."""
CLOCK_TRIES = 3
"""Times that a node is asked for the time; the quickest answer tells it best."""
DASHBOARD_SECONDS = 5.0
"""How long the dashboard may take to answer."""

ANSWER = "answer"
"""The check that fails alone for a node that does not answer."""

Node = dict[str, Any]
"""What ``ray.nodes`` says of one."""


def check_cluster(address: str, here: Place, storage: str | None, report: Report) -> None:
    """Checks a cluster and each of its nodes.

    Args:
        address: where it is.
        here: the machine of the driver, which nodes are compared with.
        storage: the place that all nodes must see; None when the driver cannot use it itself.
        report: where checks go.
    """
    try:
        from vaegen_ray.service.cluster import connect

        connect.connect(address)
    except (VaegenError, ImportError) as error:
        report.tell([Check("cluster", "FAIL", str(error), "look on its head: ray status")])
        return
    try:
        import ray

        nodes = named(ray.nodes())
        count = f"all {len(nodes)} nodes" if len(nodes) > 1 else "the node"
        report.tell([Check("cluster", "ok", f"{address} takes this driver; nodes: {', '.join(nodes)}")])
        report.tell([*roles({name: node["Resources"] for name, node in nodes.items()}), _dashboard()])
        found = [(check, name) for name, checks in _look(nodes, here, storage).items() for check in checks]
        topics = list(dict.fromkeys(check.name for check, _ in found))
        for topic in topics:  # equal lines of several nodes are one
            for check in dict.fromkeys(check for check, _ in found if check.name == topic):
                who = [name for each, name in found if each == check]
                report.tell([check], f" on {count if len(who) == len(nodes) else ', '.join(who)}")
        silent = {name for check, name in found if check.name == ANSWER}
        report.tell([clocks(_offsets({name: node for name, node in nodes.items() if name not in silent}))])
    finally:
        connect.disconnect()


def named(nodes: list[Node]) -> dict[str, Node]:
    """Nodes that are alive by their address; with a part of their id where several share one."""
    alive = [node for node in nodes if node["Alive"]]
    addresses = [node["NodeManagerAddress"] for node in alive]
    return {
        address if addresses.count(address) == 1 else f"{address} ({node['NodeID'][:6]})": node
        for address, node in zip(addresses, alive, strict=True)
    }


def _bound_to(node: Node) -> dict[str, Any]:
    """Ray's options of a task that runs on this node, or nowhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}


def _look(nodes: dict[str, Node], here: Place, location: str | None) -> dict[str, list[Check]]:
    """The checks of all nodes, which look at the same time."""
    from vaegen_ray.results.storage import Storage

    if location is None:
        return _ask(nodes, here, {})
    storage = Storage.open(location, create=False)
    question = f".doctor-{uuid.uuid4().hex}"
    names = {name: f"{question}-{node['NodeID']}" for name, node in nodes.items()}
    place = storage.root if storage.is_local else location  # a relative path means another folder there
    with untouched(storage):
        storage.write(question, b"written by the driver")
        try:
            asked = {name: {"storage": place, "question": question, "answer": names[name]} for name in nodes}
            return _ask(nodes, here, asked)
        finally:
            for each in (question, *names.values()):
                storage.delete(each)


def _ask(nodes: dict[str, Node], here: Place, questions: dict[str, dict[str, str]]) -> dict[str, list[Check]]:
    import ray
    from ray.exceptions import RayError

    from vaegen_ray.service.cluster.connect import describe_error

    text = source()
    ray.cloudpickle.register_pickle_by_value(node_facts)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(node_facts.ask)
        tasks = {
            task.options(**_bound_to(node)).remote(
                text, {"all_gpus": True, **questions.get(name, {})}, IMPORT_SECONDS
            ): name
            for name, node in nodes.items()
        }
    finally:
        ray.cloudpickle.unregister_pickle_by_value(node_facts)
    ready, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=NODE_SECONDS)
    checks: dict[str, list[Check]] = {}
    for ref, name in tasks.items():
        try:
            place = place_of(nodes[name], ray.get(ref, timeout=0))
        except RayError as error:
            ray.cancel(ref, force=True)
            said = describe_error(error) if ref in ready else f"none within {NODE_SECONDS:.0f} s"
            advice = "see why no worker starts: raylet.out and worker-*.err in /tmp/ray/session_latest/logs there"
            checks[name] = [Check(ANSWER, "FAIL", said, advice)]
            continue
        checks[name] = list(machine_checks(place, here))
        if name in questions:
            checks[name].append(shared(place, questions[name]["answer"], questions[name]["storage"]))
    return checks


def place_of(node: Node, facts: dict[str, Any]) -> Place:
    """A node, by what it found and what Ray counts there."""
    from vaegen_ray.service.cluster.resources import SAMPLER, TRAINER

    counted = node["Resources"]
    most = counted.get(TRAINER) or counted.get(SAMPLER) or counted.get("GPU") or counted.get("CPU") or 0
    return Place(
        facts=facts,
        slots=int(most),
        gpus=int(counted.get("GPU", 0)),
        store=int(counted.get("object_store_memory", 0)),
        is_node=True,
    )


def shared(place: Place, answer: str, location: str) -> Check:
    """Whether a node reads what the driver wrote to the storage, and the driver what the node wrote."""
    from vaegen_ray.results.storage import Storage

    found, name = place.part("storage"), "shared storage"
    advice = "give all nodes one place: a folder that each of them mounts (NFS), s3:// or gs://"
    storage = Storage.open(location, create=False)
    where = storage.where()
    if "error" in found:
        return Check(name, "FAIL", found["error"], advice)
    if not found["shared"]:
        return Check(name, "FAIL", f"a file that the driver wrote to {where} is not there", advice)
    try:
        if not within(STORAGE_SECONDS, lambda: storage.exists(answer)):
            return Check(name, "FAIL", f"the driver does not see a file that it wrote to {where}", advice)
    except (StorageError, TimeoutError) as error:
        return Check(name, "FAIL", str(error) or f"{where} does not answer", advice)
    return Check(name, "ok", f"{where}: reads what the driver writes, and the other way")


def _offsets(nodes: dict[str, Node]) -> dict[str, tuple[float, float]]:
    """By node, seconds that its clock is ahead of this one, and how exactly that is known."""
    import ray
    from ray.exceptions import RayError

    tell = ray.remote(num_cpus=0, max_retries=0)(lambda: time.time())
    offsets = {}
    for name, node in nodes.items():
        measured = []
        with suppress(RayError):  # lost since it answered
            for _ in range(CLOCK_TRIES):
                before = time.time()
                there = ray.get(tell.options(**_bound_to(node)).remote(), timeout=CLOCK_SECONDS)
                after = time.time()
                measured.append((there - (before + after) / 2, (after - before) / 2))
        if measured:
            offsets[name] = min(measured, key=lambda each: each[1])
    return offsets


def _dashboard() -> Check:
    """Whether Ray's own dashboard can be seen from here."""
    import ray

    context: Any = ray.init(ignore_reinit_error=True, logging_level=logging.ERROR)
    url = context.address_info["webui_url"]
    if not url:
        return Check("Ray's dashboard", "ok", "none was started (it comes with ray[default])")
    port = url.rpartition(":")[2]
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{url}/api/authentication_mode", timeout=DASHBOARD_SECONDS) as answer:
            mode = json.load(answer)["authentication_mode"]
    except (OSError, ValueError, KeyError) as error:
        advice = f"forward its port: ssh -L {port}:127.0.0.1:{port} HEAD"
        return Check("Ray's dashboard", "warn", f"http://{url} does not answer here: {error}", advice)
    return Check("Ray's dashboard", "ok", f"http://{url}, authentication: {mode}")
