"""A circuit breaker for the bot's own jobs, shared by every process that runs them.

It is the breaker of ``fsm/breaker.py``, held here for one kind of job, and shared over a store as ``fsm/breaker_copy.py`` says::

    breaker = SharedBreaker("order_execution", store, BreakerPolicy(failures=10, window_ms=300_000), clock.now_ns)
    permit = await breaker.permit()                # raises BreakerOpen: not now, and when to ask again
    try:
        result = await job()
    except Exception as error:
        await breaker.failure(permit, repr(error))        # what looks like a secret in it is not kept
        raise
    await breaker.success(permit)

Nothing is held while the job runs: a permit is a note of the generation that it was given in, no more. Whoever never reports costs a probe
its place for ``open_ms`` and nothing else; a job that was not begun after all says ``drop``.

=========================== =====================================================================================
the store                   what this breaker does
=========================== =====================================================================================
None                        counts for this process alone
answers                     a failure, an opening and a word are put there at once; what others did is read at most
                            ``refresh_ms`` later, and at every question while it is not closed. A permit of HALF_OPEN
                            counts only once it stands in the store, so all processes together let ``probes`` through
fails                       the last state known here goes on (``fsm/degraded.py``): closed stays closed, and opens by
                            failures of this process; open stays open, since no probe can be agreed on. What
                            happens meanwhile is told to the store when it answers; it is tried every ``refresh_ms``
=========================== =====================================================================================

``on_change`` is told every change of mode, also of those that others made. To freeze on it, let it feed ``BreakerChanged`` to the runner.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable

from attrs import define, evolve

from ..effects import BreakerMode, ValueRefused
from ..fsm.breaker import (
    FREE,
    SHUT,
    WORDS,
    Ask,
    BreakerEvent,
    Dropped,
    Failed,
    Looked,
    Note,
    Succeeded,
    by_now,
    closed,
    retry_after_ms,
    standing,
    word,
)
from ..fsm.breaker_copy import Copy, apply, has_permit, heard, overtaken, to_put
from ..fsm.breaker_text import BreakerTextRefused
from ..fsm.config import BreakerPolicy
from ..fsm.degraded import Conduct, Deed, conduct
from ..fsm.events import StoreHealth
from ..fsm.failure_words import redact
from ..fsm.limits import MAX_MS
from .answers import BreakerStatus, HaltcoreError
from .arguments import choice, milliseconds, text, whole, words
from .coordination import NO_VERSION, UNREADABLE, Coordination, StoreFailed
from .ports import NowNs
from .texts import told

_LOG = logging.getLogger("haltcore")
_NS_PER_MS = 1_000_000
#: How often a state is put anew after others were faster.
TRIES = 16


class BreakerOpen(HaltcoreError):
    """The job is not to be done now. ``code``: ``breaker_open``, ``breaker_probing`` (others are finding out) or ``breaker_unshared`` (the
    store does not answer, so no probe can be agreed on). ``retry_after_ms``: when to ask again; 0 is not known."""

    def __init__(self, code: str, reason: str, retry_after_ms: int) -> None:
        super().__init__(code, reason)
        self.retry_after_ms = retry_after_ms


@define(eq=False)
class Permit:
    """Leave to do one job. Good for one report; then it is ``spent``."""

    token: str
    generation: int
    spent: bool = False


class SharedBreaker:
    """See the module's essay. ``now_ns`` is UTC. ``refresh_ms``: how long what was read of the store is relied on while it is closed."""

    def __init__(
        self, job: str, store: Coordination | None, policy: BreakerPolicy, now_ns: NowNs,
        on_change: Callable[[BreakerStatus], object] | None = None, *, refresh_ms: int = 1_000,
    ) -> None:  # fmt: skip
        self.job = text(job, "job")
        self._store, self._policy, self._now_ns = store, policy, now_ns
        self._on_change = on_change
        self._refresh_ns = milliseconds(refresh_ms, "refresh_ms") * _NS_PER_MS
        self._copy = Copy(closed(now_ns()))
        self._who = secrets.token_hex(4)
        self._asked = 0
        self._health = StoreHealth.OK
        #: When the store was heard last, or tried in vain; None is never.
        self._heard_ns: int | None = None
        self._times_heard = 0
        self._one_at_a_time = asyncio.Lock()

    # --- around a job ------------------------------------------------------------------------------------------------

    async def permit(self) -> Permit:
        """Leave to do the job once. Raises BreakerOpen."""
        if self._copy.state.mode not in FREE or self._is_stale():
            await self._exchange(read=True)
        self._asked += 1
        # With its number, since a process that forks has a child that counts on from the same.
        token = f"{self._who}:{os.getpid()}:{self._asked}"
        self._do(Looked())
        if self._copy.state.mode not in FREE:
            await self._probe(token)
        return Permit(token, self._copy.state.generation)

    async def _probe(self, token: str) -> None:
        """One of the few of HALF_OPEN: first here, then in the store."""
        if Note.GRANTED not in self._do(Ask(token, self._now_ns())):
            raise self._refusal()
        if self._store is None:
            return
        generation = self._copy.state.generation
        agreed = False
        try:
            agreed = conduct(Deed.BREAKER, self._health) is Conduct.ASK and await self._exchange()
        finally:
            if not agreed:
                self._do(Dropped(token))
        if not agreed:
            raise self._refusal()
        if not has_permit(self._copy, token, generation):
            raise self._refusal()

    def _refusal(self) -> BreakerOpen:
        now_ns = self._now_ns()
        state, _ = by_now(self._copy.state, self._policy, now_ns)
        reason = f"the breaker of {self.job} is {standing(state, self._policy, now_ns)}"
        if state.mode in SHUT:
            return BreakerOpen("breaker_open", reason, retry_after_ms(state, self._policy, now_ns))
        if self._store is not None and self._health is not StoreHealth.OK:
            return BreakerOpen("breaker_unshared", f"{reason}; the store does not answer", self._refresh_ns // _NS_PER_MS)
        return BreakerOpen("breaker_probing", reason, retry_after_ms(state, self._policy, now_ns))

    async def success(self, permit: Permit) -> None:
        """The job has worked. A second report of the same permit is none."""
        await self._report(permit, Succeeded(permit.token, permit.generation, self._now_ns()))

    async def failure(self, permit: Permit, what: str = "") -> None:
        """The job has failed, or nobody knows (a time-out is a failure here). ``what``: why, for people; they all see it, so what looks
        like a secret is taken out."""
        await self._report(permit, Failed(permit.token, permit.generation, self._now_ns(), redact(words(what))))

    async def drop(self, permit: Permit) -> None:
        """The job was not begun after all: nothing is learned, and a probe's place is free again."""
        await self._report(permit, Dropped(permit.token))

    async def _report(self, permit: Permit, event: BreakerEvent) -> None:
        if permit.spent:
            return
        permit.spent = True
        self._do(event)
        await self._tell()

    # --- a person's word, and how it stands --------------------------------------------------------------------------

    async def force(self, mode: BreakerMode | str, for_ms: int, by: str, why: str) -> None:
        """Force it open or closed for so long (0: until somebody says otherwise), or (``closed``) let it begin anew.

        Raises ValueRefused for what is no such word.
        """
        to, length = choice(BreakerMode, mode, "mode"), whole(for_ms, "for_ms")
        if to not in WORDS:
            raise ValueRefused(f"mode: {to.value} comes by itself; give {', '.join(word.value for word in WORDS)}")
        if not text(by, "by").strip() or not text(why, "why").strip():
            raise ValueRefused("by, why: a word about a breaker names who says it and why")
        if not 0 <= length <= (MAX_MS if to is not BreakerMode.CLOSED else 0):
            raise ValueRefused(f"for_ms: {length} is out of range; give 1 to {MAX_MS}, or 0 for no end; beginning anew has none")
        self._do(word(self._copy.state, to, length, by, why, self._now_ns()))
        _LOG.warning("the breaker of %s: %s by %s: %s", self.job, to.value, by, why)
        await self._tell()

    def status(self) -> BreakerStatus:
        """How it stands here. ``untold``: the store has not heard of it all yet."""
        self._do(Looked())
        s = self._copy.state
        return BreakerStatus(
            self.job, s.mode, s.since_ns, len(s.failures), len(s.probes), s.until_ns, s.by, s.why,
            standing(s, self._policy, self._now_ns()), self._store is not None and bool(to_put(self._copy)),
        )  # fmt: skip

    async def refresh(self) -> BreakerStatus:
        """Read what others have done, tell what they do not know, and say how it stands."""
        await self._exchange(read=True)
        return self.status()

    # --- the state ---------------------------------------------------------------------------------------------------

    def _do(self, event: BreakerEvent) -> tuple[Note, ...]:
        copy, notes = apply(self._copy, event, self._policy, self._now_ns(), self._store is not None)
        self._become(copy)
        if Note.LAPSED in notes:
            _LOG.warning("the breaker of %s: the word that forced it has run out", self.job)
        return notes

    def _become(self, copy: Copy) -> None:
        was, self._copy = self._copy.state, copy
        if (was.mode, was.generation) == (copy.state.mode, copy.state.generation):
            return
        if copy.state.mode in SHUT:
            _LOG.error("the breaker of %s is %s", self.job, standing(copy.state, self._policy, self._now_ns()))
        if self._on_change is not None:
            try:
                self._on_change(self.status())
            except Exception as error:
                _LOG.error("on_change of the breaker of %s raised %s", self.job, told(error))

    # --- the store ---------------------------------------------------------------------------------------------------

    def _is_stale(self) -> bool:
        return self._heard_ns is None or not 0 <= self._now_ns() - self._heard_ns < self._refresh_ns

    async def _tell(self) -> None:
        """Put what the store has not heard."""
        if to_put(self._copy):
            await self._exchange()

    async def _exchange(self, read: bool = False) -> bool:
        """Bring copy and store together, one exchange at a time. Whether the store knows all that is known here. One that has just failed
        is left alone for a while."""
        if self._store is None:
            return True
        known = self._times_heard
        async with self._one_at_a_time:
            if self._health is not StoreHealth.OK and not self._is_stale():
                return False
            try:
                # Whoever has waited here behind another's reading need not read again.
                if read and known == self._times_heard and not to_put(self._copy):
                    self._hear(*await self._ask(self._store, ""))
                for _ in range(TRIES):
                    state = to_put(self._copy)
                    if not state:
                        return True
                    self._hear(*await self._ask(self._store, state))
            except StoreFailed as failure:
                if self._health is StoreHealth.OK:
                    _LOG.warning("the breaker of %s is not shared: %s", self.job, failure)
                self._health, self._heard_ns = failure.health, self._now_ns()
                return False
        return not to_put(self._copy)

    async def _ask(self, store: Coordination, state: str) -> tuple[int, str]:
        """Version and text that the store has, after this one was put if there is one. Of what cannot be read the text is that it cannot,
        which is no breaker's state, and the next one is put in its place. Raises StoreFailed."""
        try:
            if not state:
                return await store.get_state(self._name)
            _, version, there = await store.put_state(self._name, self._copy.version, state)
            return version, there
        except StoreFailed as failure:
            if failure.code != UNREADABLE:
                raise
            return NO_VERSION, failure.text

    @property
    def _name(self) -> str:
        return f"breaker:{self.job}"

    def _hear(self, version: int, there: str) -> None:
        self._health, self._heard_ns, self._times_heard = StoreHealth.OK, self._now_ns(), self._times_heard + 1
        before = self._copy
        try:
            self._become(heard(before, version, there, self._policy, self._now_ns()))
        except BreakerTextRefused as refused:
            if version != before.version:
                _LOG.error("the store holds of the breaker of %s what is %s", self.job, refused)
            self._copy = evolve(before, version=version)
        for said in overtaken(before, self._copy):
            _LOG.warning("the breaker of %s: %s by %s was overtaken by a later word or opening elsewhere", self.job, said.to.value, said.by)
