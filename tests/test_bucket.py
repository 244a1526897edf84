"""A bucket gives what its rate says: never more, and each token less than a nanosecond late; and it survives a change of the rate.

Method: beside the bucket runs a model in rational numbers, with tokens and the time they were counted last, as one would write it down
without a thought of ints. Hypothesis draws rates, pauses and demands.
"""

from fractions import Fraction

import pytest
from attrs import define
from haltcore.fsm.bucket import FULL, left, rerated, take
from haltcore.fsm.limits import MAX_COUNT, MAX_MS, Rate
from hypothesis import given
from hypothesis import strategies as st

T0 = 10**18
MS = 10**6
#: Where a token's time is a whole number of 10^-18 seconds, and anywhere.
EVEN = st.builds(Rate, st.sampled_from([1, 2, 4, 5, 10, 64, 100, 1_000, MAX_COUNT]), st.integers(1, MAX_MS))
ANY = st.builds(Rate, st.integers(1, 50) | st.integers(1, MAX_COUNT), st.integers(1, 5_000) | st.integers(1, MAX_MS))
#: A pause, as a part of the time of a token in 1/8, and how many tokens are taken after it.
DEMANDS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=30)


@define
class Model:
    """Tokens, some of them owed, and when they were counted."""

    rate: Rate
    tokens: Fraction
    at_ns: int

    def count(self, now_ns: int) -> Fraction:
        """The tokens that are there now."""
        grown = Fraction((now_ns - self.at_ns) * self.rate.count, self.rate.per_ms * MS)
        self.tokens, self.at_ns = min(self.tokens + grown, Fraction(self.rate.count)), now_ns
        return self.tokens

    def take(self, now_ns: int) -> None:
        self.tokens = max(self.count(now_ns) - 1, Fraction(-self.rate.count))


@given(EVEN, DEMANDS)
def test_the_bucket_is_exact(rate: Rate, demands: list[tuple[int, int]]) -> None:
    bucket, model, now = FULL, Model(rate, Fraction(rate.count), T0), T0
    for eighths, taken in demands:
        now += eighths * rate.per_ms * MS // (8 * rate.count)
        for _ in range(taken):
            model.take(now)
            bucket = take(bucket, now, rate)
        assert left(bucket, now, rate) == model.count(now) // 1


@given(ANY, DEMANDS)
def test_it_never_gives_more_than_its_rate_and_hardly_less(rate: Rate, demands: list[tuple[int, int]]) -> None:
    bucket, model, now = FULL, Model(rate, Fraction(rate.count), T0), T0
    for eighths, taken in demands:
        now += eighths * rate.per_ms * MS // (8 * rate.count)
        for _ in range(taken):
            if left(bucket, now, rate) > 0:
                assert model.count(now) >= 1
                model.take(now)
                bucket = take(bucket, now, rate)
            else:
                assert model.count(now - 1) < 1 if now > model.at_ns else model.tokens < 1 + Fraction(rate.count, rate.per_ms * MS)


def test_by_hand() -> None:
    rate = Rate(3, 300)
    bucket = FULL
    assert left(bucket, T0, rate) == 3
    for there in (2, 1, 0, -1, -2, -3, -3):
        bucket = take(bucket, T0, rate)
        assert left(bucket, T0, rate) == there
    assert left(bucket, T0 + 400 * MS - 1, rate) == 0
    assert left(bucket, T0 + 400 * MS, rate) == 1
    assert left(bucket, T0 + 10**15, rate) == 3
    assert left(take(FULL, T0, rate, owed=0), T0, rate) == 2


def test_a_debt_is_bounded_as_asked() -> None:
    rate = Rate(2, 1_000)
    bucket = FULL
    for _ in range(20):
        bucket = take(bucket, T0, rate, owed=0)
    assert left(bucket, T0, rate) == 0


@pytest.mark.parametrize(("was", "new", "there"), [(Rate(10, 1_000), Rate(100, 1_000), 93), (Rate(10, 1_000), Rate(5, 60_000), -2)])
def test_what_was_taken_stays_taken_under_another_rate(was: Rate, new: Rate, there: int) -> None:
    bucket = FULL
    for _ in range(7):
        bucket = take(bucket, T0, was)
    assert left(rerated(bucket, T0, was, new), T0, new) == there
    assert rerated(bucket, T0 + 700 * MS, was, new) == FULL


@given(ANY, ANY, st.integers(0, 20))
def test_a_change_of_rate_never_gives_a_token(was: Rate, new: Rate, taken: int) -> None:
    bucket = FULL
    for _ in range(taken):
        bucket = take(bucket, T0, was)
    used = was.count - left(bucket, T0, was)
    assert new.count - left(rerated(bucket, T0, was, new), T0, new) >= used
