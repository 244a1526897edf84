"""Canaries of gate, triggers and operators: bugs planted into the real core, each of which a layer has to find without knowing of it.

Method: as ``test_canaries.py``. Each bug is planted, then the simulation plays its plans, of the kind in which the bug could matter, until
a checker objects: an invariant of the core, checked at every record, or the truth of the venue. None of them asks the code that the
bug is in. Bugs of the sums themselves are planted in ``test_exposure.py``.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from attrs import frozen
from haltcore.fsm import ask, checks, cool_down, freeze, operators, risk, sweep_scope, turn
from haltcore.fsm.config import CoolDown, FreezeClass
from haltcore.fsm.exposure import FLAT, book_key

from tests.simulation.world import Plan, simulate

Plant = Callable[[pytest.MonkeyPatch], None]
PLANS = 400


@frozen
class Canary:
    """One bug, the kind of plans in which it can matter, and what the objection has to name."""

    name: str
    plant: Plant
    gate: str
    finds: str


def without(*codes: str) -> Plant:
    """The gate without these rows."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(risk, "CHECKS", tuple(check for check in risk.CHECKS if check.code not in codes))

    return plant


def reducing_alone(patch: pytest.MonkeyPatch) -> None:
    """Each reduce-only order is judged by itself: two of them can flip the position."""

    def alone(a: Any, owner: int) -> bool:
        book = ask.book_of(a, owner)
        sell = a.wanted.side is ask._SELL
        return bool(book.position > 0 and a.add_qty <= book.position) if sell else bool(book.position < 0 and a.add_qty <= -book.position)

    patch.setattr(checks, "reduces", alone)


def cool_down_for_everything(patch: pytest.MonkeyPatch) -> None:
    """Every freeze passes by itself, a loss and a person's word too."""
    policy = CoolDown(FreezeClass.EDGE, 300, 2_000, repeats=100)
    patch.setattr(cool_down, "_policy", lambda *_: policy)
    begin = freeze.freeze

    def freely(*args: Any, **named: Any) -> None:
        begin(*args, **{**named, "automatic": True})

    patch.setattr(freeze, "freeze", freely)
    patch.setattr(freeze, "keep", lambda *_: None)


def one_person_is_two(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "_same_person", lambda *_: False)


def expired_overrides_change_the_rules(patch: pytest.MonkeyPatch) -> None:
    """An override that expires leaves its figures behind."""
    end = operators.on_override_timer

    def keep(turn_: Any, key: int) -> None:
        override = next((o for o in turn_.desk.overrides if o.id == key), None)
        end(turn_, key)
        if override is not None:
            first, *rest = turn_.desk.rules
            turn_.desk = attrs.evolve(turn_.desk, rules=(attrs.evolve(first, limits=override.limits), *rest))

    patch.setattr(operators, "on_override_timer", keep)


def strategies_see_no_fills(patch: pytest.MonkeyPatch) -> None:
    """The books of strategies are not kept after the first change."""
    put = turn.Turn.put_book

    def forgetful(self: Any, key: int, book: Any) -> int:
        old = self.books.get(key)
        return 0 if key >= book_key(1, 0) and old is not None and old.open_orders else put(self, key, book)

    patch.setattr(turn.Turn, "put_book", forgetful)


def strategies_are_not_swept(patch: pytest.MonkeyPatch) -> None:
    """A frozen strategy counts as proven without a look at its orders."""
    ours = sweep_scope.ours
    patch.setattr(sweep_scope, "ours", lambda t: [] if sweep_scope.strategies(sweep_scope.freezing(t.desk)) else ours(t))


def tally_forgets(patch: pytest.MonkeyPatch) -> None:
    """What a book loses is not taken off the sums."""
    put = turn.Turn.put_book

    def upwards(self: Any, key: int, book: Any) -> int:
        before = self.account
        worse = put(self, key, book)
        if self.account.worst < before.worst and self.books.get(key, FLAT).position:
            self.account = attrs.evolve(self.account, worst=before.worst)
        return worse

    patch.setattr(turn.Turn, "put_book", upwards)


def sent_orders_count_when_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """Exposure is counted from the venue's word on, not from the decision (RTS 6 Art. 15(2))."""
    share = turn.share
    patch.setattr(turn, "share", lambda o: share(o) if o.accepted or not share(o)[4] else (*share(o)[:2], 0, 0, *share(o)[4:]))


CANARIES = (
    Canary("the inventory is not checked", without("max_inventory_usd"), "teams", "SAFE-11"),
    Canary("the total is not checked", without("max_total_notional"), "teams", "SAFE-11"),
    Canary("two reduce-only orders flip the position", reducing_alone, "tight", "SAFE-12"),
    Canary("restricted symbols and throttled strategies trade on", without("restricted", "throttled"), "tight", "SAFE-12"),
    Canary("reduce-only mode is forgotten", without("reduce_only"), "teams", "SAFE-12"),
    Canary("a cool-down lifts whatever froze", cool_down_for_everything, "teams", "SAFE-13"),
    Canary("one person verifies an own override", one_person_is_two, "tight", "SAFE-14"),
    Canary("an override stays behind when it expires", expired_overrides_change_the_rules, "teams", "SAFE-14"),
    Canary("a strategy's book is not kept", strategies_see_no_fills, "teams", "SAFE-5"),
    Canary("a frozen strategy is not swept", strategies_are_not_swept, "teams", "SAFE-6"),
    Canary("sums only grow", tally_forgets, "plain", "SAFE-5"),
    Canary("orders count only once they are acknowledged", sent_orders_count_when_acknowledged, "tight", "SAFE-5"),
)


def finding(gate: str) -> str:
    """What the first plan of this kind that objects has to say."""
    for seed in range(PLANS):
        plan = Plan.of(seed)
        if plan.gate != gate:
            continue
        try:
            simulate(plan)
        except Exception as error:
            return f"plan {seed}: {error}"
    return "nothing"


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_the_simulation_finds(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    canary.plant(monkeypatch)
    found = finding(canary.gate)
    assert canary.finds in found, f"the canary lives; instead: {found[:500]}"
