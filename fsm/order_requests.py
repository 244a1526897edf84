"""The rules for what comes of our own doing: the outcomes of requests, the answers to questions, commands, and a restart.

A request without an answer leaves its order in doubt, and only a question may follow. What a question brings is as old as the moment it was
asked, so each rule weighs when that was. The table that says which rule applies when stands in ``order_rules.py``.
"""



import attrs

from ..effects import OrdType
from .events import DUPLICATE_CLIENT_ID, GuardAnswer, OrderQueried, OrderRow, Outcome, ReplaceOrder
from .order import NO_REQUESTS, Ended, Order, Replacement, Requests, in_doubt, with_requests
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
    in_book,
    overtaken,
    reported,
    resized,
    wanted,
)

#: How often "not found" must be heard of an order that was once accepted before it counts as gone (hummingbot#2679: without a bound
#: a bot cancels an order that no longer exists for ever; with a bound of one, an outage closes live orders, hummingbot#8457).
GONE_AFTER = 3


_NO = Ended.NO
_NONE: Notes = ()


# --- rules: what came of our requests -------------------------------------------------------------------------------


def placed(o: Order, e: Outcome, t: Times) -> Change:
    """Acknowledged, which at some venues means "will be looked at" (Bybit): the order is live only on evidence."""
    r = o.requests
    requests = attrs.evolve(r, place=None, doubt_ns=t.now_ns if r.doubt_ns else 0)
    return with_requests(o, requests), (Note.EXPECT,)


def place_refused(o: Order, e: Outcome, t: Times) -> Change:
    """Certainly not applied: the order never was. A duplicate id is no such certainty."""
    if e.code == DUPLICATE_CLIENT_ID:
        return answered(overtaken(o)[0], t.now_ns), (Note.CONTRADICTION, Note.ASK)
    return end(o, Ended.REJECTED, False), _NONE


def place_unclaimed(o: Order, e: object, t: Times) -> Change:
    """The claim was not granted, or came too late: the place was never sent, so the order never was."""
    return (end(o, Ended.REJECTED, False), _NONE) if o.claiming else (o, _NONE)


def replace_unclaimed(o: Order, e: GuardAnswer, t: Times) -> Change:
    """The claim was not granted, or came too late: the replace was never sent, and the order stays as it was."""
    pending = o.requests.replace
    if pending is None or not pending.claiming or pending.claim != e.effect:
        return o, _NONE
    return with_requests(o, attrs.evolve(o.requests, replace=None)), _NONE


def place_doubt(o: Order, e: Outcome, t: Times) -> Change:
    """No word whether the order was placed: never sent again, asked for instead (ccxt#2599, hummingbot#493)."""
    return answered(o, t.now_ns), (Note.ASK,)


def cancel_doubt(o: Order, e: Outcome, t: Times) -> Change:
    """No word whether the cancel was applied. The placing request may still be on our side: its own outcome will come."""
    return in_doubt(o, t.now_ns), (Note.ASK,)


def replace_doubt(o: Order, e: Outcome, t: Times) -> Change:
    """No word whether the change was applied: both versions count until the order has been seen."""
    return (_replace_left(o, t.now_ns), (Note.ASK,)) if answers_replace(o, e) else (o, _NONE)


def replace_expect(o: Order, e: Outcome, t: Times) -> Change:
    """Acknowledged; the report is due."""
    if not answers_replace(o, e):
        return o, _NONE
    return _replace_left(o, t.now_ns if o.requests.doubt_ns else 0), (Note.EXPECT,)


def _replace_left(o: Order, doubt_ns: int) -> Order:
    """The replace is no longer on our side; doubt about it counts from then."""
    pending = o.requests.replace
    assert pending is not None
    left = Replacement(None, pending.qty, pending.price, pending.reserve, pending.claim)
    requests = attrs.evolve(o.requests, replace=left, doubt_ns=doubt_ns)
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
    live = o if o.accepted and not o.requests.not_found else alive(o, row.venue_id)
    after = reported(live, row.cum_qty, row.avg_price)
    after = in_book(after, row)
    return after, (*fill_notes(o, after), *(() if o.accepted else wanted(after)))


