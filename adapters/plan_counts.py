"""What happens on a stream of plans, counted. Every series exists from the start; see ``metrics.py`` for why."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..fsm.plan import CODES

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class PlanCounts:
    """The counts of one consumer, or of several that share them. Readable as they are; ``expose`` shows them to Prometheus."""

    def __init__(self) -> None:
        self.pending = 0
        self.redelivered = 0
        self.dead_lettered = dict.fromkeys(CODES, 0)

    def expose(self, registry: "CollectorRegistry") -> None:
        """Show them in a registry. Raises ValueError if it has metrics of these names."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
        from prometheus_client.registry import Collector

        class Shown(Collector):
            def collect(_) -> Iterable[Any]:  # noqa: N805 - ``self`` is the counts
                yield GaugeMetricFamily("mm_stream_pending_plans", "Plans on the stream that are not done with.", self.pending)
                text = "Deliveries of plans that had been delivered before."
                yield CounterMetricFamily("mm_stream_redelivered_total", text, self.redelivered)
                text = "Entries taken off the stream without being carried out, by reason."
                buried = CounterMetricFamily("mm_stream_dead_lettered_total", text, labels=("reason",))
                for reason, count in self.dead_lettered.items():
                    buried.add_metric((reason,), count)
                yield buried

            # By this a registry knows the names, and refuses a second set of them.
            describe = collect

        registry.register(Shown())
