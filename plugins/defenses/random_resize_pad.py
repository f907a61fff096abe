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
    """Draw a size per example and pass, resize the image to it, and put it at a random place on a black canvas.

    smallest: least size as a share of the side, rounded, and below 1 at least one pixel less than the side; all whole
    sizes up to the side are equally likely, and 1 changes nothing. The default is the paper's 299 of 331 pixels.
    votes: draws whose majority is the answer.
    Differences from the paper: the canvas has the size of the input, so that it suits networks of a fixed input, and
    pixels are interpolated bilinearly, so that there are gradients.
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
        """Images of any size."""
        refuse_other_than_images(spec, "defense.random_resize_pad")

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind the random canvas."""
        return Behind(model, partial(_placed, smallest=self.smallest))


def _placed(x: Tensor, smallest: float) -> Tensor:
    """(B, C, H, W): each image at a size and a place of its own."""
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
    """(B, C, H, W): images of `x` at `size` (B, 2) with the upper left pixel at `corner` (B, 2), black around them."""
    height, width = x.shape[2:]
    rows = _source(height, size[:, 0], corner[:, 0], x)[:, :, None].expand(-1, -1, width)
    columns = _source(width, size[:, 1], corner[:, 1], x)[:, None].expand(-1, height, -1)
    return sampled(x, rows, columns, black=True)


def _source(side: int, size: Tensor, start: Tensor, like: Tensor) -> Tensor:
    """Source position of each pixel of the canvas, (B, side); beyond the image at least one pixel outside."""
    size, start = size.to(like.dtype)[:, None], start.to(like.dtype)[:, None]
    at = torch.arange(side, dtype=like.dtype, device=like.device) - start
    inside = ((at + 0.5) * (side / size) - 0.5).clamp(0.0, side - 1.0)
    return torch.where((at >= 0) & (at < size), inside, -2.0)


@hookimpl
def benchmark_component() -> type[RandomResizePad]:
    """Register the plugin."""
    return RandomResizePad
