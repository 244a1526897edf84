"""What can happen next in a small world.

============ =========================================================================== ==========================================
group        moves                                                                       counts as a fault
============ =========================================================================== ==========================================
users        submit, cancel, replace, freeze, unfreeze, restart, each when it likes      no, but each is in the setup's list once
queue        a place or replace leaves, if ``may_send`` lets it                          no
wire         it arrives and is applied; is refused; times out and stays on its way       refuse, timeout
requests     a cancel, a question, a store request arrives and is answered; or fails     unavailable, doubt, lie, failed, stale, store
answers      an answer is heard                                                          no
reports      a report is heard; heard and repeated; lost                                 dup, lose
market       one unit of an open order trades                                            no, but ``fills`` bounds it
time         a timer fires; while messages about it are on their way; a tick             early
============ =========================================================================== ==========================================

Each move that the core hears of is one ``step``; its invariants are checked on the spot, then those of the world.
"""

from collections.abc import Iterator

import attrs
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    Metric,
    Mode,
    ModeChanged,
    OrdType,
    Place,
    PublishFreeze,
    Purpose,
    QueryOrder,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    Replace,
    Side,
    Trigger,
    Usd,
)
from haltcore.fsm import freeze as gateway
from haltcore.fsm.core import SweepPhase, effective_mode
from haltcore.fsm.events import (
    CancelOrder,
    CancelRejected,
    Event,
    FetchedOrders,
    FetchedPositions,
    Found,
    Freeze,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderQueried,
    OrderReplaced,
    OrderRow,
    Outcome,
    OutcomeKind,
    PositionRow,
    Positions,
    ReplaceOrder,
    ReportStatus,
    Restarted,
    SubmitOrder,
    TimerFired,
    TradeBusted,
    Unfreeze,
)
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.order import is_done
from haltcore.fsm.outcomes import failed, owes_outcome, verb_and_order
from haltcore.fsm.step import start, step

from .search import Move
from .world import (
    CANCELLED,
    FILLED,
    OPEN,
    QUEUE,
    REFUSED,
    REPLY,
    SENT,
    T0,
    WIRE,
    ZOMBIE,
    Item,
    Report,
    Setup,
    Slot,
    World,
    at_price,
    covered,
    order_at,
    problems,
    quantity,
)

PRICE = 10
Moves = Iterator[Move[World]]
_STATUS = {
    OPEN: ReportStatus.OPEN, FILLED: ReportStatus.FILLED, CANCELLED: ReportStatus.CANCELLED, REFUSED: ReportStatus.REJECTED,
}  # fmt: skip


def first(setup: Setup) -> World:
    """The world when the session has begun and its first questions are answered."""
    core, effects = start(setup.config, T0)
    world = World(setup, core, T0, setup.todo, setup.faults, setup.fills)
    world = _asked(world, effects)
    while world.wire:
        item = world.wire[0]
        if item.stage == QUEUE:
            world = next(iter(_served(world, item))).state
        else:
            world = _tell(attrs.evolve(world, wire=world.wire[1:]), "start", item.event).state
    return world


def moves(world: World) -> Moves:
    """Everything that can happen now, in a fixed order."""
    for command in dict.fromkeys(world.todo):
        yield from _user(world, command)
    for item in dict.fromkeys(world.wire):
        if item.stage == REPLY:
            rest = _without(world, item)
            yield _tell(rest, f"the answer to {_name(item.effect)} is heard", item.event, fair=True)
        elif isinstance(item.effect, (Place, Replace)):
            yield from _travels(world, item)
        else:
            yield from _served(world, item)
    for at, report in enumerate(world.reports):
        if not world.setup.ordered or all(earlier.slot != report.slot for earlier in world.reports[:at]):
            yield from _reported(world, report)
    for number, slot in enumerate(world.slots):
        if slot.state == OPEN and world.fills:
            yield _trades(world, number, slot)
    yield from _timers(world)
    yield from _ticks(world)


# --- the core hears something ----------------------------------------------------------------------------------------


