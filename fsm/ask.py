"""What the gate is asked, and whom each limit looks at.

An ``Ask`` is an order as it would stand, beside everything that its checks read: the symbol's book without it, the limits that hold for it
now, and what it adds at worst. A submit adds itself. A replace adds only what the order would grow by: until its fate is
known the order counts with the worse of both quantities and prices, so that is never less than nothing.

A limit's conditions say whose exposure it bounds. One that names a strategy looks at that strategy's own books, any other at the account's.
"""

from collections.abc import Sequence

import attrs
from attrs import frozen

from ..effects import Mode, Notional, OrdType, Price, Qty, Side
from .core import Desk, effective_mode
from .events import ReplaceOrder, SubmitOrder
from .exposure import FLAT, Book, book_key, order_value, reserve_price, with_contract, with_mark
from .instrument import FREE, Instrument
from .limit_faults import MAX_AMOUNT
from .limits import LimitRule, Override, Source, in_force, overriding, sources
from .order import Order, Replacement, with_requests
from .turn import Turn

# Aliases: looking a member up through its Enum class costs several times a plain name, and every order comes through here.
_SELL = Side.SELL
LIMITED = (OrdType.LIMIT, OrdType.STOP_LIMIT)
STOPPED = (OrdType.STOP_LIMIT, OrdType.STOP_MARKET)


@frozen
class Ask:
    """What is asked of the gate, and what its checks read.

    ``wanted`` is the order as it would stand, ``replacing`` the one that it replaces. ``sym`` is -1 for a symbol that is not configured,
    ``owner`` 0 for an order without books of a strategy. ``mode`` is the strictest of all scopes that the order lies in; ``book`` are the
    account's sums of the symbol without the order. ``rules`` and ``overrides`` are those that hold for it now. ``add_qty`` and
    ``add_value`` are what its side grows by at worst; ``sends`` is 1, or 0 where nothing is asked and only what is there is measured.
    """

    view: Turn
    desk: Desk
    key: int
    wanted: SubmitOrder
    replacing: Order | None
    sym: int
    owner: int
    mode: Mode
    book: Book
    instrument: Instrument
    rules: tuple[LimitRule, ...]
    overrides: tuple[Override, ...]
    add_qty: Qty
    add_value: Notional
    sends: int

    @property
    def opens(self) -> int:
        """How many more orders there would be."""
        return self.sends if self.replacing is None else 0

    @property
    def eases(self) -> bool:
        """Whether it is a replace at the price that the order has already, with no more quantity: nothing about it is new."""
        return self.replacing is not None and self.wanted.price == self.replacing.price and self.add_qty <= 0


# --- asking ---------------------------------------------------------------------------------------------------------


def ask_to_submit(view: Turn, event: SubmitOrder, key: int, sends: int = 1) -> Ask:
    """The gate's question about a submit."""
    desk = view.desk
    # Text of another type is denied by the gate's first row; here it must only not be looked up.
    sym = desk.index.get(event.symbol, -1) if isinstance(event.symbol, str) else -1
    owner = desk.owners.get(event.strategy, 0) if isinstance(event.strategy, str) else 0
    book = view.books.get(sym, FLAT)
    value = order_value(book.contract.inverse, event.qty, reserve_for(event, book)) if exact(event) else Notional(0)
    return _ask(view, desk, key, event, None, sym, owner, book, event.qty, value, sends)


def ask_to_replace(view: Turn, order: Order, event: ReplaceOrder) -> Ask:
    """The gate's question about a replace: only what the order would grow by is new."""
    s = order.spec
    book = view.books.get(s.sym, FLAT)
    wanted = SubmitOrder(
        event.at_ns, s.symbol, s.side, event.qty, event.price, s.type, s.stop_price, s.tif, s.post_only, s.reduce_only,
        s.strategy, s.trader, s.client, event.explain,
    )  # fmt: skip
    add_qty, add_value = Qty(0), Notional(0)
    if exact(wanted):
        after = pending(order, Replacement(None, event.qty, event.price, replace_reserve(wanted, book)))
        add_qty = Qty(after.leaves_qty - order.leaves_qty)
        was = order_value(s.inverse, order.leaves_qty, reserve_price(order))
        add_value = Notional(order_value(s.inverse, after.leaves_qty, reserve_price(after)) - was)
    return _ask(view, view.desk, order.key, wanted, order, s.sym, s.owner, book, add_qty, add_value, 1)


