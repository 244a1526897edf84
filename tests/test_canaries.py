"""Canaries: bugs planted into the core, each of which the layer that is meant to find it has to find. A layer that lets its canary live
proves nothing by its silence.

Method: each canary changes one rule, table cell or function of the real core, and the layer is run as in its own test. The search has to
come back with the expected property broken, the state machine has to fail. Without the canary both are silent: that is what their own
tests say.

========= =========================================================================================================
layer     finds by
========= =========================================================================================================
search    an invariant of the core on an edge or a state, or a property of the small world (tests/reach)
machine   the comparison with the model after all evidence is in (tests/machine)
========= =========================================================================================================
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from attrs import frozen
from haltcore.effects import NO_FENCE, Place
from haltcore.fsm import exposure, freeze, order, order_evidence, order_requests, order_rules, risk, sweep, sweep_scope, turn
from haltcore.fsm.events import FetchedOrders, FetchFailed, OpenOrders, Restarted
from haltcore.fsm.order import Ended, Order
from haltcore.fsm.order_change import Note
from haltcore.fsm.order_rules import TABLE
from haltcore.fsm.step import HANDLERS
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from immutables import Map

from .machine.test_machine import Life
from .reach.test_reach import BOTH_BOOKS, explore
from .reach.trail import program
from .reach.world import Setup

Plant = Callable[[pytest.MonkeyPatch], None]


@frozen
class Canary:
    """One bug, and by which property the search has to find it; no setup: the machine has to."""

    name: str
    plant: Plant
    setup: Setup | None = None
    breaks: str = ""


# --- the bugs ---------------------------------------------------------------------------------------------------------


def cells(row: str, rule: Any, *columns: int) -> Plant:
    """Another rule in some cells of the table, by default in all."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        old = TABLE[row]
        patch.setitem(TABLE, row, tuple(rule if i in (columns or range(7)) else old[i] for i in range(7)))

    return plant


def gate_forgets_the_freeze(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(risk, "CHECKS", tuple(check for check in risk.CHECKS if check.code not in ("frozen", "sweeping")))


def everything_may_be_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(freeze, "may_send", lambda *_: "")


def epoch_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(freeze, "epoch_floor", lambda *_: 0)


def revive(o: Order, e: Any, t: Any) -> Any:
    after, notes = order_rules.fill(o, e, t)
    return attrs.evolve(after, ended=Ended.NO), notes


def count_again(o: Order, e: Any, t: Any) -> Any:
    name = e.trade_id + "again" if e.trade_id in o.fills.trades else e.trade_id
    return order_rules.fill(o, attrs.evolve(e, trade_id=name), t)


def end_at_once(o: Order, *_: Any) -> Any:
    return attrs.evolve(o, ended=Ended.REJECTED, requests=order.NO_REQUESTS), (Note.NEVER_ARRIVED,)


def failure_is_emptiness(patch: pytest.MonkeyPatch) -> None:
    handle = HANDLERS[OpenOrders]

    def on_open_orders(turn: Any, event: OpenOrders) -> None:
        handle(turn, attrs.evolve(event, result=FetchedOrders(())) if isinstance(event.result, FetchFailed) else event)

    patch.setitem(HANDLERS, OpenOrders, on_open_orders)


def one_list_proves_it(patch: pytest.MonkeyPatch) -> None:
    decide = sweep._decide

    def hasty(turn: Any) -> None:
        sweep._put(turn, attrs.evolve(sweep._get(turn), streak=turn.desk.config.sweep.empty_snapshots - 1))
        decide(turn)

    patch.setattr(sweep, "_decide", hasty)


def conditional_book_is_not_swept(patch: pytest.MonkeyPatch) -> None:
    books, targets = sweep._bulk_books, sweep._targets
    patch.setattr(sweep, "_bulk_books", lambda *args: [book for book in books(*args) if not book[1]])
    patch.setattr(sweep, "_targets", lambda *args: [target for target in targets(*args) if not target[1]])


def placed_again_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    handle = HANDLERS[Restarted]

    def on_restarted(turn: Any, event: Restarted) -> None:
        handle(turn, event)
        for o in turn.orders.values():
            s = o.spec
            whose = (s.strategy, s.trader, s.client)
            turn.emit(Place, o.key, s.client_id, s.symbol, s.side, s.type, o.qty, o.price, None, s.tif, False, False, *whose, 0, NO_FENCE)

    patch.setitem(HANDLERS, Restarted, on_restarted)


def unknown_orders_do_not_count(patch: pytest.MonkeyPatch) -> None:
    def forgetful(o: Order) -> Any:
        filled, cost, left, value, opened, unknown = exposure.share(o)
        return (filled, cost, 0, 0, opened, unknown) if o.unknown else (filled, cost, left, value, opened, unknown)

    patch.setattr(turn, "share", forgetful)


def pending_replace_does_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Order, "leaves_qty", property(lambda o: max(0, o.qty - o.cum_qty) if o.ended is Ended.NO else 0))


