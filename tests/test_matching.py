"""The exchange behind the paper venue matches as a venue does; otherwise whatever is proven on it is proven of nothing.

Method: one example per rule, which reads the replies and the reports of the own account; and a property test that throws random orders of
three accounts at two books and checks after each what must hold for any of them: quantities are conserved, no book is crossed, no
order trades more than it asked for or at a worse price, positions are the sums of fills, the open lists are what the reports say.
"""

from random import Random

import attrs
import pytest
from haltcore.adapters.ladder import Ticket
from haltcore.adapters.matching import OWN, Exchange
from haltcore.effects import OrdType, Price, Qty, Side, TimeInForce, price, qty, usd
from haltcore.effects.values import SCALE
from haltcore.fsm.events import (
    CancelRejected,
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderRow,
    PositionRow,
    ReplaceRejected,
    ReportStatus,
)
from haltcore.fsm.instrument import Instrument
from hypothesis import given, settings
from hypothesis import strategies as st

BTC, ETH = "BTCUSDT", "ETHUSDT"
BUY, SELL = Side.BUY, Side.SELL
IOC, FOK, GTC = TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTC


class Desk:
    """An exchange, its reports so far, and short words for the tests."""

    def __init__(self) -> None:
        self.reports: list[Event] = []
        self.exchange = Exchange((BTC, ETH), self.reports.append)
        self.now = 0

    def buy(self, client_id: str, qty: int, price: int | None, **rest: object) -> Event:
        return self.place(client_id, BUY, qty, price, **rest)

    def sell(self, client_id: str, qty: int, price: int | None, **rest: object) -> Event:
        return self.place(client_id, SELL, qty, price, **rest)

    def place(self, client_id: str, side: Side, qty: int, price: int | None, **rest: object) -> Event:
        rest.setdefault("type", OrdType.MARKET if price is None else OrdType.LIMIT)
        ticket = Ticket(client_id, BTC, side, Qty(qty), None if price is None else Price(price), **rest)  # type: ignore[arg-type]
        return self.exchange.place(ticket, self.now)

    def quote(self, side: Side, qty: int, price: int, account: str = "maker") -> str:
        reply = self.exchange.trade(BTC, side, Qty(qty), Price(price), self.now, account, GTC)
        assert isinstance(reply, OrderAccepted)
        return reply.venue_id

    def take(self, side: Side, qty: int, price: int | None = None) -> None:
        self.exchange.trade(BTC, side, Qty(qty), None if price is None else Price(price), self.now)

    def cancel(self, client_id: str, conditional: bool = False) -> Event:
        return self.exchange.cancel(BTC, client_id, "", conditional, self.now)

    def replace(self, client_id: str, qty: int, price: int | None) -> Event:
        return self.exchange.replace(BTC, client_id, "", Qty(qty), None if price is None else Price(price), self.now)

    def row(self, client_id: str, conditional: bool = False) -> OrderRow:
        row = self.exchange.query(BTC, client_id, "", conditional)
        assert row is not None
        return row

    def fills(self) -> list[tuple[str, int, int]]:
        return [(fill.client_id, fill.last_qty, fill.last_price) for fill in self.reports if isinstance(fill, OrderFilled)]

    def open(self, conditional: bool = False) -> list[str]:
        return [row.client_id for row in self.exchange.open_orders("", conditional)]


def stop(side_price: int, limit: bool = False) -> dict[str, object]:
    return {"type": OrdType.STOP_LIMIT if limit else OrdType.STOP_MARKET, "stop_price": Price(side_price)}


# --- price, time, kinds -------------------------------------------------------------------------------------------------


def test_the_best_price_trades_first_then_the_oldest_at_the_resting_price() -> None:
    desk = Desk()
    desk.buy("low", 5, 99)
    desk.buy("first", 5, 100)
    desk.buy("second", 5, 100)
    desk.take(SELL, 12, 99)
    assert desk.fills() == [("first", 5, 100), ("second", 5, 100), ("low", 2, 99)]
    desk.sell("offer", 5, 103)
    desk.sell("better", 5, 102)
    desk.take(BUY, 6)
    assert desk.fills()[3:] == [("better", 5, 102), ("offer", 1, 103)]


