"""What operators say to a running session: freeze it, lift the freeze, bound it otherwise, and see how it stands.

The bot says the same through these methods as a person does through the control socket (``control.py``). Each command is one record of the
log, refused or not, and each method that changes something gives the number of its record.

Numbers are exact: str, int or Decimal, never float. What is refused raises CommandRejected (the core said no, and the log says so too) or
ValueRefused (an argument that could not become a command; nothing was recorded).
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

from ..effects import BreakerMode, ClearFreeze, Denied, Effect, Mode, Rejected, SweepReport, Trigger
from ..fsm import queries
from ..fsm.breaker import by_now, standing
from ..fsm.breaker_copy import to_put
from ..fsm.config import STRATEGY_SCOPE, VENUE_SCOPE
from ..fsm.core import JOB, Core, Desk, FreezeRecord, Sweep, in_words, scope_key, scope_text
from ..fsm.core import Control as ScopeControl
from ..fsm.events import (
    ChangeLimits,
    EndOverride,
    Event,
    Freeze,
    OperatorRefused,
    OverrideBreaker,
    OverrideLimits,
    Reenable,
    ReplaceOrder,
    Restrict,
    SetReduceOnly,
    StoreHealth,
    SubmitOrder,
    Unfreeze,
    VerifyOverride,
)
from ..fsm.freeze import said
from ..fsm.limits import NO_LIMITS, LimitRule
from ..fsm.triggers import CLASS_OF
from ..fsm.turn import unknown_orders
from .answers import ALREADY_PROVEN, BreakerStatus, CommandRejected, LimitsNow, OrderDenied, Proof, ScopeStatus, Status, SweepProgress
from .arguments import choice, flag, text, whole, words
from .arguments import figures as to_figures
from .arguments import scope as to_scope
from .control import Control
from .engine import Engine

_LOG = logging.getLogger("haltcore")
#: So many books are looked through in no time.
FEW: Final = 50
_FROZEN = (Mode.FREEZING, Mode.FROZEN)


@frozen
class Done:
    """A command that was fed: the number of its record, and what the core answered."""

    record: int
    effects: tuple[Effect, ...]


class Operations(Engine):
    """See the module's essay. The arguments are those of :class:`Engine`."""

    _control: Control | None = None

    async def start(self) -> None:
        """As :meth:`Engine.start`; operators are heard from the beginning to the end of the session.

        Raises ConfigRefused also where the control socket cannot be opened.
        """
        if self._control_at is not None and self._control is None and not self._started:
            self._control = Control(self, self._control_at)
            try:
                await self._control.open()
            except BaseException:
                self._control = None
                raise
        await super().start()

    async def _close(self) -> None:
        if self._control is not None:
            self._control.close()
        await super()._close()

    def abandon(self) -> None:
        """As :meth:`Engine.abandon`."""
        if self._control is not None:
            self._control.abandon()
        super().abandon()

    @property
    def control_address(self) -> str:
        """Where operators reach the runner while it runs; empty if nowhere."""
        return self._control.address if self._control is not None else ""

    # --- freeze -------------------------------------------------------------------------------------------------------

    async def freeze(self, reason: str, by: str, *, symbol: str = "", strategy: str = "", venue: bool = False) -> Proof:
        """Freeze the account, or one symbol, strategy or the venue; return when that is proven empty, or at the deadline with what remains.

        Only the scope can be wrong: a freeze is never refused for its words, they are made to fit.
        """
        await self.begin_freeze(reason, by, symbol=symbol, strategy=strategy, venue=venue)
        return await self.proof(symbol, strategy=strategy, venue=venue)

    async def begin_freeze(self, reason: str, by: str, *, symbol: str = "", strategy: str = "", venue: bool = False) -> int:
        """Freeze, and do not wait for the proof; the number of the record."""
        event = Freeze(self._now_ns(), to_scope(symbol, strategy, venue), Trigger.MANUAL, words(reason), words(by))
        if self._starting:
            self.mode(event.scope)  # known, or refused
            return await self._early_freeze(event)
        return (await self._command(event)).record

    def frozen_by_word(self, scope: str) -> int:
        """The record by which a person has frozen this scope, if one has and it holds: to say it again changes nothing. Else 0.

        Raises CommandRejected for a scope that is not configured.
        """
        if self.mode(scope) not in _FROZEN or not self._running or (desk := self.core.desk) is None:
            return 0
        key = scope_key(desk, scope)
        return said(desk, key, Trigger.MANUAL) if key is not None else 0

    async def proof(self, symbol: str = "", *, strategy: str = "", venue: bool = False) -> Proof:
        """The running sweep's result: its proof, or how it stands at its deadline; after the deadline, its proof. At once if the scope is
        proven already. Account and venue cover the same orders: without a scope, whichever of them is frozen counts.

        Raises CommandRejected when the scope is not frozen, or is unfrozen meanwhile.
        """
        scope = to_scope(symbol, strategy, venue)
        name = scope or "the account"
        if self.proven(symbol, strategy=strategy, venue=venue):
            return ALREADY_PROVEN
        if not self._frozen(scope):
            raise CommandRejected("not_frozen", f"{name} is not frozen, so nothing is being proven")
        reports: list[SweepReport] = []
        self._listening.reports.append(reports)
        try:
            await self._until(lambda: reports or not self._frozen(scope))
        finally:
            self._listening.reports[:] = [waiting for waiting in self._listening.reports if waiting is not reports]
        if not reports:
            raise CommandRejected("unfrozen", f"{name} was unfrozen before the proof")
        return Proof.of(reports[0])

    async def unfreeze(
        self, by: str, why: str, *, symbol: str = "", strategy: str = "", venue: bool = False, force: bool = False
    ) -> int:
        """Lift a freeze. Raises CommandRejected, with the reason, while it must not be lifted; of a scope that is not frozen it says which
        ones are. ``peer_frozen``: other processes stand behind it, and from now on this one only follows them: lift it there. Who
        followed this one has to be lifted too, each where it runs.

        ``force``: also while the proof is missing, and for every process; those that still live and stand behind it freeze it again.
        """
        scope = to_scope(symbol, strategy, venue)
        event = Unfreeze(self._now_ns(), scope, text(by, "by"), text(why, "why"), flag(force, "force"))
        if self._running and self._durability.failed is not None:
            raise CommandRejected("journal_failed", f"without a journal nothing is placed; stop and start anew. {self._durability.failed}")
        try:
            done = await self._command(event)
        except CommandRejected as rejected:
            raise self._frozen_elsewhere(rejected) from None
        for clear in done.effects:
            if isinstance(clear, ClearFreeze):
                await self._cleared(clear, scope)
        return done.record

    async def _cleared(self, clear: ClearFreeze, scope: str) -> None:
        """Wait for the store's word. Raises CommandRejected if the scope stays frozen."""
        self._listening.refusals[clear.id] = "", ""
        try:
            await self._until(lambda: self.mode(scope) not in _FROZEN or not self._unfreezing(scope))
            code, reason = self._listening.refusals[clear.id]
        finally:
            del self._listening.refusals[clear.id]
        if self.mode(scope) in _FROZEN:
            raise CommandRejected(code or "unfreeze_refused", reason or "it was frozen again before the store had answered")

    async def reduce_only(
        self, on: bool, by: str, why: str, *, symbol: str = "", strategy: str = "", venue: bool = False
    ) -> int:
        """Allow only orders that reduce positions, or end that state."""
        scope = to_scope(symbol, strategy, venue)
        return (await self._command(SetReduceOnly(self._now_ns(), scope, flag(on, "on"), text(by, "by"), text(why, "why")))).record

    def mode(self, scope: str) -> Mode:
        """The mode of one scope, given as a text (empty, ``venue``, ``strategy:NAME`` or a symbol); what lies over it is not looked at.

        Raises CommandRejected for a scope that is not configured.
        """
        config = self.config
        if scope not in ("", VENUE_SCOPE, *config.symbols, *(STRATEGY_SCOPE + name for name in config.strategies)):
            raise CommandRejected("unknown_scope", f"{scope!r} is not configured; a strategy is named \"{STRATEGY_SCOPE}NAME\"")
        return next((s.mode for s in self._scopes() if s.scope == scope), Mode.ACTIVE)

    def _frozen_elsewhere(self, rejected: CommandRejected) -> CommandRejected:
        """An unfreeze of what is not frozen, and what is."""
        frozen = tuple(s.scope for s in self._scopes() if s.mode in _FROZEN)
        if rejected.code != "not_frozen" or not frozen:
            return rejected
        told = ", ".join(f"{in_words(scope)} is frozen: {_argument(scope)}" for scope in frozen)
        better = CommandRejected(rejected.code, f"{rejected.reason}; {told}")
        better.record, better.frozen = rejected.record, frozen
        return better

    def _frozen(self, scope: str) -> bool:
        return any(control.mode in _FROZEN for control in self._covering(scope))

    def _unfreezing(self, scope: str) -> bool:
        desk = self.core.desk
        assert desk is not None
        return any(scope_text(desk, key) == scope and control.unfreeze is not None for key, control in desk.controls.items())

    # --- limits -------------------------------------------------------------------------------------------------------

    async def change_limits(
        self, figures: Mapping[str, object], by: str, why: str, *, symbol: str = "", strategy: str = "", band: str = "",
        from_minute: int = 0, to_minute: int = 0,
    ) -> int | None:  # fmt: skip
        """Change figures of the rule with these conditions (none: the account's), by name; its others stay. None takes one away. The number
        of the record; None if the figures are these already.

        ``await bot.change_limits({"max_order_value": "500", "max_open_orders": None}, "ops", "thin", symbol="BTCUSDT")``

        A figure may be set below what is used already: then what adds is denied, and the program's log says by how much it is exceeded (as
        does :meth:`exceeded`). A loss, drawdown or missing feed beyond its new figure freezes at once.
        """
        wanted = LimitRule(
            to_figures(NO_LIMITS, figures), text(symbol, "symbol"), text(strategy, "strategy"), text(band, "band"),
            whole(from_minute, "from_minute"), whole(to_minute, "to_minute"),
        )  # fmt: skip
        by, why = text(by, "by"), text(why, "why")
        await self._turn()
        rules = self.core.desk.rules if self.core.desk is not None else ()
        rule = next((rule for rule in rules if rule.conditions == wanted.conditions), None)
        limits = to_figures(rule.limits if rule is not None else NO_LIMITS, figures)
        changed = LimitRule(limits, *wanted.conditions)
        try:
            record = (await self._command(ChangeLimits(self._now_ns(), changed, by, why))).record
        except CommandRejected as rejected:
            if rejected.code == "no_change":
                return None
            raise
        for use in await self.exceeded(changed.label, figures):
            _LOG.warning("%s of %s is already exceeded: %s", use.figure, in_words(use.subject), use)
        return record

    async def override_limits(
        self, figures: Mapping[str, object], for_ms: int, by: str, why: str, *, symbol: str = "", strategy: str = ""
    ) -> int:
        """Let figures hold for a while instead of those of the rules for this symbol and strategy; other limits stay in force. The number
        by which ``verify_override`` and ``end_override`` name it.

        Where the configuration demands two persons it has no force until another one has verified it.
        """
        event = OverrideLimits(
            self._now_ns(), text(symbol, "symbol"), text(strategy, "strategy"), to_figures(NO_LIMITS, figures), whole(for_ms, "for_ms"),
            text(by, "by"), text(why, "why"),
        )  # fmt: skip
        return (await self._command(event)).record

    async def verify_override(self, override: int, by: str) -> int:
        """A second person agrees to an override."""
        return (await self._command(VerifyOverride(self._now_ns(), whole(override, "override"), text(by, "by")))).record

    async def end_override(self, override: int, by: str, why: str) -> int:
        """End an override before its time."""
        return (await self._command(EndOverride(self._now_ns(), whole(override, "override"), text(by, "by"), text(why, "why")))).record

    async def restrict(self, symbol: str, on: bool, by: str, why: str) -> int:
        """Put a symbol on the restricted list, where only reducing orders are allowed, or take it off."""
        event = Restrict(self._now_ns(), text(symbol, "symbol"), flag(on, "on"), text(by, "by"), text(why, "why"))
        return (await self._command(event)).record

    async def reenable(self, by: str, why: str, *, strategy: str = "") -> int:
        """Let a strategy, or the account, trade again that the execution throttle has switched off."""
        return (await self._command(Reenable(self._now_ns(), text(strategy, "strategy"), text(by, "by"), text(why, "why")))).record

    async def override_breaker(self, to: BreakerMode | str, by: str, why: str, *, for_ms: int = 0, job: str = JOB) -> int:
        """Force the circuit breaker of a kind of job: ``forced_open`` lets nothing through, ``forced_closed`` everything, for so long (0:
        until somebody says otherwise); ``closed`` ends that, or an opening, and it begins anew. With a store it holds for every process.
        """
        mode = choice(BreakerMode, to, "to")
        event = OverrideBreaker(self._now_ns(), text(job, "job"), mode, whole(for_ms, "for_ms"), text(by, "by"), text(why, "why"))
        return (await self._command(event)).record

    def note_refusal(self, command: str, by: str, reason: str) -> None:
        """Record that somebody asked for something in a way that never became a command; if the runner starts, when it is up."""
        event = OperatorRefused(self._now_ns(), command, by, reason)
        if self._starting:
            self._early_refusals.append(event)
        else:
            self._receive(event)

    # --- how it stands ------------------------------------------------------------------------------------------------

    def limits(self) -> LimitsNow:
        """The rules and overrides as they stand now."""
        desk = self.core.desk
        if desk is None:
            return LimitsNow((LimitRule(self.config.limits), *self.config.rules), (), self.config.restricted, ())
        return LimitsNow(
            desk.rules, desk.overrides, tuple(desk.config.symbols[sym] for sym in sorted(desk.restricted)),
            tuple(desk.config.strategies[owner - 1] if owner else "" for owner in sorted(desk.throttled)),
        )  # fmt: skip

    def status(self) -> Status:
        """One screen about the runner."""
        desk, journal, scopes = self.core.desk, self._durability.journal, self._scopes()
        failure = self._durability.failed
        return Status(
            modes={s.scope: s.mode for s in scopes},
            open_orders=len(self.core.orders),
            in_flight=self._hands.adding,
            unknown=unknown_orders(self.core.books),
            record=self.core.seq,
            journal=str(self._journal_path or ""),
            journal_failed=str(failure) if failure is not None and failure.code != "closed" else "",
            journal_pending=journal is not None and failure is None and journal.pending,
            session=self.config.session,
            now_ns=self._now_ns(),
            running=self._running,
            ready=self._running and self._accepts_commands(),
            stopping=self._stopping or (desk is not None and desk.stopping),
            link_up=desk is not None and desk.link.up,
            store=_store(desk),
            scopes=scopes,
            sweep=self._progress(desk.sweep) if desk is not None and desk.sweep is not None else None,
            overrides=desk.overrides if desk is not None else (),
            breaker=_breaker(self.core, self._now_ns()),
            store_code=desk.store.code if desk is not None else "",
            store_since_ns=desk.store.since_ns if desk is not None else 0,
            store_faults=desk.store.faults if desk is not None else (),
            refused=_refused(self.core),
            bands={desk.config.symbols[sym]: band for sym, band in sorted(desk.bands.items()) if band} if desk is not None else {},
        )

    def _scopes(self) -> tuple[ScopeStatus, ...]:
        """Those that are not active, account first."""
        desk = self.core.desk
        if desk is None:
            return ()
        return tuple(self._scope(desk, scope_text(desk, key), c) for key, c in sorted(desk.controls.items()) if c.mode is not Mode.ACTIVE)

    def _scope(self, desk: Desk, scope: str, c: ScopeControl) -> ScopeStatus:
        triggers: tuple[FreezeRecord, ...] = ()
        lifts_itself = False
        if c.mode in _FROZEN:
            triggers = tuple(record for record in desk.freezes if record.record >= c.record and record.scope == scope)
            lifts_itself = c.transient and any(policy.kind is CLASS_OF[c.trigger] for policy in desk.config.triggers.cool_downs)
        lifts_in_s = self._hands.due_in_s(c.cool_down) if lifts_itself and self._running else None
        return ScopeStatus(scope, c.mode, c.since_ns, c.trigger, c.reason, c.by, triggers, lifts_itself, lifts_in_s)

    def _progress(self, sweep: Sweep) -> SweepProgress:
        return SweepProgress(
            sweep.started_ns, sweep.phase.value, sweep.rounds, sweep.cancelled, sweep.failed, sweep.left, sweep.streak,
            self.config.sweep.empty_snapshots,
        )  # fmt: skip

    def utilization(self) -> tuple[queries.Utilization, ...]:
        """How much of each limit is used."""
        return queries.utilization(self.core)

    async def utilization_aside(self) -> tuple[queries.Utilization, ...]:
        """The same. With many symbols that takes a while, in a thread: the state is a value, and may be read there."""
        small = len(self.config.symbols) * (len(self.config.strategies) + 1) <= FEW
        return self.utilization() if small else await asyncio.to_thread(queries.utilization, self.core)

    async def exceeded(self, source: str, figures: Iterable[str]) -> tuple[queries.Utilization, ...]:
        """Which of these figures of a rule or override, named as in its label, are exceeded now."""
        names = tuple(figures)
        used = await self.utilization_aside()
        return tuple(use for use in used if use.source == source and use.figure in names and use.value > use.bound)

    # --- how it is done -----------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait until no step is under way: a task that was started eagerly runs inside of one."""
        while self._busy:
            await asyncio.sleep(0)
        if not self._running:
            raise self._stopped()

    async def _command(self, event: Event) -> Done:
        """Feed a command. Raises what the core answers to it."""
        await self._turn()
        record, effects = self.core.seq + 1, self._feed(event)
        if effects is None:
            if not self._running:
                raise self._stopped()
            denial = OrderDenied if isinstance(event, (SubmitOrder, ReplaceOrder)) else CommandRejected
            raise denial("internal_error", "haltcore failed over this command; the account is frozen, and the log of the program says why")
        for effect in effects:
            if isinstance(effect, Denied):
                raise OrderDenied(effect.code, effect.reason, codes=effect.codes)
            if isinstance(effect, Rejected):
                rejected = CommandRejected(effect.code, effect.reason)
                rejected.record = record
                raise rejected
        return Done(record, effects)


def _argument(scope: str) -> str:
    """How a method takes the scope."""
    if scope == VENUE_SCOPE:
        return "venue=True"
    name = scope.removeprefix(STRATEGY_SCOPE)
    return f'{"symbol" if name == scope else "strategy"}="{name}"' if scope else "no scope"


def _breaker(core: Core, now_ns: int) -> BreakerStatus | None:
    held, config = core.flow.breaker, core.desk.config if core.desk is not None else None
    if held is None or config is None or config.breaker is None:
        return None
    s, _ = by_now(held.copy.state, config.breaker, now_ns)
    return BreakerStatus(
        JOB, s.mode, s.since_ns, len(s.failures), len(s.probes), s.until_ns, s.by, s.why, standing(s, config.breaker, now_ns),
        config.store.configured and bool(to_put(held.copy)),
    )  # fmt: skip


def _store(desk: Desk | None) -> str:
    if desk is None or not desk.config.store.configured:
        return "none"
    if desk.store.health is not StoreHealth.OK:
        return "failing"
    return "unfit" if desk.store.faults else "ok" if desk.store.known else "unread"


def _refused(core: Core) -> str:
    found = queries.refusing(core)
    return f"{found.code}: {found.reason}" if found is not None else ""
