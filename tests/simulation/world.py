"""A world in which the runner lives and dies: simulated time, a faulty venue, a shared store, a disk that loses what was not synced.

One seed decides everything: the faults, what the bot does and when, where the process is killed. A run has two phases. In the
*safety* phase everything goes wrong that the plan holds; in the *liveness* phase the venue, the store and the disk behave, and the
account must end up frozen and proven empty.

The checkers stand apart from the code under test and know the truth of the venue:

* no request that places reached the venue after the freeze had been decided, and no client id reached it twice;
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
from haltcore.effects import Effect, Mode, Place, Replace, Side, SweepReport, Trigger, bps, price, qty, usd
from haltcore.fsm import Config, Limits, StorePolicy, broken_state
from haltcore.fsm.core import Core, effective_mode
from haltcore.fsm.events import Event, Freeze
from haltcore.fsm.outcomes import owes_outcome
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Kind

SYMBOLS = ("BTCUSDT", "ETHUSDT")
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

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """The plan of a seed."""
        draw = random.Random(f"plan/{seed}")
        kills = tuple(draw.randint(1, 110) for _ in range(draw.choice((0, 1, 1, 2, 3))))
        return cls(
            seed=seed,
            faults=draw.choice(("none", "mild", "harsh", "harsh")),
            acts=draw.randint(5, 40),
            kill_at=kills,
            store=draw.random() < 0.5,
            store_faults=draw.choice((0, 0, 200, 500)),
            sync_delay_s=draw.choice((0.0, 0.0005, 0.02)),
            disk_fills=draw.random() < 0.08,
            foreign=draw.random() < 0.2,
        )


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
    kills: list[int] = field(factory=list)
    seen: list[tuple[Event, tuple[Effect, ...]]] = field(factory=list)
    dead: asyncio.Event = field(factory=asyncio.Event)
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
                self.left.append((effect, _mode(runner.core, effect.symbol)))
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


def _mode(core: Core, symbol: str) -> Mode:
    desk = core.desk
    return Mode.ACTIVE if desk is None else effective_mode(desk, desk.index.get(symbol, -1))


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

    def observe(event: Event, core: Core, effects: Sequence[Effect]) -> None:  # noqa: ARG001
        world.lived.proofs += [effect for effect in effects if isinstance(effect, SweepReport)]
        world.seen.append((event, tuple(effects)))

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
    if not world.priced:
        # Without a mark price a sell has no worst case, and the limits deny it.
        world.priced = True
        for each in SYMBOLS:
            await runner.mark(each, "100")
    handles = runner.orders()
    try:
        if roll < 0.55:
            side, stop = draw.choice(("buy", "sell")), draw.random() < 0.15
            level = str(100 + draw.randint(-5, 5)) if not stop else str(110 if side == "buy" else 90)
            await runner.submit(
                symbol, side, str(draw.randint(1, 4)), price=level, type="stop_limit" if stop else None,
                stop_price=level if stop else None, post_only=not stop and draw.random() < 0.2, wait=False,
            )  # fmt: skip
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


def _by_hand(symbol: str) -> Ticket:
    place = Place((0, 0), 0, "", symbol, Side.BUY, "limit", qty(1), price(80), None, "gtc", False, False, 0, None)  # type: ignore[arg-type]
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
        if not runner.status().modes.get(""):
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
    limits = Limits(usd("2000"), usd("3000"), bps("200"))
    config = Config("simtest", SYMBOLS, limits=limits, store=StorePolicy(configured=plan.store), seed=plan.seed)
    lived = Lived()
    world = World(plan, config, loop, clock, venue, MemoryState(clock.now_ns), disk, lived, kills=list(plan.kill_at))
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
