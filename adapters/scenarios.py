"""Three short stories, each about one thing, for whoever wants to see it before reading about it.

=========  ==================================================================================================
edge       three orders are open when the edge falls below 200 bps: frozen, cancelled, proven
inventory  a limit of 5000, 4000 held, 2500 asked: this order is denied, and nothing is frozen
manual     a person freezes; only a person who says who and why lifts it
=========  ==================================================================================================

Each is an ordinary session on the paper venue, in simulated time, with a log that is replayed at the end. A story makes promises;
each is checked, and one that is not kept is said and makes the exit code 1.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from attrs import frozen

from ..effects import Mode, Side, bps, price, qty, to_text, usd
from ..effects.ids import base36
from ..fsm.config import Config
from ..fsm.instrument import Instrument
from ..fsm.limits import Limits
from ..fsm.verdict import Verdict
from . import virtual_time
from .answers import CommandRejected, HaltcoreError, OrderDenied, Proof
from .clock import LoopClock
from .demo import EPOCH_NS, PATIENCE_S, not_yet, read_again, unheard
from .disk import Disk
from .metrics import Metrics
from .paper import PaperVenue
from .people import People
from .runner import Runner
from .spectator import Say, Spectator
from .views import utc

_NOTIONAL_DIGITS = 24
_MARKS = {"BTCUSDT": "50000", "ETHUSDT": "2500", "SOLUSDT": "100"}
_TERMS = {
    "BTCUSDT": Instrument(tick=price("0.1"), lot=qty("0.001"), min_notional=usd("5")),
    "ETHUSDT": Instrument(tick=price("0.01"), lot=qty("0.01"), min_notional=usd("5")),
    "SOLUSDT": Instrument(tick=price("0.01"), lot=qty("0.1"), min_notional=usd("5")),
}
#: An order of about 500 in each symbol, below the market, so that it rests.
_THREE = (("BTCUSDT", "0.01", "49900"), ("ETHUSDT", "0.2", "2495"), ("SOLUSDT", "5", "99.8"))


@frozen
class Told:
    """What came of a story. ``promises`` says of each whether it was kept; ``frozen_at`` and ``denied_at`` are records, 0 for none.
    ``problem`` is the journal's, if it failed."""

    scenario: str
    promises: tuple[tuple[str, bool], ...]
    frozen_at: int
    denied_at: int
    files: tuple[str, ...]
    problem: str
    verdict: Verdict | None

    @property
    def exit_code(self) -> int:
        """0 only if every promise was kept and the replay agrees."""
        if self.verdict is not None and self.verdict.exit_code:
            return self.verdict.exit_code
        kept = all(kept for _, kept in self.promises)
        return 0 if kept and self.verdict is not None else 1


@frozen
class Scenario:
    """One story: its title, the limits it is about, and how it goes. ``other`` is a limit under which its log is worth another look."""

    title: str
    limits: Limits
    other: str
    story: Callable[["_Stage"], Awaitable[None]]


def tell(name: str, seed: int, journal: str, disk: Disk, say: Say, on_jump: Callable[[int], None] | None = None) -> Told:
    """Tell one story in simulated time, and replay its log. ``say`` gets each line; it must not raise. Raises as ``demo.play`` does."""
    not_yet(journal, disk)
    return virtual_time.run(_tell(name, seed, journal, disk, say), limit_s=PATIENCE_S, on_jump=on_jump)


async def _tell(name: str, seed: int, journal: str, disk: Disk, say: Say) -> Told:
    scenario = SCENARIOS[name]
    conf = Config(session=f"s{base36(seed):0>6}", symbols=tuple(_MARKS), limits=scenario.limits, seed=seed)
    clock = LoopClock(asyncio.get_running_loop(), EPOCH_NS)
    stage = _Stage(say, PaperVenue(tuple(_MARKS), seed=seed, latency_ms=(5, 25), instruments=_TERMS), Metrics(conf.symbols))
    bot = stage.bot = Runner(
        conf, venue=stage.venue, journal=journal, clock=clock, disk=disk, observer=stage.seen.observe, metrics=stage.metrics,
        people=People(unheard), who="runner",
    )  # fmt: skip
    say(f"STORY    {scenario.title}")
    try:
        await bot.start()
        for symbol, mark in _MARKS.items():
            stage.venue.mark(symbol, price(mark))
            await bot.mark(symbol, mark)
        try:
            await scenario.story(stage)
        except HaltcoreError as error:
            stage.promise(f"the story comes to its end (it did not: {error})", False)
        problem = bot.status().journal_failed
        frozen_at, denied_at = stage.seen.frozen_at, stage.seen.denied_at
        stage.head("STOP", "the bot stops, and a stop is a freeze: it ends with a proof")
        await bot.stop()
    except BaseException:
        bot.abandon()
        raise
    stage.promise("nothing is open at the end, by the venue's own books", not stage.venue.exchange.all_open())
    files, verdict = read_again(journal, disk, problem)
    return Told(name, tuple(stage.promises), frozen_at, denied_at, files, problem, verdict)


