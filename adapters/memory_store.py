"""The store in memory: a lease and a freeze latch, shared by the runners of one process, and the model that other stores follow.

``MemoryState`` is the world that several runners share; it stands where a server would. ``MemoryStore`` is one runner's
connection to it: two runners are two stores over one state. The rules, which every store has to keep:

Lease
    One holder at a time, until the time to live has passed on the state's clock. Every grant mints a new fence: the state's
    epoch, and a counter that never falls within an epoch. A holder that asks again gets a new grant, and its old fence is void:
    that is how a runner recovers from an answer that was lost. Only the present fence in the hand of its holder renews and
    releases; any other hears LOST.
    What a holder hears as the end of its lease is counted on its own clock from before the request left, so a slow answer never
    makes it believe in a lease that has run out.
Latch
    One row per frozen scope. The words of the first setting stay, but every setting gives the row an epoch of its own, larger than all
    before, and one by another holder or with other words makes it *joint*, for as long as it stands. Clearing names the epoch that it
    means; a row with another one stays, and the answer is STALE. Clearing what is not there is done already: OK. So whoever
    clears a row has seen everybody who stands behind it, and who finds its own words in a row that is not joint stands there alone.

A state can be flushed, as when a server restarts without its data. Then lease and latch are gone, and a new epoch begins, so that no
fence from before can equal one from after.

Requests can be made to fail: ``fault`` is asked for every request and says, by a :class:`StoreFault`, what becomes of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from attrs import evolve, frozen

from ..effects import NO_FENCE, AcquireLease, ClearFreeze, Effect, Fence, PublishFreeze, ReadFreeze, ReleaseLease, RenewLease
from ..fsm.events import Event, LatchAnswer, LatchKind, LatchRow, LeaseAnswer, LeaseKind, OutcomeKind
from ..fsm.outcomes import failed
from .ports import NowNs

NS_PER_MS = 1_000_000


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


_NO_FAULT = StoreFault(FaultKind.SLOW)


@frozen
class Grant:
    """A lease as the state keeps it; ``until_ns`` is on the state's clock."""

    fence: Fence
    holder: str
    until_ns: int


class MemoryState:
    """What all runners share. ``now_ns`` is the state's own clock; leases run out by it."""

    def __init__(self, now_ns: NowNs, epoch: int = 1) -> None:
        if epoch < 1:
            raise ValueError(f"epoch: {epoch}; give 1 or more, since epoch 0 stands for no lease")
        self._now_ns = now_ns
        self._epoch = epoch
        self._grants = 0
        self._settings = 0
        self._lease: Grant | None = None
        self._latch: dict[str, LatchRow] = {}
        self._authors: dict[str, str] = {}

    def flush(self) -> None:
        """Lose everything, as a server that restarts without its data; a new epoch begins.

        The latch's epochs go on: a server takes them from something that outlives its data, such as its clock.
        """
        self._epoch += 1
        self._grants = 0
        self._lease = None
        self._latch.clear()

    def rows(self) -> tuple[LatchRow, ...]:
        """All frozen scopes, sorted by scope."""
        return tuple(self._latch[scope] for scope in sorted(self._latch))

    def acquire(self, holder: str, ttl_ms: int) -> Grant:
        """The lease as it stands afterwards: the holder's, or another's."""
        lease = self._live()
        if lease is not None and lease.holder != holder:
            return lease
        self._grants += 1
        return self._hold(Fence(self._epoch, self._grants), holder, ttl_ms)

    def renew(self, holder: str, fence: Fence, ttl_ms: int) -> bool:
        """Whether the holder has the present fence; if so, its time to live begins anew."""
        if not self._owns(holder, fence):
            return False
        self._hold(fence, holder, ttl_ms)
        return True

    def release(self, holder: str, fence: Fence) -> bool:
        """Whether the holder had the present fence; if so, nobody holds the lease now."""
        if not self._owns(holder, fence):
            return False
        self._lease = None
        return True

    def publish(self, effect: PublishFreeze, holder: str = "") -> None:
        """Set the latch of one scope, or, if it is set, stand behind it too."""
        self._settings += 1
        row = self._latch.get(effect.scope)
        if row is None:
            self._latch[effect.scope] = LatchRow(effect.scope, self._settings, effect.trigger, effect.reason, effect.by)
            self._authors[effect.scope] = holder
            return
        same = (row.trigger, row.reason, row.by, self._authors[effect.scope]) == (effect.trigger, effect.reason, effect.by, holder)
        self._latch[effect.scope] = evolve(row, epoch=self._settings, joint=row.joint or not same)

    def clear(self, scope: str, latch_epoch: int) -> bool:
        """Lift the latch of one scope; False, and nothing changed, when its setting is another one than meant."""
        row = self._latch.get(scope)
        if row is not None and row.epoch != latch_epoch:
            return False
        self._latch.pop(scope, None)
        return True

    def _live(self) -> Grant | None:
        if self._lease is not None and self._now_ns() >= self._lease.until_ns:
            self._lease = None
        return self._lease

    def _owns(self, holder: str, fence: Fence) -> bool:
        lease = self._live()
        return lease is not None and (lease.holder, lease.fence) == (holder, fence)

    def _hold(self, fence: Fence, holder: str, ttl_ms: int) -> Grant:
        self._lease = Grant(fence, holder, self._now_ns() + ttl_ms * NS_PER_MS)
        return self._lease


