"""A reader of samples without Ray: a fake coordinator answers; the files are real."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import GetTimeoutError, ObjectLostError, RayError

from vaegen_ray.errors import StorageError, VaegenError
from vaegen_ray.results.shards import ShardStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.sampling import reader as reader_module
from vaegen_ray.service.sampling.leases import LeaseTable
from vaegen_ray.service.sampling.reader import AHEAD, HELD, PATIENCE_SECONDS, SampleReader
from vaegen_ray.service.sampling.sampler import build_shard_store
from vaegen_ray.spec.diffusion import EVALUATION_SHARD, DiffusionSpec, StreamSpec

SIZE = 4
STREAM = StreamSpec(diffusion=DiffusionSpec(levels=256, image_shape=(1, 1, 4)), shard_size=SIZE, batch_size=2)
DIGEST = "d" * 20
LONG = 10.0
"""Seconds after which something that should have happened has not: a test fails then, it never waits so long."""
ENOUGH = 10_000
"""Calls of a coordinator after which a test fails."""


def samples(start: int, stop: int) -> np.ndarray:
    """Sample i says i in four bytes."""
    return np.arange(start, stop, dtype="<u4").view(np.uint8).reshape(-1, 1, 1, 4)


def shard(number: int) -> np.ndarray:
    images = samples(number * SIZE, (number + 1) * SIZE)
    images.flags.writeable = False
    return images


@dataclass(frozen=True)
class Call:
    """What a reader asked."""

    name: str
    number: int
    position: int
    last: int
    waited: float
    lost: bool


Answer = Callable[[Call], tuple[str, Any]]
"""A coordinator's answer, or raises what Ray would."""


def give(call: Call) -> tuple[str, Any]:
    """The object of any shard; objects are functions that ``ray.get`` calls."""
    return "object", [lambda: shard(call.number)]


def later(call: Call) -> tuple[str, Any]:
    """Not yet; and the pool has made nothing."""
    return "later", (0, 0)


def raises(error: Exception) -> Callable[..., Any]:
    def function(*args: object) -> Any:
        raise error

    return function


@dataclass
class FakeConnection:
    """A connection to a fake coordinator, which remembers what it was asked."""

    storage: Storage
    answer: Answer = give
    stream: StreamSpec = STREAM
    digest: str = DIGEST
    calls: list[Call] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    handles: int = 0

    def find_coordinator(self) -> Any:
        self.handles += 1
        return SimpleNamespace(shard=SimpleNamespace(remote=self._shard), forget=SimpleNamespace(remote=self._forget))

    def _forget(self, names: list[str], waited: float) -> None:
        assert waited >= 0
        self.forgotten.extend(names)

    def _shard(
        self, name: str, number: int, position: int, last: int, seconds: float, *, waited: float, lost: bool
    ) -> Callable[[], tuple[str, Any]]:
        call = Call(name, number, position, last, waited, lost)
        self.calls.append(call)
        assert len(self.calls) < ENOUGH, "it asks for ever"
        return lambda: self.answer(call)

    @property
    def asked(self) -> list[int]:
        """Numbers that were asked for."""
        return [call.number for call in self.calls]

    @property
    def files(self) -> ShardStore:
        return build_shard_store(self.storage, self.stream, self.digest)


class Inline:
    """An executor that does everything at once, so that the order is certain."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **options: Any) -> None:
        pass


class Clock:
    """Stands still until it is set. ``looked``: the thread named "reading" has looked at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looked = threading.Event()

    def monotonic(self) -> float:
        now = self.now
        if threading.current_thread().name == "reading":
            self.looked.set()
        return now


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "ray", SimpleNamespace(get=lambda handle, timeout: handle()))
    monkeypatch.setattr(reader_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(reader_module, "PATIENCE_SECONDS", LONG)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reader_module, "time", clock)
    monkeypatch.setattr(reader_module, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    return clock


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "ThreadPoolExecutor", Inline)


@pytest.fixture
def pool(tmp_path: Path) -> FakeConnection:
    return FakeConnection(Storage.open(tmp_path))


@pytest.fixture
def open_reader(pool: FakeConnection) -> Iterator[Callable[[int], SampleReader]]:
    """Opens readers of so many samples, and ends them and their threads with the test."""
    readers: list[SampleReader] = []

    def open_reader(count: int) -> SampleReader:
        readers.append(SampleReader(pool, "me", count))  # type: ignore[arg-type]
        return readers[-1]

    yield open_reader
    for reader in readers:
        reader.close()
    for thread in fetchers():
        thread.join(LONG)
    assert fetchers() == []


