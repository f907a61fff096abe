"""Optimality gap: excess of the distances found by an attack. Cinà et al., AttackBench, AAAI 2025, arXiv:2404.19460.

AttackBench compares with the smallest distance found by any attack; here the reference is the certified radius. With
`certifier=[exact]` that is the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import EVERY_TASK, Metric, Norm, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class OptimalityGap(Metric):
    """Ratios of distances found to certified radii, for attacks that search for the smallest perturbation.

    `optimality_ratio_median`, `optimality_ratio_mean`, `optimality_ratio_least`: of the ratio over the validly attacked
    examples whose radius is positive. Failures count as infinite distances: a median at infinity, and a mean with any
    failure, are None. `optimality_found`: the share found at any distance. No ratio is below 1, unless the certifier or
    the verdict is wrong. None if nothing is certified.

    norm: of the threat, which outcomes do not contain; `metric.optimality_gap.norm=${threat.norm}` in a configuration.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    norm: Norm = Norm.linf

    def build(self) -> torchmetrics.Metric:
        """Four measurements."""
        from ._ratios import CertifiedRatios

        return CertifiedRatios(self.norm.value)


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return OptimalityGap
