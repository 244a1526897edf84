"""Processes that are stopped, and processes that are killed. Goal: what a stopped one had decided under a lease or a claim that is
over does no harm, and an intention whose process dies anywhere on its way is placed once.

Method: real child processes (``worker.py``), which trade on a paper venue in this process through its gateway, over a real server. Each
stops at its point by SIGSTOP, and gets SIGCONT or SIGKILL, so nothing here is a matter of chance. A stopped one sleeps until its lease,
of 600 ms, has run out, another one has taken over, the account is lifted, and new orders are there. The same is done to a holder of
redis-py's own lock, which has no fence: what that one destroys shows that the fault has happened.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from attrs import evolve, frozen
from haltcore.adapters.answers import HaltcoreError
from haltcore.adapters.clock import WallClock
from haltcore.adapters.ladder import Ticket
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.remote_venue import RemoteVenue
from haltcore.adapters.runner import Runner
from haltcore.adapters.venue_server import VenueServer
from haltcore.effects import NO_FENCE, Cancel, CancelAll, Effect, Fence, GuardState, Place, Side, TimeInForce, price, qty
from haltcore.fsm.config import Config, StorePolicy, VenueTraits
from haltcore.fsm.events import OutcomeKind
from haltcore.fsm.guard import PLACE, guard_key
from redis.asyncio import Redis

from tests.faults.fleet import all_of
from tests.faults.worker import CANCELS, CLAIM_MS, TTL_MS, Role, anything, unheard
from tests.figures import Figures
from tests.helpers import BTC
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0
TRIALS = 3
NEW_ORDERS = 8
#: How often an intention is repeated, 50 ms apart: longer than a place can be on its way, after which it is known to be lost.
REPEATS = 30
#: The six points of a guarded place at which a process can die.
POINTS = ("before claim", "after claim", "after grant", "after send", "after reply", "after settle")


# --- children ---------------------------------------------------------------------------------------------------------------


class Child:
    """A process. ``told`` is what it has told and nobody has heard yet, ``all`` what it has told so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.all: list[dict[str, Any]] = []
        self._hearing = asyncio.get_running_loop().create_task(self._hear())

    @classmethod
    async def begin(cls, role: Role) -> "Child":
        pipe = asyncio.subprocess.PIPE
        child = cls(await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.faults.worker", stdin=pipe, stdout=pipe, cwd=ROOT))
        child.order(msgspec.json.encode(role).decode())
        return child

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):  # the last line of one that was killed
                self.all.append(msgspec.json.decode(line))
                self.told.put_nowait(self.all[-1])
        self.told.put_nowait({"told": "ended"})

    def order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def hears(self, what: str) -> dict[str, Any]:
        """The next of this kind."""
        async with asyncio.timeout(PATIENCE_S):
            while (news := await self.told.get())["told"] != what:
                assert news["told"] != "ended", f"the process has ended and told nothing of {what!r}: {self.all[-5:]}"
            return news

    def count(self, what: str, since: int = 0, **fields: Any) -> int:
        """How often it has told this."""
        return sum(t["told"] == what and all(t[name] == value for name, value in fields.items()) for t in self.all[since:])

    def resume(self) -> None:
        """It has stopped itself a while ago, and goes on."""
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; also one that is stopped."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._hearing


class Market:
    """A venue at a socket, and the children that trade on it. ``seen``: every request that came, and of whose session. Like Kraken and
    WhiteBIT the venue knows client ids of open orders only."""

    def __init__(self, server: Server, folder: Path, name: str) -> None:
        self.server, self.name = server, name
        self.venue = PaperVenue([BTC], seed=4, latency_ms=(1, 2))
        self.folder = folder / name.replace(" ", "-")
        self.folder.mkdir()
        self.seen: list[tuple[str, Effect]] = []
        self.door = VenueServer(self.venue, str(self.folder / "venue"), watch=lambda who, effect: self.seen.append((who, effect)))
        self._children: list[Child] = []
        self._refusal = self.venue.exchange._refusal
        self.venue.exchange._refusal = self._of_open_orders  # type: ignore[method-assign]

    def _of_open_orders(self, ticket: Ticket, account: str) -> str:
        known = self.venue.exchange._by_client.get((account, ticket.client_id))
        if known is not None and known.number not in self.venue.exchange._open:
            del self.venue.exchange._by_client[account, ticket.client_id]
        return self._refusal(ticket, account)

    async def __aenter__(self) -> "Market":
        await self.door.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in self._children:
            await child.kill()
        await self.door.close()
        await self.venue.close()

    async def child(self, part: str, session: str, point: str = "", journal: bool = False) -> Child:
        """Start one. With a journal it goes on where the one of the same session has ended."""
        log = str(self.folder / f"{session}.jsonl") if journal else ""
        role = Role(part, session, self.door.path, self.server.url(), self.name, log, point)
        self._children.append(await Child.begin(role))
        return self._children[-1]

    @contextlib.asynccontextmanager
    async def peer(self) -> AsyncIterator[Runner]:
        """Another runner on the account, in this process."""
        policy = StorePolicy(configured=True, latch_poll_ms=100, lease_ttl_ms=TTL_MS, lease_renew_ms=TTL_MS // 3)
        config = Config("second1", (BTC,), store=policy, venue=VenueTraits(place_expiry_ms=500))
        bot = Runner(
            config, venue=RemoteVenue(self.door.path, "second1"), store=self.store(), journal=None, people=People(unheard),
            on_stop="hand_over",
        )  # fmt: skip
        async with bot:
            yield bot

    def store(self) -> RedisStore:
        return RedisStore(self.server.url(), self.name, timeout_ms=5_000)

    def sell(self) -> None:
        """Somebody sells, so that what the bots place is filled at once."""
        self.venue.trade(BTC, Side.SELL, qty(100), price(100), tif=TimeInForce.GTC)

    def orders(self) -> int:
        """How many orders came as far as the books."""
        return sum(self.venue.placed.values())

    def open(self) -> int:
        return len([row for row in self.venue.exchange.all_open() if row.side is Side.BUY])


async def within(what: Any) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0.01)


