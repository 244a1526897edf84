"""What the tests of the decision core share: a small configuration, and a session that feeds events through the real ``step``.

Every step of a ``Session`` checks all invariants, those of the step and those of the state, so each test of the core is a test of the
invariants too. Time stands still until a test moves it. Quantities and prices are given as text or whole numbers.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import attrs
from haltcore.effects import (
    NO_FENCE,
    AcquireLease,
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    Denied,
    Effect,
    EffectId,
    FetchOpenOrders,
    FetchPositions,
    Mode,
    OrdType,
    Place,
    Price,
    Purpose,
    Qty,
    QueryOrder,
    ReadFreeze,
    Rejected,
    SetTimer,
    Side,
    Trigger,
    Usd,
    price,
    qty,
)
from haltcore.effects.values import SCALE
from haltcore.fsm.codec import CONFIG, EFFECTS, EVENTS, STATE
from haltcore.fsm.config import Config, StorePolicy, SweepPolicy, VenueTraits
from haltcore.fsm.core import EMPTY, Core, scope_key
from haltcore.fsm.digest import digest
from haltcore.fsm.events import (
    CancelOrder,
    Event,
    FetchedOrders,
    FetchedPositions,
    FetchFailed,
    Found,
    Freeze,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    MarkPrice,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderQueried,
    OrderRejected,
    OrderRow,
    OutcomeKind,
    PositionRow,
    Positions,
    ReplaceOrder,
    ReportStatus,
    Restarted,
    Started,
    SubmitOrder,
    TimerFired,
    Unfreeze,
)
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.limits import Limits
from haltcore.fsm.order import Order, OrdStatus
from haltcore.fsm.outcomes import outcome
from haltcore.fsm.record import CHECKPOINT_EVERY, NO_HASH, header_line, record_line, seal_line
from haltcore.fsm.replay import Source
from haltcore.fsm.step import step

SESSION = "test001"
BTC, ETH = "BTCUSDT", "ETHUSDT"
BUY, SELL = Side.BUY, Side.SELL
MS = 1_000_000
T0 = 10**18
ACKNOWLEDGED, REFUSED, UNAVAILABLE, IN_DOUBT = OutcomeKind
Number = str | int
E = TypeVar("E")


def config(**fields: Any) -> Config:
    """A configuration of two symbols without limits and without a store; fields may be replaced."""
    return Config(**{"session": SESSION, "symbols": (BTC, ETH), **fields})


def row(order: Order, status: ReportStatus = ReportStatus.OPEN, **fields: Any) -> OrderRow:
    """The order as a venue would describe it that has heard the same as we."""
    s = order.spec
    described = OrderRow(
        s.client_id, order.venue_id or f"v{order.key}", s.symbol, s.side, status, order.qty, order.price, order.cum_qty, None,
        s.conditional, status.value,
    )  # fmt: skip
    return attrs.evolve(described, **fields)


def foreign_row(venue_id: str, symbol: str = BTC, conditional: bool = False) -> OrderRow:
    """An open order that is not ours."""
    return OrderRow("", venue_id, symbol, BUY, ReportStatus.OPEN, qty(1), price(10), Qty(0), None, conditional, "open")


class Session:
    """A core that is fed by a test. ``effects`` are those of the last step, ``history`` those of all steps, oldest first."""

    def __init__(self, conf: Config | None = None, ready: bool = True, thorough: bool = True, **fields: Any) -> None:
        # The invariants of the state walk over all orders: a test of very many looks at them when it pleases.
        self.thorough = thorough
        self.core: Core = EMPTY
        self.now = T0
        self.effects: tuple[Effect, ...] = ()
        self.history: list[Effect] = []
        self.events: list[Event] = []
        self.config = conf if conf is not None else config(**fields)
        self._trades = 0
        self.feed(Started(self.now, self.config))
        if ready:
            self.answer_stock()

    # --- feeding ---------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> tuple[Effect, ...]:
        """One step. Every invariant is checked."""
        before = self.core
        self.core, self.effects = step(before, event)
        assert broken(before, event, self.core, self.effects) == ()
        assert not self.thorough or broken_state(self.core) == ()
        self.history += self.effects
        self.events.append(event)
        return self.effects

    def wait(self, ms: int) -> None:
        """Let time pass; no timer fires by that (see ``fire``)."""
        self.now += ms * MS

    def fire(self, timer: SetTimer | None = None, purpose: Purpose | None = None) -> tuple[Effect, ...]:
        """Let a timer run out, by default the last one set (of that purpose). Time moves to when it is due."""
        if timer is None:
            timer = [t for t in self.all(SetTimer) if purpose in (None, t.purpose)][-1]
        self.now = max(self.now, timer.due_ns)
        return self.feed(TimerFired(self.now, timer.id, timer.purpose, timer.key))

    # --- looking ---------------------------------------------------------------------------------------------------

    def got(self, kind: type[E]) -> list[E]:
        """The effects of this class in the last step."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def one(self, kind: type[E]) -> E:
        """The single effect of this class in the last step."""
        (effect,) = self.got(kind)
        return effect

    def all(self, kind: type[E]) -> list[E]:
        """The effects of this class in all steps."""
        return [effect for effect in self.history if isinstance(effect, kind)]

    def codes(self) -> list[str]:
        """The codes of the last step's denials, rejections and alerts, in order."""
        return [effect.code for effect in self.effects if isinstance(effect, (Denied, Rejected, Alert))]

    def order(self, key: int) -> Order:
        """The order, working or finished."""
        order = self.core.order(key)
        assert order is not None
        return order

    def client_id(self, key: int) -> str:
        """The id under which the venue knows the order."""
        return self.order(key).spec.client_id

    def figures(self, key: int) -> tuple[OrdStatus, int, int]:
        """FIX 39, 14 and 151, the quantities in whole units."""
        order = self.order(key)
        return order.status, order.cum_qty // SCALE, order.leaves_qty // SCALE

    def mode(self, scope: str = "") -> Mode:
        """The mode of one scope."""
        desk = self.core.desk
        assert desk is not None
        key = scope_key(desk, scope)
        assert key is not None, f"{scope!r} is no scope"
        control = desk.controls.get(key)
        return control.mode if control is not None else Mode.ACTIVE

    def position(self, symbol: str = BTC) -> Qty:
        """What the books say we hold."""
        assert self.core.desk is not None
        book = self.core.books.get(self.core.desk.index[symbol])
        return book.position if book is not None else Qty(0)

    # --- commands --------------------------------------------------------------------------------------------------

    def ask(
        self, side: Side = BUY, amount: Number = 10, at: Number | None = 100, symbol: str = BTC, **fields: Any
    ) -> tuple[Effect, ...]:
        """Submit an order, whatever comes of it."""
        limit = price(at) if at is not None else None
        return self.feed(SubmitOrder(self.now, symbol, side, qty(amount), limit, **fields))

    def submit(self, side: Side = BUY, amount: Number = 10, at: Number | None = 100, symbol: str = BTC, **fields: Any) -> int:
        """Submit an order that the gate lets through; its key."""
        self.ask(side, amount, at, symbol, **fields)
        self.grant()
        return self.one(Place).order

    def grant(self) -> tuple[Effect, ...]:
        """The store grants the claim of the last step, if there is one."""
        for claim in self.got(ClaimGuard):
            until_ns = self.now + claim.valid_ms * MS
            self.feed(GuardAnswer(self.now, claim.id, claim.order, GuardKind.CLAIMED, until_ns, "", "", ""))
        return self.effects

    def working(self, side: Side = BUY, amount: Number = 10, at: Number | None = 100, symbol: str = BTC, **fields: Any) -> int:
        """Submit an order and let the venue take and accept it; its key."""
        key = self.submit(side, amount, at, symbol, **fields)
        self.outcome(self.one(Place))
        self.accept(key)
        return key

    def unknown(self, side: Side = BUY, amount: Number = 10, at: Number | None = 100, symbol: str = BTC) -> int:
        """Submit an order whose placing request is in doubt; its key. The question about it is under way."""
        key = self.submit(side, amount, at, symbol)
        self.outcome(self.one(Place), IN_DOUBT)
        return key

    def cancel(self, key: int) -> tuple[Effect, ...]:
        """Ask to cancel."""
        return self.feed(CancelOrder(self.now, key))

    def replace(self, key: int, amount: Number, at: Number | None = 100) -> tuple[Effect, ...]:
        """Ask to replace."""
        self.feed(ReplaceOrder(self.now, key, qty(amount), price(at) if at is not None else None))
        return self.grant()

    def freeze(self, symbol: str = "", trigger: Trigger = Trigger.MANUAL, reason: str = "a test") -> tuple[Effect, ...]:
        """Freeze a scope."""
        return self.feed(Freeze(self.now, symbol, trigger, reason, "tester"))

    def unfreeze(self, symbol: str = "", force: bool = False, by: str = "tester", why: str = "done") -> tuple[Effect, ...]:
        """Lift a freeze."""
        return self.feed(Unfreeze(self.now, symbol, by, why, force))

    def restart(self, conf: Config | None = None) -> tuple[Effect, ...]:
        """A new process continues the session."""
        return self.feed(Restarted(self.now, conf or self.config, "tester"))

    def mark(self, at: Number, symbol: str = BTC) -> tuple[Effect, ...]:
        """A mark price."""
        return self.feed(MarkPrice(self.now, symbol, price(at)))

    # --- evidence --------------------------------------------------------------------------------------------------

    def accept(self, key: int) -> tuple[Effect, ...]:
        """The venue says: live."""
        return self.feed(OrderAccepted(self.now, self.client_id(key), f"v{key}"))

    def reject(self, key: int, reason: str = "margin") -> tuple[Effect, ...]:
        """The venue says: refused."""
        return self.feed(OrderRejected(self.now, self.client_id(key), reason))

    def fill(
        self, key: int, amount: Number, at: Number = 100, trade: str | None = None, cum: Number = 0, fee: int = 0
    ) -> tuple[Effect, ...]:
        """A trade, with a new id unless one is given."""
        self._trades += 1
        event = OrderFilled(
            self.now, self.client_id(key), f"v{key}", trade or f"t{self._trades}", qty(amount), price(at), qty(cum), Usd(fee)
        )
        return self.feed(event)

    def cancelled(self, key: int, cum: Number = 0) -> tuple[Effect, ...]:
        """The venue says: cancelled."""
        return self.feed(OrderCancelled(self.now, self.client_id(key), qty(cum)))

    def expired(self, key: int, cum: Number = 0) -> tuple[Effect, ...]:
        """The venue says: expired."""
        return self.feed(OrderExpired(self.now, self.client_id(key), qty(cum)))

    # --- answers to effects ------------------------------------------------------------------------------------------

    def outcome(
        self, effect: Effect, kind: OutcomeKind = ACKNOWLEDGED, code: str = "", retry_after_ms: int = 0
    ) -> tuple[Effect, ...]:
        """What became of a request on orders."""
        return self.feed(outcome(effect, self.now, kind, code, "", retry_after_ms))

    def found(self, query: QueryOrder, status: ReportStatus = ReportStatus.OPEN, **fields: Any) -> tuple[Effect, ...]:
        """The venue knows the order and describes it."""
        described = row(self.order(query.order), status, **fields)
        return self.feed(OrderQueried(self.now, query.id, query.order, Found(described)))

    def not_found(self, query: QueryOrder) -> tuple[Effect, ...]:
        """The venue knows no such order."""
        return self.feed(OrderQueried(self.now, query.id, query.order, NotFound()))

    def unanswered(self, query: QueryOrder, retry_after_ms: int = 0) -> tuple[Effect, ...]:
        """The question failed."""
        return self.feed(OrderQueried(self.now, query.id, query.order, fetch_failed(retry_after_ms)))

    def lists(self, fetch: FetchOpenOrders, *rows: OrderRow) -> tuple[Effect, ...]:
        """The list of open orders that was asked for."""
        return self.feed(OpenOrders(self.now, fetch.id, fetch.symbol, fetch.conditional, FetchedOrders(rows)))

    def list_failed(self, fetch: FetchOpenOrders, retry_after_ms: int = 0) -> tuple[Effect, ...]:
        """The list did not come."""
        return self.feed(OpenOrders(self.now, fetch.id, fetch.symbol, fetch.conditional, fetch_failed(retry_after_ms)))

    def lists_all(self, *rows: OrderRow) -> tuple[Effect, ...]:
        """Answer every list that the last step asked for, each row in its own book and symbol."""
        for fetch in self.got(FetchOpenOrders):
            mine = [r for r in rows if r.conditional == fetch.conditional and fetch.symbol in ("", r.symbol)]
            self.lists(fetch, *mine)
        return self.effects

    def positions(self, fetch: FetchPositions, *rows: PositionRow) -> tuple[Effect, ...]:
        """The positions that were asked for."""
        return self.feed(Positions(self.now, fetch.id, FetchedPositions(rows)))

    def answer_stock(self, *rows: OrderRow, positions: tuple[PositionRow, ...] = ()) -> None:
        """Answer what the last step asked in order to take stock: lists, positions, latch."""
        asked = self.effects
        for effect in asked:
            if isinstance(effect, FetchOpenOrders):
                self.lists(effect, *[r for r in rows if r.conditional == effect.conditional])
            elif isinstance(effect, FetchPositions):
                self.positions(effect, *positions)
            elif isinstance(effect, ReadFreeze):
                self.latch(effect)

    def lease(
        self, effect: AcquireLease, kind: LeaseKind = LeaseKind.GRANTED, fence: Any = NO_FENCE, valid_ms: int = 30_000
    ) -> tuple[Effect, ...]:
        """The store's answer about the lease."""
        return self.feed(LeaseAnswer(self.now, effect.id, kind, fence, self.now + valid_ms * MS, "somebody"))

    def latch(self, effect: Effect, *rows: LatchRow, kind: LatchKind = LatchKind.OK) -> tuple[Effect, ...]:
        """The store's answer about the latch."""
        return self.feed(LatchAnswer(self.now, effect.id, kind, rows))

    def prove_empty(self, rounds: int = 30) -> None:
        """Answer the sweep: every cancel acknowledged and done, every list empty, until the scope is FROZEN."""
        for _ in range(rounds):
            assert self.core.desk is not None
            sweep = self.core.desk.sweep
            if sweep is None:
                return
            awaited = [(sweep.batch, index) for index in sweep.awaiting]
            self._answer_sweep(tuple(effect for effect in self.history if effect.id in awaited or effect.id == sweep.timer))
        raise AssertionError("the sweep does not end")

    def _answer_sweep(self, asked: tuple[Effect, ...]) -> None:
        for effect in asked:
            if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
                for order in list(self.core.orders.values()):
                    if order.accepted:
                        self.cancelled(order.key)
                self.outcome(effect)
            elif isinstance(effect, FetchOpenOrders):
                self.lists(effect)
            elif isinstance(effect, SetTimer) and effect.purpose is Purpose.SWEEP:
                self.fire(effect)
            elif isinstance(effect, ClearFreeze):
                self.latch(effect)


