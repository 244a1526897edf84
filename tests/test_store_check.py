"""The verdict over a store. Goal: every way in which a store can forget or refuse is found, called by its name, with a remedy; a store that
is as it should be hears nothing.

Method: one sound store, and one thing changed at a time; every finding of that table, and none besides. What real servers say of themselves
is compared in ``test_redis_facts.py``.
"""

from typing import Any

import attrs
import pytest
from haltcore.adapters.coordination import StoreFacts
from haltcore.adapters.memory_store import MemoryState
from haltcore.adapters.store_check import MB, verdict
from hypothesis import given
from hypothesis import strategies as st

SOUND = StoreFacts(
    kind="redis", version="7.0.15", eviction="noeviction", max_bytes=256 * MB, used_bytes=2 * MB, evicted=0, aof=True, aof_fsync="always",
    snapshots=False, role="master", replicas=0, min_replicas=0, clock_ahead_ms=3, round_trip_ms=1,
)  # fmt: skip
FAULT, NOTE = 0, 1


def test_a_sound_store_hears_nothing() -> None:
    assert verdict(SOUND) == ((), ())
    assert verdict(attrs.evolve(SOUND, kind="valkey", version="9.1.2", snapshots=True, replicas=2, min_replicas=1)) == ((), ())


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"version": "6.0.16"}, FAULT, "install 6.2 or later"),
        ({"version": "5.0"}, FAULT, "install 6.2 or later"),
        ({"version": ""}, NOTE, "does not say its version"),
        ({"role": "replica"}, FAULT, "point the URL at the master"),
        ({"role": None}, NOTE, "whether it is a master"),
        ({"replicas": 1}, NOTE, "min-replicas-to-write 1"),
        *(({"eviction": policy}, FAULT, "set maxmemory-policy noeviction") for policy in ("allkeys-lru", "volatile-ttl", "volatile-lru")),
        ({"eviction": None}, NOTE, "make sure that it is noeviction"),
        ({"evicted": 7}, FAULT, "has evicted 7 keys"),
        ({"max_bytes": 0}, NOTE, "set maxmemory 256mb"),
        ({"max_bytes": 100 * MB, "used_bytes": 81 * MB}, NOTE, "81 % of maxmemory"),
        ({"used_bytes": 101 * MB}, NOTE, "holds 101 MB, and coordination needs less than 100"),
        ({"aof": False}, FAULT, "keeps nothing over a restart"),
        ({"aof": False, "snapshots": None}, FAULT, "has no append-only file"),
        ({"aof": False, "snapshots": True}, FAULT, "keeps snapshots only"),
        ({"aof": None}, NOTE, "set appendonly yes"),
        ({"aof_fsync": "everysec"}, NOTE, "up to a second"),
        ({"aof_fsync": "no"}, NOTE, "set appendfsync everysec"),
        ({"clock_ahead_ms": 1_500}, NOTE, "1500 ms ahead of this machine's; run NTP"),
        ({"clock_ahead_ms": -90_000}, FAULT, "90000 ms behind this machine's; run NTP"),
        ({"round_trip_ms": 180}, NOTE, "bring the server nearer"),
        ({"cluster_url": True, "cluster": False}, FAULT, "write redis://"),
        ({"cluster": True}, NOTE, "write redis+cluster://"),
        (
            {"refused": (("HSET", "NOPERM no"), ("DEL", "ACL failure in script: no"))}, FAULT,
            "may not run HSET, DEL (NOPERM no); give it +@all",
        ),
        ({"refused": (("XADD", "ERR The user executing the script can't run this"),)}, NOTE, "may not run XADD: plans"),
        ({"refused": (("HSET", "OOM no"), ("HGET", "ERR no such key"))}, NOTE, "takes no writes now (OOM no)"),
    ],
)
def test_each_finding_has_its_kind_and_its_remedy(change: dict[str, Any], kind: int, words: str) -> None:
    found = verdict(attrs.evolve(SOUND, **change))
    assert [len(texts) for texts in found] == [int(kind == FAULT), int(kind == NOTE)]
    assert words in found[kind][0]


@pytest.mark.parametrize("version", ["9" * 5_000 + ".1", "7." + "9" * 5_000, "7.22222", "\u0667.\u0662", "7", ""])
def test_a_version_that_is_none_is_a_note(version: str) -> None:
    faults, (note,) = verdict(attrs.evolve(SOUND, version=version))
    assert faults == ()
    assert "does not say its version" in note


def test_a_policy_that_evicts_is_only_a_note_while_there_is_nothing_to_keep_below() -> None:
    faults, notes = verdict(attrs.evolve(SOUND, eviction="allkeys-lru", max_bytes=0))
    assert faults == ()
    assert ["maxmemory" in note for note in notes] == [True, True]


def test_the_edges() -> None:
    for change in (
        {"version": "6.2.0"},
        {"max_bytes": 100 * MB, "used_bytes": 80 * MB},
        {"used_bytes": 100 * MB},
        {"clock_ahead_ms": 1_000},
        {"clock_ahead_ms": -1_050, "round_trip_ms": 60},
        {"round_trip_ms": 100},
        {"aof_fsync": None},
        {"cluster": True, "cluster_url": True},
        {"refused": (("XINFO", "ERR no such key"),)},
        {"min_replicas": None, "replicas": 2},
    ):
        assert verdict(attrs.evolve(SOUND, **change)) == ((), ()), change


def test_the_store_in_memory_is_fit_for_one_process() -> None:
    faults, notes = verdict(MemoryState(lambda: 0).facts())
    assert (faults, len(notes)) == ((), 1)


numbers = st.none() | st.integers(0, 10**12)
words = st.none() | st.sampled_from(["noeviction", "allkeys-lru", "always", "master", "slave", ""])


@given(
    st.builds(
        StoreFacts, st.sampled_from(["redis", "valkey"]), st.text(max_size=8), words, numbers, numbers, numbers, st.none() | st.booleans(),
        words, st.none() | st.booleans(), words, numbers, numbers, st.none() | st.integers(-(10**9), 10**9), numbers,
    )
)  # fmt: skip
def test_whatever_a_store_says_there_is_a_verdict_in_words_with_a_remedy(facts: StoreFacts) -> None:
    for text in (*verdict(facts)[0], *verdict(facts)[1]):
        assert "None" not in text
        assert any(mark in text for mark in (";", ": "))
