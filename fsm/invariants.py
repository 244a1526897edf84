"""The invariants: what must hold in every state and across every step, whatever happened before.

One list, used by the tests, the search, the simulation, replay and production alike. Each entry has a name (numbered as in
``spec/invariants.md``), a sentence, and predicates that return "" or what is wrong:

* an *edge* predicate sees one step: state before, event, state after, effects. Its cost does not depend on the number of orders, so
  the runner checks all of them on every record.
* a *state* predicate recomputes from scratch. Search, simulation, tests and replay (at checkpoints) use those too.

SAFE-4 and SAFE-10 hold over a whole run: a client id is derived from the number of the record that made the order, and an order is placed
in that record, or, under guard, in the one that ends its claim: the edge predicate checks that there is no third way. And equal logs give
equal bytes is what replay compares. SAFE-7 belongs to a machine that is not here yet.

Those of exposure and limits stand in ``invariants_risk.py``, that of the lease in ``invariants_store.py``, of
the breaker in ``invariants_breaker.py``.
"""

from collections.abc import Callable, Sequence

from attrs import frozen

from ..effects import ClaimGuard, Effect, GuardState, Mode, ModeChanged, Place, Qty, Replace, client_order_id
from .core import Core, SweepPhase, effective_mode, open_in_scope, scope_key
from .events import (
    Event,
    FetchFailed,
    GuardAnswer,
    GuardKind,
    OpenOrders,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderQueried,
    OrderRejected,
    OrderReplaced,
    Outcome,
    OutcomeKind,
    StoreHealth,
    TradeBusted,
    TradeCorrected,
    Verb,
)
from .invariants_breaker import breaker_stays_open
from .invariants_risk import (
    exposure_is_complete,
    exposure_moves_with_orders,
    lifted_by_a_person,
    limits_change_by_name,
    limits_hold,
    only_reducing,
)
from .invariants_store import fence_is_the_lease, lease_is_looked_after
from .order import Ended, Order, is_done
from .turn import guarded

Edge = Callable[[Core, Event, Core, Sequence[Effect]], str]
State = Callable[[Core], str]


@frozen
class Invariant:
    """One numbered promise."""

    name: str
    sentence: str
    edge: Edge | None
    state: State | None


