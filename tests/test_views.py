"""Records as text. Goal: every event and effect reads as one safe line with exact numbers, whatever texts the log holds.

Method: one value of every class, made from its type hints, so that a class without a fitting template shows; lines of known records
compared word for word; texts full of control characters.
"""

from typing import Any

import attrs
import pytest
from haltcore.adapters import views
from haltcore.effects import (
    EFFECT_CLASSES,
    NO_FENCE,
    ClearFreeze,
    Denied,
    OrdType,
    Place,
    PublishFreeze,
    Side,
    TimeInForce,
    Trigger,
    bps,
    client_order_id,
    price,
    qty,
    usd,
)
from haltcore.fsm.events import (
    EVENT_CLASSES,
    BreakerChanged,
    CancelOrder,
    ChangeLimits,
    ClockReading,
    EdgeUpdate,
    EndOverride,
    Event,
    FetchedOrders,
    FetchFailed,
    Found,
    Freeze,
    Heartbeat,
    InstrumentDefined,
    LatchAnswer,
    LatchKind,
    LatchRow,
    NotFound,
    OpenOrders,
    OperatorRefused,
    OrderFilled,
    OrderQueried,
    Outcome,
    OutcomeKind,
    OverrideLimits,
    Reenable,
    Restrict,
    SetReduceOnly,
    Started,
    Stopping,
    SubmitOrder,
    Unfreeze,
    VenueLink,
    Verb,
    VerifyOverride,
    VolatilityBand,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.replay import Entry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import BTC, SESSION, T0, Session, config, foreign_row, row
from tests.test_codec import values

HOSTILE = "\x1b[2J\r\nowned\x07\x9b31m\u202e\x00"


def named() -> views.Names:
    """Names that know the session."""
    names = views.Names()
    names.learn(Started(T0, config()), ())
    return names


def test_known_records_word_for_word() -> None:
    id_7 = client_order_id(SESSION, 7)
    limit = SubmitOrder(T0, BTC, Side.BUY, qty("0.007"), price("60000.5"), post_only=True)
    stop = SubmitOrder(T0, BTC, Side.SELL, qty(1), None, OrdType.STOP_MARKET, price(90))
    expected = {
        limit: f"SubmitOrder buy 0.007 {BTC} at 60000.5 (limit, post_only)",
        stop: f"SubmitOrder sell 1 {BTC} stop 90 (stop_market)",
        CancelOrder(T0, 7): f"CancelOrder {id_7}",
        EdgeUpdate(T0, BTC, bps("-3.25")): f"EdgeUpdate {BTC} -3.25 bps",
        Freeze(T0, "", Trigger.MANUAL, "ill", "ops"): "Freeze account (manual by ops: ill)",
        Outcome(T0, (7, 0), Verb.PLACE, 7, OutcomeKind.IN_DOUBT, "timeout", "no reply"):
            f"Outcome place of {id_7} in_doubt (timeout: no reply)",
        Outcome(T0, (9, 2), Verb.CANCEL_ALL, 0, OutcomeKind.UNAVAILABLE, "429", "", 300):
            "Outcome cancel_all (effect 9:2) unavailable (429), retry after 300 ms",
        OrderQueried(T0, (9, 0), 7, NotFound()): f"OrderQueried {id_7}: the venue does not know it",
        OpenOrders(T0, (9, 0), "", True, FetchFailed(OutcomeKind.IN_DOUBT, "500", "oh", 0)):
            "OpenOrders all symbols, stop orders: no answer (in_doubt, 500: oh)",
        OpenOrders(T0, (9, 0), BTC, False, FetchedOrders(tuple(foreign_row(f"v{n}") for n in range(6)))):
            f"OpenOrders {BTC}, open orders: 6 listed (v0, v1, v2, v3 and 2 more)",
    }  # fmt: skip
    for event, line in expected.items():
        assert views.event_line(event, named()) == line


BY = ("ops", "a drill")
RULE = LimitRule(Limits(max_open_orders=9, message_rate=Rate(5, 1_000), max_order_qty=qty("0.5")), "", "mm", "", 60, 0)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            SubmitOrder(T0, BTC, Side.BUY, qty(1), price(5), strategy="mm", trader="kim"),
            f"SubmitOrder buy 1 {BTC} at 5 (limit) for strategy mm, trader kim",
        ),
        (Freeze(T0, "venue", Trigger.MANUAL, "ill", "ops"), "Freeze venue (manual by ops: ill)"),
        (
            Freeze(T0, "strategy:mm", Trigger.MANUAL, "ill", "ops", (("ticket", "7"), ("room", "2"))),
            "Freeze strategy mm (manual by ops: ill) [ticket 7, room 2]",
        ),
        (Unfreeze(T0, BTC, *BY, force=True), f"Unfreeze {BTC} by ops: a drill (force)"),
        (SetReduceOnly(T0, "", True, *BY), "SetReduceOnly account on by ops: a drill"),
        (
            ChangeLimits(T0, RULE, *BY),
            "ChangeLimits strategy mm, window 01:00-00:00 UTC: max_order_qty 0.5, max_open_orders 9, message_rate 5/1000 by ops: a drill",
        ),
        (ChangeLimits(T0, LimitRule(Limits(prevent_self_match=True)), "k", "x"), "ChangeLimits account: prevent_self_match on by k: x"),
        (ChangeLimits(T0, LimitRule(Limits()), "", "x"), "ChangeLimits account: no figures by nobody named: x"),
        (
            OverrideLimits(T0, "", "mm", Limits(max_order_value=usd("2500")), 60_000, *BY),
            "OverrideLimits strategy mm: max_order_value 2500 for 60000 ms by ops: a drill",
        ),
        (VerifyOverride(T0, 7, "kim"), "VerifyOverride override 7 by kim"),
        (EndOverride(T0, 7, *BY), "EndOverride override 7 by ops: a drill"),
        (Restrict(T0, BTC, False, *BY), f"Restrict {BTC} off the restricted list by ops: a drill"),
        (Reenable(T0, "", *BY), "Reenable account by ops: a drill"),
        (Reenable(T0, "mm", *BY), "Reenable strategy mm by ops: a drill"),
        (OperatorRefused(T0, "unfreeze", "", "no token"), "OperatorRefused unfreeze of nobody named: no token"),
        (Stopping(T0, True, "ops"), "Stopping freeze first, by ops"),
        (
            InstrumentDefined(T0, BTC, Instrument(tick=price("0.1"), min_notional=usd("5"))),
            f"InstrumentDefined {BTC} linear, multiplier 1, tick 0.1, min_notional 5",
        ),
        (InstrumentDefined(T0, BTC, Instrument(inverse=True)), f"InstrumentDefined {BTC} inverse, multiplier 1, no grid"),
        (VolatilityBand(T0, BTC, "high"), f"VolatilityBand {BTC} high"),
        (VolatilityBand(T0, "", ""), "VolatilityBand all symbols in none"),
        (Heartbeat(T0, ""), "Heartbeat account"),
        (ClockReading(T0, 1_500_000), "ClockReading the wall clock is 1.5 ms ahead"),
        (ClockReading(T0, -2), "ClockReading the wall clock is 0.000002 ms behind"),
        (BreakerChanged(T0, "place", True, "10 failures"), "BreakerChanged place open: 10 failures"),
        (VenueLink(T0, False, "reset"), "VenueLink down: reset"),
        (EdgeUpdate(T0, "", bps(4)), "EdgeUpdate all symbols 4 bps"),
        (LatchAnswer(T0, (4, 0), LatchKind.OK, ()), "LatchAnswer ok: nothing is frozen"),
        (
            LatchAnswer(T0, (4, 0), LatchKind.OK, (LatchRow("venue", 3, Trigger.LOSS, "r", ""),)),
            "LatchAnswer ok: venue (loss by nobody named: r)",
        ),
    ],
    ids=lambda value: type(value).__name__ if attrs.has(type(value)) else "",
)
def test_events_of_operators_market_and_health_word_for_word(event: Event, line: str) -> None:
    assert views.event_line(event, named()) == line


