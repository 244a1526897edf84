"""What the model of all stores does beside the contract, which ``tests/contract`` holds it to: it can lose things, and it does not grow
for ever.

Method: a failover to any moment of a short history; the same requests before and after, with the fences compared; a clock that is set back;
many keys with a short time to live.
"""

import pytest
from haltcore.adapters.coordination import Claim
from haltcore.adapters.memory_state import Expiring, MemoryState
from haltcore.effects import Fence, GuardState, Trigger
from haltcore.fsm.events import GuardKind

MS = 1_000_000
LONG = 60_000


class Time:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000 * MS

    def __call__(self) -> int:
        return self.now


def test_after_a_failover_the_same_counter_is_granted_under_another_epoch() -> None:
    state = MemoryState(Time())
    replica = state.remembered()
    lost = state.acquire("sweep", "a", LONG).fence
    state.fail_over(replica)
    assert not state.renew("sweep", "a", lost, LONG)
    again = state.acquire("sweep", "b", LONG).fence
    assert (lost, again) == (Fence(1, 1), Fence(2, 1))
    assert not state.release("sweep", "a", lost)


def test_a_failover_voids_a_lease_that_the_replica_knew() -> None:
    state = MemoryState(Time())
    fence = state.acquire("sweep", "a", LONG).fence
    state.fail_over(state.remembered())
    assert not state.renew("sweep", "a", fence, LONG)
    assert state.acquire("sweep", "b", LONG).fence == Fence(2, 2)


def test_a_failover_loses_what_came_after_and_keeps_what_came_before_as_often_as_it_happens() -> None:
    state = MemoryState(Time())
    state.publish("a", "BTCUSDT", Trigger.MANUAL, "x", "y")
    state.streams.append("s", "p1", "")
    replica = state.remembered()
    for epoch in (2, 3):
        old = state.publish("a", "ETHUSDT", Trigger.MANUAL, "x", "y").rows[0].epoch
        state.claim(Claim("key", "a:1", "what"), LONG)
        state.put_state("s", 0, "open")
        state.mark_once("m", "a", LONG)
        state.set_hold("BTCUSDT", "a", "drift", "p", LONG)
        state.cool_down("c", "a", LONG)
        state.streams.read("s", "a", 1)
        state.fail_over(replica)
        latch = state.read_latch("a")
        assert ([row.scope for row in latch.rows], latch.epoch) == (["BTCUSDT"], epoch)
        assert (state.look("key"), state.get_state("s"), state.held("BTCUSDT")) == (None, (0, ""), None)
        assert state.mark_once("m", "b", 1)
        assert state.cool_down("c", "b", 1) == 0
        assert [entry.deliveries for entry in state.streams.read("s", "b", 2)] == [1]
        assert state.publish("b", "ETHUSDT", Trigger.MANUAL, "x", "y").rows[0].epoch > old, "no row's epoch is ever given again"


def test_an_epoch_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="give 1 or more"):
        MemoryState(Time(), epoch=0)


def test_a_clock_that_goes_back_voids_a_lease_and_shortens_nothing_else() -> None:
    time = Time()
    state = MemoryState(time)
    fence = state.acquire("sweep", "a", LONG).fence
    state.set_hold("BTCUSDT", "a", "drift", "p", LONG)
    state.cool_down("c", "a", LONG)
    time.now -= 1
    assert not state.renew("sweep", "a", fence, LONG)
    assert state.acquire("sweep", "b", LONG).fence.counter > fence.counter
    held = state.held("BTCUSDT")
    assert held is not None
    assert held.left_ms >= LONG
    assert state.cool_down("c", "b", LONG) >= LONG


def test_a_guard_runs_out_when_its_last_change_is_so_long_ago() -> None:
    time = Time()
    state = MemoryState(time)
    claim = Claim("key", "a:1", "what")
    state.claim(claim, 10)
    time.now += 9 * MS
    assert state.settle(claim, GuardState.DONE, "", 10)
    time.now += 9 * MS
    assert state.claim(Claim("key", "b:1", "what"), 10).kind is GuardKind.DONE
    row = state.look("key")
    assert row is not None
    assert row.at_ms == 1_009
    time.now += MS
    assert state.look("key") is None


def test_what_has_run_out_does_not_pile_up() -> None:
    time = Time()
    kept: Expiring[str] = Expiring(time)
    kept.put("long", "x", 10**9)
    for number in range(1_000):
        kept.put(f"key{number}", "x", 10)
        time.now += MS
        kept.put("again", "y", 10)
    assert len(kept.rows) < 30
    assert len(kept.ends) < 60
    assert (kept.get("long"), kept.get("again")) == ("x", "y")


def test_what_is_left_is_rounded_up() -> None:
    time = Time()
    kept: Expiring[str] = Expiring(time)
    kept.put("key", "x", 2)
    left = []
    for _ in range(5):
        left.append((kept.left_ms("key"), kept.get("key")))
        time.now += MS // 2
    assert left == [(2, "x"), (2, "x"), (1, "x"), (1, "x"), (0, None)]
