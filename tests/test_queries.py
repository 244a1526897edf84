"""What a bot may ask of a state is what the gate would do, what the books hold, and what was recorded.

Method: ``what_if`` is compared with the step that follows, over random commands and over every case of the gate's own table; utilization
with the boundary at which denying begins; positions and history by examples.
"""

from collections.abc import Callable
from typing import Any

import pytest
from haltcore.effects import Denied, Notional, OrdType, Place, Rejected, Replace, Trigger, notional_text, price, qty, to_text, usd
from haltcore.effects.values import SCALE
from haltcore.fsm import freeze_history, positions, utilization, what_if
from haltcore.fsm.core import EMPTY, Core, scope_text, strategy_scope
from haltcore.fsm.events import ReplaceOrder, SetReduceOnly, SubmitOrder, VenueLink, VolatilityBand
from haltcore.fsm.exposure import FLAT, book_key, worst_value
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.queries import NOTHING, Change, refusing
from haltcore.fsm.risk import CHECKS, Finding
from haltcore.fsm.thresholds import amount, thresholds_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gate_world import (
    MOVES,
    STRATEGIES,
    Moves,
    at_mark,
    defined,
    denial,
    desk_of,
    holding,
    put_desk,
    put_limits,
    put_override,
    traded,
)
from tests.helpers import BTC, BUY, ETH, MS, SELL, Session, with_limits
from tests.test_measures import ACCOUNT_LIMITS, BOUNDED
from tests.test_risk import CASES

USD = SCALE * SCALE


def submit(s: Session, side: Any = BUY, amount: Any = 10, at: Any = 100, symbol: str = BTC, **fields: Any) -> SubmitOrder:
    return SubmitOrder(s.now, symbol, side, qty(amount), price(at) if at is not None else None, **fields)


def answer(s: Session) -> str:
    """The code of the last step's denial or rejection; "" if something went out."""
    return next((e.code for e in s.effects if isinstance(e, (Denied, Rejected))), "")


def exposure(core: Core, owner: int, sym: int) -> tuple[int, int]:
    """Worst case of a symbol, and of all."""
    total = core.teams[owner].worst if owner in core.teams else 0
    return worst_value(core.books.get(book_key(owner, sym), FLAT)), total if owner else core.total


def _change(before: int, after: int) -> Change:
    return Change(Notional(before), Notional(after))


# --- what_if ----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(MOVES, st.sampled_from([Limits(), ACCOUNT_LIMITS, Limits(duplicate_window_ms=1, prevent_self_match=True)]))
def test_what_if_says_what_the_step_then_does(moves: list[Any], limits: Limits) -> None:
    world = Moves(limits=limits, rules=BOUNDED)
    for move in moves:
        before, command = world.s.core, world.command(move)
        said = what_if(before, command) if command is not None else None
        feed, after = world.s.feed, list[Any]()

        def first(event: Any, feed: Any = feed, after: Any = after) -> Any:
            effects = feed(event)
            after.append((world.s.core, effects, answer(world.s)))
            return effects

        world.s.feed = first  # type: ignore[method-assign]
        world.play(move)
        world.s.feed = feed  # type: ignore[method-assign]
        if said is None:
            continue
        core, effects, code = after[0]
        assert said.code == code
        if code == "":
            key = next(e.order for e in effects if isinstance(e, (Place, Replace)))
            spec = core.orders[key].spec
            was, now = exposure(before, 0, spec.sym), exposure(core, 0, spec.sym)
            assert (said.symbol, said.total) == (_change(was[0], now[0]), _change(was[1], now[1]))
            was, now = exposure(before, spec.owner, spec.sym), exposure(core, spec.owner, spec.sym)
            assert (said.own_symbol, said.own_total) == (_change(was[0], now[0]), _change(was[1], now[1]))


