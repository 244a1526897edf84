"""A freeze stops placing in the step that decides it, outlasts everything but a person with a reason, and loses nothing it was told.

Method: every trigger and scope is fired and nothing may be placed afterwards; unfreeze is refused for each missing condition and granted
when all are met; ``may_send`` is asked about effects that were decided before, during and after a freeze.
"""

from collections.abc import Callable

import attrs
import pytest
from haltcore.effects import (
    AcquireLease,
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClearFreeze,
    Denied,
    FetchOpenOrders,
    FetchPositions,
    Metric,
    Mode,
    ModeChanged,
    Place,
    PublishFreeze,
    Purpose,
    QueryOrder,
    ReadFreeze,
    Rejected,
    Replace,
    SetTimer,
    SweepReport,
    SweepStatus,
    Trigger,
    bps,
    client_order_id,
    qty,
)
from haltcore.fsm.config import StoreCheck, StorePolicy
from haltcore.fsm.core import EMPTY
from haltcore.fsm.events import (
    EdgeUpdate,
    Freeze,
    LatchKind,
    LatchRow,
    OrderReplaced,
    OutcomeKind,
    SetReduceOnly,
    Stopping,
    TradeBusted,
    VenueLink,
)
from haltcore.fsm.freeze import may_send

from tests.helpers import BTC, ETH, SELL, Session, config, foreign_row, price, row, with_limits

STORE = StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)


def reduce_only(s: Session, on: bool = True, symbol: str = "", by: str = "tester", why: str = "calm") -> None:
    s.feed(SetReduceOnly(s.now, symbol, on, by, why))


# --- triggers ------------------------------------------------------------------------------------------------------------


def by_edge(s: Session) -> None:
    s.feed(EdgeUpdate(s.now, BTC, bps(150)))


def by_peer(s: Session) -> None:
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), LatchRow("", 3, Trigger.MANUAL, "ill", "peer"))


def by_stopping(s: Session) -> None:
    s.feed(Stopping(s.now, True, "tester"))


#: Those that somebody says; what the core sees by itself is tried in ``test_watch.py``.
SAID: dict[Trigger, Callable[[Session], object]] = {
    Trigger.MANUAL: lambda s: s.freeze(),
    Trigger.PEER: by_peer,
    Trigger.STOPPING: by_stopping,
    Trigger.JOURNAL: lambda s: s.freeze(trigger=Trigger.JOURNAL),
    Trigger.INVARIANT: lambda s: s.freeze(trigger=Trigger.INVARIANT),
}


@pytest.mark.parametrize("trigger", SAID)
def test_each_trigger_freezes_the_account_in_its_own_step_and_nothing_is_placed_after(trigger: Trigger) -> None:
    s = Session(store=STORE)
    key = s.working()
    SAID[trigger](s)
    changed = s.one(ModeChanged)
    assert (changed.scope, changed.mode, changed.trigger) == ("", Mode.FREEZING, trigger)
    assert [m.label for m in s.got(Metric) if m.name == "freeze_triggered_total"] == [trigger.value]
    assert [a.code for a in s.got(Alert)] == ["frozen"]
    assert bool(s.got(PublishFreeze)) == (trigger is not Trigger.PEER), "what a peer published need not be published again"
    s.ask()
    assert s.one(Denied).code in ("sweeping", "stopping")
    s.replace(key, 12)
    assert not s.got(Replace)
    s.cancel(key)
    assert s.got(Cancel), "cancels go"


