"""The coordinator of a sampler pool without Ray: leases, growth, lost samplers, faults, clients; on a manual clock."""

from collections.abc import Callable
from typing import Any

import pytest

from vaegen_ray.errors import StorageError, VaegenError
from vaegen_ray.service.sampling.coordinator import (
    FAULT_SECONDS,
    FIRST_LEASE_SECONDS,
    LEASE_SECONDS,
    LEASES,
    MAX_LOSSES,
    SILENCE_SECONDS,
    ShardCoordinator,
)
from vaegen_ray.service.sampling.leases import GROW_SECONDS

SIZE = 10


class World:
    """A coordinator, its clock, and the samplers that it has spawned and not killed."""

    def __init__(self, max_objects: int = 4) -> None:
        self.now = 100.0
        self.alive: list[str] = []
        self.killed: list[str] = []
        self.loaded: list[int] = []
        self.coordinator = ShardCoordinator(
            SIZE,
            clock=lambda: self.now,
            spawn=self.alive.append,
            kill=self._kill,
            load=self._load,
            max_objects=max_objects,
        )

    def _load(self, number: int) -> str:
        self.loaded.append(number)
        return f"file of {number}"

    def _kill(self, name: str) -> None:
        self.alive.remove(name)
        self.killed.append(name)

    def tick(self, seconds: float = 0.0) -> list[tuple[str, int]]:
        """The new leases after some time."""
        self.now += seconds
        return self.coordinator.tick()

    def join(self, *goal: int, samplers: tuple[int, int] = (1, 1), client: str = "a") -> list[str]:
        """The notes that a client reads."""
        return list(self.coordinator.join(client, *samplers, goal)["notes"])

    def start(self) -> list[tuple[str, int]]:
        """Spawns samplers; the leases that they get when all of them run."""
        assert self.tick() == []
        for name in self.alive:
            self.coordinator.start(name)
        return self.tick()

    def fault(self) -> str | None:
        fault: str | None = self.coordinator.state()["fault"]
        return fault


def refusal(final: bool) -> StorageError:
    error = StorageError("cannot write x")
    error.final = final
    return error


def test_shards_of_a_goal_are_leased_made_and_handed_out() -> None:
    world = World()
    assert world.join(3, 4, 5) == []
    assert world.start() == [("sampler-1", 3), ("sampler-1", 4)], "a sampler writes one shard while it makes another"
    assert world.coordinator.find(3) is None
    world.now += 2.0
    world.coordinator.complete("sampler-1", 3, "images of 3", 2.0)
    assert world.tick() == [("sampler-1", 5)]
    assert world.coordinator.find(3) == ("object", ["images of 3"])
    state = world.coordinator.state()
    assert (state["shards"], state["making"], state["samplers"]) == (1, [4, 5], 1)
    assert (state["images_made"], state["images_per_second"], state["handed_out"]) == (SIZE, SIZE / 2.0, 1)


def test_a_shard_that_was_read_from_its_file_counts_as_made_by_nobody() -> None:
    world = World()
    world.join(0)
    world.start()
    world.coordinator.complete("sampler-1", 0, "images", 0.0, ["the file was whole"])
    assert world.coordinator.state()["images_made"] == 0 and world.join(0) == ["the file was whole"]


def test_a_sampler_gets_no_lease_before_it_runs() -> None:
    world = World()
    world.join(0, 1)
    assert [world.tick(1.0) for _ in range(5)] == [[]] * 5 and world.alive == ["sampler-1"]
    world.coordinator.start("sampler-1")
    assert len(world.tick()) == 2


def test_the_pool_grows_while_a_reader_waits_and_leases_go_to_the_idle_sampler() -> None:
    world = World()
    world.join(samplers=(1, 3))
    world.coordinator.want("reader", 0, 100, waited=1.5)
    assert len(world.start()) == LEASES
    world.tick(GROW_SECONDS)
    world.tick(GROW_SECONDS)
    assert world.alive == ["sampler-1", "sampler-2", "sampler-3"]
    world.coordinator.start("sampler-3")
    assert {name for name, _ in world.tick()} == {"sampler-3"}
    state = world.coordinator.state()
    assert (state["shards_waited_for"], state["waited_seconds"], state["readers"], state["depth"]) == ([0], 1.5, 1, 0)


def test_the_pool_has_the_samplers_that_its_largest_client_allows() -> None:
    world = World()
    world.join(*range(50), samplers=(1, 1), client="small")
    world.join(*range(50), samplers=(2, 4), client="large")
    world.tick()
    assert len(world.alive) == 2
    world.coordinator.leave("large")
    world.tick()
    assert len(world.alive) == 1 and world.coordinator.has_clients
    world.coordinator.leave("small")
    assert not world.coordinator.has_clients


def die(world: World) -> None:
    world.coordinator.fail("sampler-1", 0, ConnectionError("its node is gone\nat line 3"))


def hang(world: World) -> None:
    world.now += FIRST_LEASE_SECONDS + 1


@pytest.mark.parametrize(("end", "reason"), [(die, "its node is gone"), (hang, "it hung")])
def test_the_shards_of_a_lost_sampler_go_to_another_one(end: Callable[[World], None], reason: str) -> None:
    world = World()
    world.join(0, 1)
    world.start()
    end(world)
    notes = world.join(0, 1)
    world.tick()
    assert world.killed == ["sampler-1"] and world.alive == ["sampler-2"]
    world.coordinator.start("sampler-2")
    assert world.tick() == [("sampler-2", 0), ("sampler-2", 1)]
    world.coordinator.fail("sampler-1", 1, ConnectionError("its other call ends too"))
    assert world.coordinator.state()["making"] == [0, 1], "the leases of the second sampler stay"
    assert notes + world.join() == [f"a sampler was lost at shard 0, which goes to another one ({reason})"]


