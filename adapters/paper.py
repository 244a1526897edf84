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
    CancelTarget,
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
from ..fsm.config import VenueTraits
from ..fsm.events import (
    EVIDENCE_CLASSES,
    CancelRejected,
    Event,
    FetchedOrders,
    FetchedPositions,
    Found,
    InstrumentDefined,
    NotFound,
    OpenOrders,
    OrderCancelled,
    OrderQueried,
    OrderRejected,
    OrderRow,
    OutcomeKind,
    Positions,
    ReplaceRejected,
)
from ..fsm.instrument import Instrument
from ..fsm.outcomes import failed, outcome
from .faults import Drawn, Fault, FaultPlan, FaultSource
from .ladder import Ticket
from .matching import Exchange
from .ports import Emit, MaySend, NowNs

SERVES: tuple[type[Effect], ...] = (
    Place, Replace, Cancel, CancelBatch, CancelAll, QueryOrder, FetchOpenOrders, FetchPositions,
)  # fmt: skip
NS_PER_MS = 1_000_000
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
    """One process's connection: its callbacks, its requests that wait, its reports under way in order."""

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
        self._last_ns = 0
        self._banned_until_ns = 0
        self._arrivals: deque[int] = deque()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._timers_set = 0

    # --- the port ---------------------------------------------------------------------------------------------------

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """Serve this process from now on. Whoever still waits on an earlier connection is answered IN_DOUBT."""
        self._disconnect("a new process has connected", now_ns())
        self._link = _Link(emit, now_ns, may_send)
        for symbol, instrument in self.exchange.instruments.items():
            emit(InstrumentDefined(now_ns(), symbol, instrument))

    async def close(self) -> None:
        """Stop. Requests that wait are answered IN_DOUBT; whatever is under way is lost, and no timer is left behind."""
        self._disconnect("the connection was closed", self._now())
        self._link = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def perform(self, effect: Effect) -> list[Event]:
        """Send one request and wait for what comes of it. Never raises for anything that the venue or the network does."""
        if type(effect) not in SERVES:
            raise TypeError(f"{type(effect).__name__} is no request to a venue; route it to the performer that serves it")
        link = self._link
        if link is None:
            return [failed(effect, self._last_ns, OutcomeKind.UNAVAILABLE, "not_connected", "nobody has connected to the venue")]
        code = link.may_send(effect)
        if code:
            return [failed(effect, link.now_ns(), OutcomeKind.REFUSED, code, "held back at the instant of sending")]
        now_ns = self._now()
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
        if self._link is not None:
            self._link.emit(InstrumentDefined(self._now(), symbol, instrument))

    # --- the way there ----------------------------------------------------------------------------------------------

    def _arrive(self, request: _Request) -> None:
        now_ns = self._now()
        answers = self._turned_away(request, now_ns)
        if answers:
            self._travel(0, self._deliver, request, answers)
            return
        events = self._apply(request, now_ns)
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
            return _replied(effect, OrderRejected(now_ns, effect.client_id, "request_expired"))
        return [failed(effect, now_ns, OutcomeKind.UNAVAILABLE, "request_expired", "the request arrived outside of its time window")]

    def _apply(self, request: _Request, now_ns: int) -> list[Event]:
        effect, exchange, drawn = request.effect, self.exchange, request.drawn
        if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
            if drawn.fault is Fault.CROSSING_FILL:
                self._cross(effect, now_ns)
            return self._cancel(effect, drawn.fault, now_ns)
        if isinstance(effect, Place):
            self.placed[effect.client_id] += 1
            return _replied(effect, exchange.place(Ticket.of(effect), now_ns))
        if isinstance(effect, Replace):
            return _replied(
                effect, exchange.replace(effect.symbol, effect.client_id, effect.venue_id, effect.qty, effect.price, now_ns)
            )
        if isinstance(effect, QueryOrder):
            row = exchange.query(effect.symbol, effect.client_id, effect.venue_id, effect.conditional)
            return [OrderQueried(now_ns, effect.id, effect.order, NotFound() if row is None else Found(row))]
        if isinstance(effect, FetchOpenOrders):
            as_of_ns = now_ns - drawn.ms * NS_PER_MS if drawn.fault is Fault.STALE_SNAPSHOT else None
            rows = exchange.open_orders(effect.symbol, effect.conditional, as_of_ns)
            return [OpenOrders(now_ns, effect.id, effect.symbol, effect.conditional, FetchedOrders(rows))]
        return [Positions(now_ns, effect.id, FetchedPositions(exchange.positions()))]

    def _cancel(self, effect: Cancel | CancelBatch | CancelAll, fault: Fault, now_ns: int) -> list[Event]:
        if isinstance(effect, Cancel):
            return _replied(effect, self._cancel_one(effect, effect.target, now_ns))
        if effect.symbol not in self.exchange.symbols:
            return [failed(effect, now_ns, OutcomeKind.REFUSED, "unknown_symbol", f"{effect.symbol!r} is not traded here")]
        done = outcome(effect, now_ns, OutcomeKind.ACKNOWLEDGED)
        if isinstance(effect, CancelBatch):
            return [*(self._cancel_one(effect, target, now_ns) for target in effect.targets), done]
        if fault is Fault.CANCEL_ALL_MISSES_STOPS:
            return [done]
        spared: list[str] = []
        if fault is Fault.CANCEL_ALL_SUBSET:
            spared = self._faults.spared([row.venue_id for row in self.exchange.open_orders(effect.symbol, effect.conditional)])
        self.exchange.cancel_all(effect.symbol, effect.conditional, now_ns, spared)
        return [done]

    def _cancel_one(self, effect: Cancel | CancelBatch, target: CancelTarget, now_ns: int) -> OrderCancelled | CancelRejected:
        return self.exchange.cancel(effect.symbol, target.client_id, target.venue_id, effect.conditional, now_ns)

    def _cross(self, effect: Cancel | CancelBatch | CancelAll, now_ns: int) -> None:
        """A counterparty takes from the first order that this request would cancel."""
        for row in self.exchange.open_orders(effect.symbol, effect.conditional):
            if _aims_at(effect, row):
                self.exchange.hit(row.venue_id, Qty(self._faults.part(row.qty - row.cum_qty)), now_ns)
                return

    # --- the way back -----------------------------------------------------------------------------------------------

    def _deliver(self, request: _Request, events: list[Event]) -> None:
        if request.link is not self._link:
            return
        stamped = [evolve(event, at_ns=self._now()) for event in events]
        if not request.reply.done():
            request.reply.set_result(stamped)
            return
        for event in stamped:
            if isinstance(event, EVIDENCE_CLASSES):
                self._link.emit(event)

    def _time_out(self, request: _Request) -> None:
        if not request.reply.done():
            answer = failed(request.effect, self._now(), OutcomeKind.IN_DOUBT, "timeout", f"no reply within {self._timeout_ms} ms")
            request.reply.set_result([answer])

    def _disconnect(self, text: str, now_ns: int) -> None:
        if self._link is None:
            return
        for request in self._link.waiting.values():
            if not request.reply.done():
                request.reply.set_result([failed(request.effect, now_ns, OutcomeKind.IN_DOUBT, "disconnected", text)])

    def _report(self, report: Event) -> None:
        """Send an execution report down the stream of whoever is connected; nobody keeps it for later."""
        link = self._link
        if link is None:
            return
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
        if link is self._link:
            link.emit(evolve(report, at_ns=self._now()))

    # --- time -------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        if self._link is not None:
            self._last_ns = self._link.now_ns()
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


def _ms_up(ns: int) -> int:
    """Whole milliseconds, rounded up: who waits that long has waited long enough."""
    return -(-ns // NS_PER_MS)


def _replied(effect: Effect, reply: Event) -> list[Event]:
    """The exchange's word about one order, and the outcome that it means."""
    if isinstance(reply, (OrderRejected, CancelRejected, ReplaceRejected)):
        return [reply, failed(effect, reply.at_ns, OutcomeKind.REFUSED, reply.reason)]
    return [reply, outcome(effect, reply.at_ns, OutcomeKind.ACKNOWLEDGED)]


def _aims_at(effect: Cancel | CancelBatch | CancelAll, row: OrderRow) -> bool:
    if isinstance(effect, CancelAll):
        return True
    targets = effect.targets if isinstance(effect, CancelBatch) else (effect.target,)
    return any(row.client_id == target.client_id if target.client_id else row.venue_id == target.venue_id for target in targets)
