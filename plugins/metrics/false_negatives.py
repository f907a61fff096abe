"""False-negative rate of each class, without an attack and under it: which diseases, signs or attacks are missed.

Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27(8), 2006, section 2: a class against the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmark.api import ConfigError, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class FalseNegatives(Metric):
    """`clean_false_negative_rate_C` and `false_negative_rate_C`, C the number of the class.

    Shares of the examples of the class that are not given its label. Under attack these are the examples that are wrong
    without one, broken, or not validly attacked, as in the robust accuracy; a rejected input is not missed.

    classes: numbers of the classes to report; those that matter, since each is a column of the board.
    """

    classes: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.classes or min(self.classes) < 0 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                f"metric.false_negatives.classes is {list(self.classes)}; expected different numbers of classes, "
                "such as [0,1]"
            )

    def build(self) -> torchmetrics.Metric:
        """Both rates of each class, with Wilson intervals."""
        from ._rates import Rate, Rates

        rates = [
            rate
            for label in self.classes
            for rate in (
                Rate(f"clean_false_negative_rate_{label}", partial(_missed_clean, label=label), False),
                Rate(f"false_negative_rate_{label}", partial(_missed, label=label), False),
            )
        ]
        return Rates(*rates)


def _missed_clean(outcomes: Outcomes, label: int) -> tuple[Tensor, Tensor]:
    return ~outcomes.clean_correct & (outcomes.y == label), outcomes.y == label


def _missed(outcomes: Outcomes, label: int) -> tuple[Tensor, Tensor]:
    return ~outcomes.robust & (outcomes.y == label), outcomes.y == label


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return FalseNegatives
