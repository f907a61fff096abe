"""JPEG with differentiable rounding. Shin & Song, "JPEG-resistant adversarial images", NeurIPS 2017 workshops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.api import Defense, clipped

from .behind import Behind

__all__ = ["SmoothJpeg", "coded", "cubic"]

SIDE = 8
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Luminance quantisation at quality 50: ITU-T T.81, table K.1."""
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
"""Chrominance quantisation at quality 50: table K.2."""
COLOURS = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""RGB to luminance and chrominance, YCbCr (JFIF)."""


@dataclass(frozen=True)
class SmoothJpeg(Defense):
    """The coding of `defense.jpeg` with differentiable rounding: an attacker's surrogate, not a defense."""

    quality: int

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the smooth coding before the model."""
        return Behind(model, partial(coded, quality=self.quality, rounded=cubic))


def cubic(values: Tensor) -> Tensor:
    """Rounded value plus the cube of the rounding error: within 1/8 of the rounded value, and differentiable."""
    whole = values.detach().round()
    return whole + (values - whole) ** 3


def coded(x: Tensor, quality: int, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """Images (B, C, H, W) in [0, 1] after JPEG coding, C 1 or 3, with chrominance at half resolution.

    Args:
        quality: 1 to 100, as in libjpeg.
        rounded: applied to the quantised coefficients.
    """
    pixels = 255.0 * x
    if x.shape[1] == 1:
        return clipped(_plane(pixels, _table(LUMA, quality, x), rounded) / 255.0)
    mix = torch.tensor(COLOURS, dtype=x.dtype, device=x.device)
    bright, *colours = torch.einsum("kc,bchw->bkhw", mix, pixels).split(1, 1)
    planes = [_plane(bright, _table(LUMA, quality, x), rounded)]
    for colour in colours:
        half = nn.functional.avg_pool2d(_padded(colour, 2), 2)
        half = _plane(half + 128.0, _table(CHROMA, quality, x), rounded) - 128.0
        full = half.repeat_interleave(2, 2).repeat_interleave(2, 3)
        planes.append(full[:, :, : x.shape[2], : x.shape[3]])
    back = torch.einsum("kc,bchw->bkhw", torch.linalg.inv(mix), torch.cat(planes, 1))
    return clipped(back / 255.0)


def _padded(plane: Tensor, side: int) -> Tensor:
    """The plane (B, 1, H, W) padded to multiples of `side` by repeating its last row and column."""
    return nn.functional.pad(plane, (0, -plane.shape[3] % side, 0, -plane.shape[2] % side), mode="replicate")


def _plane(plane: Tensor, table: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """Cosine transform of 8x8 blocks, quantisation by the table (8, 8), and inverse; (B, 1, H, W) in 0 to 255."""
    height, width = plane.shape[2:]
    at = torch.arange(SIDE, dtype=plane.dtype, device=plane.device)
    cosines = torch.cos((2.0 * at + 1.0) * at[:, None] * math.pi / (2.0 * SIDE)) * 0.5
    cosines[0] /= 2.0**0.5
    blocks = _padded(plane - 128.0, SIDE).unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)
    kept = table * rounded(cosines @ blocks @ cosines.T / table)
    whole = (cosines.T @ kept @ cosines).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return clipped((whole + 128.0)[:, :, :height, :width], 0.0, 255.0)


def _table(base: tuple[tuple[int, ...], ...], quality: int, like: Tensor) -> Tensor:
    """Quantisation steps at a quality, scaled as in libjpeg, (8, 8)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = torch.tensor(base, dtype=torch.int64).mul(scale).add(50).div(100, rounding_mode="floor").clamp(1, 255)
    return steps.to(like)
