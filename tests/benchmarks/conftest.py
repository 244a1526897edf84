"""Timing without the collector's noise, and a table of ratios at the end.

Absolute figures belong to the machine; the ratios are what the design promises. They are reported, never asserted.
"""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

#: What the figures are held against: (title, numerator, denominator, promise).
RATIOS = (
    ("submit: 1,000,000 open orders against 10", "submit at 1000000", "submit at 10", "below 2"),
    ("submit, every limit: 1,000,000 open orders against 10", "submit, every limit at 1000000", "submit, every limit at 10", "below 2"),
    ("every limit against two limits, submit at 10", "submit, every limit at 10", "submit at 10", ""),
    ("accepted: 1,000,000 open orders against 10", "accepted at 1000000", "accepted at 10", "below 2"),
    ("partial fill: 1,000,000 open orders against 10", "partial fill at 1000000", "partial fill at 10", "below 2"),
    ("last fill: 1,000,000 open orders against 10", "last fill at 1000000", "last fill at 10", "below 2"),
    ("cancelled: 1,000,000 open orders against 10", "cancelled at 1000000", "cancelled at 10", "below 2"),
    ("a whole life against NautilusTrader's order.apply", "life at 10000", "nautilus apply", "at most 1, compiled"),
    ("the same, events constructed on both sides", "life with events at 10000", "nautilus apply with events", "at most 1, compiled"),
    ("edge invariants against the step itself", "edge invariants at 10000", "life at 10000", ""),
    ("appending to the journal against the step itself", "journal append at 10000", "life at 10000", ""),
)
#: (title, figure, how many of it are counted a second, promise).
RATES = (
    ("steps per second at 10,000 open orders, whole lives", "life at 10000", "200,000"),
    ("records replayed per second, full audit", "replay", "120,000"),
    ("the same with edge invariants", "replay with invariants", ""),
)
#: (title, figure, promise), in milliseconds.
BOUNDS = (
    ("freeze to the first cancel, ms, 10 open orders", "freeze (cancel) at 10", "below 1"),
    ("freeze to the first cancel, ms, 10,000 open orders", "freeze (cancel) at 10000", "below 1"),
    ("the same, order by order", "freeze (leave) at 10000", "below 1"),
)


@pytest.fixture(autouse=True)
def _quiet_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Print figures per event and ratios, from the median of the rounds."""
    session = getattr(config, "_benchmarksession", None)
    figures = {
        bench.extra_info["figure"]: bench.stats.median / bench.extra_info["events"] * 1e9
        for bench in getattr(session, "benchmarks", ())
        if bench.extra_info.get("figure") and bench.stats.rounds
    }
    if not figures:
        return
    write = terminalreporter.write_line
    terminalreporter.section("nanoseconds per event")
    for name, ns in figures.items():
        write(f"{name:<44}{ns:>14,.0f}")
    terminalreporter.section("ratios")
    for title, over, under, promise in RATIOS:
        if over in figures and under in figures:
            write(f"{title:<58}{figures[over] / figures[under]:>9.2f}   {promise}")
    for title, name, promise in RATES:
        if name in figures:
            write(f"{title:<58}{1e9 / figures[name]:>9,.0f}   {promise}")
    for title, name, promise in BOUNDS:
        if name in figures:
            write(f"{title:<58}{figures[name] / 1e6:>9.3f}   {promise}")
