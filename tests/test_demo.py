"""The demo. Goal: the same plan gives the same bytes, the proof is true by the venue's own books, and the exit code never flatters.

Method: short sessions on a disk in memory, in simulated time, over seeds and fault plans; a disk that fills up.
"""

from typing import Any

import attrs
import pytest
from haltcore.adapters.demo import MAX_SEED, Plan, Result, free_name, play
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.journal import JournalFailed
from haltcore.effects import Mode, ModeChanged, Place, Trigger
from haltcore.fsm.chain import Fault
from haltcore.fsm.core import Core
from haltcore.fsm.events import EdgeUpdate, Event, InstrumentDefined, SubmitOrder
from haltcore.fsm.replay import Source, entries
from haltcore.fsm.step import step
from haltcore.fsm.verdict import Kind

PATH = "logs/demo.jsonl"
SHORT = Plan(freeze_at_s=4, orders=20)


def played(plan: Plan = SHORT, disk: MemoryDisk | None = None, path: str = PATH) -> tuple[Result, MemoryDisk, list[str]]:
    """A session: its result, its disk, and what the spectator saw."""
    disk, lines = disk or MemoryDisk(), []
    return play(plan, path, disk, lines.append), disk, lines


def test_the_same_plan_gives_the_same_bytes() -> None:
    plan = attrs.evolve(SHORT, faults="harsh")
    (_, one, said), (_, two, again) = played(plan), played(plan)
    assert one.content[PATH] == two.content[PATH]
    assert said == again
    _, other, _ = played(attrs.evolve(plan, seed=8))
    assert other.content[PATH] != one.content[PATH]


@pytest.mark.parametrize("faults", ["none", "mild", "harsh"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, MAX_SEED])
def test_it_ends_proven_and_the_venue_agrees(faults: str, seed: int) -> None:
    result, _, lines = played(attrs.evolve(SHORT, faults=faults, seed=seed))
    assert result.exit_code == 0
    assert result.proof.verified
    assert result.open_at_venue == 0
    assert result.tried.code == "frozen"
    assert result.verdict is not None
    assert result.verdict.kind is Kind.SAME
    assert result.verdict.sealed
    assert sum(count for _, count in result.fates) >= 12
    assert "still open" not in dict(result.fates)
    assert any(line.startswith("FREEZE") for line in lines)
    assert (result.faults == 0) == (faults == "none")


def test_many_orders() -> None:
    result, _, _ = played(Plan(faults="none", orders=300, freeze_at_s=8))
    assert dict(result.fates)["cancelled"] >= 290
    assert result.exit_code == 0


def test_a_proof_that_is_late_is_waited_for() -> None:
    late = [(result, said) for seed in range(30) for result, _, said in [played(Plan(seed, "harsh", 12, 2))] if result.late]
    assert late
    for result, said in late:
        assert result.exit_code == 0
        (line,) = [line for line in said if "not proven after" in line]
        assert 0 < int(line.split()[3].replace(",", "")) <= result.proof.duration_ms


def test_the_numbers_in_the_result_lead_to_the_right_records() -> None:
    result, disk, _ = played(attrs.evolve(SHORT, freeze_at_s=10))
    records = {entry.n: entry for entry in entries([Source(PATH, disk.read(PATH))])}
    freeze, denied = records[result.frozen_at], records[result.denied_at]
    assert isinstance(freeze.event, EdgeUpdate)
    assert any(isinstance(effect, ModeChanged) for effect in freeze.effects)
    assert isinstance(denied.event, SubmitOrder)
    assert isinstance(records[result.tried.record].event, SubmitOrder)
    places = [effect for entry in records.values() for effect in entry.effects if isinstance(effect, Place)]
    assert result.sample in [place.client_id for place in places]
    # The conditional book is part of the story.
    assert any(place.stop_price is not None for place in places)


