"""Figures that can never bind: allowed, and probably not what was meant.

Whoever writes "at night 2000" beside the account's 1000 may think that the night's figure replaces the day's. It does not: of several
figures each has to be kept, so the 2000 never denies anything. (The one figure that does replace another is that of a rule for the symbol
alone, where ``FIGURES`` says *default*; see ``fsm/limits.py``.) Such a figure is idle if another, at least as tight, always holds when it
does and measures as much:

===================================== ===============================================================================================
figure                                is measured by
===================================== ===============================================================================================
value, quantity and price of an order every rule alike
open orders                           a rule without strategy or symbol at as much as a rule with one: it counts all of them
inventory, total                      rules of the same strategy alike; the account's may be less than a strategy's, where two offset
===================================== ===============================================================================================

Only rules that hold at all times are taken for the tighter ones. So not every idle figure is found, but what is told is so.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from ..fsm.limits import FIGURES, Figure, LimitRule, says, written

#: Measured on the books of the rule's own strategy, or the account's.
_OWN_BOOKS: Final = ("max_inventory_usd", "max_total_notional")
#: The rules that always hold, by strategy and symbol.
_Steady: TypeAlias = Mapping[tuple[str, str], LimitRule]


def idle_figures(rules: Sequence[LimitRule]) -> Iterator[tuple[int, str, str]]:
    """Of all rules, the account's too: the rule's index, the figure's name, and why it is idle."""
    steady = {(rule.strategy, rule.symbol): rule for rule in rules if rule.steady}
    for number, rule in enumerate(rules):
        for figure in FIGURES:
            if figure.tightens and says(rule.limits, figure.name) and (tighter := _tighter(rule, figure, steady)):
                loose, tight = (written(figure.name, getattr(one.limits, figure.name)) for one in (rule, tighter))
                problem = f"{loose} can never bind, since {tight} always holds ({tighter.label}); give less, or leave it out"
                yield number, figure.name, problem


def _tighter(rule: LimitRule, figure: Figure, steady: _Steady) -> LimitRule | None:
    """A rule that makes this one's figure idle; there has to be one for every symbol that the rule is for."""
    symbols = [rule.symbol]
    if not rule.symbol:
        # Some may have a figure of their own instead of the account's.
        symbols += [symbol for (strategy, symbol), other in steady.items() if symbol and not strategy and says(other.limits, figure.name)]
    found = [_tighter_in(symbol, rule, figure, steady) for symbol in symbols]
    return found[0] if all(found) else None


def _tighter_in(symbol: str, rule: LimitRule, figure: Figure, steady: _Steady) -> LimitRule | None:
    own = steady.get(("", symbol)) if symbol and figure.default else None
    replaced = own is not None and says(own.limits, figure.name)
    for strategy in dict.fromkeys((rule.strategy,) if figure.name in _OWN_BOOKS else ("", rule.strategy)):
        for name in dict.fromkeys(("", symbol)):
            other = steady.get((strategy, name))
            if other is None or other is rule or (replaced and not strategy and not name) or not says(other.limits, figure.name):
                continue
            if getattr(other.limits, figure.name) <= getattr(rule.limits, figure.name):
                return other
    return None
