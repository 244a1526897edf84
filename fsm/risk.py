"""The gate: may this order go out?

Every submit and every replace passes one ordered list of checks. The first that fails denies, with its stable code;
``explain`` runs them all. A check is a row of ``CHECKS``: its code, what it reads, what it demands, and the function that says why it
denies. Order matters: form first (later checks rely on it), then the instrument's grid, the state of session and scopes, our own other
orders, and last the limits, from those of one order to those that need sums.

Nothing here depends on how many orders there are: sums are kept as orders change, the last order of each intent is found by its
fingerprint, and the best price of ours by its level.

A limit denies one order only (soft block); it never freezes. An order is judged by the side it adds to: a sell that works
a long position off is not denied because the long side is over its limit. An order that passes counts at once at its worst case.

The rows answer to RTS 6 (EU 2017/589) Art. 15 and 17 CFR 240.15c3-5(c); the tests name the paragraph of each.
"""

from collections.abc import Callable
from functools import partial

from attrs import frozen

from . import checks, measures
from .ask import Ask
from .measures import Figure, Limit, denied_by, figures


@frozen
class Check:
    """One row of the gate: ``reason`` gives why it denies, or "". A row that compares a figure has its ``limit``. ``again``: it is looked
    at once more when a claim was granted (``guards.py``), since what it reads may have changed meanwhile. ``any_order``: it looks at the
    session and the scopes, and at nothing of the order, so that what it denies to one it denies to all that lie there.
    """

    code: str
    reads: str
    demands: str
    reason: Callable[[Ask], str]
    form: bool = False
    limit: Limit | None = None
    again: bool = False
    any_order: bool = False


@frozen
class Finding:
    """One row's verdict: ``reason`` is empty when the check passed. ``figures``: what a limit measured, under every rule that sets it."""

    code: str
    reason: str
    figures: tuple[Figure, ...] = ()


def _form(code: str, reads: str, demands: str, reason: Callable[[Ask], str]) -> Check:
    return Check(code, reads, demands, reason, form=True)


def _session(code: str, reads: str, demands: str, reason: Callable[[Ask], str]) -> Check:
    return Check(code, reads, demands, reason, again=True, any_order=True)


def _state(code: str, reads: str, demands: str, reason: Callable[[Ask], str]) -> Check:
    return Check(code, reads, demands, reason, again=True)


def _limit(code: str, reads: str, demands: str, limit: Limit) -> Check:
    return Check(code, reads, demands, partial(denied_by, limit), limit=limit)


_WORKING = "position, working orders of the side"

