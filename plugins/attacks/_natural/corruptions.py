"""Families of common corruptions. Hendrycks & Dietterich, ICLR 2019, arXiv:1903.12261, appendix B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy import special
from torch import Tensor

from benchmark.api import SampleRandom

from ..._jpeg import codable, compressed
from ..._warp import sampled
from .._base.settings import check_images
from .blurs import defocused, gaussian_blurred, motion_blurred, through_glass, zoom_blurred
from .colours import brightened, contrasted, from_hsv, to_hsv
from .severities import LARGE, SMALL, SMALL_SIDE, Corruption
from .variations import check_colour
from .weather import foggy, frosted, snowed, spattered

__all__ = ["corrupted", "poisson"]

OWNER = "attack.corruption"
ANY_SHAPE = (
    Corruption.gaussian_noise,
    Corruption.shot_noise,
    Corruption.impulse_noise,
    Corruption.speckle_noise,
    Corruption.uniform_noise,
)
"""The families that take each feature by itself, so that inputs need not be images."""


def check_shape(shape: tuple[int, ...], kind: Corruption) -> None:
    """Refuse inputs of a `shape` that the family cannot corrupt.

    Raises:
        Refused: if they are no images and the family needs them, or grey and the family needs colours.
    """
    if kind not in ANY_SHAPE:
        check = check_colour if kind is Corruption.saturate else check_images
        check(shape, f"corruption with kind={kind.value}")
    if kind is Corruption.jpeg_compression:
        codable(shape, f"{OWNER} with kind={kind.value}")


def corrupted(
    x: Tensor, kind: Corruption, rng: SampleRandom, *, severity: int = 1, amount: float | None = None, draw: int = 0
) -> Tensor:
    """(B, *S): `x` (B, *S) in [0, 1], corrupted, in [0, 1].

    Args:
        severity: 1 to 5. amount: the setting of the family, in place of a severity. draw: which of the random draws;
            two severities share theirs.
    """
    rng = rng.child("corruption", kind.value, draw)
    side = max(x.shape[2:]) if x.ndim == 4 else 1
    large = side > SMALL_SIDE
    settings = (LARGE if large else SMALL)[kind][severity - 1] if amount is None else (amount,)
    if kind in ANY_SHAPE:
        return _noisy(x, kind, settings[0], rng).clamp(0.0, 1.0)
    return IMAGED[kind](x, settings, side / 224 if large else max(1.0, side / 32), rng).clamp(0.0, 1.0)


def _noisy(x: Tensor, kind: Corruption, size: float, rng: SampleRandom) -> Tensor:
    shape = x.shape[1:]
    if kind is Corruption.shot_noise:
        return poisson(x * size, rng, stream="noise") / size
    if kind is Corruption.impulse_noise:
        hit, white = (rng.uniform(*shape, stream=stream) for stream in ("noise", "noise/white"))
        return torch.where(hit < size, (white < 0.5).to(x.dtype), x)
    if kind is Corruption.uniform_noise:
        return x + size * rng.uniform(*shape, stream="noise", low=-1.0).to(x.dtype)
    noise = rng.normal(*shape, stream="noise").to(x.dtype)
    return x + size * noise * (x if kind is Corruption.speckle_noise else 1.0)


def poisson(mean: Tensor, rng: SampleRandom, *, stream: str) -> Tensor:
    """(B, *S): Poisson numbers of that mean (B, *S), by inverting their distribution: they grow with the mean."""
    share = rng.uniform(*mean.shape[1:], stream=stream).cpu().double().numpy() + 2.0**-25
    rate = mean.cpu().double().numpy().clip(min=1e-12)
    count = np.ceil(special.pdtrik(share, rate)).clip(min=0.0)
    count = np.where((count > 0) & (special.pdtr(count - 1.0, rate) >= share), count - 1.0, count)
    count = np.where(np.isnan(count) | (special.pdtr(0.0, rate) >= share), 0.0, count)
    return torch.from_numpy(count).to(mean.dtype).to(mean.device)


def _motion(x: Tensor, radius: float, sigma: float, rng: SampleRandom) -> Tensor:
    return motion_blurred(x, radius, sigma, 45.0 * rng.uniform(1, stream="angle", low=-1.0).squeeze(1))


def _saturated(x: Tensor, factor: float, shift: float) -> Tensor:
    hue, saturation, value = to_hsv(x)
    return from_hsv(hue, (saturation * factor + shift).clamp(0.0, 1.0), value)


def _filled(x: Tensor, value: float) -> Tensor:
    return x.new_full((len(x),), value)


IMAGED: dict[Corruption, Callable[[Tensor, Sequence[float], float, SampleRandom], Tensor]] = {
    Corruption.defocus_blur: lambda x, s, px, rng: defocused(x, s[0] * px, s[1] * px),
    Corruption.glass_blur: lambda x, s, px, rng: through_glass(x, s[0] * px, max(1, round(s[1] * px)), int(s[2]), rng),
    Corruption.motion_blur: lambda x, s, px, rng: _motion(x, s[0] * px, s[1] * px, rng),
    Corruption.zoom_blur: lambda x, s, px, rng: zoom_blurred(x, s[0], s[1]),
    Corruption.gaussian_blur: lambda x, s, px, rng: gaussian_blurred(x, s[0] * px),
    Corruption.snow: lambda x, s, px, rng: snowed(x, s[0], s[1], s[2] * px, s[3], s[4] * px, s[5] * px, s[6], rng),
    Corruption.frost: lambda x, s, px, rng: frosted(x, s[0], s[1], rng),
    Corruption.fog: lambda x, s, px, rng: foggy(x, s[0], s[1], rng),
    Corruption.spatter: lambda x, s, px, rng: spattered(
        x, s[0], s[1], s[2] * px, s[3], s[4] * (px if s[5] else 1.0), bool(s[5]), rng
    ),
    Corruption.brightness: lambda x, s, px, rng: brightened(x, _filled(x, s[0])),
    Corruption.contrast: lambda x, s, px, rng: contrasted(x, _filled(x, s[0])),
    Corruption.saturate: lambda x, s, px, rng: _saturated(x, s[0], s[1]),
    Corruption.jpeg_compression: lambda x, s, px, rng: compressed(x, int(s[0]), owner=OWNER),
    Corruption.pixelate: lambda x, s, px, rng: _pixelated(x, s[0]),
    Corruption.elastic_transform: lambda x, s, px, rng: _elastic(x, s[0], s[1], s[2], rng),
}
"""From (B, C, H, W), settings, how many pixels a length of 1 is, and randomness, to (B, C, H, W) before clipping."""


def _pixelated(x: Tensor, share: float) -> Tensor:
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


def _elastic(x: Tensor, amount: float, sigma: float, jitter: float, rng: SampleRandom) -> Tensor:
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
