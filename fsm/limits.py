"""Limits: which figures there are, to whom each applies, and which of them hold for an order now.

A *rule* is a set of figures and the conditions under which they hold: a symbol, a strategy, a time of day, a volatility band, each of
them or none. The rule without conditions is the account's. The conditions also say whose exposure a figure bounds: a rule that names a
strategy looks at that strategy's own position and orders, any other at the account's.

For an order, every rule holds whose conditions the order meets; of several figures each has to be kept, so the lowest decides. Two
sentences complete that:

* For the figures that ``FIGURES`` marks as *default*, the account's value is only what symbols have that say nothing themselves: a rule
  for the symbol alone replaces it, upwards too. Strategies, windows and bands can only tighten.
* An *override* replaces a figure until it expires, in the rules of its own subject: those for the same symbol and strategy, in whatever
  window or band, since it is the exception to them too (RTS 6 Art. 15(6): temporary, exceptional, by a named person, verified by a
  second one where the configuration demands it). Rules of other subjects stay in force: an override for one strategy lets it go beyond
  its own limits, never beyond the account's. For a *default* an override for a symbol alone also replaces the account's value there, as
  the symbol's own rule would, and one for the account replaces the default, which leaves symbols that have a value of their own alone.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs
from attrs import frozen

from ..effects import Bps, EffectId, Qty, Usd, to_text

_NS_PER_MINUTE: Final = 60 * 10**9
MINUTES_A_DAY: Final = 1_440
#: What a log can hold as an integer, and the longest time: a year, so that no sum of moment and time leaves that range.
MAX_NUMBER: Final = 2**63 - 1
MS_PER_DAY: Final = 24 * 3_600_000
MAX_MS: Final = 366 * MS_PER_DAY
#: The largest rate, the most rules (each order looks at all of them), and the most overrides at a time.
MAX_COUNT: Final = 10**9
MAX_RULES, MAX_OVERRIDES = 4_096, 64


@frozen
class Rate:
    """So many, in that time: a bucket of ``count`` tokens that fills evenly within ``per_ms`` milliseconds."""

    count: int
    per_ms: int


@frozen
class Limits:
    """Figures; None is no limit. What each bounds, and in which rules it has a meaning, stands in :data:`FIGURES`.

    Money is in the currency that the symbols are quoted in (``usd("5000")``).
    """

    max_inventory_usd: Usd | None = None
    max_total_notional: Usd | None = None
    edge_freeze_threshold_bps: Bps | None = None
    max_order_value: Usd | None = None
    max_order_qty: Qty | None = None
    price_collar_bps: Bps | None = None
    max_open_orders: int | None = None
    max_daily_loss: Usd | None = None
    max_drawdown: Usd | None = None
    feed_lost_ms: int | None = None
    message_rate: Rate | None = None
    execution_rate: Rate | None = None
    duplicate_window_ms: int | None = None
    prevent_self_match: bool = False


NO_LIMITS = Limits()


@frozen
class LimitRule:
    """Figures and the conditions under which they hold. Empty text is no condition; ``from_minute`` equal to ``to_minute`` is all day.

    Minutes count from midnight UTC; a window whose end is before its start goes over midnight. The end is not part of it.
    """

    limits: Limits
    symbol: str = ""
    strategy: str = ""
    band: str = ""
    from_minute: int = 0
    to_minute: int = 0

    @property
    def conditions(self) -> tuple[str, str, str, int, int]:
        """What tells the rule from others: no two rules have the same. All day is all day, whichever minute it is written with."""
        if self.from_minute == self.to_minute:
            return self.symbol, self.strategy, self.band, 0, 0
        return self.symbol, self.strategy, self.band, self.from_minute, self.to_minute

    @property
    def label(self) -> str:
        """In words, for reasons: "account", "symbol BTCUSDT, band high"."""
        words = [f"{word} {name}" for word, name in (("strategy", self.strategy), ("symbol", self.symbol), ("band", self.band)) if name]
        if self.from_minute != self.to_minute:
            words.append(f"window {_clock(self.from_minute)}-{_clock(self.to_minute)} UTC")
        return ", ".join(words) or "account"

    @property
    def steady(self) -> bool:
        """Whether it holds at all times, whatever the market does."""
        return not self.band and self.from_minute == self.to_minute


@frozen
class Override:
    """A figure that until ``until_ns`` holds instead of those of the rules for this symbol and strategy (empty: any).

    ``id`` is the number of the record that asked for it. ``verified_by`` is empty while a second person has to agree; then it has no
    force yet.
    """

    id: int
    limits: Limits
    symbol: str
    strategy: str
    until_ns: int
    by: str
    why: str
    verified_by: str
    timer: EffectId | None

    @property
    def label(self) -> str:
        """In words, for reasons."""
        return f"override {self.id} by {self.by}"

    @property
    def steady(self) -> bool:
        """As of a rule: while it holds, it does at all times of the day and in every band."""
        return True


Source: TypeAlias = LimitRule | Override

# --- the figures ----------------------------------------------------------------------------------------------------

ACCOUNT_RULE, SYMBOL_RULE, STRATEGY_RULE, BOTH_RULE = "account", "symbol", "strategy", "strategy and symbol"
_ANY = (ACCOUNT_RULE, SYMBOL_RULE, STRATEGY_RULE, BOTH_RULE)


@frozen
class Figure:
    """One row: what the figure bounds, in which rules it may stand, whether windows and bands may tighten it, and whether the
    account's value is only the default of the symbols. ``example`` is how it is written in a file."""

    name: str
    bounds: str
    rules: tuple[str, ...]
    tightens: bool
    default: bool
    example: str


