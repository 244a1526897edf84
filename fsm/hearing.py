"""What the other run of a counterfactual replay is told: what the log says, as far as that concerns it.

The assumptions stand in ``counterfactual.py``. An event of the log speaks of the recorded run's requests and orders; here it becomes one
that speaks of this run's, or nothing:

=============== ======================================================================================================
family          told to this run
=============== ======================================================================================================
commands,       as recorded; a start or restart with the changed configuration; of ChangeLimits only the figures that it
market, health  changed in the recorded run's rule, put into this run's
evidence        if it has the order, and has not ended it itself; quantities up to what its order has
Outcome         if the request has a like here. One that says "stopped by a freeze" where nothing is frozen: it went out
OrderQueried    if it waits for an answer about the order; else, as far as it says that something filled or ended, as evidence
OpenOrders      always, since rows are evidence; rows of orders that are not open here are left out
LatchAnswer     if the request has a like; rows that only the recorded run has set are left out
GuardAnswer     if the request has a like. A claim that "a freeze forbids" where nothing is frozen: it was granted
LeaseAnswer,    if the request, question or timer has a like
StoreChecked,
BreakerAnswer,
Positions,
TimerFired
=============== ======================================================================================================

Which of this run's effects is the *like* of a recorded one is found in ``other_run.py``.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from ..effects import ClaimGuard, Effect, EffectId, Mode, Place, Qty, Replace, order_key
from . import ideal
from .config import Config
from .core import EMPTY, Core, Desk, effective_mode
from .events import (
    EVIDENCE_CLASSES,
    BreakerAnswer,
    CancelRejected,
    ChangeLimits,
    Event,
    Evidence,
    FetchedOrders,
    Found,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LeaseAnswer,
    OpenOrders,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderQueried,
    OrderRejected,
    OrderReplaced,
    OrderRow,
    Outcome,
    OutcomeKind,
    Positions,
    ReplaceRejected,
    ReportStatus,
    Restarted,
    Started,
    StoreChecked,
    TimerFired,
    TradeBusted,
    TradeCorrected,
    Verb,
)
from .freeze import may_send
from .limit_faults import says_nothing
from .limits import NO_LIMITS, LimitRule, Limits, merged
from .operators import rerate
from .order import Order, is_done
from .thresholds import thresholds_of
from .turn import Turn
from .watch import tune

Change: TypeAlias = Callable[[Config], Config]
Told: TypeAlias = tuple[Event, ...]
#: A request that adds risk, of the recorded run and of this one.
Sent: TypeAlias = tuple[Place | Replace, Place | Replace]

#: An id that no effect has.
NOBODY: Final[EffectId] = (0, 0)
_FROZEN = (Mode.FREEZING, Mode.FROZEN)
#: Why a gateway of ours stops what was decided before a freeze (``freeze.may_send``).
_STOPPED = ("frozen_at_send", "stale_epoch")


class Hearing:
    """The two states, what one has and the other has not, and what an event says in view of that.

    ``core`` is this run's state, ``recorded`` the recorded one's, ``record`` the record under way. ``moved``: for effects of the recorded
    run whose like has another id here, that id, or None if there is no like. ``sent``: requests that add risk and wait for the log's
    answer, by the id here; ``claims`` likewise. ``gone``: orders that the ideal world has ended. ``spared``: orders that a freeze of the
    recorded run has cancelled, and none here. ``supposed``: orders whose fate the log cannot know, each with the record from which on.
    ``unset``: rows of the store (scope, trigger, reason, by) that only the recorded run has set.
    """

    def __init__(self, change: Change) -> None:
        self.core = self.recorded = EMPTY
        self.record = 0
        self.change = change
        self.moved: dict[EffectId, EffectId | None] = {}
        self.sent: dict[EffectId, Sent] = {}
        self.claims: dict[EffectId, tuple[ClaimGuard, ClaimGuard]] = {}
        self.gone: dict[int, None] = {}
        self.spared: dict[int, None] = {}
        self.supposed: dict[int, int] = {}
        self.unset: dict[tuple[str, str, str, str], None] = {}

    def suppose(self, key: int) -> None:
        """From here on the log cannot know what would have become of this order."""
        self.supposed.setdefault(key, self.record)

    def told(self, event: Event) -> Told:
        """What the event says to this run; the first stands for the record. Nothing if it says nothing."""
        if isinstance(event, EVIDENCE_CLASSES):
            return self._report(event)
        if isinstance(event, (Started, Restarted)):
            return (attrs.evolve(event, config=changed(event.config, self.change)),)
        teller = _TELLERS.get(type(event))
        return teller(self, event) if teller is not None else (event,)

    def _id(self, effect: EffectId) -> EffectId | None:
        """The id here of a recorded effect's like; None if it has none."""
        return self.moved.get(effect, effect)

    def _both(self, key: int) -> tuple[Order | None, Order | None]:
        """The order here, and in the recorded run."""
        return self.core.order(key), self.recorded.order(key)

    def _key(self, client_id: str) -> int:
        desk = self.recorded.desk
        return order_key(desk.config.session, client_id) if desk is not None else 0

    def _report(self, event: Evidence) -> Told:
        ours, theirs = self._both(self._key(event.client_id))
        if ours is None or theirs is None:
            return (event,) if ours is theirs else ()
        if isinstance(event, (TradeBusted, TradeCorrected)):
            unheard = event.trade_id not in ours.fills.trades
            return () if unheard and (ours.key in self.gone or event.trade_id in theirs.fills.trades) else (event,)
        if ours.key in self.gone or self._about_theirs(event, ours, theirs):
            return ()
        if isinstance(event, OrderCancelled) and self._is_spared(ours):
            return self._spare(ours, event)
        return (event,) if ours.qty == theirs.qty else self._fitted(event, ours)

    def _about_theirs(self, event: Evidence, ours: Order, theirs: Order) -> bool:
        """Whether it is the venue's reply to a request that this run has not made."""
        if isinstance(event, (OrderReplaced, ReplaceRejected)) and theirs.requests.replace is not None and ours.requests.replace is None:
            self.suppose(ours.key)
            return True
        return isinstance(event, CancelRejected) and theirs.requests.cancel is not None and ours.requests.cancel is None

    def _is_spared(self, ours: Order) -> bool:
        """Whether the order, reported as cancelled, was cancelled by a freeze that is none here."""
        r, s = ours.requests, ours.spec
        if ours.key in self.spared:
            return True
        if is_done(ours) or r.cancel is not None or r.cancel_wanted:
            return False
        here, there = (effective_mode(core.desk, s.sym, s.owner) for core in (self.core, self.recorded) if core.desk is not None)
        return there in _FROZEN and here not in _FROZEN

    def _spare(self, ours: Order, event: OrderCancelled) -> Told:
        """It is open here; only what was filled until then is news."""
        self.spared[ours.key] = None
        self.suppose(ours.key)
        row = attrs.evolve(ideal.row_of(ours), cum_qty=Qty(min(event.cum_qty, ours.qty)))
        return (_row_alone(event.at_ns, row),)

    def _fitted(self, event: Evidence, ours: Order) -> Told:
        """Quantities as far as the order here has them."""
        if isinstance(event, OrderFilled):
            last_qty = Qty(min(event.last_qty, ours.leaves_qty))
            return (attrs.evolve(event, last_qty=last_qty, cum_qty=Qty(0)),) if last_qty > 0 else ()
        if isinstance(event, (OrderCancelled, OrderExpired)):
            return (attrs.evolve(event, cum_qty=Qty(min(event.cum_qty, ours.qty))),)
        return (event,)

    def _outcome(self, event: Outcome) -> Told:
        effect = self._id(event.effect)
        if effect is None:
            return ()
        sent = self.sent.pop(effect, None)
        order = self.core.orders.get(event.order)
        stopped = sent is not None and event.code in _STOPPED and self._stops_only_there(sent, event.at_ns)
        if order is not None and stopped:
            self.suppose(order.key)
            more = ideal.live(order, event.at_ns) if event.verb is Verb.PLACE else ideal.replaced(order, event.at_ns)
            return (Outcome(event.at_ns, effect, event.verb, event.order, OutcomeKind.ACKNOWLEDGED), *more)
        return (attrs.evolve(event, effect=effect),)

    def _stops_only_there(self, sent: Sent | tuple[ClaimGuard, ClaimGuard], at_ns: int) -> bool:
        return bool(may_send(self.recorded, sent[0], at_ns)) and not may_send(self.core, sent[1], at_ns)

    def _queried(self, event: OrderQueried) -> Told:
        ours, theirs = self._both(event.order)
        if ours is None or theirs is None:
            return (event,) if ours is theirs else ()
        effect, result = self._id(event.effect), event.result
        alone = effect is None or (theirs.requests.query == event.effect and ours.requests.query != effect)
        if isinstance(result, Found):
            row = _fit_row(result.row, ours, theirs)
            if row.status is ReportStatus.CANCELLED and ours.key not in self.gone and self._is_spared(ours):
                self._spare(ours, OrderCancelled(event.at_ns, ours.spec.client_id, row.cum_qty))
                row = attrs.evolve(row, status=ReportStatus.OPEN)
            result = Found(row)
        if effect is not None and not alone:
            return (attrs.evolve(event, effect=effect, result=result),)
        return self._as_report(event.at_ns, result.row, ours, theirs) if isinstance(result, Found) else ()

    def _as_report(self, at_ns: int, row: OrderRow, ours: Order, theirs: Order) -> Told:
        """What the venue has said of an order that this run did not ask for, as if it had reported it."""
        client_id = ours.spec.client_id
        if is_done(ours):
            return ()
        if row.status is ReportStatus.CANCELLED:
            return (OrderCancelled(at_ns, client_id, row.cum_qty),)
        if row.status is ReportStatus.EXPIRED:
            return (OrderExpired(at_ns, client_id, row.cum_qty),)
        if row.status is ReportStatus.REJECTED:
            return (OrderRejected(at_ns, client_id, row.raw),)
        # A venue that names no total of a filled order means the whole of it.
        cum_qty = row.cum_qty or (Qty(min(ours.qty, theirs.qty)) if row.status is ReportStatus.FILLED else row.cum_qty)
        return (_row_alone(at_ns, attrs.evolve(row, status=ReportStatus.OPEN, cum_qty=cum_qty)),)

    def _list(self, event: OpenOrders) -> Told:
        effect = self._id(event.effect)
        if not isinstance(event.result, FetchedOrders):
            return (attrs.evolve(event, effect=effect),) if effect is not None else ()
        rows = [told for row in event.result.rows if (told := self._row(row)) is not None]
        return (attrs.evolve(event, effect=effect or NOBODY, result=FetchedOrders(tuple(rows))),)

    def _row(self, row: OrderRow) -> OrderRow | None:
        """A row as it is here; None if the order is not open here."""
        ours, theirs = self._both(self._key(row.client_id))
        if ours is None or theirs is None:
            return row if ours is theirs else None
        if ours.key in self.gone or (is_done(ours) and not is_done(theirs)):
            return None
        return _fit_row(row, ours, theirs)

    def _claimed(self, event: GuardAnswer) -> Told:
        effect = self._id(event.effect)
        if effect is None:
            return ()
        held = event.kind is GuardKind.FROZEN or event.code in _STOPPED
        claim = self.claims.pop(effect, None)
        if claim is not None and held and self._stops_only_there(claim, event.at_ns):
            self.suppose(event.order)
            return (ideal.granted(claim[1], event.at_ns),)
        return (attrs.evolve(event, effect=effect),)

    def _latched(self, event: LatchAnswer) -> Told:
        effect = self._id(event.effect)
        if effect is None:
            return ()
        rows = tuple(row for row in event.rows if (row.scope, row.trigger, row.reason, row.by) not in self.unset)
        return (attrs.evolve(event, effect=effect, rows=rows),)

    def _limits(self, event: ChangeLimits) -> Told:
        """The command says all figures of its rule, those too that nobody changed: here these stay as they are here."""
        rule: object = event.rule
        if not isinstance(rule, LimitRule) or not isinstance(limits := rule.limits, Limits):
            return (event,)
        theirs, ours = (_limits_of(core.desk, event.rule) for core in (self.recorded, self.core))
        return (attrs.evolve(event, rule=attrs.evolve(rule, limits=merged(ours, theirs, limits))),)

    def _renamed(self, event: LeaseAnswer | StoreChecked | BreakerAnswer | Positions | TimerFired) -> Told:
        effect = self._id(event.effect)
        return (attrs.evolve(event, effect=effect),) if effect is not None else ()


