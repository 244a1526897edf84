"""Contract: a guarded side effect has the row that the tables of ``fsm/guard.py`` say, whatever is asked of it in whichever order.

Method: every state is brought about, and every request made to it by the owner, by another, and with other parameters; answer and row are
those of the table. Then what the table does not hold: the latch, races, texts, times.
"""

import time
from itertools import product

import pytest
from attrs import evolve
from haltcore.adapters.coordination import Claim, GuardRow, StoreFailed
from haltcore.effects import GuardState, Trigger
from haltcore.fsm.events import GuardKind, StoreHealth
from haltcore.fsm.guard import CUT, RESULT_BYTES, on_claim, on_retake, on_settle

from tests.contract.rig import LONG, Client, Rig, together

KEY = "k" * 64
MINE = Claim(KEY, "a:1", "what")
STATES = (None, *GuardState)
ASKERS = [(owner, params) for owner in ("a:1", "b:1") for params in ("what", "other")]


def bring_about(a: Client, state: GuardState | None) -> GuardRow | None:
    """The row of MINE is in this state."""
    if state is not None:
        assert a.claim(MINE, LONG).kind is GuardKind.CLAIMED
    if state not in (None, GuardState.INTENT):
        assert a.settle(MINE, state, "first", LONG)
    row: GuardRow | None = a.look(KEY)
    assert (row.state if row is not None else None) is state
    return row


def timeless(row: GuardRow | None) -> GuardRow | None:
    return evolve(row, at_ms=0) if row is not None else None


def written(decision_writes: GuardState | None, claim: Claim, result: str, before: GuardRow | None) -> GuardRow | None:
    return GuardRow(decision_writes, claim.owner, claim.params, result, 0) if decision_writes is not None else before


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("owner", "params"), ASKERS)
def test_a_claim_and_the_same_claim_again(a: Client, b: Client, state: GuardState | None, owner: str, params: str) -> None:
    before = bring_about(a, state)
    claim = Claim(KEY, owner, params, ("", "BTCUSDT"))
    for _ in range(2):
        decision = on_claim(before.state if before is not None else None, before is not None and before.owner == owner,
                            before is not None and before.params == params)  # fmt: skip
        answer = b.claim(claim, LONG)
        assert (answer.kind, answer.scope) == (decision.kind, "")
        assert timeless(answer.row) == timeless(written(decision.writes, claim, "", before))
        assert a.look(KEY) == answer.row
        before = answer.row


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("owner", "params"), ASKERS)
@pytest.mark.parametrize("told", [state for state in GuardState if state is not GuardState.INTENT])
def test_a_settlement_and_the_same_settlement_again(
    a: Client, b: Client, state: GuardState | None, owner: str, params: str, told: GuardState
) -> None:
    before = bring_about(a, state)
    claim = Claim(KEY, owner, params)
    for _ in range(2):
        decision = on_settle(told, before.state if before is not None else None, before is not None and before.owner == owner,
                             before is not None and before.params == params)  # fmt: skip
        assert b.settle(claim, told, "second", LONG) is (decision.kind is GuardKind.SETTLED)
        after = a.look(KEY)
        assert timeless(after) == timeless(written(decision.writes, claim, "second", before))
        before = after


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("params", ["what", "other"])
@pytest.mark.parametrize(("owner", "was"), [("b:1", "a:1"), ("b:1", "c:1"), ("a:1", "a:1"), ("a:1", "c:1"), ("b:1", "b:1")])
def test_a_take_over_and_the_same_take_over_again(
    a: Client, b: Client, state: GuardState | None, params: str, owner: str, was: str
) -> None:
    before = bring_about(a, state)
    claim = Claim(KEY, owner, params)
    for _ in range(2):
        decision = on_retake(before.state if before is not None else None, before is not None and before.owner == owner,
                             before is not None and before.owner == was, before is not None and before.params == params)  # fmt: skip
        seen = GuardRow(before.state if before is not None else GuardState.INTENT, was, "what", "", 0)
        assert b.retake(claim, seen, LONG) is (decision.kind is GuardKind.CLAIMED)
        after = a.look(KEY)
        assert timeless(after) == timeless(written(decision.writes, claim, "", before))
        before = after


