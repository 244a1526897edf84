"""The store on a real server, broken at every place. Goal: an answer that is lost, a request that is lost and a task that is cut off leave
neither a doubled effect nor a key that nobody ends nor a connection with somebody else's answer; what may have been lost shows as a new
epoch.

Method: every operation of ``store_calls.py``, its reply lost, then its request, then cancelled at each of its awaits, on a fresh connection
and on a warm one; each time it is said again, and the store compared with one in which it was said once. Every time to live as it reached
the server. Epochs over restart, loss, promotion, and a role that went away and came back under an idle connection. What a script costs
with few rows and with many.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import pytest
from haltcore.adapters import redis_store
from haltcore.adapters.coordination import Claim, StoreFailed
from haltcore.adapters.latch_row import UNNAMED, UNREADABLE
from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.adapters.redis_store import RedisStore
from haltcore.effects import Fence, GuardState, Trigger
from haltcore.fsm.events import StoreHealth

from tests.figures import Figures
from tests.proxy import Loss, Proxy
from tests.servers import Persistence, Server
from tests.store_calls import CALLS, LONG, TTL, Call, Memo

T = TypeVar("T")
EVALSHA, HMGET, INFO = b"$7\r\nEVALSHA\r\n", b"$5\r\nHMGET\r\n", b"$4\r\nINFO\r\n"
PATTERNS = {"look": HMGET, "facts": INFO}
accounts = (f"store{number}" for number in itertools.count())


async def with_store(url: str, use: Callable[[RedisStore], Awaitable[T]], **arguments: Any) -> T:
    """Use a store with an account of its own."""
    store = RedisStore(url, next(accounts), **{"timeout_ms": 5_000, **arguments})
    try:
        return await use(store)
    finally:
        await store.close()


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_the_calls_mean_what_they_say(call: Call) -> None:
    """In memory, where nothing breaks: once, and said twice, come to the same."""

    async def go(times: int) -> None:
        store = MemoryStore(MemoryState(lambda: 1_700_000_000_000_000_000))
        memo: Memo = {}
        await call.before(store, memo)
        for _ in range(times):
            assert call.answers(await call.say(store, memo))
        assert await call.outcome(store, memo) == call.expected

    for times in (1, 2):
        asyncio.run(go(times))


# --- what is lost on the way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", Loss)
def test_a_lost_reply_or_request_is_in_doubt_and_said_again_applies_once(store_server: Server, figures: Figures, loss: Loss) -> None:
    with Proxy(store_server.port) as proxy:

        async def warm(call: Call, store: RedisStore) -> None:
            """The server knows the scripts then, so that what is lost is the answer and not the news that it does not know them."""
            memo: Memo = {}
            await call.before(store, memo)
            await call.say(store, memo)

        async def go(call: Call, store: RedisStore) -> None:
            memo: Memo = {}
            await call.before(store, memo)
            proxy.arm(PATTERNS.get(call.name, EVALSHA), loss)
            with pytest.raises(StoreFailed) as failed:
                await call.say(store, memo)
            assert (failed.value.health, failed.value.code) == (StoreHealth.IN_DOUBT, "store_lost"), call.name
            assert call.answers(await call.say(store, memo)), call.name
            assert await call.outcome(store, memo) == call.expected, call.name

        async def every_call() -> None:
            for call in CALLS:
                for use in (warm, go):
                    await with_store(proxy.url(), lambda store, call=call, use=use: use(call, store))

        asyncio.run(every_call())
        assert proxy.lost == len(CALLS)
        figures(f"lost: {loss.value}", operations=len(CALLS), in_doubt=len(CALLS), applied_twice=0, lost_after_saying_it_again=0)


class CutAt:
    """Runs a coroutine as it is, but cancels the task as it comes to its await number ``number``, from 0."""

    def __init__(self, coroutine: Awaitable[Any], number: int) -> None:
        self._coroutine, self._number = coroutine, number
        self.cut = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        value = None
        for number in itertools.count():
            try:
                awaited = inner.send(value)
            except StopIteration as stop:
                return stop.value
            if number == self._number:
                self.cut = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                value = yield awaited
            except BaseException as error:
                try:
                    awaited = inner.throw(error)
                except StopIteration as stop:
                    return stop.value
                value = yield awaited
        raise AssertionError


@pytest.mark.parametrize("warm", [False, True])
def test_cancelled_at_each_await_nothing_leaks_and_no_answer_goes_astray(store_server: Server, figures: Figures, warm: bool) -> None:
    cuts = 0

    async def go(call: Call, store: RedisStore, number: int) -> bool:
        memo: Memo = {}
        if warm or call.before.__name__ != "_nothing":
            await call.before(store, memo)
        if warm:
            await store.get_state("warm")
        else:
            await store._link.close()
        said = CutAt(call.say(store, memo), number)

        async def say() -> Any:
            return await said

        task = asyncio.create_task(say())
        await asyncio.wait([task])
        assert task.cancelled() is said.cut, f"{call.name}: a cancellation at await {number} was swallowed"
        assert len(store._link._idle) <= 1
        marks = await asyncio.gather(*(store.mark_once(f"x{one}", "t", LONG) for one in range(3)))
        assert marks == [True] * 3, "an answer of the request that was cut off was taken for that of another"
        assert call.answers(await call.say(store, memo)), call.name
        assert await call.outcome(store, memo) == call.expected, call.name
        keys = store_server.admin.keys(f"{store._tag}*")
        forever = [key for key in keys if store_server.admin.pttl(key) == -1]
        assert {key.removeprefix(store._tag).split(":")[1] for key in forever} <= {"account", "state", "stream", "plans"}
        return said.cut

    async def every_call() -> int:
        count = 0
        for call in CALLS:
            number = 0
            while await with_store(store_server.url(), lambda store, call=call, number=number: go(call, store, number), timeout_ms=2_000):
                number += 1
            assert number >= 1, call.name
            count += number
        return count

    cuts = asyncio.run(every_call())
    figures(f"cancelled at each await, {'warm' if warm else 'fresh'} connection", awaits=cuts, keys_leaked=0, answers_astray=0)


def test_a_lease_that_a_cancelled_task_may_hold_is_let_go_by_its_name(store_server: Server) -> None:
    async def go(store: RedisStore) -> None:
        await store.get_state("warm")
        task = asyncio.create_task(store.acquire("sweep", "a", LONG))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await store.release("sweep", "a", None)
        assert (await store.acquire("sweep", "b", LONG)).mine

    asyncio.run(with_store(store_server.url(), go))


# --- what reaches the server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [call for call in CALLS if call.key], ids=str)
def test_every_time_to_live_reaches_the_server(store_server: Server, call: Call) -> None:
    async def go(store: RedisStore) -> None:
        memo: Memo = {}
        await call.before(store, memo)
        await call.say(store, memo)
        left = store_server.admin.pttl(f"{store._tag}:{call.key}")
        assert TTL - 1_000 < left <= TTL

    asyncio.run(with_store(store_server.url(), go))


@pytest.mark.parametrize("name", ["acquire", "renew"])
def test_the_time_of_a_lease_reaches_the_server(store_server: Server, name: str) -> None:
    (call,) = (call for call in CALLS if call.name == name)

    async def go(store: RedisStore) -> None:
        memo: Memo = {}
        await call.before(store, memo)
        await call.say(store, memo)
        _, _, granted, ends, holder = store_server.admin.hget(f"{store._tag}:account", "lease:sweep").split(" ", 4)
        assert (int(ends) - int(granted), holder) == (TTL * 1_000, "a")
        seconds, micros = store_server.admin.time()
        assert 0 <= seconds * 1_000_000 + micros - int(granted) < 1_000_000

    asyncio.run(with_store(store_server.url(), go))


def test_what_must_not_go_alone_is_in_one_key_that_does_not_expire(store_server: Server) -> None:
    async def go(store: RedisStore) -> None:
        await store.acquire("sweep", "a", LONG)
        await store.publish("s", "", Trigger.LOSS, "why", "risk")
        assert store_server.admin.keys(f"{store._tag}*") == [f"{store._tag}:account"]
        assert store_server.admin.pttl(f"{store._tag}:account") == -1

    asyncio.run(with_store(store_server.url(), go))


# --- a latch that something else has written to -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd", [b"garbage", b"", b"\xff\xfe", b"7", b'{"epoch":5}', b'{"epoch":"5","words":[7]}', b'{"epoch":"5","words":[{"by":"\xff"}]}']
)
def test_a_row_that_cannot_be_read_is_frozen_and_hides_no_other(store_server: Server, odd: bytes) -> None:
    async def go(store: RedisStore) -> None:
        key = f"{store._tag}:account"
        await store.publish("s", "BTC", Trigger.LOSS, "why", "risk")
        for scope in (b"latch:ETH", b"latch:\xff"):
            store_server.admin.hset(key, scope, odd)
        btc, eth, other = (await store.read_latch("s")).rows
        assert (btc.scope, btc.trigger, btc.mine, btc.readable) == ("BTC", Trigger.LOSS, True, True)
        assert (eth.scope, other.scope) == ("ETH", "\\xff")
        for row in (eth, other):
            assert (row.trigger, row.reason, row.readable, row.mine) == (Trigger.PEER, UNREADABLE, False, False)
        assert (await store.clear("s", "ETH", eth.epoch)).rows == (eth,), "nobody withdraws it"
        (row,) = (await store.publish("s", "ETH", Trigger.MANUAL, "ours", "ops")).rows
        assert (row.reason, row.joint, row.mine, row.readable) == ("ours", True, True, True)
        (row,) = (await store.clear("s", "ETH", row.epoch)).rows
        assert (row.trigger, row.reason) == (Trigger.PEER, UNNAMED), "whoever wrote it, and never said so"
        assert (await store.clear("s", "ETH", row.epoch, True)).rows == ()

    asyncio.run(with_store(store_server.url(), go))


def test_a_row_that_cannot_be_read_goes_by_force(store_server: Server) -> None:
    async def go(store: RedisStore) -> None:
        store_server.admin.hset(f"{store._tag}:account", "latch:ETH", "garbage")
        assert not (await store.clear("s", "ETH", 0, True)).done, "who forces has seen it"
        (row,) = (await store.read_latch("s")).rows
        assert (await store.clear("s", "ETH", row.epoch, True)).rows == ()

    asyncio.run(with_store(store_server.url(), go))


def test_a_trigger_of_another_version_is_a_peer_s(store_server: Server) -> None:
    async def go(store: RedisStore) -> None:
        await store.publish("s", "BTC", Trigger.LOSS, "why", "risk")
        key, field = f"{store._tag}:account", "latch:BTC"
        text = store_server.admin.hget(key, field)
        store_server.admin.hset(key, field, text.replace("loss", "maintenance"))
        (row,) = (await store.read_latch("s")).rows
        assert (row.trigger, row.reason, row.by, row.mine, row.readable) == (Trigger.PEER, UNREADABLE, "risk", True, False)
        assert (await store.clear("s", "BTC", row.epoch)).rows == ()

    asyncio.run(with_store(store_server.url(), go))


# --- epochs -----------------------------------------------------------------------------------------------------------------


async def fence_of(url: str, holder: str) -> Fence:
    store = RedisStore(url, "epochs", timeout_ms=5_000)
    try:
        grant = await store.acquire("sweep", holder, LONG)
        assert grant.mine, f"held by {grant.holder}"
        return grant.fence
    finally:
        await store.close()


@pytest.mark.parametrize("persistence", Persistence)
def test_a_restart_is_a_new_epoch_and_voids_the_lease_whatever_was_kept(persistence: Persistence, figures: Figures) -> None:
    with Server(persistence) as server:

        async def before() -> tuple[Fence, int, int]:
            store = RedisStore(server.url(), "epochs", timeout_ms=5_000)
            fence = (await store.acquire("sweep", "a", LONG)).fence
            row = (await store.publish("s", "BTC", Trigger.LOSS, "why", "risk")).rows[0].epoch
            for number in range(100):
                await store.claim(Claim(f"k{number}", "o", "p"), LONG)
            epoch = (await store.read_latch("s")).epoch
            await store.close()
            assert epoch == fence.epoch
            return fence, row, epoch

        async def after(fence: Fence, row: int) -> tuple[int, int]:
            store = RedisStore(server.url(), "epochs", timeout_ms=5_000)
            assert not await store.renew("sweep", "a", fence, LONG)
            latch = await store.read_latch("s")
            assert latch.epoch > fence.epoch
            new = await store.acquire("sweep", "b", LONG)
            assert new.mine
            assert (new.fence.epoch, new.fence.counter) > (fence.epoch, fence.counter)
            assert (await store.publish("s", "ETH", Trigger.LOSS, "why", "risk")).rows[-1].epoch > row
            rows = [await store.look(f"k{number}") for number in range(100)]
            await store.close()
            return len(latch.rows), sum(one is not None for one in rows)

        fence, row, _ = asyncio.run(before())
        server.kill()
        server.start()
        frozen, guards = asyncio.run(after(fence, row))
        keeps = persistence in (Persistence.AOF_EVERYSEC, Persistence.AOF_ALWAYS)
        assert (frozen, guards) == ((1, 100) if keeps else (0, 0))
        figures(f"kill -9 and restart, {persistence.name}", guards_kept=f"{guards} of 100", latch_kept=bool(frozen), fences_repeated=0)


def test_losing_everything_is_a_new_epoch() -> None:
    with Server() as server:
        first = asyncio.run(fence_of(server.url(), "a"))
        server.admin.flushall()
        second = asyncio.run(fence_of(server.url(), "b"))
        assert second.epoch > first.epoch


def test_a_promoted_replica_that_missed_a_grant_grants_no_fence_twice(figures: Figures) -> None:
    repeated = 0
    with Server() as master, Server() as replica, Proxy(master.port) as way:
        asyncio.run(fence_of(master.url(), "a"))
        for _ in range(3):
            replica.replicate(master, way.port)
            way.swallow()
            lost = asyncio.run(fence_of(master.url(), "a"))
            replica.replicate(None)
            found = asyncio.run(fence_of(replica.url(), "b"))
            repeated += (found.epoch, found.counter) <= (lost.epoch, lost.counter)
            way.restore()
            replica.admin.flushall()
        assert repeated == 0
    figures("replica promoted, grant lost", trials=3, fences_repeated=repeated)


def test_a_role_that_went_away_and_came_back_under_an_idle_connection_is_a_new_epoch() -> None:
    """The master is demoted, takes over data in which its last grant is missing, and is promoted again. Who had read its identity at
    connecting would grant the same fence twice."""
    with Server() as first, Server() as second:

        async def go() -> None:
            store = RedisStore(first.url(), "epochs", timeout_ms=5_000)
            await store.acquire("sweep", "a", LONG)
            second.replicate(first)
            second.replicate(None)
            lost = (await store.acquire("sweep", "a", LONG)).fence
            first.replicate(second)
            first.replicate(None)
            assert store._link._idle, "the connection is to be the one from before"
            again = (await store.acquire("sweep", "a", LONG)).fence
            assert again.epoch > lost.epoch
            await store.close()

        asyncio.run(go())


def test_a_grant_from_the_future_is_void(store_server: Server) -> None:
    """As when the server's clock went back by an hour."""

    async def go(store: RedisStore) -> None:
        fence = (await store.acquire("sweep", "a", LONG)).fence
        key = f"{store._tag}:account"
        epoch, counter, granted, ends, holder = store_server.admin.hget(key, "lease:sweep").split(" ", 4)
        later = [str(int(moment) + 3_600_000_000) for moment in (granted, ends)]
        store_server.admin.hset(key, "lease:sweep", " ".join([epoch, counter, *later, holder]))
        assert not await store.renew("sweep", "a", fence, LONG)
        taken = await store.acquire("sweep", "b", LONG)
        assert taken.mine
        assert taken.fence.counter > fence.counter

    asyncio.run(with_store(store_server.url(), go))


