"""Contract: shared states change by compare-and-set; holds, marks and cool-downs are each set by one; and what has a time runs out by it.

Method: examples for each sentence of the port, each request also said twice; races of many connections. What runs out is gathered in
two tests, since on a real server the time has to pass.
"""

import pytest
from haltcore.adapters.coordination import Claim, Held
from haltcore.effects import GuardState, Trigger
from haltcore.fsm.events import GuardKind

from tests.contract.rig import LONG, Client, Rig, together

#: A time to live that a test outlasts; and one within which, besides, a request can be said in time.
SHORT, IN_TIME = 25, 60


def test_a_state_is_put_over_the_version_that_was_read(a: Client, b: Client) -> None:
    assert a.get_state("breaker:place") == (0, "")
    put, first, text = a.put_state("breaker:place", 0, "closed é {}")
    assert (put, text) == (True, "closed é {}")
    assert first > 0
    assert b.get_state("breaker:place") == (first, text)
    put, second, text = b.put_state("breaker:place", first, "open")
    assert (put, text) == (True, "open")
    assert second > first
    for old in (0, first, second + 1):
        assert a.put_state("breaker:place", old, "stale") == (False, second, "open")
    assert a.get_state("breaker:sweep") == (0, "")


def test_a_put_said_twice_is_found_applied_unless_somebody_has_put_since(a: Client, b: Client) -> None:
    first = a.put_state("s", 0, "one")
    assert a.put_state("s", 0, "one") == first
    second = b.put_state("s", first[1], "two")
    assert a.put_state("s", 0, "one") == (False, *second[1:])
    assert a.put_state("s", first[1], "two") == second, "the same text over the same version is the same put"


def test_of_many_that_put_at_once_one_does(rig: Rig, a: Client) -> None:
    stores = [rig.connect() for _ in range(20)]
    version = 0
    for _ in range(3):
        answers = together(rig, *(store.put_state("s", version, f"text{version}:{number}") for number, store in enumerate(stores)))
        ((_, version, text),) = (answer for answer in answers if answer[0])
        assert {answer[1:] for answer in answers} == {(version, text)} == {a.get_state("s")}


def test_a_lost_state_is_not_there(rig: Rig, a: Client) -> None:
    _, version, _ = a.put_state("s", 0, "one")
    rig.flush()
    assert a.get_state("s") == (0, "")
    assert a.put_state("s", version, "two") == (False, 0, "")


# --- hold -----------------------------------------------------------------------------------------------------------


def words(held: Held | None) -> tuple[str, ...] | None:
    return (held.symbol, held.owner, held.reason, held.plan) if held is not None else None


def test_a_symbol_is_held_by_one(a: Client, b: Client) -> None:
    assert a.held("BTCUSDT") is None
    hold = a.set_hold("BTCUSDT", "a", "drift: 'é'", "plan|1", LONG)
    assert words(hold) == ("BTCUSDT", "a", "drift: 'é'", "plan|1")
    assert LONG - 10_000 < hold.left_ms <= LONG
    other = b.set_hold("BTCUSDT", "b", "mine", "plan2", LONG)
    assert words(other) == words(hold) == words(b.held("BTCUSDT"))
    assert words(b.set_hold("ETHUSDT", "b", "", "", LONG)) == ("ETHUSDT", "b", "", "")


def test_a_hold_said_twice_stays_as_it_is(a: Client) -> None:
    a.set_hold("BTCUSDT", "a", "drift", "plan1", LONG)
    again = a.set_hold("BTCUSDT", "a", "drift again", "plan2", 4 * LONG)
    assert words(again) == ("BTCUSDT", "a", "drift", "plan1")
    assert again.left_ms <= LONG


def test_only_the_owner_renews_and_releases_a_hold(a: Client, b: Client) -> None:
    for who in ("a", "b"):
        assert not a.renew_hold("BTCUSDT", who, LONG)
        assert not a.release_hold("BTCUSDT", who)
    a.set_hold("BTCUSDT", "a", "drift", "plan1", LONG)
    assert not b.renew_hold("BTCUSDT", "b", LONG)
    assert not b.release_hold("BTCUSDT", "b")
    assert [a.renew_hold("BTCUSDT", "a", 2 * LONG) for _ in range(2)] == [True, True]
    hold = b.held("BTCUSDT")
    assert words(hold) == ("BTCUSDT", "a", "drift", "plan1")
    assert hold.left_ms > LONG
    assert [a.release_hold("BTCUSDT", "a") for _ in range(2)] == [True, False]
    assert b.held("BTCUSDT") is None
    assert words(b.set_hold("BTCUSDT", "b", "mine", "plan2", LONG)) == ("BTCUSDT", "b", "mine", "plan2")


# --- marks and cool-downs -------------------------------------------------------------------------------------------


