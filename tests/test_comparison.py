"""Comparing two runs. Goal: what is alike counts as alike, and what the figures say is true of the steps that were seen.

Method: every class of effect is compared with itself, changed in one field at a time, against a list of the fields that matter; figures are
taken from steps made by hand.
"""

from itertools import pairwise
from typing import Any, get_type_hints

import attrs
import pytest
from haltcore.effects import (
    EFFECT_CLASSES,
    CancelTarget,
    Mode,
    OrdType,
    Place,
    Price,
    Purpose,
    Severity,
    Side,
    SweepMethod,
    SweepStatus,
    TimeInForce,
    Trigger,
    qty,
)
from haltcore.effects.values import SCALE
from haltcore.effects.vocabulary import Fence, SetTimer
from haltcore.fsm.comparison import POINTS, SENT, CourseTaken, Series, decisions, likeness, ruling, rulings_differ
from haltcore.fsm.events import MarkPrice, ReplaceOrder, SubmitOrder

from tests.helpers import BTC, BUY, SELL, Session, with_limits

#: The fields by which two effects of a class differ; of the others none counts. Classes that answer nobody are not compared at all.
MATTER = {
    "Place": ["order"], "Replace": ["order", "qty", "price"], "Cancel": ["target", "conditional"],
    "CancelBatch": ["symbol", "targets", "conditional"], "CancelAll": ["symbol", "conditional"], "QueryOrder": ["order"],
    "FetchOpenOrders": ["symbol", "conditional"], "FetchPositions": [], "AcquireLease": [], "RenewLease": [], "ReleaseLease": [],
    "PublishFreeze": ["scope"], "ReadFreeze": [], "ClearFreeze": ["scope"], "SetTimer": ["due_ns", "purpose", "key"],
    "Denied": ["code", "order"], "ModeChanged": ["scope", "mode"],
}  # fmt: skip
_VALUES: dict[Any, tuple[Any, Any]] = {
    int: (1, 2), str: ("a", "b"), bool: (False, True), Side: (BUY, SELL), OrdType: (OrdType.LIMIT, OrdType.MARKET),
    TimeInForce: (TimeInForce.GTC, TimeInForce.IOC), Mode: (Mode.FREEZING, Mode.FROZEN), Trigger: (Trigger.MANUAL, Trigger.LOSS),
    Severity: tuple(Severity)[:2], Purpose: (Purpose.FEED, Purpose.LATCH), SweepStatus: tuple(SweepStatus)[:2],
    SweepMethod: tuple(SweepMethod)[:2], Fence: (Fence(1, 1), Fence(1, 2)),
    CancelTarget: (CancelTarget(1, "", "x"), CancelTarget(2, "", "x")),
}  # fmt: skip


def values(hint: Any) -> tuple[Any, Any]:
    """Two values of a field."""
    text = str(hint)
    if hint in _VALUES:
        return _VALUES[hint]
    if text.startswith("tuple[int, int]"):
        return (1, 1), (1, 2)
    if "CancelTarget" in text:
        return (CancelTarget(1, "", "x"),), (CancelTarget(2, "", "x"),)
    if text.startswith("tuple[str"):
        return ("a",), ("b",)
    return 1, 2  # numbers by another name, or None


@pytest.mark.parametrize("kind", [kind for kind in EFFECT_CLASSES if kind.__name__ in MATTER], ids=lambda kind: kind.__name__)
def test_what_matters_in_an_effect(kind: Any) -> None:
    hints = get_type_hints(kind)
    fields = [field.name for field in attrs.fields(kind)]
    one = kind(**{name: values(hints[name])[0] for name in fields})
    changed = {name: attrs.evolve(one, **{name: values(hints[name])[1]}) for name in fields}
    assert [name for name in fields if likeness(changed[name]) != likeness(one)] == [n for n in fields if n in MATTER[kind.__name__]]


def test_a_timer_whose_time_is_drawn_is_alike_at_any_time() -> None:
    for purpose in Purpose:
        one, two = SetTimer((1, 0), 5, purpose, 3), SetTimer((1, 0), 6, purpose, 3)
        assert (likeness(one) == likeness(two)) == (purpose in (Purpose.SWEEP, Purpose.START))


