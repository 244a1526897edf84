"""The whole state, as one value.

Two temperatures: what every report touches (orders, books) lies in ``Core`` itself, what changes rarely (configuration,
modes, sweep, store, start-up) in its ``Desk``, so that a fill rebuilds eight fields and not twenty.

Orders are keyed by an int below 2^32, the record number of their submit; persistent maps with such keys iterate in the same
order in every process. Working orders and finished ones lie in two maps: whoever walks the open orders pays for open orders only, and
a finished order is still known when a late report comes, as long as the session lives.
"""

from enum import StrEnum

from attrs import frozen
from immutables import Map

from ..effects import EffectId, Fence, Mode, Notional, Trigger
from .config import Config
from .events import LatchRow, OrderRow
from .exposure import Book
from .order import Order

#: The key of the account among the controls; a symbol's is its index + 1.
ACCOUNT = 0


@frozen
class PendingUnfreeze:
    """An unfreeze that waits for the store to clear its latch."""

    effect: EffectId
    by: str
    why: str


@frozen
class Control:
    """The mode of one scope and why. ``epoch`` is that of the freeze; ``verified`` says that a sweep proved the scope empty.

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


@frozen
class FreezeRecord:
    """One trigger, as history keeps it; also those that found the scope frozen already."""

    at_ns: int
    record: int
    symbol: str
    trigger: Trigger
    reason: str
    by: str


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
    ``absent``: how many snapshots running have missed an order of ours that has not ended.
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


@frozen
class Lease:
    """The sweep lease while it is ours, until ``valid_until_ns`` of our own clock."""

    fence: Fence
    valid_until_ns: int
    timer: EffectId | None


@frozen
class StoreView:
    """What we know of the store. ``ok`` is the last answer's verdict; ``latch`` the frozen scopes as last read, ``known`` whether they were
    read since the start: until then nothing is placed."""

    ok: bool
    known: bool
    latch: tuple[LatchRow, ...]
    read: EffectId | None
    timer: EffectId | None


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
class Desk:
    """What changes rarely."""

    config: Config
    index: Map[str, int]
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


@frozen
class Core:
    """The state. ``seq`` is the number of the last record, ``total`` the sum of the books' worst values, ``touched`` the keys of the
    orders that the last step wrote (it serves the incremental digest and is no part of what the digest covers)."""

    seq: int
    now_ns: int
    orders: Map[int, Order]
    closed: Map[int, Order]
    books: Map[int, Book]
    total: Notional
    touched: tuple[int, ...]
    desk: Desk | None

    def order(self, key: int) -> Order | None:
        """The order with this key, working or finished."""
        return self.orders.get(key) or self.closed.get(key)


#: Time begins at 1, so that "since when" is never 0, which says "not at all".
EMPTY = Core(0, 1, Map(), Map(), Map(), Notional(0), (), None)


def effective_mode(desk: Desk, sym: int) -> Mode:
    """The stricter of the account's mode and the symbol's."""
    mode = _ACTIVE
    if not desk.controls:
        return mode
    for scope in (ACCOUNT, sym + 1):
        control = desk.controls.get(scope)
        if control is not None and _STRICTNESS[control.mode] > _STRICTNESS[mode]:
            mode = control.mode
    return mode


_ACTIVE = Mode.ACTIVE
_STRICTNESS = {Mode.ACTIVE: 0, Mode.REDUCE_ONLY: 1, Mode.FROZEN: 2, Mode.FREEZING: 3}


def scope_symbol(desk: Desk, scope: int) -> str:
    """The symbol of a scope key, empty for the account."""
    return "" if scope == ACCOUNT else desk.config.symbols[scope - 1]


def frozen_scopes(desk: Desk) -> list[int]:
    """The keys of the scopes that are frozen or being frozen, ascending."""
    return sorted(key for key, control in desk.controls.items() if control.mode in (Mode.FREEZING, Mode.FROZEN))
