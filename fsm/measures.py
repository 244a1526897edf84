"""The limits that are a number: how each is measured, and when it does not count against an order.

One ``Limit`` is one row of the gate that compares a figure with a bound. ``measure`` says what the figure would be if the order went
out; from it come the denial's reason, the figures of ``what_if``, and, asked with an order of nothing, those of ``utilization``. So
the three cannot differ.

``spares`` says when a figure beyond its bound is no reason to deny: when the order makes it no worse. A sell that works a long position
off is not held up by a long position over the limit, nor a replace by what the order was allowed before.

Results are measured as losses are told (``result.py``): above 0 is lost, a profit counts as 0.
"""

from collections.abc import Callable, Iterator

from attrs import frozen

from ..effects import Notional, Side, to_text
from ..effects.values import SCALE
from .ask import LIMITED, STOPPED, Ask, book_of, owner_in, reduces, reserve_for, sources_of
from .bucket import left
from .core import ACCOUNT, strategy_scope
from .exposure import NO_TALLY, UNPRICED, Book, Tally, in_money, long_value, order_value, short_value, worst_value
from .limits import LimitRule, Rate, Source
from .result import drawdown_of, loss_of
from .turn import Turn

_BUY = Side.BUY
#: Decimals of the figures: notional, amounts a person wrote, counts.
_MONEY, _AMOUNT, _COUNT = 24, 12, 0
_BPS_OF_ONE = 10_000
_WHOLE = 100 * SCALE


@frozen
class Limit:
    """One figure of :class:`~haltcore.fsm.limits.Limits`, as the gate and the queries see it.

    ``says`` is the reason for denying, with ``{value}``, ``{bound}``, ``{symbol}`` and, for the collar, ``{near}``. ``standing``: it
    measures what is there also when nothing is asked; ``wide``: it looks at all symbols together unless the rule names one. ``digits``
    are the decimals of value and bound.
    """

    name: str
    digits: int
    says: str
    measure: Callable[[Ask, Source], int | None]
    spares: Callable[[Ask, Source, int], bool]
    standing: bool = False
    wide: bool = False


@frozen
class Figure:
    """A limit as an order meets it. ``source`` is the rule, in words; ``str(figure)`` is "6500 of 5000, 130 %".

    ``value`` and ``bound`` are ints with this many decimal ``digits``: ``to_text(value, digits)`` is the number. Money has 24, as a
    Notional, amounts that a person wrote 12, counts 0. ``exceeded`` says that it denies the order; a value above the bound does not
    if the order makes it no worse.
    """

    name: str
    source: str
    value: int
    bound: int
    digits: int
    exceeded: bool

    def __str__(self) -> str:
        return used_text(self.value, self.bound, self.digits)