def _tell(world: World, label: str, event: Event | None, fair: bool = False, seen: tuple[str, ...] = ()) -> Move[World]:
    """One step of the core, and what it asks for put on the wire."""
    assert event is not None
    event = attrs.evolve(event, at_ns=world.now)
    before = world.core
    core, effects = step(before, event)
    wrong = broken(before, event, core, effects) + broken_state(core)
    if isinstance(event, Freeze):
        world = _stop(world, event.symbol)
    lifted = [e.symbol for e in effects if isinstance(e, ModeChanged) and e.mode is Mode.ACTIVE]
    if lifted:
        world = attrs.evolve(world, stopped=tuple(symbol for symbol in world.stopped if symbol not in lifted))
    placed = [e.symbol for e in effects if isinstance(e, (Place, Replace))]
    if any(covered(world.stopped, symbol) for symbol in placed):
        wrong += ("SAFE-1: a place or replace was decided after the freeze",)
    for effect in effects:
        if isinstance(effect, ModeChanged) and effect.mode is Mode.FREEZING:
            world = _stop(world, effect.symbol)
    after = _asked(attrs.evolve(world, core=core), effects)
    return Move(label, event, after, wrong + problems(after), seen + _happened(world, event, after, effects), fair)


def _stop(world: World, symbol: str) -> World:
    """A scope is frozen in truth: what waits in our queue for it is doomed."""
    scope = (symbol,)
    wire = tuple(
        item._replace(doomed=True)
        if isinstance(item.effect, (Place, Replace)) and covered(scope, item.effect.symbol) and item.stage == QUEUE
        else item
        for item in world.wire
    )
    stopped = world.stopped if symbol in world.stopped else tuple(sorted((*world.stopped, symbol)))
    return attrs.evolve(world, wire=wire, stopped=stopped)


def _asked(world: World, effects: tuple[Effect, ...]) -> World:
    keys, slots, wire = world.keys, world.slots, world.wire
    for effect in effects:
        if isinstance(effect, Place):
            conditional = effect.type in (OrdType.STOP_LIMIT, OrdType.STOP_MARKET)
            keys = (*keys, effect.order)
            slots = (*slots, Slot(SENT, effect.side, effect.symbol, conditional, effect.qty, effect.price or 0, 0))
        if owes_outcome(effect):
            wire = (*wire, Item(QUEUE, effect, None, False, False))
    return attrs.evolve(world, keys=keys, slots=slots, wire=wire)


def _silent(label: str, world: World, fair: bool = False, seen: tuple[str, ...] = (), wrong: tuple[str, ...] = ()) -> Move[World]:
    """A move that the core does not hear of."""
    return Move(label, None, world, wrong + problems(world), seen, fair)


def _name(effect: Effect) -> str:
    return f"{type(effect).__name__}{effect.id}"


def _without(world: World, item: Item) -> World:
    at = world.wire.index(item)
    return attrs.evolve(world, wire=world.wire[:at] + world.wire[at + 1 :])


def _answered(world: World, item: Item, event: Event) -> World:
    """The request is through, its answer is on its way."""
    at = world.wire.index(item)
    answer = Item(REPLY, item.effect, event, False, False)
    return attrs.evolve(world, wire=(*world.wire[:at], answer, *world.wire[at + 1 :]))


def _fault(world: World, kind: str) -> World | None:
    """The world with one fault less to come, or None if this one may not happen."""
    if world.faults == 0 or kind not in world.setup.kinds:
        return None
    return attrs.evolve(world, faults=world.faults - 1)


def _outcome(item: Item, kind: OutcomeKind, code: str = "") -> Outcome:
    verb, order = verb_and_order(item.effect) or (None, 0)
    assert verb is not None
    return Outcome(0, item.effect.id, verb, order, kind, code)


# --- users ----------------------------------------------------------------------------------------------------------


def _user(world: World, command: str) -> Moves:
    word, *args = command.split(":")
    at = world.todo.index(command)
    if word in ("buy", "sell", "stop") and any(c.split(":")[0] in ("buy", "sell", "stop") for c in world.todo[:at]):
        return  # orders are submitted in the order of the list: the others are the same but for names
    if word in ("cancel", "replace") and int(args[0]) >= len(world.slots):
        return
    rest = attrs.evolve(world, todo=world.todo[:at] + world.todo[at + 1 :])
    if word == "restart":
        yield _crash(rest)
    elif word == "peer":
        row = LatchRow(args[0], 7, Trigger.MANUAL, "elsewhere", "peer")
        yield _silent(f"another process freezes {args[0] or 'the account'}", attrs.evolve(rest, latch=(*rest.latch, row)))
    elif word == "bust":
        number = int(args[0])
        if number < len(world.slots) and world.slots[number].cum:
            slot = world.slots[number]
            yield _silent("the venue busts a trade", _bust(rest, number, slot))
    else:
        yield _tell(rest, command, _command(world, word, args))


