"""The result of the day is what was won since it began, in every scope, and what was lost since its best moment.

Method: days are rolled at their exact boundary, by any kind of event; results move by marks, fees, fills and busts; base and peak are
compared with what is worked out by hand.
"""

import pytest
from haltcore.effects import Mode, Purpose, Side, Usd, qty, usd
from haltcore.fsm.core import ACCOUNT, Day, strategy_scope
from haltcore.fsm.events import ClockReading, OverrideLimits, PositionRow, TradeBusted
from haltcore.fsm.limits import LimitRule, Limits
from haltcore.fsm.result import day_end, drawdown_of, gain_of, loss_of
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import BTC, BUY, ETH, SELL, T0, Session, config

MINUTE = 60 * 10**9
DAY = 1_440 * MINUTE
UNIT = 10**24
MM, ARB = strategy_scope(1), strategy_scope(2)


def day(s: Session, scope: int) -> tuple[int, int]:
    """Base and peak in whole units."""
    found = s.core.flow.days.get(scope)
    return (found.base // UNIT, found.peak // UNIT) if found is not None else (0, 0)


def traded(s: Session, side: Side = BUY, amount: int = 10, symbol: str = BTC, strategy: str = "mm", fee: int = 0) -> int:
    """An order at 100, filled at once."""
    key = s.working(side, amount, symbol=symbol, strategy=strategy)
    s.fill(key, amount, fee=fee)
    return key


def two(**fields: object) -> Session:
    return Session(config(**{"strategies": ("mm", "arb"), **fields}))


# --- the day ------------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**19), 10**19), st.integers(0, 1_439))
def test_a_day_ends_at_its_minute_within_24_hours(now_ns: int, roll: int) -> None:
    end = day_end(now_ns, roll)
    assert now_ns < end <= now_ns + DAY
    assert end % DAY == roll * MINUTE


@pytest.mark.parametrize("roll", [0, 1, 780, 1_439])
def test_it_rolls_at_the_first_event_at_or_after_its_end_and_not_before(roll: int) -> None:
    s = two(day_roll_minute=roll)
    end = day_end(T0, roll)
    assert s.core.flow.day_ends_ns == end
    traded(s)
    s.mark(90)
    s.now = end - 1
    s.feed(ClockReading(s.now, 0))
    assert (day(s, ACCOUNT), loss_of(s.core, ACCOUNT) // UNIT) == ((0, 0), 100)
    s.now = end
    s.feed(ClockReading(s.now, 0))
    for scope in (ACCOUNT, 1, MM):
        assert (day(s, scope), loss_of(s.core, scope), drawdown_of(s.core, scope)) == ((-100, -100), 0, 0)
    assert s.core.flow.days.get(ARB) is None
    assert s.core.flow.day_ends_ns == end + DAY


def test_the_event_that_begins_the_day_counts_in_it() -> None:
    s = two(limits=Limits(max_daily_loss=usd(150)))
    traded(s)
    s.mark(90)
    s.now = s.core.flow.day_ends_ns
    s.mark(80)
    assert (day(s, ACCOUNT), loss_of(s.core, ACCOUNT) // UNIT) == ((-100, -100), 100)
    assert s.core.desk is not None
    assert s.core.desk.freezes == ()


def test_days_without_events_are_passed_over() -> None:
    s = two()
    s.now += 10 * DAY + 7
    s.mark(1)
    assert s.now < s.core.flow.day_ends_ns <= s.now + DAY


def test_a_late_event_does_not_bring_a_day_back() -> None:
    s = two()
    traded(s)
    s.now = s.core.flow.day_ends_ns
    s.mark(90)
    end = s.core.flow.day_ends_ns
    s.now -= 2 * DAY
    s.mark(80)
    assert (s.core.flow.day_ends_ns, day(s, ACCOUNT)) == (end, (0, 0))


# --- the result -----------------------------------------------------------------------------------------------------------


def test_each_scope_has_a_result_of_its_own() -> None:
    s = two()
    traded(s)
    traded(s, SELL, 4, strategy="arb")
    traded(s, BUY, 2, ETH, "arb")
    s.mark(90)
    s.mark(105, ETH)
    gains = {scope: gain_of(s.core, scope) // UNIT for scope in (ACCOUNT, -1, 1, 2, MM, ARB)}
    assert gains == {ACCOUNT: -50, -1: -50, 1: -60, 2: 10, MM: -100, ARB: 50}


def test_fees_are_lost() -> None:
    s = two()
    traded(s, fee=usd(3))
    assert {loss_of(s.core, scope) // UNIT for scope in (ACCOUNT, 1, MM)} == {3}
    assert loss_of(s.core, ARB) == 0


def test_a_busted_trade_takes_its_result_with_it() -> None:
    s = two()
    key = s.working(strategy="mm")
    s.fill(key, 10, trade="t")
    s.mark(90)
    s.feed(TradeBusted(s.now, s.client_id(key), "t"))
    assert [loss_of(s.core, scope) for scope in (ACCOUNT, 1, MM)] == [0, 0, 0]


def test_the_peak_is_followed_where_a_limit_asks_for_it_and_from_then_on() -> None:
    s = two(rules=(LimitRule(Limits(max_drawdown=usd(1_000)), strategy="mm"),))
    traded(s)
    for at, peak in ((110, 100), (105, 100), (130, 300), (90, 300)):
        s.mark(at)
        assert day(s, MM) == (0, peak)
        assert [s.core.flow.days.get(scope) for scope in (ACCOUNT, 1, ARB)] == [None] * 3
    assert drawdown_of(s.core, MM) // UNIT == 400
    assert drawdown_of(s.core, ACCOUNT) // UNIT == 100, "from the base, since nobody has followed it"


@pytest.mark.parametrize(("symbol", "strategy"), [("", ""), (BTC, ""), ("", "arb"), ("", "mm")])
def test_the_peak_is_followed_whatever_overrides_say(symbol: str, strategy: str) -> None:
    s = two(rules=(LimitRule(Limits(max_drawdown=usd(50)), strategy="mm"),))
    traded(s)
    s.feed(OverrideLimits(s.now, symbol, strategy, Limits(max_drawdown=usd(900)), 1_000, "ops", "a test"))
    s.mark(120)
    assert day(s, MM) == (0, 200)
    s.fire(purpose=Purpose.OVERRIDE)
    s.mark(114)
    assert s.mode("strategy:mm") is Mode.FREEZING


def test_where_nobody_follows_the_peak_a_gain_is_no_drawdown() -> None:
    s = two()
    traded(s)
    s.mark(130)
    assert (drawdown_of(s.core, ACCOUNT), loss_of(s.core, ACCOUNT)) == (0, -300 * UNIT)


def test_a_new_day_s_peak_begins_at_its_base() -> None:
    s = two(limits=Limits(max_drawdown=usd(1_000)))
    traded(s)
    s.mark(130)
    s.mark(110)
    s.now = s.core.flow.day_ends_ns
    s.feed(ClockReading(s.now, 0))
    assert s.core.flow.days[ACCOUNT] == Day(*[gain_of(s.core, ACCOUNT)] * 2)
    s.mark(108)
    assert drawdown_of(s.core, ACCOUNT) // UNIT == 20


def test_the_day_goes_on_over_a_restart_and_ends_as_the_new_configuration_says() -> None:
    s = two(limits=Limits(max_drawdown=usd(1_000)))
    traded(s)
    s.mark(130)
    s.now = s.core.flow.day_ends_ns
    s.mark(120)
    before = s.core.flow
    s.restart(config(strategies=("mm", "arb"), limits=Limits(max_drawdown=usd(1_000)), day_roll_minute=1))
    assert s.core.flow.days == before.days
    assert s.core.flow.day_ends_ns == s.now + MINUTE


def test_a_position_from_before_is_neither_won_nor_lost() -> None:
    s = Session(config(), ready=False)
    s.answer_stock(positions=(PositionRow(BTC, qty(-5), None),))
    s.mark(100)
    assert gain_of(s.core, ACCOUNT) == 0
    s.mark(101)
    assert loss_of(s.core, ACCOUNT) == 5 * UNIT


@given(st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 5), st.integers(50, 150), st.booleans()), max_size=12))
def test_base_peak_and_gain_are_those_of_the_whole_history(moves: list[tuple[Side, int, int, bool]]) -> None:
    s = Session(config(limits=Limits(max_drawdown=Usd(10**24))), thorough=False)
    position = cash = base = peak = 0
    mark = 100
    s.mark(100)
    for side, amount, at, new_day in moves:
        if new_day:
            s.now = s.core.flow.day_ends_ns
            base = peak = cash + position * mark
        key = s.working(side, amount)
        s.fill(key, amount, at)
        sign = 1 if side is BUY else -1
        position, cash = position + sign * amount, cash - sign * amount * at
        peak = max(peak, cash + position * mark)
        mark = at
        s.mark(at)
        peak = max(peak, cash + position * mark)
        gain = cash + position * mark
        assert gain_of(s.core, ACCOUNT) == gain * UNIT
        assert loss_of(s.core, ACCOUNT) == (base - gain) * UNIT
        assert drawdown_of(s.core, ACCOUNT) == (peak - gain) * UNIT
