"""Passes per example as a torchmetrics metric."""

from __future__ import annotations

import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Outcomes

from ._quantiles import gathered, quantile, quantile_interval

__all__ = ["PassCounts"]


class PassCounts(torchmetrics.Metric):
    """Passes of all attacked examples, kept until computation: 17 bytes per example."""

    full_state_update = False
    forwards: Tensor | list[Tensor]
    backwards: Tensor | list[Tensor]
    broken: Tensor | list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("forwards", "backwards", "broken"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add the passes of a batch of outcomes."""
        for name in ("forwards", "backwards", "broken"):
            getattr(self, name).append(getattr(outcomes, name)[outcomes.attacked])

    def compute(self) -> list[Measurement]:
        """Mean, median and maximum of the passes per attacked example, and of the queries per broken example."""
        forwards, broken = gathered(self.forwards), gathered(self.broken).bool()
        return [
            *_summary("forwards_per_example", forwards, "passes"),
            *_summary("backwards_per_example", gathered(self.backwards), "passes"),
            *_summary("queries_per_broken_example", forwards[broken], "queries"),
        ]


def _summary(name: str, passes: Tensor, unit: str) -> list[Measurement]:
    """Mean, median (with its interval) and maximum of `passes` (M,) int64."""
    ordered = passes.double().sort().values
    some = len(ordered) > 0
    mean, largest = (float(ordered.mean()), float(ordered[-1])) if some else (None, None)
    low, high = quantile_interval(ordered, 0.5)
    return [
        Measurement(name, mean, None, None, unit, None),
        Measurement(f"{name}_median", quantile(ordered, 0.5), low, high, unit, None),
        Measurement(f"{name}_max", largest, None, None, unit, None),
    ]
