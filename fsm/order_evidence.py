"""The rules for what the venue reports of an order by itself: accepted, filled, cancelled, busted and the like.

Evidence in the strict sense: the venue's word about a fact, which may come twice, late, or in any order. The table that says which rule
applies when stands in ``order_rules.py``. The hazards and the issues of other systems that a rule answers are named at the rule.
"""

import attrs
from immutables import Map

from ..effects import Notional, Price, Qty
from .events import (
    DUPLICATE_CLIENT_ID,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderHalted,
    OrderRejected,
    OrderReplaced,
    Outcome,
    ReplaceRejected,
    TradeBusted,
    TradeCorrected,
)
from .instrument import cost_of
from .order import Ended, Fills, Order, Replacement, Requests, Trade, in_doubt, is_done, with_requests
from .order_change import (
    Change,
    Note,
    Notes,
    Times,
    alive,
    answered,
    answers_replace,
    end,
    fill_notes,
    overtaken,
    reported,
    resized,
    wanted,
    with_fills,
)

_NO = Ended.NO
_NONE: Notes = ()


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
    after = alive(o, e.venue_id)
    return after, wanted(after)


def accept_again(o: Order, e: OrderAccepted, t: Times) -> Change:
    """Live already, by a report that named no venue id perhaps."""
    return (o, (Note.DUPLICATE,)) if o.venue_id or not e.venue_id else (alive(o, e.venue_id), _NONE)


def resurrect(o: Order, e: object, t: Times) -> Change:
    """A sign of life from an order that was refused. It stays ended for us; whatever lives there is cancelled, and no scope with it counts
    as proven empty."""
    return o, (Note.RESURRECTED,)


def reject(o: Order, e: OrderRejected, t: Times) -> Change:
    """The order never was, unless the reason is that its id exists: then *an* order with it may live (nautilus_trader#4215)."""
    if e.reason == DUPLICATE_CLIENT_ID:
        return answered(overtaken(o)[0], t.now_ns), (Note.CONTRADICTION, Note.ASK)
    return end(o, Ended.REJECTED, o.accepted), _NONE


def contradict(o: Order, e: object, t: Times) -> Change:
    """Evidence against evidence, such as a reject of a live order. The venue is asked, and anew if a question is under way, since its
    answer may be older than this. Until then the order stays as it was."""
    return in_doubt(overtaken(o)[0], t.now_ns), (Note.CONTRADICTION, Note.ASK)


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
    cost = Notional(f.traded_cost + cost_of(o.spec.inverse, e.last_qty, e.last_price))
    live = o if o.accepted and not o.requests.not_found else alive(o, e.venue_id)
    after = with_fills(live, Fills(traded, cost, f.reported, f.reported_cost, max(traded, f.seen), trades))
    if e.cum_qty > traded:
        after = reported(after, e.cum_qty, None)
    notes = fill_notes(o, after)
    return after, notes if o.accepted else (*notes, *wanted(after))


def fill_refused(o: Order, e: OrderFilled, t: Times) -> Change:
    """A fill beats a reject (nautilus_trader#4958): booked, and what may be left of the order is cancelled."""
    after, notes = fill(o, e, t)
    return after, (*notes, Note.RESURRECTED) if Note.LATE_FILL in notes else notes


def cancelled(o: Order, e: OrderCancelled, t: Times) -> Change:
    """Ended, whoever asked for it."""
    after = reported(o, e.cum_qty, None)
    return end(after, Ended.CANCELLED, True), fill_notes(o, after)


def expired(o: Order, e: OrderExpired, t: Times) -> Change:
    """Ended by its own terms."""
    after = reported(o, e.cum_qty, None)
    return end(after, Ended.EXPIRED, True), fill_notes(o, after)


def end_again(o: Order, e: OrderCancelled | OrderExpired, t: Times) -> Change:
    """Ended already; a larger total in the report is a late fill all the same."""
    after = reported(o, e.cum_qty, None)
    return after, fill_notes(o, after) or (Note.DUPLICATE,)


