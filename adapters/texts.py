"""What comes from outside has to fit into the log: it is looked at before the core sees it, for about two microseconds.

A venue may send text that UTF-8 cannot hold (half of a surrogate pair, from sloppy JSON). That costs its odd letters only. An adapter may
also give numbers beyond any market, or what is no event at all: there is nothing in its place, so it is refused.
"""

import os.path
from functools import cache
from typing import Any, TypeVar

import attrs

from ..fsm.codec import EVENTS, CodecError
from ..fsm.failure_words import redact

T = TypeVar("T")


def printable(text: str) -> str:
    """The text, with a question mark in place of every letter that cannot be written."""
    return text.encode("utf-8", "replace").decode()


def told(error: BaseException) -> str:
    """An exception as a log may hold it: its class, its words without what looks like a secret, and the line that raised it.

    Instead of a traceback, which prints those words as they are, and those of every exception behind it: a venue's client puts the
    request with its signature there. Raises nothing.
    """
    try:
        words = printable(redact(str(error)))
    except Exception:
        words = "it has no words"
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    at = f" (line {last.tb_lineno} of {os.path.basename(last.tb_frame.f_code.co_filename)})" if last is not None else ""
    return f"{type(error).__name__}: {words}{at}"


def writable(value: T) -> T:
    """The value, an event or a part of one, with only texts that can be written. Itself when they are so already."""
    cleaned = _cleaned(value)
    return value if cleaned is None else cleaned


def unwritable(event: Any) -> str:
    """Why the log cannot hold this event; empty if it can."""
    try:
        EVENTS.check(EVENTS.encode(event))
    except CodecError as error:
        return str(error)
    return ""


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
