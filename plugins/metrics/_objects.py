"""Average precision and errors of stored detections, as one torchmetrics metric."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Detection, Measurement

from ._average_precision import average_precision, matched
from ._resampled import interval, resampled_weights
from ._sites import SiteAnswers

__all__ = ["ObjectRates", "rates"]

NAMES = (("map", "fraction", True), ("map50", "fraction", True), ("objects_gone", "fraction", False),
         ("objects_misnamed", "fraction", False), ("false_objects", "per scene", False))  # fmt: skip


class ObjectRates(SiteAnswers):
    """Rates over all examples with detections."""

    answers = torch.float32

    def compute(self) -> list[Measurement]:
        """Five measurements of clean, then of attacked inputs; None if nothing was recorded."""
        found = []
        for which in ("clean", "attacked"):
            answers = self.clean if which == "clean" else self.adv
            values = rates(torch.cat(self.truth), torch.cat(answers)) if self.truth else None
            for place, (name, unit, higher) in enumerate(NAMES):
                value, low, high = (None, None, None) if values is None else _described(values[place])
                found.append(Measurement(f"{which}_{name}", value, low, high, unit, higher))
        return found


def _described(values: Tensor) -> tuple[float | None, float | None, float | None]:
    """The value and the interval of its resamples, from values (1 + R,); None if there is nothing to measure."""
    if not bool(values[0].isfinite()):
        return None, None, None
    value, (low, high) = float(values[0]), interval(values[1:][values[1:].isfinite()].tolist())
    return value, min(low, value), max(high, value)


def rates(truth: Tensor, found: Tensor) -> list[Tensor]:
    """Five rates over all examples and for each resample, (1 + R,) each."""
    weights = torch.cat([torch.ones(1, len(truth), dtype=torch.float64), resampled_weights(len(truth))])
    classes = int(max(truth[..., 0].max(), found[..., 0].max())) + 1
    precision = average_precision(matched(found, truth, classes), weights)
    gone, misnamed, false = (error.sum(1).double() for error in Detection().errors(found, truth))
    objects = weights @ (truth[..., 0] > 0).sum(1).double()
    return [
        precision.nanmean((1, 2)),
        precision[:, 0].nanmean(1),
        (weights @ gone) / objects,
        (weights @ misnamed) / objects,
        (weights @ false) / len(truth),
    ]
