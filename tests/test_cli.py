"""The command line. Goal: every end has its exit code and a line that says what to do, and no bad input gives a traceback.

Method: one demo log per module, read by every verb through click's runner; copies of it damaged, forged, cut and renamed; logs made by a
core with one rule changed; and a few real processes, for what a runner cannot show: closed pipes, Ctrl-C, a narrow encoding.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from haltcore.adapters import demo as demos
from haltcore.adapters.cli import main
from haltcore.adapters.cli_demo import Screen
from haltcore.adapters.disk import RealDisk
from haltcore.adapters.journal import Journal
from haltcore.adapters.runner import Runner
from haltcore.fsm import invariants, order_rules
from haltcore.fsm.invariants import Invariant
from haltcore.fsm.order_change import Note
from haltcore.fsm.record import FORMAT

PROGRAM = [sys.executable, "-c", "from haltcore.adapters.cli import main; main(prog_name='haltcore')"]
VERBS = (["replay"], ["show"], ["why", "--seq", "3"])


def run(*arguments: str) -> Result:
    """One call of the program. Whatever is raised instead of an exit code fails the test."""
    result = CliRunner().invoke(main, arguments, prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> demos.Result:
    """A short demo on the real disk."""
    return record(tmp_path_factory.mktemp("logs") / "demo.jsonl")


def unheard(line: str) -> None:
    """Nobody looks on."""


def record(path: Path, seconds: int = 10) -> demos.Result:
    """A demo with this journal."""
    return demos.play(demos.Plan(orders=16, freeze_at_s=seconds), str(path), RealDisk(threaded=False), unheard)


@pytest.fixture
def log(played: demos.Result, tmp_path: Path) -> Path:
    """A copy of the log, to be damaged."""
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(played.files[0]).read_bytes())
    return copy


# --- the program ----------------------------------------------------------------------------------------------------


def test_help_names_every_exit_code_and_verb() -> None:
    text = run("--help").output
    for word in ("demo", "replay", "show", "why", "  0 ", "  1 ", "  2 ", "  3 ", "  4 ", "  5 ", "  64 ", "130", "141"):
        assert word in text
    for verb in ("demo", "replay", "show", "why"):
        assert run(verb, "--help").exit_code == 0
    assert "simulated" in run("demo", "--help").output


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert f"format {FORMAT}," in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["fly"], ["replay"], ["show"], ["why", "x.jsonl"], ["why", "x.jsonl", "--seq", "1", "--order", "2"],
        ["demo", "--seed", "x"], ["demo", "--seed", "-1"], ["demo", "--faults", "some"], ["demo", "--orders", "3"], ["demo", "extra"],
        ["replay", "x.jsonl", "--until", "0"], ["show", "x.jsonl", "--only", "Banana"], ["show", "x.jsonl", "--at", "1", "--from", "2"],
        ["show", "x.jsonl", "--order", "?"], ["why", "x.jsonl", "--effect", "7"], ["replay", "x.jsonl", "-o", "xml"],
    ],
)  # fmt: skip
def test_usage_errors_are_not_called_broken(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 64


# --- demo -----------------------------------------------------------------------------------------------------------


def test_demo_tells_its_story_and_leads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--quick", "--orders", "16")
    assert result.exit_code == 0, result.output
    for word in ("TRADING", "FREEZE", "TRY", "PROOF    VERIFIED", "REPLAY   SAME", "by its own books: 0", "haltcore-demo-7.jsonl"):
        assert word in result.output
    commands = [line.split() for line in result.output.splitlines() if line.startswith("  haltcore why")]
    assert len(commands) == 3
    for command in commands:
        assert run(*command[1:5]).exit_code == 0
    second = run("demo", "--quick", "--orders", "16", "-o", "json")
    told = json.loads(second.output)
    assert told["files"] == ["haltcore-demo-7-2.jsonl"]
    assert (told["exit_code"], told["proof"]["verified"], told["verdict"]["kind"]) == (0, True, "same")
    assert Path("haltcore-demo-7.jsonl").read_bytes() == Path("haltcore-demo-7-2.jsonl").read_bytes()


def test_demo_never_overwrites(log: Path) -> None:
    before = log.read_bytes()
    result = run("demo", "--quick", "--journal", str(log))
    assert result.exit_code == 1
    assert "never overwritten" in result.output
    assert log.read_bytes() == before


def test_demo_where_it_cannot_write(tmp_path: Path) -> None:
    for path, word in ((tmp_path, "is a directory"), (tmp_path / "no" / "demo.jsonl", "no such file or directory")):
        result = run("demo", "--quick", "--journal", str(path))
        assert result.exit_code == 1
        assert word in result.output


def test_demo_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, data: bytes) -> None:  # noqa: ARG001
        raise OSError(28, "No space left on device", "demo.jsonl")

    class Filling(Runner):
        async def start(self) -> None:
            await super().start()
            monkeypatch.setattr("haltcore.adapters.disk.RealFile.write", full)

    monkeypatch.setattr(demos, "Runner", Filling)
    result = run("demo", "--quick", "--journal", str(tmp_path / "demo.jsonl"))
    assert result.exit_code == 1
    assert "the disk is full" in result.output
    assert "by its own books: 0" in result.output


# --- what cannot be read ----------------------------------------------------------------------------------------------


#: Content, exit code, and a word of what is said.
BAD = {
    "empty": (b"", 2, "the file is empty"),
    "junk": (bytes(range(256)) * 40, 2, "junk"),
    "escape": (b"\x1b[2J\x1b]0;owned\x07" * 10 + b"\n", 2, "junk"),
    "long": (b"x" * 10_000_000, 2, "junk"),
    "long_record": (b'{"n":1,"event":"' + b"x" * 10_000_000 + b'"}\n', 2, "altered"),
    "text": (b"hello\nworld\n", 2, "junk"),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\n" * 9, 2, "compressed"),
    "header_only": (b'{"haltcore":"0.1.0"}\n', 2, "altered"),
}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_log_is_broken(tmp_path: Path, verb: list[str], name: str) -> None:
    content, code, word = BAD[name]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    result = run(*verb, str(path))
    assert result.exit_code == code
    assert word in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_what_cannot_be_opened(tmp_path: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for path, word in ((tmp_path / "none.jsonl", "there is no log"), (tmp_path, "directory"), (tmp_path / "a" / "b", "no such file")):
        for output in ("text", "json"):
            result = run(*verb, str(path), "-o", output)
            assert result.exit_code == 1, path
            assert word in result.output
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(b"")

    def denied(self: object, name: str) -> Any:  # noqa: ARG001
        raise PermissionError(13, "Permission denied", name)

    # A test that runs as root may read everything.
    monkeypatch.setattr("haltcore.adapters.disk.RealDisk.read", denied)
    result = run(*verb, str(secret))
    assert result.exit_code == 1
    assert f"{secret}: no permission" in result.output


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_one_flipped_byte_names_its_line(log: Path, verb: list[str]) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    lines[99] = lines[99].replace(b"1", b"2", 1)
    log.write_bytes(b"".join(lines))
    result = run(*verb, str(log))
    assert result.exit_code == 2
    assert f"{log}, line 100" in result.output
    told = [json.loads(line) for line in run(*verb, str(log), "-o", "json").stdout.splitlines()][-1]
    assert (told["kind"], told["exit_code"]) == ("broken", 2)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_log_from_the_future(log: Path, verb: list[str]) -> None:
    first, rest = log.read_bytes().split(b"\n", 1)
    body = first[: first.index(b',"hash"')].replace(b'"format":%d' % FORMAT, b'"format":99')
    log.write_bytes(body + b',"hash":"%b"}\n' % hashlib.sha256(body).hexdigest().encode() + rest)
    result = run(*verb, str(log))
    assert result.exit_code == 5
    assert "format 99" in result.output


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_says_same(log: Path, played: demos.Result) -> None:
    result = run("replay", str(log), "--require-seal", "--strict")
    assert result.exit_code == 0
    assert "decides the same to the byte" in result.output
    told = json.loads(run("replay", str(log), "-o", "json").output)
    assert played.verdict is not None
    assert (told["kind"], told["exit_code"], told["digest"], told["sealed"]) == ("same", 0, played.verdict.digest, True)
    assert "core" not in told
    until = json.loads(run("replay", str(log), "--until", "50", "-o", "json").output)
    assert (until["last"], until["exit_code"]) == (50, 0)
    assert "ends before record" in run("replay", str(log), "--until", "999999").output


def test_replay_asks_for_the_seal_only_when_told(log: Path) -> None:
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1])[:-9])
    result = run("replay", str(log))
    assert result.exit_code == 0
    assert "torn tail" in result.output
    result = run("replay", str(log), "--require-seal")
    assert result.exit_code == 2
    assert "What is there are the bytes that haltcore wrote, but the log was not closed" in result.output
    assert "not the bytes" not in result.output
    told = json.loads(run("replay", str(log), "--require-seal", "-o", "json").output)
    assert (told["kind"], told["fault"]) == ("broken", "not sealed")
    assert "was not closed" in told["in_words"]
    log.write_bytes(log.read_bytes().replace(b"buy", b"bug", 1))
    assert "These are not the bytes that haltcore wrote" in run("replay", str(log), "--require-seal").output


def test_a_changed_rule_diverges_readably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.jsonl"
    with monkeypatch.context() as other:

        def suspicious(order: Any, report: Any, times: Any) -> Any:
            after, notes = order_rules.accept(order, report, times)
            return after, (*notes, Note.ASK)

        row = order_rules.TABLE["accepted"]
        other.setitem(order_rules.TABLE, "accepted", (suspicious, *row[1:]))
        assert record(path, seconds=3).exit_code == 0
    result = run("replay", str(path))
    assert result.exit_code == 3
    for word in ("DIVERGED", "at record", "recorded", "replayed", "QueryOrder", "before", "again", "decides otherwise"):
        assert word in result.output
    told = json.loads(run("replay", str(path), "-o", "json").output)
    assert told["divergence"]["only_replayed"] == []
    assert "QueryOrder" in told["divergence"]["only_recorded"][0]
    # What lies before the divergence can be explained, but not without a word about it.
    explained = run("why", str(path), "--seq", "2")
    assert explained.exit_code == 3
    assert "But:" in explained.output
    assert run("why", str(path), "--seq", "999").exit_code == 3
    assert run("show", str(path)).exit_code == 0


def test_a_broken_promise_is_unsafe(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = Invariant("SAFE-99", "nothing is ever done", lambda *step: "something was" if step[3] else "", None)
    monkeypatch.setattr(invariants, "INVARIANTS", (*invariants.INVARIANTS, never))
    result = run("replay", str(log))
    assert result.exit_code == 4
    assert "SAFE-99: something was" in result.output
    assert json.loads(run("replay", str(log), "-o", "json").output)["unsafe"]["n"] == 1


def test_segments_are_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "rotation_due", property(lambda journal: journal._records >= 150))
    played = record(tmp_path / "many.jsonl")
    assert len(played.files) >= 3
    first, second = played.files[:2]
    result = run("replay", first, "--require-seal")
    assert result.exit_code == 0
    assert f"{len(played.files)} segments" in result.output
    assert run("replay", *played.files).exit_code == 0
    assert run("replay", first, played.files[2]).exit_code == 2
    later = json.loads(run("replay", second, "-o", "json").output)
    assert later["files"] == list(played.files[1:])
    assert run("why", first, "--order", played.sample).output == run("why", *played.files, "--order", played.sample).output
    assert run("why", second, "--seq", str(played.frozen_at)).exit_code == 0
    Path(second).rename(tmp_path / "gone")
    result = run("replay", first)
    assert result.exit_code == 2
    assert "is missing" in result.output


# --- show and why -----------------------------------------------------------------------------------------------------


def test_show_selects(log: Path, played: demos.Result) -> None:
    records: Callable[..., list[int]] = lambda *options: [  # noqa: E731
        json.loads(line)["n"] for line in run("show", str(log), "-o", "json", *options).output.splitlines()
    ]
    assert played.verdict is not None
    assert records() == list(range(1, played.verdict.last + 1))
    assert records("--from", "5", "--to", "8") == [5, 6, 7, 8]
    assert records("--at", "5") == [5]
    assert records("--only", "edgeupdate", "--from", str(played.frozen_at))[0] == played.frozen_at
    by_id = records("--order", played.sample)
    assert by_id == records("--order", str(by_id[0]))
    assert len(by_id) >= 3
    assert records("--only", "SweepReport")
    nothing = run("show", str(log), "--from", "999999")
    assert nothing.exit_code == 1
    shown = run("show", str(log), "--at", str(played.frozen_at)).output
    assert "ModeChanged account is freezing (edge_collapse" in shown
    assert max(map(len, shown.splitlines())) < 140


def test_why_answers_in_one_sentence(log: Path, played: demos.Result) -> None:
    order = run("why", str(log), "--order", played.sample)
    assert order.exit_code == 0
    assert f"was cancelled by the freeze of record {played.frozen_at} (edge_collapse" in " ".join(order.output.split())
    denied = run("why", str(log), "--seq", str(played.denied_at)).output
    assert "<-- decides" in denied
    assert "was denied because of" in denied
    effect = json.loads(run("why", str(log), "--effect", f"{played.frozen_at}:2", "-o", "json").output)
    assert effect["sentence"].startswith("The cancel-all was sent in round 1 of the sweep, by the freeze of record")
    for options in (["--seq", "999999"], ["--effect", f"{played.frozen_at}:99"], ["--order", "4000000000"]):
        assert run("why", str(log), *options).exit_code == 1


# --- real processes -----------------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away(log: Path) -> None:
    with subprocess.Popen([*PROGRAM, "show", str(log)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 141


def test_ctrl_c(tmp_path: Path) -> None:
    command = [*PROGRAM, "demo", "--orders", "5000", "--journal", str(tmp_path / "demo.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(20) == 130
    assert "stopped by Ctrl-C" in said
    assert "Traceback" not in said
    assert run("replay", str(tmp_path / "demo.jsonl")).exit_code == 0


def test_a_terminal_that_cannot_show_a_letter(tmp_path: Path) -> None:
    path = tmp_path / "\u20ac.jsonl"
    path.write_bytes(b"hello\n")
    narrow = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([*PROGRAM, "replay", str(path)], capture_output=True, env=narrow, check=False, timeout=20)
    assert result.returncode == 2
    assert b"\\u20ac.jsonl, line 1" in result.stdout
    assert result.stderr == b""


def test_the_screen_keeps_pace_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    screen = Screen(silent=False)
    screen.on_jump(10**9)
    screen.say("FREEZE   now")
    screen.on_jump(2 * 10**9)
    screen.on_jump(7 * 10**9)
    assert slept == pytest.approx([0.1, 1.0, 2.3])


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_traceback(tmp_path: Path, closed: str) -> None:
    program = f"{sys.executable} -c 'from haltcore.adapters.cli import main; main()' replay {tmp_path / 'none.jsonl'}"
    done = subprocess.run(f"{program} {closed}", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [["replay"], ["show"], ["why", "--seq", "1"]])
def test_a_pipe_is_refused_at_once(tmp_path: Path, verb: list[str]) -> None:
    os.mkfifo(tmp_path / "f.jsonl")
    result = CliRunner().invoke(main, [*verb, str(tmp_path / "f.jsonl")], prog_name="haltcore")
    assert result.exit_code == 1
    assert "no regular file" in result.output
