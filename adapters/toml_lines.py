"""In which line of a TOML text each key, table and array element stands.

The reader of the standard library gives values without places. This one gives places without values: it follows the grammar of TOML
1.0 just far enough to know where each name and element begins, and leaves the judging to ``tomllib``. So the two are asked together:

* A text that ``tomllib`` takes: every key of its tree has its place here, and there are no others.
* A text that it refuses: the places up to the fault, and what ``tomllib`` does not say, namely where a name that stands twice stood
  first (``clash``), and where something that has no end begins (``unfinished``).

Tables by header, arrays of tables, dotted and quoted names, inline tables and strings over several lines are all understood. A table
that is only implied (``a`` by ``[a.b]``) has the line of the first name that implies it, until a header of its own comes.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NoReturn, TypeAlias

from attrs import define, field

#: Names of tables and keys, and indices of array elements from 0.
Path: TypeAlias = tuple[str | int, ...]

_SPACE: Final = re.compile(r"[ \t]*")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*+")
_LINE_END: Final = re.compile(r"[ \t]*(?:#[^\n]*|\r)?(?:\n|\Z)")
_NAME: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_TEXT: Final = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_LONG_TEXT: Final = re.compile(r"""\"""(?:[^\\]|\\.)*?"{3,5}|'''.*?'{3,5}""", re.DOTALL)
_OTHER: Final = re.compile(r"[^,\]}#\n]+")


class How(StrEnum):
    """By what a name came into the text; that decides whether it may come again."""

    IMPLIED = "implied"
    DOTTED = "dotted"
    HEADER = "header"
    TABLES = "tables"
    VALUE = "value"


@define
class Place:
    """One key, table or element. ``parts`` are the names, or indices, in it."""

    line: int
    how: How
    parts: "dict[str | int, Place]" = field(factory=dict)


@define
class Layout:
    """What was found. ``clash`` is a name that stands twice, its line, and the line where it stood first; ``unfinished`` the line where
    something begins that has no end, or 0."""

    root: Place
    clash: tuple[Path, int, int] | None = None
    unfinished: int = 0

    def find(self, path: Path) -> Place | None:
        """The place of a key, or None: it does not stand in the text."""
        place = self.root
        for part in path:
            found = place.parts.get(part)
            if found is None:
                return None
            place = found
        return place

    def line(self, path: Path) -> int:
        """The line of a key; of the innermost table around it that stands in the text, if it does not; else 0."""
        place, line = self.root, 0
        for part in path:
            found = place.parts.get(part)
            if found is None:
                break
            place, line = found, found.line
        return line


class _Stop(Exception):
    """The text goes on in a way that is no TOML."""


def locate(text: str) -> Layout:
    """The places of all names in the text, as far as it is TOML. Never raises, but for RecursionError on arrays in arrays in arrays."""
    scan = _Scan(text)
    try:
        scan.document()
    except _Stop:
        if scan.open and scan.layout.clash is None:
            scan.layout.unfinished = scan.open[-1]
    return scan.layout


