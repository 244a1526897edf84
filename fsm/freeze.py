"""Freeze: one state that forbids placing, entered by many triggers and left by one person.

Theory
------
A scope is the account or one symbol. Each has a mode:

=========== ========================================= ======================================================
mode        may place                                 leaves it by
=========== ========================================= ======================================================
ACTIVE      whatever passes the gate                  SetReduceOnly, Freeze and the automatic triggers
REDUCE_ONLY what only reduces the position            SetReduceOnly(on=False), freeze
FREEZING    nothing; a sweep is cancelling            the sweep's proof (FROZEN), Unfreeze with force
FROZEN      nothing; the scope was proven empty       Unfreeze; an order found open after all (FREEZING again)
=========== ========================================= ======================================================

The mode is checked in the same step that would place, so there is no task to kill and no timer to miss: after a freeze no place
effect exists. What was decided before and is still on its way inside this process is stopped at the last moment by
:func:`may_send`, which the venue adapter asks before bytes leave.

A freeze only ever adds: a second trigger is recorded and changes nothing, and of several sources the one that says frozen
wins. Leaving needs a person and a reason, a proven sweep or the word *force*, and the store's consent where one is configured.
The *epoch* grows with every freeze and unfreeze; effects carry it, so that what was decided before is told from what comes after.
"""

import attrs

from ..effects import CancelAll, ClearFreeze, Effect, Mode, ModeChanged, Place, PublishFreeze, Replace, Severity, Trigger, to_text
from . import sweep
from .core import ACCOUNT, Control, Core, Desk, FreezeRecord, PendingUnfreeze, effective_mode, frozen_scopes, scope_symbol
from .events import EdgeUpdate, Freeze, LatchAnswer, LatchKind, SetReduceOnly, Unfreeze
from .turn import Turn

_ACTIVE = Control(Mode.ACTIVE, 0, Trigger.MANUAL, "", "", 0, False, True, None)


def scope_of(desk: Desk, symbol: str) -> int | None:
    """The key of a scope by its symbol, empty for the account; None for a symbol that is not configured."""
    if not symbol:
        return ACCOUNT
    sym = desk.index.get(symbol, -1)
    return None if sym < 0 else sym + 1


def put_control(turn: Turn, scope: int, control: Control) -> None:
    """Write a scope's control."""
    turn.desk = attrs.evolve(turn.desk, controls=turn.desk.controls.set(scope, control))


# --- in -------------------------------------------------------------------------------------------------------------


def freeze(turn: Turn, scope: int, trigger: Trigger, reason: str, by: str) -> None:
    """Freeze a scope and begin to prove it empty. Frozen already: the trigger is recorded, nothing else."""
    desk, symbol = turn.desk, scope_symbol(turn.desk, scope)
    record = FreezeRecord(turn.now_ns, turn.n, symbol, trigger, reason, by)
    turn.desk = desk = attrs.evolve(desk, freezes=(*desk.freezes, record))
    turn.metric("freeze_triggered_total", 1, trigger.value)
    control = desk.controls.get(scope, _ACTIVE)
    local = desk.config.store.configured and trigger is not Trigger.PEER
    if control.mode in (Mode.FREEZING, Mode.FROZEN):
        _freeze_again(turn, scope, control, local)
        return
    epoch = desk.epoch + 1
    turn.desk = attrs.evolve(desk, epoch=epoch)
    put_control(
        turn, scope, Control(Mode.FREEZING, epoch, trigger, reason, by, turn.now_ns, False, not local, None)
    )
    turn.emit(ModeChanged, symbol, Mode.FREEZING, epoch, trigger, reason, by)
    sweep.begin(turn)
    if local:
        turn.emit(PublishFreeze, symbol, trigger, reason, by)
    turn.metric("mm_freeze_active", 1)
    turn.metric("mm_freeze_epoch", epoch)
    turn.alert(Severity.CRITICAL, "frozen", f"{symbol or 'the account'} is frozen ({trigger.value}): {reason}", 0, symbol)


def _freeze_again(turn: Turn, scope: int, control: Control, local: bool) -> None:
    """Who says freeze now knows nothing of an unfreeze that waits for the store, and wins: its answer is no longer waited for."""
    if control.unfreeze is not None:
        put_control(turn, scope, attrs.evolve(control, unfreeze=None, published=not local))
        if local:
            turn.emit(PublishFreeze, scope_symbol(turn.desk, scope), control.trigger, control.reason, control.by)
    sweep.extend(turn)


