"""Freeze: one state that forbids placing, entered by many triggers and left by one person.

Theory
------
A scope is the account, the venue, one symbol or one strategy; an order lies in several. Each scope has a mode of its own, and for an order
the strictest counts. Account and venue cover the same orders here, but are two switches: each is lifted by itself.

=========== ========================================= ======================================================
mode        may place                                 leaves it by
=========== ========================================= ======================================================
ACTIVE      whatever passes the gate                  SetReduceOnly, Freeze and the automatic triggers
REDUCE_ONLY what only reduces the position            SetReduceOnly(on=False), freeze
FREEZING    nothing; a sweep is cancelling            the sweep's proof (FROZEN), Unfreeze with force
FROZEN      nothing; the scope was proven empty       Unfreeze; an order found open after all (FREEZING again)
=========== ========================================= ======================================================

The end of a freeze gives back the mode that a person had set before it: reduce-only stays until a person ends it.

The mode is checked in the same step that would place, so there is no task to kill and no timer to miss: after a freeze no place
effect exists. What was decided before and is still on its way inside this process is stopped at the last moment by
:func:`may_send`, which the venue adapter asks before bytes leave.

A freeze only ever adds: a second trigger is recorded and changes nothing, and of several sources the one that says frozen wins. Leaving
needs a person and a reason, a proven sweep or the word *force*, and the store's consent where one is configured. What may pass without
a person, if anything, stands in ``cool_down.py``; a second trigger of another class ends that.

With a store, unfreezing withdraws this session's own word from the latch (``latch.py``), and what comes of it the answer says:

=================================== ==================================================================================================
the store answers                   then
=================================== ==================================================================================================
the row is gone, or there was none  lifted
others stand behind the row         the scope stays frozen and follows them from now on; whoever asked is told who (``peer_frozen``).
                                    With *force* there is no such answer: the row is cleared, and who lives among them says it again
the row is another one by now       it stays frozen; somebody has said or withdrawn something since: look, and ask again
it does not answer                  it stays frozen
=================================== ==================================================================================================

A freeze that concerns this process alone has no word in the latch: that of an orderly stop, where others' orders are theirs
(``ForeignPolicy.LEAVE``). Where a sweep takes their orders too, they must not go on placing, so there a stop freezes them as well.
The *epoch* grows with every freeze and unfreeze; effects carry it, so that what was decided before is told from what comes after.
"""

import attrs

from ..effects import (
    NO_FENCE,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    Effect,
    EffectId,
    Fence,
    Mode,
    ModeChanged,
    Place,
    PublishFreeze,
    Replace,
    Severity,
    Trigger,
)
from . import cool_down, sweep, sweep_scope
from .config import ForeignPolicy
from .core import (
    FREEZES_KEPT,
    Control,
    Core,
    Desk,
    FreezeRecord,
    Lease,
    PendingUnfreeze,
    effective_mode,
    frozen_scopes,
    in_words,
    open_in_scope,
    scope_key,
    scope_symbol,
    scope_text,
    scopes_over,
)
from .degraded import Deed, forbidden
from .events import Freeze, LatchAnswer, LatchKind, LatchRow, SetReduceOnly, Unfreeze
from .lease import STALE_FENCE
from .order import Order
from .store_view import degraded
from .triggers import CLASS_OF
from .turn import Turn

_ACTIVE = Control(Mode.ACTIVE, 0, Trigger.MANUAL, "", "", 0, False, True, None)
_FROZEN = (Mode.FREEZING, Mode.FROZEN)
_MYSELF = "haltcore"
#: What can be decided under a lease.
_FENCED = (Place, Replace, Cancel, CancelBatch, CancelAll)
#: The codes under which a request to place never left: those of :func:`may_send`, and those of the runner's own last check. No venue's own
#: code may be one of these, so they are words that no venue says.
HELD_BACK = (
    "superseded_at_send", "frozen_at_send", "stale_epoch", STALE_FENCE, "too_late_at_send", "stopped_at_send", "stopping_at_send",
    "journal_failed",
)  # fmt: skip


