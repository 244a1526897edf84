"""The whole state, as one value.

Three temperatures: what every report touches (orders, books, sums) lies in ``Core`` itself; what is measured over time (rates, feeds, the
day's result), and only where a limit asks for it, in its ``Flow``; what changes rarely (configuration, limits, modes, sweep, store,
start-up) in its ``Desk``. So a fill rebuilds a dozen fields and not forty.

Orders are keyed by an int below 2^32, the record number of their submit; persistent maps with such keys iterate in the same
order in every process. Working orders and finished ones lie in two maps: whoever walks the open orders pays for open orders only, and
a finished order is still known when a late report comes, as long as the session lives.
"""

from enum import StrEnum
from typing import Protocol

from attrs import field, frozen
from immutables import Map

from ..effects import Bps, EffectId, Fence, GuardState, Mode, Notional, Trigger, Usd
from .breaker_copy import Copy
from .bucket import FULL, Bucket
from .config import STRATEGY_SCOPE, VENUE_SCOPE, Config
from .events import LatchRow, OrderRow, StoreHealth
from .exposure import FLAT, NO_TALLY, Book, Tally
from .instrument import Instrument
from .levels import Levels
from .limits import LimitRule, Override, Rate
from .order import Order

#: The keys of scopes among the controls: a symbol's is its index + 1, a strategy's is -2 - its index.
ACCOUNT, VENUE = 0, -1
#: How many freezes the history holds; the log holds all.
FREEZES_KEPT = 256
#: The kind of job whose circuit breaker is the core's own.
JOB = "place"


@frozen
class PendingUnfreeze:
    """An unfreeze that waits for the store to clear its latch. ``epoch`` is the store's own, as it was when it was asked."""

    effect: EffectId
    by: str
    why: str
    epoch: int = 0


@frozen
class Control:
    """The mode of one scope and why. ``epoch`` is that of the freeze; ``verified`` says that a sweep proved the scope empty.

    ``transient``: everything that froze it so far is of one class that may pass without a person; ``cool_down`` is the timer after which it
    does. ``record`` is the number of the record that froze it. ``reduce_only``: the freeze found the scope in reduce-only, and gives
    it back. ``own``: the first words of this session's own for other processes (trigger, reason, by); None if it only follows a peer, or
    the freeze concerns nobody else.
    A scope that was frozen once keeps its control, so that the epoch of its last change is known.
    """

    mode: Mode
    epoch: int
    trigger: Trigger
    reason: str
    by: str
    since_ns: int
    verified: bool
    published: bool
    unfreeze: PendingUnfreeze | None
    cool_down: EffectId | None = None
    transient: bool = False
    record: int = 0
    reduce_only: bool = False
    own: tuple[Trigger, str, str] | None = None


@frozen
class FreezeRecord:
    """One trigger, as history keeps it; also those that found the scope frozen already. ``metadata`` are named figures."""

    at_ns: int
    record: int
    scope: str
    trigger: Trigger
    reason: str
    by: str
    metadata: tuple[tuple[str, str], ...] = ()


@frozen
class Repeats:
    """How often a scope was frozen by one class of reasons, one freeze soon after the other."""

    count: int
    last_ns: int


class SweepPhase(StrEnum):
    """LEASE: the lease is asked for. REQUEST: cancels are under way. SNAPSHOT: lists are under way. WAIT: a timer runs."""

    LEASE = "lease"
    REQUEST = "request"
    SNAPSHOT = "snapshot"
    WAIT = "wait"


@frozen
class Sweep:
    """A cancel-all under way; see ``sweep.py``.

    ``awaiting``: effects of this round without outcome, by index, all of record ``batch``. ``rows``: what the last lists showed as open in
    the scope. ``unread``: lists, as (symbol, conditional), that could not be read yet. ``streak``: consecutive empty lists. ``attempt``:
    rounds without progress, for the backoff. ``retry_at_ns``: the venue's own demand. ``left``: what the last round left over.
    ``absent``: how many snapshots running have missed an order of ours that has not ended. ``held``: another runner had the lease;
    ``watched``: while it is watched at its work, how many orders were listed at the last look.
    """

    phase: SweepPhase
    batch: int
    awaiting: Map[int, bool]
    timer: EffectId | None
    deadline: EffectId
    lease: EffectId | None
    started_ns: int
    rounds: int
    attempt: int
    streak: int
    unread: tuple[tuple[str, bool], ...]
    retry_at_ns: int
    rows: tuple[OrderRow, ...]
    left: int
    absent: int
    bulk: bool
    single: bool
    cancelled: int
    failed: int
    held: bool
    reported: bool
    watched: int | None = None


