"""When two worlds are the same situation.

Ids, keys and times derive from record numbers and the clock, so equal situations differ in all of them. The key of a situation renames
them by their *role*: an effect id is "what order 0 waits for as its query", or nobody's; a time is "a tick ago" or not. Left out is
what no rule looks at again (who froze and when, how often something was tried: that only lengthens waits) and what follows from the rest.
"""

from collections.abc import Hashable

from haltcore.effects import (
    NO_FENCE,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    EffectId,
    FetchOpenOrders,
    GuardState,
    Mode,
    Place,
    PublishFreeze,
    QueryOrder,
    Replace,
    SettleGuard,
)
from haltcore.fsm.core import Core, Desk, Guard
from haltcore.fsm.events import (
    FetchedOrders,
    FetchFailed,
    GuardAnswer,
    LatchAnswer,
    LeaseAnswer,
    OpenOrders,
    OrderQueried,
    Outcome,
    Positions,
)
from haltcore.fsm.exposure import FLAT, book_key
from haltcore.fsm.order import Order

from .world import Item, Report, World

Roles = dict[EffectId, list[Hashable]]


def key(world: World) -> Hashable:
    """The situation, as a value that equal situations share."""
    core, desk = world.core, world.core.desk
    assert desk is not None
    number = {order: slot for slot, order in enumerate(world.keys)}
    roles: Roles = {}
    orders = tuple(_order(world, core, slot, order, roles) for slot, order in enumerate(world.keys))
    rest = _desk(core, desk, number, roles)
    books = tuple(
        (b.position, b.buy_qty, b.sell_qty, b.open_orders, b.unknown_buy + b.unknown_sell)
        for b in (
            core.books.get(book_key(owner, sym), FLAT)
            for owner in range(len(desk.config.strategies) + 1) for sym in range(len(desk.config.symbols))
        )
    )  # fmt: skip
    wire = sorted(repr(_item(item, number, roles, desk, world.now)) for item in world.wire)
    guards = tuple(sorted((row.number, row.replace, str(row.state)) for row in world.guards))
    once = number.get(core.once.get("signal", 0), 99) if core.once is not None else None
    reports = [repr(_report(report)) for report in world.reports]
    if not world.setup.ordered:
        reports.sort()
    latch = tuple((row.scope, row.epoch, row.mine, row.by == "peer") for row in world.latch)
    return (
        orders, rest, books, world.slots, tuple(wire), tuple(reports), latch, world.todo, world.faults, world.fills,
        world.stopped, world.blind, guards, once,
    )  # fmt: skip


def _role(roles: Roles, effect: EffectId | None, name: Hashable) -> bool:
    if effect is None:
        return False
    roles.setdefault(effect, []).append(name)
    return True


def _order(world: World, core: Core, slot: int, order_key: int, roles: Roles) -> Hashable:
    o = core.order(order_key)
    assert isinstance(o, Order)
    r, f = o.requests, o.fills
    replace = None
    if r.replace is not None:
        replace = (_role(roles, r.replace.effect, ("replace", slot)), r.replace.qty, r.replace.price, r.replace.claiming)
    # A rule compares the time of doubt with the time of asking; a future question is asked now.
    asked = (r.asked_ns > r.doubt_ns > 0) if r.query is not None else None
    doubt = min(1, world.now - r.doubt_ns) if r.doubt_ns else None
    return (
        order_key in core.orders, o.accepted, o.triggered, str(o.ended),
        o.qty, o.price, o.reserve, o.venue_id != "",
        f.traded, f.reported, tuple(sorted((name, trade.qty) for name, trade in f.trades.items())),
        _role(roles, r.place, ("place", slot)), _role(roles, r.cancel, ("cancel", slot)), r.cancel_wanted, replace,
        _role(roles, r.query, ("query", slot)), asked, doubt, min(r.not_found, 3), r.timer is not None, o.claiming,
        tuple(_guard(core, slot, order_key, guard, roles) for guard in core.flow.guards.get(order_key, ())),
    )  # fmt: skip


def _guard(core: Core, slot: int, order_key: int, guard: Guard, roles: Roles) -> Hashable:
    assert core.desk is not None
    stale = any(control.epoch > guard.epoch for control in core.desk.controls.values())
    return (guard.record == order_key, str(guard.state), str(guard.told), _role(roles, guard.settle, ("settle", slot)), stale)


