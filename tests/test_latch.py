"""The freeze latch: a freeze reaches every process and outlives a store that forgets, and only a person's word ends it.

Method: sessions through the real ``step``; the store is played by hand, answer by answer, so that each lie it could tell has its test. The
last tests let several sessions talk over one table of rows that can be flushed. What the latch does to modes and to the unfreeze stands in
``test_freeze.py``, what it does to a cool-down in ``test_cool_down.py``.
"""

from typing import Any

import attrs
import pytest
from haltcore.adapters.latch_row import MAX_AUTHORS, NO_EPOCH, UNREADABLE, read_row
from haltcore.adapters.memory_store import MemoryState
from haltcore.effects import (
    Alert,
    CheckStore,
    ClearFreeze,
    FetchOpenOrders,
    Mode,
    ModeChanged,
    Place,
    PublishFreeze,
    Purpose,
    ReadFreeze,
    Rejected,
    SetTimer,
    Trigger,
    bps,
)
from haltcore.fsm import latch
from haltcore.fsm.config import CoolDown, ForeignPolicy, FreezeClass, StoreCheck, StorePolicy, SweepPolicy, Triggers
from haltcore.fsm.core import ACCOUNT, FREEZES_KEPT, Control, frozen_scopes
from haltcore.fsm.events import EdgeUpdate, LatchAnswer, LatchKind, LatchRow, Stopping, VenueLink
from haltcore.fsm.freeze import said
from haltcore.fsm.limits import Limits

from tests.helpers import BTC, ETH, Session, config, foreign_row

STORE = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)
WORDS = Trigger.MANUAL, "a test", "tester"
PEERS = LatchRow("", 5, *WORDS, mine=False)
OURS = attrs.evolve(PEERS, mine=True)


def poll(s: Session, *rows: LatchRow, epoch: int = 1, kind: LatchKind = LatchKind.OK) -> None:
    """The latch is read again."""
    s.fire(purpose=Purpose.LATCH)
    tell(s, s.one(ReadFreeze), *rows, epoch=epoch, kind=kind)


def tell(s: Session, effect: Any, *rows: LatchRow, epoch: int = 1, kind: LatchKind = LatchKind.OK) -> None:
    """As the stores answer: a reading with all rows, anything else with that of its scope."""
    scope = None if isinstance(effect, ReadFreeze) else effect.scope
    s.feed(LatchAnswer(s.now, effect.id, kind, rows if kind in (LatchKind.OK, LatchKind.STALE) else (), epoch, scope=scope))


def control(s: Session, scope: int = ACCOUNT) -> Control:
    assert s.core.desk is not None
    return s.core.desk.controls[scope]


def published(s: Session) -> list[tuple[str, Trigger, str, str]]:
    return [(e.scope, e.trigger, e.reason, e.by) for e in s.got(PublishFreeze)]


# --- who has said it --------------------------------------------------------------------------------------------------------


def test_a_lost_publish_is_not_taken_for_done_because_a_peer_used_the_same_words() -> None:
    s = Session(store=STORE)
    s.freeze()
    tell(s, s.one(PublishFreeze), kind=LatchKind.IN_DOUBT)
    poll(s, PEERS)
    assert published(s) == [("", *WORDS)], "the peer may lift its row by itself"
    tell(s, s.one(PublishFreeze), attrs.evolve(OURS, epoch=6, joint=True))
    poll(s, attrs.evolve(OURS, epoch=6, joint=True))
    assert published(s) == []


def test_without_authors_the_words_have_to_do() -> None:
    s = Session(store=STORE)
    s.freeze()
    tell(s, s.one(PublishFreeze), kind=LatchKind.IN_DOUBT)
    poll(s, attrs.evolve(PEERS, mine=None))
    assert published(s) == [], "as in the logs of format 2"
    poll(s, attrs.evolve(PEERS, mine=None, reason="other words"))
    assert published(s) == [("", *WORDS)]