class _Stage:
    """What a story is told with."""

    bot: Runner

    def __init__(self, say: Say, venue: PaperVenue, metrics: Metrics) -> None:
        self.say, self.venue, self.metrics = say, venue, metrics
        self.seen = Spectator(say)
        self.promises: list[tuple[str, bool]] = []

    def head(self, word: str, text: str) -> None:
        """A new paragraph."""
        self.say("")
        self.more(text, word)

    def more(self, text: str, word: str = "") -> None:
        """A line of one."""
        self.say(f"{word:<8} {text}")

    def promise(self, text: str, kept: bool) -> None:
        """What the story claims; said only if it is not so."""
        self.promises.append((text, kept))
        if not kept:
            self.more(text, "NOT SO")

    async def submit(self, symbol: str, side: Side, size: str, limit: str) -> str:
        """Ask for an order and tell what came of it: "live", or the code of the gate."""
        asked = f"{side.value:<4} {size:>5} {symbol} at {limit:>6}"
        try:
            order = await self.bot.submit(symbol, side.value, size, limit)
        except OrderDenied as denied:
            self.more(f"{asked}   denied, {denied.code}")
            self.more(denied.reason)
            return denied.code
        self.more(f"{asked}   live as {order.client_id}")
        return "live"

    async def open_three(self) -> None:
        """One order in each symbol."""
        self.head("OPEN", "an order in each of three symbols")
        for symbol, size, limit in _THREE:
            await self.submit(symbol, Side.BUY, size, limit)
        self.promise("three orders are open at the venue", len(self.venue.exchange.all_open()) == 3)

    def proven(self, proof: Proof) -> None:
        """Compare the proof of the freeze with the venue's own books."""
        left = len(self.venue.exchange.all_open())
        self.more(f"{proof.cancelled} orders cancelled; open at the venue, by its own books: {left}", "PROVEN")
        self.promise("all three orders are cancelled, and the venue has none", (proof.verified, proof.cancelled, left) == (True, 3, 0))

    async def try_again(self) -> None:
        """An order while frozen."""
        self.head("TRY", "one more order while frozen")
        tried = await self.submit("BTCUSDT", Side.BUY, "0.01", "49900")
        self.promise("an order while frozen is denied", tried == "frozen")

    def what_if(self, symbol: str, side: Side, size: str, limit: str) -> None:
        """Every limit that the order would meet, with its figure."""
        before = self.bot.core
        answer = self.bot.what_if(symbol, side.value, size, limit)
        self.more(f"{'limit':<20} {'with the order':>15} {'bound':>8}")
        for finding in answer.findings:
            for figure in finding.figures:
                value, bound = to_text(figure.value, figure.digits), to_text(figure.bound, figure.digits)
                self.more(f"{figure.name:<20} {value:>15} {bound:>8}{'   too much' if figure.exceeded else ''}")
        now, then = (to_text(worth, _NOTIONAL_DIGITS) for worth in (answer.symbol.before, answer.symbol.after))
        self.more(f"worst case in {symbol}: {now} now, {then} with it; it would be {'denied' if answer.code else 'sent'}")
        self.promise("asking changes nothing", self.bot.core is before)
        self.promise("the answer says what is worth how much", (answer.code, now, then) == ("max_inventory_usd", "4000", "6500"))

    def metric(self, series: str, expected: int) -> None:
        """One sample, as Prometheus would scrape it."""
        lines = [line for line in self.metrics.text().splitlines() if line.startswith(series + " ")]
        self.head("METRIC", lines[0] if lines else f"{series} is missing")
        self.promise(f"{series} is {expected}", lines == [f"{series} {expected:.1f}"])


