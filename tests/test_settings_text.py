"""A configuration written as TOML. Goal: whatever can run is written so that it is read back as the same.

Method: configurations of every field are drawn, written, and read.
"""

from typing import Any

import attrs
import pytest
from haltcore.adapters.settings import Settings, load, parse
from haltcore.adapters.settings_text import figure_lines, to_toml
from haltcore.effects import qty, usd
from haltcore.effects.values import MAX_WHOLE, SCALE
from haltcore.fsm.config import (
    TRANSIENT,
    BreakerPolicy,
    Config,
    CoolDown,
    ForeignPolicy,
    StoreCheck,
    StorePolicy,
    SweepPolicy,
    Triggers,
    VenueTraits,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import FIGURES, MAX_COUNT, MAX_MS, NO_LIMITS, LimitRule, Limits, Rate, shape
from hypothesis import given, settings
from hypothesis import strategies as st

LETTERS = st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" ")
ODD = ["BTCUSDT", "BTC/USDT:USDT", "mm", "a.b", "window", "none", 'q"\\', "é", "max_order_qty"]
NAMES = st.sampled_from(ODD) | st.text(LETTERS, min_size=1, max_size=64)
SYMBOLS = NAMES.filter(lambda name: name != "venue" and not name.startswith("strategy:"))
LARGEST = MAX_WHOLE * SCALE
AMOUNTS = st.integers(10**6, LARGEST) | st.integers(1, 10**6).map(lambda whole: whole * SCALE)
TIMES = st.integers(1, MAX_MS)
RATES = st.builds(Rate, st.integers(1, MAX_COUNT), TIMES | st.integers(1, 24).map(lambda hours: hours * 3_600_000))
COUNTS = st.integers(1, 2**63 - 1)
FEW = st.integers(1, 1_000)
FLAGS = st.booleans()


def figure(name: str) -> st.SearchStrategy[Any]:
    """A value for a figure, not the one that is none."""
    if name == "prevent_self_match":
        return st.just(True)
    if name == "max_open_orders":
        return COUNTS
    if name == "edge_freeze_threshold_bps":
        return AMOUNTS | AMOUNTS.map(lambda amount: -amount) | st.just(0)
    return TIMES if name.endswith("_ms") else RATES if name.endswith("_rate") else AMOUNTS


def limits(names: list[str], least: int) -> st.SearchStrategy[Limits]:
    """Limits with some of these figures."""
    return st.sets(st.sampled_from(names), min_size=least).flatmap(
        lambda chosen: st.builds(Limits, **{name: figure(name) for name in sorted(chosen)})
    )


@st.composite
def rules(draw: Any, symbols: list[str], strategies: list[str]) -> LimitRule:
    """A rule that has conditions, and figures that have a meaning for them."""
    windows = st.tuples(st.integers(0, 1_439), st.integers(0, 1_439)).filter(lambda window: window[0] != window[1])
    begin, end = draw(st.just((0, 0)) | windows)
    rule = LimitRule(
        NO_LIMITS,
        draw(st.sampled_from(["", *symbols])),
        draw(st.sampled_from(["", *strategies])),
        draw(st.just("") | NAMES),
        begin,
        end,
    )
    names = [figure.name for figure in FIGURES if shape(rule) in figure.rules and (rule.steady or figure.tightens)]
    return attrs.evolve(rule, limits=draw(limits(names, 1)))


@st.composite
def stores(draw: Any) -> StorePolicy:
    """A store's policy: its times are bounded by one another."""
    renew, ttl, cap = sorted(draw(st.lists(TIMES, min_size=3, max_size=3, unique=True)))
    claim, keep = sorted([draw(TIMES), draw(TIMES)])
    return StorePolicy(draw(FLAGS), ttl, renew, draw(TIMES), cap, draw(FLAGS), claim, keep, draw(st.sampled_from(StoreCheck)))


