"""A counterexample as a program: the events that the core was told, as Python that can be pasted into ``tests/test_regressions.py``."""

from enum import Enum
from typing import Any

import attrs

from .search import Found


def source(value: Any) -> str:
    """The value as an expression."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return "(" + "".join(source(part) + ", " for part in value).rstrip() + ")" if value else "()"
    if attrs.has(type(value)):
        return f"{type(value).__name__}({', '.join(source(getattr(value, field.name)) for field in attrs.fields(type(value)))})"
    return repr(value)


def program(found: Found) -> str:
    """The way to the problem, one line a move; what only the world did stands as a comment."""
    lines = [f"    # {label}" if event is None else f"    {source(event)},  # {label}" for label, event in found.trail]
    return "\n".join([*found.problems, "EVENTS = [", *lines, "]"])
