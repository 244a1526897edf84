"""The checks that are no figures, where a table of cases does not do them justice: what only reduces, duplicates, self-matches, the grid.

Method: small stories, each with the neighbour that passes. The memo of our own prices is compared with one made anew after random commands.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Denied, Mode, OrdType, Place, Trigger, price, qty, usd
from haltcore.fsm import checks
from haltcore.fsm.bucket import left
from haltcore.fsm.core import resting_key
from haltcore.fsm.events import Freeze, Heartbeat, OrderReplaced, Restarted, SubmitOrder
from haltcore.fsm.levels import EMPTY_LEVELS
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.turn import Turn, resting_levels
from hypothesis import given, settings
from immutables import Map

from tests.gate_world import (
    MARKET,
    MOVES,
    STRATEGIES,
    Moves,
    at_mark,
    defined,
    denial,
    holding,
    put_control,
    put_desk,
    put_limits,
    put_override,
    reducing,
)
from tests.helpers import BTC, BUY, ETH, SELL, Session, VenueTraits, config

STOP_LIMIT, STOP_MARKET = OrdType.STOP_LIMIT, OrdType.STOP_MARKET

# --- only what reduces --------------------------------------------------------------------------------------------------------


def test_two_reduce_only_orders_cannot_flip_the_position() -> None:
    s = reducing(10)
    assert denial(s, SELL, 6) == ""
    assert denial(s, SELL, 5) == "reduce_only"
    assert denial(s, SELL, 4) == ""


def test_two_orders_that_say_reduce_only_cannot_flip_the_position() -> None:
    s = holding(10)
    assert denial(s, SELL, 6, reduce_only=True) == ""
    assert denial(s, SELL, 5, reduce_only=True) == "not_reducing"
    assert denial(s, SELL, 4, reduce_only=True) == ""
    assert denial(s, SELL, 1, reduce_only=True) == "not_reducing"
    assert denial(s, SELL, 1) == "", "without the flag it is an order like any other"


def test_working_orders_of_before_count_against_what_may_be_reduced() -> None:
    s = holding(10)
    s.working(SELL, 7)
    s.unknown(SELL, 1)
    put_desk(s, restricted=Map({0: 1}))
    s.core = attrs.evolve(s.core, books=s.core.books.set(0, attrs.evolve(s.core.books[0], unknown_sell=0)))
    s.thorough = False
    assert denial(s, SELL, "2.1") == "restricted"
    assert denial(s, SELL, 2) == ""


def test_a_short_is_reduced_by_buying() -> None:
    s = reducing(-10)
    assert denial(s, SELL, 1) == "reduce_only"
    assert denial(s, BUY, 11) == "reduce_only"
    assert denial(s, BUY, 6) == ""
    assert denial(s, BUY, "4.1") == "reduce_only", "what works already counts"
    assert denial(s, BUY, 4) == ""


def test_a_replace_may_not_grow_beyond_the_position() -> None:
    s = reducing(10)
    key = s.working(SELL, 6)
    s.replace(key, 11)
    assert s.one(Denied).code == "reduce_only"
    s.replace(key, 10)
    assert not s.got(Denied)


def teams() -> Session:
    """mm is 10 long, arb 4 short, the account 6 long."""
    s = at_mark(strategies=STRATEGIES)
    s.fill(s.working(BUY, 10, strategy="mm"), 10)
    s.fill(s.working(SELL, 4, strategy="arb"), 4)
    return s


def test_a_strategy_in_reduce_only_is_judged_by_its_own_position() -> None:
    s = teams()
    put_control(s, -2, Mode.REDUCE_ONLY)
    assert denial(s, SELL, 10, strategy="mm") == ""
    assert denial(s, SELL, 1, strategy="mm") == "reduce_only"
    assert denial(s, BUY, 1, strategy="mm") == "reduce_only"
    assert denial(s, SELL, 1, strategy="arb") == "", "another strategy is free"


@pytest.mark.parametrize("scope", [0, -1, 1])
def test_account_venue_and_symbol_in_reduce_only_are_judged_by_the_accounts_position(scope: int) -> None:
    s = teams()
    put_control(s, scope, Mode.REDUCE_ONLY)
    assert denial(s, SELL, 7, strategy="mm") == "reduce_only"
    assert denial(s, BUY, 1, strategy="arb") == "reduce_only", "arb is short, but the account is long"
    assert denial(s, SELL, 6, strategy="arb") == ""


def test_both_positions_count_where_both_scopes_say_so() -> None:
    s = teams()
    put_control(s, 0, Mode.REDUCE_ONLY)
    put_control(s, -3, Mode.REDUCE_ONLY)
    assert denial(s, SELL, 6, strategy="arb") == "reduce_only"
    assert denial(s, BUY, 1, strategy="arb") == "reduce_only"
    assert denial(s, SELL, 6, strategy="mm") == ""


def test_a_throttled_strategy_is_judged_by_its_own_position_and_others_go_on() -> None:
    """RTS 6 Art. 15(3): off until a designated person re-enables it; what works off its position may go."""
    s = put_desk(teams(), throttled=Map({2: 9}))
    assert denial(s, SELL, 1, strategy="arb") == "throttled"
    assert "strategy arb" in s.one(Denied).reason
    assert denial(s, BUY, 4, strategy="arb") == ""
    assert denial(s, BUY, 1, strategy="mm") == ""
    put_desk(s, throttled=Map({0: 9}))
    assert denial(s, BUY, 1, strategy="mm") == "throttled"


def test_a_freeze_of_one_strategy_leaves_the_others_free() -> None:
    s = teams()
    s.freeze("strategy:mm")
    assert denial(s, SELL, 1, strategy="mm") == "sweeping"
    assert denial(s, SELL, 1, strategy="arb") == ""


# --- market data ------------------------------------------------------------------------------------------------------------------


def test_a_silent_feed_of_one_symbol_stops_that_symbol() -> None:
    s = at_mark(rules=(LimitRule(Limits(feed_lost_ms=1_000), symbol=BTC),))
    s.wait(999)
    s.feed(Heartbeat(s.now, ETH))
    s.wait(1)
    assert denial(s) == "feed_lost"
    assert denial(s, symbol=ETH) == ""
    s.feed(Heartbeat(s.now, BTC))
    assert denial(s) == ""


def test_data_of_any_symbol_keeps_the_accounts_feed_alive() -> None:
    s = at_mark(limits=Limits(feed_lost_ms=1_000))
    s.wait(999)
    s.feed(Heartbeat(s.now, ETH))
    s.wait(999)
    assert denial(s) == ""
    s.wait(1)
    assert denial(s) == "feed_lost"


def test_a_feed_that_was_never_heard_of_is_lost() -> None:
    s = put_limits(at_mark(), Limits(feed_lost_ms=1_000))
    assert denial(s) == "feed_lost"


@pytest.mark.parametrize("restarted", [False, True])
def test_from_the_start_until_the_first_data_a_feed_is_lost(restarted: bool) -> None:
    s = Session(config(rules=(LimitRule(Limits(feed_lost_ms=1_000), symbol=BTC),)))
    if restarted:
        s.mark(100)
        s.restart()
        s.answer_stock()
    assert denial(s) == "feed_lost"
    s.mark(100, ETH)
    assert denial(s) == "feed_lost"
    s.feed(Heartbeat(s.now, BTC))
    assert denial(s) == ""


# --- duplicates -------------------------------------------------------------------------------------------------------------------


def windowed(**fields: Any) -> Session:
    return at_mark(limits=Limits(duplicate_window_ms=500), **fields)


OTHERS: list[dict[str, Any]] = [
    {"symbol": ETH}, {"side": SELL}, {"amount": 11}, {"at": 101}, {"type": STOP_LIMIT, "stop_price": price(99)}, {"strategy": "x"},
    {"trader": "x"}, {"client": "x"},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_an_order_that_differs_in_anything_is_no_duplicate(other: dict[str, Any]) -> None:
    """17 CFR 240.15c3-5(c)(1)(ii): duplicative orders. Attribution is part of the intent: two desks may want the same."""
    s = windowed()
    s.submit()
    assert denial(s, **other) == ""
    assert denial(s, **other) == "duplicate_order"
    assert denial(s) == "duplicate_order"


def test_the_window_begins_with_the_last_order_that_went_out() -> None:
    s = windowed()
    s.submit()
    s.wait(499)
    assert denial(s) == "duplicate_order", "a denied one does not prolong it"
    s.wait(1)
    assert denial(s) == ""
    s.wait(499)
    assert denial(s) == "duplicate_order"


def test_an_ended_order_still_counts_as_sent() -> None:
    s = windowed()
    s.cancelled(s.working())
    assert denial(s) == "duplicate_order"


def test_replaces_are_no_duplicates_and_a_replaced_order_is_another() -> None:
    s = windowed()
    key = s.working()
    s.replace(key, 12)
    assert not s.got(Denied)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(12), price(100)))
    assert denial(s) == "", "what works now is an order of 12"
    other = s.working(BUY, 9)
    s.replace(other, 10)
    assert not s.got(Denied), "it names the order that it changes"


def test_a_collision_of_fingerprints_does_not_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "fingerprint", lambda _: 7)
    monkeypatch.setattr("haltcore.fsm.commands.fingerprint", lambda _: 7)
    s = windowed()
    for at in (100, 101, 102):
        assert denial(s, at=at) == ""
    assert denial(s, at=102) == "duplicate_order"


def test_what_is_remembered_is_bounded_by_two_windows() -> None:
    """One order every 10 ms, each of its own: never more intents than two windows hold, and none forgotten too early."""
    s = Session(limits=Limits(duplicate_window_ms=500), thorough=False)
    most = 0
    for number in range(1, 301):
        s.submit(BUY, number, 1)
        assert denial(s, BUY, number, 1) == "duplicate_order"
        if number > 49:
            assert denial(s, BUY, number - 49, 1) == "duplicate_order"
        most = max(most, len(s.core.flow.intents) + len(s.core.flow.intents_before))
        s.wait(10)
    assert 50 <= most <= 101


def test_old_intents_are_dropped_without_a_walk_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that looked at every intent of a window would take 0.1 s after 100,000 of them; they are dropped as a whole."""
    s = Session(limits=Limits(duplicate_window_ms=500), thorough=False)
    for number in range(1, 40):
        s.submit(BUY, number, 1)
    looked_at: list[int] = []
    monkeypatch.setattr(Turn, "order", lambda _, key: looked_at.append(key))
    for number, kept in ((41, 40), (42, 2), (43, 2)):
        s.wait(500)
        s.submit(BUY, number, 1)
        assert len(s.core.flow.intents) + len(s.core.flow.intents_before) == kept
    assert not looked_at


