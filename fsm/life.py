"""The session's life beside orders: starting, restarting, the venue link, the store, the timers.

At the start, and whenever the connection was lost, the core takes stock (``stock.py``). Until the first stock is taken nothing is placed.

=================== ======================= ==================================================================================
timer               set by                  when it fires
=================== ======================= ==================================================================================
ORDER               ``doubt.look_later``    ``doubt.woken``
SWEEP               ``sweep``               the sweep goes on
SWEEP_DEADLINE      ``sweep.begin``         the sweep is reported as not successful
LEASE               a grant                 the lease is renewed while a sweep runs
LATCH               every latch answer      the latch is read again: a freeze never travels by a message alone
VENUE_LINK          the link going down     the venue freezes, if the link is still down
START               a failed stocktake      ``stock.on_timer``: stock is taken again
FEED                ``feeds.arm``           the feed's scope freezes, if no data has come
COOL_DOWN           ``cool_down.start``     the freeze ends, if nothing speaks against it
OVERRIDE            ``operators``           the override ends
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
    PublishFreeze,
    Purpose,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    Severity,
    Trigger,
    to_text,
)
from . import feeds, operators, stock, sweep, watch
from .config import Config
from .core import ACCOUNT, VENUE, Desk, Lease, Link, StoreView, frozen_scopes, scope_key, scope_text
from .doubt import woken
from .events import (
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    MarkPrice,
    Restarted,
    Started,
    Stopping,
    TimerFired,
    VenueLink,
)
from .freeze import freeze, keep, on_cleared, on_cool_down, own_word, put_control, trip
from .limits import LimitRule
from .order import Order
from .reports import settle
from .result import day_end, roll
from .thresholds import thresholds_of
from .turn import NS_PER_MS, Turn


def new_desk(config: Config) -> Desk:
    """The desk of a session that begins."""
    index: Map[str, int] = Map((symbol, i) for i, symbol in enumerate(config.symbols))
    store = StoreView(True, False, (), None, None)
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
    read_latch(turn)
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
    turn.desk = attrs.evolve(
        fresh, controls=before.controls, epoch=before.epoch, freezes=before.freezes, opened=before.opened, repeats=before.repeats
    )
    # The new process has clocks, feeds and breakers of its own; what was measured of orders and results goes on.
    turn.flow = attrs.evolve(turn.flow, feeds=Map(), day_ends_ns=day_end(turn.now_ns, new.day_roll_minute))
    stock.take_stock(turn, gate=True, attempt=0)
    read_latch(turn)
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


# --- store ----------------------------------------------------------------------------------------------------------


def read_latch(turn: Turn) -> None:
    """Ask the store what is frozen, if there is a store."""
    if turn.desk.config.store.configured:
        effect = turn.emit(ReadFreeze)
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, read=effect, timer=None))


def on_latch(turn: Turn, event: LatchAnswer) -> None:
    """The latch as the store has it. What a peer has frozen is frozen here; what we froze and could not publish is published now."""
    ok = event.kind in (LatchKind.OK, LatchKind.STALE)
    store = turn.desk.store
    polled = store.read == event.effect
    latch = event.rows if ok else store.latch
    known = store.known or (ok and polled)
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, ok=ok, known=known, latch=latch, read=None if polled else store.read))
    was_clear = on_cleared(turn, event)
    if ok and not was_clear:
        _follow_latch(turn, event, polled)
    if polled:
        timer = turn.timer(turn.desk.config.store.latch_poll_ms * NS_PER_MS, Purpose.LATCH)
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, timer=timer))


def _follow_latch(turn: Turn, event: LatchAnswer, polled: bool) -> None:
    """What a peer has frozen is frozen here. What we said ourselves and the store does not show, because it could not be published or the
    store has forgotten it, is published with the next reading: also behind a row that a peer has set alone, since it may lift that one
    by itself. A peer's freeze is its own to keep up."""
    for row in event.rows:
        scope = scope_key(turn.desk, row.scope)
        if scope is None:
            continue
        if scope not in frozen_scopes(turn.desk):
            freeze(turn, scope, Trigger.PEER, f"{row.trigger.value}: {row.reason}", row.by)
        else:
            _seen_in_latch(turn, scope, row)
    latched = {row.scope: row for row in event.rows}
    for scope in frozen_scopes(turn.desk) if polled else ():
        word, text = own_word(turn.desk, scope), scope_text(turn.desk, scope)
        there = latched.get(text)
        shown = there is not None and (there.joint or word == (there.trigger, there.reason, there.by))
        if word is not None and turn.desk.controls[scope].unfreeze is None and not shown:
            turn.emit(PublishFreeze, text, *word)


def _seen_in_latch(turn: Turn, scope: int, row: LatchRow) -> None:
    """The store shows a scope that is frozen here too. If another stands behind it, ours does not end without a person."""
    control = turn.desk.controls[scope]
    if not control.published:
        put_control(turn, scope, attrs.evolve(control, published=True))
    if control.transient and (row.joint or (row.trigger, row.reason, row.by) != (control.trigger, control.reason, control.by)):
        keep(turn, scope)


def on_lease(turn: Turn, event: LeaseAnswer) -> None:
    """The sweep lease came, went, or did not come. It never holds the sweep up beyond its bounded wait."""
    if event.kind is LeaseKind.GRANTED and turn.desk.sweep is not None:
        timer = turn.timer(turn.desk.config.store.lease_renew_ms * NS_PER_MS, Purpose.LEASE)
        turn.desk = attrs.evolve(turn.desk, lease=Lease(event.fence, event.valid_until_ns, timer))
    elif event.kind is LeaseKind.GRANTED:
        # It came after the sweep was over: nobody else should have to wait until it runs out.
        turn.emit(ReleaseLease, event.fence)
    elif event.kind is LeaseKind.LOST:
        turn.desk = attrs.evolve(turn.desk, lease=None)
    sweep.on_lease(turn, event.kind, event.effect)


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
    lease = turn.desk.lease
    if lease is not None and lease.timer == effect:
        turn.desk = attrs.evolve(turn.desk, lease=attrs.evolve(lease, timer=None))
        turn.emit(RenewLease, lease.fence, turn.desk.config.store.lease_ttl_ms)


def _latch_timer(turn: Turn, effect: EffectId, key: int) -> None:
    if turn.desk.store.timer == effect:
        read_latch(turn)


def _link_timer(turn: Turn, effect: EffectId, key: int) -> None:
    link = turn.desk.link
    if link.timer == effect:
        turn.desk = attrs.evolve(turn.desk, link=Link(link.up, None))
        down = str(turn.desk.config.venue_lost_ms)
        metadata = (("threshold", down), ("unit", "ms"))
        trip(turn, VENUE, Trigger.VENUE_LOST, f"the connection to the venue has been down for {down} ms", metadata)


def _start_timer(turn: Turn, effect: EffectId, key: int) -> None:
    stock.on_timer(turn, effect)


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
    }
)
