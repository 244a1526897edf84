"""Reading. Goal: no change of a log goes unnoticed, the error says what happened and where, and only a torn end is forgiven.

Method: a small log is changed in every way that a fault can be described: every byte to other values, every byte dropped, every line
dropped, repeated or swapped with every other one, the end cut at every byte; then the named special cases.
"""

import hashlib
import itertools
from collections.abc import Iterable

import msgspec
import pytest
from haltcore.fsm import chain as chain_module
from haltcore.fsm.chain import Chain, End, Fault, LogBroken, Unsupported, split
from haltcore.fsm.record import FORMAT, NO_HASH, Header, Record, Seal, header_line, record_line, seal_line
from haltcore.fsm.upcast import Step, Upcasters


def written(first: int = 1, records: int = 4, follows: End | None = None, seal: bool = True, salt: bytes = b"") -> list[bytes]:
    """The lines of a segment."""
    segment, prev = (follows.segment + 1, follows.hash) if follows else (1, NO_HASH)
    snapshot = b'{"s":1}' if follows else None
    line, prev = header_line(prev, version="0.1.0", config=b"{}", segment=segment, first=first, snapshot=snapshot, digest="d")
    lines = [line]
    for n in range(first, first + records):
        line, prev = record_line(prev, n, b'{"at_ns":%d%b}' % (n, salt), b"[]", "d" if n % 2 else "")
        lines.append(line)
    if seal:
        lines.append(seal_line(prev, records=records, last=first + records - 1, more=False, digest="d")[0])
    return lines


def read(lines: Iterable[bytes], follows: End | None = None) -> Chain:
    """The chain after reading everything."""
    chain = Chain("mm1.jsonl", follows)
    for _ in chain.read(lines):
        pass
    return chain


def fault(lines: Iterable[bytes], follows: End | None = None) -> LogBroken:
    with pytest.raises(LogBroken) as caught:
        read(lines, follows)
    return caught.value


SEALED = written()
TEXT = b"".join(SEALED)
OPEN = written(seal=False)


def whole(text: bytes) -> bool:
    """Whether the text passes as a log that was closed."""
    try:
        return read([text]).sealed is not None
    except LogBroken:
        return False


def test_a_whole_log_is_read() -> None:
    chain = Chain("mm1.jsonl")
    kinds = [type(line) for line in chain.read([TEXT])]
    assert kinds == [Header, Record, Record, Record, Record, Seal]
    assert (chain.records, chain.torn, chain.whole) == (4, 0, len(TEXT))
    assert chain.end == End(msgspec.json.decode(SEALED[-1])["hash"], 1, 5, closed=True)


def test_every_changed_byte_is_noticed() -> None:
    for at, byte in enumerate(TEXT):
        for other in {byte ^ 1, byte ^ 0x20, 10, 0, 0x20} - {byte}:
            changed = TEXT[:at] + bytes([other]) + TEXT[at + 1 :]
            with pytest.raises(LogBroken):
                read([changed])


def test_every_dropped_or_doubled_byte_is_noticed() -> None:
    for at in range(len(TEXT)):
        assert not whole(TEXT[:at] + TEXT[at + 1 :]), at
        assert not whole(TEXT[: at + 1] + TEXT[at:]), at


def test_every_dropped_line_is_noticed() -> None:
    for at in range(len(SEALED) - 1):
        found = fault(SEALED[:at] + SEALED[at + 1 :])
        assert found.fault is (Fault.NO_HEADER if at == 0 else Fault.MISSING)
        assert found.where.line == at + 1
    assert read(SEALED[:-1]).sealed is None


def test_every_repeated_line_is_noticed() -> None:
    for at in range(len(SEALED)):
        assert fault([*SEALED[: at + 1], *SEALED[at:]]).fault is Fault.REPEATED
        for to in range(at + 2, len(SEALED) + 1):
            assert fault([*SEALED[:to], SEALED[at], *SEALED[to:]]).fault in (Fault.MOVED, Fault.AFTER_SEAL, Fault.REPEATED)


def test_every_swap_of_two_lines_is_noticed() -> None:
    for one, two in itertools.combinations(range(len(SEALED)), 2):
        lines = list(SEALED)
        lines[one], lines[two] = lines[two], lines[one]
        found = fault(lines).fault
        if one > 0 and two < len(SEALED) - 1:
            assert found is Fault.MOVED


