"""The guard of a side effect: a row in the store that says who may carry it out, and what became of it. So it happens once.

Whoever is about to do something in the world claims it first. The *key* names the side effect (what kind, of what), *params* says what
exactly is meant, the *owner* is who asks: a name that is chosen before the request and never used again, so that a claim whose answer was
lost is known as one's own. A row passes through::

    nothing -> INTENT -> SENT -> DONE | REJECTED | IN_DOUBT,   IN_DOUBT -> DONE | REJECTED,   REJECTED -> INTENT of another owner

What a claim hears, by the row that it finds. Parameters are compared before, except on a row that is REJECTED: what certainly did not
happen may be tried again in another way. Only what would be CLAIMED looks at the freeze latch, and is FROZEN if it shows one of its scopes;
then nothing is written.

============ ================================ ==================================== ===========================
row          own                              another's, same parameters           another's, other parameters
============ ================================ ==================================== ===========================
nothing      CLAIMED, INTENT is written
INTENT       CLAIMED again, nothing written   HELD                                 MISMATCH
SENT         HELD: it may be under way        HELD                                 MISMATCH
IN_DOUBT     HELD: it is being asked for      HELD                                 MISMATCH
DONE         DONE, with the result            DONE, with the result                MISMATCH
REJECTED     HELD: a claim that came too late CLAIMED, INTENT is written           CLAIMED, INTENT is written
============ ================================ ==================================== ===========================

An own row with other parameters is a MISMATCH in every state. "Too late": a claim that was given up, and settled as never sent, may still
arrive after that; it must not open again what nobody is going to send.

What a settlement does, on a row of the same owner and parameters. On any other's row it is LOST and changes nothing. A cell names what is
written; "stands" is SETTLED, and nothing is written, so that the first result stays.

============ ======== ======== ======== ========
row          SENT     DONE     REJECTED IN_DOUBT
============ ======== ======== ======== ========
nothing      LOST     DONE     REJECTED IN_DOUBT
INTENT       SENT     DONE     REJECTED IN_DOUBT
SENT         stands   DONE     REJECTED IN_DOUBT
IN_DOUBT     LOST     DONE     REJECTED stands
DONE         LOST     stands   LOST     LOST
REJECTED     LOST     DONE     stands   LOST
============ ======== ======== ======== ========

Row by row: a row that the store has forgotten is written anew by who knows what became of it, but nobody gets leave to send from a row that
is not there. Evidence is not taken back, with one exception, which is on the safe side: an effect that was thought never to have happened,
and then was seen, is DONE.

SENT is a compare-and-set by the owner and precedes the deed. Therefore an INTENT can be taken over from an owner that has died: if it lives
after all, its SENT is LOST, and it does not send. That holds for owners who say SENT. The core does not: its journal plays that part,
and it settles its rows itself after a restart; so rows of :data:`PLACE` and :data:`REPLACE` are taken over only after a query. A
row that is SENT or IN_DOUBT is taken over by nobody who has not asked the venue, and heard, after the request's own expiry, that it
is not there. The store cannot see that; it sees that the row is still as the taker saw it (that owner's, in that state, so that nobody said
SENT in between), with the same parameters, and no scope is frozen.

============ ================================
row          taken over from its owner
============ ================================
INTENT       yes: INTENT of the new owner
SENT         yes, after a query
IN_DOUBT     yes, after a query
REJECTED     yes: it could be claimed as well
DONE         no
nothing      no: claim it
============ ================================

A take-over that is said again finds its own INTENT: yes, and nothing is written. Each writing sets the row's time, and its time to live
anew.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ..effects import GuardState
from .events import GuardKind

#: The core's own types of side effects.
PLACE, REPLACE = "order_placement", "order_replace"
#: A result is kept for whoever claims the same again, but only so much of it, in bytes of UTF-8.
RESULT_BYTES = 4_096
CUT = "...[cut]"


@frozen
class Decision:
    """What the asker hears, and the state that is written for it; None: the row stays as it is."""

    kind: GuardKind
    writes: GuardState | None = None


_S = GuardState
_CLAIMED = Decision(GuardKind.CLAIMED, _S.INTENT)
_HELD, _DONE = Decision(GuardKind.HELD), Decision(GuardKind.DONE)
_MISMATCH, _LOST, _STANDS = Decision(GuardKind.MISMATCH), Decision(GuardKind.LOST), Decision(GuardKind.SETTLED)

#: By the row's state: what its owner hears who claims again, and another one with the same parameters.
CLAIMS: Final[Mapping[GuardState, tuple[Decision, Decision]]] = MappingProxyType(
    {
        _S.INTENT: (Decision(GuardKind.CLAIMED), _HELD),
        _S.SENT: (_HELD, _HELD),
        _S.IN_DOUBT: (_HELD, _HELD),
        _S.DONE: (_DONE, _DONE),
        _S.REJECTED: (_HELD, _CLAIMED),
    }
)


def _writes(state: GuardState) -> Decision:
    return Decision(GuardKind.SETTLED, state)


#: By what is told and the row's state: what becomes of the owner's word.
SETTLEMENTS: Final[Mapping[GuardState, Mapping[GuardState | None, Decision]]] = MappingProxyType(
    {
        _S.SENT: MappingProxyType(
            {None: _LOST, _S.INTENT: _writes(_S.SENT), _S.SENT: _STANDS, _S.IN_DOUBT: _LOST, _S.DONE: _LOST, _S.REJECTED: _LOST}
        ),
        _S.DONE: MappingProxyType(
            dict.fromkeys((None, _S.INTENT, _S.SENT, _S.IN_DOUBT, _S.REJECTED), _writes(_S.DONE)) | {_S.DONE: _STANDS}
        ),
        _S.REJECTED: MappingProxyType(
            dict.fromkeys((None, _S.INTENT, _S.SENT, _S.IN_DOUBT), _writes(_S.REJECTED)) | {_S.DONE: _LOST, _S.REJECTED: _STANDS}
        ),
        _S.IN_DOUBT: MappingProxyType(
            dict.fromkeys((None, _S.INTENT, _S.SENT), _writes(_S.IN_DOUBT)) | {_S.IN_DOUBT: _STANDS, _S.DONE: _LOST, _S.REJECTED: _LOST}
        ),
    }
)
#: The states that can be taken over from their owner.
RETAKEN: Final = (_S.INTENT, _S.SENT, _S.IN_DOUBT, _S.REJECTED)


def on_claim(row: GuardState | None, own: bool, same: bool) -> Decision:
    """A claim finds this row (None: nothing), which is its own or not, and has the same parameters or not. The latch is asked after
    that."""
    if row is None:
        return _CLAIMED
    if not same and (own or row is not GuardState.REJECTED):
        return _MISMATCH
    return CLAIMS[row][0 if own else 1]


def on_settle(told: GuardState, row: GuardState | None, own: bool, same: bool) -> Decision:
    """A settlement finds this row. Raises ValueError for INTENT, which a claim writes."""
    settlements = SETTLEMENTS.get(told)
    if settlements is None:
        raise ValueError(f"{told.value} is no settlement; claim the side effect instead")
    return settlements[row] if row is None or (own and same) else _LOST


def on_retake(row: GuardState | None, own: bool, was: bool, same: bool) -> Decision:
    """A take-over finds this row: its own already (``own``), or one that is still as it was seen, owner and state (``was``)."""
    if same and own and row is GuardState.INTENT:
        return Decision(GuardKind.CLAIMED)
    return _CLAIMED if same and was and not own and row in RETAKEN else _LOST


# --- names ----------------------------------------------------------------------------------------------------------


def guard_key(kind: str, entity: str) -> str:
    """The key of a side effect: SHA-256 of its type, a NUL and what it is about, in hexadecimal.

    Raises ValueError for a type with a NUL in it, which could be read as another pair.
    """
    if "\0" in kind:
        raise ValueError(f"type {kind!r} has a NUL in it; name it in letters")
    return _sha256(f"{kind}\0{entity}")


def params_hash(*parts: str) -> str:
    """What exactly is meant: SHA-256 of the parts, in hexadecimal. Each counts with its length, so no two lists of parts are alike."""
    return _sha256("".join(f"{len(part)}:{part}," for part in parts))


def cut(result: str) -> str:
    """The result as it is kept: one of more than RESULT_BYTES is cut there, and marked at its end."""
    data = result.encode("utf-8", "surrogatepass")
    if len(data) <= RESULT_BYTES:
        return result
    return data[: RESULT_BYTES - len(CUT)].decode("utf-8", "ignore") + CUT


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
