"""What the state says of itself when somebody looks: gauges that are computed at scrape time, and are in no log.

They cost a session nothing until they are scraped. A core is a value, so that any thread may read the one that it was handed.

Scopes are ``account``, the symbols by their names, and strategies as ``strategy:NAME``, or ``strategy:NAME/SYMBOL`` for a limit of both;
so the configuration bounds the number of series. All of them are there as soon as the session has begun; of limits, those that are in
force. Where several rules set the same limit for a scope, the one that is used most counts. Rates are measured as of the last event.
"""

from collections.abc import Callable, Iterator

from attrs import frozen

from ..effects import BreakerMode
from ..effects.values import SCALE
from ..fsm.breaker import by_now
from ..fsm.config import STRATEGY_SCOPE
from ..fsm.core import ACCOUNT, JOB, Core, Desk, strategy_scope
from ..fsm.events import StoreHealth
from ..fsm.exposure import FLAT, NO_TALLY, UNPRICED, gain_value, worst_value
from ..fsm.queries import utilization

_ACCOUNT_LABEL = "account"
_WHOLE = 100 * SCALE
Values = dict[tuple[str, ...], float]


@frozen
class Gauge:
    """One row: ``read`` gives the value of each series by its label values."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Core, Desk], Values]


def _utilization(core: Core, _: Desk) -> Values:
    values: Values = {}
    for used in utilization(core):
        key = (used.figure, used.subject or _ACCOUNT_LABEL)
        values[key] = max(values.get(key, 0.0), used.percent / _WHOLE)
    return values


def _scopes(core: Core, desk: Desk) -> Iterator[tuple[str, int, int, int, int]]:
    """Each scope's label and key, its worst case, result and open orders."""
    for sym, symbol in enumerate(desk.config.symbols):
        book = core.books.get(sym, FLAT)
        yield symbol, sym + 1, worst_value(book), gain_value(book), book.open_orders
    for owner, name in enumerate(desk.config.strategies, 1):
        team = core.teams.get(owner, NO_TALLY)
        yield STRATEGY_SCOPE + name, strategy_scope(owner), team.worst, team.gain, team.open_orders
    yield _ACCOUNT_LABEL, ACCOUNT, core.account.worst, core.account.gain, core.account.open_orders


def _exposure(core: Core, desk: Desk) -> Values:
    return {(label,): money(worst) for label, _, worst, _, _ in _scopes(core, desk)}


def _gain(core: Core, desk: Desk) -> Values:
    return {(label,): money(gain) for label, _, _, gain, _ in _scopes(core, desk)}


def _day_gain(core: Core, desk: Desk) -> Values:
    days = core.flow.days
    return {(label,): money(gain - (days[key].base if key in days else 0)) for label, key, _, gain, _ in _scopes(core, desk)}


def _open_orders(core: Core, desk: Desk) -> Values:
    return {(label,): float(count) for label, _, _, _, count in _scopes(core, desk)}


def _coordination_up(_: Core, desk: Desk) -> Values:
    store = desk.store
    return {(): float(store.known and store.health is StoreHealth.OK)} if desk.config.store.configured else {}


def _breaker_state(core: Core, desk: Desk) -> Values:
    held, policy = core.flow.breaker, desk.config.breaker
    if held is None or policy is None:
        return {}
    state, _ = by_now(held.copy.state, policy, core.now_ns)
    return {(JOB, mode.value): float(mode is state.mode) for mode in BreakerMode}


def money(notional: int) -> float:
    """In units of the quote currency. What has no bound, because nobody has priced it, is infinite."""
    return float("inf") if notional >= UNPRICED else notional / SCALE / SCALE


GAUGES: tuple[Gauge, ...] = (
    Gauge("mm_limit_utilization_ratio", "How much of a limit is used; above 1 it is exceeded.", ("limit", "scope"), _utilization),
    Gauge("mm_exposure_usd", "Worst-case value of position and open orders, in quote currency.", ("scope",), _exposure),
    Gauge("mm_gain_usd", "Result since the session began, fees included, in quote currency.", ("scope",), _gain),
    Gauge("mm_day_gain_usd", "Result since the trading day began, fees included, in quote currency.", ("scope",), _day_gain),
    Gauge("mm_coordination_up", "Whether the store, where one is configured, answers and takes what is written.", (), _coordination_up),
    Gauge(
        "mm_breaker_state", "Where the circuit breaker of a kind of job stands: 1 for its state, 0 for the others.", ("job", "state"),
        _breaker_state,
    ),
    Gauge("mm_open_orders", "Orders that have not ended, those of unknown fate included.", ("scope",), _open_orders),
)
