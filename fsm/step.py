"""The composition: ``step(core, event) -> (core, effects)``.

The whole core is this function. It is total: every event in every state gives a state and effects, and none raises; an input that
the rules do not allow changes nothing but the record number and comes back as ``Rejected`` or ``Denied`` with a stable code. It is pure:
time, ids and jitter derive from the event, the record number and the configuration.

An event is what ``codec.EVENTS`` can write: a number that no log can hold is none of this world, and whoever feeds the core (the runner
does it for its adapters) refuses it before.

``HANDLERS`` has one row per event class; the rules themselves stand in the module that the row names.
"""

from collections.abc import Callable
from typing import Any

import attrs

from ..effects import Effect, Rejected
from . import breakers, commands, freeze, guards, latch, life, operators, reports, stock, store_view, sweep, watch
from .config import Config
from .core import EMPTY, Core
from .events import (
    BreakerAnswer,
    BreakerChanged,
    CancelOrder,
    CancelRejected,
    ChangeLimits,
    ClockReading,
    EdgeUpdate,
    EndOverride,
    Event,
    Freeze,
    GuardAnswer,
    Heartbeat,
    InstrumentDefined,
    LatchAnswer,
    LeaseAnswer,
    MarkPrice,
    OpenOrders,
    OperatorRefused,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderHalted,
    OrderQueried,
    OrderRejected,
    OrderReplaced,
    Outcome,
    OverrideBreaker,
    OverrideLimits,
    Positions,
    Reenable,
    ReplaceOrder,
    ReplaceRejected,
    Restarted,
    Restrict,
    SetReduceOnly,
    Started,
    Stopping,
    StoreChecked,
    SubmitOrder,
    TimerFired,
    TradeBusted,
    TradeCorrected,
    Unfreeze,
    VenueLink,
    VerifyOverride,
    VolatilityBand,
)
from .turn import Turn


def _already_started(turn: Turn, event: Started) -> None:
    turn.reject("already_started", "a session starts once; to continue one, feed Restarted")


#: One row per event class. Generated into ``spec/tables.md``.
HANDLERS: dict[type[Event], Callable[[Turn, Any], None]] = {
    SubmitOrder: commands.submit,
    CancelOrder: commands.cancel,
    ReplaceOrder: commands.replace,
    Freeze: freeze.on_freeze,
    Unfreeze: freeze.on_unfreeze,
    SetReduceOnly: freeze.on_reduce_only,
    ChangeLimits: operators.change_limits,
    OverrideLimits: operators.override_limits,
    VerifyOverride: operators.verify_override,
    EndOverride: operators.end_override,
    Restrict: operators.restrict,
    Reenable: operators.reenable,
    OverrideBreaker: breakers.override,
    OperatorRefused: operators.refused,
    Stopping: life.on_stopping,
    InstrumentDefined: operators.define_instrument,
    MarkPrice: life.on_mark_price,
    EdgeUpdate: watch.on_edge,
    VolatilityBand: operators.set_band,
    Heartbeat: watch.on_heartbeat,
    VenueLink: life.on_venue_link,
    ClockReading: watch.on_clock,
    BreakerChanged: watch.on_breaker,
    OrderAccepted: reports.on_report,
    OrderRejected: reports.on_report,
    OrderFilled: reports.on_report,
    OrderCancelled: reports.on_report,
    OrderExpired: reports.on_report,
    OrderHalted: reports.on_report,
    OrderReplaced: reports.on_report,
    CancelRejected: reports.on_report,
    ReplaceRejected: reports.on_report,
    TradeBusted: reports.on_report,
    TradeCorrected: reports.on_report,
    Outcome: reports.on_outcome,
    OrderQueried: reports.on_queried,
    OpenOrders: stock.on_open_orders,
    Positions: stock.on_positions,
    LeaseAnswer: sweep.on_lease,
    LatchAnswer: latch.on_answer,
    GuardAnswer: guards.on_answer,
    StoreChecked: store_view.on_checked,
    BreakerAnswer: breakers.on_answer,
    TimerFired: life.on_timer,
    Started: _already_started,
    Restarted: life.on_restarted,
}


def step(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
    """The next state, and what to ask of the world. The record's number is the new state's ``seq``.

    Raises TypeError for something that is no event.
    """
    handler = HANDLERS[type(event)] if type(event) in HANDLERS else _no_event(event)
    desk = core.desk
    if desk is None:
        return _begin(core, event)
    turn = Turn(core, desk, event.at_ns)
    watch.before(turn, event)
    handler(turn, event)
    watch.after(turn, event, core)
    if turn.reopened:
        freeze.recheck(turn)
    elif turn.settled and turn.desk.sweep is not None:
        sweep.on_settled(turn)
    if turn.flow.guards:
        guards.after(turn, core)
    return turn.close()


def start(config: Config, at_ns: int) -> tuple[Core, tuple[Effect, ...]]:
    """The state of a session that begins, and the questions to be answered before anything is placed."""
    return step(EMPTY, Started(at_ns, config))


def _begin(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
    if not isinstance(event, Started):
        n = core.seq + 1
        rejected = Rejected((n, 0), "not_started", "the session has not begun; feed Started first")
        now_ns = max(core.now_ns, event.at_ns)
        return attrs.evolve(core, seq=n, now_ns=now_ns, touched=()), (rejected,)
    turn = Turn(core, life.new_desk(event.config), event.at_ns)
    life.on_started(turn, event)
    return turn.close()


def _no_event(event: object) -> Callable[[Turn, Any], None]:
    raise TypeError(f"{event!r} is no event; see haltcore.fsm.events")