def test_a_mark_is_set_once_and_by_its_setter_again(a: Client, b: Client) -> None:
    assert [a.mark_once("plan1", "a", LONG) for _ in range(2)] == [True, True]
    assert [b.mark_once("plan1", "b", LONG) for _ in range(2)] == [False, False]
    assert a.mark_once("plan1", "a", LONG)
    assert b.mark_once("plan2", "b", LONG)


def test_a_cool_down_is_begun_by_one_and_tells_the_others_how_long(a: Client, b: Client) -> None:
    assert a.cool_down("BTCUSDT:drift", "a", LONG) == 0
    left = b.cool_down("BTCUSDT:drift", "b", 2 * LONG)
    assert LONG - 10_000 < left <= LONG
    assert b.cool_down("BTCUSDT:drift", "b", 2 * LONG) <= left
    assert b.cool_down("ETHUSDT:drift", "b", LONG) == 0


def test_a_cool_down_said_again_begins_anew(a: Client, b: Client) -> None:
    assert a.cool_down("x", "a", LONG) == 0
    assert a.cool_down("x", "a", 3 * LONG) == 0
    assert b.cool_down("x", "b", LONG) > 2 * LONG


@pytest.mark.parametrize("operation", ["mark_once", "cool_down", "set_hold"])
def test_of_many_at_once_one_is_first(rig: Rig, operation: str) -> None:
    stores = [rig.connect() for _ in range(20)]
    arguments = {"mark_once": (LONG,), "cool_down": (LONG,), "set_hold": ("drift", "plan", LONG)}[operation]
    answers = together(rig, *(getattr(store, operation)("x", f"h{number}", *arguments) for number, store in enumerate(stores)))
    if operation == "set_hold":
        (owner,) = {answer.owner for answer in answers}
        assert owner in {f"h{number}" for number in range(20)}
    else:
        assert answers.count(True if operation == "mark_once" else 0) == 1


# --- time -----------------------------------------------------------------------------------------------------------


def test_what_has_a_time_is_free_when_it_has_passed(rig: Rig, a: Client, b: Client) -> None:
    claim = Claim("key", "a:1", "what")
    fence = a.acquire("sweep", "a", SHORT).fence
    a.acquire("kept", "a", LONG)
    a.claim(claim, LONG)
    a.settle(claim, GuardState.DONE, "placed", SHORT)
    a.claim(Claim("claimed", "a:1", "what"), SHORT)
    a.claim(Claim("taken", "a:1", "what"), LONG)
    b.retake(Claim("taken", "b:1", "what"), a.look("taken"), SHORT)
    a.set_hold("BTCUSDT", "a", "drift", "plan1", SHORT)
    a.set_hold("ETHUSDT", "a", "drift", "plan1", LONG)
    a.renew_hold("ETHUSDT", "a", SHORT)
    a.mark_once("plan1", "a", SHORT)
    a.mark_once("plan2", "a", LONG)
    a.cool_down("x", "a", SHORT)
    a.publish("a", "", Trigger.MANUAL, "x", "y")
    a.put_state("s", 0, "open")
    rig.pass_ms(SHORT + 1)
    assert not a.renew("sweep", "a", fence, LONG), "it ran out, though nobody has taken it"
    assert not a.release("sweep", "a", fence)
    assert b.acquire("sweep", "b", LONG).mine
    assert not b.acquire("kept", "b", LONG).mine
    for key in ("key", "claimed", "taken"):
        assert a.look(key) is None
        assert b.claim(Claim(key, "b:2", "other"), LONG).kind is GuardKind.CLAIMED
    assert b.held("BTCUSDT") is b.held("ETHUSDT") is None
    assert not a.renew_hold("BTCUSDT", "a", LONG)
    assert not a.release_hold("BTCUSDT", "a")
    assert b.set_hold("BTCUSDT", "b", "", "", LONG).owner == "b"
    assert b.mark_once("plan1", "b", LONG)
    assert not b.mark_once("plan2", "b", LONG)
    assert b.cool_down("x", "b", LONG) == 0
    assert len(a.read_latch("a").rows) == 1, "a freeze does not run out"
    assert a.get_state("s")[1] == "open", "nor does a breaker"


def test_renewing_begins_the_time_anew(rig: Rig, a: Client, b: Client) -> None:
    fence = a.acquire("sweep", "a", IN_TIME).fence
    assert a.renew("sweep", "a", fence, LONG)
    a.set_hold("BTCUSDT", "a", "drift", "plan1", IN_TIME)
    assert a.renew_hold("BTCUSDT", "a", LONG)
    claim = Claim("key", "a:1", "what")
    a.claim(claim, IN_TIME)
    assert a.settle(claim, GuardState.IN_DOUBT, "", LONG)
    a.cool_down("x", "a", IN_TIME)
    a.cool_down("x", "a", LONG)
    rig.pass_ms(IN_TIME + 1)
    assert not b.acquire("sweep", "b", LONG).mine
    assert b.held("BTCUSDT").owner == "a"
    assert b.look("key").state is GuardState.IN_DOUBT
    assert b.cool_down("x", "b", LONG) > 0
