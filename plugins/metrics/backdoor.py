"""Backdoors: the share of triggered inputs given the target label, and the accuracy on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmark.api import Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class Backdoor(Metric):
    """`backdoor_success_rate` and `accuracy_despite_trigger`, under attacks that apply the trigger.

    Both are shares of the test examples that the poison targets: those not of the target class or, for poisons crafted
    for given inputs, these inputs, whether correct without the trigger or not. Their sum is below 1 where the system
    predicts a third label. The board ranks systems, so the direction of the first is the defender's: lower is better.
    """

    def build(self) -> torchmetrics.Metric:
        """Both rates, with Wilson intervals."""
        from ._rates import Rate, Rates

        return Rates(
            Rate("backdoor_success_rate", evoked, False),
            Rate("accuracy_despite_trigger", right, True),
        )


def evoked(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples given the poison's label, and those that the poison targets, (N,) bool each."""
    if outcomes.triggered is None or outcomes.aimed is None:
        return _nothing(outcomes)
    return outcomes.triggered == outcomes.aimed, outcomes.aimed >= 0


def right(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Examples given the true label with the trigger, and those that the poison targets, (N,) bool each."""
    if outcomes.triggered is None or outcomes.aimed is None:
        return _nothing(outcomes)
    return outcomes.triggered == outcomes.y, outcomes.aimed >= 0


def _nothing(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    nobody = torch.zeros_like(outcomes.clean_correct)
    return nobody, nobody


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return Backdoor
