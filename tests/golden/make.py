"""Makes the golden logs of the present format: ``python -m tests.golden.make``. Never overwrites one: a golden log is kept for ever.

Each log is one story, told by a function below or in ``with_store.py`` through the real journal, so that its bytes are what a user's log
would be. When the format gets a new number, a new folder begins; the old ones stay and must still replay. The header names the version of
the installed package, so install the tree first. What is printed belongs into ``PINNED`` in ``test_golden.py``.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from pathlib import Path

from haltcore.adapters.disk import RealDisk
from haltcore.adapters.journal import Journal
from haltcore.adapters.virtual_time import run
from haltcore.effects import Cancel, CancelAll, FetchOpenOrders, Purpose, QueryOrder, SetTimer, Side, Trigger, bps, usd
from haltcore.fsm.config import CoolDown, FreezeClass, Triggers, VenueTraits
from haltcore.fsm.core import EMPTY
from haltcore.fsm.events import (
    BreakerChanged,
    ChangeLimits,
    ClockReading,
    EdgeUpdate,
    Event,
    Heartbeat,
    InstrumentDefined,
    MarkPrice,
    OperatorRefused,
    OrderReplaced,
    OutcomeKind,
    OverrideLimits,
    Reenable,
    Restrict,
    SetReduceOnly,
    TradeBusted,
    VenueLink,
    VerifyOverride,
    VolatilityBand,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.record import FORMAT
from haltcore.fsm.step import step

from tests.golden import with_store
from tests.helpers import BTC, ETH, Session, foreign_row, price, qty, row, with_limits

FOLDER = Path(__file__).parent / f"v{FORMAT}"


def lifecycle() -> Session:
    """A buy: a part fills and is reported twice, it is replaced and filled, a trade is busted, the rest cancelled, a late fill booked."""
    s = Session(limits=with_limits(inventory=100_000))
    key = s.working(amount=10)
    s.fill(key, 4, trade="t1", cum=4)
    s.fill(key, 4, trade="t1", cum=4)
    s.replace(key, 12, 101)
    s.feed(OrderReplaced(s.now, s.client_id(key), f"v{key}", qty(12), price(101)))
    s.fill(key, 8, trade="t2", cum=12)
    s.feed(TradeBusted(s.now, s.client_id(key), "t2"))
    s.found(s.one(QueryOrder), cum_qty=qty(4))
    s.cancel(key)
    s.outcome(s.one(Cancel))
    s.cancelled(key, 4)
    s.fill(key, 1, trade="t3", cum=5)
    s.ask(amount=5_000)
    return s


def doubt() -> Session:
    """A place is lost: asked for, not found before and after its grace. Another is lost and turns up; the process dies and starts anew."""
    s = Session()
    s.unknown()
    s.not_found(s.one(QueryOrder))
    s.wait(6_000)
    s.fire(s.one(SetTimer))
    s.not_found(s.one(QueryOrder))
    live = s.unknown(Side.SELL, 3)
    s.found(s.one(QueryOrder), cum_qty=qty(1))
    s.restart()
    s.answer_stock(row(s.order(live), cum_qty=qty(1)))
    s.feed(MarkPrice(s.now, BTC, price(99)))
    return s


def freeze() -> Session:
    """The edge collapses with three orders open, one of them a stop, and one of somebody else's; the first cancel-all is refused."""
    s = Session(limits=with_limits(edge=200))
    keys = [s.working(), s.working(Side.SELL, 2, 110)]
    s.feed(EdgeUpdate(s.now, BTC, bps(150)))
    for effect in s.got(CancelAll):
        s.outcome(effect, OutcomeKind.UNAVAILABLE, "503")
    for fetch in s.got(FetchOpenOrders):
        s.lists(fetch, *([] if fetch.conditional else [*(row(s.order(key)) for key in keys), foreign_row("x1")]))
    s.fire()
    s.prove_empty()
    s.ask()
    s.unfreeze()
    s.submit()
    s.freeze(BTC, Trigger.MANUAL, "once more")
    return s


