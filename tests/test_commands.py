"""Submit, cancel and replace are answered in their own step, and what they send says exactly what was asked.

Method: each command in each state it may meet; the effect is compared field by field with the command, refusals with their codes.
"""

import pytest
from haltcore.effects import Cancel, Denied, OrdType, Place, Rejected, Replace, TimeInForce, price, qty
from haltcore.fsm.events import InstrumentDefined, OrderReplaced, SubmitOrder
from haltcore.fsm.exposure import book_key
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.order import OrdStatus

from tests.gate_world import STRATEGIES, holding
from tests.helpers import BTC, BUY, ETH, SELL, SESSION, Session, with_limits
from tests.test_hazards import FINISHED, State, acknowledged, pending_new, unknown


def test_a_place_says_what_the_submit_asked_under_an_id_of_its_record() -> None:
    """RTS 6 Art. 12(3): the order carries strategy, trader and client."""
    s = holding(1)
    s.feed(
        SubmitOrder(
            s.now, BTC, SELL, qty("0.3"), price(99), OrdType.STOP_LIMIT, price(101), TimeInForce.IOC, post_only=True, reduce_only=True,
            strategy="mm", trader="t1", client="c1",
        )
    )  # fmt: skip
    place = s.one(Place)
    assert (place.symbol, place.side, place.type, place.tif) == (BTC, SELL, OrdType.STOP_LIMIT, TimeInForce.IOC)
    assert (place.qty, place.price, place.stop_price) == (qty("0.3"), price(99), price(101))
    assert (place.post_only, place.reduce_only) == (True, True)
    assert (place.strategy, place.trader, place.client) == ("mm", "t1", "c1")
    assert place.order == s.core.seq
    assert place.client_id.startswith(SESSION)
    spec = s.order(place.order).spec
    assert (spec.strategy, spec.trader, spec.client, spec.owner) == ("mm", "t1", "c1", 0), "no strategies are configured, so none has books"
    assert (spec.submitted_ns, spec.client_id) == (s.now, place.client_id)


def test_an_order_of_a_configured_strategy_is_kept_in_its_books_too() -> None:
    s = Session(strategies=STRATEGIES)
    key = s.submit(BUY, 3, strategy="arb")
    assert s.order(key).spec.owner == 2
    assert s.core.books[book_key(2, 0)].buy_qty == s.core.books[0].buy_qty == qty(3)
    assert s.core.teams[2].open_orders == s.core.account.open_orders == 1


def test_an_order_remembers_the_contract_it_was_made_in() -> None:
    s = Session()
    s.feed(InstrumentDefined(s.now, BTC, Instrument(inverse=True, multiplier=100 * 10**12)))
    assert s.order(s.submit(BUY, 3)).spec.inverse
    assert not s.order(s.submit(BUY, 3, symbol=ETH)).spec.inverse


def test_ids_are_never_used_twice() -> None:
    s = Session()
    ids = [s.order(s.submit()).spec.client_id for _ in range(50)]
    assert len(set(ids)) == 50


def test_a_denied_order_leaves_no_trace() -> None:
    s = Session(limits=with_limits(10))
    before = s.core
    s.ask()
    denied = s.one(Denied)
    assert (denied.code, denied.symbol, denied.order) == ("max_inventory_usd", BTC, 0)
    assert (s.core.orders, s.core.books) == (before.orders, before.books)


@pytest.mark.parametrize("key", [0, 999, -1, 2**40])
def test_commands_about_an_order_nobody_knows(key: int) -> None:
    s = Session()
    s.cancel(key)
    assert s.one(Rejected).code == "unknown_order"
    s.replace(key, 5)
    assert s.one(Rejected).code == "unknown_order"


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_order_is_neither_cancelled_nor_replaced(state: State) -> None:
    s = Session()
    key = state(s)
    s.cancel(key)
    assert s.one(Rejected).code == "not_working"
    s.replace(key, 20)
    assert s.one(Rejected).code == "not_working"


@pytest.mark.parametrize("state", [pending_new, acknowledged, unknown])
def test_an_order_that_is_not_live_yet_is_not_replaced(state: State) -> None:
    s = Session()
    key = state(s)
    s.replace(key, 20)
    assert s.one(Rejected).code == "not_working"


def test_one_change_at_a_time() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 12)
    s.replace(key, 13)
    assert s.one(Rejected).code == "replace_pending"
    s.cancel(key)
    assert s.one(Cancel)
    s.replace(key, 13)
    assert s.one(Rejected).code == "cancel_pending"
    s.cancel(key)
    assert s.one(Rejected).code == "cancel_pending"


def test_a_replace_says_what_was_asked_under_the_same_client_id() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 3)
    s.replace(key, 12, at=101)
    sent = s.one(Replace)
    assert (sent.order, sent.client_id, sent.venue_id) == (key, s.client_id(key), f"v{key}")
    assert (sent.qty, sent.price, sent.symbol) == (qty(12), price(101), BTC)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v-new", qty(12), price(101)))
    assert s.figures(key) == (OrdStatus.PARTIALLY_FILLED, 3, 9)
    assert (s.order(key).price, s.order(key).venue_id) == (price(101), "v-new")
    s.cancel(key)
    assert s.one(Cancel).target.venue_id == "v-new"


@pytest.mark.parametrize(("amount", "at", "code"), [(0, 100, "invalid_quantity"), (5, None, "invalid_price"), (5, 0, "invalid_price")])
def test_a_malformed_replace_is_denied(amount: int, at: int | None, code: str) -> None:
    s = Session()
    key = s.working()
    s.replace(key, amount, at)
    denied = s.one(Denied)
    assert (denied.code, denied.order) == (code, key)
    assert s.order(key).status is OrdStatus.NEW


def test_a_stop_order_is_replaced_without_naming_its_stop_price_again() -> None:
    s = Session()
    s.mark(100)
    key = s.working(BUY, 10, None, type=OrdType.STOP_MARKET, stop_price=price(110))
    s.replace(key, 12, None)
    assert s.one(Replace).qty == qty(12)
    assert s.core.books[0].buy_value == qty(12) * price(110)


@pytest.mark.parametrize("kind", [OrdType.MARKET, OrdType.STOP_MARKET])
def test_an_order_without_a_limit_counts_at_the_worse_of_mark_and_stop_price(kind: OrdType) -> None:
    s = Session()
    s.mark(100)
    stop = price(90) if kind is OrdType.STOP_MARKET else None
    s.submit(BUY, 10, None, type=kind, stop_price=stop)
    assert s.core.books[0].buy_value == qty(10) * price(100)
