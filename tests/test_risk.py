"""Each check of the gate denies with its own code what it must, and lets the neighbouring value pass.

Method: one table with, per check, a session and an order in which it fails, and the next one in which it does not, at the exact
boundary where there is one. The order of the rows: an order that fails whatever can fail at once names all of it, in the order of the
table, and each fault of form that is cured lets the next one show. The paragraphs of the regulation are named where they are tested.
"""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from haltcore.effects import (
    Bps,
    BreakerMode,
    CheckStore,
    Denied,
    Metric,
    Mode,
    OrdType,
    Place,
    Price,
    Purpose,
    ReadFreeze,
    Replace,
    Side,
    Usd,
    bps,
    price,
    qty,
    usd,
)
from haltcore.effects.ids import MAX_KEY
from haltcore.fsm.breaker import Breaker
from haltcore.fsm.breaker_copy import Copy
from haltcore.fsm.checks import fingerprint
from haltcore.fsm.commands import explain
from haltcore.fsm.config import BreakerPolicy, StoreCheck, StorePolicy
from haltcore.fsm.core import EMPTY, VENUE, PlaceBreaker, Vouching
from haltcore.fsm.events import (
    LatchAnswer,
    LatchKind,
    OutcomeKind,
    ReplaceOrder,
    Stopping,
    StoreChecked,
    StoreHealth,
    SubmitOrder,
    VenueLink,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.risk import CHECKS
from immutables import Map

from tests.gate_world import (
    MARKET,
    at_mark,
    defined,
    denial,
    desk_of,
    holding,
    put_control,
    put_desk,
    put_limits,
    put_override,
    reducing,
    traded,
)
from tests.helpers import BTC, BUY, ETH, SELL, Session, with_limits

LEAST = "0.000000000001"
ALL = {"strategy": "mm", "trader": "t", "client": "c"}
STOP_LIMIT, STOP_MARKET = OrdType.STOP_LIMIT, OrdType.STOP_MARKET


def plain(**fields: Any) -> Session:
    return Session(**fields)


def limited(**figures: Any) -> Session:
    """Both marks at 100, and these figures of the account."""
    return at_mark(limits=Limits(**figures))


def stopping() -> Session:
    s = Session()
    s.feed(Stopping(s.now, False, "tester"))
    return s


def sweeping() -> Session:
    s = Session()
    s.freeze()
    return s


def frozen() -> Session:
    s = sweeping()
    s.prove_empty()
    return s


def unlinked() -> Session:
    s = Session()
    s.feed(VenueLink(s.now, False, "lost"))
    return s


def intended() -> Session:
    """An order for this signal was filled long ago."""
    s = Session()
    s.fill(s.working(once="a signal"), 10)
    s.wait(600_000)
    return s


def storeless() -> Session:
    s = Session(store=StorePolicy(configured=True))
    s.fire(purpose=Purpose.LATCH)
    s.latch(s.effects[0], kind=LatchKind.UNAVAILABLE)
    return s


def checked(*faults: str) -> Session:
    """A store that was looked at, and what was wrong with it."""
    s = Session(store=StorePolicy(configured=True, guard=False, check=StoreCheck.STRICT))
    s.latch(s.all(ReadFreeze)[-1])
    s.feed(StoreChecked(s.now, s.all(CheckStore)[-1].id, StoreHealth.OK, faults, ()))
    return s


def broken_off(ms: int) -> Session:
    """The venue did not take an order this long ago, and its breaker opens for six seconds at the first."""
    s = Session(breaker=BreakerPolicy(1, 1_000, 6_000, 1))
    s.submit()
    s.outcome(s.one(Place), OutcomeKind.UNAVAILABLE)
    s.wait(ms)
    return s


def doubtful() -> Session:
    s = Session()
    s.unknown(BUY)
    return s


def numbered(record: int) -> Session:
    """A session whose next record has this number."""
    s = Session()
    s.core = attrs.evolve(s.core, seq=record - 1)
    return s


def throttled(amount: int = 0) -> Session:
    return put_desk(holding(amount), throttled=Map({0: 1}))


def silent(ms: int) -> Session:
    """No market data for this long, with a limit of a second."""
    s = limited(feed_lost_ms=1_000)
    s.wait(ms)
    return s


def repeated(ms: int) -> Session:
    """The order that all cases send was sent this long ago, with a window of 500 ms."""
    s = plain(limits=Limits(duplicate_window_ms=500))
    s.submit()
    s.wait(ms)
    return s


def forgetful(ms: int) -> Session:
    """It was noticed this long ago that the store has lost what it knew. The latch is read every second."""
    s = plain(store=StorePolicy(configured=True, check=StoreCheck.OFF))
    for epoch in (1, 2):
        s.fire(purpose=Purpose.LATCH)
        s.feed(LatchAnswer(s.now, s.one(ReadFreeze).id, LatchKind.OK, (), epoch))
    s.wait(ms)
    return s


def quoting(side: Side, at: int = 100) -> Session:
    """An order of ours rests, and must not be met."""
    s = limited(prevent_self_match=True)
    s.working(side, 1, at)
    return s


def spoken(messages: int) -> Session:
    """So many messages of the two that a second allows."""
    s = plain(limits=Limits(message_rate=Rate(2, 1_000)))
    for _ in range(messages):
        s.submit()
    return s


Case = tuple[str, Callable[[], Session], dict[str, Any], Callable[[], Session], dict[str, Any]]
#: The code; a session and an order that it denies; a session and an order next to that, which pass.
CASES: list[Case] = [
    ("invalid_type", plain, {"side": "buy"}, plain, {}),
    ("invalid_type", plain, {"stop_price": 1.5}, plain, {}),
    ("unknown_symbol", plain, {"symbol": "XRPUSDT"}, plain, {"symbol": ETH}),
    ("unknown_strategy", lambda: plain(strategies=("mm",)), {"strategy": "nn"}, lambda: plain(strategies=("mm",)), {"strategy": "mm"}),
    ("unknown_strategy", lambda: plain(strategies=("mm",)), {}, plain, {"strategy": "any, where none is configured"}),
    ("missing_attribution", lambda: plain(attribution=True), {**ALL, "strategy": ""}, lambda: plain(attribution=True), ALL),
    ("missing_attribution", lambda: plain(attribution=True), {**ALL, "trader": ""}, plain, {}),
    ("missing_attribution", lambda: plain(attribution=True), {**ALL, "client": ""}, plain, {}),
    ("invalid_quantity", plain, {"amount": 0}, plain, {"amount": LEAST}),
    ("invalid_quantity", plain, {"amount": -1}, plain, {}),
    ("invalid_price", plain, {"at": None}, plain, {"at": LEAST}),
    ("invalid_price", plain, {"at": 0}, plain, {}),
    ("invalid_price", at_mark, {"type": MARKET}, at_mark, {"type": MARKET, "at": None}),
    ("invalid_stop_price", plain, {"type": STOP_LIMIT}, plain, {"type": STOP_LIMIT, "stop_price": Price(1)}),
    ("invalid_stop_price", plain, {"type": STOP_LIMIT, "stop_price": Price(0)}, plain, {}),
    ("invalid_stop_price", plain, {"stop_price": Price(1)}, plain, {}),
    ("session_full", lambda: numbered(MAX_KEY + 1), {}, lambda: numbered(MAX_KEY), {}),
    ("off_tick", lambda: defined(tick=price("0.5")), {"at": "100.25"}, lambda: defined(tick=price("0.5")), {"at": "100.5"}),
    (
        "off_tick", lambda: defined(tick=price("0.5")), {"type": STOP_LIMIT, "stop_price": price("99.9")},
        lambda: defined(tick=price("0.5")), {"type": STOP_LIMIT, "stop_price": price("99.5")},
    ),
    ("off_lot", lambda: defined(lot=qty("0.1")), {"amount": "1.05"}, lambda: defined(lot=qty("0.1")), {"amount": "1.1"}),
    ("min_qty", lambda: defined(min_qty=qty(1)), {"amount": "0.999999999999"}, lambda: defined(min_qty=qty(1)), {"amount": 1}),
    ("max_qty", lambda: defined(max_qty=qty(1)), {"amount": "1.000000000001"}, lambda: defined(max_qty=qty(1)), {"amount": 1}),
    ("min_notional", lambda: defined(min_notional=usd(1_000)), {"at": "99.999999999999"}, lambda: defined(min_notional=usd(1_000)), {}),
    ("already_done", intended, {"once": "a signal"}, intended, {"once": "another"}),
    ("not_ready", lambda: plain(ready=False), {}, plain, {}),
    ("stopping", stopping, {}, plain, {}),
    ("frozen", frozen, {}, plain, {}),
    ("sweeping", sweeping, {}, plain, {}),
    ("venue_down", unlinked, {}, plain, {}),
    ("store_unavailable", storeless, {}, plain, {}),
    ("store_unfit", lambda: checked("keeps nothing"), {}, checked, {}),
    ("store_forgot", lambda: forgetful(4_999), {"once": "a signal"}, lambda: forgetful(5_000), {"once": "a signal"}),
    ("store_forgot", lambda: forgetful(0), {"once": "a signal"}, lambda: forgetful(0), {}),
    ("breaker_open", lambda: broken_off(5_999), {}, lambda: broken_off(6_000), {}),
    ("reduce_only", lambda: reducing(0), {}, lambda: reducing(-10), {}),
    ("reduce_only", lambda: reducing(10), {"amount": 1}, lambda: reducing(10), {"side": SELL}),
    ("reduce_only", lambda: reducing(10), {"side": SELL, "amount": "10.000000000001"}, lambda: reducing(10), {"side": SELL}),
    ("not_reducing", plain, {"reduce_only": True}, lambda: holding(-10), {"reduce_only": True}),
    (
        "not_reducing", lambda: holding(10), {"side": SELL, "amount": "10.000000000001", "reduce_only": True},
        lambda: holding(10), {"side": SELL, "reduce_only": True},
    ),
    ("restricted", lambda: plain(restricted=(BTC,)), {}, lambda: plain(restricted=(BTC,)), {"symbol": ETH}),
    ("restricted", lambda: holding(10, restricted=(BTC,)), {}, lambda: holding(10, restricted=(BTC,)), {"side": SELL}),
    ("throttled", throttled, {}, plain, {}),
    ("throttled", lambda: throttled(10), {}, lambda: throttled(10), {"side": SELL}),
    ("feed_lost", lambda: silent(1_000), {}, lambda: silent(999), {}),
    ("unknown_order_in_slot", doubtful, {}, doubtful, {"side": SELL}),
    ("unknown_order_in_slot", doubtful, {}, doubtful, {"symbol": ETH}),
    ("duplicate_order", lambda: repeated(499), {}, lambda: repeated(500), {}),
    ("self_match", lambda: quoting(SELL), {"at": 100}, lambda: quoting(SELL), {"at": "99.999999999999"}),
    ("self_match", lambda: quoting(BUY), {"side": SELL, "at": 100}, lambda: quoting(BUY), {"side": SELL, "at": "100.000000000001"}),
    ("no_mark_price", lambda: plain(limits=with_limits(1)), {"side": SELL, "at": "0.01"}, plain, {"side": SELL, "at": "0.01"}),
    ("no_mark_price", plain, {"type": MARKET, "at": None}, at_mark, {"type": MARKET, "at": None}),
    ("no_mark_price", lambda: plain(limits=Limits(price_collar_bps=bps(1))), {}, lambda: limited(price_collar_bps=bps(1)), {}),
    (
        "price_collar", lambda: limited(price_collar_bps=bps(100)), {"at": "101.000000000001"},
        lambda: limited(price_collar_bps=bps(100)), {"at": 101},
    ),
    (
        "price_collar", lambda: limited(price_collar_bps=bps(100)), {"at": "98.999999999999"},
        lambda: limited(price_collar_bps=bps(100)), {"at": 99},
    ),
    ("max_order_qty", lambda: limited(max_order_qty=qty("9.999999999999")), {}, lambda: limited(max_order_qty=qty(10)), {}),
    ("max_order_value", lambda: limited(max_order_value=usd("999.999999999999")), {}, lambda: limited(max_order_value=usd(1_000)), {}),
    ("max_open_orders", lambda: working(2, 2), {}, lambda: working(1, 2), {}),
    ("message_rate", lambda: spoken(2), {}, lambda: spoken(1), {}),
    ("max_inventory_usd", lambda: plain(limits=with_limits("999.999999999999")), {}, lambda: plain(limits=with_limits(1000)), {}),
    (
        "max_total_notional", lambda: plain(limits=with_limits(None, "999.999999999999")), {},
        lambda: plain(limits=with_limits(None, 1000)), {},
    ),
    (
        "daily_loss", lambda: traded(10, 90, Limits(max_daily_loss=usd("99.999999999999"))), {},
        lambda: traded(10, 90, Limits(max_daily_loss=usd(100))), {},
    ),
    (
        "daily_loss", lambda: traded(10, 90, Limits(max_daily_loss=usd(99))), {},
        lambda: traded(10, 90, Limits(max_daily_loss=usd(99))), {"side": SELL},
    ),
    (
        "drawdown", lambda: traded(10, 90, Limits(max_drawdown=usd("99.999999999999"))), {},
        lambda: traded(10, 90, Limits(max_drawdown=usd(100))), {},
    ),
    (
        "drawdown", lambda: traded(10, 90, Limits(max_drawdown=usd(99))), {},
        lambda: traded(10, 90, Limits(max_drawdown=usd(99))), {"side": SELL},
    ),
]  # fmt: skip


def working(count: int, limit: int) -> Session:
    """So many orders work, one of each symbol."""
    s = Session(limits=Limits(max_open_orders=limit))
    for symbol in (BTC, ETH)[:count]:
        s.working(symbol=symbol)
    return s


@pytest.mark.parametrize(("code", "bad", "order", "good", "neighbour"), CASES)
def test_each_check_denies_with_its_code_and_the_neighbour_passes(
    code: str, bad: Callable[[], Session], order: dict[str, Any], good: Callable[[], Session], neighbour: dict[str, Any]
) -> None:
    """RTS 6 Art. 12(3) attribution, 15(1)(a)-(d) collar, value, quantity, messages, 15(3) throttle, 15(4)-(5) market limits;
    17 CFR 240.15c3-5(c)(1) capital thresholds, erroneous orders and duplicates, (c)(2) restricted symbols."""
    s = bad()
    s.thorough = False
    before = s.core
    assert denial(s, **order) == code
    assert (s.core.orders, s.core.books, s.core.account, s.core.flow) == (before.orders, before.books, before.account, before.flow)
    s = good()
    s.thorough = False
    assert denial(s, **neighbour) == ""


def test_every_check_is_tried() -> None:
    assert list(dict.fromkeys(case[0] for case in CASES)) == [check.code for check in CHECKS]


def test_every_row_says_what_it_reads_and_demands() -> None:
    assert all(check.reads and check.demands for check in CHECKS)
    assert len({check.code for check in CHECKS}) == len(CHECKS)
    forms = [check.form for check in CHECKS]
    assert forms == sorted(forms, reverse=True), "form is judged first"


@pytest.mark.parametrize(("code", "bad", "order"), [case[:3] for case in CASES])
def test_a_denial_is_counted_by_its_code_and_says_why(code: str, bad: Callable[[], Session], order: dict[str, Any]) -> None:
    s = bad()
    s.thorough = False
    s.ask(**order)
    assert s.one(Denied).codes == ()
    assert len(s.one(Denied).reason) > 10
    assert [(m.value, m.label) for m in s.got(Metric) if m.name == "mm_orders_denied_total"] == [(1, code)]


# --- order ------------------------------------------------------------------------------------------------------------------

FORM = ["invalid_type", "unknown_symbol", "unknown_strategy", "missing_attribution", "invalid_quantity", "invalid_price",
        "invalid_stop_price", "session_full"]  # fmt: skip
REST = [check.code for check in CHECKS if not check.form]


def test_form_loses_its_faults_first_to_last() -> None:
    s = Session(strategies=("mm",), attribution=True)
    s.thorough = False
    order: dict[str, Any] = {"symbol": "XRPUSDT", "qty": 0.5, "price": None, "stop_price": Price(7), "strategy": "nn"}
    cures: list[dict[str, Any]] = [
        {"qty": qty(0)}, {"symbol": BTC}, {"strategy": "mm"}, {"trader": "t", "client": "c"}, {"qty": qty(1)}, {"price": price(1)},
        {"stop_price": None},
    ]  # fmt: skip
    seen = []
    for cure in [{}, *cures]:
        order |= cure
        s.core = attrs.evolve(s.core, seq=MAX_KEY)
        event = SubmitOrder(s.now, **{"side": BUY, **order})
        s.feed(event)
        seen.append(s.one(Denied).code)
        failing = [f.code for f in explain(attrs.evolve(s.core, seq=MAX_KEY), event) if f.reason]
        assert failing == ([seen[-1]] if seen[-1] == "invalid_type" else FORM[FORM.index(seen[-1]) :])
    assert seen == FORM == [check.code for check in CHECKS if check.form]


def ruined() -> Session:
    """A session in which one order fails every row but those of form, as far as they can fail together."""
    s = at_mark()
    s.fill(s.working(BUY, 10), 10)
    s.working(SELL, 1, 100, once="a signal")
    s.unknown(BUY, "1.05", "100.25")
    s.mark(90)
    limits = Limits(
        max_inventory_usd=Usd(10**6), max_total_notional=Usd(10**6), max_order_value=Usd(10**6), max_order_qty=qty("0.5"),
        price_collar_bps=Bps(10**6), max_open_orders=1, max_daily_loss=Usd(10**6), max_drawdown=Usd(10**6), feed_lost_ms=1,
        message_rate=Rate(1, 1_000), duplicate_window_ms=500, prevent_self_match=True,
    )  # fmt: skip
    put_limits(s, limits)
    intents = Map({fingerprint_of(s): max(s.core.orders)})
    s.core = attrs.evolve(s.core, flow=attrs.evolve(s.core.flow, messages=10**40, intents=intents))
    s.wait(499)
    terms = Instrument(tick=price("0.5"), lot=qty("0.1"), min_qty=qty(2), max_qty=qty(1), min_notional=usd(1_000))
    desk = desk_of(s)
    put_desk(
        s, opened=False, stopping=True, link=attrs.evolve(desk.link, up=False),
        store=attrs.evolve(desk.store, health=StoreHealth.UNAVAILABLE),
        config=attrs.evolve(desk.config, store=StorePolicy(configured=True, check=StoreCheck.STRICT), breaker=BreakerPolicy()),
        instruments=Map({0: terms}),
        restricted=Map({0: 1}), throttled=Map({0: 1}),
    )  # fmt: skip
    opened = Breaker(BreakerMode.OPEN, 2, s.now)
    flow = attrs.evolve(s.core.flow, breaker=PlaceBreaker(Copy(opened), 1), vouching=Vouching(1, 0, Map(), s.now + 1))
    s.core = attrs.evolve(s.core, flow=flow)
    put_control(s, 0, Mode.FROZEN)
    put_control(s, VENUE, Mode.REDUCE_ONLY)
    s.thorough = False
    return s


def fingerprint_of(s: Session) -> int:
    return fingerprint(SubmitOrder(s.now, BTC, BUY, qty("1.05"), price("100.25")))


def test_the_rest_is_judged_in_the_order_of_the_table() -> None:
    """With ``explain`` the denial names every check that failed, first to last."""
    s = ruined()
    s.ask(BUY, "1.05", "100.25", explain=True, once="a signal")
    codes = s.one(Denied).codes
    together = [code for code in REST if code not in ("sweeping", "not_reducing", "no_mark_price")]
    assert list(codes) == together
    assert s.one(Denied).code == codes[0]
    event = SubmitOrder(s.now, BTC, BUY, qty("1.05"), price("100.25"), reduce_only=True, once="a signal")
    assert [f.code for f in explain(s.core, event) if f.reason] == [
        code for code in REST if code not in ("sweeping", "no_mark_price", "min_notional")
    ]
    put_control(s, 0, Mode.FREEZING)
    assert [f.code for f in explain(s.core, event) if f.reason][4:9] == ["already_done", "not_ready", "stopping", "sweeping", "venue_down"]
    book = s.core.books[0]
    s.core = attrs.evolve(s.core, books=s.core.books.set(0, attrs.evolve(book, mark=Price(0))))
    failing = [f.code for f in explain(s.core, event) if f.reason]
    assert failing[failing.index("self_match") + 1] == "no_mark_price"


# --- explain ----------------------------------------------------------------------------------------------------------------


def test_explain_lists_every_check_and_changes_nothing() -> None:
    s = Session(limits=with_limits(500, 500))
    s.unknown(BUY, amount=1)
    s.freeze()
    before = s.core
    findings = explain(s.core, SubmitOrder(s.now, BTC, BUY, qty(10), price(100)))
    assert [f.code for f in findings] == [check.code for check in CHECKS]
    assert [f.code for f in findings if f.reason] == ["sweeping", "unknown_order_in_slot", "max_inventory_usd", "max_total_notional"]
    assert s.core is before


def test_explain_of_a_malformed_order_lists_the_form_alone() -> None:
    s = Session()
    findings = explain(s.core, SubmitOrder(s.now, "XRPUSDT", BUY, qty(0), None))
    assert [f.code for f in findings] == [check.code for check in CHECKS if check.form]
    assert [f.code for f in findings if f.reason] == ["unknown_symbol", "invalid_quantity", "invalid_price"]


@pytest.mark.parametrize("number", [0.5, -0.5, "1", None])
def test_numbers_that_are_none_are_denied_and_not_computed_with(number: Any) -> None:
    s = Session()
    s.feed(SubmitOrder(s.now, BTC, BUY, number, price(1), explain=True))
    assert (s.one(Denied).code, s.one(Denied).codes) == ("invalid_type", ("invalid_type",))


@pytest.mark.parametrize("field", ["symbol", "side", "type", "tif", "post_only", "reduce_only", "strategy", "trader", "client", "explain"])
@pytest.mark.parametrize("value", [None, [], {}, 1, 1.5, b"mm", object()])
def test_fields_of_another_type_are_denied_and_not_looked_up(field: str, value: Any) -> None:
    """With everything on that looks fields up: strategies, attribution, duplicates, windows."""
    figures = Limits(duplicate_window_ms=500, prevent_self_match=True, max_order_qty=qty(10))
    s = at_mark(strategies=("mm",), limits=figures, rules=(LimitRule(Limits(max_order_qty=qty(5)), symbol=BTC, band="high"),))
    put_override(s, Limits(max_order_qty=qty(9)), symbol=BTC, strategy="mm")
    event = attrs.evolve(SubmitOrder(s.now, BTC, BUY, qty(1), price(1), strategy="mm"), **{field: value})
    s.feed(event)
    assert s.one(Denied).code == "invalid_type"
    assert field in s.one(Denied).reason
    assert s.one(Denied).symbol == (BTC if field != "symbol" else "")
    assert explain(s.core, event)[0].code == "invalid_type"


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 10**27 + 1], ids=["endless", "below", "beyond"])
def test_numbers_that_no_log_can_hold_are_denied_as_such(number: Any) -> None:
    s = at_mark(limits=Limits(max_order_qty=qty(10), max_inventory_usd=usd(10**9)))
    for fields in ({"qty": number}, {"price": number}, {"stop_price": number}):
        s.feed(SubmitOrder(s.now, **{"symbol": BTC, "side": BUY, "qty": qty(1), "price": price(1), **fields}))
        assert s.one(Denied).code == "invalid_type"
        assert "at most 1000000000000000;" in s.one(Denied).reason
    key = s.working(BUY, 1, 1)
    s.feed(ReplaceOrder(s.now, key, number, price(1)))
    assert (s.one(Denied).code, "mark price" in s.one(Denied).reason) == ("invalid_type", False)


