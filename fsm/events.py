"""What the core is told. An event is a fact that somebody reports: a person, the venue, a store, a clock.

Every event carries ``at_ns``, UTC nanoseconds of the runner's clock when the fact was received; the core itself has no clock.
Six families, by who speaks:

=========== ============================================================================================
commands    SubmitOrder, CancelOrder, ReplaceOrder, Stopping; of operators: Freeze, Unfreeze, SetReduceOnly,
            ChangeLimits, OverrideLimits, VerifyOverride, EndOverride, Restrict, Reenable, OverrideBreaker, OperatorRefused
market      InstrumentDefined, MarkPrice, EdgeUpdate, VolatilityBand, Heartbeat
health      VenueLink, ClockReading, BreakerChanged
evidence    reports of the venue about one order, named after FIX 150 (ExecType)
answers     what came of an effect: Outcome for requests, OrderQueried, OpenOrders and Positions for
            questions, LeaseAnswer, LatchAnswer, GuardAnswer, StoreChecked and BreakerAnswer for the store, TimerFired
            for timers
lifecycle   Started, Restarted
=========== ============================================================================================

*Evidence* is the only family that can end an order, together with answers that are evidence in themselves: a definite refusal
of the request that would have created it, and what the venue says when it is asked for the order.

Two rules of shape keep failure apart from emptiness. A question is answered by a :data:`Result`, ``Fetched`` or
``FetchFailed``, and a failed one has no rows that somebody could mistake for none. An effect's outcome is one of four words
(:class:`OutcomeKind`), and "timed out" is none of them: it is IN_DOUBT.
"""

from enum import StrEnum
from typing import TypeAlias, get_args

from attrs import frozen

from ..effects import Bps, BreakerMode, EffectId, Fence, OrdType, Price, Purpose, Qty, Side, TimeInForce, Trigger, Usd
from .config import Config
from .instrument import Instrument
from .limits import LimitRule, Limits


class OutcomeKind(StrEnum):
    """What became of a request.

    ACKNOWLEDGED: taken, by the venue's own word. REFUSED: certainly not applied, and asking again would not help. UNAVAILABLE:
    certainly not applied, may be tried again. IN_DOUBT: may have been applied; only a question may follow.
    """

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


class Verb(StrEnum):
    """Which request an :class:`Outcome` is about."""

    PLACE = "place"
    REPLACE = "replace"
    CANCEL = "cancel"
    CANCEL_BATCH = "cancel_batch"
    CANCEL_ALL = "cancel_all"


class ReportStatus(StrEnum):
    """Where the venue says an order stands, reduced to what the rules need.

    Venues' words are an open set: an adapter maps what it does not know to OPEN, the worst case, and keeps the word in ``raw``.
    """

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class Halt(StrEnum):
    """A state in which an accepted order rests without matching (FIX 39 = 3, 7, 9); NONE resumes it."""

    NONE = "none"
    DONE_FOR_DAY = "done_for_day"
    STOPPED = "stopped"
    SUSPENDED = "suspended"


#: The one reject reason with a meaning of its own: the id exists at the venue, so *an* order with it is or was live.
DUPLICATE_CLIENT_ID = "duplicate_client_id"


# --- commands -------------------------------------------------------------------------------------------------------


@frozen
class SubmitOrder:
    """Ask to place an order. ``price`` is needed for limit kinds, ``stop_price`` for stop kinds; else None.

    ``strategy``, ``trader`` and ``client`` say on whose behalf. With ``explain`` a denial names every check that failed.
    ``once`` names the intention behind the order, a signal say: of all orders with the same one, over all processes of the account, at most
    one reaches the venue. Empty is no such bound.
    """

    at_ns: int
    symbol: str
    side: Side
    qty: Qty
    price: Price | None = None
    type: OrdType = OrdType.LIMIT
    stop_price: Price | None = None
    tif: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False
    strategy: str = ""
    trader: str = ""
    client: str = ""
    explain: bool = False
    once: str = ""


