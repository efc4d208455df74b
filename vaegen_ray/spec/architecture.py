"""The networks by name: those of the package, and the rule for those that are registered outside of it.

A trial can be read where its network is not known, so its specification says by itself whether it is one of the
package: the networks of others have a ``network_version`` of at least 1 (``models.registry``).
"""

import re
from typing import Any

from vaegen_ray.errors import SpecError, nearest

ARCHITECTURES = ("fully_connected", "residual", "convolutional")
"""The networks of the package."""
RESIDUAL_LAYERS = 2
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""What a network, or a data set, of others may be called."""


def check_name(what: str, name: Any) -> None:
    """Checks the name of something that is registered.

    Raises:
        SpecError: it is no name.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SpecError(f"the name of {what} must be a small letter, then small letters, digits and _; got {name!r}")


def check_architecture(spec: Any) -> None:
    """Whether there can be a network of this name, with these layers for these images.

    Args:
        spec: a ``TrialSpec`` whose fields have their types.

    Raises:
        SpecError: there cannot.
    """
    _, height, width = spec.image_shape
    if spec.network_version:
        check_name("a network", spec.architecture)
        if spec.architecture in ARCHITECTURES:
            raise SpecError(
                f"network_version must be 0 for {spec.architecture}, a network of the package; "
                f"got {spec.network_version}"
            )
    elif spec.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SpecError(
            f"architecture must be one of {known}, or one of your own, which comes with its network_version; "
            f"got {spec.architecture!r}{nearest(spec.architecture, ARCHITECTURES)}"
        )
    if spec.architecture == "residual":
        if height % 4 or width % 4:
            raise SpecError(f"the residual network needs height and width divisible by 4; got {height}x{width}")
        if spec.latent_per_mz != (height // 4) * (width // 4):
            raise SpecError(
                f"latent_per_mz of the residual network must be the cells of its latent grid, "
                f"{height // 4}x{width // 4}; got {spec.latent_per_mz}"
            )
        if spec.hidden_layers != RESIDUAL_LAYERS:
            raise SpecError(f"hidden_layers of the residual network must be 2; got {spec.hidden_layers}")
    if spec.architecture == "convolutional":
        cell = 2**spec.hidden_layers
        if cell == 1 or height % cell or width % cell:
            raise SpecError(
                f"hidden_layers of the convolutional network must be from 1 to as many times as {height}x{width} "
                f"can be halved; got {spec.hidden_layers}"
            )