def test_reports_of_an_order_that_rests_and_fills_in_parts() -> None:
    desk = Desk()
    assert desk.buy("a", 5, 100) == OrderAccepted(0, "a", "v1")
    desk.now = 7
    desk.take(SELL, 2)
    desk.take(SELL, 9)
    fills = [event for event in desk.reports[1:] if isinstance(event, OrderFilled)]
    assert [(fill.at_ns, fill.venue_id, fill.trade_id, fill.last_qty, fill.cum_qty) for fill in fills] == [
        (7, "v1", "t1", 2, 2),
        (7, "v1", "t2", 3, 5),
    ]
    row = desk.row("a")
    assert (row.status, row.cum_qty, row.avg_price, row.raw) == (ReportStatus.FILLED, 5, 100, "filled")
    assert desk.open() == []
    assert desk.exchange.positions() == (PositionRow(BTC, Qty(5), Price(100)),)


def test_an_incoming_limit_order_takes_then_rests() -> None:
    desk = Desk()
    desk.quote(SELL, 3, 100)
    desk.quote(SELL, 3, 101)
    desk.buy("a", 5, 100)
    assert desk.fills() == [("a", 3, 100)]
    assert desk.row("a").raw == "partially_filled"
    assert desk.open() == ["a"]


def test_market_orders_and_ioc_leave_nothing() -> None:
    desk = Desk()
    desk.quote(SELL, 3, 100)
    desk.buy("market", 5, None)
    desk.quote(SELL, 3, 100)
    desk.buy("ioc", 5, 100, tif=IOC)
    ends = [event for event in desk.reports if isinstance(event, OrderExpired)]
    assert ends == [OrderExpired(0, "market", Qty(3)), OrderExpired(0, "ioc", Qty(3))]
    assert desk.open() == []


def test_fok_is_all_or_nothing() -> None:
    desk = Desk()
    desk.quote(SELL, 3, 100)
    desk.quote(SELL, 3, 101)
    desk.buy("more", 7, 101, tif=FOK)
    assert desk.fills() == []
    assert desk.row("more").status is ReportStatus.EXPIRED
    desk.buy("just", 6, 101, tif=FOK)
    assert desk.fills() == [("just", 3, 100), ("just", 3, 101)]


def test_post_only_never_takes() -> None:
    desk = Desk()
    desk.quote(SELL, 3, 100)
    assert desk.buy("a", 1, 100, post_only=True) == OrderRejected(0, "a", "post_only_would_cross")
    assert isinstance(desk.buy("b", 1, 99, post_only=True), OrderAccepted)
    assert desk.replace("b", 1, 100) == ReplaceRejected(0, "b", "post_only_would_cross")
    assert desk.exchange.trades == []


def test_nobody_trades_with_himself() -> None:
    desk = Desk()
    desk.buy("mine", 5, 100)
    desk.quote(BUY, 5, 99)
    desk.sell("also mine", 5, 99)
    assert OrderExpired(0, "mine", Qty(0)) in desk.reports
    assert desk.fills() == [("also mine", 5, 99)]


# --- refusals -----------------------------------------------------------------------------------------------------------


def test_what_is_refused_leaves_no_trace() -> None:
    desk = Desk()
    refused = (
        (desk.buy("a", 0, 100), "bad_qty"),
        (desk.buy("a", 1, -1), "bad_price"),
        (desk.buy("a", 1, None, type=OrdType.LIMIT), "price_missing"),
        (desk.buy("a", 1, 100, type=OrdType.MARKET), "price_not_allowed"),
        (desk.buy("a", 1, None, type=OrdType.STOP_MARKET), "stop_price_missing"),
        (desk.buy("a", 1, 100, stop_price=Price(5)), "stop_price_not_allowed"),
        (desk.buy("a", 1, None, type=OrdType.STOP_MARKET, stop_price=Price(0)), "bad_price"),
        (desk.buy("a", 1, 100, tif=IOC, post_only=True), "post_only_not_resting"),
        (desk.exchange.place(Ticket("a", "DOGE", BUY, Qty(1), Price(1)), 0), "unknown_symbol"),
        (desk.buy("a", 1, 100, reduce_only=True), "reduce_only_would_increase"),
    )
    assert [reply for reply, _ in refused] == [OrderRejected(0, "a", code) for _, code in refused]
    assert desk.reports == []
    assert desk.exchange.query(BTC, "a", "", False) is None


def test_a_client_id_is_used_once_open_or_closed_but_hand_made_orders_have_none() -> None:
    desk = Desk()
    desk.buy("a", 1, 100)
    assert desk.buy("a", 1, 100) == OrderRejected(0, "a", "duplicate_client_id")
    desk.cancel("a")
    assert desk.buy("a", 1, 100) == OrderRejected(0, "a", "duplicate_client_id")
    assert isinstance(desk.buy("", 1, 100), OrderAccepted)
    assert isinstance(desk.buy("", 1, 100), OrderAccepted)
    assert [row.venue_id for row in desk.exchange.all_open()] == ["v2", "v3"]


