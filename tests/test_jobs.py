"""A job is repeated only where that is safe, waits as long as it should, and tells its breaker and its metrics what they have to know.

Method: simulated time; work that follows a script of answers, one a try; the real breaker, guard and metrics. The classes of failure are
gone through one by one. Chaos is played: twenty workers, a storm that opens the breaker, a store that dies midway.
"""

import asyncio
import doctest
from collections.abc import Awaitable, Callable

import pytest
from haltcore.adapters import jobs as module
from haltcore.adapters.jobs import Again, Exhausted, JobBlocked, Jobs, RetryPolicy, Sleep, Tried, retry
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.retry_metrics import REASONS, RetryMetrics
from haltcore.adapters.shared_breaker import SharedBreaker
from haltcore.adapters.side_effects import Found, NotExecuted, NothingHappened, Once, SideEffect
from haltcore.effects import BreakerMode, GuardState
from haltcore.fsm.config import BreakerPolicy
from haltcore.fsm.events import OutcomeKind, StoreHealth, Verb
from haltcore.fsm.failure_classes import FailureClass as F
from haltcore.fsm.failures import TABLE, Failure, kind_of
from haltcore.fsm.guard import guard_key

from tests.runner_rig import simulated
from tests.side_effect_world import DEED_MS, ENTITY, VALID_MS, Clock, Mortal, StruckStore, Venue, failing, guard_of, row_of

JOB = "order_job"
ONCE = (SideEffect.ORDER_PLACEMENT, ENTITY)


class Known(Exception):
    """A failure of a class that the test names."""

    def __init__(self, failure_class: F, retry_after_ms: int = 0) -> None:
        super().__init__(failure_class.value)
        self.failure_class, self.retry_after_ms = failure_class, retry_after_ms


def judged(error: BaseException, verb: Verb | None) -> Failure:
    found = error.failure_class if isinstance(error, Known) else F.UNKNOWN
    return Failure(found, kind_of(found, verb), getattr(error, "retry_after_ms", 0), "", "")


class World:
    """Jobs over a store, with a breaker that opens at three failures, metrics, and a log of the waits."""

    def __init__(self, policy: RetryPolicy | None = None, seed: int = 7) -> None:
        self.clock, self.state, self.venue = Clock(), MemoryState(Clock()), Venue()
        self.store = StruckStore(self.state)
        self.metrics = RetryMetrics([JOB], now_ns=self.clock)
        self.breaker = SharedBreaker(JOB, self.store, BreakerPolicy(failures=3, open_ms=60_000, probes=1), self.clock)
        self.waits: list[float] = []
        self.tries = 0
        self.jobs = Jobs(
            self.store, policy, now_ns=self.clock, breakers=[self.breaker], metrics=self.metrics, classify=judged, sleep=self._sleep,
            guard=guard_of(self.store, "jobs"), seed=seed,
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(seconds)

    def script(self, *answers: BaseException | str) -> Callable[[], Awaitable[str]]:
        """Work that answers in this order, and at the end always the same."""

        async def work() -> str:
            answer = answers[min(self.tries, len(answers) - 1)]
            self.tries += 1
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return work

    async def failing(self, *answers: BaseException, **named: object) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await self.jobs.run(JOB, self.script(*answers), **named)  # type: ignore[arg-type]
        return caught.value

    def blocked(self) -> dict[str, int]:
        return dict(self.metrics.get_job_type_metrics(JOB)["block_reasons"])


def test_the_examples_of_the_module_run() -> None:
    found = doctest.testmod(module)
    assert found.attempted >= 13
    assert found.failed == 0


# --- retry alone ------------------------------------------------------------------------------------------------------


async def attempts_until(fails: int, policy: RetryPolicy, sleep: Sleep, seed: int = 1, after_ms: int = 0) -> Tried[int]:
    async def work(attempt: int) -> int:
        if attempt <= fails:
            raise ConnectionRefusedError
        return attempt

    return await retry(work, policy, lambda _: Again(True, after_ms), sleep=sleep, seed=seed)


@simulated
async def test_the_waits_are_full_jitter_within_the_seeds_ceilings() -> None:
    seen: list[list[float]] = []

    for seed in range(200):
        waits: list[float] = []

        async def no_wait(seconds: float, waits: list[float] = waits) -> None:
            waits.append(seconds)

        assert (await attempts_until(7, RetryPolicy(attempts=8), no_wait, seed)).attempts == 8
        seen.append(waits)
    ceilings = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    for column, ceiling in zip(zip(*seen, strict=True), ceilings, strict=True):
        assert min(column) < 0.1 * ceiling
        assert 0.9 * ceiling < max(column) <= ceiling


@simulated
async def test_it_gives_up_after_the_attempts_of_the_policy_and_not_before() -> None:
    async def no_wait(seconds: float) -> None:
        del seconds

    assert (await attempts_until(6, RetryPolicy(), no_wait)).attempts == 7
    with pytest.raises(Exhausted) as caught:
        await attempts_until(7, RetryPolicy(), no_wait)
    assert (caught.value.attempts, caught.value.reason) == (7, "attempts_exhausted")
    assert isinstance(caught.value.error, ConnectionRefusedError)


@simulated
async def test_retry_after_is_a_least_wait_and_too_long_a_one_ends_it() -> None:
    waits: list[float] = []

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)

    await attempts_until(1, RetryPolicy(), no_wait, after_ms=30_000)
    assert 30.0 <= waits[0] <= 30.2
    with pytest.raises(Exhausted) as caught:
        await attempts_until(1, RetryPolicy(), no_wait, after_ms=60_001)
    assert (caught.value.attempts, caught.value.reason, len(waits)) == (1, "retry_after_too_long", 1)


