"""Robust accuracy, top-1 and top-5: the share of examples that the system gets right whatever the attack did."""

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
    """`robust_accuracy` and `robust_top5_accuracy` over all examples, as the counts of a record have them.

    An example that is wrong without an attack is not robust. One whose candidate lay outside the threat is not either,
    nor is it broken: `counts.invalid` says how many there were, so an attack that is never valid raises no share.

    Unless `threat.goal` is top5, `robust_top5_accuracy` is top-5 after a top-1 attack: the attacker was content with
    any other first answer, and examples that were wrong at first guess were not attacked. Under top5 both rates are
    that of examples whose label no attack drove out of the five best.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """Both rates, with Wilson intervals."""
        from ._rates import Rate, Rates

        return Rates(Rate("robust_accuracy", top1, True), Rate("robust_top5_accuracy", top5, True, above=5))


def top1(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples right and not broken, and all examples, (N,) bool each."""
    return outcomes.robust, torch.ones_like(outcomes.robust)


def top5(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples right within five guesses on a valid candidate, and all examples, (N,) bool each."""
    return outcomes.robust_top5 & outcomes.valid, torch.ones_like(outcomes.robust_top5)


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return RobustAccuracy
