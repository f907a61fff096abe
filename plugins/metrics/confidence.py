"""Confidence of predictions under attack, and the share of low ones. No paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import EVERY_TASK, ConfigError, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class Confidence(Metric):
    """`attacked_confidence` and `confused` over the examples that were correct clean and validly attacked.

    The first is the mean probability of the predicted label, correct or not; it has no direction, since confidence is
    desirable only in correct predictions. The second is the share of examples whose predicted label has a probability
    below
    `threshold`: the success of `attack=confusion`, whatever the label.

    threshold: a probability; two equally likely labels have at most 1/2 each.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    threshold: float = 0.55

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"metric.confidence.threshold is {self.threshold}; expected a probability above 0")

    def build(self) -> torchmetrics.Metric:
        """Both, with 95 % intervals over the examples."""
        from ._means import Mean, MeanAndShare

        def unsure(confidence: Tensor) -> Tensor:
            return confidence < self.threshold

        return MeanAndShare(Mean(_confidence, unsure, "attacked_confidence", "probability", None, "confused"))


def _confidence(outcomes: Outcomes) -> Tensor | None:
    return outcomes.confidence


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return Confidence
