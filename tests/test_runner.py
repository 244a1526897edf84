"""Goal: what a bot says to the runner has the effect that it expects, and what goes wrong is one exception that says what is certain.

Method: every call of ``Runner`` on simulated time, with the paper venue and, where the venue has to be odd, one made by hand. Bad arguments
are tried one by one: each is one clear error, and leaves no trace in the log.
"""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from haltcore.adapters.answers import CommandRejected, HaltcoreError, OrderDenied, OrderInDoubt, OrderRefused
from haltcore.adapters.arguments import MAX_TEXT
from haltcore.adapters.faults import Fault, FaultPlan, Scripted
from haltcore.adapters.memory_store import FaultKind, MemoryState, MemoryStore, StoreFault
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.runner import new_session
from haltcore.effects import (
    Cancel,
    ClearFreeze,
    Mode,
    Place,
    Replace,
    Side,
    SweepStatus,
    TimeInForce,
    Trigger,
    ValueRefused,
    bps,
    is_session_tag,
    price,
    qty,
)
from haltcore.fsm.config import ForeignPolicy, StorePolicy, SweepPolicy
from haltcore.fsm.events import Freeze, OrderAccepted, OrderRejected, Outcome, OutcomeKind, SubmitOrder
from haltcore.fsm.limits import Limits

from tests.helpers import BTC, ETH, config
from tests.runner_rig import HandVenue, Rig, acknowledged, buy, for_ever, later, simulated

# --- submit ---------------------------------------------------------------------------------------------------------


@simulated
async def test_submit_returns_a_live_order() -> None:
    async with Rig() as rig:
        order = await rig.bot.submit(BTC, "buy", "0.01", price=Decimal("50000.5"), strategy="quotes")
        assert (order.status, order.filled, order.in_doubt) == ("new", "0", False)
        assert order.client_id == rig.effects(Place)[0].client_id
        (row,) = rig.venue.exchange.all_open()
        assert (row.qty, row.price, row.side) == (qty("0.01"), price("50000.5"), Side.BUY)
        assert rig.events(SubmitOrder)[0].strategy == "quotes"
        assert [handle.key for handle in rig.bot.orders()] == [order.key]


@simulated
async def test_submit_without_waiting_returns_at_once() -> None:
    async with Rig() as rig:
        before = rig.clock.now_ns()
        order = await buy(rig.bot, wait=False)
        assert rig.clock.now_ns() == before
        assert order.status == "pending_new"
        assert rig.bot.status().in_flight == 1


@simulated
async def test_an_intention_without_a_name_protects_nothing_and_is_refused() -> None:
    async with Rig() as rig:
        for name in ("", "x" * 129):
            with pytest.raises(ValueRefused, match=r"^once: "):
                await buy(rig.bot, once=name)
            with pytest.raises(ValueRefused, match=r"^once: "):
                rig.bot.what_if(BTC, "buy", "1", "100", once=name)
        await buy(rig.bot)
        await buy(rig.bot, once=None)
        await buy(rig.bot, once="signal")
        assert [event.once for event in rig.events(SubmitOrder)] == ["", "", "signal"]


@simulated
async def test_submit_kinds() -> None:
    async with Rig() as rig:
        rig.venue.mark(BTC, price("100"))
        await rig.bot.mark(BTC, 100)
        stop = await rig.bot.submit(BTC, "sell", 1, type="stop_market", stop_price="90")
        limit = await rig.bot.submit(BTC, "sell", 1, price="91", type="stop_limit", stop_price="90", reduce_only=False)
        rest = await rig.bot.submit(BTC, "buy", 1, price="80", post_only=True)
        assert [order.status for order in (stop, limit, rest)] == ["new"] * 3
        market = await rig.bot.submit(BTC, "buy", 1)
        assert rig.effects(Place)[-1].type == "market"
        await rig.bot.submit(BTC, "sell", 1, stop_price="85")
        await rig.bot.submit(BTC, "sell", 1, price="86", stop_price="85")
        assert [place.type for place in rig.effects(Place)[-2:]] == ["stop_market", "stop_limit"]
        await later(0.1)
        assert market.facts.phase.name in ("FILLED", "EXPIRED", "CANCELLED")


