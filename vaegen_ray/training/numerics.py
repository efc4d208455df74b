"""Arithmetic of a block of code: float32 as it is written, or on GPUs the faster tf32 and bf16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions inside run in ``precision`` ("float32", "tf32", "bf16").

    tf32 exists on GPUs only and changes nothing on a CPU. bf16 casts the inputs of products (autocast); weights,
    sums, likelihoods and the optimiser stay float32. Casts are not cached: the block may hold many optimiser steps.

    Numbers below 1.2e-38 become zero on a CPU: the moments of weights that get no gradient (pixels that are never on)
    fade into that range after some 800 steps, where a CPU computes with them many times slower. It is part of the
    numerics, so it holds in all training and evaluation, and for this thread alone.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_flush_denormal(True)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
