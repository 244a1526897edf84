"""What the core may ask of the world. Effects are data: they have no behaviour, and a log can hold them.

Each effect carries its id. Each has a *risk*:

=============== ==========================================================================================
ADDS_RISK       may create exposure. Leaves only after its record is durable, and is checked against the
                freeze once more at the instant of sending
REDUCES_RISK    can only take exposure away. Never waits for a lock, a store, a disk or a budget
NEUTRAL         reads, timers, words to people
=============== ==========================================================================================

and a *part*: who serves it (venue, store, time, people) or ``ANSWER``, which goes to whoever sent the command.
Effects that touch the venue in a way that another process could contradict carry the *epoch* of the freeze they were
decided under, and the *fence* of the lease, so that a gateway can refuse old ones.

A *scope* is what a freeze covers, as a text: empty for the account, ``venue`` for the venue, ``strategy:NAME`` for a strategy, anything
else is a symbol.
"""

from enum import StrEnum
from typing import ClassVar, TypeAlias

from attrs import frozen

from .ids import EffectId
from .values import Price, Qty


class Risk(StrEnum):
    """What carrying an effect out does to the exposure."""

    ADDS_RISK = "adds_risk"
    REDUCES_RISK = "reduces_risk"
    NEUTRAL = "neutral"


class Part(StrEnum):
    """Who carries an effect out."""

    VENUE = "venue"
    STORE = "store"
    TIME = "time"
    PEOPLE = "people"
    ANSWER = "answer"


class Side(StrEnum):
    """FIX 54."""

    BUY = "buy"
    SELL = "sell"


class OrdType(StrEnum):
    """FIX 40. The stop kinds rest in the venue's conditional book until the trigger price trades."""

    LIMIT = "limit"
    MARKET = "market"
    STOP_LIMIT = "stop_limit"
    STOP_MARKET = "stop_market"


class TimeInForce(StrEnum):
    """FIX 59."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class Mode(StrEnum):
    """What a scope is allowed to do. FROZEN is reached only by a verified sweep."""

    ACTIVE = "active"
    REDUCE_ONLY = "reduce_only"
    FREEZING = "freezing"
    FROZEN = "frozen"


class Trigger(StrEnum):
    """Why a freeze began."""

    MANUAL = "manual"
    EDGE_COLLAPSE = "edge_collapse"
    LIMIT_VIOLATION = "limit_violation"
    LOSS = "loss"
    DRAWDOWN = "drawdown"
    REJECT_STORM = "reject_storm"
    FEED_LOST = "feed_lost"
    VENUE_LOST = "venue_lost"
    CLOCK_JUMP = "clock_jump"
    BREAKER_OPEN = "breaker_open"
    PEER = "peer"
    JOURNAL = "journal"
    INVARIANT = "invariant"
    STOPPING = "stopping"


class Severity(StrEnum):
    """How fast a person has to look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Purpose(StrEnum):
    """What a timer is for."""

    ORDER = "order"
    SWEEP = "sweep"
    SWEEP_DEADLINE = "sweep_deadline"
    LEASE = "lease"
    LATCH = "latch"
    VENUE_LINK = "venue_link"
    START = "start"
    FEED = "feed"
    COOL_DOWN = "cool_down"
    OVERRIDE = "override"
    BREAKER = "breaker"
    LATE_LOOK = "late_look"


class SweepStatus(StrEnum):
    """How a sweep stands when it is reported.

    SUCCESS: proven empty. The others are said at the deadline: FAILED, nothing was cancelled; PARTIAL, something was;
    IN_DOUBT, only orders of unknown fate are left. The sweep goes on in all three.
    """

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


class SweepMethod(StrEnum):
    """Which requests a sweep needed: none, cancel-all calls, cancels of single orders, or both."""

    NONE = "none"
    BULK = "bulk"
    PER_ORDER = "per_order"
    MIXED = "mixed"


class GuardState(StrEnum):
    """How a guarded side effect stands in the store. INTENT: claimed, and not sent as far as the store knows. SENT: it may have reached the
    world. DONE and REJECTED: settled by evidence; what was rejected certainly did not happen. IN_DOUBT: being asked for.
    """

    INTENT = "intent"
    SENT = "sent"
    DONE = "done"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"