@simulated
async def test_submit_that_trades_at_once_is_done() -> None:
    async with Rig() as rig:
        rig.venue.trade(BTC, Side.SELL, qty("1"), price("100"), tif=TimeInForce.GTC)
        order = await buy(rig.bot, "100", tif="ioc")
        await later(0.1)
        assert (order.status, order.filled) == ("filled", "1")


@simulated
async def test_submit_that_expires_unfilled_was_an_order() -> None:
    """It ended by its own terms: no refusal."""
    async with Rig() as rig:
        order = await buy(rig.bot, tif="ioc")
        await later(0.1)
        assert order.status == "expired"


@simulated
async def test_submit_denied_by_the_gate() -> None:
    async with Rig(conf=config(limits=Limits(max_inventory_usd=qty("500")))) as rig:  # type: ignore[arg-type]
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.submit(BTC, "buy", "10", price="100")
        assert (denied.value.code, denied.value.executed, denied.value.client_id) == ("max_inventory_usd", False, "")
        assert "would exceed 500" in denied.value.reason
        assert str(denied.value) == f"{denied.value.code}: {denied.value.reason}"
        assert rig.venue.sent == [] or not [effect for effect in rig.venue.sent if isinstance(effect, Place)]


@pytest.mark.parametrize(("symbol", "code"), [("NOPE", "unknown_symbol"), ("", "unknown_symbol")])
@simulated
async def test_submit_of_an_unknown_symbol(symbol: str, code: str) -> None:
    async with Rig() as rig:
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.submit(symbol, "buy", 1, 1)
        assert denied.value.code == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"qty": "-1"}, "invalid_quantity"),
        ({"qty": 0}, "invalid_quantity"),
        ({"price": "-5"}, "invalid_price"),
        ({"price": None, "type": "limit"}, "invalid_price"),
        ({"price": "5", "type": "market"}, "invalid_price"),
        ({"type": "stop_limit"}, "invalid_stop_price"),
        ({"stop_price": "5", "type": "limit"}, "invalid_stop_price"),
        ({"price": None}, "no_mark_price"),
    ],
)
@simulated
async def test_submit_of_an_order_that_makes_no_sense_is_denied(arguments: Any, code: str) -> None:
    async with Rig() as rig:
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.submit(**{"symbol": BTC, "side": "buy", "qty": "1", "price": "100", **arguments})
        assert denied.value.code == code


@simulated
async def test_submit_refused_by_the_venue_says_its_code() -> None:
    async def refused(effect: Place) -> Any:
        report = OrderRejected(venue.now_ns(), effect.client_id, "-2019")
        refusal = evolve(acknowledged(effect), kind=OutcomeKind.REFUSED, code="-2019", text="Margin.")
        return [report, refusal]

    venue = HandVenue(Place=refused)
    async with Rig(venue) as rig:
        with pytest.raises(OrderRefused) as error:
            await buy(rig.bot)
        assert (error.value.code, error.value.reason, error.value.executed) == ("-2019", "Margin.", False)
        assert error.value.client_id == rig.effects(Place)[0].client_id


@simulated
async def test_submit_refused_by_a_report_that_comes_before_the_outcome() -> None:
    async def reported(effect: Place) -> Any:
        venue.emit(OrderRejected(venue.now_ns(), effect.client_id, "no"))
        await later(3)
        return [acknowledged(effect)]

    venue = HandVenue(Place=reported)
    async with Rig(venue) as rig:
        with pytest.raises(OrderRefused) as error:
            await buy(rig.bot)
        assert (error.value.code, error.value.executed) == ("refused", False)


@simulated
async def test_submit_turned_away_by_a_rate_limit_is_refused_with_the_venues_code() -> None:
    plan = FaultPlan(script=(Scripted(Place, 1, Fault.RATE_LIMIT),))
    async with Rig(PaperVenue([BTC, ETH], faults=plan)) as rig:
        with pytest.raises(OrderRefused) as error:
            await buy(rig.bot)
        assert (error.value.code, error.value.executed) == ("429", False)


