"""An order in doubt leads to questions only, and only evidence resolves it.

Method: orders are brought into doubt in every way there is, and everything but evidence happens to them: nothing may end them, nothing may
be sent but a question (or the cancel somebody still wants). Then the evidence comes.
"""

import pytest
from haltcore.effects import Cancel, Denied, Place, Purpose, QueryOrder, Rejected, Replace, SetTimer
from haltcore.fsm.events import OrderQueried, OutcomeKind, ReportStatus, TimerFired
from haltcore.fsm.order import OrdStatus, is_done
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import BUY, IN_DOUBT, MS, REFUSED, SELL, UNAVAILABLE, Session, config, fetch_failed, qty, row

GRACE_MS = 5_000


def only_questions(s: Session) -> bool:
    """Whether the last step touched the venue by nothing but questions."""
    return not s.got(Place) and not s.got(Replace) and not s.got(Cancel)


def test_in_doubt_asks_at_once_and_sends_nothing_else() -> None:
    s = Session()
    key = s.submit()
    s.outcome(s.one(Place), IN_DOUBT)
    assert s.one(QueryOrder).order == key
    assert only_questions(s)
    assert s.order(key).unknown
    assert s.order(key).leaves_qty == qty(10)


@pytest.mark.parametrize("request_kind", ["cancel", "replace"])
def test_a_cancel_or_replace_in_doubt_asks_and_stays_pending(request_kind: str) -> None:
    s = Session()
    key = s.working()
    if request_kind == "cancel":
        s.cancel(key)
        s.outcome(s.one(Cancel), IN_DOUBT)
        assert s.order(key).status is OrdStatus.PENDING_CANCEL
    else:
        s.replace(key, 12)
        s.outcome(s.one(Replace), IN_DOUBT)
        assert s.figures(key) == (OrdStatus.PENDING_REPLACE, 0, 12)
    assert s.one(QueryOrder).order == key
    assert only_questions(s)
    assert not s.order(key).unknown, "it exists; only the change is in doubt"


@given(st.lists(st.sampled_from(["not_found", "unanswered", "banned", "stale", "wait"]), max_size=30))
def test_no_number_of_failed_questions_ends_an_order(answers: list[str]) -> None:
    s = Session()
    key = s.unknown()
    query = s.one(QueryOrder)
    started = s.now
    for answer in answers:
        if answer == "not_found" and s.now - started >= GRACE_MS * MS:
            answer = "unanswered"
        if answer == "not_found":
            s.not_found(query)
        elif answer in ("unanswered", "banned"):
            s.unanswered(query, 2_000 if answer == "banned" else 0)
        elif answer == "stale":
            s.feed(OrderQueried(s.now, (1, 99), key, fetch_failed()))
            assert s.codes() == ["stale_answer"]
            continue
        else:
            s.wait(300)
            continue
        assert s.order(key).unknown
        assert only_questions(s)
        timer = s.one(SetTimer)
        assert timer.due_ns - s.now <= GRACE_MS * MS
        assert answer != "banned" or timer.due_ns >= s.now + 2_000 * MS
        s.fire(timer)
        query = s.one(QueryOrder)
    assert not is_done(s.order(key))
    assert s.order(key).leaves_qty == qty(10)


@pytest.mark.parametrize(("asked_after_ms", "ended"), [(0, False), (4_999, False), (5_000, True), (60_000, True)])
def test_not_found_counts_only_when_asked_after_the_request_could_no_longer_arrive(asked_after_ms: int, ended: bool) -> None:
    s = Session()
    key = s.unknown()
    if asked_after_ms:
        s.unanswered(s.one(QueryOrder))
        timer = s.one(SetTimer)
        s.now += asked_after_ms * MS
        s.feed(TimerFired(s.now, timer.id, timer.purpose, timer.key))
    s.now += 60_000 * MS  # when the answer comes is of no matter: it is as old as the question
    s.not_found(s.one(QueryOrder))
    assert is_done(s.order(key)) == ended
    assert s.codes() == (["never_arrived"] if ended else [])
    if ended:
        assert s.figures(key) == (OrdStatus.REJECTED, 0, 0)


def test_an_accepted_order_must_be_missed_three_times_after_the_grace() -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), IN_DOUBT)
    missed = 0
    while not is_done(s.order(key)):
        s.not_found(s.one(QueryOrder))
        missed += 1
        if not is_done(s.order(key)):
            s.wait(GRACE_MS)
            s.fire()
    assert missed == 3
    assert s.codes() == ["gone"]
    assert s.order(key).status is OrdStatus.CANCELLED
    s.fill(key, 10)
    assert s.codes() == ["late_fill"]
    assert s.position() == qty(10)


@pytest.mark.parametrize(
    ("status", "cum", "expected"),
    [
        (ReportStatus.OPEN, 0, (OrdStatus.NEW, 0, 10)),
        (ReportStatus.OPEN, 4, (OrdStatus.PARTIALLY_FILLED, 4, 6)),
        (ReportStatus.OPEN, 10, (OrdStatus.FILLED, 10, 0)),
        (ReportStatus.FILLED, 10, (OrdStatus.FILLED, 10, 0)),
        (ReportStatus.FILLED, 0, (OrdStatus.FILLED, 10, 0)),
        (ReportStatus.FILLED, 7, (OrdStatus.FILLED, 7, 0)),
        (ReportStatus.CANCELLED, 0, (OrdStatus.CANCELLED, 0, 0)),
        (ReportStatus.CANCELLED, 4, (OrdStatus.CANCELLED, 4, 0)),
        (ReportStatus.EXPIRED, 4, (OrdStatus.EXPIRED, 4, 0)),
        (ReportStatus.REJECTED, 0, (OrdStatus.REJECTED, 0, 0)),
    ],
)
def test_what_the_venue_finds_settles_it(status: ReportStatus, cum: int, expected: tuple[OrdStatus, int, int]) -> None:
    s = Session()
    key = s.unknown(SELL)
    s.found(s.one(QueryOrder), status, cum_qty=qty(cum))
    assert s.figures(key) == expected
    assert s.position() == -qty(expected[1])
    assert s.order(key).requests.doubt_ns == 0
    assert only_questions(s)


