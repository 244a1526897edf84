"""The consumer of plans. Goal: each plan that was published is executed once, whatever fails; what may not be executed is not, and people
hear of it.

Method: a model venue counts executions by plan. A delivery is a sequence of requests to the store; each of them is made to fail in each
way, each is a place to die at, and each is a place at which one consumer is paused until it counts as dead while another does its work;
that one is paused at each of its own requests too. Then the store is whole again, and in the end every plan was executed once.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest
from haltcore.adapters.coordination import Claim, dead_letters
from haltcore.adapters.plan_counts import PlanCounts
from haltcore.adapters.plan_publisher import PlanPublisher
from haltcore.adapters.plans import Handled, Pass, PlanConsumer, Result
from haltcore.effects import GuardState, OrdType, Side, ValueRefused, qty
from haltcore.fsm.plan import CODES, Key, Plan, PlanPolicy, SignedPlan, Status, plan_key, sign, to_body

from tests.store_worlds import IN_DOUBT, LOST, UNAVAILABLE, WORLDS, Flaky, MemoryWorld

KEY = Key("k1", b"1" * 32)
POLICY = PlanPolicy((KEY,), ("reconcile",))
STREAM = "plans"
Story = Callable[[Any], Coroutine[Any, Any, None]]
pytestmark = pytest.mark.usefixtures("_quiet")


@pytest.fixture
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "haltcore")


@pytest.fixture(params=WORLDS, ids=lambda world: world.__name__)
def world(request: pytest.FixtureRequest) -> Any:
    return request.param


def plan_of(world: MemoryWorld, symbol: str = "BTCUSDT", life_ms: int = 3_600_000, **fields: Any) -> Plan:
    now_ms = world.now_ms
    made = Plan("CLOSE", symbol, Side.SELL, qty("0.007"), OrdType.MARKET, True, "drift", "reconcile", "c1", now_ms, now_ms + life_ms)
    return attrs.evolve(made, **fields)


class Venue:
    """Counts what was executed. ``run`` is what an execution does before it has happened."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.result = Result(Status.EXECUTED, "order 7")

    async def execute(self, signed: SignedPlan) -> Result:
        if self.result.status is not Status.RETRYABLE_RATE_LIMIT:
            self.done[signed.id] = self.done.get(signed.id, 0) + 1
        return self.result

    async def resolve(self, signed: SignedPlan) -> Result:
        """A query: it was done, or certainly not."""
        return Result(Status.EXECUTED, "found") if signed.id in self.done else Result(Status.RETRYABLE_RATE_LIMIT, "not there")


