"""The core's store effects, carried out by the operations of a store: the half that every store has in common.

================ =============== ===================================================================================
effect           operation       what is added here
================ =============== ===================================================================================
AcquireLease     acquire         validity; cut off, the lease is let go again
RenewLease       renew           validity
ReleaseLease     release
PublishFreeze    publish         who says so: the author of this connection
ReadFreeze       read_latch
ClearFreeze      clear           a row that is another one by now is STALE
ClaimGuard       claim           until when what was claimed may be sent
SettleGuard      settle
CheckStore       facts           the verdict over them (``store_check.py``)
ShareBreaker     get_state or    one shared state per job; only what is news
                 put_state
================ =============== ===================================================================================

*Validity* is counted on this process's own clock from before the request left. So a slow answer never makes anybody believe in a lease,
or a leave to send, that has run out, and no other clock has a say in it.

StoreFailed becomes the failed answer of the effect. Anything else that is raised passes: whoever called does not know then what was
applied, and says IN_DOUBT.

A task that is cancelled while it acquires may leave a lease behind of which nobody knows. It is released by the name of its holder,
which was chosen before, even while the task is being cancelled; unless a later request of this connection wants it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final

from attrs import evolve

from ..effects import (
    NO_FENCE,
    AcquireLease,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    PublishFreeze,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    SettleGuard,
    ShareBreaker,
)
from ..fsm.breaker_text import readable_length
from ..fsm.events import (
    BreakerAnswer,
    BreakerKind,
    Event,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LeaseAnswer,
    LeaseKind,
    OutcomeKind,
    StoreChecked,
    StoreHealth,
)
from ..fsm.outcomes import failed
from .coordination import NO_VERSION, UNREADABLE, Claim, Coordination, Latch, StoreFailed
from .ports import NowNs

#: The one lease of the core.
LEASE = "sweep"
#: How long letting a lease go may take.
LET_GO_S = 0.5
NS_PER_MS = 1_000_000
Answer = LeaseAnswer | LatchAnswer | GuardAnswer | StoreChecked | BreakerAnswer


class EffectStore(Coordination):
    """A store that serves the core's effects. Whoever derives from it adds the operations; ``close`` is extended, not replaced."""

    serves: ClassVar[Sequence[type[Effect]]]

    def __init__(self) -> None:
        self._now_ns: NowNs | None = None
        self._holder = self._author = ""
        self._acquired = 0
        self._may_hold = False
        self._letting_go: dict[asyncio.Task[None], None] = {}
        #: The last version and text that the core was told, of each shared state.
        self._told: dict[str, tuple[int, str]] = {}

    def connect(self, now_ns: NowNs, holder: str, author: str) -> None:
        """``holder`` must differ between processes: a lease held under the same name counts as one's own. ``author`` is by whom freezes are
        published, the session; it is the same again after a restart."""
        self._now_ns, self._holder, self._author = now_ns, holder, author
        self._told.clear()

    async def close(self) -> None:
        """Let go of the lease if this connection may hold it, for at most LET_GO_S, and serve no more effects."""
        if self._now_ns is None:
            return
        self._now_ns = None
        await self._let_go()

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Raises RuntimeError without a connection, and ValueError for an effect that is not the store's."""
        if self._now_ns is None:
            raise RuntimeError("the store is not connected; call connect first")
        carry_out = _CARRIED_OUT.get(type(effect))
        if carry_out is None:
            raise ValueError(f"{type(effect).__name__} is no effect of the store")
        now_ns = self._now_ns
        try:
            answer = await carry_out(self, effect, now_ns())
        except StoreFailed as failure:
            kind = OutcomeKind.UNAVAILABLE if failure.health is StoreHealth.UNAVAILABLE else OutcomeKind.IN_DOUBT
            return [failed(effect, now_ns(), kind, failure.code, failure.text)]
        return [evolve(answer, at_ns=now_ns())]

    # --- lease ------------------------------------------------------------------------------------------------------

    async def _acquire(self, effect: AcquireLease, sent_ns: int) -> Answer:
        self._acquired += 1
        this = self._acquired
        self._may_hold = True
        try:
            grant = await self.acquire(LEASE, self._holder, effect.ttl_ms)
        except asyncio.CancelledError:
            if self._acquired == this:
                await self._let_go()
            raise
        if not grant.mine:
            self._may_hold = self._acquired != this
            return LeaseAnswer(sent_ns, effect.id, LeaseKind.HELD, NO_FENCE, 0, grant.holder)
        return LeaseAnswer(sent_ns, effect.id, LeaseKind.GRANTED, grant.fence, sent_ns + effect.ttl_ms * NS_PER_MS, self._holder)

    async def _renew(self, effect: RenewLease, sent_ns: int) -> Answer:
        if not await self.renew(LEASE, self._holder, effect.fence, effect.ttl_ms):
            return LeaseAnswer(sent_ns, effect.id, LeaseKind.LOST, NO_FENCE, 0, "")
        return LeaseAnswer(sent_ns, effect.id, LeaseKind.GRANTED, effect.fence, sent_ns + effect.ttl_ms * NS_PER_MS, self._holder)

    async def _release(self, effect: ReleaseLease, sent_ns: int) -> Answer:
        this = self._acquired
        released = await self.release(LEASE, self._holder, effect.fence if effect.fence != NO_FENCE else None)
        if released and self._acquired == this:
            self._may_hold = False
        return LeaseAnswer(sent_ns, effect.id, LeaseKind.RELEASED if released else LeaseKind.LOST, NO_FENCE, 0, "")

    async def _let_go(self) -> None:
        """Release whatever lease there is under this holder's name. Cancelling the caller does not stop it."""
        if not self._may_hold:
            return
        self._may_hold = False
        task = asyncio.get_running_loop().create_task(self._release_by_name())
        self._letting_go[task] = None
        task.add_done_callback(lambda done: self._letting_go.pop(done, None))
        await asyncio.shield(task)

    async def _release_by_name(self) -> None:
        with contextlib.suppress(StoreFailed, TimeoutError):
            async with asyncio.timeout(LET_GO_S):
                await self.release(LEASE, self._holder, None)

    # --- latch ------------------------------------------------------------------------------------------------------

    async def _publish(self, effect: PublishFreeze, sent_ns: int) -> Answer:
        latch = await self.publish(self._author, effect.scope, effect.trigger, effect.reason, effect.by)
        return _latch_answer(effect, sent_ns, latch)

    async def _read_latch(self, effect: ReadFreeze, sent_ns: int) -> Answer:
        return _latch_answer(effect, sent_ns, await self.read_latch(self._author))

    async def _clear(self, effect: ClearFreeze, sent_ns: int) -> Answer:
        return _latch_answer(effect, sent_ns, await self.clear(self._author, effect.scope, effect.latch_epoch, effect.force))

    # --- guard ------------------------------------------------------------------------------------------------------

    async def _claim(self, effect: ClaimGuard, sent_ns: int) -> Answer:
        claimed = await self.claim(Claim(effect.key, effect.owner, effect.params, effect.scopes, effect.epoch), effect.ttl_ms)
        if claimed.kind is GuardKind.CLAIMED:
            return GuardAnswer(sent_ns, effect.id, effect.order, claimed.kind, sent_ns + effect.valid_ms * NS_PER_MS, "", "", "")
        row = claimed.row
        holder, result = (row.owner, row.result) if row is not None else (claimed.scope, "")
        return GuardAnswer(sent_ns, effect.id, effect.order, claimed.kind, 0, holder, result, "")

    async def _settle(self, effect: SettleGuard, sent_ns: int) -> Answer:
        settled = await self.settle(Claim(effect.key, effect.owner, effect.params), effect.state, effect.result, effect.ttl_ms)
        return GuardAnswer(sent_ns, effect.id, effect.order, GuardKind.SETTLED if settled else GuardKind.LOST, 0, "", "", "")

    # --- check and breaker --------------------------------------------------------------------------------------------

    async def _check(self, effect: CheckStore, sent_ns: int) -> Answer:
        from .store_check import verdict

        faults, notes = verdict(await self.facts())
        return StoreChecked(sent_ns, effect.id, StoreHealth.OK, faults, notes)

    async def _share_breaker(self, effect: ShareBreaker, sent_ns: int) -> Answer:
        """Every answer becomes a record of the log: what the core was told already is not told again, and of a text that is too long to be
        a state only that it is."""
        name = f"breaker:{effect.job}"
        try:
            return await self._shared(name, effect, sent_ns)
        except StoreFailed as failure:
            if failure.code != UNREADABLE:
                raise
            # One row is spoiled, and not the store. To the core that is a text that is no state, under a version that it has not seen yet.
            kind = BreakerKind.CONFLICT if effect.state else BreakerKind.OK
            return BreakerAnswer(sent_ns, effect.id, effect.job, kind, NO_VERSION, failure.text)

    async def _shared(self, name: str, effect: ShareBreaker, sent_ns: int) -> Answer:
        if not effect.state:
            version, state = await self.get_state(name)
            news = version, readable_length(state)
            text = "" if effect.version == version and self._told.get(name) == news else news[1]
            self._told[name] = news
            return BreakerAnswer(sent_ns, effect.id, effect.job, BreakerKind.OK, version, text)
        put, version, state = await self.put_state(name, effect.version, effect.state)
        news = self._told[name] = version, readable_length(state)
        return BreakerAnswer(sent_ns, effect.id, effect.job, BreakerKind.OK if put else BreakerKind.CONFLICT, *news)


def _latch_answer(effect: PublishFreeze | ReadFreeze | ClearFreeze, sent_ns: int, latch: Latch) -> LatchAnswer:
    kind = LatchKind.OK if latch.done else LatchKind.STALE
    scope = None if isinstance(effect, ReadFreeze) else effect.scope
    return LatchAnswer(sent_ns, effect.id, kind, latch.rows, latch.epoch, scope=scope)


_CARRIED_OUT: Final[dict[type[Effect], Callable[[Any, Any, int], Awaitable[Answer]]]] = {
    AcquireLease: EffectStore._acquire,
    RenewLease: EffectStore._renew,
    ReleaseLease: EffectStore._release,
    PublishFreeze: EffectStore._publish,
    ReadFreeze: EffectStore._read_latch,
    ClearFreeze: EffectStore._clear,
    ClaimGuard: EffectStore._claim,
    SettleGuard: EffectStore._settle,
    CheckStore: EffectStore._check,
    ShareBreaker: EffectStore._share_breaker,
}
EffectStore.serves = tuple(_CARRIED_OUT)
