"""Jobs: a bot's own work, run so that it happens once, is repeated only where that is safe, and never in a storm.

An order whose answer is lost is asked for, and not placed again::

    >>> import asyncio
    >>> from haltcore.adapters import Absent, Done, Jobs, MemoryState, MemoryStore, SideEffect, Unknown
    >>> clock = lambda: 0                                        # WallClock().now_ns
    >>> at_the_venue = {}
    >>> async def place_order() -> str:
    ...     at_the_venue["signal-7"] = "order 1"                 # under a client id of the bot's own
    ...     raise ConnectionResetError("the answer is lost")
    >>> async def find_order() -> Done | Absent | Unknown:
    ...     try:
    ...         found = at_the_venue.get("signal-7")             # ask for the client id, among open orders and closed ones
    ...     except OSError:
    ...         return Unknown()
    ...     return Done(found) if found else Absent()
    >>> jobs = Jobs(MemoryStore(MemoryState(clock)), now_ns=clock, holder="bot-1", venue="binance")
    >>> asyncio.run(jobs.run("order_job", place_order, once=(SideEffect.ORDER_PLACEMENT, "signal 7"), query=find_order))
    Once(executed=False, result='order 1')

What a try goes through, in this order:

=========== ===================================== ==================================================================
stage       says no by                            then
=========== ===================================== ==================================================================
breaker     ``JobBlocked``, ``breaker_open`` ...  the run ends: the next permit may be a long way off
guard       ``NotExecuted``, ``guard_held`` ...   asked again after a wait: the other may be done by then, or have failed; the
                                                  last time only when a dead one's claim may be taken over. The run ends
                                                  where only a person or a query can help
the work    an exception                          classified (``fsm/failures.py``): see below
=========== ===================================== ==================================================================

*Repeated* is work that certainly did nothing and may do better (``Failure.retryable``). Work in doubt is repeated only if the job is
declared idempotent, or has a guard and a query: then the next try asks before it does anything. The wait is drawn with full
jitter from 0 to min(cap, base x 2^n), and begins when Retry-After is over; if that is longer than ``patience_ms``, the run ends.

*ONE JOB IS ONE REQUEST.* Its exception is judged as that of the request. Work that places an order and then fails to reach a database of
its own has placed it, and a refused connection says nothing of that. So where there is a ``query``, no judgement counts as proof: every
exception leaves the guard IN_DOUBT, and the query is asked, unless the work itself raises NothingHappened, or ``certain`` is given
and says True of it. Without a query the judgement counts, and then work of two requests is done twice.

*How long that takes*: the query is asked at once, and if it finds the work done, that is the result. "Absent" counts only when nothing
can arrive any more, by the guard's defaults 40 s later; the run waits for that, tries once more then, and gives up only if it is beyond
``patience_ms``. The claim of a process that died is taken over in the same time, at the run's last try.

*A programming error* (:data:`BUGS`) says nothing of the other side and does not go away by itself: it is raised at once as it is, and
no breaker hears of it. Guarded work that has one is in doubt, since it may have come half-way. A KeyError or ValueError is none of them:
an odd answer causes these as well.

*The breaker* is told what the core tells its own: a failure that is unavailable or in doubt is one, a refusal is not, since the other side
has answered; what the guard held back says nothing, nor does a cancellation. Work that takes risk away (a cancel, by its ``verb``) is
never held up by a breaker, which hears of it nothing.

*Names* of jobs are known where ``breakers`` or ``metrics`` are given: those that have a breaker or series of their own. Any other is
refused, since a job whose name is mistyped would run without its breaker.

*The store* is needed by guarded work only; see ``side_effects.py``. Other work goes, whatever the store says.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import Attribute, field, frozen

from ..effects import ValueRefused
from ..fsm.backoff import backoff_ns
from ..fsm.events import OutcomeKind, Verb
from ..fsm.failure_classes import FailureClass
from ..fsm.failure_words import redact
from ..fsm.failures import Failure, classify_exception, kind_of
from ..fsm.limit_faults import is_whole, shown
from ..fsm.limits import MAX_MS
from .answers import HaltcoreError
from .coordination import Coordination
from .ports import NowNs
from .retry_metrics import RetryMetrics
from .shared_breaker import BreakerOpen, Permit
from .side_effects import Certain, NotExecuted, NothingHappened, Once, Query, SideEffectGuard, Work, check_arguments, text_of
from .texts import told

T = TypeVar("T")
_LOG = logging.getLogger("haltcore")
_NS_PER_MS = 1_000_000
#: The guard's answers that may be another one a little later. ``guard_in_doubt`` only if there is a query.
_ASKED_AGAIN = ("guard_held", "guard_lost", "store_unavailable", "store_in_doubt", "too_late")
_CANCELS = (Verb.CANCEL, Verb.CANCEL_BATCH, Verb.CANCEL_ALL)
_CERTAIN = (OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE)
#: What the program itself is to blame for, whatever a classifier makes of its words. ValueRefused is haltcore's own, of an argument.
BUGS: Final = (AssertionError, AttributeError, ImportError, NameError, NotImplementedError, TypeError, ValueRefused)


def _at_least(least: int) -> Any:
    def check(_policy: object, field: "Attribute[int]", value: object) -> None:
        if not is_whole(value) or not least <= value <= MAX_MS:
            raise ValueRefused(f"{field.name}: {shown(value)} is no whole number that fits; give {least} to {MAX_MS}")

    return check


@frozen
class RetryPolicy:
    """How hard something is tried. The wait before repeat ``n`` (from 0) is uniformly 0 to min(``cap_ms``, ``base_ms`` x 2^n).

    ``attempts`` counts the first try. ``patience_ms``: the longest that is waited for on top of that, for a Retry-After or a guard. Raises
    ValueRefused for what is no whole number.
    """

    base_ms: int = field(default=200, validator=_at_least(0))
    cap_ms: int = field(default=5_000, validator=_at_least(0))
    attempts: int = field(default=7, validator=_at_least(1))
    patience_ms: int = field(default=60_000, validator=_at_least(0))


#: Told before each wait: what failed, the number of the next try, and the wait in seconds.
OnRetry = Callable[[BaseException, int, float], object]
Sleep = Callable[[float], Awaitable[object]]


class Breaker(Protocol):
    """What is asked of a circuit breaker: ``shared_breaker.SharedBreaker``."""

    job: str

    async def permit(self) -> Permit:
        """Leave to try once. Raises BreakerOpen."""
        ...

    async def success(self, permit: Permit) -> None:
        """It worked."""
        ...

    async def failure(self, permit: Permit, what: str = "") -> None:
        """It failed."""
        ...

    async def drop(self, permit: Permit) -> None:
        """It was not tried."""
        ...


class JobBlocked(HaltcoreError):
    """The job was not tried. ``code`` is the breaker's; ``executed`` is False; ``retry_after_ms`` is when to ask again, 0 if not known."""

    def __init__(self, code: str, reason: str, retry_after_ms: int) -> None:
        super().__init__(code, reason)
        self.retry_after_ms = retry_after_ms


