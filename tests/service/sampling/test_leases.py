"""The ledger of a sampler pool: what is made next, how far ahead, and by how many, with a made-up clock."""

import random

import pytest

from vaegen_ray.service.sampling.leases import GROW_SECONDS, READER_SECONDS, REST_SECONDS, SHRINK_SECONDS, LeaseTable

AHEAD = 3
LONG = 1000
"""A reader's last shard that no test reaches."""


def ledger(*stored: int) -> LeaseTable:
    return LeaseTable(stored=set(stored), ahead=AHEAD)


def leased(book: LeaseTable, now: float = 0.0) -> list[int]:
    """Leases out all that is due, in that order."""
    numbers = []
    while (number := book.find_due(now)) is not None:
        book.lease(number, f"sampler of {number}", now)
        numbers.append(number)
    return numbers


def make_all(book: LeaseTable, now: float = 0.0) -> list[int]:
    """One sampler makes all that is due."""
    numbers = []
    while (number := book.find_due(now)) is not None:
        book.lease(number, "a", now)
        book.complete(number)
        numbers.append(number)
    return numbers


# -- what is made -----------------------------------------------------------------------------------------------------


def test_nobody_wants_nothing() -> None:
    assert ledger().find_due(0.0) is None and ledger(0, 1).list_waited_for() == []


@pytest.mark.parametrize("first", [0, 7, 900_000])
def test_the_window_begins_with_what_is_wanted_and_goes_so_far_ahead(first: int) -> None:
    book = ledger()
    book.want("a", first, LONG + first, 0.0)
    assert leased(book) == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize(("last", "made"), [(5, [5]), (6, [5, 6]), (8, [5, 6, 7, 8]), (9, [5, 6, 7, 8]), (0, [5])])
def test_nothing_is_made_that_nobody_will_read(last: int, made: list[int]) -> None:
    """A last shard below the wanted one is the wanted one."""
    book = ledger()
    book.want("a", 5, last, 0.0)
    assert leased(book) == made


def test_shards_that_are_there_are_not_made() -> None:
    book = ledger(0, 2)
    book.want("a", 0, LONG, 0.0)
    assert leased(book) == [1, 3]


def test_the_pool_rests_until_a_reader_goes_on() -> None:
    book = ledger()
    book.want("a", 0, LONG, 0.0)
    assert make_all(book) == [0, 1, 2, 3]
    book.want("a", 0, LONG, 1.0)
    assert make_all(book) == []
    book.want("a", 1, LONG, 2.0)
    assert make_all(book) == [4]
    book.want("a", 6, LONG, 3.0)
    assert make_all(book) == [6, 7, 8, 9]  # 5 was skipped


def test_readers_share_what_is_made() -> None:
    book = ledger()
    book.want("slow", 0, LONG, 0.0)
    book.want("fast", 2, LONG, 0.0)
    assert sorted(leased(book)) == [0, 1, 2, 3, 4, 5]


def test_what_is_waited_for_goes_first_the_lowest_of_it_before_others() -> None:
    book = ledger()
    book.want("a", 10, LONG, 0.0)
    book.want("b", 4, LONG, 0.0)
    book.want("c", 20, LONG, 0.0)
    assert leased(book) == [4, 10, 20, 5, 6, 7, 11, 12, 13, 21, 22, 23]


def test_a_shard_that_others_have_ahead_is_first_for_the_one_that_waits() -> None:
    book = ledger(4)
    book.want("ahead", 4, LONG, 0.0)
    book.want("waits", 6, LONG, 0.0)
    assert book.find_due(0.0) == 6


def test_no_shard_is_leased_twice() -> None:
    book = ledger()
    book.want("a", 0, LONG, 0.0)
    book.want("b", 0, LONG, 0.0)
    assert leased(book) == [0, 1, 2, 3]
    book.want("c", 1, LONG, 0.0)
    assert leased(book) == [4]
    with pytest.raises(AssertionError, match="4"):
        book.lease(4, "another", 0.0)


def test_a_lease_that_was_given_up_is_due_again() -> None:
    book = ledger()
    book.want("a", 0, LONG, 0.0)
    assert leased(book) == [0, 1, 2, 3]
    book.release("sampler of 2", 2)
    assert leased(book) == [2]
    book.complete(2)
    book.release("sampler of 2", 2)  # it failed a second time
    assert book.find_due(0.0) is None


def test_a_lost_file_is_made_again_where_it_is_wanted() -> None:
    book = ledger(0, 1, 2, 3)
    book.want("a", 1, LONG, 0.0)
    assert make_all(book) == [4]
    book.discard(0)
    assert book.find_due(0.0) is None
    book.discard(2)
    assert make_all(book) == [2]


