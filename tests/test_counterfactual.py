"""What-if of a log. Goal: under the same configuration nothing differs; under another one, what differs is what the stated assumptions say.

Method: sessions of the real core are written as logs. Some are told by hand, one per assumption; others are random lives, in which every
event may come at any time, for the property that an unchanged configuration changes nothing and no log and no change makes it raise. What a
lower limit denies is recomputed by a ledger of a few lines that shares no code with the core. The simulation's logs, with all their faults,
are read at the end.
"""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import attrs
import pytest
from haltcore.effects import (
    Cancel,
    CancelAll,
    ClearFreeze,
    Denied,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    Mode,
    OrdType,
    Place,
    PublishFreeze,
    Purpose,
    QueryOrder,
    ReadFreeze,
    Replace,
    SetTimer,
    TimeInForce,
    Trigger,
    bps,
    client_order_id,
    price,
    qty,
    usd,
)
from haltcore.effects.values import SCALE
from haltcore.fsm import other_run
from haltcore.fsm.codec import CONFIG, EFFECTS, EVENTS, STATE
from haltcore.fsm.comparison import POINTS, SENT, Comparison
from haltcore.fsm.config import Config
from haltcore.fsm.core import EMPTY, Core, SweepPhase
from haltcore.fsm.counterfactual import counterfactual
from haltcore.fsm.digest import digest
from haltcore.fsm.events import (
    CancelRejected,
    ChangeLimits,
    EdgeUpdate,
    Event,
    Freeze,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    MarkPrice,
    OrderReplaced,
    OutcomeKind,
    PositionRow,
    ReportStatus,
    SetReduceOnly,
    Started,
    Stopping,
    TimerFired,
    TradeBusted,
    Unfreeze,
    VenueLink,
)
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.outcomes import failed, owes_outcome
from haltcore.fsm.record import CHECKPOINT_EVERY, NO_HASH, header_line, record_line, seal_line
from haltcore.fsm.replay import Source
from haltcore.fsm.step import step
from haltcore.fsm.verdict import Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import BTC, BUY, ETH, IN_DOUBT, MS, REFUSED, SELL, SESSION, Session, Steps, StorePolicy, VenueTraits, row
from tests.simulation.world import Plan, simulate

Change = Callable[[Config], Config]


class Taped(Session):
    """A session that remembers its steps, with any configuration."""

    def __init__(self, **fields: Any) -> None:
        self.steps: Steps = []
        super().__init__(**{"thorough": False, **fields})

    def feed(self, event: Event) -> tuple[Effect, ...]:
        effects = super().feed(event)
        self.steps.append((event, effects, self.core))
        return effects

    @property
    def last(self) -> int:
        """The number of the last record."""
        return self.core.seq

    def edge(self, at: str, symbol: str = BTC) -> tuple[Effect, ...]:
        """The edge, in basis points."""
        return self.feed(EdgeUpdate(self.now, symbol, bps(at)))


def log(steps: Steps, cuts: Sequence[int] = (), seal: bool = True) -> list[Source]:
    """The segments of a log of these steps; a new one begins after each record in ``cuts``."""
    started = steps[0][0]
    assert isinstance(started, Started)
    config = CONFIG.encode(started.config)
    prev, state, sources = NO_HASH, EMPTY, []
    for number, (first, last) in enumerate(pairwise([0, *cuts, len(steps)]), 1):
        snapshot = STATE.encode(state) if number > 1 else None
        if state.desk is not None:
            config = CONFIG.encode(state.desk.config)
        line, prev = header_line(
            prev, version="0.1.0", config=config, segment=number, first=first + 1, snapshot=snapshot, digest=digest(state)
        )
        lines = [line]
        for event, effects, core in steps[first:last]:
            state = core
            checkpoint = digest(core) if core.seq % CHECKPOINT_EVERY == 0 else ""
            line, prev = record_line(prev, core.seq, EVENTS.encode(event), EFFECTS.encode(effects), checkpoint)
            lines.append(line)
        if seal or last < len(steps):
            line, prev = seal_line(prev, records=last - first, last=last, more=last < len(steps), digest=digest(state))
            lines.append(line)
        sources.append(Source(f"mm1.{number}", lines))
    return sources


