"""Figures that can never bind. Goal: each that is told denies nothing that would not be denied without it.

Method: a table of cases; and drawn rules, orders and accounts, with the denials of the rules held against those without the figure. The
rules that hold are the core's own (``in_force`` and ``sources``); what a figure measures is said here once more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
from haltcore.adapters.settings_notes import idle_figures
from haltcore.effects import qty, usd
from haltcore.fsm.limits import FIGURES, NO_LIMITS, LimitRule, Limits, in_force, shape, sources
from hypothesis import given, settings
from hypothesis import strategies as st

NIGHT = {"from_minute": 1_320, "to_minute": 360}


def value(amount: int | None) -> Limits:
    """A limit that is measured on the order alone, and the account's is the default of the symbols."""
    return Limits(max_order_value=None if amount is None else usd(amount))


def orders(count: int) -> Limits:
    """A limit that is measured on the account, and is no default."""
    return Limits(max_open_orders=count)


def inventory(amount: int) -> Limits:
    """A limit that is measured on the books of the account or the strategy."""
    return Limits(max_inventory_usd=usd(amount))


def idle(*rules: LimitRule) -> list[int]:
    """The rules that have an idle figure."""
    return [number for number, _, _ in idle_figures(rules)]


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        # windows and bands only tighten
        ([LimitRule(value(5)), LimitRule(value(6), **NIGHT)], [1]),
        ([LimitRule(value(5)), LimitRule(value(5), band="high")], [1]),
        ([LimitRule(value(5)), LimitRule(value(4), **NIGHT)], []),
        ([LimitRule(NO_LIMITS), LimitRule(value(6), **NIGHT)], []),
        ([LimitRule(orders(5)), LimitRule(value(6), **NIGHT)], []),
        ([LimitRule(value(5)), LimitRule(value(6), strategy="mm", symbol="A", band="high", **NIGHT)], [1]),
        ([LimitRule(NO_LIMITS), LimitRule(value(5), band="high"), LimitRule(value(6), band="high", **NIGHT)], []),
        # a symbol's rule replaces the account's, upwards too
        ([LimitRule(value(5)), LimitRule(value(9), symbol="A")], []),
        ([LimitRule(value(5)), LimitRule(value(9), symbol="A"), LimitRule(value(6), symbol="A", **NIGHT)], []),
        ([LimitRule(value(5)), LimitRule(value(9), symbol="A"), LimitRule(value(6), **NIGHT)], []),
        ([LimitRule(value(5)), LimitRule(value(9), symbol="A"), LimitRule(value(9), **NIGHT)], [2]),
        ([LimitRule(NO_LIMITS), LimitRule(value(5), symbol="A"), LimitRule(value(6), **NIGHT)], []),
        ([LimitRule(orders(5)), LimitRule(orders(9), symbol="A")], [1]),
        # a strategy's only tightens
        ([LimitRule(value(5)), LimitRule(value(6), strategy="mm")], [1]),
        ([LimitRule(NO_LIMITS), LimitRule(value(5), strategy="mm"), LimitRule(value(6), strategy="arb", **NIGHT)], []),
        ([LimitRule(NO_LIMITS), LimitRule(value(5), strategy="mm"), LimitRule(value(6), **NIGHT)], []),
        # what is measured
        ([LimitRule(inventory(5)), LimitRule(inventory(6), strategy="mm", **NIGHT)], []),
        ([LimitRule(NO_LIMITS), LimitRule(inventory(5), strategy="mm"), LimitRule(inventory(6), strategy="mm", **NIGHT)], [2]),
        ([LimitRule(NO_LIMITS), LimitRule(orders(5), symbol="A"), LimitRule(orders(6), **NIGHT)], []),
        ([LimitRule(NO_LIMITS), LimitRule(orders(5), symbol="A"), LimitRule(orders(6), strategy="mm", symbol="A", **NIGHT)], [2]),
        # figures that neither windows nor bands may have are left alone
        ([LimitRule(Limits(max_daily_loss=usd(5))), LimitRule(Limits(max_daily_loss=usd(6)), symbol="A")], []),
    ],
    ids=range(21),
)
def test_which_figures_are_idle(rules: list[LimitRule], found: list[int]) -> None:
    assert idle(*rules) == found


