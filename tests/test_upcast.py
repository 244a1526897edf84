"""Upcasters. Goal: an old line becomes a current one step by step, and a chain with a fault never gets into a program.

Method: private chains, good and bad; the chain of the package itself is checked by importing it. For the package's own steps: the shape of
every class as old formats had it, which has to come out in the shape of today; lines put together by hand, read by the real decoders
afterwards; and lines that were never right. Whole logs of old formats are replayed in ``tests/golden``.
"""

import copy
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from haltcore.effects import (
    EFFECT_CLASSES,
    Bps,
    ClearFreeze,
    Denied,
    Fence,
    Mode,
    ModeChanged,
    OrdType,
    Place,
    Replace,
    Side,
    TimeInForce,
    Trigger,
    price,
    qty,
)
from haltcore.fsm.codec import CONFIG, EFFECTS, EVENTS
from haltcore.fsm.config import Config, StoreCheck, StorePolicy, Triggers
from haltcore.fsm.events import (
    EVENT_CLASSES,
    Event,
    Freeze,
    LatchAnswer,
    LatchKind,
    LatchRow,
    ReplaceOrder,
    Restarted,
    Started,
    SubmitOrder,
)
from haltcore.fsm.limits import MAX_MS, Limits
from haltcore.fsm.record import FORMAT, NO_HASH, UPCASTERS
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.upcast import STEPS, ChainRefused, Step, Upcasters, chain_faults
from haltcore.fsm.verdict import Kind

from tests.test_chain import forged


def add(name: str, number: int) -> Step:
    return Step(number, number + 1, lambda line: {**line, name: number})


def test_a_line_passes_every_step_once_and_in_order() -> None:
    chain = Upcasters([add("b", 2), add("a", 1), add("c", 3)], 4)
    assert chain.oldest == 1
    assert list(chain.upcast({"n": 1}, 1)) == ["n", "a", "b", "c"]
    assert chain.upcast({"n": 1}, 3) == {"n": 1, "c": 3}
    assert chain.upcast({"n": 1}, 4) == {"n": 1}


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([add("a", 1), add("b", 1), add("c", 2)], "format 1 has 2 steps"),
        ([add("a", 1)], "format 2 has no step"),
        ([add("a", 0), add("c", 2)], "format 1 has no step"),
        ([Step(1, 3, dict), add("b", 2)], "from format 1 leads to 3, not to 2"),
        ([add("a", 1), Step(2, 1, dict)], "from format 2 leads to 1, not to 3"),
        ([add("a", 1), add("b", 2), add("c", 3)], "format 3 has a step but is not older"),
    ],
)
def test_a_chain_with_a_fault_is_refused(steps: list[Step], fault: str) -> None:
    with pytest.raises(ChainRefused, match=fault):
        Upcasters(steps, 3)


def test_the_chain_of_the_package_ends_at_the_current_format() -> None:
    assert chain_faults(STEPS, FORMAT) == []
    assert UPCASTERS.current == FORMAT


# --- formats 1 and 2 ---------------------------------------------------------------------------------------------------------

