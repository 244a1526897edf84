"""The sweep lease saves work and never costs safety: it is renewed, lost, capped and given back, and no cancel ever waits for it.

Method: sessions through the real ``step``, whose invariants (SAFE-8 among them) are checked at every record. Time stands still but for
what a test lets pass, so that the end of a lease by our own clock is exact. ``may_send`` is asked about effects that were decided under a
lease which is lost by then, and the core has to decide anew in the very step that hears of it.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClearFreeze,
    Fence,
    FetchOpenOrders,
    Metric,
    Place,
    Purpose,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    SetTimer,
)
from haltcore.fsm.config import ForeignPolicy, StoreCheck, StorePolicy, SweepPolicy, VenueTraits
from haltcore.fsm.core import Lease
from haltcore.fsm.events import LatchKind, LeaseAnswer, LeaseKind, Stopping, Unfreeze
from haltcore.fsm.freeze import may_send
from haltcore.fsm.invariants import broken, broken_state

from tests.helpers import ACKNOWLEDGED, BTC, ETH, MS, REFUSED, Session

STORE = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF, lease_cap_ms=100_000)
FENCE = Fence(3, 7)
NO_CANCEL_ALL = VenueTraits(cancel_all=False, batch=1)


def held(**fields: Any) -> tuple[Session, int]:
    """A sweep under way with the lease, over one order; its cancels are the last step's effects."""
    s = Session(**{"store": STORE, **fields})
    key = s.working()
    s.freeze()
    s.lease(s.one(AcquireLease), fence=FENCE)
    return s, key


def lease(s: Session) -> Lease | None:
    assert s.core.desk is not None
    return s.core.desk.lease


def answer(s: Session, effect: Any, kind: LeaseKind, valid_ms: int = 30_000, fence: Fence = FENCE) -> None:
    s.feed(LeaseAnswer(s.now, effect.id, kind, fence, s.now + valid_ms * MS, ""))


def until_it_ends(s: Session, kind: LeaseKind) -> int:
    """Let the lease's timer fire and answer each renewal like this, until there is no lease; how many there were."""
    tries = 0
    for _ in range(100):
        if lease(s) is None:
            return tries
        s.fire(purpose=Purpose.LEASE)
        for effect in s.got(RenewLease):
            tries += 1
            answer(s, effect, kind)
    raise AssertionError("it does not end")


def figures(s: Session, name: str) -> list[int]:
    return [m.value for m in s.all(Metric) if m.name == name]


def lift(s: Session) -> None:
    """A person ends the freeze before the proof, with the store's consent."""
    s.feed(Unfreeze(s.now, "", "tester", "a slip", True))
    s.latch(s.one(ClearFreeze))


def renewal(s: Session) -> RenewLease:
    """Let the lease's timer fire; the renewal."""
    s.fire(purpose=Purpose.LEASE)
    return s.one(RenewLease)


# --- asking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"sweep": SweepPolicy(foreign=ForeignPolicy.LEAVE)}, {"strategies": ("mm",)}], ids=["others' orders stay", "a strategy"]
)
def test_where_each_runner_cancels_its_own_nobody_asks_for_the_lease(fields: dict[str, Any]) -> None:
    s = Session(**{"store": STORE, **fields})
    s.working(strategy="mm")
    s.freeze("strategy:mm" if "strategies" in fields else "")
    assert not s.got(AcquireLease)
    assert s.got(Cancel), "they go in the step that freezes"


@pytest.mark.parametrize(("kind", "label"), [(LatchKind.UNAVAILABLE, "cancel,go"), (LatchKind.IN_DOUBT, "cancel,go")])
def test_a_store_that_has_failed_is_not_asked_and_costs_no_time(kind: LatchKind, label: str) -> None:
    s = Session(store=STORE)
    s.working()
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), kind=kind)
    s.freeze()
    assert len(s.got(CancelAll)) == 2
    assert not s.got(AcquireLease)
    assert label in [m.label for m in s.got(Metric) if m.name == "mm_coordination_degraded_total"]


def test_no_answer_within_the_wait_counts_as_doubt() -> None:
    s = Session(store=STORE)
    s.working()
    s.freeze()
    s.fire(purpose=Purpose.SWEEP)
    assert [m.label for m in s.got(Metric) if m.name == "mm_coordination_degraded_total"] == ["cancel,go"]


