"""The runner: what a bot says to haltcore, and what it gets back.

``async with Runner(config, venue=..., journal="mm1.jsonl") as bot`` starts a session, or continues the one in the journal, and
stops it in good order. Each call feeds one command to the core and waits for its
answer; how that is done stands in ``engine.py``.

Numbers are exact: str, int or Decimal, never float. What is refused raises one of the exceptions of ``answers.py``, which say
by ``executed`` whether something may have happened.
"""

import asyncio
import secrets
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from ..effects import Denied, Effect, Mode, OrdType, Place, Rejected, Replace, Side, SweepReport, TimeInForce, Trigger, ValueRefused
from ..effects import bps as to_bps
from ..effects import price as to_price
from ..effects import qty as to_qty
from ..effects.ids import TAG_LENGTH
from ..fsm.core import scope_symbol
from ..fsm.events import CancelOrder, EdgeUpdate, Event, Freeze, MarkPrice, ReplaceOrder, SetReduceOnly, SubmitOrder, Unfreeze
from ..fsm.order import Ended, Order, is_done
from .answers import ALREADY_PROVEN, CommandRejected, OrderDenied, OrderHandle, OrderInDoubt, OrderRefused, Proof, RunnerStopped, Status
from .engine import Engine

Number = str | int | Decimal
Choice = TypeVar("Choice", bound=StrEnum)
#: The longest name, reason or explanation that a command may carry.
MAX_TEXT = 1_000

