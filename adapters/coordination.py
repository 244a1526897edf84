"""The port of coordination: what processes of one account ask of a store they share, in words of the trade and not of a database.

Three layers, so that each is said once:

===================== =============================================================================================
``Coordination``      the operations below; ``memory_store.MemoryStore`` and ``redis_store.RedisStore`` have them,
                      and one contract suite holds both to the same behaviour
``EffectStore``       (``store_effects.py``) carries the core's store effects out by those operations
guard, jobs, plans    what bots use directly, over the same operations
===================== =============================================================================================

An operation answers, or raises :class:`StoreFailed`, which says whether it was certainly not applied (UNAVAILABLE) or may have been
(IN_DOUBT). None is retried behind the caller's back. Each can be said again without applying twice: whoever asks chooses a *token*
beforehand, and finds its own token where a first try, whose answer was lost, has been applied.

Times to live are counted by the store's clock, and validity by the caller's own, from before the request: a store's clock can be set. A
lease counts as run out where the store sees its clock behind the moment of the grant; holds, marks and cool-downs last longer then,
which is their safe side.

The store's *epoch* is part of every fence. It grows whenever the store may have lost something: it is another process than before, another
replica has become the master, the data are gone. So no fence is ever granted twice.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from attrs import frozen

from ..effects import Fence, GuardState, Trigger
from ..fsm.events import GuardKind, LatchRow, StoreHealth

#: The code for what stands in the store and is nothing that haltcore wrote.
UNREADABLE: Final = "store_unreadable"
#: Stands for the version of a shared state that is unreadable.
NO_VERSION: Final = -1


class StoreFailed(Exception):
    """The store did not do it, or nobody knows. ``health`` is UNAVAILABLE or IN_DOUBT; ``code`` is stable, ``text`` for people."""

    def __init__(self, health: StoreHealth, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.health, self.code, self.text = health, code, text


@frozen
class Grant:
    """A lease as the store has it after the request: the asker's (``mine``), or another's, whose fence is not told."""

    mine: bool
    fence: Fence
    holder: str


@frozen
class Latch:
    """The freeze latch: every frozen scope, sorted, or the one that was published or cleared; and the store's epoch. ``done``: False where
    a clear named another epoch of the row."""

    rows: tuple[LatchRow, ...]
    epoch: int
    done: bool = True


@frozen
class Claim:
    """What a side effect claims; see ``effects.ClaimGuard``. ``epoch``: the store's, as the claimer knows it; 0 names none and lets any do,
    for those whose side effects nobody vouches for again (jobs, plans). Only a claim is held to it."""

    key: str
    owner: str
    params: str
    scopes: tuple[str, ...] = ()
    epoch: int = 0


def another_epoch(store: str, claim: Claim, epoch: int) -> StoreFailed:
    """What a claim raises that names another epoch than the store's."""
    text = f"{store} is in epoch {epoch}, not {claim.epoch}: it may have forgotten what was claimed; read the latch and claim again"
    return StoreFailed(StoreHealth.UNAVAILABLE, "store_epoch", text)


@frozen
class GuardRow:
    """A guard as the store has it. ``at_ms`` is when it last changed, in UTC milliseconds of the store's clock."""

    state: GuardState
    owner: str
    params: str
    result: str
    at_ms: int


@frozen
class Claimed:
    """The answer to a claim: CLAIMED, HELD, DONE, MISMATCH or FROZEN. ``row`` is the row as it is now; None for FROZEN, which names the
    ``scope``."""

    kind: GuardKind
    row: GuardRow | None
    scope: str = ""


@frozen
class Held:
    """A hold on a symbol: who set it, why, for which plan, and how long it still lasts by the store's clock."""

    symbol: str
    owner: str
    reason: str
    plan: str
    left_ms: int


@frozen
class Entry:
    """An entry of a stream: its id there, the plan id and body it was given, and how often it was delivered, this time included.

    ``why``: among dead letters, why it was buried; elsewhere empty.
    """

    id: str
    plan: str
    body: str
    deliveries: int
    why: str = ""


#: How many dead letters a stream keeps at most, whether or not somebody has looked at them; the oldest go.
DEAD_LETTERS = 1_000


def dead_letters(stream: str) -> str:
    """The name of the stream to which the entries of this one are buried. It is read as any other."""
    return stream + ".dead"


@frozen
class StoreFacts:
    """What a store says about itself, for the check at start-up. None where it would not say. ``kind`` is "memory", "redis", "valkey".

    ``cluster``: it is a node of a cluster; ``cluster_url``: it is asked as one. ``refused``: the commands that it refused when what the
    scripts do was tried, each with its words.
    """

    kind: str
    version: str
    eviction: str | None
    max_bytes: int | None
    used_bytes: int | None
    evicted: int | None
    aof: bool | None
    aof_fsync: str | None
    snapshots: bool | None
    role: str | None
    replicas: int | None
    min_replicas: int | None
    clock_ahead_ms: int | None
    round_trip_ms: int | None
    cluster: bool | None = None
    cluster_url: bool = False
    refused: tuple[tuple[str, str], ...] = ()


