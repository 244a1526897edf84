"""A sweep ends only when emptiness is proven, and does what each row of its tables says until then.

Method: a frozen session is answered step by step, one test per row of the *phases* and *decide* tables in ``sweep.py``, then the policies
(foreign orders, lease, Retry-After, deadline), then a thousand orders. Emptiness is never taken from the test: the session's invariants
refuse any FROZEN that the lists do not prove.
"""

from typing import Any

import pytest
from haltcore.effects import (
    AcquireLease,
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    Metric,
    Mode,
    ModeChanged,
    OrdType,
    Place,
    Purpose,
    QueryOrder,
    ReleaseLease,
    RenewLease,
    SetTimer,
    SweepMethod,
    SweepReport,
    SweepStatus,
    price,
    qty,
)
from haltcore.fsm.config import ForeignPolicy, StoreCheck, StorePolicy, SweepPolicy, VenueTraits
from haltcore.fsm.core import Sweep, SweepPhase
from haltcore.fsm.events import DUPLICATE_CLIENT_ID, LeaseKind, OutcomeKind, ReportStatus, TradeBusted
from haltcore.fsm.invariants import broken_state
from haltcore.fsm.sweep import on_settled
from haltcore.fsm.turn import Turn

from tests.helpers import BTC, BUY, ETH, IN_DOUBT, MS, REFUSED, SELL, UNAVAILABLE, Session, foreign_row, row

STORE = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)
FENCE = Fence(1, 7)


def sweep(s: Session) -> Sweep:
    assert s.core.desk is not None
    assert s.core.desk.sweep is not None
    return s.core.desk.sweep


def acknowledge_all(s: Session) -> tuple[Effect, ...]:
    """Every cancel of the last step is acknowledged; what the last acknowledgement led to."""
    for effect in s.effects:
        if isinstance(effect, (Cancel, CancelBatch, CancelAll)):
            s.outcome(effect)
    return s.effects


def sweep_timer(s: Session) -> SetTimer:
    return next(timer for timer in s.got(SetTimer) if timer.purpose is Purpose.SWEEP)


def frozen_with(count: int, **fields: Any) -> tuple[Session, list[int]]:
    s = Session(**fields)
    keys = [s.working() for _ in range(count)]
    s.freeze()
    return s, keys


# --- proof ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", [1, 2, 3, 5])
def test_n_consecutive_empty_lists_of_both_books_prove_it(needed: int) -> None:
    s = Session(sweep=SweepPolicy(empty_snapshots=needed))
    s.freeze()
    for number in range(1, needed + 1):
        assert [fetch.conditional for fetch in s.got(FetchOpenOrders)] == [False, True]
        assert s.mode() is Mode.FREEZING, f"{number - 1} empty lists are not enough"
        s.lists_all()
    assert s.mode() is Mode.FROZEN
    report = s.one(SweepReport)
    assert (report.status, report.method, report.remaining, report.failed) == (SweepStatus.SUCCESS, SweepMethod.NONE, 0, 0)


def test_the_next_list_is_asked_for_only_after_the_one_before_was_answered() -> None:
    s = Session()
    s.freeze()
    regular, conditional = s.got(FetchOpenOrders)
    s.lists(regular)
    assert s.effects == ()
    s.lists(conditional)
    assert len(s.got(FetchOpenOrders)) == 2
    s.lists(regular)
    s.lists(conditional)
    assert s.mode() is Mode.FREEZING, "an answer counts once"


def test_a_list_that_shows_an_order_begins_the_count_anew() -> None:
    s = Session(sweep=SweepPolicy(empty_snapshots=3))
    s.freeze()
    s.lists_all()
    s.lists_all()
    s.lists_all(foreign_row("x"))
    assert sweep(s).streak == 0
    s.fire(sweep_timer(s))
    acknowledge_all(s)
    for _ in range(2):
        s.lists_all()
        assert s.mode() is Mode.FREEZING
    s.lists_all()
    assert s.mode() is Mode.FROZEN


def test_empty_lists_prove_nothing_while_an_order_of_ours_has_not_ended() -> None:
    s, (key,) = frozen_with(1)
    acknowledge_all(s)
    for _ in range(6):
        for query in s.got(QueryOrder):
            s.unanswered(query)
        s.lists_all()
        if s.got(SetTimer):
            timers = [t for t in s.got(SetTimer) if t.purpose is Purpose.SWEEP]
            if timers:
                s.fire(timers[0])
    assert s.mode() is Mode.FREEZING
    assert s.order(key).leaves_qty == qty(10)


# --- request ----------------------------------------------------------------------------------------------------------


def test_at_first_one_cancel_all_per_symbol_with_orders_and_book() -> None:
    s = Session()
    s.working()
    s.working(symbol=ETH)
    s.freeze()
    assert [(e.symbol, e.conditional) for e in s.got(CancelAll)] == [(BTC, False), (BTC, True), (ETH, False), (ETH, True)]
    assert not s.got(Cancel)
    assert not s.got(CancelBatch)


def test_the_freeze_of_one_symbol_touches_that_symbol_alone() -> None:
    s = Session()
    s.working()
    other = s.working(symbol=ETH)
    s.freeze(BTC)
    assert {e.symbol for e in s.got(CancelAll)} == {BTC}
    acknowledge_all(s)
    assert {e.symbol for e in s.got(FetchOpenOrders)} == {BTC}
    assert s.order(other).leaves_qty == qty(10)


