"""The result of the trading day, per scope: what was lost since it began, and since its best moment.

Theory
------
A book's ``gain`` (see ``exposure.py``) is what its position is worth more than it cost, less the fees, since the session
began; a ``Tally`` sums those of one owner. The day's result of a scope is the difference to what its gain was when the day began:

    loss     = base - gain        base: the gain when the day began
    drawdown = peak - gain        peak: the highest gain since then

The day begins at the first event at or after the configured time UTC, before that event is handled: base and peak of every scope are
then its gain of that moment. In the session's first day both begin at 0.

The peak is followed only where a rule or an override asks for the drawdown, and from then on: from the base, or from the gain if that is
higher. While an override replaces the figure of a rule the peak is followed as before.
"""

from typing import Protocol

import attrs
from immutables import Map

from ..effects import Notional
from .core import ACCOUNT, Day, Flow, Sums, strategy_scope
from .exposure import FLAT, NO_TALLY, Tally, gain_value, owner_of
from .turn import Turn

_NS_PER_MINUTE = 60 * 10**9
_NS_PER_DAY = 1_440 * _NS_PER_MINUTE
_ZERO = Notional(0)
_NO_DAY = Day(_ZERO, _ZERO)


class Results(Sums, Protocol):
    """What a whole state and a step's working copy have in common."""

    @property
    def account(self) -> Tally:
        """The account's sums."""
        ...

    @property
    def flow(self) -> Flow:
        """What is measured over time."""
        ...


def gain_of(view: Results, scope: int) -> Notional:
    """The scope's result since the session began. The venue's is the account's."""
    if scope > ACCOUNT:
        return gain_value(view.books.get(scope - 1, FLAT))
    return view.account.gain if scope > -2 else view.teams.get(-1 - scope, NO_TALLY).gain


def loss_of(view: Results, scope: int) -> Notional:
    """What the scope has lost since the day began; below 0 is won."""
    return Notional(view.flow.days.get(scope, _NO_DAY).base - gain_of(view, scope))


def drawdown_of(view: Results, scope: int) -> Notional:
    """By how much the scope's result is below the day's highest, as far as that was followed."""
    gain = gain_of(view, scope)
    return Notional(max(view.flow.days.get(scope, _NO_DAY).peak, gain) - gain)


def follow(turn: Turn, scope: int) -> None:
    """Keep the scope's highest result."""
    day, gain = turn.flow.days.get(scope, _NO_DAY), gain_of(turn, scope)
    if gain > day.peak:
        turn.flow = attrs.evolve(turn.flow, days=turn.flow.days.set(scope, Day(day.base, gain)))


def roll(turn: Turn) -> None:
    """A day begins, for every scope."""
    scopes = [ACCOUNT, *(key + 1 for key in turn.books if not owner_of(key)), *(strategy_scope(owner) for owner in turn.teams)]
    gains = {scope: gain for scope in scopes if (gain := gain_of(turn, scope))}
    days: Map[int, Day] = Map((scope, Day(gain, gain)) for scope, gain in gains.items())
    turn.flow = attrs.evolve(turn.flow, days=days, day_ends_ns=day_end(turn.now_ns, turn.desk.config.day_roll_minute))


def day_end(now_ns: int, roll_minute: int) -> int:
    """When the trading day of this moment ends."""
    begin = roll_minute * _NS_PER_MINUTE
    return ((now_ns - begin) // _NS_PER_DAY + 1) * _NS_PER_DAY + begin
