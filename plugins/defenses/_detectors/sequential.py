"""Wald's sequential probability ratio test of a share. Wald, Annals of Mathematical Statistics 16, 1945.

Wang et al., "Adversarial sample detection for deep neural network through model mutation testing", ICSE 2019,
arXiv:1812.05793, section 4, use it to decide whether more mutants change the label than on normal inputs.
Difference from the released code: each mutant is counted first, and the test is repeated after every mutant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Hypotheses", "Tested", "sequential_test"]


@dataclass(frozen=True)
class Hypotheses:
    """Hypotheses: share at most `low` against share at least `high`, both with error probability `error`."""

    low: float
    high: float
    error: float

    @classmethod
    def around(cls, normal: float, *, factor: float, margin: float, error: float) -> Hypotheses:
        """Hypotheses factor * normal * (1 -+ margin), with factor 1.2 and margin 0.1 in the paper."""
        centre = factor * normal
        return cls(centre * (1.0 - margin), min(centre * (1.0 + margin), 1.0 - 1e-6), error)

    @property
    def bound(self) -> float:
        """Absolute log-likelihood ratio at which the test stops: log((1 - error) / error)."""
        return math.log((1.0 - self.error) / self.error)

    @property
    def changed(self) -> float:
        """Log-likelihood ratio of one changed label."""
        return math.log(self.high / self.low)

    @property
    def kept(self) -> float:
        """Log-likelihood ratio of one unchanged label, which is negative."""
        return math.log1p(-self.high) - math.log1p(-self.low)


@dataclass(frozen=True)
class Tested:
    """Outcome per example: label changes and mutants used, (B,) int64; final log-likelihood ratio, (B,) float64.

    decided: (B,) bool, whether the ratio reached a bound before the mutants were used up.
    """

    changes: Tensor
    used: Tensor
    ratio: Tensor
    decided: Tensor

    @property
    def share(self) -> Tensor:
        """Label changes per mutant used, (B,) float32."""
        return self.changes.float() / self.used.clamp_min(1)


def sequential_test(
    count: int,
    mutants: int,
    hypotheses: Hypotheses | None,
    changed: Callable[[int, Tensor], Tensor],
    device: torch.device,
) -> Tested:
    """Evaluate mutants one after another on the examples that are still undecided.

    Args:
        count: B.
        mutants: maximum number of mutants.
        hypotheses: None to use all mutants on every example.
        changed: from a mutant's number and (b,) int64 examples to (b,) bool, whether the label changes.
    """
    changes = torch.zeros(count, dtype=torch.int64, device=device)
    used, active = torch.zeros_like(changes), torch.arange(count, device=device)
    ratio = torch.zeros(count, dtype=torch.float64, device=device)
    for mutant in range(mutants):
        changes[active] += changed(mutant, active).long()
        used[active] += 1
        if hypotheses is None:
            continue
        ratio = changes * hypotheses.changed + (used - changes) * hypotheses.kept
        active = (ratio.abs() < hypotheses.bound).nonzero().squeeze(1)
        if len(active) == 0:
            break
    decided = torch.zeros_like(ratio, dtype=torch.bool) if hypotheses is None else ratio.abs() >= hypotheses.bound
    return Tested(changes, used, ratio, decided)
