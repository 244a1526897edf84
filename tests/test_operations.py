"""Goal: what an operator says by a method does what it says, is one record, and shows in how the session stands; so does what ports
tell.

Method: a runner on simulated time with the paper venue. The rules behind each command are tested with the core; here it counts that
the right command is fed, that figures of a rule that are not named stay, and that refusals are exceptions with their record. Freezing
the account and one symbol is tested in ``test_runner.py``, the control socket in ``test_control.py``.
"""

import asyncio
from typing import Any

import attrs
import pytest
from haltcore.adapters.answers import CommandRejected, OrderDenied, RunnerStopped
from haltcore.adapters.clock import LoopClock
from haltcore.effects import Mode, Rejected, Side, SweepStatus, TimeInForce, Trigger, ValueRefused, bps, price, qty, usd
from haltcore.fsm.config import ConfigRefused, CoolDown, FreezeClass, Triggers
from haltcore.fsm.events import (
    ChangeLimits,
    ClockReading,
    EndOverride,
    Freeze,
    InstrumentDefined,
    OverrideLimits,
    Restrict,
    VenueLink,
    VerifyOverride,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, ETH, config
from tests.runner_rig import HandVenue, Rig, buy, for_ever, later, simulated

TEAM = {"strategies": ("mm", "arb")}

# --- scopes ---------------------------------------------------------------------------------------------------------


@simulated
async def test_freeze_of_a_strategy_leaves_the_others() -> None:
    async with Rig(conf=config(**TEAM)) as rig:
        bot = rig.bot
        await buy(bot, strategy="mm")
        other = await buy(bot, strategy="arb")
        proof = await bot.freeze("model drift", "ops", strategy="mm")
        assert (proof.verified, proof.cancelled) == (True, 1)
        assert (bot.mode("strategy:mm"), bot.mode(""), other.status) == (Mode.FROZEN, Mode.ACTIVE, "new")
        assert (bot.proven(strategy="mm"), bot.proven(strategy="arb"), bot.proven()) == (True, False, False)
        assert (await bot.proof(strategy="mm")).verified
        with pytest.raises(OrderDenied) as denied:
            await buy(bot, strategy="mm")
        assert denied.value.code == "frozen"
        record = await bot.unfreeze("ops", "model is back", strategy="mm")
        assert type(rig.seen[record - 1][0]).__name__ == "Unfreeze"
        await buy(bot, strategy="mm")


@simulated
async def test_a_frozen_venue_is_a_proof_for_the_account() -> None:
    async with Rig() as rig:
        bot = rig.bot
        await buy(bot)
        proof = await bot.freeze("maintenance", "ops", venue=True)
        assert (proof.verified, bot.status().modes) == (True, {"venue": Mode.FROZEN})
        assert bot.proven()
        assert bot.proven(venue=True)
        assert (await bot.proof()).verified
        with pytest.raises(CommandRejected) as rejected:
            await bot.unfreeze("ops", "it is the venue that is frozen")
        assert rejected.value.code == "not_frozen"
        await bot.unfreeze("ops", "done", venue=True)
        assert not bot.proven()


@simulated
async def test_a_frozen_account_is_no_frozen_venue_by_name() -> None:
    async with Rig() as rig:
        await rig.bot.freeze("test", "ops")
        assert (rig.bot.proven(), rig.bot.proven(venue=True), rig.bot.proven(BTC)) == (True, False, False)


@simulated
async def test_whoever_waits_for_the_account_is_served_by_the_venues_sweep() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
        await rig.bot.begin_freeze("maintenance", "ops", venue=True)
        assert rig.bot.mode("venue") is Mode.FREEZING
        assert (await rig.bot.proof()).status is SweepStatus.SUCCESS


@simulated
async def test_stopping_is_proven_although_the_venue_was_lost_before() -> None:
    async with Rig(conf=config(venue_lost_ms=1_000)) as rig:
        await buy(rig.bot)
        rig.bot._receive(VenueLink(rig.clock.now_ns(), False, "unplugged"))
        await later(30)
        assert rig.bot.mode("venue") in (Mode.FREEZING, Mode.FROZEN)
        assert rig.bot.core.desk is not None
        assert rig.bot.core.desk.freezes[0].trigger is Trigger.VENUE_LOST
        rig.bot._receive(VenueLink(rig.clock.now_ns(), True, "back"))
    assert rig.bot.proven()


@simulated
async def test_reduce_only_of_a_strategy() -> None:
    async with Rig(conf=config(**TEAM)) as rig:
        await rig.bot.reduce_only(True, "ops", "winding down", strategy="mm")
        assert rig.bot.status().modes == {"strategy:mm": Mode.REDUCE_ONLY}
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot, strategy="mm")
        assert denied.value.code == "reduce_only"
        await buy(rig.bot, strategy="arb")


