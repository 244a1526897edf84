"""A configuration that exists can run; one that cannot is refused with all its faults, each with its path and what to give instead.

Method: every field of every class in a configuration is broken in each way it can be, alone and together, and given values of wrong types;
each must come back as exactly one fault at that path, and never as another exception. The edges of what runs must pass.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
import pytest
from haltcore.effects import Bps, Usd, bps, qty, usd
from haltcore.fsm.config import (
    MAX_STRATEGIES,
    MAX_SYMBOLS,
    BreakerPolicy,
    Config,
    ConfigRefused,
    CoolDown,
    ForeignPolicy,
    FreezeClass,
    StorePolicy,
    SweepPolicy,
    Triggers,
    VenueTraits,
    config_faults,
)
from haltcore.fsm.limits import MAX_MS, MAX_RULES, LimitRule, Limits, Rate

COOL = CoolDown(FreezeClass.NETWORK, 60_000, 600_000)
GOOD = Config(
    "abcdefg", ("BTCUSDT", "ETHUSDT"), rules=(LimitRule(Limits(max_order_value=usd(5)), "BTCUSDT", "mm"),), strategies=("mm",),
    triggers=Triggers(cool_downs=(COOL,)),
)  # fmt: skip


def broken(path: str, value: object) -> Config:
    """GOOD with one field changed; ``path`` is such as ``sweep.attempts`` or ``rules[0].limits``."""
    return attrs.evolve(GOOD, **_changed(GOOD, path, value))


def _changed(part: Any, path: str, value: object) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    name, listed, _ = name.partition("[")
    old = getattr(part, name)
    if not rest:
        return {name: (value,) if listed else value}
    inner = old[0] if listed else old
    new = attrs.evolve(inner, **_changed(inner, rest, value))
    return {name: (new,) if listed else new}


def faults_of(path: str, value: object) -> list[str]:
    """The faults that a change brings."""
    with pytest.raises(ConfigRefused) as refusal:
        broken(path, value)
    assert str(refusal.value) == "the configuration cannot run:\n  " + "\n  ".join(refusal.value.problems)
    return list(refusal.value.problems)


def test_the_defaults_run_and_are_those_of_the_design() -> None:
    assert config_faults(GOOD) == []
    sweep = GOOD.sweep
    assert (sweep.lease_wait_ms, sweep.deadline_ms, sweep.base_ms, sweep.cap_ms) == (250, 10_000, 200, 5_000)
    assert (sweep.attempts, sweep.empty_snapshots) == (7, 2)
    assert (GOOD.store.lease_ttl_ms, GOOD.store.lease_renew_ms, GOOD.store.configured) == (30_000, 10_000, False)
    bare = Config("abcdefg", ("BTCUSDT",))
    assert (bare.limits, bare.rules, bare.triggers, bare.two_persons) == (Limits(), (), Triggers(), False)


MONEY = ("max_inventory_usd", "max_total_notional", "max_order_value", "max_daily_loss", "max_drawdown")
TIMES = (
    "sweep.deadline_ms", "sweep.base_ms", "sweep.cap_ms", "store.lease_ttl_ms", "store.lease_renew_ms", "store.latch_poll_ms",
    "evidence_ms", "venue_lost_ms",
)  # fmt: skip

COUNTS = ("max_open_orders", "feed_lost_ms", "duplicate_window_ms")

FAULTS: list[tuple[str, object, str]] = [
    *(("session", value, "is no tag; give 7 characters") for value in ("ABCDEFG", "", 1234567, None)),
    ("symbols", (), "0 of them; name 1 to 65536, such as BTCUSDT"),
    ("symbols", "BTCUSDT", "'BTCUSDT' is a str; give a tuple"),
    ("symbols", ["BTCUSDT"], "['BTCUSDT'] is a list; give a tuple"),
    ("symbols", tuple(f"S{n}" for n in range(MAX_SYMBOLS + 1)), "65537 of them; name 1 to 65536"),
    ("symbols", ("BTCUSDT", "B", "BTCUSDT"), "'BTCUSDT' is named twice; name it once"),
    *(("symbols", ("BTCUSDT", bad), "is no name; give printable text") for bad in ("", "A" * 65, ["A"], "venue", "strategy:mm", "a\n", 5)),
    ("strategies", "mm", "'mm' is a str; give a tuple"),
    ("strategies", ("mm", ""), "'' is no name"),
    ("strategies", ("mm", "mm"), "'mm' is named twice"),
    ("strategies", ("mm", *(f"mm{n}" for n in range(MAX_STRATEGIES))), "32769 of them"),
    ("restricted", "BTCUSDT", "'BTCUSDT' is a str; give a tuple"),
    ("restricted", (5,), "5 is no name"),
    ("restricted", ("XRPUSDT",), "'XRPUSDT' is not among the symbols"),
    ("restricted", ("BTCUSDT", "BTCUSDT"), "'BTCUSDT' is named twice"),
    ("limits", None, "None is a NoneType; give Limits("),
    *((f"limits.{name}", 0, "0 is not above 0; give usd(") for name in MONEY),
    *((f"limits.{name}", 1000.0, "1000.0 is a float; give usd(") for name in MONEY),
    ("limits.max_total_notional", "1000", "'1000' is a str; give usd("),
    ("limits.max_total_notional", Usd(5), "is next to nothing; amounts are scaled, give usd(\"5\")"),
    ("limits.max_total_notional", 10**28, "above the largest amount"),
    ("limits.max_total_notional", 10**5000, "above the largest amount"),
    ("limits.max_order_qty", -qty(1), "-1 is not above 0; give qty("),
    ("limits.price_collar_bps", True, "True is a bool; give bps("),
    ("limits.edge_freeze_threshold_bps", 5.0, "5.0 is a float; give bps("),
    ("limits.edge_freeze_threshold_bps", Bps(-5), "give bps(\"-5\")"),
    *((f"limits.{name}", bad, "is no whole number") for name in COUNTS for bad in (0, "5")),
    *((f"limits.{name}", 100, "100 is a int; give Rate(") for name in ("message_rate", "execution_rate")),
    ("limits.message_rate", Rate(0, 1_000), "a count of 0 is no whole number"),
    ("limits.message_rate", Rate(10**9 + 1, 1_000), "a count of 1000000001"),
    ("limits.message_rate", Rate(5, 1.5), "1.5 is no whole number of milliseconds"),  # type: ignore[arg-type]
    ("limits.prevent_self_match", 1, "1 is neither True nor False"),
    ("limits.prevent_self_match", None, "None is neither True nor False"),
    ("rules", [], "[] is a list; give a tuple of LimitRule"),
    ("rules", (LimitRule(Limits(max_open_orders=1), "BTCUSDT"),) * MAX_RULES, "4096; give at most 4095"),
    ("rules[0]", 5, "5 is a int; give a LimitRule("),
    ("rules[0].limits", None, "None is a NoneType; give Limits("),
    ("rules[0].limits", Limits(), "there is no figure in it"),
    ("rules[0].symbol", "XRPUSDT", "'XRPUSDT' is not among the symbols"),
    ("rules[0].symbol", None, "None is no printable text"),
    ("rules[0].strategy", "arb", "'arb' is not among the strategies"),
    ("rules[0].band", 7, "7 is no printable text"),
    ("rules[0].from_minute", 1_440, "1440 is no minute of the day; give 0 to 1439"),
    ("rules[0].to_minute", "09:00", "'09:00' is no minute of the day"),
    ("venue", 5, "5 is a int; give VenueTraits("),
    ("venue.batch", -1, "-1 is out of range; give 0 to"),
    ("venue.place_expiry_ms", -1, "-1 is out of range"),
    ("venue.cancel_all", 1, "1 is neither True nor False"),
    ("venue.conditional", "yes", "'yes' is neither True nor False"),
    ("sweep", None, "None is a NoneType; give SweepPolicy("),
    ("sweep.lease_wait_ms", -1, "-1 is out of range; give 0 to"),
    *((name, 0, "0 is out of range; give 1 to") for name in (*TIMES, "sweep.attempts", "sweep.empty_snapshots")),
    ("sweep.cap_ms", 2.5, "2.5 is a float; give a whole number"),
    ("sweep.attempts", True, "True is a bool; give a whole number"),
    ("sweep.foreign", "leave", "'leave' is no policy"),
    ("store", {}, "{} is a dict; give StorePolicy("),
    ("store.configured", None, "None is neither True nor False"),
    ("store.lease_renew_ms", 30_000, "30000 is not below store.lease_ttl_ms, 30000"),
    ("store.latch_poll_ms", None, "None is a NoneType; give a whole number"),
    ("store.lease_cap_ms", 29_999, "29999 is below store.lease_ttl_ms, 30000"),
    ("store.guard", 1, "1 is neither True nor False"),
    ("store.claim_ms", 259_200_001, "259200001 is above store.guard_ttl_ms, 259200000"),
    ("store.guard_ttl_ms", 0, "0 is out of range; give 1 to"),
    ("store.check", "strict", "'strict' is no policy"),
    ("seed", 2**63, "is out of range; give -9223372036854775807 to 9223372036854775807"),
    ("seed", 10**5000, "a number without end is out of range"),
    ("seed", "7", "'7' is a str; give a whole number"),
    ("evidence_ms", MAX_MS + 1, f"give 1 to {MAX_MS}"),
    ("triggers", Triggers, "is a type; give Triggers("),
    ("triggers.reject_storm", 5, "5 is a int; give Rate("),
    ("triggers.clock_jump_ms", 0, "0 is no whole number of milliseconds"),
    ("triggers.breaker_open", None, "None is neither True nor False"),
    ("triggers.cool_downs", COOL, "is a CoolDown; give a tuple"),
    ("triggers.cool_downs[0]", "edge", "'edge' is a str; give CoolDown("),
    *(("triggers.cool_downs[0].kind", value, "is no class of reasons that may pass") for value in (FreezeClass.MANUAL, "network", [])),
    ("triggers.cool_downs[0].wait_ms", 0, "0 is no whole number of milliseconds"),
    ("triggers.cool_downs[0].cap_ms", 59_999, "59999 is below wait_ms, 60000"),
    ("triggers.cool_downs[0].repeats", 0, "0 is no whole number above 0"),
    ("triggers.cool_downs[0].memory_ms", MAX_MS + 1, "is no whole number of milliseconds"),
    ("breaker", 5, "5 is a int; give BreakerPolicy("),
    ("two_persons", "yes", "'yes' is neither True nor False"),
    ("attribution", 0, "0 is neither True nor False"),
    ("day_roll_minute", 1_440, "1440 is no minute of the day"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "text"), FAULTS, ids=lambda part: str(part)[:30] if isinstance(part, str) else "")
def test_a_fault_is_refused_by_its_path_with_the_remedy(path: str, value: object, text: str) -> None:
    # A symbol or strategy that is misspelt in the list is also missing from it.
    own = [fault for fault in faults_of(path, value) if "is not among" not in fault or "is not among" in text]
    (fault,) = own
    where, _, what = fault.partition(": ")
    assert where == path
    assert text in what
    assert "; " in what, "no word on what to give instead"


def paths(part: Any, prefix: str = "") -> Iterator[str]:
    """Every field of a configuration, those of the classes in it included."""
    for field in attrs.fields(type(part)):
        value = getattr(part, field.name)
        listed = isinstance(value, tuple) and value and attrs.has(type(value[0]))
        yield f"{prefix}{field.name}"
        if listed:
            yield f"{prefix}{field.name}[0]"
        inner, path = (value[0], f"{prefix}{field.name}[0]") if listed else (value, f"{prefix}{field.name}")
        if attrs.has(type(inner)):
            yield from paths(inner, path + ".")


def test_every_field_that_can_be_wrong_is_checked() -> None:
    every = [path for path in paths(GOOD) if not path.startswith("rules[0].limits.")]
    assert {path for path, _, _ in FAULTS} == set(every)


WRONG: list[Any] = [None, 5, -1, "x", 2.5, True, [], (), {}, object(), (5,), ("x", None), ((),), 10**5000, b"x", Limits, GOOD, "\ud800"]


@pytest.mark.parametrize("path", sorted(paths(GOOD)))
def test_whatever_stands_in_a_field_it_is_refused_or_runs(path: str) -> None:
    for value in WRONG:
        with suppress(ConfigRefused):
            broken(path, value)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (LimitRule(Limits(max_total_notional=usd(5)), "BTCUSDT"), ".max_total_notional: has no meaning for symbol BTCUSDT; give"),
        (LimitRule(Limits(message_rate=Rate(5, 5)), "", "mm"), ".message_rate: has no meaning for strategy mm; give"),
        (LimitRule(Limits(max_daily_loss=usd(5)), band="high"), ".max_daily_loss: has no meaning for band high; give"),
        (LimitRule(Limits(max_drawdown=usd(5)), "", "mm", "", 60, 0), ".max_drawdown: has no meaning for strategy mm, window"),
        (LimitRule(Limits(max_open_orders=5)), ": limits is for account too; give one rule all its figures"),
        (LimitRule(Limits(max_open_orders=5), from_minute=60, to_minute=60), ": limits is for account too"),
    ],
)
def test_a_figure_stands_where_it_has_a_meaning(rule: LimitRule, text: str) -> None:
    (fault,) = faults_of("rules[0]", rule)
    assert fault.startswith("rules[0]" + text)


def test_no_two_rules_are_for_the_same() -> None:
    rule = LimitRule(Limits(max_open_orders=5), "BTCUSDT", "mm", "high", 60, 0)
    assert faults_of("rules", (rule, attrs.evolve(rule, band=""), rule)) == [
        "rules[2]: rules[0] is for strategy mm, symbol BTCUSDT, band high, window 01:00-00:00 UTC too; give one rule all its figures"
    ]


def test_a_class_of_reasons_has_one_cool_down() -> None:
    (fault,) = faults_of("triggers.cool_downs", (COOL, attrs.evolve(COOL, kind=FreezeClass.EDGE), COOL))
    assert fault == "triggers.cool_downs[2].kind: the class network has a cool-down already; give it one"


@pytest.mark.parametrize(
    ("breaker", "fault"),
    [
        (5, "breaker: 5 is a int; give BreakerPolicy("),
        (BreakerPolicy(failures=0), "breaker.failures: 0 is out of range; give 1 to"),
        (BreakerPolicy(failures=1_001), "breaker.failures: 1001 is out of range; give 1 to 1000, since each of them is kept and shared"),
        (BreakerPolicy(window_ms=0), "breaker.window_ms: 0 is out of range; give 1 to"),
        (BreakerPolicy(open_ms=-1), "breaker.open_ms: -1 is out of range; give 0 to"),
        (BreakerPolicy(probes=1_001), "breaker.probes: 1001 is out of range; give 1 to 1000"),
        (BreakerPolicy(probes=True), "breaker.probes: True is a bool; give a whole number"),
    ],
)
def test_a_breaker_can_count_and_wait(breaker: Any, fault: str) -> None:
    (found,) = faults_of("breaker", breaker)
    assert found.startswith(fault)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigRefused) as refusal:
        Config(
            "?", (), limits=Limits(max_inventory_usd=usd(-1)), sweep=SweepPolicy(attempts=0), store=StorePolicy(lease_renew_ms=10**6),
            venue=VenueTraits(batch=-1), evidence_ms=0, rules=(LimitRule(Limits(max_open_orders=0), "X"),),
            triggers=Triggers(breaker_open=2),  # type: ignore[arg-type]
        )  # fmt: skip
    assert [problem.partition(": ")[0] for problem in refusal.value.problems] == [
        "session", "symbols", "limits.max_inventory_usd", "rules[0].max_open_orders", "venue.batch", "sweep.attempts",
        "store.lease_renew_ms", "triggers.breaker_open", "evidence_ms",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("limits.max_inventory_usd", usd("0.000001")),
        ("limits.max_inventory_usd", usd(10**15)),
        ("limits.edge_freeze_threshold_bps", bps("-5")),
        ("limits.edge_freeze_threshold_bps", bps("0")),
        ("limits.message_rate", Rate(10**9, MAX_MS)),
        ("venue.batch", 0),
        ("sweep.lease_wait_ms", 0),
        ("sweep.foreign", ForeignPolicy.LEAVE),
        ("store.lease_ttl_ms", 10_001),
        ("seed", 2**63 - 1),
        ("seed", -(2**63) + 1),
        ("evidence_ms", MAX_MS),
        ("symbols", ("BTCUSDT", "S" * 64)),
        ("rules", ()),
        ("rules", tuple(LimitRule(Limits(max_open_orders=1), band=f"b{n}") for n in range(MAX_RULES - 1))),
        ("rules[0]", LimitRule(Limits(max_order_value=usd(5)), "BTCUSDT", "mm", "high", 1_439, 0)),
        ("restricted", ("ETHUSDT",)),
        ("triggers.cool_downs", (COOL, attrs.evolve(COOL, kind=FreezeClass.EDGE))),
        ("triggers.cool_downs[0].cap_ms", 60_000),
        ("day_roll_minute", 1_439),
    ],
)
def test_the_edge_of_what_runs(path: str, value: object) -> None:
    assert config_faults(broken(path, value)) == []


def test_a_raw_number_where_a_scaled_one_is_meant_is_refused() -> None:
    """Found by a new user: a threshold of 5 meant 0.000000000005 bps, so the trigger was off without a word."""
    assert 'give bps("5")' in faults_of("limits.edge_freeze_threshold_bps", Bps(5))[0]
    assert 'give usd("5000")' in faults_of("limits.max_inventory_usd", Usd(5000))[0]
