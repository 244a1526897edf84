"""``haltcore demo`` and its stories on the command line. Goal: what it suggests to try works, and options that have no meaning are refused.

Method: each scenario through click's runner on the real disk; every command of its list of suggestions is then run as it is printed. What
the day's demo prints and how it fails is in ``test_cli.py``.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result
from haltcore.adapters import cli_demo, scenarios
from haltcore.adapters.cli import main
from haltcore.adapters.scenarios import SCENARIOS
from haltcore.fsm.limits import Limits


def run(*arguments: str) -> Result:
    """A command, in this process."""
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs are written to the folder one is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def suggested(output: str) -> list[list[str]]:
    """The commands of haltcore among the suggestions, as words."""
    found = re.findall(r"^  haltcore (.*?)(?: \| less| {3,}.*)?$", output, re.MULTILINE)
    return [shlex.split(command) for command in found]


@pytest.mark.parametrize("options", [["--quick"], *(["--scenario", name] for name in SCENARIOS)], ids=["day", *SCENARIOS])
def test_what_is_suggested_can_be_run(options: list[str]) -> None:
    shown = run("demo", *options)
    assert shown.exit_code == 0, shown.output
    commands = suggested(shown.output)
    verbs = [command[0] for command in commands]
    assert {"why", "what-if", "show", "replay"} <= set(verbs)
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, (command, result.output)
    (sed,) = [line for line in shown.output.splitlines() if line.startswith("  sed ")]
    number, log = re.match(r"  sed '(\d+)s/1/2/' (\S+) > changed.jsonl; haltcore replay changed.jsonl$", sed).groups()  # type: ignore[union-attr]
    lines = Path(log).read_text().splitlines(keepends=True)
    lines[int(number) - 1] = lines[int(number) - 1].replace("1", "2", 1)
    Path("changed.jsonl").write_text("".join(lines))
    assert run("replay", "changed.jsonl").exit_code == 2


def test_the_day_suggests_a_sooner_freeze() -> None:
    assert ["what-if", "haltcore-demo-7.jsonl", "--set", "edge_freeze_threshold_bps=15"] in suggested(run("demo", "--quick").output)


def test_the_day_says_what_the_gate_denied() -> None:
    output = run("demo", "--quick").output
    assert re.search(r"^GATE     \d+ orders denied on the way: .*1 frozen", output, re.MULTILINE)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_story_in_json(name: str) -> None:
    told = json.loads(run("demo", "--scenario", name, "--seed", "3", "-o", "json").output)
    assert told["scenario"] == name
    assert told["files"] == [f"haltcore-demo-{name}-3.jsonl"]
    assert set(told["promises"].values()) == {True}
    assert (told["verdict"]["kind"], told["exit_code"]) == ("same", 0)


@pytest.mark.parametrize("option", [["--quick"], ["--orders", "40"], ["--faults", "mild"]])
def test_options_of_the_day_are_refused_by_a_story(option: list[str], here: Path) -> None:
    refused = run("demo", "--scenario", "edge", *option)
    assert refused.exit_code == 64
    assert f"{option[0]} is for the day" in refused.output
    assert list(here.iterdir()) == []


def test_a_story_never_overwrites(here: Path) -> None:
    assert run("demo", "--scenario", "manual").exit_code == 0
    assert run("demo", "--scenario", "manual").exit_code == 0
    assert sorted(path.name for path in here.iterdir() if path.suffix == ".jsonl") == [
        "haltcore-demo-manual-7-2.jsonl", "haltcore-demo-manual-7.jsonl",
    ]  # fmt: skip
    again = run("demo", "--scenario", "edge", "--journal", "haltcore-demo-manual-7.jsonl")
    assert again.exit_code == 1
    assert "never overwritten" in again.output


def test_a_promise_that_is_not_kept_shows_in_the_end_and_in_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: dict[str, Any] = {**SCENARIOS, "edge": attrs.evolve(SCENARIOS["edge"], limits=Limits())}
    monkeypatch.setattr(scenarios, "SCENARIOS", changed)
    shown = run("demo", "--scenario", "edge")
    assert shown.exit_code == 1
    assert "KEPT     3 of 4 promises" in shown.output
    assert shown.output.count("NOT SO   the edge below the threshold freezes") == 2
    assert shown.output.rstrip().endswith("exit 1")


def test_the_choice_is_the_day_and_every_story() -> None:
    assert f"[{'|'.join([cli_demo.DAY, *SCENARIOS])}]" in run("demo", "--help").output
