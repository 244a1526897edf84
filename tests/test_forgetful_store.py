"""A store that loses what it knew: of one intention still one order comes, as long as those who placed it are alive to say so.

Method: in the core, a session under guard is told of another epoch of its store at every point of an order's life, and what it tells
the store then is read from the ``SettleGuard`` effects. Then two runners over one store in memory, in simulated time, and the store
is emptied between their two tries: the orders that reach the venues are counted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any

import attrs
import pytest
from haltcore.adapters.answers import OrderDenied, OrderRefused
from haltcore.adapters.clock import LoopClock
from haltcore.adapters.disk import MemoryDisk
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.memory_store import MemoryStore
from haltcore.adapters.people import People
from haltcore.adapters.runner import Runner
from haltcore.effects import Alert, ClaimGuard, Denied, GuardState, Place, QueryOrder, ReadFreeze, Replace, SettleGuard, price, qty
from haltcore.fsm import guards
from haltcore.fsm.config import StoreCheck, StorePolicy
from haltcore.fsm.events import FetchFailed, GuardKind, OrderQueried, OrderReplaced, OutcomeKind, StoreHealth
from haltcore.fsm.guards import MOST, PEER_POLLS
from haltcore.fsm.order import Ended
from haltcore.fsm.outcomes import outcome
from haltcore.fsm.turn import Turn

from tests.helpers import BTC, ETH, IN_DOUBT, REFUSED, config, row
from tests.runner_rig import EPOCH_NS, HandVenue, later, simulated
from tests.test_guards import Guarded

STORE = StorePolicy(configured=True, check=StoreCheck.OFF)
EMBARGO_MS = PEER_POLLS * STORE.latch_poll_ms


class Forgotten(Guarded):
    """A session that has read the latch of a store in epoch 1."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.poll(epoch=1)

    def told(self) -> list[SettleGuard]:
        """Answer whatever the store is told, step by step, until there is nothing more; what it was."""
        found: list[SettleGuard] = []
        under_way = [guard.settle for kept in self.core.flow.guards.values() for guard in kept]
        open_ = [e for e in self.all(SettleGuard) if e.id in under_way]
        while open_:
            found.append(open_.pop(0))
            self.answer(found[-1], GuardKind.SETTLED)
            open_ += self.got(SettleGuard)
        return found

    def denied(self, **fields: Any) -> str:
        """The code by which an order is denied; empty if it is claimed."""
        self.ask(**fields)
        return "".join(d.code for d in self.got(Denied))


# --- a claim names the epoch ------------------------------------------------------------------------------------------------


def test_a_claim_in_another_epoch_is_never_sent_and_the_latch_is_read_before_the_next_one() -> None:
    s = Forgotten()
    claim = s.claiming(once="signal")
    assert claim.epoch == 1
    s.answer(claim, GuardKind.UNAVAILABLE, code="store_epoch")
    assert s.order(claim.order).ended is Ended.REJECTED
    assert s.one(Denied).code == "guard_unavailable"
    assert len(s.got(ReadFreeze)) == 1, "at once"
    assert not s.core.flow.guards
    assert s.core.desk is not None
    assert s.core.desk.store.health is StoreHealth.OK, "it has answered"
    read = s.one(ReadFreeze)
    assert s.denied(amount=11) == "not_ready"
    s.effects = (read,)
    s.poll(epoch=2)
    assert s.claiming(amount=11).epoch == 2


def test_the_refusal_of_a_claim_of_long_ago_asks_for_nothing() -> None:
    s = Forgotten()
    claims = [s.claiming(amount=amount) for amount in (1, 2, 3)]
    s.answer(claims[0], GuardKind.UNAVAILABLE, code="store_epoch")
    read = s.one(ReadFreeze)
    s.answer(claims[1], GuardKind.UNAVAILABLE, code="store_epoch")
    assert not s.got(ReadFreeze), "it is being read"
    s.effects = (read,)
    s.poll(epoch=2)
    s.answer(claims[2], GuardKind.UNAVAILABLE, code="store_epoch")
    assert not s.got(ReadFreeze), "that is known"
    assert s.claiming(amount=4)


def test_a_grant_of_the_store_that_forgot_is_no_leave_for_an_intention() -> None:
    s = Forgotten()
    claim, other = s.claiming(once="signal"), s.claiming(amount=11)
    s.poll(epoch=2)
    s.answer(claim, GuardKind.CLAIMED)
    assert s.one(Denied).code == "store_forgot"
    assert not s.got(Place)
    assert s.one(SettleGuard).state is GuardState.REJECTED
    s.answer(other, GuardKind.CLAIMED)
    assert s.one(Place), "nobody else claims its own client id"


