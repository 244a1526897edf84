"""The operator's verbs. Goal: each does in a running session what it says, prints what came of it, and ends with 0 only if it was done.

Method: a runner with a real socket on a real loop; the program runs beside it in a thread, through click's runner. Then without a
runner, for what it says when there is none; last, a few real processes.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from haltcore.adapters import cli_operate
from haltcore.adapters.cli import main
from haltcore.adapters.control import TOKEN_VARIABLE
from haltcore.adapters.coordination import Latch, StoreFailed
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.memory_store import MemoryStore
from haltcore.effects import Mode, qty, usd
from haltcore.fsm.config import StoreCheck, StorePolicy, SweepPolicy
from haltcore.fsm.events import FetchedPositions, Freeze, OperatorRefused, PositionRow, Positions, StoreHealth, Unfreeze, VenueLink
from haltcore.fsm.limits import LimitRule, Limits, Rate
from haltcore.fsm.record import FORMAT
from haltcore.fsm.verdict import Kind

from tests.helpers import BTC, config
from tests.runner_rig import HandVenue, Rig, buy, for_ever
from tests.test_control_socket import HERE, live, until

PROGRAM = [sys.executable, "-c", "from haltcore.adapters.cli import main; main(prog_name='haltcore')"]
WHO = ("--who", "ops", "--why", "because")
VERBS = ("freeze", "unfreeze", "status", "limits", "reduce-only", "restrict", "reenable", "breaker")


def run(*arguments: str, given: str | None = None) -> Result:
    """One call of the program. Whatever is raised instead of an exit code fails the test."""
    result = CliRunner().invoke(main, arguments, input=given, prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


async def beside(*arguments: str, given: str | None = None) -> Result:
    """The same while the loop goes on."""
    return await asyncio.to_thread(run, *arguments, given=given)


async def told(*arguments: str) -> dict[str, Any]:
    """What it says as JSON."""
    result = await beside(*arguments, "-o", "json")
    answer: dict[str, Any] = json.loads(result.output)
    assert (result.exit_code == 0) is answer["ok"]
    return answer


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The socket of the session, named by the environment."""
    path = str(tmp_path / "mm1.sock")
    monkeypatch.setenv("HALTCORE_SOCKET", path)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    return path


# --- with a store -------------------------------------------------------------------------------------------------------


class LockedStore(MemoryStore):
    """One that lets nobody in, as with a wrong password."""

    async def read_latch(self, author: str) -> Latch:  # noqa: ARG002
        raise StoreFailed(StoreHealth.UNAVAILABLE, "store_auth", "wrong password")


SHARED = StorePolicy(configured=True, check=StoreCheck.OFF)


@live
async def test_why_the_store_fails_and_that_nothing_is_placed_is_on_the_screen(place: str) -> None:
    async with Rig(conf=config(store=SHARED), store=LockedStore(MemoryState(lambda: 0)), control=place) as rig:
        await until(lambda: rig.bot.status().store == "failing")
        screen = (await beside("status")).output
        assert re.search(r"VENUE    connected; store: failing since \d\d:\d\d:\d\d\.\d{3} UTC, store_auth\n", screen)
        assert "PLACING  refused: not_ready: the store's freeze latch has not been read yet (store_auth)\n" in screen
        status = (await told("status"))["status"]
        assert (status["store"], status["store_code"]) == ("failing", "store_auth")
        assert status["refused"].startswith("not_ready: ")
        assert [alert.code for alert in rig.alerts if alert.code.startswith("store")] == ["store_lost"]


@live
async def test_what_holds_in_this_process_alone_is_said_to(place: str) -> None:
    here = "in this process; others of the account have their own"
    commands = (
        ("reduce-only", "on"), ("restrict", BTC), ("limits", "set", "max_order_value=500"),
        ("limits", "override", "max_order_value=600", "--for", "15m"),
    )  # fmt: skip
    async with Rig(conf=config(store=SHARED), store=MemoryStore(MemoryState(lambda: 0)), control=place) as rig:
        for command in commands:
            assert here in (await beside(*command, *WHO)).output.splitlines()[0], command
        assert "PLACING" not in (await beside("status")).output, rig.bot.status().refused
    async with Rig(control=place) as rig:
        for command in commands:
            assert here not in (await beside(*command, *WHO)).output, command


# --- freeze and unfreeze ----------------------------------------------------------------------------------------------


