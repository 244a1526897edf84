"""Clocks: the one place where a process learns what time it is.

Every event is stamped in integer UTC nanoseconds, and within one process stamps never go back. The system's wall clock does: it is set
by hand and stepped by time services. So a live clock reads the wall once, when it is made, and from then on adds what the monotonic
clock has counted. The price: it does not follow later corrections of the wall, and on systems whose monotonic clock stops while
the machine sleeps it falls behind by that time. Both end with the next process; until then :class:`ClockWatch` tells how far the
two are apart, so that a jump of the wall can freeze.
"""

import asyncio
import time
from collections.abc import Callable

from .ports import Clock

NS_PER_S = 1_000_000_000
#: How often a watched clock is read, and the least step that is worth a record; finer than any limit that is set on it.
WATCH_S = 1.0
NOTICEABLE_NS = 10_000_000


class WallClock:
    """UTC nanoseconds: the wall once, then monotonic. The two sources are parameters for tests."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
        # UTC at the moment where the monotonic clock stood at zero.
        self._origin_ns = wall_ns() - monotonic_ns()

    def now_ns(self) -> int:
        """The present."""
        return self._origin_ns + self._monotonic_ns()

    def offset_ns(self) -> int:
        """How far the wall is ahead now."""
        return self._wall_ns() - self.now_ns()


class LoopClock:
    """UTC nanoseconds of a loop's time; ``epoch_ns`` is what UTC shows when the loop's time is 0.

    On a :class:`~haltcore.adapters.virtual_time.VirtualTimeLoop` exact for the first 26 simulated days.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch_ns: int) -> None:
        self._loop = loop
        self._epoch_ns = epoch_ns

    def now_ns(self) -> int:
        """The present."""
        return self._epoch_ns + round(self._loop.time() * NS_PER_S)

    def offset_ns(self) -> int:
        """Always 0: there is no other time."""
        return 0


class ClockWatch:
    """Reads once a second how far the wall is ahead of a clock, and tells it at the start and whenever it has moved noticeably."""

    def __init__(self, clock: Clock, tell: Callable[[int], None], jump_ms: int) -> None:
        self._clock, self._tell = clock, tell
        self._noticeable_ns = min(NOTICEABLE_NS, jump_ms * NS_PER_S // 2_000)
        self._told_ns: int | None = None
        self._handle: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Read it now, and from now on every second."""
        self._handle = asyncio.get_running_loop().call_later(WATCH_S, self.look)
        offset_ns = self._clock.offset_ns()
        if self._told_ns is None or abs(offset_ns - self._told_ns) > self._noticeable_ns:
            self._told_ns = offset_ns
            self._tell(offset_ns)

    def stop(self) -> None:
        """Read it no more."""
        if self._handle is not None:
            self._handle.cancel()
