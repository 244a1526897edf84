"""The guard in the core: nothing leaves without its claim, nobody sends what was not granted, and the store hears what became of it.

Method: a session under guard is fed claims' and settlements' answers of every kind, at every point of an order's life, through the real
step (which checks SAFE-4 and SAFE-9 each time). What goes out is compared with the table in ``guards.py``; what the store was told is read
from the ``SettleGuard`` effects, and the outbox is looked at until it is empty.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.effects import (
    Alert,
    Cancel,
    ClaimGuard,
    ClearFreeze,
    Denied,
    Fence,
    GuardState,
    Metric,
    Mode,
    Place,
    Purpose,
    QueryOrder,
    ReadFreeze,
    Replace,
    SettleGuard,
    bps,
    price,
    qty,
)
from haltcore.fsm.config import StoreCheck, StorePolicy
from haltcore.fsm.core import Guard
from haltcore.fsm.events import (
    ChangeLimits,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    OrderAccepted,
    OrderReplaced,
    ReplaceOrder,
    Restrict,
    SetReduceOnly,
    Stopping,
    StoreHealth,
    VenueLink,
)
from haltcore.fsm.freeze import may_send
from haltcore.fsm.guard import PLACE, REPLACE, guard_key
from haltcore.fsm.guards import MOST, SETTLED_MS
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.order import Ended

from .helpers import BTC, IN_DOUBT, MS, REFUSED, SELL, UNAVAILABLE, Session, config

STORE = StorePolicy(configured=True, check=StoreCheck.OFF)
VALID_NS = STORE.claim_ms * MS
NOT_CLAIMED = [kind for kind in GuardKind if kind is not GuardKind.CLAIMED]


class Guarded(Session):
    """A session under guard, and the store's answers."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"store": STORE, **fields})

    def answer(self, effect: ClaimGuard | SettleGuard, kind: GuardKind, until_ns: int | None = None, code: str = "") -> None:
        until = self.now + VALID_NS if until_ns is None else until_ns
        self.feed(GuardAnswer(self.now, effect.id, effect.order, kind, until, "", "", code))

    def claiming(self, **fields: Any) -> ClaimGuard:
        """Submit an order; its claim."""
        self.ask(**fields)
        return self.one(ClaimGuard)

    def placed(self, **fields: Any) -> Place:
        """Submit an order and grant its claim; its place."""
        self.answer(self.claiming(**fields), GuardKind.CLAIMED)
        return self.one(Place)

    def live(self, **fields: Any) -> int:
        """An order that the venue has accepted, and the store has heard of; its key."""
        place = self.placed(**fields)
        self.outcome(place)
        self.accept(place.order)
        self.hear()
        return place.order

    def replacing(self, key: int, amount: int) -> ClaimGuard:
        """Ask to replace; the claim of it."""
        self.feed(ReplaceOrder(self.now, key, qty(amount), price(100)))
        return self.one(ClaimGuard)

    def hear(self, kind: GuardKind = GuardKind.SETTLED) -> GuardState:
        """The answer to what the last step told the store; what it was."""
        told = self.one(SettleGuard)
        self.answer(told, kind)
        return told.state

    def guards(self, key: int) -> tuple[Guard, ...]:
        return self.core.flow.guards.get(key, ())

    def poll(self, kind: LatchKind = LatchKind.OK, epoch: int = 0) -> None:
        """The latch is read again; ``epoch`` is the store's own, 0 is not said."""
        reads = self.got(ReadFreeze)
        if not reads:
            self.fire(purpose=Purpose.LATCH)
            reads = self.got(ReadFreeze)
        self.feed(LatchAnswer(self.now, reads[-1].id, kind, (), epoch))


# --- granted ----------------------------------------------------------------------------------------------------------------


