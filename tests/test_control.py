"""Goal: each word of the control does what it says, under the name of who said it; each command and each refusal is in the log, a flood
fits into a few records, and the token is nowhere.

Method: most words are put to a ``Control`` without its socket, on simulated time, with a runner on the paper venue. Then a runner
with a real socket, on a real loop, for what only that can show: permissions, two callers, garbage, a freeze through a crowd.
Afterwards each log is replayed to the same state.
"""

import asyncio
import functools
import json
import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters import operations
from haltcore.adapters.answers import CommandRejected, OrderDenied
from haltcore.adapters.control import PACE, REFUSALS, TOKEN_VARIABLE, Control
from haltcore.adapters.control_socket import MAX_CONNECTIONS, MAX_LINE
from haltcore.adapters.control_words import WORDS
from haltcore.adapters.journal import JournalFailed
from haltcore.adapters.memory_store import MemoryState, MemoryStore
from haltcore.effects import Mode, Trigger, bps, usd
from haltcore.fsm.config import ConfigRefused, CoolDown, FreezeClass, StorePolicy, Triggers
from haltcore.fsm.events import (
    ChangeLimits,
    EndOverride,
    Freeze,
    OperatorRefused,
    OverrideLimits,
    Restrict,
    SetReduceOnly,
    Unfreeze,
    VerifyOverride,
)
from haltcore.fsm.limits import Limits, Rate
from haltcore.fsm.record import FORMAT
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, ETH, config
from tests.runner_rig import LOG, HandVenue, Rig, buy, for_ever, later, simulated
from tests.test_control_socket import HERE, live, until

TOKEN = "correct horse battery staple"
PEER = "uid 1000"
OPS = {"who": "ops", "why": "because"}


async def say(desk: Control, peer: str = PEER, /, **request: Any) -> dict[str, Any]:
    """One request, and its answer."""
    return await raw(desk, json.dumps(request).encode(), peer)


async def raw(desk: Control, line: bytes, peer: str = PEER) -> dict[str, Any]:
    """One line, and its answer."""
    answer: dict[str, Any] = json.loads(await desk._answer(line, peer))
    assert {"ok", "code", "text", "record", "mode"} <= answer.keys()
    return answer


def refusals(rig: Rig) -> list[OperatorRefused]:
    """What the log holds of refusals."""
    found: list[OperatorRefused] = rig.events(OperatorRefused)
    return found


# --- the words ------------------------------------------------------------------------------------------------------


@simulated
async def test_one_word_freezes() -> None:
    async with Rig() as rig:
        await buy(rig.bot)
        answer = await say(Control(rig.bot, "s"), command="freeze")
        (event,) = rig.events(Freeze)
        assert (event.scope, event.by, event.reason) == ("", "uid 1000", "asked for by an operator")
        assert rig.seen[answer.pop("record") - 1][0] is event
        text = "frozen; the proof that nothing is open is under way"
        assert answer == {"ok": True, "code": "", "text": text, "mode": "freezing"}
        assert (await rig.bot.proof()).verified


@simulated
async def test_a_freeze_does_not_wait_unless_it_is_asked_to() -> None:
    async with Rig() as rig:
        desk = Control(rig.bot, "s")
        await buy(rig.bot)
        before = rig.clock.now_ns()
        assert (await say(desk, command="freeze", reason="x", who="ops", symbol=BTC))["mode"] == "freezing"
        assert rig.clock.now_ns() == before
        answer = await say(desk, command="freeze", reason="x", who="ops", symbol=BTC, wait=True)
        assert (answer["ok"], answer["mode"], answer["proof"]["verified"]) == (True, "frozen", True)
        assert rig.clock.now_ns() > before
        assert [event.by for event in rig.events(Freeze)] == ["ops (uid 1000)"] * 2


