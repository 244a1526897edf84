"""A freeze ends without a person only where that is configured, only for its own class of reasons, only when proven and nothing speaks
against it.

Method: the life of a cool-down is played through with an edge that collapses, again and again; then everything that has to stop it is
put in its way, at each moment that it may come: before the proof, during the wait, while the store is asked. The session's invariants
refuse any lift that no person and no cool-down has decided.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from haltcore.adapters.memory_store import MemoryState
from haltcore.effects import (
    AcquireLease,
    Alert,
    ClearFreeze,
    Effect,
    Mode,
    ModeChanged,
    PublishFreeze,
    Purpose,
    ReadFreeze,
    Rejected,
    SetTimer,
    Severity,
    Trigger,
    bps,
    usd,
)
from haltcore.fsm.config import CoolDown, FreezeClass, StoreCheck, StorePolicy, Triggers
from haltcore.fsm.cool_down import timer_key, timer_scope
from haltcore.fsm.core import Control
from haltcore.fsm.events import (
    BreakerChanged,
    ClockReading,
    EdgeUpdate,
    Freeze,
    Heartbeat,
    LatchKind,
    LatchRow,
    SetReduceOnly,
    Stopping,
    TradeBusted,
    VenueLink,
)
from haltcore.fsm.limits import LimitRule, Limits, Rate

from tests.helpers import BTC, ETH, MS, Session, config

EDGE = CoolDown(FreezeClass.EDGE, wait_ms=1_000, cap_ms=3_000, repeats=3, memory_ms=60_000)
NETWORK = CoolDown(FreezeClass.NETWORK, wait_ms=2_000, cap_ms=60_000, repeats=2, memory_ms=60_000)
STORE = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)
LIMITS = Limits(edge_freeze_threshold_bps=bps(200), max_daily_loss=usd(50))


def session(*cool_downs: CoolDown, **fields: Any) -> Session:
    watched = Triggers(breaker_open=True, clock_jump_ms=100, reject_storm=Rate(2, 1_000), cool_downs=cool_downs or (EDGE, NETWORK))
    return Session(config(**{"limits": LIMITS, "triggers": watched, **fields}))


def collapse(s: Session, symbol: str = BTC) -> None:
    """The edge collapses, and is well again at once; ``s.effects`` are those of the collapse."""
    effects = s.feed(EdgeUpdate(s.now, symbol, bps(150)))
    s.feed(EdgeUpdate(s.now, symbol, bps(400)))
    s.effects = effects


def proven(s: Session) -> SetTimer:
    """Frozen by the edge, and proven; the cool-down's timer."""
    collapse(s)
    s.prove_empty()
    return timer(s)


def timer(s: Session) -> SetTimer:
    return [t for t in s.all(SetTimer) if t.purpose is Purpose.COOL_DOWN][-1]


def control(s: Session, scope: int = 0) -> Control:
    assert s.core.desk is not None
    return s.core.desk.controls[scope]


def timers(s: Session) -> int:
    return len([t for t in s.all(SetTimer) if t.purpose is Purpose.COOL_DOWN])


# --- its life -----------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_proof_and_lifts_the_freeze_when_it_is_over() -> None:
    s = session()
    key = s.working()
    collapse(s)
    s.wait(700)
    assert timers(s) == 0, "nothing is proven yet"
    s.prove_empty()
    assert key in s.core.closed
    assert timer(s).due_ns == s.now + 1_000 * MS
    assert timer(s).key == timer_key(0)
    s.fire(timer(s))
    changed = s.one(ModeChanged)
    assert (changed.mode, changed.by, changed.reason, changed.epoch) == (Mode.ACTIVE, "haltcore", "cool-down of 1000 ms is over", 2)
    assert s.submit()


def test_it_waits_for_an_edge_that_is_well_again() -> None:
    s = session()
    s.feed(EdgeUpdate(s.now, ETH, bps(199)))
    s.prove_empty()
    for _ in range(3):
        s.fire(timer(s))
        assert s.mode() is Mode.FROZEN
    s.feed(EdgeUpdate(s.now, BTC, bps(400)))
    s.fire(timer(s))
    assert s.mode() is Mode.FROZEN, "another symbol's edge says nothing about this one"
    s.feed(EdgeUpdate(s.now, ETH, bps(200)))
    s.fire(timer(s))
    assert s.mode() is Mode.ACTIVE