def test_a_wider_freeze_does_not_go_ahead_of_the_answer() -> None:
    s = Session(store=STORE)
    s.working()
    s.working(symbol=ETH)
    s.freeze(BTC)
    request = s.one(AcquireLease)
    s.freeze()
    assert not s.got(CancelAll)
    s.lease(request, fence=FENCE)
    assert {effect.symbol for effect in s.got(CancelAll)} == {BTC, ETH}


def test_a_grant_that_took_longer_than_it_lasts_is_given_back() -> None:
    s = Session(store=STORE)
    s.working()
    s.freeze()
    s.lease(s.one(AcquireLease), fence=FENCE, valid_ms=0)
    assert s.one(ReleaseLease).fence == FENCE
    assert lease(s) is None
    assert {effect.fence for effect in s.got(CancelAll)} == {NO_FENCE}


def test_a_grant_in_doubt_is_given_back_at_the_end_whichever_it_is() -> None:
    s = Session(store=STORE)
    s.freeze()
    s.lease(s.one(AcquireLease), LeaseKind.IN_DOUBT)
    s.prove_empty()
    assert s.one(ReleaseLease).fence == NO_FENCE
    assert figures(s, "mm_lock_hold_seconds") == [], "nobody knows that it was held"
    s = Session(store=STORE)
    s.freeze()
    request = s.one(AcquireLease)
    s.fire(purpose=Purpose.SWEEP)
    s.prove_empty()
    s.lease(request, LeaseKind.IN_DOUBT)
    assert s.one(ReleaseLease).fence == NO_FENCE, "the answer came after the end"


def test_what_is_granted_to_a_request_of_long_ago_is_given_back_and_the_lease_is_kept() -> None:
    s = Session(store=STORE)
    s.freeze()
    first = s.one(AcquireLease)
    lift(s)
    s.freeze()
    second = s.one(AcquireLease)
    s.lease(first, fence=Fence(3, 6))
    assert s.one(ReleaseLease).fence == Fence(3, 6)
    s.lease(second, fence=FENCE)
    s.lease(first, fence=Fence(3, 6))
    assert s.one(ReleaseLease).fence == Fence(3, 6)
    found = lease(s)
    assert found is not None
    assert found.fence == FENCE


# --- renewing -----------------------------------------------------------------------------------------------------------


def test_it_is_renewed_every_lease_renew_ms_and_lasts_longer_by_the_answer() -> None:
    s, _ = held()
    for _ in range(3):
        before = s.now
        effect = renewal(s)
        assert (effect.fence, s.now - before) == (FENCE, 10_000 * MS)
        answer(s, effect, LeaseKind.GRANTED)
        found = lease(s)
        assert found is not None
        assert found.valid_until_ns == s.now + 30_000 * MS


@pytest.mark.parametrize("kind", [LeaseKind.UNAVAILABLE, LeaseKind.IN_DOUBT])
def test_a_renewal_without_an_answer_does_not_extend_and_is_tried_again_until_the_end(kind: LeaseKind) -> None:
    s, _ = held()
    start = s.now
    assert until_it_ends(s, kind) >= 10
    assert s.now - start == 30_000 * MS, "to the nanosecond of our own clock"
    assert figures(s, "mm_lease_lost_total") == [1]
    assert figures(s, "mm_lock_hold_seconds") == [30_000 * MS]
    assert [alert.code for alert in s.got(Alert)] == ["lease_lost"]


def test_a_renewal_that_is_never_answered_ends_with_the_lease() -> None:
    s, _ = held()
    effect = renewal(s)
    start = s.now
    s.fire(purpose=Purpose.LEASE)
    assert (lease(s), s.now - start) == (None, 20_000 * MS)
    answer(s, effect, LeaseKind.GRANTED)
    assert s.one(ReleaseLease).fence == FENCE, "it is ours at the store, and nobody needs it"


def test_a_renewal_that_is_answered_after_the_end_is_no_renewal() -> None:
    s, _ = held()
    effect = renewal(s)
    s.wait(50_000)
    answer(s, effect, LeaseKind.GRANTED, valid_ms=-20_000)
    assert lease(s) is None