@frozen
class CancelOrder:
    """Ask to cancel the order with this key. Held up until evidence says that the order has ended."""

    at_ns: int
    order: int


@frozen
class ReplaceOrder:
    """Ask to change an order. ``qty`` is the new total quantity, what is already filled included."""

    at_ns: int
    order: int
    qty: Qty
    price: Price | None
    explain: bool = False


@frozen
class Freeze:
    """Freeze a scope (see ``effects/vocabulary.py``). Freezing twice is recorded and changes nothing.

    ``metadata`` are named facts for whoever looks into it later.
    """

    at_ns: int
    scope: str
    trigger: Trigger
    reason: str
    by: str
    metadata: tuple[tuple[str, str], ...] = ()


@frozen
class Unfreeze:
    """Lift the freeze of a scope. Needs who and why, and a verified sweep unless ``force``."""

    at_ns: int
    scope: str
    by: str
    why: str
    force: bool = False


@frozen
class SetReduceOnly:
    """Allow a scope only orders that reduce its position, or end that state. Working orders stay."""

    at_ns: int
    scope: str
    on: bool
    by: str
    why: str


@frozen
class Stopping:
    """The runner is about to stop. ``freeze`` True: freeze first and prove the book empty; False: hand over, orders stay."""

    at_ns: int
    freeze: bool
    by: str


@frozen
class ChangeLimits:
    """Put these figures in place of those of the rule with the same conditions; without any figure, take the rule away.

    The conditions are those of :class:`~haltcore.fsm.limits.LimitRule`; none of them is the account's own rule. Where the configuration
    demands a second person, it may only tighten: what allows more is refused as ``two_persons``, and is a matter for an override.
    """

    at_ns: int
    rule: LimitRule
    by: str
    why: str


@frozen
class OverrideLimits:
    """Let figures hold for ``for_ms`` instead of those of the rules for this symbol and strategy (both empty: the account's).

    Rules of other subjects stay in force: see :mod:`~haltcore.fsm.limits`. Where the configuration demands a second person, it has no
    force until ``VerifyOverride`` of another one.
    """

    at_ns: int
    symbol: str
    strategy: str
    limits: Limits
    for_ms: int
    by: str
    why: str


@frozen
class VerifyOverride:
    """A second person agrees to an override, named by the record that asked for it."""

    at_ns: int
    override: int
    by: str


@frozen
class EndOverride:
    """An override, verified or not, ends before its time."""

    at_ns: int
    override: int
    by: str
    why: str


@frozen
class Restrict:
    """Put a symbol on the restricted list, or take it off: there only orders that reduce the position are allowed."""

    at_ns: int
    symbol: str
    on: bool
    by: str
    why: str


@frozen
class Reenable:
    """Let a strategy (empty: the account) trade again that the execution throttle has switched off."""

    at_ns: int
    strategy: str
    by: str
    why: str


@frozen
class OverrideBreaker:
    """A person forces a job's circuit breaker open or closed for ``for_ms`` (0: until somebody says otherwise), or ends that (``to`` is
    CLOSED: it begins anew, as after a success).

    Raising the bar to trade is anybody's; ``to`` other than FORCED_OPEN adds risk, and is named in the log as any other command.
    """

    at_ns: int
    job: str
    to: BreakerMode
    for_ms: int
    by: str
    why: str


@frozen
class OperatorRefused:
    """Somebody asked for an operator command in a way that never became one: no token, unknown word, wrong value. Changes nothing."""

    at_ns: int
    command: str
    by: str
    reason: str


# --- market ---------------------------------------------------------------------------------------------------------


@frozen
class InstrumentDefined:
    """The venue's terms for a symbol. May come again while orders are open; the contract cannot change once the symbol was traded."""

    at_ns: int
    symbol: str
    instrument: Instrument


@frozen
class VolatilityBand:
    """The market of a symbol (empty: of all) is in this band now; limits may depend on it. Empty is no band."""

    at_ns: int
    symbol: str
    band: str


