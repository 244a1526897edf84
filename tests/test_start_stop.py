"""Goal: a runner starts only from a log that it can trust, stops in bounded time, and never silently (duties 7 and 10).

Method: logs that were sealed, torn, broken and locked, on a disk in memory; ports that do not connect, answer, or let go.
"""

import asyncio
import errno
from typing import Any

import pytest
from haltcore.adapters.answers import CommandRejected, OrderDenied, OrderInDoubt, RunnerStopped, StoppedUnproven
from haltcore.adapters.clock import LoopClock
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.faults import Fault, FaultPlan, Scripted
from haltcore.adapters.journal import JournalFailed
from haltcore.adapters.paper import PaperVenue
from haltcore.effects import FetchOpenOrders, Trigger
from haltcore.fsm.config import ConfigRefused, Triggers
from haltcore.fsm.events import Restarted, VenueLink
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, ETH, config
from tests.runner_rig import EPOCH_NS, LOG, HandVenue, Rig, buy, for_ever, later, simulated

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
    await later(1)
    rig.disk.sync_delay_s = 1e6
    await rig.bot.mark(BTC, "100")
    await later(0.1)
    rig.bot.abandon()
    rig.disk.crash(kept=40)
    rig.disk.sync_delay_s = 0
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


@pytest.mark.parametrize(
    "options", [{"on_stop": "shrug"}, {"max_adding": 0}, {"effect_timeout_s": 0}, {"store": object()}, {"stop_timeout_s": -1}]
)
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
    plan = FaultPlan(script=(Scripted(FetchOpenOrders, 1, Fault.REQUEST_LOST), Scripted(FetchOpenOrders, 3, Fault.SERVICE_UNAVAILABLE)))
    async with Rig(PaperVenue([BTC, ETH], faults=plan)) as rig:
        assert (await buy(rig.bot)).status == "new"


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
async def test_10_hand_over_refuses_what_is_held_and_waits_for_what_is_under_way() -> None:
    disk = MemoryDisk()
    async with Rig(disk=disk, on_stop="hand_over") as rig:
        left = await buy(rig.bot, "99", wait=False)
        await later(0.000001)
        disk.sync_delay_s = 2
        order = await buy(rig.bot, wait=False)
    assert (left.status, order.status) == ("new", "rejected")
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
async def test_10_a_stop_that_comes_while_the_start_is_under_way_stops_it() -> None:
    venue = HandVenue(FetchPositions=for_ever)
    rig = Rig(venue)
    rig.disk.sync_delay_s = 1
    starting = asyncio.ensure_future(rig.bot.start())
    await later(0.5)
    await rig.bot.stop()
    with pytest.raises(RunnerStopped):
        await starting
    assert (rig.disk.locked, venue.closed) == ({}, 1)
    assert len(asyncio.all_tasks()) == 1


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
async def test_10_open_orders_weigh_more_than_a_log_that_cannot_be_sealed() -> None:
    rig = Rig(HandVenue(CancelAll=for_ever), stop_timeout_s=5)
    await rig.bot.start()
    await buy(rig.bot)
    rig.disk.sync_error = errno.EIO
    with pytest.raises(StoppedUnproven) as unproven:
        await rig.bot.stop()
    assert isinstance(unproven.value.__context__, JournalFailed)


@simulated
async def test_10_an_error_in_the_bot_stops_in_good_order_and_is_raised() -> None:
    rig = Rig(HandVenue())

    async def main() -> None:
        async with rig.bot as bot:
            await buy(bot)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await main()
    assert (rig.venue.open, rig.disk.locked) == ({}, {})


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




# --- found by fresh eyes ------------------------------------------------------------------------------------------------


@simulated
async def test_7_a_clock_that_was_set_back_meanwhile_stalls_no_timer() -> None:
    """The wall clock an hour earlier than the log's end: the sweep's pauses still take as long as they say, and no longer."""
    disk = MemoryDisk()
    async with Rig(disk=disk, on_stop="hand_over"):
        pass
    venue = PaperVenue([BTC, ETH], faults=FaultPlan(script=(Scripted(FetchOpenOrders, 3, Fault.RATE_LIMIT, 50),)))
    again = Rig(venue, disk=disk)
    again.clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS - 3_600 * 10**9)
    again.bot.clock = again.clock
    await again.bot.start()
    began_s = asyncio.get_running_loop().time()
    assert (await again.bot.freeze("set back", by="test")).verified
    assert asyncio.get_running_loop().time() - began_s < 60
    stamps = [event.at_ns for event, _ in again.seen]
    assert stamps == sorted(stamps)
    await again.bot.stop()


@simulated
async def test_7_a_report_with_a_stamp_from_the_future_does_not_stop_the_time() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
        rig.bot._receive(VenueLink(rig.clock.now_ns() + 86_400 * 10**9, True, "wild"))
        assert rig.bot.core.now_ns <= rig.clock.now_ns()


async def _set_back_by(seconds: int, **fields: Any) -> Rig:
    """A session, and the next one by a clock that has been set back meanwhile."""
    async with Rig(HandVenue(), conf=config(**fields)) as rig:
        await rig.bot.mark(BTC, "100")
    again = Rig(HandVenue(), disk=rig.disk, conf=config(**fields), on_stop="hand_over")
    again.bot.clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS - seconds * 10**9)
    await again.bot.start()
    return again


@simulated
async def test_7_a_clock_that_was_set_back_meanwhile_freezes_where_that_is_configured() -> None:
    again = await _set_back_by(3_600, triggers=Triggers(clock_jump_ms=1_000))
    record = again.bot.freeze_history(trigger=Trigger.CLOCK_JUMP)[0]
    assert "the clock of the new process stands 35" in record.reason
    assert not any(alert.code == "clock_behind" for alert in again.alerts)
    assert again.events(Restarted)[0].at_ns < EPOCH_NS - 3_599 * 10**9, "the log has the truth"
    await again.bot.stop()
    assert again.replayed().kind is Kind.SAME


@simulated
async def test_7_a_clock_that_was_set_back_meanwhile_is_at_least_told() -> None:
    again = await _set_back_by(3_600)
    assert again.bot.freeze_history(trigger=Trigger.CLOCK_JUMP) == ()
    (alert,) = [alert for alert in again.alerts if alert.code == "clock_behind"]
    assert "ms behind the log" in alert.text
    await again.bot.stop()


@simulated
async def test_7_a_clock_that_goes_on_says_nothing() -> None:
    again = await _set_back_by(0, triggers=Triggers(clock_jump_ms=1))
    assert again.bot.freeze_history(trigger=Trigger.CLOCK_JUMP) == ()
    assert not any(alert.code == "clock_behind" for alert in again.alerts)
    await again.bot.stop()