@pytest.mark.parametrize(("batch", "kinds"), [(0, [Cancel] * 3), (2, [CancelBatch, Cancel]), (10, [CancelBatch])])
def test_without_cancel_all_batches_or_single_cancels(batch: int, kinds: list[type]) -> None:
    s, keys = frozen_with(3, venue=VenueTraits(cancel_all=False, batch=batch))
    sent = [e for e in s.effects if isinstance(e, (Cancel, CancelBatch, CancelAll))]
    assert [type(e) for e in sent] == kinds
    targets = [t.order for e in sent for t in ((e.target,) if isinstance(e, Cancel) else getattr(e, "targets", ()))]
    assert targets == keys


def test_stop_orders_go_to_the_conditional_book() -> None:
    s = Session(venue=VenueTraits(cancel_all=False))
    s.mark(100)
    stop = s.working(SELL, at=None, type=OrdType.STOP_MARKET, stop_price=price(90))
    plain = s.working()
    s.freeze()
    assert [(e.target.order, e.conditional) for e in s.got(Cancel)] == [(stop, True), (plain, False)]


def test_a_venue_without_a_conditional_book_is_never_asked_for_one() -> None:
    s = Session(venue=VenueTraits(conditional=False))
    s.mark(100)
    stop = s.working(SELL, at=None, type=OrdType.STOP_MARKET, stop_price=price(90))
    s.unknown(SELL, symbol=ETH)
    s.freeze()
    acknowledge_all(s)
    s.cancelled(stop)
    s.cancel(stop)
    asked = [e for e in s.history if isinstance(e, (Cancel, CancelBatch, CancelAll, FetchOpenOrders, QueryOrder))]
    assert asked
    assert not any(e.conditional for e in asked)


# --- decide -----------------------------------------------------------------------------------------------------------


def test_few_listed_orders_are_cancelled_one_by_one_or_in_batches() -> None:
    s, keys = frozen_with(10)
    acknowledge_all(s)
    for key in keys[:7]:
        s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(*[row(s.order(key)) for key in keys[7:]])
    batch = s.one(CancelBatch)
    assert [target.order for target in batch.targets] == keys[7:]
    assert sweep(s).rounds == 2
    assert all(s.order(key).requests.cancel == batch.id for key in keys[7:])


def test_many_listed_orders_get_another_cancel_all_as_venues_take_a_subset() -> None:
    s, keys = frozen_with(20)
    acknowledge_all(s)
    for key in keys[:10]:
        s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(*[row(s.order(key)) for key in keys[10:]])
    assert [(e.symbol, e.conditional) for e in s.got(CancelAll)] == [(BTC, False)]


def test_without_progress_the_same_after_a_backoff() -> None:
    s, keys = frozen_with(2)
    waits = []
    for _ in range(4):
        acknowledge_all(s)
        s.lists_all(*[row(s.order(key)) for key in keys])
        assert not s.got(Cancel)
        assert sweep(s).phase is SweepPhase.WAIT
        waits.append(sweep_timer(s).due_ns - s.now)
        s.fire(sweep_timer(s))
        assert len(s.got(CancelBatch)) == 1
    for attempt, wait in enumerate(waits):
        assert 0 <= wait <= 200 * 2**attempt * MS
    assert sweep(s).attempt == 4


def test_a_failed_list_is_not_an_empty_one_and_is_read_again() -> None:
    s = Session(sweep=SweepPolicy(empty_snapshots=1))
    s.freeze()
    regular, conditional = s.got(FetchOpenOrders)
    s.lists(regular)
    s.list_failed(conditional)
    assert s.mode() is Mode.FREEZING
    s.fire(sweep_timer(s))
    assert [fetch.conditional for fetch in s.got(FetchOpenOrders)] == [True], "only the one that could not be read"
    s.lists_all()
    assert s.mode() is Mode.FROZEN


def test_while_a_list_cannot_be_read_no_order_counts_as_absent() -> None:
    s, keys = frozen_with(50)
    acknowledge_all(s)
    for _ in range(5):
        for fetch in s.got(FetchOpenOrders):
            if fetch.conditional:
                s.lists(fetch)
            else:
                s.list_failed(fetch, retry_after_ms=1_000)
        assert not s.all(QueryOrder)
        s.fire(sweep_timer(s))
    assert all(s.order(key).leaves_qty for key in keys)


def test_orders_that_are_open_but_not_listed_are_asked_for_the_second_time() -> None:
    s, (key,) = frozen_with(1)
    acknowledge_all(s)
    s.lists_all()
    assert not s.got(QueryOrder), "its report may be under way"
    s.fire(sweep_timer(s))
    s.lists_all()
    query = s.one(QueryOrder)
    assert query.order == key
    timer = sweep_timer(s)
    s.found(query, ReportStatus.FILLED)
    assert s.order(key).cum_qty == qty(10)
    assert len(s.got(FetchOpenOrders)) == 2, "the last order has ended: look at once"
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN
    s.fire(timer)
    assert s.effects == ()


def test_a_cancelled_order_that_is_still_listed_is_cancelled_again() -> None:
    s, (key,) = frozen_with(1)
    open_row = row(s.order(key))
    acknowledge_all(s)
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(open_row)
    if not s.got(Cancel):
        s.fire(sweep_timer(s))
    assert s.one(Cancel).target.venue_id == f"v{key}"
    assert s.mode() is Mode.FREEZING


# --- in flight ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["refused at the gate", "filled", "cancelled"])
def test_an_order_in_flight_is_a_barrier(end: str) -> None:
    s = Session()
    key = s.submit()
    place = s.one(Place)
    s.freeze()
    assert not s.got(Cancel), "a cancel could overtake it"
    acknowledge_all(s)
    for _ in range(4):
        s.lists_all()
        assert s.mode() is Mode.FREEZING
        assert not s.all(QueryOrder)
        s.fire(sweep_timer(s))
    s.lists_all()
    if end == "refused at the gate":
        s.outcome(place, UNAVAILABLE, code="frozen_at_send")
    elif end == "filled":
        s.fill(key, 10)
    else:
        s.outcome(place)
        s.accept(key)
        s.effects = ()
        s.fire(purpose=Purpose.SWEEP)
        s.lists_all(row(s.order(key)))
        if not s.got(Cancel):
            s.fire(sweep_timer(s))
        s.outcome(s.one(Cancel))
        s.cancelled(key)
        s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN


