"""Contract: the core's effects go through, from the first to the last, and what one process has done the other one finds.

Method: two connections as two processes have them; each effect once, in the order of a freeze with a sweep and of a guarded order.
"""

from collections.abc import Callable
from typing import Any

from haltcore.effects import (
    AcquireLease,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    GuardState,
    PublishFreeze,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    SettleGuard,
    ShareBreaker,
    Trigger,
)
from haltcore.fsm.events import BreakerKind, GuardKind, LatchKind, LeaseKind, StoreHealth

from tests.contract.rig import LONG, Client, Rig, client

ID = (7, 1)
MS = 1_000_000


def process(rig: Rig, name: str) -> tuple[Client, Callable[[Effect], Any]]:
    """A connection, and how it carries an effect out."""
    here = client(rig)
    here.store.connect(lambda: 5_000 * MS, f"holder {name}", name)

    def carry_out(effect: Effect) -> Any:
        (answer,) = here.perform(effect)
        assert (answer.effect, answer.at_ns) == (ID, 5_000 * MS)
        return answer

    return here, carry_out


def test_a_freeze_with_a_sweep(rig: Rig) -> None:
    (_, a), (_, b) = process(rig, "a"), process(rig, "b")
    row = a(PublishFreeze(ID, "", Trigger.LOSS, "loss", "core")).rows[0]
    read = b(ReadFreeze(ID))
    assert (read.kind, [(seen.scope, seen.epoch, seen.mine) for seen in read.rows]) == (LatchKind.OK, [("", row.epoch, False)])
    assert read.epoch > 0
    granted = a(AcquireLease(ID, 30_000))
    assert (granted.kind, granted.valid_until_ns, granted.holder) == (LeaseKind.GRANTED, 35_000 * MS, "holder a")
    assert (b(AcquireLease(ID, 30_000)).kind, b(AcquireLease(ID, 30_000)).holder) == (LeaseKind.HELD, "holder a")
    renewed = a(RenewLease(ID, granted.fence, 30_000))
    assert (renewed.kind, renewed.fence) == (LeaseKind.GRANTED, granted.fence)
    assert b(ReleaseLease(ID, granted.fence)).kind is LeaseKind.LOST
    assert a(ReleaseLease(ID, granted.fence)).kind is LeaseKind.RELEASED
    assert b(AcquireLease(ID, 30_000)).kind is LeaseKind.GRANTED
    assert b(ClearFreeze(ID, "", row.epoch - 1, "ops", "over")).kind is LatchKind.STALE
    others = b(ClearFreeze(ID, "", row.epoch, "ops", "over"))
    assert (others.kind, others.scope, [(seen.author, seen.mine) for seen in others.rows]) == (LatchKind.OK, "", [("a", False)])
    assert a(ClearFreeze(ID, "", row.epoch, "ops", "over")).kind is LatchKind.OK
    assert a(ReadFreeze(ID)).rows == ()


def test_a_guarded_order(rig: Rig) -> None:
    (_, a), (_, b) = process(rig, "a"), process(rig, "b")
    claim = ClaimGuard(ID, 8, "key", "a:8", "what", ("", "BTCUSDT"), LONG, 2_000)
    answer = a(claim)
    assert (answer.kind, answer.order, answer.valid_until_ns) == (GuardKind.CLAIMED, 8, 7_000 * MS)
    theirs = ClaimGuard(ID, 9, "key", "b:9", "what", ("",), LONG, 2_000)
    answer = b(theirs)
    assert (answer.kind, answer.order, answer.holder, answer.valid_until_ns) == (GuardKind.HELD, 9, "a:8", 0)
    assert a(SettleGuard(ID, 8, "key", "a:8", "what", GuardState.DONE, "placed", LONG)).kind is GuardKind.SETTLED
    assert b(SettleGuard(ID, 9, "key", "b:9", "what", GuardState.REJECTED, "", LONG)).kind is GuardKind.LOST
    answer = b(theirs)
    assert (answer.kind, answer.holder, answer.result) == (GuardKind.DONE, "a:8", "placed")
    b(PublishFreeze(ID, "BTCUSDT", Trigger.LOSS, "loss", "core"))
    answer = a(ClaimGuard(ID, 8, "other key", "a:8", "what", ("", "BTCUSDT"), LONG, 2_000))
    assert (answer.kind, answer.holder) == (GuardKind.FROZEN, "BTCUSDT")


def test_a_shared_breaker_and_the_check(rig: Rig) -> None:
    (_, a), (_, b) = process(rig, "a"), process(rig, "b")
    assert (a(ShareBreaker(ID, "place", 0, "")).version, a(CheckStore(ID)).health) == (0, StoreHealth.OK)
    put = a(ShareBreaker(ID, "place", 0, "open"))
    assert (put.kind, put.state) == (BreakerKind.OK, "open")
    late = b(ShareBreaker(ID, "place", 0, "closed"))
    assert (late.kind, late.version, late.state) == (BreakerKind.CONFLICT, put.version, "open")
    assert b(ShareBreaker(ID, "place", put.version, "closed")).kind is BreakerKind.OK
    assert (a(ShareBreaker(ID, "place", put.version, "")).state, a(ShareBreaker(ID, "sweep", 0, "")).state) == ("closed", "")


def test_a_process_that_closes_leaves_no_lease_behind(rig: Rig) -> None:
    (here, a), (_, b) = process(rig, "a"), process(rig, "b")
    assert a(AcquireLease(ID, 30_000)).kind is LeaseKind.GRANTED
    here.close()
    assert b(AcquireLease(ID, 30_000)).kind is LeaseKind.GRANTED
