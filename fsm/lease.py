"""The sweep lease: who of several processes cancels for all, so that the others need only look.

The lease saves work and permits nothing. Whoever does not get it, or gets no answer, cancels all the same; and whoever has it may have lost
it without knowing. So its end is reckoned here, on our own clock, from before the request left, and what the store says can only shorten
that:

=========================== ===========================================================================================================
what is heard               what follows
=========================== ===========================================================================================================
granted                     ours while the sweep runs; one that comes when nobody wants it any more, or too late, is given back
renewed                     it lasts longer
renewal without an answer   it lasts no longer than before; the renewal is tried again, several times before the end
renewal refused             lost
``valid_until_ns`` is over  lost
held for ``lease_cap_ms``   given back, and people are told: nobody can need it for so long
refused at the gateway      lost: somebody has a younger one
asked, no answer (in doubt) it may be ours: no fence is known, nothing is sent under it, but it is given back like one that is
=========================== ===========================================================================================================

The sweep never ends with the lease: what it sends from then on has no fence, and nobody refuses that. It is given back when the sweep ends,
when the orders are handed over, and when the process was restarted in the middle; a process that dies lets it run out.
"""

import attrs

from ..effects import NO_FENCE, AcquireLease, EffectId, Purpose, ReleaseLease, RenewLease, Severity
from . import sweep_scope
from .config import ForeignPolicy
from .core import Lease
from .degraded import Conduct, Deed, conduct
from .events import LeaseAnswer, LeaseKind, Outcome, OutcomeKind, StoreHealth
from .store_view import heard
from .turn import NS_PER_MS, Turn

#: The code under which a request is refused that was decided under another lease than the present one.
STALE_FENCE = "stale_fence"
#: How many times a renewal that got no answer is tried again in the time between two renewals.
TRIES = 10
_HEALTH = {LeaseKind.UNAVAILABLE: StoreHealth.UNAVAILABLE, LeaseKind.IN_DOUBT: StoreHealth.IN_DOUBT}


def is_wanted(turn: Turn) -> bool:
    """Whether a sweep that begins asks for the lease: one process can cancel for all, and the store can say which.

    Where others' orders stay, each process has to cancel its own; so it has for the orders of a strategy, which nobody else can tell.
    """
    desk = turn.desk
    if not desk.config.store.configured or desk.lease is not None or desk.config.sweep.foreign is ForeignPolicy.LEAVE:
        return False
    alone = sweep_scope.strategies(sweep_scope.freezing(desk))
    return not alone and conduct(Deed.CANCEL, desk.store.health) is Conduct.LEASE_FIRST


def ask(turn: Turn) -> EffectId:
    """Ask for it; the request."""
    effect = turn.emit(AcquireLease, turn.desk.config.store.lease_ttl_ms)
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, acquire=effect))
    return effect


def give_back(turn: Turn) -> None:
    """The sweep needs it no more."""
    lease = turn.desk.lease
    if lease is not None:
        turn.desk = attrs.evolve(turn.desk, lease=None)
        turn.emit(ReleaseLease, lease.fence)
        _held_for(turn, lease)


def hand_over(turn: Turn) -> None:
    """This process will not see the end of its sweep: it needs neither the lease nor the answer to its request for it."""
    give_back(turn)
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, acquire=None))


def on_answer(turn: Turn, event: LeaseAnswer) -> None:
    """What the store says of it. Whatever it grants that nobody waits for is given back."""
    heard(turn, _HEALTH.get(event.kind, StoreHealth.OK), event.code)
    lease, store = turn.desk.lease, turn.desk.store
    if event.effect == store.acquire:
        _acquired(turn, event)
    elif lease is not None and event.effect == lease.renewal:
        _renewed(turn, event, attrs.evolve(lease, renewal=None))
    elif event.kind is LeaseKind.GRANTED and (lease is None or lease.fence != event.fence):
        turn.emit(ReleaseLease, event.fence)


