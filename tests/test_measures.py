"""The limits that are numbers: whose exposure each bounds, which rule holds when, and that an allowed order never goes beyond.

Method: examples at the boundary for every figure, condition, contract and override; and one property over random commands in two symbols
by two strategies, in which the test adds up orders and positions by itself, from what it sent and filled.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Denied, OrdType, Place, Replace, Side, bps, price, qty, usd
from haltcore.effects.values import SCALE
from haltcore.fsm import ask
from haltcore.fsm.core import Core
from haltcore.fsm.events import MarkPrice, OrderReplaced, PositionRow, ReplaceOrder, SubmitOrder, VolatilityBand
from haltcore.fsm.invariants import broken
from haltcore.fsm.limits import LimitRule, Limits, sources
from haltcore.fsm.measures import Limit
from haltcore.fsm.order import Order
from haltcore.fsm.queries import what_if
from haltcore.fsm.risk import CHECKS
from haltcore.fsm.step import step
from hypothesis import given, settings
from immutables import Map

from tests.gate_world import MARKET, MOVES, STRATEGIES, Moves, at_mark, defined, denial, holding, put_desk, put_limits, put_override, traded
from tests.helpers import BTC, BUY, ETH, MS, SELL, Session, with_limits

STOP_LIMIT, STOP_MARKET = OrdType.STOP_LIMIT, OrdType.STOP_MARKET
MINUTE = 60_000
#: Noon of a day, in UTC.
NOON = (10**18 // (86_400 * 10**9) * 86_400 + 43_200) * 10**9


def ruled(*rules: LimitRule, **account: Any) -> Session:
    """Both marks at 100, two strategies, these limits."""
    return at_mark(strategies=STRATEGIES, limits=Limits(**account), rules=rules)


# --- exposure: all that may still fill counts -------------------------------------------------------------------------------------


def test_a_sell_that_works_off_a_long_over_the_limit_is_allowed() -> None:
    s = holding(50, limits=with_limits(1_000, 1_000))
    assert denial(s, BUY, 1) == "max_inventory_usd"
    assert denial(s, SELL, 50) == ""
    assert denial(s, SELL, 10) == "", "flat, then short by 1,000 at worst"
    assert denial(s, SELL, 1) == "max_inventory_usd"


def test_open_and_unknown_orders_count_and_cancelled_ones_do_not() -> None:
    """RTS 6 Art. 15(2): all orders sent count at once."""
    s = Session(limits=with_limits(1_000))
    keys = [s.working(BUY, 4), s.working(BUY, 4)]
    assert denial(s, BUY, 3) == "max_inventory_usd"
    s.cancel(keys[0])
    assert denial(s, BUY, 3) == "max_inventory_usd", "a pending cancel is still fillable"
    s.cancelled(keys[0])
    assert denial(s, BUY, 3) == ""


def test_an_order_counts_from_the_decision_on() -> None:
    """RTS 6 Art. 15(2): no answer of the venue is waited for."""
    s = Session(limits=with_limits(1_000))
    assert denial(s, BUY, 10) == ""
    assert denial(s, BUY, "0.000000000001") == "max_inventory_usd"


def test_the_total_is_over_all_symbols() -> None:
    s = at_mark(limits=with_limits(None, 2_000))
    s.working(BUY, 10, symbol=BTC)
    s.working(SELL, 9, symbol=ETH)
    assert denial(s, SELL, 2, symbol=ETH) == "max_total_notional"
    assert denial(s, SELL, 1, symbol=ETH) == ""
    assert denial(s, SELL, 10, symbol=BTC) == "", "the other side of BTC adds nothing to its worst case"


def test_a_replace_is_charged_for_what_it_adds() -> None:
    s = Session(limits=with_limits(1_000))
    key = s.working(BUY, 8)
    s.replace(key, 11)
    assert s.one(Denied).code == "max_inventory_usd"
    assert s.order(key).requests.replace is None
    s.replace(key, 8, at=126)
    assert s.one(Denied).code == "max_inventory_usd"
    s.replace(key, 10)
    assert s.one(Replace).qty == qty(10)


def test_a_position_of_unknown_value_in_another_symbol_has_no_bound() -> None:
    s = Session(ready=False, limits=with_limits(total=1_000_000))
    s.answer_stock(positions=(PositionRow(ETH, qty(5), None),))
    s.ask(symbol=BTC)
    assert s.codes() == ["max_total_notional"]
    assert "no bound" in s.one(Denied).reason
    s.mark(100, symbol=ETH)
    assert s.submit(symbol=BTC)


def test_a_sell_counts_at_the_mark_though_its_limit_is_far_below() -> None:
    """Found by a hostile review: 100 sold at a limit of 1 counted as 100 and filled at 50,000."""
    s = Session(limits=with_limits(1_000))
    s.mark(50_000)
    s.ask(SELL, 100, 1)
    assert s.codes() == ["max_inventory_usd"]
    s.ask(SELL, 100, 1, type=STOP_LIMIT, stop_price=price(49_000))
    assert s.codes() == ["max_inventory_usd"]


def test_open_orders_are_valued_anew_when_the_mark_moves() -> None:
    s = Session(limits=with_limits(1_000))
    s.mark(1)
    s.submit(BUY, 9, None, type=MARKET)
    s.mark(100)
    assert s.core.total == qty(9) * price(100)


# --- one order --------------------------------------------------------------------------------------------------------------------


def test_an_orders_value_is_at_its_price_or_the_mark() -> None:
    """RTS 6 Art. 15(1)(b), and 15c3-5(c)(1)(ii): erroneous price or size of one order."""
    s = at_mark(limits=Limits(max_order_value=usd(1_000)))
    assert denial(s, BUY, 8, 126) == "max_order_value"
    assert denial(s, BUY, 8, 125) == ""
    assert denial(s, SELL, "10.1", 1) == "max_order_value", "it may trade at the mark"
    assert denial(s, BUY, "10.1", None, type=MARKET) == "max_order_value"
    assert denial(s, BUY, 9, None, type=STOP_MARKET, stop_price=price(112)) == "max_order_value"
    assert denial(s, BUY, 9, None, type=STOP_MARKET, stop_price=price(111)) == ""
    assert denial(s, BUY, 10, 1) == "", "what filled before does not count"


def test_a_stops_limit_is_held_against_its_stop_price() -> None:
    """RTS 6 Art. 15(1)(a)."""
    s = at_mark(limits=Limits(price_collar_bps=bps(100)))
    assert denial(s, BUY, 1, 202, type=STOP_LIMIT, stop_price=price(200)) == ""
    assert denial(s, BUY, 1, "202.000000000001", type=STOP_LIMIT, stop_price=price(200)) == "price_collar"
    assert denial(s, BUY, 1, 100, type=STOP_LIMIT, stop_price=price(200)) == "price_collar", "the mark does not matter"
    assert denial(s, BUY, 1, None, type=STOP_MARKET, stop_price=price(200)) == "", "no limit price, no collar"
    assert denial(s, BUY, 1, None, type=MARKET) == ""


def test_a_triggered_stop_is_an_order_like_any_other() -> None:
    s = at_mark(limits=Limits(price_collar_bps=bps(100)))
    key = s.working(BUY, 1, 202, type=STOP_LIMIT, stop_price=price(200))
    s.replace(key, 1, 201)
    assert not s.got(Denied)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(1), price(201)))
    s.core = attrs.evolve(s.core, orders=s.core.orders.set(key, attrs.evolve(s.order(key), triggered=True)))
    s.replace(key, 1, 200)
    assert s.one(Denied).code == "price_collar"


def test_the_collar_names_what_the_price_is_held_against() -> None:
    s = at_mark(limits=Limits(price_collar_bps=bps(100)))
    s.ask(BUY, 1, 104)
    assert s.one(Denied).reason == "the price is 400 bps away from the mark 100, the collar is 100"
    s.ask(BUY, 1, 100, type=STOP_LIMIT, stop_price=price(200))
    assert s.one(Denied).reason == "the price is 5000 bps away from the stop price 200, the collar is 100"


@pytest.mark.parametrize(
    ("mark", "near", "far"), [("3", "3.03", "3.030000000001"), ("900000000000000", "909000000000000", "909000000000000.000000000001")]
)
def test_the_collar_is_exact_where_the_ratio_is_not(mark: str, near: str, far: str) -> None:
    s = at_mark(mark, limits=Limits(price_collar_bps=bps(100)))
    assert denial(s, BUY, 1, far) == "price_collar"
    assert denial(s, BUY, 1, near) == ""


# --- whose exposure ---------------------------------------------------------------------------------------------------------------


def test_a_strategys_limit_looks_at_its_own_position_and_orders() -> None:
    """RTS 6 Art. 15(4): limits by trader or desk."""
    s = ruled(LimitRule(Limits(max_inventory_usd=usd(1_000)), strategy="mm"))
    s.fill(s.working(BUY, 6, strategy="arb"), 6)
    s.fill(s.working(BUY, 6, strategy="mm"), 6)
    assert denial(s, BUY, "4.1", strategy="mm") == "max_inventory_usd"
    assert "(strategy mm)" in s.one(Denied).reason
    assert denial(s, BUY, 4, strategy="mm") == ""
    assert denial(s, BUY, 100, strategy="arb") == "", "the limit is mm's alone"
    assert denial(s, SELL, 16, strategy="mm") == "", "6 long, then short by 10, whatever arb holds"
    assert denial(s, SELL, "0.1", strategy="mm") == "max_inventory_usd"


def test_the_account_is_bound_by_all_strategies_together() -> None:
    s = ruled(max_inventory_usd=usd(1_000))
    s.working(BUY, 6, strategy="arb")
    assert denial(s, BUY, "4.1", strategy="mm") == "max_inventory_usd"
    assert denial(s, BUY, 4, strategy="mm") == ""


def test_a_strategys_limit_in_one_symbol_looks_at_that_symbol() -> None:
    s = ruled(
        LimitRule(Limits(max_inventory_usd=usd(500)), symbol=BTC, strategy="mm"),
        LimitRule(Limits(max_inventory_usd=usd(800)), strategy="mm"),
    )
    assert denial(s, BUY, 5, strategy="mm") == ""
    assert denial(s, BUY, "0.1", strategy="mm") == "max_inventory_usd"
    assert denial(s, BUY, 8, symbol=ETH, strategy="mm") == ""
    assert denial(s, BUY, "0.1", symbol=ETH, strategy="mm") == "max_inventory_usd"


def test_a_strategys_total_is_over_its_own_symbols() -> None:
    s = ruled(LimitRule(Limits(max_total_notional=usd(1_000)), strategy="mm"), max_total_notional=usd(3_000))
    s.working(BUY, 6, strategy="mm")
    s.working(BUY, 10, symbol=ETH, strategy="arb")
    assert denial(s, SELL, "4.1", symbol=ETH, strategy="mm") == "max_total_notional"
    assert denial(s, SELL, 4, symbol=ETH, strategy="mm") == ""
    assert denial(s, BUY, "14.1", strategy="arb") == "max_total_notional", "the account's"
    assert denial(s, BUY, 14, strategy="arb") == ""


@pytest.mark.parametrize(
    ("conditions", "counted"), [({}, 3), ({"symbol": BTC}, 2), ({"strategy": "mm"}, 2), ({"symbol": BTC, "strategy": "mm"}, 1)]
)
def test_open_orders_are_counted_where_the_rule_looks(conditions: dict[str, Any], counted: int) -> None:
    s = ruled()
    s.working(BUY, 1, 90, strategy="mm")
    s.working(BUY, 1, 91, symbol=ETH, strategy="mm")
    key = s.working(BUY, 1, 92, strategy="arb")
    limits = Limits(max_open_orders=counted)
    put_limits(s, *((Limits(), LimitRule(limits, **conditions)) if conditions else (limits,)))
    assert denial(s, BUY, 1, 93, strategy="mm") == "max_open_orders"
    s.replace(key, 2, 92)
    assert not s.got(Denied), "a replace opens none"
    limits = Limits(max_open_orders=counted + 1)
    put_limits(s, *((Limits(), LimitRule(limits, **conditions)) if conditions else (limits,)))
    assert denial(s, BUY, 1, 93, strategy="mm") == ""
    assert denial(s, BUY, 1, 94, strategy="mm") == "max_open_orders"


def test_a_strategy_that_has_no_book_yet_is_measured_in_the_symbols_contract() -> None:
    s = ruled(LimitRule(Limits(max_inventory_usd=usd(1_000)), strategy="mm"))
    assert denial(s, SELL, "10.1", 1, strategy="mm") == "max_inventory_usd", "at the mark, which the account's book has"
    assert denial(s, SELL, 10, 1, strategy="mm") == ""


# --- which rules hold -------------------------------------------------------------------------------------------------------------


def test_a_symbols_own_figure_replaces_the_accounts_upwards_too() -> None:
    s = ruled(LimitRule(Limits(max_inventory_usd=usd(2_000)), symbol=BTC), max_inventory_usd=usd(1_000))
    assert denial(s, BUY, 20, strategy="mm") == ""
    assert denial(s, BUY, "0.1", strategy="mm") == "max_inventory_usd"
    assert denial(s, BUY, "10.1", symbol=ETH, strategy="mm") == "max_inventory_usd"


def test_a_strategys_figure_can_only_tighten() -> None:
    s = ruled(LimitRule(Limits(max_inventory_usd=usd(2_000)), strategy="mm"), max_inventory_usd=usd(1_000))
    assert denial(s, BUY, "10.1", strategy="mm") == "max_inventory_usd"
    assert "(" not in s.one(Denied).reason, "it is the account's"


def test_of_several_figures_each_has_to_be_kept() -> None:
    s = ruled(LimitRule(Limits(max_order_qty=qty(5)), symbol=BTC), LimitRule(Limits(max_order_qty=qty(3)), strategy="mm"))
    assert denial(s, BUY, 4, strategy="mm") == "max_order_qty"
    assert "strategy mm" in s.one(Denied).reason
    assert denial(s, BUY, 3, strategy="mm") == ""
    assert denial(s, BUY, 5, strategy="arb") == ""
    assert denial(s, BUY, 6, strategy="arb") == "max_order_qty"
    assert denial(s, BUY, 6, symbol=ETH, strategy="arb") == ""


#: From, to, and whether an order is bound at 23:59, midnight, 00:59, 01:00, 12:00.
WINDOWS = [
    (23 * 60, 60, (True, True, True, False, False)),
    (0, 60, (False, True, True, False, False)),
    (60, 23 * 60 + 59, (False, False, False, True, True)),
    (12 * 60, 12 * 60 + 1, (False, False, False, False, True)),
]


@pytest.mark.parametrize(("start", "end", "bound"), WINDOWS)
def test_windows_hold_from_minute_to_minute_and_over_midnight(start: int, end: int, bound: tuple[bool, ...]) -> None:
    s = ruled(LimitRule(Limits(max_order_qty=qty(1)), from_minute=start, to_minute=end))
    midnight = NOON - 43_200 * 10**9 + 86_400 * 10**9 * 2
    for minute, holds in zip((-1, 0, 59, 60, 720), bound, strict=True):
        s.now = midnight + minute * MINUTE * MS
        assert denial(s, BUY, 2, strategy="mm") == ("max_order_qty" if holds else "")
        s.now += (MINUTE - 1) * MS
        assert denial(s, BUY, 2, strategy="mm") == ("max_order_qty" if holds else ""), "to the last of the minute"


def test_a_band_tightens_while_the_market_is_in_it() -> None:
    s = ruled(LimitRule(Limits(max_order_qty=qty(1)), band="high"), max_order_qty=qty(2))
    assert denial(s, BUY, 2, strategy="mm") == ""
    s.feed(VolatilityBand(s.now, BTC, "high"))
    assert denial(s, BUY, 2, strategy="mm") == "max_order_qty"
    assert "band high" in s.one(Denied).reason
    assert denial(s, BUY, 2, symbol=ETH, strategy="mm") == ""
    s.feed(VolatilityBand(s.now, BTC, "low"))
    assert denial(s, BUY, 2, strategy="mm") == ""


def test_an_override_holds_instead_of_its_subject_s_figures_until_it_expires() -> None:
    """RTS 6 Art. 15(6): temporary, for named orders, by a named person."""
    s = ruled(LimitRule(Limits(max_order_qty=qty(1)), symbol=BTC), max_order_qty=qty(2))
    put_override(s, Limits(max_order_qty=qty(5)), symbol=BTC, for_ms=1_000)
    assert denial(s, BUY, 6, strategy="mm") == "max_order_qty"
    assert "override 1 by bo" in s.one(Denied).reason
    assert denial(s, BUY, 5, strategy="mm") == ""
    assert denial(s, BUY, 3, symbol=ETH, strategy="mm") == "max_order_qty", "it names another symbol"
    s.now += 1_000 * MS - 1
    assert denial(s, BUY, 5, strategy="mm") == ""
    s.now += 1
    assert denial(s, BUY, 5, strategy="mm") == "max_order_qty"


def test_an_override_without_its_second_person_has_no_force() -> None:
    s = ruled(max_order_qty=qty(2))
    put_override(s, Limits(max_order_qty=qty(5)), verified="")
    assert denial(s, BUY, 3, strategy="mm") == "max_order_qty"


def test_the_latest_override_decides_and_other_figures_stay() -> None:
    s = ruled(max_order_qty=qty(2), max_order_value=usd(700))
    put_override(s, Limits(max_order_qty=qty(5)))
    put_override(s, Limits(max_order_qty=qty(9)))
    assert denial(s, BUY, 8, strategy="mm") == "max_order_value"
    assert denial(s, BUY, 7, strategy="mm") == ""


def test_an_override_for_a_strategy_leaves_the_account_its_limits() -> None:
    s = ruled(LimitRule(Limits(max_inventory_usd=usd(300)), strategy="mm"), max_inventory_usd=usd(1_000))
    s.working(BUY, 6, strategy="arb")
    assert denial(s, BUY, 4, strategy="mm") == "max_inventory_usd"
    put_override(s, Limits(max_inventory_usd=usd(500)), strategy="mm")
    assert denial(s, BUY, 5, strategy="mm") == "max_inventory_usd", "the account has room for 4"
    assert "override" not in s.one(Denied).reason
    assert denial(s, BUY, 4, strategy="mm") == ""
    assert denial(s, BUY, "0.1", strategy="arb") == "max_inventory_usd"


def test_a_canary_an_override_that_lifts_the_limits_of_others_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    s = ruled(max_inventory_usd=usd(1_000))
    put_override(s, Limits(max_inventory_usd=usd(5_000)), strategy="mm")
    monkeypatch.setattr(ask, "sources", lambda rules, overrides, name: sources((), overrides, name) or sources(rules, (), name))
    event = SubmitOrder(s.now, BTC, BUY, qty(20), price(100), strategy="mm")
    core, effects = step(s.core, event)
    assert [fault.partition(":")[0] for fault in broken(s.core, event, core, effects)] == ["SAFE-11"]


def test_an_override_for_a_symbol_leaves_a_strategy_its_limits() -> None:
    s = ruled(LimitRule(Limits(max_inventory_usd=usd(300)), strategy="mm"), max_inventory_usd=usd(10_000))
    put_override(s, Limits(max_inventory_usd=usd(5_000)), symbol=BTC)
    assert denial(s, BUY, 4, strategy="mm") == "max_inventory_usd"
    assert denial(s, BUY, 51, strategy="arb") == "max_inventory_usd"
    assert denial(s, BUY, 50, strategy="arb") == ""


# --- contracts --------------------------------------------------------------------------------------------------------------------


def test_the_multiplier_is_part_of_the_value() -> None:
    s = defined(multiplier=SCALE // 100)
    put_limits(s, Limits(max_order_value=usd(10), max_inventory_usd=usd(15), max_total_notional=usd(1_000)))
    assert denial(s, BUY, 11) == "max_order_value"
    assert denial(s, BUY, 10) == ""
    assert denial(s, BUY, 6) == "max_inventory_usd"
    assert denial(s, BUY, 5) == ""


def test_inverse_contracts_are_worth_their_multiplier_at_any_price() -> None:
    s = defined(mark=50_000, inverse=True, multiplier=100 * SCALE)
    put_limits(s, Limits(max_order_value=usd(1_000), max_inventory_usd=usd(1_500)))
    assert denial(s, BUY, 11, 1) == "max_order_value"
    key = s.working(BUY, 10, 40_000)
    assert denial(s, BUY, 6, 50_000) == "max_inventory_usd"
    s.fill(key, 10, 40_000)
    s.mark(90_000)
    assert denial(s, BUY, 6, 50_000) == "max_inventory_usd"
    assert denial(s, BUY, 5, 50_000) == ""
    assert denial(s, SELL, 10, 50_000) == ""


def test_a_multiplier_that_does_not_divide_is_rounded_against_us() -> None:
    s = defined(mark=None, multiplier=1)
    put_limits(s, Limits(max_order_value=usd("0.000000000001")))
    assert denial(s, BUY, 1, "1") == ""
    assert denial(s, BUY, "1.000000000001", 1) == "max_order_value"


# --- the day's result -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["max_daily_loss", "max_drawdown"])
@pytest.mark.parametrize(("mine", "other"), [({"strategy": "mm"}, {"strategy": "arb"}), ({"symbol": BTC}, {"symbol": ETH})])
def test_a_loss_is_that_of_the_scope_that_the_rule_names(name: str, mine: dict[str, str], other: dict[str, str]) -> None:
    for bound, code in (("99.9", "daily_loss" if name == "max_daily_loss" else "drawdown"), ("100", "")):
        limits = Limits(**{name: usd(bound)})
        s = traded(10, 90, Limits(), LimitRule(limits, **mine), strategies=STRATEGIES)
        assert denial(s, BUY, 1, **{"strategy": "mm", **mine}) == code
        s = traded(10, 90, Limits(), LimitRule(limits, **other), strategies=STRATEGIES)
        assert denial(s, BUY, 1, **{"strategy": "mm", "symbol": BTC, **other}) == "", "the other scope has lost nothing"


def test_a_profit_is_no_loss() -> None:
    s = traded(10, 110, Limits(max_daily_loss=usd("0.000001"), max_drawdown=usd("0.000001")))
    shown = what_if(s.core, SubmitOrder(s.now, BTC, BUY, qty(1), price(100)))
    assert shown.code == ""
    assert [figure.value for finding in shown.findings for figure in finding.figures] == [0, 0]


def test_after_a_loss_two_orders_cannot_flip_the_position() -> None:
    s = traded(10, 90, Limits(max_daily_loss=usd(1)))
    assert denial(s, SELL, 6) == ""
    assert denial(s, SELL, 5) == "daily_loss"
    assert denial(s, SELL, 4) == ""


def test_fees_are_part_of_the_loss() -> None:
    s = at_mark()
    s.fill(s.working(BUY, 1), 1, fee=usd(5))
    assert denial(put_limits(s, Limits(max_daily_loss=usd(5)))) == ""
    assert denial(put_limits(s, Limits(max_daily_loss=usd("4.999999999999")))) == "daily_loss"


# --- never beyond -----------------------------------------------------------------------------------------------------------------

ACCOUNT_TOTAL, TEAM_TOTAL = 1_800, 1_000
INVENTORY: dict[str, dict[str, int | None]] = {
    "": {BTC: 1_500, ETH: 1_000}, "mm": {BTC: 600, ETH: 800}, "arb": {BTC: None, ETH: None},
}  # fmt: skip
BOUNDED = (
    LimitRule(Limits(max_inventory_usd=usd(1_500)), symbol=BTC),
    LimitRule(Limits(max_inventory_usd=usd(800), max_total_notional=usd(TEAM_TOTAL), max_open_orders=3), strategy="mm"),
    LimitRule(Limits(max_inventory_usd=usd(600)), symbol=BTC, strategy="mm"),
)
ACCOUNT_LIMITS = Limits(
    max_inventory_usd=usd(1_000), max_total_notional=usd(ACCOUNT_TOTAL), max_order_value=usd(900), max_order_qty=qty(9), max_open_orders=5
)


class Ledger:
    """Positions and marks, by the test's own adding up from what was fed; open orders as they are, one by one."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], int] = {}
        self.marks: dict[str, int] = {}

    def learn(self, event: Any, core: Core) -> None:
        if isinstance(event, MarkPrice):
            self.marks[event.symbol] = event.price
        elif type(event).__name__ == "OrderFilled":
            order = next(o for o in (*core.orders.values(), *core.closed.values()) if o.spec.client_id == event.client_id)
            sign = 1 if order.spec.side is BUY else -1
            for owner in ("", order.spec.strategy):
                key = owner, order.spec.symbol
                self.held[key] = self.held.get(key, 0) + sign * event.last_qty

    def side(self, core: Core, owner: str, symbol: str, side: Side) -> int:
        """What is held and may fill on this side at worst, at 10^-24."""
        mark = self.marks.get(symbol, 0)
        mine = [o for o in core.orders.values() if o.spec.symbol == symbol and o.spec.side is side and owner in ("", o.spec.strategy)]
        orders = max(sum(open_of(o)[0] * open_of(o)[1] for o in mine), sum(open_of(o)[0] for o in mine) * mark)
        return orders + self.held.get((owner, symbol), 0) * mark * (1 if side is BUY else -1)

    def total(self, core: Core, owner: str) -> int:
        return sum(max(self.side(core, owner, symbol, side) for side in (BUY, SELL)) for symbol in (BTC, ETH))