def overrides() -> Session:
    """Limits by rule, band and window, an instrument, changes and overrides by two persons, the restricted list; denials say all codes."""
    s = Session(
        limits=Limits(max_order_value=usd(1_000), max_open_orders=4, prevent_self_match=True, duplicate_window_ms=500),
        rules=(
            LimitRule(Limits(max_order_value=usd(2_000), price_collar_bps=bps(500)), BTC),
            LimitRule(Limits(max_order_qty=qty(5)), band="high"),
            LimitRule(Limits(max_inventory_usd=usd(500)), ETH, from_minute=100, to_minute=130),
        ),
        restricted=(ETH,), two_persons=True,
    )  # fmt: skip
    s.feed(InstrumentDefined(s.now, BTC, Instrument(tick=price("0.5"), lot=qty("0.1"), min_notional=usd(5))))
    s.mark(100)
    s.ask(amount="0.01", at="100.3", explain=True)
    s.ask(amount=25, explain=True)
    s.feed(OverrideLimits(s.now, BTC, "", Limits(max_order_value=usd(3_000)), 60_000, "kim", "block trade"))
    number = s.core.seq
    s.ask(amount=25, explain=True)
    s.feed(VerifyOverride(s.now, number, " KIM "))
    s.feed(VerifyOverride(s.now, number, "lee"))
    s.working(amount=25)
    s.ask(amount=25, explain=True)
    s.ask(Side.SELL, 1, 99, explain=True)
    s.feed(VolatilityBand(s.now, "", "high"))
    s.ask(amount=6, at=99, explain=True)
    s.fire(purpose=Purpose.OVERRIDE)
    s.ask(amount=25, at=101, explain=True)
    s.ask(symbol=ETH, explain=True)
    s.feed(Restrict(s.now, ETH, False, "lee", "reviewed"))
    s.mark(100, ETH)
    s.ask(symbol=ETH, amount=5, explain=True)
    s.ask(symbol=ETH, amount=5, explain=True)
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_open_orders=1)), "lee", "a quiet day"))
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_order_qty=qty(-1))), "lee", "a slip"))
    s.feed(OperatorRefused(s.now, "unfreeze", "", "no token"))
    s.ask(symbol=ETH, amount=1, explain=True)
    s.restart()
    return s


def strategies() -> Session:
    """Two strategies with books and limits of their own, on whose behalf every order is. One is frozen and only its orders go; reduce-only
    and throttle let only reducing orders through; the connection is lost, which freezes the venue."""
    s = Session(
        strategies=("mm", "arb"), attribution=True, venue=VenueTraits(batch=5),
        limits=Limits(max_total_notional=usd(5_000), execution_rate=Rate(4, 60_000)),
        rules=(
            LimitRule(Limits(max_inventory_usd=usd(600)), BTC, "mm"),
            LimitRule(Limits(max_total_notional=usd(800), execution_rate=Rate(2, 60_000)), strategy="arb"),
        ),
    )  # fmt: skip
    whose = {"trader": "kim", "client": "fund"}
    s.mark(100)
    s.ask(amount=1, explain=True)
    first = s.working(amount=5, strategy="mm", **whose)
    s.ask(amount=2, strategy="mm", explain=True, **whose)
    arb = s.working(amount=6, strategy="arb", **whose)
    s.fill(arb, 1)
    s.fill(arb, 1)
    s.fill(arb, 1)
    s.ask(amount=1, strategy="arb", **whose)
    s.submit(Side.SELL, 2, 101, strategy="arb", **whose)
    s.ask(Side.SELL, 2, 101, strategy="arb", **whose)
    s.feed(Reenable(s.now, "arb", "lee", "looked into it"))
    s.freeze("strategy:mm", reason="quotes are wrong")
    cancel = s.one(Cancel)
    s.cancelled(first)
    s.outcome(cancel)
    for _ in range(2):
        s.lists_all(row(s.order(arb)))
    s.ask(amount=1, strategy="mm", **whose)
    s.submit(amount=1, strategy="arb", **whose)
    s.unfreeze("strategy:mm")
    s.feed(SetReduceOnly(s.now, "strategy:arb", True, "lee", "going home"))
    s.ask(amount=1, strategy="arb", **whose)
    s.feed(VenueLink(s.now, False, "reset"))
    s.fire(purpose=Purpose.VENUE_LINK)
    s.fill(first, 2)
    s.feed(VenueLink(s.now, True, ""))
    s.restart()
    s.answer_stock()
    return s


