"""The simulated loop keeps asyncio's promises about order and time, and refuses whatever it cannot simulate.

Method: small coroutines that note the simulated nanosecond of each thing they do, a comparison of whole traces between two runs, and
a real clock around a long simulated wait.
"""

import asyncio
import gc
import threading
import time
from collections.abc import Callable

import pytest
from haltcore.adapters.virtual_time import Deadlock, TimeLimit, Unsimulated, VirtualTimeLoop, run
from hypothesis import given
from hypothesis import strategies as st


def now() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.now_ns()


def test_a_day_of_waiting_takes_no_time() -> None:
    async def main() -> int:
        for _ in range(24):
            await asyncio.sleep(3_600)
        return now()

    began = time.monotonic()
    assert run(main()) == 86_400 * 10**9
    assert time.monotonic() - began < 5


def test_time_is_exact_to_the_nanosecond() -> None:
    async def main() -> int:
        for _ in range(1_000):
            await asyncio.sleep(0.1)
        await asyncio.sleep(1e-9)
        return now()

    assert run(main()) == 100 * 10**9 + 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_timers_fire_by_due_time_and_equal_ones_in_the_order_they_were_set(delays: list[int]) -> None:
    async def main() -> list[int]:
        fired: list[int] = []
        loop = asyncio.get_running_loop()
        for index, delay in enumerate(delays):
            loop.call_later(delay, fired.append, index)
        await asyncio.sleep(4)
        return fired

    assert run(main()) == sorted(range(len(delays)), key=lambda index: delays[index])


def test_ready_callbacks_run_first_in_first_out_and_before_due_timers() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(0, seen.append, "timer")
        loop.call_soon(seen.append, "first")
        loop.call_soon_threadsafe(seen.append, "second")
        await asyncio.sleep(1)
        return seen

    assert run(main()) == ["first", "second", "timer"]


def test_cancelled_timers_neither_fire_nor_move_the_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[list[str], int]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_at(50.0, seen.append, "never").cancel()
        other = loop.call_later(1, seen.append, "cancelled in time")
        # Due at the same moment as its victim, but set before it.
        victims: list[asyncio.TimerHandle] = []
        loop.call_later(2, lambda: victims[0].cancel())
        victims.append(loop.call_later(2, seen.append, "victim"))
        other.cancel()
        await asyncio.sleep(3)
        return seen, now()

    assert run(main()) == ([], 3 * 10**9)
    assert not caplog.records  # a cancelled handle that runs is an error in asyncio's log


def test_timeouts_of_the_standard_library_work() -> None:
    async def main() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 1.25)
        return now()

    assert run(main()) == 3_750_000_000


def test_a_deadlock_is_an_error_that_names_who_waits() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match=r"nothing left to wait for, at 0\.0+ s: waiting are Task-1 \(.*main\)"):
        run(main())


def test_a_limit_ends_an_endless_simulation() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0.5)

    with pytest.raises(TimeLimit, match="limit of 60 simulated s"):
        run(main(), limit_s=60)


def test_the_limit_itself_is_still_reached() -> None:
    assert run(asyncio.sleep(60, "done"), limit_s=60) == "done"


def test_left_over_tasks_are_cancelled_oldest_first_and_may_clean_up() -> None:
    ended: list[tuple[str, int]] = []

    async def linger(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append((name, now()))

    async def main() -> str:
        tasks = [asyncio.create_task(linger(name), name=name) for name in "cab"]
        await asyncio.sleep(0)
        return str(len(tasks))

    assert run(main()) == "3"
    assert ended == [("c", 10**9), ("a", 10**9), ("b", 10**9)]


def test_a_failure_during_cancellation_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("on the way out")

    async def main() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        assert not task.done()

    run(main())
    assert "left-over task failed" in caplog.text


def test_a_left_over_task_that_never_ends_hits_the_limit() -> None:
    async def immortal() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        task = asyncio.create_task(immortal())
        await asyncio.sleep(0.5)
        assert not task.done()

    with pytest.raises(TimeLimit):
        run(main(), limit_s=10)
    # What asyncio says of a task that was left pending belongs to this test, and not behind the summary of all.
    gc.collect()


def test_async_generators_are_closed() -> None:
    closed: list[bool] = []

    async def numbers() -> object:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main() -> None:
        generator = numbers()
        async for _ in generator:  # type: ignore[attr-defined]
            break
        kept.append(generator)

    kept: list[object] = []
    run(main())
    assert closed == [True]


def _executor() -> None:
    asyncio.get_running_loop().run_in_executor(None, time.time)


def _reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


def _signal() -> None:
    asyncio.get_running_loop().add_signal_handler(2, print)


def _thread() -> None:
    loop = asyncio.get_running_loop()
    errors: list[BaseException] = []

    def call() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except Unsimulated as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    raise errors[0]


@pytest.mark.parametrize("intrude", [_executor, _reader, _signal, _thread])
def test_what_has_no_simulated_time_is_refused(intrude: Callable[[], None]) -> None:
    async def main() -> None:
        intrude()

    with pytest.raises(Unsimulated):
        run(main())


def test_to_thread_is_refused_and_names_the_function() -> None:
    with pytest.raises(Unsimulated, match="run_in_executor"):
        run(asyncio.to_thread(time.time))


def test_a_closed_loop_takes_no_timer() -> None:
    loop = VirtualTimeLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)


def test_the_hook_sees_every_jump_before_its_callbacks() -> None:
    seen: list[object] = []

    async def main() -> None:
        await asyncio.sleep(1)
        seen.append("one")
        await asyncio.sleep(0)
        await asyncio.sleep(2)
        seen.append("three")

    run(main(), on_jump=seen.append)
    assert seen == [10**9, "one", 3 * 10**9, "three"]


def trace(width: int) -> list[tuple[int, str]]:
    """A crowd with queues, a task group that fails, and sets of tasks: whatever asyncio does in the order of a set shows here."""
    events: list[tuple[int, str]] = []

    async def worker(number: int, queue: "asyncio.Queue[int]") -> None:
        try:
            while True:
                item = await queue.get()
                await asyncio.sleep(item % 3 / 10)
                events.append((now(), f"{number} did {item}"))
                if item == 3 * width:
                    raise ValueError("enough")
        except asyncio.CancelledError:
            events.append((now(), f"{number} cancelled"))
            raise

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        for item in range(4 * width):
            queue.put_nowait(item)
        async with asyncio.TaskGroup() as group:
            for number in range(width):
                group.create_task(worker(number, queue))

    with pytest.raises(ExceptionGroup):
        run(main())
    return events


def test_two_runs_are_the_same_run() -> None:
    first = trace(40)
    ballast = [object() for _ in range(1_234)]  # other addresses for the second run
    assert trace(40) == first
    assert len(ballast) == 1_234
    assert sum(text.endswith("cancelled") for _, text in first) == 39
