"""Reading a file of settings as far as any such file goes. Goal: whatever the text, the answer is all faults with their lines.

Method: texts that are no TOML, nasty texts, and a small table of keys filled in wrongly.
"""

import re
import time

import pytest
from haltcore.adapters import settings_values as kinds
from haltcore.adapters.settings_file import MAX_BYTES, MAX_FAULTS, Document, Fault, Key, SettingsRefused
from haltcore.fsm.config import ConfigRefused
from hypothesis import given
from hypothesis import strategies as st

KEYS = (Key("count", kinds.whole, "a whole number", "5"), Key("names", kinds.texts, "an array of names", '["a"]'))


def refused(text: str) -> SettingsRefused:
    """What is said of a text that is not even read."""
    with pytest.raises(SettingsRefused) as refusal:
        Document(text, "f.toml", {})
    return refusal.value


# --- no TOML --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("a = \n", 1, "", "no TOML: .*, column 5"),
        ("# one\n\nsession = mm00001\n", 3, "", "no TOML: .*, column 11"),
        ("a = 1\n[t\nb = 2\n", 2, "", "no TOML: .*, column 3"),
        ("a = 1 b = 2\n", 1, "", "no TOML: .*, column 7"),
        ("a = 1\rb = 2\n", 1, "", "no TOML: .*, column 6"),
        ("a = 1\n\0\n", 2, "", "no TOML: .*, column 1"),
        ("a = 1\nb = 'x\n", 2, "", "no TOML: .*; what begins here has no end"),
        ('a = 1\nb = "x\nc = "y"\n', 2, "", "no TOML: .*, column 7"),
        ("a = 1\nb = [1,\n2,\n\n", 2, "", "no TOML: .*; what begins here has no end"),
        ("a = 1\n\nb = [1,\n2,\n\nc = 3\n", 6, "", "no TOML: .*, column 1; what it is in begins in line 3"),
        ('a = 1\nb = """\n[t]\nc = 3\n', 2, "", "no TOML: .*; what begins here has no end"),
        ("a = 1\n[t]\nb.'c d' = 2\nb.\"c d\" = 3\n", 4, 't.b."c d"', "stands a second time; the first is in line 3"),
        ("a = [\n1,\n]\na = 3\n", 4, "a", "stands a second time; the first is in line 1"),
        ("[t]\n[u]\n\n[t]\n", 4, "t", "stands a second time; the first is in line 1"),
        ("[[t]]\n[t]\n", 2, "t", "stands a second time; the first is in line 1"),
        ("t = { a = 1, a = 2 }\n", 1, "t.a", "stands a second time; the first is in line 1"),
        ("a = 1\na = 2 3\n", 2, "a", "stands a second time; the first is in line 1"),
        ("a = 1\nb = " + "9" * 5_000 + "\n", 2, "", "a number of thousands of digits"),
        ("a = " + "[" * 100_000, 0, "", "arrays or tables in one another, too deep to be read"),
        ("a = " + "{a=" * 100_000, 0, "", "arrays or tables in one another, too deep to be read"),
        ("#\n[a" + ".a" * 100_000 + "]\n", 2, "", "a name of more than 32 parts"),
        ("a = 1\n" + "#" * MAX_BYTES, 1, "", f"{MAX_BYTES + 6} characters; at most {MAX_BYTES} are read"),
        ("a = 1\nb = '\ud800'\n", 2, "", "a letter that cannot be written"),
    ],
    ids=range(23),
)
def test_no_toml_is_one_fault_with_its_line(text: str, line: int, key: str, problem: str) -> None:
    (fault,) = refused(text).faults
    assert (fault.file, fault.line, fault.key) == ("f.toml", line, key)
    assert re.fullmatch(problem, fault.problem)


def test_a_text_that_is_no_toml_is_not_shown_for_it_might_be_a_secret() -> None:
    assert "hunter2" not in str(refused("api_key = hunter2\n"))