@frozen
class Heartbeat:
    """Market data flows: that of a symbol, or (empty) the account's feed as a whole. Mark prices and edges count as one too."""

    at_ns: int
    symbol: str


@frozen
class EdgeUpdate:
    """The net edge of a strategy in one symbol, or (empty) over all. Below a configured threshold the scope freezes."""

    at_ns: int
    symbol: str
    edge_bps: Bps


@frozen
class MarkPrice:
    """The price at which positions of a symbol are valued."""

    at_ns: int
    symbol: str
    price: Price


# --- health ---------------------------------------------------------------------------------------------------------


@frozen
class ClockReading:
    """How far the wall clock is ahead of the runner's own, which is anchored once and steady. A step of it is a clock jump."""

    at_ns: int
    offset_ns: int


@frozen
class BreakerChanged:
    """The circuit breaker of a kind of job has opened, or is open no longer."""

    at_ns: int
    job: str
    open: bool
    reason: str


@frozen
class VenueLink:
    """The connection to the venue went up or down."""

    at_ns: int
    up: bool
    reason: str


# --- venue evidence -------------------------------------------------------------------------------------------------


@frozen
class OrderAccepted:
    """The order is live (FIX ExecType New)."""

    at_ns: int
    client_id: str
    venue_id: str


@frozen
class OrderRejected:
    """The venue refused the order (FIX ExecType Rejected)."""

    at_ns: int
    client_id: str
    reason: str


@frozen
class OrderFilled:
    """A trade (FIX ExecType Trade). ``cum_qty`` is the venue's running total, 0 when it sends none. ``fee`` is in quote currency."""

    at_ns: int
    client_id: str
    venue_id: str
    trade_id: str
    last_qty: Qty
    last_price: Price
    cum_qty: Qty
    fee: Usd


@frozen
class OrderCancelled:
    """The order is cancelled (FIX ExecType Canceled), whoever asked for it."""

    at_ns: int
    client_id: str
    cum_qty: Qty


@frozen
class OrderExpired:
    """The order ended by its own terms (FIX ExecType Expired): IOC and FOK rests, GTD, post-only that would have crossed."""

    at_ns: int
    client_id: str
    cum_qty: Qty


@frozen
class OrderHalted:
    """The order rests without matching, or does so no longer."""

    at_ns: int
    client_id: str
    halt: Halt


@frozen
class OrderReplaced:
    """The order now has this total quantity and price (FIX ExecType Replaced). ``venue_id`` may be new."""

    at_ns: int
    client_id: str
    venue_id: str
    qty: Qty
    price: Price | None


@frozen
class CancelRejected:
    """A cancel was refused (FIX OrderCancelReject, 434=1). Says nothing of whether the order lives: it is asked for."""

    at_ns: int
    client_id: str
    reason: str


@frozen
class ReplaceRejected:
    """A replace was refused (FIX OrderCancelReject, 434=2)."""

    at_ns: int
    client_id: str
    reason: str


@frozen
class TradeBusted:
    """A trade is void (FIX ExecType Trade Cancel)."""

    at_ns: int
    client_id: str
    trade_id: str


@frozen
class TradeCorrected:
    """A trade has another quantity or price (FIX ExecType Trade Correct)."""

    at_ns: int
    client_id: str
    trade_id: str
    qty: Qty
    price: Price


# --- answers to effects ---------------------------------------------------------------------------------------------


@frozen
class Outcome:
    """What became of a request that acts on orders. ``order`` is its key, 0 for bulk and foreign ones; ``orders`` are the keys of a batch.

    ``retry_after_ms`` is the venue's own demand (Retry-After, ban-until), 0 for none. ``code`` is the venue's, or ours.
    """

    at_ns: int
    effect: EffectId
    verb: Verb
    order: int
    kind: OutcomeKind
    code: str = ""
    text: str = ""
    retry_after_ms: int = 0
    orders: tuple[int, ...] = ()


