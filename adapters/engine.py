"""The engine of the runner: it brings events to the core, writes them down, and carries the effects out.

Its ten duties (DESIGN section 14) and where they are done:

== ==================================================================== ==============================
1  one event at a time, in one total order                              ``_feed``
2  stamp it, step, append one record                                    ``_feed``
3  durable before any effect that adds risk                             ``_held``, ``_commit``
4  effects run concurrently, reducing ones first                        ``_dispatch``
5  every effect gets exactly one outcome, a time-out included           ``_perform``
6  a performer that raises is an outcome, never a crash                 ``_perform``
7  on start: verify, replay, recover, then accept commands              ``start``
8  on a full disk or journal error: freeze, keep cancelling             ``_journal_failed``
9  back-pressure is an answer                                           ``submit``
10 stop is freeze or hand-over, never silence                           ``stop``
== ==================================================================== ==============================

Order of things when a record is made: its bytes go to the journal's buffer, effects that reduce risk or only ask start at once, and
effects that add risk are held until the disk has confirmed the record. Many records share one confirmation (group commit). A
held effect, and one that waits inside the venue adapter, is checked against the freeze once more when it leaves.

The runner touches the world only through the ports of ``ports.py``; the simulation drives this very class.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..effects import (
    EFFECT_CLASSES,
    Denied,
    Effect,
    Mode,
    Part,
    Performer,
    Purpose,
    Rejected,
    Risk,
    SetTimer,
    SweepReport,
    Trigger,
    route,
)
from ..fsm.config import Config, ConfigRefused
from ..fsm.core import EMPTY, Core, frozen_scopes, scope_symbol
from ..fsm.events import (
    Event,
    Freeze,
    OutcomeKind,
    Restarted,
    Started,
    Stopping,
    TimerFired,
)
from ..fsm.freeze import may_send
from ..fsm.invariants import broken
from ..fsm.outcomes import failed, owes_outcome
from ..fsm.step import step
from .answers import (
    CommandRejected,
    OrderDenied,
    RunnerStopped,
    Status,
)
from .clock import WallClock
from .disk import Disk, RealDisk
from .journal import Journal, JournalFailed, exists, unborn
from .metrics import Metrics
from .people import People
from .ports import Clock, NowNs, Store, Venue

Observer = Callable[[Event, Core, tuple[Effect, ...]], None]
_Waiter = tuple[Callable[[], Any], "asyncio.Future[Any]"]

_START_ORDER = {Risk.REDUCES_RISK: 0, Risk.NEUTRAL: 1, Risk.ADDS_RISK: 2}
_UNREPORTED = "the runner does not run; start it with `async with Runner(...)`"


class Engine:
    """Runs one session of the core; ``runner.Runner`` adds what a bot says to it.

    ``journal`` is a path; an existing log of the same session is continued, and its open orders are taken over. ``None`` keeps no
    log, which is for experiments: then nothing survives the process. ``max_adding`` bounds how many adding effects may be under way
    (held or sent, without outcome); one more submit is denied with ``overloaded``. ``effect_timeout_s`` is the backstop behind the
    performers' own time-outs. ``on_stop``: "freeze" proves the book empty before stopping, "hand_over" leaves the orders open.
    """

    def __init__(
        self,
        config: Config,
        *,
        venue: Venue,
        journal: str | Path | None,
        store: Store | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
        metrics: Performer[Event] | None = None,
        people: Performer[Event] | None = None,
        observer: Observer | None = None,
        max_adding: int = 1_000,
        effect_timeout_s: float = 10.0,
        on_stop: str = "freeze",
        who: str = "runner",
    ) -> None:
        if config.store.configured != (store is not None):
            raise ConfigRefused(
                "store: the configuration and the runner disagree; pass `store=` exactly when `config.store.configured` is True"
            )
        if on_stop not in ("freeze", "hand_over"):
            raise ConfigRefused(f"on_stop: {on_stop!r}; expected 'freeze' or 'hand_over'")
        self.core: Core = EMPTY
        self.config = config
        self.clock: Clock = clock or WallClock()
        self._venue, self._store = venue, store
        self._journal_path = Path(journal) if journal is not None else None
        self._journal: Journal | None = None
        self._disk: Disk = disk or RealDisk()
        others: list[Performer[Event]] = [
            store or _NoStore(self.clock.now_ns), metrics or Metrics(config.symbols), people or People(),
        ]  # fmt: skip
        self._routes: Mapping[type[Effect], Performer[Event]] = route([venue, *others, _Timers()])
        self._observer, self._who = observer, who
        self._max_adding, self._timeout_s, self._on_stop = max_adding, effect_timeout_s, on_stop
        self._inbox: deque[Event] = deque()
        self._held: list[Effect] = []
        self._adding = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._timers: dict[tuple[int, int], asyncio.TimerHandle] = {}
        self._waiters: list[_Waiter] = []
        self._reports: list[list[SweepReport]] = []
        self._commit_task: asyncio.Task[None] | None = None
        self._flush_due = self._busy = self._running = self._draining = False
        self._broken: BaseException | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open or continue the journal, recover, read what the account holds; return when commands are accepted.

        Raises what opening the journal raises: a log that is broken, of another session, or locked by another process.
        """
        self._loop = asyncio.get_running_loop()
        if self._journal_path is not None:
            await self._open_journal(str(self._journal_path))
        continued = self.core.desk is not None
        self._running = True
        self._venue.connect(self._receive, self.clock.now_ns, self._may_send)
        if self._store is not None:
            self._store.connect(self.clock.now_ns, self._who)
        at_ns = self.clock.now_ns()
        first: Event = Restarted(at_ns, self.config, self._who) if continued else Started(at_ns, self.config)
        effects = self._feed(first)
        for effect in effects:
            if isinstance(effect, Rejected):
                await self._close()
                raise ConfigRefused(f"{effect.code}: {effect.reason}")
        await self._until(lambda: self.core.desk is not None and self.core.desk.opened and self.core.desk.stock is None)

    async def _open_journal(self, path: str) -> None:
        """A new log, or the continuation of the one that is there: then its session tag is ours, since its orders are."""
        if not exists(path, self._disk) or unborn(path, self._disk):
            self._journal = await Journal.create(path, self.config, self._disk)
            return
        self._journal, verdict = await Journal.open(path, self._disk)
        self.core = verdict.core
        if self.core.desk is not None:
            self.config = attrs.evolve(self.config, session=self.core.desk.config.session)

    async def stop(self) -> None:
        """Place nothing more; freeze and prove the book empty, or hand the orders over; seal the journal."""
        if not self._running:
            return
        self._feed(Stopping(self.clock.now_ns(), self._on_stop == "freeze", self._who))
        if self._on_stop == "freeze":
            await self._until(lambda: self.proven(""))
        await self._drain()
        await self._close()

    async def _drain(self) -> None:
        """Let what is under way come to its outcome; no timer begins anything new."""
        self._draining = True
        for handle in self._timers.values():
            handle.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                while self._tasks or self._held:
                    await asyncio.sleep(0.001)

    async def _close(self) -> None:
        self._running = False
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._commit_task is not None:
            await self._commit_task
        self._fail_waiters(RunnerStopped("stopped", "the runner has stopped"))
        await self._venue.close()
        if self._store is not None:
            await self._store.close()
        if self._journal is not None:
            try:
                await self._journal.close(seal=True)
            except JournalFailed as failure:
                self._journal_failed(failure)

    def abandon(self) -> None:
        """Let go of everything at once and say nothing, as a process that is killed does. For simulation and tests."""
        self._running = False
        for handle in self._timers.values():
            handle.cancel()
        for task in (*self._tasks, *([self._commit_task] if self._commit_task else [])):
            task.cancel()
        for _, future in self._waiters:
            future.cancel()

    # --- the one path of an event -----------------------------------------------------------------------------------

    def _receive(self, event: Event) -> None:
        """A report from outside."""
        if self._running:
            self._feed(event)

    def _feed(self, event: Event) -> tuple[Effect, ...]:
        """Step over an event and everything that it brings about at once; the effects of this event's own record."""
        self._inbox.append(event)
        if self._busy:
            return ()
        first: tuple[Effect, ...] | None = None
        self._busy = True
        try:
            while self._inbox:
                effects = self._record(self._inbox.popleft())
                first = effects if first is None else first
        finally:
            self._busy = False
        self._wake()
        return first or ()

    def _record(self, event: Event) -> tuple[Effect, ...]:
        before = self.core
        try:
            after, effects = step(before, event)
            faults = broken(before, event, after, effects)
        except Exception as bug:
            # Totality is a promise of ours; when it is broken, the only safe state is frozen.
            self._bug(event, f"step raised {type(bug).__name__}: {bug}", bug)
            return ()
        self.core = after
        if self._journal is not None and self._journal.failed is None:
            self._write_down(self._journal, event, effects)
        for effect in effects:
            if isinstance(effect, SweepReport):
                for reports in self._reports:
                    reports.append(effect)
        if self._observer is not None:
            self._observer(event, after, effects)
        self._dispatch(effects)
        if faults:
            self._bug(event, "; ".join(faults), None)
        return effects

    def _write_down(self, journal: Journal, event: Event, effects: tuple[Effect, ...]) -> None:
        if not journal.append(event, effects, self.core) and journal.failed is not None:
            self._journal_failed(journal.failed)
            return
        if journal.rotation_due:
            journal.rotate(self.core)
        self._schedule_flush()

    def _bug(self, event: Event, text: str, bug: BaseException | None) -> None:
        """An own bug: freeze once. If even the freeze fails, whoever waits is told, and nothing more is sent."""
        if isinstance(event, Freeze) and event.trigger is Trigger.INVARIANT and bug is not None:
            self._broken = bug
            self._running = False
            self._fail_waiters(bug)
            return
        if self.core.desk is not None and 0 not in frozen_scopes(self.core.desk):
            self._inbox.append(Freeze(self.clock.now_ns(), "", Trigger.INVARIANT, text[:500], "haltcore"))

    # --- carrying out -----------------------------------------------------------------------------------------------

    def _dispatch(self, effects: Sequence[Effect]) -> None:
        said = [effect for effect in effects if effect.part is Part.PEOPLE]
        for effect in sorted(effects, key=lambda e: _START_ORDER[e.risk]):
            if effect.part is Part.ANSWER or effect.part is Part.PEOPLE:
                continue
            if isinstance(effect, SetTimer):
                self._set_timer(effect)
            elif effect.risk is not Risk.ADDS_RISK:
                self._spawn(self._perform(effect))
            elif self._journal is not None:
                self._adding += 1
                self._held.append(effect)
                self._schedule_commit()
            else:
                self._adding += 1
                self._spawn(self._perform(effect))
        if said:
            self._spawn(self._tell(said))

    async def _tell(self, said: list[Effect]) -> None:
        """Words to people, in order, in one task; their performers never raise."""
        for effect in said:
            await self._routes[type(effect)].perform(effect)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _set_timer(self, effect: SetTimer) -> None:
        if self._draining:
            return
        delay_s = max(0, effect.due_ns - self.clock.now_ns()) / 1e9
        self._timers[effect.id] = self._loop.call_later(delay_s, self._fire, effect.id, effect.purpose, effect.key)

    def _fire(self, effect_id: tuple[int, int], purpose: Purpose, key: int) -> None:
        del self._timers[effect_id]
        if self._running:
            self._feed(TimerFired(self.clock.now_ns(), effect_id, purpose, key))

    async def _perform(self, effect: Effect) -> None:
        """Carry one effect out, and feed what came of it: its evidence, and exactly one outcome."""
        events: list[Event] = []
        owes = owes_outcome(effect)
        try:
            async with asyncio.timeout(self._timeout_s):
                events = list(await self._routes[type(effect)].perform(effect))
            if owes and (not events or getattr(events[-1], "effect", None) != effect.id):
                events.append(self._failed(effect, OutcomeKind.IN_DOUBT, "no_outcome", "the performer gave no outcome"))
        except TimeoutError:
            if owes:
                events = [self._failed(effect, OutcomeKind.IN_DOUBT, "timeout", f"no answer within {self._timeout_s:g} s")]
        except Exception as error:
            if owes:
                events = [self._failed(effect, OutcomeKind.IN_DOUBT, "performer_raised", type(error).__name__)]
        if effect.risk is Risk.ADDS_RISK:
            self._adding -= 1
        for event in events:
            self._receive(event)

    def _failed(self, effect: Effect, kind: OutcomeKind, code: str, text: str) -> Event:
        return failed(effect, self.clock.now_ns(), kind, code, text)

    def _may_send(self, effect: Effect) -> str:
        """The last check, at the instant before bytes leave."""
        if not self._running:
            return "stopped"
        if effect.risk is Risk.ADDS_RISK and self._journal is not None and self._journal.failed is not None:
            return "journal_failed"
        return may_send(self.core, effect)

    # --- durability -------------------------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        """Records without adding effects go to the operating system soon, and to the disk with the next commit."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._journal is None or self._journal.failed is not None or not self._running:
            return
        try:
            self._journal.flush()
        except JournalFailed as failure:
            self._journal_failed(failure)

    def _schedule_commit(self) -> None:
        if self._commit_task is None or self._commit_task.done():
            self._commit_task = self._loop.create_task(self._commit())

    async def _commit(self) -> None:
        """Confirm the records on disk, then let go of the effects that waited for it; as long as there are any."""
        while self._held and self._running:
            ready, self._held = self._held, []
            journal = self._journal
            try:
                if journal is not None:
                    await journal.commit()
            except JournalFailed as failure:
                for effect in ready:
                    self._adding -= 1
                    self._receive(self._failed(effect, OutcomeKind.REFUSED, failure.code, "not sent: its record is not on disk"))
                self._journal_failed(failure)
                continue
            for effect in ready:
                self._spawn(self._perform(effect))

    def _journal_failed(self, failure: JournalFailed) -> None:
        """No record, no risk: freeze, and keep cancelling without a journal."""
        desk = self.core.desk
        if self._running and desk is not None and 0 not in frozen_scopes(desk):
            self._feed(Freeze(self.clock.now_ns(), "", Trigger.JOURNAL, f"{failure.code}: {failure}"[:500], "haltcore"))

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _until(self, answer: Callable[[], Any]) -> Any:
        """The first true value of ``answer``, looked at after every record."""
        value = answer()
        if value:
            return value
        if not self._running:
            raise self._broken or RunnerStopped("stopped", _UNREPORTED)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiters.append((answer, future))
        return await future

    def _wake(self) -> None:
        if not self._waiters:
            return
        still = []
        for answer, future in self._waiters:
            if future.done():
                continue
            value = answer()
            if value:
                future.set_result(value)
            else:
                still.append((answer, future))
        self._waiters = still

    def _fail_waiters(self, error: BaseException) -> None:
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(error)

    def _command(self, event: Event) -> tuple[Effect, ...]:
        if not self._running:
            raise self._broken or RunnerStopped("stopped", _UNREPORTED)
        effects = self._feed(event)
        for effect in effects:
            if isinstance(effect, Denied):
                raise OrderDenied(effect.code, effect.reason)
            if isinstance(effect, Rejected):
                raise CommandRejected(effect.code, effect.reason)
        return effects

    def status(self) -> Status:
        """One screen about the runner."""
        desk, journal = self.core.desk, self._journal
        modes = {}
        if desk is not None:
            scopes = sorted(desk.controls.items())
            modes = {scope_symbol(desk, key): control.mode for key, control in scopes if control.mode is not Mode.ACTIVE}
        unknown = sum(book.unknown_buy + book.unknown_sell for book in self.core.books.values())
        return Status(
            modes, len(self.core.orders), self._adding, unknown, self.core.seq, str(self._journal_path or ""),
            str(journal.failed) if journal is not None and journal.failed is not None else "",
        )  # fmt: skip

    def proven(self, symbol: str = "") -> bool:
        """Whether the scope (the account, by default) is frozen and proven empty."""
        return self.status().modes.get(symbol) is Mode.FROZEN


class _NoStore:
    """One process, no store: nothing is asked of it, and if something were, it would certainly not be applied."""

    serves: Sequence[type[Effect]] = tuple(kind for kind in EFFECT_CLASSES if kind.part is Part.STORE)

    def __init__(self, now_ns: NowNs) -> None:
        self._now_ns = now_ns

    async def perform(self, effect: Effect) -> Sequence[Event]:
        return (failed(effect, self._now_ns(), OutcomeKind.UNAVAILABLE, "no_store"),)


class _Timers:
    """Stands in the routing table for the timers, which the runner sets itself."""

    serves: Sequence[type[Effect]] = (SetTimer,)

    async def perform(self, effect: Effect) -> Sequence[Event]:
        raise AssertionError(f"{effect} is set by the runner")
