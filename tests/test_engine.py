"""Goal: the runner keeps its duties on the path of an event: 1 to 4, 9, and what it does over a bug of our own.

The other duties: 5 and 6 in ``test_hands.py``, 7 and 10 in ``test_start_stop.py``, 8 and the freeze's last check in ``test_held_back.py``.

Method: each duty has its tests by name, on simulated time, with the real journal over a disk in memory. Where a duty needs somebody who
misbehaves, a venue made by hand does so. Last, the runner on a real loop with a real disk.
"""

import asyncio
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters import engine
from haltcore.adapters.answers import CommandRejected, OrderDenied, OrderRefused, RunnerStopped, StoppedUnproven
from haltcore.adapters.disk import MemoryDisk, RealDisk
from haltcore.adapters.journal import Journal
from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.ports import REPORTED
from haltcore.adapters.runner import Runner
from haltcore.effects import (
    Cancel,
    CancelAll,
    CancelTarget,
    Effect,
    Mode,
    Place,
    Qty,
    Side,
    SweepReport,
    SweepStatus,
    Trigger,
    bps,
    price,
    usd,
)
from haltcore.fsm.config import Config, CoolDown, FreezeClass, StorePolicy, Triggers
from haltcore.fsm.events import (
    EVIDENCE_CLASSES,
    EdgeUpdate,
    Freeze,
    MarkPrice,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderRejected,
    OutcomeKind,
    OverrideLimits,
    Restarted,
    Started,
    SubmitOrder,
    Unfreeze,
    VenueLink,
)
from haltcore.fsm.limits import Limits
from haltcore.fsm.outcomes import outcome
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, ETH, config
from tests.runner_rig import LOG, DurableVenue, HandVenue, Rig, acknowledged, buy, for_ever, later, simulated

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
        for n in range(30):
            await rig.bot.mark(BTC, 80 + n)
        await later(1)
        assert len(rig.disk.content) > 1, "also while nothing is placed"
        await rig.bot.cancel(await buy(rig.bot))
    async with Rig(disk=rig.disk) as again:
        assert isinstance(again.seen[0][0], Restarted)


# --- 3: durable before any effect that adds risk --------------------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.5])
@simulated
async def test_3_no_order_leaves_before_its_record_is_on_disk(delay_s: float) -> None:
    disk = MemoryDisk()
    disk.sync_delay_s = delay_s
    venue = DurableVenue(disk)
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
        place = rig.effects(Place)[0]
        cancel = Cancel((99, 1), BTC, CancelTarget(place.order, place.client_id, ""), False, 0, place.fence)
        query = venue.called(type(venue.calls[0]))[0]
        venue.calls.clear()
        rig.bot._hands._may_send = lambda _: ""
        rig.bot._dispatch([place, query, cancel])
        await asyncio.sleep(0)
        assert [type(effect) for effect in venue.calls] == [Cancel, type(query), Place]


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


# --- an own bug -----------------------------------------------------------------------------------------------------


def _failing(monkeypatch: pytest.MonkeyPatch, *kinds: type) -> None:
    real = engine.step

    def step(core: Any, event: Any) -> Any:
        if isinstance(event, kinds):
            raise ZeroDivisionError("planted")
        return real(core, event)

    monkeypatch.setattr(engine, "step", step)


@simulated
async def test_bug_a_step_that_raises_freezes_with_trigger_invariant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
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
    await later(0)
    assert rig.bot._hands.tasks == {}
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
async def test_bug_in_the_freeze_ends_what_is_queued_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = HandVenue()
    async with Rig(venue, on_stop="hand_over") as rig:
        real, seq = engine.step, rig.bot.core.seq

        def step(core: Any, event: Any) -> Any:
            if isinstance(event, Freeze):
                venue.emit(VenueLink(venue.now_ns(), False, "queued"))
            if isinstance(event, (Freeze, MarkPrice)):
                raise ZeroDivisionError
            return real(core, event)

        monkeypatch.setattr(engine, "step", step)
        with pytest.raises(RunnerStopped):
            await rig.bot.mark(BTC, "5")
        assert rig.bot.core.seq == seq


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