def test_decisions_are_what_reaches_the_venue_denials_and_modes() -> None:
    session = Session(limits=with_limits(inventory=2_000))
    session.mark(100)
    assert decisions(session.effects) == []
    session.submit(amount=10)
    assert [kind.__name__ for kind, *_ in decisions(session.effects)] == ["Place"]
    session.ask(amount=90)
    assert [(kind.__name__, *rest) for kind, *rest in decisions(session.effects)] == [("Denied", "max_inventory_usd", 0)]
    session.freeze()
    assert next(kind.__name__ for kind, *_ in decisions(session.effects)) == "ModeChanged"


def test_a_ruling_is_of_submits_and_replaces_alone() -> None:
    session = Session(limits=with_limits(inventory=2_000))
    session.mark(100)
    submit = SubmitOrder(session.now, BTC, BUY, qty(1), None)
    assert ruling(MarkPrice(session.now, BTC, Price(1)), session.effects) == ""
    key = session.working(amount=10)
    assert ruling(submit, session.ask(amount=90)) == "max_inventory_usd"
    replace = ReplaceOrder(session.now, key, qty(11), None)
    assert ruling(replace, session.replace(key, 11)) == SENT
    assert ruling(replace, session.replace(key, 12)) == "replace_pending"


def test_a_difference_names_the_order_whichever_run_has_it() -> None:
    session, empty = Session(), Session()
    session.mark(100)
    key = session.working(amount=10)
    replace = ReplaceOrder(session.now, key, qty(11), None)
    for cores in ((session.core, empty.core), (empty.core, session.core)):
        found = rulings_differ(99, replace, SENT, "unknown_order", cores)
        assert found is not None
        assert (found.order, found.record, found.replace, found.client_id) == (key, 99, True, session.client_id(key))
    assert rulings_differ(99, replace, SENT, "unknown_order", (empty.core, empty.core)) is None
    assert rulings_differ(99, replace, SENT, SENT, (session.core, session.core)) is None


def test_a_course_counts_what_it_saw() -> None:
    session, taken = Session(limits=with_limits(inventory=2_000)), CourseTaken()

    def see() -> int:
        taken.see(session.core.seq, session.core, session.effects)
        return session.core.seq

    session.mark(100)
    key = session.submit(amount=10)
    sent = see()
    session.outcome(session.one(Place))
    session.accept(key)
    session.ask(amount=90)
    see()
    session.fill(key, 10, 120, fee=SCALE)
    filled = see()
    session.freeze()
    frozen = see()
    session.freeze(reason="again")
    see()
    course = taken.course()
    assert (course.sent, course.denied) == (1, (("max_inventory_usd", 1),))
    assert [(f.record, f.scope, f.trigger, f.reason) for f in course.freezes] == [(frozen, "", Trigger.MANUAL, "a test")]
    assert (course.most_open.value, course.most_open.record) == (1, sent)
    assert (course.highest_exposure.value, course.highest_exposure.record) == (1_000 * SCALE * SCALE, sent)
    assert (course.lowest_gain.value, course.lowest_gain.record) == (-201 * SCALE * SCALE, filled)
    assert (course.end.gain, course.end.open_orders, course.end.exposure) == (-201 * SCALE * SCALE, 0, 1_000 * SCALE * SCALE)


@pytest.mark.parametrize("changes", [0, 1, POINTS - 1, POINTS, POINTS + 1, 7 * POINTS + 3])
def test_a_series_is_bounded_even_and_complete_at_its_ends(changes: int) -> None:
    session, still = Session(thorough=False), Session(thorough=False)
    session.mark(1)
    session.fill(session.working(amount=1), 1, 1)
    series, record = Series(), 0
    series.see(record, record, session.core, still.core)
    for number in range(changes):
        record += 1
        session.mark(2 + number)
        for _ in range(2):  # nothing moves the second time, so there is no second point
            series.see(record, record, session.core, still.core)
    points = series.points()
    assert points[0].record == 0
    assert points[-1].record == changes
    assert min(changes + 1, POINTS // 2) <= len(points) <= POINTS + 1
    gaps = [two.record - one.record for one, two in pairwise(points[:-1])]
    assert len(dict.fromkeys(gaps)) <= 1