def test_a_place_is_claimed_first_and_leaves_with_the_grant() -> None:
    s = Guarded()
    claim = s.claiming(amount=3)
    order = s.order(claim.order)
    assert not s.got(Place)
    assert order.claiming
    assert order.leaves_qty == 3 * 10**12, "it counts from the decision on"
    assert claim.key == guard_key(PLACE, order.spec.client_id)
    assert claim.owner == f"test001:{s.core.seq}"
    assert claim.scopes == ("", "venue", BTC)
    assert (claim.ttl_ms, claim.valid_ms) == (STORE.guard_ttl_ms, STORE.claim_ms)
    until = s.now + VALID_NS
    s.answer(claim, GuardKind.CLAIMED)
    place = s.one(Place)
    assert (place.order, place.qty, place.expires_ns) == (claim.order, order.qty, until)
    assert not s.order(claim.order).claiming
    s.outcome(place)
    assert not s.got(SettleGuard), "taken is not live"
    s.accept(claim.order)
    told = s.one(SettleGuard)
    assert (told.key, told.owner, told.params, told.state) == (claim.key, claim.owner, claim.params, GuardState.DONE)
    assert told.result == f"{order.spec.client_id} v{claim.order}"
    s.answer(told, GuardKind.SETTLED)
    assert not s.core.flow.guards


def test_a_replace_is_claimed_first_and_each_one_anew() -> None:
    s = Guarded()
    key = s.live()
    keys = []
    for amount in (11, 12):
        claim = s.replacing(key, amount)
        keys.append(claim.key)
        assert claim.key == guard_key(REPLACE, f"{s.client_id(key)}:{s.core.seq}")
        assert not s.got(Replace)
        assert s.order(key).leaves_qty == amount * 10**12, "it counts from the decision on"
        s.answer(claim, GuardKind.CLAIMED)
        replace = s.one(Replace)
        assert (replace.qty, replace.expires_ns) == (amount * 10**12, s.now + VALID_NS)
        s.outcome(replace)
        query = s.fire(purpose=Purpose.ORDER)[0]
        assert isinstance(query, QueryOrder)
        assert s.one(SettleGuard).state is GuardState.IN_DOUBT, "acknowledged, and the report stays away"
        s.hear()
        s.found(query, qty=replace.qty, price=replace.price)
        assert s.hear() is GuardState.DONE
        assert not s.core.flow.guards
    assert keys[0] != keys[1]


def test_the_entity_is_the_intention_where_there_is_one() -> None:
    first, second = Guarded(), Guarded(conf=config(session="other01", store=STORE))
    claims = [s.claiming(once="signal 7") for s in (first, second)]
    assert claims[0].key == claims[1].key == guard_key(PLACE, "signal 7")
    assert claims[0].params == claims[1].params
    assert claims[0].owner != claims[1].owner
    assert first.claiming(once="signal 8", amount=11).params != claims[0].params


def test_without_a_guard_nothing_is_claimed_and_nothing_is_kept() -> None:
    for store in (StorePolicy(), StorePolicy(configured=True, guard=False, check=StoreCheck.OFF)):
        s = Session(store=store)
        key = s.working()
        s.replace(key, 11)
        assert not s.all(ClaimGuard)
        assert [place.expires_ns for place in s.all(Place)] == [0]
        assert not s.core.flow.guards


# --- not granted ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOT_CLAIMED)
def test_a_place_that_is_not_granted_is_never_sent(kind: GuardKind) -> None:
    s = Guarded()
    claim = s.claiming(once="a signal")
    s.answer(claim, kind)
    order = s.order(claim.order)
    assert not s.got(Place)
    assert (order.ended, order.accepted, order.leaves_qty) == (Ended.REJECTED, False, 0)
    doubtful = kind in (GuardKind.IN_DOUBT, GuardKind.SETTLED, GuardKind.LOST)
    denied = s.one(Denied)
    assert (denied.code, denied.order) == ("guard_in_doubt" if doubtful else f"guard_{kind.value}", order.key)
    assert bool(s.core.flow.guards) is doubtful, "only where a claim of ours may be there, it has to be settled"
    if kind in (GuardKind.UNAVAILABLE, GuardKind.IN_DOUBT):
        s.poll()
    if doubtful:
        told = s.all(SettleGuard)[-1]
        assert told.state is GuardState.REJECTED
        s.answer(told, GuardKind.SETTLED)
    assert not s.core.flow.guards
    assert s.claiming(once="a signal").owner != claim.owner, "what certainly never was may be tried again, under another name"


@pytest.mark.parametrize("kind", NOT_CLAIMED)
def test_a_replace_that_is_not_granted_is_never_sent_and_the_order_lives_on(kind: GuardKind) -> None:
    s = Guarded()
    key = s.live()
    s.answer(s.replacing(key, 11), kind)
    assert not s.got(Replace)
    assert s.order(key).requests.replace is None
    assert s.figures(key)[2] == 10
    assert s.one(Denied).order == key


