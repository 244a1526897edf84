"""The runner's hands: they carry effects out, and see to it that each one gets exactly one outcome.

An effect is *taken* when it is decided and *begun* when it may leave; in between it may be held for the disk, and refused. From
then on, whatever its performer does, one outcome comes of it:

=========================================  =========================================================================
the performer                              the outcome
=========================================  =========================================================================
returns evidence, then the outcome         that outcome
returns none, two, or another's            IN_DOUBT: what it did is not known, so it may have been done
raises, or is cancelled                    IN_DOUBT
does not return within the time-out        IN_DOUBT at that moment, whether or not it lets itself be cancelled
returns after that                         none; its evidence still counts
=========================================  =========================================================================

At the instant of beginning the last check is asked, as a venue adapter asks it again before the bytes leave.

Words to people have no outcome, and wait in queues of their own, since a pager or a metrics server may hang: alerts for MAX_ALERTS of them,
metrics for MAX_METRICS. What overflows is dropped, oldest first; an alert goes to the log then, so that it is never lost for good, and
is never dropped for a metric. Of each gauge the newest value that would be dropped is kept, and told before those that came after it, so no
gauge goes on showing what is no longer so.
"""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from ..effects import EFFECT_CLASSES, Effect, EffectId, Metric, Part, Performer, Purpose, Risk, SetTimer
from ..fsm.events import Event, OutcomeKind, TimerFired
from ..fsm.outcomes import failed
from .metrics import GAUGE, TABLE
from .ports import Emit, MaySend, NowNs
from .texts import unwritable, writable

_LOG = logging.getLogger("haltcore")
#: How many alerts may wait for a pager that hangs, and how many metrics for a metrics server.
MAX_ALERTS = 1_000
MAX_METRICS = 10_000
_GAUGES = {spec.name: True for spec in TABLE if spec.kind == GAUGE}


