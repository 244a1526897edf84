"""The demo: a market maker on the paper venue that freezes itself, proves its book empty, and replays its own log.

The story, in simulated time:

======================  ================================================================================
first seconds           the book is built up: bids, offers and stop orders in two symbols
every second            mid prices walk, the inner quotes follow them (replace, or cancel and place anew),
                        counterparties trade, the edge melts, now and then an order is far too large
``plan.freeze_at_s``    new orders are on the wire when the edge collapses: the bot freezes itself, sweeps,
                        and proves the book empty, however long that takes
then                    one more order is tried and denied; the log is closed and replayed
======================  ================================================================================

The venue tells its instruments (tick, lot, least value), and the bot keeps limits on inventory, exposure, order value, price, open
orders, messages and the day's loss. In a day without accidents only three things ever make it say no: an order that is too large, inventory
that is full, and a side in which an order's fate is unknown.

Nothing here is random but by the seed, and the clock is simulated, so the same plan gives the same log, byte for byte. There are no
switches for the demo inside the core or the runner: the session is an ordinary one.
"""

import asyncio
import random
from collections.abc import Callable

from attrs import define, frozen

from ..effects import Alert, Price, Qty, Side, bps, price, qty, to_text, usd
from ..effects.ids import base36
from ..fsm.config import Config
from ..fsm.core import Core
from ..fsm.instrument import Instrument
from ..fsm.limits import Limits, Rate
from ..fsm.order import Ended, is_done
from ..fsm.replay import Source, replay
from ..fsm.verdict import Verdict
from . import virtual_time
from .answers import HaltcoreError, OrderHandle, Proof
from .clock import LoopClock
from .disk import Disk
from .faults import FaultPlan
from .journal import JournalFailed, exists, segments
from .paper import PaperVenue
from .people import People
from .runner import Runner
from .spectator import Say, Spectator
from .virtual_time import TimeLimit

#: 2026-01-01 00:00:00 UTC: where the simulated clock begins.
EPOCH_NS = 1_767_225_600 * 10**9
MAX_SEED = 2**31 - 1
MAX_ORDERS = 5_000
#: If the proof has not come after this much simulated time, something is wrong with haltcore, and the demo says so.
PATIENCE_S = 6 * 3_600
_CENT = 10**10  # prices move in cents
_ORDER_VALUE_USD = 600
_INNER = 12  # so many quotes follow the market: three levels, two sides, two symbols
#: By symbol: the first mid price in dollars, and the size of an order.
_SYMBOLS = {"BTCUSDT": (60_000, qty("0.01")), "ETHUSDT": (3_000, qty("0.2"))}
_INSTRUMENTS = {
    "BTCUSDT": Instrument(tick=price("0.01"), lot=qty("0.001"), min_notional=usd("5")),
    "ETHUSDT": Instrument(tick=price("0.01"), lot=qty("0.01"), min_notional=usd("5")),
}

__all__ = ["EPOCH_NS", "MAX_ORDERS", "MAX_SEED", "PATIENCE_S", "Plan", "Result", "TimeLimit", "free_name", "play"]


