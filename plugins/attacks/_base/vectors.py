"""What descents do with changes, each row by itself: lengths, steps, projections, proximal maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.api import Ball, Norm, rows_norm

__all__ = ["TINY", "adam", "annealed", "columns", "nearer", "softplus", "unit", "usable", "within"]

TINY = 1e-37
"""Less than any length that matters: what lengths are divided by instead, where they are 0."""


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


def unit(gradient: Tensor) -> Tensor:
    """(b, *S): each row divided by its l2 length, 0 where that is 0."""
    # In double precision no square of a single-precision number is lost.
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


def within(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The Euclidean projection of each row of `delta` (b, *S) onto the ball of its own `radius` (b,), may be infinite.

    Clipping the result into the box does not leave the ball. l0 keeps the largest changes, as many as `radius`.
    """
    if norm is Norm.linf:
        limit = columns(radius, delta)
        return delta.clamp(-limit, limit)
    if norm is Norm.l2:
        return delta * columns((radius / rows_norm(delta, Norm.l2).clamp_min(1e-30)).clamp_max(1.0), delta)
    size = delta.abs().flatten(1)
    order = size.sort(dim=1, descending=True).values
    if norm is Norm.l0:
        count = radius.clamp(0, size.shape[1]).long()
        least = order.gather(1, (count - 1).clamp_min(0)[:, None])
        kept = (size >= least) & (size > 0) & (count > 0)[:, None]
        kept &= kept.cumsum(1) <= count[:, None]  # of equal changes the first
        return delta * kept.reshape(delta.shape)
    # Duchi et al., ICML 2008, figure 1: the threshold from the sorted changes.
    places = torch.arange(1, size.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    excess = order.cumsum(1) - radius[:, None]
    last = (order * places > excess).sum(1, keepdim=True).clamp_min(1) - 1
    threshold = (excess.gather(1, last) / (last + 1)).clamp_min(0.0)
    return (delta.sign().flatten(1) * (size - threshold).clamp_min(0.0)).reshape(delta.shape)


def nearer(delta: Tensor, amount: Tensor, norm: Norm) -> Tensor:
    """The proximal map of `amount` (b,) times the norm: the change (b, *S) that is left of `delta` (b, *S).

    l1: each change shrinks by `amount`. l2: the length does. linf: what exceeds a limit is cut off, `amount` in all
    (Moreau: `delta` less its projection onto the dual ball).
    """
    if norm is Norm.l1:
        limit = columns(amount, delta)
        return delta - delta.clamp(-limit, limit)
    return delta - within(delta, amount, Norm.l1 if norm is Norm.linf else Norm.l2)


def softplus(values: Tensor) -> Tensor:
    """log(1 + exp(values)), any shape.

    torch's own rounds a value by its place in the batch, on CPU; so do its sigmoid and its atanh.
    """
    return values.clamp_min(0.0) + (-values.abs()).exp().log1p()
