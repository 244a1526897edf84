"""An event loop whose time is simulated: it never waits, it jumps.

A real loop with nothing to run sleeps until its next timer. This one sets its clock to that timer instead. A minute of waiting then
takes no time, and every run of the same coroutine goes through the same callbacks in the same order at the same nanoseconds:

- time is an integer count of nanoseconds that starts at 0 and moves only by jumps;
- ready callbacks run first in, first out; timers run by due time, and equal due times in the order in which they were set
  (the heap of a stock loop leaves that order open);
- tasks are hashed by their number, not by their address, so that a set of tasks, such as a ``TaskGroup`` cancels, has one order;
- whatever would bring in time or order from outside is refused with :class:`Unsimulated`: executors, sockets, threads, signals;
- a loop that has nothing ready and no timer would wait for ever; it raises :class:`Deadlock`.

The loop is a stock selector loop with two parts replaced: the selector, whose ``select`` is the one place where a loop waits, and the
store of timers. ``asyncio.timeout``, ``wait_for``, tasks, queues and locks are the standard library's own.
"""

import asyncio
import heapq
import selectors
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

NS_PER_S = 1_000_000_000
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set, so nothing can ever happen again."""


class TimeLimit(RuntimeError):
    """The simulation would pass the limit that its caller gave."""


class Unsimulated(RuntimeError):
    """Something that has no simulated time was asked for: a thread, an executor, a socket."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop. ``on_jump`` is called with the new time in nanoseconds after every jump and before the callbacks that are due then.

    A demo paces itself there: it sleeps until the real moment that corresponds.
    """

    def __init__(self, on_jump: Callable[[int], None] | None = None) -> None:
        self._now_ns = 0
        self._limit_ns: int | None = None
        self._on_jump = on_jump
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._timers_set = 0
        self._tasks_made = 0
        self._home = threading.get_ident()
        super().__init__(_Jumps(self._jump))
        self.set_task_factory(self._numbered)

    def time(self) -> float:
        """Simulated seconds. Exact to the nanosecond for the first 26 days."""
        return self._now_ns / NS_PER_S

    def now_ns(self) -> int:
        """Simulated nanoseconds since the loop was made."""
        return self._now_ns

    def limit(self, limit_s: float | None) -> None:
        """Raise :class:`TimeLimit` instead of jumping further than ``limit_s`` seconds from now; None takes the limit away."""
        self._limit_ns = None if limit_s is None else self._now_ns + round(limit_s * NS_PER_S)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio. The delay is rounded to whole nanoseconds."""
        return self._set_timer(self._now_ns + round(delay * NS_PER_S), callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio. The moment is rounded to whole nanoseconds."""
        return self._set_timer(round(when * NS_PER_S), callback, args, context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """``call_soon``, for the loop's own thread only."""
        if threading.get_ident() != self._home:
            raise Unsimulated("another thread called into a simulated loop; when it does so is not part of the simulation. Use tasks.")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: object, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:  # noqa: ARG002
        """Refused: a thread takes real time."""
        name = getattr(func, "__qualname__", repr(func))
        raise Unsimulated(f"run_in_executor({name}): a thread takes real time. Call it directly, or pass in a simulated port.")

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:  # noqa: ARG002
        """Refused: a signal comes from outside. The default handling, KeyboardInterrupt, works."""
        raise Unsimulated(f"add_signal_handler({sig}): a signal comes from outside of the simulation")

    def _numbered(self, loop: Any, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        self._tasks_made += 1
        options["name"] = options.get("name") or f"Task-{self._tasks_made}"
        return _Task(self._tasks_made, coro, loop=loop, **options)

    def _set_timer(
        self, when_ns: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        self._check_open()
        timer = asyncio.TimerHandle(when_ns / NS_PER_S, callback, args, self, context)
        self._timers_set += 1
        heapq.heappush(self._timers, (when_ns, self._timers_set, timer))
        return timer

    def _check_open(self) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")

    def _jump(self, idle: bool) -> None:
        """Hand over the timers that are due; when nothing else is ready, go to the first one that is set."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if idle:
            if not self._timers:
                raise Deadlock(f"nothing left to wait for, at {self.time():.9f} s: {self._waiting()}")
            self._move_to(self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now_ns:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self.call_soon(_fire, timer)

    def _move_to(self, when_ns: int) -> None:
        if when_ns <= self._now_ns:
            return
        if self._limit_ns is not None and when_ns > self._limit_ns:
            raise TimeLimit(f"still running at the limit of {self._limit_ns / NS_PER_S:g} simulated s: {self._waiting()}")
        self._now_ns = when_ns
        if self._on_jump is not None:
            self._on_jump(when_ns)

    def _waiting(self) -> str:
        names = [f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})" for task in _by_age(self)]
        return f"waiting are {', '.join(names)}" if names else "no task is waiting"


class _Task(asyncio.Task[Any]):
    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def set_name(self, value: object) -> None:
        # Python 3.13.0 to 3.13.2 call this with None for a task that was given no name.
        if value is not None:
            super().set_name(value)


def _by_age(loop: VirtualTimeLoop) -> list[asyncio.Task[Any]]:
    return sorted(asyncio.all_tasks(loop), key=hash)


def _fire(timer: asyncio.TimerHandle) -> None:
    # A callback that ran just before may have cancelled this timer.
    if not timer.cancelled():
        timer._run()


class _Jumps(selectors.SelectSelector):
    """A selector that jumps where another one waits. It holds one entry only, the loop's own wake-up pipe."""

    def __init__(self, jump: Callable[[bool], None]) -> None:
        super().__init__()
        self._jump = jump

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.get_map():
            raise Unsimulated("a socket or pipe was to be watched in a simulated loop; real input and output take real time.")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # The loop holds no timer of its own, so it asks either not to wait (0) or to wait for ever (None).
        self._jump(timeout is None)
        return []


def run(
    main: Coroutine[Any, Any, T], *, limit_s: float | None = None, on_jump: Callable[[int], None] | None = None
) -> T:
    """Run a coroutine on a fresh simulated loop, as ``asyncio.run`` does on a real one, and return its result.

    Tasks that are left over are cancelled, and have ``limit_s`` again to end. Raises :class:`Deadlock` and :class:`TimeLimit`.
    """
    loop = VirtualTimeLoop(on_jump)
    try:
        loop.limit(limit_s)
        try:
            return loop.run_until_complete(main)
        finally:
            loop.limit(limit_s)
            _cancel_left_over(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _cancel_left_over(loop: VirtualTimeLoop) -> None:
    left = _by_age(loop)
    for task in left:
        task.cancel()
    if not left:
        return
    results = loop.run_until_complete(_gather(left))
    for task, result in zip(left, results, strict=True):
        if isinstance(result, Exception):
            loop.call_exception_handler({"message": "a left-over task failed while it was cancelled", "exception": result, "task": task})


async def _gather(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)
