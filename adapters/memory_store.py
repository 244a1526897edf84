"""The store in memory: one runner's connection to a ``MemoryState`` that the runners of one process share.

Two runners are two stores over one state. It coordinates within one process only; between processes it is for tests and simulation, where
its requests can be made to fail. ``fault`` is asked for every request and says, by a :class:`StoreFault`, what becomes of it: it
is given the effect that is being carried out, or, when an operation was called directly, the operation's name.

Cut off while the request is under way, it was not applied; while the answer is, it was.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from enum import StrEnum
from typing import TypeVar

from attrs import frozen

from ..effects import Effect, Fence, GuardState, Trigger
from ..fsm.events import Event, StoreHealth
from .coordination import Claim, Claimed, Entry, Grant, GuardRow, Held, Latch, StoreFacts, StoreFailed
from .memory_state import MemoryState as MemoryState
from .store_effects import EffectStore

T = TypeVar("T")


class FaultKind(StrEnum):
    """What becomes of a request. SLOW: it is applied and answered, but see the delays."""

    SLOW = "slow"
    UNAVAILABLE = "unavailable"
    IN_DOUBT_APPLIED = "in_doubt_applied"
    IN_DOUBT_NOT_APPLIED = "in_doubt_not_applied"


@frozen
class StoreFault:
    """``request_ms`` passes before the request reaches the state, ``reply_ms`` before the answer is back."""

    kind: FaultKind
    request_ms: int = 0
    reply_ms: int = 0


Fault = Callable[[Effect | str], StoreFault | None]
_NO_FAULT = StoreFault(FaultKind.SLOW)
#: The effect that is being carried out in this task.
_EFFECT: ContextVar[Effect | None] = ContextVar("haltcore_effect", default=None)


class MemoryStore(EffectStore):
    """One runner's connection to a state. ``fault`` may be exchanged at any time; None is no fault."""

    def __init__(self, state: MemoryState, fault: Fault | None = None) -> None:
        super().__init__()
        self.fault = fault
        self._state = state

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """As for every store; the fault is asked for the effect."""
        token = _EFFECT.set(effect)
        try:
            return await super().perform(effect)
        finally:
            _EFFECT.reset(token)

    async def _ask(self, operation: str, apply: Callable[[], T]) -> T:
        """Carry a request out as far as it gets. Raises StoreFailed."""
        asked: Effect | str = _EFFECT.get() or operation
        fault = (self.fault(asked) if self.fault is not None else None) or _NO_FAULT
        await _pause(fault.request_ms)
        if fault.kind in (FaultKind.SLOW, FaultKind.IN_DOUBT_APPLIED):
            answer = apply()
            await _pause(fault.reply_ms)
            if fault.kind is FaultKind.SLOW:
                return answer
        else:
            await _pause(fault.reply_ms)
        health = StoreHealth.UNAVAILABLE if fault.kind is FaultKind.UNAVAILABLE else StoreHealth.IN_DOUBT
        raise StoreFailed(health, "store_fault", fault.kind.value)

    # --- the operations ---------------------------------------------------------------------------------------------

    async def acquire(self, name: str, holder: str, ttl_ms: int) -> Grant:
        return await self._ask("acquire", lambda: self._state.acquire(name, holder, ttl_ms))

    async def renew(self, name: str, holder: str, fence: Fence, ttl_ms: int) -> bool:
        return await self._ask("renew", lambda: self._state.renew(name, holder, fence, ttl_ms))

    async def release(self, name: str, holder: str, fence: Fence | None) -> bool:
        return await self._ask("release", lambda: self._state.release(name, holder, fence))

    async def publish(self, author: str, scope: str, trigger: Trigger, reason: str, by: str) -> Latch:
        return await self._ask("publish", lambda: self._state.publish(author, scope, trigger, reason, by))

    async def read_latch(self, author: str) -> Latch:
        return await self._ask("read_latch", lambda: self._state.read_latch(author))

    async def clear(self, author: str, scope: str, latch_epoch: int, force: bool = False) -> Latch:
        return await self._ask("clear", lambda: self._state.clear(author, scope, latch_epoch, force))

    async def claim(self, claim: Claim, ttl_ms: int) -> Claimed:
        return await self._ask("claim", lambda: self._state.claim(claim, ttl_ms))

    async def settle(self, claim: Claim, state: GuardState, result: str, ttl_ms: int) -> bool:
        return await self._ask("settle", lambda: self._state.settle(claim, state, result, ttl_ms))

    async def retake(self, claim: Claim, was: GuardRow, ttl_ms: int) -> bool:
        return await self._ask("retake", lambda: self._state.retake(claim, was, ttl_ms))

    async def look(self, key: str) -> GuardRow | None:
        return await self._ask("look", lambda: self._state.look(key))

    async def get_state(self, name: str) -> tuple[int, str]:
        return await self._ask("get_state", lambda: self._state.get_state(name))

    async def put_state(self, name: str, version: int, text: str) -> tuple[bool, int, str]:
        return await self._ask("put_state", lambda: self._state.put_state(name, version, text))

    async def set_hold(self, symbol: str, owner: str, reason: str, plan: str, ttl_ms: int) -> Held:
        return await self._ask("set_hold", lambda: self._state.set_hold(symbol, owner, reason, plan, ttl_ms))

    async def renew_hold(self, symbol: str, owner: str, ttl_ms: int) -> bool:
        return await self._ask("renew_hold", lambda: self._state.renew_hold(symbol, owner, ttl_ms))

    async def release_hold(self, symbol: str, owner: str) -> bool:
        return await self._ask("release_hold", lambda: self._state.release_hold(symbol, owner))

    async def held(self, symbol: str) -> Held | None:
        return await self._ask("held", lambda: self._state.held(symbol))

    async def mark_once(self, mark: str, token: str, ttl_ms: int) -> bool:
        return await self._ask("mark_once", lambda: self._state.mark_once(mark, token, ttl_ms))

    async def cool_down(self, name: str, token: str, spacing_ms: int) -> int:
        return await self._ask("cool_down", lambda: self._state.cool_down(name, token, spacing_ms))

    async def append(self, stream: str, plan: str, body: str) -> str:
        return await self._ask("append", lambda: self._state.streams.append(stream, plan, body))

    async def read(self, stream: str, consumer: str, count: int) -> Sequence[Entry]:
        return await self._ask("read", lambda: self._state.streams.read(stream, consumer, count))

    async def claim_stuck(self, stream: str, consumer: str, idle_ms: int, count: int) -> Sequence[Entry]:
        return await self._ask("claim_stuck", lambda: self._state.streams.claim_stuck(stream, consumer, idle_ms, count))

    async def keep(self, stream: str, consumer: str, entry: str) -> bool:
        return await self._ask("keep", lambda: self._state.streams.keep(stream, consumer, entry))

    async def acknowledge(self, stream: str, consumer: str, entry: str) -> bool:
        return await self._ask("acknowledge", lambda: self._state.streams.acknowledge(stream, consumer, entry))

    async def bury(self, stream: str, consumer: str, entry: str, why: str) -> bool:
        return await self._ask("bury", lambda: self._state.streams.bury(stream, consumer, entry, why))

    async def pending(self, stream: str) -> int:
        return await self._ask("pending", lambda: self._state.streams.pending(stream))

    async def trim(self, stream: str, keep: int) -> int:
        return await self._ask("trim", lambda: self._state.streams.trim(stream, keep))

    async def facts(self) -> StoreFacts:
        return await self._ask("facts", self._state.facts)


async def _pause(ms: int) -> None:
    if ms:
        await asyncio.sleep(ms / 1_000)