class BreakerMode(StrEnum):
    """Where a circuit breaker stands. The forced modes are a person's word, and end by themselves only as that person has said."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


@frozen
class Fence:
    """A lease's token: the store's epoch, and a counter that grows with every grant. ``Fence(0, 0)`` is no lease."""

    epoch: int
    counter: int


NO_FENCE = Fence(0, 0)


# --- venue ----------------------------------------------------------------------------------------------------------


@frozen
class Place:
    """Send a new order. ``order`` is the core's key; ``price`` is None for market orders, ``stop_price`` for the others.

    ``strategy``, ``trader`` and ``client`` say on whose behalf (RTS 6 Art. 12(3)); empty is not said. ``expires_ns``: until when, by the
    sender's own clock, it may leave; what is late does not leave at all. 0 is no such bound.
    """

    risk: ClassVar[Risk] = Risk.ADDS_RISK
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    order: int
    client_id: str
    symbol: str
    side: Side
    type: OrdType
    qty: Qty
    price: Price | None
    stop_price: Price | None
    tif: TimeInForce
    post_only: bool
    reduce_only: bool
    strategy: str
    trader: str
    client: str
    epoch: int
    fence: Fence
    expires_ns: int = 0


@frozen
class Replace:
    """Change quantity and price of an order, keeping its client id. ``qty`` is the new total, filled part included. ``expires_ns`` as in
    :class:`Place`."""

    risk: ClassVar[Risk] = Risk.ADDS_RISK
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    order: int
    client_id: str
    venue_id: str
    symbol: str
    qty: Qty
    price: Price | None
    epoch: int
    fence: Fence
    expires_ns: int = 0


@frozen
class CancelTarget:
    """One order of a cancel. ``order`` is 0 for an order that is not ours; then ``venue_id`` names it."""

    order: int
    client_id: str
    venue_id: str


@frozen
class Cancel:
    """Cancel one order, in the regular or the conditional book."""

    risk: ClassVar[Risk] = Risk.REDUCES_RISK
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    symbol: str
    target: CancelTarget
    conditional: bool
    epoch: int
    fence: Fence


@frozen
class CancelBatch:
    """Cancel several orders of one symbol and book in one request. The reply may mix successes and failures."""

    risk: ClassVar[Risk] = Risk.REDUCES_RISK
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    symbol: str
    targets: tuple[CancelTarget, ...]
    conditional: bool
    epoch: int
    fence: Fence


@frozen
class CancelAll:
    """Cancel whatever is open in one symbol and book. Part of a sweep: dropped by the gateway when its freeze is over."""

    risk: ClassVar[Risk] = Risk.REDUCES_RISK
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    symbol: str
    conditional: bool
    epoch: int
    fence: Fence


@frozen
class QueryOrder:
    """Ask for one order, over open *and* closed orders of its book, by client id."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    order: int
    client_id: str
    venue_id: str
    symbol: str
    conditional: bool


@frozen
class FetchOpenOrders:
    """Ask for the open orders of one book. ``symbol`` is empty for the whole account."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.VENUE
    id: EffectId
    symbol: str
    conditional: bool


@frozen
class FetchPositions:
    """Ask for the positions of the account."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.VENUE
    id: EffectId


# --- store ----------------------------------------------------------------------------------------------------------


@frozen
class AcquireLease:
    """Ask for the account's sweep lease. Held by one runner at a time; an efficiency, never a permission."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    ttl_ms: int


@frozen
class RenewLease:
    """Prolong the lease that ``fence`` names."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    fence: Fence
    ttl_ms: int


@frozen
class ReleaseLease:
    """Give the lease back; whichever this process has, if ``fence`` is none."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    fence: Fence


@frozen
class PublishFreeze:
    """Set the account's freeze latch for one scope. A row that is set shows the first words still, but it is another author's too from then
    on, has a new epoch, and is joint unless the same process says the same again.
    """

    risk: ClassVar[Risk] = Risk.REDUCES_RISK
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    scope: str
    trigger: Trigger
    reason: str
    by: str


@frozen
class ReadFreeze:
    """Read the freeze latch, all scopes."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId


@frozen
class ClearFreeze:
    """Withdraw this session's word from the latch of one scope, but only if the row's epoch in the store is still ``latch_epoch``
    (compare and set; 0: there is none, as far as is known). The row goes when nobody else stands behind it; with ``force`` it goes."""

    risk: ClassVar[Risk] = Risk.ADDS_RISK
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    scope: str
    latch_epoch: int
    by: str
    why: str
    force: bool = False


