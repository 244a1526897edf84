"""Verdicts. Goal: differences are named by their path, and the report holds on one screen what somebody needs to go on.

Method: small values with known differences; whole reports compared line by line.
"""

from typing import Any

from haltcore.fsm.chain import BEGINNING
from haltcore.fsm.core import EMPTY
from haltcore.fsm.verdict import EXIT_CODES, Change, Divergence, Kind, Passed, Unsafe, Verdict, differences, report


def test_equal_values_do_not_differ() -> None:
    values: list[Any] = [{}, [], {"a": [1, {"b": None}]}, "x", True]
    for value in values:
        assert list(differences(value, value)) == []


def test_differences_have_paths() -> None:
    recorded = {"a": 1, "b": [1, {"c": "x"}], "gone": None, "same": 0}
    replayed = {"a": True, "b": [1, {"c": "y"}, 3], "same": 0, "new": []}
    assert list(differences(recorded, replayed)) == [
        Change("a", "1", "true"),
        Change("b[1].c", '"x"', '"y"'),
        Change("b[2]", "(absent)", "3"),
        Change("gone", "null", "(absent)"),
        Change("new", "(absent)", "[]"),
    ]


def test_maps_are_compared_by_key() -> None:
    recorded = {"orders": [[1, {"qty": "1"}], [7, {"qty": "2"}]]}
    replayed = {"orders": [[7, {"qty": "3"}]]}
    assert list(differences(recorded, replayed)) == [
        Change("orders.1", '{"qty":"1"}', "(absent)"),
        Change("orders.7.qty", '"2"', '"3"'),
    ]


def test_every_kind_has_its_exit_code() -> None:
    assert {kind.value: EXIT_CODES[kind] for kind in Kind} == {
        "same": 0, "other telemetry": 0, "broken": 2, "diverged": 3, "unsafe": 4, "unsupported": 5,
    }  # fmt: skip


def test_the_report_of_a_divergence() -> None:
    changes = tuple(Change(f"p{number}", "1", "2") for number in range(25))
    before = (Passed(6, "e6"), Passed(7, "e7"))
    found = Divergence(8, 5, "other effects", "e8", ("r1", "r2"), (), ("r1", "r2"), (), changes, before, "haltcore replay x --until 8")
    lines = report(Verdict(Kind.DIVERGED, 3, EMPTY, "d", 2, 1234, 8, False, 9, BEGINNING, ("a note",), divergence=found)).split("\n")
    assert lines[:6] == [
        "DIVERGED: 1,234 records in 2 segments, last 8, not sealed, torn tail of 9 bytes cut off",
        "  at record 8 (at_ns 5): other effects",
        "  event     e8",
        "  recorded  r1",
        "  recorded  r2",
        "  replayed  no effects",
    ]
    assert lines[6] == "  differs   p0: recorded 1, replayed 2"
    assert lines[26:] == [
        "  differs   and 5 more",
        "  before    6 e6",
        "  before    7 e7",
        "  again     haltcore replay x --until 8",
        "  note      a note",
        "  digest    d",
        "exit 3",
    ]


def test_the_report_of_the_other_kinds() -> None:
    same = Verdict(Kind.SAME, 0, EMPTY, "d", 1, 2, 2, True, 0, BEGINNING)
    assert report(same) == "SAME: 2 records in 1 segment, last 2, sealed\n  digest    d\nexit 0"
    broken = Verdict(Kind.BROKEN, 2, EMPTY, "d", 1, 2, 2, False, 0, BEGINNING, problem="x, line 3: altered")
    assert "  x, line 3: altered\n" in report(broken)
    unsafe = Unsafe(2, "e2", ("SAFE-1", "SAFE-2"), (), "again")
    assert "broken SAFE-1, SAFE-2" in report(Verdict(Kind.UNSAFE, 4, EMPTY, "d", 1, 2, 2, False, 0, BEGINNING, unsafe=unsafe))
