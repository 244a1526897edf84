"""What we hold and what we may come to hold, kept incrementally: per symbol, per strategy and symbol, and over all.

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

Open orders of a side count at their own prices or at the mark, whichever sum is more: a sell may trade above its limit, and what was
bought below the mark is worth the mark. A sell below the mark counts at the mark of the moment it was sent (``Order.reserve``): beside
sells that rest above the mark, it would else count as less than what it becomes when it trades. So at an unmoved mark no fill makes the
worst case larger (but for the premium of a buy above the mark, which is gone once it trades); when the mark moves, quantities stay
covered exactly, and only the value of such a sell is as old as that.

Their sum is never negative, so neither is ``worst``. A position without a mark counts as ``UNPRICED``, above every limit.
``position`` is what our trades say, begun with what the venue said at the start; ``cash`` is what they cost (sales minus purchases). The
result of a book is what its position is worth more than it cost, less the fees:

    gain = cash + position x mark - fees

A position that was there before us is taken over at its first mark, so it begins with a gain of 0.

The sums are in contracts' own money and exact. In the money of limits they are times the contract's multiplier; inverse contracts are
worth their multiplier at any price, and their cash is in base currency (see ``instrument.py``). Two things are rounded, both at 10^-24:
what limits look at, against us; and what an inverse trade costs in base currency, since a quotient has no end.

Books and owners
----------------
The account's books have the symbols' numbers as keys. A strategy that the configuration names has books of its own, with the sums of
its own orders; they begin flat. A ``Tally`` sums the books of one owner.
"""

from typing import TypeAlias

from attrs import frozen

from ..effects import Notional, OrdType, Price, Qty, Side, Usd
from ..effects.values import SCALE
from .instrument import ONE, UNIT, Contract, cost_of
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
    contract: Contract = UNIT


@frozen
class Tally:
    """The sums over one owner's books, in the money of limits."""

    worst: Notional
    gain: Notional
    open_orders: int


#: More than any limit: the worst case of a position whose price is not known.
UNPRICED = Notional(10**60)
FLAT = Book(Qty(0), Notional(0), Usd(0), Price(0), Qty(0), Notional(0), Qty(0), Notional(0), 0, 0, 0)
NO_TALLY = Tally(Notional(0), Notional(0), 0)


def book_key(owner: int, sym: int) -> int:
    """The key of a book: ``owner`` is 0 for the account, else the strategy's number plus 1."""
    return owner << 16 | sym


def owner_of(key: int) -> int:
    """Whose book it is."""
    return key >> 16


def sym_of(key: int) -> int:
    """Which symbol's book it is."""
    return key & 0xFFFF


# --- worth ----------------------------------------------------------------------------------------------------------


def long_value(book: Book, qty: int = 0, value: int = 0) -> Notional:
    """The position's value if every open buy fills, one more of this quantity and value included, and no sell does."""
    price = _price(book)
    return in_money(book.contract, book.position * price + max(book.buy_value + value, (book.buy_qty + qty) * price))


def short_value(book: Book, qty: int = 0, value: int = 0) -> Notional:
    """The value sold if every open sell fills, one more included, and no buy does."""
    price = _price(book)
    return in_money(book.contract, max(book.sell_value + value, (book.sell_qty + qty) * price) - book.position * price)


