"""Every effect has an end: it is an answer, or a timer, or a word to people, or it owes an event, and then a failure of any kind has one.

Method: effects of every class are generated from their types, and each is failed in each way.
"""

from typing import Any

import pytest
from haltcore.effects import NO_FENCE, Cancel, CancelBatch, Effect, Part, Place, Replace
from haltcore.effects.performer import EFFECT_CLASSES
from haltcore.fsm.events import (
    EVENT_CLASSES,
    BreakerAnswer,
    BreakerKind,
    FetchFailed,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LeaseAnswer,
    LeaseKind,
    OpenOrders,
    OrderQueried,
    Outcome,
    OutcomeKind,
    Positions,
    StoreChecked,
    StoreHealth,
    Verb,
)
from haltcore.fsm.outcomes import failed, outcome, owes_outcome
from hypothesis import given
from hypothesis import strategies as st

FAILURES = [OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE, OutcomeKind.IN_DOUBT]
each_class = pytest.mark.parametrize("of", EFFECT_CLASSES, ids=lambda kind: kind.__name__)
effects: st.SearchStrategy[Effect] = st.one_of([st.from_type(kind) for kind in EFFECT_CLASSES])

#: Which event each class owes; None for those that owe none. Written out, so that a new class has to be thought about here.
OWED: dict[str, type | None] = {
    "Place": Outcome, "Replace": Outcome, "Cancel": Outcome, "CancelBatch": Outcome, "CancelAll": Outcome,
    "QueryOrder": OrderQueried, "FetchOpenOrders": OpenOrders, "FetchPositions": Positions,
    "AcquireLease": LeaseAnswer, "RenewLease": LeaseAnswer, "ReleaseLease": LeaseAnswer,
    "PublishFreeze": LatchAnswer, "ReadFreeze": LatchAnswer, "ClearFreeze": LatchAnswer,
    "ClaimGuard": GuardAnswer, "SettleGuard": GuardAnswer, "CheckStore": StoreChecked, "ShareBreaker": BreakerAnswer,
    "SetTimer": None, "Metric": None, "Alert": None,
    "Denied": None, "Rejected": None, "ModeChanged": None, "SweepReport": None,
}  # fmt: skip


def test_the_table_names_every_class() -> None:
    assert list(OWED) == [kind.__name__ for kind in EFFECT_CLASSES]


@each_class
@given(st.data())
def test_what_is_served_by_venue_or_store_owes_and_nothing_else(of: type[Effect], data: st.DataObject) -> None:
    effect = data.draw(st.from_type(of))
    assert owes_outcome(effect) == (effect.part in (Part.VENUE, Part.STORE)) == (OWED[type(effect).__name__] is not None)


@each_class
@given(st.data(), st.sampled_from(FAILURES), st.integers(0, 2**62), st.text(), st.text(), st.integers(0, 10**6))
def test_every_failure_of_every_effect_has_its_event(
    of: type[Effect], data: st.DataObject, kind: OutcomeKind, at_ns: int, code: str, text: str, retry_after_ms: int
) -> None:
    effect = data.draw(st.from_type(of))
    owed = OWED[type(effect).__name__]
    if owed is None:
        with pytest.raises(ValueError, match=f"{type(effect).__name__} owes no outcome"):
            failed(effect, at_ns, kind, code, text, retry_after_ms)
        return
    event = failed(effect, at_ns, kind, code, text, retry_after_ms)
    assert type(event) is owed
    assert type(event) in EVENT_CLASSES
    same: Any = effect
    named: Any = event
    assert (named.at_ns, named.effect) == (at_ns, same.id)
    match event:
        case Outcome():
            assert (event.kind, event.code, event.text, event.retry_after_ms) == (kind, code, text, retry_after_ms)
        case OrderQueried() | OpenOrders() | Positions():
            assert event.result == FetchFailed(kind, code, text, retry_after_ms)
        case LeaseAnswer():
            certain = LeaseKind.IN_DOUBT if kind is OutcomeKind.IN_DOUBT else LeaseKind.UNAVAILABLE
            assert (event.kind, event.fence, event.valid_until_ns, event.holder) == (certain, NO_FENCE, 0, "")
        case LatchAnswer():
            assert event.kind is (LatchKind.IN_DOUBT if kind is OutcomeKind.IN_DOUBT else LatchKind.UNAVAILABLE)
            assert (event.rows, event.epoch) == ((), 0)
        case GuardAnswer():
            assert event.kind is (GuardKind.IN_DOUBT if kind is OutcomeKind.IN_DOUBT else GuardKind.UNAVAILABLE)
            assert (event.order, event.valid_until_ns, event.holder, event.result, event.code) == (same.order, 0, "", "", code)
        case StoreChecked():
            assert event.health is (StoreHealth.IN_DOUBT if kind is OutcomeKind.IN_DOUBT else StoreHealth.UNAVAILABLE)
            assert (event.faults, event.notes) == ((), ())
        case BreakerAnswer():
            assert event.kind is (BreakerKind.IN_DOUBT if kind is OutcomeKind.IN_DOUBT else BreakerKind.UNAVAILABLE)
            assert (event.job, event.version, event.state) == (same.job, 0, "")
    if isinstance(event, OrderQueried):
        assert event.order == same.order
    if isinstance(event, OpenOrders):
        assert (event.symbol, event.conditional) == (same.symbol, same.conditional)


@given(effects)
def test_success_is_no_failure(effect: Effect) -> None:
    with pytest.raises(ValueError, match=r"has not failed"):
        failed(effect, 1, OutcomeKind.ACKNOWLEDGED, "")


@each_class
@given(st.data())
def test_an_outcome_names_its_request_and_its_order(of: type[Effect], data: st.DataObject) -> None:
    effect = data.draw(st.from_type(of))
    if OWED[type(effect).__name__] is not Outcome:
        with pytest.raises(ValueError, match="owes no Outcome"):
            outcome(effect, 1, OutcomeKind.ACKNOWLEDGED)
        return
    named = outcome(effect, 1, OutcomeKind.ACKNOWLEDGED)
    assert named.verb.value.replace("_", "") == type(effect).__name__.lower()
    match effect:
        case Place() | Replace():
            assert (named.order, named.orders) == (effect.order, ())
        case Cancel():
            assert (named.order, named.orders) == (effect.target.order, ())
        case CancelBatch():
            assert (named.order, named.orders) == (0, tuple(target.order for target in effect.targets if target.order))
        case _:
            assert (named.order, named.orders) == (0, ())


def test_every_verb_has_its_effect() -> None:
    assert [verb.value.replace("_", "") for verb in Verb] == [name.lower() for name, owed in OWED.items() if owed is Outcome]