@simulated
async def test_on_retry_is_told_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    world, told = World(), []

    def on_retry(error: BaseException, attempt: int, delay: float) -> None:
        told.append((str(error), attempt, delay))
        raise RuntimeError

    executed, result = await world.jobs.run(JOB, world.script(Known(F.BUSY), Known(F.BUSY), "ok"), on_retry=on_retry)
    assert (executed, result) == (True, "ok")
    assert [(error, attempt) for error, attempt, _ in told] == [("busy", 2), ("busy", 3)]
    assert [delay for *_, delay in told] == world.waits
    assert "on_retry raised" in caplog.text


# --- what is repeated -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure_class", F)
@pytest.mark.parametrize("verb", [Verb.PLACE, Verb.CANCEL, None])
@pytest.mark.parametrize("idempotent", [False, True])
@simulated
async def test_each_class_of_failure(failure_class: F, verb: Verb | None, idempotent: bool) -> None:
    """Beyond retries: the breaker of the job opens at the third failure, but never for a cancel."""
    world = World(RetryPolicy(attempts=3))
    error = await world.failing(Known(failure_class), verb=verb, idempotent=idempotent)
    kind, passes = kind_of(failure_class, verb), TABLE[failure_class].passes
    again = passes and (kind is OutcomeKind.UNAVAILABLE or idempotent)
    assert isinstance(error, Known)
    assert world.tries == (3 if again else 1)
    assert world.blocked() == {"attempts_exhausted" if again else f"not_retryable_{failure_class.value}": 1}
    assert set(world.blocked()) <= set(REASONS)
    metrics = world.metrics.get_job_type_metrics(JOB)
    assert (metrics["retry_attempts"], metrics["failures"], metrics["successes"]) == (world.tries - 1, 1, 0)
    # What was refused is an answer; a cancel has no breaker.
    failed = 0 if kind is OutcomeKind.REFUSED or verb is Verb.CANCEL else world.tries
    status = world.breaker.status()
    assert status.mode is (BreakerMode.OPEN if failed == 3 else BreakerMode.CLOSED)
    assert failed == 3 or status.failures == failed