def flight_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    ours = sweep_scope.ours
    patch.setattr(sweep_scope, "ours", lambda turn: [o for o in ours(turn) if o.accepted])


def old_answers_count(patch: pytest.MonkeyPatch) -> None:
    for module in (order_evidence, order_requests):
        patch.setattr(module, "overtaken", lambda o: (o, ()))


def early_cancel_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    for module in (order_evidence, order_requests):
        patch.setattr(module, "wanted", lambda _: ())


def freeze_is_lifted_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    handle = HANDLERS[Restarted]

    def on_restarted(turn: Any, event: Restarted) -> None:
        turn.desk = attrs.evolve(turn.desk, controls=Map())
        handle(turn, event)

    patch.setitem(HANDLERS, Restarted, on_restarted)


# --- who has to find them -----------------------------------------------------------------------------------------------

_ONE = ("buy:1", "freeze:")
CANARIES = (
    Canary("the gate forgets the freeze", gate_forgets_the_freeze, Setup("", _ONE), "SAFE-1"),
    Canary("the last moment forgets the freeze", everything_may_be_sent, Setup("", _ONE), "SAFE-1"),
    Canary("the epoch of a freeze is forgotten", epoch_is_forgotten, Setup("", ("buy:1", "freeze:", "force:")), "SAFE-1"),
    Canary("a restart lifts the freeze", freeze_is_lifted_by_a_restart, Setup("", ("freeze:", "restart", "buy:1")), "SAFE-1"),
    Canary("a time-out ends the order", cells("place_in_doubt", end_at_once), Setup("", _ONE, faults=1, kinds=("timeout",)), "SAFE-2"),
    Canary("a restart places again", placed_again_after_a_restart, Setup("", ("buy:1", "restart")), "SAFE-4"),
    Canary("unknown orders do not count", unknown_orders_do_not_count, Setup("", _ONE, faults=1, kinds=("timeout",)), "SAFE-5"),
    Canary(
        "not found ends the order before it can no longer arrive", cells("not_found", end_at_once),
        Setup("", _ONE, faults=1, kinds=("timeout",)), "SAFE-5",
    ),
    Canary("a pending replace does not count", pending_replace_does_not_count, Setup("", ("buy:2", "replace:0:3:20")), "SAFE-5"),
    Canary(
        "an answer from before the change counts", old_answers_count,
        Setup("", ("buy:2", "replace:0:3:20"), faults=1, kinds=("timeout",)), "SAFE-5",
    ),
    Canary("a failed list is an empty one", failure_is_emptiness, Setup("", _ONE, faults=1, kinds=("failed",)), "SAFE-6"),
    Canary("one empty list proves it", one_list_proves_it, Setup("", _ONE), "SAFE-6"),
    Canary("an order in flight is not waited for", flight_is_not_waited_for, Setup("", _ONE), "SAFE-6"),
    Canary(
        "a trade is counted twice", cells("filled", count_again), Setup("", ("buy:2",), faults=1, kinds=("dup",), fills=1), "LEDGER"
    ),
    Canary("a bust is ignored", cells("busted", order_rules.ignore), Setup("", ("buy:1", "bust:0"), fills=1), "LEDGER"),
    Canary("an early cancel is forgotten", early_cancel_is_forgotten, Setup("", ("buy:1", "cancel:0")), "ATTENDED"),
    Canary(
        "the conditional book is not swept", conditional_book_is_not_swept, Setup("", ("stop:1", "freeze:"), BOTH_BOOKS), "LIVE"
    ),
    Canary("a late fill revives the order", cells("filled", revive, 4)),
    Canary("a repeated trade is counted twice", cells("filled", count_again)),
    Canary("a correction is ignored", cells("corrected", order_rules.ignore)),
    Canary("a cancel ends an order that it was refused for", cells("cancel_refused", end_at_once)),
)  # fmt: skip


@pytest.mark.parametrize("canary", [c for c in CANARIES if c.setup is not None], ids=lambda canary: canary.name)
def test_the_search_finds(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    assert canary.setup is not None
    canary.plant(monkeypatch)
    found = explore(canary.setup, 50_000)
    assert found.problems, f"the canary lives: {found}"
    assert any(problem.startswith(canary.breaks) for problem in found.problems), program(found)


@pytest.mark.parametrize("canary", [c for c in CANARIES if c.setup is None], ids=lambda canary: canary.name)
def test_the_machine_finds(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    canary.plant(monkeypatch)
    few = settings(
        max_examples=1_000, stateful_step_count=60, phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Life, settings=few)
