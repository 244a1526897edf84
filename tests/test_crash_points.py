"""Whoever dies on the way from an intention to an order places it once: no duplicate, and nothing is lost.

Method: one intention, said again and again by the bot as if it had never heard an answer; one crash at one of the points of a guarded
place. The bot's process dies there (of what was not durable, its journal keeps nothing, a piece, or all), starts again from its
journal over the same store and venue, and the bot goes on repeating. Then orders that came as far as the venue's books are counted. The
venue is the paper venue, but like Kraken and WhiteBIT it knows ids of open orders only, and fills at once: a second try under the
same id is a second order (reference: 2 and more duplicates were measured for the designs that do not write their intent ahead and ask the
venue).

========================= ==================================================================================================
point                     what happens there
========================= ==================================================================================================
none                      nothing
before claim              the claim is on its way to the store; the process dies, and the claim is not applied
claim in doubt            the claim is applied and its answer lost; the process lives
after claim               the claim is applied; the process dies before the answer is heard
after grant               the grant is heard; the process dies before the order is sent
reply lost                the order is filled, reply and reports are lost; the process lives
after send                the order is filled; the process dies before the reply
after reply               the reply is heard; the process dies before the store is told
========================= ==================================================================================================
"""

import asyncio
from typing import Any

import pytest
from haltcore.adapters.answers import HaltcoreError, OrderDenied, OrderRefused
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.memory_store import FaultKind, MemoryStore, StoreFault
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.virtual_time import run
from haltcore.effects import ClaimGuard, Effect, GuardState, Place, SettleGuard, Side, TimeInForce, price, qty
from haltcore.fsm.config import StorePolicy
from haltcore.fsm.events import EVIDENCE_CLASSES, Event, OutcomeKind
from haltcore.fsm.guard import PLACE, guard_key
from haltcore.fsm.outcomes import failed

from tests.figures import Figures
from tests.helpers import BTC, config
from tests.runner_rig import Rig, later, simulated

ONCE = "signal 7"
POINTS = ("none", "before claim", "claim in doubt", "after claim", "after grant", "reply lost", "after send", "after reply")
REPEATS = 24
#: How much of what was not durable survives.
TORN = (0, 40, 10**6)


