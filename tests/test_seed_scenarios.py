"""The three stories that haltcore began with, end to end. Goal: what the first risk monitor promised holds, through every part at once.

Method: the real runner with a journal, on the paper venue, in simulated time; each story is told with its own numbers (200 bps of edge,
a limit of 5000 with 4000 held and 2500 asked, a person's freeze). What is claimed is looked up where it must show: in the venue's own
books, in the metrics as they are scraped, in the history, and in the log, which is then decided again.
"""

from typing import Any

import pytest
from haltcore.adapters.answers import OrderDenied
from haltcore.adapters.metrics import Metrics
from haltcore.adapters.paper import PaperVenue
from haltcore.effects import Denied, Mode, Place, Side, Trigger, as_notional, bps, price, qty, usd
from haltcore.fsm.config import Config
from haltcore.fsm.events import EdgeUpdate, Freeze, SubmitOrder, Unfreeze
from haltcore.fsm.limits import Limits
from haltcore.fsm.verdict import Kind

from tests.runner_rig import Rig, later, simulated

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
MARKS = {"BTCUSDT": "50000", "ETHUSDT": "2500", "SOLUSDT": "100"}
#: One order of 500 in each symbol, a little below the market, so that it rests.
ORDERS = (("BTCUSDT", "0.01", "49990"), ("ETHUSDT", "0.2", "2499"), ("SOLUSDT", "5", "99"))


class World(Rig):
    """A runner with a journal and these limits, on a paper venue without faults; its metrics can be scraped."""

    def __init__(self, **limits: Any) -> None:
        self.metrics = Metrics(SYMBOLS)
        conf = Config(session="seeds01", symbols=SYMBOLS, limits=Limits(**limits))
        super().__init__(PaperVenue(SYMBOLS, seed=1), conf=conf, metrics=self.metrics)
        for symbol, mark in MARKS.items():
            self.venue.mark(symbol, price(mark))

    def scraped(self, series: str) -> float:
        """One sample of the exposition."""
        (value,) = (float(line.rsplit(" ", 1)[1]) for line in self.metrics.text().splitlines() if line.startswith(series + " "))
        return value


async def open_three(rig: Rig) -> None:
    """Mark prices, and one resting order in each symbol."""
    for symbol, mark in MARKS.items():
        await rig.bot.mark(symbol, mark)
    for symbol, size, limit in ORDERS:
        order = await rig.bot.submit(symbol, "buy", size, limit)
        assert order.status == "new"
    assert [row.symbol for row in rig.venue.exchange.all_open()] == list(SYMBOLS)


def same(rig: Rig) -> None:
    """The log is whole, and decided again it is the same to the byte."""
    verdict = rig.replayed()
    assert verdict.kind is Kind.SAME, verdict
    assert verdict.sealed


@simulated
async def test_freeze_on_edge_collapse_e2e() -> None:
    async with World(edge_freeze_threshold_bps=bps("200")) as rig:
        await open_three(rig)
        await rig.bot.edge("BTCUSDT", "250")
        await rig.bot.edge("ETHUSDT", "200")
        # An edge at the threshold is not below it.
        assert rig.bot.status().modes == {}
        await rig.bot.edge("BTCUSDT", "150")
        assert rig.bot.status().modes == {"": Mode.FREEZING}
        proof = await rig.bot.proof()
        assert proof.verified
        assert (proof.cancelled, proof.remaining) == (3, 0)
        assert rig.venue.exchange.all_open() == ()
        assert [order.status for order in rig.bot.core.closed.values()] == ["cancelled"] * 3
        await later(0)
        for trigger in Trigger:
            assert rig.scraped(f'freeze_triggered_total{{reason="{trigger}"}}') == (trigger is Trigger.EDGE_COLLAPSE)
        for symbol, size, limit in ORDERS:
            with pytest.raises(OrderDenied) as denied:
                await rig.bot.submit(symbol, "buy", size, limit)
            assert denied.value.code == "frozen"
            assert denied.value.executed is False
        assert len(rig.effects(Place)) == 3
        desk = rig.bot.core.desk
        assert desk is not None
        (freeze,) = desk.freezes
        assert (freeze.scope, freeze.trigger) == ("", Trigger.EDGE_COLLAPSE)
        assert {"150", "200"} <= {value for _, value in freeze.metadata}
        news = rig.seen[freeze.record - 1][0]
        assert isinstance(news, EdgeUpdate)
        assert (news.symbol, news.edge_bps) == ("BTCUSDT", bps("150"))
        # The same news again, and worse news, freeze nothing that is frozen already: it is recorded, and the sweep is not begun anew.
        await rig.bot.edge("BTCUSDT", "-10")
        assert rig.bot.proven()
    same(rig)


