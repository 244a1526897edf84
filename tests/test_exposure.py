"""What a book says incrementally is what its orders say from scratch, and the worst case is the worse of the two paths.

Method: Hypothesis feeds random reports to random orders of both sides through the real ``step`` and recomputes all sums, the position
and the cash from the trades after each. The formula is checked against plain examples, flips through zero included.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Notional, Place, Price, Qty, Replace, Side, price, qty
from haltcore.fsm.events import OrderReplaced, PositionRow, TradeBusted, TradeCorrected
from haltcore.fsm.exposure import FLAT, Book, from_scratch, long_value, short_value, worst_value
from haltcore.fsm.order import is_done
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import BTC, BUY, ETH, IN_DOUBT, REFUSED, SELL, Session

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from([
            "submit", "submit", "accept", "fill", "fill", "cancelled", "expired", "reject", "doubt", "refuse", "replace", "replaced",
            "bust", "correct", "cancel", "mark",
        ]),
        st.integers(0, 5), st.integers(1, 12), st.integers(90, 110), st.sampled_from([BUY, SELL]), st.sampled_from([BTC, BTC, ETH]),
    ),
    max_size=30,
)  # fmt: skip


def _act(s: Session, keys: list[int], action: tuple[str, int, int, int, Side, str]) -> None:
    kind, which, amount, at, side, symbol = action
    if kind == "mark":
        s.mark(at, symbol)
    elif kind == "submit":
        s.ask(side, amount, at, symbol)
        keys += [place.order for place in s.got(Place)]
    elif keys:
        key = keys[which % len(keys)]
        cid = s.client_id(key)
        acts: dict[str, Any] = {
            "accept": lambda: s.accept(key),
            "fill": lambda: s.fill(key, amount, at, trade=f"{key}-{amount}"),
            "cancelled": lambda: s.cancelled(key, cum=amount),
            "expired": lambda: s.expired(key),
            "reject": lambda: s.reject(key),
            "doubt": lambda: [s.outcome(p, IN_DOUBT) for p in s.all(Place) if p.order == key],
            "refuse": lambda: [s.outcome(p, REFUSED) for p in [*s.all(Place), *s.all(Replace)] if p.order == key],
            "replace": lambda: s.replace(key, amount, at),
            "replaced": lambda: s.feed(OrderReplaced(s.now, cid, "v", qty(amount), price(at))),
            "bust": lambda: s.feed(TradeBusted(s.now, cid, f"{key}-{amount}")),
            "correct": lambda: s.feed(TradeCorrected(s.now, cid, f"{key}-{amount}", qty(amount + 1), price(at))),
            "cancel": lambda: s.cancel(key),
        }
        acts[kind]()


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_incremental_is_from_scratch(actions: list[tuple[str, int, int, int, Side, str]]) -> None:
    s = Session()
    keys: list[int] = []
    for action in actions:
        _act(s, keys, action)
        for sym, book in s.core.books.items():
            orders = [s.order(key) for key in keys if s.order(key).spec.sym == sym]
            assert from_scratch(orders, attrs.evolve(FLAT, mark=book.mark)) == book
            bought = sum(o.cum_qty for o in orders if o.spec.side is BUY)
            sold = sum(o.cum_qty for o in orders if o.spec.side is SELL)
            assert book.position == bought - sold
            assert book.open_orders == sum(not is_done(o) for o in orders)
        assert s.core.total == sum(worst_value(book) for book in s.core.books.values())


def book(position: int, buys: int, sells: int, mark: int = 100) -> Book:
    return attrs.evolve(
        FLAT, position=Qty(position), mark=Price(mark), buy_qty=Qty(buys), buy_value=Notional(buys * mark), sell_qty=Qty(sells),
        sell_value=Notional(sells * mark),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("position", "buys", "sells", "long", "short"),
    [
        (0, 0, 0, 0, 0),
        (5, 0, 0, 500, -500),
        (-5, 0, 0, -500, 500),
        (0, 3, 2, 300, 200),
        (5, 3, 2, 800, -300),
        (5, 0, 5, 500, 0),  # works the long off
        (5, 0, 12, 500, 700),  # would flip it
        (-5, 12, 0, 700, 500),
    ],
)
def test_the_worst_case_is_the_worse_of_all_buys_and_all_sells(position: int, buys: int, sells: int, long: int, short: int) -> None:
    subject = book(position, buys, sells)
    assert (long_value(subject), short_value(subject)) == (long, short)
    assert worst_value(subject) == max(long, short)


@given(st.integers(-50, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_worst_case_is_never_negative_and_covers_every_outcome(position: int, buys: int, sells: int, mark: int) -> None:
    worst = worst_value(book(position, buys, sells, mark))
    assert worst >= 0
    for bought in {0, buys // 2, buys}:
        for sold in {0, sells // 2, sells}:
            assert abs((position + bought - sold) * mark) <= worst


def test_a_flip_through_zero() -> None:
    s = Session()
    s.mark(100)
    s.fill(s.working(BUY, 5), 5)
    key = s.working(SELL, 12)
    assert s.core.total == qty(7) * price(100)
    s.fill(key, 12)
    assert s.position() == qty(-7)
    assert s.core.total == qty(7) * price(100)
    assert s.core.books[0].cash == qty(7) * price(100)


def test_reserved_from_the_decision_on_until_evidence() -> None:
    s = Session()
    s.mark(100)
    key = s.submit(BUY, 10)
    assert s.core.total == qty(10) * price(100)
    s.outcome(s.one(Place), IN_DOUBT)
    assert s.core.books[0].unknown_buy == 1
    assert s.core.total == qty(10) * price(100)
    s.cancel(key)
    assert s.core.total == qty(10) * price(100), "a pending cancel is still fillable"
    s.cancelled(key)
    assert s.core.total == 0
    assert s.core.books[0].unknown_buy == 0


def test_a_pending_replace_counts_with_the_worse_quantity_and_price() -> None:
    s = Session()
    key = s.working(BUY, 10, at=100)
    s.replace(key, 8, at=120)
    assert s.core.books[0].buy_value == qty(10) * price(120)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(8), price(120)))
    assert s.core.books[0].buy_value == qty(8) * price(120)


def test_the_opening_position_is_the_venue_s() -> None:
    s = Session(ready=False)
    s.answer_stock(positions=(PositionRow(BTC, qty(-3), price(50)),))
    assert s.position() == qty(-3)
    assert s.core.total == qty(3) * price(50)


def test_the_first_trade_prices_an_unpriced_symbol() -> None:
    s = Session()
    s.fill(s.working(BUY, 10, at=100), 4, at=99)
    assert s.core.books[0].mark == price(99)
    assert s.core.total == qty(4) * price(99) + qty(6) * price(100)
