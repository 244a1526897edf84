"""The circuit breaker of one kind of job: when a job fails again and again, it is not tried for a while, and then carefully.

Theory
------
Failures in a row say something about the other side, and trying harder makes it worse: a retry storm. So a breaker counts. CLOSED lets
everything through; ``failures`` within ``window_ms`` open it. OPEN lets nothing through for ``open_ms``. HALF_OPEN lets ``probes`` jobs
through: the first that succeeds closes it, any that fails opens it again. The forced modes are a person's word.

============= ========= ====================== ========================= ================== ======================================
mode          Ask       Succeeded              Failed                    Opened             as time passes
============= ========= ====================== ========================= ================== ======================================
CLOSED        granted   nothing                counted; the last of      OPEN               counts leave the window
                                               ``failures``: OPEN
OPEN          refused   late                   late                      OPEN, since later  after ``open_ms``: HALF_OPEN
HALF_OPEN     granted,  by a holder of a       OPEN                      OPEN               a permit without result for as long
              or full   permit: CLOSED                                                      as ``open_ms`` is free again
FORCED_OPEN   refused   late                   late                      noted              at ``until_ns``: OPEN, since the word
FORCED_CLOSED granted   nothing                counted, opens nothing    noted              at ``until_ns``: CLOSED, or OPEN if it
                                                                                            has counted ``failures`` by then
============= ========= ====================== ========================= ================== ======================================

``Dropped`` gives a permit back, ``Forced`` is a person's word in any mode: FORCED_OPEN, FORCED_CLOSED, or CLOSED, which begins anew.
``RULES`` below has a function for every cell.

*Generation.* It grows with every change of mode. A result counts in the generation in which its job was let through; later ones are *late*
and say nothing, since they are about a past that has been dealt with. Who has a permit of HALF_OPEN is known by a token.

*Time* is UTC, and comes from whoever steps. A state may have been written by a process whose clock is ahead, or before a clock was set
back: what it says of a time that is still to come counts as of now. So nothing waits longer than its full time, and nothing is cut short by
more than the clocks differ. Memory is bounded: at most ``failures`` times and ``probes`` permits.

From OPEN there is no way to CLOSED but by a success of a probe or by a person. A breaker is no lock: it is never held across the job.

Processes share the same state as a text (``breaker_text.py``); how what they write comes together stands in ``breaker_copy.py``.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs
from attrs import frozen

from ..effects import BreakerMode
from .config import BreakerPolicy

_NS_PER_MS = 1_000_000
_CLOSED, _OPEN, _HALF_OPEN = BreakerMode.CLOSED, BreakerMode.OPEN, BreakerMode.HALF_OPEN
_FORCED_OPEN, _FORCED_CLOSED = BreakerMode.FORCED_OPEN, BreakerMode.FORCED_CLOSED
#: Modes that let nothing through, and those that let everything through.
SHUT: Final = (_OPEN, _FORCED_OPEN)
FREE: Final = (_CLOSED, _FORCED_CLOSED)
#: What a person may say.
WORDS: Final = (_FORCED_OPEN, _FORCED_CLOSED, _CLOSED)
#: Longer texts are cut: the state is shared, and has to stay small.
MAX_TEXT = 200


@frozen
class Mark:
    """A failure, or a permit that is out: whose, and when."""

    token: str
    at_ns: int


@frozen
class Breaker:
    """The state. ``since_ns``: since when it is in its mode; ``opened_ns``: when it last opened by itself; ``said_ns``: when a person last
    spoke, or a little after (:func:`word`); 0 is never. ``until_ns``: when a forced mode ends, 0 if by a word only. ``by`` and ``why``: who
    forced it, else why it opened.
    """

    mode: BreakerMode
    generation: int
    since_ns: int
    opened_ns: int = 0
    said_ns: int = 0
    until_ns: int = 0
    by: str = ""
    why: str = ""
    failures: tuple[Mark, ...] = ()
    probes: tuple[Mark, ...] = ()


def closed(now_ns: int) -> Breaker:
    """A breaker that has seen nothing yet."""
    return Breaker(_CLOSED, 1, now_ns)


# --- what it is told ---------------------------------------------------------------------------------------------------


@frozen
class Ask:
    """May this job be done? ``generation`` is that in which it was asked, where the question is put to another state again; 0: now."""

    token: str
    at_ns: int
    generation: int = 0


@frozen
class Succeeded:
    """The job that was let through in this generation has worked."""

    token: str
    generation: int
    at_ns: int


@frozen
class Failed:
    """The job that was let through in this generation has failed; ``what`` is for people."""

    token: str
    generation: int
    at_ns: int
    what: str = ""


@frozen
class Dropped:
    """The job was let through and then never begun: nothing was learned."""

    token: str


@frozen
class Opened:
    """It has opened where it could not be seen from here."""

    at_ns: int
    why: str


@frozen
class Forced:
    """A person's word: one of ``WORDS``, made by :func:`word`. ``until_ns`` 0: until somebody says otherwise."""

    at_ns: int
    to: BreakerMode
    until_ns: int
    by: str
    why: str


