"""GoogLeNet. Szegedy et al., CVPR 2015, arXiv:1409.4842, table 1.

Nine inception modules, with batch normalisation after every convolution (Ioffe & Szegedy, ICML 2015, arXiv:1502.03167,
section 4.2) in place of local response normalisation and of the auxiliary classifiers, which only helped training. On
images of fewer than 64 pixels a side a 3x3 convolution of stride 1 replaces the 7x7 convolution of stride 2, so that
28x28 pixels reach the inception modules as 7x7 instead of 4x4. Poolings are padded by one pixel: that gives the sizes
of the table, and an answer to images of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape

SMALL = 64
"""Images with a shorter side than this get the adapted first convolution."""

Widths = tuple[int, int, int, int, int, int]
STAGES: tuple[tuple[Widths, ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Maps of the modules 3a to 5b: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, projection after pooling."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (up to the stride), its batch normalisation and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _pool(stride: int = 2) -> nn.Module:
    return nn.MaxPool2d(3, stride, padding=1)


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and 5x5; pooling and 1x1."""

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, projected = widths
        self.outputs = one + three + five + projected
        self.branches = nn.ModuleList([
            nn.Sequential(*_convolution(inputs, one, 1)),
            nn.Sequential(*_convolution(inputs, reduce3, 1), *_convolution(reduce3, three, 3)),
            nn.Sequential(*_convolution(inputs, reduce5, 1), *_convolution(reduce5, five, 5)),
            nn.Sequential(_pool(stride=1), *_convolution(inputs, projected, 1)),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


@dataclass(frozen=True)
class GoogLeNet(Model):
    """GoogLeNet with batch normalisation: 7 005 832 weights for the 1000 classes of ImageNet, 5 982 250 on MNIST.

    dropout: share of the 1024 pooled features that are dropped while training.
    """

    dropout: float = 0.4

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"model.dropout is {self.dropout}; expected a share of at least 0 and below 1")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of any size."""
        channels, *sides = image_shape(spec, "googlenet")
        small = min(sides) < SMALL
        layers = _convolution(channels, 64, 3) if small else _convolution(channels, 64, 7, 2)
        layers += [_pool(), *_convolution(64, 64, 1), *_convolution(64, 192, 3), _pool()]
        inputs = 192
        for place, modules in enumerate(STAGES):
            layers += [_pool()] if place else []
            for widths in modules:
                module = Inception(inputs, widths)
                layers.append(module)
                inputs = module.outputs
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout)]
        return nn.Sequential(Normalize(spec), *layers, *pooled, nn.Linear(inputs, spec.classes))


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return GoogLeNet