def test_effects_word_for_word() -> None:
    denied = Denied((9, 0), "frozen", "ill", BTC, 0, ("frozen", "max_order_qty"))
    limit, gtc = OrdType.LIMIT, TimeInForce.GTC
    place = Place((9, 1), 9, "id", BTC, Side.BUY, limit, qty(1), price(5), None, gtc, False, False, "mm", "", "fund", 1, NO_FENCE)
    effects = (denied, place, PublishFreeze((9, 2), "", Trigger.LOSS, "r", ""), ClearFreeze((9, 3), "venue", 4, *BY))
    assert views.effect_lines(effects, named()) == [
        ":0 Denied frozen: ill (and max_order_qty)",
        f":1 Place id buy 1 {BTC} at 5 (limit) for strategy mm, client fund",
        ":2 PublishFreeze account (loss by nobody named: r)",
        ":3 ClearFreeze venue of epoch 4 by ops: a drill",
    ]


def test_found_orders_tell_how_they_stand() -> None:
    session = Session()
    key = session.working(amount=5)
    found = OrderQueried(T0, (9, 0), key, Found(row(session.order(key))))
    assert views.event_line(found, named()).endswith(f"is open: buy 5 {BTC} at 100, filled 0")


def test_effects_are_numbered_and_metrics_come_last() -> None:
    session = Session()
    session.working()
    session.freeze()
    lines = views.effect_lines(session.effects, named())
    assert lines[0].startswith(":0 ModeChanged account is freezing (manual by tester: a test)")
    numbered = [line.startswith(":") for line in lines]
    assert numbered == sorted(numbered, reverse=True)
    assert lines[numbered.index(False)].startswith("   metrics: freeze_triggered_total 1 manual")
    assert not any("Metric" in line for line in lines)
    for line in lines:
        number = line.split(" ")[0]
        if number.startswith(":"):
            assert session.effects[int(number[1:])].id[1] == int(number[1:])


