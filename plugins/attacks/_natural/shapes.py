"""Pixelation and elastic transforms of images."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from benchmark.api import SampleRandom

from ..._warp import sampled
from .blurs import gaussian_blurred

__all__ = ["elastic", "pixelated"]


def pixelated(x: Tensor, share: float) -> Tensor:
    """Means of boxes, `share` times as many a side as there are pixels, shown as pixels again, (B, C, H, W).

    Each pixel is in one box, the one that its middle is in.
    """
    for axis in (2, 3):
        side = x.shape[axis]
        count = max(1, int(side * share))
        edges = [int(box * side / count + 0.5) for box in range(count + 1)]
        boxes = []
        for low, high in pairwise(edges):
            total = torch.zeros_like(x.select(axis, 0))
            for place in range(low, high):
                total = total + x.select(axis, place)
            boxes.append(total / (high - low))
        nearest = [min(count - 1, int((place + 0.5) * count / side)) for place in range(side)]
        x = torch.stack([boxes[box] for box in nearest], axis)
    return x


def elastic(x: Tensor, amount: float, sigma: float, jitter: float, rng: SampleRandom) -> Tensor:
    """Affine map that moves three points at random, then smooth random shifts of all pixels, (B, C, H, W).

    amount: of the shifts, sigma: how smooth, jitter: of the points; all as a share of the side. Simard, Steinkraus &
    Platt, ICDAR 2003.
    """
    height, width = x.shape[2:]
    side = max(height, width)
    rows = torch.arange(height, device=x.device, dtype=torch.float64)[:, None].expand(height, width)
    columns = torch.arange(width, device=x.device, dtype=torch.float64).expand(height, width)
    # Three corners of a square, each moved: the displacement is linear in the place, so three values settle it.
    third = max(1, min(height, width) // 3)
    moved = (jitter * side) * rng.uniform(3, 2, stream="affine", low=-1.0).double()
    down, right = (rows - height // 2) / (2 * third) + 0.5, (columns - width // 2) / (2 * third) + 0.5
    far, mixed, near = (moved[:, place, :, None, None] for place in range(3))
    affine = far * right + mixed * (down - right) + near * (1.0 - down)
    shift = torch.zeros_like(affine)
    if amount > 0:
        noise = rng.uniform(2, height, width, stream="elastic", low=-1.0).double()
        shift = amount * side * gaussian_blurred(noise, sigma * side, truncate=3.0)
    # Values are fetched backwards: shifts first, then the inverse of the affine map, to first order.
    from_row, from_column = ((rows, columns)[at] + shift[:, at] - affine[:, at] for at in (0, 1))
    return sampled(x, from_row.to(x.dtype), from_column.to(x.dtype))
