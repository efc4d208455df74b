"""The lease table of a sampler pool: what is made next, how far ahead, and by how many samplers, on a manual clock."""

import random

import pytest

from vaegen_ray.service.sampling.leases import GROW_SECONDS, READER_SECONDS, REST_SECONDS, SHRINK_SECONDS, LeaseTable

AHEAD = 3
LONG = 1000
"""A reader's last shard that no test reaches."""


def build_table(*stored: int) -> LeaseTable:
    return LeaseTable(stored=set(stored), ahead=AHEAD)


def leased(table: LeaseTable, now: float = 0.0) -> list[int]:
    """Leases out all that is due, in that order."""
    numbers = []
    while (number := table.find_due(now)) is not None:
        table.lease(number, f"sampler of {number}", now)
        numbers.append(number)
    return numbers


def make_all(table: LeaseTable, now: float = 0.0) -> list[int]:
    """One sampler makes all that is due."""
    numbers = []
    while (number := table.find_due(now)) is not None:
        table.lease(number, "a", now)
        table.complete(number)
        numbers.append(number)
    return numbers


# -- what is made -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "wants", "goals", "expected"),
    [
        pytest.param({0, 1}, [], [], [], id="nobody wants a shard"),
        *(pytest.param(set(), [(n, n + LONG)], [], [n, n + 1, n + 2, n + 3], id=f"from {n}") for n in (0, 7, 900_000)),
        pytest.param(set(), [(5, 6)], [], [5, 6], id="none that nobody will read"),
        pytest.param(set(), [(5, 0)], [], [5], id="the last one before the wanted one"),
        pytest.param({0, 2}, [(0, LONG)], [], [1, 3], id="none that is stored"),
        pytest.param(
            set(),
            [(10, LONG), (4, LONG), (20, LONG)],
            [],
            [4, 10, 20, 5, 6, 7, 11, 12, 13, 21, 22, 23],
            id="what readers wait for first, the lowest before others",
        ),
        pytest.param({4}, [(4, LONG), (6, 6)], [], [6, 5, 7], id="what is ahead of one and next of another first"),
        pytest.param(
            {900_001},
            [(5, 6)],
            [(900_000, 900_001, 900_002, 0)],
            [5, 6, 900_000, 900_002, 0],
            id="goals in their order",
        ),
        pytest.param(set(), [], [(3, 4), (4, 5)], [3, 4, 5], id="two goals"),
    ],
)
def test_shards_are_due_in_this_order(
    stored: set[int], wants: list[tuple[int, int]], goals: list[tuple[int, ...]], expected: list[int]
) -> None:
    table = build_table(*stored)
    table.goals.update({f"client {i}": goal for i, goal in enumerate(goals)})
    for i, (number, last) in enumerate(wants):
        table.want(f"reader {i}", number, last, 0.0)
    assert leased(table) == expected
    assert table.find_due(0.0) is None


def test_the_pool_rests_until_a_reader_goes_on() -> None:
    table = build_table()
    table.want("a", 0, LONG, 0.0)
    assert make_all(table) == [0, 1, 2, 3]
    table.want("a", 0, LONG, 1.0)
    assert make_all(table) == []
    table.want("a", 1, LONG, 2.0)
    assert make_all(table) == [4]
    table.want("a", 6, LONG, 3.0)
    assert make_all(table) == [6, 7, 8, 9]  # 5 was skipped


def test_no_shard_is_leased_twice() -> None:
    table = build_table()
    table.want("a", 0, LONG, 0.0)
    table.want("b", 0, LONG, 0.0)
    assert leased(table) == [0, 1, 2, 3]
    table.want("c", 1, LONG, 0.0)
    assert leased(table) == [4]
    with pytest.raises(AssertionError, match="4"):
        table.lease(4, "another", 0.0)


def test_a_lease_that_was_given_up_is_due_again() -> None:
    table = build_table()
    table.want("a", 0, LONG, 0.0)
    assert leased(table) == [0, 1, 2, 3]
    table.release("sampler of 2", 2)
    assert leased(table) == [2]
    table.complete(2)
    table.release("sampler of 2", 2)  # it failed a second time
    assert table.find_due(0.0) is None


# -- readers ----------------------------------------------------------------------------------------------------------


