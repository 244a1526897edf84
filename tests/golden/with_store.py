"""Stories of a session that shares its account with others over a store: claims, intentions, peers, the breaker, the lease, the check.

The store's part is played by ``Shared``: it says what a story lets it say.
"""

from haltcore.effects import (
    AcquireLease,
    BreakerMode,
    Cancel,
    CancelAll,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Fence,
    Place,
    PublishFreeze,
    Purpose,
    ReadFreeze,
    RenewLease,
    Replace,
    SettleGuard,
    ShareBreaker,
    Side,
    Trigger,
)
from haltcore.effects.vocabulary import Effect
from haltcore.fsm.breaker import Opened, closed, step
from haltcore.fsm.breaker_text import to_text
from haltcore.fsm.config import BreakerPolicy, StoreCheck, StorePolicy, Triggers
from haltcore.fsm.events import (
    BreakerAnswer,
    BreakerKind,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    OrderReplaced,
    OutcomeKind,
    OverrideBreaker,
    Stopping,
    StoreChecked,
    StoreHealth,
)

from tests.helpers import BTC, MS, Session, price, qty, row

STORE = StorePolicy(configured=True, check=StoreCheck.OFF)
IN_DOUBT, REFUSED = OutcomeKind.IN_DOUBT, OutcomeKind.REFUSED


class Shared(Session):
    """A session over a store. ``epoch`` is the store's, ``rows`` what its latch shows."""

    def __init__(self, **fields: object) -> None:
        self.epoch, self.rows = 1, ()  # type: tuple[int, tuple[LatchRow, ...]]
        super().__init__(**{"store": STORE, **fields})

    def guard(self, kind: GuardKind, code: str = "", holder: str = "", result: str = "", late: bool = False) -> None:
        """The answer to the claim, or to what was told, of the last step."""
        effect = next(effect for effect in self.effects if isinstance(effect, (ClaimGuard, SettleGuard)))
        until_ns = self.now + (STORE.claim_ms * MS if not late else -1)
        self.feed(GuardAnswer(self.now, effect.id, effect.order, kind, until_ns, holder, result, code))

    def live(self, **fields: object) -> int:
        """An order that was claimed, placed and accepted, as the store has heard; its key."""
        key = self.working(**fields)
        self.guard(GuardKind.SETTLED)
        return key

    def latch(self, effect: Effect, *rows: LatchRow, kind: LatchKind = LatchKind.OK) -> tuple[Effect, ...]:
        return self.feed(LatchAnswer(self.now, effect.id, kind, rows or self.rows, self.epoch))

    def poll(self, *rows: LatchRow) -> None:
        """The latch is read again, and shows this."""
        self.rows = rows
        self.fire(purpose=Purpose.LATCH)
        self.latch(self.one(ReadFreeze))

    def checked(self, *faults: str, notes: tuple[str, ...] = (), health: StoreHealth = StoreHealth.OK) -> None:
        """What the last check has found."""
        self.feed(StoreChecked(self.now, self.all(CheckStore)[-1].id, health, faults, notes))

    def shared(self, version: int, state: str | None = None, kind: BreakerKind = BreakerKind.OK) -> None:
        """The answer to the breaker's last request: what it put, or another state."""
        asked = self.all(ShareBreaker)[-1]
        self.feed(BreakerAnswer(self.now, asked.id, asked.job, kind, version, asked.state if state is None else state))


def peer_row(epoch: int, scope: str = "", **fields: bool | None) -> LatchRow:
    """A row that another process has set alone."""
    return LatchRow(scope, epoch, Trigger.MANUAL, "their word", "peer", **{"mine": False, **fields})


def claims() -> Session:
    """A place and a replace are claimed, granted, and settled. Then the store says each other thing it can: held, done, mismatch, frozen,
    no answer, too late; the bot dies between claim and place; what the store did not hear is told again."""
    s = Shared()
    key = s.live()
    s.replace(key, 12, 101)
    s.outcome(s.one(Replace))
    s.feed(OrderReplaced(s.now, s.client_id(key), f"v{key}", qty(12), price(101)))
    s.guard(GuardKind.SETTLED)
    for kind in (GuardKind.HELD, GuardKind.DONE, GuardKind.MISMATCH, GuardKind.FROZEN):
        s.ask(amount=2)
        s.guard(kind, holder="peer001:7", result="v9")
    s.ask(amount=3)
    s.guard(GuardKind.CLAIMED, late=True)
    s.guard(GuardKind.SETTLED)
    s.ask(amount=4)
    s.cancel(s.one(ClaimGuard).order)
    s.feed(GuardAnswer(s.now, s.all(ClaimGuard)[-1].id, s.all(ClaimGuard)[-1].order, GuardKind.CLAIMED, s.now + 10**9, "", "", ""))
    s.guard(GuardKind.LOST)
    s.ask(amount=5)
    s.guard(GuardKind.IN_DOUBT, code="timeout")
    s.ask(amount=6)
    s.poll()
    for told in s.got(SettleGuard):
        s.feed(GuardAnswer(s.now, told.id, told.order, GuardKind.SETTLED, 0, "", "", ""))
    s.ask(amount=7)
    s.guard(GuardKind.UNAVAILABLE, code="refused")
    s.poll()
    lost = s.submit(amount=8)
    s.outcome(s.one(Place), IN_DOUBT)
    s.guard(GuardKind.UNAVAILABLE, code="refused")
    s.poll()
    s.ask(amount=9)
    s.restart()
    s.answer_stock(row(s.order(lost)), row(s.order(key)))
    for told in s.all(SettleGuard)[-3:]:
        s.feed(GuardAnswer(s.now, told.id, told.order, GuardKind.SETTLED, 0, "", "", ""))
    s.poll()
    return s


