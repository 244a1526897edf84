"""Which keys may stand where in a file of settings, and how each is written. What the sections mean stands in ``settings.py``."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from ..fsm.config import StorePolicy, SweepPolicy, VenueTraits
from ..fsm.limits import FIGURES
from . import settings_values as kinds
from .settings_file import Key

_MS = "a whole number of milliseconds"
_RATE = 'so many in a time, such as "100/1s"; units are ms, s, m and h'

TOP: Final = (
    Key("session", kinds.text, "7 characters: a letter, then lower-case letters and digits", '"mm00001"'),
    Key("symbols", kinds.texts, "an array of the symbols that are traded, 1 to 64 characters each", '["BTCUSDT", "ETHUSDT"]'),
    Key("strategies", kinds.texts, "an array of names", '["mm"]'),
    Key("restricted", kinds.texts, "an array of symbols", '["ETHUSDT"]'),
    Key("two_persons", kinds.flag, "true or false", "true"),
    Key("attribution", kinds.flag, "true or false", "true"),
    Key("day_roll", kinds.clock, "hours and minutes UTC, in quotes", '"00:00"'),
    Key("evidence_ms", kinds.whole, _MS, "1000"),
    Key("venue_lost_ms", kinds.whole, _MS, "5000"),
    Key("seed", kinds.whole, "a whole number", "0"),
)
SECTIONS: Final = ("limits", "triggers", "venue", "sweep", "store", "instrument")


def _figure_key(name: str, example: str) -> Key:
    """The row of a limit. Most are amounts."""
    if name == "prevent_self_match":
        return Key(name, kinds.flag, "true or false", example)
    read: Callable[[Any], Any] = kinds.amount
    expected = "an exact number above 0, in quotes unless it is whole"
    if name == "edge_freeze_threshold_bps":
        read, expected = kinds.exact, "an exact number of basis points, in quotes unless it is whole"
    elif name == "max_open_orders":
        read, expected = kinds.whole, "a whole number above 0"
    elif name.endswith("_ms"):
        read, expected = kinds.whole, f"{_MS} above 0"
    elif name.endswith("_rate"):
        read, expected = kinds.rate, _RATE
    return Key(name, kinds.optional(read), f'{expected}, or "none"', example if example.isdigit() else f'"{example}"')


def _default_key(name: str, default: Any) -> Key:
    """The row of a field that is best explained by its default."""
    if isinstance(default, bool):
        return Key(name, kinds.flag, "true or false", "false" if default else "true")
    if isinstance(default, StrEnum):
        return Key(name, kinds.choice(type(default)), " or ".join(f'"{member}"' for member in type(default)), f'"{default}"')
    return Key(name, kinds.whole, _MS if name.endswith("_ms") else "a whole number", str(default))


def _default_keys(default: Any) -> tuple[Key, ...]:
    return tuple(_default_key(field.name, getattr(default, field.name)) for field in attrs.fields(type(default)))


FIGURE_KEYS: Final = tuple(_figure_key(figure.name, figure.example) for figure in FIGURES)
WINDOW: Final = (
    Key("from", kinds.clock, "hours and minutes UTC, in quotes", '"22:00"'),
    Key("to", kinds.clock, "hours and minutes UTC, in quotes", '"06:00"'),
    Key("symbol", kinds.name, "one of the symbols", '"BTCUSDT"'),
    Key("strategy", kinds.name, "one of the strategies", '"mm"'),
    Key("band", kinds.name, "the name of a volatility band", '"high"'),
)
CONDITIONS: Final = ("strategy", "symbol", "band")
TRIGGERS: Final = (
    Key("reject_storm", kinds.optional(kinds.rate), f'{_RATE}, or "none"', '"10/60s"'),
    Key("clock_jump_ms", kinds.optional(kinds.whole), f'{_MS} above 0, or "none"', "500"),
    Key("breaker_open", kinds.flag, "true or false", "true"),
)
COOL_DOWN: Final = (
    Key("wait_ms", kinds.whole, f"{_MS} above 0", "5000"),
    Key("cap_ms", kinds.whole, f"{_MS} above 0", "60000"),
    Key("repeats", kinds.whole, "a whole number above 0", "3"),
    Key("memory_ms", kinds.whole, f"{_MS} above 0", "3600000"),
)
VENUE, SWEEP, STORE = _default_keys(VenueTraits()), _default_keys(SweepPolicy()), _default_keys(StorePolicy())
INSTRUMENT: Final = (
    Key("tick", kinds.term, "an exact number, in quotes unless it is whole; 0 is none", '"0.1"'),
    Key("lot", kinds.term, "an exact number, in quotes unless it is whole; 0 is none", '"0.001"'),
    Key("min_qty", kinds.term, "an exact number, in quotes unless it is whole; 0 is none", '"0.001"'),
    Key("max_qty", kinds.term, "an exact number, in quotes unless it is whole; 0 is none", "1000"),
    Key("min_notional", kinds.term, "an exact number, in quotes unless it is whole; 0 is none", "100"),
    Key("multiplier", kinds.amount, "an exact number above 0, in quotes unless it is whole", "1"),
    Key("inverse", kinds.flag, "true or false", "true"),
)

#: The rows by where they stand; sections of rules and instruments by their first name.
ROWS: Final[Mapping[str, tuple[Key, ...]]] = {
    "": TOP, "limits": (*FIGURE_KEYS, *WINDOW), "triggers": (*TRIGGERS, *COOL_DOWN), "venue": VENUE, "sweep": SWEEP, "store": STORE,
    "instrument": INSTRUMENT,
}  # fmt: skip
HOMES: Final[Mapping[str, str]] = {
    **{key.name: "in [instrument.SYMBOL]" for key in INSTRUMENT},
    **{key.name: "in [triggers.cool_down.network] or [triggers.cool_down.edge]" for key in COOL_DOWN},
    **{key.name: f"in [{name}]" for name in ("sweep", "store", "venue") for key in ROWS[name]},
    **{key.name: "in [triggers]" for key in TRIGGERS},
    **{key.name: "in [limits]" for key in FIGURE_KEYS},
    **{key.name: "in a [[limits.window]]" for key in WINDOW},
    **{key.name: "at the top of the file, before the first [section]" for key in TOP},
    **{name: f"at the top level, as [{name}]" for name in SECTIONS},
    "cool_down": "in [triggers]",
    "cap_ms": "in [triggers.cool_down.network], [triggers.cool_down.edge] or [sweep]",
}
#: The same for a file of limits, where nothing else stands.
ELSEWHERE: Final[Mapping[str, str]] = {
    name: home if re.match(r"in (?:a \[)?\[(?:limits|triggers)", home) else "in the settings of the bot, not in a file of limits"
    for name, home in HOMES.items()
}