@simulated
async def test_a_scope_that_is_not_configured_has_no_mode() -> None:
    rig = Rig(conf=config(**TEAM))
    for scope in ("ZZZ", "mm", "strategy:", "strategy:zz"):
        with pytest.raises(CommandRejected, match=r"^unknown_scope: ") as rejected:
            rig.bot.mode(scope)
        assert repr(scope) in rejected.value.reason
    async with rig:
        with pytest.raises(CommandRejected, match=r"^unknown_scope: "):
            rig.bot.mode("ZZZ")
        assert [rig.bot.mode(scope) for scope in ("", "venue", BTC, "strategy:mm")] == [Mode.ACTIVE] * 4


@simulated
async def test_an_unfreeze_of_the_wrong_scope_says_what_is_frozen() -> None:
    async with Rig(conf=config(**TEAM)) as rig:
        bot = rig.bot
        with pytest.raises(CommandRejected) as rejected:
            await bot.unfreeze("ops", "x")
        assert (rejected.value.reason, rejected.value.frozen) == ("the account is active", ())
        await bot.freeze("x", "ops", symbol=BTC)
        await bot.freeze("x", "ops", strategy="mm")
        await bot.freeze("x", "ops", venue=True)
        with pytest.raises(CommandRejected) as rejected:
            await bot.unfreeze("ops", "x")
        assert (rejected.value.code, rejected.value.record) == ("not_frozen", bot.core.seq)
        assert sorted(rejected.value.frozen) == [BTC, "strategy:mm", "venue"]
        for words in ('BTCUSDT is frozen: symbol="BTCUSDT"', 'strategy mm is frozen: strategy="mm"', "the venue is frozen: venue=True"):
            assert words in rejected.value.reason
        await bot.freeze("x", "ops")
        with pytest.raises(CommandRejected, match="the account is frozen: no scope"):
            await bot.unfreeze("ops", "x", symbol=ETH)


@pytest.mark.parametrize("call", ["freeze", "unfreeze", "proof", "reduce_only", "proven"])
@simulated
async def test_two_scopes_in_one_call_are_refused(call: str) -> None:
    async with Rig(HandVenue()) as rig:
        words = {"freeze": ("x", "y"), "unfreeze": ("x", "y"), "reduce_only": (True, "x", "y")}.get(call, ())
        seq = rig.bot.core.seq
        with pytest.raises(ValueRefused, match=r"^scope: give one of"):
            await getattr(rig.bot, call)(*words, symbol=BTC, venue=True)
        assert rig.bot.core.seq == seq


# --- limits ---------------------------------------------------------------------------------------------------------


