"""A store that fails before the eyes of a test: a real server, the way to it, and one fault that strikes when it is told to."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, TypeVar

import attrs
from haltcore.adapters.redis_store import RedisStore, script
from haltcore.fsm.config import StoreCheck, StorePolicy
from haltcore.fsm.events import StoreHealth

from tests.helpers import config
from tests.proxy import Proxy
from tests.runner_rig import Rig
from tests.servers import Persistence, Server

T = TypeVar("T")
LIMIT_S = 5.0
POLICY = StorePolicy(configured=True, claim_ms=30_000, check=StoreCheck.OFF)
#: What a server is given before it is asked, so that a request whose reply is lost was one that does something.
SCRIPTS = (
    ("account", "lease"), ("account", "latch"), ("guard",), ("state",), ("hold",), ("mark",), ("stream_append",), ("stream_read",),
)  # fmt: skip


class Fault(Enum):
    """What is wrong with the store, and what its answer comes to."""

    NONE = StoreHealth.OK, "answers"
    KILLED = StoreHealth.UNAVAILABLE, "killed"
    REFUSING = StoreHealth.UNAVAILABLE, "refuses"
    STALLED = StoreHealth.IN_DOUBT, "stalled"
    LOST = StoreHealth.IN_DOUBT, "reply lost"

    @property
    def health(self) -> StoreHealth:
        return self.value[0]


class Scene:
    """A server, the way to it, and a fault that strikes when it is told to."""

    def __init__(self, server: Server, way: Proxy, fault: Fault) -> None:
        self.fault, self._server, self._way = fault, server, way
        self._stores: list[RedisStore] = []
        self._limit_s = LIMIT_S

    def store(self, direct: bool = False) -> RedisStore:
        """A connection of its own, as products have one. ``direct`` is for looking: no reply is lost there."""
        url = self._way.url() if self.fault is Fault.LOST and not direct else self._server.url()
        self._stores.append(RedisStore(url, "matrix"))
        self._limit(self._limit_s)
        return self._stores[-1]

    def _limit(self, seconds: float) -> None:
        """How long a request may take. A product's 250 ms hold for a server that hangs; one that is well may be slow here."""
        self._limit_s = seconds
        for store in self._stores:
            store._link._limit_s = seconds

    async def strike(self, request: bytes) -> None:
        """The fault begins. ``request`` is what only the request has whose reply is to be lost."""
        if self.fault is Fault.KILLED:
            self._server.kill()
            for _ in range(3):  # the ends of the connections are there; the loop has to look
                await asyncio.sleep(0)
        elif self.fault is Fault.REFUSING:
            self._server.admin.execute_command("ACL", "SETUSER", "default", "-eval", "-evalsha")
        elif self.fault is Fault.STALLED:
            self._server.pause()
            self._limit(0.25)
        elif self.fault is Fault.LOST:
            self._way.arm(request)

    def heal(self) -> None:
        """All is well again. Raises AssertionError if the request that was to fail has not been made."""
        if self.fault is Fault.KILLED:
            self._server.start()
        elif self.fault is Fault.REFUSING:
            self._server.admin.execute_command("ACL", "SETUSER", "default", "+@all")
        elif self.fault is Fault.STALLED:
            self._server.resume()
            self._limit(LIMIT_S)
        elif self.fault is Fault.LOST:
            assert not self._way.disarm(), "the request whose reply was to be lost has not been made"

    @asynccontextmanager
    async def runner(self, venue: Any = None, poll_ms: int = 50, session: str = "matrix1", **options: Any) -> AsyncIterator[Rig]:
        """A runner under guard that has this store."""
        conf = config(session=session, store=attrs.evolve(POLICY, latch_poll_ms=poll_ms))
        async with Rig(venue, conf=conf, store=self.store(), on_stop="hand_over", **options) as rig:
            yield rig

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


async def until(true: Callable[[], Any], what: str) -> None:
    """Wait until it is true; it has to become so."""
    deadline = time.monotonic() + 10
    while not (result := true()) or (asyncio.iscoroutine(result) and not await result):
        assert time.monotonic() < deadline, f"it never came to be that {what}"
        await asyncio.sleep(0.005)


def word(text: str) -> bytes:
    """How a request has this word."""
    return f"${len(text)}\r\n{text}\r\n".encode()


def play(fault: Fault, story: Callable[[Scene], Awaitable[T]]) -> T:
    """Tell a story, in a scene of its own."""
    with Server(Persistence.AOF_EVERYSEC) as server, Proxy(server.port) as way:
        for names in SCRIPTS:
            server.admin.script_load(script(*names).source)

        async def told() -> T:
            scene = Scene(server, way, fault)
            try:
                return await story(scene)
            finally:
                await scene.close()

        return asyncio.run(told())
