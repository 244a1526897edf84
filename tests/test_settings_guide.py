"""The guide to the settings file. Goal: it names every key, its defaults are true, and the example runs and has everything.

Method: the example is read by the reader itself and looked through for every key; defaults are written into a file and change nothing.
"""

import re
import tomllib
from pathlib import Path

import pytest
from haltcore.adapters.settings import load, parse
from haltcore.adapters.settings_guide import PARTS, Part, example
from haltcore.adapters.settings_rows import ROWS
from haltcore.fsm.config import BreakerPolicy, Config
from haltcore.fsm.instrument import Instrument

PAGE = Path(__file__).parent.parent / "spec" / "settings.md"
#: What is configured by the section itself, whatever stands in it.
HEADED = ("[triggers.cool_down.NAME]", "[breaker]")
HEADERS = {"[triggers.cool_down.NAME]": "[triggers.cool_down.edge]\nwait_ms = 5\ncap_ms = 6", "[instrument.NAME]": "[instrument.A]"}


def test_the_parts_are_the_rows_that_files_are_read_by() -> None:
    keys = [key for part in PARTS for key in part.keys]
    assert keys == [key for rows in ROWS.values() for key in rows]
    assert [key.name for key in keys if not key.meaning] == []


def test_the_example_runs_without_a_note() -> None:
    settings = parse(example(), "example.toml")
    assert settings.notes == ()
    assert not settings.session_named
    assert list(settings.instruments) == ["BTCUSDT"]
    assert not settings.config.store.configured
    assert parse(re.sub("^# session", "session", example(), flags=re.MULTILINE)).session_named


def test_the_example_has_every_section_and_every_key() -> None:
    text = re.sub("^# session", "session", example(), flags=re.MULTILINE)
    found = tomllib.loads(text)
    limits, triggers = found["limits"], found["triggers"]
    (window,) = limits["window"]
    parts = [found[name] for name in ("venue", "sweep", "store", "breaker")]
    places = [found, limits, window, triggers, triggers["cool_down"]["network"], *parts]
    for part, place in zip(PARTS, [*places, found["instrument"]["BTCUSDT"]], strict=True):
        assert [key.name for key in part.keys if key.name not in place] == []
    assert {kind for kind in ("symbol", "strategy", "band") if limits[kind]} == {"symbol", "strategy", "band"}
    assert sorted(triggers["cool_down"]) == ["edge", "network"]


def test_the_example_says_what_each_key_means_and_is_not_too_wide() -> None:
    text = example()
    assert max(map(len, text.splitlines())) <= 120
    flowing = " ".join(re.sub(r"^ +# ", "", line) for line in text.splitlines())
    assert [key.name for part in PARTS for key in part.keys if key.meaning not in flowing] == []


def test_the_example_stands_on_the_page() -> None:
    assert f"```toml\n{example()}```\n" in PAGE.read_text("utf-8")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_a_default_that_is_written_changes_nothing(part: Part, tmp_path: Path) -> None:
    if part.title == "[[limits.window]]":
        assert set(part.defaults.values()) == {"any"}
        return
    header = HEADERS.get(part.title, part.title if part.title.startswith("[") else "")
    values = "\n".join(f"{name} = {text}" for name, text in part.defaults.items() if name != "session")
    top = 'symbols = ["A"]\n'
    file = tmp_path / "written.toml"
    file.write_text(f"{top}{header}\n{values}\n")
    found = load(file, "abcdefg")
    file.write_text(f"{top}{header if part.title in HEADED else ''}\n")
    assert found.config == load(file, "abcdefg").config
    if part.title != "[triggers.cool_down.NAME]":
        assert found.config == Config("abcdefg", ("A",), breaker=BreakerPolicy() if part.title == "[breaker]" else None)
    assert list(found.instruments.values()) == ([Instrument()] if part.title == "[instrument.NAME]" else [])
    required = {"[triggers.cool_down.NAME]": ["wait_ms", "cap_ms"], PARTS[0].title: ["symbols"]}
    assert [key.name for key in part.keys if key.name not in part.defaults] == required.get(part.title, [])