@simulated
async def test_submit_in_doubt_and_found_out() -> None:
    plan = FaultPlan(script=(Scripted(Place, 1, Fault.REPLY_LOST), Scripted(OrderAccepted, 1, Fault.REPORT_LOST)))
    async with Rig(PaperVenue([BTC, ETH], faults=plan)) as rig:
        with pytest.raises(OrderInDoubt) as doubt:
            await buy(rig.bot)
        assert doubt.value.executed is None
        (order,) = rig.bot.orders()
        assert order.client_id == doubt.value.client_id
        assert order.in_doubt
        assert rig.bot.status().unknown == 1
        with pytest.raises(OrderDenied, match="unknown_order_in_slot"):
            await buy(rig.bot)
        await later(1)
        assert (order.status, order.in_doubt, rig.bot.status().unknown) == ("new", False, 0)
        assert rig.venue.placed[order.client_id] == 1


@simulated
async def test_many_submits_at_once() -> None:
    async with Rig(PaperVenue([BTC, ETH], seed=3)) as rig:
        orders = await asyncio.gather(*(buy(rig.bot, str(1 + n)) for n in range(300)))
        assert len({order.client_id for order in orders}) == 300
        assert all(order.status == "new" for order in orders)
        proof = await rig.bot.freeze("test", "ops")
        assert (proof.verified, proof.remaining, proof.cancelled) == (True, 0, 300)


@simulated
async def test_freeze_while_submits_wait() -> None:
    """Each of them gets an answer that is true: it lived and was cancelled, or it never left."""
    async with Rig(PaperVenue([BTC, ETH], seed=3, latency_ms=(5, 50))) as rig:
        waiting = [asyncio.ensure_future(buy(rig.bot, str(1 + n))) for n in range(100)]
        await later(0.03)
        proof = await rig.bot.freeze("test", "ops")
        assert proof.verified
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(answer, BaseException):
                assert isinstance(answer, OrderRefused)
                assert answer.executed is False
            else:
                assert answer.status == "cancelled"
        assert rig.venue.exchange.all_open() == ()


