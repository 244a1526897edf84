"""The rows of a guarded side effect follow the tables that ``fsm/guard.py`` opens with, and these tables keep a side effect from
happening twice.

Method: the printed tables are read and compared with the functions, cell by cell, so neither can change alone. What the tables are for
is shown apart from them: every order of moves of three claimers who follow the protocol, one of whom may believe that another has died, is
gone through, and the effect happens at most once in each. Names: hashes are pinned, and two different lists of parts never collide.
"""

import itertools
import re
from collections.abc import Iterator

import pytest
from haltcore.effects import GuardState
from haltcore.fsm import guard
from haltcore.fsm.events import GuardKind
from haltcore.fsm.guard import CUT, RESULT_BYTES, Decision, cut, guard_key, on_claim, on_retake, on_settle, params_hash
from hypothesis import given
from hypothesis import strategies as st

ROWS = (None, *GuardState)


def tables() -> list[dict[str, list[str]]]:
    """Each table of the module's essay: its first column with the rest of the cells."""
    lines = (guard.__doc__ or "").splitlines()
    rules = [number for number, line in enumerate(lines) if re.fullmatch(r"(=+ ?)+", line)]
    found = []
    for head, top, end in zip(rules[::3], rules[1::3], rules[2::3], strict=True):
        starts = [match.start() for match in re.finditer("=+", lines[head])]
        ends = [*starts[1:], None]
        rows = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines[top + 1 : end]]
        found.append({row[0]: row[1:] for row in rows})
    return found


def state(name: str) -> GuardState | None:
    return None if name == "nothing" else GuardState[name]


def claimed(cell: str) -> Decision:
    kind = GuardKind[re.split(r"\W", cell)[0]]
    return Decision(kind, GuardState.INTENT if "is written" in cell else None)


def test_claims_follow_the_printed_table() -> None:
    claims, _, _ = tables()
    assert sorted(map(state, claims), key=str) == sorted(ROWS, key=str)
    for name, (own, same, other) in claims.items():
        row = state(name)
        if row is None:
            assert {on_claim(row, a, b) for a in (False, True) for b in (False, True)} == {claimed(own)}
            continue
        assert on_claim(row, True, True) == claimed(own)
        assert on_claim(row, False, True) == claimed(same)
        assert on_claim(row, False, False) == claimed(other)
        assert on_claim(row, True, False).kind is GuardKind.MISMATCH


def test_settlements_follow_the_printed_table() -> None:
    _, settlements, _ = tables()
    assert sorted(map(state, settlements), key=str) == sorted(ROWS, key=str)
    told = (GuardState.SENT, GuardState.DONE, GuardState.REJECTED, GuardState.IN_DOUBT)
    for name, cells in settlements.items():
        row = state(name)
        for what, cell in zip(told, cells, strict=True):
            if cell == "LOST":
                expected = Decision(GuardKind.LOST)
            else:
                expected = Decision(GuardKind.SETTLED, None if cell == "stands" else GuardState[cell])
            assert on_settle(what, row, True, True) == expected, (name, what)
            for own, same in ((False, True), (False, False), (True, False)):
                assert on_settle(what, row, own, same) == (expected if row is None else Decision(GuardKind.LOST))


def test_take_overs_follow_the_printed_table() -> None:
    _, _, retakes = tables()
    assert sorted(map(state, retakes), key=str) == sorted(ROWS, key=str)
    taken, lost = Decision(GuardKind.CLAIMED, GuardState.INTENT), Decision(GuardKind.LOST)
    for name, (cell,) in retakes.items():
        row = state(name)
        assert on_retake(row, False, True, True) == (taken if cell.startswith("yes") else lost)
        assert on_retake(row, False, False, True) == lost, "it is a third owner's"
        assert on_retake(row, False, True, False) == lost, "other parameters"
        said_again = Decision(GuardKind.CLAIMED) if row is GuardState.INTENT else lost
        assert on_retake(row, True, False, True) == on_retake(row, True, True, True) == said_again
        assert on_retake(row, True, False, False) == lost


