"""Asking: how an order of unknown fate becomes known again.

An order in doubt allows one effect only, a question. Each order has at most one question under way and one timer,
and whatever wakes it is answered by a *look* at its facts, in this order:

======================================================= ==================
what the facts say                                      what happens
======================================================= ==================
it has ended, or a question is under way                nothing
it is in doubt                                          ask
its place, cancel or replace was acknowledged, and the  it is in doubt; ask
report has not come
somebody wants it cancelled and no cancel is under way  cancel
======================================================= ==================

So a timer carries no intention of its own that could be out of date: a retry is a fresh decision at the time it fires.
There is no last try. An order stays in doubt, and is asked for at the pace of the backoff's cap, until evidence comes.
"""

import attrs

from ..effects import Cancel, CancelTarget, Purpose, QueryOrder
from .order import Order, in_doubt, is_done, with_requests
from .turn import MAX_PAUSE_MS, NS_PER_MS, Turn


def ask(turn: Turn, order: Order) -> None:
    """Put the question, unless it is under way already, or the order was never sent."""
    r = order.requests
    if r.query is not None or is_done(order) or order.claiming:
        return
    s = order.spec
    query = turn.emit(QueryOrder, order.key, s.client_id, order.venue_id, s.symbol, order.conditional)
    since = r.doubt_ns or turn.now_ns
    requests = attrs.evolve(r, query=query, asked_ns=turn.now_ns, doubt_ns=since, timer=None)
    turn.put_order(order, with_requests(order, requests))


def woken(turn: Turn, order: Order) -> None:
    """The order's timer has fired. It fires once, so from now on nobody waits for it."""
    r = order.requests
    requests = attrs.evolve(r, timer=None)
    awake = with_requests(order, requests)
    turn.put_order(order, awake)
    look(turn, awake)


def look(turn: Turn, order: Order) -> None:
    """Do what the facts call for; see the table above."""
    r = order.requests
    if is_done(order) or r.query is not None:
        return
    if r.doubt_ns:
        ask(turn, order)
    elif (not order.accepted and r.place is None) or r.cancel is not None or r.replace is not None:
        doubtful = in_doubt(order, turn.now_ns)
        turn.put_order(order, doubtful)
        ask(turn, doubtful)
    elif r.cancel_wanted:
        send_cancel(turn, order)


def look_later(turn: Turn, order: Order, retry_after_ms: int = 0, evidence: bool = False) -> None:
    """Set the order's timer: after the time that evidence may take, or after a backoff and the venue's own demand."""
    if is_done(order):
        return
    r = order.requests
    wait = turn.desk.config.evidence_ms * NS_PER_MS if evidence else turn.backoff(r.attempt, min(retry_after_ms, MAX_PAUSE_MS) * NS_PER_MS)
    settles_in = r.doubt_ns + turn.desk.config.venue.place_expiry_ms * NS_PER_MS - turn.now_ns
    if order.unknown and 0 < settles_in < wait and not retry_after_ms:
        # From then on "not found" is an answer, so it would be idle to wait longer.
        wait = settles_in
    timer = turn.timer(wait, Purpose.ORDER, order.key)
    requests = attrs.evolve(r, timer=timer)
    turn.put_order(order, with_requests(order, requests))


def send_cancel(turn: Turn, order: Order) -> None:
    """Cancel one order."""
    s = order.spec
    target = CancelTarget(order.key, s.client_id, order.venue_id)
    cancel = turn.emit(Cancel, s.symbol, target, order.conditional, turn.desk.epoch, turn.fence())
    mark_cancel(turn, order, cancel)


def mark_cancel(turn: Turn, order: Order, cancel: tuple[int, int]) -> None:
    """Note that a cancel is under way, so that the order shows as pending cancel."""
    r = order.requests
    requests = attrs.evolve(r, cancel=cancel)
    turn.put_order(order, with_requests(order, requests))


def without_query(order: Order) -> Order:
    """The order, its question answered. When it was asked stays known: the answer is as old as that."""
    r = order.requests
    requests = attrs.evolve(r, query=None)
    return with_requests(order, requests)