@frozen
class Again:
    """What is made of a failed try: whether there is to be another, not before when, and why not. ``last_after_ms``: not before when, if
    it is to be the last one."""

    wanted: bool
    retry_after_ms: int = 0
    reason: str = ""
    last_after_ms: int = 0


@frozen
class Tried(Generic[T]):
    """A result, and the number of the try that had it."""

    result: T
    attempts: int


class Exhausted(Exception):
    """Carries the last failure of :func:`retry` out of it: ``error``, how many ``attempts`` there were, and the ``reason`` for no more."""

    def __init__(self, error: Exception, attempts: int, reason: str) -> None:
        super().__init__(f"{reason} after {attempts} attempts: {told(error)}")
        self.error, self.attempts, self.reason = error, attempts, reason


async def retry(
    work: Callable[[int], Awaitable[T]], policy: RetryPolicy, again: Callable[[Exception], Again], *,
    on_retry: OnRetry | None = None, sleep: Sleep = asyncio.sleep, seed: int = 0, number: int = 0,
) -> Tried[T]:  # fmt: skip
    """Do the work, which is told the number of the try, until it succeeds or ``again`` wants no more.

    Raises :class:`Exhausted`; a cancellation and whatever else is no Exception at once. The waits follow from ``seed``, ``number`` and the
    try alone. What ``on_retry`` raises is logged.

        >>> async def flaky(attempt: int) -> str:
        ...     if attempt < 3:
        ...         raise ConnectionRefusedError("not up yet")
        ...     return "done"
        >>> async def no_wait(seconds: float) -> None: ...
        >>> told = []
        >>> asyncio.run(retry(flaky, RetryPolicy(base_ms=200, attempts=7), lambda error: Again(True), sleep=no_wait,
        ...                   on_retry=lambda error, attempt, delay: told.append((attempt, 0 <= delay <= 0.4))))
        Tried(result='done', attempts=3)
        >>> told
        [(2, True), (3, True)]
    """
    attempt = 1
    while True:
        try:
            return Tried(await work(attempt), attempt)
        except Exception as error:
            verdict = again(error)
            if not verdict.wanted:
                raise Exhausted(error, attempt, verdict.reason) from error
            if attempt >= policy.attempts:
                raise Exhausted(error, attempt, "attempts_exhausted") from error
            least_ms = max(verdict.retry_after_ms, verdict.last_after_ms if attempt + 1 == policy.attempts else 0)
            if least_ms > policy.patience_ms:
                raise Exhausted(error, attempt, "retry_after_too_long") from error
            drawn_ns = backoff_ns(seed, (number, 0), attempt - 1, policy.base_ms, policy.cap_ms)
            wait_s = (least_ms * _NS_PER_MS + drawn_ns) / 1_000_000_000
            attempt += 1
            _tell(on_retry, error, attempt, wait_s)
        await sleep(wait_s)