def percent_of(value: int, bound: int) -> int:
    """How much of the bound is used, in per cent at scale 10^-12, rounded up: above 100 exactly when the value is above it."""
    return max(0, -(-value * _WHOLE // bound))


def used_text(value: int, bound: int, digits: int) -> str:
    """Value, bound and their ratio, rounded up to a tenth of a per cent: "6500 of 5000, 130 %"."""
    if digits == _MONEY and value >= UNPRICED:
        return f"without bound (a position has no mark price) of {to_text(bound, digits)}"
    tenths = -(-percent_of(value, bound) // (SCALE // 10))
    return f"{to_text(value, digits)} of {to_text(bound, digits)}, {to_text(tenths, 1)} %"


def bound_of(limit: Limit, source: Source) -> int:
    """The rule's figure at the scale of what is measured."""
    bound = getattr(source.limits, limit.name)
    if limit.digits == _MONEY:
        return int(bound * SCALE)
    return bound.count if isinstance(bound, Rate) else int(bound)


def denied_by(limit: Limit, a: Ask) -> str:
    """Why the limit denies the order, or ""."""
    rules = a.rules
    if len(rules) == 1 and not a.overrides and getattr(rules[0].limits, limit.name) is None:
        return ""  # what sources_of would find; most figures of most orders end here
    for source in sources_of(a, limit.name):
        value, bound = limit.measure(a, source), bound_of(limit, source)
        if value is not None and value > bound and not limit.spares(a, source, value):
            return _words(limit, a, source, value, bound)
    return ""


def figures(limit: Limit, a: Ask) -> Iterator[Figure]:
    """The limit's figure under every rule that sets it for this order."""
    for source in sources_of(a, limit.name):
        value, bound = limit.measure(a, source), bound_of(limit, source)
        if value is not None:
            exceeded = value > bound and not limit.spares(a, source, value)
            yield Figure(limit.name, source.label, value, bound, limit.digits, exceeded)


def _words(limit: Limit, a: Ask, source: Source, value: int, bound: int) -> str:
    if limit.digits == _MONEY and value >= UNPRICED:
        if limit.wide:
            return "a position in another symbol has no mark price, so the exposure over all symbols has no bound"
        return f"the position in {a.wanted.symbol} has no mark price, so its worst case has no bound"
    digits = limit.digits
    near = _near(a) if limit is COLLAR else ""
    reason = limit.says.format(value=to_text(value, digits), bound=to_text(bound, digits), symbol=a.wanted.symbol, near=near)
    plain = isinstance(source, LimitRule) and not any(source.conditions)
    return reason if plain else f"{reason} ({source.label})"


# --- exposure -------------------------------------------------------------------------------------------------------


def side_value(a: Ask, book: Book) -> Notional:
    """The worst value of the order's side with the order."""
    return (long_value if a.wanted.side is _BUY else short_value)(book, a.add_qty, a.add_value)


def _inventory(a: Ask, source: Source) -> int:
    owner = owner_in(a, source)
    book = book_of(a, owner)
    if not book.mark and book.position and not book.contract.inverse and not reduces(a, owner):
        return UNPRICED
    return side_value(a, book)


def _adds_nothing(a: Ask, source: Source, value: int) -> bool:
    return a.add_value <= 0


def total_after(a: Ask, owner: int) -> Notional:
    """This owner's worst case over all symbols with the order."""
    book = book_of(a, owner)
    now = worst_value(book)
    return Notional(tally_of(a.view, owner).worst - now + max(side_value(a, book), now))


def _total(a: Ask, source: Source) -> int:
    return total_after(a, owner_in(a, source))


def _total_stays(a: Ask, source: Source, value: int) -> bool:
    return value <= tally_of(a.view, owner_in(a, source)).worst


def tally_of(view: Turn, owner: int) -> Tally:
    """The sums over this owner's books."""
    return view.teams.get(owner, NO_TALLY) if owner else view.account


def _open_orders(a: Ask, source: Source) -> int:
    owner = owner_in(a, source)
    there = book_of(a, owner) if source.symbol else tally_of(a.view, owner)
    return there.open_orders + a.opens


def _opens_none(a: Ask, source: Source, value: int) -> bool:
    return not a.opens


# --- one order ------------------------------------------------------------------------------------------------------


def _order_qty(a: Ask, source: Source) -> int:
    return a.wanted.qty


def _no_more_qty(a: Ask, source: Source, value: int) -> bool:
    return a.replacing is not None and a.add_qty <= 0


def _order_value(a: Ask, source: Source) -> int:
    """At its price or the mark, whichever is more: a sell may trade above its limit."""
    contract = a.book.contract
    return in_money(contract, order_value(contract.inverse, a.wanted.qty, max(reserve_for(a.wanted, a.book), a.book.mark)))


def _no_more_value(a: Ask, source: Source, value: int) -> bool:
    return a.replacing is not None and a.add_value <= 0


def anchor(a: Ask) -> int | None:
    """The price that the limit price is compared with: the mark; of a stop order that has not triggered, its stop price; 0 if not known.

    None for an order without a limit price. On a venue that keeps stops in its one book, nobody tells us when one triggers.
    """
    wanted = a.wanted
    if wanted.type not in LIMITED or wanted.price is None:
        return None
    return wanted.stop_price if _waits_for_its_stop(a) else a.book.mark


def _waits_for_its_stop(a: Ask) -> bool:
    wanted, order = a.wanted, a.replacing
    triggered = order is not None and order.triggered and a.desk.config.venue.conditional
    return wanted.type in STOPPED and wanted.stop_price is not None and not triggered


def _near(a: Ask) -> str:
    """What the limit price is compared with, in words."""
    return f"{'the stop price' if _waits_for_its_stop(a) else 'the mark'} {to_text(anchor(a) or 0)}"


def _collar(a: Ask, source: Source) -> int | None:
    """The distance in basis points, rounded up, so that it is beyond the bound exactly when the true distance is."""
    near, price = anchor(a), a.wanted.price
    if not near or price is None:
        return None
    return -(-abs(price - near) * _BPS_OF_ONE * SCALE // near)


def _eases(a: Ask, source: Source, value: int) -> bool:
    return a.eases


def _messages(a: Ask, source: Source) -> int:
    """Tokens taken, this message included. What cancels owe counts on top."""
    rate = source.limits.message_rate
    return 0 if rate is None else rate.count - left(a.view.flow.messages, a.view.now_ns, rate) + a.sends


def _never(a: Ask, source: Source, value: int) -> bool:
    return False


# --- the day's result -----------------------------------------------------------------------------------------------


def scope_of(a: Ask, source: Source) -> int:
    """The key of the scope whose result the rule bounds."""
    owner = owner_in(a, source)
    if owner:
        return strategy_scope(owner)
    return a.desk.index[source.symbol] + 1 if source.symbol else ACCOUNT


def _loss(a: Ask, source: Source) -> int:
    return max(0, loss_of(a.view, scope_of(a, source)))


def _drawdown(a: Ask, source: Source) -> int:
    return drawdown_of(a.view, scope_of(a, source))


def _reduces(a: Ask, source: Source, value: int) -> bool:
    return reduces(a, owner_in(a, source))


# --- the rows -------------------------------------------------------------------------------------------------------

COLLAR = Limit(
    "price_collar_bps", _AMOUNT, "the price is {value} bps away from {near}, the collar is {bound}", _collar, _eases
)
ORDER_QTY = Limit("max_order_qty", _AMOUNT, "quantity {value} would exceed {bound}", _order_qty, _no_more_qty)
ORDER_VALUE = Limit("max_order_value", _MONEY, "order value {value} would exceed {bound}", _order_value, _no_more_value)
OPEN_ORDERS = Limit("max_open_orders", _COUNT, "{value} open orders would exceed {bound}", _open_orders, _opens_none, True, True)
MESSAGES = Limit(
    "message_rate", _COUNT, "{value} messages would exceed the {bound} that the rate allows now", _messages, _never, True, True
)
INVENTORY = Limit(
    "max_inventory_usd", _MONEY, "worst-case inventory {value} in {symbol} would exceed {bound}", _inventory, _adds_nothing, True
)
TOTAL = Limit(
    "max_total_notional", _MONEY, "worst-case exposure {value} over all symbols would exceed {bound}", _total, _total_stays, True, True
)
LOSS = Limit(
    "max_daily_loss", _MONEY, "a loss of {value} since the day began is above {bound}; only orders that reduce are allowed",
    _loss, _reduces, True, True,
)  # fmt: skip
DRAWDOWN = Limit(
    "max_drawdown", _MONEY, "a fall of {value} from the day's highest result is above {bound}; only orders that reduce are allowed",
    _drawdown, _reduces, True, True,
)  # fmt: skip