@simulated
async def test_a_changed_figure_holds_at_once_and_the_others_of_its_rule_stay() -> None:
    async with Rig(conf=config(limits=Limits(max_order_value=usd("500"), max_open_orders=5))) as rig:
        bot = rig.bot
        await bot.mark(BTC, 100)
        with pytest.raises(OrderDenied):
            await bot.submit(BTC, "buy", 6, 100)
        record = await bot.change_limits({"max_order_value": "1000"}, "ops", "larger clips")
        assert record is not None
        assert rig.seen[record - 1][0] == ChangeLimits(
            rig.clock.now_ns(), LimitRule(Limits(max_order_value=usd("1000"), max_open_orders=5)), "ops", "larger clips"
        )
        await bot.submit(BTC, "buy", 6, 100)
        await bot.change_limits({"max_order_value": None}, "ops", "no clip at all")
        await bot.submit(BTC, "buy", 60, 100)
        assert bot.limits().rules == (LimitRule(Limits(max_open_orders=5)),)


@simulated
async def test_a_rule_with_conditions_is_made_changed_and_taken_away() -> None:
    async with Rig() as rig:
        bot = rig.bot
        await bot.change_limits({"max_open_orders": 3, "max_order_qty": "2"}, "ops", "thin", symbol=BTC, band="high")
        await bot.change_limits({"max_open_orders": 4}, "ops", "less thin", symbol=BTC, band="high")
        await bot.change_limits({"max_order_qty": "1"}, "ops", "night", symbol=ETH, from_minute=60, to_minute=120)
        assert bot.limits().rules[1:] == (
            LimitRule(Limits(max_open_orders=4, max_order_qty=qty("2")), BTC, "", "high"),
            LimitRule(Limits(max_order_qty=qty("1")), ETH, "", "", 60, 120),
        )
        await bot.change_limits({"max_open_orders": None, "max_order_qty": None}, "ops", "over", symbol=BTC, band="high")
        assert len(bot.limits().rules) == 2


@simulated
async def test_a_figure_that_is_so_already_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig(conf=config(limits=Limits(max_order_value=usd("500")))) as rig:
        assert await rig.bot.change_limits({"max_order_value": "500"}, "ops", "x") is None
        assert rig.effects(Rejected)[-1].code == "no_change"
        with pytest.raises(CommandRejected, match="who_and_why"):
            await rig.bot.change_limits({"max_order_value": "500"}, "ops", "")
    assert "exceeded" not in caplog.text