#: The gate, in order. Generated into ``spec/risk.md``.
CHECKS: tuple[Check, ...] = (
    _form("invalid_type", "the order", "numbers are exact ints, side and type are members of their enums", checks.types),
    _form("unknown_symbol", "the configuration", "the symbol is configured", checks.symbol),
    _form("unknown_strategy", "the configuration", "where strategies are configured, the order names one of them", checks.strategy),
    _form("missing_attribution", "the configuration", "where it is demanded, strategy, trader and client are named", checks.attribution),
    _form("invalid_quantity", "the order", "the quantity is above 0", checks.quantity),
    _form("invalid_price", "the order", "limit kinds have a price above 0, others none", checks.limit_price),
    _form("invalid_stop_price", "the order", "stop kinds have a stop price above 0, others none", checks.stop_price),
    _form("session_full", "the order's key", "it is below 2^32", checks.session),
    Check("off_tick", "the instrument", "price and stop price are multiples of the tick", checks.tick),
    Check("off_lot", "the instrument", "the quantity is a multiple of the lot", checks.lot),
    Check("min_qty", "the instrument", "the quantity is not below the venue's least", checks.least_qty),
    Check("max_qty", "the instrument", "the quantity is not above the venue's most", checks.most_qty),
    Check("min_notional", "the instrument", "the order is worth the venue's least, or says reduce-only", checks.least_notional),
    Check("already_done", "the last order of this intention", "what may be placed once only was not placed before", checks.not_done),
    _session("not_ready", "the stocktake, the latch", "the account's open orders and positions have been read", checks.ready),
    _session("stopping", "the session", "the runner is not about to stop", checks.stopping),
    _session("frozen", "modes of account, venue, symbol, strategy", "none of them is frozen and proven empty", checks.not_frozen),
    _session("sweeping", "modes of account, venue, symbol, strategy", "none of them is frozen and still being swept", checks.not_sweeping),
    _session("venue_down", "the venue link", "the connection to the venue is up", checks.venue_up),
    _session("store_unavailable", "the store's answers", "the store, if configured, answers and takes what is written", checks.store_ok),
    _session("store_unfit", "the check of the store", "where it is demanded, the store has been found fit to coordinate", checks.store_fit),
    Check(
        "store_forgot", "the store's epoch", "what may be placed once only waits while a store that lost what it knew is told again",
        checks.store_remembers,
    ),
    _session("breaker_open", "the circuit breaker", "that of placing is closed, or lets the order through as a probe", checks.breaker_lets),
    _state(
        "reduce_only", f"modes, {_WORKING}", "in reduce-only mode the order can only reduce, all working orders counted", checks.reduce_only
    ),
    _state("not_reducing", _WORKING, "an order that says reduce-only can only reduce, all working orders counted", checks.reducing_flag),
    _state("restricted", f"the restricted list, {_WORKING}", "in a restricted symbol the order can only reduce", checks.not_restricted),
    _state(
        "throttled", f"who is throttled, {_WORKING}", "while the execution throttle is on, the order can only reduce", checks.not_throttled
    ),
    _state("feed_lost", f"time of market data, {_WORKING}", "while a watched feed is silent, the order can only reduce", checks.feed_fresh),
    _state("unknown_order_in_slot", "orders in doubt", "no order of unknown fate on the same symbol and side", checks.slot_known),
    Check(
        "duplicate_order", "the last order of this intent", "not the same order again within duplicate_window_ms; replaces are none",
        checks.not_duplicate,
    ),
    Check("self_match", "our best price on the other side", "the order cannot trade with one of our own", checks.no_self_match),
    Check(
        "no_mark_price", "the mark price", "an order without a limit price, a position it adds to, and a collar have a price to go by",
        checks.mark,
    ),
    _limit("price_collar", "the mark, or the stop price", "the limit price is within the collar", measures.COLLAR),
    _limit("max_order_qty", "the order", "its quantity is within the limit", measures.ORDER_QTY),
    _limit("max_order_value", "the order, the mark", "its value at its price or the mark is within the limit", measures.ORDER_VALUE),
    _limit("max_open_orders", "counts of open orders", "with the order they stay within the limit", measures.OPEN_ORDERS),
    _limit("message_rate", "the bucket of messages", "there is a token for it", measures.MESSAGES),
    _limit(
        "max_inventory_usd", "the symbol's book", "position and open orders of the order's side stay within the symbol's limit",
        measures.INVENTORY,
    ),
    _limit("max_total_notional", "the sum of books", "the sum of all symbols' worst cases stays within the limit", measures.TOTAL),
    _limit(
        "daily_loss", f"the day's result, {_WORKING}", "the day's loss is within the limit, or the order can only reduce", measures.LOSS
    ),
    _limit(
        "drawdown", f"the day's result, {_WORKING}", "the fall from the day's highest is within the limit, or the order can only reduce",
        measures.DRAWDOWN,
    ),
)  # fmt: skip


def first_denial(ask: Ask) -> Finding | None:
    """The first check that fails, or None: the order may go out."""
    for check in CHECKS:
        reason = check.reason(ask)
        if reason:
            return Finding(check.code, reason)
    return None


def denied_again(ask: Ask) -> Finding | None:
    """The first check that fails of those that read what may have changed since the order passed. ``ask`` is of the order as it is, which
    counts already."""
    for check in CHECKS:
        if check.again and (reason := check.reason(ask)):
            return Finding(check.code, reason)
    return None


def denied_any(ask: Ask) -> Finding | None:
    """The first check that fails of those that would deny any order in the scopes of this one."""
    for check in CHECKS:
        if check.any_order and (reason := check.reason(ask)):
            return Finding(check.code, reason)
    return None


def all_findings(ask: Ask) -> list[Finding]:
    """Every check's verdict, in order. When the form is wrong, the rest cannot be judged and is left out."""
    form = [check for check in CHECKS if check.form]
    findings = [_find(form[0], ask)]
    if findings[0].reason:
        return findings  # numbers that are none cannot even be compared
    findings += [_find(check, ask) for check in form[1:]]
    if any(finding.reason for finding in findings):
        return findings
    return findings + [_find(check, ask) for check in CHECKS if not check.form]


def _find(check: Check, ask: Ask) -> Finding:
    return Finding(check.code, check.reason(ask), tuple(figures(check.limit, ask)) if check.limit is not None else ())
