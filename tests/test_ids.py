"""A report finds its order by the client order id alone, and no foreign id is ever taken for ours.

Method: properties over keys and texts.
"""

import re

import pytest
from haltcore.effects.ids import MAX_KEY, TAG_LENGTH, base36, client_order_id, is_session_tag, order_key
from hypothesis import example, given
from hypothesis import strategies as st

tags = st.from_regex(r"[a-z][a-z0-9]{6}", fullmatch=True)
keys = st.integers(1, MAX_KEY)


@given(tags, keys)
@example("zzzzzzz", MAX_KEY)
@example("a000000", 1)
def test_the_way_to_the_venue_and_back(tag: str, key: int) -> None:
    client_id = client_order_id(tag, key)
    assert order_key(tag, client_id) == key
    assert re.fullmatch(r"[a-z][a-z0-9]{7,13}", client_id)
    assert is_session_tag(tag)


@given(tags, keys, keys)
def test_different_orders_have_different_ids(tag: str, one: int, other: int) -> None:
    assert (client_order_id(tag, one) == client_order_id(tag, other)) == (one == other)


@given(tags, tags, keys)
def test_another_session_s_order_is_not_ours(mine: str, theirs: str, key: int) -> None:
    assert order_key(mine, client_order_id(theirs, key)) == (key if mine == theirs else 0)


@given(tags, st.one_of(st.text(max_size=9), st.text("0123456789abcxyzABC-_ ", max_size=9)))
@example("abcdefg", "")
@example("abcdefg", "0")
@example("abcdefg", "01")
@example("abcdefg", "1z141z4")
@example("abcdefg", "zzzzzzz")
@example("abcdefg", "1\n")
@example("abcdefg", "A")
@example("abcdefg", "-1")
@example("abcdefg", "1_0")
@example("abcdefg", " 1")
@example("abcdefg", "١")
def test_only_the_exact_form_is_ours(tag: str, rest: str) -> None:
    key = order_key(tag, tag + rest)
    assert key == 0 or client_order_id(tag, key) == tag + rest
    assert 0 <= key <= MAX_KEY


@given(tags, st.text())
def test_a_foreign_id_is_nobody(tag: str, client_id: str) -> None:
    assert order_key(tag, client_id) == 0 or client_id.startswith(tag)


@given(st.integers(0, 2**80))
def test_base36_is_base36(number: int) -> None:
    assert int(base36(number), 36) == number
    assert base36(number) == "0" or not base36(number).startswith("0")


@pytest.mark.parametrize("key", [0, -1, MAX_KEY + 1])
def test_a_key_that_no_report_could_find_is_refused(key: int) -> None:
    with pytest.raises(ValueError, match=f"order key {key}"):
        client_order_id("abcdefg", key)


@pytest.mark.parametrize("text", ["", "abcdef", "abcdefgh", "1bcdefg", "Abcdefg", "abc-efg", "abcdefg\n", "äbcdefg", "abcdef١"])
def test_what_is_no_tag(text: str) -> None:
    assert not is_session_tag(text)
    assert len(text) != TAG_LENGTH or not re.fullmatch(r"[a-z][a-z0-9]{6}", text)
