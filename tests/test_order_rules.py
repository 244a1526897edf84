"""Every report in every phase has a rule, and the rules keep to the FIX Order State Change matrices.

Method: the table is checked for completeness against the event vocabulary. The FIX scenarios (5.0 SP2 volume 4, in our words) are a
table of steps, each with the status, filled and open quantity that must show after it. Properties: any order and any duplication of
one consistent set of reports leads to the same filled quantity and the same end, and no report makes a fact shrink.
"""

from collections.abc import Callable
from typing import Any

import pytest
from haltcore.effects import Cancel, Place, Price, Qty, QueryOrder, Replace, Usd
from haltcore.fsm.events import (
    EVIDENCE_CLASSES,
    CancelRejected,
    Evidence,
    Found,
    GuardAnswer,
    GuardKind,
    Halt,
    NotFound,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderHalted,
    OrderQueried,
    OrderReplaced,
    Outcome,
    OutcomeKind,
    ReplaceRejected,
    ReportStatus,
    TradeBusted,
    TradeCorrected,
    VenueLink,
    Verb,
)
from haltcore.fsm.order import Ended, OrdStatus, Phase, is_done
from haltcore.fsm.order_change import Note, Times
from haltcore.fsm.order_rules import TABLE, apply, kind_of
from haltcore.fsm.reports import ACTIONS
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import IN_DOUBT, REFUSED, SESSION, T0, UNAVAILABLE, Session, fetch_failed, price, qty, row
from tests.test_hazards import OPEN, State, cancelled, expired, filled, rejected, unknown, working

S = OrdStatus
CLAIMS = ("place_unclaimed", "replace_unclaimed")
COMMANDS = ("want_cancel", "want_replace", "restart", "listed")


# --- the table ----------------------------------------------------------------------------------------------------------


def _every_report() -> list[Any]:
    s = Session()
    described = {status: row(s.order(s.submit()), status) for status in ReportStatus}
    outcomes = [
        Outcome(T0, (1, 0), verb, 1, kind) for verb in (Verb.PLACE, Verb.CANCEL, Verb.REPLACE) for kind in OutcomeKind
    ]
    answers = [OrderQueried(T0, (1, 0), 1, Found(r)) for r in described.values()]
    answers += [OrderQueried(T0, (1, 0), 1, NotFound()), OrderQueried(T0, (1, 0), 1, fetch_failed())]
    return [*outcomes, *answers, *(object.__new__(cls) for cls in EVIDENCE_CLASSES)]


def test_every_report_that_can_concern_an_order_has_a_row_and_no_row_is_idle() -> None:
    kinds = [kind_of(report) for report in _every_report()]
    assert sorted([*kinds, *COMMANDS, *CLAIMS]) == sorted(TABLE)


def test_every_row_has_a_rule_for_every_phase() -> None:
    for kind, rules in TABLE.items():
        assert len(rules) == len(Phase), kind
        assert all(callable(rule) and rule.__doc__ for rule in rules), kind


def test_every_note_that_a_report_can_raise_has_an_action() -> None:
    commands_only = {Note.NOT_WORKING, Note.CANCEL_PENDING, Note.REPLACE_PENDING}
    assert set(ACTIONS) == set(Note) - commands_only - {Note.RETRY}


@pytest.mark.parametrize("kind", [k for k in TABLE if k.startswith(("accepted", "place_", "cancel_", "replace_", "listed", "want_"))])
@pytest.mark.parametrize("state", [filled, cancelled, expired, rejected])
def test_only_trades_busts_and_corrections_touch_a_finished_order_s_figures(kind: str, state: State) -> None:
    s = Session()
    order = s.order(state(s))
    after, _ = apply(order, kind, _report(kind, s, order.key), Times(T0, 0))
    assert (after.cum_qty, after.leaves_qty, after.ended) == (order.cum_qty, order.leaves_qty, order.ended)


@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.parametrize("state", OPEN)
def test_what_is_no_evidence_ends_nothing(kind: str, state: State) -> None:
    s = Session()
    order = s.order(state(s))
    after, _ = apply(order, kind, _report(kind, s, order.key), Times(T0, 10**12))
    evidence = {
        "rejected", "filled", "cancelled", "expired", "place_refused", "place_unavailable", "found_filled", "found_cancelled",
        "found_expired", "found_rejected",
    }  # fmt: skip
    assert kind in evidence or not is_done(after)


