"""What-if of a log. Goal: under the same configuration nothing differs; under another one, what differs is what the stated assumptions say.

Method: sessions of the real core are written as logs. Some are told by hand; others are random lives, for the property that an unchanged
configuration changes nothing, and that no log and no change makes it raise. What a lower limit denies is recomputed by a ledger of a few
lines that shares no code with the core. The simulation's logs, with all their faults, are read at the end.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import (
    Denied,
    Mode,
    OrdType,
    TimeInForce,
    Trigger,
    bps,
    client_order_id,
    price,
    qty,
    usd,
)
from haltcore.effects.values import SCALE
from haltcore.fsm.codec import EFFECTS, EVENTS
from haltcore.fsm.comparison import POINTS, SENT
from haltcore.fsm.config import Config
from haltcore.fsm.core import EMPTY
from haltcore.fsm.events import (
    ChangeLimits,
    MarkPrice,
    OrderReplaced,
)
from haltcore.fsm.invariants import broken_state
from haltcore.fsm.limits import LimitRule, Limits
from haltcore.fsm.record import record_line
from haltcore.fsm.replay import Source
from haltcore.fsm.step import step
from haltcore.fsm.verdict import Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.counterfactuals import (
    CHANGES,
    Life,
    Taped,
    assert_decided_alike,
    assert_nothing_differs,
    collapsing,
    compare,
    limits,
    log,
    other_mode,
    position,
    position_of,
    rulings,
    same,
    what_if,
)
from tests.helpers import BTC, BUY, SELL, SESSION
from tests.simulation.world import Plan, simulate


@pytest.mark.parametrize("block", range(4))
def test_an_unchanged_configuration_changes_nothing(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        session = Life(seed).session
        assert_nothing_differs(what_if(session, same, (40,) if seed % 5 == 0 else ()))


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_no_change_makes_any_life_fail(number: int) -> None:
    differed = 0
    for seed in range(25):
        found = what_if(Life(seed).session, CHANGES[number])
        differed += found.core != found.verdict.core
        assert found.core.seq == found.verdict.core.seq
        assert found.core.now_ns >= found.verdict.core.now_ns
    assert differed >= 5


def test_the_same_comparison_twice() -> None:
    session = Life(3).session
    assert what_if(session, CHANGES[0]) == what_if(session, CHANGES[0])


class Ledger:
    """What a lower limit on the inventory denies, in ten lines: long is position and all open buys, short the reverse, at the worse of
    their prices and the mark. All prices are whole."""

    def __init__(self, limit: int) -> None:
        self.limit, self.mark, self.position = limit, 100, 0
        self.open: dict[int, list[int]] = {}

    def submit(self, key: int, sign: int, amount: int, at: int) -> bool:
        """Whether the order passes; then it is open."""
        mine = [(left, limit) for s, left, limit in self.open.values() if s == sign] + [(amount, at)]
        value = max(sum(left * limit for left, limit in mine), sum(left for left, _ in mine) * self.mark)
        if sign * self.position * self.mark + value > self.limit:
            return False
        self.open[key] = [sign, amount, at]
        return True

    def fill(self, key: int, amount: int) -> None:
        """Part of it, if it is open here."""
        if key in self.open:
            sign, left, at = self.open[key]
            done = min(left, amount)
            self.position += sign * done
            self.open[key] = [sign, left - done, at]
            if left == done:
                del self.open[key]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.booleans(), st.integers(1, 20), st.integers(90, 110)),
        st.tuples(st.just("fill"), st.integers(0, 30), st.integers(1, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("mark"), st.integers(80, 120)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=60)
@given(ACTS, st.integers(500, 4_000))
def test_a_lower_limit_denies_what_the_ledger_says(acts: list[Any], limit: int) -> None:
    session, ledger = Taped(), Ledger(limit)
    session.mark(100)
    keys: list[int] = []
    denied = []
    for act, *rest in acts:
        if act == "submit":
            buys, amount, at = rest
            keys.append(session.working(BUY if buys else SELL, amount, at))
            if not ledger.submit(keys[-1], 1 if buys else -1, amount, at):
                denied.append(keys[-1])
        elif act == "mark":
            ledger.mark = rest[0]
            session.mark(rest[0])
        elif keys and (key := keys[rest[0] % len(keys)]) in session.core.orders:
            if act == "fill":
                amount = min(rest[1], session.order(key).leaves_qty // SCALE)
                ledger.fill(key, amount)
                session.fill(key, amount)
            else:
                ledger.open.pop(key, None)
                session.cancelled(key)
    found = what_if(session, limits(max_inventory_usd=usd(limit)))
    assert rulings(found) == [(key, SENT, "max_inventory_usd") for key in denied]
    assert position(found) == ledger.position
    assert sorted(found.core.orders) == sorted(ledger.open)
    assert found.supposed == 0
    assert found.other.denied == ((("max_inventory_usd", len(denied)),) if denied else ())
    assert found.first == (denied[0] if denied else 0)


def test_what_a_denied_order_did_counts_for_nothing() -> None:
    session = Taped()
    session.mark(100)
    small, large = session.working(amount=5), session.working(amount=50)
    session.fill(large, 20)
    session.replace(large, 60, 101)
    session.feed(OrderReplaced(session.now, session.client_id(large), "v9", qty(60), price(101)))
    session.cancel(large)
    session.cancelled(large, 25)
    session.fill(large, 1)
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    # The replace and the cancel of an order that is not there are refused, and no difference in the gate's judgement of an order.
    assert rulings(found) == [(large, SENT, "max_inventory_usd"), (large + 4, SENT, "unknown_order")]
    assert (position(found), position_of(session)) == (0, 25)
    assert list(found.core.orders) == [small]
    assert (found.other.sent, found.recorded.sent) == (1, 3)


def test_an_order_that_was_denied_in_the_log_is_open_and_never_fills() -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000"), edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    session.working(amount=5)
    session.ask(amount=50)
    denied = session.last
    session.mark(101)
    before_freeze = session.last
    session.edge("3")
    session.prove_empty()
    found = what_if(session, limits(max_inventory_usd=None))
    assert rulings(found) == [(denied, "max_inventory_usd", SENT)]
    assert (found.supposed, found.supposed_from, found.first) == (1, denied, denied)
    series = {point.record: point.other for point in found.series}
    assert series[before_freeze].open_orders == 2
    assert series[before_freeze].exposure == 55 * 101 * SCALE * SCALE
    # The freeze, which both runs have, cancels it.
    assert len(found.core.orders) == 0
    assert found.core.closed[denied].cum_qty == 0
    assert other_mode(found) is Mode.FROZEN


@pytest.mark.parametrize("fields", [{"tif": TimeInForce.IOC}, {"tif": TimeInForce.FOK}, {"type": "market"}])
def test_an_order_that_cannot_rest_expires(fields: dict[str, Any]) -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000")))
    session.mark(100)
    if fields.get("type") == "market":
        session.ask(amount=50, at=None, type=OrdType.MARKET)
    else:
        session.ask(amount=50, **fields)
    found = what_if(session, limits(max_inventory_usd=None))
    assert (found.supposed, len(found.core.orders), position(found)) == (1, 0, 0)


def test_another_reason_is_a_difference_too() -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000")))
    session.mark(100)
    session.ask(amount=50)
    found = what_if(session, limits(max_order_qty=qty(1)))
    assert rulings(found) == [(session.last, "max_inventory_usd", "max_order_qty")]
    assert found.rulings[0].client_id == client_order_id(SESSION, session.last)


def test_two_codes_are_counted_apart() -> None:
    session = Taped()
    session.mark(100)
    session.working(amount=5)
    session.ask(amount=50)
    session.ask(amount=3)
    found = what_if(session, limits(max_inventory_usd=usd("4000"), max_order_qty=qty(4)))
    assert found.other.denied == (("max_order_qty", 2),)
    assert found.recorded.denied == ()
    assert (found.other.sent, found.recorded.sent) == (1, 3)


def test_a_higher_threshold_freezes_earlier() -> None:
    session, at = collapsing()
    found = what_if(session, limits(edge_freeze_threshold_bps=bps("15")))
    (recorded,), (other,) = found.recorded.freezes, found.other.freezes
    assert (recorded.record, other.record, found.first) == (at["edge 3"], at["edge 14"], at["edge 14"])
    assert (other.scope, other.trigger) == (recorded.scope, Trigger.EDGE_COLLAPSE)
    assert "14" in other.reason
    # All that was open is cancelled at that instant: what the log tells of it later does not count.
    series = {point.record: point for point in found.series}
    assert series[at["edge 14"]].other.open_orders == 0
    assert series[at["edge 14"]].recorded.open_orders == 3
    assert found.core.closed[at["filled"]].cum_qty == qty(2)
    assert rulings(found) == [(at["after"], SENT, "frozen")]
    # The unfreeze of the log lifts this freeze as well, and both go on.
    assert position(found) == 2
    assert list(found.core.orders) == [at["later"]]
    assert other_mode(found) is Mode.ACTIVE
    assert found.supposed == 0


def test_a_freeze_that_never_came() -> None:
    session, at = collapsing()
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert found.other.freezes == ()
    assert found.first == at["edge 3"]
    assert rulings(found) == [(at["tried"], "frozen", SENT)]
    # What the recorded freeze cancelled is open here for good; so is the order that it denied.
    assert sorted(found.core.orders) == [at["before"], at["wire"], at["tried"], at["later"]]
    assert (found.supposed, found.supposed_from) == (3, at["edge 3"] + 1)
    assert position(found) == position_of(session) == 9


@pytest.mark.parametrize("threshold", ["15", None])
def test_the_same_with_a_store(threshold: str | None) -> None:
    session, at = collapsing(store=True)
    plain = what_if(collapsing()[0], limits(edge_freeze_threshold_bps=bps(threshold) if threshold else None))
    found = what_if(session, limits(edge_freeze_threshold_bps=bps(threshold) if threshold else None))
    assert [f.trigger for f in found.other.freezes] == [f.trigger for f in plain.other.freezes]
    assert position(found) == position(plain)
    assert len(found.core.orders) == len(plain.core.orders)
    assert other_mode(found) is Mode.ACTIVE
    assert at["later"] in found.core.orders


def test_a_change_of_limits_in_the_log_comes_on_top() -> None:
    session = Taped()
    session.mark(100)
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_inventory_usd=usd("5000"))), "ops", "more"))
    session.working(amount=30)
    session.ask(amount=30)
    assert session.codes() == ["max_inventory_usd"]
    found = what_if(session, limits(max_inventory_usd=usd("100")))
    assert_decided_alike(found)


def test_what_the_change_raises_is_passed_on() -> None:
    def refuse(config: Config) -> Config:
        raise KeyError(config.session)

    with pytest.raises(KeyError):
        compare(log(Taped().steps), refuse)


def test_segments_say_the_same_as_the_whole() -> None:
    session = Life(11).session
    whole = what_if(session, CHANGES[0])
    parted = what_if(session, CHANGES[0], (20, 21, 90))
    assert attrs.evolve(parted, verdict=whole.verdict) == whole


def test_a_later_segment_by_itself() -> None:
    session, at = collapsing()
    sources = log(session.steps, (at["edge 14"] - 1,))
    assert_nothing_differs(compare(sources[1:], same))
    found = compare(sources[1:], limits(edge_freeze_threshold_bps=bps("15")))
    assert [f.record for f in found.other.freezes] == [at["edge 14"]]
    assert (position(found), found.supposed) == (2, 0)


def test_a_torn_log_is_read_as_far_as_it_goes() -> None:
    session, _ = collapsing()
    (source,) = log(session.steps, seal=False)
    lines = list(source.chunks)
    torn = [Source("mm1", [*lines[:-1], lines[-1][:40]])]
    found = compare(torn, same)
    assert (found.verdict.kind, found.verdict.torn) == (Kind.SAME, 40)
    assert_nothing_differs(found)


def test_broken_and_divergent_logs_raise_nothing() -> None:
    session, at = collapsing()
    (source,) = log(session.steps)
    lines = list(source.chunks)
    broken_log = [Source("mm1", [*lines[:9], lines[9].replace(b"1", b"2", 1), *lines[10:]])]
    assert compare(broken_log, same).verdict.kind is Kind.BROKEN
    steps = list(session.steps)
    event, effects, core = steps[at["edge 14"] - 1]
    steps[at["edge 14"] - 1] = (event, (*effects, Denied((at["edge 14"], 9), "x", "y", BTC, 0, ())), core)
    assert compare(log(steps), same).verdict.kind is Kind.DIVERGED
    newer = lines[0].replace(b'"rules":', b'"rules":9', 1)
    assert compare([Source("mm1", [newer, *lines[1:]])], same).verdict.kind in (Kind.BROKEN, Kind.UNSUPPORTED)


def test_an_event_before_the_start_is_no_order() -> None:
    session = Taped()
    events = [MarkPrice(session.now, BTC, price(1)), *[event for event, _, _ in session.steps]]
    core, steps = EMPTY, []
    for event in events:
        core, effects = step(core, event)
        steps.append((event, effects, core))
    sources = log(session.steps)
    header = next(iter(sources[0].chunks))
    prev = header[-67:-3].decode()
    lines = [header]
    for event, effects, core in steps:
        line, prev = record_line(prev, core.seq, EVENTS.encode(event), EFFECTS.encode(effects), "")
        lines.append(line)
    assert_nothing_differs(compare([Source("mm1", lines)], same))


def test_the_series_is_short_and_ends_with_the_end() -> None:
    session = Taped()
    key = session.working(amount=3)
    for number in range(3 * POINTS):
        session.mark(50 + number % 97)
    session.fill(key, 3)
    found = what_if(session, limits(max_order_qty=qty(2)))
    assert POINTS // 2 <= len(found.series) <= POINTS + 1
    assert [point.record for point in found.series] == sorted({point.record for point in found.series})
    last = found.series[-1]
    assert (last.recorded, last.other) == (found.recorded.end, found.other.end)
    assert found.recorded.highest_exposure.value == 3 * 146 * SCALE * SCALE
    assert found.recorded.most_open.value == 1
    assert found.other.highest_exposure.value == found.other.most_open.value == 0
    assert all(point.recorded.exposure <= found.recorded.highest_exposure.value for point in found.series)


def test_gain_on_both_sides() -> None:
    session = Taped()
    session.mark(100)
    small, large = session.working(amount=2), session.working(amount=40)
    session.fill(small, 2)
    session.fill(large, 40)
    session.mark(90)
    worst = session.last
    session.mark(110)
    found = what_if(session, limits(max_order_qty=qty(10)))
    assert (found.recorded.end.gain, found.other.end.gain) == (420 * SCALE * SCALE, 20 * SCALE * SCALE)
    assert (found.recorded.lowest_gain.value, found.other.lowest_gain.value) == (-420 * SCALE * SCALE, -20 * SCALE * SCALE)
    assert (found.recorded.lowest_gain.record, found.other.lowest_gain.record) == (worst, worst)


@pytest.mark.parametrize("seed", range(12))
def test_logs_of_the_simulation(seed: int) -> None:
    """Crashes, faults, a store that fails, segments: under the same configuration nothing differs, under others nothing raises."""
    journal = simulate(Plan.of(seed)).journal
    sources = [Source(name, [data]) for name, data in journal.items()]
    assert_nothing_differs(compare(sources, same))
    for change in CHANGES:
        found = compare(sources, change)
        assert found.verdict.kind is Kind.SAME
        assert broken_state(found.core) == ()
        assert found.core.seq == found.verdict.last


def test_the_first_failure_is_the_one_that_is_told() -> None:
    session = Taped()
    session.restart()
    told: list[int] = []

    def refuse(config: Config) -> Config:
        told.append(len(told))
        raise ValueError(f"{config.session}, call {len(told)}")

    with pytest.raises(ValueError, match="call 1"):
        compare(log(session.steps), refuse)
    assert told == [0]


def test_a_change_in_the_log_replaces_what_was_supposed() -> None:
    session = Taped(limits=Limits(max_order_qty=qty(50), max_open_orders=9))
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_open_orders=8)), "ops", "x"))
    before = what_if(session, limits(max_open_orders=3, max_order_qty=qty(7), price_collar_bps=bps(5)))
    assert [(s.record, s.rule, s.figure, s.value) for s in before.superseded] == [
        (session.last, "account", "max_order_qty", "none"), (session.last, "account", "max_open_orders", "8"),
    ], "the collar was not changed in the log"  # fmt: skip
    assert before.superseded[0].at_ns == session.now
    first = session.last
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_open_orders=5)), "ops", "x"))
    again = what_if(session, limits(max_open_orders=3))
    assert [(s.record, s.value) for s in again.superseded] == [(first, "8")], "said once, when it begins"
    (late,) = what_if(session, limits(max_open_orders=8)).superseded
    assert (late.record, late.value) == (session.last, "5"), "the first change came to what was supposed, the second left it"
    assert what_if(session, same).superseded == ()


@pytest.mark.parametrize("midstream", [False, True])
def test_a_change_of_another_figure_leaves_what_was_supposed(midstream: bool) -> None:
    """The command says all figures of its rule as they were in the log; what it did not change there it does not change here."""
    session = Taped(limits=Limits(max_order_value=usd(1_000)))
    session.mark(100)
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_order_value=usd(1_000), max_open_orders=50)), "ops", "unrelated"))
    session.mark(101)
    first = session.last
    session.working(amount=5)
    sources = log(session.steps, (first,))
    found = compare(sources[1:] if midstream else sources, limits(max_order_value=usd(100)))
    assert [(ruling.recorded, ruling.other) for ruling in found.rulings] == [("sent", "max_order_value")]
    assert found.superseded == ()
    desk = found.core.desk
    assert desk is not None
    assert desk.rules[0].limits == Limits(max_order_value=usd(100), max_open_orders=50)


def test_what_another_rule_was_supposed_to_say_stands() -> None:
    session = Taped(limits=Limits(max_order_qty=qty(50)))
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_order_qty=qty(9)), symbol=BTC), "ops", "x"))
    assert what_if(session, limits(max_order_qty=qty(7))).superseded == ()


def test_a_log_that_begins_after_the_change() -> None:
    session = Taped(limits=Limits(max_order_qty=qty(50)))
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_order_qty=qty(9))), "ops", "x"))
    session.mark(100)
    session.mark(101)
    (late,) = compare(log(session.steps, (session.last - 1,))[1:], limits(max_order_qty=qty(7))).superseded
    assert (late.record, late.figure, late.value) == (session.last, "max_order_qty", "9")
