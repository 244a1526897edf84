"""The gauges say what the state says, for every scope of the configuration and for no other.

Method: states are made by the real ``step``; every sample is compared with a number worked out by hand. That the number of series is
bounded is tried with a session in which limits change, overrides pile up, and orders of unknown strategies and symbols are asked for.
"""

from typing import Any

import pytest
from haltcore.adapters.gauges import GAUGES, money
from haltcore.effects import Purpose, ReadFreeze, bps, price, qty, usd
from haltcore.fsm.config import StoreCheck, StorePolicy
from haltcore.fsm.core import Core
from haltcore.fsm.events import ChangeLimits, InstrumentDefined, LatchKind, MarkPrice, OverrideLimits, SubmitOrder
from haltcore.fsm.exposure import UNPRICED
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import FIGURES, LimitRule, Limits, Rate

from tests.helpers import BTC, BUY, ETH, SELL, Session

LIMITS = Limits(
    max_inventory_usd=usd(1_000), max_total_notional=usd(4_000), max_open_orders=10, max_daily_loss=usd(100), max_drawdown=usd(200),
    message_rate=Rate(10, 1_000), max_order_value=usd(900), edge_freeze_threshold_bps=bps(5),
)  # fmt: skip
RULES = (
    LimitRule(Limits(max_inventory_usd=usd(400)), symbol=BTC, strategy="mm"),
    LimitRule(Limits(max_inventory_usd=usd(500), max_total_notional=usd(800)), strategy="mm"),
    LimitRule(Limits(max_inventory_usd=usd(2_000)), symbol=ETH),
    LimitRule(Limits(max_inventory_usd=usd(800)), symbol=ETH, band="wild"),
)
UTILIZATION = "mm_limit_utilization_ratio"


def read(core: Core, name: str) -> dict[str, float]:
    """The samples of one gauge, by their label values."""
    assert core.desk is not None
    (gauge,) = (gauge for gauge in GAUGES if gauge.name == name)
    return {" ".join(labels): value for labels, value in gauge.read(core, core.desk).items()}


def session(**fields: Any) -> Session:
    """Two symbols at 100 and 10, two strategies, limits."""
    s = Session(**{"limits": LIMITS, "rules": RULES, "strategies": ("mm", "arb"), **fields})
    s.feed(MarkPrice(s.now, BTC, price(100)))
    s.feed(MarkPrice(s.now, ETH, price(10)))
    return s


def test_every_limit_that_is_in_force_has_its_series_from_the_start() -> None:
    assert read(session().core, UTILIZATION) == {
        "max_open_orders account": 0, "message_rate account": 0,
        "max_inventory_usd BTCUSDT": 0, "max_inventory_usd ETHUSDT": 0,
        "max_inventory_usd strategy:mm/BTCUSDT": 0, "max_inventory_usd strategy:mm/ETHUSDT": 0,
        "max_total_notional account": 0, "max_total_notional strategy:mm": 0,
        "max_daily_loss account": 0, "max_drawdown account": 0,
    }  # fmt: skip


def test_how_much_of_each_limit_is_used() -> None:
    s = session()
    # 2 BTC held by mm, bought at 110 with a fee of 5; 3 more offered for, and 20 ETH by arb.
    held = s.submit(BUY, 2, 110, symbol=BTC, strategy="mm")
    s.fill(held, 2, 110, fee=usd(5))
    s.submit(BUY, 1, 90, symbol=BTC, strategy="mm")
    s.submit(SELL, 20, 11, symbol=ETH, strategy="arb")
    used = read(s.core, UTILIZATION)
    assert used == {
        "max_open_orders account": 0.2, "message_rate account": 0.3,
        "max_inventory_usd BTCUSDT": 0.3, "max_inventory_usd ETHUSDT": pytest.approx(0.11),
        # Of two rules for one scope, 500 and 400, the one that is used more.
        "max_inventory_usd strategy:mm/BTCUSDT": 0.75, "max_inventory_usd strategy:mm/ETHUSDT": 0,
        "max_total_notional account": 0.13, "max_total_notional strategy:mm": 0.375,
        "max_daily_loss account": 0.25, "max_drawdown account": 0.125,
    }  # fmt: skip