class _Scan:
    """One pass over the text. ``open`` are the lines where what is open now began."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.layout = Layout(Place(0, How.HEADER))
        self.open: list[int] = []
        self._ends = [found.start() for found in re.finditer("\n", text)]

    def document(self) -> None:
        """Headers and assignments, one after the other."""
        table: Place = self.layout.root
        path: Path = ()
        while self._skip(_BLANK) < len(self.text):
            if self._here("["):
                table, path = self._header()
            else:
                self._assignment(table, path)
            if not (end := _LINE_END.match(self.text, self.at)):
                raise _Stop
            self.at = end.end()

    # --- names ------------------------------------------------------------------------------------------------------

    def _header(self) -> tuple[Place, Path]:
        line, mark = self._line(), "[[" if self._here("[[") else "["
        self.at += len(mark)
        names = self._names()
        close = "]" * len(mark)
        if not self._here(close):
            raise _Stop
        self.at += len(close)
        return self._array_table(names, line) if mark == "[[" else self._table(names, line)

    def _table(self, names: Sequence[str], line: int) -> tuple[Place, Path]:
        place, path = self._parent(names, line)
        path = (*path, names[-1])
        found = place.parts.get(names[-1])
        if found is None:
            found = place.parts[names[-1]] = Place(line, How.HEADER)
        elif found.how is How.IMPLIED:
            found.line, found.how = line, How.HEADER
        else:
            self._clash(path, line, found)
        return found, path

    def _array_table(self, names: Sequence[str], line: int) -> tuple[Place, Path]:
        place, path = self._parent(names, line)
        found = place.parts.setdefault(names[-1], Place(line, How.TABLES))
        if found.how is not How.TABLES:
            self._clash((*path, names[-1]), line, found)
        index = len(found.parts)
        found.parts[index] = Place(line, How.HEADER)
        return found.parts[index], (*path, names[-1], index)

    def _parent(self, names: Sequence[str], line: int) -> tuple[Place, Path]:
        """The table that a header's last name stands in."""
        place, path = self.layout.root, list[str | int]()
        for name in names[:-1]:
            path.append(name)
            place = place.parts.setdefault(name, Place(line, How.IMPLIED))
            if place.how is How.TABLES:
                path.append(len(place.parts) - 1)
                place = place.parts[len(place.parts) - 1]
            elif place.how is How.VALUE:
                self._clash(tuple(path), line, place)
        return place, tuple(path)

    def _assignment(self, table: Place, path: Path) -> None:
        line = self._line()
        names = self._names()
        if not self._here("="):
            raise _Stop
        self.at += 1
        self._skip(_SPACE)
        place, around = table, list(path)
        for name in names[:-1]:
            around.append(name)
            place = place.parts.setdefault(name, Place(line, How.DOTTED))
            if place.how not in (How.DOTTED, How.IMPLIED):
                self._clash(tuple(around), line, place)
        around.append(names[-1])
        found = place.parts.get(names[-1])
        if found is not None:
            self._clash(tuple(around), line, found)
        place.parts[names[-1]] = found = Place(line, How.VALUE)
        self._value(found, tuple(around))

    def _clash(self, path: Path, line: int, first: Place) -> NoReturn:
        self.layout.clash = (path, line, first.line)
        raise _Stop

    def _names(self) -> list[str]:
        """A dotted name. Ends at what follows it."""
        names = []
        while True:
            self._skip(_SPACE)
            found = _NAME.match(self.text, self.at)
            if not found:
                raise _Stop
            self.at = found.end()
            names.append(_unquoted(found.group()))
            self._skip(_SPACE)
            if not self._here("."):
                return names
            self.at += 1

    # --- values -----------------------------------------------------------------------------------------------------

    def _value(self, place: Place, path: Path) -> None:
        if self._here("["):
            self._array(place, path)
        elif self._here("{"):
            self._inline(place, path)
        elif self._here('"') or self._here("'"):
            self.open.append(self._line())
            self._take(_LONG_TEXT if self._here('"""') or self._here("'''") else _TEXT)
            self.open.pop()
        else:
            self._take(_OTHER)

    def _array(self, place: Place, path: Path) -> None:
        for index in self._between("[", "]", _BLANK):
            place.parts[index] = element = Place(self._line(), How.VALUE)
            self._value(element, (*path, index))

    def _inline(self, place: Place, path: Path) -> None:
        for _ in self._between("{", "}", _SPACE):
            self._assignment(place, path)

    def _between(self, begin: str, end: str, blank: re.Pattern[str]) -> Iterator[int]:
        """Once for each element between brackets."""
        self.open.append(self._line())
        self.at += len(begin)
        index = 0
        while not (self._skip(blank) < len(self.text) and self._here(end)):
            yield index
            index += 1
            self._skip(blank)
            if not self._here(","):
                break
            self.at += 1
        if not self._here(end):
            raise _Stop
        self.at += len(end)
        self.open.pop()

    # --- the text ---------------------------------------------------------------------------------------------------

    def _here(self, mark: str) -> bool:
        return self.text.startswith(mark, self.at)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return self.at

    def _take(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if not found:
            raise _Stop
        self.at = found.end()

    def _line(self) -> int:
        return bisect_right(self._ends, self.at - 1) + 1


def _unquoted(name: str) -> str:
    """The name that a quoted one stands for. Escapes are left to ``tomllib``."""
    if "\\" not in name or not name.startswith('"'):
        return name[1:-1] if name[0] in "\"'" else name
    try:
        return str(tomllib.loads(f"name = {name}")["name"])
    except tomllib.TOMLDecodeError:
        raise _Stop from None