#: The fields of every class that a line of format 1 could hold.
FORMAT_1 = {
    "SubmitOrder": "at_ns symbol side qty price type stop_price tif post_only reduce_only strategy",
    "CancelOrder": "at_ns order",
    "ReplaceOrder": "at_ns order qty price",
    "Freeze": "at_ns symbol trigger reason by",
    "Unfreeze": "at_ns symbol by why force",
    "SetReduceOnly": "at_ns symbol on by why",
    "Stopping": "at_ns freeze by",
    "EdgeUpdate": "at_ns symbol edge_bps",
    "MarkPrice": "at_ns symbol price",
    "VenueLink": "at_ns up reason",
    "OrderAccepted": "at_ns client_id venue_id",
    "OrderRejected": "at_ns client_id reason",
    "OrderFilled": "at_ns client_id venue_id trade_id last_qty last_price cum_qty fee",
    "OrderCancelled": "at_ns client_id cum_qty",
    "OrderExpired": "at_ns client_id cum_qty",
    "OrderHalted": "at_ns client_id halt",
    "OrderReplaced": "at_ns client_id venue_id qty price",
    "CancelRejected": "at_ns client_id reason",
    "ReplaceRejected": "at_ns client_id reason",
    "TradeBusted": "at_ns client_id trade_id",
    "TradeCorrected": "at_ns client_id trade_id qty price",
    "Outcome": "at_ns effect verb order kind code text retry_after_ms orders",
    "OrderQueried": "at_ns effect order result",
    "OpenOrders": "at_ns effect symbol conditional result",
    "Positions": "at_ns effect result",
    "LeaseAnswer": "at_ns effect kind fence valid_until_ns holder",
    "LatchAnswer": "at_ns effect kind rows",
    "TimerFired": "at_ns effect purpose key",
    "Started": "at_ns config",
    "Restarted": "at_ns config by",
    "Place": "id order client_id symbol side type qty price stop_price tif post_only reduce_only epoch fence",
    "Replace": "id order client_id venue_id symbol qty price epoch fence",
    "Cancel": "id symbol target conditional epoch fence",
    "CancelBatch": "id symbol targets conditional epoch fence",
    "CancelAll": "id symbol conditional epoch fence",
    "QueryOrder": "id order client_id venue_id symbol conditional",
    "FetchOpenOrders": "id symbol conditional",
    "FetchPositions": "id",
    "AcquireLease": "id ttl_ms",
    "RenewLease": "id fence ttl_ms",
    "ReleaseLease": "id fence",
    "PublishFreeze": "id symbol trigger reason by",
    "ReadFreeze": "id",
    "ClearFreeze": "id symbol latch_epoch by why",
    "SetTimer": "id due_ns purpose key",
    "Metric": "id name value label",
    "Alert": "id severity code text order symbol",
    "Denied": "id code reason symbol order",
    "Rejected": "id code reason",
    "ModeChanged": "id symbol mode epoch trigger reason by",
    "SweepReport": "id status method cancelled failed remaining unknown rounds duration_ns",
}
#: And of format 2: those that were other than in format 1, and those that were new.
FORMAT_2 = FORMAT_1 | {
    "SubmitOrder": FORMAT_1["SubmitOrder"] + " trader client explain",
    "ReplaceOrder": FORMAT_1["ReplaceOrder"] + " explain",
    "Freeze": "at_ns scope trigger reason by metadata",
    "Unfreeze": "at_ns scope by why force",
    "SetReduceOnly": "at_ns scope on by why",
    "Place": "id order client_id symbol side type qty price stop_price tif post_only reduce_only strategy trader client epoch fence",
    "PublishFreeze": "id scope trigger reason by",
    "ClearFreeze": "id scope latch_epoch by why",
    "Denied": "id code reason symbol order codes",
    "ModeChanged": "id scope mode epoch trigger reason by",
    "ChangeLimits": "at_ns rule by why",
    "OverrideLimits": "at_ns symbol strategy limits for_ms by why",
    "VerifyOverride": "at_ns override by",
    "EndOverride": "at_ns override by why",
    "Restrict": "at_ns symbol on by why",
    "Reenable": "at_ns strategy by why",
    "OperatorRefused": "at_ns command by reason",
    "InstrumentDefined": "at_ns symbol instrument",
    "VolatilityBand": "at_ns symbol band",
    "Heartbeat": "at_ns symbol",
    "ClockReading": "at_ns offset_ns",
    "BreakerChanged": "at_ns job open reason",
}
SHAPES = {1: FORMAT_1, 2: FORMAT_2}
CONFIG_1: dict[str, Any] = {
    "session": "mm1abcd", "symbols": ["A"],
    "limits": {"max_inventory_usd": "1000", "max_total_notional": None, "edge_freeze_threshold_bps": "200"},
    "venue": {"cancel_all": True, "conditional": True, "batch": 10, "place_expiry_ms": 5000},
    "sweep": {
        "lease_wait_ms": 250, "deadline_ms": 10000, "base_ms": 200, "cap_ms": 5000, "attempts": 7, "empty_snapshots": 2,
        "foreign": "cancel",
    },
    "store": {"configured": False, "lease_ttl_ms": 30000, "lease_renew_ms": 10000, "latch_poll_ms": 1000},
    "seed": 7, "evidence_ms": 1000, "venue_lost_ms": 5000,
}  # fmt: skip

CONFIG_2: dict[str, Any] = {
    **CONFIG_1,
    "limits": {
        **CONFIG_1["limits"], "max_order_value": None, "max_order_qty": None, "price_collar_bps": None, "max_open_orders": None,
        "max_daily_loss": None, "max_drawdown": None, "feed_lost_ms": None, "message_rate": None, "execution_rate": None,
        "duplicate_window_ms": None, "prevent_self_match": False,
    },
    "rules": [], "strategies": [], "restricted": [],
    "triggers": {"reject_storm": None, "clock_jump_ms": None, "breaker_open": False, "cool_downs": []},
    "two_persons": False, "attribution": False, "day_roll_minute": 0,
}  # fmt: skip
CONFIGS = {1: CONFIG_1, 2: CONFIG_2}