@frozen
class Lease:
    """The sweep lease while it is ours, until ``valid_until_ns`` of our own clock; see ``lease.py``.

    ``since_ns`` and ``record``: when it was granted, and by which record. ``timer``: when it is looked after next. ``renewal``: the request
    to prolong it, while it is under way.
    """

    fence: Fence
    valid_until_ns: int
    timer: EffectId | None
    since_ns: int = 0
    record: int = 0
    renewal: EffectId | None = None


@frozen
class StoreView:
    """What we know of the store; see ``store_view.py``.

    ``health``: whether it answers, and takes what is written. ``latch`` are the frozen scopes as last read, ``known`` whether they were
    read since the start: until then nothing is placed. ``read``: the reading under way; ``timer``: when the next one is due. ``epoch``:
    the store's own, as it said last; 0 is not said yet. ``acquire``: the request for the sweep lease that has no answer yet. ``check``:
    the check of its fitness that is under way; ``checked``: whether there is one that holds, and then ``faults`` and ``notes`` are what
    it found. Of a store that fails, ``since_ns`` is when that began, and ``code`` what was said last of the cause. ``refused``: how
    many times in a row it answered and then refused a write; ``spoiled``: how many polls do not mend its health for that. ``cleared``:
    the record, by scope, in which we saw its row cleared last; ``unreadable``: the scopes of rows that this version cannot read, as
    people were told. ``told``: the causes of a failure that people have heard of, and not yet that it is over; ``answered``: how many polls
    in a row have found it healthy since.
    """

    health: StoreHealth
    known: bool
    latch: tuple[LatchRow, ...]
    read: EffectId | None
    timer: EffectId | None
    epoch: int = 0
    acquire: EffectId | None = None
    check: EffectId | None = None
    checked: bool = False
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    code: str = ""
    since_ns: int = 0
    refused: int = 0
    spoiled: int = 0
    cleared: Map[str, int] = Map()
    unreadable: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    answered: int = 0


@frozen
class Link:
    """The connection to the venue. ``timer`` runs while it is down."""

    up: bool
    timer: EffectId | None


@frozen
class Stocktake:
    """Reading the venue's open orders and positions, at the start and after a lost connection.

    ``asked`` is the record that asked: only orders older than it can be missed. ``waiting``: questions without answer.
    ``gate``: nothing may be placed until it is through.
    """

    asked: int
    waiting: tuple[EffectId, ...]
    rows: tuple[OrderRow, ...]
    failed: bool
    attempt: int
    timer: EffectId | None
    gate: bool


@frozen
class Thresholds:
    """The figures of the rules that the automatic triggers compare with, each by scope. Drawn from the rules whenever those change, so
    that an event costs the same however many rules there are."""

    edges: Map[int, Bps] = Map()
    losses: Map[int, Usd] = Map()
    drawdowns: Map[int, Usd] = Map()
    feeds: Map[int, int] = Map()
    executions: Map[int, Rate] = Map()


@frozen
class Desk:
    """What changes rarely.

    ``index`` and ``owners`` number symbols and strategies. ``rules`` are the limits that hold now, the account's first; ``overrides`` those
    that replace them for a while. ``bands`` by symbol number; ``restricted`` symbols, and ``throttled`` owners of books, each by the record
    that made them so. ``repeats`` by scope and class of reason. ``clock_ns`` is the last reading of the wall clock's offset.
    ``breakers`` are the jobs whose circuit breaker is open, each by the record that said so, where that is a trigger. ``late`` is the timer
    after which a proof is looked at once more. ``run`` tells this process from those that had the session before: who restarted it, or
    empty for the first.
    """

    config: Config
    index: Map[str, int]
    owners: Map[str, int]
    rules: tuple[LimitRule, ...]
    overrides: tuple[Override, ...]
    instruments: Map[int, Instrument]
    bands: Map[int, str]
    restricted: Map[int, int]
    throttled: Map[int, int]
    controls: Map[int, Control]
    epoch: int
    sweep: Sweep | None
    lease: Lease | None
    store: StoreView
    link: Link
    stock: Stocktake | None
    opened: bool
    stopping: bool
    freezes: tuple[FreezeRecord, ...]
    repeats: Map[tuple[int, str], Repeats]
    clock_ns: int | None
    thresholds: Thresholds = Thresholds()
    breakers: Map[str, int] = Map()
    late: EffectId | None = None
    run: str = ""


