"""How a kind of job fares: tries, successes, failures and refusals of a rolling window, in bounded memory.

Time is cut into buckets of :data:`BUCKET_NS`, and each kind of job has at most :data:`BUCKETS` of them, so a day of any load is as
small as a quiet one. A window is answered to the bucket: the one in which it begins counts as a whole.

What is counted, by job:

=========== ==========================================================================================================
attempts    repeats of a deed: its second try is the first of them
successes   jobs that ended well
failures    jobs that did not, though they were tried
tries       all tries of the jobs that ended, first ones included; over successes and failures they give the average
blocked     jobs that were not tried at all, or not again, by reason
=========== ==========================================================================================================

Reasons are an open set for the caller, so no more than a given number of them are kept apart, and the rest is OTHER.

A clock that goes back loses nothing: what belongs before the newest bucket is counted in it. If it goes on from there, then it was ahead
before: the buckets that lie in the future become one of the present, so that they grow old with it.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

from attrs import define, field, frozen

BUCKET_NS: Final = 60 * 1_000_000_000
BUCKETS: Final = 24 * 60
MAX_REASONS: Final = 128
OTHER: Final = "other"


@frozen
class Counts:
    """What happened in a window. ``reasons`` are those of ``blocked``, sorted by name."""

    attempts: int = 0
    successes: int = 0
    failures: int = 0
    tries: int = 0
    blocked: int = 0
    reasons: tuple[tuple[str, int], ...] = ()

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        reasons = dict(self.reasons)
        for reason, count in other.reasons:
            reasons[reason] = reasons.get(reason, 0) + count
        return Counts(
            self.attempts + other.attempts, self.successes + other.successes, self.failures + other.failures, self.tries + other.tries,
            self.blocked + other.blocked, tuple(sorted(reasons.items())),
        )  # fmt: skip


@define
class _Bucket:
    number: int
    attempts: int = 0
    successes: int = 0
    failures: int = 0
    tries: int = 0
    reasons: dict[str, int] = field(factory=dict)

    def take(self, other: "_Bucket") -> None:
        self.attempts += other.attempts
        self.successes += other.successes
        self.failures += other.failures
        self.tries += other.tries
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def counts(self) -> Counts:
        blocked = sum(self.reasons.values())
        return Counts(self.attempts, self.successes, self.failures, self.tries, blocked, tuple(sorted(self.reasons.items())))


class RetryStats:
    """The rolling window of one kind of job, with so many reasons kept apart. Every moment is passed in, in nanoseconds."""

    def __init__(self, max_reasons: int = MAX_REASONS) -> None:
        self._max_reasons = max_reasons
        # The bucket in which the clock first was behind the newest one.
        self._behind: int | None = None
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)
        self._reasons: dict[str, None] = {}

    def attempt(self, now_ns: int) -> None:
        """A deed is tried again."""
        self._bucket(now_ns).attempts += 1

    def success(self, now_ns: int, tries: int) -> None:
        """A job ended well after so many tries."""
        bucket = self._bucket(now_ns)
        bucket.successes += 1
        bucket.tries += max(0, tries)

    def failure(self, now_ns: int, tries: int) -> None:
        """A job ended badly after so many tries."""
        bucket = self._bucket(now_ns)
        bucket.failures += 1
        bucket.tries += max(0, tries)

    def blocked(self, now_ns: int, reason: str) -> None:
        """A job was not let go on."""
        if reason not in self._reasons:
            if len(self._reasons) >= self._max_reasons:
                reason = OTHER
            self._reasons[reason] = None
        reasons = self._bucket(now_ns).reasons
        reasons[reason] = reasons.get(reason, 0) + 1

    def window(self, now_ns: int, window_ns: int) -> Counts:
        """What happened within ``window_ns`` before now, to the bucket."""
        self._settle(now_ns // BUCKET_NS)
        since = (now_ns - window_ns) // BUCKET_NS
        total = Counts()
        for bucket in self._buckets:
            if bucket.number >= since:
                total = total.plus(bucket.counts())
        return total

    def _bucket(self, now_ns: int) -> _Bucket:
        number = now_ns // BUCKET_NS
        self._settle(number)
        if not self._buckets or self._buckets[-1].number < number:
            self._buckets.append(_Bucket(number))
        return self._buckets[-1]

    def _settle(self, number: int) -> None:
        """Take the future back into the present, once the clock runs on behind it. One wrong reading is no reason to."""
        if not self._buckets or self._buckets[-1].number <= number:
            self._behind = None
        elif self._behind is None or number < self._behind:
            self._behind = number
        elif number > self._behind:
            present = _Bucket(number)
            while self._buckets and self._buckets[-1].number >= number:
                present.take(self._buckets.pop())
            self._buckets.append(present)
            self._behind = None


def in_all(parts: Mapping[str, Counts]) -> Counts:
    """The counts of all kinds of jobs together."""
    total = Counts()
    for counts in parts.values():
        total = total.plus(counts)
    return total
