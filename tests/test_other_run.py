"""The other run beside the log. Goal: its timers fire when they are due, its requests find their answers, and nothing stays unanswered.

Method: short sessions in which it asks for other things, or at other times, than the recorded run.
"""

import attrs
from haltcore.effects import CancelAll, Mode, Place, Trigger, usd
from haltcore.fsm.config import Config
from haltcore.fsm.core import SweepPhase
from haltcore.fsm.events import VenueLink

from tests.counterfactuals import Life, Taped, assert_decided_alike, limits, other_mode, position, spared, what_if
from tests.helpers import BTC, ETH, MS, VenueTraits, row


def test_a_question_that_nobody_can_answer_yet_is_put_again() -> None:
    """The other run is less patient: it asks for an order of which the recorded run knows no more. Evidence makes it known to both."""
    session = Taped()
    session.mark(100)
    key = session.submit(amount=8)
    session.outcome(session.one(Place))
    session.wait(900)
    session.mark(100)

    def hasty(config: Config) -> Config:
        return attrs.evolve(config, evidence_ms=17)

    order = what_if(session, hasty).core.orders[key]
    assert order.unknown
    assert (order.requests.query, order.requests.attempt > 0) == (None, True)
    session.accept(key)
    session.fill(key, 2)
    found = what_if(session, hasty)
    order = found.core.orders[key]
    assert (order.accepted, order.requests.doubt_ns, position(found)) == (True, 0, 2)
    assert_decided_alike(found)


def test_a_timer_that_the_log_does_not_have() -> None:
    """The link goes down and comes back after 3 s: too late under the changed configuration, which freezes after 1 s."""
    session = Taped()
    session.mark(100)
    key = session.working()
    down = session.now
    session.feed(VenueLink(down, False, "line"))
    session.wait(3_000)
    session.feed(VenueLink(session.now, True, "line"))
    back = session.last
    session.lists_all(row(session.order(key)))
    session.fill(key, 4)
    found = what_if(session, lambda config: attrs.evolve(config, venue_lost_ms=1_000))
    (begun,) = found.other.freezes
    assert (begun.trigger, begun.record, begun.at_ns) == (Trigger.VENUE_LOST, back, down + 1_000 * MS)
    assert (found.first, found.recorded.freezes) == (back, ())
    assert (position(found), len(found.core.orders)) == (0, 0)


def test_timers_die_with_their_process() -> None:
    session = Taped()
    session.mark(100)
    session.feed(VenueLink(session.now, False, "line"))
    session.wait(3_000)
    session.restart()
    session.answer_stock()
    found = what_if(session, lambda config: attrs.evolve(config, venue_lost_ms=1_000))
    assert found.other.freezes == ()


def test_a_shift_of_ids_is_no_difference() -> None:
    """A feed to be watched sets a timer at the start, so that the questions after it have other numbers than in the log."""
    for seed in range(10):
        session = Life(seed).session
        found = what_if(session, lambda config: attrs.evolve(config, limits=attrs.evolve(config.limits, feed_lost_ms=10**9)))
        assert_decided_alike(found)


def test_what_only_the_other_run_has_open_ends_with_its_freeze() -> None:
    """Both freeze in the end, by requests that are alike. Reports that come after that say nothing of the order."""
    session, key = spared()
    other = session.working(amount=2)
    session.freeze()
    assert session.got(CancelAll)
    session.prove_empty()
    session.fill(key, 3)
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert sorted(found.core.closed) == [key, other]
    assert (other_mode(found), position(found)) == (Mode.FROZEN, 0)


def test_answers_find_their_requests_under_other_ids() -> None:
    """Both freeze at once, but one symbol has no order in the other run: its cancels are fewer, and have other numbers."""
    session = Taped(venue=VenueTraits(conditional=False))
    session.mark(100)
    session.working(amount=50)
    eth = session.working(amount=2, symbol=ETH)
    session.freeze()
    first, second = session.got(CancelAll)
    assert (first.symbol, second.symbol) == (BTC, ETH)
    session.outcome(second)
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    desk = found.core.desk
    assert desk is not None
    assert desk.sweep is not None
    # Its one cancel is answered, so it has looked, and waits for the order's end; the recorded run waits for its other cancel still.
    assert desk.sweep.phase is SweepPhase.WAIT
    assert session.core.desk is not None
    assert session.core.desk.sweep is not None
    assert session.core.desk.sweep.phase is SweepPhase.REQUEST
    assert list(found.core.orders) == [eth]