@frozen
class Feed:
    """Market data of one scope: when it last came, and the timer that looks after it. Until it is ``heard`` for the first time,
    ``last_ns`` is since when it is waited for."""

    last_ns: int
    timer: EffectId | None
    heard: bool = False


@frozen
class Day:
    """The result of one scope at the beginning of the trading day, and its highest since, as far as a limit asked for it."""

    base: Notional
    peak: Notional


@frozen
class Guard:
    """A claimed side effect whose fate the store does not know yet; see ``guards.py``.

    ``record``: the one that decided and claimed it, under this ``epoch``; ``key``, ``owner`` and ``params`` as in the claim, and ``store``
    the store's epoch in it. ``state`` is what is known here, ``told`` what the store was told last, ``settle`` that request while it
    is under way.
    """

    record: int
    key: str
    owner: str
    params: str
    epoch: int
    store: int = 0
    state: GuardState = GuardState.INTENT
    told: GuardState = GuardState.INTENT
    settle: EffectId | None = None


@frozen
class Vouching:
    """The store has forgotten, and is told again what may happen once only, the newest first; see ``guards.py``.

    ``record``: the one that noticed it; what was told before that was told to the store that forgot. ``older``: the order to go on with;
    0 is none. ``unheard``: the orders that were told and have no answer yet. ``until_ns``: so long others have to tell theirs.
    """

    record: int
    older: int
    unheard: Map[int, bool]
    until_ns: int


@frozen
class PlaceBreaker:
    """The circuit breaker of placing; see ``breakers.py``.

    ``copy`` is its state and how that is shared. ``began``: the record in which its generation began here; what was sent before is of an
    elder one. ``timer``: when its mode will be another by time alone. ``asked``: the request to the store that is under way; ``tries``: how
    many times something was put since the last poll, so that 0 with a request under way is a reading.
    """

    copy: Copy
    began: int
    timer: EffectId | None = None
    asked: EffectId | None = None
    tries: int = 0


@frozen
class Flow:
    """What is measured over time. ``messages``, ``rejects`` and, by owner, ``executions`` are buckets (``bucket.py``). ``intents``: the
    last order of each fingerprint since ``intents_ns``, by which a duplicate is found; ``intents_before`` those of the window before that.
    ``feeds``, last ``edges`` and ``days`` by scope; ``day_ends_ns`` is when the day rolls. ``guards``: what was claimed in the store and is
    not settled there, by order; ``unsaid`` are the orders of which it has to be told something, ``telling`` is how many words are under
    way. ``intention``: the last order that may be placed once only; each names the one before."""

    messages: Bucket = FULL
    rejects: Bucket = FULL
    executions: Map[int, Bucket] = Map()
    intents: Map[int, int] = Map()
    feeds: Map[int, Feed] = Map()
    edges: Map[int, Bps] = Map()
    days: Map[int, Day] = Map()
    day_ends_ns: int = 0
    intents_ns: int = 0
    intents_before: Map[int, int] = Map()
    guards: Map[int, tuple[Guard, ...]] = Map()
    breaker: PlaceBreaker | None = None
    unsaid: Map[int, bool] = Map()
    telling: int = 0
    intention: int = 0
    vouching: Vouching | None = None


@frozen
class Core:
    """The state. ``seq`` is the number of the last record. ``books`` have keys of owner and symbol; ``account`` sums the account's books,
    ``teams`` those of each strategy, by owner.

    Three fields are no part of what digest and snapshot cover: ``touched``, the keys of the orders that the last step wrote, and two memos
    that are made from the orders when they are needed, None is not made: ``resting``, the prices of our open orders by symbol and side
    (``resting_key``), and ``once``, the last order of each intention that may happen once only. Nobody iterates over the latter.
    """

    seq: int
    now_ns: int
    orders: Map[int, Order]
    closed: Map[int, Order]
    books: Map[int, Book]
    account: Tally
    teams: Map[int, Tally]
    flow: Flow
    desk: Desk | None
    resting: Map[int, Levels] | None = field(default=None, eq=False)
    touched: tuple[int, ...] = ()
    once: Map[str, int] | None = field(default=None, eq=False)

    @property
    def total(self) -> Notional:
        """The account's worst-case exposure over all symbols."""
        return self.account.worst

    def order(self, key: int) -> Order | None:
        """The order with this key, working or finished."""
        return self.orders.get(key) or self.closed.get(key)


