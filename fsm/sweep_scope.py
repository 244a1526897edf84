"""What a sweep covers: the orders and the listed rows that have to be gone before its scopes are proven empty.

It is no state of the sweep's own, but follows from the scopes that are FREEZING at the moment, whenever it is asked:

=========================== ============================================= ====================================================
some scope that is FREEZING orders of ours that count                     listed rows that count
=========================== ============================================= ====================================================
account, venue              all                                           all, in symbols that nobody configured too
a symbol                    those in it                                   those in it
a strategy                  its own                                       its own; others' stay
=========================== ============================================= ====================================================

Several scopes cover what any of them covers. Rows that are not of this session count only where the policy says that others' orders go.
"""

from ..effects import Mode, order_key
from .config import ForeignPolicy
from .core import ACCOUNT, VENUE, Desk, Sweep, open_in_scope, scopes_over
from .events import OrderRow
from .order import Order
from .turn import Turn


def freezing(desk: Desk) -> list[int]:
    """The keys of the scopes that the sweep has to prove empty, ascending."""
    return sorted(key for key, control in desk.controls.items() if control.mode is Mode.FREEZING)


def everything(scopes: list[int]) -> bool:
    """Whether one of these scopes covers all there is."""
    return ACCOUNT in scopes or VENUE in scopes


def strategies(scopes: list[int]) -> bool:
    """Whether some orders are covered for their strategy alone."""
    return not everything(scopes) and bool(scopes) and scopes[0] < VENUE


def ours(turn: Turn) -> list[Order]:
    """Our orders in the sweep's scopes that have not ended, by key."""
    scopes = freezing(turn.desk)
    if everything(scopes):
        return sorted(turn.orders.values(), key=lambda order: order.key)
    wanted = dict.fromkeys(scopes)
    found = (o for o in turn.orders.values() if any(scope in wanted for scope in scopes_over(o.spec.sym, o.spec.owner)))
    return sorted(found, key=lambda order: order.key)


def remaining(turn: Turn) -> int:
    """How many orders :func:`ours` has; counted without looking at each, where the books know it."""
    scopes = freezing(turn.desk)
    if everything(scopes):
        return len(turn.orders)
    # An order may lie in a frozen symbol and belong to a frozen strategy.
    return len(ours(turn)) if strategies(scopes) else sum(open_in_scope(turn, scope) for scope in scopes)


def left(unended: list[Order], sweep: Sweep) -> int:
    """How many orders may still be open: ours that have not ended, and whatever else the lists showed."""
    known = {order.spec.client_id: True for order in unended}
    return len(unended) + sum(1 for row in sweep.rows if row.client_id not in known)


def covers(desk: Desk, symbol: str, owner: int = 0) -> bool:
    """Whether the sweep has to prove this symbol empty, or its orders of this owner. The account covers also symbols that nobody
    configured."""
    scopes = freezing(desk)
    return everything(scopes) or any(scope in scopes for scope in scopes_over(desk.index.get(symbol, -1), owner))


def covered(desk: Desk, scope: int) -> bool:
    """Whether the sweep under way has to prove this scope empty anyway, for a wider one that froze before: nothing was placed since."""
    wider = [desk.controls[other] for other in (ACCOUNT, VENUE) if other != scope and other in desk.controls]
    return desk.sweep is not None and any(control.mode is Mode.FREEZING for control in wider)


def symbols(desk: Desk) -> list[str]:
    """The symbols that are covered as a whole."""
    return [symbol for symbol in desk.config.symbols if covers(desk, symbol)]


def counts(turn: Turn, row: OrderRow) -> bool:
    """Whether the sweep has to see this listed order gone."""
    key = order_key(turn.desk.config.session, row.client_id)
    order = turn.order(key)
    owner = order.spec.owner if order is not None else 0
    return covers(turn.desk, row.symbol, owner) and (key != 0 or turn.desk.config.sweep.foreign is ForeignPolicy.CANCEL)
