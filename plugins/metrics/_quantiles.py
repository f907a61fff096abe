"""Quantiles of a sample with possible infinities, and their distribution-free intervals.

David and Nagaraja, Order Statistics, 3rd edition, 2003, section 7.1: the ranks of a quantile's interval are binomial.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["finite", "gathered", "quantile", "quantile_interval"]


def gathered(state: Tensor | list[Tensor]) -> Tensor:
    """Values of a `cat` state, (M,): a list in torchmetrics, or a tensor after processes have been merged."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0)


def quantile(ordered: Tensor, share: float) -> float | None:
    """Quantile of `ordered` (M,), ascending, linearly interpolated; None if M is 0.

    Infinite if the upper neighbour has a positive weight and is infinite.
    """
    if len(ordered) == 0:
        return None
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    low, part = float(ordered[below]), place - below
    if part == 0 or math.isinf(low):
        return low
    return low + part * (float(ordered[below + 1]) - low)


def quantile_interval(ordered: Tensor, share: float, level: float = 0.95) -> tuple[float | None, float | None]:
    """Two values of `ordered` (M,), ascending, that enclose the quantile with confidence `level`.

    None on a side that the sample is too small to bound.
    """
    if len(ordered) == 0:
        return None, None
    from scipy.special import bdtr  # scipy.stats takes a second to import

    below = torch.from_numpy(bdtr(range(len(ordered) + 1), len(ordered), share))  # distribution of the quantile's rank
    ends = torch.tensor([(1.0 - level) / 2.0, (1.0 + level) / 2.0], dtype=below.dtype)
    first, last = torch.searchsorted(
        below, ends
    ).tolist()  # ranks, counted from 1, of the lower bound and the one below
    last += 1
    low = float(ordered[first - 1]) if first >= 1 else None
    return low, float(ordered[last - 1]) if last <= len(ordered) else None


def finite(value: float | None) -> float | None:
    """The value, or None if it is infinite."""
    return value if value is not None and math.isfinite(value) else None