def once() -> Session:
    """One intention, one order: a second submit for it is denied; after a certain refusal it is free again; another process had one."""
    s = Shared()
    first = s.submit(once="signal-1")
    s.ask(once="signal-1", explain=True)
    s.reject(first)
    s.guard(GuardKind.SETTLED)
    second = s.live(once="signal-1")
    s.cancel(second)
    s.outcome(s.one(Cancel))
    s.cancelled(second)
    s.ask(amount=1, once="signal-1")
    s.ask(amount=1, once="signal-2")
    s.guard(GuardKind.DONE, holder="peer001:3", result="peer0013 v7")
    s.ask(amount=1, once="signal-3")
    s.guard(GuardKind.HELD, holder="peer001:4")
    third = s.submit(Side.SELL, 2, 110, once="signal-3")
    s.outcome(s.one(Place), IN_DOUBT)
    s.ask(Side.SELL, 2, 110, once="signal-3")
    s.restart()
    s.answer_stock(row(s.order(third)))
    s.ask(Side.SELL, 2, 110, once="signal-3")
    s.submit(amount=2, once="signal-4")
    return s


def peers() -> Session:
    """A peer freezes and all are swept; the store loses what it knew, and is told again; the unfreeze is stale once, then withdraws our
    word alone, and at last lifts. Our own freeze is taken up by a peer, and lifted there by a person; a row that nobody can read goes by
    force, and an answer from before that is not believed."""
    s = Shared()
    key = s.live()
    s.poll(peer_row(4, BTC))
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    s.cancelled(key)
    s.prove_empty()
    s.epoch = 2
    s.poll()
    for effect in s.got(PublishFreeze):
        s.latch(effect, LatchRow(BTC, 5, effect.trigger, effect.reason, effect.by, mine=True))
    s.poll(LatchRow(BTC, 6, Trigger.PEER, "manual: their word", "peer", True, True))
    s.unfreeze(BTC)
    s.latch(s.one(ClearFreeze), peer_row(7, BTC, joint=True), kind=LatchKind.STALE)
    s.poll(peer_row(7, BTC, mine=True, joint=True))
    s.unfreeze(BTC)
    s.rows = (peer_row(8, BTC, joint=True),)
    s.latch(s.one(ClearFreeze))
    s.poll()
    s.unfreeze(BTC)
    s.rows = ()
    s.latch(s.one(ClearFreeze))
    s.poll(peer_row(8, BTC, joint=True))
    s.poll(LatchRow(BTC, -1, Trigger.PEER, "a row that this version cannot read", "", True, False, "", False))
    s.unfreeze(BTC, force=True)
    s.rows = ()
    s.latch(s.one(ClearFreeze))
    s.poll()
    s.freeze(reason="our word")
    for effect in s.got(PublishFreeze):
        s.latch(effect, kind=LatchKind.UNAVAILABLE)
    s.prove_empty()
    s.ask()
    s.poll()
    for effect in s.got(PublishFreeze):
        s.latch(effect, LatchRow("", 8, effect.trigger, effect.reason, effect.by, mine=True))
    s.poll(LatchRow("", 9, Trigger.MANUAL, "our word", "tester", True, True))
    s.poll()
    s.restart()
    s.rows = (LatchRow("", 9, Trigger.MANUAL, "our word", "tester", True, True),)
    s.answer_stock()
    return s


