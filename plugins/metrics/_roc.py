"""Receiver operating characteristic of suspicion scores: area and operating points, with intervals.

DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988, for the variance of the area.
"""

from __future__ import annotations

import math

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Outcomes

from ._quantiles import gathered, quantile_interval
from ._rates import Z95, wilson

__all__ = ["DetectionRates", "area", "area_interval", "true_positives_at"]

POINTS = (("1", 0.01), ("5", 0.05))
HALF = 0.975
"""Confidence of each of two intervals that hold jointly with 95 %."""


class DetectionRates(torchmetrics.Metric):
    """Suspicion of all clean inputs and deceptive candidates, kept until computation: 10 bytes per example."""

    full_state_update = False
    clean: Tensor | list[Tensor]
    deceptive: Tensor | list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("clean", "deceptive"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add a batch of outcomes; nothing if the system has no detector."""
        clean, adv, predicted = outcomes.clean_suspicion, outcomes.adv_suspicion, outcomes.adv_predicted
        if clean is None or adv is None or predicted is None:
            return
        assert isinstance(self.clean, list)
        assert isinstance(self.deceptive, list)
        self.clean.append(clean)
        self.deceptive.append(adv[outcomes.attacked & outcomes.valid & (predicted != outcomes.y)])

    def compute(self) -> list[Measurement]:
        """Both rates at the calibrated threshold, the area, and the detection rate at fixed false positive rates."""
        clean, deceptive = gathered(self.clean), gathered(self.deceptive)
        caught, refused = int((deceptive > 0).sum()), int((clean > 0).sum())
        measured = [
            _rate("detection_rate", caught, len(deceptive), higher_is_better=True),
            _rate("false_positive_rate", refused, len(clean), higher_is_better=False),
            Measurement("detection_auroc", area(clean, deceptive), *area_interval(clean, deceptive), "fraction", True),
        ]
        for name, share in POINTS:
            value, low, high = true_positives_at(clean, deceptive, share)
            measured.append(Measurement(f"detection_rate_at_{name}_percent", value, low, high, "fraction", True))
        return measured


def _rate(name: str, hits: int, total: int, *, higher_is_better: bool) -> Measurement:
    return Measurement(name, hits / total if total else None, *wilson(hits, total), "fraction", higher_is_better)


def area(clean: Tensor, attacked: Tensor) -> float | None:
    """Probability that an attacked score (M,) exceeds a clean one (N,), ties counted half; None if either is empty."""
    if len(clean) == 0 or len(attacked) == 0:
        return None
    return float(_placements(attacked, clean).mean())


def area_interval(clean: Tensor, attacked: Tensor) -> tuple[float | None, float | None]:
    """95 % interval of :func:`area` by DeLong's variance, clipped to [0, 1].

    Where that variance is 0, as for scores that are perfectly separated or all equal, the interval is Wilson's for as
    many pairs as the smaller sample has examples. None for fewer than two examples of either kind.
    """
    if min(len(clean), len(attacked)) < 2:
        return None, None
    above, below = _placements(attacked, clean), 1.0 - _placements(clean, attacked)
    middle = float(above.mean())
    variance = float(above.var()) / len(attacked) + float(below.var()) / len(clean)
    if variance == 0.0:
        least = min(len(clean), len(attacked))
        return wilson(middle * least, least)
    spread = Z95 * math.sqrt(variance)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def _placements(scores: Tensor, others: Tensor) -> Tensor:
    """Share of `others` (N,) below each score, ties counted half, (M,) float64."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, scores.contiguous(), right=False)
    upto = torch.searchsorted(ordered, scores.contiguous(), right=True)
    return (below + upto).double() / (2 * len(others))


def true_positives_at(clean: Tensor, attacked: Tensor, share: float) -> tuple[float | None, float | None, float | None]:
    """Share of attacked scores (M,) above the lowest threshold with a false positive rate of at most `share`.

    Returns:
        The value, and an interval that accounts for the sampling of the threshold and of the attacked scores, at 97.5 %
        each. None if `share` is less than one of the clean scores (N,), or nothing was attacked.
    """
    count, total = len(clean), len(attacked)
    allowed = math.floor(count * share + 1e-9)
    if allowed < 1 or total == 0:
        return None, None, None
    ordered = clean.double().sort().values
    caught = int((attacked.double() > ordered[count - allowed - 1]).sum()) if allowed < count else total
    lower, upper = quantile_interval(ordered, 1.0 - share, HALF)
    low, _ = wilson(0 if upper is None else int((attacked.double() > upper).sum()), total, HALF)
    _, high = wilson(total if lower is None else int((attacked.double() > lower).sum()), total, HALF)
    return caught / total, low, high