@live
async def test_one_word_freezes(place: str) -> None:
    async with Rig(control=place) as rig:
        await buy(rig.bot)
        result = await beside("freeze")
        assert result.exit_code == 0
        (event,) = rig.events(Freeze)
        assert event.by.endswith(f"({HERE})")
        assert event.by != HERE, "the user's name is in it"
        record = [seen for seen, _ in rig.seen].index(event) + 1
        assert result.output == f"frozen; the proof that nothing is open is under way; the scope is FREEZING (record {record})\n"
    assert rig.replayed().kind is Kind.SAME


@live
async def test_freeze_with_everything(place: str) -> None:
    async with Rig(control=place) as rig:
        await buy(rig.bot)
        result = await beside("freeze", "venue", "looks", "ill", "--symbol", BTC, "--who", "ann", "--wait")
        assert (result.exit_code, rig.bot.mode(BTC)) == (0, Mode.FROZEN)
        assert "proven empty" in result.output
        assert [(event.scope, event.reason, event.by) for event in rig.events(Freeze)] == [(BTC, "venue looks ill", f"ann ({HERE})")]
        answer = await told("freeze", "--venue", "--wait")
        assert (answer["mode"], answer["proof"]["verified"]) == ("frozen", True)


@live
async def test_a_proof_that_does_not_come_is_no_success(place: str) -> None:
    venue = HandVenue(CancelAll=for_ever, Cancel=for_ever)
    async with Rig(venue, control=place, conf=config(sweep=SweepPolicy(deadline_ms=50)), effect_timeout_s=0.3) as rig:
        await buy(rig.bot)
        result = await beside("freeze", "--wait")
        assert result.exit_code == 1
        assert "not proven empty yet: 1 order(s) may be open; the scope is FREEZING" in result.output
        venue.behave.clear()
        result = await beside("unfreeze", *WHO)
        assert "error: sweep_running: " in result.output
        assert "(record " in result.output
        assert (await beside("unfreeze", *WHO, "--force")).exit_code == 0


@live
async def test_unfreeze_says_its_consequence_and_asks_back_on_a_terminal(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig(control=place) as rig:
        await rig.bot.freeze("feed stuck", "ann", symbol=BTC)
        await rig.bot.freeze("maintenance", "ann", venue=True)
        monkeypatch.setattr(cli_operate, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
        result = await beside("unfreeze", "--symbol", BTC, *WHO, given="n\n")
        assert result.exit_code == 130
        assert "BTCUSDT is FROZEN since" in result.output
        assert "manual by ann: feed stuck" in result.output
        assert "may place orders again in: BTCUSDT" in result.output
        assert "What stays as it is: venue." in result.output
        assert rig.events(Unfreeze) == []
        assert (await beside("unfreeze", "--symbol", BTC, *WHO, given="y\n")).exit_code == 0
        assert rig.bot.status().modes == {"venue": Mode.FROZEN}
        result = await beside("unfreeze", "--venue", "--yes", *WHO)
        assert (result.exit_code, "Lift it?" in result.output) == (0, False)
        result = await beside("unfreeze", *WHO, given="y\n")
        assert result.exit_code == 1
        assert "the account is not frozen." in result.output
        assert "error: not_frozen: " in result.output


@live
async def test_a_wrong_scope_is_told_in_the_words_of_a_shell(place: str) -> None:
    async with Rig(control=place, conf=config(strategies=("mm",))) as rig:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"symbol": BTC}, f"{BTC} is frozen: --symbol {BTC}"), ({"strategy": "mm"}, "strategy:mm is frozen: --strategy mm"),
            ({"venue": True}, "venue is frozen: --venue"),
        ]  # fmt: skip
        for scope, words in cases:
            await rig.bot.freeze("x", "ann", **scope)
            result = await beside("unfreeze", *WHO)
            assert result.exit_code == 1
            assert f"error: not_frozen: the account is active; {words} (record " in result.output
            await rig.bot.unfreeze("ann", "x", **scope)
        assert "error: not_frozen: the account is active (record " in (await beside("unfreeze", *WHO)).output
        assert "'XX' is not configured; leave out --symbol for the account (record " in (await beside("freeze", "--symbol", "XX")).output
        assert "'x' is not configured; leave out --strategy for the account" in (await beside("unfreeze", "--strategy", "x", *WHO)).output


