"""A guarded deed happens once: whatever dies, stalls, repeats or is cut off, there are no duplicates and none is lost.

Method: simulated time; a venue on which everything sent twice is there twice; a process dies at each point of a deed, and another one
comes by twice; clocks jump between SENT and the deed. What happens when the store fails or the call is cut off is the business of
``test_side_effects_cut.py``.
"""

import asyncio
import doctest
from collections.abc import Callable

import pytest
from haltcore.adapters import side_effects as module
from haltcore.adapters.coordination import Claim
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.side_effects import (
    Absent,
    Done,
    Found,
    NotExecuted,
    NothingHappened,
    Once,
    SideEffect,
    SideEffectGuard,
    Unknown,
    order_entity_id,
)
from haltcore.adapters.virtual_time import run
from haltcore.effects import GuardState, Trigger
from haltcore.fsm.guard import RESULT_BYTES, guard_key, params_hash

from tests.figures import Figures
from tests.runner_rig import simulated
from tests.side_effect_world import (
    DEED_MS,
    ENTITY,
    EXPIRED_S,
    NS,
    POINTS,
    VALID_MS,
    Clock,
    Mortal,
    StruckStore,
    Venue,
    World,
    crash_counts,
    guard_of,
    row_of,
    spare,
)

ORDER, LEDGER = SideEffect.ORDER_PLACEMENT, SideEffect.LEDGER_WRITE
KEY = guard_key(ORDER, ENTITY)


def test_the_example_of_the_module_runs() -> None:
    found = doctest.testmod(module)
    assert found.attempted >= 8
    assert found.failed == 0


@pytest.mark.parametrize("kind", [*SideEffect, "a kind of the bot's own"])
@simulated
async def test_a_deed_is_done_once_and_its_result_is_heard_after(kind: str) -> None:
    world = World()
    assert await world.once(kind) == Once(True, "order 1")
    executed, result = await world.once(kind)
    assert (executed, result) == (False, "order 1")
    assert await world.other().once(kind, ENTITY, world.venue.place) == Once(False, "order 1")
    assert world.venue.orders == ["c1"]


def test_kinds_and_entities_are_told_apart() -> None:
    ids = {order_entity_id("BTCUSDT", side, qty, price) for side in ("BUY", "SELL") for qty in ("1", "1.0") for price in ("1", "10", None)}
    assert len(ids) == 12
    assert order_entity_id("BTCUSDT", "buy", "1", "10") == order_entity_id("BTCUSDT", "BUY", "1", "10")
    assert order_entity_id("A", "BUY", "11", "1") != order_entity_id("A", "BUY", "1", "11")
    assert order_entity_id("A", "BUY", "1") != order_entity_id("A", "BUY", "1", "market")


@simulated
async def test_other_parameters_are_refused_in_clear_words() -> None:
    world = World()
    await world.once(params=("BUY", "1"))
    error = await world.refused(params=("BUY", "2"))
    assert error.code == "guard_mismatch"
    assert error.executed is False
    for words in ("order_placement", ENTITY, "other parameters", "bot:"):
        assert words in error.reason
    assert world.venue.orders == ["c1"]


@simulated
async def test_a_frozen_scope_forbids_it() -> None:
    world = World()
    world.state.publish("ops", "BTCUSDT", Trigger.MANUAL, "ill", "ops")
    error = await world.refused(scopes=("", "BTCUSDT"))
    assert (error.code, error.executed) == ("guard_frozen", False)
    assert "BTCUSDT is frozen" in error.reason
    assert await world.once(scopes=("", "ETHUSDT")) == Once(True, "order 1")


@simulated
async def test_a_long_result_is_whole_for_who_did_it_and_cut_for_the_rest() -> None:
    world = World()

    async def deed() -> str:
        return "x" * 100_000

    assert (await world.guard.once(ORDER, ENTITY, deed)).result == "x" * 100_000
    cached = (await world.guard.once(ORDER, ENTITY, deed)).result
    assert len(cached) == RESULT_BYTES
    assert cached.endswith("[cut]")


# --- crashes --------------------------------------------------------------------------------------------------------


def test_a_crash_at_any_point_neither_doubles_nor_loses_the_order(figures: Figures) -> None:
    for kind in (ORDER, LEDGER):
        counts = run(crash_counts(kind), limit_s=3_600)
        assert counts == dict.fromkeys(POINTS, 1)
        lost, double = sum(n == 0 for n in counts.values()), sum(max(0, n - 1) for n in counts.values())
        figures(f"crash at each point of a guarded {kind}", points=len(counts), duplicates=double, lost=lost)


