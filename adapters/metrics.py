"""Prometheus metrics. One table says what there is; everything else follows from it.

A ``Metric`` effect carries a name, an int and a label value. The table says what that int means: ``per_unit`` of them make one unit of the
exposed number (durations and moments come in nanoseconds). Rules:

- Label values are closed sets, and every series exists from the start. An alert on ``increase()`` never fires for a series that is first
  seen at 1, so a failure that creates its own series would go unseen.
- A symbol that the configuration does not name counts as ``other``; so a venue cannot make series without end.
- What does not fit the table raises nothing, since telemetry must never stop a cancel. It is counted, in
  ``haltcore_metrics_unknown_total``.
- What is the state's own (exposure, result, how much of each limit is used) is not recorded, but read from the state at scrape time: see
  ``gauges.py``, and :meth:`Metrics.watch`.
- The ``_created`` series of the client library are left out: they double the number of series and say nothing here.
- ``mm_cancel_all_duration_ms`` is kept for existing dashboards. Alerts use ``mm_cancel_all_duration_seconds``.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..effects import Effect, Metric, SweepStatus, Trigger
from ..fsm.breaker import WORDS
from ..fsm.core import JOB, Core
from ..fsm.degraded import MATRIX
from ..fsm.events import Event, GuardKind, Verb
from ..fsm.risk import CHECKS
from .gauges import GAUGES

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
OTHER = "other"
#: In place of label values: the symbols of the configuration, and OTHER.
SYMBOLS = ("*symbols*",)
#: What a claim can hear, what is made of one that comes too late or that nothing allows any more, and what a settlement can hear.
GUARDED = (*(kind.value for kind in GuardKind), "withdrawn", "unsettled")
_LOG = logging.getLogger("haltcore")
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_BUCKETS_MS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 30_000, 60_000)
_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
_HOLD_BUCKETS_S = (*_BUCKETS_S, 120, 300)
#: Every deed with every conduct that the matrix of a failing store has for it.
_DEGRADED = tuple(
    dict.fromkeys(f"{deed.value},{conduct.value}" for deed, row in MATRIX.items() for conduct in (row.unavailable, row.in_doubt))
)


@frozen
class Spec:
    """One row of the table. ``label`` is empty for a metric without one, and several names, divided by commas, for one with several;
    ``values`` are all values that the label can have, divided likewise."""

    name: str
    kind: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    per_unit: int = 1


TABLE: tuple[Spec, ...] = (
    Spec("mm_cancel_all_total", COUNTER, "Reports of cancel-all runs; one that was late reports twice.", "status", tuple(SweepStatus)),
    Spec("mm_cancel_all_orders_total", COUNTER, "Orders that were cancelled during cancel-all runs that succeeded."),
    Spec(
        "mm_cancel_all_duration_ms", HISTOGRAM, "Time from the start of a cancel-all run to its success, in milliseconds.",
        buckets=_BUCKETS_MS, per_unit=_NS_PER_MS,
    ),
    Spec(
        "mm_cancel_all_duration_seconds", HISTOGRAM, "Time from the start of a cancel-all run to its success.",
        buckets=_BUCKETS_S, per_unit=_NS_PER_S,
    ),
    Spec(
        "mm_cancel_all_skipped_total", COUNTER, "Cancel-all runs that were not needed, by reason.",
        "reason", ("lock_held_verified_empty", "not_frozen", "duplicate_epoch"),
    ),
    Spec("mm_cancel_all_per_order_success_total", COUNTER, "Orders that ended cancelled after a cancel of their own.", "symbol", SYMBOLS),
    Spec("mm_cancel_all_per_order_failure_total", COUNTER, "Cancels of single orders that the venue refused.", "symbol", SYMBOLS),
    Spec("mm_cancel_all_remaining_orders", GAUGE, "Orders that a cancel-all run still has to account for."),
    Spec(
        "mm_cancel_all_last_run_timestamp_seconds", GAUGE, "When the last cancel-all run was reported, in Unix time.",
        per_unit=_NS_PER_S,
    ),
    Spec(
        "mm_cancel_all_last_success_timestamp_seconds", GAUGE, "When a cancel-all run last proved the book empty, in Unix time.",
        per_unit=_NS_PER_S,
    ),
    Spec("freeze_triggered_total", COUNTER, "Freezes by what triggered them.", "reason", tuple(Trigger)),
    Spec(
        "mm_orders_denied_total", COUNTER, "Submits and replaces that the gate denied, by the first check that failed.",
        "code", tuple(check.code for check in CHECKS),
    ),
    Spec("mm_freeze_active", GAUGE, "Whether any scope is frozen or freezing (1) or none is (0)."),
    Spec("mm_freeze_epoch", GAUGE, "The epoch of the present or last freeze."),
    Spec("mm_guard_outcomes_total", COUNTER, "Claims in the store, and settlements of them, by the answer.", "outcome", GUARDED),
    Spec(
        "mm_breaker_overrides_total", COUNTER, "Words of persons that forced a circuit breaker, or had it begin anew.",
        "job,to", tuple(f"{JOB},{word.value}" for word in WORDS),
    ),
    Spec("mm_effects_in_doubt", GAUGE, "Requests that may or may not have been applied and are being asked for."),
    Spec("mm_fence_rejected_total", COUNTER, "Requests held back because their lease was void by then.", "effect", tuple(Verb)),
    Spec("mm_lease_lost_total", COUNTER, "Leases that were lost before they were given back.", "lease", ("sweep",)),
    Spec(
        "mm_lock_hold_seconds", HISTOGRAM, "How long a lease was held, from its grant to its end.", buckets=_HOLD_BUCKETS_S,
        per_unit=_NS_PER_S,
    ),
    Spec(
        "mm_coordination_degraded_total", COUNTER, "Deeds that were done, or not done, without the store's word, since it failed.",
        "effect,decision", _DEGRADED,
    ),
)
METRIC_NAMES: tuple[str, ...] = tuple(spec.name for spec in TABLE)
UNKNOWN = Spec("haltcore_metrics_unknown_total", COUNTER, "Metric effects that fit no row of the metrics table.")


class Metrics:
    """Serves ``Metric`` effects. ``symbols`` are those of the configuration.

    ``registry`` is where the metrics appear, a fresh one by default; give the process's own registry to expose them there.
    """

    serves: Sequence[type[Effect]] = (Metric,)

    def __init__(self, symbols: Iterable[str], registry: "CollectorRegistry | None" = None) -> None:
        import prometheus_client as prometheus

        self._prometheus = prometheus
        self.registry = prometheus.CollectorRegistry() if registry is None else registry
        self._series: dict[tuple[str, str], tuple[Callable[[float], object], int, bool]] = {}
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        names = tuple(dict.fromkeys((*symbols, OTHER)))
        hidden = prometheus.CollectorRegistry()
        for spec in TABLE:
            self._create(spec, names if spec.values is SYMBOLS else spec.values, hidden)
        self._count_unknown = prometheus.Counter(UNKNOWN.name, UNKNOWN.help, registry=hidden).inc
        self._watched: Callable[[], Core] | None = None
        self.registry.register(without_created(hidden))
        self.registry.register(_gauges(lambda: self._watched))

    def _create(self, spec: Spec, values: tuple[str, ...], registry: "CollectorRegistry") -> None:
        """Make one metric with all its series."""
        labels = tuple(spec.label.split(",")) if spec.label else ()
        metric: Any
        if spec.kind == HISTOGRAM:
            metric = self._prometheus.Histogram(spec.name, spec.help, labels, buckets=spec.buckets, registry=registry)
        elif spec.kind == COUNTER:
            metric = self._prometheus.Counter(spec.name, spec.help, labels, registry=registry)
        else:
            metric = self._prometheus.Gauge(spec.name, spec.help, labels, registry=registry)
        write = {COUNTER: "inc", GAUGE: "set", HISTOGRAM: "observe"}[spec.kind]
        for value in values or ("",):
            series = metric.labels(*value.split(",")) if len(labels) > 1 else metric.labels(value) if labels else metric
            self._series[spec.name, str(value)] = (getattr(series, write), spec.per_unit, spec.kind != GAUGE)

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Take one effect into account. Never raises."""
        if isinstance(effect, Metric):
            self._record(effect)
        return ()

    def _record(self, effect: Metric) -> None:
        series = self._series.get((effect.name, effect.label))
        if series is None and _BY_NAME.get(effect.name) is SYMBOLS:
            series = self._series[effect.name, OTHER]
        if series is None:
            self._count_unknown()
            return
        write, per_unit, only_up = series
        if only_up and effect.value < 0:
            self._count_unknown()
            return
        try:
            write(effect.value / per_unit)
        except OverflowError:
            self._count_unknown()

    def watch(self, core: Callable[[], Core]) -> None:
        """Expose the gauges of the state that ``core`` returns. It is called at each scrape, from the thread that serves it."""
        self._watched = core

    def text(self) -> str:
        """The exposition, in Prometheus' text format."""
        return self._prometheus.generate_latest(self.registry).decode()

    def serve(self, port: int, host: str = "127.0.0.1") -> int:
        """Expose over HTTP, from a thread of its own, until :meth:`close`. Returns the port, which port 0 leaves to the system."""
        from socketserver import ThreadingMixIn
        from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

        class Threaded(ThreadingMixIn, WSGIServer):
            # One client that hangs must not keep the others waiting, nor the process from ending.
            daemon_threads = True

        class Silent(WSGIRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """A scrape every few seconds is no news."""

        if self._server is not None:
            raise RuntimeError("the metrics are served already; close first")
        server = make_server(host, port, self._prometheus.make_wsgi_app(self.registry), server_class=Threaded, handler_class=Silent)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True)
        thread.start()
        self._server = server, thread
        return int(server.server_port)

    def close(self) -> None:
        """Stop the HTTP exposition, if there is one."""
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            thread.join()
            server.server_close()