def test_fingerprints_are_small_and_do_not_depend_on_the_process() -> None:
    event = SubmitOrder(5, BTC, BUY, qty(1), price(2))
    assert checks.fingerprint(event) == checks.fingerprint(attrs.evolve(event, at_ns=6, explain=True)) == 2_429_733_985
    assert 0 <= checks.fingerprint(event) < 2**32


def test_nothing_is_remembered_without_a_window() -> None:
    s = windowed()
    s.submit()
    assert s.core.flow.intents
    put_limits(s)
    s.submit()
    assert not s.core.flow.intents


# --- self-match -------------------------------------------------------------------------------------------------------------------


def matching(**fields: Any) -> Session:
    return at_mark(limits=Limits(prevent_self_match=True), **fields)


def test_the_best_price_of_the_other_side_decides() -> None:
    """FIA 2024: self-match prevention."""
    s = matching()
    keys = [s.working(SELL, 1, at) for at in (110, 105, 120)]
    assert denial(s, BUY, 1, 105) == "self_match"
    assert "sell order at 105" in s.one(Denied).reason
    assert denial(s, BUY, 1, 104) == ""
    s.cancelled(keys[1])
    assert denial(s, BUY, 1, 109) == ""
    assert denial(s, BUY, 1, 110) == "self_match"
    assert denial(s, SELL, 1, 109) == "self_match", "it would meet the buy at 109"
    assert denial(s, BUY, 1, 130, symbol=ETH) == "", "another symbol is another book"


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_market_order_meets_whatever_rests(side: Any) -> None:
    s = matching()
    other = SELL if side is BUY else BUY
    assert denial(s, side, 1, None, type=MARKET) == ""
    key = s.working(other, 1, 200 if other is SELL else 1)
    assert denial(s, side, 1, None, type=MARKET) == "self_match"
    s.fill(key, 1, 200)
    assert denial(s, side, 1, None, type=MARKET) == ""


