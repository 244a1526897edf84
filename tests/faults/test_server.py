"""What happens to leases, latch and guards when the server forgets, evicts, is replaced by a replica, or has its clock set.

Goal: each of these faults, which libraries of locks and guards have failed under, is done to a real server process, and it is counted
what came of it: what the store lost is what a server loses; that nothing was granted twice, and that the loss was seen, is what is
asserted.
Method: the operations of the port on a ``RedisStore``, with ``kill -9``, memory limits, a replica behind a proxy, and a stepped clock.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters.coordination import Claim, StoreFailed
from haltcore.adapters.gateway import Fences
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.store_check import verdict
from haltcore.effects import Fence, GuardState, Trigger
from haltcore.fsm.events import GuardKind, StoreHealth
from haltcore.fsm.guard import guard_key, params_hash

from tests.faults.clocks import SteppedClock
from tests.figures import Figures
from tests.proxy import Proxy
from tests.servers import Persistence, Server

TTL_MS = 259_200_000
LEASE_MS = 30_000


def told(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in real time."""
    asyncio.run(story())


def connection(port: int, account: str = "faults") -> RedisStore:
    """A patient one: how fast the server is is not the question."""
    return RedisStore(f"redis://127.0.0.1:{port}/0", account, timeout_ms=5_000)


def claim(number: int, owner: str = "first") -> Claim:
    return Claim(guard_key("order_placement", f"signal {number}"), f"{owner}:{number}", params_hash("buy 1"))


async def settled(store: RedisStore, count: int) -> int:
    """How many of so many side effects could be claimed, and were done."""
    done = 0
    for number in range(count):
        try:
            answer = await store.claim(claim(number), TTL_MS)
            if answer.kind is GuardKind.CLAIMED:
                done += await store.settle(claim(number), GuardState.DONE, "filled", TTL_MS)
        except StoreFailed as failed:
            assert failed.health is StoreHealth.UNAVAILABLE, failed  # noqa: PT017 - which failure it is, is the point
            break
    return done


async def again(store: RedisStore, count: int) -> int:
    """How many of the first so many another process would be allowed to do once more."""
    return sum([(await store.claim(claim(number, "second"), TTL_MS)).kind is GuardKind.CLAIMED for number in range(count)])


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Persistence, ids=lambda mode: mode.name.lower())
def test_a_killed_server_grants_no_fence_twice_and_its_loss_is_seen(mode: Persistence, figures: Figures) -> None:
    count = 300
    with Server(mode) as server:

        async def story() -> None:
            store = connection(server.port)
            assert await settled(store, count) == count
            before = await store.acquire("sweep", "a", LEASE_MS)
            epoch = (await store.publish("s1", "", Trigger.MANUAL, "ill", "ops")).epoch
            server.kill()
            server.start()
            await store.close()
            store = connection(server.port)
            after = await store.acquire("sweep", "b", LEASE_MS)
            latch = await store.read_latch("s2")
            lost = await again(store, count)
            faults, _ = verdict(await store.facts())
            await store.close()
            figures(
                f"server: kill -9, persistence {mode.name.lower()}", guards_kept=f"{count - lost} of {count}",
                latch_kept="yes" if latch.rows else "no", fences_granted_twice=int(after.fence == before.fence),
                found_unfit="yes" if faults else "no",
            )  # fmt: skip
            assert after.mine
            assert (after.fence.epoch, after.fence.counter) > (before.fence.epoch, before.fence.counter)
            assert latch.epoch > epoch
            assert not lets_the_old_through(before.fence, after.fence)
            assert bool(faults) == bool(lost)
            if mode in (Persistence.AOF_EVERYSEC, Persistence.AOF_ALWAYS):
                assert lost == 0
                assert latch.rows

        told(story)


def lets_the_old_through(old: Fence, new: Fence) -> bool:
    """Whether a gateway that has seen the new fence lets the old one through."""
    fences = Fences()
    assert fences.admits(new)
    return fences.admits(old)


# --- eviction ---------------------------------------------------------------------------------------------------------

