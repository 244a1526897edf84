"""The ten hazards of an order's life, each from several states, through the real ``step``.

Method: a session is brought into a state, the hazard strikes, and status, filled and open quantity, position and alerts are compared with
what the facts imply. The session checks every invariant after every step.
"""

from collections.abc import Callable

import pytest
from haltcore.effects import Alert, Cancel, Place, QueryOrder, Replace
from haltcore.fsm.events import (
    DUPLICATE_CLIENT_ID,
    CancelRejected,
    Halt,
    OrderHalted,
    OrderReplaced,
    ReplaceRejected,
    ReportStatus,
    TradeBusted,
    TradeCorrected,
)
from haltcore.fsm.order import OrdStatus

from tests.helpers import BUY, IN_DOUBT, REFUSED, SELL, UNAVAILABLE, Session, price, qty

S = OrdStatus
State = Callable[[Session], int]


def pending_new(s: Session) -> int:
    return s.submit()


def acknowledged(s: Session) -> int:
    key = s.submit()
    s.outcome(s.one(Place))
    return key


def unknown(s: Session) -> int:
    return s.unknown()


def working(s: Session) -> int:
    return s.working()


def partly_filled(s: Session) -> int:
    key = s.working()
    s.fill(key, 3)
    return key


def cancel_pending(s: Session) -> int:
    key = partly_filled(s)
    s.cancel(key)
    return key


def replace_pending(s: Session) -> int:
    key = partly_filled(s)
    s.replace(key, 12)
    return key


def halted(s: Session) -> int:
    key = partly_filled(s)
    s.feed(OrderHalted(s.now, s.client_id(key), Halt.SUSPENDED))
    return key


def filled(s: Session) -> int:
    key = s.working()
    s.fill(key, 10)
    return key


def cancelled(s: Session) -> int:
    key = partly_filled(s)
    s.cancelled(key, cum=3)
    return key


def expired(s: Session) -> int:
    key = partly_filled(s)
    s.expired(key)
    return key


def rejected(s: Session) -> int:
    key = s.submit()
    s.reject(key)
    return key


def denied_locally(s: Session) -> int:
    """The gateway stopped it at the last moment, or so it says."""
    key = s.submit()
    s.outcome(s.one(Place), UNAVAILABLE, code="frozen_at_send")
    return key


def never_arrived(s: Session) -> int:
    key = s.unknown()
    s.not_found(s.one(QueryOrder))
    s.wait(6_000)
    s.fire()
    s.not_found(s.one(QueryOrder))
    return key


OPEN = [pending_new, acknowledged, unknown, working, partly_filled, cancel_pending, replace_pending, halted]
LIVE = [working, partly_filled, cancel_pending, replace_pending, halted]
ENDED = [cancelled, expired, rejected, denied_locally, never_arrived]
FINISHED = [filled, *ENDED]


# --- 1 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", OPEN + FINISHED)
def test_1_a_duplicate_report_changes_nothing_twice(state: State) -> None:
    s = Session()
    key = state(s)
    position = s.position()
    s.fill(key, 2, trade="twin", fee=7)
    once = s.order(key), s.core.books
    assert s.position() == position + qty(2)
    s.fill(key, 2, trade="twin", fee=7)
    assert (s.order(key), s.core.books) == once
    assert s.codes() == ["duplicate_report"]
    s.fill(key, 5, trade="twin")
    assert (s.order(key), s.core.books) == once
    assert s.codes() == ["trade_mismatch"]


@pytest.mark.parametrize("report", ["accept", "cancelled", "expired", "reject"])
def test_1_a_report_that_comes_twice_is_said_to(report: str) -> None:
    s = Session()
    key = s.submit()
    getattr(s, report)(key)
    before = s.order(key)
    getattr(s, report)(key)
    assert s.order(key) == before
    assert s.codes() == ["duplicate_report"]


def test_1_a_running_total_before_its_trades_moves_the_position_once() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 2, trade="b", cum=5)  # the trade "a" of 3 comes later
    assert s.figures(key) == (S.PARTIALLY_FILLED, 5, 5)
    assert s.position() == qty(5)
    s.fill(key, 3, trade="a", cum=3)
    assert s.figures(key) == (S.PARTIALLY_FILLED, 5, 5)
    assert s.position() == qty(5)