@st.composite
def configs(draw: Any) -> Config:
    """A configuration that can run, of every field."""
    symbols = draw(st.lists(SYMBOLS, min_size=1, max_size=4, unique=True))
    strategies = draw(st.lists(NAMES, max_size=3, unique=True))
    found = draw(st.lists(rules(symbols, strategies), max_size=5, unique_by=lambda rule: rule.conditions))
    waits = [(wait, draw(st.integers(wait, MAX_MS))) for wait in draw(st.lists(TIMES, max_size=2))]
    return Config(
        session=draw(st.from_regex(r"[a-z][a-z0-9]{6}", fullmatch=True)),
        symbols=tuple(symbols),
        limits=draw(limits([figure.name for figure in FIGURES], 0)),
        venue=VenueTraits(draw(FLAGS), draw(FLAGS), draw(st.integers(0, 2**63 - 1)), draw(st.integers(0, MAX_MS))),
        sweep=SweepPolicy(*(draw(part) for part in (TIMES, TIMES, TIMES, TIMES, COUNTS, COUNTS, st.sampled_from(ForeignPolicy)))),
        store=draw(stores()),
        breaker=draw(st.none() | st.builds(BreakerPolicy, FEW, TIMES, st.integers(0, MAX_MS), FEW)),
        seed=draw(st.integers(-(2**63) + 1, 2**63 - 1)),
        evidence_ms=draw(TIMES),
        venue_lost_ms=draw(TIMES),
        rules=tuple(rule for rule in found if rule.conditions != LimitRule(NO_LIMITS).conditions),
        strategies=tuple(strategies),
        restricted=tuple(draw(st.lists(st.sampled_from(symbols), unique=True))),
        triggers=Triggers(
            draw(st.none() | RATES),
            draw(st.none() | TIMES),
            draw(FLAGS),
            tuple(
                CoolDown(kind, wait, cap, draw(COUNTS), draw(TIMES))
                for kind, (wait, cap) in zip(draw(st.permutations(TRANSIENT)), waits, strict=False)
            ),
        ),
        two_persons=draw(FLAGS),
        attribution=draw(FLAGS),
        day_roll_minute=draw(st.integers(0, 1_439)),
    )


@given(configs())
@settings(max_examples=400)
def test_what_is_written_is_read_back(config: Config) -> None:
    assert parse(to_toml(config)).config == config


TERMS = st.integers(0, LARGEST) | st.integers(0, 1_000).map(lambda whole: whole * SCALE)


INSTRUMENTS = st.builds(Instrument, TERMS, TERMS, TERMS, st.just(0), TERMS, AMOUNTS, FLAGS)


@given(st.dictionaries(st.sampled_from(["A", "B/C", "venues"]), INSTRUMENTS))
def test_instruments_are_read_back(tmp_path_factory: pytest.TempPathFactory, instruments: dict[str, Instrument]) -> None:
    config = Config("abcdefg", ("A", "B/C", "venues"))
    file = tmp_path_factory.getbasetemp() / "instruments.toml"
    file.write_text(to_toml(config, instruments))
    found = load(file)
    assert found == Settings(config, instruments, session_named=True)
    assert list(found.instruments) == list(instruments)


def test_where_the_store_is_is_read_back() -> None:
    place = {"url": "redis://:${PW}@h:6379/0", "account": "main"}
    found = parse(to_toml(Config("abcdefg", ("A",)), store=place))
    assert {"url": found.store_place, "account": found.store_account} == place
    assert "url" not in to_toml(Config("abcdefg", ("A",)), store={"url": "", "account": ""})


def test_how_it_looks() -> None:
    config = Config(
        "mm00001",
        ("BTCUSDT", "BTC/USDT"),
        limits=Limits(max_order_qty=qty("1.5"), max_inventory_usd=usd("10000"), message_rate=Rate(100, 1_000)),
        rules=(LimitRule(Limits(max_open_orders=3), symbol="BTC/USDT", band="high", from_minute=1_320, to_minute=360),),
    )
    text = to_toml(config, {"BTC/USDT": Instrument(lot=qty("0.001"))}, session=False)
    assert text.startswith('symbols = ["BTCUSDT", "BTC/USDT"]\nstrategies = []\n')
    assert '\n[limits]\nmax_inventory_usd = 10000\nmax_order_qty = "1.5"\nmessage_rate = "100/1s"\n\n' in text
    window = '[[limits.window]]\nfrom = "22:00"\nto = "06:00"\nsymbol = "BTC/USDT"\nband = "high"\nmax_open_orders = 3\n'
    assert f"\n\n{window}\n[triggers]\n" in text
    assert text.endswith(
        '[instrument."BTC/USDT"]\ntick = 0\nlot = "0.001"\nmin_qty = 0\nmax_qty = 0\nmin_notional = 0\nmultiplier = 1\ninverse = false\n'
    )
    assert parse(text, session="mm00001").config == config


def test_what_is_off_has_no_line() -> None:
    assert list(figure_lines(NO_LIMITS)) == []
    assert list(figure_lines(Limits(prevent_self_match=True))) == [("prevent_self_match", "true")]
    assert "none" not in to_toml(Config("abcdefg", ("A",)))