def open_of(order: Order) -> tuple[int, int]:
    """Open quantity and price at worst, a pending replace included; a market order at the mark of its day, which ``reserve`` kept."""
    replace = order.requests.replace
    amount, at = order.qty, order.price if order.price is not None else order.reserve
    if replace is not None:
        amount, at = max(amount, replace.qty), max(at, replace.price or 0)
    return amount - order.cum_qty, at


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_an_allowed_order_never_takes_a_limited_figure_beyond_its_bound(moves: list[Any]) -> None:
    """15c3-5(c)(1)(i): thresholds are kept before the order goes out; RTS 6 Art. 15(4)-(5)."""
    world = Moves(limits=ACCOUNT_LIMITS, rules=BOUNDED)
    s, ledger = world.s, Ledger()
    for event in s.events:
        ledger.learn(event, s.core)
    feed = s.feed

    def watched(event: Any) -> Any:
        before = s.core
        totals = {owner: ledger.total(before, owner) for owner in ("", "mm")}
        effects = feed(event)
        if isinstance(event, (SubmitOrder, ReplaceOrder)) and (s.got(Place) or s.got(Replace)):
            order = s.order(s.core.touched[-1])
            _within(s.core, ledger, order, before.order(order.key), totals)
        ledger.learn(event, s.core)
        return effects

    s.feed = watched  # type: ignore[method-assign]
    for move in moves:
        world.play(move)


