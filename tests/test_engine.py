"""Goal: the runner keeps its ten duties (DESIGN section 14) whatever performers, disk and callers do.

Method: each duty has its tests by name, on simulated time, with the real journal over a disk in memory. Where a duty needs somebody who
misbehaves, a venue made by hand does so. Last, the runner on a real loop with a real disk.
"""

import asyncio
import errno
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters import engine
from haltcore.adapters.answers import CommandRejected, OrderDenied, OrderInDoubt, OrderRefused, RunnerStopped, StoppedUnproven
from haltcore.adapters.disk import MemoryDisk, RealDisk
from haltcore.adapters.faults import Fault, FaultPlan, Scripted
from haltcore.adapters.journal import JournalFailed
from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.runner import Runner
from haltcore.effects import Alert, Cancel, CancelAll, Metric, Mode, Place, Replace, Side, SweepReport, SweepStatus, Trigger
from haltcore.fsm.config import ConfigRefused, StorePolicy, VenueTraits
from haltcore.fsm.events import (
    Freeze,
    MarkPrice,
    OrderAccepted,
    OrderCancelled,
    Outcome,
    OutcomeKind,
    Restarted,
    Started,
    SubmitOrder,
    VenueLink,
)
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, ETH, config
from tests.runner_rig import LOG, HandVenue, Rig, acknowledged, buy, for_ever, later, simulated

# --- 1: one event at a time, in one total order ---------------------------------------------------------------------


@simulated
async def test_1_every_event_is_one_record_in_one_order() -> None:
    async with Rig() as rig:
        await asyncio.gather(*(buy(rig.bot, str(90 + n)) for n in range(20)))
    assert [event.at_ns for event, _ in rig.seen] == sorted(event.at_ns for event, _ in rig.seen)
    assert len(rig.seen) == rig.bot.core.seq
    assert isinstance(rig.seen[0][0], Started)


@simulated
async def test_1_what_a_performer_emits_inside_of_a_step_comes_after_it() -> None:
    """The observer calls back into the runner while the step is under way, as a synchronous adapter would."""
    venue = HandVenue()
    depth, deepest = 0, 0

    def observe(event: Any, core: Any, effects: Any) -> None:  # noqa: ARG001
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        order.append((type(event).__name__, core.seq))
        if isinstance(event, MarkPrice) and event.price < 10 * 10**12:
            venue.emit(MarkPrice(rig.clock.now_ns(), BTC, event.price + 10**12))
        depth -= 1

    order: list[tuple[str, int]] = []
    rig = Rig(venue, observer=observe)
    async with rig:
        await rig.bot.mark(BTC, "1")
        marks = [seq for name, seq in order if name == "MarkPrice"]
        assert len(marks) == 10
        assert marks == list(range(marks[0], marks[0] + 10))
        assert deepest == 1


@simulated
async def test_1_a_performer_that_calls_back_synchronously_does_not_reenter() -> None:
    async def place(effect: Place) -> list[Any]:
        venue.emit(OrderAccepted(venue.now_ns(), effect.client_id, "v1"))
        venue.open[effect.client_id] = effect
        return [acknowledged(effect, venue.now_ns())]

    venue = HandVenue(Place=place)
    async with Rig(venue) as rig:
        order = await buy(rig.bot)
        assert order.status == "new"
        kinds = [type(event).__name__ for event, _ in rig.seen]
        assert kinds[kinds.index("SubmitOrder") :][:3] == ["SubmitOrder", "OrderAccepted", "Outcome"]


@simulated
async def test_1_a_command_given_inside_of_a_step_waits_for_its_turn() -> None:
    """Tasks that start eagerly run inside of whoever makes them; a command in one must neither nest nor get lost."""
    frozen: list[Any] = []

    def observe(event: Any, core: Any, effects: Any) -> None:  # noqa: ARG001
        if isinstance(event, OrderAccepted) and not frozen:
            command = rig.bot.freeze("seen enough", by="observer")
            frozen.append(command)
            command.send(None)  # as an eager task does

    rig = Rig(HandVenue(), observer=observe)
    await rig.bot.start()
    await buy(rig.bot)
    assert rig.bot.status().modes == {}
    frozen[0].close()
    await rig.bot.stop()


@simulated
async def test_1_an_observer_that_raises_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def observe(event: Any, core: Any, effects: Any) -> None:  # noqa: ARG001
        raise ZeroDivisionError

    rig = Rig(observer=observe)
    async with rig:
        await buy(rig.bot)
        proof = await rig.bot.freeze("test", "ops")
    assert proof.verified
    assert "the observer raised" in caplog.text


# --- 2: one record per step -----------------------------------------------------------------------------------------


@simulated
async def test_2_every_step_is_one_record_and_replays_to_the_same_state() -> None:
    async with Rig() as rig:
        order = await buy(rig.bot)
        await rig.bot.replace(order, "2", "99")
        await rig.bot.cancel(order)
        with pytest.raises(OrderDenied):
            await rig.bot.submit("NOPE", "buy", "1", "1")
    verdict = rig.replayed()
    assert (verdict.kind, verdict.core) == (Kind.SAME, rig.bot.core)
    lines = bytes(rig.disk.content[LOG]).splitlines()
    assert len(lines) == 1 + len(rig.seen) + 1, "a header, the records, a seal"


