"""Semantic segmentation: a label for every pixel. Long, Shelhamer & Darrell, CVPR 2015, arXiv:1411.4038."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.errors import ConfigError
from benchmark.tasks.task import DenseTask

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Segmentation"]

SHARE_ROUNDING = 1e-6
"""Rounding tolerance when a fraction of the pixels is converted to a number."""


@dataclass(frozen=True)
class Segmentation(DenseTask):
    """S = height * width pixels, row by row; pixels with the label -1 (void) do not count.

    share: an example counts as correct if at least this fraction of its counted pixels is.
    """

    name: ClassVar[str] = "segmentation"

    share: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(
                f"share is {self.share}; expected the fraction of correct pixels from which an example is correct, "
                "in (0, 1]"
            )

    def sites(self, shape: tuple[int, ...]) -> int:
        """Number of pixels of an image (C, H, W)."""
        return math.prod(shape[1:])

    def read(self, output: Tensor) -> Tensor:
        """Class of the highest score at each pixel, (B, S) int16."""
        return output.argmax(2).short()

    def needed(self, y: Tensor) -> Tensor:
        """Number of pixels that must be correct, (B,) int64."""
        return ((y >= 0).sum(1).double() * self.share - SHARE_ROUNDING).ceil().long()

    def right(self, reading: Tensor, y: Tensor) -> Tensor:
        """True at counted pixels that are correct, (B, S) bool."""
        return (reading == y) & (y >= 0)

    def wrong(self, reading: Tensor, y: Tensor) -> Tensor:
        """True if fewer pixels are correct than needed, (B,) bool."""
        return self.right(reading, y).sum(1) < self.needed(y)

    def score(self, reading: Tensor, y: Tensor) -> Tensor:
        """Pixel accuracy, (B,) float32."""
        counted = (y >= 0).sum(1)
        return (self.right(reading, y).sum(1) / counted.clamp_min(1)).where(counted > 0, 1.0).float()

    def aim(self, y: Tensor) -> tuple[Tensor, bool]:
        """Labels of all counted pixels, for an untargeted attack."""
        return y, False

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy over the counted pixels of the batch."""
        import torch.nn.functional as F

        return F.cross_entropy(output.flatten(0, 1), y.flatten(), ignore_index=-1)
