"""Which limits hold for an order now: by symbol, strategy, band and time of day; defaults, tightening, overrides.

Method: small sets of rules with the answer written beside them; and Hypothesis, which draws sets of rules and checks the two sentences of
the module's essay as laws: nothing but a symbol's own rule ever makes a limit wider, and an override no rule of another subject.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Usd, usd
from haltcore.fsm.limits import (
    ACCOUNT_RULE,
    BOTH_RULE,
    FIGURES,
    STRATEGY_RULE,
    SYMBOL_RULE,
    LimitRule,
    Limits,
    Override,
    Rate,
    in_force,
    loosens,
    overriding,
    rate_text,
    says,
    shape,
    sources,
    written,
)
from hypothesis import given
from hypothesis import strategies as st

DAY_NS = 86_400 * 10**9
MINUTE_NS = 60 * 10**9
BTC, ETH = "BTCUSDT", "ETHUSDT"


def cap(amount: int, symbol: str = "", strategy: str = "", band: str = "", begin: int = 0, end: int = 0) -> LimitRule:
    """A rule about the value of one order, which may stand anywhere."""
    return LimitRule(Limits(max_order_value=usd(amount)), symbol, strategy, band, begin, end)


def override(amount: int, symbol: str = "", strategy: str = "", until_ns: int = 100, verified_by: str = "bob", **figures: Any) -> Override:
    """An override of the same figure."""
    return Override(7, Limits(max_order_value=usd(amount), **figures), symbol, strategy, until_ns, "alice", "an auction", verified_by, None)


def bounds(
    rules: list[LimitRule], overrides: tuple[Override, ...] = (), now_ns: int = 0, symbol: str = BTC, strategy: str = "mm", band: str = ""
) -> list[int]:
    """The figures that bound the value of such an order."""
    held = overriding(overrides, now_ns, symbol, strategy)
    found = sources(in_force(rules, now_ns, symbol, strategy, band), held, "max_order_value")
    return [(source.limits.max_order_value or 0) // 10**12 for source in found]


def test_every_rule_holds_whose_conditions_the_order_meets() -> None:
    rules = [cap(1), cap(2, "", "mm"), cap(3, BTC, "mm"), cap(4, ETH), cap(5, "", "arb"), cap(6, band="high"), cap(7, BTC, "mm", "high")]
    assert bounds(rules) == [1, 2, 3]
    assert bounds(rules, band="high") == [1, 2, 3, 6, 7]
    assert bounds(rules, symbol=ETH, strategy="arb") == [4, 5]
    assert bounds(rules, symbol="XRPUSDT", strategy="") == [1]
    assert bounds([]) == []


def test_the_account_s_figure_is_the_default_of_symbols_that_say_nothing() -> None:
    assert bounds([cap(1), cap(9, BTC)]) == [9], "upwards too"
    assert bounds([cap(1), cap(9, BTC)], symbol=ETH) == [1]
    assert bounds([cap(1), cap(9, BTC, "mm")]) == [1, 9], "a strategy in a symbol can only tighten"
    assert bounds([cap(1), cap(9, BTC, band="high")], band="high") == [1, 9], "a band can only tighten"
    assert bounds([cap(1), cap(9, BTC), cap(5, band="high")], band="high") == [9, 5], "the band of the account still tightens"
    rules = (LimitRule(Limits(max_open_orders=5)), LimitRule(Limits(max_open_orders=9), BTC))
    assert list(sources(rules, (), "max_open_orders")) == list(rules), "the account's number of orders is no default: both hold"


@pytest.mark.parametrize(
    ("begin", "end", "minute", "holds"),
    [
        (60, 120, 59, False), (60, 120, 60, True), (60, 120, 119, True), (60, 120, 120, False),
        (1_380, 60, 1_379, False), (1_380, 60, 1_380, True), (1_380, 60, 0, True), (1_380, 60, 59, True), (1_380, 60, 60, False),
        (300, 300, 5, True),
    ],
)  # fmt: skip
def test_windows_begin_at_their_minute_and_end_before_theirs(begin: int, end: int, minute: int, holds: bool) -> None:
    rules = [cap(1, begin=begin, end=end)]
    for ns in (0, MINUTE_NS - 1):
        assert bounds(rules, now_ns=20_000 * DAY_NS + minute * MINUTE_NS + ns) == ([1] if holds else [])


def test_an_override_replaces_the_figures_of_its_own_subject() -> None:
    rules = [cap(1), cap(5, "", "mm"), cap(6, BTC, "mm"), cap(7, band="high")]
    assert bounds(rules, (override(20),)) == [5, 6, 20]
    assert bounds(rules, (override(20, strategy="mm"),)) == [1, 6, 20]
    assert bounds(rules, (override(20, BTC, "mm"),)) == [1, 5, 20]
    assert bounds(rules, (override(20),), band="high") == [5, 6, 20], "it is the exception to windows and bands of its subject too"
    assert bounds(rules, (override(20, strategy="mm"),), band="high") == [1, 6, 7, 20]
    assert bounds(rules, (override(20), override(30), override(40, strategy="mm"))) == [6, 30, 40], "the one asked for last, by subject"
    assert bounds(rules, (override(20, ETH), override(21, strategy="arb"))) == [1, 5, 6]
    assert bounds([], (override(20),)) == [20], "also where there was no limit"


def test_of_a_default_an_override_replaces_what_the_same_rule_would() -> None:
    assert bounds([cap(1), cap(9, BTC)], (override(20, BTC),)) == [20], "the symbol's own"
    assert bounds([cap(1)], (override(20, BTC),)) == [20], "and the default, where it has none of its own"
    assert bounds([cap(1), cap(9, BTC)], (override(20),)) == [9], "another default is none of a symbol's with a figure of its own"
    assert bounds([cap(1), cap(9, BTC), cap(3, band="high")], (override(20),), band="high") == [9, 20], "but it stands in for the band"
    assert bounds([cap(1)], (override(20), override(30, BTC))) == [30]
    assert bounds([cap(1), cap(3, band="high")], (override(20, BTC),), band="high") == [3, 20]
    rules, held = (LimitRule(Limits(max_open_orders=5)),), (override(20, BTC, max_open_orders=9),)
    assert len(sources(rules, held, "max_open_orders")) == 2, "the account's number of orders is no default"


def test_an_override_has_force_until_its_moment_and_once_verified() -> None:
    assert bounds([cap(1)], (override(20, until_ns=100),), now_ns=99) == [20]
    assert bounds([cap(1)], (override(20, until_ns=100),), now_ns=100) == [1]
    assert bounds([cap(1)], (override(20, verified_by=""),)) == [1]


def test_an_override_of_one_figure_leaves_the_others() -> None:
    rules = (LimitRule(Limits(max_open_orders=5, prevent_self_match=True, max_order_value=usd(1))),)
    held = (override(20),)
    assert list(sources(rules, held, "max_open_orders")) == list(rules)
    assert list(sources(rules, held, "prevent_self_match")) == list(rules), "a switch that an override does not mention stays on"


CONDITIONS: Any = st.tuples(
    st.sampled_from(["", BTC, ETH]), st.sampled_from(["", "mm", "arb"]), st.sampled_from(["", "high"]), st.sampled_from([0, 0, 60]),
)  # fmt: skip
RULES = st.dictionaries(CONDITIONS, st.integers(1, 30), max_size=8).map(
    lambda found: [cap(amount, *words, 120 if words[3] else 0) for words, amount in found.items()]
)


@given(RULES, CONDITIONS, st.integers(1, 30), st.sampled_from([0, 60]))
def test_one_more_rule_never_widens_but_for_a_symbol_s_own(rules: list[LimitRule], words: Any, amount: int, minute: int) -> None:
    more = cap(amount, *words, 120 if words[3] else 0)
    if any(rule.conditions == more.conditions for rule in rules) or (shape(more) == SYMBOL_RULE and more.steady):
        return
    now_ns = minute * MINUTE_NS
    for band in ("", "high"):
        before, after = (min(bounds(found, now_ns=now_ns, band=band), default=99) for found in (rules, [*rules, more]))
        assert after <= before


SUBJECTS: Any = st.tuples(st.sampled_from(["", BTC, ETH]), st.sampled_from(["", "mm", "arb"]))


@given(RULES, st.lists(st.tuples(SUBJECTS, st.integers(1, 30)), min_size=1, max_size=4), st.sampled_from(["", "high"]))
def test_an_override_is_a_rule_in_place_of_those_of_its_subject(rules: list[LimitRule], made: Any, band: str) -> None:
    """What the essay says, once more: take every rule of an override's subject away, put the override's figure there, ask without any.
    Only the account's in place of a window or band is more than a default; then it bounds those too that have a figure of their own."""
    held = tuple(override(amount, *subject) for subject, amount in made)
    replaced = {subject: cap(amount, *subject) for subject, amount in made}
    rest = [rule for rule in rules if (rule.symbol, rule.strategy) not in replaced]
    expected = bounds([*rest, *replaced.values()], band=band)
    if ("", "") in replaced and bounds([rule for rule in rules if not rule.steady and shape(rule) == ACCOUNT_RULE], band=band):
        expected.append(bounds([replaced["", ""]])[0])
    assert set(bounds(rules, held, band=band)) == set(expected)