@simulated
async def test_2_what_is_reported_while_a_port_connects_comes_after_the_first_record() -> None:
    class Eager(HandVenue):
        def connect(self, emit: Any, now_ns: Any, may_send: Any) -> None:
            super().connect(emit, now_ns, may_send)
            emit(VenueLink(now_ns(), False, "still connecting"))
            emit(VenueLink(now_ns(), True, "here"))

    async with Rig(Eager()) as rig:
        assert [type(event) for event, _ in rig.seen[:3]] == [Started, VenueLink, VenueLink]
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_2_a_full_segment_is_closed_at_a_quiet_moment_and_the_log_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.Journal.create.__func__, "__defaults__", (20,))
    async with Rig() as rig:
        for n in range(12):
            await rig.bot.cancel(await buy(rig.bot, str(80 + n)))
        await later(1)
        assert len(rig.disk.content) > 1
        synced = sum(rig.disk.synced.values())
        assert synced > 0
    async with Rig(disk=rig.disk) as again:
        assert isinstance(again.seen[0][0], Restarted)


# --- 3: durable before any effect that adds risk --------------------------------------------------------------------


class _Durable(HandVenue):
    """Notes for each request how much of the log was durable, and its length, when it arrived."""

    disk: MemoryDisk

    async def perform(self, effect: Any) -> Any:
        self.durable[effect.id] = (self.disk.synced[LOG], _position_of(self.disk, effect))
        return await super().perform(effect)

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__()
        self.disk = disk
        self.durable: dict[Any, tuple[int, int]] = {}


def _position_of(disk: MemoryDisk, effect: Any) -> int:
    """Where the record that decided the effect ends in the log, or beyond everything if it is not there yet."""
    content = bytes(disk.content[LOG])
    found = re.search(rb'"%s"' % effect.client_id.encode(), content) if isinstance(effect, (Place, Replace)) else None
    return content.index(b"\n", found.end()) + 1 if found else 10**12


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.5])
@simulated
async def test_3_no_order_leaves_before_its_record_is_on_disk(delay_s: float) -> None:
    disk = MemoryDisk()
    disk.sync_delay_s = delay_s
    venue = _Durable(disk)
    async with Rig(venue, disk) as rig:
        await asyncio.gather(*(buy(rig.bot, str(90 + n)) for n in range(5)))
        for order in rig.bot.orders():
            await rig.bot.replace(order, "2", "80")
    places = venue.called(Place)
    assert len(places) == 5
    for place in places:
        durable, end = venue.durable[place.id]
        assert end <= durable


@simulated
async def test_3_effects_that_reduce_risk_do_not_wait_for_the_disk() -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        order = await buy(rig.bot)
        rig.disk.sync_delay_s = 5
        before = rig.clock.now_ns()
        await rig.bot.cancel(order)
        proof = await rig.bot.freeze("test", "ops")
        assert proof.verified
        assert rig.clock.now_ns() - before < 10**9


@simulated
async def test_3_many_records_share_one_sync() -> None:
    async with Rig(HandVenue()) as rig:
        rig.disk.sync_delay_s = 0.01
        before = rig.disk.syncs
        await asyncio.gather(*(buy(rig.bot, str(1 + n)) for n in range(200)))
        assert rig.disk.syncs - before <= 3


# --- 4: order of dispatch -------------------------------------------------------------------------------------------


@simulated
async def test_4_the_first_cancel_is_handed_over_in_the_first_turn_of_the_loop_after_the_freeze() -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        await buy(rig.bot)
        rig.disk.sync_delay_s = 1
        venue.calls.clear()
        freezing = asyncio.ensure_future(rig.bot.freeze("now", "ops"))
        await asyncio.sleep(0)  # the command is fed
        assert venue.calls == []
        await asyncio.sleep(0)  # and here the venue has it
        assert isinstance(venue.calls[0], CancelAll)
        await freezing


@simulated
async def test_4_reducing_effects_start_first_and_adding_ones_last() -> None:
    venue = HandVenue()
    async with Rig(venue, journal=None) as rig:
        await buy(rig.bot)
        cancel, place = rig.effects(Place)[0], rig.effects(Place)[0]
        cancel = Cancel((99, 1), BTC, engine_target(place), False, 0, place.fence)
        query = venue.called(type(venue.calls[0]))[0]
        venue.calls.clear()
        rig.bot._dispatch([place, query, cancel])
        await asyncio.sleep(0)
        assert [type(effect) for effect in venue.calls] == [Cancel, type(query), Place]


def engine_target(place: Place) -> Any:
    from haltcore.effects import CancelTarget

    return CancelTarget(place.order, place.client_id, "")


# --- 5 and 6: exactly one outcome, whatever the performer does ------------------------------------------------------


async def _nothing_at_all(_: Any) -> Any:
    return []


async def _none(_: Any) -> Any:
    return None


async def _anothers(effect: Any) -> Any:
    return [Outcome(0, (1, 0), acknowledged(effect).verb, effect.order, OutcomeKind.ACKNOWLEDGED)]


async def _of_another_verb(effect: Any) -> Any:
    from haltcore.fsm.events import Verb

    return [Outcome(0, effect.id, Verb.CANCEL, effect.order, OutcomeKind.ACKNOWLEDGED)]


async def _two(effect: Any) -> Any:
    refused = Outcome(0, effect.id, acknowledged(effect).verb, effect.order, OutcomeKind.REFUSED, "no")
    return [acknowledged(effect), refused]


async def _raises(_: Any) -> Any:
    raise ZeroDivisionError


async def _raises_cancelled(_: Any) -> Any:
    raise asyncio.CancelledError


class _Odd(BaseException):
    """Neither an Exception nor one of those that end a process."""