@given(st.text(max_size=60) | st.text("ab=[]{}\"'#.\n,1\\ ", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Document(text, "f.toml", {})
    except SettingsRefused as refusal:
        (fault,) = refusal.faults
        assert 0 <= fault.line <= text.count("\n") + 1


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_the_text() -> None:
    doc = Document("\ufeff# settings\r\ncount = true\r\n", "f.toml", {})
    assert doc.root.values == {"count": True}
    doc.read(doc.root, KEYS)
    with pytest.raises(SettingsRefused, match=r"^f\.toml: 1 fault\nf\.toml:2: count: true is no whole number\n"):
        doc.refuse()


@pytest.mark.parametrize("line", ["k{n} = 1\n", "[k{n}]\nx = 1\n", "[[k]]\nx{n} = 1\n", "k{n}.a.b.c.d.e.f.g.h.i = 1\n"])
def test_a_large_file_of_nonsense_takes_seconds_at_most_and_tells_the_beginning(line: str) -> None:
    text = "".join(line.format(n=n) for n in range(20_000))
    begun = time.process_time()
    doc = Document(text, "f.toml", {})
    doc.read(doc.root, KEYS)
    with pytest.raises(SettingsRefused) as refusal:
        doc.refuse()
    assert time.process_time() - begun < 20
    faults, more = refusal.value.faults, refusal.value.more
    assert len(faults) == min(MAX_FAULTS, len(doc.root.values))
    assert len(faults) + more == len(doc.root.values)
    assert not more or str(refusal.value).endswith(f"f.toml: {more} more")
    assert [fault.line for fault in faults] == sorted(fault.line for fault in faults)


# --- keys and sections ----------------------------------------------------------------------------------------------


NAMES = 'expected an array of names; for example: names = ["a"]'
MANY = "many: written as one section, and there may be several\n    expected double brackets; for example: [[many]]"


def told(text: str) -> list[str]:
    """The faults of a text that is read by KEYS, with the sections ``one`` and ``many``."""
    doc = Document(text, "f.toml", {"depth": "in [sea]"})
    doc.read(doc.root, KEYS, ("one", "many", "named"))
    doc.read(doc.table(doc.root, "one"), KEYS)
    for table in doc.array(doc.root, "many"):
        doc.read(table, KEYS)
        doc.missing(table, KEYS, "count")
    for _, table in doc.tables(doc.root, "named"):
        doc.read(table, ())
    try:
        doc.refuse()
    except SettingsRefused as refusal:
        return [fault.text for fault in refusal.faults]
    return []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('count = 1\nnames = []\n[one]\n[[many]]\ncount = 2\n[named."x y"]\n', []),
        ("\ncuont = 1\n", ["2: cuont: unknown; did you mean count?\n    for example: count = 5"]),
        ("[many2]\n", ["1: many2: unknown; did you mean many?\n    for example: [many]"]),
        ("[one]\nbanana = 1\n", ["2: one.banana: unknown\n    expected one of count, names"]),
        ("[one]\ndepth = 1\n", ["2: one.depth: unknown here; it belongs in [sea]"]),
        ("[named.x]\nbanana = 1\n", ["2: named.x.banana: unknown\n    expected nothing here"]),
        ("count = 1.0\n", ["1: count: the float 1.0 is no whole number\n    expected a whole number; for example: count = 5"]),
        ('names = "b"\n', ['1: names: the text "b" is no array\n    expected an array of names; for example: names = ["b"]']),
        (
            'names = [\n  "a",\n  5,\n  true,\n]\n',
            [f'{wrong} is no text\n    {NAMES}' for wrong in ("3: names[1]: 5", "4: names[2]: true")],
        ),
        ("one = 5\n", ["1: one: 5 where a section belongs\n    expected a section; for example: [one]"]),
        ("[many]\ncount = 1\n", [f"1: {MANY}"]),
        ("many = [1]\n", [f"1: {MANY}"]),
        ("\n[named]\nx = 5\n", ["3: named.x: 5 where a section belongs\n    expected a section for each named; for example: [named.NAME]"]),
        ("[[many]]\ncount = 1\n[[many]]\n", ["3: many[1].count: missing\n    expected a whole number; for example: count = 5"]),
        ("\n\nmany = [\n {count = 1},\n {},\n]", ["5: many[1].count: missing\n    expected a whole number; for example: count = 5"]),
    ],
    ids=range(15),
)
def test_faults_of_keys_and_sections(text: str, faults: list[str]) -> None:
    assert told(text) == [f"f.toml:{fault}" for fault in faults]


@pytest.mark.parametrize("name", ["api_key", "API_SECRET", "password", "accessKey", "private-key", "telegram_token"])
def test_secrets_are_unwelcome_and_never_shown(name: str) -> None:
    (fault,) = told(f'{name} = "hunter2"\n')
    assert "nothing secret stands in this file" in fault
    assert "environment" in fault
    assert "hunter2" not in fault


def test_faults_are_told_by_line_and_once() -> None:
    doc = Document("a = 1\nb = 2\n", "f.toml", {})
    for path in ("b", "a", "b", "c"):
        doc.fault((path,), "odd")
    assert doc.faulty(("a",))
    assert not doc.faulty(("d",))
    with pytest.raises(ConfigRefused) as refusal:
        doc.refuse()
    assert str(refusal.value) == "f.toml: 3 faults\nf.toml: c: odd\nf.toml:1: a: odd\nf.toml:2: b: odd"
    assert refusal.value.problems == ("f.toml: c: odd", "f.toml:1: a: odd", "f.toml:2: b: odd")


def test_a_key_is_faulty_if_a_part_of_it_is_and_not_if_another_begins_like_it() -> None:
    doc = Document("", "f.toml", {})
    doc.fault(("ab", 0), "odd")
    doc.fault(("cd", "e"), "odd")
    assert doc.faulty(("ab",))
    assert doc.faulty(("cd",))
    assert not doc.faulty(("a",))
    assert not doc.faulty(("c",))
    assert not doc.faulty(("cd", "e", "f"))


def test_a_fault_in_words() -> None:
    assert Fault("f", 3, "a.b", "odd", "even", "a.b = 2").text == "f:3: a.b: odd\n    expected even; for example: a.b = 2"
    assert Fault("f", 0, "", "odd").text == "f: odd"
    assert Fault("f", 1, "", "odd", "", "x = 1").text == "f:1: odd\n    for example: x = 1"
