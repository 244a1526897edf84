"""What becomes of a request: at the venue, on the wire, in the store. Whatever the core asks for passes through here to its answer."""


import attrs
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    Place,
    PublishFreeze,
    QueryOrder,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    Replace,
    SettleGuard,
)
from haltcore.fsm import freeze as gateway
from haltcore.fsm.events import (
    CancelRejected,
    Event,
    FetchedOrders,
    FetchedPositions,
    Found,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderQueried,
    OrderReplaced,
    OrderRow,
    OutcomeKind,
    PositionRow,
    Positions,
    ReportStatus,
)
from haltcore.fsm.outcomes import failed

from .guards import claims, settlements
from .hearing import Moves, answered, book, client_of, fault, named, outcome, silent, tell, without
from .world import (
    CANCELLED,
    FILLED,
    OPEN,
    QUEUE,
    REFUSED,
    SENT,
    T0,
    WIRE,
    ZOMBIE,
    Item,
    Report,
    Slot,
    World,
    at_price,
    quantity,
    true_position,
)

_STATUS = {
    OPEN: ReportStatus.OPEN, FILLED: ReportStatus.FILLED, CANCELLED: ReportStatus.CANCELLED, REFUSED: ReportStatus.REJECTED,
}  # fmt: skip


# --- requests that add risk --------------------------------------------------------------------------------

def travels(world: World, item: Item) -> Moves:
    effect, name = item.effect, named(item.effect)
    assert isinstance(effect, (Place, Replace))
    if item.stage == QUEUE:
        code = gateway.may_send(world.core, effect, world.now)
        if code:
            held = answered(world, item, outcome(item, OutcomeKind.REFUSED, code))
            yield silent(f"{name} is held back: {code}", held, True, ("held back at the last moment",))
        else:
            wrong = (f"SAFE-1: {name} leaves, though it was decided before the freeze",) if item.doomed else ()
            left = _restaged(world, item, WIRE)
            if world.setup.swift and not wrong:
                yield from travels(left, left.wire[world.wire.index(item)])
            else:
                yield silent(f"{name} leaves", left, True, wrong=wrong)
        return
    if not item.late:
        yield silent(f"{name} arrives", _arrives(world, item), True)
    if item.stage == WIRE:
        if not item.late and (faulty := fault(world, "refuse")) is not None:
            yield silent(f"{name} is refused", _refused(faulty, item))
        timed_out = world if item.late else fault(world, "timeout")
        if timed_out is not None:
            waiting = without(timed_out, item) if item.late else _restaged(timed_out, item, ZOMBIE)
            yield tell(waiting, f"{name} times out", outcome(item, OutcomeKind.IN_DOUBT, "timeout"), fair=item.late)


def _restaged(world: World, item: Item, stage: str) -> World:
    at = world.wire.index(item)
    return attrs.evolve(world, wire=(*world.wire[:at], item._replace(stage=stage), *world.wire[at + 1 :]))


def _number(world: World, effect: Effect) -> int:
    assert isinstance(effect, (Place, Replace))
    return world.keys.index(effect.order)


def _refused(world: World, item: Item) -> World:
    if isinstance(item.effect, Place):
        number = _number(world, item.effect)
        world = book(world, number, world.slots[number]._replace(state=REFUSED))
    return answered(world, item, outcome(item, OutcomeKind.REFUSED, "no"))


def _arrives(world: World, item: Item) -> World:
    """The venue applies the request, reports it, and answers unless nobody waits for the answer any more."""
    number = _number(world, item.effect)
    slot, client = world.slots[number], client_of(world, number)
    kind = OutcomeKind.ACKNOWLEDGED
    if isinstance(item.effect, Place):
        assert slot.state == SENT, "the same place arrived twice"
        world = book(world, number, slot._replace(state=OPEN), Report(number, OrderAccepted(0, client, f"v{number}")))
    elif isinstance(item.effect, Replace):
        qty, price = item.effect.qty, item.effect.price
        if slot.state == OPEN and qty > slot.cum:
            report = Report(number, OrderReplaced(0, client, f"v{number}", qty, price))
            world = book(world, number, slot._replace(qty=qty, price=price or 0), report)
        else:
            kind = OutcomeKind.REFUSED
    return without(world, item) if item.stage == ZOMBIE else answered(world, item, outcome(item, kind))


