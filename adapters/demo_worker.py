"""One market maker of the demo on a shared store: a process of its own, led by ``demo_shared.py``.

It is an ordinary runner with a journal, a session and a connection to the store. What it is to be stands in the first line of its standard
input, and what it is to do in the lines after it; what happens to it is told on its standard output. Both are lines of JSON. When its input
ends, whoever led it is gone, and it goes too.

========== ==============================================================================================================
told       when
========== ==============================================================================================================
ready      the session has begun, or goes on; with the modes that it found
freezing   a scope begins to freeze: trigger, reason, by whom, in which record
latched    the store has the freeze that this process published
lease      the store's answer about the lease of the sweep: kind, fence, holder
cancels    requests to cancel were decided: how many
proven     nothing is open: orders cancelled, rounds, milliseconds
tried      an order was asked for, and denied with this code; empty if it went out
stopped    the log is closed
========== ==============================================================================================================
"""

import asyncio
import contextlib
import os
import random
import sys
from typing import Any

import msgspec
from attrs import define, frozen

from ..effects import (
    Cancel,
    CancelAll,
    CancelBatch,
    Effect,
    Mode,
    ModeChanged,
    Side,
    SweepReport,
    SweepStatus,
    bps,
    price,
    qty,
    to_text,
    usd,
)
from ..fsm.config import Config, StorePolicy, VenueTraits
from ..fsm.core import Core
from ..fsm.events import Event, LatchAnswer, LeaseAnswer
from ..fsm.instrument import Instrument
from ..fsm.limits import Limits
from ..fsm.order import is_done
from .answers import HaltcoreError, OrderHandle
from .demo import unheard
from .people import People
from .redis_store import RedisStore
from .remote_venue import RemoteVenue
from .runner import Runner

#: How long a place is valid at the demo's venue: shorter than at a real one, so that doubt ends sooner.
PLACE_EXPIRY_MS = 1_500
LEASE_TTL_MS = 1_000
_LEVELS = 3
_PAUSE_S = 0.1
_CENT = 10**10
#: By symbol: the mid price in cents, which stays where it is, and the size of an order.
_SYMBOLS = {"BTCUSDT": (6_000_000, qty("0.01")), "ETHUSDT": (300_000, qty("0.2"))}
INSTRUMENTS = {
    "BTCUSDT": Instrument(tick=price("0.01"), lot=qty("0.001"), min_notional=usd("5")),
    "ETHUSDT": Instrument(tick=price("0.01"), lot=qty("0.01"), min_notional=usd("5")),
}
#: How many quotes a market maker keeps.
QUOTES = len(_SYMBOLS) * 2 * _LEVELS


