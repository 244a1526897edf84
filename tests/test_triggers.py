"""Every trigger that the core sees by itself fires at its exact boundary, in its scope, once, with its figures; and none unless it is
configured.

Method: one row per trigger and scope: how it is configured, what brings a session to the brink of it, and what goes one unit beyond.
All rows go through the same tests, among them: the brink is silent, the step beyond freezes in that very step, the same again says
nothing, the same without the configuration does nothing, a frozen scope records each trigger once. What is special about a trigger is
tested in ``test_watch.py`` and ``test_feeds.py``; those that somebody says in ``test_freeze.py``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import evolve, frozen
from haltcore.effects import Alert, Denied, Metric, Mode, ModeChanged, Place, Purpose, SetTimer, Trigger, bps, price, qty, usd
from haltcore.fsm.config import FreezeClass, Triggers
from haltcore.fsm.core import FreezeRecord
from haltcore.fsm.events import BreakerChanged, ClockReading, EdgeUpdate, SubmitOrder, VenueLink
from haltcore.fsm.freeze import HELD_BACK
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.outcomes import outcome
from haltcore.fsm.triggers import CLASS_OF, TRIGGERS

from tests.helpers import BTC, BUY, ETH, MS, REFUSED, Session, config

MM, ARB = "mm", "arb"
Act = Callable[[Session], object]


@frozen
class Case:
    """One trigger in one scope. ``brink`` brings the session to where it is still silent, ``beyond`` one unit further; ``quiet`` is what
    has to be configured for both to be possible at all, without the trigger."""

    trigger: Trigger
    scope: str
    configured: Mapping[str, Any]
    brink: Act
    beyond: Act
    value: str
    threshold: str
    quiet: Mapping[str, Any] = {"strategies": (MM, ARB)}


# --- what brings each about --------------------------------------------------------------------------------------------


def edge(symbol: str, value: str) -> Act:
    return lambda s: s.feed(EdgeUpdate(s.now, symbol, bps(value)))


def bought(s: Session, symbol: str = BTC) -> None:
    """10 at 100, of the strategy."""
    s.fill(s.working(symbol=symbol, strategy=MM), 10)


def marked(*prices: str) -> Act:
    def act(s: Session) -> None:
        if not s.position():
            bought(s)
        for at in prices:
            s.mark(at)

    return act


def overfilled(amount: int) -> Act:
    """An order of 10, of which the venue says that so much was filled; the worst case is that times 100."""

    def act(s: Session) -> None:
        if not s.core.orders and not s.core.closed:
            s.working(strategy=MM)
        key = max([*s.core.orders.keys(), *s.core.closed.keys()])
        s.fill(key, amount - s.order(key).cum_qty // 10**12)

    return act


def refused(times: int) -> Act:
    def act(s: Session) -> None:
        for _ in range(times):
            s.reject(s.core_in_flight())  # type: ignore[attr-defined]

    return act


class InFlight(Session):
    """A session with many orders on their way, to be refused one by one."""

    def core_in_flight(self) -> int:
        """The oldest order without an outcome."""
        return min(key for key, order in self.core.orders.items() if not order.accepted)


def link_down(s: Session) -> None:
    s.feed(VenueLink(s.now, False, "lost"))
    timer = s.one(SetTimer)
    s.now = timer.due_ns - 1


def link_lost(s: Session) -> None:
    s.fire(next(t for t in reversed(s.all(SetTimer)) if t.purpose is Purpose.VENUE_LINK))


def silence(s: Session) -> None:
    """A feed's timer, once early: time is one nanosecond short."""
    timer = next(t for t in s.all(SetTimer) if t.purpose is Purpose.FEED)
    s.now = timer.due_ns - 1
    s.feed_early(timer)  # type: ignore[attr-defined]


class Early(Session):
    """A session in which a timer can be early."""

    def feed_early(self, timer: SetTimer) -> None:
        """The timer fires now, whenever it is due."""
        self.fire(evolve(timer, due_ns=self.now))


def no_data(s: Session) -> None:
    s.fire(purpose=Purpose.FEED)


def behind(by_ns: int) -> Act:
    return lambda s: s.feed(BreakerChanged(s.now - by_ns, "place", False, ""))


def clock(*offsets: int) -> Act:
    def act(s: Session) -> None:
        for offset in offsets:
            s.feed(ClockReading(s.now, offset))

    return act


def limits(**figures: Any) -> dict[str, Any]:
    return {"limits": Limits(**figures)}


