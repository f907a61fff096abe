"""Distances to the adversarial examples that an attack found: quartiles under l0, l1, l2 and linf.

The median distance is how minimal attacks are compared (Brendel et al., NeurIPS 2019, arXiv:1907.01003). Failures
count as infinitely far, so that an attack cannot look better by giving up on hard examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import EVERY_TASK, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class Distances(Metric):
    """`distance_<norm>_q25`, `_median`, `_q75` over the validly attacked examples, and `adversarial_found`.

    `adversarial_found` is the share for which the attack found an adversarial example at any distance. A quartile that
    lies among the failures is None. Intervals are distribution-free, from order statistics; None where a bound lies
    among the failures or the sample is too small to have one. Farther is better for the system.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """Thirteen measurements."""
        from ._distances import DistanceQuartiles

        return DistanceQuartiles()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return Distances
