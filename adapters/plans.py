"""The consumer of a stream of plans: has each carried out once, or sees to it that people hear why not. What a plan is: ``fsm/plan.py``.

A stream loses nothing and repeats much, so all care is the consumer's. One delivery goes through these steps:

===================== ==================================================================================================
1. ``decide``         buried if it is nobody's plan, expired, or delivered too often; left if it is from the future
2. look at the guard  if it was delivered before, or will not be executed: what came of it
3. claim, then SENT   the guard of the plan; one that is DONE makes this a duplicate, and nothing else does. SENT is a
                      compare-and-set, so of two consumers of the same plan one goes on, whether by one entry or by two
4. execute            the entry is kept meanwhile, so that nobody takes it for stuck
5. settle             what came of it, into the guard
6. acknowledge        if that was final; the store looks whether the entry is still this consumer's
===================== ==================================================================================================

If the store fails before step 4, nothing was executed and nothing is acknowledged; the pass ends. If it fails behind, what came of the
plan is kept here, and told before anything else is taken on. If the consumer dies in step 4, or does not know what came of it, the guard
says SENT or IN_DOUBT: then no consumer executes the plan again. ``resolve`` is asked, which only looks (a venue query by the order's client
id, heard after the request's own expiry); without an answer the plan stays where it is until it is a dead letter.

A guard that says INTENT was claimed by somebody who did not come to step 4, or the store has lost what was said after: a replica has
taken over that had not heard it. Nobody can see which, so where a ``resolve`` is given it is asked then too.

A consumer that was paused before step 4 for longer than half the time after which an entry counts as stuck does not begin: another may
have it, and have found it not begun.

Deliveries do not count against the cap while the store flaps: where the store failed with the entry in hand, and where a delivery's
own answer was lost. That memory is this process's. A plan that waits for a rate limit does count, so the cap and ``idle_ms`` bound how
long it is tried.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import attrs
from attrs import frozen

from ..effects import GuardState, ValueRefused
from ..fsm.degraded import Deed, forbidden
from ..fsm.events import GuardKind, StoreHealth
from ..fsm.plan import ENDINGS, Action, Decision, Plan, PlanPolicy, SignedPlan, Status, decide, dedupe_ttl_ms, plan_key
from .arguments import at_least, milliseconds
from .coordination import Claim, Coordination, Entry, GuardRow, StoreFailed
from .plan_counts import PlanCounts
from .plan_run import Execute as Execute
from .plan_run import Result as Result
from .plan_run import called, failed, result_of
from .ports import NowNs

_LOG = logging.getLogger("haltcore")
_NS_PER_MS = 1_000_000
#: How many entries' deliveries a consumer remembers.
_REMEMBERED = 10_000


@frozen
class Handled:
    """What came of a delivery. ``code`` is why it was buried or left, or how it came to its end; ``plan`` is None if the entry is nobody's
    plan. ``dedupe_hit``: the plan had been handled before."""

    entry: str
    plan_id: str
    status: Status
    code: str = ""
    text: str = ""
    plan: Plan | None = None
    dedupe_hit: bool = False


@frozen
class Pass:
    """What one pass did. ``failure`` is why it ended early; None if it did not."""

    handled: tuple[Handled, ...]
    failure: StoreFailed | None = None


@frozen
class _Untold:
    """What came of a plan here, and the store has to be told."""

    entry: Entry
    claim: Claim
    state: GuardState
    text: str
    acknowledged: bool
    ttl_ms: int


@frozen
class _Seen:
    """How often an entry was delivered, as last heard, how many of those do not count, and whether people were told that it was left."""

    deliveries: int = 0
    excused: int = 0
    told: bool = False


class _Ended(Exception):
    """The delivery has come to its end."""

    def __init__(self, handled: Handled) -> None:
        self.handled = handled


class PlanConsumer:
    """Takes plans from a stream and has them carried out, one at a time.

    ``name`` is that of this consumer on the stream; two that run at the same time need two. ``resolve`` finds out what came of a plan
    that may have been executed, without executing it; RETRYABLE_RATE_LIMIT from it says that it certainly was not. ``idle_ms`` is from
    when an entry counts as stuck: longer than the longest run, or, since a running plan is kept every quarter of it, than this process
    may ever be paused. ``batch`` is how many entries one pass takes at most; ``keep`` how many finished ones stay on the stream.
    ``alert`` is called with a code and words when an entry is buried or from the future, or when something is wrong with a guard.
    ``nonce`` tells runs of the same name apart, random by default. Raises ValueRefused.
    """

    def __init__(
        self, store: Coordination, stream: str, name: str, policy: PlanPolicy, now_ns: NowNs, *, resolve: Execute | None = None,
        idle_ms: int = 60_000, batch: int = 16, keep: int = 1_000, alert: Callable[[str, str], None] | None = None,
        counts: PlanCounts | None = None, nonce: str = "",
    ) -> None:  # fmt: skip
        for field, given in (("resolve", resolve), ("alert", alert)):
            if given is not None and not callable(given):
                raise ValueRefused(f"{field}: a {type(given).__name__} cannot be called; give the function itself, or None")
        self._store, self._stream, self._name, self._policy, self._now_ns = store, stream, name, policy, now_ns
        self._resolve, self._alert, self._idle_ms = resolve, alert, milliseconds(idle_ms, "idle_ms")
        self._batch, self._keep = at_least(1, batch, "batch"), at_least(0, keep, "keep")
        self.counts = counts if counts is not None else PlanCounts()
        # Owners of guards are never used again, by no other run of this consumer either.
        self._run, self._claims = nonce or secrets.token_hex(8), 0
        self._untold: _Untold | None = None
        self._seen: dict[str, _Seen] = {}
        self._lost = 0

    async def once(self, execute: Execute) -> Pass:
        """One pass: what stuck, then what is new, then housekeeping. Not to be called again before it has returned. Raises ValueRefused for
        an ``execute`` that cannot be called, before anything is taken."""
        if not callable(execute):
            raise ValueRefused(f"execute: a {type(execute).__name__} cannot be called; give the function itself")
        handled: list[Handled] = []
        try:
            for take in (self._stuck, self._new):
                while len(handled) < self._batch and (entry := await take()) is not None:
                    handled.append(await self._handle(entry, execute))
        except StoreFailed as error:
            if not forbidden(Deed.CONSUME, error.health):
                raise
            _LOG.warning("plans on %s stop: %s", self._stream, error)
            return Pass(tuple(handled), error)
        with suppress(StoreFailed):  # telemetry and housekeeping are in nobody's way
            if handled:
                await self._store.trim(self._stream, self._keep)
            self.counts.pending = await self._store.pending(self._stream)
        return Pass(tuple(handled))

    # --- taking -------------------------------------------------------------------------------------------------------

    # One at a time: what is in hand is what is kept, and a lost answer is about one entry.
    async def _stuck(self) -> Entry | None:
        await self._tell()
        with self._maybe_lost():
            return next(iter(await self._store.claim_stuck(self._stream, self._name, self._idle_ms, 1)), None)

    async def _new(self) -> Entry | None:
        await self._tell()
        with self._maybe_lost():
            return next(iter(await self._store.read(self._stream, self._name, 1)), None)

    @contextmanager
    def _maybe_lost(self) -> Iterator[None]:
        try:
            yield
        except StoreFailed as error:
            self._lost += error.health is StoreHealth.IN_DOUBT
            raise

    def _deliveries(self, entry: Entry) -> int:
        """How many deliveries of an entry count, this one included."""
        seen = self._seen.pop(entry.id, _Seen())
        # Those that this consumer did not see: as many of them as it has lost answers may have been its own.
        unseen = min(max(entry.deliveries - seen.deliveries - 1, 0), self._lost)
        self._lost -= unseen
        self._seen[entry.id] = attrs.evolve(seen, deliveries=entry.deliveries, excused=seen.excused + unseen)
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return entry.deliveries - seen.excused - unseen

    def _excuse(self, entry: Entry) -> None:
        seen = self._seen[entry.id]
        self._seen[entry.id] = attrs.evolve(seen, excused=seen.excused + 1)

    # --- one delivery -------------------------------------------------------------------------------------------------

    async def _handle(self, entry: Entry, execute: Execute) -> Handled:
        begun_ns = self._now_ns()
        if entry.deliveries > 1:
            self.counts.redelivered += 1
        decision = decide(entry.plan, entry.body, self._deliveries(entry), begun_ns // _NS_PER_MS, self._policy)
        try:
            if decision.signed is None:
                return await self._bury(entry, decision)
            signed = decision.signed
            ttl_ms = dedupe_ttl_ms(signed.plan, begun_ns // _NS_PER_MS, self._policy)
            claim = await self._claimed(entry, decision, signed, ttl_ms)
            # From here on the row may say SENT, also where the answer is lost; unless it is executed, that is taken back.
            self._untold = _Untold(entry, claim, GuardState.REJECTED, "not begun", False, ttl_ms)
            sent = await self._store.settle(claim, GuardState.SENT, "", ttl_ms)
            if not sent or self._now_ns() - begun_ns >= self._idle_ms * _NS_PER_MS // 2:
                await self._tell()
                return self._left(entry, signed, "too_slow", "another consumer may have it by now")
            return await self._executed(entry, signed, claim, ttl_ms, execute)
        except _Ended as end:
            return end.handled
        except StoreFailed:
            self._excuse(entry)
            raise

    async def _claimed(self, entry: Entry, decision: Decision, signed: SignedPlan, ttl_ms: int) -> Claim:
        """The claim under which the plan may be executed. Raises _Ended if it may not."""
        looked = entry.deliveries > 1 or decision.action is not Action.EXECUTE
        row = await self._store.look(plan_key(signed)) if looked else None
        if row is not None:
            await self._rule_out(entry, decision, signed, row, ttl_ms)
        if decision.action is Action.LEAVE:
            raise _Ended(self._untimely(entry, decision, signed))
        if decision.action is not Action.EXECUTE:
            raise _Ended(await self._bury(entry, decision))
        self._claims += 1
        # After a fork two processes have one nonce.
        claim = Claim(plan_key(signed), f"{self._name}:{self._run}:{os.getpid()}:{self._claims}", signed.id)
        if row is not None and row.state is not GuardState.REJECTED:
            if not await self._store.retake(claim, row, ttl_ms):
                raise _Ended(self._left(entry, signed, "guard_lost", "another consumer has taken it over"))
            return claim
        claimed = await self._store.claim(claim, ttl_ms)
        if claimed.kind is GuardKind.DONE:
            await self._duplicate(entry, signed, claimed.row.result if claimed.row is not None else "")
        if claimed.kind is not GuardKind.CLAIMED:
            raise _Ended(self._doubt(entry, signed, f"its guard is {claimed.kind.value}"))
        return claim

    async def _rule_out(self, entry: Entry, decision: Decision, signed: SignedPlan, row: GuardRow, ttl_ms: int) -> None:
        """Returns if an earlier delivery has certainly not executed the plan. Raises _Ended where it has, or may have."""
        if row.state is GuardState.DONE:
            await self._duplicate(entry, signed, row.result)
        if row.state is GuardState.REJECTED or (row.state is GuardState.INTENT and self._resolve is None):
            return
        found = await self._run_kept(entry, self._resolve, signed) if self._resolve is not None else Result(Status.IN_DOUBT)
        if found.status is Status.RETRYABLE_RATE_LIMIT:
            return
        if ENDINGS[found.status].acknowledged:
            claim = Claim(plan_key(signed), row.owner, signed.id)
            await self._conclude(_Untold(entry, claim, GuardState.DONE, f"{found.status}: {found.text}", True, ttl_ms))
            raise _Ended(Handled(entry.id, signed.id, found.status, "resolved", found.text, signed.plan))
        if decision.action is Action.DEAD_LETTER:
            doubtful = attrs.evolve(decision, text=f"{decision.text}; it may have been executed ({row.state.value})")
            raise _Ended(await self._bury(entry, doubtful))
        raise _Ended(self._doubt(entry, signed, f"its guard is {row.state.value} of {row.owner}"))

    async def _executed(self, entry: Entry, signed: SignedPlan, claim: Claim, ttl_ms: int, execute: Execute) -> Handled:
        # Should this be cancelled on the way, the guard stays at SENT, which is the truth: nobody knows.
        self._untold = None
        result = await self._run_kept(entry, execute, signed)
        ending = ENDINGS[result.status]
        await self._conclude(_Untold(entry, claim, ending.guard, f"{result.status}: {result.text}", ending.acknowledged, ttl_ms))
        hit = result.status is Status.DROPPED_DUPLICATE
        return Handled(entry.id, signed.id, result.status, "", result.text, signed.plan, hit)

    async def _run_kept(self, entry: Entry, work: Execute, signed: SignedPlan) -> Result:
        """Run it, and keep the entry meanwhile. Whatever goes wrong in it leaves the plan in doubt."""
        task = asyncio.ensure_future(called(work, signed))
        try:
            while not (await asyncio.wait({task}, timeout=self._idle_ms / 4_000))[0]:
                # Whether the entry is still ours is looked at when it is acknowledged; what runs cannot be called back.
                with suppress(StoreFailed):
                    await self._store.keep(self._stream, self._name, entry.id)
        finally:
            if not task.done():
                task.cancel()
        try:
            result = result_of(task.result())
        except (Exception, asyncio.CancelledError) as error:
            result = failed(error)
        if result.status is Status.IN_DOUBT:
            _LOG.error("plan %s is in doubt: %s", signed.id, result.text)
        return result

    # --- endings ------------------------------------------------------------------------------------------------------

    async def _conclude(self, untold: _Untold) -> None:
        self._untold = untold
        try:
            await self._tell()
        except StoreFailed as error:
            # What came of it is known, and is told as soon as the store answers; that must not look like a plan in trouble.
            self._excuse(untold.entry)
            _LOG.warning("what came of plan %s is told later: %s", untold.entry.plan, error)

    async def _tell(self) -> None:
        """Tell the store what it has not been told."""
        if (untold := self._untold) is None:
            return
        if not await self._store.settle(untold.claim, untold.state, untold.text, untold.ttl_ms) and untold.state is GuardState.DONE:
            self._tell_people("guard_lost", f"plan {untold.entry.plan} was handled here, and its guard is another's: {untold.text}")
        if untold.acknowledged:
            await self._store.acknowledge(self._stream, self._name, untold.entry.id)
            self._seen.pop(untold.entry.id, None)
        self._untold = None

    async def _duplicate(self, entry: Entry, signed: SignedPlan, text: str) -> NoReturn:
        """The plan was handled before."""
        await self._store.acknowledge(self._stream, self._name, entry.id)
        self._seen.pop(entry.id, None)
        raise _Ended(Handled(entry.id, signed.id, Status.DROPPED_DUPLICATE, "", text, signed.plan, dedupe_hit=True))

    async def _bury(self, entry: Entry, decision: Decision) -> Handled:
        words = f"{decision.code}: {decision.text}"
        buried = await self._store.bury(self._stream, self._name, entry.id, words)
        self._seen.pop(entry.id, None)
        plan = decision.signed.plan if decision.signed is not None else None
        if not buried:
            return Handled(entry.id, entry.plan, Status.LEFT, "not_ours", words, plan)
        self.counts.dead_lettered[decision.code] += 1
        self._tell_people("plan_" + decision.code, f"entry {entry.id} of {self._stream} was buried: {decision.text}")
        status = Status.DEAD_LETTERED if decision.action is Action.DEAD_LETTER else Status.REJECTED_GUARDRAIL
        return Handled(entry.id, entry.plan, status, decision.code, decision.text, plan)

    def _untimely(self, entry: Entry, decision: Decision, signed: SignedPlan) -> Handled:
        """It is left, and people are told: once, since it comes again and again."""
        seen = self._seen[entry.id]
        if not seen.told:
            self._seen[entry.id] = attrs.evolve(seen, told=True)
            self._tell_people("plan_" + decision.code, f"entry {entry.id} of {self._stream} was left: {decision.text}")
        return self._left(entry, signed, decision.code, decision.text)

    def _doubt(self, entry: Entry, signed: SignedPlan, text: str) -> Handled:
        return Handled(entry.id, signed.id, Status.IN_DOUBT, "unresolved", text, signed.plan)

    def _left(self, entry: Entry, signed: SignedPlan, code: str, text: str) -> Handled:
        return Handled(entry.id, signed.id, Status.LEFT, code, text, signed.plan)

    def _tell_people(self, code: str, text: str) -> None:
        _LOG.error("%s: %s", code, text)
        if self._alert is None:
            return
        try:
            self._alert(code, text)
        except Exception as error:
            # The log has it. The entry has still to be acknowledged, and nobody would thank us for the same alert at every pass.
            _LOG.error("alert raised %s", type(error).__name__)
