"""The short stories of the demo. Goal: each shows what it claims, says so when it is not so, and is the same for the same seed.

Method: every story on a disk in memory, in simulated time; the records that it points to are looked up in its log; and stories that
are made to go wrong, by other limits, by a venue that keeps an order, by a disk that is full.
"""

from types import MappingProxyType
from typing import Any

import attrs
import pytest
from haltcore.adapters import scenarios
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.journal import JournalFailed
from haltcore.adapters.scenarios import SCENARIOS, Told, tell
from haltcore.effects import Denied, Mode, ModeChanged, Trigger, usd
from haltcore.fsm.events import EdgeUpdate, Freeze, InstrumentDefined, SubmitOrder
from haltcore.fsm.limits import Limits
from haltcore.fsm.replay import Entry, Source, entries
from haltcore.fsm.verdict import Kind

PATH = "logs/story.jsonl"


def told(name: str, seed: int = 7, disk: MemoryDisk | None = None) -> tuple[Told, list[str], dict[int, Entry]]:
    """A story: what came of it, what was said, and its records."""
    disk, lines = disk or MemoryDisk(), []
    result = tell(name, seed, PATH, disk, lines.append)
    return result, lines, {entry.n: entry for entry in entries([Source(PATH, disk.read(PATH))])}


def changed(monkeypatch: pytest.MonkeyPatch, name: str, limits: Limits) -> None:
    """Give a story other limits."""
    other = attrs.evolve(SCENARIOS[name], limits=limits)
    monkeypatch.setattr(scenarios, "SCENARIOS", MappingProxyType({**SCENARIOS, name: other}))


@pytest.mark.parametrize("name", list(SCENARIOS))
@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_every_promise_is_kept_and_the_log_is_the_same(name: str, seed: int) -> None:
    result, lines, records = told(name, seed)
    assert [text for text, kept in result.promises if not kept] == []
    assert len(result.promises) >= 5
    assert result.exit_code == 0
    assert result.verdict is not None
    assert result.verdict.kind is Kind.SAME
    assert result.verdict.sealed
    assert not [line for line in lines if line.startswith("NOT SO")]
    assert lines[0] == f"STORY    {SCENARIOS[name].title}"
    # The log knows what the venue's terms were.
    assert [e.event.symbol for e in records.values() if isinstance(e.event, InstrumentDefined)] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    one, two, other = MemoryDisk(), MemoryDisk(), MemoryDisk()
    assert told(name, disk=one)[1] == told(name, disk=two)[1]
    assert one.content[PATH] == two.content[PATH]
    told(name, 8, other)
    assert other.content[PATH] != one.content[PATH]


def frozen_by(entry: Entry) -> list[Trigger]:
    return [effect.trigger for effect in entry.effects if isinstance(effect, ModeChanged) and effect.mode is Mode.FREEZING]


def denials(records: dict[int, Entry]) -> list[tuple[int, str]]:
    return [(n, e.code) for n, entry in records.items() for e in entry.effects if isinstance(e, Denied)]


def test_edge() -> None:
    result, lines, records = told("edge")
    assert isinstance(records[result.frozen_at].event, EdgeUpdate)
    assert frozen_by(records[result.frozen_at]) == [Trigger.EDGE_COLLAPSE]
    assert denials(records) == [(result.denied_at, "frozen")]
    said = "\n".join(lines)
    for text in ("150 bps", "3 orders cancelled; open at the venue, by its own books: 0", '{reason="edge_collapse"} 1.0'):
        assert text in said


def test_inventory_denies_and_does_not_freeze() -> None:
    result, lines, records = told("inventory")
    assert result.frozen_at == 0
    assert denials(records) == [(result.denied_at, "max_inventory_usd")]
    denied = records[result.denied_at].event
    assert isinstance(denied, SubmitOrder)
    said = "\n".join(lines)
    for text in ("a position of 4000, under a limit of 5000", "2500 more", "would exceed 5000", "6500", "nothing is frozen"):
        assert text in said
    # Only the stop at the end freezes.
    assert [trigger for entry in records.values() for trigger in frozen_by(entry)] == [Trigger.STOPPING]


def test_manual() -> None:
    result, lines, records = told("manual")
    freeze = records[result.frozen_at].event
    assert isinstance(freeze, Freeze)
    assert (freeze.by, freeze.reason) == ("ops", "the venue looks ill")
    said = "\n".join(lines)
    for text in ("denied, frozen", "manual of the account by ops: the venue looks ill", "refused: ", "the venue is well again"):
        assert text in said


def test_a_promise_that_is_not_kept_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, "inventory", Limits(max_inventory_usd=usd("6500")))
    result, lines, _ = told("inventory")
    broken = [text for text, kept in result.promises if not kept]
    assert "the order is denied, by the limit" in broken
    assert [line for line in lines if line.startswith("NOT SO")] == [f"NOT SO   {text}" for text in broken]
    assert result.exit_code == 1
    assert result.verdict is not None
    assert result.verdict.exit_code == 0


def test_a_freeze_that_does_not_come_ends_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, "edge", Limits())
    result, lines, _ = told("edge")
    assert result.exit_code == 1
    assert "NOT SO   the edge below the threshold freezes" in lines


@pytest.mark.parametrize("change", [{"verdict": None}, {"promises": (("x", True), ("y", False))}])
def test_the_exit_code_does_not_flatter(change: dict[str, Any]) -> None:
    result, _, _ = told("manual")
    assert attrs.evolve(result, **change).exit_code == 1
    assert result.verdict is not None
    assert attrs.evolve(result, verdict=attrs.evolve(result.verdict, exit_code=3)).exit_code == 3


def test_a_full_disk_is_no_success() -> None:
    disk = MemoryDisk()
    disk.capacity = 10_000
    lines: list[str] = []
    result = tell("manual", 7, PATH, disk, lines.append)
    assert "the disk is full" in result.problem
    assert "nothing is open at the end, by the venue's own books" in [text for text, kept in result.promises if kept]
    assert result.exit_code == 1


def test_nothing_is_overwritten() -> None:
    disk = MemoryDisk()
    told("manual", disk=disk)
    before = bytes(disk.content[PATH])
    with pytest.raises(JournalFailed, match="never overwritten"):
        tell("edge", 7, PATH, disk, print)
    assert bytes(disk.content[PATH]) == before