@simulated
async def test_a_freeze_that_is_waited_for_says_what_is_left_or_that_it_was_lifted() -> None:
    async with Rig(HandVenue(CancelAll=for_ever, Cancel=for_ever)) as rig:
        desk = Control(rig.bot, "s")
        await buy(rig.bot)
        answer = await say(desk, command="freeze", wait=True)
        assert (answer["ok"], answer["mode"], answer["proof"]["verified"], answer["proof"]["remaining"]) == (True, "freezing", False, 1)
        waiting = asyncio.ensure_future(say(desk, command="freeze", wait=True))
        await later(0.01)
        assert (await say(desk, command="unfreeze", force=True, **OPS))["ok"]
        answer = await waiting
        assert (answer["ok"], answer["code"]) == (False, "unfrozen")
        assert answer["record"], "it was frozen all the same"
        rig.venue.behave.clear()


@simulated
async def test_with_a_store_an_unfreeze_says_who_stands_behind_it_and_that_followers_are_lifted_where_they_run() -> None:
    state = MemoryState(lambda: 0)
    async with Rig(conf=config(store=StorePolicy(configured=True)), store=MemoryStore(state)) as rig:
        desk = Control(rig.bot, "s")
        assert (await say(desk, command="freeze", wait=True))["ok"]
        state.publish("mm2", "", Trigger.MANUAL, "ill", "ann")
        await later(2)
        answer = await say(desk, command="unfreeze", **OPS)
        assert (answer["ok"], answer["code"]) == (False, "peer_frozen")
        assert "ann in session mm2 (manual: ill) has frozen it" in answer["text"]
        answer = await say(desk, command="unfreeze", force=True, **OPS)
        assert (answer["ok"], answer["text"]) == (True, "lifted; other processes of the account that follow it have to be lifted too")


@simulated
async def test_a_freeze_is_never_refused_for_its_words() -> None:
    async with Rig() as rig:
        desk = Control(rig.bot, "s")
        for words in ("", "a\nb", "x" * 5_000, "\x1b[2J"):
            assert (await say(desk, command="freeze", reason=words, who=words))["ok"]
        assert all(len(event.by) < 200 for event in rig.events(Freeze))
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_scopes() -> None:
    async with Rig(conf=config(strategies=("mm",))) as rig:
        desk = Control(rig.bot, "s")
        for scope, text in (({"symbol": BTC}, BTC), ({"strategy": "mm"}, "strategy:mm"), ({"venue": True}, "venue")):
            assert (await say(desk, command="freeze", wait=True, **scope))["mode"] == "frozen"
            assert rig.bot.mode(text) is Mode.FROZEN
            assert (await say(desk, command="unfreeze", **OPS, **scope))["mode"] == "active"
        answer = await say(desk, command="freeze", symbol="NOPE")
        assert (answer["ok"], answer["code"], answer["record"]) == (False, "unknown_scope", rig.bot.core.seq)
        answer = await say(desk, command="freeze", symbol=BTC, venue=True)
        assert (answer["ok"], answer["code"]) == (False, "invalid_value")
        assert "one of symbol, strategy and venue" in refusals(rig)[-1].reason


@simulated
async def test_unfreeze_needs_who_and_why_and_a_proof() -> None:
    async with Rig(HandVenue(CancelAll=for_ever, Cancel=for_ever)) as rig:
        desk = Control(rig.bot, "s")
        await buy(rig.bot)
        await say(desk, command="freeze")
        answer = await say(desk, command="unfreeze", why="x")
        assert (answer["ok"], answer["code"], answer["record"]) == (False, "who_and_why", 0)
        assert (refusals(rig)[-1].command, refusals(rig)[-1].by) == ("unfreeze", PEER)
        answer = await say(desk, command="unfreeze", who="ops", why="  ")
        assert (answer["code"], answer["record"]) == ("who_and_why", rig.bot.core.seq)
        answer = await say(desk, command="unfreeze", **OPS)
        assert answer["code"] == "sweep_running"
        assert rig.bot.mode("") is Mode.FREEZING
        answer = await say(desk, command="unfreeze", force=True, **OPS)
        assert (answer["ok"], answer["mode"]) == (True, "active")
        assert rig.events(Unfreeze)[-1] == Unfreeze(rig.clock.now_ns(), "", "ops (uid 1000)", "because", True)
        rig.venue.behave.clear()


