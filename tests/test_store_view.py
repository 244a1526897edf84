"""The core knows whether the store answers, which store it is, and whether it is fit: by its answers alone, and at once.

Method: sessions through the real ``step``, with the store's answers given one by one; every kind of answer has to count for the health, and
every deed has to follow the matrix of ``degraded.py``.
"""

import asyncio
from typing import Any

import attrs
import pytest
from haltcore.adapters.clock import LoopClock
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.people import People
from haltcore.adapters.runner import Runner
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    Alert,
    BreakerMode,
    CancelAll,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Denied,
    Effect,
    FetchOpenOrders,
    FetchPositions,
    Metric,
    Place,
    PublishFreeze,
    Purpose,
    ReadFreeze,
    Rejected,
    SettleGuard,
    Severity,
    ShareBreaker,
)
from haltcore.fsm.config import BreakerPolicy, StoreCheck, StorePolicy
from haltcore.fsm.core import Desk, StoreView
from haltcore.fsm.degraded import MATRIX, Conduct, Deed
from haltcore.fsm.events import (
    BreakerAnswer,
    BreakerKind,
    Event,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LeaseAnswer,
    LeaseKind,
    OverrideBreaker,
    StoreChecked,
    StoreHealth,
)
from haltcore.fsm.store_view import ENOUGH_POLLS, writable

from tests.helpers import BTC, Session, config
from tests.runner_rig import EPOCH_NS, HandVenue, later, simulated

PLAIN = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)
WARN = attrs.evolve(PLAIN, check=StoreCheck.WARN)
STRICT = attrs.evolve(PLAIN, check=StoreCheck.STRICT)
FAULT = "maxmemory-policy is allkeys-lru; set it to noeviction"


def desk(s: Session) -> Desk:
    assert s.core.desk is not None
    return s.core.desk


def view(s: Session) -> StoreView:
    return desk(s).store


def checked(s: Session, effect: CheckStore, *faults: str, health: StoreHealth = StoreHealth.OK, notes: tuple[str, ...] = ()) -> None:
    s.feed(StoreChecked(s.now, effect.id, health, faults, notes))


def poll(s: Session, kind: LatchKind = LatchKind.OK, epoch: int = 1) -> None:
    s.fire(purpose=Purpose.LATCH)
    s.feed(LatchAnswer(s.now, s.one(ReadFreeze).id, kind, (), epoch))


def started(store: StorePolicy) -> tuple[Session, CheckStore]:
    """A session whose stock is taken and whose latch is read, and its check, which is not answered yet."""
    s = Session(ready=False, store=store)
    check = s.one(CheckStore)
    s.answer_stock()
    return s, check


# --- health -------------------------------------------------------------------------------------------------------------


def answers(s: Session, health: StoreHealth) -> list[Event]:
    """One of each kind of answer, to a request of which nobody knows."""
    kind, nobody = health.value, (1, 99)
    return [
        LeaseAnswer(s.now, nobody, LeaseKind("held" if kind == "ok" else kind), NO_FENCE, 0, ""),
        LatchAnswer(s.now, nobody, LatchKind(kind), ()),
        GuardAnswer(s.now, nobody, 0, GuardKind("held" if kind == "ok" else kind), 0, "", "", ""),
        StoreChecked(s.now, nobody, health, (), ()),
    ]


@pytest.mark.parametrize("health", [StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT])
@pytest.mark.parametrize("which", range(4))
def test_every_answer_says_how_the_store_is(which: int, health: StoreHealth) -> None:
    s = Session(store=PLAIN)
    assert view(s).health is StoreHealth.OK
    s.feed(answers(s, health)[which])
    assert view(s).health is health
    s.ask()
    assert s.one(Denied).code == "store_unavailable"
    assert [m.label for m in s.got(Metric) if m.name == "mm_coordination_degraded_total"] == [
        "place,refuse" if health is StoreHealth.UNAVAILABLE else "place,resolve"
    ]
    s.feed(answers(s, StoreHealth.OK)[which])
    if which == 3:
        assert view(s).health is health, "what is only read mends nothing: the next poll does"
        poll(s)
        assert view(s).health is StoreHealth.OK
        return
    assert view(s).health is StoreHealth.OK
    assert len(s.got(ReadFreeze)) == 1, "a freeze may have been said meanwhile"


def test_without_a_store_no_answer_matters() -> None:
    s = Session()
    for event in answers(s, StoreHealth.UNAVAILABLE):
        s.feed(event)
    for event in answers(s, StoreHealth.OK):
        s.feed(event)
        assert not s.got(ReadFreeze)
        assert not s.got(CheckStore)
    assert s.submit()


