"""The contract of metrics."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.api.component import Component

if TYPE_CHECKING:
    import torchmetrics

    from benchmark.records.outcomes import Outcomes

__all__ = ["Measurement", "Metric"]


@dataclass  # not frozen: torchmetrics rebuilds what a metric computes, and refuses frozen dataclasses
class Measurement:
    """One measured number. value, low, high: None where nothing can be measured (never NaN)."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Metric(Component):
    """A number computed from judged outcomes."""

    @abstractmethod
    def build(self) -> torchmetrics.Metric:
        """Metric of torchmetrics: `update(outcomes)`, then `compute()` returns a list of :class:`Measurement`."""

    def measure(self, outcomes: Outcomes) -> list[Measurement]:
        """Measurements over all outcomes of a cell."""
        metric: Any = self.build()
        metric.distributed_available_fn = lambda: False  # the outcomes of all processes are joined already
        metric.update(outcomes)
        return list(metric.compute())
