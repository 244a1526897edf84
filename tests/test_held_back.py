"""Goal: what must not be sent is not sent: when the journal fails (duty 8), and after a freeze, wherever a place waits.

Method: the disk fails in every way and at every moment, and freezes come while places are held for the disk, queued in an adapter, decided
but not begun, and on the wire. The venue made by hand never asks ``may_send`` by itself, so the runner's own check is what is tested.
"""

import asyncio
import errno
from typing import Any

import pytest
from haltcore.adapters.answers import CommandRejected, OrderDenied, OrderRefused
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.faults import Fault, FaultPlan, Scripted
from haltcore.adapters.journal import JournalFailed
from haltcore.adapters.paper import PaperVenue
from haltcore.effects import Place, Replace, Trigger
from haltcore.fsm.events import Freeze, Outcome, OutcomeKind, VenueLink
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, ETH
from tests.runner_rig import LOG, DurableVenue, HandVenue, Rig, acknowledged, buy, later, simulated

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
        venue, disk = DurableVenue(MemoryDisk()), MemoryDisk()
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
    """A value of a wrong type that got through to the core, say. What is in the log stays readable."""
    venue = HandVenue()
    async with Rig(venue) as rig:
        await buy(rig.bot)
        rig.bot._feed(VenueLink(venue.now_ns(), True, 5))  # type: ignore[arg-type]
        assert rig.events(Freeze)[0].trigger is Trigger.JOURNAL
        assert "unwritable" in rig.events(Freeze)[0].reason
        assert (await rig.bot.proof()).verified
    assert rig.replayed().kind is Kind.SAME


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


