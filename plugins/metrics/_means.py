"""Mean of a value per attacked example, and the share of extreme values, as one torchmetrics metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Outcomes

from ._rates import Z95, wilson

__all__ = ["Mean", "MeanAndShare"]


ROUNDING = 1e-12
"""Variance up to which values in [0, 1] count as equal."""


@dataclass(frozen=True)
class Mean:
    """A value in [0, 1] per example, and the criterion for extreme values.

    value: from outcomes to (N,), or None if it was not recorded. extreme: from values to (N,) bool.
    name, unit, higher_is_better: of the mean. share: name of the share of extreme values; lower is better.
    """

    value: Callable[[Outcomes], Tensor | None]
    extreme: Callable[[Tensor], Tensor]
    name: str
    unit: str
    higher_is_better: bool | None
    share: str


class MeanAndShare(torchmetrics.Metric):
    """Mean, with its normal interval, and share, with Wilson's, over the validly attacked examples.

    Of equal values, which have no spread, the interval of the mean is Wilson's as well: it holds for values in [0, 1].
    """

    full_state_update = False
    total: Tensor
    squares: Tensor
    extremes: Tensor
    examples: Tensor

    def __init__(self, of: Mean) -> None:
        super().__init__()
        self.of = of
        for name in ("total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("extremes", "examples"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outcomes: Outcomes) -> None:
        """Add a batch of outcomes."""
        values = self.of.value(outcomes)
        if values is None:
            return
        values = values[outcomes.attacked & outcomes.valid].double()
        self.total += values.sum()
        self.squares += values.square().sum()
        self.extremes += self.of.extreme(values).sum()
        self.examples += len(values)

    def compute(self) -> list[Measurement]:
        """The mean and the share; None if nothing was recorded."""
        count, extremes = int(self.examples), int(self.extremes)
        mean = low = high = None
        if count:
            mean = float(self.total) / count
            variance = float(self.squares) / count - mean**2
            spread = Z95 * math.sqrt(max(0.0, variance) / count)
            low, high = max(0.0, mean - spread), min(1.0, mean + spread)
            if variance <= ROUNDING:
                low, high = wilson(mean * count, count)
        share = extremes / count if count else None
        return [
            Measurement(self.of.name, mean, low, high, self.of.unit, self.of.higher_is_better),
            Measurement(self.of.share, share, *wilson(extremes, count), "fraction", False),
        ]
