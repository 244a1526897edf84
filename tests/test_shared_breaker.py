"""The breaker of a bot's own jobs, shared over a store: exactly so many probes among all callers, and a failing store closes nothing.

Method: several breakers on one memory store, in simulated time, so that requests interleave by their delays and not by luck. The store is
made to fail in each way at each request. Nothing here looks inside; what a bot can see is all there is.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from haltcore.adapters.answers import BreakerStatus
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.shared_breaker import BreakerOpen, Permit, SharedBreaker
from haltcore.effects import BreakerMode, ValueRefused
from haltcore.fsm.config import BreakerPolicy

from tests.runner_rig import later, simulated

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED = BreakerMode
POLICY = BreakerPolicy(failures=3, window_ms=60_000, open_ms=5_000, probes=3)
MS = 1_000_000


class World:
    """One state in one loop's time, and breakers on stores of their own over it. ``ahead_ms``: by how much a clock is off."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.state = MemoryState(self.now_ns)
        self.stores: list[MemoryStore] = []

    def now_ns(self) -> int:
        return 10**18 + round(self.loop.time() * 10**9)

    def breaker(self, shared: bool = True, ahead_ms: int = 0, changed: Callable[[BreakerStatus], object] | None = None) -> SharedBreaker:
        store = MemoryStore(self.state, slow) if shared else None
        if store is not None:
            self.stores.append(store)
        return SharedBreaker("order_execution", store, POLICY, lambda: self.now_ns() + ahead_ms * MS, changed)

    def down(self, kind: FaultKind | None, operation: str = "") -> None:
        """From now on the store answers so, to this operation or to all."""
        for store in self.stores:
            store.fault = slow if kind is None else lambda asked: StoreFault(kind if operation in ("", asked) else FaultKind.SLOW, 1, 1)

    @property
    def shared(self) -> str:
        return self.state.get_state("breaker:order_execution")[1]


def slow(_: Any) -> StoreFault:
    """Every request takes its time, so that others come between."""
    return StoreFault(FaultKind.SLOW, 2, 3)


async def fail(breaker: SharedBreaker, times: int = 1) -> None:
    for _ in range(times):
        await breaker.failure(await breaker.permit(), "timeout")


async def refused(breaker: SharedBreaker) -> BreakerOpen:
    with pytest.raises(BreakerOpen) as error:
        await breaker.permit()
    return error.value


async def crowd(*breakers: SharedBreaker, each: int) -> list[tuple[SharedBreaker, Permit]]:
    """So many callers of each at once; who got a permit."""
    asked = [(breaker, breaker.permit()) for _ in range(each) for breaker in breakers]
    answers = await asyncio.gather(*(permit for _, permit in asked), return_exceptions=True)
    assert all(isinstance(answer, (Permit, BreakerOpen)) for answer in answers)
    return [(breaker, answer) for (breaker, _), answer in zip(asked, answers, strict=True) if isinstance(answer, Permit)]


# --- one process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@simulated
async def test_the_life_of_a_breaker(shared: bool) -> None:
    breaker = World().breaker(shared)
    await breaker.success(await breaker.permit())
    await fail(breaker, 3)
    assert breaker.status().mode is OPEN
    error = await refused(breaker)
    assert (error.code, 4_900 < error.retry_after_ms <= 5_000) == ("breaker_open", True)
    assert "3 failures within 60000 ms, the last: timeout" in error.reason
    await later(5)
    probe = await breaker.permit()
    assert breaker.status().mode is HALF_OPEN
    await breaker.success(probe)
    assert (breaker.status().mode, breaker.status().untold) == (CLOSED, False)


@simulated
async def test_a_report_counts_once_and_a_job_not_begun_is_no_report() -> None:
    breaker = World().breaker()
    permit = await breaker.permit()
    for _ in range(5):
        await breaker.failure(permit)
    await breaker.drop(await breaker.permit())
    assert breaker.status().failures == 1


@simulated
async def test_nothing_is_held_while_the_job_runs() -> None:
    """Fifty jobs of a second each take a second; the pattern's usual implementation runs them one by one."""
    breaker, begun = World().breaker(), asyncio.get_running_loop().time()

    async def job() -> None:
        permit = await breaker.permit()
        await later(1)
        await breaker.success(permit)

    await asyncio.gather(*(job() for _ in range(50)))
    assert asyncio.get_running_loop().time() - begun < 1.1


@pytest.mark.parametrize("shared", [False, True])
@simulated
async def test_of_fifty_callers_exactly_the_probes_go(shared: bool) -> None:
    breaker = World().breaker(shared)
    await fail(breaker, 3)
    await later(5)
    assert len(await crowd(breaker, each=50)) == 3
    assert (await refused(breaker)).code == "breaker_probing"


