"""What the tests of side effects share: a venue, a store that can be struck at any operation, and processes that die.

The venue is the meanest kind: it fills at once, and checks client ids over open orders only, so an order that is sent twice is there twice.
A process dies by stopping: the request that it dies at never comes back, and nothing that it would have done after that reaches the store.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from haltcore.adapters.coordination import Claim, Claimed, GuardRow, StoreFailed
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.memory_store import MemoryStore
from haltcore.adapters.side_effects import Absent, Done, Found, NotExecuted, Once, Query, SideEffect, SideEffectGuard
from haltcore.effects import GuardState
from haltcore.fsm.events import StoreHealth
from haltcore.fsm.guard import guard_key

NS = 10**9
ENTITY = "BTCUSDT buy 1 at 100, signal 7"
VALID_MS, DEED_MS = 2_000, 5_000
#: After so long, a row that was seen SENT is of a deed that can no longer arrive.
EXPIRED_S = (VALID_MS + DEED_MS) / 1_000 + 0.001
#: Where a process can die; see the table of ``adapters/side_effects.py``.
POINTS = ("none", "before claim", "after claim", "after sent", "reply lost", "before done", "after done")


class Clock:
    """The loop's time, and how far this process is ahead of it."""

    def __init__(self, ahead_ns: int = 0) -> None:
        self.ahead_ns = ahead_ns

    def __call__(self) -> int:
        return 1_700_000_000 * NS + round(asyncio.get_running_loop().time() * NS) + self.ahead_ns


class Venue:
    """Orders as they are filled: client ids, one entry each time one arrives."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    async def place(self, client_id: str = "c1") -> str:
        self.orders.append(client_id)
        return f"order {len(self.orders)}"

    def query(self, client_id: str = "c1") -> Query:
        async def asked() -> Found:
            found = [n for n, order in enumerate(self.orders, 1) if order == client_id]
            return Done(f"order {found[0]}") if found else Absent()

        return asked


Strike = Callable[[str, bool], Awaitable[None]]


async def spare(_operation: str, _applied: bool) -> None:
    """Let every request through."""


class StruckStore(MemoryStore):
    """A connection whose requests pass ``strike`` before they are applied and after: it may raise, wait, or never come back."""

    def __init__(self, state: MemoryState, strike: Strike = spare) -> None:
        super().__init__(state)
        self.strike = strike

    async def claim(self, claim: Claim, ttl_ms: int) -> Claimed:
        await self.strike("claim", False)
        answer = await super().claim(claim, ttl_ms)
        await self.strike("claim", True)
        return answer

    async def settle(self, claim: Claim, state: GuardState, result: str, ttl_ms: int) -> bool:
        await self.strike(f"settle {state.value}", False)
        answer = await super().settle(claim, state, result, ttl_ms)
        await self.strike(f"settle {state.value}", True)
        return answer

    async def retake(self, claim: Claim, was: GuardRow, ttl_ms: int) -> bool:
        await self.strike("retake", False)
        answer = await super().retake(claim, was, ttl_ms)
        await self.strike("retake", True)
        return answer


def failing(operation: str, health: StoreHealth, applied: bool, times: int = 1) -> Strike:
    """Fail an operation so many times, after it was applied or before."""
    left = [times]

    async def strike(asked: str, now_applied: bool) -> None:
        if asked == operation and now_applied is applied and left[0] > 0:
            left[0] -= 1
            raise StoreFailed(health, "struck", asked)

    return strike


class Mortal:
    """A process that dies at one point, for ever."""

    def __init__(self, state: MemoryState, venue: Venue, point: str, name: str = "mortal") -> None:
        self._point, self._venue, self._dead = point, venue, False
        self.guard = guard_of(StruckStore(state, self._strike), name)

    async def live(self, kind: str = SideEffect.ORDER_PLACEMENT, seconds: float = 1.0) -> None:
        """Run until it is done or dead."""
        task = asyncio.ensure_future(self.guard.once(kind, ENTITY, self._deed, query=self._venue.query()))
        await asyncio.wait([task], timeout=seconds)
        assert task.done() is (self._point == "none"), f"died at another point than {self._point!r}"

    async def _strike(self, operation: str, applied: bool) -> None:
        if self._dead:
            raise StoreFailed(StoreHealth.UNAVAILABLE, "dead", operation)
        at = {
            ("claim", False): "before claim", ("claim", True): "after claim", ("settle sent", True): "after sent",
            ("settle done", False): "before done", ("settle done", True): "after done",
        }.get((operation, applied))  # fmt: skip
        if at == self._point:
            await self._die()

    async def _deed(self) -> str:
        result = await self._venue.place()
        if self._point == "reply lost":
            await self._die()
        return result

    async def _die(self) -> None:
        self._dead = True
        await asyncio.Event().wait()


def guard_of(store: MemoryStore, name: str, clock: Clock | None = None, **named: int) -> SideEffectGuard:
    return SideEffectGuard(store, clock or Clock(), name, **{"valid_ms": VALID_MS, "deed_ms": DEED_MS, **named})  # type: ignore[arg-type]


async def orders_after_a_crash(point: str, kind: str = SideEffect.ORDER_PLACEMENT, passes: int = 2) -> int:
    """How often the order is at the venue in the end, when its process died there, and another came by so many times after."""
    venue, state = Venue(), MemoryState(Clock())
    await Mortal(state, venue, point).live(kind)
    heir = guard_of(StruckStore(state), "heir")
    for _ in range(passes):
        try:
            await heir.once(kind, ENTITY, venue.place, query=venue.query())
        except NotExecuted as held:
            await asyncio.sleep(held.retry_after_ms / 1_000 + 0.001)
    return len(venue.orders)


async def crash_counts(kind: str = SideEffect.ORDER_PLACEMENT) -> dict[str, int]:
    """Orders at the venue by the point of the crash; right is 1 everywhere. For reports."""
    return {point: await orders_after_a_crash(point, kind) for point in POINTS}


async def row_of(state: MemoryState, key: str) -> GuardRow:
    row = state.look(key)
    assert row is not None
    return row


class World:
    """One store, one venue, and guards of several processes."""

    def __init__(self) -> None:
        self.state, self.venue, self.clock = MemoryState(Clock()), Venue(), Clock()
        self.store = StruckStore(self.state)
        self.guard = guard_of(self.store, "bot", self.clock)

    def other(self, name: str = "other") -> SideEffectGuard:
        return guard_of(StruckStore(self.state), name)

    async def once(self, kind: str = SideEffect.ORDER_PLACEMENT, **named: object) -> Once:
        return await self.guard.once(kind, ENTITY, self.venue.place, **named)  # type: ignore[arg-type]

    async def refused(self, kind: str = SideEffect.ORDER_PLACEMENT, **named: object) -> NotExecuted:
        with pytest.raises(NotExecuted) as caught:
            await self.once(kind, **named)
        return caught.value

    async def row(self) -> GuardState:
        await self.guard.close()
        return (await row_of(self.state, guard_key(SideEffect.ORDER_PLACEMENT, ENTITY))).state