class MemoryStore:
    """One runner's connection to a state. Serves the effects of the store.

    ``fault``, which may be exchanged at any time, decides for each request whether and how it fails; None is no fault.
    """

    serves: Sequence[type[Effect]] = (AcquireLease, RenewLease, ReleaseLease, PublishFreeze, ReadFreeze, ClearFreeze)

    def __init__(self, state: MemoryState, fault: Callable[[Effect], StoreFault | None] | None = None) -> None:
        self.fault = fault
        self._state = state
        self._now_ns: NowNs | None = None
        self._holder = ""

    def connect(self, now_ns: NowNs, holder: str) -> None:
        """``holder`` must differ between processes: a lease held under the same name counts as one's own."""
        self._now_ns = now_ns
        self._holder = holder

    async def close(self) -> None:
        """Nothing is let go: a lease that is held runs out."""
        self._now_ns = None

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Raises RuntimeError without a connection, and ValueError for an effect that is not the store's.

        Cut off while the request is under way, it was not applied; while the answer is, it was.
        """
        if self._now_ns is None:
            raise RuntimeError("the store is not connected; call connect first")
        if not isinstance(effect, tuple(self.serves)):
            raise ValueError(f"{type(effect).__name__} is no effect of the store")
        now_ns = self._now_ns
        sent_ns = now_ns()
        fault = (self.fault(effect) if self.fault is not None else None) or _NO_FAULT
        await _pause(fault.request_ms)
        applied = fault.kind in (FaultKind.SLOW, FaultKind.IN_DOUBT_APPLIED)
        answer = self._apply(effect, sent_ns) if applied else None
        await _pause(fault.reply_ms)
        if answer is not None and fault.kind is FaultKind.SLOW:
            return [evolve(answer, at_ns=now_ns())]
        kind = OutcomeKind.UNAVAILABLE if fault.kind is FaultKind.UNAVAILABLE else OutcomeKind.IN_DOUBT
        return [failed(effect, now_ns(), kind, "store_fault", fault.kind.value)]

    def _apply(self, effect: Effect, sent_ns: int) -> LeaseAnswer | LatchAnswer:
        """Carry the request out and word the answer; it is stamped again when it arrives."""
        if isinstance(effect, (AcquireLease, RenewLease, ReleaseLease)):
            kind, fence, holder = self._lease(effect)
            valid_ns = sent_ns + effect.ttl_ms * NS_PER_MS if kind is LeaseKind.GRANTED and not isinstance(effect, ReleaseLease) else 0
            return LeaseAnswer(sent_ns, effect.id, kind, fence, valid_ns, holder)
        done = True
        if isinstance(effect, PublishFreeze):
            self._state.publish(effect, self._holder)
        elif isinstance(effect, ClearFreeze):
            done = self._state.clear(effect.scope, effect.latch_epoch)
        return LatchAnswer(sent_ns, effect.id, LatchKind.OK if done else LatchKind.STALE, self._state.rows())

    def _lease(self, effect: AcquireLease | RenewLease | ReleaseLease) -> tuple[LeaseKind, Fence, str]:
        """What the holder is told: the kind of answer, its fence, and who holds the lease. Another's fence is never told."""
        if isinstance(effect, AcquireLease):
            lease = self._state.acquire(self._holder, effect.ttl_ms)
            if lease.holder != self._holder:
                return LeaseKind.HELD, NO_FENCE, lease.holder
            return LeaseKind.GRANTED, lease.fence, lease.holder
        if isinstance(effect, RenewLease):
            renewed = self._state.renew(self._holder, effect.fence, effect.ttl_ms)
            return (LeaseKind.GRANTED, effect.fence, self._holder) if renewed else (LeaseKind.LOST, NO_FENCE, "")
        return LeaseKind.RELEASED if self._state.release(self._holder, effect.fence) else LeaseKind.LOST, NO_FENCE, ""


async def _pause(ms: int) -> None:
    if ms:
        await asyncio.sleep(ms / 1_000)
