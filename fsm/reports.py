"""Reports about one order: find the order, let its rule judge, carry out what the rule's notes call for.

=================== ====================================================================================
note                effect
=================== ====================================================================================
ASK                 the venue is asked for the order
EXPECT, RETRY       a timer, to look at the order again
CANCEL              a cancel goes out
RESURRECTED         a cancel goes out, an alert, and a frozen scope has to be proven empty anew
GONE, LATE_FILL,    an alert
OVERFILL, ...
STALE, DUPLICATE,   ``Rejected`` with that code: the input changed nothing
INVALID
=================== ====================================================================================
"""

from collections.abc import Callable
from typing import TypeAlias

import attrs

from ..effects import Cancel, CancelTarget, Severity, order_key
from . import doubt, freeze, lease, sweep, sweep_report
from .events import Evidence, FetchFailed, OrderFilled, OrderQueried, Outcome, Verb
from .exposure import FLAT, book_key, with_fee
from .order import Ended, Order, is_done, with_requests
from .order_change import Note, Times
from .order_rules import apply, kind_of
from .turn import NS_PER_MS, Turn

Action: TypeAlias = Callable[[Turn, Order, object], None]


def on_report(turn: Turn, event: Evidence) -> None:
    """Evidence from the venue's stream, or from a reply."""
    order = turn.order(order_key(turn.desk.config.session, event.client_id))
    if order is None:
        turn.reject("unknown_order", f"no order of this session has the client id {event.client_id!r}")
        return
    if settle(turn, order, kind_of(event), event) and isinstance(event, OrderFilled) and event.fee:
        for owner in dict.fromkeys((0, order.spec.owner)):
            key = book_key(owner, order.spec.sym)
            turn.put_book(key, with_fee(turn.books.get(key, FLAT), event.fee))


def on_outcome(turn: Turn, event: Outcome) -> None:
    """What became of a request: for its order, if it names one, and for the sweep, if it is one of its."""
    order = turn.order(event.order) if event.order else None
    stale = lease.on_refused(turn, event)
    if stale and event.verb in _CANCELS:
        _cancel_anew(turn, event)
    elif event.order and event.verb in _BULK:
        turn.reject("invalid_outcome", f"a {event.verb.value} is about several orders; its outcome names order 0, not {event.order}")
    elif order is not None:
        settle(turn, order, kind_of(event), event, event.retry_after_ms)
    elif event.order:
        turn.reject("unknown_order", f"no order has the key {event.order}")
    elif event.verb is Verb.CANCEL_BATCH:
        _settle_batch(turn, event)
    sweep.on_outcome(turn, event, stale)


def _cancel_anew(turn: Turn, event: Outcome) -> None:
    """A cancel was held back since its lease is void. It has certainly not left, so that there is nothing to ask for: whoever wants its
    orders cancelled says so again, at once, and under no such lease. A sweep decides for its own (``sweep.on_outcome``)."""
    for key in event.orders or (event.order,):
        order = turn.order(key)
        if order is not None and order.requests.cancel == event.effect:
            freed = with_requests(order, attrs.evolve(order.requests, cancel=None))
            turn.put_order(order, freed)
            if freed.requests.cancel_wanted and not is_done(freed):
                doubt.send_cancel(turn, freed)
        elif order is not None and order.ended is Ended.REJECTED:
            _cancel_resurrected(turn, order)


def _settle_batch(turn: Turn, event: Outcome) -> None:
    """What became of a batch became of each of its orders that has not been reported on by itself; else they would show as pending
    cancel for ever."""
    kind = f"{Verb.CANCEL.value}_{event.kind.value}"
    for key in event.orders:
        order = turn.orders.get(key)
        if order is not None and order.requests.cancel == event.effect:
            settle(turn, order, kind, event, event.retry_after_ms)


def on_queried(turn: Turn, event: OrderQueried) -> None:
    """The answer to a question about one order."""
    order = turn.order(event.order)
    if order is None:
        turn.reject("unknown_order", f"no order has the key {event.order}")
        return
    if order.requests.query != event.effect:
        turn.reject("stale_answer", "nobody waits for this answer any more")
        return
    answered = doubt.without_query(order)
    turn.put_order(order, answered)
    retry_after_ms = event.result.retry_after_ms if isinstance(event.result, FetchFailed) else 0
    kind = kind_of(event)
    settle(turn, answered, kind, event.result.row if kind.startswith("found") else event, retry_after_ms)  # type: ignore[union-attr]