def fetchers() -> list[threading.Thread]:
    """The threads of all readers."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("samples")]


class Reading(threading.Thread):
    """Reads in a thread of its own."""

    def __init__(self, read: Callable[[], np.ndarray]) -> None:
        super().__init__(name="reading", daemon=True)
        self._read = read
        self.images: np.ndarray | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.images = self._read()
        except BaseException as error:
            self.error = error

    def end(self) -> "Reading":
        self.join(LONG)
        assert not self.is_alive(), "it still reads"
        return self


def wait(event: threading.Event) -> None:
    assert event.wait(LONG), "it has not happened"


# -- by number --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["inline", "threads"])
@pytest.mark.parametrize("start", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 30])
def test_samples_are_read_across_shards(
    open_reader, request: pytest.FixtureRequest, threads: str, start: int, length: int
) -> None:
    if threads == "inline":
        request.getfixturevalue("inline")
    images = open_reader(40).read(start, start + length)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, samples(start, start + length))


def test_what_lies_in_one_shard_is_not_copied(open_reader, pool: FakeConnection) -> None:
    held = shard(0)
    pool.answer = lambda call: ("object", [lambda: held if call.number == 0 else shard(call.number)])
    assert np.shares_memory(open_reader(8).read(1, 4), held)


def test_samples_are_taken_by_number_in_any_order(open_reader) -> None:
    numbers = np.random.default_rng(0).permutation(40)
    images = open_reader(40).take(np.concatenate([numbers, numbers[:7]]))
    np.testing.assert_array_equal(images, samples(0, 40)[np.concatenate([numbers, numbers[:7]])])
    assert open_reader(40).take(np.array([], np.int64)).shape == (0, 1, 1, 4)


# -- ahead, and what is kept ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inline")
def test_a_few_shards_are_fetched_ahead_and_none_twice(open_reader, pool: FakeConnection) -> None:
    reader = open_reader(100 * SIZE)
    reader.read(0, 2)
    assert pool.asked == [0, 1, 2] and AHEAD == 2
    reader.read(2, 4)
    assert pool.asked == [0, 1, 2]
    reader.read(4, 6)
    assert pool.asked == [0, 1, 2, 3]
    assert {(call.name, call.last, call.lost) for call in pool.calls} == {("me", 99, False)}


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(("count", "last"), [(1, 0), (SIZE, 0), (SIZE + 1, 1), (7 * SIZE, 6)])
def test_nothing_is_fetched_beyond_the_last_shard(open_reader, pool: FakeConnection, count: int, last: int) -> None:
    reader = open_reader(count)
    for start in range(count):
        reader.read(start, start + 1)
    assert pool.asked == list(range(last + 1))
    assert {call.last for call in pool.calls} == {last}


@pytest.mark.usefixtures("inline")
def test_shards_ahead_are_asked_for_from_where_the_reader_stands(open_reader, pool: FakeConnection) -> None:
    """So the pool stays ahead of what is read, not of what is fetched."""
    open_reader(100 * SIZE).read(5 * SIZE, 5 * SIZE + 1)
    assert [(call.number, call.position) for call in pool.calls] == [(5, 5), (6, 5), (7, 5)]


@pytest.mark.usefixtures("inline")
def test_what_was_read_last_stays_for_the_other_members_of_a_bundle(open_reader, pool: FakeConnection) -> None:
    reader = open_reader(40 * SIZE)
    for start in range(20 * SIZE):
        reader.read(start, start + 1)
    before = len(pool.asked)
    assert sorted(pool.asked) == list(range(20 + AHEAD))
    for start in range((20 - HELD) * SIZE, 20 * SIZE):
        reader.read(start, start + 1)
    assert len(pool.asked) == before
    reader.read(0, 1)  # memory is bounded: this one has left
    assert pool.asked[before] == 0


@pytest.mark.usefixtures("inline")
def test_shards_to_take_from_stay_all(open_reader, pool: FakeConnection) -> None:
    reader = open_reader(40 * SIZE)
    for seed in range(3):
        numbers = np.random.default_rng(seed).permutation(40 * SIZE)
        np.testing.assert_array_equal(reader.take(numbers), samples(0, 40 * SIZE)[numbers])
    assert sorted(pool.asked) == list(range(40))


@pytest.mark.usefixtures("inline")
def test_evaluation_reads_under_a_name_of_its_own_and_not_ahead(open_reader, pool: FakeConnection) -> None:
    """Its shards lie far beyond the last; the pool must not take the reader of the training to be there."""
    first = EVALUATION_SHARD * SIZE
    images = open_reader(10 * SIZE).read(first, first + 2 * SIZE)
    np.testing.assert_array_equal(images, samples(first, first + 2 * SIZE))
    assert pool.asked == [EVALUATION_SHARD, EVALUATION_SHARD + 1]
    assert all(call.name != "me" and call.last <= EVALUATION_SHARD + 1 for call in pool.calls)


# -- what is needed first is made first -------------------------------------------------------------------------------


def test_the_pool_is_told_what_is_needed_first(open_reader, pool: FakeConnection) -> None:
    """Three shards are needed at once and none is there: the lowest is made first, whichever word comes last."""
    everything, released = threading.Event(), threading.Event()

    def answer(call: Call) -> tuple[str, Any]:
        if {0, 1, 2} <= set(pool.asked):
            everything.set()
        wait(released)
        return give(call)

    pool.answer = answer
    reader = open_reader(100 * SIZE)
    reading = Reading(lambda: reader.read(0, 3 * SIZE))
    wait(everything)
    calls = sorted(pool.calls, key=lambda call: call.number)
    released.set()
    np.testing.assert_array_equal(reading.end().images, samples(0, 3 * SIZE))
    for order in (calls, calls[::-1]):
        table = LeaseTable(stored=set(), ahead=AHEAD + 2)
        for call in order:
            table.want(call.name, call.position, call.last, 0.0)
        assert table.find_due(0.0) == 0


class Making:
    """A coordinator with a real lease table and one sampler: the shard, or "later" once nothing is due."""

    def __init__(self, ahead: int) -> None:
        self.table = LeaseTable(stored=set(), ahead=ahead)
        self.made: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> tuple[str, Any]:
        with self._lock:
            self.table.want(call.name, call.position, call.last, 0.0)
            while call.number not in self.table.stored and (number := self.table.find_due(0.0)) is not None:
                self.table.lease(number, "a", 0.0)
                self.table.complete(number)
                self.made.append(number)
            return give(call) if call.number in self.table.stored else later(call)


@pytest.mark.parametrize("ahead", [AHEAD, 4])
@pytest.mark.parametrize("piece", [1, 3 * SIZE, 12 * SIZE])
def test_every_piece_comes_however_large_it_is(
    open_reader, pool: FakeConnection, monkeypatch: pytest.MonkeyPatch, ahead: int, piece: int
) -> None:
    making = pool.answer = Making(ahead)
    reader = open_reader(24 * SIZE)
    for start in range(0, 24 * SIZE, piece):
        np.testing.assert_array_equal(reader.read(start, start + piece), samples(start, start + piece))
    assert sorted(making.made) == list(range(24))


# -- where a shard comes from -----------------------------------------------------------------------------------------

SILENCE = [ValueError("no such actor"), RayError("the node is gone"), GetTimeoutError("no answer")]


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("error", SILENCE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["coordinator", "answer"])
def test_files_are_read_while_the_coordinator_is_silent(
    open_reader, pool: FakeConnection, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    if where == "coordinator":
        monkeypatch.setattr(pool, "find_coordinator", raises(error))
    else:
        pool.answer = raises(error)
    for number in range(3):
        pool.files.write(number, shard(number), {})
    reader = open_reader(3 * SIZE)
    np.testing.assert_array_equal(reader.read(0, 3 * SIZE), samples(0, 3 * SIZE))
    assert reader.notes == []


@pytest.mark.usefixtures("inline")
def test_a_coordinator_that_was_silent_is_looked_up_anew(open_reader, pool: FakeConnection) -> None:
    errors = iter(SILENCE)

    def answer(call: Call) -> tuple[str, Any]:
        for error in errors:
            raise error
        return give(call)

    pool.answer = answer
    reader = open_reader(2 * SIZE)
    np.testing.assert_array_equal(reader.read(0, SIZE), samples(0, SIZE))
    assert pool.handles == len(SILENCE) + 1
    reader.read(SIZE, 2 * SIZE)
    assert pool.handles == len(SILENCE) + 1


@pytest.mark.usefixtures("inline")
def test_a_file_is_read_where_the_coordinator_says_later(open_reader, pool: FakeConnection) -> None:
    pool.answer = later
    pool.files.write(0, shard(0), {})
    np.testing.assert_array_equal(open_reader(SIZE).read(0, SIZE), samples(0, SIZE))
    assert len(pool.calls) == 1


@pytest.mark.usefixtures("inline")
def test_later_is_asked_again(open_reader, pool: FakeConnection) -> None:
    pool.answer = lambda call: give(call) if len(pool.calls) == 4 else later(call)
    np.testing.assert_array_equal(open_reader(SIZE).read(0, SIZE), samples(0, SIZE))
    assert pool.asked == [0] * 4 and not any(call.lost for call in pool.calls)


LOST = [RayError("gone"), GetTimeoutError("too long"), ObjectLostError("0" * 56, None, "")]


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_object_is_said_and_asked_for_again(open_reader, pool: FakeConnection, error: Exception) -> None:
    pool.answer = lambda call: give(call) if call.lost else ("object", [raises(error)])
    np.testing.assert_array_equal(open_reader(SIZE).read(0, SIZE), samples(0, SIZE))
    assert [(call.number, call.lost) for call in pool.calls] == [(0, False), (0, True)]


@pytest.mark.usefixtures("inline")
def test_an_object_of_a_missing_file_is_lost(open_reader, pool: FakeConnection) -> None:
    pool.answer = lambda call: give(call) if call.lost else ("object", [lambda: None])
    np.testing.assert_array_equal(open_reader(SIZE).read(0, SIZE), samples(0, SIZE))
    assert [(call.number, call.lost) for call in pool.calls] == [(0, False), (0, True)]


@pytest.mark.usefixtures("inline")
def test_a_damaged_file_is_set_aside_and_the_pool_asked_again(
    open_reader, pool: FakeConnection, tmp_path: Path
) -> None:
    path = tmp_path / "samples" / DIGEST / "shard-000000.arrow"
    pool.files.write(0, shard(0), {})
    path.write_bytes(path.read_bytes()[:-10])
    pool.answer = lambda call: give(call) if len(pool.calls) == 2 else later(call)
    reader = open_reader(SIZE)
    np.testing.assert_array_equal(reader.read(0, SIZE), samples(0, SIZE))
    (note,) = reader.notes
    assert str(path) in note and "set aside" in note
    assert not path.exists() and (path.parent / "set-aside" / path.name).exists()


# -- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inline")
def test_a_fault_is_an_error_where_there_is_no_file(open_reader, pool: FakeConnection) -> None:
    pool.answer = lambda call: ("fault", "no space left on device")
    pool.files.write(0, shard(0), {})
    reader = open_reader(2 * SIZE)
    np.testing.assert_array_equal(reader.read(0, SIZE), samples(0, SIZE))
    with pytest.raises(VaegenError, match="^no samples to train on: no space left on device$"):
        reader.read(0, 2 * SIZE)


@pytest.mark.usefixtures("inline")
def test_what_the_storage_refuses_the_pool_for_good_is_its_error(open_reader, pool: FakeConnection) -> None:
    pool.answer = lambda call: ("refused", "cannot write a shard: no space left on device")
    with pytest.raises(StorageError, match="^cannot write a shard: no space left on device$") as caught:
        open_reader(2 * SIZE).read(0, SIZE)
    assert caught.value.final


@pytest.mark.usefixtures("inline")
def test_a_fault_is_not_kept(open_reader, pool: FakeConnection) -> None:
    """One that only what is read ahead has met is no error of what is read now."""
    pool.answer = lambda call: ("fault", "full") if call.number == 1 and pool.asked.count(1) < 3 else give(call)
    reader = open_reader(2 * SIZE)
    np.testing.assert_array_equal(reader.read(0, SIZE), samples(0, SIZE))
    with pytest.raises(VaegenError, match="full"):
        reader.read(SIZE, 2 * SIZE)
    np.testing.assert_array_equal(reader.read(SIZE, 2 * SIZE), samples(SIZE, 2 * SIZE))


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (later, "the sampler pool makes nothing"),
        (raises(RayError("the node is gone\nat line 3")), "the node is gone"),
        (lambda call: ("object", [raises(RayError("no such object\n  at all"))]), "no such object"),
        (raises(GetTimeoutError()), "GetTimeoutError"),
    ],
)
def test_patience_ends(
    open_reader, pool: FakeConnection, clock: Clock, tmp_path: Path, answer: Answer, reason: str
) -> None:
    def late(call: Call) -> tuple[str, Any]:
        clock.now += 0.4 * PATIENCE_SECONDS
        return answer(call)

    pool.answer = late
    where = tmp_path / "samples" / DIGEST / "shard-000000.arrow"
    with pytest.raises(VaegenError, match=f"^{where} was not made within 900 s: {reason}$"):
        open_reader(SIZE).read(0, 1)
    assert PATIENCE_SECONDS < clock.now <= 2 * PATIENCE_SECONDS


@pytest.mark.usefixtures("inline")
def test_a_pool_that_makes_something_is_waited_for(open_reader, pool: FakeConnection, clock: Clock) -> None:
    """Hours, where one sampler serves many; once it makes nothing more, patience ends."""

    def busy(call: Call) -> tuple[str, Any]:
        clock.now += 0.6 * PATIENCE_SECONDS
        made = len(pool.calls)
        return give(call) if made == 20 and call.number == 0 else ("later", (100 * min(made, 30), 1))

    pool.answer = busy
    np.testing.assert_array_equal(open_reader(SIZE).read(0, 1), samples(0, 1))
    with pytest.raises(VaegenError, match="was not made within 900 s"):
        open_reader(2 * SIZE).read(SIZE, SIZE + 1)
    assert len(pool.calls) == 32


# -- waiting ----------------------------------------------------------------------------------------------------------


class Gate:
    """Answers of one shard stand still from ``asked`` on, until ``opened``."""

    def __init__(self, number: int, then: Answer = give) -> None:
        self.number = number
        self.then = then
        self.asked, self.opened = threading.Event(), threading.Event()

    def __call__(self, call: Call) -> tuple[str, Any]:
        if call.number != self.number:
            return give(call)
        self.asked.set()
        wait(self.opened)
        return self.then(call)


def test_waiting_is_counted_and_nothing_else(open_reader, pool: FakeConnection, clock: Clock) -> None:
    gate = pool.answer = Gate(0)
    reader = open_reader(SIZE)
    reading = Reading(lambda: reader.read(0, SIZE))
    wait(gate.asked)
    wait(clock.looked)  # from now on it waits
    clock.now = 7.0
    gate.opened.set()
    reading.end()
    assert reader.waited_seconds == 7.0
    clock.now = 100.0  # the training goes on
    reader.read(0, SIZE)
    reader.take(np.arange(SIZE))
    assert reader.waited_seconds == 7.0
    first = EVALUATION_SHARD * SIZE
    reader.read(first, first + 1)
    reader.read(first + SIZE, first + SIZE + 1)
    assert [call.waited for call in pool.calls] == [0.0, 7.0, 0.0]  # what the pool has not been told


def test_shards_that_come_while_the_training_goes_on_are_not_waited_for(
    open_reader, pool: FakeConnection, clock: Clock
) -> None:
    gate = pool.answer = Gate(1)
    reader = open_reader(2 * SIZE)
    np.testing.assert_array_equal(reader.read(0, SIZE), samples(0, SIZE))  # 1 is under way
    wait(gate.asked)
    clock.now = 50.0
    gate.opened.set()
    Reading(lambda: reader.read(SIZE, 2 * SIZE)).end()
    assert reader.waited_seconds == 0.0 and sorted(pool.asked) == [0, 1]


def test_one_that_waits_ends_when_the_reader_is_closed(open_reader, pool: FakeConnection, clock: Clock) -> None:
    gate = pool.answer = Gate(0, then=later)
    reader = open_reader(3 * SIZE)
    reading = Reading(lambda: reader.read(0, SIZE))
    wait(gate.asked)
    wait(clock.looked)
    reader.close()
    gate.opened.set()
    error = reading.end().error
    assert isinstance(error, VaegenError) and str(error) == "the reader of samples was closed"
    assert pool.forgotten == ["me", "me evaluation"]
    for thread in fetchers():
        thread.join(LONG)
    assert fetchers() == [] and pool.asked.count(0) == 1


def test_a_reader_that_never_read_speaks_to_nobody(open_reader, pool: FakeConnection) -> None:
    reader = open_reader(SIZE)
    reader.close()
    assert pool.handles == 0 and pool.forgotten == []


def test_closing_survives_a_lost_coordinator(
    open_reader, pool: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_reader(SIZE)
    monkeypatch.setattr(pool, "forgotten", SimpleNamespace(extend=raises(RayError("gone"))))
    np.testing.assert_array_equal(reader.read(0, SIZE), samples(0, SIZE))
    reader.close()