@simulated
async def test_work_in_doubt_is_not_repeated_even_if_it_is_guarded() -> None:
    world = World()
    error = await world.failing(Known(F.UNKNOWN_OUTCOME), once=ONCE)
    assert isinstance(error, Known)
    assert world.tries == 1
    assert (await row_of(world.state, guard_key(*ONCE))).state is GuardState.IN_DOUBT


@simulated
async def test_guarded_work_that_did_nothing_is_repeated_under_a_new_claim() -> None:
    world = World()
    assert await world.jobs.run(JOB, world.script(Known(F.BUSY), NothingHappened(), "ok"), once=ONCE, idempotent=False) == Once(True, "ok")
    assert world.tries == 3
    assert await world.jobs.run(JOB, world.script("again"), once=ONCE) == Once(False, "ok")
    assert world.tries == 3


@simulated
async def test_guarded_work_in_doubt_asks_before_it_does_anything() -> None:
    world = World()

    async def lost_reply() -> str:
        await world.venue.place()
        raise Known(F.UNKNOWN_OUTCOME)

    done = await world.jobs.run(JOB, lost_reply, once=ONCE, query=world.venue.query())
    assert done == Once(False, "order 1")
    assert world.venue.orders == ["c1"]
    assert (await row_of(world.state, guard_key(*ONCE))).state is GuardState.DONE


@simulated
async def test_work_in_doubt_that_is_not_there_is_done_again_in_the_same_run() -> None:
    """With the defaults of policy and guard. The query is asked at once, and not again before its answer can be another."""
    world, tries = World(), 0
    asked: list[float] = []

    async def lost_request() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Known(F.UNKNOWN_OUTCOME)
        return await world.venue.place()

    async def query() -> Found:
        asked.append(asyncio.get_running_loop().time())
        return await world.venue.query()()

    world.jobs = Jobs(world.store, now_ns=world.clock, classify=judged, sleep=world._sleep, seed=3)
    assert await world.jobs.run(JOB, lost_request, once=ONCE, query=query) == Once(True, "order 1")
    assert (tries, world.venue.orders, len(asked)) == (2, ["c1"], 2)
    assert 40 <= asked[1] - asked[0] < 41


@simulated
async def test_a_run_does_not_wait_beyond_its_patience_for_a_guard() -> None:
    world = World(RetryPolicy(patience_ms=VALID_MS + DEED_MS - 1))
    error = await world.failing(Known(F.UNKNOWN_OUTCOME), once=ONCE, query=world.venue.query())
    assert isinstance(error, NotExecuted)
    assert (error.code, error.retry_after_ms) == ("guard_in_doubt", VALID_MS + DEED_MS)
    assert world.blocked() == {"guard_in_doubt": 1}
    assert sum(world.waits) < 1


@simulated
async def test_the_claim_of_a_dead_process_is_taken_over_at_the_last_try() -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()
    began = asyncio.get_running_loop().time()
    assert await world.jobs.run(JOB, world.venue.place, once=ONCE, query=world.venue.query()) == Once(True, "order 1")
    assert len(world.waits) == 6
    assert asyncio.get_running_loop().time() - began >= (VALID_MS + DEED_MS) / 1_000
    assert world.venue.orders == ["c1"]


@simulated
async def test_a_job_of_a_dead_process_is_done_by_the_next_one_that_comes_late_enough() -> None:
    world = World(RetryPolicy(patience_ms=0))
    await Mortal(world.state, world.venue, "after sent").live()
    error = await world.failing(once=ONCE, query=world.venue.query())
    assert isinstance(error, NotExecuted)
    assert (error.code, error.executed) == ("guard_held", None)
    assert world.blocked() == {"guard_held": 1}
    await asyncio.sleep((VALID_MS + DEED_MS) / 1_000)
    assert (await world.jobs.run(JOB, world.venue.place, once=ONCE, query=world.venue.query())).executed
    assert world.venue.orders == ["c1"]