@simulated
async def test_the_other_words_become_their_events() -> None:
    async with Rig(conf=config(two_persons=True)) as rig:
        desk = Control(rig.bot, "s")
        answer = await say(desk, command="reduce-only", symbol=BTC, **OPS)
        assert (answer["mode"], rig.events(SetReduceOnly)[-1].by) == ("reduce_only", "ops (uid 1000)")
        assert (await say(desk, command="reduce-only", on=False, symbol=BTC, **OPS))["mode"] == "active"
        assert (await say(desk, command="restrict", symbol=BTC, **OPS))["ok"]
        assert (await say(desk, command="restrict", symbol=BTC, on=False, **OPS))["ok"]
        assert [event.on for event in rig.events(Restrict)] == [True, False]
        answer = await say(desk, command="limits-set", figures={"max_order_value": "500", "max_open_orders": 7}, **OPS)
        assert answer["limits"]["rules"][0]["figures"] == {"max_order_value": "500", "max_open_orders": "7"}
        await say(desk, command="limits-set", figures={"max_order_value": None, "message_rate": "5/1s"}, **OPS)
        assert rig.events(ChangeLimits)[-1].rule.limits == Limits(max_open_orders=7, message_rate=Rate(5, 1_000))
        answer = await say(desk, command="limits-override", figures={"max_open_orders": 70}, for_ms=60_000, symbol=BTC, **OPS)
        number = answer["record"]
        assert answer["text"] == f"override {number} waits for a second person to verify it"
        (told,) = answer["limits"]["overrides"]
        assert (told["id"], told["limits"], told["by"], told["verified_by"]) == (number, {"max_open_orders": "70"}, "ops (uid 1000)", "")
        assert rig.events(OverrideLimits)[-1].for_ms == 60_000
        assert (await say(desk, command="limits-verify", override=number, who="bob"))["ok"]
        assert rig.events(VerifyOverride)[-1].by == "bob (uid 1000)"
        assert (await say(desk, command="limits-end", override=number, **OPS))["ok"]
        assert rig.events(EndOverride)[-1].override == number
        assert (await say(desk, command="reenable", **OPS))["code"] == "not_throttled"
    assert rig.replayed().kind is Kind.SAME


@pytest.mark.parametrize("second", ["uid 0", "tcp", ""])
@simulated
async def test_one_person_is_one_person_by_whatever_way_he_comes(second: str) -> None:
    async with Rig(conf=config(two_persons=True)) as rig:
        desk = Control(rig.bot, "s")
        number = (await say(desk, command="limits-override", figures={"max_open_orders": 70}, for_ms=60_000, **OPS))["record"]
        if second:
            assert (await say(desk, second, command="limits-verify", override=number, who="Ops"))["code"] == "same_person"
        else:
            with pytest.raises(CommandRejected, match="same_person"):
                await rig.bot.verify_override(number, "ops")


@simulated
async def test_status_and_limits_are_not_recorded() -> None:
    async with Rig(conf=config(limits=Limits(max_inventory_usd=usd("5000")), restricted=(ETH,))) as rig:
        desk = Control(rig.bot, "s")
        await rig.bot.mark(BTC, 100)
        await rig.bot.submit(BTC, "buy", 40, 100)
        seq = rig.bot.core.seq
        answer = await say(desk, command="status")
        assert (answer["status"]["open_orders"], answer["status"]["scopes"], answer["status"]["ready"]) == (1, [], True)
        assert answer["versions"]["format"] == FORMAT
        used = {row["subject"]: row for row in answer["utilization"]}
        assert used[BTC] == {
            "subject": BTC, "figure": "max_inventory_usd", "source": "account", "value": "4000", "bound": "5000", "percent": "80",
        }  # fmt: skip
        answer = await say(desk, command="limits")
        assert answer["limits"]["rules"] == [
            {"applies": "account", "symbol": "", "strategy": "", "band": "", "from_minute": 0, "to_minute": 0,
             "figures": {"max_inventory_usd": "5000"}}
        ]  # fmt: skip
        assert answer["limits"]["restricted"] == [ETH]
        assert rig.bot.core.seq == seq