def _report(kind: str, s: Session, key: int) -> Any:
    """A plain report of this kind about the order."""
    order, cid = s.order(key), s.client_id(key)
    reports: dict[str, Callable[[], Any]] = {
        "accepted": lambda: OrderAccepted(T0, cid, "v"),
        "filled": lambda: OrderFilled(T0, cid, "v", "new", qty(10), price(100), Qty(0), Usd(0)),
        "cancelled": lambda: OrderCancelled(T0, cid, Qty(0)),
        "expired": lambda: OrderExpired(T0, cid, Qty(0)),
        "halted": lambda: OrderHalted(T0, cid, Halt.STOPPED),
        "replaced": lambda: OrderReplaced(T0, cid, "v", qty(11), price(100)),
        "busted": lambda: TradeBusted(T0, cid, "none"),
        "corrected": lambda: TradeCorrected(T0, cid, "none", qty(1), price(1)),
        "listed": lambda: row(order),
    }
    if kind in reports:
        return reports[kind]()
    if kind.startswith("found_"):
        return row(order, ReportStatus(kind[6:]))
    if kind in ("not_found", "unanswered"):
        return OrderQueried(T0, (1, 0), key, NotFound() if kind == "not_found" else fetch_failed())
    if kind in ("rejected", "cancel_rejected", "replace_rejected"):
        return CancelRejected(T0, cid, "no")  # all three carry a reason
    if kind in CLAIMS:
        return GuardAnswer(T0, (99, 0), key, GuardKind.HELD, 0, "", "", "")
    verb, _, outcome = kind.partition("_")
    if outcome in list(OutcomeKind):
        return Outcome(T0, (99, 0), Verb(verb), key, OutcomeKind(outcome))
    return None


# --- the FIX scenarios --------------------------------------------------------------------------------------------------

Step = Callable[[Session, int], object]


def _ev(make: Callable[[int, str], Evidence]) -> Step:
    return lambda s, key: s.feed(make(s.now, s.client_id(key)))


ACCEPT: Step = lambda s, key: s.accept(key)  # noqa: E731
CANCEL: Step = lambda s, key: s.cancel(key)  # noqa: E731
CANCELLED: Step = lambda s, key: s.cancelled(key)  # noqa: E731
EXPIRED: Step = lambda s, key: s.expired(key)  # noqa: E731
REJECT: Step = lambda s, key: s.reject(key)  # noqa: E731
NO_CANCEL = _ev(lambda at, cid: CancelRejected(at, cid, "no"))
NO_REPLACE = _ev(lambda at, cid: ReplaceRejected(at, cid, "no"))
DONE = _ev(lambda at, cid: OrderHalted(at, cid, Halt.DONE_FOR_DAY))
STOPPED = _ev(lambda at, cid: OrderHalted(at, cid, Halt.STOPPED))
SUSPENDED = _ev(lambda at, cid: OrderHalted(at, cid, Halt.SUSPENDED))
RESUMED = _ev(lambda at, cid: OrderHalted(at, cid, Halt.NONE))


def FILL(amount: int, trade: str = "") -> Step:  # noqa: N802
    return lambda s, key: s.fill(key, amount, trade=trade or None)


def BUST(trade: str) -> Step:  # noqa: N802
    return _ev(lambda at, cid: TradeBusted(at, cid, trade))


def CORRECT(trade: str, amount: int) -> Step:  # noqa: N802
    return _ev(lambda at, cid: TradeCorrected(at, cid, trade, qty(amount), price(100)))


def REPLACE(amount: int) -> Step:  # noqa: N802
    return lambda s, key: s.replace(key, amount)


def REPLACED(amount: int) -> Step:  # noqa: N802
    return _ev(lambda at, cid: OrderReplaced(at, cid, "v", qty(amount), price(100)))


Row = tuple[Step, OrdStatus, int, int]
NEW: Row = (ACCEPT, S.NEW, 0, 10)
PART: Row = (FILL(2), S.PARTIALLY_FILLED, 2, 8)