_TELLERS: Final[dict[type[Event], Callable[[Hearing, Any], Told]]] = {
    ChangeLimits: Hearing._limits,
    Outcome: Hearing._outcome,
    OrderQueried: Hearing._queried,
    OpenOrders: Hearing._list,
    Positions: Hearing._renamed,
    LeaseAnswer: Hearing._renamed,
    StoreChecked: Hearing._renamed,
    BreakerAnswer: Hearing._renamed,
    LatchAnswer: Hearing._latched,
    GuardAnswer: Hearing._claimed,
    TimerFired: Hearing._renamed,
}


def _row_alone(at_ns: int, row: OrderRow) -> OpenOrders:
    """A row that nobody has asked for: evidence of what it shows, and nothing else."""
    return OpenOrders(at_ns, NOBODY, row.symbol, row.conditional, FetchedOrders((row,)))


def _fit_row(row: OrderRow, ours: Order, theirs: Order) -> OrderRow:
    """A row of the recorded run's order, for the order here."""
    if (ours.qty, ours.price) == (theirs.qty, theirs.price):
        return row
    return attrs.evolve(row, qty=ours.qty, price=ours.price, cum_qty=Qty(min(row.cum_qty, ours.qty)))


# --- another configuration ----------------------------------------------------------------------------------------------


