"""Several processes write one breaker: whatever order their requests and answers take, and whatever is lost, no opening is.

Method: processes with a copy each act on one store that compares and sets. Examples show each case of the essay. Then Hypothesis
interleaves them: each put and read may be lost before or after the store applied it, clocks differ, the store may forget everything.
After every exchange it is checked that an opening that was to be told is not gone, and in the end that all copies agree with the store.
"""

import attrs
import pytest
from haltcore.effects import BreakerMode
from haltcore.fsm.breaker import (
    FREE,
    SHUT,
    Ask,
    Breaker,
    BreakerEvent,
    Dropped,
    Failed,
    Forced,
    Looked,
    Note,
    Opened,
    Succeeded,
    closed,
    word,
)
from haltcore.fsm.breaker_copy import Copy, apply, has_permit, heard, overtaken, to_put, unheard
from haltcore.fsm.breaker_text import BreakerTextRefused, from_text
from haltcore.fsm.config import BreakerPolicy
from hypothesis import given, settings
from hypothesis import strategies as st

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED = BreakerMode
POLICY = BreakerPolicy(failures=3, window_ms=10_000, open_ms=5_000, probes=2)
T0, MS = 10**18, 1_000_000


class Store:
    """One shared state, compare and set."""

    def __init__(self) -> None:
        self.version, self.text = 0, ""

    def put(self, version: int, text: str) -> bool:
        if version != self.version:
            return False
        self.version, self.text = self.version + 1, text
        return True

    @property
    def state(self) -> Breaker:
        return from_text(self.text)


class Process:
    """One process: its copy, and its clock that is off by so much."""

    def __init__(self, store: Store, name: str = "a", off_ms: int = 0) -> None:
        self.store, self.name, self.off = store, name, off_ms * MS
        self.now, self.copy = T0 + self.off, Copy(closed(T0 + self.off))
        self._tokens = 0

    @property
    def state(self) -> Breaker:
        return self.copy.state

    def at(self, now: int) -> "Process":
        self.now = now + self.off
        return self

    def do(self, event: BreakerEvent) -> tuple[Note, ...]:
        self.copy, notes = apply(self.copy, event, POLICY, self.now, True)
        return notes

    def force(self, to: BreakerMode, for_ms: int = 0, by: str = "ann") -> None:
        self.do(word(self.state, to, for_ms, by, "why", self.now))

    def ask(self) -> tuple[str, int] | None:
        self._tokens += 1
        token = f"{self.name}:{self._tokens}"
        return (token, self.state.generation) if Note.GRANTED in self.do(Ask(token, self.now)) else None

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            permit = self.ask()
            assert permit is not None
            self.do(Failed(*permit, self.now, "timeout"))

    def hear(self) -> None:
        self.copy = heard(self.copy, self.store.version, self.store.text, POLICY, self.now)

    def put(self) -> bool:
        """One put, and its answer; whether it was applied."""
        done = self.store.put(self.copy.version, to_put(self.copy))
        self.hear()
        return done

    def share(self) -> None:
        self.hear()
        for _ in range(3):
            if not to_put(self.copy):
                return
            self.put()
        assert not to_put(self.copy)


@pytest.fixture
def two() -> tuple[Process, Process]:
    store = Store()
    a, b = Process(store, "a"), Process(store, "b")
    a.force(FORCED_CLOSED)
    a.force(CLOSED)
    a.share()
    b.share()
    assert a.state.mode is b.state.mode is CLOSED
    for process in (a, b):
        process.at(T0 + 1_000 * MS)
    return a, b


def test_what_happened_here_is_told_until_it_is_there(two: tuple[Process, Process]) -> None:
    a, b = two
    assert to_put(a.copy) == ""
    a.fail()
    assert from_text(to_put(a.copy)) == a.state
    assert a.put()
    assert (to_put(a.copy), a.copy.unshared, a.copy.known) == ("", (), a.state)
    b.hear()
    assert b.state == a.state