def test_the_one_who_was_taken_over_from_has_no_say_any_more(a: Client, b: Client) -> None:
    bring_about(a, GuardState.INTENT)
    assert b.retake(Claim(KEY, "b:1", "what"), a.look(KEY), LONG)
    for state in (GuardState.SENT, GuardState.DONE, GuardState.REJECTED, GuardState.IN_DOUBT):
        assert not a.settle(MINE, state, "", LONG)
    assert a.claim(MINE, LONG).kind is GuardKind.HELD
    assert b.settle(Claim(KEY, "b:1", "what"), GuardState.SENT, "", LONG)


def test_who_says_that_it_sends_is_not_taken_over_by_one_who_saw_it_before(a: Client, b: Client) -> None:
    seen = bring_about(a, GuardState.INTENT)
    assert a.settle(MINE, GuardState.SENT, "", LONG)
    assert not b.retake(Claim(KEY, "b:1", "what"), seen, LONG)
    assert a.look(KEY).state is GuardState.SENT


def test_the_latch_forbids_what_would_be_claimed_and_nothing_else(a: Client, b: Client) -> None:
    scoped = Claim(KEY, "a:1", "what", ("", "strategy:mm", "BTCUSDT"))
    epochs = {row.scope: row.epoch for row in [*b.publish("b", "BTCUSDT", Trigger.MANUAL, "x", "y").rows]}
    answer = a.claim(scoped, LONG)
    assert (answer.kind, answer.row, answer.scope) == (GuardKind.FROZEN, None, "BTCUSDT")
    assert a.look(KEY) is None
    assert a.claim(Claim("other", "a:2", "what", ("", "ETHUSDT")), LONG).kind is GuardKind.CLAIMED
    assert a.claim(Claim("unscoped", "a:3", "what"), LONG).kind is GuardKind.CLAIMED
    b.clear("b", "BTCUSDT", epochs["BTCUSDT"])
    assert a.claim(scoped, LONG).kind is GuardKind.CLAIMED
    b.publish("b", "", Trigger.MANUAL, "x", "y")
    answer = a.claim(scoped, LONG)
    assert (answer.kind, answer.scope) == (GuardKind.FROZEN, ""), "the same claim again, when it is frozen by now"
    assert a.look(KEY).state is GuardState.INTENT
    assert not b.retake(Claim(KEY, "b:1", "what", ("",)), a.look(KEY), LONG)
    assert b.claim(Claim(KEY, "b:1", "what", ("",)), LONG).kind is GuardKind.HELD
    assert a.settle(scoped, GuardState.DONE, "placed", LONG), "what has happened is written down, frozen or not"
    answer = b.claim(Claim(KEY, "b:1", "what", ("",)), LONG)
    assert (answer.kind, answer.row.result) == (GuardKind.DONE, "placed")
    assert b.claim(Claim(KEY, "b:1", "other", ("",)), LONG).kind is GuardKind.MISMATCH


def test_of_several_frozen_scopes_the_first_of_the_claim_is_named(a: Client) -> None:
    for scope in ("BTCUSDT", "strategy:mm", ""):
        a.publish("a", scope, Trigger.MANUAL, "x", "y")
    for scopes in product(("", "BTCUSDT", "strategy:mm", "ETHUSDT"), repeat=2):
        assert a.claim(Claim(KEY, "a:1", "what", ("SOLUSDT", *scopes, "")), LONG).scope == next(s for s in (*scopes, "") if s != "ETHUSDT")


