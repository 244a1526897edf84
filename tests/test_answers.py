"""Goal: what a bot gets back says what is certain, and is true at the moment of asking.

Method: the values made by hand, and handles over an order that lives through its states on the paper venue.
"""

import pytest
from haltcore.adapters.answers import (
    ALREADY_PROVEN,
    CommandRejected,
    HaltcoreError,
    OrderDenied,
    OrderInDoubt,
    OrderRefused,
    Proof,
    RunnerStopped,
    StoppedUnproven,
)
from haltcore.effects import Side, SweepMethod, SweepReport, SweepStatus, price, qty

from tests.helpers import BTC
from tests.runner_rig import Rig, buy, later, simulated


@pytest.mark.parametrize(
    ("kind", "executed"),
    [
        (OrderDenied, False),
        (OrderRefused, False),
        (OrderInDoubt, None),
        (CommandRejected, False),
        (RunnerStopped, False),
        (StoppedUnproven, None),
    ],
)
def test_an_exception_says_whether_something_may_have_happened(kind: type[HaltcoreError], executed: bool | None) -> None:
    error = kind("code", "the reason", "id1")
    assert (error.code, error.reason, error.client_id, error.executed) == ("code", "the reason", "id1", executed)
    assert str(error) == "code: the reason"
    assert isinstance(error, HaltcoreError)


def test_a_denial_may_name_all_checks_and_a_rejection_its_record() -> None:
    assert OrderDenied("frozen", "x").codes == ()
    assert OrderDenied("frozen", "x", codes=("frozen", "off_tick")).codes == ("frozen", "off_tick")
    assert CommandRejected("not_frozen", "x").record == 0


@pytest.mark.parametrize("status", SweepStatus)
def test_a_proof_is_verified_by_success_alone(status: SweepStatus) -> None:
    report = SweepReport((9, 0), status, SweepMethod.MIXED, 5, 4, 3, 2, 7, 1_999_999)
    proof = Proof.of(report)
    assert proof.verified is (status is SweepStatus.SUCCESS)
    assert (proof.status, proof.method, proof.cancelled, proof.failed) == (status, SweepMethod.MIXED, 5, 4)
    assert (proof.remaining, proof.unknown, proof.rounds, proof.duration_ms) == (3, 2, 7, 1)


def test_what_was_proven_before_needed_nothing() -> None:
    assert ALREADY_PROVEN.verified
    assert (ALREADY_PROVEN.remaining, ALREADY_PROVEN.rounds) == (0, 0)


@simulated
async def test_a_handle_follows_its_order() -> None:
    async with Rig() as rig:
        order = await buy(rig.bot, wait=False)
        assert (order.status, order.filled, order.in_doubt) == ("pending_new", "0", False)
        await later(0.1)
        assert order.status == "new"
        rig.venue.trade(BTC, Side.SELL, qty("0.25"), price("100"))
        await later(0.1)
        assert (order.status, order.filled) == ("partially_filled", "0.25")
        assert repr(order) == f"<order {order.client_id} buy 1 BTCUSDT partially_filled 0.25 filled>"
        await rig.bot.cancel(order)
        assert (order.status, order.facts.cum_qty) == ("cancelled", qty("0.25"))
    assert order.status == "cancelled", "also when the runner has stopped"
