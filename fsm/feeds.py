"""Market data that must not stay away: one timer per feed that a limit names.

A feed is the account's (any heartbeat, mark price or edge keeps it alive) or a symbol's (its own only). The feeds are armed when the
session begins or goes on, and anew when the limits change. Data only notes the moment; the timer, when it fires, looks how long ago
that was, and either goes on for the rest or freezes the scope. While the scope is frozen there is no timer until data comes again: the
silence was reported. Whoever lifts the freeze in spite of it gets the limit's time once more, and then the scope freezes again; to
go on without the feed, change the limit.

A feed of which nothing was heard yet counts from when it is looked after, but the gate takes it for lost until data comes.
"""

import attrs
from immutables import Map

from ..effects import EffectId, Mode, Purpose, Trigger
from .cool_down import timer_key, timer_scope
from .core import ACCOUNT, Feed, scope_symbol
from .freeze import trip
from .thresholds import amount, feed_is_stale, scopes_with
from .turn import NS_PER_MS, Turn

_LIMIT = "feed_lost_ms"
_FROZEN = (Mode.FREEZING, Mode.FROZEN)


def arm(turn: Turn) -> None:
    """Look after the feeds that limits name now, and no others. Those that are not looked after yet count from now, the others from their
    last data: a silence that is too long for the limit of now freezes, and one that is not is waited for."""
    feeds: Map[int, Feed] = Map()
    for scope in scopes_with(turn.desk, _LIMIT):
        if amount(turn.desk, turn.now_ns, scope, _LIMIT) is None:
            continue
        feed = turn.flow.feeds.get(scope, Feed(turn.now_ns, None))
        feeds = feeds.set(scope, attrs.evolve(feed, timer=_timer(turn, scope, feed.last_ns)))
    if feeds or turn.flow.feeds:
        turn.flow = attrs.evolve(turn.flow, feeds=feeds)


def go_on(turn: Turn) -> None:
    """Modes have changed. Where a freeze was lifted while the feed is silent, the silence counts from now."""
    for scope in sorted(turn.flow.feeds.keys()):
        feed, control = turn.flow.feeds[scope], turn.desk.controls.get(scope)
        if feed.timer is None and (control is None or control.mode not in _FROZEN):
            again = attrs.evolve(feed, timer=_timer(turn, scope, turn.now_ns))
            turn.flow = attrs.evolve(turn.flow, feeds=turn.flow.feeds.set(scope, again))


def heard(turn: Turn, symbol_scope: int) -> None:
    """Data of this symbol has come; ``ACCOUNT`` is data of no symbol."""
    feeds = turn.flow.feeds
    if not feeds:
        return
    for scope in dict.fromkeys((ACCOUNT, symbol_scope)):
        feed = feeds.get(scope)
        if feed is not None:
            feeds = feeds.set(scope, Feed(turn.now_ns, feed.timer or _timer(turn, scope, turn.now_ns), heard=True))
    turn.flow = attrs.evolve(turn.flow, feeds=feeds)


def on_timer(turn: Turn, effect: EffectId, key: int) -> None:
    """Look how long the data has been away."""
    scope = timer_scope(key)
    feed = turn.flow.feeds.get(scope)
    if feed is None or feed.timer != effect:
        return
    lost = feed_is_stale(turn.desk, turn.flow, turn.now_ns, scope)
    timer = None if lost else _timer(turn, scope, feed.last_ns)
    turn.flow = attrs.evolve(turn.flow, feeds=turn.flow.feeds.set(scope, attrs.evolve(feed, timer=timer)))
    if lost:
        limit = amount(turn.desk, turn.now_ns, scope, _LIMIT) or 0
        whose = scope_symbol(turn.desk, scope) or "any symbol"
        silent = (turn.now_ns - feed.last_ns) // NS_PER_MS
        metadata = (("symbol", scope_symbol(turn.desk, scope)), ("value", str(silent)), ("threshold", str(limit)), ("unit", "ms"))
        trip(turn, scope, Trigger.FEED_LOST, f"no market data of {whose} for {silent} ms, the limit is {limit} ms", metadata)


def _timer(turn: Turn, scope: int, last_ns: int) -> EffectId | None:
    limit = amount(turn.desk, turn.now_ns, scope, _LIMIT)
    if limit is None:
        return None
    return turn.timer(max(0, last_ns + limit * NS_PER_MS - turn.now_ns), Purpose.FEED, timer_key(scope))
