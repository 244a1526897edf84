"""Configuration from TOML. Goal: a file means what it says, and everything that is wrong with it is told at once, in its line.

Method: one file that uses everything, read and compared with the configuration as Python has it; one broken file, word for word; then
each fault by itself; changes by a file of limits; instruments.
"""

from pathlib import Path

import attrs
import pytest
from haltcore.adapters import settings
from haltcore.adapters.settings import SettingsRefused, load, parse, with_limits_of
from haltcore.adapters.settings_rows import FIGURE_KEYS, HOMES
from haltcore.effects import bps, price, qty, usd
from haltcore.fsm.config import (
    BreakerPolicy,
    Config,
    ConfigRefused,
    CoolDown,
    ForeignPolicy,
    FreezeClass,
    StoreCheck,
    StorePolicy,
    SweepPolicy,
    Triggers,
    VenueTraits,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import LimitRule, Limits, Rate

FULL = """\
session = "mm00001"
symbols = ["BTCUSDT", "ETH/USDT:USDT"]
strategies = ["mm", "arb"]
restricted = ["BTCUSDT"]
two_persons = true
attribution = true
day_roll = "17:30"
evidence_ms = 2000
venue_lost_ms = 7000
seed = -7

[limits]
max_inventory_usd = 10000
max_total_notional = "50000.5"
edge_freeze_threshold_bps = -5
max_order_value = "none"
max_order_qty = "1.5"
price_collar_bps = 300
max_open_orders = 100
max_daily_loss = 1000
max_drawdown = 1500
feed_lost_ms = 5000
message_rate = "100/1s"
execution_rate = "50/1m"
duplicate_window_ms = 500
prevent_self_match = true

[limits.strategy.mm.symbol.BTCUSDT.band.high]
max_order_qty = "0.1"
[[limits.window]]
from = "22:00"
to = "06:00"
symbol = "BTCUSDT"
max_order_qty = 1
[limits.symbol."ETH/USDT:USDT"]
max_order_qty = 20
edge_freeze_threshold_bps = "2.5"
[limits.strategy.mm]
execution_rate = "10/00:00:10"
[limits.symbol.BTCUSDT.band.high]
max_inventory_usd = 5000
[[limits.window]]
from = "00:00"
to = "00:01"
strategy = "arb"
band = "high"
max_open_orders = 3

[triggers]
reject_storm = "10/60s"
clock_jump_ms = 500
breaker_open = true
[triggers.cool_down.edge]
wait_ms = 1000
cap_ms = 8000
repeats = 5
memory_ms = 60000
[triggers.cool_down.network]
wait_ms = 5000
cap_ms = 60000

[venue]
cancel_all = false
conditional = false
batch = 0
place_expiry_ms = 0

[sweep]
lease_wait_ms = 1
deadline_ms = 2
base_ms = 3
cap_ms = 4
attempts = 5
empty_snapshots = 6
foreign = "leave"

[store]
configured = true
lease_ttl_ms = 9
lease_renew_ms = 8
latch_poll_ms = 7
lease_cap_ms = 10
guard = false
claim_ms = 11
guard_ttl_ms = 12
check = "strict"

[breaker]
failures = 1
window_ms = 2
open_ms = 0
probes = 4

[instrument.BTCUSDT]
tick = "0.1"
lot = "0.001"
min_qty = "0.001"
max_qty = 1000
min_notional = 100
[instrument."ETH/USDT:USDT"]
multiplier = 10
inverse = true
"""

MEANT = Config(
    session="mm00001",
    symbols=("BTCUSDT", "ETH/USDT:USDT"),
    limits=Limits(
        max_inventory_usd=usd("10000"),
        max_total_notional=usd("50000.5"),
        edge_freeze_threshold_bps=bps("-5"),
        max_order_qty=qty("1.5"),
        price_collar_bps=bps("300"),
        max_open_orders=100,
        max_daily_loss=usd("1000"),
        max_drawdown=usd("1500"),
        feed_lost_ms=5_000,
        message_rate=Rate(100, 1_000),
        execution_rate=Rate(50, 60_000),
        duplicate_window_ms=500,
        prevent_self_match=True,
    ),
    venue=VenueTraits(cancel_all=False, conditional=False, batch=0, place_expiry_ms=0),
    sweep=SweepPolicy(1, 2, 3, 4, 5, 6, ForeignPolicy.LEAVE),
    store=StorePolicy(True, 9, 8, 7, 10, False, 11, 12, StoreCheck.STRICT),
    seed=-7,
    evidence_ms=2_000,
    venue_lost_ms=7_000,
    rules=(
        LimitRule(Limits(max_order_qty=qty("0.1")), strategy="mm", symbol="BTCUSDT", band="high"),
        LimitRule(Limits(max_order_qty=qty("1")), symbol="BTCUSDT", from_minute=1_320, to_minute=360),
        LimitRule(Limits(max_order_qty=qty("20"), edge_freeze_threshold_bps=bps("2.5")), symbol="ETH/USDT:USDT"),
        LimitRule(Limits(execution_rate=Rate(10, 10_000)), strategy="mm"),
        LimitRule(Limits(max_inventory_usd=usd("5000")), symbol="BTCUSDT", band="high"),
        LimitRule(Limits(max_open_orders=3), strategy="arb", band="high", from_minute=0, to_minute=1),
    ),
    strategies=("mm", "arb"),
    restricted=("BTCUSDT",),
    triggers=Triggers(
        Rate(10, 60_000), 500, True, (CoolDown(FreezeClass.EDGE, 1_000, 8_000, 5, 60_000), CoolDown(FreezeClass.NETWORK, 5_000, 60_000))
    ),
    two_persons=True,
    attribution=True,
    day_roll_minute=1_050,
    breaker=BreakerPolicy(1, 2, 0, 4),
)


def told(text: str) -> list[str]:
    """What is wrong with a text."""
    with pytest.raises(SettingsRefused) as refusal:
        parse(text, "mm.toml")
    return [fault.text for fault in refusal.value.faults]


# --- what a file means ----------------------------------------------------------------------------------------------


def test_everything_that_may_stand_in_a_file() -> None:
    assert parse(FULL).config == MEANT


def test_every_field_of_the_configuration_stands_in_that_file() -> None:
    assert MEANT.breaker is not None
    for part in (MEANT, MEANT.venue, MEANT.sweep, MEANT.store, MEANT.breaker, MEANT.triggers, MEANT.triggers.cool_downs[0]):
        unused = [field.name for field in attrs.fields(type(part)) if getattr(part, field.name) == field.default]
        assert unused == []
    assert [key.name for key in FIGURE_KEYS] == [field.name for field in attrs.fields(Limits)]
    assert all(f"\n{field.name} = " in FULL for field in attrs.fields(Limits))


def test_what_is_left_out_has_its_default() -> None:
    found = parse('symbols = ["A"]', session="abcdefg")
    assert found.config == Config("abcdefg", ("A",))


def test_the_session_is_that_of_the_file_or_of_the_program_or_drawn(tmp_path: Path) -> None:
    file = tmp_path / "mm.toml"
    file.write_text('symbols = ["A"]')
    assert load(file, session="abcdefg").config.session == "abcdefg"
    assert load(file).config.session != load(file).config.session
    assert not load(file).session_named
    file.write_text('session = "mm00001"\nsymbols = ["A"]')
    assert load(file, session="abcdefg").config.session == "mm00001"
    assert load(str(file)).session_named


def test_layouts_that_mean_the_same() -> None:
    rule = LimitRule(Limits(max_order_qty=qty(1)), symbol="A")
    for text in (
        "[limits.symbol.A]\nmax_order_qty = 1", "limits.symbol.A.max_order_qty = 1", "limits = { symbol = { A = { max_order_qty = 1 } } }",
        '[limits]\nsymbol."A" = { max_order_qty = "1.0" }', "[limits.symbol]\nA.max_order_qty = '1'",
        "[limits.symbol.A]\n[limits]\n[limits.symbol.A.band]\n", "[limits]\n",
    ):  # fmt: skip
        whole = 'symbols = ["A"]\n' + text
        if "max" in text:
            assert parse(whole).config.rules == (rule,)
        else:
            assert parse(whole).config.rules == () if text == "[limits]\n" else True


def test_a_section_that_only_holds_others_is_no_rule() -> None:
    text = 'symbols = ["A"]\nstrategies = ["mm"]\n[limits.strategy.mm]\n[limits.strategy.mm.symbol.A]\nmax_order_qty = 1\n'
    assert parse(text).config.rules == (LimitRule(Limits(max_order_qty=qty(1)), symbol="A", strategy="mm"),)


# --- faults ---------------------------------------------------------------------------------------------------------

BROKEN = """\
# The market maker's settings.
session = "mm00001"
symbols = ["BTCUSDT", "ETHUSDT"]
two_persons = "yes"

[limits]
max_inventory_usd = 10000.5
max_order_vlaue = 2500

[limits.symbol.BTCUSD]      # a letter is missing
max_order_qty = "1.5"

[[limits.window]]
from = "22:00"
to = "06:00"
max_daily_loss = 500
"""


def test_a_broken_file_with_five_faults_is_told_at_once() -> None:
    with pytest.raises(ConfigRefused) as refusal:
        parse(BROKEN, "mm.toml")
    assert str(refusal.value) == """\
mm.toml: 5 faults
mm.toml:4: two_persons: the text "yes" is neither true nor false
    expected true or false; for example: two_persons = true
mm.toml:7: limits.max_inventory_usd: the float 10000.5 is not exact
    expected an exact number above 0, in quotes unless it is whole, or "none"; for example: max_inventory_usd = "10000.5"
mm.toml:8: limits.max_order_vlaue: unknown; did you mean max_order_value?
    for example: max_order_value = 2500
mm.toml:10: limits.symbol.BTCUSD: "BTCUSD" is not among the symbols; did you mean "BTCUSDT"?
    expected one of BTCUSDT, ETHUSDT
mm.toml:16: limits.window[0].max_daily_loss: has no meaning for window 22:00-06:00 UTC; \
give it in a rule for: account, symbol, strategy, without window or band"""


#: In front of each of these: symbols = ["A", "B"] in line 1, and strategies = ["mm"] in line 2.
FAULTS = [
    # names
    ('session = "MM"', '3: session: "MM" is no tag'.replace('"MM"', "'MM'")),
    ("session = 5", "3: session: 5 is no text"),
    ('restricted = ["A",\n"X"]', "3: restricted: 'X' is not among the symbols; name it there too"),
    ("restricted = 'A'", '3: restricted: the text "A" is no array'),
    ("two_person = true", "3: two_person: unknown; did you mean two_persons?"),
    ('day_roll = "24:00"', '3: day_roll: the text "24:00" is no time of day'),
    ("evidence_ms = 0", "3: evidence_ms: 0 is out of range"),
    ("evidence_ms = 31622400001", "3: evidence_ms: 31622400001 is out of range"),
    ("seed = 9223372036854775808", "3: seed: a number beyond 64 bits"),
    ("max_daily_loss = 5", "3: max_daily_loss: unknown here; it belongs in [limits]"),
    ("[limits]\nseed = 5", "4: limits.seed: unknown here; it belongs at the top of the file, before the first [section]"),
    ("[limits]\n[limits.sweep]", "4: limits.sweep: unknown here; it belongs at the top level, as [sweep]"),
    ('api_secret = "x"', "3: api_secret: unknown; and nothing secret stands in this file"),
    ("[limit]\n", "3: limit: unknown; did you mean limits?"),
    # figures
    ("[limits]\nmax_order_qty = 0", "4: limits.max_order_qty: 0 is not above 0"),
    ('[limits]\nmax_order_qty = "0.0000001"', "4: limits.max_order_qty: 0.0000001 is next to nothing"),
    ('[limits]\nedge_freeze_threshold_bps = "0.0000001"', "4: limits.edge_freeze_threshold_bps: 0.0000001 is next to nothing"),
    ("[limits]\nmax_open_orders = 0", "4: limits.max_open_orders: 0 is no whole number above 0"),
    ("[limits]\nfeed_lost_ms = -1", "4: limits.feed_lost_ms: -1 is no whole number of milliseconds"),
    ('[limits]\nmessage_rate = "0/1s"', "4: limits.message_rate: a count of 0 is no whole number above 0"),
    ('[limits]\nexecution_rate = "1/0s"', "4: limits.execution_rate: 0 is no whole number of milliseconds"),
    ('[limits]\nexecution_rate = "1/999999h"', "4: limits.execution_rate: 3599996400000 is no whole number of milliseconds"),
    ("[limits]\nprevent_self_match = 1", "4: limits.prevent_self_match: 1 is neither true nor false"),
    ("limits = 5", "3: limits: 5 where a section belongs"),
    # rules
    ("[limits.symbol.X]\nmax_order_qty = 1", '3: limits.symbol.X: "X" is not among the symbols'),
    ("[limits.symbol.X.band.high]\nmax_order_qty = 1", '3: limits.symbol.X: "X" is not among the symbols'),
    ("[limits.strategy.mmm]\nmax_order_qty = 1", '3: limits.strategy.mmm: "mmm" is not among the strategies; did you mean "mm"?'),
    ("[limits.symbol.A]\nmessage_rate = '1/1s'", "4: limits.symbol.A.message_rate: has no meaning for symbol A; give it in a rule for"),
    ("[limits.symbol.A]", "3: limits.symbol.A: there is no figure in it; give one, or leave the rule out"),
    ('[limits.symbol.A]\nmax_order_qty = "none"', "3: limits.symbol.A: there is no figure in it; give one, or leave the rule out"),
    ('[limits.symbol.""]\nmax_order_qty = 1', '3: limits.symbol."": an empty name'),
    ("[limits.symbol]\nmax_order_qty = 1", "4: limits.symbol.max_order_qty: 1 where a section belongs"),
    ("[limits.symbol.A.strategy.mm]\nmax_order_qty = 1", "3: limits.symbol.A.strategy.mm: conditions stand in the order strategy, sym"),
    ("[limits.symbol.A.symbol.B]\nmax_order_qty = 1", "3: limits.symbol.A.symbol: unknown"),
    ("[[limits.band]]\nname = 'high'\nmax_order_qty = 1", "3: limits.band: an array of 1 where a section belongs"),
    ("[limits.band]\nmax_order_qty = 1\nmax_open_orders = 1", "4: limits.band.max_order_qty: 1 where a section belongs"),
    ("[[limits.symbol.A]]\nmax_order_qty = 1", "3: limits.symbol.A: an array of 1 where a section belongs"),
    ("[[limits.symbol.A.window]]\nfrom = '22:00'\nmax_order_qty = 1", "3: limits.symbol.A.window: a window stands in [limits] alone, and"),
    ("[limits.symbol.A.window]\nfrom = '22:00'\nmax_order_qty = 1", "3: limits.symbol.A.window: a window stands in [limits] alone, and"),
    ('[limits.band."\\u0007"]\nmax_order_qty = 1', '3: limits.band."\\u0007": \'\\x07\' is no printable text of at most 64 characters'),
    ("[limits.window]\nfrom = '22:00'", "3: limits.window: written as one section, and there may be several"),
    ("[[limits.window]]\nto = '22:00'\nmax_order_qty = 1", "3: limits.window[0].from: missing"),
    ("[[limits.window]]\nfrom = '1:00'\nto = '22:00'\nmax_order_qty = 1", '4: limits.window[0].from: the text "1:00" is no time of day'),
    ("[[limits.window]]\nfrom = '22:00'\nto = '22:00'\nmax_order_qty = 1", "5: limits.window[0].to: the window ends when it begins"),
    ("[[limits.window]]\nfrom = '22:00'\nto = '23:00'\nmax_order_qty = 1\nsymbol='C'", '7: limits.window[0].symbol: "C" is not among'),
    ("[[limits.window]]\nfrom = '22:00'\nto = '23:00'\nband = ''\nmax_order_qty = 1", "6: limits.window[0].band: an empty text"),
    (
        "[[limits.window]]\nfrom = '22:00'\nto = '23:00'\nmax_order_qty = 1\n" * 2,
        "7: limits.window[1]: limits.window[0] is for window 22:00-23:00 UTC too; give one rule all its figures",
    ),
    # triggers
    ('[triggers]\nreject_storm = "0/1s"', "4: triggers.reject_storm: a count of 0 is no whole number above 0"),
    ("[triggers]\nclock_jump_ms = 0", "4: triggers.clock_jump_ms: 0 is no whole number of milliseconds"),
    ("[triggers]\nbreaker_open = 'x'", '4: triggers.breaker_open: the text "x" is neither true nor false'),
    ("[triggers.cool_down.position]\nwait_ms = 1", "3: triggers.cool_down.position: unknown"),
    ("[triggers.cool_down.network]\nwait_ms = 1", "3: triggers.cool_down.network.cap_ms: missing"),
    ("[triggers.cool_down.network]\nwait_ms = 0\ncap_ms = 1", "4: triggers.cool_down.network.wait_ms: 0 is no whole number of milli"),
    ("[triggers.cool_down.network]\nwait_ms = 2\ncap_ms = 1", "5: triggers.cool_down.network.cap_ms: 1 is below wait_ms, 2"),
    ("[triggers.cool_down.edge]\nwait_ms = 2\ncap_ms = 2\nrepeats = 0", "6: triggers.cool_down.edge.repeats: 0 is no whole number above 0"),
    ("[triggers]\ncool_down.network = true", "4: triggers.cool_down.network: true where a section belongs"),
    ("[triggers]\ncool_down = 5", "4: triggers.cool_down: 5 where a section belongs"),
    # the rest
    ("[venue]\nbatch = -1", "4: venue.batch: -1 is out of range"),
    ("[venue]\ncancel_all = 1", "4: venue.cancel_all: 1 is neither true nor false"),
    ("[sweep]\nforeign = 'keep'", '4: sweep.foreign: the text "keep" is none of cancel, leave'),
    ("[sweep]\nattempts = 0", "4: sweep.attempts: 0 is out of range"),
    ("[store]\nlease_ttl_ms = 50000", "3: store.configured: missing"),
    ("[store]\nconfigured = true\nlease_ttl_ms = 5000", "3: store.lease_renew_ms: 10000 is not below store.lease_ttl_ms, 5000"),
    ("[store]\nconfigured = true\nlease_renew_ms = 30000", "5: store.lease_renew_ms: 30000 is not below store.lease_ttl_ms, 30000"),
    ("[store]\nconfigured = true\ncheck = 'no'", '5: store.check: the text "no" is none of off, warn, strict'),
    ("[store]\nconfigured = true\nclaim_ms = 259200001", "5: store.claim_ms: 259200001 is above store.guard_ttl_ms, 259200000"),
    ("[store]\nconfigured = true\nurl = 'redis://h'", "3: store.account: missing"),
    ("[store]\nconfigured = true\naccount = 'a b'", '5: store.account: the text "a b" is no name of an account'),
    ("[breaker]\nfailures = 0", "4: breaker.failures: 0 is out of range"),
    ("[breaker]\nwindow = '5m'", "4: breaker.window: unknown; did you mean window_ms?"),
    ("breaker = 5", "3: breaker: 5 where a section belongs"),
    # instruments
    ("[instrument.X]\ntick = 1", '3: instrument.X: "X" is not among the symbols'),
    ("[instrument.A]\ntick = -1", "4: instrument.A.tick: -1 is below 0"),
    ("[instrument.A]\nmultiplier = 0", "4: instrument.A.multiplier: 0 is not above 0"),
    ("[instrument.A]\nmin_qty = 2\nmax_qty = 1", "5: instrument.A.max_qty: 1 is below min_qty, 2"),
    ("[instrument.A]\ninverse = 0", "4: instrument.A.inverse: 0 is neither true nor false"),
    ("[instrument.A]\nlots = 1", "4: instrument.A.lots: unknown; did you mean lot?"),
    ("[instrument]\ntick = 1", "4: instrument.tick: 1 where a section belongs"),
]


@pytest.mark.parametrize(("text", "fault"), FAULTS, ids=range(len(FAULTS)))
def test_each_fault_by_itself(text: str, fault: str) -> None:
    (found,) = told(f'symbols = ["A", "B"]\nstrategies = ["mm"]\n{text}')
    assert found.startswith(f"mm.toml:{fault}")
    assert found.count("\n") <= 1
    assert "None" not in found
    assert "(" not in found.partition("\n")[0].replace("Python", "")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[limits.symbol.A.strategy.mm]\nmax_order_qty = 1", "expected [limits.strategy.mm.symbol.A]"),
        ("[limits.band.high.symbol.A.strategy.mm]\nmax_order_qty = 1", "expected [limits.strategy.mm.symbol.A.band.high]"),
        ("[[limits.symbol.A.window]]\nmax_order_qty = 1", 'expected [[limits.window]] with symbol = "A"'),
        ("[[limits.strategy.mm.symbol.A.window]]", 'expected [[limits.window]] with strategy = "mm", symbol = "A"'),
        ("[[limits.band]]\nmax_order_qty = 1", "expected a section for each band; for example: [limits.band.NAME]"),
        ("[limits.band]\nmax_order_qty = 1", "expected a section for each band; for example: [limits.band.NAME]"),
        ("[[instrument]]\ntick = 1", "expected a section for each instrument; for example: [instrument.NAME]"),
    ],
    ids=range(7),
)
def test_a_section_in_the_wrong_place_is_told_what_to_write(text: str, remedy: str) -> None:
    (found,) = told(f'symbols = ["A", "B"]\nstrategies = ["mm"]\n{text}')
    assert found.partition("\n")[2].strip() == remedy


