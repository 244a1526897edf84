"""Every invariant can tell a broken state or step from a sound one.

Method: for each predicate a violation is made by hand, from a sound session, by changing one thing; the invariant must name itself, and
must be silent about the sound original.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    BreakerMode,
    CancelAll,
    ClaimGuard,
    Effect,
    Fence,
    FetchOpenOrders,
    GuardState,
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
    usd,
)
from haltcore.fsm.breaker import Breaker
from haltcore.fsm.breaker_copy import Copy
from haltcore.fsm.config import BreakerPolicy, StoreCheck, StorePolicy
from haltcore.fsm.core import Core, Desk, Guard, Lease, PlaceBreaker
from haltcore.fsm.events import (
    ChangeLimits,
    Event,
    FetchedOrders,
    GuardAnswer,
    GuardKind,
    MarkPrice,
    OpenOrders,
    OrderFilled,
    OverrideLimits,
    SetReduceOnly,
    StoreHealth,
    SubmitOrder,
    TimerFired,
    Unfreeze,
)
from haltcore.fsm.exposure import Tally
from haltcore.fsm.invariants import INVARIANTS, broken, broken_state
from haltcore.fsm.levels import levels_of
from haltcore.fsm.limits import LimitRule, Limits, Override
from haltcore.fsm.order import Ended, Order
from haltcore.fsm.step import step
from haltcore.fsm.turn import resting_levels
from immutables import Map

from tests.helpers import BTC, BUY, ETH, Session, foreign_row, price

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


# --- limits and operators ---------------------------------------------------------------------------------------------


def desk_of(core: Core) -> Desk:
    assert core.desk is not None
    return core.desk


def under(step_: Step, which: str, **fields: Any) -> Step:
    """The step with other fields on the desk: before it, after it, or both."""
    before, event, after, effects = step_
    if which != "after":
        before = attrs.evolve(before, desk=attrs.evolve(desk_of(before), **fields))
    if which != "before":
        after = attrs.evolve(after, desk=attrs.evolve(desk_of(after), **fields))
    return before, event, after, effects


def limited(**figures: Any) -> Step:
    """An order of 1 went out, and then there was a limit."""
    return under(submitted(), "both", rules=(LimitRule(Limits(**figures)),))


def owned() -> Step:
    """An order of a strategy that has books of its own."""
    s = Session(strategies=("mm",))
    return taken(s, SubmitOrder(s.now, BTC, BUY, qty(1), price(1), strategy="mm"))


def reduce_only_in(scope: str) -> Step:
    s = Session(strategies=("mm",))
    s.feed(SetReduceOnly(s.now, scope, True, "ops", "test"))
    return under(owned(), "before", controls=desk_of(s.core).controls)


def flagged_reduce_only() -> Step:
    before, event, after, effects = submitted()
    order = next(iter(after.orders.values()))
    spec = attrs.evolve(order.spec, reduce_only=True)
    return before, event, attrs.evolve(after, orders=after.orders.set(order.key, attrs.evolve(order, spec=spec))), effects


def lifted(event: Event, trigger: Trigger, cool_down: bool = False) -> Step:
    """A proven freeze of that trigger is lifted in this step."""
    s = Session()
    s.freeze(trigger=trigger)
    s.prove_empty()
    control = attrs.evolve(desk_of(s.core).controls[0], cool_down=(1, 1) if cool_down else None)
    core = attrs.evolve(s.core, desk=attrs.evolve(desk_of(s.core), controls=desk_of(s.core).controls.set(0, control)))
    return core, event, core, [ModeChanged((9, 0), "", Mode.ACTIVE, 2, trigger, "well", "nobody")]


def override(by: str, verified_by: str) -> Override:
    return Override(3, Limits(max_open_orders=9), "", "", 2 * 10**18, by, "why", verified_by, None)


MARK = MarkPrice(0, BTC, price(1))
CHANGE = ChangeLimits(0, LimitRule(Limits(max_open_orders=9)), "ops", "why")
OVERRIDE = OverrideLimits(0, "", "", Limits(max_open_orders=9), 1, "ops", "why")
TIMER = TimerFired(0, (1, 1), Purpose.COOL_DOWN, 0)


def changed(event: Event, two_persons: bool = False, **fields: Any) -> Step:
    """Rules or overrides are others after this event."""
    s = Session(two_persons=two_persons)
    before, _, after, effects = tick(s)
    return under((before, event, after, effects), "after", **fields)


def closed_by_nobody() -> Step:
    """The breaker was open, and a mark price comes. Its other violations stand in ``test_invariants_breaker.py``."""
    s = Session(breaker=BreakerPolicy())
    before, event, after, effects = tick(s)
    opened = Breaker(BreakerMode.FORCED_OPEN, 2, s.now, by="ann", why="why")
    return attrs.evolve(before, flow=attrs.evolve(before.flow, breaker=PlaceBreaker(Copy(opened), 1))), event, after, effects


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
    ("SAFE-8", lambda: leased(fence=Fence(1, 2))),
    ("SAFE-8", lambda: leased(late_ms=30_000)),
    ("SAFE-8", lambda: leased(longer_ns=1)),
    ("SAFE-8", lambda: leased(dropped=True)),
    ("SAFE-9", lambda: unclaimed()),
    ("SAFE-9", lambda: without_health()),
    ("SAFE-9", lambda: granted_otherwise(kind=GuardKind.HELD)),
    ("SAFE-9", lambda: granted_otherwise(kind=GuardKind.IN_DOUBT)),
    ("SAFE-9", lambda: granted_otherwise(effect=(1, 1))),
    ("SAFE-9", lambda: granted_otherwise(valid_until_ns=0)),
    ("SAFE-4", lambda: claimed_by_nobody()),
    ("SAFE-11", lambda: limited(max_inventory_usd=usd("0.5"))),
    ("SAFE-11", lambda: limited(max_total_notional=usd("0.5"))),
    ("SAFE-11", lambda: under(owned(), "both", rules=(LimitRule(Limits(max_inventory_usd=usd("0.5")), BTC, "mm"),))),
    ("SAFE-11", lambda: under(owned(), "both", rules=(LimitRule(Limits(max_total_notional=usd("0.5")), "", "mm"),))),
    ("SAFE-12", lambda: reduce_only_in("")),
    ("SAFE-12", lambda: reduce_only_in("venue")),
    ("SAFE-12", lambda: reduce_only_in(BTC)),
    ("SAFE-12", lambda: reduce_only_in("strategy:mm")),
    ("SAFE-12", lambda: under(submitted(), "before", restricted=Map({0: 1}))),
    ("SAFE-12", lambda: under(submitted(), "before", throttled=Map({0: 1}))),
    ("SAFE-12", lambda: under(owned(), "before", throttled=Map({1: 1}))),
    ("SAFE-12", flagged_reduce_only),
    ("SAFE-13", lambda: lifted(MARK, Trigger.MANUAL)),
    ("SAFE-13", lambda: lifted(TIMER, Trigger.VENUE_LOST)),
    ("SAFE-13", lambda: lifted(TIMER, Trigger.LOSS, cool_down=True)),
    ("SAFE-14", lambda: changed(MARK, rules=())),
    ("SAFE-14", lambda: changed(TIMER, rules=())),
    ("SAFE-14", lambda: changed(TIMER, overrides=(override("ops", "ops"),))),
    ("SAFE-14", lambda: changed(OVERRIDE, two_persons=True, overrides=(override("ops", " OPS "),))),
    ("SAFE-15", closed_by_nobody),
]
#: What looks like one of these and is none.
ALLOWED: list[Callable[[], Step]] = [
    lambda: limited(max_inventory_usd=usd("1"), max_total_notional=usd("1")),
    lambda: claimed(),
    lambda: leased(),
    lambda: leased(fence=NO_FENCE, late_ms=30_000),
    lambda: reduce_only_in(ETH),
    lambda: under(owned(), "before", throttled=Map({2: 1})),
    lambda: lifted(Unfreeze(0, "", "ops", "why"), Trigger.LOSS),
    lambda: lifted(TIMER, Trigger.VENUE_LOST, cool_down=True),
    lambda: changed(CHANGE, rules=()),
    lambda: changed(OVERRIDE, overrides=(override("ops", "ops"),)),
    lambda: changed(OVERRIDE, two_persons=True, overrides=(override("ops", ""),)),
    lambda: changed(OVERRIDE, two_persons=True, overrides=(override("ops", "boss"),)),
]


@pytest.mark.parametrize(("name", "violate"), EDGES)
def test_each_step_predicate_finds_its_violation(name: str, violate: Callable[[], Step]) -> None:
    assert name in names(broken(*violate()))


@pytest.mark.parametrize("allowed", ALLOWED)
def test_what_is_allowed_breaks_nothing(allowed: Callable[[], Step]) -> None:
    assert broken(*allowed()) == ()


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


def unclaimed(**fields: Any) -> Step:
    """A place as without a guard, in a session under guard whose desk has these fields."""
    before, event, after, effects = submitted()
    assert after.desk is not None
    desk = attrs.evolve(after.desk, config=attrs.evolve(after.desk.config, store=StorePolicy(configured=True)), **fields)
    return before, event, attrs.evolve(after, desk=desk), effects


def claimed() -> Step:
    """A place with the grant of its claim."""
    s = Session(store=StorePolicy(configured=True, check=StoreCheck.OFF))
    s.ask()
    claim = s.one(ClaimGuard)
    return taken(s, GuardAnswer(s.now, claim.id, claim.order, GuardKind.CLAIMED, s.now + 1, "", "", ""))


def granted_otherwise(**fields: Any) -> Step:
    before, event, after, effects = claimed()
    return before, attrs.evolve(event, **fields), after, effects


def claimed_by_nobody() -> Step:
    """A grant under which an order is placed that was placed before."""
    before, event, after, effects = claimed()
    (order,) = before.orders.values()
    return with_order(before, attrs.evolve(order, requests=attrs.evolve(order.requests, claim=None))), event, after, effects


def leased(fence: Fence = Fence(1, 1), late_ms: int = 0, longer_ns: int = 0, dropped: bool = False) -> Step:  # noqa: B008 - it is frozen
    """A cancel-all under a lease, some time after the grant."""
    s = Session(store=StorePolicy(configured=True, guard=False, check=StoreCheck.OFF))
    s.working()
    s.freeze()
    s.lease(s.one(AcquireLease), fence=Fence(1, 1))
    desk, effect = s.core.desk, attrs.evolve(s.got(CancelAll)[0], fence=fence)
    assert desk is not None
    assert desk.lease is not None
    after = None if dropped else attrs.evolve(desk.lease, valid_until_ns=desk.lease.valid_until_ns + longer_ns)
    core = attrs.evolve(s.core, now_ns=s.core.now_ns + late_ms * 1_000_000, desk=attrs.evolve(desk, lease=after))
    return s.core, TimerFired(s.now, (1, 1), Purpose.SWEEP, 0), core, () if dropped else (effect,)


def with_lease(core: Core, sweeping: bool) -> Core:
    s = Session(store=StorePolicy(configured=True, guard=False, check=StoreCheck.OFF))
    s.freeze()
    assert s.core.desk is not None
    desk = s.core.desk if sweeping else core.desk
    assert desk is not None
    return attrs.evolve(core, desk=attrs.evolve(desk, lease=Lease(Fence(1, 1), core.now_ns + 1, None if sweeping else (1, 1))))


def without_health() -> Step:
    before, event, after, effects = claimed()
    assert after.desk is not None
    store = attrs.evolve(after.desk.store, health=StoreHealth.IN_DOUBT)
    return before, event, attrs.evolve(after, desk=attrs.evolve(after.desk, store=store)), effects


def with_guards(core: Core, *guards: Guard) -> Core:
    (key,) = core.orders
    return attrs.evolve(core, flow=attrs.evolve(core.flow, guards=Map({key: guards})))


def waiting(core: Core) -> Core:
    order = _order(core)
    requests = attrs.evolve(order.requests, place=(7, 0), claim=(7, 0))
    return with_order(core, attrs.evolve(order, requests=requests))


STATES: list[tuple[str, Callable[[Core], Core]]] = [
    ("SAFE-3", lambda core: with_order(core, _misfilled(core))),
    ("SAFE-3", lambda core: _book(core, unknown_buy=-1)),
    ("SAFE-5", lambda core: _book(core, buy_qty=qty(5))),
    ("SAFE-5", lambda core: _book(core, buy_value=Notional(0))),
    ("SAFE-5", lambda core: _book(core, open_orders=2)),
    ("SAFE-5", lambda core: _book(core, unknown_sell=1)),
    ("SAFE-5", lambda core: attrs.evolve(core, account=attrs.evolve(core.account, worst=Notional(1)))),
    ("SAFE-5", lambda core: attrs.evolve(core, account=attrs.evolve(core.account, gain=Notional(1)))),
    ("SAFE-5", lambda core: attrs.evolve(core, teams=core.teams.set(1, Tally(Notional(1), Notional(0), 0)))),
    ("SAFE-5", lambda core: attrs.evolve(core, resting=resting_levels(core.orders).set(0, levels_of([7])))),
    ("SAFE-5", lambda core: attrs.evolve(core, books=core.books.delete(0))),
    ("SAFE-5", lambda core: with_order(core, attrs.evolve(_order(core), ended=Ended.CANCELLED))),
    ("SAFE-5", lambda core: with_order(core, _order(core), closed=True)),
    ("SAFE-6", lambda core: attrs.evolve(core, desk=_frozen_desk())),
    ("SAFE-8", lambda core: with_lease(core, sweeping=False)),
    ("SAFE-8", lambda core: with_lease(core, sweeping=True)),
    ("SAFE-9", waiting),
    ("SAFE-9", lambda core: with_guards(core, Guard(_order(core).key, "k", "o", "p", 0))),
    ("SAFE-9", lambda core: attrs.evolve(core, flow=attrs.evolve(core.flow, telling=1))),
    ("SAFE-9", lambda core: with_guards(core, Guard(0, "k", "o", "p", 0, state=GuardState.DONE))),
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
