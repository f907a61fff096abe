"""Windows around the pixels of an image, mirrored at its edges; indexing and sums alone, so each row by itself."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["box_mean", "mirrored", "windows"]


def mirrored(x: Tensor, before: int, after: int) -> Tensor:
    """Image with its mirror images around it, (c b a | a b c), (B, C, before + H + after, before + W + after)."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = torch.arange(-before, size + after, device=x.device) % (2 * size)
        x = x.index_select(axis, torch.where(at < size, at, 2 * size - 1 - at))
    return x


def windows(x: Tensor, size: int) -> Tensor:
    """Pixels of the window around each pixel, (B, C, H, W, size * size); an even window reaches further up and left."""
    padded = mirrored(x, size // 2, size - 1 - size // 2)
    return padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)


def box_mean(x: Tensor, size: int) -> Tensor:
    """(B, 1, H - size + 1, W - size + 1): mean over channels and over each window that lies inside `x` (B, C, H, W)."""
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    rows = x.mean(1, keepdim=True)
    rows = torch.stack([rows[:, :, at : at + height] for at in range(size)]).sum(0)
    return torch.stack([rows[:, :, :, at : at + width] for at in range(size)]).sum(0) / size**2