@pytest.mark.parametrize("point", ["after sent", "reply lost", "before done"])
@simulated
async def test_without_a_query_what_may_have_happened_is_never_repeated(point: str) -> None:
    world = World()
    await Mortal(world.state, world.venue, point).live()
    before = list(world.venue.orders)
    for _ in range(4):
        error = await world.refused()
        assert (error.code, error.executed) == ("guard_held", None)
        await asyncio.sleep(100)
    assert world.venue.orders == before


@simulated
async def test_absent_counts_only_when_the_deed_can_no_longer_arrive() -> None:
    """The request of a dead process is on its way, and arrives just before it expires."""
    world = World()
    await Mortal(world.state, world.venue, "after sent").live(seconds=0.001)
    await world.refused(query=world.venue.query())
    await asyncio.sleep(EXPIRED_S - 0.1)
    error = await world.refused(query=world.venue.query())
    assert (error.code, error.executed) == ("guard_held", None)
    assert 0 < error.retry_after_ms <= 100
    await world.venue.place()
    await asyncio.sleep(0.2)
    assert await world.once(query=world.venue.query()) == Once(False, "order 1")
    assert world.venue.orders == ["c1"]
    assert await world.row() is GuardState.DONE


@simulated
async def test_what_cannot_be_found_out_stays_in_doubt() -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()

    async def unknown() -> Found:
        return Unknown()

    async def broken() -> Found:
        raise OSError("the venue does not answer")

    for query in (unknown, broken, unknown):
        error = await world.refused(query=query)
        assert error.executed is None
        await asyncio.sleep(EXPIRED_S)
    assert world.venue.orders == []


@simulated
async def test_a_row_of_the_core_is_not_taken_over_without_a_query() -> None:
    """The core's journal is its SENT: its row is INTENT while its order is on the way."""
    world = World()
    world.state.claim(Claim(KEY, "core:7", params_hash()), 10**9)
    await world.refused()
    await asyncio.sleep(VALID_MS / 1_000)
    assert (await world.refused(query=world.venue.query())).code == "guard_held"
    await asyncio.sleep(EXPIRED_S)
    assert (await world.refused()).code == "guard_held"
    assert world.venue.orders == []
    assert (await world.once(query=world.venue.query())).executed


@simulated
async def test_an_intent_that_stands_still_is_taken_over_and_its_owner_cannot_go_on() -> None:
    world = World()
    wait = asyncio.Event()

    async def stall(operation: str, applied: bool) -> None:
        if operation == "settle sent" and not applied:
            await wait.wait()

    first = asyncio.ensure_future(guard_of(StruckStore(world.state, stall), "slow", valid_ms=10**6).once(LEDGER, ENTITY, world.venue.place))
    await asyncio.sleep(0.1)
    error = await world.refused(LEDGER)
    assert (error.code, error.retry_after_ms) == ("guard_held", VALID_MS)
    await asyncio.sleep(VALID_MS / 1_000)
    assert await world.once(LEDGER) == Once(True, "order 1")
    wait.set()
    with pytest.raises(NotExecuted) as caught:
        await first
    assert (caught.value.code, caught.value.executed) == ("guard_lost", None)
    assert world.venue.orders == ["c1"]


# --- races ----------------------------------------------------------------------------------------------------------


@simulated
async def test_of_twenty_workers_at_once_one_executes() -> None:
    world = World()

    async def slow_deed() -> str:
        await asyncio.sleep(0.05)
        return await world.venue.place()

    async def worker(number: int) -> str:
        guard = world.other(f"worker {number}") if number % 2 else world.guard
        try:
            executed, _ = await guard.once(ORDER, ENTITY, slow_deed)
        except NotExecuted as error:
            return error.code
        return "executed" if executed else "heard"

    told = await asyncio.gather(*[worker(number) for number in range(20)])
    assert sorted(told) == ["executed", *["guard_held"] * 19]
    assert [(await worker(number)) for number in range(20)] == ["heard"] * 20
    assert world.venue.orders == ["c1"]


@simulated
async def test_of_many_heirs_of_a_dead_one_one_executes() -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()
    heirs = [world.other(f"heir {number}") for number in range(8)]

    async def heir(guard: SideEffectGuard) -> bool | None:
        try:
            return (await guard.once(ORDER, ENTITY, world.venue.place, query=world.venue.query())).executed
        except NotExecuted:
            return None

    assert await asyncio.gather(*map(heir, heirs)) == [None] * 8
    await asyncio.sleep(EXPIRED_S)
    assert sorted(map(str, await asyncio.gather(*map(heir, heirs)))).count("True") == 1
    assert world.venue.orders == ["c1"]


