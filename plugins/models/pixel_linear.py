"""Linear classifier per pixel: a 1x1 convolution.

It is the last layer of Long, Shelhamer & Darrell, CVPR 2015, arXiv:1411.4038. The smallest perturbation that breaks an
example has a closed form: :mod:`benchmark.oracles.pixels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from benchmark.api import DataSpec, Model, Segmentation, hookimpl

from ._normalize import Normalize, image_shape


class Sites(nn.Module):
    """Reshape maps (B, K, H, W) to answers per site, (B, H * W, K)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, K, H, W) to (B, H * W, K), in row-major order."""
        return maps.flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class PixelLinear(Model):
    """logits = W (x - mean) / std + b per pixel, with x the channels of that pixel."""

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, H * W, K)."""
        channels, _, _ = image_shape(spec, "pixel_linear")
        return nn.Sequential(Normalize(spec), nn.Conv2d(channels, spec.classes, 1), Sites())


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return PixelLinear
