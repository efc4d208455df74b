"""A cluster of two nodes on one machine that loses one, with a pool at work. Run by ``test_lost_node.py`` in network
and process namespaces of its own.

    python lost_node.py FOLDER

Prints ``same`` when a reader got the samples that the plain maker makes, before and after the loss.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.sampling import actors
from vaegen_ray.service.sampling.client import PoolClient
from vaegen_ray.service.sampling.diffusion_worker import commit
from vaegen_ray.service.sampling.reader import SampleReader
from vaegen_ray.spec.diffusion import DiffusionSpec, Sampler, StreamSpec

STREAM = StreamSpec(
    diffusion=DiffusionSpec(channels=16, blocks=1), sampler=Sampler(steps=3), shard_size=2000, batch_size=500
)
SHARDS = 12
QUICK = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class WatchedSampler(actors.Sampler):
    """Says who makes what, and makes nothing before both nodes are at work."""

    def make(self, number: int) -> Any:
        folder = Path(self._shards.storage.root)
        (folder / f"made-by-{number}").write_text(ray.get_runtime_context().get_node_id())
        while len({path.read_text() for path in folder.glob("made-by-*")} - {""}) < 2:
            time.sleep(0.05)
        return super().make(number)


class WatchedCoordinator(actors.CoordinatorActor):
    sampler_class = WatchedSampler


def main(folder: Path) -> None:
    nodes = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "resources": {"sampler": 1},  # one of the two samplers on each node
            "node_ip_address": "127.0.0.2",
            "include_dashboard": False,
            "memory": 10**9,
            "object_store_memory": 10**8,
            "_system_config": QUICK,
        },
    )
    far = nodes.add_node(
        num_cpus=1, resources={"sampler": 1}, node_ip_address="127.0.0.3", memory=10**9, object_store_memory=10**8
    )
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    nodes.wait_for_nodes()
    storage = Storage.open(folder)
    weights = {name: p.detach() for name, p in build_denoiser(STREAM.diffusion).named_parameters()}
    digest = commit(DiffusionStore(storage, STREAM.diffusion.diffusion_id), STREAM.diffusion, weights, losses=[])
    connection = actors.Connection(storage=storage, stream=STREAM, digest=STREAM.digest(digest), use_gpu=False)
    pool = PoolClient(connection, "drill", (2, 2), tuple(range(4)))
    while pool.state.get("shards", 0) < 4:
        pool.beat()
        time.sleep(0.05)
    makers = {path.read_text() for path in folder.glob("made-by-*")}
    print(f"made on {len(makers)} nodes, the far one {'among them' if far.node_id in makers else 'idle'}", flush=True)
    reader = SampleReader(connection, "reader", SHARDS * STREAM.shard_size)
    before = np.array(reader.read(0, 2 * STREAM.shard_size))
    nodes.remove_node(far, allow_graceful=False)
    after = np.array(reader.read(2 * STREAM.shard_size, SHARDS * STREAM.shard_size))
    maker = ShardMaker(STREAM, weights)
    expected = np.concatenate([maker.shard(number) for number in range(SHARDS)])
    print("same" if np.array_equal(np.concatenate([before, after]), expected) else "other samples", flush=True)
    print("\n".join(pool.beat()))
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    actors.CoordinatorActor = WatchedCoordinator  # type: ignore[misc]
    main(Path(sys.argv[1]))
