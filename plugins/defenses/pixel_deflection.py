"""Pixel deflection. Prakash, Moran, Garber, DiLillo & Storer, CVPR 2018, arXiv:1801.08926, sections 4 and 6.

Wavelet shrinkage by BayesShrink: Chang, Yu & Vetterli, IEEE Transactions on Image Processing 9(9), 2000.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import ConfigError, DataSpec, Defense, SampleRandom, clipped, hookimpl

from ._transforms.behind import Behind, refuse_other_than_images
from ._transforms.wavelets import shrunk


@dataclass(frozen=True)
class PixelDeflection(Defense):
    """Replace random pixels one after another by random pixels nearby; then shrink wavelet coefficients.

    deflections: number of pixels replaced; 0 for none. window: largest distance of the replacing pixel along each side.
    sigma: standard deviation of the noise removed from the wavelet coefficients, in units of the [0, 1] input range; 0
    for none. votes: number of draws in the majority vote.
    Differences from the paper: positions are uniform, instead of less likely where a class activation map is high; the
    wavelets are Haar's, per colour channel.
    """

    randomized = True
    neutral: ClassVar = {"deflections": 0, "sigma": 0.0}

    deflections: int = 100
    window: int = 10
    sigma: float = 0.04
    votes: int = 9

    def __post_init__(self) -> None:
        if self.deflections < 0 or self.window < 1 or self.votes < 1:
            raise ConfigError(
                f"pixel_deflection has deflections {self.deflections}, window {self.window} and votes {self.votes}; "
                "expected at least 0 deflections, a window of at least 1 pixel and at least 1 vote"
            )
        if not self.sigma >= 0.0:
            raise ConfigError(f"pixel_deflection.sigma is {self.sigma}; expected at least 0")

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.pixel_deflection")

    def protect(self, model: nn.Module) -> nn.Module:
        """Put deflections and shrinkage before the model."""
        return Behind(model, partial(_defended, settings=self))

    def smoother(self) -> tuple[Defense, ...]:
        """Shrinkage without deflections."""
        return (replace(self, deflections=0, votes=1),) if self.deflections and self.sigma > 0.0 else ()


def _defended(x: Tensor, settings: PixelDeflection) -> Tensor:
    x = deflected(x, sampling.ambient(), settings.deflections, settings.window)
    return clipped(shrunk(x, settings.sigma)) if settings.sigma > 0.0 else x


def deflected(x: Tensor, rng: SampleRandom, deflections: int, window: int) -> Tensor:
    """Images (B, C, H, W) with `deflections` pixels replaced, in all channels together; positions may repeat."""
    if deflections == 0:
        return x
    height, width = x.shape[2:]
    source = torch.arange(height * width, device=x.device).repeat(len(x), 1)  # where each pixel comes from
    place = rng.uniform(2, deflections, stream="pixel_deflection/place").to(x.device)
    offset = rng.integers(2 * window + 1, 2, deflections, stream="pixel_deflection/offset").to(x.device) - window
    row, column = (place[:, 0] * height).long(), (place[:, 1] * width).long()
    from_row = (row + offset[:, 0]).clamp(0, height - 1)
    from_column = (column + offset[:, 1]).clamp(0, width - 1)
    here, there = row * width + column, from_row * width + from_column
    for step in range(deflections):
        source.scatter_(1, here[:, step : step + 1], source.gather(1, there[:, step : step + 1]))
    return x.flatten(2).gather(2, source[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)


@hookimpl
def benchmark_component() -> type[PixelDeflection]:
    """Register the plugin."""
    return PixelDeflection
