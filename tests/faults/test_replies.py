"""Lost replies and late applications: the server has done it, and nobody was told. Goal: it is done once, whatever is said again.

Method: twice the same table of operations, each on names of its own. First the reply of each is lost by a proxy, then the server is
kept busy until each has run into its time limit, after which the server does all of them; then each is said again with the same words.
What redis-py does by itself with plain commands is measured beside it. Then whole lives of a runner, each with one reply, or one
request, lost at another command; the bot repeats every intention until it hears that it is done.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from haltcore.adapters.answers import CommandRejected
from haltcore.adapters.coordination import Claim, GuardRow, StoreFailed, dead_letters
from haltcore.adapters.faults import Fault, FaultPlan, Scripted
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.redis_store import RedisStore
from haltcore.effects import Fence, GuardState, Mode, Place, RenewLease, Trigger
from haltcore.fsm.config import BreakerPolicy
from haltcore.fsm.events import GuardKind, StoreHealth

from tests.faults.fleet import PATIENT_MS, Fleet, Member, all_of
from tests.figures import Figures
from tests.helpers import BTC, ETH
from tests.proxy import Loss, Proxy
from tests.servers import Server

OTHERS = GuardRow(GuardState.INTENT, "other", "", "", 0)
LONG = 600_000
#: A script that takes so many seconds. Servers since 7.2 have os.clock, and their TIME stands still within a script.
SLOW = """
local function now() local t = redis.call('TIME'); return t[1] + t[2] / 1000000 end
if pcall(function() return os.clock() end) then now = function() return os.clock() end end
local till = now() + ARGV[1]
repeat until now() >= till
"""
Operation = Callable[[RedisStore], Awaitable[Any]]

# --- every operation ------------------------------------------------------------------------------------------------------


class Prepared:
    """An account in which every operation has something to do. ``table``: each operation, and what it must answer when it is said again
    after it was applied unheard. ``looks`` change nothing."""

    def __init__(self, renewed: Fence, released: Fence, latched: int, entries: dict[str, str]) -> None:
        def claim(name: str, owner: str = "me") -> Claim:
            return Claim(name, owner, "p")

        self.table: dict[str, tuple[Operation, Callable[[Any], bool]]] = {
            "acquire": (lambda s: s.acquire("asked", "me", LONG), lambda grant: grant.mine),
            "renew": (lambda s: s.renew("renewed", "me", renewed, LONG), bool),
            "release": (lambda s: s.release("released", "me", released), lambda done: not done),
            "publish": (lambda s: s.publish("me", BTC, Trigger.MANUAL, "ill", "ops"), lambda latch: not latch.rows[0].joint),
            "clear": (lambda s: s.clear("me", ETH, latched), lambda latch: latch.done),
            "claim": (lambda s: s.claim(claim("fresh"), LONG), lambda claimed: claimed.kind is GuardKind.CLAIMED),
            "sent": (lambda s: s.settle(claim("sent"), GuardState.SENT, "", LONG), bool),
            "done": (lambda s: s.settle(claim("done"), GuardState.DONE, "r", LONG), bool),
            "rejected": (lambda s: s.settle(claim("rejected"), GuardState.REJECTED, "", LONG), bool),
            "retake": (lambda s: s.retake(claim("taken"), OTHERS, LONG), bool),
            "put_state": (lambda s: s.put_state("put", 0, "text"), lambda put: put[:2] == (True, 1)),
            "set_hold": (lambda s: s.set_hold("set", "me", "why", "", LONG), lambda held: held.owner == "me"),
            "renew_hold": (lambda s: s.renew_hold("renewed", "me", LONG), bool),
            "release_hold": (lambda s: s.release_hold("released", "me"), lambda done: not done),
            "mark_once": (lambda s: s.mark_once("mark", "me", LONG), bool),
            "cool_down": (lambda s: s.cool_down("cool", "me", LONG), lambda left: left == 0),
            "append": (lambda s: s.append("appended", "plan", "body"), bool),
            "read": (lambda s: s.read("read", "me", 10), lambda found: not found),
            "claim_stuck": (lambda s: s.claim_stuck("stuck", "me", 0, 10), lambda found: [e.plan for e in found] == ["plan"]),
            "keep": (lambda s: s.keep("kept", "me", entries["kept"]), bool),
            "acknowledge": (lambda s: s.acknowledge("done", "me", entries["done"]), lambda done: not done),
            "bury": (lambda s: s.bury("buried", "me", entries["buried"], "poison"), lambda done: not done),
            "trim": (lambda s: s.trim("trimmed", 1), lambda dropped: dropped == 0),
        }
        self.looks: dict[str, Operation] = {
            "read_latch": lambda s: s.read_latch("me"), "look": lambda s: s.look("taken"), "get_state": lambda s: s.get_state("put"),
            "held": lambda s: s.held("set"), "pending": lambda s: s.pending("appended"), "facts": lambda s: s.facts(),
        }  # fmt: skip

    @classmethod
    async def of(cls, store: RedisStore) -> "Prepared":
        """Make it so."""
        renewed, released = await store.acquire("renewed", "me", LONG), await store.acquire("released", "me", LONG)
        latched = (await store.publish("me", ETH, Trigger.MANUAL, "ill", "ops")).rows[0].epoch
        for name, owner in (("sent", "me"), ("done", "me"), ("rejected", "me"), ("taken", "other")):
            await store.claim(Claim(name, owner, "p"), LONG)
        for name in ("renewed", "released"):
            await store.set_hold(name, "me", "why", "", LONG)
        entries = {}
        for name in ("read", "stuck", "kept", "done", "buried"):
            entries[name] = await store.append(name, "plan", "body")
            if name != "read":
                assert await store.read(name, "other" if name == "stuck" else "me", 10)
        for number in range(3):
            await store.append("trimmed", f"plan {number}", "body")
        for entry in await store.read("trimmed", "me", 10):
            assert await store.acknowledge("trimmed", "me", entry.id)
        prepared = cls(renewed.fence, released.fence, latched, entries)
        for look in prepared.looks.values():
            await look(store)
        # Scripts that the server does not know yet would go along in a second request.
        for once in (store.release("none", "me", None), store.trim("none", 1), store.retake(Claim("none", "me", "p"), OTHERS, LONG)):
            await once
        await store.mark_once("none", "me", LONG)
        await store.bury("none", "me", "0-1", "")
        await store.claim_stuck("none", "me", 0, 1)
        return prepared

    async def said_again(self, store: RedisStore, name: str) -> bool:
        """Whether it is answered as something that has been done once."""
        operation, is_once = self.table[name]
        return is_once(await operation(store))

    async def more_than_once(self, store: RedisStore) -> list[str]:
        """What there is too much of, or too little, after everything was said twice."""
        latch = await store.read_latch("me")
        counts: dict[str, tuple[Any, Any]] = {
            "appended": (await store.pending("appended"), 1), "read": (await store.pending("read"), 1),
            "stuck": (await store.pending("stuck"), 1), "done": (await store.pending("done"), 0),
            "buried": (await store.pending("buried"), 0), "dead": (await store.pending(dead_letters("buried")), 1),
            "version": ((await store.get_state("put"))[0], 1), "latched": (len(latch.rows), 1), "joint": (latch.rows[0].joint, False),
            "free": ((await store.acquire("released", "another", 1)).mine, True), "hold": (await store.held("released"), None),
            "held": (getattr(await store.held("set"), "owner", ""), "me"),
            "asked": ((await store.acquire("asked", "another", 1)).holder, "me"),
        }  # fmt: skip
        for name, state in {"fresh": "intent", "sent": "sent", "done": "done", "rejected": "rejected", "taken": "intent"}.items():
            row = await store.look(name)
            counts[f"guard {name}"] = (row and (row.state.value, row.owner), (state, "me"))
        return [f"{name}: {found}" for name, (found, due) in counts.items() if found != due]


async def health_of(answer: Awaitable[Any]) -> StoreHealth:
    try:
        await answer
    except StoreFailed as failed:
        return failed.health
    return StoreHealth.OK


def test_the_reply_to_any_operation_is_lost_and_it_is_done_once(store_server: Server, figures: Figures) -> None:
    async def story() -> None:
        straight = RedisStore(store_server.url(), "replies", timeout_ms=PATIENT_MS)
        prepared = await Prepared.of(straight)
        with Proxy(store_server.port) as way:
            store = RedisStore(way.url(), "replies", timeout_ms=PATIENT_MS)
            lost, wrong = [], []
            for name, (operation, _) in prepared.table.items():
                await store.read_latch("me")
                way.arm(b"$7\r\nEVALSHA\r\n")
                lost.append(await health_of(operation(store)))
                assert not way.disarm(), name
                wrong += [] if await prepared.said_again(store, name) else [name]
            assert lost == [StoreHealth.IN_DOUBT] * len(prepared.table)
            twice = await prepared.more_than_once(straight)
            plain = await plain_commands(way, store_server)
            await store.close()
        await straight.close()
        figures(
            f"reply lost, each of {len(lost)} operations", in_doubt=len(lost), done_twice_or_not_at_all=len(twice + wrong),
            redis_py_by_itself=plain,
        )  # fmt: skip
        assert (twice, wrong) == ([], [])
        assert plain == "INCR 2 XADD 2 SET NX None", "the fault did not happen"

    asyncio.run(story())


async def plain_commands(way: Proxy, server: Server) -> str:
    """What the library's own client makes of a lost reply: values after one call each."""

    def one_call_each() -> str:
        with redis.Redis(port=way.port, decode_responses=True) as client:
            client.ping()
            way.arm(b"$6\r\nINCRBY\r\n")
            client.incr("plain:counter")
            way.arm(b"$4\r\nXADD\r\n")
            client.xadd("plain:stream", {"a": 1})
            way.arm(b"\r\n$2\r\nNX\r\n")
            got = client.set("plain:lock", "me", nx=True)
        return f"INCR {server.admin.get('plain:counter')} XADD {server.admin.xlen('plain:stream')} SET NX {got}"

    return await asyncio.to_thread(one_call_each)