@live
async def test_status_says_what_froze_it_who_may_lift_it_and_what_holds_for_a_while(place: str) -> None:
    async with Rig(control=place) as rig:
        await rig.bot.freeze("one", "", symbol=BTC)
        await rig.bot.begin_freeze("two", "ann", symbol=BTC)
        await rig.bot.override_limits({"max_order_value": "5"}, 60_000, "ann", "a test", symbol=BTC)
        await rig.bot.band(BTC, "high")
        text = (await beside("status")).output
        for words in ("manual by nobody named: one\n         also manual by ann (record ",
                      "): two\n         needs a person: haltcore unfreeze --symbol BTCUSDT --who NAME --why TEXT\n",
                      " UTC by ann, verified by ann: max_order_value 5; a test\n", "\nBAND     BTCUSDT is in band high\n"):  # fmt: skip
            assert words in text
        status = (await told("status"))["status"]
        assert [t["reason"] for t in status["scopes"][0]["triggers"]] == ["one", "two"]
        assert (status["scopes"][0]["lifts_itself"], status["scopes"][0]["lifts_in_s"], status["bands"]) == (False, None, {BTC: "high"})
        assert status["overrides"][0]["limits"] == {"max_order_value": "5"}


@live
async def test_without_a_terminal_nothing_is_asked(place: str) -> None:
    async with Rig(control=place) as rig:
        await rig.bot.freeze("x", "ann")
        answer = await told("unfreeze", *WHO)
        assert (answer["ok"], answer["mode"], rig.bot.mode("")) == (True, "active", Mode.ACTIVE)
        assert rig.events(Unfreeze)[0].by == f"ops ({HERE})"


# --- status -----------------------------------------------------------------------------------------------------------


@live
async def test_status_is_one_screen(place: str) -> None:
    async with Rig(control=place, conf=config(limits=Limits(max_inventory_usd=usd("5000")))) as rig:
        await rig.bot.mark(BTC, 100)
        await rig.bot.submit(BTC, "buy", 40, 100)
        result = await beside("status")
        assert result.exit_code == 0
        for words in ("SESSION  test001, ready, at record", "STATE    ACTIVE", "ORDERS   1 open, 0 in flight, 0 unknown",
                      "VENUE    connected; store: none", "JOURNAL  bot.jsonl: ", "VERSION  haltcore ",
                      "LIMIT    80.0 % of max_inventory_usd (BTCUSDT): 4000 of 5000, by account"):  # fmt: skip
            assert words in result.output
        await rig.bot.freeze("venue\x1b[2J ill", "ann", symbol=BTC)
        text = (await beside("status")).output
        assert "STATE    BTCUSDT is FROZEN since 20" in text
        assert "manual by ann: venue" in text
        assert "PROOF    proven empty where FROZEN" in text
        assert "\x1b" not in text
        answer = await told("status")
        assert (answer["status"]["scopes"][0]["reason"], answer["versions"]["format"]) == ("venue\x1b[2J ill", FORMAT)


@live
async def test_status_while_a_proof_is_under_way_and_the_venue_is_away(place: str) -> None:
    async with Rig(HandVenue(CancelAll=for_ever), control=place, effect_timeout_s=0.5) as rig:
        await buy(rig.bot)
        await rig.bot.begin_freeze("x", "ann")
        text = (await beside("status")).output
        assert "STATE    the account is FREEZING since" in text
        assert "PROOF    under way (request): round 1, 0 cancelled, 0 failed, " in text
        assert "; empty lists 0 of 2" in text
        rig.bot._receive(VenueLink(rig.clock.now_ns(), False, "unplugged"))
        assert "VENUE    DOWN; store: none" in (await beside("status")).output
        rig.bot._receive(VenueLink(rig.clock.now_ns(), True, "back"))
        rig.venue.behave.clear()
        await rig.bot.unfreeze("x", "y", force=True)


@live
async def test_status_of_a_position_without_a_price(place: str) -> None:
    async def holding(effect: Any) -> Any:
        return [Positions(venue.now_ns(), effect.id, FetchedPositions((PositionRow(BTC, qty(1), None),)))]

    venue = HandVenue(FetchPositions=holding)
    async with Rig(venue, control=place, conf=config(limits=Limits(max_inventory_usd=usd("5000")))):
        assert "LIMIT    far more than 100 % of max_inventory_usd (BTCUSDT): no price of 5000" in (await beside("status")).output


# --- limits -----------------------------------------------------------------------------------------------------------


