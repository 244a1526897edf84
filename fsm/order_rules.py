"""The rules by which reports change an order: one table, every pair of report and phase present.

``TABLE`` holds one row per kind of report and one column per phase, every pair present. A phase is the coarsest summary of
the facts that the rules need:

=========== ===================================================================
PENDING_NEW sent, nothing heard
UNKNOWN     the placing request is in doubt: the order may or may not exist
WORKING     accepted, something is left that may fill
FILLED      nothing is left
CANCELLED   ended by evidence (which may still be followed by late fills)
EXPIRED     as CANCELLED
REJECTED    refused, or never arrived
=========== ===================================================================

A rule is a function ``(order, report, times) -> (order, notes)``. It does not act: its *notes* say what the outcome calls
for (a question, a cancel, an alert), and the caller turns them into effects. What the notes mean stands beside ``Note``.

The hazards and the issues of other systems that a rule answers are named at the rule.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeAlias

import attrs
from attrs import frozen
from immutables import Map

from ..effects import Notional, OrdType, Price, Qty
from .events import (
    DUPLICATE_CLIENT_ID,
    CancelRejected,
    Evidence,
    Found,
    Halt,
    NotFound,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderHalted,
    OrderQueried,
    OrderRejected,
    OrderReplaced,
    OrderRow,
    Outcome,
    OutcomeKind,
    ReplaceOrder,
    ReplaceRejected,
    ReportStatus,
    TradeBusted,
    TradeCorrected,
    Verb,
)
from .order import (
    NO_REQUESTS,
    Ended,
    Fills,
    Order,
    Replacement,
    Requests,
    Trade,
    in_doubt,
    is_done,
    phase,
    with_requests,
)

#: How often "not found" must be heard of an order that was once accepted before it counts as gone (hummingbot#2679: without a bound
#: a bot cancels an order that no longer exists for ever; with a bound of one, an outage closes live orders, hummingbot#8457).
GONE_AFTER = 3


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
    RESURRECTED = "resurrected"  # sign of life from an order that was refused: cancel it
    GONE = "gone"  # the venue no longer knows an order it had accepted: closed, fills uncertain
    NEVER_ARRIVED = "never_arrived"  # the venue never got the order, and now cannot any more
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


def _with_fills(o: Order, fills: Fills) -> Order:
    return Order(o.key, o.spec, o.venue_id, o.qty, o.price, o.reserve, o.accepted, o.triggered, o.halt, o.ended, fills, o.requests)


def _alive(o: Order, venue_id: str) -> Order:
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


def _end(o: Order, ended: Ended, accepted: bool) -> Order:
    return Order(o.key, o.spec, o.venue_id, o.qty, o.price, o.reserve, accepted, o.triggered, Halt.NONE, ended, o.fills, NO_REQUESTS)


def _resized(o: Order, qty: Qty, price: Price | None, venue_id: str) -> Order:
    """The order as replaced. Below what is filled, the filled quantity is the order's (FIX: then it is Filled)."""
    r = o.requests
    requests = attrs.evolve(r, place=None, replace=None, attempt=0, not_found=0)
    reserve = price if price is not None else o.reserve
    size = max(qty, o.cum_qty)
    return Order(o.key, o.spec, venue_id or o.venue_id, size, price, reserve, True, o.triggered, o.halt, o.ended, o.fills, requests)


def _reported(o: Order, cum_qty: Qty, avg_price: Price | None, asked: bool = False) -> Order:
    """The venue's running total, by the max rule. Without an average price the gap is valued at the order's own. A total that was seen
    before says nothing new, unless we asked: it may be a late copy from before a bust."""
    f = o.fills
    if cum_qty <= f.reported or cum_qty <= f.traded or (cum_qty <= f.seen and not asked):
        return o
    if avg_price is not None:
        cost = cum_qty * avg_price
    else:
        cost = f.cost + (cum_qty - f.cum_qty) * (o.price if o.price is not None else o.reserve)
    return _with_fills(o, Fills(f.traded, f.traded_cost, cum_qty, Notional(cost), max(cum_qty, f.seen), f.trades))


def _in_book(o: Order, row: OrderRow) -> Order:
    """A stop that the venue shows in the regular book has triggered, and is to be asked for and cancelled there."""
    if o.triggered or row.conditional or not o.spec.conditional:
        return o
    return attrs.evolve(o, triggered=True)


