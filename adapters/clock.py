"""Clocks: the one place where a process learns what time it is.

Every event is stamped in integer UTC nanoseconds, and within one process stamps never go back. The system's wall clock does: it is set
by hand and stepped by time services. So a live clock reads the wall once, when it is made, and from then on adds what the monotonic
clock has counted. The price: it does not follow later corrections of the wall, and on systems whose monotonic clock stops while
the machine sleeps it falls behind by that time. Both end with the next process.
"""

import asyncio
import time
from collections.abc import Callable

NS_PER_S = 1_000_000_000


class WallClock:
    """UTC nanoseconds: the wall once, then monotonic. The two sources are parameters for tests."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        # UTC at the moment where the monotonic clock stood at zero.
        self._origin_ns = wall_ns() - monotonic_ns()

    def now_ns(self) -> int:
        """The present."""
        return self._origin_ns + self._monotonic_ns()


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
