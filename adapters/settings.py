"""Configuration from a TOML file: reading it, and telling what is wrong with it.

Which sections and keys there are, and what each means, stands in ``settings_rows.py`` and ``settings_guide.py``, for people in
``spec/settings.md``; ``haltcore check-config --example`` prints a file that has them all. The order of the rules is that of the file.
Whatever is left out has its default, which for a limit is no limit.

:func:`with_limits_of` changes a configuration that is there, by the [limits] and [triggers] of a file:

* A figure or trigger that stands in the file replaces that of the configuration, where the same conditions stand (the account's, or those
  of the same symbol, strategy, band and window).
* ``"none"`` takes a figure or trigger away; ``false`` switches a flag off.
* Whatever does not stand in the file is unchanged. A rule is taken away by taking away all its figures; a cool-down can be changed and
  added, not taken away.
* All else that may stand in a file of settings (session, symbols, strategies and the other keys at its top, [venue], [sweep], [store],
  [breaker], [instrument]) is ignored: it is that of the configuration.

What a value may be is decided here only as far as it is a matter of TOML. All else is decided by ``fsm/config.py``, whose words on it are
brought back to the line they are about.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path as File
from typing import Any, Final, TypeAlias

import attrs
from attrs import field, frozen

from ..fsm.config import (
    TRANSIENT,
    BreakerPolicy,
    Config,
    ConfigRefused,
    CoolDown,
    FreezeClass,
    StorePolicy,
    SweepPolicy,
    Triggers,
    VenueTraits,
)
from ..fsm.instrument import Instrument, instrument_faults
from ..fsm.limit_faults import says_nothing
from ..fsm.limits import MINUTES_A_DAY, NO_LIMITS, LimitRule, Limits
from .runner import new_session
from .settings_file import MAX_BYTES, Document, Fault, SettingsRefused, Table
from .settings_notes import idle_figures
from .settings_rows import (
    BREAKER,
    CONDITIONS,
    COOL_DOWN,
    FIGURE_KEYS,
    HOMES,
    INSTRUMENT,
    ROWS,
    SECTIONS,
    STORE,
    STORE_PLACE,
    SWEEP,
    TOP,
    TRIGGERS,
    VENUE,
    WINDOW,
)
from .settings_store import resolved
from .settings_values import quoted, spelled
from .toml_lines import Path

__all__ = ["Fault", "Settings", "SettingsRefused", "load", "parse", "with_limits_of"]

# --- reading a file -------------------------------------------------------------------------------------------------

_Conditions: TypeAlias = tuple[str, str, str, int, int]
#: Stands for a session that is drawn later, where a configuration has to have one.
_SOME_SESSION: Final = "a000000"
#: The conditions of the account's rule.
_ALWAYS: Final[_Conditions] = LimitRule(NO_LIMITS).conditions
#: Stands for names that are wrong: wrong still, so that nothing is measured by them.
_NO_NAMES: Final = ("",)


@frozen
class Settings:
    """What a file says: ``Runner(settings.config, instruments=settings.instruments, ...)``.

    ``session_named``: the file names the session; otherwise the configuration's was given or drawn. ``notes`` are no faults: what is
    allowed, and probably not meant. ``store_place`` and ``store_account`` are what the file says of where the store is, without any secret;
    both empty if it says nothing.
    """

    config: Config
    instruments: Mapping[str, Instrument]
    session_named: bool
    notes: tuple[Fault, ...] = field(default=(), eq=False)
    store_place: str = ""
    store_account: str = ""

    @property
    def store_url(self) -> str:
        """The URL to connect to, with what the environment has for it now; it may hold a password. Raises
        :class:`~haltcore.adapters.settings_store.NoStoreUrl` if there is none, or a variable is not set."""
        return resolved(self.store_place, os.environ)


def load(path: str | PathLike[str], session: str = "") -> Settings:
    """Everything in a file. ``session`` holds if the file names none; by default one is drawn.

    Raises :class:`SettingsRefused` with all that is wrong; also where the file is missing or cannot be read.
    """
    return parse(_text(path), str(path), session)


def with_limits_of(config: Config, path: str | PathLike[str]) -> Config:
    """The configuration with the changes that [limits] and [triggers] of a file make to it; all else in the file is ignored."""
    doc = Document(_text(path), str(path), HOMES)
    doc.read(doc.root, [attrs.evolve(key, read=_unread) for key in TOP], SECTIONS)
    rules: dict[_Conditions, tuple[LimitRule, _Written | None]] = {
        rule.conditions: (rule, None) for rule in (LimitRule(config.limits), *config.rules)
    }
    for change in _rules(doc):
        old, again = rules.get(change.rule.conditions, (change.rule, None))
        if again and not (again.vague or change.vague):
            doc.fault(change.path, f"there is another section for {old.label}; give one all its figures")
        if not change.figures and change.rule.conditions != _ALWAYS and not doc.faulty(change.path):
            doc.fault(change.path, "there is no figure in it; give one, or leave the section out")
        rules[change.rule.conditions] = attrs.evolve(old, limits=attrs.evolve(old.limits, **change.figures)), change
    (account, _), *others = (pair for pair in rules.values() if pair[0].conditions == _ALWAYS or not says_nothing(pair[0].limits))
    values = {
        **{field.name: getattr(config, field.name) for field in attrs.fields(Config)},
        "limits": account.limits,
        "rules": tuple(rule for rule, _ in others),
        "triggers": _triggers(doc, config.triggers),
    }
    changed = _judged(doc, values, [rules[_ALWAYS][1], *(change for _, change in others)])
    doc.refuse()
    assert changed is not None  # a configuration that is refused has faults
    return changed


def _unread(value: object) -> object:
    """Takes whatever it is."""
    return value


def _text(path: str | PathLike[str]) -> str:
    try:
        with File(path).open("rb") as file:
            data = file.read(4 * MAX_BYTES + 1)
    except OSError as error:
        raise SettingsRefused([Fault(str(path), 0, "", f"cannot be read: {error.strerror}", "the path of a file of settings")]) from error
    except ValueError as error:  # a path with a NUL in it
        raise SettingsRefused([Fault(str(path), 0, "", f"cannot be read: {error}", "the path of a file of settings")]) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"the byte 0x{data[error.start]:02X} is no UTF-8"
        raise SettingsRefused([Fault(str(path), line, "", problem, "a text that is saved as UTF-8")]) from None


def parse(text: str, name: str = "settings", session: str = "") -> Settings:
    """The same as :func:`load` for a text; ``name`` is what faults call it."""
    doc = Document(text, name, HOMES)
    values = doc.read(doc.root, TOP, SECTIONS)
    doc.missing(doc.root, TOP, "symbols")
    values["day_roll_minute"] = values.pop("day_roll", 0)
    named = "session" in doc.root.values
    values["session"] = values.get("session", _SOME_SESSION) if named else session or new_session()
    account, *rules = _rules(doc)
    values["limits"], values["rules"] = account.rule.limits, tuple(found.rule for found in rules)
    values["triggers"] = _triggers(doc, Triggers())
    values["venue"] = VenueTraits(**doc.read(doc.table(doc.root, "venue"), VENUE))
    values["sweep"] = SweepPolicy(**doc.read(doc.table(doc.root, "sweep"), SWEEP))
    values["store"], place = _store(doc)
    values["breaker"] = BreakerPolicy(**doc.read(doc.table(doc.root, "breaker"), BREAKER)) if "breaker" in doc.root.values else None
    instruments = _instruments(doc)
    twice = _named_once(doc, values)
    config = _judged(doc, values, [account, *rules])
    for path, problem in twice:
        doc.fault(path, problem)
    doc.refuse()
    assert config is not None  # a configuration that is refused has faults
    notes = (*_shared_session(doc, config, named), *_notes(doc, [account, *rules]))
    return Settings(config, instruments, named, notes, place.get("url", ""), place.get("account", ""))


def _store(doc: Document) -> tuple[StorePolicy, dict[str, str]]:
    """What is decided about the store, and where it is."""
    table = doc.table(doc.root, "store")
    values = doc.read(table, (*STORE_PLACE, *STORE))
    place = {key.name: values.pop(key.name) for key in STORE_PLACE if key.name in values}
    if table.values:
        # A store that nobody switched on protects nobody, and its settings would look as if it did.
        doc.missing(table, STORE, "configured")
    if place.get("url"):
        doc.missing(table, STORE_PLACE, "account")
    return StorePolicy(**values), place


# --- rules ----------------------------------------------------------------------------------------------------------


@frozen
class _Written:
    """A rule, the figures that stand in the file, and where. ``said`` are the keys that name its conditions. ``vague``: it is for a window,
    and when that is was said wrongly; then the minutes in the rule are any."""

    rule: LimitRule
    figures: Mapping[str, Any]
    path: Path
    said: Mapping[str, Path]
    vague: bool = False


def _rules(doc: Document) -> list[_Written]:
    """All rules: the account's, then the others in the order of the file."""
    limits = doc.table(doc.root, "limits")
    account, *others = _rules_under(doc, limits, {}, {})
    return [account, *sorted(others, key=lambda found: doc.layout.line(found.path))]


