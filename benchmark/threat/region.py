"""Masks of the features that a threat's region allows to change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.errors import DataError
from benchmark.sampling import SampleRandom
from benchmark.threat.kinds import Region, RegionKind
from benchmark.threat.mask import read_mask

__all__ = ["Masks", "region_mask"]


@dataclass(frozen=True)
class Masks:
    """Masks of some examples, looked up by the examples' ids.

    ids: (N,) int64, ascending. mask: (N, *S) bool, true where change is allowed.
    """

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor) -> Masks:
        """Masks (N, *S) of the examples `ids` (N,), in any order."""
        order = ids.argsort()
        return cls(ids[order], mask[order])

    def at(self, ids: Tensor) -> Tensor:
        """Masks of the examples `ids` (B,), which may repeat, (B, *S) bool.

        Raises:
            DataError: if an example is not among them.
        """
        place = torch.searchsorted(self.ids, ids).clamp_max(len(self.ids) - 1)
        missing = self.ids[place] != ids
        if bool(missing.any()):
            raise DataError(
                f"the region of example {int(ids[missing][0])} is not fixed; pass to `threat.around` the `rng` of the "
                "attack, or rows or children of it"
            )
        return self.mask[place]


def region_mask(region: Region, x: Tensor, rng: SampleRandom) -> Tensor | None:
    """True where change is allowed, (B or 1, *S) bool; None for everywhere.

    Raises:
        DataError: if the region does not fit the examples, or depends on a system (:func:`salient`).
    """
    shape = x.shape[1:]
    if region.kind is RegionKind.full:
        return None
    if region.kind is RegionKind.file:
        return _mask_from_file(region, x)
    if region.kind is RegionKind.saliency:
        raise DataError(
            "a saliency region depends on the system; fix it first, with benchmark.stages.settle.with_fixed_region"
        )
    if region.kind is RegionKind.random:
        order = rng.permutation(_pixels(shape), stream="region")
        return mask_of_pixels(order[:, : region.size], shape)
    if region.kind is RegionKind.stripes:
        rows = torch.arange(shape[-2] if len(shape) > 1 else shape[0], device=x.device)
        open_rows = rows // region.size % 2 == 0
        return (open_rows[:, None] if len(shape) > 1 else open_rows).expand(1, *shape)
    if len(shape) < 2:
        raise DataError(f"a {region.kind.value} region needs images, but an example has the shape {tuple(shape)}")
    height, width = shape[-2:]
    mask = torch.zeros(1, *shape, dtype=torch.bool, device=x.device)
    if region.kind in (RegionKind.art, RegionKind.graffiti):
        painted = _rectangles if region.kind is RegionKind.art else _words
        mask[...] = painted(height, width, region.size).to(x.device)
    elif region.kind is RegionKind.square:
        top, left = max(0, (height - region.size) // 2), max(0, (width - region.size) // 2)
        mask[..., top : top + region.size, left : left + region.size] = True
    else:
        mask[:] = True
        if 2 * region.size < min(height, width):
            mask[..., region.size : height - region.size, region.size : width - region.size] = False
    return mask


def _rectangles(height: int, width: int, size: int) -> Tensor:
    """Four rectangles of `size` rows and a third of the width, around a quarter and three quarters of the height."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    third, margin = width // 3, width // 9
    for middle in (height // 4, height - height // 4):
        top = max(0, middle - size // 2 - size % 2)
        mask[top : top + size, margin : margin + third] = True
        mask[top : top + size, width - margin - third : width - margin] = True
    return mask


WORDS = (
    "10000001110010001011111 10000010001010001010000 10000010001001010011110 10000010001001010010000 "
    "11111001110000100011111",
    "10001001110011111011111 10001010001000100010000 11111011111000100011110 10001010001000100010000 "
    "10001010001000100011111",
)
"""LOVE and HATE in rows of dots."""


def _words(height: int, width: int, size: int) -> Tensor:
    """The words around a quarter and three quarters of the height, in dots of `size` pixels.

    Raises:
        DataError: if they do not fit.
    """
    mask = torch.zeros(height, width, dtype=torch.bool)
    for middle, word in zip((height // 4, height - height // 4), WORDS, strict=True):
        dots = torch.tensor([[dot == "1" for dot in row] for row in word.split()])
        large = dots.repeat_interleave(size, 0).repeat_interleave(size, 1)
        tall, wide = large.shape
        if wide > width or 2 * tall > height:
            raise DataError(
                f"the words of a graffiti region have {2 * tall}x{wide} pixels with dots of {size}, and an image has "
                f"{height}x{width}; choose a smaller threat.region.size or larger images"
            )
        top, left = min(max(0, middle - tall // 2), height - tall), (width - wide) // 2
        mask[top : top + tall, left : left + wide] = large
    return mask


def _pixels(shape: torch.Size) -> int:
    """Number of pixels of an example; of features for tabular data."""
    return math.prod(shape[1:]) if len(shape) > 1 else shape[0]


def mask_of_pixels(chosen: Tensor, shape: torch.Size) -> Tensor:
    """Mask that is true at the pixels `chosen` (B, n), in every channel, (B, *S) bool."""
    count = len(chosen)
    flat = torch.zeros(count, _pixels(shape), dtype=torch.bool, device=chosen.device)
    flat.scatter_(1, chosen, True)
    if len(shape) == 1:
        return flat
    return flat.reshape(count, 1, *shape[1:]).expand(count, *shape)


def _mask_from_file(region: Region, x: Tensor) -> Tensor:
    shape = tuple(x.shape[1:])
    array = read_mask(Path(region.path))
    if array.shape not in (shape, shape[1:]):
        raise DataError(
            f"the mask in {region.path!r} has the shape {array.shape}; expected that of an example, {shape}"
        )
    return torch.from_numpy(array).to(x.device).expand(shape)[None]
