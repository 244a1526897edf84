"""A world in which the runner lives and dies: simulated time, a faulty venue, a shared store, a disk that loses what was not synced.

One seed decides everything: the faults, what the bot does and when, where the process is killed. A run has two phases. In the
*safety* phase everything goes wrong that the plan holds; in the *liveness* phase the venue, the store and the disk behave, and the
account must end up frozen and proven empty.

The checkers stand apart from the code under test and know the truth of the venue:

* no request that places reached the venue after the freeze had been decided, and no client id reached it twice;
* after every record, whatever the venue can still produce is counted: its position plus its open orders of a side never exceed ours;
* at the end no order is open at the venue, and the position there is the position in the core;
* no invariant was broken on the way; the journal replays to the same decisions, and every effect has its outcome;
* the same seed gives the same bytes.

A process is killed at an *effect boundary*: before an effect is carried out, after it was but before its outcome is written, before
and after the disk confirms. ``kill_at`` numbers these boundaries from 1 within one life of the process.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from attrs import Factory, define, field, frozen
from haltcore.adapters.answers import HaltcoreError
from haltcore.adapters.clock import LoopClock
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.faults import FaultPlan
from haltcore.adapters.journal import segments
from haltcore.adapters.ladder import Ticket
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.ports import Emit, MaySend, NowNs
from haltcore.adapters.runner import Runner
from haltcore.adapters.virtual_time import run
from haltcore.effects import (
    Alert,
    Denied,
    Effect,
    Mode,
    ModeChanged,
    Place,
    Rejected,
    Replace,
    Side,
    SweepReport,
    Trigger,
    bps,
    price,
    qty,
    usd,
)
from haltcore.fsm import Config, CoolDown, FreezeClass, LimitRule, Limits, Rate, StorePolicy, Triggers, broken_state
from haltcore.fsm.core import Core, effective_mode, frozen_scopes, scope_text
from haltcore.fsm.events import (
    BreakerChanged,
    ChangeLimits,
    ClockReading,
    EndOverride,
    Event,
    Freeze,
    Heartbeat,
    MarkPrice,
    OverrideLimits,
    Reenable,
    Restrict,
    SetReduceOnly,
    Unfreeze,
    VerifyOverride,
    VolatilityBand,
)
from haltcore.fsm.exposure import FLAT
from haltcore.fsm.outcomes import owes_outcome
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Kind

SYMBOLS = ("BTCUSDT", "ETHUSDT")
STRATEGIES = ("mm", "arb")
EPOCH_NS = 1_700_000_000 * 10**9
LOG = "sim.jsonl"


@frozen
class Plan:
    """What happens in a run; all of it follows from the seed."""

    seed: int
    faults: str
    acts: int
    kill_at: tuple[int, ...]
    store: bool
    store_faults: int
    sync_delay_s: float
    disk_fills: bool
    foreign: bool
    gate: str

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """The plan of a seed."""
        draw = random.Random(f"plan/{seed}")
        kills = tuple(draw.randint(1, 110) for _ in range(draw.choice((0, 1, 1, 2, 3))))
        return cls(
            seed=seed,
            faults=draw.choice(("none", "mild", "harsh", "harsh")),
            acts=draw.randint(5, 40) * draw.choice((1, 1, 2)),
            kill_at=kills,
            store=draw.random() < 0.5,
            store_faults=draw.choice((0, 0, 200, 500)),
            sync_delay_s=draw.choice((0.0, 0.0005, 0.02)),
            disk_fills=draw.random() < 0.08,
            foreign=draw.random() < 0.2,
            gate=draw.choice(("plain", "tight", "teams")),
        )

    @property
    def config(self) -> Config:
        """The session's configuration. *plain*: loose limits. *tight*: every limit and trigger there is, close by. *teams*: two strategies
        with limits of their own, bands, and freezes that may pass by themselves."""
        limits, rules, triggers = Limits(usd("2000"), usd("3000"), bps("200")), (), Triggers()
        if self.gate == "tight":
            limits = Limits(
                usd("900"), usd("1400"), bps("200"), max_order_value=usd("390"), max_order_qty=qty("4"), price_collar_bps=bps("1100"),
                max_open_orders=7, max_daily_loss=usd("9"), max_drawdown=usd("12"), feed_lost_ms=8_000, message_rate=Rate(3, 1_000),
                execution_rate=Rate(5, 20_000), duplicate_window_ms=3_000, prevent_self_match=True,
            )  # fmt: skip
            triggers = Triggers(Rate(1, 60_000), 60_000, breaker_open=True)
        if self.gate == "teams":
            rules = (
                LimitRule(Limits(max_inventory_usd=usd("700"), max_total_notional=usd("900"), max_drawdown=usd("8")), strategy="mm"),
                LimitRule(Limits(max_open_orders=4, execution_rate=Rate(3, 10_000)), strategy="arb"),
                LimitRule(Limits(max_order_qty=qty("2")), band="high"),
                LimitRule(Limits(edge_freeze_threshold_bps=bps("250"), feed_lost_ms=9_000), symbol="ETHUSDT"),
            )
            cool_downs = (CoolDown(FreezeClass.NETWORK, 500, 4_000), CoolDown(FreezeClass.EDGE, 300, 2_000, repeats=2))
            triggers = Triggers(Rate(1, 60_000), cool_downs=cool_downs)
        return Config(
            "simtest", SYMBOLS, limits=limits, rules=rules, strategies=STRATEGIES if self.gate == "teams" else (), triggers=triggers,
            two_persons=self.gate == "tight", store=StorePolicy(configured=self.store), seed=self.seed,
        )  # fmt: skip


class Killed(BaseException):
    """The process died under the caller."""


@define
class Lived:
    """What a run has left behind, for the checkers and for comparison."""

    journal: dict[str, bytes] = Factory(dict)
    proofs: list[SweepReport] = Factory(list)
    kills: int = 0
    boundaries: int = 0
    places: int = 0
    freeze_to_proof_ns: int = 0
    open_at_venue: int = -1
    codes: dict[str, int] = Factory(dict)
    faults: list[str] = Factory(list)


@define(eq=False)
class World:
    """Everything outside of the process, and the process that happens to run."""

    plan: Plan
    config: Config
    loop: asyncio.AbstractEventLoop
    clock: LoopClock
    venue: "WatchedVenue"
    store: MemoryState
    disk: MemoryDisk
    lived: Lived
    runner: Runner | None = None
    boundary: int = 0
    uncovered: str | None = None
    kills: list[int] = field(factory=list)
    seen: list[tuple[Event, tuple[Effect, ...]]] = field(factory=list)
    dead: asyncio.Event = field(factory=asyncio.Event)
    marks: dict[str, int] = Factory(lambda: dict.fromkeys(SYMBOLS, 100))
    priced: bool = False

    def cross(self) -> None:
        """An effect boundary; the process may die here."""
        self.boundary += 1
        self.lived.boundaries += 1
        if self.kills and self.boundary == self.kills[0]:
            self.kills.pop(0)
            self.kill()
            raise asyncio.CancelledError

    def kill(self) -> None:
        """The process dies; what it had not synced is gone or torn."""
        assert self.runner is not None
        self.lived.kills += 1
        self.runner.abandon()
        self.runner = None
        self.disk.crash(kept=random.Random(f"torn/{self.plan.seed}/{self.boundary}").choice((0, 0, 1, 40, 5000)))
        self.dead.set()


class WatchedVenue(PaperVenue):
    """The paper venue, with effect boundaries around every request and a record of what left when."""

    world: World
    left: list[tuple[Effect, Mode]]

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """Watch the last check."""

        def watched(effect: Effect) -> str:
            code = may_send(effect)
            runner = self.world.runner
            if not code and isinstance(effect, (Place, Replace)) and runner is not None:
                self.left.append((effect, _mode(runner.core, effect.order)))
            return code

        super().connect(emit, now_ns, watched)

    async def perform(self, effect: Effect) -> list[Event]:
        """Carry it out, between two boundaries."""
        self.world.cross()
        events = await super().perform(effect)
        self.world.cross()
        return events


class WatchedDisk(MemoryDisk):
    """The disk in memory, with boundaries around every sync."""

    world: World

    async def create(self, name: str) -> Any:
        """A file whose syncs are boundaries."""
        return self._watched(await super().create(name))

    async def open(self, name: str) -> Any:
        """As ``create``."""
        return self._watched(await super().open(name))

    def _watched(self, file: Any) -> Any:
        sync = file.append

        async def append(data: bytes) -> None:
            self.world.cross()
            await sync(data)
            self.world.cross()

        file.append = append
        return file


def _mode(core: Core, key: int) -> Mode:
    desk, order = core.desk, core.order(key)
    return Mode.ACTIVE if desk is None or order is None else effective_mode(desk, order.spec.sym, order.spec.owner)


def _uncovered(world: World, core: Core) -> str | None:
    """SAFE-5 against the truth: what is held and open at the venue on a side is no more than what the core counts there."""
    if core.desk is None or not core.desk.opened:
        return None
    rows = world.venue.exchange.all_open()
    for sym, symbol in enumerate(SYMBOLS):
        book, held = core.books.get(sym, FLAT), world.venue.exchange.position(symbol)
        for side, sign, counted in ((Side.BUY, 1, book.position + book.buy_qty), (Side.SELL, -1, book.sell_qty - book.position)):
            truth = sign * held + sum(row.qty - row.cum_qty for row in rows if row.symbol == symbol and row.side is side)
            if truth > counted:
                return f"record {core.seq}: {symbol} {side.value}: the venue can come to {truth}, we count {counted}"
    return None


def _store_fault(plan: Plan, world: World) -> Any:
    draw = random.Random(f"store/{plan.seed}")
    kinds = (FaultKind.UNAVAILABLE, FaultKind.IN_DOUBT_APPLIED, FaultKind.IN_DOUBT_NOT_APPLIED, FaultKind.SLOW)

    def fault(effect: Effect) -> StoreFault | None:  # noqa: ARG001 - any effect may fail
        if world.lived.faults or draw.randrange(1000) >= plan.store_faults:
            return None
        return StoreFault(draw.choice(kinds), request_ms=draw.choice((0, 5, 400)))

    return fault


def _runner(world: World) -> Runner:
    plan = world.plan
    store = MemoryStore(world.store, _store_fault(plan, world)) if plan.store else None

    world.seen.clear()

    def observe(event: Event, core: Core, effects: Sequence[Effect]) -> None:
        world.lived.proofs += [effect for effect in effects if isinstance(effect, SweepReport)]
        world.seen.append((event, tuple(effects)))
        codes = world.lived.codes
        for effect in effects:
            if isinstance(effect, (Denied, Rejected, Alert)):
                codes[effect.code] = codes.get(effect.code, 0) + 1
            elif isinstance(effect, ModeChanged):
                word = f"{effect.mode.value} {effect.trigger.value}"
                codes[word] = codes.get(word, 0) + 1
        if not plan.foreign and world.uncovered is None:
            world.uncovered = _uncovered(world, core)

    return Runner(
        world.config, venue=world.venue, journal=LOG, store=store, clock=world.clock, disk=world.disk,
        people=People(lambda _: None), observer=observe, who="runner",
    )  # fmt: skip


async def _live(world: World) -> None:
    """Keep a process running until the plan is through: start it anew whenever it has died."""
    bot = asyncio.create_task(_bot(world))
    try:
        while not bot.done():
            world.dead.clear()
            world.boundary = 0
            world.runner = _runner(world)
            await _or_dead(world, world.runner.start())
            while world.runner is not None and not bot.done():
                await _either(bot, world.dead.wait())
            if world.runner is None:
                await asyncio.sleep(random.Random(f"down/{world.plan.seed}/{world.lived.kills}").choice((0.01, 1.0, 6.0)))
        await bot
    finally:
        bot.cancel()


async def _or_dead(world: World, work: Any) -> None:
    task = asyncio.ensure_future(work)
    await _either(task, world.dead.wait())
    if task.done() and not task.cancelled() and not world.dead.is_set():
        task.result()
    task.cancel()


async def _either(task: "asyncio.Future[Any]", other: Any) -> None:
    second = asyncio.ensure_future(other)
    first_done = asyncio.get_running_loop().create_future()

    def done(_: object) -> None:
        if not first_done.done():
            first_done.set_result(None)

    task.add_done_callback(done)
    second.add_done_callback(done)
    await first_done
    second.cancel()


async def _ready(world: World) -> Runner:
    """The running process, once it accepts commands."""
    while True:
        runner = world.runner
        desk = runner.core.desk if runner is not None else None
        if runner is not None and desk is not None and desk.opened and desk.stock is None:
            return runner
        await asyncio.sleep(0.05)


async def _bot(world: World) -> None:
    """What the strategy does: quote, cancel, replace, lose its edge; at the end freeze for good."""
    plan, draw = world.plan, random.Random(f"bot/{world.plan.seed}")
    for act in range(plan.acts):
        runner = await _ready(world)
        await _act(world, runner, draw)
        await asyncio.sleep(draw.choice((0.0, 0.001, 0.02, 0.3)))
        if plan.disk_fills and act == plan.acts // 2:
            world.disk.capacity = sum(map(len, world.disk.content.values()))
    await _final_freeze(world, draw)


async def _act(world: World, runner: Runner, draw: random.Random) -> None:
    symbol = draw.choice(SYMBOLS)
    roll = draw.random()
    await _priced(world, runner)
    if world.plan.gate != "plain" and _surroundings(world, runner, draw):
        return
    handles = runner.orders()
    try:
        if roll < 0.55:
            await _quote(world, runner, draw, symbol)
        elif roll < 0.68 and handles:
            await runner.cancel(draw.choice(handles), wait=False)
        elif roll < 0.78 and handles:
            await runner.replace(draw.choice(handles), str(draw.randint(1, 5)), str(100 + draw.randint(-5, 5)), wait=False)
        elif roll < 0.92:
            side = draw.choice((Side.BUY, Side.SELL))
            world.venue.trade(symbol, side, qty(draw.randint(1, 3)), price(104 if side is Side.BUY else 96))
        elif roll < 0.95 and world.plan.foreign:
            world.venue.by_hand(_by_hand(symbol))
        elif roll < 0.97:
            await runner.edge(symbol, "100")
        else:
            await runner.unfreeze("ops", "simulated")
    except HaltcoreError:
        pass
    except asyncio.CancelledError:
        # The process that was waited for has died; the bot lives on outside of it.
        if world.runner is runner:
            raise


async def _quote(world: World, runner: Runner, draw: random.Random, symbol: str) -> None:
    side, stop = draw.choice(("buy", "sell")), draw.random() < 0.15
    level = str(100 + draw.randint(-5, 5)) if not stop else str(110 if side == "buy" else 90)
    await runner.submit(
        symbol, side, str(draw.randint(1, 4)), price=level, type="stop_limit" if stop else None,
        stop_price=level if stop else None, post_only=not stop and draw.random() < 0.2, wait=False,
        strategy=draw.choice(STRATEGIES) if world.plan.gate == "teams" else "",
        reduce_only=world.plan.gate == "tight" and draw.random() < 0.1,
    )  # fmt: skip


async def _priced(world: World, runner: Runner) -> None:
    """Without a mark price a sell has no worst case, and the limits deny it."""
    if not world.priced:
        world.priced = True
        for each in SYMBOLS:
            await runner.mark(each, "100")


def _surroundings(world: World, runner: Runner, draw: random.Random) -> bool:
    """The market moves, and operators may act; True if one did, so that the strategy has to wait its turn."""
    _market(world, runner, draw)
    _resume(world, runner, draw)
    acts = draw.random() < 0.12
    if acts:
        _operate(world, runner, draw)
    return acts


def _market(world: World, runner: Runner, draw: random.Random) -> None:
    """Marks walk, feeds beat or do not, the market gets wild and calm, a clock may step, a breaker may open."""
    now_ns, symbol, roll = world.clock.now_ns(), draw.choice(SYMBOLS), draw.random()
    if roll < 0.5:
        world.marks[symbol] = min(108, max(92, world.marks[symbol] + draw.randint(-2, 2)))
        runner._feed(MarkPrice(now_ns, symbol, price(world.marks[symbol])))
    elif roll < 0.8:
        runner._feed(Heartbeat(now_ns, draw.choice(("", *SYMBOLS))))
    elif roll < 0.9:
        runner._feed(VolatilityBand(now_ns, draw.choice(("", symbol)), draw.choice(("high", ""))))
    elif roll < 0.92:
        runner._feed(BreakerChanged(now_ns, "place", draw.random() < 0.5, "simulated"))
    elif roll < 0.94:
        runner._feed(ClockReading(now_ns, draw.choice((0, 0, 0, 90_000_000_000))))


def _resume(world: World, runner: Runner, draw: random.Random) -> None:
    """Somebody looks after what is frozen and proven, sooner or later: a plan that stays frozen shows little."""
    desk = runner.core.desk
    assert desk is not None
    for key in frozen_scopes(desk):
        if desk.controls[key].mode is Mode.FROZEN and draw.random() < 0.4:
            runner._feed(Unfreeze(world.clock.now_ns(), scope_text(desk, key), "ops", "simulated"))


def _operate(world: World, runner: Runner, draw: random.Random) -> None:
    """Operators at work: freeze and unfreeze scopes, change and override limits, restrict, re-enable."""
    now_ns, symbol = world.clock.now_ns(), draw.choice(SYMBOLS)
    desk = runner.core.desk
    assert desk is not None
    teams = world.plan.gate == "teams"
    scopes = ["", "venue", *SYMBOLS, *([f"strategy:{name}" for name in STRATEGIES] if teams else [])]
    limits = Limits(max_order_qty=qty(draw.randint(1, 5)), max_inventory_usd=usd(draw.randint(300, 1_200)))
    known = desk.overrides[-1].id if desk.overrides else 0
    commands: tuple[Event, ...] = (
        Freeze(now_ns, draw.choice(scopes[1:]), Trigger.MANUAL, "a scope", "ops"),
        Unfreeze(now_ns, draw.choice(scopes), "ops", "simulated", force=draw.random() < 0.5),
        SetReduceOnly(now_ns, draw.choice(scopes), draw.random() < 0.5, "ops", "simulated"),
        ChangeLimits(now_ns, LimitRule(limits, symbol=symbol), "ops", "simulated"),
        OverrideLimits(now_ns, "", "", limits, draw.choice((200, 3_000)), "ops", "simulated"),
        VerifyOverride(now_ns, known, draw.choice(("ops", "risk"))),
        EndOverride(now_ns, known, "ops", "simulated"),
        Restrict(now_ns, symbol, draw.random() < 0.4, "ops", "simulated"),
        Reenable(now_ns, draw.choice(STRATEGIES) if teams else "", "ops", "simulated"),
    )
    runner._feed(draw.choice(commands))


def _by_hand(symbol: str) -> Ticket:
    place = Place((0, 0), 0, "", symbol, Side.BUY, "limit", qty(1), price(80), None, "gtc", False, False, "", "", "", 0, None)  # type: ignore[arg-type]
    return Ticket.of(place)


async def _final_freeze(world: World, draw: random.Random) -> None:
    """Freeze under fire; then the world behaves, and the proof must come."""
    runner = await _ready(world)
    began_ns = world.clock.now_ns()
    runner._feed(_freeze_event(world))
    await asyncio.sleep(draw.choice((0.0, 0.1, 3.0, 30.0)))
    world.kills.clear()
    world.venue.quiet()
    world.lived.faults.append("quiet")
    world.disk.capacity = None
    await _until_proven(world)
    world.lived.freeze_to_proof_ns = world.clock.now_ns() - began_ns
    runner = await _ready(world)
    # Late reports are still on their way; give them time, then close.
    await asyncio.sleep(30)
    await _until_proven(world)
    await runner.stop()


def _freeze_event(world: World) -> Event:
    return Freeze(world.clock.now_ns(), "", Trigger.MANUAL, "the plan is through", "sim")


async def _until_proven(world: World) -> None:
    for _ in range(3_000):
        runner = await _ready(world)
        if runner.proven():
            return
        if runner.status().modes.get("") not in (Mode.FREEZING, Mode.FROZEN):
            runner._feed(_freeze_event(world))
        await asyncio.sleep(0.1)
    raise AssertionError("no proof within 300 s of good behaviour")


def simulate(plan: Plan) -> Lived:
    """Run a plan to its end; what it has left behind. Raises AssertionError when a checker objects."""
    return run(_simulate(plan), limit_s=5_000)


async def _simulate(plan: Plan) -> Lived:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop, EPOCH_NS)
    venue = WatchedVenue(SYMBOLS, seed=plan.seed, faults=FaultPlan.named(plan.faults, plan.seed))
    disk = WatchedDisk()
    disk.sync_delay_s = plan.sync_delay_s
    lived = Lived()
    world = World(plan, plan.config, loop, clock, venue, MemoryState(clock.now_ns), disk, lived, kills=list(plan.kill_at))
    venue.world = disk.world = world
    venue.left = []
    await _live(world)
    lived.journal = {name: bytes(disk.content[name]) for name in segments(LOG, disk)}
    lived.places = len(venue.left)
    _check(world)
    return lived


def _check(world: World) -> None:
    """The checkers; see the essay."""
    venue, plan = world.venue, world.plan
    lived = world.lived
    twice = [client_id for client_id, count in venue.placed.items() if count > 1]
    assert not twice, f"placed twice: {twice}"
    frozen = [effect for effect, mode in venue.left if mode in (Mode.FREEZING, Mode.FROZEN)]
    assert not frozen, f"left after the freeze: {frozen}"
    assert world.uncovered is None, world.uncovered
    lived.open_at_venue = len(venue.exchange.all_open())
    assert lived.open_at_venue == 0, f"open at the venue: {venue.exchange.all_open()}"
    verdict = replay([Source(name, [data]) for name, data in lived.journal.items()])
    assert verdict.kind is Kind.SAME, verdict
    assert world.runner is not None
    core = world.runner.core
    # After the disk was full the log ends earlier than the process; else it is the whole truth.
    assert plan.disk_fills or verdict.core == core
    assert not broken_state(core)
    assert core.desk is not None
    assert not [f for f in core.desk.freezes if f.trigger is Trigger.INVARIANT], core.desk.freezes
    if not plan.foreign:
        for sym, symbol in enumerate(SYMBOLS):
            held = core.books[sym].position if sym in core.books else 0
            assert held == venue.exchange.position(symbol), f"{symbol}: the venue holds {venue.exchange.position(symbol)}, we say {held}"
    _check_outcomes(world.seen)


def _check_outcomes(seen: list[tuple[Event, tuple[Effect, ...]]]) -> None:
    """LIVE-3: in the last life, which ended well, every effect got exactly one outcome."""
    owed: dict[tuple[int, int], Effect] = {}
    answered: dict[tuple[int, int], int] = {}
    for event, effects in seen:
        effect_id = getattr(event, "effect", None)
        if effect_id is not None:
            answered[effect_id] = answered.get(effect_id, 0) + 1
            owed.pop(effect_id, None)
        owed.update({effect.id: effect for effect in effects if owes_outcome(effect)})
    again = [effect_id for effect_id, count in answered.items() if count > 1]
    assert not again, f"answered more than once: {again}"
    assert not owed, f"without outcome: {list(owed.values())[:3]}"
