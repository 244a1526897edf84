"""How long a sweep takes: against the venue's own floor without faults, and under harsh faults over many seeds.

Time here is simulated, so the figures are exact and the same on every machine. The floor is what any proof costs: one round trip for the
cancel-all, and one for each of the two empty lists. Run with ``pytest tests/benchmarks/test_sweep.py -s``; ``--seeds N`` for more or fewer.
"""

import asyncio
import statistics

import pytest
from haltcore.adapters.answers import HaltcoreError
from haltcore.adapters.clock import LoopClock
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.faults import FaultPlan
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.people import People
from haltcore.adapters.runner import Runner
from haltcore.adapters.virtual_time import run
from haltcore.fsm import Config

ONE_WAY_MS = 5


async def _sweep(orders: int, faults: str, seed: int, latency_ms: tuple[int, int]) -> tuple[float, int, int]:
    """Seconds from the freeze to the proof, orders open at the venue after it, orders that were open before."""
    clock = LoopClock(asyncio.get_running_loop(), 1_700_000_000 * 10**9)
    venue = PaperVenue(["BTCUSDT"], seed=seed, faults=FaultPlan.named(faults, seed), latency_ms=latency_ms)
    config = Config("sweeps1", ("BTCUSDT",), seed=seed)
    async with Runner(
        config, venue=venue, journal="s.jsonl", clock=clock, disk=MemoryDisk(), people=People(lambda _: None), on_stop="hand_over"
    ) as bot:
        for number in range(orders):
            await _open(bot, number)
        # Without faults everything is settled by now; with faults the last requests are still under way when the freeze comes.
        await asyncio.sleep(1 if faults == "none" else 0.004)
        before = len(venue.exchange.all_open())
        began_ns = clock.now_ns()
        await bot.freeze("measured", by="benchmark")
        while not bot.proven():
            await asyncio.sleep(0.01)
        return (clock.now_ns() - began_ns) / 1e9, len(venue.exchange.all_open()), before


async def _open(bot: Runner, number: int) -> None:
    """One more order, every tenth a stop; where an order of unknown fate blocks the side, a moment later."""
    stop = number % 10 == 9
    for _ in range(100):
        try:
            await bot.submit(
                "BTCUSDT", "buy", "0.01", price=str(50_000 - number), type="stop_limit" if stop else None,
                stop_price="60000" if stop else None, wait=False,
            )  # fmt: skip
        except HaltcoreError:
            await asyncio.sleep(0.2)
        else:
            await asyncio.sleep(0.002)
            return


@pytest.mark.parametrize("orders", [10, 100, 1_000])
def test_against_the_floor(orders: int) -> None:
    took_s, left, before = run(_sweep(orders, "none", 1, (ONE_WAY_MS, ONE_WAY_MS)), limit_s=600)
    floor_s = 3 * 2 * ONE_WAY_MS / 1_000
    print(f"\n{before:5} open orders: {took_s * 1e3:.1f} ms simulated, {took_s / floor_s:.2f} x the floor, {left} left")
    assert left == 0
    assert before == orders


def test_under_harsh_faults(request: pytest.FixtureRequest) -> None:
    seeds = request.config.getoption("--seeds")
    runs = [run(_sweep(30, "harsh", seed, (1, 5)), limit_s=3_600) for seed in range(seeds)]
    took = sorted(took_s for took_s, _, _ in runs)
    print(
        f"\n{seeds} seeds: {len(runs)} VERIFIED, {sum(left for _, left, _ in runs)} orders left at the venue;"
        f" simulated seconds: median {statistics.median(took):.2f}, 90 % {took[int(len(took) * 0.9)]:.2f}, worst {took[-1]:.2f};"
        f" open at the freeze: median {statistics.median(before for _, _, before in runs):.0f}"
    )
    assert all(left == 0 for _, left, _ in runs)