# --- stopped past the end of the lease --------------------------------------------------------------------------------------


@frozen
class Damage:
    """What a process that was stopped did when it went on: of its requests with the old authority, how many it sent, how many the gateway
    refused and the venue accepted, and how many orders of the next session that cost. ``anew``: what it sent by a new decision."""

    sent: int
    refused: int
    accepted: int
    killed: int
    anew: int = 0


async def believer(market: Market, part: str) -> Damage:
    """A process that never looks at a clock is stopped in the middle of its cancels."""
    child = await market.child(part, "zombie1", "the middle")
    await child.hears("at")
    mine = RemoteVenue(market.door.path, "second1")
    mine.connect(unheard, WallClock().now_ns, anything)
    # The second holder waits for the first one's end, cancels what is there, and is done. Then there is a new session.
    fence = await next_fence(market) if part == "fenced" else await next_lock(market)
    (answer,) = [e for e in await mine.perform(CancelAll((1, 0), BTC, False, 1, fence)) if hasattr(e, "effect")]
    assert answer.kind is OutcomeKind.ACKNOWLEDGED  # type: ignore[union-attr]
    for number in range(NEW_ORDERS):
        market.venue.by_hand(Ticket(f"new{number}", BTC, Side.BUY, qty(1), price(90)))
    assert market.open() == NEW_ORDERS
    since = len(child.all)
    child.resume()
    await child.hears("done")
    await mine.close()
    sent, accepted = child.count("cancel", since), child.count("cancel", since, accepted=True)
    return Damage(sent, child.count("cancel", since, code="stale_fence"), accepted, NEW_ORDERS - market.open())


async def next_fence(market: Market) -> Fence:
    store = market.store()
    while not (grant := await store.acquire("sweep", "second", 60_000)).mine:
        await asyncio.sleep(0.02)
    await store.close()
    return grant.fence


async def next_lock(market: Market) -> Fence:
    async with Redis.from_url(market.server.url()) as client:
        assert await client.lock(f"{market.name}:lock", timeout=60).acquire(blocking_timeout=PATIENCE_S)
    return NO_FENCE


async def sweeper(market: Market) -> Damage:
    """A runner is stopped in the middle of its sweep, with decided cancels in its venue adapter.

    What it had decided does not leave. It is frozen by its own word, though, which a person has to lift with it too: so it says it again,
    and cancels what it finds, under no fence.
    """
    child = await market.child("runner", "zombie1", f"cancel {CANCELS // 2}")
    await child.hears("ready")
    for number in range(CANCELS):
        child.order(f"signal {number}")
        assert (await child.hears("said"))["code"] == "", "not placed"
    child.order("freeze")
    await child.hears("at")
    old = next(t["fence"] for t in child.all if t["told"] == "lease" and t["kind"] == "granted")
    fence = await next_fence(market)
    assert [fence.epoch, fence.counter] > old
    store = market.store()
    assert await store.release("sweep", "second", fence)
    await store.close()
    async with market.peer() as peer:
        await within(lambda: peer.proven())
        assert market.open() == 0
        await new_session(market, peer)
        since, arrived = len(child.all), len(market.seen)
        child.resume()
        assert (await child.hears("proven"))["verified"]
        refused = sum(market.door.fences.refused.values())
        sent = [e for who, e in market.seen[arrived:] if who == "zombie1" and isinstance(e, (Cancel, Place))]
        stale = [e for e in sent if e.fence != NO_FENCE]
        assert child.count("asked", since, code="stale_fence") == CANCELS // 2 + 1, "they were waiting to be sent"
        return Damage(len(stale), refused, len(stale) - refused, 0, len(sent) - len(stale))


async def new_session(market: Market, bot: Runner) -> None:
    """The account is lifted, by force since the one who froze it cannot be asked, and orders are placed. Somebody who lives may say freeze
    once more: then again."""
    async with asyncio.timeout(PATIENCE_S):
        for number in itertools.count():
            if market.open() == NEW_ORDERS:
                return
            if await said(bot, f"new {number}"):
                with contextlib.suppress(HaltcoreError):
                    await bot.unfreeze("ops", "well again", force=True)


