"""Checks the nodes of a cluster: each collects its own facts, and what only several machines can have wrong.

A task is bound to its node, takes no CPU (so that it runs beside a sweep) and carries its code with it: the node need
not have vaegen_ray, nor the driver's version of it.
"""

import json
import logging
import time
import urllib.request
import uuid
from contextlib import suppress
from typing import Any

from vaegen_ray.doctor import facts
from vaegen_ray.doctor.checks import Check, NodeFacts, check_clocks, check_machine, check_roles
from vaegen_ray.doctor.probe import (
    IMPORT_SECONDS,
    STORAGE_SECONDS,
    Report,
    leaving_no_folders,
    read_source,
    with_timeout,
)
from vaegen_ray.errors import StorageError, VaegenError

NODE_SECONDS = IMPORT_SECONDS + 60.0
"""How long nodes may take to start a worker and to collect their facts."""
CLOCK_SECONDS = 20.0
"""How long a node may take to answer with its time."""
CLOCK_TRIES = 3
"""Times that a node is asked for its time; the quickest answer is the most exact one."""
DASHBOARD_SECONDS = 5.0
"""How long the dashboard may take to answer."""

ANSWER = "answer"
"""The only check of a node that does not answer."""

Node = dict[str, Any]
"""A node as ``ray.nodes`` describes it."""


def check_cluster(address: str, driver: NodeFacts, storage: str | None, report: Report) -> None:
    """Checks a cluster and each of its nodes.

    Args:
        address: of the cluster.
        driver: the machine of the driver, which nodes are compared with.
        storage: the storage that all nodes must share; None when the driver itself cannot use it.
        report: where checks go.
    """
    try:
        from vaegen_ray.service.cluster import connect

        connect.connect(address)
    except (VaegenError, ImportError) as error:
        report.add([Check("cluster", "FAIL", str(error), "look on its head: ray status")])
        return
    try:
        import ray

        nodes = name_nodes(ray.nodes())
        report.add([Check("cluster", "ok", f"{address} takes this driver; nodes: {', '.join(nodes)}")])
        report.add([*check_roles({name: node["Resources"] for name, node in nodes.items()}), _check_dashboard()])
        results = [(check, name) for name, checks in _check_nodes(nodes, driver, storage).items() for check in checks]
        every = f"all {len(nodes)} nodes" if len(nodes) > 1 else "the node"
        for topic in dict.fromkeys(check.name for check, _ in results):  # equal lines of several nodes are one
            for check in dict.fromkeys(check for check, _ in results if check.name == topic):
                names = [name for each, name in results if each == check]
                report.add([check], f" on {every if len(names) == len(nodes) else ', '.join(names)}")
        silent = {name for check, name in results if check.name == ANSWER}
        offsets = _measure_clocks({name: node for name, node in nodes.items() if name not in silent})
        report.add([check_clocks(offsets)])
    finally:
        connect.disconnect()


def name_nodes(nodes: list[Node]) -> dict[str, Node]:
    """Nodes that are alive by their address; with a part of their id where several share one."""
    alive = [node for node in nodes if node["Alive"]]
    addresses = [node["NodeManagerAddress"] for node in alive]
    return {
        address if addresses.count(address) == 1 else f"{address} ({node['NodeID'][:6]})": node
        for address, node in zip(addresses, alive, strict=True)
    }


