"""Lines. Goal: the bytes of a log are what ``spec/log-format.md`` says.

Method: each kind of line is compared with a text put together by hand, its hashes computed here by the words of the specification.
"""

import hashlib
import json

from haltcore.fsm.record import CHECKPOINT_EVERY, END_LENGTH, FORMAT, NO_HASH, PREV_LENGTH, RULES, header_line, record_line, seal_line


def closed(body: str, prev: str) -> tuple[bytes, str]:
    """The line with that body, by the specification."""
    text = f'{body},"prev":"{prev}"'
    own = hashlib.sha256(text.encode()).hexdigest()
    return f'{text},"hash":"{own}"}}\n'.encode(), own


def test_a_header() -> None:
    line, own = header_line(NO_HASH, version="0.1.0", config=b'{"a":1}', segment=1, first=1, snapshot=None, digest="d" * 64)
    body = f'{{"haltcore":"0.1.0","format":3,"rules":3,"config":{{"a":1}},"segment":1,"first":1,"snapshot":null,"digest":"{"d" * 64}"'
    assert (line, own) == closed(body, "0" * 64)
    later, _ = header_line(own, version="0.1.0", config=b"{}", segment=2, first=9, snapshot=b'{"seq":8}', digest="")
    assert json.loads(later) == {
        "haltcore": "0.1.0",
        "format": FORMAT,
        "rules": RULES,
        "config": {},
        "segment": 2,
        "first": 9,
        "snapshot": {"seq": 8},
        "digest": "",
        "prev": own,
        "hash": json.loads(later)["hash"],
    }


def test_records_with_and_without_digest() -> None:
    assert record_line("a" * 64, 5, b"{}", b"[]", "") == closed('{"n":5,"event":{},"effects":[]', "a" * 64)
    body = f'{{"n":256,"event":{{}},"effects":[],"digest":"{"e" * 64}"'
    assert record_line("a" * 64, 256, b"{}", b"[]", "e" * 64) == closed(body, "a" * 64)


def test_a_seal() -> None:
    for more, word in ((True, "true"), (False, "false")):
        body = f'{{"seal":{{"records":3,"last":7,"more":{word}}},"digest":"{"e" * 64}"'
        assert seal_line("b" * 64, records=3, last=7, more=more, digest="e" * 64) == closed(body, "b" * 64)


def test_pinned_constants() -> None:
    """A change of one of these is a change of the format."""
    assert (FORMAT, RULES, CHECKPOINT_EVERY, PREV_LENGTH, END_LENGTH) == (3, 3, 256, 74, 76)
    line, own = record_line("a" * 64, 5, b"{}", b"[]", "")
    assert line[-END_LENGTH:] == f',"hash":"{own}"}}\n'.encode()
    assert line[-END_LENGTH - PREV_LENGTH : -END_LENGTH] == f',"prev":"{"a" * 64}"'.encode()
