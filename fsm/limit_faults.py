"""What can be wrong with a rule, said so that it can be put right: ``path: what is there; what to give instead``.

One set of functions for a configuration and for an operator's command. A caller without a type checker may have put anything anywhere, so
nothing here relies on a type before it has looked at it.
"""

from collections.abc import Callable, Container, Iterable
from types import MappingProxyType
from typing import Final, TypeGuard

from ..effects import to_text
from ..effects.values import MAX_WHOLE, SCALE
from .limits import FIGURES, MAX_COUNT, MAX_MS, MAX_NUMBER, MINUTES_A_DAY, NO_LIMITS, Figure, LimitRule, Limits, Rate, says, shape

#: An amount below a millionth is a raw number that somebody forgot to scale: 5 instead of usd("5").
_LEAST = 10**6
MAX_AMOUNT: Final = MAX_WHOLE * SCALE
#: How amounts are made; the others are money.
_MAKERS: Final = MappingProxyType({"edge_freeze_threshold_bps": "bps", "price_collar_bps": "bps", "max_order_qty": "qty"})


def rule_faults(rule: object, where: str, symbols: Container[str] | None, strategies: Container[str] | None) -> list[str]:
    """Every fault of one rule. None for the symbols or strategies: they are wrong themselves, so nobody can say whether it names one."""
    if not isinstance(rule, LimitRule):
        return [f"{where}: {shown(rule)} is a {type(rule).__name__}; give a LimitRule(Limits(...), symbol=\"BTCUSDT\")"]
    faults: list[str] = []
    unknown = []
    for name, known in (("symbol", symbols), ("strategy", strategies), ("band", None)):
        value: object = getattr(rule, name)
        if not isinstance(value, str) or (value and not is_name(value)):
            faults.append(f"{where}.{name}: {shown(value)} is no printable text of at most 64 characters; leave it empty for no condition")
        elif value and known is not None and value not in known:
            kind = "symbols" if name == "symbol" else "strategies"
            unknown.append(f"{where}.{name}: {shown(value)} is not among the {kind}; name it there, or leave it empty for no condition")
    for name in ("from_minute", "to_minute"):
        faults += [f"{where}.{name}: {text}" for text in minute_faults(getattr(rule, name))]
    limits: object = rule.limits
    if not isinstance(limits, Limits):
        faults.append(f"{where}{_inner(where)}: {not_a(limits, 'Limits', 'max_open_orders=100')}")
    elif not faults:
        faults += _figures_faults(rule, where)
    return unknown + faults


def _inner(where: str) -> str:
    """The account's rule is known by its figures alone."""
    return "" if where == "limits" else ".limits"


def _figures_faults(rule: LimitRule, where: str) -> list[str]:
    faults = []
    for figure in FIGURES:
        value = getattr(rule.limits, figure.name)
        if value == getattr(NO_LIMITS, figure.name) and type(value) is type(getattr(NO_LIMITS, figure.name)):
            continue
        name = f"{where}.{figure.name}"
        if shape(rule) not in figure.rules or not (rule.steady or figure.tightens):
            allowed = ", ".join(figure.rules) + ("" if figure.tightens else ", without window or band")
            faults.append(f"{name}: has no meaning for {rule.label}; give it in a rule for: {allowed}")
        faults += [f"{name}: {text}" for text in _value_faults(figure, value)]
    return faults


def says_nothing(limits: Limits) -> bool:
    """Whether there is no figure in it at all."""
    return not any(says(limits, figure.name) for figure in FIGURES)


# --- values ----------------------------------------------------------------------------------------------------------


def _value_faults(figure: Figure, value: object) -> Iterable[str]:
    if figure.name == "edge_freeze_threshold_bps":
        return _edge_faults(value, figure)
    check = _CHECKS.get(figure.name)
    return _amount_faults(value, figure) if check is None else check(value)


def _amount_faults(value: object, figure: Figure) -> Iterable[str]:
    """An exact amount above 0."""
    make = _MAKERS.get(figure.name, "usd")
    if not is_whole(value):
        yield f"{shown(value)} is a {type(value).__name__}; give {make}(\"{figure.example}\"), or None for no limit"
    elif value <= 0:
        yield f"{amount_text(value)} is not above 0; give {make}(\"{figure.example}\"), or None for no limit"
    else:
        yield from _scale_faults(value, make)


def _edge_faults(value: object, figure: Figure) -> Iterable[str]:
    """An exact number of basis points, of any sign."""
    if not is_whole(value):
        yield f"{shown(value)} is a {type(value).__name__}; give bps(\"{figure.example}\"), or None for no trigger"
    else:
        yield from _scale_faults(value, "bps")


def _scale_faults(value: int, make: str) -> Iterable[str]:
    if 0 < abs(value) < _LEAST:
        yield f"{amount_text(value)} is next to nothing; amounts are scaled, give {make}(\"{value}\")"
    elif abs(value) > MAX_AMOUNT:
        yield f"above the largest amount, 10^15; give {make}() of what you mean"


def count_faults(value: object) -> Iterable[str]:
    """A whole number above 0 that a log can hold."""
    if not is_whole(value) or not 0 < value <= MAX_NUMBER:
        yield f"{shown(value)} is no whole number above 0; give such as 100"


def time_faults(value: object) -> Iterable[str]:
    """Milliseconds, at most a year of them."""
    if not is_whole(value) or not 0 < value <= MAX_MS:
        yield f"{shown(value)} is no whole number of milliseconds; give 1 to {MAX_MS}"


def minute_faults(value: object) -> Iterable[str]:
    """A minute of the day."""
    if not is_whole(value) or not 0 <= value < MINUTES_A_DAY:
        yield f"{shown(value)} is no minute of the day; give 0 to {MINUTES_A_DAY - 1}"


def rate_faults(value: object) -> Iterable[str]:
    """So many in that time."""
    if not isinstance(value, Rate):
        yield f"{shown(value)} is a {type(value).__name__}; give Rate(100, 1_000) for 100 a second"
        return
    if not is_whole(value.count) or not 0 < value.count <= MAX_COUNT:
        yield f"a count of {shown(value.count)} is no whole number above 0; give 1 to {MAX_COUNT}"
    yield from time_faults(value.per_ms)


def flag_faults(value: object) -> Iterable[str]:
    """True or False. What merely counts as true could not be written to a log."""
    if not isinstance(value, bool):
        yield f"{shown(value)} is neither True nor False; give one of them"


_CHECKS: Final[MappingProxyType[str, Callable[[object], Iterable[str]]]] = MappingProxyType({
    "max_open_orders": count_faults,
    "feed_lost_ms": time_faults,
    "message_rate": rate_faults,
    "execution_rate": rate_faults,
    "duplicate_window_ms": time_faults,
    "prevent_self_match": flag_faults,
})  # fmt: skip


# --- types -----------------------------------------------------------------------------------------------------------


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_name(value: object) -> TypeGuard[str]:
    """What may name a symbol, a strategy or a band."""
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


def shown(value: object) -> str:
    """A value in a message, at a bearable length."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python is willing to write
        return "a number without end"
    return text if len(text) <= 80 else text[:77] + "..."


def amount_text(value: int) -> str:
    """An amount in a message."""
    return to_text(value) if abs(value) <= MAX_AMOUNT else "an amount beyond 10^15"


def not_a(value: object, kind: str, inside: str) -> str:
    """That a value is of another class than it should be."""
    return f"{shown(value)} is a {type(value).__name__}; give {kind}({inside})"
