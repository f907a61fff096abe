"""One-stage detector: a class and a box per cell of a grid, in one pass. After Redmon et al., CVPR 2016 (YOLO).

Differences from the paper: one box per cell, a background class in the softmax instead of an objectness score, and
absolute errors of box corners in the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from benchmark.api import ConfigError, DataSpec, Detection, Model, Refused, hookimpl

from ._normalize import Normalize, image_shape
from .pixel_linear import Sites


@dataclass(frozen=True)
class GridDetector(Model):
    """A grid detector. width: maps of the first convolution, doubled after each halving of the resolution."""

    tasks: ClassVar[frozenset[str]] = frozenset({Detection.name})

    width: int = 16

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"model.width is {self.width}; expected at least 1 map")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, S, K + 4); the resolution is halved twice, so cells have 4 pixels a side."""
        channels, _, _ = image_shape(spec, "grid_detector", 8)
        task = spec.task
        if not isinstance(task, Detection) or task.stride != 4:
            raise Refused("model.grid_detector has cells of 4 pixels; choose a detection dataset with such cells")
        width = self.width

        def block(given: int, maps: int) -> list[nn.Module]:
            return [nn.Conv2d(given, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]

        return nn.Sequential(
            Normalize(spec),
            *block(channels, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            nn.MaxPool2d(2),
            *block(2 * width, 4 * width),
            *block(4 * width, 4 * width),
            nn.Conv2d(4 * width, task.columns(spec.classes), 1),
            Sites(),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return GridDetector
