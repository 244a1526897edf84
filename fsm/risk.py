"""The gate: may this order go out?

Every submit and every replace passes one ordered list of checks. The first that fails denies, with its stable code;
``explain`` runs them all. A check is a row of ``CHECKS``: its code, what it demands in words, and a function that returns the
reason for denying, or "". Order matters: form first (later checks rely on it), then the state of the session, then the
limits, from the cheap and certain to the ones that need sums.

A limit denies one order only (soft block); it never freezes. An order is judged by the side it adds to: a sell that works
a long position off is not denied because the long side is over its limit.
"""

from collections.abc import Callable

from attrs import frozen

from ..effects import Mode, Notional, OrdType, Price, Qty, Side, as_notional, to_text
from ..effects.ids import MAX_KEY
from .core import Desk
from .exposure import UNPRICED, Book, long_value, short_value, worst_value

_NOTIONAL_DIGITS = 24
# Aliases: looking a member up through its Enum class costs several times a plain name, and every order comes through here.
_FROZEN, _FREEZING, _REDUCE_ONLY = Mode.FROZEN, Mode.FREEZING, Mode.REDUCE_ONLY
_BUY, _SELL = Side.BUY, Side.SELL
_LIMITED = (OrdType.LIMIT, OrdType.STOP_LIMIT)
_STOPPED = (OrdType.STOP_LIMIT, OrdType.STOP_MARKET)


@frozen
class Ask:
    """What is asked of the gate.

    ``sym`` is -1 for a symbol that is not configured; ``mode`` is the stricter of the account's and the symbol's; ``book`` are the symbol's
    sums without this order. ``add_qty`` and ``add_value`` are what the order's side would grow by at worst; for a replace that is the
    difference to what the order counts already. ``replacing`` is its key, else 0.
    """

    desk: Desk
    total: Notional
    key: int
    symbol: str
    sym: int
    mode: Mode
    book: Book
    side: Side
    type: OrdType
    qty: Qty
    price: Price | None
    stop_price: Price | None
    add_qty: Qty
    add_value: Notional
    replacing: int


@frozen
class Check:
    """One row of the gate."""

    code: str
    demands: str
    reason: Callable[[Ask], str]
    form: bool = False


@frozen
class Finding:
    """One row's verdict: ``reason`` is empty when the check passed."""

    code: str
    reason: str


def reserve_for(type_: OrdType, price: Price | None, stop_price: Price | None, book: Book) -> Price:
    """The price at which an order counts as exposure: its limit; without one, the worse of mark and stop price. 0 if unknown."""
    if type_ in _LIMITED:
        return price if price is not None else Price(0)
    return max(book.mark, stop_price) if stop_price is not None else book.mark


def reduces(side: Side, add_qty: Qty, book: Book) -> bool:
    """Whether the order, together with all working orders of its side, can only take the position towards zero."""
    if side is _SELL:
        return book.position > 0 and book.sell_qty + add_qty <= book.position
    return book.position < 0 and book.buy_qty + add_qty <= -book.position


def _types(a: Ask) -> str:
    """Types are the type checker's business, but a plain word for a side, or a float, would be counted wrongly without a sound."""
    numbers = (a.qty, *(value for value in (a.price, a.stop_price) if value is not None))
    if any(type(number) is not int for number in numbers):  # a caller without a type checker may have passed anything
        return "quantity and prices are exact ints; make them with qty() and price()"
    words = [repr(word) for word, kind in ((a.side, Side), (a.type, OrdType)) if type(word) is not kind]
    return f"{' and '.join(words)}: side and type are members of Side and OrdType" if words else ""


def _symbol(a: Ask) -> str:
    return "" if a.sym >= 0 else f"{a.symbol!r} is not among the configured symbols"


def _quantity(a: Ask) -> str:
    return "" if a.qty > 0 else f"quantity {to_text(a.qty)} is not above 0"


def _price(a: Ask) -> str:
    if a.type in _LIMITED:
        return "" if a.price is not None and a.price > 0 else f"a {a.type.value} order needs a price above 0"
    return "" if a.price is None else f"a {a.type.value} order takes no price"


def _stop_price(a: Ask) -> str:
    if a.type in _STOPPED:
        return "" if a.stop_price is not None and a.stop_price > 0 else f"a {a.type.value} order needs a stop price above 0"
    return "" if a.stop_price is None else f"a {a.type.value} order takes no stop price"


def _mark(a: Ask) -> str:
    if reserve_for(a.type, a.price, a.stop_price, a.book) <= 0:
        return f"no mark price of {a.symbol} is known, so a market order has no worst case"
    if a.book.mark or reduces(a.side, a.add_qty, a.book):
        return ""
    if a.book.position:
        # An opening position that nobody has priced would count as nothing.
        return f"no mark price of {a.symbol} is known, so its position of {to_text(a.book.position)} has no value"
    limits = a.desk.config.limits
    if a.side is _SELL and (limits.max_inventory_usd is not None or limits.max_total_notional is not None):
        return f"no mark price of {a.symbol} is known, and a sell may trade far above its limit; tell the mark price first"
    return ""


def _session(a: Ask) -> str:
    return "" if a.key <= MAX_KEY else "the session has no order keys left; begin a new session"


