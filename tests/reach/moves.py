"""What can happen next in a small world.

============ =========================================================================== ==========================================
group        moves                                                                       counts as a fault
============ =========================================================================== ==========================================
users        submit, cancel, replace, freeze, reduce, unfreeze, restart, any time        no, but each is in the setup's list once
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


import attrs
from haltcore.effects import ClaimGuard, OrdType, Place, Purpose, Replace, Side, Trigger, Usd
from haltcore.fsm.core import in_words
from haltcore.fsm.events import (
    CancelOrder,
    Event,
    Freeze,
    LatchRow,
    OrderFilled,
    ReplaceOrder,
    Restarted,
    SetReduceOnly,
    SubmitOrder,
    TimerFired,
    TradeBusted,
    Unfreeze,
)
from haltcore.fsm.step import start

from .guards import left_behind
from .hearing import Moves, asked, book, client_of, fault, named, silent, tell, without
from .search import Move
from .venue import served, travels
from .world import FILLED, OPEN, QUEUE, REPLY, T0, WIRE, ZOMBIE, Report, Setup, Slot, World, at_price, quantity

PRICE = 10
_ORDERS = ("buy", "sell", "out", "stop")


def first(setup: Setup) -> World:
    """The world when the session has begun and its first questions are answered."""
    core, effects = start(setup.config, T0)
    world = World(setup, core, T0, setup.todo, setup.faults, setup.fills)
    world = asked(world, effects)
    while world.wire:
        item = world.wire[0]
        if item.stage == QUEUE:
            world = next(iter(served(world, item))).state
        else:
            world = tell(attrs.evolve(world, wire=world.wire[1:]), "start", item.event).state
    for command in setup.begins:
        world = tell(world, command, _command(world, command)).state
    return world


def moves(world: World) -> Moves:
    """Everything that can happen now, in a fixed order."""
    for command in dict.fromkeys(world.todo):
        yield from _user(world, command)
    for item in dict.fromkeys(world.wire):
        if item.stage == REPLY:
            rest = without(world, item)
            move = tell(rest, f"the answer to {named(item.effect)} is heard", item.event, fair=True)
            wrong = ("SAFE-1: sent on a claim that was decided before the freeze",) if item.doomed and _adding(move.state, rest) else ()
            yield attrs.evolve(move, problems=move.problems + wrong)
        elif isinstance(item.effect, (Place, Replace)):
            yield from travels(world, item)
        else:
            yield from served(world, item)
    for at, report in enumerate(world.reports):
        if not world.setup.ordered or all(earlier.slot != report.slot for earlier in world.reports[:at]):
            yield from _reported(world, report)
    for number, slot in enumerate(world.slots):
        if slot.state == OPEN and world.fills:
            yield _trades(world, number, slot)
    yield from _timers(world)
    yield from _ticks(world)


def _adding(world: World, before: World) -> bool:
    """Whether a place or replace is on the wire that was not there before."""
    return any(isinstance(item.effect, (Place, Replace)) and item not in before.wire for item in world.wire)


# --- users -------------------------------------------------------------------------------------------------

def _user(world: World, command: str) -> Moves:
    word, *args = command.split(":")
    at = world.todo.index(command)
    if word in _ORDERS and any(c.split(":")[0] in _ORDERS for c in world.todo[:at]):
        return  # orders are submitted in the order of the list: the others are the same but for names
    if word in ("cancel", "replace") and int(args[0]) >= len(world.slots):
        return
    rest = attrs.evolve(world, todo=world.todo[:at] + world.todo[at + 1 :])
    if word == "restart":
        yield _crash(rest)
    elif word == "peer":
        scope = ":".join(args)
        row = LatchRow(scope, 7, Trigger.MANUAL, "elsewhere", "peer", mine=False)
        yield silent(f"another process freezes {in_words(scope)}", attrs.evolve(rest, latch=(*rest.latch, row)))
    elif word == "bust":
        number = int(args[0])
        if number < len(world.slots) and world.slots[number].cum:
            slot = world.slots[number]
            yield silent("the venue busts a trade", _bust(rest, number, slot))
    else:
        yield tell(rest, command, _command(world, command))


def _command(world: World, command: str) -> Event:
    word, _, rest = command.partition(":")
    args = rest.split(":")
    if word in _ORDERS:
        symbol = args[1] if len(args) > 1 else world.setup.config.symbols[0]
        strategy = args[2] if len(args) > 2 else ""
        side = Side.SELL if word in ("sell", "out") else Side.BUY
        if word == "stop":
            kind, trigger = OrdType.STOP_LIMIT, at_price(PRICE)
        else:
            kind, trigger = OrdType.LIMIT, None
        return SubmitOrder(
            0, symbol, side, quantity(int(args[0])), at_price(PRICE), kind, trigger, reduce_only=word == "out", strategy=strategy,
            once="signal" if world.setup.once else "",
        )
    if word == "cancel":
        return CancelOrder(0, world.keys[int(args[0])])
    if word == "replace":
        return ReplaceOrder(0, world.keys[int(args[0])], quantity(int(args[1])), at_price(int(args[2])))
    if word == "freeze":
        return Freeze(0, rest, Trigger.MANUAL, "test", "ops")
    if word == "reduce":
        return SetReduceOnly(0, rest, True, "ops", "test")
    return Unfreeze(0, rest, "ops", "test", word == "force")


def _crash(world: World) -> Move[World]:
    """The process dies: its queue and all answers are gone, what is on the wire goes on. A new one continues from the log."""
    wire = tuple(item._replace(stage=ZOMBIE) for item in world.wire if item.stage in (WIRE, ZOMBIE) or left_behind(world, item))
    seen = ("restart in the middle of a sweep",) if world.core.desk is not None and world.core.desk.sweep is not None else ()
    after = attrs.evolve(world, wire=wire, reports=(), blind=True)
    return tell(after, "the process dies, and a new one starts", Restarted(0, world.setup.config, "ops"), seen=seen)


def _bust(world: World, number: int, slot: Slot) -> World:
    """The last trade is void; a filled order rests again with it."""
    state = OPEN if slot.state == FILLED else slot.state
    report = Report(number, TradeBusted(0, client_of(world, number), str(slot.cum)))
    return book(world, number, slot._replace(state=state, cum=slot.cum - 1), report)


# --- reports, market, time ---------------------------------------------------------------------------------

def _reported(world: World, report: Report) -> Moves:
    at = world.reports.index(report)
    rest = attrs.evolve(world, reports=world.reports[:at] + world.reports[at + 1 :])
    name = f"{type(report.event).__name__} of order {report.slot}"
    yield tell(rest, f"{name} is heard", report.event, fair=True)
    if (faulty := fault(world, "dup")) is not None:
        yield tell(faulty, f"{name} is heard, and will come again", report.event, seen=("a report came twice",))
    if (faulty := fault(rest, "lose")) is not None:
        yield silent(f"{name} is lost", attrs.evolve(faulty, blind=True))


def _trades(world: World, number: int, slot: Slot) -> Move[World]:
    cum = slot.cum + 1
    total = quantity(cum if world.setup.totals else 0)
    fill = OrderFilled(0, client_of(world, number), f"v{number}", str(cum), quantity(1), at_price(slot.price), total, Usd(0))
    state = FILLED if cum == slot.qty else OPEN
    after = book(attrs.evolve(world, fills=world.fills - 1), number, slot._replace(state=state, cum=cum), Report(number, fill))
    return silent(f"one unit of order {number} trades", after)


def _timers(world: World) -> Moves:
    desk = world.core.desk
    assert desk is not None
    for number, key in enumerate(world.keys):
        order = world.core.orders.get(key)
        if order is not None and order.requests.timer is not None:
            calm = world if not _talked_about(world, number) else fault(world, "early")
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
    return tell(world, f"the {purpose.value} timer fires", TimerFired(0, timer, purpose, key), fair=fair)


def _ticks(world: World) -> Moves:
    """Time passes, where that can matter: nothing that was on its way before can arrive after it."""
    young = any(o.requests.doubt_ns == world.now for o in world.core.orders.values())
    travelling = any(item.stage in (WIRE, ZOMBIE) and not item.late for item in world.wire)
    travelling = travelling or any(isinstance(item.effect, ClaimGuard) for item in world.wire)
    if not young and not travelling:
        return
    waits = bool(world.reports) or any(item.stage != ZOMBIE for item in world.wire)
    calm = fault(world, "early") if waits else world
    if calm is None:
        return
    wire = tuple(item._replace(late=True) if item.stage == WIRE else item for item in calm.wire if item.stage != ZOMBIE)
    beyond = (calm.setup.config.venue.place_expiry_ms + 1) * 1_000_000
    yield silent("time passes", attrs.evolve(calm, now=calm.now + beyond, wire=wire), not waits)