def test_an_order_in_doubt_is_a_barrier_until_the_grace_is_over() -> None:
    s = Session()
    key = s.unknown()
    s.not_found(s.one(QueryOrder))
    timer = s.one(SetTimer)
    s.freeze()
    acknowledge_all(s)
    s.lists_all()
    assert s.mode() is Mode.FREEZING
    s.wait(5_000)
    s.fire(timer)
    s.not_found(s.one(QueryOrder))
    assert s.order(key).leaves_qty == 0
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN


def test_a_duplicate_id_refusal_during_the_sweep_is_not_emptiness() -> None:
    s = Session()
    key = s.submit()
    place = s.one(Place)
    s.freeze()
    acknowledge_all(s)
    s.lists_all()
    s.outcome(place, REFUSED, code=DUPLICATE_CLIENT_ID)
    assert s.order(key).unknown
    assert s.mode() is Mode.FREEZING


# --- others' orders -----------------------------------------------------------------------------------------------------


def test_foreign_orders_are_cancelled_where_the_account_is_ours() -> None:
    s = Session()
    s.freeze()
    s.lists_all(foreign_row("x1"), foreign_row("x2", symbol="DOGEUSDT", conditional=True))
    s.fire(sweep_timer(s))
    assert [(e.symbol, e.target.order, e.target.venue_id, e.conditional) for e in s.got(Cancel)] == [
        (BTC, 0, "x1", False), ("DOGEUSDT", 0, "x2", True),
    ]  # fmt: skip
    acknowledge_all(s)
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN


def test_foreign_orders_are_left_where_others_trade_and_no_cancel_all_is_sent() -> None:
    s = Session(sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE))
    key = s.working()
    s.freeze()
    assert not s.got(CancelAll)
    assert s.one(Cancel).target.order == key
    s.outcome(s.one(Cancel))
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(foreign_row("x1"))
    s.lists_all(foreign_row("x1"))
    assert s.mode() is Mode.FROZEN
    assert not any(isinstance(e, Cancel) and e.target.venue_id == "x1" for e in s.history)


def test_foreign_orders_and_ours_that_are_not_listed_both_count_as_remaining() -> None:
    s = Session()
    s.unknown()
    s.freeze()
    acknowledge_all(s)
    s.lists_all(foreign_row("x1"))
    s.fire(next(t for t in s.all(SetTimer) if t.purpose is Purpose.SWEEP_DEADLINE))
    report = s.one(SweepReport)
    assert (report.remaining, report.unknown, report.status) == (2, 1, SweepStatus.FAILED)


# --- pauses the venue demands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UNAVAILABLE, REFUSED, IN_DOUBT])
def test_retry_after_of_a_cancel_is_obeyed(kind: OutcomeKind) -> None:
    s, _ = frozen_with(1)
    first, second = s.got(CancelAll)
    s.outcome(first, kind, retry_after_ms=7_000)
    s.outcome(second)
    assert not s.got(FetchOpenOrders)
    timer = sweep_timer(s)
    assert timer.due_ns >= s.now + 7_000 * MS
    s.fire(timer)
    assert s.got(FetchOpenOrders)


def test_retry_after_of_a_list_is_obeyed() -> None:
    s = Session()
    s.freeze()
    regular, conditional = s.got(FetchOpenOrders)
    s.list_failed(regular, retry_after_ms=120_000)
    s.lists(conditional)
    assert sweep_timer(s).due_ns >= s.now + 120_000 * MS


def test_a_ban_holds_also_against_a_second_freeze() -> None:
    s = Session()
    key = s.working()
    s.freeze(BTC)
    for effect in s.got(CancelAll):
        s.outcome(effect, UNAVAILABLE, retry_after_ms=60_000)
    s.freeze()
    touched = [e for e in s.effects if isinstance(e, (Cancel, CancelBatch, CancelAll, FetchOpenOrders))]
    assert touched == []
    timer = sweep_timer(s)
    assert timer.due_ns >= s.now + 60_000 * MS
    s.fire(timer)
    s.lists_all(row(s.order(key)))
    assert s.mode() is Mode.FREEZING


def test_an_order_s_end_does_not_cut_a_demanded_pause_short() -> None:
    s, (key,) = frozen_with(1)
    for effect in s.got(CancelAll):
        s.outcome(effect, UNAVAILABLE, retry_after_ms=60_000)
    s.cancelled(key)
    assert not s.got(FetchOpenOrders)


# --- deadline -----------------------------------------------------------------------------------------------------------


def test_at_the_deadline_it_says_so_once_and_goes_on() -> None:
    s, keys = frozen_with(3)
    acknowledge_all(s)
    s.cancelled(keys[0])
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(*[row(s.order(key)) for key in keys[1:]])
    deadline = next(t for t in s.all(SetTimer) if t.purpose is Purpose.SWEEP_DEADLINE)
    s.fire(deadline)
    report = s.one(SweepReport)
    assert (report.status, report.cancelled, report.remaining, report.unknown) == (SweepStatus.PARTIAL, 1, 2, 0)
    assert report.duration_ns == 10_000 * MS
    assert s.one(Alert).code == "sweep_partial"
    assert [m.value for m in s.got(Metric) if m.name == "mm_cancel_all_remaining_orders"] == [2]
    s.fire(deadline)
    assert s.effects == ()
    assert s.mode() is Mode.FREEZING


