"""The way to a real server. Goal: whatever becomes of server or connection, the caller learns within the time limit whether the request was
certainly not applied, and the next request is answered rightly as soon as somebody can.

Method: every error that a server can be brought to answer, each on a server of its own: a replica, a full one, a busy one, a loading one,
one that asks for a password; a server that hangs, is gone, comes back; replicas that are cut off. Other ways than plain TCP are in
``test_redis_ways.py``.
"""

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from haltcore.adapters.coordination import Claim, Coordination, StoreFailed
from haltcore.adapters.redis_link import Link
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.redis_url import read_url
from haltcore.effects import GuardState, Trigger
from haltcore.fsm.events import StoreHealth

from tests.figures import Figures
from tests.proxy import Proxy
from tests.servers import Persistence, Server

U, D = StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT
Use = Callable[[RedisStore], Awaitable[Any]]
SECRET = "hunter2"


def using(url: str, *uses: Use, **arguments: Any) -> list[Any]:
    """What each use of one store came to; a failure as its health and code. The machine may be busy: time is not what is tested here."""

    async def go() -> list[Any]:
        store = RedisStore(url, "link", **{"timeout_ms": 5_000, **arguments})
        try:
            return [await attempt(store, use) for use in uses]
        finally:
            await store.close()

    return asyncio.run(go())


async def attempt(store: RedisStore, use: Use) -> Any:
    try:
        return await use(store)
    except StoreFailed as failed:
        shown = f"{failed} {failed.text} {store!r}"
        health, code = failed.health, failed.code
    assert SECRET not in shown
    return health, code


def write(store: Coordination) -> Awaitable[Any]:
    """A request that has to write: nobody has this mark."""
    return store.mark_once(f"m{time.monotonic_ns()}", "t", 60_000)


def lease(store: Coordination) -> Awaitable[Any]:
    return store.acquire("sweep", "a", 60_000)


def publish(store: Coordination) -> Awaitable[Any]:
    return store.publish("s", "BTC", Trigger.MANUAL, "why", "ops")


def place(store: Coordination) -> Awaitable[Any]:
    return store.claim(Claim("k", f"o{time.monotonic_ns()}", "p"), 60_000)


def put(store: Coordination) -> Awaitable[Any]:
    return store.append("plans", f"p{time.monotonic_ns()}", "body")


WRITES = (write, lease, publish, place, put)


# --- what a server refuses --------------------------------------------------------------------------------------------


def test_a_replica_is_told_from_a_master_and_left() -> None:
    with Server() as master, Server() as replica:
        assert using(replica.url(), write) == [True]
        replica.replicate(master)
        assert using(replica.url(), *WRITES) == [(U, "store_readonly")] * 5

        async def demoted_and_promoted_while_connected() -> None:
            store = RedisStore(master.url(), "link", timeout_ms=5_000)
            assert await store.mark_once("m", "t", 60_000)
            master.admin.execute_command("REPLICAOF", "127.0.0.1", replica.port)
            assert await attempt(store, write) == (U, "store_readonly")
            assert not store._link._idle, "a connection to what was the master is kept"
            master.replicate(None)
            assert await store.mark_once("m2", "t", 60_000)
            await store.close()

        replica.replicate(None)
        asyncio.run(demoted_and_promoted_while_connected())


def test_a_full_server_refuses() -> None:
    with Server(options=("--maxmemory", "1")) as server:
        assert using(server.url(), *WRITES) == [(U, "store_oom")] * 5
        server.admin.config_set("maxmemory", "100mb")
        assert using(server.url(), write) == [True]


def test_a_busy_server_refuses_and_a_slow_script_of_ones_own_is_in_doubt() -> None:
    with Server(options=("--lua-time-limit", "50")) as server:

        def hog() -> None:
            with contextlib.suppress(redis.RedisError), redis.Redis(port=server.port) as client:
                client.eval("while true do end", 0)

        async def go() -> None:
            store = RedisStore(server.url(), "link", timeout_ms=1_000)
            thread = threading.Thread(target=hog)
            thread.start()
            until(lambda: is_busy(server))
            for use in WRITES:
                assert await attempt(store, use) == (U, "store_busy")
            server.admin.execute_command("SCRIPT", "KILL")
            thread.join()
            assert await write(store)
            await store.close()

        asyncio.run(go())


def is_busy(server: Server) -> bool:
    """Whether it is in somebody's script for longer than it likes."""
    try:
        return not server.admin.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")


def test_a_server_that_forgot_the_scripts_gets_them_again_and_nothing_is_lost() -> None:
    with Server() as server:

        async def go() -> None:
            store = RedisStore(server.url(), "link", timeout_ms=5_000)
            for number in range(3):
                for use in WRITES:
                    await use(store)
                    server.admin.script_flush()
                assert await store.mark_once(f"n{number}", "t", 60_000)
            assert await store.pending("plans") == 3
            await store.close()

        asyncio.run(go())


