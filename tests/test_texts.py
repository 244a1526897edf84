"""Text from outside. Goal: no report can hold what a log cannot.

Method: odd letters at every depth of an event, and what is clean stays itself."""

import attrs
from haltcore.adapters.texts import unwritable, writable
from haltcore.effects import Price, Qty
from haltcore.fsm.codec import EVENTS
from haltcore.fsm.events import FetchedOrders, OpenOrders, OrderCancelled, OrderRejected

from tests.helpers import BTC, foreign_row


def test_a_clean_event_is_itself() -> None:
    event = OrderRejected(1, "a", "zu teuer: 5 \u20ac")
    assert writable(event) is event
    assert writable("\U0001f600") == "\U0001f600"


def test_half_of_a_surrogate_pair_costs_one_letter() -> None:
    event = writable(OrderRejected(1, "a", "bad \ud800 text"))
    assert event.reason == "bad ? text"
    assert EVENTS.decode(EVENTS.encode(event)) == event
    assert EVENTS.encode(writable(OrderCancelled(1, "\udfff", Price(0))))  # type: ignore[arg-type]


def test_rows_in_lists_are_cleaned() -> None:
    row = foreign_row("v1")
    event = OpenOrders(1, (1, 0), BTC, False, FetchedOrders((row, attrs.evolve(row, raw="\udc00"))))
    cleaned = writable(event)
    assert cleaned.result.rows[0] is row  # type: ignore[union-attr]
    assert cleaned.result.rows[1].raw == "?"  # type: ignore[union-attr]
    assert EVENTS.encode(cleaned)


def test_what_is_no_event_is_left_alone() -> None:
    for odd in (None, 1, object(), {"a": 1}):
        assert writable(odd) is odd


def test_a_number_beyond_any_log_and_what_is_no_event_are_found() -> None:
    good = OrderCancelled(1, "a", Qty(10**60))
    assert unwritable(good) == ""
    for odd in (attrs.evolve(good, cum_qty=10**77), attrs.evolve(good, cum_qty=10**5_000), attrs.evolve(good, at_ns=2**63)):
        assert "OrderCancelled" in unwritable(odd)
    for odd in (None, "nonsense", Qty(5), {"a": 1}):
        assert unwritable(odd)
