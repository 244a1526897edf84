"""The circuit breaker in the core: placing is a kind of job, and what fails again and again is not tried for a while.

Where ``Config.breaker`` is set, the outcomes of places and replaces feed the breaker ``JOB`` (``breaker.py``), and the gate asks it
(``checks.breaker_lets``). It never gates a cancel, a sweep or a question.

=============================================== ==============================
outcome of a place or replace                   counts as
=============================================== ==============================
ACKNOWLEDGED; REFUSED by the venue              success: the venue answers
UNAVAILABLE, IN_DOUBT                           failure
held back by us before it left; a claim that    nothing; a permit is given
was not granted                                 back
=============================================== ==============================

A request belongs to the generation in which it was sent, told by its record. In HALF_OPEN the order's key is what the permit is known
by; an order that waits for its claim (``guards.py``) has it already.

Sharing
-------
With a store, what happens here is put there at once, one request at a time, and what others did is read with every poll of the latch
(``breaker_copy.py`` says how that comes together). So an opening denies in all processes within a poll. Until then, each process may have
let its own ``probes`` through. While the store does not answer, the last state here goes on.

As a trigger
------------
Where ``Triggers.breaker_open`` is set, opening freezes the account, as does any other job's breaker (``watch.on_breaker``); while it is
open the freeze does not end by itself.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from ..effects import BreakerMode, ClaimGuard, EffectId, Place, Purpose, Replace, Severity, ShareBreaker, Trigger
from . import operators
from .breaker import SHUT, WORDS, Ask, BreakerEvent, Dropped, Failed, Looked, Note, Succeeded, closed, due_ns, standing, word
from .breaker_copy import Copy, apply, heard, overtaken, to_put, unheard
from .breaker_text import BreakerTextRefused
from .config import BreakerPolicy
from .core import ACCOUNT, JOB, Core, PlaceBreaker, probe_token
from .degraded import Conduct, Deed, conduct
from .events import BreakerAnswer, BreakerKind, Event, GuardAnswer, OutcomeKind, OverrideBreaker, StoreHealth, Verb
from .events import Outcome as RequestOutcome
from .freeze import HELD_BACK, trip
from .limit_faults import is_whole, shown
from .limits import MAX_MS
from .store_view import Asked, degraded
from .store_view import heard as store_heard
from .turn import Turn

#: How often what is put is put again at once, before the next poll.
TRIES: Final = 8
_ADDING = (Place, Replace, ClaimGuard)
_WORKED = (OutcomeKind.ACKNOWLEDGED, OutcomeKind.REFUSED)
_HEALTH: Final[Mapping[BreakerKind, StoreHealth]] = MappingProxyType(
    {BreakerKind.UNAVAILABLE: StoreHealth.UNAVAILABLE, BreakerKind.IN_DOUBT: StoreHealth.IN_DOUBT}
)


# --- a process begins ----------------------------------------------------------------------------------------------------


def begin(turn: Turn) -> None:
    """A session begins, or goes on in a new process: the breaker as it was, or as it is configured now."""
    held, config = turn.flow.breaker, turn.desk.config
    if config.breaker is None:
        if held is not None:
            turn.flow = attrs.evolve(turn.flow, breaker=None)
        return
    copy = held.copy if held is not None else Copy(closed(turn.now_ns))
    if config.store.configured and copy.known is None:
        copy = attrs.evolve(copy, unshared=unheard(copy.state))
    turn.flow = attrs.evolve(turn.flow, breaker=PlaceBreaker(copy, held.began if held is not None else turn.n))
    _do(turn, config.breaker, Looked())
    _arm(turn, config.breaker)
    if _of(turn).copy.state.mode in SHUT:
        _trigger(turn)


def _of(turn: Turn) -> PlaceBreaker:
    held = turn.flow.breaker
    assert held is not None
    return held


# --- what happens --------------------------------------------------------------------------------------------------------


def after(turn: Turn, event: Event, old: Core) -> None:
    """What this step has sent, and what its event says of what was sent before."""
    held, policy = turn.flow.breaker, turn.desk.config.breaker
    if held is None or policy is None:
        return
    if isinstance(event, RequestOutcome):
        _result(turn, policy, event)
    elif isinstance(event, GuardAnswer) and _was_claim(event, old) and not _sent(turn):
        _do(turn, policy, Dropped(_token(turn, event.order)))
    for order in _sent(turn):
        _do(turn, policy, Ask(_token(turn, order), turn.now_ns))
    _share(turn)


def _sent(turn: Turn) -> list[int]:
    return [effect.order for effect in turn.effects if isinstance(effect, _ADDING)]


def _token(turn: Turn, order: int) -> str:
    return probe_token(turn.desk.config.session, order)


def _was_claim(event: GuardAnswer, old: Core) -> bool:
    """Whether it answers a claim, and not what the store was told of one."""
    order = old.order(event.order)
    if order is None:
        return False
    pending = order.requests.replace
    return event.effect in (order.requests.place, pending.effect if pending is not None else None)


def _result(turn: Turn, policy: BreakerPolicy, event: RequestOutcome) -> None:
    if event.verb not in (Verb.PLACE, Verb.REPLACE) or turn.order(event.order) is None:
        return
    held, token = _of(turn), _token(turn, event.order)
    generation = held.copy.state.generation if event.effect[0] >= held.began else 0
    if event.code in HELD_BACK:
        _do(turn, policy, Dropped(token))
    elif event.kind in _WORKED:
        _do(turn, policy, Succeeded(token, generation, turn.now_ns))
    else:
        what = f"{event.verb.value} {event.kind.value} {event.code}".rstrip()
        _do(turn, policy, Failed(token, generation, turn.now_ns, what))


def on_timer(turn: Turn, effect: EffectId, key: int) -> None:  # noqa: ARG001 - every timer's function has this shape
    """The time of a mode is over, if nothing came between."""
    held, policy = turn.flow.breaker, turn.desk.config.breaker
    if held is None or policy is None or held.timer != effect:
        return
    _do(turn, policy, Looked())
    if _of(turn).timer == effect:
        _arm(turn, policy)


def _do(turn: Turn, policy: BreakerPolicy, event: BreakerEvent) -> tuple[Note, ...]:
    copy, notes = apply(_of(turn).copy, event, policy, turn.now_ns, turn.desk.config.store.configured)
    _become(turn, policy, copy, notes)
    return notes


def _become(turn: Turn, policy: BreakerPolicy, copy: Copy, notes: tuple[Note, ...] = ()) -> None:
    """Write the new state, and do what a new mode calls for."""
    held = _of(turn)
    was, now = held.copy.state, copy.state
    if copy is held.copy:
        return
    moved = (was.mode, was.generation) != (now.mode, now.generation)
    turn.flow = attrs.evolve(turn.flow, breaker=attrs.evolve(held, copy=copy, began=turn.n if moved else held.began))
    if not moved:
        return
    _arm(turn, policy)
    text = f"the breaker of {JOB} is {standing(now, policy, turn.now_ns)}"
    if Note.LAPSED in notes:
        turn.alert(Severity.WARNING, "breaker_lapsed", f"what {was.by} has said of the breaker of {JOB} has run out; {text}")
    if not (Note.LAPSED in notes and now.mode is BreakerMode.OPEN and Note.OPENED not in notes):
        severity, code = _ALERTS[now.mode]
        turn.alert(severity, code, text)
    _trigger(turn)


_ALERTS: Final[Mapping[BreakerMode, tuple[Severity, str]]] = MappingProxyType(
    {
        BreakerMode.OPEN: (Severity.CRITICAL, "breaker_open"),
        BreakerMode.HALF_OPEN: (Severity.INFO, "breaker_half_open"),
        BreakerMode.CLOSED: (Severity.INFO, "breaker_closed"),
        BreakerMode.FORCED_OPEN: (Severity.CRITICAL, "breaker_forced_open"),
        BreakerMode.FORCED_CLOSED: (Severity.WARNING, "breaker_forced_closed"),
    }
)


def _arm(turn: Turn, policy: BreakerPolicy) -> None:
    """Be woken when time alone changes the mode, so that it is said then and not at the next order."""
    held = _of(turn)
    due = due_ns(held.copy.state, policy)
    timer = turn.timer(max(0, due - turn.now_ns), Purpose.BREAKER) if due else None
    if timer != held.timer:
        turn.flow = attrs.evolve(turn.flow, breaker=attrs.evolve(held, timer=timer))


def _trigger(turn: Turn) -> None:
    """An open breaker is a trigger, where it is configured as one."""
    desk, state = turn.desk, _of(turn).copy.state
    if not desk.config.triggers.breaker_open:
        return
    if state.mode in SHUT:
        turn.desk = attrs.evolve(desk, breakers=desk.breakers.set(JOB, turn.n))
        trip(turn, ACCOUNT, Trigger.BREAKER_OPEN, f"the breaker of {JOB} is open: {state.why}", (("job", JOB),))
    elif JOB in desk.breakers:
        turn.desk = attrs.evolve(desk, breakers=desk.breakers.delete(JOB))


# --- a person's word -------------------------------------------------------------------------------------------------------


def override(turn: Turn, event: OverrideBreaker) -> None:
    """Force it open or closed, or begin anew."""
    held, policy = turn.flow.breaker, turn.desk.config.breaker
    if not operators.named(turn, event.by, event.why):
        return
    refusal = _refusal(event, held)
    if refusal is not None:
        turn.reject(*refusal)
        return
    assert held is not None
    assert policy is not None
    _do(turn, policy, word(held.copy.state, event.to, event.for_ms, event.by, event.why, turn.now_ns))
    turn.metric("mm_breaker_overrides_total", 1, f"{JOB},{event.to.value}")


def _refusal(event: OverrideBreaker, held: PlaceBreaker | None) -> tuple[str, str] | None:
    if event.job != JOB:
        return "unknown_job", f"{shown(event.job)} has no breaker here; say {JOB}, or tell the bot if it is a breaker of its own"
    if event.to not in WORDS:
        return "invalid_mode", f"{shown(event.to)} comes by itself; give {', '.join(word.value for word in WORDS)}"
    if not is_whole(event.for_ms) or not 0 <= event.for_ms <= MAX_MS:
        return "invalid_duration", f"for_ms: {shown(event.for_ms)} is none; give 1 to {MAX_MS}, or 0 for until somebody says otherwise"
    if event.to is BreakerMode.CLOSED and event.for_ms:
        return "invalid_duration", "for_ms: beginning anew has no end; give 0, or force it closed for that long"
    if held is None:
        return "unknown_job", f"no circuit breaker is configured for {JOB}; set breaker in the configuration"
    if event.to is held.copy.state.mode is BreakerMode.CLOSED and not held.copy.state.failures:
        return "no_change", f"the breaker of {JOB} is closed, and has counted no failure"
    return None


# --- sharing ---------------------------------------------------------------------------------------------------------------


def poll(turn: Turn) -> None:
    """The store answers: put what it has not heard, or else read what others have put. To be called with every poll of the latch."""
    held = turn.flow.breaker
    if held is None or not turn.desk.config.store.configured:
        return
    if held.asked is None:
        turn.flow = attrs.evolve(turn.flow, breaker=attrs.evolve(held, tries=0))
    _share(turn)
    held = _of(turn)
    if held.asked is None and conduct(Deed.BREAKER, turn.desk.store.health) is Conduct.ASK:
        asked = turn.emit(ShareBreaker, JOB, held.copy.version, "")
        turn.flow = attrs.evolve(turn.flow, breaker=attrs.evolve(held, asked=asked))


def _share(turn: Turn) -> None:
    """Put what the store has not heard, unless a request is under way, whose answer brings it up again."""
    held = _of(turn)
    if not turn.desk.config.store.configured or held.asked is not None or held.tries >= TRIES:
        return
    text = to_put(held.copy)
    if not text:
        return
    if conduct(Deed.BREAKER, turn.desk.store.health) is not Conduct.ASK:
        degraded(turn, Deed.BREAKER)
        return
    asked = turn.emit(ShareBreaker, JOB, held.copy.version, text)
    turn.flow = attrs.evolve(turn.flow, breaker=attrs.evolve(held, asked=asked, tries=held.tries + 1))


def on_answer(turn: Turn, event: BreakerAnswer) -> None:
    """What the store has now. Without an answer the last state here goes on, and is told with a later poll."""
    held, policy = turn.flow.breaker, turn.desk.config.breaker
    refused = held is not None and held.asked == event.effect and held.tries > 0 and event.kind in _HEALTH
    store_heard(turn, _HEALTH.get(event.kind, StoreHealth.OK), "", Asked.WRITE if refused else Asked.READ)
    if held is None or policy is None or event.job != JOB or held.asked != event.effect:
        turn.reject("stale_answer", "nobody waits for this answer any more")
        return
    held = attrs.evolve(held, asked=None)
    turn.flow = attrs.evolve(turn.flow, breaker=held)
    if event.kind not in (BreakerKind.OK, BreakerKind.CONFLICT):
        return
    try:
        copy = heard(held.copy, event.version, event.state, policy, turn.now_ns)
    except BreakerTextRefused as refused:
        if event.version != held.copy.version:
            turn.alert(Severity.CRITICAL, "breaker_unreadable", f"the store holds of the breaker of {JOB} what is {refused}")
        copy = attrs.evolve(held.copy, version=event.version)
    _become(turn, policy, copy)
    for said in overtaken(held.copy, copy):
        text = f"{said.to.value} by {said.by} was overtaken by a later word, or opening, elsewhere; say it again if it still holds"
        turn.alert(Severity.WARNING, "breaker_overtaken", text)
    _share(turn)