async def _raises_timeout(_: Any) -> Any:
    raise TimeoutError


async def _will_not_be_cancelled(_: Any) -> Any:
    """Nearly: the third time it gives in, so that the test can end."""
    for _ in range(2):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def _is_cancelled(_: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.Event().wait()


MISBEHAVIOURS = {
    "hangs": (for_ever, "timeout"),
    "hangs and will not be cancelled": (_will_not_be_cancelled, "timeout"),
    "returns nothing": (_nothing_at_all, "no_outcome"),
    "returns None": (_none, "performer_raised"),
    "returns another's outcome": (_anothers, "wrong_outcome"),
    "returns an outcome of another verb": (_of_another_verb, "wrong_outcome"),
    "returns two outcomes": (_two, "wrong_outcome"),
    "raises": (_raises, "performer_raised"),
    "raises TimeoutError": (_raises_timeout, "performer_raised"),
    "raises CancelledError": (_raises_cancelled, "performer_raised"),
    "is cancelled": (_is_cancelled, "performer_raised"),
}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
@simulated
async def test_5_a_place_gets_exactly_one_outcome_when_its_performer(name: str) -> None:
    behaviour, code = MISBEHAVIOURS[name]
    venue = HandVenue(Place=behaviour)
    rig = Rig(venue, conf=config(venue=VenueTraits(place_expiry_ms=100)))
    await rig.bot.start()
    with pytest.raises(OrderInDoubt) as doubt:
        await buy(rig.bot)
    (place,) = rig.effects(Place)
    (outcome,) = rig.outcomes(place)
    assert (outcome.kind, outcome.code) == (OutcomeKind.IN_DOUBT, code)  # type: ignore[attr-defined]
    assert (doubt.value.executed, doubt.value.client_id, doubt.value.code) == (None, place.client_id, "in_doubt")
    assert rig.bot.status().in_flight == 0
    await later(60)
    assert (await rig.bot.freeze("test", "ops")).verified
    assert rig.unanswered() == []
    assert len(venue.called(Place)) == 1, "never sent again"
    await rig.bot.stop()


@pytest.mark.parametrize("name", MISBEHAVIOURS)
@simulated
async def test_5_a_sweep_ends_in_proof_although_the_performer_of_cancel_all(name: str) -> None:
    if "another" in name:
        return  # those behaviours are made for orders
    behaviour, _ = MISBEHAVIOURS[name]

    async def twice(effect: Any) -> Any:
        return [acknowledged(effect), acknowledged(effect)]

    venue = HandVenue(CancelAll=twice if "two" in name else behaviour)
    rig = Rig(venue)
    await rig.bot.start()
    await buy(rig.bot)
    await rig.bot.freeze("test", "ops")
    await later(120)
    assert rig.bot.proven()
    assert rig.unanswered() == []
    await rig.bot.stop()


@simulated
async def test_5_a_reply_after_the_time_out_is_evidence_but_no_second_outcome() -> None:
    async def late(effect: Place) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            venue.open[effect.client_id] = effect
            return [OrderAccepted(venue.now_ns(), effect.client_id, "v1"), acknowledged(effect)]  # noqa: B012 - a swallowed cancellation

    venue = HandVenue(Place=late)
    async with Rig(venue) as rig:
        with pytest.raises(OrderInDoubt):
            await buy(rig.bot)
        await later(0.1)
        (order,) = rig.bot.orders()
        assert not order.in_doubt
        assert len(rig.outcomes(rig.effects(Place)[0])) == 1


@simulated
async def test_5_an_answer_that_is_emitted_is_no_second_outcome() -> None:
    async def both(effect: Place) -> Any:
        venue.emit(acknowledged(effect))
        return venue.well(effect)

    venue = HandVenue(Place=both)
    async with Rig(venue) as rig:
        await buy(rig.bot)
        assert len(rig.outcomes(rig.effects(Place)[0])) == 1


@simulated
async def test_6_an_odd_base_exception_is_an_outcome_and_leaves_the_runner_well() -> None:
    async def odd(_: Any) -> Any:
        raise _Odd

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    venue = HandVenue(Place=odd)
    async with Rig(venue) as rig:
        with pytest.raises(OrderInDoubt):
            await buy(rig.bot)
        assert rig.outcomes(rig.effects(Place)[0])[0].text == "_Odd"  # type: ignore[attr-defined]


class _BadPeople:
    serves = (Alert,)

    def __init__(self, error: type[BaseException] | None) -> None:
        self.error, self.heard = error, 0

    async def perform(self, effect: Any) -> Any:  # noqa: ARG002
        self.heard += 1
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error


class _BadMetrics(_BadPeople):
    serves = (Metric,)  # type: ignore[assignment]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, None])
@simulated
async def test_6_people_and_metrics_that_raise_or_hang_cost_their_own_word_only(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    people, metrics = _BadPeople(error), _BadMetrics(error)
    async with Rig(people=people, metrics=metrics) as rig:
        await buy(rig.bot)
        assert (await rig.bot.freeze("test", "ops")).verified
        await later(200)
        words = rig.effects(Alert), rig.effects(Metric)
        assert (people.heard, metrics.heard) == (len(words[0]), len(words[1]))
        assert rig.bot._hands.tasks == {}
    assert "could not be delivered" in caplog.text


# --- 7: start -------------------------------------------------------------------------------------------------------


@simulated
async def test_7_nothing_is_accepted_before_the_account_has_been_read() -> None:
    reading = asyncio.Event()

    async def positions(effect: Any) -> Any:
        await reading.wait()
        return venue.well(effect)

    venue = HandVenue(FetchPositions=positions)
    rig = Rig(venue)
    with pytest.raises(RunnerStopped) as stopped:
        await buy(rig.bot)
    assert (stopped.value.code, stopped.value.executed) == ("not_started", False)
    starting = asyncio.ensure_future(rig.bot.start())
    await later(0.1)
    with pytest.raises(OrderDenied) as denied:
        await buy(rig.bot)
    assert denied.value.code == "not_ready"
    reading.set()
    await starting
    await buy(rig.bot)
    await rig.bot.stop()
    with pytest.raises(RunnerStopped) as stopped:
        await buy(rig.bot)
    assert (stopped.value.code, stopped.value.executed) == ("stopped", False)


@simulated
async def test_7_a_runner_runs_once() -> None:
    async with Rig() as rig:
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.start()
        assert rejected.value.code == "already_started"
        await buy(rig.bot)
    with pytest.raises(CommandRejected):
        await rig.bot.start()


@simulated
async def test_7_a_sealed_session_is_continued_with_its_orders_and_its_tag() -> None:
    venue = PaperVenue([BTC, ETH], seed=1)
    async with Rig(venue, on_stop="hand_over") as rig:
        order = await buy(rig.bot)
    async with Rig(venue, rig.disk, config(session="another")) as again:
        assert again.bot.config.session == rig.bot.config.session
        assert isinstance(again.seen[0][0], Restarted)
        (mine,) = again.bot.orders()
        assert (mine.client_id, mine.status) == (order.client_id, "new")
        with pytest.raises(OrderDenied):
            await again.bot.submit("NOPE", "buy", "1", "1")
        assert (await again.bot.cancel(order)).key == order.key, "a handle of an earlier runner of the session is good"
        assert mine.status == "cancelled"


@simulated
async def test_7_an_unsealed_log_with_a_torn_tail_is_continued() -> None:
    venue = PaperVenue([BTC, ETH], seed=1)
    rig = Rig(venue)
    await rig.bot.start()
    await buy(rig.bot)
    rig.bot.abandon()
    rig.disk.crash(kept=40)
    assert not rig.disk.content[LOG].endswith(b"\n")
    await later(10)
    async with Rig(venue, rig.disk) as again:
        assert again.bot.orders()[0].status == "new"
        assert not again.bot.orders()[0].in_doubt
    assert venue.exchange.all_open() == ()
    assert again.replayed().kind is Kind.SAME


@simulated
async def test_7_a_broken_log_stops_the_start_and_leaves_nothing_locked() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
    whole = bytes(rig.disk.content[LOG])
    rig.disk.content[LOG][len(whole) // 2] ^= 1
    venue = HandVenue()
    with pytest.raises(JournalFailed) as failure:
        await Rig(venue, rig.disk).bot.start()
    assert failure.value.code == "broken"
    assert (venue.calls, venue.closed) == ([], 0), "not even connected"
    rig.disk.content[LOG][:] = whole
    async with Rig(disk=rig.disk):
        pass


@simulated
async def test_7_a_locked_log_stops_the_start_and_does_not_disturb_its_owner() -> None:
    async with Rig() as rig:
        with pytest.raises(JournalFailed) as failure:
            await Rig(rig.venue, rig.disk).bot.start()
        assert failure.value.code == "locked"
        await buy(rig.bot)


@simulated
async def test_7_a_configuration_that_does_not_fit_the_log_is_refused() -> None:
    async with Rig() as rig:
        pass
    with pytest.raises(ConfigRefused, match="config_changed"):
        await Rig(disk=rig.disk, conf=config(symbols=(ETH,))).bot.start()
    async with Rig(PaperVenue([BTC, ETH, "NEW"]), rig.disk, config(symbols=(BTC, ETH, "NEW"))) as again:
        await again.bot.proof()
        await again.bot.unfreeze("ops", "a new symbol")
        assert (await again.bot.submit("NEW", "buy", "1", "1")).status == "new"


@pytest.mark.parametrize("options", [{"on_stop": "shrug"}, {"max_adding": 0}, {"effect_timeout_s": 0}, {"store": object()}, {"stop_timeout_s": -1}])
@simulated
async def test_7_options_that_mean_nothing_are_refused(options: Any) -> None:
    with pytest.raises(ConfigRefused):
        Rig(**options)


@simulated
async def test_7_a_start_that_is_given_up_leaves_nothing_running() -> None:
    venue = HandVenue(FetchOpenOrders=for_ever)
    rig = Rig(venue)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.bot.start(), 1)
    assert rig.disk.locked == {}
    assert venue.closed == 1
    assert len(asyncio.all_tasks()) == 1
    async with Rig(disk=rig.disk):
        pass


@simulated
async def test_7_a_port_that_cannot_connect_leaves_nothing_locked() -> None:
    class Broken(HandVenue):
        def connect(self, emit: Any, now_ns: Any, may_send: Any) -> None:  # noqa: ARG002
            raise ConnectionError("no route")

    rig = Rig(Broken())
    with pytest.raises(ConnectionError):
        await rig.bot.start()
    assert rig.disk.locked == {}


@simulated
async def test_7_a_failed_reading_at_the_start_is_tried_again() -> None:
    plan = FaultPlan(script=(Scripted(engine_fetch(), 1, Fault.REQUEST_LOST), Scripted(engine_fetch(), 3, Fault.SERVICE_UNAVAILABLE)))
    async with Rig(PaperVenue([BTC, ETH], faults=plan)) as rig:
        assert (await buy(rig.bot)).status == "new"


def engine_fetch() -> Any:
    from haltcore.effects import FetchOpenOrders

    return FetchOpenOrders


# --- 8: the journal fails -------------------------------------------------------------------------------------------


def _fill_up(disk: MemoryDisk) -> None:
    disk.capacity = sum(map(len, disk.content.values()))


def _break_sync(disk: MemoryDisk) -> None:
    disk.sync_error = errno.EIO


def _break_write(disk: MemoryDisk) -> None:
    disk.write_error = errno.EIO


def _hang(disk: MemoryDisk) -> None:
    disk.sync_delay_s = 10_000


FAILURES = {"disk_full": _fill_up, "sync": _break_sync, "write": _break_write, "hung": _hang}


@pytest.mark.parametrize("how", FAILURES)
@simulated
async def test_8_a_journal_that_fails_under_an_order_freezes_and_the_proof_is_still_reached(how: str) -> None:
    venue = PaperVenue([BTC, ETH], seed=1)
    rig = Rig(venue, stop_timeout_s=50)
    await rig.bot.start()
    await buy(rig.bot, "90")
    FAILURES[how](rig.disk)
    with pytest.raises(OrderRefused) as refused:
        await buy(rig.bot, "91")
    place = rig.effects(Place)[-1]
    assert place not in venue.sent
    assert rig.outcomes(place)[0].kind is OutcomeKind.REFUSED  # type: ignore[attr-defined]
    assert (refused.value.executed, refused.value.client_id) == (False, place.client_id)
    assert refused.value.code == "journal_failed"
    assert rig.events(Freeze)[0].trigger is Trigger.JOURNAL
    proof = await rig.bot.proof()
    assert proof.verified
    assert venue.exchange.all_open() == ()
    if how != "hung":
        assert rig.bot.status().journal_failed
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.unfreeze("ops", "hope")
        assert rejected.value.code == "journal_failed"
    assert any(alert.code == "frozen" and "journal" in alert.text for alert in rig.alerts)
    if how == "hung":
        with pytest.raises(JournalFailed, match="did not confirm"):
            await rig.bot.stop()
    else:
        await rig.bot.stop()
    assert len(asyncio.all_tasks()) == 1 or how == "hung"


@pytest.mark.parametrize("how", ["disk_full", "write"])
@simulated
async def test_8_a_journal_that_fails_while_nothing_is_placed_freezes_too(how: str) -> None:
    async with Rig() as rig:
        await buy(rig.bot)
        FAILURES[how](rig.disk)
        await rig.bot.mark(BTC, "100")
        await later(0.001)
        assert rig.events(Freeze)[0].trigger is Trigger.JOURNAL
        assert (await rig.bot.proof()).verified


@simulated
async def test_8_the_disk_fills_up_at_every_possible_moment() -> None:
    """Every byte of room from none to more than enough: no order leaves without its record, and the end is always a proof."""
    async with Rig(on_stop="freeze") as rig:
        await _a_day(rig)
    whole = len(rig.disk.content[LOG])
    frozen = sealed_in_vain = 0
    for room in range(1_200, whole + 400, 97):
        venue, disk = _Durable(MemoryDisk()), MemoryDisk()
        venue.disk, disk.capacity = disk, room
        tight = Rig(venue, disk)
        try:
            await tight.bot.start()
        except JournalFailed:
            continue
        await _a_day(tight)
        try:
            await tight.bot.stop()
        except JournalFailed:
            sealed_in_vain += 1
        frozen += any(event.trigger is Trigger.JOURNAL for event in tight.events(Freeze))
        assert venue.open == {}
        assert tight.unanswered() == []
        for place in venue.called(Place):
            durable, end = venue.durable[place.id]
            assert end <= durable
    assert frozen > 10
    assert sealed_in_vain > 0


async def _a_day(rig: Rig) -> None:
    for n in range(3):
        try:
            order = await buy(rig.bot, str(90 + n))
            await rig.bot.replace(order, "2", "80")
            await rig.bot.cancel(order)
            await buy(rig.bot, str(80 + n), wait=False)
        except (OrderDenied, OrderRefused, CommandRejected):
            pass
        await later(0.01)


@simulated
async def test_8_a_record_that_cannot_be_written_freezes() -> None:
    """An adapter's event of a wrong type, say. What is in the log stays readable."""
    venue = HandVenue()
    async with Rig(venue) as rig:
        await buy(rig.bot)
        venue.emit(VenueLink(venue.now_ns(), True, 5))  # type: ignore[arg-type]
        assert rig.events(Freeze)[0].trigger is Trigger.JOURNAL
        assert "unwritable" in rig.events(Freeze)[0].reason
        assert (await rig.bot.proof()).verified
    assert rig.replayed().kind is Kind.SAME


# --- 9: back-pressure is an answer ----------------------------------------------------------------------------------


@simulated
async def test_9_one_order_too_many_under_way_is_denied_and_later_goes_through() -> None:
    answer = asyncio.Event()

    async def slow(effect: Any) -> Any:
        await answer.wait()
        return venue.well(effect)

    venue = HandVenue(Place=slow)
    async with Rig(venue, max_adding=3) as rig:
        orders = [await buy(rig.bot, str(90 + n), wait=False) for n in range(3)]
        seq = rig.bot.core.seq
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot)
        assert (denied.value.code, denied.value.executed, rig.bot.core.seq) == ("overloaded", False, seq)
        answer.set()
        await later(0.1)
        await buy(rig.bot)
        assert all(order.status == "new" for order in orders)
        assert rig.bot.status().in_flight == 0


# --- 10: stop -------------------------------------------------------------------------------------------------------


@simulated
async def test_10_stop_freezes_proves_and_seals() -> None:
    rig = Rig()
    await rig.bot.start()
    await buy(rig.bot)
    await rig.bot.stop()
    assert rig.venue.exchange.all_open() == ()
    assert rig.bot.proven()
    assert rig.replayed().end.closed
    assert rig.bot.status().journal_failed == ""
    assert rig.unanswered() == []
    assert len(asyncio.all_tasks()) == 1


@simulated
async def test_10_hand_over_leaves_the_orders_and_says_so() -> None:
    async with Rig(on_stop="hand_over") as rig:
        await buy(rig.bot)
    assert len(rig.venue.exchange.all_open()) == 1
    assert [alert.code for alert in rig.alerts] == ["handed_over"]
    assert rig.replayed().end.closed


@simulated
async def test_10_hand_over_waits_for_what_is_held_and_under_way() -> None:
    disk = MemoryDisk()
    async with Rig(disk=disk, on_stop="hand_over") as rig:
        disk.sync_delay_s = 2
        order = await buy(rig.bot, wait=False)
    assert order.status == "new"
    assert len(rig.venue.exchange.all_open()) == 1
    assert rig.unanswered() == []


@simulated
async def test_10_stop_while_a_freeze_runs() -> None:
    rig = Rig()
    await rig.bot.start()
    await buy(rig.bot)
    freezing = asyncio.ensure_future(rig.bot.freeze("test", "ops"))
    await asyncio.sleep(0)
    await rig.bot.stop()
    assert (await freezing).verified


@simulated
async def test_10_stop_ends_although_the_venue_never_answers_and_says_what_is_left() -> None:
    venue = HandVenue(CancelAll=for_ever, Cancel=for_ever, CancelBatch=for_ever, FetchOpenOrders=for_ever)
    rig = Rig(venue, stop_timeout_s=30)
    del venue.behave["FetchOpenOrders"]
    await rig.bot.start()
    venue.behave["FetchOpenOrders"] = for_ever
    await buy(rig.bot)
    before = rig.clock.now_ns()
    with pytest.raises(StoppedUnproven, match="1 order") as unproven:
        await rig.bot.stop()
    assert (unproven.value.code, unproven.value.executed) == ("unproven", None)
    assert rig.clock.now_ns() - before <= (30 + 10 + 1) * 10**9
    assert rig.replayed().end.closed
    assert len(asyncio.all_tasks()) == 1
    venue.behave.clear()
    async with Rig(venue, rig.disk) as again:
        assert (await again.bot.proof()).verified
    assert venue.open == {}


@simulated
async def test_10_stop_ends_although_a_performer_cannot_be_cancelled_and_ports_do_not_close() -> None:
    class Stuck(HandVenue):
        async def close(self) -> None:
            await asyncio.Event().wait()

    async def stubborn(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    venue = Stuck(Place=stubborn)
    rig = Rig(venue, on_stop="hand_over")
    await rig.bot.start()
    await buy(rig.bot, wait=False)
    before = rig.clock.now_ns()
    await rig.bot.stop()
    assert rig.clock.now_ns() - before <= 60 * 10**9
    assert rig.replayed().end.closed


@simulated
async def test_10_stop_twice_is_one_stop() -> None:
    rig = Rig(HandVenue())
    await rig.bot.stop()  # before the start: nothing to do
    await rig.bot.start()
    await buy(rig.bot)
    await asyncio.gather(rig.bot.stop(), rig.bot.stop())
    await rig.bot.stop()
    assert rig.venue.closed == 1
    assert sum(type(event).__name__ == "Stopping" for event, _ in rig.seen) == 1


@simulated
async def test_10_a_stop_that_is_cancelled_goes_on() -> None:
    async def slow(effect: Any) -> Any:
        await later(5)
        return venue.well(effect)

    venue = HandVenue(CancelAll=slow)
    rig = Rig(venue)
    await rig.bot.start()
    await buy(rig.bot)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.bot.stop(), 1)
    await rig.bot.stop()
    assert rig.bot.proven()
    assert rig.replayed().end.closed


@simulated
async def test_10_a_seal_that_does_not_reach_the_disk_is_said() -> None:
    rig = Rig(HandVenue(), on_stop="hand_over")
    await rig.bot.start()
    rig.disk.sync_error = errno.EIO
    with pytest.raises(JournalFailed):
        await rig.bot.stop()
    assert rig.venue.closed == 1
    assert rig.disk.locked == {}


@simulated
async def test_10_whoever_waits_when_the_runner_stops_is_told_that_it_is_not_known() -> None:
    rig = Rig(HandVenue(Place=for_ever), on_stop="hand_over", effect_timeout_s=1e6)
    rig.bot._timeout_s = 1
    await rig.bot.start()
    waiting = asyncio.ensure_future(buy(rig.bot))
    await later(0.1)
    await rig.bot.stop()
    with pytest.raises(OrderInDoubt) as doubt:
        await waiting
    assert (doubt.value.code, doubt.value.executed) == ("stopped", None)
    assert doubt.value.client_id


# --- nothing is placed after a freeze -------------------------------------------------------------------------------


class Throttled(HandVenue):
    """Keeps a queue of its own and asks, as a venue has to, at the last instant."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s, self.left = pause_s, list[Any]()

    async def perform(self, effect: Any) -> Any:
        if isinstance(effect, Place):
            await asyncio.sleep(self.pause_s)
            code = self.may_send(effect)
            if code:
                return [Outcome(self.now_ns(), effect.id, acknowledged(effect).verb, effect.order, OutcomeKind.REFUSED, code)]
            self.left.append(effect)
        return await super().perform(effect)


@simulated
async def test_frozen_places_held_for_the_disk_never_leave_and_do_not_wait_for_it() -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        rig.disk.sync_delay_s = 5
        waiting = [asyncio.ensure_future(buy(rig.bot, str(90 + n))) for n in range(3)]
        await later(0.01)
        before = rig.clock.now_ns()
        proof = await rig.bot.freeze("test", "ops")
        assert proof.verified
        assert rig.clock.now_ns() - before < 5 * 10**9
        for refused in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(refused, OrderRefused)
            assert (refused.code, refused.executed) == ("frozen_at_send", False)
        await later(20)
        assert venue.called(Place) == []


@simulated
async def test_frozen_and_unfrozen_while_places_wait_for_the_disk() -> None:
    """Their epoch is over: what was decided before the freeze does not leave after it."""
    venue = HandVenue()
    async with Rig(venue) as rig:
        rig.disk.sync_delay_s = 5
        first = await buy(rig.bot, "90", wait=False)
        freezing = asyncio.ensure_future(rig.bot.freeze("test", "ops"))
        await asyncio.sleep(0)
        await rig.bot.unfreeze("ops", "it was a test", force=True)
        second = await buy(rig.bot, "91", wait=False)
        await later(20)
        assert [place.client_id for place in venue.called(Place)] == [second.client_id]
        assert first.status == "rejected"
        with pytest.raises(CommandRejected) as rejected:
            await freezing
        assert rejected.value.code == "unfrozen"


@pytest.mark.parametrize("unfreeze", [False, True])
@simulated
async def test_frozen_while_places_wait_in_the_adapters_own_queue(unfreeze: bool) -> None:
    venue = Throttled(1.0)
    async with Rig(venue) as rig:
        waiting = asyncio.ensure_future(buy(rig.bot))
        await later(0.5)
        freezing = asyncio.ensure_future(rig.bot.freeze("test", "ops"))
        await asyncio.sleep(0)
        if unfreeze:
            await rig.bot.unfreeze("ops", "it was a test", force=True)
        with pytest.raises(OrderRefused) as refused:
            await waiting
        assert refused.value.code == ("stale_epoch" if unfreeze else "frozen_at_send")
        assert venue.left == []
        await asyncio.gather(freezing, return_exceptions=True)


@simulated
async def test_frozen_between_the_decision_and_the_first_turn_of_its_task() -> None:
    """Without a journal nothing is held: the place's task exists, but has not begun."""
    venue = HandVenue()
    async with Rig(venue, journal=None) as rig:
        order = await buy(rig.bot, wait=False)
        assert (await rig.bot.freeze("test", "ops")).verified
        assert venue.called(Place) == []
        assert order.status == "rejected"


@simulated
async def test_frozen_while_a_place_is_on_the_wire() -> None:
    """It has left; the freeze is proven only when it has ended."""
    plan = FaultPlan(script=(Scripted(Place, 1, Fault.SLOW_REQUEST, 900),))
    venue = PaperVenue([BTC, ETH], faults=plan)
    async with Rig(venue) as rig:
        order = await buy(rig.bot, wait=False)
        await later(0.1)
        assert len(venue.sent) > 3
        proof = await rig.bot.freeze("test", "ops")
        assert proof.verified
        assert order.status == "cancelled"
        assert venue.exchange.all_open() == ()


@simulated
async def test_frozen_replaces_do_not_leave_either() -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        order = await buy(rig.bot)
        rig.disk.sync_delay_s = 5
        replacing = asyncio.ensure_future(rig.bot.replace(order, "2", "90"))
        await later(0.01)
        await rig.bot.freeze("test", "ops")
        with pytest.raises(OrderRefused):
            await replacing
        assert venue.called(Replace) == []


# --- an own bug -----------------------------------------------------------------------------------------------------


def _failing(monkeypatch: pytest.MonkeyPatch, *kinds: type) -> None:
    real = engine.step

    def step(core: Any, event: Any) -> Any:
        if isinstance(event, kinds):
            raise ZeroDivisionError("planted")
        return real(core, event)

    monkeypatch.setattr(engine, "step", step)


@simulated
async def test_bug_a_step_that_raises_freezes_with_trigger_invariant(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        await buy(rig.bot)
        _failing(monkeypatch, MarkPrice)
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.mark(BTC, "5")
        assert (rejected.value.code, rejected.value.executed) == ("internal_error", False)
        (freeze,) = rig.events(Freeze)
        assert freeze.trigger is Trigger.INVARIANT
        assert "planted" in freeze.reason
        assert (await rig.bot.proof()).verified
    assert venue.open == {}
    assert "planted" in caplog.text
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_bug_in_a_submit_is_a_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig(HandVenue()) as rig:
        _failing(monkeypatch, SubmitOrder)
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot)
        assert (denied.value.code, denied.value.executed) == ("internal_error", False)


@simulated
async def test_bug_a_broken_invariant_freezes_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        monkeypatch.setattr(engine, "broken", lambda b, e, a, f: ("SAFE-1: planted",) if isinstance(e, SubmitOrder) else ())  # noqa: ARG005
        with pytest.raises(OrderRefused):
            await buy(rig.bot)
        assert rig.events(Freeze)[0].trigger is Trigger.INVARIANT
        assert venue.called(Place) == []


@simulated
async def test_bug_a_second_one_in_the_freeze_stops_everything_and_tells_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = HandVenue(Cancel=for_ever)
    rig = Rig(venue)
    await rig.bot.start()
    order = await buy(rig.bot)
    waiting = asyncio.ensure_future(rig.bot.cancel(order))
    await later(0.01)
    _failing(monkeypatch, MarkPrice, Freeze, OrderCancelled)
    with pytest.raises(RunnerStopped) as stopped:
        await rig.bot.mark(BTC, "5")
    assert stopped.value.code == "broken"
    assert isinstance(stopped.value.__cause__, ZeroDivisionError)
    with pytest.raises(RunnerStopped) as told:
        await waiting
    assert told.value.executed is None
    calls, seq = len(venue.calls), rig.bot.core.seq
    for again in (buy(rig.bot), rig.bot.freeze("x", "y"), rig.bot.cancel(order)):
        with pytest.raises(RunnerStopped, match="planted"):
            await again
    await later(100)
    assert (len(venue.calls), rig.bot.core.seq) == (calls, seq)
    with pytest.raises(StoppedUnproven, match="planted"):
        await rig.bot.stop()
    assert rig.disk.locked == {}
    assert venue.closed == 1
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_bug_at_the_very_start_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, Started)
    rig = Rig(HandVenue())
    with pytest.raises(RunnerStopped):
        await asyncio.wait_for(rig.bot.start(), 100)
    assert rig.disk.locked == {}