def rule(symbol: str = "", strategy: str = "", /, **figures: Any) -> dict[str, Any]:
    return {"rules": (LimitRule(Limits(**figures), symbol, strategy),)}


def triggers(**fields: Any) -> dict[str, Any]:
    return {"triggers": Triggers(**fields)}


T = Trigger
EDGE, INVENTORY = T.EDGE_COLLAPSE, T.LIMIT_VIOLATION
FEED: dict[str, Any] = {"feed_lost_ms": 500}
CASES = {
    "edge, account": Case(EDGE, "", limits(edge_freeze_threshold_bps=bps(200)), edge(BTC, "200"), edge(BTC, "199.9"), "199.9", "200"),
    "edge, overall": Case(EDGE, "", limits(edge_freeze_threshold_bps=bps(200)), edge("", "200"), edge("", "-1"), "-1", "200"),
    "edge, symbol": Case(EDGE, BTC, rule(BTC, edge_freeze_threshold_bps=bps(-3)), edge(BTC, "-3"), edge(BTC, "-3.1"), "-3.1", "-3"),
    "loss, account": Case(T.LOSS, "", limits(max_daily_loss=usd(50)), marked("95"), marked("94.999"), "50.01", "50"),
    "loss, symbol": Case(T.LOSS, BTC, rule(BTC, max_daily_loss=usd(50)), marked("95"), marked("94.999"), "50.01", "50"),
    "loss, strategy": Case(T.LOSS, "strategy:mm", rule("", MM, max_daily_loss=usd(50)), marked("95"), marked("94.999"), "50.01", "50"),
    "drawdown, account": Case(T.DRAWDOWN, "", limits(max_drawdown=usd(50)), marked("107", "102"), marked("101.999"), "50.01", "50"),
    "drawdown, symbol": Case(T.DRAWDOWN, BTC, rule(BTC, max_drawdown=usd(50)), marked("107", "102"), marked("101.999"), "50.01", "50"),
    "drawdown, strategy": Case(
        T.DRAWDOWN, "strategy:mm", rule("", MM, max_drawdown=usd(50)), marked("107", "102"), marked("101.999"), "50.01", "50"
    ),
    "inventory, account": Case(INVENTORY, BTC, limits(max_inventory_usd=usd(1_500)), overfilled(15), overfilled(16), "1600", "1500"),
    "inventory, symbol": Case(INVENTORY, BTC, rule(BTC, max_inventory_usd=usd(1_500)), overfilled(15), overfilled(16), "1600", "1500"),
    "inventory, strategy": Case(
        INVENTORY, "strategy:mm", rule(BTC, MM, max_inventory_usd=usd(1_500)), overfilled(15), overfilled(16), "1600", "1500"
    ),
    "total, account": Case(INVENTORY, "", limits(max_total_notional=usd(1_500)), overfilled(15), overfilled(16), "1600", "1500"),
    "total, strategy": Case(
        INVENTORY, "strategy:mm", rule("", MM, max_total_notional=usd(1_500)), overfilled(15), overfilled(16), "1600", "1500"
    ),
    "reject storm": Case(T.REJECT_STORM, "", triggers(reject_storm=Rate(3, 1_000)), refused(3), refused(1), "", "3"),
    "feed, account": Case(T.FEED_LOST, "", limits(**FEED), silence, no_data, "500", "500"),
    "feed, symbol": Case(T.FEED_LOST, BTC, rule(BTC, **FEED), silence, no_data, "500", "500"),
    "venue lost": Case(T.VENUE_LOST, "venue", {"venue_lost_ms": 700}, link_down, link_lost, "", "700"),
    "clock, event": Case(T.CLOCK_JUMP, "", triggers(clock_jump_ms=40), behind(40 * MS), behind(40 * MS + 1), "40.000001", "40"),
    "clock, forward": Case(T.CLOCK_JUMP, "", triggers(clock_jump_ms=40), clock(7, 7 + 40 * MS), clock(8 + 80 * MS), "40.000001", "40"),
    "clock, back": Case(T.CLOCK_JUMP, "", triggers(clock_jump_ms=40), clock(7, 7 - 40 * MS), clock(6 - 80 * MS), "-40.000001", "40"),
    "breaker": Case(
        T.BREAKER_OPEN, "", triggers(breaker_open=True), lambda s: s.feed(BreakerChanged(s.now, "place", False, "")),
        lambda s: s.feed(BreakerChanged(s.now, "place", True, "10 failures")), "", "",
    ),
}  # fmt: skip
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
#: What cannot be brought about at all unless it is configured, and what cannot be switched off.
NO_TIMER, ALWAYS = (Trigger.FEED_LOST,), (Trigger.VENUE_LOST,)


