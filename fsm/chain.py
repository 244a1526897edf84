"""Reading a log: each line is judged before anybody sees it.

A line that proves itself (its hash fits its bytes) but not its neighbour (it does not go on from the line before) was moved, repeated or
follows a hole; a line that does not even prove itself was altered, or is none of a log. :class:`Chain` says which, with the
place and the remedy, as :class:`LogBroken`. Nothing is repaired and nothing is skipped.

One thing is no fault: a log that was not closed may end in the beginning of a line, because the process or the machine died
while it was written. Nobody was ever told that such a record is durable, so it can be cut off; ``Chain.torn`` counts its
bytes. In a log that ends with its seal nothing can be torn.
"""

import hashlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from io import BytesIO
from typing import Any, Final, NoReturn

import msgspec
from attrs import frozen

from .record import (
    END_LENGTH,
    FORMAT,
    MAGIC,
    MAX_HEADER,
    MAX_LINE,
    NO_HASH,
    PREV_LENGTH,
    RECORD,
    RULES,
    SEAL,
    UPCASTERS,
    Header,
    Line,
    Record,
    Seal,
    header_body,
    record_body,
    seal_body,
)
from .upcast import Upcasters


class Fault(StrEnum):
    """What is wrong with a log."""

    ALTERED = "altered"
    MISSING = "missing"
    REPEATED = "repeated"
    MOVED = "out of order"
    FOREIGN = "foreign"
    AFTER_SEAL = "after the seal"
    JUNK = "junk"
    TOO_LONG = "too long"
    MALFORMED = "malformed"
    NO_HEADER = "no header"
    NO_NEWLINE = "no newline"
    NOT_SEALED = "not sealed"


@frozen
class Where:
    """A place in a log: file, line counted from 1, offset of its first byte, and the record that was expected there."""

    file: str
    line: int
    offset: int
    record: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line} (byte {self.offset}), record {self.record}"


class LogBroken(ValueError):
    """The log is not as it was written. It is refused as a whole from this place on."""

    def __init__(self, fault: Fault, where: Where, text: str, remedy: str) -> None:
        super().__init__(f"{where}: {fault}: {text}. {remedy}")
        self.fault, self.where, self.text, self.remedy = fault, where, text, remedy


class Unsupported(ValueError):
    """The log is whole, but of a format or of rules that this version does not know."""


class _Frame(msgspec.Struct):
    """What the header of every format has."""

    haltcore: str
    format: int


_read_record = msgspec.json.Decoder(Record).decode
_read_seal = msgspec.json.Decoder(Seal).decode
_read_header = msgspec.json.Decoder(Header).decode
_read_frame = msgspec.json.Decoder(_Frame).decode