def test_a_symbol_waits_for_its_own_edge_alone() -> None:
    s = session(limits=Limits(), rules=(LimitRule(Limits(edge_freeze_threshold_bps=bps(300)), BTC),))
    s.feed(EdgeUpdate(s.now, BTC, bps(299)))
    s.prove_empty()
    s.feed(EdgeUpdate(s.now, ETH, bps(1)))
    s.fire(timer(s))
    assert s.mode(BTC) is Mode.FROZEN
    s.feed(EdgeUpdate(s.now, BTC, bps(300)))
    s.fire(timer(s))
    assert s.mode(BTC) is Mode.ACTIVE


def test_without_one_for_the_class_nothing_is_lifted() -> None:
    s = session(NETWORK)
    collapse(s)
    s.prove_empty()
    assert timers(s) == 0
    assert not control(s).transient
    assert s.core.desk is not None
    assert len(s.core.desk.repeats) == 0


def test_it_doubles_up_to_the_cap_and_then_it_is_a_person_s_turn() -> None:
    s = session()
    for wait in (1_000, 2_000, 3_000):
        assert proven(s).due_ns == s.now + wait * MS
        s.fire(timer(s))
        assert s.one(ModeChanged).reason == f"cool-down of {wait} ms is over"
    collapse(s)
    (escalated,) = [a for a in s.got(Alert) if a.code == "freeze_escalated"]
    assert escalated.severity is Severity.CRITICAL
    s.prove_empty()
    assert (timers(s), s.mode()) == (3, Mode.FROZEN)
    s.unfreeze()
    collapse(s)
    s.prove_empty()
    assert timers(s) == 3, "it is as often as before"


@pytest.mark.parametrize(("after_ms", "wait"), [(59_999, 2_000), (60_000, 1_000)])
def test_a_scope_that_was_not_frozen_for_the_memory_begins_anew(after_ms: int, wait: int) -> None:
    s = session()
    s.fire(proven(s))
    s.wait(after_ms)
    assert proven(s).due_ns == s.now + wait * MS


def test_the_memory_counts_from_the_end_of_the_freeze() -> None:
    s = session(CoolDown(FreezeClass.EDGE, wait_ms=50_000, cap_ms=200_000, memory_ms=10_000))
    s.fire(proven(s))
    s.wait(9_000)
    assert proven(s).due_ns == s.now + 100_000 * MS


def test_each_scope_and_class_counts_for_itself() -> None:
    s = session(rules=(LimitRule(Limits(edge_freeze_threshold_bps=bps(300)), BTC),))
    s.feed(EdgeUpdate(s.now, BTC, bps(250)))
    s.prove_empty()
    assert (timer(s).key, timer(s).due_ns) == (timer_key(1), s.now + 1_000 * MS)
    s.feed(EdgeUpdate(s.now, BTC, bps(300)))
    s.fire(timer(s))
    s.feed(EdgeUpdate(s.now, "", bps(150)))
    s.prove_empty()
    assert (timer(s).key, timer(s).due_ns) == (timer_key(0), s.now + 1_000 * MS)
    s.feed(EdgeUpdate(s.now, "", bps(200)))
    s.fire(timer(s))
    s.feed(BreakerChanged(s.now, "place", True, "ill"))
    s.feed(BreakerChanged(s.now, "place", False, "well"))
    s.prove_empty()
    assert timer(s).due_ns == s.now + 2_000 * MS


@pytest.mark.parametrize("scope", [0, -1, 1, 2, -2, -3, 65_535, -32_768])
def test_a_timer_s_key_is_its_scope(scope: int) -> None:
    assert timer_key(scope) >= 0
    assert timer_scope(timer_key(scope)) == scope


# --- what ends it ---------------------------------------------------------------------------------------------------------

