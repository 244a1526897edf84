"""What the other run is told. Goal: each family of events says to it what the assumptions allow, no more and no less.

Method: one short session per case, in which the two runs differ in one thing: a replace, a freeze, a trade, a row of the store; and logs
that begin in midstream.
"""


import attrs
import pytest
from haltcore.effects import (
    Cancel,
    CancelAll,
    ClaimGuard,
    FetchOpenOrders,
    Mode,
    Place,
    PublishFreeze,
    Purpose,
    QueryOrder,
    ReadFreeze,
    Replace,
    SetTimer,
    Trigger,
    bps,
    qty,
    usd,
)
from haltcore.fsm.comparison import SENT
from haltcore.fsm.config import Config
from haltcore.fsm.events import (
    CancelRejected,
    ChangeLimits,
    GuardAnswer,
    GuardKind,
    LatchRow,
    ReportStatus,
    TradeBusted,
    VenueLink,
)
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.outcomes import owes_outcome

from tests.counterfactuals import (
    Taped,
    assert_decided_alike,
    assert_nothing_differs,
    compare,
    grown,
    limits,
    log,
    other_mode,
    position,
    position_of,
    rulings,
    same,
    spared,
    what_if,
)
from tests.helpers import BTC, ETH, MS, REFUSED, StorePolicy, VenueTraits, row


