"""A guarded deed whose store fails, or whose caller is cut off: still no duplicates, and none is lost.

Method: every operation of the store fails before and after it was applied, surely and in doubt. The call is cancelled at every moment
at which it waits, when it takes over from a dead process too.
"""

import asyncio

import pytest
from haltcore.adapters.coordination import StoreFailed
from haltcore.adapters.side_effects import Found, NotExecuted, Once, SideEffect
from haltcore.adapters.virtual_time import run
from haltcore.effects import GuardState, Trigger
from haltcore.fsm.events import StoreHealth

from tests.figures import Figures
from tests.runner_rig import simulated
from tests.side_effect_world import ENTITY, EXPIRED_S, VALID_MS, Mortal, World, failing, spare

ORDER, LEDGER = SideEffect.ORDER_PLACEMENT, SideEffect.LEDGER_WRITE

# --- a store that fails -----------------------------------------------------------------------------------------------

UNAVAILABLE, IN_DOUBT = StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT
#: Operation, how it fails, whether it was applied, and what the caller hears.
FAULTS = [
    ("claim", UNAVAILABLE, False, "store_unavailable"),
    ("claim", IN_DOUBT, False, "store_in_doubt"),
    ("claim", IN_DOUBT, True, "store_in_doubt"),
    ("settle sent", UNAVAILABLE, False, "store_unavailable"),
    ("settle sent", IN_DOUBT, False, "store_in_doubt"),
    ("settle sent", IN_DOUBT, True, "store_in_doubt"),
    ("settle done", UNAVAILABLE, False, ""),
    ("settle done", IN_DOUBT, False, ""),
    ("settle done", IN_DOUBT, True, ""),
]


@pytest.mark.parametrize("kind", [ORDER, LEDGER])
@pytest.mark.parametrize(("operation", "health", "applied", "code"), FAULTS)
@simulated
async def test_a_store_that_fails_once_at_any_step(kind: str, operation: str, health: StoreHealth, applied: bool, code: str) -> None:
    world = World()
    world.store.strike = failing(operation, health, applied)
    if code:
        error = await world.refused(kind)
        assert (error.code, error.executed) == (code, False)
        assert isinstance(error.__cause__, StoreFailed)
        assert world.venue.orders == []
        await world.guard.close()
        assert (await world.once(kind)).executed
    else:
        assert await world.once(kind) == Once(True, "order 1")
        await world.guard.settle_untold()
    assert await world.other().once(kind, ENTITY, world.venue.place) == Once(False, "order 1")
    assert world.venue.orders == ["c1"]


@pytest.mark.parametrize("applied", [False, True])
@simulated
async def test_a_take_over_that_fails_is_no_leave(applied: bool) -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()
    await world.refused(query=world.venue.query())
    await asyncio.sleep(EXPIRED_S)
    world.store.strike = failing("retake", IN_DOUBT, applied)
    assert (await world.refused(query=world.venue.query())).code == "store_in_doubt"
    assert world.venue.orders == []
    await world.guard.close()
    await asyncio.sleep(EXPIRED_S)
    assert (await world.once(query=world.venue.query())).executed
    assert world.venue.orders == ["c1"]


@simulated
async def test_what_the_store_was_not_told_is_told_when_it_answers() -> None:
    world = World()
    world.store.strike = failing("settle done", UNAVAILABLE, False, times=3)
    assert (await world.once()).executed
    assert await world.row() is GuardState.SENT
    assert await world.guard.settle_untold() == 1
    # Every later call tells it as well, and hears the truth once it is told.
    assert (await world.refused()).code == "guard_held"
    await world.guard.close()
    assert await world.guard.settle_untold() == 0
    assert await world.row() is GuardState.DONE
    assert await world.once() == Once(False, "order 1")


@simulated
async def test_untold_outcomes_do_not_grow_without_bound() -> None:
    world = World()
    world.store.strike = failing("settle done", UNAVAILABLE, False, times=10**9)
    for number in range(1_100):
        await world.guard.once(LEDGER, str(number), world.venue.place)
    world.store.strike = spare
    assert len(world.guard._untold) == 1_000
    assert await world.guard.settle_untold() == 0
    assert world.guard._telling == {}


@simulated
async def test_a_dead_store_refuses_at_once_and_remembers_nothing_of_it() -> None:
    world = World()
    world.store.strike = failing("claim", UNAVAILABLE, False, times=10**9)
    for _ in range(5):
        assert (await world.refused()).code == "store_unavailable"
    assert world.guard._untold == {}


