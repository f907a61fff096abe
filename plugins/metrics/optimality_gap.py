"""Optimality gap: how much further than needed an attack went. Cinà et al., AttackBench, AAAI 2025, arXiv:2404.19460.

AttackBench compares with the best distance that any attack found; here the reference is what a certifier proved. With
`certifier=[exact]` that is the optimum itself.
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
    examples whose radius is positive. Failures count as infinitely far: a median among them, and a mean with one, are
    None. `optimality_found`: the share that was found at any distance. No ratio is below 1, unless the certifier or the
    verdict is wrong. None where nothing is certified.

    norm: of the threat, which outcomes do not name; `metric.optimality_gap.norm=${threat.norm}` in a configuration.
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