class Rig:
    """A publisher, a venue, and consumers."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world, self.venue, self.store = world, Venue(), world.store()
        self.publisher = PlanPublisher(self.store, STREAM, KEY)
        self.alerts: list[str] = []

    def consumer(self, name: str = "c1", store: Any = None, **options: Any) -> PlanConsumer:
        options = {"idle_ms": self.world.idle_ms, "alert": lambda code, _text: self.alerts.append(code), **options}
        now_ns = options.pop("now_ns", self.world.clock.now_ns)
        return PlanConsumer(store or self.store, STREAM, name, options.pop("policy", POLICY), now_ns, **options)

    async def publish(self, symbol: str = "BTCUSDT", **fields: Any) -> SignedPlan:
        return await self.publisher.publish(plan_of(self.world, symbol, **fields))

    async def drain(self, consumer: PlanConsumer, times: int = 4) -> list[Handled]:
        """Passes with so much time between them that what stuck is stuck."""
        handled: list[Handled] = []
        for _ in range(times):
            handled += (await consumer.once(self.venue.execute)).handled
            await self.world.wait(self.world.idle_ms + 1)
        return handled

    async def dead(self) -> list[tuple[str, str]]:
        """The dead letters, each by its plan and why."""
        return [(entry.plan, entry.why.split(":")[0]) for entry in await self.store.read(dead_letters(STREAM), "people", 100)]


def statuses(done: Pass) -> list[Status]:
    return [one.status for one in done.handled]


# --- the usual ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_executed_and_done_with(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        plans = [await rig.publish(symbol) for symbol in ("A", "B", "C")]
        consumer = rig.consumer()
        done = await consumer.once(rig.venue.execute)
        assert [(one.plan_id, one.status, one.text, one.plan) for one in done.handled] == [
            (signed.id, Status.EXECUTED, "order 7", signed.plan) for signed in plans
        ]
        assert done.failure is None
        assert rig.venue.done == {signed.id: 1 for signed in plans}
        assert await rig.store.pending(STREAM) == consumer.counts.pending == 0
        row = await rig.store.look(plan_key(plans[0]))
        assert (row.state, row.result) == (GuardState.DONE, "EXECUTED: order 7")
        assert await rig.drain(consumer) == []
        assert (rig.alerts, await rig.dead()) == ([], [])

    world.play(story)


def test_a_pass_takes_no_more_than_it_may(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        for symbol in "ABC":
            await rig.publish(symbol)
        consumer = rig.consumer(batch=2)
        assert [len((await consumer.once(rig.venue.execute)).handled) for _ in range(3)] == [2, 1, 0]

    world.play(story)


@pytest.mark.parametrize("status", [Status.REJECTED_GUARDRAIL, Status.DROPPED_DUPLICATE])
def test_what_is_final_is_not_tried_again(world: Any, status: Status) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        rig.venue.result = Result(status, "hold_key")
        signed = await rig.publish()
        handled = await rig.drain(rig.consumer())
        assert [(one.status, one.dedupe_hit) for one in handled] == [(status, status is Status.DROPPED_DUPLICATE)]
        await world.lose_group(STREAM)
        again = await rig.drain(rig.consumer())
        assert [(one.status, one.dedupe_hit, one.text) for one in again] == [(Status.DROPPED_DUPLICATE, True, f"{status}: hold_key")]
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


def test_a_rate_limited_plan_is_left_for_later(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        consumer = rig.consumer()
        rig.venue.result = Result(Status.RETRYABLE_RATE_LIMIT, "429")
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.RETRYABLE_RATE_LIMIT]
        assert statuses(await consumer.once(rig.venue.execute)) == [], "not before it is stuck: no spam"
        assert await rig.store.pending(STREAM) == 1
        rig.venue.result = Result(Status.EXECUTED)
        await world.wait(world.idle_ms)
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.EXECUTED]
        assert (rig.venue.done, consumer.counts.redelivered) == ({signed.id: 1}, 1)

    world.play(story)


@pytest.mark.parametrize("how", ["says so", "raises", "is cancelled", "says nonsense"])
def test_what_is_in_doubt_is_not_executed_again(world: Any, how: str) -> None:
    """Whatever went wrong in the executor. Somebody has to look; when nobody can, it becomes a dead letter with its doubt in words."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()

        async def execute(signed: SignedPlan) -> Result:
            await rig.venue.execute(signed)
            if how == "raises":
                raise TimeoutError("no answer")
            if how == "is cancelled":
                raise asyncio.CancelledError
            return Result(Status.IN_DOUBT if how == "says so" else Status.LEFT)

        consumer = rig.consumer()
        for _ in range(POLICY.max_deliveries):
            assert statuses(await consumer.once(execute)) == [Status.IN_DOUBT]
            await world.wait(world.idle_ms)
        assert (await rig.store.look(plan_key(signed))).state is GuardState.IN_DOUBT
        done = await consumer.once(execute)
        assert statuses(done) == [Status.DEAD_LETTERED]
        assert "may have been executed (in_doubt)" in done.handled[0].text
        assert rig.venue.done == {signed.id: 1}
        assert (await rig.dead(), rig.alerts) == ([(signed.id, "deliveries")], ["plan_deliveries"])

    world.play(story)


@pytest.mark.parametrize("happened", [True, False])
def test_a_doubt_is_resolved_by_asking(world: Any, happened: bool) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()

        async def lost(signed: SignedPlan) -> Result:
            if happened:
                await rig.venue.execute(signed)
            return Result(Status.IN_DOUBT, "timeout")

        await rig.consumer("c1").once(lost)
        await world.wait(world.idle_ms)
        done = await rig.consumer("c2", resolve=rig.venue.resolve).once(rig.venue.execute)
        assert [(one.status, one.code) for one in done.handled] == [(Status.EXECUTED, "resolved" if happened else "")]
        assert rig.venue.done == {signed.id: 1}
        assert (await rig.store.look(plan_key(signed))).state is GuardState.DONE
        assert await rig.store.pending(STREAM) == 0

    world.play(story)