def _command(world: World, word: str, args: list[str]) -> Event:
    if word in ("buy", "sell", "stop"):
        symbol = args[1] if len(args) > 1 else world.setup.config.symbols[0]
        side = Side.SELL if word == "sell" else Side.BUY
        if word == "stop":
            kind, trigger = OrdType.STOP_LIMIT, at_price(PRICE)
        else:
            kind, trigger = OrdType.LIMIT, None
        return SubmitOrder(0, symbol, side, quantity(int(args[0])), at_price(PRICE), kind, trigger)
    if word == "cancel":
        return CancelOrder(0, world.keys[int(args[0])])
    if word == "replace":
        return ReplaceOrder(0, world.keys[int(args[0])], quantity(int(args[1])), at_price(int(args[2])))
    if word == "freeze":
        return Freeze(0, args[0], Trigger.MANUAL, "test", "ops")
    return Unfreeze(0, args[0], "ops", "test", word == "force")


def _crash(world: World) -> Move[World]:
    """The process dies: its queue and all answers are gone, what is on the wire goes on. A new one continues from the log."""
    wire = tuple(item._replace(stage=ZOMBIE) for item in world.wire if item.stage in (WIRE, ZOMBIE))
    seen = ("restart in the middle of a sweep",) if world.core.desk is not None and world.core.desk.sweep is not None else ()
    after = attrs.evolve(world, wire=wire, reports=(), blind=True)
    return _tell(after, "the process dies, and a new one starts", Restarted(0, world.setup.config, "ops"), seen=seen)


def _bust(world: World, number: int, slot: Slot) -> World:
    """The last trade is void; a filled order rests again with it."""
    state = OPEN if slot.state == FILLED else slot.state
    report = Report(number, TradeBusted(0, _client(world, number), str(slot.cum)))
    return _book(world, number, slot._replace(state=state, cum=slot.cum - 1), report)


# --- requests that add risk ---------------------------------------------------------------------------------------------


def _travels(world: World, item: Item) -> Moves:
    effect, name = item.effect, _name(item.effect)
    assert isinstance(effect, (Place, Replace))
    if item.stage == QUEUE:
        code = gateway.may_send(world.core, effect)
        if code:
            held = _answered(world, item, _outcome(item, OutcomeKind.REFUSED, code))
            yield _silent(f"{name} is held back: {code}", held, True, ("held back at the last moment",))
        else:
            wrong = (f"SAFE-1: {name} leaves, though it was decided before the freeze",) if item.doomed else ()
            left = _restaged(world, item, WIRE)
            if world.setup.swift and not wrong:
                yield from _travels(left, left.wire[world.wire.index(item)])
            else:
                yield _silent(f"{name} leaves", left, True, wrong=wrong)
        return
    if not item.late:
        yield _silent(f"{name} arrives", _arrives(world, item), True)
    if item.stage == WIRE:
        if not item.late and (faulty := _fault(world, "refuse")) is not None:
            yield _silent(f"{name} is refused", _refused(faulty, item))
        timed_out = world if item.late else _fault(world, "timeout")
        if timed_out is not None:
            waiting = _without(timed_out, item) if item.late else _restaged(timed_out, item, ZOMBIE)
            yield _tell(waiting, f"{name} times out", _outcome(item, OutcomeKind.IN_DOUBT, "timeout"), fair=item.late)


def _restaged(world: World, item: Item, stage: str) -> World:
    at = world.wire.index(item)
    return attrs.evolve(world, wire=(*world.wire[:at], item._replace(stage=stage), *world.wire[at + 1 :]))


def _number(world: World, effect: Effect) -> int:
    assert isinstance(effect, (Place, Replace))
    return world.keys.index(effect.order)