# --- what is told again -----------------------------------------------------------------------------------------------------


def test_an_intention_in_doubt_is_vouched_for() -> None:
    s = Forgotten()
    place = s.placed(once="signal")
    s.outcome(place, IN_DOUBT)
    assert s.hear() is GuardState.IN_DOUBT
    s.poll(epoch=2)
    (told,) = s.told()
    assert (told.order, told.state, told.owner) == (place.order, GuardState.IN_DOUBT, f"test001:{place.order}")
    s.accept(place.order)
    assert s.hear() is GuardState.DONE
    assert not s.core.flow.guards


def test_an_intention_that_was_sent_and_not_answered_is_vouched_for_as_in_doubt() -> None:
    s = Forgotten()
    place = s.placed(once="signal")
    s.poll(epoch=2)
    assert [t.state for t in s.told()] == [GuardState.IN_DOUBT]
    s.outcome(place, REFUSED)
    assert s.hear() is GuardState.REJECTED
    assert not s.core.flow.guards


def test_what_was_being_told_to_the_store_that_forgot_is_told_again_and_only_that() -> None:
    s = Forgotten()
    old = []
    for n in (1, 2):
        place = s.placed(once=f"signal {n}", amount=n)
        s.accept(place.order)
        old.append(s.one(SettleGuard))
    s.poll(epoch=2)
    s.answer(old[1], GuardKind.SETTLED)
    new = s.got(SettleGuard)
    assert [(t.order, t.state) for t in new] == [(t.order, GuardState.DONE) for t in old[::-1]], "heard or not, it was another store"
    s.answer(old[0], GuardKind.SETTLED)
    assert s.codes() == ["stale_answer"]
    for told in new:
        s.answer(told, GuardKind.SETTLED)
        assert not s.got(SettleGuard)
    assert not s.core.flow.guards
    assert s.core.flow.telling == 0


def test_an_order_that_was_replaced_vouches_with_what_was_claimed() -> None:
    """Over a store that kept everything, and says so by a new epoch only, other parameters would look like another's claim."""
    s = Forgotten()
    key = s.live(once="signal")
    claim = next(effect for effect in s.history if isinstance(effect, ClaimGuard))
    s.answer(s.replacing(key, 11), GuardKind.CLAIMED)
    s.outcome(s.one(Replace))
    s.feed(OrderReplaced(s.now, s.client_id(key), "", qty(11), price(100)))
    s.hear()
    s.poll(epoch=2)
    (told,) = s.told()
    assert (told.params, told.owner, told.key) == (claim.params, claim.owner, claim.key)


def test_what_never_was_and_what_has_no_intention_is_not_told() -> None:
    s = Forgotten()
    s.live()
    s.outcome(s.placed(once="refused"), REFUSED)
    s.hear()
    s.claiming(once="waits for its claim")
    s.poll(epoch=2)
    assert not s.told()


def test_the_newest_is_told_first_and_never_too_many_at_once() -> None:
    s = Forgotten(thorough=False)
    keys = [s.live(once=f"signal {n}") for n in range(2 * MOST + 7)]
    s.poll(epoch=2)
    assert [t.order for t in s.got(SettleGuard)] == [keys[-1]], "one, to see whether the store takes it"
    s.answer(s.one(SettleGuard), GuardKind.SETTLED)
    open_ = s.got(SettleGuard)
    assert [t.order for t in open_] == keys[-2 : -2 - MOST : -1]
    told = [keys[-1]]
    while open_:
        told.append(open_[0].order)
        s.answer(open_.pop(0), GuardKind.SETTLED)
        assert len(s.got(SettleGuard)) <= 1, "the next with each answer, and not with the polls"
        open_ += s.got(SettleGuard)
        assert s.core.flow.telling == len(open_) <= MOST
    assert told == keys[::-1]
    assert not s.core.flow.guards


