"""How fast coordination is on a real server: leases, guards, holds, marks and plans, beside a plain PING and the locks that others use.

Run with ``pytest tests/benchmarks/test_store.py -s``; ``pip install 'haltcore[bench]'`` brings what it is compared with.

Method: every contestant does a batch, then all of them the next, so that what else the machine does falls on all alike; a ratio is the
median of the ratios of the rounds. A contestant is held against the PING of its own kind of connection, blocking or on asyncio, as redis-py
sends it; and what goes through haltcore's adapter also against a PING through the same adapter, which has less on its way than redis-py's.
What a script costs in itself is seen by one that does nothing. Wall time has the way and the server in it, CPU is this process alone.
Ratios are reported, and nothing is asserted about time; that every operation did what it should is.
"""

import asyncio
import gc
import importlib
import importlib.util
import itertools
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis
from attrs import frozen
from haltcore.adapters.coordination import Claim
from haltcore.adapters.redis_link import Script
from haltcore.adapters.redis_store import RedisStore
from haltcore.effects import GuardState
from haltcore.fsm.breaker import Ask, Failed, Succeeded, closed, refusal, step
from haltcore.fsm.config import BreakerPolicy
from haltcore.fsm.events import GuardKind
from haltcore.fsm.guard import guard_key, on_claim, on_settle, params_hash

from tests.servers import Server

BATCH, ROUNDS = 300, 15
TTL_MS = 600_000
HAS_REDIS_LOCK = importlib.util.find_spec("redis_lock") is not None
HAS_HIREDIS = importlib.util.find_spec("hiredis") is not None
BLOCKING, ASYNCIO, ADAPTER = "PING, blocking", "PING, asyncio", "PING through the adapter"
EMPTY = Script.of("return 1")
AT_ONCE = 50


@frozen
class Contestant:
    """``run`` does so many operations. ``ping`` is what it is held against, and ``promise`` what that ratio should be at least."""

    name: str
    run: Callable[[int], None]
    ping: str
    promise: str = ""
    through_adapter: bool = False


