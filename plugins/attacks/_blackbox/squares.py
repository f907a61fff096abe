"""Proposals of Square: place, size and content of the windows.

Andriushchenko et al., ECCV 2020, arXiv:1912.00049, algorithms 2 and 3. Inputs here are (b, C, H, W); what is no image
is a line of features, (b, 1, 1, D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Norm, SampleRandom

__all__ = ["Moves", "as_image", "change_linf", "change_mass", "first_linf", "first_mass", "moves", "worth_asking"]

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10000, after which the share of the features in a window is halved (section 4.1 of the paper)."""

Image = tuple[int, int, int]

_POWER = {Norm.l2: 2.0, Norm.l1: 1.0}


def as_image(shape: tuple[int, ...]) -> Image:
    """Shape of one example as an image (C, H, W): its own with three dimensions, else a line of all its features."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return 1, 1, int(torch.Size(shape).numel())


@dataclass(frozen=True)
class Moves:
    """Random draws of one proposal per row.

    side: (b,) the length of the window; top, left: (b,) its corner; top2, left2: (b,) that of the window which gives
    its change away under l2 and l1. sign: (b, C) -1 or 1. turned: (b,) bool.
    """

    side: Tensor
    top: Tensor
    left: Tensor
    top2: Tensor
    left2: Tensor
    sign: Tensor
    turned: Tensor

    def at(self, *index: Tensor) -> Moves:
        """Draws at `index` of the first dimension, or at several of as many dimensions."""
        return Moves(**{name: value[index] for name, value in vars(self).items()})


def moves(
    rng: SampleRandom, query: Tensor, limit: Tensor, shape: Image, *, p_init: float, norm: Norm, edges: bool
) -> Moves:
    """Draw for the queries `query` (b,) of `limit` (b,): a row's draw depends on its example and query alone."""
    channels, height, width = shape
    done = query * 10000 // limit
    halvings = (done[:, None] > torch.tensor(HALVED_AFTER, device=query.device)).sum(1)
    area = p_init * height * width / 2.0 ** halvings.double()
    line = height == 1
    side = (area if line else area.sqrt()).round().long().clamp_min(1)
    longest = width if line else min(height, width)
    if norm is not Norm.linf:  # the change in a window is an odd pyramid of at least three
        side = side.clamp_min(3)
        side = side + 1 - side % 2
    side = side.clamp_max(longest)
    drawn = rng.uniform(5 + channels, stream="square", draw=query)

    def corner(unit: Tensor, length: int) -> Tensor:
        # The authors' program never lets a window reach the last row and column.
        places = (length - side + (1 if edges or line else 0)).clamp_min(1)
        return (unit * places).long().clamp_max(places - 1)

    top, top2 = (torch.zeros_like(side) if line else corner(drawn[:, at], height) for at in (0, 2))
    left, left2 = (corner(drawn[:, at], width) for at in (1, 3))
    sign = torch.where(drawn[:, 5:] < 0.5, -1.0, 1.0)
    return Moves(side, top, left, top2, left2, sign, (drawn[:, 4] < 0.5) | line)


def _window(top: Tensor, left: Tensor, side: Tensor, shape: Image) -> Tensor:
    """The features in the window, (b, 1, H, W) bool."""
    i, j = torch.arange(shape[1], device=top.device), torch.arange(shape[2], device=top.device)
    rows = (i >= top[:, None]) & (i < (top + side)[:, None])
    cols = (j >= left[:, None]) & (j < (left + side)[:, None])
    return (rows[:, :, None] & cols[:, None, :])[:, None]


def first_linf(rng: SampleRandom, shape: Image) -> Tensor:
    """Vertical stripes of -1 and 1, one wide, (b, C, H, W)."""
    channels, height, width = shape
    signs = rng.signs(channels, 1, width, stream="square/start")
    return signs.expand(-1, -1, height, -1)


def change_linf(move: Moves, shape: Image) -> Tensor:
    """The sign of each channel inside the window, 0 outside, (b, C, H, W)."""
    return _window(move.top, move.left, move.side, shape) * move.sign[:, :, None, None]


def worth_asking(move: Moves, left: Tensor, rises: Tensor, falls: Tensor) -> Tensor:
    """True for the linf proposals (b, Q, ...) worth a query for one candidate per row, (b, Q) bool.

    Not those that change nothing, and of the same ones only the first.

    Args:
        left: (b, Q) bool, the proposals in question.
        rises, falls: (b, C, H, W) bool, the features of the candidate that can still become larger, or smaller.
    """
    channels, height, width = rises.shape[1:]
    free = torch.stack([falls, rises], 1).int().cumsum(3).cumsum(4)
    table = torch.nn.functional.pad(free, (1, 0, 1, 0)).flatten(1)  # sums over all rectangles from the first corner
    up = (move.sign > 0).long()
    first = (up * channels + torch.arange(channels, device=up.device)) * (height + 1) * (width + 1)
    side, top, start = (values[:, :, None] for values in (move.side, move.top, move.left))

    def total(i: Tensor, j: Tensor) -> Tensor:
        return table.gather(1, (first + i * (width + 1) + j).flatten(1))

    low, end = (top + side).clamp_max(height), start + side  # a window on a line is one high
    inside = total(low, end) - total(top, end) - total(low, start) + total(top, start)
    changes = left & (inside > 0).reshape(up.shape).any(2)
    if channels > 24:  # too many patterns of signs for one number; and no two proposals are the same
        return changes
    key = ((move.side * height + move.top) * width + move.left) * 2**channels
    key = (key + (up << torch.arange(channels, device=up.device)).sum(2)).masked_fill(~changes, -1)
    key, order = key.sort(dim=1, stable=True)
    new = torch.ones_like(changes)
    new[:, 1:] = key[:, 1:] != key[:, :-1]
    return changes & torch.empty_like(new).scatter_(1, order, new)