def test_an_edge_collapse_at_200_bps_cancels_three_orders_and_denies_new_ones() -> None:
    s = Session(config(symbols=(BTC, ETH, "SOLUSDT"), limits=with_limits(edge=200)))
    keys = [s.working(symbol=symbol) for symbol in s.config.symbols]
    s.feed(EdgeUpdate(s.now, BTC, bps(200)))
    assert s.effects == (), "strictly below"
    s.feed(EdgeUpdate(s.now, BTC, bps(150)))
    assert s.one(ModeChanged).reason == "edge 150 bps in BTCUSDT is below 200 bps"
    assert [m.value for m in s.got(Metric) if (m.name, m.label) == ("freeze_triggered_total", "edge_collapse")] == [1]
    books = [(symbol, conditional) for symbol in s.config.symbols for conditional in (False, True)]
    assert [(e.symbol, e.conditional) for e in s.got(CancelAll)] == books
    frozen_by = s.effects
    for symbol in s.config.symbols:
        s.ask(symbol=symbol)
        assert s.codes() == ["sweeping"]
    s.effects = frozen_by
    for effect in s.got(CancelAll):
        s.outcome(effect)
    for key in keys:
        s.cancelled(key)
    s.effects = tuple(s.all(FetchOpenOrders)[-2:])
    s.lists_all()
    s.lists_all()
    report = s.one(SweepReport)
    assert (report.status, report.cancelled, report.remaining) == (SweepStatus.SUCCESS, 3, 0)
    assert s.mode() is Mode.FROZEN
    totals = {m.name: m.value for m in s.got(Metric)}
    assert totals["mm_cancel_all_orders_total"] == 3
    assert totals["mm_cancel_all_remaining_orders"] == 0
    for symbol in s.config.symbols:
        s.ask(symbol=symbol)
        assert s.codes() == ["frozen"]
    assert s.core.desk is not None
    (record,) = s.core.desk.freezes
    assert (record.trigger, dict(record.metadata)["value"], dict(record.metadata)["threshold"]) == (Trigger.EDGE_COLLAPSE, "150", "200")


def test_a_manual_freeze_cancels_and_denies_until_a_person_unfreezes() -> None:
    s = Session()
    s.working()
    s.feed(Freeze(s.now, "", Trigger.MANUAL, "exchange connectivity issues", "ops"))
    s.prove_empty()
    assert s.core.desk is not None
    (record,) = s.core.desk.freezes
    assert (record.trigger, record.reason, record.by, record.at_ns) == (Trigger.MANUAL, "exchange connectivity issues", "ops", s.now)
    assert not s.core.orders
    s.ask()
    assert s.codes() == ["frozen"]
    s.unfreeze(by="ops", why="connectivity restored")
    assert s.mode() is Mode.ACTIVE
    assert s.submit()


@pytest.mark.parametrize("scope", ["XRPUSDT", "strategy:mm", "strategy:", "Venue"])
def test_an_unknown_scope_is_refused(scope: str) -> None:
    s = Session()
    s.freeze(scope)
    assert s.codes() == ["unknown_scope"]
    reduce_only(s, symbol=scope)
    assert s.codes() == ["unknown_scope"]
    s.unfreeze(scope)
    assert s.codes() == ["unknown_scope"]
    assert s.core.desk is not None
    assert (s.core.desk.freezes, len(s.core.desk.controls)) == ((), 0)


# --- idempotence and scopes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proven", [False, True])
def test_a_second_freeze_is_recorded_and_changes_nothing_else(proven: bool) -> None:
    s = Session()
    s.freeze()
    if proven:
        s.prove_empty()
    before = s.core.desk
    s.freeze(reason="again", trigger=Trigger.JOURNAL)
    after = s.core.desk
    assert before is not None
    assert after is not None
    assert attrs.evolve(after, freezes=before.freezes) == before
    assert [record.reason for record in after.freezes] == ["a test", "again"]
    assert [(m.name, m.label) for m in s.effects if isinstance(m, Metric)] == [("freeze_triggered_total", "journal")]
    assert len(s.effects) == 1


def test_a_frozen_symbol_leaves_the_others_alone() -> None:
    s = Session()
    s.freeze(BTC)
    s.ask(symbol=BTC)
    assert s.one(Denied).code == "sweeping"
    assert s.submit(symbol=ETH)
    s.freeze()
    s.ask(symbol=ETH)
    assert s.one(Denied).code == "sweeping"


def test_lifting_the_account_leaves_a_frozen_symbol_frozen() -> None:
    s = Session()
    s.freeze(BTC)
    s.freeze()
    s.prove_empty()
    s.unfreeze()
    assert (s.mode(), s.mode(BTC)) == (Mode.ACTIVE, Mode.FROZEN)
    s.ask(symbol=BTC)
    assert s.one(Denied).code == "frozen"
    assert s.submit(symbol=ETH)


