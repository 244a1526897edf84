"""What the core watches by itself, and freezes for: everything in the table of ``triggers.py`` that nobody has to say.

Each trigger freezes its scope in the very step in which its condition is seen, and is recorded with the figures that it saw. Most
conditions last (a level, not a pulse): while a scope is frozen, each trigger is recorded once and says nothing new after that
(``freeze.trip``).

========= ===============================================================================================================================
when      what is looked at
========= ===============================================================================================================================
before    overrides lapse; the day rolls; the clock has gone back. A submit with such an event is judged afterwards, so it is not placed
handler   edge, heartbeat, wall clock, breaker: events that are about nothing else; timers of feeds and of the venue link
after     reality beyond a limit, loss, drawdown, refusals, executions: consequences of reports, whatever handler wrote them
========= ===============================================================================================================================

A limit that is not set costs a comparison or two, and none of this depends on the number of orders.

The throttle of repeated executions (RTS 6 Art. 15(3)) is not a freeze: it switches one strategy, or the account, off until a named
person switches it on again, and what works goes on working. Its bucket then begins full.
"""

from collections.abc import Iterable

import attrs

from ..effects import Severity, Trigger, Usd, as_notional, order_key, to_text
from . import breakers, feeds, operators
from .bucket import FULL, left, take
from .core import ACCOUNT, JOB, Core, in_words, scope_symbol, scope_text, strategy_scope
from .events import (
    BreakerChanged,
    ClockReading,
    EdgeUpdate,
    Event,
    Found,
    Heartbeat,
    OrderFilled,
    OrderQueried,
    OrderRejected,
    Outcome,
    OutcomeKind,
    ReplaceOrder,
    ReportStatus,
    Restarted,
    SubmitOrder,
)
from .exposure import FLAT, NO_TALLY, UNPRICED, Book, owner_of, reserve_price, sym_of, worst_value
from .freeze import HELD_BACK, trip
from .limits import Source, in_force, overriding, sources
from .order import Ended
from .result import drawdown_of, follow, gain_of, loss_of, roll
from .thresholds import amount, rate, scopes_with
from .turn import NS_PER_MS, Turn

_MONEY_DIGITS = 24
#: A clock that is so far behind the end of the log has been set back; less is how clocks are.
_BEHIND_NS = 1_000 * NS_PER_MS
_COMMANDS = (SubmitOrder, ReplaceOrder)


# --- around every event -----------------------------------------------------------------------------------------------


def before(turn: Turn, event: Event) -> None:
    """What is due before the event is handled."""
    if turn.desk.overrides:
        operators.lapse(turn)
    if turn.now_ns >= turn.flow.day_ends_ns:
        roll(turn)
    if turn.now_ns != event.at_ns and type(event) is not Restarted:
        gone_back(turn, event)


def after(turn: Turn, event: Event, old: Core) -> None:
    """What the event has brought about. ``old`` is the state before it."""
    desk, was = turn.desk, old.desk
    if was is not None and (desk.rules is not was.rules or desk.overrides is not was.overrides) and type(event) is not Restarted:
        tune(turn)
    if was is not None and desk.controls is not was.controls:
        feeds.go_on(turn)
    if turn.grown and type(event) not in _COMMANDS:
        _violations(turn, old)
    if turn.moved:
        _results(turn)
    if desk.config.triggers.reject_storm is not None and type(event) in (OrderRejected, Outcome, OrderQueried):
        _storm(turn, event, old)
    if type(event) is OrderFilled:
        _executions(turn, event, old)
    if turn.flow.breaker is not None:
        breakers.after(turn, event, old)


def tune(turn: Turn) -> None:
    """The limits are new: the feeds that they name are armed, and what is beyond them already freezes."""
    feeds.arm(turn)
    scopes = (*scopes_with(turn.desk, "max_daily_loss"), *scopes_with(turn.desk, "max_drawdown"))
    _compare_results(turn, dict.fromkeys(sorted(scopes, key=abs)))


# --- clocks -----------------------------------------------------------------------------------------------------------


