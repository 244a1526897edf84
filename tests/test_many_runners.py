"""Many runners on one account freeze together: one cancels for all, any number would be right, and nobody waits for a store.

Method: up to 20 real runners in simulated time, over one paper venue, each with a connection of its own behind a gateway, and over one
store in memory. Every request that reaches the venue is counted by who sent it. At the end the venue's own books say whether anything is
open, and every runner has to have proven it. The store is taken away, hung, or cut off from one of them; the one with the lease dies, or is
slow, or is stopped past its lease.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from haltcore.adapters.answers import CommandRejected
from haltcore.adapters.clock import LoopClock
from haltcore.adapters.gateway import Fences, Gateway
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.ports import Emit, MaySend, NowNs
from haltcore.adapters.runner import Runner
from haltcore.effects import AcquireLease, Alert, Cancel, CancelAll, CancelBatch, Effect, Fence, FetchOpenOrders, Metric, Mode, ReleaseLease
from haltcore.fsm.config import Config, ForeignPolicy, StorePolicy, SweepPolicy, VenueTraits
from haltcore.fsm.core import Core
from haltcore.fsm.events import Event

from tests.helpers import BTC, ETH
from tests.runner_rig import EPOCH_NS, later, simulated

CANCELS = (Cancel, CancelBatch, CancelAll)
ONE_BY_ONE = VenueTraits(cancel_all=False, batch=1)
Pace = Callable[["Link", Effect], Any]


class Link:
    """One runner's way to the venue: counts what leaves, and may hold it up before the last question."""

    def __init__(self, venue: Any, serves: Sequence[type[Effect]]) -> None:
        self.serves = serves
        self.venue = venue
        self.pace: Pace | None = None
        self.left: list[tuple[float, Effect]] = []

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        def watched(effect: Effect) -> str:
            code = may_send(effect)
            if not code:
                self.left.append((asyncio.get_running_loop().time(), effect))
            return code

        self.venue.connect(emit, now_ns, watched)

    async def close(self) -> None:
        await self.venue.close()

    async def perform(self, effect: Effect) -> Sequence[Event]:
        if self.pace is not None and isinstance(effect, CANCELS):
            await self.pace(self, effect)
        return list(await self.venue.perform(effect))

    def sent(self, *kinds: type[Effect]) -> list[Any]:
        return [effect for _, effect in self.left if isinstance(effect, kinds)]


class Clock(LoopClock):
    """A process that was stopped finds its clock ahead of all its timers."""

    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


class Member:
    """A runner of the fleet, and what it was seen to do."""

    def __init__(self, fleet: "Fleet", number: int, conf: dict[str, Any]) -> None:
        tag = f"r{number:06d}"
        self.link = Link(fleet.venue.session(tag), PaperVenue.serves)
        self.store = MemoryStore(fleet.state)
        self.effects: list[tuple[float, Effect]] = []
        self.alerts: list[str] = []
        self.clock = Clock(asyncio.get_running_loop(), EPOCH_NS)
        config = Config(tag, (BTC, ETH), **{"store": StorePolicy(configured=True), **conf})
        self.bot = Runner(
            config, venue=Gateway(self.link, fleet.fences), journal=None, store=self.store, who=f"runner {number}",
            clock=self.clock, people=People(self._told), observer=self._observe, effect_timeout_s=100,
        )  # fmt: skip

    def _told(self, alert: Alert) -> None:
        self.alerts.append(alert.code)

    def _observe(self, event: Event, core: Core, effects: tuple[Effect, ...]) -> None:  # noqa: ARG002
        self.effects += [(asyncio.get_running_loop().time(), effect) for effect in effects]

    def decided(self, *kinds: type[Effect]) -> list[Any]:
        return [effect for _, effect in self.effects if isinstance(effect, kinds)]

    def counted(self, name: str, label: str = "") -> int:
        return sum(m.value for m in self.decided(Metric) if m.name == name and m.label == label)

    @property
    def frozen(self) -> bool:
        return self.bot.status().modes.get("") is Mode.FROZEN


class Fleet:
    """Runners on one account, one venue and one store. ``conf`` are fields of everybody's configuration."""

    def __init__(self, count: int, seed: int = 1, **conf: Any) -> None:
        loop = asyncio.get_running_loop()
        self.state = MemoryState(lambda: EPOCH_NS + round(loop.time() * 10**9))
        self.venue = PaperVenue([BTC, ETH], seed=seed, latency_ms=(5, 15))
        self.fences = Fences()
        self.members = [Member(self, number, conf) for number in range(count)]

    async def __aenter__(self) -> "Fleet":
        await asyncio.gather(*(member.bot.start() for member in self.members))
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        for member in self.members:
            member.bot.abandon()

    async def quote(self, orders: int = 3) -> None:
        """Everybody has this many orders, in two symbols, that rest."""
        for member in self.members:
            for number in range(orders):
                await member.bot.submit((BTC, ETH)[number % 2], "buy", "1", str(90 - number))
        assert len(self.venue.exchange.all_open()) == orders * len(self.members)

    async def freeze(self, members: Sequence[Member] | None = None) -> list[Any]:
        """All of them at once; their proofs."""
        proofs = await asyncio.gather(*(m.bot.freeze("test", "ops") for m in (self.members if members is None else members)))
        assert self.venue.exchange.all_open() == ()
        return list(proofs)

    def senders(self) -> list[Member]:
        """Who has sent a cancel."""
        return [member for member in self.members if member.link.sent(*CANCELS)]