def test_every_change_of_mode_has_its_own_epoch() -> None:
    s = Session()
    reduce_only(s)
    s.freeze()
    s.prove_empty()
    s.unfreeze()
    s.freeze(BTC)
    epochs = [change.epoch for change in s.all(ModeChanged)]
    assert epochs == [1, 2, 2, 3, 4]  # the proof belongs to its freeze


def test_a_freeze_survives_a_restart_and_is_proven_anew() -> None:
    s = Session()
    s.freeze()
    s.prove_empty()
    s.restart()
    assert s.mode() is Mode.FREEZING
    s.ask()
    assert s.one(Denied).code in ("not_ready", "sweeping")


# --- unfreeze ---------------------------------------------------------------------------------------------------------------


def frozen(**fields: object) -> Session:
    s = Session(**fields)
    s.freeze()
    return s


@pytest.mark.parametrize(("by", "why"), [("", "done"), ("tester", ""), (" ", "done"), ("tester", "\t")])
def test_unfreeze_needs_who_and_why(by: str, why: str) -> None:
    s = frozen()
    s.prove_empty()
    s.unfreeze(by=by, why=why)
    assert s.one(Rejected).code == "who_and_why"
    s.unfreeze(by=by, why=why, force=True)
    assert s.one(Rejected).code == "who_and_why"
    assert s.mode() is Mode.FROZEN


def test_unfreeze_needs_a_proven_sweep_or_force() -> None:
    s = frozen()
    s.unfreeze()
    assert s.one(Rejected).code == "sweep_running"
    s.unfreeze(force=True)
    assert s.mode() is Mode.ACTIVE
    assert s.submit()


def test_unfreeze_after_the_proof_names_who_and_why() -> None:
    s = frozen()
    s.prove_empty()
    s.unfreeze(by="ops", why="venue is well")
    changed = s.one(ModeChanged)
    assert (changed.mode, changed.by, changed.reason) == (Mode.ACTIVE, "ops", "venue is well")
    assert [m.value for m in s.got(Metric) if m.name == "mm_freeze_active"] == [0]
    assert s.submit()


@pytest.mark.parametrize(("symbol", "code"), [("", "not_frozen"), (BTC, "not_frozen"), ("venue", "not_frozen")])
def test_unfreeze_of_what_is_not_frozen_is_refused(symbol: str, code: str) -> None:
    s = Session()
    s.unfreeze(symbol)
    assert s.one(Rejected).code == code


def test_unfreeze_needs_the_venue() -> None:
    s = frozen()
    s.prove_empty()
    s.feed(VenueLink(s.now, False, "lost"))
    s.unfreeze(force=True)
    assert s.one(Rejected).code == "venue_down"


def stored() -> Session:
    """Frozen, proven and published; the latch's epoch is 5."""
    s = Session(store=STORE)
    s.freeze()
    s.latch(s.one(PublishFreeze), LatchRow("", 5, Trigger.MANUAL, "a test", "tester"))
    s.fire(next(t for t in s.all(SetTimer) if t.purpose is Purpose.SWEEP))
    s.prove_empty()
    assert s.mode() is Mode.FROZEN
    return s


def test_with_a_store_the_latch_is_cleared_first_by_compare_and_set() -> None:
    s = stored()
    s.unfreeze(why="well")
    clear = s.one(ClearFreeze)
    assert (clear.scope, clear.latch_epoch, clear.by, clear.why) == ("", 5, "tester", "well")
    assert s.mode() is Mode.FROZEN
    s.ask()
    assert s.one(Denied).code == "frozen"
    s.unfreeze()
    assert s.one(Rejected).code == "unfreeze_pending"
    s.latch(clear)
    assert s.mode() is Mode.ACTIVE


@pytest.mark.parametrize("kind", [LatchKind.STALE, LatchKind.UNAVAILABLE, LatchKind.IN_DOUBT])
def test_while_the_store_does_not_consent_it_stays_frozen(kind: LatchKind) -> None:
    s = stored()
    s.unfreeze()
    s.latch(s.one(ClearFreeze), LatchRow("", 6, Trigger.MANUAL, "again", "peer"), kind=kind)
    assert s.mode() is Mode.FROZEN
    assert s.one(Rejected).code == "unfreeze_" + kind.value