def _refused(world: World, item: Item) -> World:
    if isinstance(item.effect, Place):
        number = _number(world, item.effect)
        world = _book(world, number, world.slots[number]._replace(state=REFUSED))
    return _answered(world, item, _outcome(item, OutcomeKind.REFUSED, "no"))


def _arrives(world: World, item: Item) -> World:
    """The venue applies the request, reports it, and answers unless nobody waits for the answer any more."""
    number = _number(world, item.effect)
    slot, client = world.slots[number], _client(world, number)
    kind = OutcomeKind.ACKNOWLEDGED
    if isinstance(item.effect, Place):
        assert slot.state == SENT, "the same place arrived twice"
        world = _book(world, number, slot._replace(state=OPEN), Report(number, OrderAccepted(0, client, f"v{number}")))
    elif isinstance(item.effect, Replace):
        qty, price = item.effect.qty, item.effect.price
        if slot.state == OPEN and qty > slot.cum:
            report = Report(number, OrderReplaced(0, client, f"v{number}", qty, price))
            world = _book(world, number, slot._replace(qty=qty, price=price or 0), report)
        else:
            kind = OutcomeKind.REFUSED
    return _without(world, item) if item.stage == ZOMBIE else _answered(world, item, _outcome(item, kind))


def _client(world: World, number: int) -> str:
    return order_at(world, number).spec.client_id


def _book(world: World, number: int, slot: Slot, *reports: Report) -> World:
    slots = (*world.slots[:number], slot, *world.slots[number + 1 :])
    return attrs.evolve(world, slots=slots, reports=(*world.reports, *reports))


# --- other requests --------------------------------------------------------------------------------------------------


def _served(world: World, item: Item) -> Moves:
    effect, name = item.effect, _name(item.effect)
    if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
        yield from _cancels(world, item)
    elif isinstance(effect, (AcquireLease, RenewLease, ReleaseLease)):
        yield from _leases(world, item)
    elif isinstance(effect, (PublishFreeze, ReadFreeze, ClearFreeze)):
        yield from _latches(world, item)
    else:
        yield _silent(f"{name} is answered", _answered(world, item, _truth(world, effect)), True)
        if (faulty := _fault(world, "failed")) is not None:
            yield _silent(f"{name} fails", _answered(faulty, item, failed(effect, 0, OutcomeKind.UNAVAILABLE, "down")))
        if isinstance(effect, FetchOpenOrders) and (faulty := _fault(world, "stale")) is not None:
            yield _silent(f"{name} is answered with an old, empty list", _answered(faulty, item, _listing(effect, ())))


def _cancels(world: World, item: Item) -> Moves:
    effect, name = item.effect, _name(item.effect)
    code = gateway.may_send(world.core, effect)
    if code:
        yield _silent(f"{name} is held back: {code}", _answered(world, item, _outcome(item, OutcomeKind.REFUSED, code)), True)
        return
    done, refused = _cancelled(world, effect)
    kind = OutcomeKind.REFUSED if refused else OutcomeKind.ACKNOWLEDGED
    yield _silent(f"{name} arrives", _answered(done, item, _outcome(item, kind)), True)
    if (faulty := _fault(world, "unavailable")) is not None:
        yield _silent(f"{name} is turned away", _answered(faulty, item, _outcome(item, OutcomeKind.UNAVAILABLE, "busy")))
    if (faulty := _fault(world, "doubt")) is not None:
        doubt = _outcome(item, OutcomeKind.IN_DOUBT, "timeout")
        yield _silent(f"{name} is lost", _answered(faulty, item, doubt))
        if done is not world:
            yield _silent(f"{name} arrives, its answer is lost", _answered(_cancelled(faulty, effect)[0], item, doubt))
    if done is not world and (faulty := _fault(world, "lie")) is not None:
        yield _silent(f"{name} is acknowledged and not done", _answered(faulty, item, _outcome(item, OutcomeKind.ACKNOWLEDGED)))