class Coordination(Protocol):
    """See the module's essay. Every operation may raise StoreFailed."""

    # --- lease: one holder of a name at a time -----------------------------------------------------------------------

    async def acquire(self, name: str, holder: str, ttl_ms: int) -> Grant:
        """Take the lease if it is free or run out. The holder that asks again gets a new grant; its old fence is void."""
        ...

    async def renew(self, name: str, holder: str, fence: Fence, ttl_ms: int) -> bool:
        """Whether the holder still has this fence; then its time begins anew."""
        ...

    async def release(self, name: str, holder: str, fence: Fence | None) -> bool:
        """Whether the holder had this fence (None: whichever it has); then the lease is free."""
        ...

    # --- latch: what is frozen, for every process ----------------------------------------------------------------------

    async def publish(self, author: str, scope: str, trigger: Trigger, reason: str, by: str) -> Latch:
        """Say that a scope is frozen; its row, as this author sees it. See ``latch_row.py``. Long words are cut."""
        ...

    async def read_latch(self, author: str) -> Latch:
        """Every frozen scope."""
        ...

    async def clear(self, author: str, scope: str, latch_epoch: int, force: bool = False) -> Latch:
        """Withdraw this author's word of a scope, or clear the row with force, if it still has this epoch; the row as it is then. One that
        is not there is lifted already. It goes with the word of the last who stands behind it. ``NO_EPOCH`` names a row that cannot be
        read: with force it goes whatever it is."""
        ...

    # --- guard: a side effect happens once --------------------------------------------------------------------------------

    async def claim(self, claim: Claim, ttl_ms: int) -> Claimed:
        """Claim a side effect; see the table in ``fsm/guard.py``. Raises StoreFailed, UNAVAILABLE with the code ``store_epoch``, if the
        claim names another epoch than the store's, which may then have forgotten who claimed it before."""
        ...

    async def settle(self, claim: Claim, state: GuardState, result: str, ttl_ms: int) -> bool:
        """Say what became of a claim, or (SENT) what is about to. False if the row is another owner's by now, or settled otherwise; see the
        table in ``fsm/guard.py``. The result is cut (``guard.cut``)."""
        ...

    async def retake(self, claim: Claim, was: GuardRow, ttl_ms: int) -> bool:
        """Take a side effect over whose request is known not to have happened. False if the row is not as it was seen (``was``: the same
        owner, the same state), or if one of the claim's scopes is frozen."""
        ...

    async def look(self, key: str) -> GuardRow | None:
        """The row of a side effect."""
        ...

    # --- shared state: compare and set --------------------------------------------------------------------------------------

    async def get_state(self, name: str) -> tuple[int, str]:
        """Version and text of a shared state; 0 and empty if there is none. What stands there and was not put by ``put_state`` is
        not read: UNAVAILABLE, ``store_unreadable``."""
        ...

    async def put_state(self, name: str, version: int, text: str) -> tuple[bool, int, str]:
        """Put a new text if the version is still this one; whether it was put, and version and text as they are now. Said again after a
        lost answer, a put that was applied is found applied. ``NO_VERSION`` puts it in place of what is unreadable, and only of that."""
        ...

    # --- hold, dedupe, cool-down ----------------------------------------------------------------------------------------------

    async def set_hold(self, symbol: str, owner: str, reason: str, plan: str, ttl_ms: int) -> Held:
        """Hold a symbol, if nobody does; the hold as it is now, the owner's own or another's. An own one stays as it is."""
        ...

    async def renew_hold(self, symbol: str, owner: str, ttl_ms: int) -> bool:
        """Whether the owner still holds it; then its time begins anew."""
        ...

    async def release_hold(self, symbol: str, owner: str) -> bool:
        """Whether the owner held it; then nobody does."""
        ...

    async def held(self, symbol: str) -> Held | None:
        """Who holds a symbol."""
        ...

    async def mark_once(self, mark: str, token: str, ttl_ms: int) -> bool:
        """Whether this is the first time that the mark is set, or it was this token that set it."""
        ...

    async def cool_down(self, name: str, token: str, spacing_ms: int) -> int:
        """Begin to cool down and return 0, or return for how many milliseconds it is still cooling from another token. Minimum spacing, no
        fixed buckets: two firings are never closer than ``spacing_ms``. Said again by the same token it begins anew, since whoever has to
        ask again fires later."""
        ...

    # --- stream of plans -------------------------------------------------------------------------------------------------------

    async def append(self, stream: str, plan: str, body: str) -> str:
        """Put a plan on a stream; the entry's id. The same plan with the same body again gives the same entry, as it was, and not a second
        one, while the entry is on the stream. With another body it is another entry: a forgery must not keep the true one out."""
        ...

    async def read(self, stream: str, consumer: str, count: int) -> Sequence[Entry]:
        """Up to ``count`` plans that nobody was given yet. They are this consumer's until it acknowledges them. A consumer group that is
        gone is made again from the beginning of the stream."""
        ...

    async def claim_stuck(self, stream: str, consumer: str, idle_ms: int, count: int) -> Sequence[Entry]:
        """Plans that were given to somebody, this consumer itself included, at least ``idle_ms`` ago and not acknowledged: they are this
        consumer's now, and count as delivered once more."""
        ...

    async def keep(self, stream: str, consumer: str, entry: str) -> bool:
        """Whether the entry is still this consumer's; then it does not count as stuck from now on."""
        ...

    async def acknowledge(self, stream: str, consumer: str, entry: str) -> bool:
        """Whether the entry was still this consumer's; then it is done."""
        ...

    async def bury(self, stream: str, consumer: str, entry: str, why: str) -> bool:
        """Acknowledge an entry by moving it to the stream of its dead letters, in one step. Whether it was still this consumer's. Of dead
        letters the last DEAD_LETTERS stay."""
        ...

    async def pending(self, stream: str) -> int:
        """How many entries were given out and not acknowledged, or not given out yet."""
        ...

    async def trim(self, stream: str, keep: int) -> int:
        """Drop the oldest entries beyond the last ``keep``, up to the first that is not acknowledged; how many."""
        ...

    # --- itself ------------------------------------------------------------------------------------------------------------------

    async def facts(self) -> StoreFacts:
        """What it says about itself."""
        ...