def test_what_stands_in_a_rule_in_the_wrong_order_is_judged_all_the_same() -> None:
    found = told('symbols = ["A"]\nstrategies = ["mm"]\n[limits.symbol.X.strategy.mm]\nmax_open_orders = 0\nmessage_rate = "1/1s"')
    assert [text.split(": ")[1] for text in found] == [
        "limits.symbol.X.strategy.mm", "limits.symbol.X", "limits.symbol.X.strategy.mm.max_open_orders",
        "limits.symbol.X.strategy.mm.message_rate",
    ]  # fmt: skip


def test_a_name_that_stands_twice_is_known_all_the_same() -> None:
    rest = '[limits.symbol.A]\nmax_order_qty = 1\n[limits.symbol.X]\nmax_order_qty = 1\n[limits.strategy.mn]\nmax_order_qty = 1\n'
    found = told(f'symbols = ["A", "A", "venue"]\nstrategies = ["mm", "mm"]\nrestricted = ["X"]\n{rest}')
    assert [text.partition("\n")[0] for text in found] == [
        "mm.toml:1: symbols: 'venue' is no name", "mm.toml:1: symbols: 'A' is named twice; name it once",
        "mm.toml:2: strategies: 'mm' is named twice; name it once",
        'mm.toml:8: limits.strategy.mn: "mn" is not among the strategies',
    ]  # fmt: skip
    found = told(f'symbols = ["A", "A"]\nstrategies = ["mm", "mm"]\nrestricted = ["X"]\n{rest}')
    assert [text.split(": ")[1] for text in found] == ["symbols", "strategies", "restricted", "limits.symbol.X", "limits.strategy.mn"]


