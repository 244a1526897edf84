"""Clocks never go back and count in exact nanoseconds. Method: sources that are made to jump, and the simulated loop."""

import asyncio
import time

from haltcore.adapters.clock import ClockWatch, LoopClock, WallClock
from haltcore.adapters.virtual_time import run
from hypothesis import given
from hypothesis import strategies as st

EPOCH_NS = 1_767_225_600 * 10**9


def test_the_wall_clock_begins_at_the_wall() -> None:
    before = time.time_ns()
    now = WallClock().now_ns()
    assert before - 10**9 < now < time.time_ns() + 10**9


@given(st.integers(0, 2**62), st.lists(st.tuples(st.integers(-(2**60), 2**60), st.integers(0, 2**40)), max_size=20))
def test_steps_of_the_wall_are_not_followed(start: int, moves: list[tuple[int, int]]) -> None:
    wall, monotonic = [EPOCH_NS], [start]
    clock = WallClock(lambda: wall[0], lambda: monotonic[0])
    assert clock.now_ns() == EPOCH_NS
    for step, passed in moves:
        wall[0] += step
        monotonic[0] += passed
        assert clock.now_ns() == EPOCH_NS + monotonic[0] - start


@given(st.lists(st.integers(0, 10**12), max_size=20))
def test_the_loop_clock_counts_every_nanosecond(waits: list[int]) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
        total = 0
        for wait in waits:
            await asyncio.sleep(wait / 10**9)
            total += wait
            assert clock.now_ns() == EPOCH_NS + total

    run(main())


@given(st.integers(0, 2**62), st.lists(st.tuples(st.integers(-(2**60), 2**60), st.integers(0, 2**40)), max_size=20))
def test_how_far_the_wall_is_ahead_is_the_sum_of_its_steps(start: int, moves: list[tuple[int, int]]) -> None:
    wall, monotonic, stepped = [EPOCH_NS], [start], 0
    clock = WallClock(lambda: wall[0], lambda: monotonic[0])
    for step, passed in moves:
        stepped += step
        wall[0] += step + passed
        monotonic[0] += passed
        assert clock.offset_ns() == stepped


def test_a_loop_knows_no_other_time() -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
        await asyncio.sleep(5)
        assert clock.offset_ns() == 0

    run(main())


class _Stepped:
    """A clock beside which the wall stands where a test puts it."""

    ahead_ns = 0
    reads = 0

    def now_ns(self) -> int:
        return 0

    def offset_ns(self) -> int:
        self.reads += 1
        return self.ahead_ns


def test_a_watch_tells_at_once_and_then_what_has_moved_noticeably() -> None:
    async def main() -> None:
        clock, told = _Stepped(), list[int]()
        watch = ClockWatch(clock, told.append, 500)
        watch.look()
        assert told == [0]
        for ahead_ms in (10, 10.000001, 20, 20.000002, -1):
            clock.ahead_ns = round(ahead_ms * 10**6)
            await asyncio.sleep(1)
        assert told == [0, 10_000_001, 20_000_002, -1_000_000]
        assert clock.reads == 6
        watch.stop()
        await asyncio.sleep(5)
        assert clock.reads == 6

    run(main())


def test_a_watch_for_small_jumps_looks_closer() -> None:
    async def main() -> None:
        clock, told = _Stepped(), list[int]()
        watch = ClockWatch(clock, told.append, 2)
        watch.look()
        for ahead_ns in (1_000_000, 1_000_001):
            clock.ahead_ns = ahead_ns
            await asyncio.sleep(1)
        assert told == [0, 1_000_001]
        watch.stop()
        ClockWatch(clock, told.append, 2).stop()

    run(main())
