"""Pixel accuracy and mIoU of stored label maps, as one torchmetrics metric."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from benchmark.api import Measurement

from ._resampled import resampled
from ._sites import SiteAnswers

__all__ = ["PixelRates", "confusion"]


class PixelRates(SiteAnswers):
    """Rates over all examples with an answer per pixel."""

    answers = torch.int64

    def compute(self) -> list[Measurement]:
        """Both rates of clean and attacked inputs; None if nothing was recorded."""
        names = [f"{which}_{rate}" for rate in ("miou", "pixel_accuracy") for which in ("clean", "attacked")]
        if not self.truth:
            return [Measurement(name, None, None, None, "fraction", True) for name in names]
        truth, answers = torch.cat(self.truth), (torch.cat(self.clean), torch.cat(self.adv))
        classes = int(max(truth.max(), *(answer.max() for answer in answers))) + 1
        classes = max(classes, 2)
        found = []
        for name, answer in zip(names, answers * 2, strict=True):
            each = confusion(truth, answer, classes)
            if name.endswith("miou"):
                value = float(multiclass_jaccard_index(answer, truth, classes, ignore_index=-1))
                low, high = resampled(each, _mean_iou)
            else:
                value = _accuracy(each.sum(0))
                low, high = resampled(each, _accuracy)
            found.append(Measurement(name, value, min(low, value), max(high, value), "fraction", True))
        return found


def confusion(truth: Tensor, answer: Tensor, classes: int) -> Tensor:
    """Confusion matrix of pixels (label, answer) per example, (N, K, K) float64; `truth` and `answer` are (N, S)."""
    counts = torch.zeros(len(truth), classes * classes, dtype=torch.float64)
    counted = truth >= 0
    counts.scatter_add_(1, (truth.clamp_min(0) * classes + answer), counted.double())
    return counts.reshape(len(truth), classes, classes)


def _mean_iou(counts: Tensor) -> float:
    """Mean IoU over the classes that occur in labels or answers, from counts (K, K)."""
    both = counts.diag()
    either = counts.sum(0) + counts.sum(1) - both
    return float((both / either.clamp_min(1.0))[either > 0].mean()) if bool((either > 0).any()) else 0.0


def _accuracy(counts: Tensor) -> float:
    """Share of pixels on the diagonal of counts (K, K); 1 if there are none."""
    total = float(counts.sum())
    return float(counts.diag().sum()) / total if total else 1.0