def _no_place_when_frozen(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    for effect in effects:
        if isinstance(effect, (Place, Replace, ClaimGuard)):
            order = after.order(effect.order)
            if order is None:
                return f"{type(effect).__name__} of order {effect.order}, which is not known"
            spec = order.spec
            for core in (before, after):
                desk = core.desk
                if desk is None or effective_mode(desk, spec.sym, spec.owner) in (Mode.FREEZING, Mode.FROZEN):
                    return f"{type(effect).__name__} of order {effect.order} while {spec.symbol} is frozen"
    return ""


#: Events that can be evidence for the end of an order. A refused or unavailable *place* never was; a query's answer is the venue's word.
_ENDING = (
    OrderRejected, OrderCancelled, OrderExpired, OrderFilled, OrderReplaced, TradeBusted, TradeCorrected,
)  # fmt: skip


def _ends_on_evidence(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    for key in after.touched:
        old, new = before.order(key), after.order(key)
        if new is None or not is_done(new) or (old is not None and is_done(old)):
            continue
        if old is not None and old.claiming and new.ended is Ended.REJECTED:
            # It waited for its claim: no record has sent it, and none ever will.
            continue
        if isinstance(event, OrderQueried) and not isinstance(event.result, FetchFailed):
            continue
        if isinstance(event, OpenOrders):
            # A list of open orders can only complete an order by its filled total; missing from a list is no evidence.
            if new.ended is not old.ended if old is not None else True:
                return f"order {key} ended by a list of open orders"
            continue
        if isinstance(event, _ENDING):
            continue
        if isinstance(event, Outcome) and event.verb is Verb.PLACE:
            if event.kind in (OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE):
                continue
        elif old is not None and old.requests.replace is not None and old.cum_qty >= old.qty:
            # It was filled already; only the larger quantity of a pending replace kept it open, and that was refused.
            continue
        return f"order {key} ended on {type(event).__name__}"
    return ""


def _cumulative_grows(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    if isinstance(event, (TradeBusted, TradeCorrected)):
        return ""
    for key in after.touched:
        old, new = before.order(key), after.order(key)
        if old is not None and new is not None and new.cum_qty < old.cum_qty:
            return f"filled quantity of order {key} fell from {old.cum_qty} to {new.cum_qty} on {type(event).__name__}"
    return ""


def _one_place_per_id(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    places = [effect for effect in effects if isinstance(effect, Place)]
    if len(places) > 1:
        return f"{len(places)} places in one record"
    for place in places:
        desk, old = after.desk, before.order(place.order)
        if desk is None or place.client_id != client_order_id(desk.config.session, place.order):
            return f"client id {place.client_id} does not derive from order {place.order}"
        if old is None and place.order != after.seq:
            return f"order {place.order} was made by no record and is placed in record {after.seq}"
        if old is not None and not old.claiming:
            return f"order {place.order} is placed a second time"
    return ""


def _claimed_before_sent(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """With a store, nothing that adds risk while it is not OK; under guard, a place or replace only with the grant of its own claim."""
    for effect in effects:
        if not isinstance(effect, (Place, Replace, ClaimGuard)) or after.desk is None or not after.desk.config.store.configured:
            continue
        name = f"{type(effect).__name__} of order {effect.order}"
        if after.desk.store.health is not StoreHealth.OK:
            return f"{name} while the store is {after.desk.store.health.value}"
        if isinstance(effect, ClaimGuard) or not guarded(after.desk):
            continue
        if not isinstance(event, GuardAnswer) or event.kind is not GuardKind.CLAIMED:
            return f"{name} on {type(event).__name__}, without a claim"
        old = before.order(effect.order)
        claims = (old.requests.claim, old.requests.replace.claim if old.requests.replace is not None else None) if old is not None else ()
        if event.effect not in claims or after.now_ns >= event.valid_until_ns:
            return f"{name} on the claim of something else, or one that has run out"
    return ""


def _claims_are_kept(core: Core) -> str:
    """Whatever waits for a claim has it in the outbox, and what is known of a claimed order is going to be told."""
    for key, order in core.orders.items():
        replace = order.requests.replace
        claims = [order.requests.claim] if order.claiming else []
        claims += [replace.claim] if replace is not None and replace.claiming else []
        for claim in claims:
            if claim is None or all(guard.record != claim[0] for guard in core.flow.guards.get(key, ())):
                return f"order {key} waits for a claim that is not kept"
    for key, guards in core.flow.guards.items():
        order_of = core.order(key)
        for guard in guards:
            if guard.record == key and order_of is not None and guard.state is GuardState.INTENT and _settled(order_of):
                return f"the store is not going to hear what became of order {key}"
    return _outbox_adds_up(core)


def _outbox_adds_up(core: Core) -> str:
    flow = core.flow
    unsaid = [key for key, kept in flow.guards.items() if any(g.settle is None and g.state is not g.told for g in kept)]
    telling = sum(guard.settle is not None for kept in flow.guards.values() for guard in kept)
    if sorted(unsaid) != sorted(flow.unsaid) or telling != flow.telling:
        return f"{len(unsaid)} orders and {telling} words are in the outbox, not {len(flow.unsaid)} and {flow.telling}"
    return ""


def _settled(order: Order) -> bool:
    return is_done(order) or order.accepted or order.unknown


def _proof_is_true(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """A scope becomes FROZEN only in the step that hears the last of N empty lists, with no order of ours open in it."""
    for effect in effects:
        if not isinstance(effect, ModeChanged) or effect.mode is not Mode.FROZEN:
            continue
        desk, sweep = after.desk, before.desk.sweep if before.desk is not None else None
        if desk is None or sweep is None or sweep.phase is not SweepPhase.SNAPSHOT:
            return "FROZEN without a snapshot"
        if not isinstance(event, OpenOrders) or isinstance(event.result, FetchFailed):
            return f"FROZEN on {type(event).__name__}"
        if sweep.streak + 1 < desk.config.sweep.empty_snapshots or sweep.unread or sweep.rows:
            return f"FROZEN after {sweep.streak + 1} empty lists"
        scope = scope_key(desk, effect.scope)
        open_orders = open_in_scope(after, scope) if scope is not None else -1
        if open_orders:
            return f"FROZEN with {open_orders} order(s) not ended"
    return ""


def _frozen_is_empty(core: Core) -> str:
    desk = core.desk
    if desk is None:
        return ""
    for scope, control in desk.controls.items():
        if control.mode is not Mode.FROZEN:
            continue
        count = open_in_scope(core, scope)
        if count:
            return f"scope {scope} is FROZEN with {count} order(s) open"
    return ""


def _positions_are_trades(core: Core) -> str:
    """No quantity is negative: neither filled, nor left, nor counted open."""
    for sym, book in core.books.items():
        if min(book.buy_qty, book.sell_qty, book.open_orders, book.unknown_buy, book.unknown_sell) < 0:
            return f"book of symbol {sym} counts below zero"
    for orders in (core.orders, core.closed):
        for key, order in orders.items():
            traded = Qty(sum(trade.qty for trade in order.fills.trades.values()))
            if traded != order.fills.traded:
                return f"order {key}: trades sum to {traded}, it says {order.fills.traded}"
    return ""


#: The promises that can be checked now. Generated into ``spec/invariants.md``.
INVARIANTS: tuple[Invariant, ...] = (
    Invariant("SAFE-1", "no place or replace after a freeze until the unfreeze", _no_place_when_frozen, None),
    Invariant("SAFE-2", "an order ends only on venue evidence", _ends_on_evidence, None),
    Invariant("SAFE-3", "a filled quantity falls only by a bust or a correction", _cumulative_grows, _positions_are_trades),
    Invariant("SAFE-4", "one place per client id, ever", _one_place_per_id, None),
    Invariant(
        "SAFE-5", "the exposure counted covers whatever the venue can produce from what was sent",
        exposure_moves_with_orders, exposure_is_complete,
    ),
    Invariant("SAFE-6", "FROZEN means proven: empty lists, nothing in flight, nothing unknown", _proof_is_true, _frozen_is_empty),
    Invariant(
        "SAFE-8", "what is decided under a lease is decided while it is ours; it ends with a release or an alert",
        fence_is_the_lease, lease_is_looked_after,
    ),
    Invariant(
        "SAFE-9", "nothing that adds risk while the store is configured and not OK; under guard, only with the grant of its own claim",
        _claimed_before_sent, _claims_are_kept,
    ),
    Invariant("SAFE-11", "no order takes exposure beyond a limit that is in force", limits_hold, None),
    Invariant("SAFE-12", "where only reducing is allowed, all working orders together can not flip the position", only_reducing, None),
    Invariant("SAFE-13", "what froze for a lasting reason only a person lifts", lifted_by_a_person, None),
    Invariant("SAFE-14", "limits change only by a named person's word", limits_change_by_name, None),
    Invariant(
        "SAFE-15", "an open breaker lets nothing be placed, and is closed only by a success of the venue or a person",
        breaker_stays_open, None,
    ),
)  # fmt: skip


def broken(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> tuple[str, ...]:
    """The invariants that this step breaks, each as ``NAME: what is wrong``. Cost independent of the number of orders."""
    return tuple(
        f"{inv.name}: {what}"
        for inv in INVARIANTS
        if inv.edge is not None and (what := inv.edge(before, event, after, effects))
    )


def broken_state(core: Core) -> tuple[str, ...]:
    """The invariants that the state breaks, recomputed over all orders."""
    return tuple(f"{inv.name}: {what}" for inv in INVARIANTS if inv.state is not None and (what := inv.state(core)))
