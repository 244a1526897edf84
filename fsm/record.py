"""The lines of a log, and the proof that none was altered, lost, repeated or moved.

A log is one or more segments, each a file of JSON objects, one per line:

========  ====================================================================================================
header    ``{"haltcore":VERSION,"format":3,"rules":3,"config":{...},"segment":K,"first":N,"snapshot":STATE,"digest":D``
record    ``{"n":N,"event":{...},"effects":[...]``, and at checkpoints ``,"digest":D``
seal      ``{"seal":{"records":COUNT,"last":N,"more":BOOL},"digest":D``
========  ====================================================================================================

and every line goes on with ``,"prev":"P","hash":"H"}`` and a newline. H is the SHA-256 of all bytes of the line before ``,"hash"``, so a
line proves itself; P is the hash of the line before, so a line proves its neighbour. The first line of the next segment goes on from
the last line of this one. A seal is the last line of a segment; ``more`` says that the session went on in another one.

Two numbers, never one: FORMAT is the shape of the lines, RULES the behaviour of the core that wrote them. What a chain of
hashes cannot show, an auditor has to know: whoever can write the file can write a whole new chain, and a log cut off just
behind a seal looks complete. Keep the last hash somewhere else if that matters.

Here are the lines and how they are written; ``chain.py`` reads and judges them.
"""

import hashlib
from typing import Final, TypeAlias

import msgspec

from .upcast import STEPS, Upcasters

#: The shape of the lines. A change of shape is a new number and a step in ``upcast.py``.
FORMAT: Final = 3
#: The behaviour of the core. A change that decides differently on the same events is a new number.
RULES: Final = 3
#: A record whose number is a multiple of this carries the digest of the state after it.
CHECKPOINT_EVERY: Final = 256
#: The longest record or seal, and the longest header (which holds a snapshot), in bytes. More is not read into memory.
MAX_LINE: Final = 64 * 1024 * 1024
MAX_HEADER: Final = 1024 * 1024 * 1024
#: The ``prev`` of the first line of a log.
NO_HASH: Final = "0" * 64

UPCASTERS: Final = Upcasters(STEPS, FORMAT)
#: How the three kinds of lines begin.
MAGIC: Final = b'{"haltcore":'
RECORD: Final = b'{"n":'
SEAL: Final = b'{"seal":'
#: Lengths of ``,"prev":"<64>"`` and of ``,"hash":"<64>"}`` and newline.
PREV_LENGTH: Final = 74
END_LENGTH: Final = 76


class Header(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """The first line of a segment. ``first`` is the number of the first record in it; ``snapshot`` is the state before that, or null."""

    haltcore: str
    format: int
    rules: int
    config: msgspec.Raw
    segment: int
    first: int
    snapshot: msgspec.Raw
    digest: str
    prev: str
    hash: str


class Record(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """One step: the event, and the effects it had, both as the bytes that stand in the log."""

    n: int
    event: msgspec.Raw
    effects: msgspec.Raw
    prev: str
    hash: str
    digest: str = ""


class SealBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """``records`` in this segment, number of the ``last`` record, and whether the session went on in ``more`` segments."""

    records: int
    last: int
    more: bool


class Seal(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """The last line of a segment that was closed."""

    seal: SealBody
    digest: str
    prev: str
    hash: str


Line: TypeAlias = Header | Record | Seal


# --- writing --------------------------------------------------------------------------------------------------------


def _closed(body: bytes, prev: str) -> tuple[bytes, str]:
    text = b'%b,"prev":"%b"' % (body, prev.encode())
    own = hashlib.sha256(text).hexdigest()
    return b'%b,"hash":"%b"}\n' % (text, own.encode()), own


def header_line(
    prev: str, *, version: str, config: bytes, segment: int, first: int, snapshot: bytes | None, digest: str
) -> tuple[bytes, str]:
    """The line, and its hash. ``prev`` is the hash of the last line of the segment before, or :data:`NO_HASH`."""
    return _closed(header_body(version.encode(), FORMAT, RULES, config, segment, first, snapshot or b"null", digest), prev)


def header_body(
    version: bytes, shape: int, rules: int, config: bytes, segment: int, first: int, snapshot: bytes, digest: str
) -> bytes:
    form = b'{"haltcore":"%b","format":%d,"rules":%d,"config":%b,"segment":%d,"first":%d,"snapshot":%b,"digest":"%b"'
    return form % (version, shape, rules, config, segment, first, snapshot, digest.encode())


def record_line(prev: str, n: int, event: bytes, effects: bytes, digest: str) -> tuple[bytes, str]:
    """The line, and its hash. ``digest`` is empty between checkpoints."""
    return _closed(record_body(n, event, effects, digest), prev)


def record_body(n: int, event: bytes | msgspec.Raw, effects: bytes | msgspec.Raw, digest: str) -> bytes:
    if digest:
        return b'{"n":%d,"event":%b,"effects":%b,"digest":"%b"' % (n, event, effects, digest.encode())
    return b'{"n":%d,"event":%b,"effects":%b' % (n, event, effects)


def seal_line(prev: str, *, records: int, last: int, more: bool, digest: str) -> tuple[bytes, str]:
    """The line, and its hash."""
    return _closed(seal_body(records, last, more, digest), prev)


def seal_body(records: int, last: int, more: bool, digest: str) -> bytes:
    word = b"true" if more else b"false"
    return b'{"seal":{"records":%d,"last":%d,"more":%b},"digest":"%b"' % (records, last, word, digest.encode())
