"""``step`` is total, pure and one handler per event class.

Method: Hypothesis feeds any sequence of well-typed events with arbitrary field values, mixed with answers to what the core really asked, so
that the deep states are reached too. Nothing may raise, every invariant must hold after every step, and the same events must give the same
state and effects when fed again.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import (
    AcquireLease,
    Bps,
    BreakerMode,
    Cancel,
    CancelAll,
    CancelBatch,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    OrdType,
    Place,
    Price,
    PublishFreeze,
    Purpose,
    Qty,
    QueryOrder,
    ReadFreeze,
    Rejected,
    RenewLease,
    Replace,
    SetTimer,
    SettleGuard,
    ShareBreaker,
    Side,
    TimeInForce,
    Trigger,
    Usd,
    client_order_id,
    qty,
    usd,
)
from haltcore.fsm import events as ev
from haltcore.fsm.breaker import Breaker
from haltcore.fsm.breaker_text import to_text
from haltcore.fsm.config import BreakerPolicy, Config, CoolDown, ForeignPolicy, FreezeClass, StorePolicy, SweepPolicy, Triggers, VenueTraits
from haltcore.fsm.core import EMPTY, JOB, Core
from haltcore.fsm.events import EVENT_CLASSES, EVIDENCE_CLASSES, Event, OutcomeKind
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.limits import FIGURES, LimitRule, Limits, Rate
from haltcore.fsm.outcomes import failed, outcome, owes_outcome
from haltcore.fsm.step import HANDLERS, start, step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import ACKNOWLEDGED, BTC, ETH, MS, SESSION, T0, config, with_limits

# --- arbitrary events ---------------------------------------------------------------------------------------------------

INTS = st.one_of(st.integers(-3, 30), st.integers(-(2**70), 2**70))
NUMBERS = INTS.map(lambda n: n * 10**11)
TIMES = st.one_of(*[st.integers(0, 9_000).map(lambda ms: T0 + ms * MS)] * 9, INTS)
KEYS = st.one_of(st.integers(0, 40), INTS)
CLIENT_IDS = st.one_of(st.integers(1, 40).map(lambda k: client_order_id(SESSION, k)), st.sampled_from(["", "test001", "other01x", "é"]))
SYMBOLS = st.sampled_from([BTC, BTC, ETH, "", "XRPUSDT"])
STRATEGIES = st.sampled_from(["mm", "mm", "arb", "", "x"])
SCOPES = st.one_of(SYMBOLS, st.sampled_from(["venue", "strategy:mm", "strategy:", "strategy:x"]))
TEXTS = st.sampled_from(["", " ", "x", "v1", ev.DUPLICATE_CLIENT_ID])
WORDS = st.lists(TEXTS, max_size=2).map(tuple)
TRADES = st.sampled_from(["t1", "t2", "t3", ""])
EFFECT_IDS = st.tuples(st.integers(0, 40), st.integers(0, 4))
ROWS = st.builds(
    ev.OrderRow, CLIENT_IDS, TEXTS, SYMBOLS, st.sampled_from(Side), st.sampled_from(ev.ReportStatus), NUMBERS, st.none() | NUMBERS,
    NUMBERS, st.none() | NUMBERS, st.booleans(), TEXTS,
)  # fmt: skip
FAILED = st.builds(ev.FetchFailed, st.sampled_from(OutcomeKind), TEXTS, TEXTS, INTS)
LATCH_ROWS = st.builds(ev.LatchRow, SCOPES, INTS, st.sampled_from(Trigger), TEXTS, TEXTS)
#: Figures that a limit could have, good ones and bad ones, for each by the kind of its example.
RATES = st.sampled_from([Rate(3, 1_000), Rate(1, 60_000)]) | st.builds(Rate, INTS, INTS)
WHOLE = st.integers(-1, 4) | st.sampled_from([500, 5_000]) | INTS
_KINDS = {"message_rate": RATES, "execution_rate": RATES, "prevent_self_match": st.booleans()} | dict.fromkeys(
    ("max_open_orders", "feed_lost_ms", "duplicate_window_ms"), WHOLE
)
LIMITS = st.fixed_dictionaries(
    {}, optional={figure.name: _KINDS.get(figure.name, st.sampled_from([usd("2500"), usd("20")]) | NUMBERS) for figure in FIGURES}
).map(lambda figures: Limits(**figures))
MINUTES = st.sampled_from([0, 0, 0, 60, 1_439, -1, 1_440])
RULES = st.builds(LimitRule, LIMITS, SYMBOLS, STRATEGIES, st.sampled_from(["", "", "high"]), MINUTES, MINUTES)
INSTRUMENTS = st.sampled_from([Instrument(), Instrument(tick=Price(10**11), lot=Qty(10**12)), Instrument(inverse=True)]) | st.builds(
    Instrument, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.booleans()
)
SMALL = config(sweep=SweepPolicy(attempts=2, empty_snapshots=1), venue=VenueTraits(batch=2))

JOBS = st.sampled_from([JOB, JOB, "cook"])
#: What a store could hold of a breaker.
BREAKERS = TEXTS | st.sampled_from(
    [to_text(Breaker(mode, generation, T0, T0 * (mode is BreakerMode.OPEN), T0, by=by, why=by))
     for mode, by in zip(BreakerMode, ("", "", "", "ann", "ann"), strict=True) for generation in (1, 3)]
)  # fmt: skip

#: The strategy of a field: by its name where that says enough, else by its type.
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "at_ns": TIMES, "order": KEYS, "key": KEYS, "client_id": CLIENT_IDS, "symbol": SYMBOLS, "trade_id": TRADES, "effect": EFFECT_IDS,
    "side": st.sampled_from(Side), "type": st.sampled_from(OrdType), "tif": st.sampled_from(TimeInForce), "price": st.none() | NUMBERS,
    "stop_price": st.none() | NUMBERS, "qty": NUMBERS, "last_qty": NUMBERS, "last_price": NUMBERS, "cum_qty": NUMBERS, "fee": NUMBERS,
    "edge_bps": NUMBERS, "trigger": st.sampled_from(Trigger), "halt": st.sampled_from(ev.Halt), "verb": st.sampled_from(ev.Verb),
    "purpose": st.sampled_from(Purpose), "retry_after_ms": INTS, "valid_until_ns": TIMES, "fence": st.builds(Fence, INTS, INTS),
    "rows": st.lists(LATCH_ROWS, max_size=3).map(tuple), "config": st.sampled_from([SMALL, attrs.evolve(SMALL, session="other01")]),
    "scope": SCOPES, "strategy": STRATEGIES,
    "metadata": st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple), "rule": RULES, "limits": LIMITS,
    "for_ms": WHOLE, "override": KEYS, "instrument": INSTRUMENTS, "offset_ns": INTS, "band": st.sampled_from(["", "high", "low"]),
}  # fmt: skip
BY_CLASS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    ev.Outcome: {"kind": st.sampled_from(OutcomeKind)},
    ev.LeaseAnswer: {"kind": st.sampled_from(ev.LeaseKind)},
    ev.LatchAnswer: {"kind": st.sampled_from(ev.LatchKind), "epoch": INTS},
    ev.GuardAnswer: {"kind": st.sampled_from(ev.GuardKind)},
    ev.StoreChecked: {"health": st.sampled_from(ev.StoreHealth), "faults": WORDS, "notes": WORDS},
    ev.BreakerAnswer: {"kind": st.sampled_from(ev.BreakerKind), "version": INTS, "job": JOBS, "state": BREAKERS},
    ev.OverrideBreaker: {"to": st.sampled_from(BreakerMode), "job": JOBS},
    ev.MarkPrice: {"price": NUMBERS},
    ev.TradeCorrected: {"price": NUMBERS},
    ev.OrderQueried: {"result": st.builds(ev.Found, ROWS) | st.builds(ev.NotFound) | FAILED},
    ev.OpenOrders: {"result": st.builds(ev.FetchedOrders, st.lists(ROWS, max_size=3).map(tuple)) | FAILED},
    ev.Positions: {
        "result": FAILED | st.builds(
            ev.FetchedPositions, st.lists(st.builds(ev.PositionRow, SYMBOLS, NUMBERS, st.none() | NUMBERS), max_size=3).map(tuple))
    },
}  # fmt: skip


def _strategy(cls: type, field: str) -> st.SearchStrategy[Any]:
    known = BY_CLASS.get(cls, {}).get(field, BY_NAME.get(field))
    if known is not None:
        return known
    kind = attrs.fields_dict(cls)[field].type
    return st.booleans() if kind is bool else TEXTS


def _events(cls: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(cls, **{name: _strategy(cls, name) for name in attrs.fields_dict(cls)})


ANY_EVENT = st.one_of([_events(cls) for cls in EVENT_CLASSES])
#: A draw that says how to answer something the core has asked: which of the open effects, and how.
ANSWER = st.tuples(st.integers(0, 10**6), st.sampled_from([ACKNOWLEDGED, *OutcomeKind]), st.integers(0, 4))
#: Evidence and commands about one of the orders that there are: which one, and what.
ABOUT = st.tuples(st.integers(0, 10**6), st.one_of([_events(cls) for cls in (*EVIDENCE_CLASSES, ev.CancelOrder, ev.ReplaceOrder)]))
_CONTROLS = (
    ev.Freeze, ev.Unfreeze, ev.SetReduceOnly, ev.Restarted, ev.VenueLink, ev.EdgeUpdate, ev.ChangeLimits, ev.OverrideLimits, ev.Restrict,
    ev.VerifyOverride, ev.EndOverride, ev.Reenable, ev.InstrumentDefined, ev.VolatilityBand, ev.Heartbeat, ev.ClockReading,
    ev.BreakerChanged, ev.OverrideBreaker,
)  # fmt: skip
CONTROL = st.one_of([_events(cls) for cls in _CONTROLS])
#: Placing is what leads anywhere, so orders that the gate lets through come often.
GOOD_SUBMIT = st.builds(
    ev.SubmitOrder, TIMES, st.sampled_from([BTC, ETH]), st.sampled_from(Side), st.just(Qty(10**13)), st.just(Price(10**14)),
    type=st.just(OrdType.LIMIT), strategy=st.just("mm"), explain=st.booleans(), once=st.sampled_from(["", "", "signal"]),
)  # fmt: skip
KINDS = {"any": ANY_EVENT, "submit": GOOD_SUBMIT, "about": ABOUT, "answer": ANSWER, "control": CONTROL}
STEPS = st.lists(
    st.sampled_from(["any", "submit", "submit", "about", "about", "about", *["answer"] * 6, "control"]).flatmap(lambda kind: KINDS[kind]),
    min_size=20, max_size=60,
)  # fmt: skip
#: Everything that can be configured to deny or to freeze, at figures that a few orders reach.
STRICT: dict[str, Any] = {
    "limits": Limits(
        usd("50000"), usd("90000"), Bps(200 * 10**12), usd("20000"), qty("1000"), Bps(10**16), 9, usd("500"), usd("600"), 2_000,
        Rate(8, 1_000), Rate(3, 60_000), 50, prevent_self_match=True,
    ),
    "rules": (
        LimitRule(Limits(max_inventory_usd=usd("4000"), max_drawdown=usd("300"), feed_lost_ms=900), BTC),
        LimitRule(Limits(max_daily_loss=usd("100"), max_total_notional=usd("9000"), execution_rate=Rate(2, 1_000)), strategy="mm"),
        LimitRule(Limits(max_order_qty=qty("1")), "", "mm", "high", 1_430, 120),
    ),
    "strategies": ("mm", "arb"), "two_persons": True, "day_roll_minute": 107, "breaker": BreakerPolicy(2, 60_000, 1_000, 1),
    "triggers": Triggers(Rate(2, 1_000), 900, True, (CoolDown(FreezeClass.NETWORK, 100, 400, 2), CoolDown(FreezeClass.EDGE, 1, 1, 1, 1))),
}  # fmt: skip
CONFIGS = st.builds(
    lambda store, guard, batch, conditional, cancel_all, foreign, strict: config(
        store=StorePolicy(configured=store, guard=guard), venue=VenueTraits(cancel_all=cancel_all, conditional=conditional, batch=batch),
        sweep=SweepPolicy(attempts=2, foreign=foreign), **strict,
    ),
    st.booleans(), st.booleans(), st.sampled_from([0, 2]), st.booleans(), st.booleans(), st.sampled_from(ForeignPolicy),
    st.sampled_from([{}, {"limits": with_limits(5_000, 9_000, 200)}, STRICT, STRICT]),
)  # fmt: skip


def _answer(core: Core, effect: Effect, kind: OutcomeKind, variant: int) -> Event | None:
    """A true answer to an effect: how it turned out, by ``kind`` and ``variant``."""
    at = core.now_ns + variant * 700 * MS
    if isinstance(effect, SetTimer):
        return ev.TimerFired(max(at, effect.due_ns), effect.id, effect.purpose, effect.key)
    if not owes_outcome(effect):
        return None
    if kind is not ACKNOWLEDGED:
        return failed(effect, at, kind, "code", "text", variant * 300)
    if isinstance(effect, (Place, Replace, Cancel, CancelBatch, CancelAll)):
        return outcome(effect, at, kind)
    open_rows = tuple(_row(core, key, variant) for key in sorted(core.orders)[:variant])
    if isinstance(effect, QueryOrder):
        order = core.order(effect.order)
        found = order is not None and variant > 0
        return ev.OrderQueried(at, effect.id, effect.order, ev.Found(_row(core, effect.order, variant)) if found else ev.NotFound())
    if isinstance(effect, FetchOpenOrders):
        return ev.OpenOrders(at, effect.id, effect.symbol, effect.conditional, ev.FetchedOrders(open_rows))
    if isinstance(effect, FetchPositions):
        return ev.Positions(at, effect.id, ev.FetchedPositions((ev.PositionRow(BTC, Qty(variant), Price(10**14)),)))
    if isinstance(effect, (AcquireLease, RenewLease)):
        kinds = list(ev.LeaseKind)
        return ev.LeaseAnswer(at, effect.id, kinds[variant % len(kinds)], Fence(1, variant), at + 30_000 * MS, "other")
    if isinstance(effect, (ClaimGuard, SettleGuard)):
        kinds_of = [ev.GuardKind.CLAIMED] * 4 + list(ev.GuardKind) if isinstance(effect, ClaimGuard) else [ev.GuardKind.SETTLED]
        kind_of = kinds_of[(effect.id[0] + variant) % len(kinds_of)]
        return ev.GuardAnswer(at, effect.id, effect.order, kind_of, at + 700 * MS, "other", "", "")
    if isinstance(effect, ShareBreaker):
        kind_of_it = list(ev.BreakerKind)[variant % 2]
        held = core.flow.breaker.copy.version if core.flow.breaker is not None else 0
        return ev.BreakerAnswer(at, effect.id, effect.job, kind_of_it, held + variant, effect.state)
    if isinstance(effect, CheckStore):
        return ev.StoreChecked(at, effect.id, ev.StoreHealth.OK, (), ())
    rows = (ev.LatchRow(("", "venue")[core.seq % 2], variant, Trigger.MANUAL, "peer", "peer"),) if variant == 4 else ()
    latch = isinstance(effect, (PublishFreeze, ReadFreeze, ClearFreeze))
    return ev.LatchAnswer(at, effect.id, ev.LatchKind.OK, rows) if latch else None


def _row(core: Core, key: int, variant: int) -> ev.OrderRow:
    order = core.order(key)
    assert order is not None
    status = list(ev.ReportStatus)[variant % 5]
    s = order.spec
    return ev.OrderRow(
        s.client_id, "v", s.symbol, s.side, status, order.qty, order.price, order.cum_qty, None, s.conditional and variant < 3, ""
    )


def _event(core: Core, item: Any, asked: list[Effect]) -> Event | None:
    """The event that a draw stands for in this state; None if it has no meaning now."""
    if not isinstance(item, tuple):
        return item  # type: ignore[no-any-return]
    if len(item) == 3:
        return _answer(core, asked.pop(item[0] % len(asked)), item[1], item[2]) if asked else None
    keys = sorted([*core.orders, *core.closed])
    if not keys:
        return None
    key = keys[item[0] % len(keys)]
    field = {"order": key} if hasattr(item[1], "order") else {"client_id": client_order_id(SESSION, key)}
    return attrs.evolve(item[1], **field)


def _run(conf: Config, steps: list[Any]) -> tuple[Core, list[Event], list[Effect]]:
    core, effects = start(conf, T0)
    asked, said, history = list(effects), [], list(effects)
    for item in steps:
        event = _event(core, item, asked)
        if event is None:
            continue
        before = core
        core, effects = step(before, event)
        assert broken(before, event, core, effects) == ()
        assert broken_state(core) == ()
        assert core.seq == before.seq + 1
        assert core.now_ns == max(before.now_ns, event.at_ns)
        assert [effect.id for effect in effects] == [(core.seq, index) for index in range(len(effects))]
        asked += [effect for effect in effects if owes_outcome(effect) or isinstance(effect, SetTimer)]
        said.append(event)
        history += effects
    return core, said, history


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(CONFIGS, st.booleans() | st.just(True), STEPS)
def test_no_sequence_of_events_raises_or_breaks_an_invariant_and_the_same_events_decide_the_same(
    conf: Config, ready: bool, steps: list[Any]
) -> None:
    core, said, history = _run(conf, [(0, ACKNOWLEDGED, 0)] * 4 * ready + steps)
    again, effects = start(conf, T0)
    repeated = list(effects)
    for event in said:
        again, effects = step(again, event)
        repeated += effects
    assert again == core
    assert repeated == history


@pytest.mark.parametrize("cls", EVENT_CLASSES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_before_the_start_every_event_but_the_start_is_refused(cls: type[Event], data: st.DataObject) -> None:
    event = data.draw(_events(cls))
    core, effects = step(EMPTY, event)
    if isinstance(event, ev.Started):
        assert core.desk is not None
    else:
        assert core.desk is None
        assert [type(effect) for effect in effects] == [Rejected]
        assert core.seq == 1


@pytest.mark.parametrize("cls", EVENT_CLASSES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_event_class_with_any_fields_is_taken_in_a_running_session(cls: type[Event], data: st.DataObject) -> None:
    submits = data.draw(st.lists(GOOD_SUBMIT, max_size=3))
    answers = [(0, ACKNOWLEDGED, 0)] * 3
    _run(SMALL, [*answers, *submits, data.draw(_events(cls)), data.draw(_events(cls))])


def test_there_is_one_handler_per_event_class() -> None:
    assert set(HANDLERS) == set(EVENT_CLASSES)
    assert len(set(EVENT_CLASSES)) == len(EVENT_CLASSES)


@pytest.mark.parametrize("thing", [None, "freeze", 7, {}, ev.Found, ev.NotFound(), Place])
@pytest.mark.parametrize("begun", [False, True])
def test_what_is_no_event_is_an_error_of_the_caller(thing: Any, begun: bool) -> None:
    core = start(SMALL, T0)[0] if begun else EMPTY
    with pytest.raises(TypeError, match="is no event"):
        step(core, thing)


def test_a_session_starts_once() -> None:
    core, _ = start(SMALL, T0)
    again, (refused,) = step(core, ev.Started(T0, SMALL))
    assert isinstance(refused, Rejected)
    assert refused.code == "already_started"
    assert again.desk == core.desk


def test_time_never_goes_back() -> None:
    core, _ = start(SMALL, T0)
    core, _ = step(core, ev.MarkPrice(T0 - 5, BTC, Price(1)))
    assert core.now_ns == T0


@pytest.mark.parametrize("verb", [ev.Verb.CANCEL_BATCH, ev.Verb.CANCEL_ALL])
def test_a_bulk_outcome_that_names_an_order_is_refused(verb: ev.Verb) -> None:
    core, said, _ = _run(SMALL, [(0, ACKNOWLEDGED, 0)] * 3 + [ev.SubmitOrder(T0, BTC, Side.BUY, Qty(1), Price(1))])
    assert len(core.orders) == 1, said
    (key,) = core.orders
    after, effects = step(core, ev.Outcome(T0, (1, 0), verb, key, ACKNOWLEDGED))
    assert [effect.code for effect in effects if isinstance(effect, Rejected)] == ["invalid_outcome"]
    assert after.orders == core.orders


def test_fees_are_counted_once() -> None:
    core, _, _ = _run(SMALL, [(0, ACKNOWLEDGED, 0)] * 3 + [ev.SubmitOrder(T0, BTC, Side.BUY, Qty(5), Price(1))])
    (key,) = core.orders
    fill = ev.OrderFilled(T0, client_order_id(SESSION, key), "v", "t", Qty(1), Price(1), Qty(0), Usd(3))
    for _ in range(2):
        core, _ = step(core, fill)
    assert core.books[0].fees == 3