def found_open(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and open: doubts about place and cancel are settled; a replace only once it has shown or can no longer arrive."""
    r = o.requests
    pending = r.replace
    after = in_book(reported(o, row.cum_qty, row.avg_price, asked=True), row)
    notes = fill_notes(o, after)
    price = row.price if row.price is not None and row.price > 0 else o.price  # a venue that does not say has not changed it
    differs = row.qty > 0 and (row.qty != o.qty or price != o.price) and o.spec.type is not OrdType.MARKET
    landed = pending is None or (row.qty == pending.qty and row.price == pending.price)
    left = pending is not None and pending.effect is None and r.doubt_ns != 0
    settled = landed or (left and r.asked_ns >= r.doubt_ns + t.expiry_ns)
    if r.doubt_ns and not settled:
        requests = attrs.evolve(r, place=None, cancel=None, replace=pending, query=None, asked_ns=0, attempt=r.attempt + 1, not_found=0)
        return with_requests(alive(after, row.venue_id), requests), (*notes, Note.RETRY)
    keep = pending if not settled else None
    requests = attrs.evolve(r, place=None, cancel=None, replace=keep, query=None, asked_ns=0, doubt_ns=0, not_found=0)
    after = with_requests(alive(after, row.venue_id), requests)
    if keep is None and differs:
        after = resized(after, row.qty, price, row.venue_id, pending)
    return after, (*notes, Note.RETRY) if r.cancel_wanted else notes


def found_filled(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and filled. A venue that names no total means the whole quantity; if it names less, that is the order's quantity now."""
    after = reported(alive(o, row.venue_id), row.cum_qty if row.cum_qty > 0 else o.qty, row.avg_price, asked=True)
    notes = fill_notes(o, after)
    return resized(with_requests(after, NO_REQUESTS), after.cum_qty, after.price, row.venue_id), notes


def found_cancelled(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and cancelled."""
    after = reported(o, row.cum_qty, row.avg_price, asked=True)
    return end(after, Ended.CANCELLED, True), fill_notes(o, after)


def found_expired(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and expired."""
    after = reported(o, row.cum_qty, row.avg_price, asked=True)
    return end(after, Ended.EXPIRED, True), fill_notes(o, after)


def found_rejected(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for and refused."""
    after = reported(o, row.cum_qty, row.avg_price, asked=True)
    return end(after, Ended.REJECTED, o.accepted), fill_notes(o, after)


def found_late(o: Order, row: OrderRow, t: Times) -> Change:
    """Asked for, and ended meanwhile: only the total can still tell something."""
    after = reported(o, row.cum_qty, row.avg_price, asked=True)
    return after, fill_notes(o, after)


def found_alive(o: Order, row: OrderRow, t: Times) -> Change:
    """Found open, though it was refused: as ``resurrect``."""
    after = reported(o, row.cum_qty, row.avg_price, asked=True)
    return after, (*fill_notes(o, after), Note.RESURRECTED)


def not_found(o: Order, e: OrderQueried, t: Times) -> Change:
    """The venue does not know the order. Evidence only if the request could no longer arrive when we asked (hummingbot#601); an order
    that was once accepted must be missed several times, and its fills stay uncertain."""
    r = o.requests
    times = r.not_found + 1
    # Until its outcome the request may still wait in a queue on our side; then it was on its way at the moment of doubt at the latest.
    settled = r.place is None and r.doubt_ns != 0 and r.asked_ns >= r.doubt_ns + t.expiry_ns
    if settled and not o.accepted:
        return end(o, Ended.REJECTED, False), (Note.NEVER_ARRIVED,)
    if settled and times >= GONE_AFTER:
        return end(o, Ended.CANCELLED, True), (Note.GONE,)
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
    """Wanted until it has ended, also before the acknowledgement of the place. What waits for its claim ends with the answer to that, and
    there is nothing to send."""
    r = o.requests
    if r.cancel is not None or (o.claiming and r.cancel_wanted):
        return o, (Note.CANCEL_PENDING,)
    requests = attrs.evolve(r, cancel=None, cancel_wanted=True)
    return with_requests(o, requests), _NONE if o.claiming else (Note.CANCEL,)


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
    """The process that knew what was under way is gone: every request without an outcome is in doubt; the core asks. What waited for its
    claim was certainly never sent, or the log would say so, and nobody else sends it."""
    if o.claiming:
        return end(o, Ended.REJECTED, False), (Note.NEVER_SENT,)
    r = o.requests
    pending = r.replace
    if pending is not None:
        pending = None if pending.claiming else Replacement(None, pending.qty, pending.price, pending.reserve, pending.claim)
    unsure = r.place is not None or r.cancel is not None or pending is not None or r.doubt_ns != 0 or not o.accepted
    requests = Requests(None, r.cancel, r.cancel_wanted, pending, None, 0, t.now_ns if unsure else 0)
    notes: Notes = (Note.ASK,) if unsure else (Note.RETRY,) if r.cancel_wanted else _NONE
    return with_requests(o, requests), notes
