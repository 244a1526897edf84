"""25,076 lifecycles of a real exchange, dirt included, end as an independent reading of the file says, and replay to the byte.

Method: ``bitstamp.py`` turns the rows into events for the real ``step`` and answers its questions. Here every step is held against the
edge invariants, every 1,000th state against the state invariants, and all of it is journalled and replayed. What became of each order is
compared with ``fold``, which reads the same rows knowing nothing of the core: a dict, and no rule but "a delete ends it".

The data is no part of the repository; where it is missing these tests are skipped and say so.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import define, frozen
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.journal import Journal, segments
from haltcore.fsm.digest import digest
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Kind, report

from tests.real.bitstamp import CONFIG, UNIT, Market, folder, read

FOLDER = folder()
pytestmark = pytest.mark.skipif(
    FOLDER is None,
    reason="REAL DATA NOT CHECKED: bitstamp_2015-05-01 is not here; set HALTCORE_DATA to the folder that holds it",
)
ROOT = Path(__file__).resolve().parents[2]


@define
class Plain:
    """One order as the rows tell it; quantities in units of the file."""

    side: str
    size: int
    left: int
    phase: str
    cash: int = 0


@frozen
class Run:
    """The one run that the tests look at: the market, the faults that were found on the way, and the log."""

    market: Market
    faults: tuple[str, ...]
    disk: MemoryDisk
    steps: int


def fold(path: Path) -> tuple[dict[str, Plain], dict[str, int]]:
    """What became of every order, and how many rows of each kind told nothing new."""
    orders: dict[str, Plain] = {}
    idle = {"duplicate": 0, "stale": 0, "impossible": 0, "repriced": 0}
    prices: dict[str, int] = {}
    for row in read(path):
        left, order = row.left // UNIT, orders.get(row.order)
        if order is None:
            order = orders[row.order] = Plain(row.side.value, left or 1, left or 1, "WORKING")
            prices[row.order] = row.price
        elif row.action == "changed" and order.phase == "WORKING" and row.price != prices[row.order]:
            prices[row.order] = row.price
            idle["repriced"] += 1
        if order.phase != "WORKING":
            idle["duplicate" if row.action == "deleted" else "stale" if row.action == "created" else "impossible"] += 1
            continue
        order.cash += (order.left - left) * row.price
        order.left = left
        if row.action == "deleted":
            order.phase = "CANCELLED" if left else "FILLED"
    return orders, idle


async def _journalled(path: Path) -> Run:
    market, disk, faults, steps = Market(), MemoryDisk(), [], 0
    journal = await Journal.create("run.jsonl", CONFIG, disk)
    for before, event, after, effects in market.run(read(path)):
        steps += 1
        faults += [f"record {after.seq}: {fault}" for fault in broken(before, event, after, effects)]
        if steps % 1_000 == 0:
            faults += [f"record {after.seq}: {fault}" for fault in broken_state(after)]
            await journal.commit()
        assert journal.append(event, effects, after), journal.failed
        if journal.rotation_due:
            journal.rotate(after)
    faults += broken_state(market.core)
    await journal.close()
    return Run(market, tuple(faults), disk, steps)


@pytest.fixture(scope="module")
def path() -> Path:
    assert FOLDER is not None
    return FOLDER


@pytest.fixture(scope="module")
def run(path: Path) -> Run:
    return asyncio.run(_journalled(path))


def test_no_step_breaks_an_invariant(run: Run) -> None:
    assert not run.faults
    assert run.steps > 100_000


def test_every_order_ends_as_the_rows_say(run: Run, path: Path) -> None:
    plain, _ = fold(path)
    core = run.market.core
    assert len(plain) == len(run.market.known) == 25_076
    wrong = []
    for name, known in run.market.known.items():
        order, told = core.order(known.key), plain[name]
        assert order is not None
        if (order.phase.name, order.cum_qty) != (told.phase, (told.size - told.left) * UNIT):
            wrong.append((name, order.phase.name, order.cum_qty, told))
    assert not wrong, wrong[:5]
    working = [name for name, told in plain.items() if told.phase == "WORKING"]
    assert len(core.orders) == len(working) > 100, "orders that never end stay working"


def test_the_book_is_the_sum_of_the_rows(run: Run, path: Path) -> None:
    plain, _ = fold(path)
    book = run.market.core.books[0]
    signed = [(1 if told.side == "buy" else -1, told) for told in plain.values()]
    assert book.position == sum(sign * (told.size - told.left) for sign, told in signed) * UNIT
    assert book.cash == -sum(sign * told.cash for sign, told in signed) * UNIT
    assert book.open_orders == len(run.market.core.orders)
    assert book.buy_qty == sum(told.left for sign, told in signed if sign > 0 and told.phase == "WORKING") * UNIT


def test_dirt_is_refused_with_its_code_and_nothing_else_is(run: Run, path: Path) -> None:
    _, idle = fold(path)
    assert all(idle.values()), "the file has dirt of every kind"
    assert run.market.rejected == {
        "duplicate_report": idle["duplicate"], "stale_report": idle["stale"], "invalid_report": idle["impossible"],
    }  # fmt: skip
    assert run.market.alerts == {"contradiction": idle["repriced"]}, "a price that changes by itself is asked about, and nothing more"


def test_the_log_replays_to_the_same(run: Run) -> None:
    files = segments("run.jsonl", run.disk)
    assert len(files) == 2
    verdict = replay([Source(name, run.disk.read(name)) for name in files], require_seal=True)
    assert verdict.kind is Kind.SAME, report(verdict)
    assert verdict.records == run.steps
    assert verdict.digest == digest(run.market.core)


def test_two_processes_with_other_hash_seeds_decide_the_same(run: Run, path: Path) -> None:
    def started(seed: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "tests.real.bitstamp", str(path)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    processes = [started(seed) for seed in ("1", "4242")]
    prints = []
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0
        prints.append(output.strip())
    assert prints[0] == prints[1]
    assert prints[0].split()[1:] == [digest(run.market.core), str(run.steps)]