# --- refusals -------------------------------------------------------------------------------------------------------

GARBAGE = [
    b"\n", b"freeze\n", b"{}\n", b"[]\n", b"null\n", b'{"command": 5}\n', b'{"command": "freeze"\n', b'{"command": "freeze"} x\n',
    b"\xff\xfe\n",
    b'{"command": "\\ud800"}\n', b"[" * 60_000, b'{"command": "freeze", "x": ' + b"[" * 60_000, b"\x00" * 100, b'{"command": null}\n',
    b"GET / HTTP/1.1\r\n",
]  # fmt: skip


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: repr(line[:20]))
@simulated
async def test_garbage_is_refused_and_recorded_but_not_repeated(line: bytes) -> None:
    async with Rig(HandVenue()) as rig:
        answer = await raw(Control(rig.bot, "s"), line)
        assert (answer["ok"], answer["code"], answer["record"]) == (False, "malformed", 0)
        (refusal,) = refusals(rig)
        assert (refusal.command, refusal.by) == ("unknown", PEER)
        assert len(refusal.reason) < 200
        assert rig.bot.status().modes == {}
    assert rig.replayed().kind is Kind.SAME


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"command": "fly"}, "'fly' is no command; there are freeze, unfreeze, "),
        ({"command": "Freeze"}, "is no command"), ({"command": "x" * 5_000}, "is no command"),
        ({"command": "freeze", "symbl": BTC}, "symbl"), ({"command": "freeze", "symbol": 5}, "$.symbol"),
        ({"command": "freeze", "wait": "yes"}, "$.wait"), ({"command": "status", "who": "x"}, "the command takes nothing else"),
        ({"command": "unfreeze", "who": "o", "why": "w", "force": 1}, "$.force"),
        ({"command": "restrict", **OPS}, "symbol"), ({"command": "limits-set", **OPS}, "figures"),
        ({"command": "limits-set", "figures": {"max_ordr": "5"}, **OPS}, "is no figure; there are"),
        ({"command": "limits-set", "figures": {"max_order_value": 1.5}, **OPS}, "$.figures"),
        ({"command": "limits-set", "figures": {"max_order_value": "1e99"}, **OPS}, "max_order_value"),
        ({"command": "limits-set", "figures": {}, **OPS}, "give figures by name"),
        ({"command": "limits-override", "figures": {"max_open_orders": 5}, "for_ms": 10**30, **OPS}, "for_ms"),
        ({"command": "limits-end", "override": "7", **OPS}, "$.override"),
        ({"command": "unfreeze", "who": "o", "why": "w" * 2_000}, "at most 1000"),
    ],
)  # fmt: skip
@simulated
async def test_a_wrong_request_is_refused_and_says_what_is_right(request_: dict[str, Any], told: str) -> None:
    async with Rig(HandVenue()) as rig:
        answer = await say(Control(rig.bot, "s"), **request_)
        assert (answer["ok"], answer["record"]) == (False, 0)
        assert told in answer["text"]
        (refusal,) = refusals(rig)
        assert refusal.reason == f"{answer['code']}: {answer['text']}"[:1_000]
        assert refusal.command == (request_["command"] if request_["command"] in WORDS else "unknown")
        assert PEER in refusal.by
        assert rig.bot.status().modes == {}