def test_orders_in_doubt_and_pending_cancels_can_still_be_met() -> None:
    s = matching()
    key = s.working(SELL, 1, 105)
    s.cancel(key)
    assert denial(s, BUY, 1, 105) == "self_match"
    s.cancelled(key)
    s.unknown(SELL, 1, 105)
    assert denial(s, BUY, 1, 105) == "self_match"


def test_a_pending_replace_rests_at_both_prices() -> None:
    s = matching()
    key = s.working(SELL, 1, 105)
    s.replace(key, 1, 110)
    assert denial(s, BUY, 1, 105) == "self_match"
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(1), price(110)))
    assert denial(s, BUY, 1, 109) == ""
    key = s.working(SELL, 1, 120)
    s.replace(key, 1, 115)
    assert denial(s, BUY, 1, 115) == "self_match"


def test_stops_meet_nobody_before_they_trigger() -> None:
    s = matching()
    s.working(SELL, 1, 105)
    assert denial(s, BUY, 1, 200, type=STOP_LIMIT, stop_price=price(150)) == ""
    assert denial(s, BUY, 1, None, type=STOP_MARKET, stop_price=price(150)) == ""
    assert denial(s, SELL, 1, 200) == "", "the stop at 200 does not rest"


def test_on_a_venue_with_one_book_a_stop_counts_as_resting() -> None:
    s = matching(venue=VenueTraits(conditional=False))
    s.working(BUY, 1, 120, type=STOP_LIMIT, stop_price=price(150))
    assert denial(s, SELL, 1, 120) == "self_match", "nobody tells us when it triggers"


