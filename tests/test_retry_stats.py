"""The rolling window counts what happened in it, and never takes more memory than its buckets.

Method: examples at the edges of buckets; a property compares it with a plain list of everything that ever happened.
"""

from haltcore.fsm.retry_stats import BUCKET_NS, BUCKETS, MAX_REASONS, OTHER, Counts, RetryStats, in_all
from hypothesis import given
from hypothesis import strategies as st

MIN = BUCKET_NS


def filled() -> RetryStats:
    stats = RetryStats()
    stats.attempt(0)
    stats.success(MIN, 3)
    stats.failure(2 * MIN, 7)
    stats.blocked(2 * MIN, "circuit_open")
    stats.blocked(3 * MIN, "circuit_open")
    stats.blocked(3 * MIN, "a_reason")
    return stats


def test_a_window_counts_what_is_in_it() -> None:
    stats = filled()
    assert stats.window(3 * MIN, 60 * MIN) == Counts(1, 1, 1, 10, 3, (("a_reason", 1), ("circuit_open", 2)))
    assert stats.window(3 * MIN, 2 * MIN) == Counts(0, 1, 1, 10, 3, (("a_reason", 1), ("circuit_open", 2)))
    assert stats.window(3 * MIN, MIN) == Counts(0, 0, 1, 7, 3, (("a_reason", 1), ("circuit_open", 2)))
    assert stats.window(3 * MIN, 0) == Counts(0, 0, 0, 0, 2, (("a_reason", 1), ("circuit_open", 1)))
    assert stats.window(99 * MIN, MIN) == Counts()


def test_a_clock_that_goes_back_loses_nothing() -> None:
    stats = RetryStats()
    stats.attempt(10 * MIN)
    stats.attempt(2 * MIN)
    assert stats.window(10 * MIN, 0).attempts == 2


def test_a_clock_that_was_ahead_for_a_while_is_forgotten() -> None:
    stats = RetryStats()
    stats.attempt(10 * MIN)
    stats.blocked(10_000 * MIN, "glitch")
    for minute in (11, 12, 13):
        stats.attempt(minute * MIN)
    assert stats.window(13 * MIN, MIN) == Counts(attempts=3, blocked=1, reasons=(("glitch", 1),))
    assert stats.window(13 * MIN, 60 * MIN).attempts == 4
    assert stats.window(80 * MIN, 60 * MIN) == Counts()


def test_a_window_that_is_only_looked_at_grows_old_too() -> None:
    stats = RetryStats()
    stats.attempt(10_000 * MIN)
    assert [stats.window(minute * MIN, 5 * MIN).attempts for minute in (10, 11, 16, 17)] == [1, 1, 1, 0]


def test_one_reading_that_is_behind_moves_nothing() -> None:
    stats = RetryStats()
    stats.attempt(100 * MIN)
    stats.attempt(0)
    stats.attempt(101 * MIN)
    assert [stats.window(101 * MIN, back * MIN).attempts for back in (0, 1)] == [1, 3]


def test_memory_is_bounded_in_time_and_in_reasons() -> None:
    stats = RetryStats()
    for minute in range(3 * BUCKETS):
        stats.attempt(minute * MIN)
    assert stats.window(3 * BUCKETS * MIN, 10 * BUCKETS * MIN).attempts == BUCKETS
    for number in range(1_000):
        stats.blocked(3 * BUCKETS * MIN, f"reason {number}")
    counts = stats.window(3 * BUCKETS * MIN, 0)
    assert counts.blocked == 1_000
    assert len(counts.reasons) == MAX_REASONS + 1
    assert dict(counts.reasons)[OTHER] == 1_000 - MAX_REASONS


def test_kinds_of_jobs_together() -> None:
    one = filled().window(3 * MIN, 60 * MIN)
    assert in_all({"a": one, "b": one, "c": Counts()}) == Counts(2, 2, 2, 20, 6, (("a_reason", 2), ("circuit_open", 4)))
    assert in_all({}) == Counts()


HAPPENINGS = st.lists(st.tuples(st.integers(0, 5 * MIN), st.sampled_from("asfb"), st.integers(-1, 5)), max_size=40)


@given(HAPPENINGS, st.integers(0, 10 * MIN), st.integers(0, 10 * MIN))
def test_it_agrees_with_a_list_of_all_that_happened(happenings: list[tuple[int, str, int]], later: int, window: int) -> None:
    stats, seen = RetryStats(), []
    for at, what, tries in sorted(happenings):
        if what == "a":
            stats.attempt(at)
        elif what == "b":
            stats.blocked(at, str(tries))
        else:
            (stats.success if what == "s" else stats.failure)(at, tries)
        seen.append((at, what, max(0, tries)))
    now = max([at for at, *_ in seen], default=0) + later
    inside = [(what, tries) for at, what, tries in seen if at // MIN >= (now - window) // MIN]
    counts = stats.window(now, window)
    assert [counts.attempts, counts.successes, counts.failures, counts.blocked] == [sum(w == what for w, _ in inside) for what in "asfb"]
    assert counts.tries == sum(tries for what, tries in inside if what in "sf")
