"""A market gone mad, for ``test_exposure.py``: events of every kind that moves exposure, through the real ``step``, beside the ledger.

Plain seeded random, since it has to be fast; Hypothesis works on short sequences in the test module itself. A *life* is one session of some
thousand events with a contract, a start and habits of its own, drawn from its seed. Nothing here knows what is sensible: trades come
twice, late, beyond the quantity and after the end; busts and corrections come before their trades; totals run ahead of trades.
"""

from collections import Counter
from collections.abc import Callable
from random import Random

from haltcore.effects import Alert, Denied, Effect, OrdType, Place, Price, Qty, QueryOrder, Replace, Side, Usd, qty
from haltcore.effects.values import SCALE
from haltcore.fsm.config import Config
from haltcore.fsm.core import EMPTY, Core
from haltcore.fsm.events import (
    CancelOrder,
    CancelRejected,
    Event,
    FetchedOrders,
    FetchedPositions,
    Found,
    Halt,
    InstrumentDefined,
    MarkPrice,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderHalted,
    OrderQueried,
    OrderRejected,
    OrderReplaced,
    OrderRow,
    Outcome,
    OutcomeKind,
    PositionRow,
    Positions,
    ReplaceOrder,
    ReplaceRejected,
    ReportStatus,
    SetReduceOnly,
    Started,
    SubmitOrder,
    TradeBusted,
    TradeCorrected,
    Verb,
)
from haltcore.fsm.instrument import UNIT, Contract, Instrument
from haltcore.fsm.limits import Limits
from haltcore.fsm.order import Order
from haltcore.fsm.outcomes import outcome
from haltcore.fsm.step import step

from .exposure_ledger import Key, Ledger

SYMBOLS = ("BTCUSDT", "ETHUSDT")
STRATEGIES = ("mm", "arb")
CONTRACTS = (UNIT, Contract(qty("0.001"), False), Contract(qty(100), False), Contract(qty(100), True), Contract(qty("0.03"), True))
BUY, SELL = Side.BUY, Side.SELL
T0 = 10**18
#: How many events a life has, and how often it is audited from scratch.
LIFE, AUDIT = 2_000, 125