def test_a_row_of_ours_alone_in_other_words_is_ours_all_the_same() -> None:
    s = Session(store=STORE)
    s.freeze()
    poll(s, attrs.evolve(OURS, reason="said before the restart"))
    assert published(s) == []


# --- a store that forgets -----------------------------------------------------------------------------------------------------


def follower() -> Session:
    """A session that only follows a peer's freeze; its sweep is done."""
    s = Session(store=STORE)
    poll(s, epoch=1)
    poll(s, PEERS, epoch=1)
    s.prove_empty()
    assert (s.mode(), published(s)) == (Mode.FROZEN, [])
    return s


def test_what_the_store_has_forgotten_the_followers_publish_again() -> None:
    s = follower()
    poll(s, epoch=2)
    assert published(s) == [("", Trigger.PEER, "manual: a test", "tester")]
    tell(s, s.one(PublishFreeze), kind=LatchKind.UNAVAILABLE)
    poll(s, epoch=2)
    assert len(published(s)) == 1, "until it is there"
    tell(s, s.one(PublishFreeze), OURS, epoch=2)
    poll(s, OURS, epoch=2)
    assert published(s) == []
    poll(s, epoch=2)
    assert published(s) == [], "under the same epoch a person has lifted it"
    assert s.mode() is Mode.FROZEN, "here it takes a person too"


@pytest.mark.parametrize("epoch", [1, 0])
def test_what_is_gone_under_the_same_epoch_a_person_has_lifted(epoch: int) -> None:
    s = follower()
    poll(s, epoch=epoch)
    assert published(s) == []


def test_what_its_author_has_said_again_the_followers_leave_alone() -> None:
    s = follower()
    poll(s, epoch=2)
    tell(s, s.one(PublishFreeze), kind=LatchKind.UNAVAILABLE)
    poll(s, attrs.evolve(PEERS, epoch=1), epoch=2)
    assert published(s) == []


def test_what_still_stands_in_another_epoch_needs_no_word() -> None:
    s = follower()
    poll(s, PEERS, epoch=2)
    assert published(s) == []


def test_another_epoch_that_shows_in_another_answer_is_read_about_at_once() -> None:
    s = follower()
    s.freeze(BTC)
    tell(s, s.one(PublishFreeze), LatchRow(BTC, 1, *WORDS, mine=True), epoch=2)
    read = s.one(ReadFreeze)
    tell(s, read, LatchRow(BTC, 1, *WORDS, mine=True), epoch=2)
    assert published(s) == [("", Trigger.PEER, "manual: a test", "tester")]


def test_a_restart_does_not_forget_what_the_store_may_have_forgotten_meanwhile() -> None:
    s = follower()
    s.restart()
    tell(s, s.one(ReadFreeze), epoch=2)
    assert published(s) == [("", Trigger.PEER, "manual: a test", "tester")]
    s = follower()
    s.restart()
    tell(s, s.one(ReadFreeze), epoch=1)
    assert published(s) == []


def test_the_first_epoch_that_is_said_is_no_other_one() -> None:
    s = Session(store=STORE)
    poll(s, PEERS, epoch=0)
    poll(s, epoch=7)
    assert published(s) == []


# --- a store that comes back -----------------------------------------------------------------------------------------------------


def test_a_store_that_comes_back_is_read_at_once() -> None:
    s = Session(store=STORE)
    poll(s, kind=LatchKind.UNAVAILABLE)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    read = s.one(ReadFreeze)
    waiting = [t for t in s.all(SetTimer) if t.purpose is Purpose.LATCH][-1]
    s.fire(waiting)
    assert not s.got(ReadFreeze), "the reading under way takes its place"
    tell(s, read, OURS)
    assert [t.purpose for t in s.got(SetTimer)] == [Purpose.LATCH]