@pytest.mark.parametrize(("order", "status"), [("unknown", SweepStatus.IN_DOUBT), ("working", SweepStatus.FAILED)])
def test_the_deadline_s_word_when_nothing_was_cancelled(order: str, status: SweepStatus) -> None:
    s = Session()
    getattr(s, order)()
    s.freeze()
    s.fire(next(t for t in s.all(SetTimer) if t.purpose is Purpose.SWEEP_DEADLINE))
    assert s.one(SweepReport).status is status
    assert s.one(SweepReport).remaining == 1


def test_after_all_attempts_it_is_reported_and_goes_on_at_the_cap_for_ever() -> None:
    s, (key,) = frozen_with(1)
    for _ in range(60):
        acknowledge_all(s)
        s.lists_all(row(s.order(key)))
        timer = sweep_timer(s)
        assert timer.due_ns - s.now <= 5_000 * MS
        s.fire(timer)
    assert len(s.all(SweepReport)) == 1
    assert s.all(SweepReport)[0].status is SweepStatus.FAILED
    assert sweep(s).rounds > 50
    acknowledge_all(s)
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    assert s.one(SweepReport).status is SweepStatus.SUCCESS
    assert s.mode() is Mode.FROZEN


# --- lease --------------------------------------------------------------------------------------------------------------


def leased() -> tuple[Session, int]:
    s = Session(store=STORE)
    key = s.working()
    s.freeze()
    return s, key


def test_the_sweep_asks_for_the_lease_first_and_waits_250_ms_at_most() -> None:
    s, _ = leased()
    assert not s.got(CancelAll)
    timer = sweep_timer(s)
    assert timer.due_ns == s.now + 250 * MS
    s.fire(timer)
    assert len(s.got(CancelAll)) == 2


def test_with_the_lease_it_goes_on_at_once_carries_the_fence_renews_and_gives_it_back() -> None:
    s, key = leased()
    lease = s.one(AcquireLease)
    s.lease(lease, fence=FENCE)
    assert {e.fence for e in s.got(CancelAll)} == {FENCE}
    renewal = next(t for t in s.got(SetTimer) if t.purpose is Purpose.LEASE)
    cancels = s.got(CancelAll)
    s.fire(renewal)
    assert s.one(RenewLease).fence == FENCE
    for effect in cancels:
        s.outcome(effect)
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN
    assert s.one(ReleaseLease).fence == FENCE


@pytest.mark.parametrize("kind", [LeaseKind.UNAVAILABLE, LeaseKind.IN_DOUBT, LeaseKind.LOST])
def test_without_an_answer_it_goes_ahead(kind: LeaseKind) -> None:
    s, _ = leased()
    s.lease(s.one(AcquireLease), kind)
    assert len(s.got(CancelAll)) == 2


@pytest.mark.parametrize("left_over", [False, True])
def test_held_by_another_its_work_is_verified_and_finished(left_over: bool) -> None:
    s, key = leased()
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    assert not s.got(CancelAll)
    assert sweep_timer(s).due_ns == s.now + 250 * MS
    s.fire(sweep_timer(s))
    assert len(s.got(FetchOpenOrders)) == 2
    if left_over:
        s.lists_all(row(s.order(key)))
        assert not s.got(Cancel), "whether it is at work shows at the next look"
        assert 250 * MS <= sweep_timer(s).due_ns - s.now <= 500 * MS
        s.fire(sweep_timer(s))
        s.lists_all(row(s.order(key)))
        s.outcome(s.one(Cancel))
    s.cancelled(key)
    if not s.got(FetchOpenOrders):
        s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN
    skipped = [m for m in s.all(Metric) if m.name == "mm_cancel_all_skipped_total"]
    assert [m.label for m in skipped] == ([] if left_over else ["lock_held_verified_empty"])


def watching() -> tuple[Session, list[int]]:
    """A sweep that watches another runner's; its first look is under way."""
    s = Session(store=STORE)
    keys = [s.working(), s.working(amount=2), s.working(amount=3)]
    s.freeze()
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    s.fire(sweep_timer(s))
    return s, keys


def test_as_long_as_fewer_are_listed_the_other_is_left_to_its_work_but_not_beyond_the_deadline() -> None:
    s, keys = watching()
    for left in (3, 2):
        s.lists_all(*(row(s.order(key)) for key in keys[:left]))
        assert not s.got(Cancel)
        assert not s.got(CancelBatch)
        timer = sweep_timer(s)
        if left == 2:
            s.fire(purpose=Purpose.SWEEP_DEADLINE)
        s.fire(timer)
    s.lists_all(row(s.order(keys[0])))
    assert [e.target.order for e in s.got(Cancel)] == [keys[0]]


def test_nobody_can_be_watched_without_lists() -> None:
    s, _ = watching()
    for fetch in s.got(FetchOpenOrders):
        s.list_failed(fetch)
    assert len(s.got(CancelAll)) == 2, "by our own account, since nothing is seen"


def test_what_watching_has_led_to_waits_for_the_venue_if_that_demands_it() -> None:
    s, _ = watching()
    for fetch in s.got(FetchOpenOrders):
        s.list_failed(fetch, retry_after_ms=3_000)
    assert not s.got(CancelAll)
    assert sweep_timer(s).due_ns == s.now + 3_000 * MS
    s.fire(sweep_timer(s))
    assert len(s.got(CancelAll)) == 2
    s, keys = watching()
    regular, conditional = s.got(FetchOpenOrders)
    s.lists(regular, row(s.order(keys[0])))
    s.lists(conditional)
    s.fire(sweep_timer(s))
    regular, conditional = s.got(FetchOpenOrders)
    s.list_failed(conditional, retry_after_ms=3_000)
    s.lists(regular, row(s.order(keys[0])))
    assert not s.got(Cancel)
    s.fire(sweep_timer(s))
    assert [e.target.order for e in s.got(Cancel)] == [keys[0]]


