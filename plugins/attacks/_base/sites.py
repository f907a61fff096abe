"""Losses of examples with several sites (pixels, cells): means over the sites that count."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import DenseTask

__all__ = ["cross_entropy", "over_sites", "site_values"]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of `y` (n,), (n,). Not the log-odds, which would weigh the sites of one example otherwise."""
    return F.cross_entropy(logits, y, reduction="none")


def site_values(
    loss: Callable[[Tensor, Tensor], Tensor], output: Tensor, y: Tensor, task: DenseTask
) -> tuple[Tensor, Tensor]:
    """Loss to ascend at each site, (b, S), 0 where it does not count; and (b, S) bool, the sites that count.

    Args:
        loss: from scores (n, K) and labels (n,) to (n,). output: (b, S, ...). y: labels as the task has them.
    """
    labels, reach = task.aim(y)
    scores = task.scores(output)
    value = loss(scores.flatten(0, 1), labels.clamp_min(0).flatten()).reshape(labels.shape)
    counted = labels >= 0
    return torch.where(counted, -value if reach else value, 0.0), counted


def over_sites(loss: Callable[[Tensor, Tensor], Tensor], output: Tensor, y: Tensor, task: DenseTask) -> Tensor:
    """Mean of :func:`site_values` over the sites that count, (b,)."""
    value, counted = site_values(loss, output, y, task)
    return value.sum(1) / counted.sum(1).clamp_min(1)
