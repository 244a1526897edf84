"""What the tests of the runner share: a rig of simulated time, venue, disk and people around one runner, and a venue made by hand.

The hand-made venue behaves well until a test gives it a behaviour for a class of effects. It never asks ``may_send``, so it shows
what the runner itself holds back.
"""

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from haltcore.adapters.clock import LoopClock
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.paper import SERVES, PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.runner import Runner
from haltcore.adapters.virtual_time import run
from haltcore.effects import Alert, Cancel, CancelAll, CancelBatch, Effect, FetchOpenOrders, Place, Price, QueryOrder, Replace
from haltcore.fsm.config import Config
from haltcore.fsm.core import Core
from haltcore.fsm.events import (
    Event,
    FetchedOrders,
    FetchedPositions,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderQueried,
    OrderReplaced,
    OrderRow,
    Outcome,
    OutcomeKind,
    Positions,
    ReportStatus,
)
from haltcore.fsm.outcomes import outcome, owes_outcome
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Verdict

from tests.helpers import BTC, ETH, config

LOG = "bot.jsonl"
EPOCH_NS = 1_700_000_000 * 10**9
Behaviour = Callable[[Any], Awaitable[Any]]


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in simulated time. An hour of it without an end is a failure."""

    @functools.wraps(test)
    def go(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named), limit_s=3_600)

    return go


async def later(seconds: float) -> None:
    """Let simulated time pass."""
    await asyncio.sleep(seconds)


async def for_ever(_: Effect) -> Any:
    """A behaviour: no answer, ever."""
    await asyncio.Event().wait()


def acknowledged(effect: Effect, at_ns: int = 0) -> Outcome:
    """The venue took it."""
    return outcome(effect, at_ns, OutcomeKind.ACKNOWLEDGED)


class HandVenue:
    """A venue made by hand; see the essay. ``calls`` are the effects that reached it, in order."""

    serves: Sequence[type[Effect]] = SERVES

    def __init__(self, **behaviours: Behaviour) -> None:
        self.calls: list[Effect] = []
        self.open: dict[str, Place] = {}
        self.behave = behaviours
        self.closed = 0

    def connect(self, emit: Any, now_ns: Any, may_send: Any) -> None:
        self.emit, self.now_ns, self.may_send = emit, now_ns, may_send

    async def close(self) -> None:
        self.closed += 1

    async def perform(self, effect: Effect) -> Any:
        self.calls.append(effect)
        behaviour = self.behave.get(type(effect).__name__)
        return await behaviour(effect) if behaviour is not None else self.well(effect)

    def well(self, effect: Effect) -> list[Event]:
        """What a good venue answers, at once."""
        now = self.now_ns()
        if isinstance(effect, FetchOpenOrders):
            rows = tuple(_row(place) for place in self.open.values()) if not effect.conditional else ()
            return [OpenOrders(now, effect.id, effect.symbol, effect.conditional, FetchedOrders(rows))]
        if isinstance(effect, QueryOrder):
            return [OrderQueried(now, effect.id, effect.order, NotFound())]
        if isinstance(effect, Place):
            self.open[effect.client_id] = effect
            return [OrderAccepted(now, effect.client_id, "v" + effect.client_id), acknowledged(effect, now)]
        if isinstance(effect, Replace):
            return [OrderReplaced(now, effect.client_id, effect.venue_id, effect.qty, effect.price), acknowledged(effect, now)]
        if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
            targets = [effect.target] if isinstance(effect, Cancel) else effect.targets if isinstance(effect, CancelBatch) else ()
            ids = [t.client_id for t in targets] or [i for i, place in self.open.items() if place.symbol == effect.symbol]
            gone = [OrderCancelled(now, i, Price(0)) for i in ids if self.open.pop(i, None) is not None]  # type: ignore[arg-type]
            return [*gone, acknowledged(effect, now)]
        return [Positions(now, effect.id, FetchedPositions(()))]

    def called(self, kind: type[Effect]) -> list[Any]:
        """The calls of one class."""
        return [effect for effect in self.calls if isinstance(effect, kind)]


class DurableVenue(HandVenue):
    """Notes for each request how much of the log was durable, and its length, when it arrived."""

    disk: MemoryDisk

    async def perform(self, effect: Any) -> Any:
        self.durable[effect.id] = (self.disk.synced[LOG], position_of(self.disk, effect))
        return await super().perform(effect)

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__()
        self.disk = disk
        self.durable: dict[Any, tuple[int, int]] = {}


def position_of(disk: MemoryDisk, effect: Any) -> int:
    """Where the record that decided the effect ends in the log, or beyond everything if it is not there yet."""
    content = bytes(disk.content[LOG])
    found = re.search(rb'"%s"' % effect.client_id.encode(), content) if isinstance(effect, (Place, Replace)) else None
    return content.index(b"\n", found.end()) + 1 if found else 10**12


def _row(place: Place) -> OrderRow:
    return OrderRow(
        place.client_id, "v" + place.client_id, place.symbol, place.side, ReportStatus.OPEN, place.qty, place.price, Price(0),  # type: ignore[arg-type]
        None, False, "open",
    )  # fmt: skip


class Rig:
    """The world around a runner. ``seen`` are its records, ``alerts`` what people heard."""

    def __init__(
        self, venue: Any = None, disk: MemoryDisk | None = None, conf: Config | None = None, journal: str | None = LOG, **options: Any
    ) -> None:
        self.clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
        self.venue = venue if venue is not None else PaperVenue([BTC, ETH], seed=1)
        self.disk = disk if disk is not None else MemoryDisk()
        self.seen: list[tuple[Event, tuple[Effect, ...]]] = []
        self.alerts: list[Alert] = []
        options = {"who": "runner", "people": People(self.alerts.append), "observer": self._observe, **options}
        self.bot = Runner(conf or config(), venue=self.venue, journal=journal, disk=self.disk, **{"clock": self.clock, **options})

    def _observe(self, event: Event, core: Core, effects: tuple[Effect, ...]) -> None:  # noqa: ARG002
        self.seen.append((event, effects))

    async def __aenter__(self) -> "Rig":
        await self.bot.start()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            await self.bot.stop()
        else:
            self.bot.abandon()

    def events(self, kind: type[Any]) -> list[Any]:
        """The recorded events of one class."""
        return [event for event, _ in self.seen if isinstance(event, kind)]

    def effects(self, kind: type[Any]) -> list[Any]:
        """The decided effects of one class."""
        return [effect for _, effects in self.seen for effect in effects if isinstance(effect, kind)]

    def outcomes(self, effect: Effect) -> list[Event]:
        """The recorded answers to one effect."""
        return [event for event, _ in self.seen if getattr(event, "effect", None) == effect.id]

    def unanswered(self) -> list[Effect]:
        """Effects that owe an outcome and have not got exactly one."""
        return [effect for _, effects in self.seen for effect in effects if owes_outcome(effect) and len(self.outcomes(effect)) != 1]

    def replayed(self) -> Verdict:
        """The log's own verdict."""
        return replay([Source(LOG, [bytes(self.disk.content[LOG])])])


async def buy(bot: Runner, price: str = "100", **options: Any) -> Any:
    """A small limit order that rests."""
    return await bot.submit(BTC, "buy", "1", price, **options)