def _ask(
    view: Turn, desk: Desk, key: int, wanted: SubmitOrder, replacing: Order | None, sym: int, owner: int, book: Book,
    add_qty: Qty, add_value: Notional, sends: int,
) -> Ask:  # fmt: skip
    rules = desk.rules
    if len(rules) > 1:  # the first is the account's, which always holds
        rules = in_force(rules, view.now_ns, wanted.symbol, wanted.strategy, desk.bands.get(sym, ""))
    overrides = overriding(desk.overrides, view.now_ns, wanted.symbol, wanted.strategy) if desk.overrides else ()
    return Ask(
        view, desk, key, wanted, replacing, sym, owner, effective_mode(desk, sym, owner), book, desk.instruments.get(sym, FREE),
        rules, overrides, add_qty, add_value, sends,
    )  # fmt: skip


def pending(order: Order, replacement: Replacement) -> Order:
    """The order with this replace under way."""
    return with_requests(order, attrs.evolve(order.requests, replace=replacement))


def exact(wanted: SubmitOrder) -> bool:
    """Whether its numbers are ints that a log can hold. A caller without a type checker may have passed anything."""
    p, s = wanted.price, wanted.stop_price
    return _exact(wanted.qty) and (p is None or _exact(p)) and (s is None or _exact(s))


def _exact(number: object) -> bool:
    return type(number) is int and -MAX_AMOUNT <= number <= MAX_AMOUNT


def reserve_for(wanted: SubmitOrder, book: Book) -> Price:
    """The price at which an order counts as exposure: its limit, for a sell at least the mark; without a limit, the worse of mark and stop
    price. 0 if unknown."""
    if wanted.type in LIMITED:
        limit = wanted.price if wanted.price is not None else Price(0)
        return max(limit, book.mark) if wanted.side is _SELL else limit
    return max(book.mark, wanted.stop_price) if wanted.stop_price is not None else book.mark


def replace_reserve(wanted: SubmitOrder, book: Book) -> Price | None:
    """The price at which a replace counts; None for one that names no price, which counts as the order does."""
    return reserve_for(wanted, book) if wanted.price is not None else None


# --- whom a limit looks at ------------------------------------------------------------------------------------------


def sources_of(a: Ask, name: str) -> Sequence[Source]:
    """The rules that bound this figure for the order now."""
    if len(a.rules) == 1 and not a.overrides:
        return a.rules if getattr(a.rules[0].limits, name) is not None else ()
    return sources(a.rules, a.overrides, name)


def owner_in(a: Ask, source: Source) -> int:
    """Whose books the rule looks at: 0 for the account's."""
    return a.desk.owners.get(source.strategy, 0) if source.strategy else 0


def book_of(a: Ask, owner: int) -> Book:
    """This owner's book of the order's symbol. One that has none yet holds nothing, and has the symbol's price and contract."""
    if not owner:
        return a.book
    book = a.view.books.get(book_key(owner, a.sym))
    return book if book is not None else with_mark(with_contract(FLAT, a.book.contract), a.book.mark)


def reduces(a: Ask, owner: int) -> bool:
    """Whether the order, together with all working orders of its side, can only take this owner's position towards zero.

    All of them count, so two orders that each reduce cannot flip the position between them.
    """
    book = book_of(a, owner)
    if a.wanted.side is _SELL:
        return book.position > 0 and book.sell_qty + a.add_qty <= book.position
    return book.position < 0 and book.buy_qty + a.add_qty <= -book.position
