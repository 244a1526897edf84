"""States with many open orders, and events about them, for the benchmarks.

A state of a million orders is not stepped into being: one live order is made by real steps and written under a million keys, and the book
is multiplied accordingly. ``state`` is held against the invariants at small sizes, so such a state is one that steps could have made.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import lru_cache

import attrs
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.journal import Journal
from haltcore.effects import Effect, FetchPositions, Notional, Qty, SetTimer, Side, Usd, bps, client_order_id, price, qty, usd
from haltcore.fsm import (
    EMPTY,
    Config,
    Core,
    Event,
    Freeze,
    Instrument,
    LimitRule,
    Limits,
    MarkPrice,
    Rate,
    SubmitOrder,
    Trigger,
    start,
    step,
)
from haltcore.fsm.config import ForeignPolicy, SweepPolicy
from haltcore.fsm.events import (
    CancelOrder,
    FetchedOrders,
    FetchedPositions,
    InstrumentDefined,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    Outcome,
    OutcomeKind,
    Positions,
    Started,
    Verb,
)
from haltcore.fsm.exposure import Book, Tally, gain_value, worst_value
from haltcore.fsm.order import Order
from haltcore.fsm.turn import resting_levels
from immutables import Map

SYMBOL = "BTCUSDT"
SESSION = "bench01"
LIMITS = Limits(Usd(10**15 * 10**12), Usd(10**15 * 10**12))
#: Every limit there is, far away, for the account, the symbol, the strategy, a window and a band.
EVERY = Limits(
    Usd(10**27), Usd(10**27), bps("-1000"), max_order_value=Usd(10**27), max_order_qty=Qty(10**27), price_collar_bps=bps("5000"),
    max_open_orders=10**9, max_daily_loss=Usd(10**27), max_drawdown=Usd(10**27), message_rate=Rate(10**9, 1), execution_rate=Rate(10**9, 1),
    duplicate_window_ms=1, prevent_self_match=True,
)  # fmt: skip
_INVENTORY = Limits(max_inventory_usd=Usd(10**27), max_order_value=Usd(10**27))
FULL = Config(
    SESSION, (SYMBOL,), EVERY, strategies=("mm",),
    rules=(
        LimitRule(_INVENTORY, symbol=SYMBOL), LimitRule(_INVENTORY, strategy="mm"), LimitRule(_INVENTORY, band="high"),
        LimitRule(_INVENTORY, from_minute=1, to_minute=1_439),
    ),
)  # fmt: skip
TWO, ONE, PRICE = qty("0.02"), qty("0.01"), price("50000")


def ready(policy: ForeignPolicy = ForeignPolicy.CANCEL, full: bool = False) -> Core:
    """A session that may place orders; ``full``: with every limit there is."""
    core, effects = start(FULL if full else Config(SESSION, (SYMBOL,), LIMITS, sweep=SweepPolicy(foreign=policy)), 1)
    for effect in effects:
        if not isinstance(effect, SetTimer):
            core, _ = step(core, _opening(effect))
    if full:
        core, _ = step(core, InstrumentDefined(1, SYMBOL, Instrument(price("0.5"), qty("0.01"), ONE, qty(1_000), usd(5))))
    return step(core, MarkPrice(1, SYMBOL, PRICE))[0]


def _opening(effect: Effect) -> Event:
    if isinstance(effect, FetchPositions):
        return Positions(1, effect.id, FetchedPositions(()))
    return OpenOrders(1, effect.id, "", getattr(effect, "conditional", False), FetchedOrders(()))


def submit(at_ns: int = 2) -> SubmitOrder:
    """The order that all benchmarks place."""
    return SubmitOrder(at_ns, SYMBOL, Side.BUY, TWO, PRICE, strategy="mm")


def life(key: int) -> list[Event]:
    """The life of the order with this key: five events, the first of which has to be record number ``key``."""
    name = client_order_id(SESSION, key)
    return [
        submit(), Outcome(3, (key, 0), Verb.PLACE, key, OutcomeKind.ACKNOWLEDGED), OrderAccepted(4, name, "v"),
        OrderFilled(5, name, "v", "t1", ONE, PRICE, ONE, Usd(0)), OrderFilled(6, name, "v", "t2", ONE, PRICE, TWO, Usd(0)),
    ]  # fmt: skip


@lru_cache(maxsize=2)
def state(count: int, stage: int = 3, policy: ForeignPolicy = ForeignPolicy.CANCEL, full: bool = False) -> Core:
    """A state with ``count`` open orders, each of which has lived through ``stage`` events of its life.

    ``full``: with every limit there is.
    """
    core = ready(policy, full)
    base = core.seq + 1
    for event in life(base)[:stage]:
        core, _ = step(core, event)
    order = core.orders[base]
    copies: Map[int, Order] = Map()
    with copies.mutate() as many:
        for key in range(base, base + count):
            spec = attrs.evolve(order.spec, client_id=client_order_id(SESSION, key))
            requests = attrs.evolve(order.requests, place=(key, 0)) if order.requests.place else order.requests
            many[key] = attrs.evolve(order, key=key, spec=spec, requests=requests)
        copies = many.finish()
    books = Map((key, _times(book, count)) for key, book in core.books.items())
    account = Tally(worst_value(books[0]), gain_value(books[0]), count)
    return attrs.evolve(
        core, orders=copies, books=books, account=account, teams=Map((owner, account) for owner in core.teams), seq=core.seq + 10 * count,
        resting=resting_levels(copies) if full else None, touched=(),
    )  # fmt: skip


def _times(book: Book, count: int) -> Book:
    """The book of that many of the one order in it."""
    return attrs.evolve(
        book, position=Qty(book.position * count), cash=Notional(book.cash * count), buy_qty=Qty(book.buy_qty * count),
        buy_value=Notional(book.buy_value * count), open_orders=count,
    )  # fmt: skip


def keys(core: Core, most: int) -> list[int]:
    """Up to so many of the open orders' keys, in a mixed order that is always the same."""
    chosen = sorted(core.orders)
    random.Random(7).shuffle(chosen)
    return chosen[:most]