_BY_NAME = MappingProxyType({spec.name: spec.values for spec in TABLE})


def without_created(registry: "CollectorRegistry") -> Any:
    """A collector of everything in the registry but the ``_created`` samples.

    The client library can leave them out by itself, but only for the whole process, and this process is not ours.
    """
    from prometheus_client.registry import Collector

    class WithoutCreated(Collector):
        def collect(self) -> Iterable[Any]:
            for family in registry.collect():
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
                yield family

        # By this a registry knows the names, and refuses a second set of them.
        describe = collect

    return WithoutCreated()


def _gauges(watched: Callable[[], Callable[[], Core] | None]) -> Any:
    """A collector of the gauges of the state that is watched. A gauge that cannot be read is left out, and the log says why: nothing else
    that is scraped may suffer from it."""
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Gauges(Collector):
        def collect(self) -> Iterable[Any]:
            core = watched()
            state = core() if core is not None else None
            for gauge in GAUGES:
                family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
                try:
                    values = gauge.read(state, state.desk) if state is not None and state.desk is not None else {}
                except Exception:
                    _LOG.exception("%s cannot be read", gauge.name)
                    values = {}
                for labels, value in values.items():
                    family.add_metric(labels, value)
                yield family

        # By this a registry knows the names, without asking for a state.
        def describe(self) -> Iterable[Any]:
            return [GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels) for gauge in GAUGES]

    return Gauges()
