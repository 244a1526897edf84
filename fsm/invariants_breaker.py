"""The invariant of the breaker, in a few lines of its own: what is open stays open, and lets nothing through.

The store's word may be old when it is heard: a person's "forced closed" that has run out meanwhile leaves the breaker closed.
"""

from collections.abc import Sequence

from ..effects import BreakerMode, ClaimGuard, Effect, Place, Replace
from .breaker import Breaker
from .breaker_text import BreakerTextRefused, from_text
from .core import Core
from .events import BreakerAnswer, BreakerKind, Event, Outcome, OutcomeKind, OverrideBreaker, Restarted, Verb
from .freeze import HELD_BACK

_NS_PER_MS = 1_000_000
_ADDING = (Place, Replace, ClaimGuard)
_NOT_CLOSED = (BreakerMode.OPEN, BreakerMode.HALF_OPEN, BreakerMode.FORCED_OPEN)


def breaker_stays_open(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """Nothing is placed while it is open; what is not closed becomes so by a success of the venue, a person, or the store's word of one."""
    was, now = _state(before), _state(after)
    policy = after.desk.config.breaker if after.desk is not None else None
    if was is None:
        return ""
    if now is None or policy is None:
        return "" if isinstance(event, Restarted) else f"the breaker is gone on {type(event).__name__}"
    if any(isinstance(effect, _ADDING) for effect in effects):
        if _is_shut(was, policy.open_ms, after.now_ns):
            return f"an order is let through while the breaker is {was.mode.value}"
        if len(now.probes) > max(policy.probes, len(was.probes)):
            return f"{len(now.probes)} probes are under way, and {policy.probes} are allowed"
    if was.mode in _NOT_CLOSED and now.mode not in _NOT_CLOSED and not _may_close(was, event, now, after.now_ns):
        return f"the breaker went from {was.mode.value} to {now.mode.value} on {type(event).__name__}"
    return ""


def _state(core: Core) -> Breaker | None:
    return core.flow.breaker.copy.state if core.flow.breaker is not None else None


def _is_shut(state: Breaker, open_ms: int, now_ns: int) -> bool:
    if state.mode is BreakerMode.FORCED_OPEN:
        return not 0 < state.until_ns <= now_ns
    return state.mode is BreakerMode.OPEN and (not open_ms or now_ns < state.since_ns + open_ms * _NS_PER_MS)


def _may_close(was: Breaker, event: Event, now: Breaker, now_ns: int) -> bool:
    if isinstance(event, OverrideBreaker):
        return True
    if isinstance(event, BreakerAnswer):
        return event.kind in (BreakerKind.OK, BreakerKind.CONFLICT) and _said(event.state, now.mode, now_ns)
    if not isinstance(event, Outcome) or event.verb not in (Verb.PLACE, Verb.REPLACE):
        return False
    answered = event.kind in (OutcomeKind.ACKNOWLEDGED, OutcomeKind.REFUSED) and event.code not in HELD_BACK
    return answered and was.mode is BreakerMode.HALF_OPEN


def _said(text: str, mode: BreakerMode, now_ns: int) -> bool:
    """Whether the store's word comes to this mode: it says so, or has said what a person forced, whose time is over."""
    try:
        stored = from_text(text)
    except BreakerTextRefused:
        return False
    over = 0 < stored.until_ns <= max(now_ns, stored.since_ns)
    return stored.mode is mode or (stored.mode is BreakerMode.FORCED_CLOSED and mode is BreakerMode.CLOSED and over)
