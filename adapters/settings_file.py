"""A file of settings as far as any such file goes: its text, its tables, its faults.

Whoever fills in a file wants to hear of everything that is wrong with it at once, with the line, and what to write instead. So nothing
here stops at a fault: what is wrong is noted and left out, and at the end :meth:`Document.refuse` raises all of it. Only a text that is no
TOML ends the reading at once.

A section is read by a table of its keys, one :class:`Key` each: the name, how a value is read, what is expected, an example. A name that is
not in the table is a fault too. Values are never taken for something they are not: ``"yes"`` is not true, ``5`` is not text, and ``0.1``
without quotes is refused, since other readers of the file would make of it a number that is not 0.1.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from attrs import frozen

from ..fsm.config import ConfigRefused
from .answers import HaltcoreError
from .settings_values import Float, Wrong, WrongElements, shown, spelled
from .toml_lines import Layout, Path, locate

#: More is no file that a person wrote.
MAX_BYTES: Final = 1 << 20
#: So many are told, and the rest counted: nobody reads more.
MAX_FAULTS: Final = 200
#: A name of more parts would keep ``tomllib`` busy for minutes.
_MANY_PARTS: Final = re.compile(r"^(?:[^#\n=.,]*\.){32}", re.MULTILINE)
_HALF_LETTER: Final = re.compile("[\ud800-\udfff]")
_AT: Final = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_SECRET: Final = re.compile(r"secret|password|passphrase|token|credential|(?:api|private|access).?key", re.IGNORECASE)


@frozen
class Fault:
    """One thing that is wrong. ``line`` is 0 where there is none, such as for a key that is missing at the top of the file."""

    file: str
    line: int
    key: str
    problem: str
    expected: str = ""
    example: str = ""

    @property
    def text(self) -> str:
        """One or two lines: where and what; then what was expected, with an example."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        first = f"{where}: {self.key}: {self.problem}" if self.key else f"{where}: {self.problem}"
        hints = [f"expected {self.expected}"] if self.expected else []
        hints += [f"for example: {self.example}"] if self.example else []
        return "\n".join([first, "    " + "; ".join(hints)] if hints else [first])


class SettingsRefused(ConfigRefused, HaltcoreError):
    """A file of settings that cannot be used. The text has all faults, by line; ``faults`` has them as data.

    ``more`` is how many were counted beyond :data:`MAX_FAULTS`, and are not told.
    """

    def __init__(self, faults: Sequence[Fault], more: int = 0) -> None:
        texts = [fault.text for fault in faults]
        number = "1 fault" if len(faults) + more == 1 else f"{len(faults) + more} faults"
        rest = [f"{faults[0].file}: {more} more"] if more else []
        super().__init__("\n".join([f"{faults[0].file}: {number}", *texts, *rest]), texts)
        # ConfigRefused is a ValueError, and that hands nothing on.
        self.code, self.reason, self.client_id = "settings_refused", str(self), ""
        self.faults = tuple(faults)
        self.more = more


@frozen
class Key:
    """One row. ``read`` makes of a TOML value what it means, or raises ``Wrong``; ``example`` is what stands to the right of the ``=``.
    ``meaning`` is what the key does, for the guide."""

    name: str
    read: Callable[[Any], Any]
    expected: str
    example: str
    meaning: str = ""


@frozen
class Table:
    """A table of the file."""

    path: Path
    values: Mapping[str, Any]


