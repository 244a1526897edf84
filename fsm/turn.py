"""One step's working copy of the state, and the only way in which rules write it.

``step`` opens a ``Turn`` over the old state, hands it to the rules for the event, and closes it into the new state and the
effects. Within the turn the rules write fields; nobody outside ever sees a half-written one, and the old state is never touched.
So the boundary is pure while the rules stay free of threading a dozen values through every call.

Here stand the writes that must stay in step with each other: an order and its symbol's book, a book and the total, working
and finished orders; and the making of effects, which gives each its id.

Four marks are left for what follows a handler within the same step: ``reopened`` and ``settled`` for the sweep; for the triggers
``grown``, the books whose worst case has grown with an order, and ``moved``, those whose result has changed.
"""

from typing import Any

import attrs
from immutables import Map

from ..effects import (
    NO_FENCE,
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    Effect,
    EffectId,
    Fence,
    Metric,
    Notional,
    Place,
    Price,
    Purpose,
    Rejected,
    Replace,
    SetTimer,
    Severity,
    Side,
)
from .backoff import backoff_ns
from .bucket import take
from .core import Core, Desk, resting_key
from .exposure import (
    FLAT,
    NO_SHARE,
    NO_TALLY,
    Book,
    Share,
    Tally,
    book_key,
    gain_value,
    owner_of,
    rebook,
    rests_at,
    share,
    with_contract,
    with_mark,
    worst_value,
)
from .levels import EMPTY_LEVELS, Levels, added, dropped, levels_of
from .limits import Rate, overriding, sources
from .order import Order

NS_PER_MS = 1_000_000
#: The longest pause that a venue's demand is obeyed for at a stretch; then it is asked again. Some name a point in time instead of a delay.
MAX_PAUSE_MS = 600_000
_OPEN, _UNKNOWN = 4, 5
_SELL = Side.SELL
#: What a limit of messages counts; what is claimed first counts with its claim, so that no more are claimed than may be sent.
_MESSAGES = (Place, Replace, Cancel, CancelBatch, CancelAll)
_CLAIMED_MESSAGES = (ClaimGuard, Cancel, CancelBatch, CancelAll)


def unknown_orders(books: Map[int, Book]) -> int:
    """How many orders may not even exist, by the account's books."""
    return sum(book.unknown_buy + book.unknown_sell for key, book in books.items() if not owner_of(key))


def resting_levels(orders: Map[int, Order]) -> Map[int, Levels]:
    """The prices at which these orders rest, by symbol and side. Takes time in proportion to them."""
    prices: dict[int, list[int]] = {}
    for order in orders.values():
        prices.setdefault(resting_key(order.spec.sym, order.spec.side is _SELL), []).extend(rests_at(order))
    return Map((key, levels_of(found)) for key, found in prices.items())


def message_rate(desk: Desk, now_ns: int) -> Rate | None:
    """The account's limit of messages now (RTS 6 Art. 15(1)(d))."""
    found = sources(desk.rules[:1], overriding(desk.overrides, now_ns, "", ""), "message_rate")
    return found[0].limits.message_rate if found else None


def guarded(desk: Desk) -> bool:
    """Whether every place and replace is claimed in the store before it is sent."""
    store = desk.config.store
    return store.configured and store.guard