def test_a_poll_that_brings_it_back_is_the_reading() -> None:
    s = Session(store=STORE)
    poll(s, kind=LatchKind.IN_DOUBT)
    poll(s)
    assert not s.got(ReadFreeze)
    assert not s.got(CheckStore)


# --- a freeze that may pass by itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        (OURS, True), (attrs.evolve(OURS, reason="said before the restart"), True), (attrs.evolve(OURS, joint=True), False),
        (PEERS, False),
    ],
    ids=["ours", "ours in other words", "joint", "a peer's in the same words"],
)  # fmt: skip
def test_what_a_peer_stands_behind_a_person_has_to_lift(row: LatchRow, passes: bool) -> None:
    cool = CoolDown(FreezeClass.EDGE, 1_000, 4_000)
    s = Session(store=STORE, limits=Limits(edge_freeze_threshold_bps=bps(200)), triggers=Triggers(cool_downs=(cool,)))
    s.feed(EdgeUpdate(s.now, BTC, bps(150)))
    assert s.core.desk is not None
    (scope,) = s.core.desk.controls
    words = s.one(PublishFreeze)
    same = attrs.evolve(row, scope=words.scope, trigger=words.trigger, by=words.by)
    poll(s, same if row.reason != WORDS[1] else attrs.evolve(same, reason=words.reason))
    assert s.core.desk.controls[scope].transient is passes


# --- unfreezing ------------------------------------------------------------------------------------------------------------------


def test_after_a_restart_the_store_is_asked_before_a_scope_is_lifted_though_it_showed_nothing_before() -> None:
    s = Session(store=STORE)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    s.prove_empty()
    s.restart()
    s.prove_empty()
    s.unfreeze(force=True)
    assert s.one(ClearFreeze).latch_epoch == OURS.epoch
    assert s.mode() is not Mode.ACTIVE


def test_after_a_restart_nothing_is_lifted_on_what_the_store_did_not_show_before() -> None:
    s = follower()
    poll(s)
    s.restart()
    s.unfreeze(force=True)
    assert s.one(ClearFreeze).latch_epoch == 0
    assert s.mode() is not Mode.ACTIVE


def test_what_the_peer_alone_has_set_does_not_count_as_our_publication() -> None:
    s = Session(store=STORE)
    s.freeze()
    poll(s, PEERS)
    assert s.core.desk is not None
    assert not s.core.desk.controls[ACCOUNT].published
    poll(s, OURS)
    assert s.core.desk.controls[ACCOUNT].published


# --- whose word it is ----------------------------------------------------------------------------------------------------------


def frozen_with_a_peer() -> Session:
    """Frozen and proven here by our own word; a peer stands behind the row as well."""
    s = Session(store=STORE)
    poll(s)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    s.prove_empty()
    poll(s, attrs.evolve(OURS, epoch=6, joint=True))
    return s


THEIRS = LatchRow("", 7, Trigger.LOSS, "lost 50", "core", joint=True, mine=False, author="mm2")


def test_where_a_peer_stands_behind_it_as_well_our_own_word_alone_is_withdrawn() -> None:
    s = frozen_with_a_peer()
    s.unfreeze()
    clear = s.one(ClearFreeze)
    assert (clear.latch_epoch, clear.force) == (6, False)
    tell(s, clear, THEIRS)
    refused = s.one(Rejected)
    assert refused.code == "peer_frozen"
    assert "core in session mm2 (loss: lost 50) has frozen it; lift it there, or lift it with force" in refused.reason
    follows = control(s)
    assert (follows.mode, follows.trigger, follows.reason, follows.by) == (Mode.FROZEN, Trigger.PEER, "loss: lost 50", "core")
    s.ask()
    assert not s.got(Place)
    for epoch in (1, 1):
        poll(s, THEIRS, epoch=epoch)
        assert published(s) == [], "the word is withdrawn"
    poll(s)
    assert (s.mode(), published(s)) == (Mode.FROZEN, [])
    s.unfreeze()
    tell(s, s.one(ClearFreeze))
    assert s.mode() is Mode.ACTIVE