@simulated
async def test_a_submit_whose_waiting_is_cancelled_leaves_the_order_and_the_runner_well() -> None:
    async with Rig() as rig:
        waiting = asyncio.ensure_future(buy(rig.bot))
        await later(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await later(0.1)
        (order,) = rig.bot.orders()
        assert order.status == "new"
        for call in (rig.bot.cancel(order), rig.bot.freeze("test", "ops")):
            task = asyncio.ensure_future(call)
            await asyncio.sleep(0)
            task.cancel()
        await later(10)
        assert rig.bot.proven()
        assert (rig.bot._listening.reports, rig.bot._listening.refusals, rig.bot._waiters._waiting) == ([], {}, [])


# --- bad arguments --------------------------------------------------------------------------------------------------

_SUBMIT: dict[str, Any] = {"symbol": BTC, "side": "buy", "qty": "1", "price": "100"}
BAD_SUBMITS: list[tuple[str, Any]] = [
    ("side", "long"), ("side", "BUY"), ("side", None), ("side", ["buy"]), ("side", 1),
    ("type", "foo"), ("type", 3), ("tif", "day"), ("tif", None), ("tif", {}),
    ("qty", 0.1), ("qty", None), ("qty", "NaN"), ("qty", "Infinity"), ("qty", "1e99"), ("qty", "one"), ("qty", ""), ("qty", True),
    ("qty", "0.0000000000001"), ("qty", Decimal("NaN")), ("qty", float("nan")), ("qty", [1]),
    ("price", 100.5), ("price", "abc"), ("price", ()), ("stop_price", 1.5), ("stop_price", "x"),
    ("symbol", None), ("symbol", 5), ("symbol", [BTC]), ("symbol", "\ud800"), ("symbol", "X" * (MAX_TEXT + 1)),
    ("strategy", None), ("strategy", b"x"), ("post_only", "yes"), ("post_only", 1), ("reduce_only", None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_SUBMITS, ids=lambda value: repr(value)[:20])
@simulated
async def test_a_bad_argument_of_submit_is_one_clear_error_without_a_trace(field: str, value: Any) -> None:
    async with Rig(HandVenue()) as rig:
        seq = rig.bot.core.seq
        with pytest.raises(ValueRefused) as refused:
            await rig.bot.submit(**{**_SUBMIT, field: value})
        assert str(refused.value).startswith(f"{field}: ")
        assert len(str(refused.value)) < 300
        assert rig.bot.core.seq == seq
        assert (await buy(rig.bot)).status == "new"


@simulated
async def test_bad_arguments_of_the_other_calls() -> None:
    async with Rig(HandVenue()) as rig:
        bot = rig.bot
        order = await buy(bot)
        seq = bot.core.seq
        for call, field in (
            (bot.edge(BTC, 1.5), "bps"), (bot.edge(None, 1), "symbol"), (bot.mark(BTC, "x"), "price"), (bot.mark({}, 1), "symbol"),  # type: ignore[arg-type]
            (bot.freeze("x", "y", symbol=None), "symbol"), (bot.proof([]), "symbol"), (bot.unfreeze(None, "x"), "by"),  # type: ignore[arg-type]
            (bot.unfreeze("x", "y" * 5_000), "why"), (bot.unfreeze("x", "y", force="yes"), "force"),  # type: ignore[arg-type]
            (bot.reduce_only("on", "x", "y"), "on"), (bot.reduce_only(True, "x", "y", symbol=7), "symbol"),  # type: ignore[arg-type]
            (bot.replace(order, 1.5, "1"), "qty"), (bot.replace(order, 1, "-"), "price"),  # type: ignore[arg-type]
        ):  # fmt: skip
            with pytest.raises(ValueRefused, match=f"^{field}: "):
                await call
        assert bot.core.seq == seq
        assert bot.status().modes == {}


@pytest.mark.parametrize("words", ["", "a\nb", "x" * 10_000, "\ud800", None, 7])
@simulated
async def test_a_freeze_is_never_refused_for_its_words(words: Any) -> None:
    async with Rig(HandVenue()) as rig:
        assert (await rig.bot.freeze(words, words)).verified
    assert rig.replayed().core == rig.bot.core


# --- cancel and replace ---------------------------------------------------------------------------------------------


@simulated
async def test_cancel_returns_when_the_order_has_ended() -> None:
    async with Rig() as rig:
        order = await buy(rig.bot)
        assert (await rig.bot.cancel(order)) is order
        assert order.status == "cancelled"
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.cancel(order)
        assert (rejected.value.code, rejected.value.executed) == ("not_working", False)
        with pytest.raises(CommandRejected):
            await rig.bot.replace(order, 2, 99)


@simulated
async def test_cancel_of_an_order_that_fills_meanwhile() -> None:
    plan = FaultPlan(script=(Scripted(Cancel, 1, Fault.CROSSING_FILL),))
    async with Rig(PaperVenue([BTC, ETH], faults=plan)) as rig:
        order = await buy(rig.bot)
        await rig.bot.cancel(order)
        assert order.status in ("filled", "cancelled")
        assert order.filled != "0"


@simulated
async def test_cancel_twice_and_without_waiting() -> None:
    async with Rig() as rig:
        order = await buy(rig.bot)
        await rig.bot.cancel(order, wait=False)
        assert order.status == "pending_cancel"
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.cancel(order)
        assert rejected.value.code == "cancel_pending"


@pytest.mark.parametrize("handle", [None, "test001a", 5, object()])
@simulated
async def test_what_is_no_order_is_rejected(handle: Any) -> None:
    async with Rig(HandVenue()) as rig:
        await buy(rig.bot)
        for call in (rig.bot.cancel(handle), rig.bot.replace(handle, 1, 1)):
            with pytest.raises(CommandRejected) as rejected:
                await call
            assert rejected.value.code == "unknown_order"


@simulated
async def test_an_order_of_another_session_is_not_mistaken_for_ours() -> None:
    """Both have an order with the same key."""
    async with Rig(HandVenue()) as rig, Rig(HandVenue(), conf=config(session="other01")) as other:
        mine, theirs = await buy(rig.bot), await buy(other.bot)
        assert mine.key == theirs.key
        for call in (rig.bot.cancel(theirs), rig.bot.replace(theirs, 1, 1)):
            with pytest.raises(CommandRejected) as rejected:
                await call
            assert rejected.value.code == "unknown_order"
            assert theirs.client_id in rejected.value.reason
        assert mine.status == "new"


@simulated
async def test_replace_changes_the_order() -> None:
    async with Rig() as rig:
        order = await buy(rig.bot)
        assert (await rig.bot.replace(order, "2", "101")) is order
        assert (order.facts.qty, order.facts.price, order.status) == (qty("2"), price("101"), "new")


@simulated
async def test_replace_denied_refused_pending_and_overloaded() -> None:
    async def refused(effect: Replace) -> Any:
        await later(0.1)
        return [Outcome(venue.now_ns(), effect.id, acknowledged(effect).verb, effect.order, OutcomeKind.REFUSED, "-5027", "No change.")]

    venue = HandVenue(Replace=refused)
    async with Rig(venue, conf=config(limits=Limits(max_inventory_usd=qty("500"))), max_adding=1) as rig:  # type: ignore[arg-type]
        order = await buy(rig.bot)
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.replace(order, "10", "100")
        assert denied.value.code == "max_inventory_usd"
        waiting = asyncio.ensure_future(rig.bot.replace(order, "2", "100"))
        await later(0.01)
        with pytest.raises(OrderDenied) as denied:
            await rig.bot.replace(order, "2", "99")
        assert denied.value.code == "overloaded"
        with pytest.raises(OrderRefused) as error:
            await waiting
        assert (error.value.code, error.value.reason, error.value.executed) == ("-5027", "No change.", False)
        assert (order.facts.qty, order.status) == (qty("1"), "new")


# --- freeze, proof, unfreeze ----------------------------------------------------------------------------------------


@simulated
async def test_freeze_returns_the_proof() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
        proof = await rig.bot.freeze("venue looks ill", by="ops")
        assert (proof.verified, proof.status, proof.remaining, proof.cancelled) == (True, SweepStatus.SUCCESS, 0, 1)
        assert proof.rounds >= 1
        assert rig.bot.status().modes == {"": Mode.FROZEN}
        again = await rig.bot.freeze("still", by="ops")
        assert again.verified
        assert again == await rig.bot.proof()
        assert [event.reason for event in rig.events(Freeze)] == ["venue looks ill", "still"]
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot)
        assert denied.value.code == "frozen"
        assert "manual by ops: venue looks ill" in denied.value.reason


@simulated
async def test_freeze_of_one_symbol_leaves_the_others() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
        other = await rig.bot.submit(ETH, "buy", 1, 100)
        assert (await rig.bot.freeze("test", "ops", symbol=BTC)).verified
        assert rig.bot.status().modes == {BTC: Mode.FROZEN}
        assert other.status == "new"
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.proof()
        assert rejected.value.code == "not_frozen"
        await rig.bot.unfreeze("ops", "fine", symbol=BTC)
        assert rig.bot.status().modes == {}


@simulated
async def test_freeze_of_an_unknown_symbol() -> None:
    async with Rig() as rig:
        for call, code in (
            (rig.bot.freeze("x", "ops", symbol="NOPE"), "unknown_scope"), (rig.bot.unfreeze("x", "y", symbol="NOPE"), "unknown_scope"),
            (rig.bot.reduce_only(True, "x", "y", symbol="NOPE"), "unknown_scope"), (rig.bot.edge("NOPE", 1), "unknown_symbol"),
            (rig.bot.mark("NOPE", 1), "unknown_symbol"), (rig.bot.freeze("x", "ops", strategy="mm"), "unknown_scope"),
        ):  # fmt: skip
            with pytest.raises(CommandRejected) as rejected:
                await call
            assert rejected.value.code == code
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.proof("NOPE")
        assert rejected.value.code == "not_frozen"


@simulated
async def test_freeze_at_its_deadline_says_what_is_left_and_the_proof_comes_later() -> None:
    healthy = asyncio.Event()

    async def ill(effect: Any) -> Any:
        return venue.well(effect) if healthy.is_set() else [acknowledged(effect)]

    venue = HandVenue(CancelAll=ill, CancelBatch=ill, Cancel=ill)
    async with Rig(venue, conf=config(sweep=SweepPolicy(deadline_ms=2_000))) as rig:
        await buy(rig.bot)
        proof = await rig.bot.freeze("test", "ops")
        assert (proof.verified, proof.remaining, proof.duration_ms) == (False, 1, 2_000)
        assert rig.bot.status().modes == {"": Mode.FREEZING}
        healthy.set()
        assert (await rig.bot.proof()).verified


@simulated
async def test_proof_of_what_is_not_frozen_is_rejected_instead_of_waiting_for_ever() -> None:
    async with Rig() as rig:
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.proof()
        assert rejected.value.code == "not_frozen"


@simulated
async def test_proof_ends_when_somebody_lifts_the_freeze() -> None:
    async with Rig(HandVenue(CancelAll=for_ever)) as rig:
        await buy(rig.bot)
        waiting = asyncio.ensure_future(rig.bot.freeze("test", "ops"))
        await later(0.1)
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.unfreeze("ops", "too early")
        assert rejected.value.code == "sweep_running"
        await rig.bot.unfreeze("ops", "I know better", force=True)
        with pytest.raises(CommandRejected) as rejected:
            await waiting
        assert rejected.value.code == "unfrozen"
        rig.venue.behave.clear()


@simulated
async def test_unfreeze_needs_a_freeze_and_a_reason() -> None:
    async with Rig() as rig:
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.unfreeze("ops", "why not")
        assert rejected.value.code == "not_frozen"
        await rig.bot.freeze("test", "ops")
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.unfreeze("ops", "  ")
        assert rejected.value.code == "who_and_why"
        await rig.bot.unfreeze("ops", "well again")
        assert (await buy(rig.bot)).status == "new"


@simulated
async def test_unfreeze_says_who_else_has_frozen_it_and_with_force_lifts_it_for_all() -> None:
    loop = asyncio.get_running_loop()
    state = MemoryState(lambda: round(loop.time() * 10**9))
    conf = config(store=StorePolicy(configured=True))
    async with Rig(conf=conf, store=MemoryStore(state)) as rig:
        await rig.bot.freeze("test", "ops")
        state.publish("mm2", "", Trigger.MANUAL, "ill", "ann")
        await asyncio.sleep(2)
        for _ in range(2):
            with pytest.raises(CommandRejected) as rejected:
                await rig.bot.unfreeze("ops", "well again")
            assert (rejected.value.code, rig.bot.mode("")) == ("peer_frozen", Mode.FROZEN)
            assert "ann in session mm2 (manual: ill)" in rejected.value.reason
        assert [row.author for row in state.rows()] == ["mm2"]
        await rig.bot.unfreeze("ops", "mm2 is dead", force=True)
        assert (rig.bot.mode(""), state.rows()) == (Mode.ACTIVE, ())


@simulated
async def test_an_orderly_stop_leaves_peers_trading_where_their_orders_are_theirs() -> None:
    loop = asyncio.get_running_loop()
    for foreign, rows in ((ForeignPolicy.LEAVE, 0), (ForeignPolicy.CANCEL, 1)):
        state = MemoryState(lambda: round(loop.time() * 10**9))
        conf = config(store=StorePolicy(configured=True), sweep=SweepPolicy(foreign=foreign))
        async with Rig(conf=conf, store=MemoryStore(state)) as rig:
            await buy(rig.bot)
            await rig.bot.stop()
            assert len(rig.bot.core.orders) == 0
        assert len(state.rows()) == rows


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.IN_DOUBT_NOT_APPLIED])
@simulated
async def test_unfreeze_that_the_store_does_not_take_stays_frozen(kind: FaultKind) -> None:
    loop = asyncio.get_running_loop()
    store = MemoryStore(MemoryState(lambda: round(loop.time() * 10**9)))
    async with Rig(conf=config(store=StorePolicy(configured=True)), store=store) as rig:
        await rig.bot.freeze("test", "ops")
        store.fault = lambda effect: StoreFault(kind) if isinstance(effect, ClearFreeze) else None
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.unfreeze("ops", "well again")
        assert rejected.value.code == ("unfreeze_unavailable" if kind is FaultKind.UNAVAILABLE else "unfreeze_in_doubt")
        assert rig.bot.status().modes == {"": Mode.FROZEN}