@simulated
async def test_a_figure_below_what_is_used_says_by_how_much(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig() as rig:
        bot = rig.bot
        await bot.mark(BTC, 100)
        await bot.submit(BTC, "buy", 55, 100)
        await bot.change_limits({"max_inventory_usd": "5500", "max_open_orders": 1}, "ops", "just enough")
        assert caplog.text == ""
        await bot.change_limits({"max_inventory_usd": "1000"}, "ops", "too little")
        assert caplog.messages == ["max_inventory_usd of BTCUSDT is already exceeded: 5500 of 1000, 550 %"]
        (use,) = await bot.exceeded("account", ["max_inventory_usd"])
        assert (use.subject, str(use)) == (BTC, "5500 of 1000, 550 %")
        assert await bot.exceeded("account", ["max_open_orders"]) == await bot.exceeded("symbol X", ["max_inventory_usd"]) == ()


@simulated
async def test_two_changes_at_once_do_not_undo_each_other() -> None:
    """Each figure is set on what is there when its turn comes, not on what was there when it was asked for."""
    async with Rig() as rig:
        await asyncio.gather(*(rig.bot.change_limits({name: value}, "ops", "x") for name, value in (
            ("max_order_value", "5"), ("max_open_orders", 7), ("max_order_qty", "9"), ("price_collar_bps", "100"))))  # fmt: skip
        assert rig.bot.limits().rules[0].limits == Limits(
            max_order_value=usd("5"), max_open_orders=7, max_order_qty=qty("9"), price_collar_bps=bps("100")
        )


@simulated
async def test_two_changes_that_are_asked_for_inside_of_a_step_do_not_undo_each_other() -> None:
    """As tasks that start eagerly do: both begin before either can be fed."""
    asked: list[asyncio.Future[int | None]] = []

    def observe(event: Any, core: Any, effects: Any) -> None:  # noqa: ARG001
        if isinstance(event, Restrict):
            for figures in ({"max_order_value": "5"}, {"max_open_orders": 7}):
                change = rig.bot.change_limits(figures, "ops", "x")
                change.send(None)
                asked.append(asyncio.ensure_future(change))

    rig = Rig(observer=observe)
    async with rig:
        await rig.bot.restrict(BTC, True, "ops", "x")
        await asyncio.gather(*asked)
        assert rig.bot.limits().rules[0].limits == Limits(max_order_value=usd("5"), max_open_orders=7)


@simulated
async def test_a_refused_change_is_an_exception_with_its_record_and_changes_nothing() -> None:
    async with Rig() as rig:
        bot, before = rig.bot, rig.bot.limits()
        for call, code in (
            (bot.change_limits({"max_order_value": "-5"}, "ops", "x"), "invalid_limits"),
            (bot.change_limits({"max_order_value": "5"}, "ops", " "), "who_and_why"),
            (bot.change_limits({"max_order_value": "5"}, "ops", "x", symbol="NOPE"), "invalid_limits"),
            (bot.override_limits({"max_order_value": "5"}, 0, "ops", "x"), "invalid_duration"),
            (bot.verify_override(99, "ann"), "unknown_override"), (bot.end_override(99, "ann", "x"), "unknown_override"),
            (bot.restrict("NOPE", True, "ops", "x"), "unknown_symbol"), (bot.reenable("ops", "x"), "not_throttled"),
        ):  # fmt: skip
            with pytest.raises(CommandRejected) as rejected:
                await call
            assert (rejected.value.code, rejected.value.record) == (code, bot.core.seq)
        assert bot.limits() == before
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_a_bad_argument_leaves_no_record() -> None:
    async with Rig(HandVenue()) as rig:
        bot, seq = rig.bot, rig.bot.core.seq
        calls: list[tuple[Any, str]] = [
            (bot.change_limits({"max_ordr": 5}, "o", "x"), "limits"), (bot.change_limits({}, "o", "x"), "limits"),
            (bot.change_limits({"max_order_value": 1.5}, "o", "x"), "max_order_value"),
            (bot.change_limits({"max_order_value": 5}, None, "x"), "by"),  # type: ignore[arg-type]
            (bot.change_limits({"max_order_value": 5}, "o", "x", from_minute="noon"), "from_minute"),  # type: ignore[arg-type]
            (bot.override_limits({"max_order_value": 5}, 1.5, "o", "x"), "for_ms"),  # type: ignore[arg-type]
            (bot.override_limits({"max_order_value": 5}, 10**30, "o", "x"), "for_ms"),
            (bot.verify_override("seven", "o"), "override"), (bot.end_override(7, "o", 5), "why"),  # type: ignore[arg-type]
            (bot.restrict(BTC, 1, "o", "x"), "on"), (bot.reenable("o", "x", strategy=5), "strategy"),  # type: ignore[arg-type]
            (bot.heartbeat(None), "symbol"), (bot.band(BTC, 5), "band"), (bot.breaker("x", "yes", "r"), "open"),  # type: ignore[arg-type]
            (bot.instrument(BTC, tick=0.1), "tick"), (bot.instrument(BTC, inverse="no"), "inverse"),  # type: ignore[arg-type]
        ]  # fmt: skip
        for call, field in calls:
            with pytest.raises(ValueRefused, match=f"^{field}: "):
                await call
        assert bot.core.seq == seq


@simulated
async def test_an_override_holds_for_its_time() -> None:
    async with Rig(conf=config(limits=Limits(max_order_value=usd("500")))) as rig:
        bot = rig.bot
        await bot.mark(BTC, 100)
        number = await bot.override_limits({"max_order_value": "5000"}, 60_000, "ops", "hedge of the day", symbol=BTC)
        assert [o.id for o in bot.limits().overrides] == [number]
        assert isinstance(rig.seen[number - 1][0], OverrideLimits)
        await bot.submit(BTC, "buy", 20, 100)
        with pytest.raises(OrderDenied):
            await bot.submit(ETH, "buy", 20, 100)
        await later(61)
        assert bot.limits().overrides == ()
        with pytest.raises(OrderDenied):
            await bot.submit(BTC, "buy", 20, 100)


@simulated
async def test_an_override_that_needs_two_persons() -> None:
    async with Rig(conf=config(limits=Limits(max_order_value=usd("500")), two_persons=True)) as rig:
        bot = rig.bot
        await bot.mark(BTC, 100)
        number = await bot.override_limits({"max_order_value": "5000"}, 60_000, "ann", "hedge")
        with pytest.raises(OrderDenied):
            await bot.submit(BTC, "buy", 20, 100)
        with pytest.raises(CommandRejected) as rejected:
            await bot.verify_override(number, "Ann ")
        assert rejected.value.code == "same_person"
        await bot.verify_override(number, "bob")
        assert rig.events(VerifyOverride)[-1].override == number
        await bot.submit(BTC, "buy", 20, 100)
        await bot.end_override(number, "ann", "hedged")
        assert rig.events(EndOverride)[-1].override == number
        with pytest.raises(OrderDenied):
            await bot.submit(BTC, "buy", 20, 100)


@simulated
async def test_the_restricted_list() -> None:
    async with Rig() as rig:
        await rig.bot.restrict(BTC, True, "ops", "corporate action")
        assert rig.bot.limits().restricted == (BTC,)
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot)
        assert denied.value.code == "restricted"
        await rig.bot.restrict(BTC, False, "ops", "over")
        await buy(rig.bot)