@frozen
class Plan:
    """What to play. ``orders`` is about how many are open when the freeze comes; ``freeze_at_s`` counts simulated seconds."""

    seed: int = 7
    faults: str = "mild"
    orders: int = 40
    freeze_at_s: int = 45

    @property
    def config(self) -> Config:
        """The session's configuration: limits that the quotes nearly fill, and a freeze when the edge falls below 5 bps."""
        inventory = (self.orders // 4 + 4) * _ORDER_VALUE_USD * 11 // 10
        limits = Limits(
            max_inventory_usd=usd(inventory),
            max_total_notional=usd(4 * inventory),
            edge_freeze_threshold_bps=bps("5"),
            max_order_value=usd(2 * _ORDER_VALUE_USD),
            price_collar_bps=bps(100 + self.orders),
            max_open_orders=self.orders + _INNER,
            max_daily_loss=usd(inventory // 5),
            message_rate=Rate(self.orders + 100, 1_000),
        )
        return Config(session=f"d{base36(self.seed):0>6}", symbols=tuple(_SYMBOLS), limits=limits, seed=self.seed)


@frozen
class Tried:
    """The order that was tried after the freeze. ``code`` is empty if it went out, which must not happen."""

    code: str
    reason: str
    record: int


@frozen
class Result:
    """What came of it. ``open_at_venue`` is the venue's own count at the end, ``fates`` counts what became of the
    orders that were open, or possibly open, at the freeze, ``denials`` the denied orders by code; ``late`` says that the sweep had to
    report before that it had not succeeded yet.

    ``sample`` is the client id of an order that was cancelled by the freeze (or of the last order, if none was), ``frozen_at``
    the record of the freeze, ``denied_at`` that of the first denied order. ``problem`` is the journal's, if it failed.
    """

    proof: Proof
    late: bool
    tried: Tried
    fates: tuple[tuple[str, int], ...]
    open_at_venue: int
    fills: int
    denied: int
    denials: tuple[tuple[str, int], ...]
    in_doubt: int
    faults: int
    files: tuple[str, ...]
    sample: str
    frozen_at: int
    denied_at: int
    problem: str
    verdict: Verdict | None

    @property
    def exit_code(self) -> int:
        """0 only if the freeze was proven, the venue's books are empty, the late order was denied, and the replay agrees."""
        held = self.proof.verified and self.open_at_venue == 0 and self.tried.code == "frozen" and not self.problem
        if self.verdict is not None and self.verdict.exit_code:
            return self.verdict.exit_code
        return 0 if held and self.verdict is not None else 1


def play(
    plan: Plan, journal: str, disk: Disk, say: Say, on_jump: Callable[[int], None] | None = None
) -> Result:
    """Run the session in simulated time, and replay its log.

    ``say`` gets each line for the spectator; it must not raise. Raises :class:`JournalFailed` when the log cannot be created, and
    whatever ``on_jump`` raises.
    """
    not_yet(journal, disk)
    session = _Session(plan, journal, disk, say)
    return virtual_time.run(session.run(), limit_s=PATIENCE_S, on_jump=on_jump)


def not_yet(journal: str, disk: Disk) -> None:
    """Raise :class:`JournalFailed` if there is a log with this name."""
    if exists(journal, disk):
        raise JournalFailed("exists", f"{journal}: something is there already and is never overwritten. Choose another name")


def free_name(folder_and_stem: str, disk: Disk) -> str:
    """``STEM.jsonl``, or ``STEM-2.jsonl``, ``STEM-3.jsonl`` and so on: the first name that no log has."""
    number = 1
    while exists(name := f"{folder_and_stem}{f'-{number}' if number > 1 else ''}.jsonl", disk):
        number += 1
    return name


def read_again(journal: str, disk: Disk, problem: str) -> tuple[tuple[str, ...], Verdict | None]:
    """The files of the log, and what a replay says of it; no verdict if the journal had a problem."""
    files = tuple(segments(journal, disk)) if not problem or exists(journal, disk) else ()
    return files, None if problem else replay([Source(name, disk.read(name)) for name in files], require_seal=True)


def unheard(alert: Alert) -> None:
    """For alerts of a session that is watched: the spectator is told by the lines about the sweep."""


@define(eq=False)
class _Slot:
    """A place in the book that the strategy keeps filled. ``level`` counts from the market; ``order`` is what fills it."""

    symbol: str
    side: Side
    level: int
    stop: bool
    order: OrderHandle | None = None


def _slots(orders: int) -> list[_Slot]:
    """The inner quotes first; of the rest every fifth is a stop order."""
    sides = [(symbol, side) for symbol in _SYMBOLS for side in Side]
    return [
        _Slot(*sides[number % 4], level=number // 4, stop=number >= _INNER and (number // 4) % 5 == 3) for number in range(orders)
    ]


class _Session:
    """One demo under way: the market, the strategy, and what the spectator is told."""

    def __init__(self, plan: Plan, journal: str, disk: Disk, say: Say) -> None:
        self._plan, self._path, self._disk, self._say = plan, journal, disk, say
        self._random = random.Random(f"{plan.seed}/market")
        self._mids = {symbol: dollars * 100 for symbol, (dollars, _) in _SYMBOLS.items()}
        self._slots = _slots(plan.orders)
        self._venue = PaperVenue(
            list(_SYMBOLS), seed=plan.seed, faults=FaultPlan.named(plan.faults, plan.seed), latency_ms=(5, 25),
            instruments=_INSTRUMENTS,
        )  # fmt: skip
        self._seen = Spectator(say)
        self._edge = 0

    async def run(self) -> Result:
        """The whole story."""
        clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
        bot = self._bot = Runner(
            self._plan.config, venue=self._venue, journal=self._path, clock=clock, disk=self._disk, observer=self._seen.observe,
            people=People(unheard), who="runner", max_adding=MAX_ORDERS + 1_000,
        )  # fmt: skip
        try:
            await bot.start()
            await self._trading()
            proof, late = await self._freeze()
            tried = await self._try_again()
            problem = bot.status().journal_failed
            await bot.stop()
        except BaseException:
            bot.abandon()
            raise
        return self._result(proof, late, tried, problem)

    # --- trading --------------------------------------------------------------------------------------------------

    async def _trading(self) -> None:
        wrong = "messages arrive as they should" if self._plan.faults == "none" else "messages are lost, late, repeated or wrong"
        self._say(f"TRADING  a market maker with about {self._plan.orders} orders on a simulated venue; faults: {self._plan.faults}")
        self._say(f"         {wrong}")
        self._say("")
        self._say("   time     BTCUSDT     ETHUSDT  edge    open   fills  denied  in doubt  faults so far")
        for second in range(self._plan.freeze_at_s):
            await self._move(second)
            calm = second >= self._plan.freeze_at_s - 2
            await self._quote(second, calm)
            if not calm:
                self._counterparties()
            if second % 15 == 8:
                await self._submit("BTCUSDT", Side.BUY, Qty(_SYMBOLS["BTCUSDT"][1] * 10_000), self._price("BTCUSDT", -20))
            await asyncio.sleep(1)
            if second % 2:
                self._say(self._line(second + 1))

    async def _move(self, second: int) -> None:
        """A second of market: prices walk, and the edge melts away, so that another limit would have stopped the bot sooner."""
        for symbol in _SYMBOLS:
            mid = self._mids[symbol]
            self._mids[symbol] = mid + mid * self._random.randint(-3, 3) // 10_000
            await self._bot.mark(symbol, to_text(self._price(symbol, 0)))
            self._edge = 28 - 18 * second // self._plan.freeze_at_s + self._random.randint(-2, 2)
            await self._bot.edge(symbol, str(self._edge))
            self._venue.mark(symbol, self._price(symbol, 0))

    async def _quote(self, second: int, calm: bool) -> None:
        """Fill the slots that are empty, and let the inner quotes follow the market."""
        ready = max(_INNER, self._plan.orders * (second + 1) // 5)
        full: list[tuple[str, Side]] = []
        for number, slot in enumerate(self._slots[:ready]):
            order = slot.order
            if order is None or is_done(order.facts):
                # After one denial the rest of that side waits for the next second.
                if (slot.symbol, slot.side) not in full and not await self._fill(slot):
                    full.append((slot.symbol, slot.side))
            elif number < _INNER and not calm:
                await self._requote(slot, order)

    async def _fill(self, slot: _Slot) -> bool:
        """Place an order for the slot; False when the gate denied it."""
        size = _SYMBOLS[slot.symbol][1]
        away = slot.level + 3 if slot.level < _INNER // 4 else 30 + 2 * slot.level
        if slot.stop:
            # A stop rests on the other side of the market than a limit order: it buys when the price has risen.
            trigger = self._price(slot.symbol, away + 300 if slot.side is Side.BUY else -away - 300)
            slot.order = await self._submit(slot.symbol, slot.side, size, None, trigger)
        else:
            slot.order = await self._submit(slot.symbol, slot.side, size, self._price(slot.symbol, _away(slot, away)))
        return slot.order is not None

    async def _requote(self, slot: _Slot, order: OrderHandle) -> None:
        wanted = self._price(slot.symbol, _away(slot, slot.level + 3))
        if not order.facts.accepted or order.facts.price == wanted:
            return
        try:
            if self._random.randrange(10) < 7:
                await self._bot.replace(order, to_text(order.facts.qty), to_text(wanted), wait=False)
            else:
                await self._bot.cancel(order, wait=False)
        except HaltcoreError:
            # The order is on its way out, or the gate said no; the next second is soon enough.
            return

    async def _submit(
        self, symbol: str, side: Side, size: Qty, limit: Price | None, stop: Price | None = None
    ) -> OrderHandle | None:
        try:
            return await self._bot.submit(
                symbol, side.value, to_text(size), to_text(limit) if limit is not None else None,
                type="stop_market" if stop is not None else "limit", stop_price=to_text(stop) if stop is not None else None,
                strategy="demo", wait=False,
            )  # fmt: skip
        except HaltcoreError:
            return None

    def _counterparties(self) -> None:
        for symbol, (_, size) in _SYMBOLS.items():
            if self._random.randrange(10) < 6:
                side = (Side.BUY, Side.SELL)[self._random.randrange(2)]
                limit = self._price(symbol, 20 if side is Side.BUY else -20)
                self._venue.trade(symbol, side, Qty(size * self._random.randint(2, 15) // 10), limit)

    def _price(self, symbol: str, away_bps: int) -> Price:
        """The mid price, so many basis points up."""
        mid = self._mids[symbol]
        return Price((mid + mid * away_bps // 10_000) * _CENT)

    # --- the freeze -----------------------------------------------------------------------------------------------

    async def _freeze(self) -> tuple[Proof, bool]:
        """New orders go out, two milliseconds later the edge collapses; wait for the proof."""
        for slot in self._slots[:4]:
            await self._fill(slot)
        await asyncio.sleep(0.002)
        self._say("")
        self._say(f"FREEZE   after {self._plan.freeze_at_s} s the edge falls to 3.2 bps, below the limit of 5: the bot freezes itself")
        open_now, wire = len(self._bot.core.orders), sum(not order.accepted for order in self._bot.core.orders.values())
        self._say(f"         open or possibly open: {open_now} orders, of which {wire} are not confirmed yet")
        self._say("         nothing may be placed; it cancels, and looks, until nothing is left that could still fill")
        self._say("")
        await self._bot.edge("BTCUSDT", "3.2")
        proof = await self._bot.proof()
        late = not proof.verified
        if late:
            left = f"{proof.remaining} order(s) may still be open"
            self._say(f"         not proven after {proof.duration_ms:,} ms, {left}: it says so, and goes on")
        while not proof.verified:
            proof = await self._bot.proof()
        return proof, late

    async def _try_again(self) -> Tried:
        self._say("")
        self._say("TRY      one more order while frozen")
        try:
            await self._bot.submit("BTCUSDT", "buy", "0.01", "50000", wait=False)
        except HaltcoreError as denied:
            self._say(f"         denied: {denied.reason}")
            return Tried(denied.code, denied.reason, self._bot.core.seq)
        return Tried("", "", self._bot.core.seq)

    def _line(self, second: int) -> str:
        mids = "  ".join(f"{self._mids[symbol] / 100:>10,.2f}" for symbol in _SYMBOLS)
        orders = self._bot.core.orders
        doubt = sum(1 for order in orders.values() if order.requests.doubt_ns)
        counts = f"{len(orders):>6}  {len(self._venue.exchange.trades):>6}  {self._seen.denied.total():>6}  {doubt:>8}"
        return f"  {second:>3} s  {mids}  {self._edge:>4}  {counts}  {self._venue.befell.total():>6}"

    # --- the end --------------------------------------------------------------------------------------------------

    def _result(self, proof: Proof, late: bool, tried: Tried, problem: str) -> Result:
        core, venue = self._bot.core, self._venue
        files, verdict = read_again(self._path, self._disk, problem)
        seen, trades, still = self._seen, len(venue.exchange.trades), len(venue.exchange.all_open())
        return Result(
            proof, late, tried, self._fates(core), still, trades, seen.denied.total(), tuple(seen.denied.most_common()), seen.in_doubt,
            venue.befell.total(), files, self._sample(core), seen.frozen_at, seen.denied_at, problem, verdict,
        )  # fmt: skip

    def _fates(self, core: Core) -> tuple[tuple[str, int], ...]:
        words = {Ended.CANCELLED: "cancelled", Ended.NO: "filled", Ended.REJECTED: "never live", Ended.EXPIRED: "expired"}
        fates = dict.fromkeys([*words.values(), "still open"], 0)
        for key in self._seen.open_then:
            order = core.closed.get(key)
            fates[words[order.ended] if order is not None else "still open"] += 1
        return tuple((fate, count) for fate, count in fates.items() if count)

    def _sample(self, core: Core) -> str:
        swept = [order for key in self._seen.open_then if (order := core.closed.get(key)) and order.ended is Ended.CANCELLED]
        partly = [order for order in swept if order.cum_qty]
        best = partly or swept or sorted(core.closed.values(), key=lambda order: order.key)
        return best[-1].spec.client_id if best else ""



def _away(slot: _Slot, bps_away: int) -> int:
    return -bps_away if slot.side is Side.BUY else bps_away