#: Event type -> the stage at which an order meets it, and the event by key.
KINDS: dict[str, tuple[int, Callable[[int], Event]]] = {
    "submit": (3, lambda key: life(key)[0]),
    # Later than the window in which it would be a duplicate of those that are open.
    "submit, every limit": (3, lambda _: submit(10**7)),
    "acknowledged": (1, lambda key: life(key)[1]),
    "accepted": (1, lambda key: life(key)[2]),
    "partial fill": (3, lambda key: life(key)[3]),
    "last fill": (4, lambda key: life(key)[4]),
    "cancelled": (3, lambda key: OrderCancelled(5, client_order_id(SESSION, key), Qty(0))),
    "cancel command": (3, lambda key: CancelOrder(5, key)),
    "duplicate report": (3, lambda key: OrderAccepted(5, client_order_id(SESSION, key), "v")),
    "mark price": (3, lambda _: MarkPrice(5, SYMBOL, PRICE)),
}
FREEZE = Freeze(9, "", Trigger.MANUAL, "benchmark", "ops")



def lives(count: int, opened: int) -> Iterator[tuple[Core, Event, Core, tuple[Effect, ...]]]:
    """Real steps from the start: first ``opened`` orders are opened and stay so, then ``count`` orders live one after the other."""
    config = Config(SESSION, (SYMBOL,), LIMITS)
    event: Event = Started(1, config)
    core, effects = step(EMPTY, event)
    yield EMPTY, event, core, effects
    todo = [_opening(effect) for effect in effects]
    for number in range(opened + count + 1):
        for event in todo:
            before = core
            core, effects = step(before, event)
            yield before, event, core, effects
        todo = life(core.seq + 1)[: 3 if number < opened else 5]


def log(count: int, opened: int) -> tuple[bytes, int]:
    """The log of such a run, in one segment, and its number of records."""

    async def write() -> tuple[bytes, int]:
        disk, records = MemoryDisk(), 0
        journal = await Journal.create("bench.jsonl", Config(SESSION, (SYMBOL,), LIMITS), disk)
        for _, event, core, effects in lives(count, opened):
            journal.append(event, effects, core)
            records = core.seq
        await journal.close()
        return bytes(disk.content["bench.jsonl"]), records

    return asyncio.run(write())