@simulated
async def test_a_throttled_strategy_is_shown_and_reenabled() -> None:
    rules = (LimitRule(Limits(execution_rate=Rate(1, 60_000)), strategy="mm"),)
    async with Rig(conf=config(strategies=("mm",), rules=rules)) as rig:
        bot = rig.bot
        await bot.mark(BTC, 100)
        rig.venue.trade(BTC, Side.SELL, qty("9"), price("100"), tif=TimeInForce.GTC)
        for _ in range(2):
            await buy(bot, strategy="mm")
        await later(0.1)
        assert bot.limits().throttled == ("mm",)
        with pytest.raises(OrderDenied) as denied:
            await buy(bot, strategy="mm")
        assert denied.value.code == "throttled"
        await bot.reenable("ops", "looked at it", strategy="mm")
        assert bot.limits().throttled == ()
        await buy(bot, strategy="mm")


# --- how it stands --------------------------------------------------------------------------------------------------


@simulated
async def test_status_says_what_is_frozen_since_when_why_and_how_far_its_proof_is() -> None:
    healthy = asyncio.Event()

    async def ill(effect: Any) -> Any:
        return venue.well(effect) if healthy.is_set() else await for_ever(effect)

    venue = HandVenue(CancelAll=ill, Cancel=ill, CancelBatch=ill)
    async with Rig(venue) as rig:
        bot = rig.bot
        assert (bot.status().ready, bot.status().running, bot.status().stopping, bot.status().link_up) == (True, True, False, True)
        assert (bot.status().scopes, bot.status().sweep, bot.status().store, bot.status().session) == ((), None, "none", "test001")
        await buy(bot)
        at_ns = rig.clock.now_ns()
        await bot.begin_freeze("ill", "ops", symbol=BTC)
        await later(1)
        status = bot.status()
        (scope,) = status.scopes
        assert (scope.scope, scope.mode, scope.since_ns, scope.trigger) == (BTC, Mode.FREEZING, at_ns, Trigger.MANUAL)
        assert (scope.reason, scope.by) == ("ill", "ops")
        assert status.sweep is not None
        assert (status.sweep.since_ns, status.sweep.lists_needed, status.sweep.phase) == (at_ns, 2, "request")
        healthy.set()
        while not (await bot.proof(BTC)).verified:
            pass
        assert (bot.status().sweep, bot.status().scopes[0].mode) == (None, Mode.FROZEN)
    assert (rig.bot.status().running, rig.bot.status().ready, rig.bot.status().stopping) == (False, False, True)


