"""Losses that descents take: towards a label by gradient descent."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base.losses import ce
from .._base.vectors import TINY

if TYPE_CHECKING:
    from .._base.active import Active

__all__ = ["DescentLoss", "squared", "top_probability"]


SHARPNESS = 30.0
"""The spread of the scores, from the least to the largest, to which `scaled` brings them."""


class DescentLoss(Enum):
    """squared: distance of the probabilities, see :func:`squared`. ce: log-odds of the other classes.

    scaled: the same of scores of a given spread, so that the nearest of the other classes leads at every scale.
    """

    squared = "squared"
    ce = "ce"
    scaled = "scaled"

    def __call__(self, logits: Tensor, rows: Active) -> Tensor:
        """Loss to descend, (b,): towards `rows.y` if `rows.targeted`, else away from it."""
        if self is DescentLoss.scaled:
            spread = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
            logits = logits * (SHARPNESS / spread.clamp_min(TINY))
        value = squared(logits, rows.y) if self is DescentLoss.squared else ce(logits, rows.y)
        return value if rows.targeted else -value


def squared(logits: Tensor, y: Tensor) -> Tensor:
    """Half the squared distance of the probabilities from certainty of `y` (B,), (B,)."""
    wanted = torch.zeros_like(logits).scatter_(1, y[:, None], 1.0)
    return (wanted - logits.softmax(1)).square().sum(1) / 2.0


def top_probability(logits: Tensor) -> Tensor:
    """Probability of the predicted label, (B,)."""
    return logits.softmax(1).amax(1)
