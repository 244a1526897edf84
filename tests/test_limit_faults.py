"""What is wrong with a rule is said with its path, and what to give instead; nothing that is put there raises.

Method: the functions are asked directly, as an operator's command asks them; each single fault through a whole configuration stands in
``test_config.py``.
"""

from typing import Any

import pytest
from haltcore.effects import qty, usd
from haltcore.fsm.limit_faults import amount_text, is_name, is_whole, rate_faults, rule_faults, says_nothing, shown
from haltcore.fsm.limits import FIGURES, LimitRule, Limits, Rate

KNOWN = {"BTCUSDT": 0}


def repr_of(value: object) -> str:
    """A name for a test: a number of 5000 digits has none."""
    return type(value).__name__


def test_every_fault_of_a_rule_is_told_with_its_path() -> None:
    rule = LimitRule(Limits(max_order_value=usd(5)), "X", "mm", "b" * 65, -1, 1_440)
    found = [fault.partition(": ")[0] for fault in rule_faults(rule, "rule", KNOWN, {})]
    assert found == ["rule.symbol", "rule.strategy", "rule.band", "rule.from_minute", "rule.to_minute"]
    assert rule_faults(LimitRule(Limits(max_order_qty=qty(1)), "BTCUSDT"), "rule", KNOWN, {}) == []


def test_every_figure_is_looked_at() -> None:
    everything: Any = {figure.name: "x" for figure in FIGURES}
    found = [fault.partition(": ")[0] for fault in rule_faults(LimitRule(Limits(**everything)), "limits", KNOWN, {})]
    assert found == [f"limits.{figure.name}" for figure in FIGURES]


def test_where_the_symbols_are_wrong_themselves_nobody_can_say_whether_a_rule_names_one() -> None:
    assert rule_faults(LimitRule(Limits(max_open_orders=1), "X", "mm"), "rule", None, None) == []


def test_whether_a_rule_says_anything() -> None:
    assert says_nothing(Limits())
    assert not says_nothing(Limits(prevent_self_match=True))
    assert not says_nothing(Limits(max_open_orders=1))


@pytest.mark.parametrize("value", [None, 5, "x", (), object(), 10**5000, Limits, Limits(), [10**5000]], ids=repr_of)
def test_whatever_is_put_there_is_told_in_a_short_line(value: Any) -> None:
    for rule in (value, LimitRule(value), LimitRule(Limits(max_open_orders=1), value), LimitRule(Limits(value, value, value))):
        for fault in rule_faults(rule, "rule", KNOWN, {}):
            assert len(fault) < 300
            assert "; " in fault


def test_how_values_are_shown() -> None:
    assert shown("x" * 100) == "'" + "x" * 76 + "..."
    assert shown(10**5000) == "a number without end"
    assert amount_text(10**5000) == "an amount beyond 10^15"
    assert amount_text(qty("0.5")) == "0.5"


def test_what_is_whole_and_what_is_a_name() -> None:
    assert [value for value in (1, 0, -1, True, 1.0, "1", None) if is_whole(value)] == [1, 0, -1]
    assert [name for name in ("a", "", "a" * 64, "a" * 65, "a\n", "\ud800", None, "a b") if is_name(name)] == ["a", "a" * 64, "a b"]


def test_a_rate_has_a_count_and_a_time() -> None:
    assert list(rate_faults(Rate(1, 1))) == []
    assert len(list(rate_faults(Rate(0, 0)))) == 2
