"""What the core watches by itself, beyond what all triggers have in common (``test_triggers.py``): what counts, what does not, whose
figure it is.

Method: for limits by reality, everything that can grow a worst case is tried, by reports and by decisions; for results, figures that
change while they are beyond; for the throttle, the bucket's edge and its life until a person re-enables it; for storms and breakers,
what is counted once.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.effects import Alert, CancelAll, Denied, Mode, ModeChanged, Place, QueryOrder, Severity, bps, price, qty, usd
from haltcore.fsm import watch
from haltcore.fsm.config import Triggers
from haltcore.fsm.core import FreezeRecord
from haltcore.fsm.events import (
    BreakerChanged,
    ChangeLimits,
    ClockReading,
    EdgeUpdate,
    OrderReplaced,
    OverrideLimits,
    PositionRow,
    Reenable,
    ReportStatus,
    TradeBusted,
    TradeCorrected,
    VolatilityBand,
)
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.turn import Turn

from tests.helpers import BTC, BUY, ETH, IN_DOUBT, MS, REFUSED, SELL, UNAVAILABLE, Session, config, row

MM, ARB = "mm", "arb"
INVENTORY = Limits(max_inventory_usd=usd(1_500))


def two(limits: Limits | None = None, *rules: LimitRule, **fields: Any) -> Session:
    return Session(config(strategies=(MM, ARB), limits=limits or Limits(), rules=rules, **fields))


def freezes(s: Session) -> list[tuple[str, str]]:
    assert s.core.desk is not None
    return [(record.trigger.value, record.scope) for record in s.core.desk.freezes]


def last(s: Session) -> FreezeRecord:
    assert s.core.desk is not None
    return s.core.desk.freezes[-1]


def bought(s: Session, amount: int = 10, strategy: str = MM, **fields: Any) -> int:
    key = s.working(amount=amount, strategy=strategy, **fields)
    s.fill(key, amount)
    return key


# --- limits that reality breaks -----------------------------------------------------------------------------------------


def late_fill(s: Session) -> None:
    key = s.working(strategy=MM)
    s.cancelled(key)
    s.fill(key, 10)
    assert freezes(s) == [], "10 at 100 is within"
    other = s.working(amount=5, strategy=MM)
    s.cancelled(other)
    s.fill(other, 6)


def overfill(s: Session) -> None:
    s.fill(s.working(strategy=MM), 16)


def grown_at_the_venue(s: Session) -> None:
    key = s.working(strategy=MM)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(16), price(100)))


def corrected(s: Session) -> None:
    key = s.working(strategy=MM)
    s.fill(key, 10, trade="t")
    s.feed(TradeCorrected(s.now, s.client_id(key), "t", qty(16), price(100)))


def found(s: Session) -> None:
    key = s.unknown_of(MM)  # type: ignore[attr-defined]
    s.found(s.one(QueryOrder), ReportStatus.FILLED, cum_qty=qty(16))
    assert s.order(key).cum_qty == qty(16)


def listed(s: Session) -> None:
    key = s.working(strategy=MM)
    s.restart()
    s.answer_stock(attrs.evolve(row(s.order(key)), cum_qty=qty(16)))


def cancelled_with_a_total(s: Session) -> None:
    s.cancelled(s.working(strategy=MM), cum=16)


def busted_reduction(s: Session) -> None:
    """A sell that had made room is void, and what was bought in that room is too much."""
    bought(s)
    key = s.working(SELL, strategy=MM)
    s.fill(key, 10, trade="t")
    bought(s)
    s.feed(TradeBusted(s.now, s.client_id(key), "t"))


class Doubtful(Session):
    """A session whose orders can be in doubt and belong to a strategy."""

    def unknown_of(self, strategy: str) -> int:
        """An order of the strategy in doubt."""
        key = self.submit(strategy=strategy)
        self.outcome(self.one(Place), IN_DOUBT)
        return key


REALITY = [late_fill, overfill, grown_at_the_venue, corrected, found, listed, cancelled_with_a_total, busted_reduction]


@pytest.mark.parametrize("grow", REALITY)
def test_whatever_report_takes_a_worst_case_beyond_its_limit_freezes_the_symbol(grow: Callable[[Session], None]) -> None:
    s = Doubtful(config(strategies=(MM, ARB), limits=INVENTORY))
    s.mark(100)
    grow(s)
    assert freezes(s)[0] == ("limit_violation", BTC)
    figures = dict(last(s).metadata)
    value = "2000" if grow is busted_reduction else "1600"
    assert (figures["value"], figures["threshold"], figures["limit"], figures["symbol"]) == (value, "1500", "account", BTC)
    assert s.mode(ETH) is Mode.ACTIVE


def test_a_decision_a_mark_and_a_position_from_before_freeze_nothing() -> None:
    s = Session(config(limits=INVENTORY), ready=False)
    s.answer_stock(positions=(PositionRow(BTC, qty(20), price(100)),))
    s.mark(1_000)
    s.ask(SELL, 40)
    s.ask(BUY, 1)
    assert s.one(Denied).code == "max_inventory_usd"
    assert freezes(s) == []


def test_an_order_that_fills_as_it_was_counted_freezes_nothing_however_full_the_limit() -> None:
    s = two(Limits(max_inventory_usd=usd(1_000), max_total_notional=usd(1_000)))
    s.mark(100)
    for side in (BUY, SELL, SELL, BUY):
        key = s.working(side, strategy=MM)
        s.fill(key, 4)
        s.fill(key, 6)
    assert freezes(s) == []


def test_beyond_the_limit_already_a_report_that_shrinks_it_says_nothing() -> None:
    s = two(INVENTORY)
    s.mark(100)
    key = s.working(amount=14, strategy=MM)
    s.mark(200)
    s.cancelled(key, cum=13)
    assert freezes(s) == []


def test_a_list_that_makes_one_order_worse_and_the_sum_better_says_nothing() -> None:
    s = two(INVENTORY)
    s.mark(100)
    buy, sell = s.working(amount=14, strategy=MM), s.working(SELL, 4, strategy=MM)
    s.mark(200)
    s.restart()
    s.answer_stock(attrs.evolve(row(s.order(buy)), cum_qty=qty(16)), attrs.evolve(row(s.order(sell)), cum_qty=qty(4)))
    assert s.position() == qty(12)
    assert freezes(s) == []


def test_an_order_that_an_override_allows_is_no_violation_of_the_rules_for_others() -> None:
    s = two(INVENTORY)
    s.mark(100)
    s.feed(OverrideLimits(s.now, BTC, "", Limits(max_inventory_usd=usd(3_000)), 60_000, "ops", "one hedge"))
    key = s.working(amount=20, strategy=MM)
    s.fill(key, 20)
    assert freezes(s) == []


def test_each_figure_looks_at_its_own_exposure() -> None:
    s = two(Limits(max_total_notional=usd(3_000)), LimitRule(Limits(max_inventory_usd=usd(1_500)), strategy=MM))
    s.mark(100)
    s.mark(100, ETH)
    s.fill(s.working(strategy=ARB), 20)
    assert freezes(s) == [], "the other strategy's"
    s.fill(s.working(amount=5, strategy=MM), 16)
    assert freezes(s) == [("limit_violation", ""), ("limit_violation", "strategy:mm")]
    s.ask(strategy=ARB)
    assert s.one(Denied).code == "sweeping"


@pytest.mark.parametrize(("band", "frozen"), [("", []), ("high", [("limit_violation", BTC)])])
def test_a_figure_of_a_band_counts_while_the_market_is_in_it(band: str, frozen: list[tuple[str, str]]) -> None:
    s = two(None, LimitRule(INVENTORY, band="high"))
    s.mark(100)
    key = s.working(strategy=MM)
    s.feed(VolatilityBand(s.now, BTC, band))
    s.fill(key, 16)
    assert freezes(s) == frozen


@pytest.mark.parametrize(("minute", "frozen"), [(0, 0), (1, 1), (2, 0)])
def test_a_figure_of_a_window_counts_within_it(minute: int, frozen: int) -> None:
    s = two(None, LimitRule(INVENTORY, from_minute=1, to_minute=2))
    s.now = s.core.flow.day_ends_ns + minute * 60 * 10**9
    s.fill(s.working(strategy=MM), 16)
    assert len(freezes(s)) == frozen


def test_an_override_allows_more_while_it_holds() -> None:
    s = two(INVENTORY)
    s.mark(100)
    s.feed(OverrideLimits(s.now, BTC, "", Limits(max_inventory_usd=usd(1_700)), 1_000, "ops", "one hedge"))
    key = s.working(strategy=MM)
    s.fill(key, 16)
    assert freezes(s) == []
    s.wait(1_000)
    s.fill(key, 1)
    assert freezes(s) == [("limit_violation", BTC)]


def test_a_position_without_a_price_has_no_bound() -> None:
    s = Session(config(limits=Limits(max_total_notional=usd(10**9))), ready=False)
    s.answer_stock(positions=(PositionRow(ETH, qty(1), None),))
    s.mark(100)
    s.feed(ChangeLimits(s.now, LimitRule(Limits()), "ops", "to place one"))
    key = s.working()
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_total_notional=usd(10**9))), "ops", "again"))
    s.fill(key, 11)
    assert freezes(s) == [("limit_violation", "")]
    assert "without bound" in last(s).reason


# --- results ----------------------------------------------------------------------------------------------------------------


def losing(s: Session, by: int) -> None:
    """Lose so many dollars in BTC."""
    bought(s)
    s.mark(100 - by // 10)


def test_account_symbol_and_strategy_freeze_together_in_one_sweep() -> None:
    lose = Limits(max_daily_loss=usd(50))
    s = two(lose, LimitRule(lose, BTC), LimitRule(lose, strategy=MM))
    s.working(symbol=ETH, strategy=ARB)
    losing(s, 60)
    assert freezes(s) == [("loss", ""), ("loss", BTC), ("loss", "strategy:mm")]
    assert [change.scope for change in s.got(ModeChanged)] == ["", BTC, "strategy:mm"]
    assert [(e.symbol, e.conditional) for e in s.got(CancelAll)] == [(ETH, False), (ETH, True)], "once"
    s.prove_empty()
    assert {s.mode(scope) for scope in ("", BTC, "strategy:mm")} == {Mode.FROZEN}


def test_loss_and_drawdown_are_two_triggers() -> None:
    s = two(Limits(max_daily_loss=usd(50), max_drawdown=usd(50)))
    losing(s, 60)
    assert freezes(s) == [("loss", ""), ("drawdown", "")]


def test_a_strategy_that_lost_is_frozen_while_another_trades_on() -> None:
    s = two(None, LimitRule(Limits(max_daily_loss=usd(50)), strategy=MM))
    losing(s, 60)
    s.ask(strategy=MM)
    assert s.one(Denied).code == "sweeping"
    assert s.submit(strategy=ARB)


def test_a_limit_that_is_lowered_below_what_is_lost_freezes_at_once() -> None:
    s = two(Limits(max_daily_loss=usd(500)))
    losing(s, 60)
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_daily_loss=usd(60))), "ops", "calm"))
    assert freezes(s) == []
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_daily_loss=usd(59))), "ops", "calm"))
    assert freezes(s) == [("loss", "")]


def test_after_an_unfreeze_the_loss_freezes_again_unless_a_person_has_allowed_more() -> None:
    s = two(Limits(max_daily_loss=usd(50)))
    losing(s, 60)
    s.prove_empty()
    s.unfreeze()
    s.mark(95)
    assert s.mode() is Mode.ACTIVE, "50 is allowed"
    s.mark(94)
    assert s.mode() is Mode.FREEZING
    s.prove_empty()
    s.feed(OverrideLimits(s.now, "", "", Limits(max_daily_loss=usd(100)), 60_000, "ops", "to work it off"))
    s.unfreeze()
    s.mark(91)
    assert s.mode() is Mode.ACTIVE
    s.now += 60_000 * MS
    s.mark(90)
    assert s.mode() is Mode.FREEZING, "the override is over"


def test_a_position_that_two_strategies_hold_against_each_other_is_a_loss_of_one() -> None:
    """The account's result does not move; the strategy's does."""
    s = two(None, LimitRule(Limits(max_daily_loss=usd(50)), strategy=MM))
    bought(s)
    s.fill(s.working(SELL, strategy=ARB), 10)
    s.mark(94)
    assert s.core.account.gain == 0
    assert freezes(s) == [("loss", "strategy:mm")]


def test_a_new_configuration_with_a_tighter_limit_freezes_at_the_restart() -> None:
    s = two(Limits(max_daily_loss=usd(500)))
    losing(s, 60)
    s.restart(config(strategies=(MM, ARB), limits=Limits(max_daily_loss=usd(50))))
    assert freezes(s) == [("loss", "")]
    assert s.mode() is Mode.FREEZING


# --- edges ------------------------------------------------------------------------------------------------------------------


def test_an_edge_below_both_thresholds_freezes_the_account_and_the_symbol() -> None:
    s = two(Limits(edge_freeze_threshold_bps=bps(200)), LimitRule(Limits(edge_freeze_threshold_bps=bps(300)), BTC))
    s.feed(EdgeUpdate(s.now, BTC, bps(250)))
    assert freezes(s) == [("edge_collapse", BTC)]
    s.feed(EdgeUpdate(s.now, BTC, bps(100)))
    assert freezes(s) == [("edge_collapse", BTC), ("edge_collapse", "")]
    s.feed(EdgeUpdate(s.now, ETH, bps(100)))
    assert len(freezes(s)) == 2


def test_an_edge_of_an_unknown_symbol_is_refused() -> None:
    s = two(Limits(edge_freeze_threshold_bps=bps(200)))
    s.feed(EdgeUpdate(s.now, "XRPUSDT", bps(1)))
    assert (s.codes(), freezes(s)) == (["unknown_symbol"], [])


# --- storms, breakers, clocks ----------------------------------------------------------------------------------------------


def stormy(count: int = 2, per_ms: int = 1_000) -> Session:
    return Session(config(triggers=Triggers(reject_storm=Rate(count, per_ms))))


def test_a_refusal_is_counted_once_however_often_it_is_told() -> None:
    s = stormy()
    for _ in range(2):
        key = s.submit()
        place = s.one(Place)
        s.outcome(place, REFUSED, "margin")
        s.outcome(place, REFUSED, "margin")
        s.reject(key)
        s.reject(key)
    assert freezes(s) == []


@pytest.mark.parametrize("kind", [UNAVAILABLE, IN_DOUBT])
def test_what_was_not_refused_is_not_counted(kind: Any) -> None:
    s = stormy(1)
    for side in (BUY, SELL):
        for symbol in (BTC, ETH):
            s.submit(side, symbol=symbol)
            s.outcome(s.one(Place), kind)
    assert freezes(s) == []


def test_a_refusal_that_a_question_brings_to_light_counts_and_not_found_does_not() -> None:
    s = stormy(1)
    s.unknown()
    s.found(s.one(QueryOrder), ReportStatus.REJECTED)
    s.unknown(SELL)
    s.not_found(s.one(QueryOrder))
    s.wait(6_000)
    s.fire()
    s.not_found(s.one(QueryOrder))
    assert freezes(s) == []
    for _ in range(2):
        s.unknown()
        s.found(s.one(QueryOrder), ReportStatus.REJECTED)
    assert freezes(s) == [("reject_storm", "")]


def test_a_refused_cancel_or_replace_is_no_refused_order() -> None:
    s = stormy(1)
    keys = [s.working() for _ in range(3)]
    for key in keys:
        effects = s.replace(key, 12)
        s.outcome(effects[0], REFUSED, "margin")
        s.cancel(key)
        s.outcome(s.effects[0], REFUSED, "unknown order")
    assert freezes(s) == []


def test_refusals_far_apart_are_no_storm() -> None:
    s = stormy()
    for _ in range(10):
        s.reject(s.submit())
        s.wait(500)
    assert freezes(s) == []
    for _ in range(3):
        s.reject(s.submit())
    assert freezes(s) == [("reject_storm", "")]


def test_after_a_storm_the_count_begins_anew() -> None:
    s = stormy()
    for _ in range(3):
        s.reject(s.submit())
    s.prove_empty()
    s.unfreeze()
    for _ in range(2):
        s.reject(s.submit())
    assert s.mode() is Mode.ACTIVE
    s.reject(s.submit())
    assert s.mode() is Mode.FREEZING


def test_each_breaker_is_known_until_it_is_open_no_longer() -> None:
    s = Session(config(triggers=Triggers(breaker_open=True)))
    for job, is_open in (("a", True), ("b", True), ("a", True), ("c", False), ("a", False)):
        s.feed(BreakerChanged(s.now, job, is_open, "ill"))
    assert s.core.desk is not None
    assert dict(s.core.desk.breakers) == {"b": s.core.seq - 3}


def test_a_new_process_has_a_clock_and_breakers_of_its_own() -> None:
    s = Session(config(triggers=Triggers(breaker_open=True, clock_jump_ms=10)))
    s.feed(ClockReading(s.now, 5))
    s.feed(BreakerChanged(s.now, "a", True, "ill"))
    s.restart()
    assert s.core.desk is not None
    assert (s.core.desk.clock_ns, len(s.core.desk.breakers)) == (None, 0)
    s.feed(ClockReading(s.now, 10**15))
    assert freezes(s) == [("breaker_open", "")]


def test_a_wall_clock_may_drift_as_far_as_it_likes() -> None:
    s = Session(config(triggers=Triggers(clock_jump_ms=10)))
    for number in range(100):
        s.feed(ClockReading(s.now, number * 10 * MS))
    assert freezes(s) == []


def test_a_new_process_whose_time_went_back_freezes() -> None:
    s = Session(config(triggers=Triggers(clock_jump_ms=10)))
    s.now += 1_000 * MS
    s.mark(100)
    s.now -= 11 * MS
    s.restart()
    assert freezes(s) == [("clock_jump", "")]
    assert s.mode() is Mode.FREEZING


# --- executions -------------------------------------------------------------------------------------------------------------


def throttled(s: Session) -> list[int]:
    assert s.core.desk is not None
    return sorted(s.core.desk.throttled)


def test_the_trade_beyond_the_rate_switches_off_and_a_person_on_again() -> None:
    s = two(Limits(execution_rate=Rate(3, 60_000)))
    key = s.working(strategy=MM)
    for _ in range(3):
        s.fill(key, 1)
    assert throttled(s) == []
    s.fill(key, 1)
    assert s.core.desk is not None
    assert dict(s.core.desk.throttled) == {0: s.core.seq}
    (alert,) = s.got(Alert)
    assert (alert.code, alert.severity) == ("execution_throttled", Severity.CRITICAL)
    assert freezes(s) == [], "what works goes on working"
    for _ in range(5):
        s.fill(key, 1)
        assert not s.got(Alert)
    s.ask(strategy=ARB)
    assert s.one(Denied).code == "throttled"
    assert s.submit(SELL, 1, strategy=MM), "reducing is allowed"
    assert len([a for a in s.all(Alert) if a.code == "execution_throttled"]) == 1
    s.wait(10**7)
    s.ask(strategy=ARB)
    assert s.one(Denied).code == "throttled", "time alone switches nothing on"
    s.feed(Reenable(s.now, "", "ops", "looked at"))
    assert s.submit(strategy=ARB)
    key = s.working(strategy=MM)
    for number in range(3):
        s.fill(key, 1, trade=f"after {number}")
        assert throttled(s) == [], "it begins full"


def test_a_strategy_s_throttle_is_its_own() -> None:
    s = two(None, LimitRule(Limits(execution_rate=Rate(1, 60_000)), strategy=MM))
    other = s.working(strategy=ARB)
    for _ in range(3):
        s.fill(other, 1)
    key = s.working(strategy=MM)
    s.fill(key, 1)
    assert throttled(s) == []
    s.fill(key, 1)
    assert throttled(s) == [1]
    s.ask(strategy=MM)
    assert s.one(Denied).code == "throttled"
    assert s.submit(strategy=ARB)


def test_a_trade_is_counted_once_and_only_trades_are() -> None:
    s = two(Limits(execution_rate=Rate(2, 60_000)))
    key = s.working(strategy=MM)
    for _ in range(5):
        s.fill(key, 1, trade="one")
    s.fill(key, -1)
    s.feed(TradeBusted(s.now, s.client_id(key), "one"))
    s.feed(TradeCorrected(s.now, s.client_id(key), "one", qty(2), price(100)))
    s.expired(key, cum=3)
    assert throttled(s) == []
    s.fill(key, 1, trade="two")
    assert throttled(s) == []
    s.fill(key, 1, trade="three")
    assert throttled(s) == [0]


def test_trades_far_apart_go_on_for_ever() -> None:
    s = two(Limits(execution_rate=Rate(2, 1_000)))
    key = s.working(amount=100, strategy=MM)
    for _ in range(50):
        s.fill(key, 1)
        s.wait(500)
    assert throttled(s) == []


def test_the_throttle_outlasts_a_restart() -> None:
    s = two(Limits(execution_rate=Rate(1, 60_000)))
    key = s.working(strategy=MM)
    s.fill(key, 1)
    s.restart()
    s.fill(key, 1)
    assert throttled(s) == [0], "the bucket goes on"
    s.restart()
    assert throttled(s) == [0]


# --- cost -------------------------------------------------------------------------------------------------------------------


def test_no_trigger_is_handed_the_orders() -> None:
    """A condition that had to look at all orders would be slow with many of them: each may look at the touched ones alone."""
    s = two(Limits(max_daily_loss=usd(10**6), max_inventory_usd=usd(10**9), execution_rate=Rate(10**6, 1), feed_lost_ms=10**6))
    s.mark(100)
    for _ in range(20):
        s.working(strategy=MM)

    class NoWalk:
        def __init__(self, orders: Any) -> None:
            self.orders = orders

        def __getattr__(self, name: str) -> Any:
            assert name in ("get", "set", "delete"), f"{name} walks over the orders"
            return getattr(self.orders, name)

    assert s.core.desk is not None
    turn = Turn(s.core, s.core.desk, s.now)
    turn.orders = NoWalk(turn.orders)  # type: ignore[assignment]
    event = EdgeUpdate(s.now, BTC, bps(1))
    turn.grown, turn.moved = [0], [0]
    watch.before(turn, event)
    watch.on_edge(turn, event)
    watch.after(turn, event, s.core)
