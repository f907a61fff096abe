"""Negative images: each value replaced by its complement. Hosseini, Xiao, Jaiswal & Poovendran, arXiv:1703.06857.

Humans still recognise negatives; classifiers trained on one polarity often do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import Access, Attack, SampleRandom, Supports, Target, Threat, hookimpl


@dataclass(frozen=True)
class Negative(Attack):
    """Replaces x by 1 - x inside the region; the norm of the threat does not apply."""

    supports: ClassVar[Supports] = Supports(access=Access.labels, bounded=False)

    def forwards(self, threat: Threat) -> int:
        """No pass."""
        return 0

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Negatives, (B, *S); applying it twice restores the input. No pass through the system."""
        mask = threat.around(x, rng).mask
        return 1.0 - x if mask is None else (1.0 - x).where(mask, x)


@hookimpl
def benchmark_component() -> type[Negative]:
    """Register the plugin."""
    return Negative
