"""Forward and backward passes per attacked example, and queries per broken example, as counted by the core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import EVERY_TASK, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class Passes(Metric):
    """`forwards_per_example`, `backwards_per_example` and `queries_per_broken_example`.

    Each name alone is the mean; `_median` and `_max` are its variants. The first two are over all attacked examples. A
    query is a forward pass, over the broken examples only, as black-box attacks are compared. Cost makes an attack
    neither better nor worse, so there is no direction.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """Nine measurements."""
        from ._passes import PassCounts

        return PassCounts()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return Passes