def test_goals_are_made_before_anybody_reads_and_after_what_is_waited_for() -> None:
    book = ledger(900_001)
    book.goals["sweep"] = (900_000, 900_001, 900_002, 0)
    book.want("a", 5, 6, 0.0)
    assert leased(book) == [5, 6, 900_000, 900_002, 0]  # a goal in its own order
    other = ledger()
    other.goals.update(one=(3, 4), two=(4, 5))
    assert leased(other) == [3, 4, 5]
    other.goals.pop("two")
    for number in (3, 4, 5):
        other.release(f"sampler of {number}", number)
    assert leased(other) == [3, 4]


# -- readers ----------------------------------------------------------------------------------------------------------


def test_a_reader_waits_until_its_shard_is_there() -> None:
    book = ledger(0)
    book.want("a", 0, LONG, 0.0)
    assert book.list_waited_for() == []
    book.want("a", 1, LONG, 1.0)
    book.want("b", 3, LONG, 1.0)
    book.want("c", 3, LONG, 1.0)
    assert book.list_waited_for() == [1, 3]
    make_all(book)
    assert book.list_waited_for() == []


def test_asking_again_does_not_begin_the_wait_anew_but_another_shard_does() -> None:
    book = ledger()
    book.want("a", 0, LONG, 5.0)
    book.want("a", 0, LONG, 9.0)
    assert book.readers["a"].waits_since == 5.0
    book.want("a", 1, LONG, 11.0)
    assert book.readers["a"].waits_since == 11.0


def test_a_reader_that_has_ended_is_not_waited_on() -> None:
    book = ledger()
    book.want("a", 0, LONG, 0.0)
    book.forget("a")
    book.forget("nobody")
    assert book.find_due(0.0) is None and book.list_waited_for() == []


def test_a_reader_that_says_nothing_has_ended() -> None:
    book = ledger()
    book.want("silent", 0, LONG, 0.0)
    book.want("heard", 50, LONG, 0.0)
    book.want("heard", 50, LONG, READER_SECONDS)
    assert book.find_due(READER_SECONDS) == 0
    assert make_all(book, READER_SECONDS + 0.1) == [50, 51, 52, 53]
    assert set(book.readers) == {"heard"}


# -- how many samplers ------------------------------------------------------------------------------------------------


class Pool:
    """A ledger whose samplers never finish unless told to, on a made-up clock."""

    def __init__(self, *, low: int = 1, high: int = 4) -> None:
        self.book = ledger()
        self.bounds = {"low": low, "high": high}
        self.count = 0
        self.now = 100.0

    def after(self, seconds: float) -> int:
        """The number of samplers after some time; those that are there lease what is due."""
        self.now += seconds
        self.count = self.book.compute_pool_size(self.now, self.count, **self.bounds)
        while len(self.book.leases) < self.count and (number := self.book.find_due(self.now)) is not None:
            self.book.lease(number, "a", self.now)
        return self.count

    def finish(self) -> None:
        for number in list(self.book.leases):
            self.book.complete(number)


def test_no_work_no_samplers() -> None:
    pool = Pool(low=2)
    assert [pool.after(seconds) for seconds in (0, 1, 100)] == [0, 0, 0]


def test_work_brings_the_least_number_at_once() -> None:
    pool = Pool(low=2)
    pool.book.want("a", 0, LONG, pool.now)
    assert pool.after(0) == 2


def test_the_pool_grows_one_by_one_while_a_reader_waits() -> None:
    pool = Pool(high=3)
    pool.book.want("a", 0, LONG, pool.now)
    step = GROW_SECONDS / 2
    assert [pool.after(seconds) for seconds in (0, step, step, step, step, step, step)] == [1, 1, 2, 2, 3, 3, 3]


def test_the_pool_does_not_grow_when_nobody_waits() -> None:
    pool = Pool()
    pool.book.stored.add(0)
    pool.book.want("a", 0, LONG, pool.now)  # has its shard; there is work ahead of it
    assert [pool.after(GROW_SECONDS) for _ in range(5)] == [1] * 5


def test_the_pool_does_not_grow_beyond_the_work() -> None:
    """A sampler without a lease would be no help to the reader that waits."""
    pool = Pool()
    pool.book.want("a", 0, 1, pool.now)
    assert [pool.after(GROW_SECONDS) for _ in range(6)] == [1, 2, 2, 2, 2, 2]


