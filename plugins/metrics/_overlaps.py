"""Overlap of boxes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["overlap"]


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (n, 4) and (m, 4), with corners x0, y0, x1, y1, (n, m)."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    common = (high - low).clamp_min(0.0).prod(2)
    area, beside = ((box[:, 2:] - box[:, :2]).prod(1) for box in (one, other))
    return common / (area[:, None] + beside[None, :] - common)