def test_with_a_store_that_fails_unfreeze_is_refused_even_by_force_and_nothing_is_placed() -> None:
    s = stored()
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), kind=LatchKind.UNAVAILABLE)
    s.unfreeze(force=True)
    assert s.one(Rejected).code == "store_unavailable"


def test_a_freeze_that_could_not_be_published_is_published_when_the_store_is_back() -> None:
    s = Session(store=STORE)
    s.freeze()
    s.latch(s.one(PublishFreeze), kind=LatchKind.UNAVAILABLE)
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze))
    assert s.one(PublishFreeze).scope == ""


def test_a_peers_unfreeze_is_not_followed() -> None:
    s = Session(store=STORE)
    by_peer(s)
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze))
    assert s.mode() is Mode.FREEZING


# --- reduce-only ----------------------------------------------------------------------------------------------------------


def test_reduce_only_goes_on_and_off_by_name_and_reason() -> None:
    s = Session()
    reduce_only(s, by="")
    assert s.codes() == ["who_and_why"]
    reduce_only(s, on=False)
    assert s.codes() == ["no_change"]
    reduce_only(s)
    assert s.one(ModeChanged).mode is Mode.REDUCE_ONLY
    reduce_only(s)
    assert s.codes() == ["no_change"]
    reduce_only(s, on=False)
    assert s.mode() is Mode.ACTIVE


def test_reduce_only_does_not_loosen_a_freeze() -> None:
    s = frozen()
    for on in (True, False):
        reduce_only(s, on=on)
        assert s.codes() == ["frozen"]
        assert s.mode() is Mode.FREEZING


@pytest.mark.parametrize("scope", ["", "venue", BTC])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_freeze_gives_back_the_reduce_only_that_it_found(scope: str, restarted: bool) -> None:
    s = Session()
    reduce_only(s, symbol=scope)
    s.freeze(scope)
    reduce_only(s, on=False, symbol=scope)
    assert s.one(Rejected).reason == "the scope is frozen; unfreeze it first, it is then reduce_only as it was before"
    s.freeze(scope, reason="once more")
    if restarted:
        s.restart()
        s.answer_stock()
    s.prove_empty()
    s.unfreeze(scope)
    assert s.one(ModeChanged).mode is Mode.REDUCE_ONLY
    assert s.mode(scope) is Mode.REDUCE_ONLY
    s.ask()
    assert s.codes() == ["reduce_only"]
    reduce_only(s, on=False, symbol=scope)
    assert s.mode(scope) is Mode.ACTIVE
    s.freeze(scope)
    s.prove_empty()
    s.unfreeze(scope)
    assert s.mode(scope) is Mode.ACTIVE


# --- the last moment --------------------------------------------------------------------------------------------------------


def placed(s: Session, symbol: str = BTC) -> Place:
    s.submit(symbol=symbol)
    return s.one(Place)


def test_what_was_decided_before_the_freeze_does_not_leave_during_or_after_it() -> None:
    s = Session()
    key = s.working()
    s.replace(key, 12)
    requests = (s.one(Replace), placed(s, ETH))
    assert [may_send(s.core, effect, s.now) for effect in requests] == ["", ""]
    s.freeze()
    assert [may_send(s.core, effect, s.now) for effect in requests] == ["frozen_at_send"] * 2
    s.unfreeze(force=True)
    assert [may_send(s.core, effect, s.now) for effect in requests] == ["stale_epoch"] * 2
    fresh = placed(s, ETH)
    assert may_send(s.core, fresh, s.now) == ""


def test_a_symbol_s_freeze_stops_that_symbol_s_requests_alone() -> None:
    s = Session()
    btc, eth = placed(s), placed(s, ETH)
    s.freeze(BTC)
    assert (may_send(s.core, btc, s.now), may_send(s.core, eth, s.now)) == ("frozen_at_send", "")
    s.unfreeze(BTC, force=True)
    assert (may_send(s.core, btc, s.now), may_send(s.core, eth, s.now)) == ("stale_epoch", "")


def test_reduce_only_stops_what_was_decided_without_it() -> None:
    s = Session()
    place = placed(s)
    reduce_only(s)
    assert may_send(s.core, place, s.now) == "stale_epoch"