#: Every figure of :class:`Limits`. Generated into ``spec/risk.md``.
FIGURES: Final[tuple[Figure, ...]] = (
    Figure("max_inventory_usd", "worst-case value of one symbol, on the order's side", _ANY, True, True, "10000"),
    Figure("max_total_notional", "worst-case value over all symbols", (ACCOUNT_RULE, STRATEGY_RULE), True, False, "50000"),
    Figure("edge_freeze_threshold_bps", "an edge below it freezes", (ACCOUNT_RULE, SYMBOL_RULE), False, False, "200"),
    Figure("max_order_value", "value of one order (RTS 6 Art. 15(1)(b))", _ANY, True, True, "2500"),
    Figure("max_order_qty", "quantity of one order (RTS 6 Art. 15(1)(c))", _ANY, True, True, "1.5"),
    Figure(
        "price_collar_bps", "distance of a limit price from the mark, of a stop's limit from its stop price (RTS 6 Art. 15(1)(a))",
        _ANY, True, True, "300",
    ),
    Figure("max_open_orders", "orders that have not ended", _ANY, True, False, "100"),
    Figure(
        "max_daily_loss", "loss since the day began, fees included; beyond it freezes",
        (ACCOUNT_RULE, SYMBOL_RULE, STRATEGY_RULE), False, False, "1000",
    ),
    Figure(
        "max_drawdown", "fall of the result from the day's highest; beyond it freezes",
        (ACCOUNT_RULE, SYMBOL_RULE, STRATEGY_RULE), False, False, "1500",
    ),
    Figure("feed_lost_ms", "time without market data; longer freezes", (ACCOUNT_RULE, SYMBOL_RULE), False, False, "5000"),
    Figure(
        "message_rate", "submits, replaces and cancels; cancels count and are never blocked (RTS 6 Art. 15(1)(d))",
        (ACCOUNT_RULE,), False, False, "100/1s",
    ),
    Figure(
        "execution_rate", "trades; beyond it off until a named person re-enables (RTS 6 Art. 15(3))",
        (ACCOUNT_RULE, STRATEGY_RULE), False, False, "50/1m",
    ),
    Figure(
        "duplicate_window_ms", "time in which the same order is not sent twice (17 CFR 240.15c3-5(c)(1))",
        (ACCOUNT_RULE,), False, False, "500",
    ),
    Figure("prevent_self_match", "an order that would trade with one of our own is denied", (ACCOUNT_RULE,), False, False, "true"),
)  # fmt: skip

