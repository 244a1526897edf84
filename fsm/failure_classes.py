"""The names of the ways in which a request fails. What each means, and what follows, is the table in ``failures.py``."""

from enum import StrEnum


class FailureClass(StrEnum):
    """See the table of :mod:`~haltcore.fsm.failures`."""

    RATE_LIMIT = "rate_limit"
    BAN = "ban"
    TIMEOUT = "timeout"
    BUSY = "busy"
    MAINTENANCE = "maintenance"
    NOT_SENT = "not_sent"
    TEMPORARY_ERROR = "temporary_error"
    NETWORK = "network"
    UNKNOWN_OUTCOME = "unknown_outcome"
    PARTIAL = "partial"
    DUPLICATE_ID = "duplicate_id"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    VALIDATION = "validation"
    BAD_REQUEST = "bad_request"
    REJECTED = "rejected"
    WOULD_CROSS = "would_cross"
    AUTH = "auth"
    RESTRICTED = "restricted"
    NOT_FOUND = "not_found"
    NOT_CANCELLABLE = "not_cancellable"
    UNKNOWN = "unknown"