def word(state: Breaker, to: BreakerMode, for_ms: int, by: str, why: str, now_ns: int) -> Forced:
    """What a person says who sees this state. It is later than every word that is known in it, whatever the clocks show, so that of two
    words the later one is always known, and none is ever taken for another."""
    return Forced(max(now_ns, state.said_ns + 1), to, now_ns + for_ms * _NS_PER_MS if for_ms else 0, by, why)


@frozen
class Looked:
    """Time has passed."""


BreakerEvent: TypeAlias = Ask | Succeeded | Failed | Dropped | Opened | Forced | Looked


class Note(StrEnum):
    """What came of an event. GRANTED, REFUSED: of a question. LATE: a result that says nothing any more. OVERTAKEN: a word that is known
    already, or older than another one, or than the opening that it would undo, or that has run out. LAPSED: a forced mode has run out. The
    others: the mode is another now.
    """

    GRANTED = "granted"
    REFUSED = "refused"
    LATE = "late"
    OVERTAKEN = "overtaken"
    LAPSED = "lapsed"
    OPENED = "opened"
    HALF_OPENED = "half_opened"
    CLOSED = "closed"
    FORCED = "forced"


Notes: TypeAlias = tuple[Note, ...]
_NONE: Notes = ()
_GRANTED, _REFUSED, _LATE, _OVERTAKEN = (Note.GRANTED,), (Note.REFUSED,), (Note.LATE,), (Note.OVERTAKEN,)


