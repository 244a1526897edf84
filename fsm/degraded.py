"""What is done when the store does not answer: one table, one row per kind of deed.

"No store configured" and "configured but failing" are different worlds. In the first there is one process and nothing is asked. In the
second other processes may hold what this one cannot see, and the answer depends on what the deed does to the exposure:

* what takes risk away goes ahead, always: whoever waits for a lock before cancelling has made the lock part of the danger
  (RTS 6 Art. 12; the counter-example is pattertj/LoopTrader#82, which checks its kill switch before it cancels),
* what adds risk is refused: a missed order is cheaper than a double one,
* what is only to be remembered is written to the journal and told to the store when it is back.

UNAVAILABLE is certainly not applied, IN_DOUBT may have been: the difference is what has to be cleared up afterwards, and stands in the
column of IN_DOUBT. A breaker that was open stays open; a mark that cannot be read counts as set.

Who asks the table:

=============================================== ====================================================================================
``lease``                                       CANCEL: whether the lease is tried
``checks``                                      PLACE, AMEND, at the gate; a guard of ``adapters/side_effects.py`` counts as a place
``freeze``, ``cool_down``                       UNFREEZE
``breakers``, ``adapters/shared_breaker.py``    BREAKER
``adapters/holds.py``                           DEDUPE, HOLD, COOL_DOWN
``adapters/plan_publisher.py``, ``plans.py``    PUBLISH, CONSUME
nobody, since it is the same in every column    FREEZE, VERIFY, RECORD, TELEMETRY: they are built so that no store can hold them up
nobody yet                                      CLOSE_DRIFT: the closing of drift. DEAD_MAN: who refreshes the venue's dead-man's
                                                switch. Neither is a part of haltcore so far; whoever adds one, asks here
=============================================== ====================================================================================

That each deed is done as its row says, whoever asks, is seen on a real server (``tests/faults/test_matrix.py``).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from attrs import frozen

from .events import StoreHealth


class Deed(StrEnum):
    """What somebody is about to do."""

    FREEZE = "freeze"
    CANCEL = "cancel"
    VERIFY = "verify"
    PLACE = "place"
    CLOSE_DRIFT = "close_drift"
    AMEND = "amend"
    UNFREEZE = "unfreeze"
    DEAD_MAN = "dead_man"
    RECORD = "record"
    DEDUPE = "dedupe"
    HOLD = "hold"
    COOL_DOWN = "cool_down"
    BREAKER = "breaker"
    PUBLISH = "publish"
    CONSUME = "consume"
    TELEMETRY = "telemetry"


class Conduct(StrEnum):
    """What is done about it.

    GO: at once, whatever the store says. LEASE_FIRST: try the lease for a bounded time, then go. CLAIM_FIRST: go once the store has
    granted the claim. ASK: the store's answer decides. REFUSE: it is not done. RESOLVE: it is not done, and what may have been applied in
    the store is settled later. LATER: done here and journalled now, told to the store when it answers. ASSUME: as if the store had said
    yes: seen, held, cooling. LOCAL: by the last state known here. STOP: nothing is taken on, nothing acknowledged.
    """

    GO = "go"
    LEASE_FIRST = "lease_first"
    CLAIM_FIRST = "claim_first"
    ASK = "ask"
    REFUSE = "refuse"
    RESOLVE = "resolve"
    LATER = "later"
    ASSUME = "assume"
    LOCAL = "local"
    STOP = "stop"


@frozen
class Row:
    """One row: the conduct for each answer of the store, and why."""

    ok: Conduct
    unavailable: Conduct
    in_doubt: Conduct
    why: str


_C = Conduct
#: Generated into ``spec/coordination.md``.
MATRIX: Final[Mapping[Deed, Row]] = MappingProxyType(
    {
        Deed.FREEZE: Row(_C.LATER, _C.LATER, _C.LATER, "monotone: any source that says frozen wins"),
        Deed.CANCEL: Row(_C.LEASE_FIRST, _C.GO, _C.GO, "idempotent and takes risk away; a duplicate costs a request"),
        Deed.VERIFY: Row(_C.GO, _C.GO, _C.GO, "only reads"),
        Deed.PLACE: Row(_C.CLAIM_FIRST, _C.REFUSE, _C.RESOLVE, "a missed order is cheaper than a double one"),
        Deed.CLOSE_DRIFT: Row(_C.CLAIM_FIRST, _C.REFUSE, _C.RESOLVE, "a double close flips the position"),
        Deed.AMEND: Row(_C.CLAIM_FIRST, _C.REFUSE, _C.RESOLVE, "an amend can add as much as a place"),
        Deed.UNFREEZE: Row(_C.ASK, _C.REFUSE, _C.REFUSE, "the other processes have to agree"),
        Deed.DEAD_MAN: Row(_C.GO, _C.GO, _C.GO, "letting it run out would cancel protective stops as well"),
        Deed.RECORD: Row(_C.LATER, _C.LATER, _C.LATER, "never holds up the next cancel"),
        Deed.DEDUPE: Row(_C.ASK, _C.ASSUME, _C.ASSUME, "closed for placing; never consulted for a cancel"),
        Deed.HOLD: Row(_C.ASK, _C.ASSUME, _C.ASSUME, "closed for placing; never consulted for a cancel"),
        Deed.COOL_DOWN: Row(_C.ASK, _C.ASSUME, _C.ASSUME, "closed for placing; never consulted for a cancel"),
        Deed.BREAKER: Row(_C.ASK, _C.LOCAL, _C.LOCAL, "losing the store never closes an open breaker"),
        Deed.PUBLISH: Row(_C.GO, _C.LATER, _C.LATER, "published again under the same plan id; the consumer knows duplicates"),
        Deed.CONSUME: Row(_C.GO, _C.STOP, _C.STOP, "delivered again is safe, lost is not"),
        Deed.TELEMETRY: Row(_C.GO, _C.GO, _C.GO, "never in the way"),
    }
)


def conduct(deed: Deed, health: StoreHealth) -> Conduct:
    """What is done about a deed when the store has answered like this."""
    row = MATRIX[deed]
    return {StoreHealth.OK: row.ok, StoreHealth.UNAVAILABLE: row.unavailable, StoreHealth.IN_DOUBT: row.in_doubt}[health]


def forbidden(deed: Deed, health: StoreHealth) -> bool:
    """Whether it is not done at all."""
    return conduct(deed, health) in (Conduct.REFUSE, Conduct.RESOLVE, Conduct.STOP)