@pytest.mark.parametrize("kind", [LeaseKind.LOST, LeaseKind.HELD])
def test_a_renewal_that_is_refused_loses_it_and_the_sweep_goes_on_without(kind: LeaseKind) -> None:
    s, key = held()
    cancels = s.got(CancelAll)
    answer(s, renewal(s), kind, fence=NO_FENCE)
    assert lease(s) is None
    assert figures(s, "mm_lease_lost_total") == [1]
    for effect in cancels:
        s.outcome(effect)
    s.cancelled(key)
    s.prove_empty()
    assert not s.got(ReleaseLease)


def test_it_is_held_for_lease_cap_ms_at_most() -> None:
    s, _ = held()
    start = s.now
    assert until_it_ends(s, LeaseKind.GRANTED) == 9
    assert s.now - start == 100_000 * MS
    assert s.one(ReleaseLease).fence == FENCE
    assert "lease_capped" in s.codes()
    assert s.core.desk is not None
    assert s.core.desk.sweep is not None, "the sweep goes on"
    assert figures(s, "mm_lease_lost_total") == []


# --- giving it back -------------------------------------------------------------------------------------------------------


def test_it_is_given_back_when_the_orders_are_handed_over() -> None:
    s, _ = held()
    s.feed(Stopping(s.now, False, "tester"))
    assert s.one(ReleaseLease).fence == FENCE
    s = Session(store=STORE)
    s.freeze()
    request = s.one(AcquireLease)
    s.feed(Stopping(s.now, False, "tester"))
    assert not s.got(ReleaseLease)
    s.lease(request, fence=FENCE)
    assert s.one(ReleaseLease).fence == FENCE, "it came when nobody wanted it any more"


def test_it_is_given_back_when_the_freeze_is_lifted_and_after_a_restart() -> None:
    s, _ = held()
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze))
    lift(s)
    assert s.one(ReleaseLease).fence == FENCE
    s, _ = held()
    s.restart()
    assert s.one(ReleaseLease).fence == FENCE
    assert s.got(AcquireLease)


# --- the fence ------------------------------------------------------------------------------------------------------------


def test_what_was_decided_under_the_lease_leaves_while_it_is_valid_by_the_clock_of_that_moment() -> None:
    s, _ = held()
    effect = s.got(CancelAll)[0]
    assert effect.fence == FENCE
    assert may_send(s.core, effect, s.now) == ""
    assert may_send(s.core, effect, s.now + 30_000 * MS - 1) == ""
    assert may_send(s.core, effect, s.now + 30_000 * MS) == "stale_fence", "the core has not noticed yet; the clock has"
    assert may_send(s.core, attrs.evolve(effect, fence=Fence(3, 6)), s.now) == "stale_fence"
    assert may_send(s.core, attrs.evolve(effect, fence=NO_FENCE), s.now + 30_000 * MS) == ""


def test_a_place_is_not_decided_under_the_lease_of_a_sweep_elsewhere() -> None:
    s = Session(store=STORE)
    s.working(symbol=ETH)
    s.freeze(ETH)
    s.lease(s.one(AcquireLease), fence=FENCE)
    s.ask()
    assert s.one(Place).fence == NO_FENCE


def test_a_stale_cancel_all_is_decided_anew_in_the_step_that_hears_of_it() -> None:
    s, _ = held()
    first, second = s.got(CancelAll)
    s.outcome(first, REFUSED, "stale_fence")
    again = s.got(CancelAll)
    assert [(e.symbol, e.conditional, e.fence) for e in again] == [(e.symbol, e.conditional, NO_FENCE) for e in (first, second)]
    assert lease(s) is None, "whoever refused it knows of a younger lease"
    assert figures(s, "mm_fence_rejected_total") == [1]
    s.outcome(second, REFUSED, "stale_fence")
    assert not s.got(CancelAll), "once is enough"
    assert figures(s, "mm_lease_lost_total") == [1]


def test_a_request_of_a_former_lease_does_not_cost_the_present_one() -> None:
    s, _ = held()
    old = s.got(CancelAll)[0]
    answer(s, renewal(s), LeaseKind.LOST, fence=NO_FENCE)
    lift(s)
    s.freeze()
    s.lease(s.one(AcquireLease), fence=Fence(3, 9))
    s.outcome(old, REFUSED, "stale_fence")
    found = lease(s)
    assert found is not None
    assert found.fence == Fence(3, 9)