#: One scenario per line of the matrices; an order of 10. Each step with OrdStatus, CumQty, LeavesQty after it.
SCENARIOS: dict[str, list[Row]] = {
    "part fills, then filled": [NEW, PART, (FILL(1), S.PARTIALLY_FILLED, 3, 7), (FILL(7), S.FILLED, 10, 0)],
    "part fills, then done for day, then goes on": [
        NEW, PART, (DONE, S.DONE_FOR_DAY, 2, 8), (RESUMED, S.PARTIALLY_FILLED, 2, 8), (FILL(8), S.FILLED, 10, 0)],
    "done for day without a trade": [NEW, (DONE, S.DONE_FOR_DAY, 0, 10)],
    "done for day outranks filled": [NEW, (DONE, S.DONE_FOR_DAY, 0, 10), (FILL(10), S.DONE_FOR_DAY, 10, 0)],
    "stopped, then filled": [NEW, (STOPPED, S.STOPPED, 0, 10), (FILL(4), S.STOPPED, 4, 6), (FILL(6), S.FILLED, 10, 0)],
    "suspended and resumed": [NEW, PART, (SUSPENDED, S.SUSPENDED, 2, 8), (RESUMED, S.PARTIALLY_FILLED, 2, 8)],
    "rejected at once": [(REJECT, S.REJECTED, 0, 0)],
    "filled before it was acknowledged": [(FILL(10), S.FILLED, 10, 0), (ACCEPT, S.FILLED, 10, 0)],
    "expired after a part fill (IOC)": [NEW, PART, (EXPIRED, S.EXPIRED, 2, 0)],
    "cancel of an order without a trade": [NEW, (CANCEL, S.PENDING_CANCEL, 0, 10), (CANCELLED, S.CANCELLED, 0, 0)],
    "cancel after a part fill": [NEW, PART, (CANCEL, S.PENDING_CANCEL, 2, 8), (CANCELLED, S.CANCELLED, 2, 0)],
    "fill while the cancel is pending, then cancelled": [
        NEW, PART, (CANCEL, S.PENDING_CANCEL, 2, 8), (FILL(3), S.PENDING_CANCEL, 5, 5), (CANCELLED, S.CANCELLED, 5, 0)],
    "the cancel loses against the fill": [
        NEW, PART, (CANCEL, S.PENDING_CANCEL, 2, 8), (FILL(8), S.PENDING_CANCEL, 10, 0), (NO_CANCEL, S.FILLED, 10, 0)],
    "cancel refused": [NEW, PART, (CANCEL, S.PENDING_CANCEL, 2, 8), (NO_CANCEL, S.PARTIALLY_FILLED, 2, 8)],
    "cancel before the acknowledgement": [(CANCEL, S.PENDING_CANCEL, 0, 10), (CANCELLED, S.CANCELLED, 0, 0)],
    "cancel before the acknowledgement, order rejected": [(CANCEL, S.PENDING_CANCEL, 0, 10), (REJECT, S.REJECTED, 0, 0)],
    "acknowledgement and cancel cross": [
        (CANCEL, S.PENDING_CANCEL, 0, 10), (ACCEPT, S.PENDING_CANCEL, 0, 10), (CANCELLED, S.CANCELLED, 0, 0)],
    "unsolicited cancel": [NEW, PART, (CANCELLED, S.CANCELLED, 2, 0)],
    "fill after the cancel": [NEW, (CANCELLED, S.CANCELLED, 0, 0), (FILL(4), S.CANCELLED, 4, 0)],
    "filled whole after the cancel": [NEW, (CANCELLED, S.CANCELLED, 0, 0), (FILL(10), S.FILLED, 10, 0)],
    "replace to more": [
        NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (REPLACED(12), S.NEW, 0, 12), (FILL(12), S.FILLED, 12, 0)],
    "replace to less": [NEW, (REPLACE(8), S.PENDING_REPLACE, 0, 10), (REPLACED(8), S.NEW, 0, 8), (FILL(8), S.FILLED, 8, 0)],
    "replace refused": [NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (NO_REPLACE, S.NEW, 0, 10)],
    "fill while the replace is pending": [
        NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (FILL(3), S.PENDING_REPLACE, 3, 9), (REPLACED(12), S.PARTIALLY_FILLED, 3, 9)],
    "filled while a replace to more is pending, which is then accepted": [
        NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (FILL(10), S.PENDING_REPLACE, 10, 2), (REPLACED(12), S.PARTIALLY_FILLED, 10, 2)],
    "filled while a replace to more is pending, which is then refused": [
        NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (FILL(10), S.PENDING_REPLACE, 10, 2), (NO_REPLACE, S.FILLED, 10, 0)],
    "filled while a replace to less is pending, which is then refused": [
        NEW, (REPLACE(8), S.PENDING_REPLACE, 0, 10), (FILL(10), S.PENDING_REPLACE, 10, 0), (NO_REPLACE, S.FILLED, 10, 0)],
    "replace to what is filled already": [
        NEW, PART, (REPLACE(2), S.PENDING_REPLACE, 2, 8), (REPLACED(2), S.FILLED, 2, 0)],
    "replace below what is filled": [
        NEW, (FILL(5), S.PARTIALLY_FILLED, 5, 5), (REPLACE(3), S.PENDING_REPLACE, 5, 5), (REPLACED(3), S.FILLED, 5, 0)],
    "a chain of replaces": [
        NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (REPLACED(12), S.NEW, 0, 12), (REPLACE(15), S.PENDING_REPLACE, 0, 15),
        (NO_REPLACE, S.NEW, 0, 12), (REPLACE(6), S.PENDING_REPLACE, 0, 12), (REPLACED(6), S.NEW, 0, 6)],
    "cancel while a replace is pending": [
        NEW, (REPLACE(12), S.PENDING_REPLACE, 0, 12), (CANCEL, S.PENDING_CANCEL, 0, 12), (REPLACED(12), S.PENDING_CANCEL, 0, 12),
        (CANCELLED, S.CANCELLED, 0, 0)],
    "unsolicited reduction counts at the worst case until it is confirmed": [NEW, (REPLACED(6), S.PENDING_REPLACE, 0, 10)],
    "bust of a part fill": [NEW, (FILL(2, "a"), S.PARTIALLY_FILLED, 2, 8), (BUST("a"), S.NEW, 0, 10)],
    "bust reopens a filled order": [
        NEW, PART, (FILL(8, "b"), S.FILLED, 10, 0), (BUST("b"), S.PARTIALLY_FILLED, 2, 8), (FILL(8), S.FILLED, 10, 0)],
    "bust after the cancel": [
        NEW, (FILL(2, "a"), S.PARTIALLY_FILLED, 2, 8), (CANCELLED, S.CANCELLED, 2, 0), (BUST("a"), S.CANCELLED, 0, 0)],
    "correction of a part fill": [NEW, (FILL(2, "a"), S.PARTIALLY_FILLED, 2, 8), (CORRECT("a", 3), S.PARTIALLY_FILLED, 3, 7)],
    "correction fills the order": [NEW, PART, (FILL(3, "b"), S.PARTIALLY_FILLED, 5, 5), (CORRECT("b", 8), S.FILLED, 10, 0)],
    "correction reopens the order": [NEW, (FILL(10, "a"), S.FILLED, 10, 0), (CORRECT("a", 9), S.PARTIALLY_FILLED, 9, 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_fix_order_state_changes(name: str) -> None:
    s = Session()
    key = s.submit()
    for number, (step, *expected) in enumerate(SCENARIOS[name], 1):
        step(s, key)
        assert s.figures(key) == tuple(expected), f"step {number}"
        order = s.order(key)
        assert is_done(order) or order.leaves_qty >= order.qty - order.cum_qty


# --- properties ---------------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Callable[[str], Evidence]], int, Ended]:
    """What a venue truthfully says of an order of 10, in some order, some of it twice; what is filled at the end, and the end."""
    sizes = draw(st.lists(st.integers(1, 4), max_size=3).filter(lambda parts: sum(parts) <= 10))
    ended = draw(st.sampled_from([Ended.NO, Ended.CANCELLED, Ended.EXPIRED]))
    if sum(sizes) == 10:
        ended = Ended.NO
    totals = draw(st.booleans())
    reports: list[Callable[[str], Evidence]] = [lambda cid: OrderAccepted(T0, cid, "v1")]
    total = 0
    for number, size in enumerate(sizes):
        total += size
        said = total if totals else 0
        reports.append(
            lambda cid, n=number, q=size, c=said: OrderFilled(T0, cid, "v1", f"t{n}", qty(q), Price(100), qty(c), Usd(0))  # type: ignore[misc]
        )
    if ended is not Ended.NO:
        end = OrderCancelled if ended is Ended.CANCELLED else OrderExpired
        said = total if totals else 0
        reports.append(lambda cid: end(T0, cid, qty(said)))
    doubled = reports + draw(st.lists(st.sampled_from(reports), max_size=4))
    return draw(st.permutations(doubled)), total, ended


@given(histories())
def test_any_order_and_any_duplication_of_true_reports_ends_the_same(history: tuple[list[Callable[[str], Evidence]], int, Ended]) -> None:
    reports, total, ended = history
    s = Session()
    key = s.submit()
    for report in reports:
        before = s.order(key)
        s.feed(report(s.client_id(key)))
        after = s.order(key)
        assert after.cum_qty >= before.cum_qty
        assert after.accepted >= before.accepted
        assert before.ended in (Ended.NO, after.ended)
        assert set(before.fills.trades) <= set(after.fills.trades)
    order = s.order(key)
    assert (order.cum_qty, order.ended) == (qty(total), ended)
    assert s.position() == qty(total)
    assert order.leaves_qty == (0 if ended is not Ended.NO else qty(10 - total))


# --- regressions: each was wrong once -------------------------------------------------------------------------------------


def test_not_found_is_no_evidence_while_the_placing_request_may_still_wait_in_our_own_queue() -> None:
    s = Session()
    key = s.submit()
    place = s.one(Place)
    s.cancel(key)
    s.outcome(s.one(Cancel), IN_DOUBT)
    s.wait(20_000)
    s.not_found(s.all(QueryOrder)[-1])
    s.fire()
    s.not_found(s.one(QueryOrder))
    assert s.order(key).unknown, "the place has no outcome: it may leave our process yet"
    s.outcome(place, IN_DOUBT)  # it left at 20 s at the latest, and may arrive for another 5 s
    s.not_found(s.all(QueryOrder)[-1])
    assert s.order(key).unknown
    s.wait(5_000)
    s.fire()
    s.not_found(s.one(QueryOrder))
    assert s.order(key).status is S.REJECTED


def test_an_acknowledged_place_that_was_in_doubt_gets_its_grace_anew() -> None:
    s = Session()
    key = s.submit()
    place = s.one(Place)
    s.cancel(key)
    s.outcome(s.one(Cancel), IN_DOUBT)
    s.wait(20_000)
    s.outcome(place)
    s.not_found(s.all(QueryOrder)[-1])
    assert s.order(key).unknown
    assert s.order(key).requests.place is None


def test_a_reply_that_the_last_replace_was_refused_does_not_end_the_next_one() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 12)
    first = s.one(Replace)
    s.feed(ReplaceRejected(s.now, s.client_id(key), "no"))
    s.replace(key, 15)
    for kind in (REFUSED, UNAVAILABLE, IN_DOUBT):
        s.outcome(first, kind)
        assert s.figures(key) == (S.PENDING_REPLACE, 0, 15), "the second may be applied and counts"


def test_a_replace_still_on_our_side_is_not_dropped_by_an_old_version_of_the_order() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 15)
    request = s.one(Replace)
    s.reject(key)  # a contradiction: the venue is asked
    s.wait(10_000)
    s.found(s.one(QueryOrder))
    s.fire()
    s.found(s.one(QueryOrder))
    assert s.figures(key) == (S.PENDING_REPLACE, 0, 15)
    s.outcome(request, IN_DOUBT)
    s.found(s.all(QueryOrder)[-1])
    assert s.figures(key) == (S.PENDING_REPLACE, 0, 15)
    s.wait(5_000)
    s.fire()
    s.found(s.one(QueryOrder))
    assert s.figures(key) == (S.NEW, 0, 10), "asked after the grace: it never arrived"


def test_after_a_restart_a_replace_is_settled_by_asking() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 15)
    s.restart()
    query = s.one(QueryOrder)
    s.answer_stock(row(s.order(key)))
    s.wait(6_000)
    s.found(query)
    s.fire()
    s.found(s.one(QueryOrder))
    assert s.figures(key) == (S.NEW, 0, 10)