def test_a_cancel_all_does_not_outlive_its_freeze_and_single_cancels_and_questions_always_go() -> None:
    s = Session()
    key, other = s.working(), s.working(SELL)
    s.freeze()
    bulk = s.got(CancelAll)[0]
    assert may_send(s.core, bulk, s.now) == ""
    s.cancel(key)
    single = s.one(Cancel)
    s.unfreeze(force=True)
    assert may_send(s.core, bulk, s.now) == "freeze_over"
    assert may_send(s.core, single, s.now) == ""
    s.reject(other)
    assert may_send(s.core, s.one(QueryOrder), s.now) == ""
    batch = CancelBatch((1, 0), BTC, (), False, 0, single.fence)
    assert may_send(s.core, batch, s.now) == ""


def test_before_the_start_nothing_is_sent() -> None:
    s = Session()
    assert may_send(EMPTY, placed(s), s.now) == "not_started"


# --- reopening --------------------------------------------------------------------------------------------------------------


def test_an_order_that_is_open_after_all_takes_the_proof_back() -> None:
    s = Session()
    key = s.working()
    s.fill(key, 10)
    s.freeze()
    s.prove_empty()
    s.feed(OrderReplaced(s.now, s.client_id(key), "v", qty(12), price(100)))
    assert s.mode() is Mode.FREEZING
    s.unfreeze()
    assert s.one(Rejected).code == "sweep_running"


def test_freeze_reasons_stand_in_denials() -> None:
    s = Session()
    s.feed(Freeze(s.now, BTC, Trigger.MANUAL, "smoke", "ops"))
    s.ask()
    assert s.one(Denied).reason.endswith("manual by ops: smoke")


def test_an_unfreeze_that_waits_for_the_store_does_not_lift_a_scope_that_is_open_again() -> None:
    """A busted trade reopens an order while the latch is being cleared; the answer finds the scope unproven."""
    s = Session(store=STORE)
    s.latch(s.all(ReadFreeze)[-1])
    key = s.working(amount=1)
    s.fill(key, 1, trade="t1")
    s.freeze()
    publish = s.one(PublishFreeze)
    s.lease(s.one(AcquireLease))
    s.prove_empty()
    s.latch(publish, LatchRow("", 1, Trigger.MANUAL, "a test", "tester"))
    s.unfreeze()
    clear = s.one(ClearFreeze)
    s.feed(TradeBusted(s.now, s.client_id(key), "t1"))
    assert s.mode() is Mode.FREEZING
    s.latch(clear)
    assert s.mode() is Mode.FREEZING
    poll(s)
    assert s.one(PublishFreeze).scope == ""


# --- found by a hostile review --------------------------------------------------------------------------------------------


def poll(s: Session, *rows: LatchRow) -> None:
    """The latch is read by its timer, and shows these rows."""
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.one(ReadFreeze), *rows)


def proven_with_store(**fields: object) -> tuple[Session, LatchRow]:
    s = Session(store=STORE, **fields)
    s.freeze()
    publish = s.one(PublishFreeze)
    latched = LatchRow("", 1, Trigger.MANUAL, "a test", "tester")
    s.lease(s.one(AcquireLease))
    s.prove_empty()
    s.latch(publish, latched)
    return s, latched


@pytest.mark.parametrize("how", [lambda s: s.freeze(reason="NO, STOP"), lambda s: s.feed(EdgeUpdate(s.now, BTC, bps(1)))])
def test_a_freeze_beats_an_unfreeze_that_waits_for_the_store(how: Callable[[Session], object]) -> None:
    s, _ = proven_with_store(limits=with_limits(edge=200))
    s.unfreeze()
    clear = s.one(ClearFreeze)
    how(s)
    assert s.one(PublishFreeze).scope == ""
    s.latch(clear)
    assert s.mode() is Mode.FROZEN
    s.ask()
    assert s.codes() == ["frozen"]


def test_nothing_is_placed_before_the_latch_was_read() -> None:
    s = Session(ready=False, store=STORE)
    s.lists_all()
    s.positions(s.all(FetchPositions)[0])
    s.ask()
    assert s.codes() == ["not_ready"]
    s.latch(s.all(ReadFreeze)[0], LatchRow("", 3, Trigger.MANUAL, "by a peer", "peer"))
    s.ask()
    assert s.codes() == ["sweeping"]


