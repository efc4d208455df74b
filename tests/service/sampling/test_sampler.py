"""A sampler without Ray: the same shard whoever makes it, whenever, and whatever happened to its file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker
from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.diffusions import WEIGHTS, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.serialization import digest
from vaegen_ray.service.sampling.diffusion_worker import commit
from vaegen_ray.service.sampling.sampler import Sampler, build_shard_store
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.diffusion import Sampler as Settings

MODEL = DiffusionSpec(channels=8, blocks=1, image_shape=(1, 4, 4))
STREAM = StreamSpec(diffusion=MODEL, sampler=Settings(steps=3), shard_size=6, batch_size=3)


def weights_of(model: DiffusionSpec, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights; an untrained network says nothing, since its last layer is zero."""
    draw = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(p.shape, generator=draw) for name, p in build_denoiser(model).named_parameters()}


def sampler_at(folder: Path, stream: StreamSpec = STREAM) -> tuple[Sampler, Path]:
    """A sampler on a storage where the weights are committed, and the folder of its shards."""
    storage = Storage.open(folder)
    weights = weights_of(stream.diffusion)
    digest = stream.digest(commit(DiffusionStore(storage, stream.diffusion.diffusion_id), stream.diffusion, weights))
    return Sampler(storage, stream, digest, "cpu"), folder / "samples" / digest


def made(sampler: Sampler, number: int) -> np.ndarray:
    """The images of a shard that had to be made."""
    facts, images = sampler.make(number)
    assert facts["seconds"] > 0
    return images


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.arrow"))}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards 0 to 3, made in order by one sampler."""
    sampler, folder = sampler_at(tmp_path_factory.mktemp("reference"))
    for number in range(4):
        made(sampler, number)
    return folder


def test_a_shard_holds_its_samples(tmp_path: Path, reference: Path) -> None:
    sampler, folder = sampler_at(tmp_path)
    facts, images = sampler.make(2)
    assert facts == {"seconds": facts["seconds"], "notes": []}
    maker = ShardMaker(STREAM, weights_of(MODEL))
    expected = np.concatenate([maker.images(range(12, 15)), maker.images(range(15, 18))])
    assert images.dtype == np.uint8 and images.shape == STREAM.shard_shape
    np.testing.assert_array_equal(images, expected)
    assert folder.name == reference.name
    assert len({image.tobytes() for image in images}) == 6 and images.max() < MODEL.levels


@pytest.mark.parametrize("order", [(3, 1, 0, 2), (2, 3)])
def test_two_samplers_make_the_same_files_in_any_order(tmp_path: Path, reference: Path, order: tuple[int, ...]) -> None:
    sampler, folder = sampler_at(tmp_path)
    for number in order:
        made(sampler, number)
    assert files(folder) == {name: data for name, data in files(reference).items() if int(name[6:12]) in order}


def test_how_samples_are_cut_into_shards_does_not_change_them(tmp_path: Path, reference: Path) -> None:
    """Batches of 3 are made together in shards of 6 as of 3; the cut has a folder of its own."""
    sampler, folder = sampler_at(tmp_path, replace(STREAM, shard_size=3))
    assert folder.name != reference.name
    halves = np.concatenate([made(sampler, number) for number in (0, 1)])
    storage = Storage.open(reference.parent.parent)
    np.testing.assert_array_equal(halves, build_shard_store(storage, STREAM, reference.name).read(0))


@pytest.mark.parametrize("same", [True, False], ids=["the same sampler", "another sampler"])
def test_a_deleted_shard_is_made_again_with_the_same_bytes(tmp_path: Path, reference: Path, same: bool) -> None:
    first, folder = sampler_at(tmp_path)
    images = made(first, 1)
    (folder / "shard-000001.arrow").unlink()
    again = made(first if same else sampler_at(tmp_path)[0], 1)
    np.testing.assert_array_equal(again, images)
    assert files(folder)["shard-000001.arrow"] == files(reference)["shard-000001.arrow"]


def test_a_damaged_shard_is_set_aside_with_a_note_and_made_again(tmp_path: Path, reference: Path) -> None:
    sampler, folder = sampler_at(tmp_path)
    made(sampler, 1)
    whole = files(reference)
    bad = whole["shard-000000.arrow"]
    (folder / "shard-000001.arrow").write_bytes(bad)
    facts, images = sampler.make(1)
    (note,) = facts["notes"]
    assert facts["seconds"] > 0
    assert note.startswith(f"{folder}/shard-000001.arrow was set aside: ") and note.endswith("; it is made again")
    assert "\n" not in note
    assert files(folder) == {"shard-000001.arrow": whole["shard-000001.arrow"]}
    assert files(folder / "set-aside") == {"shard-000001.arrow": bad}
    np.testing.assert_array_equal(images, made(sampler_at(tmp_path / "other")[0], 1))
    assert sampler.make(1)[0] == {"seconds": 0.0, "notes": []}


def test_a_whole_shard_is_not_made_again(tmp_path: Path) -> None:
    """Not even the weights are looked at."""
    first, folder = sampler_at(tmp_path)
    images = made(first, 0)
    DiffusionStore(Storage.open(tmp_path), MODEL.diffusion_id).set_aside(WEIGHTS, "a drill")
    before = (folder / "shard-000000.arrow").stat()
    other = Sampler(Storage.open(tmp_path), STREAM, folder.name, "cpu")
    facts, found = other.make(0)
    assert facts == {"seconds": 0.0, "notes": []}
    np.testing.assert_array_equal(found, images)
    after = (folder / "shard-000000.arrow").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(StorageError, match=f"^no trained weights in .*{MODEL.diffusion_id}"):
        other.make(1)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    larger = replace(MODEL, channels=16)
    commit(DiffusionStore(storage, MODEL.diffusion_id), MODEL, weights_of(larger))
    named = STREAM.digest(digest(weights_of(larger)))
    with pytest.raises(DataFormatError, match=r"does not fit the declared network: .* must be .*; got"):
        Sampler(storage, STREAM, named, "cpu").make(0)
    with pytest.raises(DataFormatError, match=f"holds other weights than those that samples {'0' * 20} are made of"):
        Sampler(storage, STREAM, "0" * 20, "cpu").make(0)
    assert not list(tmp_path.rglob("*.arrow"))


def test_damaged_weights_make_no_samples(tmp_path: Path) -> None:
    sampler, folder = sampler_at(tmp_path)
    path = tmp_path / "diffusion" / MODEL.diffusion_id / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataFormatError, match="damaged"):
        sampler.make(0)
    assert not files(folder)


@pytest.mark.parametrize("changes", [{"levels": 256}, {"data_std": 2.0}, {"learning_rate": 1.0, "seed": 5}])
def test_samples_of_one_digest_are_the_same(changes: dict[str, Any]) -> None:
    """Two declarations of the same weights: their samples share a folder only where they are the same."""
    other = replace(STREAM, diffusion=replace(MODEL, **changes))
    weights = weights_of(MODEL)
    one, two = (ShardMaker(stream, weights).shard(0) for stream in (STREAM, other))
    same_digest = STREAM.digest("of these weights") == other.digest("of these weights")
    assert same_digest == np.array_equal(one, two)
