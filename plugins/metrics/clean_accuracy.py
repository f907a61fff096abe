"""Clean accuracy, top-1 and top-5: the share of examples that the system classifies correctly without an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from benchmark.api import EVERY_TASK, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class CleanAccuracy(Metric):
    """`clean_accuracy` and `clean_top5_accuracy` over all examples; an input refused by a detector is not correct."""

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """Both rates, with Wilson intervals."""
        from ._rates import Rate, Rates

        return Rates(Rate("clean_accuracy", top1, True), Rate("clean_top5_accuracy", top5, True, above=5))


def top1(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples whose label is the top prediction, and all examples, (N,) bool each."""
    return outcomes.clean_correct, torch.ones_like(outcomes.clean_correct)


def top5(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples whose label is among the top five predictions, and all examples, (N,) bool each."""
    return outcomes.clean_top5, torch.ones_like(outcomes.clean_top5)


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return CleanAccuracy
