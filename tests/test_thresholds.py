"""A trigger compares with the figure that holds for its scope now: its own rule's, or an override's, never one of a narrower, wider
or other scope.

Method: every figure is put in every rule and override that may hold it; asked for in every scope, and around the moment at which an
override ends.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import bps, usd
from haltcore.fsm.core import ACCOUNT, VENUE, Desk, Feed, Flow, strategy_scope
from haltcore.fsm.life import new_desk
from haltcore.fsm.limits import LimitRule, Limits, Override, Rate
from haltcore.fsm.thresholds import amount, feed_is_stale, rate, scopes_with, thresholds_of
from haltcore.fsm.turn import NS_PER_MS
from immutables import Map

from tests.helpers import BTC, ETH, config

NOW = 10**18
SCOPES = {"account": ACCOUNT, "venue": VENUE, BTC: 1, ETH: 2, "mm": strategy_scope(1), "arb": strategy_scope(2)}
LOSS = "max_daily_loss"


def desk(*rules: LimitRule, limits: Limits | None = None, overrides: tuple[Override, ...] = ()) -> Desk:
    fresh = new_desk(config(strategies=("mm", "arb"), rules=rules, limits=limits or Limits()))
    return attrs.evolve(fresh, overrides=overrides)


def override(limits: Limits, symbol: str = "", strategy: str = "", until_ns: int = NOW + 1, verified_by: str = "eve") -> Override:
    return Override(1, limits, symbol, strategy, until_ns, "ada", "why", verified_by, None)


def losses(d: Desk, now_ns: int = NOW) -> dict[str, int]:
    """The daily loss that bounds each scope, in whole units; unbounded ones are left out."""
    found = {name: amount(d, now_ns, scope, LOSS) for name, scope in SCOPES.items()}
    return {name: value // 10**12 for name, value in found.items() if value is not None}


def lose(value: int) -> Limits:
    return Limits(max_daily_loss=usd(value))


def test_each_rule_bounds_its_own_scope() -> None:
    d = desk(LimitRule(lose(2), BTC), LimitRule(lose(3), strategy="arb"), limits=lose(1))
    assert losses(d) == {"account": 1, BTC: 2, "arb": 3}
    assert scopes_with(d, LOSS) == [-3, 0, 1]


def test_a_rule_for_a_strategy_in_one_symbol_or_for_a_time_or_a_band_bounds_no_scope() -> None:
    at_times = LimitRule(lose(1), band="high"), LimitRule(lose(1), from_minute=1, to_minute=2)
    rules = (LimitRule(lose(1), BTC, "mm"), LimitRule(lose(1), "XRPUSDT"), *at_times)
    fresh = desk()
    assert len(thresholds_of(rules, fresh.index, fresh.owners).losses) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("edge_freeze_threshold_bps", bps(-5)), (LOSS, usd(1)), ("max_drawdown", usd(1)), ("feed_lost_ms", 7), ("execution_rate", Rate(1, 2))],
)
def test_every_figure_that_triggers_is_found(name: str, value: Any) -> None:
    d = desk(limits=Limits(**{name: value}))
    ask = rate if name == "execution_rate" else amount
    assert ask(d, NOW, ACCOUNT, name) == value
    assert scopes_with(d, name) == [ACCOUNT]
    assert ask(desk(), NOW, ACCOUNT, name) is None


# --- overrides -----------------------------------------------------------------------------------------------------------

RULES = (LimitRule(lose(2), BTC), LimitRule(lose(3), strategy="mm"))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (override(lose(9)), {"account": 9, BTC: 2, "mm": 3}),
        (override(lose(9), BTC), {"account": 1, BTC: 9, "mm": 3}),
        (override(lose(9), ETH), {"account": 1, BTC: 2, ETH: 9, "mm": 3}),
        (override(lose(9), strategy="mm"), {"account": 1, BTC: 2, "mm": 9}),
        (override(lose(9), BTC, "mm"), {"account": 1, BTC: 2, "mm": 3}),
        (override(Limits(max_drawdown=usd(9))), {"account": 1, BTC: 2, "mm": 3}),
        (override(lose(9), verified_by=""), {"account": 1, BTC: 2, "mm": 3}),
        (override(lose(9), until_ns=NOW), {"account": 1, BTC: 2, "mm": 3}),
    ],
)
def test_an_override_replaces_the_figure_of_the_scopes_that_it_names_as_a_whole(made: Override, expected: dict[str, int]) -> None:
    assert losses(desk(*RULES, limits=lose(1), overrides=(made,))) == expected


def test_overrides_of_several_scopes_hold_beside_each_other() -> None:
    overrides = (override(lose(5)), override(lose(7)), override(lose(8), BTC), override(Limits(feed_lost_ms=1)))
    d = desk(*RULES, limits=lose(1), overrides=overrides)
    assert losses(d) == {"account": 7, BTC: 8, "mm": 3}
    assert scopes_with(d, "feed_lost_ms") == [ACCOUNT]


def test_at_its_end_the_rules_hold_again() -> None:
    d = desk(*RULES, limits=lose(1), overrides=(override(lose(9)),))
    assert losses(d, NOW) == {"account": 9, BTC: 2, "mm": 3}
    assert losses(d, NOW + 1) == {"account": 1, BTC: 2, "mm": 3}


# --- feeds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("silent_ns", "stale"), [(0, False), (7 * NS_PER_MS - 1, False), (7 * NS_PER_MS, True)])
def test_a_feed_is_stale_once_it_was_silent_for_its_whole_time(silent_ns: int, stale: bool) -> None:
    d = desk(limits=Limits(feed_lost_ms=7))
    flow = Flow(feeds=Map({ACCOUNT: Feed(NOW - silent_ns, None)}))
    assert feed_is_stale(d, flow, NOW, ACCOUNT) == stale
    assert not feed_is_stale(d, flow, NOW, 1)
    assert not feed_is_stale(desk(), flow, NOW, ACCOUNT)