def test_a_wider_freeze_does_not_put_the_look_off_and_nothing_seen_before_it_proves_anything() -> None:
    s = Session(store=STORE)
    keys = [s.working(), s.working(symbol=ETH)]
    s.freeze(BTC)
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    s.fire(sweep_timer(s))
    s.lists_all(row(s.order(keys[0])))
    due = sweep_timer(s)
    s.freeze()
    assert [e for e in s.got(SetTimer) if e.purpose is Purpose.SWEEP] == []
    assert not s.got(CancelAll)
    s.fire(due)
    s.lists_all(*(row(s.order(key)) for key in keys))
    assert sorted(e.target.order for e in s.got(Cancel)) == keys, "the wider look shows more, which is no sign of work"


def test_a_freeze_while_the_lists_of_a_look_are_under_way_ends_the_watch() -> None:
    s = Session(store=STORE)
    keys = [s.working(), s.working(symbol=ETH)]
    s.freeze(BTC)
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    s.fire(sweep_timer(s))
    late = s.got(FetchOpenOrders)
    s.freeze(ETH)
    assert sorted({e.symbol for e in s.got(CancelAll)}) == [BTC, ETH]
    for fetch in late:
        s.lists(fetch)
    assert s.mode(BTC) is s.mode(ETH) is Mode.FREEZING
    assert s.order(keys[0])


@pytest.mark.parametrize("gap_ms", [40, 200, 240, 400])
def test_a_holder_that_has_died_costs_two_looks_however_many_scopes_freeze_meanwhile(gap_ms: int) -> None:
    """A scope freezes every so often; the lists show every order of ours, since nobody cancels any."""
    names = tuple(f"S{number:03d}" for number in range(100))
    s = Session(symbols=names, store=STORE, thorough=False)
    keys = [s.working(symbol=name) for name in names]
    began, frozen, due = s.now, 0, s.now
    while not s.got(CancelAll) and not s.got(Cancel) and not s.got(CancelBatch):
        assert s.now - began <= (250 + 500) * MS, "after the lease's answer one look, and a second one"
        if s.got(AcquireLease):
            s.lease(s.one(AcquireLease), LeaseKind.HELD)
        elif fetches := s.got(FetchOpenOrders):
            for fetch in fetches:
                s.lists(fetch, *(row(s.order(k)) for k in keys if not fetch.conditional and s.order(k).spec.symbol == fetch.symbol))
        else:
            timer = next((t for t in s.all(SetTimer) if frozen and t.id == sweep(s).timer), None)
            if timer is not None and timer.due_ns < due:
                s.fire(timer)
            else:
                s.now = due
                s.freeze(names[frozen])
                frozen, due = frozen + 1, s.now + gap_ms * MS


def test_while_orders_end_by_themselves_it_is_left_to_its_work_for_deadline_ms_at_most() -> None:
    """Freezing once more gives the sweep a new deadline to report at, and the watch no new one."""
    s = Session(store=STORE)
    keys = [s.working(amount=number) for number in range(1, 60)]
    began = s.now
    s.freeze()
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    (deadline,) = [timer for timer in s.all(SetTimer) if timer.purpose is Purpose.SWEEP_DEADLINE]
    left = len(keys)
    while not (s.got(Cancel) or s.got(CancelAll) or s.got(CancelBatch)):
        if s.now >= deadline.due_ns and len([t for t in s.all(SetTimer) if t.purpose is Purpose.SWEEP_DEADLINE]) == 1:
            s.fire(deadline)
            s.freeze()
        wanted = sweep(s).timer
        s.fire(next(timer for timer in s.all(SetTimer) if timer.id == wanted))
        left -= 1
        s.lists_all(*(row(s.order(key)) for key in keys[:left]))
    assert 10_000 * MS <= s.now - began <= 10_500 * MS


STRATEGIC: dict[str, Any] = {"strategies": ("mm", "arb"), "store": STORE}


@pytest.mark.parametrize("when", ["asked", "waits", "looks"])
def test_the_orders_of_a_strategy_are_cancelled_at_once_whoever_has_the_lease(when: str) -> None:
    s = Session(**STRATEGIC)
    key = s.working(symbol=ETH, strategy="arb")
    s.freeze(BTC)
    asked = s.one(AcquireLease)
    if when != "asked":
        s.lease(asked, LeaseKind.HELD)
    if when == "looks":
        s.fire(sweep_timer(s))
    s.freeze("strategy:arb")
    assert s.one(Cancel).target.order == key
    if when == "asked":
        s.lease(asked, LeaseKind.HELD)
        assert not s.got(SetTimer)


def test_an_answer_that_another_has_the_lease_may_come_when_it_says_nothing_any_more() -> None:
    s = Session(**STRATEGIC)
    key = s.working(symbol=ETH, strategy="arb")
    s.freeze()
    asked = s.one(AcquireLease)
    s.freeze("strategy:arb")
    s.unfreeze(force=True)
    for clear in s.got(ClearFreeze):
        s.latch(clear)
    s.lease(asked, LeaseKind.HELD)
    assert s.one(Cancel).target.order == key


def test_what_is_left_when_a_freeze_is_lifted_may_be_nobody_else_s_to_cancel() -> None:
    s = Session(**STRATEGIC)
    key = s.working(symbol=ETH, strategy="arb")
    s.freeze()
    s.lease(s.one(AcquireLease), LeaseKind.HELD)
    s.freeze("strategy:arb")
    assert not s.got(Cancel), "the account is frozen: the other cancels this one too"
    s.unfreeze(force=True)
    for clear in s.got(ClearFreeze):
        s.latch(clear)
    assert s.one(Cancel).target.order == key


