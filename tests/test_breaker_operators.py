"""An operator's word about the breaker of placing reaches it by the bot, by the control socket and by the command line, and it is shown.

Method: runners in simulated time over a venue whose answers the test decides, two of them over one memory store; for socket and command
line a runner on a real loop. The rules themselves are tested with the core (``test_breakers.py``).
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters.answers import BreakerStatus, CommandRejected, OrderDenied, OrderRefused
from haltcore.adapters.gauges import GAUGES
from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.adapters.metrics import Metrics
from haltcore.effects import BreakerMode, Effect, ValueRefused
from haltcore.fsm.config import BreakerPolicy, StorePolicy
from haltcore.fsm.events import OperatorRefused, OutcomeKind, OverrideBreaker
from haltcore.fsm.outcomes import failed
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, config
from tests.runner_rig import HandVenue, Rig, buy, later, simulated
from tests.test_cli_operate import WHO, beside, told
from tests.test_control_socket import live

POLICY = BreakerPolicy(failures=3, window_ms=60_000, open_ms=5_000, probes=1)


class IllVenue(HandVenue):
    """Takes no order while it is ill."""

    ill = True

    async def perform(self, effect: Effect) -> Any:
        if self.ill and type(effect).__name__ == "Place":
            return [failed(effect, self.now_ns(), OutcomeKind.UNAVAILABLE, "503", "Service Unavailable")]
        return await super().perform(effect)


def shown(rig: Rig) -> BreakerStatus:
    breaker = rig.bot.status().breaker
    assert breaker is not None
    return breaker


async def fail(rig: Rig, times: int = 3) -> None:
    for _ in range(times):
        with pytest.raises(OrderRefused):
            await buy(rig.bot)


@simulated
async def test_it_opens_is_shown_probes_and_closes() -> None:
    async with Rig(IllVenue(), conf=config(breaker=POLICY)) as rig:
        assert shown(rig).standing == "closed, 0 of 3 failures"
        await fail(rig)
        assert (shown(rig).mode, shown(rig).untold) == (BreakerMode.OPEN, False)
        with pytest.raises(OrderDenied, match="breaker_open"):
            await buy(rig.bot)
        await later(5)
        assert shown(rig).mode is BreakerMode.HALF_OPEN
        rig.venue.ill = False
        await buy(rig.bot)
        assert shown(rig).mode is BreakerMode.CLOSED
        await later(0.1)
        assert [alert.code for alert in rig.alerts if "breaker" in alert.code] == ["breaker_open", "breaker_half_open", "breaker_closed"]
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_a_word_is_one_record_and_a_refused_one_says_why() -> None:
    metrics = Metrics([BTC])
    async with Rig(HandVenue(), conf=config(breaker=POLICY), metrics=metrics) as rig:
        bot = rig.bot
        assert await bot.override_breaker("forced_open", "ann", "maintenance", for_ms=60_000) == bot.core.seq
        assert rig.events(OverrideBreaker)[-1].for_ms == 60_000
        assert shown(rig).standing == "forced open by ann for another 60000 ms: maintenance"
        for call, code in (
            (bot.override_breaker("open", "ann", "x"), ValueRefused), (bot.override_breaker("open", "ann", 5), ValueRefused),  # type: ignore[arg-type]
            (bot.override_breaker("forced_open", "ann", "x", for_ms=1.5), ValueRefused),  # type: ignore[arg-type]
        ):  # fmt: skip
            with pytest.raises((code, CommandRejected)):
                await call
        for named, code in (({"job": "cook"}, "unknown_job"), ({"why": " "}, "who_and_why"), ({"to": "half_open"}, "invalid_mode")):
            with pytest.raises(CommandRejected) as rejected:
                await bot.override_breaker(**{"to": "forced_open", "by": "ann", "why": "x", **named})  # type: ignore[arg-type]
            assert rejected.value.code == code
        await later(60)
        assert shown(rig).mode is not BreakerMode.FORCED_OPEN
        await bot.override_breaker(BreakerMode.CLOSED, "ann", "done")
        text = metrics.text()
        assert 'mm_breaker_overrides_total{job="place",to="forced_open"} 1.0' in text
        assert 'mm_breaker_overrides_total{job="place",to="forced_closed"} 0.0' in text
        (gauge,) = (gauge for gauge in GAUGES if gauge.name == "mm_breaker_state")
        assert bot.core.desk is not None
        values = gauge.read(bot.core, bot.core.desk)
        assert values == {("place", mode.value): float(mode is BreakerMode.CLOSED) for mode in BreakerMode}
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_without_one_there_is_nothing_to_show() -> None:
    async with Rig(HandVenue()) as rig:
        assert rig.bot.status().breaker is None
        assert rig.bot.core.desk is not None
        assert [gauge.read(rig.bot.core, rig.bot.core.desk) for gauge in GAUGES if gauge.name == "mm_breaker_state"] == [{}]


@simulated
async def test_what_opens_in_one_runner_denies_in_the_other_within_a_poll() -> None:
    loop = asyncio.get_running_loop()
    state = MemoryState(lambda: 10**18 + round(loop.time() * 10**9))
    store = StorePolicy(configured=True, latch_poll_ms=500)
    rigs = [
        Rig(IllVenue(), conf=config(session=tag, breaker=POLICY, store=store), store=MemoryStore(state), who=tag)
        for tag in ("mmaaaaa", "mmbbbbb")
    ]  # fmt: skip
    async with rigs[0] as one, rigs[1] as two:
        await later(0.1)
        await fail(one)
        await later(0.5)
        assert shown(two).mode is BreakerMode.OPEN
        with pytest.raises(OrderDenied, match="breaker_open"):
            await buy(two.bot)
        await two.bot.override_breaker("forced_closed", "ann", "known, and harmless")
        await later(0.6)
        assert (shown(one).mode, shown(one).by, shown(one).untold) == (BreakerMode.FORCED_CLOSED, "ann", False)
    assert [rig.replayed().kind for rig in rigs] == [Kind.SAME, Kind.SAME]


# --- socket and command line -----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The socket of the session, named by the environment."""
    path = str(tmp_path / "mm1.sock")
    monkeypatch.setenv("HALTCORE_SOCKET", path)
    return path