@pytest.mark.parametrize("kind", [LatchKind.UNAVAILABLE, LatchKind.IN_DOUBT])
def test_the_deeds_of_the_core_follow_the_matrix(kind: LatchKind) -> None:
    s = Session(store=PLAIN)
    key = s.working()
    poll(s, kind)
    s.replace(key, 5)
    assert s.one(Denied).code == "store_unavailable"
    s.freeze()
    assert s.got(CancelAll)
    s.prove_empty()
    s.unfreeze()
    assert s.one(Rejected).code == "store_unavailable"
    column = "unavailable" if kind is LatchKind.UNAVAILABLE else "in_doubt"
    wanted = [f"{deed.value},{getattr(MATRIX[deed], column).value}" for deed in (Deed.AMEND, Deed.CANCEL, Deed.FREEZE, Deed.UNFREEZE)]
    assert [m.label for m in s.all(Metric) if m.name == "mm_coordination_degraded_total"] == wanted


def test_the_core_asks_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another matrix, other deeds: nobody repeats it."""
    from haltcore.fsm import degraded

    open_ = attrs.evolve(MATRIX[Deed.PLACE], unavailable=Conduct.GO)
    lift = attrs.evolve(MATRIX[Deed.UNFREEZE], unavailable=Conduct.ASK)
    wait = attrs.evolve(MATRIX[Deed.CANCEL], unavailable=Conduct.LEASE_FIRST)
    monkeypatch.setattr(degraded, "MATRIX", {**MATRIX, Deed.PLACE: open_, Deed.UNFREEZE: lift, Deed.CANCEL: wait})
    s = Session(store=PLAIN)
    poll(s, LatchKind.UNAVAILABLE)
    before = s.core
    with pytest.raises(AssertionError):
        s.ask()
    assert s.got(Place), "SAFE-9 does not look at the matrix"
    s.core = before
    s.freeze()
    assert s.got(AcquireLease)
    s.unfreeze(force=True)
    assert not s.got(Rejected)


# --- a store that is read and not written ---------------------------------------------------------------------------------


CLAIMING = StorePolicy(configured=True, check=StoreCheck.WARN)


def claim(s: Session, kind: GuardKind) -> bool:
    """An order that is claimed with this answer; False if the gate let none through."""
    s.ask()
    claims = s.got(ClaimGuard)
    for effect in claims:
        s.feed(GuardAnswer(s.now, effect.id, effect.order, kind, s.now + 10**9, "", "", "store_full"))
    return bool(claims)


@pytest.mark.parametrize("kind", [GuardKind.UNAVAILABLE, GuardKind.IN_DOUBT])
def test_a_refused_write_is_mended_by_no_reading_and_is_tried_again_more_and_more_seldom(kind: GuardKind) -> None:
    s, check = started(CLAIMING)
    checked(s, check)
    tried = []
    for number in range(60):
        poll(s)
        for effect in s.got(CheckStore):
            checked(s, effect)
        if claim(s, kind):
            tried.append(number)
            checked(s, attrs.evolve(check, id=(1, 99)))
            assert view(s).health.value == kind.value, "a check is no write"
    assert tried == [0, 1, 3, 7, 15, 31, 47]
    while not claim(s, GuardKind.CLAIMED):
        poll(s)
    poll(s)
    assert claim(s, kind)
    poll(s)
    assert claim(s, kind), "a write that was taken begins the count anew"


def test_a_breaker_s_text_that_is_refused_is_a_refused_write_too() -> None:
    s = Session(store=attrs.evolve(CLAIMING, check=StoreCheck.OFF), breaker=BreakerPolicy())
    put = []
    s.feed(BreakerAnswer(s.now, s.all(ShareBreaker)[-1].id, "place", BreakerKind.OK, 0, ""))
    s.feed(OverrideBreaker(s.now, "place", BreakerMode.FORCED_CLOSED, 0, "ann", "why"))
    for number in range(20):
        for effect in s.got(ShareBreaker):
            assert effect.state
            put.append(number)
            s.feed(BreakerAnswer(s.now, effect.id, "place", BreakerKind.UNAVAILABLE, 0, ""))
        poll(s)
    assert put == [0, 1, 3, 7, 15]


def test_a_store_that_answers_nothing_for_long_is_back_with_the_first_poll() -> None:
    s, check = started(CLAIMING)
    checked(s, check)
    for _ in range(10):
        poll(s, LatchKind.UNAVAILABLE)
        s.feed(answers(s, StoreHealth.UNAVAILABLE)[0])
    poll(s)
    assert (view(s).health, writable(desk(s))) == (StoreHealth.OK, True)


def test_where_nothing_is_claimed_no_refused_write_keeps_anybody_from_placing() -> None:
    s = Session(store=PLAIN)
    for _ in range(5):
        s.feed(answers(s, StoreHealth.UNAVAILABLE)[0])
        assert not writable(desk(s))
        poll(s)
        assert s.submit()


def test_burst_of_refusals_and_takings_asks_for_nothing_more_than_the_poll() -> None:
    """Claims, the breaker and the check together, over a store that takes every second write."""
    s, check = started(CLAIMING)
    checked(s, check)
    for number in range(40):
        s.feed(answers(s, (StoreHealth.OK, StoreHealth.UNAVAILABLE)[number % 2])[number // 2 % 3])
        assert not s.got(ReadFreeze)
        assert not s.got(CheckStore)
    poll(s)
    assert len(s.got(CheckStore)) == 1


@simulated
async def test_a_full_store_costs_one_reading_a_poll_and_a_write_now_and_then() -> None:
    """A runner with open claims, a breaker and a store of which every question is answered and every word refused."""
    writes = (AcquireLease, ClaimGuard, SettleGuard, PublishFreeze, ClearFreeze)
    asked: list[Effect] = []

    def full(effect: Effect) -> StoreFault | None:
        asked.append(effect)
        return StoreFault(FaultKind.UNAVAILABLE) if isinstance(effect, writes) or getattr(effect, "state", "") else None

    clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
    store, gate = MemoryStore(MemoryState(clock.now_ns)), asyncio.Event()
    venue, alerts = HandVenue(), list[Alert]()

    async def slow(effect: Any) -> Any:
        await gate.wait()
        return venue.well(effect)

    venue.behave["Place"] = slow
    conf = config(store=CLAIMING, breaker=BreakerPolicy())
    runner = Runner(conf, venue=venue, journal=None, store=store, clock=clock, people=People(alerts.append))
    await runner.start()
    submits = [asyncio.create_task(runner.submit(BTC, "buy", "1", "100")) for _ in range(150)]
    await later(0.3)
    store.fault = full
    gate.set()
    await asyncio.gather(*submits, return_exceptions=True)
    await later(60)
    assert len(runner.core.flow.guards) == 150
    seconds = 61
    assert len([e for e in asked if isinstance(e, ReadFreeze)]) <= seconds
    assert len([e for e in asked if isinstance(e, CheckStore)]) <= 10
    assert len([e for e in asked if isinstance(e, ShareBreaker)]) <= 20
    assert len([e for e in asked if isinstance(e, SettleGuard)]) <= 1_000
    assert len([alert for alert in alerts if alert.code == "store_lost"]) <= 1
    store.fault = None
    await later(20)
    assert len(runner.core.flow.guards) == 0
    runner.abandon()


# --- people ---------------------------------------------------------------------------------------------------------------


def failing(s: Session, code: str, kind: LatchKind = LatchKind.UNAVAILABLE) -> None:
    s.fire(purpose=Purpose.LATCH)
    s.feed(LatchAnswer(s.now, s.one(ReadFreeze).id, kind, (), code=code))


def told(s: Session) -> list[tuple[Severity, str]]:
    return [(a.severity, a.code) for a in s.got(Alert)]


def test_people_hear_once_that_it_is_lost_with_the_cause_and_once_that_it_is_back() -> None:
    s = Session(store=PLAIN)
    failing(s, "store_timeout", LatchKind.IN_DOUBT)
    assert told(s) == [(Severity.WARNING, "store_lost")]
    assert "(store_timeout)" in s.one(Alert).text
    since = s.now
    assert (view(s).code, view(s).since_ns) == ("store_timeout", since)
    failing(s, "store_refused")
    assert told(s) == []
    assert (view(s).code, view(s).since_ns) == ("store_refused", since)
    s.ask()
    assert "does not answer (store_refused), so" in s.one(Denied).reason
    for _ in range(ENOUGH_POLLS - 1):
        poll(s)
        assert told(s) == []
        assert (view(s).code, view(s).since_ns) == ("", 0)
    poll(s)
    assert told(s) == [(Severity.INFO, "store_back")]
    assert "after store_timeout" in s.one(Alert).text
    assert (view(s).told, view(s).answered) == ((), 0)
    poll(s)
    assert told(s) == []
    failing(s, "store_timeout")
    assert told(s) == [(Severity.WARNING, "store_lost")]


def full(s: Session, minutes: int, code: str = "store_full") -> list[tuple[Severity, str]]:
    """What people hear while a freeze is to be published to a store that answers every poll and refuses every word."""
    heard = []
    for _ in range(60 * minutes):
        poll(s)
        heard += told(s)
        for effect in s.got(PublishFreeze):
            s.feed(LatchAnswer(s.now, effect.id, LatchKind.UNAVAILABLE, (), code=code, scope=effect.scope))
            heard += told(s)
    return heard


@pytest.mark.parametrize("policy", [PLAIN, attrs.evolve(PLAIN, guard=True)])
def test_of_a_store_that_is_read_and_not_written_people_hear_once(policy: StorePolicy) -> None:
    s = Session(store=policy)
    s.freeze()
    assert full(s, 3) == [(Severity.WARNING, "store_lost")]
    assert full(s, 1, "store_readonly") == [(Severity.WARNING, "store_lost")], "another cause"
    assert full(s, 1) == [], "that was said already"
    s.feed(answers(s, StoreHealth.OK)[0])
    assert told(s) == [(Severity.INFO, "store_back")], "a write was taken"
    assert "after store_full, store_readonly" in s.one(Alert).text
    for effect in s.got(ReadFreeze):
        s.feed(LatchAnswer(s.now, effect.id, LatchKind.OK, (), 1))
    assert full(s, 1) == [(Severity.WARNING, "store_lost")]


def test_polls_between_failures_do_not_add_up() -> None:
    s = Session(store=PLAIN)
    failing(s, "store_timeout")
    assert told(s) == [(Severity.WARNING, "store_lost")]
    for answer in (answers(s, StoreHealth.UNAVAILABLE)[3], attrs.evolve(answers(s, StoreHealth.UNAVAILABLE)[0], code="store_timeout")):
        for _ in range(ENOUGH_POLLS - 1):
            poll(s)
            assert told(s) == []
        s.feed(answer)
        assert told(s) == []
    for _ in range(ENOUGH_POLLS):
        assert told(s) == []
        checked(s, CheckStore((1, 99)))
        poll(s)
    assert told(s) == [(Severity.INFO, "store_back")]


def test_polls_that_a_refused_write_has_spoiled_are_no_sign_that_the_store_is_back() -> None:
    s, check = started(CLAIMING)
    checked(s, check)
    heard = []
    for _ in range(60):
        poll(s)
        heard += told(s)
        for effect in s.got(CheckStore):
            checked(s, effect)
        claim(s, GuardKind.UNAVAILABLE)
        heard += [(a.severity, a.code) for a in s.got(Alert) if a.code.startswith("store")]
    assert heard == [(Severity.WARNING, "store_lost")]


@pytest.mark.parametrize(
    ("code", "severity"),
    [("store_auth", Severity.CRITICAL), ("store_forbidden", Severity.CRITICAL), ("store_readonly", Severity.CRITICAL),
     ("store_refused", Severity.WARNING)],
)  # fmt: skip
def test_what_never_passes_by_itself_is_critical_as_the_first_answer(code: str, severity: Severity) -> None:
    s = Session(ready=False, store=PLAIN)
    asked = s.effects
    s.feed(LatchAnswer(s.now, s.one(ReadFreeze).id, LatchKind.UNAVAILABLE, (), code=code))
    assert told(s) == [(severity, "store_lost")]
    for effect in asked:
        if isinstance(effect, FetchOpenOrders):
            s.lists(effect)
        elif isinstance(effect, FetchPositions):
            s.positions(effect)
    s.ask()
    assert (s.one(Denied).code, f"has not been read yet ({code})" in s.one(Denied).reason) == ("not_ready", True)
    later = Session(store=PLAIN)
    failing(later, code)
    assert told(later) == [(Severity.WARNING, "store_lost")], "it has answered before"


def test_a_log_of_before_has_no_cause_and_no_such_alert() -> None:
    s = Session(store=PLAIN)
    failing(s, "")
    assert told(s) == []
    poll(s)
    assert told(s) == []


@pytest.mark.parametrize("which", range(4))
def test_every_answer_that_names_a_cause_is_heard(which: int) -> None:
    s = Session(store=PLAIN)
    s.feed(attrs.evolve(answers(s, StoreHealth.UNAVAILABLE)[which], code="store_oom"))
    assert told(s) == [(Severity.WARNING, "store_lost")]
    assert view(s).code == "store_oom"


# --- fitness --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "asked"), [(PLAIN, 0), (WARN, 1), (STRICT, 1)])
def test_the_store_is_checked_at_the_start_of_every_process(policy: StorePolicy, asked: int) -> None:
    s = Session(ready=False, store=policy)
    assert len(s.got(CheckStore)) == asked
    s.restart()
    assert len(s.got(CheckStore)) == asked


def test_faults_are_told_to_people_once_and_again_when_they_are_others() -> None:
    s, check = started(WARN)
    checked(s, check, FAULT, "no persistence", notes=("Valkey 9.1",))
    alerts = s.got(Alert)
    assert [(a.severity, a.code, a.text) for a in alerts] == [
        (Severity.CRITICAL, "store_unfit", f"{FAULT}; no persistence"), (Severity.INFO, "store_notes", "Valkey 9.1")
    ]  # fmt: skip
    assert s.submit(), "only people are told"
    poll(s, LatchKind.UNAVAILABLE)
    poll(s)
    checked(s, s.one(CheckStore), FAULT, "no persistence", notes=("Valkey 9.1",))
    assert not s.got(Alert)
    poll(s, LatchKind.UNAVAILABLE)
    poll(s)
    checked(s, s.one(CheckStore), FAULT)
    assert [a.text for a in s.got(Alert)] == [FAULT]


def test_strictly_nothing_is_placed_until_the_store_is_found_fit() -> None:
    s, check = started(STRICT)
    s.ask()
    assert (s.one(Denied).code, s.one(Denied).reason) == ("store_unfit", "the store's fitness is not known yet")
    checked(s, check, FAULT)
    s.ask()
    assert s.one(Denied).reason == f"the store is not fit to coordinate: {FAULT}"
    s, check = started(STRICT)
    checked(s, check, notes=("Valkey 9.1",))
    assert s.submit()


@pytest.mark.parametrize("health", [StoreHealth.UNAVAILABLE, StoreHealth.IN_DOUBT])
def test_a_check_without_an_answer_finds_nothing_and_is_made_when_the_store_answers(health: StoreHealth) -> None:
    s, check = started(STRICT)
    checked(s, check, health=health)
    s.ask()
    assert s.one(Denied).code == "store_unavailable"
    poll(s)
    s.ask()
    assert s.one(Denied).code == "store_unfit"
    checked(s, s.all(CheckStore)[-1])
    assert s.submit()


def test_what_is_under_way_when_the_store_answers_again_is_not_asked_twice() -> None:
    s, check = started(STRICT)
    poll(s, LatchKind.UNAVAILABLE)
    poll(s)
    assert len(s.all(CheckStore)) == 1
    checked(s, check)
    s.answer_stock()
    assert s.submit()


def test_a_check_that_failed_is_made_again_by_a_poll_though_a_write_has_mended_the_health() -> None:
    s, check = started(attrs.evolve(STRICT, guard=True))
    checked(s, check, health=StoreHealth.IN_DOUBT)
    s.feed(answers(s, StoreHealth.OK)[0])
    assert view(s).health is StoreHealth.OK
    assert not s.got(CheckStore)
    poll(s)
    checked(s, s.all(CheckStore)[-1])
    assert s.submit()


def test_another_epoch_is_another_store() -> None:
    s, check = started(STRICT)
    checked(s, check)
    poll(s, epoch=1)
    assert not s.got(CheckStore), "it was not said before"
    assert s.submit()
    poll(s, epoch=2)
    late = s.one(CheckStore)
    s.ask()
    assert s.one(Denied).code == "store_unfit"
    poll(s, epoch=3)
    checked(s, late)
    s.ask()
    assert s.one(Denied).code == "store_unfit", "that was an answer about the store before"
    checked(s, [e for e in s.all(CheckStore) if e is not late][-1])
    assert s.submit()


def test_what_nobody_asked_for_says_nothing_of_fitness() -> None:
    s, _ = started(STRICT)
    s.feed(StoreChecked(s.now, (1, 99), StoreHealth.OK, (), ()))
    s.ask()
    assert s.one(Denied).code == "store_unfit"


def fields(found: Any) -> set[str]:
    return {field.name for field in attrs.fields(type(found))}


def test_what_a_restart_keeps_of_the_store_is_its_epoch_and_its_rows() -> None:
    s, check = started(WARN)
    checked(s, check, FAULT)
    poll(s, epoch=4)
    s.restart()
    fresh = Session(ready=False, store=WARN)
    kept = {name for name in fields(view(s)) if getattr(view(s), name) != getattr(view(fresh), name)} - {"read", "check"}
    assert kept == {"epoch"}