def gone_back(turn: Turn, event: Event) -> None:
    """An event stamped before the core's time. A little is usual: events of several sources overtake each other. A restart is stamped by
    the clock of the new process: what was decided since by the time of day would be wrong for as long as it is behind."""
    limit = turn.desk.config.triggers.clock_jump_ms
    behind = turn.now_ns - event.at_ns
    if limit is None:
        if type(event) is Restarted and behind > _BEHIND_NS:
            text = f"the clock is {to_text(behind, 6)} ms behind the log; until it gets there, windows and the day's end are off by that"
            turn.alert(Severity.WARNING, "clock_behind", text)
    elif behind > limit * NS_PER_MS:
        whose = "the clock of the new process stands" if type(event) is Restarted else "an event is stamped"
        _jumped(turn, f"{whose} {to_text(behind, 6)} ms before the record before it", behind, limit)


def on_clock(turn: Turn, event: ClockReading) -> None:
    """The wall clock was read. Against the runner's own clock, which is steady, it may drift; it must not step."""
    limit = turn.desk.config.triggers.clock_jump_ms
    if limit is None:
        return
    last = turn.desk.clock_ns
    turn.desk = attrs.evolve(turn.desk, clock_ns=event.offset_ns)
    if last is not None and abs(event.offset_ns - last) > limit * NS_PER_MS:
        step = event.offset_ns - last
        _jumped(turn, f"the wall clock has stepped by {to_text(step, 6)} ms", step, limit)


def _jumped(turn: Turn, reason: str, by_ns: int, limit: int) -> None:
    metadata = (("value", to_text(by_ns, 6)), ("threshold", str(limit)), ("unit", "ms"))
    trip(turn, ACCOUNT, Trigger.CLOCK_JUMP, f"{reason}, the limit is {limit} ms", metadata)


# --- market -----------------------------------------------------------------------------------------------------------


def on_heartbeat(turn: Turn, event: Heartbeat) -> None:
    """Market data flows."""
    scope = _market_scope(turn, event.symbol)
    if scope is not None:
        feeds.heard(turn, scope)


def on_edge(turn: Turn, event: EdgeUpdate) -> None:
    """The edge: below the account's threshold the account freezes, below the symbol's own the symbol."""
    scope = _market_scope(turn, event.symbol)
    if scope is None:
        return
    feeds.heard(turn, scope)
    if turn.desk.config.triggers.cool_downs:
        # Nobody else asks for an edge that is past.
        turn.flow = attrs.evolve(turn.flow, edges=turn.flow.edges.set(scope, event.edge_bps))
    if not turn.desk.thresholds.edges and not turn.desk.overrides:
        return
    for watched in dict.fromkeys((ACCOUNT, scope)):
        threshold = amount(turn.desk, turn.now_ns, watched, "edge_freeze_threshold_bps")
        if threshold is None or event.edge_bps >= threshold:
            continue
        edge, bound = to_text(event.edge_bps), to_text(threshold)
        where = f"in {event.symbol}" if event.symbol else "over all symbols"
        metadata = (("symbol", event.symbol), ("value", edge), ("threshold", bound), ("unit", "bps"))
        trip(turn, watched, Trigger.EDGE_COLLAPSE, f"edge {edge} bps {where} is below {bound} bps", metadata)


def _market_scope(turn: Turn, symbol: str) -> int | None:
    """The symbol's scope, the account's for none; None, and said so, for one that is not configured."""
    if not symbol:
        return ACCOUNT
    sym = turn.desk.index.get(symbol, -1)
    if sym < 0:
        turn.reject("unknown_symbol", f"{symbol!r} is not configured")
        return None
    return sym + 1


# --- the venue --------------------------------------------------------------------------------------------------------


