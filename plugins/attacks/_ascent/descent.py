"""What plain gradient descent in input space falls along: losses of one label, each row by itself."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from benchmark.api import RowLoss

from .._base.losses import ce

__all__ = ["DescentLoss", "falling", "squared", "top_probability"]


class DescentLoss(Enum):
    """squared: of the probabilities, see :func:`squared`. ce: the log-odds of the other classes (`_losses.ce`)."""

    squared = "squared"
    ce = "ce"


def squared(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): half the squared distance of the probabilities from certainty of `y` (B,)."""
    wanted = torch.zeros_like(logits).scatter_(1, y[:, None], 1.0)
    return (wanted - logits.softmax(1)).square().sum(1) / 2.0


def falling(kind: DescentLoss, y: Tensor, *, targeted: bool) -> RowLoss:
    """The loss to descend: towards the labels `y` (B,) if `targeted`, else away from them."""
    chosen = squared if kind is DescentLoss.squared else ce
    return (lambda logits: chosen(logits, y)) if targeted else (lambda logits: -chosen(logits, y))


def top_probability(logits: Tensor) -> Tensor:
    """(B,): the probability of the predicted label."""
    return logits.softmax(1).amax(1)
