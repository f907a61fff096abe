"""Wide residual network. Zagoruyko & Komodakis, BMVC 2016, arXiv:1605.07146, section 2 and table 1.

Pre-activation blocks of two 3x3 convolutions, B(3, 3), in three stages of 16, 32 and 64 times `width` maps; initial
weights as in He et al., ICCV 2015. The paper's optional dropout is omitted.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


class Block(nn.Module):
    """Pre-activation block; if the shape changes, the shortcut starts after the first normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(inputs)
        self.residual = nn.Sequential(
            _convolution(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs, 3),
        )
        self.active = nn.ReLU()
        self.shortcut = None if inputs == outputs and stride == 1 else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        active = self.active(self.first(x))
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(active)
        residual: Tensor = self.residual(active)
        return residual + shortcut


@dataclass(frozen=True)
class WideResNet(Model):
    """WRN-depth-width; 28-10 has 36 479 194 weights on CIFAR-10.

    depth: 6 n + 4. width: factor on the maps of every stage.
    """

    depth: int = 28
    width: int = 10

    def __post_init__(self) -> None:
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ConfigError(f"model.depth is {self.depth}; expected 6 n + 4, such as 10, 16, 22, 28, 34 or 70")
        if self.width < 1:
            raise ConfigError(f"model.width is {self.width}; expected a factor of at least 1")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of any size."""
        channels, _, _ = image_shape(spec, "wide_resnet")
        blocks: list[nn.Module] = []
        inputs = 16
        for stage in range(3):
            outputs = 16 * 2**stage * self.width
            for i in range((self.depth - 4) // 6):
                blocks.append(Block(inputs, outputs, 2 if stage and not i else 1))
                inputs = outputs
        return nn.Sequential(
            Normalize(spec),
            _convolution(channels, 16, 3),
            *blocks,
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inputs, spec.classes),
        )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return WideResNet