@pytest.mark.parametrize(("code", "bad", "order", "good", "neighbour"), CASES)
def test_what_if_agrees_with_every_case_of_the_gate(
    code: str, bad: Callable[[], Session], order: dict[str, Any], good: Callable[[], Session], neighbour: dict[str, Any]
) -> None:
    for s, fields, expected in ((bad(), order, code), (good(), neighbour, "")):
        s.thorough = False
        fields = {"side": BUY, "amount": 10, "at": 100, "symbol": BTC, **fields}
        amount, at = fields.pop("amount"), fields.pop("at")
        event = SubmitOrder(s.now, qty=qty(amount), price=price(at) if at is not None else None, **fields)
        before = s.core
        said = what_if(s.core, event)
        assert s.core is before
        s.feed(event)
        assert said.code == answer(s) == expected
        assert said.reason == next((e.reason for e in s.effects if isinstance(e, Denied)), "")


def test_every_row_is_told_with_its_figures() -> None:
    rule = LimitRule(Limits(max_inventory_usd=usd(600)), strategy="mm")
    s = at_mark(strategies=STRATEGIES, limits=with_limits(1_000, 5_000), rules=(rule,))
    s.working(BUY, 4, strategy="arb")
    said = what_if(s.core, submit(s, BUY, 7, strategy="mm"))
    assert [f.code for f in said.findings] == [check.code for check in CHECKS]
    assert said.code == "max_inventory_usd"
    found = {f.code: f for f in said.findings}
    assert [(g.source, g.value // USD, g.bound // USD, g.exceeded) for g in found["max_inventory_usd"].figures] == [
        ("account", 1_100, 1_000, True), ("strategy mm", 700, 600, True),
    ]  # fmt: skip
    assert [(g.value // USD, g.bound // USD, g.exceeded) for g in found["max_total_notional"].figures] == [(1_100, 5_000, False)]
    assert found["max_total_notional"].reason == ""
    assert (said.symbol, said.total) == (_change(400 * USD, 1_100 * USD), _change(400 * USD, 1_100 * USD))
    assert (said.own_symbol, said.own_total) == (_change(0, 700 * USD), _change(0, 700 * USD))


def test_a_figure_beyond_its_bound_that_the_order_makes_no_worse_does_not_deny() -> None:
    s = traded(10, 90, Limits(max_daily_loss=usd(50)))
    said = what_if(s.core, submit(s, SELL, 10))
    (figure,) = next(f for f in said.findings if f.code == "daily_loss").figures
    assert (figure.value // USD, figure.bound // USD, figure.exceeded) == (100, 50, False)
    assert said.code == ""


def test_what_cannot_be_judged_says_so() -> None:
    s = Session()
    assert what_if(EMPTY, submit(s)).code == "not_started"
    assert what_if(s.core, ReplaceOrder(s.now, 99, qty(1), price(1))).code == "unknown_order"
    key = s.submit()
    assert what_if(s.core, ReplaceOrder(s.now, key, qty(1), price(1))).code == "not_working"
    malformed = what_if(s.core, submit(s, amount=0))
    assert (malformed.code, malformed.symbol, malformed.total) == ("invalid_quantity", NOTHING, NOTHING)


def test_what_if_looks_at_the_events_own_time() -> None:
    """A window, an override or a feed is judged as the step would judge it, not as of the last event."""
    s = at_mark(limits=Limits(max_order_qty=qty(1)))
    put_override(s, Limits(max_order_qty=qty(20)), for_ms=1_000)
    assert what_if(s.core, submit(s)).code == ""
    s.wait(1_000)
    event = submit(s)
    assert what_if(s.core, event).code == "max_order_qty"
    s.feed(event)
    assert answer(s) == "max_order_qty"


# --- utilization ------------------------------------------------------------------------------------------------------------------


def used(core: Core) -> list[tuple[str, str, str, str]]:
    return [(u.figure, u.subject, u.source, to_text(u.percent)) for u in utilization(core)]


def test_utilization_of_an_account() -> None:
    """RTS 6 Art. 16(5): how near the limits are, at any moment."""
    limits = Limits(
        max_inventory_usd=usd(1_000), max_total_notional=usd(3_000), max_open_orders=4, max_daily_loss=usd(400), max_drawdown=usd(300),
        message_rate=Rate(10, 1_000), max_order_qty=qty(100), price_collar_bps=None,
    )  # fmt: skip
    s = traded(10, 90)
    s.working(SELL, 2, 100, symbol=ETH)
    s.wait(10_000)
    put_limits(s, limits)
    s.working(BUY, 1, 80, symbol=ETH)
    assert used(s.core) == [
        ("max_open_orders", "", "account", "50"), ("message_rate", "", "account", "10"), ("max_inventory_usd", BTC, "account", "90"),
        ("max_inventory_usd", ETH, "account", "20"), ("max_total_notional", "", "account", "36.666666666667"),
        ("max_daily_loss", "", "account", "25"), ("max_drawdown", "", "account", "33.333333333334"),
    ]  # fmt: skip
    loss = next(u for u in utilization(s.core) if u.figure == "max_daily_loss")
    assert (loss.value, loss.bound, loss.digits) == (100 * USD, 400 * USD, 24)


def test_utilization_of_symbols_and_strategies() -> None:
    s = at_mark(
        strategies=STRATEGIES, limits=with_limits(1_000),
        rules=(
            LimitRule(Limits(max_inventory_usd=usd(2_000), max_daily_loss=usd(10)), symbol=BTC),
            LimitRule(Limits(max_inventory_usd=usd(800), max_total_notional=usd(1_600), max_open_orders=2), strategy="mm"),
            LimitRule(Limits(max_inventory_usd=usd(500)), symbol=ETH, strategy="arb"),
            LimitRule(Limits(max_inventory_usd=usd(400)), band="high"),
        ),
    )  # fmt: skip
    s.working(BUY, 4, strategy="mm")
    s.working(SELL, 1, symbol=ETH, strategy="arb")
    expected = [
        ("max_open_orders", "strategy:mm", "strategy mm", "50"),
        ("max_inventory_usd", BTC, "symbol BTCUSDT", "20"), ("max_inventory_usd", f"strategy:mm/{BTC}", "strategy mm", "50"),
        ("max_inventory_usd", ETH, "account", "10"), ("max_inventory_usd", f"strategy:mm/{ETH}", "strategy mm", "0"),
        ("max_inventory_usd", f"strategy:arb/{ETH}", "strategy arb, symbol ETHUSDT", "20"),
        ("max_total_notional", "strategy:mm", "strategy mm", "25"), ("max_daily_loss", BTC, "symbol BTCUSDT", "0"),
    ]  # fmt: skip
    assert used(s.core) == expected
    s.feed(VolatilityBand(s.now, BTC, "high"))
    assert ("max_inventory_usd", BTC, "band high", "100") in used(s.core)
    put_override(s, Limits(max_inventory_usd=usd(1_600)), symbol=BTC)
    assert [row for row in used(s.core) if row[0] == "max_inventory_usd" and row[1].endswith(BTC)] == [
        ("max_inventory_usd", f"strategy:mm/{BTC}", "strategy mm", "50"), ("max_inventory_usd", BTC, "band high", "100"),
        ("max_inventory_usd", BTC, "override 1 by bo", "25"),
    ], "instead of the symbol's own figure alone"  # fmt: skip


_CONDITIONS = st.sampled_from([("", ""), (BTC, ""), (ETH, ""), ("", "mm"), ("", "arb")])
_FIGURES = st.builds(
    lambda inventory, loss: Limits(max_inventory_usd=inventory and usd(inventory), max_daily_loss=loss and usd(loss)),
    st.none() | st.sampled_from([1_000, 3_999, 4_000, 9_000]), st.none() | st.integers(10**6, 2 * 10**6),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(_CONDITIONS, _FIGURES), st.lists(st.tuples(_FIGURES, _CONDITIONS), max_size=4))
def test_gate_utilization_and_triggers_agree_on_what_holds(rules: dict[Any, Limits], overrides: list[Any]) -> None:
    """Who exceeds a limit by a report of the venue freezes exactly where utilization says that the limit is used up."""
    s = at_mark(strategies=STRATEGIES)
    key = s.working(BUY, 1, strategy="mm")
    account = rules.pop(("", ""), Limits())
    put_limits(s, account, *(LimitRule(limits, *words) for words, limits in rules.items()))
    desk = desk_of(s)
    put_desk(s, thresholds=thresholds_of(desk.rules, desk.index, desk.owners))
    for limits, words in overrides:
        put_override(s, limits, *words)
    desk, told = desk_of(s), utilization(s.core)

    scopes = {scope_text(desk, scope): scope for scope in (0, 1, 2, strategy_scope(1), strategy_scope(2))}
    triggers = {text: amount(desk, s.now, scope, "max_daily_loss") for text, scope in scopes.items()}
    assert {u.subject: u.bound for u in told if u.figure == "max_daily_loss"} == {t: v * SCALE for t, v in triggers.items() if v}

    for symbol, strategy in ((BTC, "mm"), (ETH, "arb")):
        asked = what_if(s.core, submit(s, symbol=symbol, strategy=strategy, amount=1, at=1))
        gate = {(f.name, f.source, f.bound) for finding in asked.findings for f in finding.figures}
        mine = ("", symbol, f"strategy:{strategy}", f"strategy:{strategy}/{symbol}")
        assert gate == {(u.figure, u.source, u.bound) for u in told if u.subject in mine}

    bounds: dict[str, int] = {}
    for u in told:
        if u.figure == "max_inventory_usd":
            bounds[u.subject] = min(u.bound, bounds.get(u.subject, u.bound))
    s.fill(key, 40)
    worst = 4_000 * USD
    expected = [scope for scope, of in ((BTC, BTC), ("strategy:mm", f"strategy:mm/{BTC}")) if worst > bounds.get(of, worst)]
    assert [f.scope for f in desk_of(s).freezes if f.trigger is Trigger.LIMIT_VIOLATION] == expected


def test_figures_read_as_a_person_would_write_them() -> None:
    s = at_mark(limits=Limits(max_inventory_usd=usd(3_000), max_open_orders=4))
    s.working(BUY, 11)
    orders, inventory, _ = utilization(s.core)
    assert (str(orders), str(inventory)) == ("1 of 4, 25 %", "1100 of 3000, 36.7 %")
    (asked,) = next(f for f in what_if(s.core, submit(s, BUY, 28)).findings if f.code == "max_inventory_usd").figures
    assert str(asked) == "3900 of 3000, 130 %"
    s.fill(min(s.core.orders), 11)
    assert str(utilization(s.core)[1]) == "1100 of 3000, 36.7 %"
    assert notional_text(positions(s.core)[0].value) == "1100"
    assert notional_text(what_if(s.core, submit(s, BUY, 1)).symbol.after) == "1200"
    unpriced = utilization(holding(10, None, limits=with_limits(10**9)).core)[0]
    assert str(unpriced) == "without bound (a position has no mark price) of 1000000000"


def test_denying_begins_at_a_hundred_per_cent() -> None:
    s = at_mark(limits=with_limits(1_000, 1_000))
    s.working(BUY, 10)
    assert [u.percent for u in utilization(s.core)] == [100 * SCALE, 0, 100 * SCALE]
    assert denial(s, BUY, "0.000000000001") == "max_inventory_usd"


def test_a_position_without_a_mark_is_above_every_limit() -> None:
    s = holding(10, None, limits=with_limits(10**9))
    assert utilization(s.core)[0].percent > 100 * SCALE


def test_utilization_is_as_of_the_states_own_time() -> None:
    s = at_mark(limits=Limits(message_rate=Rate(2, 1_000)))
    s.submit()
    assert used(s.core) == [("message_rate", "", "account", "50")]
    s.now += 500 * MS
    assert used(s.core) == [("message_rate", "", "account", "50")]
    s.mark(100)
    assert used(s.core) == [("message_rate", "", "account", "0")]


def test_no_limits_no_utilization() -> None:
    assert utilization(Session().core) == utilization(EMPTY) == ()


# --- positions and history --------------------------------------------------------------------------------------------------------


def test_positions_of_account_and_strategies() -> None:
    """RTS 6 Art. 17(3): positions and exposure at any time."""
    s = at_mark(strategies=STRATEGIES)
    s.fill(s.working(BUY, 10, strategy="mm"), 10, fee=usd(1))
    s.fill(s.working(SELL, 4, strategy="arb"), 4)
    s.working(SELL, 3, 120, strategy="arb")
    s.mark(90)
    shown = [
        (p.strategy, p.symbol, p.qty // SCALE, p.value // USD, p.gain // USD, p.buy_qty // SCALE, p.sell_qty // SCALE, p.open_orders)
        for p in positions(s.core)
    ]
    assert shown == [
        ("", BTC, 6, 540, -61, 0, 3, 1), ("", ETH, 0, 0, 0, 0, 0, 0), ("mm", BTC, 10, 900, -101, 0, 0, 0),
        ("arb", BTC, -4, -360, 40, 0, 3, 1),
    ]  # fmt: skip
    assert all(p.mark == price(90 if p.symbol == BTC else 100) for p in positions(s.core))
    assert positions(EMPTY) == ()


def test_positions_of_inverse_contracts_are_worth_their_multiplier() -> None:
    s = defined(mark=50_000, inverse=True, multiplier=100 * SCALE)
    s.fill(s.working(SELL, 3, 50_000), 3, 50_000)
    s.mark(40_000)
    (held,) = [p for p in positions(s.core) if p.symbol == BTC]
    assert (held.qty // SCALE, held.value // USD, held.gain // USD) == (-3, -300, 60)


def test_history_by_scope_trigger_and_time() -> None:
    s = Session()
    s.freeze(reason="one")
    s.wait(1_000)
    s.freeze(BTC, Trigger.LOSS, "two")
    s.freeze(BTC, Trigger.MANUAL, "three")
    reasons = [record.reason for record in freeze_history(s.core)]
    assert reasons == ["one", "two", "three"]
    assert [r.reason for r in freeze_history(s.core, scope="")] == ["one"]
    assert [r.reason for r in freeze_history(s.core, scope=BTC)] == ["two", "three"]
    assert [r.reason for r in freeze_history(s.core, trigger=Trigger.MANUAL)] == ["one", "three"]
    assert [r.reason for r in freeze_history(s.core, BTC, Trigger.MANUAL, s.now)] == ["three"]
    assert freeze_history(s.core, since_ns=s.now + 1) == freeze_history(EMPTY) == ()


def test_asking_about_a_stop_order_counts_it_at_the_worse_price() -> None:
    s = at_mark()
    said = what_if(s.core, submit(s, BUY, 1, None, type=OrdType.STOP_MARKET, stop_price=price(130)))
    assert said.symbol == _change(0, 130 * USD)


# --- nothing at all ---------------------------------------------------------------------------------------------------------------


def test_why_nothing_can_be_placed_is_the_gates_own_first_reason() -> None:
    assert refusing(EMPTY) == Finding("not_started", "the session has not begun")
    s = Session(symbols=(BTC, ETH))
    assert refusing(s.core) is None
    s.freeze(BTC)
    assert refusing(s.core) is None, "the other symbol can be traded"
    s.freeze(ETH)
    found = refusing(s.core)
    s.ask(symbol=BTC)
    denied = s.one(Denied)
    assert found == Finding(denied.code, denied.reason)
    s = Session(symbols=(BTC, ETH))
    s.freeze(BTC)
    s.feed(VenueLink(s.now, False, "gone"))
    found = refusing(s.core)
    assert found is not None
    assert found.code == "venue_down", "of both, and not that one of them is frozen"
    s.freeze()
    found = refusing(s.core)
    assert found is not None
    assert found.code == "sweeping"


def test_a_limit_or_reduce_only_refuses_some_orders_and_not_all() -> None:
    s = Session(limits=Limits(max_order_qty=qty("0.0001")))
    s.feed(SetReduceOnly(s.now, "", True, "ops", "why"))
    assert s.core.desk is not None
    assert refusing(s.core) is None
