"""Submit, cancel, replace: what a bot asks for, and the answer it gets in the same step.

A submit ends in ``Place`` or ``Denied``, a replace in ``Replace``, ``Denied`` or ``Rejected``, a cancel in ``Cancel`` or ``Rejected``.
From the moment of ``Place`` on the order exists and counts at its worst case: reserved by the decision, not by the venue's word
(RTS 6 Art. 15(2): all sent orders count at once).
"""

import attrs

from ..effects import Denied, Notional, OrdType, Place, Qty, Replace, client_order_id
from .core import Core, Desk, effective_mode
from .doubt import send_cancel
from .events import CancelOrder, Halt, ReplaceOrder, SubmitOrder
from .exposure import FLAT, reserve_price
from .order import NO_FILLS, Ended, Order, OrderSpec, Replacement, Requests, with_requests
from .order_change import Note, Times
from .order_rules import apply
from .risk import Ask, Finding, all_findings, first_denial, reserve_for
from .turn import Turn

_TEXT = {
    Note.NOT_WORKING: "the order has ended or is not live yet",
    Note.CANCEL_PENDING: "a cancel of the order is under way",
    Note.REPLACE_PENDING: "a replace of the order is under way",
}


def submit(turn: Turn, event: SubmitOrder) -> None:
    """Place an order, or deny it."""
    ask = ask_to_submit(turn, turn.desk, event, turn.n)
    denial = first_denial(ask)
    if denial is not None:
        turn.emit(Denied, denial.code, denial.reason, event.symbol, 0)
        return
    e, key = event, turn.n
    client_id = client_order_id(turn.desk.config.session, key)
    reserve = reserve_for(e.type, e.price, e.stop_price, ask.book)
    place = turn.emit(
        Place, key, client_id, e.symbol, e.side, e.type, e.qty, e.price, e.stop_price, e.tif, e.post_only, e.reduce_only,
        turn.desk.epoch, turn.fence(),
    )  # fmt: skip
    spec = OrderSpec(
        client_id, e.symbol, ask.sym, e.side, e.type, e.tif, e.post_only, e.reduce_only, e.stop_price, e.strategy, turn.now_ns
    )
    one_book = spec.conditional and not turn.desk.config.venue.conditional
    turn.put_order(
        None, Order(key, spec, "", e.qty, e.price, reserve, False, one_book, Halt.NONE, Ended.NO, NO_FILLS, Requests(place))
    )


def cancel(turn: Turn, event: CancelOrder) -> None:
    """Cancel an order, and keep wanting it cancelled until it has ended."""
    order = turn.order(event.order)
    if order is None:
        turn.reject("unknown_order", f"no order has the key {event.order}")
        return
    after, notes = apply(order, "want_cancel", event, Times(turn.now_ns, 0))
    if Note.CANCEL not in notes:
        turn.reject(notes[0].value, _TEXT[notes[0]])
        return
    send_cancel(turn, _put(turn, order, after))


def replace(turn: Turn, event: ReplaceOrder) -> None:
    """Replace an order, if it is live and the gate lets the change through."""
    order = turn.order(event.order)
    if order is None:
        turn.reject("unknown_order", f"no order has the key {event.order}")
        return
    _, notes = apply(order, "want_replace", event, Times(turn.now_ns, 0))
    if notes:
        turn.reject(notes[0].value, _TEXT[notes[0]])
        return
    denial = first_denial(ask_to_replace(turn, turn.desk, order, event))
    if denial is not None:
        turn.emit(Denied, denial.code, denial.reason, order.spec.symbol, order.key)
        return
    s = order.spec
    effect = turn.emit(
        Replace, order.key, s.client_id, order.venue_id, s.symbol, event.qty, event.price, turn.desk.epoch, turn.fence()
    )
    turn.put_order(order, _pending(order, Replacement(effect, event.qty, event.price)))


def explain(core: Core, event: SubmitOrder | ReplaceOrder) -> list[Finding]:
    """Every check of the gate for this command, without changing anything. Empty for a replace of an order that is not live."""
    if core.desk is None:
        return [Finding("not_started", "the session has not begun; feed Started first")]
    if isinstance(event, SubmitOrder):
        return all_findings(ask_to_submit(core, core.desk, event, core.seq + 1))
    order = core.order(event.order)
    return [] if order is None else all_findings(ask_to_replace(core, core.desk, order, event))


def ask_to_submit(view: Turn | Core, desk: Desk, event: SubmitOrder, key: int) -> Ask:
    """The gate's question about a submit."""
    e = event
    sym = desk.index.get(e.symbol, -1)
    book = view.books.get(sym, FLAT)
    value = Notional(e.qty * reserve_for(e.type, e.price, e.stop_price, book))
    return Ask(
        desk, view.total, key, e.symbol, sym, effective_mode(desk, sym), book, e.side, e.type, e.qty, e.price, e.stop_price,
        e.qty, value, 0,
    )  # fmt: skip


def ask_to_replace(view: Turn | Core, desk: Desk, order: Order, event: ReplaceOrder) -> Ask:
    """The gate's question about a replace: only what the order would grow by is new."""
    s = order.spec
    after = _pending(order, Replacement(None, event.qty, event.price))
    add_qty = Qty(after.leaves_qty - order.leaves_qty)
    add_value = Notional(after.leaves_qty * reserve_price(after) - order.leaves_qty * reserve_price(order))
    book = view.books.get(s.sym, FLAT)
    # A stop's trigger price does not change with a replace; the gate need not look at it again.
    stop = s.stop_price if s.type in (OrdType.STOP_LIMIT, OrdType.STOP_MARKET) else None
    return Ask(
        desk, view.total, order.key, s.symbol, s.sym, effective_mode(desk, s.sym), book, s.side, s.type, event.qty, event.price, stop,
        add_qty, add_value, order.key,
    )  # fmt: skip


def _pending(order: Order, replacement: Replacement) -> Order:
    r = order.requests
    requests = attrs.evolve(r, replace=replacement)
    return with_requests(order, requests)


def _put(turn: Turn, old: Order, new: Order) -> Order:
    turn.put_order(old, new)
    return new
