"""Boxes, given by their corners x0, y0, x1, y1 in pixels: overlap and non-maximum suppression.

No transcendental functions, whose last bit may depend on the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["contained", "overlaps", "suppressed"]


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of each box of `one` (B, n, 4) with each of `other` (B, m, 4), (B, n, m) in [0, 1]."""
    common = _intersections(one, other)
    return common / (_areas(one)[:, :, None] + _areas(other)[:, None, :] - common).clamp_min(1e-9)


def contained(one: Tensor, other: Tensor) -> Tensor:
    """Fraction of the area of each box of `other` (B, m, 4) that lies in each of `one` (B, n, 4), (B, n, m)."""
    return _intersections(one, other) / _areas(other)[:, None, :].clamp_min(1e-9)


def _intersections(one: Tensor, other: Tensor) -> Tensor:
    import torch

    left = torch.maximum(one[:, :, None, :2], other[:, None, :, :2])
    right = torch.minimum(one[:, :, None, 2:], other[:, None, :, 2:])
    return (right - left).clamp_min(0.0).prod(3)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, :, 2:] - boxes[:, :, :2]).clamp_min(0.0).prod(2)


def suppressed(boxes: Tensor, scores: Tensor, most: float) -> Tensor:
    """Greedy non-maximum suppression: boxes that overlap a higher-scored one by more than `most`, (B, n) bool.

    In the order of the scores (B, n); a score of 0 or less is not a detection.
    """
    import torch

    order = scores.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1, stable=True)
    near = overlaps(boxes, boxes) > most
    dropped = torch.zeros_like(scores, dtype=torch.bool)
    for place in range(int((scores > 0).sum(1).max()) if len(scores) else 0):
        at = order[:, place : place + 1]
        standing = ~dropped.gather(1, at) & (scores.gather(1, at) > 0)
        beside = near.gather(1, at[:, :, None].expand(-1, -1, near.shape[2])).squeeze(1)
        dropped = dropped | (standing & beside & (rank > place))
    return dropped