def halted(o: Order, e: OrderHalted, t: Times) -> Change:
    """Rests without matching, or does so no longer. It stays open: it may be resumed."""
    if o.halt is e.halt and o.accepted:
        return o, (Note.DUPLICATE,)
    a = alive(o, "")
    return Order(a.key, a.spec, a.venue_id, a.qty, a.price, a.reserve, True, a.triggered, e.halt, a.ended, a.fills, a.requests), wanted(a)


def replaced(o: Order, e: OrderReplaced, t: Times) -> Change:
    """Changed as we asked. A change we did not ask for counts as pending, at its worst case, until the venue confirms it."""
    if e.qty <= 0 or (e.price is not None and e.price <= 0):
        return o, (Note.INVALID,)
    pending = o.requests.replace
    # Asked for less than is filled, the venue says what is filled (FIX: then it is Filled).
    if pending is not None and max(pending.qty, o.cum_qty) == max(e.qty, o.cum_qty) and pending.price == e.price:
        after, notes = overtaken(resized(o, e.qty, e.price, e.venue_id))
        return after, (*notes, *wanted(after))
    if e.qty == o.qty and e.price == o.price:
        return o, (Note.DUPLICATE,)
    r = o.requests
    worst = Replacement(None, e.qty, e.price)
    if pending is not None and not pending.claiming:
        reserve = _worse(e.price, pending.reserve) if pending.reserve is not None else None
        worst = Replacement(None, max(e.qty, pending.qty), _worse(e.price, pending.price), reserve, pending.claim)
    requests = attrs.evolve(r, place=None, replace=worst, query=None)
    return in_doubt(with_requests(alive(o, e.venue_id), requests), t.now_ns), (Note.CONTRADICTION, Note.ASK)


def _worse(a: Price | None, b: Price | None) -> Price | None:
    return a if b is None else b if a is None else max(a, b)


def cancel_refused(o: Order, e: object, t: Times) -> Change:
    """A refused cancel says nothing of the order: it may be filled, gone, or live (Binance -2011 is given for each). It is asked for."""
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
    if isinstance(e, Outcome) and not answers_replace(o, e):
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
            after, _ = overtaken(with_fills(o, Fills(f.traded, f.traded_cost, Qty(0), Notional(0), f.seen, trades)))
            return after, (Note.UNKNOWN_TRADE, Note.ASK)
        after, notes = overtaken(with_fills(o, Fills(f.traded, f.traded_cost, f.reported, f.reported_cost, f.seen, trades)))
        return after, (Note.UNKNOWN_TRADE, *notes)
    trades = f.trades.set(e.trade_id, Trade(Qty(0), known.price, True))
    after, notes = overtaken(with_fills(o, _moved(f, -known.qty, -cost_of(o.spec.inverse, known.qty, known.price), trades)))
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
        cost = Notional(f.traded_cost + cost_of(o.spec.inverse, e.qty, e.price))
        fills = Fills(traded, cost, f.reported, f.reported_cost, max(traded, f.seen), trades)
        after = with_fills(o if o.accepted else alive(o, ""), fills)
        return after, (Note.UNKNOWN_TRADE, *fill_notes(o, after))
    dearer = cost_of(o.spec.inverse, e.qty, e.price) - cost_of(o.spec.inverse, known.qty, known.price)
    after, notes = overtaken(with_fills(o, _moved(f, e.qty - known.qty, dearer, trades)))
    return after, (*fill_notes(o, after), *(notes or _reopened(o, after)))


def _reopened(before: Order, after: Order) -> Notes:
    """An order that was full at its size and is no longer may have long left the venue's book: it is asked for, or it would count for ever.
    A replace that is under way makes no difference: the venue refuses it then."""
    full = before.ended is _NO and before.cum_qty >= before.qty
    return (Note.ASK,) if full and not is_done(after) else _NONE


def _moved(f: Fills, qty: int, cost: int, trades: Map[str, Trade]) -> Fills:
    """Both witnesses take a bust or correction over; the venue's total is not reported anew for it."""
    reported = Qty(max(0, f.reported + qty)) if f.reported else f.reported
    reported_cost = Notional(max(0, f.reported_cost + cost)) if f.reported else f.reported_cost
    traded = Qty(f.traded + qty)
    return Fills(traded, Notional(f.traded_cost + cost), reported, reported_cost, max(traded, reported, f.seen), trades)