#: Each is a word of a person, or of another class of reasons.
OTHERS: dict[str, Callable[[Session], object]] = {
    "a person": lambda s: s.freeze(),
    "a part of the bot": lambda s: s.feed(Freeze(s.now, "", Trigger.EDGE_COLLAPSE, "my own edge", "risk")),
    "the journal": lambda s: s.freeze(trigger=Trigger.JOURNAL),
    "another class": lambda s: s.feed(BreakerChanged(s.now, "place", True, "ill")),
    "inside": lambda s: s.feed(BreakerChanged(s.now - 200 * MS, "place", False, "")),
    "the clock": lambda s: (s.feed(ClockReading(s.now, 0)), s.feed(ClockReading(s.now, 200 * MS))),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("when", ["before the proof", "during the wait"])
def test_any_other_reason_makes_it_a_person_s_turn_for_good(other: str, when: str) -> None:
    s = session()
    if when == "before the proof":
        collapse(s)
        asked = s.effects
        OTHERS[other](s)
        s.effects = asked
        s.prove_empty()
        assert timers(s) == 0
    else:
        waiting = proven(s)
        OTHERS[other](s)
        s.fire(waiting)
        assert not s.effects
    assert s.mode() is Mode.FROZEN
    assert (control(s).transient, control(s).cool_down) == (False, None)
    collapse(s)
    assert not control(s).transient


def test_what_a_part_of_the_bot_has_frozen_never_ends_by_itself_whatever_it_calls_the_reason() -> None:
    s = session()
    s.feed(Freeze(s.now, "", Trigger.EDGE_COLLAPSE, "my own edge", "risk"))
    s.prove_empty()
    assert (timers(s), control(s).transient) == (0, False)


def test_a_loss_makes_it_a_person_s_turn() -> None:
    s = session()
    s.fill(s.working(), 10)
    waiting = proven(s)
    s.mark("94")
    assert s.core.desk is not None
    assert [record.trigger for record in s.core.desk.freezes] == [Trigger.EDGE_COLLAPSE, Trigger.LOSS]
    s.fire(waiting)
    assert s.mode() is Mode.FROZEN


def test_more_of_the_same_class_changes_nothing() -> None:
    s = session()
    s.feed(BreakerChanged(s.now, "place", True, "ill"))
    s.prove_empty()
    waiting = timer(s)
    s.feed(BreakerChanged(s.now, "place", False, "well"))
    before = s.core.desk
    s.feed(BreakerChanged(s.now, "cancel", True, "ill"))
    assert before is not None
    assert s.core.desk is not None
    assert s.core.desk.controls == before.controls
    s.feed(BreakerChanged(s.now, "cancel", False, "well"))
    s.fire(waiting)
    assert s.mode() is Mode.ACTIVE


def test_it_never_lifts_what_a_person_had_put_in_reduce_only() -> None:
    s = session()
    s.feed(SetReduceOnly(s.now, "", True, "ops", "calm"))
    collapse(s)
    s.prove_empty()
    assert timers(s) == 0
    assert s.mode() is Mode.FROZEN


def test_a_person_may_lift_it_earlier_and_its_timer_then_lifts_nothing() -> None:
    s = session()
    waiting = proven(s)
    s.unfreeze()
    s.freeze()
    s.prove_empty()
    s.fire(waiting)
    assert (s.effects, s.mode()) == ((), Mode.FROZEN)


def test_a_proof_that_is_taken_back_begins_it_anew() -> None:
    s = session()
    key = s.working()
    s.fill(key, 10, trade="t")
    old = proven(s)
    s.feed(TradeBusted(s.now, s.client_id(key), "t"))
    assert (s.mode(), control(s).cool_down) == (Mode.FREEZING, None)
    s.fire(old)
    assert s.mode() is Mode.FREEZING
    s.prove_empty()
    assert timer(s).id != old.id
    s.fire(timer(s))
    assert s.mode() is Mode.ACTIVE


# --- what it waits for ----------------------------------------------------------------------------------------------------


def hindered_then_lifted(s: Session, waiting: SetTimer, heal: Callable[[], object]) -> None:
    """The wait runs again while something is wrong, as long as before; then the freeze ends."""
    wait = waiting.due_ns - s.now
    s.fire(waiting)
    assert s.mode() is Mode.FROZEN
    again = timer(s)
    assert again.id != waiting.id
    assert again.due_ns - s.now == wait
    heal()
    s.fire(again)
    assert s.mode() is Mode.ACTIVE


def test_it_waits_for_the_venue() -> None:
    s = session()
    waiting = proven(s)
    s.feed(VenueLink(s.now, False, "lost"))
    hindered_then_lifted(s, waiting, lambda: s.feed(VenueLink(s.now, True, "back")))


def test_it_waits_for_an_open_breaker() -> None:
    s = session()
    s.feed(BreakerChanged(s.now, "place", True, "ill"))
    s.feed(BreakerChanged(s.now, "cancel", True, "ill"))
    s.prove_empty()
    s.feed(BreakerChanged(s.now, "place", False, "well"))
    hindered_then_lifted(s, timer(s), lambda: s.feed(BreakerChanged(s.now, "cancel", False, "well")))


def test_it_waits_for_data() -> None:
    s = session(limits=Limits(feed_lost_ms=500))
    s.fire(purpose=Purpose.FEED)
    assert s.mode() is Mode.FREEZING
    s.prove_empty()
    waiting = timer(s)
    wait = waiting.due_ns - s.now
    s.fire(waiting)
    assert (s.mode(), timer(s).due_ns - s.now) == (Mode.FROZEN, wait)
    s.now = timer(s).due_ns - 500 * MS + 1
    s.feed(Heartbeat(s.now, ""))
    s.fire(timer(s))
    assert s.mode() is Mode.ACTIVE


def test_it_does_not_lift_once_the_runner_stops() -> None:
    s = session()
    waiting = proven(s)
    s.feed(Stopping(s.now, False, "ops"))
    s.fire(waiting)
    assert s.mode() is Mode.FROZEN


# --- the store ------------------------------------------------------------------------------------------------------------


def stored() -> tuple[Session, LatchRow, SetTimer]:
    """Frozen by the edge, proven, published as epoch 7."""
    s = session(store=STORE)
    s.latch(s.all(ReadFreeze)[-1])
    collapse(s)
    publish = s.one(PublishFreeze)
    row = LatchRow("", 7, publish.trigger, publish.reason, publish.by)
    s.lease(s.one(AcquireLease))
    s.prove_empty()
    s.latch(publish, row)
    return s, row, timer(s)


def test_with_a_store_the_latch_is_cleared_first() -> None:
    s, _, waiting = stored()
    s.fire(waiting)
    clear = s.one(ClearFreeze)
    assert (clear.latch_epoch, clear.by, clear.why, clear.force) == (7, "haltcore", "cool-down of 1000 ms is over", False)
    assert s.mode() is Mode.FROZEN
    s.latch(clear)
    assert s.mode() is Mode.ACTIVE


@pytest.mark.parametrize("kind", [LatchKind.UNAVAILABLE, LatchKind.IN_DOUBT])
def test_a_store_that_does_not_answer_is_asked_again_after_the_same_wait(kind: LatchKind) -> None:
    s, row, waiting = stored()
    s.fire(waiting)
    s.latch(s.one(ClearFreeze), kind=kind)
    again = timer(s)
    assert again.due_ns == s.now + 1_000 * MS
    s.fire(again)
    assert not s.got(ClearFreeze), "the store has not answered since"
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), row)
    s.fire(timer(s))
    s.latch(s.one(ClearFreeze))
    assert s.mode() is Mode.ACTIVE


