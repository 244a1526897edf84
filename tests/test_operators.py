"""Operators' commands: who may change what, what they leave to be seen, and that nothing they say can break the core.

Method: commands go through the real ``step``; each is looked at by what it answers and by the desk afterwards. A refused command must have
changed nothing but the record number. At the end every command is given every sort of value there is.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Alert, Notional, Price, Purpose, Rejected, SetTimer, Severity, Usd, price, qty, usd
from haltcore.fsm import operators
from haltcore.fsm.bucket import left
from haltcore.fsm.codec import STATE
from haltcore.fsm.config import Config
from haltcore.fsm.core import Day, Desk
from haltcore.fsm.events import (
    ChangeLimits,
    EndOverride,
    Event,
    InstrumentDefined,
    OperatorRefused,
    OverrideLimits,
    PositionRow,
    Reenable,
    Restrict,
    VerifyOverride,
    VolatilityBand,
)
from haltcore.fsm.exposure import gain_value
from haltcore.fsm.instrument import FREE, Contract, Instrument
from haltcore.fsm.invariants import broken
from haltcore.fsm.limits import MAX_MS, MAX_OVERRIDES, MAX_RULES, MS_PER_DAY, NO_LIMITS, LimitRule, Limits, Rate
from haltcore.fsm.step import step
from haltcore.fsm.thresholds import thresholds_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import BTC, BUY, ETH, MS, Session, config

MM = ("mm", "arb")


def session(**fields: Any) -> Session:
    """A session of two strategies."""
    return Session(**{"strategies": MM, **fields})


def desk(s: Session) -> Desk:
    assert s.core.desk is not None
    return s.core.desk


def rule(amount: int, symbol: str = "", strategy: str = "", **words: Any) -> LimitRule:
    return LimitRule(Limits(max_order_value=usd(amount)), symbol, strategy, **words)


def change(s: Session, changed: LimitRule, by: str = "alice", why: str = "a test") -> list[str]:
    s.feed(ChangeLimits(s.now, changed, by, why))
    return s.codes()


def override(s: Session, limits: Limits, for_ms: int = 1_000, symbol: str = "", strategy: str = "", by: str = "alice") -> list[str]:
    s.feed(OverrideLimits(s.now, symbol, strategy, limits, for_ms, by, "an auction"))
    return s.codes()


BOTH = Limits(max_order_value=usd(20))


def refuses(s: Session, event: Event, code: str) -> None:
    """The command is refused with this code, and changes nothing."""
    before = s.core
    s.feed(event)
    assert s.codes() == [code]
    assert attrs.evolve(s.core, seq=before.seq, now_ns=before.now_ns, touched=before.touched) == before


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_rule_is_changed_added_and_taken_away() -> None:
    s = session(limits=Limits(max_order_value=usd(5)))
    assert change(s, rule(7)) == ["limits_changed"]
    alert = s.one(Alert)
    assert (alert.severity, alert.text, alert.symbol) == (Severity.WARNING, "account: max_order_value 5 -> 7; by alice: a test", "")
    assert change(s, rule(9, BTC, "mm", band="high")) == ["limits_changed"]
    assert s.one(Alert).text == "strategy mm, symbol BTCUSDT, band high: max_order_value none -> 9; by alice: a test"
    assert desk(s).rules == (rule(7), rule(9, BTC, "mm", band="high"))
    assert change(s, LimitRule(NO_LIMITS, BTC, "mm", "high")) == ["limits_changed"]
    assert desk(s).rules == (rule(7),)
    assert change(s, LimitRule(NO_LIMITS)) == ["limits_changed"]
    assert desk(s).rules == (LimitRule(NO_LIMITS),), "the account's rule stays, without a figure"
    assert s.core.desk is not None
    assert s.core.desk.config.limits.max_order_value == usd(5), "the configuration is what it was"


def test_the_triggers_follow_the_rules() -> None:
    s = session()
    change(s, LimitRule(Limits(max_daily_loss=usd(5), feed_lost_ms=7), BTC))
    assert desk(s).thresholds == thresholds_of(desk(s).rules, desk(s).index, desk(s).owners)
    assert desk(s).thresholds.losses[1] == usd(5)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (LimitRule(Limits(max_order_value=usd(5))), "no_change"),
        (LimitRule(Limits(max_order_value=usd(5)), from_minute=5, to_minute=5), "no_change"),
        (LimitRule(NO_LIMITS, BTC), "unknown_rule"),
        (rule(5, "XRPUSDT"), "invalid_limits"),
        (rule(5, strategy="nobody"), "invalid_limits"),
        (LimitRule(Limits(max_order_value=Usd(-1))), "invalid_limits"),
        (LimitRule(Limits(message_rate=Rate(1, 1)), BTC), "invalid_limits"),
        (LimitRule(Limits(max_order_value=usd(5)), from_minute=1_440), "invalid_limits"),
    ],
)
def test_a_change_that_is_none_or_wrong_is_refused(changed: LimitRule, code: str) -> None:
    s = session(limits=Limits(max_order_value=usd(5)))
    refuses(s, ChangeLimits(s.now, changed, "alice", "a test"), code)


def test_there_are_not_endlessly_many_rules() -> None:
    s = session(rules=tuple(rule(5, band=f"b{n}") for n in range(MAX_RULES - 1)))
    refuses(s, ChangeLimits(s.now, rule(5, BTC), "alice", "a test"), "too_many_rules")
    assert change(s, rule(6, band="b7")) == ["limits_changed"], "a change adds none"


@pytest.mark.parametrize("late_ms", [0, 1, 250, 5_000])
def test_a_rate_ends_with_its_override_however_late_the_timer_is(late_ms: int) -> None:
    """The bucket of messages is what it would be if the timer had come to the moment, whatever happens before it does."""
    buckets = []
    for wait in (0, late_ms):
        s = session(limits=Limits(message_rate=Rate(10, 1_000)))
        override(s, Limits(message_rate=Rate(1_000, 1_000)))
        timer = s.one(SetTimer)
        s.wait(999)
        for number in range(4):
            s.submit(amount=number + 1, strategy="mm")
        s.wait(1)
        if not wait:
            s.fire(timer)
        for number in range(3):
            s.submit(amount=number + 10, strategy="mm")
        s.wait(late_ms)
        if wait:
            s.fire(timer)
        s.submit(amount=99, strategy="mm")
        buckets.append(s.core.flow.messages)
    assert buckets[0] == buckets[1]
    assert left(buckets[1], s.now, Rate(10, 1_000)) >= 2


def test_a_tight_override_that_is_over_gives_no_second_bucket() -> None:
    s = session(limits=Limits(message_rate=Rate(20, 3_600_000)))
    override(s, Limits(message_rate=Rate(1, 10_000)))
    timer = s.one(SetTimer)
    s.wait(1_001)
    for number in range(20):
        s.submit(amount=number + 1, strategy="mm")
    s.fire(timer)
    s.ask(amount=50, strategy="mm")
    assert s.codes() == ["message_rate"]


def test_two_overrides_that_end_within_one_step_end_one_after_the_other() -> None:
    s = session(limits=Limits(message_rate=Rate(10, 10_000)))
    override(s, Limits(message_rate=Rate(100, 100_000)), 2_000)
    override(s, Limits(message_rate=Rate(10, 1_000)), 1_000)
    s.wait(950)
    for number in range(10):
        s.submit(amount=number + 1, strategy="mm")
    s.wait(1_550)
    s.mark(100)
    assert left(s.core.flow.messages, s.now, Rate(10, 10_000)) == 2, "10 - 10 + 0.5 until the second ended, + 1 until the first, + 0.5"


def test_a_rate_that_is_changed_keeps_what_was_taken() -> None:
    s = session(limits=Limits(message_rate=Rate(10, 3_600_000)))
    for _ in range(4):
        s.submit(strategy="mm")
    change(s, LimitRule(Limits(message_rate=Rate(100, 1_000))))
    assert left(s.core.flow.messages, s.core.now_ns, Rate(100, 1_000)) == 96
    override(s, Limits(message_rate=Rate(5, 60_000)))
    assert left(s.core.flow.messages, s.core.now_ns, Rate(5, 60_000)) == 1
    s.fire(purpose=Purpose.OVERRIDE)
    assert s.codes() == ["override_expired"]
    assert left(s.core.flow.messages, s.core.now_ns, Rate(100, 1_000)) == 96


def test_with_two_persons_one_may_only_tighten() -> None:
    """Otherwise a change at once would be the way round the second person."""
    figures = Limits(max_order_value=usd(5), duplicate_window_ms=100, prevent_self_match=True)
    s = session(two_persons=True, limits=figures, rules=(rule(9, BTC), rule(3, strategy="mm")))
    for wider in (
        LimitRule(attrs.evolve(figures, max_order_value=usd(6))), LimitRule(attrs.evolve(figures, max_order_value=None)),
        LimitRule(attrs.evolve(figures, duplicate_window_ms=99)), LimitRule(attrs.evolve(figures, prevent_self_match=False)),
        LimitRule(NO_LIMITS), rule(10, BTC), rule(6, ETH), rule(4, strategy="mm"), LimitRule(NO_LIMITS, strategy="mm"),
    ):  # fmt: skip
        refuses(s, ChangeLimits(s.now, wider, "alice", "a test"), "two_persons")
    refuses(s, ChangeLimits(s.now, rule(6, ETH), "alice", "a test"), "two_persons")
    reason = s.one(Rejected).reason
    assert reason.startswith("symbol ETHUSDT: max_order_value would allow more"), "6 instead of the account's 5"
    for tighter in (
        LimitRule(attrs.evolve(figures, max_order_value=usd(4))), LimitRule(NO_LIMITS, BTC), rule(1, BTC, "mm"), rule(2, strategy="mm"),
        rule(1, ETH, band="high"), rule(3, ETH),
    ):  # fmt: skip
        assert change(s, tighter) == ["limits_changed"]


# --- overrides -------------------------------------------------------------------------------------------------------


def test_an_override_has_force_until_it_expires() -> None:
    s = session()
    assert override(s, BOTH, 1_000, BTC, "mm") == ["override_active"]
    text = f"override {s.core.seq} strategy mm, symbol BTCUSDT: max_order_value none -> 20 for 1000 ms; by alice: an auction"
    assert (s.one(Alert).severity, s.one(Alert).text, s.one(Alert).symbol) == (Severity.WARNING, text, BTC)
    (held,) = desk(s).overrides
    timer = s.one(SetTimer)
    assert (held.id, held.until_ns, held.verified_by, held.timer) == (s.core.seq, s.now + 1_000 * MS, "alice", timer.id)
    assert (timer.purpose, timer.key, timer.due_ns) == (Purpose.OVERRIDE, held.id, held.until_ns)
    s.fire(timer)
    assert s.codes() == ["override_expired"]
    assert desk(s).overrides == ()
    s.fire(timer)
    assert s.effects == (), "a stale timer says nothing"


@pytest.mark.parametrize(
    ("symbol", "strategy", "held"),
    [(BTC, "", "700"), (ETH, "", "500"), ("", "", "500"), ("", "mm", "90"), (ETH, "mm", "none")],
)
def test_an_override_says_what_held_before(symbol: str, strategy: str, held: str) -> None:
    figures = Limits(max_order_value=usd(500), max_open_orders=3)
    s = session(limits=figures, rules=(rule(700, BTC), rule(90, strategy="mm"), rule(1, band="high"), rule(2, BTC, "arb", band="high")))
    override(s, BOTH, symbol=symbol, strategy=strategy)
    assert f": max_order_value {held} -> 20 for 1000 ms; " in s.one(Alert).text
    override(s, Limits(max_order_value=usd(30)), symbol=symbol, strategy=strategy)
    assert ": max_order_value 20 -> 30 for 1000 ms; " in s.one(Alert).text, "an override is replaced by a later one"


def test_a_time_that_is_too_long_is_told_in_days() -> None:
    s = session()
    for for_ms, days in ((400 * MS_PER_DAY, "400"), (MAX_MS + 1, "367")):
        s.feed(OverrideLimits(s.now, "", "", BOTH, for_ms, "alice", "an auction"))
        assert s.one(Rejected).reason == f"for_ms: {days} days are too long for an override; give at most 366"


def test_a_timer_that_comes_early_is_set_again() -> None:
    s = session()
    override(s, BOTH)
    timer = s.one(SetTimer)
    s.fire(attrs.evolve(timer, due_ns=timer.due_ns - 1))
    assert s.one(SetTimer).due_ns == timer.due_ns
    assert desk(s).overrides[0].timer == s.one(SetTimer).id


def test_with_two_persons_another_one_has_to_agree() -> None:
    s = session(two_persons=True)
    assert override(s, BOTH, 1_000) == ["override_pending"]
    number = s.core.seq
    assert desk(s).overrides[0].verified_by == ""
    for same in ("alice", " Alice ", "ALICE"):
        refuses(s, VerifyOverride(s.now, number, same), "same_person")
    refuses(s, VerifyOverride(s.now, number, " "), "who_and_why")
    refuses(s, VerifyOverride(s.now, number + 1, "bob"), "unknown_override")
    s.wait(999)
    s.feed(VerifyOverride(s.now, number, "bob"))
    assert s.codes() == ["override_active"]
    assert s.one(Alert).text == f"override {number} verified by bob; by alice: an auction"
    assert (desk(s).overrides[0].verified_by, desk(s).overrides[0].until_ns) == ("bob", s.now + MS), "it counts from the request on"
    refuses(s, VerifyOverride(s.now, number, "carol"), "no_change")


def test_what_has_expired_can_not_be_verified() -> None:
    s = session(two_persons=True)
    override(s, BOTH, 1_000)
    number = s.core.seq
    s.wait(1_000)
    refuses(s, VerifyOverride(s.now, number, "bob"), "unknown_override")


def test_one_person_s_word_is_enough_where_two_are_not_demanded() -> None:
    s = session()
    override(s, BOTH)
    refuses(s, VerifyOverride(s.now, s.core.seq, "bob"), "no_change")


@pytest.mark.parametrize("two_persons", [False, True])
def test_an_override_ends_early(two_persons: bool) -> None:
    s = session(two_persons=two_persons)
    override(s, BOTH)
    number, timer = s.core.seq, s.one(SetTimer)
    refuses(s, EndOverride(s.now, number + 1, "bob", "done"), "unknown_override")
    s.feed(EndOverride(s.now, number, "bob", "done"))
    assert s.codes() == ["override_ended"]
    assert s.one(Alert).text == f"override {number} ended by bob: done"
    assert desk(s).overrides == ()
    s.fire(timer)
    assert s.effects == ()


@pytest.mark.parametrize(
    ("limits", "words", "for_ms", "code"),
    [
        (NO_LIMITS, (), 1_000, "invalid_limits"),
        (Limits(max_order_value=Usd(5)), (), 1_000, "invalid_limits"),
        (Limits(max_total_notional=usd(5)), (BTC, ""), 1_000, "invalid_limits"),
        (BOTH, ("XRPUSDT", ""), 1_000, "invalid_limits"),
        (BOTH, (BTC, "nobody"), 1_000, "invalid_limits"),
        (BOTH, (), 0, "invalid_duration"),
        (BOTH, (), -5, "invalid_duration"),
        (BOTH, (), MAX_MS + 1, "invalid_duration"),
        (BOTH, (), 10**5000, "invalid_duration"),
    ],
    ids=lambda part: "" if isinstance(part, int) else str(part)[:30],
)
def test_an_override_that_is_wrong_is_refused(limits: Limits, words: tuple[str, ...], for_ms: int, code: str) -> None:
    s = session()
    refuses(s, OverrideLimits(s.now, *(words or ("", "")), limits, for_ms, "alice", "a test"), code)


def test_there_are_not_endlessly_many_overrides() -> None:
    s = session()
    for _ in range(MAX_OVERRIDES):
        override(s, BOTH)
    refuses(s, OverrideLimits(s.now, "", "", BOTH, 5, "alice", "one more"), "too_many_overrides")
    s.feed(EndOverride(s.now, s.core.seq - 1, "alice", "room"))
    assert override(s, BOTH) == ["override_active"]


# --- the restricted list and the throttle -----------------------------------------------------------------------------


def test_the_restricted_list() -> None:
    s = session(restricted=(ETH,))
    assert dict(desk(s).restricted) == {1: 0}
    s.feed(Restrict(s.now, BTC, True, "alice", "an insider"))
    assert (s.codes(), s.one(Alert).severity, s.one(Alert).symbol) == (["restricted"], Severity.INFO, BTC)
    assert s.one(Alert).text == "BTCUSDT is restricted by alice: an insider"
    assert dict(desk(s).restricted) == {1: 0, 0: s.core.seq}
    refuses(s, Restrict(s.now, BTC, True, "alice", "again"), "no_change")
    s.feed(Restrict(s.now, ETH, False, "alice", "published"))
    assert (s.codes(), s.one(Alert).severity) == (["unrestricted"], Severity.WARNING)
    refuses(s, Restrict(s.now, ETH, False, "alice", "again"), "no_change")
    refuses(s, Restrict(s.now, "XRPUSDT", True, "alice", "a test"), "unknown_symbol")


@pytest.mark.parametrize(("strategy", "owner", "whose"), [("", 0, "the account"), ("arb", 2, "strategy arb")])
def test_who_was_throttled_is_let_again(strategy: str, owner: int, whose: str) -> None:
    rate = Limits(execution_rate=Rate(2, 60_000))
    s = session(rules=(LimitRule(rate, strategy="arb"),), limits=rate)
    refuses(s, Reenable(s.now, strategy, "alice", "a test"), "not_throttled")
    key = s.working(BUY, 10, strategy="arb")
    for _ in range(3):
        s.fill(key, 1)
    assert sorted(desk(s).throttled) == [0, 2]
    s.feed(Reenable(s.now, strategy, "alice", "it was an auction"))
    assert s.codes() == ["reenabled"]
    assert s.one(Alert).text == f"{whose} may trade again, by alice: it was an auction"
    assert owner not in desk(s).throttled
    s.fill(key, 1)
    assert owner not in desk(s).throttled, "the count begins anew"
    refuses(s, Reenable(s.now, "nobody", "alice", "a test"), "unknown_strategy")


def test_who_was_refused_is_seen() -> None:
    s = session()
    before = desk(s)
    s.feed(OperatorRefused(s.now, "unfreeze", "", "no token"))
    assert (s.codes(), s.one(Alert).text) == (["operator_refused"], "unfreeze of nobody: no token")
    assert desk(s) == before


WORDLESS: list[tuple[Any, tuple[Any, ...]]] = [
    (ChangeLimits, (rule(5),)),
    (OverrideLimits, ("", "", BOTH, 1_000)),
    (EndOverride, (5,)),
    (Restrict, (BTC, True)),
    (Reenable, ("",)),
]


@pytest.mark.parametrize(("kind", "fields"), WORDLESS, ids=lambda part: getattr(part, "__name__", ""))
@pytest.mark.parametrize(("by", "why"), [("", "a test"), ("alice", ""), (" ", "a test"), ("alice", "\t\n")])
def test_no_command_without_who_and_why(kind: Any, fields: tuple[Any, ...], by: str, why: str) -> None:
    s = session()
    refuses(s, kind(s.now, *fields, by, why), "who_and_why")


# --- reference data --------------------------------------------------------------------------------------------------

PERP = Instrument(price("0.1"), qty("0.001"), multiplier=qty("0.001"))


def define(s: Session, instrument: Instrument, symbol: str = BTC) -> list[str]:
    s.feed(InstrumentDefined(s.now, symbol, instrument))
    return s.codes()


def test_an_instrument_is_defined_and_its_grid_may_change_while_orders_are_open() -> None:
    s = session()
    assert define(s, PERP) == []
    s.submit(BUY, 1, 100, strategy="mm")
    finer = attrs.evolve(PERP, tick=price("0.01"), max_qty=qty(5))
    assert define(s, finer) == []
    assert desk(s).instruments[0] == finer
    assert [s.core.books[key].contract for key in (0, 1 << 16)] == [PERP.contract] * 2


@pytest.mark.parametrize("done", [False, True])
def test_the_contract_is_fixed_once_there_was_an_order(done: bool) -> None:
    s = session()
    key = s.working(strategy="mm")
    if done:
        s.cancelled(key)
    refuses(s, InstrumentDefined(s.now, BTC, PERP), "instrument_in_use")
    assert define(s, PERP, ETH) == []
    assert define(s, attrs.evolve(PERP, multiplier=qty(1))) == [], "the grid alone is no contract"


def test_a_wrong_definition_is_refused() -> None:
    s = session()
    refuses(s, InstrumentDefined(s.now, "XRPUSDT", PERP), "unknown_symbol")
    refuses(s, InstrumentDefined(s.now, BTC, attrs.evolve(PERP, tick=Price(-1))), "invalid_instrument")


@pytest.mark.parametrize("contract", [Contract(qty("0.001"), False), Contract(qty(100), True), Contract(qty(7), False)])
def test_a_position_from_before_us_keeps_its_result(contract: Contract) -> None:
    s = Session(ready=False)
    s.answer_stock(positions=(PositionRow(BTC, qty(-3), price(50)),))
    s.mark(45)
    assert s.core.account.gain == qty(15) * 10**12
    define(s, attrs.evolve(FREE, multiplier=contract.multiplier, inverse=contract.inverse))
    assert s.core.books[0].contract == contract
    assert abs(s.core.account.gain) < 10**4, "the result in other units begins anew"
    days = s.core.flow.days
    for scope in (0, 1):
        day = days.get(scope, Day(Notional(0), Notional(0)))
        gain = s.core.account.gain if scope == 0 else gain_value(s.core.books[0])
        assert day.base - gain == -qty(15) * 10**12, "and the day's is what it was"


def test_a_definition_before_the_position_and_after_it_come_to_the_same() -> None:
    books = []
    for first in (True, False):
        s = Session(ready=False)
        asked = s.effects
        if first:
            define(s, PERP)
        s.effects = asked
        s.answer_stock(positions=(PositionRow(BTC, qty(-3), price(50)),))
        if not first:
            define(s, PERP)
        books.append((s.core.books[0], s.core.account))
        assert s.core.account.worst == qty(3) * price(50) // 1_000
    assert books[0] == books[1]


def test_bands() -> None:
    s = session()
    s.feed(VolatilityBand(s.now, BTC, "high"))
    assert dict(desk(s).bands) == {0: "high"}
    s.feed(VolatilityBand(s.now, "", "low"))
    assert dict(desk(s).bands) == {0: "low", 1: "low"}
    s.feed(VolatilityBand(s.now, BTC, ""))
    s.feed(VolatilityBand(s.now, BTC, ""))
    assert dict(desk(s).bands) == {1: "low"}
    s.feed(VolatilityBand(s.now, "", ""))
    assert dict(desk(s).bands) == {}
    assert s.effects == ()
    refuses(s, VolatilityBand(s.now, "XRPUSDT", "high"), "unknown_symbol")
    for nameless in ("\n", "x" * 65, "\ud800"):
        refuses(s, VolatilityBand(s.now, BTC, nameless), "invalid_band")


# --- restart ---------------------------------------------------------------------------------------------------------


def changed_session(**fields: Any) -> Session:
    """A session in which operators have changed everything they can."""
    s = session(limits=Limits(max_order_value=usd(5)), **fields)
    change(s, rule(7))
    change(s, rule(9, BTC))
    override(s, BOTH)
    s.feed(Restrict(s.now, BTC, True, "alice", "a test"))
    s.feed(VolatilityBand(s.now, "", "high"))
    define(s, PERP)
    return s


def test_a_restart_keeps_what_operators_and_the_market_said() -> None:
    s = changed_session()
    before = desk(s)
    s.restart()
    after = desk(s)
    kept = ("rules", "thresholds", "bands", "restricted", "instruments", "throttled")
    assert {name: getattr(after, name) for name in kept} == {name: getattr(before, name) for name in kept}
    (old,), (new,) = before.overrides, after.overrides
    assert attrs.evolve(new, timer=None) == attrs.evolve(old, timer=None)
    (timer,) = [timer for timer in s.got(SetTimer) if timer.purpose is Purpose.OVERRIDE]
    assert (timer.id, timer.due_ns, timer.key) == (new.timer, old.until_ns, old.id)


def test_an_override_that_expired_while_nobody_ran_is_cleared_away() -> None:
    s = changed_session()
    s.wait(5_000)
    s.restart()
    (timer,) = [timer for timer in s.got(SetTimer) if timer.purpose is Purpose.OVERRIDE]
    assert timer.due_ns == s.now
    s.fire(timer)
    assert s.codes() == ["override_expired"]


@pytest.mark.parametrize("fields", [{"limits": Limits(max_order_value=usd(6))}, {"rules": (rule(3, ETH),)}])
def test_a_configuration_with_other_limits_replaces_those_of_the_run(fields: dict[str, Any]) -> None:
    s = changed_session()
    conf = attrs.evolve(s.config, **fields)
    s.restart(conf)
    assert desk(s).rules == (LimitRule(conf.limits), *conf.rules)
    assert desk(s).thresholds == thresholds_of(desk(s).rules, desk(s).index, desk(s).owners)
    assert len(desk(s).overrides) == 1
    assert 0 in desk(s).restricted


def carried(before: Config, after: Config, **fields: Any) -> Desk:
    """What a restart from one configuration to the other carries over from a desk."""
    return operators.carried_over(attrs.evolve(desk(Session(before)), **fields), desk(Session(after)))


def test_newly_restricted_symbols_are_and_others_stay() -> None:
    before, after = config(restricted=(BTC,)), config(symbols=(BTC, ETH, "XRPUSDT"), restricted=(BTC, "XRPUSDT"))
    from_start = carried(before, after).restricted
    assert dict(from_start) == {0: 0, 2: 0}
    lifted = carried(before, after, restricted=from_start.delete(0).delete(2)).restricted
    assert dict(lifted) == {2: 0}, "what an operator has lifted, the same configuration does not restrict again"


def test_an_override_of_one_person_waits_when_two_are_demanded_from_now_on() -> None:
    s = changed_session()
    s.restart(attrs.evolve(s.config, two_persons=True))
    (held,) = desk(s).overrides
    assert held.verified_by == ""
    s.feed(VerifyOverride(s.now, held.id, "bob"))
    assert s.codes() == ["override_active"]


# --- whatever comes --------------------------------------------------------------------------------------------------

TEXT = st.sampled_from(["", " ", "alice", "bob", "mm", BTC, "XRPUSDT", "high", "\n", "x" * 65])
NUMBER = st.integers(-2, 12) | st.sampled_from([2**63, -(2**63), 10**28, 10**5000, -(10**5000)])
AMOUNT = NUMBER | st.sampled_from([usd(5), usd(10**15)])
LIMITS = st.builds(
    Limits, *[st.none() | AMOUNT] * 10, st.none() | st.builds(Rate, NUMBER, NUMBER), st.none() | st.builds(Rate, NUMBER, NUMBER),
    st.none() | NUMBER, st.booleans(),
)  # fmt: skip
MEANT = st.builds(LimitRule, LIMITS | st.just(BOTH), TEXT, TEXT, TEXT, NUMBER, NUMBER)
AT = st.integers(10**18, 10**18 + 10**10)
EVENTS: Any = st.one_of(
    st.builds(ChangeLimits, AT, MEANT, TEXT, TEXT),
    st.builds(OverrideLimits, AT, TEXT, TEXT, LIMITS | st.just(BOTH), NUMBER, TEXT, TEXT),
    st.builds(VerifyOverride, AT, NUMBER, TEXT),
    st.builds(EndOverride, AT, NUMBER, TEXT, TEXT),
    st.builds(Restrict, AT, TEXT, st.booleans(), TEXT, TEXT),
    st.builds(Reenable, AT, TEXT, TEXT, TEXT),
    st.builds(OperatorRefused, AT, TEXT, TEXT, TEXT),
    st.builds(InstrumentDefined, AT, TEXT, st.builds(Instrument, *[AMOUNT] * 6, st.booleans())),
    st.builds(VolatilityBand, AT, TEXT, TEXT),
)


@settings(max_examples=150)
@given(st.lists(EVENTS, max_size=12), st.booleans())
def test_nothing_that_is_said_breaks_the_core(events: list[Event], two_persons: bool) -> None:
    core = session(two_persons=two_persons).core
    for event in events:
        core, effects = step(core, event)
        assert len(effects) <= 3
    assert STATE.decode(STATE.encode(core)) == attrs.evolve(core, touched=())


def test_a_canary_a_second_person_who_is_the_first_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_same_person", lambda *_: False)
    s = session(two_persons=True)
    override(s, BOTH)
    event = VerifyOverride(s.now, s.core.seq, " Alice")
    core, effects = step(s.core, event)
    assert [fault.partition(":")[0] for fault in broken(s.core, event, core, effects)] == ["SAFE-14"]
