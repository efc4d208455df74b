"""Memory that data may take: data that cannot fit is refused before it is unpacked."""

from vaegen_ray.allotment import allotted
from vaegen_ray.errors import VaegenError

COPIES = 3
"""Copies of the images that exist at once while they are read, checked and divided."""


def check_memory(what: object, size: int) -> None:
    """Whether images of ``size`` bytes fit into the memory, told before they are unpacked.

    Raises:
        VaegenError: they do not; names both numbers.
    """
    free = allotted().free
    if COPIES * size > free:
        raise VaegenError(
            f"{what} must fit into the memory: its images take {_gigabytes(size)} unpacked, and "
            f"{_gigabytes(COPIES * size)} while they are read; got {_gigabytes(free)} available"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