@pytest.mark.parametrize("times", ["from = '25:00'\nto = '06:00'", "from = '22:00'\nto = 6", "to = '06:00'", "from = '22:00'"])
def test_a_window_whose_time_is_wrong_is_not_called_by_another_time(times: str) -> None:
    window = f"[[limits.window]]\n{times}\nmax_daily_loss = 5\n[[limits.window]]\n{times}\nsymbol = 'A'\nmax_drawdown = 5"
    found = told(f'symbols = ["A"]\n{window}')
    assert len(found) == 4
    (loss,) = [text for text in found if "max_daily_loss" in text]
    assert "has no meaning for a window; give it" in loss
    (drawdown,) = [text for text in found if "max_drawdown" in text]
    assert "has no meaning for symbol A, window; give it" in drawdown


@pytest.mark.parametrize("right", ["from = '00:00'\nto = '06:00'", "from = '26:00'\nto = '06:00'"])
def test_a_window_whose_time_is_wrong_is_not_taken_for_another(right: str, tmp_path: Path) -> None:
    wrong = "from = '25:00'\nto = '06:00'"
    for pair in ((right, wrong), (wrong, right)):
        text = "".join(f"[[limits.window]]\n{times}\nmax_order_qty = 1\n" for times in pair)
        expected = [f"limits.window[{number}].from" for number, times in enumerate(pair) if "'00:00" not in times]
        assert [fault.split(": ")[1] for fault in told('symbols = ["A"]\n' + text)] == expected
        with pytest.raises(SettingsRefused) as refusal:
            changed(tmp_path, text)
        assert [fault.key for fault in refusal.value.faults] == expected


