"""How the values of a settings file are written: out of TOML, and back into it.

============ =================================== ==========================================================
kind         example                             read as
============ =================================== ==========================================================
amount       ``10000``, ``"0.5"``                exact number at 10^-12; a float is refused, for it is not exact
rate         ``"100/1s"``, ``"100/00:00:01"``    so many in that time; ms, s, m, h, or HH:MM:SS as NautilusTrader has it
time         ``5000`` under a name in ``_ms``    milliseconds
time of day  ``"22:00"``                         minute of the day, UTC
no limit     ``"none"``                          None; the same as leaving the key out, but for a file that changes limits
============ =================================== ==========================================================

A reader takes what ``tomllib`` made of the text and returns what it means, or raises :class:`Wrong`.
"""

import re
from collections.abc import Callable, Sequence
from datetime import time
from enum import StrEnum
from typing import Any, Final, TypeVar

from attrs import frozen

from ..effects import ValueRefused, to_text
from ..effects.values import SCALE, to_scaled
from ..fsm.limits import TIME_UNITS, Rate
from .toml_lines import Path

T = TypeVar("T")
NONE: Final = "none"
_LARGEST: Final = 2**63 - 1
_LARGEST_WHOLE: Final = 10**15
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_DECIMAL: Final = re.compile(r"[+-]?[0-9_]+(?:\.[0-9_]+)?(?:[eE][+-]?[0-9_]+)?\Z")
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_RATE: Final = re.compile(r"([0-9]{1,18})/(?:([0-9]{1,18})(ms|s|m|h)|([0-9]{1,6}):([0-5][0-9]):([0-5][0-9]))\Z")


class Wrong(ValueError):
    """What is wrong with a value. ``example`` is what to write instead, where that can be told."""

    def __init__(self, problem: str, example: str = "") -> None:
        super().__init__(problem)
        self.example = example


class WrongElements(ValueError):
    """What is wrong with single elements of an array, by index."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(f"[{index}]: {problem}" for index, problem in problems))
        self.problems = problems


@frozen
class Float:
    """A TOML float as it is written."""

    text: str

    @property
    def quoted(self) -> str:
        """The same as an exact number; empty if it is none."""
        return f'"{self.text.replace("_", "")}"' if _DECIMAL.match(self.text) else ""


# --- out of TOML ----------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is no text")
    return value


def name(value: Any) -> str:
    """A text that is not empty."""
    if not text(value):
        raise Wrong("an empty text")
    return text(value)


def texts(value: Any) -> tuple[str, ...]:
    """An array of texts."""
    if not isinstance(value, list):
        raise Wrong(f"{shown(value)} is no array", f"[{quoted(value)}]" if isinstance(value, str) else "")
    problems = [(index, f"{shown(element)} is no text") for index, element in enumerate(value) if not isinstance(element, str)]
    if problems:
        raise WrongElements(problems)
    return tuple(value)


def flag(value: Any) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise Wrong(f"{shown(value)} is neither true nor false")
    return value


def whole(value: Any) -> int:
    """A whole number that a log can hold."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong(f"{shown(value)} is no whole number")
    if abs(value) > _LARGEST:
        raise Wrong(shown(value))
    return value


def exact(value: Any) -> int:
    """An exact number at 10^-12."""
    if isinstance(value, Float):
        raise Wrong(f"{shown(value)} is not exact", value.quoted)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise Wrong(f"{shown(value)} is no amount")
    try:
        return to_scaled(value, "?")
    except ValueRefused as error:
        raise Wrong(str(error).removeprefix("?: ")) from None


def amount(value: Any) -> int:
    """An exact number above 0."""
    if (number := exact(value)) <= 0:
        raise Wrong(f"{to_text(number)} is not above 0")
    return number


def term(value: Any) -> int:
    """An exact number, 0 or above."""
    if (number := exact(value)) < 0:
        raise Wrong(f"{to_text(number)} is below 0")
    return number


def rate(value: Any) -> Rate:
    """So many in that time."""
    found = _RATE.match(value.replace(" ", "")) if isinstance(value, str) else None
    if not found:
        raise Wrong(f"{shown(value)} is no rate")
    count, number, unit, hours, minutes, seconds = found.groups()
    if unit:
        return Rate(int(count), int(number) * dict(TIME_UNITS)[unit])
    return Rate(int(count), (int(hours) * 3_600 + int(minutes) * 60 + int(seconds)) * 1_000)


def clock(value: Any) -> int:
    """A minute of the day."""
    found = _CLOCK.match(value) if isinstance(value, str) else None
    if not found:
        raise Wrong(f"{shown(value)} is no time of day", quoted(f"{value:%H:%M}") if isinstance(value, time) else "")
    return int(found[1]) * 60 + int(found[2])


def choice(kind: type[StrEnum]) -> Callable[[Any], StrEnum]:
    """One of the values of an enum."""

    def read(value: Any) -> StrEnum:
        for member in kind:
            if value == member.value:
                return member
        raise Wrong(f"{shown(value)} is none of {', '.join(kind)}")

    return read


def optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """The same, or "none"."""
    return lambda value: None if value == NONE else read(value)


# --- into TOML ------------------------------------------------------------------------------------------------------


def amount_text(number: int) -> str:
    """An exact number: in quotes unless it is whole."""
    decimal = to_text(number)
    return decimal if number % SCALE == 0 and abs(number) <= _LARGEST_WHOLE * SCALE else quoted(decimal)


def clock_text(minute: int) -> str:
    """A minute of the day, without quotes."""
    return f"{minute // 60:02}:{minute % 60:02}"


def quoted(text: str) -> str:
    """A text in quotes."""
    return f'"{"".join(_letter(letter) for letter in text)}"'


def _letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04X}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08X}"


def name_text(part: str) -> str:
    """A name, in quotes where it needs them."""
    return part if _BARE.match(part) else quoted(part)


def spelled(path: Path) -> str:
    """The name of a key with all that it is in: ``limits.symbol."BTC/USDT".max_order_qty``; elements as ``window[0]``, counted from 0."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{name_text(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def shown(value: Any) -> str:
    """A value of TOML for people: what it is, and it itself where it is short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return "a number beyond 64 bits" if abs(value) > _LARGEST else str(value)
    if isinstance(value, str):
        return f"the text {quoted(value)}" if len(value) <= 40 else f"a text of {len(value)} characters"
    if isinstance(value, Float):
        return f"the float {value.text[:40]}"
    if isinstance(value, (list, dict)):
        return f"an array of {len(value)}" if isinstance(value, list) else "a section"
    return f"the date or time {value}"