def down(_: object) -> StoreFault:
    return StoreFault(FaultKind.UNAVAILABLE)


def hung(_: object) -> StoreFault:
    return StoreFault(FaultKind.IN_DOUBT_NOT_APPLIED, request_ms=1_000_000)


# --- the normal case --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, 20])
@pytest.mark.parametrize("venue", [VenueTraits(), VenueTraits(cancel_all=False), ONE_BY_ONE], ids=["bulk", "batches", "one by one"])
@simulated
async def test_one_cancels_for_all_and_the_others_verify(count: int, venue: VenueTraits) -> None:
    async with Fleet(count, venue=venue) as fleet:
        await fleet.quote()
        proofs = await fleet.freeze()
        assert all(proof.verified and proof.remaining == 0 for proof in proofs)
        assert all(member.frozen for member in fleet.members)
        (holder,) = fleet.senders()
        others = [member for member in fleet.members if member is not holder]
        assert [m.counted("mm_cancel_all_skipped_total", "lock_held_verified_empty") for m in others] == [1] * (count - 1)
        assert holder.counted("mm_cancel_all_skipped_total", "lock_held_verified_empty") == 0
        assert len(holder.decided(ReleaseLease)) == 1
        assert all(len(m.link.sent(FetchOpenOrders)) <= 2 * 5 for m in others), "2 at the start, 2 lists for each look"
        assert max(proof.duration_ms for proof in proofs) < 2_000


@pytest.mark.parametrize("count", [2, 20])
@simulated
async def test_one_says_freeze_and_all_follow_within_two_polls(count: int) -> None:
    async with Fleet(count) as fleet:
        await fleet.quote()
        await fleet.freeze(fleet.members[:1])
        await later(2.5)
        assert all(member.frozen for member in fleet.members)
        assert fleet.senders() == fleet.members[:1]


@simulated
async def test_a_slow_holder_is_left_to_its_work_as_long_as_it_makes_progress() -> None:
    async with Fleet(5, venue=ONE_BY_ONE, sweep=SweepPolicy(deadline_ms=60_000)) as fleet:
        await fleet.quote(8)
        turn = asyncio.Lock()

        async def slowly(_: Link, __: Effect) -> None:
            async with turn:
                await asyncio.sleep(0.1)

        for member in fleet.members:
            member.link.pace = slowly
        proofs = await fleet.freeze()
        assert len(fleet.senders()) == 1, "40 orders, one every 100 ms"
        assert min(proof.duration_ms for proof in proofs) > 3_000
        assert all(proof.verified for proof in proofs)


@simulated
async def test_where_others_orders_stay_everybody_cancels_its_own() -> None:
    async with Fleet(5, sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE)) as fleet:
        await fleet.quote()
        assert all(proof.verified for proof in await fleet.freeze())
        assert fleet.senders() == fleet.members
        assert not any(member.decided(AcquireLease) for member in fleet.members)


# --- any number is right --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, 20])
@simulated
async def test_without_the_store_all_cancel_and_all_prove_it(count: int) -> None:
    async with Fleet(count) as fleet:
        await fleet.quote()
        for member in fleet.members:
            member.store.fault = down
        await later(2)
        begun = asyncio.get_running_loop().time()
        proofs = await fleet.freeze()
        assert all(proof.verified for proof in proofs)
        assert fleet.senders() == fleet.members
        assert all(next(at for at, e in m.link.left if isinstance(e, CANCELS)) == begun for m in fleet.members), "in the same instant"
        assert all(member.counted("mm_coordination_degraded_total", "cancel,go") == 1 for member in fleet.members)


@pytest.mark.parametrize("count", [1, 5])
@simulated
async def test_a_hung_store_costs_the_lease_wait_and_no_more(count: int) -> None:
    async with Fleet(count) as fleet:
        await fleet.quote()
        for member in fleet.members:
            member.store.fault = hung
        begun = asyncio.get_running_loop().time()
        proofs = await fleet.freeze()
        assert all(proof.verified for proof in proofs)
        for member in fleet.members:
            first = next(at for at, effect in member.link.left if isinstance(effect, CANCELS))
            assert first - begun <= 0.250001


@simulated
async def test_one_that_is_cut_off_from_the_store_cancels_too_and_nobody_else_minds() -> None:
    async with Fleet(3) as fleet:
        await fleet.quote()
        alone = fleet.members[2]
        alone.store.fault = down
        await later(2)
        assert all(proof.verified for proof in await fleet.freeze())
        assert alone in fleet.senders()
        assert 1 <= len(fleet.senders()) <= 2