@pytest.mark.parametrize("sign", ["listed", "fill"])
def test_a_sign_of_life_resets_how_often_the_order_was_missed(sign: str) -> None:
    s = Session()
    key = s.working()
    s.reject(key)
    s.wait(6_000)
    s.not_found(s.one(QueryOrder))
    s.fire()
    s.not_found(s.one(QueryOrder))
    if sign == "fill":
        s.fill(key, 1)
    else:
        s.feed(VenueLink(s.now, False, "lost"))
        s.feed(VenueLink(s.now, True, "back"))
        s.lists_all(row(s.order(key)))
    assert s.order(key).requests.not_found == 0


def test_a_venue_that_names_no_price_leaves_the_price_as_it_was() -> None:
    for said in (None, Price(0), Price(-5)):
        s = Session()
        key = s.unknown()
        s.found(s.one(QueryOrder), price=said)
        assert s.order(key).price == s.order(key).reserve == price(100)


def test_a_replace_report_with_a_price_that_cannot_be_is_refused() -> None:
    s = Session()
    key = s.working()
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(12), Price(-1)))
    assert s.codes() == ["invalid_report"]
    assert s.figures(key) == (S.NEW, 0, 10)


def test_the_venue_s_id_is_taken_from_the_first_report_that_has_it() -> None:
    s = Session()
    key = s.submit()
    s.feed(OrderHalted(s.now, s.client_id(key), Halt.SUSPENDED))
    assert s.order(key).venue_id == ""
    s.accept(key)
    assert s.order(key).venue_id == f"v{key}"
    s.accept(key)
    assert s.codes() == ["duplicate_report"]


