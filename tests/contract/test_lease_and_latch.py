"""Contract: one holder of a lease at a time, by fences that only grow; and a freeze latch that nobody lifts by mistake.

Method: examples for each sentence of the port, each request that changes something also said twice, as after an answer that was lost; races
of many connections; a store that loses everything between two requests.
"""

import pytest
from haltcore.adapters.coordination import Latch
from haltcore.adapters.latch_row import MAX_AUTHORS, MAX_BY, MAX_REASON, NO_EPOCH, UNNAMED
from haltcore.effects import NO_FENCE, Fence, Trigger

from tests.contract.rig import LONG, Client, Rig, client, together


def token(fence: Fence) -> tuple[int, int]:
    return fence.epoch, fence.counter


# --- lease ----------------------------------------------------------------------------------------------------------


def test_a_free_lease_is_granted_with_a_fence_that_is_not_none(a: Client) -> None:
    grant = a.acquire("sweep", "a", LONG)
    assert (grant.mine, grant.holder) == (True, "a")
    assert grant.fence.epoch > 0
    assert grant.fence.counter > 0


def test_a_held_lease_names_its_holder_and_not_its_fence(a: Client, b: Client) -> None:
    a.acquire("sweep", "a", LONG)
    grant = b.acquire("sweep", "b", LONG)
    assert (grant.mine, grant.holder, grant.fence) == (False, "a", NO_FENCE)


def test_leases_of_other_names_are_others(a: Client, b: Client) -> None:
    one, other = a.acquire("sweep", "a", LONG).fence, b.acquire("close", "b", LONG).fence
    assert not b.renew("sweep", "b", other, LONG)
    assert not a.release("close", "a", one)
    assert not a.release("close", "a", None)
    assert a.renew("sweep", "a", one, LONG)
    assert b.release("close", "b", other)


def test_asking_again_gives_a_new_grant_and_voids_the_old_fence(a: Client) -> None:
    old = a.acquire("sweep", "a", LONG).fence
    new = a.acquire("sweep", "a", LONG)
    assert new.mine
    assert token(new.fence) > token(old)
    assert not a.renew("sweep", "a", old, LONG)
    assert not a.release("sweep", "a", old)
    assert a.renew("sweep", "a", new.fence, LONG)


def test_only_the_holder_with_its_present_fence_renews_and_releases(a: Client, b: Client) -> None:
    fence = a.acquire("sweep", "a", LONG).fence
    for holder, wrong in (
        ("b", fence), ("", fence), ("a", NO_FENCE),
        ("a", Fence(fence.epoch, fence.counter + 1)), ("a", Fence(fence.epoch + 1, fence.counter)),
    ):  # fmt: skip
        assert not b.renew("sweep", holder, wrong, LONG)
        assert not b.release("sweep", holder, wrong)
    assert not b.release("sweep", "b", None)
    assert b.acquire("sweep", "b", LONG).holder == "a"
    assert a.release("sweep", "a", fence)


def test_a_renewal_said_twice_is_one_and_a_release_said_twice_frees_nobody_else(a: Client, b: Client) -> None:
    fence = a.acquire("sweep", "a", LONG).fence
    assert [a.renew("sweep", "a", fence, LONG) for _ in range(2)] == [True, True]
    assert a.release("sweep", "a", fence)
    theirs = b.acquire("sweep", "b", LONG)
    assert theirs.mine
    assert token(theirs.fence) > token(fence)
    assert not a.release("sweep", "a", fence)
    assert not a.release("sweep", "a", None)
    assert b.renew("sweep", "b", theirs.fence, LONG)


def test_by_its_name_a_holder_releases_whichever_grant_it_has(a: Client, b: Client) -> None:
    a.acquire("sweep", "a", LONG)
    a.acquire("sweep", "a", LONG)
    assert a.release("sweep", "a", None)
    assert not a.release("sweep", "a", None)
    assert b.acquire("sweep", "b", LONG).mine


def test_of_many_that_ask_at_once_one_is_granted(rig: Rig) -> None:
    stores = [rig.connect() for _ in range(20)]
    for _ in range(3):
        grants = together(rig, *(store.acquire("sweep", f"h{number}", LONG) for number, store in enumerate(stores)))
        (winner,) = (grant for grant in grants if grant.mine)
        assert {grant.holder for grant in grants} == {winner.holder}
        assert together(rig, stores[0].release("sweep", winner.holder, winner.fence)) == [True]


