"""A ledger of exposure as an accountant would keep it who has never seen ``fsm/exposure.py``: the oracle of ``test_exposure.py``.

It hears the same events as the core, keeps its own list of trades by the rules of FIX (a trade counts once by its id, a bust voids it, a
correction replaces it), and reads of the core's orders only the facts: what was ordered, what is pending, what evidence ended it, and which
of the venue's totals was believed. Everything else, the cost of that total included, it works out itself: after each event for the orders
that the event touched, and now and then from scratch, in rational numbers, over all orders and all trades.
"""

from fractions import Fraction
from math import ceil
from random import Random

from attrs import Factory, define
from haltcore.effects import Side
from haltcore.effects.values import SCALE
from haltcore.fsm.core import Core
from haltcore.fsm.events import FetchedOrders, Found, OpenOrders, OrderFilled, OrderQueried, OrderRow, TradeBusted, TradeCorrected
from haltcore.fsm.exposure import UNPRICED, Book
from haltcore.fsm.instrument import Contract
from haltcore.fsm.order import Ended, Order

BUY = Side.BUY
#: (owner, symbol number); owner 0 is the account.
Key = tuple[int, int]


@define
class Trades:
    """The trades of one order: quantity and price by id; None for a voided one. ``moved`` and ``dearer`` are what the last event took back
    or changed; ``total`` and ``total_cost`` the venue's word, ``at`` the order's own price."""

    by_id: dict[str, tuple[int, int] | None] = Factory(dict)
    filled: int = 0
    cost: int = 0
    moved: int = 0
    dearer: int = 0
    total: int = 0
    total_cost: int = 0
    at: int = 0


@define
class View:
    """What one order adds: filled and its cost; open at worst, and the value of that; whether it counts as open, as unknown; its levels."""

    filled: int = 0
    cost: int = 0
    left: int = 0
    value: int = 0
    opened: int = 0
    unknown: int = 0
    levels: tuple[int, ...] = ()


NOTHING = View()


@define
class Sums:
    """One book, in the ledger's own words. ``opening`` and ``adopted``: the position from before us, and the price it was taken over at."""

    contract: Contract
    mark: int
    position: int = 0
    cash: int = 0
    fees: int = 0
    left: dict[Side, int] = Factory(lambda: dict.fromkeys(Side, 0))
    value: dict[Side, int] = Factory(lambda: dict.fromkeys(Side, 0))
    unknown: dict[Side, int] = Factory(lambda: dict.fromkeys(Side, 0))
    opened: int = 0
    opening: int = 0
    adopted: int = 0
    worst: int = 0
    gain: int = 0
    marks: dict[int, None] = Factory(dict)

    def price(self, mark: int) -> None:
        """The first price is that at which the opening position is taken over."""
        if not self.mark:
            self.cash -= cost(self.contract, self.opening, mark)
            self.adopted = mark
        self.mark = mark
        self.marks[mark] = None

    def weigh(self) -> tuple[int, int]:
        """By how much worst case and result have moved."""
        worst, gain = worst_of(self), gain_of(self)
        moved = worst - self.worst, gain - self.gain
        self.worst, self.gain = worst, gain
        return moved


def cost(contract: Contract, qty: int, price: int) -> int:
    """In the contract's own money."""
    return qty * SCALE * SCALE // price if contract.inverse else qty * price


def averages(order: Order, event: object) -> list[int]:
    """The average prices that the event names for the order."""
    rows: tuple[OrderRow, ...] = ()
    if isinstance(event, OrderQueried) and isinstance(event.result, Found):
        rows = (event.result.row,)
    elif isinstance(event, OpenOrders) and isinstance(event.result, FetchedOrders):
        rows = event.result.rows
    return [row.avg_price for row in rows if row.avg_price and row.client_id == order.spec.client_id]