def test_an_acknowledged_place_without_a_report_is_asked_for() -> None:
    s = Session()
    key = s.submit()
    s.outcome(s.one(Place))
    timer = s.one(SetTimer)
    assert timer.purpose is Purpose.ORDER
    assert timer.due_ns == s.now + s.config.evidence_ms * MS
    s.fire(timer)
    assert s.one(QueryOrder).order == key
    assert s.order(key).unknown


@pytest.mark.parametrize("end", ["accept", "cancelled", "reject", "expired"])
def test_a_report_that_comes_in_time_makes_the_timer_idle(end: str) -> None:
    s = Session()
    key = s.submit()
    s.outcome(s.one(Place))
    timer = s.one(SetTimer)
    getattr(s, end)(key)
    s.fire(timer)
    assert s.effects == ()


def test_an_order_has_one_question_under_way_at_most() -> None:
    s = Session()
    key = s.unknown()
    s.cancel(key)
    s.outcome(s.one(Cancel), IN_DOUBT)
    assert s.got(QueryOrder) == []
    assert len(s.all(QueryOrder)) == 1


def test_while_it_is_unknown_its_slot_is_blocked_and_the_other_side_is_not() -> None:
    s = Session()
    s.unknown(BUY)
    s.ask(BUY)
    assert s.one(Denied).code == "unknown_order_in_slot"
    s.ask(SELL)
    assert len(s.got(Place)) == 1


@pytest.mark.parametrize("kind", [REFUSED, UNAVAILABLE])
def test_a_definite_refusal_of_the_place_is_evidence(kind: OutcomeKind) -> None:
    s = Session()
    key = s.submit()
    s.outcome(s.one(Place), kind)
    assert s.figures(key) == (OrdStatus.REJECTED, 0, 0)
    assert not s.got(QueryOrder)


def test_a_cancel_that_was_not_applied_is_tried_again_while_it_is_wanted() -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    for _ in range(12):
        s.outcome(s.one(Cancel), UNAVAILABLE, retry_after_ms=3_000)
        timer = s.one(SetTimer)
        assert timer.due_ns >= s.now + 3_000 * MS
        s.fire(timer)
    assert s.one(Cancel).target.order == key


def test_a_cancel_refused_of_a_live_order_is_asked_about_and_sent_again() -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), REFUSED, code="-2011")
    s.found(s.one(QueryOrder))
    s.fire()
    assert s.one(Cancel).target.order == key


def test_a_second_cancel_while_one_is_pending_is_refused() -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    s.cancel(key)
    assert s.one(Rejected).code == "cancel_pending"


# --- restart ------------------------------------------------------------------------------------------------------------


def test_a_restart_puts_whatever_was_under_way_in_doubt_and_asks() -> None:
    s = Session()
    placing, cancelling, replacing = s.submit(), s.working(), s.working()
    quiet = s.working()
    s.cancel(cancelling)
    s.replace(replacing, 12)
    s.restart()
    assert sorted(query.order for query in s.got(QueryOrder)) == sorted([placing, cancelling, replacing])
    assert only_questions(s)
    assert s.order(placing).unknown
    assert s.figures(replacing)[2] == 12
    assert s.figures(quiet) == (OrdStatus.NEW, 0, 10)


def test_after_a_restart_an_order_missing_from_the_lists_is_asked_for_and_one_listed_is_not() -> None:
    s = Session()
    there, missing = s.working(), s.working()
    s.restart()
    s.answer_stock(row(s.order(there)))
    assert [query.order for query in s.all(QueryOrder)] == [missing]
    assert s.order(missing).leaves_qty == qty(10), "absence is a question, not an answer"


def test_answers_and_timers_of_before_the_restart_are_stale() -> None:
    s = Session()
    key = s.unknown()
    query = s.one(QueryOrder)
    s.restart()
    asked = s.one(QueryOrder)
    s.not_found(query)
    assert s.codes() == ["stale_answer"]
    assert s.order(key).requests.query == asked.id


def test_a_wanted_cancel_is_still_wanted_after_a_restart() -> None:
    s = Session()
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), UNAVAILABLE)
    s.restart()
    timer = next(t for t in s.got(SetTimer) if t.purpose is Purpose.ORDER)
    s.fire(timer)
    assert s.one(Cancel).target.order == key


def test_a_restart_under_another_name_or_other_symbols_is_refused() -> None:
    s = Session()
    for conf in (config(session="other01"), config(symbols=("ETHUSDT", "BTCUSDT")), config(symbols=("BTCUSDT",))):
        s.restart(conf)
        assert s.codes() == ["config_changed"]
    s.restart(config(symbols=("BTCUSDT", "ETHUSDT", "XRPUSDT")))
    assert s.codes() == []
