"""A row of the freeze latch as a store keeps it: the words of its authors, the sessions that have frozen the scope.

=========================== ==============================================================================================
what is done                what becomes of the row
=========================== ==============================================================================================
an author says it           its first words stay. The row gets a new epoch, and is *joint* from then on, for as long as it
                            stands, unless its first author has said the same again
one more author than fit    the row is joint, and others stand behind it who are *unnamed*
an author withdraws         its words go, and the row gets a new epoch; it goes itself when nobody stands behind it
it is cleared with force    it goes, if it has the epoch that is named, or if that is ``NO_EPOCH``: who saw a row that cannot be read
                            means whatever is there
it cannot be read           who says freeze writes it anew, with others behind it who are unnamed: whoever they were
=========================== ==============================================================================================

A row is never taken away for what it holds: what cannot be read is frozen, by others who are unnamed. ``lua/latch.lua`` does the same.

A row can be read if it is JSON in UTF-8 that can be written again (no number that is none or infinite, no half of an escaped surrogate
pair), its epoch is a decimal number of at most 18 digits without a zero before it, and words stand in it or unnamed others behind it.
Fields that are not known are ignored, and not kept when the row changes. Who asks the store gets the rows as the script there has read
them; ``parsed`` holds the same rules for who reads the text itself.
"""

import json
import re
from typing import Final

import msgspec
from attrs import evolve, frozen

from ..effects import Trigger
from ..fsm.events import LatchRow

#: How many authors of a row are named, and how long their words may be, in characters.
MAX_AUTHORS, MAX_REASON, MAX_BY = 64, 500, 100
#: The epoch of a row that cannot be read; no setting has it. To clear it with force is to clear whatever is there.
NO_EPOCH: Final = -1
UNREADABLE: Final = "a row that this version cannot read"
UNNAMED: Final = "others stand behind it who are not named"


@frozen
class Said:
    """What one author has said; the trigger as it stands in the store."""

    author: str
    trigger: str
    reason: str
    by: str

    @classmethod
    def of(cls, author: str, trigger: Trigger, reason: str, by: str) -> "Said":
        """The words as they are kept: long ones are cut."""
        return cls(author, trigger.value, reason[:MAX_REASON], by[:MAX_BY])


@frozen
class Row:
    """See the module's essay. ``epoch`` is that of the last setting."""

    epoch: int
    words: tuple[Said, ...] = ()
    joint: bool = False
    unnamed: bool = False

    def said(self, said: Said, epoch: int) -> "Row":
        """The row when an author has said this."""
        joint = self.joint or (bool(self.words) and self.words[0] != said)
        if any(one.author == said.author for one in self.words):
            return evolve(self, epoch=epoch, joint=joint)
        if len(self.words) < MAX_AUTHORS:
            return evolve(self, epoch=epoch, joint=joint, words=(*self.words, said))
        # Who cannot be named says it with every reading: to those who know of unnamed others that is nothing new.
        return self if self.unnamed else evolve(self, epoch=epoch, joint=True, unnamed=True)

    def withdrawn(self, author: str, epoch: int) -> "Row | None":
        """The row when an author has withdrawn; None if it is gone."""
        left = tuple(one for one in self.words if one.author != author)
        if len(left) == len(self.words):
            return self
        return evolve(self, epoch=epoch, words=left) if left or self.unnamed else None

    def seen(self, scope: str, author: str) -> LatchRow:
        """The row as this author sees it."""
        mine = any(one.author == author for one in self.words)
        if not self.words:
            return LatchRow(scope, self.epoch, Trigger.PEER, UNNAMED, "", self.joint, mine)
        first = self.words[0]
        if first.trigger not in _TRIGGERS:
            return LatchRow(scope, self.epoch, Trigger.PEER, UNREADABLE, first.by, self.joint, mine, first.author, False)
        return LatchRow(scope, self.epoch, Trigger(first.trigger), first.reason, first.by, self.joint, mine, first.author)


_TRIGGERS: Final = dict.fromkeys(trigger.value for trigger in Trigger)


class _Word(msgspec.Struct):
    author: str
    trigger: str
    reason: str
    by: str


class _Row(msgspec.Struct):
    epoch: str
    joint: bool
    unnamed: bool
    words: list[_Word] = []  # a list that is empty is not written


_EPOCH: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parsed(text: str) -> Row | None:
    """The row that stands in a store as this text; None if it cannot be read."""
    try:
        # What could not be written again raises here. Half of a surrogate pair that is no escape passes, as it does in redis_link.py.
        plain = json.loads(_SURROGATE.sub("?", text), parse_int=float)
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode("utf-8")
        row = msgspec.convert(json.loads(text), _Row)
        if not _EPOCH.fullmatch(row.epoch) or not (row.words or row.unnamed):
            return None
        said = tuple(Said(one.author, one.trigger, one.reason, one.by) for one in row.words)
        return Row(int(row.epoch), said, row.joint, row.unnamed)
    except (ValueError, RecursionError):
        return None


def read_row(scope: str, text: str, author: str) -> LatchRow:
    """The same as this author sees it. What cannot be read is frozen by a peer; nothing is raised."""
    row = parsed(text)
    return row.seen(scope, author) if row is not None else LatchRow(scope, NO_EPOCH, Trigger.PEER, UNREADABLE, "", True, False, "", False)