# --- a store that forgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ORDER, LEDGER])
@pytest.mark.parametrize("done", [True, False])
@simulated
async def test_after_a_failover_that_lost_sent_whoever_can_ask_asks(kind: str, done: bool) -> None:
    """The replica knew the claim and no more. What it says is INTENT, whether or not the deed was done."""
    world, replica = World(), {}

    async def replicated(operation: str, applied: bool) -> None:
        if operation == "settle sent" and not applied:
            replica.update(world.state.remembered())

    world.store.strike = replicated
    await world.once(kind, query=world.venue.query())
    world.store.strike = spare
    world.state.fail_over(replica)
    if not done:
        world.venue.orders.clear()
    asked, heir = [], world.other()

    async def query() -> Found:
        asked.append(1)
        return await world.venue.query()()

    if not done or kind == LEDGER:
        for _ in range(2):
            with pytest.raises(NotExecuted, match="guard_held"):
                await heir.once(kind, ENTITY, world.venue.place, query=query)
            await asyncio.sleep(VALID_MS / 1_000)
    await asyncio.sleep(EXPIRED_S)
    assert await heir.once(kind, ENTITY, world.venue.place, query=query) == Once(not done, "order 1")
    assert world.venue.orders == ["c1"]
    assert asked


# --- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ORDER, LEDGER])
@pytest.mark.parametrize("recovering", [False, True])
def test_cancelled_at_every_moment_it_neither_doubles_nor_loses(kind: str, recovering: bool, figures: Figures) -> None:
    """Each request and the deed take 2 ms, so a cut every half a millisecond meets each wait."""
    moments = [run(orders_when_cut(kind, cut / 2_000, recovering), limit_s=3_600) for cut in range(40)]
    assert moments == [1] * 40
    what = f"cancelled at 40 moments of a guarded {kind}{', taking over' if recovering else ''}"
    figures(what, duplicates=sum(max(0, orders - 1) for orders in moments), lost=moments.count(0))


async def orders_when_cut(kind: str, after_s: float, recovering: bool) -> int:
    world = World()
    if recovering:
        await Mortal(world.state, world.venue, "after sent").live(kind)
        await world.refused(kind, query=world.venue.query())
        await asyncio.sleep(EXPIRED_S)

    async def slow(_asked: str, _applied: bool) -> None:
        await asyncio.sleep(0.001)

    async def slow_deed() -> str:
        await asyncio.sleep(0.001)
        result = await world.venue.place()
        await asyncio.sleep(0.001)
        return result

    world.store.strike = slow
    task = asyncio.ensure_future(world.guard.once(kind, ENTITY, slow_deed, query=world.venue.query()))
    await asyncio.sleep(after_s)
    task.cancel()
    await asyncio.wait([task])
    await world.guard.close()
    world.store.strike = spare
    for _ in range(3):
        try:
            await world.once(kind, query=world.venue.query())
        except NotExecuted as held:
            await asyncio.sleep(held.retry_after_ms / 1_000 + 0.001)
    assert await world.once(kind) == Once(False, "order 1")
    return len(world.venue.orders)


@pytest.mark.parametrize(
    ("operation", "state"),
    [("claim", GuardState.REJECTED), ("settle sent", GuardState.REJECTED), ("settle done", GuardState.DONE)],
)
@simulated
async def test_what_is_certain_is_told_although_it_was_cancelled(operation: str, state: GuardState) -> None:
    """Cut off while the answer is on its way: what the store is told then goes on, and nobody has to wait or ask."""
    world = World()

    async def slow_answer(asked: str, applied: bool) -> None:
        if asked == operation and applied is (operation != "settle done"):
            await asyncio.sleep(1)

    world.store.strike = slow_answer
    task = asyncio.ensure_future(world.once())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await world.row() is state
    assert world.guard._untold == {}


@simulated
async def test_a_frozen_scope_forbids_taking_over() -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()
    await world.refused(query=world.venue.query())
    await asyncio.sleep(EXPIRED_S)
    world.state.publish("ops", "BTCUSDT", Trigger.MANUAL, "ill", "ops")
    error = await world.refused(query=world.venue.query(), scopes=("BTCUSDT",))
    assert (error.code, error.executed) == ("guard_lost", None)
    assert "frozen" in error.reason
    assert world.venue.orders == []


@simulated
async def test_a_cancellation_is_passed_on_and_the_outcome_is_told_all_the_same() -> None:
    world = World()

    async def deed() -> str:
        await asyncio.sleep(5)
        return ""

    task = asyncio.ensure_future(world.guard.once(ORDER, ENTITY, deed))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await world.row() is GuardState.IN_DOUBT