def test_1_a_fill_before_the_acknowledgement_makes_the_order_live() -> None:
    s = Session()
    key = s.submit()
    place = s.one(Place)
    s.fill(key, 4)
    assert s.figures(key) == (S.PARTIALLY_FILLED, 4, 6)
    s.accept(key)
    s.outcome(place)
    assert s.figures(key) == (S.PARTIALLY_FILLED, 4, 6)


# --- 2 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ENDED)
def test_2_a_late_fill_is_booked_alerts_and_never_revives(state: State) -> None:
    s = Session()
    key = state(s)
    had, position = s.order(key).cum_qty, s.position()
    s.fill(key, 2)
    assert s.order(key).cum_qty == had + qty(2)
    assert s.position() == position + qty(2)
    assert s.order(key).leaves_qty == 0
    assert key in s.core.closed
    assert "late_fill" in s.codes()
    refused = state in (rejected, denied_locally, never_arrived)
    assert bool(s.got(Cancel)) == refused, "what may live under a refused id is cancelled"


@pytest.mark.parametrize("side", [BUY, SELL])
def test_2_a_late_total_in_a_second_cancel_report_is_a_late_fill(side: str) -> None:
    s = Session()
    key = s.working(SELL if side is SELL else BUY)
    s.cancelled(key)
    s.cancelled(key, cum=4)
    assert s.figures(key) == (S.CANCELLED, 4, 0)
    assert s.codes() == ["late_fill"]
    assert s.position() == (qty(-4) if side is SELL else qty(4))


# --- 3 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", OPEN)
def test_3_an_overfill_is_booked_and_alerts(state: State) -> None:
    s = Session()
    key = state(s)
    s.fill(key, 15)
    assert s.order(key).cum_qty == s.position() >= qty(15)
    assert s.order(key).leaves_qty == 0
    assert "overfill" in s.codes()


def test_3_a_fill_of_a_filled_order_is_an_overfill() -> None:
    s = Session()
    key = filled(s)
    s.fill(key, 1)
    assert s.figures(key) == (S.FILLED, 11, 0)
    assert s.codes() == ["overfill"]


def test_3_a_late_fill_beyond_the_quantity_is_both() -> None:
    s = Session()
    key = cancelled(s)
    s.fill(key, 9)
    assert s.codes() == ["late_fill", "overfill"]
    assert s.position() == qty(12)


# --- 4 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", FINISHED)
def test_4_a_stale_open_report_does_not_reopen(state: State) -> None:
    for report in (
        lambda s, key: s.accept(key),
        lambda s, key: s.feed(OrderHalted(s.now, s.client_id(key), Halt.NONE)),
        lambda s, key: s.feed(CancelRejected(s.now, s.client_id(key), "too late")),
        lambda s, key: s.feed(ReplaceRejected(s.now, s.client_id(key), "too late")),
    ):
        s = Session()
        key = state(s)
        before = s.figures(key)
        report(s, key)  # type: ignore[no-untyped-call]
        assert s.figures(key) == before
        assert key in s.core.closed


@pytest.mark.parametrize("state", ENDED)
def test_4_a_late_replace_report_does_not_reopen(state: State) -> None:
    s = Session()
    key = state(s)
    before = s.figures(key)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(20), price(100)))
    assert s.figures(key) == before


@pytest.mark.parametrize("end", [lambda s, key: s.fill(key, 10), lambda s, key: s.cancelled(key), lambda s, key: s.expired(key)])
def test_4_an_older_query_answered_open_after_the_end_does_not_reopen(end: Callable[[Session, int], object]) -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), IN_DOUBT)
    query = s.one(QueryOrder)
    end(s, key)
    before = s.figures(key)
    if s.order(key).requests.query is not None:
        s.found(query, ReportStatus.OPEN)
    s.accept(key)
    assert s.figures(key)[1:] == before[1:]
    assert key in s.core.closed


# --- 5 ----------------------------------------------------------------------------------------------------------------


def test_5_a_fill_while_a_cancel_is_pending_keeps_it_pending() -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    s.fill(key, 4)
    assert s.figures(key) == (S.PENDING_CANCEL, 4, 6)
    s.fill(key, 6)
    assert s.figures(key) == (S.PENDING_CANCEL, 10, 0)  # FIX: until the cancel is answered
    s.feed(CancelRejected(s.now, s.client_id(key), "too late"))
    assert s.figures(key) == (S.FILLED, 10, 0)


