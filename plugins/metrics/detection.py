"""Detection rate, ROC area and detection at fixed false positives. Hendrycks & Gimpel, ICLR 2017, arXiv:1610.02136."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.api import Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class Detection(Metric):
    """Separation of deceptive candidates from clean inputs by the detectors of a system.

    A candidate is deceptive if it is valid and the classifier without detectors would misclassify it, refused or not;
    others are not adversarial examples and do not count. `detection_rate` and `false_positive_rate` are the shares
    refused, at the threshold calibrated on the select split; `detection_auroc` is the area under the ROC curve;
    `detection_rate_at_1_percent` and `_5_percent` are points on that curve, with a threshold from the clean inputs of
    this cell. None if the system has no detector.
    """

    def build(self) -> torchmetrics.Metric:
        """Five measurements."""
        from ._roc import DetectionRates

        return DetectionRates()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return Detection
