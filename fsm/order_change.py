"""What a rule makes of an order: the change, and the notes that say what it calls for. The toolbox of the rules.

A rule is a function ``(order, report, times) -> (order, notes)``. It does not act: its *notes* say what the outcome calls for (a
question, a cancel, an alert), and ``reports.py`` turns them into effects. What the notes mean stands beside ``Note``.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeAlias

import attrs
from attrs import frozen

from ..effects import Notional, Price, Qty, Side
from .events import Halt, OrderRow, Outcome
from .instrument import cost_of
from .order import NO_REQUESTS, Ended, Fills, Order, Replacement, is_done, with_requests


class Note(StrEnum):
    """What a rule's outcome calls for. The first group acts, the second tells a person, the third only explains."""

    ASK = "ask"  # query the order
    EXPECT = "expect"  # evidence is due: look again after a while
    RETRY = "retry"  # look again after a backoff
    CANCEL = "cancel"  # send a cancel
    LATE_FILL = "late_fill"  # a trade on an order that had ended
    OVERFILL = "overfill"  # more was filled than ordered
    TRADE_MISMATCH = "trade_mismatch"  # a trade id came back with other figures; the first figures stay
    UNKNOWN_TRADE = "unknown_trade"  # a bust or correction of a trade never seen; remembered, should the trade still come
    CONTRADICTION = "contradiction"  # evidence against evidence; we ask
    RESURRECTED = "resurrected"  # sign of life from an order that was refused
    GONE = "gone"  # the venue no longer knows an order it had accepted: closed, fills uncertain
    NEVER_ARRIVED = "never_arrived"  # the venue never got the order, and now cannot any more
    NEVER_SENT = "never_sent"  # it waited for its claim when the process died
    STALE = "stale"  # overtaken by later evidence; changed nothing
    DUPLICATE = "duplicate"  # known already; changed nothing
    INVALID = "invalid"  # a report that cannot be true; changed nothing
    NOT_WORKING = "not_working"  # command refused: the order has ended or is not yet live
    CANCEL_PENDING = "cancel_pending"  # command refused: a cancel is under way
    REPLACE_PENDING = "replace_pending"  # command refused: a replace is under way


@frozen
class Times:
    """The present, and how long a request can still be applied after it was last known to be on its way."""

    now_ns: int
    expiry_ns: int


Notes: TypeAlias = tuple[Note, ...]
Change: TypeAlias = tuple[Order, Notes]
Rule: TypeAlias = Callable[[Order, Any, Times], Change]

_NO = Ended.NO
_NONE: Notes = ()


# --- small constructors; positional, since `attrs.evolve` costs several times as much --------------------------------


def with_fills(o: Order, fills: Fills) -> Order:
    return Order(o.key, o.spec, o.venue_id, o.qty, o.price, o.reserve, o.accepted, o.triggered, o.halt, o.ended, fills, o.requests)


def alive(o: Order, venue_id: str) -> Order:
    """Evidence of life: accepted, and no doubt about the placing request any more."""
    r = o.requests
    doubt = r.doubt_ns if r.cancel is not None or r.replace is not None else 0
    requests = (
        NO_REQUESTS
        if r.cancel is None and r.replace is None and not r.cancel_wanted and r.query is None
        else attrs.evolve(r, place=None, doubt_ns=doubt, attempt=0, not_found=0)
    )
    venue_id = venue_id or o.venue_id
    return Order(o.key, o.spec, venue_id, o.qty, o.price, o.reserve, True, o.triggered, o.halt, o.ended, o.fills, requests)


def end(o: Order, ended: Ended, accepted: bool) -> Order:
    return Order(o.key, o.spec, o.venue_id, o.qty, o.price, o.reserve, accepted, o.triggered, Halt.NONE, ended, o.fills, NO_REQUESTS)


def resized(o: Order, qty: Qty, price: Price | None, venue_id: str, pending: Replacement | None = None) -> Order:
    """The order as replaced, by the request that is pending if it is one of ours. Below what is filled, the filled quantity is the order's
    (FIX: then it is Filled). A sell that the venue has lowered by itself counts as before: what the mark was, no rule of orders knows."""
    r = o.requests
    requests = attrs.evolve(r, place=None, replace=None, attempt=0, not_found=0)
    pending = pending or r.replace
    asked = pending.reserve if pending is not None and pending.price == price else None
    if asked is None and o.spec.side is Side.SELL:
        asked = o.reserve
    reserve = o.reserve if price is None else max(price, asked or price)
    size = max(qty, o.cum_qty)
    return Order(o.key, o.spec, venue_id or o.venue_id, size, price, reserve, True, o.triggered, o.halt, o.ended, o.fills, requests)


def reported(o: Order, cum_qty: Qty, avg_price: Price | None, asked: bool = False) -> Order:
    """The venue's running total, by the max rule. Without an average price (some venues say 0) the gap is valued at the order's own. A
    total that was seen before says nothing new, unless we asked: it may be a late copy from before a bust."""
    f = o.fills
    if cum_qty <= f.reported or cum_qty <= f.traded or (cum_qty <= f.seen and not asked):
        return o
    if avg_price is not None and avg_price > 0:
        cost = cost_of(o.spec.inverse, cum_qty, avg_price)
    else:
        cost = Notional(f.cost + cost_of(o.spec.inverse, cum_qty - f.cum_qty, o.price if o.price is not None else o.reserve))
    return with_fills(o, Fills(f.traded, f.traded_cost, cum_qty, cost, max(cum_qty, f.seen), f.trades))


def in_book(o: Order, row: OrderRow) -> Order:
    """A stop that the venue shows in the regular book has triggered, and is to be asked for and cancelled there."""
    if o.triggered or row.conditional or not o.spec.conditional:
        return o
    return attrs.evolve(o, triggered=True)


def fill_notes(before: Order, after: Order) -> Notes:
    """Alerts due when the filled quantity has grown."""
    if after.cum_qty <= before.cum_qty:
        return _NONE
    notes: Notes = (Note.LATE_FILL,) if before.ended is not _NO else _NONE
    return (*notes, Note.OVERFILL) if after.cum_qty > after.qty else notes


def overtaken(o: Order) -> Change:
    """A change that takes something back, such as a smaller size or a void trade, may be younger than the answer to a question that is
    under way. That answer would undo it; so the question is forgotten and put anew."""
    r = o.requests
    if r.query is None:
        return o, _NONE
    requests = attrs.evolve(r, query=None, asked_ns=0)
    return with_requests(o, requests), (Note.ASK,)


def wanted(o: Order) -> Notes:
    """A cancel that waited for the order to be live goes out now."""
    r = o.requests
    return (Note.CANCEL,) if r.cancel_wanted and r.cancel is None and not is_done(o) else _NONE


def answered(o: Order, now_ns: int) -> Order:
    """The placing request is no longer on our side, and what became of it is unknown from now on."""
    requests = attrs.evolve(o.requests, place=None, doubt_ns=now_ns)
    return with_requests(o, requests)


def answers_replace(o: Order, e: Outcome) -> bool:
    pending = o.requests.replace
    return pending is not None and pending.effect == e.effect
