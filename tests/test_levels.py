"""The levels are a sorted list that nobody ever changes: lowest and highest, and each price as often as it was put in.

Method: Hypothesis adds and drops prices at random beside a plain sorted list, with leaves so small that they split and vanish all the time;
after each change the old value must still be what it was.
"""

from bisect import insort
from collections.abc import Iterator

import pytest
from haltcore.fsm import levels as module
from haltcore.fsm.levels import EMPTY_LEVELS, Levels, added, dropped, levels_of
from hypothesis import given
from hypothesis import strategies as st

PRICES = st.integers(1, 12)
#: A price to add, or (negative) one to drop.
CHANGES = st.lists(PRICES | PRICES.map(lambda price: -price), max_size=80)


@pytest.fixture(params=[2, 3, 4, 7], autouse=True, scope="module")
def leaf(request: pytest.FixtureRequest) -> Iterator[int]:
    """Small leaves."""
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "LEAF", request.param)
    yield request.param
    patch.undo()


def spelled(levels: Levels) -> list[int]:
    """All prices; with them, that the value keeps its own promises."""
    assert all(levels.leaves), "a leaf is empty"
    assert all(len(leaf) <= module.LEAF for leaf in levels.leaves), "a leaf is too long"
    assert levels.lasts == tuple(leaf[-1] for leaf in levels.leaves)
    return [price for leaf in levels.leaves for price in leaf]


@given(CHANGES)
def test_it_is_a_sorted_list(changes: list[int]) -> None:
    levels, model = EMPTY_LEVELS, list[int]()
    for change in changes:
        before, was = levels, list(model)
        if change > 0:
            levels = added(levels, change)
            insort(model, change)
        elif -change in model:
            levels = dropped(levels, -change)
            model.remove(-change)
        else:
            with pytest.raises(ValueError, match="there is no level at"):
                dropped(levels, -change)
        assert spelled(levels) == model
        assert (levels.lowest, levels.highest) == ((model[0], model[-1]) if model else (0, 0))
        assert spelled(before) == was


@given(st.lists(PRICES, max_size=40))
def test_made_at_once_it_is_the_same(prices: list[int]) -> None:
    assert spelled(levels_of(prices)) == sorted(prices)


def test_a_full_leaf_splits_and_an_empty_one_vanishes(leaf: int) -> None:
    levels = EMPTY_LEVELS
    for price in range(1, leaf + 2):
        levels = added(levels, price)
    assert len(levels.leaves) == 2
    for price in levels.leaves[0]:
        levels = dropped(levels, price)
    assert len(levels.leaves) == 1