def _bind_to(node: Node) -> dict[str, Any]:
    """Ray's options of a task that runs on this node, or nowhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}


def _check_nodes(nodes: dict[str, Node], driver: NodeFacts, location: str | None) -> dict[str, list[Check]]:
    """The checks of all nodes, which run at the same time."""
    from vaegen_ray.results.storage import Storage

    if location is None:
        return _collect(nodes, driver, {})
    storage = Storage.open(location, create=False)
    question = f".doctor-{uuid.uuid4().hex}"
    answers = {name: f"{question}-{node['NodeID']}" for name, node in nodes.items()}
    path = storage.root if storage.is_local else location  # a relative path is another folder there
    with leaving_no_folders(storage):
        storage.write(question, b"written by the driver")
        try:
            questions = {name: {"storage": path, "question": question, "answer": answers[name]} for name in nodes}
            return _collect(nodes, driver, questions)
        finally:
            for file in (question, *answers.values()):
                storage.delete(file)


def _collect(nodes: dict[str, Node], driver: NodeFacts, questions: dict[str, dict[str, str]]) -> dict[str, list[Check]]:
    import ray
    from ray.exceptions import RayError

    from vaegen_ray.service.cluster.connect import describe_error

    source = read_source()
    ray.cloudpickle.register_pickle_by_value(facts)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(facts.collect)
        answers = {
            name: task.options(**_bind_to(node)).remote(
                source, {"all_gpus": True, **questions.get(name, {})}, IMPORT_SECONDS
            )
            for name, node in nodes.items()
        }
    finally:
        ray.cloudpickle.unregister_pickle_by_value(facts)
    ready, _ = ray.wait(list(answers.values()), num_returns=len(answers), timeout=NODE_SECONDS)
    checks: dict[str, list[Check]] = {}
    for name, answer in answers.items():
        try:
            node = _build_facts(nodes[name], ray.get(answer, timeout=0))
        except RayError as error:
            ray.cancel(answer, force=True)
            value = describe_error(error) if answer in ready else f"none within {NODE_SECONDS:.0f} s"
            advice = "see why no worker starts: raylet.out and worker-*.err in /tmp/ray/session_latest/logs there"
            checks[name] = [Check(ANSWER, "FAIL", value, advice)]
            continue
        checks[name] = list(check_machine(node, driver))
        if name in questions:
            checks[name].append(check_sharing(node, questions[name]["answer"], questions[name]["storage"]))
    return checks


def _build_facts(node: Node, parts: dict[str, Any]) -> NodeFacts:
    from vaegen_ray.service.cluster.resources import SAMPLER, TRAINER

    counts = node["Resources"]
    slots = counts.get(TRAINER) or counts.get(SAMPLER) or counts.get("GPU") or counts.get("CPU") or 0
    return NodeFacts(
        facts=parts,
        slots=int(slots),
        gpus=int(counts.get("GPU", 0)),
        store=int(counts.get("object_store_memory", 0)),
        is_node=True,
    )


def check_sharing(node: NodeFacts, answer: str, location: str) -> Check:
    """Whether a node reads what the driver wrote to the storage, and the driver what the node wrote."""
    from vaegen_ray.results.storage import Storage

    facts_there, name = node.part("storage"), "shared storage"
    advice = "give all nodes one place: a folder that each of them mounts (NFS), s3:// or gs://"
    storage = Storage.open(location, create=False)
    where = storage.where()
    if "error" in facts_there:
        return Check(name, "FAIL", facts_there["error"], advice)
    if not facts_there["shared"]:
        return Check(name, "FAIL", f"a file that the driver wrote to {where} is not there", advice)
    try:
        if not with_timeout(STORAGE_SECONDS, lambda: storage.exists(answer)):
            return Check(name, "FAIL", f"the driver does not see a file that it wrote to {where}", advice)
    except (StorageError, TimeoutError) as error:
        return Check(name, "FAIL", str(error) or f"{where} does not answer", advice)
    return Check(name, "ok", f"{where}: the node reads what the driver writes, and the driver what the node writes")


def _measure_clocks(nodes: dict[str, Node]) -> dict[str, tuple[float, float]]:
    """By node, seconds that its clock is ahead of this one, and how exactly that is measured."""
    import ray
    from ray.exceptions import RayError

    task = ray.remote(num_cpus=0, max_retries=0)(lambda: time.time())
    offsets = {}
    for name, node in nodes.items():
        measured = []
        with suppress(RayError):  # lost since it answered
            for _ in range(CLOCK_TRIES):
                before = time.time()
                there = ray.get(task.options(**_bind_to(node)).remote(), timeout=CLOCK_SECONDS)
                after = time.time()
                measured.append((there - (before + after) / 2, (after - before) / 2))
        if measured:
            offsets[name] = min(measured, key=lambda pair: pair[1])
    return offsets


def _check_dashboard() -> Check:
    """Whether Ray's own dashboard can be reached from here."""
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