def put_control(turn: Turn, scope: int, control: Control) -> None:
    """Write a scope's control."""
    turn.desk = attrs.evolve(turn.desk, controls=turn.desk.controls.set(scope, control))


# --- in -------------------------------------------------------------------------------------------------------------


def trip(turn: Turn, scope: int, trigger: Trigger, reason: str, metadata: tuple[tuple[str, str], ...]) -> None:
    """Freeze by what the core has seen itself. Its conditions last: while the scope is frozen each trigger is recorded once. An unfreeze
    that waits for the store is beaten by the same condition again."""
    if not said(turn.desk, scope, trigger):
        freeze(turn, scope, trigger, reason, _MYSELF, metadata, automatic=True)


def said(desk: Desk, scope: int, trigger: Trigger) -> int:
    """The record by which this trigger has frozen the scope, or found it frozen; saying it again would change nothing. 0: not recorded
    since the scope was frozen, or an unfreeze waits for the store and would be beaten by it."""
    control = desk.controls.get(scope, _ACTIVE)
    if control.mode not in _FROZEN or control.unfreeze is not None:
        return 0
    return next((record.record for record in _records(desk, scope) if record.trigger is trigger), 0)


def _records(desk: Desk, scope: int) -> list[FreezeRecord]:
    """What was recorded since the scope was frozen, as far as the history reaches."""
    text, since = scope_text(desk, scope), desk.controls[scope].record
    return [record for record in desk.freezes if record.record >= since and record.scope == text]


def freeze(
    turn: Turn,
    scope: int,
    trigger: Trigger,
    reason: str,
    by: str = _MYSELF,
    metadata: tuple[tuple[str, str], ...] = (),
    automatic: bool = False,
    swept: bool = False,
) -> None:
    """Freeze a scope and begin to prove it empty. Frozen already: the trigger is recorded, nothing else. ``automatic``: it may pass
    without a person, as far as its class may. ``swept``: whoever freezes sees to the sweep."""
    desk, text = turn.desk, scope_text(turn.desk, scope)
    control = desk.controls.get(scope, _ACTIVE)
    _record(turn, FreezeRecord(turn.now_ns, turn.n, text, trigger, reason, by, metadata))
    desk = turn.desk
    turn.metric("freeze_triggered_total", 1, trigger.value)
    own = (trigger, reason, by) if _for_others(desk, trigger) else None
    if control.mode in _FROZEN:
        same = automatic and CLASS_OF[trigger] is CLASS_OF[control.trigger]
        _freeze_again(turn, scope, own, control.transient and same)
        return
    local = desk.config.store.configured and own is not None
    epoch = desk.epoch + 1
    turn.desk = attrs.evolve(desk, epoch=epoch)
    frozen = Control(
        Mode.FREEZING, epoch, trigger, reason, by, turn.now_ns, False, not local, None, record=turn.n,
        reduce_only=control.mode is Mode.REDUCE_ONLY, own=own,
    )  # fmt: skip
    put_control(turn, scope, frozen)
    turn.emit(ModeChanged, text, Mode.FREEZING, epoch, trigger, reason, by)
    if not swept:
        _sweep(turn, scope)
    if local:
        degraded(turn, Deed.FREEZE)
        turn.emit(PublishFreeze, text, trigger, reason, by)
    turn.metric("mm_freeze_active", 1)
    turn.metric("mm_freeze_epoch", epoch)
    turn.alert(Severity.CRITICAL, "frozen", f"{in_words(text)} is frozen ({trigger.value}): {reason}", 0, scope_symbol(desk, scope))
    if automatic and control.mode is Mode.ACTIVE:
        cool_down.count(turn, scope)


def follow(turn: Turn, rows: list[tuple[int, LatchRow]]) -> None:
    """Freeze the scopes that peers have frozen. However many there are, the sweep over the first is widened once."""
    for number, (scope, row) in enumerate(rows):
        freeze(turn, scope, Trigger.PEER, f"{row.trigger.value}: {row.reason}", row.by, swept=number > 0)
    uncovered = [scope for scope, _ in rows[1:] if not sweep_scope.covered(turn.desk, scope)]
    for scope in (uncovered or [scope for scope, _ in rows[1:]])[:1]:
        _sweep(turn, scope)


