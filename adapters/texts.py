"""Text from outside: a venue may send what UTF-8, and so the log, cannot hold (half of a surrogate pair, from sloppy JSON).

Such text must cost its odd letters only, never the journal; so reports are cleaned before the core sees them. Almost all are
clean, and finding that out costs about a microsecond.
"""

from functools import cache
from typing import Any, TypeVar

import attrs

T = TypeVar("T")


def printable(text: str) -> str:
    """The text, with a question mark in place of every letter that cannot be written."""
    return text.encode("utf-8", "replace").decode()


def writable(value: T) -> T:
    """The value, an event or a part of one, with only texts that can be written. Itself when they are so already."""
    cleaned = _cleaned(value)
    return value if cleaned is None else cleaned


def _cleaned(value: Any) -> Any:
    """The cleaned value; None when there is nothing to clean."""
    kind: Any = type(value)
    if kind is str:
        return None if value.isascii() or (clean := printable(value)) == value else clean
    if kind is tuple:
        parts = [_cleaned(part) for part in value]
        if all(part is None for part in parts):
            return None
        return tuple(old if new is None else new for old, new in zip(value, parts, strict=True))
    changes = {}
    for name in _fields(kind):
        new = _cleaned(getattr(value, name))
        if new is not None:
            changes[name] = new
    return attrs.evolve(value, **changes) if changes else None


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind)) if attrs.has(kind) else ()