def test_after_that_a_word_said_again_is_a_new_one() -> None:
    s = frozen_with_a_peer()
    s.unfreeze()
    tell(s, s.one(ClearFreeze), THEIRS)
    assert s.core.desk is not None
    assert said(s.core.desk, ACCOUNT, Trigger.MANUAL) == 0, "a person's next word is not one that changes nothing"
    s.freeze(reason="once more")
    assert published(s) == [("", Trigger.MANUAL, "once more", "tester")]


def test_a_restart_keeps_a_word_withdrawn_and_a_word_said() -> None:
    s = frozen_with_a_peer()
    s.restart()
    tell(s, s.one(ReadFreeze), attrs.evolve(OURS, mine=False))
    assert published(s) == [("", *WORDS)]
    s = frozen_with_a_peer()
    s.unfreeze()
    tell(s, s.one(ClearFreeze), THEIRS)
    s.restart()
    tell(s, s.one(ReadFreeze))
    assert (published(s), control(s).own) == ([], None)


@pytest.mark.parametrize("row", [THEIRS, attrs.evolve(THEIRS, joint=False)])
def test_a_follower_is_refused_while_a_peer_s_word_stands_and_nothing_is_placed_in_between(row: LatchRow) -> None:
    s = Session(store=STORE)
    poll(s, row)
    s.prove_empty()
    s.unfreeze()
    tell(s, s.one(ClearFreeze), row)
    assert (s.codes(), s.mode(), s.got(ModeChanged)) == (["peer_frozen"], Mode.FROZEN, [])
    s.unfreeze(force=True)
    assert (s.one(ClearFreeze).latch_epoch, s.one(ClearFreeze).force) == (row.epoch, True)
    tell(s, s.one(ClearFreeze))
    assert s.mode() is Mode.ACTIVE


def test_also_where_no_row_is_known_the_store_is_asked() -> None:
    """A row may have been set since the last reading."""
    s = follower()
    poll(s)
    s.unfreeze()
    assert (s.one(ClearFreeze).latch_epoch, s.mode()) == (0, Mode.FROZEN)
    tell(s, s.one(ClearFreeze), THEIRS, kind=LatchKind.STALE)
    assert s.codes() == ["unfreeze_stale"]
    assert "frozen there by core in session mm2 (loss: lost 50)" in s.one(Rejected).reason
    assert s.mode() is Mode.FROZEN
    s.unfreeze()
    assert s.one(ClearFreeze).latch_epoch == THEIRS.epoch


def test_our_own_word_outlives_the_history() -> None:
    s = Session(store=STORE, thorough=False)
    poll(s, PEERS)
    s.freeze(reason="position wrong")
    tell(s, s.one(PublishFreeze), attrs.evolve(OURS, epoch=6, joint=True))
    for _ in range(FREEZES_KEPT):
        s.freeze(BTC)
    poll(s)
    assert ("", Trigger.MANUAL, "position wrong", "tester") in published(s)


# --- what was read before it was cleared -----------------------------------------------------------------------------------------


def test_a_reading_from_before_the_clear_does_not_freeze_again() -> None:
    s = Session(store=STORE)
    poll(s)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    s.prove_empty()
    s.fire(purpose=Purpose.LATCH)
    reading = s.one(ReadFreeze)
    s.unfreeze()
    tell(s, s.one(ClearFreeze))
    tell(s, reading, OURS, attrs.evolve(PEERS, scope=ETH, epoch=4))
    assert (s.mode(), s.mode(ETH)) == (Mode.ACTIVE, Mode.FREEZING), "of another scope it says something"
    poll(s, attrs.evolve(OURS, epoch=OURS.epoch + 1))
    assert s.mode() is Mode.FREEZING, "set anew"


