"""An ideal world: what answers the effects of a run whose answers stand in no log.

A counterfactual run asks for things that nobody did: it cancels where the recorded run went on, and places what was denied. Whoever
answers then has to be simple enough to be stated in a few sentences, and take no luck from anywhere:

* a request is taken at once and done at once: a cancel ends what it covers, a replace replaces, a place is live;
* nothing fills. An order that cannot rest (market, IOC, FOK) expires;
* a question is answered by what the run itself holds as open. Asked for an order of which the recorded run knows more, it says that; where
  the recorded run is in doubt too, the question fails, and is put again later;
* the store grants, leases and claims, and remembers what it is told. Nobody else uses it.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from ..effects import (
    AcquireLease,
    Cancel,
    CancelAll,
    CancelBatch,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    OrdType,
    Place,
    PublishFreeze,
    Qty,
    QueryOrder,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    Replace,
    SettleGuard,
    ShareBreaker,
    TimeInForce,
)
from .core import Core
from .events import (
    BreakerAnswer,
    BreakerKind,
    Event,
    FetchedOrders,
    FetchedPositions,
    FetchFailed,
    Found,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderQueried,
    OrderReplaced,
    OrderRow,
    OutcomeKind,
    PositionRow,
    Positions,
    ReportStatus,
    StoreChecked,
    StoreHealth,
)
from .order import Ended, Order, is_done
from .outcomes import outcome
from .turn import NS_PER_MS

_GRANTED = Fence(1, 1)
_NEVER_RESTS = (OrdType.MARKET,)
_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
_ENDS = {
    Ended.NO: ReportStatus.FILLED,
    Ended.CANCELLED: ReportStatus.CANCELLED,
    Ended.EXPIRED: ReportStatus.EXPIRED,
    Ended.REJECTED: ReportStatus.REJECTED,
}


#: What the recorded run knows of an order, by key; None if it knows nothing that could be told.
Known: TypeAlias = Callable[[int], Order | None]


def answers(effect: Effect, run: Core, known: Known, at_ns: int) -> tuple[Event, ...]:
    """What the ideal world says to an effect of this run, in order. Nothing for timers, and for what needs no answer."""
    if isinstance(effect, QueryOrder):
        return (OrderQueried(at_ns, effect.id, effect.order, _told(run.order(effect.order), known(effect.order))),)
    answer = _ANSWERS.get(type(effect))
    return answer(effect, run, at_ns) if answer is not None else ()


def covered(effect: Effect, run: Core) -> list[Order]:
    """The open orders of this run that a cancel covers, by key; none for other effects."""
    if isinstance(effect, CancelAll):
        found = [o for o in run.orders.values() if o.spec.symbol == effect.symbol and o.conditional == effect.conditional]
        return sorted(found, key=lambda order: order.key)
    targets = effect.targets if isinstance(effect, CancelBatch) else (effect.target,) if isinstance(effect, Cancel) else ()
    return [order for target in targets if (order := run.orders.get(target.order)) is not None]


def ended(order: Order, at_ns: int) -> Event:
    """The venue's word that it has cancelled the order."""
    return OrderCancelled(at_ns, order.spec.client_id, order.cum_qty)


def live(order: Order, at_ns: int) -> tuple[Event, ...]:
    """The venue's word that the order is live; one that cannot rest has expired again."""
    s = order.spec
    accepted = OrderAccepted(at_ns, s.client_id, f"ideal{order.key}")
    if s.type in _NEVER_RESTS or s.tif in _AT_ONCE:
        return accepted, OrderExpired(at_ns, s.client_id, order.cum_qty)
    return (accepted,)


def replaced(order: Order, at_ns: int) -> tuple[Event, ...]:
    """The venue's word that the order has been changed as it is asked for."""
    pending = order.requests.replace
    if pending is None:
        return ()
    return (OrderReplaced(at_ns, order.spec.client_id, order.venue_id, pending.qty, pending.price),)


def row_of(order: Order, status: ReportStatus = ReportStatus.OPEN) -> OrderRow:
    """The order as the ideal venue describes it."""
    s = order.spec
    venue_id = order.venue_id or f"ideal{order.key}"
    return OrderRow(
        s.client_id, venue_id, s.symbol, s.side, status, order.qty, order.price, order.cum_qty, None, order.conditional, status.value
    )


# --- by effect --------------------------------------------------------------------------------------------------------


def _acknowledged(effect: Effect, at_ns: int) -> Event:
    return outcome(effect, at_ns, OutcomeKind.ACKNOWLEDGED)


def _place(effect: Place, run: Core, at_ns: int) -> tuple[Event, ...]:
    order = run.orders.get(effect.order)
    return (*(live(order, at_ns) if order is not None else ()), _acknowledged(effect, at_ns))


def _replace(effect: Replace, run: Core, at_ns: int) -> tuple[Event, ...]:
    order = run.orders.get(effect.order)
    return (*(replaced(order, at_ns) if order is not None else ()), _acknowledged(effect, at_ns))


def _cancel(effect: Cancel | CancelBatch | CancelAll, run: Core, at_ns: int) -> tuple[Event, ...]:
    return (*(ended(order, at_ns) for order in covered(effect, run)), _acknowledged(effect, at_ns))


