import json
import math
import pickle

import pytest
import safetensors.torch
import torch

from vaegen_ray.errors import DataFormatError
from vaegen_ray.serialization import pack, unpack

TENSORS = {
    "weights": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
    "odd": torch.tensor([math.nan, math.inf, -0.0]),
    "step": torch.tensor(7.0),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "alive": torch.tensor([True, False]),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 4),
}
VALUES = {
    "step": 3,
    "failed": {"1": ['é "quoted" \\ \n', 2]},
    "rows": [{"elbo": math.nan, "gap": -math.inf}],
    "x": None,
}


@pytest.fixture(scope="module")
def data() -> bytes:
    return pack(TENSORS, VALUES)


def test_round_trip(data):
    tensors, values = unpack(data, "here")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and tensors[name].shape == tensor.shape
        assert torch.equal(tensors[name].view(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    assert math.isnan(values["rows"][0].pop("elbo"))
    expected = json.loads(json.dumps(VALUES))
    expected["rows"][0].pop("elbo")
    assert values == expected


def test_views_gradients_and_strides_are_packed_by_value():
    tensor = torch.arange(12.0).view(3, 4).t().requires_grad_()
    tensors, _ = unpack(pack({"a": tensor, "b": tensor[1:]}, {}), "here")
    assert torch.equal(tensors["a"], tensor) and torch.equal(tensors["b"], tensor[1:])


def test_every_flipped_bit_of_the_header_is_found(data):
    end = 8 + int.from_bytes(data[:8], "little")
    for position in range(end):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(DataFormatError, match="^here is"):
                unpack(bytes(damaged), "here")


def test_a_flipped_bit_in_any_byte_of_the_tensors_is_found(data):
    start = 8 + int.from_bytes(data[:8], "little")
    for position in range(start, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(DataFormatError, match="^here is damaged"):
            unpack(bytes(damaged), "here")


def test_every_truncation_is_found(data):
    for length in range(len(data)):
        with pytest.raises(DataFormatError, match=rf"^here is not a whole checkpoint \({length} bytes\)"):
            unpack(data[:length], "here")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 100, id="zeros"),
        pytest.param(bytes(range(256)) * 4, id="noise"),
        pytest.param(b"\x02\0\0\0\0\0\0\0[]", id="a list for a header"),
        pytest.param(pickle.dumps({"weights": [1, 2]}), id="pickle"),
        pytest.param(safetensors.torch.save({"a": torch.ones(2)}), id="no metadata"),
        pytest.param(safetensors.torch.save({"a": torch.ones(2)}, {"values": "{}"}), id="no digest"),
        pytest.param(safetensors.torch.save({"a": torch.ones(2)}, {"values": "{}", "sha256": ""}), id="wrong digest"),
    ],
)
def test_what_is_not_a_checkpoint(other):
    with pytest.raises(DataFormatError, match="^here is") as error:
        unpack(other, "here")
    assert "\n" not in str(error.value)


def swapped(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)


def test_the_digest_holds_shapes_and_types(data):
    for old, new in ((b'"shape":[2,3]', b'"shape":[3,2]'), (b'"dtype":"BF16"', b'"dtype":"F16" ')):
        with pytest.raises(DataFormatError, match="^here is damaged"):
            unpack(swapped(data, old, new), "here")
