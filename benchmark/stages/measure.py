"""measure: metric plugins over verified outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.api import Metric
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import MetricValue

__all__ = ["measure"]


def measure(metrics: Sequence[Metric], outcomes: Outcomes) -> list[MetricValue]:
    """The measurements of each metric, in the order of the configuration."""
    return [
        MetricValue(
            name=m.name, value=m.value, low=m.low, high=m.high, unit=m.unit, higher_is_better=m.higher_is_better
        )
        for metric in metrics
        for m in metric.measure(outcomes)
    ]