def test_an_override_of_another_figure_does_not_switch_it_off() -> None:
    s = matching()
    s.working(SELL, 1, 105)
    put_override(s, Limits(max_order_qty=qty(100)))
    assert denial(s, BUY, 1, 105) == "self_match"


def test_an_override_may_switch_it_on() -> None:
    s = at_mark()
    s.working(SELL, 1, 105)
    put_override(s, Limits(prevent_self_match=True), symbol=BTC)
    assert denial(s, BUY, 1, 105) == "self_match"
    assert denial(s, BUY, 1, 105, symbol=ETH) == ""
    assert s.core.resting is not None, "it is kept as long as anybody may ask"


def test_the_memo_is_made_when_needed_and_dropped_when_not() -> None:
    s = at_mark()
    s.working(SELL, 1, 105)
    assert s.core.resting is None
    put_limits(s, Limits(prevent_self_match=True))
    assert denial(s, BUY, 1, 105) == "self_match"
    assert s.core.resting is not None
    s.feed(Restarted(s.now, s.config, "tester"))
    put_limits(s)
    s.ask(BUY, 1, 1)
    assert s.core.resting is None


@settings(max_examples=40, deadline=None)
@given(MOVES)
def test_the_memo_is_what_the_orders_say(moves: list[Any]) -> None:
    world = Moves(limits=Limits(prevent_self_match=True))
    for move in moves:
        world.play(move)
        anew, kept = resting_levels(world.s.core.orders), world.s.core.resting
        assert kept is not None or not world.s.core.orders
        for key in (resting_key(sym, sell) for sym in (0, 1) for sell in (False, True)):
            if kept is not None:
                mine, other = kept.get(key, EMPTY_LEVELS), anew.get(key, EMPTY_LEVELS)
                assert sum(mine.leaves, ()) == sum(other.leaves, ())


# --- messages ---------------------------------------------------------------------------------------------------------------------


def test_cancels_are_counted_and_never_blocked() -> None:
    """RTS 6 Art. 15(1)(d): submits, modifications and cancels count."""
    rate = Rate(3, 1_000)
    s = at_mark(limits=Limits(message_rate=rate))
    first, second = s.working(BUY, 1, 90), s.working(BUY, 1, 91)
    s.replace(first, 2, 90)
    assert left(s.core.flow.messages, s.now, rate) == 0
    assert denial(s) == "message_rate"
    s.replace(second, 2, 91)
    assert s.one(Denied).code == "message_rate"
    s.cancel(second)
    assert not s.got(Denied)
    assert left(s.core.flow.messages, s.now, rate) == -1
    s.wait(334)
    assert denial(s) == "message_rate", "the cancel's token is owed"
    s.wait(333)
    assert denial(s) == ""
    assert denial(s, BUY, 2) == "message_rate"


def test_a_sweep_is_counted_and_owes_a_bucket_at_most() -> None:
    rate = Rate(2, 1_000)
    s = at_mark(limits=Limits(message_rate=rate))
    s.working(BUY, 1, 90)
    s.freeze()
    s.prove_empty()
    assert -2 <= left(s.core.flow.messages, s.now, rate) < 2
    for _ in range(3):
        s.freeze("")
        s.unfreeze(force=True)
    assert left(s.core.flow.messages, s.now, rate) >= -2