def test_explain_before_the_start_and_of_unknown_orders() -> None:
    s = Session()
    assert [f.code for f in explain(EMPTY, SubmitOrder(s.now, BTC, BUY, qty(1), price(1)))] == ["not_started"]
    assert explain(s.core, ReplaceOrder(s.now, 77, qty(1), price(1))) == []


def test_a_replace_explains_itself_too() -> None:
    s = Session(limits=with_limits(1_000, 1_000))
    key = s.working(BUY, 8)
    s.feed(ReplaceOrder(s.now, key, qty(11), price(100), explain=True))
    assert s.one(Denied).codes == ("max_inventory_usd", "max_total_notional")
    assert s.one(Denied).order == key
    s.feed(ReplaceOrder(s.now, key, qty(11), price(100)))
    assert s.one(Denied).codes == ()


# --- replaces pass the same rows ----------------------------------------------------------------------------------------------

#: For each row that a replace can fail: what becomes of a session with a working buy of 10 at 100, mark 100; quantity and price.
Ruin = Callable[[Session], Any]
REPLACES: list[tuple[str, Ruin, str, str]] = [
    ("invalid_quantity", lambda _: None, "0", "100"),
    ("invalid_price", lambda _: None, "10", "0"),
    ("off_tick", lambda s: put_desk(s, instruments=Map({0: Instrument(tick=price(3))})), "10", "100"),
    ("off_lot", lambda s: put_desk(s, instruments=Map({0: Instrument(lot=qty(3))})), "10", "100"),
    ("min_qty", lambda s: put_desk(s, instruments=Map({0: Instrument(min_qty=qty(6))})), "5", "100"),
    ("max_qty", lambda s: put_desk(s, instruments=Map({0: Instrument(max_qty=qty(6))})), "7", "100"),
    ("min_notional", lambda s: put_desk(s, instruments=Map({0: Instrument(min_notional=usd(501))})), "5", "100"),
    ("not_ready", lambda s: put_desk(s, opened=False), "10", "100"),
    ("stopping", lambda s: put_desk(s, stopping=True), "10", "100"),
    ("frozen", lambda s: put_control(s, 1, Mode.FROZEN), "10", "100"),
    ("sweeping", lambda s: put_control(s, VENUE, Mode.FREEZING), "10", "100"),
    ("venue_down", lambda s: put_desk(s, link=attrs.evolve(desk_of(s).link, up=False)), "10", "100"),
    ("reduce_only", lambda s: put_control(s, 0, Mode.REDUCE_ONLY), "11", "100"),
    ("restricted", lambda s: put_desk(s, restricted=Map({0: 1})), "11", "100"),
    ("throttled", lambda s: put_desk(s, throttled=Map({0: 1})), "11", "100"),
    ("unknown_order_in_slot", lambda s: s.unknown(BUY, 1), "10", "100"),
    ("self_match", lambda s: put_limits(s, Limits(prevent_self_match=True)) and s.working(SELL, 1, 105), "10", "105"),
    ("price_collar", lambda s: put_limits(s, Limits(price_collar_bps=bps(500))), "10", "105.1"),
    ("max_order_qty", lambda s: put_limits(s, Limits(max_order_qty=qty(5))), "11", "100"),
    ("max_order_value", lambda s: put_limits(s, Limits(max_order_value=usd(5))), "10", "101"),
    ("message_rate", lambda s: put_limits(s, Limits(message_rate=Rate(1, 1_000))) and s.submit(SELL, 1, 200), "10", "100"),
    ("max_inventory_usd", lambda s: put_limits(s, with_limits(1_000)), "10", "101"),
    ("max_total_notional", lambda s: put_limits(s, with_limits(None, 1_000)), "10", "101"),
]