def settle(turn: Turn, order: Order, kind: str, report: object, retry_after_ms: int = 0) -> bool:
    """Apply the rule, write the order, carry out the notes. True if the report changed the order."""
    times = Times(turn.now_ns, turn.desk.config.venue.place_expiry_ms * NS_PER_MS)
    after, notes = apply(order, kind, report, times)
    if after is not order:
        turn.put_order(order, after)
        if turn.desk.sweep is not None:
            sweep_report.count(turn, order, after, kind in _CANCEL_FAILED)
    for note in notes:
        if note is Note.RETRY:
            doubt.look_later(turn, _now(turn, after), retry_after_ms)
        else:
            ACTIONS[note](turn, _now(turn, after), report)
    return after is not order


_BULK = (Verb.CANCEL_BATCH, Verb.CANCEL_ALL)
_CANCELS = (Verb.CANCEL, *_BULK)
_CANCEL_FAILED = ("cancel_rejected", "cancel_refused", "cancel_unavailable", "cancel_in_doubt")


def _now(turn: Turn, order: Order) -> Order:
    """The order as earlier notes of the same report have left it."""
    return turn.order(order.key) or order


def _ask(turn: Turn, order: Order, report: object) -> None:
    doubt.ask(turn, order)


def _expect(turn: Turn, order: Order, report: object) -> None:
    doubt.look_later(turn, order, evidence=True)


def _cancel(turn: Turn, order: Order, report: object) -> None:
    doubt.send_cancel(turn, order)


def _resurrected(turn: Turn, order: Order, report: object) -> None:
    _alert(Severity.CRITICAL, Note.RESURRECTED, "alive at the venue though it was refused; cancelling it")(turn, order, report)
    _cancel_resurrected(turn, order)
    freeze.unprove(turn, order.spec.symbol, order.spec.owner)


def _cancel_resurrected(turn: Turn, order: Order) -> None:
    target = CancelTarget(order.key, order.spec.client_id, order.venue_id)
    turn.emit(Cancel, order.spec.symbol, target, order.conditional, turn.desk.epoch, turn.fence())


def _alert(severity: Severity, note: Note, text: str) -> Action:
    def act(turn: Turn, order: Order, report: object) -> None:
        turn.alert(severity, note.value, f"{order.spec.client_id}: {text}", order.key, order.spec.symbol)

    return act


def _nothing_new(note: Note, text: str) -> Action:
    def act(turn: Turn, order: Order, report: object) -> None:
        name = type(report).__name__
        turn.reject(note.value + "_report", f"{name} on {order.spec.client_id} ({order.status.value}): {text}")

    return act


#: What each note calls for. RETRY is missing on purpose: it needs the venue's own demand for a pause and stands in ``settle``.
ACTIONS: dict[Note, Action] = {
    Note.ASK: _ask,
    Note.EXPECT: _expect,
    Note.CANCEL: _cancel,
    Note.RESURRECTED: _resurrected,
    Note.LATE_FILL: _alert(Severity.CRITICAL, Note.LATE_FILL, "filled after it had ended; booked"),
    Note.OVERFILL: _alert(Severity.CRITICAL, Note.OVERFILL, "filled beyond its quantity; booked"),
    Note.TRADE_MISMATCH: _alert(Severity.CRITICAL, Note.TRADE_MISMATCH, "a trade came again with other figures; the first stand"),
    Note.UNKNOWN_TRADE: _alert(Severity.WARNING, Note.UNKNOWN_TRADE, "a trade was busted or corrected before it was reported"),
    Note.CONTRADICTION: _alert(Severity.WARNING, Note.CONTRADICTION, "contradictory reports; asking the venue"),
    Note.GONE: _alert(Severity.CRITICAL, Note.GONE, "no longer known to the venue; closed, check its fills"),
    Note.NEVER_ARRIVED: _alert(Severity.INFO, Note.NEVER_ARRIVED, "never reached the venue, and cannot any more"),
    Note.NEVER_SENT: _alert(Severity.INFO, Note.NEVER_SENT, "was waiting for its claim when the process died; never sent"),
    Note.STALE: _nothing_new(Note.STALE, "overtaken by later evidence"),
    Note.DUPLICATE: _nothing_new(Note.DUPLICATE, "known already"),
    Note.INVALID: _nothing_new(Note.INVALID, "cannot be true"),
}
