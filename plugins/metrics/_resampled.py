"""Bootstrap percentile intervals of statistics of all examples other than means.

Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import derive_seed

__all__ = ["RESAMPLES", "resampled", "resampled_weights"]

RESAMPLES = 200


def resampled_weights(count: int) -> Tensor:
    """Multiplicity of each of `count` examples in each resample, (RESAMPLES, count) float64, from a fixed seed."""
    draw = torch.Generator().manual_seed(derive_seed("resampled", count) % 2**63)
    at = torch.randint(0, count, (RESAMPLES, count), generator=draw)
    return torch.zeros(RESAMPLES, count, dtype=torch.float64).scatter_add_(1, at, torch.ones_like(at).double())


def resampled(counts: Tensor, value: Callable[[Tensor], float]) -> tuple[float, float]:
    """95 % interval of value(sum over examples), from counts (N, ...) per example."""
    totals = torch.tensordot(resampled_weights(len(counts)), counts, 1)
    return interval([value(total) for total in totals])


def interval(values: list[float]) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles."""
    low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)