class Jobs:
    """See the module. ``holder`` names this process. ``breakers`` are found by their ``job``; a job that only ``metrics`` names has none.

    ``classify`` says what an exception of the work means, by default :func:`~haltcore.fsm.failures.classify_exception` for ``venue``.
    ``seed`` feeds the jitter, random by default, so that processes do not march in step. Without a ``store`` nothing can be guarded: give a
    ``MemoryStore`` where there is only one process.
    """

    def __init__(
        self, store: Coordination | None, policy: RetryPolicy | None = None, *,
        now_ns: NowNs, holder: str = "jobs", venue: str = "", breakers: Iterable[Breaker] = (), metrics: RetryMetrics | None = None,
        guard: SideEffectGuard | None = None, classify: Callable[[BaseException, Verb | None], Failure] | None = None,
        sleep: Sleep = asyncio.sleep, seed: int | None = None,
    ) -> None:  # fmt: skip
        self._policy = policy or RetryPolicy()
        self.guard = guard if guard is not None or store is None else SideEffectGuard(store, now_ns, holder)
        self._breakers = {breaker.job: breaker for breaker in breakers}
        self._metrics = metrics
        self._known = tuple(dict.fromkeys((*self._breakers, *(metrics.job_types if metrics is not None else ()))))
        self._judgement = classify or (lambda error, verb: classify_exception(error, venue, verb, now_ms=now_ns() // _NS_PER_MS))
        self._sleep, self._seed = sleep, secrets.randbits(64) if seed is None else seed
        self._runs = 0

    async def run(
        self, job_type: str, work: Work, *,
        once: tuple[str, str] | None = None, params: tuple[str, ...] = (), query: Query | None = None, scopes: tuple[str, ...] = (),
        certain: Certain | None = None, verb: Verb | None = Verb.PLACE, idempotent: bool = False, on_retry: OnRetry | None = None,
    ) -> Once:  # fmt: skip
        """Run a job, which is one request, to its end.

        ``once``: type and entity of its side effect; ``params``, ``query``, ``scopes`` and ``certain`` go with it, see
        ``SideEffectGuard.once``. Without ``certain`` the judgement of a failure is proof where there is no query, and none where there is.
        ``verb``: what failures of the work are about; None, a question, for work that changes nothing. ``idempotent``: no harm done twice.
        Raises :class:`JobBlocked`, :class:`NotExecuted`, ValueRefused (an argument, or an answer of the query, that says nothing), and
        what the work raised last.
        """
        self._check_name(job_type)
        check_arguments(*_pair(once), work, params, query, scopes, certain)
        if once is not None and self.guard is None:
            raise ValueError("once: there is no store; give Jobs one, a MemoryStore where there is only one process")
        if once is not None and verb is None:
            raise ValueError("once: what changes nothing needs no guard; leave once out, or say by verb what the work does")
        self._runs += 1
        breaker = None if verb in _CANCELS else self._breakers.get(job_type)
        proof = certain if certain is not None or query is not None else self._proof(verb)

        async def tried(attempt: int) -> Once:
            if self._metrics is not None:
                self._metrics.record_retry_attempt(job_type, attempt)
            if once is None or self.guard is None:
                return await self._through(breaker, verb, lambda: _executed(work))
            guard = self.guard
            return await self._through(
                breaker, verb, lambda: guard.once(*once, work, params=params, query=query, scopes=scopes, certain=proof)
            )

        judge = _Judge(self._classify, verb, idempotent, query is not None and once is not None)
        try:
            done = await retry(
                tried, self._policy, judge, on_retry=on_retry, sleep=self._sleep, seed=self._seed, number=self._runs
            )
        except Exhausted as ended:
            over = ended
        else:
            if self._metrics is not None:
                self._metrics.record_retry_success(job_type, done.attempts)
            return done.result
        self._count_end(job_type, over, judge.worked)
        # Not while ``over`` is being handled, so that the error keeps a cause of its own.
        raise over.error

    def _check_name(self, job_type: object) -> None:
        """Raise ValueRefused for a kind of job that is not among those that are named."""
        if not isinstance(job_type, str) or not job_type:
            raise ValueRefused(f"job_type: {repr(job_type)[:80]} is no name; give a text such as 'order_job'")
        if self._known and job_type not in self._known:
            near = get_close_matches(job_type, self._known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(repr, self._known))};"
            raise ValueRefused(
                f"job_type: {job_type[:80]!r} has neither breaker nor metrics here; {hint} A new one is named in RetryMetrics([...])"
            )

    def _count_end(self, job_type: str, over: Exhausted, worked: bool) -> None:
        """A run that ended badly. One that was cancelled counts as nothing: that was the bot's own word."""
        if self._metrics is not None:
            self._metrics.record_retry_blocked(job_type, over.error.code if isinstance(over.error, NotExecuted) else over.reason)
            if worked:
                self._metrics.record_retry_failure(job_type, over.attempts)

    def _proof(self, verb: Verb | None) -> Certain:
        return lambda error: not isinstance(error, BUGS) and self._classify(error, verb).kind in _CERTAIN

    def _classify(self, error: BaseException, verb: Verb | None) -> Failure:
        """What it means: by the work's own word, else by judgement; nothing is known of it if that fails."""
        if isinstance(error, NothingHappened):
            return Failure(FailureClass.NOT_SENT, OutcomeKind.UNAVAILABLE, 0, "", redact(str(error)))
        try:
            return self._judgement(error, verb)
        except Exception as failure:
            _LOG.error("%s could not be classified: %s", told(error), told(failure))
            return Failure(FailureClass.UNKNOWN, kind_of(FailureClass.UNKNOWN, verb), 0, "", "")

    async def _through(self, breaker: Breaker | None, verb: Verb | None, step: Callable[[], Awaitable[Once]]) -> Once:
        """One try, with the breaker's leave, and its report to it."""
        if breaker is None:
            return await step()
        try:
            permit = await breaker.permit()
        except BreakerOpen as refused:
            raise JobBlocked(refused.code, refused.reason, refused.retry_after_ms) from None
        try:
            done = await step()
        except (NotExecuted, *BUGS):
            await breaker.drop(permit)
            raise
        except Exception as error:
            if self._classify(error, verb).kind is OutcomeKind.REFUSED:
                await breaker.success(permit)
            else:
                await breaker.failure(permit, type(error).__name__)
            raise
        except BaseException:
            await breaker.drop(permit)
            raise
        await (breaker.success(permit) if done.executed else breaker.drop(permit))
        return done


class _Judge:
    """Whether a failed try of a job is to be followed by another. ``worked``: the work itself was tried."""

    def __init__(
        self, classify: Callable[[BaseException, Verb | None], Failure], verb: Verb | None, idempotent: bool, asks: bool
    ) -> None:
        self._classify, self._verb, self._idempotent, self._asks = classify, verb, idempotent, asks
        self.worked = False

    def __call__(self, error: Exception) -> Again:
        if isinstance(error, JobBlocked):
            # The retry metrics have called an open breaker that from the beginning; alerts and dashboards go by it.
            return Again(False, reason="circuit_open" if error.code == "breaker_open" else error.code)
        if isinstance(error, NotExecuted):
            if error.code == "guard_in_doubt":
                # Nothing changes before that, since the query was asked just now.
                return Again(self._asks, error.retry_after_ms, error.code)
            # Whoever holds it may be done any moment. If it is dead, the last try is the one that can take over.
            return Again(error.code in _ASKED_AGAIN, 0, error.code, error.retry_after_ms)
        self.worked = True
        if isinstance(error, BUGS):
            return Again(False, reason="programming_error")
        failure = self._classify(error, self._verb)
        wanted = failure.retryable or (failure.passes and (self._idempotent or self._asks))
        return Again(wanted, failure.retry_after_ms, f"not_retryable_{failure.failure_class.value}")


async def _executed(work: Work) -> Once:
    return Once(True, text_of(await work()))


def _pair(once: object) -> tuple[object, object]:
    """Type and entity; of work without a guard, whatever passes. Two letters are no pair, though they can be unpacked."""
    if once is None:
        return "none", "none"
    if not isinstance(once, tuple) or len(once) != 2:
        raise ValueRefused(f"once: {repr(once)[:80]} is no pair of type and entity, such as (SideEffect.LEDGER_WRITE, 'fill 4711')")
    return once


def _tell(on_retry: OnRetry | None, error: Exception, attempt: int, wait_s: float) -> None:
    if on_retry is not None:
        try:
            on_retry(error, attempt, wait_s)
        except Exception as failure:
            _LOG.error("on_retry raised %s", told(failure))