@frozen
class OrderRow:
    """One order as the venue describes it. ``client_id`` is empty when the order has none. ``cum_qty`` and ``qty`` are totals.

    ``avg_price`` is the average price of what filled, None when the venue does not say.
    """

    client_id: str
    venue_id: str
    symbol: str
    side: Side
    status: ReportStatus
    qty: Qty
    price: Price | None
    cum_qty: Qty
    avg_price: Price | None
    conditional: bool
    raw: str


@frozen
class PositionRow:
    """A position as the venue describes it; short is negative. ``mark`` is None when the venue does not say."""

    symbol: str
    qty: Qty
    mark: Price | None


@frozen
class FetchFailed:
    """The question was not answered. Never to be read as an empty answer."""

    kind: OutcomeKind
    code: str
    text: str
    retry_after_ms: int


@frozen
class FetchedOrders:
    """The open orders of a book, as of some moment between asking and answer."""

    rows: tuple[OrderRow, ...]


@frozen
class FetchedPositions:
    """The positions of the account. A symbol without a row is flat."""

    rows: tuple[PositionRow, ...]


@frozen
class Found:
    """The venue knows the order."""

    row: OrderRow


@frozen
class NotFound:
    """The venue knows no such order, open or closed. Counts only once the request can no longer arrive."""


@frozen
class OrderQueried:
    """The answer to ``QueryOrder``."""

    at_ns: int
    effect: EffectId
    order: int
    result: Found | NotFound | FetchFailed


@frozen
class OpenOrders:
    """The answer to ``FetchOpenOrders``."""

    at_ns: int
    effect: EffectId
    symbol: str
    conditional: bool
    result: FetchedOrders | FetchFailed


@frozen
class Positions:
    """The answer to ``FetchPositions``."""

    at_ns: int
    effect: EffectId
    result: FetchedPositions | FetchFailed


class LeaseKind(StrEnum):
    """GRANTED: ours until ``valid_until_ns`` of our own clock. HELD: another's. LOST: ours no longer. RELEASED: given back."""

    GRANTED = "granted"
    HELD = "held"
    LOST = "lost"
    RELEASED = "released"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


@frozen
class LeaseAnswer:
    """The answer to a lease effect. ``valid_until_ns`` counts from before the request was sent. ``holder`` is for people. ``code`` says
    why, for UNAVAILABLE and IN_DOUBT."""

    at_ns: int
    effect: EffectId
    kind: LeaseKind
    fence: Fence
    valid_until_ns: int
    holder: str
    code: str = ""


class LatchKind(StrEnum):
    """OK: done, or read. STALE: the latch has another epoch than the one to be cleared."""

    OK = "ok"
    STALE = "stale"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


@frozen
class LatchRow:
    """One frozen scope in the store.

    Every setting gives the row a new ``epoch``, also one that finds it set, and so does a word that is withdrawn; what was meant to clear
    the row as it was before is then STALE. Trigger, reason and by are the first words that still stand, of the session ``author``.
    ``joint``: another process, or other words, have set it since, so that nobody may take it for its own freeze alone. ``mine``: whether
    this session is among its authors; None where that was not kept (logs of format 2 and before), and then the words have to tell.
    ``readable``: False where this version could not make out who has frozen it or why; it is frozen all the same.
    """

    scope: str
    epoch: int
    trigger: Trigger
    reason: str
    by: str
    joint: bool = False
    mine: bool | None = None
    author: str = ""
    readable: bool = True


@frozen
class LatchAnswer:
    """The answer to a latch effect. ``rows`` are the frozen scopes as of then, meaningful only when ``kind`` is OK or STALE: those of
    ``scope`` alone, or all where that is None.

    ``epoch`` is the store's own: it changes when the store has lost what it knew, or may have. 0 is not said. ``code`` says why, for
    UNAVAILABLE and IN_DOUBT.
    """

    at_ns: int
    effect: EffectId
    kind: LatchKind
    rows: tuple[LatchRow, ...]
    epoch: int = 0
    code: str = ""
    scope: str | None = None