def _fill_notes(before: Order, after: Order) -> Notes:
    """Alerts due when the filled quantity has grown."""
    if after.cum_qty <= before.cum_qty:
        return _NONE
    notes: Notes = (Note.LATE_FILL,) if before.ended is not _NO else _NONE
    return (*notes, Note.OVERFILL) if after.cum_qty > after.qty else notes


def _overtaken(o: Order) -> Change:
    """A change that takes something back, such as a smaller size or a void trade, may be younger than the answer to a question that is
    under way. That answer would undo it; so the question is forgotten and put anew."""
    r = o.requests
    if r.query is None:
        return o, _NONE
    requests = attrs.evolve(r, query=None, asked_ns=0)
    return with_requests(o, requests), (Note.ASK,)


def _wanted(o: Order) -> Notes:
    """A cancel that waited for the order to be live goes out now."""
    r = o.requests
    return (Note.CANCEL,) if r.cancel_wanted and r.cancel is None and not is_done(o) else _NONE


# --- rules: reports of the venue --------------------------------------------------------------------------------------


def ignore(o: Order, e: object, t: Times) -> Change:
    """Nothing to learn, nothing to say."""
    return o, _NONE


def stale(o: Order, e: object, t: Times) -> Change:
    """Overtaken by later evidence. A late "open" never reopens an order (barter-rs#206)."""
    return o, (Note.STALE,)


def again(o: Order, e: object, t: Times) -> Change:
    """Known already."""
    return o, (Note.DUPLICATE,)


def accept(o: Order, e: OrderAccepted, t: Times) -> Change:
    """The order is live."""
    after = _alive(o, e.venue_id)
    return after, _wanted(after)


def accept_again(o: Order, e: OrderAccepted, t: Times) -> Change:
    """Live already, by a report that named no venue id perhaps."""
    return (o, (Note.DUPLICATE,)) if o.venue_id or not e.venue_id else (_alive(o, e.venue_id), _NONE)


def resurrect(o: Order, e: object, t: Times) -> Change:
    """A sign of life from an order that was refused. It stays ended for us, so whatever lives there is cancelled."""
    return o, (Note.RESURRECTED,)


def reject(o: Order, e: OrderRejected, t: Times) -> Change:
    """The order never was, unless the reason is that its id exists: then *an* order with it may live (nautilus_trader#4215)."""
    if e.reason == DUPLICATE_CLIENT_ID:
        return _answered(_overtaken(o)[0], t.now_ns), (Note.CONTRADICTION, Note.ASK)
    return _end(o, Ended.REJECTED, o.accepted), _NONE


def contradict(o: Order, e: object, t: Times) -> Change:
    """Evidence against evidence, such as a reject of a live order. The venue is asked, and anew if a question is under way, since its
    answer may be older than this. Until then the order stays as it was."""
    return in_doubt(_overtaken(o)[0], t.now_ns), (Note.CONTRADICTION, Note.ASK)


def fill(o: Order, e: OrderFilled, t: Times) -> Change:
    """A trade, counted once by its id, in every phase: a fill is a fact also after a cancel, an expiry or a refusal."""
    f = o.fills
    if e.last_qty <= 0 or e.last_price <= 0 or e.cum_qty < 0:
        return o, (Note.INVALID,)
    known = f.trades.get(e.trade_id)
    if known is not None:
        same = known.busted or (known.qty == e.last_qty and known.price == e.last_price)
        return o, (Note.DUPLICATE,) if same else (Note.TRADE_MISMATCH,)
    trades = f.trades.set(e.trade_id, Trade(e.last_qty, e.last_price, False))
    traded = Qty(f.traded + e.last_qty)
    cost = Notional(f.traded_cost + e.last_qty * e.last_price)
    live = o if o.accepted and not o.requests.not_found else _alive(o, e.venue_id)
    after = _with_fills(live, Fills(traded, cost, f.reported, f.reported_cost, max(traded, f.seen), trades))
    if e.cum_qty > traded:
        after = _reported(after, e.cum_qty, None)
    notes = _fill_notes(o, after)
    return after, notes if o.accepted else (*notes, *_wanted(after))


def fill_refused(o: Order, e: OrderFilled, t: Times) -> Change:
    """A fill beats a reject (nautilus_trader#4958): booked, and what may be left of the order is cancelled."""
    after, notes = fill(o, e, t)
    return after, (*notes, Note.RESURRECTED) if Note.LATE_FILL in notes else notes


