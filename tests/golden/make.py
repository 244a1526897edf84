"""Makes the golden logs of the present format: ``python -m tests.golden.make``. Never overwrites one: a golden log is kept for ever.

Each log is one story, told by a function below through the real journal, so that its bytes are what a user's log would be. When the format
gets a new number, a new folder begins; the old ones stay and must still replay.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from haltcore.adapters.disk import RealDisk
from haltcore.adapters.journal import Journal
from haltcore.adapters.virtual_time import run
from haltcore.effects import Cancel, CancelAll, FetchOpenOrders, QueryOrder, SetTimer, Side, Trigger, bps
from haltcore.fsm.core import EMPTY
from haltcore.fsm.events import EdgeUpdate, Event, MarkPrice, OrderReplaced, OutcomeKind, TradeBusted
from haltcore.fsm.record import FORMAT
from haltcore.fsm.step import step

from tests.helpers import BTC, Session, foreign_row, price, qty, row, with_limits

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


STORIES = (lifecycle, doubt, freeze)


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
    for story in STORIES:
        if not (FOLDER / f"{story.__name__}.jsonl").exists():
            run(_write(story.__name__, story().events))
            asyncio.set_event_loop(None)
            print("made", story.__name__)
