"""Largest radius at which a property holds, separately for each example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Norm, Threat

__all__ = ["proved_radius"]

RELATIVE, ABSOLUTE = 1e-5, 2e-6
"""Relative margin of the proved radius over the reported one, as systems round and the core tolerates 1e-6."""


def proved_radius(holds: Callable[[Tensor, Tensor], Tensor], right: Tensor, threat: Threat, halvings: int) -> Tensor:
    """Largest radius at which the proof succeeds, (B,) float32; 0 if there is none.

    The first attempt is at the threat's own radius; bisection continues between 0 and twice that.

    Args:
        holds: True for each of the rows at given positions (N,) that is proved at given radii (N,). right: (B,) bool,
        rows
            to try. threat: its norm and radius. halvings: bisections after the first attempt.
    """
    most = 1.0 if threat.norm is Norm.linf else torch.inf
    low = torch.zeros(len(right), dtype=torch.float64, device=right.device)
    high = torch.full_like(low, min(2.0 * threat.radius, most))
    attempt = torch.full_like(low, threat.radius)
    rows = right.nonzero().squeeze(1)
    for _ in range(halvings + 1):
        if not len(rows) or threat.radius == 0:
            break
        proved = holds(rows, attempt[rows] * (1.0 + RELATIVE) + ABSOLUTE)
        low[rows] = torch.where(proved, attempt[rows], low[rows])
        high[rows] = torch.where(proved, high[rows], attempt[rows])
        attempt = (low + high) / 2.0
    up = torch.nextafter(low.float(), torch.full_like(low.float(), torch.inf))
    return torch.where(low > 0, up, torch.zeros_like(up))  # rounded up: the threat's own radius counts as reached
