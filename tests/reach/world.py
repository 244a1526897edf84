"""A tiny world around the real core: a venue, a wire, a store, a process that can die. All of it is part of the searched state.

What exists besides the core
----------------------------
* the venue's *true* book, one ``Slot`` per order: sent, open, filled, cancelled or refused, with its true quantity, price and fills;
* the *wire*: every request that the core asked for, until its outcome is heard. A request is in the queue of our own process
  (``QUEUE``), on its way (``WIRE``), on its way though its outcome was already reported as in doubt (``ZOMBIE``), or answered, and the
  answer is on its way (``REPLY``);
* *reports* of the venue's stream on their way, in no order;
* the store's latch and its guards (``guards.py``); the commands that a user will still give; the number of faults that may still happen.

What can happen (the moves) stands in ``moves.py``; how situations are compared, in ``situation.py``.

Time is abstract: a timer may fire whenever somebody waits for it, and one *tick* is longer than a request can take to arrive. A
place or replace that was on its way before the tick does not arrive after it.

What must hold, besides the core's own invariants, is what the core cannot see by itself:

=========== ================================================================================================
SAFE-1      no place or replace leaves that was decided before a freeze of its scope
SAFE-5      whatever the venue can still fill, by book, wire and queue, the core counts, order by order
SAFE-6      a scope that the core calls FROZEN holds no order of ours in the true book, and none that can still arrive
FLIP        where only reducing is allowed, the true position never passes through zero
LEDGER      when every message was delivered and none lost, the core's positions, each strategy's too, are the true ones
ATTENDED    whatever the core waits for is on the wire or has a timer: nobody waits for nothing
ONCE        of the orders of one intention at most one is or was at the venue, or can still get there
STORE       of what the store was told that it never was, nothing is at the venue or can get there; what it was told was done, was there
=========== ================================================================================================
"""

from typing import Any, NamedTuple

from attrs import field, frozen
from haltcore.effects import Effect, GuardState, Mode, Place, Price, Qty, Replace, Side
from haltcore.fsm.config import Config, SweepPolicy, VenueTraits
from haltcore.fsm.core import Core, Sweep, SweepPhase, scope_text
from haltcore.fsm.events import Event, LatchRow, TradeBusted
from haltcore.fsm.exposure import FLAT, book_key, reserve_price
from haltcore.fsm.order import Order, is_done

QUEUE, WIRE, ZOMBIE, REPLY = "queue", "wire", "zombie", "reply"
SENT, OPEN, FILLED, CANCELLED, REFUSED = "sent", "open", "filled", "cancelled", "refused"
SYMBOLS = ("AAA", "BBB")
T0 = 10**18
#: The configuration of most worlds. The number of attempts only decides when failure is reported; a large one keeps worlds small.
PLAIN = Config(
    "tag0000", SYMBOLS[:1], venue=VenueTraits(conditional=False), sweep=SweepPolicy(attempts=1_000_000), venue_lost_ms=1_000
)


@frozen
class Setup:
    """One world: its configuration, what users will do in any order, and which faults may happen, and how many in total.

    Commands: ``buy:QTY``, ``sell:QTY`` (in their order, each also with ``:SYMBOL`` and ``:STRATEGY``), ``out:QTY`` (a sell that says
    reduce-only), ``stop:QTY``, ``cancel:I``, ``replace:I:QTY:PRICE``, ``freeze:SCOPE``, ``unfreeze:SCOPE``, ``force:SCOPE``,
    ``reduce:SCOPE``, ``restart``, ``peer:SCOPE``, ``bust:I``. ``begins``: the commands that come first, in this order. ``held``: how many
    units of the first symbol the account held before; then no sell may take the position below 0. ``fills``: how many units may trade.
    ``claims``: how the store may answer a claim besides the truth. ``once``: all orders are of one intention.
    ``totals``: whether reports of trades and ends carry the venue's running total. ``lease``: how the store may answer. ``must_see``:
    what has to happen in it.
    """

    name: str
    todo: tuple[str, ...]
    config: Config = PLAIN
    faults: int = 0
    kinds: tuple[str, ...] = ()
    fills: int = 0
    totals: bool = True
    lease: tuple[str, ...] = ()
    must_see: tuple[str, ...] = ()
    swift: bool = False
    ordered: bool = False
    begins: tuple[str, ...] = ()
    held: int = 0
    claims: tuple[str, ...] = ()
    once: bool = False


