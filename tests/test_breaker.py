"""The circuit breaker is its table: every mode with every event, what time does, and what must hold whatever happens.

Method: examples walk through the table with a clock that stands still until it is moved. Hypothesis then plays long random runs of every
event, with times that go back and forth, and looks after each step at what must hold in every run: permits never exceed their number,
memory is bounded, and from open to closed leads nothing but the success of a probe or a person's word.
"""

import attrs
from haltcore.effects import BreakerMode
from haltcore.fsm.breaker import (
    FREE,
    RULES,
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
    by_now,
    closed,
    due_ns,
    holds,
    refusal,
    retry_after_ms,
    standing,
    step,
    word,
)
from haltcore.fsm.breaker_text import from_text, to_text
from haltcore.fsm.config import BreakerPolicy
from hypothesis import given, settings
from hypothesis import strategies as st

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED = BreakerMode
POLICY = BreakerPolicy(failures=3, window_ms=10_000, open_ms=5_000, probes=2)
T0, MS = 10**18, 1_000_000


class Rig:
    """A breaker and a clock."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.policy, self.now, self.state = policy, T0, closed(T0)
        self.notes: tuple[Note, ...] = ()
        self._tokens = 0

    def do(self, event: BreakerEvent) -> tuple[Note, ...]:
        self.state, self.notes = step(self.state, event, self.policy, self.now)
        return self.notes

    def wait(self, ms: int) -> None:
        self.now += ms * MS

    def ask(self) -> tuple[str, int] | None:
        """A permit, by token and generation."""
        self._tokens += 1
        token = f"t{self._tokens}"
        return (token, self.state.generation) if Note.GRANTED in self.do(Ask(token, self.now)) else None

    def fail(self, permit: tuple[str, int] | None = None) -> tuple[Note, ...]:
        permit = permit or self.ask()
        assert permit is not None
        return self.do(Failed(*permit, self.now, "timeout"))

    def succeed(self, permit: tuple[str, int]) -> tuple[Note, ...]:
        return self.do(Succeeded(*permit, self.now))

    def force(self, to: BreakerMode, for_ms: int = 0, by: str = "ann", why: str = "looked at it") -> tuple[Note, ...]:
        return self.do(word(self.state, to, for_ms, by, why, self.now))

    def opened(self) -> "Rig":
        for _ in range(self.policy.failures):
            self.fail()
        assert self.state.mode is OPEN
        return self

    def half_open(self) -> "Rig":
        self.opened().wait(self.policy.open_ms)
        assert self.do(Looked()) == (Note.HALF_OPENED,)
        return self


# --- the table -------------------------------------------------------------------------------------------------------


def test_there_is_a_rule_for_every_event_in_every_mode() -> None:
    assert all(tuple(row) == tuple(BreakerMode) for row in RULES.values())
    assert len(RULES) == 7


def test_the_last_of_so_many_failures_within_the_window_opens() -> None:
    rig = Rig()
    assert [rig.fail(), rig.fail(), rig.fail()] == [(), (), (Note.OPENED,)]
    assert (rig.state.mode, rig.state.failures, rig.state.opened_ns) == (OPEN, (), T0)
    assert rig.state.why == "3 failures within 10000 ms, the last: timeout"
    assert rig.ask() is None
    assert refusal(rig.state, POLICY, rig.now) == f"open; probed in 5000 ms: {rig.state.why}"


def test_failures_that_are_farther_apart_do_not_open() -> None:
    rig = Rig()
    for _ in range(20):
        rig.fail()
        rig.wait(5_000)  # at most two of them within any ten seconds
    assert rig.state.mode is CLOSED
    rig.wait(-1)  # the last two and this one are less than ten seconds apart
    assert rig.fail() == (Note.OPENED,)


def test_successes_do_not_make_up_for_failures() -> None:
    rig = Rig()
    for _ in range(2):
        rig.fail()
        permit = rig.ask()
        assert permit is not None
        assert rig.succeed(permit) == ()
    rig.fail()
    assert rig.state.mode is OPEN


def test_the_same_failure_counts_once() -> None:
    rig = Rig()
    permit = rig.ask()
    for _ in range(5):
        rig.fail(permit)
    assert (rig.state.mode, len(rig.state.failures)) == (CLOSED, 1)


def test_after_its_time_it_lets_so_many_probes_through_and_no_more() -> None:
    rig = Rig().opened()
    rig.wait(4_999)
    assert (rig.ask(), retry_after_ms(rig.state, POLICY, rig.now)) == (None, 1)
    rig.wait(1)
    permits = [rig.ask() for _ in range(50)]
    assert sum(permit is not None for permit in permits) == 2
    assert refusal(rig.state, POLICY, rig.now).startswith("half open, 2 of 2 probes under way: ")
    assert retry_after_ms(rig.state, POLICY, rig.now) == 5_000


def test_one_probe_that_works_closes_and_one_that_fails_opens_again() -> None:
    rig = Rig().half_open()
    one, two = rig.ask(), rig.ask()
    assert one is not None
    assert rig.succeed(one) == (Note.CLOSED,)
    assert (rig.state.mode, rig.state.why, rig.state.failures) == (CLOSED, "", ())
    assert rig.fail(two) == (Note.LATE,)
    rig = Rig().half_open()
    one, two = rig.ask(), rig.ask()
    assert two is not None
    assert rig.fail(one) == (Note.OPENED,)
    assert rig.state.why == "a probe failed: timeout"
    assert rig.succeed(two) == (Note.LATE,)
    assert rig.state.mode is OPEN


def test_results_of_an_elder_generation_say_nothing() -> None:
    rig = Rig()
    early = [rig.ask() for _ in range(10)]
    rig.opened()
    assert all(permit is not None and rig.do(Succeeded(*permit, rig.now)) == (Note.LATE,) for permit in early)
    rig.wait(5_000)
    rig.do(Looked())
    assert all(rig.fail(permit) == (Note.LATE,) for permit in early)
    assert all(permit is not None and rig.succeed(permit) == (Note.LATE,) for permit in early)
    assert rig.state.mode is HALF_OPEN
    probe = rig.ask()
    assert probe is not None
    rig.succeed(probe)
    assert all(rig.fail(permit) == (Note.LATE,) for permit in early)
    assert (rig.state.mode, rig.state.failures) == (CLOSED, ())


def test_a_probe_without_result_gives_its_place_free_and_its_success_comes_too_late_its_failure_does_not() -> None:
    rig = Rig().half_open()
    one, _ = rig.ask(), rig.ask()
    assert rig.ask() is None
    rig.wait(4_999)
    assert rig.ask() is None
    rig.wait(1)
    assert rig.ask() is not None
    assert one is not None
    assert rig.succeed(one) == (Note.LATE,)
    assert rig.state.mode is HALF_OPEN
    assert rig.fail(one) == (Note.OPENED,)


def test_a_job_that_was_never_begun_gives_its_permit_back() -> None:
    rig = Rig().half_open()
    one, _ = rig.ask(), rig.ask()
    assert one is not None
    rig.do(Dropped(one[0]))
    assert rig.ask() is not None
    assert rig.ask() is None


def test_without_a_time_only_a_person_closes_it() -> None:
    rig = Rig(attrs.evolve(POLICY, open_ms=0)).opened()
    rig.wait(10**9)
    assert (rig.ask(), retry_after_ms(rig.state, rig.policy, rig.now), due_ns(rig.state, rig.policy)) == (None, 0, 0)
    assert "a person has to close it" in refusal(rig.state, rig.policy, rig.now)
    rig.force(CLOSED)
    assert rig.ask() is not None


def test_a_token_alone_is_no_permit_its_generation_counts_too() -> None:
    """An order may be a probe by its replace, while the outcome of its place is still to come."""
    rig = Rig().half_open()
    permit = rig.ask()
    assert permit is not None
    assert rig.succeed((permit[0], permit[1] - 1)) == (Note.LATE,)
    assert rig.do(Ask("x", rig.now, permit[1] - 1)) == (Note.LATE,)
    assert (rig.state.mode, len(rig.state.probes)) == (HALF_OPEN, 1)


def test_what_is_told_later_counts_when_it_happened() -> None:
    rig = Rig()
    rig.wait(10_000)
    rig.do(Failed("late", 1, rig.now - 10_000 * MS))
    assert rig.state.failures == ()  # just out of the window
    for ago in (1, 9_999, 5_000):
        rig.do(Failed(f"t{ago}", 1, rig.now - ago * MS))
    assert (rig.state.mode, rig.state.opened_ns) == (OPEN, rig.now - 5_000 * MS)
    rig.do(Looked())
    assert rig.state.mode is HALF_OPEN
    probe = rig.ask()
    assert probe is not None
    rig.do(Failed(*probe, rig.now - 100 * MS))
    assert rig.state.opened_ns == rig.now - 100 * MS


# --- a person's word -------------------------------------------------------------------------------------------------


def test_forced_open_lets_nothing_through_until_it_is_said_otherwise() -> None:
    rig = Rig()
    permit = rig.ask()
    assert permit is not None
    assert rig.force(FORCED_OPEN) == (Note.FORCED,)
    rig.wait(10**9)
    assert rig.ask() is None
    assert rig.succeed(permit) == (Note.LATE,)
    assert refusal(rig.state, POLICY, rig.now) == "forced open by ann until somebody says otherwise: looked at it"
    assert rig.force(CLOSED, by="bob") == (Note.CLOSED,)
    assert rig.ask() is not None


def test_what_was_forced_open_for_a_time_has_to_prove_itself_and_says_so() -> None:
    rig = Rig()
    rig.force(FORCED_OPEN, for_ms=60_000)
    rig.wait(59_999)
    assert rig.do(Looked()) == ()
    assert due_ns(rig.state, POLICY) == rig.now + MS
    rig.wait(1)
    assert rig.do(Looked()) == (Note.LAPSED, Note.HALF_OPENED)
    assert "forced open by ann until now" in standing(rig.state, POLICY, rig.now)
    rig = Rig()
    rig.force(FORCED_OPEN, for_ms=1_000)
    rig.wait(1_000)
    assert rig.do(Looked()) == (Note.LAPSED,)
    assert rig.state.mode is OPEN


def test_forced_closed_lets_all_through_and_counts() -> None:
    rig = Rig().opened()
    assert rig.force(FORCED_CLOSED, for_ms=60_000) == (Note.FORCED,)
    for _ in range(50):
        assert rig.fail() == ()
        rig.wait(100)
    assert (rig.state.mode, len(rig.state.failures)) == (FORCED_CLOSED, 3)
    rig.wait(55_000)
    assert rig.do(Looked()) == (Note.LAPSED,)
    assert rig.state.mode is CLOSED  # its failures are long ago


def test_what_has_failed_before_counts_when_forced_closed_is_over() -> None:
    rig = Rig()
    rig.fail()
    rig.fail()
    rig.force(FORCED_CLOSED, for_ms=1_000)
    rig.fail()
    rig.wait(1_000)
    assert rig.do(Looked()) == (Note.LAPSED, Note.OPENED)


def test_what_has_failed_too_often_while_forced_closed_opens_when_that_is_over() -> None:
    rig = Rig()
    rig.force(FORCED_CLOSED, for_ms=5_000)
    for _ in range(3):
        rig.fail()
    rig.wait(5_000)
    assert rig.do(Looked()) == (Note.LAPSED, Note.OPENED)
    assert rig.state.mode is OPEN


def test_the_later_word_holds_and_one_that_begins_anew_does_not_undo_a_later_opening() -> None:
    rig = Rig()
    rig.wait(1_000)
    rig.force(FORCED_OPEN)
    elder = Forced(rig.now - MS, FORCED_CLOSED, 0, "bob", "elder")
    assert rig.do(elder) == (Note.OVERTAKEN,)
    again = Forced(rig.now, FORCED_OPEN, 0, "ann", "looked at it")
    assert rig.do(again) == (Note.OVERTAKEN,)  # it is known
    assert rig.force(FORCED_CLOSED, by="bob") == (Note.FORCED,)  # at the same time, and after it
    assert rig.do(again) == (Note.OVERTAKEN,)
    rig.now -= 3_600_000 * MS
    assert rig.force(FORCED_OPEN) == (Note.FORCED,)  # by a clock that was set back, and after it all the same
    rig = Rig().opened()
    assert rig.do(Forced(rig.now - 1, CLOSED, 0, "ann", "before it opened")) == (Note.OVERTAKEN,)
    assert rig.state.mode is OPEN


def test_a_word_that_has_run_out_before_it_is_heard_does_nothing() -> None:
    rig = Rig()
    assert rig.do(Forced(rig.now, FORCED_CLOSED, rig.now, "ann", "too late")) == (Note.OVERTAKEN,)
    assert rig.state.mode is CLOSED


def test_long_texts_are_cut() -> None:
    rig = Rig()
    rig.force(FORCED_OPEN, by="b" * 10_000, why="w" * 10_000)
    assert (len(rig.state.by), len(rig.state.why)) == (200, 200)
    assert from_text(to_text(rig.state)) == rig.state


# --- an opening elsewhere ----------------------------------------------------------------------------------------------


def test_an_opening_elsewhere_opens_unless_it_is_known() -> None:
    rig = Rig()
    rig.wait(1_000)
    assert rig.do(Opened(rig.now - 1, "elsewhere")) == (Note.OPENED,)
    known = rig.state
    for same in (rig.now - 1, rig.now - 2):
        assert rig.do(Opened(same, "elsewhere")) == ()
        assert rig.state is known
    assert rig.do(Opened(rig.now, "later")) == ()
    assert (rig.state.mode, rig.state.since_ns, rig.state.why) == (OPEN, rig.now, "later")


def test_an_opening_elsewhere_from_before_it_half_opened_stops_no_probing() -> None:
    rig = Rig().half_open()
    assert rig.do(Opened(rig.now - 1, "while it was open here too")) == ()
    assert rig.do(Opened(rig.now, "since then")) == (Note.OPENED,)


def test_an_opening_elsewhere_does_not_break_a_person_s_word_but_outlives_it() -> None:
    rig = Rig()
    rig.force(FORCED_CLOSED, for_ms=1_000)
    rig.wait(500)
    assert rig.do(Opened(rig.now, "elsewhere")) == ()
    assert rig.state.mode is FORCED_CLOSED
    rig.wait(500)
    assert rig.do(Looked()) == (Note.LAPSED, Note.OPENED)


# --- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_makes_nobody_wait_longer_than_the_full_time() -> None:
    rig = Rig().opened()
    rig.now -= 3_600_000 * MS
    rig.do(Looked())
    assert retry_after_ms(rig.state, POLICY, rig.now) == 5_000
    rig.wait(5_000)
    assert rig.ask() is not None
    rig.ask()
    rig.now -= 3_600_000 * MS
    assert rig.ask() is None
    rig.wait(5_000)
    assert rig.ask() is not None  # a permit from the future is free again after the full time
    rig.force(FORCED_CLOSED, for_ms=60_000)
    rig.now -= 3_600_000 * MS
    rig.do(Looked())
    rig.wait(60_000)
    assert Note.LAPSED in rig.do(Looked())


def test_a_clock_that_goes_back_neither_closes_nor_forgets() -> None:
    rig = Rig()
    rig.fail()
    rig.fail()
    rig.now -= 3_600_000 * MS
    rig.fail()
    assert rig.state.mode is OPEN
    rig.now -= 3_600_000 * MS
    assert rig.ask() is None


# --- whatever happens ----------------------------------------------------------------------------------------------------

policies = st.builds(
    BreakerPolicy, failures=st.integers(1, 4), window_ms=st.sampled_from([1, 50, 10_000]), open_ms=st.sampled_from([0, 1, 30, 5_000]),
    probes=st.integers(1, 3),
)  # fmt: skip
#: What is done, at which move of the clock in milliseconds; the number chooses among the permits that were given.
moves = st.tuples(
    st.sampled_from(["ask", "succeed", "fail", "drop", "opened", "look", "force"]), st.sampled_from([0, 0, 1, 7, 40, 6_000, -20, -9_000]),
    st.integers(0, 30), st.sampled_from([FORCED_OPEN, FORCED_CLOSED, CLOSED]),
)  # fmt: skip


def event_of(state: Breaker, what: str, number: int, to: BreakerMode, now: int, permits: list[tuple[str, int]]) -> BreakerEvent:
    token, generation = permits[number % len(permits)] if permits else ("none", 1)
    if what == "ask":
        return Ask(f"t{len(permits)}", now)
    if what in ("succeed", "fail"):
        return Succeeded(token, generation, now) if what == "succeed" else Failed(token, generation, now, "x")
    if what == "force":
        return word(state, to, number if number % 2 and to is not CLOSED else 0, "ann", "why", now)
    return Dropped(token) if what == "drop" else Opened(now - number * MS, "elsewhere") if what == "opened" else Looked()


def check(was: Breaker, event: BreakerEvent, now: Breaker, notes: tuple[Note, ...], policy: BreakerPolicy) -> None:
    """What must hold across every step."""
    assert len(now.probes) <= policy.probes
    assert len(now.failures) <= policy.failures
    assert now.generation >= was.generation
    assert (now.generation == was.generation) <= (now.mode is was.mode)
    if was.mode not in FREE and now.mode in FREE:
        by_probe = isinstance(event, Succeeded) and was.mode is HALF_OPEN and holds(was, event.token) and event.generation == was.generation
        assert by_probe or isinstance(event, Forced)
    if was.mode in SHUT and now.mode is HALF_OPEN:
        assert policy.open_ms
        assert Note.HALF_OPENED in notes
    if was.mode in (FORCED_OPEN, FORCED_CLOSED) and now.mode not in (FORCED_OPEN, FORCED_CLOSED) and not isinstance(event, Forced):
        assert Note.LAPSED in notes
    if Note.GRANTED in notes and now.mode not in FREE:
        assert isinstance(event, Ask)
        assert now.mode is HALF_OPEN
        assert holds(now, event.token)
    if was.mode is CLOSED and now.mode is OPEN:
        assert Note.OPENED in notes


@settings(max_examples=300, deadline=None)
@given(policies, st.lists(moves, max_size=60))
def test_whatever_happens(policy: BreakerPolicy, played: list[tuple[str, int, int, BreakerMode]]) -> None:
    now, state, permits = T0, closed(T0), list[tuple[str, int]]()
    for what, ms, number, to in played:
        now += ms * MS
        event = event_of(state, what, number, to, now, permits)
        was, _ = by_now(state, policy, now)
        after, notes = step(state, event, policy, now)
        check(was, event, after, step(was, event, policy, now)[1], policy)
        if state.mode is was.mode:
            check(state, event, after, notes, policy)
        assert (refusal(was, policy, now) == "") == (Note.GRANTED in step(was, Ask("another", now), policy, now)[1])
        assert from_text(to_text(after)) == after
        assert retry_after_ms(after, policy, now) <= max(policy.open_ms, policy.window_ms, 30)
        state = after
        if isinstance(event, Ask) and Note.GRANTED in notes:
            permits.append((event.token, state.generation))


@given(policies, st.integers(0, 60))
def test_of_one_half_opening_no_more_than_its_probes_are_granted_while_none_reports(policy: BreakerPolicy, callers: int) -> None:
    policy = attrs.evolve(policy, open_ms=5_000, window_ms=10_000)
    rig = Rig(policy).half_open()
    assert sum(rig.ask() is not None for _ in range(callers)) == min(callers, policy.probes)


# --- its cost ------------------------------------------------------------------------------------------------------------


def test_what_changes_nothing_makes_nothing() -> None:
    """A step around every job: while nothing fails it gives back the very same object."""
    state = closed(T0)
    assert step(state, Ask("a", T0), POLICY, T0)[0] is state
    assert step(state, Succeeded("a", 1, T0), POLICY, T0)[0] is state
    opened = Rig().opened().state
    for event in (Ask("a", T0), Succeeded("a", 1, T0), Failed("a", 1, T0), Dropped("a"), Looked()):
        assert step(opened, event, POLICY, T0)[0] is opened


