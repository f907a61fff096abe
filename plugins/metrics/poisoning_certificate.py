"""Certified accuracy under poisoning: correct whichever R training rows are added or removed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmark.api import ConfigError, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes


@dataclass(frozen=True)
class PoisoningCertificate(Metric):
    """`poison_certified_accuracy_R`: the share of examples that are correct and certified against R training rows.

    None without a certifier of training rows, such as certifier=partition_aggregation.

    rows: values of R.
    """

    rows: tuple[int, ...] = (1, 5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        if not self.rows or min(self.rows) < 0:
            raise ConfigError(f"metric.rows is {list(self.rows)}; expected numbers of training rows, such as [1]")

    def build(self) -> torchmetrics.Metric:
        """The rates, with Wilson intervals."""
        from ._rates import Rate, Rates

        return Rates(*(Rate(f"poison_certified_accuracy_{n}", partial(certified, rows=n), True) for n in self.rows))


def certified(outcomes: Outcomes, rows: int) -> tuple[Tensor, Tensor]:
    """Examples correct and certified against `rows` training rows, and all examples, (N,) bool each."""
    if outcomes.certified_rows is None:
        nobody = torch.zeros_like(outcomes.clean_correct)
        return nobody, nobody
    return outcomes.clean_correct & (outcomes.certified_rows >= rows), torch.ones_like(outcomes.clean_correct)


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return PoisoningCertificate