def _ready(a: Ask) -> str:
    stock = a.desk.stock
    if not a.desk.opened or (stock is not None and stock.gate):
        return "open orders and positions of the account have not been read yet"
    waits = a.desk.config.store.configured and not a.desk.store.known
    return "the store's freeze latch has not been read yet" if waits else ""


def _stopping(a: Ask) -> str:
    return "the runner is stopping" if a.desk.stopping else ""


def _frozen(a: Ask) -> str:
    if a.mode is not _FROZEN:
        return ""
    return "frozen: " + _why(a)


def _sweeping(a: Ask) -> str:
    if a.mode is not _FREEZING:
        return ""
    return "frozen, and open orders are being cancelled: " + _why(a)


def _why(a: Ask) -> str:
    for scope in (0, a.sym + 1):
        control = a.desk.controls.get(scope)
        if control is not None and control.mode in (_FREEZING, _FROZEN):
            return f"{control.trigger.value} by {control.by or 'haltcore'}: {control.reason}"
    return ""


def _venue(a: Ask) -> str:
    return "" if a.desk.link.up else "the connection to the venue is down"


def _store(a: Ask) -> str:
    if not a.desk.config.store.configured or a.desk.store.ok:
        return ""
    return "the configured store does not answer, so another process's freeze could go unseen"


def _reduce_only(a: Ask) -> str:
    if a.mode is not _REDUCE_ONLY or reduces(a.side, a.add_qty, a.book):
        return ""
    return f"only orders that reduce the position of {to_text(a.book.position)} are allowed, counting those that work already"


def _slot(a: Ask) -> str:
    count = a.book.unknown_buy if a.side is _BUY else a.book.unknown_sell
    return f"{count} {a.side.value} order(s) in {a.symbol} of unknown fate; they may be live" if count else ""


def _side_value(a: Ask) -> Notional:
    """The worst value of the order's side with the order."""
    return (long_value if a.side is _BUY else short_value)(a.book, a.add_qty, a.add_value)


def _inventory(a: Ask) -> str:
    limit = a.desk.config.limits.max_inventory_usd
    if limit is None or a.add_value <= 0:
        return ""
    after = _side_value(a)
    if after <= as_notional(limit):
        return ""
    return f"worst-case inventory {to_text(after, _NOTIONAL_DIGITS)} in {a.symbol} would exceed {to_text(limit)}"


def _total(a: Ask) -> str:
    limit = a.desk.config.limits.max_total_notional
    if limit is None or a.add_value <= 0:
        return ""
    now = worst_value(a.book)
    after = a.total - now + max(_side_value(a), now)
    if after <= as_notional(limit) or after == a.total:
        return ""
    if after >= UNPRICED:
        return "a position in another symbol has no mark price, so the exposure over all symbols has no bound"
    return f"worst-case exposure {to_text(after, _NOTIONAL_DIGITS)} over all symbols would exceed {to_text(limit)}"


#: The gate, in order. Generated into ``spec/tables.md``.
CHECKS: tuple[Check, ...] = (
    Check("invalid_type", "numbers are exact ints, side and type are members of their enums", _types, form=True),
    Check("unknown_symbol", "the symbol is configured", _symbol, form=True),
    Check("invalid_quantity", "the quantity is above 0", _quantity, form=True),
    Check("invalid_price", "limit kinds have a price above 0, others none", _price, form=True),
    Check("invalid_stop_price", "stop kinds have a stop price above 0, others none", _stop_price, form=True),
    Check("session_full", "the order's key is below 2^32", _session, form=True),
    Check("not_ready", "the account's open orders and positions have been read", _ready),
    Check("stopping", "the runner is not about to stop", _stopping),
    Check("frozen", "neither the account nor the symbol is frozen and proven empty", _frozen),
    Check("sweeping", "neither the account nor the symbol is frozen and still being swept", _sweeping),
    Check("venue_down", "the connection to the venue is up", _venue),
    Check("store_unavailable", "the store, if configured, has answered last time", _store),
    Check("reduce_only", "in reduce-only mode the order can only reduce, all working orders counted", _reduce_only),
    Check("unknown_order_in_slot", "no order of unknown fate on the same symbol and side", _slot),
    Check("no_mark_price", "an order without a limit price, and a position it adds to, have a mark price to be valued at", _mark),
    Check("max_inventory_usd", "position and open orders of the order's side stay within the symbol's limit", _inventory),
    Check("max_total_notional", "the sum of all symbols' worst cases stays within the limit", _total),
)


def first_denial(ask: Ask) -> Finding | None:
    """The first check that fails, or None: the order may go out."""
    for check in CHECKS:
        reason = check.reason(ask)
        if reason:
            return Finding(check.code, reason)
    return None


def all_findings(ask: Ask) -> list[Finding]:
    """Every check's verdict, in order. When the form is wrong, the rest cannot be judged and is left out."""
    findings = [Finding(check.code, check.reason(ask)) for check in CHECKS if check.form]
    if any(finding.reason for finding in findings):
        return findings
    return findings + [Finding(check.code, check.reason(ask)) for check in CHECKS if not check.form]