@simulated
async def test_a_bug_in_a_word_is_answered_and_harms_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "s")
        monkeypatch.setattr(rig.bot, "status", lambda: 1 // 0)
        assert (await say(desk, command="status"))["code"] == "internal_error"
        assert "the control command status failed" in caplog.text
        assert (await say(desk, command="freeze"))["ok"]


@simulated
async def test_while_the_runner_does_not_run_it_says_so() -> None:
    rig = Rig()
    desk = Control(rig.bot, "s")
    assert (await say(desk, command="freeze"))["code"] == "not_started"
    assert (await say(desk, command="status"))["status"]["running"] is False
    assert (await say(desk, command="fly"))["code"] == "unknown_word"
    async with rig:
        pass
    assert (await say(desk, command="freeze"))["code"] == "stopped"


@simulated
async def test_a_flood_of_refusals_is_a_few_records_and_a_sum() -> None:
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "s")
        for n in range(5_000):
            await (raw(desk, b"x") if n % 5 else say(desk, command="fly"))
        assert len(refusals(rig)) == REFUSALS
        await later(61)
        assert len(refusals(rig)) == REFUSALS + 1
        total = refusals(rig)[-1]
        assert (total.command, total.by) == ("several", "haltcore")
        assert total.reason == f"too many to tell one by one: {4_000 - 8} malformed, {1_000 - 2} unknown_word more within 60 s"
        await later(600)
        assert len(refusals(rig)) == REFUSALS + 1, "nothing more to say"
        await raw(desk, b"x")
        assert refusals(rig)[-1].reason.startswith("malformed"), "and the next one is told by itself"


@simulated
async def test_what_was_refused_last_is_recorded_at_the_end() -> None:
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "s")
        for _ in range(REFUSALS + 5):
            await raw(desk, b"x")
        desk.close()
        assert refusals(rig)[-1].reason.startswith("too many to tell one by one: 5 malformed")
        count = len(rig.seen)
        await later(100)
        assert len(rig.seen) == count


@simulated
async def test_too_many_requests_are_put_off_but_never_a_freeze() -> None:
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "s")
        answers = [await say(desk, command="status") for _ in range(PACE.count + 5)]
        assert [answer["ok"] for answer in answers] == [True] * PACE.count + [False] * 5
        assert answers[-1]["code"] == "too_many"
        seq = rig.bot.core.seq
        first = await say(desk, command="freeze", symbol=BTC)
        assert (await say(desk, command="freeze", symbol=BTC)) == first, "what holds already is answered, and counted"
        assert (await say(desk, command="freeze"))["ok"]
        assert rig.bot.core.seq >= seq + 3
        assert (await say(desk, command="freeze", symbol="NOPE"))["code"] == "unknown_scope"
        events, told = len(rig.events(Freeze)), len(refusals(rig))
        for _ in range(1_000):
            again = await say(desk, command="freeze", wait=True, symbol=BTC)
            assert (again["record"], again["mode"], again["proof"]["verified"]) == (first["record"], "frozen", True)
        assert (len(rig.events(Freeze)), len(refusals(rig))) == (events, REFUSALS)
        assert told < REFUSALS
        assert any(refusal.reason.startswith("frozen_already: ") for refusal in refusals(rig))
        await later(1)
        assert (await say(desk, command="status"))["ok"]


@simulated
async def test_a_persons_freeze_in_a_crowd_keeps_a_freeze_that_would_pass() -> None:
    """The scope is frozen already, and yet the word changes something: from now on it is a person's to lift."""
    triggers = Triggers(cool_downs=(CoolDown(FreezeClass.EDGE, 1_000, 1_000),))
    async with Rig(HandVenue(), conf=config(limits=Limits(edge_freeze_threshold_bps=bps(2)), triggers=triggers)) as rig:
        desk = Control(rig.bot, "s")
        await rig.bot.edge(BTC, "1")
        await rig.bot.proof()
        await rig.bot.edge(BTC, "5")
        for _ in range(PACE.count + 5):
            await say(desk, command="status")
        assert (await say(desk, command="freeze", who="ann"))["ok"]
        assert [event.by for event in rig.events(Freeze)] == [f"ann ({PEER})"]
        await later(5)
        assert rig.bot.mode("") is Mode.FROZEN


# --- while the runner starts ----------------------------------------------------------------------------------------


def _slow_to_read(rig: Rig) -> asyncio.Event:
    """A long log: it is read when the event is set."""
    read, real = asyncio.Event(), rig.bot._open_journal

    async def slow(path: str) -> None:
        await read.wait()
        await real(path)

    rig.bot._open_journal = slow  # type: ignore[method-assign]
    return read


