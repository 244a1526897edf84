"""What the tests of counterfactual replay share: sessions that are written as logs, comparisons that are checked, and random lives.

In a *life* every event may come at any time, with any answer; what it must not do is make anything raise.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import attrs
from haltcore.effects import (
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    Mode,
    PublishFreeze,
    QueryOrder,
    ReadFreeze,
    Replace,
    SetTimer,
    SettleGuard,
    TimeInForce,
    Trigger,
    bps,
    price,
    qty,
    usd,
)
from haltcore.effects.values import SCALE
from haltcore.fsm import other_run
from haltcore.fsm.comparison import Comparison
from haltcore.fsm.config import Config
from haltcore.fsm.core import Core
from haltcore.fsm.counterfactual import counterfactual
from haltcore.fsm.events import (
    ChangeLimits,
    EdgeUpdate,
    Event,
    Freeze,
    GuardAnswer,
    GuardKind,
    LatchRow,
    LeaseAnswer,
    LeaseKind,
    OrderReplaced,
    OutcomeKind,
    PositionRow,
    ReplaceOrder,
    ReportStatus,
    SetReduceOnly,
    Stopping,
    StoreChecked,
    StoreHealth,
    TimerFired,
    Unfreeze,
    VenueLink,
)
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.outcomes import failed, owes_outcome
from haltcore.fsm.replay import Source
from haltcore.fsm.step import step
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, BUY, ETH, IN_DOUBT, MS, REFUSED, SELL, Recorded, Session, StorePolicy, log, row

Change = Callable[[Config], Config]


class Taped(Recorded):
    """A recorded session that looks at no invariants of the whole state, and knows its edge."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"thorough": False, **fields})

    @property
    def last(self) -> int:
        """The number of the last record."""
        return self.core.seq

    def edge(self, at: str, symbol: str = BTC) -> tuple[Effect, ...]:
        """The edge, in basis points."""
        return self.feed(EdgeUpdate(self.now, symbol, bps(at)))


def same(config: Config) -> Config:
    """No change."""
    return config


def limits(**figures: Any) -> Change:
    """The account's figures changed; all other rules gone."""
    return lambda config: attrs.evolve(config, limits=attrs.evolve(config.limits, **figures), rules=())


def compare(sources: list[Source], change: Change) -> Comparison:
    """The comparison; every step of the other run has to keep the promises of a step."""

    def checked(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        after, effects = step(core, event)
        assert broken(core, event, after, effects) == ()
        return after, effects

    with patch.object(other_run, "step", checked):
        return counterfactual(sources, change)


def what_if(session: Taped, change: Change, cuts: Sequence[int] = ()) -> Comparison:
    """The comparison over the session's log; the replay must agree, and the other run's state be sound."""
    found = compare(log(session.steps, cuts), change)
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


def position_of(session: Session) -> int:
    """What the recorded run holds."""
    return session.position() // SCALE


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


def assert_decided_alike(found: Comparison) -> None:
    """No decision differs, though the configurations do."""
    assert (found.first, found.rulings, found.supposed) == (0, (), 0)
    assert found.other == found.recorded


class Life:
    """A session in which anything may happen at any time; only what an answer is about is true."""

    def __init__(self, seed: int, acts: int = 120) -> None:
        draw = self.draw = random.Random(f"life/{seed}")
        figures = Limits(
            max_inventory_usd=usd("5000"), max_total_notional=usd("8000"), edge_freeze_threshold_bps=bps("10"), max_open_orders=12,
            message_rate=Rate(30, 1_000), duplicate_window_ms=50, prevent_self_match=draw.random() < 0.5,
        )  # fmt: skip
        store = StorePolicy(configured=draw.random() < 0.4, guard=seed % 2 == 0)
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
            session.feed(ReplaceOrder(session.now, self._key(), qty(draw.randint(1, 40)), price(draw.randint(95, 105))))
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
        elif isinstance(effect, (ClaimGuard, SettleGuard)):
            kind = draw.choice([GuardKind.CLAIMED] * 8 + list(GuardKind)) if isinstance(effect, ClaimGuard) else GuardKind.SETTLED
            session.feed(GuardAnswer(now, effect.id, effect.order, kind, now + 2_000 * MS, "", "", ""))
        elif isinstance(effect, CheckStore):
            session.feed(StoreChecked(now, effect.id, StoreHealth.OK, (), ()))
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
