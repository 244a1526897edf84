"""Retry metrics: rates of a window and counters for Prometheus, whatever is thrown at them.

Method: a clock that the test sets; the exposition is read back; names pass the lint of the project's other metrics. A hiccup and
twenty workers at once are played with broken clocks and threads.
"""

import doctest
import threading
from collections.abc import Callable
from typing import Any

import pytest
from haltcore.adapters import retry_metrics as module
from haltcore.adapters.metrics import METRIC_NAMES, Metrics
from haltcore.adapters.retry_metrics import REASONS, TABLE, RetryMetrics
from haltcore.fsm.failure_classes import FailureClass
from prometheus_client import CollectorRegistry

from tests.test_metrics import lint

MIN = 60_000_000_000
JOBS = ("order_job", "ledger_job")


class Clock:
    ns = 100 * MIN

    def __call__(self) -> int:
        return self.ns


def made(**named: Any) -> tuple[RetryMetrics, Clock]:
    clock = Clock()
    return RetryMetrics(JOBS, now_ns=clock, **named), clock


def samples(metrics: RetryMetrics) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in metrics.export_prometheus_format().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_example_of_the_module_runs() -> None:
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted >= 6


def test_every_series_exists_from_the_start_and_only_those() -> None:
    metrics, _ = made(reasons=("own_reason",))
    found = samples(metrics)
    assert set(found.values()) == {0.0}
    jobs, reasons = (*JOBS, "other"), (*REASONS, "own_reason", "other")
    assert len(found) == 4 * len(jobs) + len(jobs) * len(reasons)
    assert 'haltcore_retry_blocked_total{job="order_job",reason="not_retryable_insufficient_balance"}' in found
    assert len([reason for reason in REASONS if reason.startswith("not_retryable_")]) == len(FailureClass)


def test_the_names_pass_the_lint_and_clash_with_no_others() -> None:
    assert {spec.name: lint(spec) for spec in TABLE if lint(spec)} == {}
    assert not {spec.name for spec in TABLE} & set(METRIC_NAMES)
    registry = CollectorRegistry()
    Metrics(["BTCUSDT"], registry)
    RetryMetrics(JOBS, registry)
    assert registry.get_sample_value("haltcore_retry_success_total", {"job": "order_job"}) == 0


def test_rates_of_one_kind_of_job_and_of_all() -> None:
    metrics, clock = made()
    for _ in range(2):
        metrics.record_retry_attempt("order_job")
    metrics.record_retry_success("order_job", attempts=3)
    metrics.record_retry_failure("ledger_job", attempts=7)
    metrics.record_retry_blocked("order_job", "circuit_open")
    clock.ns += MIN
    order = metrics.get_job_type_metrics("order_job", 10)
    assert order == {
        "retry_rate_per_minute": 0.2, "retry_success_rate": 1.0, "retry_failure_rate": 0.0, "retry_block_rate": 0.5, "avg_attempts": 3.0,
        "retry_attempts": 2, "successes": 1, "failures": 0, "blocked": 1, "block_reasons": {"circuit_open": 1},
    }  # fmt: skip
    everything = metrics.get_all_metrics(10)
    assert everything["by_job_type"]["order_job"] == order
    assert (everything["avg_attempts"], everything["retry_success_rate"], everything["retry_failure_rate"]) == (5.0, 0.5, 0.5)
    assert everything["retry_block_rate"] == 1 / 3
    clock.ns += 11 * MIN
    assert metrics.get_all_metrics(10)["retry_rate_per_minute"] == 0.0
    assert metrics.get_job_type_metrics("order_job", 60)["successes"] == 1


def test_a_first_try_is_no_retry() -> None:
    metrics, _ = made()
    metrics.record_retry_attempt("order_job", attempt_number=1)
    assert metrics.get_all_metrics()["retry_attempts"] == 0


def test_counters_follow_and_reset_forgets_the_window_only() -> None:
    metrics, _ = made()
    metrics.record_retry_attempt("order_job", 2)
    metrics.record_retry_success("order_job", 2)
    metrics.record_retry_failure("unheard_of", 4)
    metrics.record_retry_blocked("order_job", "unheard of")
    changed = {name: value for name, value in samples(metrics).items() if value}
    assert changed == {
        'haltcore_retry_attempts_total{job="order_job"}': 1, 'haltcore_retry_success_total{job="order_job"}': 1,
        'haltcore_retry_tries_total{job="order_job"}': 2, 'haltcore_retry_failure_total{job="other"}': 1,
        'haltcore_retry_tries_total{job="other"}': 4, 'haltcore_retry_blocked_total{job="order_job",reason="other"}': 1,
    }  # fmt: skip
    metrics.reset("order_job")
    assert metrics.get_job_type_metrics("order_job")["successes"] == 0
    assert metrics.get_job_type_metrics("other")["failures"] == 1
    metrics.reset()
    assert metrics.get_all_metrics()["failures"] == 0
    assert {name: value for name, value in samples(metrics).items() if value} == changed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda metrics: metrics.record_retry_success([], 1),
        lambda metrics: metrics.record_retry_blocked({}, {}),
        lambda metrics: metrics.record_retry_success("order_job", "many"),
        lambda metrics: metrics.record_retry_success("order_job", float("inf")),
        lambda metrics: metrics.record_retry_failure("order_job", float("nan")),
        lambda metrics: metrics.record_retry_failure("order_job", 10**400),
        lambda metrics: metrics.record_retry_attempt("order_job", None),
    ],
)
def test_nonsense_is_logged_and_counts_as_nothing(spoil: Callable[[Any], None], caplog: pytest.LogCaptureFixture) -> None:
    metrics, _ = made()
    spoil(metrics)
    assert "was not counted" in caplog.text
    assert set(samples(metrics).values()) == {0.0}
    assert metrics.get_all_metrics()["retry_success_rate"] == metrics.get_all_metrics()["retry_failure_rate"] == 0.0


def test_every_reason_that_is_named_is_kept_apart() -> None:
    own = tuple(f"own_{number}" for number in range(200))
    metrics, _ = made(reasons=own)
    for reason in (*REASONS, *own, "unheard of"):
        metrics.record_retry_blocked("order_job", reason)
    assert metrics.get_job_type_metrics("order_job")["block_reasons"] == dict.fromkeys((*REASONS, *own, "other"), 1)


def test_a_negative_number_of_tries_counts_as_none() -> None:
    metrics, _ = made()
    metrics.record_retry_success("order_job", -5)
    assert metrics.get_all_metrics()["avg_attempts"] == 0.0
    assert metrics.get_all_metrics(-1)["retry_rate_per_minute"] == 0.0


def test_a_broken_clock_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    metrics, clock = made()
    metrics.record_retry_success("order_job")

    def broken() -> int:
        raise OSError

    metrics._now_ns = broken
    metrics.record_retry_success("order_job")
    assert metrics.get_all_metrics()["successes"] == 2
    assert "clock" in caplog.text
    assert clock.ns


def test_twenty_workers_at_once_lose_no_count() -> None:
    metrics, _ = made()

    def work() -> None:
        for _ in range(50):
            metrics.record_retry_attempt("order_job")
            metrics.record_retry_success("order_job", 2)
            metrics.get_all_metrics()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.get_all_metrics()["successes"] == 1_000
    assert samples(metrics)['haltcore_retry_tries_total{job="order_job"}'] == 2_000


def test_what_ends_the_program_goes_through() -> None:
    metrics, _ = made()

    def stopped() -> int:
        raise KeyboardInterrupt

    metrics._now_ns = stopped
    with pytest.raises(KeyboardInterrupt):
        metrics.record_retry_success("order_job")