def test_a_store_that_has_forgotten_may_count_its_rows_from_below() -> None:
    s = Session(store=STORE)
    poll(s)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    s.prove_empty()
    s.unfreeze()
    tell(s, s.one(ClearFreeze))
    poll(s, attrs.evolve(PEERS, epoch=1), epoch=2)
    assert s.mode() is Mode.FREEZING


def test_a_new_freeze_counts_whatever_number_the_store_gives_it() -> None:
    """A server that was restarted from a snapshot of when its clock was ahead gives numbers twice, its own epoch's too."""
    s = Session(store=STORE)
    poll(s)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    s.prove_empty()
    s.unfreeze()
    tell(s, s.one(ClearFreeze))
    poll(s, attrs.evolve(PEERS, epoch=OURS.epoch))
    assert s.mode() is Mode.FREEZING


def test_a_store_that_forgets_while_it_is_asked_withdraws_nobody_s_word() -> None:
    s = Session(store=STORE)
    poll(s, PEERS)
    s.prove_empty()
    s.unfreeze()
    tell(s, s.one(ClearFreeze), epoch=2)
    assert s.mode() is Mode.FROZEN
    assert "unfreeze_stale" in s.codes()
    tell(s, s.one(ReadFreeze), epoch=2)
    assert published(s), "the peer's word, which the store has lost"


def test_an_unfreeze_that_is_overtaken_by_an_open_order_is_answered() -> None:
    s = Session(store=STORE)
    poll(s)
    s.freeze()
    tell(s, s.one(PublishFreeze), OURS)
    s.prove_empty()
    s.unfreeze()
    s.feed(VenueLink(s.now, False, "gone"))
    s.feed(VenueLink(s.now, True, "back"))
    s.answer_stock(foreign_row("other1", BTC))
    assert s.mode() is Mode.FREEZING
    assert "unfreeze_overtaken" in s.codes()


# --- rows that cannot be read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "garbage", "", "null", "7", "[]", "[" * 100_000, '{"epoch":5}', '{"epoch":"x","joint":false,"unnamed":true}',
        '{"epoch":"5","joint":false,"unnamed":false,"words":[7]}', '{"epoch":"5","joint":false,"unnamed":false,"words":[{"author":"a"}]}',
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_a_peer_s(text: str) -> None:
    assert read_row("S", text, "me") == LatchRow("S", NO_EPOCH, Trigger.PEER, UNREADABLE, "", True, False, "", False)


def test_a_trigger_that_is_not_known_is_a_peer_s() -> None:
    word = '{"author":"new","trigger":"maintenance","reason":"newer","by":"ops","more":1}'
    text = '{"epoch":"5","joint":false,"unnamed":false,"words":[' + word + '],"version":9}'
    assert read_row("S", text, "new") == LatchRow("S", 5, Trigger.PEER, UNREADABLE, "ops", False, True, "new", False)


ODD = LatchRow(BTC, NO_EPOCH, Trigger.PEER, UNREADABLE, "", True, False, "", False)


def test_a_row_that_cannot_be_read_freezes_its_scope_and_people_are_told_once() -> None:
    s = Session(store=STORE)
    poll(s, ODD, attrs.evolve(PEERS, scope=ETH))
    assert (s.mode(BTC), s.mode(ETH)) == (Mode.FREEZING, Mode.FREEZING)
    assert [a.severity for a in s.got(Alert) if a.code == "latch_unreadable"] == ["critical"]
    poll(s, ODD, attrs.evolve(PEERS, scope=ETH))
    assert s.codes() == []
    s.prove_empty()
    s.unfreeze(BTC, force=True)
    assert s.one(ClearFreeze).latch_epoch == NO_EPOCH
    tell(s, s.one(ClearFreeze))
    poll(s, ODD)
    assert s.mode(BTC) is Mode.FREEZING, "it is there again"


