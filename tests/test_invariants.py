"""Every invariant can tell a broken state or step from a sound one.

Method: for each predicate a violation is made by hand, from a sound session, by changing one thing; the invariant must name itself, and
must be silent about the sound original.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.effects import (
    CancelAll,
    Effect,
    FetchOpenOrders,
    Mode,
    ModeChanged,
    Notional,
    Place,
    Purpose,
    Qty,
    Replace,
    Trigger,
    Usd,
    qty,
)
from haltcore.fsm.core import Core, Desk
from haltcore.fsm.events import Event, FetchedOrders, MarkPrice, OpenOrders, OrderFilled, SubmitOrder, TimerFired
from haltcore.fsm.invariants import INVARIANTS, broken, broken_state
from haltcore.fsm.order import Ended, Order
from haltcore.fsm.step import step

from tests.helpers import BTC, BUY, Session, foreign_row, price

Step = tuple[Core, Event, Core, list[Effect]]


def names(found: tuple[str, ...]) -> set[str]:
    return {text.split(":")[0] for text in found}


def taken(s: Session, event: Event) -> Step:
    """One sound step."""
    after, effects = step(s.core, event)
    assert broken(s.core, event, after, effects) == ()
    return s.core, event, after, list(effects)


def submitted() -> Step:
    s = Session()
    return taken(s, SubmitOrder(s.now, BTC, BUY, qty(1), price(1)))


def tick(s: Session) -> Step:
    return taken(s, MarkPrice(s.now, BTC, price(7)))


def with_order(core: Core, order: Order, closed: bool = False) -> Core:
    """The core with this order written over, its books left as they were."""
    orders = core.orders.delete(order.key) if closed and order.key in core.orders else core.orders
    orders = orders if closed else orders.set(order.key, order)
    return attrs.evolve(core, orders=orders, closed=core.closed.set(order.key, order) if closed else core.closed, touched=(order.key,))


def place_while_frozen() -> Step:
    before, event, after, effects = submitted()
    s = Session()
    s.freeze()
    return attrs.evolve(before, desk=s.core.desk), event, after, effects


def replace_after_frozen() -> Step:
    s = Session()
    before, key = s.core, s.working()
    s.replace(key, 12)
    effects = [effect for effect in s.effects if isinstance(effect, Replace)]
    s.freeze()
    return before, MarkPrice(s.now, BTC, price(1)), s.core, list(effects)


def ended_by_a_timer() -> Step:
    s = Session()
    key = s.working()
    before, _, after, effects = tick(s)
    ended = attrs.evolve(s.order(key), ended=Ended.CANCELLED)
    return before, TimerFired(s.now, (1, 1), Purpose.ORDER, key), with_order(after, ended, closed=True), effects


def ended_by_an_empty_list() -> Step:
    before, _, after, effects = ended_by_a_timer()
    return before, OpenOrders(0, (1, 1), "", False, FetchedOrders(())), after, effects


def filled_quantity_falls() -> Step:
    s = Session()
    key = s.working()
    s.fill(key, 4)
    before, event, after, effects = tick(s)
    order = s.order(key)
    return before, event, with_order(after, attrs.evolve(order, fills=attrs.evolve(order.fills, traded=Qty(0)))), effects


def two_places() -> Step:
    before, event, after, effects = submitted()
    return before, event, after, effects * 2


def place_under_a_foreign_id() -> Step:
    before, event, after, effects = submitted()
    return before, event, after, [attrs.evolve(e, client_id="other") if isinstance(e, Place) else e for e in effects]


def place_of_an_old_order() -> Step:
    _, event, after, effects = submitted()
    return after, event, after, effects


def exposure_forgets_an_order() -> Step:
    before, event, after, effects = submitted()
    return before, event, attrs.evolve(after, books=before.books), effects


def order_vanishes() -> Step:
    before, event, after, effects = submitted()
    return before, event, attrs.evolve(after, orders=before.orders), effects


def proven() -> Step:
    s = Session()
    s.freeze()
    s.lists_all()
    *_, last = s.got(FetchOpenOrders)
    first = s.got(FetchOpenOrders)[0]
    s.lists(first)
    return taken(s, OpenOrders(s.now, last.id, last.symbol, last.conditional, FetchedOrders(())))


def with_sweep(step_: Step, **fields: Any) -> Step:
    before, event, after, effects = step_
    assert before.desk is not None
    assert before.desk.sweep is not None
    desk = attrs.evolve(before.desk, sweep=attrs.evolve(before.desk.sweep, **fields))
    return attrs.evolve(before, desk=desk), event, after, effects


def frozen_without_a_sweep() -> Step:
    s = Session()
    before, event, after, effects = tick(s)
    return before, event, after, [*effects, ModeChanged((9, 0), "", Mode.FROZEN, 1, Trigger.MANUAL, "", "")]


def frozen_by_a_mark() -> Step:
    before, _, after, effects = proven()
    return before, MarkPrice(0, BTC, price(1)), after, effects


def frozen_with_an_order() -> Step:
    before, event, after, effects = proven()
    s = Session()
    return before, event, with_order(after, s.order(s.working())), effects


EDGES: list[tuple[str, Callable[[], Step]]] = [
    ("SAFE-1", place_while_frozen),
    ("SAFE-1", replace_after_frozen),
    ("SAFE-2", ended_by_a_timer),
    ("SAFE-2", ended_by_an_empty_list),
    ("SAFE-3", filled_quantity_falls),
    ("SAFE-4", two_places),
    ("SAFE-4", place_under_a_foreign_id),
    ("SAFE-4", place_of_an_old_order),
    ("SAFE-5", exposure_forgets_an_order),
    ("SAFE-5", order_vanishes),
    ("SAFE-6", frozen_without_a_sweep),
    ("SAFE-6", frozen_by_a_mark),
    ("SAFE-6", frozen_with_an_order),
    ("SAFE-6", lambda: with_sweep(proven(), streak=0)),
    ("SAFE-6", lambda: with_sweep(proven(), rows=(foreign_row("x"),))),
    ("SAFE-6", lambda: with_sweep(proven(), unread=(("", False),))),
]


@pytest.mark.parametrize(("name", "violate"), EDGES)
def test_each_step_predicate_finds_its_violation(name: str, violate: Callable[[], Step]) -> None:
    assert name in names(broken(*violate()))


def working_core() -> Core:
    s = Session()
    s.mark(100)
    s.fill(s.working(), 4)
    return s.core


def _order(core: Core) -> Order:
    (order,) = core.orders.values()
    return order


def _misfilled(core: Core) -> Order:
    """Its trades sum to 4."""
    order = _order(core)
    return attrs.evolve(order, fills=attrs.evolve(order.fills, traded=qty(5)))


def _book(core: Core, **fields: Any) -> Core:
    return attrs.evolve(core, books=core.books.set(0, attrs.evolve(core.books[0], **fields)))


def _frozen_desk() -> Desk | None:
    s = Session()
    s.freeze()
    s.prove_empty()
    return s.core.desk


STATES: list[tuple[str, Callable[[Core], Core]]] = [
    ("SAFE-3", lambda core: with_order(core, _misfilled(core))),
    ("SAFE-3", lambda core: _book(core, unknown_buy=-1)),
    ("SAFE-5", lambda core: _book(core, buy_qty=qty(5))),
    ("SAFE-5", lambda core: _book(core, buy_value=Notional(0))),
    ("SAFE-5", lambda core: _book(core, open_orders=2)),
    ("SAFE-5", lambda core: _book(core, unknown_sell=1)),
    ("SAFE-5", lambda core: attrs.evolve(core, total=Notional(1))),
    ("SAFE-5", lambda core: attrs.evolve(core, books=core.books.delete(0))),
    ("SAFE-5", lambda core: with_order(core, attrs.evolve(_order(core), ended=Ended.CANCELLED))),
    ("SAFE-5", lambda core: with_order(core, _order(core), closed=True)),
    ("SAFE-6", lambda core: attrs.evolve(core, desk=_frozen_desk())),
]


@pytest.mark.parametrize(("name", "violate"), STATES)
def test_each_state_predicate_finds_its_violation(name: str, violate: Callable[[Core], Core]) -> None:
    core = working_core()
    assert broken_state(core) == ()
    assert name in names(broken_state(violate(core)))


def test_every_predicate_is_tried() -> None:
    assert {inv.name for inv in INVARIANTS if inv.edge} == {name for name, _ in EDGES}
    assert {inv.name for inv in INVARIANTS if inv.state} == {name for name, _ in STATES}


def test_sound_steps_break_nothing() -> None:
    for sound in (submitted(), proven()):
        assert broken(*sound) == ()
    s = Session()
    key = s.working()
    taken(s, OrderFilled(s.now, s.client_id(key), "v", "t", qty(10), price(1), Qty(0), Usd(0)))
    s.freeze()
    assert s.got(CancelAll)