def _rules_under(doc: Document, table: Table, names: Mapping[str, str], said: Mapping[str, Path]) -> Iterator[_Written]:
    """The rule of a section, and those of the sections in it. Conditions in the wrong order are a fault, and understood."""
    left = [kind for kind in CONDITIONS if kind not in names]
    figures = doc.read(table, FIGURE_KEYS, (*left, "window"))
    # [limits.strategy.mm.symbol.BTCUSDT] also makes a [limits.strategy.mm]; that alone is no rule.
    if figures or not names or not any(kind in table.values for kind in (*left, "window")):
        conditions: dict[str, Any] = dict(names)
        order: Path = tuple(part for kind in CONDITIONS if kind in names for part in (kind, names[kind]))
        if (path := ("limits", *order)) != table.path:
            doc.fault(table.path, "conditions stand in the order " + ", ".join(CONDITIONS), f"[{spelled(path)}]")
        yield _Written(LimitRule(Limits(**figures), **conditions), figures, table.path, said)
    if names and "window" in table.values:
        own = ", ".join(f"{kind} = {quoted(name)}" for kind, name in names.items())
        problem = "a window stands in [limits] alone, and says in itself what it is for"
        doc.fault((*table.path, "window"), problem, f"[[limits.window]] with {own}")
    elif "window" in table.values:
        yield from (_window(doc, inner) for inner in doc.array(table, "window"))
    for kind in left:
        for name, inner in doc.tables(table, kind):
            if name:
                yield from _rules_under(doc, inner, {**names, kind: name}, {**said, kind: inner.path})
            else:
                doc.fault(inner.path, "an empty name", f"the name of a {kind}")


