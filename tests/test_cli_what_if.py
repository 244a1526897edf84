"""The what-if verb. Goal: it shows what the comparison found, as text and as JSON; every bad input ends with its exit code and a remedy.

Method: a demo log and a short hand-made one, read through click's runner under files of limits and single figures; damaged copies.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from haltcore.adapters import demo as demos
from haltcore.adapters.cli import main
from haltcore.adapters.cli_what_if import _money
from haltcore.adapters.disk import RealDisk
from haltcore.effects import bps, qty
from haltcore.fsm.events import ChangeLimits
from haltcore.fsm.exposure import UNPRICED
from haltcore.fsm.limits import LimitRule, Limits

from tests.counterfactuals import Taped, collapsing, log
from tests.helpers import BTC, SELL


def run(*arguments: str) -> Result:
    """One call of the program. Whatever is raised instead of an exit code fails the test."""
    result = CliRunner().invoke(main, ["what-if", *arguments], prog_name="haltcore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def as_json(*arguments: str) -> dict[str, Any]:
    """The output of a call that succeeds."""
    result = run(*arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def written(session: Taped, path: Path, cuts: tuple[int, ...] = ()) -> str:
    """The session's log as files; the path of the first."""
    for number, source in enumerate(log(session.steps, cuts), 1):
        name = path if number == 1 else path.with_name(f"{path.stem}.{number:04}{path.suffix}")
        name.write_bytes(b"".join(source.chunks))
    return str(path)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> demos.Result:
    """A short demo on the real disk; its edge falls to 3.2 bps at the end, and its threshold is 5."""
    path = str(tmp_path_factory.mktemp("logs") / "demo.jsonl")
    return demos.play(demos.Plan(seed=7, orders=16, freeze_at_s=10), path, RealDisk(threaded=False), lambda _: None)


@pytest.fixture
def fallen(tmp_path: Path) -> tuple[str, dict[str, int]]:
    """The log of edges that fall, and the records of what matters."""
    session, at = collapsing()
    return written(session, tmp_path / "fallen.jsonl"), at


# --- what it finds ------------------------------------------------------------------------------------------------------


def test_the_same_limits_over_the_demo(demo: demos.Result) -> None:
    found = as_json(demo.files[0], "--set", "edge_freeze_threshold_bps=5")
    assert found["changed"] == []
    assert (found["first"], found["rulings"], found["supposed"]) == (0, [], 0)
    assert found["recorded"] == found["other"]
    assert all(point["recorded"] == point["other"] for point in found["series"])
    text = run(demo.files[0], "--set", "edge_freeze_threshold_bps=5").output
    assert "Nothing differs" in text
    assert "has these figures already" in text


def test_a_higher_threshold_over_the_demo(demo: demos.Result) -> None:
    found = as_json(demo.files[0], "--set", "edge_freeze_threshold_bps=15")
    (recorded,), (other,) = found["recorded"]["freezes"], found["other"]["freezes"]
    assert recorded["record"] == demo.frozen_at
    assert other["record"] == found["first"] < demo.frozen_at
    assert "below 15 bps" in other["reason"]
    assert found["other"]["end"]["open_orders"] == 0
    frozen = [ruling for ruling in found["rulings"] if ruling["other"] == "frozen"]
    assert len(frozen) == found["other"]["denied"]["frozen"] - found["recorded"]["denied"]["frozen"] > 0
    assert all(ruling["replace"] for ruling in found["rulings"] if ruling not in frozen)


def test_the_text(fallen: tuple[str, dict[str, int]]) -> None:
    path, at = fallen
    text = run(path, "--set", "edge_freeze_threshold_bps=15").output
    lines = text.splitlines()
    assert lines[0] == "WHAT IF  edge_freeze_threshold_bps 15 instead of 5 (account)"
    assert f"{path}: {len(collapsing()[0].steps)} records" in text
    assert any(line.split() == ["orders", "and", "replaces", "sent", "5", "4"] for line in lines)
    assert any(line.split() == ["frozen", "1", "2"] for line in lines)
    assert f"It would have frozen 2.000 s earlier, in record {at['edge 14']} instead of {at['edge 3']}." in text
    assert any(line.split()[0] == str(at["after"]) and line.split()[-2:] == ["sent", "frozen"] for line in lines if line)
    assert "One order or replace that went out would have been denied: 1 frozen." in text
    assert "Assumed: market, bot and operators do the same" in text
    assert "estimate" not in text
    assert max(map(len, lines)) <= max(100, len(path) + 60)