#: Time begins at 1, so that "since when" is never 0, which says "not at all".
EMPTY = Core(0, 1, Map(), Map(), Map(), NO_TALLY, Map(), Flow(), None)


def effective_mode(desk: Desk, sym: int, owner: int) -> Mode:
    """The strictest of the modes of all scopes that an order of this symbol and owner lies in."""
    mode = _ACTIVE
    if not desk.controls:
        return mode
    for scope in scopes_over(sym, owner):
        control = desk.controls.get(scope)
        if control is not None and _STRICTNESS[control.mode] > _STRICTNESS[mode]:
            mode = control.mode
    return mode


_ACTIVE = Mode.ACTIVE
_STRICTNESS = {Mode.ACTIVE: 0, Mode.REDUCE_ONLY: 1, Mode.FROZEN: 2, Mode.FREEZING: 3}


def scopes_over(sym: int, owner: int) -> tuple[int, ...]:
    """The keys of the scopes that an order lies in. Without a strategy of its own it lies in none's."""
    return (ACCOUNT, VENUE, sym + 1, strategy_scope(owner)) if owner else (ACCOUNT, VENUE, sym + 1)


def strategy_scope(owner: int) -> int:
    """The key of a strategy's scope."""
    return -1 - owner


def scope_key(desk: Desk, scope: str) -> int | None:
    """The key of a scope by its text; None for one that is not configured."""
    if not scope:
        return ACCOUNT
    if scope == VENUE_SCOPE:
        return VENUE
    if scope.startswith(STRATEGY_SCOPE):
        owner = desk.owners.get(scope[len(STRATEGY_SCOPE) :], 0)
        return strategy_scope(owner) if owner else None
    sym = desk.index.get(scope, -1)
    return None if sym < 0 else sym + 1


def scope_text(desk: Desk, key: int) -> str:
    """The text of a scope by its key."""
    if key > 0:
        return desk.config.symbols[key - 1]
    return "" if key == ACCOUNT else VENUE_SCOPE if key == VENUE else STRATEGY_SCOPE + desk.config.strategies[-2 - key]


def scope_symbol(desk: Desk, key: int) -> str:
    """The symbol that a scope is, by its key; empty for the others."""
    return desk.config.symbols[key - 1] if key > 0 else ""


def in_words(scope: str) -> str:
    """A scope as a person calls it."""
    return "the account" if not scope else f"the {VENUE_SCOPE}" if scope == VENUE_SCOPE else scope.replace(STRATEGY_SCOPE, "strategy ", 1)


def probe_token(session: str, order: int) -> str:
    """By what an order is known as a probe of the breaker, in all processes."""
    return f"{session}:{order}"


def resting_key(sym: int, sell: bool) -> int:
    """The key of one symbol's side in ``Core.resting``."""
    return 2 * sym + sell


def open_in_scope(view: "Sums", scope: int) -> int:
    """How many orders of ours have not ended in this scope."""
    if scope in (ACCOUNT, VENUE):
        return len(view.orders)
    return view.books.get(scope - 1, FLAT).open_orders if scope > 0 else view.teams.get(-1 - scope, NO_TALLY).open_orders


class Sums(Protocol):
    """What a whole state and a step's working copy have in common."""

    @property
    def orders(self) -> Map[int, Order]:
        """Working orders by key."""
        ...

    @property
    def books(self) -> Map[int, Book]:
        """Books by owner and symbol."""
        ...

    @property
    def teams(self) -> Map[int, Tally]:
        """Each strategy's sums."""
        ...


def frozen_scopes(desk: Desk) -> list[int]:
    """The keys of the scopes that are frozen or being frozen, ascending."""
    return sorted(key for key, control in desk.controls.items() if control.mode in (Mode.FREEZING, Mode.FROZEN))