def _words(venue: HandVenue) -> list[Any]:
    """What a venue must not be able to say. All but the last would change who may do what."""
    now = venue.now_ns()
    return [
        Unfreeze(now, "", "mallory", "by the venue's socket", True),
        SubmitOrder(now, BTC, Side.BUY, Qty(10**10), price(50)),
        OverrideLimits(now, BTC, "", Limits(), 10**6, "mallory", "more"),
        Restarted(now, config(), "mallory"),
        EdgeUpdate(now, "", bps(99)),
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("way", ["emitted", "returned"])
@simulated
async def test_a_venue_that_says_what_only_a_person_or_the_bot_may_say_is_not_obeyed_and_freezes(number: int, way: str) -> None:
    async def place(effect: Place) -> list[Any]:
        return [_words(venue)[number], OrderAccepted(venue.now_ns(), effect.client_id, "v1"), acknowledged(effect, venue.now_ns())]

    venue = HandVenue(**({"Place": place} if way == "returned" else {}))
    async with Rig(venue) as rig:
        if way == "returned":
            order = await rig.bot.submit(BTC, "buy", "1", price="100")
            assert order.status == "new"
        else:
            venue.emit(_words(venue)[number])
        said = type(_words(venue)[number])
        taken = [event for event in rig.events(said) if not isinstance(event, SubmitOrder) or event.price == price(50)]
        assert taken == []
        assert rig.events(Freeze)[0].trigger is Trigger.INVARIANT
        assert "no adapter may report that" in rig.events(Freeze)[0].reason


def test_what_an_adapter_may_report_is_no_command_and_no_answer() -> None:
    names = {kind.__name__ for kind in REPORTED} - {kind.__name__ for kind in EVIDENCE_CLASSES}
    assert names == {"InstrumentDefined", "MarkPrice", "Heartbeat", "VenueLink"}
    assert set(EVIDENCE_CLASSES) < set(REPORTED)


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
        with pytest.raises(CommandRejected, match="ops in session test001"):
            await other.bot.unfreeze("ops", "well again")
        for each in (rig, other):
            await each.bot.unfreeze("ops", "well again")
            await later(2)
        assert [each.bot.status().modes for each in (rig, other)] == [{}, {}]


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


# --- found by a hostile review ------------------------------------------------------------------------------------------


@simulated
async def test_3_a_freeze_survives_a_power_failure() -> None:
    rig = Rig()
    await rig.bot.start()
    await buy(rig.bot)
    await rig.bot.freeze("venue looks ill", "ops")
    await later(1)
    assert rig.disk.synced[LOG] == len(rig.disk.content[LOG]), "what was recorded last has to be durable although nothing waits for it"
    rig.bot.abandon()
    rig.disk.crash(0)
    again = Rig(venue=rig.venue, disk=rig.disk)
    await again.bot.start()
    with pytest.raises(OrderDenied):
        await buy(again.bot)
    await again.bot.stop()


@simulated
async def test_3_what_is_recorded_during_a_sync_is_synced_after_it() -> None:
    rig = Rig(venue=HandVenue())
    await rig.bot.start()
    rig.disk.sync_delay_s = 0.05
    await rig.bot.mark(BTC, "100")
    await later(0.01)
    await rig.bot.mark(BTC, "101")
    await later(1)
    assert rig.disk.synced[LOG] == len(rig.disk.content[LOG])
    assert b'{"n":%d,' % rig.bot.core.seq in rig.disk.content[LOG]
    await rig.bot.stop()


def test_3_a_write_that_blocks_does_not_hold_up_the_cancels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, blocked, real = threading.Event(), [], os.write

    def write(descriptor: int, data: bytes) -> int:
        if armed and not cancelled.is_set():
            blocked.append(cancelled.wait(5))
        return real(descriptor, data)

    armed: list[bool] = []

    async def work() -> None:
        venue = HandVenue()

        async def cancel(effect: Effect) -> Any:
            cancelled.set()
            return venue.well(effect)

        venue.behave["CancelAll"] = cancel
        async with Runner(config(), venue=venue, journal=tmp_path / "bot.jsonl", people=People(lambda _: None)) as bot:
            await buy(bot)
            armed.append(True)
            await bot.freeze("x", "y")

    monkeypatch.setattr("haltcore.adapters.disk.os.write", write)
    asyncio.run(work())
    assert all(blocked), "the cancels waited for the disk"


@simulated
async def test_8_an_odd_error_of_the_disk_refuses_what_is_held_and_freezes() -> None:
    rig = Rig(venue=HandVenue())
    await rig.bot.start()
    await later(1)

    async def broken(_: bytes) -> None:
        raise RuntimeError("the pool is shut down")

    rig.bot._durability.journal._file.append = broken  # type: ignore[union-attr, method-assign]
    with pytest.raises(OrderRefused) as caught:
        await buy(rig.bot)
    assert caught.value.code in ("journal_failed", "frozen_at_send")
    assert rig.bot.status().modes
    assert not rig.venue.called(Place)
    rig.bot.abandon()


@simulated
async def test_7_a_log_without_a_record_is_begun_anew_by_another_session() -> None:
    disk = MemoryDisk()
    await Journal.create(LOG, config(session="aaaaaaa"), disk)
    disk.crash(0)
    for _ in range(2):
        rig = Rig(disk=disk, conf=config(session="bbbbbbb"))
        await rig.bot.start()
        rig.bot.abandon()
        disk.crash(10**9)
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_10_a_hand_over_refuses_what_is_held() -> None:
    rig = Rig(venue=HandVenue(), on_stop="hand_over")
    await rig.bot.start()
    rig.disk.sync_delay_s = 1
    order = asyncio.ensure_future(buy(rig.bot))
    await later(0.1)
    await rig.bot.stop()
    with pytest.raises(OrderRefused) as caught:
        await order
    assert caught.value.code == "stopping_at_send"
    assert not rig.venue.called(Place)


@simulated
async def test_two_runners_never_have_the_same_name_by_default() -> None:
    assert Rig(who="").bot._who != Rig(who="").bot._who


@simulated
async def test_half_of_a_surrogate_pair_from_the_venue_does_not_end_the_journal() -> None:
    venue = HandVenue()

    async def refuse(effect: Any) -> Any:
        now = venue.now_ns()
        return [OrderRejected(now, effect.client_id, "bad \ud800"), outcome(effect, now, OutcomeKind.REFUSED, "\udc00")]

    venue.behave["Place"] = refuse
    async with Rig(venue=venue) as rig:
        with pytest.raises(OrderRefused):
            await buy(rig.bot)
        assert not rig.bot.status().journal_failed


def test_7_two_names_of_one_log_are_one_log(tmp_path: Path) -> None:
    """Found by a new user: continued through a symbolic link, the second segment was not seen, and its ids were given again."""
    log, link = tmp_path / "a.jsonl", tmp_path / "cur.jsonl"
    log.touch()
    link.symlink_to(log)
    runner = Runner(config(), venue=HandVenue(), journal=link)
    assert runner.status().journal == str(log)


# --- a freeze that would end by itself, and what must not ----------------------------------------------------------------


async def _cooling_down(bot: Runner) -> None:
    """Frozen over the edge, which is well again: in a second that would pass."""
    await bot.edge(BTC, "1")
    await bot.proof()
    await bot.edge(BTC, "5")
    assert bot.status().modes == {"": Mode.FROZEN}


def _fragile() -> Config:
    cool_downs = (CoolDown(FreezeClass.EDGE, 1_000, 1_000),)
    return config(limits=Limits(edge_freeze_threshold_bps=bps(2)), triggers=Triggers(cool_downs=cool_downs))


@simulated
async def test_bug_during_a_freeze_that_may_pass_makes_it_a_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig(HandVenue(), conf=_fragile()) as rig:
        await _cooling_down(rig.bot)
        await later(2)
        assert rig.bot.status().modes == {}, "left alone it passes"
        await _cooling_down(rig.bot)
        with monkeypatch.context() as planted:
            planted.setattr(engine, "broken", lambda *_: ("SAFE-5: planted",))
            for n in range(5):
                await rig.bot.mark(BTC, str(100 + n))
        assert [event.trigger for event in rig.events(Freeze)] == [Trigger.INVARIANT], "once, however often it is seen"
        await later(10)
        assert rig.bot.status().modes == {"": Mode.FROZEN}
        await rig.bot.unfreeze("ops", "looked into it")
        with monkeypatch.context() as planted:
            planted.setattr(engine, "broken", lambda *_: ("SAFE-5: planted",))
            await rig.bot.mark(BTC, "100")
        assert len(rig.events(Freeze)) == 2, "and again after a person has lifted it"
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_8_a_journal_that_fails_during_a_freeze_that_may_pass_makes_it_a_persons(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(HandVenue(), conf=_fragile())
    await rig.bot.start()
    await _cooling_down(rig.bot)
    await later(0.1)
    rig.disk.sync_error = errno.EIO
    await rig.bot.mark(BTC, "100")
    await later(10)
    assert [event.trigger for event in rig.events(Freeze)] == [Trigger.JOURNAL]
    assert rig.bot.status().modes == {"": Mode.FROZEN}
    assert "the journal failed" in caplog.text, "no alert says so: it was frozen already"
    rig.bot.abandon()


# --- what no log can hold -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [10**77, 10**3_000, 10**5_000, -(10**5_000), 0.5], ids=["77", "3000", "5000", "-5000", "float"])
@simulated
async def test_a_report_that_no_log_can_hold_is_refused_and_freezes(amount: Any) -> None:
    """Beyond 4,300 digits Python does not even turn a number into text."""
    venue = HandVenue()
    async with Rig(venue, conf=config(limits=Limits(max_inventory_usd=usd("1000")))) as rig:
        order = await buy(rig.bot)
        await rig.bot.mark(BTC, "100")
        for _ in range(3):
            venue.emit(OrderFilled(venue.now_ns(), order.client_id, "v", "t1", Qty(amount), price(100), Qty(0), usd(0)))
        assert [event.trigger for event in rig.events(Freeze)] == [Trigger.INVARIANT]
        assert "OrderFilled" in rig.events(Freeze)[0].reason
        assert rig.events(OrderFilled) == []
        assert not rig.bot.status().journal_failed
        assert (await rig.bot.proof()).verified
    assert rig.replayed().kind is Kind.SAME