@pytest.mark.parametrize(("code", "ruin", "amount", "at"), REPLACES)
def test_a_replace_is_held_against_the_same_rows(code: str, ruin: Ruin, amount: str, at: str) -> None:
    """RTS 6 Art. 15(1)(a) and FIA: what holds for an order holds for its modification."""
    s = at_mark()
    key = s.working(BUY, 10, 100)
    ruin(s)
    s.thorough = False
    s.replace(key, amount, at)
    assert s.one(Denied).code == code
    assert s.order(key).requests.replace is None


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_order_qty=qty(5)), Limits(max_order_value=usd(5)), Limits(max_open_orders=1), Limits(price_collar_bps=bps(1)),
        Limits(duplicate_window_ms=500), with_limits(5), with_limits(None, 5),
    ],
)  # fmt: skip
def test_a_replace_is_not_denied_for_what_the_order_was_before(limits: Limits) -> None:
    s = at_mark()
    key = s.working(BUY, 10, 100)
    s.working(SELL, 1, 200)
    s.mark(150)
    put_limits(s, limits)
    s.replace(key, 6, 100)
    assert s.one(Replace).qty == qty(6)


def test_a_replace_that_moves_the_price_is_held_against_our_own_orders_again() -> None:
    s = at_mark()
    buy, second = s.working(BUY, 5, 99), s.working(BUY, 5, 99)
    s.working(SELL, 5, 98)
    put_limits(s, Limits(prevent_self_match=True))
    s.replace(buy, 4, 99)
    assert s.one(Replace), "nothing about it is new"
    s.replace(second, 6, 99)
    assert s.one(Denied).code == "self_match", "more of it is new"
    other = s.working(BUY, 5, 97)
    s.replace(other, 5, 98)
    assert s.one(Denied).code == "self_match"


def test_the_gate_does_not_place_what_it_denied_elsewhere() -> None:
    """A denial is final for its command alone: the next order is judged afresh."""
    s = Session(limits=with_limits(1_000))
    assert denial(s, BUY, 11) == "max_inventory_usd"
    assert denial(s, BUY, 10) == ""
    assert len(s.all(Place)) == 1
