"""The locator knows the line of every name that ``tomllib`` reads, and of no other. Goal: a fault is never shown in a wrong line.

Method: layouts are generated piece by piece with the line of each name written down on the way, and read by ``tomllib`` as a judge of what
they hold; short files of few names in all orders show that both agree on what may stand twice; files are cut and littered, and nothing is
raised.
"""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from haltcore.adapters.toml_lines import Layout, Path, Place, locate
from hypothesis import example, given, settings
from hypothesis import strategies as st


def names_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every key and element in a tree."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in parts:
        yield (*path, part)
        yield from names_of(inner, (*path, part))


def places_of(place: Place, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Every name of a layout with its line."""
    for part, inner in place.parts.items():
        yield (*path, part), inner.line
        yield from places_of(inner, (*path, part))


def lines(layout: Layout) -> dict[Path, int]:
    return dict(places_of(layout.root))


# --- generated layouts ----------------------------------------------------------------------------------------------

TEXTS = (
    '""', '"a # b"', '"a = [b]"', '"\\"q\\" \\\\"', "''", "'c:\\d'", "'\"'",
    '"""one"""', '"""\ntwo\n[x]\n"""', '"""\\""" " "" """', '"""q"""""',
)  # fmt: skip
LONG = ("'''\ny = 1\n#'''", "'''q'''''", '"""\\\n   joined"""')
OTHERS = ("1", "-0.5", "1_000", "true", "inf", "0xff", "1979-05-27 07:32:00", "07:32:00", "1979-05-27T00:32:00.5-07:00")
GAPS = ("", " ", "\t", "\n", "\n\n", " # note\n", "\r\n", "# a ] b , c\n  ")


