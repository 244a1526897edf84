"""A small exchange: price-time priority books, stop orders, one own account among others. No clock, no randomness, no I/O.

Time comes in with every call. Whatever happens to an order of the own account is told twice, as at a real venue: the method returns
the *reply*, which only the asker sees, and the *reports* go to the sink given to the constructor. A refusal is told in the reply
alone, since the venue keeps no refused order.

Rules beyond price and time, each as large venues have them:

- A client id is used once per account, for ever.
- A post-only order that would trade is rejected. FOK is filled whole or expires; what is left of IOC and of market orders expires.
- Nobody trades with himself: an own resting order that an own new order would hit expires.
- A reduce-only order is refused when it is larger than the position that it reduces; what would no longer reduce when its turn
  comes expires.
- A stop that would trigger at once is refused. A triggered stop goes to the regular book under its old ids, and no report says so.
- What does not fit the symbol's instrument of that moment is refused, by the names of Binance's filters (price_filter, lot_size,
  min_notional). Counterparties are bound by none.
- A replace that changes the price or adds quantity loses its place in the queue; one to no more than what is filled ends the
  order as filled (FIX 5.0 SP2, order state change matrices).
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping

from attrs import frozen

from ..effects import OrdType, Price, Qty, Side, TimeInForce, Usd
from ..fsm.events import (
    DUPLICATE_CLIENT_ID,
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
from ..fsm.instrument import Instrument
from .ladder import STOPS, Book, BookOrder, Ticket, malformed, misfit, other_side, sign_of

#: The account whose reports are told. Every other name is a counterparty.
OWN = "own"
UNKNOWN_ORDER = "unknown_order"
#: How far back the open orders can still be listed. Long enough for any snapshot that lags.
HISTORY_NS = 1_000_000_000


@frozen
class Trade:
    """One match: who bought from whom, at the price of the order that was there first."""

    trade_id: str
    symbol: str
    price: Price
    qty: Qty
    buyer: str
    seller: str


class Exchange:
    """The books and positions of a venue. Everything is told of the account ``OWN``; ``report`` gets its execution reports.

    ``instruments`` are the terms by symbol, and may be changed; a symbol without any takes every order.
    """

    def __init__(
        self, symbols: Collection[str], report: Callable[[Event], None], instruments: Mapping[str, Instrument] | None = None
    ) -> None:
        self.symbols = tuple(symbols)
        self.instruments = dict(instruments or {})
        self._books = {symbol: Book() for symbol in symbols}
        self._report_sink = report
        self._orders: dict[str, BookOrder] = {}
        self._by_client: dict[tuple[str, str], BookOrder] = {}
        self._open: dict[int, BookOrder] = {}
        self._ended: deque[tuple[int, BookOrder]] = deque()
        self._positions: dict[tuple[str, str], int] = {}
        self.trades: list[Trade] = []

    # --- requests ---------------------------------------------------------------------------------------------------

    def place(self, ticket: Ticket, now_ns: int, account: str = OWN) -> OrderAccepted | OrderRejected:
        """A new order. It is matched at once; what came of that is in the reports, the reply says only that it was taken."""
        refusal = self._refusal(ticket, account)
        if refusal:
            return OrderRejected(now_ns, ticket.client_id, refusal)
        conditional = ticket.type in STOPS
        order = BookOrder(len(self._orders) + 1, account, ticket, ticket.qty, ticket.price, conditional)
        self._orders[order.venue_id] = order
        if ticket.client_id:
            self._by_client[account, ticket.client_id] = order
        if account == OWN:
            self._open[order.number] = order
        reply = OrderAccepted(now_ns, ticket.client_id, order.venue_id)
        self._tell(order, reply)
        self._enter(order, now_ns)
        self._trigger(ticket.symbol, now_ns)
        return reply

    def cancel(
        self, symbol: str, client_id: str, venue_id: str, conditional: bool, now_ns: int, account: str = OWN
    ) -> OrderCancelled | CancelRejected:
        """Cancel one order of the named book, by client id, or by venue id where that is empty."""
        order = self._find(account, symbol, client_id, venue_id)
        if order is None or order.status is not ReportStatus.OPEN or order.conditional != conditional:
            return CancelRejected(now_ns, client_id, UNKNOWN_ORDER)
        reply = OrderCancelled(now_ns, order.ticket.client_id, Qty(order.cum))
        self._end(order, ReportStatus.CANCELLED, reply)
        return reply

    def cancel_all(self, symbol: str, conditional: bool, now_ns: int, spare: Collection[str] = ()) -> int:
        """Cancel every own order of the symbol and book but those whose venue ids are spared. Returns how many went."""
        spared = frozenset(spare)
        rows = [row for row in self.open_orders(symbol, conditional) if row.venue_id not in spared]
        for row in rows:
            self.cancel(symbol, "", row.venue_id, conditional, now_ns)
        return len(rows)

    def replace(
        self, symbol: str, client_id: str, venue_id: str, qty: Qty, price: Price | None, now_ns: int
    ) -> OrderReplaced | ReplaceRejected:
        """Change an own open order of either book. ``qty`` is the new total, what is filled included."""
        order = self._find(OWN, symbol, client_id, venue_id)
        if order is None or order.status is not ReportStatus.OPEN:
            return ReplaceRejected(now_ns, client_id, UNKNOWN_ORDER)
        refusal = self._replace_refusal(order, qty, price)
        if refusal:
            return ReplaceRejected(now_ns, order.ticket.client_id, refusal)
        keeps_place = price == order.price and qty <= order.qty
        order.qty, order.price = max(qty, order.cum), price
        reply = OrderReplaced(now_ns, order.ticket.client_id, order.venue_id, Qty(order.qty), price)
        if not order.leaves:
            self._end(order, ReportStatus.FILLED, reply)
            return reply
        self._tell(order, reply)
        if not keeps_place:
            if order.ladder is not None:
                order.ladder.remove(order)
            self._enter(order, now_ns)
            self._trigger(symbol, now_ns)
        return reply

    def trade(
        self, symbol: str, side: Side, qty: Qty, price: Price | None, now_ns: int,
        account: str = "taker", tif: TimeInForce = TimeInForce.IOC,
    ) -> OrderAccepted | OrderRejected:  # fmt: skip
        """An order of a counterparty: by default it takes what it gets, with GTC its rest stays as a quote. No price is any price."""
        kind = OrdType.MARKET if price is None else OrdType.LIMIT
        return self.place(Ticket("", symbol, side, qty, price, kind, tif=tif), now_ns, account)

    def hit(self, venue_id: str, qty: Qty, now_ns: int) -> None:
        """A counterparty takes ``qty`` of this resting order and whatever stands before it. Nothing if it does not rest."""
        order = self._orders[venue_id]
        if order.ladder is None or order.conditional:
            return
        total = 0
        for resting in order.ladder.upto(order.key):
            if resting is order:
                break
            total += resting.leaves
        self.trade(order.ticket.symbol, other_side(order.ticket.side), Qty(total + qty), order.price, now_ns)

    def mark(self, symbol: str, price: Price, now_ns: int) -> None:
        """A new mark price. Stops look at it as at a trade."""
        self._books[symbol].last = price
        self._trigger(symbol, now_ns)

    # --- questions --------------------------------------------------------------------------------------------------

    def query(self, symbol: str, client_id: str, venue_id: str, conditional: bool) -> OrderRow | None:
        """An own order, open or closed. The conditional book remembers the orders that were triggered; the row says where one is now."""
        order = self._find(OWN, symbol, client_id, venue_id)
        if order is None or not (order.ticket.type in STOPS if conditional else not order.conditional):
            return None
        return order.rows[-1][1]

    def open_orders(self, symbol: str, conditional: bool, as_of_ns: int | None = None) -> tuple[OrderRow, ...]:
        """The own open orders of a book in order of arrival, of all symbols for an empty one; ``as_of_ns`` at most HISTORY_NS ago."""
        rows = []
        if as_of_ns is None:
            rows = [order.rows[-1][1] for order in self._open.values()]
        else:
            orders = [order for _, order in self._ended] + list(self._open.values())
            for order in sorted(orders, key=lambda order: order.number):
                rows += [row for since, row in order.rows if since <= as_of_ns][-1:]
        return tuple(
            row
            for row in rows
            if row.conditional == conditional and symbol in ("", row.symbol) and row.status is ReportStatus.OPEN
        )

    def all_open(self) -> tuple[OrderRow, ...]:
        """Every own open order of both books: the truth that a sweep has to prove empty."""
        return self.open_orders("", False) + self.open_orders("", True)

    def position(self, symbol: str, account: str = OWN) -> Qty:
        """The position of an account, negative when short."""
        return Qty(self._positions.get((account, symbol), 0))

    def positions(self) -> tuple[PositionRow, ...]:
        """The own positions that are not flat, in the order of the symbols."""
        held = [(symbol, self.position(symbol), book.last) for symbol, book in self._books.items()]
        return tuple(PositionRow(symbol, amount, last) for symbol, amount, last in held if amount)

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _refusal(self, ticket: Ticket, account: str) -> str:
        """Why the order is not taken, or nothing."""
        if ticket.symbol not in self._books:
            return "unknown_symbol"
        fault = malformed(ticket)
        if fault:
            return fault
        if (account, ticket.client_id) in self._by_client:
            return DUPLICATE_CLIENT_ID
        fault = self._misfit(ticket, ticket.qty, ticket.price) if account == OWN else ""
        if fault:
            return fault
        sign, last = sign_of(ticket.side), self._books[ticket.symbol].last
        if ticket.type in STOPS:
            hit = ticket.stop_price is not None and last is not None and sign * ticket.stop_price <= sign * last
            return "would_trigger" if hit else ""
        if ticket.reduce_only and ticket.qty > self._room(account, ticket.symbol, ticket.side):
            return "reduce_only_would_increase"
        return "post_only_would_cross" if ticket.post_only and self._crosses(ticket, ticket.price) else ""

    def _replace_refusal(self, order: BookOrder, qty: int, price: Price | None) -> str:
        ticket = order.ticket
        if qty <= 0:
            return "bad_qty"
        if (price is None) != (order.price is None):
            return "price_missing" if price is None else "price_not_allowed"
        if price is not None and price <= 0:
            return "bad_price"
        fault = self._misfit(ticket, qty, price)
        if fault or order.conditional:
            return fault
        if ticket.reduce_only and qty - order.cum > self._room(OWN, ticket.symbol, ticket.side):
            return "reduce_only_would_increase"
        return "post_only_would_cross" if ticket.post_only and self._crosses(ticket, price) else ""

    def _misfit(self, ticket: Ticket, qty: int, price: Price | None) -> str:
        instrument = self.instruments.get(ticket.symbol)
        return misfit(instrument, ticket, qty, price, self._books[ticket.symbol].last) if instrument is not None else ""

    def _crosses(self, ticket: Ticket, price: Price | None) -> bool:
        keys = self._books[ticket.symbol].resting[other_side(ticket.side)].keys
        return bool(keys) and (price is None or keys[0] <= sign_of(ticket.side) * price)

    def _room(self, account: str, symbol: str, side: Side) -> int:
        """How much an order of this side can trade before it no longer reduces the position."""
        return max(0, -sign_of(side) * self.position(symbol, account))

    # --- matching ---------------------------------------------------------------------------------------------------

    def _enter(self, order: BookOrder, now_ns: int) -> None:
        """Match an order and let its rest stand or expire; a stop waits in its ladder."""
        ticket, book = order.ticket, self._books[order.ticket.symbol]
        if order.conditional:
            assert ticket.stop_price is not None  # by malformed
            book.stops[ticket.side].add(order.sign * ticket.stop_price, order)
            return
        plan = self._plan(order, book)
        if ticket.tif is TimeInForce.FOK and sum(part for _, part, _ in plan) < order.leaves:
            self._expire(order, now_ns)
            return
        for maker, part, void in plan:
            if part:
                self._trade(maker, order, part, now_ns)
            if void:
                self._expire(maker, now_ns)
        if not order.leaves:
            return
        stuck = ticket.reduce_only and not self._room(order.account, ticket.symbol, ticket.side)
        if order.price is None or ticket.tif is not TimeInForce.GTC or stuck:
            self._expire(order, now_ns)
        else:
            book.resting[ticket.side].add(-order.sign * order.price, order)

    def _plan(self, order: BookOrder, book: Book) -> list[tuple[BookOrder, int, bool]]:
        """Whom the order would hit, for how much, and whether the one that is hit then expires. Changes nothing."""
        ticket, plan = order.ticket, []
        left = min(order.leaves, self._room(order.account, ticket.symbol, ticket.side)) if ticket.reduce_only else order.leaves
        rooms: dict[str, int] = {}
        for maker in book.resting[other_side(ticket.side)].upto(None if order.price is None else order.sign * order.price):
            if not left:
                break
            if maker.account == order.account:
                plan.append((maker, 0, True))
                continue
            room = rooms.setdefault(maker.account, self._room(maker.account, ticket.symbol, maker.ticket.side))
            most = min(maker.leaves, room) if maker.ticket.reduce_only else maker.leaves
            part = min(left, most)
            plan.append((maker, part, part == most < maker.leaves))
            rooms[maker.account] = max(0, room - part)
            left -= part
        return plan

    def _trade(self, maker: BookOrder, taker: BookOrder, part: int, now_ns: int) -> None:
        assert maker.price is not None  # what rests has a price
        price, symbol, size = maker.price, taker.ticket.symbol, Qty(part)
        buyer, seller = (taker, maker) if taker.ticket.side is Side.BUY else (maker, taker)
        trade = Trade(f"t{len(self.trades) + 1}", symbol, price, size, buyer.account, seller.account)
        self.trades.append(trade)
        self._books[symbol].last = price
        for order in (maker, taker):
            order.cum += part
            order.paid += part * price
            self._positions[order.account, symbol] = self.position(symbol, order.account) + order.sign * part
            fill = OrderFilled(
                now_ns, order.ticket.client_id, order.venue_id, trade.trade_id, size, price, Qty(order.cum), Usd(0)
            )
            if order.leaves:
                self._tell(order, fill)
            else:
                self._end(order, ReportStatus.FILLED, fill)

    def _trigger(self, symbol: str, now_ns: int) -> None:
        """Move stops whose price is reached to the regular book, one at a time, as each may move the price further."""
        book = self._books[symbol]
        while book.last is not None:
            last = book.last
            order = next((order for side in Side for order in book.stops[side].upto(sign_of(side) * last)), None)
            if order is None or order.ladder is None:
                return
            order.ladder.remove(order)
            order.conditional = False
            order.note(now_ns)
            if order.ticket.post_only and self._crosses(order.ticket, order.price):
                self._expire(order, now_ns)
            else:
                self._enter(order, now_ns)

    # --- bookkeeping ------------------------------------------------------------------------------------------------

    def _find(self, account: str, symbol: str, client_id: str, venue_id: str) -> BookOrder | None:
        order = self._by_client.get((account, client_id)) if client_id else self._orders.get(venue_id)
        return order if order is not None and order.account == account and order.ticket.symbol == symbol else None

    def _expire(self, order: BookOrder, now_ns: int) -> None:
        self._end(order, ReportStatus.EXPIRED, OrderExpired(now_ns, order.ticket.client_id, Qty(order.cum)))

    def _end(self, order: BookOrder, status: ReportStatus, report: Event) -> None:
        order.status = status
        if order.ladder is not None:
            order.ladder.remove(order)
        if order.account == OWN:
            del self._open[order.number]
            while self._ended and self._ended[0][0] < report.at_ns - HISTORY_NS:
                self._ended.popleft()
            self._ended.append((report.at_ns, order))
        self._tell(order, report)

    def _tell(self, order: BookOrder, report: Event) -> None:
        if order.account == OWN:
            order.note(report.at_ns)
            self._report_sink(report)
