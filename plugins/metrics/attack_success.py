"""Attack success rate: the share of validly attacked examples that the attack broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import EVERY_TASK, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class AttackSuccess(Metric):
    """`attack_success_rate`: broken within eps, of the examples that were correct clean and validly attacked.

    The board ranks systems, so the direction is the defender's: lower is better.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """The rate, with its Wilson interval."""
        from ._rates import Rate, Rates

        return Rates(Rate("attack_success_rate", broken, False))


def broken(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    """Broken examples, and those validly attacked, (N,) bool each."""
    return outcomes.broken, outcomes.attacked & outcomes.valid


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return AttackSuccess