def test_a_latch_that_somebody_has_set_again_makes_it_a_person_s_turn() -> None:
    s, _, waiting = stored()
    s.fire(waiting)
    s.latch(s.one(ClearFreeze), LatchRow("", 8, Trigger.MANUAL, "no", "peer"), kind=LatchKind.STALE)
    assert s.one(Rejected).code == "unfreeze_stale"
    assert (s.mode(), control(s).transient, timers(s)) == (Mode.FROZEN, False, 1)


def test_a_peer_s_own_freeze_in_the_latch_makes_it_a_person_s_turn() -> None:
    s, _, waiting = stored()
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), LatchRow("", 7, Trigger.MANUAL, "no", "peer"))
    s.fire(waiting)
    assert (s.effects, s.mode()) == ((), Mode.FROZEN)


class Process(Session):
    """One of two processes over one store."""

    def __init__(self, state: MemoryState, name: str, **fields: Any) -> None:
        super().__init__(config(**{"store": STORE, "limits": LIMITS, "triggers": Triggers(cool_downs=(EDGE,)), **fields}))
        self.state, self.name = state, name
        self.exchange(self.all(ReadFreeze)[-1:])

    def exchange(self, effects: Iterable[Effect]) -> None:
        """The store serves these."""
        for effect in effects:
            if isinstance(effect, PublishFreeze):
                latch = self.state.publish(self.name, effect.scope, effect.trigger, effect.reason, effect.by)
            elif isinstance(effect, ClearFreeze):
                latch = self.state.clear(self.name, effect.scope, effect.latch_epoch)
            elif isinstance(effect, ReadFreeze):
                latch = self.state.read_latch(self.name)
            else:
                continue
            self.exchange(self.latch(effect, *latch.rows, kind=LatchKind.OK if latch.done else LatchKind.STALE))

    def poll(self) -> None:
        self.exchange(self.fire(purpose=Purpose.LATCH))

    def proven(self) -> None:
        self.lease(self.all(AcquireLease)[-1])
        self.prove_empty()


OWN_WORDS: dict[str, Callable[[Process], object]] = {
    "person": lambda s: s.feed(Freeze(s.now, "", Trigger.MANUAL, "hands off", "ann")),
    "own trigger": lambda s: collapse(s, ETH),
}


