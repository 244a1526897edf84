"""Canaries of the guard: bugs planted into the core that the search over small worlds has to find; see ``test_canaries.py``.

Method: as there. Each is a fault that a design of this kind has had somewhere: whoever is refused sends all the same, what is unknown is
called undone, a claim of unknown fate is forgotten, what was claimed is sent again by the next process, a freeze in between is overlooked.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import GuardState
from haltcore.fsm import guards
from haltcore.fsm.events import GuardKind, Restarted
from haltcore.fsm.step import HANDLERS

from .reach.test_reach import GUARDED, explore
from .reach.trail import program
from .reach.world import Setup
from .test_canaries import Canary


def held_is_good_enough(patch: pytest.MonkeyPatch) -> None:
    denial = guards._denial

    def lenient(turn: Any, event: Any, *rest: Any) -> Any:
        held = event.kind is GuardKind.HELD
        return denial(turn, attrs.evolve(event, kind=GuardKind.CLAIMED, valid_until_ns=2**62) if held else event, *rest)

    patch.setattr(guards, "_denial", lenient)


def unknown_is_called_undone(patch: pytest.MonkeyPatch) -> None:
    known = guards._known

    def hasty(*args: Any) -> GuardState:
        state = known(*args)
        return GuardState.REJECTED if state is GuardState.IN_DOUBT else state

    patch.setattr(guards, "_known", hasty)


def claims_in_doubt_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_MAYBE", ())


def nobody_tells_the_store(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "after", lambda *_: None)


def a_restart_sends_what_was_claimed(patch: pytest.MonkeyPatch) -> None:
    handle = HANDLERS[Restarted]

    def on_restarted(turn: Any, event: Restarted) -> None:
        waiting = [order for order in turn.orders.values() if order.claiming]
        handle(turn, event)
        for order in waiting:
            place = guards.place(turn, order.key, order.spec, order.qty, order.price, turn.desk.epoch)
            requests = attrs.evolve(order.requests, place=place, claim=None)
            turn.put_order(turn.order(order.key), attrs.evolve(order, requests=requests))

    patch.setitem(HANDLERS, Restarted, on_restarted)


def a_freeze_in_between_is_overlooked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "denied_again", lambda _: None)
    patch.setattr(guards, "epoch_floor", lambda *_: 0)


_TWICE = Setup("", ("buy:1", "buy:1"), GUARDED, once=True, faults=1, kinds=("claim", "timeout", "poll"), swift=True, ordered=True)
CANARIES = (
    Canary("whoever finds it held sends all the same", held_is_good_enough, _TWICE, "SAFE-9"),
    Canary("an order in doubt is called undone", unknown_is_called_undone, _TWICE, "STORE"),
    Canary("a claim in doubt is forgotten", claims_in_doubt_are_forgotten, _TWICE, "LIVE"),
    Canary("the store is told nothing", nobody_tells_the_store, _TWICE, "SAFE-9"),
    Canary("a restart sends what was claimed", a_restart_sends_what_was_claimed, Setup("", ("buy:1", "restart"), GUARDED), "SAFE-9"),
    Canary(
        "a freeze in between is overlooked", a_freeze_in_between_is_overlooked, Setup("", ("buy:1", "freeze:"), GUARDED, lease=("held",)),
        "SAFE-1",
    ),
)  # fmt: skip


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_the_search_finds(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    assert canary.setup is not None
    canary.plant(monkeypatch)
    found = explore(canary.setup, 50_000)
    assert found.problems, f"the canary lives: {found}"
    assert any(problem.startswith(canary.breaks) for problem in found.problems), program(found)
