"""Exact numbers: what a price, a quantity and an amount of money are here.

Every number that money depends on is an ``int`` at a fixed scale. Addition, subtraction, comparison and
multiplication of ints are exact, so nothing in the core is ever rounded or divided. There are two scales:

========== ======== ==============================================================
type       one unit meaning
========== ======== ==============================================================
Qty        10^-12   quantity, in contracts or base currency
Price      10^-12   price of one unit, in quote currency
Usd        10^-12   an amount of quote currency that a person wrote (limit, fee)
Bps        10^-12   basis points
Notional   10^-24   price x quantity, as it falls out of the multiplication
========== ======== ==============================================================

Text becomes a number at the edge, once, by :func:`qty`, :func:`price`, :func:`usd` and :func:`bps`; what does not fit
exactly is refused with the name of the field. Floats are refused: 0.1 as a float is not 0.1.
In a log a number stands as a decimal string (``"0.007"``), free of this scale and of the reader's integer size.
"""

from decimal import Decimal
from functools import lru_cache
from typing import NewType

Qty = NewType("Qty", int)
Price = NewType("Price", int)
Usd = NewType("Usd", int)
Bps = NewType("Bps", int)
Notional = NewType("Notional", int)

DIGITS = 12
SCALE: int = 10**DIGITS
#: The largest whole part that is accepted. It is far above any real order and keeps a hostile "1e999999" from
#: becoming a number with a million digits.
MAX_WHOLE = 10**15
_MAX_TEXT = 64


class ValueRefused(ValueError):
    """A number that cannot be taken over exactly. The text names the field, the value and the remedy."""


def to_scaled(value: str | int | Decimal, field: str) -> int:
    """The value at scale 10^-12, exactly.

    Raises :class:`ValueRefused` for a float, a text that is no finite decimal number, more than 12 decimals, or a whole
    part above 10^15.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise ValueRefused(
            f"{field}: {value!r} is a {type(value).__name__}; give a str, int or Decimal, so that it is exact"
        )
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise ValueRefused(f"{field}: a number of {len(value)} characters; at most {_MAX_TEXT} are read")
        if not value.isascii() or "_" in value:
            raise ValueRefused(f"{field}: {value!r} is not a decimal number such as \"0.007\"")
        try:
            value = Decimal(value)
        except ArithmeticError:
            raise ValueRefused(f"{field}: {value!r} is not a decimal number such as \"0.007\"") from None
    if isinstance(value, int):
        if abs(value) > MAX_WHOLE:
            raise ValueRefused(f"{field}: a number above the largest whole part, 10^15")
        return int(value * SCALE)
    return _from_decimal(value, field)


def _from_decimal(value: Decimal, field: str) -> int:
    # No arithmetic on the Decimal itself: it would round, or trap, as the process's decimal context says.
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueRefused(f"{field}: {value} is not a finite number")
    if not any(digits):
        return 0
    if len(digits) > _MAX_TEXT:
        raise ValueRefused(f"{field}: {len(digits)} digits; at most {_MAX_TEXT} are read")
    if value.adjusted() > 15:
        raise ValueRefused(f"{field}: {value} is above the largest whole part, 10^15")
    number = int("".join(map(str, digits)))
    shift = exponent + DIGITS
    if shift >= 0:
        scaled = number * int(10**shift)
    else:
        scaled, rest = divmod(number, int(10 ** min(-shift, _MAX_TEXT + 1)))
        if rest:
            raise ValueRefused(f"{field}: {value} has more than {DIGITS} decimals; round it first, as your strategy means it")
    if scaled > MAX_WHOLE * SCALE:
        raise ValueRefused(f"{field}: {value} is above the largest whole part, 10^15")
    return -scaled if sign else scaled


def qty(value: str | int | Decimal, field: str = "qty") -> Qty:
    """A quantity, in contracts or base currency."""
    return Qty(to_scaled(value, field))


def price(value: str | int | Decimal, field: str = "price") -> Price:
    """A price, in quote currency for one unit."""
    return Price(to_scaled(value, field))


def usd(value: str | int | Decimal, field: str = "usd") -> Usd:
    """An amount of quote currency."""
    return Usd(to_scaled(value, field))


def bps(value: str | int | Decimal, field: str = "bps") -> Bps:
    """Basis points: 100 of them are one per cent."""
    return Bps(to_scaled(value, field))


def as_notional(amount: Usd) -> Notional:
    """An amount a person wrote, at the scale of price x quantity, so that the two can be compared."""
    return Notional(amount * SCALE)


# The memo is no state: the same argument gives the same text with and without it. Prices and quantities repeat.
@lru_cache(maxsize=1 << 16)
def to_text(scaled: int, digits: int = DIGITS) -> str:
    """The shortest decimal text of a scaled int: the form that stands in a log."""
    sign, magnitude = ("-", -scaled) if scaled < 0 else ("", scaled)
    whole, part = divmod(magnitude, 10**digits)
    return f"{sign}{whole}.{part:0{digits}d}".rstrip("0") if part else f"{sign}{whole}"


def notional_text(value: Notional) -> str:
    """The shortest decimal text of a Notional, whose scale is 10^-24. :func:`to_text` alone would show it 10^12 times too large."""
    return to_text(value, 2 * DIGITS)


@lru_cache(maxsize=1 << 16)
def from_text(text: str, digits: int = DIGITS) -> int:
    """The scaled int of a text that :func:`to_text` wrote. Any other spelling of the number is refused.

    One number, one spelling: otherwise two different logs could mean the same run.
    """
    whole, _, part = text.partition(".")
    try:
        scaled: int = abs(int(whole)) * int(10**digits) + (int(part.ljust(digits, "0")) if part else 0)
    except ValueError:
        raise ValueRefused(f"{text!r} is not a decimal number as a log writes it, such as \"0.007\"") from None
    scaled = -scaled if text.startswith("-") else scaled
    if to_text(scaled, digits) != text:
        raise ValueRefused(f"{text!r} is not a decimal number as a log writes it, such as \"0.007\"")
    return scaled