def _desk(core: Core, desk: Desk, number: dict[int, int], roles: Roles) -> Hashable:
    controls = tuple(
        (scope, str(c.mode), c.verified, c.published, c.own is None,
         c.unfreeze is not None and _role(roles, c.unfreeze.effect, ("clear", scope)))
        for scope, c in sorted(desk.controls.items())
    )  # fmt: skip
    sweep = None
    if desk.sweep is not None:
        s = desk.sweep
        for index in s.awaiting:
            _role(roles, (s.batch, index), "sweep")
        rows = tuple(sorted((number_of(row.client_id, number, desk), row.symbol, row.conditional) for row in s.rows))
        sweep = (
            str(s.phase), len(s.awaiting), s.timer is not None, _role(roles, s.lease, "lease"), min(s.rounds, 1), s.streak, s.unread,
            rows, s.left, s.absent > 0, s.held, s.watched, s.bulk, s.single, s.reported, s.retry_at_ns > core.now_ns,
        )  # fmt: skip
    stock = None
    if desk.stock is not None:
        k = desk.stock
        for effect in k.waiting:
            _role(roles, effect, "stock")
        listed = tuple(sorted(number_of(row.client_id, number, desk) for row in k.rows))
        older = tuple(order < k.asked for order in number)
        stock = (len(k.waiting), listed, k.failed, k.timer is not None, k.gate, older)
    store = (
        str(desk.store.health), tuple((row.scope, row.epoch) for row in desk.store.latch), _role(roles, desk.store.read, "latch"),
        desk.store.timer is not None, _role(roles, desk.store.acquire, "acquire"),
    )  # fmt: skip
    lease = desk.lease is not None and (
        desk.lease.timer is not None, _role(roles, desk.lease.renewal, "renewal"), core.now_ns < desk.lease.valid_until_ns
    )  # fmt: skip
    return (controls, sweep, stock, store, lease, desk.link.up, desk.link.timer is not None, desk.opened, desk.stopping)


def number_of(client_id: str, number: dict[int, int], desk: Desk) -> int:
    """The number of our order with this client id; 99 for others'."""
    return number.get(int(client_id[len(desk.config.session) :], 36), 99) if client_id.startswith(desk.config.session) else 99


def _item(item: Item, number: dict[int, int], roles: Roles, desk: Desk, now: int) -> Hashable:
    effect = item.effect
    what: Hashable = ()
    if isinstance(effect, (Place, QueryOrder)):
        what = number[effect.order]
    elif isinstance(effect, Replace):
        what = (number[effect.order], effect.qty, effect.price)
    elif isinstance(effect, Cancel):
        what = number.get(effect.target.order, 99)
    elif isinstance(effect, CancelBatch):
        what = tuple(number.get(target.order, 99) for target in effect.targets)
    elif isinstance(effect, (CancelAll, FetchOpenOrders)):
        what = (effect.symbol, effect.conditional)
    elif isinstance(effect, PublishFreeze):
        what = effect.scope
    elif isinstance(effect, ClearFreeze):
        what = (effect.scope, effect.latch_epoch)
    elif isinstance(effect, ClaimGuard):
        what = (number[effect.order], effect.id[0] == effect.order)
    elif isinstance(effect, SettleGuard):
        what = (number[effect.order], str(effect.state), effect.owner.split(":")[1] == str(effect.order))
    # Of the time until which something is good, whether it is over.
    what = (what, 0 < getattr(effect, "expires_ns", 0) <= now, 0 < getattr(item.event, "valid_until_ns", 0) <= now)
    # Whether it is stale is all that the epoch of a place or replace is asked for.
    stale = isinstance(effect, (Place, Replace)) and any(c.epoch > effect.epoch for c in desk.controls.values())
    # As is, of the fence of a cancel, whether it is that of the lease.
    fence = getattr(effect, "fence", NO_FENCE)
    stale = stale or (fence != NO_FENCE and (desk.lease is None or desk.lease.fence != fence))
    role = tuple(sorted(map(repr, roles.get(effect.id, []))))
    return (item.stage, type(effect).__name__, what, stale, item.doomed, item.late, role, _answer(item, number, desk))


def _answer(item: Item, number: dict[int, int], desk: Desk) -> Hashable:
    event = item.event
    if event is None:
        return None
    if isinstance(event, Outcome):
        return (str(event.kind), event.code)
    if isinstance(event, (OrderQueried, OpenOrders, Positions)):
        result = event.result
        if isinstance(result, FetchFailed):
            return "failed"
        if isinstance(result, FetchedOrders):
            return tuple((number_of(row.client_id, number, desk), str(row.status), row.qty, row.cum_qty) for row in result.rows)
        if isinstance(event, OrderQueried):
            row = getattr(result, "row", None)
            return "none" if row is None else (str(row.status), row.qty, row.price, row.cum_qty)
        return "positions"
    if isinstance(event, LatchAnswer):
        return (str(event.kind), tuple((row.scope, row.epoch) for row in event.rows))
    if isinstance(event, GuardAnswer):
        return (str(event.kind), event.code)
    assert isinstance(event, LeaseAnswer)
    return str(event.kind)


def _report(report: Report) -> Hashable:
    event = report.event
    fields = ("trade_id", "last_qty", "cum_qty", "qty", "price", "reason")
    return (report.slot, type(event).__name__, tuple(getattr(event, name, None) for name in fields))


def settled(world: World) -> bool:
    """Nobody waits: no sweep, no doubt, no stocktake, no message on its way; and the store knows what became of every claim."""
    desk = world.core.desk
    assert desk is not None
    if world.wire or world.reports or desk.sweep is not None or desk.stock is not None:
        return False
    if any(control.mode is Mode.FREEZING for control in desk.controls.values()) or world.core.flow.guards:
        return False
    if any(row.state not in (GuardState.DONE, GuardState.REJECTED) for row in world.guards):
        return False
    return not any(
        o.requests.doubt_ns or o.requests.cancel is not None or o.requests.replace is not None or o.requests.cancel_wanted or not o.accepted
        for o in world.core.orders.values()
    )