def test_the_place_is_named() -> None:
    found = fault(SEALED[:2] + SEALED[3:])
    assert str(found).startswith(f"mm1.jsonl, line 3 (byte {len(SEALED[0] + SEALED[1])}), record 2: missing: record 2 is missing.")
    assert "records 2 to 3 are missing" in str(fault(SEALED[:2] + SEALED[4:]))
    assert "altered" in str(fault([*SEALED[:2], SEALED[2].replace(b"2}", b"3}"), *SEALED[3:]]))


def test_a_torn_end_is_cut_at_every_byte() -> None:
    text = b"".join(OPEN)
    starts = list(itertools.accumulate(map(len, OPEN)))
    for size in range(1, len(text)):
        chain = read([text[:size]])
        kept = max((start for start in starts if start <= size), default=0)
        assert (chain.whole, chain.torn) == (kept, size - kept)
        assert chain.sealed is None
        zeros = read([text[:size].rstrip(b"\n") + bytes(5)])
        assert zeros.torn > 0
    assert read([text]).torn == 0


def test_a_sealed_log_that_was_cut_is_never_taken_for_whole() -> None:
    for size in range(len(TEXT)):
        assert not whole(TEXT[:size])
    assert fault([TEXT[:-1]]).fault is Fault.NO_NEWLINE
    assert fault([TEXT[:-1] + b"\0"]).fault is Fault.NO_NEWLINE
    assert fault([TEXT[:-1] + b"x"]).fault is Fault.ALTERED


def test_whatever_follows_a_seal_is_refused() -> None:
    for more in (b"\n", b"x", b"{", OPEN[1], SEALED[0], b"\0"):
        assert fault([TEXT, more]).fault is Fault.AFTER_SEAL
    assert fault([TEXT, SEALED[-1]]).fault is Fault.REPEATED
    assert fault([TEXT, SEALED[-1][:-1]]).fault is not None


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        (b"", Fault.NO_HEADER, "empty"),
        (b"\x1f\x8b\x08 whatever\n", Fault.JUNK, "compressed"),
        (b"\x00\xff\xfe\n", Fault.JUNK, "none of a haltcore log"),
        (b"hello\n", Fault.JUNK, "none of a haltcore log"),
        (b"hello", Fault.JUNK, "none of a haltcore log"),
        (b"\n", Fault.JUNK, "none of a haltcore log"),
        (TEXT.replace(b"\n", b"\r\n"), Fault.ALTERED, "binary mode"),
        (b'{"n":1}\n', Fault.ALTERED, "hash"),
        (b"".join(OPEN[1:]), Fault.NO_HEADER, "record 1"),
        (SEALED[-1], Fault.NO_HEADER, "header"),
    ],
)
def test_what_is_no_log_is_named(text: bytes, kind: Fault, word: str) -> None:
    found = fault([text])
    assert found.fault is kind
    assert word in str(found)


def test_what_stands_in_a_file_that_is_no_log_is_not_shown() -> None:
    """A wrong path may name anybody's file."""
    assert "secret" not in str(fault([b"secret\n"]))


def test_a_line_of_another_log_is_foreign() -> None:
    other = written(salt=b" ")
    assert fault([*SEALED[:2], *other[2:]]).fault is Fault.FOREIGN


def forged(body: bytes, prev: str) -> bytes:
    text = b'%b,"prev":"%b"' % (body, prev.encode())
    return b'%b,"hash":"%b"}\n' % (text, hashlib.sha256(text).hexdigest().encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"n":1,"event":{},"effects":[],"more":1',
        b'{"n":1,"effects":[],"event":{}',
        b'{"n":1, "event":{},"effects":[]',
        b'{"n":1.0,"event":{},"effects":[]',
        b'{"n":true,"event":{},"effects":[]',
        b'{"n":1,"event":{}',
        b'{"n":1,"event":{},"effects":[],"digest":""',
        b'{"n":1,"event":{,"effects":[]',
        b'{"seal":{"records":0,"last":0,"more":false,"x":1},"digest":"d"',
        b'{"seal":{"records":1,"last":0,"more":false},"digest":"d"',
        b'{"seal":{"records":0,"last":0,"more":0},"digest":"d"',
        b'{"seal": {"records":0,"last":0,"more":false},"digest":"d"',
    ],
)
def test_a_line_with_a_right_hash_and_a_wrong_shape_is_refused(body: bytes) -> None:
    prev = msgspec.json.decode(SEALED[0])["hash"]
    assert fault([SEALED[0], forged(body, prev)]).fault in (Fault.MALFORMED, Fault.MISSING)