class Document:
    """A file of settings while it is read. ``homes`` tells for a name where it belongs, for those who put it elsewhere."""

    def __init__(self, text: str, name: str, homes: Mapping[str, str]) -> None:
        self.name = name
        self._faults: dict[Fault, None] = {}
        self._more = 0
        self.layout: Layout
        self.root = Table((), {})
        self._homes = homes
        try:
            self._parse(text.removeprefix("\ufeff"))
        except RecursionError:
            raise SettingsRefused([Fault(name, 0, "", "arrays or tables in one another, too deep to be read")]) from None

    def _parse(self, text: str) -> None:
        problem, at = "", 0
        if len(text) > MAX_BYTES:
            problem = f"{len(text)} characters; at most {MAX_BYTES} are read"
        elif odd := _HALF_LETTER.search(text):
            problem, at = "a letter that cannot be written", odd.start()
        elif many := _MANY_PARTS.search(text):
            problem, at = "a name of more than 32 parts", many.start()
        if problem:
            raise SettingsRefused([Fault(self.name, text.count("\n", 0, at) + 1, "", problem)])
        self.layout = locate(text)
        try:
            self.root = Table((), tomllib.loads(text, parse_float=Float))
        except tomllib.TOMLDecodeError as error:
            raise SettingsRefused([self._no_toml(str(error), text)]) from None
        except ValueError:
            # A number of so many digits that Python declines to read it; it does not say where.
            line = next((n for n, line in enumerate(text.split("\n"), 1) if re.search(r"[0-9_]{4300}", line)), 0)
            raise SettingsRefused([Fault(self.name, line, "", "a number of thousands of digits")]) from None

    def _no_toml(self, error: str, text: str) -> Fault:
        if self.layout.clash:
            path, line, first = self.layout.clash
            problem = f"stands a second time; the first is in line {first}"
            return Fault(self.name, line, spelled(path), problem, "every key and section once")
        found = _AT.match(error)
        begun = self.layout.unfinished
        if not found:
            what = error.removesuffix(" (at end of document)")
            return Fault(self.name, begun or text.count("\n") + 1, "", f"no TOML: {_lower(what)}; what begins here has no end")
        line = int(found[2])
        since = f"; what it is in begins in line {begun}" if begun and begun != line else ""
        expected = 'a [section], or a key = value, with text in quotes, such as session = "mm00001"'
        return Fault(self.name, line, "", f"no TOML: {_lower(found[1])}, column {found[3]}{since}", expected)

    # --- faults -----------------------------------------------------------------------------------------------------

    def fault(self, path: Path, problem: str, expected: str = "", example: str = "") -> None:
        """Note one. What was said is not said again."""
        fault = Fault(self.name, self.layout.line(path), spelled(path), problem, expected, example)
        if len(self._faults) < MAX_FAULTS or fault in self._faults:
            self._faults[fault] = None
        else:
            self._more += 1

    def faulty(self, path: Path) -> bool:
        """Whether something was said of this key, or of a part of it."""
        key = spelled(path)
        return any(fault.key == key or fault.key.startswith((f"{key}.", f"{key}[")) for fault in self._faults)

    def refuse(self) -> None:
        """Raise all that was noted, if anything was."""
        if self._faults:
            raise SettingsRefused(sorted(self._faults, key=lambda fault: fault.line), self._more)

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, table: Table, keys: Sequence[Key], sections: Sequence[str] = ()) -> dict[str, Any]:
        """The values of the keys that stand in the table and are right; the others are faults. ``sections`` are left alone."""
        rows = {key.name: key for key in keys}
        values = {}
        for name, value in table.values.items():
            if name in rows:
                key, path = rows[name], (*table.path, name)
                try:
                    values[name] = key.read(value)
                except WrongElements as wrong:
                    for index, problem in wrong.problems:
                        self.fault((*path, index), problem, key.expected, f"{name} = {key.example}")
                except Wrong as wrong:
                    self.fault(path, str(wrong), key.expected, f"{name} = {wrong.example or key.example}")
            elif name not in sections:
                self._unknown(table, name, rows, sections)
        return values

    def missing(self, table: Table, keys: Sequence[Key], *names: str) -> bool:
        """Whether one of these keys is not there at all, which is a fault."""
        missing = [key for key in keys if key.name in names and key.name not in table.values]
        for key in missing:
            self.fault((*table.path, key.name), "missing", key.expected, f"{key.name} = {key.example}")
        return bool(missing)

    def table(self, around: Table, name: str) -> Table:
        """A section. An empty one if it is not there."""
        path = (*around.path, name)
        value = around.values.get(name, {})
        if isinstance(value, dict):
            return Table(path, value)
        self.fault(path, f"{shown(value)} where a section belongs", "a section", f"[{spelled(path)}]")
        return Table(path, {})

    def tables(self, around: Table, name: str) -> Iterator[tuple[str, Table]]:
        """The sections in a section that has nothing else, such as [limits.symbol.BTCUSDT] in [limits.symbol]."""
        path = (*around.path, name)
        value = around.values.get(name, {})
        parts = value if isinstance(value, dict) else {}
        odd = [((*path, part), inner) for part, inner in parts.items() if not isinstance(inner, dict)]
        # One is told for all: who forgot the name forgot it for everything that stands there.
        for place, wrong in odd[:1] if parts is value else [(path, value)]:
            self.fault(place, f"{shown(wrong)} where a section belongs", f"a section for each {name}", f"[{spelled(path)}.NAME]")
        for part, inner in parts.items():
            if isinstance(inner, dict):
                yield part, Table((*path, part), inner)

    def array(self, around: Table, name: str) -> list[Table]:
        """The sections that are written [[in double brackets]]."""
        path = (*around.path, name)
        value = around.values.get(name, [])
        if isinstance(value, list) and all(isinstance(element, dict) for element in value):
            return [Table((*path, index), element) for index, element in enumerate(value)]
        self.fault(path, "written as one section, and there may be several", "double brackets", f"[[{spelled(path)}]]")
        return []

    def _unknown(self, table: Table, name: str, keys: Mapping[str, Key], sections: Sequence[str]) -> None:
        path, names = (*table.path, name), [*keys, *sections]
        if _SECRET.search(name):
            self.fault(path, "unknown; and nothing secret stands in this file", "secrets in the environment of the program")
        elif found := get_close_matches(name, names, n=1):
            example = f"{found[0]} = {keys[found[0]].example}" if found[0] in keys else f"[{spelled((*table.path, found[0]))}]"
            self.fault(path, f"unknown; did you mean {found[0]}?", "", example)
        elif name in self._homes:
            self.fault(path, f"unknown here; it belongs {self._homes[name]}")
        else:
            self.fault(path, "unknown", "one of " + ", ".join(names) if names else "nothing here")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