def test_a_store_that_forgot_the_freeze_is_told_again_once_per_reading() -> None:
    s, latched = proven_with_store()
    s.freeze(BTC)
    s.lease(s.one(AcquireLease))
    s.prove_empty()
    for _ in range(5):
        poll(s)
        published = s.got(PublishFreeze)
        assert [effect.scope for effect in published] == ["", BTC]
        for effect in published:
            s.latch(effect)
            assert s.got(PublishFreeze) == []
    poll(s, latched, LatchRow(BTC, 2, Trigger.MANUAL, "a test", "tester"))
    assert s.got(PublishFreeze) == []


def test_a_place_whose_order_was_given_up_does_not_leave_any_more() -> None:
    """It waited in the adapter's own queue: in doubt, not found after the grace, refused for good; then its turn came."""
    s = Session()
    key = s.submit()
    place = s.one(Place)
    assert may_send(s.core, place, s.now) == ""
    s.outcome(place, OutcomeKind.IN_DOUBT)
    assert may_send(s.core, place, s.now) == "superseded_at_send"
    assert s.order(key).unknown


def test_a_sign_of_life_from_a_refused_order_undoes_the_proof() -> None:
    s = Session()
    key = s.submit()
    s.outcome(s.one(Place), OutcomeKind.REFUSED)
    s.freeze()
    s.prove_empty()
    s.accept(key)
    assert s.one(Cancel).target.order == key
    assert s.mode() is Mode.FREEZING
    s.lists_all(row(s.order(key)))
    assert s.mode() is Mode.FREEZING


def test_an_order_of_this_session_that_the_log_does_not_know_freezes() -> None:
    """The session tag was used before: the next order would get an id that is taken."""
    s = Session(ready=False)
    stranger = attrs.evolve(foreign_row("x9"), client_id=client_order_id(s.config.session, 77))
    s.answer_stock(stranger)
    assert s.mode() is Mode.FREEZING


# --- scopes of strategies and of the venue ----------------------------------------------------------------------------------


def two(**fields: object) -> Session:
    return Session(config(strategies=("mm", "arb"), **fields))


def test_a_frozen_strategy_places_nothing_and_the_other_trades_on() -> None:
    s = two()
    s.freeze("strategy:mm")
    s.ask(strategy="mm")
    assert s.codes() == ["sweeping"]
    assert s.submit(strategy="arb")
    s.prove_empty()
    s.ask(strategy="mm")
    assert s.codes() == ["frozen"]
    s.unfreeze("strategy:mm")
    assert s.one(ModeChanged).scope == "strategy:mm"
    assert s.submit(strategy="mm")


def test_a_strategy_s_freeze_stops_that_strategy_s_requests_alone_at_the_last_moment() -> None:
    s = two()
    places = []
    for strategy in ("mm", "arb"):
        s.submit(strategy=strategy)
        places.append(s.one(Place))
    s.freeze("strategy:mm")
    assert [may_send(s.core, place, s.now) for place in places] == ["frozen_at_send", ""]
    s.unfreeze("strategy:mm", force=True)
    assert [may_send(s.core, place, s.now) for place in places] == ["stale_epoch", ""]
    s.freeze("venue")
    assert may_send(s.core, places[1], s.now) == "frozen_at_send"


def test_a_cancel_all_belongs_to_no_strategy_s_freeze() -> None:
    s = two()
    s.working(strategy="mm")
    s.freeze(BTC)
    bulk = s.got(CancelAll)[0]
    s.freeze("strategy:mm")
    s.unfreeze(BTC, force=True)
    assert may_send(s.core, bulk, s.now) == "freeze_over", "it would take the other strategy's orders too"


def test_account_and_venue_are_lifted_separately() -> None:
    s = two()
    s.freeze()
    s.freeze("venue")
    s.prove_empty()
    s.unfreeze()
    assert (s.mode(), s.mode("venue")) == (Mode.ACTIVE, Mode.FROZEN)
    s.ask(strategy="mm")
    assert s.codes() == ["frozen"]
    s.unfreeze("venue")
    assert s.submit(strategy="mm")