def measured(contestants: list[Contestant]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of wall time and of CPU for one operation, by round; after one round that is not counted."""
    wall: dict[str, list[float]] = {one.name: [] for one in contestants}
    cpu: dict[str, list[float]] = {one.name: [] for one in contestants}
    for _ in range(ROUNDS + 1):
        for one in contestants:
            gc.collect()
            gc.disable()
            began, began_cpu = time.perf_counter(), time.process_time()
            one.run(BATCH)
            wall[one.name].append((time.perf_counter() - began) / BATCH)
            cpu[one.name].append((time.process_time() - began_cpu) / BATCH)
            gc.enable()
    return {name: rounds[1:] for name, rounds in wall.items()}, {name: rounds[1:] for name, rounds in cpu.items()}


def table(contestants: list[Contestant]) -> Iterator[str]:
    """The figures, as medians."""
    wall, cpu = measured(contestants)

    def ratio(of: dict[str, list[float]], name: str, ping: str) -> float:
        return statistics.median(b / a for a, b in zip(of[name], of[ping], strict=True))

    yield f"{'':32}{'per second':>12}{'CPU us':>9}{'of PING':>9}{'by CPU':>9}{'promised':>10}{'of PING so':>12}"
    for one in contestants:
        per_second, cpu_us = 1 / statistics.median(wall[one.name]), statistics.median(cpu[one.name]) * 1e6
        ratios = f"{ratio(wall, one.name, one.ping):>9.2f}{ratio(cpu, one.name, one.ping):>9.2f}{one.promise:>10}"
        through = f"{ratio(wall, one.name, ADAPTER):>12.2f}" if one.through_adapter else ""
        yield f"{one.name:32}{per_second:>12,.0f}{cpu_us:>9.1f}{ratios}{through}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


# --- blocking ---------------------------------------------------------------------------------------------------------------


def blocking(server: Server) -> list[Contestant]:
    """What others do, on a connection that blocks."""
    client = redis.Redis(port=server.port)

    def ping(times: int) -> None:
        for _ in range(times):
            assert client.ping()

    def lock(times: int) -> None:
        for _ in range(times):
            held = client.lock("lock", timeout=30)
            assert held.acquire(blocking=False)
            held.release()

    def other_lock(times: int) -> None:
        made: Any = importlib.import_module("redis_lock").Lock
        for _ in range(times):
            held = made(client, "lock", expire=30)
            assert held.acquire(blocking=False)
            held.release()

    contestants = [Contestant(BLOCKING, ping, BLOCKING), Contestant("Lock of redis-py, blocking", lock, BLOCKING)]
    return [*contestants, Contestant("Lock of python-redis-lock", other_lock, BLOCKING)] if HAS_REDIS_LOCK else contestants


# --- on asyncio -------------------------------------------------------------------------------------------------------------

Operation = Callable[[int], Awaitable[bool]]


class OnAsyncio:
    """What others do, and what haltcore's adapter does, on one loop. Each operation is given a number that it has for itself, and says
    whether it did what it should."""

    def __init__(self, server: Server) -> None:
        import redis.asyncio

        self._loop = asyncio.new_event_loop()
        self._client = redis.asyncio.Redis(port=server.port)
        self._store = RedisStore(server.url(), "bench", timeout_ms=5_000)
        self._numbers = itertools.count()
        self._params = params_hash("buy 1")
        self._done = Claim(guard_key("order_placement", "done"), "first", self._params)
        self._loop.run_until_complete(self._prepare())

    def contestants(self) -> list[Contestant]:
        ours: list[tuple[str, Operation, str]] = [
            (ADAPTER, self.ping, ""),
            ("a script that does nothing", self.empty, ""),
            ("lease: acquire and release", self.lease, "0.30"),
            ("guard: claim, fresh", self.fresh, "0.60"),
            ("guard: claim, done before", self.cached, "0.60"),
            ("hold", self.hold, "0.85"),
            ("mark", self.mark, "0.85"),
            ("plan appended (XADD)", self.append, "0.85"),
        ]
        return [
            Contestant(ASYNCIO, self._each(self.ping_of_redis_py), ASYNCIO),
            Contestant("Lock of redis-py, asyncio", self._each(self.lock_of_redis_py), ASYNCIO),
            *(Contestant(name, self._each(operation), ASYNCIO, promise, True) for name, operation, promise in ours),
            Contestant(f"guard: claim, fresh, {AT_ONCE} at once", self._together(self.fresh), ASYNCIO, "", True),
        ]

    def end(self) -> None:
        self._loop.run_until_complete(self._store.close())
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()

    async def _prepare(self) -> None:
        await self._store.claim(self._done, TTL_MS)
        await self._store.settle(self._done, GuardState.DONE, "filled", TTL_MS)

    def _each(self, operation: Operation) -> Callable[[int], None]:
        async def batch(times: int) -> None:
            for _ in range(times):
                assert await operation(next(self._numbers))

        return lambda times: self._loop.run_until_complete(batch(times))

    def _together(self, operation: Operation) -> Callable[[int], None]:
        async def batch(times: int) -> None:
            for _ in range(times // AT_ONCE):
                assert all(await asyncio.gather(*(operation(next(self._numbers)) for _ in range(AT_ONCE))))

        return lambda times: self._loop.run_until_complete(batch(times))

    # --- others ---

    async def ping_of_redis_py(self, _: int) -> bool:
        return bool(await self._client.ping())

    async def lock_of_redis_py(self, _: int) -> bool:
        held = self._client.lock("lock", timeout=30)
        acquired = await held.acquire(blocking=False)
        await held.release()
        return bool(acquired)

    # --- haltcore ---

    async def ping(self, _: int) -> bool:
        return bool(await self._store._link.talk(lambda line: line.command("PING")) == "PONG")

    async def empty(self, _: int) -> bool:
        return bool(await self._store._link.run(EMPTY, [], []))

    async def lease(self, _: int) -> bool:
        grant = await self._store.acquire("sweep", "holder", 30_000)
        return await self._store.release("sweep", "holder", grant.fence)

    async def fresh(self, n: int) -> bool:
        asked = Claim(guard_key("order_placement", str(n)), f"o{n}", self._params, ("", "venue", "BTCUSDT"))
        return (await self._store.claim(asked, TTL_MS)).kind is GuardKind.CLAIMED

    async def cached(self, n: int) -> bool:
        return (await self._store.claim(Claim(self._done.key, f"o{n}", self._params), TTL_MS)).kind is GuardKind.DONE

    async def hold(self, _: int) -> bool:
        return (await self._store.set_hold("BTCUSDT", "me", "drift", "plan", TTL_MS)).owner == "me"

    async def mark(self, n: int) -> bool:
        return await self._store.mark_once(f"m{n}", "me", TTL_MS)

    async def append(self, n: int) -> bool:
        return bool(await self._store.append("plans", f"p{n}", "body"))


def test_beside_ping_and_the_locks_of_others(server: Server) -> None:
    on_asyncio = OnAsyncio(server)
    lines = list(table(blocking(server) + on_asyncio.contestants()))
    on_asyncio.end()
    print(f"\n{BATCH} operations a batch, {ROUNDS} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"answers are read by {'hiredis' if HAS_HIREDIS else 'redis-py alone; with hiredis installed they are read faster'}")
    print("\n".join(lines))
    if not HAS_REDIS_LOCK:
        print("python-redis-lock is not installed, so it is not compared; pip install 'haltcore[bench]'")


# --- without a store --------------------------------------------------------------------------------------------------------


def test_pure_steps() -> None:
    """Each in microseconds, the call of a function that does nothing taken off; at most 2 are promised."""
    policy, now_ns = BreakerPolicy(), time.time_ns()
    calm = closed(now_ns)
    ill = calm
    for n in range(policy.failures - 1):
        ill, _ = step(ill, Failed(f"t{n}", ill.generation, now_ns, "timeout"), policy, now_ns)
    ask, failed, worked = Ask("t", now_ns), Failed("t", calm.generation, now_ns, "timeout"), Succeeded("t", calm.generation, now_ns)
    steps: dict[str, Callable[[], object]] = {
        "": lambda: None,
        "guard: a claim": lambda: on_claim(GuardState.DONE, False, True),
        "guard: a settlement": lambda: on_settle(GuardState.DONE, GuardState.SENT, True, True),
        "guard: key and hash of parameters": lambda: (guard_key("order_placement", "signal 7"), params_hash("buy", "1", "100")),
        "breaker: may it be done?": lambda: refusal(calm, policy, now_ns),
        "breaker: ask": lambda: step(calm, ask, policy, now_ns),
        "breaker: worked": lambda: step(calm, worked, policy, now_ns),
        "breaker: failed": lambda: step(calm, failed, policy, now_ns),
        "breaker: worked, after 9 failures": lambda: step(ill, worked, policy, now_ns),
    }
    times = 20_000

    def once(run: Callable[[], object]) -> float:
        began = time.process_time()
        for _ in range(times):
            run()
        return (time.process_time() - began) / times * 1e6

    taken = {name: [once(run) for _ in range(5)] for name, run in steps.items()}
    nothing = statistics.median(taken.pop(""))
    print()
    for name, rounds in taken.items():
        print(f"{name:36}{statistics.median(rounds) - nothing:>8.2f} us")
