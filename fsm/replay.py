"""Replay: the same events through this core, compared with what the log says was decided.

For every record, in this order: the chain (bytes), the event (decoded, and encoded again to the same bytes), the step, the
effects (byte for byte; decoded only when they differ), the digest at checkpoints, the invariants. The first finding ends the
replay. It is named by one of the words of ``verdict.py``.

There is no performer here and no argument for one, so a replay cannot act. There is no file either: the caller hands over the
bytes of the segments, in order. Segments are compared where they meet: the chain of hashes, the record number, and the state, which has to
be the snapshot that the next one starts from. A later segment by itself starts from its snapshot.

Metrics are telemetry: they are compared, but a run that differs in them alone made the same decisions, and is called so.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, TypeAlias

import msgspec
from attrs import frozen

from ..effects import Effect
from .chain import BEGINNING, Chain, End, Fault, LogBroken, Unsupported
from .codec import CONFIG, EFFECTS, EVENTS, STATE, CodecError
from .core import EMPTY, Core
from .digest import DigestTracker
from .events import Event, Started
from .invariants import broken, broken_state
from .record import CHECKPOINT_EVERY, FORMAT, RULES, Header, Record, Seal
from .step import step as current_step
from .verdict import EXIT_CODES, Change, Divergence, Kind, Passed, Unsafe, Verdict, differences

Step: TypeAlias = Callable[[Core, Event], tuple[Core, tuple[Effect, ...]]]
#: The names of the invariants that a step broke: ``check(before, event, after, effects)``.
Check: TypeAlias = Callable[[Core, Event, Core, tuple[Effect, ...]], Sequence[str]]
#: The names of the invariants that do not hold in a state, computed from scratch.
CheckState: TypeAlias = Callable[[Core], Sequence[str]]

#: Effects as texts: recorded, replayed, only recorded, only replayed.
_Sides: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]

_TELEMETRY = ("Metric",)


@frozen
class Source:
    """One segment: a name for messages, and its bytes in pieces of any size."""

    name: str
    chunks: Iterable[bytes]


@frozen
class Entry:
    """One record, decoded. ``digest`` is empty between checkpoints."""

    n: int
    event: Event
    effects: tuple[Effect, ...]
    digest: str


def entries(sources: Iterable[Source]) -> Iterator[Entry]:
    """The records of a log, the chain verified, nothing stepped. Raises :class:`LogBroken` or :class:`Unsupported`."""
    follows: End | None = None
    for source in sources:
        chain = Chain(source.name, follows)
        for line in chain.read(source.chunks):
            if type(line) is Record:
                yield Entry(line.n, _decoded(chain, EVENTS.decode, line.event), _decoded(chain, EFFECTS.decode, line.effects), line.digest)
        follows = chain.end


def replay(
    sources: Iterable[Source],
    *,
    step: Step = current_step,
    check: Check | None = broken,
    check_state: CheckState | None = broken_state,
    start: Core = EMPTY,
    require_seal: bool = False,
    strict: bool = False,
    until: int | None = None,
) -> Verdict:
    """Verify and replay a log. ``check`` looks at every step, ``check_state`` at the state at the end of each segment.

    ``require_seal``: a log that was not closed, or whose end is missing, is broken. ``strict``: other telemetry counts as
    diverged. ``until``: stop after that record, to look at the state there.
    """
    run = _Replay(step, check, check_state, start, strict, until)
    try:
        for source in sources:
            if run.segment(source):
                return run.verdict(Kind.SAME, notes=(f"stopped after record {run.core.seq:,}, as asked",))
        return run.finish(require_seal)
    except LogBroken as error:
        return run.verdict(Kind.BROKEN, problem=str(error), fault=error.fault)
    except CodecError as error:
        # What the decoders let pass and the state still cannot hold, such as sums beyond every bound.
        return run.verdict(Kind.BROKEN, problem=f"record {run.core.seq}: {error}. It was not written by haltcore")
    except Unsupported as error:
        return run.verdict(Kind.UNSUPPORTED, problem=str(error))
    except _Diverged as found:
        return run.verdict(Kind.DIVERGED, divergence=found.divergence)
    except _Unsafe as found:
        return run.verdict(Kind.UNSAFE, unsafe=found.unsafe)


class _Diverged(Exception):
    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence.what)
        self.divergence = divergence


class _Unsafe(Exception):
    def __init__(self, unsafe: Unsafe) -> None:
        super().__init__(unsafe.invariants)
        self.unsafe = unsafe


class _Replay:
    """One replay under way: the state so far, and what is needed to explain a finding."""

    def __init__(
        self, step: Step, check: Check | None, check_state: CheckState | None, start: Core, strict: bool, until: int | None
    ) -> None:
        self.core = start
        self._step, self._check, self._check_state, self._strict, self._until = step, check, check_state, strict, until
        self._tracker = DigestTracker(start)
        self._chain: Chain | None = None
        self._before: deque[Record] = deque(maxlen=3)
        self._segments = self._records = self._other_telemetry = self._checkpoint = 0
        self._first_telemetry = 0
        self._notes: list[str] = []

    # --- the walk -------------------------------------------------------------------------------------------------

    def segment(self, source: Source) -> bool:
        """Replay one segment; True when ``until`` is reached."""
        previous = self._chain
        if previous is not None and previous.sealed is None:
            text = f"it was not closed, and {source.name} follows"
            raise LogBroken(Fault.NOT_SEALED, previous.where, text, "Give all segments of one log, whole and in order")
        chain = self._chain = Chain(source.name, previous.end if previous else None)
        self._segments += 1
        for line in chain.read(source.chunks):
            if type(line) is Record:
                self._record(chain, line)
                if line.n == self._until:
                    return True
            elif type(line) is Header:
                self._header(chain, line, alone=previous is None)
            elif type(line) is Seal:
                self._compare_digest(chain, line.digest, "at the seal")
        if chain.header is None and previous is None:
            text = "the header was not written to its end"
            raise LogBroken(Fault.NO_HEADER, chain.where, text, "Nothing was recorded; delete the file and start anew")
        if chain.header is None:
            self._notes.append(f"{source.name} has no whole header: it was begun when the process died, and holds nothing")
        if self._check_state is not None and self._before:
            # Takes time in proportion to the orders, so it is done once per segment, not at every checkpoint.
            found = tuple(self._check_state(self.core))
            if found:
                self._unsafe(chain, self._before[-1], found)
        return False

    def finish(self, require_seal: bool) -> Verdict:
        """The verdict after the last segment."""
        chain = self._chain
        if chain is None:
            raise ValueError("a replay needs at least one segment; none was given")
        if require_seal and not self._sealed:
            what = "it goes on in a segment that was not given" if chain.sealed else "it has no seal, so its end may be missing"
            raise LogBroken(Fault.NOT_SEALED, chain.where, what, "Ask for the whole log, or accept logs that were not closed")
        if not self._other_telemetry:
            return self.verdict(Kind.SAME)
        note = f"same decisions, other telemetry in {self._other_telemetry:,} records, first in record {self._first_telemetry:,}"
        return self.verdict(Kind.OTHER_TELEMETRY, notes=(note,))

    @property
    def _sealed(self) -> bool:
        chain = self._chain
        return chain is not None and chain.sealed is not None and not chain.sealed.seal.more

    def verdict(
        self,
        kind: Kind,
        *,
        problem: str = "",
        fault: Fault | None = None,
        divergence: Divergence | None = None,
        unsafe: Unsafe | None = None,
        notes: tuple[str, ...] = (),
    ) -> Verdict:
        """The verdict on what was read so far."""
        code = EXIT_CODES[Kind.DIVERGED] if self._strict and kind is Kind.OTHER_TELEMETRY else EXIT_CODES[kind]
        torn, end = (self._chain.torn, self._chain.end) if self._chain else (0, BEGINNING)
        counts = (self._segments, self._records, self.core.seq, self._sealed, torn, end)
        try:
            digest = self._tracker.digest()
        except CodecError:
            digest = ""
        return Verdict(kind, code, self.core, digest, *counts, (*self._notes, *notes), problem, fault, divergence, unsafe)

    # --- one line -------------------------------------------------------------------------------------------------

    def _header(self, chain: Chain, header: Header, alone: bool) -> None:
        if header.rules != RULES:
            self._notes.append(f"recorded by rules {header.rules}, replayed by rules {RULES}: a divergence may be intended")
        if chain.format != FORMAT:
            self._notes.append(f"format {chain.format}, read as format {FORMAT}; digests are not compared")
        snapshot = bytes(header.snapshot)
        if snapshot == b"null":
            self._compare_digest(chain, header.digest, "at the start")
        elif not alone:
            own = STATE.encode(self.core)
            if own != snapshot and chain.format == FORMAT:
                changes = tuple(differences(msgspec.json.decode(snapshot), msgspec.json.decode(own)))
                self._diverged(chain, "the state is not the snapshot that the next segment starts from", changes=changes)
            self._compare_digest(chain, header.digest, "at the snapshot")
        else:
            if chain.format != FORMAT:
                raise Unsupported(f"{chain.file}: a snapshot of format {chain.format} cannot be read. Replay from the first segment")
            self.core = _decoded(chain, STATE.decode, header.snapshot)
            self._tracker = DigestTracker(self.core)
            if self._tracker.digest() != header.digest or self.core.seq != header.first - 1:
                raise _malformed(chain, "the snapshot is not the state that its digest and record number name")
            self._notes.append(f"begins with segment {header.segment}: what came before is taken from its snapshot")
        desk = self.core.desk
        if chain.format == FORMAT and desk is not None and CONFIG.encode(desk.config) != bytes(header.config):
            raise _malformed(chain, "the header names another configuration than the snapshot holds")
        self._checkpoint = self.core.seq

    def _record(self, chain: Chain, record: Record) -> None:
        event = _decoded(chain, EVENTS.decode, record.event)
        if EVENTS.encode(event) != bytes(record.event):
            raise _malformed(chain, "the event is not spelled as haltcore spells it")
        if chain.format == FORMAT and bool(record.digest) != (record.n % CHECKPOINT_EVERY == 0):
            raise _malformed(chain, f"a digest stands at every {CHECKPOINT_EVERY}th record, and only there")
        if record.n == 1:
            _check_configuration(chain, event)
        before = self.core
        try:
            core, effects = self._step(before, event)
            encoded = EFFECTS.encode(effects)
        except Exception as error:
            self._unsafe(chain, record, (f"the step must not raise; it raised {type(error).__name__}: {error}",))
        self.core = core
        self._records += 1
        self._tracker.advance(core)
        if encoded != bytes(record.effects):
            self._compare_effects(chain, record, event, encoded)
        if self._check is not None:
            found = tuple(self._check(before, event, core, effects))
            if found:
                self._unsafe(chain, record, found)
        if record.digest:
            self._compare_digest(chain, record.digest, "at the checkpoint", record)
        self._before.append(record)

    # --- findings -------------------------------------------------------------------------------------------------

    def _compare_effects(self, chain: Chain, record: Record, event: Event, encoded: bytes) -> None:
        _decoded(chain, EFFECTS.decode, record.effects)
        recorded, replayed = msgspec.json.decode(record.effects), msgspec.json.decode(encoded)
        if recorded == replayed and chain.format != FORMAT:
            return  # Upcast lines have the right values, not the old bytes.
        if _decisions(recorded) == _decisions(replayed):
            self._other_telemetry += 1
            self._first_telemetry = self._first_telemetry or record.n
            return
        only_recorded, only_replayed, changes = _effect_differences(recorded, replayed)
        self._diverged(
            chain,
            "other effects" if only_recorded or only_replayed or changes else "the same effects in another order, or under other ids",
            record,
            event.at_ns,
            (_texts(recorded), _texts(replayed), _texts(only_recorded), _texts(only_replayed)),
            changes,
        )

    def _compare_digest(self, chain: Chain, recorded: str, place: str, record: Record | None = None) -> None:
        if chain.format != FORMAT:
            return
        own = self._tracker.digest()
        if own != recorded:
            since = f"the state differs {place}; it was the same after record {self._checkpoint}, and all effects since agree"
            self._diverged(chain, since, record, changes=(Change("digest", recorded, own),))
        self._checkpoint = self.core.seq

    def _diverged(
        self,
        chain: Chain,
        what: str,
        record: Record | None = None,
        at_ns: int = 0,
        sides: _Sides = ((), (), (), ()),
        changes: tuple[Change, ...] = (),
    ) -> NoReturn:
        n, event = (record.n, bytes(record.event).decode()) if record else (self.core.seq, "")
        again = f"haltcore replay {chain.file} --until {n}"
        raise _Diverged(Divergence(n, at_ns or self.core.now_ns, what, event, *sides, changes, self._passed(), again))

    def _unsafe(self, chain: Chain, record: Record, found: tuple[str, ...]) -> NoReturn:
        again = f"haltcore replay {chain.file} --until {record.n}"
        raise _Unsafe(Unsafe(record.n, bytes(record.event).decode(), found, self._passed(), again)) from None

    def _passed(self) -> tuple[Passed, ...]:
        return tuple(Passed(record.n, bytes(record.event).decode()) for record in self._before)


def _check_configuration(chain: Chain, event: Event) -> None:
    """The header of the first segment names the configuration that the session starts with."""
    header = chain.header
    if type(event) is Started and header is not None and header.segment == 1 and CONFIG.encode(event.config) != bytes(header.config):
        raise _malformed(chain, "the session starts with another configuration than the header names")


def _malformed(chain: Chain, text: str) -> LogBroken:
    return LogBroken(Fault.MALFORMED, chain.where, text, "It was not written by haltcore; get the log again from its source")


def _decoded(chain: Chain, decode: Callable[[bytes | msgspec.Raw], Any], text: msgspec.Raw) -> Any:
    try:
        return decode(text)
    except CodecError as error:
        raise _malformed(chain, str(error)) from None


def _decisions(effects: list[Any]) -> list[Any]:
    return [effect for effect in effects if effect["class"] not in _TELEMETRY]


def _texts(effects: Iterable[Any]) -> tuple[str, ...]:
    return tuple(msgspec.json.encode(effect).decode() for effect in effects)


def _effect_differences(recorded: list[Any], replayed: list[Any]) -> tuple[list[Any], list[Any], tuple[Change, ...]]:
    """What is left when equal effects are taken away on both sides: effects of one class are compared, the others stand alone.

    Ids are left out of the comparison: one effect more at the front gives all the others new ones.
    """
    left, right = list(enumerate(recorded)), list(enumerate(replayed))
    for one in list(left):
        same = next((two for two in right if _nameless(two[1]) == _nameless(one[1])), None)
        if same is not None:
            left.remove(one)
            right.remove(same)
    changes: list[Change] = []
    for one in list(left):
        like = next((two for two in right if two[1]["class"] == one[1]["class"]), None)
        if like is not None:
            left.remove(one)
            right.remove(like)
            changes += differences(_nameless(one[1]), _nameless(like[1]), f"effects[{one[0]}]")
    return [effect for _, effect in left], [effect for _, effect in right], tuple(changes)


def _nameless(effect: Any) -> dict[str, Any]:
    return {key: value for key, value in effect.items() if key != "id"}