# --- other requests ----------------------------------------------------------------------------------------

def served(world: World, item: Item) -> Moves:
    effect, name = item.effect, named(item.effect)
    if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
        yield from _cancels(world, item)
    elif isinstance(effect, ClaimGuard):
        yield from claims(world, item)
    elif isinstance(effect, SettleGuard):
        yield from settlements(world, item)
    elif isinstance(effect, (AcquireLease, RenewLease, ReleaseLease)):
        yield from _leases(world, item)
    elif isinstance(effect, (PublishFreeze, ReadFreeze, ClearFreeze)):
        yield from _latches(world, item)
    else:
        yield silent(f"{name} is answered", answered(world, item, _truth(world, effect)), True)
        if (faulty := fault(world, "failed")) is not None:
            yield silent(f"{name} fails", answered(faulty, item, failed(effect, 0, OutcomeKind.UNAVAILABLE, "down")))
        if isinstance(effect, FetchOpenOrders) and (faulty := fault(world, "stale")) is not None:
            yield silent(f"{name} is answered with an old, empty list", answered(faulty, item, _listing(effect, ())))


def _cancels(world: World, item: Item) -> Moves:
    effect, name = item.effect, named(item.effect)
    code = gateway.may_send(world.core, effect, world.now)
    if code:
        yield silent(f"{name} is held back: {code}", answered(world, item, outcome(item, OutcomeKind.REFUSED, code)), True)
        return
    done, refused = _cancelled(world, effect)
    kind = OutcomeKind.REFUSED if refused else OutcomeKind.ACKNOWLEDGED
    yield silent(f"{name} arrives", answered(done, item, outcome(item, kind)), True)
    if (faulty := fault(world, "unavailable")) is not None:
        yield silent(f"{name} is turned away", answered(faulty, item, outcome(item, OutcomeKind.UNAVAILABLE, "busy")))
    if (faulty := fault(world, "doubt")) is not None:
        doubt = outcome(item, OutcomeKind.IN_DOUBT, "timeout")
        yield silent(f"{name} is lost", answered(faulty, item, doubt))
        if done is not world:
            yield silent(f"{name} arrives, its answer is lost", answered(_cancelled(faulty, effect)[0], item, doubt))
    if done is not world and (faulty := fault(world, "lie")) is not None:
        yield silent(f"{name} is acknowledged and not done", answered(faulty, item, outcome(item, OutcomeKind.ACKNOWLEDGED)))


def _cancelled(world: World, effect: Effect) -> tuple[World, bool]:
    """The world after the cancel, and whether it is refused as a whole."""
    if isinstance(effect, CancelAll):
        for number, slot in enumerate(world.slots):
            if slot.state == OPEN and (slot.symbol, slot.conditional) == (effect.symbol, effect.conditional):
                world = end(world, number, slot)
        return world, False
    if isinstance(effect, CancelBatch):
        for target in effect.targets:
            number = world.keys.index(target.order)
            if world.slots[number].state == OPEN:
                world = end(world, number, world.slots[number])
            else:
                reject = Report(number, CancelRejected(0, target.client_id, "not open"))
                world = attrs.evolve(world, reports=(*world.reports, reject))
        return world, False
    assert isinstance(effect, Cancel)
    number = world.keys.index(effect.target.order)
    slot = world.slots[number]
    return (end(world, number, slot), False) if slot.state == OPEN else (world, True)


def end(world: World, number: int, slot: Slot) -> World:
    cum = quantity(slot.cum if world.setup.totals else 0)
    return book(world, number, slot._replace(state=CANCELLED), Report(number, OrderCancelled(0, client_of(world, number), cum)))