@pytest.mark.parametrize("row", ROWS)
def test_a_claim_is_no_settlement(row: GuardState | None) -> None:
    with pytest.raises(ValueError, match="claim the side effect"):
        on_settle(GuardState.INTENT, row, True, True)


# --- what the tables are for ----------------------------------------------------------------------------------------


class Claimers:
    """Three of them and one side effect. Each claims, says SENT, and acts if both were granted. C believes that A has died, and tries
    to take over from it. In the world the deed can happen twice."""

    def __init__(self) -> None:
        self.row: GuardState | None = None
        self.owner = ""
        self.deeds = 0
        self.at = dict.fromkeys("abc", 0)
        self.out = dict.fromkeys("abc", False)

    def move(self, who: str) -> None:
        if self.out[who]:
            return
        own, was = self.owner == who, self.owner == "a"
        step = self.at[who]
        if step == 0 and who == "c" and was and self.row is GuardState.INTENT:
            decision = on_retake(self.row, own, was, True)
        elif step == 0:
            decision = on_claim(self.row, own, True)
        elif step == 1:
            decision = on_settle(GuardState.SENT, self.row, own, True)
        elif step == 2:
            self.deeds += 1
            decision = Decision(GuardKind.CLAIMED)
        else:
            decision = on_settle(GuardState.DONE, self.row, own, True)
        if decision.writes is not None:
            self.row, self.owner = decision.writes, who
        self.out[who] = decision.kind not in (GuardKind.CLAIMED, GuardKind.SETTLED) or step == 3
        self.at[who] += 1


def orders() -> Iterator[tuple[str, ...]]:
    """Every order of four moves each of a, b and c."""

    def rest(left: tuple[int, int, int]) -> Iterator[tuple[str, ...]]:
        if left == (0, 0, 0):
            yield ()
        for at, who in enumerate("abc"):
            if left[at]:
                fewer = (left[0] - (at == 0), left[1] - (at == 1), left[2] - (at == 2))
                yield from ((who, *more) for more in rest(fewer))

    return rest((4, 4, 4))


def test_in_every_order_of_moves_the_deed_happens_once() -> None:
    taken_over = 0
    for order in orders():
        claimers = Claimers()
        for who in order:
            claimers.move(who)
        assert claimers.deeds == 1, order
        assert claimers.row is GuardState.DONE
        taken_over += claimers.at["a"] == 2 and claimers.owner == "c"
    assert taken_over, "nobody was ever taken over from, so nothing was shown"


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_key_is_the_hash_of_type_and_entity() -> None:
    assert guard_key("order_placement", "s000001a") == "119b88decbd9e6e546acd268e79557cd20eef3b255d4394b02bb8ef57e39f27b"
    with pytest.raises(ValueError, match="NUL"):
        guard_key("a\0b", "c")


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_keys_of_different_things_differ(one: tuple[str, str], other: tuple[str, str]) -> None:
    if one != other and "\0" not in one[0] + other[0]:
        assert guard_key(*one) != guard_key(*other)


def test_no_two_lists_of_parameters_have_the_same_hash() -> None:
    parts = ("", "a", ",", "a,", ",a", "1:a", "1:a,", "0:,", "ab", "1")
    lists = [tuple(some) for length in range(4) for some in itertools.product(parts, repeat=length)]
    assert len({params_hash(*some) for some in lists}) == len(lists)
    assert len(params_hash("\ud800")) == 64


@pytest.mark.parametrize("letter", ["x", "ä", "€", "😀"])
def test_a_long_result_is_cut_and_marked_at_a_letter(letter: str) -> None:
    fits = letter * (RESULT_BYTES // len(letter.encode()))
    assert cut(fits) == fits
    kept = cut(fits + "xxxx")
    assert kept.endswith(CUT)
    assert RESULT_BYTES - 3 <= len(kept.encode()) <= RESULT_BYTES
    assert (fits + "xxxx").startswith(kept.removesuffix(CUT))
