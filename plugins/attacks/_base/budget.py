"""Query budget of examples."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Target

__all__ = ["can_ask", "rank"]


def can_ask(target: Target) -> Tensor:
    """Rows whose query budget allows another pass, (B,) bool."""
    left = target.remaining()
    if left is None:
        return torch.ones(len(target), dtype=torch.bool, device=target.ledger.forwards.device)
    return left > 0


def rank(index: Tensor) -> Tensor:
    """Number of earlier rows of the same example, (b,) int64; `index` (b,) does not fall."""
    places = torch.arange(len(index), device=index.device)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    return places - torch.where(first, places, 0).cummax(0).values
