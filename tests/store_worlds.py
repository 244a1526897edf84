"""Worlds in which what stands on the store port is tested: a store of each kind with its clock, and a store that fails when a test says so.

In memory time is simulated. A real server has its own time, so there a test's waiting moves the test's clock, and makes what was
given out on a stream as old as it would be by then; times to live are not moved.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from haltcore.adapters.clock import LoopClock
from haltcore.adapters.coordination import StoreFailed
from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.adapters.redis_store import GROUP, RedisStore
from haltcore.adapters.virtual_time import run
from haltcore.fsm.events import StoreHealth

from tests.servers import Server

T = TypeVar("T")
EPOCH_NS = 1_767_225_600_000_000_000
UNAVAILABLE, IN_DOUBT, LOST = "unavailable", "in_doubt", "lost"


class MemoryWorld:
    """Simulated time, and a state in memory. ``idle_ms`` is from when an entry is stuck here."""

    idle_ms = 60_000

    def __init__(self) -> None:
        self.clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
        self.state = MemoryState(self.clock.now_ns)

    def store(self) -> Any:
        """A connection of its own."""
        return MemoryStore(self.state)

    def fresh(self) -> "MemoryWorld":
        """Another world of the kind, in which nothing has happened yet."""
        return type(self)()

    async def lose_group(self, stream: str) -> None:
        """The stream stays, who was given what is forgotten."""
        self.state.streams.lose_group(stream)

    async def lose_stream(self, stream: str) -> None:
        """The stream is gone, and nothing else."""
        del self.state.streams.streams[stream]

    @property
    def now_ms(self) -> int:
        return self.clock.now_ns() // 1_000_000

    @staticmethod
    async def wait(ms: int) -> None:
        await asyncio.sleep(ms / 1_000)

    @classmethod
    def play(cls, story: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Run a story in a world of its own."""

        async def told() -> T:
            return await story(cls())

        return run(told(), limit_s=10**7)


@cache
def _server() -> Server:
    """One for all; it is ended when Python ends."""
    server = Server()
    server.start()
    return server


class RedisWorld:
    """A real server, under an account that nobody else has."""

    idle_ms = 60_000
    _accounts = itertools.count(1)

    def __init__(self) -> None:
        self.clock, self._now_ns = self, EPOCH_NS
        self._account = f"world{next(self._accounts)}"
        self._stores: list[RedisStore] = []

    def now_ns(self) -> int:
        return self._now_ns

    @property
    def now_ms(self) -> int:
        return self._now_ns // 1_000_000

    def store(self) -> Any:
        # The machine may be busy, and the limit of time is not what is tested here.
        self._stores.append(RedisStore(_server().url(), self._account, timeout_ms=10_000))
        return self._stores[-1]

    def fresh(self) -> "RedisWorld":
        made = type(self)()
        made._stores = self._stores
        return made

    async def lose_group(self, stream: str) -> None:
        _server().admin.xgroup_destroy(self._key(stream), GROUP)

    async def lose_stream(self, stream: str) -> None:
        _server().admin.delete(self._key(stream))

    async def wait(self, ms: int) -> None:
        await asyncio.sleep(0)
        self._now_ns += ms * 1_000_000
        admin = _server().admin
        for key in admin.keys(self._key("*")):
            if admin.type(key) in (b"stream", "stream") and admin.xinfo_groups(key):
                for given in admin.xpending_range(key, GROUP, "-", "+", 1_000):
                    idle = given["time_since_delivered"] + ms
                    admin.xclaim(key, GROUP, given["consumer"], 0, [given["message_id"]], idle=idle, justid=True)

    def _key(self, stream: str) -> str:
        return f"{{haltcore:{self._account}}}:stream:{stream}"

    @classmethod
    def play(cls, story: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        async def told() -> T:
            world = cls()
            try:
                return await story(world)
            finally:
                for store in world._stores:
                    await store.close()

        return asyncio.run(told())


class Flaky:
    """A store before another one. ``before`` and ``after`` are called around every operation with its name and number, counted from 1, and
    may wait or raise; ``calls`` are all operations that were begun."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls: list[str] = []
        self.before: Callable[[str, int], Awaitable[None]] = _nothing
        self.after: Callable[[str, int], Awaitable[None]] = _nothing

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)

        async def call(*arguments: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls)
            await self.before(name, number)
            answer = await operation(*arguments)
            await self.after(name, number)
            return answer

        return call

    def fail(self, fault: str, when: Callable[[str, int], bool] = lambda _name, _number: True) -> None:
        """From now on, operations for which ``when`` is true fail: not applied (UNAVAILABLE, IN_DOUBT), or applied and unheard (LOST)."""
        health = StoreHealth.UNAVAILABLE if fault == UNAVAILABLE else StoreHealth.IN_DOUBT

        async def failing(name: str, number: int) -> None:
            if when(name, number):
                raise StoreFailed(health, "flaky", f"{fault} at {name}, operation {number}")

        self.heal()
        if fault == LOST:
            self.after = failing
        else:
            self.before = failing

    def heal(self) -> None:
        """From now on everything answers."""
        self.before = self.after = _nothing


async def _nothing(_name: str, _number: int) -> None:
    pass


WORLDS = [MemoryWorld, RedisWorld]
