"""Five hours of a real exchange as venue evidence: every order of Bitstamp's BTC/USD book on 2015-05-01.

The data lies outside the repository, in a folder that HALTCORE_DATA names, or else in ``../shared/data`` beside the repository; its
licence (GPL) is not ours, so it is read in place. One row of it says: order, moment, price, volume left, what happened.

We play the owner of all those orders. When an order shows up for the first time it is submitted, with the volume first seen, and the
venue acknowledges; from then on each row is what an adapter would make of it:

========  ===================================  =====================================================================
row       and                                  evidence
========  ===================================  =====================================================================
created                                        OrderAccepted; after a delete it comes late, as it stands there
changed   nothing was known of the order       OrderAccepted: it lives, and what filled before is not ours to know
changed   another volume is left               OrderFilled with the difference. After a delete the volume may have
                                               *grown*: a trade of negative quantity, which the core has to refuse
changed   another price, or the same volume    OrderReplaced that nobody asked for (market orders walk through prices)
deleted   no volume, and something was left    OrderFilled with the rest
deleted   otherwise                            OrderCancelled, which may come twice
========  ===================================  =====================================================================

An order whose first row says that nothing is left of it had at least the smallest unit before; so much is submitted and filled.
Questions of the core are answered at once with what the rows have said so far, and its timers fire when they are due, in the time of
the rows: nothing here waits or draws lots. ``python -m tests.real.bitstamp FOLDER`` prints a digest of all that was decided.
"""

import csv
import hashlib
import heapq
import lzma
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from attrs import define, frozen
from haltcore.effects import (
    Alert,
    Effect,
    EffectId,
    FetchOpenOrders,
    FetchPositions,
    Place,
    Price,
    Qty,
    QueryOrder,
    Rejected,
    SetTimer,
    Side,
    Usd,
    price,
    qty,
)
from haltcore.fsm import EMPTY, Config, Core, Event, SubmitOrder, VenueTraits, step
from haltcore.fsm.codec import EFFECTS
from haltcore.fsm.digest import digest
from haltcore.fsm.events import (
    FetchedOrders,
    FetchedPositions,
    Found,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderQueried,
    OrderReplaced,
    OrderRow,
    Outcome,
    OutcomeKind,
    Positions,
    ReportStatus,
    Started,
    TimerFired,
    Verb,
)

from tests.real.data import data_folder

NAME = "bitstamp_2015-05-01"
SYMBOL = "BTCUSD"
CONFIG = Config("btstmp1", (SYMBOL,), venue=VenueTraits(conditional=False))
#: The least volume that the venue knows, 1e-8 BTC.
UNIT = qty("0.00000001")

#: State before, event, state after, effects.
Step = tuple[Core, Event, Core, tuple[Effect, ...]]


@frozen
class Row:
    """One line of the file. ``left`` is the volume that remains; ``number`` counts from 1."""

    number: int
    order: str
    at_ns: int
    price: Price
    left: Qty
    action: str
    side: Side


def folder() -> Path | None:
    """Where the data lies, or None when it is not here."""
    path = data_folder() / NAME
    return path if (path / "orders.csv.xz").is_file() else None


def read(path: Path) -> Iterator[Row]:
    """The rows in the order of the file."""
    with lzma.open(path / "orders.csv.xz", "rt", newline="") as text:
        for number, line in enumerate(csv.DictReader(text), 1):
            yield Row(
                number, line["id"], int(line["timestamp"]) * 1_000_000, price(line["price"]), qty(Decimal(line["volume"]).scaleb(-8)),
                line["action"], Side.BUY if line["direction"] == "bid" else Side.SELL,
            )  # fmt: skip


@define
class _Known:
    """What the rows have said of an order so far."""

    key: int
    client_id: str
    side: Side
    qty: Qty
    left: Qty
    price: Price
    status: ReportStatus = ReportStatus.OPEN


