"""A process for the tests of faults: it can be stopped, and killed, at a point that the test has chosen.

What it is to be stands in the first line of its standard input, and what it is to do in the lines after it; what happens is told on its
standard output, in lines of JSON. When its input ends it ends too.

========= ==============================================================================================================
part      what it does
========= ==============================================================================================================
runner    a runner with a journal, on a venue in another process. ``freeze`` freezes the account, any other line is an
          intention to be placed once
fenced    has the lease of the sweep, and sends cancels under its fence, as if it had never heard of clocks
redis-py  the same under redis-py's own lock
========= ==============================================================================================================

At its ``point`` a process tells ``at`` and stops itself by SIGSTOP, between one statement and the next: no timer and no answer comes
first when it goes on. Points of a runner are those of a guarded place, and ``cancel N``: right before its cancel number N leaves; the
other two have one, in the middle of their cancels.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import frozen
from haltcore.adapters.answers import HaltcoreError
from haltcore.adapters.clock import WallClock
from haltcore.adapters.people import People
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.remote_venue import RemoteVenue
from haltcore.adapters.runner import Runner
from haltcore.effects import NO_FENCE, Cancel, CancelAll, ClaimGuard, Effect, Fence, GuardState, Place, SettleGuard
from haltcore.fsm.config import Config, StorePolicy, VenueTraits
from haltcore.fsm.core import Core
from haltcore.fsm.events import EVIDENCE_CLASSES, Event, GuardAnswer, LeaseAnswer, OutcomeKind
from redis.asyncio import Redis
from redis.exceptions import LockError

from tests.helpers import BTC

#: The lease of the sweep, and how many cancels are sent under it by who never looks at a clock.
TTL_MS, CANCELS = 600, 24
#: For how long a claim may be used.
CLAIM_MS = 1_000


@frozen
class Role:
    """What a process is to be."""

    part: str
    session: str
    venue: str
    url: str
    account: str
    journal: str = ""
    point: str = ""


class Line:
    """What the process is told, and the point at which it stops."""

    def __init__(self, orders: asyncio.StreamReader, point: str) -> None:
        self._orders, self._point = orders, point
        self._commands: asyncio.Queue[str] = asyncio.Queue()

    def at(self, point: str) -> None:
        """Stop here, if it is the one; once."""
        if point == self._point:
            self._point = ""
            tell("at", point=point)
            os.kill(os.getpid(), signal.SIGSTOP)

    async def hear(self) -> None:
        """Read on until the end of the input, which is the end of the process."""
        while line := (await self._orders.readline()).decode().strip():
            self._commands.put_nowait(line)
        os._exit(0)

    async def command(self) -> str:
        """The next one."""
        return await self._commands.get()


def tell(what: str, **more: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode({"told": what, **more}) + b"\n")
    sys.stdout.buffer.flush()


def unheard(_: object) -> None:
    """For whom nothing is told."""


def anything(_: Effect) -> str:
    """A last question to which everything may leave."""
    return ""


# --- a runner -------------------------------------------------------------------------------------------------------------


class Store(RedisStore):
    """With points before and after a claim, and before and after the store is told what became of it."""

    def __init__(self, role: Role, line: Line) -> None:
        super().__init__(role.url, role.account, timeout_ms=2_000)
        self._points = line

    async def perform(self, effect: Effect) -> Sequence[Event]:
        done = isinstance(effect, SettleGuard) and effect.state is GuardState.DONE
        if isinstance(effect, ClaimGuard):
            self._points.at("before claim")
        if done:
            self._points.at("after reply")
        answers = await super().perform(effect)
        if isinstance(effect, ClaimGuard):
            self._points.at("after claim")
        if done:
            self._points.at("after settle")
        return answers


class Venue:
    """A venue adapter that sends one cancel at a time, with points before each of them, and before and after a place. Until the point after
    it nothing is heard of that."""

    serves = RemoteVenue.serves

    def __init__(self, role: Role, line: Line) -> None:
        self._venue = RemoteVenue(role.venue, role.session)
        self._line = line
        self._deaf_at = role.point == "after send"
        self._deaf = False
        self._cancels = itertools.count(1)
        self._turn = asyncio.Lock()

    def connect(self, emit: Any, now_ns: Any, may_send: Any) -> None:
        def hear(event: Event) -> None:
            if not (self._deaf and isinstance(event, EVIDENCE_CLASSES)):
                emit(event)

        def asked(effect: Effect) -> str:
            code = may_send(effect)
            if isinstance(effect, (Place, Cancel)):
                tell("asked", code=code, fence=_told(effect.fence), verb=type(effect).__name__)
            return str(code)

        self._venue.connect(hear, now_ns, asked)

    async def close(self) -> None:
        await self._venue.close()

    async def perform(self, effect: Effect) -> Sequence[Event]:
        if isinstance(effect, Place):
            self._line.at("after grant")
            self._deaf = self._deaf_at
            answers = await self._venue.perform(effect)
            self._line.at("after send")
            return answers
        if isinstance(effect, Cancel):
            async with self._turn:
                self._line.at(f"cancel {next(self._cancels)}")
                return await self._venue.perform(effect)
        return await self._venue.perform(effect)


async def run(role: Role, line: Line) -> None:
    """A runner, as long as there is something to do."""
    store = StorePolicy(configured=True, latch_poll_ms=100, lease_ttl_ms=TTL_MS, lease_renew_ms=TTL_MS // 3, claim_ms=CLAIM_MS)
    # Single cancels, which can be held up one by one.
    traits = VenueTraits(place_expiry_ms=500, cancel_all=False, batch=1)

    def observe(event: Event, core: Core, effects: tuple[Effect, ...]) -> None:  # noqa: ARG001
        if isinstance(event, LeaseAnswer):
            tell("lease", kind=event.kind.value, fence=_told(event.fence))
        elif isinstance(event, GuardAnswer):
            tell("guard", kind=event.kind.value)

    bot = Runner(
        Config(role.session, (BTC,), store=store, venue=traits), venue=Venue(role, line), store=Store(role, line),
        journal=role.journal or None, people=People(unheard), observer=observe, who=f"{role.session}-{os.getpid()}",
    )  # fmt: skip
    await bot.start()
    tell("ready", orders=len(bot.orders()))
    while True:
        command = await line.command()
        if command == "freeze":
            proof = await bot.freeze("ill", "ops")
            tell("proven", verified=proof.verified, remaining=proof.remaining)
        else:
            try:
                order = await bot.submit(BTC, "buy", "1", "100", once=command)
                tell("said", code="", status=order.status)
            except HaltcoreError as error:
                tell("said", code=error.code, executed=error.executed)


# --- a holder that believes in its lease ------------------------------------------------------------------------------------


async def believe(role: Role, line: Line) -> None:
    """Take the lease, and send all cancels under it, whatever the time is."""
    venue = RemoteVenue(role.venue, role.session)
    venue.connect(unheard, WallClock().now_ns, anything)
    if role.part == "fenced":
        store = RedisStore(role.url, role.account, timeout_ms=2_000)
        grant = await store.acquire("sweep", role.session, TTL_MS)
        assert grant.mine
        await cancel_all(venue, grant.fence, line)
        await store.close()
    else:
        async with Redis.from_url(role.url) as client:
            lock = client.lock(f"{role.account}:lock", timeout=TTL_MS / 1_000)
            assert await lock.acquire()
            await cancel_all(venue, NO_FENCE, line)
            try:
                await lock.release()
            except LockError as error:
                tell("release", error=type(error).__name__)
    tell("done")


async def cancel_all(venue: RemoteVenue, fence: Fence, line: Line) -> None:
    for number in range(CANCELS):
        if number == CANCELS // 2:
            line.at("the middle")
        (answer,) = [e for e in await venue.perform(CancelAll((1, number), BTC, False, 1, fence)) if hasattr(e, "effect")]
        tell("cancel", accepted=answer.kind is OutcomeKind.ACKNOWLEDGED, code=answer.code)  # type: ignore[union-attr]


def _told(fence: Fence) -> list[int]:
    return [fence.epoch, fence.counter]


async def main() -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    role = msgspec.json.decode(await orders.readline(), type=Role)
    line = Line(orders, role.point)
    hearing = asyncio.create_task(line.hear())
    await (run if role.part == "runner" else believe)(role, line)
    await hearing


if __name__ == "__main__":
    asyncio.run(main())
