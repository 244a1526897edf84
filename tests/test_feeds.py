"""Data that stays away freezes its scope; data that comes, of whatever kind, keeps it alive.

Method: time passes with and without data; each kind of data is tried for each scope; timers fire early, late, and when nobody waits for
them any more; limits are changed while feeds are watched.
"""

from collections.abc import Callable
from typing import Any

import pytest
from haltcore.effects import Mode, Purpose, SetTimer, Trigger, bps
from haltcore.fsm.core import Feed
from haltcore.fsm.events import ChangeLimits, EdgeUpdate, Heartbeat, OverrideLimits, TimerFired
from haltcore.fsm.limits import LimitRule, Limits

from tests.helpers import BTC, ETH, MS, T0, Session, config

ACCOUNT = Limits(feed_lost_ms=500)
SYMBOL = LimitRule(Limits(feed_lost_ms=300), BTC)


def watched(limits: Limits = ACCOUNT, *rules: LimitRule, **fields: Any) -> Session:
    return Session(config(limits=limits, rules=rules, **fields))


def armed(s: Session) -> list[SetTimer]:
    return [t for t in s.all(SetTimer) if t.purpose is Purpose.FEED]


def feed(s: Session, scope: int = 0) -> Feed:
    return s.core.flow.feeds[scope]


DATA: dict[str, Callable[[Session, str], object]] = {
    "heartbeat": lambda s, symbol: s.feed(Heartbeat(s.now, symbol)),
    "mark": lambda s, symbol: s.mark(100, symbol),
    "edge": lambda s, symbol: s.feed(EdgeUpdate(s.now, symbol, bps(1))),
}


def test_the_start_arms_every_feed_that_a_limit_names() -> None:
    s = watched(ACCOUNT, SYMBOL)
    assert [(t.due_ns - T0, t.key) for t in armed(s)] == [(500 * MS, 0), (300 * MS, 2)]
    assert len(watched(Limits()).core.flow.feeds) == 0


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(("symbol", "keeps"), [(BTC, (0, 1)), (ETH, (0,))])
def test_data_of_a_symbol_keeps_the_account_s_feed_and_its_own_alive(kind: str, symbol: str, keeps: tuple[int, ...]) -> None:
    s = watched(ACCOUNT, SYMBOL)
    s.wait(100)
    DATA[kind](s, symbol)
    assert {scope for scope in (0, 1) if feed(s, scope).last_ns == s.now} == set(keeps)
    assert not s.got(SetTimer), "the timer that runs is enough"


@pytest.mark.parametrize("kind", ["heartbeat", "edge"])
def test_data_of_no_symbol_keeps_the_account_s_alive(kind: str) -> None:
    s = watched(ACCOUNT, SYMBOL)
    s.wait(100)
    DATA[kind](s, "")
    assert (feed(s, 0).last_ns, feed(s, 1).last_ns) == (s.now, T0)


@pytest.mark.parametrize("kind", ["heartbeat", "edge"])
def test_data_of_a_symbol_that_is_not_configured_is_refused_and_counts_for_nothing(kind: str) -> None:
    s = watched()
    s.wait(100)
    DATA[kind](s, "XRPUSDT")
    assert (s.codes(), feed(s).last_ns) == (["unknown_symbol"], T0)


def test_a_mark_that_cannot_be_is_no_data() -> None:
    s = watched()
    s.wait(100)
    s.mark(-1)
    assert feed(s).last_ns == T0


def test_a_timer_that_fires_while_data_came_goes_on_for_the_rest() -> None:
    s = watched()
    s.wait(400)
    s.feed(Heartbeat(s.now, BTC))
    s.fire(armed(s)[-1])
    (again,) = s.got(SetTimer)
    assert again.due_ns == T0 + 900 * MS
    s.fire(again)
    assert s.mode() is Mode.FREEZING
    assert s.core.desk is not None
    assert s.core.desk.freezes[-1].trigger is Trigger.FEED_LOST


def test_after_the_freeze_there_is_no_timer_until_data_comes() -> None:
    s = watched()
    s.fire(armed(s)[-1])
    assert feed(s).timer is None
    s.prove_empty()
    s.wait(10_000)
    assert feed(s).timer is None
    s.feed(Heartbeat(s.now, ETH))
    (again,) = s.got(SetTimer)
    assert again.due_ns == s.now + 500 * MS
    s.unfreeze()
    assert not s.got(SetTimer), "the timer that runs is enough"
    s.fire(again)
    assert s.mode() is Mode.FREEZING


@pytest.mark.parametrize("scope", [0, 1])
def test_who_lifts_the_freeze_while_the_feed_is_silent_gets_the_limit_s_time_once_more(scope: int) -> None:
    s = watched(ACCOUNT) if scope == 0 else watched(Limits(), SYMBOL)
    name, limit = ("", 500) if scope == 0 else (BTC, 300)
    s.fire(armed(s)[-1])
    s.prove_empty()
    s.wait(10_000)
    for _ in range(3):
        s.unfreeze(name)
        (again,) = [t for t in s.got(SetTimer) if t.purpose is Purpose.FEED]
        assert again.due_ns == s.now + limit * MS
        s.fire(again)
        assert (s.mode(name), feed(s, scope).timer) == (Mode.FREEZING, None)
        s.prove_empty()


