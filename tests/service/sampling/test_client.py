"""Sampler pools on a real Ray: the same bytes whoever makes them, shared by sweeps, ended with the last one."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker
from vaegen_ray.errors import VaegenError
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect
from vaegen_ray.service.sampling import actors
from vaegen_ray.service.sampling.client import PoolClient
from vaegen_ray.service.sampling.diffusion_worker import commit
from vaegen_ray.service.sampling.reader import SampleReader
from vaegen_ray.service.sampling.sampler import build_shard_store
from vaegen_ray.spec.diffusion import DiffusionSpec, Sampler, StreamSpec

STREAM = StreamSpec(
    diffusion=DiffusionSpec(channels=16, blocks=1), sampler=Sampler(steps=3), shard_size=40, batch_size=20
)
SECONDS = 600.0
"""Longest wait of a test for anything."""


@pytest.fixture(scope="module", autouse=True)
def running_ray() -> Iterator[None]:
    connect.connect(None)
    yield
    connect.disconnect()


SEEDS = count(1)


def weights(seed: int) -> dict[str, torch.Tensor]:
    """Weights that no layer has at zero, so that samples differ."""
    generator = torch.Generator().manual_seed(seed)
    named = build_denoiser(STREAM.diffusion).named_parameters()
    return {name: 0.1 * torch.randn(p.shape, generator=generator) for name, p in named}


def connection_to(folder: Path, seed: int) -> actors.Connection:
    storage = Storage.open(folder)
    store = DiffusionStore(storage, STREAM.diffusion.diffusion_id)
    digest = commit(store, STREAM.diffusion, weights(seed), losses=[])
    return actors.Connection(storage=storage, stream=STREAM, digest=STREAM.digest(digest), use_gpu=False)


@pytest.fixture
def seed() -> int:
    """Weights of its own for each test, since pools are named after them and tests share one Ray."""
    return next(SEEDS)


@pytest.fixture
def connection(tmp_path: Path, seed: int) -> actors.Connection:
    return connection_to(tmp_path, seed)


def wait_until(happened: Callable[[], Any], pools: list[PoolClient]) -> list[str]:
    """Keeps pools alive until something has happened; returns their news."""
    news, end = [], time.monotonic() + SECONDS
    while not happened():
        for pool in pools:
            news += pool.beat()
        assert time.monotonic() < end, news
        time.sleep(0.05)  # leaves the cores to the samplers; nothing depends on how long
    return news


def numbers(connection: actors.Connection) -> list[int]:
    return build_shard_store(connection.storage, STREAM, connection.digest).numbers()


def hashes(connection: actors.Connection) -> dict[int, str]:
    store = build_shard_store(connection.storage, STREAM, connection.digest)
    return {n: hashlib.sha256(Path(store.where(n)).read_bytes()).hexdigest() for n in store.numbers()}


def ended(connection: actors.Connection) -> bool:
    try:
        name = connect.build_actor_name("samples", connection.storage, connection.digest)
        ray.get_actor(name, namespace=connect.NAMESPACE)
    except ValueError:
        return True
    return False


def pixels(connection: actors.Connection) -> dict[int, bytes]:
    store = build_shard_store(connection.storage, STREAM, connection.digest)
    return {number: np.array(store.read(number)).tobytes() for number in store.numbers()}


def test_bytes_are_equal_by_one_and_three_samplers_in_any_order_and_after_deletion(tmp_path: Path, seed: int) -> None:
    maker = ShardMaker(STREAM, weights(seed))
    expected = {number: maker.shard(number).tobytes() for number in range(9)}
    found = []
    for name, samplers, goal in (("one", (1, 1), range(9)), ("three", (3, 3), (8, 3, 5, 0, 1, 7, 2, 6, 4))):
        connection = connection_to(tmp_path / name, seed)
        pool = PoolClient(connection, "test", samplers, tuple(goal))
        wait_until(lambda c=connection: len(numbers(c)) == 9, [pool])
        found.append(pixels(connection))
        before = hashes(connection)
        pool.leave()
        wait_until(lambda c=connection: ended(c), [])
    store = build_shard_store(connection.storage, STREAM, connection.digest)
    for number in (2, 7):
        store.delete(number)
    again = PoolClient(connection, "test", (2, 2), tuple(goal))
    wait_until(lambda: len(numbers(connection)) == 9, [again])
    again.leave()
    wait_until(lambda: ended(connection), [])
    assert hashes(connection) == before, "the files themselves, not only the images"
    assert found == [expected, expected]


def test_sweeps_share_a_pool_and_the_last_one_ends_it(connection: actors.Connection) -> None:
    first = PoolClient(connection, "first", (1, 1), (0,))
    second = PoolClient(connection, "second", (1, 2), (0, 1))
    wait_until(lambda: numbers(connection) == [0, 1] and second.state, [first, second])
    first.leave()
    first_goal = PoolClient(connection, "third", (1, 1), (2,))
    wait_until(lambda: 2 in numbers(connection), [first_goal, second])
    first_goal.leave()
    assert not ended(connection)
    second.leave()
    wait_until(lambda: ended(connection), [])


def test_two_storages_with_the_same_model_have_pools_of_their_own(tmp_path: Path, seed: int) -> None:
    first, second = (connection_to(tmp_path / name, seed) for name in ("first", "second"))
    assert first.digest == second.digest
    pools = [PoolClient(first, "first", (1, 1), (0,)), PoolClient(second, "second", (1, 1), (1,))]
    wait_until(lambda: numbers(first) == [0] and numbers(second) == [1], pools)
    for pool in pools:
        pool.leave()


def test_readers_get_the_samples_and_share_the_memory_of_the_node(connection: actors.Connection, seed: int) -> None:
    maker = ShardMaker(STREAM, weights(seed))
    expected = np.concatenate([maker.shard(number) for number in range(4)])
    pool = PoolClient(connection, "test", (1, 2), ())
    pool.beat()
    reader = SampleReader(connection, "reader", 130)
    np.testing.assert_array_equal(reader.read(0, 130), expected[:130])
    np.testing.assert_array_equal(reader.read(35, 85), expected[35:85])
    order = np.random.default_rng(0).permutation(130)
    np.testing.assert_array_equal(reader.take(order), expected[order])
    whole = reader.read(40, 80)
    assert not whole.flags.owndata and not whole.flags.writeable
    fresh = reader.read(STREAM.training_samples, STREAM.training_samples + 30)
    np.testing.assert_array_equal(fresh, maker.shard(STREAM.training_samples // 40)[:30])
    reader.close()
    pool.leave()


def test_a_killed_sampler_costs_a_line_and_nothing_else(connection: actors.Connection, seed: int) -> None:
    pool = PoolClient(connection, "test", (2, 2), (0,))
    wait_until(lambda: numbers(connection) == [0] and pool.state.get("samplers") == 2, [pool])
    for pid in ray.get(connection.find_coordinator().pids.remote(), timeout=SECONDS):
        os.kill(pid, signal.SIGKILL)
    other = PoolClient(connection, "other", (2, 2), range(6))
    news = wait_until(lambda: pool.state.get("shards") == 6, [pool, other])
    other.leave()
    assert sum("a sampler was lost" in line for line in news) >= 1
    expected = {number: ShardMaker(STREAM, weights(seed)).shard(number).tobytes() for number in range(6)}
    assert pixels(connection) == expected
    pool.leave()


def test_a_reader_outlives_the_coordinator(connection: actors.Connection, seed: int) -> None:
    pool = PoolClient(connection, "test", (1, 1), (0, 1))
    wait_until(lambda: numbers(connection) == [0, 1], [pool])
    reader = SampleReader(connection, "reader", 160)
    before = reader.read(0, 40)
    copy = before.copy()
    ray.kill(connection.find_coordinator(), no_restart=False)
    expected = np.concatenate([ShardMaker(STREAM, weights(seed)).shard(number) for number in range(4)])
    pool.beat()
    np.testing.assert_array_equal(reader.read(0, 160), expected)
    np.testing.assert_array_equal(before, copy)
    reader.close()
    pool.leave()


def test_a_reader_outlives_the_coordinator_and_all_samplers_at_once(connection: actors.Connection, seed: int) -> None:
    pool = PoolClient(connection, "test", (2, 2), (0,))
    wait_until(lambda: numbers(connection) == [0] and pool.state.get("samplers") == 2, [pool])
    reader = SampleReader(connection, "reader", 160)
    expected = np.concatenate([ShardMaker(STREAM, weights(seed)).shard(number) for number in range(4)])
    np.testing.assert_array_equal(reader.read(0, 40), expected[:40])
    samplers = ray.get(connection.find_coordinator().pids.remote(), timeout=SECONDS)
    ray.kill(connection.find_coordinator(), no_restart=False)
    for pid in samplers:
        with suppress(ProcessLookupError):  # they may have ended with the coordinator
            os.kill(pid, signal.SIGKILL)
    with ThreadPoolExecutor(1) as reading:
        read = reading.submit(reader.read, 0, 160)
        wait_until(read.done, [pool])
    np.testing.assert_array_equal(read.result(), expected)
    reader.close()
    pool.leave()


def test_a_pool_that_no_sweep_speaks_to_ends_itself(
    connection: actors.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(actors.CoordinatorActor):
        silence_seconds = 0.5

    monkeypatch.setattr(actors, "CoordinatorActor", Impatient)
    pool = PoolClient(connection, "killed", (1, 1), ())
    pool.beat()
    wait_until(lambda: ended(connection), [])


def test_damaged_weights_are_said(connection: actors.Connection) -> None:
    path = Path(connection.storage.where(f"diffusion/{STREAM.diffusion.diffusion_id}/weights.safetensors"))
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    pool = PoolClient(connection, "test", (1, 1), ())
    pool.beat()
    reader = SampleReader(connection, "reader", 10)
    with pytest.raises(VaegenError, match=r"weights\.safetensors is damaged"):
        reader.read(0, 10)
    reader.close()
    pool.leave()
