"""Small convolutional network after LeCun et al., Proceedings of the IEEE 86(11), 1998.

Two same-size 3x3 convolutions, each with ReLU and 2x2 max pooling, then one hidden layer: fast on a CPU, for images of
8x8 pixels and larger.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape


@dataclass(frozen=True)
class SmallCNN(Model):
    """A small CNN.

    width: maps of the first convolution; the second has twice, the hidden layer four times as many.
    """

    width: int = 16

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"model.width is {self.width}; expected at least 1 map")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 4x4 pixels."""
        channels, height, width = image_shape(spec, "small_cnn", 4)
        return nn.Sequential(
            Normalize(spec),
            nn.Conv2d(channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(self.width, 2 * self.width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * self.width * (height // 4) * (width // 4), 4 * self.width),
            nn.ReLU(),
            nn.Linear(4 * self.width, spec.classes),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return SmallCNN