def test_a_record_with_a_right_hash_and_a_wrong_number_is_refused() -> None:
    prev = msgspec.json.decode(SEALED[0])["hash"]
    for n, kind in ((2, Fault.MISSING), (0, Fault.MOVED), (-1, Fault.MOVED)):
        assert fault([SEALED[0], forged(b'{"n":%d,"event":{},"effects":[]' % n, prev)]).fault is kind


def test_a_header_with_a_wrong_shape_is_refused() -> None:
    body = SEALED[0].split(b',"prev"')[0]
    changes = ((b'"first":1', b'"first":2'), (b'"config":{}', b'"config": {}'), (b'"rules":3', b'"rules":"3"'), (b',"segment":1', b""))
    for old, new in changes:
        assert fault([forged(body.replace(old, new), NO_HASH)]).fault is Fault.MALFORMED
    assert fault([forged(body, "a" * 64)]).fault is Fault.MALFORMED
    assert fault([forged(body.replace(b'"segment":1', b'"segment":2'), NO_HASH)]).fault is Fault.MALFORMED


def test_segments_meet() -> None:
    end = read([TEXT]).end
    second = written(5, 2, end)
    assert read(second, end).end.next == 7
    assert read(second).end.next == 7, "alone, a later segment is taken at its header's word"
    assert fault(second, End(end.hash, 2, 5, closed=True)).fault is Fault.MOVED
    assert fault(second, End(end.hash, 0, 5, closed=True)).fault is Fault.MISSING
    assert fault(second, End("a" * 64, 1, 5, closed=True)).fault is Fault.FOREIGN
    assert fault(second, End(end.hash, 1, 4, closed=True)).fault is Fault.MISSING


def test_other_versions_are_named() -> None:
    body = SEALED[0].split(b',"prev"')[0]
    for old, new, word in (
        (b'"format":3', b'"format":4', "format 4, written by haltcore 0.1.0; this version reads format 1 to 3"),
        (b'"format":3', b'"format":0', "format 0"),
        (b'"rules":3', b'"rules":4', "rules 4"),
        (b'"format":3,', b'"format":9,"new":1,', "0.1.0"),
    ):
        with pytest.raises(Unsupported, match=word):
            read([forged(body.replace(old, new), NO_HASH)])


def test_an_old_format_is_read_through_its_upcasters() -> None:
    def change(line: dict[str, object]) -> dict[str, object]:
        return {("event" if key == "input" else key): (FORMAT if key == "format" else value) for key, value in line.items()}

    body = SEALED[0].split(b',"prev"')[0].replace(b'"format":3', b'"format":2')
    header = forged(body, NO_HASH)
    record = forged(b'{"n":1,"input":{},"effects":[]', msgspec.json.decode(header)["hash"])
    chain = Chain("old.jsonl", upcasters=Upcasters([Step(FORMAT - 1, FORMAT, change)], FORMAT))
    lines = list(chain.read([header, record]))
    assert isinstance(lines[1], Record)
    assert bytes(lines[1].event) == b"{}"
    assert chain.header is not None
    assert (chain.format, chain.header.format) == (FORMAT - 1, FORMAT)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 10_000])
def test_pieces_of_any_size_give_the_same_lines(size: int) -> None:
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert list(split(pieces)) == SEALED
    assert list(split([*pieces, b"tail"])) == [*SEALED, b"tail"]


def test_a_line_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "MAX_LINE", 1000)
    monkeypatch.setattr(chain_module, "MAX_HEADER", 5000)
    for start, most in ((b"{", 1000), (b'{"haltcore":', 5000)):
        taken = 0

        def pieces(start: bytes = start) -> Iterable[bytes]:
            nonlocal taken
            yield start
            while True:
                taken += 100
                yield b"x" * 100

        assert fault(pieces()).fault is Fault.TOO_LONG
        assert taken <= most + 100