class Market:
    """Feeds the rows to the real ``step`` and answers what it asks. ``known`` maps the venue's order ids to what was seen of them."""

    def __init__(self) -> None:
        self.core: Core = EMPTY
        self.known: dict[str, _Known] = {}
        self.alerts: dict[str, int] = {}
        self.rejected: dict[str, int] = {}
        self._by_key: dict[int, _Known] = {}
        self._timers: list[tuple[int, EffectId, SetTimer]] = []
        self._placed: list[Place] = []

    def run(self, rows: Iterable[Row]) -> Iterator[Step]:
        """Every step that the rows lead to."""
        yield from self._feed(Started(0, CONFIG))
        for row in rows:
            while self._timers and self._timers[0][0] <= row.at_ns:
                due, _, timer = heapq.heappop(self._timers)
                yield from self._feed(TimerFired(due, timer.id, timer.purpose, timer.key))
            if row.order not in self.known:
                yield from self._submit(row)
                events = self._first(row, self.known[row.order])
            else:
                events = self._further(row, self.known[row.order])
            for event in events:
                yield from self._feed(event)

    def _submit(self, row: Row) -> Iterator[Step]:
        size = row.left or UNIT
        yield from self._feed(SubmitOrder(row.at_ns, SYMBOL, row.side, size, row.price))
        place = self._placed.pop()
        self.known[row.order] = self._by_key[place.order] = _Known(place.order, place.client_id, row.side, size, size, row.price)
        yield from self._feed(Outcome(row.at_ns, place.id, Verb.PLACE, place.order, OutcomeKind.ACKNOWLEDGED))

    def _first(self, row: Row, order: _Known) -> list[Event]:
        if row.action != "deleted":
            return [OrderAccepted(row.at_ns, order.client_id, row.order)]
        return self._further(row, order)

    def _further(self, row: Row, order: _Known) -> list[Event]:
        """What an adapter makes of the row; ``order`` is brought up to date."""
        before, order.left = order.left, row.left
        cum_qty = Qty(order.qty - row.left)
        if row.action == "created":
            return [OrderAccepted(row.at_ns, order.client_id, row.order)]
        filled = OrderFilled(
            row.at_ns, order.client_id, row.order, f"row{row.number}", Qty(before - row.left), row.price, cum_qty, Usd(0)
        )
        if row.action == "deleted":
            order.status = ReportStatus.CANCELLED if row.left else ReportStatus.FILLED
            return [filled] if before and not row.left else [OrderCancelled(row.at_ns, order.client_id, cum_qty)]
        events: list[Event] = [filled] if row.left != before else []
        if row.price != order.price or row.left == before:
            order.price = row.price
            events.append(OrderReplaced(row.at_ns, order.client_id, row.order, order.qty, row.price))
        return events

    def _feed(self, event: Event) -> Iterator[Step]:
        before = self.core
        self.core, effects = step(before, event)
        yield before, event, self.core, effects
        for effect in effects:
            answer = self._answer(effect)
            if answer is not None:
                yield from self._feed(answer)

    def _answer(self, effect: Effect) -> Event | None:
        now = self.core.now_ns
        if isinstance(effect, SetTimer):
            heapq.heappush(self._timers, (effect.due_ns, effect.id, effect))
        elif isinstance(effect, Place):
            self._placed.append(effect)
        elif isinstance(effect, Alert):
            self.alerts[effect.code] = self.alerts.get(effect.code, 0) + 1
        elif isinstance(effect, Rejected):
            self.rejected[effect.code] = self.rejected.get(effect.code, 0) + 1
        elif isinstance(effect, FetchOpenOrders):
            return OpenOrders(now, effect.id, effect.symbol, effect.conditional, FetchedOrders(()))
        elif isinstance(effect, FetchPositions):
            return Positions(now, effect.id, FetchedPositions(()))
        elif isinstance(effect, QueryOrder):
            order = self._by_key[effect.order]
            row = OrderRow(
                order.client_id, effect.venue_id, SYMBOL, order.side, order.status, order.qty, order.price, Qty(order.qty - order.left),
                None, False, "",
            )  # fmt: skip
            return OrderQueried(now, effect.id, effect.order, Found(row))
        else:
            raise AssertionError(f"nothing here gives a reason for {effect}")
        return None


def fingerprint(path: Path) -> str:
    """One text for everything that was decided: the digests of all effects and of the last state."""
    market, effects_seen = Market(), hashlib.sha256()
    for _, _, _, effects in market.run(read(path)):
        effects_seen.update(EFFECTS.encode(effects))
    return f"{effects_seen.hexdigest()} {digest(market.core)} {market.core.seq}"


if __name__ == "__main__":
    print(fingerprint(Path(sys.argv[1])))
