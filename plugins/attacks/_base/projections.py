"""Row-wise projections onto balls of a norm."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Norm, rows_norm

from .vectors import columns

__all__ = ["within"]


def within(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Euclidean projection of each row of `delta` (b, *S) onto the linf, l2 or l1 ball of its own `radius` (b,).

    The radius may be infinite. Clipping the result into the box does not leave the ball.
    """
    if norm is Norm.linf:
        limit = columns(radius, delta)
        return delta.clamp(-limit, limit)
    if norm is Norm.l2:
        return delta * columns((radius / rows_norm(delta, Norm.l2).clamp_min(1e-30)).clamp_max(1.0), delta)
    size = delta.abs().flatten(1)
    order = size.sort(dim=1, descending=True).values
    # Duchi et al., ICML 2008, figure 1: the threshold from the sorted changes.
    places = torch.arange(1, size.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    excess = order.cumsum(1) - radius[:, None]
    last = (order * places > excess).sum(1, keepdim=True).clamp_min(1) - 1
    threshold = (excess.gather(1, last) / (last + 1)).clamp_min(0.0)
    return (delta.sign().flatten(1) * (size - threshold).clamp_min(0.0)).reshape(delta.shape)