def worst_value(book: Book) -> Notional:
    """The larger of the two paths. A position that nobody has priced has no bound.

    Written without detours: every change comes through here.
    """
    contract = book.contract
    mark = ONE if contract.inverse else book.mark
    if book.position and not mark:
        return UNPRICED
    held, buys, sells = book.position * mark, book.buy_qty * mark, book.sell_qty * mark
    long = max(book.buy_value, buys) + held
    short = max(book.sell_value, sells) - held
    worst = max(long, short)
    return Notional(worst if contract.multiplier == SCALE else -(-worst * contract.multiplier // SCALE))


def gain_value(book: Book) -> Notional:
    """The book's result since it began. 0 for the position as long as nobody has priced it."""
    contract = book.contract
    if contract.inverse:
        gain = -book.cash * book.mark // SCALE - book.position * SCALE
        gain = gain if book.mark else 0
    else:
        gain = book.cash + book.position * book.mark
    if contract.multiplier != SCALE:
        gain = gain * contract.multiplier // SCALE
    return Notional(gain - book.fees * SCALE)


def order_value(inverse: bool, qty: int, price: int) -> Notional:
    """What a quantity counts as exposure at a price, in contracts' own money."""
    return Notional(qty * ONE if inverse else qty * price)


def in_money(contract: Contract, value: int) -> Notional:
    """A sum of contracts' own money in the money of limits, rounded up."""
    return Notional(value if contract.multiplier == SCALE else -(-value * contract.multiplier // SCALE))


def _price(book: Book) -> Price:
    return ONE if book.contract.inverse else book.mark


# --- changes ----------------------------------------------------------------------------------------------------------


def with_mark(book: Book, mark: Price) -> Book:
    """The book at another price. The first one ever is that at which a position from before us is taken over."""
    b = book
    cash = b.cash if b.mark or not b.position else Notional(b.cash - cost_of(b.contract.inverse, b.position, mark))
    return Book(
        b.position, cash, b.fees, mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell, b.contract,
    )  # fmt: skip


def with_position(book: Book, position: Qty) -> Book:
    """The book with an opening position, as the venue says it."""
    b = book
    cash = Notional(b.cash - cost_of(b.contract.inverse, position - b.position, b.mark)) if b.mark else b.cash
    return Book(
        position, cash, b.fees, b.mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell, b.contract,
    )  # fmt: skip


def with_fee(book: Book, fee: Usd) -> Book:
    """The book after a fee."""
    b = book
    return Book(
        b.position, b.cash, Usd(b.fees + fee), b.mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell, b.contract,
    )  # fmt: skip


def with_contract(book: Book, contract: Contract) -> Book:
    """The book of a symbol that was not traded yet, its contract now known. The position, if there is one, is taken over anew."""
    b = book
    cash = Notional(-cost_of(contract.inverse, b.position, b.mark)) if b.mark else Notional(0)
    return Book(
        b.position, cash, b.fees, b.mark, b.buy_qty, b.buy_value, b.sell_qty, b.sell_value,
        b.open_orders, b.unknown_buy, b.unknown_sell, contract,
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
    r, qty = order.requests, order.qty
    if r.replace is not None and r.replace.qty > qty:
        qty = r.replace.qty
    left = qty - filled
    if left <= 0:
        return filled, cost, 0, 0, 0, 0
    price = order.reserve if r.replace is None else reserve_price(order)
    value = left * ONE if order.spec.inverse else left * price
    return filled, cost, left, value, 1, 1 if r.doubt_ns and not order.accepted else 0


def rebook(book: Book, was: Share, now: Share, order: Order) -> Book:
    """The book after the order's share changed."""
    filled, cost, left = now[0] - was[0], now[1] - was[1], now[2] - was[2]
    value, opened, unknown = now[3] - was[3], now[4] - was[4], now[5] - was[5]
    b = book
    if not b.mark and filled > 0:
        # A symbol that nobody has priced yet is valued at what was paid first; no ledger, so it may be rounded, and is, upwards.
        b = with_mark(b, _paid(order.spec.inverse, filled, cost))
    if order.spec.side is _BUY:
        return Book(
            Qty(b.position + filled), Notional(b.cash - cost), b.fees, b.mark,
            Qty(b.buy_qty + left), Notional(b.buy_value + value), b.sell_qty, b.sell_value,
            b.open_orders + opened, b.unknown_buy + unknown, b.unknown_sell, b.contract,
        )  # fmt: skip
    return Book(
        Qty(b.position - filled), Notional(b.cash + cost), b.fees, b.mark,
        b.buy_qty, b.buy_value, Qty(b.sell_qty + left), Notional(b.sell_value + value),
        b.open_orders + opened, b.unknown_buy, b.unknown_sell + unknown, b.contract,
    )  # fmt: skip


def _paid(inverse: bool, filled: int, cost: int) -> Price:
    if inverse:
        return Price(-(-filled * SCALE * SCALE // cost)) if cost > 0 else ONE
    return Price(-(-cost // filled))


def reserve_price(order: Order) -> Price:
    """The price at which the open part counts: the worse of the present one and that of a pending replace."""
    pending = order.requests.replace
    if pending is None:
        return order.reserve
    return max(order.reserve, pending.price or order.reserve, pending.reserve or order.reserve)


def rests_at(order: Order) -> tuple[int, ...]:
    """The prices at which the open order can trade with an incoming one: its own, and that of a pending replace. None for a market
    order, and for a stop that has not triggered."""
    if order.leaves_qty == 0 or order.price is None or (order.spec.type is not OrdType.LIMIT and not order.triggered):
        return ()
    pending = order.requests.replace
    if pending is None or pending.price is None or pending.price == order.price:
        return (order.price,)
    return order.price, pending.price


def from_scratch(orders: list[Order], opening: Book) -> Book:
    """The same sums computed anew over all orders of the symbol: the yardstick for tests and for SAFE-5.

    ``opening`` brings position, fees, mark and contract as they were before the first order.
    """
    book = opening
    for order in orders:
        book = rebook(book, NO_SHARE, share(order), order)
    return book