def test_an_experienced_sampler_hangs_sooner() -> None:
    world = World()
    world.join(0, 1, 2)
    world.start()
    world.coordinator.complete("sampler-1", 0, "images", 1.0)
    assert world.tick() == [("sampler-1", 2)]
    world.join(0, 1, 2)
    world.tick(LEASE_SECONDS - 1)
    assert world.killed == []
    world.tick(2)
    assert world.killed == ["sampler-1"]


def test_samplers_lost_one_after_another_are_a_fault_for_a_while() -> None:
    world = World()
    world.join(0)
    for number in range(1, MAX_LOSSES + 1):
        world.tick()
        world.coordinator.lose(f"sampler-{number}", OSError("no such device"))
    expected = f"{MAX_LOSSES} samplers were lost one after another, the last one at its start (no such device)"
    assert world.coordinator.find(0) == ("fault", expected)
    world.tick()
    assert world.alive == [], "nothing is made while there is a fault"
    world.tick(FAULT_SECONDS)
    assert world.fault() is None and len(world.alive) == 1


@pytest.mark.parametrize(
    ("error", "times", "answer"),
    [
        (VaegenError("damaged weights"), 1, ("fault", "damaged weights")),
        (refusal(final=True), 1, ("refused", "cannot write x")),
        (refusal(final=False), MAX_LOSSES - 1, None),
        (refusal(final=False), MAX_LOSSES, ("fault", "cannot write x")),
    ],
)
def test_what_the_storage_refuses_for_now_is_tried_again_and_other_errors_are_faults(
    error: VaegenError, times: int, answer: Any
) -> None:
    world = World()
    world.join(0)
    leases = world.start()
    for _ in range(times):
        ((name, number),) = leases
        world.coordinator.fail(name, number, error)
        leases = world.tick()
    assert world.coordinator.find(0) == answer
    assert world.alive == ["sampler-1"], "the sampler lives"
    notes = world.join(0)
    assert sum(note.startswith("shard 0 is to be made again: ") for note in notes) == times - (answer is not None)


def test_a_success_ends_a_row_of_losses() -> None:
    world = World()
    world.join(*range(3 * MAX_LOSSES))
    leases = world.start()
    for _ in range(2 * MAX_LOSSES):
        world.coordinator.fail(*leases.pop(0), refusal(final=False))
        leases += world.tick()
        world.coordinator.complete(*leases.pop(0), "images", 1.0)
        leases += world.tick()
    assert world.fault() is None


def test_a_stored_shard_is_loaded_once_and_made_again_when_readers_cannot_get_it() -> None:
    world = World()
    world.coordinator.restore([0, 1], {"images_made": 70, "another version": 1})
    assert world.coordinator.state()["images_made"] == 70
    world.coordinator.want("reader", 0, 1, waited=0.0)
    assert [world.coordinator.find(number) for number in (0, 0)] == [("object", ["file of 0"])] * 2
    assert world.loaded == [0], "the object stays"
    world.coordinator.drop(1)
    assert world.coordinator.find(1) is None and world.start() == [("sampler-1", 1)]
    world.coordinator.report_fault("full")
    assert world.coordinator.find(0) == ("object", ["file of 0"])


def test_the_objects_used_last_stay() -> None:
    world = World(max_objects=2)
    for number in range(2):
        world.coordinator.complete("sampler-1", number, number, 0.0)
    world.coordinator.find(0)
    world.coordinator.complete("sampler-1", 2, 2, 0.0)
    assert [world.coordinator.find(number) for number in (0, 2)] == [("object", [0]), ("object", [2])]
    assert world.loaded == [] and world.coordinator.find(1) == ("object", ["file of 1"])


def test_every_client_reads_each_note_once_and_none_from_before_it_came() -> None:
    world = World()
    world.coordinator.report_fault("the first")
    assert world.join() == ["the first"], "nobody has read it"
    world.coordinator.report_fault("the second")
    assert world.join(client="b") == []
    assert world.join() == ["the second"]
    world.coordinator.report_fault("the third")
    assert world.join() == world.join(client="b") == ["the third"]
    assert world.join() == []


def test_a_pool_that_no_client_joins_is_abandoned() -> None:
    world = World()
    world.tick(SILENCE_SECONDS - 1)
    world.join()
    world.tick(SILENCE_SECONDS - 1)
    assert not world.coordinator.is_abandoned and world.coordinator.has_clients
    world.tick(2)
    assert not world.coordinator.has_clients
    world.tick(SILENCE_SECONDS - 3)
    assert not world.coordinator.is_abandoned
    world.tick(3)
    assert world.coordinator.is_abandoned


def test_readers_that_come_before_any_client_get_a_sampler() -> None:
    """After a restart of the coordinator."""
    world = World()
    world.coordinator.want("reader", 5, 6, waited=0.0)
    before = world.coordinator.progress
    assert world.start()[0] == ("sampler-1", 5)
    assert world.coordinator.progress > before
    world.coordinator.forget(["reader", "reader evaluation"], 2.0)
    state = world.coordinator.state()
    assert (state["readers"], state["waited_seconds"]) == (0, 2.0)