def test_a_doubt_does_not_expire_unseen(world: Any) -> None:
    """An expired plan that may have been executed is asked for, and is not just called expired."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        rig.venue.result = Result(Status.IN_DOUBT)
        signed = await rig.publish(life_ms=world.idle_ms // 2)
        await rig.consumer().once(rig.venue.execute)
        await world.wait(world.idle_ms)
        assert statuses(await rig.consumer("c2").once(rig.venue.execute)) == [Status.IN_DOUBT], "expired, and not buried"
        await world.wait(world.idle_ms)
        done = await rig.consumer("c3", resolve=rig.venue.resolve).once(rig.venue.execute)
        assert [(one.status, one.code) for one in done.handled] == [(Status.EXECUTED, "resolved")]
        assert (rig.venue.done, await rig.dead()) == ({signed.id: 1}, [])

    world.play(story)


# --- what is not executed ---------------------------------------------------------------------------------------------------


def test_whoever_writes_to_the_store_has_nothing_executed(world: Any) -> None:
    """Tampered, forged, of another source, under a false name, replayed after its end: buried with its code, and people are told.
    From the future is another matter: see below."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        true = sign(plan_of(world), KEY)
        bodies = {
            "malformed": to_body(true)[:-1],
            "bad_signature": to_body(true).replace('"0.007"', '"7"'),
            "unknown_key": to_body(sign(true.plan, Key("k2", b"2" * 32))),
            "unknown_source": to_body(sign(plan_of(world, source="attacker"), KEY)),
            "expired": to_body(sign(plan_of(world, created_ms=1, expires_ms=world.now_ms), KEY)),
            "wrong_plan_id": to_body(true),
        }
        for number, (code, body) in enumerate(bodies.items()):
            named = body.split('"')[3] if code != "wrong_plan_id" else "another"
            await rig.store.append(STREAM, named if code not in ("malformed", "bad_signature", "unknown_key") else f"{number}", body)
        consumer = rig.consumer()
        done = await consumer.once(rig.venue.execute)
        assert [(one.status, one.code) for one in done.handled] == [(Status.REJECTED_GUARDRAIL, code) for code in bodies]
        assert rig.venue.done == {}
        assert [code for _, code in await rig.dead()] == list(bodies)
        assert rig.alerts == ["plan_" + code for code in bodies]
        assert consumer.counts.dead_lettered == {**dict.fromkeys(CODES, 0), **dict.fromkeys(bodies, 1)}
        assert await rig.store.pending(STREAM) == 0

    world.play(story)


def test_a_plan_from_the_future_is_left(world: Any) -> None:
    """The clock of its consumer is behind: another one carries it out, or the same one when its time has come. People hear of it once."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        behind = rig.consumer("behind", now_ns=lambda: world.clock.now_ns() - 6_000_000_000)
        first = await rig.publish("A")
        done = await behind.once(rig.venue.execute)
        assert [(one.status, one.code, one.plan) for one in done.handled] == [(Status.LEFT, "from_the_future", first.plan)]
        assert (rig.venue.done, rig.alerts, await rig.store.pending(STREAM)) == ({}, ["plan_from_the_future"], 1)
        await world.wait(world.idle_ms)
        assert statuses(await rig.consumer("right").once(rig.venue.execute)) == [Status.EXECUTED]
        second = await rig.publish("B")
        await rig.drain(behind)
        assert rig.venue.done == {first.id: 1, second.id: 1}
        assert (await rig.dead(), await rig.store.pending(STREAM)) == ([], 0)

    world.play(story)


def test_a_plan_that_stays_in_the_future_becomes_a_dead_letter(world: Any) -> None:
    """It would be in the way of trimming for ever."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish(created_ms=world.now_ms + 10**10, expires_ms=world.now_ms + 10**11)
        consumer = rig.consumer()
        handled = await rig.drain(consumer, POLICY.max_deliveries + 2)
        assert [one.status for one in handled] == [Status.LEFT] * POLICY.max_deliveries + [Status.DEAD_LETTERED]
        assert rig.alerts == ["plan_from_the_future"] * 2, "that it was left, and that it was buried"
        assert (rig.venue.done, await rig.dead()) == ({}, [(signed.id, "from_the_future")])
        assert consumer.counts.dead_lettered["from_the_future"] == 1

    world.play(story)


def test_what_is_forged_under_a_plans_id_does_not_keep_it_out(world: Any) -> None:
    """It is there first, and buried; then the true one is published, and carried out. Dead letters of both would be kept."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        true = sign(plan_of(world), KEY)
        await rig.store.append(STREAM, true.id, "forged")
        consumer = rig.consumer()
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.REJECTED_GUARDRAIL]
        await rig.publisher.publish(true.plan)
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.EXECUTED]
        assert rig.venue.done == {true.id: 1}

    world.play(story)


def test_a_plan_that_was_never_executed_is_no_duplicate(world: Any) -> None:
    """It was left for later, its stream was lost, and it is published again; or it comes by a second entry, under another key."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        rig.venue.result = Result(Status.RETRYABLE_RATE_LIMIT)
        signed = await rig.publish()
        assert statuses(await rig.consumer().once(rig.venue.execute)) == [Status.RETRYABLE_RATE_LIMIT]
        await world.lose_stream(STREAM)
        await rig.publish()
        assert statuses(await rig.consumer().once(rig.venue.execute)) == [Status.RETRYABLE_RATE_LIMIT]
        new = Key("k2", b"2" * 32)
        await PlanPublisher(rig.store, STREAM, new).publish(signed.plan)
        rig.venue.result = Result(Status.EXECUTED, "order 7")
        consumer = rig.consumer(policy=attrs.evolve(POLICY, keys=(KEY, new)))
        handled = await rig.drain(consumer)
        assert [(one.status, one.dedupe_hit) for one in handled] == [(Status.EXECUTED, False), (Status.DROPPED_DUPLICATE, True)]
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