def test_a_scope_that_is_not_configured_is_told_of_where_its_row_cannot_be_read_and_freezes_nothing() -> None:
    s = Session(store=STORE)
    poll(s, attrs.evolve(ODD, scope="SOLUSDT"), attrs.evolve(PEERS, scope="XRPUSDT"))
    assert s.codes() == ["latch_unreadable"]
    assert "SOLUSDT" in s.got(Alert)[0].text
    assert s.core.desk is not None
    assert frozen_scopes(s.core.desk) == []
    poll(s, attrs.evolve(ODD, scope="SOLUSDT"), attrs.evolve(ODD, scope="ADAUSDT"))
    assert "ADAUSDT" in s.got(Alert)[0].text, "another one is news"


# --- an orderly stop -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("foreign", "told"), [(ForeignPolicy.LEAVE, False), (ForeignPolicy.CANCEL, True)])
def test_a_stop_freezes_the_others_only_where_its_sweep_takes_their_orders(foreign: ForeignPolicy, told: bool) -> None:
    s = Session(store=STORE, sweep=SweepPolicy(foreign=foreign))
    poll(s)
    s.feed(Stopping(s.now, True, "ops"))
    assert (s.mode(), bool(published(s))) == (Mode.FREEZING, told)
    for epoch in (1, 2):
        poll(s, epoch=epoch)
        assert bool(published(s)) is told, "nor later, nor where the store has forgotten"
    s.prove_empty()
    s.restart()
    tell(s, s.one(ReadFreeze), epoch=2)
    assert (s.mode(), bool(published(s))) == (Mode.FREEZING, told)
    s.answer_stock()
    s.unfreeze(force=True)
    tell(s, s.one(ClearFreeze), epoch=2)
    assert s.mode() is Mode.ACTIVE, "a person lifts it as ever"


def test_a_word_over_a_stop_is_said_and_a_stop_over_a_word_leaves_it() -> None:
    leave = SweepPolicy(foreign=ForeignPolicy.LEAVE)
    s = Session(store=STORE, sweep=leave)
    s.feed(Stopping(s.now, True, "ops"))
    s.freeze()
    assert published(s) == [("", *WORDS)]
    s = Session(store=STORE, sweep=leave)
    s.freeze()
    s.feed(Stopping(s.now, True, "ops"))
    poll(s)
    assert published(s) == [("", *WORDS)]


# --- many ----------------------------------------------------------------------------------------------------------------------------


def walks(monkeypatch: pytest.MonkeyPatch, scopes: int) -> tuple[int, int]:
    """How many scopes are walked over, all in all, where one answer shows so many rows, and where so many publishings are answered."""
    names = tuple(f"S{number}" for number in range(scopes))
    walked = 0

    def counted(desk: Any) -> list[int]:
        nonlocal walked
        found = frozen_scopes(desk)
        walked += len(found)
        return found

    monkeypatch.setattr(latch, "frozen_scopes", counted)
    monkeypatch.setattr("haltcore.fsm.freeze.frozen_scopes", counted)
    s = Session(config(symbols=names, store=STORE), thorough=False)
    poll(s)
    walked = 0
    rows = [LatchRow(name, 5 + number, *WORDS, mine=False) for number, name in enumerate(names)]
    poll(s, *rows)
    poll(s, *rows)
    followed, s = walked, Session(config(symbols=names, store=STORE), thorough=False)
    for name in names:
        s.freeze(name)
    walked = 0
    for number, effect in enumerate(s.all(PublishFreeze)):
        tell(s, effect, LatchRow(effect.scope, 5 + number, *WORDS, mine=True))
    assert s.core.desk is not None
    assert len(s.core.desk.store.latch) == scopes
    return followed, walked


def test_the_cost_is_that_of_the_rows_and_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert walks(monkeypatch, 60) == (120, 0), "a reading walks over the frozen scopes once, an answer about one of them not at all"


