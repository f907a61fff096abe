"""Risk-coverage curve. El-Yaniv & Wiener, JMLR 11, 2010, section 2; Geifman & El-Yaniv, NeurIPS 2017, arXiv:1705.08500.

A system that answers only its least suspicious inputs covers a share of them, at a risk: the share of wrong answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.api import Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class RiskCoverage(Metric):
    """The curve for clean and for attacked inputs, by the suspicion of the system's detectors.

    `clean_risk_area` and `attacked_risk_area` are means of the risk over all coverages; `..._risk_at_80`, `_90`, `_95`
    and `_100` the risk of answering that percentage of the inputs, the least suspicious ones. At 100 it is 1 minus the
    accuracy without detector. Among equally suspicious inputs the risk is that of a random order. An example that was
    not attacked, or not validly, enters the attacked curve with its clean input. None where there is no detector.
    """

    def build(self) -> torchmetrics.Metric:
        """Ten measurements."""
        from ._risk import RiskCurves

        return RiskCurves()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return RiskCoverage