def test_a_peer_freeze_is_a_fact_of_both() -> None:
    session = Taped(store=StorePolicy(configured=True), limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    session.working()
    session.fire(purpose=Purpose.LATCH)
    session.latch(session.one(ReadFreeze), LatchRow("", 7, Trigger.LOSS, "too much", "peer"))
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert [f.trigger for f in found.other.freezes] == [Trigger.PEER]


def test_the_recorded_run_is_no_peer_of_the_other() -> None:
    session = Taped(store=StorePolicy(configured=True), limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    session.edge("3")
    publish = session.one(PublishFreeze)
    mine = LatchRow("", 1, publish.trigger, publish.reason, publish.by)
    session.latch(publish, mine)
    for rows in ((mine,), (mine, LatchRow(BTC, 2, Trigger.LOSS, "too much", "peer"))):
        session.fire(purpose=Purpose.LATCH)
        session.latch(session.one(ReadFreeze), *rows)
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert [(f.scope, f.trigger) for f in found.other.freezes] == [(BTC, Trigger.PEER)]


def test_a_replace_that_was_denied_leaves_the_order_as_it_was() -> None:
    session = Taped()
    key = grown(session, (3, 9))
    session.cancelled(key, 12)
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    assert [(r.order, r.replace, r.recorded, r.other) for r in found.rulings] == [(key, True, SENT, "max_inventory_usd")]
    order = found.core.closed[key]
    assert (order.qty, order.cum_qty) == (qty(4), qty(4))
    assert (position(found), position_of(session), found.supposed) == (4, 12, 1)


def test_a_replace_that_the_log_denied_changes_the_order() -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000")))
    key = grown(session, (3,))
    found = what_if(session, limits(max_inventory_usd=None))
    assert [(r.replace, r.recorded, r.other) for r in found.rulings] == [(True, "max_inventory_usd", SENT)]
    order = found.core.orders[key]
    assert (order.qty, order.cum_qty, order.requests.replace) == (qty(20), qty(3), None)
    assert found.supposed == 1


def test_a_row_about_other_terms_does_not_change_them() -> None:
    session = Taped()
    key = grown(session, (3,))
    session.feed(VenueLink(session.now, False, "line"))
    session.feed(VenueLink(session.now, True, "line"))
    session.lists_all(row(session.order(key), cum_qty=qty(9)))
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    order = found.core.order(key)
    assert order is not None
    assert (order.qty, order.cum_qty, order.requests.doubt_ns) == (qty(4), qty(4), 0)


def frozen_only_in_the_log() -> tuple[Taped, int]:
    """Two orders; a freeze of the recorded run whose sweep asks for the one that no list shows."""
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    key = session.working(amount=8)
    session.edge("3")
    for _ in range(40):
        asked = session.effects
        if session.got(QueryOrder):
            return session, key
        for effect in asked:
            if isinstance(effect, FetchOpenOrders):
                session.lists(effect)
            elif isinstance(effect, SetTimer) and effect.purpose is Purpose.SWEEP:
                session.fire(effect)
            elif owes_outcome(effect):
                session.outcome(effect)
    raise AssertionError("the sweep does not ask")


@pytest.mark.parametrize(
    ("status", "cum", "held", "left_open"),
    [
        (ReportStatus.FILLED, 0, 8, False),
        (ReportStatus.OPEN, 3, 3, True),
        (ReportStatus.CANCELLED, 2, 2, True),
        (ReportStatus.EXPIRED, 1, 1, False),
        (ReportStatus.REJECTED, 0, 0, False),
    ],
)
def test_what_the_venue_tells_the_recorded_run_alone(status: ReportStatus, cum: int, held: int, left_open: bool) -> None:
    """Only the recorded run has asked. Fills and ends by themselves count for both; the cancel of its freeze does not."""
    session, key = frozen_only_in_the_log()
    session.found(session.one(QueryOrder), status, cum_qty=qty(cum))
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    order = found.core.order(key)
    assert order is not None
    assert (position(found), order.leaves_qty > 0) == (held, left_open)


def test_not_found_counts_for_the_run_that_asked() -> None:
    session = Taped()
    session.mark(100)
    key = session.unknown(amount=8)
    session.wait(30_000)
    session.not_found(session.one(QueryOrder))
    session.fire(purpose=Purpose.ORDER)
    session.not_found(session.one(QueryOrder))
    assert key in session.core.closed
    found = what_if(session, limits(max_order_qty=qty(9)))
    assert_decided_alike(found)
    assert key in found.core.closed


def test_what_a_freeze_stopped_on_its_way_went_out_without_it() -> None:
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    old = session.working(amount=2)
    session.replace(old, 3)
    replace = session.one(Replace)
    key = session.submit(amount=4)
    place = session.one(Place)
    session.edge("3")
    session.outcome(place, REFUSED, "frozen_at_send")
    session.outcome(replace, REFUSED, "stale_epoch")
    assert key in session.core.closed
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert sorted(found.core.orders) == [old, key]
    assert (found.core.orders[old].qty, found.core.orders[key].accepted) == (qty(3), True)
    assert found.supposed == 2
    assert_nothing_differs(what_if(session, same))


@pytest.mark.parametrize(("kind", "code"), [(GuardKind.UNAVAILABLE, "frozen_at_send"), (GuardKind.FROZEN, "")])
def test_a_claim_that_a_freeze_stopped_was_granted_without_it(kind: GuardKind, code: str) -> None:
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")), store=StorePolicy(configured=True))
    session.mark(100)
    session.ask(amount=4)
    claim = session.one(ClaimGuard)
    session.edge("3")
    session.feed(GuardAnswer(session.now, claim.id, claim.order, kind, 0, "", "", code))
    assert claim.order in session.core.closed
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert found.core.orders[claim.order].accepted
    assert_nothing_differs(what_if(session, same))


def test_a_claim_that_another_process_holds_is_a_fact_of_both() -> None:
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")), store=StorePolicy(configured=True))
    session.mark(100)
    session.ask(amount=4)
    claim = session.one(ClaimGuard)
    session.feed(GuardAnswer(session.now, claim.id, claim.order, GuardKind.HELD, 0, "peer", "", ""))
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert claim.order in found.core.closed


def test_a_configuration_of_other_books_is_refused() -> None:
    session = Taped()
    for change in ({"symbols": (ETH, BTC)}, {"session": "other01"}, {"strategies": ("mm",)}):
        with pytest.raises(ValueError, match=next(iter(change))):
            compare(log(session.steps), lambda config, change=change: attrs.evolve(config, **change))  # type: ignore[misc]


def test_a_limit_that_is_broken_in_midstream_freezes_at_once() -> None:
    session = Taped()
    session.mark(100)
    key = session.working(amount=4)
    session.fill(key, 3)
    session.mark(50)
    first = session.last
    session.mark(51)
    found = compare(log(session.steps, (first,))[1:], limits(max_daily_loss=usd("100")))
    assert [(f.record, f.trigger) for f in found.other.freezes] == [(first + 1, Trigger.LOSS)]
    assert len(found.core.orders) == 0


def test_a_feed_is_looked_after_in_midstream() -> None:
    session = Taped()
    session.mark(100)
    first, then = session.last, session.now
    session.wait(5_000)
    session.mark(51)
    found = compare(log(session.steps, (first,))[1:], limits(feed_lost_ms=700))
    assert [(f.at_ns, f.trigger) for f in found.other.freezes] == [(then + 700 * MS, Trigger.FEED_LOST)]


def test_limits_changed_at_run_time_stay_in_midstream() -> None:
    session = Taped(
        limits=Limits(max_order_qty=qty(50), max_open_orders=9),
        rules=(LimitRule(Limits(max_order_qty=qty(40)), symbol=BTC), LimitRule(Limits(max_order_qty=qty(30)), symbol=ETH)),
    )
    session.mark(100)
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_order_qty=qty(7)), symbol=BTC), "ops", "less"))
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_order_qty=qty(6)), band="high"), "ops", "less"))
    session.mark(101)
    rules = session.core.desk.rules if session.core.desk is not None else ()
    second = log(session.steps, (session.last - 1,))[1:]

    def change(config: Config) -> Config:
        rules = (LimitRule(Limits(max_order_qty=qty(1)), symbol=BTC), LimitRule(Limits(max_order_qty=qty(2)), symbol=ETH))
        return attrs.evolve(config, limits=Limits(max_order_qty=qty(3)), rules=rules)

    desk = compare(second, change).core.desk
    assert desk is not None
    figures = {rule.label: rule.limits.max_order_qty for rule in desk.rules}
    assert figures == {"account": qty(3), f"symbol {BTC}": qty(7), f"symbol {ETH}": qty(2), "band high": qty(6)}
    unchanged = compare(second, same).core.desk
    assert unchanged is not None
    assert unchanged.rules == rules


