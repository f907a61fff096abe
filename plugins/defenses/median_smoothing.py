"""Median smoothing. Xu, Evans & Qi, "Feature squeezing", NDSS 2018, arXiv:1704.01155, section 3.2.1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from benchmark.api import EVERY_TASK, ConfigError, DataSpec, Defense, hookimpl

from ._transforms.behind import Behind, refuse_other_than_images
from ._transforms.windows import windows


@dataclass(frozen=True)
class MedianSmoothing(Defense):
    """Replace each pixel by the median of its window, per channel; the image is mirrored at its edges.

    size: side of the window; 1 changes nothing. With an even number of pixels the upper median is taken, and the window
    extends one pixel further up and left. The gradient is that of the selected pixel.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    neutral: ClassVar = {"size": 1}

    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"median_smoothing.size is {self.size}; expected a window of at least 1 pixel")

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images at least as large as the window."""
        refuse_other_than_images(spec, "defense.median_smoothing", self.size)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the filter before the model."""
        return Behind(model, partial(median, size=self.size))

    def smoother(self) -> tuple[Defense, ...]:
        """A window smaller by one pixel, down to 2x2."""
        return (replace(self, size=self.size - 1),) if self.size > 2 else ()


def median(x: Tensor, size: int) -> Tensor:
    """Value of rank size**2 // 2, counted from 0, in the window around each pixel, (B, C, H, W)."""
    return windows(x, size).kthvalue(size**2 // 2 + 1, dim=4).values


@hookimpl
def benchmark_component() -> type[MedianSmoothing]:
    """Register the plugin."""
    return MedianSmoothing