def test_faults_of_the_lists_themselves_do_not_bring_others_with_them() -> None:
    rest = '[limits.symbol.A]\nmax_order_qty = "1.5"\n[limits.strategy.mm]\nmax_open_orders = 0\n[instrument.A]\n'
    wrong = "mm.toml:{}: limits.strategy.mm.max_open_orders: 0 is no whole number above 0"
    for head, faults in (
        ('strategies = ["mm"]\n', ["mm.toml: symbols: missing"]),
        ('symbols = "A"\nstrategies = ["mm"]\n', ['mm.toml:1: symbols: the text "A" is no array']),
        ('symbols = ["A", 5]\nstrategies = ["mm"]\n', ["mm.toml:1: symbols[1]: 5 is no text"]),
        ('symbols = ["A", "venue"]\nstrategies = ["mm"]\n', ["mm.toml:1: symbols: 'venue' is no name"]),
        ('symbols = ["A", "A"]\nstrategies = ["mm"]\n', ["mm.toml:1: symbols: 'A' is named twice; name it once"]),
        ("symbols = []\nstrategies = ['mm']\nsession = 'x'\n", ["mm.toml:1: symbols: 0 of them", "mm.toml:3: session: 'x' is no tag"]),
        ('symbols = ["A"]\nstrategies = "mm"\n', ['mm.toml:2: strategies: the text "mm" is no array']),
        ('symbols = ["A"]\nstrategies = ["mm", "mm"]\n', ["mm.toml:2: strategies: 'mm' is named twice; name it once"]),
    ):
        found = told(head + rest)
        expected = [*faults, wrong.format(head.count("\n") + 4)]
        if "symbols = []" in head:
            expected.append(f"mm.toml:{head.count(chr(10)) + 5}: instrument.A: \"A\" is not among the symbols")
        assert len(found) == len(expected)
        assert all(one.startswith(other) for one, other in zip(found, expected, strict=True)), found