@pytest.mark.parametrize("continued", [False, True])
@simulated
async def test_a_freeze_during_the_start_is_the_first_thing_in_the_session(continued: bool) -> None:
    rig = Rig(HandVenue())
    if continued:
        async with rig:
            await rig.bot.mark(BTC, "100")
        rig = Rig(HandVenue(), disk=rig.disk)
    read, desk, kind = _slow_to_read(rig), Control(rig.bot, "s"), "Restarted" if continued else "Started"
    start = asyncio.ensure_future(rig.bot.start())
    await later(0.1)
    refused = await say(desk, command="unfreeze", **OPS)
    assert (refused["ok"], refused["code"]) == (False, "starting")
    assert (await say(desk, command="freeze", symbol="NOPE"))["code"] == "unknown_scope"
    await raw(desk, b"x")
    words: list[dict[str, Any]] = [{"who": "ann", "reason": "do not start"}, {"symbol": BTC}, {"who": "bob"}]
    freezes = [asyncio.ensure_future(say(desk, command="freeze", **word)) for word in words]
    for _ in range(1_000):
        await raw(desk, b"x")
    await later(1)
    assert not any(answer.done() for answer in freezes)
    read.set()
    await start
    answers = [await answer for answer in freezes]
    assert [(event.by, event.scope) for event in rig.events(Freeze)] == [(f"ann ({PEER})", ""), (PEER, BTC)], "one for each scope"
    assert [type(event).__name__ for event, _ in rig.seen[:4]] == [kind, "Freeze", "Freeze", "OperatorRefused"]
    first = rig.bot.core.seq - len(rig.seen) + 1
    for answer, by in zip(answers, ("ann", "uid", "ann"), strict=True):
        event = rig.seen[answer["record"] - first][0]
        assert (answer["ok"], answer["mode"]) == (True, "freezing")
        assert isinstance(event, Freeze)
        assert event.by.startswith(by)
    assert rig.bot.mode("") is not Mode.ACTIVE
    assert (refusals(rig)[0].command, refusals(rig)[0].reason[:9]) == ("unfreeze", "starting:")
    assert len(refusals(rig)) == REFUSALS
    with pytest.raises(OrderDenied):
        await buy(rig.bot)
    await rig.bot.stop()
    assert rig.replayed().kind is Kind.SAME


@simulated
async def test_a_freeze_during_a_start_that_fails_is_told_so() -> None:
    rig = Rig(HandVenue())
    rig.disk.content[LOG] = bytearray(b"no log\n")
    read = _slow_to_read(rig)
    start = asyncio.ensure_future(rig.bot.start())
    await later(0.1)
    answer = asyncio.ensure_future(say(Control(rig.bot, "s"), command="freeze"))
    await later(0.1)
    read.set()
    with pytest.raises(JournalFailed):
        await start
    assert ((await answer)["ok"], (await answer)["code"]) == (False, "stopped")


@simulated
async def test_freezes_of_what_does_not_exist_do_not_come_through_a_crowd() -> None:
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "s")
        for _ in range(PACE.count):
            await say(desk, command="status")
        seq = rig.bot.core.seq
        assert (await say(desk, command="freeze", symbol="NOPE"))["code"] == "unknown_scope"
        assert (await say(desk, command="freeze", symbol=BTC))["ok"]
        assert type(rig.seen[seq][0]) is OperatorRefused


