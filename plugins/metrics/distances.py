"""Distances to the adversarial examples that an attack found: quartiles under l0, l1, l2 and linf.

Minimal attacks are compared by the median distance (Brendel et al., NeurIPS 2019, arXiv:1907.01003). Failures
count as infinite distances, so that an attack cannot improve its result by giving up on hard examples.
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

    `adversarial_found` is the share for which the attack found an adversarial example at any distance. A quartile at
    infinity is None. Intervals are distribution-free, from order statistics; None for a bound at infinity or for too
    small a sample. Larger distances are better for the system.
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