def test_a_claim_that_was_held_back_says_nothing_of_the_store() -> None:
    s = Guarded()
    claim = s.claiming()
    s.freeze()
    assert may_send(s.core, claim, s.now) == "frozen_at_send"
    s.answer(claim, GuardKind.UNAVAILABLE, code="frozen_at_send")
    assert s.one(Denied).code == "frozen_at_send"
    assert s.core.desk is not None
    assert s.core.desk.store.health is StoreHealth.OK
    assert not s.core.flow.guards


# --- granted, and not allowed any more --------------------------------------------------------------------------------------


#: What may happen while a claim is under way, and by which code the grant is of no use then.
MEANWHILE: dict[str, Callable[[Guarded, int], object]] = {
    "sweeping": lambda s, _: s.freeze(),
    "stale_epoch": lambda s, _: (s.feed(SetReduceOnly(s.now, "", True, "ops", "x")), s.feed(SetReduceOnly(s.now, "", False, "ops", "x"))),
    "reduce_only": lambda s, _: s.feed(SetReduceOnly(s.now, "", True, "ops", "x")),
    "restricted": lambda s, _: s.feed(Restrict(s.now, BTC, True, "ops", "x")),
    "stopping": lambda s, _: s.feed(Stopping(s.now, False, "ops")),
    "venue_down": lambda s, _: s.feed(VenueLink(s.now, False, "test")),
    "cancelled_before_sent": lambda s, key: s.cancel(key),
    "guard_expired": lambda s, _: s.wait(STORE.claim_ms),
}


@pytest.mark.parametrize("code", MEANWHILE)
@pytest.mark.parametrize("replaces", [False, True])
def test_a_grant_is_of_no_use_when_the_gate_has_closed_meanwhile(code: str, replaces: bool) -> None:
    s = Guarded()
    until = s.now + VALID_NS
    if replaces:
        key = s.live()
        claim = s.replacing(key, 11)
    else:
        claim = s.claiming()
        key = claim.order
    MEANWHILE[code](s, key)
    s.answer(claim, GuardKind.CLAIMED, until)
    assert not s.got(Place)
    assert not s.got(Replace)
    assert s.one(Denied).code == code
    assert s.order(key).ended is (Ended.NO if replaces else Ended.REJECTED)
    assert s.order(key).requests.replace is None
    assert s.one(SettleGuard).state is GuardState.REJECTED
    s.hear()
    assert not s.core.flow.guards


def test_a_symbol_that_was_frozen_and_unfrozen_since_the_decision_lets_nothing_through() -> None:
    s = Guarded()
    claim = s.claiming()
    s.freeze()
    s.unfreeze(force=True)
    (clear,) = s.got(ClearFreeze)
    s.latch(clear)
    assert s.mode() is Mode.ACTIVE
    assert may_send(s.core, claim, s.now) == "stale_epoch"
    s.answer(claim, GuardKind.CLAIMED)
    assert s.one(Denied).code == "stale_epoch"


def test_another_order_in_doubt_in_the_same_slot_meanwhile() -> None:
    s = Guarded()
    first, second = s.placed(), s.claiming(amount=11)
    s.outcome(first, IN_DOUBT)
    s.answer(second, GuardKind.CLAIMED)
    assert s.one(Denied).code == "unknown_order_in_slot"


def test_a_limit_that_was_tightened_meanwhile_is_no_matter_of_the_grant() -> None:
    """The order counts since it passed the gate, as one does that waits in any other queue."""
    s = Guarded()
    claim = s.claiming()
    s.feed(ChangeLimits(s.now, LimitRule(Limits(max_order_qty=qty(1), price_collar_bps=bps("1"))), "ops", "x"))
    s.answer(claim, GuardKind.CLAIMED)
    assert s.got(Place)


def test_a_claim_counts_as_the_message_that_it_may_become() -> None:
    s = Guarded(limits=Limits(message_rate=Rate(2, 60_000)))
    claims = [s.claiming(amount=amount) for amount in (1, 2)]
    s.ask(amount=3)
    assert s.one(Denied).code == "message_rate"
    for claim in claims:
        s.answer(claim, GuardKind.CLAIMED)
        assert s.got(Place), "its token is taken already"


