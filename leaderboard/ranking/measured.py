"""Metrics of plugins, beyond the fixed columns of the boards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import fsum

from benchmark.records.record import MetricValue

from ..board import Measured, Metric, Score

__all__ = ["least_favourable", "metrics_of"]

COUNTED = re.compile(
    r"(clean|robust)(_top5)?_accuracy|attack_success_rate|adversarial_found|(forwards|backwards)_per_example(_\w+)?"
    r"|queries_per_broken_example(_\w+)?|distance_l(inf|\d+)_(q25|median|q75)"
)
"""Metrics of counts, passes and distances, which the boards compute from the outcomes for their own columns."""


def metrics_of(measured: Iterable[MetricValue]) -> dict[Metric, Measured]:
    """Mean of each metric over cells, with the mean interval: runs share their examples, so they do not narrow it.

    Metrics that share a name but differ in unit or direction are different metrics.
    """
    found: dict[Metric, list[MetricValue]] = defaultdict(list)
    for one in measured:
        if one.value is not None and not COUNTED.fullmatch(one.name):
            found[Metric(one.name, one.unit, one.higher_is_better)].append(one)
    return {
        metric: Measured(*(_mean([getattr(one, part) for one in found[metric]]) for part in ("value", "low", "high")))
        for metric in sorted(found, key=lambda metric: metric.order)
    }


def least_favourable(scores: Sequence[Score | None], metric: Metric) -> Measured | None:
    """Worst value of a metric over the attacks of a row; without a direction, that under the strongest attack."""
    tried = [score for score in scores if score is not None and metric in score.metrics]
    if not tried:
        return None
    if metric.higher_is_better is None:
        return min(tried, key=lambda score: score.robust.count).metrics[metric]
    values = [score.metrics[metric] for score in tried]
    return (min if metric.higher_is_better else max)(values, key=lambda one: one.value or 0.0)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean, None if a value is missing; divided before summation, so that nothing overflows."""
    known = [value for value in values if value is not None]
    return fsum(value / len(values) for value in known) if len(known) == len(values) else None
