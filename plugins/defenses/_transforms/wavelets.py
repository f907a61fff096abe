"""Haar wavelets of images and shrinkage of their coefficients; per image, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from .windows import mirrored

__all__ = ["haar", "shrunk", "unhaar"]


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform of `x` (B, C, H, W) with even sides.

    Returns:
        Approximation (B, C, H / 2, W / 2), and details (3, B, C, H / 2, W / 2).
    """
    a, b = x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2]
    c, d = x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2]
    return (a + b + c + d) / 2, torch.stack([a - b + c - d, a + b - c - d, a - b - c + d]) / 2


def unhaar(approximation: Tensor, details: Tensor) -> Tensor:
    """Inverse of :func:`haar`, (B, C, H, W)."""
    s, (p, q, r) = approximation, details
    a, b, c, d = (s + p + q + r) / 2, (s - p + q - r) / 2, (s + p - q - r) / 2, (s - p - q + r) / 2
    rows = torch.stack([torch.stack([a, b], -1).flatten(-2), torch.stack([c, d], -1).flatten(-2)], -2)
    return rows.flatten(2, 3)


def shrunk(x: Tensor, sigma: float) -> Tensor:
    """`x` with soft-thresholded Haar coefficients, at all levels down to sides of 2 pixels, (B, C, H, W).

    The threshold of a band is sigma**2 / sqrt(max(v - sigma**2, 0)), with v its mean square in the image and channel.
    If v is at most sigma**2, the band is set to zero. Odd sides are extended by one mirrored pixel.
    """
    height, width = x.shape[2:]
    if min(height, width) < 2:
        return x
    even = mirrored(x, 0, 1)[:, :, : height + height % 2, : width + width % 2]
    approximation, details = haar(even)
    excess = details.square().mean((3, 4), keepdim=True) - sigma**2
    threshold = torch.where(excess > 0, sigma**2 / excess.clamp_min(1e-12).sqrt(), torch.inf)
    kept = torch.where(details.abs() > threshold, details - details.sign() * threshold, 0.0)
    return unhaar(shrunk(approximation, sigma), kept)[:, :, :height, :width]