@pytest.mark.parametrize("batch", [1, 10])
def test_stale_cancels_of_single_orders_are_decided_anew_and_nothing_is_asked_for(batch: int) -> None:
    s = Session(store=STORE, venue=VenueTraits(cancel_all=False, batch=batch))
    keys = [s.working(), s.working(amount=2)]
    s.freeze()
    s.lease(s.one(AcquireLease), fence=FENCE)
    cancels: list[Cancel | CancelBatch] = [*s.got(Cancel), *s.got(CancelBatch)]
    assert {effect.fence for effect in cancels} == {FENCE}
    s.outcome(cancels[0], REFUSED, "stale_fence")
    again: list[Cancel | CancelBatch] = [*s.got(Cancel), *s.got(CancelBatch)]
    assert len(again) == len(cancels)
    assert {effect.fence for effect in again} == {NO_FENCE}
    assert all(s.order(key).requests.doubt_ns == 0 for key in keys), "what has not left needs no question"


def test_a_cancel_that_a_user_wants_is_sent_again_at_once() -> None:
    s = Session(store=STORE)
    key, other = s.working(), s.working(symbol=ETH)
    s.freeze(ETH)
    s.lease(s.one(AcquireLease), fence=FENCE)
    s.cancel(key)
    effect = s.one(Cancel)
    assert effect.fence == FENCE
    s.outcome(effect, REFUSED, "stale_fence")
    again = next(e for e in s.got(Cancel) if e.target.order == key)
    assert again.fence == NO_FENCE
    s.outcome(again, ACKNOWLEDGED)
    s.cancelled(key)
    assert s.order(other).leaves_qty


def test_the_cancel_of_an_order_that_was_refused_and_lives_is_sent_again_too() -> None:
    s = Session(store=STORE)
    key = s.submit()
    s.reject(key)
    s.working(symbol=ETH)
    s.freeze(ETH)
    s.lease(s.one(AcquireLease), fence=FENCE)
    s.accept(key)
    effect = s.one(Cancel)
    assert effect.fence == FENCE
    s.outcome(effect, REFUSED, "stale_fence")
    again = s.got(Cancel)
    assert [e.target.order for e in again] == [key]
    assert again[0].fence == NO_FENCE


def test_an_order_whose_cancel_nobody_wants_any_more_is_left_alone() -> None:
    s = Session(store=STORE, venue=NO_CANCEL_ALL)
    key = s.working()
    s.freeze()
    s.lease(s.one(AcquireLease), fence=FENCE)
    effect = s.one(Cancel)
    lift(s)
    assert may_send(s.core, effect, s.now) == "stale_fence"
    s.outcome(effect, REFUSED, "stale_fence")
    assert not s.got(Cancel)
    assert s.order(key).requests.cancel is None, "it shows as working again"


def test_what_a_store_says_in_doubt_of_a_release_changes_nothing() -> None:
    s, key = held()
    for effect in s.got(CancelAll):
        s.outcome(effect)
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    release = s.one(ReleaseLease)
    answer(s, release, LeaseKind.IN_DOUBT, fence=NO_FENCE)
    assert not s.got(ReleaseLease)
    assert not s.got(SetTimer)


# --- the invariant ----------------------------------------------------------------------------------------------------------


def test_safe_8_finds_what_breaks_it() -> None:
    s, _ = held()
    before, effect = s.core, s.got(CancelAll)[0]
    s.wait(1)
    after = s.core
    assert before.desk is not None
    assert before.desk.lease is not None
    stale = attrs.evolve(effect, fence=Fence(3, 6))
    event = Stopping(s.now, True, "tester")
    assert "which is not the fence" in broken(before, event, after, (stale,))[0]
    longer = attrs.evolve(before.desk.lease, valid_until_ns=before.desk.lease.valid_until_ns + 1)
    grown = attrs.evolve(after, desk=attrs.evolve(before.desk, lease=longer))
    assert "for longer, by Stopping" in broken(before, event, grown, ())[0]
    dropped = attrs.evolve(after, desk=attrs.evolve(before.desk, lease=None))
    assert "without a word" in broken(before, event, dropped, ())[0]
    idle = attrs.evolve(after, desk=attrs.evolve(before.desk, lease=attrs.evolve(before.desk.lease, timer=None)))
    assert "nobody looks after it" in broken_state(idle)[0]
    alone = attrs.evolve(after, desk=attrs.evolve(before.desk, sweep=None))
    assert any("nobody sweeps" in what for what in broken_state(alone))


