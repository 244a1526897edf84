"""The store in memory keeps the rules that its module states, whatever fails on the way.

Method: several stores over one state, each with a clock that the test sets; a scripted fault for every way in which a request can fail; and
a random walk that checks after each step that at most one holder can believe in its lease, and that fences and latch epochs only grow.
"""

import asyncio
from collections.abc import Callable

import pytest
from attrs import evolve
from haltcore.adapters.coordination import StoreFailed
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.virtual_time import VirtualTimeLoop, run
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    FetchPositions,
    GuardState,
    Part,
    PublishFreeze,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    SettleGuard,
    ShareBreaker,
    Trigger,
)
from haltcore.effects.performer import EFFECT_CLASSES
from haltcore.fsm.events import (
    BreakerAnswer,
    GuardAnswer,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    StoreChecked,
    StoreHealth,
)
from hypothesis import given, settings
from hypothesis import strategies as st

MS = 1_000_000
ID = (7, 1)


class Time:
    """A clock that the test sets."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class World:
    """One state, and stores by the name of their holder, all on the same clock unless said otherwise."""

    def __init__(self) -> None:
        self.time = Time(1_000 * MS)
        self.state = MemoryState(self.time)
        self.stores: dict[str, MemoryStore] = {}

    def store(self, holder: str) -> MemoryStore:
        if holder not in self.stores:
            self.stores[holder] = MemoryStore(self.state)
            self.stores[holder].connect(self.time, holder, holder)
        return self.stores[holder]

    def lease(self, holder: str, effect: Effect) -> LeaseAnswer:
        answer = ask(self.store(holder), effect)
        assert isinstance(answer, LeaseAnswer)
        return answer

    def latch(self, holder: str, effect: Effect) -> LatchAnswer:
        answer = ask(self.store(holder), effect)
        assert isinstance(answer, LatchAnswer)
        return answer


def ask(store: MemoryStore, effect: Effect) -> object:
    (answer,) = run(store.perform(effect))
    assert getattr(answer, "effect", None) == getattr(effect, "id", None)
    return answer


def publish(symbol: str = "", by: str = "ops") -> PublishFreeze:
    return PublishFreeze(ID, symbol, Trigger.MANUAL, "drill", by)


def test_it_serves_exactly_the_effects_of_the_store() -> None:
    assert sorted(kind.__name__ for kind in MemoryStore.serves) == sorted(
        kind.__name__ for kind in EFFECT_CLASSES if kind.part is Part.STORE
    )


def test_a_free_lease_is_granted_and_valid_from_before_the_request() -> None:
    world = World()
    answer = world.lease("a", AcquireLease(ID, 30_000))
    assert answer == LeaseAnswer(world.time.now, ID, LeaseKind.GRANTED, Fence(1, 1), world.time.now + 30_000 * MS, "a")


def test_a_held_lease_names_its_holder_and_nothing_that_could_be_used() -> None:
    world = World()
    world.lease("a", AcquireLease(ID, 30_000))
    assert world.lease("b", AcquireLease(ID, 30_000)) == LeaseAnswer(world.time.now, ID, LeaseKind.HELD, NO_FENCE, 0, "a")


@pytest.mark.parametrize(("passed_ms", "kind"), [(29_999, LeaseKind.HELD), (30_000, LeaseKind.GRANTED)])
def test_a_lease_runs_out_to_the_millisecond(passed_ms: int, kind: LeaseKind) -> None:
    world = World()
    world.lease("a", AcquireLease(ID, 30_000))
    world.time.now += passed_ms * MS
    assert world.lease("b", AcquireLease(ID, 30_000)).kind is kind


def test_renewal_prolongs_and_keeps_the_fence() -> None:
    world = World()
    fence = world.lease("a", AcquireLease(ID, 30_000)).fence
    world.time.now += 20_000 * MS
    answer = world.lease("a", RenewLease(ID, fence, 30_000))
    assert (answer.kind, answer.fence, answer.valid_until_ns) == (LeaseKind.GRANTED, fence, world.time.now + 30_000 * MS)
    world.time.now += 20_000 * MS
    assert world.lease("b", AcquireLease(ID, 30_000)).kind is LeaseKind.HELD


def test_a_new_grant_has_a_larger_fence_and_the_old_one_is_void() -> None:
    world = World()
    old = world.lease("a", AcquireLease(ID, 1_000)).fence
    world.time.now += 1_000 * MS
    new = world.lease("b", AcquireLease(ID, 1_000)).fence
    assert (new.epoch, new.counter) > (old.epoch, old.counter)
    for effect in (RenewLease(ID, old, 1_000), ReleaseLease(ID, old)):
        answer = world.lease("a", effect)
        assert (answer.kind, answer.fence, answer.valid_until_ns) == (LeaseKind.LOST, NO_FENCE, 0)
    assert world.lease("b", RenewLease(ID, new, 1_000)).kind is LeaseKind.GRANTED


def test_a_lease_that_ran_out_is_lost_even_if_nobody_took_it() -> None:
    world = World()
    fence = world.lease("a", AcquireLease(ID, 1_000)).fence
    world.time.now += 1_000 * MS
    assert world.lease("a", RenewLease(ID, fence, 1_000)).kind is LeaseKind.LOST


def test_names_of_leases_that_have_run_out_are_forgotten() -> None:
    now = Time()
    state = MemoryState(now)
    kept = state.acquire("kept", "a", 60_000)
    for number in range(100):
        state.acquire(f"job{number}", "a", 1)
        now.now += MS
    assert len(state._leases) == 2
    assert state.renew("kept", "a", kept.fence, 60_000)


def test_another_s_fence_is_of_no_use() -> None:
    world = World()
    fence = world.lease("a", AcquireLease(ID, 30_000)).fence
    assert world.lease("b", RenewLease(ID, fence, 30_000)).kind is LeaseKind.LOST
    assert world.lease("b", ReleaseLease(ID, fence)).kind is LeaseKind.LOST
    assert world.lease("a", RenewLease(ID, fence, 30_000)).kind is LeaseKind.GRANTED


def test_release_frees_at_once() -> None:
    world = World()
    fence = world.lease("a", AcquireLease(ID, 30_000)).fence
    assert world.lease("a", ReleaseLease(ID, fence)) == LeaseAnswer(world.time.now, ID, LeaseKind.RELEASED, NO_FENCE, 0, "")
    assert world.lease("b", AcquireLease(ID, 30_000)).fence == Fence(1, 2)


def test_asking_again_recovers_a_lease_whose_answer_was_lost() -> None:
    world = World()
    store = world.store("a")
    store.fault = lambda _: StoreFault(FaultKind.IN_DOUBT_APPLIED)
    lost = world.lease("a", AcquireLease(ID, 30_000))
    assert (lost.kind, lost.fence, lost.valid_until_ns) == (LeaseKind.IN_DOUBT, NO_FENCE, 0)
    store.fault = None
    assert world.lease("b", AcquireLease(ID, 30_000)).kind is LeaseKind.HELD
    answer = world.lease("a", AcquireLease(ID, 30_000))
    assert (answer.kind, answer.fence) == (LeaseKind.GRANTED, Fence(1, 2))


def test_the_words_of_the_first_freeze_stay_and_rows_are_sorted() -> None:
    world = World()
    world.latch("a", publish("ETHUSDT"))
    world.latch("a", publish("", by="first"))
    answer = world.latch("b", publish("", by="second"))
    account = LatchRow("", 3, Trigger.MANUAL, "drill", "first", True, True, "a")
    eth = LatchRow("ETHUSDT", 1, Trigger.MANUAL, "drill", "ops", False, True, "a")
    assert answer == LatchAnswer(world.time.now, ID, LatchKind.OK, (account,), 1, scope="")
    assert world.latch("b", ReadFreeze(ID)) == LatchAnswer(world.time.now, ID, LatchKind.OK, (account, evolve(eth, mine=False)), 1)
    assert world.latch("a", ReadFreeze(ID)).rows == (account, eth)


def test_clearing_needs_the_epoch_of_this_very_setting() -> None:
    world = World()
    (first,) = world.latch("a", publish()).rows
    cleared = world.latch("a", ClearFreeze(ID, "", first.epoch, "ops", "over"))
    assert cleared == LatchAnswer(world.time.now, ID, LatchKind.OK, (), 1, scope="")
    (second,) = world.latch("b", publish()).rows
    assert second.epoch > first.epoch
    for epoch in (first.epoch, 0, second.epoch + 1):
        answer = world.latch("a", ClearFreeze(ID, "", epoch, "ops", "over"))
        assert (answer.kind, answer.rows) == (LatchKind.STALE, (evolve(second, mine=False),))
    assert world.latch("a", ClearFreeze(ID, "", second.epoch, "ops", "over", True)).rows == ()


@pytest.mark.parametrize(("who", "by", "joint"), [("a", "ops", False), ("a", "ann", True), ("b", "ops", True), ("b", "ann", True)])
def test_who_stands_behind_a_row_that_is_set_is_seen_before_it_can_be_cleared(who: str, by: str, joint: bool) -> None:
    world = World()
    (first,) = world.latch("a", publish()).rows
    (row,) = world.latch(who, publish(by=by)).rows
    assert row.epoch > first.epoch
    assert (row.by, row.joint) == ("ops", joint)
    (again,) = world.latch("a", publish()).rows
    assert again.joint == joint, "once joint, joint for good"
    assert world.latch("a", ClearFreeze(ID, "", first.epoch, "ops", "over")).kind is LatchKind.STALE
    left = world.latch("a", ClearFreeze(ID, "", again.epoch, "ops", "over")).rows
    assert [(one.author, one.by, one.mine, one.joint) for one in left] == ([("b", by, False, True)] if who == "b" else [])
    world.latch("b", ClearFreeze(ID, "", left[0].epoch if left else 0, "ops", "over"))
    assert not world.latch(who, publish(by=by)).rows[0].joint


def test_clearing_one_scope_leaves_the_others_and_clearing_twice_is_once() -> None:
    world = World()
    world.latch("a", publish("ETHUSDT"))
    world.latch("a", publish("BTCUSDT"))
    rows = world.latch("a", ReadFreeze(ID)).rows
    clear = ClearFreeze(ID, "BTCUSDT", rows[0].epoch, "ops", "over")
    for _ in range(2):
        answer = world.latch("a", clear)
        assert (answer.kind, answer.rows, world.latch("a", ReadFreeze(ID)).rows) == (LatchKind.OK, (), rows[1:])


def test_a_flush_forgets_everything_but_never_repeats_a_token() -> None:
    world = World()
    old = world.lease("a", AcquireLease(ID, 30_000)).fence
    (row,) = world.latch("a", publish()).rows
    world.state.flush()
    assert world.latch("a", ReadFreeze(ID)).rows == ()
    assert world.lease("a", RenewLease(ID, old, 30_000)).kind is LeaseKind.LOST
    assert world.lease("b", AcquireLease(ID, 30_000)).fence == Fence(2, 1)
    (again,) = world.latch("b", publish()).rows
    assert again.epoch > row.epoch


EFFECTS: list[Callable[[Fence, int], Effect]] = [
    lambda _fence, _epoch: AcquireLease(ID, 1_000),
    lambda fence, _epoch: RenewLease(ID, fence, 60_000),
    lambda fence, _epoch: ReleaseLease(ID, fence),
    lambda _fence, _epoch: publish("ETHUSDT"),
    lambda _fence, _epoch: ReadFreeze(ID),
    lambda _fence, epoch: ClearFreeze(ID, "", epoch, "ops", "over"),
    lambda _fence, _epoch: ClaimGuard(ID, 5, "key", "a:5", "what", ("BTCUSDT",), 1_000, 100),
    lambda _fence, _epoch: SettleGuard(ID, 5, "other key", "a:4", "what", GuardState.DONE, "placed", 1_000),
    lambda _fence, _epoch: CheckStore(ID),
    lambda _fence, _epoch: ShareBreaker(ID, "place", 0, "open"),
]
#: Of each kind of answer, the field that says whether it failed.
VERDICTS: dict[type, str] = {
    LeaseAnswer: "kind", LatchAnswer: "kind", GuardAnswer: "kind", StoreChecked: "health", BreakerAnswer: "kind",
}  # fmt: skip


@pytest.mark.parametrize("make", EFFECTS)
@pytest.mark.parametrize("kind", list(FaultKind))
def test_each_fault_is_answered_as_what_it_is_and_applied_or_not(make: Callable[[Fence, int], Effect], kind: FaultKind) -> None:
    def prepared() -> tuple[World, Effect]:
        world = World()
        fence = world.lease("a", AcquireLease(ID, 30_000)).fence
        (row,) = world.latch("a", publish()).rows
        return world, make(fence, row.epoch)

    def fingerprint(world: World) -> object:
        return vars(world.state) | {"_now_ns": None}

    untouched, _ = prepared()
    applied, effect = prepared()
    ask(applied.store("a"), effect)
    world, effect = prepared()
    world.store("a").fault = lambda asked: StoreFault(kind) if asked is effect else None
    answer = ask(world.store("a"), effect)
    if kind is not FaultKind.SLOW:
        verdict = getattr(answer, VERDICTS[type(answer)])
        assert verdict.value == ("unavailable" if kind is FaultKind.UNAVAILABLE else "in_doubt")
    expected = applied if kind in (FaultKind.SLOW, FaultKind.IN_DOUBT_APPLIED) else untouched
    assert fingerprint(world) == fingerprint(expected)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_an_operation_that_is_called_directly_fails_by_its_name(kind: FaultKind) -> None:
    world = World()
    store = world.store("a")
    asked: list[object] = []

    def fault(what: Effect | str) -> StoreFault | None:
        asked.append(what)
        return StoreFault(kind) if what == "mark_once" else None

    store.fault = fault
    if kind is FaultKind.SLOW:
        assert run(store.mark_once("mark", "one", 1_000))
    else:
        with pytest.raises(StoreFailed) as failure:
            run(store.mark_once("mark", "one", 1_000))
        health = StoreHealth.UNAVAILABLE if kind is FaultKind.UNAVAILABLE else StoreHealth.IN_DOUBT
        assert (failure.value.health, failure.value.code, failure.value.text) == (health, "store_fault", kind.value)
    store.fault = None
    assert run(store.mark_once("mark", "two", 1_000)) is (kind in (FaultKind.UNAVAILABLE, FaultKind.IN_DOUBT_NOT_APPLIED))
    assert asked == ["mark_once"]


def test_a_slow_answer_does_not_lengthen_the_lease() -> None:
    async def main() -> tuple[int, LeaseAnswer]:
        clock = running().now_ns
        store = MemoryStore(MemoryState(clock), lambda _: StoreFault(FaultKind.SLOW, request_ms=300, reply_ms=400))
        store.connect(clock, "a", "a")
        (answer,) = await store.perform(AcquireLease(ID, 1_000))
        assert isinstance(answer, LeaseAnswer)
        return clock(), answer

    arrived, answer = run(main())
    assert (arrived, answer.at_ns, answer.valid_until_ns) == (700 * MS, 700 * MS, 1_000 * MS)


def running() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


@pytest.mark.parametrize(("cut_ms", "applied"), [(100, False), (500, True)])
def test_a_request_that_is_cut_off_was_applied_only_if_it_had_arrived(cut_ms: int, applied: bool) -> None:
    async def main() -> MemoryState:
        clock = running().now_ns
        state = MemoryState(clock)
        store = MemoryStore(state, lambda _: StoreFault(FaultKind.SLOW, request_ms=300, reply_ms=400))
        store.connect(clock, "a", "a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.perform(publish()), cut_ms / 1_000)
        return state

    assert bool(run(main()).rows()) is applied


def test_misuse_is_named() -> None:
    world = World()
    with pytest.raises(ValueError, match="FetchPositions is no effect of the store"):
        ask(world.store("a"), FetchPositions(ID))
    with pytest.raises(RuntimeError, match="call connect first"):
        ask(MemoryStore(world.state), ReadFreeze(ID))
    run(world.store("a").close())
    with pytest.raises(RuntimeError, match="call connect first"):
        ask(world.store("a"), ReadFreeze(ID))
    with pytest.raises(ValueError, match="epoch"):
        MemoryState(world.time, epoch=0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "renew", "release", "publish", "clear", "flush", "skew"]),
        st.sampled_from("abc"),
        st.sampled_from([None, *FaultKind]),
        st.integers(0, 600),
    ),
    max_size=60,
)


@settings(max_examples=500)
@given(STEPS)
def test_no_two_holders_ever_believe_in_their_leases(steps: list[tuple[str, str, FaultKind | None, int]]) -> None:
    """Clocks of holders differ from the state's by a constant that is set by "skew"; what they believe must still be true.

    A flush is the one exception: it forgets a lease that its holder still counts on. Only the fence helps then, and it must be larger.
    """
    world = World()
    skew = dict.fromkeys("abc", 0)
    believes: dict[str, LeaseAnswer] = {}
    highest, highest_row = (0, 0), 0
    for what, who, fault, passed_ms in steps:
        world.time.now += passed_ms * MS
        store = world.store(who)
        store.connect(lambda who=who: world.time.now + skew[who], who, who)  # type: ignore[misc]
        store.fault = lambda _, fault=fault: StoreFault(fault) if fault else None
        mine = believes.get(who)
        if what == "flush":
            world.state.flush()
            believes.clear()
        elif what == "skew":
            believes.pop(who, None)
            skew[who] = (passed_ms - 300) * MS
        elif what == "publish":
            world.latch(who, publish())
        elif what == "clear":
            world.latch(who, ClearFreeze(ID, "", highest_row, "ops", "over"))
        else:
            fence = mine.fence if mine else Fence(1, 1)
            effects: dict[str, Effect] = {
                "acquire": AcquireLease(ID, 1_000), "renew": RenewLease(ID, fence, 1_000), "release": ReleaseLease(ID, fence),
            }
            answer = world.lease(who, effects[what])
            if answer.kind is LeaseKind.GRANTED:
                believes[who] = answer
                token = (answer.fence.epoch, answer.fence.counter)
                assert token > highest or (what == "renew" and token == highest)
                highest = token
            elif what != "acquire" or answer.kind is not LeaseKind.UNAVAILABLE:
                believes.pop(who, None)
        holders = [name for name, answer in believes.items() if world.time.now + skew[name] < answer.valid_until_ns]
        assert len(holders) <= 1
        for row in world.state.rows():
            assert row.epoch >= highest_row
            highest_row = row.epoch
