"""A sorted multiset of prices as a persistent value: what is the best price of ours on a side?

Prices lie in sorted leaves of bounded length, and the leaves in one tuple. Adding or dropping a price copies one leaf and the tuple of
leaves, which is what memory does fastest: at a million prices that is some 30 kB, about as much as a few dictionary operations cost.
"""

from bisect import bisect_left, insort

from attrs import frozen

#: A leaf that would grow longer than this is split.
LEAF = 2_000


@frozen
class Levels:
    """``lasts`` are the last prices of the leaves, to find a leaf by. No leaf is empty."""

    leaves: tuple[tuple[int, ...], ...] = ()
    lasts: tuple[int, ...] = ()

    @property
    def lowest(self) -> int:
        """0 if there is none."""
        return self.leaves[0][0] if self.leaves else 0

    @property
    def highest(self) -> int:
        """0 if there is none."""
        return self.lasts[-1] if self.lasts else 0


EMPTY_LEVELS = Levels()


def levels_of(prices: list[int]) -> Levels:
    """These prices, in any order, each as often as it occurs."""
    ordered, half = sorted(prices), LEAF // 2
    leaves = tuple(tuple(ordered[start : start + half]) for start in range(0, len(ordered), half))
    return Levels(leaves, tuple([leaf[-1] for leaf in leaves]))


def added(levels: Levels, price: int) -> Levels:
    """With this price once more."""
    if not levels.leaves:
        return Levels(((price,),), (price,))
    at = min(bisect_left(levels.lasts, price), len(levels.leaves) - 1)
    leaf = list(levels.leaves[at])
    insort(leaf, price)
    if len(leaf) <= LEAF:
        return _with(levels, at, (tuple(leaf),))
    half = len(leaf) // 2
    return _with(levels, at, (tuple(leaf[:half]), tuple(leaf[half:])))


def dropped(levels: Levels, price: int) -> Levels:
    """With this price once less. Raises ValueError when it is not there."""
    at = bisect_left(levels.lasts, price)
    leaf = levels.leaves[at] if at < len(levels.leaves) else ()
    place = bisect_left(leaf, price)
    if place == len(leaf) or leaf[place] != price:
        raise ValueError(f"there is no level at {price}")
    rest = leaf[:place] + leaf[place + 1 :]
    return _with(levels, at, (rest,) if rest else ())


def _with(levels: Levels, at: int, leaves: tuple[tuple[int, ...], ...]) -> Levels:
    lasts = tuple([leaf[-1] for leaf in leaves])
    return Levels(levels.leaves[:at] + leaves + levels.leaves[at + 1 :], levels.lasts[:at] + lasts + levels.lasts[at + 1 :])
