"""Retry metrics: how often jobs are tried again, how they end, what blocks them; for people as rates, for Prometheus as counters.

The counters exist from the start, for every kind of job and every reason that is named when the metrics are made: an alert on
``increase()`` never fires for a series that is first seen at 1. A kind of job or a reason that was not named counts as ``other``. Recording
never raises, since telemetry must never stop a job; what cannot be recorded is logged.

    >>> metrics = RetryMetrics(["order_job"], now_ns=lambda: 60_000_000_000)
    >>> metrics.record_retry_attempt("order_job", attempt_number=2)
    >>> metrics.record_retry_success("order_job", attempts=2)
    >>> metrics.record_retry_blocked("order_job", reason="circuit_open")
    >>> metrics.get_all_metrics(time_window_minutes=60)["retry_success_rate"]
    1.0
    >>> metrics.get_job_type_metrics("order_job")["block_reasons"]
    {'circuit_open': 1}

The rates of the window: ``retry_rate_per_minute`` is repeats per minute; ``retry_success_rate`` and ``retry_failure_rate`` are shares
of the jobs that were tried, ``retry_block_rate`` is blockings beside the jobs that were tried; ``avg_attempts`` counts every try of
a job, its first one included. A share of nothing is 0.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..fsm.failure_classes import FailureClass
from ..fsm.retry_stats import OTHER, Counts, RetryStats, in_all
from .metrics import COUNTER, Spec

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LOG = logging.getLogger("haltcore")
_MINUTE_NS = 60_000_000_000
#: Why a job is not tried, or not again: a breaker or a guard forbids it, the store cannot answer, the failure is not to be repeated, the
#: work is wrong in itself, or there have been enough tries.
REASONS: Final = (
    "circuit_open", "breaker_probing", "breaker_unshared", "guard_held", "guard_mismatch", "guard_frozen", "guard_in_doubt", "guard_lost",
    "store_unavailable", "store_in_doubt", "too_late", "attempts_exhausted", "retry_after_too_long", "programming_error",
    *(f"not_retryable_{name.value}" for name in FailureClass),
)  # fmt: skip
_JOB = "job"
_MAX_TRIES: Final = 1_000_000
TABLE: Final = (
    Spec("haltcore_retry_attempts_total", COUNTER, "Repeats of a job's deed; its first try is none.", _JOB, ("*jobs*",)),
    Spec("haltcore_retry_success_total", COUNTER, "Jobs that ended well.", _JOB, ("*jobs*",)),
    Spec("haltcore_retry_failure_total", COUNTER, "Jobs that were tried and did not end well.", _JOB, ("*jobs*",)),
    Spec("haltcore_retry_tries_total", COUNTER, "Tries of the jobs that ended, the first of each included.", _JOB, ("*jobs*",)),
    Spec("haltcore_retry_blocked_total", COUNTER, "Jobs that were not let go on, by reason.", f"{_JOB} reason", ("*jobs*", *REASONS)),
)
_ATTEMPTS, _SUCCESS, _FAILURE, _TRIES, _BLOCKED = (spec.name for spec in TABLE)


class RetryMetrics:
    """See the module. ``job_types`` are the kinds of jobs that have series of their own; ``reasons`` come on top of :data:`REASONS`.

    ``registry`` is where the counters appear, a fresh one by default. Safe to use from several threads. ``now_ns`` is any clock that
    counts nanoseconds.
    """

    def __init__(
        self,
        job_types: Iterable[str],
        registry: "CollectorRegistry | None" = None,
        *,
        reasons: Iterable[str] = (),
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        import prometheus_client as prometheus

        from .metrics import without_created

        self._prometheus = prometheus
        self.registry = prometheus.CollectorRegistry() if registry is None else registry
        #: The kinds of jobs that have series of their own, and ``other``.
        self.job_types = tuple(dict.fromkeys((*job_types, OTHER)))
        self._reasons = tuple(dict.fromkeys((*REASONS, *reasons, OTHER)))
        self._now_ns = now_ns
        self._last_ns = 0
        self._lock = threading.Lock()
        self._stats = {job: self._empty() for job in self.job_types}
        self._counters: dict[tuple[str, ...], Any] = {}
        hidden = prometheus.CollectorRegistry()
        for spec in TABLE:
            counter = prometheus.Counter(spec.name, spec.help, spec.label.split(), registry=hidden)
            for job in self.job_types:
                for labels in [(job, reason) for reason in self._reasons] if spec.name == _BLOCKED else [(job,)]:
                    self._counters[spec.name, *labels] = counter.labels(*labels)
        self.registry.register(without_created(hidden))

    def record_retry_attempt(self, job_type: str, attempt_number: int = 2) -> None:
        """A deed is about to be tried for the ``attempt_number``-th time. The first time is no retry and counts as nothing."""
        with _Silent(), self._lock:
            if attempt_number > 1:
                job = self._job(job_type)
                self._stats[job].attempt(self._now())
                self._counters[_ATTEMPTS, job].inc()

    def record_retry_success(self, job_type: str, attempts: int = 1) -> None:
        """A job ended well, after so many tries."""
        self._ended(job_type, attempts, well=True)

    def record_retry_failure(self, job_type: str, attempts: int = 1) -> None:
        """A job ended badly, after so many tries."""
        self._ended(job_type, attempts, well=False)

    def record_retry_blocked(self, job_type: str, reason: str) -> None:
        """A job was not let go on."""
        with _Silent(), self._lock:
            job, known = self._job(job_type), reason if reason in self._reasons else OTHER
            self._stats[job].blocked(self._now(), known)
            self._counters[_BLOCKED, job, known].inc()

    def get_all_metrics(self, time_window_minutes: int = 60) -> dict[str, Any]:
        """The rates of all jobs together, and under ``by_job_type`` those of each. The window is at most a day."""
        with self._lock:
            parts = {job: stats.window(self._now(), time_window_minutes * _MINUTE_NS) for job, stats in self._stats.items()}
        rates = {job: _rates(counts, time_window_minutes) for job, counts in parts.items()}
        return {**_rates(in_all(parts), time_window_minutes), "by_job_type": rates}

    def get_job_type_metrics(self, job_type: str, time_window_minutes: int = 60) -> dict[str, Any]:
        """The rates of one kind of job; of ``other`` for one that was not named."""
        with self._lock:
            counts = self._stats[self._job(job_type)].window(self._now(), time_window_minutes * _MINUTE_NS)
        return _rates(counts, time_window_minutes)

    def export_prometheus_format(self) -> str:
        """The exposition of the registry, in Prometheus' text format."""
        return self._prometheus.generate_latest(self.registry).decode()

    def reset(self, job_type: str | None = None) -> None:
        """Forget the windows, of one kind of job or of all. The counters stay: Prometheus takes one that falls for a restart."""
        with self._lock:
            for job in self.job_types if job_type is None else (self._job(job_type),):
                self._stats[job] = self._empty()

    def _ended(self, job_type: str, attempts: int, well: bool) -> None:
        with _Silent(), self._lock:
            job, tries = self._job(job_type), max(0, int(attempts))
            if tries > _MAX_TRIES:
                raise ValueError(f"more tries than a job can have: over {_MAX_TRIES}")
            (self._stats[job].success if well else self._stats[job].failure)(self._now(), tries)
            self._counters[_SUCCESS if well else _FAILURE, job].inc()
            self._counters[_TRIES, job].inc(tries)

    def _empty(self) -> RetryStats:
        return RetryStats(len(self._reasons))

    def _job(self, job_type: str) -> str:
        return job_type if job_type in self._stats else OTHER

    def _now(self) -> int:
        """The present; the last one that could be read, if the clock fails."""
        try:
            self._last_ns = int(self._now_ns())
        except Exception:
            _LOG.exception("the clock of the retry metrics cannot be read")
        return self._last_ns


class _Silent:
    """What is raised inside is logged and goes no further, but for what ends the program or the task."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        _LOG.error("a retry was not counted: %r", error)
        return True


def _rates(counts: Counts, minutes: int) -> dict[str, Any]:
    ended = counts.successes + counts.failures
    return {
        "retry_rate_per_minute": _share(counts.attempts, minutes),
        "retry_success_rate": _share(counts.successes, ended),
        "retry_failure_rate": _share(counts.failures, ended),
        "retry_block_rate": _share(counts.blocked, ended + counts.blocked),
        "avg_attempts": _share(counts.tries, ended),
        "retry_attempts": counts.attempts,
        "successes": counts.successes,
        "failures": counts.failures,
        "blocked": counts.blocked,
        "block_reasons": dict(counts.reasons),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole > 0 else 0.0