def step(state: Breaker, event: BreakerEvent, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """The next state, and what came of the event. Where nothing has changed it is the same object."""
    state, passed = by_now(state, policy, now_ns)
    state, notes = RULES[type(event)][state.mode](state, event, policy, now_ns)
    return state, passed + notes if passed else notes


# --- time --------------------------------------------------------------------------------------------------------------


def by_now(state: Breaker, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """The state as it is at this moment, nothing else having happened."""
    if now_ns < state.since_ns or now_ns < state.opened_ns:
        state = _set_back(state, now_ns)
    mode = state.mode
    if mode is _CLOSED:
        return state, _NONE
    notes = _NONE
    if state.until_ns and now_ns >= state.until_ns:
        state, notes = _lapsed(state, policy, now_ns)
        mode = state.mode
    if mode is _OPEN and policy.open_ms and now_ns - state.since_ns >= policy.open_ms * _NS_PER_MS:
        return _into(state, _HALF_OPEN, now_ns, why=state.why), (*notes, Note.HALF_OPENED)
    if mode is _HALF_OPEN and state.probes:
        state = _freed(state, policy, now_ns)
    return state, notes


def _set_back(state: Breaker, now_ns: int) -> Breaker:
    """What it says of a time to come counts as of now; a forced mode keeps the length that it had."""
    ahead = max(0, state.since_ns - now_ns)
    until = max(now_ns, state.until_ns - ahead) if state.until_ns else 0
    return attrs.evolve(state, since_ns=min(state.since_ns, now_ns), opened_ns=min(state.opened_ns, now_ns), until_ns=until)


def _lapsed(state: Breaker, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """A person's time is over. What was forced open has to prove itself; what was forced closed stays so, unless it has failed too often
    meanwhile."""
    if state.mode is _FORCED_OPEN:
        why = f"forced open by {state.by} until now: {state.why}"
        return _into(state, _OPEN, state.since_ns, why=why[:MAX_TEXT]), (Note.LAPSED,)
    recent = _recent(state.failures, policy, now_ns)
    if len(recent) >= policy.failures or state.opened_ns > state.since_ns:
        return _open(state, now_ns, f"it has failed too often while it was forced closed by {state.by}"), (Note.LAPSED, Note.OPENED)
    return _into(state, _CLOSED, now_ns, failures=recent), (Note.LAPSED,)


def _freed(state: Breaker, policy: BreakerPolicy, now_ns: int) -> Breaker:
    """Permits whose result has not come for so long are free again. One that seems to be given in the future is given now."""
    wait = (policy.open_ms or policy.window_ms) * _NS_PER_MS
    probes = tuple(_no_later(p, now_ns) for p in state.probes if now_ns - p.at_ns < wait)
    return state if probes == state.probes else _with(state, state.failures, probes)


def _recent(marks: tuple[Mark, ...], policy: BreakerPolicy, now_ns: int) -> tuple[Mark, ...]:
    """Those within the window. Marks ascend in time."""
    since = now_ns - policy.window_ms * _NS_PER_MS
    if not marks or (marks[0].at_ns > since and marks[-1].at_ns <= now_ns):
        return marks
    return tuple([_no_later(mark, now_ns) for mark in marks if mark.at_ns > since])


def _no_later(mark: Mark, now_ns: int) -> Mark:
    return mark if mark.at_ns <= now_ns else Mark(mark.token, now_ns)


# --- the rules -----------------------------------------------------------------------------------------------------------


def _into(
    state: Breaker, mode: BreakerMode, since_ns: int, opened_ns: int = 0, said_ns: int = 0, until_ns: int = 0, by: str = "", why: str = "",
    failures: tuple[Mark, ...] = (),
) -> Breaker:  # fmt: skip
    """Another mode, and with it another generation. The times of opening and word are those that were, unless they are given."""
    opened_ns, said_ns = opened_ns or state.opened_ns, said_ns or state.said_ns
    return Breaker(mode, state.generation + 1, since_ns, opened_ns, said_ns, until_ns, by, why, failures)


def _open(state: Breaker, at_ns: int, why: str) -> Breaker:
    return _into(state, _OPEN, at_ns, at_ns, why=why[:MAX_TEXT])


def _with(s: Breaker, failures: tuple[Mark, ...], probes: tuple[Mark, ...]) -> Breaker:
    return Breaker(s.mode, s.generation, s.since_ns, s.opened_ns, s.said_ns, s.until_ns, s.by, s.why, failures, probes)


def _same(s: Breaker, e: BreakerEvent, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    return s, _NONE


def _late(s: Breaker, e: BreakerEvent, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    return s, _LATE


def _grant(s: Breaker, e: Ask, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    return s, _GRANTED


def _refuse(s: Breaker, e: Ask, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    return s, _REFUSED


def _probe(s: Breaker, e: Ask, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """One of the few that are let through to see."""
    if e.generation not in (0, s.generation):
        return s, _LATE
    if holds(s, e.token):
        return s, _GRANTED
    if len(s.probes) >= policy.probes:
        return s, _REFUSED
    at_ns = min(e.at_ns, now_ns)
    return _with(s, s.failures, (*s.probes, Mark(e.token, at_ns))), _GRANTED


def _count(s: Breaker, e: Failed, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """A failure, counted once. The last of so many opens, unless a person keeps it closed."""
    if e.generation != s.generation:
        return s, _LATE
    at_ns = min(e.at_ns, now_ns)
    marks = _recent(s.failures, policy, now_ns)
    mark = Mark(e.token, at_ns)
    if at_ns <= now_ns - policy.window_ms * _NS_PER_MS:
        return s, _NONE
    if marks and marks[-1].at_ns >= at_ns:
        if mark in marks:
            return s, _NONE
        marks = tuple(sorted((*marks, mark), key=_moment))
    else:
        marks = (*marks, mark)
    if len(marks) < policy.failures or s.mode is _FORCED_CLOSED:
        return _with(s, marks[-policy.failures :], s.probes), _NONE
    return _open(s, at_ns, f"{len(marks)} failures within {policy.window_ms} ms, the last: {e.what or 'not said'}"), (Note.OPENED,)


def _moment(mark: Mark) -> int:
    return mark.at_ns


def _proved(s: Breaker, e: Succeeded, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """A probe has worked."""
    if e.generation != s.generation or not holds(s, e.token):
        return s, _LATE
    return _into(s, _CLOSED, now_ns), (Note.CLOSED,)


def _disproved(s: Breaker, e: Failed, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """A probe has failed, though its permit may have been given to another meanwhile."""
    if e.generation != s.generation:
        return s, _LATE
    return _open(s, min(e.at_ns, now_ns), f"a probe failed: {e.what or 'not said'}"), (Note.OPENED,)


def _give_back(s: Breaker, e: Dropped, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """The permit is for somebody else."""
    left = tuple(mark for mark in s.probes if mark.token != e.token)
    return (s if len(left) == len(s.probes) else _with(s, s.failures, left)), _NONE


def _reopen(s: Breaker, e: Opened, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """An opening that is later than any that is known here. Of one that half-opened after it nothing more can be learned from it."""
    at_ns = min(e.at_ns, now_ns)
    if at_ns <= s.opened_ns or (s.mode is _HALF_OPEN and at_ns < s.since_ns):
        return s, _NONE
    if s.mode is _OPEN:
        return attrs.evolve(s, since_ns=at_ns, opened_ns=at_ns, why=e.why[:MAX_TEXT]), _NONE
    return _open(s, at_ns, e.why), (Note.OPENED,)


def _noted(s: Breaker, e: Opened, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """A person's word holds; that it has opened is known when it is over."""
    at_ns = min(e.at_ns, now_ns)
    return (attrs.evolve(s, opened_ns=at_ns) if at_ns > s.opened_ns else s), _NONE


def _force(s: Breaker, e: Forced, policy: BreakerPolicy, now_ns: int) -> tuple[Breaker, Notes]:
    """The later word holds; the same one again changes nothing. One that begins anew does not undo an opening that came after it."""
    if e.at_ns <= s.said_ns or (e.to is _CLOSED and e.at_ns < s.opened_ns) or 0 < e.until_ns <= now_ns:
        return s, _OVERTAKEN
    since_ns, by, why = min(e.at_ns, now_ns), e.by[:MAX_TEXT], e.why[:MAX_TEXT]
    if e.to is _CLOSED:
        return _into(s, _CLOSED, since_ns, said_ns=e.at_ns), (Note.CLOSED,)
    kept = s.failures if e.to is _FORCED_CLOSED else ()
    return _into(s, e.to, since_ns, said_ns=e.at_ns, until_ns=e.until_ns, by=by, why=why, failures=kept), (Note.FORCED,)


Rule: TypeAlias = Callable[[Breaker, Any, BreakerPolicy, int], tuple[Breaker, Notes]]


def _row(closed: Rule, open_: Rule, half_open: Rule, forced_open: Rule, forced_closed: Rule) -> Mapping[BreakerMode, Rule]:
    rules = (closed, open_, half_open, forced_open, forced_closed)
    return MappingProxyType(dict(zip((_CLOSED, _OPEN, _HALF_OPEN, _FORCED_OPEN, _FORCED_CLOSED), rules, strict=True)))


#: The table of the essay: a row for each event, a cell for each mode.
RULES: Final[Mapping[type[BreakerEvent], Mapping[BreakerMode, Rule]]] = MappingProxyType(
    {
        #                 CLOSED   OPEN     HALF_OPEN   FORCED_OPEN FORCED_CLOSED
        Ask: _row(        _grant,  _refuse, _probe,     _refuse,    _grant),
        Succeeded: _row(  _same,   _late,   _proved,    _late,      _same),
        Failed: _row(     _count,  _late,   _disproved, _late,      _count),
        Dropped: _row(    _same,   _same,   _give_back, _same,      _same),
        Opened: _row(     _reopen, _reopen, _reopen,    _noted,     _noted),
        Forced: _row(     _force,  _force,  _force,     _force,     _force),
        Looked: _row(     _same,   _same,   _same,      _same,      _same),
    }
)  # fmt: skip


# --- looking ---------------------------------------------------------------------------------------------------------------


def holds(state: Breaker, token: str) -> bool:
    """Whether this job has a permit of HALF_OPEN."""
    return any(mark.token == token for mark in state.probes)


def refusal(state: Breaker, policy: BreakerPolicy, now_ns: int, token: str = "") -> str:
    """Why a job would not be let through now; "" if it would. One that holds a permit already is ``token``."""
    state, _ = by_now(state, policy, now_ns)
    if state.mode in FREE or (state.mode is _HALF_OPEN and (len(state.probes) < policy.probes or holds(state, token))):
        return ""
    return standing(state, policy, now_ns)


def standing(state: Breaker, policy: BreakerPolicy, now_ns: int) -> str:
    """How it stands, for people."""
    state, _ = by_now(state, policy, now_ns)
    if state.mode in (_FORCED_OPEN, _FORCED_CLOSED):
        until = f"for another {_ms(state.until_ns - now_ns)} ms" if state.until_ns else "until somebody says otherwise"
        return f"forced {'open' if state.mode is _FORCED_OPEN else 'closed'} by {state.by} {until}: {state.why}"
    if state.mode is _OPEN:
        then = f"probed in {retry_after_ms(state, policy, now_ns)} ms" if policy.open_ms else "a person has to close it"
        return f"open; {then}: {state.why}"
    if state.mode is _HALF_OPEN:
        return f"half open, {len(state.probes)} of {policy.probes} probes under way: {state.why}"
    return f"closed, {len(_recent(state.failures, policy, now_ns))} of {policy.failures} failures"


def retry_after_ms(state: Breaker, policy: BreakerPolicy, now_ns: int) -> int:
    """In how many milliseconds it is worth asking again; 0 if at once, or if only a person can tell."""
    state, _ = by_now(state, policy, now_ns)
    due = due_ns(state, policy)
    if state.mode is _HALF_OPEN and len(state.probes) >= policy.probes:
        due = min(mark.at_ns for mark in state.probes) + (policy.open_ms or policy.window_ms) * _NS_PER_MS
    return _ms(due - now_ns) if due and state.mode not in FREE else 0


def due_ns(state: Breaker, policy: BreakerPolicy) -> int:
    """When the mode will be another by time alone; 0 if never."""
    if state.mode is _OPEN:
        return state.since_ns + policy.open_ms * _NS_PER_MS if policy.open_ms else 0
    return state.until_ns


def _ms(ns: int) -> int:
    return max(0, -(-ns // _NS_PER_MS))