def same(config: Config) -> Config:
    """No change."""
    return config


def limits(**figures: Any) -> Change:
    """The account's figures changed; all other rules gone."""
    return lambda config: attrs.evolve(config, limits=attrs.evolve(config.limits, **figures), rules=())


def what_if(session: Taped, change: Change, cuts: Sequence[int] = ()) -> Comparison:
    """The comparison over the session's log; the replay must agree, and the other run's state be sound."""
    found = counterfactual(log(session.steps, cuts), change)
    assert found.verdict.kind is Kind.SAME, found.verdict
    assert broken_state(found.core) == ()
    return found


def rulings(found: Comparison) -> list[tuple[int, str, str]]:
    """Which records were ruled on differently, and how."""
    return [(r.record, r.recorded, r.other) for r in found.rulings]


def position(found: Comparison, symbol: str = BTC) -> int:
    """What the other run holds, in whole units."""
    core = found.core
    assert core.desk is not None
    book = core.books.get(core.desk.index[symbol])
    return book.position // SCALE if book is not None else 0


def other_mode(found: Comparison, scope: int = 0) -> Mode:
    """The mode of a scope in the other run."""
    assert found.core.desk is not None
    control = found.core.desk.controls.get(scope)
    return control.mode if control is not None else Mode.ACTIVE


