"""measure: metric plugins over verified outcomes, and the counts that every record has."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.api import Metric
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import Counts, MetricValue

__all__ = ["counts", "measure"]


def counts(outcomes: Outcomes) -> Counts:
    """How many examples were right, stayed right, and could not be judged."""
    return Counts(
        total=len(outcomes),
        clean_correct=int(outcomes.clean_correct.sum()),
        robust_correct=int(outcomes.robust.sum()),
        clean_top5=int(outcomes.clean_top5.sum()),
        robust_top5=int((outcomes.robust_top5 & outcomes.valid).sum()),
        invalid=int((outcomes.attacked & ~outcomes.valid).sum()),
    )


def measure(metrics: Sequence[Metric], outcomes: Outcomes) -> list[MetricValue]:
    """What each metric says, in the order of the configuration."""
    return [
        MetricValue(
            name=m.name, value=m.value, low=m.low, high=m.high, unit=m.unit, higher_is_better=m.higher_is_better
        )
        for metric in metrics
        for m in metric.measure(outcomes)
    ]
