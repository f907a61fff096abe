"""Scenes: several handwritten digits on a dark canvas, with the class of every pixel and a box per digit.

In the spirit of Multi-MNIST (Sabour, Frosst & Hinton, NeurIPS 2017, arXiv:1710.09829, section 6), from scikit-learn's
digits, without overlap. Training, selection and test scenes are of different digits: those of the `digits` splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import SampleRandom, derive_seed

__all__ = ["CLASS_NAMES", "COUNTS", "INK", "PAPER", "Drawn", "draw_scenes"]

COUNTS = {"train": 2000, "select": 200, "test": 300}
"""Number of scenes of each split."""

SIZES = (8, 9, 10)
"""Sides of a digit in pixels; 8 is that of the source."""

TRIES = 16
"""Places that are tried for a digit before it is left out."""

INK, PAPER = 0.5, 0.25
"""A pixel of a digit at least as bright as INK has its class; one between the two is void, and counts for nothing."""

CLASS_NAMES = ("background", *"0123456789")


@dataclass(frozen=True)
class Drawn:
    """Scenes x (N, 1, side, side) in [0, 1]; pixels (N, side, side) int64, -1 for void; and boxes of their digits.

    boxes: (N, most, 5) int64: class 1 to 10, then x0, y0, x1, y1 in pixels; zeros where there is no further digit.
    """

    x: Tensor
    pixels: Tensor
    boxes: Tensor


def draw_scenes(images: Tensor, labels: Tensor, *, split: str, side: int, most: int, seed: int) -> Drawn:
    """Draw COUNTS[split] scenes of 1 to `most` digits of `images` (M, 1, 8, 8) with `labels` (M,); the same by seed."""
    count = COUNTS[split]
    rng = SampleRandom(derive_seed("scenes", split, seed), torch.arange(count))
    source = rng.integers(len(images), most, stream="digit")
    size = rng.integers(len(SIZES), most, stream="size")
    wanted = 1 + rng.integers(most, 1, stream="number").squeeze(1)
    corner = rng.uniform(most, TRIES, 2, stream="corner")
    sized = [_resized(images, side_) for side_ in SIZES]
    x, pixels = torch.zeros(count, 1, side, side), torch.zeros(count, side, side, dtype=torch.int64)
    boxes = torch.zeros(count, most, 5, dtype=torch.int64)
    for scene in range(count):
        taken = torch.zeros(side, side, dtype=torch.bool)
        for number in range(int(wanted[scene])):
            kind, row = int(size[scene, number]), int(source[scene, number])
            found = _place(taken, SIZES[kind], corner[scene, number])
            if found is None:
                continue
            top, left = found
            label, digit = int(labels[row]) + 1, sized[kind][row, 0]
            there = slice(top, top + SIZES[kind]), slice(left, left + SIZES[kind])
            taken[there] = True
            x[scene, 0][there] = digit
            pixels[scene][there] = torch.where(digit >= INK, label, torch.where(digit >= PAPER, -1, 0))
            boxes[scene, number] = torch.tensor([label, left, top, left + SIZES[kind], top + SIZES[kind]])
    return Drawn(x, pixels, boxes)


def _resized(images: Tensor, side: int) -> Tensor:
    """Images (M, 1, side, side), bilinear, on the 16 grey levels of the source."""
    return (F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False) * 16.0).round() / 16.0


def _place(taken: Tensor, size: int, corners: Tensor) -> tuple[int, int] | None:
    """The first corner (row, column) of `corners` (TRIES, 2), uniform in [0, 1), at which nothing is `taken` yet."""
    room = len(taken) - size + 1
    for top, left in (corners * room).long().tolist():
        if not bool(taken[top : top + size, left : left + size].any()):
            return top, left
    return None
