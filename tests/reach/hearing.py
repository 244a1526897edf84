"""How the core hears of something, and what becomes of the world by that.

One ``step``; the core's invariants and the world's properties checked on the spot; every effect put on its way. The other modules build
their moves from these functions.
"""

from collections.abc import Iterator

import attrs
from haltcore.effects import (
    Alert,
    Cancel,
    CancelAll,
    ClaimGuard,
    Denied,
    Effect,
    Metric,
    Mode,
    ModeChanged,
    OrdType,
    Place,
    Rejected,
    Replace,
)
from haltcore.fsm.core import effective_mode
from haltcore.fsm.events import Event, Freeze, OrderFilled, OrderReplaced, Outcome, OutcomeKind
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.lease import STALE_FENCE
from haltcore.fsm.order import is_done
from haltcore.fsm.outcomes import outcome as _outcome
from haltcore.fsm.outcomes import owes_outcome
from haltcore.fsm.step import step

from .search import Move
from .world import QUEUE, REPLY, SENT, Item, Report, Slot, World, covered, order_at, problems

Moves = Iterator[Move[World]]


def tell(world: World, label: str, event: Event | None, fair: bool = False, seen: tuple[str, ...] = ()) -> Move[World]:
    """One step of the core, and what it asks for put on the wire."""
    assert event is not None
    event = attrs.evolve(event, at_ns=world.now)
    before = world.core
    core, effects = step(before, event)
    wrong = broken(before, event, core, effects) + broken_state(core)
    if isinstance(event, Freeze):
        world = stop(world, event.scope)
    lifted = [e.scope for e in effects if isinstance(e, ModeChanged) and e.mode is Mode.ACTIVE]
    if lifted:
        world = attrs.evolve(world, stopped=tuple(scope for scope in world.stopped if scope not in lifted))
    placed = [core.orders[e.order].spec for e in effects if isinstance(e, (Place, Replace))]
    if any(covered(world.stopped, spec.symbol, spec.strategy) for spec in placed):
        wrong += ("SAFE-1: a place or replace was decided after the freeze",)
    for effect in effects:
        if isinstance(effect, ModeChanged) and effect.mode is Mode.FREEZING:
            world = stop(world, effect.scope)
    after = asked(attrs.evolve(world, core=core), effects)
    return Move(label, event, after, wrong + problems(after), seen + happened(world, event, after, effects), fair)


def stop(world: World, scope: str) -> World:
    """A scope is frozen in truth: what waits in our queue for it is doomed."""

    def dooms(item: Item) -> bool:
        effect = item.effect
        if not isinstance(effect, ClaimGuard) and (item.stage != QUEUE or not isinstance(effect, (Place, Replace))):
            return False
        spec = order_at(world, world.keys.index(effect.order)).spec
        return covered((scope,), spec.symbol, spec.strategy)

    wire = tuple(item._replace(doomed=True) if dooms(item) else item for item in world.wire)
    stopped = world.stopped if scope in world.stopped else tuple(sorted((*world.stopped, scope)))
    return attrs.evolve(world, wire=wire, stopped=stopped)


def asked(world: World, effects: tuple[Effect, ...]) -> World:
    keys, slots, wire = world.keys, world.slots, world.wire
    for effect in effects:
        if isinstance(effect, (Place, ClaimGuard)) and effect.order not in keys:
            spec, order = world.core.orders[effect.order].spec, world.core.orders[effect.order]
            conditional = spec.type in (OrdType.STOP_LIMIT, OrdType.STOP_MARKET)
            keys = (*keys, effect.order)
            slots = (*slots, Slot(SENT, spec.side, spec.symbol, conditional, order.qty, order.price or 0, 0))
        if owes_outcome(effect):
            wire = (*wire, Item(QUEUE, effect, None, False, False))
    return attrs.evolve(world, keys=keys, slots=slots, wire=wire)


def silent(label: str, world: World, fair: bool = False, seen: tuple[str, ...] = (), wrong: tuple[str, ...] = ()) -> Move[World]:
    """A move that the core does not hear of."""
    return Move(label, None, world, wrong + problems(world), seen, fair)


def named(effect: Effect) -> str:
    return f"{type(effect).__name__}{effect.id}"


def without(world: World, item: Item) -> World:
    at = world.wire.index(item)
    return attrs.evolve(world, wire=world.wire[:at] + world.wire[at + 1 :])


def answered(world: World, item: Item, event: Event) -> World:
    """The request is through, its answer is on its way."""
    at = world.wire.index(item)
    answer = Item(REPLY, item.effect, event, item.doomed and isinstance(item.effect, ClaimGuard), False)
    return attrs.evolve(world, wire=(*world.wire[:at], answer, *world.wire[at + 1 :]))


def fault(world: World, kind: str) -> World | None:
    """The world with one fault less to come, or None if this one may not happen."""
    if world.faults == 0 or kind not in world.setup.kinds:
        return None
    return attrs.evolve(world, faults=world.faults - 1)


def outcome(item: Item, kind: OutcomeKind, code: str = "") -> Outcome:
    return _outcome(item.effect, 0, kind, code)


def client_of(world: World, number: int) -> str:
    return order_at(world, number).spec.client_id


def book(world: World, number: int, slot: Slot, *reports: Report) -> World:
    slots = (*world.slots[:number], slot, *world.slots[number + 1 :])
    return attrs.evolve(world, slots=slots, reports=(*world.reports, *reports))


# --- what happened ------------------------------------------------------------------------------------------

def happened(before: World, event: Event, after: World, effects: tuple[Effect, ...]) -> tuple[str, ...]:
    """Names of the things worth having been seen."""
    seen = [effect.code for effect in effects if isinstance(effect, Alert)]
    if isinstance(event, Outcome) and event.code == STALE_FENCE:
        seen.append("cancelled anew without the lost lease" if any(isinstance(e, (Cancel, CancelAll)) for e in effects) else "stale")
    seen += [f"{e.mode.value}" for e in effects if isinstance(e, ModeChanged)]
    seen += [effect.code for effect in effects if isinstance(effect, (Denied, Rejected))]
    if any(isinstance(e, Metric) and e.name == "mm_cancel_all_skipped_total" for e in effects):
        seen.append("sweep verified after a held lease")
    assert before.core.desk is not None
    sweep = before.core.desk.sweep
    if "late_fill" in seen:
        mode = effective_mode(before.core.desk, 0, 0)
        seen.append(f"late fill while {mode.value}")
    if isinstance(event, OrderReplaced) and sweep is not None:
        seen.append("replace accepted while being frozen")
    if sweep is not None and sweep.watched is not None and any(isinstance(e, Cancel) for e in effects):
        seen.append("cancelled what a held lease left over")
    for number, key in enumerate(before.keys):
        old, new = before.core.order(key), order_at(after, number)
        assert old is not None
        if old.unknown and new.accepted:
            seen.append("unknown order turned out live")
        if old.requests.cancel is not None and is_done(new) and not is_done(old) and isinstance(event, OrderFilled):
            seen.append("cancel lost to a fill")
        if is_done(old) and not is_done(new):
            seen.append("a finished order is open again")
    return tuple(seen)
