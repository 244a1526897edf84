"""Holds, marks, cool-downs. Goal: closed when nobody knows; ended only by both clocks; never two firings within the spacing.

Method: several owners over one store, whose answers are lost, whose data go and whose clock is set. Cool-downs are fired at drawn moments
by two processes, and the distance between firings is measured.
"""

import asyncio
import os
from itertools import pairwise
from typing import Any

import pytest
from haltcore.adapters import holds as holds_module
from haltcore.adapters.coordination import StoreFailed
from haltcore.adapters.holds import HOLD_MS, SPACING_MS, CoolDowns, Holds, first, left_ms
from haltcore.effects import ValueRefused
from haltcore.fsm.degraded import Conduct
from haltcore.fsm.events import StoreHealth
from hypothesis import given
from hypothesis import strategies as st

from tests.store_worlds import IN_DOUBT, LOST, UNAVAILABLE, WORLDS, Flaky, MemoryWorld

MS = 1_000_000
BTC = "BTCUSDT"
FAULTS = [UNAVAILABLE, IN_DOUBT, LOST]
#: Longer than any test lasts.
TTL = 600_000


@pytest.fixture(params=WORLDS, ids=lambda world: world.__name__)
def world(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """The figures are not changed by chance."""
    assert (HOLD_MS, SPACING_MS) == (900_000, 120_000)


# --- holds ------------------------------------------------------------------------------------------------------------------


def test_a_hold_is_seen_by_all_and_released_by_its_owner(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        mine, other = (Holds(world.store(), name, world.clock.now_ns, TTL) for name in ("p1", "p2"))
        assert await other.held(BTC) is None
        hold = await mine.hold(BTC, "drift", "plan1")
        assert (hold.owner, hold.reason, hold.plan, hold.known) == ("p1", "drift", "plan1", True)
        seen = await other.held(BTC)
        assert seen is not None
        assert (seen.owner, seen.reason, seen.plan, seen.known) == ("p1", "drift", "plan1", True)
        assert 0 < seen.until_ns - world.clock.now_ns() <= TTL * MS
        assert await other.held("ETHUSDT") is None
        assert await other.release(BTC) is False
        assert await other.renew(BTC) is False
        assert await mine.held(BTC) is not None
        assert await mine.release(BTC) is True
        assert (await mine.held(BTC), await other.held(BTC), await mine.release(BTC)) == (None, None, False)

    world.play(story)


def test_of_two_that_hold_the_first_does(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        mine, other = (Holds(world.store(), name, world.clock.now_ns, TTL) for name in ("p1", "p2"))
        await mine.hold(BTC, "drift")
        assert (await other.hold(BTC, "other")).owner == "p1"
        assert await other.renew(BTC) is False, "so it may not act under it"
        assert (await mine.hold(BTC, "again")).reason == "drift"
        assert await mine.renew(BTC) is True

    world.play(story)


def test_a_hold_runs_out_and_is_renewed() -> None:
    async def story(world: MemoryWorld) -> None:
        mine, other = (Holds(world.store(), name, world.clock.now_ns) for name in ("p1", "p2"))
        await mine.hold(BTC, "drift")
        await world.wait(HOLD_MS - 1)
        assert await mine.renew(BTC) is True
        await world.wait(HOLD_MS - 1)
        for holds in (mine, other):
            held = await holds.held(BTC)
            assert held is not None
            assert held.until_ns - world.clock.now_ns() == MS
        await world.wait(1)
        assert (await mine.held(BTC), await other.held(BTC)) == (None, None)
        assert await mine.renew(BTC) is False

    MemoryWorld.play(story)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_nobody_knows_is_held(world: Any, fault: str) -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        holds = Holds(flaky, "p1", world.clock.now_ns, TTL)
        flaky.fail(fault)
        unknown = await holds.held(BTC)
        assert unknown is not None
        assert (unknown.known, unknown.owner) == (False, "")
        assert fault in unknown.reason
        mine = await holds.hold(BTC, "drift", "plan1")
        assert (mine.known, mine.owner, mine.until_ns) == (False, "p1", world.clock.now_ns() + TTL * MS)
        assert await holds.held(BTC) == mine
        assert await holds.renew(BTC) is False, "nobody acts under a hold that the store has not confirmed"
        assert await holds.release(BTC) is False
        assert await holds.held(BTC) is not None, "still"
        flaky.heal()
        if fault != LOST:
            await holds.renew(BTC)
            assert await holds.renew(BTC) is True, "what the store had not heard is set there"
        assert await holds.release(BTC) is (fault != LOST)
        assert await holds.held(BTC) is None

    world.play(story)


@pytest.mark.parametrize("ahead_ms", [-3_600_000, 31_000, 3_600_000])
def test_a_hold_lasts_by_both_clocks(ahead_ms: int) -> None:
    """The store's clock is set: what it frees early is still held here; what it holds an hour longer, is."""

    async def story(world: MemoryWorld) -> None:
        shift = [0]
        world.state = type(world.state)(lambda: world.clock.now_ns() + shift[0])
        holds = Holds(world.store(), "p1", world.clock.now_ns)
        await holds.hold(BTC, "drift")
        begun_ns = world.clock.now_ns()
        shift[0] = ahead_ms * MS
        held = await holds.held(BTC)
        assert held is not None
        assert held.until_ns == begun_ns + max(HOLD_MS, HOLD_MS - ahead_ms) * MS
        await world.wait(HOLD_MS - 1)
        held = await holds.held(BTC)
        assert held is not None
        assert held.until_ns >= world.clock.now_ns() + MS
        await world.wait(1)
        assert (await holds.held(BTC) is None) == (ahead_ms > 0)

    MemoryWorld.play(story)


def test_a_hold_that_the_store_has_lost() -> None:
    """It is held here, and set there again; but what was in between nobody knows, so this renewal was none."""

    async def story(world: MemoryWorld) -> None:
        mine, other = (Holds(world.store(), name, world.clock.now_ns) for name in ("p1", "p2"))
        await mine.hold(BTC, "drift", "plan1")
        world.state.flush()
        assert (await mine.held(BTC) is not None, await other.held(BTC)) == (True, None)
        assert await mine.renew(BTC) is False
        seen = await other.held(BTC)
        assert seen is not None
        assert (seen.owner, seen.reason, seen.plan) == ("p1", "drift", "plan1")
        assert await mine.renew(BTC) is True

    MemoryWorld.play(story)


def test_a_hold_that_is_renewed_while_the_store_is_away() -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        holds = Holds(flaky, "p1", world.clock.now_ns)
        await holds.hold(BTC, "drift")
        await world.wait(HOLD_MS - 1)
        flaky.fail(UNAVAILABLE)
        assert await holds.renew(BTC) is False
        flaky.heal()
        await world.wait(HOLD_MS - 1)
        assert await holds.held(BTC) is not None, "the store has let it go; here it still counts"
        await world.wait(1)
        assert await holds.held(BTC) is None

    MemoryWorld.play(story)


# --- marks ------------------------------------------------------------------------------------------------------------------


def test_a_mark_is_set_once(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        assert await first(flaky, "plan1", "t1", TTL)
        assert await first(flaky, "plan1", "t1", TTL), "its own"
        assert not await first(flaky, "plan1", "t2", TTL)
        for number, fault in enumerate(FAULTS):
            flaky.fail(fault)
            assert not await first(flaky, f"other{number}", "t1", TTL), "unknown counts as seen"
            flaky.heal()
            assert await first(flaky, f"other{number}", "t1", TTL), "and nothing is lost by that"

    world.play(story)


# --- cool-downs ---------------------------------------------------------------------------------------------------------------


def test_what_is_still_cooling() -> None:
    at = 10**18
    assert left_ms(None, at, 120_000) == 0
    assert [left_ms(at, at + ms * MS, 120_000) for ms in (0, 1, 119_900, 119_999, 120_000, 120_100)] == [120_000, 119_999, 100, 1, 0, 0]
    assert left_ms(at, at + 119_999 * MS + 1, 120_000) == 1, "rounded up"
    assert left_ms(at, at - 3_600_000 * MS, 120_000) == 120_000, "a clock that went back"


def test_no_two_firings_around_an_edge() -> None:
    """A bucket of 120 s would let 119.9 s and 120.1 s both fire."""

    async def story(world: MemoryWorld) -> None:
        one, two = (CoolDowns(world.store(), name, world.clock.now_ns) for name in ("p1", "p2"))
        await world.wait(119_900)
        assert await one.fire(BTC, "c") == 0
        await world.wait(200)
        assert await two.fire(BTC, "c") == 119_800
        assert await one.fire(BTC, "c") == 119_800
        assert [await two.fire(BTC, "d"), await two.fire("ETHUSDT", "c")] == [0, 0], "each cause of each symbol by itself"
        assert await two.fire("BTCUSDTc", "") == 0
        await world.wait(119_799)
        assert [await one.fire(BTC, "c"), await two.fire(BTC, "c")] == [1, 1]
        await world.wait(1)
        assert await two.fire(BTC, "c") == 0
        assert await one.fire(BTC, "c") == 120_000

    MemoryWorld.play(story)


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from([0, 1]), st.sampled_from([None, None, *FAULTS]), st.booleans()),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_firings_are_never_closer_than_the_spacing(steps: list[tuple[int, int, str | None, bool]]) -> None:
    """By two processes; the store fails in every way; and what one process fires holds for it even when the store loses all."""

    async def story(world: MemoryWorld) -> None:
        stores = [Flaky(world.store()) for _ in range(2)]
        both = [CoolDowns(store, f"p{number}", world.clock.now_ns, 200) for number, store in enumerate(stores)]
        fired: list[tuple[int, int]] = []
        lost_ns = 0
        for wait, who, fault, lose in steps:
            await world.wait(wait)
            if lose and wait % 7 == 0:
                world.state.flush()
                lost_ns = world.clock.now_ns()
            if fault is not None:
                stores[who].fail(fault)
            left = await both[who].fire(BTC, "c")
            stores[who].heal()
            if fault is not None:
                assert left > 0, "unknown is cooling"
            elif left == 0:
                fired.append((world.clock.now_ns(), who))
        for (then, one), (now, two) in pairwise(fired):
            assert now - then >= 200 * MS or (one != two and then <= lost_ns), fired

    MemoryWorld.play(story)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_firing_that_was_granted_unheard_is_not_lost(world: Any, fault: str) -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        mine, other = CoolDowns(flaky, "p1", world.clock.now_ns), CoolDowns(world.store(), "p2", world.clock.now_ns)
        flaky.fail(fault)
        assert await mine.fire(BTC, "c") == SPACING_MS
        flaky.heal()
        if fault == LOST:
            assert await other.fire(BTC, "c") > 0
        assert await mine.fire(BTC, "c") == 0
        assert await mine.fire(BTC, "c") > 0
        assert await other.fire(BTC, "c") > 0

    world.play(story)


def test_a_firing_is_no_token_for_the_next(world: Any) -> None:
    """Though this process has forgotten it."""

    async def story(world: MemoryWorld) -> None:
        cool = CoolDowns(world.store(), "p1", world.clock.now_ns)
        assert await cool.fire(BTC, "c") == 0
        vars(cool)["_fired"].clear()
        assert await cool.fire(BTC, "c") > 0

    world.play(story)


def test_of_many_calls_at_once_one_fires(world: Any) -> None:
    """In one process, and in two."""

    async def story(world: MemoryWorld) -> None:
        one, two = (CoolDowns(world.store(), name, world.clock.now_ns) for name in ("p1", "p2"))
        lefts = await asyncio.gather(*(one.fire(BTC, "c") for _ in range(5)))
        assert sorted(lefts) == [0, *[SPACING_MS] * 4]
        lefts = await asyncio.gather(*(cool.fire(BTC, "d") for _ in range(5) for cool in (one, two)))
        assert lefts.count(0) == 1
        assert await asyncio.gather(*(one.fire(symbol, "e") for symbol in ("A", "B", "C"))) == [0, 0, 0], "each cause by itself"

    world.play(story)


def test_a_call_that_is_cut_off_keeps_nobody_from_firing(world: Any) -> None:
    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        entered = asyncio.Event()

        async def hang(_name: str, _number: int) -> None:
            entered.set()
            await asyncio.Event().wait()

        flaky.before = hang
        cool = CoolDowns(flaky, "p1", world.clock.now_ns)
        asking = asyncio.ensure_future(cool.fire(BTC, "c"))
        await entered.wait()
        assert await cool.fire(BTC, "c") == SPACING_MS, "while the other asks"
        asking.cancel()
        await asyncio.wait({asking})
        flaky.heal()
        assert [await cool.fire(BTC, "c"), await cool.fire(BTC, "c")] == [0, SPACING_MS]

    world.play(story)


def test_a_process_that_begins_again_under_its_name_does_not_fire_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that was forked from it, which has its nonce too."""

    async def story(world: MemoryWorld) -> None:
        before, after = (CoolDowns(world.store(), "bot", world.clock.now_ns) for _ in range(2))
        assert await before.fire(BTC, "c") == 0
        assert await after.fire(BTC, "c") > 0
        parent, child = (CoolDowns(world.store(), "bot", world.clock.now_ns, nonce="n") for _ in range(2))
        assert await parent.fire(BTC, "d") == 0
        monkeypatch.setattr(os, "getpid", lambda: 1)
        assert await child.fire(BTC, "d") > 0

    world.play(story)


@pytest.mark.parametrize("lost", [False, True])
def test_a_clock_that_is_set_back_delays_a_firing_by_one_spacing_at_most(lost: bool) -> None:
    """By an hour, here alone: from the first call that sees it the spacing begins anew, also if the store has lost everything."""

    async def story(world: MemoryWorld) -> None:
        shift = [0]
        cool = CoolDowns(world.store(), "p1", lambda: world.clock.now_ns() + shift[0])
        assert await cool.fire(BTC, "c") == 0
        shift[0] = -3_600_000 * MS
        if lost:
            world.state.flush()
        await world.wait(SPACING_MS - 1)
        assert await cool.fire(BTC, "c") == SPACING_MS
        await world.wait(SPACING_MS - 1)
        assert await cool.fire(BTC, "c") == 1
        await world.wait(1)
        assert await cool.fire(BTC, "c") == 0

    MemoryWorld.play(story)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds_module, "_REMEMBERED", 10)

    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        cool = CoolDowns(flaky, "p1", world.clock.now_ns)
        for number in range(25):
            assert await cool.fire(BTC, f"{number}") == 0
        assert all([await cool.fire(BTC, f"{number}") > 0 for number in range(25)]), "the store still knows"
        flaky.fail(UNAVAILABLE)
        for number in range(100, 125):
            assert await cool.fire(BTC, f"{number}") == SPACING_MS
        assert len(vars(cool)["_fired"]) <= 10
        assert len(vars(cool)["_asked"]) <= 10

    MemoryWorld.play(story)


# --- the matrix -----------------------------------------------------------------------------------------------------------------


def test_the_matrix_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it said otherwise, the failure would be the caller's."""

    async def story(world: MemoryWorld) -> None:
        flaky = Flaky(world.store())
        flaky.fail(UNAVAILABLE)
        holds, cool = Holds(flaky, "p1", world.clock.now_ns), CoolDowns(flaky, "p1", world.clock.now_ns)
        asked: list[tuple[str, StoreHealth]] = []

        def otherwise(deed: Any, health: StoreHealth) -> Conduct:
            asked.append((deed.value, health))
            return Conduct.REFUSE

        monkeypatch.setattr(holds_module, "conduct", otherwise)
        deeds = (
            lambda: holds.hold(BTC, ""), lambda: holds.renew(BTC), lambda: holds.release(BTC), lambda: holds.held(BTC),
            lambda: first(flaky, "m", "t", 1), lambda: cool.fire(BTC, "c"),
        )  # fmt: skip
        for deed in deeds:
            with pytest.raises(StoreFailed):
                await deed()
        assert [deed for deed, _ in asked] == ["hold"] * 4 + ["dedupe", "cool_down"]

    MemoryWorld.play(story)


# --- arguments ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [900 * 1e3, 0, -1, True, "900000", None, 10**30, float("nan")])
def test_a_time_that_is_no_whole_number_of_milliseconds(ms: Any) -> None:
    """A store would keep such a row for ever, or refuse it."""

    async def story(world: MemoryWorld) -> None:
        with pytest.raises(ValueRefused, match=r"^ttl_ms: .* is no whole number of milliseconds"):
            Holds(world.store(), "p1", world.clock.now_ns, ms)
        with pytest.raises(ValueRefused, match=r"^spacing_ms: .* is no whole number of milliseconds"):
            CoolDowns(world.store(), "p1", world.clock.now_ns, ms)
        with pytest.raises(ValueRefused, match=r"^ttl_ms: .* is no whole number of milliseconds"):
            await first(world.store(), "m", "t", ms)

    MemoryWorld.play(story)
