"""Networks of your own: an encoder and a decoder outside of the package, registered under a name.

    class GatedEncoder(NetworkPart): ...        # models.networks.NetworkPart: layers as data, and the way through them
    class GatedDecoder(NetworkPart): ...

    register_network("gated", GatedEncoder, GatedDecoder)      # from now on: --architecture gated

Both work on all members of a bundle at once: every weight has a leading member dimension, and what one member computes
must not depend on the others (``conformance`` tests it before a sweep starts). The version is part of the identity of
every trial: raise it when a change of your code moves numbers, and the VAEs are trained anew.

Workers get the classes from the process that starts the sweep. Needs no torch.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from vaegen_ray.checks import check_int
from vaegen_ray.errors import INSTALLED, SpecError
from vaegen_ray.models.layer import PartType
from vaegen_ray.spec.architecture import ARCHITECTURES, check_name
from vaegen_ray.spec.trial import TrialSpec


@dataclass(frozen=True, kw_only=True)
class CustomNetwork:
    """An encoder and a decoder under a name."""

    name: str
    encoder: PartType
    """[M, B, C, H, W] -> [M, B, 2Z]: means, then the numbers that standard deviations are made of."""
    decoder: PartType
    """[M, B, Z] -> [M, B, K, H, W], where K is ``layout.likelihood_channels``."""
    version: int = 1
    """Part of the identity of every trial."""
    check: Callable[[TrialSpec], None] | None = None
    """Raises a ``SpecError`` for a trial that the network cannot be built for."""

    @property
    def source(self) -> str:
        """8 hexadecimal digits that name the text of the classes, and of the functions and classes of yours that they
        use; empty where it is not known."""
        try:
            texts = [inspect.getsource(self.encoder), inspect.getsource(self.decoder)]
        except (OSError, TypeError):
            return ""
        seen: dict[int, Any] = {}
        for kind in (self.encoder, self.decoder):
            _follow(kind, seen)
        for part in seen.values():
            with suppress(OSError, TypeError):  # what a dataclass makes has no text
                texts.append(inspect.getsource(part))
        return hashlib.blake2b("\0".join(sorted(texts)).encode(), digest_size=4).hexdigest()


def _follow(part: Any, seen: dict[int, Any]) -> None:
    """Adds a class or function of your own to those seen, and what its bases, methods and text name."""
    if isinstance(part, property):
        part = part.fget
    if isinstance(part, (staticmethod, classmethod)):
        part = part.__func__
    if isinstance(part, FunctionType):
        part = inspect.unwrap(part)
    if id(part) in seen or not isinstance(part, (type, FunctionType)) or not is_yours(part.__module__):
        return
    seen[id(part)] = part
    for each in (*part.__bases__, *vars(part).values()) if isinstance(part, type) else _find_globals(part):
        _follow(each, seen)


def _find_globals(function: FunctionType) -> Iterator[Any]:
    """What the names in a function stand for outside of it, those of ``module.name`` included."""
    codes = [function.__code__]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    names = {name for code in codes for name in code.co_names}
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        if not isinstance(value, ModuleType):
            yield value
        elif is_yours(value.__name__):
            yield from (vars(value)[each] for each in names & vars(value).keys())


def is_yours(module: str | None) -> bool:
    """Whether a module is code of a user: neither installed nor of Python, torch or this package."""
    top = (module or "").partition(".")[0]
    if top in ("vaegen_ray", "torch") or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return file is None or not INSTALLED & set(Path(file).resolve().parts)


_REGISTERED: dict[str, CustomNetwork] = {}


def register_network(
    name: str,
    encoder: PartType,
    decoder: PartType,
    *,
    version: int = 1,
    check: Callable[[TrialSpec], None] | None = None,
) -> CustomNetwork:
    """Makes a network known by its name; the same one may be registered again.

    Args:
        name: small letters, digits and _.
        encoder, decoder: subclasses of ``models.networks.NetworkPart``.
        version: from 1 on; to be raised when a change of the code moves numbers.
        check: raises a ``SpecError`` for a trial that the network cannot be built for.

    Raises:
        SpecError: the name is taken, or a part is no class.
    """
    check_name("a network", name)
    check_int(f"version of the network {name}", version, 1)
    for part, kind in (("encoder", encoder), ("decoder", decoder)):
        if not isinstance(kind, type) or not hasattr(kind, "build_layers"):
            raise SpecError(
                f"the {part} of {name} must be a subclass of vaegen_ray.models.networks.NetworkPart; got {kind!r}"
            )
    network = CustomNetwork(name=name, encoder=encoder, decoder=decoder, version=version, check=check)
    if name in ARCHITECTURES:
        raise SpecError(f"the name of a network must be new; got {name!r}, which is a network of the package")
    known = _REGISTERED.get(name)
    if known is not None and known.version == version and known != network and known.source != network.source:
        raise SpecError(
            f"the name of a network must be new; got {name!r}, which is another one of your own (choose another name, "
            f"or raise version, now {version})"
        )
    _REGISTERED[name] = network
    return network


def install(networks: tuple[CustomNetwork, ...]) -> None:
    """Makes networks known in a worker, whatever was known there."""
    for network in networks:
        _REGISTERED[network.name] = network


def names() -> tuple[str, ...]:
    """All networks that can be named, those of the package first."""
    return (*ARCHITECTURES, *_REGISTERED)


def find_version(name: str) -> int:
    """The version of a network of your own; 0 for all other names."""
    return _REGISTERED[name].version if name in _REGISTERED else 0


def find_network(spec: TrialSpec) -> CustomNetwork:
    """The network of your own that a trial names.

    Raises:
        SpecError: it is not registered in this process, or in another version.
    """
    known = _REGISTERED.get(spec.architecture)
    if known is None or known.version != spec.network_version:
        here = "is not registered here" if known is None else f"is registered here as version {known.version}"
        raise SpecError(
            f"network {spec.architecture!r}, version {spec.network_version}, must be registered before its VAEs are "
            f"built; it {here}"
        )
    return known
