"""What a real server says of itself is read as it is. Goal: no verdict rests on a misread line.

Method: servers that are set up in ways that are known, and one on which CONFIG is forbidden, as with managed ones.
"""

import asyncio
import time

import pytest
import redis
from haltcore.adapters.coordination import StoreFacts
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.store_check import verdict

from tests.servers import Persistence, Server

NS_PER_MS = 1_000_000


def facts(url: str, ahead_ms: int = 0) -> StoreFacts:
    """As a process sees them whose own clock is behind by so much."""

    async def go() -> StoreFacts:
        store = RedisStore(url, "facts", timeout_ms=5_000, wall_ns=lambda: time.time_ns() - ahead_ms * NS_PER_MS)
        try:
            return await store.facts()
        finally:
            await store.close()

    return asyncio.run(go())


def test_a_server_as_it_comes() -> None:
    with Server(Persistence.RDB) as server:
        found = facts(server.url())
        info = server.admin.info()
    assert found.kind == ("valkey" if "valkey_version" in info else "redis")
    assert found.version == info.get("valkey_version", info["redis_version"])
    assert (found.eviction, found.max_bytes, found.evicted) == ("noeviction", 0, 0)
    assert found.used_bytes is not None
    assert found.used_bytes > 100_000
    assert (found.aof, found.snapshots, found.role, found.replicas, found.min_replicas) == (False, True, "master", 0, 0)
    assert found.clock_ahead_ms is not None
    assert abs(found.clock_ahead_ms) < 100
    faults, notes = verdict(found)
    assert ["keeps snapshots only" in fault for fault in faults] == [True]
    assert ["maxmemory is not set" in note for note in notes] == [True]


def test_a_server_as_it_should_be() -> None:
    with Server(Persistence.AOF_ALWAYS, ("--maxmemory", "256mb", "--min-replicas-to-write", "2")) as server:
        found = facts(server.url())
        server.admin.config_set("min-replicas-to-write", "0")
        assert verdict(facts(server.url())) == ((), ())
        assert server.admin.keys() == [], "what was tried is gone"
    assert (found.aof, found.aof_fsync, found.snapshots, found.min_replicas) == (True, "always", False, 2)
    assert (found.max_bytes, found.cluster, verdict(found)[0]) == (256 * 2**20, False, ())
    assert ["takes no writes now (NOREPLICAS" in note for note in verdict(found)[1]] == [True]


@pytest.mark.parametrize(
    ("rights", "fault", "note"),
    [
        (["+@all"], "", ""),
        (["+@all", "-eval", "-evalsha"], "EVALSHA and EVAL", ""),
        (["+@all", "-hincrby", "-hset"], "HSET, HINCRBY", ""),
        (["+@all", "-xadd"], "", "XADD: plans cannot be sent"),
    ],
)
def test_what_the_user_may_not_do_of_what_the_scripts_do_is_named(rights: list[str], fault: str, note: str) -> None:
    with Server(Persistence.AOF_ALWAYS, ("--maxmemory", "256mb")) as server:
        server.admin.acl_setuser("mm", enabled=True, passwords=["+pw"], keys=["{haltcore:*"], commands=rights)
        found = verdict(facts(f"redis://mm:pw@127.0.0.1:{server.port}"))
    for texts, words in zip(found, (fault, note), strict=True):
        assert [f"this user may not run {words}" in text for text in texts] == ([True] if words else [])


def test_keys_of_another_name_and_a_cluster_that_is_none() -> None:
    with Server(Persistence.AOF_ALWAYS, ("--maxmemory", "256mb")) as server:
        server.admin.acl_setuser("mm", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"])
        (fault,), _ = verdict(facts(f"redis://mm:pw@127.0.0.1:{server.port}"))
        assert "give it +@all on the keys ~{haltcore:*" in fault
        (fault,), _ = verdict(facts(f"redis+cluster://127.0.0.1:{server.port}"))
        assert "write redis://" in fault


def test_a_server_that_evicts_and_one_that_follows() -> None:
    with Server(Persistence.NONE, ("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")) as server, Server() as master:
        with server.admin.pipeline(transaction=False) as pipe:
            for number in range(3_000):
                pipe.set(f"k{number}", "x" * 1_000)
            pipe.execute()
        found = facts(server.url())
        assert (found.eviction, found.max_bytes, found.snapshots) == ("allkeys-lru", 3 * 2**20, False)
        assert found.evicted
        assert found.evicted > 100
        server.replicate(master)
        assert facts(server.url()).role == "replica"
        assert facts(master.url()).replicas == 1


def test_a_clock_that_differs(store_server: Server) -> None:
    for ahead in (90_000, -90_000):
        found = facts(store_server.url(), ahead)
        assert found.clock_ahead_ms is not None
        assert abs(found.clock_ahead_ms - ahead) < 100


def test_a_server_that_forbids_config() -> None:
    with Server(Persistence.AOF_EVERYSEC) as server:
        with redis.Redis(port=server.port) as admin:
            admin.acl_setuser("mm", enabled=True, passwords=["+pw"], keys=["{haltcore:*"], commands=["+@all", "-config"])
        found = facts(f"redis://mm:pw@127.0.0.1:{server.port}")
    assert (found.aof_fsync, found.snapshots, found.min_replicas) == (None, None, None)
    assert (found.aof, found.eviction, found.role) == (True, "noeviction", "master")