@pytest.mark.parametrize("told", [True, False], ids=["told busy", "time limit"])
def test_a_slow_script_delays_every_operation_and_it_is_done_once(told: bool, figures: Figures) -> None:
    """Told busy: the server says so, and it is certainly not applied. Not told: it hears each request, and does it all in the end."""
    with Server(options=("--lua-time-limit", "50" if told else "60000")) as server:

        def hog(seconds: float) -> None:
            with contextlib.suppress(redis.RedisError), redis.Redis(port=server.port) as client:
                client.eval(SLOW, 0, seconds)

        async def story() -> None:
            straight = RedisStore(server.url(), "slow", timeout_ms=PATIENT_MS)
            prepared = await Prepared.of(straight)
            # Connections are there already: one that the server does not accept any more would not be in doubt.
            stores = [RedisStore(server.url(), "slow") for _ in range(3)]
            operations = [operation for operation, _ in prepared.table.values()] + list(prepared.looks.values())
            shares = [operations[n::3] for n in range(3)]
            for store, share in zip(stores, shares, strict=True):
                await asyncio.gather(*(store.read_latch("me") for _ in share))
            thread = threading.Thread(target=hog, args=(0.9,))
            thread.start()
            await asyncio.sleep(0.3)
            asked = [health_of(operation(store)) for store, share in zip(stores, shares, strict=True) for operation in share]
            came_to = await asyncio.gather(*asked)
            await asyncio.to_thread(thread.join)
            applied_late = (await straight.get_state("put"))[0]
            wrong = [name for name in prepared.table if not told and not await prepared.said_again(straight, name)]
            if told:
                for operation, _ in prepared.table.values():
                    await operation(straight)
            twice = await prepared.more_than_once(straight)
            for store in (*stores, straight):
                await store.close()
            figures(
                f"slow script, {'told busy' if told else 'time limit'}: {len(came_to)} operations",
                unavailable=came_to.count(StoreHealth.UNAVAILABLE), in_doubt=came_to.count(StoreHealth.IN_DOUBT),
                applied_afterwards="yes" if applied_late else "no", done_twice_or_not_at_all=len(twice + wrong),
            )  # fmt: skip
            assert set(came_to) == {StoreHealth.UNAVAILABLE if told else StoreHealth.IN_DOUBT}
            assert bool(applied_late) != told
            assert (twice, wrong) == ([], [])

        asyncio.run(story())


