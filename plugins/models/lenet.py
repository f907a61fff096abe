"""LeNet-5. LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86(11), 1998, section II.B.

Two 5x5 convolutions of 6 and 16 maps with 2x2 pooling, then layers of 120 and 84 units. Differences from the paper, all
common today: ReLU instead of tanh, max pooling instead of trainable subsampling, a fully connected second convolution,
and a linear output layer instead of radial basis functions. As in the paper the input is 32x32: smaller images are
padded by 2 pixels in the first convolution (which brings MNIST to 32x32), and maps smaller than the second 5x5 kernel
are padded by 2 there too, so that 8x8 digits fit. Any number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from benchmark.api import DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape


@dataclass(frozen=True)
class LeNet(Model):
    """LeNet-5, with 61 706 weights on MNIST."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 4x4 pixels."""
        channels, *sides = image_shape(spec, "lenet", 4)
        first = 2 if min(sides) < 32 else 0
        halved = [(side + 2 * first - 4) // 2 for side in sides]
        second = 2 if min(halved) < 5 else 0
        height, width = [(side + 2 * second - 4) // 2 for side in halved]
        return nn.Sequential(
            Normalize(spec),
            nn.Conv2d(channels, 6, 5, padding=first),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=second),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, spec.classes),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return LeNet