def _acquired(turn: Turn, event: LeaseAnswer) -> None:
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, acquire=None))
    if event.kind is LeaseKind.GRANTED:
        if turn.desk.sweep is None or turn.now_ns >= event.valid_until_ns:
            turn.emit(ReleaseLease, event.fence)
        else:
            lease = Lease(event.fence, event.valid_until_ns, None, turn.now_ns, turn.n)
            _look_again(turn, lease, turn.desk.config.store.lease_renew_ms * NS_PER_MS)
    elif event.kind is LeaseKind.IN_DOUBT:
        if turn.desk.sweep is None:
            turn.emit(ReleaseLease, NO_FENCE)
        else:
            turn.desk = attrs.evolve(turn.desk, lease=Lease(NO_FENCE, 0, None, turn.now_ns, turn.n))


def _renewed(turn: Turn, event: LeaseAnswer, lease: Lease) -> None:
    renew_ns = turn.desk.config.store.lease_renew_ms * NS_PER_MS
    if turn.now_ns >= max(lease.valid_until_ns, event.valid_until_ns if event.kind is LeaseKind.GRANTED else 0):
        _lost(turn, lease, "it ran out before the answer came")
    elif event.kind is LeaseKind.GRANTED:
        _look_again(turn, attrs.evolve(lease, valid_until_ns=max(lease.valid_until_ns, event.valid_until_ns)), renew_ns)
    elif event.kind in _HEALTH:
        _look_again(turn, lease, max(NS_PER_MS, renew_ns // TRIES))
    else:
        _lost(turn, lease, "the store says that it is ours no longer")


def on_timer(turn: Turn, effect: EffectId) -> None:
    """Time to look after it: it has run out, has been held for too long, or is to be renewed."""
    lease, policy = turn.desk.lease, turn.desk.config.store
    if lease is None or lease.timer != effect:
        return
    if turn.now_ns >= lease.valid_until_ns:
        _lost(turn, lease, "it has run out, and could not be renewed")
    elif turn.now_ns - lease.since_ns >= policy.lease_cap_ms * NS_PER_MS:
        give_back(turn)
        turn.alert(Severity.WARNING, "lease_capped", f"the sweep has held its lease for {policy.lease_cap_ms} ms; it goes on without")
    elif lease.renewal is None:
        renewal = turn.emit(RenewLease, lease.fence, policy.lease_ttl_ms)
        _look_again(turn, attrs.evolve(lease, renewal=renewal), lease.valid_until_ns - turn.now_ns)
    else:
        _look_again(turn, lease, lease.valid_until_ns - turn.now_ns)


def on_refused(turn: Turn, event: Outcome) -> bool:
    """Whether a request was held back for its fence. If that was the fence of the lease that we believe to have, it is lost."""
    if event.kind is not OutcomeKind.REFUSED or event.code != STALE_FENCE:
        return False
    turn.metric("mm_fence_rejected_total", 1, event.verb.value)
    lease = turn.desk.lease
    if lease is not None and lease.fence != NO_FENCE and event.effect[0] >= lease.record:
        _lost(turn, lease, "a request under its fence was refused")
    return True


def _look_again(turn: Turn, lease: Lease, delay_ns: int) -> None:
    """The next look at it, at the latest when it runs out or has been held for too long."""
    cap_ns = turn.desk.config.store.lease_cap_ms * NS_PER_MS
    due_ns = min(turn.now_ns + delay_ns, lease.valid_until_ns, lease.since_ns + cap_ns)
    timer = turn.timer(max(0, due_ns - turn.now_ns), Purpose.LEASE)
    turn.desk = attrs.evolve(turn.desk, lease=attrs.evolve(lease, timer=timer))


def _lost(turn: Turn, lease: Lease, why: str) -> None:
    turn.desk = attrs.evolve(turn.desk, lease=None)
    turn.metric("mm_lease_lost_total", 1, "sweep")
    _held_for(turn, lease)
    turn.alert(Severity.WARNING, "lease_lost", f"the lease of the sweep is lost: {why}; the sweep goes on without")


def _held_for(turn: Turn, lease: Lease) -> None:
    if lease.fence != NO_FENCE:
        turn.metric("mm_lock_hold_seconds", turn.now_ns - lease.since_ns)
