"""What two runs over the same inputs have in common, and where they part: the figures of a counterfactual replay.

One run is the *recorded* one, the other is told the same under another configuration (see ``counterfactual.py``). Both are looked at after
every record. A *decision* is what reaches the venue, a denial, or a change of mode; texts, metrics and timers are none. Two decisions are
the same when they are alike: of one class, about the same order or book, with the same figures; ids, epochs and fences do not matter.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from ..effects import (
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    Denied,
    Effect,
    FetchOpenOrders,
    Mode,
    ModeChanged,
    Notional,
    Place,
    Price,
    PublishFreeze,
    Purpose,
    Qty,
    QueryOrder,
    Rejected,
    Replace,
    SetTimer,
    SettleGuard,
    Side,
    Trigger,
    client_order_id,
)
from .config import Config
from .core import Core
from .events import Event, ReplaceOrder, SubmitOrder
from .limits import FIGURES, NO_LIMITS, LimitRule, written
from .verdict import Verdict

#: How many points a series has at most, its last one aside.
POINTS: Final = 200
#: The ruling on an order that went out; the others are codes.
SENT: Final = "sent"

# --- alike ----------------------------------------------------------------------------------------------------------

#: Timers whose time is drawn by their id, and whose answers only the log has: two of them are alike whatever they drew.
_DRAWN = (Purpose.SWEEP, Purpose.START)
_WHAT_COUNTS: Final[dict[type[Effect], Callable[[Any], tuple[Any, ...]]]] = {
    Place: lambda e: (e.order,),
    Replace: lambda e: (e.order, e.qty, e.price),
    Cancel: lambda e: (e.target.order, e.target.venue_id, e.conditional),
    CancelBatch: lambda e: (e.symbol, e.conditional, e.targets),
    CancelAll: lambda e: (e.symbol, e.conditional),
    QueryOrder: lambda e: (e.order,),
    ClaimGuard: lambda e: (e.order, e.key, e.params),
    SettleGuard: lambda e: (e.order, e.key, e.owner, e.state),
    FetchOpenOrders: lambda e: (e.symbol, e.conditional),
    PublishFreeze: lambda e: (e.scope,),
    ClearFreeze: lambda e: (e.scope,),
    SetTimer: lambda e: (e.purpose, e.key, 0 if e.purpose in _DRAWN else e.due_ns),
    Denied: lambda e: (e.code, e.order),
    ModeChanged: lambda e: (e.scope, e.mode),
}
_DECISIONS = (Place, Replace, Cancel, CancelBatch, CancelAll, Denied, ModeChanged)


def likeness(effect: Effect) -> tuple[Any, ...]:
    """What has to be equal for two effects to be alike. Of those that are not in the table only the class counts."""
    what_counts = _WHAT_COUNTS.get(type(effect))
    return (type(effect), *what_counts(effect)) if what_counts is not None else (type(effect),)


def decisions(effects: Sequence[Effect]) -> list[tuple[Any, ...]]:
    """The decisions among these effects."""
    return [likeness(effect) for effect in effects if isinstance(effect, _DECISIONS)]


# --- what is found ----------------------------------------------------------------------------------------------------


@frozen
class Ruling:
    """One order, or one replace of it, on which the runs ruled differently. Each ruling is :data:`SENT` or the code of the denial."""

    record: int
    at_ns: int
    order: int
    client_id: str
    symbol: str
    side: Side
    qty: Qty
    price: Price | None
    stop_price: Price | None
    replace: bool
    recorded: str
    other: str


@frozen
class FreezeBegun:
    """A scope that was frozen. ``record`` is the one that brought it about, or the one before which a timer did."""

    record: int
    at_ns: int
    scope: str
    trigger: Trigger
    reason: str


@frozen
class Standing:
    """How a run stands: worst-case exposure and result of the account (Notional, at scale 10^-24), and how many orders have not ended."""

    exposure: Notional
    gain: Notional
    open_orders: int


@frozen
class Point:
    """Both runs after one record."""

    record: int
    at_ns: int
    recorded: Standing
    other: Standing


@frozen
class Peak:
    """An extreme value, at the scale of what it is the extreme of, and the record after which it stood first."""

    value: int
    record: int


@frozen
class Course:
    """One run as a whole. ``sent`` counts orders and replaces that went out, ``denied`` denials by code, ascending."""

    sent: int
    denied: tuple[tuple[str, int], ...]
    freezes: tuple[FreezeBegun, ...]
    end: Standing
    highest_exposure: Peak
    lowest_gain: Peak
    most_open: Peak


@frozen
class Superseded:
    """A figure that was supposed to be otherwise, until a change in the log put its own in place: from ``record`` on this ``value``
    holds, in words, in the rule that is named so."""

    record: int
    at_ns: int
    rule: str
    figure: str
    value: str


@frozen
class Comparison:
    """Two runs over one log.

    ``verdict`` is that of the recorded run's replay; only if its exit code is 0 the rest says anything. ``first`` is the record of the
    first decision that differs, 0 for none. ``supposed`` counts the orders about whose fate the log can say nothing (see the
    assumptions in ``counterfactual.py``), ``supposed_from`` is the record of the first of them, or 0. ``superseded`` are the figures
    that the other run has lost to changes of limits in the log. ``core`` is the state in which the other run ends.
    """

    verdict: Verdict
    recorded: Course
    other: Course
    rulings: tuple[Ruling, ...]
    series: tuple[Point, ...]
    first: int
    first_ns: int
    supposed: int
    supposed_from: int
    superseded: tuple[Superseded, ...]
    core: Core = field(repr=False)


# --- how it is found --------------------------------------------------------------------------------------------------


def standing(core: Core) -> Standing:
    """How this state stands."""
    return Standing(core.account.worst, core.account.gain, len(core.orders))


def ruling(event: Event, effects: Sequence[Effect]) -> str:
    """How a submit or replace was ruled on: :data:`SENT`, or a code; empty for other events."""
    if not isinstance(event, (SubmitOrder, ReplaceOrder)):
        return ""
    for effect in effects:
        if isinstance(effect, (Denied, Rejected)):
            return effect.code
        if isinstance(effect, (Place, Replace, ClaimGuard)):
            return SENT
    return ""


class CourseTaken:
    """A course while it is under way."""

    def __init__(self) -> None:
        self._sent = 0
        self._denied: dict[str, int] = {}
        self._freezes: list[FreezeBegun] = []
        self._highest = self._lowest = self._most = Peak(0, 0)
        self._end = Standing(Notional(0), Notional(0), 0)

    def see(self, record: int, core: Core, effects: Sequence[Effect]) -> None:
        """One step of this run, and the record that it belongs to."""
        for effect in effects:
            if isinstance(effect, (Place, Replace)):
                self._sent += 1
            elif isinstance(effect, Denied):
                self._denied[effect.code] = self._denied.get(effect.code, 0) + 1
            elif isinstance(effect, ModeChanged) and effect.mode is Mode.FREEZING and _began(core, effect):
                self._freezes.append(FreezeBegun(record, core.now_ns, effect.scope, effect.trigger, effect.reason))
        if core.account.worst > self._highest.value:
            self._highest = Peak(core.account.worst, record)
        if core.account.gain < self._lowest.value:
            self._lowest = Peak(core.account.gain, record)
        if len(core.orders) > self._most.value:
            self._most = Peak(len(core.orders), record)
        self._end = standing(core)

    def course(self) -> Course:
        """The course so far."""
        denied = tuple(sorted(self._denied.items()))
        return Course(self._sent, denied, tuple(self._freezes), self._end, self._highest, self._lowest, self._most)


def _began(core: Core, effect: ModeChanged) -> bool:
    """Whether the scope was frozen in this step, and not merely found to be not empty after all."""
    return core.desk is not None and any(f.record == core.seq and f.scope == effect.scope for f in core.desk.freezes[-8:])


class Series:
    """Points, thinned out evenly while they come in, so that their number is bounded and the choice depends on nothing but them."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._last: Point | None = None
        self._every = 1
        self._changes = 0

    def see(self, record: int, at_ns: int, recorded: Core, other: Core) -> None:
        """The two states after a record. Nothing is kept if neither has moved."""
        one, two = standing(recorded), standing(other)
        if self._last is not None and (one, two) == (self._last.recorded, self._last.other):
            return
        self._last = Point(record, at_ns, one, two)
        if self._changes % self._every == 0:
            self._points.append(self._last)
        self._changes += 1
        if len(self._points) >= POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def points(self) -> tuple[Point, ...]:
        """The points kept, and the last one."""
        if self._last is None or (self._points and self._points[-1] is self._last):
            return tuple(self._points)
        return (*self._points, self._last)


