"""A session places nothing before it has read the account, asks again after every gap, and follows what the store says is frozen.

Method: start, restart, link loss and stop are played; the questions asked are answered, answered wrongly or not at all. One test per row of
the timer table in ``life.py``.
"""

from typing import Any

import pytest
from haltcore.effects import (
    Denied,
    FetchOpenOrders,
    FetchPositions,
    Mode,
    Place,
    PublishFreeze,
    Purpose,
    QueryOrder,
    ReadFreeze,
    Rejected,
    SetTimer,
    Trigger,
    bps,
    usd,
)
from haltcore.fsm.bucket import left
from haltcore.fsm.config import CoolDown, FreezeClass, StoreCheck, StorePolicy, Triggers, VenueTraits
from haltcore.fsm.events import (
    ChangeLimits,
    EdgeUpdate,
    LatchKind,
    LatchRow,
    OverrideLimits,
    Stopping,
    VenueLink,
)
from haltcore.fsm.limits import LimitRule, Limits, Rate

from tests.helpers import BTC, BUY, ETH, MS, Session, config, row

STORE = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)


def down(s: Session) -> None:
    s.feed(VenueLink(s.now, False, "lost"))


def up(s: Session) -> None:
    s.feed(VenueLink(s.now, True, "back"))


# --- start ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_the_start_asks_for_lists_positions_and_latch(conditional: bool) -> None:
    s = Session(ready=False, venue=VenueTraits(conditional=conditional), store=STORE)
    assert [f.conditional for f in s.got(FetchOpenOrders)] == [False, True][: 1 + conditional]
    assert len(s.got(FetchPositions)) == len(s.got(ReadFreeze)) == 1


# --- the link ---------------------------------------------------------------------------------------------------------------


def test_while_the_link_is_down_nothing_is_placed_and_in_time_nothing_freezes() -> None:
    s = Session()
    down(s)
    timer = s.one(SetTimer)
    assert timer.due_ns == s.now + 5_000 * MS
    s.ask()
    assert s.one(Denied).code == "venue_down"
    up(s)
    s.fire(timer)
    assert s.effects == ()
    assert s.mode() is Mode.ACTIVE


def test_a_link_that_stays_down_freezes() -> None:
    s = Session()
    down(s)
    s.fire(s.one(SetTimer))
    assert s.mode("venue") is Mode.FREEZING
    s.ask()
    assert s.one(Denied).code == "sweeping"


def test_saying_it_twice_changes_nothing() -> None:
    s = Session()
    up(s)
    assert s.effects == ()
    down(s)
    down(s)
    assert s.effects == ()


def test_after_a_gap_stock_is_taken_and_missing_orders_are_asked_for_without_stopping_to_trade() -> None:
    s = Session()
    there, missing = s.working(), s.working()
    down(s)
    up(s)
    lists = s.got(FetchOpenOrders)
    young = s.submit()
    for fetch in lists:
        s.lists(fetch, *([row(s.order(there))] if not fetch.conditional else []))
    assert [q.order for q in s.all(QueryOrder)] == [missing]
    assert young not in [q.order for q in s.all(QueryOrder)], "asked for before it was placed"


def test_a_second_gap_begins_the_stocktake_anew() -> None:
    s = Session()
    key = s.working()
    down(s)
    up(s)
    first, second = s.got(FetchOpenOrders)
    s.lists(first, row(s.order(key)))
    down(s)  # and the order is cancelled in this gap
    up(s)
    fresh = s.got(FetchOpenOrders)
    assert len(fresh) == 2
    s.lists(second)
    for fetch in fresh:
        s.lists(fetch)
    assert s.one(QueryOrder).order == key


def test_a_gap_during_the_start_keeps_the_gate_shut() -> None:
    s = Session(ready=False)
    down(s)
    up(s)
    assert len(s.got(FetchPositions)) == 1
    s.ask()
    assert s.one(Denied).code == "not_ready"


# --- marks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "at", "code"), [("XRPUSDT", 1, "unknown_symbol"), (BTC, 0, "invalid_price"), (BTC, -1, "invalid_price")]
)
def test_a_mark_that_cannot_be_is_refused(symbol: str, at: int, code: str) -> None:
    s = Session()
    s.mark(at, symbol)
    assert s.one(Rejected).code == code