def test_metrics_are_wrapped() -> None:
    session = Session()
    session.working()
    session.freeze()
    metrics = [line for line in views.effect_lines(session.effects, named()) if not line.startswith(":")]
    assert all(len(line) <= views.WIDTH for line in metrics)


@pytest.mark.parametrize("text", [HOSTILE, "\ud800", "\x7f"])
def test_nothing_reaches_the_terminal_as_a_command(text: str) -> None:
    assert views.clean(text).isprintable()
    if text == HOSTILE:
        line = views.event_line(Freeze(T0, "", Trigger.MANUAL, text, text), named())
        assert line.isprintable()
        assert "\\x1b" in line


@pytest.mark.parametrize("kind", EVENT_CLASSES, ids=lambda kind: kind.__name__)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_event_has_a_line(kind: Any, data: st.DataObject) -> None:
    line = views.event_line(data.draw(values(kind)), views.Names())
    assert line.startswith(kind.__name__)
    assert line.isprintable()


@pytest.mark.parametrize("kind", EFFECT_CLASSES, ids=lambda kind: kind.__name__)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_effect_has_a_line(kind: Any, data: st.DataObject) -> None:
    lines = views.effect_lines((data.draw(values(kind)),), views.Names())
    assert lines
    assert all(line.isprintable() for line in lines)


def test_times() -> None:
    assert views.utc(1_767_225_645_002_999_999) == "2026-01-01 00:00:45.002"
    assert views.utc(0, day=False) == "00:00:00.000"
    assert views.utc(2**63 - 1).startswith("2262-")
    assert views.utc(-(2**63) * 10**6).endswith(" ns")


def test_names_without_a_session() -> None:
    names = views.Names()
    assert names(7) == "#7"
    names.learn(OrderFilled(T0, client_order_id(SESSION, 9), "v", "t", qty(1), price(1), qty(1), 0), ())  # type: ignore[arg-type]
    assert names(7) == client_order_id(SESSION, 7)
    assert names(0) == "#0"


def test_records_about_an_order() -> None:
    session = Session()
    key = session.working()
    other = session.working()
    id_, entry = session.client_id(key), Entry(50, CancelOrder(T0, key), (), "")
    assert views.concerns(entry, id_, key)
    assert not views.concerns(entry, session.client_id(other), other)
    listed = attrs.evolve(entry, event=OpenOrders(T0, (1, 0), "", False, FetchedOrders((row(session.order(key)),))))
    assert views.concerns(listed, id_, key)
    assert not views.concerns(listed, session.client_id(other), other)
