"""The demo on a shared store. Goal: on a real server every promise of its story is kept, whichever of the two is killed, and nothing is
left behind: no process, no key, no file but the logs, also when it is interrupted or the store goes away.

Method: the whole demo against a Redis of the test's own, once as a program and once as a function with another seed; then the ways in which
it cannot come to its end, with less patience.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result
from haltcore.adapters import demo_maker, demo_shared
from haltcore.adapters.cli import main
from haltcore.adapters.cli_demo import _shared_ending
from haltcore.adapters.demo_maker import DemoFailed
from haltcore.adapters.demo_shared import Shared, free_stem, log_names, play
from haltcore.adapters.disk import RealDisk
from haltcore.adapters.journal import JournalFailed
from haltcore.fsm.verdict import Kind

from tests.servers import Server, free_port

PROCESS = re.compile(r"process (\d+)")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def disk() -> RealDisk:
    return RealDisk(threaded=False)


def run(*arguments: str) -> Result:
    """One call of the program. Whatever is raised instead of an exit code fails the test."""
    result = CliRunner().invoke(main, ["demo", *arguments], prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def ended(lines: list[str]) -> list[int]:
    """The processes that were told of; none of them runs any more."""
    pids = [int(found[1]) for line in lines for found in [PROCESS.search(line)] if found]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    return pids


@pytest.fixture(scope="module")
def told(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shared, list[str], list[str]]:
    """One run: what came of it, what was said, and the command lines of its processes."""
    lines: list[str] = []
    seen: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if found := PROCESS.search(line):
            seen.append(subprocess.run(["ps", "-o", "args=", "-p", found[1]], capture_output=True, text=True, check=False).stdout)

    stem = str(tmp_path_factory.mktemp("demo") / "x")
    return play(server.url(), 7, stem, disk(), say), lines, seen


def test_every_promise_is_kept_and_both_logs_replay(told: tuple[Shared, list[str], list[str]], server: Server) -> None:
    result, lines, _ = told
    assert [text for text, kept in result.promises if not kept] == []
    assert len(result.promises) == 12
    assert [(log.name, log.verdict.kind, log.verdict.sealed) for log in result.logs] == [("one", Kind.SAME, True), ("two", Kind.SAME, True)]
    assert all(log.frozen_at for log in result.logs)
    assert (result.open_at_venue, result.exit_code) == (0, 0)
    said = "\n".join(lines)
    assert "KILLED" in said
    assert re.search(r"two +has the lease of the sweep: fence 1 of the store's epoch \d+", said)
    assert "one  freezes: peer, edge_collapse: edge 3.2 bps" in said
    assert len(ended(lines)) == 4
    assert server.admin.dbsize() == 0


def test_no_process_shows_the_url_in_its_arguments(told: tuple[Shared, list[str], list[str]], server: Server) -> None:
    _, _, seen = told
    workers = [line for line in seen if "demo_worker" in line]
    assert len(workers) >= 2
    assert str(server.port) not in "".join(seen)


def test_a_broken_promise_is_said_and_makes_the_exit_code_1(told: tuple[Shared, list[str], list[str]]) -> None:
    result, _, _ = told
    assert list(_shared_ending(result))[1] == "KEPT     12 of 12 promises of this story"
    broken = attrs.evolve(result, promises=(("it rains", False), *result.promises))
    assert broken.exit_code == 1
    assert list(_shared_ending(broken))[1:3] == ["KEPT     12 of 13 promises of this story", "NOT SO   it rains"]
    assert list(_shared_ending(broken))[-1] == "exit 1"
    verdict = attrs.evolve(result.logs[1].verdict, kind=Kind.DIVERGED, exit_code=3)
    assert attrs.evolve(result, logs=(result.logs[0], attrs.evolve(result.logs[1], verdict=verdict))).exit_code == 3


def test_the_program_with_the_other_one_killed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORE_PORT", str(server.port))
    result = run("--store", "redis://127.0.0.1:${STORE_PORT}", "--seed", "8")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert "KEPT     12 of 12 promises of this story" in lines
    assert len([line for line in lines if re.match(r"REPLAY   (one|two): SAME: [\d,]+ records read again", line)]) == 2
    assert any("the edge of one falls" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["haltcore-demo-shared-8-one.jsonl", "haltcore-demo-shared-8-two.jsonl"]
    assert free_stem("haltcore-demo-shared-8", disk()) == "haltcore-demo-shared-8-2"
    assert CliRunner().invoke(main, ["replay", "haltcore-demo-shared-8-one.jsonl"]).exit_code == 0
    ended(lines)
    assert server.admin.dbsize() == 0


def test_logs_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    stem = str(tmp_path / "x")
    Path(log_names(stem)[1]).write_text("mine")
    with pytest.raises(JournalFailed, match="is there already"):
        play("redis://127.0.0.1:1", 7, stem, disk(), print)
    result = run("--store", "redis://127.0.0.1:1", "--journal", f"{stem}.jsonl")
    assert (result.exit_code, "x-two.jsonl" in result.output) == (1, True)
    assert Path(log_names(stem)[1]).read_text() == "mine"


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    result = run("--store", f"redis://127.0.0.1:{free_port()}", "--journal", str(tmp_path / "x.jsonl"))
    assert result.exit_code == 1
    assert "no connection; does the server run there?" in result.output
    assert f"\nTo start one on this machine: {demo_shared.SERVER}\n" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ill", ["readonly", "full", "no_rights"])
def test_a_store_that_takes_no_writes_ends_it_at_once_and_is_named(ill: str, tmp_path: Path) -> None:
    with Server(options=("--maxmemory", "1") if ill == "full" else ()) as server:
        user = ""
        if ill == "readonly":
            server.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        elif ill == "no_rights":
            user = "mm:pw@"
            server.admin.execute_command("ACL", "SETUSER", "mm", "on", ">pw", "~{haltcore:*", "+@all", "-hset")
        since_s = time.monotonic()
        result = run("--store", f"redis://{user}127.0.0.1:{server.port}", "--journal", str(tmp_path / "x.jsonl"))
        assert time.monotonic() - since_s < 3
    assert result.exit_code == 1
    words = {"readonly": "READONLY: the server is a replica", "full": "OOM: the server has no memory", "no_rights": "NOPERM: "}
    assert words[ill] in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--store", "http://h"], "--store: this is no URL of a store"),
        (["--store", "redis://:${NO_SUCH_VARIABLE}@h"], "--store: the environment variable NO_SUCH_VARIABLE is not set"),
        (["--store", "redis://h", "--scenario", "edge"], "--scenario is for the demo without a store"),
        (["--store", "redis://h", "--quick"], "--quick is for"),
        (["--store", "redis://h", "--faults", "none"], "--faults is for"),
        (["--store", "redis://h", "--orders", "9"], "--orders is for"),
    ],
)
def test_usage(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 64
    assert text in result.output


def test_a_store_that_goes_away_ends_the_story_and_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_shared, "QUOTING_S", 0.5)
    lines: list[str] = []
    with Server() as server:

        def say(line: str) -> None:
            lines.append(line)
            if line.startswith("FREEZE"):
                server.kill()
                monkeypatch.setattr(demo_maker, "PATIENCE_S", 1.5)

        with pytest.raises(DemoFailed, match=r"two told nothing of 'latched' within 1.5 s"):
            play(server.url(), 7, str(tmp_path / "x"), disk(), say)
    assert len(ended(lines)) == 2


def test_a_spectator_that_is_gone_ends_it_too(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_shared, "QUOTING_S", 0.5)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "cancels" in line:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        play(server.url(), 7, str(tmp_path / "x"), disk(), say)
    assert len(ended(lines)) >= 2
    assert server.admin.dbsize() == 0


def test_ctrl_c_leaves_nothing(server: Server, tmp_path: Path) -> None:
    program = "from haltcore.adapters.cli import main; main(prog_name='haltcore')"
    command = [sys.executable, "-u", "-c", program, "demo", "--store", server.url(), "--journal", str(tmp_path / "x.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if "0.5 s" in line:
                break
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=10)
    assert running.returncode == 130, errors
    assert errors.startswith("\nstopped by Ctrl-C; the logs so far are ")
    assert "Traceback" not in rest + errors
    assert len(ended(lines)) == 2
    assert server.admin.dbsize() == 0


def test_a_storyteller_that_is_killed_takes_its_processes_with_it(server: Server, tmp_path: Path) -> None:
    program = "from haltcore.adapters.cli import main; main(prog_name='haltcore')"
    command = [sys.executable, "-u", "-c", program, "demo", "--store", server.url(), "--journal", str(tmp_path / "x.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if "0.5 s" in line:
                break
        running.kill()
    pids = [int(found[1]) for line in lines for found in [PROCESS.search(line)] if found]
    assert len(pids) == 2
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.admin.flushall()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
