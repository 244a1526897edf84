"""A token bucket as one integer.

A bucket of ``count`` tokens fills evenly within ``per_ms``. Instead of tokens and the time they were last counted, it is kept as the
moment at which it will be full again: taking a token moves that moment on by the time that a token takes to come, and a token is there
unless that would put the moment more than a whole bucket ahead. This is the generic cell rate algorithm (ITU-T I.371). 0 is a full bucket
at any time.

The moment is counted in 10^-18 seconds, whatever the rate, so that a bucket still means something when its rate is changed. The time of one
token is rounded up to that unit: a bucket never gives more than its rate, and, with at most 10^9 tokens, gives each less than a nanosecond
late.
"""

from typing import NewType

from .limits import Rate

#: Outgrows 64 bits, so that it stands in a snapshot as text.
Bucket = NewType("Bucket", int)
FULL = Bucket(0)

_NS_PER_MS = 1_000_000
#: Units of the moment in a nanosecond.
_UNITS = 10**9


def take(full_at: Bucket, now_ns: int, rate: Rate, owed: int = 1) -> Bucket:
    """The bucket with one token less. It may owe up to ``owed`` times its size; what is taken beyond that is forgotten."""
    token, now = _token(rate), now_ns * _UNITS
    return Bucket(min(max(full_at, now) + token, now + (1 + owed) * token * rate.count))


def left(full_at: Bucket, now_ns: int, rate: Rate) -> int:
    """How many whole tokens are in it; below 0 is what it owes."""
    token = _token(rate)
    return (token * rate.count - max(0, full_at - now_ns * _UNITS)) // token


def rerated(full_at: Bucket, now_ns: int, was: Rate, rate: Rate) -> Bucket:
    """The bucket under another rate: as many tokens are taken from it as were."""
    now = now_ns * _UNITS
    return FULL if full_at <= now else Bucket(now - (now - full_at) * _token(rate) // _token(was))


def _token(rate: Rate) -> int:
    """How long one token takes to come."""
    return -(-rate.per_ms * _NS_PER_MS * _UNITS // rate.count)