@simulated
async def test_status_says_all_that_froze_a_scope_and_when_it_lifts() -> None:
    cool_downs = (CoolDown(FreezeClass.EDGE, 30_000, 60_000, 3),)
    conf = config(limits=Limits(edge_freeze_threshold_bps=bps("200")), triggers=Triggers(cool_downs=cool_downs))
    async with Rig(conf=conf) as rig:
        bot = rig.bot
        await bot.reduce_only(True, "ops", "slow", symbol=ETH)
        await bot.edge("", "199")
        first = bot.core.seq
        assert (bot.status().scopes[0].lifts_itself, bot.status().scopes[0].lifts_in_s) == (True, None), "not proven yet"
        await bot.proof()
        await later(10)
        account, slow = bot.status().scopes
        assert (account.scope, account.lifts_itself) == ("", True)
        assert account.lifts_in_s == pytest.approx(20, abs=1)
        assert [(t.trigger, t.record) for t in account.triggers] == [(Trigger.EDGE_COLLAPSE, first)]
        assert (slow.triggers, slow.lifts_itself, slow.lifts_in_s) == ((), False, None)
        await bot.begin_freeze("I want to look", "ann")
        await bot.begin_freeze("another scope", "ann", symbol=BTC)
        account = bot.status().scopes[0]
        assert [(t.trigger, t.by) for t in account.triggers] == [(Trigger.EDGE_COLLAPSE, "haltcore"), (Trigger.MANUAL, "ann")]
        assert (account.lifts_itself, account.lifts_in_s) == (False, None)
        await bot.proof()
        await bot.unfreeze("ann", "looked")
        await bot.freeze("again", "ann")
        assert [t.reason for t in bot.status().scopes[0].triggers] == ["again"], "what froze it before is over"


@simulated
async def test_status_has_overrides_and_bands() -> None:
    async with Rig(conf=config(two_persons=True)) as rig:
        assert (rig.bot.status().overrides, rig.bot.status().bands) == ((), {})
        number = await rig.bot.override_limits({"max_order_value": "5"}, 60_000, "ann", "x")
        await rig.bot.band(BTC, "high")
        await rig.bot.band(ETH, "low")
        await rig.bot.band(ETH, "")
        status = rig.bot.status()
        assert [(o.id, o.verified_by) for o in status.overrides] == [(number, "")]
        assert status.bands == {BTC: "high"}


@simulated
async def test_unknown_orders_are_counted_once_although_a_strategy_keeps_books_too() -> None:
    async with Rig(HandVenue(Place=for_ever, QueryOrder=for_ever), conf=config(**TEAM), effect_timeout_s=0.5, on_stop="hand_over") as rig:
        await buy(rig.bot, strategy="mm", wait=False)
        await later(0.7)
        assert rig.bot.status().unknown == 1


@simulated
async def test_before_the_start_and_after_the_end_it_can_be_asked() -> None:
    rig = Rig(conf=config(limits=Limits(max_open_orders=3), restricted=(ETH,)))
    bot = rig.bot
    assert (bot.status().running, bot.status().ready, bot.status().record) == (False, False, 0)
    assert (bot.limits().rules, bot.limits().restricted) == ((LimitRule(Limits(max_open_orders=3)),), (ETH,))
    assert (bot.utilization(), bot.positions(), bot.freeze_history(), bot.mode("")) == ((), (), (), Mode.ACTIVE)
    with pytest.raises(RunnerStopped):
        await bot.change_limits({"max_open_orders": 5}, "ops", "x")
    async with rig:
        pass
    assert bot.limits().restricted == (ETH,)
    with pytest.raises(RunnerStopped):
        await bot.restrict(BTC, True, "ops", "x")


