"""Random resizing and padding. Xie, Wang, Zhang, Ren & Yuille, ICLR 2018, arXiv:1711.01991, section 3."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import ConfigError, DataSpec, Defense, hookimpl

from .._warp import sampled
from ._transforms.behind import Behind, refuse_other_than_images


@dataclass(frozen=True)
class RandomResizePad(Defense):
    """Draw a size per example and pass, resize the image to it, and place it at random on a black canvas.

    smallest: smallest size as a share of the side, rounded, and if below 1 at least one pixel less than the side; all
    integer sizes up to the side are equally likely, and 1 changes nothing. The default is the paper's 299 of 331
    pixels.
    votes: number of draws in the majority vote.
    Differences from the paper: the canvas has the size of the input, to suit networks of a fixed input size, and
    interpolation is bilinear, to be differentiable.
    """

    randomized = True
    neutral: ClassVar = {"smallest": 1.0}

    smallest: float = 299 / 331
    votes: int = 9

    def __post_init__(self) -> None:
        if not 0.0 < self.smallest <= 1.0 or self.votes < 1:
            raise ConfigError(
                f"random_resize_pad.smallest is {self.smallest} and random_resize_pad.votes is {self.votes}; expected "
                "a share of the side in (0, 1] and at least 1 vote"
            )

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.random_resize_pad")

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the random resizing before the model."""
        return Behind(model, partial(_placed, smallest=self.smallest))


def _placed(x: Tensor, smallest: float) -> Tensor:
    """Each image at its own size and position, (B, C, H, W)."""
    height, width = x.shape[2:]
    drawn = sampling.ambient().uniform(3, stream="random_resize_pad").to(x.device)
    most = min(height, width)
    least = most if smallest == 1.0 else max(1, min(most - 1, round(smallest * most)))
    short = least + (drawn[:, 0] * (most - least + 1)).floor()
    tall, broad = ((short * side / most).round().clamp_min(1.0) for side in (height, width))
    top = (drawn[:, 1] * (height - tall + 1)).floor()
    left = (drawn[:, 2] * (width - broad + 1)).floor()
    return resized(x, torch.stack([tall, broad], 1), torch.stack([top, left], 1))


def resized(x: Tensor, size: Tensor, corner: Tensor) -> Tensor:
    """Images of `x` at `size` (B, 2) with the upper left pixel at `corner` (B, 2) on black, (B, C, H, W)."""
    height, width = x.shape[2:]
    rows = _source(height, size[:, 0], corner[:, 0], x)[:, :, None].expand(-1, -1, width)
    columns = _source(width, size[:, 1], corner[:, 1], x)[:, None].expand(-1, height, -1)
    return sampled(x, rows, columns, black=True)


def _source(side: int, size: Tensor, start: Tensor, like: Tensor) -> Tensor:
    """Source position of each pixel of the canvas, (B, side); outside the image by at least one pixel on the border."""
    size, start = size.to(like.dtype)[:, None], start.to(like.dtype)[:, None]
    at = torch.arange(side, dtype=like.dtype, device=like.device) - start
    inside = ((at + 0.5) * (side / size) - 0.5).clamp(0.0, side - 1.0)
    return torch.where((at >= 0) & (at < size), inside, -2.0)


@hookimpl
def benchmark_component() -> type[RandomResizePad]:
    """Register the plugin."""
    return RandomResizePad