class Slot(NamedTuple):
    """One order as it truly is at the venue. ``units`` is the price in whole units."""

    state: str
    side: Side
    symbol: str
    conditional: bool
    qty: int
    price: int
    cum: int


class Item(NamedTuple):
    """A request, or the answer to it. ``doomed``: decided before a freeze of its scope. ``late``: on its way since before the last tick."""

    stage: str
    effect: Effect
    event: Event | None
    doomed: bool
    late: bool


class Report(NamedTuple):
    """A report on its way, about order number ``slot``."""

    slot: int
    event: Event


@frozen
class World:
    """The searched state. ``stopped`` are the scopes frozen in truth, ``blind`` says that a message was lost for good."""

    setup: Setup = field(repr=False)
    core: Core
    now: int
    todo: tuple[str, ...]
    faults: int
    fills: int
    keys: tuple[int, ...] = ()
    slots: tuple[Slot, ...] = ()
    wire: tuple[Item, ...] = ()
    reports: tuple[Report, ...] = ()
    latch: tuple[LatchRow, ...] = ()
    stopped: tuple[str, ...] = ()
    blind: bool = False
    guards: tuple[Any, ...] = ()


def order_at(world: World, slot: int) -> Order:
    """The core's view of order number ``slot``."""
    order = world.core.order(world.keys[slot])
    assert order is not None
    return order


def covered(stopped: tuple[str, ...], symbol: str, strategy: str) -> bool:
    """Whether a freeze of these scopes covers an order of this symbol and strategy."""
    return any(scope in stopped for scope in ("", "venue", symbol)) or (strategy != "" and f"strategy:{strategy}" in stopped)


def problems(world: World) -> tuple[str, ...]:
    """What is wrong in this situation, seen with the eyes of somebody who knows the whole world."""
    found = [_uncounted(world, slot) for slot in range(len(world.slots))]
    found += [_frozen_in_truth(world), _flipped(world), _ledger(world), _unattended_sweep(world)]
    found += [_unattended_order(world, slot) for slot in range(len(world.slots))]
    found += [_more_than_once(world), _told_wrongly(world)]
    return tuple(problem for problem in found if problem)


def _may_arrive(world: World, slot: int, kind: type[Place] | type[Replace]) -> list[Effect]:
    """Requests of this kind about the order that can still take effect."""
    key = world.keys[slot]
    return [
        item.effect
        for item in world.wire
        if isinstance(item.effect, kind) and item.effect.order == key
        and ((item.stage == QUEUE and not item.doomed) or (item.stage in (WIRE, ZOMBIE) and not item.late))
    ]  # fmt: skip


def _uncounted(world: World, number: int) -> str:
    """SAFE-5, per order: total quantity and price that may come about against what is counted."""
    slot, order = world.slots[number], order_at(world, number)
    if _busted_unheard(world, number):
        return ""
    if slot.state not in (SENT, OPEN) or (slot.state == SENT and not _may_arrive(world, number, Place)):
        return ""
    changes = [effect for effect in _may_arrive(world, number, Replace) if isinstance(effect, Replace)]
    total = max([slot.qty, *(change.qty for change in changes)])
    if order.cum_qty + order.leaves_qty < total:
        return f"SAFE-5: order {number} may fill up to {total} at the venue, the core counts {order.cum_qty} + {order.leaves_qty}"
    worst = max([slot.price, *(change.price or 0 for change in changes)])
    if total > order.cum_qty and reserve_price(order) < worst:
        return f"SAFE-5: order {number} may fill at {worst}, the core counts {reserve_price(order)}"
    return ""


def _busted_unheard(world: World, number: int) -> bool:
    """A trade of the order is void, and the report still on its way: nobody can know that the order may be open again."""
    return any(report.slot == number and isinstance(report.event, TradeBusted) for report in world.reports)


def _frozen_in_truth(world: World) -> str:
    desk = world.core.desk
    assert desk is not None
    frozen_now = tuple(scope_text(desk, scope) for scope, control in desk.controls.items() if control.mode is Mode.FROZEN)
    for number, slot in enumerate(world.slots):
        if not covered(frozen_now, slot.symbol, order_at(world, number).spec.strategy):
            continue
        if slot.state == OPEN and not _busted_unheard(world, number):
            return f"SAFE-6: FROZEN, and order {number} is open at the venue"
        if slot.state == SENT and _may_arrive(world, number, Place):
            return f"SAFE-6: FROZEN, and order {number} may still arrive"
    return ""


