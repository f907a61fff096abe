"""Gaussian augmentation of the training set. Zantedeschi et al., AISec 2017, arXiv:1707.06728, section 4.2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Defense, Examples, SampleRandom, hookimpl


@dataclass(frozen=True)
class GaussianAugmentation(Defense):
    """Keep the originals and add copies with Gaussian noise, clipped to the box.

    sigma: standard deviation of the noise, in units of the [0, 1] input range. copies: noisy copies per example.
    """

    sigma: float = 0.3
    copies: int = 1

    def __post_init__(self) -> None:
        if self.sigma <= 0.0 or self.copies < 1:
            raise ConfigError(
                f"gaussian_augmentation has sigma {self.sigma} and copies {self.copies}; expected a positive standard "
                "deviation and at least 1 copy"
            )

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """The originals, then the copies; a copy's id is -(id + 1 + k * 2**40), which no test example has."""
        ids = [train.ids, *(-(train.ids.abs() + 1 + k * 2**40) for k in range(self.copies))]
        soft = None if train.soft is None else train.soft.repeat(1 + self.copies, 1)
        read = _Noisy(train, self.sigma, rng)
        return Examples(torch.cat(ids), train.y.repeat(1 + self.copies), read, soft)


@dataclass(frozen=True)
class _Noisy:
    """Dataset of originals and noisy copies; a copy's noise is the same on every access."""

    train: Examples
    sigma: float
    rng: SampleRandom

    def __call__(self, positions: Tensor) -> Tensor:
        at, copy = positions % len(self.train), positions // len(self.train)
        x = self.train.x(at)
        noise = self.rng.rows(at).normal(*x.shape[1:], stream="gaussian_augmentation", draw=copy)
        noisy = (x + self.sigma * noise).clamp(0.0, 1.0)
        return torch.where((copy > 0).reshape(-1, *([1] * (x.ndim - 1))), noisy, x)


@hookimpl
def benchmark_component() -> type[GaussianAugmentation]:
    """Register the plugin."""
    return GaussianAugmentation