class Writer:
    """Writes TOML and, for each name, the line it is in."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.where: dict[Path, int] = {}
        self.count = 0
        # Tables and arrays of tables that a header may name, each with the names in such a header; and how long the arrays are.
        self.tables: dict[Path, list[str]] = {(): []}
        self.arrays: dict[Path, list[str]] = {}
        self.sizes: dict[Path, int] = {}

    def put(self, text: str) -> None:
        self.text += text

    def note(self, path: Path) -> None:
        self.where.setdefault(path, self.text.count("\n") + 1)

    def pick(self, choices: tuple[str, ...]) -> str:
        chosen: str = self.draw(st.sampled_from(choices))
        return chosen

    def name(self) -> tuple[str, str]:
        """A name that is new, and how it is written."""
        self.count += 1
        name = self.pick(("k", "a-b_", "1", "x.y", "sp ace", "#", "=", "[z]", "ü", "tab\t")) + str(self.count)
        if name.replace("-", "").replace("_", "").isalnum() and name.isascii() and self.draw(st.booleans()):
            return name, name
        if "\t" not in name and self.draw(st.booleans()):
            return name, f"'{name}'"
        return name, spelled(name).replace("ü", self.pick(("ü", "\\u00fc")))

    def value(self, path: Path, depth: int = 0) -> None:
        kind = self.draw(st.integers(0, 5 if depth < 3 else 3))
        if kind == 4:
            self.array(path, depth)
        elif kind == 5:
            self.inline(path, depth)
        else:
            self.put(self.pick((TEXTS, LONG, OTHERS, TEXTS)[kind]))

    def array(self, path: Path, depth: int) -> None:
        self.put("[" + self.pick(GAPS))
        size = self.draw(st.integers(0, 3))
        for index in range(size):
            self.note((*path, index))
            self.value((*path, index), depth + 1)
            self.put(self.pick(GAPS))
            if index < size - 1 or self.draw(st.booleans()):
                self.put("," + self.pick(GAPS))
        self.put("]")

    def inline(self, path: Path, depth: int) -> None:
        self.put("{ ")
        for index in range(self.draw(st.integers(0, 3))):
            self.put(", " if index else "")
            self.assignment(path, depth + 1)
        self.put(" }")

    def assignment(self, path: Path, depth: int = 0) -> None:
        written = []
        line = self.text.count("\n") + 1
        for _ in range(self.draw(st.integers(1, 3))):
            name, text = self.name()
            path = (*path, name)
            self.where[path] = line
            written.append(text)
        self.put(self.pick((".", " . ", ".\t")).join(written) + self.pick(("=", " = ", "\t= ")))
        self.value(path, depth)

    def section(self) -> Path:
        """A header: of a new table or array of tables, in an older table or not; or of one more element of such an array."""
        if self.arrays and self.draw(st.booleans()):
            path = self.draw(st.sampled_from(list(self.arrays)))
            names = self.arrays[path]
        else:
            path = self.draw(st.sampled_from(list(self.tables)))
            names = self.tables[path]
            for _ in range(self.draw(st.integers(1, 2))):
                name, _ = self.name()
                path, names = (*path, name), [*names, name]
                self.note(path)
            if self.draw(st.booleans()):
                self.arrays[path], self.sizes[path] = names, 0
        many = path in self.arrays
        header = self.pick((".", " . ")).join(spelled(name) for name in names)
        self.put(self.pick(("", "  ", "\t")) + (f"[[{header}]]" if many else f"[ {header} ]"))
        if many:
            # What is in the element before can no longer be spoken of.
            for known in (self.tables, self.arrays):
                for old in [old for old in known if len(old) > len(path) and old[: len(path)] == path]:
                    del known[old]
            index, self.sizes[path] = self.sizes[path], self.sizes[path] + 1
            path = (*path, index)
            self.note(path)
        self.tables[path] = names
        return path


def spelled(name: str) -> str:
    return '"' + name.replace("\t", "\\t") + '"'


@st.composite
def layouts(draw: Any) -> tuple[str, dict[Path, int], Path]:
    """A text, the line of each name in it, and the table that its end belongs to."""
    writer = Writer(draw)
    path: Path = ()
    for _ in range(draw(st.integers(1, 7))):
        writer.put(writer.pick(("", "", "\n", "# [no] = header\n", "  ")))
        if draw(st.integers(0, 2)) == 0:
            path = writer.section()
        else:
            writer.assignment(path)
        writer.put(writer.pick(("\n", " \n", "  # end\n", "\r\n", " #\r\n")))
    return writer.text, writer.where, path


@given(layouts())
@settings(max_examples=600)
def test_every_name_has_its_true_line(layout: tuple[str, dict[Path, int], Path]) -> None:
    text, where, _ = layout
    tree = tomllib.loads(text)
    found = locate(text)
    assert (found.clash, found.unfinished) == (None, 0)
    assert lines(found) == where
    assert set(where) == set(names_of(tree))


@given(layouts(), st.data())
@settings(max_examples=200)
def test_a_name_that_stands_twice_is_told_with_both_lines(layout: tuple[str, dict[Path, int], Path], data: st.DataObject) -> None:
    text, where, table = layout
    here = [path for path in where if path[:-1] == table and isinstance(path[-1], str)]
    if not here:
        return
    twice = data.draw(st.sampled_from(here))
    text += spelled(str(twice[-1])) + " = 1\nafter = 2\n"
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    assert locate(text).clash == (twice, text.count("\n") - 1, where[twice])


LINES = (
    "a=1", "b=1", "a.b=1", "a.c=1", "a.b.c=1", "b.a=1", "a={b=1}", "a={}", "a={b={c=1}}", "a=[]", "a=[{b=1}]", "a=[{b=1}, {b=2}]",
    "a={b=1, b=2}", "a={b.c=1, b.d=2}", "a={b.c=1, b=2}",
    "[a]", "[b]", "[a.b]", "[a.c]", "[a.b.c]", "[b.a]", "[[a]]", "[[a.b]]", "[[a.b.c]]", "[[b]]",
)  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=6))
@example(["[a.b]", "[a]", "b.a=1"])
@example(["[a.b.c]", "[a]", "b.a=1"])
@settings(max_examples=1_500)
def test_what_may_stand_twice_is_what_tomllib_allows(chosen: list[str]) -> None:
    text = "\n".join(chosen)
    found = locate(text)
    assert found.unfinished == 0
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert found.clash is not None
        assert 0 < found.clash[2] <= found.clash[1] <= len(chosen)
    else:
        assert found.clash is None
        assert set(lines(found)) == set(names_of(tree))


# --- single layouts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1", ("a",), 1),
        ("\n\n[t]\n\n a = 1", ("t", "a"), 5),
        ("[t.u]\nx = 1\n[t]\na = 1\n", ("t",), 3),
        ("[t.u]\nx = 1\n", ("t",), 1),
        ("t.a = 1\nt.b = 2\n", ("t",), 1),
        ("t.a = 1\nt.b = 2\n", ("t", "b"), 2),
        ('t."a.b".\'c d\' = 1', ("t", "a.b", "c d"), 1),
        ('"\\u0061" = 1', ("a",), 1),
        ("[[w]]\na = 1\n[[w]]\na = 2\n", ("w", 1, "a"), 4),
        ("[[w]]\n[w.x]\na = 1\n[[w]]\n[w.x]\na = 2\n", ("w", 1, "x", "a"), 6),
        ("x = [\n  1, # one\n\n  [2,\n3]]\n", ("x", 1, 1), 5),
        ("x = { a = [\n1,\n2], b = 3 }\n", ("x", "b"), 3),
        ('x = """\n[t]\na = 1\n"""\n[t]\na = 2\n', ("t", "a"), 6),
        ("x = '''\n\"\"\"'''\na = 1\n", ("a",), 3),
        ("x = '\"\"\"' # \"\"\"\na = 1\n", ("a",), 2),
        ("a = 1\r\n\r\nb = 2\r\n", ("b",), 3),
        ("a = 1 # \u2028 no line ends here\x85\nb = 2", ("b",), 2),
    ],
)
def test_layouts_by_hand(text: str, path: Path, line: int) -> None:
    tomllib.loads(text)
    place = locate(text).find(path)
    assert place is not None
    assert place.line == locate(text).line(path) == line


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    found = locate("a = 1\n\n[t]\n[t.u]\nx = 1\n")
    assert found.find(("t", "u", "y")) is None
    assert found.line(("t", "u", "y")) == 4
    assert found.line(("t", "v", "y")) == 3
    assert found.line(("other", "key")) == 0
    assert found.line(()) == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a = 1\nb = """\nc = 2\n', 2), ("b = '''\n", 1), ("\nb = [1,\n2,\n", 2), ("b = [1, [2,\n3\n\n", 1), ("b = [\n[2,\n3\n\n", 2),
        ("b = { c = 1", 1), ("b = [1\n2]\n", 1), ("b = 1", 0), ("b = ", 0), ("\nb = \"c\n", 2), ("[t", 0), ("b", 0),
        ("a = '''\n'''\nb", 0), ("a = [\n]\nb = {}\nc", 0),
    ],
)  # fmt: skip
def test_what_has_no_end_is_told_where_it_begins(text: str, line: int) -> None:
    assert locate(text).unfinished == line


@given(layouts(), st.integers(0, 400), st.text("[]{}\"'=,.#\\\n\r a1\0", max_size=4))
@settings(max_examples=300)
def test_nothing_is_raised_whatever_the_text(layout: tuple[str, dict[Path, int], Path], at: int, litter: str) -> None:
    text = layout[0]
    at = min(at, len(text))
    for damaged in (text[:at], text[:at] + litter + text[at:], litter):
        found = locate(damaged)
        try:
            tree = tomllib.loads(damaged)
        except tomllib.TOMLDecodeError:
            continue
        assert (found.clash, found.unfinished) == (None, 0)
        assert set(lines(found)) == set(names_of(tree))


def test_a_large_text_takes_no_longer_than_its_size() -> None:
    text = "x = [" + "[1, 'a'], " * 50_000 + "]\n" + "".join(f"[t{n}]\na.b = 1\n" for n in range(10_000))
    assert locate(text).line(("t9999", "a", "b")) == 20_001
    assert locate("a" + ".a" * 100_000 + " = 1").line(("a",) * 100_001) == 1