def split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that comes in pieces of any size, newlines kept. The last one may lack its newline.

    A line that outgrows its bound comes out as soon as it does, without newline, and nothing after it: the reader refuses it.
    """
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        if b"\n" not in chunk:
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_LINE and (size > MAX_HEADER or not parts[0].startswith(MAGIC)):
                yield b"".join(parts)
                return
            continue
        lines = BytesIO(b"".join([*parts, chunk])).readlines()
        last = lines[-1]
        parts, size = ([], 0) if last.endswith(b"\n") else ([lines.pop()], len(last))
        yield from lines
    if size:
        yield b"".join(parts)


@frozen
class End:
    """Where a segment ended: what the next one has to go on from.

    ``next`` is the number of the record to come; ``closed`` says that the last line was a seal, ``current`` that format and rules of the
    segment are the present ones, so that it may be continued.
    """

    hash: str
    segment: int
    next: int
    closed: bool
    current: bool = True


#: Before the first segment of a log.
BEGINNING: Final = End(NO_HASH, 0, 1, closed=True)


class Chain:
    """Reads one segment and judges it.

    ``follows`` is the end of the segment before; None takes the header's word for it, to read a segment alone. ``format`` is the
    one in which the segment was written; ``header`` is given in the current one. After :meth:`read`: ``torn`` counts the bytes
    of a last line that was not written to its end (0 when there is none), ``whole`` the bytes before it; ``sealed`` is the seal
    or None.
    """

    def __init__(self, file: str, follows: End | None = None, upcasters: Upcasters = UPCASTERS) -> None:
        self.file = file
        self.format = FORMAT
        self.header: Header | None = None
        self.sealed: Seal | None = None
        self.torn = self.whole = self.records = 0
        self._follows = follows
        self._upcasters = upcasters
        self._line = 0
        self._hash = follows.hash if follows else NO_HASH
        self._next = follows.next if follows else 1

    @property
    def end(self) -> End:
        """Where the segment ended, as far as it was read."""
        current = self.header is None or (self.format, self.header.rules) == (FORMAT, RULES)
        return End(self._hash, self.header.segment if self.header else 0, self._next, self.sealed is not None, current)

    @property
    def where(self) -> Where:
        """The line that was read last."""
        return Where(self.file, self._line, self.whole, self._next)

    def read(self, chunks: Iterable[bytes]) -> Iterator[Line]:
        """The lines, each judged before it is given out. Raises :class:`LogBroken` or :class:`Unsupported`."""
        lines = split(chunks)
        for line in lines:
            self._line += 1
            if line[-1] != 10:  # a newline
                self._cut(line)
                break
            body = self._proven(line)
            if body is None:
                self._refuse(line)
            read = self._parsed(line, body, lines)
            self._hash = read.hash
            yield read
            self.whole += len(line)
        if self.header is None and not self.torn and not (self._follows is not None and self._follows.closed):
            # Behind a closed segment an empty file is a rotation that did not come to its end.
            self._broken(Fault.NO_HEADER, "the file is empty", "Delete it if nothing was recorded, or get the log again from its source")

    def _broken(self, fault: Fault, text: str, remedy: str) -> NoReturn:
        raise LogBroken(fault, self.where, text, remedy)

    def _proven(self, line: bytes) -> bytes | None:
        """The line up to ``,"prev"``, or None when its hash does not fit its bytes."""
        at = len(line) - END_LENGTH
        own = hashlib.sha256(line[:at] if at > 0 else b"").hexdigest()
        if line[at:] != b',"hash":"%b"}\n' % own.encode() or at < PREV_LENGTH:
            return None
        return line[: at - PREV_LENGTH]

    def _cut(self, line: bytes) -> None:
        """Judge a last line without newline: torn while it was written, or broken by other hands?"""
        if len(line) > MAX_LINE and (len(line) > MAX_HEADER or not line.startswith(MAGIC)):
            text = f"the line has more than {MAX_LINE:,} bytes"
            self._broken(Fault.TOO_LONG, text, "This is no log, or a damaged one; get the log again from its source")
        if self.sealed is not None:
            self._refuse_after_seal(line)
        # A file system may have given the file its length before its bytes: then the end is filled with zeros.
        start = line.rstrip(b"\0")
        if line.startswith(SEAL) and self._proven(start + b"\n") is not None:
            self._broken(Fault.NO_NEWLINE, "the seal is there, its newline is not", "Get the log again from its source")
        # A write that was cut off leaves the beginning of a line, never a whole line and something else in place of its newline.
        if self._proven(start[:-1] + b"\n") is not None:
            self._broken(Fault.ALTERED, "the newline at the end is another byte", "Get the log again from its source")
        if not any(start.startswith(word[: len(start)]) for word in (MAGIC, RECORD, SEAL)):
            self._refuse(line)
        self.torn = len(line)

    def _refuse(self, line: bytes) -> NoReturn:
        """Say why a line does not prove itself."""
        again = "Get the log again from its source"
        if self.sealed is not None:
            self._refuse_after_seal(line)
        if line.endswith(b"}\r\n"):
            self._broken(Fault.ALTERED, "the line ends were changed to CR LF", "Copy the file in binary mode")
        if not line.startswith((MAGIC, RECORD, SEAL)):
            if self._line == 1 and line.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK")):
                self._broken(Fault.JUNK, "the file is compressed", "Unpack it first")
            # What the line says is not shown: the file may be anybody's.
            self._broken(Fault.JUNK, "the line is none of a haltcore log", again)
        self._broken(Fault.ALTERED, "the bytes of the line do not give the hash that it ends with", again)

    def _refuse_after_seal(self, line: bytes) -> NoReturn:
        if self.sealed is not None and self.sealed.hash.encode() in line[-END_LENGTH:]:
            self._broken(Fault.REPEATED, "the seal stands there twice", "Get the log again from its source")
        text = "the log was closed with a seal, and here something follows"
        self._broken(Fault.AFTER_SEAL, text, "Whatever follows was not written by haltcore; get the log again from its source")

    def _parsed(self, line: bytes, body: bytes, rest: Iterator[bytes]) -> Line:
        if self.sealed is not None:
            self._refuse_after_seal(line)
        try:
            if self.header is not None and self.format != FORMAT:
                line = body = self._upcast(line)
            if line.startswith(RECORD):
                record = _read_record(line)
                if record.n != self._next or record.prev != self._hash or self.header is None:
                    self._misplaced(record.n, record.hash, rest)
                if body != record_body(record.n, record.event, record.effects, record.digest) and body is not line:
                    self._malformed("its keys or spaces are not as haltcore writes them")
                self._next += 1
                self.records += 1
                return record
            if line.startswith(SEAL):
                return self._seal(_read_seal(line), line, body)
            return self._begin(line, body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._malformed(str(error))

    def _malformed(self, text: str) -> NoReturn:
        self._broken(Fault.MALFORMED, text, "The line was not written by haltcore; get the log again from its source")

    def _misplaced(self, n: int, own: str, rest: Iterator[bytes]) -> NoReturn:
        """Say what happened to a line that is true in itself but does not go on from the one before."""
        again = "Get the log again from its source"
        if self.header is None:
            self._broken(Fault.NO_HEADER, f"the file begins with record {n}, the header before it is missing", again)
        if n == self._next:
            self._broken(Fault.FOREIGN, f"record {n} goes on from another line than the one before it", again)
        if own == self._hash:
            self._broken(Fault.REPEATED, f"record {n} stands there twice", again)
        if n < self._next:
            self._broken(Fault.MOVED, f"record {n} comes after record {self._next - 1}", again)
        if any(line.startswith(b'{"n":%d,' % self._next) for line in rest):
            self._broken(Fault.MOVED, f"record {n} comes before record {self._next}", again)
        gap = f"record {self._next} is" if n == self._next + 1 else f"records {self._next} to {n - 1} are"
        self._broken(Fault.MISSING, f"{gap} missing", again)

    def _seal(self, seal: Seal, line: bytes, body: bytes) -> Seal:
        parts = seal.seal
        if self.header is None:
            self._misplaced(parts.last, seal.hash, iter(()))
        if seal.prev != self._hash:
            self._misplaced(parts.last + 1, seal.hash, iter(()))
        if (parts.records, parts.last) != (self.records, self._next - 1):
            text = f"the seal counts {parts.records} records up to {parts.last}; there are {self.records} up to {self._next - 1}"
            self._broken(Fault.MALFORMED, text, "The seal was not written by haltcore; get the log again from its source")
        if body != seal_body(parts.records, parts.last, parts.more, seal.digest) and body is not line:
            self._malformed("its keys or spaces are not as haltcore writes them")
        self.sealed = seal
        return seal

    def _begin(self, line: bytes, body: bytes) -> Header:
        if self.header is not None:
            again = b'"hash":"%b"' % self.header.hash.encode() in line[-END_LENGTH:]
            text = "a header stands in the middle of a segment"
            self._broken(Fault.REPEATED if again else Fault.MOVED, text, "Give every segment as a file of its own")
        frame = _read_frame(line)
        if frame.format > FORMAT or frame.format < self._upcasters.oldest:
            known = f"{self._upcasters.oldest} to {FORMAT}" if self._upcasters.oldest < FORMAT else f"{FORMAT}"
            raise Unsupported(
                f"{self.file}: format {frame.format}, written by haltcore {frame.haltcore}; this version reads format {known}."
                f" Use haltcore {frame.haltcore}{' or later' if frame.format > FORMAT else ''}"
            )
        self.format = frame.format
        if frame.format != FORMAT:
            line = body = self._upcast(line)
        header = _read_header(line)
        if header.rules > RULES:
            raise Unsupported(
                f"{self.file}: rules {header.rules}, written by haltcore {header.haltcore}; this version decides by rules {RULES}."
                f" Use haltcore {header.haltcore} or later"
            )
        version = msgspec.json.encode(header.haltcore)[1:-1]
        numbers = (header.segment, header.first, bytes(header.snapshot), header.digest)
        if body is not line and body != header_body(version, header.format, header.rules, bytes(header.config), *numbers):
            self._malformed("its keys or spaces are not as haltcore writes them")
        self._meet(header)
        self.header, self._next = header, header.first
        return header

    def _meet(self, header: Header) -> None:
        """Check that the segment goes on from the one before it."""
        if self._follows is None:
            if header.segment == 1 and (header.prev != NO_HASH or header.first != 1):
                self._malformed("the first segment does not begin at the beginning")
            if header.segment > 1 and bytes(header.snapshot) == b"null":
                self._malformed("a later segment has no snapshot")
            return
        if header.segment != self._follows.segment + 1:
            text = f"segment {header.segment} follows segment {self._follows.segment}"
            self._broken(Fault.MISSING if header.segment > self._follows.segment else Fault.MOVED, text, "Give all segments, in order")
        if header.prev != self._follows.hash or header.first != self._follows.next:
            text = f"segment {header.segment} does not go on from the last line of segment {self._follows.segment}"
            fault = Fault.FOREIGN if header.first == self._follows.next else Fault.MISSING
            self._broken(fault, text, "Give the segments of one log, whole")

    def _upcast(self, line: bytes) -> bytes:
        try:
            read: dict[str, Any] = msgspec.json.decode(line)
        except RecursionError:
            self._malformed("it is nested deeper than any line of a log")
        return msgspec.json.encode(self._upcasters.upcast(read, self.format))