def test_a_lease_that_comes_late_is_used_and_one_that_comes_after_the_end_is_given_back() -> None:
    s, key = leased()
    lease = s.one(AcquireLease)
    s.fire(sweep_timer(s))
    cancels = s.got(CancelAll)
    late, _ = s.lease(lease, fence=FENCE), cancels
    assert not [e for e in late if isinstance(e, CancelAll)]
    assert s.core.desk is not None
    assert s.core.desk.lease is not None

    s, key = leased()
    lease = s.one(AcquireLease)
    s.fire(sweep_timer(s))
    for effect in s.got(CancelAll):
        s.outcome(effect)
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN
    s.lease(lease, fence=FENCE)
    assert s.one(ReleaseLease).fence == FENCE
    assert s.core.desk is not None
    assert s.core.desk.lease is None


# --- widening and narrowing -----------------------------------------------------------------------------------------------


def test_a_second_freeze_widens_the_running_sweep_and_begins_the_count_anew() -> None:
    s = Session()
    key = s.working(symbol=ETH)
    s.freeze(BTC)
    s.lists_all()
    assert sweep(s).streak == 1
    old = s.got(FetchOpenOrders)
    s.freeze()
    assert {e.symbol for e in s.got(CancelAll)} == {ETH}
    assert sweep(s).streak == 0
    for fetch in old:
        s.effects = s.lists(fetch)
        assert s.effects == (), "lists of the narrower sweep prove nothing any more"
    s.effects = tuple(s.all(CancelAll)[-2:])
    acknowledge_all(s)
    s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    assert {fetch.symbol for fetch in s.got(FetchOpenOrders)} == {""}
    s.lists_all()
    s.lists_all()
    assert (s.mode(), s.mode(BTC)) == (Mode.FROZEN, Mode.FROZEN)
    assert [e.scope for e in s.got(ModeChanged)] == ["", BTC]


@pytest.mark.parametrize("kind", OutcomeKind)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forced_unfreeze_ends_the_sweep_without_a_success_and_leaves_no_cancel_pending_for_ever(kind: OutcomeKind, when: str) -> None:
    s, keys = frozen_with(3, venue=VenueTraits(cancel_all=False))
    batch = s.one(CancelBatch)
    s.wait(1)
    if when == "before":
        s.outcome(batch, kind)
        answered = s.effects
        s.unfreeze(force=True)
    else:
        s.unfreeze(force=True)
        s.outcome(batch, kind)
        answered = s.effects
    assert not s.all(SweepReport)
    for effect in answered:
        if isinstance(effect, SetTimer) and effect.purpose is Purpose.ORDER:
            s.fire(effect)
            s.found(s.one(QueryOrder))
        elif isinstance(effect, QueryOrder):
            s.found(effect)
    for key in keys:
        assert s.order(key).requests.cancel is None
        s.cancel(key)
        assert s.one(Cancel).target.order == key


def test_a_bust_in_a_frozen_scope_is_swept_again() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 10, trade="a")
    s.freeze()
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN
    s.feed(TradeBusted(s.now, s.client_id(key), "a"))
    assert s.mode() is Mode.FREEZING
    assert s.got(CancelAll)


def test_a_thousand_orders() -> None:
    s = Session(thorough=False)
    keys = []
    for number in range(1_000):
        keys.append(s.submit(BUY if number % 2 else SELL, 1, symbol=BTC if number % 3 else ETH))
        s.accept(keys[-1])
    assert len(s.core.orders) == 1_000
    s.freeze()
    assert len(s.got(CancelAll)) == 4
    acknowledge_all(s)
    for key in keys[:500]:
        s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(*[row(s.order(key)) for key in keys[500:]])
    acknowledge_all(s)
    for key in keys[500:]:
        s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    assert s.mode() is Mode.FROZEN
    report = s.one(SweepReport)
    assert (report.cancelled, report.rounds, report.method) == (1_000, 2, SweepMethod.BULK)
    assert broken_state(s.core) == ()


def test_what_is_seen_is_cancelled_at_once_though_another_list_could_not_be_read() -> None:
    """Found by simulation: 18 orders known to be open waited for seconds for the list of stop orders to be readable."""
    s = Session()
    keys = [s.working() for _ in range(3)]
    s.freeze()
    for effect in s.got(CancelAll):
        s.outcome(effect, OutcomeKind.UNAVAILABLE)
    regular, conditional = sorted(s.got(FetchOpenOrders), key=lambda fetch: fetch.conditional)
    s.list_failed(conditional)
    s.lists(regular, *(row(s.order(key)) for key in keys))
    s.fire(purpose=Purpose.SWEEP)
    assert [len(effect.targets) for effect in s.got(CancelBatch)] == [3]


def test_who_freezes_again_after_the_deadline_hears_of_it_again() -> None:
    """Found by a hostile review: a second freeze waited for a report that had been given already."""
    s = Session()
    s.working()
    s.freeze()
    first = next(t for t in s.got(SetTimer) if t.purpose is Purpose.SWEEP_DEADLINE)
    s.fire(first)
    assert s.one(SweepReport).status is SweepStatus.FAILED
    s.freeze()
    s.fire(purpose=Purpose.SWEEP_DEADLINE)
    assert s.one(SweepReport).status is SweepStatus.FAILED


def test_a_demand_for_a_pause_of_years_is_obeyed_for_ten_minutes() -> None:
    s = Session()
    s.working()
    s.freeze()
    for effect in s.got(CancelAll):
        s.outcome(effect, OutcomeKind.UNAVAILABLE, "418", retry_after_ms=1_700_000_000_000)
    assert s.one(SetTimer).due_ns - s.now <= 600 * 10**9


