"""The core's effects become operations of a store, with every argument in its place, and what the store says becomes the effect's answer.

Method: operations that are written down instead of carried out, for the arguments; the store in memory under simulated time for what
is added here: validity from before the request, and a lease that is let go in every path, cut off at each moment of a request.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.adapters.coordination import Claim, Claimed, Grant, GuardRow, Latch, StoreFailed
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.store_check import verdict
from haltcore.adapters.store_effects import LEASE, LET_GO_S
from haltcore.adapters.virtual_time import VirtualTimeLoop, run
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    GuardState,
    PublishFreeze,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    SettleGuard,
    ShareBreaker,
    Trigger,
)
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
    StoreChecked,
    StoreHealth,
)

MS = 1_000_000
ID = (7, 1)
FENCE = Fence(3, 9)
ROW = LatchRow("BTCUSDT", 4, Trigger.LOSS, "loss", "core", True, False)
GUARD = GuardRow(GuardState.DONE, "b:8", "other", "placed 1", 17)


class Written(MemoryStore):
    """Operations are written down, and answered as told."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(MemoryState(lambda: 0))
        self.asked: list[tuple[Any, ...]] = []
        for name, answer in answers.items():
            self.says(name, answer)
        self.connect(lambda: 5 * MS, "me", "session")

    def says(self, name: str, answer: Any) -> None:
        setattr(self, name, self._operation(name, answer))

    def _operation(self, name: str, answer: Any) -> Callable[..., Any]:
        async def operation(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return operation


CLAIM = ClaimGuard(ID, 8, "key", "s:8", "what", ("", "BTCUSDT"), 700, 20)
CLAIMED = ("claim", Claim("key", "s:8", "what", ("", "BTCUSDT")), 700)
PUBLISH = PublishFreeze(ID, "BTCUSDT", Trigger.LOSS, "loss", "core")
CASES: list[tuple[Effect, tuple[Any, ...], Any, object]] = [
    (AcquireLease(ID, 30), ("acquire", LEASE, "me", 30), Grant(True, FENCE, "me"),
     LeaseAnswer(5 * MS, ID, LeaseKind.GRANTED, FENCE, 35 * MS, "me")),
    (AcquireLease(ID, 30), ("acquire", LEASE, "me", 30), Grant(False, NO_FENCE, "you"),
     LeaseAnswer(5 * MS, ID, LeaseKind.HELD, NO_FENCE, 0, "you")),
    (RenewLease(ID, FENCE, 40), ("renew", LEASE, "me", FENCE, 40), True,
     LeaseAnswer(5 * MS, ID, LeaseKind.GRANTED, FENCE, 45 * MS, "me")),
    (RenewLease(ID, FENCE, 40), ("renew", LEASE, "me", FENCE, 40), False, LeaseAnswer(5 * MS, ID, LeaseKind.LOST, NO_FENCE, 0, "")),
    (ReleaseLease(ID, FENCE), ("release", LEASE, "me", FENCE), True, LeaseAnswer(5 * MS, ID, LeaseKind.RELEASED, NO_FENCE, 0, "")),
    (ReleaseLease(ID, FENCE), ("release", LEASE, "me", FENCE), False, LeaseAnswer(5 * MS, ID, LeaseKind.LOST, NO_FENCE, 0, "")),
    (PUBLISH, ("publish", "session", "BTCUSDT", Trigger.LOSS, "loss", "core"), Latch((ROW,), 3),
     LatchAnswer(5 * MS, ID, LatchKind.OK, (ROW,), 3, scope="BTCUSDT")),
    (ReadFreeze(ID), ("read_latch", "session"), Latch((ROW,), 3), LatchAnswer(5 * MS, ID, LatchKind.OK, (ROW,), 3)),
    (ClearFreeze(ID, "BTCUSDT", 4, "ann", "well"), ("clear", "session", "BTCUSDT", 4, False), Latch((), 3),
     LatchAnswer(5 * MS, ID, LatchKind.OK, (), 3, scope="BTCUSDT")),
    (ClearFreeze(ID, "BTCUSDT", 2, "ann", "well", True), ("clear", "session", "BTCUSDT", 2, True), Latch((ROW,), 3, False),
     LatchAnswer(5 * MS, ID, LatchKind.STALE, (ROW,), 3, scope="BTCUSDT")),
    (CLAIM, CLAIMED, Claimed(GuardKind.CLAIMED, GuardRow(GuardState.INTENT, "s:8", "what", "", 5)),
     GuardAnswer(5 * MS, ID, 8, GuardKind.CLAIMED, 25 * MS, "", "", "")),
    *((CLAIM, CLAIMED, Claimed(kind, GUARD), GuardAnswer(5 * MS, ID, 8, kind, 0, "b:8", "placed 1", ""))
      for kind in (GuardKind.HELD, GuardKind.DONE, GuardKind.MISMATCH)),
    (CLAIM, CLAIMED, Claimed(GuardKind.FROZEN, None, "BTCUSDT"), GuardAnswer(5 * MS, ID, 8, GuardKind.FROZEN, 0, "BTCUSDT", "", "")),
    *((SettleGuard(ID, 8, "key", "s:8", "what", GuardState.REJECTED, "no", 600),
       ("settle", Claim("key", "s:8", "what"), GuardState.REJECTED, "no", 600), settled, GuardAnswer(5 * MS, ID, 8, kind, 0, "", "", ""))
      for settled, kind in ((True, GuardKind.SETTLED), (False, GuardKind.LOST))),
    (ShareBreaker(ID, "place", 2, ""), ("get_state", "breaker:place"), (4, "open"),
     BreakerAnswer(5 * MS, ID, "place", BreakerKind.OK, 4, "open")),
    (ShareBreaker(ID, "place", 2, "shut"), ("put_state", "breaker:place", 2, "shut"), (True, 3, "shut"),
     BreakerAnswer(5 * MS, ID, "place", BreakerKind.OK, 3, "shut")),
    (ShareBreaker(ID, "place", 2, "shut"), ("put_state", "breaker:place", 2, "shut"), (False, 4, "open"),
     BreakerAnswer(5 * MS, ID, "place", BreakerKind.CONFLICT, 4, "open")),
]  # fmt: skip


@pytest.mark.parametrize(("effect", "asked", "said", "answer"), CASES)
def test_every_argument_reaches_the_operation_and_every_word_comes_back(
    effect: Effect, asked: tuple[Any, ...], said: Any, answer: object
) -> None:
    store = Written(**{asked[0]: said})
    assert run(store.perform(effect)) == [answer]
    assert store.asked == [asked]


@pytest.mark.parametrize(("health", "word"), [(StoreHealth.UNAVAILABLE, "unavailable"), (StoreHealth.IN_DOUBT, "in_doubt")])
@pytest.mark.parametrize(("effect", "asked"), list({case[1][0]: case[:2] for case in CASES}.values()))
def test_what_the_store_did_not_do_is_the_effect_s_failed_answer(
    effect: Effect, asked: tuple[Any, ...], health: StoreHealth, word: str
) -> None:
    (answer,) = run(Written(**{asked[0]: StoreFailed(health, "readonly", "a replica")}).perform(effect))
    assert isinstance(answer, (LeaseAnswer, LatchAnswer, GuardAnswer, BreakerAnswer))
    assert (answer.kind.value, answer.effect, answer.at_ns) == (word, ID, 5 * MS)
    assert not isinstance(answer, GuardAnswer) or answer.code == "readonly"


def test_of_a_shared_state_only_what_is_news_is_told() -> None:
    """Whoever asks with the version that it was told last hears the text no second time: each answer is a record of the log."""
    store = Written(get_state=(4, "open"), put_state=(True, 5, "shut"))

    def told(effect: ShareBreaker) -> tuple[int, str]:
        (answer,) = run(store.perform(effect))
        assert isinstance(answer, BreakerAnswer)
        return answer.version, answer.state

    assert told(ShareBreaker(ID, "place", 4, "")) == (4, "open"), "nobody was told so far"
    assert told(ShareBreaker(ID, "place", 4, "")) == (4, "")
    assert told(ShareBreaker(ID, "place", 3, "")) == (4, "open"), "this one has not heard it"
    assert told(ShareBreaker(ID, "place", 4, "shut")) == (5, "shut")
    store.says("get_state", (5, "shut"))
    assert told(ShareBreaker(ID, "place", 5, "")) == (5, "")
    store.says("get_state", (5, "open"))
    assert told(ShareBreaker(ID, "place", 5, "")) == (5, "open"), "a store that has lost all came to the same number"
    store.connect(lambda: 0, "me", "session")
    assert told(ShareBreaker(ID, "place", 5, "")) == (5, "open"), "another process is told anew"
    store.says("get_state", (0, ""))
    assert told(ShareBreaker(ID, "place", 0, "")) == (0, "")


def test_a_huge_text_of_another_comes_into_no_log() -> None:
    huge = "{" * 100_000
    store = Written(get_state=(4, huge), put_state=(False, 4, huge))
    for effect in (ShareBreaker(ID, "place", 0, ""), ShareBreaker(ID, "place", 0, "shut")):
        (answer,) = run(store.perform(effect))
        assert isinstance(answer, BreakerAnswer)
        assert answer.state.startswith("100000 characters")
        assert len(answer.state) < 100


def test_any_other_error_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        run(Written(read_latch=ZeroDivisionError()).perform(ReadFreeze(ID)))


def test_the_verdict_is_over_what_the_store_says_about_itself() -> None:
    facts = MemoryState(lambda: 0).facts()
    for said in (facts, attrs.evolve(facts, kind="redis", version="7.2.4", eviction="volatile-ttl")):
        store = Written(facts=said)
        faults, notes = verdict(said)
        assert run(store.perform(CheckStore(ID))) == [StoreChecked(5 * MS, ID, StoreHealth.OK, faults, notes)]
        assert bool(faults) is (said.kind == "redis"), faults
    assert store.asked == [("facts",)]
    assert run(Written(facts=StoreFailed(StoreHealth.IN_DOUBT, "timeout", "")).perform(CheckStore(ID))) == [
        StoreChecked(5 * MS, ID, StoreHealth.IN_DOUBT, (), (), "timeout")
    ]


# --- time -----------------------------------------------------------------------------------------------------------


def simulated(fault: StoreFault | None = None) -> tuple[MemoryState, MemoryStore, Callable[[], int]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    state = MemoryState(loop.now_ns)
    store = MemoryStore(state, lambda _: fault)
    store.connect(loop.now_ns, "me", "session")
    return state, store, loop.now_ns


SLOW = StoreFault(FaultKind.SLOW, request_ms=300, reply_ms=400)


def test_leave_to_send_counts_from_before_the_request() -> None:
    async def main() -> object:
        _, store, _ = simulated(SLOW)
        return (await store.perform(ClaimGuard(ID, 8, "key", "s:8", "what", (), 10_000, 2_000)))[0]

    assert run(main()) == GuardAnswer(700 * MS, ID, 8, GuardKind.CLAIMED, 2_000 * MS, "", "", "")


@pytest.mark.parametrize("cut_ms", range(0, 701, 50))
def test_an_acquisition_that_is_cut_off_leaves_no_lease_behind(cut_ms: int) -> None:
    async def main() -> None:
        state, store, _ = simulated(SLOW)
        task = asyncio.create_task(store.perform(AcquireLease(ID, 30_000)))
        await asyncio.sleep(cut_ms / 1_000)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done == {task}
        if not task.cancelled():
            await store.close()
        assert state.acquire(LEASE, "you", 1_000).mine

    run(main())


def test_letting_go_is_not_stopped_by_a_second_cancellation() -> None:
    async def main() -> None:
        state, store, _ = simulated(SLOW)
        task = asyncio.create_task(store.perform(AcquireLease(ID, 30_000)))
        for at in (0.5, 0.1):
            await asyncio.sleep(at)
            task.cancel()
        await asyncio.wait([task])
        assert not state.acquire(LEASE, "you", 1_000).mine
        await asyncio.sleep(1)
        assert state.acquire(LEASE, "you", 1_000).mine

    run(main())


def test_letting_go_spares_a_lease_that_was_asked_for_again() -> None:
    async def main() -> None:
        state, store, _ = simulated(SLOW)
        first = asyncio.create_task(store.perform(AcquireLease(ID, 30_000)))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(store.perform(AcquireLease((8, 1), 30_000)))
        await asyncio.sleep(0.1)
        first.cancel()
        (answer,) = await second
        assert isinstance(answer, LeaseAnswer)
        assert state.renew(LEASE, "me", answer.fence, 1_000)

    run(main())


@pytest.mark.parametrize("hanging", [False, True])
def test_closing_lets_go_within_its_bound(hanging: bool) -> None:
    async def main() -> tuple[int, bool]:
        state, store, now_ns = simulated()
        await store.perform(AcquireLease(ID, 30_000))
        if hanging:
            store.fault = lambda _: StoreFault(FaultKind.SLOW, request_ms=10_000)
        await store.close()
        await store.close()
        return now_ns(), state.acquire(LEASE, "you", 1_000).mine

    assert run(main()) == (round(LET_GO_S * 1_000) * MS * hanging, not hanging)


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.IN_DOUBT_APPLIED, FaultKind.IN_DOUBT_NOT_APPLIED])
def test_closing_lets_go_of_a_lease_that_may_be_held_and_survives_a_store_that_is_gone(kind: FaultKind) -> None:
    async def main() -> bool:
        state, store, _ = simulated(StoreFault(kind))
        await store.perform(AcquireLease(ID, 30_000))
        store.fault = None if kind is not FaultKind.UNAVAILABLE else store.fault
        await store.close()
        return state.acquire(LEASE, "you", 1_000).mine

    assert run(main())


@pytest.mark.parametrize("before", ["never", "held", "released"])
def test_closing_asks_nothing_when_there_is_nothing_to_let_go(before: str) -> None:
    async def main() -> list[object]:
        state, store, _ = simulated()
        if before == "held":
            state.acquire(LEASE, "you", 60_000)
        if before != "never":
            (answer,) = await store.perform(AcquireLease(ID, 30_000))
            if before == "released":
                assert isinstance(answer, LeaseAnswer)
                await store.perform(ReleaseLease(ID, answer.fence))
        asked: list[object] = []
        store.fault = asked.append
        await store.close()
        return asked

    assert run(main()) == []


def test_a_restarted_process_finds_its_own_freeze_in_the_latch() -> None:
    async def main() -> list[object]:
        state, store, now_ns = simulated()
        await store.perform(PUBLISH)
        seen: list[object] = []
        for holder, author in (("me again", "session"), ("you", "other session")):
            process = MemoryStore(state)
            process.connect(now_ns, holder, author)
            (answer,) = await process.perform(ReadFreeze(ID))
            assert isinstance(answer, LatchAnswer)
            seen.append(answer.rows[0].mine)
        return seen

    assert run(main()) == [True, False]
