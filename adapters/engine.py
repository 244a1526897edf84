"""The engine of the runner: it brings events to the core, writes them down, and carries the effects out.

Its ten duties and where they are done:

== ==================================================================== ==============================
1  one event at a time, in one total order                              ``_feed``
2  stamp it, step, append one record                                    ``_feed``
3  durable before any effect that adds risk                             ``durability.Durability``
4  effects run concurrently, reducing ones first                        ``_dispatch``
5  every effect gets exactly one outcome, a time-out included           ``hands.Hands``
6  a performer that raises is an outcome, never a crash                 ``hands.Hands``
7  on start: verify, replay, recover, then accept commands              ``start``
8  on a full disk or journal error: freeze, keep cancelling             ``_journal_failed``
9  back-pressure is an answer                                           ``runner.submit``
10 stop is freeze or hand-over, never silence                           ``stop``
== ==================================================================== ==============================

Order of things when a record is made: its bytes go to the journal's buffer, effects that reduce risk or only ask start at once, and
effects that add risk are held until the disk has confirmed the record (``durability.py``). A held effect is refused the moment a freeze
forbids it; when it leaves, and when it leaves the venue adapter, it is checked once more (``_may_send``).

The runner touches the world only through the ports of ``ports.py``; the simulation drives this very class.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..effects import Effect, Mode, ModeChanged, Part, Performer, Rejected, Risk, SetTimer, Trigger, route
from ..fsm.config import Config, ConfigRefused
from ..fsm.core import ACCOUNT, EMPTY, VENUE, Control, Core, frozen_scopes, scope_key
from ..fsm.events import (
    ClockReading,
    Event,
    Freeze,
    InstrumentDefined,
    OperatorRefused,
    Restarted,
    Started,
    Stopping,
    StoreHealth,
)
from ..fsm.freeze import may_send, said
from ..fsm.instrument import Instrument
from ..fsm.invariants import broken
from ..fsm.step import step
from .answers import CommandRejected, RunnerStopped, StoppedUnproven
from .arguments import defined
from .arguments import scope as to_scope
from .clock import ClockWatch, WallClock
from .disk import Disk, RealDisk
from .durability import Durability
from .hands import Hands, NoStore, TimersApart
from .journal import Journal, JournalFailed, exists, unborn
from .listening import Listening, Observer
from .metrics import Metrics
from .people import People
from .ports import REPORTED, Clock, Store, Venue
from .texts import unwritable, writable
from .waiters import Waiters

_LOG = logging.getLogger("haltcore")
_START_ORDER = {Risk.REDUCES_RISK: 0, Risk.NEUTRAL: 1, Risk.ADDS_RISK: 2}


class Engine:
    """Runs one session of the core; ``operations.Operations`` adds what operators say to it, ``runner.Runner`` what a bot says.

    ``journal`` is a path; an existing log of the same session is continued, and its open orders are taken over. ``None`` keeps no
    log, which is for experiments: then nothing survives the process. ``max_adding`` bounds how many adding effects may be under way
    (held or sent, without outcome); one more submit is denied with ``overloaded``. ``effect_timeout_s`` is the backstop behind the
    performers' own time-outs, and how long a disk may take to confirm. ``on_stop``: "freeze" proves the book empty before stopping,
    "hand_over" leaves the orders open. ``stop_timeout_s`` is how long a stop waits for that proof before it gives up and says what is left.
    ``who`` names this process in the log and towards the store, where it holds the lease: two processes must never have the same. By
    default it is drawn anew for each runner. ``instruments`` are the venue's terms for symbols, defined before anything else happens.
    ``control`` is where operators reach the runner: the path of a socket (``"run/mm1.sock"``), or a port of this machine
    (``"127.0.0.1:7300"``); see ``control.py``.
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
        stop_timeout_s: float = 60.0,
        who: str = "",
        instruments: Mapping[str, Instrument] | None = None,
        control: str | None = None,
    ) -> None:
        if config.store.configured != (store is not None):
            raise ConfigRefused(
                "store: the configuration and the runner disagree; pass `store=` exactly when `config.store.configured` is True"
            )
        if on_stop not in ("freeze", "hand_over"):
            raise ConfigRefused(f"on_stop: {on_stop!r}; expected 'freeze' or 'hand_over'")
        if max_adding < 1 or effect_timeout_s <= 0 or stop_timeout_s <= 0:
            raise ConfigRefused("max_adding, effect_timeout_s, stop_timeout_s: each must be above 0")
        self._instruments = defined(config, instruments or {})
        self._control_at = control
        self.core: Core = EMPTY
        self.config = config
        self.clock: Clock = clock or WallClock()
        self._ahead_ns = 0
        jump_ms = config.triggers.clock_jump_ms
        self._watch = ClockWatch(self.clock, self._read_clock, jump_ms) if jump_ms is not None else None
        self._venue, self._store = venue, store
        self._disk: Disk = disk or RealDisk()
        self._journal_path = Path(journal) if journal is not None else None
        if self._journal_path is not None and isinstance(self._disk, RealDisk):
            # Two names of one log would be two logs from the second segment on.
            self._journal_path = self._journal_path.resolve()
        metrics = metrics or Metrics(config.symbols)
        if isinstance(metrics, Metrics):
            metrics.watch(lambda: self.core)
        performers = [venue, store or NoStore(self._now_ns), metrics, people or People(), TimersApart()]
        self._hands = Hands(route(performers), effect_timeout_s, self._now_ns, self._receive, self._reported, self._may_send)
        self._durability = Durability(self._hands, self._may_send, self._journal_failed, effect_timeout_s)
        self._who = who or f"runner-{os.getpid()}-{secrets.token_hex(4)}"
        self._max_adding, self._timeout_s = max_adding, effect_timeout_s
        self._on_stop, self._stop_timeout_s = on_stop, stop_timeout_s
        self._inbox: deque[Event] = deque()
        #: What was said while the session starts, and the record that the first freeze becomes.
        self._early_freezes: list[Freeze] = []
        self._early_refusals: list[OperatorRefused] = []
        self._early_from = 0
        self._waiters = Waiters()
        self._listening = Listening(observer)
        self._stop_task: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._busy = self._stopping = self._sound = False
        self._started = self._connected = self._running = self._closed = False
        self._broken: BaseException | None = None
        self._told: JournalFailed | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open or continue the journal, recover, read what the account holds; return when commands are accepted.

        Raises ConfigRefused, and what opening the journal raises: a log that is broken, of another session, or locked by another
        process. It waits for the venue's answers for as long as they take; whoever cancels it leaves nothing running.
        """
        if self._started:
            raise CommandRejected("already_started", "a Runner runs once; to go on, make a new one with the same journal")
        self._started = True
        self._loop = asyncio.get_running_loop()
        try:
            async with self._opening:
                if self._journal_path is not None:
                    await self._open_journal(str(self._journal_path))
                self._connect()
            await self._until(self._accepts_commands)
        except BaseException:
            with contextlib.suppress(JournalFailed):
                await self._close()
            raise

    def _accepts_commands(self) -> bool:
        """Stock is taken, and the store, if there is one, has said what is frozen and what it is, or that it does not answer."""
        desk = self.core.desk
        if desk is None or not desk.opened or desk.stock is not None:
            return False
        store = desk.store
        return not desk.config.store.configured or store.health is not StoreHealth.OK or (store.known and store.check is None)

    def _connect(self) -> None:
        """Begin, or begin again; what was said meanwhile, and what a port reports while it connects, comes after that record."""
        if self.core.desk is not None:
            # Stamped by the clock alone, which may be behind the log: the core has to know.
            self._inbox.append(Restarted(self.clock.now_ns(), self.config, self._who))
        else:
            self._inbox.append(Started(self._now_ns(), self.config))
        self._early_from = self.core.seq + 2
        self._inbox.extend(attrs.evolve(freeze, at_ns=self._now_ns()) for freeze in self._early_freezes)
        self._inbox.extend(attrs.evolve(refusal, at_ns=self._now_ns()) for refusal in self._early_refusals)
        self._running = self._connected = self._busy = True
        self._venue.connect(self._reported, self._now_ns, self._may_send)
        if self._store is not None:
            self._store.connect(self._now_ns, self._who, self.config.session)
        self._must(self._work())
        assert self.core.desk is not None
        for symbol, instrument in self._instruments.items():
            if self.core.desk.instruments.get(self.core.desk.index[symbol]) != instrument:
                self._must(self._feed(InstrumentDefined(self._now_ns(), symbol, instrument)))
        if self._watch is not None:
            self._watch.look()

    @property
    def _starting(self) -> bool:
        """The log is being verified and replayed: there is no session yet that could be told anything."""
        return self._started and not self._connected and not self._closed

    async def _early_freeze(self, event: Freeze) -> int:
        """Freeze as soon as there is a session, before anything else; the number of the record. One is kept for each scope.

        Raises RunnerStopped when the start fails.
        """
        scopes = [kept.scope for kept in self._early_freezes]
        if event.scope not in scopes:
            self._early_freezes.append(event)
            scopes.append(event.scope)
        await self._waiters.until(lambda: self._connected)
        return self._early_from + scopes.index(event.scope)

    def _must(self, effects: tuple[Effect, ...] | None) -> None:
        """What a start cannot do without."""
        if effects is None:
            raise self._stopped()
        for effect in effects:
            if isinstance(effect, Rejected):
                raise ConfigRefused(f"{effect.code}: {effect.reason}")

    def _read_clock(self, offset_ns: int) -> None:
        self._receive(ClockReading(self._now_ns(), offset_ns))

    def _now_ns(self) -> int:
        """The session's time: the clock's, but never before the end of the log that is continued."""
        return self.clock.now_ns() + self._ahead_ns

    async def _open_journal(self, path: str) -> None:
        """A new log, or the continuation of the one that is there: then its session tag is ours, since its orders are."""
        if not exists(path, self._disk) or unborn(path, self._disk):
            self._durability.journal = await Journal.create(path, self.config, self._disk)
            return
        self._durability.journal, verdict = await Journal.open(path, self._disk)
        self.core = verdict.core
        # The wall clock may have been set back since; the session's time goes on from where the log ends.
        self._ahead_ns = max(0, self.core.now_ns - self.clock.now_ns())
        if self.core.desk is not None:
            self.config = attrs.evolve(self.config, session=self.core.desk.config.session)

    async def stop(self) -> None:
        """Place nothing more; freeze and prove the book empty, or hand the orders over; seal the journal.

        Raises StoppedUnproven, when all is closed, if the proof did not come within ``stop_timeout_s``, and JournalFailed if the log's
        end is not on disk. Called twice, both wait for the same stop; a cancelled call does not interrupt it.
        """
        if not self._started:
            return
        if self._stop_task is None:
            self._sound = self._durability.journal is not None and self._durability.failed is None
            self._stop_task = self._loop.create_task(self._stop())
        await asyncio.shield(self._stop_task)

    async def _stop(self) -> None:
        unproven = ""
        async with self._opening:
            pass  # a start under way gets as far as having something to stop
        if self._running:
            self._feed(Stopping(self._now_ns(), self._on_stop == "freeze", self._who))
            self._stopping = True
            self._durability.recheck()
        if not self._closed and self._on_stop == "freeze":
            unproven = await self._prove()
        await self._drain()
        try:
            await self._close()
        finally:
            if unproven:
                raise StoppedUnproven("unproven", unproven)

    async def _prove(self) -> str:
        """Wait for the proof; "", or why there is none and what is left."""
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await self._until(self.proven)
        except TimeoutError:
            why = f"no proof within {self._stop_timeout_s:g} s"
        except RunnerStopped as stopped:
            why = stopped.reason
        else:
            return ""
        left = f"{len(self.core.orders)} order(s) of ours may be open at the venue"
        return f"{why}; {left}. Look there; started again with the same journal, haltcore goes on cancelling"

    async def _drain(self) -> None:
        """Let what is under way come to its outcome; no timer begins anything new."""
        self._hands.no_more_timers()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                while self._hands.tasks or self._durability.busy:
                    await asyncio.sleep(0.001)

    async def _close(self) -> None:
        """End everything, each part within the effects' time-out. Raises JournalFailed."""
        if self._closed:
            return
        self._closed, self._running = True, False
        if work := self._let_go():
            await asyncio.wait(work, timeout=self._timeout_s)
        self._waiters.fail(lambda: self._stopped(waited=True))
        for port in (self._venue, self._store) if self._connected else ():
            try:
                async with asyncio.timeout(self._timeout_s):
                    await (port.close() if port is not None else asyncio.sleep(0))
            except Exception:
                _LOG.exception("%s could not be closed", type(port).__name__)
        failure = self._durability.failed
        await self._durability.close()
        if self._sound and failure is not None:
            raise failure  # It failed while the runner stopped: nobody has been told yet.

    def _let_go(self) -> list["asyncio.Task[None]"]:
        """Cancel every timer and task; the tasks."""
        work = [*self._hands.tasks, *self._durability.let_go()]
        self._hands.no_more_timers()
        if self._watch is not None:
            self._watch.stop()
        for task in work:
            task.cancel()
        return work

    def abandon(self) -> None:
        """Let go of everything at once and say nothing, as a process that is killed does. For simulation and tests."""
        self._running = False
        self._let_go()
        self._waiters.forget()

    # --- the one path of an event -----------------------------------------------------------------------------------

    def _reported(self, event: Event) -> None:
        """A report from outside. Answers to effects come from ``perform`` alone; one that is emitted would be a second one. Commands come
        from the bot and its operators alone; an adapter that reports one is broken, or somebody else speaks through it."""
        if isinstance(event, REPORTED):
            self._receive(event)
        elif self._running and not hasattr(event, "effect"):
            self._refuse(event, "no adapter may report that; see ports.REPORTED")

    def _receive(self, event: Event) -> None:
        """What the log cannot hold is refused: a report is missing, and the adapter that made it is broken."""
        if not self._running:
            return
        event = writable(event)
        if why := unwritable(event):
            self._refuse(event, why)
        else:
            self._feed(event)

    def _refuse(self, event: Event, why: str) -> None:
        """Not taken, and frozen for it."""
        self._bug(event, f"it was not taken: {why}", None)
        if self._inbox and not self._busy:
            self._work()

    def _feed(self, event: Event) -> tuple[Effect, ...] | None:
        """Step over an event and everything that it brings about at once; the effects of this event's own record.

        None when there is no such record: haltcore failed over the event, or the event waits behind the one that is being stepped over.
        """
        self._inbox.append(event)
        return None if self._busy else self._work()

    def _work(self) -> tuple[Effect, ...] | None:
        self._busy = True
        try:
            first = self._record(self._inbox.popleft())
            while self._inbox:
                self._record(self._inbox.popleft())
        finally:
            self._busy = False
        self._waiters.wake()
        return first

    def _record(self, event: Event) -> tuple[Effect, ...] | None:
        if self._broken is not None:
            return None
        before, now_ns = self.core, self._now_ns()
        try:
            if event.at_ns > now_ns:
                # A stamp from the future would stop the core's time until then.
                event = attrs.evolve(event, at_ns=now_ns)
            after, effects = step(before, event)
            faults = broken(before, event, after, effects)
        except Exception as bug:
            # Totality is a promise of ours; when it is broken, the only safe state is frozen.
            self._bug(event, f"step raised {type(bug).__name__}: {bug}", bug)
            return None
        self.core = after
        self._durability.append(event, effects, after)
        self._listening.tell(event, after, effects)
        self._dispatch(effects)
        if any(isinstance(effect, ModeChanged) for effect in effects):
            self._durability.recheck()
        if faults:
            self._bug(event, "; ".join(faults), None)
        return effects

    def _bug(self, event: Event, text: str, bug: BaseException | None) -> None:
        """An own bug, or an adapter's: freeze, until a person has lifted it; a freeze that would change nothing is not said again. If even
        the freeze fails, whoever waits is told, and nothing more is sent."""
        _LOG.critical("haltcore failed over %s after record %d: %s", type(event).__name__, self.core.seq, text)
        if isinstance(event, Freeze) and event.trigger is Trigger.INVARIANT:
            if bug is None:
                return  # It froze all the same.
            self._broken = bug
            self._running = False
            self._let_go()
            self._waiters.fail(lambda: self._stopped(waited=True))
        elif self.core.desk is not None and not said(self.core.desk, ACCOUNT, Trigger.INVARIANT):
            self._inbox.append(Freeze(self._now_ns(), "", Trigger.INVARIANT, text[:500], "haltcore"))

    # --- carrying out -----------------------------------------------------------------------------------------------

    def _dispatch(self, effects: Sequence[Effect]) -> None:
        said = [effect for effect in effects if effect.part is Part.PEOPLE]
        for effect in sorted(effects, key=lambda e: _START_ORDER[e.risk]):
            if effect.part is Part.ANSWER or effect.part is Part.PEOPLE:
                continue
            if isinstance(effect, SetTimer):
                self._hands.set_timer(effect)
                continue
            self._hands.take(effect)
            if effect.risk is Risk.ADDS_RISK:
                self._durability.hold(effect)
            else:
                self._hands.begin(effect)
        if said:
            self._hands.tell(said)

    def _may_send(self, effect: Effect) -> str:
        """The last check, at the instant before bytes leave."""
        if not self._running:
            return "stopped_at_send"
        if effect.risk is Risk.ADDS_RISK and self._durability.failed is not None:
            return "journal_failed"
        if effect.risk is Risk.ADDS_RISK and self._stopping:
            return may_send(self.core, effect, self._now_ns()) or "stopping_at_send"
        return may_send(self.core, effect, self._now_ns())

    def _journal_failed(self, failure: JournalFailed) -> None:
        """No record, no risk: freeze, and keep cancelling without a journal."""
        desk = self.core.desk
        free = self._running and desk is not None and ACCOUNT not in frozen_scopes(desk)
        if failure is not self._told and not free:
            # No alert says so: it finds the account frozen.
            _LOG.critical("the journal failed: %s", failure)
        self._told = failure
        if self._running and desk is not None and not said(desk, ACCOUNT, Trigger.JOURNAL):
            self._feed(Freeze(self._now_ns(), "", Trigger.JOURNAL, f"{failure.code}: {failure}"[:500], "haltcore"))

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _until(self, answer: Callable[[], Any]) -> Any:
        """The first true value of ``answer``, looked at after every record."""
        value = answer()
        if value:
            return value
        if not self._running:
            raise self._stopped()
        return await self._waiters.until(answer)

    def _stopped(self, waited: bool = False) -> RunnerStopped:
        """Why nothing is done. To whoever waited for what is under way: it is not known what came of it."""
        if self._broken is not None:
            stopped = RunnerStopped("broken", f"haltcore failed and has stopped itself ({type(self._broken).__name__}: {self._broken})")
            stopped.__cause__ = self._broken
        elif self._starting:
            stopped = RunnerStopped("starting", "the runner reads its log; only a freeze is kept until it has. Ask again when it is up")
        elif self._started:
            stopped = RunnerStopped("stopped", "the runner has stopped; to go on, make a new one with the same journal")
        else:
            stopped = RunnerStopped("not_started", "the runner does not run; start it with `async with Runner(...)`")
        stopped.executed = None if waited else False
        return stopped

    def proven(self, symbol: str = "", *, strategy: str = "", venue: bool = False) -> bool:
        """Whether the scope is frozen and proven empty. The account, by default: account and venue cover the same orders, so that the
        proof of either is one."""
        return any(control.mode is Mode.FROZEN for control in self._covering(to_scope(symbol, strategy, venue)))

    def _covering(self, scope: str) -> list[Control]:
        """The controls whose freeze covers the scope whole."""
        desk = self.core.desk
        key = scope_key(desk, scope) if desk is not None else None
        if desk is None or key is None:
            return []
        return [desk.controls[k] for k in ((ACCOUNT, VENUE) if key == ACCOUNT else (key,)) if k in desk.controls]
