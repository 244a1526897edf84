"""Goal: what the venue lists is believed, what it does not list is asked for, and nothing is placed before all of it is known.

Method: the questions of a start are answered, answered wrongly or not at all. What a gap of the connection brings stands in
``test_life.py``, the session tag that was used before in ``test_freeze.py``.
"""

import pytest
from haltcore.effects import Alert, ClearFreeze, Denied, FetchOpenOrders, FetchPositions, Mode, Purpose, Rejected, SetTimer, price, qty
from haltcore.fsm.config import ForeignPolicy, StoreCheck, StorePolicy, SweepPolicy
from haltcore.fsm.events import FetchedPositions, LatchAnswer, LatchKind, PositionRow, Positions, VenueLink

from tests.helpers import BTC, ETH, Session, config, fetch_failed, foreign_row


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_nothing_is_placed_until_all_of_it_is_answered(missing: int) -> None:
    s = Session(ready=False)
    asked = list(s.effects)
    late = asked.pop(missing)
    for effect in asked:
        s.effects = (effect,)
        s.answer_stock()
    s.ask()
    assert s.one(Denied).code == "not_ready"
    s.effects = (late,)
    s.answer_stock()
    assert s.submit()


def test_a_failed_question_is_asked_again_after_a_backoff_and_all_with_it() -> None:
    s = Session(ready=False)
    regular, conditional = s.got(FetchOpenOrders)
    positions = s.one(FetchPositions)
    s.lists(regular)
    s.list_failed(conditional)
    s.positions(positions, PositionRow(BTC, qty(4), price(10)))
    timer = s.one(SetTimer)
    assert timer.purpose is Purpose.START
    s.ask()
    assert s.one(Denied).code == "not_ready"
    s.fire(timer)
    assert (len(s.got(FetchOpenOrders)), len(s.got(FetchPositions))) == (2, 1)
    s.answer_stock(positions=(PositionRow(BTC, qty(4), price(10)),))
    assert s.position() == qty(4)
    assert s.submit()


def test_failed_positions_are_not_flat() -> None:
    s = Session(ready=False)
    for fetch in s.got(FetchOpenOrders):
        s.lists(fetch)
    s.feed(Positions(s.now, (1, 2), fetch_failed()))
    s.ask()
    assert s.one(Denied).code == "not_ready"


def test_opening_positions_are_taken_once_and_later_ones_compared() -> None:
    s = Session(ready=False)
    s.answer_stock(positions=(PositionRow(BTC, qty(4), price(10)), PositionRow("DOGEUSDT", qty(9), None)))
    assert s.position() == qty(4)
    s.restart()
    s.answer_stock(positions=(PositionRow(BTC, qty(5), price(10)), PositionRow(ETH, qty(0), None)))
    assert s.position() == qty(4), "never added, never overwritten"
    assert [a.code for a in s.all(Alert)] == ["position_drift"]
    s.restart()
    s.answer_stock(positions=())
    assert [a.code for a in s.all(Alert)] == ["position_drift"] * 2, "a symbol without a row is flat"


def test_drift_is_not_claimed_while_an_order_may_be_filling() -> None:
    s = Session()
    s.working()
    s.restart()
    s.answer_stock(positions=(PositionRow(BTC, qty(5), None),))
    assert "position_drift" not in [a.code for a in s.all(Alert)]


def test_positions_that_nobody_waits_for_are_refused() -> None:
    s = Session()
    s.feed(Positions(s.now, (1, 2), FetchedPositions((PositionRow(BTC, qty(9), None),))))
    assert s.one(Rejected).code == "stale_answer"
    assert s.position() == 0


def test_others_orders_are_made_known_and_left_alone() -> None:
    s = Session(ready=False)
    s.answer_stock(foreign_row("x1"), foreign_row("x2", conditional=True))
    alert = s.all(Alert)[-1]
    assert alert.code == "foreign_orders"
    assert alert.text.startswith("2 open order(s)")
    assert s.submit()


def test_both_rows_of_an_account_in_hedge_mode_count() -> None:
    s = Session(ready=False)
    s.answer_stock(positions=(PositionRow(BTC, qty(5), price(100)), PositionRow(BTC, qty(-3), None)))
    assert s.position() == qty(2)
    assert s.core.books[0].mark == price(100)


def test_a_positions_mark_values_every_owner_s_position() -> None:
    s = Session(config(strategies=("mm", "arb")))
    s.fill(s.working(strategy="mm"), 10)
    s.restart()
    s.answer_stock(positions=(PositionRow(BTC, qty(10), price(90)),))
    assert s.core.teams[1].gain == s.core.account.gain == -100 * 10**24


# --- a proof is looked at once more ---------------------------------------------------------------------------------------

SHARED = StorePolicy(configured=True, check=StoreCheck.OFF)


def proven(**fields: object) -> Session:
    """An account that is shared with other processes, frozen and proven empty."""
    s = Session(store=SHARED, **fields)  # type: ignore[arg-type]
    s.freeze()
    s.prove_empty()
    assert s.mode() is Mode.FROZEN
    return s


def late_timers(s: Session) -> list[SetTimer]:
    return [timer for timer in s.all(SetTimer) if timer.purpose is Purpose.LATE_LOOK]


def test_what_a_dead_process_still_had_under_way_at_the_proof_is_found_and_cancelled() -> None:
    """Its request arrives after the lists were read; nobody is left who waits for it."""
    s = proven()
    (timer,) = late_timers(s)
    assert timer.due_ns - s.now == (SHARED.claim_ms + s.config.venue.place_expiry_ms) * 10**6
    s.fire(timer)
    assert len(s.got(FetchOpenOrders)) == 2
    s.answer_stock(foreign_row("late1", ETH))
    assert s.mode() is Mode.FREEZING
    s.prove_empty()
    assert s.mode() is Mode.FROZEN
    assert len(late_timers(s)) == 2, "and looked at once more"


def test_a_proof_that_is_still_true_stands() -> None:
    s = proven()
    s.fire(late_timers(s)[0])
    s.answer_stock()
    assert s.mode() is Mode.FROZEN
    s.fire(late_timers(s)[0])
    assert not s.effects, "it is looked at once"


def test_nobody_looks_when_the_scope_is_lifted_or_where_others_orders_stay() -> None:
    s = proven()
    s.unfreeze()
    s.feed(LatchAnswer(s.now, s.one(ClearFreeze).id, LatchKind.OK, ()))
    s.fire(late_timers(s)[0])
    assert not s.got(FetchOpenOrders)
    assert not late_timers(proven(sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE)))
    alone = Session()
    alone.freeze()
    alone.prove_empty()
    assert not late_timers(alone)


def test_an_order_of_others_that_a_gap_of_the_connection_has_hidden_reopens_a_proven_scope() -> None:
    s = Session()
    s.freeze()
    s.prove_empty()
    s.feed(VenueLink(s.now, False, "gone"))
    s.feed(VenueLink(s.now, True, "back"))
    s.answer_stock(foreign_row("other1", BTC))
    assert s.mode() is Mode.FREEZING