@given(RULES, SUBJECTS, st.integers(1, 30), st.sampled_from(["", "high"]))
def test_an_override_leaves_the_rules_of_others_in_force(rules: list[LimitRule], subject: Any, amount: int, band: str) -> None:
    others = [rule for rule in rules if (rule.symbol, rule.strategy) != subject and not (rule.steady and shape(rule) == ACCOUNT_RULE)]
    named = subject[0] in ("", BTC) and subject[1] in ("", "mm")
    after = bounds(rules, (override(amount, *subject),), band=band)
    assert set(bounds(others, band=band)) <= set(after)
    if not named:
        assert after == bounds(rules, band=band)


# --- which change allows more -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tight", "loose"),
    [
        ("max_order_value", usd(5), usd(6)), ("max_open_orders", 5, 6), ("feed_lost_ms", 5, 6), ("price_collar_bps", usd(5), usd(6)),
        ("edge_freeze_threshold_bps", usd(6), usd(5)), ("duplicate_window_ms", 6, 5), ("max_order_qty", usd(5), None),
        ("message_rate", Rate(5, 1_000), Rate(6, 1_000)), ("message_rate", Rate(5, 1_000), Rate(5, 999)),
        ("message_rate", Rate(5, 1_000), None), ("prevent_self_match", True, False),
    ],
)  # fmt: skip
def test_what_allows_more(name: str, tight: Any, loose: Any) -> None:
    assert loosens(name, tight, loose)
    assert not loosens(name, loose, tight)
    assert not loosens(name, loose, loose)