def _sweep(turn: Turn, scope: int) -> None:
    if sweep_scope.covered(turn.desk, scope):
        sweep.extend(turn)
    else:
        sweep.begin(turn)


def _record(turn: Turn, record: FreezeRecord) -> None:
    turn.desk = attrs.evolve(turn.desk, freezes=(*turn.desk.freezes, record)[-FREEZES_KEPT:])


def _for_others(desk: Desk, trigger: Trigger) -> bool:
    """Whether a freeze by this trigger is a word of ours that the other processes have to hear."""
    alone = trigger is Trigger.STOPPING and desk.config.sweep.foreign is ForeignPolicy.LEAVE
    return trigger is not Trigger.PEER and not alone


def _freeze_again(turn: Turn, scope: int, own: tuple[Trigger, str, str] | None, transient: bool) -> None:
    """Who says freeze now knows nothing of an unfreeze that waits for the store, and wins: its answer is no longer waited for. Only what
    is of the same class and came by itself leaves the freeze one that may pass without a person. A scope that only followed a peer until
    now has a word of its own from here on, and the peer must hear of it before it lifts its own."""
    control = turn.desk.controls[scope]
    if control.unfreeze is not None or (own is not None and control.own is None):
        word, local = control.own or own, turn.desk.config.store.configured and own is not None
        put_control(turn, scope, attrs.evolve(control, unfreeze=None, published=not local, own=word))
        if local and word is not None:
            turn.emit(PublishFreeze, scope_text(turn.desk, scope), *word)
    if control.transient and not transient:
        keep(turn, scope)
    elif control.unfreeze is not None and control.cool_down is None:
        cool_down.start(turn, scope)
    sweep.extend(turn)


def keep(turn: Turn, scope: int) -> None:
    """The freeze is a person's to lift from now on."""
    put_control(turn, scope, attrs.evolve(turn.desk.controls[scope], transient=False, cool_down=None))


def on_freeze(turn: Turn, event: Freeze) -> None:
    """A person, or a part of the runner, says freeze."""
    scope = scope_key(turn.desk, event.scope)
    if scope is None:
        turn.reject("unknown_scope", f"{event.scope!r} is not configured; freeze the account with an empty scope")
        return
    freeze(turn, scope, event.trigger, event.reason, event.by, event.metadata)


def recheck(turn: Turn) -> None:
    """A frozen scope in which an order is open again (a busted trade, say) is no longer proven empty: sweep it again."""
    _unproven(turn, [scope for scope in _proven(turn) if open_in_scope(turn, scope)])


def unprove(turn: Turn, symbol: str, owner: int) -> None:
    """Something of ours may be open that our account does not show. Where the symbol is frozen, only lists asked for from now on count."""
    scopes = [scope for scope in _proven(turn) if scope in scopes_over(turn.desk.index.get(symbol, -1), owner)]
    if scopes:
        _unproven(turn, scopes)
    elif sweep_scope.covers(turn.desk, symbol, owner):
        sweep.look_again(turn)


def reopened(turn: Turn, symbols: list[str]) -> None:
    """Orders of others that a freeze cancels are open in these symbols: what was proven empty of them is so no longer."""
    over = [scopes_over(turn.desk.index.get(symbol, -1), 0) for symbol in symbols]
    _unproven(turn, [scope for scope in _proven(turn) if any(scope in scopes for scopes in over)])


def _proven(turn: Turn) -> list[int]:
    return [scope for scope in frozen_scopes(turn.desk) if turn.desk.controls[scope].mode is Mode.FROZEN]


