"""LISA-CNN, the road sign classifier of Eykholt et al. (RP2), CVPR 2018, arXiv:1707.08945, section 4.1.

"Three convolutional layers and an FC layer", as in CleverHans's tutorial (Papernot et al., 2016, arXiv:1610.00768):
8x8 with stride 2 and padding, 6x6 with stride 2, 5x5.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape


@dataclass(frozen=True)
class SignCNN(Model):
    """LISA-CNN. width: maps of the first convolution, 64 in the paper; the others have twice as many."""

    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"model.width is {self.width}; expected at least 1 map")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 28x28 pixels."""
        channels, *sides = image_shape(spec, "sign_cnn", 28)
        height, width = (((side // 2) - 6) // 2 + 1 - 4 for side in sides)
        return nn.Sequential(
            Normalize(spec),
            nn.Conv2d(channels, self.width, 8, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(self.width, 2 * self.width, 6, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * self.width, 2 * self.width, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * self.width * height * width, spec.classes),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return SignCNN