def on_breaker(turn: Turn, event: BreakerChanged) -> None:
    """A circuit breaker opens. Which are open is kept only where it is a trigger; a cool-down waits for it."""
    desk = turn.desk
    if turn.flow.breaker is not None and event.job == JOB:
        turn.reject("own_breaker", f"the breaker of {event.job} is configured here and follows the outcomes; to force it, override it")
        return
    if not desk.config.triggers.breaker_open:
        return
    if event.open:
        turn.desk = attrs.evolve(desk, breakers=desk.breakers.set(event.job, turn.n))
        trip(turn, ACCOUNT, Trigger.BREAKER_OPEN, f"the breaker of {event.job} is open: {event.reason}", (("job", event.job),))
    elif event.job in desk.breakers:
        turn.desk = attrs.evolve(desk, breakers=desk.breakers.delete(event.job))


def _storm(turn: Turn, event: Event, old: Core) -> None:
    """The venue refuses one order after the other: something is wrong with all of them, or with the account."""
    limit = turn.desk.config.triggers.reject_storm
    if limit is None or not _refused(turn, event, old):
        return
    if left(turn.flow.rejects, turn.now_ns, limit) > 0:
        turn.flow = attrs.evolve(turn.flow, rejects=take(turn.flow.rejects, turn.now_ns, limit))
        return
    turn.flow = attrs.evolve(turn.flow, rejects=FULL)
    metadata = (("threshold", str(limit.count)), ("per_ms", str(limit.per_ms)))
    trip(turn, ACCOUNT, Trigger.REJECT_STORM, f"the venue has refused more than {limit.count} orders within {limit.per_ms} ms", metadata)


def _refused(turn: Turn, event: Event, old: Core) -> bool:
    """Whether an order has ended in this step because the venue did not take it."""
    if isinstance(event, Outcome):
        if event.kind is not OutcomeKind.REFUSED or event.code in HELD_BACK:
            return False
    elif isinstance(event, OrderQueried) and not (isinstance(event.result, Found) and event.result.row.status is ReportStatus.REJECTED):
        return False
    for key in turn.touched:
        was, now = old.order(key), turn.order(key)
        if was is not None and now is not None and was.ended is Ended.NO and now.ended is Ended.REJECTED:
            return True
    return False


# --- reality against the limits ---------------------------------------------------------------------------------------


def _violations(turn: Turn, old: Core) -> None:
    """Reality, and not a decision of ours, has made a worst case grow: a late fill, an overfill, a change at the venue."""
    for key in dict.fromkeys(turn.grown):
        book, was = turn.books[key], old.books.get(key, FLAT)
        worst = worst_value(book)
        if worst <= worst_value(was) or not (_more(was, book) or _dearer(turn, old)):
            continue
        desk, owner, sym = turn.desk, owner_of(key), sym_of(key)
        symbol, strategy = desk.config.symbols[sym], desk.config.strategies[owner - 1] if owner else ""
        rules = in_force(desk.rules, turn.now_ns, symbol, strategy, desk.bands.get(sym, ""))
        overrides = overriding(desk.overrides, turn.now_ns, symbol, strategy)
        total = turn.teams.get(owner, NO_TALLY).worst if owner else turn.account.worst
        team = strategy_scope(owner) if owner else None
        for name, value, scope, what in (
            # The wider scope first: its sweep covers the other.
            ("max_total_notional", total, team or ACCOUNT, "over all symbols"),
            ("max_inventory_usd", worst, team or sym + 1, f"in {symbol}"),
        ):
            tightest = _tightest(sources(rules, overrides, name), name, strategy)
            if tightest is not None and value > as_notional(tightest[0]):
                _violated(turn, scope, symbol, value, tightest, what)


def _more(was: Book, now: Book) -> bool:
    """Whether more can come to be held, long or short, than before. An order that fills only moves quantity from open to held, whatever the
    mark makes of its value."""
    longer = now.position + now.buy_qty > was.position + was.buy_qty
    return longer or now.sell_qty - now.position > was.sell_qty - was.position


def _dearer(turn: Turn, old: Core) -> bool:
    """Whether the venue has changed an order of this step to a price at which it counts as more."""
    for key in turn.touched:
        before, now = old.order(key), turn.order(key)
        if before is not None and now is not None and reserve_price(now) > reserve_price(before):
            return True
    return False