def test_a_rate_that_is_slower_with_a_larger_burst_allows_more_in_one_respect() -> None:
    assert loosens("message_rate", Rate(5, 1_000), Rate(10, 60_000))
    assert loosens("message_rate", Rate(10, 60_000), Rate(5, 1_000))


# --- rules and figures in words ---------------------------------------------------------------------------------------


def test_a_rule_is_known_by_its_conditions() -> None:
    rule = cap(5, BTC, "mm", "high", 540, 1_020)
    assert rule.conditions == (BTC, "mm", "high", 540, 1_020)
    assert rule.label == "strategy mm, symbol BTCUSDT, band high, window 09:00-17:00 UTC"
    assert cap(1, begin=300, end=300).conditions == cap(1).conditions
    assert cap(1).label == "account"
    assert override(5).label == "override 7 by alice"


def test_shapes() -> None:
    assert [shape(cap(1, *words)) for words in (("", ""), (BTC, ""), ("", "mm"), (BTC, "mm"))] == [
        ACCOUNT_RULE, SYMBOL_RULE, STRATEGY_RULE, BOTH_RULE,
    ]  # fmt: skip
    assert shape(override(1, BTC)) == SYMBOL_RULE
    assert [rule.steady for rule in (cap(1), cap(1, BTC, "mm"), cap(1, band="x"), cap(1, begin=1))] == [True, True, False, False]


def test_the_table_of_figures_is_the_class() -> None:
    assert [figure.name for figure in FIGURES] == [field.name for field in attrs.fields(Limits)]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_order_value", usd("2500.5"), "2500.5"),
        ("max_order_value", None, "none"),
        ("max_open_orders", 100, "100"),
        ("feed_lost_ms", 5_000, "5000"),
        ("message_rate", Rate(100, 1_000), "100/1s"),
        ("prevent_self_match", True, "true"),
        ("prevent_self_match", False, "none"),
    ],
)
def test_how_a_figure_is_written(name: str, value: object, text: str) -> None:
    assert written(name, value) == text


def test_a_rate_is_written_in_its_largest_unit() -> None:
    rates = [Rate(1, 3_600_000), Rate(1, 90_000), Rate(1, 60_000), Rate(1, 1_500), Rate(2, 7)]
    assert [rate_text(rate) for rate in rates] == ["1/1h", "1/90s", "1/1m", "1/1500ms", "2/7ms"]


def test_what_a_rule_says() -> None:
    assert says(Limits(max_daily_loss=Usd(1)), "max_daily_loss")
    assert not says(Limits(), "max_daily_loss")
    assert not says(Limits(), "prevent_self_match")
    assert says(Limits(prevent_self_match=True), "prevent_self_match")
