"""A bug in a job is nobody's failure but its own; whatever work and queries return, and whatever callers give, nothing is done twice;
and no secret in the words of an exception is seen again.

Method: the world of ``test_jobs.py``; exceptions that only a program makes, or that are of another request than the one that counts;
values that no type allows, as a bot without a type checker gives them.
"""

import asyncio
import contextlib

import pytest
from haltcore.adapters.jobs import BUGS, Again, Exhausted, Jobs, RetryPolicy, retry
from haltcore.adapters.retry_metrics import RetryMetrics
from haltcore.adapters.side_effects import Once
from haltcore.effects import BreakerMode, GuardState, ValueRefused
from haltcore.fsm.events import Verb
from haltcore.fsm.failure_classes import FailureClass as F
from haltcore.fsm.failures import Failure
from haltcore.fsm.guard import guard_key

from tests.runner_rig import simulated
from tests.side_effect_world import row_of
from tests.test_jobs import JOB, ONCE, Known, World
from tests.test_side_effects_words import KEY, SIGNED

# --- bugs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*BUGS, UnboundLocalError, ModuleNotFoundError])
@pytest.mark.parametrize("guarded", [False, True])
@simulated
async def test_a_bug_is_raised_as_it_is_and_counts_for_no_breaker(kind: type[Exception], guarded: bool) -> None:
    """Its words may be those of a venue: they prove nothing."""
    world, bug = World(), kind("HTTP 429, -1003 too many requests")
    named = {"once": ONCE, "query": world.venue.query(), "idempotent": True} if guarded else {"verb": None, "idempotent": True}
    world.jobs = Jobs(world.store, now_ns=world.clock, venue="binance", breakers=[world.breaker], metrics=world.metrics, sleep=world._sleep)
    for tries in range(1, 5):
        if guarded:
            named["once"] = (ONCE[0], f"{tries}")
        assert await world.failing(bug, **named) is bug
        assert (world.tries, world.waits) == (tries, [])
        if guarded:
            assert (await row_of(world.state, guard_key(ONCE[0], f"{tries}"))).state is GuardState.IN_DOUBT
    status = world.breaker.status()
    assert (status.mode, status.failures) == (BreakerMode.CLOSED, 0)
    assert world.blocked() == {"programming_error": 4}
    assert world.metrics.get_job_type_metrics(JOB)["failures"] == 4


@simulated
async def test_a_probe_with_a_bug_gives_its_place_back() -> None:
    world = World()
    await world.failing(Known(F.BUSY))
    await asyncio.sleep(61)
    await world.failing(TypeError("'+'"))
    status = world.breaker.status()
    assert (status.mode, status.probes) == (BreakerMode.HALF_OPEN, 0)


@pytest.mark.parametrize("kind", [KeyError, IndexError, ValueError])
@simulated
async def test_what_an_odd_answer_may_have_caused_is_no_bug(kind: type[Exception]) -> None:
    world = World()
    await world.failing(kind("?"))
    assert world.breaker.status().failures == 1


# --- work of two requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectionRefusedError("no database"), Exception("HTTP 429"), Known(F.BUSY), Known(F.VALIDATION)])
@simulated
async def test_no_exception_of_work_that_can_be_asked_for_proves_that_nothing_happened(error: Exception) -> None:
    """It is placed, and what fails is the bot's own writing of it."""
    world = World()
    if not isinstance(error, Known):
        world.jobs = Jobs(world.store, now_ns=world.clock, venue="binance", sleep=world._sleep)

    async def work() -> str:
        await world.venue.place()
        raise error

    with contextlib.suppress(Known):
        assert await world.jobs.run(JOB, work, once=ONCE, query=world.venue.query()) == Once(False, "order 1")
    assert await world.jobs.run(JOB, work, once=ONCE, query=world.venue.query()) == Once(False, "order 1")
    assert world.venue.orders == ["c1"]


@pytest.mark.parametrize("asks", [False, True])
@simulated
async def test_the_callers_own_proof_counts_with_a_query_too(asks: bool) -> None:
    for says, state in ((True, GuardState.REJECTED), (False, GuardState.IN_DOUBT)):
        world = World(RetryPolicy(attempts=1))
        judged_by: list[BaseException] = []

        def certain(error: BaseException, says: bool = says, judged_by: list[BaseException] = judged_by) -> bool:
            judged_by.append(error)
            return says

        await world.failing(Known(F.BUSY), once=ONCE, query=world.venue.query() if asks else None, certain=certain)
        assert len(judged_by) == 1
        assert (await row_of(world.state, guard_key(*ONCE))).state is state
    with pytest.raises(ValueRefused, match=r"^certain: True cannot be called"):
        await World().jobs.run(JOB, world.venue.place, certain=True)  # type: ignore[arg-type]


# --- secrets in words -------------------------------------------------------------------------------------------------------