@simulated
async def test_reduce_only_lets_only_reducing_orders_through() -> None:
    async with Rig() as rig:
        rig.venue.trade(BTC, Side.SELL, qty("2"), price("100"), tif=TimeInForce.GTC)
        await buy(rig.bot, "100")
        await later(0.1)
        await rig.bot.reduce_only(True, "ops", "going home")
        assert rig.bot.status().modes == {"": Mode.REDUCE_ONLY}
        with pytest.raises(OrderDenied) as denied:
            await buy(rig.bot)
        assert denied.value.code == "reduce_only"
        await rig.bot.submit(BTC, "sell", 1, price="110")
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.reduce_only(True, "ops", "again")
        assert rejected.value.code == "no_change"
        await rig.bot.reduce_only(False, "ops", "back")
        assert rig.bot.status().modes == {}


@simulated
async def test_an_edge_that_collapses_freezes_the_account() -> None:
    async with Rig(conf=config(limits=Limits(edge_freeze_threshold_bps=bps("5")))) as rig:
        await buy(rig.bot)
        await rig.bot.edge(BTC, "5")
        assert rig.bot.status().modes == {}
        await rig.bot.edge(BTC, "4.99")
        assert rig.bot.status().modes == {"": Mode.FREEZING}
        assert (await rig.bot.proof()).verified
        assert rig.bot.core.desk is not None
        assert rig.bot.core.desk.freezes[0].trigger is Trigger.EDGE_COLLAPSE