def losses() -> Session:
    """Results with fees of account, symbol and strategy; the day rolls; a drawdown freezes the symbol, the day's loss the account."""
    s = Session(
        limits=Limits(max_daily_loss=usd(100)), day_roll_minute=180, strategies=("mm",),
        rules=(LimitRule(Limits(max_drawdown=usd(40)), BTC), LimitRule(Limits(max_daily_loss=usd(500)), strategy="mm")),
    )  # fmt: skip
    s.mark(100)
    s.fill(s.working(amount=10, strategy="mm"), 10, fee=10**12)
    s.mark(103)
    s.mark("99.5")
    s.wait(90 * 60_000)
    s.mark(100)
    s.mark(96)
    s.mark("95.9")
    s.prove_empty()
    s.unfreeze(BTC)
    s.mark(89)
    s.ask(strategy="mm", explain=True)
    s.prove_empty()
    s.unfreeze("", why="reviewed the loss")
    s.unfreeze(BTC, why="reviewed the loss")
    s.ask(strategy="mm", explain=True)
    s.submit(Side.SELL, 10, 89, strategy="mm")
    return s


def cool_down() -> Session:
    """The edge collapses again and again: a wait, a longer one, then it is a person's turn. The feed falls silent and comes back. The venue
    refuses too much; a breaker opens; the clock jumps."""
    s = Session(
        limits=Limits(edge_freeze_threshold_bps=bps(200), feed_lost_ms=5_000, message_rate=Rate(8, 1_000)),
        triggers=Triggers(
            Rate(1, 1_000), 900, True,
            (CoolDown(FreezeClass.EDGE, 1_000, 3_000, 2), CoolDown(FreezeClass.NETWORK, 2_000, 60_000, 3)),
        ),
    )  # fmt: skip
    for times in range(3):
        s.feed(EdgeUpdate(s.now, BTC, bps(150)))
        s.prove_empty()
        if times < 2:
            s.fire(purpose=Purpose.COOL_DOWN)
    s.unfreeze()
    for _ in range(2):
        s.fire(purpose=Purpose.FEED)
    s.ask()
    s.prove_empty()
    s.fire(purpose=Purpose.COOL_DOWN)
    s.feed(Heartbeat(s.now, ""))
    s.fire(purpose=Purpose.COOL_DOWN)
    s.feed(Heartbeat(s.now, ""))
    for _ in range(2):
        s.reject(s.submit())
    s.ask()
    s.unfreeze(force=True)
    s.feed(BreakerChanged(s.now, "place", True, "10 failures"))
    s.feed(BreakerChanged(s.now, "place", False, ""))
    s.unfreeze(force=True)
    for at in range(9):
        s.ask(amount=1, at=90 + at)
    s.feed(ClockReading(s.now, 0))
    s.feed(ClockReading(s.now, 10**9))
    return s


STORIES = (lifecycle, doubt, freeze, overrides, strategies, losses, cool_down, *with_store.STORIES)


async def _write(name: str, events: Iterable[Event]) -> None:
    core, journal = EMPTY, None
    for event in events:
        core, effects = step(core, event)
        if journal is None:
            assert core.desk is not None
            journal = await Journal.create(str(FOLDER / f"{name}.jsonl"), core.desk.config, RealDisk(threaded=False))
        journal.append(event, effects, core)
    assert journal is not None
    await journal.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for story in STORIES:
        if not (FOLDER / f"{story.__name__}.jsonl").exists():
            run(_write(story.__name__, story().events))
            asyncio.set_event_loop(None)
            made = hashlib.sha256((FOLDER / f"{story.__name__}.jsonl").read_bytes()).hexdigest()
            print(f'    "{FOLDER.name}/{story.__name__}": "{made}",')
