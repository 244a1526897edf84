"""The same order life in NautilusTrader, for comparison: four events applied to one order, one after the other."""

# mypy: disable-error-code="import-not-found"

from collections.abc import Callable
from typing import Any

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.enums import LiquiditySide, OrderSide
from nautilus_trader.model.events import OrderAccepted, OrderFilled, OrderSubmitted
from nautilus_trader.model.identifiers import AccountId, ClientOrderId, TradeId, VenueOrderId
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.test_kit.stubs.execution import TestExecStubs

ACCOUNT = AccountId("SIM-001")
INSTRUMENT = TestInstrumentProvider.btcusdt_binance()
VENUE_ID = VenueOrderId("v")
ONE, TWO, PRICE = Quantity.from_str("0.010000"), Quantity.from_str("0.020000"), Price.from_str("50000.00")
FEE = Money(0, INSTRUMENT.quote_currency)
TRADES = (TradeId("t1"), TradeId("t2"))

#: An order, and its events or a function that makes them.
Pair = tuple[Any, list[Any] | Callable[[Any], list[Any]]]


def events_for(order: Any) -> list[Any]:
    """Submitted, accepted, filled by half, filled."""
    who = (order.trader_id, order.strategy_id, order.instrument_id, order.client_order_id)
    fills = [
        OrderFilled(
            *who, VENUE_ID, ACCOUNT, trade, None, OrderSide.BUY, order.order_type, ONE, PRICE, INSTRUMENT.quote_currency, FEE,
            LiquiditySide.MAKER, UUID4(), 5, 5,
        )
        for trade in TRADES
    ]  # fmt: skip
    return [OrderSubmitted(*who, ACCOUNT, UUID4(), 3, 3), OrderAccepted(*who, VENUE_ID, ACCOUNT, UUID4(), 4, 4), *fills]


def new_orders(count: int, prebuilt: bool) -> list[Pair]:
    """Fresh orders: there they are changed in place, so each round needs its own."""
    orders = [
        TestExecStubs.limit_order(
            instrument=INSTRUMENT, order_side=OrderSide.BUY, price=PRICE, quantity=TWO, client_order_id=ClientOrderId(f"O-{n}")
        )
        for n in range(count)
    ]
    return [(order, events_for(order) if prebuilt else events_for) for order in orders]


def run_lives(pairs: list[Pair]) -> None:
    """Apply every order's events."""
    for order, events in pairs:
        for event in events(order) if callable(events) else events:
            order.apply(event)