def on_freeze(turn: Turn, event: Freeze) -> None:
    """A person, or a part of the runner, says freeze."""
    scope = scope_of(turn.desk, event.symbol)
    if scope is None:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured; freeze the account with an empty symbol")
        return
    freeze(turn, scope, event.trigger, event.reason, event.by)


def on_edge(turn: Turn, event: EdgeUpdate) -> None:
    """The edge trigger. It is a level, not a pulse: while the account is frozen, further low readings say nothing new."""
    if event.symbol not in turn.desk.index:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured")
        return
    threshold = turn.desk.config.limits.edge_freeze_threshold_bps
    control = turn.desk.controls.get(ACCOUNT, _ACTIVE)
    frozen = control.mode in (Mode.FREEZING, Mode.FROZEN) and control.unfreeze is None
    if threshold is None or event.edge_bps >= threshold or frozen:
        return
    reason = f"edge {to_text(event.edge_bps)} bps in {event.symbol} is below {to_text(threshold)} bps"
    freeze(turn, ACCOUNT, Trigger.EDGE_COLLAPSE, reason, "haltcore")


def recheck(turn: Turn) -> None:
    """A frozen scope in which an order is open again (a busted trade, say) is no longer proven empty: sweep it again."""
    _unproven(turn, [scope for scope in _proven(turn) if sweep.open_in_scope(turn, scope)])


def unprove(turn: Turn, symbol: str) -> None:
    """Something of ours may be open that our account does not show. Where the symbol is frozen, only lists asked for from now on count."""
    scopes = [scope for scope in _proven(turn) if scope_symbol(turn.desk, scope) in ("", symbol)]
    if scopes:
        _unproven(turn, scopes)
    elif sweep.covers(turn.desk, symbol):
        sweep.look_again(turn)


def _proven(turn: Turn) -> list[int]:
    return [scope for scope in frozen_scopes(turn.desk) if turn.desk.controls[scope].mode is Mode.FROZEN]


def _unproven(turn: Turn, scopes: list[int]) -> None:
    """These are FROZEN no longer: sweep again. An unfreeze that waits for the store was asked for a proven scope: its answer is no longer
    waited for, and what it may have cleared is published again."""
    for scope in scopes:
        control = turn.desk.controls[scope]
        published = control.published and control.unfreeze is None
        put_control(turn, scope, attrs.evolve(control, mode=Mode.FREEZING, verified=False, published=published, unfreeze=None))
        symbol = scope_symbol(turn.desk, scope)
        turn.emit(ModeChanged, symbol, Mode.FREEZING, control.epoch, control.trigger, "an order is open again", "haltcore")
    if scopes:
        sweep.begin(turn)


# --- out ------------------------------------------------------------------------------------------------------------


def on_unfreeze(turn: Turn, event: Unfreeze) -> None:
    """A person lifts a freeze. With a store, its latch must be cleared first; the mode changes on its answer."""
    scope = scope_of(turn.desk, event.symbol)
    refusal = _unfreeze_refusal(turn.desk, scope, event)
    if refusal is not None:
        turn.reject(*refusal)
        return
    assert scope is not None
    control = turn.desk.controls[scope]
    row = next((row for row in turn.desk.store.latch if row.symbol == event.symbol), None)
    if not turn.desk.config.store.configured or (row is None and turn.desk.store.ok and control.published):
        lift(turn, scope, event.by, event.why)
        return
    latch_epoch = row.epoch if row is not None else 0
    effect = turn.emit(ClearFreeze, event.symbol, latch_epoch, event.by, event.why)
    put_control(turn, scope, attrs.evolve(control, unfreeze=PendingUnfreeze(effect, event.by, event.why)))


def _unfreeze_refusal(desk: Desk, scope: int | None, event: Unfreeze) -> tuple[str, str] | None:
    if scope is None:
        return "unknown_symbol", f"{event.symbol!r} is not configured"
    control = desk.controls.get(scope, _ACTIVE)
    if control.mode not in (Mode.FREEZING, Mode.FROZEN):
        return "not_frozen", f"{event.symbol or 'the account'} is {control.mode.value}"
    if not event.by.strip() or not event.why.strip():
        return "who_and_why", "an unfreeze names who lifts it and why"
    if control.mode is Mode.FREEZING and not event.force:
        return "sweep_running", "orders may still be open; wait for the proof, or say force"
    if not desk.link.up:
        return "venue_down", "the connection to the venue is down"
    if control.unfreeze is not None:
        return "unfreeze_pending", "an unfreeze of this scope waits for the store"
    if desk.config.store.configured and not desk.store.ok:
        return "store_unavailable", "the store does not answer, and the other processes of the account must agree"
    return None