@frozen
class Role:
    """What a worker is to be: its name, session and journal, the venue's socket, the store and the account in it."""

    name: str
    session: str
    journal: str
    venue: str
    url: str
    account: str
    seed: int

    @property
    def config(self) -> Config:
        """Its configuration: an edge below 5 bps freezes; everything about the store is quick, so that a demo is short."""
        limits = Limits(max_inventory_usd=usd("50000"), edge_freeze_threshold_bps=bps("5"), max_order_value=usd("1200"))
        store = StorePolicy(configured=True, latch_poll_ms=200, lease_ttl_ms=LEASE_TTL_MS, lease_renew_ms=LEASE_TTL_MS // 3)
        venue = VenueTraits(place_expiry_ms=PLACE_EXPIRY_MS)
        return Config(self.session, tuple(_SYMBOLS), limits, venue, store=store, seed=self.seed)


@define(eq=False)
class _Slot:
    symbol: str
    side: Side
    level: int
    order: OrderHandle | None = None


class _Worker:
    """A market maker under way."""

    def __init__(self, role: Role) -> None:
        self._random = random.Random(f"{role.seed}/{role.name}")
        self._slots = [_Slot(symbol, side, level) for level in range(_LEVELS) for symbol in _SYMBOLS for side in Side]
        self._latched = False
        self._bot = Runner(
            role.config, venue=RemoteVenue(role.venue, role.session), journal=role.journal, store=RedisStore(role.url, role.account),
            instruments=INSTRUMENTS, observer=self._observe, people=People(unheard), who=f"{role.name}-{os.getpid()}",
        )  # fmt: skip

    async def run(self, orders: asyncio.StreamReader) -> None:
        """Live until told to stop."""
        bot = self._bot
        await bot.start()
        modes = {scope or "account": mode.value for scope, mode in bot.status().modes.items()}
        _tell("ready", modes=modes, session=bot.config.session, record=bot.status().record)
        for symbol in _SYMBOLS:
            await bot.mark(symbol, to_text(self._price(symbol, 0)))
        quoting = asyncio.create_task(self._quote())
        try:
            while True:
                match (await orders.readline()).decode().strip():
                    case "collapse":
                        await bot.edge("BTCUSDT", "3.2")
                    case "try":
                        _tell("tried", code=await self._try())
                    case "stop":
                        break
                    case "":
                        bot.abandon()
                        return
        finally:
            quoting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await quoting
        await bot.stop()
        _tell("stopped")

    async def _quote(self) -> None:
        """Keep the slots filled, and move one of them now and then, until something is frozen."""
        while not self._bot.status().modes:
            with contextlib.suppress(HaltcoreError):
                empty = [slot for slot in self._slots if slot.order is None or is_done(slot.order.facts)]
                for slot in empty:
                    slot.order = await self._bot.submit(
                        slot.symbol, slot.side.value, to_text(_SYMBOLS[slot.symbol][1]), to_text(self._wanted(slot))
                    )
                if not empty:
                    slot = self._random.choice(self._slots)
                    assert slot.order is not None
                    if self._random.random() < 0.7:
                        await self._bot.replace(slot.order, to_text(_SYMBOLS[slot.symbol][1]), to_text(self._wanted(slot)))
                    else:
                        await self._bot.cancel(slot.order)
            await asyncio.sleep(_PAUSE_S)

    async def _try(self) -> str:
        try:
            await self._bot.submit("BTCUSDT", "buy", "0.01", "59000")
        except HaltcoreError as denied:
            return denied.code
        return ""

    def _wanted(self, slot: _Slot) -> Any:
        """Levels are 4 bps apart and a quote moves within 3, so that no two of them ever meet."""
        away = 10 + 4 * slot.level + self._random.randint(0, 3)
        return self._price(slot.symbol, -away if slot.side is Side.BUY else away)

    def _price(self, symbol: str, away_bps: int) -> Any:
        mid = _SYMBOLS[symbol][0]
        return (mid + mid * away_bps // 10_000) * _CENT

    def _observe(self, event: Event, after: Core, effects: tuple[Effect, ...]) -> None:
        if isinstance(event, LeaseAnswer):
            _tell("lease", kind=event.kind.value, fence=[event.fence.epoch, event.fence.counter], holder=event.holder)
        if isinstance(event, LatchAnswer) and not self._latched and any(row.mine for row in event.rows):
            self._latched = True
            _tell("latched")
        for effect in effects:
            if isinstance(effect, ModeChanged) and effect.mode is Mode.FREEZING:
                _tell("freezing", trigger=effect.trigger.value, reason=effect.reason, by=effect.by, record=after.seq)
            elif isinstance(effect, SweepReport) and effect.status is SweepStatus.SUCCESS:
                ms = effect.duration_ns // 1_000_000
                _tell("proven", cancelled=effect.cancelled, remaining=effect.remaining, rounds=effect.rounds, ms=ms)
        cancels = sum(isinstance(effect, (Cancel, CancelBatch, CancelAll)) for effect in effects)
        if cancels and after.desk is not None and after.desk.sweep is not None:
            _tell("cancels", count=cancels)


def _tell(what: str, **more: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode({"told": what, **more}) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    first = await orders.readline()
    if first:
        await _Worker(msgspec.json.decode(first, type=Role)).run(orders)


if __name__ == "__main__":
    asyncio.run(_main())