def test_no_step_looks_at_more_orders_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    order = Turn.order

    def counted(self: Turn, key: int) -> Any:
        looked.append(key)
        return order(self, key)

    monkeypatch.setattr(guards, "LOOKED", 20)
    s = Forgotten(thorough=False)
    first = s.live(once="the first")
    for n in range(50):
        s.outcome(s.placed(once=f"refused {n}"), REFUSED)
        s.hear()
        s.fill(s.live(amount=n + 1), n + 1)
    monkeypatch.setattr(Turn, "order", counted)
    most, told = 0, []
    for _ in range(3):
        looked.clear()
        s.wait(STORE.latch_poll_ms)
        s.poll(epoch=2)
        told.append([effect.order for effect in s.got(SettleGuard)])
        most = max(most, len(looked))
        assert s.denied(once="signal") == "store_forgot"
    assert told == [[], [], [first]]
    assert most <= 30
    s.core = attrs.evolve(s.core, once=None)
    looked.clear()
    s.restart()
    assert s.core.once is not None
    assert len(s.core.once) == 51
    assert len(dict.fromkeys(looked)) <= 60, "the memo is made of orders with an intention alone"


def test_a_word_that_was_not_heard_is_said_again_with_all_that_is_older() -> None:
    s = Forgotten()
    keys = [s.live(once=f"signal {n}") for n in range(5)]
    s.poll(epoch=2)
    s.answer(s.one(SettleGuard), GuardKind.SETTLED)
    open_ = s.got(SettleGuard)
    assert [t.order for t in open_] == keys[3::-1]
    for told in open_[:2]:
        s.answer(told, GuardKind.SETTLED)
    for told in open_[2:]:
        s.answer(told, GuardKind.UNAVAILABLE)
        assert not s.got(SettleGuard), "not while it fails"
    for _ in range(5):
        s.poll(epoch=2)
        if s.got(SettleGuard):
            break
    again = s.told()
    assert [t.order for t in again] == keys[1::-1]
    assert not s.core.flow.guards


def test_a_restart_goes_on_with_what_is_not_told_yet() -> None:
    s = Forgotten()
    keys = [s.live(once=f"signal {n}") for n in range(4)]
    s.poll(epoch=2)
    s.answer(s.one(SettleGuard), GuardKind.SETTLED)
    s.restart()
    s.answer_stock(*(row(s.order(key)) for key in keys))
    assert s.denied(once="another") == "store_forgot"
    s.poll(epoch=2)
    assert sorted(dict.fromkeys(t.order for t in s.told())) == keys[:3], "what was under way is said again"
    assert s.denied(once="another") == "store_forgot"
    s.wait(EMBARGO_MS)
    assert s.denied(once="another") == ""


# --- nothing with an intention meanwhile ------------------------------------------------------------------------------------


def test_whoever_sees_that_the_store_forgot_waits_for_the_others() -> None:
    s = Forgotten()
    s.poll(epoch=2)
    assert s.denied(once="signal") == "store_forgot"
    assert s.denied(amount=11) == "", "what nobody else may place is placed"
    s.wait(EMBARGO_MS - 1)
    assert s.denied(once="signal") == "store_forgot"
    s.wait(1)
    assert s.denied(once="signal") == ""
    s.poll(epoch=2)
    assert s.core.flow.vouching is None


def test_it_waits_for_its_own_words_however_long_they_take() -> None:
    s = Forgotten()
    s.live(once="signal 1")
    s.poll(epoch=2)
    told = s.one(SettleGuard)
    s.wait(10 * EMBARGO_MS)
    assert s.denied(once="signal 2") == "store_forgot"
    s.answer(told, GuardKind.SETTLED)
    assert s.denied(once="signal 2") == ""


def test_a_session_that_meets_a_store_for_the_first_time_waits_for_nobody() -> None:
    s = Forgotten()
    assert s.denied(once="signal") == ""
    assert Guarded(store=attrs.evolve(STORE, guard=False)).core.flow.vouching is None


# --- two runners ------------------------------------------------------------------------------------------------------------


class Two:
    """Two runners over one store, each with a venue of its own; what was placed by client id, and who said what to people."""

    def __init__(self) -> None:
        self.placed: list[str] = []
        self.alerts: list[tuple[str, str]] = []
        self.state = MemoryState(LoopClock(asyncio.get_running_loop(), EPOCH_NS).now_ns)
        self.venues = {"aaaaaaa": HandVenue(), "bbbbbbb": HandVenue()}
        self.a, self.b = (self.runner(session, venue, session) for session, venue in self.venues.items())

    def runner(self, session: str, venue: HandVenue, who: str, disk: MemoryDisk | None = None, **more: Any) -> Runner:
        def heard(alert: Alert) -> None:
            self.alerts.append((who, alert.code))

        return Runner(
            config(session=session, symbols=(BTC, ETH), store=StorePolicy(configured=True)), venue=venue, store=MemoryStore(self.state),
            journal="bot.jsonl" if disk is not None else None, disk=disk, who=who, people=People(heard),
            clock=LoopClock(asyncio.get_running_loop(), EPOCH_NS), **more,
        )  # fmt: skip

    async def __aenter__(self) -> "Two":
        await self.a.start()
        await self.b.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.a.abandon()
        self.b.abandon()

    async def tries(self, bot: Runner, once: str) -> str:
        """Submit; the code of the refusal, or empty."""
        try:
            await bot.submit(BTC, "buy", "1", "100", once=once)
        except (OrderDenied, OrderRefused) as refused:
            return refused.code
        return ""

    def orders(self) -> int:
        """How many places have reached a venue."""
        return sum(len(venue.called(Place)) for venue in self.venues.values())