def test_reduce_only_stays_within_the_position() -> None:
    desk = Desk()
    desk.quote(SELL, 5, 100)
    desk.buy("open", 5, 100)
    assert desk.sell("more", 6, 101, reduce_only=True) == OrderRejected(0, "more", "reduce_only_would_increase")
    assert desk.buy("wrong", 1, 90, reduce_only=True) == OrderRejected(0, "wrong", "reduce_only_would_increase")
    assert isinstance(desk.sell("exit", 5, 101, reduce_only=True), OrderAccepted)
    assert desk.replace("exit", 6, 101) == ReplaceRejected(0, "exit", "reduce_only_would_increase")
    desk.quote(BUY, 3, 99)
    desk.sell("partly out", 3, 99)
    desk.take(BUY, 5, 101)
    assert desk.fills()[-1] == ("exit", 2, 101)
    assert OrderExpired(0, "exit", Qty(2)) in desk.reports
    assert desk.exchange.position(BTC) == 0


def test_two_reduce_only_orders_share_one_position() -> None:
    desk = Desk()
    desk.quote(SELL, 5, 100)
    desk.buy("open", 5, 100)
    desk.sell("one", 4, 101, reduce_only=True)
    desk.sell("two", 4, 101, reduce_only=True)
    desk.take(BUY, 8, 101)
    assert desk.fills()[1:] == [("one", 4, 101), ("two", 1, 101)]
    assert desk.reports[-1] == OrderExpired(0, "two", Qty(1))


GRID = Instrument(price("0.5"), qty("0.1"), qty("0.2"), qty("9"), usd("50"))


def of(size: str, at: str | None, **rest: object) -> Ticket:
    """A ticket in everyday numbers."""
    kind = OrdType.MARKET if at is None else OrdType.LIMIT
    return Ticket("a", BTC, BUY, qty(size), None if at is None else price(at), **{"type": kind, **rest})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ticket", "refusal"),
    [
        (of("0.5", "100"), ""),
        (of("0.5", "100.5"), ""),
        (of("0.5", "100.4"), "price_filter"),
        (of("0.5", "100", type=OrdType.STOP_LIMIT, stop_price=price("99.7")), "price_filter"),
        (of("0.55", "100"), "lot_size"),
        (of("0.1", "1000"), "lot_size"),
        (of("9.1", "100"), "lot_size"),
        (of("9", "100"), ""),
        (of("0.4", "124.5"), "min_notional"),
        (of("0.4", "125"), ""),
        (of("0.4", None), ""),
        (of("0.4", None, type=OrdType.STOP_MARKET, stop_price=price("124.5")), "min_notional"),
    ],
)
def test_the_terms_of_an_instrument(ticket: Ticket, refusal: str) -> None:
    exchange = Exchange((BTC, ETH), [].append, {BTC: GRID})
    reply = exchange.place(ticket, 0)
    assert (reply.reason if isinstance(reply, OrderRejected) else "") == refusal
    # Another symbol, and another account, are not bound by them.
    assert isinstance(exchange.place(attrs.evolve(ticket, client_id="c", symbol=ETH), 0), OrderAccepted)
    assert isinstance(exchange.place(attrs.evolve(ticket, client_id="b"), 0, "maker"), OrderAccepted)


def test_worth_goes_by_the_contract_and_without_a_limit_by_the_last_price() -> None:
    inverse = Instrument(min_notional=usd("500"), multiplier=100 * SCALE, inverse=True)
    large = Instrument(min_notional=usd("500"), multiplier=100 * SCALE)
    assert isinstance(Exchange((BTC,), [].append, {BTC: inverse}).place(of("4", "1000"), 0), OrderRejected)
    assert isinstance(Exchange((BTC,), [].append, {BTC: inverse}).place(of("5", "0.1"), 0), OrderAccepted)
    assert isinstance(Exchange((BTC,), [].append, {BTC: large}).place(of("4", "1"), 0), OrderRejected)
    assert isinstance(Exchange((BTC,), [].append, {BTC: large}).place(of("5", "1"), 0), OrderAccepted)
    exchange = Exchange((BTC,), [].append, {BTC: GRID})
    exchange.mark(BTC, price("100"), 0)
    assert isinstance(exchange.place(of("0.4", None), 0), OrderRejected)