# --- scopes: venue and strategies ------------------------------------------------------------------------------------------

MM, ARB = "mm", "arb"
TEAM, OTHERS = f"strategy:{MM}", f"strategy:{ARB}"


def two(**fields: Any) -> Session:
    return Session(strategies=(MM, ARB), **fields)


def cancels(s: Session) -> list[Effect]:
    return [e for e in s.effects if isinstance(e, (Cancel, CancelBatch, CancelAll))]


def targets(s: Session) -> list[int]:
    """The orders that are cancelled by name in the last step."""
    return [t.order for e in cancels(s) for t in ((e.target,) if isinstance(e, Cancel) else getattr(e, "targets", ()))]


def end(s: Session, *keys: int) -> None:
    """The cancels of the last step are acknowledged and done; then the lists are due."""
    asked = s.effects
    for key in keys:
        s.cancelled(key)
    s.effects = asked
    acknowledge_all(s)


def test_the_venue_s_freeze_cancels_and_proves_everything() -> None:
    s = two()
    keys = [s.working(strategy=MM), s.working(symbol=ETH, strategy=ARB)]
    s.freeze("venue")
    assert [(e.symbol, e.conditional) for e in s.got(CancelAll)] == [(BTC, False), (BTC, True), (ETH, False), (ETH, True)]
    end(s, *keys)
    assert {e.symbol for e in s.got(FetchOpenOrders)} == {""}
    s.lists_all()
    s.lists_all()
    assert (s.mode("venue"), s.mode()) == (Mode.FROZEN, Mode.ACTIVE)


def test_a_strategy_s_freeze_cancels_its_own_orders_alone_and_proves_them() -> None:
    s = two()
    own = [s.working(strategy=MM), s.working(strategy=MM), s.working(symbol=ETH, strategy=MM)]
    other = [s.working(strategy=ARB), s.working(symbol=ETH, strategy=ARB)]
    s.freeze(TEAM)
    assert not s.got(CancelAll)
    assert targets(s) == own
    end(s, *own)
    assert [(e.symbol, e.conditional) for e in s.got(FetchOpenOrders)] == [("", False), ("", True)]
    rows = [row(s.order(key)) for key in other]
    s.lists_all(*rows, foreign_row("x1"))
    s.lists_all(*rows, foreign_row("x1"))
    assert s.mode(TEAM) is Mode.FROZEN
    report = s.one(SweepReport)
    assert (report.cancelled, report.remaining, report.method) == (3, 0, SweepMethod.PER_ORDER)
    assert sorted(s.core.orders) == other
    assert s.submit(strategy=ARB)


def test_many_listed_orders_of_a_strategy_are_never_cancelled_by_a_cancel_all() -> None:
    """A cancel-all of the symbol would take the other strategy's orders too."""
    s = two()
    own = [s.working(amount=1, strategy=MM) for _ in range(12)]
    other = s.working(strategy=ARB)
    s.freeze(TEAM)
    end(s, own[0])
    s.lists_all(*[row(s.order(key)) for key in (*own[1:], other)])
    assert not s.got(CancelAll)
    assert targets(s) == own[1:]
    assert not s.all(CancelAll)


def test_an_order_of_the_strategy_in_flight_or_in_doubt_is_a_barrier_and_another_s_is_none() -> None:
    s = two()
    s.submit(strategy=ARB)
    key = s.submit(symbol=ETH, strategy=MM)
    place = s.one(Place)
    s.freeze(TEAM)
    assert cancels(s) == []
    for _ in range(3):
        s.lists_all()
        assert s.mode(TEAM) is Mode.FREEZING
        s.fire(sweep_timer(s))
    s.lists_all()
    s.outcome(place, UNAVAILABLE)
    assert key in s.core.closed
    assert len(s.got(FetchOpenOrders)) == 2, "the last one has ended: look at once"
    s.lists_all()
    s.lists_all()
    assert s.mode(TEAM) is Mode.FROZEN


def test_an_end_of_another_s_order_does_not_hurry_a_strategy_s_sweep() -> None:
    s = two()
    other, _ = s.working(strategy=ARB), s.submit(symbol=ETH, strategy=MM)
    s.freeze(TEAM)
    s.lists_all()
    s.cancelled(other)
    assert s.effects == ()


def test_a_symbol_and_a_strategy_together_cover_both_and_no_more() -> None:
    s = two()
    both, team, symbol, neither = (
        s.working(strategy=MM), s.working(symbol=ETH, strategy=MM), s.working(strategy=ARB), s.working(symbol=ETH, strategy=ARB),
    )  # fmt: skip
    s.freeze(BTC)
    assert {e.symbol for e in s.got(CancelAll)} == {BTC}
    s.freeze(TEAM)
    assert {e.symbol for e in s.got(CancelAll)} == {BTC}
    assert targets(s) == [team]
    assert next(m.value for m in s.all(Metric) if m.name == "mm_cancel_all_remaining_orders") == 2
    s.restart()
    assert [m.value for m in s.got(Metric) if m.name == "mm_cancel_all_remaining_orders"] == [3], "each once"
    s.answer_stock(*[row(s.order(key)) for key in (both, team, symbol, neither)])
    s.effects = tuple(e for e in s.history if e.id[0] == sweep(s).batch)
    end(s, both, team, symbol)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all(row(s.order(neither)))
    s.lists_all(row(s.order(neither)))
    assert (s.mode(BTC), s.mode(TEAM), s.mode(OTHERS)) == (Mode.FROZEN, Mode.FROZEN, Mode.ACTIVE)
    assert s.one(SweepReport).cancelled == 3


