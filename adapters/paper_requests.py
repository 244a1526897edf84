"""What a request does to the exchange once it has arrived, and how that is answered: the reply's evidence, then its outcome."""

from ..effects import (
    Cancel,
    CancelAll,
    CancelBatch,
    CancelTarget,
    Effect,
    FetchOpenOrders,
    Place,
    Qty,
    QueryOrder,
    Replace,
)
from ..fsm.events import (
    CancelRejected,
    Event,
    FetchedOrders,
    FetchedPositions,
    Found,
    NotFound,
    OpenOrders,
    OrderCancelled,
    OrderQueried,
    OrderRejected,
    OrderRow,
    OutcomeKind,
    Positions,
    ReplaceRejected,
)
from ..fsm.outcomes import failed, outcome
from .faults import Drawn, Fault, FaultSource
from .ladder import Ticket
from .matching import Exchange

NS_PER_MS = 1_000_000


def carry_out(exchange: Exchange, faults: FaultSource, effect: Effect, drawn: Drawn, now_ns: int) -> list[Event]:
    """Apply one request, bent by the fault that was drawn for it."""
    if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
        if drawn.fault is Fault.CROSSING_FILL:
            _cross(exchange, faults, effect, now_ns)
        return _cancel(exchange, faults, effect, drawn.fault, now_ns)
    if isinstance(effect, Place):
        return replied(effect, exchange.place(Ticket.of(effect), now_ns))
    if isinstance(effect, Replace):
        return replied(effect, exchange.replace(effect.symbol, effect.client_id, effect.venue_id, effect.qty, effect.price, now_ns))
    if isinstance(effect, QueryOrder):
        row = exchange.query(effect.symbol, effect.client_id, effect.venue_id, effect.conditional)
        return [OrderQueried(now_ns, effect.id, effect.order, NotFound() if row is None else Found(row))]
    if isinstance(effect, FetchOpenOrders):
        as_of_ns = now_ns - drawn.ms * NS_PER_MS if drawn.fault is Fault.STALE_SNAPSHOT else None
        rows = exchange.open_orders(effect.symbol, effect.conditional, as_of_ns)
        return [OpenOrders(now_ns, effect.id, effect.symbol, effect.conditional, FetchedOrders(rows))]
    return [Positions(now_ns, effect.id, FetchedPositions(exchange.positions()))]


def replied(effect: Effect, reply: Event) -> list[Event]:
    """The exchange's word about one order, and the outcome that it means."""
    if isinstance(reply, (OrderRejected, CancelRejected, ReplaceRejected)):
        return [reply, failed(effect, reply.at_ns, OutcomeKind.REFUSED, reply.reason)]
    return [reply, outcome(effect, reply.at_ns, OutcomeKind.ACKNOWLEDGED)]


def _cancel(exchange: Exchange, faults: FaultSource, effect: Cancel | CancelBatch | CancelAll, fault: Fault, now_ns: int) -> list[Event]:
    if isinstance(effect, Cancel):
        return replied(effect, _cancel_one(exchange, effect, effect.target, now_ns))
    if effect.symbol not in exchange.symbols:
        return [failed(effect, now_ns, OutcomeKind.REFUSED, "unknown_symbol", f"{effect.symbol!r} is not traded here")]
    done = outcome(effect, now_ns, OutcomeKind.ACKNOWLEDGED)
    if isinstance(effect, CancelBatch):
        return [*(_cancel_one(exchange, effect, target, now_ns) for target in effect.targets), done]
    if fault is Fault.CANCEL_ALL_MISSES_STOPS:
        return [done]
    spared: list[str] = []
    if fault is Fault.CANCEL_ALL_SUBSET:
        spared = faults.spared([row.venue_id for row in exchange.open_orders(effect.symbol, effect.conditional)])
    exchange.cancel_all(effect.symbol, effect.conditional, now_ns, spared)
    return [done]


def _cancel_one(exchange: Exchange, effect: Cancel | CancelBatch, target: CancelTarget, now_ns: int) -> OrderCancelled | CancelRejected:
    return exchange.cancel(effect.symbol, target.client_id, target.venue_id, effect.conditional, now_ns)


def _cross(exchange: Exchange, faults: FaultSource, effect: Cancel | CancelBatch | CancelAll, now_ns: int) -> None:
    """A counterparty takes from the first order that this request would cancel."""
    for row in exchange.open_orders(effect.symbol, effect.conditional):
        if _aims_at(effect, row):
            exchange.hit(row.venue_id, Qty(faults.part(row.qty - row.cum_qty)), now_ns)
            return


def _aims_at(effect: Cancel | CancelBatch | CancelAll, row: OrderRow) -> bool:
    if isinstance(effect, CancelAll):
        return True
    targets = effect.targets if isinstance(effect, CancelBatch) else (effect.target,)
    return any(row.client_id == target.client_id if target.client_id else row.venue_id == target.venue_id for target in targets)