# --- stop -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [False, True])
def test_stopping_places_nothing_more_and_never_is_silent(freeze: bool) -> None:
    s = Session()
    s.working()
    s.feed(Stopping(s.now, freeze, "ops"))
    assert s.codes() == (["frozen"] if freeze else ["handed_over"])
    assert s.mode() is (Mode.FREEZING if freeze else Mode.ACTIVE)
    s.ask()
    assert s.one(Denied).code == "stopping"
    s.feed(Stopping(s.now, True, "ops"))
    assert s.codes() == ["no_change"]


# --- the store --------------------------------------------------------------------------------------------------------------


def test_the_latch_is_read_again_and_again() -> None:
    s = Session(store=STORE)
    for kind in (LatchKind.OK, LatchKind.UNAVAILABLE, LatchKind.IN_DOUBT, LatchKind.OK):
        timer = next(t for t in s.got(SetTimer) if t.purpose is Purpose.LATCH)
        assert timer.due_ns == s.now + 1_000 * MS
        s.fire(timer)
        s.latch(s.one(ReadFreeze), kind=kind)


def test_a_store_that_fails_stops_placing_until_it_answers() -> None:
    s = Session(store=STORE)
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), kind=LatchKind.UNAVAILABLE)
    s.ask()
    assert s.one(Denied).code == "store_unavailable"
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze))
    assert s.submit()


def test_a_peers_frozen_symbol_freezes_that_symbol() -> None:
    s = Session(store=STORE)
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), LatchRow(ETH, 3, Trigger.MANUAL, "ill", "peer"), LatchRow("XRPUSDT", 4, Trigger.MANUAL, "x", "peer"))
    assert (s.mode(), s.mode(BTC), s.mode(ETH)) == (Mode.ACTIVE, Mode.ACTIVE, Mode.FREEZING)
    assert not s.got(PublishFreeze)
    assert s.submit(BUY, symbol=BTC)
    s.ask(symbol=ETH)
    assert not s.got(Place)


def test_without_a_store_nothing_is_asked_of_it() -> None:
    s = Session()
    s.freeze()
    s.prove_empty()
    s.unfreeze()
    assert {str(effect.part) for effect in s.history} == {"venue", "time", "people", "answer"}


# --- restart ----------------------------------------------------------------------------------------------------------------


def test_a_restart_shuts_the_gate_until_stock_is_taken() -> None:
    s = Session()
    s.restart()
    s.ask()
    assert s.one(Denied).code == "not_ready"
    s.restart()
    s.answer_stock()
    assert s.submit()


@pytest.mark.parametrize("purpose", Purpose)
def test_a_timer_nobody_waits_for_changes_nothing(purpose: Purpose) -> None:
    s = Session(store=STORE)
    key = s.working()
    before = s.core
    s.fire(SetTimer((1, 99), s.now, purpose, key))
    assert s.effects == ()
    assert (s.core.desk, s.core.orders) == (before.desk, before.orders)


# --- what a restart keeps, and what begins anew --------------------------------------------------------------------------


def test_a_strategy_is_not_added_while_an_open_order_names_it() -> None:
    """An order gets its owner with its submit: the new strategy's limits and freezes would miss this one."""
    s = Session(config(symbols=(BTC,)))
    key = s.working(strategy="mm")
    s.working(strategy="other")
    before = s.core
    s.restart(config(symbols=(BTC,), strategies=("mm",)))
    assert s.one(Rejected).code == "config_changed"
    assert "1 open order(s) of before name what is a strategy only now: mm;" in s.one(Rejected).reason
    assert (s.core.desk, s.core.flow, s.core.orders) == (before.desk, before.flow, before.orders)
    s.cancelled(key)
    s.restart(config(symbols=(BTC,), strategies=("mm",)))
    assert s.core.desk is not None
    assert s.core.desk.config.strategies == ("mm",)


