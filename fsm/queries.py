"""What the embedding bot may ask of a state: would this order go out, how near are the limits, what do we hold, what froze when.

All functions are pure and read one state; none changes anything. What they measure comes from the very rows by which the gate denies
(``measures.py``), so a ``what_if`` says what ``step`` would do with the same event, and a utilization of 100 % is where denying begins.
"""

from collections.abc import Iterator

from attrs import frozen

from ..effects import Mode, Notional, Price, Qty, Side, Trigger, Usd
from .ask import Ask, ask_to_submit, book_of, owner_in, sources_of
from .commands import ask_about
from .core import ACCOUNT, Core, Desk, FreezeRecord, scope_text, strategy_scope
from .events import ReplaceOrder, SubmitOrder
from .exposure import gain_value, in_money, owner_of, sym_of, worst_value
from .instrument import ONE
from .limits import Source
from .measures import Figure, Limit, bound_of, percent_of, side_value, tally_of, total_after, used_text
from .order_change import Times
from .order_rules import apply
from .risk import CHECKS, Finding, all_findings, denied_any
from .turn import Turn

_SIDES = (Side.BUY, Side.SELL)
_FROZEN = (Mode.FREEZING, Mode.FROZEN)


@frozen
class Change:
    """Worst-case exposure in the money of limits, now and with the order. Both are Notional, at scale 10^-24: ``notional_text(after)``."""

    before: Notional
    after: Notional


@frozen
class WhatIf:
    """What the gate would say. ``code`` is "" when the order would go out, else that of the first check that fails.

    ``findings`` has every row of the gate, limits with their figures; it is empty when the rules of orders refuse before the gate is
    asked, and has the rows of form alone when the form is wrong. ``symbol`` and ``total`` are the account's exposure in the order's symbol
    and over all; ``own_symbol`` and ``own_total`` that of the order's strategy, ``NOTHING`` where none is kept. An order that is denied
    shows what it would have made of them.
    """

    code: str
    reason: str
    findings: tuple[Finding, ...]
    symbol: Change
    total: Change
    own_symbol: Change
    own_total: Change


NOTHING = Change(Notional(0), Notional(0))


def what_if(core: Core, event: SubmitOrder | ReplaceOrder) -> WhatIf:
    """The gate's answer to this command in this state, and what the order would do to the exposure."""
    if core.desk is None:
        return _refused("not_started", "the session has not begun; feed Started first")
    ask = ask_about(core, event)
    if ask is None:
        return _refused("unknown_order", f"no order has the key {getattr(event, 'order', 0)}")
    if ask.replacing is not None:
        _, notes = apply(ask.replacing, "want_replace", event, Times(ask.view.now_ns, 0))
        if notes:
            return _refused(notes[0].value, "the order is in no state to be replaced")
    findings = tuple(all_findings(ask))
    first = next((finding for finding in findings if finding.reason), None)
    judged = findings[-1].code == CHECKS[-1].code
    changes = [_symbol_change(ask, 0), _total_change(ask, 0)] if judged else [NOTHING, NOTHING]
    changes += [_symbol_change(ask, ask.owner), _total_change(ask, ask.owner)] if judged and ask.owner else [NOTHING, NOTHING]
    return WhatIf(first.code if first is not None else "", first.reason if first is not None else "", findings, *changes)


def _refused(code: str, reason: str) -> WhatIf:
    return WhatIf(code, reason, (), NOTHING, NOTHING, NOTHING, NOTHING)


def _symbol_change(a: Ask, owner: int) -> Change:
    book = book_of(a, owner)
    now = worst_value(book)
    return Change(now, max(now, side_value(a, book)))


def _total_change(a: Ask, owner: int) -> Change:
    return Change(tally_of(a.view, owner).worst, total_after(a, owner))


def refusing(core: Core) -> Finding | None:
    """Why no order of any symbol or strategy would go out now, whatever it is: the gate's first reason; None if there is an order that
    session and scopes would let through."""
    desk = core.desk
    if desk is None:
        return Finding("not_started", "the session has not begun")
    control = desk.controls.get(ACCOUNT)
    wide = control is not None and control.mode in _FROZEN
    first: Finding | None = None
    for ask, _ in _nothing_asked(Turn(core, desk, core.now_ns), desk):
        found = denied_any(ask)
        if found is None:
            return None
        if wide or ask.mode not in _FROZEN:
            return found  # of no scope below the account, so it holds for all
        first = first or found
    return first


# --- utilization ----------------------------------------------------------------------------------------------------


