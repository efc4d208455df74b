"""A checkpoint as bytes: tensors and plain values in one safetensors file, with a digest. No pickle is ever read."""

import hashlib
import json
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vaegen_ray.errors import DataFormatError


def pack(tensors: dict[str, Tensor], values: dict[str, Any]) -> bytes:
    """One safetensors file; ``values`` (anything JSON holds, NaN included) and a SHA-256 go into its metadata."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(values, sort_keys=True)
    return _in_order(safetensors.torch.save(flat, {"values": text, "sha256": digest(flat, text)}))


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with its header in alphabetical order: safetensors writes it in any order, and the same
    content shall be the same bytes."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[start:]


def unpack(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of ``pack``.

    Args:
        data: the file's content.
        where: its name, for the message.

    Raises:
        DataFormatError: cut short, damaged, or not a checkpoint.
    """
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
        text, expected = metadata["values"], metadata["sha256"]
        values = json.loads(text)
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{where} is not a whole checkpoint ({len(data)} bytes): {error}") from None
    if digest(tensors, text) != expected:
        raise DataFormatError(f"{where} is damaged: its SHA-256 is not the one that it was written with")
    return tensors, values


def digest(tensors: dict[str, Tensor], text: str = "") -> str:
    """SHA-256 of names, types, shapes and bytes of tensors on the CPU, and of a text."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"/{name}/{tensor.dtype}/{tuple(tensor.shape)}/".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
