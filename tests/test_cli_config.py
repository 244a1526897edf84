"""``haltcore check-config``. Goal: a file that can run gives 0 and what it comes to, any other 1 and all that is wrong.

Method: the command through click's runner, on files of both kinds.
"""

import json
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result
from haltcore.adapters.cli import main
from haltcore.adapters.cli_config import config_hash
from haltcore.adapters.settings import load, parse
from haltcore.adapters.settings_guide import example
from haltcore.adapters.settings_text import to_toml

from tests.test_settings import BROKEN, FULL


def run(*arguments: str) -> Result:
    """One call of the program. Whatever is raised instead of an exit code fails the test."""
    result = CliRunner().invoke(main, ["check-config", *arguments], prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "mm.toml"
    file.write_text(FULL)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.toml"
    file.write_text(BROKEN)
    return file


def test_five_faults_at_once(bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bad.parent)
    result = run("bad.toml")
    assert result.exit_code == 1
    assert result.stdout == """\
bad.toml: 5 faults
bad.toml:4: two_persons: the text "yes" is neither true nor false
    expected true or false; for example: two_persons = true
bad.toml:7: limits.max_inventory_usd: the float 10000.5 is not exact
    expected an exact number above 0, in quotes unless it is whole, or "none"; for example: max_inventory_usd = "10000.5"
bad.toml:8: limits.max_order_vlaue: unknown; did you mean max_order_value?
    for example: max_order_value = 2500
bad.toml:10: limits.symbol.BTCUSD: "BTCUSD" is not among the symbols; did you mean "BTCUSDT"?
    expected one of BTCUSDT, ETHUSDT
bad.toml:16: limits.window[0].max_daily_loss: has no meaning for window 22:00-06:00 UTC; \
give it in a rule for: account, symbol, strategy, without window or band
"""


def test_faults_as_json(bad: Path) -> None:
    result = run(str(bad), "-o", "json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["file"], answer["runs"], answer["exit_code"], answer["more"]) == (str(bad), False, 1, 0)
    assert [fault["line"] for fault in answer["faults"]] == [4, 7, 8, 10, 16]
    assert answer["faults"][0] == {
        "file": str(bad), "line": 4, "key": "two_persons", "problem": 'the text "yes" is neither true nor false',
        "expected": "true or false", "example": "two_persons = true",
    }  # fmt: skip


def test_what_can_run_is_summed_up(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(good.parent)
    result = run("mm.toml")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[5:8] == [
        "  store        nowhere", "  account      none; give account in [store], the same in every process of the account",
        "  NOT HERE     where is the store? Give url in [store] of the settings, or set the environment variable HALTCORE_STORE_URL",
    ]  # fmt: skip
    del lines[5:8]
    assert lines[:6] == [
        "mm.toml: can run",
        "  session      mm00001",
        "  symbols      BTCUSDT, ETH/USDT:USDT",
        "  strategies   mm, arb",
        "  restricted   BTCUSDT",
        f"  hash         {config_hash(parse(FULL).config)}",
    ]
    assert lines[7:10] == [
        "LIMITS", "  account", "    max_inventory_usd            10000  worst-case value of one symbol, on the order's side"
    ]  # fmt: skip
    band = lines.index("  symbol BTCUSDT, band high")
    assert lines[band + 1].split()[:2] == ["max_inventory_usd", "5000"]
    assert "  not limited anywhere: max_order_value" in lines
    assert "  reject_storm   more than 10/1m" in lines
    assert "  clock_jump_ms  500" in lines
    assert "  cool_down      network: lifted after 5000 ms, doubled up to 60000 ms; a person after 3 within 3600000 ms" in lines
    assert "  BTCUSDT: tick 0.1, lot 0.001, min_qty 0.001, max_qty 1000, min_notional 100, multiplier 1, linear" in lines
    assert "  ETH/USDT:USDT: multiplier 10, inverse" in lines


def test_store_and_breaker_are_summed_up_without_any_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "s3cret")
    file = tmp_path / "shared.toml"
    file.write_text('symbols = ["A"]\n[store]\nconfigured = true\nurl = "redis://:${PW}@h/0"\naccount = "main"\n[breaker]\n')
    result = run(str(file))
    assert result.exit_code == 0
    assert "  store        redis://:${PW}@h/0\n  account      main\n" in result.stdout
    assert "  breaker        opens at 10 failed placements within 300000 ms; after 60000 ms 3 may try\n" in result.stdout
    shown = run(str(file), "--show").stdout
    assert 'url = "redis://:${PW}@h/0"\naccount = "main"\n' in shown
    answer = run(str(file), "-o", "json").stdout
    where = "redis://:${PW}@h/0"
    assert json.loads(answer)["store"] == {"url": where, "account": "main", "connects_to": where, "problem": ""}
    assert "s3cret" not in result.stdout + shown + answer
    file.write_text(file.read_text().replace("= true", "= false").replace("[breaker]\n", "[breaker]\nopen_ms = 0\n"))
    assert "redis://:${PW}@h/0; not used, configured = false\n" in run(str(file)).stdout
    assert "within 300000 ms; a person closes it\n" in run(str(file)).stdout


def test_what_the_environment_does_to_the_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PW", raising=False)
    file = tmp_path / "shared.toml"
    text = 'symbols = ["A"]\n[store]\nconfigured = true\nurl = "redis://:${PW}@h/0"\naccount = "main"\n'
    file.write_text(text)
    result = run(str(file))
    assert "  NOT HERE     the environment variable PW is not set" in result.stdout
    assert "PW is not set" in json.loads(run(str(file), "-o", "json").stdout)["store"]["problem"]
    monkeypatch.setenv("HALTCORE_STORE_URL", "redis://:s3cret@h2:7/1")
    told = run(str(file)).stdout
    assert "  store        redis://h2:7/1 (HALTCORE_STORE_URL, instead of redis://:${PW}@h/0)\n" in told
    assert "NOT HERE" not in told
    assert "s3cret" not in told
    monkeypatch.delenv("HALTCORE_STORE_URL")
    file.write_text('symbols = ["A"]\n[store]\nconfigured = true\n')
    told = run(str(file)).stdout
    assert "  store        nowhere\n  account      none; give account in [store]" in told
    assert "  NOT HERE     where is the store?" in told


def test_a_session_beside_a_shared_store_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "shared.toml"
    store = '[store]\nconfigured = true\nurl = "redis://h"\naccount = "main"\n'
    for session, configured, noted in (("session", True, True), ("session", False, False), ("", True, False)):
        line = 'session = "mm00001"\n' if session else ""
        file.write_text(f'{line}symbols = ["A"]\n{store if configured else ""}')
        assert (f"{file}:1: session: processes that share a store need a session each" in run(str(file)).stdout) is noted


def test_a_file_without_limits_says_so(tmp_path: Path) -> None:
    file = tmp_path / "bare.toml"
    file.write_text('symbols = ["A"]')
    result = run(str(file))
    assert result.exit_code == 0
    assert "  session      drawn at the start\n" in result.stdout
    assert "LIMITS   none at all" in result.stdout
    assert "cool_down      none: only a person lifts a freeze\n  breaker        none\n" in result.stdout
    assert "  store " not in result.stdout


def test_show_prints_what_could_stand_in_the_file(good: Path, tmp_path: Path) -> None:
    shown = run(str(good), "--show").stdout
    assert shown == to_toml(load(good).config, load(good).instruments)
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert load(again) == load(good)
    assert run(str(again), "--show").stdout == shown
    good.write_text('symbols = ["A"]')
    assert run(str(good), "--show").stdout.startswith('symbols = ["A"]\n')


def test_show_keeps_its_output_free_of_faults(bad: Path) -> None:
    result = run(str(bad), "--show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "5 faults" in result.stderr


def test_the_effective_configuration_as_json(good: Path) -> None:
    answer = json.loads(run(str(good), "-o", "json").stdout)
    assert (answer["runs"], answer["exit_code"], answer["hash"]) == (True, 0, config_hash(parse(FULL).config))
    assert [note["key"] for note in answer["notes"]] == ["session"]
    assert answer["config"]["session"] == "mm00001"
    assert answer["config"]["limits"]["max_total_notional"] == "50000.5"
    assert {"rule": "account", "figure": "message_rate", "value": "100/1s"} in answer["limits"]
    assert {"rule": "account", "figure": "max_order_qty", "value": "1.5"} in answer["limits"]
    assert answer["instruments"]["BTCUSDT"]["tick"] == "0.1"
    assert answer["instruments"]["ETH/USDT:USDT"]["inverse"] is True
    good.write_text('symbols = ["A"]')
    assert json.loads(run(str(good), "-o", "json").stdout)["config"]["session"] is None


def test_the_hash_is_of_what_is_configured_and_not_of_how_it_is_written() -> None:
    config = parse(FULL).config
    assert config_hash(parse(to_toml(config)).config) == config_hash(config)
    assert config_hash(attrs.evolve(config, session="zzzzzzz")) == config_hash(config)
    assert config_hash(attrs.evolve(config, evidence_ms=2_001)) != config_hash(config)


def test_the_example_is_printed_and_can_run(tmp_path: Path) -> None:
    result = run("--example")
    assert (result.exit_code, result.stdout) == (0, example())
    file = tmp_path / "bot.toml"
    file.write_text(result.stdout)
    result = run(str(file))
    assert result.exit_code == 0
    assert "  session      drawn at the start\n" in result.stdout
    assert "NOTES" not in result.stdout


def test_a_figure_that_can_never_bind_is_a_note_and_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'symbols = ["A"]\n[limits]\nmax_order_value = 1000\n[limits.band.high]\nmax_order_value = 2000\n'
    Path("mm.toml").write_text(text)
    result = run("mm.toml")
    problem = "2000 can never bind, since 1000 always holds (account); give less, or leave it out"
    assert result.exit_code == 0
    assert result.stdout.endswith(
        "\n\nNOTES   this can run, and is probably not what you mean\n"
        f"  mm.toml:5: limits.band.high.max_order_value: {problem}\n"
    )  # fmt: skip
    answer = json.loads(run("mm.toml", "-o", "json").stdout)
    assert (answer["runs"], answer["exit_code"]) == (True, 0)
    assert answer["notes"] == [
        {"file": "mm.toml", "line": 5, "key": "limits.band.high.max_order_value", "problem": problem, "expected": "", "example": ""}
    ]  # fmt: skip
    assert "never bind" not in run("mm.toml", "--show").stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.toml", "b.toml"], ["a.toml", "-o", "xml"], ["a.toml", "--example"], ["--example", "--show"], ["--example", "-o", "json"]],
)
def test_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 64


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run(str(tmp_path / "no.toml"))
    assert result.exit_code == 1
    assert "no.toml: cannot be read: No such file or directory" in result.stdout


def test_what_would_move_the_cursor_is_shown_as_an_escape(tmp_path: Path) -> None:
    file = tmp_path / "odd\x07.toml"
    file.write_text('symbols = ["A"]\n"\\u001b[2J" = 1\n["\\u009b1m"]\n')
    result = run(str(file))
    assert result.exit_code == 1
    assert not {"\x07", "\x1b", "\x9b"} & set(result.output)