@frozen
class Utilization:
    """How much of a limit is used. ``subject`` is whose figure it is: a scope's text, or ``strategy:NAME/SYMBOL``.

    ``source`` is the rule in words; ``str(utilization)`` is "6500 of 5000, 130 %". ``value`` and ``bound`` are ints with this many decimal
    ``digits``: ``to_text(value, digits)`` is the number; money has 24, as a Notional, counts 0. ``percent`` is their ratio at scale 10^-12,
    rounded up (``to_text(percent)`` is "80" for four fifths). It may be above 100, and is never below 0.
    """

    subject: str
    figure: str
    source: str
    value: int
    bound: int
    digits: int
    percent: int

    def __str__(self) -> str:
        return used_text(self.value, self.bound, self.digits)


def utilization(core: Core) -> tuple[Utilization, ...]:
    """Every standing limit that is in force now, for each subject that it bounds.

    By figure in the order of the gate, then by strategy and symbol in that of the configuration.
    """
    desk = core.desk
    if desk is None:
        return ()
    view = Turn(core, desk, core.now_ns)
    asks = list(_nothing_asked(view, desk))
    found: dict[tuple[str, str, str], Utilization] = {}
    for limit in (check.limit for check in CHECKS):
        if limit is None or not limit.standing:
            continue
        for buy, sell in asks:
            for source in sources_of(buy, limit.name):
                key = limit.name, _subject(limit, source, buy), source.label
                if key not in found:
                    found[key] = _used(limit, source, buy, sell)
    return tuple(found.values())


def _nothing_asked(view: Turn, desk: Desk) -> Iterator[tuple[Ask, Ask]]:
    """An order of nothing for every strategy and symbol, on both sides: what its limits measure is what is there."""
    for strategy in desk.config.strategies or ("",):
        for symbol in desk.config.symbols:
            orders = [SubmitOrder(view.now_ns, symbol, side, Qty(0), Price(0), strategy=strategy) for side in _SIDES]
            buy, sell = (ask_to_submit(view, order, 0, sends=0) for order in orders)
            yield buy, sell


def _used(limit: Limit, source: Source, buy: Ask, sell: Ask) -> Utilization:
    value = max(limit.measure(buy, source) or 0, limit.measure(sell, source) or 0)
    bound = bound_of(limit, source)
    return Utilization(_subject(limit, source, buy), limit.name, source.label, value, bound, limit.digits, percent_of(value, bound))


def _subject(limit: Limit, source: Source, a: Ask) -> str:
    owner = owner_in(a, source)
    symbol = source.symbol if limit.wide else a.wanted.symbol
    whose = scope_text(a.desk, strategy_scope(owner)) if owner else ""
    return f"{whose}/{symbol}" if whose and symbol else whose or symbol


# --- what we hold, what froze ---------------------------------------------------------------------------------------


@frozen
class Holding:
    """What is held of a symbol, by the account (``strategy`` empty) or by one strategy.

    ``value`` is that of the position at the mark, below 0 if short; ``gain`` the result since the session began, fees included. Both are
    Notional, at scale 10^-24, in the money of limits: ``notional_text(gain)``. Quantities, ``mark`` and ``fees`` are at scale 10^-12:
    ``to_text(qty)``. ``buy_qty`` and ``sell_qty`` may still fill.
    """

    strategy: str
    symbol: str
    qty: Qty
    mark: Price
    value: Notional
    gain: Notional
    fees: Usd
    buy_qty: Qty
    sell_qty: Qty
    open_orders: int


def positions(core: Core) -> tuple[Holding, ...]:
    """Every book: the account's by symbol, in the order of the configuration, then each strategy's."""
    desk = core.desk
    if desk is None:
        return ()
    held = []
    for key in sorted(core.books):
        owner, book = owner_of(key), core.books[key]
        price = ONE if book.contract.inverse else book.mark
        held.append(
            Holding(
                desk.config.strategies[owner - 1] if owner else "", desk.config.symbols[sym_of(key)], book.position, book.mark,
                in_money(book.contract, book.position * price), gain_value(book), book.fees, book.buy_qty, book.sell_qty, book.open_orders,
            )
        )  # fmt: skip
    return tuple(held)


def freeze_history(core: Core, scope: str | None = None, trigger: Trigger | None = None, since_ns: int = 0) -> tuple[FreezeRecord, ...]:
    """The freezes that the state remembers, oldest first: of this scope, by this trigger, not before this moment. The log has all."""
    if core.desk is None:
        return ()
    return tuple(
        record
        for record in core.desk.freezes
        if scope in (None, record.scope) and trigger in (None, record.trigger) and record.at_ns >= since_ns
    )


__all__ = [
    "Change", "Figure", "Holding", "Utilization", "WhatIf", "freeze_history", "positions", "refusing", "utilization", "what_if",
]  # fmt: skip