def test_however_many_rows_are_new_in_an_answer_the_sweep_is_widened_once() -> None:
    names = tuple(f"S{number}" for number in range(20))
    s = Session(config(symbols=names, store=STORE, sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE)), thorough=False)
    poll(s, *(LatchRow(name, 5, *WORDS, mine=False) for name in names))
    assert len(s.got(FetchOpenOrders)) == 2 * (1 + len(names))
    s = Session(config(symbols=names, store=STORE, sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE)), thorough=False)
    poll(s, PEERS, *(LatchRow(name, 5, *WORDS, mine=False) for name in names))
    assert len(s.got(FetchOpenOrders)) == 2, "the account covers them all"


# --- several processes ---------------------------------------------------------------------------------------------------------------


class Process(Session):
    """One of several over one store, which answers at once."""

    def __init__(self, state: MemoryState, name: str, **fields: Any) -> None:
        super().__init__(config(store=STORE, **fields))
        self.state, self.name = state, name
        self.serve()

    def serve(self) -> None:
        for effect in self.effects:
            if isinstance(effect, PublishFreeze):
                found = self.state.publish(self.name, effect.scope, effect.trigger, effect.reason, effect.by)
            elif isinstance(effect, ClearFreeze):
                found = self.state.clear(self.name, effect.scope, effect.latch_epoch, effect.force)
            elif isinstance(effect, ReadFreeze):
                found = self.state.read_latch(self.name)
            else:
                continue
            tell(self, effect, *found.rows, epoch=found.epoch, kind=LatchKind.OK if found.done else LatchKind.STALE)
            self.serve()

    def poll(self) -> None:
        self.fire(purpose=Purpose.LATCH)
        self.serve()

    def lift(self, force: bool = False) -> None:
        self.unfreeze(force=force)
        self.serve()


def test_of_three_processes_each_word_is_lifted_where_it_was_said() -> None:
    state = MemoryState(lambda: 0)
    a, b, c = (Process(state, name) for name in "abc")
    for s in (a, b):
        s.freeze(reason=f"word of {s.name}")
        s.serve()
        s.prove_empty()
    c.poll()
    c.prove_empty()
    a.poll()
    c.lift()
    assert (c.codes(), c.mode()) == (["peer_frozen"], Mode.FROZEN)
    a.lift()
    assert a.codes() == ["peer_frozen"]
    assert "session b (manual: word of b)" in a.one(Rejected).reason
    b.poll()
    b.lift()
    assert (b.mode(), state.rows()) == (Mode.ACTIVE, ())
    for s in (a, c):
        s.poll()
        assert s.mode() is Mode.FROZEN
        s.lift()
    for s in (a, b, c):
        s.poll()
    assert [s.mode() for s in (a, b, c)] == [Mode.ACTIVE] * 3


def test_with_force_it_is_lifted_for_all_and_who_lives_says_it_again() -> None:
    state = MemoryState(lambda: 0)
    a, b = Process(state, "a"), Process(state, "b")
    a.freeze()
    a.serve()
    b.poll()
    b.lift(force=True)
    assert (b.mode(), state.rows()) == (Mode.ACTIVE, ())
    a.poll()
    b.poll()
    assert (b.mode(), [row.author for row in state.rows()]) == (Mode.FREEZING, ["a"])


def test_more_processes_than_can_be_named_do_not_keep_each_other_from_lifting() -> None:
    state = MemoryState(lambda: 0)
    for number in range(MAX_AUTHORS):
        state.publish(f"p{number}", "", *WORDS)
    late = Process(state, "late")
    late.freeze()
    late.serve()
    (row,) = state.rows()
    late.poll()
    late.prove_empty()
    assert state.rows() == (row,), "it is said again with every reading, and changes nothing"
    late.lift()
    assert late.codes() == ["peer_frozen"]
    late.lift(force=True)
    assert (late.mode(), state.rows()) == (Mode.ACTIVE, ())