def test_a_reader_waits_until_its_shard_is_there() -> None:
    table = build_table(0)
    table.want("a", 0, LONG, 0.0)
    assert table.list_waited_for() == []
    table.want("a", 1, LONG, 1.0)
    table.want("b", 3, LONG, 1.0)
    table.want("c", 3, LONG, 1.0)
    assert table.list_waited_for() == [1, 3]
    make_all(table)
    assert table.list_waited_for() == []


def test_asking_again_does_not_begin_the_wait_anew_but_another_shard_does() -> None:
    table = build_table()
    table.want("a", 0, LONG, 5.0)
    table.want("a", 0, LONG, 9.0)
    assert table.readers["a"].waits_since == 5.0
    table.want("a", 1, LONG, 11.0)
    assert table.readers["a"].waits_since == 11.0


def test_a_reader_that_says_nothing_has_ended() -> None:
    table = build_table()
    table.want("silent", 0, LONG, 0.0)
    table.want("heard", 50, LONG, 0.0)
    table.want("heard", 50, LONG, READER_SECONDS)
    assert table.find_due(READER_SECONDS) == 0
    assert make_all(table, READER_SECONDS + 0.1) == [50, 51, 52, 53]
    assert set(table.readers) == {"heard"}


# -- how many samplers ------------------------------------------------------------------------------------------------


class Pool:
    """A table whose samplers never finish unless told to, on a manual clock."""

    def __init__(self, *, low: int = 1, high: int = 4) -> None:
        self.table = build_table()
        self.bounds = {"low": low, "high": high}
        self.count = 0
        self.now = 100.0

    def after(self, seconds: float) -> int:
        """The number of samplers after some time; those that are there lease what is due."""
        self.now += seconds
        self.count = self.table.compute_pool_size(self.now, self.count, **self.bounds)
        while len(self.table.leases) < self.count and (number := self.table.find_due(self.now)) is not None:
            self.table.lease(number, "a", self.now)
        return self.count

    def finish(self) -> None:
        for number in list(self.table.leases):
            self.table.complete(number)


def test_no_work_no_samplers() -> None:
    pool = Pool(low=2)
    assert [pool.after(seconds) for seconds in (0, 1, 100)] == [0, 0, 0]


def test_the_pool_grows_one_by_one_while_a_reader_waits() -> None:
    pool = Pool(high=3)
    pool.table.want("a", 0, LONG, pool.now)
    step = GROW_SECONDS / 2
    assert [pool.after(seconds) for seconds in (0, step, step, step, step, step, step)] == [1, 1, 2, 2, 3, 3, 3]


def test_the_pool_does_not_grow_when_nobody_waits() -> None:
    pool = Pool()
    pool.table.stored.add(0)
    pool.table.want("a", 0, LONG, pool.now)  # has its shard; there is work ahead of it
    assert [pool.after(GROW_SECONDS) for _ in range(5)] == [1] * 5


def test_the_pool_does_not_grow_beyond_the_work() -> None:
    """A sampler without a lease would be no help to the reader that waits."""
    pool = Pool()
    pool.table.want("a", 0, 1, pool.now)
    assert [pool.after(GROW_SECONDS) for _ in range(6)] == [1, 2, 2, 2, 2, 2]


def test_a_short_wait_brings_no_sampler() -> None:
    pool = Pool()
    for number in range(20):
        pool.table.want("a", number, LONG, pool.now)
        assert [pool.after(0), pool.after(0.9 * GROW_SECONDS)] == [1, 1]
        pool.finish()


def test_the_reader_that_waits_longest_counts() -> None:
    pool = Pool(high=3)
    pool.table.want("stuck", 0, 0, pool.now)
    numbers = []
    for number in range(1, 9):
        pool.table.want("quick", 100 * number, LONG, pool.now)  # begins to wait anew
        numbers.append(pool.after(GROW_SECONDS / 2))
    assert numbers == [1, 1, 2, 2, 3, 3, 3, 3]