@simulated
async def test_bug_an_adapter_that_emits_what_is_no_event_freezes() -> None:
    venue = HandVenue()
    async with Rig(venue) as rig:
        venue.emit("nonsense")
        assert rig.events(Freeze)[0].trigger is Trigger.INVARIANT
        assert (await rig.bot.proof()).verified


# --- with a store ---------------------------------------------------------------------------------------------------


@simulated
async def test_two_runners_freeze_each_other_through_the_store() -> None:
    conf = config(store=StorePolicy(configured=True))
    loop_state: list[MemoryState] = []
    rig = Rig(conf=conf, store=MemoryStore(_state(loop_state)), who="one")
    other = Rig(conf=config(session="other01", store=conf.store), store=MemoryStore(loop_state[0]), who="two")
    async with rig, other:
        await buy(other.bot)
        assert (await rig.bot.freeze("test", "ops")).verified
        await later(3)
        assert other.bot.status().modes == {"": Mode.FROZEN}
        assert other.events(SweepReport) == []
        assert other.effects(SweepReport)[0].status is SweepStatus.SUCCESS
        await other.bot.unfreeze("ops", "well again")
        assert other.bot.status().modes == {}


def _state(kept: list[MemoryState]) -> MemoryState:
    loop = asyncio.get_running_loop()
    kept.append(MemoryState(lambda: round(loop.time() * 10**9)))
    return kept[0]


