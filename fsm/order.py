"""One order: the facts, and the status that follows from them. How reports change the facts stands in ``order_rules.py``.

Theory
------
An order is what the venue has said about it so far. We keep those sayings as *facts* and never a status: what was filled,
whether it was ever accepted, which of our requests are under way, what evidence ended it. The FIX status (39) is computed
from the facts, by the order of precedence that FIX 5.0 SP2 prints for an order that is in several statuses at once. So there
is no "previous status" to restore when a cancel is refused, and reports may come twice, late, or in any order: a fact that is
already known changes nothing.

Quantities follow one law. Two witnesses speak of what was filled: the trades, each with an id and counted once, and the
running total that the venue reports. The filled quantity is the larger one (*max rule*). A total that arrives before its
trades moves the position at once, and the trades then fill the gap without moving it again. Snapshots are thereby compared with
the ledger, never added to it.

Only evidence ends an order. A request without an answer leaves it *in doubt*: it counts as open at its worst case, and we
ask. A refusal of the placing request is evidence (the order never was); "not found" is evidence once the request can no
longer arrive; a time-out never is.

Source: FIX 5.0 SP2 volume 4, Order State Changes.
"""

from collections.abc import Callable
from enum import IntEnum, StrEnum

from attrs import frozen
from immutables import Map

from ..effects import EffectId, Notional, OrdType, Price, Qty, Side, TimeInForce
from .events import Halt


class OrdStatus(StrEnum):
    """FIX 39, as far as a buy side sees it."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    DONE_FOR_DAY = "done_for_day"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"


class Ended(StrEnum):
    """By which evidence the order ended. Being filled is no entry here: it follows from the quantities."""

    NO = "no"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class Phase(IntEnum):
    """The column of ``TABLE``; see the essay."""

    PENDING_NEW = 0
    UNKNOWN = 1
    WORKING = 2
    FILLED = 3
    CANCELLED = 4
    EXPIRED = 5
    REJECTED = 6


@frozen
class OrderSpec:
    """What was ordered; never changes. ``sym`` is the symbol's index in the configuration, ``owner`` that of the strategy plus 1, or 0 when
    nothing is kept per strategy. ``inverse``: its contract is worth its multiplier at any price. ``once``: the intention behind it, of
    which there is to be one order only; empty is not said. Then ``claimer`` and ``params`` are by whom and as what its place is claimed
    in a store, and ``earlier`` is the last order before it that has an intention."""

    client_id: str
    symbol: str
    sym: int
    side: Side
    type: OrdType
    tif: TimeInForce
    post_only: bool
    reduce_only: bool
    stop_price: Price | None
    strategy: str
    submitted_ns: int
    trader: str = ""
    client: str = ""
    owner: int = 0
    inverse: bool = False
    once: str = ""
    claimer: str = ""
    params: str = ""
    earlier: int = 0

    @property
    def conditional(self) -> bool:
        """Whether it begins in the venue's conditional book."""
        return self.type is OrdType.STOP_LIMIT or self.type is OrdType.STOP_MARKET


@frozen
class Trade:
    """One fill. A busted trade keeps its place with quantity 0, so that a late copy of it is still known."""

    qty: Qty
    price: Price
    busted: bool


NO_TRADES: Map[str, Trade] = Map()


@frozen
class Fills:
    """What the two witnesses say: the trades and the venue's running total, each with what it cost.

    ``seen`` is the highest total ever; it never falls. After a bust it tells a late copy of an old report from news.
    """

    traded: Qty
    traded_cost: Notional
    reported: Qty
    reported_cost: Notional
    seen: Qty
    trades: Map[str, Trade]

    @property
    def cum_qty(self) -> Qty:
        """FIX 14, by the max rule."""
        return max(self.traded, self.reported)

    @property
    def cost(self) -> Notional:
        """Price x quantity of what filled, by the witness who has seen more."""
        return self.traded_cost if self.traded >= self.reported else self.reported_cost


NO_FILLS = Fills(Qty(0), Notional(0), Qty(0), Notional(0), Qty(0), NO_TRADES)


@frozen
class Replacement:
    """A replace whose fate is not known. Until it is, the order counts with the worse of both quantities and prices.

    ``effect`` is the request while its outcome is outstanding; None once the request can no longer be waiting on our side. ``reserve`` is
    the price at which it counts as exposure; None is its own. ``claim``: the claim that guards it in the store, if one does; while it is
    also the ``effect``, it is not granted and nothing was sent.
    """

    effect: EffectId | None
    qty: Qty
    price: Price | None
    reserve: Price | None = None
    claim: EffectId | None = None

    @property
    def claiming(self) -> bool:
        """Whether it waits for its claim, so that nothing was sent yet."""
        return self.claim is not None and self.claim == self.effect


@frozen
class Requests:
    """What we have under way about the order.

    ``place``: the placing request, until its outcome or the first sign of life; while ``claim`` is the same, it is the claim of the right
    to send it, and nothing was sent yet. ``cancel``: a cancel whose fate is not known.
    ``cancel_wanted``: somebody wants it gone; held up until it has ended. ``query``: a question under way, asked at ``asked_ns``.
    ``doubt_ns``: since when its fate is unknown, 0 for no doubt. ``attempt``: tries without success, for the backoff. ``not_found``: how
    often running the venue did not know it. ``timer``: the one timer that is waited for.
    """

    place: EffectId | None = None
    cancel: EffectId | None = None
    cancel_wanted: bool = False
    replace: Replacement | None = None
    query: EffectId | None = None
    asked_ns: int = 0
    doubt_ns: int = 0
    attempt: int = 0
    not_found: int = 0
    timer: EffectId | None = None
    claim: EffectId | None = None


