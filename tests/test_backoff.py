"""The wait before a retry is uniform in a bounded range, and the same in every process. Method: properties, and one pinned value."""

from haltcore.fsm.backoff import backoff_ns
from hypothesis import given
from hypothesis import strategies as st

MS = 1_000_000
IDS = st.tuples(st.integers(1, 2**32), st.integers(0, 1000))


@given(st.integers(), IDS, st.integers(0, 10**9), st.integers(1, 10_000), st.integers(1, 100_000))
def test_never_negative_and_never_above_the_ceiling(seed: int, effect: tuple[int, int], attempt: int, base: int, cap: int) -> None:
    wait = backoff_ns(seed, effect, attempt, base, cap)
    assert 0 <= wait <= cap * MS
    assert wait <= base * 2 ** min(attempt, 64) * MS


def test_the_same_question_gives_the_same_wait_in_every_process() -> None:
    assert backoff_ns(7, (12, 3), 2, 200, 5_000) == backoff_ns(7, (12, 3), 2, 200, 5_000) == 412_950_184


def test_seed_effect_and_attempt_each_change_the_draw() -> None:
    waits = {
        backoff_ns(seed, (record, index), attempt, 5_000, 5_000)
        for seed in range(3) for record in range(3) for index in range(3) for attempt in range(3)
    }
    assert len(waits) == 81


def test_the_draw_fills_its_range_evenly() -> None:
    waits = [backoff_ns(1, (n, 0), 1, 200, 5_000) for n in range(4_000)]
    for tenth in range(10):
        inside = sum(1 for wait in waits if tenth * 40 * MS <= wait < (tenth + 1) * 40 * MS)
        assert 320 <= inside <= 480


def test_the_ceiling_doubles_until_the_cap() -> None:
    for attempt, ceiling in ((0, 200), (1, 400), (2, 800), (4, 3_200), (5, 5_000), (99, 5_000)):
        most = max(backoff_ns(1, (n, 0), attempt, 200, 5_000) for n in range(400))
        assert 0.97 * ceiling * MS < most <= ceiling * MS
