"""How sure answers under attack are, as a torchmetrics metric."""

from __future__ import annotations

import math

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement
from benchmark.outcomes import Outcomes

from ._rates import Z95, wilson

__all__ = ["Doubts"]


class Doubts(torchmetrics.Metric):
    """The mean confidence, with the normal interval, and how often it is below a threshold."""

    full_state_update = False
    total: Tensor
    squares: Tensor
    below: Tensor
    examples: Tensor

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        for name in ("total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("below", "examples"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outcomes: Outcomes) -> None:
        """Add the examples of a part of a cell."""
        if outcomes.confidence is None:
            return
        sure = outcomes.confidence[outcomes.attacked & outcomes.valid].double()
        self.total += sure.sum()
        self.squares += sure.square().sum()
        self.below += (sure < self.threshold).sum()
        self.examples += len(sure)

    def compute(self) -> list[Measurement]:
        """The mean and the share."""
        count, below = int(self.examples), int(self.below)
        mean = low = high = None
        if count:
            mean = float(self.total) / count
            spread = Z95 * math.sqrt(max(0.0, float(self.squares) / count - mean**2) / count)
            low, high = max(0.0, mean - spread), min(1.0, mean + spread)
        share = below / count if count else None
        return [
            Measurement("attacked_confidence", mean, low, high, "probability", None),
            Measurement("confused", share, *wilson(below, count), "fraction", False),
        ]
