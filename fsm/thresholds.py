"""Which figure bounds a scope now: the one question that all automatic triggers ask of the limits.

A trigger freezes a scope, so it asks for the figure of that scope and not of an order. The figure is that of the rule for the scope
alone; none of those that trigger may depend on a window or a band (see ``FIGURES``). An override of exactly this scope replaces it
for its time; those of other scopes leave it alone (``limits.sources`` says the same of an order's limits).
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, cast

from immutables import Map

from .core import ACCOUNT, VENUE, Desk, Flow, Thresholds, strategy_scope
from .limits import LimitRule, Override, Rate, overriding
from .turn import NS_PER_MS

#: The figures that trigger, by their name in the rules, each with its place in :class:`Thresholds`.
_PLACES: Final = MappingProxyType(
    {
        "edge_freeze_threshold_bps": "edges",
        "max_daily_loss": "losses",
        "max_drawdown": "drawdowns",
        "feed_lost_ms": "feeds",
        "execution_rate": "executions",
    }
)


def thresholds_of(rules: Iterable[LimitRule], index: Map[str, int], owners: Map[str, int]) -> Thresholds:
    """What the rules say, by scope."""
    found: dict[str, dict[int, Any]] = {place: {} for place in _PLACES.values()}
    for rule in rules:
        scope = _subject(rule, index, owners)
        if scope is None or not rule.steady:
            continue
        for name, place in _PLACES.items():
            value = getattr(rule.limits, name)
            if value is not None:
                found[place][scope] = value
    return Thresholds(**{place: Map(values) for place, values in found.items()})


def amount(desk: Desk, now_ns: int, scope: int, name: str) -> int | None:
    """The figure of this name for the scope; None is no limit."""
    return cast(int | None, _figure(desk, now_ns, scope, name))


def rate(desk: Desk, now_ns: int, scope: int, name: str) -> Rate | None:
    """As :func:`amount`, for figures that are rates."""
    return cast(Rate | None, _figure(desk, now_ns, scope, name))


def scopes_with(desk: Desk, name: str) -> list[int]:
    """The scopes that have a figure of this name, by rule or by override, ascending."""
    subjects = [_subject(override, desk.index, desk.owners) for override in desk.overrides if getattr(override.limits, name) is not None]
    return sorted(dict.fromkeys((*getattr(desk.thresholds, _PLACES[name]).keys(), *(scope for scope in subjects if scope is not None))))


def feed_is_stale(desk: Desk, flow: Flow, now_ns: int, scope: int) -> bool:
    """Whether a limit asks for the scope's market data, and it has been away for too long."""
    feed, limit = flow.feeds.get(scope), amount(desk, now_ns, scope, "feed_lost_ms")
    return feed is not None and limit is not None and now_ns >= feed.last_ns + limit * NS_PER_MS


def edge_is_low(desk: Desk, flow: Flow, now_ns: int, scope: int) -> bool:
    """Whether a last reading of the edge that counts for the scope is below its threshold: the account's is that of every symbol."""
    limit = amount(desk, now_ns, scope, "edge_freeze_threshold_bps")
    return limit is not None and any(edge < limit for told, edge in flow.edges.items() if scope in (ACCOUNT, told))


def _figure(desk: Desk, now_ns: int, scope: int, name: str) -> Any:
    if desk.overrides and scope != VENUE:
        symbol = desk.config.symbols[scope - 1] if scope > ACCOUNT else ""
        strategy = desk.config.strategies[-2 - scope] if scope < VENUE else ""
        for override in reversed(overriding(desk.overrides, now_ns, symbol, strategy)):
            value = getattr(override.limits, name)
            if value is not None and (override.symbol, override.strategy) == (symbol, strategy):
                return value
    return getattr(desk.thresholds, _PLACES[name]).get(scope)


def _subject(source: LimitRule | Override, index: Map[str, int], owners: Map[str, int]) -> int | None:
    """The scope whose figures these are; None for a strategy's in one symbol, which is no scope, and for what is not configured."""
    if source.strategy:
        owner = owners.get(source.strategy, 0)
        return None if source.symbol or not owner else strategy_scope(owner)
    if not source.symbol:
        return ACCOUNT
    sym = index.get(source.symbol, -1)
    return None if sym < 0 else sym + 1
