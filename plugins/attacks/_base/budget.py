"""Query budget of examples."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Target

__all__ = ["can_ask"]


def can_ask(target: Target) -> Tensor:
    """Rows whose query budget allows another pass, (B,) bool."""
    left = target.remaining()
    if left is None:
        return torch.ones(len(target), dtype=torch.bool, device=target.ledger.forwards.device)
    return left > 0