def test_the_last_check_looks_at_the_time_and_at_who_waits() -> None:
    s = Guarded()
    claim = s.claiming()
    assert may_send(s.core, claim, s.now) == ""
    s.answer(claim, GuardKind.CLAIMED)
    place = s.one(Place)
    assert may_send(s.core, claim, s.now) == "superseded_at_send"
    assert may_send(s.core, place, s.now + VALID_NS - 1) == ""
    assert may_send(s.core, place, s.now + VALID_NS) == "too_late_at_send"
    s.outcome(place, REFUSED, "too_late_at_send")
    assert s.order(place.order).ended is Ended.REJECTED
    assert s.hear() is GuardState.REJECTED


# --- once -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [StorePolicy(), StorePolicy(configured=True, guard=False, check=StoreCheck.OFF), STORE])
def test_an_intention_is_placed_once_whatever_becomes_of_it(store: StorePolicy) -> None:
    s = Guarded(store=store)

    def denied() -> bool:
        s.ask(once="signal")
        codes = [d.code for d in s.got(Denied)]
        return codes == ["already_done"]

    s.ask(once="signal")
    assert denied(), "while it is claimed, or sent"
    for claim in s.all(ClaimGuard):
        s.answer(claim, GuardKind.CLAIMED)
    (place,) = s.all(Place)
    assert denied()
    s.outcome(place, IN_DOUBT)
    assert denied(), "while it is asked for"
    s.accept(place.order)
    assert denied()
    s.fill(place.order, 10)
    assert denied(), "after it was filled, for ever"
    s.restart()
    s.answer_stock()
    assert denied(), "a new process knows it from the log"


@pytest.mark.parametrize("kind", [REFUSED, UNAVAILABLE])
def test_an_intention_whose_order_never_was_may_be_placed_again(kind: Any) -> None:
    s = Guarded()
    first = s.placed(once="signal")
    s.outcome(first, kind, "margin")
    assert s.hear() is GuardState.REJECTED
    second = s.placed(once="signal")
    assert second.order != first.order
    s.fill(second.order, 10)
    s.ask(once="signal")
    assert s.one(Denied).code == "already_done"
    s.ask(once="another")
    assert s.one(ClaimGuard)


def test_a_fill_after_the_refusal_makes_it_done() -> None:
    s = Guarded()
    place = s.placed(once="signal")
    s.outcome(place, REFUSED, "margin")
    s.fill(place.order, 10)
    s.ask(once="signal")
    assert s.one(Denied).code == "already_done"
    told = s.all(SettleGuard)
    assert [t.state for t in told] == [GuardState.REJECTED], "one word at a time"
    s.answer(told[0], GuardKind.SETTLED)
    assert s.hear() is GuardState.DONE


def test_a_cancelled_order_was_there() -> None:
    s = Guarded()
    key = s.live(once="signal")
    s.cancelled(key)
    s.ask(once="signal")
    assert s.one(Denied).code == "already_done"


def test_the_memo_of_intentions_is_made_from_the_orders() -> None:
    s = Guarded()
    s.live(once="a")
    never = s.placed(once="b")
    s.outcome(never, REFUSED, "margin")
    s.hear()
    again = s.placed(once="b")
    kept = s.core.once
    assert kept is not None
    s.core = attrs.evolve(s.core, once=None)
    s.ask(once="b")
    assert s.one(Denied).code == "already_done"
    assert s.core.once == kept
    assert kept["b"] == again.order


# --- the order while it waits for its claim ---------------------------------------------------------------------------------


def test_a_cancel_while_it_waits_needs_no_effect_and_ends_it_with_the_answer() -> None:
    s = Guarded()
    claim = s.claiming()
    assert s.cancel(claim.order) == ()
    s.cancel(claim.order)
    assert s.codes() == ["cancel_pending"]
    s.answer(claim, GuardKind.CLAIMED)
    assert s.order(claim.order).ended is Ended.REJECTED
    assert not s.all(Cancel)


