"""Row-wise projections onto balls of a norm, and proximal maps of the norm."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Norm, rows_norm

from .vectors import columns

__all__ = ["nearer", "within"]


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
