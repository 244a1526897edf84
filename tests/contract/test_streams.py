"""Contract: a plan on a stream is given to one consumer at a time, until it is acknowledged by the one who has it; nothing is lost or
doubled.

Method: examples for each sentence of the port, each request also said twice; races of many consumers; a group that is lost; trimming
against every place of the oldest entry that is not acknowledged.
"""

import pytest
from haltcore.adapters import memory_streams, redis_store
from haltcore.adapters.coordination import Entry, dead_letters

from tests.contract.rig import Client, Rig, together

HOUR = 3_600_000


def plans(entries: list[Entry]) -> list[tuple[str, int]]:
    return [(entry.plan, entry.deliveries) for entry in entries]


def put(a: Client, count: int, stream: str = "s") -> list[str]:
    return [a.append(stream, f"p{number}", f"body {number}") for number in range(count)]


def test_an_empty_stream_has_nothing_in_it(a: Client) -> None:
    assert list(a.read("s", "a", 10)) == list(a.claim_stuck("s", "a", 0, 10)) == []
    assert (a.pending("s"), a.trim("s", 0)) == (0, 0)
    for entry in ("1-0", "1-1"):
        assert not a.keep("s", "a", entry)
        assert not a.acknowledge("s", "a", entry)
        assert not a.bury("s", "a", entry, "why")


def test_plans_are_given_once_in_their_order_with_what_they_say(a: Client, b: Client) -> None:
    body = "{\"qty\": \"0.007\"} é€😀 \\ ' \n"
    ids = [a.append("s", "plan:é|1", body), *put(a, 3)]
    assert len(set(ids)) == 4
    assert a.pending("s") == 4
    (first,) = a.read("s", "a", 1)
    assert first == Entry(ids[0], "plan:é|1", body, 1)
    assert plans(b.read("s", "b", 2)) == [("p0", 1), ("p1", 1)]
    assert plans(a.read("s", "a", 10)) == [("p2", 1)]
    assert list(a.read("s", "a", 10)) == []
    assert a.pending("s") == 4


def test_the_same_plan_again_is_the_same_entry_whatever_became_of_it(a: Client, b: Client) -> None:
    entry = a.append("s", "p", "first")
    assert b.append("s", "p", "first") == entry
    assert plans(a.read("s", "a", 10)) == [("p", 1)]
    assert a.append("s", "p", "first") == entry
    assert a.acknowledge("s", "a", entry)
    assert a.append("s", "p", "first") == entry
    assert list(a.read("s", "a", 10)) == []
    assert a.pending("s") == 0
    assert a.append("other", "p", "first")
    assert plans(a.read("other", "a", 10)) == [("p", 1)], "streams are apart"


def test_a_plan_with_another_body_is_another_entry(a: Client, b: Client) -> None:
    """What somebody else has put there under its name does not keep it out, before nor after, nor when one of them is trimmed."""
    forged, true = a.append("s", "p", "forged"), a.append("s", "p", "true")
    assert forged != true
    assert [b.append("s", "p", body) for body in ("true", "forged", "true")] == [true, forged, true]
    assert len({true, b.append("s", "ptrue", ""), b.append("s", "", "ptrue"), b.append("s", "pt", "rue")}) == 4, "where one ends counts"
    assert plans(a.read("s", "a", 2)) == [("p", 1), ("p", 1)]
    assert a.acknowledge("s", "a", forged)
    assert a.trim("s", 0) == 1
    assert b.append("s", "p", "true") == true, "still there"
    assert b.append("s", "p", "forged") not in (forged, true), "gone"


def test_two_dead_letters_of_one_name_are_both_kept(a: Client) -> None:
    for body in ("forged", "true"):
        a.append("s", "p", body)
    for number, entry in enumerate(a.read("s", "a", 10)):
        assert a.bury("s", "a", entry.id, f"why {number}")
    assert [(dead.body, dead.why) for dead in a.read(dead_letters("s"), "a", 10)] == [("forged", "why 0"), ("true", "why 1")]