def on_cleared(turn: Turn, event: LatchAnswer) -> bool:
    """The store's answer to ``ClearFreeze``. True if some scope waited for it."""
    for scope in frozen_scopes(turn.desk):
        control = turn.desk.controls[scope]
        pending = control.unfreeze
        if pending is None or pending.effect != event.effect:
            continue
        put_control(turn, scope, attrs.evolve(control, unfreeze=None))
        if event.kind is LatchKind.OK:
            lift(turn, scope, pending.by, pending.why)
        else:
            turn.reject("unfreeze_" + event.kind.value, "the store did not clear the latch; the scope stays frozen")
        return True
    return False


def lift(turn: Turn, scope: int, by: str, why: str) -> None:
    """The scope is active again, under a new epoch."""
    desk = turn.desk
    control = desk.controls[scope]
    epoch = desk.epoch + 1
    symbol = scope_symbol(desk, scope)
    active = Control(Mode.ACTIVE, epoch, control.trigger, why, by, turn.now_ns, False, True, None)
    turn.desk = attrs.evolve(desk, epoch=epoch, controls=desk.controls.set(scope, active))
    turn.emit(ModeChanged, symbol, Mode.ACTIVE, epoch, control.trigger, why, by)
    turn.metric("mm_freeze_active", 1 if frozen_scopes(turn.desk) else 0)
    turn.metric("mm_freeze_epoch", epoch)
    sweep.narrow(turn)


def on_reduce_only(turn: Turn, event: SetReduceOnly) -> None:
    """Between ACTIVE and REDUCE_ONLY; a frozen scope stays frozen."""
    scope = scope_of(turn.desk, event.symbol)
    if scope is None:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured")
        return
    control = turn.desk.controls.get(scope, _ACTIVE)
    wanted = Mode.REDUCE_ONLY if event.on else Mode.ACTIVE
    if not event.by.strip() or not event.why.strip():
        turn.reject("who_and_why", "a change of mode names who makes it and why")
    elif control.mode in (Mode.FREEZING, Mode.FROZEN):
        turn.reject("frozen", "the scope is frozen; unfreeze it first")
    elif control.mode is wanted:
        turn.reject("no_change", f"the scope is {wanted.value} already")
    else:
        epoch = turn.desk.epoch + 1
        turn.desk = attrs.evolve(turn.desk, epoch=epoch)
        put_control(turn, scope, Control(wanted, epoch, Trigger.MANUAL, event.why, event.by, turn.now_ns, False, True, None))
        turn.emit(ModeChanged, event.symbol, wanted, epoch, Trigger.MANUAL, event.why, event.by)


# --- the last moment ------------------------------------------------------------------------------------------------


def may_send(core: Core, effect: Effect) -> str:
    """"" if the effect may leave now, else the code why not. To be asked at the instant before the bytes go.

    A place or replace is stopped when its scope is frozen now, or was at any time since it was decided, or when its order no longer
    waits for it. A cancel-all is stopped
    when the freeze it belongs to is over: a runner that was paused would otherwise cancel the orders of the next session.
    """
    desk = core.desk
    if desk is None:
        return "not_started"
    if isinstance(effect, (Place, Replace)):
        mode = effective_mode(desk, desk.index.get(effect.symbol, -1))
        if mode in (Mode.FREEZING, Mode.FROZEN):
            return "frozen_at_send"
        if effect.epoch < _epoch_floor(desk, effect.symbol):
            return "stale_epoch"
        return "" if _still_wanted(core, effect) else "superseded"
    if isinstance(effect, CancelAll):
        mode = effective_mode(desk, desk.index.get(effect.symbol, -1))
        return "" if mode in (Mode.FREEZING, Mode.FROZEN) else "freeze_over"
    return ""


def _still_wanted(core: Core, effect: Place | Replace) -> bool:
    """Whether the order waits for this very request. One that was given up meanwhile, after a time-out say, must not leave any more."""
    order = core.orders.get(effect.order)
    if order is None:
        return False
    pending = order.requests.place if isinstance(effect, Place) else order.requests.replace and order.requests.replace.effect
    return pending == effect.id


def _epoch_floor(desk: Desk, symbol: str) -> int:
    """The epoch of the last change of mode that concerns the symbol."""
    scopes = (ACCOUNT, desk.index.get(symbol, -1) + 1)
    return max(desk.controls[scope].epoch if scope in desk.controls else 0 for scope in scopes)
