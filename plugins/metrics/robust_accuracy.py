"""Robust accuracy, top-1 and top-5: the share of examples that the system classifies correctly under attack."""

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
class RobustAccuracy(Metric):
    """`robust_accuracy` and `robust_top5_accuracy` over all examples, from the counts of a record.

    An example misclassified without an attack is not robust. One whose candidate is outside the threat is neither
    robust nor broken; `counts.invalid` gives their number, so that an attack with invalid candidates raises no share.

    Unless `threat.goal` is top5, `robust_top5_accuracy` is top-5 accuracy after a top-1 attack: the attacker aimed at
    any other top prediction, and examples misclassified in top-1 were not attacked. Under top5 both rates are the share
    of examples whose label no attack removed from the top five.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """Both rates, with Wilson intervals."""
        from ._rates import Rate, Rates

        return Rates(Rate("robust_accuracy", top1, True), Rate("robust_top5_accuracy", top5, True, above=5))


def top1(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples correct and not broken, and all examples, (N,) bool each."""
    return outcomes.robust, torch.ones_like(outcomes.robust)


def top5(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples with the label in the top five on a valid candidate, and all examples, (N,) bool each."""
    return outcomes.robust_top5 & outcomes.valid, torch.ones_like(outcomes.robust_top5)


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return RobustAccuracy