def test_two_entries_of_one_plan_at_once(world: Any) -> None:
    """While the one is being carried out, the other does not begin; after it, it is a duplicate."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        new = Key("k2", b"2" * 32)
        both = attrs.evolve(POLICY, keys=(KEY, new))
        signed = await rig.publish()
        await PlanPublisher(rig.store, STREAM, new).publish(signed.plan)
        other = rig.consumer("c2", policy=both)

        async def slowly(signed: SignedPlan) -> Result:
            assert [(one.status, one.code) for one in (await other.once(rig.venue.execute)).handled] == [(Status.IN_DOUBT, "unresolved")]
            return await rig.venue.execute(signed)

        assert statuses(await rig.consumer("c1", policy=both).once(slowly)) == [Status.EXECUTED]
        assert [one.status for one in await rig.drain(other)] == [Status.DROPPED_DUPLICATE]
        assert (rig.venue.done, await rig.store.pending(STREAM)) == ({signed.id: 1}, 0)

    world.play(story)


def test_a_plan_that_never_expires(world: Any) -> None:
    """Its guard lives as long as a store can count."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish(expires_ms=2**63 - 1)
        assert [one.status for one in await rig.drain(rig.consumer())] == [Status.EXECUTED]
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


def test_an_old_plan_that_is_replayed(world: Any) -> None:
    """Its entry is copied by somebody, under its own name and behind its trimmed entry: a duplicate while it lives, and then expired."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish(life_ms=10 * world.idle_ms)
        consumer = rig.consumer(keep=0)
        await consumer.once(rig.venue.execute)
        await rig.store.append(STREAM, signed.id, to_body(signed))
        done = await consumer.once(rig.venue.execute)
        assert [(one.status, one.dedupe_hit) for one in done.handled] == [(Status.DROPPED_DUPLICATE, True)]
        await world.wait(11 * world.idle_ms)
        await rig.store.append(STREAM, signed.id, to_body(signed))
        handled = await rig.drain(consumer)
        assert rig.venue.done == {signed.id: 1}
        assert [one.status for one in handled] == [Status.DROPPED_DUPLICATE], "its guard still says what came of it"

    world.play(story)


def test_a_poison_plan_becomes_a_dead_letter(world: Any) -> None:
    """A plan that takes every process down that runs it: after so many deliveries it goes to people, and the next one gets its turn."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        poison, good = await rig.publish("POISON"), await rig.publish("GOOD")
        started: list[str] = []

        async def die(signed: SignedPlan) -> Result:
            if signed.id == poison.id:
                started.append(signed.id)
                raise KeyboardInterrupt
            return await rig.venue.execute(signed)

        async def certainly_not(_signed: SignedPlan) -> Result:
            return Result(Status.RETRYABLE_RATE_LIMIT)

        statuses: list[Status] = []
        for number in range(POLICY.max_deliveries + 2):
            consumer = rig.consumer(f"c{number}", resolve=certainly_not)
            statuses += [one.status for one in await dying(consumer, die)]
            await world.wait(world.idle_ms)
        assert len(started) == POLICY.max_deliveries
        assert statuses == [Status.DEAD_LETTERED, Status.EXECUTED]
        assert (rig.venue.done, await rig.dead()) == ({good.id: 1}, [(poison.id, "deliveries")])

    async def dying(consumer: PlanConsumer, execute: Any) -> tuple[Handled, ...]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PlanConsumer, "_run_kept", lambda *arguments: arguments[2](arguments[3]))
            try:
                return (await consumer.once(execute)).handled
            except KeyboardInterrupt:
                return ()

    world.play(story)