@pytest.mark.parametrize(
    "fields",
    [
        {"symbols": (ETH, BTC)}, {"symbols": (BTC,)}, {"strategies": ("arb", "mm")}, {"strategies": ("mm",)}, {"strategies": ()},
        {"session": "other01"},
    ],
)  # fmt: skip
def test_a_session_does_not_continue_with_other_names(fields: dict[str, Any]) -> None:
    s = Session(config(strategies=("mm", "arb")))
    s.freeze("strategy:arb")
    before = s.core
    s.restart(config(**{"strategies": ("mm", "arb"), **fields}))
    assert s.one(Rejected).code == "config_changed"
    assert (s.core.desk, s.core.flow, s.core.orders) == (before.desk, before.flow, before.orders)


def test_new_symbols_and_strategies_may_come_at_the_end() -> None:
    s = Session(config(strategies=("mm",)))
    key = s.working(strategy="mm")
    s.freeze("strategy:mm")
    s.restart(config(symbols=(BTC, ETH, "SOLUSDT"), strategies=("mm", "arb")))
    assert s.mode("strategy:mm") is Mode.FREEZING
    s.answer_stock(row(s.order(key)))
    s.prove_empty()
    assert s.submit(symbol="SOLUSDT", strategy="arb")


def test_rates_results_and_repeats_go_on_over_a_restart() -> None:
    watched = Triggers(reject_storm=Rate(3, 60_000), cool_downs=(CoolDown(FreezeClass.EDGE, 1_000, 2_000),))
    limits = Limits(max_drawdown=usd(1_000), execution_rate=Rate(5, 60_000), edge_freeze_threshold_bps=bps(5))
    s = Session(config(limits=limits, triggers=watched))
    s.reject(s.submit())
    key = s.working()
    s.fill(key, 3)
    s.mark(110)
    s.feed(EdgeUpdate(s.now, BTC, bps(4)))
    before = s.core
    s.restart()
    assert s.core.flow == before.flow
    assert before.desk is not None
    assert s.core.desk is not None
    kept = [(desk.repeats, desk.freezes, desk.epoch, desk.rules, desk.thresholds) for desk in (before.desk, s.core.desk)]
    assert kept[0] == kept[1]
    assert "limits_replaced" not in s.codes()


def test_limits_of_a_new_configuration_replace_what_was_changed_and_it_is_said() -> None:
    s = Session(config())
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_order_value=usd(5))), "ops", "calm"))
    s.restart()
    assert "limits_replaced" not in s.codes(), "the configuration says what it said before"
    s.restart(config(limits=Limits(max_order_value=usd(6))))
    assert "limits_replaced" in s.codes()
    assert s.core.desk is not None
    assert s.core.desk.rules == (LimitRule(Limits(max_order_value=usd(6))),)


def test_a_link_that_is_lost_again_while_frozen_for_it_is_recorded_once() -> None:
    s = Session()
    for _ in range(3):
        down(s)
        s.fire(purpose=Purpose.VENUE_LINK)
        up(s)
    assert s.core.desk is not None
    assert [(record.trigger, record.scope) for record in s.core.desk.freezes] == [(Trigger.VENUE_LOST, "venue")]
    s.prove_empty()
    s.unfreeze("venue")
    down(s)
    s.fire(purpose=Purpose.VENUE_LINK)
    assert len(s.core.desk.freezes) == 2


def test_an_override_goes_on_over_a_restart_and_ends_in_time() -> None:
    s = Session()
    s.feed(OverrideLimits(s.now, "", "", Limits(max_order_value=usd(5)), 60_000, "ops", "calm"))
    until = s.one(SetTimer).due_ns
    s.wait(1_000)
    s.restart()
    (timer,) = [t for t in s.got(SetTimer) if t.purpose is Purpose.OVERRIDE]
    assert timer.due_ns == until
    s.fire(timer)
    assert s.core.desk is not None
    assert s.core.desk.overrides == ()


def test_a_bucket_under_a_new_rate_has_as_many_taken_from_it() -> None:
    few, many = Rate(4, 60_000), Rate(10, 3_600_000)
    s = Session(config(triggers=Triggers(few)))
    for _ in range(3):
        s.reject(s.submit())
    s.restart(config(triggers=Triggers(many)))
    assert left(s.core.flow.rejects, s.now, many) == 7