def _within(core: Core, ledger: Ledger, order: Order, old: Order | None, totals: dict[str, int]) -> None:
    grew = old is None or open_of(order) > open_of(old) or open_of(order)[1] > open_of(old)[1]
    owners = ("", order.spec.strategy)
    for owner in owners:
        bound = INVENTORY[owner][order.spec.symbol]
        if grew and bound is not None:
            assert ledger.side(core, owner, order.spec.symbol, order.spec.side) <= usd(bound) * SCALE
    for owner, bound in (("", ACCOUNT_TOTAL), ("mm", TEAM_TOTAL)):
        if owner in owners:
            assert ledger.total(core, owner) <= max(usd(bound) * SCALE, totals[owner])
    if old is None:
        assert len(core.orders) <= 5
        assert order.spec.strategy != "mm" or sum(o.spec.strategy == "mm" for o in core.orders.values()) <= 3
        assert order.qty <= qty(9)
        assert order.qty * max(open_of(order)[1], ledger.marks[order.spec.symbol]) <= usd(900) * SCALE


def test_every_standing_figure_can_be_measured_without_an_order() -> None:
    """The rows that ``utilization`` shows are exactly those that measure what is there."""
    standing = [check.limit.name for check in CHECKS if isinstance(check.limit, Limit) and check.limit.standing]
    assert standing == ["max_open_orders", "message_rate", "max_inventory_usd", "max_total_notional", "max_daily_loss", "max_drawdown"]


def test_a_restricted_symbol_and_limits_do_not_hinder_each_other() -> None:
    s = put_desk(holding(10, limits=with_limits(100)), restricted=Map({0: 1}))
    assert denial(s, SELL, 10) == ""