def _window(doc: Document, table: Table) -> _Written:
    values = doc.read(table, (*WINDOW, *FIGURE_KEYS))
    doc.missing(table, WINDOW, "from", "to")
    figures = {key.name: values[key.name] for key in FIGURE_KEYS if key.name in values}
    vague = "from" not in values or "to" not in values
    begin, end = values.get("from", 0), values.get("to", 1)
    if begin == end:
        if not vague:
            doc.fault((*table.path, "to"), "the window ends when it begins", "another time; all day needs no window", 'to = "06:00"')
        vague, end = True, (begin + 1) % MINUTES_A_DAY
    names = {name: values[name] for name in CONDITIONS if name in values}
    said = {name: (*table.path, name) for name in names} | {"from_minute": (*table.path, "from"), "to_minute": (*table.path, "to")}
    return _Written(LimitRule(Limits(**figures), **names, from_minute=begin, to_minute=end), figures, table.path, said, vague)


# --- triggers and instruments ---------------------------------------------------------------------------------------


def _triggers(doc: Document, old: Triggers) -> Triggers:
    """The old ones, with what the file says."""
    table = doc.table(doc.root, "triggers")
    values = doc.read(table, TRIGGERS, ("cool_down",))
    around = doc.table(table, "cool_down")
    doc.read(around, (), TRANSIENT)
    cools = {cool.kind: cool for cool in old.cool_downs}
    for name in around.values:
        if name not in TRANSIENT:
            continue
        kind, inner = FreezeClass(name), doc.table(around, name)
        changes = doc.read(inner, COOL_DOWN)
        if kind in cools:
            cools[kind] = attrs.evolve(cools[kind], **changes)
        elif inner.values is around.values[name] and not doc.missing(inner, COOL_DOWN, "wait_ms", "cap_ms"):
            cools[kind] = CoolDown(**{"kind": kind, "wait_ms": 1, "cap_ms": 1, **changes})
    return attrs.evolve(old, **values, cool_downs=tuple(cools.values()))


def _instruments(doc: Document) -> dict[str, Instrument]:
    instruments = {}
    symbols = doc.root.values.get("symbols")
    known = {text: True for text in symbols if isinstance(text, str)} if isinstance(symbols, list) else None
    for symbol, table in doc.tables(doc.root, "instrument"):
        instrument = Instrument(**doc.read(table, INSTRUMENT))
        for problem in instrument_faults(instrument):
            name, _, text = problem.partition(": ")
            if not doc.faulty((*table.path, name)):
                doc.fault((*table.path, name), text)
        if known is not None and symbol not in known:
            doc.fault(table.path, *_not_among(symbol, "symbols", list(known)))
        instruments[symbol] = instrument
    return instruments


# --- judging the whole ----------------------------------------------------------------------------------------------

_PROBLEM: Final = re.compile(r"(?:(?:limits|rules\[(\d+)\])(?:\.(\w+))?|triggers\.cool_downs\[(\d+)\]\.(\w+)|([a-z_.]+)): (.*)", re.DOTALL)
#: Problems whose remedy is not said by the key's row.
_OWN_REMEDY: Final = re.compile("has no meaning|there is no figure|.* is (?:not )?below |.* named twice|.* is for .* too;|.*not among")

