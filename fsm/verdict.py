"""What a replay found, in words that are never mixed.

===============  ====  =========================================================================================
kind             exit  meaning
===============  ====  =========================================================================================
same             0     same decisions, same state, to the byte
other telemetry  0     same decisions; metrics differ (3 when the caller is strict)
broken           2     the bytes are not those that were written: ``problem`` says where
diverged         3     the bytes are true, but this core decides otherwise: ``divergence`` says where and how
unsafe           4     both agree, and the decision breaks an invariant: ``unsafe`` says which
unsupported      5     written by another format or newer rules
===============  ====  =========================================================================================

A verdict is no proof that the core is right; it says that the core is the one that wrote the log, or where it is not.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
from attrs import field, frozen

from .chain import End, Fault

_ABSENT: Final = "(absent)"


class Kind(StrEnum):
    """The verdict in one word."""

    SAME = "same"
    OTHER_TELEMETRY = "other telemetry"
    BROKEN = "broken"
    DIVERGED = "diverged"
    UNSAFE = "unsafe"
    UNSUPPORTED = "unsupported"


EXIT_CODES: Final[Mapping[Kind, int]] = {
    Kind.SAME: 0,
    Kind.OTHER_TELEMETRY: 0,
    Kind.BROKEN: 2,
    Kind.DIVERGED: 3,
    Kind.UNSAFE: 4,
    Kind.UNSUPPORTED: 5,
}


@frozen
class Change:
    """One value that differs, with its path such as ``effects[0].qty``. An end that lacks it says so."""

    path: str
    recorded: str
    replayed: str


@frozen
class Passed:
    """A record in short: its number and its event as it stands in the log."""

    n: int
    event: str


@frozen
class Divergence:
    """The first record on which the two sides differ.

    ``only_recorded`` and ``only_replayed`` are whole effects, ``changes`` the values that differ in effects of the same class and
    place, or in the state. ``before`` are the three records before it. ``again`` is the command that shows it once more.
    """

    n: int
    at_ns: int
    what: str
    event: str
    recorded: tuple[str, ...]
    replayed: tuple[str, ...]
    only_recorded: tuple[str, ...]
    only_replayed: tuple[str, ...]
    changes: tuple[Change, ...]
    before: tuple[Passed, ...]
    again: str


@frozen
class Unsafe:
    """A step after which an invariant does not hold."""

    n: int
    event: str
    invariants: tuple[str, ...]
    before: tuple[Passed, ...]
    again: str


@frozen
class Verdict:
    """What the replay found. ``core`` is the state at the end, ``digest`` that state's digest.

    ``records`` counts the replayed ones, ``last`` is the number of the last one. ``sealed``: the log was closed and is whole.
    ``torn`` counts the bytes cut off its end; ``end`` is where it could be continued. ``fault`` is what is wrong with the bytes, where that
    has a name.
    """

    kind: Kind
    exit_code: int
    core: Any = field(repr=False)
    digest: str
    segments: int
    records: int
    last: int
    sealed: bool
    torn: int
    end: End
    notes: tuple[str, ...] = ()
    problem: str = ""
    fault: Fault | None = None
    divergence: Divergence | None = None
    unsafe: Unsafe | None = None


def differences(recorded: Any, replayed: Any, path: str = "") -> Iterator[Change]:
    """Every place where two decoded JSON values differ, depth first."""
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        for key in [*recorded, *(key for key in replayed if key not in recorded)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(recorded.get(key, _ABSENT), replayed.get(key, _ABSENT), inner)
    elif isinstance(recorded, list) and isinstance(replayed, list):
        if _is_map(recorded) and _is_map(replayed):
            yield from differences({str(k): v for k, v in recorded}, {str(k): v for k, v in replayed}, path)
            return
        for index in range(max(len(recorded), len(replayed))):
            one = recorded[index] if index < len(recorded) else _ABSENT
            two = replayed[index] if index < len(replayed) else _ABSENT
            yield from differences(one, two, f"{path}[{index}]")
    elif recorded != replayed or type(recorded) is not type(replayed):
        yield Change(path, _text(recorded), _text(replayed))


def _is_map(value: list[Any]) -> bool:
    return all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], (dict, list)) for pair in value)


def _text(value: Any) -> str:
    return value if value == _ABSENT else msgspec.json.encode(value).decode()


def report(verdict: Verdict) -> str:
    """The verdict for people, on one screen."""
    ends = "sealed" if verdict.sealed else "not sealed"
    if verdict.torn:
        ends += f", torn tail of {verdict.torn} bytes cut off"
    many = "segment" if verdict.segments == 1 else "segments"
    lines = [f"{verdict.kind.upper()}: {verdict.records:,} records in {verdict.segments} {many}, last {verdict.last:,}, {ends}"]
    if verdict.problem:
        lines.append(f"  {verdict.problem}")
    if verdict.divergence:
        lines += _divergence_lines(verdict.divergence)
    if verdict.unsafe:
        found = verdict.unsafe
        lines += [f"  at record {found.n:,}: broken {', '.join(found.invariants)}", f"  event     {found.event}"]
        lines += _before_lines(found.before, found.again)
    lines += [f"  note      {note}" for note in verdict.notes]
    return "\n".join([*lines, f"  digest    {verdict.digest}", f"exit {verdict.exit_code}"])


def _divergence_lines(found: Divergence) -> list[str]:
    lines = [f"  at record {found.n:,} (at_ns {found.at_ns}): {found.what}", f"  event     {found.event}"]
    if found.recorded != found.replayed:
        lines += [f"  recorded  {effect}" for effect in found.recorded or ("no effects",)]
        lines += [f"  replayed  {effect}" for effect in found.replayed or ("no effects",)]
    lines += [f"  differs   {change.path}: recorded {change.recorded}, replayed {change.replayed}" for change in found.changes[:20]]
    if len(found.changes) > 20:
        lines.append(f"  differs   and {len(found.changes) - 20} more")
    return lines + _before_lines(found.before, found.again)


def _before_lines(before: tuple[Passed, ...], again: str) -> list[str]:
    return [*(f"  before    {passed.n:,} {passed.event}" for passed in before), f"  again     {again}"]