class World:
    """The world that outlives a process. ``crashed`` is set while no process lives. One crash, at ``point``, unless it is none."""

    def __init__(self, point: str, kept: int) -> None:
        loop = asyncio.get_running_loop()
        self.point, self.kept = point, kept
        self.disk = MemoryDisk()
        self.state = MemoryState(lambda: round(loop.time() * 10**9))
        self.venue = Venue(self)
        self.venue.trade(BTC, Side.SELL, qty(100), price(100), tif=TimeInForce.GTC)
        self.crashed = asyncio.Event()
        self.due = point != "none"
        self.crashes = 0
        self.said: list[str] = []
        self.rig: Rig | None = None

    def at(self, point: str) -> bool:
        """Whether this is the place, for the one time that it is."""
        if not self.due or point != self.point:
            return False
        self.due = False
        return True

    async def die(self) -> None:
        """The process is no more; whoever called this is part of it."""
        assert self.rig is not None
        self.rig.bot.abandon()
        self.disk.crash(self.kept)
        self.crashes += 1
        self.crashed.set()
        await asyncio.Event().wait()

    async def begin(self) -> None:
        """A process starts, from the journal if there is one."""
        self.crashed.clear()
        conf = config(store=StorePolicy(configured=True))
        self.rig = Rig(self.venue, self.disk, conf, store=Store(self), who=f"process {self.crashes}")
        await self.rig.bot.start()

    async def say(self) -> None:
        """The bot says its intention once more, and notes what it hears, if it lives to hear it."""
        assert self.rig is not None
        call = asyncio.ensure_future(self.rig.bot.submit(BTC, "buy", 1, 100, once=ONCE))
        death = asyncio.ensure_future(self.crashed.wait())
        await asyncio.wait({call, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if self.crashed.is_set():
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            self.said.append("died")
            await self.begin()
            return
        try:
            self.said.append(call.result().status)
        except HaltcoreError as error:
            self.said.append(error.code)

    def orders(self) -> int:
        """How many orders the venue's books have seen of the bot."""
        return sum(self.venue.placed.values())


class Store(MemoryStore):
    """One process's connection, with the points at which it can die."""

    def __init__(self, world: World) -> None:
        super().__init__(world.state)
        self.world = world

    async def perform(self, effect: Effect) -> Any:
        if isinstance(effect, ClaimGuard):
            if self.world.at("before claim"):
                await self.world.die()
            if self.world.at("claim in doubt"):
                self.fault = lambda what: StoreFault(FaultKind.IN_DOUBT_APPLIED) if what is effect else None
            answer = await super().perform(effect)
            if self.world.at("after claim"):
                await self.world.die()
            return answer
        if isinstance(effect, SettleGuard) and effect.state is GuardState.DONE and self.world.at("after reply"):
            await self.world.die()
        return await super().perform(effect)


class Venue(PaperVenue):
    """Knows client ids of open orders only, and has points at which the bot's process can die, or its reply is lost."""

    def __init__(self, world: World) -> None:
        super().__init__([BTC], seed=3)
        self.world, self.deaf = world, False
        refusal = self.exchange._refusal

        def of_open_orders(ticket: Any, account: str) -> str:
            known = self.exchange._by_client.get((account, ticket.client_id))
            if known is not None and known.number not in self.exchange._open:
                del self.exchange._by_client[account, ticket.client_id]
            return refusal(ticket, account)

        self.exchange._refusal = of_open_orders  # type: ignore[method-assign]

    def connect(self, emit: Any, now_ns: Any, may_send: Any) -> None:
        def hear(event: Event) -> None:
            if not (self.deaf and isinstance(event, EVIDENCE_CLASSES)):
                emit(event)

        super().connect(hear, now_ns, may_send)

    async def perform(self, effect: Effect) -> list[Event]:
        if not isinstance(effect, Place):
            return await super().perform(effect)
        if self.world.at("after grant"):
            await self.world.die()
        self.deaf = lost = self.world.at("reply lost")
        if self.world.point == "after send":
            self.deaf = self.world.due
        answer = await super().perform(effect)
        if self.world.at("after send"):
            self.deaf = False
            await self.world.die()
        if lost:
            await later(0.01)
            self.deaf = False
            assert self._link is not None
            return [failed(effect, self._link.now_ns(), OutcomeKind.IN_DOUBT, "timeout")]
        return answer


async def lived(point: str, kept: int = 0) -> World:
    """One life of the intention: said, with the crash, and again and again after that."""
    world = World(point, kept)
    await world.begin()
    for _ in range(REPEATS):
        await world.say()
        await later(0.5)
    assert world.rig is not None
    await world.rig.bot.stop()
    assert not world.due, "the point was reached"
    return world


@pytest.mark.parametrize("kept", TORN)
@pytest.mark.parametrize("point", POINTS)
@simulated
async def test_an_intention_becomes_one_order_wherever_its_process_dies(point: str, kept: int) -> None:
    world = await lived(point, kept)
    assert world.orders() == 1
    assert world.venue.exchange.position(BTC) == qty(1)
    assert world.rig is not None
    core = world.rig.bot.core
    (placed,) = [o for o in core.closed.values() if o.cum_qty]
    assert (placed.spec.once, placed.cum_qty) == (ONCE, qty(1))
    assert core.books[0].position == qty(1), "it knows what it holds"
    assert not core.flow.guards, "and has told the store everything"
    row = world.state.look(guard_key(PLACE, ONCE))
    assert row is not None
    assert (row.state, row.result.split()[0]) == (GuardState.DONE, placed.spec.client_id)
    assert world.said[-1] == "already_done"
    assert world.rig.replayed().kind.value == "same"


@simulated
async def test_two_processes_with_the_same_intention_place_it_once_though_one_dies_with_the_claim() -> None:
    """The one that is left does not take the claim over; the one that comes back knows that it never sent anything."""
    world = World("after claim", 0)
    await world.begin()
    conf = config(session="other01", store=StorePolicy(configured=True))
    peer = Rig(HandedOver(world.venue), MemoryDisk(), conf, store=MemoryStore(world.state), who="peer")
    await peer.bot.start()
    dying = asyncio.ensure_future(world.rig.bot.submit(BTC, "buy", 1, 100, once=ONCE))  # type: ignore[union-attr]
    await world.crashed.wait()
    dying.cancel()
    for _ in range(3):
        with pytest.raises(OrderRefused) as refused:
            await peer.bot.submit(BTC, "buy", 1, 100, once=ONCE)
        assert (refused.value.code, refused.value.executed) == ("guard_held", False)
        await later(1)
    await world.begin()
    await later(2)
    order = await peer.bot.submit(BTC, "buy", 1, 100, once=ONCE)
    await later(0.1)
    assert order.status == "filled"
    for bot in (peer.bot, world.rig.bot):  # type: ignore[union-attr]
        with pytest.raises((OrderDenied, OrderRefused)) as again:
            await bot.submit(BTC, "buy", 1, 100, once=ONCE)
        assert again.value.code in ("already_done", "guard_done")
    assert world.orders() == 1
    await peer.bot.stop()
    await world.rig.bot.stop()  # type: ignore[union-attr]


class HandedOver:
    """Another process's connection to the same venue."""

    def __init__(self, venue: Venue) -> None:
        self.session = venue.session("other01")
        self.serves = venue.serves

    def connect(self, *args: Any) -> None:
        self.session.connect(*args)

    async def close(self) -> None:
        await self.session.close()

    async def perform(self, effect: Effect) -> Any:
        return await self.session.perform(effect)


def test_crash_points_in_figures(figures: Figures) -> None:
    """The row of the reference's table: orders per crash point, duplicates and lost ones over all points and torn tails."""
    counts = {point: [run(lived(point, kept)).orders() for kept in TORN] for point in POINTS}
    duplicates = sum(max(0, n - 1) for found in counts.values() for n in found)
    lost = sum(n == 0 for found in counts.values() for n in found)
    shown = {point.replace(" ", "_"): "/".join(map(str, sorted(set(found)))) for point, found in counts.items()}
    figures("crash points of a guarded place", **shown, duplicates=duplicates, lost=lost)
    assert (duplicates, lost) == (0, 0)
