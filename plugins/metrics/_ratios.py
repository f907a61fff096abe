"""Ratios of distances to certified radii, with failures at infinity, as a torchmetrics metric."""

from __future__ import annotations

import math

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Outcomes

from ._quantiles import finite, gathered, quantile, quantile_interval
from ._rates import Z95, wilson

__all__ = ["CertifiedRatios"]


class CertifiedRatios(torchmetrics.Metric):
    """Ratios of all validly attacked examples with a certified radius, kept until computation."""

    full_state_update = False
    ratios: list[Tensor]

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm = norm
        self.add_state("ratios", [], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add the ratios of a batch of outcomes; infinite where the attack failed."""
        known = outcomes.attacked & outcomes.valid & (outcomes.certified > 0)
        far = torch.where(outcomes.adversarial, outcomes.distances(self.norm), torch.inf)[known]
        self.ratios.append(far.double() / outcomes.certified[known].double())

    def compute(self) -> list[Measurement]:
        """Median, mean and minimum of the ratios, and the share of examples with an adversarial example."""
        ordered = gathered(self.ratios).double().sort().values
        total = len(ordered)
        found = int(ordered.isfinite().sum())
        low, high = quantile_interval(ordered, 0.5)
        measured = [_ratio("median", quantile(ordered, 0.5), low, high)]
        mean = float(ordered.mean()) if total else None
        spread = Z95 * float(ordered.std()) / math.sqrt(total) if total > 1 and found == total else None
        bounds = (None, None) if mean is None or spread is None else (mean - spread, mean + spread)
        measured.append(_ratio("mean", mean, *bounds))
        measured.append(_ratio("least", float(ordered[0]) if total else None, None, None))
        low, high = wilson(found, total)
        share = found / total if total else None
        return [*measured, Measurement("optimality_found", share, low, high, "fraction", None)]


def _ratio(name: str, value: float | None, low: float | None, high: float | None) -> Measurement:
    return Measurement(f"optimality_ratio_{name}", finite(value), finite(low), finite(high), "ratio", None)