def cancelled(o: Order, e: OrderCancelled, t: Times) -> Change:
    """Ended, whoever asked for it."""
    after = _reported(o, e.cum_qty, None)
    return _end(after, Ended.CANCELLED, True), _fill_notes(o, after)


def expired(o: Order, e: OrderExpired, t: Times) -> Change:
    """Ended by its own terms."""
    after = _reported(o, e.cum_qty, None)
    return _end(after, Ended.EXPIRED, True), _fill_notes(o, after)


def end_again(o: Order, e: OrderCancelled | OrderExpired, t: Times) -> Change:
    """Ended already; a larger total in the report is a late fill all the same."""
    after = _reported(o, e.cum_qty, None)
    return after, _fill_notes(o, after) or (Note.DUPLICATE,)


def halted(o: Order, e: OrderHalted, t: Times) -> Change:
    """Rests without matching, or does so no longer. It stays open: it may be resumed."""
    if o.halt is e.halt and o.accepted:
        return o, (Note.DUPLICATE,)
    a = _alive(o, "")
    return Order(a.key, a.spec, a.venue_id, a.qty, a.price, a.reserve, True, a.triggered, e.halt, a.ended, a.fills, a.requests), _wanted(a)


def replaced(o: Order, e: OrderReplaced, t: Times) -> Change:
    """Changed as we asked. A change we did not ask for counts as pending, at its worst case, until the venue confirms it."""
    if e.qty <= 0 or (e.price is not None and e.price <= 0):
        return o, (Note.INVALID,)
    pending = o.requests.replace
    if pending is not None and pending.qty == e.qty and pending.price == e.price:
        after, notes = _overtaken(_resized(o, e.qty, e.price, e.venue_id))
        return after, (*notes, *_wanted(after))
    if e.qty == o.qty and e.price == o.price:
        return o, (Note.DUPLICATE,)
    r = o.requests
    worst = Replacement(None, Qty(max(e.qty, pending.qty if pending else 0)), _worse(e.price, pending.price if pending else None))
    requests = attrs.evolve(r, place=None, replace=worst, query=None)
    return in_doubt(with_requests(_alive(o, e.venue_id), requests), t.now_ns), (Note.CONTRADICTION, Note.ASK)


def _worse(a: Price | None, b: Price | None) -> Price | None:
    return a if b is None else b if a is None else max(a, b)


def cancel_refused(o: Order, e: object, t: Times) -> Change:
    """A refused cancel says nothing of the order: it may be filled, gone, or live. It is asked for (venue-pitfalls section 6)."""
    r = o.requests
    requests = attrs.evolve(r, cancel=None, attempt=r.attempt + 1)
    after = with_requests(o, requests)
    # While the placing request has no outcome the refusal may only mean "not yet here"; that outcome decides.
    return (after, _NONE) if r.place is not None else (in_doubt(after, t.now_ns), (Note.ASK,))


def cancel_moot(o: Order, e: object, t: Times) -> Change:
    """The cancel lost against the last fill: the pending flag falls, and the status is what the facts imply."""
    r = o.requests
    if r.cancel is None and not r.cancel_wanted:
        return o, _NONE
    return with_requests(o, Requests(None, None, False, r.replace)), _NONE


def replace_refused(o: Order, e: Outcome | ReplaceRejected, t: Times) -> Change:
    """The order stays as it was. A reply that comes after the stream's word for it must not end the next replace."""
    r = o.requests
    if isinstance(e, Outcome) and not _answers_replace(o, e):
        return o, _NONE
    requests = attrs.evolve(r, replace=None)
    return with_requests(o, requests), _NONE


def bust(o: Order, e: TradeBusted, t: Times) -> Change:
    """A trade is void: the totals fall, and a filled order may be open again (FIX Trade Cancel)."""
    f = o.fills
    known = f.trades.get(e.trade_id)
    if known is not None and known.busted:
        return o, (Note.DUPLICATE,)
    if known is None:
        trades = f.trades.set(e.trade_id, Trade(Qty(0), Price(0), True))
        if f.reported > f.traded and o.ended is _NO:
            # The venue's total may hold it, and how much of it is not said: only the trades count until the venue has been asked.
            after, _ = _overtaken(_with_fills(o, Fills(f.traded, f.traded_cost, Qty(0), Notional(0), f.seen, trades)))
            return after, (Note.UNKNOWN_TRADE, Note.ASK)
        after, notes = _overtaken(_with_fills(o, Fills(f.traded, f.traded_cost, f.reported, f.reported_cost, f.seen, trades)))
        return after, (Note.UNKNOWN_TRADE, *notes)
    trades = f.trades.set(e.trade_id, Trade(Qty(0), known.price, True))
    after, notes = _overtaken(_with_fills(o, _moved(f, -known.qty, -known.qty * known.price, trades)))
    return after, notes or _reopened(o, after)