#: What a recorded session did: each event, its effects, and the state after it.
Steps = list[tuple[Event, tuple[Effect, ...], Core]]


class Recorded(Session):
    """A session that remembers its steps, with any configuration."""

    def __init__(self, **fields: Any) -> None:
        self.steps: Steps = []
        super().__init__(**fields)

    def feed(self, event: Event) -> tuple[Effect, ...]:
        effects = super().feed(event)
        self.steps.append((event, effects, self.core))
        return effects


def log(steps: Steps, cuts: Sequence[int] = (), seal: bool = True) -> list[Source]:
    """The segments of a log of these steps; a new one begins after each record in ``cuts``."""
    started = steps[0][0]
    assert isinstance(started, Started)
    config = CONFIG.encode(started.config)
    prev, state, sources = NO_HASH, EMPTY, []
    for number, (first, last) in enumerate(pairwise([0, *cuts, len(steps)]), 1):
        snapshot = STATE.encode(state) if number > 1 else None
        if state.desk is not None:
            config = CONFIG.encode(state.desk.config)
        line, prev = header_line(
            prev, version="0.1.0", config=config, segment=number, first=first + 1, snapshot=snapshot, digest=digest(state)
        )
        lines = [line]
        for event, effects, core in steps[first:last]:
            state = core
            checkpoint = digest(core) if core.seq % CHECKPOINT_EVERY == 0 else ""
            line, prev = record_line(prev, core.seq, EVENTS.encode(event), EFFECTS.encode(effects), checkpoint)
            lines.append(line)
        if seal or last < len(steps):
            line, prev = seal_line(prev, records=last - first, last=last, more=last < len(steps), digest=digest(state))
            lines.append(line)
        sources.append(Source(f"mm1.{number}", lines))
    return sources


def fetch_failed(retry_after_ms: int = 0) -> FetchFailed:
    """A question that was not answered."""
    return FetchFailed(OutcomeKind.UNAVAILABLE, "timeout", "no answer in time", retry_after_ms)


def with_limits(inventory: Number | None = None, total: Number | None = None, edge: Number | None = None) -> Limits:
    """Limits from text or whole numbers."""
    scaled = [None if value is None else qty(value) for value in (inventory, total, edge)]
    return Limits(*scaled)  # type: ignore[arg-type]


__all__ = [
    "ACKNOWLEDGED", "BTC", "BUY", "ETH", "IN_DOUBT", "MS", "REFUSED", "SELL", "SESSION", "T0", "UNAVAILABLE", "EffectId", "OrdType",
    "Price", "Session", "StorePolicy", "SweepPolicy", "VenueTraits", "config", "fetch_failed", "foreign_row", "row", "with_limits",
]  # fmt: skip