def _told(order: Order | None, known: Order | None) -> Found | NotFound | FetchFailed:
    if order is None:
        return NotFound()
    if known is None:
        return Found(row_of(order))
    if is_done(known):
        cum_qty = min(known.cum_qty, order.qty)
        status = _ENDS[known.ended]
        if status is ReportStatus.FILLED and cum_qty < order.qty:
            # It was filled at a size that this run never gave it.
            status = ReportStatus.OPEN
        return Found(attrs.evolve(row_of(order, status), cum_qty=cum_qty))
    if known.accepted and not known.requests.doubt_ns:
        return Found(row_of(order))
    return FetchFailed(OutcomeKind.UNAVAILABLE, "in_doubt", "the recorded run does not know either", 0)


def _open_orders(effect: FetchOpenOrders, run: Core, at_ns: int) -> tuple[Event, ...]:
    rows = tuple(row_of(order) for order in _in_book(run, effect.symbol, effect.conditional))
    return (OpenOrders(at_ns, effect.id, effect.symbol, effect.conditional, FetchedOrders(rows)),)


def _in_book(run: Core, symbol: str, conditional: bool) -> list[Order]:
    """The open orders of this run in one book, by key; an empty symbol is the account."""
    found = [o for o in run.orders.values() if symbol in ("", o.spec.symbol) and o.conditional == conditional]
    return sorted(found, key=lambda order: order.key)


def _positions(effect: FetchPositions, run: Core, at_ns: int) -> tuple[Event, ...]:
    symbols = run.desk.config.symbols if run.desk is not None else ()
    held = [(symbol, run.books[sym].position) for sym, symbol in enumerate(symbols) if sym in run.books]
    rows = tuple(PositionRow(symbol, Qty(position), None) for symbol, position in held if position)
    return (Positions(at_ns, effect.id, FetchedPositions(rows)),)


def _lease(effect: AcquireLease | RenewLease, _run: Core, at_ns: int) -> tuple[Event, ...]:
    return (LeaseAnswer(at_ns, effect.id, LeaseKind.GRANTED, _GRANTED, at_ns + effect.ttl_ms * NS_PER_MS, "what-if"),)


def granted(effect: ClaimGuard, at_ns: int) -> GuardAnswer:
    """The claim, granted."""
    return GuardAnswer(at_ns, effect.id, effect.order, GuardKind.CLAIMED, at_ns + effect.valid_ms * NS_PER_MS, "", "", "")


def _claim(effect: ClaimGuard, _run: Core, at_ns: int) -> tuple[Event, ...]:
    return (granted(effect, at_ns),)


def _settle(effect: SettleGuard, _run: Core, at_ns: int) -> tuple[Event, ...]:
    return (GuardAnswer(at_ns, effect.id, effect.order, GuardKind.SETTLED, 0, "", "", ""),)


def _check(effect: CheckStore, _run: Core, at_ns: int) -> tuple[Event, ...]:
    return (StoreChecked(at_ns, effect.id, StoreHealth.OK, (), ()),)


def _breaker(effect: ShareBreaker, _run: Core, at_ns: int) -> tuple[Event, ...]:
    version = effect.version + 1 if effect.state else effect.version
    return (BreakerAnswer(at_ns, effect.id, effect.job, BreakerKind.OK, version, effect.state),)


def _release(effect: ReleaseLease, _run: Core, at_ns: int) -> tuple[Event, ...]:
    return (LeaseAnswer(at_ns, effect.id, LeaseKind.RELEASED, effect.fence, 0, ""),)


def _latch(effect: PublishFreeze | ReadFreeze | ClearFreeze, run: Core, at_ns: int) -> tuple[Event, ...]:
    """A row of another process alone stays, and one that is ours as well becomes theirs alone; with force, or where authors were not kept
    (format 2), it goes."""
    rows = run.desk.store.latch if run.desk is not None else ()
    if isinstance(effect, PublishFreeze):
        epoch = 1 + max([row.epoch for row in rows], default=0)
        row = LatchRow(effect.scope, epoch, effect.trigger, effect.reason, effect.by)
        stands = next((row for row in rows if row.scope == effect.scope), None)
        if stands is not None:
            other = (stands.trigger, stands.reason, stands.by) != (effect.trigger, effect.reason, effect.by)
            row = attrs.evolve(stands, epoch=epoch, joint=stands.joint or other, mine=None if stands.mine is None else True)
        rows = (*(row for row in rows if row.scope != effect.scope), row)
    elif isinstance(effect, ClearFreeze):
        stands = next((row for row in rows if row.scope == effect.scope), None)
        rows = tuple(row for row in rows if row.scope != effect.scope)
        if stands is not None and not effect.force and (stands.mine is False or (stands.mine and stands.joint)):
            rows = (*rows, attrs.evolve(stands, mine=False, epoch=stands.epoch + (stands.mine is True)))
    return (LatchAnswer(at_ns, effect.id, LatchKind.OK, rows),)


_ANSWERS: Final[dict[type[Effect], Callable[[Any, Core, int], tuple[Event, ...]]]] = {
    Place: _place,
    Replace: _replace,
    Cancel: _cancel,
    CancelBatch: _cancel,
    CancelAll: _cancel,
    FetchOpenOrders: _open_orders,
    FetchPositions: _positions,
    AcquireLease: _lease,
    RenewLease: _lease,
    ReleaseLease: _release,
    PublishFreeze: _latch,
    ReadFreeze: _latch,
    ClearFreeze: _latch,
    ClaimGuard: _claim,
    SettleGuard: _settle,
    CheckStore: _check,
    ShareBreaker: _breaker,
}