def test_others_rows_in_a_strategy_s_sweep_count_only_where_the_symbol_is_covered() -> None:
    s = two()
    s.freeze(TEAM)
    s.freeze(BTC)
    s.lists_all(foreign_row("x1"), foreign_row("x2", symbol=ETH))
    s.fire(sweep_timer(s))
    assert [e.target.venue_id for e in s.got(Cancel)] == ["x1"]


def test_lifting_the_account_narrows_the_sweep_to_the_strategy() -> None:
    s = two()
    own, other = s.working(strategy=MM), s.working(strategy=ARB)
    s.freeze()
    s.freeze(TEAM)
    assert s.effects[0] == s.one(ModeChanged)
    assert cancels(s) == [], "the account's sweep covers it"
    s.unfreeze(force=True)
    s.effects = tuple(s.all(CancelAll))
    acknowledge_all(s)
    rows = [row(s.order(own)), row(s.order(other))]
    s.lists_all(*rows)
    if s.got(SetTimer):
        s.fire(sweep_timer(s))
    assert targets(s) == [own]
    end(s, own)
    s.lists_all(rows[1])
    s.lists_all(rows[1])
    assert (s.mode(TEAM), other in s.core.orders) == (Mode.FROZEN, True)


@pytest.mark.parametrize("scope", [TEAM, BTC, "venue"])
def test_a_scope_within_one_that_is_swept_already_is_proven_with_it_without_another_round(scope: str) -> None:
    s = two()
    key = s.working(strategy=MM)
    s.freeze()
    s.effects = tuple(s.all(CancelAll))
    end(s, key)
    s.lists_all()
    assert sweep(s).streak == 1
    asked = s.effects
    s.freeze(scope)
    assert [type(e) for e in s.effects if not isinstance(e, (Metric, Alert))] == [ModeChanged]
    assert sweep(s).streak == 1
    s.effects = asked
    s.lists_all()
    assert (s.mode(), s.mode(scope)) == (Mode.FROZEN, Mode.FROZEN)


def test_a_wider_scope_that_freezes_later_is_swept_anew() -> None:
    s = two()
    other = s.working(strategy=ARB)
    s.freeze(TEAM)
    s.lists_all(row(s.order(other)))
    s.freeze("venue")
    assert len(s.got(CancelAll)) == 2
    assert sweep(s).streak == 0


def test_where_others_trade_no_order_but_the_strategy_s_is_touched() -> None:
    s = two(sweep=SweepPolicy(foreign=ForeignPolicy.LEAVE))
    own, other = s.working(strategy=MM), s.working(strategy=ARB)
    s.freeze(TEAM)
    assert targets(s) == [own]
    end(s, own)
    rows = (row(s.order(other)), foreign_row("x1"))
    s.lists_all(*rows)
    s.lists_all(*rows)
    assert s.mode(TEAM) is Mode.FROZEN


def test_the_deadline_counts_the_strategy_s_orders() -> None:
    s = two()
    own = s.working(strategy=MM)
    s.working(strategy=ARB)
    s.freeze(TEAM)
    s.fire(next(t for t in s.all(SetTimer) if t.purpose is Purpose.SWEEP_DEADLINE))
    report = s.one(SweepReport)
    assert (report.remaining, report.unknown, report.status) == (1, 0, SweepStatus.FAILED)
    s.cancelled(own)
    assert [m.value for m in s.all(Metric) if m.name == "mm_cancel_all_remaining_orders"] == [1, 1]


def test_a_bust_in_a_frozen_strategy_is_swept_again_and_one_in_another_is_not() -> None:
    s = two()
    keys = {}
    for strategy in (MM, ARB):
        keys[strategy] = s.working(strategy=strategy)
        s.fill(keys[strategy], 10, trade=strategy)
    s.freeze(TEAM)
    s.prove_empty()
    s.feed(TradeBusted(s.now, s.client_id(keys[ARB]), ARB))
    assert s.mode(TEAM) is Mode.FROZEN
    s.feed(TradeBusted(s.now, s.client_id(keys[MM]), MM))
    assert s.mode(TEAM) is Mode.FREEZING
    assert targets(s) == [keys[MM]]


@pytest.mark.parametrize(("strategy", "undone"), [(MM, True), (ARB, False)])
def test_a_sign_of_life_from_a_refused_order_undoes_its_strategy_s_proof(strategy: str, undone: bool) -> None:
    s = two()
    key = s.submit(strategy=strategy)
    s.outcome(s.one(Place), REFUSED)
    s.freeze(TEAM)
    s.prove_empty()
    s.accept(key)
    assert (s.mode(TEAM) is Mode.FREEZING) == undone


def test_after_a_restart_a_strategy_is_still_frozen_and_proven_anew() -> None:
    s = two()
    s.freeze(TEAM)
    s.prove_empty()
    s.restart()
    assert s.mode(TEAM) is Mode.FREEZING
    s.answer_stock()
    s.prove_empty()
    assert s.mode(TEAM) is Mode.FROZEN


def test_an_order_s_end_costs_a_strategy_s_sweep_the_same_with_many_orders() -> None:
    s = two()
    for _ in range(20):
        s.working(amount=1, strategy=ARB)
    s.submit(symbol=ETH, strategy=MM)
    s.freeze(TEAM)
    s.lists_all(*[row(order) for order in s.core.orders.values() if order.accepted])
    assert sweep(s).phase is SweepPhase.WAIT
    assert s.core.desk is not None
    turn = Turn(s.core, s.core.desk, s.now)
    turn.orders = NoWalk(turn.orders)  # type: ignore[assignment]
    on_settled(turn)


class NoWalk:
    """Orders that can be looked up and not walked over."""

    def __init__(self, orders: Any) -> None:
        self.orders = orders

    def __getattr__(self, name: str) -> Any:
        assert name == "get", f"{name} walks over the orders"
        return getattr(self.orders, name)