def test_a_reduce_only_order_may_be_small_and_a_replace_keeps_the_terms_of_now() -> None:
    exchange = Exchange((BTC,), [].append, {BTC: GRID})
    exchange.trade(BTC, SELL, qty("1"), price("100"), 0, "maker", GTC)
    exchange.place(of("1", "100"), 0)
    small = Ticket("s", BTC, SELL, qty("0.2"), price("101"), reduce_only=True)
    assert isinstance(exchange.place(small, 0), OrderAccepted)
    assert isinstance(exchange.replace(BTC, "s", "", qty("0.3"), price("102"), 0), OrderReplaced)
    refused = exchange.replace(BTC, "s", "", qty("0.3"), price("102.2"), 0)
    assert isinstance(refused, ReplaceRejected)
    assert refused.reason == "price_filter"
    exchange.instruments[BTC] = Instrument(price("0.1"))
    assert isinstance(exchange.replace(BTC, "s", "", qty("0.3"), price("102.2"), 0), OrderReplaced)


# --- cancel and replace -------------------------------------------------------------------------------------------------


def test_cancel_needs_the_right_book_and_an_open_order() -> None:
    desk = Desk()
    desk.buy("a", 3, 100)
    desk.take(SELL, 1)
    unknown = CancelRejected(0, "a", "unknown_order")
    assert desk.cancel("a", conditional=True) == unknown
    assert desk.exchange.cancel(ETH, "a", "", False, 0) == unknown
    assert desk.cancel("a") == OrderCancelled(0, "a", Qty(1))
    assert desk.reports[-1] == OrderCancelled(0, "a", Qty(1))
    assert desk.cancel("a") == unknown
    desk.take(SELL, 1)
    assert len(desk.fills()) == 1


def test_only_the_own_account_is_reached_by_cancel() -> None:
    desk = Desk()
    venue_id = desk.quote(BUY, 1, 90)
    assert isinstance(desk.exchange.cancel(BTC, "", venue_id, False, 0), CancelRejected)
    assert isinstance(desk.exchange.cancel(BTC, "", venue_id, False, 0, "maker"), OrderCancelled)


def test_cancel_all_takes_one_symbol_and_one_book_and_foreign_orders_too() -> None:
    desk = Desk()
    desk.buy("a", 1, 100)
    desk.buy("", 1, 99)
    desk.buy("stop", 1, None, **stop(110))
    desk.exchange.place(Ticket("eth", ETH, BUY, Qty(1), Price(10)), 0)
    assert desk.exchange.cancel_all(BTC, False, 0) == 2
    assert [row.client_id for row in desk.exchange.all_open()] == ["eth", "stop"]
    assert desk.exchange.cancel_all(BTC, True, 0, spare=["v3"]) == 0
    assert desk.exchange.cancel_all(BTC, True, 0) == 1
    assert desk.open(conditional=True) == []


def test_replace_keeps_its_place_only_when_it_shrinks() -> None:
    desk = Desk()
    for name in ("shrinks", "grows", "moves", "stays"):
        desk.buy(name, 4, 100)
    assert desk.replace("shrinks", 2, 100) == OrderReplaced(0, "shrinks", "v1", Qty(2), Price(100))
    desk.replace("grows", 5, 100)
    desk.replace("moves", 4, 99)
    desk.replace("moves", 4, 100)
    desk.take(SELL, 100)
    assert [name for name, _, _ in desk.fills()] == ["shrinks", "stays", "grows", "moves"]


def test_replace_counts_what_is_filled_and_can_end_the_order() -> None:
    desk = Desk()
    desk.buy("a", 5, 100)
    desk.take(SELL, 3)
    desk.replace("a", 4, 100)
    assert desk.exchange.open_orders("", False)[0].qty == 4
    assert desk.replace("a", 2, 100) == OrderReplaced(0, "a", "v1", Qty(3), Price(100))
    assert (desk.row("a").status, desk.row("a").qty, desk.open()) == (ReportStatus.FILLED, 3, [])
    assert desk.replace("a", 9, 100) == ReplaceRejected(0, "a", "unknown_order")


def test_replace_into_the_other_side_trades() -> None:
    desk = Desk()
    desk.quote(SELL, 2, 101)
    desk.buy("a", 5, 100)
    desk.replace("a", 5, 101)
    assert [type(event) for event in desk.reports] == [OrderAccepted, OrderReplaced, OrderFilled]
    assert desk.replace("a", 5, None) == ReplaceRejected(0, "a", "price_missing")