# --- the stories ------------------------------------------------------------------------------------------------------


async def _edge(stage: _Stage) -> None:
    await stage.open_three()
    stage.head("EDGE", "250 bps: all is well")
    await stage.bot.edge("BTCUSDT", "250")
    stage.promise("an edge above the threshold changes nothing", not stage.bot.status().modes)
    stage.more("150 bps, below the threshold of 200: the bot freezes itself")
    await stage.bot.edge("BTCUSDT", "150")
    frozen = stage.bot.mode("") is Mode.FREEZING
    stage.promise("the edge below the threshold freezes", frozen)
    if not frozen:
        return
    stage.proven(await stage.bot.proof())
    await stage.try_again()
    stage.metric('freeze_triggered_total{reason="edge_collapse"}', 1)


async def _inventory(stage: _Stage) -> None:
    stage.head("HELD", "0.08 BTCUSDT, bought and filled at 50000: a position of 4000, under a limit of 5000")
    await stage.submit("BTCUSDT", Side.BUY, "0.08", "50000")
    stage.venue.trade("BTCUSDT", Side.SELL, qty("0.08"), price("50000"))
    await asyncio.sleep(1)
    stage.promise("the position is 0.08", stage.venue.exchange.position("BTCUSDT") == qty("0.08"))
    stage.head("WHAT IF", "2500 more were bought? It is asked first: nothing is sent, nothing changes")
    stage.what_if("BTCUSDT", Side.BUY, "0.05", "50000")
    stage.head("ASK", "for the 2500 all the same")
    denied = await stage.submit("BTCUSDT", Side.BUY, "0.05", "50000")
    stage.promise("the order is denied, by the limit", denied == "max_inventory_usd")
    stage.head("AND", "nothing is frozen; what keeps the limit goes out")
    stage.promise("nothing is frozen", not stage.bot.status().modes)
    within = [
        await stage.submit("BTCUSDT", Side.BUY, "0.02", "50000"),
        await stage.submit("ETHUSDT", Side.BUY, "1", "2500"),
        await stage.submit("BTCUSDT", Side.SELL, "0.08", "50100"),
    ]
    stage.promise("orders within the limit go out", within == ["live"] * 3)
    stage.metric('mm_orders_denied_total{code="max_inventory_usd"}', 1)


async def _manual(stage: _Stage) -> None:
    await stage.open_three()
    stage.head("FREEZE", 'by ops: "the venue looks ill"')
    stage.proven(await stage.bot.freeze("the venue looks ill", by="ops"))
    await stage.try_again()
    desk = stage.bot.core.desk
    freezes = desk.freezes if desk is not None else ()
    stage.head("HISTORY", "; ".join(f"{utc(f.at_ns)}  {f.trigger} of the account by {f.by}: {f.reason}" for f in freezes))
    stage.promise("the history has one freeze, with its reason", [f.reason for f in freezes] == ["the venue looks ill"])
    stage.head("UNFREEZE", "without a reason")
    try:
        await stage.bot.unfreeze(by="ops", why=" ")
    except CommandRejected as refused:
        stage.more(f"refused: {refused.reason}")
    stage.promise("without a reason it stays frozen", stage.bot.proven())
    await asyncio.sleep(60)
    stage.more('a minute later, by ops: "the venue is well again"')
    await stage.bot.unfreeze(by="ops", why="the venue is well again")
    stage.promise("it is unfrozen", not stage.bot.status().modes)
    again = await stage.submit("BTCUSDT", Side.BUY, "0.01", "49900")
    stage.promise("orders pass again", again == "live")
    stage.metric('freeze_triggered_total{reason="manual"}', 1)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "edge": Scenario(
            "the edge collapses under three open orders",
            Limits(edge_freeze_threshold_bps=bps("200")), "edge_freeze_threshold_bps=100", _edge,
        ),
        "inventory": Scenario(
            "a limit says no to one order",
            Limits(usd("5000"), usd("20000"), max_order_value=usd("6000"), max_open_orders=10), "max_inventory_usd=7500", _inventory,
        ),
        "manual": Scenario("a person freezes, and lifts it again", Limits(), "max_open_orders=2", _manual),
    }
)  # fmt: skip