@live
async def test_the_verb_forces_closes_and_resets_and_status_shows_it(place: str) -> None:
    async with Rig(HandVenue(), conf=config(breaker=POLICY), control=place) as rig:
        result = await beside("breaker", "open", "--for", "15m", *WHO)
        assert (result.exit_code, "the breaker of place is forced open by ops" in result.output) == (0, True)
        (word,) = rig.events(OverrideBreaker)
        assert (word.to, word.for_ms, word.why, word.by.startswith("ops (")) == (BreakerMode.FORCED_OPEN, 900_000, "because", True)
        assert "BREAKER  place is forced open by ops" in (await beside("status")).output
        assert (await told("status"))["status"]["breaker"]["mode"] == "forced_open"
        assert (await beside("breaker", "close", *WHO)).exit_code == 0
        result = await beside("breaker", "reset", *WHO)
        assert (result.exit_code, "is closed, 0 of 3 failures" in result.output) == (0, True)
        assert (await told("breaker", "reset", *WHO))["code"] == "no_change"
        assert (await told("breaker", "open", "--job", "cook", *WHO))["code"] == "unknown_job"
        for wrong in (("open",), ("reset", "--for", "5m", *WHO), ("ajar", *WHO), ("open", "--for", "x", *WHO)):
            assert (await beside("breaker", *wrong)).exit_code == 64
        assert rig.events(OperatorRefused) == []


@live
async def test_without_a_breaker_the_verb_says_how_to_have_one(place: str) -> None:
    async with Rig(HandVenue(), control=place):
        result = await beside("breaker", "open", *WHO)
        assert (result.exit_code, "set breaker in the configuration" in result.output) == (1, True)
        assert "BREAKER" not in (await beside("status")).output