def test_a_server_that_asks_for_a_password(capfd: pytest.CaptureFixture[str]) -> None:
    with Server(options=("--requirepass", SECRET)) as server:
        host = f"127.0.0.1:{server.port}"
        assert using(f"redis://{host}", write) == [(U, "store_auth")]
        assert using(f"redis://:{SECRET}x@{host}", write, write) == [(U, "store_auth")] * 2
        assert using(f"redis://:{SECRET}@{host}", write) == [True]
        with redis.Redis(port=server.port, password=SECRET) as admin:
            admin.acl_setuser("mm", enabled=True, passwords=[f"+{SECRET}"], keys=["other:*"], commands=["+@all"])
            assert using(f"redis://mm:{SECRET}@{host}", write) == [(U, "store_forbidden")]
            admin.acl_setuser("mm", enabled=True, keys=["{haltcore:link}*"])
            assert using(f"redis://mm:{SECRET}@{host}", write, lease)[0] is True
            admin.acl_setuser("mm", enabled=True, commands=["-pexpire"])
            assert using(f"redis://mm:{SECRET}@{host}", place)[0][0] is D, "a script that may have written before"
    assert SECRET not in "".join(capfd.readouterr())


def test_a_replica_without_its_master_refuses() -> None:
    with Server(options=("--replica-serve-stale-data", "no")) as server:
        server.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert {outcome[0] for outcome in using(server.url(), *WRITES)} == {U}


def test_a_master_without_its_replicas_refuses() -> None:
    with Server(options=("--min-replicas-to-write", "1")) as server:
        assert using(server.url(), *WRITES) == [(U, "store_no_replicas")] * 5


def test_a_server_that_cannot_write_to_its_disk_refuses() -> None:
    with Server(Persistence.RDB) as server:
        shutil.rmtree(server.folder)
        with contextlib.suppress(redis.ResponseError):
            server.admin.bgsave()
        until(lambda: server.admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        assert using(server.url(), *WRITES) == [(U, "store_disk")] * 5


def test_a_server_that_is_loading_refuses_until_it_has() -> None:
    # While it loads, a server answers after every 2 MB.
    slow = ("--key-load-delay", "3000", "--rdbcompression", "no")
    with Server(options=slow) as server:
        with server.admin.pipeline(transaction=False) as pipe:
            for number in range(200):
                pipe.set(f"k{number}", "x" * 65_536)
            pipe.execute()
        server.admin.save()
        server.kill()
        server.start(wait=False)
        seen: list[Any] = []
        until(lambda: seen.append(using(server.url(), write)[0]) or seen[-1] is True)
        assert (U, "store_loading") in seen
        assert {outcome for outcome in seen if outcome is not True} <= {(U, "store_loading"), (U, "store_refused"), (D, "store_timeout")}


def until(done: Callable[[], Any]) -> None:
    """Ask again and again, for 10 s at most."""
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- a server that hangs, or is gone ------------------------------------------------------------------------------------


def test_a_hung_server_costs_no_more_than_the_time_limit(figures: Figures) -> None:
    with Server() as server:

        async def go() -> None:
            store = RedisStore(server.url(), "link")
            await write(store)
            spent = []
            server.pause()
            try:
                # The first one leaves on a connection that was there; the others connect, since the kernel still answers, and wait in vain.
                for use in WRITES:
                    before = time.monotonic()
                    outcome = await attempt(store, use)
                    spent.append(time.monotonic() - before)
                    assert outcome in ((D, "store_timeout"), (U, "store_timeout"))
                # The least of them: a machine that is busy with other things adds to any of them.
                assert min(spent) < 0.3
            finally:
                server.resume()
            figures("hung server, one request", longest_ms=round(max(spent) * 1_000), outcome="in doubt or unavailable, never ok")
            assert await write(store)
            await store.close()

        asyncio.run(go())


def test_a_server_that_is_gone_refuses_fast_and_is_found_again(figures: Figures) -> None:
    with Server() as server:

        async def go() -> None:
            store = RedisStore(server.url(), "link", timeout_ms=5_000)
            await write(store)
            server.kill()
            await asyncio.sleep(0.01)
            spent = []
            for use in WRITES:
                before = time.monotonic()
                assert await attempt(store, use) == (U, "store_refused")
                spent.append(time.monotonic() - before)
            assert min(spent) < 0.05
            figures("server gone, one request", longest_ms=round(max(spent) * 1_000, 1), outcome="unavailable")
            server.start()
            assert await write(store)
            await store.close()

        asyncio.run(go())


def test_a_black_hole_and_a_slow_way(store_server: Server) -> None:
    with Proxy(store_server.port) as proxy:

        async def go() -> None:
            store = RedisStore(proxy.url(), "link")
            await write(store)
            proxy.swallow()
            assert await attempt(store, write) == (D, "store_timeout")
            assert await attempt(store, write) in ((D, "store_timeout"), (U, "store_timeout"))
            proxy.restore()
            assert await write(store)
            proxy.delay_s = 0.3
            assert await attempt(store, write) == (D, "store_timeout")
            proxy.delay_s = 0
            assert await write(store)
            proxy.cut()
            assert (await attempt(store, write))[0] in (U, D)
            assert await attempt(store, write) == (U, "store_refused")
            proxy.restore()
            assert await write(store)
            await store.close()

        asyncio.run(go())


def test_answers_stay_with_their_requests_when_many_are_cut_off(store_server: Server) -> None:
    """200 requests over 16 connections, each answered by its own number, a third of them cancelled at whichever moment."""

    async def go() -> None:
        store = RedisStore(store_server.url(), "link", timeout_ms=5_000)

        async def one(number: int) -> int:
            return (await store.set_hold(f"S{number}", f"{number}", "why", "plan", 60_000)).owner == f"{number}"

        tasks = [asyncio.create_task(one(number)) for number in range(200)]
        for number, task in enumerate(tasks):
            if number % 3 == 0:
                task.cancel()
            if number % 5 == 0:
                await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answer is True or isinstance(answer, asyncio.CancelledError) for answer in answers)
        assert sum(answer is True for answer in answers) >= 133
        assert all(await asyncio.gather(*(one(number) for number in range(200))))
        assert len(store._link._idle) <= 16
        await store.close()

    asyncio.run(go())