def test_the_pool_shrinks_one_by_one_to_the_least_number_when_nobody_waits() -> None:
    pool = Pool(low=2)
    pool.table.want("a", 0, LONG, pool.now)
    for _ in range(8):
        pool.after(GROW_SECONDS)
    assert pool.count == 4
    pool.finish()  # there is work ahead of the reader, but it does not wait
    assert [pool.after(seconds) for seconds in (0.9 * SHRINK_SECONDS, 0.2 * SHRINK_SECONDS)] == [4, 3]
    assert [pool.after(seconds) for seconds in (0.9 * SHRINK_SECONDS, 0.2 * SHRINK_SECONDS)] == [3, 2]
    assert [pool.after(SHRINK_SECONDS) for _ in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("low", [0, 1, 2])
def test_a_pool_without_work_ends_after_a_long_rest(low: int) -> None:
    pool = Pool(low=low)
    pool.table.want("a", 0, 0, pool.now)
    started = pool.after(0)
    assert started == max(1, low)
    pool.finish()
    pool.table.forget("a")
    assert pool.after(0) == started
    assert pool.after(0.99 * SHRINK_SECONDS) == started
    pool.after(0.99 * (REST_SECONDS - SHRINK_SECONDS))
    assert pool.count >= low
    assert pool.after(0.02 * REST_SECONDS) == 0
    pool.table.want("b", 1, 1, pool.now)
    assert pool.after(0) == max(1, low)


@pytest.mark.parametrize("low", [0, 1])
def test_while_there_is_something_to_make_there_is_a_sampler(low: int) -> None:
    """Nobody waits for what is made ahead, and there is much of it."""
    pool = Pool(low=low)
    pool.table.goals["sweep"] = tuple(range(200))
    numbers = []
    for _ in range(30):
        numbers.append(pool.after(SHRINK_SECONDS / 4))
        pool.finish()
    assert numbers == [1] * 30


def test_a_pool_in_which_readers_wait_does_not_shrink() -> None:
    pool = Pool(high=2)
    for number in range(10):
        pool.table.want("a", 100 * number, 10_000, pool.now)
        pool.after(GROW_SECONDS)
        pool.after(GROW_SECONDS)
        assert pool.after(SHRINK_SECONDS) == 2
        pool.finish()


@pytest.mark.parametrize("waits", [True, False])
def test_a_pool_above_its_bound_shrinks_to_it(waits: bool) -> None:
    """The sweep that allowed four has left, one that allows two goes on: also while its readers wait."""
    pool = Pool(high=4)
    pool.table.want("a", 0, LONG, pool.now)
    for _ in range(8):
        pool.after(GROW_SECONDS)
    assert pool.count == 4
    pool.bounds["high"] = 2
    for _ in range(6):
        if waits:
            pool.table.want("a", 100, LONG, pool.now)
        else:
            pool.finish()
        pool.after(SHRINK_SECONDS)
    assert pool.count <= 2


# -- all of it together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_any_interplay_of_readers_and_samplers(seed: int) -> None:
    """Readers of any speed, samplers that finish in any order or are lost: every shard is made once, the lowest that is
    waited for first, never more than ``ahead`` beyond the fastest reader; all readers come to their end."""
    draw = random.Random(seed)
    table = build_table()
    ends = {f"reader {i}": draw.randrange(5, 40) for i in range(draw.randrange(1, 5))}
    stands = dict.fromkeys(ends, 0)
    made: list[int] = []
    now = 0.0
    while stands:
        now += draw.random()
        for name in sorted(stands):
            table.want(name, stands[name], ends[name], now)
            if stands[name] in table.stored and draw.random() < 0.5:
                stands[name] += 1
                if stands[name] > ends[name]:
                    table.forget(name)
                    del stands[name]
        if len(table.leases) < 3 and (number := table.find_due(now)) is not None:
            assert number not in table.leases and number not in table.stored
            wanted = {reader.next for reader in table.readers.values()}
            missing = wanted - table.stored - table.leases.keys()
            assert number == min(missing) if missing else number <= max(wanted) + AHEAD
            assert number <= max(ends.values())
            table.lease(number, "a", now)
        if table.leases and draw.random() < 0.7:
            number = draw.choice(sorted(table.leases))
            if draw.random() < 0.2:
                table.release("a", number)
            else:
                table.complete(number)
                made.append(number)
    assert len(made) == len(set(made))
    assert set(range(max(ends.values()) + 1)) == set(made) | set(table.leases)


def test_depth_is_what_lies_ready_for_the_reader_that_has_least() -> None:
    table = build_table(0, 1, 2, 3, 5)
    assert table.compute_depth() is None
    table.want("a", 0, LONG, 0.0)
    assert table.compute_depth() == 4
    table.want("b", 3, LONG, 0.0)
    assert table.compute_depth() == 1
    table.want("c", 4, LONG, 0.0)
    assert table.compute_depth() == 0
    table.forget("c")
    table.want("b", 2, 3, 0.0)  # it reads no further
    assert table.compute_depth() == 2