# --- live -----------------------------------------------------------------------------------------------------------


def test_live_on_a_real_loop_with_a_real_disk(tmp_path: Path) -> None:
    path = tmp_path / "bot.jsonl"

    async def main() -> None:
        venue = PaperVenue([BTC, ETH], seed=1, latency_ms=(0, 0))
        async with Runner(config(), venue=venue, journal=path) as bot:
            order = await buy(bot)
            proof = await bot.freeze("venue looks ill", by="ops")
            assert proof.verified
            assert order.status == "cancelled"
        async with Runner(config(), venue=venue, journal=path) as bot:
            assert (await bot.proof()).verified

    asyncio.run(main())


def test_live_the_first_cancel_is_handed_over_before_anything_waits_for_the_disk(tmp_path: Path) -> None:
    order: list[str] = []

    class Noting(RealDisk):
        async def create(self, name: str) -> Any:
            file = await super().create(name)
            append = file.append

            async def noted(data: bytes) -> None:
                await append(data)
                order.append("synced")

            file.append = noted  # type: ignore[method-assign]
            return file

    async def main() -> None:
        venue = HandVenue()
        bot = Runner(config(), venue=venue, journal=tmp_path / "bot.jsonl", disk=Noting())
        await bot.start()
        await buy(bot)
        order.clear()
        venue.behave["CancelAll"] = noting(venue)
        asyncio.get_running_loop().call_soon(order.append, "one turn")
        freezing = asyncio.ensure_future(bot.freeze("now", "ops"))
        await freezing
        assert order[:2] == ["one turn", "cancel"]
        await bot.stop()

    def noting(venue: HandVenue) -> Any:
        async def cancel(effect: Any) -> Any:
            order.append("cancel")
            return venue.well(effect)

        return cancel

    asyncio.run(main())


def test_live_a_second_process_is_turned_away(tmp_path: Path) -> None:
    path = tmp_path / "bot.jsonl"
    program = (
        "import asyncio\n"
        "from haltcore.adapters import PaperVenue, Runner\n"
        "from haltcore.fsm import Config\n"
        f"bot = Runner(Config('test001', ('BTCUSDT',)), venue=PaperVenue(['BTCUSDT']), journal={str(path)!r})\n"
        "asyncio.run(bot.start())\n"
    )

    async def main() -> None:
        async with Runner(config(), venue=PaperVenue([BTC, ETH]), journal=path) as bot:
            done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False)
            assert done.returncode != 0
            assert "locked by" in done.stderr
            await buy(bot)

    asyncio.run(main())


__all__ = ["Side"]