def test_of_many_that_claim_at_once_one_is_let_through(rig: Rig, a: Client) -> None:
    stores = [rig.connect() for _ in range(20)]
    for key in ("one", "two", "three"):
        answers = together(rig, *(store.claim(Claim(key, f"h{number}", "what"), LONG) for number, store in enumerate(stores)))
        assert sorted(answer.kind for answer in answers) == [GuardKind.CLAIMED] + [GuardKind.HELD] * 19
        assert {answer.row.owner for answer in answers} == {a.look(key).owner}


def test_a_result_is_kept_as_it_is_and_a_long_one_cut(a: Client) -> None:
    for number, result in enumerate(("", "plain", "é€😀 \n\\\"'{}|\0", "{\"id\": 5}")):
        claim = Claim(f"key{number}", "a:1", "what")
        a.claim(claim, LONG)
        assert a.settle(claim, GuardState.DONE, result, LONG)
        assert a.look(claim.key).result == result
    assert a.settle(MINE, GuardState.DONE, "x" * 100_000, LONG)
    kept = a.look(KEY).result
    assert kept.endswith(CUT)
    assert len(kept.encode()) == RESULT_BYTES


def test_a_row_tells_when_it_last_changed_in_utc_milliseconds(rig: Rig, a: Client) -> None:
    memory = getattr(rig, "now_ns", 0) // 1_000_000
    began_ms = memory or time.time_ns() // 1_000_000 - 1
    bring_about(a, GuardState.DONE)
    row = a.look(KEY)
    assert began_ms <= row.at_ms <= (memory or time.time_ns() // 1_000_000 + 1)
    rig.pass_ms(2)
    a.settle(MINE, GuardState.DONE, "again", LONG)
    assert a.look(KEY) == row


def test_keys_are_apart(a: Client) -> None:
    bring_about(a, GuardState.DONE)
    assert a.look("other") is None
    assert a.claim(Claim("other", "a:1", "what"), LONG).kind is GuardKind.CLAIMED


def test_a_store_that_lost_everything_is_told_what_became_but_lets_nobody_send(rig: Rig, a: Client) -> None:
    bring_about(a, GuardState.INTENT)
    rig.flush()
    assert a.look(KEY) is None
    assert not a.settle(MINE, GuardState.SENT, "", LONG)
    assert a.look(KEY) is None
    assert a.settle(MINE, GuardState.DONE, "placed", LONG)
    assert a.claim(Claim(KEY, "b:1", "what"), LONG).kind is GuardKind.DONE


def test_a_claim_that_names_an_epoch_is_granted_in_that_one_only(rig: Rig, a: Client, b: Client) -> None:
    epoch = a.read_latch("a").epoch
    named = evolve(MINE, epoch=epoch)
    assert a.claim(named, LONG).kind is GuardKind.CLAIMED
    assert a.claim(named, LONG).kind is GuardKind.CLAIMED
    assert b.claim(Claim(KEY, "b:1", "what", (), epoch), LONG).kind is GuardKind.HELD
    for other in (epoch + 1, max(1, epoch - 1) + 2 * (epoch == 1)):
        with pytest.raises(StoreFailed) as refused:
            b.claim(Claim("another", "b:1", "what", (), other), LONG)
        assert (refused.value.health, refused.value.code) == (StoreHealth.UNAVAILABLE, "store_epoch")
        assert b.look("another") is None
    rig.flush()
    with pytest.raises(StoreFailed) as refused:
        b.claim(Claim(KEY, "b:1", "what", (), epoch), LONG)
    assert refused.value.code == "store_epoch", "before anybody has asked for the new one"
    assert a.look(KEY) is None
    assert a.settle(named, GuardState.IN_DOUBT, "", LONG), "what became of it is taken in any epoch"
    assert b.read_latch("b").epoch > epoch
    assert b.claim(Claim(KEY, "b:1", "what", (), b.read_latch("b").epoch), LONG).kind is GuardKind.HELD
    assert b.claim(Claim("another", "b:1", "what"), LONG).kind is GuardKind.CLAIMED, "none is named, none is asked for"