@frozen
class ClaimGuard:
    """Claim the right to carry a side effect out, before it is: the first half of a ``Place`` or ``Replace`` of the order ``order``.

    ``key`` is the SHA-256 of the side effect's type and entity, ``params`` that of what exactly is meant; both in hexadecimal. ``owner`` is
    chosen by the claimer and never used again, so that a claim whose answer was lost is known as its own. ``scopes`` are those in which the
    order lies: the store refuses the claim while its latch shows one of them frozen. The claim lives ``ttl_ms`` in the store, and is good
    for sending ``valid_ms``, by the claimer's own clock, from before the request. ``epoch`` is the store's, as the claimer knows it: a
    store in another one refuses, since it may have forgotten who claimed before; 0 is not said.
    """

    risk: ClassVar[Risk] = Risk.ADDS_RISK
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    order: int
    key: str
    owner: str
    params: str
    scopes: tuple[str, ...]
    ttl_ms: int
    valid_ms: int
    epoch: int = 0


@frozen
class SettleGuard:
    """Tell the store what became of a claimed side effect. Only the owner's word counts; a claim that the store has forgotten is
    written anew. ``result`` is for whoever claims the same again; a long one is cut.
    """

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    order: int
    key: str
    owner: str
    params: str
    state: GuardState
    result: str
    ttl_ms: int


@frozen
class CheckStore:
    """Ask the store whether it is fit to coordinate: eviction policy, persistence, memory, version, replication, clock."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId


@frozen
class ShareBreaker:
    """Put a circuit breaker's state into the store, if the version there is still ``version`` (compare and set; 0: none is there).
    ``state`` is the breaker as ``fsm.breaker_text.to_text`` writes it; empty only reads, and of the known version no text is needed."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.STORE
    id: EffectId
    job: str
    version: int
    state: str


# --- time -----------------------------------------------------------------------------------------------------------


@frozen
class SetTimer:
    """Report ``TimerFired`` with this effect's id once ``due_ns`` (UTC) is reached.

    There is no cancel-timer: a state remembers the id of the timer it waits for, and any other firing is stale.
    """

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.TIME
    id: EffectId
    due_ns: int
    purpose: Purpose
    key: int


# --- people ---------------------------------------------------------------------------------------------------------


@frozen
class Metric:
    """Add ``value`` to a counter or histogram, or set a gauge; which it is stands with the name, in the metrics adapter."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.PEOPLE
    id: EffectId
    name: str
    value: int
    label: str


@frozen
class Alert:
    """Tell a person. ``code`` is stable; ``order`` and ``symbol`` are 0 and empty when it concerns none."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.PEOPLE
    id: EffectId
    severity: Severity
    code: str
    text: str
    order: int
    symbol: str


# --- answers --------------------------------------------------------------------------------------------------------


@frozen
class Denied:
    """A submit or replace did not pass the gate. ``code`` is that of the first check that failed; nothing was sent.

    ``codes`` are those of all checks that failed, in order, if the command asked to have them; else empty.
    """

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.ANSWER
    id: EffectId
    code: str
    reason: str
    symbol: str
    order: int
    codes: tuple[str, ...]


@frozen
class Rejected:
    """An input that the rules do not allow. It changed nothing."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.ANSWER
    id: EffectId
    code: str
    reason: str


@frozen
class ModeChanged:
    """A scope has entered a mode."""

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.ANSWER
    id: EffectId
    scope: str
    mode: Mode
    epoch: int
    trigger: Trigger
    reason: str
    by: str


@frozen
class SweepReport:
    """How the sweep stands: at its proof (SUCCESS) or at its deadline.

    ``cancelled`` counts our orders that were cancelled since the sweep began, ``remaining`` the orders, ours and not, that may still
    be open, ``unknown`` those of them whose fate is unknown.
    """

    risk: ClassVar[Risk] = Risk.NEUTRAL
    part: ClassVar[Part] = Part.ANSWER
    id: EffectId
    status: SweepStatus
    method: SweepMethod
    cancelled: int
    failed: int
    remaining: int
    unknown: int
    rounds: int
    duration_ns: int


Effect: TypeAlias = (
    Place
    | Replace
    | Cancel
    | CancelBatch
    | CancelAll
    | QueryOrder
    | FetchOpenOrders
    | FetchPositions
    | AcquireLease
    | RenewLease
    | ReleaseLease
    | PublishFreeze
    | ReadFreeze
    | ClearFreeze
    | ClaimGuard
    | SettleGuard
    | CheckStore
    | ShareBreaker
    | SetTimer
    | Metric
    | Alert
    | Denied
    | Rejected
    | ModeChanged
    | SweepReport
)