def test_exposure_results_and_open_orders_by_scope() -> None:
    s = session()
    held = s.submit(BUY, 2, 110, symbol=BTC, strategy="mm")
    s.fill(held, 2, 110, fee=usd(5))
    s.submit(SELL, 20, 11, symbol=ETH, strategy="arb")
    expected = {
        "mm_exposure_usd": (200, 220, 200, 220, 420),
        "mm_gain_usd": (-25, 0, -25, 0, -25),
        "mm_day_gain_usd": (-25, 0, -25, 0, -25),
        "mm_open_orders": (0, 1, 0, 1, 1),
    }
    scopes = (BTC, ETH, "strategy:mm", "strategy:arb", "account")
    for name, values in expected.items():
        assert read(s.core, name) == dict(zip(scopes, values, strict=True)), name
    # The next day begins with what the last one ended with.
    s.wait(86_400_000)
    s.feed(MarkPrice(s.now, BTC, price(101)))
    s.feed(MarkPrice(s.now, BTC, price(103)))
    assert read(s.core, "mm_gain_usd")["account"] == -19
    assert read(s.core, "mm_day_gain_usd") == {BTC: 6, ETH: 0, "strategy:mm": 6, "strategy:arb": 0, "account": 6}


def test_money_is_that_of_the_contract_and_infinite_where_nobody_knows() -> None:
    s = session()
    assert money(UNPRICED) == money(UNPRICED + 10**30) == float("inf")
    assert money(-(15 * 10**23)) == -1.5
    s.feed(InstrumentDefined(s.now, BTC, Instrument(multiplier=3 * 10**12)))
    s.submit(BUY, "0.5", 100, symbol=BTC, strategy="mm")
    assert read(s.core, "mm_exposure_usd")[BTC] == 150


def test_the_store_is_up_when_it_was_read_and_has_answered_last_time() -> None:
    assert read(session().core, "mm_coordination_up") == {}, "there is no store"
    s = Session(ready=False, store=StorePolicy(configured=True, check=StoreCheck.OFF))
    assert read(s.core, "mm_coordination_up") == {"": 0}
    s.answer_stock()
    assert read(s.core, "mm_coordination_up") == {"": 1}
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), kind=LatchKind.IN_DOUBT)
    assert read(s.core, "mm_coordination_up") == {"": 0}


def test_the_configuration_bounds_the_series() -> None:
    s = session()
    allowed = {name: set(read(s.core, name)) for name in (g.name for g in GAUGES)}
    scopes = [BTC, ETH, *(f"strategy:{name}{part}" for name in ("mm", "arb") for part in ("", f"/{BTC}", f"/{ETH}")), "account"]
    for number in range(40):
        s.feed(ChangeLimits(s.now, LimitRule(Limits(max_inventory_usd=usd(900 + number)), band=f"band {number}"), "ann", "trying"))
        s.feed(OverrideLimits(s.now, BTC, "", Limits(max_inventory_usd=usd(900 + number)), 1_000, f"name {number}", "trying"))
        s.feed(SubmitOrder(s.now, f"NEW{number}", BUY, qty(1), price(1), strategy=f"strategy {number}"))
    for name in allowed:
        found = set(read(s.core, name))
        if name == UTILIZATION:
            assert found <= {f"{figure.name} {scope}" for figure in FIGURES for scope in scopes}
        elif not name.startswith(("mm_coordination", "mm_breaker")):
            assert found == allowed[name] == {BTC, ETH, "strategy:mm", "strategy:arb", "account"}


def test_a_symbol_that_is_named_like_the_account_makes_no_series_twice() -> None:
    s = Session(symbols=("account", BTC))
    assert read(s.core, "mm_open_orders") == {"account": 0, BTC: 0}


def test_reading_changes_nothing() -> None:
    s = session(limits=Limits(prevent_self_match=True))
    before = s.core
    for gauge in GAUGES:
        read(before, gauge.name)
    assert s.core is before
    assert before.resting is s.core.resting