class GuardKind(StrEnum):
    """CLAIMED: ours, go ahead. HELD: another's, who may be at it. DONE: it was done already. MISMATCH: the key is taken by a side effect
    with other parameters. FROZEN: the latch forbids it. SETTLED: the store knows what became of it. LOST: the claim is no
    longer ours to settle.
    """

    CLAIMED = "claimed"
    HELD = "held"
    DONE = "done"
    MISMATCH = "mismatch"
    FROZEN = "frozen"
    SETTLED = "settled"
    LOST = "lost"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


@frozen
class GuardAnswer:
    """The answer to ``ClaimGuard`` or ``SettleGuard``. ``valid_until_ns`` is until when, by our own clock, what was claimed may be sent,
    counted from before the request. ``holder`` and ``result`` are those of the row in the store, for HELD, DONE and MISMATCH; of FROZEN
    ``holder`` is the scope. ``code`` says why, for UNAVAILABLE and IN_DOUBT.
    """

    at_ns: int
    effect: EffectId
    order: int
    kind: GuardKind
    valid_until_ns: int
    holder: str
    result: str
    code: str


class StoreHealth(StrEnum):
    """How the store answered. UNAVAILABLE: it has certainly not done what it was asked. IN_DOUBT: it may have."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


@frozen
class StoreChecked:
    """The answer to ``CheckStore``: what makes the store unfit to coordinate, and what is only worth knowing, each in words with its
    remedy; meaningful only when ``health`` is OK. Else ``code`` says why it could not be asked."""

    at_ns: int
    effect: EffectId
    health: StoreHealth
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    code: str = ""


class BreakerKind(StrEnum):
    """OK: put, or read. CONFLICT: the store has another version, which is told."""

    OK = "ok"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


@frozen
class BreakerAnswer:
    """The answer to ``ShareBreaker``: the version and state that the store has now; 0 and empty if none. To a reading, the version that was
    asked with and no state: it is what the core was told last, word for word."""

    at_ns: int
    effect: EffectId
    job: str
    kind: BreakerKind
    version: int
    state: str


@frozen
class TimerFired:
    """A timer ran out. ``effect`` is the id of the ``SetTimer``; one that nobody waits for any more is stale and ignored."""

    at_ns: int
    effect: EffectId
    purpose: Purpose
    key: int


# --- lifecycle ------------------------------------------------------------------------------------------------------


@frozen
class Started:
    """The session begins, with its whole configuration. The first event of every log."""

    at_ns: int
    config: Config


@frozen
class Restarted:
    """A new process continues the session from its log. Whatever was under way when the old one ended is in doubt."""

    at_ns: int
    config: Config
    by: str


Evidence: TypeAlias = (
    OrderAccepted
    | OrderRejected
    | OrderFilled
    | OrderCancelled
    | OrderExpired
    | OrderHalted
    | OrderReplaced
    | CancelRejected
    | ReplaceRejected
    | TradeBusted
    | TradeCorrected
)

Event: TypeAlias = (
    SubmitOrder
    | CancelOrder
    | ReplaceOrder
    | Freeze
    | Unfreeze
    | SetReduceOnly
    | ChangeLimits
    | OverrideLimits
    | VerifyOverride
    | EndOverride
    | Restrict
    | Reenable
    | OverrideBreaker
    | OperatorRefused
    | Stopping
    | InstrumentDefined
    | MarkPrice
    | EdgeUpdate
    | VolatilityBand
    | Heartbeat
    | VenueLink
    | ClockReading
    | BreakerChanged
    | Evidence
    | Outcome
    | OrderQueried
    | OpenOrders
    | Positions
    | LeaseAnswer
    | LatchAnswer
    | GuardAnswer
    | StoreChecked
    | BreakerAnswer
    | TimerFired
    | Started
    | Restarted
)

EVENT_CLASSES: tuple[type[Event], ...] = get_args(Event)
EVIDENCE_CLASSES: tuple[type[Evidence], ...] = get_args(Evidence)
