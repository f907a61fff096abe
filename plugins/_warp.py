"""Geometric image transformations: interpolation, rotation, scaling and shifts; per image, differentiable.

By indexing and elementwise sums, since library kernels round differently by an image's position in the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sampled", "transformed"]


def transformed(x: Tensor, degrees: Tensor, scale: Tensor, shift: Tensor, *, black: bool = False) -> Tensor:
    """Images rotated and scaled around their centre, then shifted, (B, C, H, W).

    Args:
        x: (B, C, H, W). degrees: (B,), counter-clockwise. scale: (B,). shift: (B, 2) in pixels, down and right.
        black: see :func:`sampled`.
    """
    height, width = x.shape[2:]
    angle = degrees.double() * (math.pi / 180.0)
    cos, sin = (v.to(x.dtype).reshape(-1, 1, 1) for v in (angle.cos(), angle.sin()))
    size = scale.reshape(-1, 1, 1)
    centre = ((height - 1) / 2.0, (width - 1) / 2.0)
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] - centre[0] - shift[:, 0].reshape(-1, 1, 1)
    columns = torch.arange(width, dtype=x.dtype, device=x.device) - centre[1] - shift[:, 1].reshape(-1, 1, 1)
    from_row = (cos * rows + sin * columns) / size + centre[0]
    from_column = (cos * columns - sin * rows) / size + centre[1]
    return sampled(x, from_row, from_column, black=black)


def sampled(x: Tensor, rows: Tensor, columns: Tensor, *, black: bool = False) -> Tensor:
    """Values of `x` (B, C, h, w) at `rows` and `columns` (B, H, W), in pixels from the first pixel, (B, C, H, W).

    Bilinear between pixels. Beyond the edge the edge is repeated, or all is black (0).
    """
    height, width = x.shape[2:]
    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left
    flat, shape = x.flatten(2), (*x.shape[:2], *rows.shape[1:])
    result = x.new_zeros(shape)
    for row, share_row in ((top, 1.0 - down), (top + 1.0, down)):
        for column, share_column in ((left, 1.0 - right), (left + 1.0, right)):
            place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            picked = flat.gather(2, place.flatten(1)[:, None].expand(-1, x.shape[1], -1)).reshape(shape)
            share = share_row * share_column
            if black:
                share = share * ((row >= 0) & (row < height) & (column >= 0) & (column < width))
            result = result + picked * share[:, None]
    return result