def test_a_freeze_that_never_came_is_an_estimate(fallen: tuple[str, dict[str, int]]) -> None:
    path, at = fallen
    text = run(path, "--set", "edge_freeze_threshold_bps=none").output
    assert "edge_freeze_threshold_bps none instead of 5 (account)" in text
    assert "It would not have frozen." in text
    assert f"From record {at['edge 3'] + 1} on this is an estimate: there are 3 orders" in " ".join(text.split())
    assert "Denied in the log, one order or replace would have gone out: 1 frozen." in text


def test_a_freeze_where_there_was_none_and_one_for_another_reason(tmp_path: Path) -> None:
    session = Taped()
    session.mark(100)
    session.edge("7")
    path = written(session, tmp_path / "a.jsonl")
    text = run(path, "--set", "edge_freeze_threshold_bps=8").output
    assert f"It would have frozen, in record {session.last}: edge 7" in text
    session = Taped(limits=Limits(edge_freeze_threshold_bps=bps("8")))
    session.edge("7")
    first = session.last
    session.wait(5)
    session.freeze(reason="enough")
    path = written(session, tmp_path / "b.jsonl")
    text = " ".join(run(path, "--set", "edge_freeze_threshold_bps=none").output.split())
    assert f"0.005 s later, in record {session.last} instead of {first}, for another reason: enough." in text


def test_replaces_of_orders_that_never_were(tmp_path: Path) -> None:
    session = Taped()
    session.mark(100)
    key = session.working(amount=9)
    session.replace(key, 8)
    text = run(written(session, tmp_path / "a.jsonl"), "--set", "max_order_qty=3").output
    assert "1 replace that went out would have had no open order to replace." in text
    assert "One order or replace that went out would have been denied: 1 max_order_qty." in text


def test_money_is_cut_off_at_the_cent() -> None:
    assert _money(UNPRICED) == "no bound"
    thousandths = (1_234_567_891, -1_234_567_891, 0, 9, -9, -10, 1_000)
    assert [_money(n * 10**21) for n in thousandths] == ["1,234,567.89", "-1,234,567.89", "0.00", "0.00", "0.00", "-0.01", "1.00"]


def test_many_differences_are_cut_in_the_text_and_whole_in_the_json(tmp_path: Path) -> None:
    session = Taped()
    session.mark(100)
    for number in range(14):
        session.working(SELL, amount=4, at=100 + number)
    path = written(session, tmp_path / "a.jsonl")
    text = run(path, "--set", "max_order_qty=3").output
    assert "14 orders and replaces are ruled on differently; the first 10:" in text
    assert "and 4 more; -o json has them all" in text
    found = as_json(path, "--set", "max_order_qty=3")
    assert len(found["rulings"]) == 14
    key = min(session.core.orders)
    assert found["rulings"][0] == {
        "record": key, "utc": "2001-09-09 01:46:40.000", "order": key, "client_id": session.client_id(key), "symbol": BTC, "side": "sell",
        "qty": "4", "price": "100", "stop_price": None, "replace": False, "recorded": "sent", "other": "max_order_qty",
    }  # fmt: skip


# --- what may be asked for ----------------------------------------------------------------------------------------------


