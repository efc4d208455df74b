"""Arithmetic of a block of code: float32 as it is written, or on GPUs the faster tf32 and bf16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions inside run in ``precision`` ("float32", "tf32", "bf16").

    tf32 exists on GPUs only and changes nothing on a CPU. bf16 casts the inputs of products (autocast); weights,
    sums, likelihoods and the optimiser stay float32.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
