"""The runner: what a bot says to haltcore, and what it gets back.

``async with Runner(config, venue=..., journal="mm1.jsonl") as bot`` starts a session, or continues the one in the journal, and
stops it in good order. Each call feeds one command to the core and waits for its
answer; how that is done stands in ``engine.py``, and what a bot can say as an operator (freeze, limits) in ``operations.py``.

Numbers are exact: str, int or Decimal, never float. What is refused raises one of the exceptions of ``answers.py``, which say
by ``executed`` whether something may have happened.
"""

import secrets
from collections.abc import Callable

from ..effects import ClaimGuard, OrdType, Place, Replace, Side, TimeInForce, Trigger
from ..effects import bps as to_bps
from ..effects import price as to_price
from ..effects import qty as to_qty
from ..effects.ids import TAG_LENGTH
from ..fsm import queries
from ..fsm.core import FreezeRecord
from ..fsm.events import (
    BreakerChanged,
    CancelOrder,
    EdgeUpdate,
    Heartbeat,
    InstrumentDefined,
    MarkPrice,
    ReplaceOrder,
    SubmitOrder,
    VolatilityBand,
)
from ..fsm.order import Ended, Order, is_done
from . import arguments
from .answers import CommandRejected, OrderDenied, OrderHandle, OrderInDoubt, OrderRefused, RunnerStopped
from .arguments import Number, choice, flag, intention, text
from .operations import Operations

#: The type of an order that says none, by whether it has a stop price, and a price.
_TYPES = {
    (False, False): OrdType.MARKET, (False, True): OrdType.LIMIT, (True, False): OrdType.STOP_MARKET, (True, True): OrdType.STOP_LIMIT,
}  # fmt: skip