def true_position(world: World, symbol: str, owner: int = 0) -> int:
    """What is truly held of a symbol, by the account or by one strategy."""
    held = world.setup.held if symbol == world.setup.config.symbols[0] and not owner else 0
    mine = [slot for n, slot in enumerate(world.slots) if slot.symbol == symbol and owner in (0, order_at(world, n).spec.owner)]
    return held + sum(slot.cum if slot.side is Side.BUY else -slot.cum for slot in mine)


def _is_real(world: World, number: int) -> bool:
    """Whether the order is or was at the venue, or may still get there."""
    state = world.slots[number].state
    return state in (OPEN, FILLED, CANCELLED) or (state == SENT and bool(_may_arrive(world, number, Place)))


def _more_than_once(world: World) -> str:
    real = [number for number in range(len(world.slots)) if _is_real(world, number)] if world.setup.once else []
    return f"ONCE: orders {real} are of one intention" if len(real) > 1 else ""


def _told_wrongly(world: World) -> str:
    for row in world.guards:
        if row.replace:
            continue
        if row.state is GuardState.REJECTED and _is_real(world, row.number):
            return f"STORE: it was told that order {row.number} never was, and it is at the venue or on its way there"
        if row.state is GuardState.DONE and world.slots[row.number].state in (SENT, REFUSED):
            return f"STORE: it was told that order {row.number} was placed, and it never got there"
    return ""


def _flipped(world: World) -> str:
    true = true_position(world, world.setup.config.symbols[0])
    return f"FLIP: only reducing is allowed, and the position is {true}" if world.setup.held and true < 0 else ""


def _ledger(world: World) -> str:
    if world.blind or world.wire or world.reports:
        return ""
    for owner in range(len(world.setup.config.strategies) + 1):
        for sym, symbol in enumerate(world.setup.config.symbols):
            true, ours = true_position(world, symbol, owner), world.core.books.get(book_key(owner, sym), FLAT).position
            if ours != true:
                return f"LEDGER: every message is delivered; the position in {symbol} of owner {owner} is {true}, the core says {ours}"
    return ""


def _unattended_order(world: World, number: int) -> str:
    order = order_at(world, number)
    r = order.requests
    if is_done(order) or r.timer is not None:
        return ""
    waits = [r.place, r.query, r.cancel, r.replace.effect if r.replace is not None else None]
    ids = [item.effect.id for item in world.wire if item.stage != ZOMBIE]
    if any(effect in ids for effect in waits if effect is not None):
        return ""
    pending = r.doubt_ns or r.cancel_wanted or r.replace is not None or r.cancel is not None or not order.accepted
    return f"ATTENDED: order {number} waits, and nothing about it is under way" if pending and not _swept(world, order) else ""


def _swept(world: World, order: Order) -> bool:
    """A running sweep looks after the orders in its scope."""
    desk = world.core.desk
    return desk is not None and desk.sweep is not None and covered(world.stopped, order.spec.symbol, order.spec.strategy)


def _unattended_sweep(world: World) -> str:
    desk = world.core.desk
    assert desk is not None
    sweep = desk.sweep
    freezing = any(control.mode is Mode.FREEZING for control in desk.controls.values())
    if freezing and sweep is None:
        return "ATTENDED: a scope is being frozen, and nobody sweeps"
    return "" if sweep is None or _is_attended(world, sweep) else f"ATTENDED: the sweep waits in {sweep.phase.value} for nothing"


def _is_attended(world: World, sweep: Sweep) -> bool:
    if sweep.phase in (SweepPhase.LEASE, SweepPhase.WAIT):
        return sweep.timer is not None
    ids = [item.effect.id for item in world.wire]
    return bool(sweep.awaiting) and all((sweep.batch, index) in ids for index in sweep.awaiting)


def quantity(units: int) -> Qty:
    """The worlds count in raw units: what the scale is does not matter to any rule."""
    return Qty(units)


def at_price(units: int) -> Price:
    """As ``quantity``."""
    return Price(units)