# --- clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["claim", "settle sent"])
@pytest.mark.parametrize("jump_ms", [VALID_MS, VALID_MS - 1])
@simulated
async def test_a_process_that_was_stopped_before_the_deed_does_not_do_it(operation: str, jump_ms: int) -> None:
    world = World()

    async def jump(asked: str, applied: bool) -> None:
        if asked == operation and applied:
            world.clock.ahead_ns += jump_ms * 1_000_000

    world.store.strike = jump
    if jump_ms < VALID_MS:
        assert (await world.once()).executed
        return
    error = await world.refused()
    assert (error.code, error.executed) == ("too_late", False)
    assert world.venue.orders == []
    assert await world.row() is GuardState.REJECTED
    world.store.strike = spare
    assert (await world.once()).executed


@simulated
async def test_a_stopped_process_does_nothing_after_another_took_over() -> None:
    """SENT, then a pause longer than everything; meanwhile another has asked, and done it."""
    world = World()
    other = world.other()

    async def pause(asked: str, applied: bool) -> None:
        if asked == "settle sent" and applied:
            world.store.strike = spare
            with pytest.raises(NotExecuted):
                await other.once(ORDER, ENTITY, world.venue.place, query=world.venue.query())
            await asyncio.sleep(EXPIRED_S)
            assert (await other.once(ORDER, ENTITY, world.venue.place, query=world.venue.query())).executed

    world.store.strike = pause
    assert (await world.refused()).code == "too_late"
    assert world.venue.orders == ["c1"]
    assert await world.row() is GuardState.DONE


@simulated
async def test_a_deed_does_not_outlast_its_time() -> None:
    world = World()

    async def endless() -> str:
        await asyncio.sleep(10**6)
        return await world.venue.place()

    before = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await world.guard.once(ORDER, ENTITY, endless)
    assert asyncio.get_running_loop().time() - before == DEED_MS / 1_000
    assert await world.row() is GuardState.IN_DOUBT
    assert world.venue.orders == []


# --- deeds that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "certain", "state"),
    [
        (NothingHappened("no connection"), None, GuardState.REJECTED),
        (ValueError("?"), None, GuardState.IN_DOUBT),
        (ConnectionRefusedError(), lambda error: isinstance(error, ConnectionRefusedError), GuardState.REJECTED),
        (ConnectionResetError(), lambda error: isinstance(error, ConnectionRefusedError), GuardState.IN_DOUBT),
        (ValueError("?"), lambda _: 1 // 0 > 0, GuardState.IN_DOUBT),
        (KeyboardInterrupt(), lambda _: True, GuardState.IN_DOUBT),
    ],
)
@simulated
async def test_a_failed_deed_is_in_doubt_unless_it_proves_otherwise(
    error: BaseException, certain: Callable[[BaseException], bool] | None, state: GuardState
) -> None:
    world = World()

    async def deed() -> str:
        raise error

    with pytest.raises(type(error)) if not isinstance(error, KeyboardInterrupt) else pytest.raises(asyncio.CancelledError):
        await world.guard.once(ORDER, ENTITY, deed if not isinstance(error, KeyboardInterrupt) else cancelled, certain=certain)
    assert await world.row() is state
    if state is GuardState.REJECTED:
        assert (await world.once()).executed
    else:
        assert (await world.refused()).code == "guard_in_doubt"
        await world.refused(query=world.venue.query())
        await asyncio.sleep(EXPIRED_S)
        assert (await world.once(query=world.venue.query())).executed


async def cancelled() -> str:
    raise asyncio.CancelledError


# --- owners -----------------------------------------------------------------------------------------------------------


@simulated
async def test_owners_are_never_used_again_by_a_process_of_the_same_name() -> None:
    state, venue = MemoryState(Clock()), Venue()
    owners: list[str] = []
    for _ in range(3):
        guard = guard_of(StruckStore(state), "bot")
        for number in range(2):
            await guard.once(LEDGER, f"{len(owners)} {number}", venue.place)
            owners.append((await row_of(state, guard_key(LEDGER, f"{len(owners)} {number}"))).owner)
    assert len(set(owners)) == 6
    assert all(owner.startswith("bot:") for owner in owners)


@simulated
async def test_a_foreign_clock_does_not_shorten_the_wait() -> None:
    """The store's clock stepped ahead by an hour after the row was written: only what this process has seen itself counts."""
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()
    late = guard_of(StruckStore(world.state), "late", Clock(3_600 * NS))
    with pytest.raises(NotExecuted) as caught:
        await late.once(ORDER, ENTITY, world.venue.place, query=world.venue.query())
    assert caught.value.retry_after_ms == VALID_MS + DEED_MS
    assert world.venue.orders == []


def test_done_and_absent_are_values() -> None:
    assert Done("x") == Done("x") != Done("y")
    assert Absent() == Absent()