def test_a_store_that_lost_everything_knows_no_fence_from_before_and_grants_none_again(rig: Rig, a: Client) -> None:
    before = []
    for _ in range(3):
        before.append(token(a.acquire("sweep", "a", LONG).fence))
        rig.flush()
        fence = Fence(*before[-1])
        assert not a.renew("sweep", "a", fence, LONG)
        assert not a.release("sweep", "a", fence)
    new = client(rig).acquire("sweep", "b", LONG)
    assert new.mine
    assert token(new.fence) > before[2] > before[1] > before[0]
    assert new.fence.epoch > before[2][0]


# --- latch ----------------------------------------------------------------------------------------------------------


def publish(who: Client, author: str, scope: str = "", reason: str = "drill", by: str = "ops") -> Latch:
    latch: Latch = who.publish(author, scope, Trigger.MANUAL, reason, by)
    return latch


def test_nothing_is_frozen_at_first_and_the_epoch_is_told(a: Client) -> None:
    latch = a.read_latch("a")
    assert (latch.rows, latch.done) == ((), True)
    assert latch.epoch > 0
    assert publish(a, "a").epoch == latch.epoch


@pytest.mark.parametrize("trigger", list(Trigger))
def test_a_freeze_is_read_as_it_was_said(a: Client, b: Client, trigger: Trigger) -> None:
    words = "edge: 3 < 5 'bps' \"é€😀\" \\ { } \n", "ann|bob:1"
    latch = a.publish("a", "strategy:mäker maker", trigger, *words)
    (row,) = latch.rows
    assert (row.scope, row.trigger, row.reason, row.by, row.joint, row.mine) == ("strategy:mäker maker", trigger, *words, False, True)
    assert a.read_latch("a") == latch
    (seen,) = b.read_latch("b").rows
    assert (seen.reason, seen.by, seen.epoch, seen.mine) == (*words, row.epoch, False)


def test_rows_are_sorted_by_scope(a: Client) -> None:
    for scope in ("b", "", "a", "venue", "A", "strategy:x", "é"):
        publish(a, "a", scope)
    assert [row.scope for row in a.read_latch("a").rows] == sorted(("b", "", "a", "venue", "A", "strategy:x", "é"))


@pytest.mark.parametrize(
    ("author", "reason", "by", "joint"),
    [
        ("a", "drill", "ops", False), ("a", "drill", "ann", True), ("a", "fire", "ops", True), ("b", "drill", "ops", True),
        ("b", "x", "y", True),
    ],
)
def test_the_first_words_stay_and_who_sets_it_too_is_seen(a: Client, author: str, reason: str, by: str, joint: bool) -> None:
    (first,) = publish(a, "a").rows
    (row,) = publish(a, author, "", reason, by).rows
    assert row.epoch > first.epoch
    assert (row.reason, row.by, row.joint, row.mine) == ("drill", "ops", joint, True)
    (again,) = publish(a, "a").rows
    assert again.epoch > row.epoch
    assert again.joint == joint, "once joint, joint for good"
    assert [a.read_latch(who).rows[0].mine for who in ("a", "b", "c")] == [True, author == "b", False]


def test_another_trigger_is_another_word(a: Client) -> None:
    publish(a, "a")
    (row,) = a.publish("a", "", Trigger.LOSS, "drill", "ops").rows
    assert (row.trigger, row.joint) == (Trigger.MANUAL, True)


def test_clearing_names_the_setting_that_it_means(a: Client, b: Client) -> None:
    (first,) = publish(a, "a").rows
    (second,) = publish(b, "b").rows
    for wrong, force in ((0, False), (0, True), (first.epoch, False), (first.epoch, True), (second.epoch + 1, True)):
        latch = a.clear("a", "", wrong, force)
        assert (latch.done, [row.epoch for row in latch.rows]) == (False, [second.epoch])
    forced = [a.clear("a", "", second.epoch, True) for _ in range(2)]
    assert [(latch.done, latch.rows) for latch in forced] == [(True, ())] * 2
    (third,) = publish(a, "c").rows
    assert third.epoch > second.epoch
    assert (third.joint, third.mine) == (False, True)
    assert not a.read_latch("a").rows[0].mine, "who set it before it was lifted has not set it now"
    assert not a.clear("a", "", second.epoch).done


def test_clearing_one_scope_leaves_the_others(a: Client) -> None:
    publish(a, "a", "ETHUSDT")
    (btc,) = publish(a, "a", "BTCUSDT").rows
    (_, eth) = a.read_latch("a").rows
    latch = a.clear("a", "BTCUSDT", btc.epoch)
    assert (latch.done, latch.rows) == (True, ())
    assert a.read_latch("a").rows == (eth,)
    assert a.clear("a", "SOLUSDT", 1).done, "what is not there is lifted already"


