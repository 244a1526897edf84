"""What the runner needs from the world: five ports, so that simulation and live run the very same runner.

==========  ==============================================  ============================================
port        live                                            simulated
==========  ==============================================  ============================================
loop        asyncio's own                                   ``virtual_time.VirtualTimeLoop``
Clock       ``clock.WallClock``                             ``clock.LoopClock``
Venue       an exchange adapter, or ``paper.PaperVenue``    ``paper.PaperVenue``
Store       ``redis_store.RedisStore``; for one process,    ``memory_store.MemoryStore``
            ``memory_store.MemoryStore``
Disk        ``disk.RealDisk``                               a disk in memory that can fill up and tear
==========  ==============================================  ============================================
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, get_args

from ..effects import Effect, Performer
from ..fsm.events import (
    Event,
    Evidence,
    Heartbeat,
    InstrumentDefined,
    MarkPrice,
    OpenOrders,
    OrderQueried,
    Outcome,
    Positions,
    VenueLink,
)

#: What a venue knows and nobody else does: its reports about orders, its terms, its prices. Commands are not among it: an order, a freeze
#: and its end are the bot's and the operators' own, and a venue that could say them would trade, and unfreeze, in their name.
VenueReport: TypeAlias = Evidence | InstrumentDefined | MarkPrice
#: What came of an effect, as a venue answers it.
VenueAnswer: TypeAlias = Outcome | OrderQueried | OpenOrders | Positions
#: What the runner takes from a venue adapter beside answers: the venue's reports, and the adapter's own word on the way to it.
REPORTED: Final[tuple[type[Event], ...]] = get_args(VenueReport | VenueLink | Heartbeat)

Emit = Callable[[Event], None]
NowNs = Callable[[], int]
#: Asked at the last moment before a request leaves: "" to send, else the stable code why not.
MaySend = Callable[[Effect], str]


class Clock(Protocol):
    """UTC nanoseconds that never go back within one process."""

    def now_ns(self) -> int:
        """The present."""
        ...

    def offset_ns(self) -> int:
        """How far the system's wall clock, which can be set, is ahead of this one now; 0 where there is no such clock."""
        ...


class Venue(Performer[Event], Protocol):
    """An exchange. Serves the effects whose part is VENUE.

    Duties of an implementation:

    1. ``may_send(effect)`` is asked at the instant before the bytes leave, after every queue and throttle of the
       implementation's own. A code that is not empty means: do not send, answer REFUSED with that code. These codes stand in
       ``fsm.freeze.HELD_BACK``; a refusal of the venue's own must not have one of them, or it is not counted as one.
    2. No retry of its own. The core decides on retries.
    3. Reports about orders go to ``emit`` when they arrive, or stand in what ``perform`` returns, before the outcome. An answer to an
       effect (an event with a field ``effect``) is only ever returned; an emitted one is dropped. Nothing is taken but what stands in
       :data:`REPORTED`: an adapter that says anything else, a command say, is broken or has been taken over, and the account freezes.
    4. A reply after the time-out is still evidence: emit it.
    5. What answers what: ``Place``, ``Replace`` and the cancels are answered by ``fsm.outcomes.outcome(effect, ...)``, ``QueryOrder`` by
       ``OrderQueried``, ``FetchOpenOrders`` by ``OpenOrders``, ``FetchPositions`` by ``Positions``; ``fsm.outcomes.failed`` makes the
       failed answer of each. An acknowledged place or cancel needs its report as well (``OrderAccepted``, ``OrderCancelled``); an order
       whose report stays away for ``Config.evidence_ms`` is asked for.
    6. Say ``VenueLink(up=False)`` when the stream of reports is lost, and ``up=True`` when it is back.
    7. Where the venue replaces by cancelling and placing anew, report ``OrderReplaced`` under the one client id; the old leg's cancel
       is not the order's (nautilus_trader#4288). Trade ids are unique per order. A refusal because the client id exists has the reason
       ``DUPLICATE_CLIENT_ID``.
    """

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """Begin to report. A later call takes the place of an earlier one, as when a process starts anew."""
        ...

    async def close(self) -> None:
        """Stop reporting."""
        ...


class Store(Performer[Event], Protocol):
    """Coordination between processes. Serves the effects whose part is STORE."""

    def connect(self, now_ns: NowNs, holder: str, author: str) -> None:
        """Name this process towards the others; validity is computed on its own clock. ``author`` is the session, which a restart
        continues: the rows of the freeze latch are published under it."""
        ...

    async def close(self) -> None:
        """Let go of the connection, and of a lease that this process may hold; one that cannot be released runs out."""
        ...
