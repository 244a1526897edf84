"""The ideal world. Goal: whatever a run asks for is answered, at once, by exactly one answer; and nothing is taken from luck.

Method: lives of a real core are led in which nobody else answers; each class of request is looked at by itself.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import (
    AcquireLease,
    CancelAll,
    ClearFreeze,
    FetchOpenOrders,
    FetchPositions,
    OrdType,
    PublishFreeze,
    QueryOrder,
    ReadFreeze,
    Replace,
    TimeInForce,
    Trigger,
    price,
    qty,
)
from haltcore.fsm.events import (
    FetchFailed,
    Found,
    LatchAnswer,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    OpenOrders,
    OrderQueried,
    Positions,
    ReportStatus,
)
from haltcore.fsm.ideal import answers, covered
from haltcore.fsm.order import Ended, Order
from haltcore.fsm.outcomes import owes_outcome

from tests.helpers import BTC, BUY, ETH, SELL, Session, StorePolicy, VenueTraits


def nothing(_: int) -> Order | None:
    """The recorded run knows no order."""
    return None


class Alone(Session):
    """A session whose effects are answered by the ideal world alone."""

    def lead(self) -> None:
        """Until nothing is left to answer."""
        waiting = list(self.effects)
        while waiting:
            effect = waiting.pop(0)
            found = answers(effect, self.core, nothing, self.now)
            assert bool(found) == owes_outcome(effect)
            own = [event for event in found if getattr(event, "effect", None) == effect.id]
            assert len(own) == owes_outcome(effect)
            for event in found:
                assert event.at_ns == self.now
                waiting += self.feed(event)


def alone(**fields: Any) -> Alone:
    """One that has taken stock and has a mark price in both symbols."""
    session = Alone(ready=False, **fields)
    session.lead()
    for symbol in (BTC, ETH):
        session.mark(100, symbol)
    assert session.core.desk is not None
    assert session.core.desk.opened
    return session


VENUES = (VenueTraits(), VenueTraits(cancel_all=False), VenueTraits(cancel_all=False, batch=0), VenueTraits(conditional=False))


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("store", [False, True])
def test_a_freeze_is_proven_at_once(venue: VenueTraits, store: bool) -> None:
    session = alone(venue=venue, store=StorePolicy(configured=store))
    for symbol in (BTC, ETH):
        for side, stop in ((BUY, 110), (SELL, 90)):
            session.submit(side, 2, 100, symbol)
            session.lead()
            session.submit(side, 1, None, symbol, type=OrdType.STOP_MARKET, stop_price=price(stop))
            session.lead()
    session.submit(amount=7)  # on its way
    assert len(session.core.orders) == 9
    session.freeze()
    session.lead()
    assert session.mode().value == "frozen"
    assert {order.ended for order in session.core.closed.values()} == {Ended.CANCELLED}
    session.unfreeze()
    session.lead()
    assert session.mode().value == "active"


@pytest.mark.parametrize(
    "fields", [{"tif": TimeInForce.IOC}, {"tif": TimeInForce.FOK}, {"type": OrdType.MARKET, "at": None}, {"post_only": True}]
)
def test_what_cannot_rest_expires(fields: dict[str, Any]) -> None:
    session = alone()
    key = session.submit(amount=7, **fields)
    session.lead()
    order = session.order(key)
    assert (order.accepted, order.cum_qty) == (True, 0)
    assert order.ended is (Ended.NO if "post_only" in fields else Ended.EXPIRED)


def test_a_replace_replaces_and_a_cancel_cancels() -> None:
    session = alone()
    key = session.submit(amount=7)
    session.lead()
    session.replace(key, 9, 101)
    assert session.got(Replace)
    session.lead()
    assert (session.order(key).qty, session.order(key).price) == (qty(9), price(101))
    session.cancel(key)
    session.lead()
    assert session.order(key).ended is Ended.CANCELLED


def test_a_cancel_all_covers_its_book_and_nothing_else() -> None:
    session = alone()
    first, second = session.submit(amount=1), session.submit(amount=2)
    session.submit(amount=3, symbol=ETH)
    session.submit(amount=1, at=None, type=OrdType.STOP_MARKET, stop_price=price(110))
    session.freeze(BTC)
    regular = next(effect for effect in session.got(CancelAll) if not effect.conditional)
    assert [order.key for order in covered(regular, session.core)] == [first, second]
    assert covered(session.all(FetchPositions)[0], session.core) == []


def queried(session: Session, key: int, known: Order | None) -> Any:
    """What the ideal world says of the order."""
    query = QueryOrder((99, 0), key, session.client_id(key), "", BTC, False)
    (answer,) = answers(query, session.core, lambda _: known, session.now)
    assert isinstance(answer, OrderQueried)
    return answer.result


def test_what_is_said_of_an_order() -> None:
    session = alone()
    key = session.working(amount=7)
    mine = session.order(key)
    session.fill(key, 3)
    ahead = session.order(key)
    session.core = attrs.evolve(session.core, orders=session.core.orders.set(key, mine))
    assert queried(session, key, None).row.status is ReportStatus.OPEN
    assert queried(session, key, mine).row.status is ReportStatus.OPEN
    for ended, status in (
        (Ended.CANCELLED, ReportStatus.CANCELLED), (Ended.EXPIRED, ReportStatus.EXPIRED), (Ended.REJECTED, ReportStatus.REJECTED)
    ):
        row = queried(session, key, attrs.evolve(ahead, ended=ended)).row
        assert (row.status, row.cum_qty) == (status, qty(3))
    filled = attrs.evolve(ahead, qty=qty(3))
    # Filled at a size that this run never gave it: the rest is open.
    assert (queried(session, key, filled).row.status, queried(session, key, filled).row.cum_qty) == (ReportStatus.OPEN, qty(3))
    larger = attrs.evolve(ahead, qty=qty(20), ended=Ended.CANCELLED, fills=attrs.evolve(ahead.fills, traded=qty(15)))
    assert queried(session, key, larger).row.cum_qty == qty(7)
    doubtful = attrs.evolve(mine, requests=attrs.evolve(mine.requests, doubt_ns=5))
    assert isinstance(queried(session, key, doubtful), FetchFailed)
    assert isinstance(queried(session, key, mine), Found)


def test_lists_and_positions_are_what_the_run_holds() -> None:
    session = alone()
    key, other = session.working(amount=7), session.working(amount=2, symbol=ETH)
    session.fill(key, 3)
    expected = {("", False): [key, other], (ETH, False): [other], (BTC, True): []}
    for (symbol, conditional), keys in expected.items():
        (answer,) = answers(FetchOpenOrders((99, 0), symbol, conditional), session.core, nothing, session.now)
        assert isinstance(answer, OpenOrders)
        assert not isinstance(answer.result, FetchFailed)
        assert [row.client_id for row in answer.result.rows] == [session.client_id(key) for key in keys]
    (positions,) = answers(FetchPositions((99, 0)), session.core, nothing, session.now)
    assert isinstance(positions, Positions)
    assert not isinstance(positions.result, FetchFailed)
    assert [(row.symbol, row.qty) for row in positions.result.rows] == [(BTC, qty(3))]


def test_the_store_remembers() -> None:
    session = alone(store=StorePolicy(configured=True))
    rows: tuple[LatchRow, ...] = ()
    for effect, scopes in (
        (PublishFreeze((99, 0), BTC, Trigger.LOSS, "x", "ops"), [BTC]),
        (PublishFreeze((99, 0), BTC, Trigger.MANUAL, "y", "ops"), [BTC]),
        (PublishFreeze((99, 0), "", Trigger.MANUAL, "y", "ops"), [BTC, ""]),
        (ReadFreeze((99, 0)), [BTC, ""]),
        (ClearFreeze((99, 0), BTC, 1, "ops", "done"), [""]),
    ):
        (answer,) = answers(effect, session.core, nothing, session.now)
        assert isinstance(answer, LatchAnswer)
        rows = answer.rows
        assert [row.scope for row in rows] == scopes
        assert all(row.joint == (row.scope == BTC and row.epoch > 1) for row in rows)
        session.feed(answer)
    assert (rows[0].trigger, rows[0].epoch) == (Trigger.MANUAL, 3)
    (lease,) = answers(AcquireLease((99, 0), 30_000), session.core, nothing, session.now)
    assert isinstance(lease, LeaseAnswer)
    assert (lease.kind, lease.valid_until_ns) == (LeaseKind.GRANTED, session.now + 30_000 * 10**6)