def begun(case: Case, configured: bool = True) -> Session:
    """A session of the case, with whatever its acts need."""
    kind = InFlight if case.trigger is Trigger.REJECT_STORM else Early if case.trigger is Trigger.FEED_LOST else Session
    s = kind(config(**{**case.quiet, **(case.configured if configured else {})}))
    if isinstance(s, InFlight):
        for _ in range(12):
            s.submit(strategy=MM)
    return s


def history(s: Session) -> tuple[FreezeRecord, ...]:
    assert s.core.desk is not None
    return s.core.desk.freezes


def frozen_scopes(s: Session) -> list[str]:
    return [scope for scope in ("", "venue", BTC, ETH, "strategy:mm", "strategy:arb") if s.mode(scope) in (Mode.FREEZING, Mode.FROZEN)]


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_trigger_has_one_row_and_every_one_that_the_core_sees_is_tried() -> None:
    assert sorted(CLASS_OF) == sorted(Trigger)
    assert len(TRIGGERS) == len(Trigger)
    said = {Trigger.MANUAL, Trigger.PEER, Trigger.STOPPING, Trigger.JOURNAL, Trigger.INVARIANT}
    assert {case.trigger for case in CASES.values()} == set(Trigger) - said


def test_the_rows_scopes_and_places_of_configuration_are_those_that_are_tried() -> None:
    for row in TRIGGERS:
        tried = [case for case in CASES.values() if case.trigger is row.trigger]
        for case in tried:
            kind = {"": "account", "venue": "venue", "strategy:mm": "strategy"}.get(case.scope, "symbol")
            assert kind in row.scope
        if tried:
            assert len({case.scope for case in tried}) == len(row.scope.split(", "))


def test_the_classes_are_those_of_the_design() -> None:
    by_class = {kind: sorted(t.value for t in Trigger if CLASS_OF[t] is kind) for kind in FreezeClass}
    assert by_class == {
        FreezeClass.NETWORK: ["breaker_open", "feed_lost", "reject_storm", "venue_lost"],
        FreezeClass.EDGE: ["edge_collapse"],
        FreezeClass.POSITION: ["drawdown", "limit_violation", "loss"],
        FreezeClass.MANUAL: ["manual", "peer", "stopping"],
        FreezeClass.INTERNAL: ["clock_jump", "invariant", "journal"],
    }


# --- the boundary -----------------------------------------------------------------------------------------------------


@each
def test_the_brink_is_silent_and_one_unit_further_freezes_in_that_step(case: Case) -> None:
    s = begun(case)
    case.brink(s)
    assert (frozen_scopes(s), history(s)) == ([], ())
    case.beyond(s)
    assert frozen_scopes(s) == [case.scope]
    changed = s.one(ModeChanged)
    assert (changed.scope, changed.mode, changed.trigger, changed.by) == (case.scope, Mode.FREEZING, case.trigger, "haltcore")
    assert [m.label for m in s.got(Metric) if m.name == "freeze_triggered_total"] == [case.trigger.value]
    assert "frozen" in [a.code for a in s.got(Alert)]


@each
def test_the_record_has_the_figures(case: Case) -> None:
    s = begun(case)
    case.brink(s)
    case.beyond(s)
    (record,) = history(s)
    assert (record.trigger, record.scope, record.by) == (case.trigger, case.scope, "haltcore")
    assert (record.record, record.at_ns) == (s.core.seq, s.core.now_ns)
    figures = dict(record.metadata)
    assert (figures.get("value", ""), figures.get("threshold", "")) == (case.value, case.threshold)
    assert record.reason == s.one(ModeChanged).reason
    assert record.reason


@each
def test_unless_it_is_configured_it_does_nothing_and_keeps_nothing(case: Case) -> None:
    s = begun(case, configured=False)
    before = s.core
    if case.trigger in NO_TIMER:
        assert not [t for t in s.all(SetTimer) if t.purpose is Purpose.FEED]
        return
    case.brink(s)
    case.beyond(s)
    assert frozen_scopes(s) == (["venue"] if case.trigger in ALWAYS else [])
    assert before.desk is not None
    assert s.core.desk is not None
    assert s.core.flow == before.flow
    if case.trigger not in ALWAYS:
        assert (s.core.desk.clock_ns, s.core.desk.breakers, s.core.desk.repeats) == (None, before.desk.breakers, before.desk.repeats)