_CLASH: Final = re.compile(r"rules\[(\d+)\](?= is for )")


def _judged(doc: Document, values: Mapping[str, Any], written: Sequence[_Written | None]) -> Config | None:
    """The configuration; None if it is refused, and then its faults are noted. ``written`` are the rules, the account's first."""
    try:
        return Config(**values)
    except ConfigRefused as refusal:
        for problem in refusal.problems:
            _tell(doc, problem, values, written)
    return None


def _tell(doc: Document, problem: str, values: Mapping[str, Any], written: Sequence[_Written | None]) -> None:
    """Note a problem that ``config_faults`` found, where it is in the file."""
    found = _PROBLEM.match(problem)
    if not found:
        doc.fault((), problem)
        return
    number, figure, cool, part, dotted, text = found.groups()
    rule = written[int(number) + 1 if number else 0]
    if dotted and not dotted.startswith("limits"):
        path: Path = ("day_roll",) if dotted == "day_roll_minute" else tuple(dotted.split("."))
    elif cool:
        path = ("triggers", "cool_down", values["triggers"].cool_downs[int(cool)].kind, part)
    else:
        path = _place(rule, figure or "") if rule else ("limits",)
    if doc.faulty(path) and figure not in CONDITIONS:
        return
    if rule and (clash := _CLASH.match(text)):
        other = written[int(clash[1]) + 1]
        if other and other.vague:
            return
        text = f"{spelled(other.path) if other else 'another rule'}{text[clash.end() :]}"
    elif rule and rule.vague:
        text = text.replace(rule.rule.label, _timeless(rule.rule))
    rows = ROWS[str(path[0])] if len(path) > 1 else TOP
    row = next((key for key in rows if key.name == path[-1]), None)
    if rule and figure in ("symbol", "strategy"):
        names = "symbols" if figure == "symbol" else "strategies"
        doc.fault(path, *_not_among(getattr(rule.rule, figure), names, values.get(names, ())))
    elif row is None or _OWN_REMEDY.match(text):
        doc.fault(path, text)
    else:
        doc.fault(path, text.partition("; ")[0], row.expected, f"{row.name} = {row.example}")


def _timeless(rule: LimitRule) -> str:
    """The label of a rule for a window whose time is not known."""
    rest = attrs.evolve(rule, from_minute=0, to_minute=0)
    return f"{rest.label}, window" if any(rest.conditions) else "a window"


def _place(rule: _Written, field: str) -> Path:
    """Where a figure or a condition of a rule stands; where the rule does, if it is about the rule."""
    return rule.path if field in ("", "limits") else rule.said.get(field, (*rule.path, field))


def _not_among(name: str, kind: str, names: Sequence[str]) -> tuple[str, str]:
    """Problem and expectation of a name that is not in a list."""
    close = get_close_matches(name, names[:1_000], n=1)
    problem = f"{quoted(name)} is not among the {kind}" + (f"; did you mean {quoted(close[0])}?" if close else "")
    some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return problem, f"one of {some}" if names else f"it in {kind} at the top of the file"


def _named_once(doc: Document, values: dict[str, Any]) -> list[tuple[Path, str]]:
    """Put the lists of names into a state that the rest can be measured by; the names that stand twice in them."""
    twice: list[tuple[Path, str]] = []
    for name in ("symbols", "strategies"):
        if doc.faulty((name,)):
            values[name] = _NO_NAMES
        elif name in values:
            # A name that stands twice is known all the same; without it, rules could not be judged.
            twice += [((name,), f"{text!r} is named twice; name it once") for text, times in Counter(values[name]).items() if times > 1]
            values[name] = tuple(dict.fromkeys(values[name]))
    return twice


def _shared_session(doc: Document, config: Config, named: bool) -> Iterator[Fault]:
    """A session is one process's: by it the store knows whose a freeze is, and the venue whose an order."""
    if named and config.store.configured:
        text = "processes that share a store need a session each; leave it out, and one is drawn, or give every process a file of its own"
        yield Fault(doc.name, doc.layout.line(("session",)), "session", text)


def _notes(doc: Document, written: Sequence[_Written]) -> Iterator[Fault]:
    """What is worth a word, by line."""
    told = [(_place(written[number], figure), text) for number, figure, text in idle_figures([found.rule for found in written])]
    for path, text in sorted(told, key=lambda note: doc.layout.line(note[0])):
        yield Fault(doc.name, doc.layout.line(path), spelled(path), text)
