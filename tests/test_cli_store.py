"""``haltcore check-store`` and ``haltcore store``. Goal: a person, or a script, learns by one call whether a store is fit, and what to
change, or why it cannot be asked; sees what lies in it; and can settle a guard that stands still, but none that is done or has moved.

Method: the command through click's runner on real servers of each kind, and on none.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import pytest
from click.testing import CliRunner, Result
from haltcore.adapters.cli import main
from haltcore.adapters.coordination import Claim, Claimed, GuardRow
from haltcore.adapters.program import USAGE
from haltcore.adapters.redis_store import RedisStore
from haltcore.effects import BreakerMode, GuardState, Trigger
from haltcore.fsm.breaker import Breaker
from haltcore.fsm.breaker_text import to_text
from haltcore.fsm.events import GuardKind
from haltcore.fsm.guard import PLACE, guard_key

from tests.servers import Persistence, Server, free_port

SECRET = "hunter2"


def run(*arguments: str, **environment: str) -> Result:
    """One call of the program. Whatever is raised instead of an exit code fails the test."""
    result = CliRunner(env={"HALTCORE_STORE_URL": None, **environment}).invoke(main, ["check-store", *arguments], prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    assert SECRET not in result.output
    return result


def test_a_fit_store_and_an_unfit_one() -> None:
    with Server(Persistence.AOF_EVERYSEC, ("--maxmemory", "256mb", "--requirepass", SECRET)) as server:
        url = f"redis://:${{PW}}@127.0.0.1:{server.port}/0"
        fit = run(url, PW=SECRET)
        assert fit.exit_code == 0
        assert fit.stdout.splitlines()[0].startswith(f"redis://127.0.0.1:{server.port}: ")
        assert "fit to coordinate\nNOTES\n  - if the machine fails" in fit.stdout
        assert "FAULTS" not in fit.stdout
        by_environment = run(HALTCORE_STORE_URL=f"redis://:{SECRET}@127.0.0.1:{server.port}/0")
        assert by_environment.stdout == fit.stdout
        refused = run(f"redis://127.0.0.1:{server.port}")
        assert refused.exit_code == 2
        assert "error: store_auth" in refused.stderr
    with Server() as server:
        unfit = run(server.url())
        assert unfit.exit_code == 1
        assert "unfit to coordinate\nFAULTS\n  - the server keeps nothing over a restart" in unfit.stdout
        said = json.loads(run(server.url(), "-o", "json").stdout)
        assert (said["fit"], said["exit_code"], len(said["faults"]), said["facts"]["role"]) == (False, 1, 1, "master")


def test_a_store_that_cannot_be_reached() -> None:
    gone = f"redis://:{SECRET}@127.0.0.1:{free_port()}"
    result = run(gone)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: store_refused: redis://127.0.0.1:")
    said = json.loads(run(gone, "-o", "json").stdout)
    assert (said["fit"], said["code"], said["exit_code"]) == (None, "store_refused", 2)


def test_a_password_in_the_environment_that_is_no_utf_8_is_a_password() -> None:
    with Server() as server:
        server.admin.execute_command("CONFIG", "SET", "requirepass", b"a\xffb")
        url = f"redis://:${{PW}}@127.0.0.1:{server.port}"
        assert run(url, PW="a\udcffb").exit_code == 1
        assert "store_auth" in run(url, PW="a\udcfeb").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "set HALTCORE_STORE_URL"),
        (["http://h"], "this is no URL of a store"),
        ([f"redis://:{SECRET}@h:x"], "host 1 of the URL"),
        (["redis://:${NOT_SET}@h"], "NOT_SET is not set"),
        (["redis://127.0.0.1:1739x"], "has a port that is no number"),
    ],
)
def test_usage(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == USAGE
    assert words in result.stderr


# --- show and guard -----------------------------------------------------------------------------------------------------


def call(*arguments: str) -> Result:
    result = CliRunner(env={"HALTCORE_STORE_URL": None}).invoke(main, ["store", *arguments], prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def in_store(server: Server, account: str, *deeds: Callable[[RedisStore], Awaitable[object]]) -> list[object]:
    async def told() -> list[object]:
        store = RedisStore(server.url(), account, timeout_ms=5_000)
        found = [await deed(store) for deed in deeds]
        await store.close()
        return found

    return asyncio.run(told())


def test_what_lies_in_a_store_is_shown_with_who_said_it(store_server: Server) -> None:
    account = "shown"
    at = (store_server.url(), "--account", account)
    empty = call("show", *at)
    assert empty.exit_code == 0
    assert "FREEZE   none\nKEYS     0 guards, 0 holds, 0 cool-downs, 0 streams; store epoch 0\n" in empty.stdout
    breaker = Breaker(BreakerMode.FORCED_OPEN, 1, 1, by="ann", why="bad fills")
    in_store(
        store_server, account,
        lambda store: store.publish("botone1", "", Trigger.MANUAL, "looks\x1b[31m ill", "ann"),
        lambda store: store.publish("bottwo1", "BTCUSDT", Trigger.LOSS, "too much", ""),
        lambda store: store.acquire("sweep", "botone1:77", 60_000),
        lambda store: store.claim(Claim("a" * 64, "o", "p"), 60_000),
        lambda store: store.set_hold("BTCUSDT", "me", "why", "", 60_000),
        lambda store: store.put_state("breaker:place", 0, to_text(breaker)),
        lambda store: store.put_state("breaker:odd", 0, "{"),
    )  # fmt: skip
    store_server.admin.hset(f"{{haltcore:{account}}}:account", "latch:ETHUSDT", "garbage")
    found = call("show", *at)
    lines = found.stdout.splitlines()
    assert lines[:3] == [
        "FREEZE   the account: manual by ann: looks\\x1b[31m ill (session botone1)",
        "FREEZE   BTCUSDT: loss by nobody named: too much (session bottwo1)",
        "FREEZE   ETHUSDT: a row that this version cannot read: garbage",
    ]
    assert re.fullmatch(r"LEASE    sweep: botone1:77, for another 5\d,\d{3} ms \(fence \d+:1\)", lines[3])
    assert lines[4].startswith("BREAKER  odd: unreadable")
    assert lines[5].startswith("BREAKER  place: forced_open by ann since 1970-01-01")
    assert lines[5].endswith(": bad fills")
    assert lines[6].startswith("KEYS     1 guards, 1 holds, 0 cool-downs, 0 streams; store epoch ")
    assert lines[7].startswith("STORE    redis://127.0.0.1:")
    said = json.loads(call("show", *at, "-o", "json").stdout)
    assert [(row["scope"], [one["author"] for one in row["words"]]) for row in said["latch"]] == [
        ("", ["botone1"]), ("BTCUSDT", ["bottwo1"]), ("ETHUSDT", [])
    ]  # fmt: skip
    assert said["leases"][0]["holder"] == "botone1:77"


def test_a_store_that_cannot_be_shown() -> None:
    gone = f"redis://127.0.0.1:{free_port()}"
    assert call("show", gone, "--account", "main").exit_code == 2
    assert call("guard", gone, "--account", "main", "--entity", "x").exit_code == 2
    guard = ("guard", gone, "--account", "main", "--entity", "x", "--settle", "done")
    for wrong in (("show", gone), ("show", gone, "--account", "a b"), guard, (*guard, "--who", "ann")):
        assert call(*wrong).exit_code == USAGE


@pytest.mark.parametrize("state", [GuardState.INTENT, GuardState.SENT, GuardState.IN_DOUBT])
@pytest.mark.parametrize(("settle", "then"), [("done", GuardKind.DONE), ("rejected", GuardKind.CLAIMED)])
def test_a_guard_that_stands_still_is_settled_by_a_persons_word(
    store_server: Server, state: GuardState, settle: str, then: GuardKind
) -> None:
    entity = f"{state}-{settle}"
    key = guard_key("ledger_write", entity)
    at = ("guard", store_server.url(), "--account", "stuck", "--kind", "ledger_write", "--entity", entity)
    missing = call(*at)
    assert (missing.exit_code, missing.stdout) == (1, "there is no such guard\n")
    ours = Claim(key, "bot-1:7", "what")
    deeds: list[Callable[[RedisStore], Awaitable[object]]] = [lambda store: store.claim(ours, 60_000)]
    if state is not GuardState.INTENT:
        deeds.append(lambda store: store.settle(ours, state, "", 60_000))
    in_store(store_server, "stuck", *deeds)
    shown = call(*at)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"{state.upper()} since 20")
    assert shown.stdout.endswith(" UTC, of bot-1:7\n")
    done = call(*at, "--settle", settle, "--who", "ann", "--why", "looked in the database")
    assert done.exit_code == 0
    assert f"{settle.upper()} since 20" in done.stdout
    assert "of person:ann\nresult: ann: looked in the database\nsettled; " in done.stdout
    owner, claimed = in_store(
        store_server, "stuck",
        lambda store: store.settle(ours, GuardState.DONE, "", 60_000), lambda store: store.claim(Claim(key, "bot-2:1", "what"), 60_000),
    )  # fmt: skip
    assert owner is False, "whoever owned it has lost it"
    assert isinstance(claimed, Claimed)
    assert claimed.kind is then


def test_what_is_done_is_not_taken_back_and_what_changes_meanwhile_is_not_settled(
    store_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("guard", store_server.url(), "--account", "kept", "--entity", "e", "--who", "ann", "--why", "w", "--settle")
    assert "nothing holds it up" in call(*at, "done").stderr
    ours = Claim(guard_key(PLACE, "e"), "o:1", "p")
    in_store(store_server, "kept", lambda store: store.claim(ours, 60_000))
    retake = RedisStore.retake

    async def late(self: RedisStore, claim: Claim, was: GuardRow, ttl_ms: int) -> bool:
        await self.settle(ours, GuardState.SENT, "", 60_000)
        return await retake(self, claim, was, ttl_ms)

    monkeypatch.setattr(RedisStore, "retake", late)
    refused = call(*at, "rejected")
    assert (refused.exit_code, "not as it was shown" in refused.stderr) == (1, True)
    assert refused.stdout.startswith("SENT since ")
    monkeypatch.undo()
    assert call(*at, "rejected").exit_code == 0
    again = call(*at, "rejected")
    assert (again.exit_code, "it is rejected already" in again.stderr) == (1, True)
    assert call(*at, "done").exit_code == 0, "it was thought not to have happened, and was seen"
    for word in ("done", "rejected"):
        final = json.loads(call(*at, word, "-o", "json").stdout)
        assert (final["row"]["state"], final["exit_code"], "not taken back" in final["problem"]) == ("done", 1, True)