@simulated
async def test_a_mark_values_market_orders() -> None:
    async with Rig() as rig:
        with pytest.raises(OrderDenied):
            await rig.bot.submit(BTC, "buy", 1)
        with pytest.raises(CommandRejected) as rejected:
            await rig.bot.mark(BTC, 0)
        assert rejected.value.code == "invalid_price"
        await rig.bot.mark(BTC, "100")
        assert (await rig.bot.submit(BTC, "buy", 1)).facts.spec.type == "market"


# --- what a bot asks ------------------------------------------------------------------------------------------------


@simulated
async def test_status_and_orders_before_during_and_after() -> None:
    rig = Rig()
    assert (rig.bot.orders(), rig.bot.status().record, rig.bot.proven()) == ([], 0, False)
    async with rig:
        orders = [await buy(rig.bot, str(90 + n)) for n in range(3)]
        await later(0.1)
        status = rig.bot.status()
        assert (status.open_orders, status.in_flight, status.unknown, status.journal_failed) == (3, 0, 0, "")
        assert (status.record, status.journal) == (rig.bot.core.seq, "bot.jsonl")
        assert [handle.key for handle in rig.bot.orders()] == [order.key for order in orders]
    assert (rig.bot.orders(), rig.bot.status().journal_failed) == ([], "")


@simulated
async def test_without_a_journal_everything_works_but_nothing_is_kept() -> None:
    async with Rig(journal=None) as rig:
        await buy(rig.bot)
        assert (await rig.bot.freeze("test", "ops")).verified
        assert rig.bot.status().journal == ""
    assert rig.disk.content == {}


def test_every_exception_is_a_haltcore_error() -> None:
    assert all(issubclass(kind, HaltcoreError) for kind in (CommandRejected, OrderDenied, OrderInDoubt, OrderRefused))


def test_a_new_session_is_a_tag_and_hardly_ever_the_same() -> None:
    tags = [new_session() for _ in range(1_000)]
    assert all(is_session_tag(tag) for tag in tags)
    assert len(set(tags)) == 1_000
