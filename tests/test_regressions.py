"""Bugs that the search, the state machine or their writing found in the core, each with its shortest story. Goal: none of them comes back.

Method: the events of the counterexample, through a session that checks every invariant; then the one thing that was wrong.
"""

from haltcore.effects import Cancel, CancelAll, CancelBatch, Purpose, QueryOrder, Replace, SetTimer
from haltcore.fsm.config import VenueTraits
from haltcore.fsm.events import OrderReplaced, ReportStatus, TradeBusted, TradeCorrected
from haltcore.fsm.order import OrdStatus

from .helpers import BTC, ETH, IN_DOUBT, UNAVAILABLE, Session, price, qty, row


def test_a_timer_fires_once() -> None:
    """The core went on waiting for a timer that had fired: an order could look attended and be forgotten."""
    s = Session()
    key = s.working()
    s.cancel(key)
    s.outcome(s.one(Cancel), UNAVAILABLE)
    timer = s.one(SetTimer)
    s.fire(timer)
    assert s.got(Cancel)
    assert s.order(key).requests.timer is None
    assert s.fire(timer) == ()


def test_an_answer_from_before_a_replacement_does_not_undo_it() -> None:
    """Asked while the replace was in doubt; answered with the old size; then the replace landed and was reported. The answer, heard last,
    shrank the order to its old size, while the larger one was live."""
    s = Session()
    key = s.working(amount=2)
    s.replace(key, 3, 200)
    s.outcome(s.one(Replace), IN_DOUBT)
    query = s.one(QueryOrder)
    s.feed(OrderReplaced(s.now, s.client_id(key), "", qty(3), price(200)))
    assert s.got(QueryOrder), "asked anew"
    s.found(query, qty=qty(2), price=price(100))
    assert s.codes() == ["stale_answer"]
    assert s.order(key).leaves_qty == qty(3)


def test_an_answer_without_doubt_does_not_drop_a_replace_that_was_acknowledged() -> None:
    """The order was asked for while its place was in doubt, shown to be live, and replaced; the answer came after the acknowledgement. With
    no moment of doubt to count from, the replace passed for one that could no longer arrive."""
    s = Session()
    key = s.unknown(amount=2)
    query = s.one(QueryOrder)
    s.accept(key)
    s.replace(key, 3, 200)
    s.outcome(s.one(Replace))
    s.found(query, qty=qty(2), price=price(100))
    assert s.order(key).leaves_qty == qty(3)


def test_the_outcome_of_a_batch_reaches_its_orders() -> None:
    """A batch that failed left its orders pending cancel; once the freeze was lifted by force, they could not be cancelled any more."""
    s = Session(venue=VenueTraits(conditional=False, cancel_all=False))
    keys = [s.working(), s.working()]
    s.freeze()
    batch = s.one(CancelBatch)
    s.unfreeze(force=True)
    s.outcome(batch, UNAVAILABLE)
    assert [s.order(key).requests.cancel for key in keys] == [None, None]
    s.cancel(keys[0])
    assert s.got(Cancel)


def test_a_busted_trade_that_was_known_only_by_the_total_counts_as_open_again() -> None:
    """The venue's total said filled; the bust named a trade that had not been reported. The order stayed filled."""
    s = Session()
    key = s.unknown(amount=2)
    s.found(s.one(QueryOrder), ReportStatus.FILLED, cum_qty=qty(2))
    s.feed(TradeBusted(s.now, s.client_id(key), "t1"))
    assert s.got(QueryOrder)
    assert (s.order(key).cum_qty, s.order(key).leaves_qty) == (0, qty(2))


def test_an_answer_from_before_a_bust_does_not_undo_it() -> None:
    """The total in the answer still held the trade that was void by now, and the order passed for filled."""
    s = Session()
    key = s.unknown(amount=2)
    query = s.one(QueryOrder)
    s.fill(key, 2, trade="t1")
    s.feed(TradeBusted(s.now, s.client_id(key), "t1"))
    s.found(query, ReportStatus.FILLED, cum_qty=qty(2))
    assert (s.order(key).cum_qty, s.order(key).leaves_qty) == (0, qty(2))


def test_a_full_order_whose_trade_is_corrected_under_a_pending_replace_is_asked_for() -> None:
    """It was full, so it had left the venue's book; the larger size that was asked for hid that. When the replace was refused, it counted
    as open, and nobody asked."""
    s = Session()
    key = s.working(amount=2)
    s.replace(key, 3)
    s.fill(key, 2, trade="t1")
    s.feed(TradeCorrected(s.now, s.client_id(key), "t1", qty(1), price(100)))
    s.found(s.one(QueryOrder), ReportStatus.CANCELLED, cum_qty=qty(1))
    assert s.figures(key) == (OrdStatus.CANCELLED, 1, 0)


def test_a_sweep_leaves_the_orders_of_a_scope_alone_that_was_unfrozen_meanwhile() -> None:
    """Both symbols were listed as open, then one was unfrozen by force; the next round cancelled its orders all the same."""
    s = Session(venue=VenueTraits(conditional=False))
    keys = [s.working(symbol=BTC), s.working(symbol=ETH)]
    s.freeze(BTC)
    s.freeze(ETH)
    for effect in s.got(CancelAll):
        s.outcome(effect)
    s.lists_all(*(row(s.order(key)) for key in keys))
    s.unfreeze(ETH, force=True)
    s.fire(purpose=Purpose.SWEEP)
    assert [effect.target.order for effect in s.got(Cancel)] == [keys[0]]