def test_a_holder_that_was_stopped_past_its_lease_does_no_harm(store_server: Server, tmp_path: Path, figures: Figures) -> None:
    async def story() -> None:
        async def trial(kind: str, number: int) -> Damage:
            async with Market(store_server, tmp_path, f"{kind}{number}") as market:
                return await (sweeper(market) if kind == "runner" else believer(market, kind))

        kinds = ("redis-py", "fenced", "runner")
        found = await all_of(*(trial(kind, number) for kind in kinds for number in range(TRIALS)))
        by_kind = {kind: found[n * TRIALS : (n + 1) * TRIALS] for n, kind in enumerate(kinds)}
        names = {
            "redis-py": "redis-py's Lock", "fenced": "a fence alone, own clock ignored", "runner": "a runner in its sweep",
        }  # fmt: skip
        for kind, damages in by_kind.items():
            fields = {"stale_sent": "sent", "stale_refused": "refused", "stale_accepted": "accepted", "new_orders_killed_by_them": "killed"}
            shown = {text: "/".join(str(getattr(d, field)) for d in damages) for text, field in fields.items()}
            anew = {"cancelled_anew_by_its_own_freeze": "/".join(str(d.anew) for d in damages)} if kind == "runner" else {}
            figures(f"SIGSTOP past the TTL, {names[kind]}", **shown, **anew)
        half = CANCELS // 2
        assert by_kind["redis-py"] == [Damage(half, 0, half, NEW_ORDERS)] * TRIALS, "the fault did not happen"
        assert by_kind["fenced"] == [Damage(half, half, 0, 0)] * TRIALS
        assert [evolve(d, anew=0) for d in by_kind["runner"]] == [Damage(0, 0, 0, 0)] * TRIALS

    asyncio.run(story())


# --- stopped between claim and place ------------------------------------------------------------------------------------------


def test_a_place_whose_process_was_stopped_after_its_claim_does_not_leave(store_server: Server, tmp_path: Path, figures: Figures) -> None:
    async def trial(number: int) -> tuple[str, int, str, str, int]:
        async with Market(store_server, tmp_path, f"claimed{number}") as market, market.peer() as peer:
            child = await market.child("runner", "zombie1", "after grant")
            await child.hears("ready")
            child.order("signal 7")
            await child.hears("at")
            await asyncio.sleep(1.2 * CLAIM_MS / 1_000)
            meanwhile = await said(peer, "signal 7")
            child.resume()
            code = (await child.hears("said"))["code"]
            early = market.orders()
            async with asyncio.timeout(PATIENCE_S):
                while (after := await said(peer, "signal 7")) == "guard_held":
                    await asyncio.sleep(0.02)
            child.order("signal 7")
            assert (await child.hears("said"))["code"] == "guard_done"
            return code, early, meanwhile, after, market.orders()

    async def story() -> None:
        found = await all_of(*(trial(number) for number in range(TRIALS)))
        figures(
            f"SIGSTOP between claim and place, {TRIALS} trials", held_back_as=found[0][0], orders_of_the_zombie=sum(f[1] for f in found),
            another_meanwhile=found[0][2], orders_when_another_repeats_it=sum(f[4] for f in found),
        )  # fmt: skip
        assert found == [("too_late_at_send", 0, "guard_held", "", 1)] * TRIALS

    asyncio.run(story())


async def said(bot: Runner, once: str) -> str:
    """The intention of the child, said by another; the code of the refusal."""
    try:
        await bot.submit(BTC, "buy", "1", "100", once=once)
    except HaltcoreError as error:
        return error.code
    return ""


# --- killed on the way ----------------------------------------------------------------------------------------------------------


def test_an_intention_is_placed_once_wherever_its_process_is_killed(store_server: Server, tmp_path: Path, figures: Figures) -> None:
    async def orders(point: str) -> tuple[int, str]:
        async with Market(store_server, tmp_path, point.replace(" ", "-")) as market:
            market.sell()
            child = await market.child("runner", "killed1", point, journal=True)
            await child.hears("ready")
            child.order("signal 7")
            await child.hears("at")
            await child.kill()
            child = await market.child("runner", "killed1", journal=True)
            await child.hears("ready")
            store = market.store()
            for _ in range(REPEATS):
                child.order("signal 7")
                code = (await child.hears("said"))["code"]
                row = await store.look(guard_key(PLACE, "signal 7"))
                await asyncio.sleep(0.05)
            await store.close()
            assert code == "already_done"
            assert market.venue.exchange.position(BTC) == qty(market.orders())
            return market.orders(), row.state.value if row is not None else "none"

    async def story() -> None:
        found = dict(zip(POINTS, await all_of(*(orders(point) for point in POINTS)), strict=True))
        counts = [count for count, _ in found.values()]
        figures(
            "kill -9 at each point of a guarded place", **{point.replace(" ", "_"): count for point, (count, _) in found.items()},
            duplicates=sum(max(0, n - 1) for n in counts), lost=counts.count(0),
        )  # fmt: skip
        assert found == dict.fromkeys(POINTS, (1, GuardState.DONE.value))

    asyncio.run(story())