_DEFAULTS: Final = MappingProxyType({figure.name: figure.default for figure in FIGURES})
#: The figures that are no amounts: they count, and are not scaled.
_COUNTS: Final = ("max_open_orders", "feed_lost_ms", "duplicate_window_ms")
#: The figures of which a lower one allows more.
_MORE_IS_TIGHTER: Final = ("edge_freeze_threshold_bps", "duplicate_window_ms")
#: The units in which a person writes the time of a rate, each with its milliseconds, the largest first.
TIME_UNITS: Final = (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def shape(rule: LimitRule | Override) -> str:
    """Which kind of rule it is, by its conditions; windows and bands aside."""
    if rule.strategy:
        return BOTH_RULE if rule.symbol else STRATEGY_RULE
    return SYMBOL_RULE if rule.symbol else ACCOUNT_RULE


def says(limits: Limits, name: str) -> bool:
    """Whether these limits say anything about this figure. A switch that is off says nothing: another rule may switch it on."""
    value = getattr(limits, name)
    return value is not None and value is not False


def loosens(name: str, was: Any, now: Any) -> bool:
    """Whether a figure allows more than it did, in any respect; None, and a switch that is off, allow everything."""
    if was is None or was is False or now == was:
        return False
    if now is None or now is False:
        return True
    if isinstance(was, Rate):
        return bool(now.count > was.count or now.count * was.per_ms > was.count * now.per_ms)
    return bool(now < was if name in _MORE_IS_TIGHTER else now > was)


def own_or_default(rules: Iterable[LimitRule], rule: LimitRule, name: str) -> Any:
    """The figure by which a rule with these conditions bounds: its own, or, of a symbol alone, the default that it would replace."""
    figures = {other.conditions: getattr(other.limits, name) for other in rules}
    own = figures.get(rule.conditions)
    falls_back = own is None and _DEFAULTS[name] and rule.steady and shape(rule) == SYMBOL_RULE
    return figures.get(LimitRule(NO_LIMITS).conditions) if falls_back else own


def merged(base: Limits, was: Limits, now: Limits) -> Limits:
    """``base`` with those figures of ``now`` that ``was`` has otherwise."""
    news = {figure.name: getattr(now, figure.name) for figure in FIGURES if getattr(now, figure.name) != getattr(was, figure.name)}
    return attrs.evolve(base, **news)


def written(name: str, value: object) -> str:
    """A figure as a person writes it, in a file of settings too; "none" where there is none."""
    if isinstance(value, Rate):
        return rate_text(value)
    if value is None or value is False:
        return "none"
    return to_text(value) if isinstance(value, int) and value is not True and name not in _COUNTS else str(value).lower()


def rate_text(rate: Rate) -> str:
    """A rate in the largest unit that it is whole in: ``100/1s``."""
    unit, ms = next((unit, ms) for unit, ms in TIME_UNITS if rate.per_ms % ms == 0)
    return f"{rate.count}/{rate.per_ms // ms}{unit}"


# --- which rules hold -----------------------------------------------------------------------------------------------


def in_force(rules: Iterable[LimitRule], now_ns: int, symbol: str, strategy: str, band: str) -> tuple[LimitRule, ...]:
    """The rules whose conditions an order of this symbol and strategy meets now."""
    return tuple(
        rule
        for rule in rules
        if (not rule.symbol or rule.symbol == symbol)
        and (not rule.strategy or rule.strategy == strategy)
        and (rule.steady or ((not rule.band or rule.band == band) and _in_window(rule, now_ns)))
    )


def overriding(overrides: Iterable[Override], now_ns: int, symbol: str, strategy: str) -> tuple[Override, ...]:
    """The overrides that have force for such an order now."""
    return tuple(
        o
        for o in overrides
        if o.verified_by and now_ns < o.until_ns and (not o.symbol or o.symbol == symbol) and (not o.strategy or o.strategy == strategy)
    )


def sources(rules: tuple[LimitRule, ...], overrides: tuple[Override, ...], name: str) -> list[Source]:
    """The rules and overrides (already known to hold) that bound this figure; of overrides with one subject the latest."""
    found: list[Source] = [rule for rule in rules if says(rule.limits, name)]
    tightens = False
    if overrides:
        latest = {(o.symbol, o.strategy): o for o in overrides if says(o.limits, name)}
        # The account's override in place of a window or band bounds what those bounded: symbols with a value of their own too.
        tightens = ("", "") in latest and any(not rule.steady and shape(rule) == ACCOUNT_RULE for rule in found)
        found = [*(rule for rule in found if (rule.symbol, rule.strategy) not in latest), *latest.values()]
    if len(found) > 1 and _DEFAULTS[name] and any(source.steady and shape(source) == SYMBOL_RULE for source in found):
        found = [source for source in found if tightens or not (source.steady and shape(source) == ACCOUNT_RULE)]
    return found


def replaces(override: Override, source: Source, name: str) -> bool:
    """Whether the override stands in place of this figure of a rule or an earlier override, where both hold."""
    if (source.symbol, source.strategy) == (override.symbol, override.strategy):
        return True
    return _DEFAULTS[name] and shape(override) == SYMBOL_RULE and source.steady and shape(source) == ACCOUNT_RULE


def _in_window(rule: LimitRule, now_ns: int) -> bool:
    if rule.from_minute == rule.to_minute:
        return True
    minute = now_ns // _NS_PER_MINUTE % MINUTES_A_DAY
    if rule.from_minute < rule.to_minute:
        return rule.from_minute <= minute < rule.to_minute
    return minute >= rule.from_minute or minute < rule.to_minute


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