def assert_nothing_differs(found: Comparison) -> None:
    """Not one field."""
    assert found.core == found.verdict.core
    assert found.other == found.recorded
    assert (found.first, found.rulings, found.supposed, found.supposed_from) == (0, (), 0, 0)
    assert all(point.recorded == point.other for point in found.series)


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of the other run keeps the promises of a step."""

    def checked(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        after, effects = step(core, event)
        assert broken(core, event, after, effects) == ()
        return after, effects

    monkeypatch.setattr(other_run, "step", checked)


# --- random lives -----------------------------------------------------------------------------------------------------


class Life:
    """A session in which anything may happen at any time; only what an answer is about is true."""

    def __init__(self, seed: int, acts: int = 120) -> None:
        draw = self.draw = random.Random(f"life/{seed}")
        figures = Limits(
            max_inventory_usd=usd("5000"), max_total_notional=usd("8000"), edge_freeze_threshold_bps=bps("10"), max_open_orders=12,
            message_rate=Rate(30, 1_000), duplicate_window_ms=50, prevent_self_match=draw.random() < 0.5,
        )  # fmt: skip
        store = StorePolicy(configured=draw.random() < 0.4)
        self.session = Taped(limits=figures if draw.random() < 0.8 else Limits(), store=store)
        self.waiting: list[Effect] = []
        self.session.mark(100)
        for _ in range(acts):
            self.session.now += draw.choice((0, 1, 20, 300, 2_000)) * MS
            self._act()

    def _act(self) -> None:
        acts = [self._submit] * 2 + [self._answer] * 3 + [self._report] * 2 + [self._market, self._operate]
        self.draw.choice(acts)()
        self.waiting += [effect for effect in self.session.effects if owes_outcome(effect) or isinstance(effect, SetTimer)]

    def _key(self) -> int:
        keys = sorted(self.session.core.orders)
        old = sorted(self.session.core.closed)
        return self.draw.choice(keys if keys and (not old or self.draw.random() < 0.8) else old or [99])

    def _submit(self) -> None:
        draw, session, roll = self.draw, self.session, self.draw.random()
        if roll < 0.7:
            tif = draw.choice((TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC))
            session.ask(draw.choice((BUY, SELL)), draw.randint(1, 30), draw.randint(95, 105), draw.choice((BTC, ETH)), tif=tif)
        elif roll < 0.85:
            session.replace(self._key(), draw.randint(1, 40), draw.randint(95, 105))
        else:
            session.cancel(self._key())

    def _answer(self) -> None:
        if not self.waiting:
            return self._market()
        effect = self.waiting.pop(self.draw.randrange(len(self.waiting)))
        return self._answered(effect)

    def _answered(self, effect: Effect) -> None:
        draw, session, now = self.draw, self.session, self.session.now
        if isinstance(effect, SetTimer):
            session.now = max(now, effect.due_ns)
            session.feed(TimerFired(session.now, effect.id, effect.purpose, effect.key))
        elif draw.random() < 0.15:
            kind = draw.choice((OutcomeKind.UNAVAILABLE, IN_DOUBT, REFUSED))
            session.feed(failed(effect, now, kind, draw.choice(("x", "frozen_at_send"))))
        elif isinstance(effect, FetchOpenOrders):
            rows = [row(o) for o in session.core.orders.values() if o.spec.symbol == (effect.symbol or o.spec.symbol)]
            session.lists(effect, *draw.sample(rows, draw.randint(0, len(rows))))
        elif isinstance(effect, FetchPositions):
            session.positions(effect, *[PositionRow(BTC, qty(draw.randint(-3, 3)), None)] * draw.randint(0, 1))
        elif isinstance(effect, QueryOrder):
            if session.core.order(effect.order) is None or draw.random() < 0.3:
                session.not_found(effect)
            else:
                session.found(effect, draw.choice(list(ReportStatus)))
        elif isinstance(effect, (PublishFreeze, ReadFreeze, ClearFreeze)):
            session.latch(effect, *[LatchRow("", 1, Trigger.MANUAL, "peer", "peer")] * (draw.random() < 0.1))
        elif "Lease" in type(effect).__name__:
            session.feed(LeaseAnswer(now, effect.id, draw.choice(list(LeaseKind)), Fence(1, 1), now + 30_000 * MS, "somebody"))
        else:
            session.outcome(effect)

    def _report(self) -> None:
        draw, session = self.draw, self.session
        order = session.core.order(self._key())
        if order is None:
            return
        key, roll = order.key, draw.random()
        if roll < 0.4:
            session.accept(key)
        elif roll < 0.7:
            trade, total, fee = f"t{draw.randint(1, 60)}", draw.choice((0, 0, 5)), draw.choice((0, 7))
            session.fill(key, draw.randint(1, 8), draw.randint(95, 105), trade, total, fee)
        elif roll < 0.85:
            session.cancelled(key, draw.choice((0, 2)))
        elif roll < 0.9:
            session.expired(key)
        elif roll < 0.93:
            session.reject(key)
        else:
            at = price(draw.randint(95, 105))
            session.feed(OrderReplaced(session.now, order.spec.client_id, "v", qty(draw.randint(1, 40)), at))

    def _market(self) -> None:
        draw, session = self.draw, self.session
        if draw.random() < 0.6:
            session.mark(draw.randint(90, 110), draw.choice((BTC, ETH)))
        else:
            session.edge(str(draw.choice((30, 20, 15, 12, 9))), draw.choice((BTC, ETH)))

    def _operate(self) -> None:
        draw, session, roll = self.draw, self.session, self.draw.random()
        scope = draw.choice(("", BTC))
        if roll < 0.15:
            session.feed(Freeze(session.now, scope, Trigger.MANUAL, "told so", "ops"))
        elif roll < 0.6:
            session.feed(Unfreeze(session.now, scope, "ops", "again", draw.random() < 0.6))
        elif roll < 0.7:
            session.feed(SetReduceOnly(session.now, scope, draw.random() < 0.4, "ops", "careful"))
        elif roll < 0.8:
            session.feed(VenueLink(session.now, draw.random() < 0.7, "line"))
        elif roll < 0.9:
            changed = Limits(max_inventory_usd=usd(draw.choice(("900", "5000"))))
            session.feed(ChangeLimits(session.now, LimitRule(changed, symbol=draw.choice(("", BTC))), "ops", "calmer"))
        elif roll < 0.97:
            self.waiting.clear()
            session.restart()
        else:
            session.feed(Stopping(session.now, True, "ops"))


CHANGES: tuple[Change, ...] = (
    limits(max_inventory_usd=usd("700")),
    limits(edge_freeze_threshold_bps=bps("18"), max_open_orders=3),
    limits(edge_freeze_threshold_bps=None, max_inventory_usd=None, max_total_notional=None, message_rate=None, max_open_orders=None),
    limits(feed_lost_ms=700, max_daily_loss=usd("10"), duplicate_window_ms=5_000, max_drawdown=usd("30")),
    lambda config: attrs.evolve(
        config, limits=Limits(), venue_lost_ms=1, rules=(LimitRule(Limits(max_inventory_usd=usd("600")), symbol=BTC),)
    ),
    lambda config: attrs.evolve(config, evidence_ms=17, sweep=attrs.evolve(config.sweep, cap_ms=100, attempts=2)),
)


@pytest.mark.parametrize("block", range(4))
def test_an_unchanged_configuration_changes_nothing(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        session = Life(seed).session
        assert_nothing_differs(what_if(session, same, (40,) if seed % 5 == 0 else ()))


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_no_change_makes_any_life_fail(number: int) -> None:
    differed = 0
    for seed in range(25):
        found = what_if(Life(seed).session, CHANGES[number])
        differed += found.core != found.verdict.core
        assert found.core.seq == found.verdict.core.seq
        assert found.core.now_ns >= found.verdict.core.now_ns
    assert differed >= 5


def test_the_same_comparison_twice() -> None:
    session = Life(3).session
    assert what_if(session, CHANGES[0]) == what_if(session, CHANGES[0])


# --- denials ----------------------------------------------------------------------------------------------------------


class Ledger:
    """What a lower limit on the inventory denies, in ten lines: long is position and all open buys, short the reverse, at the worse of
    their prices and the mark. All prices are whole."""

    def __init__(self, limit: int) -> None:
        self.limit, self.mark, self.position = limit, 100, 0
        self.open: dict[int, list[int]] = {}

    def submit(self, key: int, sign: int, amount: int, at: int) -> bool:
        """Whether the order passes; then it is open."""
        mine = [(left, limit) for s, left, limit in self.open.values() if s == sign] + [(amount, at)]
        value = max(sum(left * limit for left, limit in mine), sum(left for left, _ in mine) * self.mark)
        if sign * self.position * self.mark + value > self.limit:
            return False
        self.open[key] = [sign, amount, at]
        return True

    def fill(self, key: int, amount: int) -> None:
        """Part of it, if it is open here."""
        if key in self.open:
            sign, left, at = self.open[key]
            done = min(left, amount)
            self.position += sign * done
            self.open[key] = [sign, left - done, at]
            if left == done:
                del self.open[key]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.booleans(), st.integers(1, 20), st.integers(90, 110)),
        st.tuples(st.just("fill"), st.integers(0, 30), st.integers(1, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("mark"), st.integers(80, 120)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=60)
@given(ACTS, st.integers(500, 4_000))
def test_a_lower_limit_denies_what_the_ledger_says(acts: list[Any], limit: int) -> None:
    session, ledger = Taped(), Ledger(limit)
    session.mark(100)
    keys: list[int] = []
    denied = []
    for act, *rest in acts:
        if act == "submit":
            buys, amount, at = rest
            keys.append(session.working(BUY if buys else SELL, amount, at))
            if not ledger.submit(keys[-1], 1 if buys else -1, amount, at):
                denied.append(keys[-1])
        elif act == "mark":
            ledger.mark = rest[0]
            session.mark(rest[0])
        elif keys and (key := keys[rest[0] % len(keys)]) in session.core.orders:
            if act == "fill":
                amount = min(rest[1], session.order(key).leaves_qty // SCALE)
                ledger.fill(key, amount)
                session.fill(key, amount)
            else:
                ledger.open.pop(key, None)
                session.cancelled(key)
    found = what_if(session, limits(max_inventory_usd=usd(limit)))
    assert rulings(found) == [(key, SENT, "max_inventory_usd") for key in denied]
    assert position(found) == ledger.position
    assert sorted(found.core.orders) == sorted(ledger.open)
    assert found.supposed == 0
    assert found.other.denied == ((("max_inventory_usd", len(denied)),) if denied else ())
    assert found.first == (denied[0] if denied else 0)


def test_what_a_denied_order_did_counts_for_nothing() -> None:
    session = Taped()
    session.mark(100)
    small, large = session.working(amount=5), session.working(amount=50)
    session.fill(large, 20)
    session.replace(large, 60, 101)
    session.feed(OrderReplaced(session.now, session.client_id(large), "v9", qty(60), price(101)))
    session.cancel(large)
    session.cancelled(large, 25)
    session.fill(large, 1)
    found = what_if(session, limits(max_inventory_usd=usd("1000")))
    # The replace and the cancel of an order that is not there are refused, and no difference in the gate's judgement of an order.
    assert rulings(found) == [(large, SENT, "max_inventory_usd"), (large + 4, SENT, "unknown_order")]
    assert (position(found), position_of(session)) == (0, 25)
    assert list(found.core.orders) == [small]
    assert (found.other.sent, found.recorded.sent) == (1, 3)


def position_of(session: Session) -> int:
    """What the recorded run holds."""
    return session.position() // SCALE


def test_an_order_that_was_denied_in_the_log_is_open_and_never_fills() -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000"), edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    session.working(amount=5)
    session.ask(amount=50)
    denied = session.last
    session.mark(101)
    before_freeze = session.last
    session.edge("3")
    session.prove_empty()
    found = what_if(session, limits(max_inventory_usd=None))
    assert rulings(found) == [(denied, "max_inventory_usd", SENT)]
    assert (found.supposed, found.supposed_from, found.first) == (1, denied, denied)
    series = {point.record: point.other for point in found.series}
    assert series[before_freeze].open_orders == 2
    assert series[before_freeze].exposure == 55 * 101 * SCALE * SCALE
    # The freeze, which both runs have, cancels it.
    assert len(found.core.orders) == 0
    assert found.core.closed[denied].cum_qty == 0
    assert other_mode(found) is Mode.FROZEN


@pytest.mark.parametrize("fields", [{"tif": TimeInForce.IOC}, {"tif": TimeInForce.FOK}, {"type": "market"}])
def test_an_order_that_cannot_rest_expires(fields: dict[str, Any]) -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000")))
    session.mark(100)
    if fields.get("type") == "market":
        session.ask(amount=50, at=None, type=OrdType.MARKET)
    else:
        session.ask(amount=50, **fields)
    found = what_if(session, limits(max_inventory_usd=None))
    assert (found.supposed, len(found.core.orders), position(found)) == (1, 0, 0)


def test_another_reason_is_a_difference_too() -> None:
    session = Taped(limits=Limits(max_inventory_usd=usd("1000")))
    session.mark(100)
    session.ask(amount=50)
    found = what_if(session, limits(max_order_qty=qty(1)))
    assert rulings(found) == [(session.last, "max_inventory_usd", "max_order_qty")]
    assert found.rulings[0].client_id == client_order_id(SESSION, session.last)


def test_two_codes_are_counted_apart() -> None:
    session = Taped()
    session.mark(100)
    session.working(amount=5)
    session.ask(amount=50)
    session.ask(amount=3)
    found = what_if(session, limits(max_inventory_usd=usd("4000"), max_order_qty=qty(4)))
    assert found.other.denied == (("max_order_qty", 2),)
    assert found.recorded.denied == ()
    assert (found.other.sent, found.recorded.sent) == (1, 3)


# --- freezes ----------------------------------------------------------------------------------------------------------


def collapsing(store: bool = False) -> tuple[Taped, dict[str, int]]:
    """Edges that fall: 30, 14, 3; orders before, between and after; the records of what matters, by name."""
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")), store=StorePolicy(configured=store))
    at: dict[str, int] = {}

    def note(name: str) -> None:
        at[name] = session.last

    session.mark(100)
    session.edge("30")
    at["before"] = session.working(amount=4)
    at["filled"] = session.working(amount=6)
    session.fill(at["filled"], 2)
    at["wire"] = session.submit(amount=1)
    session.wait(1_500)
    session.edge("14")
    note("edge 14")
    session.accept(at["wire"])
    session.fill(at["filled"], 4)
    at["after"] = session.working(amount=3)
    session.fill(at["after"], 3)
    session.wait(2_000)
    session.edge("3")
    note("edge 3")
    session.prove_empty()
    session.ask()
    note("tried")
    session.unfreeze()
    note("unfreeze")
    if store:
        session.latch(session.one(ClearFreeze))
    at["later"] = session.working(amount=7)
    return session, at


def test_a_higher_threshold_freezes_earlier() -> None:
    session, at = collapsing()
    found = what_if(session, limits(edge_freeze_threshold_bps=bps("15")))
    (recorded,), (other,) = found.recorded.freezes, found.other.freezes
    assert (recorded.record, other.record, found.first) == (at["edge 3"], at["edge 14"], at["edge 14"])
    assert (other.scope, other.trigger) == (recorded.scope, Trigger.EDGE_COLLAPSE)
    assert "14" in other.reason
    # All that was open is cancelled at that instant: what the log tells of it later does not count.
    series = {point.record: point for point in found.series}
    assert series[at["edge 14"]].other.open_orders == 0
    assert series[at["edge 14"]].recorded.open_orders == 3
    assert found.core.closed[at["filled"]].cum_qty == qty(2)
    assert rulings(found) == [(at["after"], SENT, "frozen")]
    # The unfreeze of the log lifts this freeze as well, and both go on.
    assert position(found) == 2
    assert list(found.core.orders) == [at["later"]]
    assert other_mode(found) is Mode.ACTIVE
    assert found.supposed == 0


def test_a_freeze_that_never_came() -> None:
    session, at = collapsing()
    found = what_if(session, limits(edge_freeze_threshold_bps=None))
    assert found.other.freezes == ()
    assert found.first == at["edge 3"]
    assert rulings(found) == [(at["tried"], "frozen", SENT)]
    # What the recorded freeze cancelled is open here for good; so is the order that it denied.
    assert sorted(found.core.orders) == [at["before"], at["wire"], at["tried"], at["later"]]
    assert (found.supposed, found.supposed_from) == (3, at["edge 3"] + 1)
    assert position(found) == position_of(session) == 9


@pytest.mark.parametrize("threshold", ["15", None])
def test_the_same_with_a_store(threshold: str | None) -> None:
    session, at = collapsing(store=True)
    plain = what_if(collapsing()[0], limits(edge_freeze_threshold_bps=bps(threshold) if threshold else None))
    found = what_if(session, limits(edge_freeze_threshold_bps=bps(threshold) if threshold else None))
    assert [f.trigger for f in found.other.freezes] == [f.trigger for f in plain.other.freezes]
    assert position(found) == position(plain)
    assert len(found.core.orders) == len(plain.core.orders)
    assert other_mode(found) is Mode.ACTIVE
    assert at["later"] in found.core.orders


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


# --- replaces ---------------------------------------------------------------------------------------------------------


def grown(session: Taped, fills: Sequence[int]) -> int:
    """An order of 4 that is replaced by one of 20, and then filled in these parts; its key."""
    session.mark(100)
    key = session.working(amount=4)
    session.replace(key, 20)
    if session.got(Replace):
        effect = session.one(Replace)
        session.feed(OrderReplaced(session.now, session.client_id(key), "v9", qty(20), price(100)))
        session.outcome(effect)
    for amount in fills:
        session.fill(key, amount, cum=0)
    return key


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


# --- doubt ------------------------------------------------------------------------------------------------------------


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


def test_an_unanswered_question_of_the_other_run_is_put_again() -> None:
    """An order of unknown fate is not made known by a freeze; the other run asks, and hears what the recorded one has heard by then."""
    session = Taped(store=StorePolicy(configured=False), venue=attrs.evolve(Session().config.venue, cancel_all=False, conditional=False))
    session.mark(100)
    key = session.unknown(amount=8)
    session.edge("3")
    session.wait(20_000)
    session.mark(100)
    found = what_if(session, limits(edge_freeze_threshold_bps=bps("5")))
    assert other_mode(found) is Mode.FROZEN
    assert found.core.closed[key].cum_qty == 0


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


def assert_decided_alike(found: Comparison) -> None:
    """No decision differs, though the configurations do."""
    assert (found.first, found.rulings, found.supposed) == (0, (), 0)
    assert found.other == found.recorded


# --- the gateway ------------------------------------------------------------------------------------------------------


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


# --- time beside the log ----------------------------------------------------------------------------------------------


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


# --- operators --------------------------------------------------------------------------------------------------------


def test_a_change_of_limits_in_the_log_comes_on_top() -> None:
    session = Taped()
    session.mark(100)
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_inventory_usd=usd("5000"))), "ops", "more"))
    session.working(amount=30)
    session.ask(amount=30)
    assert session.codes() == ["max_inventory_usd"]
    found = what_if(session, limits(max_inventory_usd=usd("100")))
    assert_decided_alike(found)


def test_a_configuration_of_other_books_is_refused() -> None:
    session = Taped()
    for change in ({"symbols": (ETH, BTC)}, {"session": "other01"}, {"strategies": ("mm",)}):
        with pytest.raises(ValueError, match=next(iter(change))):
            counterfactual(log(session.steps), lambda config, change=change: attrs.evolve(config, **change))  # type: ignore[misc]


def test_what_the_change_raises_is_passed_on() -> None:
    def refuse(config: Config) -> Config:
        raise KeyError(config.session)

    with pytest.raises(KeyError):
        counterfactual(log(Taped().steps), refuse)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_segments_say_the_same_as_the_whole() -> None:
    session = Life(11).session
    whole = what_if(session, CHANGES[0])
    parted = what_if(session, CHANGES[0], (20, 21, 90))
    assert attrs.evolve(parted, verdict=whole.verdict) == whole


def test_a_later_segment_by_itself() -> None:
    session, at = collapsing()
    sources = log(session.steps, (at["edge 14"] - 1,))
    assert_nothing_differs(counterfactual(sources[1:], same))
    found = counterfactual(sources[1:], limits(edge_freeze_threshold_bps=bps("15")))
    assert [f.record for f in found.other.freezes] == [at["edge 14"]]
    assert (position(found), found.supposed) == (2, 0)


def test_a_limit_that_is_broken_in_midstream_freezes_at_once() -> None:
    session = Taped()
    session.mark(100)
    key = session.working(amount=4)
    session.fill(key, 3)
    session.mark(50)
    first = session.last
    session.mark(51)
    found = counterfactual(log(session.steps, (first,))[1:], limits(max_daily_loss=usd("100")))
    assert [(f.record, f.trigger) for f in found.other.freezes] == [(first + 1, Trigger.LOSS)]
    assert len(found.core.orders) == 0


def test_a_feed_is_looked_after_in_midstream() -> None:
    session = Taped()
    session.mark(100)
    first, then = session.last, session.now
    session.wait(5_000)
    session.mark(51)
    found = counterfactual(log(session.steps, (first,))[1:], limits(feed_lost_ms=700))
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

    desk = counterfactual(second, change).core.desk
    assert desk is not None
    figures = {rule.label: rule.limits.max_order_qty for rule in desk.rules}
    assert figures == {"account": qty(3), f"symbol {BTC}": qty(7), f"symbol {ETH}": qty(2), "band high": qty(6)}
    unchanged = counterfactual(second, same).core.desk
    assert unchanged is not None
    assert unchanged.rules == rules


def test_a_torn_log_is_read_as_far_as_it_goes() -> None:
    session, _ = collapsing()
    (source,) = log(session.steps, seal=False)
    lines = list(source.chunks)
    torn = [Source("mm1", [*lines[:-1], lines[-1][:40]])]
    found = counterfactual(torn, same)
    assert (found.verdict.kind, found.verdict.torn) == (Kind.SAME, 40)
    assert_nothing_differs(found)


def test_broken_and_divergent_logs_raise_nothing() -> None:
    session, at = collapsing()
    (source,) = log(session.steps)
    lines = list(source.chunks)
    broken_log = [Source("mm1", [*lines[:9], lines[9].replace(b"1", b"2", 1), *lines[10:]])]
    assert counterfactual(broken_log, same).verdict.kind is Kind.BROKEN
    steps = list(session.steps)
    event, effects, core = steps[at["edge 14"] - 1]
    steps[at["edge 14"] - 1] = (event, (*effects, Denied((at["edge 14"], 9), "x", "y", BTC, 0, ())), core)
    assert counterfactual(log(steps), same).verdict.kind is Kind.DIVERGED
    newer = lines[0].replace(b'"rules":', b'"rules":9', 1)
    assert counterfactual([Source("mm1", [newer, *lines[1:]])], same).verdict.kind in (Kind.BROKEN, Kind.UNSUPPORTED)


def test_an_event_before_the_start_is_no_order() -> None:
    session = Taped()
    events = [MarkPrice(session.now, BTC, price(1)), *[event for event, _, _ in session.steps]]
    core, steps = EMPTY, []
    for event in events:
        core, effects = step(core, event)
        steps.append((event, effects, core))
    sources = log(session.steps)
    header = next(iter(sources[0].chunks))
    prev = header[-67:-3].decode()
    lines = [header]
    for event, effects, core in steps:
        line, prev = record_line(prev, core.seq, EVENTS.encode(event), EFFECTS.encode(effects), "")
        lines.append(line)
    assert_nothing_differs(counterfactual([Source("mm1", lines)], same))


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_series_is_short_and_ends_with_the_end() -> None:
    session = Taped()
    key = session.working(amount=3)
    for number in range(3 * POINTS):
        session.mark(50 + number % 97)
    session.fill(key, 3)
    found = what_if(session, limits(max_order_qty=qty(2)))
    assert POINTS // 2 <= len(found.series) <= POINTS + 1
    assert [point.record for point in found.series] == sorted({point.record for point in found.series})
    last = found.series[-1]
    assert (last.recorded, last.other) == (found.recorded.end, found.other.end)
    assert found.recorded.highest_exposure.value == 3 * 146 * SCALE * SCALE
    assert found.recorded.most_open.value == 1
    assert found.other.highest_exposure.value == found.other.most_open.value == 0
    assert all(point.recorded.exposure <= found.recorded.highest_exposure.value for point in found.series)


def test_gain_on_both_sides() -> None:
    session = Taped()
    session.mark(100)
    small, large = session.working(amount=2), session.working(amount=40)
    session.fill(small, 2)
    session.fill(large, 40)
    session.mark(90)
    worst = session.last
    session.mark(110)
    found = what_if(session, limits(max_order_qty=qty(10)))
    assert (found.recorded.end.gain, found.other.end.gain) == (420 * SCALE * SCALE, 20 * SCALE * SCALE)
    assert (found.recorded.lowest_gain.value, found.other.lowest_gain.value) == (-420 * SCALE * SCALE, -20 * SCALE * SCALE)
    assert (found.recorded.lowest_gain.record, found.other.lowest_gain.record) == (worst, worst)


# --- the simulation's logs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_logs_of_the_simulation(seed: int) -> None:
    """Crashes, faults, a store that fails, segments: under the same configuration nothing differs, under others nothing raises."""
    journal = simulate(Plan.of(seed)).journal
    sources = [Source(name, [data]) for name, data in journal.items()]
    assert_nothing_differs(counterfactual(sources, same))
    for change in CHANGES:
        found = counterfactual(sources, change)
        assert found.verdict.kind is Kind.SAME
        assert broken_state(found.core) == ()
        assert found.core.seq == found.verdict.last


# --- corners ------------------------------------------------------------------------------------------------------------


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


def spared(wanted: bool = False, cum: int = 0) -> tuple[Taped, int]:
    """An order that the recorded run's freeze cancels; ``wanted``: the bot had asked for that already."""
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("5")))
    session.mark(100)
    key = session.working(amount=9)
    if wanted:
        session.cancel(key)
    session.edge("3")
    session.cancelled(key, cum)
    session.prove_empty()
    session.unfreeze()
    return session, key


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
    found = counterfactual(log(session.steps, (cut,))[1:], limits(message_rate=Rate(4, 1_000)))
    assert rulings(found) == [(denied[0], "message_rate", SENT), (denied[1], "message_rate", SENT)]


def test_the_first_failure_is_the_one_that_is_told() -> None:
    session = Taped()
    session.restart()
    told: list[int] = []

    def refuse(config: Config) -> Config:
        told.append(len(told))
        raise ValueError(f"{config.session}, call {len(told)}")

    with pytest.raises(ValueError, match="call 1"):
        counterfactual(log(session.steps), refuse)
    assert told == [0]


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
