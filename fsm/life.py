"""The session's life beside orders: starting, restarting, the venue link, the store, the timers.

At the start, and whenever the connection was lost, the core takes stock: it reads the open orders of both books and, at a start,
the positions. Orders of ours that are open by our account but missing from a list that was asked for later are asked for one by one:
absence is a question, not an answer. Until the first stock is taken nothing is placed.

=================== ======================= ==================================================================================
timer               set by                  when it fires
=================== ======================= ==================================================================================
ORDER               ``doubt.look_later``    ``doubt.woken``
SWEEP               ``sweep``               the sweep goes on
SWEEP_DEADLINE      ``sweep.begin``         the sweep is reported as not successful
LEASE               a grant                 the lease is renewed while a sweep runs
LATCH               every latch answer      the latch is read again: a freeze never travels by a message alone
VENUE_LINK          the link going down     the venue freezes, if the link is still down
START               a failed stocktake      stock is taken again
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
    FetchOpenOrders,
    FetchPositions,
    Mode,
    PublishFreeze,
    Purpose,
    Qty,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    Severity,
    Trigger,
    order_key,
    to_text,
)
from . import feeds, operators, sweep, watch
from .config import Config
from .core import ACCOUNT, VENUE, Desk, Lease, Link, Stocktake, StoreView, frozen_scopes, scope_key, scope_text
from .doubt import ask, woken
from .events import (
    FetchFailed,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    MarkPrice,
    OpenOrders,
    PositionRow,
    Positions,
    Restarted,
    Started,
    Stopping,
    TimerFired,
    VenueLink,
)
from .exposure import FLAT, with_position
from .freeze import freeze, keep, on_cleared, on_cool_down, own_word, put_control, trip
from .limits import LimitRule
from .order import Ended, is_done
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
    take_stock(turn, gate=True, attempt=0)
    read_latch(turn)
    roll(turn)
    watch.tune(turn)


def on_restarted(turn: Turn, event: Restarted) -> None:
    """Whatever was under way is in doubt; a freeze is still a freeze, and is proven anew."""
    before, new = turn.desk, event.config
    old = before.config
    same = new.session == old.session and new.symbols[: len(old.symbols)] == old.symbols
    if not same or new.strategies[: len(old.strategies)] != old.strategies:
        text = "a session continues with its own tag, and with its symbols and strategies in their order; new ones at the end"
        turn.reject("config_changed", text)
        return
    fresh = operators.carried_over(before, new_desk(new))
    turn.desk = attrs.evolve(
        fresh, controls=before.controls, epoch=before.epoch, freezes=before.freezes, opened=before.opened, repeats=before.repeats
    )
    # The new process has clocks, feeds and breakers of its own; what was measured of orders and results goes on.
    turn.flow = attrs.evolve(turn.flow, feeds=Map(), day_ends_ns=day_end(turn.now_ns, new.day_roll_minute))
    take_stock(turn, gate=True, attempt=0)
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
    operators.rerate(turn, before, turn.now_ns)
    operators.rearm(turn)
    watch.tune(turn)
    watch.gone_back(turn, event)


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


# --- stock ----------------------------------------------------------------------------------------------------------


def take_stock(turn: Turn, gate: bool, attempt: int) -> None:
    """Ask for both lists of open orders, and for the positions where placing waits for the answer."""
    waiting = [turn.emit(FetchOpenOrders, "", book) for book in turn.desk.config.venue.books]
    if gate:
        waiting.append(turn.emit(FetchPositions))
    turn.desk = attrs.evolve(turn.desk, stock=Stocktake(turn.n, tuple(waiting), (), False, attempt, None, gate))


def on_open_orders(turn: Turn, event: OpenOrders) -> None:
    """A list of open orders: evidence that those listed exist, for the stocktake and the sweep alike."""
    result = event.result
    if not isinstance(result, FetchFailed):
        session = turn.desk.config.session
        for row in result.rows:
            order = turn.order(order_key(session, row.client_id))
            # Of those that have ended only a refused one is news: a list may be a little older than the end of another.
            if order is not None and (not is_done(order) or order.ended is Ended.REJECTED):
                settle(turn, order, "listed", row)
    stock = turn.desk.stock
    if stock is not None and event.effect in stock.waiting:
        rows = stock.rows if isinstance(result, FetchFailed) else stock.rows + result.rows
        stock = attrs.evolve(stock, rows=rows)
        _stock_answered(turn, stock, event.effect, isinstance(result, FetchFailed))
    sweep.on_open_orders(turn, event)


def on_positions(turn: Turn, event: Positions) -> None:
    """The positions: the opening ones the first time; afterwards they are compared with the ledger, never added to it."""
    stock = turn.desk.stock
    if stock is None or event.effect not in stock.waiting:
        turn.reject("stale_answer", "nobody waits for these positions any more")
        return
    if not isinstance(event.result, FetchFailed):
        for row in _netted(event.result.rows):
            _position(turn, row)
        if turn.desk.opened:
            _flat_by_absence(turn, [row.symbol for row in event.result.rows])
        turn.desk = attrs.evolve(turn.desk, opened=True)
    _stock_answered(turn, stock, event.effect, isinstance(event.result, FetchFailed))


def _netted(rows: tuple[PositionRow, ...]) -> list[PositionRow]:
    """One row per symbol: an account in hedge mode has a long and a short one."""
    by_symbol: dict[str, PositionRow] = {}
    for row in rows:
        before = by_symbol.get(row.symbol)
        by_symbol[row.symbol] = row if before is None else attrs.evolve(row, qty=Qty(row.qty + before.qty), mark=row.mark or before.mark)
    return list(by_symbol.values())


def _position(turn: Turn, row: PositionRow) -> None:
    sym = turn.desk.index.get(row.symbol, -1)
    if sym < 0:
        return
    if row.mark is not None and row.mark > 0:
        turn.put_mark(sym, row.mark)
    book = turn.books.get(sym, FLAT)
    if not turn.desk.opened:
        turn.put_book(sym, with_position(book, row.qty))
    elif row.qty != book.position and not book.open_orders:
        _drift(turn, row.symbol, row.qty, book.position)


def _flat_by_absence(turn: Turn, listed: list[str]) -> None:
    for sym, symbol in enumerate(turn.desk.config.symbols):
        book = turn.books.get(sym, FLAT)
        if symbol not in listed and book.position and not book.open_orders:
            _drift(turn, symbol, 0, book.position)


def _drift(turn: Turn, symbol: str, venue: int, ledger: int) -> None:
    text = f"the venue holds {to_text(venue)}, our trades say {to_text(ledger)}"
    turn.alert(Severity.CRITICAL, "position_drift", text, 0, symbol)


def _stock_answered(turn: Turn, stock: Stocktake, effect: EffectId, failed: bool) -> None:
    waiting = tuple(w for w in stock.waiting if w != effect)
    stock = attrs.evolve(stock, waiting=waiting, failed=stock.failed or failed)
    if waiting:
        turn.desk = attrs.evolve(turn.desk, stock=stock)
    elif stock.failed:
        timer = turn.timer(turn.backoff(stock.attempt), Purpose.START)
        turn.desk = attrs.evolve(turn.desk, stock=attrs.evolve(stock, attempt=stock.attempt + 1, timer=timer))
    else:
        turn.desk = attrs.evolve(turn.desk, stock=None)
        _compare(turn, stock)


def _compare(turn: Turn, stock: Stocktake) -> None:
    """Our open orders that are in no list are asked for; others' orders are made known to a person."""
    session = turn.desk.config.session
    listed = {order_key(session, row.client_id): True for row in stock.rows}
    foreign = [row for row in stock.rows if order_key(session, row.client_id) == 0]
    strangers = [row for row in stock.rows if (key := order_key(session, row.client_id)) and turn.order(key) is None]
    if strangers:
        # Our next orders would get ids that are taken, and reports about the one would be believed of the other.
        text = f"the venue holds {strangers[0].client_id}, an order of this session that this log does not know: the tag was used before"
        freeze(turn, ACCOUNT, Trigger.INVARIANT, text)
    if foreign:
        first = foreign[0]
        text = f"{len(foreign)} open order(s) on the account are not of this session, the first {first.venue_id} in {first.symbol}"
        turn.alert(Severity.WARNING, "foreign_orders", text, 0, first.symbol)
    for order in sorted(turn.orders.values(), key=lambda o: o.key):
        if order.key < stock.asked and order.key not in listed and order.requests.place is None:
            ask(turn, order)


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
    stock = turn.desk.stock
    turn.desk = attrs.evolve(turn.desk, link=Link(True, None))
    # A stocktake under way has perhaps read a list before the link went down: it begins anew.
    take_stock(turn, gate=stock is not None and stock.gate, attempt=0)


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
    """What a peer has frozen is frozen here. What we froze ourselves and the store does not show, because it could not be published or the
    store has forgotten it, is published with the next reading. A peer's freeze is its own to keep up."""
    for row in event.rows:
        scope = scope_key(turn.desk, row.scope)
        if scope is None:
            continue
        if scope not in frozen_scopes(turn.desk):
            freeze(turn, scope, Trigger.PEER, f"{row.trigger.value}: {row.reason}", row.by)
        else:
            _seen_in_latch(turn, scope, row)
    latched = [row.scope for row in event.rows]
    for scope in frozen_scopes(turn.desk) if polled else ():
        word, text = own_word(turn.desk, scope), scope_text(turn.desk, scope)
        if word is not None and turn.desk.controls[scope].unfreeze is None and text not in latched:
            turn.emit(PublishFreeze, text, *word)


def _seen_in_latch(turn: Turn, scope: int, row: LatchRow) -> None:
    """The store shows a scope that is frozen here too. If it is another's freeze that it shows, ours does not end without a person."""
    control = turn.desk.controls[scope]
    if not control.published:
        put_control(turn, scope, attrs.evolve(control, published=True))
    if control.transient and (row.trigger, row.reason, row.by) != (control.trigger, control.reason, control.by):
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
    stock = turn.desk.stock
    if stock is not None and stock.timer == effect:
        take_stock(turn, stock.gate, stock.attempt)


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