@simulated
async def test_what_the_queries_say_is_what_the_core_says() -> None:
    async with Rig(conf=config(limits=Limits(max_inventory_usd=usd("5000")))) as rig:
        bot = rig.bot
        rig.venue.trade(BTC, Side.SELL, qty("40"), price("100"), tif=TimeInForce.GTC)
        await bot.mark(BTC, 100)
        await bot.submit(BTC, "buy", 40, 100)
        await later(0.1)
        before = bot.core
        answer = bot.what_if(BTC, "buy", 25, 100)
        assert (answer.code, bot.core) == ("max_inventory_usd", before)
        assert bot.what_if(BTC, "buy", 10, "100").code == ""
        assert [(held.symbol, held.qty) for held in bot.positions()] == [(BTC, qty("40"))]
        (used,) = [u for u in bot.utilization() if u.subject == BTC]
        assert (used.figure, used.percent) == ("max_inventory_usd", 80 * 10**12)
        with pytest.raises(OrderDenied) as denied:
            await bot.submit(BTC, "buy", 25, 100, explain=True)
        assert (denied.value.code, denied.value.codes) == ("max_inventory_usd", ("max_inventory_usd",))
        with pytest.raises(OrderDenied) as denied:
            await bot.submit(BTC, "buy", 25, 100)
        assert denied.value.codes == ()
        with pytest.raises(ValueRefused, match=r"^side: "):
            bot.what_if(BTC, "hold", 1, 1)


@simulated
async def test_all_that_is_wrong_with_a_replace_is_told_too() -> None:
    async with Rig(conf=config(limits=Limits(max_order_value=usd("500"), max_order_qty=qty("5")))) as rig:
        order = await buy(rig.bot)
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.replace(order, 10, 100, explain=True)
        assert denied.value.codes == ("max_order_qty", "max_order_value")


@simulated
async def test_the_history_of_freezes_by_scope_trigger_and_time() -> None:
    async with Rig() as rig:
        await rig.bot.freeze("one", "ops")
        await later(1)
        await rig.bot.freeze("two", "ops", symbol=BTC)
        history = rig.bot.freeze_history()
        assert [(f.reason, f.scope) for f in history] == [("one", ""), ("two", BTC)]
        assert rig.bot.freeze_history(scope=BTC) == history[1:]
        assert rig.bot.freeze_history(trigger=Trigger.LOSS) == ()
        assert rig.bot.freeze_history(since_ns=history[1].at_ns) == history[1:]


@simulated
async def test_attribution_goes_with_the_order() -> None:
    async with Rig(conf=config(attribution=True, strategies=("mm",))) as rig:
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot, strategy="mm")
        assert denied.value.code == "missing_attribution"
        order = await buy(rig.bot, strategy="mm", trader="algo-7", client="house")
        spec = order.facts.spec
        assert (spec.strategy, spec.trader, spec.client) == ("mm", "algo-7", "house")


# --- what ports and configuration tell ------------------------------------------------------------------------------


@simulated
async def test_instruments_are_defined_before_anything_else_and_once() -> None:
    terms = Instrument(tick=price("0.5"), lot=qty("0.1"))
    async with Rig(instruments={BTC: terms}, on_stop="hand_over") as rig:
        assert [type(event).__name__ for event, _ in rig.seen[:2]] == ["Started", "InstrumentDefined"]
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot, "100.25")
        assert denied.value.code == "off_tick"
        await buy(rig.bot, "100.5")
    async with Rig(disk=rig.disk, instruments={BTC: terms}, on_stop="hand_over") as again:
        assert again.events(InstrumentDefined) == [], "the log knows it"
    finer = attrs.evolve(terms, tick=price("0.25"))
    async with Rig(disk=rig.disk, instruments={BTC: finer}) as third:
        assert [event.instrument for event in third.events(InstrumentDefined)] == [finer]
        await buy(third.bot, "100.25")


