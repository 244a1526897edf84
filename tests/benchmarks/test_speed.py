"""How fast a step is, and that its cost does not grow with the number of open orders.

Run with ``pytest tests/benchmarks``; they are not collected otherwise. Method: events are built beforehand, the collector is off. Steps of
one type all start from the same state and each meets another order, chosen in a mixed order, so that a large state is really walked
through. Whole lives are threaded through the state as in earnest. The table at the end is made by ``conftest.py``.
"""

import asyncio
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.journal import Journal
from haltcore.fsm import Core, Event, broken, step
from haltcore.fsm.config import ForeignPolicy
from haltcore.fsm.invariants import broken_state
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Kind

from tests.benchmarks.worlds import FREEZE, KINDS, keys, life, lives, log, state

BATCH = 5_000
ROUNDS = 7
#: In the order of the states they need, which take seconds and a gigabyte each.
AT_A_MILLION = ("submit", "partial fill", "cancelled", "submit, every limit", "accepted", "last fill")
HAS_NAUTILUS = importlib.util.find_spec("nautilus_trader") is not None


def measure(benchmark: Any, figure: str, events: int, run: Callable[..., object], setup: Callable[[], Any] | None = None) -> None:
    """Time ``run``, which handles so many events, under the name by which the table knows it."""
    benchmark.extra_info.update(figure=figure, events=events)
    benchmark.pedantic(run, setup=setup, rounds=ROUNDS, warmup_rounds=1)


def each(core: Core, events: Sequence[Event]) -> None:
    for event in events:
        step(core, event)


def all_lives(core: Core, events: Sequence[Event]) -> None:
    for event in events:
        core, _ = step(core, event)


def events_of_lives(core: Core) -> list[Event]:
    first = core.seq + 1
    return [event for key in range(first, first + BATCH, 5) for event in life(key)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("stage", [1, 3, 4])
def test_a_state_written_down_is_one_that_steps_could_make(stage: int, full: bool) -> None:
    core = state(100, stage, full=full)
    assert not broken_state(core)
    assert len(core.orders) == 100


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_event_has_an_effect(kind: str) -> None:
    stage, make = KINDS[kind]
    core = state(10, stage, full="every limit" in kind)
    event = make(keys(core, 1)[0])
    after, effects = step(core, event)
    assert not broken(core, event, after, effects)
    assert bool(effects) == (kind in ("submit", "submit, every limit", "acknowledged", "cancel command", "duplicate report"))
    assert bool(after.touched) == (kind not in ("duplicate report", "mark price"))


def time_step(benchmark: Any, kind: str, count: int) -> None:
    stage, make = KINDS[kind]
    core = state(count, stage, full="every limit" in kind)
    chosen = keys(core, BATCH)
    events = [make(chosen[n % len(chosen)]) for n in range(BATCH)]
    measure(benchmark, f"{kind} at {count}", BATCH, lambda: each(core, events))


@pytest.mark.parametrize("count", [10, 10_000])
@pytest.mark.parametrize("kind", list(KINDS))
def test_step(benchmark: Any, kind: str, count: int) -> None:
    time_step(benchmark, kind, count)


@pytest.mark.parametrize("count", [10, 10_000])
def test_whole_lives(benchmark: Any, count: int) -> None:
    core = state(count)
    events = events_of_lives(core)
    measure(benchmark, f"life at {count}", BATCH, lambda: all_lives(core, events))


def test_whole_lives_with_events(benchmark: Any) -> None:
    core = state(10_000)
    measure(benchmark, "life with events at 10000", BATCH, lambda: all_lives(core, events_of_lives(core)))


def test_edge_invariants(benchmark: Any) -> None:
    steps = []
    core = state(10_000)
    for event in events_of_lives(core):
        before = core
        core, effects = step(before, event)
        steps.append((before, event, core, effects))

    def check() -> None:
        for before, event, after, effects in steps:
            broken(before, event, after, effects)

    measure(benchmark, "edge invariants at 10000", len(steps), check)


def test_journal_append(benchmark: Any) -> None:
    """Encoding, checking, hashing and the digest at checkpoints; no disk."""
    steps = list(lives(BATCH // 5, 10_000))
    config = steps[0][2].desk.config  # type: ignore[union-attr]

    def prepared() -> tuple[tuple[Journal], dict[str, Any]]:
        journal = asyncio.run(Journal.create("bench.jsonl", config, MemoryDisk()))
        for _, event, core, effects in steps[:-BATCH]:
            journal.append(event, effects, core)
        return (journal,), {}

    def append(journal: Journal) -> None:
        for _, event, core, effects in steps[-BATCH:]:
            journal.append(event, effects, core)

    measure(benchmark, "journal append at 10000", BATCH, append, prepared)


@pytest.mark.parametrize("count", [10, 1_000, 10_000])
@pytest.mark.parametrize("policy", list(ForeignPolicy))
def test_freeze_to_the_first_cancel(benchmark: Any, count: int, policy: ForeignPolicy) -> None:
    """From the freeze command to the cancels being known. LEAVE cancels order by order, in batches, so that it grows with their number."""
    core = state(count, 3, policy)
    cancels = [type(effect).__name__ for effect in step(core, FREEZE)[1]]
    assert "CancelAll" in cancels or "CancelBatch" in cancels
    measure(benchmark, f"freeze ({policy.value}) at {count}", 1, lambda: step(core, FREEZE))


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "invariants"])
def test_replay(benchmark: Any, checked: bool) -> None:
    """Read, verify, decode, step, compare; a log that opens 10,000 orders and lets 6,000 more live."""
    data, records = log(6_000, 10_000)

    def run() -> None:
        source = [Source("bench.jsonl", [data])]
        verdict = replay(source, require_seal=True) if checked else replay(source, check=None, check_state=None, require_seal=True)
        assert verdict.kind is Kind.SAME

    measure(benchmark, "replay with invariants" if checked else "replay", records, run)


@pytest.mark.skipif(not HAS_NAUTILUS, reason="nautilus_trader is not installed; pip install nautilus_trader to compare")
@pytest.mark.parametrize("construct", [False, True], ids=["prebuilt", "with events"])
def test_nautilus_order_apply(benchmark: Any, construct: bool) -> None:
    """The same life: submitted, accepted, half filled, filled. Its fifth event, the creation, is left out on its side."""
    from tests.benchmarks.nautilus import new_orders, run_lives

    count = BATCH // 4

    def prepared() -> tuple[tuple[Any], dict[str, Any]]:
        return (new_orders(count, prebuilt=not construct),), {}

    measure(benchmark, "nautilus apply with events" if construct else "nautilus apply", count * 4, run_lives, prepared)


@pytest.mark.parametrize("kind", AT_A_MILLION)
def test_step_at_a_million(benchmark: Any, kind: str) -> None:
    """Last, since the large states stay in memory."""
    time_step(benchmark, kind, 1_000_000)