def test_a_short_wait_brings_no_sampler() -> None:
    pool = Pool()
    for number in range(20):
        pool.book.want("a", number, LONG, pool.now)
        assert [pool.after(0), pool.after(0.9 * GROW_SECONDS)] == [1, 1]
        pool.finish()


def test_the_reader_that_waits_longest_counts() -> None:
    pool = Pool(high=3)
    pool.book.want("stuck", 0, 0, pool.now)
    numbers = []
    for number in range(1, 9):
        pool.book.want("quick", 100 * number, LONG, pool.now)  # begins to wait anew
        numbers.append(pool.after(GROW_SECONDS / 2))
    assert numbers == [1, 1, 2, 2, 3, 3, 3, 3]


def test_the_pool_shrinks_one_by_one_to_the_least_number_when_nobody_waits() -> None:
    pool = Pool(low=2)
    pool.book.want("a", 0, LONG, pool.now)
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
    pool.book.want("a", 0, 0, pool.now)
    started = pool.after(0)
    assert started == max(1, low)
    pool.finish()
    pool.book.forget("a")
    assert pool.after(0) == started
    assert pool.after(0.99 * SHRINK_SECONDS) == started
    pool.after(0.99 * (REST_SECONDS - SHRINK_SECONDS))
    assert pool.count >= low
    assert pool.after(0.02 * REST_SECONDS) == 0
    pool.book.want("b", 1, 1, pool.now)
    assert pool.after(0) == max(1, low)


@pytest.mark.parametrize("low", [0, 1])
def test_while_there_is_something_to_make_there_is_a_sampler(low: int) -> None:
    """Nobody waits for what is made ahead, and there is much of it."""
    pool = Pool(low=low)
    pool.book.goals["sweep"] = tuple(range(200))
    numbers = []
    for _ in range(30):
        numbers.append(pool.after(SHRINK_SECONDS / 4))
        pool.finish()
    assert numbers == [1] * 30


def test_a_pool_in_which_readers_wait_does_not_shrink() -> None:
    pool = Pool(high=2)
    for number in range(10):
        pool.book.want("a", 100 * number, 10_000, pool.now)
        pool.after(GROW_SECONDS)
        pool.after(GROW_SECONDS)
        assert pool.after(SHRINK_SECONDS) == 2
        pool.finish()


@pytest.mark.parametrize("waits", [True, False])
def test_a_pool_above_its_bound_shrinks_to_it(waits: bool) -> None:
    """The sweep that allowed four has left, one that allows two goes on: also while its readers wait."""
    pool = Pool(high=4)
    pool.book.want("a", 0, LONG, pool.now)
    for _ in range(8):
        pool.after(GROW_SECONDS)
    assert pool.count == 4
    pool.bounds["high"] = 2
    for _ in range(6):
        if waits:
            pool.book.want("a", 100, LONG, pool.now)
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
    book = ledger()
    ends = {f"reader {i}": draw.randrange(5, 40) for i in range(draw.randrange(1, 5))}
    stands = dict.fromkeys(ends, 0)
    made: list[int] = []
    now = 0.0
    while stands:
        now += draw.random()
        for name in sorted(stands):
            book.want(name, stands[name], ends[name], now)
            if stands[name] in book.stored and draw.random() < 0.5:
                stands[name] += 1
                if stands[name] > ends[name]:
                    book.forget(name)
                    del stands[name]
        if len(book.leases) < 3 and (number := book.find_due(now)) is not None:
            assert number not in book.leases and number not in book.stored
            wanted = {reader.next for reader in book.readers.values()}
            missing = wanted - book.stored - book.leases.keys()
            assert number == min(missing) if missing else number <= max(wanted) + AHEAD
            assert number <= max(ends.values())
            book.lease(number, "a", now)
        if book.leases and draw.random() < 0.7:
            number = draw.choice(sorted(book.leases))
            if draw.random() < 0.2:
                book.release("a", number)
            else:
                book.complete(number)
                made.append(number)
    assert len(made) == len(set(made))
    assert set(range(max(ends.values()) + 1)) == set(made) | set(book.leases)


def test_depth_is_what_lies_ready_for_the_reader_that_has_least() -> None:
    book = ledger(0, 1, 2, 3, 5)
    assert book.compute_depth() is None
    book.want("a", 0, LONG, 0.0)
    assert book.compute_depth() == 4
    book.want("b", 3, LONG, 0.0)
    assert book.compute_depth() == 1
    book.want("c", 4, LONG, 0.0)
    assert book.compute_depth() == 0
    book.forget("c")
    book.want("b", 2, 3, 0.0)  # it reads no further
    assert book.compute_depth() == 2