def test_an_override_of_the_rate_counts_for_messages_too() -> None:
    s = at_mark(limits=Limits(message_rate=Rate(1, 1_000)))
    put_override(s, Limits(message_rate=Rate(3, 1_000)))
    for amount in (1, 2, 3):
        assert denial(s, BUY, amount) == ""
    assert denial(s, BUY, 4) == "message_rate"


# --- the grid ---------------------------------------------------------------------------------------------------------------------


def test_the_least_value_is_judged_at_the_price_that_venues_take() -> None:
    s = defined(min_notional=usd(1_000))
    assert denial(s, SELL, 10, None, type=MARKET) == ""
    assert denial(s, SELL, "9.9", None, type=MARKET) == "min_notional"
    assert denial(s, SELL, "9.9", None, type=STOP_MARKET, stop_price=price(102)) == ""
    assert denial(s, SELL, "9.9", 102, type=STOP_LIMIT, stop_price=price(1)) == ""
    unpriced = defined(mark=None, min_notional=usd(1_000))
    assert denial(unpriced, BUY, 1, None, type=MARKET) == "no_mark_price", "without a price there is no value to judge"


def test_orders_that_say_reduce_only_may_be_worth_less() -> None:
    """Binance futures, error -4164."""
    s = holding(10)
    put_desk(s, instruments=defined(min_notional=usd(1_000)).core.desk.instruments)  # type: ignore[union-attr]
    assert denial(s, SELL, 1) == "min_notional"
    assert denial(s, SELL, 1, reduce_only=True) == ""


def test_the_least_value_of_an_inverse_contract_does_not_depend_on_the_price() -> None:
    s = defined(mark=None, inverse=True, multiplier=100 * 10**12, min_notional=usd(200))
    assert denial(s, BUY, "1.99", 50_000) == "min_notional"
    assert denial(s, BUY, 2, 1) == ""


def test_a_new_grid_leaves_open_orders_alone_and_judges_their_replaces() -> None:
    s = at_mark()
    key = s.working(BUY, 10, "100.3")
    before = s.order(key)
    put_desk(s, instruments=defined(tick=price("0.5")).core.desk.instruments)  # type: ignore[union-attr]
    assert s.order(key) == before
    s.replace(key, 11, "100.3")
    assert s.one(Denied).code == "off_tick"
    s.replace(key, 11, "100.5")
    assert not s.got(Denied)


def test_a_stop_price_off_the_grid_does_not_hold_up_a_replace_that_cannot_change_it() -> None:
    s = at_mark()
    key = s.working(BUY, 10, 120, type=STOP_LIMIT, stop_price=price("110.3"))
    put_desk(s, instruments=defined(tick=price("0.5")).core.desk.instruments)  # type: ignore[union-attr]
    s.replace(key, 10, 121)
    assert not s.got(Denied)


# --- the price --------------------------------------------------------------------------------------------------------------------


def test_a_position_of_unknown_value_is_not_worth_nothing() -> None:
    """Found here: an opening position without a mark counted as 0 until the first mark price came."""
    s = holding(50, None, limits=Limits(max_inventory_usd=usd(1_000)))
    assert denial(s, BUY, 1) == "no_mark_price"
    assert denial(s, SELL, 51) == "no_mark_price"
    assert denial(s, SELL, 5) == "", "working it off needs no price"
    assert denial(s, BUY, 1, symbol=ETH) == ""
    s.mark(100)
    assert denial(s, BUY, 1) == "max_inventory_usd"


def test_an_inverse_contract_is_worth_the_same_without_a_mark() -> None:
    s = defined(mark=None, inverse=True, multiplier=100 * 10**12)
    put_limits(s, Limits(max_inventory_usd=usd(1_000)))
    assert denial(s, SELL, "10.1", 5) == "max_inventory_usd"
    assert denial(s, SELL, 10, 5) == ""
    assert denial(s, SELL, 10, None, type=MARKET) == "no_mark_price", "what fills of it cost could not be told"


def test_the_first_denial_says_who_froze_and_why() -> None:
    s = Session()
    s.freeze(reason="the venue looks ill")
    s.ask()
    assert s.one(Denied).reason == "frozen, and open orders are being cancelled: manual by tester: the venue looks ill"
    assert not s.got(Place)


def test_a_freeze_by_nobody_is_not_said_to_be_ours() -> None:
    s = at_mark()
    s.feed(Freeze(s.now, "", Trigger.MANUAL, "looks odd", ""))
    s.prove_empty()
    s.ask()
    assert s.one(Denied).reason == "frozen: manual by nobody named: looks odd"