def changed(config: Config, change: Change) -> Config:
    """The configuration of this run. Raises ValueError if it is not of the same session, symbols and strategies."""
    other = change(config)
    for name in ("session", "symbols", "strategies"):
        if getattr(other, name) != getattr(config, name):
            raise ValueError(f"{name}: has to stay {getattr(config, name)!r}; orders and books of the log are named by it")
    return other


def in_midstream(core: Core, change: Change) -> tuple[Core, tuple[Effect, ...]]:
    """The state with another configuration, and what follows from it at once, for a log that begins with a snapshot. Limits that were
    changed at run time stay changed."""
    desk = core.desk
    new = changed(desk.config, change) if desk is not None else None
    if desk is None or new is None or new == desk.config:
        return core, ()
    rules = _rules(desk, new)
    turn = Turn(core, attrs.evolve(desk, config=new, rules=rules, thresholds=thresholds_of(rules, desk.index, desk.owners)), core.now_ns)
    rerate(turn, desk, core.now_ns, core.now_ns)
    tune(turn)
    return turn.close()


def _rules(desk: Desk, new: Config) -> tuple[LimitRule, ...]:
    """The new configuration's rules, with each figure that was changed at run time as it was changed."""
    configured = {rule.conditions: rule.limits for rule in (LimitRule(desk.config.limits), *desk.config.rules)}
    present = {rule.conditions: rule.limits for rule in desk.rules}
    wanted = {rule.conditions: rule for rule in (LimitRule(new.limits), *new.rules)}
    rules = []
    for at, rule in {**{r.conditions: r for r in desk.rules}, **wanted}.items():
        base = wanted[at].limits if at in wanted else NO_LIMITS
        limits = merged(base, configured.get(at, NO_LIMITS), present.get(at, NO_LIMITS))
        if not says_nothing(limits) or not any(at):
            rules.append(attrs.evolve(rule, limits=limits))
    return tuple(rules)


def _limits_of(desk: Desk | None, meant: LimitRule) -> Limits:
    """What the rule with the same conditions says there."""
    rules = desk.rules if desk is not None else ()
    return next((rule.limits for rule in rules if rule.conditions == meant.conditions), NO_LIMITS)