def test_a_file_of_limits_and_single_figures_on_top(fallen: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    path, at = fallen
    file = tmp_path / "limits.toml"
    section = f"[limits.symbol.{BTC}]"
    lines = ("[limits]", "edge_freeze_threshold_bps = 15", section, 'max_order_qty = "5"', "[triggers]", "breaker_open = true")
    file.write_text("\n".join(lines))
    found = as_json(path, "--limits", str(file))
    assert [(c["rule"], c["figure"], c["recorded"], c["other"]) for c in found["changed"]] == [
        ("account", "edge_freeze_threshold_bps", "5", "15"), (f"symbol {BTC}", "max_order_qty", "none", "5"),
        ("triggers", "breaker_open", "none", "true"),
    ]  # fmt: skip
    assert [r["other"] for r in found["rulings"]] == ["max_order_qty", "frozen", "max_order_qty"]
    found = as_json(path, "--limits", str(file), "--set", "edge_freeze_threshold_bps=4", "--set", "max_open_orders=1")
    assert [c["figure"] for c in found["changed"]] == ["edge_freeze_threshold_bps", "max_open_orders", "max_order_qty", "breaker_open"]
    assert found["other"]["freezes"][0]["record"] == at["edge 3"]


def test_of_a_whole_file_of_settings_the_limits_are_taken(fallen: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    file = tmp_path / "bot.toml"
    file.write_text('session = "other01"\nsymbols = ["DOGE"]\nseed = 9\n[limits]\nedge_freeze_threshold_bps = 15\n[sweep]\nattempts = 1\n')
    found = as_json(fallen[0], "--limits", str(file))
    assert [(c["rule"], c["figure"], c["recorded"], c["other"]) for c in found["changed"]] == [
        ("account", "edge_freeze_threshold_bps", "5", "15")
    ]  # fmt: skip


def test_where_a_figure_applies(tmp_path: Path) -> None:
    session = Taped(strategies=("mm", "hedge"), rules=(LimitRule(Limits(max_order_qty=qty(50)), strategy="mm"),))
    session.mark(100)
    session.working(amount=9, strategy="mm")
    one = session.last - 2
    session.working(amount=9, strategy="hedge")
    path = written(session, tmp_path / "a.jsonl")
    found = as_json(path, "--set", "max_order_qty=3", "--strategy", "mm")
    assert found["changed"] == [{"rule": "strategy mm", "figure": "max_order_qty", "recorded": "50", "other": "3"}]
    assert [r["record"] for r in found["rulings"]] == [one]
    both = as_json(path, "--set", "max_order_qty=3", "--strategy", "hedge", "--symbol", BTC)
    assert both["changed"][0]["rule"] == f"strategy hedge, symbol {BTC}"
    assert [r["record"] for r in both["rulings"]] == [one + 3]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 64, "say what is to be different"),
        (("--set", "max_order_qty"), 64, "write figure=value"),
        (("--set", "=3"), 64, "write figure=value"),
        (("--set", "max_order=3"), 64, "is no figure; there are max_inventory_usd"),
        (("--set", "max_order_qty=lots"), 64, "max_order_qty"),
        (("--set", "max_order_qty=1", "--set", "max_order_qty=2"), 64, "given twice"),
        (("--symbol", BTC, "--limits", "x.toml"), 64, "say where --set applies"),
        (("--set", "max_order_qty=1", "--symbol", "DOGE"), 1, "'DOGE' is not among the symbols"),
        (("--set", "max_order_qty=-1"), 1, "max_order_qty"),
        (("--limits", "no-such-file.toml"), 1, "no-such-file.toml"),
    ],
)
def test_bad_questions(fallen: tuple[str, dict[str, int]], arguments: tuple[str, ...], code: int, says: str) -> None:
    result = run(fallen[0], *arguments)
    assert result.exit_code == code, result.output
    assert says in result.output