def test_a_sweep_waits_for_the_answer_and_asks_no_venue_for_what_was_never_sent() -> None:
    s = Guarded()
    claim = s.claiming()
    s.freeze()
    for _ in range(6):
        desk = s.core.desk
        assert desk is not None
        sweep = desk.sweep
        assert sweep is not None, "it is not proven while the claim is under way"
        s.fire(purpose=Purpose.SWEEP)
        s.lists_all()
    assert not s.all(QueryOrder)
    s.answer(claim, GuardKind.IN_DOUBT)
    s.prove_empty()
    assert s.mode() is Mode.FROZEN


def test_the_answer_is_heard_once() -> None:
    s = Guarded()
    claim = s.claiming()
    s.answer(claim, GuardKind.CLAIMED)
    s.answer(claim, GuardKind.CLAIMED)
    assert not s.got(Place)
    assert s.codes() == ["stale_answer"]
    s.answer(claim, GuardKind.HELD)
    assert s.codes() == ["stale_answer"]
    assert s.order(claim.order).ended is not Ended.REJECTED
    s.feed(GuardAnswer(s.now, (99, 0), 99, GuardKind.CLAIMED, 0, "", "", ""))
    assert s.codes() == ["stale_answer"]


def test_evidence_of_an_order_that_was_never_sent_ends_the_claim() -> None:
    """It cannot be; but if the venue says so, there is one order with that id, and it must not become two."""
    s = Guarded()
    claim = s.claiming()
    s.feed(OrderAccepted(s.now, s.client_id(claim.order), "v"))
    s.answer(claim, GuardKind.CLAIMED)
    assert not s.got(Place)


def test_an_unasked_change_while_a_replace_waits_ends_the_claim() -> None:
    s = Guarded()
    key = s.live()
    claim = s.replacing(key, 20)
    s.feed(OrderReplaced(s.now, s.client_id(key), "", s.order(key).qty * 3, s.order(key).price))  # type: ignore[arg-type]
    s.answer(claim, GuardKind.CLAIMED)
    assert not s.got(Replace)
    assert s.figures(key)[2] == 30


# --- restart ----------------------------------------------------------------------------------------------------------------


def test_a_restart_ends_what_waited_for_its_claim_and_settles_it() -> None:
    s = Guarded()
    claim = s.claiming(once="signal")
    s.restart()
    assert s.order(claim.order).ended is Ended.REJECTED
    assert "never_sent" in s.codes()
    assert not s.got(Place)
    told = s.one(SettleGuard)
    assert (told.key, told.owner, told.state) == (claim.key, claim.owner, GuardState.REJECTED)
    s.answer_stock()
    s.answer(claim, GuardKind.CLAIMED)
    assert not s.got(Place), "an answer to the old process is nobody's"
    assert s.claiming(once="signal")


def test_a_restart_drops_a_replace_that_waited_for_its_claim() -> None:
    s = Guarded()
    key = s.live()
    s.replacing(key, 11)
    s.restart()
    assert s.order(key).requests.replace is None
    assert s.order(key).requests.doubt_ns == 0, "nothing about it is in doubt"
    assert s.one(SettleGuard).state is GuardState.REJECTED


def test_a_restart_after_the_grant_asks_the_venue_and_settles_by_what_it_says() -> None:
    for found, state in ((True, GuardState.DONE), (False, GuardState.REJECTED)):
        s = Guarded()
        place = s.placed(once="signal")
        s.restart()
        assert not s.got(Place)
        (query,) = s.got(QueryOrder)
        assert s.one(SettleGuard).state is GuardState.IN_DOUBT
        s.hear()
        s.ask(once="signal")
        assert s.one(Denied).code == "already_done"
        s.wait(s.config.venue.place_expiry_ms)
        s.not_found(query)
        query = s.fire(purpose=Purpose.ORDER)[0]  # type: ignore[assignment]
        _ = s.found(query) if found else s.not_found(query)
        assert s.hear() is state
        assert s.order(place.order).ended is (Ended.NO if found else Ended.REJECTED)


def test_what_was_being_told_when_the_process_died_is_told_again() -> None:
    s = Guarded()
    place = s.placed()
    s.fill(place.order, 10)
    assert s.one(SettleGuard).state is GuardState.DONE
    s.restart()
    assert not s.got(SettleGuard), "nobody knows yet whether the store answers"
    s.answer_stock()
    told = s.all(SettleGuard)
    assert [t.state for t in told] == [GuardState.DONE, GuardState.DONE]
    s.answer(told[-1], GuardKind.SETTLED)
    assert not s.core.flow.guards


