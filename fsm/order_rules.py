"""The rules by which reports change an order: one table, every pair of report and phase present.

``TABLE`` holds one row per kind of report and one column per phase, every pair present. A phase is the coarsest summary of
the facts that the rules need:

=========== ===================================================================
PENDING_NEW sent, nothing heard
UNKNOWN     the placing request is in doubt: the order may or may not exist
WORKING     accepted, something is left that may fill
FILLED      nothing is left
CANCELLED   ended by evidence (which may still be followed by late fills)
EXPIRED     as CANCELLED
REJECTED    refused, or never arrived
=========== ===================================================================

The rules themselves stand in ``order_evidence.py`` (what the venue reports by itself) and ``order_requests.py`` (what comes of our own
doing); what a rule is, and what its notes mean, in ``order_change.py``. The hazards, and the issues of other systems, that a rule
answers are named at the rule.
"""

from .events import (
    CancelRejected,
    Evidence,
    Found,
    NotFound,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderHalted,
    OrderQueried,
    OrderRejected,
    OrderReplaced,
    Outcome,
    OutcomeKind,
    ReplaceRejected,
    ReportStatus,
    TradeBusted,
    TradeCorrected,
    Verb,
)
from .order import Order, phase
from .order_change import Change, Rule, Times
from .order_evidence import (
    accept,
    accept_again,
    again,
    bust,
    cancel_moot,
    cancel_refused,
    cancelled,
    contradict,
    correct,
    end_again,
    expired,
    fill,
    fill_refused,
    halted,
    ignore,
    reject,
    replace_refused,
    replaced,
    resurrect,
    stale,
)
from .order_requests import (
    cancel_doubt,
    cancel_unavailable,
    expect,
    found_alive,
    found_cancelled,
    found_expired,
    found_filled,
    found_late,
    found_open,
    found_rejected,
    listed,
    not_found,
    place_doubt,
    place_refused,
    place_unclaimed,
    placed,
    refuse,
    replace_doubt,
    replace_expect,
    replace_unclaimed,
    restart,
    unanswered,
    want_cancel,
    want_replace,
)

# --- the table --------------------------------------------------------------------------------------------------------