def test_of_dead_letters_the_last_stay(a: Client, b: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was given one, and whether or not somebody is through with it."""
    for module in (memory_streams, redis_store):
        monkeypatch.setattr(module, "DEAD_LETTERS", 5)
    put(a, 12)
    for number, entry in enumerate(a.read("s", "a", 12)):
        assert a.bury("s", "a", entry.id, "why")
        if number == 4:
            first, second = b.read(dead_letters("s"), "b", 2)
            assert b.acknowledge(dead_letters("s"), "b", first.id)
    assert a.pending("s") == 0
    assert a.pending(dead_letters("s")) == 5
    assert not b.acknowledge(dead_letters("s"), "b", second.id), "dropped in its hands"
    assert list(b.claim_stuck(dead_letters("s"), "b", 0, 10)) == []
    assert plans(b.read(dead_letters("s"), "b", 20)) == [(f"p{number}", 1) for number in range(7, 12)]


def test_an_entry_is_acknowledged_once_by_the_one_who_has_it(a: Client, b: Client) -> None:
    (entry,) = put(a, 1)
    assert not a.acknowledge("s", "a", entry), "nobody was given it yet"
    a.read("s", "a", 1)
    assert not b.acknowledge("s", "b", entry)
    assert not b.keep("s", "b", entry)
    assert a.keep("s", "a", entry)
    assert [a.acknowledge("s", "a", entry) for _ in range(2)] == [True, False]
    assert not a.keep("s", "a", entry)
    assert list(a.claim_stuck("s", "b", 0, 10)) == []


def test_a_stuck_entry_goes_to_who_claims_it_and_the_former_one_has_no_say(a: Client, b: Client) -> None:
    entries = put(a, 3)
    a.read("s", "a", 2)
    assert list(b.claim_stuck("s", "b", HOUR, 10)) == []
    assert plans(b.claim_stuck("s", "b", 0, 1)) == [("p0", 2)]
    assert not a.acknowledge("s", "a", entries[0])
    assert not a.keep("s", "a", entries[0])
    assert not a.bury("s", "a", entries[0], "zombie")
    assert plans(b.claim_stuck("s", "b", 0, 10)) == [("p0", 3), ("p1", 2)], "its own too; what is new is not stuck"
    assert b.acknowledge("s", "b", entries[0])
    assert plans(a.claim_stuck("s", "a", 0, 10)) == [("p1", 3)]
    assert plans(a.read("s", "a", 10)) == [("p2", 1)]


def test_keeping_an_entry_keeps_it_from_being_stuck_and_is_no_delivery(rig: Rig, a: Client, b: Client) -> None:
    entries = put(a, 2)
    a.read("s", "a", 2)
    rig.pass_ms(60)
    assert a.keep("s", "a", entries[0])
    assert plans(b.claim_stuck("s", "b", 59, 10)) == [("p1", 2)]
    assert plans(b.claim_stuck("s", "b", 0, 1)) == [("p0", 2)]


def test_a_buried_entry_is_done_here_and_new_among_the_dead(a: Client, b: Client) -> None:
    entries = put(a, 2)
    a.read("s", "a", 2)
    assert not b.bury("s", "b", entries[0], "not mine")
    assert [a.bury("s", "a", entries[0], "five times in vain: é") for _ in range(2)] == [True, False]
    assert (a.pending("s"), a.pending(dead_letters("s"))) == (1, 1)
    (dead,) = b.read(dead_letters("s"), "b", 10)
    assert (dead.plan, dead.body, dead.why, dead.deliveries) == ("p0", "body 0", "five times in vain: é", 1)
    assert b.acknowledge(dead_letters("s"), "b", dead.id)
    assert list(b.read("s", "b", 10)) == []


@pytest.mark.parametrize("keep", range(6))
@pytest.mark.parametrize("done", [(), (0,), (0, 1), (0, 1, 2, 3), (0, 2, 3), (1, 2)])
@pytest.mark.parametrize("given", [0, 3, 4])
def test_trimming_drops_the_oldest_that_are_done_and_nothing_else(a: Client, keep: int, done: tuple[int, ...], given: int) -> None:
    entries = put(a, 4)
    given = max(given, *done, -1, 0) + 1 if done else given
    given = min(given, 4)
    if given:
        a.read("s", "a", given)
    for number in done:
        assert a.acknowledge("s", "a", entries[number])
    oldest = next((number for number in range(4) if number not in done), 4)
    assert a.trim("s", keep) == max(0, min(4 - keep, oldest))
    assert a.trim("s", keep) == 0
    left = [f"p{number}" for number in range(4) if number not in done]
    assert a.pending("s") == len(left)
    got = [plan for plan, _ in plans(a.claim_stuck("s", "b", 0, 10))] + [plan for plan, _ in plans(a.read("s", "b", 10))]
    assert got == left


def test_a_lost_group_is_made_again_from_the_beginning(rig: Rig, a: Client) -> None:
    entries = put(a, 3)
    a.read("s", "a", 2)
    a.acknowledge("s", "a", entries[0])
    rig.lose_group("s")
    assert not a.acknowledge("s", "a", entries[1])
    assert not a.keep("s", "a", entries[1])
    assert list(a.claim_stuck("s", "a", 0, 10)) == []
    assert a.pending("s") == 3
    assert plans(a.read("s", "a", 10)) == [("p0", 1), ("p1", 1), ("p2", 1)]


def test_a_lost_stream_begins_anew(rig: Rig, a: Client) -> None:
    put(a, 2)
    a.read("s", "a", 1)
    rig.flush()
    assert a.pending("s") == 0
    assert list(a.read("s", "a", 10)) == list(a.claim_stuck("s", "a", 0, 10)) == []
    put(a, 1)
    assert plans(a.read("s", "a", 10)) == [("p0", 1)]


def test_of_many_that_put_the_same_plan_at_once_there_is_one_entry(rig: Rig, a: Client) -> None:
    stores = [rig.connect() for _ in range(10)]
    ids = together(rig, *(store.append("s", "p", "body") for store in stores))
    assert len(set(ids)) == 1
    assert len(a.read("s", "a", 10)) == 1


def test_many_consumers_at_once_are_given_every_plan_once(rig: Rig, a: Client) -> None:
    put(a, 30)
    stores = [rig.connect() for _ in range(10)]
    batches = together(rig, *(store.read("s", f"c{number}", 4) for number, store in enumerate(stores)))
    assert sorted(entry.plan for batch in batches for entry in batch) == sorted(f"p{number}" for number in range(30))
    batches = together(rig, *(store.claim_stuck("s", f"c{number}", 0, 30) for number, store in enumerate(stores)))
    deliveries = [plan for batch in batches for plan in plans(batch)]
    assert sorted(deliveries) == sorted((f"p{number}", count) for number in range(30) for count in range(2, 12))
    owners = [number for number, store in enumerate(stores) if together(rig, store.acknowledge("s", f"c{number}", batches[0][0].id))[0]]
    assert len(owners) == 1
