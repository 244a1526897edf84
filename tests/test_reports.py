"""A report finds its order, and each note of its rule becomes exactly the effect that the table in ``reports.py`` names.

Method: for every note, a session in which a report raises it; the effects it leads to are compared with the table.
"""

from collections.abc import Callable

import pytest
from haltcore.effects import Alert, Cancel, Effect, Metric, Place, QueryOrder, Rejected, SetTimer, Severity, Usd, price, qty
from haltcore.fsm.events import NotFound, OrderFilled, OrderQueried, OrderReplaced, Outcome, TradeBusted, Verb
from haltcore.fsm.order_change import Note
from haltcore.fsm.reports import ACTIONS

from tests.helpers import ACKNOWLEDGED, IN_DOUBT, REFUSED, UNAVAILABLE, Session


def gone(s: Session) -> None:
    key = s.working()
    s.reject(key)
    s.not_found(s.one(QueryOrder))
    for _ in range(3):
        s.wait(6_000)
        s.fire()
        s.not_found(s.one(QueryOrder))
        if key in s.core.closed:
            return


def never_arrived(s: Session) -> None:
    s.unknown()
    s.not_found(s.one(QueryOrder))
    s.wait(6_000)
    s.fire()
    s.not_found(s.one(QueryOrder))


def late_fill(s: Session) -> None:
    key = s.working()
    s.cancelled(key)
    s.fill(key, 1)


def mismatch(s: Session) -> None:
    key = s.working()
    s.fill(key, 1, trade="a")
    s.fill(key, 2, trade="a")


def resurrected(s: Session) -> None:
    key = s.submit()
    s.reject(key)
    s.accept(key)


def stale(s: Session) -> None:
    key = s.working()
    s.cancelled(key)
    s.accept(key)


def invalid(s: Session) -> None:
    s.feed(OrderReplaced(s.now, s.client_id(s.working()), "v", qty(0), price(1)))


def wanted_cancel(s: Session) -> None:
    key = s.submit()
    s.cancel(key)
    s.outcome(s.one(Cancel), REFUSED)
    s.accept(key)


def retried(s: Session) -> None:
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), UNAVAILABLE)


Expected = list[type[Effect]]
#: Per note: how it comes up, the effects it leads to, and the code that is said.
NOTES: dict[Note, tuple[Callable[[Session], object], Expected, str]] = {
    Note.ASK: (lambda s: s.outcome(s.ask()[-1], IN_DOUBT), [QueryOrder], ""),
    Note.EXPECT: (lambda s: s.outcome(s.ask()[-1], ACKNOWLEDGED), [SetTimer], ""),
    Note.RETRY: (retried, [SetTimer], ""),
    Note.CANCEL: (wanted_cancel, [Cancel], ""),
    Note.RESURRECTED: (resurrected, [Alert, Cancel], "resurrected"),
    Note.LATE_FILL: (late_fill, [Alert], "late_fill"),
    Note.OVERFILL: (lambda s: s.fill(s.working(), 11), [Alert], "overfill"),
    Note.TRADE_MISMATCH: (mismatch, [Alert], "trade_mismatch"),
    Note.UNKNOWN_TRADE: (lambda s: s.feed(TradeBusted(s.now, s.client_id(s.working()), "x")), [Alert], "unknown_trade"),
    Note.CONTRADICTION: (lambda s: s.reject(s.working()), [Alert, QueryOrder], "contradiction"),
    Note.GONE: (gone, [Alert], "gone"),
    Note.NEVER_ARRIVED: (never_arrived, [Alert], "never_arrived"),
    Note.STALE: (stale, [Rejected], "stale_report"),
    Note.DUPLICATE: (lambda s: s.accept(s.working()), [Rejected], "duplicate_report"),
    Note.INVALID: (invalid, [Rejected], "invalid_report"),
}


@pytest.mark.parametrize("note", NOTES)
def test_each_note_leads_to_its_effects_and_says_its_code(note: Note) -> None:
    raise_it, expected, code = NOTES[note]
    s = Session()
    raise_it(s)
    assert [type(effect) for effect in s.effects if not isinstance(effect, Metric)] == expected
    assert s.codes() == ([code] if code else [])


def test_every_note_with_an_action_is_tried() -> None:
    assert set(NOTES) == {*ACTIONS, Note.RETRY} - {Note.NEVER_SENT}, "that one comes with a restart only: test_guards.py"


@pytest.mark.parametrize("note", [Note.LATE_FILL, Note.OVERFILL, Note.TRADE_MISMATCH, Note.GONE, Note.RESURRECTED])
def test_what_costs_money_is_critical(note: Note) -> None:
    s = Session()
    NOTES[note][0](s)
    assert s.one(Alert).severity is Severity.CRITICAL


def test_an_alert_names_the_order_and_its_symbol() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 11)
    assert (s.one(Alert).order, s.one(Alert).symbol) == (key, "BTCUSDT")


def test_outcomes_and_answers_about_orders_nobody_knows_are_refused() -> None:
    s = Session()
    s.feed(Outcome(s.now, (1, 0), Verb.PLACE, 77, IN_DOUBT))
    assert s.codes() == ["unknown_order"]
    s.feed(OrderQueried(s.now, (1, 0), 77, NotFound()))
    assert s.codes() == ["unknown_order"]


def test_an_answer_is_taken_once() -> None:
    s = Session()
    s.unknown()
    query = s.one(QueryOrder)
    s.unanswered(query)
    s.unanswered(query)
    assert s.codes() == ["stale_answer"]


def test_fees_are_booked_with_their_trade_alone() -> None:
    s = Session()
    key = s.working()
    for trade, amount in (("a", 1), ("a", 1), ("b", 2)):
        s.feed(OrderFilled(s.now, s.client_id(key), "v", trade, qty(amount), price(1), qty(0), Usd(-5)))
    assert s.core.books[0].fees == -10


def test_a_place_refused_late_ends_nothing_that_is_live() -> None:
    s = Session()
    key = s.submit()
    place = s.one(Place)
    s.accept(key)
    s.outcome(place, REFUSED)
    assert s.codes() == ["contradiction"]
    assert key in s.core.orders
