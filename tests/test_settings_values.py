"""How values are written. Goal: nothing is taken for what it is not, and what is written is read back as the same.

Method: a table of what is taken and what is refused, for each kind; and ``tomllib`` reads what the writers write.
"""

import tomllib
from collections.abc import Callable
from datetime import date, time
from typing import Any

import pytest
from haltcore.adapters import settings_values as kinds
from haltcore.adapters.settings_values import Float, Wrong, WrongElements
from haltcore.effects.values import SCALE
from haltcore.fsm.config import ForeignPolicy
from haltcore.fsm.limits import Rate, rate_text
from hypothesis import given
from hypothesis import strategies as st

Read = Callable[[Any], Any]
foreign = kinds.choice(ForeignPolicy)
maybe = kinds.optional(kinds.amount)


def id_of(value: object) -> str:
    return getattr(value, "__name__", None) or str(value)[:30]


@pytest.mark.parametrize(
    ("read", "value", "meaning"),
    [
        (kinds.text, "", ""), (kinds.name, "a", "a"), (kinds.texts, [], ()), (kinds.texts, ["a", ""], ("a", "")),
        (kinds.flag, True, True), (kinds.flag, False, False), (kinds.whole, -5, -5), (kinds.whole, 2**63 - 1, 2**63 - 1),
        (kinds.exact, -3, -3 * SCALE), (kinds.exact, "0.000000000001", 1), (kinds.exact, "-1e2", -100 * SCALE), (kinds.exact, 0, 0),
        (kinds.amount, 10**15, 10**15 * SCALE), (kinds.amount, "10000.5", 10_000_500_000_000_000), (kinds.term, 0, 0), (kinds.term, "0", 0),
        (kinds.rate, "100/1s", Rate(100, 1_000)), (kinds.rate, "50/1m", Rate(50, 60_000)), (kinds.rate, "1200/60s", Rate(1_200, 60_000)),
        (kinds.rate, "5/250ms", Rate(5, 250)), (kinds.rate, "9/24h", Rate(9, 86_400_000)), (kinds.rate, "100/00:00:01", Rate(100, 1_000)),
        (kinds.rate, "1/01:02:03", Rate(1, 3_723_000)), (kinds.rate, "100 / 1 s", Rate(100, 1_000)),
        (kinds.clock, "00:00", 0), (kinds.clock, "23:59", 1_439), (kinds.clock, "06:30", 390),
        (foreign, "leave", ForeignPolicy.LEAVE), (maybe, "none", None), (maybe, 5, 5 * SCALE),
    ],
    ids=id_of,
)  # fmt: skip
def test_taken(read: Read, value: object, meaning: object) -> None:
    assert read(value) == meaning
    assert type(read(value)) is type(meaning)


@pytest.mark.parametrize(
    ("read", "value", "problem", "example"),
    [
        (kinds.text, 5, "5 is no text", ""), (kinds.text, True, "true is no text", ""), (kinds.text, {}, "a section is no text", ""),
        (kinds.name, "", "an empty text", ""), (kinds.texts, "A", 'the text "A" is no array', '["A"]'),
        (kinds.texts, 5, "5 is no array", ""),
        (kinds.flag, "yes", 'the text "yes" is neither true nor false', ""), (kinds.flag, 1, "1 is neither true nor false", ""),
        (kinds.whole, True, "true is no whole number", ""), (kinds.whole, "5", 'the text "5" is no whole number', ""),
        (kinds.whole, Float("5.0"), "the float 5.0 is no whole number", ""), (kinds.whole, 2**63, "a number beyond 64 bits", ""),
        (kinds.whole, -(2**63), "a number beyond 64 bits", ""), (kinds.whole, "x" * 50, "a text of 50 characters is no whole number", ""),
        (kinds.exact, Float("0.1"), "the float 0.1 is not exact", '"0.1"'),
        (kinds.exact, Float("1_0.5e3"), "the float 1_0.5e3 is not exact", '"10.5e3"'),
        (kinds.exact, Float("nan"), "the float nan is not exact", ""), (kinds.exact, Float("-inf"), "the float -inf is not exact", ""),
        (kinds.exact, True, "true is no amount", ""), (kinds.exact, [1], "an array of 1 is no amount", ""),
        (kinds.exact, date(2026, 1, 2), "the date or time 2026-01-02 is no amount", ""),
        (kinds.exact, "ten", "'ten' is not a decimal number such as \"0.007\"", ""),
        (kinds.exact, "1.0000000000001", "1.0000000000001 has more than 12 decimals; round it first, as your strategy means it", ""),
        (kinds.exact, 10**15 + 1, "a number above the largest whole part, 10^15", ""),
        (kinds.exact, "9" * 70, "a number of 70 characters; at most 64 are read", ""),
        (kinds.amount, 0, "0 is not above 0", ""), (kinds.amount, "-0.5", "-0.5 is not above 0", ""), (kinds.term, -1, "-1 is below 0", ""),
        (kinds.rate, 100, "100 is no rate", ""), (kinds.rate, Float("0.1"), "the float 0.1 is no rate", ""),
        (kinds.clock, time(22), "the date or time 22:00:00 is no time of day", '"22:00"'), (kinds.clock, 600, "600 is no time of day", ""),
        (foreign, "keep", 'the text "keep" is none of cancel, leave', ""), (foreign, True, "true is none of cancel, leave", ""),
        (maybe, "None", "'None' is not a decimal number such as \"0.007\"", ""),
    ],
    ids=id_of,
)  # fmt: skip
def test_refused(read: Read, value: object, problem: str, example: str) -> None:
    with pytest.raises(Wrong) as refusal:
        read(value)
    assert (str(refusal.value), refusal.value.example) == (problem, example)