@each
def test_the_same_again_says_nothing_new_while_frozen(case: Case) -> None:
    s = begun(case)
    case.brink(s)
    case.beyond(s)
    desk = s.core.desk
    assert desk is not None
    if case.trigger is Trigger.VENUE_LOST:
        s.feed(VenueLink(s.now, True, "back"))
        case.brink(s)
    elif case.trigger is Trigger.FEED_LOST:
        s.mark(100)
        s.now += 499 * MS
    elif case.trigger is Trigger.LIMIT_VIOLATION:
        overfilled(20)(s)
    elif case.trigger is Trigger.REJECT_STORM:
        refused(5)(s)
    if case.trigger is not Trigger.LIMIT_VIOLATION:
        case.beyond(s)
    assert len(history(s)) == 1
    assert s.core.desk is not None
    assert s.core.desk.epoch == desk.epoch
    assert "frozen" not in s.codes()


@each
@pytest.mark.parametrize("proven", [False, True])
def test_a_scope_frozen_by_something_else_records_it_once_and_changes_nothing_else(case: Case, proven: bool) -> None:
    s = begun(case)
    case.brink(s)
    s.freeze(case.scope, reason="first")
    if proven and case.trigger is not Trigger.REJECT_STORM:
        s.prove_empty()
    control = s.core.desk.controls if s.core.desk is not None else None
    case.beyond(s)
    assert [record.trigger for record in history(s)] == [Trigger.MANUAL, case.trigger]
    assert not s.got(ModeChanged)
    assert s.core.desk is not None
    assert s.core.desk.controls == control


def test_in_the_next_freeze_of_the_scope_it_is_recorded_again() -> None:
    case = CASES["edge, account"]
    s = begun(case)
    case.beyond(s)
    s.prove_empty()
    s.unfreeze()
    s.freeze()
    case.beyond(s)
    case.beyond(s)
    assert [record.trigger for record in history(s)] == [EDGE, T.MANUAL, EDGE]


@each
def test_after_the_freeze_nothing_is_placed_in_the_scope(case: Case) -> None:
    s = begun(case)
    case.brink(s)
    case.beyond(s)
    if case.trigger is Trigger.VENUE_LOST:
        s.feed(VenueLink(s.now, True, "back"))
    s.mark(100)
    s.ask(strategy=MM)
    assert s.one(Denied).code in ("sweeping", "frozen", "feed_lost")
    s.ask(amount=1, symbol=ETH, strategy=ARB)
    assert bool(s.got(Place)) == (case.scope not in ("", "venue")), "others trade on"


def test_a_submit_whose_own_time_has_gone_back_is_not_placed() -> None:
    s = Session(config(**triggers(clock_jump_ms=40)))
    s.feed(SubmitOrder(s.now - 41 * MS, BTC, BUY, qty(1), price(100)))
    assert not s.got(Place)
    assert s.one(Denied).code == "sweeping"
    assert s.mode() is Mode.FREEZING


@pytest.mark.parametrize("code", ["overloaded", "stopped", "stopping", "superseded", "not_started", "freeze_over"])
def test_a_venue_s_refusal_counts_whatever_it_is_called(code: str) -> None:
    s = InFlight(config(**triggers(reject_storm=Rate(1, 1_000))))
    for _ in range(2):
        s.submit()
        s.feed(outcome(s.one(Place), s.now, REFUSED, code))
    assert [record.trigger for record in history(s)] == [Trigger.REJECT_STORM]


@pytest.mark.parametrize("code", HELD_BACK)
def test_what_never_left_was_not_refused_by_the_venue(code: str) -> None:
    s = InFlight(config(**triggers(reject_storm=Rate(1, 1_000))))
    for _ in range(5):
        s.submit()
        s.feed(outcome(s.one(Place), s.now, REFUSED, code))
    assert history(s) == ()
    s.submit()
    s.feed(outcome(s.one(Place), s.now, REFUSED, "margin"))
    assert history(s) == ()
    s.submit()
    s.feed(outcome(s.one(Place), s.now, REFUSED, ""))
    assert [record.trigger for record in history(s)] == [Trigger.REJECT_STORM]