class Turn:
    """See the module's essay."""

    __slots__ = (
        "account", "books", "closed", "desk", "effects", "flow", "grown", "measured", "moved", "n", "now_ns", "once", "orders", "reopened",
        "resting", "settled", "teams", "touched", "unknown_moved", "was_ns",
    )  # fmt: skip

    def __init__(self, core: Core, desk: Desk, at_ns: int) -> None:
        self.n = core.seq + 1
        self.was_ns = core.now_ns
        self.now_ns = max(core.now_ns, at_ns)
        self.orders = core.orders
        self.closed = core.closed
        self.books = core.books
        self.account = core.account
        self.teams = core.teams
        self.flow = core.flow
        self.resting = core.resting
        self.once = core.once
        self.desk = desk
        self.effects: list[Effect] = []
        self.measured: list[tuple[str, int, str]] = []
        self.touched: list[int] = []
        self.reopened = False
        self.settled = False
        self.grown: list[int] = []
        self.moved: list[int] = []
        self.unknown_moved = False

    def close(self) -> tuple[Core, tuple[Effect, ...]]:
        """The new state and the effects. Metrics come last, so that one more or less of them shifts no other effect's id."""
        if self.desk.rules[0].limits.message_rate is not None or self.desk.overrides:
            self._count_messages()
        if self.unknown_moved:
            self.metric("mm_effects_in_doubt", unknown_orders(self.books))
        for name, value, label in self.measured:
            self.emit(Metric, name, value, label)
        core = Core(
            self.n, self.now_ns, self.orders, self.closed, self.books, self.account, self.teams, self.flow, self.desk, self.resting,
            tuple(self.touched), self.once,
        )  # fmt: skip
        return core, tuple(self.effects)

    def _count_messages(self) -> None:
        """Every request on an order takes a token, cancels too. They are not held up when there is none: they may owe a whole bucket."""
        rate = message_rate(self.desk, self.now_ns)
        if rate is None:
            return
        bucket = self.flow.messages
        messages = _CLAIMED_MESSAGES if guarded(self.desk) else _MESSAGES
        for effect in self.effects:
            if isinstance(effect, messages):
                bucket = take(bucket, self.now_ns, rate)
        if bucket is not self.flow.messages:
            self.flow = attrs.evolve(self.flow, messages=bucket)

    # --- state ---------------------------------------------------------------------------------------------------

    def order(self, key: int) -> Order | None:
        """The order with this key, working or finished."""
        return self.orders.get(key) or self.closed.get(key)

    def put_order(self, old: Order | None, new: Order) -> None:
        """Write an order, and with it its books, the tallies, and the map it belongs to."""
        key = new.key
        was, now = NO_SHARE if old is None else share(old), share(new)
        if was != now:
            self._rebook(was, now, new)
            self.unknown_moved = self.unknown_moved or was[_UNKNOWN] != now[_UNKNOWN]
        if self.resting is not None:
            self._move_levels(rests_at(old) if old is not None else (), new)
        done = not now[_OPEN]
        if old is not None and not was[_OPEN]:
            if done:
                self.closed = self.closed.set(key, new)
            else:
                self.closed = self.closed.delete(key)
                self.orders = self.orders.set(key, new)
                self.reopened = True
        elif done:
            self.closed = self.closed.set(key, new)
            if old is not None:
                self.orders = self.orders.delete(key)
                self.settled = True
        else:
            self.orders = self.orders.set(key, new)
        self.touched.append(key)

    def _rebook(self, was: Share, now: Share, order: Order) -> None:
        sym = order.spec.sym
        old = self.books.get(sym, FLAT)
        book = rebook(old, was, now, order)
        if self.put_book(sym, book) > 0:
            self.grown.append(sym)
        if book.mark != old.mark:
            self.put_mark(sym, book.mark)
        owner = order.spec.owner
        if owner:
            key = book_key(owner, sym)
            team = self.books.get(key)
            if team is None:
                team = with_mark(with_contract(FLAT, book.contract), book.mark)
            if self.put_book(key, rebook(team, was, now, order)) > 0:
                self.grown.append(key)

    def put_mark(self, sym: int, mark: Price) -> None:
        """Value the symbol at this price, in the book of every owner."""
        for owner in range(len(self.desk.config.strategies) + 1):
            key = book_key(owner, sym)
            book = self.books.get(key)
            if book is not None or not owner:
                self.put_book(key, with_mark(book or FLAT, mark))

    def put_book(self, key: int, book: Book) -> int:
        """Write a book, and with it the tally of its owner; by how much its worst case has grown."""
        old = self.books.get(key, FLAT)
        self.books = self.books.set(key, book)
        worse, gained = worst_value(book) - worst_value(old), 0
        if (book.position, book.cash, book.mark, book.fees, book.contract) != (old.position, old.cash, old.mark, old.fees, old.contract):
            gained = gain_value(book) - gain_value(old)
        opened = book.open_orders - old.open_orders
        if gained:
            self.moved.append(key)
        if worse or gained or opened:
            owner = owner_of(key)
            t = self.teams.get(owner, NO_TALLY) if owner else self.account
            t = Tally(Notional(t.worst + worse), Notional(t.gain + gained), t.open_orders + opened)
            if owner:
                self.teams = self.teams.set(owner, t)
            else:
                self.account = t
        return worse

    def _move_levels(self, was: tuple[int, ...], order: Order) -> None:
        now = rests_at(order)
        if was == now:
            return
        assert self.resting is not None
        key = resting_key(order.spec.sym, order.spec.side is _SELL)
        levels = self.resting.get(key, EMPTY_LEVELS)
        for price in now:
            levels = added(levels, price)
        for price in was:
            levels = dropped(levels, price)
        self.resting = self.resting.set(key, levels)

    def levels(self) -> Map[int, Levels]:
        """The prices at which our open orders rest; made from the orders if nobody has needed them yet."""
        if self.resting is None:
            self.resting = resting_levels(self.orders)
        return self.resting

    def intentions(self) -> Map[str, int]:
        """The last order of each intention that may happen once only; made from the orders that have one, and no others, if nobody has
        needed it yet. A process needs that once, at its start (``guards.restarted``)."""
        if self.once is None:
            found: dict[str, int] = {}
            key = self.flow.intention
            while key and (order := self.order(key)) is not None:
                found.setdefault(order.spec.once, key)
                key = order.spec.earlier
            self.once = Map(found)
        return self.once

    # --- effects --------------------------------------------------------------------------------------------------

    def emit(self, kind: Any, *fields: Any) -> EffectId:
        """Make an effect of this class, with the next id; the id."""
        effect_id = (self.n, len(self.effects))
        self.effects.append(kind(effect_id, *fields))
        return effect_id

    def reject(self, code: str, reason: str) -> None:
        """The input is not allowed, and changes nothing."""
        self.emit(Rejected, code, reason)

    def alert(self, severity: Severity, code: str, text: str, order: int = 0, symbol: str = "") -> None:
        """Tell a person."""
        self.emit(Alert, severity, code, text, order, symbol)

    def metric(self, name: str, value: int, label: str = "") -> None:
        """Count or measure."""
        self.measured.append((name, value, label))

    def timer(self, delay_ns: int, purpose: Purpose, key: int = 0) -> EffectId:
        """Be woken after this long."""
        return self.emit(SetTimer, self.now_ns + delay_ns, purpose, key)

    def backoff(self, attempt: int, at_least_ns: int = 0) -> int:
        """How long to wait before try ``attempt``, by the sweep policy; drawn for the next effect's id."""
        policy = self.desk.config.sweep
        wait = backoff_ns(self.desk.config.seed, (self.n, len(self.effects)), attempt, policy.base_ms, policy.cap_ms)
        return max(wait, at_least_ns)

    def fence(self) -> Fence:
        """The token of our lease while it is valid, by our own clock."""
        lease = self.desk.lease
        return lease.fence if lease is not None and self.now_ns < lease.valid_until_ns else NO_FENCE