def _unproven(turn: Turn, scopes: list[int]) -> None:
    """These are FROZEN no longer: sweep again. An unfreeze that waits for the store was asked for a proven scope: its answer is no longer
    waited for, and what it may have cleared is published again."""
    for scope in scopes:
        control = turn.desk.controls[scope]
        published = control.published and control.unfreeze is None
        unproven = attrs.evolve(control, mode=Mode.FREEZING, verified=False, published=published, unfreeze=None, cool_down=None)
        put_control(turn, scope, unproven)
        text, why = scope_text(turn.desk, scope), "an order is open again"
        if control.unfreeze is not None:
            turn.reject("unfreeze_overtaken", f"the unfreeze by {control.unfreeze.by} is not waited for any more: {why}")
        turn.emit(ModeChanged, text, Mode.FREEZING, control.epoch, control.trigger, why, _MYSELF)
    if scopes:
        sweep.begin(turn)


# --- out ------------------------------------------------------------------------------------------------------------


def on_unfreeze(turn: Turn, event: Unfreeze) -> None:
    """A person lifts a freeze. With a store, its latch must be cleared first; the mode changes on its answer."""
    scope = scope_key(turn.desk, event.scope)
    refusal = _unfreeze_refusal(turn.desk, scope, event)
    if refusal is not None:
        if refusal[0] == "store_unavailable":
            degraded(turn, Deed.UNFREEZE)
        turn.reject(*refusal)
        return
    assert scope is not None
    _unfreeze(turn, scope, event.by, event.why, event.force)


def on_cool_down(turn: Turn, effect: EffectId, key: int) -> None:
    """The wait is over: lift the freeze, or wait as long again for what still speaks against it."""
    scope = cool_down.timer_scope(key)
    control = turn.desk.controls.get(scope, _ACTIVE)
    if control.cool_down != effect:
        return
    put_control(turn, scope, attrs.evolve(control, cool_down=None))
    if cool_down.hindered(turn, scope):
        cool_down.start(turn, scope)
    else:
        _unfreeze(turn, scope, _MYSELF, cool_down.why(turn, scope))


def _unfreeze(turn: Turn, scope: int, by: str, why: str, force: bool = False) -> None:
    """Also where no row is known the store is asked: one may have been set since it was read."""
    if not turn.desk.config.store.configured:
        lift(turn, scope, by, why)
        return
    text = scope_text(turn.desk, scope)
    latch_epoch = next((row.epoch for row in turn.desk.store.latch if row.scope == text), 0)
    effect = turn.emit(ClearFreeze, text, latch_epoch, by, why, force)
    pending = PendingUnfreeze(effect, by, why, turn.desk.store.epoch)
    put_control(turn, scope, attrs.evolve(turn.desk.controls[scope], unfreeze=pending))


def _unfreeze_refusal(desk: Desk, scope: int | None, event: Unfreeze) -> tuple[str, str] | None:
    if scope is None:
        return "unknown_scope", f"{event.scope!r} is not configured"
    control = desk.controls.get(scope, _ACTIVE)
    if control.mode not in _FROZEN:
        return "not_frozen", f"{in_words(event.scope)} is {control.mode.value}"
    if not event.by.strip() or not event.why.strip():
        return "who_and_why", "an unfreeze names who lifts it and why"
    if control.mode is Mode.FREEZING and not event.force:
        return "sweep_running", "orders may still be open; wait for the proof, or say force"
    if not desk.link.up:
        return "venue_down", "the connection to the venue is down"
    if control.unfreeze is not None:
        return "unfreeze_pending", "an unfreeze of this scope waits for the store"
    if desk.config.store.configured and forbidden(Deed.UNFREEZE, desk.store.health):
        return "store_unavailable", "the store does not answer, and the other processes of the account must agree"
    return None


