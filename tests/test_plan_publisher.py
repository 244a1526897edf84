"""The publisher of plans. Goal: a plan that was taken reaches the stream, once and in its order; one that is not taken is refused.

Method: the store fails at drawn appends, in each way, and heals; what is on the stream then is compared with what was taken.
"""

import asyncio
import logging
from typing import Any

import attrs
import pytest
from haltcore.adapters.plan_publisher import OutboxFull, PlanPublisher
from haltcore.effects import OrdType, Side, ValueRefused, qty
from haltcore.fsm.plan import Key, Plan, PlanPolicy, SignedPlan, plan_id, to_body, verify
from hypothesis import given
from hypothesis import strategies as st

from tests.store_worlds import IN_DOUBT, LOST, UNAVAILABLE, WORLDS, Flaky, MemoryWorld

KEY = Key("k1", b"1" * 32)
POLICY = PlanPolicy((KEY,), ("reconcile",))
STREAM = "plans"
PLAN = Plan("CLOSE", "BTCUSDT", Side.SELL, qty("0.007"), OrdType.MARKET, True, "drift", "reconcile", "c1", 1_000, 2_000)
FAULTS = [None, UNAVAILABLE, IN_DOUBT, LOST]


@pytest.fixture(params=WORLDS, ids=lambda world: world.__name__)
def world(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.CRITICAL, "haltcore")
    return request.param


def numbered(number: int) -> Plan:
    return attrs.evolve(PLAN, symbol=f"S{number}")


async def on_the_stream(world: MemoryWorld) -> list[str]:
    """The plans on the stream, each by its symbol; every one is as its publisher has signed it."""
    found = []
    for entry in await world.store().read(STREAM, "reader", 1_000):
        signed = verify(entry.body, entry.plan, 1_500, POLICY)
        assert isinstance(signed, SignedPlan)
        found.append(signed.plan.symbol)
    return found


def test_a_plan_is_put_on_the_stream_at_once(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        publisher = PlanPublisher(world.store(), STREAM, KEY)
        signed = await publisher.publish(PLAN)
        assert signed == await publisher.publish(PLAN), "and once"
        assert (signed.id, publisher.waiting) == (plan_id(PLAN), ())
        entry, = await world.store().read(STREAM, "reader", 10)
        assert (entry.plan, entry.body) == (signed.id, to_body(signed))

    world.play(story)


def test_what_stands_there_under_a_plans_id_does_not_keep_it_out(world: Any) -> None:
    """Somebody who can write to the store knows the id, and was first."""

    async def story(world: MemoryWorld) -> None:
        store = world.store()
        await store.append(STREAM, plan_id(PLAN), "forged")
        publisher = PlanPublisher(store, STREAM, KEY)
        signed = await publisher.publish(PLAN)
        assert await publisher.publish(PLAN) == signed
        entries = await store.read(STREAM, "reader", 10)
        assert [(entry.plan, entry.body) for entry in entries] == [(signed.id, "forged"), (signed.id, to_body(signed))]

    world.play(story)


@pytest.mark.parametrize("outbox", [0, -1, 1.0, True, None])
def test_an_outbox_that_cannot_be(outbox: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        with pytest.raises(ValueRefused, match="outbox: "):
            PlanPublisher(world.store(), STREAM, KEY, outbox)

    MemoryWorld.play(story)


@pytest.mark.parametrize("fault", [UNAVAILABLE, IN_DOUBT, LOST])
def test_what_the_store_does_not_take_waits(world: Any, fault: str) -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        publisher = PlanPublisher(flaky, STREAM, KEY, outbox=3)
        flaky.fail(fault)
        taken = [await publisher.publish(numbered(number)) for number in range(3)]
        assert publisher.waiting == tuple(signed.id for signed in taken)
        await publisher.publish(numbered(1))
        assert len(publisher.waiting) == 3, "that one waits already"
        with pytest.raises(OutboxFull, match=r"3 plans wait .*was not taken"):
            await publisher.publish(numbered(3))
        assert publisher.waiting == tuple(signed.id for signed in taken), "the oldest stay"
        assert await publisher.flush() == 3
        flaky.heal()
        await publisher.publish(numbered(4))
        assert publisher.waiting == ()
        assert await on_the_stream(world) == ["S0", "S1", "S2", "S4"]

    world.play(story)


@given(st.lists(st.sampled_from(FAULTS), max_size=30), st.integers(1, 5))
def test_every_plan_that_was_taken_arrives_once_and_in_order(faults: list[str | None], limit: int) -> None:
    """``faults``: what becomes of the appends, one after the other."""
    logging.getLogger("haltcore").setLevel(logging.CRITICAL)

    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        publisher = PlanPublisher(flaky, STREAM, KEY, outbox=limit)
        taken = []
        for number in range(12):
            fault = faults[number % len(faults)] if faults else None
            flaky.heal()
            if fault is not None:
                flaky.fail(fault, lambda _, call: call % 2 == 0)
            try:
                taken.append((await publisher.publish(numbered(number))).plan.symbol)
            except OutboxFull:
                assert len(publisher.waiting) == limit
        flaky.heal()
        assert await publisher.flush() == 0
        assert await on_the_stream(world) == taken

    MemoryWorld.play(story)
    logging.getLogger("haltcore").setLevel(logging.NOTSET)


def test_two_flushes_at_a_time_put_nothing_there_twice(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        publisher = PlanPublisher(flaky, STREAM, KEY)
        flaky.fail(UNAVAILABLE)
        for number in range(5):
            await publisher.publish(numbered(number))
        flaky.heal()

        async def slow(_name: str, _number: int) -> None:
            await asyncio.sleep(0)

        flaky.before = flaky.after = slow
        calls = len(flaky.calls)
        assert await asyncio.gather(*(publisher.flush() for _ in range(4))) == [0] * 4
        assert len(flaky.calls) - calls == 5
        assert await on_the_stream(world) == [f"S{number}" for number in range(5)]

    world.play(story)
