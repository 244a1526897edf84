"""The matrix of ``fsm/degraded.py``, cell by cell: each deed is done by the product's own means while a real server fails in each way.

Goal: what is seen to be done about a deed is what the matrix says, in every cell, and nothing else decides about it.
Method: ``DEEDS`` has a row for each deed, which does it through the public API (a runner with a paper venue over a ``RedisStore``, or the
adapter that the deed belongs to) and makes of what can be seen from outside (the venue, the log, the store itself) a ``Conduct``. It never
looks at the matrix, nor at what the core believes of the store. A fault strikes right before the request that the deed depends on: the
server is killed, refuses by its ACL, hangs, or its reply to that very request is lost. Then the server is well again, since some
conducts only show afterwards. Where nothing fits, the row says so and the test fails.

What a runner knows before it begins is another case than what it finds out: then it must not ask at all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from haltcore.adapters.answers import CommandRejected, OrderDenied, OrderHandle, OrderRefused
from haltcore.adapters.coordination import Coordination
from haltcore.adapters.holds import CoolDowns, Holds, first
from haltcore.adapters.metrics import Metrics
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.plan_publisher import PlanPublisher
from haltcore.adapters.plans import PlanConsumer, Result
from haltcore.adapters.redis_store import script
from haltcore.adapters.shared_breaker import BreakerOpen, SharedBreaker
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    Fence,
    FetchOpenOrders,
    GuardState,
    Metric,
    Mode,
    OrdType,
    Place,
    PublishFreeze,
    ReadFreeze,
    Replace,
    SettleGuard,
    Side,
    Trigger,
    qty,
)
from haltcore.fsm.config import BreakerPolicy
from haltcore.fsm.degraded import MATRIX, Conduct, Deed, conduct
from haltcore.fsm.events import GuardAnswer, LatchAnswer, StoreHealth
from haltcore.fsm.plan import Key, Plan, PlanPolicy, SignedPlan, Status

from tests.faults.scenes import Fault, Scene, play, until, word
from tests.figures import Figures
from tests.helpers import BTC, ETH
from tests.runner_rig import LOG, HandVenue, Rig, buy

MS = 1_000_000
TTL_MS = 600_000
FROZEN = (Mode.FREEZING, Mode.FROZEN)


def fences(rig: Rig) -> set[Fence]:
    """Under which leases was cancelled."""
    return {effect.fence for kind in (Cancel, CancelBatch, CancelAll) for effect in rig.effects(kind)}


def position(rig: Rig, kind: type[Any], **fields: Any) -> int:
    """In which record something of this class stands first, as its event or among its effects; one beyond the last if nowhere."""
    for number, (event, effects) in enumerate(rig.seen):
        for one in (event, *effects):
            if isinstance(one, kind) and all(getattr(one, name) == value for name, value in fields.items()):
                return number
    return len(rig.seen)


# --- what the runner does ---------------------------------------------------------------------------------------------------


async def freeze(scene: Scene) -> Conduct:
    async with scene.runner() as rig:
        await scene.strike(word("publish"))
        record = await rig.bot.begin_freeze("ill", "ops")
        assert rig.bot.mode("") in FROZEN
        (published,) = rig.effects(PublishFreeze)
        assert not rig.outcomes(published), "no answer of the store was waited for"
        assert record == rig.bot.core.seq
        with pytest.raises(OrderDenied):
            await buy(rig.bot)
        await until(lambda: b'"ill"' in rig.disk.content[LOG], "it is in the log")
        await until(lambda: rig.outcomes(published), "the store's answer, or none, has come")
        scene.heal()
        look = scene.store(direct=True)

        async def shown() -> bool:
            return [row.scope for row in (await look.read_latch("")).rows] == [""]

        await until(shown, "the store shows the freeze")
        return Conduct.LATER


async def cancel(scene: Scene) -> Conduct:
    async with scene.runner() as rig:
        one, _ = await buy(rig.bot), await buy(rig.bot, "99")
        await scene.strike(word("acquire"))
        assert (await rig.bot.cancel(one)).status == "cancelled", "a single one is nobody's business but the venue's"
        rig.seen.clear()
        assert (await rig.bot.freeze("ill", "ops")).verified
        assert not rig.venue.exchange.all_open()
        fenced = {fence != NO_FENCE for fence in fences(rig)}
        scene.heal()
    if scene.fault is Fault.NONE:
        await _goes_without_the_lease(scene)
    (under_a_lease,) = fenced
    return Conduct.LEASE_FIRST if under_a_lease else Conduct.GO


async def _goes_without_the_lease(scene: Scene) -> None:
    """Another has the lease, and does nothing: it is waited for a while, and no longer."""
    look = scene.store(direct=True)
    assert (await look.acquire("sweep", "peer", TTL_MS)).mine
    await look.clear("", "", (await look.read_latch("")).rows[0].epoch, force=True)
    async with scene.runner(session="matrix2") as rig:
        await buy(rig.bot)
        assert (await rig.bot.freeze("ill", "ops")).verified
        assert not rig.venue.exchange.all_open()
        assert fences(rig) == {NO_FENCE}


async def verify(scene: Scene) -> Conduct:
    """At the start, and as a proof: what is open is asked without the store."""
    venue = PaperVenue([BTC, ETH], seed=1)
    await scene.strike(word("read"))
    async with scene.runner(venue) as rig:
        assert position(rig, FetchOpenOrders) <= position(rig, ReadFreeze), "the venue is asked as soon as the store is"
        proof = await rig.bot.freeze("ill", "ops")
        assert proof.verified
        assert any(isinstance(effect, FetchOpenOrders) for effect in venue.sent)
        scene.heal()
    return Conduct.GO


async def place(scene: Scene) -> Conduct:
    async with scene.runner() as rig:
        return await _guarded(scene, rig, Place, buy(rig.bot))


async def amend(scene: Scene) -> Conduct:
    async with scene.runner() as rig:
        order = await buy(rig.bot)
        await until(lambda: not rig.bot.core.flow.guards, "the first order is settled")
        rig.seen.clear()
        return await _guarded(scene, rig, Replace, rig.bot.replace(order, 2, 101))


class KnewBefore(Exception):
    """A poll found out that the store fails before the deed could, which is the other case; see below."""


async def _guarded(scene: Scene, rig: Rig, kind: type[Place] | type[Replace], call: Awaitable[OrderHandle]) -> Conduct:
    """A request that adds risk: done under a claim, or not done, and then settled in the store or not there at all."""
    await scene.strike(word("claim"))
    (outcome,) = await asyncio.gather(call, return_exceptions=True)
    if isinstance(outcome, OrderDenied):
        raise KnewBefore from outcome
    done = isinstance(outcome, OrderHandle)
    assert done or (isinstance(outcome, OrderRefused) and outcome.executed is False)
    (claim,) = rig.effects(ClaimGuard)
    sent = [effect for effect in rig.venue.sent if isinstance(effect, kind)]
    asked = position(rig, ClaimGuard)
    scene.heal()
    await until(lambda: not rig.bot.core.flow.guards, "the claim is settled")
    row = await scene.store(direct=True).look(claim.key)
    if done:
        assert row is not None
        assert row.state is GuardState.DONE
        granted = position(rig, GuardAnswer, effect=claim.id)
        return Conduct.CLAIM_FIRST if asked < granted <= position(rig, kind) else Conduct.GO
    assert not sent
    if row is None:
        assert not rig.effects(SettleGuard)
        return Conduct.REFUSE
    assert row.state is GuardState.REJECTED
    return Conduct.RESOLVE


async def unfreeze(scene: Scene) -> Conduct:
    # Read once, and then no more: whoever has said freeze since is found out by the store alone.
    async with scene.runner(poll_ms=60_000 if scene.fault is Fault.NONE else 50) as rig:
        look = scene.store(direct=True)
        await rig.bot.freeze("ill", "ops")
        if scene.fault is Fault.NONE:
            await until(lambda: len(rig.events(LatchAnswer)) == 2, "the store knows the freeze")
            await look.publish("peer", "", Trigger.MANUAL, "ill as well", "peer")
            with pytest.raises(CommandRejected) as rejected:
                await rig.bot.unfreeze("ops", "well")
            assert rejected.value.code == "unfreeze_stale", "the store has said no"
            with pytest.raises(CommandRejected) as rejected:
                await rig.bot.unfreeze("ops", "well, but the peer has not agreed")
            assert (rejected.value.code, rig.bot.mode("")) == ("peer_frozen", Mode.FROZEN)
            await look.clear("peer", "", (await look.read_latch("peer")).rows[0].epoch)
            await rig.bot.unfreeze("ops", "well, and the peer agrees")
            assert rig.bot.mode("") is Mode.ACTIVE
            assert not (await look.read_latch("")).rows
            return Conduct.ASK
        await until(lambda: rig.bot.core.desk.store.latch, "the store shows the freeze")  # type: ignore[union-attr]
        await scene.strike(word("clear"))
        with pytest.raises(CommandRejected):
            await rig.bot.unfreeze("ops", "well")
        assert rig.bot.mode("") is Mode.FROZEN
        scene.heal()
        polled = len(rig.effects(ReadFreeze))
        await until(lambda: len(rig.effects(ReadFreeze)) >= polled + 4, "the store is read again")

        async def shown() -> bool:
            return bool((await look.read_latch("")).rows)

        await until(shown, "the store shows the freeze, also if it was cleared there unheard")
        assert rig.bot.mode("") is Mode.FROZEN
        return Conduct.REFUSE


async def record(scene: Scene) -> Conduct:
    """The outcome of a place, which becomes known when the store has just failed."""
    venue = HandVenue()

    async def placed(effect: Place) -> Any:
        await scene.strike(word("settle"))
        return venue.well(effect)

    venue.behave["Place"] = placed
    async with scene.runner(venue) as rig:
        order = await buy(rig.bot)
        assert order.status == "new"
        (claim,) = rig.effects(ClaimGuard)
        await until(lambda: rig.effects(SettleGuard), "the store is told")
        told = rig.effects(SettleGuard)[0]
        await until(lambda: b'"class":"SettleGuard"' in rig.disk.content[LOG], "it is in the log")
        assert (await rig.bot.cancel(order)).status == "cancelled", "it holds up nothing"
        await until(lambda: rig.outcomes(told), "the store's answer, or none, has come")
        scene.heal()
        await until(lambda: not rig.bot.core.flow.guards, "the store has heard it")
        row = await scene.store(direct=True).look(claim.key)
        assert row is not None
        assert row.state is GuardState.DONE
        return Conduct.LATER


async def telemetry(scene: Scene) -> Conduct:
    metrics = Metrics((BTC, ETH))
    told: dict[str, int] = {}
    people = People(lambda alert: told.setdefault(alert.code, len(rig.seen)))
    async with scene.runner(metrics=metrics, people=people) as rig:
        await scene.strike(word("publish"))
        await rig.bot.begin_freeze("ill", "ops")
        (published,) = rig.effects(PublishFreeze)
        await until(lambda: rig.outcomes(published), "the store's answer, or none, has come")
        assert told["frozen"] <= position(rig, LatchAnswer, effect=published.id), "people hear it before the store has answered"
        assert 'freeze_triggered_total{reason="manual"} 1.0' in metrics.text()
        if scene.fault is not Fault.LOST:  # which is over before anybody can look
            assert f"mm_coordination_up {float(scene.fault is Fault.NONE)}" in metrics.text()
        scene.heal()
        return Conduct.GO


# --- what the adapters do ---------------------------------------------------------------------------------------------------


async def dedupe(scene: Scene) -> Conduct:
    store = scene.store()
    assert await first(store, "old", "somebody", TTL_MS)
    await scene.strike(word("once"))
    said = await first(store, "new", "mine", TTL_MS), await first(store, "old", "mine", TTL_MS)
    scene.heal()
    assert await first(store, "new", "mine", TTL_MS), "asked again, it is one's own"
    return {(True, False): Conduct.ASK, (False, False): Conduct.ASSUME}[said]


async def hold(scene: Scene) -> Conduct:
    store = scene.store()
    holds = Holds(store, "mine", time.time_ns, TTL_MS)
    await Holds(scene.store(direct=True), "peer", time.time_ns, TTL_MS).hold(ETH, "drift")
    await scene.strike(word("look"))
    free, taken = await holds.held(BTC), await holds.held(ETH)
    may_act = await holds.renew(BTC)
    scene.heal()
    assert taken is not None
    assert not may_act
    return Conduct.ASK if free is None and taken.owner == "peer" else _unknown(free)


def _unknown(found: Any) -> Conduct:
    assert found is not None
    assert (found.owner, found.known) == ("", False)
    return Conduct.ASSUME


async def cool_down(scene: Scene) -> Conduct:
    mine, peer = (CoolDowns(scene.store(direct), who, time.time_ns, TTL_MS) for direct, who in ((False, "mine"), (True, "peer")))
    assert await peer.fire(ETH, "drift") == 0
    await scene.strike(word("cool"))
    free, taken = await mine.fire(BTC, "drift"), await mine.fire(ETH, "drift")
    scene.heal()
    assert 0 < taken <= TTL_MS
    if free:
        assert await mine.fire(BTC, "drift") == 0, "asked again, it goes on with the same request"
    return Conduct.ASK if free == 0 else Conduct.ASSUME


async def breaker(scene: Scene) -> Conduct:
    """One that others have opened meanwhile, and one that is open here and might let a probe through."""
    now_ns = [time.time_ns()]
    policy = BreakerPolicy(failures=3, window_ms=60_000, open_ms=5_000, probes=1)

    def made(job: str, direct: bool = False) -> SharedBreaker:
        return SharedBreaker(job, scene.store(direct), policy, lambda: now_ns[0])

    async def lets_through(one: SharedBreaker) -> bool:
        try:
            await one.permit()
        except BreakerOpen:
            return False
        return True

    closed, opened, peer = made("closed"), made("opened"), made("closed", direct=True)
    assert await lets_through(closed)
    for _ in range(3):
        await opened.failure(await opened.permit(), "timeout")
    now_ns[0] += policy.open_ms * MS
    for _ in range(3):
        await peer.failure(await peer.permit(), "timeout")
    await scene.strike(b":state:breaker:closed")
    with_others = not await lets_through(closed)
    if scene.fault is Fault.LOST:
        scene.heal()
        await scene.strike(b":state:breaker:opened")
    probed = await lets_through(opened)
    scene.heal()
    return {(False, False): Conduct.LOCAL, (True, True): Conduct.ASK}[with_others, probed]


KEY = Key("k1", b"1" * 32)


def plan() -> Plan:
    now_ms = time.time_ns() // MS
    return Plan("CLOSE", BTC, Side.SELL, qty("0.007"), OrdType.MARKET, True, "drift", "reconcile", "c1", now_ms, now_ms + TTL_MS)


async def on_the_stream(store: Coordination, consumer: str = "reader") -> int:
    return len(await store.read("plans", consumer, 100))


async def publish(scene: Scene) -> Conduct:
    publisher = PlanPublisher(scene.store(), "plans", KEY)
    await scene.strike(b":stream:plans")
    signed = await publisher.publish(plan())
    waits = publisher.waiting == (signed.id,)
    scene.heal()
    assert await publisher.flush() == 0
    assert await on_the_stream(scene.store(direct=True)) == 1, "once, also if it had arrived before"
    return Conduct.LATER if waits else Conduct.GO


async def consume(scene: Scene) -> Conduct:
    done: list[str] = []

    async def execute(signed: SignedPlan) -> Result:
        done.append(signed.id)
        return Result(Status.EXECUTED)

    look = scene.store(direct=True)
    await PlanPublisher(look, "plans", KEY).publish(plan())
    idle_ms = 400 if scene.fault is Fault.LOST else 60_000  # given out unheard, it has to be stuck first
    consumer = PlanConsumer(scene.store(), "plans", "c1", PlanPolicy((KEY,), ("reconcile",)), time.time_ns, idle_ms=idle_ms)
    await scene.strike(script("stream_read").sha.encode())
    begun = await consumer.once(execute)
    went, stopped = bool(done), begun.failure is not None
    scene.heal()
    assert await look.pending("plans") == (0 if went else 1), "what was not done is not acknowledged"

    async def executed() -> bool:
        await consumer.once(execute)
        return bool(done)

    await until(executed, "the plan is executed")
    assert len(done) == 1
    assert await look.pending("plans") == 0
    return {(True, False): Conduct.GO, (False, True): Conduct.STOP}[went, stopped]


#: How each deed is done.
DEEDS: dict[Deed, Callable[[Scene], Awaitable[Conduct]]] = {
    Deed.FREEZE: freeze,
    Deed.CANCEL: cancel,
    Deed.VERIFY: verify,
    Deed.PLACE: place,
    Deed.AMEND: amend,
    Deed.UNFREEZE: unfreeze,
    Deed.RECORD: record,
    Deed.DEDUPE: dedupe,
    Deed.HOLD: hold,
    Deed.COOL_DOWN: cool_down,
    Deed.BREAKER: breaker,
    Deed.PUBLISH: publish,
    Deed.CONSUME: consume,
    Deed.TELEMETRY: telemetry,
}
C = Conduct
#: What no part of haltcore does yet: only the table itself is looked at. Whoever adds the machine gives it a row above.
BY_THE_TABLE_ALONE: dict[Deed, tuple[Conduct, Conduct, Conduct]] = {
    Deed.CLOSE_DRIFT: (C.CLAIM_FIRST, C.REFUSE, C.RESOLVE),
    Deed.DEAD_MAN: (C.GO, C.GO, C.GO),
}
TRIES = 5
NOBODY = len(BY_THE_TABLE_ALONE)
_SEEN: dict[tuple[Deed, Fault], Conduct] = {}


def seen(deed: Deed, fault: Fault) -> Conduct:
    """What is done about the deed, looked at once."""
    for left in reversed(range(TRIES)):
        if (deed, fault) in _SEEN:
            break
        try:
            _SEEN[deed, fault] = play(fault, DEEDS[deed])
        except KnewBefore:
            if not left:
                raise
    return _SEEN[deed, fault]


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value[1])
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.value)
def test_cell(deed: Deed, fault: Fault) -> None:
    assert seen(deed, fault) is conduct(deed, fault.health)


def test_no_cell_is_left_out(figures: Figures) -> None:
    """Goes through the matrix, and looks at what was not looked at yet."""
    assert not set(DEEDS) & set(BY_THE_TABLE_ALONE)
    looked = {(deed, fault): seen(deed, fault) for deed in MATRIX if deed not in BY_THE_TABLE_ALONE for fault in Fault}
    for fault in Fault:
        agreeing = [deed for deed in MATRIX if (deed, fault) in looked and looked[deed, fault] is conduct(deed, fault.health)]
        figures(f"matrix: the store {fault.value[1]}", cells=len(MATRIX), tested=len(DEEDS), agreeing=len(agreeing), nobody_asks_yet=NOBODY)
    assert all(found is conduct(deed, fault.health) for (deed, fault), found in looked.items())
    assert {fault.health for fault in Fault} == set(StoreHealth)
    assert {conduct(deed, health) for deed in DEEDS for health in StoreHealth} == set(Conduct), "each word was seen to mean something"


@pytest.mark.parametrize("deed", BY_THE_TABLE_ALONE, ids=lambda deed: deed.value)
def test_what_nobody_does_yet_stands_in_the_table_as_meant(deed: Deed) -> None:
    said = tuple(conduct(deed, health) for health in (StoreHealth.OK, StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT))
    assert said == BY_THE_TABLE_ALONE[deed]


# --- what is known before ---------------------------------------------------------------------------------------------------

#: In the order in which they are done, and counted.
KNOWN_DEEDS = (Deed.PLACE, Deed.AMEND, Deed.CANCEL, Deed.FREEZE, Deed.UNFREEZE)


async def known(scene: Scene) -> tuple[list[str], list[Any]]:
    """The store failed a while ago. What is refused is refused by the gate, what goes ahead goes at once; what was counted, and what the
    store was asked for all the same."""
    async with scene.runner() as rig:
        order = await buy(rig.bot)
        await until(lambda: not rig.bot.core.flow.guards, "the order is settled")
        await scene.strike(b"")
        await until(lambda: rig.bot.status().store == "failing", "the store is known to fail")
        rig.seen.clear()
        for call in (buy(rig.bot, "99"), rig.bot.replace(order, 2, 101)):
            with pytest.raises(OrderDenied) as denied:
                await call
            assert denied.value.code == "store_unavailable"
        assert (await rig.bot.freeze("ill", "ops")).verified
        assert not rig.venue.exchange.all_open()
        assert fences(rig) == {NO_FENCE}
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.unfreeze("ops", "well")
        assert rejected.value.code == "store_unavailable"
        counted = [metric.label for metric in rig.effects(Metric) if metric.name == "mm_coordination_degraded_total"]
        asked = [effect for kind in (ClaimGuard, AcquireLease, ClearFreeze) for effect in rig.effects(kind)]
        scene.heal()
        return counted, asked


@pytest.mark.parametrize("fault", [Fault.KILLED, Fault.REFUSING, Fault.STALLED], ids=lambda fault: fault.value[1])
def test_a_runner_that_knows_does_not_ask(fault: Fault, figures: Figures) -> None:
    counted, asked = play(fault, known)
    figures(f"matrix: the store {fault.value[1]}, known before", deeds=len(counted), requests_to_the_store=len(asked))
    assert not asked
    # A request that is under way when the server is killed is in doubt; and to one that hangs there is no new connection, so what is asked
    # later has certainly not been applied.
    failing = [health for health in StoreHealth if health is not StoreHealth.OK]
    assert len(counted) == len(KNOWN_DEEDS)
    for label, deed in zip(counted, KNOWN_DEEDS, strict=True):
        assert label in [f"{deed.value},{conduct(deed, health).value}" for health in failing]