@pytest.mark.parametrize("state", [working, unknown])
@pytest.mark.parametrize(("last", "at", "cum"), [(0, 1, 0), (-1, 1, 0), (1, 0, 0), (1, -1, 0), (1, 1, -1)])
def test_a_fill_that_cannot_be_is_refused(state: State, last: int, at: int, cum: int) -> None:
    s = Session()
    key = state(s)
    before = s.order(key)
    s.feed(OrderFilled(s.now, s.client_id(key), "v", "t", Qty(last), Price(at), Qty(cum), Usd(0)))
    assert s.codes() == ["invalid_report"]
    assert s.order(key) == before


def test_a_report_of_another_session_is_refused() -> None:
    s = Session()
    for client_id in ("", "other01x", SESSION, SESSION + "zzzzzzz", SESSION + "9"):
        s.feed(OrderAccepted(s.now, client_id, "v"))
        assert s.codes() == ["unknown_order"]


def test_an_answer_older_than_a_contradiction_does_not_settle_it() -> None:
    """A question is under way when a live order is rejected: its answer may have been formed before; the order is asked for anew."""
    s = Session()
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), OutcomeKind.IN_DOUBT)
    first = s.one(QueryOrder)
    s.reject(key)
    second = s.one(QueryOrder)
    s.found(first)
    assert s.codes() == ["stale_answer"]
    s.found(second, ReportStatus.REJECTED)
    assert s.order(key).ended is Ended.REJECTED