def test_where_each_plan_is_goes_with_the_plan(store_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trimmed from a stream, or dropped from its dead letters: nothing of it stays behind."""
    monkeypatch.setattr(redis_store, "DEAD_LETTERS", 5)

    async def go(store: RedisStore) -> None:
        for number in range(20):
            await store.append("plans", "the same plan", f"body {number}")
        for number, given in enumerate(await store.read("plans", "a", 20)):
            assert await (store.bury("plans", "a", given.id, "why") if number < 12 else store.acknowledge("plans", "a", given.id))
        assert await store.trim("plans", 3) == 17
        for name, left in (("plans", 3), ("plans.dead", 5)):
            keys = [f"{store._tag}:{kind}:{name}" for kind in ("stream", "plans")]
            assert [store_server.admin.xlen(keys[0]), store_server.admin.hlen(keys[1])] == [left, left]
        await store.trim("plans", 0)
        assert store_server.admin.hlen(f"{store._tag}:plans:plans") == 0

    asyncio.run(with_store(store_server.url(), go))


# --- what it costs ----------------------------------------------------------------------------------------------------------


def test_a_script_costs_the_same_with_few_rows_and_with_many(figures: Figures) -> None:
    """The server's own time for scripts, per call; the smallest of several batches, since the machine has other things to do."""
    with Server(options=("--lua-time-limit", "50")) as server:

        async def batch(store: RedisStore, number: int) -> float:
            server.admin.config_resetstat()
            for one in range(100):
                name = f"{number}:{one}"
                grant = await store.acquire("sweep", "a", LONG)
                await store.release("sweep", "a", grant.fence)
                claim = Claim(f"new{name}", "o", "p", ("", "BTC"))
                await store.claim(claim, LONG)
                await store.settle(claim, GuardState.DONE, "r", LONG)
                await store.mark_once(name, "t", LONG)
                await store.append("plans", name, "body")
                (given,) = await store.read("plans", "a", 1)
                await store.keep("plans", "a", given.id)
                await store.acknowledge("plans", "a", given.id)
                await store.pending("plans")
                await store.trim("plans", 10)
            return float(server.admin.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])

        async def go() -> tuple[float, float]:
            store = RedisStore(server.url(), "cost", timeout_ms=5_000)
            few = min([await batch(store, number) for number in range(4)])
            for number in range(10_000):
                await store.append("plans", f"old{number}", "body")
            assert len(await store.read("plans", "b", 10_000)) == 10_000
            with server.admin.pipeline(transaction=False) as pipe:
                for number in range(100_000):
                    pipe.hset(f"{store._tag}:idempotency:effect:x{number}", mapping={"state": "intent", "owner": "o"})
                pipe.execute()
            many = min([await batch(store, number) for number in range(4, 8)])
            await store.close()
            return few, many

        few, many = asyncio.run(go())
        figures("scripts, per call", few_rows=f"{few:.1f} us", guards_100k_plans_10k_pending=f"{many:.1f} us", ratio=f"{many / few:.2f}")
        assert many < 20 * few, "a walk over all rows would cost a thousand times as much"