def unanswered(venue: HandVenue, seconds: float = 0) -> Callable[[Any], Awaitable[Any]]:
    """The venue takes the place, and nobody hears of it."""

    async def behave(effect: Place) -> Any:
        venue.open[effect.client_id] = effect
        await later(seconds)
        return [outcome(effect, 0, OutcomeKind.IN_DOUBT, "timeout")]

    return behave


async def no_word(effect: QueryOrder) -> Any:
    return [OrderQueried(0, effect.id, effect.order, FetchFailed(OutcomeKind.UNAVAILABLE, "x", "y", 0))]


@simulated
async def test_an_order_in_doubt_is_not_placed_by_another_after_the_store_lost_its_data() -> None:
    async with Two() as two:
        venue = two.venues["aaaaaaa"]
        venue.behave.update(Place=unanswered(venue), QueryOrder=no_word)
        with pytest.raises(Exception, match="in_doubt"):
            await two.a.submit(BTC, "buy", "1", "100", once="signal")
        await later(5)
        assert await two.tries(two.b, "signal") == "guard_held"
        two.state.flush()
        await later(30)
        assert await two.tries(two.b, "signal") == "guard_held"
        assert two.orders() == 1


@simulated
async def test_of_many_intentions_none_is_placed_by_another_after_the_store_lost_its_data() -> None:
    async with Two() as two:
        names = [f"signal {n}" for n in range(300)]
        for name in names:
            await two.a.submit(BTC, "buy", "1", "100", once=name)
        await later(3)
        two.state.flush()
        for _ in range(12):
            for name in (names[-1], names[0], names[150]):
                assert await two.tries(two.b, name) in ("guard_unavailable", "store_forgot", "not_ready", "guard_done")
            await later(0.7)
        assert await two.tries(two.b, names[0]) == "guard_done"
        assert await two.tries(two.b, "a new one") == ""
        assert two.orders() == len(names) + 1
        assert not [code for _, code in two.alerts if code == "guard_lost"]


@simulated
async def test_nobody_is_quicker_than_the_first_reading_of_the_latch() -> None:
    async with Two() as two:
        assert await two.tries(two.a, "signal") == ""
        await later(3)
        two.state.flush()
        assert await two.tries(two.b, "signal") == "guard_unavailable"
        await later(20)
        assert await two.tries(two.b, "signal") == "guard_done"
        assert two.orders() == 1


@simulated
async def test_a_store_that_kept_everything_in_a_new_epoch_alarms_nobody() -> None:
    async with Two() as two:
        order = await two.a.submit(BTC, "buy", "1", "100", once="signal")
        await two.a.replace(order, "2", "101")
        await later(3)
        two.state.fail_over(two.state.remembered())
        await later(10)
        assert ("aaaaaaa", "guard_lost") not in two.alerts
        assert await two.tries(two.b, "signal") in ("guard_done", "guard_mismatch")


@simulated
async def test_two_that_go_on_from_copies_of_one_journal_are_two_owners() -> None:
    """Both have the same session, and the same number for the next record: of one intention one order comes all the same."""
    two, disk = Two(), MemoryDisk()
    first = two.runner("aaaaaaa", HandVenue(), "p0", disk, on_stop="hand_over")
    await first.start()
    await first.submit(BTC, "buy", "1", "90")
    await first.stop()
    bots = [two.runner("aaaaaaa", HandVenue(), who, copy) for who, copy in (("p1", disk), ("p2", deepcopy(disk)))]
    for bot in bots:
        await bot.start()
    await later(2)
    answers = await asyncio.gather(*(two.tries(bot, "signal") for bot in bots))
    assert sorted(answers) == ["", "guard_held"], (answers, [bot.status().modes for bot in bots])
    for bot in bots:
        bot.abandon()