def current(line: dict[str, Any], written: int = 1) -> dict[str, Any]:
    """The line as it is read today; the one given stays as it was."""
    before = copy.deepcopy(line)
    changed = UPCASTERS.upcast(line, written)
    assert line == before
    return changed


@pytest.mark.parametrize(("written", "name"), [(written, name) for written, shapes in SHAPES.items() for name in shapes])
def test_every_class_comes_out_in_the_shape_of_today(written: int, name: str) -> None:
    """Also for changes that are still to come: a class that changes without a step for it fails here."""
    kind = next(kind for kind in (*EVENT_CLASSES, *EFFECT_CLASSES) if kind.__name__ == name)
    old = {"class": name, **dict.fromkeys(SHAPES[written][name].split())}
    found = current({"n": 1, "event": old, "effects": [old], "digest": "d", "prev": "p", "hash": "h"}, written)
    assert list(found) == ["n", "event", "effects", "digest", "prev", "hash"]
    for what in (found["event"], *found["effects"]):
        assert list(what) == ["class", *attrs.fields_dict(kind)]  # type: ignore[arg-type]


def test_the_table_holds_every_class_of_the_golden_logs() -> None:
    """As a check of the table itself: what a log of that format really looks like."""
    for written, shapes in SHAPES.items():
        for path in sorted((Path(__file__).parent / "golden" / f"v{written}").glob("*.jsonl")):
            for line in map(msgspec.json.decode, path.read_bytes().splitlines()[1:-1]):
                for found in (line["event"], *line["effects"]):
                    assert list(found) == ["class", *shapes[found["class"]].split()], path


@pytest.mark.parametrize("written", CONFIGS)
def test_a_configuration(written: int) -> None:
    """What old formats could not say was not so: no claim, no check, no cap that could be reached."""
    store = StorePolicy(guard=False, check=StoreCheck.OFF, lease_cap_ms=MAX_MS)
    config = Config("mm1abcd", ("A",), Limits(qty(1000), None, Bps(qty(200))), store=store, seed=7)  # type: ignore[arg-type]
    text, old = CONFIG.encode(config), CONFIGS[written]
    line = {"haltcore": "0.1.0", "format": written, "rules": 1, "config": old, "segment": 1, "first": 1, "snapshot": None}
    header = current(line, written)
    assert msgspec.json.encode(header["config"]) == text, "to the byte, since the header is compared with the first event"
    assert (header["format"], header["rules"]) == (FORMAT, 1)
    assert list(header) == ["haltcore", "format", "rules", "config", "segment", "first", "snapshot"]
    for event in (Started(5, config), Restarted(6, config, "ops")):
        then = msgspec.json.decode(EVENTS.encode(event))
        assert event_of({**then, "config": old}, written) == event
    assert config.triggers == Triggers()
    empty = current({"haltcore": "0.1.0", "format": written, "config": None}, written)
    assert empty["config"] is None, "a segment behind one without any record"


def event_of(old: dict[str, Any], written: int = 1) -> Event:
    """The event that stood in a record of an old format."""
    text = msgspec.json.encode(current({"n": 1, "event": old, "effects": []}, written)["event"])
    event = EVENTS.decode(text)
    assert EVENTS.encode(event) == text, "spelled as it would be today"
    return event


def test_events() -> None:
    submit = {
        "class": "SubmitOrder", "at_ns": 7, "symbol": "A", "side": "buy", "qty": "2", "price": "10", "type": "limit", "stop_price": None,
        "tif": "gtc", "post_only": False, "reduce_only": True, "strategy": "mm",
    }  # fmt: skip
    assert event_of(submit) == SubmitOrder(7, "A", Side.BUY, qty(2), price(10), reduce_only=True, strategy="mm")
    assert event_of({"class": "ReplaceOrder", "at_ns": 7, "order": 4, "qty": "2", "price": None}) == ReplaceOrder(7, 4, qty(2), None)
    frozen = {"class": "Freeze", "at_ns": 7, "symbol": "A", "trigger": "manual", "reason": "é", "by": "ops"}
    assert event_of(frozen) == Freeze(7, "A", Trigger.MANUAL, "é", "ops", ())
    row = {"symbol": "", "epoch": 3, "trigger": "manual", "reason": "r", "by": "peer"}
    answer = {"class": "LatchAnswer", "at_ns": 7, "effect": [4, 0], "kind": "ok", "rows": [row]}
    assert event_of(answer) == LatchAnswer(7, (4, 0), LatchKind.OK, (LatchRow("", 3, Trigger.MANUAL, "r", "peer"),))
    row_2 = {"scope": "", "epoch": 3, "trigger": "manual", "reason": "r", "by": "peer", "joint": True}
    joint = LatchRow("", 3, Trigger.MANUAL, "r", "peer", joint=True, mine=None)
    assert event_of({**answer, "rows": [row_2]}, 2) == LatchAnswer(7, (4, 0), LatchKind.OK, (joint,), 0)