def correct(o: Order, e: TradeCorrected, t: Times) -> Change:
    """A trade has other figures (FIX Trade Correct). A correction of a trade never seen is the trade itself."""
    f = o.fills
    if e.qty <= 0 or e.price <= 0:
        return o, (Note.INVALID,)
    known = f.trades.get(e.trade_id)
    if known is not None and (known.busted or (known.qty == e.qty and known.price == e.price)):
        return o, (Note.DUPLICATE,)
    trades = f.trades.set(e.trade_id, Trade(e.qty, e.price, False))
    if known is None:
        traded = Qty(f.traded + e.qty)
        fills = Fills(traded, Notional(f.traded_cost + e.qty * e.price), f.reported, f.reported_cost, max(traded, f.seen), trades)
        after = _with_fills(o if o.accepted else _alive(o, ""), fills)
        return after, (Note.UNKNOWN_TRADE, *_fill_notes(o, after))
    after, notes = _overtaken(_with_fills(o, _moved(f, e.qty - known.qty, e.qty * e.price - known.qty * known.price, trades)))
    return after, (*_fill_notes(o, after), *(notes or _reopened(o, after)))


def _reopened(before: Order, after: Order) -> Notes:
    """An order that counts as open again may have long left the venue's book: it is asked for, or it would count for ever."""
    return (Note.ASK,) if is_done(before) and not is_done(after) else _NONE


def _moved(f: Fills, qty: int, cost: int, trades: Map[str, Trade]) -> Fills:
    """Both witnesses take a bust or correction over; the venue's total is not reported anew for it."""
    reported = Qty(max(0, f.reported + qty)) if f.reported else f.reported
    reported_cost = Notional(max(0, f.reported_cost + cost)) if f.reported else f.reported_cost
    traded = Qty(f.traded + qty)
    return Fills(traded, Notional(f.traded_cost + cost), reported, reported_cost, max(traded, reported, f.seen), trades)


# --- rules: what came of our requests -------------------------------------------------------------------------------


def _answered(o: Order, now_ns: int) -> Order:
    """The placing request is no longer on our side, and what became of it is unknown from now on."""
    requests = attrs.evolve(o.requests, place=None, doubt_ns=now_ns)
    return with_requests(o, requests)


def _answers_replace(o: Order, e: Outcome) -> bool:
    pending = o.requests.replace
    return pending is not None and pending.effect == e.effect


def placed(o: Order, e: Outcome, t: Times) -> Change:
    """Acknowledged, which at some venues means "will be looked at" (Bybit): the order is live only on evidence."""
    r = o.requests
    requests = attrs.evolve(r, place=None, doubt_ns=t.now_ns if r.doubt_ns else 0)
    return with_requests(o, requests), (Note.EXPECT,)


def place_refused(o: Order, e: Outcome, t: Times) -> Change:
    """Certainly not applied: the order never was. A duplicate id is no such certainty."""
    if e.code == DUPLICATE_CLIENT_ID:
        return _answered(_overtaken(o)[0], t.now_ns), (Note.CONTRADICTION, Note.ASK)
    return _end(o, Ended.REJECTED, False), _NONE


def place_doubt(o: Order, e: Outcome, t: Times) -> Change:
    """No word whether the order was placed: never sent again, asked for instead (ccxt#2599, hummingbot#493)."""
    return _answered(o, t.now_ns), (Note.ASK,)


def cancel_doubt(o: Order, e: Outcome, t: Times) -> Change:
    """No word whether the cancel was applied. The placing request may still be on our side: its own outcome will come."""
    return in_doubt(o, t.now_ns), (Note.ASK,)


def replace_doubt(o: Order, e: Outcome, t: Times) -> Change:
    """No word whether the change was applied: both versions count until the order has been seen."""
    return (_replace_left(o, t.now_ns), (Note.ASK,)) if _answers_replace(o, e) else (o, _NONE)