@simulated
async def test_instruments_that_cannot_be_are_refused_before_anything_is_written() -> None:
    for wrong in ({"NOPE": Instrument()}, {BTC: Instrument(lot=qty("-1"))}, {BTC: None}, {BTC: Instrument(tick=0.5)}):  # type: ignore[arg-type]
        with pytest.raises(ConfigRefused, match=r"^instruments: "):
            Rig(instruments=wrong)


@simulated
async def test_a_contract_that_was_traded_otherwise_ends_the_start() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
    again = Rig(disk=rig.disk, instruments={BTC: Instrument(multiplier=qty("0.01"))})
    with pytest.raises(ConfigRefused, match="instrument_in_use"):
        await again.bot.start()
    assert rig.disk.locked == {}


@simulated
async def test_an_instrument_while_the_session_runs() -> None:
    async with Rig() as rig:
        await rig.bot.instrument(BTC, tick="0.5", min_notional=10)
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot, "100.25")
        assert denied.value.code == "off_tick"
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.instrument("NOPE", tick="0.5")
        assert rejected.value.code == "unknown_symbol"


@simulated
async def test_band_heartbeat_edge_and_breaker_reach_the_core() -> None:
    rules = (LimitRule(Limits(max_order_qty=qty("1")), band="high"),)
    limits = Limits(edge_freeze_threshold_bps=bps("200"), feed_lost_ms=5_000)
    async with Rig(conf=config(limits=limits, rules=rules, triggers=Triggers(breaker_open=True))) as rig:
        bot = rig.bot
        await bot.band("", "high")
        for code in ("feed_lost", "max_order_qty"):
            with pytest.raises(OrderDenied) as denied:
                await bot.submit(BTC, "buy", 2, 100)
            assert denied.value.code == code
            await bot.heartbeat()
        await bot.band(BTC, "")
        await bot.submit(BTC, "buy", 2, 100)
        for _ in range(4):
            await later(4)
            await bot.heartbeat()
        assert bot.status().modes == {}
        await bot.edge("", "250")
        await bot.breaker("place", True, "10 failures in 5 minutes")
        assert rig.events(Freeze) == []
        assert [record.trigger for record in bot.freeze_history()] == [Trigger.BREAKER_OPEN]


@simulated
async def test_an_overall_edge_below_the_threshold_freezes_the_account() -> None:
    async with Rig(conf=config(limits=Limits(edge_freeze_threshold_bps=bps("200")))) as rig:
        await rig.bot.edge("", "199")
        assert (await rig.bot.proof()).verified


class Wall(LoopClock):
    """A wall that is set by hand."""

    ahead_ns = 0
    reads = 0

    def offset_ns(self) -> int:
        self.reads += 1
        return self.ahead_ns


@simulated
async def test_the_wall_is_watched_and_its_jump_freezes() -> None:
    clock = Wall(asyncio.get_running_loop(), 1_700_000_000 * 10**9)
    async with Rig(conf=config(triggers=Triggers(clock_jump_ms=500)), clock=clock) as rig:
        bot = rig.bot
        await later(10)
        assert [event.offset_ns for event in rig.events(ClockReading)] == [0], "once, and then only when it has moved"
        for step_ms, told in ((8, 1), (12, 2), (400, 3), (405, 3)):
            clock.ahead_ns = step_ms * 1_000_000
            await later(2)
            assert len(rig.events(ClockReading)) == told, step_ms
            assert bot.status().modes == {}
        clock.ahead_ns = -3_600 * 10**9
        await later(1)
        assert bot.freeze_history()[0].trigger is Trigger.CLOCK_JUMP
        assert (await bot.proof()).verified
    reads = clock.reads
    await later(5)
    assert clock.reads == reads, "nobody looks any more"
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_without_the_trigger_the_wall_is_not_read() -> None:
    clock = Wall(asyncio.get_running_loop(), 1_700_000_000 * 10**9)
    async with Rig(clock=clock) as rig:
        clock.ahead_ns = 10**12
        await later(5)
        assert rig.events(ClockReading) == []