def _pyramid(i: Tensor, j: Tensor, height: Tensor, width: Tensor, power: float) -> Tensor:
    """Rings around the centre of a rectangle whose values fall off as sums of 1 / n^2, (b, H, W); 0 outside.

    The length of the values is 1: in l2 where `power` is 2, in l1 where it is 1, and then they fall off with 1 / n^4.

    i: (b, H), j: (b, W): coordinates in the rectangle. height, width: (b,).
    """
    inside = ((i >= 0) & (i < height[:, None]))[:, :, None] & ((j >= 0) & (j < width[:, None]))[:, None, :]
    ring = torch.maximum((i - height[:, None] // 2).abs()[:, :, None], (j - width[:, None] // 2).abs()[:, None, :])
    rings = torch.maximum(height, width) // 2 + 1
    terms = 1.0 / torch.arange(1, int(rings.max()) + 1, device=i.device, dtype=torch.float64).pow(4.0 / power)
    sums = torch.cat([terms.new_zeros(1), terms.cumsum(0)])
    value = sums[rings][:, None, None] - sums[ring.clamp_max(len(sums) - 1)]
    return _unit(torch.where(inside, value, 0.0), power)


def _unit(values: Tensor, power: float) -> Tensor:
    """(b, H, W) scaled to length 1, where it is not zero."""
    return values / values.abs().pow(power).sum((1, 2), keepdim=True).pow(1.0 / power).clamp_min(1e-12)


def _eta(top: Tensor, left: Tensor, side: Tensor, turned: Tensor, shape: Image, power: float) -> Tensor:
    """(b, 1, H, W): a positive and a negative pyramid side by side in the window, of length 1 (section 4.3)."""
    i = torch.arange(shape[1], device=top.device) - top[:, None]
    j = torch.arange(shape[2], device=top.device) - left[:, None]
    length = torch.where(turned & (shape[1] == 1), 1, side)  # a line has windows of height one
    half, rest = side // 2, side - side // 2
    high, high2 = torch.where(turned, length, half), torch.where(turned, length, rest)
    broad, broad2 = torch.where(turned, half, side), torch.where(turned, rest, side)
    down, across = torch.where(turned, 0, half)[:, None], torch.where(turned, half, 0)[:, None]
    upper, lower = _pyramid(i, j, high, broad, power), _pyramid(i - down, j - across, high2, broad2, power)
    return _unit(upper - lower, power)[:, None]


def first_mass(rng: SampleRandom, shape: Image, norm: Norm) -> Tensor:
    """A grid of windows, five to a side, each of length 1 with random signs per channel, (b, C, H, W)."""
    channels, height, width = shape
    side = max(1, (width if height == 1 else min(height, width)) // 5)
    down, across = (1 if height == 1 else height // side), width // side
    signs = rng.signs(down, across, channels, stream="square/start")
    turned = (rng.uniform(down, across, stream="square/turned") < 0.5) | (height == 1)
    full = torch.full((len(rng),), side, device=rng.ids.device)
    margins = (0 if height == 1 else (height - down * side) // 2), (width - across * side) // 2
    total = torch.zeros(len(rng), *shape, device=full.device, dtype=torch.float64)
    for row in range(down):
        for col in range(across):
            corner = full * row + margins[0], full * col + margins[1]
            window = _eta(*corner, full, turned[:, row, col], shape, _POWER[norm])
            total = total + window * signs[:, row, col, :, None, None]
    return total


def change_mass(move: Moves, delta: Tensor, norm: Norm, eps: float) -> Tensor:
    """(b, C, H, W): `delta` with the length of one window, and what is left of eps, moved into another window.

    Algorithm 3 for l2. Under l1 all lengths are sums instead of roots of sums of squares, and each channel gets what
    all of them should share, for the projection to cut: a change of few features, as in the authors' program.
    """
    shape = (delta.shape[1], delta.shape[2], delta.shape[3])
    here, there = (_window(*corner, move.side, shape) for corner in ((move.top, move.left), (move.top2, move.left2)))
    power = _POWER[norm]

    def mass(values: Tensor) -> Tensor:
        return values.abs().pow(power).sum((2, 3), keepdim=True)

    spare = (eps**power - mass(delta).sum(1, keepdim=True)).clamp_min(0.0) / shape[0]
    budget = spare + mass(delta * (here | there))
    if norm is Norm.l1:
        budget = budget * shape[0]
    inside = delta * here
    old = inside / mass(inside).pow(1.0 / power).clamp_min(1e-12)
    new = (
        _eta(move.top, move.left, move.side, move.turned, shape, power).to(delta.dtype) * move.sign[:, :, None, None]
        + old
    )
    new = new * (budget / mass(new).clamp_min(1e-12)).pow(1.0 / power)
    return torch.where(here, new, torch.where(there, 0.0, delta))
