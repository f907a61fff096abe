"""The labels that a sweep over all targets reached, as a torchmetrics metric."""

from __future__ import annotations

import math

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement
from benchmark.outcomes import Outcomes

from ._rates import Z95, wilson

__all__ = ["Targets"]


class Targets(torchmetrics.Metric):
    """Per example the share of labels reached: its mean, with the normal interval, and how often it is 1."""

    full_state_update = False
    total: Tensor
    squares: Tensor
    full: Tensor
    examples: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("full", "examples"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outcomes: Outcomes) -> None:
        """Add the examples of a part of a cell."""
        if outcomes.reached is None:
            return
        share = outcomes.reached[outcomes.attacked & outcomes.valid].double().mean(1)
        self.total += share.sum()
        self.squares += share.square().sum()
        self.full += (share == 1).sum()
        self.examples += len(share)

    def compute(self) -> list[Measurement]:
        """The average and the worst case."""
        count, full = int(self.examples), int(self.full)
        mean = low = high = None
        if count:
            mean = float(self.total) / count
            spread = Z95 * math.sqrt(max(0.0, float(self.squares) / count - mean**2) / count)
            low, high = max(0.0, mean - spread), min(1.0, mean + spread)
        worst = full / count if count else None
        return [
            Measurement("targets_reached", mean, low, high, "fraction", False),
            Measurement("every_target_reached", worst, *wilson(full, count), "fraction", False),
        ]
