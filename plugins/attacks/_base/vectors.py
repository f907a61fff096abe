"""Row-wise vector operations: normalisation, annealing, Adam."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.api import Ball

__all__ = ["TINY", "adam", "annealed", "at_unit_slope", "columns", "softplus", "unit", "usable"]

TINY = 1e-37
"""Smallest divisor: a length of 0 is replaced by it."""


def columns(values: Tensor, like: Tensor) -> Tensor:
    """`values` (b,) or (b, n), reshaped to broadcast against `like` (b, *S) or (b, n, *S)."""
    return values.reshape(*values.shape, *([1] * (like.ndim - values.ndim)))


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 to `last` at the last of `steps`, along half a cosine (Loshchilov & Hutter, ICLR 2017)."""
    return last + (first - last) * (1.0 + math.cos(math.pi * step / max(steps - 1, 1))) / 2.0


def usable(gradient: Tensor, ball: Ball) -> Tensor:
    """`gradient` (b, *S) where it is finite and in the region, 0 elsewhere."""
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return gradient if ball.mask is None else torch.where(ball.mask, gradient, 0.0)


def at_unit_slope(slope: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Hyperplanes slope . delta = offset, (..., D) and (...), divided by a power of two near the largest slope."""
    scale = torch.ldexp(torch.ones_like(offset), slope.abs().amax(-1).frexp().exponent.clamp(-120, 120))
    return slope / scale[..., None], offset / scale


def unit(gradient: Tensor) -> Tensor:
    """Each row divided by its l2 length, 0 where that is 0, (b, *S); no square is lost, in double precision."""
    size = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64)
    return gradient / columns(size.to(gradient.dtype).clamp_min(TINY), gradient)


def adam(gradient: Tensor, first: Tensor, second: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's change for a unit step size, and its two moments (Kingma & Ba, ICLR 2015, arXiv:1412.6980, algorithm 1).

    gradient, first, second: (b, *S). step: 0 for the first change, one number or one per row, to broadcast.
    """
    first = torch.lerp(gradient, first, 0.9)
    second = torch.lerp(gradient.square(), second, 0.999)
    change = first / (1.0 - 0.9 ** (step + 1)) / ((second / (1.0 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    return change, first, second


def softplus(values: Tensor) -> Tensor:
    """log(1 + exp(values)), any shape.

    torch's own rounds a value by its place in the batch, on CPU; so do its sigmoid and its atanh.
    """
    return values.clamp_min(0.0) + (-values.abs()).exp().log1p()