def test_a_rule_is_judged_whole_even_if_it_is_for_an_unknown_name() -> None:
    found = told('symbols = ["A"]\n[limits.symbol.X]\nmax_open_orders = 0\nmessage_rate = "1/1s"\nmax_order_qty = 0.5\n')
    assert [text.split(": ")[1] for text in found] == [
        "limits.symbol.X", "limits.symbol.X.max_open_orders", "limits.symbol.X.message_rate", "limits.symbol.X.max_order_qty"
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOMES))
def test_every_misplaced_key_is_told_where_it_belongs(name: str) -> None:
    (found,) = told(f'symbols = ["A"]\n[limits.symbol.A.band.x]\nmax_open_orders = 1\n[instrument.A.{name}]\n') if name not in (
        "tick", "lot", "min_qty", "max_qty", "min_notional", "multiplier", "inverse"
    ) else told(f'symbols = ["A"]\n[sweep]\n{name} = 1\n')  # fmt: skip
    assert "unknown here; it belongs" in found or "did you mean" in found


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    file = tmp_path / "mm.toml"
    file.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert load(file).config == load(str(file)).config == MEANT
    file.write_text(BROKEN)
    with pytest.raises(SettingsRefused) as refusal:
        load(file)
    assert [(fault.file, fault.line) for fault in refusal.value.faults] == [(str(file), line) for line in (4, 7, 8, 10, 16)]