@simulated
async def test_no_secret_in_an_exception_gets_into_logs_the_store_or_the_last_word(caplog: pytest.LogCaptureFixture) -> None:
    world = World(RetryPolicy(attempts=2))

    def broken(error: BaseException, _verb: Verb | None) -> Failure:
        raise ZeroDivisionError(SIGNED) from error

    def on_retry(*_: object) -> None:
        raise ArithmeticError(SIGNED)

    world.jobs = Jobs(world.store, now_ns=world.clock, classify=broken, breakers=[world.breaker], sleep=world._sleep)
    await world.failing(RuntimeError(f"POST {SIGNED}"), idempotent=True, on_retry=on_retry)
    await world.failing(RuntimeError(f"POST {SIGNED}"), once=ONCE)

    async def work(_attempt: int) -> str:
        raise RuntimeError(SIGNED)

    with pytest.raises(Exhausted) as caught:
        await retry(work, RetryPolicy(attempts=2), lambda _: Again(True), on_retry=on_retry, sleep=world._sleep)
    for place in (caplog.text, str(caught.value), repr(world.state.remembered())):
        assert KEY not in place
    for words in ("could not be classified: ZeroDivisionError", "on_retry raised ArithmeticError", "signature=***"):
        assert words in caplog.text


# --- what work and queries return, and what callers give ----------------------------------------------------------------


@pytest.mark.parametrize(("value", "kept"), [(None, ""), (12, "12")])
@simulated
async def test_work_that_returns_no_text_is_done_and_blocks_nothing(value: object, kept: str, caplog: pytest.LogCaptureFixture) -> None:
    world, times = World(), []

    async def work() -> object:
        times.append(1)
        return value

    assert await world.jobs.run(JOB, work, once=ONCE) == Once(True, kept)  # type: ignore[arg-type]
    assert await world.jobs.run(JOB, work, once=ONCE) == Once(False, kept)  # type: ignore[arg-type]
    assert await world.jobs.run(JOB, work) == Once(True, kept)  # type: ignore[arg-type]
    assert len(times) == 2
    assert caplog.text == ""


@pytest.mark.parametrize("found", [True, None, "entry 12"])
@simulated
async def test_a_query_that_gives_no_answer_repeats_nothing(found: object) -> None:
    world = World()

    async def lost_reply() -> str:
        await world.venue.place()
        raise Known(F.UNKNOWN_OUTCOME)

    async def query() -> object:
        return found

    for _ in range(3):
        with pytest.raises(ValueRefused, match=r"^query: .*Done.*Absent.*Unknown"):
            await world.jobs.run(JOB, lost_reply, once=ONCE, query=query)  # type: ignore[arg-type]
        await asyncio.sleep(60)
    assert world.venue.orders == ["c1"]
    assert len(world.waits) == 1
    assert world.breaker.status().failures == 1
    assert await world.jobs.run(JOB, lost_reply, once=ONCE, query=world.venue.query()) == Once(False, "order 1")


@pytest.mark.parametrize(
    ("once", "words"),
    [
        ("f8", "once: 'f8' is no pair"), (4711, "once: 4711 is no pair"), ((ONCE[0],), "is no pair"), ((), "is no pair"),
        ((*ONCE, ""), "is no pair"), ((ONCE[0], ""), "entity: '' names nothing"), ((ONCE[0], 4711), "entity: 4711 names nothing"),
        (("", "x"), "kind: '' names nothing"), ((None, "x"), "kind: None names nothing"),
    ],
)  # fmt: skip
@simulated
async def test_a_side_effect_without_a_name_is_refused_before_anything(once: object, words: str) -> None:
    world = World()
    with pytest.raises(ValueRefused) as caught:
        await world.jobs.run(JOB, world.venue.place, once=once)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "LEDGER_WRITE" in str(caught.value) or "fill 4711" in str(caught.value)
    assert world.venue.orders == []
    assert world.blocked() == {}


@simulated
async def test_work_that_is_no_function_is_refused() -> None:
    world = World()
    begun = world.venue.place()
    with pytest.raises(ValueRefused, match="give the function itself"):
        await world.jobs.run(JOB, begun)  # type: ignore[arg-type]
    begun.close()


@simulated
async def test_a_mistyped_name_of_a_job_is_refused() -> None:
    world = World()
    for name in ("ordr_job", "Order_Job"):
        with pytest.raises(ValueRefused, match=f"job_type: '{name}' has neither .*; did you mean 'order_job'?"):
            await world.jobs.run(name, world.venue.place)
    with pytest.raises(ValueRefused, match="known are 'order_job', 'other'; A new one is named in RetryMetrics"):
        await world.jobs.run("ledger", world.venue.place)
    for name in ("", None, 5):
        with pytest.raises(ValueRefused, match=r"job_type: .* is no name"):
            await Jobs(None, now_ns=world.clock).run(name, world.venue.place)  # type: ignore[arg-type]
    assert world.venue.orders == []
    only_breakers = Jobs(None, now_ns=world.clock, breakers=[world.breaker])
    only_metrics = Jobs(None, now_ns=world.clock, metrics=RetryMetrics(["ledger_job"]))
    unnamed = Jobs(None, now_ns=world.clock)
    for jobs, name in ((only_breakers, JOB), (only_metrics, "ledger_job"), (only_metrics, "other"), (unnamed, "any")):
        assert (await jobs.run(name, world.venue.place)).executed
    with pytest.raises(ValueRefused):
        await only_breakers.run("ledger_job", world.venue.place)


@pytest.mark.parametrize("name", ["base_ms", "cap_ms", "attempts", "patience_ms"])
@pytest.mark.parametrize("value", [200.0, -1, True, "5", None, 10**15])
def test_a_policy_is_of_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(ValueRefused, match=f"^{name}: .* is no whole number that fits; give [01] to"):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]