def replace_expect(o: Order, e: Outcome, t: Times) -> Change:
    """Acknowledged; the report is due."""
    if not _answers_replace(o, e):
        return o, _NONE
    return _replace_left(o, t.now_ns if o.requests.doubt_ns else 0), (Note.EXPECT,)


def _replace_left(o: Order, doubt_ns: int) -> Order:
    """The replace is no longer on our side; doubt about it counts from then."""
    pending = o.requests.replace
    assert pending is not None
    requests = attrs.evolve(o.requests, replace=Replacement(None, pending.qty, pending.price), doubt_ns=doubt_ns)
    return with_requests(o, requests)


def expect(o: Order, e: object, t: Times) -> Change:
    """Acknowledged; the report is due."""
    return o, (Note.EXPECT,)


def cancel_unavailable(o: Order, e: Outcome, t: Times) -> Change:
    """Certainly not applied: the cancel is not pending, and is tried again if somebody still wants it."""
    r = o.requests
    requests = attrs.evolve(r, cancel=None, attempt=r.attempt + 1)
    return with_requests(o, requests), (Note.RETRY,) if r.cancel_wanted else _NONE


# --- rules: what the venue says when asked ----------------------------------------------------------------------------


def listed(o: Order, row: OrderRow, t: Times) -> Change:
    """A row in a list of open orders: it exists, in that book. The list may be a little old, so only what grows is taken from it."""
    live = o if o.accepted and not o.requests.not_found else _alive(o, row.venue_id)
    after = _reported(live, row.cum_qty, row.avg_price)
    after = _in_book(after, row)
    return after, (*_fill_notes(o, after), *(() if o.accepted else _wanted(after)))