@live
async def test_limits_are_shown_changed_and_overridden(place: str) -> None:
    rules = (LimitRule(Limits(max_open_orders=3), symbol=BTC, from_minute=60, to_minute=90),)
    async with Rig(control=place, conf=config(limits=Limits(message_rate=Rate(100, 1_000)), rules=rules, two_persons=True)) as rig:
        result = await beside("limits")
        assert result.exit_code == 0
        assert "account: message_rate 100/1s\n" in result.output
        assert f"symbol {BTC}, window 01:00-01:30 UTC: max_open_orders 3\n" in result.output
        result = await beside("limits", "set", "max_order_value=500", "message_rate=90/1s", "prevent_self_match=true", *WHO)
        assert result.exit_code == 0
        assert "account: max_order_value 500\naccount: message_rate 90/1s\naccount: prevent_self_match true\n" in result.output
        result = await beside("limits", "set", "max_order_value=500", *WHO)
        assert (result.exit_code, result.output.startswith("no change: the figures are these already\n")) == (0, True)
        assert rig.bot.limits().rules[0].limits == Limits(
            max_order_value=usd("500"), message_rate=Rate(90, 1_000), prevent_self_match=True
        )
        answer = await told("limits", "override", "max_order_value=5000", "--for", "15m", "--symbol", BTC, *WHO)
        number = answer["record"]
        (override,) = rig.bot.limits().overrides
        assert (override.id, override.symbol, override.verified_by) == (number, BTC, "")
        assert override.until_ns - rig.clock.now_ns() == pytest.approx(15 * 60 * 10**9, abs=5 * 10**9)
        assert f"override {number} (BTCUSDT) until 20" in (await beside("limits")).output
        assert "WAITS for a second person: max_order_value 5000; because" in (await beside("limits")).output
        result = await beside("limits", "verify", str(number), "--who", "Ops")
        assert (result.exit_code, "error: same_person: " in result.output) == (1, True)
        assert (await beside("limits", "verify", str(number), "--who", "bob")).exit_code == 0
        assert f"verified by bob ({HERE})" in (await beside("limits")).output
        assert (await beside("limits", "end", str(number), *WHO)).exit_code == 0
        assert rig.bot.limits().overrides == ()
        result = await beside("limits", "set", "max_ordr=5", *WHO)
        assert (result.exit_code, "'max_ordr' is no figure; there are" in result.output) == (1, True)
        assert rig.events(OperatorRefused)[-1].command == "limits-set"
    assert rig.replayed().kind is Kind.SAME


@live
async def test_a_limit_below_what_is_used_says_so(place: str) -> None:
    async with Rig(control=place) as rig:
        await rig.bot.mark(BTC, 100)
        await rig.bot.submit(BTC, "buy", 55, 100)
        result = await beside("limits", "set", "max_inventory_usd=1000", "max_open_orders=9", *WHO)
        assert result.output.startswith("changed; already exceeded: max_inventory_usd (BTCUSDT) 5500 of 1000, 550 % (record ")
        answer = await told("limits", "override", "max_inventory_usd=500", "--for", "15m", *WHO)
        assert answer["text"] == f"override {answer['record']} holds; already exceeded: max_inventory_usd (BTCUSDT) 5500 of 500, 1100 %"
        result = await beside("limits", "override", "max_inventory_usd=500", "--for", "400d", *WHO)
        assert "error: invalid_duration: for_ms: 400 days are too long for an override; give at most 366" in result.output


@live
async def test_the_restricted_list_reduce_only_and_the_throttle(place: str) -> None:
    async with Rig(control=place) as rig:
        assert (await beside("restrict", BTC, *WHO)).exit_code == 0
        assert "restricted: BTCUSDT" in (await beside("limits")).output
        assert (await beside("restrict", BTC, "--off", *WHO)).exit_code == 0
        assert rig.bot.limits().restricted == ()
        assert (await beside("reduce-only", "on", "--symbol", BTC, *WHO)).exit_code == 0
        assert rig.bot.mode(BTC) is Mode.REDUCE_ONLY
        assert (await beside("reduce-only", "off", "--symbol", BTC, *WHO)).exit_code == 0
        result = await beside("reenable", *WHO)
        assert (result.exit_code, "error: not_throttled: " in result.output) == (1, True)


# --- ways to it -------------------------------------------------------------------------------------------------------


@live
async def test_by_a_port_with_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "correct horse battery staple")
    async with Rig(control="127.0.0.1:0") as rig:
        where = rig.bot.control_address
        assert (await beside("freeze", "--tcp", where)).exit_code == 0
        assert rig.events(Freeze)[0].by.endswith("(tcp)")
        monkeypatch.delenv(TOKEN_VARIABLE)
        result = await beside("unfreeze", "--tcp", where, *WHO)
        assert (result.exit_code, "error: bad_token: " in result.output) == (1, True)
        assert rig.events(Unfreeze) == []


