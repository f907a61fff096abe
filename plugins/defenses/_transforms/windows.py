"""Windows around the pixels of an image, mirrored at its edges; by indexing and sums only, so rows are independent."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["box_mean", "mirrored", "windows"]


def mirrored(x: Tensor, before: int, after: int) -> Tensor:
    """The image extended by mirroring, (c b a | a b c), of shape (B, C, before + H + after, before + W + after)."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = torch.arange(-before, size + after, device=x.device) % (2 * size)
        x = x.index_select(axis, torch.where(at < size, at, 2 * size - 1 - at))
    return x


def windows(x: Tensor, size: int) -> Tensor:
    """Pixels in the window around each pixel, (B, C, H, W, size * size); even windows extend further up and left."""
    padded = mirrored(x, size // 2, size - 1 - size // 2)
    return padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)


def box_mean(x: Tensor, size: int) -> Tensor:
    """Mean over channels and each window inside `x` (B, C, H, W), of shape (B, 1, H - size + 1, W - size + 1)."""
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    rows = x.mean(1, keepdim=True)
    rows = torch.stack([rows[:, :, at : at + height] for at in range(size)]).sum(0)
    return torch.stack([rows[:, :, :, at : at + width] for at in range(size)]).sum(0) / size**2