# --- stops --------------------------------------------------------------------------------------------------------------


def test_stops_wait_in_their_own_book_until_a_trade_reaches_them() -> None:
    desk = Desk()
    desk.buy("market", 1, None, **stop(105))
    desk.buy("limit", 1, 104, **stop(106, limit=True))
    desk.sell("down", 1, None, **stop(95))
    assert (desk.open(), desk.open(conditional=True)) == ([], ["market", "limit", "down"])
    desk.quote(SELL, 1, 104)
    desk.take(BUY, 1)
    assert desk.fills() == []
    desk.quote(SELL, 5, 107)
    desk.exchange.mark(BTC, Price(106), 0)
    assert desk.fills() == [("market", 1, 107)]
    assert (desk.open(), desk.open(conditional=True)) == (["limit"], ["down"])
    assert not desk.row("limit", conditional=True).conditional
    assert isinstance(desk.cancel("limit", conditional=True), CancelRejected)
    assert isinstance(desk.cancel("limit"), OrderCancelled)


def test_one_trigger_can_set_off_the_next() -> None:
    desk = Desk()
    for level in (99, 98, 97):
        desk.quote(BUY, 1, level)
    desk.sell("first", 1, None, **stop(100))
    desk.sell("second", 1, None, **stop(99))
    desk.exchange.mark(BTC, Price(100), 0)
    assert desk.fills() == [("first", 1, 99), ("second", 1, 98)]


def test_a_stop_that_would_trigger_at_once_is_refused_and_a_void_one_expires() -> None:
    desk = Desk()
    desk.exchange.mark(BTC, Price(100), 0)
    assert desk.sell("late", 1, None, **stop(100)) == OrderRejected(0, "late", "would_trigger")
    desk.sell("exit", 1, None, reduce_only=True, **stop(90))
    desk.sell("rests", 1, 95, reduce_only=True, **stop(90, limit=True))
    desk.sell("maker", 1, 85, post_only=True, **stop(90, limit=True))
    desk.quote(BUY, 1, 86)
    desk.exchange.mark(BTC, Price(90), 0)
    assert desk.reports[-3:] == [OrderExpired(0, name, Qty(0)) for name in ("exit", "rests", "maker")]
    assert desk.exchange.trades == []


# --- for the fault layer ------------------------------------------------------------------------------------------------


def test_open_orders_as_of_a_moment_ago() -> None:
    desk = Desk()
    desk.now = 1_000
    desk.buy("a", 5, 100)
    desk.now = 2_000
    desk.take(SELL, 2)
    desk.now = 3_000
    desk.cancel("a")
    seen = [[(row.client_id, row.cum_qty) for row in desk.exchange.open_orders("", False, at)] for at in (999, 1_000, 2_500, 3_000)]
    assert seen == [[], [("a", 0)], [("a", 2)], []]


def test_hit_reaches_an_order_behind_others() -> None:
    desk = Desk()
    desk.quote(BUY, 4, 101)
    desk.buy("before", 3, 100)
    desk.buy("aim", 5, 100)
    desk.exchange.hit("v3", Qty(2), 0)
    assert desk.fills() == [("before", 3, 100), ("aim", 2, 100)]


# --- any sequence -------------------------------------------------------------------------------------------------------

# Drawn by a seeded generator, so that most orders meet others: few prices, mostly plain limit orders in one symbol. Strategies that
# build each order themselves repeat values so much that hardly anything trades.
KINDS = [OrdType.LIMIT] * 6 + [OrdType.MARKET, OrdType.STOP_LIMIT, OrdType.STOP_MARKET]
SEEDS = st.randoms(use_true_random=True)


def any_ticket(rng: Random, name: str) -> Ticket:
    kind, tif = rng.choice(KINDS), rng.choice([GTC, GTC, GTC, GTC, IOC, FOK])
    limit, stops = kind in (OrdType.LIMIT, OrdType.STOP_LIMIT), kind in (OrdType.STOP_LIMIT, OrdType.STOP_MARKET)
    return Ticket(
        name,
        any_symbol(rng),
        rng.choice(list(Side)),
        Qty(rng.randint(1, 6)),
        any_price(rng) if limit else None,
        kind,
        any_price(rng) if stops else None,
        tif,
        post_only=limit and tif is GTC and rng.random() < 0.2,
        reduce_only=rng.random() < 0.3,
    )