#: One row per kind of report, one column per phase. Generated into ``spec/tables.md``.
TABLE: dict[str, tuple[Rule, Rule, Rule, Rule, Rule, Rule, Rule]] = {
    #                        PENDING_NEW         UNKNOWN             WORKING             FILLED           CANCELLED      EXPIRED        REJECTED
    "accepted":             (accept,             accept,             accept_again,       accept_again,    stale,         stale,         resurrect),
    "rejected":             (reject,             reject,             contradict,         stale,           stale,         stale,         again),
    "filled":               (fill,               fill,               fill,               fill,            fill,          fill,          fill_refused),
    "cancelled":            (cancelled,          cancelled,          cancelled,          stale,           end_again,     end_again,     stale),
    "expired":              (expired,            expired,            expired,            stale,           end_again,     end_again,     stale),
    "halted":               (halted,             halted,             halted,             stale,           stale,         stale,         resurrect),
    "replaced":             (replaced,           replaced,           replaced,           replaced,        stale,         stale,         resurrect),
    "cancel_rejected":      (cancel_refused,     cancel_refused,     cancel_refused,     cancel_moot,     ignore,        ignore,        ignore),
    "replace_rejected":     (replace_refused,    replace_refused,    replace_refused,    replace_refused, ignore,        ignore,        ignore),
    "busted":               (bust,               bust,               bust,               bust,            bust,          bust,          bust),
    "corrected":            (correct,            correct,            correct,            correct,         correct,       correct,       correct),
    "place_acknowledged":   (placed,             placed,             ignore,             ignore,          ignore,        ignore,        ignore),
    "place_refused":        (place_refused,      place_refused,      contradict,         stale,           stale,         stale,         ignore),
    "place_unavailable":    (place_refused,      place_refused,      contradict,         stale,           stale,         stale,         ignore),
    "place_in_doubt":       (place_doubt,        place_doubt,        ignore,             ignore,          ignore,        ignore,        ignore),
    "place_unclaimed":      (place_unclaimed,    place_unclaimed,    ignore,             ignore,          ignore,        ignore,        ignore),
    "cancel_acknowledged":  (expect,             expect,             expect,             ignore,          ignore,        ignore,        ignore),
    "cancel_refused":       (cancel_refused,     cancel_refused,     cancel_refused,     cancel_moot,     ignore,        ignore,        ignore),
    "cancel_unavailable":   (cancel_unavailable, cancel_unavailable, cancel_unavailable, cancel_moot,     ignore,        ignore,        ignore),
    "cancel_in_doubt":      (cancel_doubt,       cancel_doubt,       cancel_doubt,       ignore,          ignore,        ignore,        ignore),
    "replace_acknowledged": (replace_expect,     replace_expect,     replace_expect,     ignore,          ignore,        ignore,        ignore),
    "replace_refused":      (replace_refused,    replace_refused,    replace_refused,    replace_refused, ignore,        ignore,        ignore),
    "replace_unavailable":  (replace_refused,    replace_refused,    replace_refused,    replace_refused, ignore,        ignore,        ignore),
    "replace_in_doubt":     (replace_doubt,      replace_doubt,      replace_doubt,      ignore,          ignore,        ignore,        ignore),
    "replace_unclaimed":    (replace_unclaimed,  replace_unclaimed,  replace_unclaimed,  replace_unclaimed, ignore,       ignore,        ignore),
    "listed":               (listed,             listed,             listed,             stale,           stale,         stale,         found_alive),
    "found_open":           (found_open,         found_open,         found_open,         found_late,      found_late,    found_late,    found_alive),
    "found_filled":         (found_filled,       found_filled,       found_filled,       found_late,      found_late,    found_late,    found_late),
    "found_cancelled":      (found_cancelled,    found_cancelled,    found_cancelled,    found_late,      found_late,    found_late,    found_late),
    "found_expired":        (found_expired,      found_expired,      found_expired,      found_late,      found_late,    found_late,    found_late),
    "found_rejected":       (found_rejected,     found_rejected,     found_rejected,     found_late,      found_late,    found_late,    found_late),
    "not_found":            (not_found,          not_found,          not_found,          ignore,          ignore,        ignore,        ignore),
    "unanswered":           (unanswered,         unanswered,         unanswered,         ignore,          ignore,        ignore,        ignore),
    "want_cancel":          (want_cancel,        want_cancel,        want_cancel,        refuse,          refuse,        refuse,        refuse),
    "want_replace":         (refuse,             refuse,             want_replace,       refuse,          refuse,        refuse,        refuse),
    "restart":              (restart,            restart,            restart,            ignore,          ignore,        ignore,        ignore),
}  # fmt: skip

_EVIDENCE_KINDS: dict[type[Evidence], str] = {
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderFilled: "filled",
    OrderCancelled: "cancelled",
    OrderExpired: "expired",
    OrderHalted: "halted",
    OrderReplaced: "replaced",
    CancelRejected: "cancel_rejected",
    ReplaceRejected: "replace_rejected",
    TradeBusted: "busted",
    TradeCorrected: "corrected",
}
_FOUND_KINDS = {status: f"found_{status.value}" for status in ReportStatus}
_OUTCOME_KINDS = {
    (verb, kind): f"{verb.value}_{kind.value}" for verb in (Verb.PLACE, Verb.CANCEL, Verb.REPLACE) for kind in OutcomeKind
}


def kind_of(event: Evidence | Outcome | OrderQueried) -> str:
    """The row of ``TABLE`` that the report belongs to."""
    if isinstance(event, Outcome):
        return _OUTCOME_KINDS[event.verb, event.kind]
    if isinstance(event, OrderQueried):
        if isinstance(event.result, Found):
            return _FOUND_KINDS[event.result.row.status]
        return "not_found" if isinstance(event.result, NotFound) else "unanswered"
    return _EVIDENCE_KINDS[type(event)]


def apply(order: Order, kind: str, report: object, times: Times) -> Change:
    """What the rule of this kind makes of the order."""
    return TABLE[kind][phase(order)](order, report, times)