def test_a_limit_that_is_raised_while_the_feed_is_silent_is_waited_for() -> None:
    s = watched()
    s.fire(armed(s)[-1])
    s.prove_empty()
    change(s, LimitRule(Limits(feed_lost_ms=60_000)))
    raised = armed(s)[-1]
    assert (raised.due_ns, feed(s).timer) == (T0 + 60_000 * MS, raised.id)
    s.unfreeze()
    s.fire(raised)
    assert s.mode() is Mode.FREEZING


def test_a_timer_that_nobody_waits_for_changes_nothing() -> None:
    s = watched()
    old = armed(s)[-1]
    s.fire(old)
    before = s.core.flow
    for key in (0, 1, 2, -1, 10**9):
        s.feed(TimerFired(s.now, old.id, Purpose.FEED, key))
        assert s.effects == ()
    assert s.core.flow == before


def test_late_data_counts_as_of_when_it_came() -> None:
    s = watched()
    s.wait(400)
    s.feed(Heartbeat(s.now, ""))
    s.feed(Heartbeat(T0 - 5, ""))
    assert feed(s).last_ns == s.now


# --- changes of limits ----------------------------------------------------------------------------------------------------


def change(s: Session, rule: LimitRule) -> None:
    s.feed(ChangeLimits(s.now, rule, "ops", "calm market"))


def test_a_limit_that_is_set_at_run_time_is_watched_from_then_on() -> None:
    s = watched(Limits())
    s.wait(10_000)
    change(s, LimitRule(ACCOUNT))
    assert armed(s)[-1].due_ns == s.now + 500 * MS
    s.fire(armed(s)[-1])
    assert s.mode() is Mode.FREEZING


@pytest.mark.parametrize(("limit", "due"), [(100, 400), (450, 450), (9_000, 9_000)])
def test_a_limit_that_is_changed_counts_from_the_last_data(limit: int, due: int) -> None:
    s = watched()
    old = armed(s)[-1]
    s.wait(400)
    change(s, LimitRule(Limits(feed_lost_ms=limit)))
    assert armed(s)[-1].due_ns == T0 + due * MS
    s.fire(old)
    assert (s.effects, s.mode()) == ((), Mode.ACTIVE)
    s.fire(armed(s)[-1])
    assert s.mode() is Mode.FREEZING


def test_a_limit_that_is_taken_away_is_watched_no_more() -> None:
    s = watched(ACCOUNT, SYMBOL)
    timers = armed(s)
    change(s, LimitRule(Limits(), BTC))
    assert sorted(s.core.flow.feeds) == [0]
    s.fire(timers[1])
    assert s.mode(BTC) is Mode.ACTIVE


def test_a_change_of_limits_does_not_report_a_silence_twice() -> None:
    s = watched()
    s.fire(armed(s)[-1])
    s.prove_empty()
    change(s, LimitRule(Limits(feed_lost_ms=400)))
    assert armed(s)[-1].due_ns == s.now
    s.fire(armed(s)[-1])
    assert s.core.desk is not None
    assert (len(s.core.desk.freezes), feed(s).timer) == (1, None)


def test_an_override_holds_until_it_ends() -> None:
    s = watched(ACCOUNT, SYMBOL)
    s.feed(OverrideLimits(s.now, "", "", Limits(feed_lost_ms=60_000), 1_000, "ops", "maintenance"))
    assert sorted(s.core.flow.feeds) == [0, 1], "a symbol's own figure is none of the account's override"
    expiry = next(t for t in s.all(SetTimer) if t.purpose is Purpose.OVERRIDE)
    s.wait(400)
    s.feed(Heartbeat(s.now, ETH))
    s.fire(expiry)
    assert sorted(s.core.flow.feeds) == [0, 1]
    assert [t.due_ns for t in armed(s)[-2:]] == [s.now, s.now]
    s.fire(armed(s)[-2])
    assert (s.mode(), s.mode(BTC)) == (Mode.FREEZING, Mode.ACTIVE)


# --- restart --------------------------------------------------------------------------------------------------------------


def test_a_new_process_has_feeds_of_its_own() -> None:
    s = watched(ACCOUNT, SYMBOL)
    old = armed(s)
    s.fire(old[1])
    s.wait(10_000)
    s.restart()
    assert [(t.due_ns - s.now, t.key) for t in s.got(SetTimer) if t.purpose is Purpose.FEED] == [(500 * MS, 0), (300 * MS, 2)]
    assert {feed(s, scope).last_ns for scope in (0, 1)} == {s.now}
    s.fire(old[0])
    assert s.mode() is Mode.ACTIVE
