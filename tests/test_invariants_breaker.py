"""The invariant of the breaker tells each way in which it could come undone from the lawful step beside it.

Method: steps are made by hand, from one state of the breaker to another on some event; nothing of the machine is asked.
"""

from collections.abc import Sequence

import attrs
import pytest
from haltcore.effects import NO_FENCE, BreakerMode, Effect, OrdType, Place, TimeInForce, price, qty
from haltcore.fsm.breaker import Breaker, Mark
from haltcore.fsm.breaker_copy import Copy
from haltcore.fsm.breaker_text import to_text
from haltcore.fsm.config import BreakerPolicy
from haltcore.fsm.core import Core, PlaceBreaker
from haltcore.fsm.events import BreakerAnswer, BreakerKind, Event, MarkPrice, Outcome, OutcomeKind, OverrideBreaker, Restarted, Verb
from haltcore.fsm.freeze import HELD_BACK
from haltcore.fsm.invariants_breaker import breaker_stays_open

from tests.helpers import BTC, BUY, T0, Session, config

Step = tuple[Core, Event, Core, Sequence[Effect]]


def moved(
    then: Breaker, now: Breaker | None = None, event: Event | None = None, effect: Effect | None = None, late_ms: int = 0
) -> Step:
    """A step from one state of the breaker to another, on an event that does not matter or this one."""
    s = Session(breaker=BreakerPolicy(3, 10_000, 5_000, 1))
    cores = [
        attrs.evolve(s.core, now_ns=s.now + late_ms * 1_000_000, flow=attrs.evolve(s.core.flow, breaker=PlaceBreaker(Copy(state), 1)))
        for state in (then, now or then)
    ]
    said = event if event is not None else MarkPrice(s.now, BTC, price(1))
    return cores[0], said, cores[1], () if effect is None else (effect,)


def state_of(mode: BreakerMode, *probes: str, generation: int = 2, until_ms: int = 0) -> Breaker:
    until_ns = T0 + until_ms * 1_000_000 if until_ms else 0
    return Breaker(mode, generation, T0, T0, T0, until_ns, "ann", "why", (), tuple(Mark(probe, T0) for probe in probes))


def stored(mode: BreakerMode, kind: BreakerKind = BreakerKind.OK) -> BreakerAnswer:
    return BreakerAnswer(T0, (1, 1), "place", kind, 2, to_text(Breaker(mode, 3, T0)))


def forced_closed(until_ms: int) -> BreakerAnswer:
    """The store's word of a person that has forced it closed until then."""
    until_ns = T0 + until_ms * 1_000_000 if until_ms else 0
    text = to_text(Breaker(BreakerMode.FORCED_CLOSED, 3, T0, 0, T0, until_ns, "ann", "why"))
    return BreakerAnswer(T0, (1, 1), "place", BreakerKind.OK, 2, text)


HALF, CLOSED, OPEN, FORCED_OPEN = BreakerMode.HALF_OPEN, BreakerMode.CLOSED, BreakerMode.OPEN, BreakerMode.FORCED_OPEN
ACK = Outcome(T0, (2, 0), Verb.PLACE, 2, OutcomeKind.ACKNOWLEDGED)
A_PLACE: Effect = Place(
    (2, 0), 2, "x", BTC, BUY, OrdType.LIMIT, qty(1), price(1), None, TimeInForce.GTC, False, False, "", "", "", 0, NO_FENCE
)  # fmt: skip
#: Steps of the breaker that must not be, and beside them some that may.
BREAKER_STEPS: list[tuple[bool, Step]] = [
    (False, moved(state_of(OPEN), effect=A_PLACE, late_ms=4_999)),
    (True, moved(state_of(OPEN), state_of(HALF, "a", generation=3), effect=A_PLACE, late_ms=5_000)),
    (False, moved(state_of(FORCED_OPEN), effect=A_PLACE, late_ms=10**9)),
    (False, moved(state_of(FORCED_OPEN, until_ms=10), effect=A_PLACE, late_ms=9)),
    (False, moved(state_of(HALF, "a"), state_of(HALF, "a", "b"), effect=A_PLACE)),
    (False, moved(state_of(OPEN), state_of(CLOSED))),
    (False, moved(state_of(HALF, "a"), state_of(CLOSED))),
    (False, moved(state_of(FORCED_OPEN), state_of(CLOSED), ACK)),
    (False, moved(state_of(OPEN), state_of(CLOSED), ACK)),
    (True, moved(state_of(HALF, "a"), state_of(CLOSED), ACK)),
    (True, moved(state_of(HALF, "a"), state_of(CLOSED), attrs.evolve(ACK, kind=OutcomeKind.REFUSED, code="margin"))),
    (False, moved(state_of(HALF, "a"), state_of(CLOSED), attrs.evolve(ACK, kind=OutcomeKind.REFUSED, code=HELD_BACK[0]))),
    (False, moved(state_of(HALF, "a"), state_of(CLOSED), attrs.evolve(ACK, kind=OutcomeKind.IN_DOUBT))),
    (False, moved(state_of(HALF, "a"), state_of(CLOSED), attrs.evolve(ACK, verb=Verb.CANCEL))),
    (True, moved(state_of(OPEN), state_of(CLOSED), OverrideBreaker(T0, "place", CLOSED, 0, "ann", "well"))),
    (True, moved(state_of(OPEN), state_of(CLOSED), stored(CLOSED))),
    (False, moved(state_of(OPEN), state_of(CLOSED), stored(OPEN))),
    (False, moved(state_of(OPEN), state_of(CLOSED), stored(CLOSED, BreakerKind.UNAVAILABLE))),
    (True, moved(state_of(OPEN), state_of(CLOSED), forced_closed(100), late_ms=100)),
    (False, moved(state_of(OPEN), state_of(CLOSED), forced_closed(100), late_ms=99)),
    (False, moved(state_of(OPEN), state_of(CLOSED), forced_closed(0), late_ms=10**6)),
    (False, moved(state_of(OPEN), state_of(CLOSED), attrs.evolve(stored(CLOSED), state='"mode":"closed"'))),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BREAKER_STEPS)))
def test_the_breaker_stays_open(number: int) -> None:
    sound, taken_step = BREAKER_STEPS[number]
    assert (not breaker_stays_open(*taken_step)) is sound


def test_only_a_restart_may_take_it_away() -> None:
    s = Session(breaker=BreakerPolicy())
    gone = attrs.evolve(s.core, flow=attrs.evolve(s.core.flow, breaker=None))
    assert breaker_stays_open(s.core, MarkPrice(T0, BTC, price(1)), gone, ()) == "the breaker is gone on MarkPrice"
    assert breaker_stays_open(s.core, Restarted(T0, config(), "ann"), gone, ()) == ""
