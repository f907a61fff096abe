"""JPEG compression of the input. Dziugaite, Ghahramani & Roy, 2016, arXiv:1608.00853; Das et al., arXiv:1705.02900."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from benchmark.api import EVERY_TASK, ConfigError, DataSpec, Defense, hookimpl, straight_through

from .._jpeg import codable, compressed
from ._transforms.smooth_jpeg import SmoothJpeg


@dataclass(frozen=True)
class Jpeg(Defense):
    """Compress and decompress each input before classification.

    quality: 1 to 95, as in libjpeg. Images of 1 channel are coded as greyscale, of 3 as YCbCr with 4:2:0 subsampling.
    The surrogate for gradients is the identity (BPDA, Athalye et al., ICML 2018, section 4.1).
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ConfigError(f"jpeg.quality is {self.quality}; expected 1 to 95")

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images of 1 or 3 channels."""
        codable(spec.shape, "defense.jpeg")

    def smoother(self) -> tuple[Defense, ...]:
        """The same coding with differentiable rounding."""
        return (SmoothJpeg(self.quality),)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the compression before the model."""
        return _Compressed(model, self.quality)


class _Compressed(nn.Module):
    def __init__(self, model: nn.Module, quality: int) -> None:
        super().__init__()
        self.model = model
        self.quality = quality

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(straight_through(compressed(x.detach(), self.quality, owner="defense.jpeg"), x))
        return logits


@hookimpl
def benchmark_component() -> type[Jpeg]:
    """Register the plugin."""
    return Jpeg