@pytest.mark.parametrize("count", [2, 5, 20])
@pytest.mark.parametrize("after", [0, 1, 4])
@simulated
async def test_the_holder_dies_in_the_middle_and_the_others_finish(count: int, after: int) -> None:
    async with Fleet(count, venue=ONE_BY_ONE) as fleet:
        await fleet.quote()
        gone: list[Member] = []
        passed = 0

        async def until_it_dies(link: Link, _: Effect) -> None:
            nonlocal passed
            member = next(m for m in fleet.members if m.link is link)
            if not gone and passed == after:
                gone.append(member)
                member.bot.abandon()
            if member in gone:
                await asyncio.Event().wait()
            passed += 1

        for member in fleet.members:
            member.link.pace = until_it_dies
        freezing = [asyncio.ensure_future(member.bot.freeze("test", "ops")) for member in fleet.members]
        await later(5)
        assert len(gone) == 1
        assert fleet.venue.exchange.all_open() == ()
        rest = [member for member in fleet.members if member not in gone]
        proofs = [task.result() for task, member in zip(freezing, fleet.members, strict=True) if member in rest]
        assert all(proof.verified for proof in proofs)
        assert 1 <= len([m for m in fleet.senders() if m in rest]) <= max(1, count // 2), "who acts spares most others doing so"
        assert max(proof.duration_ms for proof in proofs) < 2_500
        for task in freezing:
            task.cancel()


@simulated
async def test_a_lease_whose_grant_was_not_heard_is_free_again_when_the_sweep_is_over() -> None:
    async with Fleet(2) as fleet:
        await fleet.quote()
        first, second = fleet.members
        first.store.fault = lambda effect: StoreFault(FaultKind.IN_DOUBT_APPLIED) if isinstance(effect, AcquireLease) else None
        await fleet.freeze([first])
        assert [effect.fence for effect in first.decided(ReleaseLease)] == [Fence(0, 0)]
        await later(2)
        assert second.frozen
        assert [effect.fence for effect in second.decided(ReleaseLease)] == [Fence(1, 2)], "it got one at once"


# --- a zombie -------------------------------------------------------------------------------------------------------------------


@simulated
async def test_what_a_runner_decided_under_a_lease_that_another_has_by_now_does_not_leave() -> None:
    """The first holder's requests hang in a queue of its venue adapter, and it is cut off from the store, past the end of its lease."""
    async with Fleet(2, venue=ONE_BY_ONE, sweep=SweepPolicy(deadline_ms=120_000)) as fleet:
        await fleet.quote()
        first, second = fleet.members
        opened = asyncio.Event()

        async def hangs(_: Link, __: Effect) -> None:
            await opened.wait()

        first.link.pace = hangs
        freezing = asyncio.ensure_future(first.bot.freeze("test", "ops"))
        await later(0.1)
        decided = len(first.decided(Cancel))
        assert decided == 3
        assert first.decided(Cancel)[0].fence != Fence(0, 0)
        first.store.fault = down
        await later(5)
        assert second.frozen, "it has seen no progress, and has cancelled all"
        await later(30)
        assert first.counted("mm_lease_lost_total", "sweep") == 1
        assert "lease_lost" in first.alerts
        opened.set()
        assert (await freezing).verified
        assert all(effect.fence == Fence(0, 0) for effect in first.link.sent(*CANCELS)), "what left was decided anew"
        assert sum(m.value for m in first.decided(Metric) if m.name == "mm_fence_rejected_total") == 3


@simulated
async def test_a_process_that_was_stopped_past_its_lease_looks_at_the_clock_before_it_sends() -> None:
    """No event has told the core that time has passed; the request waits in a queue of the venue adapter."""
    async with Fleet(1, venue=ONE_BY_ONE) as fleet:
        await fleet.quote()
        (alone,) = fleet.members
        opened = asyncio.Event()

        async def hangs(_: Link, __: Effect) -> None:
            await opened.wait()

        alone.link.pace = hangs
        freezing = asyncio.ensure_future(alone.bot.freeze("test", "ops"))
        await later(0.001)
        assert {effect.fence for effect in alone.decided(Cancel)} == {Fence(1, 1)}
        alone.clock.ahead_ns = 30_000_000_000
        opened.set()
        assert (await freezing).verified
        assert all(effect.fence == Fence(0, 0) for effect in alone.link.sent(*CANCELS))


@simulated
async def test_at_the_venue_fences_never_fall() -> None:
    async with Fleet(5, venue=ONE_BY_ONE) as fleet:
        for _ in range(3):
            await fleet.quote()
            await fleet.freeze(fleet.members[:2])
            await later(2.5)
            with pytest.raises(CommandRejected) as rejected:
                await fleet.members[0].bot.unfreeze("ops", "well again")
            assert rejected.value.code == "peer_frozen", "the second has said it, too"
            await later(1.5)
            for member in (*fleet.members[1:], fleet.members[0]):
                await member.bot.unfreeze("ops", "well again")
            await later(2)
            assert not any(member.bot.status().modes for member in fleet.members)
        seen = [(e.fence.epoch, e.fence.counter) for e in fleet.venue.sent if isinstance(e, CANCELS) and e.fence.epoch]
        assert seen
        assert seen == sorted(seen)
        assert not fleet.fences.refused