@pytest.mark.parametrize("asked", [False, True])
def test_a_late_copy_from_before_a_bust_does_not_bring_the_void_quantity_back(asked: bool) -> None:
    """Cancelled with 6 filled, 4 of them busted; a copy of the cancel still says 6. Only an answer to a question would count."""
    s = Session()
    key = s.working(amount=10)
    s.fill(key, 4, trade="t1", cum=4)
    s.fill(key, 2, trade="t2", cum=6)
    if asked:
        s.feed(TradeBusted(s.now, s.client_id(key), "t1"))
        s.cancel(key)
        s.outcome(s.one(Cancel), OutcomeKind.IN_DOUBT)
        s.found(s.one(QueryOrder), ReportStatus.CANCELLED, cum_qty=qty(5))
        assert s.order(key).cum_qty == qty(5)
        return
    s.cancelled(key, 6)
    s.feed(TradeBusted(s.now, s.client_id(key), "t1"))
    assert s.position() == qty(2)
    s.cancelled(key, 6)
    assert s.codes() == ["duplicate_report"]
    assert s.position() == qty(2)


def test_a_replace_below_the_filled_quantity_is_the_one_asked_for() -> None:
    """1 bought, 0.4 filled, replaced to 0.3: the venue says 0.4, and that is no contradiction."""
    s = Session()
    key = s.working(amount="1")
    s.fill(key, "0.4")
    s.replace(key, "0.3", 100)
    s.feed(OrderReplaced(s.now, s.client_id(key), "v2", qty("0.4"), price(100)))
    assert s.order(key).status is OrdStatus.FILLED
    assert s.codes() == []