def test_a_bust_counts_for_the_trades_that_counted() -> None:
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    key = session.working(amount=9)
    session.fill(key, 2, trade="early")
    session.edge("14")
    session.fill(key, 3, trade="late")
    for trade in ("late", "early"):
        session.feed(TradeBusted(session.now, session.client_id(key), trade))
    found = what_if(session, limits(edge_freeze_threshold_bps=bps("15")))
    order = found.core.closed[key]
    assert (list(order.fills.trades), order.cum_qty, position(found)) == (["early"], 0, 0)


def test_a_bust_of_what_the_order_had_no_room_for() -> None:
    session = Taped()
    key = grown(session, (3, 9, 2))
    session.feed(TradeBusted(session.now, session.client_id(key), "t3"))
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    order = found.core.order(key)
    assert order is not None
    assert (sorted(order.fills.trades), position(found)) == (["t1", "t2"], 4)


def test_cancels_of_a_freeze_that_never_came_say_nothing() -> None:
    """A refused cancel would put the order in doubt, an acknowledged one too after a while."""
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")), venue=VenueTraits(cancel_all=False, batch=0))
    session.mark(100)
    key = session.working(amount=9)
    session.edge("3")
    session.outcome(session.one(Cancel))
    session.feed(CancelRejected(session.now, session.client_id(key), "unknown"))
    assert session.order(key).requests.doubt_ns
    order = what_if(session, limits(edge_freeze_threshold_bps=None)).core.orders[key]
    assert (order.requests.doubt_ns, order.requests.query) == (0, None)


def test_what_was_filled_before_the_cancel_counts() -> None:
    session, key = spared(cum=5)
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert (position(found), found.core.orders[key].leaves_qty, found.supposed) == (5, qty(4), 1)


def test_a_cancel_that_the_bot_wanted_anyway_counts() -> None:
    session, key = spared(wanted=True)
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert (list(found.core.closed), found.supposed) == ([key], 0)


def test_a_cancel_that_is_told_again_later_says_nothing_either() -> None:
    session, key = spared()
    session.cancelled(key)
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert list(found.core.orders) == [key]


def test_an_order_whose_freeze_never_came_is_open_when_it_is_asked_for() -> None:
    """A replace is acknowledged and its report stays away, so that both runs would ask in time; in the log a freeze comes first."""
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    key = session.working(amount=9)
    session.replace(key, 8)
    session.outcome(session.one(Replace))
    timer = session.one(SetTimer)
    session.edge("3")
    session.cancelled(key)
    session.fire(timer)
    session.wait(60_000)
    session.mark(100)
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    order = found.core.orders[key]
    assert (order.qty, order.requests.replace, order.requests.doubt_ns) == (qty(9), None, 0)


def test_a_list_shows_only_what_is_open_here() -> None:
    """The other run has frozen before, and what it ended then is shown to it no more by the lists of the next freeze."""
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    key = session.working(amount=9)
    session.edge("14")
    session.unfreeze()
    session.working(amount=2)
    session.freeze()
    cancels = session.got(CancelAll)
    session.cancelled(max(session.core.orders))
    for effect in cancels:
        session.outcome(effect)
    session.lists_all(row(session.order(key)))
    found = what_if(session, limits(edge_freeze_threshold_bps=bps("15")))
    assert session.mode() is Mode.FREEZING
    assert (other_mode(found), len(found.core.orders)) == (Mode.FROZEN, 0)


def test_a_total_is_no_more_than_the_order() -> None:
    session = Taped()
    key = grown(session, ())
    session.cancelled(key, 12)
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    assert (position(found), found.core.closed[key].cum_qty) == (4, qty(4))


def test_a_rate_goes_on_under_the_new_one_in_midstream() -> None:
    session = Taped(limits=Limits(message_rate=Rate(2, 1_000)))
    session.mark(100)
    session.submit(amount=1)
    session.submit(amount=1)
    cut = session.last
    denied = []
    for _ in range(3):
        session.ask(amount=1)
        denied.append(session.last)
    found = compare(log(session.steps, (cut,))[1:], limits(message_rate=Rate(4, 1_000)))
    assert rulings(found) == [(denied[0], "message_rate", SENT), (denied[1], "message_rate", SENT)]


def test_an_answer_to_a_question_that_the_other_run_has_put_anew() -> None:
    """Both ask for an order. The other run's replace, which the log denied, makes it ask again; the log's answer is news all the same."""
    session = Taped(limits=Limits(max_inventory_usd=usd("1000")))
    session.mark(100)
    key = session.working(amount=4)
    session.reject(key)
    query = session.one(QueryOrder)
    session.replace(key, 20)
    assert session.codes() == ["max_inventory_usd"]
    session.found(query, cum_qty=qty(3))
    order = what_if(session, limits(max_inventory_usd=None)).core.orders[key]
    assert (order.qty, order.cum_qty) == (qty(20), qty(3))