@pytest.mark.parametrize("word", OWN_WORDS)
@pytest.mark.parametrize("seen", [False, True])
def test_a_word_at_a_process_that_followed_keeps_the_one_it_followed_from_lifting(word: str, seen: bool) -> None:
    """B followed A's transient freeze; then B has a word of its own. Whether A hears of it before its wait is over or not, it stays."""
    state = MemoryState(lambda: 0)
    a, b = Process(state, "a"), Process(state, "b")
    collapse(a)
    a.exchange(a.got(PublishFreeze))
    a.proven()
    waiting = timer(a)
    b.poll()
    b.proven()
    assert (b.mode(), control(b).trigger) == (Mode.FROZEN, Trigger.PEER)
    OWN_WORDS[word](b)
    b.exchange(b.got(PublishFreeze))
    if seen:
        a.poll()
        assert not control(a).transient
    a.exchange(a.fire(waiting))
    for _ in range(3):
        a.poll()
        b.poll()
    assert (a.mode(), b.mode()) == (Mode.FROZEN, Mode.FROZEN)
    a.unfreeze()
    a.exchange(a.got(ClearFreeze))
    assert (a.codes(), a.mode(), control(a).trigger) == (["peer_frozen"], Mode.FROZEN, Trigger.PEER), "a word is lifted where it was said"
    for _ in range(2):
        b.poll()
        a.poll()
    assert (a.mode(), b.mode(), [row.author for row in state.rows()]) == (Mode.FROZEN, Mode.FROZEN, ["b"])
    b.unfreeze()
    b.exchange(b.got(ClearFreeze))
    assert (b.mode(), state.rows()) == (Mode.ACTIVE, ())
    a.poll()
    assert a.mode() is Mode.FROZEN, "here it takes a person too"
    a.unfreeze()
    a.exchange(a.got(ClearFreeze))
    b.poll()
    assert (a.mode(), b.mode(), state.rows()) == (Mode.ACTIVE, Mode.ACTIVE, ())


def test_two_processes_that_froze_for_the_same_reason_wait_for_a_person() -> None:
    state = MemoryState(lambda: 0)
    a, b = Process(state, "a"), Process(state, "b")
    for s in (a, b):
        collapse(s)
        said = s.got(PublishFreeze)
        s.proven()
        s.exchange(said)
    a.poll()
    assert [control(s).transient for s in (a, b)] == [False, False]


def test_alone_in_the_store_the_freeze_ends_by_itself() -> None:
    state = MemoryState(lambda: 0)
    a, b = Process(state, "a"), Process(state, "b")
    collapse(a)
    a.exchange(a.got(PublishFreeze))
    a.proven()
    waiting = timer(a)
    b.poll()
    a.poll()
    a.exchange(a.fire(waiting))
    assert (a.mode(), b.mode(), state.rows()) == (Mode.ACTIVE, Mode.FREEZING, ())


def test_what_a_peer_has_frozen_is_never_lifted_by_itself() -> None:
    s = session(store=STORE)
    s.latch(s.all(ReadFreeze)[-1])
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), LatchRow("", 3, Trigger.EDGE_COLLAPSE, "their edge", "peer"))
    s.lease(s.one(AcquireLease))
    s.prove_empty()
    assert timers(s) == 0


@pytest.mark.parametrize("again", [collapse, lambda s: s.freeze()])
def test_while_the_store_is_asked_a_freeze_wins(again: Callable[[Session], object]) -> None:
    s, _, waiting = stored()
    s.fire(waiting)
    clear = s.one(ClearFreeze)
    again(s)
    s.latch(clear)
    assert s.mode() is Mode.FROZEN
    assert control(s).transient == (again is collapse)
    assert timers(s) == (2 if again is collapse else 1), "the wait begins anew, if it may"


def test_a_person_s_unfreeze_that_waits_for_the_store_is_not_disturbed() -> None:
    s, _, waiting = stored()
    s.unfreeze(by="ops")
    clear = s.one(ClearFreeze)
    s.fire(waiting)
    assert not s.got(ClearFreeze)
    s.latch(clear)
    assert s.one(ModeChanged).by == "ops"


# --- restart --------------------------------------------------------------------------------------------------------------


def test_after_a_restart_it_is_proven_anew_and_then_waits_as_long() -> None:
    s = session()
    s.fire(proven(s))
    old = proven(s)
    s.restart()
    assert (s.mode(), control(s).cool_down, control(s).transient) == (Mode.FREEZING, None, True)
    s.fire(old)
    assert s.mode() is Mode.FREEZING
    s.answer_stock()
    s.prove_empty()
    assert timer(s).id != old.id
    assert timer(s).due_ns == s.now + 2_000 * MS
    s.fire(timer(s))
    assert s.mode() is Mode.ACTIVE


def test_a_new_configuration_without_it_leaves_it_to_a_person() -> None:
    s = session()
    proven(s)
    s.restart(config(limits=LIMITS))
    s.answer_stock()
    s.prove_empty()
    assert (timers(s), s.mode()) == (1, Mode.FROZEN)
