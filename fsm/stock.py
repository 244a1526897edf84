"""The stocktake: what the venue says is there, held against what this log says.

Theory
------
A stream of reports tells nothing of what happened while nobody listened. So at a start, and whenever the connection was lost, the core
asks for the open orders of both books, and where placing waits for the answer (the gate is shut: at a start) for the positions too. The
answers are evidence of what is listed, and only a reason to ask about what is not:

=================================== ==========================================================================================
what the answers show               what follows
=================================== ==========================================================================================
an order of ours is listed          it exists: a sign of life, at once
an order of ours is not listed      if it was there before the lists were asked for, it is asked for: absence is a question
an order of another session         said to a person, and left alone; in a scope that was proven empty, and where others'
                                    orders go with a freeze, it is proven no longer, and swept again
an order of this session, unknown   the session tag was used before: the account freezes
a position, the first time          it opens the book
a position later, or none           compared with the book while nothing of the symbol is open; a difference is said, never booked
a question that failed              nothing is concluded from absence; all is asked anew after a backoff, the gate stays as it is
=================================== ==========================================================================================
"""

import attrs

from ..effects import EffectId, FetchOpenOrders, FetchPositions, Purpose, Qty, Severity, Trigger, order_key, to_text
from . import sweep
from .config import ForeignPolicy
from .core import ACCOUNT, Stocktake, frozen_scopes
from .doubt import ask
from .events import FetchFailed, OpenOrders, PositionRow, Positions
from .exposure import FLAT, with_position
from .freeze import freeze, reopened
from .order import Ended, is_done
from .reports import settle
from .turn import NS_PER_MS, Turn


def take_stock(turn: Turn, gate: bool, attempt: int) -> None:
    """Ask for both lists of open orders, and for the positions where placing waits for the answer."""
    waiting = [turn.emit(FetchOpenOrders, "", book) for book in turn.desk.config.venue.books]
    if gate:
        waiting.append(turn.emit(FetchPositions))
    turn.desk = attrs.evolve(turn.desk, stock=Stocktake(turn.n, tuple(waiting), (), False, attempt, None, gate))


def on_timer(turn: Turn, effect: EffectId) -> None:
    """The pause after a stocktake that failed is over."""
    stock = turn.desk.stock
    if stock is not None and stock.timer == effect:
        take_stock(turn, stock.gate, stock.attempt)


def look_late(turn: Turn, effect: EffectId) -> None:
    """No request that was under way at the proof can arrive any more: is it still true? One stocktake at a time."""
    desk = turn.desk
    if desk.late != effect:
        return
    if desk.stock is not None:
        turn.desk = attrs.evolve(desk, late=turn.timer(desk.config.store.latch_poll_ms * NS_PER_MS, Purpose.LATE_LOOK))
        return
    turn.desk = attrs.evolve(desk, late=None)
    if frozen_scopes(desk):
        take_stock(turn, gate=False, attempt=0)


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
        if turn.desk.config.sweep.foreign is ForeignPolicy.CANCEL:
            reopened(turn, list(dict.fromkeys(row.symbol for row in foreign)))
    for order in sorted(turn.orders.values(), key=lambda o: o.key):
        if order.key < stock.asked and order.key not in listed and order.requests.place is None:
            ask(turn, order)
