"""The session's life beside orders: starting, restarting, stopping, the venue link, the timers.

At the start, and whenever the connection was lost, the core takes stock (``stock.py``). Until the first stock is taken nothing is placed.

=================== ======================= ==================================================================================
timer               set by                  when it fires
=================== ======================= ==================================================================================
ORDER               ``doubt.look_later``    ``doubt.woken``
SWEEP               ``sweep``               the sweep goes on
SWEEP_DEADLINE      ``sweep.begin``         the sweep is reported as not successful
LEASE               ``lease``               the lease is renewed, given back, or lost
LATCH               every reading of it     ``latch.on_timer``: the latch is read again
VENUE_LINK          the link going down     the venue freezes, if the link is still down
START               a failed stocktake      ``stock.on_timer``: stock is taken again
FEED                ``feeds.arm``           the feed's scope freezes, if no data has come
COOL_DOWN           ``cool_down.start``     the freeze ends, if nothing speaks against it
OVERRIDE            ``operators``           the override ends
BREAKER             ``breakers``            the breaker of placing half-opens, or what a person has said of it runs out
LATE_LOOK           a proof, with a store   ``stock.look_late``: the lists are read once more
=================== ======================= ==================================================================================

A timer that is no longer waited for changes nothing; whoever waits remembers its id.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs
from immutables import Map

from ..effects import (
    EffectId,
    Mode,
    Purpose,
    ReleaseLease,
    Severity,
    Trigger,
    to_text,
)
from . import breakers, feeds, guards, latch, lease, operators, stock, store_view, sweep, watch
from .config import Config
from .core import ACCOUNT, VENUE, Desk, Link, StoreView, frozen_scopes
from .doubt import woken
from .events import MarkPrice, Restarted, Started, Stopping, StoreHealth, TimerFired, VenueLink
from .freeze import freeze, on_cool_down, put_control, trip
from .limits import LimitRule
from .order import Order
from .reports import settle
from .result import day_end, roll
from .thresholds import thresholds_of
from .turn import NS_PER_MS, Turn


def new_desk(config: Config) -> Desk:
    """The desk of a session that begins."""
    index: Map[str, int] = Map((symbol, i) for i, symbol in enumerate(config.symbols))
    store = StoreView(StoreHealth.OK, False, (), None, None)
    owners: Map[str, int] = Map((strategy, i + 1) for i, strategy in enumerate(config.strategies))
    rules = LimitRule(config.limits), *config.rules
    return Desk(
        config, index, owners, rules, (), Map(), Map(), Map((index[symbol], 0) for symbol in config.restricted), Map(), Map(), 0, None,
        None, store, Link(True, None), None, False, False, (), Map(), None, thresholds_of(rules, index, owners),
    )  # fmt: skip


# --- start and stop -------------------------------------------------------------------------------------------------


def on_started(turn: Turn, event: Started) -> None:
    """Read what the account holds before anything is placed. The trading day begins, and the feeds are looked after."""
    stock.take_stock(turn, gate=True, attempt=0)
    store_view.begin(turn)
    breakers.begin(turn)
    roll(turn)
    watch.tune(turn)


def on_restarted(turn: Turn, event: Restarted) -> None:
    """Whatever was under way is in doubt; a freeze is still a freeze, and is proven anew.

    Symbols and strategies keep their numbers, so new ones come at the end; and a strategy only while no open order names it, since an
    order gets its owner with its submit.
    """
    before, new = turn.desk, event.config
    old = before.config
    same = new.session == old.session and new.symbols[: len(old.symbols)] == old.symbols
    if not same or new.strategies[: len(old.strategies)] != old.strategies:
        text = "a session continues with its own tag, and with its symbols and strategies in their order; new ones at the end"
        turn.reject("config_changed", text)
        return
    unowned = [order for order in turn.orders.values() if order.spec.strategy in new.strategies[len(old.strategies) :]]
    if unowned:
        turn.reject("config_changed", _unowned_text(unowned))
        return
    fresh = operators.carried_over(before, new_desk(new))
    # By the epoch it is known whether the store has forgotten anything while nobody looked.
    store = attrs.evolve(fresh.store, latch=before.store.latch, epoch=before.store.epoch)
    turn.desk = attrs.evolve(
        fresh, controls=before.controls, epoch=before.epoch, freezes=before.freezes, opened=before.opened, repeats=before.repeats,
        store=store, run=event.by,
    )  # fmt: skip
    # The new process has clocks, feeds and breakers of its own; what was measured of orders and results goes on.
    turn.flow = attrs.evolve(turn.flow, feeds=Map(), day_ends_ns=day_end(turn.now_ns, new.day_roll_minute))
    stock.take_stock(turn, gate=True, attempt=0)
    store_view.begin(turn)
    if before.lease is not None and new.store.configured:
        # The store gives it up if this process has the name of the old one; else it runs out.
        turn.emit(ReleaseLease, before.lease.fence)
    guards.restarted(turn)
    for order in sorted(turn.orders.values(), key=lambda o: o.key):
        settle(turn, order, "restart", event)
    scopes = frozen_scopes(turn.desk)
    for scope in scopes:
        control = attrs.evolve(turn.desk.controls[scope], mode=Mode.FREEZING, verified=False, unfreeze=None, cool_down=None)
        put_control(turn, scope, control)
    if scopes:
        sweep.begin(turn)
    if turn.desk.rules != before.rules:
        text = "the new configuration says other limits; they hold instead of those that were changed at run time"
        turn.alert(Severity.WARNING, "limits_replaced", text)
    operators.rerate(turn, before, turn.now_ns, turn.now_ns)
    operators.rearm(turn)
    breakers.begin(turn)
    watch.tune(turn)
    watch.gone_back(turn, event)


def _unowned_text(unowned: list[Order]) -> str:
    names = ", ".join(sorted(dict.fromkeys(order.spec.strategy for order in unowned)))
    return (
        f"{len(unowned)} open order(s) of before name what is a strategy only now: {names}; they lie in no books of it, so its limits and "
        "freezes would miss them. Go on with the old configuration and cancel them first, or begin a new session"
    )


def on_stopping(turn: Turn, event: Stopping) -> None:
    """Place nothing more; freeze, or hand the open orders over."""
    if turn.desk.stopping:
        turn.reject("no_change", "the runner is stopping already")
        return
    turn.desk = attrs.evolve(turn.desk, stopping=True)
    if event.freeze:
        freeze(turn, ACCOUNT, Trigger.STOPPING, "the runner stops", event.by)
    else:
        lease.hand_over(turn)
        turn.alert(Severity.WARNING, "handed_over", f"the runner stops and leaves {len(turn.orders)} order(s) open")


# --- venue link and marks -------------------------------------------------------------------------------------------


def on_venue_link(turn: Turn, event: VenueLink) -> None:
    """Down: a timer runs, and nothing is placed. Up again: take stock, since a stream gives no report for what it missed."""
    link = turn.desk.link
    if event.up == link.up:
        return
    if not event.up:
        timer = turn.timer(turn.desk.config.venue_lost_ms * NS_PER_MS, Purpose.VENUE_LINK)
        turn.desk = attrs.evolve(turn.desk, link=Link(False, timer))
        turn.alert(Severity.WARNING, "venue_down", event.reason)
        return
    turn.desk = attrs.evolve(turn.desk, link=Link(True, None))
    # A stocktake under way has perhaps read a list before the link went down: it begins anew.
    under_way = turn.desk.stock
    stock.take_stock(turn, gate=under_way is not None and under_way.gate, attempt=0)


def on_mark_price(turn: Turn, event: MarkPrice) -> None:
    """Positions of the symbol are valued anew."""
    sym = turn.desk.index.get(event.symbol, -1)
    if sym < 0:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured")
    elif event.price <= 0:
        turn.reject("invalid_price", f"a mark price of {to_text(event.price)} is not above 0")
    else:
        feeds.heard(turn, sym + 1)
        turn.put_mark(sym, event.price)


# --- timers ---------------------------------------------------------------------------------------------------------


def on_timer(turn: Turn, event: TimerFired) -> None:
    """Whoever waits for this very timer goes on; see the table in the essay."""
    _WOKEN[event.purpose](turn, event.effect, event.key)


def _order_timer(turn: Turn, effect: EffectId, key: int) -> None:
    order = turn.orders.get(key)
    if order is not None and order.requests.timer == effect:
        woken(turn, order)


def _sweep_timer(turn: Turn, effect: EffectId, key: int) -> None:
    sweep.on_timer(turn, effect)


def _deadline_timer(turn: Turn, effect: EffectId, key: int) -> None:
    sweep.on_deadline(turn, effect)


def _lease_timer(turn: Turn, effect: EffectId, key: int) -> None:
    lease.on_timer(turn, effect)


def _latch_timer(turn: Turn, effect: EffectId, key: int) -> None:
    latch.on_timer(turn, effect)


def _link_timer(turn: Turn, effect: EffectId, key: int) -> None:
    link = turn.desk.link
    if link.timer == effect:
        turn.desk = attrs.evolve(turn.desk, link=Link(link.up, None))
        down = str(turn.desk.config.venue_lost_ms)
        metadata = (("threshold", down), ("unit", "ms"))
        trip(turn, VENUE, Trigger.VENUE_LOST, f"the connection to the venue has been down for {down} ms", metadata)


def _start_timer(turn: Turn, effect: EffectId, key: int) -> None:
    stock.on_timer(turn, effect)


def _late_timer(turn: Turn, effect: EffectId, key: int) -> None:
    stock.look_late(turn, effect)


def _override_timer(turn: Turn, effect: EffectId, key: int) -> None:
    operators.on_override_timer(turn, key)


_WOKEN: Final[Mapping[Purpose, Callable[[Turn, EffectId, int], None]]] = MappingProxyType(
    {
        Purpose.ORDER: _order_timer,
        Purpose.SWEEP: _sweep_timer,
        Purpose.SWEEP_DEADLINE: _deadline_timer,
        Purpose.LEASE: _lease_timer,
        Purpose.LATCH: _latch_timer,
        Purpose.VENUE_LINK: _link_timer,
        Purpose.START: _start_timer,
        Purpose.FEED: feeds.on_timer,
        Purpose.COOL_DOWN: on_cool_down,
        Purpose.OVERRIDE: _override_timer,
        Purpose.BREAKER: breakers.on_timer,
        Purpose.LATE_LOOK: _late_timer,
    }
)