# --- every command of a runner's life -------------------------------------------------------------------------------------

#: What only the request in question has.
COMMANDS = {
    "read": b"\r\n$4\r\nread\r\n", "check": b"$4\r\nINFO\r\n", "check's TIME": b"$4\r\nTIME\r\n", "check's CONFIG": b"$6\r\nCONFIG\r\n",
    "claim": b"\r\n$5\r\nclaim\r\n", "settle rejected": b"\r\n$8\r\nrejected\r\n", "settle done": b"\r\n$4\r\ndone\r\n",
    "read breaker": b":breaker:place\r\n", "share breaker": b":breaker:place\r\n$1\r\n0\r\n", "publish": b"\r\n$7\r\npublish\r\n",
    "acquire": b"\r\n$7\r\nacquire\r\n", "renew": b"\r\n$5\r\nrenew\r\n", "release": b"\r\n$7\r\nrelease\r\n",
    "clear": b"\r\n$5\r\nclear\r\n",
}  # fmt: skip
INTENTIONS = 3


class Life:
    """A runner's life from its start to its stop, in which this loss happens to this command. The first place is turned away by the venue,
    so that the breaker has something to share."""

    def __init__(self, server: Server, command: str, loss: Loss) -> None:
        self.command, self.loss = command, loss
        turned_away = FaultPlan(script=(Scripted(Place, 1, Fault.SERVICE_UNAVAILABLE),))
        venue = PaperVenue([BTC, ETH], seed=2, latency_ms=(50, 60), faults=turned_away)
        policy = {"lease_ttl_ms": 300, "lease_renew_ms": 100}
        self.fleet = Fleet(server, 1, ways=True, exchange=venue, store=policy, breaker=BreakerPolicy(), timeout_ms=400)
        self.faults: list[str] = []
        self.happened = False
        self.tries = 0

    async def live(self) -> None:
        """All of it; what was not as it has to be is in ``faults``."""
        way = self.fleet.members[0].way
        assert way is not None
        way.arm(COMMANDS[self.command], self.loss)
        async with self.fleet as fleet:
            (member,) = fleet.members
            for number in range(INTENTIONS):
                await self._insist(member, f"intention {number}")
            proof = await member.bot.freeze("test", "ops")
            self._check(proof.verified and fleet.open() == 0, "not proven empty")
            self._check(bool(member.decided(RenewLease)) or self.command == "acquire", "no renewal")
            await self._latched(True)
            self._check(await member.tries(once="frozen") == "frozen", "placed while frozen")
            await self._lift(member)
            await self._latched(False)
            await self._insist(member, "intention after")
            await member.bot.stop()
            self.happened = not way.disarm()
            await self._count(member)

    def _check(self, fine: bool, what: str) -> None:
        if not fine:
            self.faults.append(f"{self.command}, {self.loss.name.lower()} lost: {what}")

    async def _insist(self, member: Member, once: str) -> None:
        """Say it until it is heard that it is done."""
        for _ in range(60):
            self.tries += 1
            code = await member.tries(once=once)
            if code == "already_done":
                return
            await asyncio.sleep(0.02)
        self._check(False, f"{once} was never done: {code}")

    async def _latched(self, wanted: bool) -> None:
        for _ in range(40):
            latch = await self.fleet.probe.read_latch("probe")
            if bool(latch.rows) is wanted:
                return
            await asyncio.sleep(0.05)
        self._check(False, "the latch was lost" if wanted else "the latch was not lifted")

    async def _lift(self, member: Member) -> None:
        for _ in range(40):
            with contextlib.suppress(CommandRejected):
                await member.bot.unfreeze("ops", "well again")
            await asyncio.sleep(0.05)
            if member.mode() is Mode.ACTIVE:
                return
        self._check(False, "it could not be lifted")

    async def _count(self, member: Member) -> None:
        """How many orders of each intention came as far as the venue's books, and whether the lease is free."""
        orders: dict[str, int] = {}
        for order in (*member.bot.core.orders.values(), *member.bot.core.closed.values()):
            count = self.fleet.venue.placed[order.spec.client_id]
            orders[order.spec.once] = orders.get(order.spec.once, 0) + count
        wrong = {once: count for once, count in orders.items() if count != (once != "frozen")}
        self._check(not wrong and len(orders) == INTENTIONS + 1, f"orders of the intentions: {orders}")
        self._check(not member.bot.core.flow.guards, "the store was not told of every claim")
        grant = await self.fleet.probe.acquire("sweep", "another", 1)
        self._check(grant.mine, "the lease has leaked")


@pytest.mark.parametrize("loss", Loss, ids=lambda loss: f"{loss.name.lower()} lost")
def test_a_loss_at_any_command_of_a_life_costs_a_repetition_and_nothing_else(store_server: Server, loss: Loss, figures: Figures) -> None:
    async def story() -> None:
        # Scripts that the server does not know yet would go along in a second request.
        first = Life(store_server, "read", loss)
        await first.live()
        lives = [Life(store_server, command, loss) for command in COMMANDS]
        await all_of(*(life.live() for life in lives))
        orders = sum(sum(life.fleet.venue.placed.values()) for life in lives)
        faults = [fault for life in lives for fault in life.faults]
        figures(
            f"{loss.name.lower()} lost at each of {len(lives)} commands of a life", losses=sum(life.happened for life in lives),
            intentions=len(lives) * (INTENTIONS + 1), orders=orders, said=sum(life.tries for life in lives),
            leases_leaked=sum("leaked" in fault for fault in faults), latches_lost=sum("latch" in fault for fault in faults),
        )  # fmt: skip
        assert faults == []
        assert [life.command for life in lives if not life.happened] == []
        assert orders == len(lives) * (INTENTIONS + 1)

    asyncio.run(story())