@simulated
async def test_twenty_jobs_at_once_one_executes_and_all_hear_the_result() -> None:
    world = World()
    world.jobs = Jobs(world.store, now_ns=world.clock, metrics=world.metrics, seed=3)

    async def slow() -> str:
        await asyncio.sleep(0.3)
        return await world.venue.place()

    done = await asyncio.gather(*[world.jobs.run(JOB, slow, once=ONCE) for _ in range(20)])
    assert sorted(done) == [*[Once(False, "order 1")] * 19, Once(True, "order 1")]
    assert world.venue.orders == ["c1"]
    assert world.metrics.get_job_type_metrics(JOB)["successes"] == 20


@simulated
async def test_other_parameters_end_a_job_at_once() -> None:
    world = World()
    await world.jobs.run(JOB, world.venue.place, once=ONCE, params=("1",))
    error = await world.failing(once=ONCE, params=("2",))
    assert isinstance(error, NotExecuted)
    assert error.code == "guard_mismatch"
    assert (world.waits, world.blocked()) == ([], {"guard_mismatch": 1})


# --- breaker ----------------------------------------------------------------------------------------------------------


@simulated
async def test_a_storm_opens_the_breaker_and_a_probe_closes_it() -> None:
    world = World()
    error = await world.failing(Known(F.BUSY))
    assert isinstance(error, JobBlocked)
    assert (error.code, error.executed) == ("breaker_open", False)
    assert 0 < error.retry_after_ms <= 60_000
    assert world.tries == 3
    assert world.blocked() == {"circuit_open": 1}
    assert isinstance(await world.failing(Known(F.BUSY)), JobBlocked)
    assert world.tries == 3
    await asyncio.sleep(61)
    assert (await world.jobs.run(JOB, world.script("ok"))).executed
    assert world.breaker.status().mode is BreakerMode.CLOSED


@simulated
async def test_what_the_guard_held_back_says_nothing_to_the_breaker() -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()
    await world.failing(once=ONCE)
    status = world.breaker.status()
    assert (status.mode, status.failures) == (BreakerMode.CLOSED, 0)


@simulated
async def test_a_cached_result_is_no_proof_that_the_other_side_works() -> None:
    world = World()
    await world.jobs.run(JOB, world.venue.place, once=ONCE)
    for _ in range(3):
        await world.failing(Known(F.UNKNOWN_OUTCOME))
    assert world.breaker.status().mode is BreakerMode.OPEN
    await asyncio.sleep(61)
    assert await world.jobs.run(JOB, world.venue.place, once=ONCE) == Once(False, "order 1")
    assert world.breaker.status().mode is BreakerMode.HALF_OPEN


@simulated
async def test_a_probe_that_is_cancelled_gives_its_place_back() -> None:
    world = World()
    await world.failing(Known(F.BUSY))
    await asyncio.sleep(61)

    async def slow() -> str:
        await asyncio.sleep(10)
        return ""

    task = asyncio.ensure_future(world.jobs.run(JOB, slow))
    await asyncio.sleep(1)
    assert world.breaker.status().probes == 1
    task.cancel()
    await asyncio.wait([task])
    assert world.breaker.status().probes == 0
    assert (await world.jobs.run(JOB, world.script("ok"))).executed


@simulated
async def test_a_cancel_goes_through_an_open_breaker() -> None:
    world = World()
    await world.breaker.force(BreakerMode.FORCED_OPEN, 0, "ops", "test")
    assert isinstance(await world.failing(Known(F.BUSY)), JobBlocked)
    for verb in (Verb.CANCEL, Verb.CANCEL_BATCH, Verb.CANCEL_ALL):
        assert (await world.jobs.run(JOB, world.script("cancelled"), verb=verb)).executed