# --- a store that forgets -----------------------------------------------------------------------------------------------------


def test_a_store_in_another_epoch_is_told_again_what_may_happen_once_only() -> None:
    s = Guarded()
    s.poll(epoch=1)
    done = s.live(once="signal 1")
    s.live()
    refused = s.placed(once="signal 2")
    s.outcome(refused, REFUSED)
    assert s.hear() is GuardState.REJECTED
    claim = next(effect for effect in s.history if isinstance(effect, ClaimGuard) and effect.order == done)
    s.poll(epoch=1)
    assert not s.got(SettleGuard), "it has lost nothing"
    s.poll(epoch=2)
    s.poll(epoch=2)
    told = s.all(SettleGuard)[-1]
    assert (told.order, told.key, told.owner, told.params, told.state) == (done, claim.key, claim.owner, claim.params, GuardState.DONE)
    assert list(s.core.flow.guards) == [done], "what cannot happen again anyhow, and what never happened, is not told"
    s.answer(told, GuardKind.SETTLED)
    assert not s.core.flow.guards


def test_what_the_store_would_have_dropped_by_now_is_not_told_again() -> None:
    s = Guarded()
    s.poll(epoch=1)
    s.live(once="signal")
    s.wait(STORE.guard_ttl_ms)
    s.poll(epoch=2)
    assert not s.core.flow.guards


def test_an_intention_that_another_has_claimed_since_the_store_forgot_it_is_a_case_for_a_person() -> None:
    s = Guarded()
    s.poll(epoch=1)
    s.live(once="signal")
    s.poll(epoch=2)
    s.poll(epoch=2)
    s.answer(s.all(SettleGuard)[-1], GuardKind.LOST)
    assert "guard_lost" in s.codes()
    assert not s.core.flow.guards


@pytest.mark.parametrize("sent", [True, False])
def test_a_claim_that_another_has_of_what_may_have_happened_is_a_case_for_a_person(sent: bool) -> None:
    s = Guarded()
    place = s.placed(once="signal")
    s.outcome(place, IN_DOUBT if sent else REFUSED)
    assert s.hear(GuardKind.LOST) is (GuardState.IN_DOUBT if sent else GuardState.REJECTED)
    assert [a.code for a in s.got(Alert)] == (["guard_lost"] if sent else [])
    assert not s.core.flow.guards
    assert s.order(place.order).unknown is sent, "the venue is asked all the same"


# --- owners and lives -------------------------------------------------------------------------------------------------------


def test_a_process_that_goes_on_claims_in_its_own_name_and_settles_in_that_of_the_claim() -> None:
    s = Guarded()
    place = s.placed(once="signal")
    s.outcome(place, IN_DOUBT)
    s.hear()
    s.restart()
    s.answer_stock()
    claim = s.claiming(side=SELL)
    assert claim.owner == f"test001:{claim.order}:tester"
    s.answer(claim, GuardKind.HELD)
    s.accept(place.order)
    told = s.one(SettleGuard)
    assert (told.state, told.owner) == (GuardState.DONE, f"test001:{place.order}")
    other = Guarded()
    other.live()
    other.restart(attrs.evolve(other.config))
    assert other.core.desk is not None
    assert other.core.desk.run == "tester"


def test_a_settled_row_of_no_intention_lives_a_minute() -> None:
    s = Guarded()
    plain, named = s.placed(amount=1), s.placed(amount=2, once="signal")
    s.accept(plain.order)
    assert s.one(SettleGuard).ttl_ms == SETTLED_MS == 60_000
    s.hear()
    s.accept(named.order)
    assert s.one(SettleGuard).ttl_ms == STORE.guard_ttl_ms
    s.hear()
    s.answer(s.replacing(named.order, 11), GuardKind.CLAIMED)
    s.outcome(s.one(Replace), REFUSED)
    assert s.one(SettleGuard).ttl_ms == SETTLED_MS, "the change of an order is no intention of its own"
    s.hear()
    doubtful = s.placed(amount=3)
    s.outcome(doubtful, IN_DOUBT)
    assert s.one(SettleGuard).ttl_ms == STORE.guard_ttl_ms, "nothing is settled yet"


