"""The invariant of the lease: what is decided under it is decided while it is ours, and nobody keeps it without need or without care.

The other half of SAFE-8, that a request with an old fence does not leave, is that of ``freeze.may_send`` and of the gateway, whose tests
prove it at the venue.
"""

from collections.abc import Sequence

from ..effects import NO_FENCE, Alert, Cancel, CancelAll, CancelBatch, Effect, Place, ReleaseLease, Replace
from .core import Core, Lease
from .events import Event, LeaseAnswer, LeaseKind, Restarted

_FENCED = (Place, Replace, Cancel, CancelBatch, CancelAll)


def fence_is_the_lease(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """A fence is that of a lease which is ours in this step; a lease begins and lasts by the store's word alone, and ends with a release or
    an alert."""
    was, now = _lease(before), _lease(after)
    for effect in effects:
        if not isinstance(effect, _FENCED) or effect.fence == NO_FENCE:
            continue
        if not any(lease is not None and lease.fence == effect.fence and after.now_ns < lease.valid_until_ns for lease in (was, now)):
            return f"{type(effect).__name__} under {effect.fence}, which is not the fence of a lease of ours"
    longer = now is not None and (was is None or was.fence != now.fence or was.valid_until_ns < now.valid_until_ns)
    granted = event.fence if isinstance(event, LeaseAnswer) and event.kind is LeaseKind.GRANTED else NO_FENCE
    if longer and now is not None and now.fence not in (NO_FENCE, granted):
        return f"the lease is ours, or for longer, by {type(event).__name__}"
    if was is None or (now is not None and now.fence == was.fence) or isinstance(event, Restarted):
        return ""
    released = any(isinstance(effect, ReleaseLease) and effect.fence == was.fence for effect in effects)
    told = any(isinstance(effect, Alert) and effect.code == "lease_lost" for effect in effects)
    return "" if released or told else f"the lease {was.fence} is dropped without a word"


def lease_is_looked_after(core: Core) -> str:
    """Whoever has the lease sweeps, and has a timer for its renewal and its end."""
    lease = _lease(core)
    if lease is None:
        return ""
    if core.desk is None or core.desk.sweep is None:
        return "the lease is held, and nobody sweeps"
    return "" if lease.timer is not None or lease.fence == NO_FENCE else "the lease is held, and nobody looks after it"


def _lease(core: Core) -> Lease | None:
    return core.desk.lease if core.desk is not None else None
