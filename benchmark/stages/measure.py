"""measure: metric plugins over judged outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark import registry
from benchmark.api import Metric
from benchmark.errors import PluginError
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import MetricValue

__all__ = ["measure"]


def measure(metrics: Sequence[Metric], outcomes: Outcomes) -> list[MetricValue]:
    """Measurements of each metric, in the order of the configuration.

    Raises:
        PluginError: naming the plugin of a non-finite measurement.
    """
    found = []
    for metric in metrics:
        with registry.calling(metric, draws=False):
            measured = list(metric.measure(outcomes))
        for m in measured:
            odd = [value for value in (m.value, m.low, m.high) if value is not None and not math.isfinite(value)]
            if odd:
                owner = registry.owner_of(type(metric))
                raise PluginError(
                    f"{owner.full_name} from {owner.owner} measured {m.name!r} as {m.value} ({m.low} to {m.high}); "
                    "expected finite numbers, or None where there is nothing to measure: its author must fix it"
                )
            found.append(
                MetricValue(
                    name=m.name, value=m.value, low=m.low, high=m.high, unit=m.unit, higher_is_better=m.higher_is_better
                )
            )
    return found