class Hands:
    """Carries out the effects of one runner. ``tasks`` are those under way; ``adding`` counts the adding effects without outcome. Outcomes
    go to ``receive``, and what else performers say to ``report``, which takes it as it takes what they say unasked."""

    def __init__(
        self, routes: Mapping[type[Effect], Performer[Event]], timeout_s: float, now_ns: NowNs, receive: Emit, report: Emit,
        may_send: MaySend,
    ) -> None:  # fmt: skip
        self.tasks: dict[asyncio.Task[None], None] = {}
        self.adding = 0
        self._routes, self._timeout_s, self._now_ns, self._may_send = routes, timeout_s, now_ns, may_send
        self._receive, self._report = receive, report
        self._under_way: dict[EffectId, Effect] = {}
        self._timers: dict[EffectId, asyncio.TimerHandle] = {}
        self._no_timers = False
        self._alerts: deque[Effect] = deque()
        self._metrics: deque[Metric] = deque()
        self._gauges: dict[tuple[str, str], Metric] = {}
        self._alerting = self._metering = self._dropping = False

    def take(self, effect: Effect) -> None:
        """It owes an outcome from now on."""
        self._under_way[effect.id] = effect
        if effect.risk is Risk.ADDS_RISK:
            self.adding += 1

    def begin(self, effect: Effect) -> None:
        """Carry it out, in a task of its own."""
        self._spawn(self._perform(effect))

    def refuse(self, effect: Effect, code: str, text: str) -> None:
        """It certainly does not happen."""
        self._settle(effect, [failed(effect, self._now_ns(), OutcomeKind.REFUSED, code, text)])

    def tell(self, said: Sequence[Effect]) -> None:
        """Say words to people, alerts and metrics each in order and one at a time; see the essay for when too many wait."""
        for effect in said:
            if isinstance(effect, Metric):
                self._metrics.append(effect)
            else:
                self._alerts.append(effect)
        while len(self._alerts) > MAX_ALERTS:
            _LOG.critical("%s was not told to people: %d alerts wait already", self._alerts.popleft(), MAX_ALERTS)
        while len(self._metrics) > MAX_METRICS:
            self._drop(self._metrics.popleft())
        if self._alerts and not self._alerting:
            self._alerting = True
            self._spawn(self._alert())
        if (self._metrics or self._gauges) and not self._metering:
            self._metering = True
            self._spawn(self._meter())

    def _drop(self, metric: Metric) -> None:
        if metric.name in _GAUGES:
            self._gauges[metric.name, metric.label] = metric
        elif not self._dropping:
            self._dropping = True
            _LOG.error("%s was dropped, and so are the next ones: %d metrics wait already", metric, MAX_METRICS)

    def set_timer(self, effect: SetTimer) -> None:
        """Report when it is due."""
        if self._no_timers:
            return
        delay_s = max(0, effect.due_ns - self._now_ns()) / 1e9
        loop = asyncio.get_running_loop()
        self._timers[effect.id] = loop.call_later(delay_s, self._fire, effect.id, effect.purpose, effect.key)

    def due_in_s(self, timer: EffectId | None) -> float | None:
        """How long until this timer reports; None if it is not set."""
        handle = self._timers.get(timer) if timer is not None else None
        return max(0.0, handle.when() - asyncio.get_running_loop().time()) if handle is not None else None

    def no_more_timers(self) -> None:
        """Cancel all, and set no more."""
        self._no_timers = True
        for handle in self._timers.values():
            handle.cancel()

    def _fire(self, effect_id: EffectId, purpose: Purpose, key: int) -> None:
        del self._timers[effect_id]
        self._receive(TimerFired(self._now_ns(), effect_id, purpose, key))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks[task] = None
        task.add_done_callback(lambda done: self.tasks.pop(done, None))

    async def _alert(self) -> None:
        """A performer that raises or hangs costs its own word only."""
        try:
            while self._alerts:
                await self._say(self._alerts.popleft())
        finally:
            self._alerting = False

    async def _meter(self) -> None:
        try:
            while self._metrics or self._gauges:
                await self._say(self._gauges.pop(next(iter(self._gauges))) if self._gauges else self._metrics.popleft())
        finally:
            self._metering = self._dropping = False

    async def _say(self, effect: Effect) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._routes[type(effect)].perform(effect)
        except BaseException as error:
            if _ends_the_process(error) or _cancelled_from_outside():
                raise
            _LOG.critical("%s could not be delivered", effect, exc_info=error)

    async def _perform(self, effect: Effect) -> None:
        code = self._may_send(effect)
        if code:
            self.refuse(effect, code, "held back at the instant of sending")
            return
        task: asyncio.Task[Any] | None = asyncio.current_task()
        backstop = asyncio.get_running_loop().call_later(self._timeout_s, self._overdue, effect, task)
        try:
            events = list(await self._routes[type(effect)].perform(effect))
        except BaseException as error:
            # Ended from outside, by the time-out or with the runner, it has done nothing wrong.
            level = logging.DEBUG if isinstance(error, asyncio.CancelledError) and _cancelled_from_outside() else logging.ERROR
            # The class of the error and its place only: its text may hold a signed request.
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = type(effect).__name__, type(error).__name__, where.filename, where.lineno
            _LOG.log(level, "%s: the performer raised %s in %s:%s", *told)
            self._settle(effect, [self._in_doubt(effect, "performer_raised", type(error).__name__)])
            if _ends_the_process(error):
                raise
        else:
            self._settle(effect, events)
        finally:
            backstop.cancel()

    def _overdue(self, effect: Effect, task: "asyncio.Task[Any] | None") -> None:
        _LOG.error("%s: the performer gave no answer within %g s", type(effect).__name__, self._timeout_s)
        self._settle(effect, [self._in_doubt(effect, "timeout", f"no answer within {self._timeout_s:g} s")])
        if task is not None:
            task.cancel()

    def _settle(self, effect: Effect, events: Sequence[Event]) -> None:
        """Report what came of it: evidence whenever it comes, the outcome once, and only if it is one."""
        answers = [event for event in events if hasattr(event, "effect")]
        for event in events:
            if not hasattr(event, "effect"):
                self._report(event)
        if self._under_way.pop(effect.id, None) is None:
            return
        if effect.risk is Risk.ADDS_RISK:
            self.adding -= 1
        if len(answers) == 1 and _is_outcome(answers[0], effect):
            self._receive(answers[0])
        else:
            code = "wrong_outcome" if answers else "no_outcome"
            self._receive(self._in_doubt(effect, code, f"the performer gave {len(answers)} answer(s), not the one that is due"))

    def _in_doubt(self, effect: Effect, code: str, text: str) -> Event:
        return failed(effect, self._now_ns(), OutcomeKind.IN_DOUBT, code, text)


def _is_outcome(answer: Event, effect: Effect) -> bool:
    """Whether the answer is one that this effect can get: of its class, about the same, and such that the log can hold it."""
    model = failed(effect, 0, OutcomeKind.IN_DOUBT, "")
    about = ("effect", "verb", "order", "orders", "symbol", "conditional")
    same = type(answer) is type(model) and all(getattr(answer, name, None) == getattr(model, name, None) for name in about)
    return same and not unwritable(writable(answer))


def _ends_the_process(error: BaseException) -> bool:
    return not isinstance(error, (Exception, asyncio.CancelledError))


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class NoStore:
    """One process, no store: nothing is asked of it, and if something were, it would certainly not be applied."""

    serves: Sequence[type[Effect]] = tuple(kind for kind in EFFECT_CLASSES if kind.part is Part.STORE)

    def __init__(self, now_ns: NowNs) -> None:
        self._now_ns = now_ns

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Certainly not applied."""
        return (failed(effect, self._now_ns(), OutcomeKind.UNAVAILABLE, "no_store"),)


class TimersApart:
    """Stands in the routing table for the timers, which :meth:`Hands.set_timer` sets."""

    serves: Sequence[type[Effect]] = (SetTimer,)

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Never called."""
        raise AssertionError(f"{effect} is set, not performed")
