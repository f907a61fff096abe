"""Shares of examples with Wilson's 95 % interval, as one torchmetrics metric.

Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Outcomes

__all__ = ["Z95", "Rate", "Rates", "wilson"]

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Rate:
    """A share of examples, in [0, 1].

    count: from outcomes to (N,) bool hits and (N,) bool examples in the denominator; a hit outside the denominator does
    not count. above: the rate is measured only with more classes than this; with five, the label is always in the top
    five.
    """

    name: str
    count: Callable[[Outcomes], tuple[Tensor, Tensor]]
    higher_is_better: bool | None
    above: int = 0


class Rates(torchmetrics.Metric):
    """Several rates over the same outcomes. Counts are additive, so that parts of a cell merge exactly."""

    full_state_update = False
    hits: Tensor
    totals: Tensor
    classes: Tensor

    def __init__(self, *rates: Rate) -> None:
        super().__init__()
        self.rates = rates
        self.add_state("hits", torch.zeros(len(rates), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("totals", torch.zeros(len(rates), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("classes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")

    def update(self, outcomes: Outcomes) -> None:
        """Count a batch of outcomes and the classes of its labels."""
        for labels in (outcomes.y, outcomes.clean_label, outcomes.adv_label):
            if len(labels):
                self.classes = torch.maximum(self.classes, labels.max().cpu() + 1)
        for index, rate in enumerate(self.rates):
            hit, counted = rate.count(outcomes)
            self.hits[index] += int((hit & counted).sum())
            self.totals[index] += int(counted.sum())

    def compute(self) -> list[Measurement]:
        """One measurement per rate, with its interval; None if nothing was counted, or there are too few classes."""
        found = []
        for rate, hits, total in zip(self.rates, self.hits.tolist(), self.totals.tolist(), strict=True):
            counted = 0 if 0 < self.classes <= rate.above and hits == total else total
            low, high = wilson(hits, counted)
            value = hits / counted if counted else None
            found.append(Measurement(rate.name, value, low, high, "fraction", rate.higher_is_better))
        return found


def wilson(hits: float, total: int, level: float = 0.95) -> tuple[float | None, float | None]:
    """Wilson's score interval for `hits` of `total`; (None, None) if `total` is 0."""
    if total == 0:
        return None, None
    z = Z95 if level == 0.95 else NormalDist().inv_cdf((1.0 + level) / 2.0)
    share, weight = hits / total, z**2 / total
    middle = share + weight / 2
    spread = z * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    low, high = (middle - spread) / (1 + weight), (middle + spread) / (1 + weight)
    return 0.0 if hits == 0 else low, 1.0 if hits == total else high  # exact at both ends, whatever the rounding