class Careless:
    """A connection that stays open when the wait for an answer is cut off, as those of redis-py once did (redis/redis-py#2624)."""

    is_connected = True

    async def connect(self) -> None:
        """Done already."""

    def pack_command(self, *_: object) -> list[bytes]:
        return []

    async def send_packed_command(self, _: list[bytes]) -> None:
        """Sent."""

    async def read_response(self) -> None:
        await asyncio.sleep(10)

    async def disconnect(self, nowait: bool) -> None:
        assert nowait
        self.is_connected = False


def test_a_connection_on_which_an_answer_is_to_come_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Careless()
    link = Link(read_url("redis://h"), timeout_ms=1)
    monkeypatch.setattr(link, "_connection", lambda *_: connection)
    with pytest.raises(StoreFailed):
        asyncio.run(link.talk(lambda line: line.command("PING")))
    assert not connection.is_connected
    assert not link._idle


def test_waiting_for_a_free_connection_counts_and_is_not_applied(store_server: Server) -> None:
    with Proxy(store_server.port) as proxy:

        async def go() -> None:
            store = RedisStore(proxy.url(), "link", timeout_ms=150)
            await write(store)
            proxy.swallow()
            async with asyncio.timeout(3):
                many = await asyncio.gather(*(attempt(store, write) for _ in range(40)))
            assert set(many) <= {(D, "store_timeout"), (U, "store_timeout")}
            assert many.count((U, "store_timeout")) >= 24
            proxy.restore()
            await store.close()

        asyncio.run(go())


# --- replicas that have to confirm ----------------------------------------------------------------------------------------


def in_step(master: Server) -> None:
    """A fresh replica confirms nothing for a while."""
    master.admin.set("in_step", 1)
    assert master.admin.wait(1, 10_000) == 1


def test_a_grant_counts_once_enough_replicas_have_it() -> None:
    with Server() as master, Server() as replica, Proxy(master.port) as way:
        replica.replicate(master, way.port)
        in_step(master)
        url = f"{master.url()}?wait_replicas=1"
        assert using(url, lease)[0].mine
        assert using(url, place)[0].kind == "claimed"
        way.swallow()

        async def go() -> None:
            store, other = RedisStore(url, "link", timeout_ms=3_000), RedisStore(master.url(), "link", timeout_ms=5_000)
            assert await attempt(store, lambda store: store.acquire("other", "a", 60_000)) == (U, "store_few_replicas")
            assert (await other.acquire("other", "b", 60_000)).mine, "the lease was not given back"
            await other.close()
            claim = Claim("k2", "o", "p")
            assert await attempt(store, lambda store: store.claim(claim, 60_000)) == (D, "store_few_replicas")
            assert await store.settle(claim, GuardState.REJECTED, "", 60_000), "the claim that may be lost was not there"
            await store.close()

        asyncio.run(go())


def test_the_word_sent_counts_once_enough_replicas_have_it() -> None:
    """Else a failover would forget it, and somebody else would take the deed over."""
    with Server() as master, Server() as replica, Proxy(master.port) as way:
        replica.replicate(master, way.port)
        in_step(master)

        async def go() -> None:
            store = RedisStore(f"{master.url()}?wait_replicas=1", "link", timeout_ms=3_000)
            claims = [Claim(f"sent {number}", "o", "p") for number in range(2)]
            for claim in claims:
                assert (await store.claim(claim, 60_000)).kind == "claimed"
            assert await store.settle(claims[0], GuardState.SENT, "", 60_000)
            way.swallow()
            assert await attempt(store, lambda store: store.settle(claims[1], GuardState.SENT, "", 60_000)) == (D, "store_few_replicas")
            assert await store.settle(claims[1], GuardState.REJECTED, "", 60_000), "the rest need not be confirmed"
            await store.close()

        asyncio.run(go())
