"""Noises: they take each feature by itself, so that inputs need not be images."""

from __future__ import annotations

import numpy as np
import torch
from scipy import special
from torch import Tensor

from benchmark.api import SampleRandom

__all__ = ["gaussian_noise", "impulse_noise", "poisson", "shot_noise", "speckle_noise", "uniform_noise"]


def gaussian_noise(x: Tensor, deviation: float, rng: SampleRandom) -> Tensor:
    """Normal noise of that standard deviation added, (B, *S)."""
    return x + deviation * rng.normal(*x.shape[1:], stream="noise").to(x.dtype)


def speckle_noise(x: Tensor, deviation: float, rng: SampleRandom) -> Tensor:
    """Normal noise of that standard deviation times the value added, (B, *S)."""
    return x + deviation * rng.normal(*x.shape[1:], stream="noise").to(x.dtype) * x


def uniform_noise(x: Tensor, size: float, rng: SampleRandom) -> Tensor:
    """Uniform noise of at most `size` added, (B, *S)."""
    return x + size * rng.uniform(*x.shape[1:], stream="noise", low=-1.0).to(x.dtype)


def impulse_noise(x: Tensor, share: float, rng: SampleRandom) -> Tensor:
    """Salt and pepper: that share of the values black or white, (B, *S)."""
    hit, white = (rng.uniform(*x.shape[1:], stream=stream) for stream in ("noise", "noise/white"))
    return torch.where(hit < share, (white < 0.5).to(x.dtype), x)


def shot_noise(x: Tensor, photons: float, rng: SampleRandom) -> Tensor:
    """Poisson numbers of photons, `photons` of them at the value 1, as values again, (B, *S)."""
    return poisson(x * photons, rng, stream="noise") / photons


def poisson(mean: Tensor, rng: SampleRandom, *, stream: str) -> Tensor:
    """(B, *S): Poisson numbers of that mean (B, *S), by inverting their distribution: they grow with the mean."""
    share = rng.uniform(*mean.shape[1:], stream=stream).cpu().double().numpy() + 2.0**-25
    rate = mean.cpu().double().numpy().clip(min=1e-12)
    count = np.ceil(special.pdtrik(share, rate)).clip(min=0.0)
    count = np.where((count > 0) & (special.pdtr(count - 1.0, rate) >= share), count - 1.0, count)
    count = np.where(np.isnan(count) | (special.pdtr(0.0, rate) >= share), 0.0, count)
    return torch.from_numpy(count).to(mean.dtype).to(mean.device)