def test_a_lost_group_repeats_everything_and_executes_nothing_twice(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        first = await rig.publish("A")
        await rig.drain(rig.consumer())
        second = await rig.publish("B")
        await world.lose_group(STREAM)
        handled = await rig.drain(rig.consumer())
        assert [(one.plan_id, one.status) for one in handled] == [(first.id, Status.DROPPED_DUPLICATE), (second.id, Status.EXECUTED)]
        assert rig.venue.done == {first.id: 1, second.id: 1}

    world.play(story)


def test_keys_change_while_plans_travel(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        new = Key("k2", b"2" * 32)
        old_plan = await rig.publish("A")
        both = attrs.evolve(POLICY, keys=(KEY, new))
        new_plan = await PlanPublisher(rig.store, STREAM, new).publish(plan_of(world, "B"))
        handled = await rig.drain(rig.consumer(policy=both))
        assert [(one.plan_id, one.status) for one in handled] == [(old_plan.id, Status.EXECUTED), (new_plan.id, Status.EXECUTED)]
        assert (await PlanPublisher(rig.store, STREAM, new).publish(old_plan.plan)).id == old_plan.id
        again = await rig.drain(rig.consumer(policy=both))
        assert [one.status for one in again] == [Status.DROPPED_DUPLICATE], "the same plan, whoever signs it"
        assert rig.venue.done == {old_plan.id: 1, new_plan.id: 1}

    world.play(story)


# --- whatever fails -----------------------------------------------------------------------------------------------------------


async def _length(world: MemoryWorld) -> int:
    """How many requests one delivery takes, from the first to the last."""
    rig = Rig(world)
    await rig.publish()
    flaky = Flaky(rig.store)
    await rig.consumer(store=flaky).once(rig.venue.execute)
    assert flaky.calls[:6] == ["claim_stuck", "read", "claim", "settle", "settle", "acknowledge"]
    return len(flaky.calls)


@pytest.mark.parametrize("fault", [UNAVAILABLE, IN_DOUBT, LOST])
@pytest.mark.parametrize("lasts", [1, 3])
def test_the_store_fails_at_each_request(world: Any, fault: str, lasts: int) -> None:
    """And the consumer lives on: executed once, told, acknowledged, without asking anybody."""

    async def story(world: MemoryWorld) -> None:
        for at in range(1, await _length(world.fresh()) + 1):
            rig = Rig(world.fresh())
            signed = await rig.publish()
            flaky = Flaky(rig.store)
            consumer = rig.consumer(store=flaky)
            flaky.fail(fault, lambda _, number, at=at: at <= number < at + lasts)  # type: ignore[misc]
            handled = await rig.drain(consumer, 6)
            assert rig.venue.done == {signed.id: 1}, (at, fault)
            assert [one.status for one in handled if one.status is not Status.DROPPED_DUPLICATE] == [Status.EXECUTED], (at, fault)
            assert await rig.store.pending(STREAM) == 0, (at, fault)
            assert (await rig.store.look(plan_key(signed))).state is GuardState.DONE, (at, fault)
            assert (rig.alerts, await rig.dead()) == ([], []), (at, fault)

    world.play(story)


@pytest.mark.parametrize("fault", [UNAVAILABLE, IN_DOUBT, LOST])
def test_a_flapping_store_makes_no_dead_letters(world: Any, fault: str) -> None:
    """Twice as many deliveries as may be, each of them ended by the store."""

    async def story(world: MemoryWorld) -> None:
        for failing in (("read", "claim_stuck"), ("claim", "retake"), ("settle",)):
            rig = Rig(world.fresh())
            signed = await rig.publish()
            flaky = Flaky(rig.store)
            consumer = rig.consumer(store=flaky)
            flaky.fail(fault, lambda name, _, failing=failing: name in failing)  # type: ignore[misc]
            for _ in range(2 * POLICY.max_deliveries):
                done = await consumer.once(rig.venue.execute)
                assert done.failure is not None
                assert done.handled == ()
                await rig.world.wait(world.idle_ms)
            assert rig.venue.done == {}, failing
            flaky.heal()
            await rig.drain(consumer)
            assert rig.venue.done == {signed.id: 1}, failing
            assert await rig.dead() == []

    world.play(story)


def test_deliveries_of_others_count_though_the_store_flapped(world: Any) -> None:
    """One lost answer excuses one delivery, and not those that other consumers were given."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        rig.venue.result = Result(Status.RETRYABLE_RATE_LIMIT)
        flaky = Flaky(rig.store)
        consumer = rig.consumer("c0", store=flaky)
        flaky.fail(LOST, lambda name, _: name == "read")
        await rig.publish()
        await consumer.once(rig.venue.execute)
        flaky.heal()
        for number in range(POLICY.max_deliveries):
            await world.wait(world.idle_ms)
            assert statuses(await rig.consumer(f"c{number + 1}").once(rig.venue.execute)) == [
                Status.RETRYABLE_RATE_LIMIT if number < POLICY.max_deliveries - 1 else Status.DEAD_LETTERED
            ]
        second = await rig.publish("B")
        for _ in range(POLICY.max_deliveries):
            await rig.consumer("c9").once(rig.venue.execute)
            await world.wait(world.idle_ms)
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.RETRYABLE_RATE_LIMIT], "the sixth, one is excused"
        await world.wait(world.idle_ms)
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.DEAD_LETTERED]
        third = await rig.publish("C")
        for _ in range(POLICY.max_deliveries):
            await rig.consumer("c9").once(rig.venue.execute)
            await world.wait(world.idle_ms)
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.DEAD_LETTERED], "the one lost answer is used up"
        assert [plan for plan, _ in await rig.dead()][1:] == [second.id, third.id]

    world.play(story)


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_consumer_dies_at_each_request(world: Any, when: str) -> None:
    """Another one takes over: 0 duplicates, 0 lost."""

    async def story(world: MemoryWorld) -> None:
        for at in range(1, await _length(world.fresh()) + 1):
            rig = Rig(world.fresh())
            signed = await rig.publish()
            flaky = Flaky(rig.store)

            async def die(_name: str, number: int, at: int = at) -> None:
                if number == at:
                    raise Died

            setattr(flaky, when, die)
            with pytest.raises(Died):
                await rig.consumer("c1", store=flaky).once(rig.venue.execute)
            await rig.world.wait(world.idle_ms)
            await rig.drain(rig.consumer("c2", resolve=rig.venue.resolve))
            assert rig.venue.done == {signed.id: 1}, (at, when)
            assert await rig.store.pending(STREAM) == 0, (at, when)
            assert (rig.alerts, await rig.dead()) == ([], [])

    world.play(story)


def test_a_consumer_that_is_stopped_in_the_middle_of_a_run(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        entered = asyncio.Event()

        async def endless(signed: SignedPlan) -> Result:
            await rig.venue.execute(signed)
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        consumer = rig.consumer()
        task = asyncio.ensure_future(consumer.once(endless))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await rig.store.look(plan_key(signed))).state is GuardState.SENT, "nobody knows"
        assert statuses(await consumer.once(rig.venue.execute)) == []
        await world.wait(world.idle_ms)
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.IN_DOUBT]
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


class Overtaken(Flaky):
    """A store that fails over to a replica which never heard what is said after the claim: it says yes to all of that."""

    def __getattr__(self, name: str) -> Any:
        if name not in ("settle", "acknowledge"):
            return super().__getattr__(name)

        async def unheard(*_arguments: Any) -> bool:
            return True

        return unheard


@pytest.mark.parametrize("happened", [True, False])
def test_a_failover_that_loses_what_came_after_the_claim(world: Any, happened: bool) -> None:
    """The row says INTENT: the next one asks before it executes. If nobody can find out, people have to."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        certainly_not = Result(Status.RETRYABLE_RATE_LIMIT)

        async def not_done(_signed: SignedPlan) -> Result:
            return certainly_not

        await rig.consumer("c1", Overtaken(rig.store)).once(rig.venue.execute if happened else not_done)
        assert (await rig.store.look(plan_key(signed))).state is GuardState.INTENT
        await world.wait(world.idle_ms)

        async def unknown(_signed: SignedPlan) -> Result:
            return Result(Status.IN_DOUBT)

        assert statuses(await rig.consumer("c2", resolve=unknown).once(rig.venue.execute)) == [Status.IN_DOUBT]
        await world.wait(world.idle_ms)
        done = await rig.consumer("c3", resolve=rig.venue.resolve).once(rig.venue.execute)
        assert [(one.status, one.code) for one in done.handled] == [(Status.EXECUTED, "resolved" if happened else "")]
        assert rig.venue.done == {signed.id: 1}
        assert (await rig.store.look(plan_key(signed))).state is GuardState.DONE
        assert await rig.store.pending(STREAM) == 0

    world.play(story)


def test_a_failover_after_which_nobody_can_find_out(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        await rig.consumer("c1", Overtaken(rig.store)).once(rig.venue.execute)
        await world.wait(world.idle_ms)

        async def unknown(_signed: SignedPlan) -> Result:
            return Result(Status.IN_DOUBT)

        handled = await rig.drain(rig.consumer("c2", resolve=unknown), POLICY.max_deliveries + 1)
        assert handled[-1].status is Status.DEAD_LETTERED
        assert "may have been executed (intent)" in handled[-1].text
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


# --- two consumers --------------------------------------------------------------------------------------------------------------


def test_two_consumers_share_the_work(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        plans = [await rig.publish(f"S{number}") for number in range(20)]

        async def slowly(signed: SignedPlan) -> Result:
            await asyncio.sleep(0.001)
            return await rig.venue.execute(signed)

        passes = await asyncio.gather(*(rig.consumer(f"c{number}", rig.world.store()).once(slowly) for number in range(2)))
        assert rig.venue.done == {signed.id: 1 for signed in plans}
        assert all(len(done.handled) > 2 for done in passes)

    world.play(story)


def test_a_long_run_is_not_taken_for_stuck() -> None:
    """It takes ten times as long as an entry may be idle, the store fails to be told some of the time, and another consumer looks on."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()

        entered = asyncio.Event()

        async def long(signed: SignedPlan) -> Result:
            entered.set()
            await world.wait(10 * world.idle_ms)
            return await rig.venue.execute(signed)

        flaky = Flaky(rig.store)
        flaky.fail(UNAVAILABLE, lambda name, number: name == "keep" and number % 2 == 0)
        first = asyncio.ensure_future(rig.consumer("c1", flaky).once(long))
        other = rig.consumer("c2")
        await entered.wait()
        while not first.done():
            assert (await other.once(rig.venue.execute)).handled == ()
            await world.wait(world.idle_ms // 10)
        assert statuses(first.result()) == [Status.EXECUTED]
        assert rig.venue.done == {signed.id: 1}
        assert flaky.calls.count("keep") >= 30

    MemoryWorld.play(story)


def test_a_zombie_acknowledges_late(world: Any) -> None:
    """It was cut off while it ran, so its entry went to another, who could not know what came of it. Its acknowledgement does not end that
    entry; what it says about the guard counts, since the guard is still its own."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        flaky = Flaky(rig.store)

        async def cut_off(signed: SignedPlan) -> Result:
            flaky.fail(UNAVAILABLE)
            await world.wait(world.idle_ms)
            assert statuses(await other.once(rig.venue.execute)) == [Status.IN_DOUBT], "it does not execute what may be under way"
            return await rig.venue.execute(signed)

        zombie = rig.consumer("zombie", flaky)
        other = rig.consumer("other")
        done = await zombie.once(cut_off)
        assert statuses(done) == [Status.EXECUTED]
        assert done.failure is not None
        flaky.heal()
        assert (await zombie.once(rig.venue.execute)).handled == ()
        assert await rig.store.pending(STREAM) == 1, "the entry is the other's"
        await world.wait(world.idle_ms)
        assert statuses(await other.once(rig.venue.execute)) == [Status.DROPPED_DUPLICATE]
        assert rig.venue.done == {signed.id: 1}
        assert await rig.store.pending(STREAM) == 0

    world.play(story)


@pytest.mark.parametrize("side", ["before", "after"])
def test_two_consumers_of_one_entry_paused_everywhere(world: Any, side: str) -> None:
    """The first is paused at each of its requests until its entry is stuck; the second takes it and is paused at each of its own; the
    first goes on to its end, then the second. At no pair of places is the plan executed twice, and in the end it is done."""

    async def story(world: MemoryWorld) -> None:
        length = await _length(world.fresh()) + 2
        for one in range(2, length):
            for two in range(1, length):
                await _paused(Rig(world.fresh()), side, one, two)

    world.play(story)


async def _paused(rig: Rig, side: str, one: int, two: int) -> None:
    signed = await rig.publish()
    gates = {name: (asyncio.Event(), asyncio.Event()) for name in ("c1", "c2")}

    def consumer(name: str, at: int) -> PlanConsumer:
        flaky = Flaky(rig.store)
        reached, go_on = gates[name]

        async def gate(_name: str, number: int) -> None:
            if number == at:
                reached.set()
                await go_on.wait()

        setattr(flaky, side, gate)
        return rig.consumer(name, flaky, resolve=rig.venue.resolve)

    async def until(name: str, running: "asyncio.Task[Pass]") -> None:
        waiting = asyncio.ensure_future(gates[name][0].wait())
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    first, second = consumer("c1", one), consumer("c2", two)
    running = asyncio.ensure_future(first.once(rig.venue.execute))
    await until("c1", running)
    await rig.world.wait(rig.world.idle_ms)
    other = asyncio.ensure_future(second.once(rig.venue.execute))
    await until("c2", other)
    gates["c1"][1].set()
    await running
    gates["c2"][1].set()
    await other
    assert rig.venue.done.get(signed.id, 0) <= 1, (side, one, two)
    await rig.world.wait(rig.world.idle_ms)
    await rig.drain(rig.consumer("c3", resolve=rig.venue.resolve))
    assert rig.venue.done == {signed.id: 1}, (side, one, two)
    assert await rig.store.pending(STREAM) == 0, (side, one, two)
    assert await rig.dead() == []


def test_a_guard_that_is_gone_before_it_begins(world: Any) -> None:
    """Another owner has it, or the store has forgotten it: then SENT is lost, and nothing is executed."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        flaky = Flaky(rig.store)

        async def rob(name: str, _number: int) -> None:
            if name == "settle" and flaky.calls.count("settle") == 1:
                row = await rig.store.look(plan_key(signed))
                assert await rig.store.retake(Claim(plan_key(signed), "robber", signed.id), row, 3_600_000)

        flaky.before = rob
        consumer = rig.consumer(store=flaky)
        done = await consumer.once(rig.venue.execute)
        assert [(one.status, one.code) for one in done.handled] == [(Status.LEFT, "too_slow")]
        assert (rig.venue.done, rig.alerts) == ({}, [])
        assert (await rig.store.look(plan_key(signed))).owner == "robber"

    world.play(story)


def test_two_bury_the_same_entry(world: Any) -> None:
    """One of them does, and says so; the other finds that it was too late."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        await rig.store.append(STREAM, "x", "junk")
        flaky = Flaky(rig.store)

        async def pause(name: str, _number: int) -> None:
            if name == "bury":
                await world.wait(world.idle_ms)
                assert statuses(await rig.consumer("c2").once(rig.venue.execute)) == [Status.REJECTED_GUARDRAIL]

        flaky.before = pause
        consumer = rig.consumer(store=flaky)
        assert [(one.status, one.code) for one in (await consumer.once(rig.venue.execute)).handled] == [(Status.LEFT, "not_ours")]
        assert (rig.alerts, consumer.counts.dead_lettered["malformed"]) == (["plan_malformed"], 0)
        assert len(await rig.dead()) == 1

    world.play(story)


# --- housekeeping -----------------------------------------------------------------------------------------------------------------


def test_trimming_stops_at_what_is_not_done(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        stuck = await rig.publish("A")
        rig.venue.result = Result(Status.IN_DOUBT)
        consumer = rig.consumer(keep=0, batch=100)
        await consumer.once(rig.venue.execute)
        rig.venue.result = Result(Status.EXECUTED)
        for number in range(10):
            await rig.publish(f"S{number}")
        await consumer.once(rig.venue.execute)
        assert consumer.counts.pending == 1
        await world.wait(world.idle_ms)
        done = await rig.consumer("c2", resolve=rig.venue.resolve).once(rig.venue.execute)
        assert [one.plan_id for one in done.handled] == [stuck.id], "still there"
        assert await rig.store.trim(STREAM, 0) >= 0
        assert await rig.store.pending(STREAM) == 0

    world.play(story)


def test_housekeeping_that_fails_is_in_nobodys_way(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        await rig.publish()
        flaky = Flaky(rig.store)
        flaky.fail(UNAVAILABLE, lambda name, _: name in ("trim", "pending"))
        done = await rig.consumer(store=flaky).once(rig.venue.execute)
        assert (statuses(done), done.failure) == ([Status.EXECUTED], None)

    world.play(story)


def test_a_guard_that_went_to_another_is_told_to_people(world: Any) -> None:
    """Somebody took the row over though its owner was alive: both may have acted."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()

        async def robbed(signed: SignedPlan) -> Result:
            row = await rig.store.look(plan_key(signed))
            assert await rig.store.retake(Claim(plan_key(signed), "robber", signed.id), row, 1_000)
            return await rig.venue.execute(signed)

        await rig.consumer().once(robbed)
        assert rig.alerts == ["guard_lost"]
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


def test_an_alert_that_raises_is_in_nobodys_way(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        stolen = await rig.publish("A")
        await rig.store.append(STREAM, "x", "junk")

        async def robbed(signed: SignedPlan) -> Result:
            row = await rig.store.look(plan_key(signed))
            assert await rig.store.retake(Claim(plan_key(signed), "robber", signed.id), row, 3_600_000)
            return await rig.venue.execute(signed)

        def broken(_code: str, _text: str) -> None:
            raise RuntimeError("no pager")

        done = await rig.consumer(alert=broken).once(robbed)
        assert statuses(done) == [Status.EXECUTED, Status.REJECTED_GUARDRAIL]
        assert (rig.venue.done, await rig.store.pending(STREAM)) == ({stolen.id: 1}, 0)

    world.play(story)


def test_no_two_runs_of_a_consumer_are_one_owner(world: Any) -> None:
    """Of the same name, begun at the same moment."""

    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        plans = [await rig.publish(symbol) for symbol in ("A", "B")]
        for _ in plans:
            await rig.consumer(batch=1).once(rig.venue.execute)
        owners = [(await rig.store.look(plan_key(signed))).owner for signed in plans]
        assert len(dict.fromkeys(owners)) == 2

    world.play(story)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("idle_ms", 60e3), ("idle_ms", 0), ("idle_ms", True), ("idle_ms", None), ("batch", 0), ("batch", 16.0), ("keep", -1),
        ("keep", None), ("resolve", True), ("resolve", Result(Status.EXECUTED)), ("alert", "people"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be(option: str, value: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        with pytest.raises(ValueRefused, match=f"^{option}: "):
            Rig(world).consumer(**{option: value})

    MemoryWorld.play(story)


def test_an_executor_that_cannot_be_called_is_refused_before_anything_is_taken(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        rig = Rig(world)
        signed = await rig.publish()
        consumer = rig.consumer()
        with pytest.raises(ValueRefused, match=r"^execute: a Result cannot be called"):
            await consumer.once(Result(Status.EXECUTED))  # type: ignore[arg-type]
        assert statuses(await consumer.once(rig.venue.execute)) == [Status.EXECUTED]
        assert rig.venue.done == {signed.id: 1}

    world.play(story)


def test_counts_are_exposed_from_the_start() -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    counts, registry = PlanCounts(), CollectorRegistry()
    counts.expose(registry)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        "mm_stream_pending_plans 0.0", "mm_stream_redelivered_total 0.0",
        *(f'mm_stream_dead_lettered_total{{reason="{code}"}} 0.0' for code in CODES),
    ]  # fmt: skip
    counts.redelivered, counts.pending, counts.dead_lettered["expired"] = 3, 2, 1
    text = generate_latest(registry).decode()
    for line in ("mm_stream_pending_plans 2.0", "mm_stream_redelivered_total 3.0", 'mm_stream_dead_lettered_total{reason="expired"} 1.0'):
        assert line in text
    with pytest.raises(ValueError, match="Duplicated"):
        PlanCounts().expose(registry)