class Runner(Operations):
    """A session that runs. The arguments are those of :class:`~haltcore.adapters.engine.Engine`."""

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
        trader: str = "",
        client: str = "",
        explain: bool = False,
        once: str | None = None,
        wait: bool = True,
    ) -> OrderHandle:
        """Place an order. Numbers are exact: str, int or Decimal. ``type`` is limit when there is a price, else market; with a stop price
        it is stop_limit or stop_market. ``strategy``, ``trader`` and ``client`` say on whose behalf; with ``explain`` a denial names in
        ``codes`` every check that failed. ``once`` names the intention behind the order, in at most 128 characters: of all orders with the
        same one at most one is placed, by whichever process of the account, and however often it is asked for; it may be said again until
        that is answered. None is an order that may be placed more than once.

        With ``wait`` the call returns once the order is live or done. Raises OrderDenied (the gate, ``executed`` False), OrderRefused (the
        venue, or the claim in the store was not granted: ``executed`` False), OrderInDoubt (``executed`` None: it may be live, and is being
        asked for), ValueRefused (an argument).
        """
        event = self._submission(
            symbol, side, qty, price, type, stop_price, tif, post_only, reduce_only, strategy, trader, client, explain, once
        )
        self._not_overloaded()
        request = next(effect for effect in (await self._command(event)).effects if isinstance(effect, (Place, ClaimGuard)))
        order = self._order(request.order)
        if wait:
            await self._answered(request, lambda: _heard_of(self._order(order.key)), placing=True)
            if self._order(order.key).unknown:
                raise OrderInDoubt("in_doubt", "no word whether the venue has it; it is being asked for", order.spec.client_id)
        return OrderHandle(self, order.key, order.spec.client_id)

    async def cancel(self, order: OrderHandle, *, wait: bool = True) -> OrderHandle:
        """Cancel an order; with ``wait``, return when it has ended by evidence (which may be that it was filled)."""
        key = self._key(order)
        await self._command(CancelOrder(self._now_ns(), key))
        if wait:
            await self._until(lambda: is_done(self._order(key)))
        # A handle of an earlier runner looks at that one's orders; what is given back looks at ours.
        return order if order.of(self) else OrderHandle(self, key, order.client_id)

    async def replace(
        self, order: OrderHandle, qty: Number, price: Number | None, *, explain: bool = False, wait: bool = True
    ) -> OrderHandle:
        """Change total quantity and price; with ``wait``, return when that is done, or the order has ended. Raises as ``submit`` does;
        the order as it was lives on then, and when the fate of the request is unknown the call waits until it is known."""
        key = self._key(order)
        event = ReplaceOrder(self._now_ns(), key, to_qty(qty), to_price(price) if price is not None else None, flag(explain, "explain"))
        self._not_overloaded()
        request = next(effect for effect in (await self._command(event)).effects if isinstance(effect, (Replace, ClaimGuard)))
        if wait:
            await self._answered(request, lambda: self._order(key).requests.replace is None)
        return order

    async def edge(self, symbol: str, bps: Number) -> None:
        """Tell the strategy's net edge in a symbol, or over all (empty); below its configured threshold the scope freezes itself."""
        await self._command(EdgeUpdate(self._now_ns(), text(symbol, "symbol"), to_bps(bps)))

    async def mark(self, symbol: str, price: Number) -> None:
        """Tell the price at which positions are valued."""
        await self._command(MarkPrice(self._now_ns(), text(symbol, "symbol"), to_price(price)))

    async def heartbeat(self, symbol: str = "") -> None:
        """Market data flows, in a symbol or (empty) as a whole. Marks and edges count as one too."""
        await self._command(Heartbeat(self._now_ns(), text(symbol, "symbol")))

    async def band(self, symbol: str, band: str) -> None:
        """The market of a symbol (empty: of all) is in this volatility band now; limits may depend on it. Empty is no band."""
        await self._command(VolatilityBand(self._now_ns(), text(symbol, "symbol"), text(band, "band")))

    async def breaker(self, job: str, open: bool, reason: str) -> None:  # noqa: A002 - the field's own word
        """The circuit breaker of a kind of job has opened, or is open no longer."""
        await self._command(BreakerChanged(self._now_ns(), text(job, "job"), flag(open, "open"), arguments.words(reason)))

    async def instrument(
        self, symbol: str, *, tick: Number = 0, lot: Number = 0, min_qty: Number = 0, max_qty: Number = 0, min_notional: Number = 0,
        multiplier: Number = 1, inverse: bool = False,
    ) -> None:  # fmt: skip
        """Tell the venue's terms for a symbol; 0 is no such term. The contract cannot change once the symbol was traded."""
        terms = arguments.instrument(tick, lot, min_qty, max_qty, min_notional, multiplier, inverse)
        await self._command(InstrumentDefined(self._now_ns(), text(symbol, "symbol"), terms))

    # --- what a bot asks ----------------------------------------------------------------------------------------------

    def orders(self) -> list[OrderHandle]:
        """Every order that has not ended, by age."""
        return [OrderHandle(self, order.key, order.spec.client_id) for order in sorted(self.core.orders.values(), key=lambda o: o.key)]

    def what_if(
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
        trader: str = "",
        client: str = "",
        once: str | None = None,
    ) -> queries.WhatIf:
        """What the gate would say to this order now, check by check, with the exposure before and after. Changes nothing."""
        return queries.what_if(
            self.core,
            self._submission(symbol, side, qty, price, type, stop_price, tif, post_only, reduce_only, strategy, trader, client, True, once),
        )

    def positions(self) -> tuple[queries.Holding, ...]:
        """What is held of each symbol that was traded, by the account and by each strategy, by the session's own books."""
        return queries.positions(self.core)

    def freeze_history(self, scope: str | None = None, trigger: Trigger | None = None, since_ns: int = 0) -> tuple[FreezeRecord, ...]:
        """What has frozen, also what found the scope frozen already: of one scope, one trigger, since a moment."""
        return queries.freeze_history(self.core, scope, trigger, since_ns)

    # --- how it is done -----------------------------------------------------------------------------------------------

    def _submission(
        self, symbol: object, side: object, qty: Number, price: Number | None, kind: object, stop_price: Number | None, tif: object,
        post_only: object, reduce_only: object, strategy: object, trader: object, client: object, explain: object, once: object,
    ) -> SubmitOrder:  # fmt: skip
        ordered = choice(OrdType, kind, "type") if kind is not None else _TYPES[stop_price is not None, price is not None]
        return SubmitOrder(
            self._now_ns(), text(symbol, "symbol"), choice(Side, side, "side"), to_qty(qty),
            to_price(price) if price is not None else None, ordered,
            to_price(stop_price, "stop_price") if stop_price is not None else None, choice(TimeInForce, tif, "tif"),
            flag(post_only, "post_only"), flag(reduce_only, "reduce_only"), text(strategy, "strategy"), text(trader, "trader"),
            text(client, "client"), flag(explain, "explain"), intention(once),
        )  # fmt: skip

    async def _answered(self, request: Place | Replace | ClaimGuard, answer: Callable[[], bool], placing: bool = False) -> None:
        """Wait for the answer to a request that adds risk. Raises what became of it instead."""
        client_id = self._order(request.order).spec.client_id
        self._listening.refusals[request.id] = "", ""
        try:
            await self._until(answer)
            code, text = self._listening.refusals[request.id]
        except RunnerStopped as stopped:
            if self._order(request.order).claiming:
                raise OrderRefused(stopped.code, f"{stopped.reason}; it waited for its claim and was never sent", client_id) from stopped
            raise OrderInDoubt(stopped.code, f"{stopped.reason}; the request was under way", client_id) from stopped
        finally:
            del self._listening.refusals[request.id]
        if not code and placing and self._order(request.order).ended is Ended.REJECTED:
            code, text = "refused", "the venue refused it"
        if code:
            raise OrderRefused(code, text or "the venue gave no reason", client_id)

    def _not_overloaded(self) -> None:
        if self._hands.adding >= self._max_adding:
            raise OrderDenied("overloaded", f"{self._hands.adding} requests are under way without an outcome; try again later")

    def _key(self, handle: OrderHandle) -> int:
        """The key of an order of this session, through whichever runner the handle came."""
        order = self.core.order(handle.key) if isinstance(handle, OrderHandle) else None
        if order is None or order.spec.client_id != handle.client_id:
            name = handle.client_id if isinstance(handle, OrderHandle) else repr(handle)
            raise CommandRejected("unknown_order", f"{name} is no order of this session; give what submit returned, or one of orders()")
        return order.key

    def _order(self, key: int) -> Order:
        order = self.core.order(key)
        assert order is not None, f"order {key}: orders are never forgotten"
        return order


def new_session() -> str:
    """A session tag that nobody has used: drawn from two thousand million."""
    return "h" + "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(TAG_LENGTH - 1))


def _heard_of(order: Order) -> bool:
    """Whether something is known of it: live, ended, or in doubt."""
    return order.accepted or order.unknown or is_done(order)