def any_symbol(rng: Random) -> str:
    return rng.choice([BTC, BTC, BTC, ETH])


def any_price(rng: Random) -> Price:
    return Price(rng.randint(1, 6))


def act(exchange: Exchange, rng: Random, n: int) -> None:
    """One random action; more than half of them place an order."""
    name, conditional = f"c{rng.randint(0, n)}", rng.random() < 0.3
    match rng.randrange(10):
        case 0:
            exchange.cancel(BTC, name, "", conditional, n)
        case 1 | 2:
            exchange.replace(BTC, name, "", Qty(rng.randint(1, 6)), rng.choice([None, any_price(rng), any_price(rng)]), n)
        case 3:
            exchange.mark(any_symbol(rng), any_price(rng), n)
        case 4 if rng.random() < 0.3:
            symbol = any_symbol(rng)
            exchange.cancel_all(symbol, conditional, n)
            assert exchange.open_orders(symbol, conditional) == ()
        case _:
            exchange.place(any_ticket(rng, f"c{n}"), n, rng.choice([OWN, "maker", "taker"]))


def check_books(exchange: Exchange) -> None:
    for symbol in (BTC, ETH):
        trades = [trade for trade in exchange.trades if trade.symbol == symbol]
        for account in (OWN, "maker", "taker"):
            bought = sum(trade.qty for trade in trades if trade.buyer == account)
            sold = sum(trade.qty for trade in trades if trade.seller == account)
            assert exchange.position(symbol, account) == bought - sold
        book = exchange._books[symbol]
        bids, offers = book.resting[BUY].keys, book.resting[SELL].keys
        assert not bids or not offers or -bids[0] < offers[0]
        for ladder in (*book.resting.values(), *book.stops.values()):
            assert ladder.keys == sorted(ladder.keys)
            assert all(order.leaves > 0 and order.status is ReportStatus.OPEN for order in ladder.upto(None))
    assert all(trade.buyer != trade.seller for trade in exchange.trades)
    own = [order for order in exchange._orders.values() if order.account == OWN and order.status is ReportStatus.OPEN]
    assert sorted(order.venue_id for order in own) == sorted(row.venue_id for row in exchange.all_open())
    assert all(order.ladder is not None for order in own)


def check_reports(exchange: Exchange, reports: list[Event]) -> None:
    """The reports alone tell the same story as the venue's own lists, and no fill is above the quantity or worse than the price."""
    orders = {order.ticket.client_id: order.ticket for order in exchange._orders.values()}
    limits = {name: (ticket.qty, ticket.price) for name, ticket in orders.items()}
    cum: dict[str, int] = {}
    ended: list[str] = []
    for event in reports:
        match event:
            case OrderAccepted(client_id=name):
                assert name not in cum
                cum[name] = 0
            case OrderFilled(client_id=name, last_qty=qty, last_price=price):
                cum[name] += qty
                most, limit = limits[name]
                assert name not in ended
                assert cum[name] == event.cum_qty <= most
                assert limit is None or (price <= limit if orders[name].side is BUY else price >= limit)
            case OrderReplaced(client_id=name):
                limits[name] = (event.qty, event.price)
            case OrderCancelled(client_id=name) | OrderExpired(client_id=name):
                assert name not in ended
                assert cum[name] == event.cum_qty
                ended.append(name)
    alive = [name for name in cum if name not in ended and cum[name] < limits[name][0]]
    assert sorted(alive) == sorted(row.client_id for row in exchange.all_open())


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_any_sequence_conserves_quantities_and_never_crosses_a_book(rng: Random) -> None:
    reports: list[Event] = []
    exchange = Exchange((BTC, ETH), reports.append)
    for n in range(60):
        act(exchange, rng, n)
        check_books(exchange)
    check_reports(exchange, reports)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_reduce_only_never_increases_a_position(rng: Random) -> None:
    reports: list[Event] = []
    exchange = Exchange((BTC, ETH), reports.append)
    for n in range(60):
        act(exchange, rng, n)
    held = {BTC: 0, ETH: 0}
    for event in reports:
        if isinstance(event, OrderFilled):
            ticket = exchange._orders[event.venue_id].ticket
            before = held[ticket.symbol]
            held[ticket.symbol] += event.last_qty if ticket.side is BUY else -event.last_qty
            assert not ticket.reduce_only or (abs(held[ticket.symbol]) < abs(before) and held[ticket.symbol] * before >= 0)
