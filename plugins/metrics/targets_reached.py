"""Targets reached: the share of labels an example can be changed to. Carlini & Wagner, S&P 2017, section VI.A."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.api import Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class TargetsReached(Metric):
    """`targets_reached` and `every_target_reached`, under `threat.goal=all`; None under other goals.

    The first is the average case: the share of labels reached within eps, averaged over the examples that were correct
    clean and validly attacked. The second is the worst case: the share of these examples for which all labels were
    reached.
    The best case, any label, is `attack_success_rate`. Lower is better, as there.
    """

    def build(self) -> torchmetrics.Metric:
        """Both, with 95 % intervals over the examples."""
        from ._means import Mean, MeanAndShare

        return MeanAndShare(Mean(_reached, _all, "targets_reached", "fraction", False, "every_target_reached"))


def _reached(outcomes: Outcomes) -> Tensor | None:
    return None if outcomes.reached is None else outcomes.reached.double().mean(1)


def _all(share: Tensor) -> Tensor:
    return share == 1


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return TargetsReached