@simulated
async def test_a_change_is_told_and_who_raises_at_that_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    world, seen = World(), list[BreakerMode]()

    def changed(status: BreakerStatus) -> None:
        seen.append(status.mode)
        raise RuntimeError("the bot's own fault")

    a, b = world.breaker(changed=changed), world.breaker(changed=changed)
    await b.refresh()
    with caplog.at_level(logging.CRITICAL):
        await fail(a, 3)
        await b.refresh()
        await later(5)
        await b.success(await b.permit())
        await a.refresh()
    assert seen == [OPEN, OPEN, HALF_OPEN, CLOSED, CLOSED] or seen == [OPEN, OPEN, HALF_OPEN, CLOSED, HALF_OPEN, CLOSED]


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 3])
@simulated
async def test_all_callers_of_all_processes_together_get_exactly_the_probes(processes: int) -> None:
    world = World()
    breakers = [world.breaker(ahead_ms=300 * n) for n in range(processes)]
    await fail(breakers[0], 3)
    await later(6)
    granted = await crowd(*breakers, each=25)
    assert len(granted) == 3
    breaker, permit = granted[-1]
    await breaker.success(permit)
    for each in breakers:
        await each.refresh()
        assert each.status().mode is CLOSED


@simulated
async def test_failures_of_all_count_together_and_an_opening_denies_in_all_at_once_for_those_who_look() -> None:
    world = World()
    a, b = world.breaker(), world.breaker()
    await fail(a, 2)
    await later(1)
    await fail(b, 1)
    assert b.status().mode is OPEN
    assert (await a.refresh()).mode is OPEN
    await later(1.1)  # and for those who do not, a second later
    assert (await refused(world.breaker())).code == "breaker_open"


@simulated
async def test_a_word_holds_everywhere_and_says_who() -> None:
    world = World()
    a, b = world.breaker(), world.breaker()
    await a.force(FORCED_OPEN, 60_000, "ann", "the venue is ill")
    await b.refresh()
    assert "forced open by ann for another" in (await refused(b)).reason
    assert (b.status().by, b.status().why, b.status().until_ns > 0) == ("ann", "the venue is ill", True)
    await b.force("closed", 0, "bob", "it is well")
    await a.refresh()
    assert a.status().mode is CLOSED
    for mode, for_ms, by in (("open", 0, "a"), ("ajar", 0, "a"), (FORCED_OPEN, -1, "a"), (FORCED_OPEN, 0, " "), (CLOSED, 5, "a")):
        with pytest.raises(ValueRefused):
            await a.force(mode, for_ms, by, "why")


@simulated
async def test_concurrent_openings_and_words_end_in_one_state() -> None:
    world = World()
    breakers = [world.breaker() for _ in range(4)]
    word = breakers[2].force(FORCED_OPEN, 0, "ann", "why")
    for answer in await asyncio.gather(*(fail(breakers[n], 3) for n in (0, 1, 3)), word, return_exceptions=True):
        assert answer is None or isinstance(answer, BreakerOpen)
    for breaker in breakers:
        await breaker.refresh()
    assert {breaker.status().mode for breaker in breakers} == {FORCED_OPEN}
    assert not any(breaker.status().untold for breaker in breakers)


# --- a store that fails ----------------------------------------------------------------------------------------------

FAILING = [FaultKind.UNAVAILABLE, FaultKind.IN_DOUBT_APPLIED, FaultKind.IN_DOUBT_NOT_APPLIED]


@pytest.mark.parametrize("kind", FAILING)
@simulated
async def test_what_is_closed_goes_on_alone_opens_alone_and_tells_it_later(kind: FaultKind) -> None:
    world = World()
    a, b = world.breaker(), world.breaker()
    await a.refresh()
    await b.refresh()
    world.down(kind)
    await later(2)
    await fail(a, 3)
    assert (a.status().mode, a.status().untold) == (OPEN, True)
    await later(600)
    assert (await refused(a)).code == "breaker_unshared"  # nobody can agree on a probe
    assert a.status().mode is HALF_OPEN
    world.down(None)
    await later(2)
    await a.refresh()
    assert (await b.refresh()).mode is HALF_OPEN
    assert not a.status().untold
    await b.success(await b.permit())
    assert (await a.refresh()).mode is CLOSED


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("operation", ["get_state", "put_state", ""])
@simulated
async def test_no_failure_of_the_store_closes_what_is_open(kind: FaultKind, operation: str) -> None:
    world = World()
    a = world.breaker()
    await a.force(FORCED_OPEN, 0, "ann", "why")
    world.down(kind, operation)
    for _ in range(20):
        await later(1)
        assert (await refused(a)).code == "breaker_open"
    world.state.flush()
    world.down(None)
    await later(2)
    for _ in range(3):
        await a.refresh()
        assert a.status().mode is FORCED_OPEN
    assert "forced_open" in world.shared


