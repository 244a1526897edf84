"""The breaker of placing in the core: fed by outcomes, asked by the gate, forced by persons, shared by cores; it never holds up a cancel.

Method: sessions on the real ``step``, which checks every invariant at every step (SAFE-15 is the breaker's). Where two cores share, a store
of two lines compares and sets between them. The bugs at the end are planted into the core, and the invariant has to find them.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.effects import (
    Alert,
    BreakerMode,
    Cancel,
    CancelAll,
    ClaimGuard,
    Denied,
    Effect,
    Metric,
    Mode,
    Place,
    Purpose,
    QueryOrder,
    ReadFreeze,
    Rejected,
    Replace,
    SetTimer,
    ShareBreaker,
    Trigger,
)
from haltcore.fsm import breaker as machine
from haltcore.fsm import breakers, checks
from haltcore.fsm.breaker import Breaker
from haltcore.fsm.codec import STATE
from haltcore.fsm.config import BreakerPolicy, CoolDown, FreezeClass, StoreCheck, StorePolicy, Triggers
from haltcore.fsm.core import JOB, PlaceBreaker
from haltcore.fsm.events import (
    BreakerAnswer,
    BreakerChanged,
    BreakerKind,
    Event,
    GuardAnswer,
    GuardKind,
    LatchKind,
    OverrideBreaker,
    StoreHealth,
    TimerFired,
)
from haltcore.fsm.freeze import HELD_BACK
from haltcore.fsm.invariants import broken
from haltcore.fsm.outcomes import failed
from haltcore.fsm.step import HANDLERS, step

from tests.helpers import ACKNOWLEDGED, BTC, BUY, ETH, IN_DOUBT, MS, REFUSED, SELL, UNAVAILABLE, Session, config

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED = BreakerMode
POLICY = BreakerPolicy(failures=3, window_ms=10_000, open_ms=5_000, probes=2)
NO_GUARD = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)


def held(s: Session) -> PlaceBreaker:
    breaker = s.core.flow.breaker
    assert breaker is not None
    return breaker


def state(s: Session) -> Breaker:
    return held(s).copy.state


def mode(s: Session) -> BreakerMode:
    return state(s).mode


def session(**fields: Any) -> Session:
    return Session(**{"breaker": POLICY, **fields})


def fail(s: Session, times: int = 1, kind: Any = UNAVAILABLE, code: str = "503") -> None:
    """Orders that the venue does not take; none of them stays open."""
    for _ in range(times):
        s.submit()
        s.outcome(s.one(Place), kind, code)


def opened(**fields: Any) -> Session:
    s = session(**fields)
    fail(s, 3)
    assert mode(s) is OPEN
    return s


def half_open(**fields: Any) -> Session:
    s = opened(**fields)
    s.fire(purpose=Purpose.BREAKER)
    assert mode(s) is HALF_OPEN
    return s


def override(s: Session, to: BreakerMode, for_ms: int = 0, by: str = "ann", why: str = "looked at it", job: str = JOB) -> list[str]:
    s.feed(OverrideBreaker(s.now, job, to, for_ms, by, why))
    return s.codes()


def denied(s: Session) -> str:
    """Why an order is not let through; "" if it is."""
    s.ask()
    return "" if s.got(Place) else f"{s.one(Denied).code}: {s.one(Denied).reason}"


# --- what feeds it ---------------------------------------------------------------------------------------------------


def test_without_a_policy_there_is_none() -> None:
    s = Session()
    fail(s, 50)
    assert (s.core.flow.breaker, s.all(ShareBreaker)) == (None, [])
    assert override(s, FORCED_OPEN) == ["unknown_job"]
    assert "set breaker in the configuration" in s.one(Rejected).reason


@pytest.mark.parametrize("kind", [UNAVAILABLE, IN_DOUBT])
def test_so_many_failures_of_places_open_it_and_say_so(kind: Any) -> None:
    s = session()
    for symbol, side in ((BTC, BUY), (BTC, SELL), (ETH, BUY)):
        s.submit(side, symbol=symbol)
        s.outcome(s.one(Place), kind, "503")
    assert mode(s) is OPEN
    (alert,) = [alert for alert in s.got(Alert) if alert.code == "breaker_open"]
    assert alert.severity.value == "critical"
    assert f"3 failures within 10000 ms, the last: place {kind.value} 503" in alert.text
    assert denied(s) == f"breaker_open: the circuit breaker of placing is open; probed in 5000 ms: {state(s).why}"


def test_what_the_venue_answers_is_no_failure_and_what_was_held_back_is_nothing() -> None:
    s = session()
    for code in HELD_BACK:
        fail(s, 1, REFUSED, code)
    fail(s, 20, REFUSED, "margin")
    for _ in range(20):
        s.working()
    assert (mode(s), state(s).failures) == (CLOSED, ())
    s = half_open()
    s.submit()
    s.outcome(s.one(Place), REFUSED, HELD_BACK[0])
    assert (mode(s), state(s).probes) == (HALF_OPEN, ())  # the permit is for somebody else
    s.submit()
    s.outcome(s.one(Place), REFUSED, "margin")
    assert mode(s) is CLOSED


def test_replaces_feed_it_and_are_gated_too() -> None:
    s = session()
    keys = [s.working() for _ in range(3)]
    for key in keys:
        s.replace(key, 5)
        s.outcome(s.one(Replace), UNAVAILABLE, "503")
    assert mode(s) is OPEN
    s.replace(keys[0], 4)
    assert s.one(Denied).code == "breaker_open"


def test_cancels_and_questions_feed_nothing() -> None:
    s = session()
    key = s.working()
    for _ in range(10):
        s.cancel(key)
        cancel = s.all(Cancel)[-1]
        s.outcome(cancel, UNAVAILABLE, "503")
    s.outcome(s.all(Cancel)[-1], IN_DOUBT)
    s.unanswered(s.one(QueryOrder))
    assert state(s).failures == ()


def test_the_outcome_of_an_order_that_is_not_known_says_nothing() -> None:
    s = session()
    s.submit()
    stranger = attrs.evolve(s.one(Place), order=999, id=(2, 0))
    for _ in range(5):
        s.outcome(stranger, UNAVAILABLE, "503")
    assert state(s).failures == ()


# --- what it holds up, and what never ----------------------------------------------------------------------------------


def test_an_open_breaker_never_holds_up_a_cancel_a_sweep_or_a_question() -> None:
    s = session()
    one, two = s.working(), s.working()
    override(s, FORCED_OPEN)
    assert denied(s).startswith("breaker_open")
    s.cancel(one)
    assert s.got(Cancel)
    unsure = s.one(Cancel)
    s.outcome(unsure, IN_DOUBT)
    assert s.got(QueryOrder)
    s.found(s.one(QueryOrder))
    s.freeze()
    assert s.got(CancelAll)
    s.prove_empty()
    assert (s.mode(), s.core.order(two) is not None) == (Mode.FROZEN, True)


def test_in_half_open_only_the_probes_go_and_one_success_closes() -> None:
    s = half_open()
    one, two = s.submit(), s.submit()
    places = s.all(Place)[-2:]
    assert denied(s).startswith("breaker_open: the circuit breaker of placing is half open, 2 of 2 probes under way")
    assert [mark.token for mark in state(s).probes] == [f"test001:{one}", f"test001:{two}"]
    s.outcome(places[1], ACKNOWLEDGED)
    assert (mode(s), s.codes()) == (CLOSED, ["breaker_closed"])
    s.outcome(places[0], UNAVAILABLE, "503")  # of the generation before: late
    assert (mode(s), state(s).failures, denied(s)) == (CLOSED, (), "")


def test_a_probe_that_fails_opens_again() -> None:
    s = half_open()
    s.submit()
    s.outcome(s.one(Place), IN_DOUBT, "timeout")
    assert (mode(s), "breaker_open" in s.codes()) == (OPEN, True)
    assert "a probe failed: place in_doubt timeout" in state(s).why


def test_a_probe_whose_outcome_never_comes_frees_its_place() -> None:
    s = half_open()
    s.submit()
    s.submit()
    s.wait(4_999)
    assert denied(s) != ""
    s.wait(1)
    assert denied(s) == ""


def test_what_was_sent_before_it_opened_says_nothing_of_the_time_after() -> None:
    s = session()
    slow = []
    for symbol in (BTC, ETH):
        s.submit(symbol=symbol)
        slow.append(s.one(Place))
    fail(s, 3)
    s.fire(purpose=Purpose.BREAKER)
    for place in slow:
        s.outcome(place, ACKNOWLEDGED)
    assert mode(s) is HALF_OPEN
    s.submit()
    s.outcome(s.one(Place), ACKNOWLEDGED)
    assert mode(s) is CLOSED


def test_explain_names_it_and_what_if_changes_nothing() -> None:
    s = opened()
    s.ask(explain=True)
    assert s.one(Denied).codes == ("breaker_open",)


# --- a person's word -----------------------------------------------------------------------------------------------------


def test_a_word_names_who_and_why_a_job_that_is_known_a_mode_and_a_time() -> None:
    s = session()
    before = state(s)
    for wrong, code in (
        ({"by": " "}, "who_and_why"), ({"why": ""}, "who_and_why"), ({"job": "cook"}, "unknown_job"), ({"to": OPEN}, "invalid_mode"),
        ({"to": HALF_OPEN}, "invalid_mode"), ({"for_ms": -1}, "invalid_duration"), ({"for_ms": 2**60}, "invalid_duration"),
        ({"to": CLOSED, "for_ms": 5}, "invalid_duration"), ({"to": CLOSED}, "no_change"),
    ):  # fmt: skip
        given: dict[str, Any] = {"to": FORCED_OPEN, **wrong}
        assert override(s, **given) == [code]
    assert state(s) == before
    override(s, FORCED_OPEN, job="cook")
    assert "say place" in s.one(Rejected).reason


def test_a_word_holds_is_told_counted_and_shown() -> None:
    s = session()
    assert override(s, FORCED_OPEN, for_ms=60_000) == ["breaker_forced_open"]
    assert [(m.name, m.label) for m in s.got(Metric) if "breaker" in m.name] == [("mm_breaker_overrides_total", "place,forced_open")]
    assert denied(s) == (
        "breaker_open: the circuit breaker of placing is forced open by ann for another 60000 ms: looked at it"
    )
    s.fire(purpose=Purpose.BREAKER)
    assert "breaker_lapsed" in s.codes()
    assert mode(s) is HALF_OPEN
    assert override(s, FORCED_CLOSED) == ["breaker_forced_closed"]
    fail(s, 10)
    assert (mode(s), denied(s)) == (FORCED_CLOSED, "")
    assert override(s, CLOSED) == ["breaker_closed"]
    assert (state(s).failures, denied(s)) == ((), "")


def test_a_timer_that_nobody_waits_for_any_more_changes_nothing() -> None:
    s = opened()
    timer = next(t for t in s.all(SetTimer) if t.purpose is Purpose.BREAKER)
    override(s, FORCED_OPEN)
    before = state(s)
    s.now = timer.due_ns
    s.feed(TimerFired(s.now, timer.id, timer.purpose, timer.key))
    assert state(s) == before
    assert held(s).timer is None
    override(s, FORCED_CLOSED, for_ms=1)
    before = state(s)
    s.wait(2)
    s.feed(TimerFired(s.now, timer.id, timer.purpose, timer.key))
    assert state(s) == before


# --- as a trigger ----------------------------------------------------------------------------------------------------------


def test_as_a_trigger_it_freezes_and_the_freeze_waits_for_it() -> None:
    cool = CoolDown(FreezeClass.NETWORK, 1_000, 1_000)
    s = session(triggers=Triggers(breaker_open=True, cool_downs=(cool,)))
    fail(s, 3)
    assert s.core.desk is not None
    assert (s.mode(), s.core.desk.freezes[-1].trigger, JOB in s.core.desk.breakers) == (Mode.FREEZING, Trigger.BREAKER_OPEN, True)
    half = next(t for t in s.all(SetTimer) if t.purpose is Purpose.BREAKER)
    s.prove_empty()
    s.fire(purpose=Purpose.COOL_DOWN)
    assert s.mode() is Mode.FROZEN  # it is open still
    s.fire(half)
    assert (mode(s), len(s.core.desk.breakers)) == (HALF_OPEN, 0)
    s.fire(purpose=Purpose.COOL_DOWN)
    assert (s.mode(), denied(s)) == (Mode.ACTIVE, "")


def test_breakers_of_other_jobs_are_told_as_before_and_its_own_is_not_told_by_others() -> None:
    s = session(triggers=Triggers(breaker_open=True))
    s.feed(BreakerChanged(s.now, JOB, True, "says who"))
    assert (s.codes(), s.mode()) == (["own_breaker"], Mode.ACTIVE)
    s.feed(BreakerChanged(s.now, "cook", True, "burnt"))
    assert s.mode() is Mode.FREEZING


# --- restart ---------------------------------------------------------------------------------------------------------------


def test_a_restart_keeps_it_and_wakes_it_in_time() -> None:
    s = opened()
    before = state(s)
    s.restart()
    s.answer_stock()
    assert state(s) == before
    assert denied(s).startswith("breaker_open")
    s.fire(purpose=Purpose.BREAKER)
    assert mode(s) is HALF_OPEN


def test_after_a_restart_an_open_breaker_still_stands_against_lifting_the_freeze() -> None:
    s = session(triggers=Triggers(breaker_open=True))
    fail(s, 3)
    s.restart()
    assert s.core.desk is not None
    assert JOB in s.core.desk.breakers
    s.fire(purpose=Purpose.BREAKER)
    assert JOB not in s.core.desk.breakers


def test_a_restart_follows_the_configuration() -> None:
    s = opened()
    s.restart(config())
    assert s.core.flow.breaker is None
    s.restart(config(breaker=POLICY))
    assert mode(s) is CLOSED


def test_the_state_stands_in_a_snapshot() -> None:
    s = half_open()
    s.submit()
    assert STATE.decode(STATE.encode(s.core)).flow.breaker == held(s)


# --- under guard -------------------------------------------------------------------------------------------------------------


def guarded() -> Session:
    s = session(store=StorePolicy(configured=True, guard=True, check=StoreCheck.OFF))
    serve(s, Store())
    return s


def claimed(s: Session, claim: ClaimGuard, kind: GuardKind = GuardKind.CLAIMED) -> None:
    s.feed(GuardAnswer(s.now, claim.id, claim.order, kind, s.now + 2_000 * MS, "", "", ""))


def test_a_claim_holds_the_permit_and_gives_it_back_when_it_is_not_granted() -> None:
    s = guarded()
    for _ in range(3):
        s.ask()
        claimed(s, s.one(ClaimGuard))
        s.outcome(s.one(Place), UNAVAILABLE, "503")
    s.fire([t for t in s.all(SetTimer) if t.purpose is Purpose.BREAKER][-1])
    assert mode(s) is HALF_OPEN
    s.ask()
    one = s.one(ClaimGuard)
    s.ask()
    two = s.one(ClaimGuard)
    assert denied(s).startswith("breaker_open")
    claimed(s, one)
    assert [place.order for place in s.got(Place)] == [one.order]
    assert len(state(s).probes) == 2
    claimed(s, two, GuardKind.HELD)
    assert [mark.token for mark in state(s).probes] == [f"test001:{one.order}"]


def test_what_was_claimed_is_not_sent_when_it_has_opened_meanwhile() -> None:
    s = guarded()
    s.ask()
    claim = s.one(ClaimGuard)
    override(s, FORCED_OPEN)
    claimed(s, claim)
    assert (s.got(Place), s.one(Denied).code) == ([], "breaker_open")


def test_an_order_that_half_opens_it_belongs_to_what_it_began() -> None:
    """Where the timer comes late, the order itself finds that it is time to probe."""
    s = opened()
    s.wait(5_000)
    s.submit()
    s.outcome(s.one(Place), ACKNOWLEDGED)
    assert mode(s) is CLOSED


# --- shared ------------------------------------------------------------------------------------------------------------------


class Store:
    """Compare and set; ``down`` answers so instead."""

    def __init__(self) -> None:
        self.version, self.text, self.down = 0, "", None

    down: StoreHealth | None

    def answer(self, effect: ShareBreaker, now: int) -> Event:
        if self.down is not None:
            if self.down is StoreHealth.IN_DOUBT and effect.state and effect.version == self.version:
                self.version, self.text = self.version + 1, effect.state
            return failed(effect, now, UNAVAILABLE if self.down is StoreHealth.UNAVAILABLE else IN_DOUBT, "store_fault")
        kind = BreakerKind.OK
        if effect.state and effect.version == self.version:
            self.version, self.text = self.version + 1, effect.state
        elif effect.state:
            kind = BreakerKind.CONFLICT
        return BreakerAnswer(now, effect.id, effect.job, kind, self.version, self.text)


def serve(s: Session, store: Store) -> None:
    """Answer what the session has asked of its store and got no answer to."""
    while (asked := held(s).asked) is not None:
        effect = next(e for e in s.all(ShareBreaker) if e.id == asked)
        s.feed(store.answer(effect, s.now))


def poll(s: Session, store: Store) -> None:
    """The latch is read again, and what comes with it."""
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), kind=LatchKind.OK if store.down is None else LatchKind.UNAVAILABLE)
    serve(s, store)


def two() -> tuple[Session, Session, Store]:
    store = Store()
    both = [session(store=NO_GUARD, session=tag) for tag in ("mmaaaaa", "mmbbbbb")]
    for s in both:
        serve(s, store)
    return both[0], both[1], store


def test_it_is_read_at_the_start_and_with_every_poll() -> None:
    s, _, store = two()
    assert [(e.job, e.version, e.state) for e in s.all(ShareBreaker)] == [(JOB, 0, "")]
    poll(s, store)
    assert len(s.all(ShareBreaker)) == 2
    s.fire(purpose=Purpose.LATCH)
    for _ in range(3):  # without an answer it is not asked again
        s.latch(s.all(ReadFreeze)[-1])
        s.fire(purpose=Purpose.LATCH)
    assert len(s.all(ShareBreaker)) == 3


def test_a_restart_with_a_new_store_tells_what_no_store_has_heard() -> None:
    s, store = opened(), Store()
    assert held(s).copy.unshared == ()
    s.restart(config(breaker=POLICY, store=NO_GUARD))
    serve(s, store)
    assert '"open"' in store.text


def test_what_opens_in_one_process_denies_in_all_within_a_poll_and_so_does_a_word() -> None:
    a, b, store = two()
    fail(a, 3)
    serve(a, store)
    assert denied(b) == ""
    poll(b, store)
    assert (mode(b), "breaker_open" in [alert.code for alert in b.all(Alert)]) == (OPEN, True)
    assert denied(b).startswith("breaker_open")
    override(b, FORCED_CLOSED)
    serve(b, store)
    poll(a, store)
    assert (mode(a), state(a).by, denied(a)) == (FORCED_CLOSED, "ann", "")


def test_failures_of_both_count_together() -> None:
    a, b, store = two()
    for s in (a, b, a):
        poll(s, store)
        fail(s, 1)
        serve(s, store)
    assert mode(a) is OPEN
    poll(b, store)
    assert mode(b) is OPEN


def test_a_conflict_takes_the_store_s_state_over_and_puts_its_own_again() -> None:
    a, b, store = two()
    fail(a, 2)
    fail(b, 1)
    assert held(a).asked is not None
    serve(b, store)
    serve(a, store)
    assert mode(a) is OPEN
    assert [e.version for e in a.all(ShareBreaker)] == [0, 0, 1]
    poll(b, store)
    assert mode(b) is OPEN


@pytest.mark.parametrize("health", [StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT])
def test_while_the_store_fails_the_last_state_goes_on_and_is_told_later(health: StoreHealth) -> None:
    a, b, store = two()
    places = []
    for _ in range(3):
        a.submit()
        places.append(a.one(Place))
    store.down = health
    for place in places:
        a.outcome(place, UNAVAILABLE, "503")
    serve(a, store)
    assert a.core.desk is not None
    assert (mode(a), a.core.desk.store.health) == (OPEN, health)
    for _ in range(3):
        poll(a, store)
        assert (mode(a), denied(a) != "") == (OPEN, True)
    store.down = None
    poll(a, store)
    poll(b, store)
    assert mode(b) in (OPEN, HALF_OPEN)
    assert state(b).opened_ns == state(a).opened_ns > 0
    assert held(a).copy.unshared == ()


def test_while_the_store_fails_it_is_not_asked_and_that_is_counted() -> None:
    a, b, store = two()
    store.down = StoreHealth.UNAVAILABLE
    poll(a, store)
    asked = len(a.all(ShareBreaker))
    assert override(a, FORCED_OPEN) == ["breaker_forced_open"]
    assert [metric.label for metric in a.got(Metric) if "degraded" in metric.name] == ["breaker,local"]
    poll(a, store)
    assert (len(a.all(ShareBreaker)), denied(a) != "") == (asked, True)
    store.down = None
    poll(a, store)
    poll(b, store)
    assert mode(b) is FORCED_OPEN


def test_a_store_that_has_lost_everything_closes_nothing() -> None:
    a, b, store = two()
    override(a, FORCED_OPEN)
    serve(a, store)
    poll(b, store)
    store.version, store.text = 0, ""
    for s in (b, a, b):
        poll(s, store)
        assert mode(s) is FORCED_OPEN
    assert "forced_open" in store.text


def test_what_cannot_be_read_is_said_once_and_a_word_replaces_it() -> None:
    a, _, store = two()
    store.version, store.text = 7, '{"breaker":9}'
    for _ in range(3):
        poll(a, store)
    assert [alert.code for alert in a.all(Alert)].count("breaker_unreadable") == 1
    assert (mode(a), denied(a)) == (CLOSED, "")
    override(a, FORCED_OPEN)
    serve(a, store)
    assert '"forced_open"' in store.text


def test_it_is_read_with_the_known_version_and_without_a_text_nothing_has_changed() -> None:
    a, b, store = two()
    fail(a, 3)
    serve(a, store)
    for _ in range(2):
        b.fire(purpose=Purpose.LATCH)
        b.latch(b.one(ReadFreeze))
        read = b.all(ShareBreaker)[-1]
        news = read.version != store.version
        b.feed(BreakerAnswer(b.now, read.id, JOB, BreakerKind.OK, store.version, store.text if news else ""))
        assert (mode(b), held(b).copy.version, read.state) == (OPEN, store.version, "")
    assert not news
    assert len([alert for alert in b.all(Alert) if alert.code == "breaker_open"]) == 1


def test_a_store_that_never_agrees_is_not_asked_without_end() -> None:
    a, _, store = two()
    fail(a, 1)
    for _ in range(20):
        if held(a).asked is None:
            break
        effect = next(e for e in a.all(ShareBreaker) if e.id == held(a).asked)
        a.feed(BreakerAnswer(a.now, effect.id, JOB, BreakerKind.CONFLICT, store.version, store.text))
    assert held(a).asked is None
    assert len(a.got(ShareBreaker)) == 0
    a.fire(purpose=Purpose.LATCH)
    a.latch(a.one(ReadFreeze))
    assert a.one(ShareBreaker).state != ""  # and with the next poll it is


def test_a_word_that_was_overtaken_elsewhere_is_said() -> None:
    a, b, store = two()
    override(a, FORCED_CLOSED)
    b.wait(1)
    override(b, FORCED_OPEN, by="bob")
    serve(b, store)
    a.wait(2)
    serve(a, store)
    assert mode(a) is FORCED_OPEN
    assert "breaker_overtaken" in [alert.code for alert in a.all(Alert)]


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    a, _, _ = two()
    before = state(a)
    for job in (JOB, "cook"):
        a.feed(BreakerAnswer(a.now, (1, 99), job, BreakerKind.OK, 1, "x"))
        assert (a.codes(), state(a)) == (["stale_answer"], before)


def test_a_restart_asks_again_and_tells_what_was_not_told() -> None:
    a, b, store = two()
    fail(a, 3)
    before = held(a).asked
    a.restart()
    assert held(a).asked == a.one(ShareBreaker).id != before
    a.answer_stock()
    serve(a, store)
    poll(b, store)
    assert mode(b) is OPEN


# --- the invariant finds bugs --------------------------------------------------------------------------------------------------


class Watched(Session):
    """A session that notes what the invariants say, and goes on."""

    def __init__(self, **fields: Any) -> None:
        self.faults: list[str] = []
        super().__init__(**fields)

    def feed(self, event: Event) -> tuple[Effect, ...]:
        before = self.core
        self.core, self.effects = step(before, event)
        self.faults += broken(before, event, self.core, self.effects)
        self.history += self.effects
        return self.effects


def play() -> list[str]:
    """Open, lose the store, be asked while open, half-open, be asked too often, hold a probe back; what the invariants say of it."""
    store, s = Store(), Watched(breaker=POLICY, store=NO_GUARD)
    serve(s, store)
    fail(s, 3)
    store.down = StoreHealth.UNAVAILABLE
    serve(s, store)
    store.down = None
    poll(s, store)
    s.ask()
    s.fire([t for t in s.all(SetTimer) if t.purpose is Purpose.BREAKER][-1])
    for _ in range(4):
        s.ask()
    s.outcome(s.all(Place)[-1], REFUSED, HELD_BACK[0])
    return s.faults


def gate_forgets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checks, "refusal", lambda *_: "")


def time_closes(patch: pytest.MonkeyPatch) -> None:
    into = machine._into

    def closing(s: Breaker, to: BreakerMode, *rest: Any, **named: Any) -> Breaker:
        return into(s, CLOSED if to is HALF_OPEN else to, *rest, **named)

    patch.setattr(machine, "_into", closing)


def losing_the_store_closes(patch: pytest.MonkeyPatch) -> None:
    def lose(turn: Any, event: BreakerAnswer) -> None:
        answer(turn, event)
        kept = turn.flow.breaker
        if event.kind is BreakerKind.UNAVAILABLE:
            fresh = attrs.evolve(kept.copy, state=machine.closed(turn.now_ns))
            turn.flow = attrs.evolve(turn.flow, breaker=attrs.evolve(kept, copy=fresh))

    answer = HANDLERS[BreakerAnswer]
    patch.setitem(HANDLERS, BreakerAnswer, lose)


def probes_without_number(patch: pytest.MonkeyPatch) -> None:
    probe = machine._probe

    def any_number(s: Breaker, e: Any, policy: BreakerPolicy, now_ns: int) -> Any:
        return probe(s, e, attrs.evolve(policy, probes=99), now_ns)

    row = dict(machine.RULES[machine.Ask]) | {HALF_OPEN: any_number}
    patch.setattr(machine, "RULES", {**machine.RULES, machine.Ask: row})
    patch.setattr(checks, "refusal", lambda s, *_: "" if s.mode in (CLOSED, HALF_OPEN) else "shut")


def held_back_counts_as_success(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(breakers, "HELD_BACK", ())


def test_a_run_with_all_of_it_breaks_no_promise() -> None:
    assert play() == []


@pytest.mark.parametrize(
    "bug", [gate_forgets, time_closes, losing_the_store_closes, probes_without_number, held_back_counts_as_success]
)
def test_the_invariant_finds(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert any(fault.startswith("SAFE-15") for fault in play())
