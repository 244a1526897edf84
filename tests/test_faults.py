"""The fault plan misbehaves as much as it says, on what it says, and the same every time.

Method: long streams of draws are counted against the plan's own rates; scripts and the end of the faults are looked at one draw at a
time; a second process with another hash seed must draw the same.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest
from haltcore.adapters.faults import (
    PRESETS,
    REPORT_FAULTS,
    STALEST_MS,
    WELL,
    Drawn,
    Fault,
    FaultPlan,
    FaultPlanRefused,
    FaultSource,
    Scripted,
    befalls,
)
from haltcore.effects import NO_FENCE, CancelAll, Effect, FetchOpenOrders, FetchPositions
from haltcore.fsm.events import OrderAccepted

POSITIONS = FetchPositions((1, 0))
OPEN = FetchOpenOrders((1, 0), "", False)
ALL, ALL_STOPS = (CancelAll((1, 0), "BTCUSDT", conditional, 0, NO_FENCE) for conditional in (False, True))
REPORT = OrderAccepted(0, "a", "v1")
DRAWS = 4_000
MS = 1_000_000


def count(plan: FaultPlan, effect: Effect) -> Counter[Fault]:
    source = FaultSource(plan)
    return Counter(source.for_request(effect, 0, 5_000).fault for _ in range(DRAWS))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("effect", [POSITIONS, OPEN, ALL, ALL_STOPS], ids=["positions", "open", "all", "all_stops"])
def test_each_fault_is_as_frequent_as_planned_and_only_where_it_belongs(name: str, effect: Effect) -> None:
    plan = FaultPlan.named(name, 3)
    counted = count(plan, effect)
    for fault, rate in plan.rates:
        expected = DRAWS * rate / 1_000 if befalls(fault, effect) else 0
        assert abs(counted[fault] - expected) <= 6 * expected**0.5


def test_harsh_spoils_a_quarter_of_all_requests_and_a_third_of_all_reports() -> None:
    plan = FaultPlan.named("harsh", 1)
    assert DRAWS - count(plan, POSITIONS)[Fault.NONE] > DRAWS * 0.2
    source = FaultSource(plan)
    reports = Counter(source.for_report(REPORT, 0).fault for _ in range(DRAWS))
    assert DRAWS - reports[Fault.NONE] > DRAWS * 0.25
    assert set(reports) == {Fault.NONE, *REPORT_FAULTS}
    assert {fault for fault, _ in plan.rates} == set(Fault) - {Fault.NONE}


def test_durations_stay_in_their_bounds() -> None:
    source = FaultSource(FaultPlan.named("harsh", 5))
    drawn = [source.for_request(effect, 0, 5_000) for _ in range(DRAWS) for effect in (OPEN, ALL)]
    spans = {
        fault: (min(ms), max(ms)) for fault in Fault if (ms := [one.ms for one in drawn if one.fault is fault])
    }
    assert 0 < spans[Fault.STALE_SNAPSHOT][0] <= spans[Fault.STALE_SNAPSHOT][1] <= STALEST_MS
    assert 0 < spans[Fault.SLOW_REQUEST][0] <= spans[Fault.SLOW_REQUEST][1] < 5_000
    assert 500 <= spans[Fault.BAN][0] <= spans[Fault.BAN][1] <= 2_000
    assert spans[Fault.REQUEST_LOST] == (0, 0)


def test_a_script_goes_first_and_counts_per_class() -> None:
    script = (
        Scripted(FetchPositions, 2, Fault.BAN, ms=7),
        Scripted(OrderAccepted, 1, Fault.REPORT_LOST),
        Scripted(CancelAll, 1, Fault.NONE),
    )
    source = FaultSource(FaultPlan(((Fault.REQUEST_LOST, 1_000),), 0, script))
    lost = Drawn(Fault.REQUEST_LOST, 0)
    asked = (POSITIONS, OPEN, ALL, POSITIONS, POSITIONS)
    assert [source.for_request(effect, 0, 10) for effect in asked] == [lost, lost, WELL, Drawn(Fault.BAN, 7), lost]
    assert [source.for_report(REPORT, 0).fault for _ in range(2)] == [Fault.REPORT_LOST, Fault.NONE]


def test_quiet_by_time_from_the_first_request_and_by_word() -> None:
    always = ((Fault.REQUEST_LOST, 1_000),)
    timed = FaultSource(FaultPlan(always, quiet_after_ms=10))
    faults = [timed.for_request(POSITIONS, 5 * MS + at, 10).fault for at in (0, 10 * MS - 1, 10 * MS)]
    assert faults == [Fault.REQUEST_LOST, Fault.REQUEST_LOST, Fault.NONE]
    told = FaultSource(FaultPlan(always, 0, (Scripted(FetchPositions, 1, Fault.BAN),)))
    assert not told.is_quiet(10**18)
    told.quiet()
    assert told.for_request(POSITIONS, 0, 10) == WELL


def test_a_limited_cancel_all_spares_all_but_its_limit() -> None:
    source = FaultSource(FaultPlan(cancel_all_limit=3))
    ids = [f"v{n}" for n in range(10)]
    spared = [tuple(source.spared(ids)) for _ in range(5)]
    assert {len(set(some)) for some in spared} == {7}
    assert len(set(spared)) > 1
    assert source.spared(ids[:3]) == []


def test_a_plan_that_means_nothing_is_refused() -> None:
    with pytest.raises(FaultPlanRefused, match=r"'wild' is no fault plan; there are none, mild, harsh"):
        FaultPlan.named("wild", 0)
    with pytest.raises(FaultPlanRefused, match="twice"):
        FaultPlan(((Fault.BAN, 1), (Fault.BAN, 2)))
    with pytest.raises(FaultPlanRefused, match="0 to 1000"):
        FaultPlan(((Fault.BAN, -1),))
    with pytest.raises(FaultPlanRefused, match="at most 1000"):
        FaultPlan(((Fault.BAN, 600), (Fault.REQUEST_LOST, 600)))
    FaultPlan(((Fault.BAN, 600), (Fault.REPORT_LOST, 600)))


def test_seeds_differ_and_processes_do_not() -> None:
    assert count(FaultPlan.named("harsh", 1), OPEN) != count(FaultPlan.named("harsh", 2), OPEN)
    program = (
        "from haltcore.adapters.faults import *\nfrom haltcore.effects import FetchPositions\n"
        "source = FaultSource(FaultPlan.named('harsh', 9))\n"
        "print([(d.fault.value, d.ms) for d in (source.for_request(FetchPositions((1, 0)), 0, 99) for _ in range(300))])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""