# --- the token ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "short", "x" * 15])
@simulated
async def test_a_port_needs_a_real_token(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    if token is not None:
        monkeypatch.setenv(TOKEN_VARIABLE, token)
    rig = Rig(control="127.0.0.1:0")
    with pytest.raises(ConfigRefused, match="at least 16 characters") as refused:
        await rig.bot.start()
    assert not token or token not in str(refused.value) or token == "short"
    assert (rig.disk.locked, rig.disk.content) == ({}, {}), "before anything is opened"


@pytest.mark.parametrize("where", ["0.0.0.0:7300", "192.168.0.7:1", "", "x" * 200])
@simulated
async def test_a_place_that_cannot_be_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with pytest.raises(ConfigRefused, match="control: "):
        await Rig(control=where).bot.start()


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\u00e9" * 20])
@simulated
async def test_a_wrong_token_opens_nothing_and_is_repeated_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, token: str | None
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "127.0.0.1:0")
        answer = await say(desk, "tcp", command="freeze", **({"token": token} if token is not None else {}))
        assert (answer["ok"], answer["code"]) == (False, "bad_token")
        assert rig.bot.status().modes == {}
        assert (refusals(rig)[0].command, refusals(rig)[0].by) == ("unknown", "tcp"), "the word is not even looked at"
        assert (await say(desk, "tcp", command="freeze", token=TOKEN, who="ops"))["ok"]
        assert rig.events(Freeze)[0].by == "ops (tcp)"
        everything = json.dumps(answer) + bytes(rig.disk.content[LOG]).decode() + caplog.text
        assert TOKEN not in everything
        assert not token or token not in everything


@simulated
async def test_a_token_in_the_wrong_place_is_struck_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    async with Rig(HandVenue()) as rig:
        desk = Control(rig.bot, "127.0.0.1:0")
        answers = [
            await say(desk, "tcp", **request)
            for request in (
                {"command": TOKEN, "token": TOKEN}, {"command": "freeze", "token": TOKEN, TOKEN: 1},
                {"command": "freeze", "token": TOKEN, "who": f"me{TOKEN}", "reason": f"token is {TOKEN}"},
                {"command": "freeze", "token": TOKEN, "symbol": TOKEN}, {"command": "freeze", "token": TOKEN, "wait": TOKEN},
                {"command": "limits-set", "token": TOKEN, "figures": {TOKEN: "5"}, **OPS},
                {"command": "limits-set", "token": TOKEN, "figures": {"max_order_value": TOKEN}, **OPS},
            )
        ]  # fmt: skip
        assert TOKEN not in json.dumps(answers) + bytes(rig.disk.content[LOG]).decode() + caplog.text
        assert rig.events(Freeze)[0].reason == "token is ***"


@simulated
async def test_a_socket_file_needs_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    async with Rig(HandVenue()) as rig:
        assert (await say(Control(rig.bot, "s"), command="freeze"))["ok"]


# --- a runner with a real socket ------------------------------------------------------------------------------------


CALLERS: list["Caller"] = []


class Caller:
    """Somebody at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        CALLERS.append(self)

    @classmethod
    async def at(cls, where: str) -> "Caller":
        if ":" in where:
            host, port = where.rsplit(":", 1)
            return cls(*await asyncio.open_connection(host, int(port)))
        return cls(*await asyncio.open_unix_connection(where))

    async def say(self, **request: Any) -> dict[str, Any]:
        self.writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self.reader.readline())
        return answer

    def hang_up(self) -> None:
        self.writer.transport.abort()


def operated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test on a real loop, at whose end every caller hangs up."""

    @functools.wraps(test)
    async def go(*arguments: Any, **named: Any) -> None:
        try:
            await test(*arguments, **named)
        finally:
            while CALLERS:
                CALLERS.pop().hang_up()
            for _ in range(10):
                await asyncio.sleep(0)

    return live(go)


def _well(rig: Rig) -> None:
    """The log is whole and says the same, and it was closed."""
    verdict = rig.replayed()
    assert (verdict.kind, verdict.core) == (Kind.SAME, rig.bot.core)
    assert verdict.end.closed


@operated
async def test_two_callers_of_a_running_bot(tmp_path: Path) -> None:
    path = tmp_path / "mm1.sock"
    async with Rig(control=str(path)) as rig:
        assert rig.bot.control_address == str(path)
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        ann, bob = await Caller.at(str(path)), await Caller.at(str(path))
        await buy(rig.bot)
        waiting = asyncio.ensure_future(ann.say(command="freeze", who="ann", reason="ill", wait=True))
        await until(lambda: rig.bot.status().modes)
        status = await bob.say(command="status")
        assert status["status"]["scopes"][0]["by"] == f"ann ({HERE})"
        assert (await waiting)["proof"]["verified"]
        assert (await bob.say(command="unfreeze", who="bob", why="well"))["ok"]
        assert rig.bot.status().modes == {}
    assert not path.exists()
    assert [event.by for event in rig.events(Freeze)[:1] + rig.events(Unfreeze)] == [f"ann ({HERE})", f"bob ({HERE})"]
    _well(rig)