def test_a_row_never_lives_longer_than_configured() -> None:
    s = Guarded(store=attrs.evolve(STORE, guard_ttl_ms=20_000))
    place = s.placed()
    s.accept(place.order)
    assert s.one(SettleGuard).ttl_ms == 20_000


# --- the outbox -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [GuardKind.UNAVAILABLE, GuardKind.IN_DOUBT])
def test_what_the_store_did_not_hear_it_is_told_when_it_answers(failure: GuardKind) -> None:
    s = Guarded()
    place = s.placed()
    s.accept(place.order)
    s.hear(failure)
    assert not s.got(SettleGuard), "not while it fails"
    s.poll(LatchKind.UNAVAILABLE)
    assert not s.got(SettleGuard)
    s.poll()
    assert s.hear() is GuardState.DONE
    assert not s.core.flow.guards


def test_a_claim_that_is_no_longer_ours_is_forgotten() -> None:
    s = Guarded()
    place = s.placed()
    s.accept(place.order)
    s.hear(GuardKind.LOST)
    assert not s.core.flow.guards


def test_doubt_is_told_and_then_its_end_one_word_at_a_time() -> None:
    s = Guarded()
    place = s.placed()
    s.outcome(place, IN_DOUBT)
    doubt = s.one(SettleGuard)
    assert doubt.state is GuardState.IN_DOUBT
    s.accept(place.order)
    assert not s.got(SettleGuard), "the first is under way"
    s.answer(doubt, GuardKind.SETTLED)
    assert s.hear() is GuardState.DONE
    assert not s.core.flow.guards


def test_a_store_that_comes_back_is_not_flooded() -> None:
    s = Guarded()
    claims = [s.claiming(amount=amount) for amount in range(1, MOST + 51)]
    for claim in claims:
        s.answer(claim, GuardKind.IN_DOUBT)
    assert not s.all(SettleGuard)
    s.poll()
    told = s.one(SettleGuard)
    s.answer(told, GuardKind.UNAVAILABLE)
    assert not s.got(SettleGuard), "one word shows that it fails"
    while not s.got(SettleGuard):
        s.poll()
    open_ = [s.one(SettleGuard)]
    count = 0
    while open_:
        s.answer(open_.pop(0), GuardKind.SETTLED)
        open_ += s.got(SettleGuard)
        count += 1
        assert s.core.flow.telling == len(open_) <= MOST
        assert len(open_) == min(MOST, MOST + 50 - count), "and the answer to one lets the others out"
    assert (count, len(s.core.flow.guards), len(s.core.flow.unsaid)) == (MOST + 50, 0, 0)


def test_a_store_in_doubt_takes_no_claim() -> None:
    s = Guarded()
    s.answer(s.claiming(), GuardKind.IN_DOUBT)
    s.ask(amount=11)
    assert s.one(Denied).code == "store_unavailable"


def test_outcomes_are_counted() -> None:
    s = Guarded()
    key = s.live()
    s.answer(s.claiming(amount=11), GuardKind.HELD)
    claim = s.claiming(amount=12)
    s.cancel(claim.order)
    s.answer(claim, GuardKind.CLAIMED)
    counted = [m.label for m in s.all(Metric) if m.name == "mm_guard_outcomes_total"]
    assert counted == ["claimed", "settled", "held", "withdrawn"]
    assert s.order(key).accepted


def test_a_place_under_guard_carries_the_epoch_of_its_decision() -> None:
    s = Guarded()
    s.freeze("ETHUSDT")
    claim = s.claiming()
    s.answer(claim, GuardKind.CLAIMED)
    place = s.one(Place)
    assert (place.epoch, place.fence) == (1, Fence(0, 0))
    assert may_send(s.core, place, s.now) == ""


def test_a_reducing_order_is_judged_again_without_counting_twice() -> None:
    s = Guarded()
    key = s.live(amount=10)
    s.fill(key, 10)
    s.feed(SetReduceOnly(s.now, "", True, "ops", "x"))
    claim = s.claiming(side=SELL, amount=10)
    s.answer(claim, GuardKind.CLAIMED)
    assert s.one(Place).side is SELL
    assert s.position() == 10 * 10**12