def test_5_a_fill_while_a_replace_is_pending_keeps_it_pending_at_the_worst_case() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 12, at=110)
    s.fill(key, 4)
    assert s.figures(key) == (S.PENDING_REPLACE, 4, 8)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(12), price(110)))
    assert s.figures(key) == (S.PARTIALLY_FILLED, 4, 8)


@pytest.mark.parametrize("answer", ["report", "reply"])
def test_5_a_replace_refused_after_the_last_fill_leaves_it_filled(answer: str) -> None:
    s = Session()
    key = s.working()
    s.replace(key, 8)
    request = s.one(Replace)
    s.fill(key, 10)
    assert s.figures(key) == (S.PENDING_REPLACE, 10, 0)
    if answer == "report":
        s.feed(ReplaceRejected(s.now, s.client_id(key), "too late"))
    else:
        s.outcome(request, REFUSED)
    assert s.figures(key) == (S.FILLED, 10, 0)


# --- 6 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [pending_new, acknowledged, unknown])
def test_6_cancel_before_the_acknowledgement_is_sent_at_once_and_ends_the_order(state: State) -> None:
    s = Session()
    key = state(s)
    s.cancel(key)
    assert s.one(Cancel).target.order == key
    assert s.figures(key) == (S.PENDING_CANCEL, 0, 10)
    s.cancelled(key)
    assert s.figures(key) == (S.CANCELLED, 0, 0)


def test_6_a_cancel_that_overtook_its_order_is_sent_again_when_the_order_is_live() -> None:
    s = Session()
    key = s.submit()
    s.cancel(key)
    s.outcome(s.one(Cancel), REFUSED, code="-2011")
    assert s.figures(key) == (S.PENDING_NEW, 0, 10)
    s.accept(key)
    assert s.one(Cancel).target.order == key


def test_6_the_acknowledgement_crosses_the_cancel() -> None:
    s = Session()
    key = s.submit()
    s.cancel(key)
    s.accept(key)
    assert s.got(Cancel) == []
    assert s.figures(key) == (S.PENDING_CANCEL, 0, 10)


# --- 7 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("filled_before", "filled_meanwhile"), [(0, 0), (3, 0), (0, 3), (3, 4), (3, 7)])
def test_7_a_rejected_cancel_brings_back_what_the_facts_imply(filled_before: int, filled_meanwhile: int) -> None:
    s = Session()
    key = s.working()
    if filled_before:
        s.fill(key, filled_before)
    s.cancel(key)
    if filled_meanwhile:
        s.fill(key, filled_meanwhile)
    s.feed(CancelRejected(s.now, s.client_id(key), "no"))
    cum = filled_before + filled_meanwhile
    assert s.figures(key) == (S.FILLED if cum == 10 else S.PARTIALLY_FILLED if cum else S.NEW, cum, 10 - cum)
    if cum < 10:  # it may be gone or live: the venue is asked, and the cancel is still wanted
        s.found(s.one(QueryOrder))
        s.fire()
        assert s.one(Cancel).target.order == key


def test_7_a_rejected_cancel_of_a_halted_order_brings_back_the_halt() -> None:
    s = Session()
    key = halted(s)
    s.cancel(key)
    assert s.order(key).status is S.PENDING_CANCEL
    s.feed(CancelRejected(s.now, s.client_id(key), "no"))
    assert s.order(key).status is S.SUSPENDED


# --- 8 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [pending_new, acknowledged, unknown])
def test_8_a_duplicate_client_id_reject_does_not_kill_the_order(state: State) -> None:
    s = Session()
    key = state(s)
    s.reject(key, DUPLICATE_CLIENT_ID)
    assert key in s.core.orders
    assert s.order(key).leaves_qty == qty(10)
    assert "contradiction" in s.codes()
    s.found(s.all(QueryOrder)[-1])
    assert s.figures(key) == (S.NEW, 0, 10)


def test_8_nor_does_a_refusal_with_that_code() -> None:
    s = Session()
    key = s.submit()
    s.outcome(s.one(Place), REFUSED, code=DUPLICATE_CLIENT_ID)
    assert s.order(key).unknown
    s.found(s.one(QueryOrder), cum_qty=qty(4))
    assert s.figures(key) == (S.PARTIALLY_FILLED, 4, 6)


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize("reason", [DUPLICATE_CLIENT_ID, "margin"])
def test_8_no_reject_kills_a_live_order(state: State, reason: str) -> None:
    s = Session()
    key = state(s)
    before = s.figures(key)
    s.reject(key, reason)
    assert s.figures(key) == before
    assert s.one(QueryOrder).order == key
    assert s.one(Alert).code == "contradiction"