def test_a_row_stands_as_long_as_one_of_its_authors_does(a: Client) -> None:
    publish(a, "a")
    a.publish("b", "", Trigger.LOSS, "lost", "core")
    (three,) = publish(a, "c", "", "third", "cy").rows
    (two,) = a.clear("a", "", three.epoch).rows
    assert (two.author, two.trigger, two.reason, two.by, two.joint, two.mine) == ("b", Trigger.LOSS, "lost", "core", True, False)
    assert two.epoch > three.epoch, "who has seen it before has not seen that"
    assert not a.clear("a", "", three.epoch).done
    assert a.clear("a", "", two.epoch).rows == (two,), "who does not stand behind it changes nothing"
    (one,) = a.clear("b", "", two.epoch).rows
    assert (one.author, one.reason, one.by) == ("c", "third", "cy")
    assert [a.read_latch(who).rows[0].mine for who in ("a", "b", "c")] == [False, False, True]
    last = a.clear("c", "", one.epoch)
    assert (last.done, last.rows, a.read_latch("a").rows) == (True, (), ())


def test_the_first_words_of_an_author_stay(a: Client) -> None:
    publish(a, "a")
    publish(a, "b", "", "first of b")
    (row,) = publish(a, "b", "", "second of b").rows
    (left,) = a.clear("a", "", row.epoch).rows
    assert left.reason == "first of b"


def test_with_force_a_row_goes_whoever_stands_behind_it(a: Client) -> None:
    publish(a, "b")
    (row,) = publish(a, "a").rows
    latch = a.clear("c", "", row.epoch, True)
    assert (latch.done, latch.rows, a.read_latch("a").rows) == (True, (), ())


def test_with_force_the_epoch_of_a_row_that_cannot_be_read_means_whatever_is_there(a: Client) -> None:
    (row,) = publish(a, "a").rows
    without = a.clear("a", "", NO_EPOCH)
    assert (without.done, without.rows) == (False, (row,))
    latch = a.clear("c", "", NO_EPOCH, True)
    assert (latch.done, latch.rows, a.read_latch("a").rows) == (True, (), ())


def test_words_are_cut_and_no_more_authors_are_named_than_fit(a: Client) -> None:
    (row,) = publish(a, "p0", "", "r" * 5_000, "b" * 5_000).rows
    assert (row.reason, row.by) == ("r" * MAX_REASON, "b" * MAX_BY)
    assert not publish(a, "p0", "", "r" * 5_000, "b" * 5_000).rows[0].joint, "cut to the same"
    for number in range(1, MAX_AUTHORS):
        publish(a, f"p{number}")
    (full,) = publish(a, "one more").rows
    assert (full.joint, full.mine) == (True, False)
    assert publish(a, "one more").rows == (full,), "it is said with every reading, and must not keep others from clearing"
    for number in range(MAX_AUTHORS):
        (full,) = a.clear(f"p{number}", "", full.epoch).rows
    assert (full.trigger, full.reason, full.author, full.readable) == (Trigger.PEER, UNNAMED, "", True)
    (named,) = publish(a, "a").rows
    assert (named.reason, named.mine, named.joint) == ("drill", True, True)
    (full,) = a.clear("a", "", named.epoch).rows
    assert a.clear("a", "", full.epoch, True).rows == ()


def test_of_many_that_publish_at_once_each_is_seen(rig: Rig) -> None:
    stores = [rig.connect() for _ in range(10)]
    together(rig, *(store.publish(f"p{number}", "", Trigger.MANUAL, "drill", "ops") for number, store in enumerate(stores)))
    rows = [client(rig).read_latch(f"p{number}").rows[0] for number in range(10)]
    assert {(row.mine, row.joint) for row in rows} == {(True, True)}


def test_a_store_that_lost_its_latch_says_so_by_its_epoch_and_repeats_no_row_epoch(rig: Rig, a: Client) -> None:
    before = publish(a, "a")
    rig.flush()
    empty = a.read_latch("a")
    assert empty.rows == ()
    assert empty.epoch > before.epoch
    after = publish(a, "a")
    assert after.rows[0].epoch > before.rows[0].epoch
    assert after.epoch == empty.epoch
    assert not a.clear("a", "", before.rows[0].epoch).done