def test_a_file_that_cannot_be_read_is_a_fault_like_any_other(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'symbols = ["A"]\n# caf\xe9\n')
    for path, line, problem in (
        (tmp_path / "no.toml", 0, "cannot be read: No such file or directory"),
        (tmp_path, 0, "cannot be read: Is a directory"),
        (Path("a\0b"), 0, "cannot be read: embedded null byte"),
        (latin, 2, "the byte 0xE9 is no UTF-8"),
        (Path("/dev/zero"), 1, "4194305 characters; at most 1048576 are read"),
    ):
        for reader in (load, lambda path: with_limits_of(MEANT, path)):
            with pytest.raises(SettingsRefused) as refusal:
                reader(path)
            (fault,) = refusal.value.faults
            assert (fault.line, fault.problem) == (line, problem)


def test_instruments(tmp_path: Path) -> None:
    file = tmp_path / "mm.toml"
    file.write_text(FULL)
    assert list(load(file).instruments.items()) == [
        ("BTCUSDT", Instrument(price("0.1"), qty("0.001"), qty("0.001"), qty(1_000), usd(100))),
        ("ETH/USDT:USDT", Instrument(multiplier=qty(10), inverse=True)),
    ]
    file.write_text(BROKEN + "[instrument.ETHUSDT]\ntick = 0.1\n")
    with pytest.raises(SettingsRefused) as refusal:
        load(file)
    assert [fault.line for fault in refusal.value.faults] == [4, 7, 8, 10, 16, 18]