def rulings_differ(record: int, event: Event, recorded: str, other: str, cores: tuple[Core, Core]) -> Ruling | None:
    """The difference, if there is one. ``cores`` are the states of both runs: one of them knows the order of a replace."""
    desk = cores[0].desk
    if recorded == other or desk is None:
        return None
    session = desk.config.session
    if isinstance(event, SubmitOrder):
        client_id = client_order_id(session, record)
        return Ruling(
            record, event.at_ns, record, client_id, event.symbol, event.side, event.qty, event.price, event.stop_price, False, recorded,
            other,
        )
    order = cores[0].order(event.order) or cores[1].order(event.order) if isinstance(event, ReplaceOrder) else None
    if order is None or not isinstance(event, ReplaceOrder):
        return None
    s = order.spec
    return Ruling(
        record, event.at_ns, order.key, s.client_id, s.symbol, s.side, event.qty, event.price, s.stop_price, True, recorded, other
    )


# --- what the log has changed itself ------------------------------------------------------------------------------------

#: A figure of a rule, by the rule's conditions and its own name.
Key: TypeAlias = tuple[tuple[str, str, str, int, int], str]


class Hypothesis:
    """The figures by which the other run's limits differ, and which of them the log's own changes have replaced since.

    Of an operator's change only the figures count that it changed in the log (``hearing.py``).
    """

    def __init__(self) -> None:
        self._config: Config | None = None
        self._rules: tuple[LimitRule, ...] = ()
        self._standing: dict[Key, object] = {}
        self._lost: dict[Key, Superseded] = {}

    def see(self, record: int, recorded: Core, other: Core) -> None:
        """The two states after a record."""
        one, two = recorded.desk, other.desk
        if one is None or two is None or (two.config is self._config and two.rules is self._rules):
            return
        if two.config is not self._config:
            was, supposed = (_figures((LimitRule(desk.config.limits), *desk.config.rules)) for desk in (one, two))
            keys = dict.fromkeys((*was, *supposed))
            self._standing = {key: supposed.get(key) for key in keys if was.get(key) != supposed.get(key)}
        self._config, self._rules = two.config, two.rules
        now = _figures(two.rules)
        for key, value in list(self._standing.items()):
            if now.get(key) != value:
                del self._standing[key]
                conditions, name = key
                label = LimitRule(NO_LIMITS, *conditions).label
                self._lost.setdefault(key, Superseded(record, other.now_ns, label, name, written(name, now.get(key))))

    def superseded(self) -> tuple[Superseded, ...]:
        """What has been replaced so far, in the order in which it was."""
        return tuple(self._lost.values())


def _figures(rules: Iterable[LimitRule]) -> dict[Key, object]:
    """Every figure that is set."""
    return {
        (rule.conditions, figure.name): getattr(rule.limits, figure.name)
        for rule in rules
        for figure in FIGURES
        if getattr(rule.limits, figure.name) != getattr(NO_LIMITS, figure.name)
    }