def _row(world: World, number: int) -> OrderRow:
    slot = world.slots[number]
    return OrderRow(
        client_of(world, number), f"v{number}", slot.symbol, slot.side, _STATUS[slot.state], quantity(slot.qty), at_price(slot.price),
        quantity(slot.cum), None, slot.conditional, slot.state,
    )  # fmt: skip


def _truth(world: World, effect: Effect) -> Event:
    if isinstance(effect, QueryOrder):
        number = world.keys.index(effect.order)
        known = world.slots[number].state not in (SENT, REFUSED)
        return OrderQueried(0, effect.id, effect.order, Found(_row(world, number)) if known else NotFound())
    if isinstance(effect, FetchPositions):
        totals = [(symbol, true_position(world, symbol)) for symbol in world.setup.config.symbols]
        return Positions(0, effect.id, FetchedPositions(tuple(PositionRow(symbol, quantity(n), None) for symbol, n in totals if n)))
    assert isinstance(effect, FetchOpenOrders)
    rows = tuple(
        _row(world, number)
        for number, slot in enumerate(world.slots)
        if slot.state == OPEN and slot.conditional is effect.conditional and effect.symbol in ("", slot.symbol)
    )
    return _listing(effect, rows)


def _listing(effect: FetchOpenOrders, rows: tuple[OrderRow, ...]) -> OpenOrders:
    return OpenOrders(0, effect.id, effect.symbol, effect.conditional, FetchedOrders(rows))


# --- store -------------------------------------------------------------------------------------------------

def _leases(world: World, item: Item) -> Moves:
    kinds = (LeaseKind.RELEASED,) if isinstance(item.effect, ReleaseLease) else tuple(map(LeaseKind, world.setup.lease))
    for kind in kinds:
        fence = Fence(1, 1) if kind is LeaseKind.GRANTED else NO_FENCE
        until = T0 * 2 if kind is LeaseKind.GRANTED else 0
        yield silent(
            f"the store answers {kind.value}", answered(world, item, LeaseAnswer(0, item.effect.id, kind, fence, until, "")), True
        )


def _left(row: LatchRow, force: bool) -> tuple[LatchRow, ...]:
    """What stays of a row of which our word is withdrawn: the peer's, if there is one."""
    if force or (row.mine and row.by != "peer"):
        return ()
    return (attrs.evolve(row, mine=False, epoch=row.epoch + 1) if row.mine else row,)


def _latches(world: World, item: Item) -> Moves:
    effect, name = item.effect, named(item.effect)
    kind, latch = LatchKind.OK, world.latch
    if isinstance(effect, PublishFreeze) and all(row.scope != effect.scope for row in latch):
        latch = (*latch, LatchRow(effect.scope, 1, effect.trigger, effect.reason, effect.by, mine=True))
    elif isinstance(effect, PublishFreeze):
        # Once is enough: a row that grew a new epoch every time would be a new state every time.
        said = effect.trigger, effect.reason, effect.by
        latch = tuple(
            attrs.evolve(row, epoch=row.epoch + 1, joint=True, mine=True)
            if row.scope == effect.scope and (not row.mine or (not row.joint and said != (row.trigger, row.reason, row.by))) else row
            for row in latch
        )  # fmt: skip
    elif isinstance(effect, ClearFreeze):
        row = next((row for row in latch if row.scope == effect.scope), None)
        if row is not None and row.epoch != effect.latch_epoch:
            kind = LatchKind.STALE
        elif row is not None:
            latch = (*(row for row in latch if row.scope != effect.scope), *_left(row, effect.force))
    done = attrs.evolve(world, latch=latch)
    yield silent(f"{name} is done", answered(done, item, LatchAnswer(0, effect.id, kind, latch)), True)
    if (faulty := fault(world, "store")) is not None:
        yield silent(f"{name} does not reach the store", answered(faulty, item, LatchAnswer(0, effect.id, LatchKind.UNAVAILABLE, ())))
        if latch is not world.latch:
            doubt = LatchAnswer(0, effect.id, LatchKind.IN_DOUBT, ())
            yield silent(f"{name} is done, the answer is lost", answered(attrs.evolve(faulty, latch=latch), item, doubt))
