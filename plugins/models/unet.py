"""U-Net: a contracting and an expanding path with skips. Ronneberger, Fischer & Brox, MICCAI 2015, arXiv:1505.04597.

Differences from the paper: two levels below the first, same-size convolutions, batch normalisation, nearest-neighbour
upsampling instead of transposed convolutions, and no dropout: fast on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, Refused, Segmentation, hookimpl

from ._normalize import Normalize, image_shape


def _twice(given: int, maps: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in (given, maps):
        layers += [nn.Conv2d(channels, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]
    return nn.Sequential(*layers)


class _UNet(nn.Module):
    def __init__(self, spec: DataSpec, channels: int, width: int) -> None:
        super().__init__()
        self.normalize = Normalize(spec)
        self.first = _twice(channels, width)
        self.second = _twice(width, 2 * width)
        self.bottom = _twice(2 * width, 4 * width)
        self.up_second = _twice(6 * width, 2 * width)
        self.up_first = _twice(3 * width, width)
        self.head = nn.Conv2d(width, spec.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(self.normalize(x))
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.up_second(torch.cat([F.interpolate(bottom, scale_factor=2.0), second], 1))
        first = self.up_first(torch.cat([F.interpolate(second, scale_factor=2.0), first], 1))
        logits: Tensor = self.head(first).flatten(2).transpose(1, 2)
        return logits


@dataclass(frozen=True)
class UNet(Model):
    """U-Net. width: maps of the first level, doubled at each level below."""

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})

    width: int = 8

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"model.width is {self.width}; expected at least 1 map")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, H * W, K); height and width must be multiples of 4."""
        channels, height, width = image_shape(spec, "unet", 4)
        if height % 4 or width % 4:
            raise Refused(
                f"model.unet halves images twice, but the dataset's are {height}x{width}; choose sides that are "
                "multiples of 4"
            )
        return _UNet(spec, channels, self.width)


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return UNet