def test_a_file_with_faults_says_them_all(fallen: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[limits]\nmax_ordr_qty = 3\nmax_open_orders = -1\n")
    result = run(fallen[0], "--limits", str(file))
    assert result.exit_code == 1
    assert "max_ordr_qty" in result.output
    assert "max_open_orders" in result.output


# --- logs ---------------------------------------------------------------------------------------------------------------


def test_segments(tmp_path: Path) -> None:
    session, at = collapsing()
    whole = as_json(written(session, tmp_path / "whole.jsonl"), "--set", "edge_freeze_threshold_bps=15")
    path = written(session, tmp_path / "parts.jsonl", (at["before"], at["edge 3"]))
    parts = as_json(path, "--set", "edge_freeze_threshold_bps=15")
    assert len(parts["files"]) == 3
    for key in ("first", "recorded", "other", "rulings", "series"):
        assert parts[key] == whole[key]
    assert "the log has 3 segments" in run(path, "--set", "max_order_qty=1").output


def test_a_torn_log_is_read_as_far_as_it_goes(fallen: tuple[str, dict[str, int]]) -> None:
    path = Path(fallen[0])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-2], lines[-2][:30]]))
    result = run(str(path), "--set", "edge_freeze_threshold_bps=15")
    assert result.exit_code == 0
    assert "torn tail of 30 bytes" in result.output


def test_a_broken_log_is_not_compared(fallen: tuple[str, dict[str, int]]) -> None:
    path = Path(fallen[0])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:8], lines[8].replace(b"1", b"2", 1), *lines[9:]]))
    for output in ("text", "json"):
        result = run(str(path), "--set", "edge_freeze_threshold_bps=15", "-o", output)
        assert result.exit_code == 2
        assert "BROKEN" in result.stderr
        assert "WHAT IF" not in result.output
    assert json.loads(result.stdout)["kind"] == "broken"


def test_a_log_of_another_core_is_not_compared(tmp_path: Path) -> None:
    session, at = collapsing()
    event, effects, core = session.steps[at["edge 14"] - 1]
    session.steps[at["edge 14"] - 1] = event, session.steps[at["edge 3"] - 1][1], core
    result = run(written(session, tmp_path / "a.jsonl"), "--set", "edge_freeze_threshold_bps=15")
    assert result.exit_code == 3
    assert effects == ()


def test_a_log_that_is_not_there_and_one_that_never_began(tmp_path: Path) -> None:
    assert run(str(tmp_path / "none.jsonl"), "--set", "max_order_qty=1").exit_code == 1
    path = tmp_path / "a.jsonl"
    path.write_bytes(next(iter(log(Taped().steps)[0].chunks)))
    result = run(str(path), "--set", "max_order_qty=1")
    assert result.exit_code == 1
    assert "has not begun" in result.output


def test_nothing_is_written(demo: demos.Result) -> None:
    folder = Path(demo.files[0]).parent
    before = {path: path.read_bytes() for path in folder.iterdir()}
    run(demo.files[0], "--set", "max_order_qty=1")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_change_in_the_log_is_said_to_hold_instead(tmp_path: Path) -> None:
    session = Taped(limits=Limits(max_order_qty=qty(50)))
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_order_qty=qty(40))), "ops", "x"))
    session.mark(100)
    session.working(amount=30)
    path = written(session, tmp_path / "a.jsonl")
    changed = session.last - 4
    sentence = f"From record {changed} the log's change of max_order_qty (account: 40) holds instead."
    assert sentence in run(path, "--set", "max_order_qty=7").output
    found = as_json(path, "--set", "max_order_qty=7")
    assert found["superseded"] == [
        {"record": changed, "utc": "2001-09-09 01:46:40.000", "rule": "account", "figure": "max_order_qty", "value": "40"}
    ]
    assert found["meaning"][0] == sentence
    assert "holds instead" not in run(path, "--set", "price_collar_bps=7", "--symbol", BTC).output


def test_a_rule_for_what_the_log_does_not_have_names_the_option(fallen: tuple[str, dict[str, int]]) -> None:
    result = run(fallen[0], "--set", "max_order_qty=1", "--symbol", "XX")
    assert "--symbol: 'XX' is not among the symbols of the log; it has BTCUSDT, ETHUSDT" in result.output
    assert "--strategy: 'XX' is not among the strategies of the log; it has none" in run(
        fallen[0], "--set", "max_order_qty=1", "--strategy", "XX").output
    assert "rules[" not in result.output
