"""What a store keeps, in memory: the model that other stores follow, shared by the runners of one process.

``MemoryState`` stands where a server would, with a clock of its own. Its methods have the names of the port's operations and their meaning,
and never fail, but for a claim that names another epoch; ``memory_store.MemoryStore`` is one runner's connection to it. Rules that the port
leaves to be said:

Lease
    Every grant mints a new fence: the state's epoch, and a counter that never falls within an epoch. Only the present fence in
    the hand of its holder renews and releases. A holder that asks again gets a new grant, and its old fence is void: so a runner recovers
    from an answer that was lost.
Latch
    A row is what ``latch_row.py`` says; each change gives it an epoch larger than all before. Clearing names the epoch that it means; a row
    with another one stays. Clearing what is not there is done already. So whoever clears a row by force has seen everybody who stands
    behind it, and who finds its own words in a row that is not joint stands there alone.
Guard
    See ``fsm/guard.py``.
Losses
    ``flush``: everything is gone, as when a server restarts without its data. ``fail_over``: everything is as it was at some moment
    before, as when a replica takes over that had not heard the last writes; counters go back with it. Either begins a new
    epoch, which voids the lease, so that no fence from before can equal one from after. The latch's epochs go on: a server takes them from
    something that outlives its data, such as its clock.
"""

from collections.abc import Callable
from copy import deepcopy
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

from attrs import define, evolve, field, frozen

from ..effects import NO_FENCE, Fence, GuardState, Trigger
from ..fsm.events import GuardKind, LatchRow
from ..fsm.guard import Decision, cut, on_claim, on_retake, on_settle
from .coordination import Claim, Claimed, Grant, GuardRow, Held, Latch, StoreFacts, another_epoch
from .latch_row import NO_EPOCH, Row, Said
from .memory_streams import Streams

NS_PER_MS = 1_000_000
T = TypeVar("T")


@frozen
class _Lease:
    fence: Fence
    holder: str
    since_ns: int
    until_ns: int


