"""Scenes: several handwritten digits on a dark canvas, with the class of every pixel and a box per digit.

In the spirit of Multi-MNIST (Sabour, Frosst & Hinton, NeurIPS 2017, arXiv:1710.09829, section 6), from scikit-learn's
digits, without overlap. Training, selection and test scenes are of different digits: those of the `digits` splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmark.api import SampleRandom, derive_seed

__all__ = ["CLASS_NAMES", "COUNTS", "INK", "PAPER", "Drawn", "draw_scenes"]

COUNTS = {"train": 2000, "select": 200, "test": 300}
"""Number of scenes per split."""

SIZES = (8, 9, 10)
"""Sides of a digit in pixels; 8 is that of the source."""

TRIES = 16
"""Number of positions tried for a digit before it is left out."""

INK, PAPER = 0.5, 0.25
"""Brightness thresholds: a pixel of at least INK has the digit's class; one between the two is void."""

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
    """Draw COUNTS[split] scenes of 1 to `most` digits, with `images` (M, 1, 8, 8), `labels` (M,) and a fixed seed."""
    count = COUNTS[split]
    rng = SampleRandom(derive_seed("scenes", split, seed), torch.arange(count))
    source = rng.integers(len(images), most, stream="digit")
    size = rng.integers(len(SIZES), most, stream="size")
    wanted = 1 + rng.integers(most, 1, stream="number").squeeze(1)
    corner = rng.uniform(most, TRIES, 2, stream="corner")
    sized = [_resized(images, length)[:, 0].numpy() for length in SIZES]
    x, pixels = np.zeros((count, 1, side, side), np.float32), np.zeros((count, side, side), np.int64)
    boxes = np.zeros((count, most, 5), np.int64)
    named, places = labels.numpy() + 1, corner.numpy()
    for scene, (rows, kinds) in enumerate(zip(source.tolist(), size.tolist(), strict=True)):
        taken = np.zeros((side, side), bool)
        for number in range(int(wanted[scene])):
            length, row = SIZES[kinds[number]], rows[number]
            found = _place(taken, length, places[scene, number])
            if found is None:
                continue
            top, left = found
            digit = sized[kinds[number]][row]
            there = slice(top, top + length), slice(left, left + length)
            taken[there] = True
            x[scene, 0][there] = digit
            pixels[scene][there] = np.where(digit >= INK, named[row], np.where(digit >= PAPER, -1, 0))
            boxes[scene, number] = (named[row], left, top, left + length, top + length)
    return Drawn(torch.from_numpy(x), torch.from_numpy(pixels), torch.from_numpy(boxes))


def _resized(images: Tensor, side: int) -> Tensor:
    """Images (M, 1, side, side), bilinear, on the 16 grey levels of the source."""
    return (F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False) * 16.0).round() / 16.0


def _place(taken: NDArray[np.bool_], size: int, corners: NDArray[np.float32]) -> tuple[int, int] | None:
    """First corner (row, column) of `corners` (TRIES, 2), uniform in [0, 1), at which nothing is `taken`, or None."""
    room = len(taken) - size + 1
    for top, left in (corners * np.float32(room)).astype(np.int64).tolist():
        if not taken[top : top + size, left : left + size].any():
            return top, left
    return None
