"""Codec. Goal: every value has one text, and only texts that are the encoding of a value are read.

Method: values are generated from the type hints of the real vocabulary, so a new event or effect is covered when it is written;
hand-made wrong texts must be refused with the name of the class and the field; the bytes must not depend on the hash seed.
"""

import os
import subprocess
import sys
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import msgspec
import pytest
from haltcore.effects import EFFECT_CLASSES, Bps, Notional, Price, Qty, Side, Usd, price, qty
from haltcore.fsm.bucket import Bucket
from haltcore.fsm.codec import CONFIG, EFFECTS, EVENTS, STATE, CodecError, Coder
from haltcore.fsm.config import Config, CoolDown, ForeignPolicy, FreezeClass, SweepPolicy, Triggers
from haltcore.fsm.core import EMPTY, Core
from haltcore.fsm.events import EVENT_CLASSES, CancelOrder, MarkPrice, OrderFilled, Restarted, Started, SubmitOrder
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.order import Order
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from immutables import Map

CONFIGS = (
    Config("mm1abcd", ("BTCUSDT",)),
    Config(
        "z000000", ("A", "B"), Limits(Usd(10**6 + 1), Usd(10**24), Bps(-(10**6) - 5)), sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE),
        seed=2**62,
        rules=(
            LimitRule(Limits(max_open_orders=3), "A", "mm", "high", 60, 1_439),
            LimitRule(Limits(execution_rate=Rate(5, 60_000)), strategy="mm"),
        ),
        strategies=("mm", "é"), restricted=("B",), two_persons=True, attribution=True, day_roll_minute=1_439,
        triggers=Triggers(Rate(10**9, 1), 1, True, (CoolDown(FreezeClass.EDGE, 1, 2),)),
    ),
)
INTS = st.integers(-(2**63), 2**63 - 1)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type hint of the vocabulary."""
    if hint is Config:
        return st.sampled_from(CONFIGS)
    if hint in (Qty, Price, Usd, Bps, Notional, Bucket):
        return st.integers(-(10**40), 10**40)
    if hint is int:
        return INTS
    if hint is str:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    if hint is bool:
        return st.booleans()
    if hint is NoneType:
        return st.none()
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of([values(arg) for arg in args])
    if origin is tuple and args[1] is Ellipsis:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if origin is Map:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3).map(Map)
    hints = get_type_hints(hint)
    return st.builds(hint, *(values(hints[field.name]) for field in attrs.fields(hint)))


FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", EVENT_CLASSES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@FEW
def test_every_event_comes_back_as_it_was(kind: Any, data: st.DataObject) -> None:
    event = data.draw(values(kind))
    text = EVENTS.encode(event)
    EVENTS.check(text)
    assert b"\n" not in text
    again = EVENTS.decode(text)
    assert again == event
    assert type(again) is kind
    assert EVENTS.encode(again) == text


@pytest.mark.parametrize("kind", EFFECT_CLASSES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@FEW
def test_every_effect_comes_back_as_it_was(kind: Any, data: st.DataObject) -> None:
    effects = tuple(data.draw(st.lists(values(kind), max_size=2)))
    text = EFFECTS.encode(effects)
    EFFECTS.check(text)
    assert EFFECTS.decode(text) == effects


@given(order=values(Order), core=values(Core))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_state_comes_back_as_it_was(order: Order, core: Core) -> None:
    coder: Coder[Order] = Coder(Order)
    assert coder.decode(coder.encode(order)) == order
    assert STATE.decode(STATE.encode(core)) == attrs.evolve(core, touched=(), resting=None)


def test_the_text_is_pinned() -> None:
    event = OrderFilled(7, "mm1abcd2s", "9", "t", qty("0.01"), price("50000.5"), qty("-0"), Usd(-1))
    assert EVENTS.encode(event) == (
        b'{"class":"OrderFilled","at_ns":7,"client_id":"mm1abcd2s","venue_id":"9","trade_id":"t","last_qty":"0.01",'
        b'"last_price":"50000.5","cum_qty":"0","fee":"-0.000000000001"}'
    )
    submit = SubmitOrder(7, "BTCUSDT", Side.BUY, qty("1"))
    start = b'{"class":"SubmitOrder","at_ns":7,"symbol":"BTCUSDT","side":"buy","qty":"1","price":null,"type":"limit"'
    assert EVENTS.encode(submit).startswith(start)
    assert STATE.encode(EMPTY) == (
        b'{"seq":0,"now_ns":1,"orders":[],"closed":[],"books":[],"account":{"worst":"0","gain":"0","open_orders":0},"teams":[],'
        b'"flow":{"messages":"0","rejects":"0","executions":[],"intents":[],"feeds":[],"edges":[],"days":[],"day_ends_ns":0,"intents_ns":0,"intents_before":[],"guards":[],"breaker":null,"unsaid":[],"telling":0,"intention":0,"vouching":null},"desk":null}'
    )


@attrs.frozen
class Inner:
    amount: Notional


@attrs.frozen
class Other:
    names: tuple[str, ...]


@attrs.frozen
class Outer:
    by_key: Map[int, Inner]
    by_name: Map[str, int]
    either: Inner | Other | None
    plain: Inner | None
    many: tuple[Inner, ...]


def test_nested_forms_and_map_order() -> None:
    coder: Coder[Outer] = Coder(Outer)
    by_key = Map([(30, Inner(Notional(3))), (4, Inner(Notional(10**24)))])
    value = Outer(by_key, Map(b=1, a=2), Other(("x",)), Inner(Notional(1)), (Inner(Notional(2)),))
    text = coder.encode(value)
    assert text == (
        b'{"by_key":[[4,{"amount":"1"}],[30,{"amount":"0.000000000000000000000003"}]],"by_name":[["a",2],["b",1]],'
        b'"either":{"class":"Other","names":["x"]},"plain":{"amount":"0.000000000000000000000001"},'
        b'"many":[{"amount":"0.000000000000000000000002"}]}'
    )
    assert coder.decode(text) == value
    with pytest.raises(CodecError, match=r"Outer\.by_key: .*ascend.* 4 follows 30"):
        coder.decode(text.replace(b'[[4,{"amount":"1"}],[30,', b'[[30,{"amount":"1"}],[4,'))
    with pytest.raises(CodecError, match="by_name"):
        coder.decode(text.replace(b'[["a",2],["b",1]]', b'[["a",2],["a",1]]'))


def test_a_hint_without_a_form_is_refused_at_once() -> None:
    for hint in (float, list[int], dict[str, int], int | str, tuple[Qty, int], Map[Qty, int], set[int], Any):
        with pytest.raises(TypeError):
            Coder(hint)


FILL = EVENTS.encode(OrderFilled(7, "c", "v", "t", qty("0.01"), price("5"), qty("1"), Usd(0)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (FILL.replace(b'"at_ns":7', b'"at_ns":true'), r"OrderFilled.*bool.*at_ns"),
        (FILL.replace(b'"at_ns":7', b'"at_ns":"7"'), r"OrderFilled.*str.*at_ns"),
        (FILL.replace(b'"at_ns":7', b'"at_ns":7.0'), r"OrderFilled.*float.*at_ns"),
        (FILL.replace(b'"at_ns":7', b'"at_ns":9223372036854775808'), r"OrderFilled.*9223372036854775807.*at_ns"),
        (FILL.replace(b'"at_ns":7', b'"at_ns":-9223372036854775809'), r"OrderFilled.*at_ns"),
        (FILL.replace(b'"at_ns":7', b'"at_ns":null'), r"OrderFilled.*null.*at_ns"),
        (FILL.replace(b'"at_ns":7,', b""), r"OrderFilled.*missing.*at_ns"),
        (FILL.replace(b'"at_ns":7', b'"at_ns":7,"x":1'), r"OrderFilled.*unknown.*x"),
        (FILL.replace(b'"0.01"', b"0.01"), r"OrderFilled.*last_qty"),
        (FILL.replace(b'"0.01"', b'"0.010"'), r"OrderFilled\.last_qty: '0.010'"),
        (FILL.replace(b'"0.01"', b'"1e3"'), r"OrderFilled\.last_qty"),
        (FILL.replace(b'"0.01"', b'"0.0000000000001"'), r"OrderFilled\.last_qty"),
        (FILL.replace(b'"0.01"', b'""'), r"OrderFilled\.last_qty"),
        (FILL.replace(b"OrderFilled", b"OrderFulled"), r"OrderFulled.*class"),
        (FILL.replace(b'"class":"OrderFilled",', b""), r"class"),
        (b'{"class":7}', r"class"),
        (b"[]", r"array"),
        (b"{", r"not JSON"),
        (b"\xff", r"not JSON"),
        (b"", r"not JSON"),
        (b"[" * 100_000, r"not JSON"),
        (EVENTS.encode(SubmitOrder(1, "A", Side.BUY, qty("1"))).replace(b'"buy"', b'"bid"'), r"SubmitOrder.*bid.*side"),
        (EVENTS.encode(Started(1, CONFIGS[0])).replace(b"mm1abcd", b"MM1ABCD"), r"(?s)Started\.config.*session"),
    ],
)
def test_a_wrong_text_is_refused_by_name(text: bytes, named: str) -> None:
    with pytest.raises(CodecError, match=named):
        EVENTS.decode(text)


def test_a_value_of_a_wrong_type_does_not_reach_a_log() -> None:
    wrong: list[Any] = [
        CancelOrder(True, 1),
        CancelOrder(1, None),  # type: ignore[arg-type]
        CancelOrder(2**63, 1),
        MarkPrice(1, "A", 1.5),  # type: ignore[arg-type]
        MarkPrice(1, "\ud800", Price(1)),
        MarkPrice(1, 7, Price(1)),  # type: ignore[arg-type]
        "text",
        Inner(Notional(1)),
    ]
    for value in wrong:
        with pytest.raises(CodecError):
            EVENTS.check(EVENTS.encode(value))


JSON = st.recursive(st.none() | st.text(max_size=3) | INTS, lambda inner: st.lists(inner, max_size=3)).map(msgspec.json.encode)


@given(text=st.binary(max_size=60) | JSON)
@settings(max_examples=200, deadline=None)
def test_junk_raises_nothing_else(text: bytes) -> None:
    for coder in (EVENTS, EFFECTS, CONFIG, STATE):
        try:
            coder.decode(text)
        except CodecError:
            continue
        assert coder is EFFECTS
        assert text == b"[]"


PROGRAM = """
from immutables import Map
from haltcore.fsm.codec import EVENTS, STATE, Coder
from haltcore.fsm.config import Config
from haltcore.fsm.digest import digest
from haltcore.fsm.core import EMPTY
from haltcore.fsm.events import Started
from haltcore.fsm.step import step
core, effects = step(EMPTY, Started(5, Config("mm1abcd", tuple("S%d" % i for i in range(40)))))
print(STATE.encode(core), Coder(Map[str, int]).encode(Map({"k%d" % i: i for i in range(50)})), digest(core))
"""


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("0", "1", "4711")
    ]
    assert len(printed[0]) > 1000
    assert printed[0] == printed[1] == printed[2]


def test_a_restart_carries_its_configuration() -> None:
    for config in CONFIGS:
        assert CONFIG.decode(CONFIG.encode(config)) == config
        assert EVENTS.decode(EVENTS.encode(Restarted(1, config, "ops"))) == Restarted(1, config, "ops")
