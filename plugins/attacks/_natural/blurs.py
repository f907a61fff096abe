"""Blurs of images by explicit sums over shifted copies; beyond its edge the edge goes on.

No convolution of a library, since those round by an image's place in the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.api import SampleRandom

from ..._warp import transformed

__all__ = ["defocused", "gaussian_blurred", "motion_blurred", "moved", "through_glass", "zoom_blurred"]

Kernel = dict[tuple[int, int], float]
"""Weights by (rows down, columns right) from the pixel."""


def gaussian_blurred(x: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Convolution with a Gaussian of `sigma` pixels, cut at `truncate` of them, (B, C, H, W); the image itself at 0."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return x
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    total = sum(weights)
    line = {step: weight / total for step, weight in zip(range(-radius, radius + 1), weights, strict=True)}
    down = _weighted(x, {(step, 0): weight for step, weight in line.items()})
    return _weighted(down, {(0, step): weight for step, weight in line.items()})


def defocused(x: Tensor, radius: float, soft: float) -> Tensor:
    """Convolution with a disc of `radius` pixels, its rim softened by a Gaussian of `soft` pixels, (B, C, H, W)."""
    reach = math.floor(radius)
    disc = {
        (row, column): 1.0
        for row in range(-reach, reach + 1)
        for column in range(-reach, reach + 1)
        if row**2 + column**2 <= radius**2
    }
    near = range(-2, 3) if radius > 8 else range(-1, 2)
    rim = {(r, c): math.exp(-0.5 * (r * r + c * c) / soft**2) for r in near for c in near}
    kernel: Kernel = {}
    for (row, column), weight in disc.items():
        for (r, c), share in rim.items():
            kernel[row + r, column + c] = kernel.get((row + r, column + c), 0.0) + weight * share
    total = sum(kernel.values())
    return _weighted(x, {place: weight / total for place, weight in kernel.items()})


def motion_blurred(x: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """The mean along a line at `degrees` (B,), half a Gaussian of `sigma` pixels, 2 `radius` long, (B, C, H, W)."""
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(int(2 * radius) + 1)]
    weights = [weight for weight in weights if weight >= 1e-4]
    angle = degrees.double() * (math.pi / 180.0)
    along = torch.stack([angle.sin(), angle.cos()], 1).to(x.dtype)
    still, full = torch.zeros_like(degrees, dtype=x.dtype), torch.ones_like(degrees, dtype=x.dtype)
    result = torch.zeros_like(x)
    for step, weight in enumerate(weights):
        result = result + weight / sum(weights) * transformed(x, still, full, step * along)
    return result


def moved(x: Tensor, radius: float, sigma: float, rng: SampleRandom) -> Tensor:
    """:func:`motion_blurred` at random within 45 degrees of the horizontal, (B, C, H, W)."""
    return motion_blurred(x, radius, sigma, 45.0 * rng.uniform(1, stream="angle", low=-1.0).squeeze(1))


def zoom_blurred(x: Tensor, largest: float, step: float) -> Tensor:
    """Mean of the image and of its enlargements by 1, 1 + `step`, ... `largest`, (B, C, H, W)."""
    still = x.new_zeros(len(x))
    total, count = x, 1
    for at in range(round((largest - 1.0) / step) + 1):
        total = total + transformed(x, still, still + (1.0 + at * step), torch.stack([still, still], 1))
        count += 1
    return total / count


def through_glass(x: Tensor, sigma: float, reach: int, rounds: int, rng: SampleRandom) -> Tensor:
    """(B, C, H, W): blurred, each pixel exchanged for one up to `reach` up and left of it, `rounds` times, blurred."""
    height, width = x.shape[2:]
    seen = gaussian_blurred(x, sigma)
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    for draw in range(rounds):
        moved = rng.integers(2 * reach, 2, height, width, stream="glass", draw=draw) - reach
        from_row, from_column = (rows + moved[:, 0]).clamp(0, height - 1), (columns + moved[:, 1]).clamp(0, width - 1)
        place = (from_row * width + from_column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        seen = seen.flatten(2).gather(2, place).reshape(x.shape)
    return gaussian_blurred(seen, sigma)


def _weighted(x: Tensor, kernel: Kernel) -> Tensor:
    """The weighted sum of copies of `x`, shifted by the places of the kernel, (B, C, H, W)."""
    up = max(abs(row) for row, _ in kernel)
    left = max(abs(column) for _, column in kernel)
    height, width = x.shape[2:]
    padded = functional.pad(x, (left, left, up, up), mode="replicate")
    result = torch.zeros_like(x)
    for (row, column), weight in kernel.items():
        top, start = up + row, left + column
        result = result + weight * padded[:, :, top : top + height, start : start + width]
    return result
