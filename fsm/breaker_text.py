"""A breaker's state as a text, which processes share: canonical, one text for each state, and read strictly.

A store may hold what another version has written, or a person, or half of it. What cannot be read is no state, and nobody acts on it.
"""

from itertools import pairwise
from typing import Final, Literal

import msgspec

from ..effects import BreakerMode
from .breaker import FREE, MAX_TEXT, Breaker, Mark
from .config import MAX_MARKS

#: No state is longer, in characters; what is, nobody reads, and nobody writes into a log.
MAX_CHARACTERS: Final = 65_536


class BreakerTextRefused(ValueError):
    """A text that is no breaker's state. Says what is wrong, and what to do."""


class _Text(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    breaker: Literal[1]
    mode: BreakerMode
    generation: int
    since_ns: int
    opened_ns: int
    said_ns: int
    until_ns: int
    by: str
    why: str
    failures: tuple[tuple[str, int], ...]
    probes: tuple[tuple[str, int], ...]


_WRITE, _READ = msgspec.json.Encoder().encode, msgspec.json.Decoder(_Text).decode
_REMEDY: Final = "another version may have written it; a person's word (haltcore breaker reset) puts a new one in its place"


def to_text(state: Breaker) -> str:
    """The canonical text: one state, one text."""
    s = state
    failures, probes = (tuple((mark.token, mark.at_ns) for mark in marks) for marks in (s.failures, s.probes))
    text = _Text(1, s.mode, s.generation, s.since_ns, s.opened_ns, s.said_ns, s.until_ns, s.by, s.why, failures, probes)
    return _WRITE(text).decode()


def from_text(text: str) -> Breaker:
    """The state. Raises BreakerTextRefused for anything that ``to_text`` does not write."""
    if len(text) > MAX_CHARACTERS:
        raise BreakerTextRefused(f"no breaker's state: {len(text)} characters, where no state has more than {MAX_CHARACTERS}; {_REMEDY}")
    try:
        t = _READ(text.encode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BreakerTextRefused(f"no breaker's state: {error}; {_REMEDY}") from None
    failures, probes = (tuple(Mark(token, at_ns) for token, at_ns in marks) for marks in (t.failures, t.probes))
    state = Breaker(t.mode, t.generation, t.since_ns, t.opened_ns, t.said_ns, t.until_ns, t.by, t.why, failures, probes)
    fault = _fault(state)
    if not fault and to_text(state) != text:
        fault = "it is not written in the one way there is"
    if fault:
        raise BreakerTextRefused(f"no breaker's state: {fault}; {_REMEDY}")
    return state


def readable_length(text: str) -> str:
    """The text; or, of one that is longer than any state, in its place a short one that is no state either."""
    return text if len(text) <= MAX_CHARACTERS else f"{len(text)} characters, beginning with {text[:40]}"


def _fault(s: Breaker) -> str:
    times = (s.since_ns, s.opened_ns, s.said_ns, s.until_ns, *(mark.at_ns for mark in (*s.failures, *s.probes)))
    forced = s.mode in (BreakerMode.FORCED_OPEN, BreakerMode.FORCED_CLOSED)
    for wrong, what in (
        (s.generation < 1, "generation is below 1"),
        (not 0 <= min(times) <= max(*times, s.generation) < 2**63, "a time is below 0, or a number beyond 64 bits"),
        (forced and not (s.by and s.why), "a forced mode names who and why"),
        (not forced and s.until_ns != 0, "until_ns belongs to forced modes"),
        (s.failures and s.mode not in FREE, "failures are counted only while it lets everything through"),
        (any(one.at_ns > two.at_ns for one, two in pairwise(s.failures)), "failures have to ascend in time"),
        (s.probes and s.mode is not BreakerMode.HALF_OPEN, "probes belong to half_open"),
        (max(len(s.failures), len(s.probes)) > MAX_MARKS, f"more than {MAX_MARKS} failures or probes"),
        (max(len(s.by), len(s.why)) > MAX_TEXT, f"by or why is longer than {MAX_TEXT} characters"),
    ):
        if wrong:
            return what
    return ""