# --- the store and the breaker --------------------------------------------------------------------------------------


def test_where_the_store_is_is_told_beside_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'symbols = ["A"]\n[store]\nconfigured = true\n'
    found = parse(text + 'url = "redis://:${PW}@h:6379/0"\naccount = "main"', session="abcdefg")
    assert found.config == parse(text, session="abcdefg").config
    assert (found.store_place, found.store_account) == ("redis://:${PW}@h:6379/0", "main")
    monkeypatch.delenv("HALTCORE_STORE_URL", raising=False)
    monkeypatch.setenv("PW", "s3cret")
    assert found.store_url == "redis://:s3cret@h:6379/0"
    assert "s3cret" not in repr(found)
    assert parse(text).store_place == parse(text).store_account == ""


def test_a_breaker_is_there_when_its_section_is() -> None:
    assert parse('symbols = ["A"]').config.breaker is None
    assert parse('symbols = ["A"]\n[breaker]\n').config.breaker == BreakerPolicy()


# --- a file of limits -----------------------------------------------------------------------------------------------


def changed(tmp_path: Path, text: str, config: Config = MEANT) -> Config:
    """A configuration after the changes of a file of limits."""
    file = tmp_path / "limits.toml"
    file.write_text(text)
    return with_limits_of(config, file)


def test_what_does_not_stand_in_a_file_of_limits_is_unchanged(tmp_path: Path) -> None:
    assert changed(tmp_path, "") == MEANT
    assert changed(tmp_path, "[limits]\n[triggers]\n[triggers.cool_down.edge]\n") == MEANT


def test_figures_replace_those_of_the_same_conditions(tmp_path: Path) -> None:
    after = changed(
        tmp_path,
        '[limits]\nmax_inventory_usd = 1\nmax_order_value = 2\nprice_collar_bps = "none"\nprevent_self_match = false\n'
        '[limits.symbol.BTCUSDT.band.high]\nmax_order_qty = 3\n[limits.band.high]\nmax_open_orders = 4\n'
        '[[limits.window]]\nfrom = "22:00"\nto = "06:00"\nsymbol = "BTCUSDT"\nmax_order_qty = "none"\nmax_open_orders = 5\n',
    )  # fmt: skip
    limits = attrs.evolve(
        MEANT.limits, max_inventory_usd=usd(1), max_order_value=usd(2), price_collar_bps=None, prevent_self_match=False
    )  # fmt: skip
    first, window, *others, last, night = MEANT.rules
    assert after == attrs.evolve(
        MEANT,
        limits=limits,
        rules=(
            first,
            attrs.evolve(window, limits=Limits(max_open_orders=5)),
            *others,
            attrs.evolve(last, limits=Limits(max_inventory_usd=usd(5_000), max_order_qty=qty(3))),
            night,
            LimitRule(Limits(max_open_orders=4), band="high"),
        ),
    )


def test_a_rule_without_figures_is_gone(tmp_path: Path) -> None:
    after = changed(tmp_path, '[limits.strategy.mm]\nexecution_rate = "none"\n')
    assert after == attrs.evolve(MEANT, rules=tuple(rule for rule in MEANT.rules if rule.limits.execution_rate is None))
    config = attrs.evolve(MEANT, limits=Limits(max_open_orders=1))
    assert changed(tmp_path, '[limits]\nmax_open_orders = "none"\n', config).limits == Limits()


