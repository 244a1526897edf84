"""What callers give, made into what events hold; or one clear error that names the argument.

What is of a wrong type or size is turned away here: inside, it would be taken for a fault of haltcore or of the journal, and freeze.
Numbers are exact: str, int or Decimal, never float. Whether a value makes sense is the core's question, and its answer is in the log.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from ..effects import ValueRefused
from ..effects import bps as to_bps
from ..effects import price as to_price
from ..effects import qty as to_qty
from ..effects import usd as to_usd
from ..fsm.config import STRATEGY_SCOPE, VENUE_SCOPE, Config, ConfigRefused
from ..fsm.instrument import Instrument, instrument_faults
from ..fsm.limit_faults import time_faults
from ..fsm.limits import FIGURES, MAX_NUMBER, NO_LIMITS, Limits, Rate
from . import settings_values

Number: TypeAlias = str | int | Decimal
Choice = TypeVar("Choice", bound=StrEnum)
#: The longest name, reason or explanation that a command may carry.
MAX_TEXT: Final = 1_000
#: The longest name of an intention.
MAX_INTENTION: Final = 128


def choice(kind: type[Choice], value: object, field: str) -> Choice:
    """The member that has this value."""
    for member in kind:
        if value == member:
            return member
    raise ValueRefused(f"{field}: {value!r} is none of {', '.join(member.value for member in kind)}")


def text(value: object, field: str) -> str:
    """A text that a log can hold."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or words(value) != value:
        raise ValueRefused(f"{field}: give a text of at most {MAX_TEXT} Unicode characters, not {repr(value)[:80]}")
    return value


def intention(value: object, field: str = "once") -> str:
    """The name of an intention; empty for None, which is none. An empty name would be no protection without a word."""
    if value is None:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_INTENTION or words(value) != value:
        given = repr(value) if len(repr(value)) <= 20 else f"{repr(value)[:20]}..."
        raise ValueRefused(
            f"{field}: give the intention a name of 1 to {MAX_INTENTION} Unicode characters, such as \"signal-4711\", not {given}; "
            "leave it out (None) for an order that may be placed more than once"
        )
    return value


def flag(value: object, field: str) -> bool:
    """True or False, and nothing that is only like it."""
    if not isinstance(value, bool):
        raise ValueRefused(f"{field}: {value!r} is neither True nor False")
    return value


def whole(value: object, field: str) -> int:
    """A whole number, also as a text, in the range of a log."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueRefused(f"{field}: {repr(value)[:80]} is no whole number")
    return value


def at_least(least: int, value: object, field: str) -> int:
    """A whole number that is not below another."""
    if whole(value, field) < least:
        raise ValueRefused(f"{field}: {value!r}; give {least} or more")
    return whole(value, field)


def milliseconds(value: object, field: str) -> int:
    """A time to live, to wait, to keep apart: a whole number of milliseconds, at most a year of them."""
    for fault in time_faults(value):
        raise ValueRefused(f"{field}: {fault}")
    return whole(value, field)


def words(value: object) -> str:
    """Any value as a text that a log can hold."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()


def scope(symbol: object, strategy: object = "", venue: object = False) -> str:
    """The scope that a call names, as a text; nothing named is the account."""
    name, team, all_there = text(symbol, "symbol"), text(strategy, "strategy"), flag(venue, "venue")
    if bool(name) + bool(team) + all_there > 1:
        raise ValueRefused("scope: give one of symbol, strategy and venue, or none for the account")
    return VENUE_SCOPE if all_there else STRATEGY_SCOPE + team if team else name


def instrument(
    tick: Number, lot: Number, min_qty: Number, max_qty: Number, min_notional: Number, multiplier: Number, inverse: object
) -> Instrument:
    """The venue's terms."""
    return Instrument(
        tick=to_price(tick, "tick"), lot=to_qty(lot, "lot"), min_qty=to_qty(min_qty, "min_qty"), max_qty=to_qty(max_qty, "max_qty"),
        min_notional=to_usd(min_notional, "min_notional"), multiplier=to_qty(multiplier, "multiplier"), inverse=flag(inverse, "inverse"),
    )  # fmt: skip


def defined(config: Config, instruments: Mapping[str, Instrument]) -> dict[str, Instrument]:
    """The instruments of a configuration. Raises ConfigRefused with every fault."""
    faults = [f"{symbol!r} is not among the symbols" for symbol in instruments if symbol not in config.symbols]
    for symbol, terms in instruments.items():
        given: object = terms
        if not isinstance(given, Instrument):
            faults.append(f"{symbol}: {terms!r} is no Instrument")
        else:
            faults += [f"{symbol}: {fault}" for fault in instrument_faults(terms)]
    if faults:
        raise ConfigRefused("instruments: " + "; ".join(faults))
    return dict(instruments)


# --- figures of limits ----------------------------------------------------------------------------------------------


def figures(base: Limits, changes: object) -> Limits:
    """These limits with some figures changed, by name. None takes a figure away."""
    if not isinstance(changes, Mapping) or not changes:
        raise ValueRefused(f"limits: give figures by name, such as {{'max_order_value': '2500'}}, not {repr(changes)[:80]}")
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in _READERS:
            raise ValueRefused(f"limits: {repr(name)[:80]} is no figure; there are {', '.join(_READERS)}")
        values[name] = getattr(NO_LIMITS, name) if value is None else _READERS[name](value, name)
    return attrs.evolve(base, **values)


def _rate(value: object, field: str) -> Rate:
    try:
        rate = value if isinstance(value, Rate) else settings_values.rate(value)
    except settings_values.Wrong:
        raise ValueRefused(f"{field}: {repr(value)[:80]} is no rate; write \"100/1s\" for 100 a second") from None
    return Rate(whole(rate.count, field), whole(rate.per_ms, field))


def _switch(value: object, field: str) -> bool:
    return flag({"true": True, "false": False}.get(value, value) if isinstance(value, str) else value, field)


#: How each figure is read. Whatever is not named is an amount of money.
_BY_NAME: Final[dict[str, Callable[[Any, str], Any]]] = {
    "edge_freeze_threshold_bps": to_bps, "price_collar_bps": to_bps, "max_order_qty": to_qty,
    "max_open_orders": whole, "feed_lost_ms": whole, "duplicate_window_ms": whole,
    "message_rate": _rate, "execution_rate": _rate, "prevent_self_match": _switch,
}  # fmt: skip
_READERS: Final[dict[str, Callable[[Any, str], Any]]] = {figure.name: _BY_NAME.get(figure.name, to_usd) for figure in FIGURES}