def on_cleared(turn: Turn, event: LatchAnswer) -> bool:
    """The store's answer to ``ClearFreeze``. True if some scope waited for it. See the table in the essay."""
    scope = _waiting(turn.desk, event)
    if scope is None:
        return False
    control = turn.desk.controls[scope]
    pending, text = control.unfreeze, scope_text(turn.desk, scope)
    assert pending is not None
    put_control(turn, scope, attrs.evolve(control, unfreeze=None))
    row = next((row for row in event.rows if row.scope == text), None)
    # A store that has lost what it knew meanwhile has no row either, but nobody has withdrawn his word.
    forgot = event.epoch != pending.epoch and event.epoch and pending.epoch
    if event.kind is LatchKind.OK and row is not None:
        _withdrawn(turn, scope, row)
    elif event.kind is LatchKind.OK and not forgot:
        store = turn.desk.store
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, cleared=store.cleared.set(text, turn.n)))
        lift(turn, scope, pending.by, pending.why)
    elif event.kind in (LatchKind.OK, LatchKind.STALE):
        now = f"; it is frozen there by {_whose(row)}" if row is not None else ""
        turn.reject("unfreeze_stale", f"the latch has changed since it was read here{now}. The scope stays frozen; look, and ask again")
        keep(turn, scope)
    else:
        turn.reject("unfreeze_" + event.kind.value, "the store did not clear the latch; the scope stays frozen")
        if control.cool_down is None:
            cool_down.start(turn, scope)
    return True


def _waiting(desk: Desk, event: LatchAnswer) -> int | None:
    """The scope whose unfreeze this answers. An answer of format 2 does not name it."""
    named = scope_key(desk, event.scope) if event.scope is not None else None
    for scope in frozen_scopes(desk) if event.scope is None else () if named is None else (named,):
        control = desk.controls.get(scope, _ACTIVE)
        if control.unfreeze is not None and control.unfreeze.effect == event.effect:
            return scope
    return None


def _withdrawn(turn: Turn, scope: int, row: LatchRow) -> None:
    """Our own word is withdrawn, and others stand: from now on the scope follows them."""
    control, text = turn.desk.controls[scope], scope_text(turn.desk, scope)
    if control.own is not None or control.trigger is not Trigger.PEER:
        cool_down.ended(turn, scope)
        reason = f"{row.trigger.value}: {row.reason}"
        _record(turn, FreezeRecord(turn.now_ns, turn.n, text, Trigger.PEER, reason, row.by))
        follows = attrs.evolve(
            control, trigger=Trigger.PEER, reason=reason, by=row.by, published=True, unfreeze=None, cool_down=None, transient=False,
            record=turn.n, own=None,
        )  # fmt: skip
        put_control(turn, scope, follows)
    remedy = "lift it there, or lift it with force, for every process of the account"
    turn.reject("peer_frozen", f"{in_words(text)} stays frozen: {_whose(row)} has frozen it; {remedy}")


def _whose(row: LatchRow) -> str:
    """Who stands behind a row, and why."""
    where = f" in session {row.author}" if row.author else ""
    return f"{row.by or 'nobody named'}{where} ({row.trigger.value}: {row.reason})"


def lift(turn: Turn, scope: int, by: str, why: str) -> None:
    """The scope has the mode again in which the freeze found it, under a new epoch."""
    cool_down.ended(turn, scope)
    desk = turn.desk
    control = desk.controls[scope]
    epoch = desk.epoch + 1
    mode = Mode.REDUCE_ONLY if control.reduce_only else Mode.ACTIVE
    lifted = Control(mode, epoch, control.trigger, why, by, turn.now_ns, False, True, None)
    turn.desk = attrs.evolve(desk, epoch=epoch, controls=desk.controls.set(scope, lifted))
    turn.emit(ModeChanged, scope_text(desk, scope), mode, epoch, control.trigger, why, by)
    turn.metric("mm_freeze_active", 1 if frozen_scopes(turn.desk) else 0)
    turn.metric("mm_freeze_epoch", epoch)
    sweep.narrow(turn)