def test_it_says_which_figure_and_what_holds_instead() -> None:
    account = LimitRule(Limits(max_order_qty=qty("0.5"), max_order_value=usd(9)))
    assert list(idle_figures([account, LimitRule(Limits(max_order_qty=qty(1)), symbol="A", **NIGHT)])) == [
        (1, "max_order_qty", "1 can never bind, since 0.5 always holds (account); give less, or leave it out")
    ]  # fmt: skip


# --- the same from the denials ----------------------------------------------------------------------------------------

SYMBOLS, STRATEGIES = ("A", "B", "C"), ("mm", "arb")
NAMES = [figure.name for figure in FIGURES if figure.tightens]
FEW = st.integers(1, 4)


@st.composite
def rules_of(draw: Any, name: str) -> list[LimitRule]:
    """Some rules that have this figure, where it has a meaning for them. Two symbols have rules, one has none."""
    windows = st.sampled_from([(0, 0), (0, 720), (600, 60)])
    conditions = st.tuples(st.sampled_from(["", *SYMBOLS[:2]]), st.sampled_from(["", *STRATEGIES]), st.sampled_from(["", "high"]), windows)
    (row,) = [figure for figure in FIGURES if figure.name == name]
    found = [LimitRule(NO_LIMITS, s, team, band, *window) for s, team, band, window in draw(st.lists(conditions, max_size=5, unique=True))]
    rules = [LimitRule(NO_LIMITS), *(rule for rule in found if any(rule.conditions) and shape(rule) in row.rules)]
    figures: list[dict[str, Any]] = [{name: draw(FEW | st.none())} for _ in rules]
    return [attrs.evolve(rule, limits=Limits(**figure)) for rule, figure in zip(rules, figures, strict=True)]


@st.composite
def worlds(draw: Any) -> Mapping[str, Any]:
    """An order, and what there is: open orders, and sums that differ by owner, since strategies offset one another."""
    owners = ("", *STRATEGIES)
    return {
        "symbol": draw(st.sampled_from(SYMBOLS)), "strategy": draw(st.sampled_from(STRATEGIES)),
        "band": draw(st.sampled_from(["", "high"])),
        "now_ns": draw(st.sampled_from([0, 300, 660, 900, 1_439])) * 60 * 10**9, "order": draw(FEW),
        "open": draw(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(STRATEGIES)), max_size=4)),
        "books": {(owner, symbol): draw(FEW) for owner in owners for symbol in SYMBOLS}, "totals": {owner: draw(FEW) for owner in owners},
    }  # fmt: skip


def measured(name: str, rule: LimitRule, world: Mapping[str, Any]) -> int:
    """The figure with the order."""
    if name == "max_open_orders":
        counted = [s for s, owner in world["open"] if rule.symbol in ("", s) and rule.strategy in ("", owner)]
        return len(counted) + 1
    if name == "max_inventory_usd":
        return int(world["books"][rule.strategy, world["symbol"]])
    return int(world["totals"][rule.strategy] if name == "max_total_notional" else world["order"])


def denies(rules: Sequence[LimitRule], name: str, world: Mapping[str, Any]) -> bool:
    """Whether this figure denies the order."""
    holding = in_force(rules, world["now_ns"], world["symbol"], world["strategy"], world["band"])
    found = [source for source in sources(holding, (), name) if isinstance(source, LimitRule)]
    return any(measured(name, rule, world) > getattr(rule.limits, name) for rule in found)


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
@settings(max_examples=200)
def test_without_an_idle_figure_the_same_is_denied(name: str, data: st.DataObject) -> None:
    rules = data.draw(rules_of(name))
    for number, _, _ in idle_figures(rules):
        rule = rules[number]
        without = [*rules[:number], attrs.evolve(rule, limits=NO_LIMITS), *rules[number + 1 :]]
        for world in data.draw(st.lists(worlds(), min_size=5, max_size=5)):
            assert denies(rules, name, world) == denies(without, name, world), (name, rule.label)


def test_every_figure_that_tightens_has_a_measure() -> None:
    assert NAMES == [
        "max_inventory_usd", "max_total_notional", "max_order_value", "max_order_qty", "price_collar_bps", "max_open_orders"
    ]  # fmt: skip
