"""Guards in a small world: what becomes of claims and settlements in a store that keeps them by the rules of ``fsm/guard.py``.

A claim is granted or not by the rows that there are and by the store's latch, or a setup lets other processes be in the way (``claims``).
As a fault it does not arrive, arrives and the answer is lost, or is answered as lost and arrives later. What a dead process had asked for
may still arrive. A grant is good until the next tick.
"""

from typing import NamedTuple

import attrs
from haltcore.effects import ClaimGuard, GuardState, SettleGuard
from haltcore.fsm import freeze as gateway
from haltcore.fsm.events import GuardAnswer, GuardKind
from haltcore.fsm.guard import on_claim, on_settle

from .hearing import Moves, answered, fault, named, silent, without
from .world import QUEUE, ZOMBIE, Item, World


class Row(NamedTuple):
    """A row of the store, and the number of the order whose it is."""

    key: str
    owner: str
    params: str
    number: int
    replace: bool
    state: GuardState


def claims(world: World, item: Item) -> Moves:
    """What may become of a claim."""
    effect, name = item.effect, named(item.effect)
    assert isinstance(effect, ClaimGuard)
    done, kind = _claimed(world, effect)
    if item.stage == ZOMBIE:
        yield silent(f"{name} arrives, though nobody waits for it", without(done, item))
        return
    code = gateway.may_send(world.core, effect, world.now)
    if code:
        held = answered(world, item, _answer(world, effect, GuardKind.UNAVAILABLE, code))
        yield silent(f"{name} is held back: {code}", held, True, ("a claim was held back",))
        return
    yield silent(f"{name} is answered {kind.value}", answered(done, item, _answer(world, effect, kind)), True, (f"claim {kind.value}",))
    for word in world.setup.claims:
        other = GuardKind(word)
        yield silent(f"{name} is answered {word}", answered(world, item, _answer(world, effect, other)), True, (f"claim {word}",))
    if (faulty := fault(world, "claim")) is not None:
        lost = _answer(world, effect, GuardKind.IN_DOUBT)
        away = answered(faulty, item, _answer(world, effect, GuardKind.UNAVAILABLE))
        yield silent(f"{name} does not reach the store", away)
        yield silent(f"{name} is done, the answer is lost", answered(_claimed(faulty, effect)[0], item, lost), seen=("claim in doubt",))
        late = attrs.evolve(faulty, wire=(*faulty.wire, item._replace(stage=ZOMBIE)))
        yield silent(f"{name} is lost, and will arrive", answered(late, item, lost), seen=("claim in doubt",))


def settlements(world: World, item: Item) -> Moves:
    """What may become of a settlement."""
    effect, name = item.effect, named(item.effect)
    assert isinstance(effect, SettleGuard)
    row = next((row for row in world.guards if row.key == effect.key), None)
    same = row is not None and (row.owner, row.params) == (effect.owner, effect.params)
    decision = on_settle(effect.state, row.state if row is not None else None, same, same)
    done = world
    if decision.writes is not None:
        number = world.keys.index(effect.order)
        replace = row.replace if row is not None else int(effect.owner.split(":")[1]) != effect.order
        done = _written(world, Row(effect.key, effect.owner, effect.params, number, replace, decision.writes))
    yield silent(f"{name} is {decision.kind.value}", answered(done, item, _answer(world, effect, decision.kind)), True)
    if (faulty := fault(world, "settle")) is not None:
        doubt = attrs.evolve(faulty, guards=done.guards)
        yield silent(f"{name} does not reach the store", answered(faulty, item, _answer(world, effect, GuardKind.UNAVAILABLE)))
        yield silent(f"{name} is done, the answer is lost", answered(doubt, item, _answer(world, effect, GuardKind.IN_DOUBT)))


def left_behind(world: World, item: Item) -> bool:
    """Whether a claim that a dead process had in its hands may still arrive."""
    return isinstance(item.effect, ClaimGuard) and item.stage == QUEUE and not gateway.may_send(world.core, item.effect, world.now)


def _claimed(world: World, effect: ClaimGuard) -> tuple[World, GuardKind]:
    row = next((row for row in world.guards if row.key == effect.key), None)
    own, same = (row.owner == effect.owner, row.params == effect.params) if row is not None else (False, False)
    decision = on_claim(row.state if row is not None else None, own, same)
    if decision.kind is not GuardKind.CLAIMED:
        return world, decision.kind
    if any(latched.scope in effect.scopes for latched in world.latch):
        return world, GuardKind.FROZEN
    if decision.writes is None:
        return world, decision.kind
    replace = effect.id[0] != effect.order
    number = world.keys.index(effect.order)
    return _written(world, Row(effect.key, effect.owner, effect.params, number, replace, decision.writes)), decision.kind


def _written(world: World, row: Row) -> World:
    return attrs.evolve(world, guards=(*(other for other in world.guards if other.key != row.key), row))


def _answer(world: World, effect: ClaimGuard | SettleGuard, kind: GuardKind, code: str = "") -> GuardAnswer:
    until = world.now + 1 if kind is GuardKind.CLAIMED else 0
    return GuardAnswer(0, effect.id, effect.order, kind, until, "", "", code)
