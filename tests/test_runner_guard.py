"""A bot under guard: what its calls return and raise when the store grants, refuses, is silent, or forgets.

Method: the runner over a store in memory whose answers a test decides, in simulated time. Every effect has to get exactly one outcome, and
the log has to replay the same.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.adapters.answers import OrderDenied, OrderInDoubt, OrderRefused
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.effects import ClaimGuard, Effect, GuardState, Place, Replace, SettleGuard, Trigger
from haltcore.fsm.config import Config, StorePolicy
from haltcore.fsm.events import GuardAnswer, GuardKind, OutcomeKind
from haltcore.fsm.order import is_done
from haltcore.fsm.outcomes import outcome

from tests.helpers import BTC, config
from tests.runner_rig import HandVenue, Rig, buy, later, simulated

GUARDED = StorePolicy(configured=True)


def conf(**fields: Any) -> Config:
    return config(**{"store": GUARDED, **fields})


class Answering(MemoryStore):
    """A store whose answer to claims a test decides: ``kind`` instead of CLAIMED, ``hold`` to wait with it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.state = MemoryState(lambda: round(loop.time() * 10**9))
        super().__init__(self.state)
        self.kind: GuardKind | None = None
        self.hold: asyncio.Event | None = None

    async def perform(self, effect: Effect) -> Any:
        answers = await super().perform(effect)
        if isinstance(effect, ClaimGuard):
            if self.hold is not None:
                await self.hold.wait()
            if self.kind is not None:
                return [attrs.evolve(answer, kind=self.kind) if isinstance(answer, GuardAnswer) else answer for answer in answers]
        return answers


def rig(**options: Any) -> Rig:
    return Rig(conf=conf(), store=Answering(), venue=HandVenue(), **options)


def sound(found: Rig) -> None:
    """Every effect has its outcome, and the log replays the same."""
    assert found.unanswered() == []
    assert found.replayed().kind.value == "same"


@simulated
async def test_submit_and_replace_return_when_the_venue_has_spoken() -> None:
    async with rig() as found:
        order = await buy(found.bot)
        assert order.status == "new"
        await found.bot.replace(order, 2, 101)
        assert [len(found.effects(kind)) for kind in (ClaimGuard, Place, Replace)] == [2, 1, 1]
        await later(0.1)
        assert [e.state for e in found.effects(SettleGuard)] == [GuardState.DONE] * 2
        assert not found.bot.core.flow.guards
    sound(found)


@pytest.mark.parametrize("kind", [k for k in GuardKind if k is not GuardKind.CLAIMED])
@simulated
async def test_a_claim_that_is_not_granted_raises_its_code_and_nothing_was_executed(kind: GuardKind) -> None:
    async with rig() as found:
        order = await buy(found.bot)
        store: Any = found.bot._store
        store.kind = kind
        code = "guard_in_doubt" if kind in (GuardKind.SETTLED, GuardKind.LOST) else f"guard_{kind.value}"
        calls: tuple[Callable[[], Any], ...] = (lambda: found.bot.replace(order, 2, 101), lambda: buy(found.bot, "99"))
        for call in calls:
            with pytest.raises(OrderRefused) as refused:
                await call()
            assert (refused.value.code, refused.value.executed) == (code, False)
            await later(3)  # until a store that failed has answered again
        assert order.status == "new"
        assert len(found.effects(Place)) == 1
        assert not found.effects(Replace)
        store.kind = None
        assert (await buy(found.bot, "99")).status == "new"
    sound(found)


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.IN_DOUBT_APPLIED, FaultKind.IN_DOUBT_NOT_APPLIED])
@simulated
async def test_a_store_that_fails_over_a_claim_costs_the_order_and_is_told_later(kind: FaultKind) -> None:
    async with rig() as found:
        store: Any = found.bot._store
        store.fault = lambda effect: StoreFault(kind) if isinstance(effect, ClaimGuard) else None
        with pytest.raises(OrderRefused) as refused:
            await buy(found.bot, once="signal")
        assert refused.value.code == ("guard_unavailable" if kind is FaultKind.UNAVAILABLE else "guard_in_doubt")
        with pytest.raises(OrderDenied) as denied:
            await buy(found.bot, once="signal")
        assert denied.value.code == "store_unavailable"
        store.fault = None
        await later(3)
        assert (await buy(found.bot, once="signal")).status == "new"
        with pytest.raises(OrderDenied) as again:
            await buy(found.bot, once="signal")
        assert again.value.code == "already_done"
        await later(3)
        assert not found.bot.core.flow.guards
    sound(found)


@simulated
async def test_a_store_that_never_answers_does_not_hang_the_call() -> None:
    async with rig(effect_timeout_s=0.5) as found:
        store: Any = found.bot._store
        store.hold = asyncio.Event()
        with pytest.raises(OrderRefused) as refused:
            await buy(found.bot)
        assert (refused.value.code, refused.value.executed) == ("guard_in_doubt", False)
        store.hold = None
    sound(found)


@simulated
async def test_a_freeze_while_the_claim_is_under_way_ends_it_and_is_proven() -> None:
    async with rig() as found:
        store: Any = found.bot._store
        store.hold = asyncio.Event()
        call = asyncio.ensure_future(buy(found.bot))
        await later(0.1)
        freeze = asyncio.ensure_future(found.bot.freeze("test", "ops"))
        await later(0.1)
        assert not freeze.done(), "the claim may still be answered"
        store.hold.set()
        with pytest.raises(OrderRefused) as refused:
            await call
        assert refused.value.code == "sweeping"
        assert (await freeze).verified
        assert not found.effects(Place)
    sound(found)


