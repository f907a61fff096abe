"""Quartiles of the distances of adversarial examples, with failures at infinity, as a torchmetrics metric."""

from __future__ import annotations

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import NORMS, Measurement, Outcomes

from ._quantiles import finite, gathered, quantile, quantile_interval
from ._rates import wilson

__all__ = ["DistanceQuartiles"]

QUARTILES = (("q25", 0.25), ("median", 0.5), ("q75", 0.75))


class DistanceQuartiles(torchmetrics.Metric):
    """Distances of all validly attacked examples, kept until computation: 16 bytes per example."""

    full_state_update = False
    found: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("found", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")
        for norm in NORMS:
            self.add_state(norm, [], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add the distances of a batch of outcomes; infinite where the attack failed."""
        attacked = outcomes.attacked & outcomes.valid
        adversarial = outcomes.adversarial[attacked]
        self.found += adversarial.sum()
        self.total += attacked.sum()
        for norm in NORMS:
            distance = outcomes.distances(norm)[attacked]
            getattr(self, norm).append(torch.where(adversarial, distance, torch.inf))

    def compute(self) -> list[Measurement]:
        """Share of examples with an adversarial example, then three quartiles per norm; None for infinity."""
        found, total = int(self.found), int(self.total)
        low, high = wilson(found, total)
        share = found / total if total else None
        measured = [Measurement("adversarial_found", share, low, high, "fraction", False)]
        for norm in NORMS:
            ordered = gathered(getattr(self, norm)).sort().values
            unit = "features" if norm == "l0" else "input range"
            for name, part in QUARTILES:
                low, high = quantile_interval(ordered, part)
                value = finite(quantile(ordered, part))
                measured.append(Measurement(f"distance_{norm}_{name}", value, finite(low), finite(high), unit, True))
        return measured
