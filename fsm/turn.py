"""One step's working copy of the state, and the only way in which rules write it.

``step`` opens a ``Turn`` over the old state, hands it to the rules for the event, and closes it into the new state and the
effects. Within the turn the rules write fields; nobody outside ever sees a half-written one, and the old state is never touched.
So the boundary is pure while the rules stay free of threading a dozen values through every call.

Here stand the writes that must stay in step with each other: an order and its symbol's book, a book and the total, working
and finished orders; and the making of effects, which gives each its id.
"""

from typing import Any

from ..effects import NO_FENCE, Alert, Effect, EffectId, Fence, Metric, Notional, Purpose, Rejected, SetTimer, Severity
from .backoff import backoff_ns
from .core import Core, Desk
from .exposure import FLAT, NO_SHARE, Book, rebook, share, worst_value
from .order import Order

NS_PER_MS = 1_000_000
#: The longest pause that a venue's demand is obeyed for at a stretch; then it is asked again. Some name a point in time instead of a delay.
MAX_PAUSE_MS = 600_000
_OPEN, _UNKNOWN = 4, 5


class Turn:
    """See the module's essay."""

    __slots__ = (
        "books", "closed", "desk", "effects", "measured", "n", "now_ns", "orders", "reopened", "settled", "total", "touched",
        "unknown_moved",
    )  # fmt: skip

    def __init__(self, core: Core, desk: Desk, at_ns: int) -> None:
        self.n = core.seq + 1
        self.now_ns = max(core.now_ns, at_ns)
        self.orders = core.orders
        self.closed = core.closed
        self.books = core.books
        self.total = core.total
        self.desk = desk
        self.effects: list[Effect] = []
        self.measured: list[tuple[str, int, str]] = []
        self.touched: list[int] = []
        self.reopened = False
        self.settled = False
        self.unknown_moved = False

    def close(self) -> tuple[Core, tuple[Effect, ...]]:
        """The new state and the effects. Metrics come last, so that one more or less of them shifts no other effect's id."""
        if self.unknown_moved:
            self.metric("mm_effects_in_doubt", sum(book.unknown_buy + book.unknown_sell for book in self.books.values()))
        for name, value, label in self.measured:
            self.emit(Metric, name, value, label)
        core = Core(
            self.n, self.now_ns, self.orders, self.closed, self.books, self.total, tuple(self.touched), self.desk
        )
        return core, tuple(self.effects)

    # --- state ---------------------------------------------------------------------------------------------------

    def order(self, key: int) -> Order | None:
        """The order with this key, working or finished."""
        return self.orders.get(key) or self.closed.get(key)

    def put_order(self, old: Order | None, new: Order) -> None:
        """Write an order, and with it its book, the total, and the map it belongs to."""
        key = new.key
        was, now = NO_SHARE if old is None else share(old), share(new)
        if was != now:
            sym = new.spec.sym
            self.put_book(sym, rebook(self.books.get(sym, FLAT), was, now, new))
            self.unknown_moved = self.unknown_moved or was[_UNKNOWN] != now[_UNKNOWN]
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

    def put_book(self, sym: int, book: Book) -> None:
        """Write a book, and with it the total."""
        old = self.books.get(sym, FLAT)
        self.total = Notional(self.total - worst_value(old) + worst_value(book))
        self.books = self.books.set(sym, book)

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