NO_REQUESTS = Requests()


@frozen
class Order:
    """The facts. ``qty`` and ``price`` are the current ones; ``reserve`` is the price at which its open part counts as exposure.

    ``triggered``: a stop order that rests in the regular book: it has triggered, or the venue has no other book.
    """

    key: int
    spec: OrderSpec
    venue_id: str
    qty: Qty
    price: Price | None
    reserve: Price
    accepted: bool
    triggered: bool
    halt: Halt
    ended: Ended
    fills: Fills
    requests: Requests

    @property
    def cum_qty(self) -> Qty:
        """FIX 14."""
        return self.fills.cum_qty

    @property
    def conditional(self) -> bool:
        """Whether it rests in the venue's conditional book, as far as we have heard."""
        return self.spec.conditional and not self.triggered

    @property
    def leaves_qty(self) -> Qty:
        """What may still fill at worst (FIX 151, but a pending replace to more counts already)."""
        if self.ended is not _NO:
            return Qty(0)
        replace = self.requests.replace
        qty = self.qty if replace is None or replace.qty <= self.qty else replace.qty
        left = qty - self.fills.cum_qty
        return Qty(left) if left > 0 else Qty(0)

    @property
    def unknown(self) -> bool:
        """Whether it is not known that it exists."""
        return not self.accepted and self.requests.doubt_ns != 0 and self.ended is _NO

    @property
    def claiming(self) -> bool:
        """Whether it waits for its claim, so that it was certainly never sent."""
        r = self.requests
        return r.claim is not None and r.claim == r.place and self.ended is _NO

    @property
    def status(self) -> OrdStatus:
        """FIX 39."""
        return ord_status(self)

    @property
    def phase(self) -> Phase:
        """The column of ``TABLE``."""
        return phase(self)


# Module-level aliases: looking a member up through its Enum class costs several times a plain name.
_NO = Ended.NO
_PHASE_OF_END = {Ended.CANCELLED: Phase.CANCELLED, Ended.EXPIRED: Phase.EXPIRED, Ended.REJECTED: Phase.REJECTED}
_PENDING_NEW, _UNKNOWN, _WORKING, _FILLED = Phase.PENDING_NEW, Phase.UNKNOWN, Phase.WORKING, Phase.FILLED


# --- what follows from the facts ------------------------------------------------------------------------------------


def phase(order: Order) -> Phase:
    """The column of ``TABLE`` that the facts put the order in."""
    if order.ended is not _NO:
        return _PHASE_OF_END[order.ended]
    if order.leaves_qty == 0:
        return _FILLED
    if order.accepted:
        return _WORKING
    return _UNKNOWN if order.requests.doubt_ns else _PENDING_NEW


def is_done(order: Order) -> bool:
    """Whether nothing of it can fill any more, by evidence."""
    return order.leaves_qty == 0


def ord_status(order: Order) -> OrdStatus:
    """FIX 39 by precedence: pending cancel, pending replace, done for day, filled, stopped, suspended, cancelled or expired,
    partially filled, then new, rejected, pending new."""
    for holds, status in _PRECEDENCE:
        if holds(order):
            return status
    return OrdStatus.PENDING_NEW


_PRECEDENCE: tuple[tuple[Callable[[Order], bool], OrdStatus], ...] = (
    (lambda o: o.requests.cancel is not None and o.ended is _NO, OrdStatus.PENDING_CANCEL),
    (lambda o: o.requests.replace is not None and o.ended is _NO, OrdStatus.PENDING_REPLACE),
    (lambda o: o.halt is Halt.DONE_FOR_DAY and o.ended is _NO, OrdStatus.DONE_FOR_DAY),
    (lambda o: o.qty <= o.cum_qty, OrdStatus.FILLED),
    (lambda o: o.halt is Halt.STOPPED and o.ended is _NO, OrdStatus.STOPPED),
    (lambda o: o.halt is Halt.SUSPENDED and o.ended is _NO, OrdStatus.SUSPENDED),
    (lambda o: o.ended is Ended.CANCELLED, OrdStatus.CANCELLED),
    (lambda o: o.ended is Ended.EXPIRED, OrdStatus.EXPIRED),
    (lambda o: o.cum_qty > 0, OrdStatus.PARTIALLY_FILLED),
    (lambda o: o.ended is Ended.REJECTED, OrdStatus.REJECTED),
    (lambda o: o.accepted, OrdStatus.NEW),
)


# --- small constructors; positional, since `attrs.evolve` costs several times as much --------------------------------


def with_requests(o: Order, requests: Requests) -> Order:
    """The order with other requests under way."""
    return Order(o.key, o.spec, o.venue_id, o.qty, o.price, o.reserve, o.accepted, o.triggered, o.halt, o.ended, o.fills, requests)


def in_doubt(o: Order, now_ns: int) -> Order:
    """The order, its fate unknown from now on, or still from then."""
    r = o.requests
    since = r.doubt_ns or now_ns
    requests = Requests(
        r.place, r.cancel, r.cancel_wanted, r.replace, r.query, r.asked_ns, since, r.attempt, r.not_found, r.timer, r.claim
    )
    return with_requests(o, requests)