@pytest.mark.parametrize(
    "text",
    [
        "100", "1/2", "1/s", "1/1d", "/1s", "1/", "-1/1s", "1/-1s", "1.5/1s", "\u0661/1s",
        "1/00:00:60", "1/0:1", "1/1s\n2", "1/1s1s", "", f"{10**18}/1s",
    ],
)  # fmt: skip
def test_no_rate(text: str) -> None:
    with pytest.raises(Wrong, match="is no rate"):
        kinds.rate(text)


@pytest.mark.parametrize("text", ["24:00", "6:00", "06:60", "06:00\n", "0600", "06:00:00", "\u0660\u0660:00", ""])
def test_no_time_of_day(text: str) -> None:
    with pytest.raises(Wrong, match="is no time of day"):
        kinds.clock(text)


@pytest.mark.parametrize("read", [kinds.text, kinds.texts, kinds.flag, kinds.whole, kinds.exact, kinds.rate, kinds.clock, foreign])
def test_a_number_that_python_will_not_write_is_no_trouble(read: Read) -> None:
    with pytest.raises(Wrong, match=r"beyond 64 bits|10\^15"):
        read(16**5_000)


def test_elements_are_refused_each_by_itself() -> None:
    with pytest.raises(WrongElements) as refusal:
        kinds.texts(["a", 5, "b", True])
    assert refusal.value.problems == [(1, "5 is no text"), (3, "true is no text")]


def toml(text: str) -> Any:
    """What a TOML value is read as."""
    return tomllib.loads(f"x = {text}", parse_float=Float)["x"]


@given(st.integers(-(10**27), 10**27) | st.integers(-(10**15), 10**15).map(lambda whole: whole * SCALE))
def test_an_amount_is_read_back(number: int) -> None:
    assert kinds.exact(toml(kinds.amount_text(number))) == number


@given(st.integers(1, 10**9), st.integers(1, 366 * 86_400_000) | st.integers(1, 400).map(lambda hours: hours * 3_600_000))
def test_a_rate_is_read_back(count: int, per_ms: int) -> None:
    assert kinds.rate(rate_text(Rate(count, per_ms))) == Rate(count, per_ms)


@pytest.mark.parametrize("minute", range(0, 1_440, 7))
def test_a_time_of_day_is_read_back(minute: int) -> None:
    assert kinds.clock(kinds.clock_text(minute)) == minute


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_and_name_is_read_back(text: str) -> None:
    assert toml(kinds.quoted(text)) == text
    assert tomllib.loads(f"{kinds.name_text(text)} = 1") == {text: 1}
    assert kinds.quoted(text).isprintable()


def test_paths_are_spelled_as_toml_has_them() -> None:
    assert kinds.spelled(("limits", "symbol", "BTC/USDT:USDT", "max_order_qty")) == 'limits.symbol."BTC/USDT:USDT".max_order_qty'
    assert kinds.spelled(("limits", "window", 0, "from")) == "limits.window[0].from"
    assert kinds.spelled(("a b", 'q"')) == '"a b"."q\\""'
    assert kinds.spelled(()) == ""
