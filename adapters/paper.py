"""The paper venue: the :class:`~haltcore.adapters.matching.Exchange` behind a network that delays, loses, repeats and lies.

What happens to a request, and where the fault plan (see ``faults``) can bend it::

    may_send? --no--> REFUSED, nothing left
        |
      leaves ----> [travels] ----> arrives: ban? rate limit? expired? ----> the exchange applies it
        |                                                                        |           |
    time-out: IN_DOUBT <---- whichever is first ----> reply <---- [travels] -----+           +--> execution reports,
                                                        |                                         on a stream of their own
                                          after the time-out: its evidence is emitted

Two clocks are at work. The running loop's ``call_later`` moves messages, so on a virtual-time loop a day passes at once and
always in the same order. The runner's ``now_ns`` stamps what arrives: ``at_ns`` is when the bot learned of it.

A request that reaches the venue more than ``place_expiry_ms`` after it left is refused, as Binance does by its ``recvWindow``; only
that makes "not found" a proof at some moment. A process that dies and starts anew connects again: nothing is told to the
old one any more, but what it had sent arrives all the same.

Several processes of one account are several connections: the venue itself is one, and :meth:`PaperVenue.session` makes others. All see
the same books and each other's orders in lists. A report goes to the session whose tag the order's client id begins with, if there is one
of that tag, else to everybody; while that session has no connection it is lost, like any report to one that is away.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field

from ..effects import (
    Cancel,
    CancelAll,
    CancelBatch,
    Effect,
    FetchOpenOrders,
    FetchPositions,
    Place,
    Price,
    Qty,
    QueryOrder,
    Replace,
    Side,
    TimeInForce,
)
from ..effects.ids import TAG_LENGTH
from ..fsm.config import VenueTraits
from ..fsm.events import EVIDENCE_CLASSES, Event, InstrumentDefined, OrderRejected, OutcomeKind
from ..fsm.instrument import Instrument
from ..fsm.outcomes import failed
from .faults import Drawn, Fault, FaultPlan, FaultSource
from .ladder import Ticket
from .matching import Exchange
from .paper_requests import NS_PER_MS, carry_out, replied
from .ports import Emit, MaySend, NowNs

SERVES: tuple[type[Effect], ...] = (
    Place, Replace, Cancel, CancelBatch, CancelAll, QueryOrder, FetchOpenOrders, FetchPositions,
)  # fmt: skip
NS_PER_S = 1_000_000_000

#: What is answered instead of the reply: kind, code, text. The codes are HTTP's.
_ANSWERS = {
    Fault.RATE_LIMIT: (OutcomeKind.UNAVAILABLE, "429", "Too many requests."),
    Fault.BAN: (OutcomeKind.UNAVAILABLE, "418", "Too many requests; the address is banned."),
    Fault.ERROR_APPLIED: (OutcomeKind.IN_DOUBT, "500", "Internal error."),
    Fault.ERROR_NOT_APPLIED: (OutcomeKind.IN_DOUBT, "500", "Internal error."),
    Fault.UNKNOWN_ERROR: (OutcomeKind.IN_DOUBT, "503", "Unknown error, please check your request or try again later."),
    Fault.SERVICE_UNAVAILABLE: (OutcomeKind.UNAVAILABLE, "503", "Service Unavailable."),
}
_NOT_APPLIED = (Fault.RATE_LIMIT, Fault.BAN, Fault.ERROR_NOT_APPLIED, Fault.SERVICE_UNAVAILABLE)
_APPLIED = (Fault.ERROR_APPLIED, Fault.UNKNOWN_ERROR)


@define(eq=False)
class _Link:
    """One process's connection: its session's tag, its callbacks, its requests that wait, its reports under way in order."""

    tag: str
    emit: Emit
    now_ns: NowNs
    may_send: MaySend
    waiting: "dict[int, _Request]" = field(factory=dict)
    stream: deque[Event] = field(factory=deque)


@define(eq=False)
class _Request:
    effect: Effect
    link: _Link
    drawn: Drawn
    sent_ns: int
    reply: "asyncio.Future[list[Event]]"


class PaperVenue:
    """A simulated venue for tests, demo and paper trading. Implements :class:`~haltcore.adapters.ports.Venue`.

    ``instruments`` are its terms by symbol, told to whoever connects; a symbol without any takes every order. ``latency_ms`` bounds each
    trip, one way. ``timeout_ms`` is how long ``perform`` waits for a reply. ``rate_limit`` is requests per second, None for no limit.
    The same seeds, symbols and calls give the same events. ``exchange`` is the truth that the bot cannot see; ``sent`` holds every
    request that left, ``placed`` how many place requests per client id came as far as the books.
    """

    serves: Sequence[type[Effect]] = SERVES

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        seed: int = 0,
        faults: FaultPlan | None = None,
        latency_ms: tuple[int, int] = (1, 5),
        timeout_ms: int = 1_000,
        rate_limit: int | None = None,
        place_expiry_ms: int = VenueTraits().place_expiry_ms,
        instruments: Mapping[str, Instrument] | None = None,
    ) -> None:
        self.exchange = Exchange(symbols, self._report, instruments)
        self.sent: list[Effect] = []
        self.placed: Counter[str] = Counter()
        self._faults = FaultSource(faults or FaultPlan())
        self._trips = random.Random(f"{seed}/trips")
        self._latency_ms = latency_ms
        self._timeout_ms = timeout_ms
        self._rate_limit = rate_limit
        self._place_expiry_ms = place_expiry_ms
        self._link: _Link | None = None
        self._links: list[_Link] = []
        self._tags: dict[str, None] = {}
        self._last_ns = 0
        self._banned_until_ns = 0
        self._arrivals: deque[int] = deque()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._timers_set = 0

    # --- the port ---------------------------------------------------------------------------------------------------

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """Serve this process from now on. Whoever still waits on an earlier connection is answered IN_DOUBT."""
        self._link = self._open(self._link, _Link("", emit, now_ns, may_send))

    async def close(self) -> None:
        """Stop. Requests that wait are answered IN_DOUBT; whatever is under way is lost, and no timer is left behind."""
        for link in tuple(self._links):
            self._shut(link, "the connection was closed", link.now_ns())
        self._link = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def perform(self, effect: Effect) -> list[Event]:
        """Send one request and wait for what comes of it. Never raises for anything that the venue or the network does."""
        return await self._perform(self._link, effect)

    def session(self, tag: str) -> "PaperSession":
        """Another connection to this venue, for another process of the account. ``tag`` is what its client ids begin with, if anything."""
        if tag:
            self._tags[tag] = None
        return PaperSession(self, tag)

    def _open(self, old: _Link | None, new: _Link) -> _Link:
        if old is not None:
            self._shut(old, "a new process has connected", new.now_ns())
        self._links.append(new)
        for symbol, instrument in self.exchange.instruments.items():
            new.emit(InstrumentDefined(new.now_ns(), symbol, instrument))
        return new

    def _shut(self, link: _Link, text: str, now_ns: int) -> None:
        self._last_ns = now_ns
        self._links.remove(link)
        for request in link.waiting.values():
            if not request.reply.done():
                request.reply.set_result([failed(request.effect, now_ns, OutcomeKind.IN_DOUBT, "disconnected", text)])

    async def _perform(self, link: _Link | None, effect: Effect) -> list[Event]:
        if type(effect) not in SERVES:
            raise TypeError(f"{type(effect).__name__} is no request to a venue; route it to the performer that serves it")
        if link is None:
            return [failed(effect, self._last_ns, OutcomeKind.UNAVAILABLE, "not_connected", "nobody has connected to the venue")]
        code = link.may_send(effect)
        if code:
            return [failed(effect, link.now_ns(), OutcomeKind.REFUSED, code, "held back at the instant of sending")]
        now_ns = link.now_ns()
        drawn = self._faults.for_request(effect, now_ns, self._place_expiry_ms)
        request = _Request(effect, link, drawn, now_ns, asyncio.get_running_loop().create_future())
        self.sent.append(effect)
        number = len(self.sent)
        link.waiting[number] = request
        if drawn.fault is not Fault.REQUEST_LOST:
            self._travel(drawn.ms if drawn.fault is Fault.SLOW_REQUEST else 0, self._arrive, request)
        time_out = self._later(self._timeout_ms, self._time_out, request)
        try:
            return await request.reply
        finally:
            del link.waiting[number]
            self._drop(time_out)

    # --- for tests and demos ----------------------------------------------------------------------------------------

    @property
    def befell(self) -> Counter[Fault]:
        """How many faults of each kind have happened so far."""
        return self._faults.befell

    def quiet(self) -> None:
        """From now on everything goes well; a ban is over."""
        self._faults.quiet()

    def trade(
        self, symbol: str, side: Side, qty: Qty, price: Price | None = None, account: str = "taker", tif: TimeInForce = TimeInForce.IOC
    ) -> Event:
        """An order of a counterparty; see :meth:`Exchange.trade`."""
        return self.exchange.trade(symbol, side, qty, price, self._now(), account, tif)

    def by_hand(self, ticket: Ticket) -> Event:
        """An order on the bot's own account that the bot knows nothing of."""
        return self.exchange.place(ticket, self._now())

    def mark(self, symbol: str, price: Price) -> None:
        """A new mark price at the venue."""
        self.exchange.mark(symbol, price, self._now())

    def define(self, symbol: str, instrument: Instrument) -> None:
        """New terms for a symbol, from now on; orders that are open stay as they are."""
        self.exchange.instruments[symbol] = instrument
        for link in self._links:
            link.emit(InstrumentDefined(link.now_ns(), symbol, instrument))

    # --- the way there ----------------------------------------------------------------------------------------------

    def _arrive(self, request: _Request) -> None:
        now_ns = self._now()
        answers = self._turned_away(request, now_ns)
        if answers:
            self._travel(0, self._deliver, request, answers)
            return
        if isinstance(request.effect, Place):
            self.placed[request.effect.client_id] += 1
        events = carry_out(self.exchange, self._faults, request.effect, request.drawn, now_ns)
        fault = request.drawn.fault
        if fault is Fault.REPLY_LOST:
            return
        if fault in _APPLIED:
            events = [failed(request.effect, now_ns, *_ANSWERS[fault])]
        late_ms = self._timeout_ms + request.drawn.ms if fault is Fault.REPLY_LATE else 0
        self._travel(late_ms, self._deliver, request, events)

    def _turned_away(self, request: _Request, now_ns: int) -> list[Event]:
        """The answer to a request that does not come as far as the books; empty when it does."""
        effect, fault = request.effect, request.drawn.fault
        if fault is Fault.BAN:
            self._banned_until_ns = max(self._banned_until_ns, now_ns + request.drawn.ms * NS_PER_MS)
        if now_ns < self._banned_until_ns and not self._faults.is_quiet(now_ns):
            return [failed(effect, now_ns, *_ANSWERS[Fault.BAN], _ms_up(self._banned_until_ns - now_ns))]
        if self._rate_limit is not None:
            while self._arrivals and self._arrivals[0] <= now_ns - NS_PER_S:
                self._arrivals.popleft()
            if len(self._arrivals) >= self._rate_limit:
                return [failed(effect, now_ns, *_ANSWERS[Fault.RATE_LIMIT], _ms_up(self._arrivals[0] + NS_PER_S - now_ns))]
            self._arrivals.append(now_ns)
        if fault in _NOT_APPLIED:
            return [failed(effect, now_ns, *_ANSWERS[fault], request.drawn.ms)]
        if now_ns - request.sent_ns <= self._place_expiry_ms * NS_PER_MS:
            return []
        if isinstance(effect, Place):
            return replied(effect, OrderRejected(now_ns, effect.client_id, "request_expired"))
        return [failed(effect, now_ns, OutcomeKind.UNAVAILABLE, "request_expired", "the request arrived outside of its time window")]

    # --- the way back -----------------------------------------------------------------------------------------------

    def _deliver(self, request: _Request, events: list[Event]) -> None:
        link = request.link
        if link not in self._links:
            return
        stamped = [evolve(event, at_ns=link.now_ns()) for event in events]
        if not request.reply.done():
            request.reply.set_result(stamped)
            return
        for event in stamped:
            if isinstance(event, EVIDENCE_CLASSES):
                link.emit(event)

    def _time_out(self, request: _Request) -> None:
        if not request.reply.done():
            now_ns = request.link.now_ns()
            answer = failed(request.effect, now_ns, OutcomeKind.IN_DOUBT, "timeout", f"no reply within {self._timeout_ms} ms")
            request.reply.set_result([answer])

    def _report(self, report: Event) -> None:
        """Send an execution report down the stream of whoever it is for; nobody keeps it for later."""
        tag = getattr(report, "client_id", "")[:TAG_LENGTH]
        for link in self._links:
            if link.tag == tag or tag not in self._tags:
                self._report_to(link, report)

    def _report_to(self, link: _Link, report: Event) -> None:
        drawn = self._faults.for_report(report, self._now())
        if drawn.fault is Fault.REPORT_LOST:
            return
        if drawn.fault is Fault.REPORT_DELAYED:
            self._travel(drawn.ms, self._hand_over, link, report)
            return
        for _ in range(2 if drawn.fault is Fault.REPORT_DUPLICATED else 1):
            link.stream.append(report)
            self._travel(0, self._next_report, link)

    def _next_report(self, link: _Link) -> None:
        # Whichever trip is over first brings the oldest report: a stream keeps its order.
        self._hand_over(link, link.stream.popleft())

    def _hand_over(self, link: _Link, report: Event) -> None:
        if link in self._links:
            link.emit(evolve(report, at_ns=link.now_ns()))

    # --- time -------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        """The time at the venue, whose clock is that of the oldest connection."""
        if self._links:
            self._last_ns = self._links[0].now_ns()
        return self._last_ns

    def _travel(self, extra_ms: int, callback: Callable[..., None], *args: Any) -> None:
        low, high = self._latency_ms
        self._later(extra_ms + self._trips.randint(low * 1_000, high * 1_000) / 1_000, callback, *args)

    def _later(self, after_ms: float, callback: Callable[..., None], *args: Any) -> int:
        self._timers_set += 1
        number = self._timers_set
        self._timers[number] = asyncio.get_running_loop().call_later(after_ms / 1_000, self._fire, number, callback, args)
        return number

    def _fire(self, number: int, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        del self._timers[number]
        callback(*args)

    def _drop(self, number: int) -> None:
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()


class PaperSession:
    """One process's connection to a :class:`PaperVenue` that others use too; a venue like any other. Made by ``session``."""

    serves: Sequence[type[Effect]] = SERVES

    def __init__(self, venue: PaperVenue, tag: str) -> None:
        self._venue, self._tag = venue, tag
        self._link: _Link | None = None

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """As the venue's; the other connections stay."""
        self._link = self._venue._open(self._link, _Link(self._tag, emit, now_ns, may_send))

    async def close(self) -> None:
        """Let go of this connection alone. Requests that wait are answered IN_DOUBT; what is under way arrives all the same."""
        link, self._link = self._link, None
        if link is not None and link in self._venue._links:
            self._venue._shut(link, "the connection was closed", link.now_ns())

    async def perform(self, effect: Effect) -> list[Event]:
        """As the venue's."""
        return await self._venue._perform(self._link, effect)


def _ms_up(ns: int) -> int:
    """Whole milliseconds, rounded up: who waits that long has waited long enough."""
    return -(-ns // NS_PER_MS)
