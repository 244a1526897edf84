"""The runner: what a bot says to haltcore, and what it gets back.

``async with Runner(config, venue=..., journal="mm1.jsonl") as bot`` starts a session, or continues the one in the journal, and
stops it in good order. Each call feeds one command to the core and waits for its
answer; how that is done stands in ``engine.py``.

Numbers are exact: str, int or Decimal, never float. What is refused raises one of the exceptions of ``answers.py``, which say
by ``executed`` whether something may have happened.
"""

import secrets
from decimal import Decimal

from ..effects import (
    OrdType,
    Place,
    Replace,
    Side,
    SweepReport,
    TimeInForce,
    Trigger,
)
from ..effects import bps as to_bps
from ..effects import price as to_price
from ..effects import qty as to_qty
from ..effects.ids import TAG_LENGTH
from ..fsm.core import Core, scope_symbol
from ..fsm.events import (
    CancelOrder,
    EdgeUpdate,
    Freeze,
    MarkPrice,
    ReplaceOrder,
    SetReduceOnly,
    SubmitOrder,
    Unfreeze,
)
from ..fsm.order import Order, is_done
from .answers import (
    ALREADY_PROVEN,
    CommandRejected,
    OrderDenied,
    OrderHandle,
    OrderInDoubt,
    OrderRefused,
    Proof,
)
from .engine import Engine

Number = str | int | Decimal

class Runner(Engine):
    """A session that runs. The arguments are those of :class:`Engine`."""

    async def __aenter__(self) -> "Runner":
        await self.start()
        return self

    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        await self.stop()

    # --- what a bot says ----------------------------------------------------------------------------------------------

    async def submit(
        self,
        symbol: str,
        side: str,
        qty: Number,
        price: Number | None = None,
        *,
        type: str | None = None,  # noqa: A002 - the field's own word
        stop_price: Number | None = None,
        tif: str = "gtc",
        post_only: bool = False,
        reduce_only: bool = False,
        strategy: str = "",
        wait: bool = True,
    ) -> OrderHandle:
        """Place an order. Numbers are exact: str, int or Decimal. ``type`` is limit when there is a price, else market.

        With ``wait`` the call returns once the order is live or done. Raises OrderDenied (the gate, ``executed`` False), OrderRefused (the
        venue, ``executed`` False), OrderInDoubt (``executed`` None: it may be live, and is being asked for), ValueRefused (a number).
        """
        if self._adding >= self._max_adding:
            raise OrderDenied("overloaded", f"{self._adding} orders are under way without an outcome; try again later")
        kind = OrdType(type) if type is not None else OrdType.LIMIT if price is not None else OrdType.MARKET
        event = SubmitOrder(
            self.clock.now_ns(), symbol, Side(side), to_qty(qty), to_price(price) if price is not None else None, kind,
            to_price(stop_price, "stop_price") if stop_price is not None else None, TimeInForce(tif), post_only, reduce_only, strategy,
        )  # fmt: skip
        place = next(effect for effect in self._command(event) if isinstance(effect, Place))
        handle = OrderHandle(self, place.order, place.client_id)
        if wait:
            order: Order = await self._until(lambda: _heard_of(self.core, place.order))
            if order.unknown:
                raise OrderInDoubt("in_doubt", "no word whether the venue has it; it is being asked for", place.client_id)
            if not order.accepted:
                raise OrderRefused("refused", "the venue refused it, or it was stopped before it left", place.client_id)
        return handle

    async def cancel(self, order: OrderHandle, *, wait: bool = True) -> OrderHandle:
        """Cancel an order; with ``wait``, return when it has ended by evidence (which may be that it was filled)."""
        self._command(CancelOrder(self.clock.now_ns(), order.key))
        if wait:
            await self._until(lambda: is_done(order.facts))
        return order

    async def replace(
        self, order: OrderHandle, qty: Number, price: Number | None, *, wait: bool = True
    ) -> OrderHandle:
        """Change total quantity and price; with ``wait``, return when the venue has answered either way."""
        event = ReplaceOrder(self.clock.now_ns(), order.key, to_qty(qty), to_price(price) if price is not None else None)
        next(effect for effect in self._command(event) if isinstance(effect, Replace))
        if wait:
            await self._until(lambda: order.facts.requests.replace is None)
        return order

    async def freeze(self, reason: str, by: str, *, symbol: str = "") -> Proof:
        """Freeze the account, or one symbol, and return when the book is proven empty, or at the deadline with what remains."""
        effects = self._command(Freeze(self.clock.now_ns(), symbol, Trigger.MANUAL, reason, by))
        report = next((effect for effect in effects if isinstance(effect, SweepReport)), None)
        if report is not None:
            return Proof.of(report)
        return await self.proof(symbol)

    async def proof(self, symbol: str = "") -> Proof:
        """The running sweep's result: its proof, or how it stands at its deadline. At once if the scope is proven already."""
        if self.proven(symbol):
            return ALREADY_PROVEN
        reports: list[SweepReport] = []
        self._reports.append(reports)
        try:
            await self._until(lambda: reports)
        finally:
            self._reports.remove(reports)
        return Proof.of(reports[0])

    async def unfreeze(self, by: str, why: str, *, symbol: str = "", force: bool = False) -> None:
        """Lift a freeze. Raises CommandRejected, with the reason, while it must not be lifted."""
        self._command(Unfreeze(self.clock.now_ns(), symbol, by, why, force))
        await self._until(lambda: symbol not in self.status().modes or not self._unfreezing(symbol))
        if symbol in self.status().modes:
            raise CommandRejected("unfreeze_refused", "the store did not agree; the scope stays frozen")

    async def reduce_only(self, on: bool, by: str, why: str, *, symbol: str = "") -> None:
        """Allow only orders that reduce positions, or end that state."""
        self._command(SetReduceOnly(self.clock.now_ns(), symbol, on, by, why))

    async def edge(self, symbol: str, bps: Number) -> None:
        """Tell the strategy's edge; below the configured threshold the account freezes itself."""
        self._command(EdgeUpdate(self.clock.now_ns(), symbol, to_bps(bps)))

    async def mark(self, symbol: str, price: Number) -> None:
        """Tell the price at which positions are valued."""
        self._command(MarkPrice(self.clock.now_ns(), symbol, to_price(price)))

    # --- what a bot asks ----------------------------------------------------------------------------------------------

    def orders(self) -> list[OrderHandle]:
        """Every order that has not ended, by age."""
        return [OrderHandle(self, order.key, order.spec.client_id) for order in sorted(self.core.orders.values(), key=lambda o: o.key)]

    def _unfreezing(self, symbol: str) -> bool:
        desk = self.core.desk
        assert desk is not None
        return any(scope_symbol(desk, k) == symbol and c.unfreeze is not None for k, c in desk.controls.items())


def new_session() -> str:
    """A session tag that nobody has used: drawn from two thousand million."""
    return "h" + "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(TAG_LENGTH - 1))


def _heard_of(core: Core, key: int) -> Order | None:
    """The order, once something is known of it: live, ended, or in doubt."""
    order = core.order(key)
    return order if order is not None and (order.accepted or order.unknown or is_done(order)) else None
