"""A store under test, and what a test may do to it, the same for every store.

Operations are called without ``await``: a client runs each to its end. ``together`` runs several at once. Time moves by ``pass_ms``: in
memory it is set, and on a server, whose clock is its own, it has to pass; so tests that need it gather everything that runs out
into few of them, and their times are short.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.adapters.redis_store import GROUP, RedisStore
from haltcore.adapters.store_effects import EffectStore
from redis import ResponseError

from tests.servers import Server

#: Longer than any test lasts.
LONG = 600_000


class Client:
    """One connection. Has every operation of ``Coordination``, which it runs to its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: EffectStore) -> None:
        self.loop, self.store = loop, store

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        carry_out = getattr(self.store, operation)
        return lambda *arguments: self.loop.run_until_complete(carry_out(*arguments))


class Rig(Protocol):
    """A store with nothing in it."""

    loop: asyncio.AbstractEventLoop

    def connect(self) -> EffectStore:
        """A new connection to it."""
        ...

    def pass_ms(self, ms: int) -> None:
        """Let time pass."""
        ...

    def flush(self) -> None:
        """The store loses everything."""
        ...

    def lose_group(self, stream: str) -> None:
        """The store loses who was given what of a stream."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def client(rig: Rig) -> Client:
    """A new connection."""
    return Client(rig.loop, rig.connect())


def together(rig: Rig, *operations: Awaitable[Any]) -> list[Any]:
    """Run them at once; their answers."""

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*operations))

    return rig.loop.run_until_complete(all_of_them())


class MemoryRig:
    """The store in memory, with a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.now_ns = 1_700_000_000_000_000_000
        self.state = MemoryState(lambda: self.now_ns)

    def connect(self) -> EffectStore:
        return MemoryStore(self.state)

    def pass_ms(self, ms: int) -> None:
        self.now_ns += ms * 1_000_000

    def flush(self) -> None:
        self.state.flush()

    def lose_group(self, stream: str) -> None:
        self.state.streams.lose_group(stream)

    def close(self) -> None:
        self.loop.close()


class RedisRig:
    """A store on a server, under an account of its own."""

    _accounts = itertools.count(1)

    def __init__(self, server: Server) -> None:
        self.loop = asyncio.new_event_loop()
        self._server, self._account = server, f"contract{next(self._accounts)}"
        self._stores: list[RedisStore] = []

    def connect(self) -> EffectStore:
        # Many connections at once on a busy machine: the limit of time is not what is tested here.
        self._stores.append(RedisStore(self._server.url(), self._account, timeout_ms=10_000))
        return self._stores[-1]

    def pass_ms(self, ms: int) -> None:
        time.sleep(ms / 1_000)

    def flush(self) -> None:
        if keys := self._server.admin.keys(f"{{haltcore:{self._account}}}*"):
            self._server.admin.delete(*keys)

    def lose_group(self, stream: str) -> None:
        with contextlib.suppress(ResponseError):
            self._server.admin.xgroup_destroy(f"{{haltcore:{self._account}}}:stream:{stream}", GROUP)

    def close(self) -> None:
        self.flush()
        self.loop.run_until_complete(self._close())
        self.loop.close()

    async def _close(self) -> None:
        for store in self._stores:
            await store.close()