# --- store ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("health", [StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT])
@simulated
async def test_a_dead_store_refuses_guarded_work_and_no_other(health: StoreHealth) -> None:
    world = World()
    world.store.strike = failing("claim", health, False, times=10**9)
    error = await world.failing(once=ONCE)
    assert isinstance(error, NotExecuted)
    assert (error.code, error.executed) == (f"store_{health.value}", False)
    assert len(world.waits) == 6
    assert world.venue.orders == []
    assert await world.jobs.run(JOB, world.venue.place) == Once(True, "order 1")


@simulated
async def test_a_store_that_comes_back_between_tries_is_used() -> None:
    world = World()
    world.store.strike = failing("claim", StoreHealth.UNAVAILABLE, False, times=3)
    assert await world.jobs.run(JOB, world.venue.place, once=ONCE) == Once(True, "order 1")
    assert len(world.waits) == 3
    assert world.venue.orders == ["c1"]


@simulated
async def test_without_a_store_nothing_can_be_guarded_and_the_rest_goes() -> None:
    jobs = Jobs(None, now_ns=Clock())
    venue = Venue()
    assert await jobs.run(JOB, venue.place) == Once(True, "order 1")
    with pytest.raises(ValueError, match="MemoryStore"):
        await jobs.run(JOB, venue.place, once=ONCE)
    with pytest.raises(ValueError, match="needs no guard"):
        await World().jobs.run(JOB, venue.place, once=ONCE, verb=None)
    assert venue.orders == ["c1"]


# --- the rest ---------------------------------------------------------------------------------------------------------


@simulated
async def test_a_cancellation_ends_a_job_at_once_whatever_it_waits_for() -> None:
    for after_s in (0.0, 0.05, 0.15, 0.5, 2.0):
        world = World()

        async def slow() -> str:
            await asyncio.sleep(0.1)
            raise Known(F.RATE_LIMIT, 1_000)

        task = asyncio.ensure_future(world.jobs.run(JOB, slow, once=ONCE))
        await asyncio.sleep(after_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.metrics.get_job_type_metrics(JOB)["failures"] == 0
        # The permit was given back, or reported: nothing is left of it.
        assert world.breaker.status().probes == 0


@simulated
async def test_a_judgement_that_fails_makes_it_unknown(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_error: BaseException, _verb: Verb | None) -> Failure:
        raise ZeroDivisionError

    world = World()
    jobs = Jobs(world.store, now_ns=world.clock, classify=broken)
    with pytest.raises(Known):
        await jobs.run(JOB, world.script(Known(F.BUSY)), once=ONCE)
    assert world.tries == 1
    assert "could not be classified" in caplog.text


@simulated
async def test_by_default_failures_are_those_of_the_venue() -> None:
    world = World()
    jobs = Jobs(world.store, now_ns=world.clock, venue="binance", sleep=world._sleep)
    busy = Exception('binance {"code":-1003,"msg":"Too many requests"}')
    assert (await jobs.run(JOB, world.script(busy, busy, "ok"), once=ONCE)).result == "ok"
    world.tries = 0
    with pytest.raises(Exception, match="-2010"):
        await jobs.run(JOB, world.script(Exception("BinanceAPIException: -2010 NEW_ORDER_REJECTED")), once=(*ONCE[:1], "another"))
    assert world.tries == 1


@simulated
async def test_an_error_keeps_its_own_cause() -> None:
    world = World()
    error = Known(F.VALIDATION)
    error.__cause__ = KeyError("why")
    assert (await world.failing(error)).__cause__ is error.__cause__
    assert isinstance(error.__cause__, KeyError)


@simulated
async def test_two_seeds_do_not_march_in_step() -> None:
    waits = []
    for seed in (1, 2, 2):
        world = World(seed=seed, policy=RetryPolicy(attempts=3))
        await world.failing(Known(F.BUSY), verb=Verb.CANCEL)
        waits.append(world.waits)
    assert waits[0] != waits[1] == waits[2]