def _cancelled(world: World, effect: Effect) -> tuple[World, bool]:
    """The world after the cancel, and whether it is refused as a whole."""
    if isinstance(effect, CancelAll):
        for number, slot in enumerate(world.slots):
            if slot.state == OPEN and (slot.symbol, slot.conditional) == (effect.symbol, effect.conditional):
                world = _end(world, number, slot)
        return world, False
    if isinstance(effect, CancelBatch):
        for target in effect.targets:
            number = world.keys.index(target.order)
            if world.slots[number].state == OPEN:
                world = _end(world, number, world.slots[number])
            else:
                reject = Report(number, CancelRejected(0, target.client_id, "not open"))
                world = attrs.evolve(world, reports=(*world.reports, reject))
        return world, False
    assert isinstance(effect, Cancel)
    number = world.keys.index(effect.target.order)
    slot = world.slots[number]
    return (_end(world, number, slot), False) if slot.state == OPEN else (world, True)


def _end(world: World, number: int, slot: Slot) -> World:
    cum = quantity(slot.cum if world.setup.totals else 0)
    return _book(world, number, slot._replace(state=CANCELLED), Report(number, OrderCancelled(0, _client(world, number), cum)))


def _row(world: World, number: int) -> OrderRow:
    slot = world.slots[number]
    return OrderRow(
        _client(world, number), f"v{number}", slot.symbol, slot.side, _STATUS[slot.state], quantity(slot.qty), at_price(slot.price),
        quantity(slot.cum), None, slot.conditional, slot.state,
    )  # fmt: skip


def _truth(world: World, effect: Effect) -> Event:
    if isinstance(effect, QueryOrder):
        number = world.keys.index(effect.order)
        known = world.slots[number].state not in (SENT, REFUSED)
        return OrderQueried(0, effect.id, effect.order, Found(_row(world, number)) if known else NotFound())
    if isinstance(effect, FetchPositions):
        totals = [(symbol, sum(s.cum if s.side is Side.BUY else -s.cum for s in world.slots if s.symbol == symbol)) for symbol in
                  world.setup.config.symbols]  # fmt: skip
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


# --- store -------------------------------------------------------------------------------------------------------------


def _leases(world: World, item: Item) -> Moves:
    kinds = (LeaseKind.RELEASED,) if isinstance(item.effect, ReleaseLease) else tuple(map(LeaseKind, world.setup.lease))
    for kind in kinds:
        fence = Fence(1, 1) if kind is LeaseKind.GRANTED else NO_FENCE
        until = T0 * 2 if kind is LeaseKind.GRANTED else 0
        yield _silent(
            f"the store answers {kind.value}", _answered(world, item, LeaseAnswer(0, item.effect.id, kind, fence, until, "")), True
        )


def _latches(world: World, item: Item) -> Moves:
    effect, name = item.effect, _name(item.effect)
    kind, latch = LatchKind.OK, world.latch
    if isinstance(effect, PublishFreeze) and all(row.symbol != effect.symbol for row in latch):
        latch = (*latch, LatchRow(effect.symbol, 1, effect.trigger, effect.reason, effect.by))
    elif isinstance(effect, ClearFreeze):
        if any(row.symbol == effect.symbol and row.epoch == effect.latch_epoch for row in latch):
            latch = tuple(row for row in latch if row.symbol != effect.symbol)
        else:
            kind = LatchKind.STALE
    done = attrs.evolve(world, latch=latch)
    yield _silent(f"{name} is done", _answered(done, item, LatchAnswer(0, effect.id, kind, latch)), True)
    if (faulty := _fault(world, "store")) is not None:
        yield _silent(f"{name} does not reach the store", _answered(faulty, item, LatchAnswer(0, effect.id, LatchKind.UNAVAILABLE, ())))
        if latch is not world.latch:
            doubt = LatchAnswer(0, effect.id, LatchKind.IN_DOUBT, ())
            yield _silent(f"{name} is done, the answer is lost", _answered(attrs.evolve(faulty, latch=latch), item, doubt))


# --- reports, market, time -------------------------------------------------------------------------------------------


def _reported(world: World, report: Report) -> Moves:
    at = world.reports.index(report)
    rest = attrs.evolve(world, reports=world.reports[:at] + world.reports[at + 1 :])
    name = f"{type(report.event).__name__} of order {report.slot}"
    yield _tell(rest, f"{name} is heard", report.event, fair=True)
    if (faulty := _fault(world, "dup")) is not None:
        yield _tell(faulty, f"{name} is heard, and will come again", report.event, seen=("a report came twice",))
    if (faulty := _fault(rest, "lose")) is not None:
        yield _silent(f"{name} is lost", attrs.evolve(faulty, blind=True))


