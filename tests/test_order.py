"""The status is what the facts imply, by the precedence that FIX 5.0 SP2 prints.

Method: one table of facts and the status they imply, highest precedence first; and every pair of rows laid over each other, since an order
in two statuses at once must show the higher one.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Notional, OrdType, Qty, TimeInForce, price, qty
from haltcore.fsm.events import Halt
from haltcore.fsm.order import NO_FILLS, Ended, Fills, Order, OrderSpec, OrdStatus, Phase, Replacement, Requests, in_doubt, is_done, phase
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import BTC, BUY

SPEC = OrderSpec("test0011", BTC, 0, BUY, OrdType.LIMIT, TimeInForce.GTC, False, False, None, "", 0)
SENT = Order(1, SPEC, "", qty(10), price(100), price(100), False, False, Halt.NONE, Ended.NO, NO_FILLS, Requests((1, 0)))


def filled(amount: int) -> Fills:
    """That much is filled, as the venue's total says."""
    return attrs.evolve(NO_FILLS, reported=qty(amount), reported_cost=Notional(0))


def order(**facts: Any) -> Order:
    """An accepted order with these facts."""
    requests = {name: facts.pop(name) for name in ("cancel", "replace") if name in facts}
    return attrs.evolve(SENT, requests=Requests(**requests), **{"accepted": True, **facts})


#: From high to low (FIX 5.0 SP2 volume 4), each with the facts that put an order there.
PRECEDENCE: list[tuple[OrdStatus, dict[str, Any]]] = [
    (OrdStatus.PENDING_CANCEL, {"cancel": (9, 0)}),
    (OrdStatus.PENDING_REPLACE, {"replace": Replacement((9, 0), qty(12), price(100))}),
    (OrdStatus.DONE_FOR_DAY, {"halt": Halt.DONE_FOR_DAY}),
    (OrdStatus.FILLED, {"fills": filled(10)}),
    (OrdStatus.STOPPED, {"halt": Halt.STOPPED}),
    (OrdStatus.SUSPENDED, {"halt": Halt.SUSPENDED}),
    (OrdStatus.CANCELLED, {"ended": Ended.CANCELLED}),
    (OrdStatus.EXPIRED, {"ended": Ended.EXPIRED}),
    (OrdStatus.PARTIALLY_FILLED, {"fills": filled(4)}),
    (OrdStatus.REJECTED, {"ended": Ended.REJECTED}),
    (OrdStatus.NEW, {}),
]


@pytest.mark.parametrize(("status", "facts"), PRECEDENCE)
def test_each_fact_alone_implies_its_status(status: OrdStatus, facts: dict[str, Any]) -> None:
    assert order(**facts).status is status


def test_an_order_nobody_has_heard_of_is_pending_new() -> None:
    assert SENT.status is OrdStatus.PENDING_NEW


def test_every_status_of_the_vocabulary_is_implied_by_some_facts() -> None:
    assert {status for status, _ in PRECEDENCE} | {SENT.status} == set(OrdStatus)


@pytest.mark.parametrize("higher", range(len(PRECEDENCE)))
def test_of_two_statuses_the_higher_one_shows(higher: int) -> None:
    status, facts = PRECEDENCE[higher]
    for lower_status, lower in PRECEDENCE[higher + 1 :]:
        if facts.keys() & lower.keys():
            continue
        if ("ended" in lower and status in (OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE)) or ("halt" in facts and "ended" in lower):
            continue  # an end settles what was pending and what was halted: the next test
        assert order(**facts, **lower).status is status, (status, lower_status)


@pytest.mark.parametrize("ended", [Ended.CANCELLED, Ended.EXPIRED])
@pytest.mark.parametrize("facts", [PRECEDENCE[i][1] for i in (0, 1, 2, 4, 5)])
def test_an_end_outranks_what_was_pending_and_what_was_halted(ended: Ended, facts: dict[str, Any]) -> None:
    assert order(**facts, ended=ended).status.value == ended.value


def test_a_cancelled_order_that_was_filled_whole_is_filled() -> None:
    assert order(ended=Ended.CANCELLED, fills=filled(10)).status is OrdStatus.FILLED
    assert order(ended=Ended.CANCELLED, fills=filled(11)).status is OrdStatus.FILLED


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"accepted": False}, Phase.PENDING_NEW),
        ({}, Phase.WORKING),
        ({"fills": filled(4)}, Phase.WORKING),
        ({"fills": filled(10)}, Phase.FILLED),
        ({"fills": filled(11)}, Phase.FILLED),
        ({"fills": filled(10), "replace": Replacement(None, qty(12), None)}, Phase.WORKING),
        ({"fills": filled(10), "replace": Replacement(None, qty(8), None)}, Phase.FILLED),
        ({"fills": filled(10), "ended": Ended.CANCELLED}, Phase.CANCELLED),
        ({"ended": Ended.EXPIRED}, Phase.EXPIRED),
        ({"accepted": False, "ended": Ended.REJECTED}, Phase.REJECTED),
    ],
)
def test_phase(facts: dict[str, Any], expected: Phase) -> None:
    subject = order(**facts)
    assert phase(subject) is subject.phase is expected
    assert is_done(subject) == (expected in (Phase.FILLED, Phase.CANCELLED, Phase.EXPIRED, Phase.REJECTED))


def test_unknown_is_only_an_order_that_may_not_exist() -> None:
    doubtful = in_doubt(SENT, 77)
    assert doubtful.unknown
    assert doubtful.phase is Phase.UNKNOWN
    live = in_doubt(order(), 77)
    assert not live.unknown
    assert live.phase is Phase.WORKING


def test_doubt_keeps_its_first_moment_and_the_requests_under_way() -> None:
    twice = in_doubt(in_doubt(SENT, 77), 99)
    assert twice.requests == attrs.evolve(SENT.requests, doubt_ns=77)


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60), st.integers(1, 50), st.sampled_from(Ended))
def test_what_is_left_is_never_negative_nor_below_what_may_fill(size: int, traded: int, reported: int, pending: int, ended: Ended) -> None:
    fills = Fills(Qty(traded), Notional(traded), Qty(reported), Notional(2 * reported), Qty(max(traded, reported)), NO_FILLS.trades)
    subject = order(qty=Qty(size), fills=fills, ended=ended, replace=Replacement(None, Qty(pending), None))
    assert subject.cum_qty == max(traded, reported)
    if ended is not Ended.NO:
        assert subject.leaves_qty == 0
    else:
        assert subject.leaves_qty == max(0, max(size, pending) - subject.cum_qty)