@define
class Expiring(Generic[T]):
    """Values that run out. Each writing drops what has run out, so that nothing grows for ever: ``ends`` is a heap of the times to look."""

    now_ns: Callable[[], int] = field(eq=False)
    rows: dict[str, tuple[T, int]] = field(factory=dict)
    ends: list[tuple[int, str]] = field(factory=list)

    def get(self, key: str) -> T | None:
        """The value; None if there is none, or it has run out."""
        value, until_ns = self.rows.get(key, (None, 0))
        return value if self.now_ns() < until_ns else None

    def put(self, key: str, value: T, ttl_ms: int) -> None:
        """Keep it for so long from now."""
        now_ns = self.now_ns()
        while self.ends and self.ends[0][0] <= now_ns:
            _, old = heappop(self.ends)
            if self.rows.get(old, (None, now_ns + 1))[1] <= now_ns:
                del self.rows[old]
        self.rows[key] = (value, now_ns + ttl_ms * NS_PER_MS)
        heappush(self.ends, (now_ns + ttl_ms * NS_PER_MS, key))

    def drop(self, key: str) -> None:
        """Keep it no longer."""
        self.rows.pop(key, None)

    def left_ms(self, key: str) -> int:
        """How long it still lasts, rounded up; 0 if it does not."""
        return max(0, -((self.now_ns() - self.rows.get(key, (None, 0))[1]) // NS_PER_MS))


class MemoryState:
    """What all runners share. ``now_ns`` is the state's own clock, in UTC nanoseconds; everything runs out by it."""

    def __init__(self, now_ns: Callable[[], int], epoch: int = 1) -> None:
        if epoch < 1:
            raise ValueError(f"epoch: {epoch}; give 1 or more, since epoch 0 stands for no lease")
        self._now_ns = now_ns
        self._epoch = epoch
        self._settings = 0
        self._begin()

    def _begin(self) -> None:
        self._grants = 0
        self._leases: dict[str, _Lease] = {}
        self._latch: dict[str, Row] = {}
        self._guards: Expiring[GuardRow] = Expiring(self._now_ns)
        self._states: dict[str, tuple[int, str]] = {}
        self._holds: Expiring[Held] = Expiring(self._now_ns)
        self._marks: Expiring[str] = Expiring(self._now_ns)
        self._cooling: Expiring[str] = Expiring(self._now_ns)
        self.streams = Streams(self._now_ns)

    # --- losses -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Lose everything; a new epoch begins."""
        self._begin()
        self._epoch += 1

    def remembered(self) -> dict[str, Any]:
        """Everything as it is now, for ``fail_over``."""
        return deepcopy(vars(self), {id(self._now_ns): self._now_ns})

    def fail_over(self, to: dict[str, Any]) -> None:
        """Lose everything since then; a new epoch begins."""
        epoch, settings = self._epoch, self._settings
        vars(self).update(deepcopy(to, {id(self._now_ns): self._now_ns}))
        self._epoch, self._settings = epoch + 1, settings
        self._leases.clear()

    # --- lease ------------------------------------------------------------------------------------------------------

    def acquire(self, name: str, holder: str, ttl_ms: int) -> Grant:
        lease = self._leases.get(name)
        if lease is not None and self._live(lease) and lease.holder != holder:
            return Grant(False, NO_FENCE, lease.holder)
        for other in [other for other, kept in self._leases.items() if kept.until_ns <= self._now_ns()]:
            del self._leases[other]
        self._grants += 1
        fence = Fence(self._epoch, self._grants)
        self._hold(name, holder, fence, ttl_ms)
        return Grant(True, fence, holder)

    def renew(self, name: str, holder: str, fence: Fence, ttl_ms: int) -> bool:
        if not self._owns(name, holder, fence):
            return False
        self._hold(name, holder, fence, ttl_ms)
        return True

    def release(self, name: str, holder: str, fence: Fence | None) -> bool:
        if not self._owns(name, holder, fence):
            return False
        del self._leases[name]
        return True

    def _live(self, lease: _Lease) -> bool:
        return lease.since_ns <= self._now_ns() < lease.until_ns

    def _owns(self, name: str, holder: str, fence: Fence | None) -> bool:
        lease = self._leases.get(name)
        return lease is not None and self._live(lease) and lease.holder == holder and fence in (None, lease.fence)

    def _hold(self, name: str, holder: str, fence: Fence, ttl_ms: int) -> None:
        now_ns = self._now_ns()
        self._leases[name] = _Lease(fence, holder, now_ns, now_ns + ttl_ms * NS_PER_MS)

    # --- latch ------------------------------------------------------------------------------------------------------

    def rows(self, author: str = "") -> tuple[LatchRow, ...]:
        """All frozen scopes, sorted by scope, as this author sees them."""
        return tuple(self._latch[scope].seen(scope, author) for scope in sorted(self._latch))

    def publish(self, author: str, scope: str, trigger: Trigger, reason: str, by: str) -> Latch:
        self._settings += 1
        row = self._latch.get(scope, Row(self._settings))
        self._latch[scope] = row.said(Said.of(author, trigger, reason, by), self._settings)
        return self._latched(author, scope)

    def read_latch(self, author: str) -> Latch:
        return Latch(self.rows(author), self._epoch)

    def clear(self, author: str, scope: str, latch_epoch: int, force: bool = False) -> Latch:
        row = self._latch.get(scope)
        if row is None or (row.epoch != latch_epoch and not (force and latch_epoch == NO_EPOCH)):
            return self._latched(author, scope, row is None)
        self._settings += 1
        left = None if force else row.withdrawn(author, self._settings)
        if left is None:
            del self._latch[scope]
        else:
            self._latch[scope] = left
        return self._latched(author, scope)

    def _latched(self, author: str, scope: str, done: bool = True) -> Latch:
        row = self._latch.get(scope)
        return Latch((row.seen(scope, author),) if row is not None else (), self._epoch, done)

    # --- guard ------------------------------------------------------------------------------------------------------

    def claim(self, claim: Claim, ttl_ms: int) -> Claimed:
        if claim.epoch not in (0, self._epoch):
            raise another_epoch("the state", claim, self._epoch)
        row, own, same = self._guard(claim)
        decision = on_claim(row.state if row is not None else None, own, same)
        if decision.kind is GuardKind.CLAIMED and (scope := self._frozen(claim)) is not None:
            return Claimed(GuardKind.FROZEN, None, scope)
        return Claimed(decision.kind, self._written(decision, claim, "", ttl_ms) or row)

    def settle(self, claim: Claim, state: GuardState, result: str, ttl_ms: int) -> bool:
        row, own, same = self._guard(claim)
        decision = on_settle(state, row.state if row is not None else None, own, same)
        self._written(decision, claim, cut(result), ttl_ms)
        return decision.kind is GuardKind.SETTLED

    def retake(self, claim: Claim, was: GuardRow, ttl_ms: int) -> bool:
        row, own, same = self._guard(claim)
        as_seen = row is not None and (row.owner, row.state) == (was.owner, was.state)
        decision = on_retake(row.state if row is not None else None, own, as_seen, same)
        if decision.kind is not GuardKind.CLAIMED or self._frozen(claim) is not None:
            return False
        self._written(decision, claim, "", ttl_ms)
        return True

    def look(self, key: str) -> GuardRow | None:
        return self._guards.get(key)

    def _guard(self, claim: Claim) -> tuple[GuardRow | None, bool, bool]:
        """The row; whether it is the claimer's; whether it has the same parameters."""
        row = self._guards.get(claim.key)
        return (row, row.owner == claim.owner, row.params == claim.params) if row is not None else (None, False, False)

    def _frozen(self, claim: Claim) -> str | None:
        return next((scope for scope in claim.scopes if scope in self._latch), None)

    def _written(self, decision: Decision, claim: Claim, result: str, ttl_ms: int) -> GuardRow | None:
        if decision.writes is None:
            return None
        row = GuardRow(decision.writes, claim.owner, claim.params, result, self._now_ns() // NS_PER_MS)
        self._guards.put(claim.key, row, ttl_ms)
        return row

    # --- shared state, hold, dedupe, cool-down ------------------------------------------------------------------------

    def get_state(self, name: str) -> tuple[int, str]:
        return self._states.get(name, (0, ""))

    def put_state(self, name: str, version: int, text: str) -> tuple[bool, int, str]:
        present = self.get_state(name)
        if present[0] == version:
            present = self._states[name] = (version + 1, text)
        return present == (version + 1, text), *present

    def set_hold(self, symbol: str, owner: str, reason: str, plan: str, ttl_ms: int) -> Held:
        if (held := self.held(symbol)) is not None:
            return held
        self._holds.put(symbol, Held(symbol, owner, reason, plan, ttl_ms), ttl_ms)
        return Held(symbol, owner, reason, plan, ttl_ms)

    def renew_hold(self, symbol: str, owner: str, ttl_ms: int) -> bool:
        held = self._holds.get(symbol)
        if held is None or held.owner != owner:
            return False
        self._holds.put(symbol, held, ttl_ms)
        return True

    def release_hold(self, symbol: str, owner: str) -> bool:
        held = self._holds.get(symbol)
        if held is None or held.owner != owner:
            return False
        self._holds.drop(symbol)
        return True

    def held(self, symbol: str) -> Held | None:
        held = self._holds.get(symbol)
        return evolve(held, left_ms=self._holds.left_ms(symbol)) if held is not None else None

    def mark_once(self, mark: str, token: str, ttl_ms: int) -> bool:
        first = self._marks.get(mark)
        if first is None:
            self._marks.put(mark, token, ttl_ms)
        return first in (None, token)

    def cool_down(self, name: str, token: str, spacing_ms: int) -> int:
        if self._cooling.get(name) not in (None, token):
            return self._cooling.left_ms(name)
        self._cooling.put(name, token, spacing_ms)
        return 0

    # --- itself -----------------------------------------------------------------------------------------------------

    def facts(self) -> StoreFacts:
        return StoreFacts(
            kind="memory", version="", eviction="noeviction", max_bytes=None, used_bytes=None, evicted=0, aof=False, aof_fsync=None,
            snapshots=False, role="master", replicas=0, min_replicas=0, clock_ahead_ms=0, round_trip_ms=0,
        )  # fmt: skip