def _trades(world: World, number: int, slot: Slot) -> Move[World]:
    cum = slot.cum + 1
    total = quantity(cum if world.setup.totals else 0)
    fill = OrderFilled(0, _client(world, number), f"v{number}", str(cum), quantity(1), at_price(slot.price), total, Usd(0))
    state = FILLED if cum == slot.qty else OPEN
    after = _book(attrs.evolve(world, fills=world.fills - 1), number, slot._replace(state=state, cum=cum), Report(number, fill))
    return _silent(f"one unit of order {number} trades", after)


def _timers(world: World) -> Moves:
    desk = world.core.desk
    assert desk is not None
    for number, key in enumerate(world.keys):
        order = world.core.orders.get(key)
        if order is not None and order.requests.timer is not None:
            calm = world if not _talked_about(world, number) else _fault(world, "early")
            if calm is not None:
                yield _fires(calm, order.requests.timer, Purpose.ORDER, key, calm is world)
    sweep = desk.sweep
    if sweep is not None and sweep.timer is not None:
        yield _fires(world, sweep.timer, Purpose.SWEEP, 0, True)
    if sweep is not None and not sweep.reported and "deadline" in world.setup.kinds:
        yield _fires(world, sweep.deadline, Purpose.SWEEP_DEADLINE, 0, False)
    if desk.stock is not None and desk.stock.timer is not None:
        yield _fires(world, desk.stock.timer, Purpose.START, 0, True)
    if desk.store.timer is not None and "poll" in world.setup.kinds:
        yield _fires(world, desk.store.timer, Purpose.LATCH, 0, True)
    if desk.lease is not None and desk.lease.timer is not None and "renew" in world.setup.kinds:
        yield _fires(world, desk.lease.timer, Purpose.LEASE, 0, True)


def _talked_about(world: World, number: int) -> bool:
    """Whether a message about the order is on its way."""
    key = world.keys[number]
    return any(report.slot == number for report in world.reports) or any(getattr(item.effect, "order", 0) == key for item in world.wire)


def _fires(world: World, timer: tuple[int, int], purpose: Purpose, key: int, fair: bool) -> Move[World]:
    return _tell(world, f"the {purpose.value} timer fires", TimerFired(0, timer, purpose, key), fair=fair)


def _ticks(world: World) -> Moves:
    """Time passes, where that can matter: nothing that was on its way before can arrive after it."""
    young = any(o.requests.doubt_ns == world.now for o in world.core.orders.values())
    travelling = any(item.stage in (WIRE, ZOMBIE) and not item.late for item in world.wire)
    if not young and not travelling:
        return
    waits = bool(world.reports) or any(item.stage != ZOMBIE for item in world.wire)
    calm = _fault(world, "early") if waits else world
    if calm is None:
        return
    wire = tuple(item._replace(late=True) if item.stage == WIRE else item for item in calm.wire if item.stage != ZOMBIE)
    beyond = (calm.setup.config.venue.place_expiry_ms + 1) * 1_000_000
    yield _silent("time passes", attrs.evolve(calm, now=calm.now + beyond, wire=wire), not waits)


# --- what happened ------------------------------------------------------------------------------------------------------


def _happened(before: World, event: Event, after: World, effects: tuple[Effect, ...]) -> tuple[str, ...]:
    """Names of the things worth having been seen."""
    seen = [effect.code for effect in effects if isinstance(effect, Alert)]
    seen += [f"{e.mode.value}" for e in effects if isinstance(e, ModeChanged)]
    if any(isinstance(e, Metric) and e.name == "mm_cancel_all_skipped_total" for e in effects):
        seen.append("sweep verified after a held lease")
    assert before.core.desk is not None
    sweep = before.core.desk.sweep
    if "late_fill" in seen:
        mode = effective_mode(before.core.desk, 0)
        seen.append(f"late fill while {mode.value}")
    if isinstance(event, OrderReplaced) and sweep is not None:
        seen.append("replace accepted while being frozen")
    if sweep is not None and sweep.held and sweep.phase is not SweepPhase.SNAPSHOT and any(isinstance(e, Cancel) for e in effects):
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


