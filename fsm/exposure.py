"""What we hold and what we may come to hold, per symbol, kept incrementally.

Theory
------
A ``Book`` sums one symbol: the position, and on each side everything that may still fill at worst: every order that has not
ended by evidence, in doubt or not, with the worse of its quantities and prices (``Order.leaves_qty``, ``Order.reserve``). Each change of an
order changes the book by the difference between its contributions before and after, so the cost of an event does not depend on
how many orders there are.

The worst case of a symbol is the larger of two paths: all buys fill and no sell, or all sells and no buy:

    long  =  position x mark + open buys
    short = -position x mark + open sells
    worst =  max(long, short)

Open orders of a side count at their own prices or at the mark, whichever is more: a sell may trade above its limit, and what was
bought below the mark is worth the mark.

Their sum is never negative, so neither is ``worst``. A position without a mark counts as ``UNPRICED``, above every limit.
All values are exact, at the scale of price x quantity (10^-24). ``position`` is what our trades say, begun with what the venue
said at the start; ``cash`` is what they cost (sales minus purchases).
"""

from typing import TypeAlias

from attrs import frozen

from ..effects import Notional, Price, Qty, Side, Usd
from .order import Ended, Order

_BUY = Side.BUY
_NO = Ended.NO


@frozen
class Book:
    """One symbol's sums. ``open_orders`` counts orders that have not ended, ``unknown_*`` those that may not even exist."""

    position: Qty
    cash: Notional
    fees: Usd
    mark: Price
    buy_qty: Qty
    buy_value: Notional
    sell_qty: Qty
    sell_value: Notional
    open_orders: int
    unknown_buy: int
    unknown_sell: int


#: More than any limit: the worst case of a position whose price is not known.
UNPRICED = Notional(10**60)
FLAT = Book(Qty(0), Notional(0), Usd(0), Price(0), Qty(0), Notional(0), Qty(0), Notional(0), 0, 0, 0)


def long_value(book: Book, qty: int = 0, value: int = 0) -> Notional:
    """The position's value if every open buy fills, one more of this quantity and value included, and no sell does."""
    return Notional(book.position * book.mark + max(book.buy_value + value, (book.buy_qty + qty) * book.mark))


def short_value(book: Book, qty: int = 0, value: int = 0) -> Notional:
    """The value sold if every open sell fills, one more included, and no buy does."""
    return Notional(max(book.sell_value + value, (book.sell_qty + qty) * book.mark) - book.position * book.mark)


def worst_value(book: Book) -> Notional:
    """The larger of the two paths. A position that nobody has priced has no bound."""
    if book.position and not book.mark:
        return UNPRICED
    mark = book.mark
    held, buys, sells = book.position * mark, book.buy_qty * mark, book.sell_qty * mark
    long = (max(book.buy_value, buys)) + held
    short = (max(book.sell_value, sells)) - held
    return Notional(max(long, short))


def with_mark(book: Book, mark: Price) -> Book:
    """The book at another price."""
    b = book
    return Book(
        b.position, b.cash, b.fees, mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell,
    )  # fmt: skip


def with_position(book: Book, position: Qty) -> Book:
    """The book with an opening position, as the venue says it."""
    b = book
    return Book(
        position, b.cash, b.fees, b.mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell,
    )  # fmt: skip


def with_fee(book: Book, fee: Usd) -> Book:
    """The book after a fee."""
    b = book
    return Book(
        b.position, b.cash, Usd(b.fees + fee), b.mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell,
    )  # fmt: skip


#: What one order adds to its book: filled, cost of it, open at worst, value of that, 1 if open, 1 if unknown.
Share: TypeAlias = tuple[int, int, int, int, int, int]
NO_SHARE: Share = (0, 0, 0, 0, 0, 0)


def share(order: Order) -> Share:
    """What the order adds to its book. Written without detours: every event of every order comes through here."""
    f = order.fills
    filled, cost = (f.traded, f.traded_cost) if f.traded >= f.reported else (f.reported, f.reported_cost)
    if order.ended is not _NO:
        return filled, cost, 0, 0, 0, 0
    r = order.requests
    qty = order.qty if r.replace is None or r.replace.qty <= order.qty else r.replace.qty
    left = qty - filled
    if left <= 0:
        return filled, cost, 0, 0, 0, 0
    price = order.reserve if r.replace is None else reserve_price(order)
    return filled, cost, left, left * price, 1, 1 if r.doubt_ns and not order.accepted else 0


def rebook(book: Book, was: Share, now: Share, order: Order) -> Book:
    """The book after the order's share changed."""
    filled, cost, left = now[0] - was[0], now[1] - was[1], now[2] - was[2]
    value, opened, unknown = now[3] - was[3], now[4] - was[4], now[5] - was[5]
    b = book
    # A symbol that nobody has priced yet is valued at what was paid first; the mark is no ledger, so it may be rounded, and is, upwards.
    mark = b.mark if b.mark or filled <= 0 else Price(-(-cost // filled))
    if order.spec.side is _BUY:
        return Book(
            Qty(b.position + filled), Notional(b.cash - cost), b.fees, mark,
            Qty(b.buy_qty + left), Notional(b.buy_value + value), b.sell_qty, b.sell_value,
            b.open_orders + opened, b.unknown_buy + unknown, b.unknown_sell,
        )  # fmt: skip
    return Book(
        Qty(b.position - filled), Notional(b.cash + cost), b.fees, mark,
        b.buy_qty, b.buy_value, Qty(b.sell_qty + left), Notional(b.sell_value + value),
        b.open_orders + opened, b.unknown_buy, b.unknown_sell + unknown,
    )  # fmt: skip


def reserve_price(order: Order) -> Price:
    """The price at which the open part counts: the worse of the present one and that of a pending replace."""
    pending = order.requests.replace
    if pending is None or pending.price is None or pending.price <= order.reserve:
        return order.reserve
    return pending.price


def from_scratch(orders: list[Order], opening: Book) -> Book:
    """The same sums computed anew over all orders of the symbol: the yardstick for tests and for SAFE-5.

    ``opening`` brings position, fees and mark as they were before the first order.
    """
    book = opening
    for order in orders:
        book = rebook(book, NO_SHARE, share(order), order)
    return book