@pytest.mark.parametrize("scope", ["", "venue", BTC, "strategy:mm"])
def test_reduce_only_goes_on_and_off_in_every_scope(scope: str) -> None:
    s = two()
    s.fill(s.working(strategy="mm"), 10)
    reduce_only(s, symbol=scope)
    assert (s.one(ModeChanged).scope, s.one(ModeChanged).mode) == (scope, Mode.REDUCE_ONLY)
    s.ask(strategy="mm")
    assert s.codes() == ["reduce_only"]
    assert s.submit(SELL, 10, strategy="mm")
    s.ask(symbol=ETH, strategy="arb")
    assert bool(s.got(Place)) == (scope not in ("", "venue"))
    reduce_only(s, symbol=scope, on=False)
    assert s.submit(strategy="mm")


@pytest.mark.parametrize("scope", ["venue", "strategy:mm", BTC])
def test_every_scope_is_published_followed_and_cleared_in_the_latch(scope: str) -> None:
    s = two(store=STORE)
    poll(s)
    s.freeze(scope)
    assert s.one(PublishFreeze).scope == scope
    poll(s, LatchRow(scope, 4, Trigger.MANUAL, "a test", "tester"), LatchRow("strategy:other", 5, Trigger.MANUAL, "not ours", "peer"))
    assert not s.got(PublishFreeze)
    s.prove_empty()
    s.unfreeze(scope)
    clear = s.one(ClearFreeze)
    assert (clear.scope, clear.latch_epoch) == (scope, 4)
    s.latch(clear)
    assert s.mode(scope) is Mode.ACTIVE
    poll(s, LatchRow(scope, 6, Trigger.LOSS, "lost", "peer"))
    assert s.mode(scope) is Mode.FREEZING


@pytest.mark.parametrize("own", [("manual", "no, stop", "ops"), ("edge_collapse", "edge 150 bps in BTCUSDT is below 200 bps", "haltcore")])
@pytest.mark.parametrize("lost", [False, True])
def test_an_own_word_on_what_a_peer_has_frozen_is_published_until_the_store_shows_it(own: tuple[str, str, str], lost: bool) -> None:
    """The peer may lift by a cool-down; what was said here has to reach it before, and again after it has lifted its own."""
    s = Session(store=STORE, limits=with_limits(edge=200))
    theirs = LatchRow("", 3, Trigger.EDGE_COLLAPSE, "their edge", "haltcore")
    poll(s, theirs)
    poll(s)
    assert not s.got(PublishFreeze), "a peer's freeze is its own to keep up"
    word = Freeze(s.now, "", Trigger.MANUAL, own[1], own[2]) if own[0] == "manual" else EdgeUpdate(s.now, BTC, bps(150))
    s.feed(word)
    published = s.one(PublishFreeze)
    s.feed(word)
    assert not s.got(PublishFreeze), "said once"
    joint = attrs.evolve(theirs, epoch=4, joint=True)
    if lost:
        s.latch(published, kind=LatchKind.UNAVAILABLE)
        poll(s, theirs)
        published = s.one(PublishFreeze)
    assert (published.scope, published.trigger.value, published.reason, published.by) == ("", *own)
    s.latch(published, joint)
    for rows in ((joint,), (attrs.evolve(theirs, trigger=own[0], reason=own[1], by=own[2]),)):
        poll(s, *rows)
        assert not s.got(PublishFreeze), "it is shown"
    for rows in ((), (attrs.evolve(theirs, epoch=9),)):
        poll(s, *rows)
        published = s.one(PublishFreeze)
        assert (published.scope, published.trigger.value, published.reason, published.by) == ("", *own)


# --- the history ------------------------------------------------------------------------------------------------------------


def test_the_history_keeps_the_last_freezes_with_their_figures() -> None:
    s = Session(thorough=False)
    for number in range(300):
        s.feed(Freeze(s.now, "", Trigger.MANUAL, f"number {number}", "ops", (("why", "a drill"),)))
    assert s.core.desk is not None
    freezes = s.core.desk.freezes
    assert (len(freezes), freezes[0].reason, freezes[-1].reason) == (256, "number 44", "number 299")
    assert freezes[-1].metadata == (("why", "a drill"),)
    assert freezes[-1].record == s.core.seq
