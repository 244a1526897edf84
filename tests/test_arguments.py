"""Goal: what a caller gives becomes exactly what an event holds, or one clear error that names the argument.

Method: each reader with what it takes and what it must not; a figure of every kind in and out again. That the runner's calls use
these readers is tested in ``test_runner.py`` and ``test_operations.py``.
"""

from decimal import Decimal
from typing import Any

import pytest
from haltcore.adapters.arguments import (
    MAX_INTENTION,
    MAX_TEXT,
    at_least,
    choice,
    defined,
    figures,
    flag,
    instrument,
    intention,
    milliseconds,
    scope,
    text,
    whole,
    words,
)
from haltcore.effects import Price, Side, ValueRefused, bps, price, qty, usd
from haltcore.fsm.config import ConfigRefused
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import FIGURES, MAX_NUMBER, NO_LIMITS, Limits, Rate

from tests.helpers import BTC, config


@pytest.mark.parametrize("value", ["buy", Side.BUY])
def test_a_choice_is_taken_by_value(value: object) -> None:
    assert choice(Side, value, "side") is Side.BUY


@pytest.mark.parametrize("value", ["BUY", "", None, 1, ["buy"]])
def test_no_other_choice_is_taken(value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^side: .* is none of buy, sell"):
        choice(Side, value, "side")


@pytest.mark.parametrize("value", [None, 5, b"x", "x" * (MAX_TEXT + 1), "\ud800", ["x"]])
def test_what_is_no_text_a_log_can_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^why: "):
        text(value, "why")
    assert text(words(value), "why") == words(value), "made to fit, it is one"


def test_an_intention_has_a_name_or_there_is_none() -> None:
    assert intention(None) == ""
    for name in ("s", "signal-4711", "é" * MAX_INTENTION):
        assert intention(name) == name
    for value in ("", "x" * (MAX_INTENTION + 1), "x" * 5_000, b"signal", 5, True, "\ud800", ["s"]):
        with pytest.raises(ValueRefused, match=r"^once: give the intention a name of 1 to 128 .*leave it out \(None\)") as refused:
            intention(value)
        assert len(str(refused.value)) < 250, "and not thousands of letters"


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_flag_is_true_or_false(value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^on: "):
        flag(value, "on")


@pytest.mark.parametrize(("value", "number"), [(0, 0), (-5, -5), ("17", 17), (MAX_NUMBER, MAX_NUMBER), (str(MAX_NUMBER), MAX_NUMBER)])
def test_whole_numbers(value: object, number: int) -> None:
    assert whole(value, "n") == number


@pytest.mark.parametrize("value", [True, 1.0, Decimal(1), "1.5", "", "-1", "\u0661", MAX_NUMBER + 1, str(MAX_NUMBER + 1), "9" * 500, None])
def test_what_is_no_whole_number_of_a_log_is_refused(value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^n: .{1,120}$"):
        whole(value, "n")


@pytest.mark.parametrize(
    ("named", "expected"),
    [({}, ""), ({"symbol": BTC}, BTC), ({"strategy": "mm"}, "strategy:mm"), ({"venue": True}, "venue")],
)
def test_a_scope_is_named_once(named: dict[str, Any], expected: str) -> None:
    assert scope(**{"symbol": "", **named}) == expected


@pytest.mark.parametrize("named", [{"strategy": "mm", "venue": True}, {"symbol": BTC, "strategy": "mm"}, {"symbol": BTC, "venue": True}])
def test_a_scope_that_is_named_twice_is_refused(named: dict[str, Any]) -> None:
    with pytest.raises(ValueRefused, match="one of symbol, strategy and venue"):
        scope(**{"symbol": "", **named})


def test_an_instrument_is_exact() -> None:
    terms = instrument("0.1", Decimal("0.001"), 1, "5", "10.5", "0.01", True)
    assert terms == Instrument(price("0.1"), qty("0.001"), qty(1), qty(5), usd("10.5"), qty("0.01"), True)


def test_instruments_of_a_configuration_are_checked_whole() -> None:
    assert defined(config(), {BTC: Instrument()}) == {BTC: Instrument()}
    with pytest.raises(ConfigRefused) as refused:
        defined(config(), {"NOPE": Instrument(), BTC: Instrument(tick=Price(-1))})
    assert "'NOPE' is not among the symbols; BTCUSDT: tick: " in str(refused.value)
    with pytest.raises(ConfigRefused, match="is no Instrument"):
        defined(config(), {BTC: "0.1"})  # type: ignore[dict-item]


# --- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_is_read_from_its_example(figure: Any) -> None:
    read = getattr(figures(NO_LIMITS, {figure.name: figure.example}), figure.name)
    assert read != getattr(NO_LIMITS, figure.name)
    assert read is not None
    kept = figures(figures(NO_LIMITS, {figure.name: figure.example}), {figure.name: None})
    assert kept == NO_LIMITS


def test_figures_in_their_units() -> None:
    changes = {
        "max_order_value": "2500", "edge_freeze_threshold_bps": "200.5", "max_order_qty": "1.5", "max_open_orders": 7,
        "message_rate": "100/1s", "execution_rate": Rate(5, 60_000), "prevent_self_match": True,
    }  # fmt: skip
    assert figures(Limits(feed_lost_ms=9), changes) == Limits(
        max_order_value=usd("2500"), edge_freeze_threshold_bps=bps("200.5"), max_order_qty=qty("1.5"), max_open_orders=7,
        message_rate=Rate(100, 1_000), execution_rate=Rate(5, 60_000), prevent_self_match=True, feed_lost_ms=9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "limits: give figures by name"), ("max_order_value=5", "limits: give figures by name"), (None, "limits: give figures by name"),
        ({"max_ordr_value": 5}, "limits: 'max_ordr_value' is no figure; there are max_inventory_usd, "), ({7: 5}, "limits: 7 is no figure"),
        ({"max_order_value": 1.5}, "max_order_value: "), ({"max_order_value": True}, "max_order_value: "),
        ({"max_open_orders": "many"}, "max_open_orders: "), ({"max_open_orders": 10**30}, "max_open_orders: "),
        ({"message_rate": 5}, "message_rate: 5 is no rate; write \"100/1s\""), ({"message_rate": "5/x"}, "message_rate: '5/x' is no rate"),
        ({"message_rate": Rate(10**30, 1)}, "message_rate: "), ({"prevent_self_match": "yes"}, "prevent_self_match: 'yes' is neither"),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_read_is_named(changes: Any, told: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        figures(NO_LIMITS, changes)
    assert str(refused.value).startswith(told)
    assert len(str(refused.value)) < 400


def test_times_and_counts_of_a_constructor() -> None:
    assert [milliseconds(1, "ttl_ms"), milliseconds(900_000, "ttl_ms")] == [1, 900_000]
    assert [at_least(1, 1, "batch"), at_least(0, 0, "keep")] == [1, 0]
    for value in (0, -1, 9e5, True, None, "900", 10**12):
        with pytest.raises(ValueRefused, match=r"^ttl_ms: .* is no whole number of milliseconds; give 1 to 31622400000$"):
            milliseconds(value, "ttl_ms")
    for value, word in ((0, r"^batch: 0; give 1 or more$"), (16.0, r"^batch: 16\.0 is no whole number"), (True, "^batch: True")):
        with pytest.raises(ValueRefused, match=word):
            at_least(1, value, "batch")