@pytest.mark.parametrize("faults", ["none", "harsh"])
@pytest.mark.parametrize("plan", [Plan(orders=4, freeze_at_s=20), Plan(freeze_at_s=45), Plan(orders=400, freeze_at_s=12)])
def test_the_day_hits_no_limit_by_accident(plan: Plan, faults: str) -> None:
    unset = {name for name, value in attrs.asdict(plan.config.limits).items() if value in (None, False)}
    assert unset == {"max_order_qty", "max_drawdown", "feed_lost_ms", "execution_rate", "duplicate_window_ms", "prevent_self_match"}
    result, disk, _ = played(attrs.evolve(plan, faults=faults))
    assert {code for code, _ in result.denials} <= {"max_order_value", "max_inventory_usd", "unknown_order_in_slot", "frozen"}
    assert sum(count for _, count in result.denials) == result.denied
    assert result.fills > 0
    records = list(entries([Source(PATH, disk.read(PATH))]))
    assert [e.event.symbol for e in records if isinstance(e.event, InstrumentDefined)] == ["BTCUSDT", "ETHUSDT"]
    freezes = [e.trigger for entry in records for e in entry.effects if isinstance(e, ModeChanged) and e.mode is Mode.FREEZING]
    assert freezes == [Trigger.EDGE_COLLAPSE]


def test_a_full_disk_freezes_and_is_not_called_a_success() -> None:
    disk = MemoryDisk()
    disk.capacity = 60_000
    result, _, _ = played(disk=disk)
    assert "the disk is full" in result.problem
    assert result.open_at_venue == 0
    assert result.exit_code == 1


def test_nothing_is_overwritten() -> None:
    _, disk, _ = played()
    before = bytes(disk.content[PATH])
    with pytest.raises(JournalFailed, match="never overwritten") as failure:
        played(disk=disk)
    assert failure.value.code == "exists"
    assert bytes(disk.content[PATH]) == before
    # A segment that is left of another log is in the way as well.
    segment = MemoryDisk()
    segment.content["logs/demo.0002.jsonl"] = bytearray(b"x")
    with pytest.raises(JournalFailed):
        played(disk=segment)


def test_free_names_step_over_logs_and_their_segments() -> None:
    disk = MemoryDisk()
    assert free_name("logs/demo-7", disk) == "logs/demo-7.jsonl"
    disk.content["logs/demo-70.jsonl"] = bytearray()
    assert free_name("logs/demo-7", disk) == "logs/demo-7.jsonl"
    disk.content["logs/demo-7.jsonl"] = bytearray()
    disk.content["logs/demo-7-2.0002.jsonl"] = bytearray()
    assert free_name("logs/demo-7", disk) == "logs/demo-7-3.jsonl"


def test_a_name_that_begins_like_another_log_is_no_obstacle() -> None:
    _, disk, _ = played(path="logs/demo-70.jsonl")
    result, _, _ = played(disk=disk, path="logs/demo-7.jsonl")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "change",
    [
        {"open_at_venue": 1},
        {"problem": "the disk is full"},
        {"verdict": None},
    ],
)
def test_the_exit_code_does_not_flatter(change: dict[str, Any]) -> None:
    result, _, _ = played()
    assert result.exit_code == 0
    assert result.verdict is not None
    assert attrs.evolve(result, **change).exit_code != 0
    assert attrs.evolve(result, proof=attrs.evolve(result.proof, verified=False)).exit_code != 0
    assert attrs.evolve(result, tried=attrs.evolve(result.tried, code="")).exit_code != 0
    assert attrs.evolve(result, verdict=attrs.evolve(result.verdict, exit_code=3)).exit_code == 3


def test_a_lost_seal_shows_in_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(self: object, seal: bool = True) -> None:  # noqa: ARG001
        return

    monkeypatch.setattr("haltcore.adapters.journal.Journal.close", close)
    result, _, _ = played()
    assert result.verdict is not None
    assert result.exit_code == 2
    assert Fault.NOT_SEALED in result.verdict.problem


def test_a_core_that_fails_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(core: Core, event: Event) -> Any:
        if isinstance(event, SubmitOrder):
            raise ZeroDivisionError
        return step(core, event)

    monkeypatch.setattr("haltcore.adapters.engine.step", failing)
    result, _, _ = played()
    assert result.tried.code == "internal_error"
    assert result.exit_code == 1
