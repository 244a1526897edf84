"""What an exchange's books are made of: tickets, orders, and ladders that keep price-time priority.

A ladder sorts by one key, chosen so that the front is always what comes first:

============  ===================  ==========================================================
ladder        key                  the front
============  ===================  ==========================================================
resting       -price for buys      is hit first: the highest bid, the lowest offer
stops         stop price for buys  triggers first: the lowest buy stop, the highest sell stop
============  ===================  ==========================================================

(for sells with the sign turned). Within a key it is first come, first served: a dict keeps the order of arrival and forgets one
order at no cost, so that a cancel does not depend on how many orders are open.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from attrs import define, field, frozen

from ..effects import OrdType, Place, Price, Qty, Side, TimeInForce
from ..effects.values import SCALE
from ..fsm.events import OrderRow, ReportStatus
from ..fsm.instrument import Instrument

STOPS = (OrdType.STOP_LIMIT, OrdType.STOP_MARKET)
_PRICED = (OrdType.LIMIT, OrdType.STOP_LIMIT)


@frozen
class Ticket:
    """What an order asks for. ``client_id`` is empty for an order placed by hand and for counterparties."""

    client_id: str
    symbol: str
    side: Side
    qty: Qty
    price: Price | None
    type: OrdType = OrdType.LIMIT
    stop_price: Price | None = None
    tif: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False

    @classmethod
    def of(cls, place: Place) -> "Ticket":
        """The ticket of a place request."""
        return cls(
            place.client_id, place.symbol, place.side, place.qty, place.price, place.type, place.stop_price, place.tif,
            place.post_only, place.reduce_only,
        )  # fmt: skip


@define(eq=False)
class BookOrder:
    """An order at the exchange. ``conditional`` says in which book it is now; ``ladder`` is where it waits, if it does."""

    number: int
    account: str
    ticket: Ticket
    qty: int
    price: Price | None
    conditional: bool
    cum: int = 0
    paid: int = 0
    status: ReportStatus = ReportStatus.OPEN
    ladder: "Ladder | None" = None
    key: int = 0
    #: What a query would have said, since when: the last row is the present.
    rows: list[tuple[int, OrderRow]] = field(factory=list)

    @property
    def venue_id(self) -> str:
        """The exchange's own name for it; they count from 1."""
        return f"v{self.number}"

    @property
    def leaves(self) -> int:
        """What may still fill."""
        return self.qty - self.cum

    @property
    def sign(self) -> int:
        """What a fill of one unit adds to the position."""
        return sign_of(self.ticket.side)

    def note(self, now_ns: int) -> None:
        """Keep what a query says from now on."""
        ticket = self.ticket
        word = "partially_filled" if self.status is ReportStatus.OPEN and self.cum else self.status.value
        row = OrderRow(
            client_id=ticket.client_id,
            venue_id=self.venue_id,
            symbol=ticket.symbol,
            side=ticket.side,
            status=self.status,
            qty=Qty(self.qty),
            price=self.price,
            cum_qty=Qty(self.cum),
            avg_price=Price(self.paid // self.cum) if self.cum else None,
            conditional=self.conditional,
            raw="new" if word == "open" else word,
        )
        self.rows.append((now_ns, row))


class Ladder:
    """Orders by key, then by arrival."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self._levels: dict[int, dict[int, BookOrder]] = {}

    def add(self, key: int, order: BookOrder) -> None:
        """Put the order behind the others of its key."""
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = {}
            insort(self.keys, key)
        level[order.number] = order
        order.ladder, order.key = self, key

    def remove(self, order: BookOrder) -> None:
        """Take the order out."""
        level = self._levels[order.key]
        del level[order.number]
        if not level:
            del self._levels[order.key]
            del self.keys[bisect_left(self.keys, order.key)]
        order.ladder = None

    def upto(self, key: int | None) -> Iterator[BookOrder]:
        """The orders from the front to this key, included; all of them for None."""
        for level in self.keys:
            if key is not None and level > key:
                return
            yield from self._levels[level].values()


class Book:
    """The four ladders of a symbol and the price that stops look at: the last trade or mark, whichever is newer."""

    def __init__(self) -> None:
        self.resting = {side: Ladder() for side in Side}
        self.stops = {side: Ladder() for side in Side}
        self.last: Price | None = None


def sign_of(side: Side) -> int:
    """+1 for buys, -1 for sells."""
    return 1 if side is Side.BUY else -1


def other_side(side: Side) -> Side:
    """The side that trades with this one."""
    return Side.SELL if side is Side.BUY else Side.BUY


def malformed(ticket: Ticket) -> str:
    """What is wrong with the ticket in itself, or nothing."""
    limit, stop = ticket.type in _PRICED, ticket.type in STOPS
    checks = (
        (ticket.qty <= 0, "bad_qty"),
        (limit and ticket.price is None, "price_missing"),
        (not limit and ticket.price is not None, "price_not_allowed"),
        (stop and ticket.stop_price is None, "stop_price_missing"),
        (not stop and ticket.stop_price is not None, "stop_price_not_allowed"),
        (ticket.price is not None and ticket.price <= 0, "bad_price"),
        (ticket.stop_price is not None and ticket.stop_price <= 0, "bad_price"),
        (ticket.post_only and (not limit or ticket.tif is not TimeInForce.GTC), "post_only_not_resting"),
    )
    return next((code for wrong, code in checks if wrong), "")


def misfit(terms: Instrument, ticket: Ticket, qty: int, price: Price | None, last: Price | None) -> str:
    """Which of the instrument's terms the ticket with this quantity and price does not keep, by the filter's name, or nothing.

    Without a limit it is worth what the stop price, or else the last price, says.
    """
    prices = [p for p in (price, ticket.stop_price) if p is not None]
    if terms.tick and any(p % terms.tick for p in prices):
        return "price_filter"
    if (terms.lot and qty % terms.lot) or qty < terms.min_qty or (terms.max_qty and qty > terms.max_qty):
        return "lot_size"
    at = SCALE if terms.inverse else prices[0] if prices else last
    worth = qty * at * terms.multiplier if at is not None else None
    small = worth is not None and worth < terms.min_notional * SCALE * SCALE
    return "min_notional" if small and not ticket.reduce_only else ""