@live
async def test_the_socket_stands_before_or_behind_the_verb_of_limits(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HALTCORE_SOCKET")
    monkeypatch.chdir(tmp_path)
    async with Rig(control="haltcore.sock") as rig:
        assert (await beside("status")).exit_code == 0, "the default is in the folder where one is"
        (tmp_path / "haltcore.sock").rename(place)
        assert (await beside("limits", "--socket", place, "set", "max_open_orders=3", *WHO)).exit_code == 0
        assert (await beside("limits", "set", "max_open_orders=4", *WHO, "--socket", place)).exit_code == 0
        assert rig.bot.limits().rules[0].limits.max_open_orders == 4
        assert (await beside("status", "--socket", "mm1.sock")).exit_code == 0
        assert (await beside("status")).exit_code == 1


@pytest.mark.parametrize("arguments", [["freeze"], ["unfreeze", *WHO], ["status"], ["limits"], ["limits", "set", "a=3", *WHO]])
def test_where_no_runner_is_it_says_so_and_what_to_do(arguments: list[str], place: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"error: no runner answers at {place}: there is no such file; " in result.output
    assert ("if the bot has to stop now" in result.output) is (arguments[0] == "freeze")


def test_of_an_answer_that_did_not_come_it_says_that_it_may_have_been_done(place: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()

        def deaf() -> None:
            for _ in range(2):
                link, _ = listener.accept()
                link.recv(1_000)
                link.close()

        thread = threading.Thread(target=deaf)
        thread.start()
        result = run("freeze")
        assert (result.exit_code, "It may have been done; look with haltcore status" in result.output) == (1, True)
        assert "may have been done" not in run("status").output
        thread.join()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\n", b"[]\n", b"{\n"])
def test_what_answers_may_be_something_else(place: str, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()

        def other() -> None:
            link, _ = listener.accept()
            link.recv(1_000)
            link.sendall(answer)
            link.close()

        thread = threading.Thread(target=other)
        thread.start()
        result = run("status")
        assert (result.exit_code, "is no runner of haltcore" in result.output) == (1, True)
        thread.join()


@pytest.mark.parametrize(
    "arguments",
    [
        ["unfreeze"], ["unfreeze", "--who", "x"], ["unfreeze", "--why", "x"], ["freeze", "--symbol", BTC, "--venue"],
        ["freeze", "--socket", "x", "--tcp", "127.0.0.1:1"], ["freeze", "--tcp", "10.0.0.1:1"], ["freeze", "--socket", "x" * 200],
        ["freeze", "--tcp", "nowhere"], ["reduce-only", "maybe", *WHO], ["reduce-only", "on"], ["restrict", *WHO], ["status", "now"],
        ["limits", "set", *WHO], ["limits", "set", "max_order_value", *WHO], ["limits", "set", "=5", *WHO], ["limits", "set", "a=5"],
        ["limits", "override", "a=5", *WHO], ["limits", "override", "a=5", "--for", "soon", *WHO], ["limits", "verify", "x", "--who", "y"],
        ["limits", "end", "0", *WHO], ["limits", "fly"], ["status", "-o", "xml"],
    ],
)  # fmt: skip
def test_usage_errors(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 64


def test_help_of_every_verb() -> None:
    text = run("--help").output
    for verb in VERBS:
        assert verb in text
        assert run(verb, "--help").exit_code == 0
    for verb in ("set", "override", "verify", "end"):
        assert "--who" in run("limits", verb, "--help").output
    assert "another person than the one who asked" in " ".join(run("limits", "verify", "--help").output.split())


@live
async def test_as_a_real_process(place: str) -> None:
    """Names and options as a shell gives them; the user's name is found without a terminal, and a missing one harms nothing."""
    async with Rig(control=place) as rig:
        for more, name in (({"LOGNAME": "ann"}, f"ann ({HERE})"), ({}, "")):
            environment = {k: v for k, v in os.environ.items() if k not in ("LOGNAME", "USER", "LNAME", "USERNAME")} | more
            done = await asyncio.to_thread(
                subprocess.run, [*PROGRAM, "freeze", "now"], capture_output=True, text=True, env=environment, timeout=30, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert "FR" in done.stdout
            assert rig.events(Freeze)[-1].by == name or not name
        await until(lambda: rig.bot.proven())
        assert len(rig.events(Freeze)) == 2