def found_open(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and open: doubts about place and cancel are settled; a replace only once it has shown or can no longer arrive."""
    r = o.requests
    pending = r.replace
    after = _in_book(_reported(o, row.cum_qty, row.avg_price, asked=True), row)
    notes = _fill_notes(o, after)
    price = row.price if row.price is not None and row.price > 0 else o.price  # a venue that does not say has not changed it
    differs = row.qty > 0 and (row.qty != o.qty or price != o.price) and o.spec.type is not OrdType.MARKET
    landed = pending is None or (row.qty == pending.qty and row.price == pending.price)
    left = pending is not None and pending.effect is None and r.doubt_ns != 0
    settled = landed or (left and r.asked_ns >= r.doubt_ns + t.expiry_ns)
    if r.doubt_ns and not settled:
        requests = attrs.evolve(r, place=None, cancel=None, replace=pending, query=None, asked_ns=0, attempt=r.attempt + 1, not_found=0)
        return with_requests(_alive(after, row.venue_id), requests), (*notes, Note.RETRY)
    keep = pending if not settled else None
    requests = attrs.evolve(r, place=None, cancel=None, replace=keep, query=None, asked_ns=0, doubt_ns=0, not_found=0)
    after = with_requests(_alive(after, row.venue_id), requests)
    if keep is None and differs:
        after = _resized(after, row.qty, price, row.venue_id)
    return after, (*notes, Note.RETRY) if r.cancel_wanted else notes


def found_filled(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and filled. A venue that names no total means the whole quantity; if it names less, that is the order's quantity now."""
    after = _reported(_alive(o, row.venue_id), row.cum_qty if row.cum_qty > 0 else o.qty, row.avg_price, asked=True)
    notes = _fill_notes(o, after)
    return _resized(with_requests(after, NO_REQUESTS), after.cum_qty, after.price, row.venue_id), notes


def found_cancelled(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and cancelled."""
    after = _reported(o, row.cum_qty, row.avg_price, asked=True)
    return _end(after, Ended.CANCELLED, True), _fill_notes(o, after)


def found_expired(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and expired."""
    after = _reported(o, row.cum_qty, row.avg_price, asked=True)
    return _end(after, Ended.EXPIRED, True), _fill_notes(o, after)


def found_rejected(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and refused."""
    after = _reported(o, row.cum_qty, row.avg_price, asked=True)
    return _end(after, Ended.REJECTED, o.accepted), _fill_notes(o, after)


def found_late(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for, and ended meanwhile: only the total can still tell something."""
    after = _reported(o, row.cum_qty, row.avg_price, asked=True)
    return after, _fill_notes(o, after)


def found_alive(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and open, though it was refused: as ``resurrect``."""
    after = _reported(o, row.cum_qty, row.avg_price, asked=True)
    return after, (*_fill_notes(o, after), Note.RESURRECTED)


def not_found(o: Order, e: OrderQueried, t: Times) -> Change:
    """The venue does not know the order. Evidence only if the request could no longer arrive when we asked (hummingbot#601); an order
    that was once accepted must be missed several times, and its fills stay uncertain."""
    r = o.requests
    times = r.not_found + 1
    # Until its outcome the request may still wait in a queue on our side; then it was on its way at the moment of doubt at the latest.
    settled = r.place is None and r.doubt_ns != 0 and r.asked_ns >= r.doubt_ns + t.expiry_ns
    if settled and not o.accepted:
        return _end(o, Ended.REJECTED, False), (Note.NEVER_ARRIVED,)
    if settled and times >= GONE_AFTER:
        return _end(o, Ended.CANCELLED, True), (Note.GONE,)
    since = r.doubt_ns or t.now_ns
    requests = attrs.evolve(r, query=None, asked_ns=0, doubt_ns=since, attempt=r.attempt + 1, not_found=times)
    return with_requests(o, requests), (Note.RETRY,)


def unanswered(o: Order, e: OrderQueried, t: Times) -> Change:
    """The question failed, which says nothing at all of the order (hummingbot#8457, nautilus_trader#4230). Ask again."""
    r = o.requests
    requests = attrs.evolve(r, query=None, asked_ns=0, attempt=r.attempt + 1)
    return with_requests(o, requests), (Note.RETRY,)


# --- rules: commands ------------------------------------------------------------------------------------------------


def want_cancel(o: Order, e: object, t: Times) -> Change:
    """Wanted until it has ended, also before the acknowledgement of the place."""
    r = o.requests
    if r.cancel is not None:
        return o, (Note.CANCEL_PENDING,)
    requests = attrs.evolve(r, cancel=None, cancel_wanted=True)
    return with_requests(o, requests), (Note.CANCEL,)


def want_replace(o: Order, e: ReplaceOrder, t: Times) -> Change:
    """One replace at a time, none while a cancel is under way. Passing the gate is the caller's matter."""
    r = o.requests
    if r.cancel is not None or r.cancel_wanted:
        return o, (Note.CANCEL_PENDING,)
    return o, (Note.REPLACE_PENDING,) if r.replace is not None else _NONE


def refuse(o: Order, e: object, t: Times) -> Change:
    """The command does not fit the order."""
    return o, (Note.NOT_WORKING,)


def restart(o: Order, e: object, t: Times) -> Change:
    """The process that knew what was under way is gone: every request without an outcome is in doubt; the core asks."""
    r = o.requests
    unsure = r.place is not None or r.cancel is not None or r.replace is not None or r.doubt_ns != 0 or not o.accepted
    pending = None if r.replace is None else Replacement(None, r.replace.qty, r.replace.price)
    requests = Requests(None, r.cancel, r.cancel_wanted, pending, None, 0, t.now_ns if unsure else 0)
    notes: Notes = (Note.ASK,) if unsure else (Note.RETRY,) if r.cancel_wanted else _NONE
    return with_requests(o, requests), notes


# --- the table --------------------------------------------------------------------------------------------------------

#: One row per kind of report, one column per phase. Generated into ``spec/tables.md``.
TABLE: dict[str, tuple[Rule, Rule, Rule, Rule, Rule, Rule, Rule]] = {
    #                        PENDING_NEW         UNKNOWN             WORKING             FILLED           CANCELLED      EXPIRED        REJECTED
    "accepted":             (accept,             accept,             accept_again,       accept_again,    stale,         stale,         resurrect),
    "rejected":             (reject,             reject,             contradict,         stale,           stale,         stale,         again),
    "filled":               (fill,               fill,               fill,               fill,            fill,          fill,          fill_refused),
    "cancelled":            (cancelled,          cancelled,          cancelled,          stale,           end_again,     end_again,     stale),
    "expired":              (expired,            expired,            expired,            stale,           end_again,     end_again,     stale),
    "halted":               (halted,             halted,             halted,             stale,           stale,         stale,         resurrect),
    "replaced":             (replaced,           replaced,           replaced,           replaced,        stale,         stale,         resurrect),
    "cancel_rejected":      (cancel_refused,     cancel_refused,     cancel_refused,     cancel_moot,     ignore,        ignore,        ignore),
    "replace_rejected":     (replace_refused,    replace_refused,    replace_refused,    replace_refused, ignore,        ignore,        ignore),
    "busted":               (bust,               bust,               bust,               bust,            bust,          bust,          bust),
    "corrected":            (correct,            correct,            correct,            correct,         correct,       correct,       correct),
    "place_acknowledged":   (placed,             placed,             ignore,             ignore,          ignore,        ignore,        ignore),
    "place_refused":        (place_refused,      place_refused,      contradict,         stale,           stale,         stale,         ignore),
    "place_unavailable":    (place_refused,      place_refused,      contradict,         stale,           stale,         stale,         ignore),
    "place_in_doubt":       (place_doubt,        place_doubt,        ignore,             ignore,          ignore,        ignore,        ignore),
    "cancel_acknowledged":  (expect,             expect,             expect,             ignore,          ignore,        ignore,        ignore),
    "cancel_refused":       (cancel_refused,     cancel_refused,     cancel_refused,     cancel_moot,     ignore,        ignore,        ignore),
    "cancel_unavailable":   (cancel_unavailable, cancel_unavailable, cancel_unavailable, cancel_moot,     ignore,        ignore,        ignore),
    "cancel_in_doubt":      (cancel_doubt,       cancel_doubt,       cancel_doubt,       ignore,          ignore,        ignore,        ignore),
    "replace_acknowledged": (replace_expect,     replace_expect,     replace_expect,     ignore,          ignore,        ignore,        ignore),
    "replace_refused":      (replace_refused,    replace_refused,    replace_refused,    replace_refused, ignore,        ignore,        ignore),
    "replace_unavailable":  (replace_refused,    replace_refused,    replace_refused,    replace_refused, ignore,        ignore,        ignore),
    "replace_in_doubt":     (replace_doubt,      replace_doubt,      replace_doubt,      ignore,          ignore,        ignore,        ignore),
    "listed":               (listed,             listed,             listed,             stale,           stale,         stale,         stale),
    "found_open":           (found_open,         found_open,         found_open,         found_late,      found_late,    found_late,    found_alive),
    "found_filled":         (found_filled,       found_filled,       found_filled,       found_late,      found_late,    found_late,    found_late),
    "found_cancelled":      (found_cancelled,    found_cancelled,    found_cancelled,    found_late,      found_late,    found_late,    found_late),
    "found_expired":        (found_expired,      found_expired,      found_expired,      found_late,      found_late,    found_late,    found_late),
    "found_rejected":       (found_rejected,     found_rejected,     found_rejected,     found_late,      found_late,    found_late,    found_late),
    "not_found":            (not_found,          not_found,          not_found,          ignore,          ignore,        ignore,        ignore),
    "unanswered":           (unanswered,         unanswered,         unanswered,         ignore,          ignore,        ignore,        ignore),
    "want_cancel":          (want_cancel,        want_cancel,        want_cancel,        refuse,          refuse,        refuse,        refuse),
    "want_replace":         (refuse,             refuse,             want_replace,       refuse,          refuse,        refuse,        refuse),
    "restart":              (restart,            restart,            restart,            ignore,          ignore,        ignore,        ignore),
}  # fmt: skip

_EVIDENCE_KINDS: dict[type[Evidence], str] = {
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderFilled: "filled",
    OrderCancelled: "cancelled",
    OrderExpired: "expired",
    OrderHalted: "halted",
    OrderReplaced: "replaced",
    CancelRejected: "cancel_rejected",
    ReplaceRejected: "replace_rejected",
    TradeBusted: "busted",
    TradeCorrected: "corrected",
}
_FOUND_KINDS = {status: f"found_{status.value}" for status in ReportStatus}
_OUTCOME_KINDS = {
    (verb, kind): f"{verb.value}_{kind.value}" for verb in (Verb.PLACE, Verb.CANCEL, Verb.REPLACE) for kind in OutcomeKind
}


def kind_of(event: Evidence | Outcome | OrderQueried) -> str:
    """The row of ``TABLE`` that the report belongs to."""
    if isinstance(event, Outcome):
        return _OUTCOME_KINDS[event.verb, event.kind]
    if isinstance(event, OrderQueried):
        if isinstance(event.result, Found):
            return _FOUND_KINDS[event.result.row.status]
        return "not_found" if isinstance(event.result, NotFound) else "unanswered"
    return _EVIDENCE_KINDS[type(event)]


def apply(order: Order, kind: str, report: object, times: Times) -> Change:
    """What the rule of this kind makes of the order."""
    return TABLE[kind][phase(order)](order, report, times)