@pytest.mark.parametrize("kind", FAILING)
@simulated
async def test_a_permit_that_the_store_did_not_confirm_is_none_and_is_free_again(kind: FaultKind) -> None:
    world = World()
    a, b = world.breaker(), world.breaker()
    await fail(a, 3)
    await later(5)
    world.down(kind, "put_state")
    assert await crowd(a, b, each=5) == []
    world.down(None)
    await later(2)
    assert len(await crowd(a, b, each=20)) == 3


@simulated
async def test_a_clock_that_is_set_back_makes_nobody_rely_on_what_was_read_long_ago() -> None:
    world, back = World(), [0]
    a = SharedBreaker("order_execution", MemoryStore(world.state), POLICY, lambda: world.now_ns() - back[0])
    await a.refresh()
    await world.breaker().force(FORCED_OPEN, 0, "ann", "why")
    back[0] = 3_600 * 10**9
    assert (await refused(a)).code == "breaker_open"


@simulated
async def test_a_store_that_hangs_is_not_asked_by_every_caller() -> None:
    world = World()
    a = world.breaker()
    await a.refresh()
    asked = []

    def down(operation: Any) -> StoreFault:
        asked.append(operation)
        return StoreFault(FaultKind.UNAVAILABLE, 250)

    world.stores[0].fault = down
    await later(2)
    await asyncio.gather(*(a.permit() for _ in range(100)))
    assert len(asked) == 1


@simulated
async def test_a_caller_who_is_cancelled_keeps_no_probe() -> None:
    world = World()
    a = world.breaker()
    await fail(a, 3)
    await later(5)
    for _ in range(5):
        task = asyncio.ensure_future(a.permit())
        await later(0.007)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await later(0.1)
    assert len(await crowd(a, each=10)) == 3


@simulated
async def test_what_cannot_be_read_is_said_and_a_word_replaces_it(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.state.put_state("breaker:order_execution", 0, "half a sta")
    a = world.breaker()
    for _ in range(3):
        await a.refresh()
    assert sum("no breaker's state" in record.message for record in caplog.records) == 1
    await a.success(await a.permit())
    await a.force(FORCED_OPEN, 0, "ann", "why")
    assert "forced_open" in world.shared


# --- what a bot does with it ------------------------------------------------------------------------------------------


@simulated
async def test_what_a_bot_does_with_it_can_be_done() -> None:
    """can_retry, record_failure, record_success, set_manual_override, get_status, with its figures: 10 failures in 5 minutes."""
    world = World()
    breaker = SharedBreaker("order_execution", MemoryStore(world.state), BreakerPolicy(), world.now_ns)
    for _ in range(10):
        permit = await breaker.permit()
        await breaker.failure(permit, "BinanceAPIException: -1003")
    error = await refused(breaker)
    assert error.retry_after_ms > 0
    await breaker.force("closed", 0, "admin", "verified that the system has recovered")
    await breaker.success(await breaker.permit())
    assert (breaker.status().mode, breaker.status().failures) == (CLOSED, 0)


@simulated
async def test_why_it_failed_is_seen_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    def changed(_status: BreakerStatus) -> None:
        raise RuntimeError("POST https://x.test/?signature=c0ffee5ec2e7")

    world = World()
    breaker = world.breaker(changed=changed)
    for _ in range(3):
        await breaker.failure(await breaker.permit(), "OSError('GET https://x.test/?timestamp=1&signature=c0ffee5ec2e7')")
    assert breaker.status().mode is OPEN
    assert "on_change of the breaker of order_execution raised RuntimeError" in caplog.text
    for place in (caplog.text, world.shared, str(breaker.status())):
        assert "c0ffee5ec2e7" not in place
    assert "signature=***" in world.shared


@pytest.mark.parametrize("value", [1e3, 0, -1, True, "5", None])
def test_how_often_it_reads_is_whole_milliseconds(value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^refresh_ms: .* is no whole number of milliseconds"):
        SharedBreaker("job", None, POLICY, lambda: 0, refresh_ms=value)  # type: ignore[arg-type]


@simulated
async def test_the_probes_of_a_process_and_of_its_fork_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    breaker = world.breaker()
    await fail(breaker, 3)
    await world.breaker().refresh()
    await later(6)
    tokens = []
    for pid in (1, 2):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        breaker._asked = 7
        tokens.append((await breaker.permit()).token)
    assert len(set(tokens)) == 2
    assert breaker.status().probes == 2
