"""Risk-coverage curve. El-Yaniv & Wiener, JMLR 11, 2010, section 2; Geifman & El-Yaniv, NeurIPS 2017, arXiv:1705.08500.

The coverage is the share of inputs accepted, least suspicious first; the risk is the error rate among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.api import Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class RiskCoverage(Metric):
    """Risk-coverage curves for clean and attacked inputs, by the suspicion of the system's detectors.

    `clean_risk_area` and `attacked_risk_area` are means of the risk over all coverages; `..._risk_at_80`, `_90`, `_95`
    and `_100` the risk at that coverage in percent. At 100 it is 1 minus the accuracy without detector. Among equally
    suspicious inputs the risk is that of a random order. An example not attacked, or not validly, enters the attacked
    curve with its clean input. None if there is no detector.
    """

    def build(self) -> torchmetrics.Metric:
        """Ten measurements."""
        from ._risk import RiskCurves

        return RiskCurves()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return RiskCoverage
