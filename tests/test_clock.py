"""Clocks never go back and count in exact nanoseconds. Method: sources that are made to jump, and the simulated loop."""

import asyncio
import time

from haltcore.adapters.clock import LoopClock, WallClock
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
