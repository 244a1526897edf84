"""Real runners in real time over one paper venue and a real server: what the tests of faults share.

Each runner has a connection to the venue of its own, behind a gateway; what passes its last question there is counted as sent. With
``ways`` each reaches the server through a proxy of its own, which can be cut, or lose a reply.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from haltcore.adapters.answers import HaltcoreError
from haltcore.adapters.gateway import Fences, Gateway
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.runner import Runner
from haltcore.effects import Alert, Effect, Mode, Place
from haltcore.fsm.config import Config, StorePolicy, VenueTraits
from haltcore.fsm.core import Core
from haltcore.fsm.events import (
    BreakerAnswer,
    BreakerKind,
    Event,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LeaseAnswer,
    LeaseKind,
    StoreChecked,
    StoreHealth,
)

from tests.helpers import BTC, ETH
from tests.proxy import Proxy
from tests.servers import Server
from tests.test_many_runners import CANCELS, Link

T = TypeVar("T")
POLL_MS = 100
#: The longest that anything is waited for.
PATIENCE_S = 15.0
#: A limit of time for where the server's speed is not the question.
PATIENT_MS = 5_000
_accounts = itertools.count(1)


class Record(NamedTuple):
    """One record of a runner, and when it was made by the monotonic clock."""

    at_s: float
    event: Event
    effects: tuple[Effect, ...]
    core: Core


class Member:
    """A runner, and what it was seen to do."""

    def __init__(self, fleet: "Fleet", number: int, conf: dict[str, Any], journal: Path | None) -> None:
        self.tag = f"r{number:06d}"
        self.way: Proxy | None = fleet.proxied(number)
        url = self.way.url() if self.way is not None else fleet.server.url()
        self.link = Link(fleet.venue.session(self.tag), PaperVenue.serves)
        self.store = RedisStore(url, fleet.account, timeout_ms=fleet.timeout_ms)
        self.records: list[Record] = []
        self.alerts: list[str] = []
        self._news = asyncio.Event()
        config = Config(self.tag, (BTC, ETH), **conf)
        self.bot = Runner(
            config, venue=Gateway(self.link, fleet.fences), journal=journal, store=self.store, who=f"{self.tag}-{id(self)}",
            people=People(self._told), observer=self._observe,
        )  # fmt: skip

    def _told(self, alert: Alert) -> None:
        self.alerts.append(alert.code)

    def _observe(self, event: Event, core: Core, effects: tuple[Effect, ...]) -> None:
        self.records.append(Record(time.monotonic(), event, effects, core))
        self._news.set()

    async def until(self, what: Callable[[], Any]) -> None:
        """Wait until it is so, looked at after every record."""
        async with asyncio.timeout(PATIENCE_S):
            while not what():
                self._news.clear()
                await self._news.wait()

    async def until_frozen(self, scope: str = "") -> None:
        """Wait until the scope is frozen and proven empty."""
        await self.until(lambda: self.mode(scope) is Mode.FROZEN)

    def mode(self, scope: str = "") -> Mode:
        return self.bot.status().modes.get(scope, Mode.ACTIVE)

    def since(self, kind: type[Event]) -> int:
        """The index of the last record of this event."""
        return max(n for n, record in enumerate(self.records) if isinstance(record.event, kind))

    def decided(self, *kinds: type[Effect], since: int = 0) -> list[Any]:
        return [effect for record in self.records[since:] for effect in record.effects if isinstance(effect, kinds)]

    def sent(self, *kinds: type[Effect]) -> list[Any]:
        """What has left towards the venue."""
        return self.link.sent(*kinds)

    @property
    def health(self) -> StoreHealth:
        assert self.bot.core.desk is not None
        return self.bot.core.desk.store.health

    async def tries(self, once: str | None = None, symbol: str = BTC, price: str = "90") -> str:
        """Try to place; the code of the refusal, empty if it was placed."""
        try:
            await self.bot.submit(symbol, "buy", "1", price, once=once)
        except HaltcoreError as error:
            return error.code
        return ""


class Fleet:
    """Runners on one account, one venue and one server. ``conf`` are fields of everybody's configuration, ``store`` those of its policy
    for the store."""

    def __init__(
        self, server: Server, count: int, *, ways: bool = False, timeout_ms: int = 250, exchange: PaperVenue | None = None,
        journals: Path | None = None, store: dict[str, Any] | None = None, **conf: Any,
    ) -> None:  # fmt: skip
        self.server, self.account, self.timeout_ms = server, f"fleet{next(_accounts)}", timeout_ms
        self.venue = exchange or PaperVenue([BTC, ETH], seed=1, latency_ms=(1, 3))
        self.fences = Fences()
        self._ways, self._stack, self._journals = ways, contextlib.ExitStack(), journals
        policy = StorePolicy(**{"configured": True, "latch_poll_ms": POLL_MS, **(store or {})})
        self._conf = {"store": policy, "venue": VenueTraits(place_expiry_ms=500), **conf}
        self.members = [self._member(number) for number in range(count)]
        #: One more connection, straight to the server: to look with.
        self.probe = RedisStore(server.url(), self.account, timeout_ms=PATIENT_MS)
        self._trying: list[asyncio.Task[None]] = []

    def _member(self, number: int) -> Member:
        journal = self._journals / f"{number}.jsonl" if self._journals is not None else None
        return Member(self, number, self._conf, journal)

    def proxied(self, number: int) -> Proxy | None:
        """A way of one's own; the same again after a restart."""
        if not self._ways:
            return None
        if number < len(getattr(self, "members", [])):
            return self.members[number].way
        return self._stack.enter_context(Proxy(self.server.port))

    async def __aenter__(self) -> "Fleet":
        try:
            await asyncio.gather(*(member.bot.start() for member in self.members))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._trying:
            task.cancel()
        for member in self.members:
            member.bot.abandon()
        await asyncio.gather(*self._trying, return_exceptions=True)
        # What was cancelled may be letting its lease go.
        await asyncio.sleep(0.01)
        await asyncio.gather(*(member.store.close() for member in self.members), self.probe.close())
        await self.venue.close()
        self._stack.close()

    async def restart(self, number: int) -> Member:
        """The process of this member was killed; another one goes on from its journal."""
        self.members[number].bot.abandon()
        self.members[number] = self._member(number)
        await self.members[number].bot.start()
        return self.members[number]

    async def quote(self, orders: int = 3) -> None:
        """Everybody has this many orders more that rest, in two symbols. On a busy machine the store may be late; then it is said again."""
        for member in self.members:
            for number in range(orders):
                async with asyncio.timeout(PATIENCE_S):
                    while await member.tries(symbol=(BTC, ETH)[number % 2], price=str(90 - number)):
                        await asyncio.sleep(0.05)

    def keep_trying(self, *members: Member, symbol: str = BTC) -> None:
        """From now on these try to place, again and again."""
        self._trying += [asyncio.get_running_loop().create_task(self._try(member, symbol)) for member in members]

    async def _try(self, member: Member, symbol: str) -> None:
        for number in itertools.count():
            await member.tries(once=f"{member.tag} tries {number}", symbol=symbol)
            await asyncio.sleep(0.01)

    async def until_verified(self, *members: Member) -> None:
        """All of them, or these, have proven the account empty; and it is."""
        await asyncio.gather(*(member.until_frozen() for member in members or self.members))
        assert self.open() == 0

    def open(self) -> int:
        """How many orders are open at the venue."""
        return len(self.venue.exchange.all_open())

    def senders(self, since: dict[str, int] | None = None) -> list[Member]:
        """Who has sent a cancel, after these numbers of them."""
        return [member for member in self.members if len(member.sent(*CANCELS)) > (since or {}).get(member.tag, 0)]

    def cancels(self) -> dict[str, int]:
        """How many cancels each has sent."""
        return {member.tag: len(member.sent(*CANCELS)) for member in self.members}


async def all_of(*stories: Coroutine[Any, Any, T]) -> list[T]:
    """Run them at once, each to its end, also where another one fails."""
    found = await asyncio.gather(*stories, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found  # type: ignore[return-value]  # none of them is an exception


def placed(members: Sequence[Member]) -> int:
    """How many orders these have sent."""
    return sum(len(member.sent(Place)) for member in members)


_FINE = {
    LeaseAnswer: (LeaseKind.UNAVAILABLE, LeaseKind.IN_DOUBT), LatchAnswer: (LatchKind.UNAVAILABLE, LatchKind.IN_DOUBT),
    GuardAnswer: (GuardKind.UNAVAILABLE, GuardKind.IN_DOUBT), BreakerAnswer: (BreakerKind.UNAVAILABLE, BreakerKind.IN_DOUBT),
}  # fmt: skip


def answered(event: Event) -> bool:
    """Whether it is an answer of the store, and not that it did not come."""
    if isinstance(event, StoreChecked):
        return event.health is StoreHealth.OK
    return type(event) in _FINE and event.kind not in _FINE[type(event)]  # type: ignore[union-attr]