def worst_of(sums: Sums) -> int:
    """All buys fill and no sell, or the other way round; each side at its own prices or at the mark. Rounded up."""
    mark = SCALE if sums.contract.inverse else sums.mark
    if sums.position and not mark:
        return UNPRICED
    paths = [
        sign * sums.position * mark + max(sums.value[side], sums.left[side] * mark) for side, sign in ((Side.BUY, 1), (Side.SELL, -1))
    ]
    return -(-max(paths) * sums.contract.multiplier // SCALE)


def gain_of(sums: Sums) -> int:
    """What was got for what was sold, less what was paid, and the rest at the mark; less fees. Rounded down."""
    if not sums.contract.inverse:
        own = sums.cash + sums.position * sums.mark
    elif sums.mark:
        own = -sums.cash * sums.mark // SCALE - sums.position * SCALE
    else:
        own = 0
    return own * sums.contract.multiplier // SCALE - sums.fees * SCALE


@define
class Ledger:
    """See the module's essay. ``contracts`` by symbol number."""

    contracts: list[Contract]
    trades: dict[int, Trades] = Factory(dict)
    views: dict[int, View] = Factory(dict)
    prices: dict[int, dict[int | None, None]] = Factory(dict)
    books: dict[Key, Sums] = Factory(dict)
    worst: dict[int, int] = Factory(dict)
    gain: dict[int, int] = Factory(dict)

    def book(self, owner: int, sym: int) -> Sums:
        """The book, made when it is first needed: a strategy's begins flat, at the account's price."""
        key = owner, sym
        if key not in self.books:
            self.books[key] = Sums(self.contracts[sym], self.books[0, sym].mark if owner else 0)
        return self.books[key]

    def weigh(self, owner: int, sym: int) -> None:
        """Take over into the owner's sums what has moved in the book."""
        worse, better = self.book(owner, sym).weigh()
        self.worst[owner] = self.worst.get(owner, 0) + worse
        self.gain[owner] = self.gain.get(owner, 0) + better

    def open_with(self, sym: int, position: int, mark: int | None) -> None:
        """The venue's word at the start."""
        book = self.book(0, sym)
        book.opening = book.position = position
        if mark:
            book.price(mark)
        self.weigh(0, sym)

    def mark(self, sym: int, mark: int) -> None:
        """Another price, for everybody."""
        for owner, s in [key for key in self.books if key[1] == sym] or [(0, sym)]:
            self.book(owner, s).price(mark)
            self.weigh(owner, s)

    def hear(self, order: Order, event: object) -> None:
        """A trade, a bust, a correction, as its order knows it afterwards."""
        trades = self.trades.setdefault(order.key, Trades())
        trades.moved = trades.dearer = 0
        if isinstance(event, OrderFilled):
            if event.trade_id not in trades.by_id and event.last_qty > 0 and event.last_price > 0:
                self._put(order, trades, event.trade_id, (event.last_qty, event.last_price))
                for owner in dict.fromkeys((0, order.spec.owner)):
                    self.book(owner, order.spec.sym).fees += event.fee
        elif isinstance(event, TradeBusted):
            self._put(order, trades, event.trade_id, None)
        elif isinstance(event, TradeCorrected) and trades.by_id.get(event.trade_id, ()) is not None and event.qty > 0 and event.price > 0:
            self._put(order, trades, event.trade_id, (event.qty, event.price))

    def _put(self, order: Order, trades: Trades, trade_id: str, figures: tuple[int, int] | None) -> None:
        contract = self.contracts[order.spec.sym]
        for sign, found in ((-1, trades.by_id.get(trade_id)), (1, figures)):
            if found is not None:
                trades.filled += sign * found[0]
                trades.cost += sign * cost(contract, *found)
                trades.moved += sign * found[0]
                trades.dearer += sign * cost(contract, *found)
        trades.by_id[trade_id] = figures

    def _check_total(self, order: Order, event: object) -> None:
        """Whether the venue's total costs what it should: what was known already, and the gap at the order's price; or at the average that
        the venue names. Busts and corrections are taken over; or the total is forgotten, since it may hold a trade that is void."""
        contract, trades, fills = self.contracts[order.spec.sym], self.trades.setdefault(order.key, Trades()), order.fills
        old, now = (trades.total, trades.total_cost), (fills.reported, fills.reported_cost)
        if isinstance(event, (TradeBusted, TradeCorrected)):
            moved = (max(0, old[0] + trades.moved), max(0, old[1] + trades.dearer)) if old[0] else old
            allowed = [old, moved, (0, 0)]
        elif now[0] > old[0]:
            known, paid = (trades.filled, trades.cost) if trades.filled >= old[0] else old
            allowed = [(now[0], paid + cost(contract, now[0] - known, trades.at))]
            allowed += [(now[0], cost(contract, now[0], average)) for average in averages(order, event)]
        else:
            allowed = [old]
        assert now in allowed, f"order {order.key}: the venue's total is {now}, not one of {allowed}"
        trades.total, trades.total_cost = now
        trades.at = order.price if order.price is not None else order.reserve

    def follow(self, order: Order, event: object) -> list[tuple[int, bool]]:
        """Take over what the order adds now. What it brought: filled quantities, each with whether the order had been closed before."""
        self._check_total(order, event)
        was, now = self.views.get(order.key, NOTHING), self.view(order)
        self.views[order.key] = now
        sym, side, sign = order.spec.sym, order.spec.side, 1 if order.spec.side is BUY else -1
        filled, paid = now.filled - was.filled, now.cost - was.cost
        account = self.book(0, sym)
        if not account.mark and filled > 0:
            self.mark(sym, ceil(Fraction(filled * SCALE**2, paid)) if self.contracts[sym].inverse else ceil(Fraction(paid, filled)))
        for owner in dict.fromkeys((0, order.spec.owner)):
            book = self.book(owner, sym)
            book.position += sign * filled
            book.cash -= sign * paid
            book.left[side] += now.left - was.left
            book.value[side] += now.value - was.value
            book.unknown[side] += now.unknown - was.unknown
            book.opened += now.opened - was.opened
            self.weigh(owner, sym)
        return [(filled, not was.opened and was is not NOTHING)] if filled > 0 else []

    def view(self, order: Order) -> View:
        """What the order adds, by its facts and our list of its trades."""
        trades, fills, contract = self.trades.get(order.key, Trades()), order.fills, self.contracts[order.spec.sym]
        assert (fills.traded, fills.traded_cost) == (trades.filled, trades.cost), f"order {order.key} has other trades"
        filled, paid = (trades.filled, trades.cost) if trades.filled >= fills.reported else (fills.reported, fills.reported_cost)
        pending = order.requests.replace
        left = max(order.qty, pending.qty if pending else 0) - filled
        if order.ended is not Ended.NO or left <= 0:
            return View(filled, paid)
        asked = pending.price if pending else None
        prices = self.prices.setdefault(order.key, {})
        prices.update(dict.fromkeys((order.price, asked)))
        reserves = [(order.price, order.reserve), *([(pending.price, pending.reserve)] if pending and pending.reserve else [])]
        assert all(self._right(order, price, reserve) for price, reserve in reserves), f"order {order.key} is valued at another price"
        value = left * (SCALE if contract.inverse else max(asked or 0, *[reserve for _, reserve in reserves]))
        unknown = not order.accepted and order.requests.doubt_ns != 0
        rests = order.price is not None and (not order.spec.conditional or order.triggered)
        levels = tuple(dict.fromkeys(at for at in (order.price, asked) if at is not None)) if rests else ()
        return View(filled, paid, left, value, 1, int(unknown), levels)

    def _right(self, order: Order, price: int | None, reserve: int) -> bool:
        """At its own price; a sell at a mark that there was, or at a price that it had."""
        if price is None or reserve == price:
            return True
        return order.spec.side is Side.SELL and reserve > price and (
            reserve in self.book(0, order.spec.sym).marks or reserve in self.prices[order.key]
        )

    # --- comparing -------------------------------------------------------------------------------------------------

    def compare_sums(self, core: Core) -> None:
        """The owners' sums."""
        for owner in self.worst:
            tally = core.teams.get(owner) if owner else core.account
            opened = sum(book.opened for (other, _), book in self.books.items() if other == owner)
            assert tally is not None
            assert (tally.worst, tally.gain, tally.open_orders) == (self.worst[owner], self.gain[owner], opened), f"sums of owner {owner}"

    def compare_book(self, core: Core, owner: int, sym: int) -> None:
        """One book, field by field."""
        mine, book = self.books[owner, sym], core.books[owner << 16 | sym]
        assert fields_of(book) == (
            mine.position, mine.cash, mine.fees, mine.mark, mine.left[Side.BUY], mine.value[Side.BUY], mine.left[Side.SELL],
            mine.value[Side.SELL], mine.opened, mine.unknown[Side.BUY], mine.unknown[Side.SELL], mine.contract,
        ), f"book of owner {owner}, symbol {sym}"  # fmt: skip

    def audit(self, core: Core, random: Random) -> None:
        """From scratch: all orders and all trades, in rational numbers."""
        orders = [*core.orders.values(), *core.closed.values()]
        assert {order.key: self.view(order) for order in orders} == self.views
        assert all(self.views[order.key].opened for order in core.orders.values())
        assert not any(self.views[order.key].opened for order in core.closed.values())
        for owner, sym in self.books:
            self._audit_book([o for o in orders if o.spec.sym == sym and owner in (0, o.spec.owner)], owner, sym, random)
        if core.resting is not None:
            self._audit_levels(core)

    def _audit_book(self, orders: list[Order], owner: int, sym: int, random: Random) -> None:
        book, views = self.books[owner, sym], self.views
        scale = Fraction(book.contract.multiplier, SCALE)
        signed = [(1 if o.spec.side is BUY else -1, views[o.key]) for o in orders]
        assert book.position == book.opening + sum(sign * view.filled for sign, view in signed)
        assert book.opened == sum(view.opened for _, view in signed)
        if book.mark:
            result, slack = self._result(book, orders)
            assert abs(result * scale - book.fees * SCALE - book.gain) <= slack * scale + 1
        worth = SCALE if book.contract.inverse else book.mark
        for _ in range(3):
            # Any part of any of the open orders may fill.
            parts = sum(sign * random.choice((0, view.left, random.randint(0, view.left))) for sign, view in signed)
            assert abs(book.position + parts) * worth * scale <= book.worst

    def _result(self, book: Book | Sums, orders: list[Order]) -> tuple[Fraction, Fraction]:
        """Each trade by itself: its quantity times what the price has moved since. And how much rounding may have taken or given."""
        assert isinstance(book, Sums)
        mark, inverse = book.mark, book.contract.inverse
        parts = [(book.opening, book.adopted)] if book.adopted else []
        result, slack = Fraction(0), Fraction(1)
        for order in orders:
            trades, fills = self.trades.get(order.key, Trades()), order.fills
            sign = 1 if order.spec.side is BUY else -1
            if trades.filled >= fills.reported:
                parts += [(sign * found[0], found[1]) for found in trades.by_id.values() if found is not None]
                slack += len(trades.by_id) * Fraction(mark, SCALE) * inverse
            else:  # the venue's total, and what it says it cost
                bought = fills.reported_cost * Fraction(mark, SCALE) if inverse else fills.reported_cost
                result += sign * (bought - fills.reported * SCALE if inverse else fills.reported * mark - bought)
        for qty, price in parts:
            result += qty * (Fraction(mark, price) - 1) * SCALE if inverse else qty * (mark - price)
        return result, slack + Fraction(mark, SCALE) * inverse

    def _audit_levels(self, core: Core) -> None:
        assert core.resting is not None
        mine: dict[tuple[int, Side], list[int]] = {}
        for order in core.orders.values():
            mine.setdefault((order.spec.sym, order.spec.side), []).extend(self.views[order.key].levels)
        for sym in range(len(self.contracts)):
            for side in Side:
                levels = core.resting.get(2 * sym + (side is Side.SELL))
                found = [price for leaf in levels.leaves for price in leaf] if levels is not None else []
                assert found == sorted(mine.get((sym, side), [])), f"resting levels of symbol {sym}, {side.value}"


def fields_of(book: Book) -> tuple[object, ...]:
    """A book, in the order in which the ledger names them."""
    return (
        book.position, book.cash, book.fees, book.mark, book.buy_qty, book.buy_value, book.sell_qty, book.sell_value, book.open_orders,
        book.unknown_buy, book.unknown_sell, book.contract,
    )  # fmt: skip