@operated
async def test_a_port_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    async with Rig(control="127.0.0.1:0") as rig:
        caller = await Caller.at(rig.bot.control_address)
        assert (await caller.say(command="freeze"))["code"] == "bad_token"
        assert (await caller.say(command="freeze", token=TOKEN, who="ops"))["ok"]
    assert [event.by for event in rig.events(OperatorRefused)] == ["tcp"]
    assert TOKEN.encode() not in bytes(rig.disk.content[LOG])
    _well(rig)


@operated
async def test_garbage_and_a_crowd_keep_no_freeze_out(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with Rig(control=path) as rig:
        crowd = [await Caller.at(path) for _ in range(2 * MAX_CONNECTIONS)]
        for n, caller in enumerate(crowd):
            caller.writer.write((b"x" * (MAX_LINE + 10)) if n % 2 else os.urandom(1_000).replace(b"\n", b"") + b"\n")
        ops = await Caller.at(path)
        assert (await ops.say(command="freeze", who="ops"))["mode"] in ("freezing", "frozen")
        for caller in [*crowd, ops]:
            caller.hang_up()
        await until(lambda: rig.bot._control is not None and not rig.bot._control._listener._connections)
    assert 0 < len(refusals(rig)) <= REFUSALS + 1
    _well(rig)


@operated
async def test_the_freeze_is_fed_in_the_turn_in_which_it_is_read(tmp_path: Path) -> None:
    """The bot's own work under way does not hold it up: orders wait for a slow disk meanwhile."""
    path = str(tmp_path / "s")
    async with Rig(control=path) as rig:
        caller = await Caller.at(path)
        rig.disk.sync_delay_s = 0.05
        orders = [asyncio.ensure_future(buy(rig.bot, str(90 + n), wait=False)) for n in range(20)]
        answer = await caller.say(command="freeze")
        assert answer["ok"]
        assert rig.bot.mode("") is not Mode.ACTIVE
        await asyncio.gather(*orders, return_exceptions=True)
        assert rig.venue.placed.total() == 0, "and it overtook every order that waited for the disk"
    _well(rig)


@operated
async def test_a_second_runner_at_the_same_place_is_refused_before_it_opens_its_log(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with Rig(control=path) as rig:
        other = Rig(control=path)
        with pytest.raises(ConfigRefused, match="another runner listens there"):
            await other.bot.start()
        assert other.disk.content == {}
        caller = await Caller.at(path)
        assert (await caller.say(command="status"))["ok"], "the first one is still there"
        assert rig.bot.status().running


@operated
async def test_a_killed_process_leaves_its_file_and_the_next_one_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    rig = Rig(control=str(path))
    await rig.bot.start()
    rig.bot.abandon()
    await asyncio.sleep(0)
    assert path.is_socket()
    async with Rig(control=str(path)):
        caller = await Caller.at(str(path))
        assert (await caller.say(command="status"))["status"]["running"]


@operated
async def test_a_start_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    rig = Rig(control=str(path))
    rig.disk.content[LOG] = bytearray(b"no log\n")
    with pytest.raises(Exception, match="log"):
        await rig.bot.start()
    assert not path.exists()


@operated
async def test_many_symbols_are_looked_through_in_a_thread(tmp_path: Path) -> None:
    symbols = tuple(f"S{n}" for n in range(operations.FEW + 1))
    venue = HandVenue()
    async with Rig(venue, conf=config(symbols=symbols, limits=Limits(max_inventory_usd=usd("10"))), control=str(tmp_path / "s")) as rig:
        await rig.bot.mark("S3", 5)
        caller = await Caller.at(rig.bot.control_address)
        answer = await caller.say(command="limits")
        assert len(answer["utilization"]) == len(symbols)
