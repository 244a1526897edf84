"""A breaker's state as a text: there and back again, one text for each state, and nothing else is read.

Method: states come from random runs of the machine itself; then every kind of damage is done to a text, and each has to be refused with
what is wrong and what to do.
"""

import json
from typing import Any

import pytest
from haltcore.effects import BreakerMode
from haltcore.fsm.breaker import Ask, Breaker, Failed, Forced, Looked, Mark, closed, step
from haltcore.fsm.breaker_text import MAX_CHARACTERS, BreakerTextRefused, from_text, readable_length, to_text
from haltcore.fsm.config import MAX_MARKS, BreakerPolicy
from hypothesis import given
from hypothesis import strategies as st

POLICY = BreakerPolicy(failures=3, window_ms=10_000, open_ms=5_000, probes=2)
T0, MS = 10**18, 1_000_000
GOOD = Breaker(BreakerMode.CLOSED, 7, T0, T0 - 5, T0 - 9, 0, "", "", (Mark("s:1", T0), Mark("s:2", T0 + 1)), ())


def test_the_text_is_what_it_has_always_been() -> None:
    """Processes of different versions read each other's texts: a change of this is a new number in ``breaker``."""
    assert to_text(GOOD) == (
        '{"breaker":1,"mode":"closed","generation":7,"since_ns":1000000000000000000,"opened_ns":999999999999999995,'
        '"said_ns":999999999999999991,"until_ns":0,"by":"","why":"","failures":[["s:1",1000000000000000000],'
        '["s:2",1000000000000000001]],"probes":[]}'
    )


@given(st.lists(st.sampled_from("aflFC"), max_size=40), st.text(max_size=300).filter(lambda t: t.strip() and t.isprintable()))
def test_there_and_back_again(played: list[str], words: str) -> None:
    state, now = closed(T0), T0
    for n, what in enumerate(played):
        now += 700 * MS
        event = {
            "a": Ask(f"{n}", now), "f": Failed(f"{n}", state.generation, now, words), "l": Looked(),
            "F": Forced(now, BreakerMode.FORCED_OPEN, now + 900 * MS, words, words), "C": Forced(now, BreakerMode.CLOSED, 0, words, words),
        }[what]  # fmt: skip
        state, _ = step(state, event, POLICY, now)  # type: ignore[arg-type]  # a union of all of them
        text = to_text(state)
        assert from_text(text) == state
        assert to_text(from_text(text)) == text


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"breaker": 2}, "breaker"),
    "no mode": ({"mode": "ajar"}, "mode"),
    "a word for a number": ({"since_ns": "1"}, "since_ns"),
    "a fraction": ({"since_ns": 1.5}, "since_ns"),
    "truth for a number": ({"generation": True}, "generation"),
    "no generation": ({"generation": 0}, "generation is below 1"),
    "before time": ({"opened_ns": -1}, "below 0"),
    "beyond 64 bits": ({"said_ns": 2**63}, "64 bits"),
    "generation beyond 64 bits": ({"generation": 2**70}, "64 bits"),
    "nobody forced it": ({"mode": "forced_open", "failures": []}, "names who and why"),
    "nobody's end": ({"until_ns": 5}, "until_ns belongs to forced modes"),
    "failures of an open one": ({"mode": "open"}, "failures are counted only"),
    "failures out of order": ({"failures": [["a", 2], ["b", 1]]}, "ascend"),
    "probes of a closed one": ({"probes": [["a", 1]]}, "probes belong"),
    "too many": ({"failures": [["a", 1]] * 1_001}, "more than 1000"),
    "a long text": ({"why": "w" * 201}, "longer than 200"),
    "an unknown key": ({"more": 1}, "more"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_with_its_place_and_a_remedy(name: str) -> None:
    changes, names = DAMAGE[name]
    text = json.dumps({**json.loads(to_text(GOOD)), **changes}, separators=(",", ":"))
    with pytest.raises(BreakerTextRefused, match="haltcore breaker reset") as refused:
        from_text(text)
    assert names in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "{", "[" * 100_000, "\ud800", to_text(GOOD)[:-1], to_text(GOOD) + " ", to_text(GOOD).replace(":7", ": 7")],
)
def test_what_is_no_text_of_ours_is_refused(text: str) -> None:
    with pytest.raises(BreakerTextRefused, match="no breaker's state"):
        from_text(text)


def test_a_key_that_is_missing_is_refused() -> None:
    whole = json.loads(to_text(GOOD))
    for key in whole:
        with pytest.raises(BreakerTextRefused, match=key):
            from_text(json.dumps({name: value for name, value in whole.items() if name != key}, separators=(",", ":")))


def test_what_is_longer_than_any_state_is_refused_unread_and_told_in_short() -> None:
    marks = tuple(Mark(f"zzzzzzz:{10**12 + number}", 2**63 - 1) for number in range(MAX_MARKS))
    longest = Breaker(BreakerMode.FORCED_CLOSED, 2**62, *[2**63 - 1] * 4, "\u00e9" * 200, "\x00" * 200, marks, ())
    assert from_text(to_text(longest)) == longest
    assert readable_length(to_text(longest)) == to_text(longest)
    huge = to_text(GOOD).replace('"s:1"', f'"{"s" * MAX_CHARACTERS}"')
    with pytest.raises(BreakerTextRefused, match=f"{len(huge)} characters"):
        from_text(huge)
    short = readable_length(huge)
    assert len(short) < 100
    with pytest.raises(BreakerTextRefused):
        from_text(short)