def test_effects() -> None:
    """A place is sent for the strategy of its submit, which stands in the same record."""
    submit = {"class": "SubmitOrder", "strategy": "mm"}
    place = {
        "class": "Place", "id": [4, 0], "order": 4, "client_id": "mm1abcd4", "symbol": "A", "side": "buy", "type": "limit", "qty": "2",
        "price": "10", "stop_price": None, "tif": "gtc", "post_only": False, "reduce_only": False, "epoch": 3,
        "fence": {"epoch": 1, "counter": 2},
    }  # fmt: skip
    denied = {"class": "Denied", "id": [4, 1], "code": "frozen", "reason": "r", "symbol": "A", "order": 0}
    changed = {
        "class": "ModeChanged", "id": [4, 2], "symbol": "A", "mode": "frozen", "epoch": 3, "trigger": "manual", "reason": "r", "by": "ops",
    }  # fmt: skip
    found = current({"n": 4, "event": submit, "effects": [place, denied, changed]})["effects"]
    text = msgspec.json.encode(found)
    effects = (
        Place(
            (4, 0), 4, "mm1abcd4", "A", Side.BUY, OrdType.LIMIT, qty(2), price(10), None, TimeInForce.GTC, False, False, "mm", "", "", 3,
            Fence(1, 2), 0,
        ),
        Denied((4, 1), "frozen", "r", "A", 0, ()),
        ModeChanged((4, 2), "A", Mode.FROZEN, 3, Trigger.MANUAL, "r", "ops"),
    )  # fmt: skip
    assert EFFECTS.decode(text) == effects
    assert EFFECTS.encode(effects) == text


@pytest.mark.parametrize(("kind", "force"), [("Unfreeze", True), ("Unfreeze", False), ("TimerFired", None)])
def test_a_latch_was_cleared_by_force_where_the_unfreeze_said_so(kind: str, force: bool | None) -> None:
    clear = {"class": "ClearFreeze", "id": [4, 0], "scope": "A", "latch_epoch": 3, "by": "ops", "why": "well"}
    event = {"class": kind, **({"force": force} if force is not None else {})}
    found = current({"n": 4, "event": event, "effects": [clear]}, 2)["effects"]
    assert EFFECTS.decode(msgspec.json.encode(found)) == (ClearFreeze((4, 0), "A", 3, "ops", "well", force is True),)


def test_a_replace_of_format_2() -> None:
    old = {
        "class": "Replace", "id": [4, 0], "order": 3, "client_id": "mm1abcd3", "venue_id": "v", "symbol": "A", "qty": "2", "price": None,
        "epoch": 3, "fence": {"epoch": 1, "counter": 2},
    }  # fmt: skip
    text = msgspec.json.encode(current({"n": 4, "event": {"class": "ReplaceOrder"}, "effects": [old]}, 2)["effects"])
    assert EFFECTS.decode(text) == (Replace((4, 0), 3, "mm1abcd3", "v", "A", qty(2), None, 3, Fence(1, 2), 0),)


@pytest.mark.parametrize("written", SHAPES)
@pytest.mark.parametrize(
    "body",
    [
        b'{"n":1,"event":7,"effects":[]', b'{"n":1,"event":null,"effects":[]', b'{"n":1,"event":[],"effects":{}', b'{"n":1,"effects":[]',
        b'{"n":1,"event":{"class":7},"effects":7', b'{"n":1,"event":{"class":"Started","config":7},"effects":[7,null,[]]',
        b'{"n":1,"event":{"class":"LatchAnswer","rows":7},"effects":[{"class":"Place"}]', b'{"n":1', b'{"n":"1","event":{},"effects":[]',
        b'{"n":1,"event":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b',"effects":[]', b'{"seal":7', b'{"seal":null,"event":1',
    ],
)  # fmt: skip
def test_a_line_that_was_never_right_is_broken_and_no_traceback(body: bytes, written: int) -> None:
    form = b'{"haltcore":"0.1.0","format":%d,"rules":1,"config":{"store":7},"segment":1,"first":1,"snapshot":null,"digest":""'
    header = forged(form % written, NO_HASH)
    verdict = replay([Source("old.jsonl", [header + forged(body, msgspec.json.decode(header)["hash"])])])
    assert verdict.kind is Kind.BROKEN
    assert "old.jsonl, line 2" in verdict.problem