def on_reduce_only(turn: Turn, event: SetReduceOnly) -> None:
    """Between ACTIVE and REDUCE_ONLY; a frozen scope stays frozen."""
    scope = scope_key(turn.desk, event.scope)
    if scope is None:
        turn.reject("unknown_scope", f"{event.scope!r} is not configured")
        return
    control = turn.desk.controls.get(scope, _ACTIVE)
    wanted = Mode.REDUCE_ONLY if event.on else Mode.ACTIVE
    if not event.by.strip() or not event.why.strip():
        turn.reject("who_and_why", "a change of mode names who makes it and why")
    elif control.mode in _FROZEN:
        back = Mode.REDUCE_ONLY if control.reduce_only else Mode.ACTIVE
        turn.reject("frozen", f"the scope is frozen; unfreeze it first, it is then {back.value} as it was before")
    elif control.mode is wanted:
        turn.reject("no_change", f"the scope is {wanted.value} already")
    else:
        epoch = turn.desk.epoch + 1
        turn.desk = attrs.evolve(turn.desk, epoch=epoch)
        put_control(turn, scope, Control(wanted, epoch, Trigger.MANUAL, event.why, event.by, turn.now_ns, False, True, None))
        turn.emit(ModeChanged, event.scope, wanted, epoch, Trigger.MANUAL, event.why, event.by)


# --- the last moment ------------------------------------------------------------------------------------------------


def may_send(core: Core, effect: Effect, now_ns: int) -> str:
    """"" if the effect may leave now, else the code why not. To be asked at the instant before the bytes go, with the time of that instant
    by our own clock: a process that was stopped for a while has a core that knows nothing of it.

    A place, a replace or the claim of one is stopped when its scope is frozen now, or was at any time since it was decided, when its order
    no longer waits for it, or when what it claimed in the store is no longer good for sending. A cancel-all is stopped
    when the freeze it belongs to is over: a runner that was paused would otherwise cancel the orders of the next session. And whatever was
    decided under a lease is stopped when that is ours no longer; it is decided anew then, under none, so that no cancel waits for it.
    """
    desk = core.desk
    if desk is None:
        return "not_started"
    if isinstance(effect, _FENCED) and effect.fence != NO_FENCE and not _is_valid(desk.lease, effect.fence, now_ns):
        return STALE_FENCE
    if isinstance(effect, (Place, Replace, ClaimGuard)):
        return _may_add(core, desk, effect, now_ns)
    if isinstance(effect, CancelAll):
        mode = effective_mode(desk, desk.index.get(effect.symbol, -1), 0)
        return "" if mode in _FROZEN else "freeze_over"
    return ""


def _may_add(core: Core, desk: Desk, effect: Place | Replace | ClaimGuard, now_ns: int) -> str:
    order = core.orders.get(effect.order)
    if order is None:
        return "superseded_at_send"
    s = order.spec
    if effective_mode(desk, s.sym, s.owner) in _FROZEN:
        return "frozen_at_send"
    if _decided_under(core, effect) < epoch_floor(desk, s.sym, s.owner):
        return "stale_epoch"
    if not _still_wanted(order, effect):
        return "superseded_at_send"
    return "too_late_at_send" if not isinstance(effect, ClaimGuard) and 0 < effect.expires_ns <= now_ns else ""


def _decided_under(core: Core, effect: Place | Replace | ClaimGuard) -> int:
    """The epoch of the decision; 0 for a claim that nobody waits for any more."""
    if not isinstance(effect, ClaimGuard):
        return effect.epoch
    return next((guard.epoch for guard in core.flow.guards.get(effect.order, ()) if guard.record == effect.id[0]), 0)


def _is_valid(lease: Lease | None, fence: Fence, now_ns: int) -> bool:
    return lease is not None and lease.fence == fence and now_ns < lease.valid_until_ns


def _still_wanted(order: Order, effect: Place | Replace | ClaimGuard) -> bool:
    """Whether the order waits for this very request. One that was given up meanwhile, after a time-out say, must not leave any more."""
    if isinstance(effect, ClaimGuard):
        replace = order.requests.replace
        return effect.id == order.requests.place or (replace is not None and effect.id == replace.effect)
    pending = order.requests.place if isinstance(effect, Place) else order.requests.replace and order.requests.replace.effect
    return pending == effect.id


def epoch_floor(desk: Desk, sym: int, owner: int) -> int:
    """The epoch of the last change of mode that concerns the order."""
    return max(desk.controls[scope].epoch if scope in desk.controls else 0 for scope in scopes_over(sym, owner))