@simulated
async def test_freeze_on_inventory_limit_e2e() -> None:
    async with World(max_inventory_usd=usd("5000"), max_total_notional=usd("50000")) as rig:
        for symbol, mark in MARKS.items():
            await rig.bot.mark(symbol, mark)
        filled = await rig.bot.submit("BTCUSDT", "buy", "0.08", "50000")
        rig.venue.trade("BTCUSDT", Side.SELL, qty("0.08"), price("50000"))
        await later(1)
        assert (filled.status, filled.filled) == ("filled", "0.08")
        assert rig.venue.exchange.position("BTCUSDT") == qty("0.08")
        asked = rig.bot.what_if("BTCUSDT", "buy", "0.05", "50000")
        assert asked.code == "max_inventory_usd"
        assert (asked.symbol.before, asked.symbol.after) == (as_notional(usd(4000)), as_notional(usd(6500)))
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.submit("BTCUSDT", "buy", "0.05", "50000")
        assert denied.value.code == "max_inventory_usd"
        assert "6500" in denied.value.reason
        assert "5000" in denied.value.reason
        assert denied.value.executed is False
        assert len(rig.effects(Place)) == 1
        # A limit says no to one order; it freezes nothing.
        assert rig.bot.status().modes == {}
        await later(0)
        assert rig.scraped('mm_orders_denied_total{code="max_inventory_usd"}') == 1
        assert rig.scraped('mm_limit_utilization_ratio{limit="max_inventory_usd",scope="BTCUSDT"}') == 0.8
        assert all(rig.scraped(f'freeze_triggered_total{{reason="{trigger}"}}') == 0 for trigger in Trigger)
        # What stays within the limit goes out: to the last dollar of it, in another symbol, and whatever works the position off.
        for symbol, side, size, limit in (
            ("BTCUSDT", "buy", "0.02", "50000"), ("ETHUSDT", "buy", "2", "2500"), ("BTCUSDT", "sell", "0.08", "50010"),
        ):  # fmt: skip
            assert (await rig.bot.submit(symbol, side, size, limit)).status == "new"
        with pytest.raises(OrderDenied, match="max_inventory_usd"):
            await rig.bot.submit("BTCUSDT", "buy", "0.0001", "50000")
    same(rig)


@simulated
async def test_manual_freeze_e2e() -> None:
    async with World() as rig:
        await open_three(rig)
        proof = await rig.bot.freeze("exchange connectivity issues", by="ops")
        assert proof.verified
        assert proof.cancelled == 3
        assert rig.venue.exchange.all_open() == ()
        desk = rig.bot.core.desk
        assert desk is not None
        (freeze,) = desk.freezes
        assert (freeze.trigger, freeze.reason, freeze.by) == (Trigger.MANUAL, "exchange connectivity issues", "ops")
        (command,) = rig.events(Freeze)
        assert freeze.at_ns == command.at_ns
        assert rig.seen[freeze.record - 1][0] is command
        await later(0)
        assert rig.scraped('freeze_triggered_total{reason="manual"}') == 1
        with pytest.raises(OrderDenied, match="exchange connectivity issues") as denied:
            await rig.bot.submit(*("BTCUSDT", "buy", "0.01", "49990"))
        assert denied.value.code == "frozen"
        await rig.bot.unfreeze(by="ops", why="connectivity restored")
        assert rig.bot.status().modes == {}
        (lifted,) = rig.events(Unfreeze)
        assert (lifted.by, lifted.why) == ("ops", "connectivity restored")
        for symbol, size, limit in ORDERS:
            assert (await rig.bot.submit(symbol, "buy", size, limit)).status == "new"
        assert len(rig.venue.exchange.all_open()) == 3
        assert len(rig.effects(Place)) == 6
        assert [(d.code, e.symbol) for e, effects in rig.seen if isinstance(e, SubmitOrder) for d in effects if isinstance(d, Denied)] == [
            ("frozen", "BTCUSDT")
        ]
    same(rig)
