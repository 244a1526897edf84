"""Why a freeze begins: every trigger, as a table.

A row says what is watched, which scope it freezes, and where it is configured; what it is compared with stands in the record that it
leaves. Some are said from outside (a person, another process, the runner, the journal), the others the core sees by itself
(``watch.py``).

The *class* says what kind of reason it is, and so who may end the freeze: a reason of network or edge may pass by itself, and where the
configuration allows, the freeze ends after a cool-down (``cool_down.py``). A position does not heal, what a person froze a person
lifts, and what went wrong inside has to be looked at.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ..effects import Trigger
from .config import FreezeClass


@frozen
class Row:
    """One trigger. ``configured`` is where it is switched on; a trigger that cannot be switched off says so."""

    trigger: Trigger
    kind: FreezeClass
    watches: str
    scope: str
    configured: str


#: Every trigger, by class. Generated into ``spec/risk.md``.
TRIGGERS: Final[tuple[Row, ...]] = (
    Row(
        Trigger.EDGE_COLLAPSE, FreezeClass.EDGE, "an edge below the threshold; the overall edge counts for the account alone",
        "account, symbol", "edge_freeze_threshold_bps",
    ),
    Row(Trigger.FEED_LOST, FreezeClass.NETWORK, "no heartbeat, mark price or edge for that long", "account, symbol", "feed_lost_ms"),
    Row(Trigger.VENUE_LOST, FreezeClass.NETWORK, "the connection to the venue down for that long", "venue", "venue_lost_ms"),
    Row(
        Trigger.REJECT_STORM, FreezeClass.NETWORK, "more orders refused by the venue than that, not counting what we held back",
        "account", "triggers.reject_storm",
    ),
    Row(Trigger.BREAKER_OPEN, FreezeClass.NETWORK, "the circuit breaker of any kind of job opens", "account", "triggers.breaker_open"),
    Row(
        Trigger.LIMIT_VIOLATION, FreezeClass.POSITION, "a report, not a command or a mark, takes a worst case beyond its limit",
        "account, symbol, strategy", "max_inventory_usd, max_total_notional",
    ),
    Row(Trigger.LOSS, FreezeClass.POSITION, "the result below the day's first by more", "account, symbol, strategy", "max_daily_loss"),
    Row(Trigger.DRAWDOWN, FreezeClass.POSITION, "the result below the day's highest by more", "account, symbol, strategy", "max_drawdown"),
    Row(Trigger.MANUAL, FreezeClass.MANUAL, "a person, or a part of the bot, says freeze", "any", "always"),
    Row(Trigger.PEER, FreezeClass.MANUAL, "the store's latch shows a scope that another process has frozen", "any", "store"),
    Row(Trigger.STOPPING, FreezeClass.MANUAL, "the runner stops, and is to leave nothing open", "account", "always"),
    Row(
        Trigger.CLOCK_JUMP, FreezeClass.INTERNAL, "an event stamped earlier than the one before, or a wall clock that steps, by more",
        "account", "triggers.clock_jump_ms",
    ),
    Row(Trigger.JOURNAL, FreezeClass.INTERNAL, "the journal cannot be written", "account", "always"),
    Row(
        Trigger.INVARIANT, FreezeClass.INTERNAL, "a promise of the core is broken, or the venue holds an order of ours that no log knows",
        "account", "always",
    ),
)  # fmt: skip

#: The class of each trigger's reason.
CLASS_OF: Final[Mapping[Trigger, FreezeClass]] = MappingProxyType({row.trigger: row.kind for row in TRIGGERS})