def _tightest(found: Iterable[Source], name: str, strategy: str) -> tuple[Usd, str] | None:
    """The lowest of the figures that look at this owner's exposure, and who says it."""
    return min(((getattr(source.limits, name), source.label) for source in found if source.strategy == strategy), default=None)


def _violated(turn: Turn, scope: int, symbol: str, value: int, tightest: tuple[Usd, str], what: str) -> None:
    limit, label = to_text(tightest[0]), tightest[1]
    shown = to_text(value, _MONEY_DIGITS) if value < UNPRICED else "without bound (a position has no mark price)"
    metadata = (("symbol", symbol), ("value", shown), ("threshold", limit), ("limit", label))
    trip(turn, scope, Trigger.LIMIT_VIOLATION, f"worst-case exposure {shown} {what} exceeds {limit} ({label}) by a report", metadata)


def _results(turn: Turn) -> None:
    """Compare the results that have moved with what may be lost."""
    figures = turn.desk.thresholds
    if not figures.losses and not figures.drawdowns and not turn.desk.overrides:
        return
    scopes: dict[int, None] = {}
    for key in turn.moved:
        owner = owner_of(key)
        for scope in (strategy_scope(owner),) if owner else (ACCOUNT, sym_of(key) + 1):
            scopes[scope] = None
    _compare_results(turn, scopes)


def _compare_results(turn: Turn, scopes: Iterable[int]) -> None:
    for scope in scopes:
        limit = amount(turn.desk, turn.now_ns, scope, "max_daily_loss")
        if limit is not None and (lost := loss_of(turn, scope)) > as_notional(Usd(limit)):
            _lost(turn, scope, Trigger.LOSS, "loss since the day began", lost, limit)
        limit = amount(turn.desk, turn.now_ns, scope, "max_drawdown")
        if limit is not None:
            follow(turn, scope)
            if (fallen := drawdown_of(turn, scope)) > as_notional(Usd(limit)):
                _lost(turn, scope, Trigger.DRAWDOWN, "fall from the day's highest result", fallen, limit)


def _lost(turn: Turn, scope: int, trigger: Trigger, what: str, value: int, limit: int) -> None:
    shown, bound = to_text(value, _MONEY_DIGITS), to_text(limit)
    whose = in_words(scope_text(turn.desk, scope))
    metadata = (
        ("symbol", scope_symbol(turn.desk, scope)), ("value", shown), ("threshold", bound),
        ("result", to_text(gain_of(turn, scope), _MONEY_DIGITS)),
    )  # fmt: skip
    trip(turn, scope, trigger, f"{what} of {shown} of {whose} exceeds {bound}", metadata)


# --- executions -------------------------------------------------------------------------------------------------------


def _executions(turn: Turn, event: OrderFilled, old: Core) -> None:
    """Count a trade, if it is news. A strategy that trades more often than it may is off until a person switches it on."""
    if not turn.desk.thresholds.executions and not turn.desk.overrides:
        return
    key = order_key(turn.desk.config.session, event.client_id)
    was, now = old.order(key), turn.order(key)
    if was is None or now is None or len(now.fills.trades) == len(was.fills.trades):
        return
    for owner in dict.fromkeys((0, now.spec.owner)):
        limit = rate(turn.desk, turn.now_ns, strategy_scope(owner) if owner else ACCOUNT, "execution_rate")
        if limit is None or owner in turn.desk.throttled:
            continue
        bucket = turn.flow.executions.get(owner, FULL)
        if left(bucket, turn.now_ns, limit) > 0:
            bucket = take(bucket, turn.now_ns, limit)
        else:
            bucket = FULL
            turn.desk = attrs.evolve(turn.desk, throttled=turn.desk.throttled.set(owner, turn.n))
            whose = in_words(scope_text(turn.desk, strategy_scope(owner) if owner else ACCOUNT))
            text = f"{whose} has traded more than {limit.count} times within {limit.per_ms} ms; only reducing until a person re-enables it"
            turn.alert(Severity.CRITICAL, "execution_throttled", text)
        turn.flow = attrs.evolve(turn.flow, executions=turn.flow.executions.set(owner, bucket))