def test_failures_of_all_count_together_and_each_once(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail()
    b.fail()
    assert a.put()
    assert not b.put()  # it had not seen the store's state; now it has, with its own on top
    assert (len(b.state.failures), len(b.copy.unshared)) == (2, 1)
    assert b.put()
    a.hear()
    a.fail()
    assert a.state.mode is OPEN
    a.share()
    b.hear()
    assert b.state.mode is OPEN


def test_an_answer_that_was_lost_is_no_special_case(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail()
    assert a.store.put(a.copy.version, to_put(a.copy))  # applied, and no answer
    b.hear()
    b.fail()
    b.share()
    assert not a.put()
    assert (len(a.state.failures), a.copy.unshared) == (2, ())  # its own was in it already


def test_what_is_in_the_store_already_is_not_kept_with_what_is_not(two: tuple[Process, Process]) -> None:
    a, _ = two
    a.fail()
    assert a.store.put(a.copy.version, to_put(a.copy))  # applied, and no answer
    a.fail()
    a.hear()
    assert (len(a.state.failures), len(a.copy.unshared)) == (2, 1)


def test_a_word_and_an_opening_of_one_moment_are_not_taken_for_each_other(two: tuple[Process, Process]) -> None:
    a, b = two
    a.force(FORCED_OPEN)
    a.force(CLOSED)
    a.fail(3)
    assert a.store.put(a.copy.version, to_put(a.copy))
    for process in (a, b):
        process.share()
        assert process.state.mode is OPEN


def test_a_permit_of_one_half_opening_is_none_of_the_next(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail(3)
    a.share()
    b.hear()
    for process in (a, b):
        process.at(T0 + 10_000 * MS)
        process.do(Looked())
    mine, other = a.ask(), b.ask()
    assert mine is not None
    assert other is not None
    b.do(Failed(*other, b.now, "x"))
    b.share()
    a.at(T0 + 20_000 * MS).hear()
    assert (a.state.mode, a.state.probes) == (HALF_OPEN, ())
    assert not has_permit(a.copy, *mine)


def test_what_is_not_told_is_bounded_however_long_the_store_is_away(two: tuple[Process, Process]) -> None:
    a, _ = two
    for n in range(200):
        a.at(T0 + n * 6_000 * MS).fail()
    assert a.state.mode is CLOSED
    assert len(a.copy.unshared) <= POLICY.failures + 2 * POLICY.probes
    for _ in range(50):
        a.force(FORCED_OPEN)
        a.force(CLOSED)
    a.fail(2)
    assert len(a.copy.unshared) == 3


def test_an_opening_is_not_lost_to_a_success_elsewhere(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail(3)
    a.share()
    b.hear()
    for process in (a, b):
        process.at(T0 + 10_000 * MS)
        process.do(Looked())
    mine, other = a.ask(), b.ask()
    assert mine is not None
    assert other is not None
    a.do(Failed(*mine, a.now, "still ill"))
    b.do(Succeeded(*other, b.now))
    b.share()
    assert b.store.state.mode is CLOSED
    assert not a.put()
    assert a.state.mode is OPEN
    a.share()
    b.hear()
    assert b.state.mode is OPEN
    assert "still ill" in b.state.why


def test_an_opening_is_told_however_late_with_failures_long_out_of_the_window(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail(3)
    for process in (a, b):
        process.at(T0 + 3_600_000 * MS)
    b.fail()
    b.share()
    a.hear()
    assert a.state.mode is HALF_OPEN  # it is time to probe, and for all of them
    a.share()
    assert a.store.state.mode is HALF_OPEN
    assert a.store.state.opened_ns == T0 + 1_000 * MS


def test_a_result_of_another_generation_elsewhere_is_late(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail(3)
    a.share()
    b.hear()
    for process in (a, b):
        process.at(T0 + 10_000 * MS)
        process.do(Looked())
    mine, other = a.ask(), b.ask()
    assert mine is not None
    assert other is not None
    b.do(Failed(*other, b.now, "x"))
    b.share()
    a.do(Succeeded(*mine, a.now))
    assert a.state.mode is CLOSED
    a.share()
    assert a.state.mode is a.store.state.mode is OPEN


def test_all_processes_together_hold_no_more_permits_than_there_are(two: tuple[Process, Process]) -> None:
    a, b = two
    a.fail(3)
    a.share()
    b.hear()
    permits = []
    for process in (a, b):
        process.at(T0 + 10_000 * MS)
        process.do(Looked())
        permits += [(process, *permit) for _ in range(5) if (permit := process.ask()) is not None]
    assert len(permits) == 4
    a.share()
    b.share()
    assert [has_permit(process.copy, token, generation) for process, token, generation in permits] == [True, True, False, False]
    assert len(b.store.state.probes) == 2


def test_a_permit_that_is_given_back_is_not_told_twice(two: tuple[Process, Process]) -> None:
    a, _ = two
    a.fail(3)
    a.share()
    a.at(T0 + 10_000 * MS)
    permit = a.ask()
    assert permit is not None
    assert a.store.put(a.copy.version, to_put(a.copy))  # applied, and no answer
    a.do(Dropped(permit[0]))
    a.share()
    assert (a.store.state.probes, a.copy.unshared) == ((), ())


def test_a_later_word_elsewhere_holds_and_an_elder_one_does_not_come_back(two: tuple[Process, Process]) -> None:
    a, b = two
    a.force(FORCED_CLOSED)
    b.at(T0 + 2_000 * MS)
    b.force(FORCED_OPEN, by="bob")
    b.share()
    before = a.copy
    a.at(T0 + 3_000 * MS).share()
    assert [one.by for one in overtaken(before, a.copy)] == ["ann"]
    assert overtaken(before, before) == ()
    assert (a.state.mode, a.state.by, a.copy.unshared) == (FORCED_OPEN, "bob", ())


# --- a store that has forgotten -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgotten", ["all", "the last", "and is new"])
def test_a_store_that_has_forgotten_is_put_right(two: tuple[Process, Process], forgotten: str) -> None:
    a, b = two
    before = a.store.version, a.store.text
    a.fail(3)
    a.share()
    known = a.state
    a.store.version, a.store.text = before if forgotten == "the last" else (0, "")
    if forgotten == "and is new":
        fresh = Process(a.store, "c").at(a.now)
        fresh.fail()
        fresh.share()
    a.hear()
    assert a.state == known
    assert a.copy.behind
    a.put()
    assert (a.store.state, a.copy.behind, to_put(a.copy)) == (known, False, "")
    b.hear()
    assert b.state.mode is OPEN


def test_what_is_open_is_taken_from_a_store_that_has_forgotten_and_so_is_a_later_word(two: tuple[Process, Process]) -> None:
    a, _ = two
    for _ in range(3):  # its generation is far ahead
        a.force(FORCED_CLOSED)
        a.force(CLOSED)
    a.share()
    a.store.version, a.store.text = 0, ""
    fresh = Process(a.store, "c").at(a.now + MS)
    fresh.fail(3)
    fresh.share()
    assert fresh.state.generation < a.state.generation
    a.at(a.now + MS).hear()
    assert a.state.mode is OPEN


def test_a_later_word_is_taken_from_a_store_that_has_forgotten(two: tuple[Process, Process]) -> None:
    a, _ = two
    a.force(FORCED_CLOSED)
    a.force(CLOSED)
    a.fail(3)
    a.share()
    a.store.version, a.store.text = 0, ""
    fresh = Process(a.store, "c").at(a.now + MS)
    fresh.force(FORCED_CLOSED, by="bob")
    fresh.share()
    assert fresh.state.generation < a.state.generation
    a.at(a.now + MS).hear()
    assert (a.state.mode, a.state.by) == (FORCED_CLOSED, "bob")


def test_a_store_that_has_forgotten_is_known_by_its_mode_where_the_generation_is_the_same(two: tuple[Process, Process]) -> None:
    a, _ = two
    fresh = Process(Store(), "c")
    fresh.force(FORCED_CLOSED)
    a.fail(3)
    a.share()
    while fresh.state.generation < a.state.generation:
        fresh.force(CLOSED)
    fresh.share()
    assert fresh.state.said_ns < a.state.opened_ns
    assert (fresh.state.mode, fresh.state.generation) == (CLOSED, a.state.generation)
    a.store.version, a.store.text = fresh.store.version, fresh.store.text
    a.hear()
    assert (a.state.mode, a.copy.behind) == (OPEN, True)


def test_an_empty_store_is_told_nothing_by_a_breaker_that_knows_nothing() -> None:
    process = Process(Store())
    process.hear()
    assert to_put(process.copy) == ""


def test_what_a_store_never_heard_of_can_be_told_to_one_that_is_new() -> None:
    for event, deed in (
        (Opened(T0, "ill"), Opened), (Forced(T0, FORCED_OPEN, 0, "ann", "why"), Forced), (Forced(T0, FORCED_CLOSED, 0, "ann", "y"), Forced)
    ):  # fmt: skip
        alone, _ = apply(Copy(closed(T0)), event, POLICY, T0, False)
        assert alone.unshared == ()
        process = Process(Store())
        process.copy = attrs.evolve(alone, unshared=unheard(alone.state))
        assert [type(one) for one in process.copy.unshared] == [deed]
        other = Process(process.store, "b")
        other.do(Forced(T0 - MS, CLOSED, 0, "bob", "earlier"))
        other.share()
        process.share()
        assert process.store.state.mode is alone.state.mode
    assert unheard(closed(T0)) == ()


def test_the_known_version_without_a_text_is_the_known_one(two: tuple[Process, Process]) -> None:
    a, _ = two
    a.fail()
    a.share()
    before = a.copy
    assert heard(before, before.version, "", POLICY, a.now) is before
    assert heard(before, 0, "", POLICY, a.now).behind, "that is a store that has none"


def test_a_word_that_has_run_out_does_not_stay_in_the_store() -> None:
    """Whoever is there at its end puts that; and if nobody is, whoever hears the word afterwards."""
    for dead in (False, True):
        store = Store()
        a, b = Process(store, "a"), Process(store, "b")
        a.force(FORCED_CLOSED, for_ms=500)
        a.share()
        b.at(a.now + 501 * MS)
        if not dead:
            a.at(b.now).do(Looked())
            assert a.put()
            assert '"closed"' in store.text
        b.share()
        assert (b.state.mode, '"closed"' in store.text, to_put(b.copy)) == (CLOSED, True, "")
        put = store.version
        for process in (a.at(b.now), b):
            process.share()
        assert (store.version, a.state.mode) == (put, CLOSED)


def test_what_cannot_be_read_is_taken_over_by_nobody() -> None:
    process = Process(Store())
    with pytest.raises(BreakerTextRefused):
        heard(process.copy, 3, "{}", POLICY, T0)


# --- any order, any loss -------------------------------------------------------------------------------------------------

moves = st.tuples(
    st.integers(0, 2),
    st.sampled_from(
        ["fail", "fail", "fail", "probe", "good", "bad", "drop", "share", "share", "put", "put lost", "force", "wait", "flush"]
    ),
    st.integers(0, 9), st.sampled_from([FORCED_OPEN, FORCED_CLOSED, CLOSED]),
)  # fmt: skip


def play(processes: list[Process], played: list[tuple[int, str, int, BreakerMode]]) -> None:
    now, permits = T0, dict[str, list[tuple[str, int]]]()
    for which, what, number, to in played:
        process = processes[which]
        now += 1 + (number * 900 * MS if what == "wait" else 0)
        for each in processes:
            each.at(now)
        mine = permits.setdefault(process.name, [])
        if what in ("fail", "probe"):
            permit = process.ask()
            mine += [permit] if permit is not None else []
        if what in ("fail", "good", "bad", "drop") and mine:
            token, generation = mine.pop(number % len(mine))
            results = {"good": Succeeded(token, generation, process.now), "drop": Dropped(token)}
            process.do(results.get(what, Failed(token, generation, process.now, "x")))
        elif what == "force":
            process.force(to, number * 500 if to is not CLOSED else 0)
        elif what == "flush":
            process.store.version, process.store.text = (0, "") if number == 0 else (process.store.version, process.store.text)
        exchange(process, what)


def exchange(process: Process, what: str) -> None:
    """One request, and what must hold across it."""
    untold = next((deed for deed in process.copy.unshared if isinstance(deed, Opened)), None)
    was = process.state
    if what == "share":
        process.hear()
    elif what == "put" and to_put(process.copy):
        process.put()
    elif what == "put lost" and to_put(process.copy):
        process.store.put(process.copy.version, to_put(process.copy))
        return
    assert len(process.copy.unshared) <= 2 + POLICY.failures + 2 * POLICY.probes
    assert len(process.state.probes) <= POLICY.probes
    if untold is not None and process.state is not was:
        # Not gone: it is open, is being probed, or a word or a success came after it was told.
        assert process.state.mode not in FREE or process.state.opened_ns >= untold.at_ns or process.state.said_ns >= untold.at_ns
    if was.mode in SHUT and process.state.mode in FREE and what in ("share", "put"):
        # Only by what stands in the store, put there by a success or a word of somebody.
        assert process.store.state.mode in FREE or process.copy.unshared


@settings(max_examples=400, deadline=None)
@given(st.lists(moves, max_size=70), st.sampled_from([0, 3_000, -4_000]))
def test_any_order_and_any_loss(played: list[tuple[int, str, int, BreakerMode]], off_ms: int) -> None:
    store = Store()
    processes = [Process(store, "a"), Process(store, "b"), Process(store, "c", off_ms)]
    play(processes, played)
    opened = [process for process in processes if any(isinstance(deed, Opened) for deed in process.copy.unshared)]
    for _ in range(3):
        for process in processes:
            process.share()
    if store.text:
        assert all(to_put(process.copy) == "" for process in processes)
        assert len({process.copy.known for process in processes}) == 1
    for process in opened:
        assert store.state.opened_ns > 0 or store.state.said_ns > 0
        assert process.copy.unshared == ()


@pytest.mark.parametrize("writers", [2, 3])
def test_of_concurrent_openings_none_is_lost(writers: int) -> None:
    store = Store()
    processes = [Process(store, name) for name in "abc"[:writers]]
    for process in processes:
        process.fail(3)
        process.put()
    for process in processes:
        process.share()
        assert process.state.mode is store.state.mode is OPEN