POLICIES = ("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_that_evicts_is_found_unfit_before_anything_is_trusted_to_it(policy: str, figures: Figures) -> None:
    count = 2_000
    with Server(options=("--maxmemory-policy", policy)) as server:

        async def story() -> None:
            store = connection(server.port)
            before = await store.acquire("sweep", "a", LEASE_MS)
            latch = await store.publish("s1", "BTCUSDT", Trigger.MANUAL, "ill", "ops")
            done = await settled(store, count)
            assert done == count
            server.admin.config_set("maxmemory", server.admin.info("memory")["used_memory"] + 1_000_000)
            refused = 0
            for number in range(3_000):
                try:
                    server.admin.set(f"pressure:{number}", "x" * 2_000, ex=100_000)
                except Exception:
                    refused += 1
            faults, _ = verdict(await store.facts())
            server.admin.config_set("maxmemory", 0)
            rows = [await store.look(claim(number).key) for number in range(count)]
            lost = sum(row is None for row in rows)
            after, seen = await store.acquire("sweep", "a", LEASE_MS), await store.read_latch("s1")
            await store.close()
            kept = bool(seen.rows)
            figures(
                f"server: eviction by {policy}", guards_lost=f"{lost} of {count}",
                latch_and_lease="kept" if kept else "lost, seen by the epoch",
                fences_granted_twice=int(after.fence == before.fence), found_unfit="yes" if faults else "no",
            )  # fmt: skip
            assert (after.fence.epoch, after.fence.counter) > (before.fence.epoch, before.fence.counter)
            assert kept or seen.epoch > latch.epoch
            assert (policy == "noeviction") == (not any("evict" in fault for fault in faults))
            if policy == "noeviction":
                assert lost == 0
                assert refused
            if not policy.startswith("allkeys"):
                assert kept

        told(story)


# --- a replica takes over ---------------------------------------------------------------------------------------------


def test_a_promoted_replica_that_lost_writes_grants_no_fence_again(figures: Figures) -> None:
    trials, twice, plain, stale = 3, 0, 0, 0
    for _ in range(trials):
        with Server() as master, Server() as replica, Proxy(master.port) as way:
            replica.replicate(master, way.port)

            async def story(master: Server = master, replica: Server = replica, way: Proxy = way) -> tuple[Fence, Fence, int, int]:
                first, second = connection(master.port), connection(replica.port)
                await first.acquire("sweep", "a", 1)
                master.admin.incr("token")
                assert master.admin.wait(1, 1_000) == 1
                way.cut()
                before, token = await first.acquire("sweep", "a", LEASE_MS), master.admin.incr("token")
                replica.replicate(None)
                after, token_again = await second.acquire("sweep", "b", LEASE_MS), replica.admin.incr("token")
                assert after.mine
                await first.close()
                await second.close()
                return before.fence, after.fence, token, token_again

            before, after, token, token_again = asyncio.run(story())
            twice += before == after
            plain += token == token_again
            stale += lets_the_old_through(before, after)
            assert (after.epoch, after.counter) > (before.epoch, before.counter)
    figures(
        "server: replica promoted with lost writes", fences_granted_twice=f"{twice} of {trials}", stale_effects_accepted=stale,
        plain_counter_granted_twice=f"{plain} of {trials}",
    )  # fmt: skip
    assert (twice, stale) == (0, 0)
    assert plain == trials, "the fault did not happen: no write was lost"


# --- the clock is set --------------------------------------------------------------------------------------------------


def server_time(server: Server) -> int:
    """As scripts see it, in seconds."""
    return int(server.admin.eval("return redis.call('TIME')[1]", 0))


@pytest.mark.parametrize("step_s", [31, -3_600], ids=["ahead", "back"])
def test_a_server_clock_that_is_set_costs_the_lease_and_nothing_else(step_s: int, tmp_path: Path, figures: Figures) -> None:
    clock = SteppedClock(tmp_path)
    with Server(environment=clock.environment) as server:

        async def story() -> None:
            store = connection(server.port)
            assert await settled(store, 50) == 50
            before = await store.acquire("sweep", "a", LEASE_MS)
            latch = await store.publish("s1", "", Trigger.MANUAL, "ill", "ops")
            assert not (await store.acquire("sweep", "b", LEASE_MS)).mine
            before_step = server_time(server)
            clock.step(step_s)
            async with asyncio.timeout(10):
                while abs(server_time(server) - before_step) < abs(step_s) // 2:
                    await asyncio.sleep(0.01)  # some servers look at their clock ten times a second only
            after = await store.acquire("sweep", "b", LEASE_MS)
            seen = await store.publish("s2", "", Trigger.MANUAL, "ill", "ops")
            twice = await again(store, 50)
            await store.close()
            figures(
                f"server: clock set by {step_s} s", lease="free at once" if after.mine else "still held",
                fences_granted_twice=int(after.fence == before.fence),
                stale_effects_accepted=int(lets_the_old_through(before.fence, after.fence)), latch_kept="yes" if seen.rows else "no",
                guards_done_twice=twice,
            )  # fmt: skip
            assert after.mine, "a lease that nobody can judge any more is void; it is never waited for"
            assert (after.fence.epoch, after.fence.counter) > (before.fence.epoch, before.fence.counter)
            assert not lets_the_old_through(before.fence, after.fence)
            assert seen.rows[0].epoch > latch.rows[0].epoch
            assert seen.rows[0].joint
            assert twice == 0

        told(story)