class World:
    """One life. ``seen`` counts what has happened in it, so that a test can say that everything does."""

    def __init__(self, seed: int, seen: Counter[str]) -> None:
        self.random = random = Random(seed)
        self.seen = seen
        self.now = T0
        self.core: Core = EMPTY
        self.effects: tuple[Effect, ...] = ()
        self.keys: list[int] = []
        self.requests: dict[int, list[Place | Replace]] = {}
        self.queries: dict[int, QueryOrder] = {}
        self.trade_ids = 0
        self.teams = random.random() < 0.75
        contracts = [random.choice(CONTRACTS) for _ in SYMBOLS]
        self.ledger = Ledger(contracts)
        self.moves, self.weights = zip(*MOVES.items(), strict=True)
        self._begin(contracts)

    def _begin(self, contracts: list[Contract]) -> None:
        """Instruments, positions with and without a price; in some lives no book of resting prices is kept."""
        random = self.random
        limits = Limits(prevent_self_match=random.random() < 0.5)
        self._step(Started(self.now, Config("expo001", SYMBOLS, limits, strategies=STRATEGIES if self.teams else ())))
        *lists, positions = self.effects
        for sym, contract in enumerate(contracts):
            if contract != UNIT:
                self._step(InstrumentDefined(self.now, SYMBOLS[sym], Instrument(multiplier=contract.multiplier, inverse=contract.inverse)))
                self.ledger.book(0, sym)
        rows = []
        for sym, symbol in enumerate(SYMBOLS):
            if random.random() < 0.6:
                row = PositionRow(symbol, self.amount(SELL if random.random() < 0.5 else BUY), random.choice((None, self.price())))
                rows.append(row)
                self.ledger.open_with(sym, row.qty, row.mark)
                self.seen["opening position" if row.mark else "unpriced opening position"] += 1
        for effect in lists:
            self._step(OpenOrders(self.now, effect.id, "", effect.conditional, FetchedOrders(())))  # type: ignore[union-attr]
        self._step(Positions(self.now, positions.id, FetchedPositions(tuple(rows))))

    # --- one event -------------------------------------------------------------------------------------------------

    def live(self, events: int) -> int:
        """Let so many events happen; how many did."""
        for number in range(events):
            kind = self.random.choices(self.moves, self.weights)[0]
            self.now += self.random.randrange(1_000_000)
            event = MOVES_OF[kind](self)
            if event is not None:
                self.feed(event)
            if number % AUDIT == AUDIT - 1:
                self.ledger.audit(self.core, self.random)
        self.ledger.audit(self.core, self.random)
        return self.core.seq

    def feed(self, event: Event) -> None:
        """One event, in the core and in the ledger, and both compared."""
        ledger = self.ledger
        order = self._step(event)
        if order is not None:
            ledger.hear(order, event)
        books: dict[Key, None] = {}
        if isinstance(event, MarkPrice):
            sym = SYMBOLS.index(event.symbol)
            ledger.mark(sym, event.price)
            books = dict.fromkeys(key for key in ledger.books if key[1] == sym)
        for key in dict.fromkeys((*self.core.touched, *((order.key,) if order is not None else ()))):
            touched = self.core.order(key)
            assert touched is not None
            was = ledger.books[0, touched.spec.sym].position if (0, touched.spec.sym) in ledger.books else 0
            for filled, late in ledger.follow(touched, event):
                self.seen["late fill"] += late
                now = was + (filled if touched.spec.side is BUY else -filled)
                self.seen["flip through zero"] += (was > 0 > now) or (was < 0 < now)
            for owner in dict.fromkeys((0, touched.spec.owner)):
                books[owner, touched.spec.sym] = None
        for owner, sym in books:
            ledger.compare_book(self.core, owner, sym)
        ledger.compare_sums(self.core)

    def _step(self, event: Event) -> Order | None:
        """The core alone. The order that the event is a report about, if it is one."""
        self.core, self.effects = step(self.core, event)
        self.seen[type(event).__name__] += 1
        for effect in self.effects:
            if isinstance(effect, (Place, Replace)):
                self._sent(effect)
            elif isinstance(effect, QueryOrder):
                self.queries[effect.order] = effect
            elif isinstance(effect, (Alert, Denied)):
                self.seen[effect.code] += 1
        client_id: str = getattr(event, "client_id", "")
        return self.core.order(int(client_id[7:], 36)) if client_id else None

    def _sent(self, effect: Place | Replace) -> None:
        self.requests.setdefault(effect.order, []).append(effect)
        order = self.core.orders[effect.order]
        if isinstance(effect, Place):
            self.keys.append(effect.order)
            self.seen[order.spec.type.value] += 1
            if order.spec.reduce_only:
                self.seen["reduce-only order"] += 1
                book = self.core.books[order.spec.sym]
                room, asked = (-book.position, book.buy_qty) if order.spec.side is BUY else (book.position, book.sell_qty)
                assert 0 < asked <= room, "reduce-only orders together could flip the position"

    # --- draws -----------------------------------------------------------------------------------------------------

    def amount(self, side: Side = BUY) -> Qty:
        """A quantity; negative for a sell."""
        return Qty(self.random.randint(1, 12) * SCALE // self.random.choice((1, 1, 1_000)) * (1 if side is BUY else -1))

    def price(self) -> Price:
        """Around 100, with decimals that make no quotient even."""
        return Price(self.random.randint(900, 1_100) * SCALE // 10 + self.random.choice((0, 0, 7)))

    def order(self, ended: bool = True) -> Order | None:
        """One of the last orders, or any."""
        if not self.keys:
            return None
        key = self.random.choice(self.keys[-15:] if self.random.random() < 0.85 else self.keys)
        return self.core.orders.get(key) or (self.core.closed[key] if ended else None)

    def trade(self, order: Order) -> str:
        """The id of a trade that was, or of one that will perhaps be."""
        known = list(order.fills.trades)
        if known and self.random.random() < 0.8:
            return self.random.choice(known)
        return f"t{self.trade_ids + self.random.randint(0, 3)}"


# --- what may happen -----------------------------------------------------------------------------------------------------

Move = Callable[[World], Event | None]
#: Every move with its weight, and what it does.
MOVES: dict[str, int] = {}
MOVES_OF: dict[str, Move] = {}


def move(weight: int) -> Callable[[Move], Move]:
    """A row of ``MOVES``."""

    def put(function: Move) -> Move:
        MOVES[function.__name__], MOVES_OF[function.__name__] = weight, function
        return function

    return put


@move(22)
def submit(w: World) -> Event:
    random = w.random
    side, kind = random.choice((BUY, SELL)), random.choice((OrdType.LIMIT,) * 5 + tuple(OrdType))
    limit = w.price() if kind in (OrdType.LIMIT, OrdType.STOP_LIMIT) else None
    stop = w.price() if kind in (OrdType.STOP_LIMIT, OrdType.STOP_MARKET) else None
    strategy = random.choice(STRATEGIES) if w.teams else ""
    symbol, amount, only = random.choice(SYMBOLS), w.amount(), random.random() < 0.2
    position = w.core.books[SYMBOLS.index(symbol)].position if SYMBOLS.index(symbol) in w.core.books else 0
    if only and position:
        side, amount = SELL if position > 0 else BUY, Qty(random.randint(1, abs(position)))
    return SubmitOrder(w.now, symbol, side, amount, limit, kind, stop, reduce_only=only, strategy=strategy)


@move(14)
def accept(w: World) -> Event | None:
    order = w.order(ended=w.random.random() < 0.05)
    return OrderAccepted(w.now, order.spec.client_id, f"v{order.key}") if order is not None else None


@move(24)
def fill(w: World) -> Event | None:
    order, random = w.order(ended=w.random.random() < 0.15), w.random
    if order is None:
        return None
    w.trade_ids += 1
    left = order.leaves_qty
    last = random.choice((left, left, Qty(random.randint(1, left)), w.amount())) if left else w.amount()
    trade_id = w.trade(order) if random.random() < 0.15 else f"t{w.trade_ids}"
    cum = random.choice((0, 0, order.cum_qty + last, order.cum_qty + last + SCALE, order.cum_qty))
    last = Qty(0) if random.random() < 0.01 else last
    fee = Usd(random.randint(-50, 200) * 10**9)
    return OrderFilled(w.now, order.spec.client_id, f"v{order.key}", trade_id, last, w.price(), Qty(cum), fee)


@move(3)
def bust(w: World) -> Event | None:
    order = w.order()
    return TradeBusted(w.now, order.spec.client_id, w.trade(order)) if order is not None else None


@move(3)
def correct(w: World) -> Event | None:
    order = w.order()
    return TradeCorrected(w.now, order.spec.client_id, w.trade(order), w.amount(), w.price()) if order is not None else None


@move(6)
def end(w: World) -> Event | None:
    order, random = w.order(ended=w.random.random() < 0.1), w.random
    if order is None:
        return None
    cum = Qty(random.choice((0, order.cum_qty, order.cum_qty, order.cum_qty + SCALE)))
    client_id = order.spec.client_id
    return random.choice(
        (OrderCancelled(w.now, client_id, cum), OrderExpired(w.now, client_id, cum), OrderRejected(w.now, client_id, "margin"))
    )


@move(3)
def cancel(w: World) -> Event | None:
    order = w.order(ended=False)
    return CancelOrder(w.now, order.key) if order is not None else None


@move(8)
def replace(w: World) -> Event | None:
    order = w.order(ended=False)
    if order is None:
        return None
    return ReplaceOrder(w.now, order.key, Qty(order.cum_qty * w.random.randint(0, 1) + w.amount()), w.price() if order.price else None)


@move(7)
def replaced(w: World) -> Event | None:
    """As asked, mostly; sometimes as nobody asked."""
    order = w.order(ended=w.random.random() < 0.05)
    if order is None:
        return None
    pending = order.requests.replace
    if pending is not None and w.random.random() < 0.8:
        return OrderReplaced(w.now, order.spec.client_id, f"v{order.key}", pending.qty, pending.price)
    if w.random.random() < 0.8:
        return None
    return OrderReplaced(w.now, order.spec.client_id, "", w.amount(), w.price() if order.price else None)


@move(3)
def refuse(w: World) -> Event | None:
    order = w.order()
    if order is None:
        return None
    refused = ReplaceRejected if w.random.random() < 0.7 else CancelRejected
    return refused(w.now, order.spec.client_id, "too late")


@move(2)
def halt(w: World) -> Event | None:
    order = w.order()
    return OrderHalted(w.now, order.spec.client_id, w.random.choice(tuple(Halt))) if order is not None else None


@move(7)
def settle(w: World) -> Event | None:
    """What became of a request."""
    order = w.order()
    if order is None or not w.requests[order.key]:
        return None
    kind = w.random.choice((OutcomeKind.ACKNOWLEDGED,) * 5 + tuple(OutcomeKind))
    return outcome(w.random.choice(w.requests[order.key]), w.now, kind)


@move(1)
def doubt_a_cancel(w: World) -> Event | None:
    order = w.order(ended=False)
    effect = order.requests.cancel if order is not None else None
    if order is None or effect is None:
        return None
    return Outcome(w.now, effect, Verb.CANCEL, order.key, w.random.choice(tuple(OutcomeKind)))


def described(w: World, order: Order, status: ReportStatus) -> OrderRow:
    """The order as a venue says it that may have heard more, or less, than we."""
    random = w.random
    pending = order.requests.replace
    size, at = (pending.qty, pending.price) if pending is not None and random.random() < 0.5 else (order.qty, order.price)
    cum = Qty(random.choice((order.cum_qty, order.cum_qty, 0, min(size, order.cum_qty + SCALE))))
    average = random.choice((None, w.price(), Price(0)))
    regular = not order.spec.conditional or random.random() < 0.3
    s = order.spec
    return OrderRow(s.client_id, f"v{order.key}", s.symbol, s.side, status, size, at, cum, average, not regular, status.value)


@move(8)
def answer(w: World) -> Event | None:
    """A question is answered."""
    if not w.queries:
        return None
    key, query = w.queries.popitem()
    order = w.core.order(key)
    assert order is not None
    # Time enough for a request to have arrived, so that "not found" is evidence.
    w.now += w.random.choice((0, 10 * 10**9))
    kind = w.random.choice((ReportStatus.OPEN, *ReportStatus, None))
    return OrderQueried(w.now, query.id, key, Found(described(w, order, kind)) if kind is not None else NotFound())


@move(1)
def listing(w: World) -> Event:
    """A list of open orders that nobody waits for: evidence all the same."""
    listed = {order.key: order for order in (w.order() for _ in range(4)) if order is not None}
    rows = [described(w, order, ReportStatus.OPEN) for order in listed.values()]
    return OpenOrders(w.now, (1, 99), "", False, FetchedOrders(tuple(rows)))


@move(5)
def mark(w: World) -> Event:
    return MarkPrice(w.now, w.random.choice(SYMBOLS), w.price())


@move(1)
def reduce_only(w: World) -> Event:
    on = w.core.desk is not None and not any(control.mode == "reduce_only" for control in w.core.desk.controls.values())
    return SetReduceOnly(w.now, "", on and w.random.random() < 0.1, "tester", "a test")