# --- 9 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_total", [1, 2, 3])
def test_9_a_replace_below_the_filled_quantity_ends_it_as_filled(new_total: int) -> None:
    s = Session()
    key = partly_filled(s)
    s.replace(key, new_total)
    assert s.figures(key) == (S.PENDING_REPLACE, 3, 7)  # until the venue confirms, the larger version counts
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(new_total), price(100)))
    assert s.figures(key) == (S.FILLED, 3, 0)
    assert s.order(key).qty == qty(3)
    assert s.position() == qty(3)


def test_9_fills_that_overtake_a_reduction_end_it_as_filled() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 5)
    s.fill(key, 7)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(5), price(100)))
    assert s.figures(key) == (S.FILLED, 7, 0)


# --- 10 ---------------------------------------------------------------------------------------------------------------


def test_10_a_bust_reopens_a_filled_order_and_asks_whether_it_still_works() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 4, trade="a")
    s.fill(key, 6, trade="b")
    s.feed(TradeBusted(s.now, s.client_id(key), "b"))
    assert s.figures(key) == (S.PARTIALLY_FILLED, 4, 6)
    assert s.position() == qty(4)
    assert key in s.core.orders
    s.found(s.one(QueryOrder), ReportStatus.CANCELLED)
    assert s.figures(key) == (S.CANCELLED, 4, 0)


def test_10_a_bust_of_a_working_order_gives_the_quantity_back() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 4, trade="a", cum=4)
    s.feed(TradeBusted(s.now, s.client_id(key), "a"))
    assert s.figures(key) == (S.NEW, 0, 10)
    assert s.position() == 0
    s.feed(TradeBusted(s.now, s.client_id(key), "a"))
    assert s.codes() == ["duplicate_report"]
    s.fill(key, 4, trade="a")
    assert s.figures(key) == (S.NEW, 0, 10), "a late copy of a busted trade stays void"


@pytest.mark.parametrize("state", [cancelled, expired])
def test_10_a_bust_after_the_end_reduces_and_does_not_reopen(state: State) -> None:
    s = Session()
    key = state(s)
    (trade,) = s.order(key).fills.trades
    s.feed(TradeBusted(s.now, s.client_id(key), trade))
    assert s.order(key).cum_qty == s.position() == 0
    assert s.order(key).leaves_qty == 0
    assert key in s.core.closed


def test_10_a_bust_that_comes_before_its_trade_is_remembered() -> None:
    s = Session()
    key = s.working()
    s.feed(TradeBusted(s.now, s.client_id(key), "a"))
    assert s.codes() == ["unknown_trade"]
    s.fill(key, 4, trade="a")
    assert s.figures(key) == (S.NEW, 0, 10)


@pytest.mark.parametrize(
    ("amount", "expected"), [(2, (S.PARTIALLY_FILLED, 2, 8)), (9, (S.PARTIALLY_FILLED, 9, 1)), (10, (S.FILLED, 10, 0))]
)
def test_10_a_correction_of_quantity(amount: int, expected: tuple[OrdStatus, int, int]) -> None:
    s = Session()
    key = s.working()
    s.fill(key, 4, trade="a", cum=4)
    s.feed(TradeCorrected(s.now, s.client_id(key), "a", qty(amount), price(101)))
    assert s.figures(key) == expected
    assert s.position() == qty(amount)


def test_10_a_correction_reopens_a_filled_order() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 10, trade="a")
    s.feed(TradeCorrected(s.now, s.client_id(key), "a", qty(7), price(100)))
    assert s.figures(key) == (S.PARTIALLY_FILLED, 7, 3)
    assert s.one(QueryOrder).order == key


def test_10_a_correction_of_the_price_changes_cash_alone() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 4, at=100, trade="a")
    cash = s.core.books[0].cash
    s.feed(TradeCorrected(s.now, s.client_id(key), "a", qty(4), price(101)))
    assert s.position() == qty(4)
    assert s.core.books[0].cash == cash - qty(4) * price(1)


def test_10_a_correction_of_a_trade_never_seen_is_the_trade() -> None:
    s = Session()
    key = s.submit()
    s.feed(TradeCorrected(s.now, s.client_id(key), "a", qty(4), price(101)))
    assert s.figures(key) == (S.PARTIALLY_FILLED, 4, 6)
    assert s.position() == qty(4)
