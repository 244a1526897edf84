"""The bot's own code for a plan. Goal: whatever it does, the plan stays in doubt and nobody sees a secret.

Method: an executor, and a resolver, that raise, return what says nothing, or are no coroutine functions; each is run by a consumer over
a store of each kind, and the guard's row, the dead letters, the log and what the pass tells are looked through for a signature.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from haltcore.adapters.coordination import dead_letters
from haltcore.adapters.plan_publisher import PlanPublisher
from haltcore.adapters.plan_run import Result, called, failed, result_of
from haltcore.adapters.plans import PlanConsumer
from haltcore.effects import GuardState, OrdType, Side, qty
from haltcore.fsm.plan import ENDINGS, Key, Plan, PlanPolicy, SignedPlan, Status, plan_key

from tests.store_worlds import WORLDS, MemoryWorld

KEY = Key("k1", b"1" * 32)
POLICY = PlanPolicy((KEY,), ("reconcile",), max_deliveries=2)
STREAM = "plans"
SECRET = "c0ffee5ec2e7"
REQUEST = f"POST https://api.binance.com/api/v3/order?symbol=X&timestamp=1&signature={SECRET}"


class Unspeakable(Exception):
    """Its words raise, with a secret."""

    def __str__(self) -> str:
        raise RuntimeError(REQUEST)

    __repr__ = __str__


def raises(error: BaseException) -> Callable[[SignedPlan], Any]:
    async def work(_signed: SignedPlan) -> Result:
        raise error from RuntimeError(REQUEST)

    return work


def returns(answer: Any) -> Callable[[SignedPlan], Any]:
    async def work(_signed: SignedPlan) -> Any:
        return answer

    return work


def raises_at_once(_signed: SignedPlan) -> Any:
    raise RuntimeError(REQUEST)


#: What goes wrong, and what is said of it.
WRONG: dict[str, tuple[Any, str]] = {
    "raises": (raises(RuntimeError(REQUEST)), "RuntimeError: POST https://api.binance.com"),
    "raises what cannot be said": (raises(Unspeakable()), "Unspeakable: "),
    "is cancelled": (raises(asyncio.CancelledError(REQUEST)), "CancelledError: POST"),
    "raises at once": (raises_at_once, "RuntimeError: POST"),
    "returns None": (returns(None), "the bot's code returned None, which says nothing of what came of it; return Result(Status.EXECUTED"),
    "returns a text": (returns(REQUEST), "the bot's code returned a str, which says nothing"),
    "is no coroutine": (lambda _signed: True, "the bot's code returned a bool, which says nothing"),
    "says what is not its to say": (returns(Result(Status.LEFT, REQUEST)), "LEFT, which is not its to say; give one of EXECUTED"),
    "says nonsense": (returns(Result([REQUEST], REQUEST)), "which is not its to say"),  # type: ignore[arg-type]
    "says so with a secret": (returns(Result(Status.IN_DOUBT, REQUEST)), "POST https://api.binance.com"),
    "says so in what is no text": (returns(Result(Status.IN_DOUBT, Unspeakable())), ""),  # type: ignore[arg-type]
    "says so in half a letter": (returns(Result(Status.IN_DOUBT, "order \ud800")), "order ?"),
}


@pytest.fixture(params=WORLDS, ids=lambda world: world.__name__)
def world(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("resolving", [False, True])
@pytest.mark.parametrize("how", WRONG)
def test_the_plan_is_in_doubt_and_nobody_sees_a_secret(world: Any, how: str, resolving: bool, caplog: pytest.LogCaptureFixture) -> None:
    work, words = WRONG[how]
    caplog.set_level(logging.DEBUG)

    async def story(world: MemoryWorld) -> None:
        store, told = world.store(), []
        now_ms = world.now_ms
        plan = Plan("CLOSE", "B", Side.SELL, qty("1"), OrdType.MARKET, True, "drift", "reconcile", "c", now_ms, now_ms + 3_600_000)
        signed = await PlanPublisher(store, STREAM, KEY).publish(plan)
        consumer = PlanConsumer(
            store, STREAM, "c1", POLICY, world.clock.now_ns, idle_ms=world.idle_ms, resolve=work if resolving else None,
            alert=lambda code, text: told.append(f"{code}: {text}"),
        )  # fmt: skip
        done = [(await consumer.once(returns(Result(Status.IN_DOUBT, "time-out")) if resolving else work)).handled]
        row = await store.look(plan_key(signed))
        assert (row.state, [one.status for one in done[0]]) == (GuardState.IN_DOUBT, [Status.IN_DOUBT])
        for _ in range(POLICY.max_deliveries):
            await world.wait(world.idle_ms)
            done.append((await consumer.once(work)).handled)
        assert [one.status for handled in done[1:] for one in handled] == [Status.IN_DOUBT, Status.DEAD_LETTERED]
        assert await store.pending(STREAM) == 0
        dead = await store.read(dead_letters(STREAM), "people", 10)
        seen = [str(row), str(await store.look(plan_key(signed))), str(dead), str(told), str(done), caplog.text]
        assert [text for text in seen if SECRET in text] == []
        assert "Traceback" not in caplog.text
        said = caplog.text if resolving else done[0][0].text
        assert words in said
        assert resolving or words in row.result

    world.play(story)


def test_an_executor_that_is_no_coroutine_function_is_taken_at_its_word(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        store, now_ms = world.store(), world.now_ms
        plan = Plan("CLOSE", "B", Side.SELL, qty("1"), OrdType.MARKET, True, "drift", "reconcile", "c", now_ms, now_ms + 3_600_000)
        await PlanPublisher(store, STREAM, KEY).publish(plan)
        consumer = PlanConsumer(store, STREAM, "c1", POLICY, world.clock.now_ns)
        done = await consumer.once(lambda _signed: Result("EXECUTED", "order 7"))  # type: ignore[arg-type,return-value]
        assert [(one.status, one.text) for one in done.handled] == [(Status.EXECUTED, "order 7")]
        assert type(done.handled[0].status) is Status

    world.play(story)


def test_what_can_be_told_is_told_as_it_is() -> None:
    for status in ENDINGS:
        assert result_of(Result(status, "order 7: 0.007 at 50000")) == Result(status, "order 7: 0.007 at 50000")
    assert len(result_of(Result(Status.EXECUTED, "x" * 10**6)).text) == 500
    assert failed(ValueError("qty")) == Result(Status.IN_DOUBT, "ValueError: qty")
    assert asyncio.run(called(lambda _: Result(Status.EXECUTED), None)) == Result(Status.EXECUTED)  # type: ignore[arg-type,return-value]
