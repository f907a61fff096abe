"""Losses that descents take: towards a label by gradient descent."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base.losses import ce

if TYPE_CHECKING:
    from .._base.active import Active

__all__ = ["DescentLoss", "squared", "top_probability"]


class DescentLoss(Enum):
    """squared: distance of the probabilities, see :func:`squared`. ce: log-odds of the other classes."""

    squared = "squared"
    ce = "ce"

    def __call__(self, logits: Tensor, rows: Active) -> Tensor:
        """Loss to descend, (b,): towards `rows.y` if `rows.targeted`, else away from it."""
        value = squared(logits, rows.y) if self is DescentLoss.squared else ce(logits, rows.y)
        return value if rows.targeted else -value


def squared(logits: Tensor, y: Tensor) -> Tensor:
    """Half the squared distance of the probabilities from certainty of `y` (B,), (B,)."""
    wanted = torch.zeros_like(logits).scatter_(1, y[:, None], 1.0)
    return (wanted - logits.softmax(1)).square().sum(1) / 2.0


def top_probability(logits: Tensor) -> Tensor:
    """Probability of the predicted label, (B,)."""
    return logits.softmax(1).amax(1)