def test_triggers_replace_each_by_itself(tmp_path: Path) -> None:
    after = changed(tmp_path, '[triggers]\nreject_storm = "none"\nbreaker_open = false\n[triggers.cool_down.network]\ncap_ms = 7000\n')
    assert after.triggers == Triggers(None, 500, False, (MEANT.triggers.cool_downs[0], CoolDown(FreezeClass.NETWORK, 5_000, 7_000)))
    plain = attrs.evolve(MEANT, triggers=Triggers())
    added = changed(tmp_path, "[triggers.cool_down.network]\nwait_ms = 1\ncap_ms = 2\n", plain)
    assert added.triggers == Triggers(cool_downs=(CoolDown(FreezeClass.NETWORK, 1, 2),))


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('symbls = ["A"]', ["1: symbls: unknown; did you mean symbols?"]),
        ("[limit]\nmax_open_orders = 3", ["1: limit: unknown; did you mean limits?"]),
        ("max_open_orders = 3", ["1: max_open_orders: unknown here; it belongs in [limits]"]),
        ("[limits]\nmax_opne_orders = 3", ["2: limits.max_opne_orders: unknown; did you mean max_open_orders?"]),
        ("[limits]\nmax_open_orders = 0", ["2: limits.max_open_orders: 0 is no whole number above 0"]),
        ("[limits.symbol.X]\nmax_order_qty = 1", ['1: limits.symbol.X: "X" is not among the symbols']),
        ("[limits.symbol.BTCUSDT]", ["1: limits.symbol.BTCUSDT: there is no figure in it; give one, or leave the section out"]),
        ("[triggers.cool_down.network]\ncap_ms = 1", ["2: triggers.cool_down.network.cap_ms: 1 is below wait_ms, 5000"]),
        (
            "[[limits.window]]\nfrom = '22:00'\nto = '06:00'\nsymbol = 'BTCUSDT'\nmax_order_qty = 1\n" * 2 + "[limits]\nseed = 1",
            [
                "6: limits.window[1]: there is another section for symbol BTCUSDT, window 22:00-06:00 UTC; give one all its figures",
                "12: limits.seed: unknown here; it belongs at the top of the file, before the first [section]",
            ],
        ),
    ],
    ids=range(9),
)
def test_faults_of_a_file_of_limits(tmp_path: Path, text: str, faults: list[str]) -> None:
    with pytest.raises(SettingsRefused) as refusal:
        changed(tmp_path, text)
    found = [fault.text.removeprefix(f"{tmp_path}/limits.toml:") for fault in refusal.value.faults]
    assert len(found) == len(faults)
    assert all(one.startswith(other) for one, other in zip(found, faults, strict=True)), found


def test_of_a_whole_file_limits_and_triggers_are_taken_and_all_else_is_ignored(tmp_path: Path) -> None:
    other = Config("abcdefg", MEANT.symbols, strategies=MEANT.strategies)
    assert changed(tmp_path, FULL, other) == attrs.evolve(other, limits=MEANT.limits, rules=MEANT.rules, triggers=MEANT.triggers)
    nonsense = 'session = 5\nsymbols = ["X"]\nday_roll = "25:00"\n[sweep]\nattempts = 0\n[instrument.X]\ntick = 0.1\n'
    assert changed(tmp_path, nonsense + "[limits]\nmax_open_orders = 7\n").limits.max_open_orders == 7


def test_a_problem_whose_place_nobody_knows_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> Config:
        raise ConfigRefused("", ["something is odd", "rules: 5000; give fewer", "limits: odd"])

    monkeypatch.setattr(settings, "Config", refuse)
    assert told('symbols = ["A"]\n[limits]\n') == [
        "mm.toml: something is odd", "mm.toml: rules: 5000; give fewer", "mm.toml:2: limits: odd"
    ]  # fmt: skip


# --- notes ----------------------------------------------------------------------------------------------------------


def test_a_figure_that_can_never_bind_is_noted_in_its_line() -> None:
    text = (
        'symbols = ["A"]\n[[limits.window]]\nfrom = "22:00"\nto = "06:00"\nmax_order_value = 2000\nmax_open_orders = 5\n'
        '[limits.band.high]\nmax_order_value = "1000.5"\n[limits]\nmax_order_value = 1000\nmax_open_orders = 10\n'
    )  # fmt: skip
    notes = parse(text, "mm.toml").notes
    assert [note.text for note in notes] == [
        "mm.toml:5: limits.window[0].max_order_value: 2000 can never bind, since 1000 always holds (account); give less, or leave it out",
        "mm.toml:8: limits.band.high.max_order_value: 1000.5 can never bind, since 1000 always holds (account); give less, or leave it out",
    ]
    assert [note.key for note in parse(FULL).notes] == ["session"], "it has a store, too"
