"""Convolutional network that is 1-Lipschitz by construction. Prach & Lampert, ECCV 2022, arXiv:2208.03160, section 4.

Two convolutions and two dense layers with singular values of at most 1, absolute values between them, and blocks of
pixels rearranged into channels instead of pooling. Differences from the paper: a smaller network, absolute values
instead of MaxMin, and inputs in [0, 1] without normalisation, which would change the constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._almost_orthogonal import Absolute, AlmostOrthogonalConv2d, AlmostOrthogonalLinear, Halve
from ._normalize import image_shape


@dataclass(frozen=True)
class LipschitzCNN(Model):
    """A 1-Lipschitz CNN.

    width: maps of the first convolution; the second has twice, the hidden layer four times as many.
    """

    width: int = 16

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"model.width is {self.width}; expected at least 1 map")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 4x4 pixels."""
        channels, height, width = image_shape(spec, "lipschitz_cnn", 4)
        return nn.Sequential(
            AlmostOrthogonalConv2d(channels, self.width, 3),
            Absolute(),
            Halve(),
            AlmostOrthogonalConv2d(4 * self.width, 2 * self.width, 3),
            Absolute(),
            Halve(),
            nn.Flatten(),
            AlmostOrthogonalLinear(8 * self.width * (height // 4) * (width // 4), 4 * self.width),
            Absolute(),
            AlmostOrthogonalLinear(4 * self.width, spec.classes),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return LipschitzCNN