@simulated
async def test_a_claim_that_waits_for_the_disk_is_held_back_by_a_freeze() -> None:
    async with rig() as found:
        found.disk.sync_delay_s = 1.0
        call = asyncio.ensure_future(buy(found.bot))
        await later(0.1)
        freeze = asyncio.ensure_future(found.bot.freeze("test", "ops"))
        with pytest.raises(OrderRefused) as refused:
            await call
        assert refused.value.code == "frozen_at_send"
        assert (await freeze).verified
        found.disk.sync_delay_s = 0.0
    sound(found)


@simulated
async def test_the_record_is_durable_before_the_claim_and_the_grant_before_the_place() -> None:
    venue = HandVenue()
    async with Rig(conf=conf(), store=Answering(), venue=venue) as found:
        store: Any = found.bot._store
        durable: dict[str, int] = {}
        apply, well = store.perform, venue.well

        async def perform(effect: Effect) -> Any:
            if isinstance(effect, ClaimGuard):
                durable["claim"] = found.disk.synced["bot.jsonl"]
                assert b'"class":"ClaimGuard"' in bytes(found.disk.content["bot.jsonl"][: durable["claim"]])
            return await apply(effect)

        def at_venue(effect: Effect) -> Any:
            if isinstance(effect, Place):
                durable["place"] = found.disk.synced["bot.jsonl"]
                assert b'"class":"Place"' in bytes(found.disk.content["bot.jsonl"][: durable["place"]])
            return well(effect)

        store.perform, venue.well = perform, at_venue  # type: ignore[method-assign]
        found.bot._hands._routes = {**found.bot._hands._routes, ClaimGuard: store}
        await buy(found.bot)
        assert durable["claim"] < durable["place"]


@simulated
async def test_a_cancel_while_the_claim_is_under_way_ends_the_order_without_a_request() -> None:
    async with rig() as found:
        store: Any = found.bot._store
        store.hold = asyncio.Event()
        call = asyncio.ensure_future(buy(found.bot))
        await later(0.1)
        (handle,) = found.bot.orders()
        cancel = asyncio.ensure_future(found.bot.cancel(handle))
        await later(0.1)
        store.hold.set()
        with pytest.raises(OrderRefused) as refused:
            await call
        assert refused.value.code == "cancelled_before_sent"
        await cancel
        assert is_done(found.bot.core.order(handle.key))  # type: ignore[arg-type]
        assert not found.effects(Place)
    sound(found)


@simulated
async def test_claim_and_place_are_one_of_the_adding_requests() -> None:
    async with rig(max_adding=1) as found:
        store: Any = found.bot._store
        store.hold = asyncio.Event()
        call = asyncio.ensure_future(buy(found.bot))
        await later(0.1)
        with pytest.raises(OrderDenied) as denied:
            await buy(found.bot, "99")
        assert denied.value.code == "overloaded"
        store.hold.set()
        await call
        assert (await buy(found.bot, "99")).status == "new"
    assert found.bot._hands.adding == 0


@simulated
async def test_a_runner_that_dies_while_the_claim_is_under_way_has_executed_nothing() -> None:
    found = rig()
    await found.bot.start()
    store: Any = found.bot._store
    store.hold = asyncio.Event()
    call = asyncio.ensure_future(buy(found.bot))
    await later(0.1)
    found.bot._broken = RuntimeError("planted")
    found.bot._running = False
    found.bot._waiters.fail(lambda: found.bot._stopped(waited=True))
    with pytest.raises(OrderRefused) as refused:
        await call
    assert refused.value.executed is False
    found.bot.abandon()


@simulated
async def test_a_place_in_doubt_after_its_grant_is_in_doubt_as_ever() -> None:
    async def lost(_: Effect) -> Any:
        raise RuntimeError("no reply")

    found = Rig(conf=conf(), store=Answering(), venue=HandVenue(Place=lost))
    async with found:
        with pytest.raises(OrderInDoubt) as doubt:
            await buy(found.bot)
        assert doubt.value.executed is None
        await later(10)
        assert [e.state for e in found.effects(SettleGuard)] == [GuardState.IN_DOUBT, GuardState.REJECTED]
    sound(found)


@simulated
async def test_the_venue_s_refusal_after_the_grant_is_told_with_its_code() -> None:
    async def refuse(effect: Effect) -> Any:
        return [outcome(effect, 0, OutcomeKind.REFUSED, "margin", "too little")]

    found = Rig(conf=conf(), store=Answering(), venue=HandVenue(Place=refuse))
    async with found:
        with pytest.raises(OrderRefused) as refused:
            await buy(found.bot, once="signal")
        assert refused.value.code == "margin"
        found.venue.behave.clear()
        assert (await buy(found.bot, once="signal")).status == "new", "it never was, so it may be said again"
    sound(found)
    assert not found.bot._listening._granted
    assert not found.bot._listening.refusals


@simulated
async def test_a_peer_s_freeze_in_the_store_stops_a_claim_before_any_poll() -> None:
    async with rig() as found:
        store: Any = found.bot._store
        store.state.publish("peer", BTC, Trigger.MANUAL, "elsewhere", "peer")
        with pytest.raises(OrderRefused) as refused:
            await buy(found.bot)
        assert refused.value.code == "guard_frozen"
        assert not found.effects(Place)
    sound(found)