def breaker() -> Session:
    """Places fail until the breaker opens, which freezes; a probe fails and one succeeds; a peer's state is taken over and one that nobody
    can read is not; a person forces it both ways."""
    s = Shared(breaker=BreakerPolicy(2, 60_000, 5_000, 1), triggers=Triggers(breaker_open=True))
    s.outcome(_placed(s), REFUSED, "-2010")
    for _ in range(2):
        place = _placed(s)
        s.outcome(place, OutcomeKind.UNAVAILABLE, "503")
        s.shared(1)
    s.prove_empty()
    s.fire(purpose=Purpose.BREAKER)
    s.unfreeze()
    for effect in s.got(ClearFreeze):
        s.latch(effect)
    s.outcome(_placed(s), OutcomeKind.UNAVAILABLE, "503")
    s.ask()
    s.feed(OverrideBreaker(s.now, "place", BreakerMode.FORCED_CLOSED, 2_000, "kim", "the venue said it is back"))
    s.feed(OverrideBreaker(s.now, "cancel", BreakerMode.FORCED_OPEN, 0, "kim", "none of ours"))
    s.prove_empty()
    s.unfreeze(force=True)
    for effect in s.got(ClearFreeze):
        s.latch(effect)
    s.outcome(_placed(s))
    s.fire(purpose=Purpose.BREAKER)
    opened, _ = step(closed(s.now), Opened(s.now, "10 failures elsewhere"), BreakerPolicy(), s.now)
    s.poll()
    s.shared(9, to_text(opened), BreakerKind.CONFLICT)
    s.poll()
    s.shared(10, "no breaker", BreakerKind.CONFLICT)
    s.feed(OverrideBreaker(s.now, "place", BreakerMode.FORCED_OPEN, 0, "lee", "maintenance"))
    s.shared(0, kind=BreakerKind.UNAVAILABLE)
    s.restart()
    s.answer_stock()
    s.feed(OverrideBreaker(s.now, "place", BreakerMode.CLOSED, 0, "lee", "maintenance is over"))
    s.ask()
    return s


def _placed(s: Shared) -> Place:
    """The place of a new order."""
    s.submit(amount=1)
    return s.one(Place)


def lease_lost() -> Session:
    """A freeze takes the lease, renews it once, and then the store stalls: the lease runs out, what was decided under it is refused at the
    gateway, and the sweep goes on without. Another sweep is given the lease too late."""
    s = Shared()
    s.live()
    s.live(side=Side.SELL, amount=2, at=110)
    s.freeze()
    for effect in s.got(PublishFreeze):
        s.latch(effect, LatchRow("", 3, effect.trigger, effect.reason, effect.by, mine=True))
    granted = s.all(AcquireLease)[-1]
    s.lease(granted, fence=Fence(1, 7))
    cancels = s.got(CancelAll)
    s.fire(purpose=Purpose.LEASE)
    renewal = s.one(RenewLease)
    s.feed(LeaseAnswer(s.now, renewal.id, LeaseKind.GRANTED, Fence(1, 7), s.now + 30_000 * MS, ""))
    s.fire(purpose=Purpose.LEASE)
    s.feed(LeaseAnswer(s.now, s.all(RenewLease)[-1].id, LeaseKind.IN_DOUBT, Fence(1, 7), 0, ""))
    s.wait(30_000)
    s.fire(purpose=Purpose.LEASE)
    for effect in cancels:
        s.outcome(effect, REFUSED, "stale_fence")
    s.prove_empty()
    s.poll(LatchRow("", 3, Trigger.MANUAL, "a test", "tester", mine=True))
    s.unfreeze()
    s.rows = ()
    s.latch(s.one(ClearFreeze))
    s.freeze(BTC)
    s.fire(purpose=Purpose.SWEEP)
    s.prove_empty()
    late = s.all(AcquireLease)[-1]
    s.feed(LeaseAnswer(s.now, late.id, LeaseKind.GRANTED, Fence(1, 9), s.now + 30_000 * MS, ""))
    s.feed(Stopping(s.now, False, "ops"))
    return s


def store_check() -> Session:
    """A store has to be fit before anything is placed: it may evict keys, is put right, does not answer, is another one than before."""
    s = Shared(store=StorePolicy(configured=True, check=StoreCheck.STRICT), ready=False)
    started = s.effects
    s.answer_stock()
    s.ask(explain=True)
    s.feed(StoreChecked(s.now, next(e.id for e in started if isinstance(e, CheckStore)), StoreHealth.IN_DOUBT, (), ()))
    s.ask()
    s.poll()
    s.checked("maxmemory-policy is allkeys-lru; set noeviction", notes=("one replica",))
    s.ask(explain=True)
    s.epoch = 2
    s.poll()
    s.checked(notes=("one replica",))
    s.poll()
    s.live()
    s.epoch = 3
    s.poll()
    s.ask()
    s.checked()
    s.live()
    return s


STORIES = (claims, once, peers, breaker, lease_lost, store_check)