E = TypeVar("E", Place, Replace)

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
        venue, ``executed`` False), OrderInDoubt (``executed`` None: it may be live, and is being asked for), ValueRefused (an argument).
        """
        kind = _choice(OrdType, type, "type") if type is not None else OrdType.LIMIT if price is not None else OrdType.MARKET
        event = SubmitOrder(
            self._now_ns(), _text(symbol, "symbol"), _choice(Side, side, "side"), to_qty(qty),
            to_price(price) if price is not None else None, kind, to_price(stop_price, "stop_price") if stop_price is not None else None,
            _choice(TimeInForce, tif, "tif"), _flag(post_only, "post_only"), _flag(reduce_only, "reduce_only"), _text(strategy, "strategy"),
        )  # fmt: skip
        self._not_overloaded()
        place = next(effect for effect in await self._command(event) if isinstance(effect, Place))
        if wait:
            await self._answered(place, lambda: _heard_of(self._order(place.order)))
            order = self._order(place.order)
            if order.unknown:
                raise OrderInDoubt("in_doubt", "no word whether the venue has it; it is being asked for", place.client_id)
        return OrderHandle(self, place.order, place.client_id)

    async def cancel(self, order: OrderHandle, *, wait: bool = True) -> OrderHandle:
        """Cancel an order; with ``wait``, return when it has ended by evidence (which may be that it was filled)."""
        key = self._key(order)
        await self._command(CancelOrder(self._now_ns(), key))
        if wait:
            await self._until(lambda: is_done(self._order(key)))
        # A handle of an earlier runner looks at that one's orders; what is given back looks at ours.
        return order if order.of(self) else OrderHandle(self, key, order.client_id)

    async def replace(
        self, order: OrderHandle, qty: Number, price: Number | None, *, wait: bool = True
    ) -> OrderHandle:
        """Change total quantity and price; with ``wait``, return when that is done, or the order has ended. Raises as ``submit`` does;
        the order as it was lives on then, and when the fate of the request is unknown the call waits until it is known."""
        key = self._key(order)
        event = ReplaceOrder(self._now_ns(), key, to_qty(qty), to_price(price) if price is not None else None)
        self._not_overloaded()
        replace = next(effect for effect in await self._command(event) if isinstance(effect, Replace))
        if wait:
            await self._answered(replace, lambda: self._order(key).requests.replace is None)
        return order

    async def freeze(self, reason: str, by: str, *, symbol: str = "") -> Proof:
        """Freeze the account, or one symbol, and return when the book is proven empty, or at the deadline with what remains.

        Only a symbol can be wrong: a freeze is never refused for its words, they are made to fit.
        """
        await self._command(Freeze(self._now_ns(), _text(symbol, "symbol"), Trigger.MANUAL, _words(reason), _words(by)))
        return await self.proof(symbol)

    async def proof(self, symbol: str = "") -> Proof:
        """The running sweep's result: its proof, or how it stands at its deadline; after the deadline, its proof. At once if the scope is
        proven already.

        Raises CommandRejected when the scope is not frozen, or is unfrozen meanwhile.
        """
        if self.proven(_text(symbol, "symbol")):
            return ALREADY_PROVEN
        if not self._frozen(symbol):
            raise CommandRejected("not_frozen", f"{symbol or 'the account'} is not frozen, so nothing is being proven")
        reports: list[SweepReport] = []
        self._reports.append(reports)
        try:
            await self._until(lambda: reports or not self._frozen(symbol))
        finally:
            self._reports[:] = [waiting for waiting in self._reports if waiting is not reports]
        if not reports:
            raise CommandRejected("unfrozen", f"{symbol or 'the account'} was unfrozen before the proof")
        return Proof.of(reports[0])

    async def unfreeze(self, by: str, why: str, *, symbol: str = "", force: bool = False) -> None:
        """Lift a freeze. Raises CommandRejected, with the reason, while it must not be lifted."""
        event = Unfreeze(self._now_ns(), _text(symbol, "symbol"), _text(by, "by"), _text(why, "why"), _flag(force, "force"))
        if self._running and self._journal is not None and self._journal.failed is not None:
            raise CommandRejected("journal_failed", f"without a journal nothing is placed; stop and start anew. {self._journal.failed}")
        await self._command(event)
        await self._until(lambda: not self._frozen(symbol) or not self._unfreezing(symbol))
        if self._frozen(symbol):
            raise CommandRejected("unfreeze_refused", "the store did not agree; the scope stays frozen")

    async def reduce_only(self, on: bool, by: str, why: str, *, symbol: str = "") -> None:
        """Allow only orders that reduce positions, or end that state."""
        event = SetReduceOnly(self._now_ns(), _text(symbol, "symbol"), _flag(on, "on"), _text(by, "by"), _text(why, "why"))
        await self._command(event)

    async def edge(self, symbol: str, bps: Number) -> None:
        """Tell the strategy's edge; below the configured threshold the account freezes itself."""
        await self._command(EdgeUpdate(self._now_ns(), _text(symbol, "symbol"), to_bps(bps)))

    async def mark(self, symbol: str, price: Number) -> None:
        """Tell the price at which positions are valued."""
        await self._command(MarkPrice(self._now_ns(), _text(symbol, "symbol"), to_price(price)))

    # --- what a bot asks ----------------------------------------------------------------------------------------------

    def orders(self) -> list[OrderHandle]:
        """Every order that has not ended, by age."""
        return [OrderHandle(self, order.key, order.spec.client_id) for order in sorted(self.core.orders.values(), key=lambda o: o.key)]

    def status(self) -> Status:
        """One screen about the runner."""
        desk, failure = self.core.desk, self._journal.failed if self._journal is not None else None
        scopes = sorted(desk.controls.items()) if desk is not None else []
        modes = {scope_symbol(desk, key): control.mode for key, control in scopes if desk and control.mode is not Mode.ACTIVE}
        unknown = sum(book.unknown_buy + book.unknown_sell for book in self.core.books.values())
        return Status(
            modes, len(self.core.orders), self._hands.adding, unknown, self.core.seq, str(self._journal_path or ""),
            str(failure) if failure is not None and failure.code != "closed" else "",
        )  # fmt: skip

    # --- how it is done -----------------------------------------------------------------------------------------------

    async def _command(self, event: Event) -> tuple[Effect, ...]:
        """Feed a command; its effects. Raises what the core answers to it."""
        while self._busy:
            # A task that was started eagerly runs inside of a step; the command waits for its turn.
            await asyncio.sleep(0)
        if not self._running:
            raise self._stopped()
        effects = self._feed(event)
        if effects is None:
            if not self._running:
                raise self._stopped()
            denial = OrderDenied if isinstance(event, (SubmitOrder, ReplaceOrder)) else CommandRejected
            raise denial("internal_error", "haltcore failed over this command; the account is frozen, and the log of the program says why")
        for effect in effects:
            if isinstance(effect, Denied):
                raise OrderDenied(effect.code, effect.reason)
            if isinstance(effect, Rejected):
                raise CommandRejected(effect.code, effect.reason)
        return effects

    async def _answered(self, request: Place | Replace, answer: Callable[[], bool]) -> None:
        """Wait for the answer to a request that adds risk. Raises what became of it instead."""
        self._refusals[request.id] = "", ""
        try:
            await self._until(answer)
            code, text = self._refusals[request.id]
        except RunnerStopped as stopped:
            raise OrderInDoubt(stopped.code, f"{stopped.reason}; the request was under way", request.client_id) from stopped
        finally:
            del self._refusals[request.id]
        if not code and isinstance(request, Place) and self._order(request.order).ended is Ended.REJECTED:
            code, text = "refused", "the venue refused it"
        if code:
            raise OrderRefused(code, text or "the venue gave no reason", request.client_id)

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

    def _frozen(self, symbol: str) -> bool:
        return self.status().modes.get(symbol) in (Mode.FREEZING, Mode.FROZEN)

    def _unfreezing(self, symbol: str) -> bool:
        desk = self.core.desk
        assert desk is not None
        return any(scope_symbol(desk, k) == symbol and c.unfreeze is not None for k, c in desk.controls.items())


def new_session() -> str:
    """A session tag that nobody has used: drawn from two thousand million."""
    return "h" + "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(TAG_LENGTH - 1))


def _heard_of(order: Order) -> bool:
    """Whether something is known of it: live, ended, or in doubt."""
    return order.accepted or order.unknown or is_done(order)


# --- arguments ------------------------------------------------------------------------------------------------------
# What is of a wrong type is turned away here: inside, it would be taken for a fault of haltcore or of the journal, and freeze.


def _choice(kind: type[Choice], value: object, field: str) -> Choice:
    for choice in kind:
        if value == choice:
            return choice
    raise ValueRefused(f"{field}: {value!r} is none of {', '.join(choice.value for choice in kind)}")


def _text(value: object, field: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or _words(value) != value:
        raise ValueRefused(f"{field}: give a text of at most {MAX_TEXT} Unicode characters, not {repr(value)[:80]}")
    return value


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise ValueRefused(f"{field}: {value!r} is neither True nor False")
    return value


def _words(value: object) -> str:
    """Any value as a text that a log can hold."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()
