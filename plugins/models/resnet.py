"""Residual network for small images. He, Zhang, Ren & Sun, CVPR 2016, arXiv:1512.03385, table 1.

The stages are those of the ImageNet networks of 18 to 152 layers. As usual on CIFAR, the 7x7 convolution of stride 2
and the pooling at the input are replaced by one 3x3 convolution of stride 1; shortcuts between different shapes are 1x1
convolutions (option B of the paper). In bottleneck blocks the 3x3 convolution has the stride, not the first 1x1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks per stage, by depth; from 50 on they are bottlenecks."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (up to the stride), and its batch normalisation."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Block(nn.Module):
    """relu(residual(x) + shortcut(x)): two 3x3 convolutions, or a bottleneck 1x1, 3x3, 1x1 with 4 times the maps."""

    def __init__(self, inputs: int, maps: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * maps if bottleneck else maps
        layers = (
            [
                *_convolution(inputs, maps, 1),
                nn.ReLU(),
                *_convolution(maps, maps, 3, stride),
                nn.ReLU(),
                *_convolution(maps, outputs, 1),
            ]
            if bottleneck
            else [*_convolution(inputs, maps, 3, stride), nn.ReLU(), *_convolution(maps, outputs, 3)]
        )
        same = stride == 1 and inputs == outputs
        self.residual = nn.Sequential(*layers)
        self.active = nn.ReLU()
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        summed: Tensor = self.residual(x) + self.shortcut(x)
        activated: Tensor = self.active(summed)
        return activated


@dataclass(frozen=True)
class ResNet(Model):
    """ResNet of 18, 34, 50, 101 or 152 layers (`depth`). ResNet-18 has 11 173 962 weights on CIFAR-10."""

    depth: int = 18

    def __post_init__(self) -> None:
        if self.depth not in STAGES:
            raise ConfigError(f"model.depth is {self.depth}; expected one of {', '.join(map(str, STAGES))}")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of any size."""
        channels, _, _ = image_shape(spec, "resnet")
        bottleneck = self.depth >= 50
        blocks: list[nn.Module] = []
        inputs = 64
        for stage, count in enumerate(STAGES[self.depth]):
            maps = 64 * 2**stage
            for i in range(count):
                blocks.append(Block(inputs, maps, 2 if stage and not i else 1, bottleneck))
                inputs = 4 * maps if bottleneck else maps
        return nn.Sequential(
            Normalize(spec),
            *_convolution(channels, 64, 3),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inputs, spec.classes),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return ResNet
