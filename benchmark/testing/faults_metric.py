"""Metrics that each break one promise, made from a sound one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Metric
from benchmark.records.outcomes import Outcomes

__all__ = ["SoundMetric"]


class _Share(torchmetrics.Metric):
    """Fraction of robust examples, with a bound by Hoeffding (JASA 1963)."""

    robust: Tensor
    total: Tensor

    def __init__(self, spoil: Any = None) -> None:
        super().__init__()
        self.spoil = spoil
        self.add_state("robust", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, outcomes: Outcomes) -> None:
        self.robust = self.robust + outcomes.robust.sum()
        self.total = self.total + len(outcomes)

    def compute(self) -> list[Measurement]:
        total = int(self.total)
        values: dict[str, Any] = {"value": None, "low": None, "high": None}
        if total:
            value, slack = int(self.robust) / total, (3.7 / (2 * total)) ** 0.5
            values = {"value": value, "low": max(0.0, value - slack), "high": min(1.0, value + slack)}
        whole = {"name": "share_robust", "unit": "share", "higher_is_better": True, **values}
        return [Measurement(**(self.spoil(whole) if self.spoil else whole))]


@dataclass(frozen=True)
class SoundMetric(Metric):
    """Fraction of robust examples."""

    def build(self) -> torchmetrics.Metric:
        """Metric of sums."""
        return _Share()


@dataclass(frozen=True)
class GivesText(SoundMetric):
    """Returns a string as a value."""

    def build(self) -> torchmetrics.Metric:
        """Metric of a percentage as text."""
        return _Share(
            lambda m: {**m, "value": None if m["value"] is None else f"{m['value']:.2%}", "low": None, "high": None}
        )


@dataclass(frozen=True)
class GivesNan(SoundMetric):
    """Returns NaN where nothing can be measured."""

    def build(self) -> torchmetrics.Metric:
        """Metric with NaN in place of None."""
        return _Share(lambda m: {**m, "value": float("nan") if m["value"] is None else m["value"]})


@dataclass(frozen=True)
class HasNoUnit(SoundMetric):
    """Leaves the unit empty."""

    def build(self) -> torchmetrics.Metric:
        """Metric without a unit."""
        return _Share(lambda m: {**m, "unit": ""})


@dataclass(frozen=True)
class MissesItsInterval(SoundMetric):
    """Returns an interval without its value."""

    def build(self) -> torchmetrics.Metric:
        """Metric with swapped bounds."""
        return _Share(lambda m: {**m, "low": m["high"], "high": m["low"]})


class _Last(_Share):
    def update(self, outcomes: Outcomes) -> None:
        self.robust, self.total = outcomes.robust.sum(), torch.tensor(len(outcomes))


@dataclass(frozen=True)
class ForgetsEarlierBatches(SoundMetric):
    """Keeps only the last update."""

    def build(self) -> torchmetrics.Metric:
        """Metric of the last batch."""
        return _Last()


class _Sorting(_Share):
    def update(self, outcomes: Outcomes) -> None:
        super().update(outcomes)
        outcomes.excess.fill_(0.0)


@dataclass(frozen=True)
class ChangesTheOutcomes(SoundMetric):
    """Writes into the outcomes."""

    def build(self) -> torchmetrics.Metric:
        """Metric that sorts the outcomes in place."""
        return _Sorting()
