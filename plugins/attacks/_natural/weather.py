"""Fog, frost, snow and spatter, drawn from noise: no photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import SampleRandom

from ..._warp import transformed
from .blurs import gaussian_blurred, motion_blurred

__all__ = ["foggy", "frosted", "plasma", "snowed", "spattered"]

WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
LUMINANCE = (0.299, 0.587, 0.114)


def plasma(rng: SampleRandom, height: int, width: int, decay: float, *, stream: str, like: Tensor) -> Tensor:
    """Plasma fractal in [0, 1] by the diamond-square algorithm on a torus, (B, 1, H, W).

    The midpoint displacement is divided by `decay` squared at each halving: a larger `decay` gives a smoother field.
    Fournier, Fussell & Carpenter, Communications of the ACM 25(6), 1982.
    """
    side = 1 << max(1, (max(height, width) - 1).bit_length())
    land = like.new_zeros(len(rng), side, side)
    step, size = side, 1.0
    while step >= 2:
        half = step // 2
        count = side // step
        moved = size * rng.uniform(3, count, count, stream=stream, draw=step, low=-1.0).to(like.dtype)
        corners = land[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middle = (pairs + pairs.roll(-1, 2)) / 4.0 + moved[:, 0]
        land[:, half::step, half::step] = middle
        land[:, ::step, half::step] = (middle + middle.roll(1, 1) + corners + corners.roll(-1, 2)) / 4.0 + moved[:, 1]
        land[:, half::step, ::step] = (middle + middle.roll(1, 2) + corners + corners.roll(-1, 1)) / 4.0 + moved[:, 2]
        step, size = half, size / decay**2
    land = land - land.amin((1, 2), keepdim=True)
    return (land / land.amax((1, 2), keepdim=True).clamp_min(1e-12))[:, None, :height, :width]


def foggy(x: Tensor, amount: float, decay: float, rng: SampleRandom) -> Tensor:
    """Clouds of up to `amount` added, then scaled so that the brightest value could not rise, (B, C, H, W)."""
    brightest = x.amax((1, 2, 3), keepdim=True)
    clouds = plasma(rng, x.shape[2], x.shape[3], decay, stream="fog", like=x)
    return (x + amount * clouds) * brightest / (brightest + amount)


def frosted(x: Tensor, clear: float, ice: float, rng: SampleRandom) -> Tensor:
    """(B, C, H, W): `clear` times the image plus `ice` times crystals: bright ridges of a rough landscape."""
    land = plasma(rng, x.shape[2], x.shape[3], 1.4, stream="frost", like=x)
    crystals = 0.2 + 0.8 * (1.0 - (2.0 * land - 1.0).abs()) ** 2
    return clear * x + ice * crystals


def snowed(
    x: Tensor,
    mean: float,
    deviation: float,
    size: float,
    threshold: float,
    radius: float,
    sigma: float,
    clear: float,
    rng: SampleRandom,
) -> Tensor:
    """Flakes, once as they are and once turned by 180 degrees, in front of a paler image, (B, C, H, W).

    Flakes are normal noise of that mean and deviation, enlarged by `size`, where it exceeds the threshold, drawn out
    by a motion of `radius` and `sigma` pixels. clear: the share of the image that is not paler.
    """
    noise = mean + deviation * rng.normal(1, *x.shape[2:], stream="snow").to(x.dtype)
    still = x.new_zeros(len(x))
    noise = transformed(noise, still, still + size, torch.stack([still, still], 1))
    flakes = torch.where(noise < threshold, 0.0, noise).clamp(0.0, 1.0)
    falling = -90.0 + 45.0 * rng.uniform(1, stream="snow/angle", low=-1.0).squeeze(1)
    flakes = motion_blurred(flakes, radius, sigma, falling)
    paler = torch.maximum(x, 1.5 * _grey(x) + 0.5)
    return clear * x + (1.0 - clear) * paler + flakes + flakes.flip(2, 3)


def spattered(
    x: Tensor,
    mean: float,
    deviation: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: bool,
    rng: SampleRandom,
) -> Tensor:
    """Drops on the lens, where blurred normal noise exceeds the threshold, (B, C, H, W).

    Water adds up to `strength` of its colour, most in the middle of its drops; mud covers, with a rim blurred by
    `strength` pixels of which nothing under a half is left.
    """
    noise = mean + deviation * rng.normal(1, *x.shape[2:], stream="spatter").to(x.dtype)
    wet = gaussian_blurred(noise, sigma)
    if not mud:
        depth = (wet - threshold).clamp_min(0.0)
        cover = strength * depth / depth.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return x + cover * _paint(WATER, x)
    cover = gaussian_blurred((wet > threshold).to(x.dtype), strength)
    cover = torch.where(cover < 0.5, 0.0, cover)
    return (1.0 - cover) * x + cover * _paint(MUD, x)


def _grey(x: Tensor) -> Tensor:
    """The luminance of colours, the mean of any other number of channels, (B, 1, H, W)."""
    if x.shape[1] != 3:
        return x.double().mean(1, keepdim=True).to(x.dtype)
    return sum(share * x[:, place : place + 1] for place, share in enumerate(LUMINANCE)) + torch.zeros_like(x[:, :1])


def _paint(colour: tuple[float, float, float], like: Tensor) -> Tensor:
    """Colour, or its luminance where there are not three channels, (1, C, 1, 1)."""
    if like.shape[1] == 3:
        return like.new_tensor(colour).reshape(1, 3, 1, 1)
    return like.new_full((1, 1, 1, 1), sum(share * part for share, part in zip(LUMINANCE, colour, strict=True)))
